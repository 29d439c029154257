from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.schedule import Schedule
from airflow_provider_kubit_braze.exceptions import CohortConfigError


@pytest.mark.parametrize(
    ("written", "cron", "words"),
    [
        ({"mode": "once"}, None, "once"),
        ({"mode": "daily", "at": "06:30"}, "30 6 * * *", "daily 06:30, UTC"),
        (
            {"mode": "weekly", "on": "monday", "at": "09:00", "timezone": "America/New_York"},
            "0 9 * * 1",
            "Mondays 09:00, New York",
        ),
        ({"mode": "weekly", "on": "Sun", "at": "00:05"}, "5 0 * * 0", "Sundays 00:05, UTC"),
        ({"mode": "weekly", "on": "SATURDAY", "at": "23:59"}, "59 23 * * 6", "Saturdays 23:59, UTC"),
        (
            {"mode": "monthly", "on": 15, "at": "09:00", "timezone": "Europe/Berlin"},
            "0 9 15 * *",
            "monthly on the 15th 09:00, Berlin",
        ),
        ({"mode": "monthly", "on": "1", "at": "09:00"}, "0 9 1 * *", "monthly on the 1st 09:00, UTC"),
        ({"mode": "monthly", "on": 22, "at": "09:00"}, "0 9 22 * *", "monthly on the 22nd 09:00, UTC"),
        ({"mode": "monthly", "on": 3, "at": "09:00"}, "0 9 3 * *", "monthly on the 3rd 09:00, UTC"),
        ({"mode": "monthly", "on": 12, "at": "09:00"}, "0 9 12 * *", "monthly on the 12th 09:00, UTC"),
        (
            {"mode": "monthly", "on": "Last", "at": "06:00", "timezone": "America/Argentina/Buenos_Aires"},
            "0 6 L * *",
            "last day of the month 06:00, Buenos Aires",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schedule_reads_as_cron_and_in_words(written: dict[str, Any], cron: str | None, words: str) -> None:
    schedule = Schedule(**written)
    assert schedule.cron() == cron
    assert schedule.words() == words
    assert Schedule(**schedule.model_dump(mode="json")) == schedule


def test_two_spellings_of_one_day_are_one_schedule() -> None:
    short = Schedule(mode="weekly", on="MON", at="09:00")
    assert short == Schedule(mode="weekly", on=" Monday", at="09:00")
    assert short.on == "monday"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({}, "field 'mode': this key is required and missing; add mode, for example mode: weekly."),
        (
            {"mode": "hourly"},
            "field 'mode': 'hourly' is not one of once, daily, weekly, monthly; write one of once, "
            "daily, weekly, "
            "monthly.",
        ),
        (
            {"mode": "week"},
            "field 'mode': 'week' is not one of once, daily, weekly, monthly; write weekly.",
        ),
        (
            {"mode": "once", "at": "09:00"},
            "field 'at': '09:00' has no meaning with mode once, which runs as soon as the DAG is unpaused; "
            "remove at, or choose daily, weekly or monthly.",
        ),
        (
            {"mode": "once", "on": "monday"},
            "field 'on': 'monday' has no meaning with mode once, which runs as soon as the DAG is unpaused; "
            "remove on, or choose weekly or monthly.",
        ),
        (
            {"mode": "daily", "at": "09:00", "on": "monday"},
            "field 'on': 'monday' has no meaning with mode daily; remove on, or choose weekly or monthly.",
        ),
        ({"mode": "daily"}, "field 'at': mode daily needs a time of day; add at, such as at: \"09:00\"."),
        (
            {"mode": "weekly", "at": "09:00"},
            "field 'on': mode weekly needs a weekday; add on, such as on: monday.",
        ),
        (
            {"mode": "weekly", "at": "09:00", "on": "mondays"},
            "field 'on': 'mondays' is no weekday; write monday.",
        ),
        (
            {"mode": "weekly", "at": "09:00", "on": 1},
            "field 'on': 1 is no weekday; write one of monday, tuesday, wednesday, thursday, friday, "
            "saturday, sunday.",
        ),
        (
            {"mode": "weekly", "at": "09:00", "on": ["monday", "friday"]},
            'field \'on\': ["monday", "friday"] is a list; write one day, or use mode: daily.',
        ),
        (
            {"mode": "monthly", "at": "09:00"},
            "field 'on': mode monthly needs a day of the month; add on: 1 to 28, or last.",
        ),
        *(
            (
                {"mode": "monthly", "at": "09:00", "on": day},
                f"field 'on': {day} is not a day every month has; write 1 to 28, or last.",
            )
            for day in (29, 30, 31)
        ),
        *(
            (
                {"mode": "monthly", "at": "09:00", "on": day},
                f"field 'on': {day} is no day of the month; write 1 to 28, or last.",
            )
            for day in (0, -1, 32)
        ),
        (
            {"mode": "monthly", "at": "09:00", "on": "monday"},
            "field 'on': 'monday' is no day of the month; write 1 to 28, or last.",
        ),
        (
            {"mode": "monthly", "at": "09:00", "on": True},
            "field 'on': true is no day; write a weekday, a day of the month, or last.",
        ),
        ({"mode": "daily", "at": "9:00"}, "field 'at': '9:00' is not of the form HH:MM; write \"09:00\"."),
        (
            {"mode": "daily", "at": "24:00"},
            "field 'at': '24:00' is no time of day; write \"00:00\" for midnight.",
        ),
        *(
            (
                {"mode": "daily", "at": at},
                f"field 'at': '{at}' is no time of day; write hours and minutes on the 24-hour clock, "
                "such as "
                '"09:00".',
            )
            for at in ("25:00", "09:60", "9am", "09:00:00", "", "noon")
        ),
        (
            {"mode": "daily", "at": 630},
            "field 'at': 630 is not text; write text, in quotes if it looks like something else: \"...\".",
        ),
        (
            {"mode": "daily", "at": "09:00", "timezone": "New York"},
            "field 'timezone': 'New York' is no known time zone; write America/New_York.",
        ),
        (
            {"mode": "daily", "at": "09:00", "timezone": "Europe/Berln"},
            "field 'timezone': 'Europe/Berln' is no known time zone; write Europe/Berlin.",
        ),
        *(
            (
                {"mode": "daily", "at": "09:00", "timezone": zone},
                f"field 'timezone': '{zone}' is no known time zone; write ",
            )
            for zone in ("", "Mars/Olympus_Mons_Crater", "../etc/passwd", "Europe")
        ),
        (
            {"mode": "daily", "at": "09:00", "time_zone": "UTC"},
            "field 'time_zone': unknown key 'time_zone'; write 'timezone' or remove it.",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value),
)
def test_a_bad_schedule_is_refused_with_the_field_the_value_and_the_fix(
    written: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        Schedule(**written)
    assert str(refusal.value).startswith(sentence)


def test_every_problem_of_a_schedule_is_told() -> None:
    with pytest.raises(CohortConfigError) as refusal:
        Schedule(mode="once", at="09:00", on=3)
    assert [line.partition(":")[0] for line in str(refusal.value).splitlines()] == [
        "field 'at'",
        "field 'on'",
    ]
