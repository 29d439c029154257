"""Whatever happens to a cohort: the ledger, Braze and the source agree, and nothing was paid for twice."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

pytest.register_assert_rewrite("tests.importer.model_machine")

from tests.importer.model_machine import CohortMachine  # noqa: E402

PROFILES = {
    # The same lives every time, none of them made smaller when one goes wrong: HYPOTHESIS_PROFILE=long does that.
    "default": settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=6,
        stateful_step_count=11,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    ),
    "long": settings(
        deadline=None,
        max_examples=400,
        stateful_step_count=30,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    ),
}


def test_whatever_happens_the_mirror_is_right(world: Any) -> None:
    class Machine(CohortMachine):
        pass

    Machine.world = world
    run_state_machine_as_test(Machine, settings=PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")])


# -- lives that the machine, or thinking about it, found to go wrong ----------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [{"kind": "non_success_message"}, {"kind": "reject_ids", "ids": ["a"]}],
    ids=["no-certain-answer", "rejected"],
)
def test_who_changed_kind_stays_in_though_the_old_name_leaves_one_import_later(
    world: Any, fault: dict[str, Any]
) -> None:
    how: dict[str, Any] = {
        "identifiers": {"external_id": "ID", "email": "MAIL"},
        "guards": {"max_removed": None, "max_rejected": None},
    }
    columns = "ID VARCHAR, MAIL VARCHAR"
    world.braze.add_users([{"external_id": "a", "email": "a@example.com"}, {"external_id": "b"}])
    world.source(("a", None), ("b", None), columns=columns)
    world.imported("day 1", **how)
    world.source((None, "a@example.com"), ("b", None), columns=columns)
    # The first request takes "a" out, the second one takes a@example.com in: the same profile.
    world.braze.fault(endpoint="/users/track", **fault)
    world.imported("day 2", **how)
    world.braze.clear_faults()
    assert world.cohort_in_braze() == {"a", "b"}

    world.imported("day 3", **how)

    assert world.stays() == {("external_id", "b"), ("email", "a@example.com")}
    assert world.cohort_in_braze() == {"a", "b"}
