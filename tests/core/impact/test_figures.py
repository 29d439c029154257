from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.impact.figures import Experiment, Group, Revenue
from airflow_provider_kubit_braze.exceptions import ImpactFiguresError


def revenue(**changes: Any) -> Revenue:
    return Revenue(**{"buyers": 2, "total": 30.0, "squares": 500.0, "currency": "EUR", **changes})


def experiment(**changes: Any) -> Experiment:
    groups = {"treated": Group(users=10, converters=1), "control": Group(users=5, converters=1)}
    return Experiment(**{"name": "Spring", **groups, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"buyers": -1}, "-1 buyers cannot be"),
        ({"total": float("nan")}, "has to be finite"),
        ({"squares": float("inf")}, "has to be finite"),
        ({"total": -5.0}, "refunds are more than purchases"),
        ({"squares": 449.0}, "sum the squares of what each user spent in the whole period"),
        ({"buyers": 0}, "too small for 0 buyers"),
    ],
)
def test_revenue_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ImpactFiguresError, match=words):
        revenue(**changes)


def test_buyers_who_all_spend_the_same_are_possible_whatever_sums_are_rounded_to() -> None:
    assert revenue(buyers=3, total=0.1 + 0.1 + 0.1, squares=0.03).total == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"users": -1, "converters": 0}, "-1 users"),
        ({"users": 3, "converters": 4}, "4 converters cannot be among 3 users: count each user once"),
        ({"users": 3, "converters": -1}, "-1 converters"),
        ({"users": 1, "converters": 1, "revenue": revenue()}, "2 buyers cannot be among 1 users"),
    ],
)
def test_groups_that_cannot_be_are_refused(group: dict[str, Any], words: str) -> None:
    with pytest.raises(ImpactFiguresError, match=words):
        Group(**group)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"control_share": 0}, "Spring: a control group of 0.0% leaves nothing to compare"),
        ({"control_share": 1.0}, "100.0% leaves nothing"),
        ({"new_users_per_day": -1}, "-1 new users a day"),
        ({"new_users_per_day": float("inf")}, "inf new users a day"),
        ({"reached": 11}, "11 of 10 treated users"),
        ({"control_reached": 6}, "6 of 5 held-out users"),
        ({"treated": Group(users=10, converters=1, revenue=revenue())}, "known of one group only"),
        (
            {
                "treated": Group(users=10, converters=1, revenue=revenue()),
                "control": Group(users=10, converters=1, revenue=revenue(currency="USD")),
            },
            "Spring: revenue in EUR cannot be compared with USD",
        ),
    ],
)
def test_experiments_that_cannot_be_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ImpactFiguresError, match=words):
        experiment(**changes)


def test_a_rate_is_converters_per_user_and_0_for_nobody() -> None:
    assert Group(users=8, converters=2).rate == 0.25
    assert Group(users=0, converters=0).rate == 0
