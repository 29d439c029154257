"""What has become of the changes of a plan so far: ranges with their verdict, shards, and what it has cost.

Rows of ``IMPORT_PROGRESS``. They are only ever inserted, by whoever sends: a whole import, or its shards beside each
other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

from airflow_provider_kubit_braze.core.journal import Counters
from airflow_provider_kubit_braze.core.ranges import Range, gaps, merge, within
from airflow_provider_kubit_braze.warehouse.stays import chunks, note_users, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_kubit_braze.core.journal import Entries
    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.core.run import RunIdentity
    from airflow_provider_kubit_braze.warehouse.lease import Lease, Leases
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

_T = TypeVar("_T")

COSTS: Final = ["data_points", "requests", "retries", "throttled_seconds"]
"""What an import costs: fields of ``Counters``, and columns of the same name."""

#: Of a shard: it may be sending, all of it was sent, or it stopped in good order before that.
ShardStatus = Literal["begun", "done", "stopped"]


class ShardState(NamedTuple):
    """What was last said of a shard.

    :param status: how far it came.
    :param note: why it stopped.
    """

    status: ShardStatus
    note: str | None


class Progress:
    """The progress of one cohort's imports in one workspace.

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

    # -- what was sent ------------------------------------------------------------------------------------------

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
                costs = {name.upper(): getattr(counters, name) for name in COSTS}
                self._insert(
                    self._tables.progress,
                    [
                        {
                            "IMPORT_ID": import_id,
                            "STATUS": "spent",
                            **costs,
                            "SHARD": self._shard,
                            "RECORDED_AT": now_text(),
                        }
                    ],
                )
            if self._lease is not None:
                self._lease.look(self._session)

        self._session.transact(write)

    def settled(self, import_id: str) -> list[Range]:
        """Return the ranges of the plan that have their verdict."""
        return self._ranges(import_id, "settled")

    def doubtful(self, plan: Plan) -> list[Range]:
        """Return the ranges that some try sent, or may have sent, and that no later one has settled."""
        certain = gaps(self._ranges(plan.import_id, "unknown"), plan.to_send)
        return gaps([*self.settled(plan.import_id), *certain], plan.to_send)

    def doubt(self, import_id: str, unknown: Sequence[Range]) -> None:
        """Note what got no certain answer, before others go on with the import."""
        self.transact(lambda: self._insert_ranges(import_id, unknown, "unknown"))

    def spent(self, import_id: str, *, shard: int | None = None) -> Counters:
        """Return what the import, or one shard of it, has cost as last recorded.

        Each of the counters only ever grows. Shards wait for the rate limit beside each other, so of their seconds only
        the longest count.
        """
        columns = ", ".join(COSTS)
        most = ", ".join(f"MAX({name}) AS {name}" for name in COSTS)
        added = ", ".join(f"{'MAX' if name == 'throttled_seconds' else 'SUM'}({name})" for name in COSTS)
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

    # -- shards -------------------------------------------------------------------------------------------------

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
            "RECORDED_AT": now_text(),
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

    # -- rows ---------------------------------------------------------------------------------------------------

    def _ranges(self, import_id: str, status: str) -> list[Range]:
        rows = self._session.rows(
            f"SELECT FIRST_SEQ, LAST_SEQ FROM {self._tables.progress} WHERE IMPORT_ID = %s AND STATUS = %s",
            (import_id, status),
        )
        return merge((int(first), int(last)) for first, last in rows)

    def _insert_ranges(self, import_id: str, ranges: Sequence[Range], status: str) -> None:
        now = now_text()
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


def _left(ranges: Sequence[Range], settled: Sequence[Range], plan: Plan) -> list[Range]:
    """Return what of ``ranges`` has no verdict."""
    missing = gaps(settled, plan.to_send)
    return [part for bounds in ranges for part in within(missing, bounds)]


def now_text() -> str:
    """Return this moment as Snowflake reads it."""
    return utc_text(datetime.now(UTC))
