from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.journal import Counters, Entries
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.ranges import Range
from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.warehouse.ledger import Ledger, Totals

HERE = Place("attribute", "kubit_cohort_vips")
STARTED = datetime(2026, 3, 1, 9, 0, 0, 250_000, tzinfo=UTC)
IDENTITY = RunIdentity(dag_id="dag", run_id="it's run \\ 1", task_id="task", map_index=3, try_number=1)
COUNTERS = Counters(data_points=30, requests=4, retries=1, throttled_seconds=0.125)
COLUMNS = "STATE, OUTCOME, ADDED, REMOVED, UNCHANGED, REJECTED, UNKNOWN, USERS_IMPORTED, ERROR"


def ledger_of(warehouse: Any) -> Ledger:
    workspace, cohort_id = warehouse.key
    return Ledger(warehouse.session, warehouse.tables, workspace=workspace, cohort_id=cohort_id)


def plan(import_id: str = "i1", **counts: Any) -> Plan:
    return Plan(
        import_id=import_id, **{"members": 9, "in_braze": 2, "enter": 8, "leave": 1, "quiet": 1, **counts}
    )


def begin(warehouse: Any, import_id: str = "i1", *, started: datetime = STARTED, **counts: Any) -> Ledger:
    """Freeze a plan of one leaver, eight entrants and one member to be held out; u1 and in are in Braze."""
    ledger = ledger_of(warehouse)
    warehouse.stay("in")
    warehouse.stay("u1")
    users = (
        [("leave", "u1", False)] + [("enter", f"u{n}", False) for n in range(2, 10)] + [("hold", "h", True)]
    )
    warehouse.change(*users, import_id=import_id)
    with warehouse.session.transaction():
        ledger.begin(
            plan(import_id, **counts), IDENTITY, cohort_name="V.I.P.'s", place=HERE, started_at=started
        )
    return ledger


def record(ledger: Ledger, *ranges: tuple[int, int], rejected: dict[int, str] | None = None) -> None:
    entries = Entries(settled=tuple(Range(*found) for found in ranges), rejected=rejected or {})
    ledger.record("i1", entries, COUNTERS, identity=IDENTITY)


def still_in(warehouse: Any) -> set[str]:
    return {user for user, held, still in warehouse.stays() if still and not held}


def row(warehouse: Any, import_id: str = "i1") -> tuple[Any, ...]:
    found: tuple[Any, ...] = warehouse.session.row(
        f"SELECT {COLUMNS} FROM {warehouse.tables.run} WHERE IMPORT_ID = %s", (import_id,)
    )
    return found


def result(outcome: Any = "success", **figures: Any) -> ImportResult:
    return ImportResult(
        **{
            "cohort_id": "vips",
            "cohort_name": "V.I.P.'s",
            "run_id": IDENTITY.run_id,
            "outcome": outcome,
            "members": 9,
            "finished_at": "2026-03-01T09:01:00.5+00:00",
            **figures,
        }
    )


def test_an_import_is_found_again_as_it_was_begun(warehouse: Any) -> None:
    counts: dict[str, Any] = {
        "refresh": 4,
        "held_out": 1,
        "duplicates": 2,
        "invalid": 3,
        "in_doubt": 5,
        "set_aside": 6,
        "unmatched": 7,
        "elsewhere": 8,
    }
    ledger = begin(warehouse, **counts)

    (found,) = ledger.open_imports()

    assert found.plan == plan(**counts)
    assert (found.state, found.identity, found.started_at) == ("planned", IDENTITY, STARTED)
    assert found.counters == Counters()


def test_open_imports_are_those_of_this_cohort_oldest_first(warehouse: Any) -> None:
    ledger = begin(warehouse, "later")
    begin(warehouse, "earlier", started=datetime(2026, 2, 1, tzinfo=UTC))
    begin(warehouse, "closed")
    ledger.write_result("closed", result(), state="closed")
    other = Ledger(warehouse.session, warehouse.tables, workspace="workspace", cohort_id="other")
    other.begin(plan("other"), IDENTITY, cohort_name="Other", place=HERE, started_at=STARTED)

    assert [found.plan.import_id for found in ledger.open_imports()] == ["earlier", "later"]
    assert [found.plan.import_id for found in other.open_imports()] == ["other"]


def test_what_was_recorded_is_known_to_whoever_continues(warehouse: Any) -> None:
    ledger = begin(warehouse)
    ledger.start_sending(plan(), try_number=2)

    record(ledger, (1, 2), (5, 5), rejected={5: "it's 100% \\ bad"})
    record(ledger, (3, 3), (8, 9), rejected={9: "blocked"})

    assert ledger.settled("i1") == [Range(1, 3), Range(5, 5), Range(8, 9)]
    (found,) = ledger.open_imports()
    assert (found.state, found.identity.try_number, found.counters) == ("sending", 2, COUNTERS)
    columns = "IMPORT_ID, WORKSPACE, COHORT_ID, RUN_ID, SEQ, ACTION, ID_KIND, USER_ID, REASON"
    assert warehouse.session.rows(f"SELECT {columns} FROM {warehouse.tables.rejected} ORDER BY SEQ") == [
        ("i1", *warehouse.key, IDENTITY.run_id, 5, "enter", "external_id", "u5", "it's 100% \\ bad"),
        ("i1", *warehouse.key, IDENTITY.run_id, 9, "enter", "external_id", "u9", "blocked"),
    ]


def test_more_rejections_than_one_statement_takes_are_all_written(warehouse: Any) -> None:
    ledger = ledger_of(warehouse)
    warehouse.change(*[("enter", f"u{n}", False) for n in range(1, 702)])
    ledger.begin(plan(), IDENTITY, cohort_name="V", place=HERE, started_at=STARTED)

    record(ledger, (1, 701), rejected={n: f"reason {n}" for n in range(1, 702)})

    rows = warehouse.session.rows(f"SELECT USER_ID, REASON FROM {warehouse.tables.rejected} ORDER BY SEQ")
    assert rows == [(f"u{n}", f"reason {n}") for n in range(1, 702)]


def test_recording_never_updates_a_table_that_other_imports_want_to_update_too(
    warehouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begin(warehouse)
    execute = warehouse.session.execute
    said: list[str] = []

    def listening(sql: str, params: Any = None) -> Any:
        said.append(sql)
        return execute(sql, params)

    monkeypatch.setattr(warehouse.session, "execute", listening)

    record(ledger, (1, 3), rejected={2: "no"})

    assert {sql.split()[0] for sql in said} == {"BEGIN", "INSERT", "COMMIT"}


def test_nothing_is_recorded_by_halves(warehouse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = begin(warehouse)
    execute = warehouse.session.execute

    def failing(sql: str, params: Any = None) -> Any:
        if "THROTTLED_SECONDS" in sql:
            raise OSError("gone")
        return execute(sql, params)

    monkeypatch.setattr(warehouse.session, "execute", failing)
    with pytest.raises(OSError, match="gone"):
        record(ledger, (1, 3), rejected={2: "no"})
    monkeypatch.undo()

    assert ledger.settled("i1") == []
    assert warehouse.session.rows(f"SELECT SEQ FROM {warehouse.tables.rejected}") == []


def test_the_commit_makes_stays_of_what_was_accepted_and_of_what_concerns_the_ledger_alone(
    warehouse: Any,
) -> None:
    ledger = begin(warehouse)
    record(ledger, (1, 5), (8, 9), rejected={3: "no"})

    with warehouse.session.transaction():
        ledger.commit(plan(), [Range(6, 6)], run_id="run 1")

    assert still_in(warehouse) == {"in", "u2", "u4", "u5", "u8", "u9"}
    assert ("h", True, True) in warehouse.stays()
    assert ("u1", False, False) in warehouse.stays()
    assert warehouse.doubted() == ["u6"]
    assert ledger.totals("i1", [Range(6, 6)]) == Totals(
        added=5, removed=1, rejected=1, unknown=1, users_imported=6
    )


def test_a_pause_keeps_what_was_accepted_and_names_what_is_uncertain(warehouse: Any) -> None:
    ledger = begin(warehouse)
    ledger.start_sending(plan(), try_number=1)
    record(ledger, (1, 3))

    ledger.pause(plan(), [Range(4, 5)], run_id="run 1")
    ledger.write_result("i1", result("failed", error="no"), state="paused")

    assert still_in(warehouse) == {"in", "u2", "u3"}
    assert warehouse.doubted() == []
    (found,) = ledger.open_imports()
    assert (found.state, ledger.settled("i1")) == ("paused", [Range(1, 3)])


@pytest.mark.parametrize(
    ("state", "doubted"),
    [
        pytest.param("planned", [], id="nothing-was-sent"),
        pytest.param("sending", ["u4", "u5", "u6", "u7", "u8", "u9"], id="anything-may-have-been-sent"),
        pytest.param("paused", ["u4", "u5"], id="what-is-uncertain-is-known"),
    ],
)
def test_an_abandoned_import_keeps_what_was_accepted_and_doubts_what_may_have_been_sent(
    warehouse: Any, state: str, doubted: list[str]
) -> None:
    ledger = begin(warehouse)
    if state != "planned":
        ledger.start_sending(plan(), try_number=1)
        record(ledger, (1, 3), rejected={3: "no"})
    if state == "paused":
        ledger.pause(plan(), [Range(4, 5)], run_id=IDENTITY.run_id)
        ledger.write_result("i1", result("failed", error="Braze is down."), state="paused")
    (found,) = ledger.open_imports()

    ledger.abandon(found)

    assert still_in(warehouse) == ({"in", "u1"} if state == "planned" else {"in", "u2"})
    assert warehouse.doubted() == doubted
    assert ledger.open_imports() == []
    why = "Braze is down." if state == "paused" else "The import died; a later one took over."
    done = (0, 0, 1, 0) if state == "planned" else (1, 1, 1, 1)
    assert row(warehouse) == ("closed", "failed", *done, len(doubted), 2, why)
    runs = f"SELECT DISTINCT LEFT_RUN FROM {warehouse.tables.membership} WHERE LEFT_RUN IS NOT NULL"
    assert warehouse.session.rows(runs) == ([] if state == "planned" else [(IDENTITY.run_id,)])


@pytest.mark.parametrize("died", [False, True], ids=["paused", "died"])
def test_what_an_earlier_try_may_have_sent_is_doubted_until_a_later_one_settles_it(
    warehouse: Any, died: bool
) -> None:
    ledger = begin(warehouse)
    ledger.start_sending(plan(), try_number=1)
    record(ledger, (1, 3))
    if not died:
        ledger.pause(plan(), [Range(4, 6)], run_id="run 1")
        ledger.write_result("i1", result("failed"), state="paused")
    ledger.start_sending(plan(), try_number=2)
    record(ledger, (4, 4), (9, 9))

    ledger.pause(plan(), [Range(7, 7)], run_id="run 1")
    ledger.write_result("i1", result("failed"), state="paused")

    assert ledger.doubtful(plan()) == [Range(5, 8 if died else 7)]
    (found,) = ledger.open_imports()
    ledger.abandon(found)
    assert warehouse.doubted() == ["u5", "u6", "u7", *(["u8"] if died else [])]


def test_a_plan_that_cannot_be_finished_is_doubted_but_for_what_was_accepted(warehouse: Any) -> None:
    ledger = begin(warehouse)
    record(ledger, (1, 6))

    ledger.give_up(plan(), run_id="run 1")

    assert still_in(warehouse) == {"in", "u2", "u3", "u4", "u5", "u6"}
    assert warehouse.doubted() == ["u7", "u8", "u9"]


def test_the_result_is_written_into_the_row_of_the_import(warehouse: Any) -> None:
    ledger = begin(warehouse)
    begin(warehouse, "i2")

    given = result(
        "failed",
        members=9,
        users_imported=5,
        added=4,
        removed=3,
        unchanged=2,
        held_out=1,
        duplicates=6,
        invalid=7,
        rejected=8,
        unknown=10,
        data_points=11,
        requests=12,
        retries=13,
        throttled_seconds=0.5,
        duration_seconds=60.25,
        set_aside=14,
        unmatched=15,
        purpose="undo",
        error="It's 100% \\ over.",
    )
    ledger.write_result("i1", given, state="closed")

    wanted = {k.upper(): v for k, v in given.to_dict().items() if not k.endswith("_at")}
    values = warehouse.session.row(
        f"SELECT {', '.join(wanted)}, STARTED_AT, FINISHED_AT, STATE FROM {warehouse.tables.run} "
        "WHERE IMPORT_ID = 'i1'"
    )
    assert values == (
        *wanted.values(),
        STARTED.replace(tzinfo=None),
        datetime(2026, 3, 1, 9, 1, 0, 500_000),
        "closed",
    )
    assert row(warehouse, "i2")[0] == "planned"


def test_a_plan_that_is_never_sent_is_forgotten(warehouse: Any) -> None:
    ledger = begin(warehouse)
    begin(warehouse, "i2")

    ledger.drop_plan("i1")

    assert (warehouse.changes("i1"), len(warehouse.changes("i2"))) == ([], 10)


@pytest.mark.parametrize(
    ("state", "days", "stays"),
    [
        pytest.param("closed", 31, False, id="ended long ago"),
        pytest.param("closed", 29, True, id="ended lately"),
        pytest.param("paused", 31, True, id="not ended"),
    ],
)
def test_plans_of_imports_that_ended_long_ago_are_removed(
    warehouse: Any, state: str, days: int, stays: bool
) -> None:
    ledger = begin(warehouse)
    record(ledger, (1, 9))
    warehouse.session.execute(
        f"UPDATE {warehouse.tables.run} SET STATE = %s, FINISHED_AT = DATEADD(day, -{days}, SYSDATE())",
        (state,),
    )

    ledger.prune()

    assert bool(warehouse.changes()) is stays
    assert bool(warehouse.session.rows(f"SELECT 1 FROM {warehouse.tables.progress}")) is stays
    assert len(warehouse.session.rows(f"SELECT 1 FROM {warehouse.tables.run}")) == 1


def test_plans_of_other_cohorts_are_none_of_ours(warehouse: Any) -> None:
    begin(warehouse)
    warehouse.session.execute(
        f"UPDATE {warehouse.tables.run} SET STATE = 'closed', FINISHED_AT = DATEADD(day, -31, SYSDATE())"
    )
    workspace, _ = warehouse.key

    Ledger(warehouse.session, warehouse.tables, workspace=workspace, cohort_id="others").prune()

    assert warehouse.changes()


def test_what_shards_cost_adds_up_but_for_the_time_that_they_waited_beside_each_other(warehouse: Any) -> None:
    begin(warehouse)
    workspace, cohort_id = warehouse.key
    for shard in (0, 1, 2):
        one = Ledger(
            warehouse.session, warehouse.tables, workspace=workspace, cohort_id=cohort_id, shard=shard
        )
        for times in (1, 2):
            costs = Counters(data_points=10 * times, requests=times, throttled_seconds=shard * times)
            one.record("i1", Entries(settled=(Range(1, 1),)), costs, identity=IDENTITY)

    [found] = ledger_of(warehouse).open_imports()

    assert found.counters == Counters(data_points=60, requests=6, throttled_seconds=4.0)
    assert ledger_of(warehouse).spent("i1", shard=1) == Counters(
        data_points=20, requests=2, throttled_seconds=2.0
    )


def test_the_result_of_a_closed_import_can_be_read_back(warehouse: Any) -> None:
    ledger = begin(warehouse)
    result = ImportResult(
        cohort_id=warehouse.key[1],
        cohort_name="V.I.P.'s",
        run_id=IDENTITY.run_id,
        outcome="partial",
        members=9,
        added=8,
        rejected=1,
        throttled_seconds=1.25,
        started_at=STARTED.isoformat(),
        finished_at=STARTED.isoformat(),
        rejected_reasons={"is … not valid": 1},
        verification={"sample": 3},
    )
    assert ledger.result("i1") is None
    ledger.write_result("i1", result, state="closed")

    assert ledger.result("i1") == result
