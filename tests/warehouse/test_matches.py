from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.ranges import Range
from airflow_provider_kubit_braze.exceptions import LeaseLostError
from airflow_provider_kubit_braze.warehouse.ledger import Ledger
from airflow_provider_kubit_braze.warehouse.matches import Entrant, Matches

CHANGES = [
    ("leave", "l1", False),
    ("leave", "l2", False),
    *[("enter", f"e{n}", False) for n in range(3, 9)],
    ("refresh", "r9", False),
    ("drop", "d10", False),
    ("hold", "h11", True),
    ("hold", "h12", True),
]
PLAN = Plan(
    import_id="i1",
    members=9,
    in_braze=3,
    leave=2,
    enter=6,
    refresh=1,
    quiet=3,
    held_out=2,
    unmatched=4,
)
EVERYBODY = [Range(3, 8), Range(10, 12)]
NEVER = {3: "never heard of", 6: "deleted"}


class LostLease:
    """Somebody else has the lease by now."""

    def fence(self, session: Any) -> None:
        raise LeaseLostError("somebody else")


def matches(warehouse: Any, plan: Plan = PLAN, *, lease: Any = None) -> Matches:
    workspace, cohort_id = warehouse.key
    ledger = Ledger(
        warehouse.session, warehouse.tables, workspace=workspace, cohort_id=cohort_id, lease=lease
    )
    return Matches(warehouse.session, warehouse.tables, ledger, key=warehouse.key, plan=plan)


@pytest.fixture
def planned(warehouse: Any) -> Any:
    """A frozen plan, and another import's that is nobody's business here."""
    for import_id in ("i1", "i2"):
        warehouse.change(*CHANGES, import_id=import_id)
        warehouse.put(
            warehouse.tables.run,
            import_id=import_id,
            to_enter=6,
            to_leave=2,
            to_refresh=1,
            to_note=3,
            held_out=2,
            unmatched=4,
        )
    return warehouse


def noted(warehouse: Any) -> list[tuple[Any, ...]]:
    rows = warehouse.session.rows(
        "SELECT IMPORT_ID, WORKSPACE, COHORT_ID, RUN_ID, SEQ, ACTION, PLACE, ID_KIND, USER_ID, REASON "
        f"FROM {warehouse.tables.unmatched} ORDER BY USER_ID"
    )
    return [tuple(row) for row in rows]


def counts(warehouse: Any, import_id: str) -> tuple[Any, ...]:
    columns = "TO_ENTER, TO_LEAVE, TO_REFRESH, TO_NOTE, HELD_OUT, UNMATCHED"
    sql = f"SELECT {columns} FROM {warehouse.tables.run} WHERE IMPORT_ID = %s"
    return tuple(warehouse.session.row(sql, (import_id,)))


# -- looking up -----------------------------------------------------------------------------------------------


def test_entrants_follow_the_leavers_and_those_to_be_held_out_are_among_the_last(planned: Any) -> None:
    found = matches(planned)

    assert found.missing() == EVERYBODY
    assert found.count() == 8
    assert found.read(Range(4, 5)) == [Entrant(4, "external_id", "e4"), Entrant(5, "external_id", "e5")]
    # Whoever is no longer held out is gone from the source.
    assert found.read(Range(10, 11)) == [Entrant(11, "external_id", "h11")]


def test_what_was_looked_up_and_who_is_unmatched_is_written_down(planned: Any) -> None:
    found = matches(planned)
    assert found.looked_up() == []

    found.note([Range(3, 4)], {3: "never heard of"}, run_id="run 1")
    found.note([Range(5, 6), Range(11, 12)], {11: "never heard of"}, run_id="run 1")
    found.note([], {8: "deleted"}, run_id="run 2")

    assert found.looked_up() == [Range(3, 6), Range(11, 12)]
    assert found.missing() == [Range(7, 8), Range(10, 10)]
    place = "attribute:kubit_cohort_vips"
    assert noted(planned) == [
        ("i1", *planned.key, "run 1", 3, "enter", place, "external_id", "e3", "never heard of"),
        ("i1", *planned.key, "run 2", 8, "enter", place, "external_id", "e8", "deleted"),
        ("i1", *planned.key, "run 1", 11, "hold", place, "external_id", "h11", "never heard of"),
    ]


def test_other_progress_and_other_imports_are_not_looked_up(planned: Any) -> None:
    for import_id, status in (("i2", "matched"), ("i1", "settled"), ("i1", "unknown")):
        planned.insert(
            f"{planned.tables.progress} (IMPORT_ID, FIRST_SEQ, LAST_SEQ, STATUS)", [(import_id, 3, 8, status)]
        )

    assert matches(planned).looked_up() == []


def test_a_sample_is_of_entrants_only_and_the_same_for_every_try(planned: Any) -> None:
    found = matches(planned).sample(4)
    everybody = {*(f"e{n}" for n in range(3, 9)), "h11", "h12"}

    assert len(set(found)) == 4
    assert {entrant.user for entrant in found} < everybody
    assert matches(planned).sample(4) == found
    assert {entrant.user for entrant in matches(planned).sample(100)} == everybody


def test_another_import_draws_another_sample(warehouse: Any) -> None:
    for import_id in ("i1", "i2"):
        warehouse.change(*[("enter", f"e{n}", False) for n in range(1, 101)], import_id=import_id)
    samples = [
        {entrant.seq for entrant in matches(warehouse, plan).sample(10)}
        for plan in (
            Plan(import_id=import_id, members=100, in_braze=0, enter=100, leave=0)
            for import_id in ("i1", "i2")
        )
    ]

    assert samples[0] != samples[1]
    # No run of numbers either: those would be alike, as they are sorted by user.
    assert all(max(seqs) - min(seqs) > 20 for seqs in samples)


# -- taking out -----------------------------------------------------------------------------------------------


def test_the_unmatched_are_taken_out_of_the_plan_and_the_gaps_closed(planned: Any) -> None:
    found = matches(planned)
    found.note([Range(3, 8)], NEVER, run_id="run 1")
    # Heard of it twice: a try died between looking up and taking out.
    found.note([], {6: "deleted"}, run_id="run 2")

    left = found.take_out()

    assert (left.leave, left.enter, left.refresh, left.quiet, left.unmatched) == (2, 4, 1, 3, 6)
    assert left.held_out == 2
    # They are members, were not in Braze, and will not be.
    assert left.unchanged == PLAN.unchanged
    assert [(seq, action, user) for seq, action, _, user, _ in planned.changes()] == [
        (1, "leave", "l1"),
        (2, "leave", "l2"),
        (3, "enter", "e4"),
        (4, "enter", "e5"),
        (5, "enter", "e7"),
        (6, "enter", "e8"),
        (7, "refresh", "r9"),
        (8, "drop", "d10"),
        (9, "hold", "h11"),
        (10, "hold", "h12"),
    ]
    assert counts(planned, "i1") == (4, 2, 1, 3, 2, 6)
    # Their numbers are others' by now, but who they were stays written.
    assert [(row[4], row[8]) for row in noted(planned)] == [(None, "e3"), (None, "e6"), (None, "e6")]


def test_those_who_were_to_be_held_out_are_taken_out_like_the_others(planned: Any) -> None:
    found = matches(planned)
    found.note(EVERYBODY, {4: "never heard of", 11: "deleted"}, run_id="run 1")

    left = found.take_out()

    assert (left.enter, left.refresh, left.quiet, left.held_out, left.unmatched) == (5, 1, 2, 1, 6)
    assert left.unchanged == PLAN.unchanged
    assert counts(planned, "i1") == (5, 2, 1, 2, 1, 6)
    assert [(seq, user) for seq, _, _, user, _ in planned.changes()][-3:] == [
        (8, "r9"),
        (9, "d10"),
        (10, "h12"),
    ]
    assert [(row[4], row[5], row[8]) for row in noted(planned)] == [
        (None, "enter", "e4"),
        (None, "hold", "h11"),
    ]
    assert matches(planned, left).missing() == []


def test_a_stranger_who_was_held_out_and_is_to_enter_is_held_out_no_longer(planned: Any) -> None:
    """A smaller holdout lets people in; a stranger among them who stayed would be a stranger in the control group."""
    planned.stay("e4", held=True)
    planned.stay("e5", held=True)
    planned.stay("e6", held=True, left_at="2026-01-02 00:00:00")
    found = matches(planned)
    found.note(EVERYBODY, dict.fromkeys((3, 4, 6), "never heard of"), run_id="run 1")

    left = found.take_out()

    assert (left.enter, left.quiet, left.held_out, left.unmatched) == (3, 4, 2, 7)
    assert left.unchanged == PLAN.unchanged
    assert counts(planned, "i1") == (3, 2, 1, 4, 2, 7)
    assert [(seq, action, user) for seq, action, _, user, _ in planned.changes()][2:] == [
        (3, "enter", "e5"),
        (4, "enter", "e7"),
        (5, "enter", "e8"),
        (6, "refresh", "r9"),
        (7, "drop", "d10"),
        (8, "hold", "h11"),
        (9, "hold", "h12"),
        (10, "drop", "e4"),
    ]


def test_nobody_need_be_looked_up_again_and_nothing_taken_out_twice(planned: Any) -> None:
    found = matches(planned)
    found.note(EVERYBODY, NEVER, run_id="run 1")
    left = found.take_out()
    before = planned.changes()

    again = matches(planned, left)

    assert again.looked_up() == [Range(3, 6), Range(8, 10)]
    assert again.missing() == []
    assert again.take_out() == left
    assert planned.changes() == before
    assert counts(planned, "i1") == (4, 2, 1, 3, 2, 6)


def test_other_imports_keep_their_plan(planned: Any) -> None:
    other = matches(planned, Plan(import_id="i2", members=8, in_braze=3, enter=6, leave=2))
    other.note([Range(3, 8)], {5: "never heard of"}, run_id="run 2")
    mine = matches(planned)
    mine.note([Range(3, 8)], NEVER, run_id="run 1")
    before = planned.changes("i2")

    mine.take_out()

    assert planned.changes("i2") == before
    assert "e5" in {user for _, _, _, user, _ in planned.changes()}
    assert counts(planned, "i2") == (6, 2, 1, 3, 2, 4)
    assert other.looked_up() == [Range(3, 8)]
    assert [row[4] for row in noted(planned) if row[0] == "i2"] == [5]


def test_a_plan_of_strangers_only_has_no_entrants_left(planned: Any) -> None:
    found = matches(planned)
    strangers = dict.fromkeys((*range(3, 9), 11, 12), "never heard of")
    found.note(EVERYBODY, strangers, run_id="run 1")

    left = found.take_out()

    assert (left.enter, left.to_send, left.quiet, left.held_out, left.unmatched) == (0, 3, 1, 0, 12)
    assert [seq for seq, *_ in planned.changes()] == [1, 2, 3, 4]
    assert (found.count(), matches(planned, left).missing()) == (0, [])


def test_when_everybody_is_known_the_plan_stays_as_it_is(planned: Any) -> None:
    found = matches(planned)
    found.note([Range(3, 8)], {}, run_id="run 1")

    assert found.take_out() == PLAN
    assert len(planned.changes()) == len(CHANGES)
    assert found.looked_up() == [Range(3, 8)]


def test_whoever_has_lost_the_lease_notes_nobody(planned: Any) -> None:
    found = matches(planned, lease=LostLease())

    with pytest.raises(LeaseLostError):
        found.note([Range(3, 8)], NEVER, run_id="run 1")

    assert noted(planned) == []
    assert found.looked_up() == []


def test_whoever_has_lost_the_lease_takes_nobody_out(planned: Any) -> None:
    matches(planned).note([Range(3, 8)], NEVER, run_id="run 1")

    with pytest.raises(LeaseLostError):
        matches(planned, lease=LostLease()).take_out()

    assert len(planned.changes()) == len(CHANGES)
    assert counts(planned, "i1") == (6, 2, 1, 3, 2, 4)
    assert [row[4] for row in noted(planned)] == [3, 6]
