from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_kubit_braze.core.durations import duration_text, parse_duration
from airflow_provider_kubit_braze.exceptions import CohortConfigError


@pytest.mark.parametrize(
    ("written", "meant", "printed"),
    [
        ("26h", timedelta(hours=26), "26h"),
        ("90m", timedelta(minutes=90), "90m"),
        ("2d", timedelta(days=2), "2d"),
        ("48h", timedelta(days=2), "2d"),
        ("120 m", timedelta(hours=2), "2h"),
        (timedelta(hours=3), timedelta(hours=3), "3h"),
    ],
)
def test_a_duration_is_read_and_printed(written: object, meant: timedelta, printed: str) -> None:
    assert parse_duration(written) == meant
    assert duration_text(meant) == printed
    assert parse_duration(printed) == meant


@pytest.mark.parametrize(
    "written",
    ["26", 26, "0h", "1.5h", "-2h", "26 hours", "1d12h", "", None, True, timedelta(0), timedelta(seconds=90)],
    ids=repr,
)
def test_a_bad_duration_is_refused_with_the_value_and_the_fix(written: object) -> None:
    with pytest.raises(
        CohortConfigError, match="is no duration; write minutes, hours or days, such as 90m, 26h or 2d"
    ):
        parse_duration(written)
