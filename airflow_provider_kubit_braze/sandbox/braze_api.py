"""Braze's endpoints: a request in, Braze's answer out. No sockets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from airflow_provider_kubit_braze.sandbox import braze_cohorts
from airflow_provider_kubit_braze.sandbox.braze_campaigns import create_send_id, trigger
from airflow_provider_kubit_braze.sandbox.braze_exchange import Answer, Head, message
from airflow_provider_kubit_braze.sandbox.braze_export import export
from airflow_provider_kubit_braze.sandbox.braze_faults import spoil
from airflow_provider_kubit_braze.sandbox.braze_limits import EMPTY_HEADERS, rate_headers
from airflow_provider_kubit_braze.sandbox.braze_settings import (
    COHORTS,
    EXPORT_IDS,
    SCHEDULE_CAMPAIGN,
    SCHEDULE_CANVAS,
    SEND_CAMPAIGN,
    SEND_CANVAS,
    SEND_ID,
    TRACK,
    TRACK_BULK,
    TRACK_SYNC,
)
from airflow_provider_kubit_braze.sandbox.braze_state import Workspace
from airflow_provider_kubit_braze.sandbox.braze_users import BULK_PATH, MAX_BULK_BODY, sync, track

Endpoint = Callable[[Workspace, dict[str, Any], str], Answer]

PERMISSION_OF: Final[Mapping[str, str]] = {
    "/users/track": TRACK,
    BULK_PATH: TRACK_BULK,
    "/users/track/sync": TRACK_SYNC,
    "/users/export/ids": EXPORT_IDS,
    "/campaigns/trigger/send": SEND_CAMPAIGN,
    "/campaigns/trigger/schedule/create": SCHEDULE_CAMPAIGN,
    "/canvas/trigger/send": SEND_CANVAS,
    "/canvas/trigger/schedule/create": SCHEDULE_CANVAS,
    "/sends/id/create": SEND_ID,
}

_COHORT_PATH: Final = re.compile(r"/partners/([^/]+)/cohorts(/users)?")
_ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "/users/track": track,
    BULK_PATH: track,
    "/users/track/sync": sync,
    "/users/export/ids": export,
    "/campaigns/trigger/send": trigger,
    "/campaigns/trigger/schedule/create": trigger,
    "/canvas/trigger/send": trigger,
    "/canvas/trigger/schedule/create": trigger,
    "/sends/id/create": create_send_id,
}


class Api:
    """Answers requests for one workspace.

    :param workspace: whose endpoints these are.
    """

    def __init__(self, *, workspace: Workspace) -> None:
        self._workspace = workspace

    def answer(self, head: Head, body: bytes | None) -> Answer:
        """Answer one request, and count it.

        :param head: of the request.
        :param body: of the request, or None when it was too large to be read.
        """
        tally = self._workspace.tally
        tally.requests[head.path] += 1
        fault = self._workspace.faults.next(head.path) if self._workspace.faults else None
        if fault is None:
            answer = self._processed(head, body)
        else:
            answer = self._processed(head, body) if fault.applies else self._unprocessed(head)
            spoil(answer, fault)
        if answer.drop:
            tally.dropped[head.path] += 1
        else:
            tally.statuses[head.path][answer.status] += 1
        return answer

    def _unprocessed(self, head: Head) -> Answer:
        """Answer without looking at the request: only the rate limit notices it."""
        answer = message(201, "success")
        self._is_over_limit(answer, PERMISSION_OF.get(head.path, COHORTS), partner=_partner(head.path))
        return answer

    def _is_over_limit(self, answer: Answer, limit: str, *, partner: str = "") -> bool:
        """Count the request, put the headers on ``answer``, and return whether it is over the limit."""
        workspace = self._workspace
        now = workspace.clock()
        reading = workspace.limit(limit, partner=partner).take(now)
        answer.headers = rate_headers(reading, style=workspace.settings.rate_headers, now=now)
        return reading is not None and not reading.allowed

    def _processed(self, head: Head, body: bytes | None) -> Answer:
        endpoint = _ENDPOINTS.get(head.path)
        partner = _partner(head.path)
        if head.method != "POST" or (
            endpoint is None and partner not in self._workspace.settings.partner_api_keys
        ):
            return message(404, "Invalid URL")
        if endpoint is not None:
            denied = self._denied(head)
            if denied is not None:
                return denied
        limited = message(429, "Rate limited")
        if self._is_over_limit(limited, PERMISSION_OF.get(head.path, COHORTS), partner=partner):
            return limited
        answer = self._judged(head, body, endpoint, partner)
        answer.headers = limited.headers
        return answer

    def _denied(self, head: Head) -> Answer | None:
        """Return the answer to a caller without the key or the permission, or None."""
        keys = self._workspace.settings.keys
        scheme, _, key = (head.authorization or "").partition(" ")
        permissions = keys.get(key) if scheme == "Bearer" else None
        if permissions is not None:
            return None if PERMISSION_OF[head.path] in permissions else message(403, "Access Denied")
        # The recorded answer quotes the key that was sent, so whoever logs it must redact it.
        denied = message(401, f"Invalid API key: {key}" if scheme == "Bearer" else "Invalid API key")
        denied.headers = b"" if self._workspace.settings.rate_headers == "none" else EMPTY_HEADERS
        return denied

    def _judged(self, head: Head, body: bytes | None, endpoint: Endpoint | None, partner: str) -> Answer:
        if body is None:
            return message(413, "Request Entity Too Large")
        if head.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return message(415, "Unsupported Media Type")
        if head.path == BULK_PATH and len(body) > MAX_BULK_BODY:
            return message(400, "Payload must be at most 2 MB")
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError:
            return message(400, "Bad Request: the body is not valid JSON")
        if not isinstance(content, dict):
            return message(400, "Bad Request: the body must be a JSON object")
        if endpoint is not None:
            return endpoint(self._workspace, content, head.path)
        problem = braze_cohorts.authentication_problem(content, partner, self._workspace.settings)
        if problem is not None:
            return message(401, problem)
        return (
            self._members(content, partner)
            if head.path.endswith("/users")
            else self._cohort(content, partner)
        )

    # ------------------------------------------------------------------ partner cohorts

    def _cohort(self, body: dict[str, Any], partner: str) -> Answer:
        problem = braze_cohorts.naming_problem(body)
        if problem is not None:
            return message(400, problem)
        self._workspace.name_cohort(
            partner, body["cohort_id"], name=body["name"], created_at=body["created_at"]
        )
        return Answer(status=201)

    def _members(self, body: dict[str, Any], partner: str) -> Answer:
        changes, problem = braze_cohorts.read_changes(body)
        if problem is not None:
            return message(400, problem)
        size = braze_cohorts.identifiers(changes)
        self._workspace.change_cohort(partner, body["cohort_id"], changes, size=size)
        return Answer(status=201)


def _partner(path: str) -> str:
    """Return the partner named in a cohort path, or an empty string for any other path."""
    found = _COHORT_PATH.fullmatch(path) if path.startswith("/partners/") else None
    return found[1] if found else ""
