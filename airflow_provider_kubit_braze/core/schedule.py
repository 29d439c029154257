"""When a cohort is imported: once, daily, weekly or monthly, at a time of day in a time zone."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

from airflow_provider_kubit_braze.core.part import Part, nearest, one_or_all, show
from airflow_provider_kubit_braze.exceptions import CohortConfigError

Mode = Literal["once", "daily", "weekly", "monthly"]

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

LAST_COMMON_DAY = 28
"""The last day of the month that every month has."""

#: A time of day, HH:MM on the 24-hour clock.
TIME_PATTERN = r"([01]\d|2[0-3]):[0-5]\d"

_TIME = re.compile(TIME_PATTERN)
_ON_SCHEMA = {
    "anyOf": [
        {"enum": ["last", *WEEKDAYS]},
        {"type": "string", "pattern": "^[A-Za-z]{3,9}$"},
        {"type": "integer", "minimum": 1, "maximum": LAST_COMMON_DAY},
    ]
}


def check_time(value: str) -> str:
    """Return a time of day as written.

    :raises CohortConfigError: when it is not HH:MM on the 24-hour clock.
    """
    if _TIME.fullmatch(value):
        return value
    hour, colon, minute = value.partition(":")
    if colon and hour.isdecimal() and minute.isdecimal() and len(minute) == 2 and int(minute) < 60:
        if int(hour) == 24:
            raise CohortConfigError(f"{value!r} is no time of day", fix='write "00:00" for midnight')
        if int(hour) < 24:
            raise CohortConfigError(
                f"{value!r} is not of the form HH:MM", fix=f'write "{int(hour):02}:{minute}"'
            )
    raise CohortConfigError(
        f"{value!r} is no time of day", fix='write hours and minutes on the 24-hour clock, such as "09:00"'
    )


def check_zone(value: str) -> str:
    """Return the IANA name of a time zone as written.

    :raises CohortConfigError: when there is no such zone.
    """
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        guess = _nearest_zone(value)
        fix = (
            f"write {guess}" if guess else "write an IANA name such as Europe/Berlin, America/New_York or UTC"
        )
        raise CohortConfigError(f"{value!r} is no known time zone", fix=fix) from None
    return value


def _nearest_zone(value: str) -> str | None:
    """Guess the zone from a misspelt name or from a city alone."""
    zones = sorted(available_timezones())
    wanted = value.strip().replace(" ", "_").lower()
    for zone in zones:
        if wanted and wanted == zone.rpartition("/")[2].lower():
            return zone
    return nearest(wanted, zones)


def _read_on(value: Any) -> int | str:
    """Accept what a day can look like at all; which form fits is for the mode to say."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip().lower()
        return int(text) if text.isdecimal() and text.isascii() else text
    if isinstance(value, list | tuple):
        raise CohortConfigError(f"{show(value)} is a list", fix="write one day, or use mode: daily")
    raise CohortConfigError(f"{show(value)} is no day", fix="write a weekday, a day of the month, or last")


class Schedule(Part):
    """When a cohort is imported.

    :param mode: ``once``, ``daily``, ``weekly`` or ``monthly``.
    :param on: for ``weekly`` a weekday's English name, or its first three letters; for ``monthly`` 1 to 28
        or ``last``; nothing otherwise. Kept in full and in lower case.
    :param at: time of day as ``HH:MM`` on the 24-hour clock; needed unless the mode is ``once``.
    :param timezone: IANA name of the zone that ``at`` is meant in. Mode ``once`` has no time of day, so
        the zone means nothing there.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"mode": {"const": "once"}}},
                    "then": {"properties": {"on": {"const": None}, "at": {"const": None}}},
                    "else": {"required": ["at"], "properties": {"at": {"type": "string"}}},
                },
                {
                    "if": {"properties": {"mode": {"const": "daily"}}},
                    "then": {"properties": {"on": {"const": None}}},
                },
                {
                    "if": {"properties": {"mode": {"const": "weekly"}}},
                    "then": {
                        "required": ["on"],
                        "properties": {"on": {"type": "string", "not": {"const": "last"}}},
                    },
                },
                {
                    "if": {"properties": {"mode": {"const": "monthly"}}},
                    "then": {
                        "required": ["on"],
                        "properties": {"on": {"anyOf": [{"type": "integer"}, {"const": "last"}]}},
                    },
                },
            ]
        }
    )

    mode: Mode = Field(description="How often the cohort is imported.", examples=["weekly"])
    on: Annotated[int | str, PlainValidator(_read_on), WithJsonSchema(_ON_SCHEMA)] | None = Field(
        default=None, description="Weekly: a weekday. Monthly: 1 to 28, or last.", examples=["monday"]
    )
    at: (
        Annotated[
            str,
            AfterValidator(check_time),
            WithJsonSchema({"type": "string", "pattern": f"^({_TIME.pattern})$"}),
        ]
        | None
    ) = Field(default=None, description="Time of day, HH:MM on the 24-hour clock.", examples=["09:00"])
    timezone: Annotated[str, AfterValidator(check_zone)] = Field(
        default="UTC", description="IANA time zone of the time of day.", examples=["America/New_York"]
    )

    @model_validator(mode="before")
    @classmethod
    def _full_weekday(cls, data: Any) -> Any:
        """Write an abbreviated weekday out, so that equal schedules are equal values."""
        if isinstance(data, dict) and isinstance(data.get("on"), str):
            short = {day[:3]: day for day in WEEKDAYS}
            day = data["on"].strip().lower()
            return {**data, "on": short.get(day, day)}
        return data

    @model_validator(mode="after")
    def _fits_the_mode(self) -> Schedule:
        problems = [problem for problem in (self._wrong_at(), self._wrong_on()) if problem]
        if problems:
            raise one_or_all(problems)
        return self

    def _wrong_at(self) -> CohortConfigError | None:
        if self.mode == "once" and self.at is not None:
            return CohortConfigError(
                f"{self.at!r} has no meaning with mode once, which runs as soon as the DAG is unpaused",
                fix="remove at, or choose daily, weekly or monthly",
                field="at",
            )
        if self.mode != "once" and self.at is None:
            return CohortConfigError(
                f"mode {self.mode} needs a time of day", fix='add at, such as at: "09:00"', field="at"
            )
        return None

    def _wrong_on(self) -> CohortConfigError | None:
        problem = fix = None
        if self.mode == "once" and self.on is not None:
            problem = (
                f"{show(self.on)} has no meaning with mode once, which runs as soon as the DAG is unpaused"
            )
            fix = "remove on, or choose weekly or monthly"
        elif self.mode == "daily" and self.on is not None:
            problem, fix = (
                f"{show(self.on)} has no meaning with mode daily",
                "remove on, or choose weekly or monthly",
            )
        elif self.mode == "weekly" and self.on is None:
            problem, fix = "mode weekly needs a weekday", "add on, such as on: monday"
        elif self.mode == "weekly" and self.on not in WEEKDAYS:
            guess = nearest(str(self.on), WEEKDAYS)
            problem = f"{show(self.on)} is no weekday"
            fix = f"write {guess}" if guess else f"write one of {', '.join(WEEKDAYS)}"
        elif self.mode == "monthly" and self.on is None:
            problem, fix = "mode monthly needs a day of the month", "add on: 1 to 28, or last"
        elif self.mode == "monthly" and self.on != "last":
            problem, fix = self._wrong_day_of_month()
        return CohortConfigError(problem, fix=fix, field="on") if problem and fix else None

    def _wrong_day_of_month(self) -> tuple[str, str] | tuple[None, None]:
        if isinstance(self.on, str):
            return f"{show(self.on)} is no day of the month", "write 1 to 28, or last"
        if self.on is not None and LAST_COMMON_DAY < self.on <= 31:
            return f"{self.on} is not a day every month has", "write 1 to 28, or last"
        if self.on is not None and not 1 <= self.on <= LAST_COMMON_DAY:
            return f"{self.on} is no day of the month", "write 1 to 28, or last"
        return None, None

    def cron(self) -> str | None:
        """Return the five-field cron expression in the schedule's own zone, or None for ``once``.

        ``L`` is the last day of the month, as croniter writes it.
        """
        if self.at is None:
            return None
        hour, minute = (int(part) for part in self.at.split(":"))
        if self.mode == "weekly":
            return f"{minute} {hour} * * {(WEEKDAYS.index(str(self.on)) + 1) % 7}"
        if self.mode == "monthly":
            return f"{minute} {hour} {'L' if self.on == 'last' else self.on} * *"
        return f"{minute} {hour} * * *"

    def words(self) -> str:
        """Return the schedule in words, such as ``Mondays 09:00, New York``."""
        if self.mode == "once":
            return "once"
        when = "daily"
        if self.mode == "weekly":
            when = f"{str(self.on).capitalize()}s"
        elif isinstance(self.on, int):
            when = f"monthly on the {_ordinal(self.on)}"
        elif self.mode == "monthly":
            when = "last day of the month"
        return f"{when} {self.at}, {self.timezone.rpartition('/')[2].replace('_', ' ')}"


def _ordinal(day: int) -> str:
    suffix = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"
