"""What Braze is asked for when a cohort is to get a campaign or a Canvas: the request, and what is refused before.

Braze finds the cohort by a connected-audience filter on the attribute that an import keeps true for its members. The
fields are those of Braze's pages of ``/campaigns/trigger/send``, ``/canvas/trigger/send`` and their
``.../trigger/schedule/create``, of "Connected audience object" and of "Schedule object".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_kubit_braze.core.braze_target import parse_attribute
from airflow_provider_kubit_braze.core.part import has_template, show
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

MessageKind = Literal["campaign", "canvas"]

CREATE_SEND_ID_PATH: Final = "/sends/id/create"

#: Recipients in one request (Braze's pages of both endpoints).
MAX_RECIPIENTS: Final = 50

#: "At most 64 characters", ASCII (Braze docs, "API identifier types").
MAX_SEND_ID: Final = 64

#: How far ahead a message may be scheduled (Braze's pages of both schedule endpoints).
FARTHEST: Final = timedelta(days=90)

#: Bytes of ``canvas_entry_properties`` (Braze's page of ``/canvas/trigger/send``), in the stricter reading of KB.
MAX_ENTRY_PROPERTIES: Final = 50_000

#: Years that a message can go out in; moments at the ends of the calendar have no neighbours to reckon with.
YEARS: Final = range(1970, 3000)

# The last place on earth where a local time passes.
_LAST_ZONE: Final = timedelta(hours=12)

PARTNER_COHORT: Final = (
    "Braze's API cannot reach a partner cohort, as its connected-audience filter knows custom attributes only"
)


@dataclass(frozen=True)
class _Fields:
    """How Braze calls things for one kind of message."""

    path: str
    id_field: str
    properties: str
    unit: str


_FIELDS: Final[Mapping[str, _Fields]] = {
    "campaign": _Fields("/campaigns", "campaign_id", "trigger_properties", "campaign"),
    "canvas": _Fields("/canvas", "canvas_id", "canvas_entry_properties", "Canvas"),
}


def in_words(kind: str) -> str:
    """Return how people call this kind of message."""
    return _FIELDS[kind].unit


def check_delivery(deliver_as: str, cohort_id: str) -> None:
    """Refuse a cohort that Braze's API cannot filter by.

    :raises CohortConfigError: for a partner cohort.
    """
    if deliver_as == "partner_cohort":
        raise CohortConfigError(
            PARTNER_COHORT,
            fix="deliver the cohort as an attribute, or put it on the campaign in Braze's dashboard",
            cohort=cohort_id,
            field="braze.deliver_as",
        )


@dataclass(frozen=True, kw_only=True)
class SendAt:
    """When a scheduled message goes out.

    :param time: with a time zone; without one for the two options, which take it as each user's own time.
    :param in_local_time: at that time where the user is.
    :param at_optimal_time: on that day, at the time Braze holds for best for the user.
    :raises CohortConfigError: when an option is no switch, a zone is missing, or given where Braze wants none, or the
        year is before 1970 or after 2999.
    """

    time: datetime
    in_local_time: bool = False
    at_optimal_time: bool = False

    def __post_init__(self) -> None:
        """Refuse what Braze would take for another moment than its author."""
        check_switches(in_local_time=self.in_local_time, at_optimal_time=self.at_optimal_time)
        if self.time.year not in YEARS:
            raise CohortConfigError(
                f"{show(str(self.time))} is no moment that a message can go out at",
                fix=f"name one within the next {FARTHEST.days} days",
                field="send_at",
            )
        if self._is_local and self.time.tzinfo is not None:
            raise CohortConfigError(
                f"{show(str(self.time))} has a time zone, and local or optimal time has none",
                fix="write it without, such as 2026-11-30T09:00:00",
                field="send_at",
            )
        if not self._is_local and self.time.tzinfo is None:
            raise CohortConfigError(
                f"{show(str(self.time))} has no time zone",
                fix="write it with one, such as 2026-11-30T09:00:00+01:00, or say in_local_time",
                field="send_at",
            )

    @classmethod
    def read(cls, time: object, *, in_local_time: bool = False, at_optimal_time: bool = False) -> SendAt:
        """Read a moment as an author or a template writes it.

        :param time: a datetime, or its ISO 8601 text.
        :raises CohortConfigError: when it is neither, or as for the class.
        """
        moment = time if isinstance(time, datetime) else None
        if isinstance(time, str):
            try:
                moment = datetime.fromisoformat(time.strip())
            except ValueError:
                moment = None
        if moment is None:
            raise CohortConfigError(
                f"{show(time)} is no moment", fix="write ISO 8601 with a zone", field="send_at"
            )
        return cls(time=moment, in_local_time=in_local_time, at_optimal_time=at_optimal_time)

    @property
    def _is_local(self) -> bool:
        return self.in_local_time or self.at_optimal_time

    @property
    def text(self) -> str:
        """The moment as Braze reads it."""
        time = self.time if self._is_local else self.time.astimezone(UTC)
        return time.isoformat(timespec="seconds")

    def check(self, now: datetime) -> None:
        """Refuse a moment that is over, or too far ahead.

        :param now: with a time zone.
        :raises CohortConfigError: when it is.
        """
        latest = self.time.replace(tzinfo=UTC) + _LAST_ZONE if self._is_local else self.time
        # "At optimal time" counts the day only.
        if latest + (timedelta(days=1) if self.at_optimal_time else timedelta(0)) <= now:
            raise CohortConfigError(
                f"{show(self.text)} is over", fix="name a moment to come", field="send_at"
            )
        if latest > now + FARTHEST:
            raise CohortConfigError(
                f"{show(self.text)} is more than {FARTHEST.days} days ahead",
                fix="name an earlier moment",
                field="send_at",
            )

    def body(self) -> dict[str, Any]:
        """Return Braze's ``schedule`` object."""
        options = {"in_local_time": self.in_local_time, "at_optimal_time": self.at_optimal_time}
        return {"time": self.text, **{name: True for name, given in options.items() if given}}


@dataclass(frozen=True, kw_only=True)
class CampaignRequest:
    """One campaign or Canvas to one cohort.

    Whom it goes to has to be said, for Braze takes a request without recipients for one to the whole segment that the
    campaign targets. Either way the audience filter is in the request: nobody outside the cohort gets the message.

    :param kind: ``campaign`` or ``canvas``.
    :param message_id: Braze's id of it, from its page in the dashboard.
    :param attribute: what is true for members of the cohort.
    :param broadcast: to every member who is in the campaign's own segment too.
    :param recipients: instead: up to 50 external ids, of whom those in the cohort get the message.
    :param properties: what the message's template may use.
    :param send_id: of a campaign: what the send is called in Braze's figures.
    :param send_at: later, instead of at once.
    :raises CohortConfigError: when it is not said to whom, or Braze would refuse a field.
    """

    kind: MessageKind
    message_id: str
    attribute: str
    broadcast: bool = False
    recipients: Sequence[str] = field(default=(), repr=False)
    properties: Mapping[str, Any] | None = None
    send_id: str | None = None
    send_at: SendAt | None = None

    def __post_init__(self) -> None:
        """Refuse what Braze would refuse, or would do to somebody it was not meant for."""
        parse_attribute(self.attribute)
        check_audience(broadcast=self.broadcast, recipients=self.recipients)
        _check_id(_FIELDS[self.kind].id_field, self.message_id)
        if self.send_id is not None:
            self._check_send_id(self.send_id)
        if self.properties is not None:
            self._check_properties(self.properties)

    def _check_send_id(self, send_id: str) -> None:
        if self.kind == "canvas":
            raise CohortConfigError(
                f"{show(send_id)} is given for a Canvas, which has none", fix="leave it out", field="send_id"
            )
        _check_id("send_id", send_id)
        if len(send_id) > MAX_SEND_ID or not send_id.isascii():
            raise CohortConfigError(
                f"{show(send_id)} is not ASCII, or longer than {MAX_SEND_ID} characters",
                fix="choose a shorter one",
                field="send_id",
            )

    def _check_properties(self, properties: Mapping[str, Any]) -> None:
        name = _FIELDS[self.kind].properties
        try:
            size = len(json.dumps(dict(properties), allow_nan=False, ensure_ascii=False).encode())
        except (TypeError, ValueError):
            raise CohortConfigError(
                "the properties are not a mapping of plain JSON values",
                fix="write text, numbers, true, false, lists and mappings",
                field=name,
            ) from None
        if self.kind == "canvas" and size > MAX_ENTRY_PROPERTIES:
            raise CohortConfigError(
                f"the properties take {size:,} bytes, over Braze's {MAX_ENTRY_PROPERTIES:,}",
                fix="send less",
                field=name,
            )

    @property
    def path(self) -> str:
        """Where the request goes."""
        return f"{_FIELDS[self.kind].path}/trigger/{'schedule/create' if self.send_at else 'send'}"

    def body(self) -> dict[str, Any]:
        """Return the request's body."""
        names = _FIELDS[self.kind]
        content: dict[str, Any] = {names.id_field: self.message_id, "audience": audience(self.attribute)}
        if self.recipients:
            content["recipients"] = [{"external_user_id": user} for user in self.recipients]
        content["broadcast"] = self.broadcast
        if self.properties is not None:
            content[names.properties] = dict(self.properties)
        if self.send_id is not None:
            content["send_id"] = self.send_id
        if self.send_at is not None:
            content["schedule"] = self.send_at.body()
        return content


def as_properties(kind: str, properties: object) -> Mapping[str, Any] | None:
    """Return the properties of a message, as an author, a template or another task gives them; None for none.

    :param kind: ``campaign`` or ``canvas``, which call them otherwise.
    :raises CohortConfigError: when they are no mapping.
    """
    if properties is None or isinstance(properties, Mapping):
        return properties
    raise CohortConfigError(
        f"{show(properties)} is given, and the properties are not a mapping",
        fix="write {name: value, ...}",
        field=_FIELDS[kind].properties,
    )


def audience(attribute: str) -> dict[str, Any]:
    """Return the connected audience of everybody for whom ``attribute`` is true."""
    member = {"custom_attribute_name": attribute, "comparison": "equals", "value": True}
    return {"AND": [{"custom_attribute": member}]}


def check_switches(**switches: object) -> None:
    """See that each of these is True or False: a text such as "false" would count as True.

    :raises CohortConfigError: for the first that is neither.
    """
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise CohortConfigError(
                f"{show(value)} is no switch", fix="write True or False, without quotes", field=name
            )


def check_audience(*, broadcast: object, recipients: object) -> None:
    """See that it is said to whom a message goes.

    :raises CohortConfigError: when neither or both are given, or the recipients are not external ids.
    """
    check_switches(broadcast=broadcast)
    users = () if recipients is None else recipients
    if isinstance(users, str | Mapping) or not isinstance(users, Collection):
        raise CohortConfigError(
            f"{type(users).__name__} is given, which is no list of external ids",
            fix="write a list of texts; another task cannot give it, as XCom would show whom it names",
            field="recipients",
        )
    if not all(isinstance(user, str) and user for user in users):
        raise CohortConfigError(
            "not all recipients are external ids", fix="write a list of texts", field="recipients"
        )
    if any(map(has_template, users)):
        # Braze would look for a user of that name, find none, and say that all is well.
        raise CohortConfigError(
            "one of the recipients is a template, which this field does not take",
            fix="write the external ids themselves; XCom and rendered fields would show whom they name",
            field="recipients",
        )
    if broadcast and users:
        raise CohortConfigError(
            "broadcast and recipients are both given, and Braze takes one of them",
            fix="keep broadcast for everybody in the cohort, or recipients for some of them",
            field="broadcast",
        )
    if not broadcast and not users:
        raise CohortConfigError(
            "it is not said to whom the message goes",
            fix="write broadcast=True for everybody in the cohort, or recipients=[...] for some of them",
            field="broadcast",
        )
    if len(users) > MAX_RECIPIENTS:
        raise CohortConfigError(
            f"{len(users)} recipients are more than Braze takes in one request ({MAX_RECIPIENTS})",
            fix="write fewer, or broadcast=True for everybody in the cohort",
            field="recipients",
        )


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str) or not value or any(c.isspace() for c in value):
        raise CohortConfigError(
            f"{show(value)} is no id", fix="copy it from the dashboard, without blanks", field=name
        )
