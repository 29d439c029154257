"""The ledger: what Braze accepted, import by import.

An import goes through these states: ``planned`` (its plan is frozen, nothing was sent), ``sending``, ``paused``
(stopped in good order, so that what is uncertain is written down) and ``closed``. Found open by a later task, a
``sending`` import is one that died: whatever has no verdict may have been sent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

from airflow_provider_kubit_braze.core.journal import Counters, Entries
from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.ranges import Range, count, gaps, merge, within
from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.warehouse.stays import (
    apply_changes,
    chunks,
    count_by_action,
    count_users,
    doubt_users,
    note_users,
    utc_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_kubit_braze.core.place import Place
    from airflow_provider_kubit_braze.warehouse.lease import Lease, Leases
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

State = Literal["planned", "sending", "paused", "closed"]

#: Days for which the plan of an import that has ended is kept, for whoever wants to look into it.
KEPT_DAYS: Final = 30

#: Of a shard: it may be sending, all of it was sent, or it stopped in good order before that.
ShardStatus = Literal["begun", "done", "stopped"]

_T = TypeVar("_T")

# Fields of Plan whose columns are named otherwise: the plain names are the result's.
_RENAMED: Final = {"enter": "TO_ENTER", "leave": "TO_LEAVE", "refresh": "TO_REFRESH", "quiet": "TO_NOTE"}
_PLAN: Final = {field.name: _RENAMED.get(field.name, field.name.upper()) for field in fields(Plan)}
_IDENTITY: Final = [field.name for field in fields(RunIdentity)]
_COSTS: Final = ["data_points", "requests", "retries", "throttled_seconds"]


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


class ShardState(NamedTuple):
    """What was last said of a shard.

    :param status: how far it came.
    :param note: why it stopped.
    """

    status: ShardStatus
    note: str | None


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
    :param lease: the right to change the ledger; None for one that is only read.
    :param shard: which part of an import its progress belongs to, from 1; 0 for what is no shard.
    """

    def __init__(
        self,
        session: Session,
        tables: Tables,
        *,
        workspace: str,
        cohort_id: str,
        lease: Lease | Leases | None = None,
        shard: int = 0,
    ) -> None:
        self._session = session
        self._tables = tables
        self._key = (workspace, cohort_id)
        self._lease = lease
        self._shard = shard
        self._sending: str | None = None

    def transact(self, work: Callable[[], _T]) -> _T:
        """Run ``work`` in a transaction that counts only while this import holds the cohort's lease.

        :raises LeaseLostError: when it does not, and then nothing was changed.
        """

        def fenced() -> _T:
            value = work()
            if self._lease is not None:
                self._lease.fence(self._session)
            return value

        return self._session.transact(fenced)

    def open_imports(self) -> list[OpenImport]:
        """Return the imports that were begun and not closed, oldest first. More than one is rare."""
        columns = [*_PLAN.values(), *map(str.upper, _IDENTITY), "STATE", "STARTED_AT"]
        rows = self._session.rows(
            f"SELECT {', '.join(columns)} FROM {self._tables.run} "
            "WHERE WORKSPACE = %s AND COHORT_ID = %s AND STATE <> 'closed' ORDER BY STARTED_AT",
            self._key,
        )
        return [self._open_import(dict(zip(columns, row, strict=True))) for row in rows]

    def _open_import(self, row: Mapping[str, Any]) -> OpenImport:
        def number(value: Any) -> Any:
            return value if isinstance(value, str) else int(value or 0)

        return OpenImport(
            plan=Plan(**{name: number(row[column]) for name, column in _PLAN.items()}),
            state=row["STATE"],
            identity=RunIdentity(**{name: number(row[name.upper()]) for name in _IDENTITY}),
            started_at=row["STARTED_AT"].replace(tzinfo=UTC),
            counters=self.spent(row["IMPORT_ID"]),
        )

    def begin(
        self,
        plan: Plan,
        identity: RunIdentity,
        *,
        cohort_name: str,
        place: Place,
        started_at: datetime,
        state: State = "planned",
        undone: str | None = None,
    ) -> None:
        """Write the row of a new import, in the transaction that freezes its plan."""
        workspace, cohort_id = self._key
        self._insert(
            self._tables.run,
            [
                {
                    **{column: getattr(plan, name) for name, column in _PLAN.items()},
                    **{name.upper(): value for name, value in asdict(identity).items()},
                    "WORKSPACE": workspace,
                    "COHORT_ID": cohort_id,
                    "COHORT_NAME": cohort_name,
                    "PLACE": str(place),
                    "STATE": state,
                    "UNDONE": undone,
                    "STARTED_AT": utc_text(started_at),
                }
            ],
        )

    def start_sending(self, plan: Plan, *, try_number: int) -> None:
        """Say that from now on requests may go out."""

        def start() -> None:
            self._sending = None
            self._doubt_a_dead_try(plan)
            self._session.execute(
                f"UPDATE {self._tables.run} SET STATE = 'sending', TRY_NUMBER = %s WHERE IMPORT_ID = %s",
                (try_number, plan.import_id),
            )

        self.transact(start)
        self._sending = plan.import_id

    def _doubt_a_dead_try(self, plan: Plan) -> None:
        """Note, when an earlier try died while sending, that any of what it has not settled may have been sent."""
        (state,) = self._session.row(
            f"SELECT STATE FROM {self._tables.run} WHERE IMPORT_ID = %s", (plan.import_id,)
        )
        if state == "sending" and self._sending != plan.import_id:
            rest = gaps(self.settled(plan.import_id), plan.to_send)
            self._insert_ranges(plan.import_id, rest, "unknown")

    # -- shards -------------------------------------------------------------------------------------------------

    def doubt(self, import_id: str, unknown: Sequence[Range]) -> None:
        """Note what got no certain answer, before others go on with the import."""
        self.transact(lambda: self._insert_ranges(import_id, unknown, "unknown"))

    def begin_shard(self, plan: Plan, ranges: Sequence[Range]) -> list[Range]:
        """Say that this shard may send from now on; return what of its ``ranges`` has its verdict already."""

        def begin() -> list[Range]:
            settled = self.settled(plan.import_id)
            state = self.shards(plan.import_id).get(self._shard)
            if state is not None and state.status == "begun":
                # Its last try died: whatever that has not settled may have been sent.
                self._insert_ranges(plan.import_id, _left(ranges, settled, plan), "unknown")
            self._mark("begun", plan.import_id)
            # It may have been paused: a shard was run again after the import had been committed without it.
            self._session.execute(
                f"UPDATE {self._tables.run} SET STATE = 'sending' WHERE IMPORT_ID = %s AND STATE = 'paused'",
                (plan.import_id,),
            )
            return settled

        return self.transact(begin)

    def end_shard(self, import_id: str, unknown: Sequence[Range], *, note: str | None = None) -> None:
        """Say that this shard sends no more.

        :param unknown: what got no certain answer.
        :param note: why not all of it was sent; None when all was.
        """

        def end() -> None:
            self._insert_ranges(import_id, unknown, "unknown")
            self._mark("done" if note is None else "stopped", import_id, note)

        self.transact(end)

    def _mark(self, status: ShardStatus, import_id: str, note: str | None = None) -> None:
        row = {
            "IMPORT_ID": import_id,
            "STATUS": status,
            "SHARD": self._shard,
            "NOTE": note,
            "RECORDED_AT": _now(),
        }
        self._insert(self._tables.progress, [row])

    def shards(self, import_id: str) -> dict[int, ShardState]:
        """Return what was last said of each shard that has begun."""
        rows = self._session.rows(
            f"SELECT SHARD, STATUS, NOTE FROM {self._tables.progress} WHERE IMPORT_ID = %s "
            "AND STATUS IN ('begun', 'done', 'stopped') ORDER BY RECORDED_AT",
            (import_id,),
        )
        return {int(shard): ShardState(status, note) for shard, status, note in rows}

    def take_up(self, plan: Plan, shards: Mapping[int, Sequence[Range]]) -> None:
        """Go on with an import whose shards have ended, or will not begin any more.

        Part of the caller's transaction.

        :param shards: the ranges of each.
        """
        settled, said = self.settled(plan.import_id), self.shards(plan.import_id)
        dead = [ranges for shard, ranges in shards.items() if shard in said and said[shard].status == "begun"]
        for ranges in dead:
            self._insert_ranges(plan.import_id, _left(ranges, settled, plan), "unknown")
        # What else is not settled was never sent.
        self._sending = plan.import_id

    # -- progress -----------------------------------------------------------------------------------------------

    def named(self, import_id: str, name: str) -> None:
        """Write down that Braze knows the partner cohort by this name now."""
        self._session.execute(
            f"UPDATE {self._tables.run} SET NAMED_AS = %s WHERE IMPORT_ID = %s", (name, import_id)
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
        Snowflake refuses a statement that finds twenty waiting for one table's lock (error 625). For the same reason
        the lease is only looked at: what is written here is true, whoever sent it.

        :raises LeaseLostError: when somebody else imports this cohort by now.
        """

        def write() -> None:
            self._insert_ranges(import_id, entries.settled, "settled")
            note_users(
                self._session,
                self._tables,
                key=self._key,
                import_id=import_id,
                run_id=identity.run_id,
                rejected=entries.rejected,
            )
            # An import that Braze refused outright has cost nothing; its result says how often it asked.
            if entries or counters.data_points:
                costs = {name.upper(): getattr(counters, name) for name in _COSTS}
                self._insert(
                    self._tables.progress,
                    [
                        {
                            "IMPORT_ID": import_id,
                            "STATUS": "spent",
                            **costs,
                            "SHARD": self._shard,
                            "RECORDED_AT": _now(),
                        }
                    ],
                )
            if self._lease is not None:
                self._lease.look(self._session)

        self._session.transact(write)

    def pause(self, plan: Plan, unknown: list[Range], *, run_id: str) -> None:
        """Commit what was accepted so far and write down what is uncertain, so that a later try goes on from here.

        Part of the caller's transaction, as are ``give_up`` and ``commit``; the state goes with the result.
        """
        self._doubt_a_dead_try(plan)
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

        def close() -> None:
            settled = self.settled(import_id)
            unknown = {
                "planned": [],
                "paused": self.doubtful(found.plan),
                "sending": gaps(settled, found.plan.to_send),
            }[found.state]
            self._apply(import_id, settled, run_id=found.identity.run_id)
            self._doubt(import_id, unknown)
            totals = self.totals(import_id, unknown)
            values = {
                **asdict(totals),
                "unchanged": found.plan.unchanged,
                **{name: getattr(found.counters, name) for name in _COSTS},
            }
            assignments = ", ".join(f"{name.upper()} = %s" for name in values)
            self._session.execute(
                f"UPDATE {self._tables.run} SET STATE = 'closed', OUTCOME = 'failed', {assignments}, "
                "FINISHED_AT = COALESCE(FINISHED_AT, CAST(%s AS TIMESTAMP_NTZ)), "
                "ERROR = COALESCE(ERROR, 'The import died; a later one took over.') WHERE IMPORT_ID = %s",
                (*values.values(), _now(), import_id),
            )

        self.transact(close)

    def commit(self, plan: Plan, unknown: list[Range], *, run_id: str) -> None:
        """Make every accepted change a stay and note the uncertain ones."""
        quiet = [Range(plan.to_send + 1, plan.size)] if plan.quiet else []
        self._apply(plan.import_id, merge([*self.settled(plan.import_id), *quiet]), run_id=run_id)
        self._doubt(plan.import_id, unknown)

    def totals(self, import_id: str, unknown: list[Range]) -> Totals:
        """Count what the import has come to."""
        accepted = count_by_action(self._session, self._tables, import_id, self.settled(import_id))
        # Two tries may both have heard about one user.
        (rejected,) = self._session.row(
            f"SELECT COUNT(DISTINCT SEQ) FROM {self._tables.rejected} WHERE IMPORT_ID = %s", (import_id,)
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
            name.upper(): json.dumps(value) if isinstance(value, dict) else value
            for name, value in result.to_dict().items()
            if name not in ("cohort_id", "cohort_name", "run_id", "started_at", "finished_at")
        }
        assignments = ", ".join(f"{name} = %s" for name in columns)
        self._session.execute(
            f"UPDATE {self._tables.run} SET {assignments}, STATE = %s, FINISHED_AT = CAST(%s AS TIMESTAMP_NTZ) "
            "WHERE IMPORT_ID = %s",
            [*columns.values(), state, utc_text(datetime.fromisoformat(result.finished_at)), import_id],
        )

    def result(self, import_id: str) -> ImportResult | None:
        """Return the result of an import that was closed; None when there is none."""
        names = [field.name for field in fields(ImportResult)]
        rows = self._session.rows(
            f"SELECT {', '.join(map(str.upper, names))} FROM {self._tables.run} "
            "WHERE IMPORT_ID = %s AND STATE = 'closed' AND OUTCOME IS NOT NULL",
            (import_id,),
        )
        if not rows:
            return None
        row = dict(zip(names, rows[0], strict=True))
        said = {name: row[name] for name in names if isinstance(row[name], str)}
        numbers = {name: float(row[name] or 0) for name in ("throttled_seconds", "duration_seconds")}
        moments = {name: row[name].replace(tzinfo=UTC).isoformat() for name in ("started_at", "finished_at")}
        counts = {
            field.name: int(row[field.name] or 0) for field in fields(ImportResult) if field.default == 0
        }
        verification = json.loads(row["verification"]) if row["verification"] else None
        return ImportResult(**{**counts, **numbers, **said, **moments, "verification": verification})

    def drop_plan(self, import_id: str) -> None:
        """Forget the changes of a plan that will never be sent."""
        self._session.execute(f"DELETE FROM {self._tables.change} WHERE IMPORT_ID = %s", (import_id,))

    def prune(self) -> None:
        """Remove the plans, and the progress, of this cohort's imports that ended long ago.

        Nothing needs them any more: stays, rejections and results have what they say.
        """
        old = (
            f"SELECT IMPORT_ID FROM {self._tables.run} WHERE WORKSPACE = %s AND COHORT_ID = %s "
            f"AND STATE = 'closed' AND FINISHED_AT < DATEADD(day, -{KEPT_DAYS}, SYSDATE())"
        )
        for table in (self._tables.change, self._tables.progress):
            self._session.execute(f"DELETE FROM {table} WHERE IMPORT_ID IN ({old})", self._key)

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
        now = _now()
        self._insert(
            self._tables.progress,
            [
                {
                    "IMPORT_ID": import_id,
                    "FIRST_SEQ": first,
                    "LAST_SEQ": last,
                    "STATUS": status,
                    "RECORDED_AT": now,
                }
                for first, last in ranges
            ],
        )

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows with the same columns."""
        for some in chunks(rows):
            one = "(" + ", ".join(["%s"] * len(some[0])) + ")"
            self._session.execute(
                f"INSERT INTO {table} ({', '.join(some[0])}) VALUES {', '.join([one] * len(some))}",
                [value for row in some for value in row.values()],
            )

    def spent(self, import_id: str, *, shard: int | None = None) -> Counters:
        """Return what the import, or one shard of it, has cost as last recorded.

        Each of the counters only ever grows. Shards wait for the rate limit beside each other, so of their seconds only
        the longest count.
        """
        columns = ", ".join(_COSTS)
        most = ", ".join(f"MAX({name}) AS {name}" for name in _COSTS)
        added = ", ".join(f"{'MAX' if name == 'throttled_seconds' else 'SUM'}({name})" for name in _COSTS)
        of_shards = (
            f"SELECT {added} FROM (SELECT {most} FROM {self._tables.progress} WHERE IMPORT_ID = %s "
            f"AND STATUS = 'spent'{'' if shard is None else ' AND COALESCE(SHARD, 0) = %s'} "
            "GROUP BY COALESCE(SHARD, 0)) shard_costs"
        )
        if shard is not None:
            found = self._session.row(of_shards, (import_id, shard))
        else:
            said = self._session.rows(
                f"{of_shards} UNION ALL SELECT {columns} FROM {self._tables.run} WHERE IMPORT_ID = %s",
                (import_id, import_id),
            )
            found = tuple(max(value or 0 for value in values) for values in zip(*said, strict=True))
        points, requests, retries, seconds = found
        return Counters(
            data_points=int(points or 0),
            requests=int(requests or 0),
            retries=int(retries or 0),
            throttled_seconds=float(seconds or 0),
        )


def _left(ranges: Sequence[Range], settled: Sequence[Range], plan: Plan) -> list[Range]:
    """Return what of ``ranges`` has no verdict."""
    missing = gaps(settled, plan.to_send)
    return [part for bounds in ranges for part in within(missing, bounds)]


def _now() -> str:
    return utc_text(datetime.now(UTC))
