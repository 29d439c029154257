from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.cohort import Guards
from airflow_provider_kubit_braze.core.guards import judge_plan, judge_rejections
from airflow_provider_kubit_braze.core.plan import Plan


def plan_of(**changes: Any) -> Plan:
    return Plan(**{"import_id": "i", "members": 100, "in_braze": 100, "enter": 0, "leave": 0, **changes})


def guards_of(**changes: Any) -> Guards:
    """Guards that let everything pass, but for the changes."""
    return Guards(**{"allow_empty": True, "max_removed": None, "max_rejected": None, **changes})


@pytest.mark.parametrize(
    ("plan", "guards", "broken"),
    [
        pytest.param({"members": 0, "leave": 100}, {"allow_empty": False}, True, id="empty"),
        pytest.param({"members": 0, "in_braze": 0}, {"allow_empty": False}, True, id="empty at first"),
        pytest.param({"members": 0, "leave": 100}, {}, False, id="empty and allowed"),
        pytest.param(
            {"members": 1, "leave": 99}, {"allow_empty": False}, False, id="one member is not empty"
        ),
        pytest.param({"leave": 30}, {"max_removed": "30%"}, False, id="removed: exactly the share"),
        pytest.param({"leave": 31}, {"max_removed": "30%"}, True, id="removed: above the share"),
        pytest.param({"leave": 5}, {"max_removed": 5}, False, id="removed: exactly the number"),
        pytest.param({"leave": 6}, {"max_removed": 5}, True, id="removed: above the number"),
        pytest.param({"leave": 1}, {"max_removed": 0}, True, id="removed: none allowed"),
        pytest.param(
            {"in_braze": 0, "leave": 5}, {"max_removed": "30%"}, False, id="removed: a share of nobody"
        ),
        pytest.param(
            {"in_braze": 90, "in_doubt": 10, "leave": 30},
            {"max_removed": "30%"},
            False,
            id="removed: those in doubt count in the total",
        ),
        pytest.param(
            {"in_braze": 90, "in_doubt": 10, "leave": 31},
            {"max_removed": "30%"},
            True,
            id="removed: above it all",
        ),
        pytest.param(
            {"in_braze": 0, "leave": 5}, {"max_removed": 4}, True, id="removed: a number needs no total"
        ),
        pytest.param({"enter": 50}, {"max_added": "50%"}, False, id="added: exactly the share"),
        pytest.param({"enter": 51}, {"max_added": "50%"}, True, id="added: above the share"),
        pytest.param({"in_braze": 0, "enter": 51}, {"max_added": "50%"}, False, id="added: a first import"),
        pytest.param(
            {"in_braze": 0, "enter": 51}, {"max_added": 50}, True, id="added: a number holds at first"
        ),
        pytest.param(
            {"enter": 4, "leave": 3, "refresh": 3}, {"max_data_points": 10}, False, id="cost: exactly"
        ),
        pytest.param({"enter": 4, "leave": 3, "refresh": 4}, {"max_data_points": 10}, True, id="cost: above"),
        pytest.param(
            {"quiet": 50}, {"max_data_points": 0}, False, id="cost: the ledger's own changes are free"
        ),
    ],
)
def test_a_guard_breaks_strictly_above_its_limit(
    plan: dict[str, Any], guards: dict[str, Any], broken: bool
) -> None:
    assert bool(judge_plan(plan_of(**plan), guards_of(**guards))) is broken


def test_every_broken_guard_is_named_with_figures_and_limit() -> None:
    plan = plan_of(members=0, in_braze=1000, leave=1000, enter=2000)
    guards = Guards.model_validate({"max_removed": "30%", "max_added": 1999, "max_data_points": 2999})

    empty, removed, added, cost = judge_plan(plan, guards)

    assert "remove 1,000 users" in empty
    assert "guards.allow_empty" in empty
    assert "1,000 of the 1,000 users" in removed
    assert "guards.max_removed allows (30%)" in removed
    assert "2,000 users would be added" in added
    assert "guards.max_added allows (1999)" in added
    assert "3,000 data points" in cost
    assert "guards.max_data_points allows (2,999)" in cost


@pytest.mark.parametrize(
    ("rejected", "unknown", "limit", "broken"),
    [
        pytest.param(2, 0, "1%", False, id="exactly the share"),
        pytest.param(3, 0, "1%", True, id="above the share"),
        pytest.param(1, 2, "1%", True, id="unknown ones count too"),
        pytest.param(0, 3, "1%", True, id="unknown ones alone"),
        pytest.param(200, 0, None, False, id="no limit"),
        pytest.param(0, 0, 0, False, id="none allowed and none there"),
        pytest.param(0, 1, 0, True, id="none allowed and one there"),
    ],
)
def test_what_braze_did_not_accept_is_judged_as_a_share_of_what_was_sent(
    rejected: int, unknown: int, limit: str | int | None, broken: bool
) -> None:
    sentence = judge_rejections(
        rejected=rejected, unknown=unknown, sent=200, guards=guards_of(max_rejected=limit)
    )

    assert (sentence is not None) is broken


def test_the_refusal_gives_the_figures_apart() -> None:
    sentence = judge_rejections(rejected=1500, unknown=20, sent=2000, guards=guards_of(max_rejected="1%"))

    assert sentence is not None
    assert "1,520 of 2,000 changes (1,500 rejected, 20 without a certain answer)" in sentence
    assert "guards.max_rejected allows (1%)" in sentence


def test_an_import_that_sent_nothing_is_not_refused() -> None:
    assert judge_rejections(rejected=0, unknown=0, sent=0, guards=guards_of(max_rejected="1%")) is None


def test_those_who_may_be_in_braze_are_told_apart() -> None:
    (sentence,) = judge_plan(
        plan_of(members=5, in_braze=90, in_doubt=10, leave=60), Guards.model_validate({"max_removed": "30%"})
    )

    assert sentence.startswith(
        "60 of the 100 users now or possibly in Braze (10 without a certain answer) would be removed"
    )
