"""The ledger: what Braze accepted, import by import.

An import goes through these states: ``planned`` (its plan is frozen, nothing was sent), ``sending``, ``paused``
(stopped in good order, so that what is uncertain is written down) and ``closed``. Found open by a later task, a
``sending`` import is one that died: whatever has no verdict may have been sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_kubit_braze.core.journal import Counters, Entries
from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.ranges import Range, count, gaps, merge
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.warehouse.stays import (
    apply_changes,
    chunks,
    count_by_action,
    count_users,
    doubt_users,
    utc_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.core.report import ImportResult
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

State = Literal["planned", "sending", "paused", "closed"]

_PLAN_COLUMNS: Final = (
    "IMPORT_ID, MEMBERS, IN_BRAZE, TO_ENTER, TO_LEAVE, TO_REFRESH, TO_NOTE, HELD_OUT, DUPLICATES, INVALID"
)


@dataclass(frozen=True, kw_only=True)
class OpenImport:
    """An import whose plan is not closed yet.

    :param plan: its frozen plan.
    :param state: how far it came.
    :param identity: the task instance it belongs to.
    :param started_at: when its first try began, UTC.
    :param counters: what its earlier tries cost.
    """

    plan: Plan
    state: State
    identity: RunIdentity
    started_at: datetime
    counters: Counters


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What the ledger says about an import and its cohort.

    :param added: entrants that Braze accepted.
    :param removed: leavers that Braze accepted.
    :param rejected: changes that Braze refused.
    :param unknown: changes without a certain answer.
    :param users_imported: users now in the cohort in Braze.
    """

    added: int
    removed: int
    rejected: int
    unknown: int
    users_imported: int


class Ledger:
    """The state tables as seen by one cohort in one workspace.

    :param session: a Snowflake session used by nobody else meanwhile.
    :param tables: names of the state tables.
    :param workspace: key of the Braze workspace.
    :param cohort_id: the cohort.
    """

    def __init__(self, session: Session, tables: Tables, *, workspace: str, cohort_id: str) -> None:
        self._session = session
        self._tables = tables
        self._key = (workspace, cohort_id)

    def open_imports(self) -> list[OpenImport]:
        """Return the imports that were begun and not closed, oldest first. More than one is rare."""
        rows = self._session.rows(
            f"SELECT {_PLAN_COLUMNS}, STATE, DAG_ID, RUN_ID, TASK_ID, MAP_INDEX, TRY_NUMBER, STARTED_AT "
            f"FROM {self._tables.run} "
            "WHERE WORKSPACE = %s AND COHORT_ID = %s AND STATE <> 'closed' ORDER BY STARTED_AT",
            self._key,
        )
        return [self._open_import(row) for row in rows]

    def _open_import(self, row: tuple[Any, ...]) -> OpenImport:
        names = [name.strip().lower() for name in _PLAN_COLUMNS.split(",")]
        values = dict(zip(names, row, strict=False))
        state, dag_id, run_id, task_id, map_index, try_number, started_at = row[len(names) :]
        return OpenImport(
            plan=Plan(
                import_id=values["import_id"],
                members=int(values["members"]),
                in_braze=int(values["in_braze"]),
                enter=int(values["to_enter"]),
                leave=int(values["to_leave"]),
                refresh=int(values["to_refresh"]),
                quiet=int(values["to_note"]),
                held_out=int(values["held_out"]),
                duplicates=int(values["duplicates"]),
                invalid=int(values["invalid"]),
            ),
            state=state,
            identity=RunIdentity(
                dag_id=dag_id,
                run_id=run_id,
                task_id=task_id,
                map_index=int(map_index),
                try_number=int(try_number),
            ),
            started_at=started_at.replace(tzinfo=UTC),
            counters=self._spent(values["import_id"]),
        )

    def begin(self, plan: Plan, identity: RunIdentity, *, cohort_name: str, started_at: datetime) -> None:
        """Write the row of a new import, in the transaction that freezes its plan."""
        self._session.execute(
            f"INSERT INTO {self._tables.run} ({_PLAN_COLUMNS}, WORKSPACE, COHORT_ID, COHORT_NAME, "
            "DAG_ID, RUN_ID, TASK_ID, MAP_INDEX, TRY_NUMBER, STATE, STARTED_AT) SELECT "
            "%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'planned', "
            "CAST(%s AS TIMESTAMP_NTZ)",
            (
                plan.import_id,
                plan.members,
                plan.in_braze,
                plan.enter,
                plan.leave,
                plan.refresh,
                plan.quiet,
                plan.held_out,
                plan.duplicates,
                plan.invalid,
                *self._key,
                cohort_name,
                identity.dag_id,
                identity.run_id,
                identity.task_id,
                identity.map_index,
                identity.try_number,
                utc_text(started_at),
            ),
        )

    def start_sending(self, plan: Plan, *, try_number: int) -> None:
        """Say that from now on requests may go out."""
        with self._session.transaction():
            (state,) = self._session.row(
                f"SELECT STATE FROM {self._tables.run} WHERE IMPORT_ID = %s", (plan.import_id,)
            )
            if state == "sending":
                # An earlier try died: until it is settled, any of this may have been sent.
                rest = gaps(self.settled(plan.import_id), plan.to_send)
                self._insert_ranges(plan.import_id, rest, "unknown")
            self._session.execute(
                f"UPDATE {self._tables.run} SET STATE = 'sending', TRY_NUMBER = %s WHERE IMPORT_ID = %s",
                (try_number, plan.import_id),
            )

    def settled(self, import_id: str) -> list[Range]:
        """Return the ranges of the plan that have their verdict."""
        return self._ranges(import_id, "settled")

    def doubtful(self, plan: Plan) -> list[Range]:
        """Return the ranges that some try sent, or may have sent, and that no later one has settled."""
        certain = gaps(self._ranges(plan.import_id, "unknown"), plan.to_send)
        return gaps([*self.settled(plan.import_id), *certain], plan.to_send)

    def record(self, import_id: str, entries: Entries, counters: Counters, *, identity: RunIdentity) -> None:
        """Write down what happened since the last time: ranges, rejections and costs, all or none.

        Only inserts: an update every few seconds would have the imports of twenty cohorts wait for each other, and
        Snowflake refuses a statement that finds twenty waiting for one table's lock (error 625).
        """
        t, now = self._tables, utc_text(datetime.now(UTC))
        with self._session.transaction():
            self._insert_ranges(import_id, entries.settled, "settled")
            for words in chunks(sorted(entries.rejected.items())):
                values = ", ".join(["(%s, %s)"] * len(words))
                self._session.execute(
                    f"INSERT INTO {t.rejected} (IMPORT_ID, WORKSPACE, COHORT_ID, RUN_ID, SEQ, ACTION, ID_KIND, "
                    "USER_ID, REASON, REJECTED_AT) SELECT c.IMPORT_ID, %s, %s, %s, c.SEQ, c.ACTION, c.ID_KIND, "
                    "c.USER_ID, w.REASON, CAST(%s AS TIMESTAMP_NTZ) "
                    f"FROM {t.change} c INNER JOIN (VALUES {values}) AS w (SEQ, REASON) ON c.SEQ = w.SEQ "
                    "WHERE c.IMPORT_ID = %s",
                    [*self._key, identity.run_id, now, *(v for pair in words for v in pair), import_id],
                )
            # An import that Braze refused outright has cost nothing; its result says how often it asked.
            if entries or counters.data_points:
                self._insert_spent(import_id, counters)

    def pause(self, plan: Plan, unknown: list[Range], *, run_id: str) -> None:
        """Commit what was accepted so far and write down what is uncertain, so that a later try goes on from here.

        Part of the caller's transaction, as are ``give_up`` and ``commit``; the state goes with the result.
        """
        self._apply(plan.import_id, self.settled(plan.import_id), run_id=run_id)
        self._insert_ranges(plan.import_id, unknown, "unknown")

    def give_up(self, plan: Plan, *, run_id: str) -> None:
        """Commit what was accepted of a plan that cannot be finished, and doubt all the rest."""
        settled = self.settled(plan.import_id)
        self._apply(plan.import_id, settled, run_id=run_id)
        self._doubt(plan.import_id, gaps(settled, plan.to_send))

    def abandon(self, found: OpenImport) -> None:
        """Close an import that nobody will continue: keep what was accepted, doubt what may have been sent."""
        import_id = found.plan.import_id
        with self._session.transaction():
            settled = self.settled(import_id)
            unknown = {
                "planned": [],
                "paused": self.doubtful(found.plan),
                "sending": gaps(settled, found.plan.to_send),
            }[found.state]
            self._apply(import_id, settled, run_id=found.identity.run_id)
            self._doubt(import_id, unknown)
            totals = self.totals(import_id, unknown)
            self._session.execute(
                f"UPDATE {self._tables.run} SET STATE = 'closed', OUTCOME = 'failed', "
                "USERS_IMPORTED = %s, ADDED = %s, REMOVED = %s, UNCHANGED = %s, REJECTED = %s, UNKNOWN = %s, "
                "DATA_POINTS = %s, REQUESTS = %s, RETRIES = %s, THROTTLED_SECONDS = %s, "
                "FINISHED_AT = COALESCE(FINISHED_AT, CAST(%s AS TIMESTAMP_NTZ)), "
                "ERROR = COALESCE(ERROR, 'The import died; a later one took over.') WHERE IMPORT_ID = %s",
                (
                    totals.users_imported,
                    totals.added,
                    totals.removed,
                    found.plan.unchanged,
                    totals.rejected,
                    totals.unknown,
                    found.counters.data_points,
                    found.counters.requests,
                    found.counters.retries,
                    found.counters.throttled_seconds,
                    utc_text(datetime.now(UTC)),
                    import_id,
                ),
            )

    def commit(self, plan: Plan, unknown: list[Range], *, run_id: str) -> None:
        """Make every accepted change a stay and note the uncertain ones."""
        quiet = [Range(plan.to_send + 1, plan.size)] if plan.quiet else []
        self._apply(plan.import_id, merge([*self.settled(plan.import_id), *quiet]), run_id=run_id)
        self._doubt(plan.import_id, unknown)

    def totals(self, import_id: str, unknown: list[Range]) -> Totals:
        """Count what the import has come to."""
        accepted = count_by_action(self._session, self._tables, import_id, self.settled(import_id))
        (rejected,) = self._session.row(
            f"SELECT COUNT(*) FROM {self._tables.rejected} WHERE IMPORT_ID = %s", (import_id,)
        )
        return Totals(
            added=accepted.get("enter", 0),
            removed=accepted.get("leave", 0),
            rejected=int(rejected),
            unknown=count(unknown),
            users_imported=self.users_imported(),
        )

    def write_result(self, import_id: str, result: ImportResult, *, state: State) -> None:
        """Write the result into the import's row."""
        columns = {
            name.upper(): value
            for name, value in result.to_dict().items()
            if name not in ("cohort_id", "cohort_name", "run_id", "started_at", "finished_at")
        }
        assignments = ", ".join(f"{name} = %s" for name in columns)
        self._session.execute(
            f"UPDATE {self._tables.run} SET {assignments}, STATE = %s, FINISHED_AT = CAST(%s AS TIMESTAMP_NTZ) "
            "WHERE IMPORT_ID = %s",
            [*columns.values(), state, utc_text(datetime.fromisoformat(result.finished_at)), import_id],
        )

    def drop_plan(self, import_id: str) -> None:
        """Forget the changes of a plan that will never be sent."""
        self._session.execute(f"DELETE FROM {self._tables.change} WHERE IMPORT_ID = %s", (import_id,))

    def users_imported(self) -> int:
        """Return how many users are in the cohort in Braze, as far as Braze accepted."""
        return count_users(self._session, self._tables, self._key)

    def _apply(self, import_id: str, settled: list[Range], *, run_id: str) -> None:
        apply_changes(
            self._session, self._tables, key=self._key, import_id=import_id, run_id=run_id, settled=settled
        )

    def _doubt(self, import_id: str, unknown: list[Range]) -> None:
        doubt_users(self._session, self._tables, key=self._key, import_id=import_id, unknown=unknown)

    def _ranges(self, import_id: str, status: str) -> list[Range]:
        rows = self._session.rows(
            f"SELECT FIRST_SEQ, LAST_SEQ FROM {self._tables.progress} WHERE IMPORT_ID = %s AND STATUS = %s",
            (import_id, status),
        )
        return merge((int(first), int(last)) for first, last in rows)

    def _insert_ranges(self, import_id: str, ranges: Sequence[Range], status: str) -> None:
        now = utc_text(datetime.now(UTC))
        for chunk in chunks(ranges):
            values = ", ".join(["(%s, %s, %s, %s, %s)"] * len(chunk))
            self._session.execute(
                f"INSERT INTO {self._tables.progress} (IMPORT_ID, FIRST_SEQ, LAST_SEQ, STATUS, RECORDED_AT) "
                f"VALUES {values}",
                [value for first, last in chunk for value in (import_id, first, last, status, now)],
            )

    def _insert_spent(self, import_id: str, counters: Counters) -> None:
        self._session.execute(
            f"INSERT INTO {self._tables.progress} "
            "(IMPORT_ID, STATUS, DATA_POINTS, REQUESTS, RETRIES, THROTTLED_SECONDS, RECORDED_AT) "
            "VALUES (%s, 'spent', %s, %s, %s, %s, %s)",
            (
                import_id,
                counters.data_points,
                counters.requests,
                counters.retries,
                counters.throttled_seconds,
                utc_text(datetime.now(UTC)),
            ),
        )

    def _spent(self, import_id: str) -> Counters:
        """Return what the import has cost as last recorded; each of the counters only ever grows."""
        columns = "DATA_POINTS, REQUESTS, RETRIES, THROTTLED_SECONDS"
        points, requests, retries, seconds = self._session.row(
            "SELECT MAX(DATA_POINTS), MAX(REQUESTS), MAX(RETRIES), MAX(THROTTLED_SECONDS) FROM ("
            f"SELECT {columns} FROM {self._tables.progress} WHERE IMPORT_ID = %s AND STATUS = 'spent' "
            f"UNION ALL SELECT {columns} FROM {self._tables.run} WHERE IMPORT_ID = %s) said",
            (import_id, import_id),
        )
        return Counters(
            data_points=int(points or 0),
            requests=int(requests or 0),
            retries=int(retries or 0),
            throttled_seconds=float(seconds or 0),
        )
