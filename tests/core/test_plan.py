from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_kubit_braze.core.plan import QUIET_ACTIONS, SENT_ACTIONS, Plan


def test_a_plan_adds_up() -> None:
    plan = Plan(
        import_id="i",
        members=100,
        in_braze=70,
        enter=25,
        leave=9,
        refresh=3,
        quiet=4,
        held_out=10,
        duplicates=2,
        invalid=1,
    )

    assert plan.to_send == 37
    assert plan.size == 41
    assert plan.data_points == 37
    assert plan.unchanged == 65


def test_a_first_import_leaves_nobody_alone() -> None:
    plan = Plan(import_id="i", members=10, in_braze=0, enter=8, leave=0, held_out=2, quiet=2)

    assert (plan.to_send, plan.size, plan.unchanged) == (8, 10, 0)


def test_an_emptied_cohort_costs_its_leavers() -> None:
    plan = Plan(import_id="i", members=0, in_braze=5, enter=0, leave=5)

    assert (plan.data_points, plan.unchanged) == (5, 0)


def test_no_action_is_both_sent_and_quiet() -> None:
    assert not set(SENT_ACTIONS) & set(QUIET_ACTIONS)


def test_a_plan_is_frozen() -> None:
    plan = Plan(import_id="i", members=0, in_braze=0, enter=0, leave=0)

    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.enter = 1  # type: ignore[misc]
