"""One import of one cohort: plan -> guard -> deliver -> commit -> report.

Needs no Airflow: the operator is a thin shell around ``run_import``, and so is the command line.
"""

from __future__ import annotations

import logging
import uuid
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.braze.client import BrazeClient
from airflow_provider_kubit_braze.core.forecast import forecast
from airflow_provider_kubit_braze.core.guards import judge_plan
from airflow_provider_kubit_braze.core.journal import Journal
from airflow_provider_kubit_braze.core.plan import REST_DAYS
from airflow_provider_kubit_braze.core.ranges import Range, count, gaps, within
from airflow_provider_kubit_braze.endings import Endings, ImportEnd
from airflow_provider_kubit_braze.exceptions import KubitBrazeError, LeaseLostError
from airflow_provider_kubit_braze.matching import match_entrants
from airflow_provider_kubit_braze.warehouse.history import History, forget_cohort
from airflow_provider_kubit_braze.warehouse.lease import LEASE_SECONDS
from airflow_provider_kubit_braze.warehouse.plan import check_source, freeze_plan
from airflow_provider_kubit_braze.work import Work

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.braze.engine import Patience
    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
    from airflow_provider_kubit_braze.warehouse.ledger import OpenImport
    from airflow_provider_kubit_braze.warehouse.state import Tables

__all__ = ["ImportEnd", "forget_cohort", "run_import"]

log = logging.getLogger(__name__)


def run_import(
    cohort: Cohort,
    *,
    settings: BrazeSettings,
    connect: Callable[[], SnowflakeConnection],
    tables: Tables,
    identity: RunIdentity,
    options: ImportOptions,
    patience: Patience | None = None,
    stop: threading.Event | None = None,
    lease_seconds: float = LEASE_SECONDS,
    tell: Callable[[int, int], None] | None = None,
) -> ImportEnd:
    """Import one cohort and say how it ended; the figures are in the history table then.

    :param connect: opens a Snowflake connection; called up to three times, since each serves one thread.
    :param tables: the state tables.
    :param identity: the task instance; a retry of it continues the plan its predecessor left.
    :param options: what the person who triggered the run asked for.
    :param patience: how long a request is tried.
    :param stop: set by another thread, or a signal, to end the import early and in good order.
    :param lease_seconds: how long the import of a process that died keeps others from the cohort.
    :param tell: is told every few seconds how many of how many changes have their answer, in a thread of its own.
    :raises StateSchemaError: when there is no place to keep the state.
    :raises BrazeSettingsError: when the connection lacks what the cohort's delivery needs.
    :raises CohortBusyError: when another task is importing the cohort.
    :raises LeaseLostError: when another task took the cohort over; nothing was written down since.
    """
    with Work.begun(
        cohort,
        settings=settings,
        connect=connect,
        tables=tables,
        identity=identity,
        options=options,
        patience=patience,
        stop=stop,
        lease_seconds=lease_seconds,
        tell=tell,
    ) as work:
        # A rehearsal changes nothing that another import could mind.
        work.lease = None if options.dry_run else work.new_lease()
        with nullcontext() if work.lease is None else work.lease.held(work.session):
            return Import(work).walk()


def belongs_to(found: OpenImport, work: Work) -> bool:
    """Whether an import that did not end was begun by an earlier try of this task, for the same purpose."""
    mine = replace(work.identity, try_number=0)
    return replace(found.identity, try_number=0) == mine and found.plan.purpose == work.options.purpose


class Import:
    """The walk of one import, or those parts of it that come before and after its shards.

    :param work: what it is about; its lease is held.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.cohort, self.settings, self.place = work.cohort, work.settings, work.place
        self.session, self.tables = work.session, work.tables
        self.identity, self.options = work.identity, work.options
        self.journal = Journal()
        self.ledger = work.ledger()
        self.history = History(
            self.session, self.tables, workspace=self.settings.workspace, cohort_id=self.cohort.id
        )
        self.end = Endings(
            cohort=self.cohort,
            identity=self.identity,
            purpose=self.options.purpose,
            ledger=self.ledger,
            journal=self.journal,
            begin=self._begin,
            started_at=datetime.now(UTC),
        )

    @cached_property
    def repeats(self) -> bool:
        """Whether this very task has imported before and ended well: what was asked for once has been done."""
        return self.history.has_ended_well(self.identity)

    def walk(self) -> ImportEnd:
        """Plan, guard, match, deliver, commit, report."""
        plan = self.prepare()
        if isinstance(plan, ImportEnd):
            return plan
        # Without anything to send there is no need for a second session, nor for Braze.
        stopped = self.deliver(plan) if plan.to_send else None
        return stopped or self.end.commit(plan)

    def prepare(self) -> Plan | ImportEnd:
        """Plan, guard and match; return the plan that is to be delivered, or how the import has ended already."""
        found = None if self.options.dry_run else self._take_over()
        if found is not None:
            plan = found.plan
            self.end.started_at, self.end.before = found.started_at, found.counters
        else:
            try:
                plan = self._plan()
            except KubitBrazeError as error:
                return self.end.fail_unplanned(error)
        untouched = found is None or found.state == "planned"
        if untouched:
            self._announce(plan)
            broken = judge_plan(plan, self.cohort.guards)
            if self.options.dry_run:
                return self.end.end_unsent(plan, "dry_run", broken)
            if broken and not (self.options.override_guards and not self.repeats):
                return self.end.end_unsent(plan, "stopped", broken)
            for sentence in broken:
                log.warning("Overridden: %s", sentence)
        else:
            log.info("Continuing the plan of this run's earlier try: %s changes.", f"{plan.to_send:,}")
        try:
            if untouched:
                plan = self._match(plan)
            self._name(plan)
        except KubitBrazeError as error:
            return self.end.fail(plan, error, untouched=untouched)
        return plan

    def _take_over(self) -> OpenImport | None:
        """Return the plan that an earlier try of this task left, and close what other runs left, oldest first."""
        mine = None
        for found in self.ledger.open_imports():
            if belongs_to(found, self.work):
                mine = found
                continue
            log.warning(
                "An earlier import of this cohort (run %s) did not end. What Braze accepted of it is kept; "
                "what is uncertain is planned again.",
                found.identity.run_id,
            )
            self.ledger.abandon(found)
        return mine

    # -- plan ---------------------------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        undone = None
        if self.options.purpose == "import":
            self.history.see_that_nobody_is_elsewhere()
            check_source(self.session, self.cohort)
        elif self.options.purpose == "undo":
            undone = self._what_to_undo()

        def freeze() -> Plan:
            plan = freeze_plan(
                self.session,
                self.tables,
                cohort=self.cohort,
                workspace=self.settings.workspace,
                place=self.place,
                import_id=uuid.uuid4().hex,
                full_resync=self.options.full_resync and not self.repeats,
                purpose=self.options.purpose,
                undone=undone,
            )
            self._begin(plan, undone)
            return plan

        return self.ledger.transact(freeze)

    def _what_to_undo(self) -> str:
        """Return the import to reverse; a repetition of an undo is not to reverse the undo.

        :raises NothingToUndoError: when there is none.
        """
        last = self.history.last_change()
        if last.undone is not None and last.identity == replace(self.identity, try_number=0):
            log.info("This task has undone its import before; what is missing of that is done now.")
            return last.undone
        log.info(
            "Reversing the import of run %s, begun %s: it added %s users and removed %s.",
            last.run_id,
            last.started_at.isoformat(timespec="seconds"),
            f"{last.added:,}",
            f"{last.removed:,}",
        )
        return last.import_id

    def _begin(self, plan: Plan, undone: str | None = None) -> None:
        self.ledger.begin(
            plan,
            self.identity,
            cohort_name=self.cohort.name,
            place=self.place,
            started_at=self.end.started_at,
            # Another import must not take a rehearsal for an import that did not end.
            state="closed" if self.options.dry_run else "planned",
            undone=undone,
        )

    def _match(self, plan: Plan) -> Plan:
        """Take the entrants out of the plan that Braze does not know, as far as the cohort asks for it."""
        if plan.purpose != "import" or not (plan.enter or plan.quiet) or self.cohort.match == "off":
            return plan
        return match_entrants(
            plan,
            cohort=self.cohort,
            settings=self.settings,
            session=self.session,
            tables=self.tables,
            ledger=self.ledger,
            run_id=self.identity.run_id,
            permit=self.work.permit,
        )

    def _name(self, plan: Plan) -> None:
        """Tell Braze the partner cohort's name before the first user of it, and again when it has changed."""
        if self.place.kind != "partner_cohort" or self.options.purpose != "import":
            return
        if self.history.name_at(self.place) == self.cohort.name:
            return
        with BrazeClient(self.settings) as braze:
            braze.name_cohort(self.cohort.id, self.cohort.name, self.end.started_at)
        self.ledger.named(plan.import_id, self.cohort.name)

    def _announce(self, plan: Plan) -> None:
        log.info(
            "Cohort %s: %s members at the source, %s users in Braze. Will add %s, remove %s, leave %s alone.",
            self.cohort.id,
            f"{plan.members:,}",
            f"{plan.in_braze:,}",
            f"{plan.enter:,}",
            f"{plan.leave:,}",
            f"{plan.unchanged:,}",
        )
        log.info("Forecast: %s.", forecast(plan, self.place, self.settings))
        if plan.elsewhere:
            log.warning(
                "%s of the users to remove are marked where the cohort was kept before; it is kept in %s now.",
                f"{plan.elsewhere:,}",
                self.place.words,
            )
        if plan.set_aside:
            log.info(
                "%s members were rejected by Braze within the last %s days and are not sent again yet.",
                f"{plan.set_aside:,}",
                REST_DAYS,
            )
        if plan.duplicates or plan.invalid:
            log.warning(
                "%s source rows repeat a user and %s have no usable identifier (null, blank, or 988 bytes and more).",
                f"{plan.duplicates:,}",
                f"{plan.invalid:,}",
            )

    # -- deliver ------------------------------------------------------------------------------------------------

    def deliver(self, plan: Plan, part: Range | None = None) -> ImportEnd | None:
        """Send what is left of the plan, or of a part of it; return how the import ended if it cannot go on."""
        part = part or Range(1, plan.to_send)
        with self.work.delivery(plan, self.journal, self.end.spent) as delivery:
            try:
                self.ledger.start_sending(plan, try_number=self.identity.try_number)
                try:
                    settled = self.ledger.settled(plan.import_id)
                    delivery.run([*settled, *self._leave_for_the_next(plan, settled)], [part])
                finally:
                    # Also on SIGTERM: what Braze has accepted must not be sent again.
                    delivery.record()
                self._see_that_nobody_is_left_out(plan, part)
            except LeaseLostError:
                # Unless it was only not renewed in time, whatever is tried from here on is refused.
                delivery.record(self.ledger)
                raise
            except Exception as error:
                # Should the scribe's session be what failed, what Braze accepted last is still in the journal.
                delivery.record(self.ledger)
                return self.end.fail(plan, error)
        return None

    def _leave_for_the_next(self, plan: Plan, settled: list[Range]) -> list[Range]:
        """Return leavers whom this try must not send any more: their answer got lost, and others entered since.

        Under several identifiers a leaver may be the same person as somebody who entered under another one, and the
        last word has to be that they are in. The next import tells the leavers, and then the others once more.
        """
        left = gaps(settled, plan.leave)
        entered = any(last > plan.leave for _, last in settled)
        if not left or not entered or not self.ledger.has_several_kinds(plan.import_id):
            return []
        for lost in left:
            self.journal.doubt(lost)
        return left

    def _see_that_nobody_is_left_out(self, plan: Plan, part: Range) -> None:
        missing = gaps([*self.ledger.settled(plan.import_id), *self.journal.unknown], plan.to_send)
        if left_out := count(within(missing, part)):
            raise RuntimeError(
                f"{left_out:,} changes were neither answered nor given up; a retry sends them."
            )
