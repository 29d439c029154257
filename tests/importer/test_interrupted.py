"""Imports that do not come to their end, and who continues them: the same task's next try, or another run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.errors import OperationalError

from airflow_provider_kubit_braze.exceptions import PlanDamagedError
from airflow_provider_kubit_braze.sandbox.connections import (
    DATABASE,
    SCHEMA,
    SNOWFLAKE_ACCOUNT,
    SNOWFLAKE_PASSWORD,
    SNOWFLAKE_USER,
)
from tests.importer.test_killed_anywhere import time_passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ATTRIBUTE = "kubit_cohort_vips"
KEY = "a-key-nobody-may-ever-see-4711"

# Of 30 requests ten are answered; eight are under way, applied by Braze and not answered; twelve are not sent.
USERS = [f"u{n:03}" for n in range(300)]
BRAZE = {"max_objects_per_request": 10, "max_in_flight": 8}
ANSWERED, UNDER_WAY = 10, 8
GUARDS = {"max_removed": None}


class Killed:
    """An import in a process of its own that has come to a stand half-way.

    ``recorded`` is what the progress says, ``sent`` what only Braze knows about, ``unsent`` the rest.
    """

    def __init__(self, world: Any, process: subprocess.Popen[bytes]) -> None:
        self.world = world
        self.process = process

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=120)
        self.world.braze.clear_faults()
        self.world.braze.settle()
        return code

    @property
    def recorded(self) -> set[str]:
        tables = self.world.tables
        rows = self.world.session.rows(
            f"SELECT c.USER_ID FROM {tables.change} c INNER JOIN {tables.progress} p "
            "ON c.IMPORT_ID = p.IMPORT_ID AND c.SEQ BETWEEN p.FIRST_SEQ AND p.LAST_SEQ WHERE p.STATUS = 'settled'"
        )
        assert len(rows) == len(set(rows))
        return {user for (user,) in rows}

    @property
    def sent(self) -> set[str]:
        return {found["external_id"] for found in self.world.written()} - self.recorded

    @property
    def unsent(self) -> set[str]:
        return set(USERS) - self.recorded - self.sent


@pytest.fixture
def half_way(
    world: Any, project: Path, tmp_path: Path, wait_until: Callable[..., Any], request: pytest.FixtureRequest
) -> Iterator[Killed]:
    """A process that stands half-way through the first import of ``USERS``.

    What was answered is recorded, unless the test asks for an import that hardly ever records.
    """
    record_every: float | None = getattr(request, "param", None)
    world.people(*USERS)
    world.braze.fault("delay", "/users/track", seconds=3600, after=ANSWERED, times=None)
    settings = {
        "base_url": world.sandbox.braze_url,
        "rest_key": KEY,
        "workspace": "workspace",
        "timeout": 600,
    }
    order = {
        "cohort": world.fields,
        "settings": {**settings, **BRAZE},
        "schema": world.schema,
        "run_id": "run 1",
        "record_every": record_every,
        # However long the machine stands still, it is not lost; ``time_passes`` lets it expire.
        "lease_seconds": 600,
        "snowflake": {
            "user": SNOWFLAKE_USER,
            "password": SNOWFLAKE_PASSWORD,
            "account": SNOWFLAKE_ACCOUNT,
            "host": world.sandbox.snowflake_host,
            "port": world.sandbox.snowflake_port,
            "database": DATABASE,
            "schema": SCHEMA,
        },
    }
    script = Path(__file__).parent / "killed_import.py"
    log = (tmp_path / "import.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, str(script), json.dumps(order)],
        env={**os.environ, **world.sandbox.env(), "PYTHONPATH": str(project)},
        stdout=log,
        stderr=log,
    )
    killed = Killed(world, process)

    def stands() -> bool:
        assert process.poll() is None, (tmp_path / "import.log").read_text()
        # The last of these went out when the last of those answered had its verdict.
        if world.braze.counters().requests.get("/users/track", 0) < ANSWERED + UNDER_WAY:
            return False
        return bool(record_every) or len(killed.recorded) == ANSWERED * 10

    wait_until(stands, "import that stands half-way")
    yield killed
    process.kill()
    process.wait(timeout=120)
    log.close()


def assert_all_is_right(world: Any, members: set[str], left: set[str]) -> None:
    """Braze and the ledger both hold exactly the cohort, and nothing is open."""
    assert world.cohort_in_braze() == world.users() == members
    assert world.braze.left(ATTRIBUTE) == left
    assert world.rows("unknown") == []
    assert world.rows("run", "RUN_ID", "STATE <> 'closed'") == []


def test_after_kill_9_the_next_try_continues_the_same_plan(half_way: Killed) -> None:
    world = half_way.world
    assert half_way.end(signal.SIGKILL) == -signal.SIGKILL
    recorded, sent, unsent = half_way.recorded, half_way.sent, half_way.unsent
    assert (len(recorded), len(sent), len(unsent)) == (100, 80, 120)
    assert world.users() == set()
    written = len(world.written())
    # A plan is frozen: the next try does not look at the source.
    world.source("somebody else")

    result = world.imported("run 1", 2, braze=BRAZE)

    assert {found["external_id"] for found in world.written()[written:]} == sent | unsent
    assert len(world.written()) == written + len(sent | unsent)
    assert (result.outcome, result.added, result.members, result.users_imported) == ("success", 300, 300, 300)
    assert (result.requests, result.data_points) == (30, 300)
    assert_all_is_right(world, set(USERS), set())
    assert world.rows("run", "RUN_ID, TRY_NUMBER, OUTCOME, ADDED") == [("run 1", 2, "success", 300)]


def test_after_kill_9_another_run_puts_right_whoever_came_and_went_meanwhile(half_way: Killed) -> None:
    world = half_way.world
    assert half_way.end(signal.SIGKILL) == -signal.SIGKILL
    recorded, sent, unsent = sorted(half_way.recorded), sorted(half_way.sent), sorted(half_way.unsent)
    gone = {recorded[0], sent[0], unsent[0]}
    world.braze.add_users(["new"])
    members = (set(USERS) - gone) | {"new"}
    world.source(*sorted(members))
    written = len(world.written())

    time_passes(world)
    result = world.imported("run 2", guards=GUARDS)

    after = {found["external_id"]: found[ATTRIBUTE] for found in world.written()[written:]}
    assert {user for user, value in after.items() if not value} == gone
    assert {user for user, value in after.items() if value} == (set(sent) | set(unsent) | {"new"}) - gone
    assert (result.outcome, result.users_imported, result.members) == ("success", 298, 298)
    assert_all_is_right(world, members, gone)
    columns = "RUN_ID, OUTCOME, ADDED, UNKNOWN, ERROR"
    assert sorted(world.rows("run", columns)) == [
        ("run 1", "failed", 100, 200, "The import died; a later one took over."),
        ("run 2", "success", result.added, 0, None),
    ]
    stays = world.rows("membership", "ENTERED_RUN, LEFT_RUN", f"USER_ID = '{recorded[0]}'")
    assert stays == [("run 1", "run 2")]
    requests = world.braze.counters().write_requests
    assert world.imported("run 3").outcome == "unchanged"
    assert world.braze.counters().write_requests == requests


def test_a_dry_run_leaves_an_interrupted_import_to_those_it_concerns(half_way: Killed) -> None:
    world = half_way.world
    half_way.end(signal.SIGKILL)
    before, written = world.state("run"), len(world.written())

    result = world.imported("run 2", dry_run=True)

    assert (result.outcome, world.state("run"), len(world.written())) == ("dry_run", before, written)
    assert world.imported("run 1", 2).outcome == "success"
    assert_all_is_right(world, set(USERS), set())


@pytest.mark.parametrize("half_way", [3600.0], indirect=True, ids=["nothing-recorded-yet"])
def test_an_import_that_is_terminated_writes_down_what_braze_has_accepted(half_way: Killed) -> None:
    world = half_way.world
    assert half_way.recorded == set()

    assert half_way.end(signal.SIGTERM) == 143

    assert len(half_way.recorded) == ANSWERED * 10
    assert world.rows("run", "STATE") == [("sending",)]
    assert world.rows("progress", "MAX(REQUESTS), MAX(DATA_POINTS)") == [(10, world.points)]
    assert world.imported("run 1", 2).outcome == "success"
    assert_all_is_right(world, set(USERS), set())


def test_a_failure_between_two_records_loses_nothing(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.people(*USERS)
    # Nothing is recorded on the way, so all that is known is what the end writes down.
    monkeypatch.setattr("airflow_provider_kubit_braze.delivery.RECORD_EVERY", 3600.0)
    world.braze.fault("status", "/users/track", status=401, after=12, times=None)

    end = world.run(braze={"max_objects_per_request": 10, "max_in_flight": 1})

    assert end.result.added == 120
    assert len(world.users()) == 120


@pytest.fixture
def paused(world: Any) -> Any:
    """The world after an import of which Braze accepted two requests, lost the answer of one, and failed."""
    world.people("a", "b", "c", "d", "e")
    world.braze.fault("drop_after", "/users/track", after=2, times=None)
    end = world.run("run 1", braze={"max_objects_per_request": 1, "max_in_flight": 1})
    assert (end.result.outcome, end.result.added, end.result.unknown) == ("failed", 2, 1)
    assert end.retry_helps
    world.braze.clear_faults()
    assert world.cohort_in_braze() == {"a", "b", "c"}
    assert world.users() == {"a", "b"}
    return world


def test_another_run_sends_those_in_doubt_what_is_right_by_then(paused: Any) -> None:
    paused.source("a", "d", "e")

    result = paused.imported("run 2", guards=GUARDS)

    assert (result.added, result.removed) == (2, 2)
    assert_all_is_right(paused, {"a", "d", "e"}, {"b", "c"})


def test_an_abandoned_import_does_not_doubt_those_it_never_sent(paused: Any) -> None:
    paused.source("a", "b", "c", "d")
    written = len(paused.written())

    paused.imported("run 2")

    assert {found["external_id"] for found in paused.written()[written:]} == {"c", "d"}
    assert_all_is_right(paused, {"a", "b", "c", "d"}, set())


def test_a_try_that_fails_again_goes_on_doubting(paused: Any) -> None:
    paused.braze.fault("status", "/users/track", status=401, times=None)
    end = paused.run("run 1", 2, braze={"max_objects_per_request": 1, "max_in_flight": 1})
    assert end.result.outcome == "failed"
    paused.braze.clear_faults()
    paused.source("a", "b")

    paused.imported("run 2", guards=GUARDS)

    assert_all_is_right(paused, {"a", "b"}, {"c"})


def test_after_kill_9_a_try_that_fails_goes_on_doubting_what_the_dead_one_may_have_sent(
    half_way: Killed,
) -> None:
    world = half_way.world
    half_way.end(signal.SIGKILL)
    gone = {sorted(half_way.recorded)[0], sorted(half_way.sent)[0]}
    world.braze.fault("status", "/users/track", status=401, times=None)
    assert world.run("run 1", 2, braze=BRAZE).result.outcome == "failed"
    world.braze.clear_faults()
    world.source(*sorted(set(USERS) - gone))

    world.imported("run 2", guards=GUARDS)

    assert gone <= world.braze.left(ATTRIBUTE)
    assert_all_is_right(world, set(USERS) - gone, world.braze.left(ATTRIBUTE))


def test_several_open_imports_are_closed_oldest_first(paused: Any) -> None:
    # As a dry run leaves one that was killed before it could take its plan back.
    paused.session.execute(
        f"INSERT INTO {paused.tables.run} (IMPORT_ID, WORKSPACE, COHORT_ID, RUN_ID, DAG_ID, TASK_ID, MAP_INDEX, "
        "TRY_NUMBER, STATE, STARTED_AT, MEMBERS, USERS_BEFORE, TO_ENTER, TO_LEAVE, TO_REFRESH, TO_NOTE, HELD_OUT, "
        "DUPLICATES, INVALID) SELECT 'later', 'workspace', 'vips', 'dry', 'd', 't', -1, 1, 'planned', "
        "CAST('2099-01-01 00:00:00' AS TIMESTAMP_NTZ), 0, 0, 0, 0, 0, 0, 0, 0, 0"
    )
    paused.source("a", "b", "d")

    paused.imported("run 2", guards=GUARDS)

    assert_all_is_right(paused, {"a", "b", "d"}, {"c"})


@pytest.mark.parametrize(
    ("damage", "members"),
    [
        # "c" may be in Braze, and has left by the time of the new plan.
        pytest.param("SEQ = 4", {"a", "b", "d", "e"}, id="a-hole"),
        pytest.param("TRUE", {"a", "b", "c", "d", "e"}, id="all-of-it"),
    ],
)
def test_a_damaged_plan_is_given_up_and_the_next_try_makes_another(
    paused: Any, damage: str, members: set[str]
) -> None:
    paused.session.execute(f"DELETE FROM {paused.tables.change} WHERE {damage}")
    written = len(paused.written())

    end = paused.run("run 1", 2)

    assert isinstance(end.error, PlanDamagedError)
    assert "is damaged near number" in str(end.error)
    assert (end.retry_helps, end.result.outcome) == (True, "failed")
    assert paused.rows("run", "STATE, OUTCOME") == [("closed", "failed")]
    assert len(paused.written()) == written
    assert paused.users() == {"a", "b"}
    paused.source(*sorted(members))

    assert paused.imported("run 1", 3, guards=GUARDS).outcome == "success"
    assert_all_is_right(paused, members, set("abcde") - members)


class Unwilling:
    """A connection that breaks at statements on some table once it is told to."""

    def __init__(self, inner: Any, table: str) -> None:
        self._inner = inner
        self._table = table
        self.close = inner.close

    def cursor(self) -> Any:
        cursor = self._inner.cursor()
        execute = cursor.execute

        def unwilling(sql: str, params: Any = None) -> None:
            if self._table in sql:
                raise OperationalError(msg="Connection reset", errno=250003, send_telemetry=False)
            execute(sql, params)

        cursor.execute = unwilling
        return cursor


def test_what_braze_accepted_is_kept_though_the_session_that_records_it_broke(world: Any) -> None:
    world.people("a", "b", "c")
    connections = iter((world.sandbox.connect(), Unwilling(world.sandbox.connect(), "IMPORT_PROGRESS")))

    end = world.run("run 1", connect=lambda: next(connections))

    assert isinstance(end.error, OperationalError)
    assert (end.result.outcome, end.retry_helps) == ("failed", True)
    assert world.users() == world.cohort_in_braze() == {"a", "b", "c"}
    # Nobody is left out, should another run come that has one member less.
    world.source("a", "b")
    world.imported("run 2", guards=GUARDS)
    assert_all_is_right(world, {"a", "b"}, {"c"})


def test_an_import_that_sent_less_than_it_planned_is_no_success(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.people("a", "b", "c")
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_kubit_braze.delivery.into_requests", lambda pieces, **_: iter(()))
        end = world.run("run 1")

    assert str(end.error) == "3 changes were neither answered nor given up; a retry sends them."
    assert (end.result.outcome, end.retry_helps, world.users()) == ("failed", True, set())
    assert world.imported("run 1", 2).added == 3
    assert_all_is_right(world, {"a", "b", "c"}, set())


def test_an_import_that_cannot_write_at_all_is_one_that_died(world: Any) -> None:
    world.people("a", "b", "c", "d")
    connections = iter(
        (
            Unwilling(world.sandbox.connect(), "INTO " + world.tables.progress),
            Unwilling(world.sandbox.connect(), "IMPORT_PROGRESS"),
        )
    )

    with pytest.raises(OperationalError):
        world.run("run 1", connect=lambda: next(connections))

    world.braze.settle()
    assert world.cohort_in_braze() == {"a", "b", "c", "d"}
    world.source("a", "b", "c")
    world.imported("run 2")
    assert_all_is_right(world, {"a", "b", "c"}, {"d"})
