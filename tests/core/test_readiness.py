from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_provider_kubit_braze.core.readiness import (
    CohortMeasure,
    Requirement,
    judge,
    span_text,
)

RUN = datetime(2026, 11, 23, 9, tzinfo=UTC)
FRESH = Requirement(within=timedelta(hours=26), column="COMPUTED_AT")


@pytest.mark.parametrize(
    ("measure", "requirement", "ready", "reason"),
    [
        pytest.param(
            CohortMeasure(exists=False),
            Requirement(table="A.B.VIP"),
            False,
            "table A.B.VIP does not exist yet, or the role may not read it",
            id="no table",
        ),
        pytest.param(
            CohortMeasure(exists=False),
            Requirement(),
            False,
            "a table that the SQL reads does not exist yet, or the role may not read it",
            id="no table under the SQL",
        ),
        pytest.param(
            CohortMeasure(exists=True, members=12),
            Requirement(min_members=100),
            False,
            "the cohort has 12 members, waiting for at least 100",
            id="too few",
        ),
        pytest.param(
            CohortMeasure(exists=True, members=1),
            Requirement(min_members=1200),
            False,
            "the cohort has 1 member, waiting for at least 1,200",
            id="one",
        ),
        pytest.param(
            CohortMeasure(exists=True, members=100),
            Requirement(min_members=100),
            True,
            "the cohort has 100 members",
            id="just enough",
        ),
        pytest.param(
            CohortMeasure(exists=True), Requirement(min_members=0), True, "the cohort exists", id="exists"
        ),
        pytest.param(
            CohortMeasure(exists=True, members=5, newest=RUN - timedelta(hours=31)),
            FRESH,
            False,
            "COMPUTED_AT is 31 h old, waiting for 26 h",
            id="old",
        ),
        pytest.param(
            CohortMeasure(exists=True, members=5, newest=RUN - timedelta(hours=26)),
            FRESH,
            True,
            "COMPUTED_AT is 26 h old, at most 26 h is asked for; the cohort has 5 members",
            id="just fresh enough",
        ),
        pytest.param(
            CohortMeasure(exists=True, members=5, newest=RUN - timedelta(hours=26, microseconds=1)),
            FRESH,
            False,
            "COMPUTED_AT is 26 h 1 s old, waiting for 26 h",
            id="a moment too old",
        ),
        pytest.param(
            CohortMeasure(exists=True, members=5, newest=RUN + timedelta(days=400)),
            FRESH,
            True,
            "COMPUTED_AT is not older than the run; the cohort has 5 members",
            id="after the run",
        ),
        pytest.param(
            CohortMeasure(exists=True, members=0),
            FRESH,
            False,
            "COMPUTED_AT is empty; the cohort has 0 members, waiting for at least 1",
            id="two reasons",
        ),
        pytest.param(
            CohortMeasure(exists=True, members=0, newest=RUN),
            FRESH,
            False,
            "the cohort has 0 members, waiting for at least 1",
            id="fresh but empty",
        ),
    ],
)
def test_a_cohort_is_judged_with_a_reason(
    measure: CohortMeasure, requirement: Requirement, ready: bool, reason: str
) -> None:
    readiness = judge(measure, requirement, RUN)

    assert (readiness.ready, readiness.reason) == (ready, reason)


def test_the_age_does_not_depend_on_the_zone_the_reference_is_written_in() -> None:
    measure = CohortMeasure(exists=True, members=5, newest=RUN - timedelta(hours=31))

    tokyo = judge(measure, FRESH, RUN.astimezone(timezone(timedelta(hours=9))))

    assert tokyo.reason == "COMPUTED_AT is 31 h old, waiting for 26 h"


def test_a_limit_in_minutes_is_told_apart_from_an_age_that_rounds_to_it() -> None:
    requirement = Requirement(within=timedelta(hours=26, minutes=10), column="C")
    measure = CohortMeasure(exists=True, members=5, newest=RUN - timedelta(hours=26, minutes=10, seconds=5))

    assert judge(measure, requirement, RUN).reason == "C is 26 h 10 min 5 s old, waiting for 26 h 10 min"


@pytest.mark.parametrize(
    ("reference", "newest"),
    [
        pytest.param(RUN.replace(tzinfo=None), RUN, id="reference"),
        pytest.param(RUN, RUN.replace(tzinfo=None), id="newest"),
    ],
)
def test_a_time_without_a_zone_is_refused(reference: datetime, newest: datetime) -> None:
    with pytest.raises(ValueError, match="have a zone"):
        judge(CohortMeasure(exists=True, members=1, newest=newest), FRESH, reference)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"within": timedelta(hours=1)}, "both or neither", id="age without column"),
        pytest.param({"column": "C"}, "both or neither", id="column without age"),
        pytest.param({"column": "C", "within": timedelta()}, "above zero, not 0:00:00", id="no time at all"),
        pytest.param({"min_members": -1}, "0 or more, not -1", id="fewer than none"),
    ],
)
def test_a_requirement_without_sense_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Requirement(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(), "0 s"),
        (timedelta(seconds=-5), "0 s"),
        (timedelta(milliseconds=1), "1 s"),
        (timedelta(minutes=90), "1 h 30 min"),
        (timedelta(hours=71, seconds=3), "71 h 3 s"),
        (timedelta(hours=72), "3 d"),
        (timedelta(days=5, hours=3, minutes=2), "5 d 3 h"),
    ],
    ids=str,
)
def test_a_length_of_time_is_written_for_people(span: timedelta, text: str) -> None:
    assert span_text(span) == text
