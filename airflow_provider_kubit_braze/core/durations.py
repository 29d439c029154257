"""Durations as authors write them: ``26h``, ``90m``, ``2d``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from airflow_provider_kubit_braze.core.part import show
from airflow_provider_kubit_braze.exceptions import CohortConfigError

_DURATION = re.compile(r"([1-9]\d{0,4})\s*([mhd])")
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}


def parse_duration(value: object) -> timedelta:
    """Read a whole number of minutes, hours or days.

    :param value: ``90m``, ``26h``, ``2d``, or a :class:`~datetime.timedelta` of whole minutes.
    :raises CohortConfigError: when it is anything else, or not above zero.
    """
    if isinstance(value, timedelta):
        if value > timedelta(0) and value % timedelta(minutes=1) == timedelta(0):
            return value
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(minutes=int(match[1]) * _MINUTES[match[2]])
    raise CohortConfigError(
        f"{show(value)} is no duration", fix="write minutes, hours or days, such as 90m, 26h or 2d"
    )


def duration_text(value: timedelta) -> str:
    """Return the shortest form that :func:`parse_duration` reads back.

    :param value: a duration of whole minutes.
    """
    minutes = value // timedelta(minutes=1)
    for unit in ("d", "h"):
        if minutes % _MINUTES[unit] == 0:
            return f"{minutes // _MINUTES[unit]}{unit}"
    return f"{minutes}m"


def time_in_words(seconds: float) -> str:
    """Return about how long something takes: ``45 s``, ``12 min``, ``3 h 20 min``.

    :param seconds: at least 0.
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"


DurationField = Annotated[
    timedelta,
    PlainValidator(parse_duration),
    PlainSerializer(duration_text),
    WithJsonSchema({"type": "string", "pattern": rf"^{_DURATION.pattern}$"}),
]
"""A duration as a field of a cohort."""
