"""Sets up, spoils and reads the local Braze from a test or a demo, over its ``/_sandbox/`` surface."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson
import requests

from airflow_provider_kubit_braze.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_USERS_PER_CALL: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What the local Braze has seen since its start or the last reset.

    :param requests: requests to Braze's endpoints, by path.
    :param statuses: answers by path and HTTP status.
    :param dropped: connections closed without an answer, by path.
    :param write_requests: requests that could have changed something: track, bulk, sync, partner cohorts.
    :param objects_accepted: objects of track bodies answered as accepted.
    :param objects_rejected: objects of track bodies named in ``errors``.
    :param attribute_writes: attributes in accepted objects, whether or not the user exists.
    :param attribute_writes_by_name: the same by attribute.
    :param data_points: writes to users who exist or were created, changed or not; also events and purchases.
    :param data_points_by_name: the same by attribute, event or product.
    :param unknown_users: accepted objects that met no user and created none.
    :param profiles_created: by requests.
    :param cohort_identifiers: identifiers in accepted partner cohort changes.
    :param cohort_unknown: of those, applied and met nobody.
    :param profiles: users in the workspace.
    :param pending: accepted objects not applied yet.
    :param connections_accepted: TCP connections, those of this client too.
    :param connections_open: of those, open now.
    :param most_in_flight: most Braze requests unanswered at one time.
    """

    requests: Mapping[str, int]
    statuses: Mapping[str, Mapping[int, int]]
    dropped: Mapping[str, int]
    write_requests: int
    objects_accepted: int
    objects_rejected: int
    attribute_writes: int
    attribute_writes_by_name: Mapping[str, int]
    data_points: int
    data_points_by_name: Mapping[str, int]
    unknown_users: int
    profiles_created: int
    cohort_identifiers: int
    cohort_unknown: int
    profiles: int
    pending: int
    connections_accepted: int
    connections_open: int
    most_in_flight: int


@dataclass(frozen=True, kw_only=True)
class RecordedRequest:
    """A request as it arrived, keys taken out.

    :param number: counts from 1 since the start or the last reset.
    :param at: epoch seconds of its arrival.
    :param method: HTTP method.
    :param path: without the query.
    :param headers: lower-case names; ``authorization`` is left out.
    :param status: answered; 0 for a dropped connection.
    :param body: as JSON, or None when it is none.
    :param text: the body when it is no JSON.
    """

    number: int
    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    status: int
    body: Any
    text: str | None


class BrazeControl:
    """A client of the control surface.

    :param url: of the local Braze, as its ready line says.
    :param verify: as for ``requests``: a CA bundle when the sandbox serves https.
    """

    def __init__(self, url: str, *, verify: bool | str = True) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = verify

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def health(self) -> bool:
        """Return True once it answers.

        :raises requests.ConnectionError: when nobody listens.
        """
        return bool(self._call("GET", "health")["status"] == "ok")

    def reset(self) -> None:
        """Forget users, cohorts, counters, faults and recorded requests, and go back to the settings of the
        start.
        """
        self._call("POST", "reset")

    def settings(self) -> dict[str, Any]:
        """Return the settings in force; the names are the fields of ``WorkspaceSettings``."""
        return dict(self._call("GET", "config"))

    def configure(self, **changes: Any) -> dict[str, Any]:
        """Change settings, such as ``profile="mau"``, and return all.

        :raises SandboxError: for an unknown name or an impossible value.
        """
        return dict(self._call("POST", "config", changes))

    def add_users(self, users: Iterable[str | Mapping[str, Any]]) -> int:
        """Make or change users outside Braze's rules, and return how many; a string is an external_id.

        A mapping may hold ``external_id``, ``braze_id``, ``email``, ``phone``, ``user_aliases``,
        ``device_ids`` and ``custom_attributes``.
        """
        described = ({"external_id": user} if isinstance(user, str) else user for user in users)
        return sum(self._call("POST", "users", chunk)["users"] for chunk in _chunks(described))

    def users(self, **identifier: str) -> list[dict[str, Any]]:
        """Return the users with ``external_id``, ``braze_id``, ``email``, ``phone`` or ``alias_name`` and
        ``alias_label``.

        Without an identifier: all users. What a user lacks is absent.
        """
        return list(self._call("GET", "users", params=identifier)["users"])

    def cohort(self, attribute: str, kind: str = "external_id", *, label: str | None = None) -> set[str]:
        """Return who has ``attribute`` true.

        :param kind: the identifier to return: external_id, braze_id, email, phone or alias.
        :param label: with ``alias``, only the names under this label.
        """
        return set(self._flags(attribute, kind, label)["true"])

    def left(self, attribute: str, kind: str = "external_id", *, label: str | None = None) -> set[str]:
        """Return who has ``attribute`` false; see ``cohort``."""
        return set(self._flags(attribute, kind, label)["false"])

    def members(
        self, cohort_id: str, *, partner: str = "kubit", kind: str = "external_id", label: str | None = None
    ) -> set[str]:
        """Return who is in a partner cohort.

        :raises SandboxError: when the partner has sent no such cohort.
        """
        query = _query(partner=partner, cohort_id=cohort_id, kind=kind, label=label)
        return set(self._call("GET", "partner_cohort", params=query)["members"])

    def partner_cohorts(self) -> list[dict[str, Any]]:
        """Return each partner cohort's partner, cohort_id, name (None while unnamed), created_at and size."""
        return list(self._call("GET", "partner_cohorts")["cohorts"])

    def triggered(self, kind: str = "external_id") -> list[dict[str, Any]]:
        """Return the campaigns and Canvases that were triggered or scheduled, oldest first.

        Each has ``kind``, ``message_id``, ``broadcast``, ``properties``, ``send_id``, ``schedule``, ``dispatch_id``,
        ``schedule_id``, ``at`` (epoch seconds), and ``selected``: whom its audience and recipients meant at that
        moment. A campaign's own segment, and who may be messaged at all, is not known here.

        :param kind: the identifier to name them by: external_id, braze_id, email, phone or alias.
        """
        return list(self._call("GET", "triggered", params={"kind": kind})["triggered"])

    def counters(self) -> Counters:
        """Return the counters."""
        answer = self._call("GET", "counters")
        statuses = {path: {int(k): n for k, n in found.items()} for path, found in answer["statuses"].items()}
        names = {item.name for item in fields(Counters)}
        return Counters(**{**{k: v for k, v in answer.items() if k in names}, "statuses": statuses})

    def requests(self, last: int = 200) -> list[RecordedRequest]:
        """Return the last requests to Braze's endpoints, oldest first."""
        found = self._call("GET", "requests", params={"last": str(last)})["requests"]
        return [RecordedRequest(**item) for item in found]

    def fault(self, kind: str, endpoint: str | None = None, **rule: Any) -> None:
        """Add a fault; see ``braze_faults.Fault`` for its fields.

        :raises SandboxError: for an unknown field or an impossible value.
        """
        self._call("POST", "faults", {"kind": kind, "endpoint": endpoint, **rule})

    def faults(self) -> list[dict[str, Any]]:
        """Return all faults with how often each was ``seen`` and has ``fired``."""
        return list(self._call("GET", "faults")["faults"])

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._call("DELETE", "faults")

    def settle(self) -> int:
        """Apply everything accepted so far, and return how many objects that were."""
        return int(self._call("POST", "settle")["applied"])

    def _flags(self, attribute: str, kind: str, label: str | None) -> dict[str, list[str]]:
        return dict(self._call("GET", "cohort", params=_query(attribute=attribute, kind=kind, label=label)))

    def _call(
        self, method: str, name: str, body: Any = None, *, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        response = self._session.request(
            method,
            f"{self.url}/_sandbox/{name}",
            data=None if body is None else orjson.dumps(body),
            params=params,
            timeout=60,
        )
        answer = orjson.loads(response.content)
        if not response.ok:
            raise SandboxError(f"{method} {name}: {answer['message']}")
        return dict(answer)


def _query(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _chunks(users: Iterator[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    while chunk := list(islice(users, _USERS_PER_CALL)):
        yield chunk
