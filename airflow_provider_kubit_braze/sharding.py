"""One import in several tasks: planned once, delivered by shards beside each other, committed once.

The same walk as ``importer``'s, cut in three. Between the tasks the lease belongs to the import (see
``warehouse.lease``), and what one task has to know of another is in the state tables: a shard that is tried again finds
there what its last try settled, and the committing task whatever all of them did, however they ended.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.core.journal import Counters, Journal
from airflow_provider_kubit_braze.core.ranges import Range, count, gaps, within
from airflow_provider_kubit_braze.core.shards import shard_count, shard_ranges
from airflow_provider_kubit_braze.endings import ImportEnd, in_words
from airflow_provider_kubit_braze.exceptions import (
    ImportEndedError,
    LeaseLostError,
    ShardsUnfinishedError,
)
from airflow_provider_kubit_braze.importer import Import, belongs_to
from airflow_provider_kubit_braze.warehouse.changes import needs_leavers_first, read_segments
from airflow_provider_kubit_braze.warehouse.lease import Leases, forget_parts, part_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.warehouse.ledger import OpenImport
    from airflow_provider_kubit_braze.work import Work

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShardedPlan:
    """A frozen plan that shards are to deliver.

    :param import_id: key of the plan.
    :param shards: how many there are.
    :param in_one: most changes in one request; shards are cut between requests.
    :param leavers: whether the leavers are among what the shards send; otherwise they have been sent already.
    """

    import_id: str
    shards: int
    in_one: int
    leavers: bool

    def ranges(self, plan: Plan, shard: int) -> Sequence[Range]:
        """Return what one shard sends, in this order.

        :param shard: which one, from 1.
        """
        return shard_ranges(plan, shard, self.shards, in_one=self.in_one, leavers=self.leavers)


def plan_shards(work: Work, *, shards: int) -> ShardedPlan | ImportEnd:
    """Plan an import, and send those leavers that have to be sent before anybody else.

    :param shards: into how many parts it is to be divided.
    :return: what the shards are to do, or how the import has ended without them.
    """
    if work.options.dry_run:
        return Import(work).walk()
    # Of an earlier try that came as far as to hand the lease over.
    mine = [one.plan.import_id for one in work.ledger().open_imports() if belongs_to(one, work)]
    lease = work.lease = work.new_lease(after=mine[0] if mine else None)
    with lease.held(work.session):
        walk = Import(work)
        plan = walk.prepare()
        if isinstance(plan, ImportEnd):
            return plan
        if not plan.to_send:
            return walk.end.commit(plan)
        segments = read_segments(work.session, work.tables, import_id=plan.import_id, to_send=plan.to_send)
        together = not (plan.leave and needs_leavers_first(segments))
        if together:
            walk.ledger.start_sending(plan, try_number=work.identity.try_number)
        elif stopped := walk.deliver(plan, Range(1, plan.leave)):
            return stopped
        elif unknown := walk.journal.unknown:
            walk.ledger.doubt(plan.import_id, unknown)
        in_one = work.settings.max_objects_per_request
        left = plan.to_send if together else plan.to_send - plan.leave
        if not left:
            return walk.end.commit(plan)
        lease.hand_over(work.session, plan.import_id)
        found = ShardedPlan(
            import_id=plan.import_id,
            shards=shard_count(shards, left, in_one=in_one),
            in_one=in_one,
            leavers=together,
        )
        log.info("%s changes are left to %s shards.", f"{left:,}", found.shards)
        return found


def deliver_shard(work: Work, sharded: ShardedPlan, shard: int) -> Counters:
    """Send what is left of one shard; return what its tries cost so far.

    :param shard: which one, from 1.
    :raises ImportEndedError: when the import is over.
    :raises CohortBusyError: when another import of the cohort is running.
    :raises LeaseLostError: when another task took the cohort, or the shard, over.
    :raises BrazeError: when Braze does not let it go on; see ``Delivery.run``.
    """
    # Before the lease is taken, which the shards hold together and so do not give back.
    _open(work, sharded)
    with _shard_lease(work, sharded, shard):
        plan = _open(work, sharded).plan
        ranges = sharded.ranges(plan, shard)
        ledger, journal = work.ledger(shard=shard), Journal()
        before = ledger.spent(plan.import_id, shard=shard)

        def spent() -> Counters:
            return before + journal.counters

        settled = ledger.begin_shard(plan, ranges)
        log.info(
            "Shard %s of %s: %s changes, %s of them still to send.",
            shard,
            sharded.shards,
            f"{count(ranges):,}",
            f"{count(_missing(plan, settled, ranges)):,}",
        )
        with work.delivery(plan, journal, spent, shard=shard) as delivery:
            try:
                try:
                    delivery.run(settled, ranges)
                finally:
                    # Also on SIGTERM: what Braze has accepted must not be sent again.
                    delivery.record()
            except LeaseLostError:
                delivery.record(ledger)
                raise
            except Exception as error:
                # Should the scribe's session be what failed, what Braze accepted last is still in the journal.
                delivery.record(ledger)
                ledger.end_shard(plan.import_id, journal.unknown, note=in_words(error))
                raise
        if left_out := _missing(plan, [*ledger.settled(plan.import_id), *journal.unknown], ranges):
            ledger.end_shard(plan.import_id, journal.unknown, note="It left changes out.")
            raise RuntimeError(
                f"{count(left_out):,} changes were neither answered nor given up; a retry sends them."
            )
        ledger.end_shard(plan.import_id, journal.unknown)
        return spent()


def commit_shards(work: Work, sharded: ShardedPlan) -> ImportEnd:
    """Write down what the shards have come to, however they ended.

    :raises ImportEndedError: when another import of the cohort took over.
    """
    lease = work.lease = work.new_lease(after=sharded.import_id)
    with lease.held(work.session):
        # An earlier try of the task may have come as far as to write everything down.
        said = work.ledger().result(sharded.import_id)
        if said is not None and said.error is None:
            return ImportEnd(result=said, import_id=sharded.import_id)
        found = _open(work, sharded)
        walk, plan = Import(work), found.plan
        walk.end.started_at, walk.end.before = found.started_at, found.counters
        parts = {shard: sharded.ranges(plan, shard) for shard in range(1, sharded.shards + 1)}
        unfinished = _unfinished(walk, plan, parts)
        walk.ledger.transact(lambda: walk.ledger.take_up(plan, parts))
        for range_ in walk.ledger.doubtful(plan):
            walk.journal.doubt(range_)
        if unfinished:
            return walk.end.fail(plan, ShardsUnfinishedError(_words(unfinished, sharded.shards)))
        end = walk.end.commit(plan)
        forget_parts(work.session, work.tables, work.key, sharded.import_id)
        return end


def _unfinished(walk: Import, plan: Plan, parts: Mapping[int, Sequence[Range]]) -> dict[int, str | None]:
    """Return the shards that have not sent all of their part, and why."""
    settled, said = walk.ledger.settled(plan.import_id), walk.ledger.shards(plan.import_id)
    return {
        shard: said[shard].note if shard in said else "It did not begin."
        for shard, ranges in parts.items()
        if _missing(plan, settled, ranges) and (shard not in said or said[shard].status != "done")
    }


def _words(unfinished: Mapping[int, str | None], shards: int) -> str:
    shard, why = next(iter(unfinished.items()))
    others = f" (and {len(unfinished) - 1} more)" if len(unfinished) > 1 else ""
    return (
        f"Shard {shard} of {shards}{others} did not send all of its part: {why or 'it died.'} What Braze accepted is "
        "recorded. Clear the failed shards (with what comes after them) and they go on where they stopped; or leave it "
        "to the next import, which plans anew."
    )


def _missing(plan: Plan, settled: Sequence[Range], ranges: Sequence[Range]) -> list[Range]:
    missing = gaps(settled, plan.to_send)
    return [part for bounds in ranges for part in within(missing, bounds)]


def _open(work: Work, sharded: ShardedPlan) -> OpenImport:
    for found in work.ledger().open_imports():
        if found.plan.import_id == sharded.import_id:
            return found
    raise ImportEndedError(
        f"The import that this task belongs to has ended, or another import of cohort {work.cohort.id!r} took over. "
        "Nothing was sent. To import again, trigger the DAG."
    )


@contextmanager
def _shard_lease(work: Work, sharded: ShardedPlan, shard: int) -> Iterator[None]:
    """Hold the cohort's lease together with the other shards, and the shard's own."""
    cohorts = work.new_lease(shared_by=sharded.import_id)
    own = work.new_lease(part_of(sharded.import_id, shard))
    with cohorts.held(work.session), own.held(work.session):
        work.lease = Leases(cohorts, own)
        yield
