"""What is asked about an impact: whose, of which messages, in which days, by what kind of conversion, and how late."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from airflow_provider_kubit_braze.core.braze_target import parse_app_group_id, parse_share
from airflow_provider_kubit_braze.core.durations import DurationField, duration_text
from airflow_provider_kubit_braze.core.part import Part, one_or_all, show
from airflow_provider_kubit_braze.core.schedule import TIME_PATTERN, check_time, check_zone
from airflow_provider_kubit_braze.exceptions import CohortConfigError

#: The goal that is not a custom event.
PURCHASE: Final = "purchase"

#: Days that are measured unless ``since`` says otherwise, today among them.
DEFAULT_DAYS: Final = 90

#: Longest attribution window: the share's ordinary tables go back two years, and nobody credits a mail with more.
MAX_WINDOW: Final = timedelta(days=90)

_YEARS: Final = range(1971, 3000)

# As an author would write them: the fields read them, and the JSON Schema shows them.
_WINDOW: Any = "7d"
_WORTH: Any = 0.1

_MESSAGE_ID = r"[A-Za-z0-9_-]{1,100}"
_EVENT_MAX = 255


def _read_ids(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise CohortConfigError(f"{show(value)} is not a list", fix="write a list of API identifiers")
    wrong = [
        CohortConfigError(
            f"{show(one)} is not the API identifier of a campaign or Canvas",
            fix="copy it from Braze's page of the campaign or Canvas (API identifier), in quotes",
        )
        for one in value
        if not (isinstance(one, str) and re.fullmatch(_MESSAGE_ID, one))
    ]
    if wrong:
        raise one_or_all(wrong)
    return tuple(dict.fromkeys(value))


def _check_goal(value: str) -> str:
    if value.strip().lower() == PURCHASE and value != PURCHASE:
        raise CohortConfigError(f"{show(value)} is no goal", fix="write purchase")
    if not value.strip() or not value.isprintable() or len(value) > _EVENT_MAX:
        raise CohortConfigError(
            f"{show(value)} is no goal",
            fix="write purchase, or the name of a custom event of up to 255 characters",
        )
    return value


def _check_window(value: timedelta) -> timedelta:
    if value > MAX_WINDOW:
        raise CohortConfigError(
            f"an attribution window of {duration_text(value)} is too long", fix="write 90d or less"
        )
    return value


def _read_day(value: object) -> object:
    if value is None:
        return value
    if isinstance(value, date) and not isinstance(value, datetime):
        return _check_year(value)
    try:
        day = date.fromisoformat(str(value))
    except ValueError:
        raise CohortConfigError(f"{show(value)} is no day", fix="write a date such as 2026-01-31") from None
    return _check_year(day)


def _check_year(day: date) -> date:
    # The days before the first and after the last of the calendar cannot be reckoned with.
    if day.year not in _YEARS:
        raise CohortConfigError(
            f"{day} is not within the years {_YEARS[0]} to {_YEARS[-1]}",
            fix="write a date such as 2026-01-31",
        )
    return day


def _check_currency(value: str) -> str:
    if not re.fullmatch("[A-Z]{3}", value):
        raise CohortConfigError(f"{show(value)} is no currency", fix="write its ISO code, such as USD")
    return value


def _read_worth(value: object) -> float:
    text = str(value).strip()
    is_percent = text.endswith("%")
    try:
        share = float(text[:-1]) / 100 if is_percent else float(text)
    except ValueError:
        share = 0.0
    # A bare 10 may be meant as 10 %, and a bare 1 as 1 % or 100 %.
    if isinstance(value, bool) or not (0 < share <= 10 if is_percent else 0 < share < 1):
        raise CohortConfigError(
            f"{show(value)} is no lift", fix="write the least that would matter, such as 10%"
        )
    return share


_Ids = Annotated[
    tuple[str, ...],
    BeforeValidator(_read_ids),
    WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": f"^{_MESSAGE_ID}$"}}),
]
_Day = Annotated[date | None, BeforeValidator(_read_day)]


class ImpactQuestion(Part):
    """What is asked about the impact of messages on a cohort.

    :param source: the schema with Braze's data share, such as ``BRAZE_SHARE.PUBLIC``.
    :param app_group_id: the workspace's rows in the share; all others are somebody else's.
    :param campaigns: API identifiers; with ``canvases`` empty too: every campaign and Canvas that reached the cohort.
    :param canvases: API identifiers.
    :param goal: what counts as a conversion of both groups: ``purchase``, or the name of a custom event.
    :param window: how long after a message what somebody does is credited to it, up to 90 days.
    :param since: the first day; None: so that there are 90.
    :param until: the last day; None: today.
    :param timezone: IANA name of the zone whose days these are.
    :param currency: of revenue; None: the one that most of the cohort's purchases have.
    :param worth: the least lift that would matter; it decides how many users are enough.
    :raises CohortConfigError: when anything is wrong; it names the field, the value and the fix.
    """

    source: Annotated[str, AfterValidator(parse_share)] = Field(
        description="Snowflake schema of Braze's data share.", examples=["BRAZE_SHARE.PUBLIC"]
    )
    app_group_id: Annotated[str, AfterValidator(parse_app_group_id)] = Field(
        description="APP_GROUP_ID of the workspace in the share.", examples=["5f0c1e2d3b4a"]
    )
    campaigns: _Ids = Field(default=(), description="API identifiers of campaigns; default: all.")
    canvases: _Ids = Field(default=(), description="API identifiers of Canvases; default: all.")
    goal: Annotated[str, AfterValidator(_check_goal)] = Field(
        default=PURCHASE, description="purchase, or the name of a custom event.", examples=["purchase"]
    )
    window: Annotated[DurationField, AfterValidator(_check_window)] = Field(
        default=_WINDOW, description="How long after a message what users do is credited to it."
    )
    since: _Day = Field(default=None, description="First day; default: 90 days with today.")
    until: _Day = Field(default=None, description="Last day; default: today.")
    timezone: Annotated[str, AfterValidator(check_zone)] = Field(
        default="UTC", description="IANA time zone of the days.", examples=["America/New_York"]
    )
    currency: (
        Annotated[
            str, AfterValidator(_check_currency), WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"})
        ]
        | None
    ) = Field(default=None, description="Currency of revenue; default: the most frequent one.")
    worth: Annotated[float, BeforeValidator(_read_worth), WithJsonSchema({"type": ["number", "string"]})] = (
        Field(default=_WORTH, description="The least lift that would matter, such as 10%.")
    )

    @model_validator(mode="after")
    def _the_days_are_in_order(self) -> Self:
        if self.since and self.until and self.since > self.until:
            raise CohortConfigError(
                f"the first day, {self.since}, is after the last, {self.until}",
                fix="write the earlier day as since",
                field="since",
            )
        return self

    @property
    def measure(self) -> str:
        """What is measured, in words; rows of different measures are kept apart by it."""
        what = PURCHASE if self.goal == PURCHASE else f"event {self.goal}"
        zone = "" if self.timezone == "UTC" else f", days of {self.timezone}"
        return f"{what} within {duration_text(self.window)}{zone}"

    @property
    def messages(self) -> str:
        """Which messages are asked about, in words; summaries of others are kept apart by it."""
        return ", ".join(sorted({f"{kind} {one}" for kind, one in self.named})) or "all"

    @property
    def goal_figure(self) -> str:
        """What rows that tell the goal are called: ``purchase`` or ``event``."""
        return PURCHASE if self.goal == PURCHASE else "event"

    @property
    def window_seconds(self) -> int:
        """The attribution window in seconds."""
        return int(self.window.total_seconds())

    @property
    def days_after(self) -> timedelta:
        """How many days after a message what follows it may lie: one more than the window has, for days of 23 hours."""
        return (math.ceil(self.window / timedelta(days=1)) + 1) * timedelta(days=1)

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose days are meant."""
        return ZoneInfo(self.timezone)

    def days(self, now: datetime) -> tuple[date, date]:
        """Return the first and the last day that are asked about.

        :param now: an aware moment; no day after it has anything to measure.
        """
        today = now.astimezone(self.zone).date()
        last = min(self.until or today, today)
        return self.since or last - timedelta(days=DEFAULT_DAYS - 1), last

    def begun_days(self, now: datetime) -> tuple[date, date]:
        """Return the same, of which there has to be one.

        :param now: an aware moment.
        :raises CohortConfigError: when the first one is still to come.
        """
        first, last = self.days(now)
        if first > last:
            raise CohortConfigError(
                f"the first day, {first}, is still to come", fix="write a day that has begun", field="since"
            )
        return first, last

    def starts(self, day: date) -> int:
        """Return when a day begins, in epoch seconds."""
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp())

    @property
    def named(self) -> list[tuple[str, str]]:
        """Kind and API identifier of the messages that are named; empty: all are asked about."""
        return [("campaign", one) for one in self.campaigns] + [("canvas", one) for one in self.canvases]


def _may_take_defaults(schema: dict[str, Any]) -> None:
    # The share and the app group may stand under the cohort's braze.
    schema.pop("required", None)


class CohortImpact(ImpactQuestion):
    """The key ``impact`` of a cohort file: the question, and when it is asked each day.

    :param at: time of day as ``HH:MM``, in ``timezone``.
    """

    model_config = ConfigDict(json_schema_extra=_may_take_defaults)

    at: Annotated[
        str, AfterValidator(check_time), WithJsonSchema({"type": "string", "pattern": f"^({TIME_PATTERN})$"})
    ] = Field(default="07:00", description="Time of day of the measurement, HH:MM.")


def with_defaults(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take from the rest of a cohort what its ``impact`` does not say: share, app group and time zone.

    :param data: a cohort as it was written; ``impact: true`` asks for all defaults, ``false`` for no measurement.
    """
    impact = data.get("impact")
    if isinstance(impact, str):
        raise CohortConfigError(
            f"{show(impact)} does not say how to measure",
            fix="write true, or keys such as {window: 7d}, or remove the key",
            field="impact",
        )
    if impact is False:
        return {**data, "impact": None}
    is_short = impact is True
    impact = {} if is_short else impact
    if not isinstance(impact, Mapping):
        return data
    defaults = {
        "source": _written(data, "braze", "share"),
        "app_group_id": _written(data, "braze", "app_group_id"),
        "timezone": _written(data, "schedule", "timezone"),
    }
    if is_short and None in (defaults["source"], defaults["app_group_id"]):
        raise CohortConfigError(
            "true takes the share from braze.share and braze.app_group_id, which this cohort does not have",
            fix="write those, or impact: {source: BRAZE_SHARE.PUBLIC, app_group_id: ...}",
            field="impact",
        )
    taken = {key: value for key, value in defaults.items() if value is not None and key not in impact}
    return {**data, "impact": {**taken, **impact}}


def _written(data: Mapping[str, Any], part: str, key: str) -> Any:
    found = data.get(part)
    return found.get(key) if isinstance(found, Mapping) else getattr(found, key, None)


def _take_a_boolean(schema: dict[str, Any]) -> None:
    # And no null, which in a file is a key left blank.
    schema["anyOf"] = [*(one for one in schema["anyOf"] if one != {"type": "null"}), {"type": "boolean"}]


ImpactField = Annotated[CohortImpact | None, Field(json_schema_extra=_take_a_boolean)]
"""A :class:`CohortImpact` as a field of a cohort; ``true`` and ``false`` are taken too, see ``with_defaults``."""
