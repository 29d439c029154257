"""The control surface of the local Braze, ``/_sandbox/...``: what a test sets up, spoils and reads. Not
Braze's API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from airflow_provider_kubit_braze.sandbox.braze_exchange import Answer, Head, json_answer, message
from airflow_provider_kubit_braze.sandbox.braze_faults import FaultError, fault_from_json
from airflow_provider_kubit_braze.sandbox.braze_recorder import Recorder
from airflow_provider_kubit_braze.sandbox.braze_settings import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_kubit_braze.sandbox.braze_profiles import Profile
    from airflow_provider_kubit_braze.sandbox.braze_state import Workspace

WRITE_PATHS: Final = ("/users/track", "/users/track/bulk", "/users/track/sync")
_IDENTIFIERS: Final = ("external_id", "braze_id", "email", "phone")


class SandboxRoutes:
    """Answers the control surface.

    :param workspace: what it looks into.
    :param connections: tells about the server's connections, for the counters.
    """

    def __init__(self, *, workspace: Workspace, connections: Callable[[], Mapping[str, int]] = dict) -> None:
        self._workspace = workspace
        self._connections = connections
        self.recorder = Recorder(size=workspace.settings.recorded_requests)
        self._routes: Mapping[tuple[str, str], Callable[[Mapping[str, str], Any], Answer]] = {
            ("GET", "health"): lambda _query, _body: json_answer(200, {"service": "braze", "status": "ok"}),
            ("GET", "config"): lambda _query, _body: json_answer(200, workspace.settings.as_json()),
            ("POST", "config"): self._configure,
            ("POST", "reset"): self._reset,
            ("POST", "settle"): self._settle,
            ("POST", "users"): self._put_users,
            ("GET", "users"): self._users,
            ("GET", "cohort"): self._cohort,
            ("GET", "partner_cohorts"): self._partner_cohorts,
            ("GET", "partner_cohort"): self._partner_cohort,
            ("GET", "triggered"): self._triggered,
            ("GET", "counters"): self._counters,
            ("GET", "requests"): self._requests,
            ("GET", "faults"): self._faults,
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._clear_faults,
        }

    def answer(self, head: Head, body: bytes | None) -> Answer:
        """Answer one request; a mistake in it is a 400 that says so."""
        route = self._routes.get((head.method, head.path.removeprefix("/_sandbox/")))
        if route is None:
            return message(404, f"the sandbox has no {head.method} {head.path}")
        if body is None:
            return message(413, "Request Entity Too Large")
        self._workspace.apply_due()
        try:
            return route(head.query, orjson.loads(body) if body else {})
        except orjson.JSONDecodeError as error:
            return message(400, f"the body is not valid JSON: {error}")
        except (SettingError, FaultError, _RequestError) as error:
            return message(400, str(error))

    def _configure(self, _query: Mapping[str, str], body: Any) -> Answer:
        self._workspace.configure(_object(body))
        self.recorder.resize(self._workspace.settings.recorded_requests)
        return json_answer(200, self._workspace.settings.as_json())

    def _reset(self, _query: Mapping[str, str], _body: Any) -> Answer:
        self._workspace.reset()
        self.recorder = Recorder(size=self._workspace.settings.recorded_requests)
        return message(200, "reset")

    def _settle(self, _query: Mapping[str, str], _body: Any) -> Answer:
        applied = self._workspace.pending
        self._workspace.settle()
        return json_answer(200, {"message": "settled", "applied": applied})

    def _put_users(self, _query: Mapping[str, str], body: Any) -> Answer:
        if not isinstance(body, list) or not all(isinstance(user, dict) for user in body):
            raise _RequestError("the body must be a list of user objects")
        try:
            count = self._workspace.put_users(body)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _RequestError(f"a user is not described as expected: {error!r}") from error
        return json_answer(201, {"message": "success", "users": count})

    def _users(self, query: Mapping[str, str], _body: Any) -> Answer:
        directory = self._workspace.directory
        unknown = sorted(query.keys() - {*_IDENTIFIERS, "alias_name", "alias_label"})
        if unknown:
            raise _RequestError(f"unknown in the query: {', '.join(unknown)}")
        profiles: Iterable[Profile | None] = directory
        if "alias_name" in query:
            profiles = [directory.find("user_alias", (query.get("alias_label", ""), query["alias_name"]))]
        elif "external_id" in query:
            profiles = [directory.find("external_id", query["external_id"])]
        elif "braze_id" in query:
            profiles = [directory.find("braze_id", query["braze_id"])]
        elif "email" in query:
            profiles = directory.all_with("email", query["email"])
        elif "phone" in query:
            profiles = directory.all_with("phone", query["phone"])
        return json_answer(200, {"users": [profile.as_json() for profile in profiles if profile is not None]})

    def _cohort(self, query: Mapping[str, str], _body: Any) -> Answer:
        attribute = _needed(query, "attribute")
        members: dict[str, list[str]] = {"true": [], "false": []}
        for profile in self._workspace.directory:
            value = profile.custom.get(attribute)
            if isinstance(value, bool):
                members["true" if value else "false"] += _names(profile, query)
        return json_answer(200, members)

    def _partner_cohorts(self, _query: Mapping[str, str], _body: Any) -> Answer:
        cohorts = [
            {"partner": p, "cohort_id": i, "name": c.name, "created_at": c.created_at, "size": len(c.members)}
            for (p, i), c in self._workspace.cohorts.items()
        ]
        return json_answer(200, {"cohorts": cohorts})

    def _partner_cohort(self, query: Mapping[str, str], _body: Any) -> Answer:
        cohort = self._workspace.cohorts.get((_needed(query, "partner"), _needed(query, "cohort_id")))
        if cohort is None:
            return message(404, f"partner {query['partner']} has sent no cohort {query['cohort_id']}")
        at = self._workspace.directory.at
        members = [name for number in sorted(cohort.members) for name in _names(at(number), query)]
        return json_answer(200, {"name": cohort.name, "created_at": cohort.created_at, "members": members})

    def _triggered(self, query: Mapping[str, str], _body: Any) -> Answer:
        at = self._workspace.directory.at
        found = [
            {
                **one.as_json(),
                "selected": [name for number in one.selected for name in _names(at(number), query)],
            }
            for one in self._workspace.triggered
        ]
        return json_answer(200, {"triggered": found})

    def _counters(self, _query: Mapping[str, str], _body: Any) -> Answer:
        workspace, tally = self._workspace, self._workspace.tally
        writes = sum(
            count
            for path, count in tally.requests.items()
            if path in WRITE_PATHS or path.startswith("/partners/")
        )
        counters = {
            "requests": tally.requests,
            "statuses": {
                path: {str(k): n for k, n in found.items()} for path, found in tally.statuses.items()
            },
            "dropped": tally.dropped,
            "write_requests": writes,
            "objects_accepted": tally.objects_accepted,
            "objects_rejected": tally.objects_rejected,
            "attribute_writes": tally.attribute_writes.total(),
            "attribute_writes_by_name": tally.attribute_writes,
            "data_points": tally.data_points.total(),
            "data_points_by_name": tally.data_points,
            "unknown_users": tally.unknown_users,
            "profiles_created": tally.profiles_created,
            "cohort_identifiers": tally.cohort_identifiers,
            "cohort_unknown": tally.cohort_unknown,
            "profiles": len(workspace.directory),
            "pending": workspace.pending,
            **self._connections(),
        }
        return json_answer(200, counters)

    def _requests(self, query: Mapping[str, str], _body: Any) -> Answer:
        last = query.get("last", "200")
        if not last.isdigit():
            raise _RequestError(f"last must be a whole number, not {last!r}")
        return json_answer(200, {"requests": self.recorder.last(int(last))})

    def _faults(self, _query: Mapping[str, str], _body: Any) -> Answer:
        return json_answer(200, {"faults": [rule.as_json() for rule in self._workspace.faults.rules]})

    def _add_faults(self, _query: Mapping[str, str], body: Any) -> Answer:
        rules = [fault_from_json(_object(rule)) for rule in (body if isinstance(body, list) else [body])]
        self._workspace.faults.add(rules)
        return json_answer(201, {"faults": [rule.as_json() for rule in self._workspace.faults.rules]})

    def _clear_faults(self, _query: Mapping[str, str], _body: Any) -> Answer:
        self._workspace.faults.clear()
        return message(200, "cleared")


class _RequestError(ValueError):
    """A request to the control surface is not understood."""


def _object(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise _RequestError("the body must be a JSON object")
    return body


def _needed(query: Mapping[str, str], name: str) -> str:
    if not query.get(name):
        raise _RequestError(f"the query needs {name}")
    return query[name]


def _names(profile: Profile, query: Mapping[str, str]) -> list[str]:
    """Return the identifiers of ``kind`` that the profile has; of aliases those under ``label``, or all."""
    kind = query.get("kind", "external_id")
    if kind == "alias":
        return [name for label, name in (profile.aliases or {}).items() if query.get("label", label) == label]
    if kind not in _IDENTIFIERS:
        raise _RequestError(f"kind must be one of {', '.join((*_IDENTIFIERS, 'alias'))}, not {kind!r}")
    value = getattr(profile, kind)
    return [] if value is None else [value]
