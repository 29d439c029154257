"""The two ways a change travels to Braze: which endpoint, what is around the objects, and how the answer reads.

- ``/users/track`` (or ``/users/track/bulk``): one object for each user, the REST API key in the header.
- ``/partners/<partner>/cohorts/users``: lists of identifiers, both keys in the body and nowhere else (Braze docs,
  "Cohort import" for partners).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from airflow_provider_kubit_braze.core.payload import (
    BODY_BYTES,
    AttributeWriter,
    Wrapping,
    alias_label,
)
from airflow_provider_kubit_braze.core.response import Verdict, read_answer, read_cohort_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.place import Place

#: Identifiers in one request, over all kinds ("Only 1,000 `user_ids`, `device_ids`, and `aliases` are allowed").
COHORT_IDENTIFIERS: Final = 1000

#: The cohort endpoints take 250,000 requests an hour, which do not count against the workspace's limits.
_COHORT_REQUESTS: Final = 208
_COHORT_SECONDS: Final = 3.0
COHORT_PER_SECOND: Final = _COHORT_REQUESTS / _COHORT_SECONDS

#: Braze answers 423 while it works on a cohort, so only a few requests about one are under way at a time.
_COHORT_IN_FLIGHT: Final = 4


class Writer(Protocol):
    """Knows the JSON of each user in a request."""

    def wrapping(self, action: str, id_kind: str) -> Wrapping:
        """Return what is around each identifier."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What all requests of one kind have in common.

    :param path: of the endpoint.
    :param head: the body before the objects; may hold keys.
    :param tail: the body after them.
    :param bearer: whether the REST API key goes into the header.
    :param read: status, body and number of objects -> verdict.
    :param max_objects: most objects in one request.
    :param max_bytes: most bytes of objects in one request.
    :param max_requests: requests in ``per_seconds``.
    :param per_seconds: length of the rate window.
    :param reserve: share of the rate that is left to others.
    :param max_in_flight: most requests under way.
    """

    path: str
    head: bytes = field(repr=False)
    tail: bytes
    bearer: bool
    read: Callable[[int, bytes, int], Verdict] = field(repr=False)
    max_objects: int
    max_bytes: int
    max_requests: int
    per_seconds: float
    reserve: float
    max_in_flight: int

    def body(self, objects: bytes) -> bytes:
        """Return the body of one request.

        :param objects: the JSON of its users, with commas between them.
        """
        return self.head + objects + self.tail


def track_frame(settings: BrazeSettings) -> Frame:
    """Return the frame of ``/users/track`` as the connection says."""
    return Frame(
        path=settings.track_path,
        head=b'{"attributes":[',
        tail=b"]}",
        bearer=True,
        read=read_answer,
        max_objects=settings.max_objects_per_request,
        max_bytes=BODY_BYTES,
        max_requests=settings.max_requests,
        per_seconds=settings.per_seconds,
        reserve=settings.reserve,
        max_in_flight=settings.max_in_flight,
    )


def cohort_frame(
    settings: BrazeSettings, partner: str, cohort_id: str, id_kind: str, *, leave: bool
) -> Frame:
    """Return the frame of a partner cohort's entrants, or leavers, of one kind of identifier.

    :raises BrazeSettingsError: when the connection lacks a key.
    :raises ValueError: for a kind that Braze's cohort import does not take.
    """
    if id_kind not in ("external_id", "device_id") and alias_label(id_kind) is None:
        raise ValueError(f"A partner cohort takes no {id_kind}.")
    partner_api_key, client_secret = settings.partner_keys()
    about = orjson.dumps(
        {"partner_api_key": partner_api_key, "client_secret": client_secret, "cohort_id": cohort_id}
    )
    name = {"external_id": "user_ids", "device_id": "device_ids"}.get(id_kind, "aliases")
    return Frame(
        path=f"/partners/{partner}/cohorts/users",
        head=about[:-1] + b',"cohort_changes":[{"' + name.encode() + b'":[',
        tail=b'],"should_remove":true}]}' if leave else b"]}]}",
        bearer=False,
        read=read_cohort_answer,
        max_objects=COHORT_IDENTIFIERS,
        max_bytes=BODY_BYTES,
        max_requests=_COHORT_REQUESTS,
        per_seconds=_COHORT_SECONDS,
        reserve=0.0,
        max_in_flight=min(_COHORT_IN_FLIGHT, settings.max_in_flight),
    )


class IdentifierWriter:
    """Knows what stands in the lists of a partner cohort's change."""

    def wrapping(self, action: str, id_kind: str) -> Wrapping:
        """Return what is around each identifier; entrants and leavers differ in the frame only."""
        label = alias_label(id_kind)
        if label is None:
            return Wrapping(b"", b"")
        return Wrapping(b'{"alias_label":' + orjson.dumps(label) + b',"alias_name":', b"}")


def frame_of(
    place: Place, id_kind: str, *, leave: bool, cohort: Cohort, settings: BrazeSettings
) -> tuple[Frame, Writer]:
    """Return how changes of one direction, place and kind of identifier travel.

    :raises BrazeSettingsError: when the connection lacks a key for them.
    """
    braze = cohort.braze
    if place.kind == "partner_cohort":
        return cohort_frame(settings, place.name, cohort.id, id_kind, leave=leave), IdentifierWriter()
    writer = AttributeWriter(attribute=place.name, on_exit=braze.on_exit, create_users=braze.create_users)
    return track_frame(settings), writer
