from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.core.verification import UNKNOWN_REASON
from airflow_provider_kubit_braze.warehouse import stays
from airflow_provider_kubit_braze.warehouse.readback import (
    SentChange,
    draw_accepted,
    read_changes,
    unmatch,
)

HERE, OLD = Place("attribute", "kubit_cohort_vips"), Place("attribute", "old_name")


def settle(warehouse: Any, *ranges: tuple[int, int], import_id: str = "i1", status: str = "settled") -> None:
    warehouse.insert(
        f"{warehouse.tables.progress} (IMPORT_ID, FIRST_SEQ, LAST_SEQ, STATUS)",
        [(import_id, first, last, status) for first, last in ranges],
    )


def run(warehouse: Any, import_id: str = "i1", *, leave: int = 4, enter: int = 10, refresh: int = 6) -> None:
    warehouse.put(
        warehouse.tables.run,
        import_id=import_id,
        to_leave=leave,
        to_enter=enter,
        to_refresh=refresh,
        to_note=5,
    )


# -- drawing --------------------------------------------------------------------------------------------------


def test_the_sample_is_of_what_braze_accepted(warehouse: Any) -> None:
    run(warehouse)
    settle(warehouse, (1, 8), (5, 12))
    settle(warehouse, (13, 20), status="unknown")
    settle(warehouse, (13, 20), status="matched")
    settle(warehouse, (13, 20), import_id="i2")
    for seq, import_id in ((3, "i1"), (3, "i1"), (12, "i1"), (1, "i2")):
        warehouse.reject("u", seq=seq, import_id=import_id)

    sample = draw_accepted(warehouse.session, warehouse.tables, "i1", 100)

    assert list(sample.seqs) == [1, 2, *range(4, 12)]
    assert sample.population == 10


def test_changes_that_were_never_to_be_sent_are_not_read_back(warehouse: Any) -> None:
    run(warehouse)
    settle(warehouse, (18, 25), (22, 25))

    sample = draw_accepted(warehouse.session, warehouse.tables, "i1", 100)

    assert (list(sample.seqs), sample.population) == ([18, 19, 20], 3)


def test_a_sample_is_random_and_every_look_sees_the_same(warehouse: Any) -> None:
    for import_id in ("i1", "i2"):
        run(warehouse, import_id, leave=0, enter=1000, refresh=0)
        settle(warehouse, (1, 1000), import_id=import_id)

    def draw(import_id: str) -> list[int]:
        sample = draw_accepted(warehouse.session, warehouse.tables, import_id, 50)
        assert (len(sample.seqs), sample.population) == (50, 1000)
        return list(sample.seqs)

    assert draw("i1") == draw("i1")
    assert draw("i1") != draw("i2")


def test_of_nothing_accepted_nothing_is_drawn(warehouse: Any) -> None:
    run(warehouse)

    sample = draw_accepted(warehouse.session, warehouse.tables, "i1", 100)

    assert (list(sample.seqs), sample.population) == ([], 0)


# -- reading --------------------------------------------------------------------------------------------------


def test_changes_are_read_in_their_order_with_their_place(warehouse: Any) -> None:
    warehouse.change(("leave", "a", False), place=OLD)
    warehouse.change(("leave", "b", False), import_id="i2")
    later = [(3, "e"), (2, "d")]
    warehouse.insert(
        f"{warehouse.tables.change} (IMPORT_ID, SEQ, ACTION, PLACE, ID_KIND, USER_ID, HELD_OUT)",
        [("i1", seq, "enter", "partner_cohort:kubit", "device_id", user, False) for seq, user in later],
    )

    found = read_changes(warehouse.session, warehouse.tables, "i1", [2, 1, 7, 3])

    assert found == [
        SentChange(1, "leave", OLD, "external_id", "a"),
        SentChange(2, "enter", Place("partner_cohort", "kubit"), "device_id", "d"),
        SentChange(3, "enter", Place("partner_cohort", "kubit"), "device_id", "e"),
    ]


def test_more_than_one_statement_takes_are_read(warehouse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stays, "_PER_STATEMENT", 2)
    warehouse.change(*[("enter", f"u{n}", False) for n in range(1, 6)])

    found = read_changes(warehouse.session, warehouse.tables, "i1", range(1, 6))

    assert [change.seq for change in found] == [1, 2, 3, 4, 5]
    assert read_changes(warehouse.session, warehouse.tables, "i1", []) == []


# -- correcting -----------------------------------------------------------------------------------------------


def unmatched(warehouse: Any, *seqs: int) -> int:
    return unmatch(
        warehouse.session,
        warehouse.tables,
        key=warehouse.key,
        import_id="i1",
        run_id="run 1",
        seqs=seqs,
    )


def reported(warehouse: Any) -> list[tuple[Any, ...]]:
    rows = warehouse.session.rows(
        "SELECT WORKSPACE, COHORT_ID, IMPORT_ID, RUN_ID, SEQ, ACTION, PLACE, USER_ID, REASON "
        f"FROM {warehouse.tables.unmatched} ORDER BY SEQ"
    )
    return [tuple(row) for row in rows]


def test_whom_braze_does_not_know_was_never_in_but_may_be_once_it_learns_of_them(warehouse: Any) -> None:
    warehouse.change(("enter", "a", False), ("enter", "b", False), ("enter", "c", False))
    for user in ("a", "b", "c"):
        warehouse.stay(user, entered_import="i1")

    assert unmatched(warehouse, 1, 3) == 2

    assert warehouse.stays() == [("b", False, True)]
    assert warehouse.doubted() == ["a", "c"]
    assert reported(warehouse) == [
        (*warehouse.key, "i1", "run 1", seq, "enter", str(HERE), user, UNKNOWN_REASON)
        for seq, user in ((1, "a"), (3, "c"))
    ]


@pytest.mark.parametrize(
    "stay",
    [
        pytest.param({"entered_import": "i0"}, id="one-that-was-there-before"),
        pytest.param({"left_at": "2026-01-02 00:00:00"}, id="one-that-is-over"),
        pytest.param({"held": True}, id="one-held-out"),
        pytest.param({"place": str(OLD)}, id="at-another-place"),
        pytest.param({"kind": "braze_id"}, id="of-another-kind"),
        pytest.param({"workspace": "other"}, id="in-another-workspace"),
        pytest.param({"cohort_id": "other"}, id="in-another-cohort"),
    ],
)
def test_other_stays_of_the_same_text_are_left_alone(warehouse: Any, stay: dict[str, Any]) -> None:
    warehouse.change(("enter", "a", False))
    warehouse.stay("a", **{"entered_import": "i1", **stay})

    assert unmatched(warehouse, 1) == 0
    assert len(warehouse.stays()) == 1
    assert (warehouse.doubted(), reported(warehouse)) == ([], [])


def test_of_a_users_stays_only_this_imports_goes(warehouse: Any) -> None:
    warehouse.change(("enter", "a", False))
    warehouse.stay("a", entered_import="i1")
    warehouse.stay("a", left_at="2026-01-02 00:00:00", entered_import="i1")
    warehouse.stay("a", place=str(OLD), entered_import="i1")

    assert unmatched(warehouse, 1) == 1
    assert warehouse.stays() == [("a", False, False), ("a", False, True)]


def test_another_imports_users_under_the_same_numbers_are_left_alone(warehouse: Any) -> None:
    warehouse.change(("enter", "a", False))
    warehouse.change(("enter", "b", False), import_id="i2")
    warehouse.stay("b", entered_import="i1")

    assert unmatched(warehouse, 1) == 0
    assert warehouse.stays() == [("b", False, True)]


def test_all_who_were_taken_are_counted_over_all_statements(
    warehouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stays, "_PER_STATEMENT", 2)
    users = [f"u{n}" for n in range(1, 6)]
    warehouse.change(*[("enter", user, False) for user in users])
    for user in users:
        warehouse.stay(user, entered_import="i1")

    assert unmatched(warehouse, *range(1, 6)) == 5
    assert warehouse.stays() == []


def test_with_nobody_unknown_nothing_changes(warehouse: Any) -> None:
    warehouse.change(("enter", "a", False))
    warehouse.stay("a", entered_import="i1")

    assert unmatched(warehouse) == 0
    assert warehouse.stays() == [("a", False, True)]
