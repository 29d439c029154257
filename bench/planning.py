"""How long a plan takes, against the same join in bare DuckDB, which is also what the local Snowflake runs on.

Cohort and ledger have as many users, of whom none has changed, or one in a hundred has left and as many are new, or all
are new because nothing was imported before. The floor does the least that could be called a plan, in a database file
and with the threads of the other: it finds the distinct ids of one table, joins them with another table of ids, numbers
those that are in one alone, puts them into a third table, and counts them. The plan besides tells users apart by place
and kind of identifier, leaves out what is no id, minds doubts, refusals and those held out, counts all of it, and is
written in Snowflake's SQL, which the local Snowflake first has to translate: a fixed time, which tells with a million
members. Both end with a rollback, so that every round does the same.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb
import psutil  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.warehouse.plan import freeze_plan
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables
from bench.rows import over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.rows import Row
    from bench.sizes import Sizes

#: What both databases together were seen to take, with room to spare.
_BYTES_A_MEMBER: Final = 800

#: Larger cohorts are planned fewer times.
_MEMBERS_IN_ALL: Final = 30_000_000
_LEAST_ROUNDS: Final = 3

_FILLED, _EMPTY = Tables("KUBIT_BRAZE_FILLED"), Tables("KUBIT_BRAZE_EMPTY")
_PLACE: Final = Place("attribute", "kubit_cohort_bench")
_WORKSPACE, _COHORT = "bench", "bench"

# The ids of both tables are those from a first one on, in two orders that have nothing to do with each other.
_USER: Final = "'user-' || LPAD(CAST(MOD(N * {step}, {size}) + {first} AS VARCHAR), 9, '0')"
_SOURCE_STEP: Final = 7_919
_LEDGER_STEP: Final = 104_729

_FLOOR: Final = """
    INSERT INTO change
    SELECT row_number() OVER (ORDER BY action DESC, user_id), action, user_id FROM (
        SELECT CASE WHEN s.user_id IS NULL THEN 'enter' ELSE 'leave' END AS action,
            coalesce(m.user_id, s.user_id) AS user_id
        FROM (SELECT DISTINCT user_id FROM {source}) m FULL OUTER JOIN {stays} s ON m.user_id = s.user_id
        WHERE m.user_id IS NULL OR s.user_id IS NULL
    )
"""


@dataclass(frozen=True)
class _Change:
    """One of the three cohorts.

    :param name: as the page calls it.
    :param share: users who have left, and as many new ones, of all.
    :param first: nothing was imported before.
    """

    name: str
    share: float = 0.0
    first: bool = False

    @property
    def source(self) -> str:
        """Its table."""
        return "MOVED" if self.share else "SAME"

    def counts(self, size: int) -> dict[str, int]:
        """Return how many enter and leave."""
        moved = round(size * self.share)
        return {"enter": size if self.first else moved, "leave": moved}


_CHANGES: Final = (_Change("no change"), _Change("1 % change", 0.01), _Change("first import", first=True))


def planning(sizes: Sizes) -> Iterator[Row]:
    """Plan cohorts of a tenth of the size, of the size and, where memory allows, of five times the size."""
    for size in (sizes.planned // 10, sizes.planned, sizes.planned * 5):
        if size > sizes.planned and (reason := _too_large(size)):
            print(f"  {_members(size)} are not planned: {reason}", file=sys.stderr)
            continue
        rounds = max(_LEAST_ROUNDS, min(sizes.rounds, _MEMBERS_IN_ALL // size))
        with _snowflake(size) as snowflake, _bare(size) as floor:
            for change in _CHANGES:
                yield from _rows(
                    f"{_members(size)}, {change.name}",
                    lambda change=change: snowflake.plan(change),  # type: ignore[misc]
                    lambda change=change: floor.plan(change),  # type: ignore[misc]
                    cpu=snowflake.cpu,
                    rounds=rounds,
                    most=2.0 if size == sizes.planned and change.share else None,
                )


def _rows(
    what: str,
    subject: Callable[[], None],
    floor: Callable[[], None],
    *,
    cpu: Callable[[], float],
    rounds: int,
    most: float | None,
) -> Iterator[Row]:
    subject()
    floor()
    costs = [(_cost(subject, cpu), _cost(floor, cpu)) for _ in range(rounds)]
    for index, clock in enumerate(("time", "CPU")):
        yield over(
            [ours[index] / bare[index] for ours, bare in costs],
            f"{clock} of a plan, {what}",
            "the same join in bare DuckDB",
            most=most,
        )


def _cost(call: Callable[[], None], cpu: Callable[[], float]) -> tuple[float, float]:
    started, used = time.perf_counter(), cpu()
    call()
    return time.perf_counter() - started, cpu() - used


class _Snowflake:
    """The local Snowflake with the cohorts of one size.

    :param session: an open session.
    :param process: the local Snowflake's.
    """

    def __init__(self, session: Session, process: psutil.Process, size: int) -> None:
        self._session, self._process, self._size = session, process, size

    def fill(self) -> None:
        """Make the cohorts' tables and the ledger, with statements that each write all of a table."""
        for tables in (_FILLED, _EMPTY):
            ensure_tables(self._session, tables)
        numbers = f"(SELECT SEQ4() AS N FROM TABLE(GENERATOR(ROWCOUNT => {self._size}))) n"
        for change in {change.source: change for change in _CHANGES}.values():
            first = change.counts(self._size)["leave"]
            user = _USER.format(step=_SOURCE_STEP, size=self._size, first=first)
            self._session.execute(
                f"CREATE TABLE PUBLIC.{change.source} AS SELECT {user} AS USER_ID FROM {numbers}"
            )
        user = _USER.format(step=_LEDGER_STEP, size=self._size, first=0)
        self._session.execute(
            f"INSERT INTO {_FILLED.membership} "
            "(WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, ENTERED_AT, ENTERED_RUN, ENTERED_IMPORT, HELD_OUT) "
            f"SELECT %s, %s, %s, 'external_id', {user}, SYSDATE(), 'before', 'before', FALSE FROM {numbers}",
            (_WORKSPACE, _COHORT, str(_PLACE)),
        )

    def plan(self, change: _Change) -> None:
        """Freeze a plan and forget it."""
        cohort = Cohort(
            id=_COHORT,
            source={"table": f"PUBLIC.{change.source}"},
            identifiers={"external_id": "USER_ID"},
        )
        self._session.execute("BEGIN")
        plan = freeze_plan(
            self._session,
            _EMPTY if change.first else _FILLED,
            cohort=cohort,
            workspace=_WORKSPACE,
            place=_PLACE,
            import_id="planned",
        )
        self._session.execute("ROLLBACK")
        _see({"enter": plan.enter, "leave": plan.leave}, change.counts(self._size))

    def cpu(self) -> float:
        """CPU seconds of this process, where the floor and the connector are, and of the local Snowflake's."""
        used = self._process.cpu_times()
        return time.process_time() + float(used.user + used.system)


class _Bare:
    """DuckDB with the ids of the same cohorts and of the ledger.

    :param database: a connection.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection, size: int) -> None:
        self._database, self._size = database, size

    def fill(self) -> None:
        """Make the tables."""
        tables = {change.source: (_SOURCE_STEP, change.counts(self._size)["leave"]) for change in _CHANGES}
        for table, (step, first) in {**tables, "stays": (_LEDGER_STEP, 0)}.items():
            user = _USER.format(step=step, size=self._size, first=first)
            self._database.execute(
                f"CREATE TABLE {table} AS SELECT {user} AS user_id FROM range({self._size}) t (N)"
            )
        self._database.execute("CREATE TABLE nobody (user_id VARCHAR)")
        self._database.execute("CREATE TABLE change (seq BIGINT, action VARCHAR, user_id VARCHAR)")

    def plan(self, change: _Change) -> None:
        """Find, number, insert and count the changes, and forget them."""
        self._database.execute("BEGIN")
        self._database.execute(
            _FLOOR.format(source=change.source, stays="nobody" if change.first else "stays")
        )
        found = self._database.execute("SELECT action, count(*) FROM change GROUP BY action").fetchall()
        self._database.execute("ROLLBACK")
        _see({"enter": 0, "leave": 0} | dict(found), change.counts(self._size))


@contextmanager
def _snowflake(size: int) -> Iterator[_Snowflake]:
    with Sandbox(services=("snowflake",)) as sandbox:
        session = Session(sandbox.connect(), tag={"app": "bench"})
        snowflake = _Snowflake(session, psutil.Process(sandbox.pids["snowflake"]), size)
        snowflake.fill()
        yield snowflake
        session.close()


@contextmanager
def _bare(size: int) -> Iterator[_Bare]:
    with (
        tempfile.TemporaryDirectory(prefix="kubit-braze-bench-") as folder,
        duckdb.connect(Path(folder) / "floor.db") as database,
    ):
        database.execute("SET enable_progress_bar = false")
        bare = _Bare(database, size)
        bare.fill()
        yield bare


def _members(size: int) -> str:
    return f"{size / 1e6:g} million members"


def _too_large(size: int) -> str | None:
    needed, there = size * _BYTES_A_MEMBER, psutil.virtual_memory().available
    if needed <= there:
        return None
    return f"they need some {needed / 1e9:.0f} GB of memory, of which {there / 1e9:.0f} GB are free"


def _see(found: dict[str, int], expected: dict[str, int]) -> None:
    if found != expected:
        raise RuntimeError(f"{found} were planned, and not {expected}")
