"""How much and how long ago: numbers with a lower and an upper end, and windows in time."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

from airflow_provider_kubit_braze.core.criteria.written import Written
from airflow_provider_kubit_braze.core.durations import DurationField, duration_text, parse_duration
from airflow_provider_kubit_braze.core.part import show
from airflow_provider_kubit_braze.exceptions import CohortConfigError

_DAY = r"\d{4}-\d{2}-\d{2}"
_MOMENT = re.compile(rf"{_DAY}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}})?(?:Z|[+-]\d{{2}}:\d{{2}})?)?")
_LOOKS_LIKE_A_DAY = re.compile(r"\s*\d{4}-")
_A_DAY = "a day such as 2026-01-31, or a time in UTC such as 2026-01-31T13:00"


def parse_number(value: object) -> int | float:
    """Check a finite number.

    :param value: anything read from YAML or given in Python.
    :raises CohortConfigError: when it is anything else.
    """
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    raise CohortConfigError(f"{show(value)} is not a number", fix="write a number without quotes")


def parse_moment(value: object) -> datetime:
    """Read a moment; what has no zone is in UTC, and a day is its midnight.

    :param value: ``2026-01-31``, ``2026-01-31T13:00``, ``2026-01-31T13:00:00+02:00``, a date or a datetime.
    :raises CohortConfigError: when it is anything else, or no day of the calendar.
    """
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime.combine(value, time())
    elif isinstance(value, str) and _MOMENT.fullmatch(value.strip()):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise CohortConfigError(
                f"{show(value)} is on no calendar and no clock", fix=f"write {_A_DAY}"
            ) from None
    else:
        raise CohortConfigError(f"{show(value)} is no date", fix=f"write {_A_DAY}")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def moment_text(moment: datetime) -> str:
    """Return the shortest form that :func:`parse_moment` reads back.

    :param moment: in UTC.
    """
    if moment.time() == time():
        return moment.date().isoformat()
    return moment.replace(tzinfo=None).isoformat()


def _parse_before(value: object) -> datetime | timedelta:
    if isinstance(value, date) or (isinstance(value, str) and _LOOKS_LIKE_A_DAY.match(value)):
        return parse_moment(value)
    try:
        return parse_duration(value)
    except CohortConfigError:
        raise CohortConfigError(
            f"{show(value)} is neither a date nor a duration",
            fix=f"write {_A_DAY}, or how long ago, such as 30d",
        ) from None


def _check_count(value: int) -> int:
    if value < 0:
        raise CohortConfigError(f"{value} is below zero", fix="write 0 or more")
    return value


_IS_MOMENT: dict[str, Any] = {"type": "string", "pattern": f"^{_MOMENT.pattern}$"}
_IS_DURATION: dict[str, Any] = {"type": "string", "pattern": r"^[1-9]\d{0,4}\s*[mhd]$"}

NumberField = Annotated[int | float, PlainValidator(parse_number), WithJsonSchema({"type": "number"})]
"""A finite number as a field."""

CountField = Annotated[StrictInt, AfterValidator(_check_count), Field(json_schema_extra={"minimum": 0})]
"""A number of rows as a field."""

MomentField = Annotated[
    datetime, PlainValidator(parse_moment), PlainSerializer(moment_text), WithJsonSchema(_IS_MOMENT)
]
"""A day or a moment as a field."""

BeforeField = Annotated[
    datetime | timedelta,
    PlainValidator(_parse_before),
    PlainSerializer(lambda end: moment_text(end) if isinstance(end, datetime) else duration_text(end)),
    WithJsonSchema({"anyOf": [_IS_MOMENT, _IS_DURATION]}),
]
"""The end of a window as a field: a moment, or how long ago."""


class Window(Written):
    """When something happened. What lies in the future has not happened yet, and is in no window.

    :param within: in the time this long before now.
    :param since: at this moment or later.
    :param before: earlier than this moment, or longer ago than this.
    """

    within: DurationField | None = Field(
        default=None, description="In the last minutes, hours or days.", examples=["90d"]
    )
    since: MomentField | None = Field(
        default=None, description="On this day (UTC) or later.", examples=["2026-01-31"]
    )
    before: BeforeField | None = Field(
        default=None, description="Before this day (UTC), or longer ago than this.", examples=["30d"]
    )

    @model_validator(mode="after")
    def _the_window_has_an_inside(self) -> Window:
        within, since, before = self.within, self.since, self.before
        if isinstance(before, timedelta) and within is not None and within <= before:
            raise CohortConfigError(
                f"nothing is within the last {duration_text(within)} and longer ago than {duration_text(before)}",
                fix="write the longer time at within",
                field="before",
            )
        if isinstance(before, datetime) and since is not None and before <= since:
            raise CohortConfigError(
                f"nothing is since {moment_text(since)} and before {moment_text(before)}",
                fix="write the later day at before",
                field="before",
            )
        return self

    @property
    def has_window(self) -> bool:
        """Whether the time of what happened plays a part at all."""
        return not (self.within is None and self.since is None and self.before is None)


class Amount(Written):
    """How much: any of four limits, at most one to each side.

    :param over: more than this.
    :param at_least: this or more.
    :param under: less than this.
    :param at_most: this or less.
    """

    over: NumberField | None = Field(default=None, description="More than this.", examples=[100])
    at_least: NumberField | None = Field(default=None, description="This or more.")
    under: NumberField | None = Field(default=None, description="Less than this.")
    at_most: NumberField | None = Field(default=None, description="This or less.")

    @model_validator(mode="after")
    def _the_limits_have_an_inside(self) -> Amount:
        for one, other in (("over", "at_least"), ("under", "at_most")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise CohortConfigError(
                    f"{one} and {other} are both given", fix="keep one of them", field=one
                )
        low = self.over if self.at_least is None else self.at_least
        high = self.under if self.at_most is None else self.at_most
        if low is not None and high is not None:
            closed = self.at_least is not None and self.at_most is not None
            if low > high or (low == high and not closed):
                lower, upper = (
                    ("over", "at_least")[self.over is None],
                    ("under", "at_most")[self.under is None],
                )
                raise CohortConfigError(
                    f"nothing is {_words(lower)} {show(low)} and {_words(upper)} {show(high)}",
                    fix="write the smaller number as the lower limit",
                    field=upper,
                )
        return self

    @property
    def has_limit(self) -> bool:
        """Whether any of the four limits is given."""
        return any(limit is not None for limit in (self.over, self.at_least, self.under, self.at_most))

    def admits(self, value: float) -> bool:
        """Whether a value lies inside the limits."""
        return (
            (self.over is None or value > self.over)
            and (self.at_least is None or value >= self.at_least)
            and (self.under is None or value < self.under)
            and (self.at_most is None or value <= self.at_most)
        )


def _words(limit: str) -> str:
    return limit.replace("_", " ")
