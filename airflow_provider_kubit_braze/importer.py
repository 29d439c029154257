"""One import of one cohort: plan -> guard -> deliver -> commit -> report.

Needs no Airflow: the operator is a thin shell around ``run_import``, and so is the command line.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.core.guards import OVERRIDE_HINT, judge_plan, judge_rejections
from airflow_provider_kubit_braze.core.journal import Counters, Journal
from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.ranges import count, gaps
from airflow_provider_kubit_braze.core.report import ImportResult, Outcome
from airflow_provider_kubit_braze.delivery import PlanDelivery
from airflow_provider_kubit_braze.exceptions import (
    BrazeUnavailableError,
    GuardStoppedError,
    KubitBrazeError,
    PlanDamagedError,
    TooManyRejectedError,
)
from airflow_provider_kubit_braze.warehouse.ledger import Ledger, OpenImport, Totals
from airflow_provider_kubit_braze.warehouse.plan import check_source, freeze_plan
from airflow_provider_kubit_braze.warehouse.session import Session, first_line
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.braze.engine import Patience
    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImportEnd:
    """How an import ended.

    :param result: the figures.
    :param error: why the task has to fail, or None when it has not.
    """

    result: ImportResult
    error: Exception | None = None

    @property
    def retry_helps(self) -> bool:
        """Whether another try may end better without a person doing something first."""
        return not isinstance(self.error, KubitBrazeError) or isinstance(
            self.error, BrazeUnavailableError | PlanDamagedError
        )


def run_import(
    cohort: Cohort,
    *,
    settings: BrazeSettings,
    connect: Callable[[], SnowflakeConnection],
    tables: Tables,
    identity: RunIdentity,
    options: ImportOptions,
    patience: Patience | None = None,
) -> ImportEnd:
    """Import one cohort and say how it ended; the figures are in the history table then.

    :param connect: opens a Snowflake connection; called twice, since each serves one thread.
    :param tables: the state tables.
    :param identity: the task instance; a retry of it continues the plan its predecessor left.
    :param options: what the person who triggered the run asked for.
    :param patience: how long a request is tried.
    :raises StateSchemaError: when there is no place to keep the state.
    """
    tag = {"app": "kubit_braze", "cohort": cohort.id, "dag_id": identity.dag_id, "run_id": identity.run_id}
    session = Session(connect(), tag=tag)
    try:
        ensure_tables(session, tables)
        ledger = Ledger(session, tables, workspace=settings.workspace, cohort_id=cohort.id)
        run = _Import(cohort, settings, session, ledger, tables, identity, options, patience, connect, tag)
        return run.walk()
    finally:
        session.close()


@dataclass
class _Import:
    cohort: Cohort
    settings: BrazeSettings
    session: Session
    ledger: Ledger
    tables: Tables
    identity: RunIdentity
    options: ImportOptions
    patience: Patience | None
    connect: Callable[[], SnowflakeConnection]
    tag: dict[str, str]

    def __post_init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self.before = Counters()
        self.journal = Journal()

    def walk(self) -> ImportEnd:
        """Plan, guard, deliver, commit, report."""
        found = None if self.options.dry_run else self._take_over()
        if found is not None:
            plan = found.plan
            self.started_at, self.before = found.started_at, found.counters
        else:
            try:
                plan = self._plan()
            except KubitBrazeError as error:
                return self._fail_unplanned(error)
        if found is None or found.state == "planned":
            self._announce(plan)
            broken = judge_plan(plan, self.cohort.guards)
            if self.options.dry_run:
                return self._end_unsent(plan, "dry_run", broken)
            if broken and not self.options.override_guards:
                return self._end_unsent(plan, "stopped", broken)
            for sentence in broken:
                log.warning("Overridden: %s", sentence)
        else:
            log.info("Continuing the plan of this run's earlier try: %s changes.", f"{plan.to_send:,}")
        # Without anything to send there is no need for a second session, nor for Braze.
        return self._send(plan) if plan.to_send else self._commit(plan)

    def _take_over(self) -> OpenImport | None:
        """Return the plan that an earlier try of this task left, and close what other runs left, oldest first."""
        mine = None
        for found in self.ledger.open_imports():
            if self._is_mine(found):
                mine = found
                continue
            log.warning(
                "An earlier import of this cohort (run %s) did not end. What Braze accepted of it is kept; "
                "what is uncertain is planned again.",
                found.identity.run_id,
            )
            self.ledger.abandon(found)
        return mine

    def _is_mine(self, found: OpenImport) -> bool:
        mine = replace(self.identity, try_number=0)
        return replace(found.identity, try_number=0) == mine

    # -- plan ---------------------------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        check_source(self.session, self.cohort)
        with self.session.transaction():
            plan = freeze_plan(
                self.session,
                self.tables,
                cohort=self.cohort,
                workspace=self.settings.workspace,
                import_id=uuid.uuid4().hex,
                full_resync=self.options.full_resync,
            )
            self._begin(plan)
        return plan

    def _begin(self, plan: Plan) -> None:
        self.ledger.begin(plan, self.identity, cohort_name=self.cohort.name, started_at=self.started_at)

    def _announce(self, plan: Plan) -> None:
        log.info(
            "Cohort %s: %s members at the source, %s users in Braze. Will add %s, remove %s, leave %s alone; "
            "%s data points.",
            self.cohort.id,
            f"{plan.members:,}",
            f"{plan.in_braze:,}",
            f"{plan.enter:,}",
            f"{plan.leave:,}",
            f"{plan.unchanged:,}",
            f"{plan.data_points:,}",
        )
        if plan.duplicates or plan.invalid:
            log.warning(
                "%s source rows repeat a user and %s have no usable identifier (null, blank, or 988 bytes and more).",
                f"{plan.duplicates:,}",
                f"{plan.invalid:,}",
            )

    # -- deliver ------------------------------------------------------------------------------------------------

    def _send(self, plan: Plan) -> ImportEnd:
        scribe = Session(self.connect(), tag=self.tag)
        delivery = PlanDelivery(
            plan=plan,
            cohort=self.cohort,
            settings=self.settings,
            session=self.session,
            tables=self.tables,
            scribe=Ledger(scribe, self.tables, workspace=self.settings.workspace, cohort_id=self.cohort.id),
            identity=self.identity,
            journal=self.journal,
            spent=self._spent,
            patience=self.patience,
        )
        try:
            self.ledger.start_sending(plan, try_number=self.identity.try_number)
            try:
                delivery.run(self.ledger.settled(plan.import_id))
            finally:
                # Also on SIGTERM: what Braze has accepted must not be sent again.
                delivery.record()
            self._see_that_nobody_is_left_out(plan)
        except Exception as error:
            # Should the scribe's session be what failed, what Braze accepted last is still in the journal.
            delivery.record(self.ledger)
            return self._fail(plan, error)
        finally:
            scribe.close()
        return self._commit(plan)

    def _see_that_nobody_is_left_out(self, plan: Plan) -> None:
        left_out = count(gaps([*self.ledger.settled(plan.import_id), *self.journal.unknown], plan.to_send))
        if left_out:
            raise RuntimeError(
                f"{left_out:,} changes were neither answered nor given up; a retry sends them."
            )

    # -- commit and report --------------------------------------------------------------------------------------

    def _commit(self, plan: Plan) -> ImportEnd:
        unknown = self.journal.unknown
        with self.session.transaction():
            self.ledger.commit(plan, unknown, run_id=self.identity.run_id)
            totals = self.ledger.totals(plan.import_id, unknown)
            refusal = judge_rejections(
                rejected=totals.rejected, unknown=totals.unknown, sent=plan.to_send, guards=self.cohort.guards
            )
            outcome: Outcome = (
                "failed"
                if refusal
                else "unchanged"
                if plan.size == 0
                else "partial"
                if totals.rejected or totals.unknown
                else "success"
            )
            result = self._result(plan, outcome, totals, error=refusal)
            self.ledger.write_result(plan.import_id, result, state="closed")
        return ImportEnd(result=result, error=TooManyRejectedError(refusal) if refusal else None)

    def _fail(self, plan: Plan, error: Exception) -> ImportEnd:
        """Delivery stopped: commit what was accepted and leave the rest of the plan to a retry."""
        damaged = isinstance(error, PlanDamagedError)
        with self.session.transaction():
            if damaged:
                self.ledger.give_up(plan, run_id=self.identity.run_id)
            else:
                self.ledger.pause(plan, self.journal.unknown, run_id=self.identity.run_id)
            totals = self.ledger.totals(plan.import_id, self.ledger.doubtful(plan))
            result = self._result(plan, "failed", totals, error=_sentence(error))
            self.ledger.write_result(plan.import_id, result, state="closed" if damaged else "paused")
        return ImportEnd(result=result, error=error)

    def _fail_unplanned(self, error: KubitBrazeError) -> ImportEnd:
        in_braze = self.ledger.users_imported()
        plan = Plan(import_id=uuid.uuid4().hex, members=0, in_braze=in_braze, enter=0, leave=0)
        with self.session.transaction():
            self._begin(plan)
            totals = Totals(added=0, removed=0, rejected=0, unknown=0, users_imported=in_braze)
            result = replace(self._result(plan, "failed", totals, error=str(error)), unchanged=0)
            self.ledger.write_result(plan.import_id, result, state="closed")
        return ImportEnd(result=result, error=error)

    def _end_unsent(self, plan: Plan, outcome: Outcome, broken: tuple[str, ...]) -> ImportEnd:
        """A dry run, which reports what the plan would do, or an import that a guard stopped."""
        why = " ".join(broken)
        planned = Totals(
            added=plan.enter, removed=plan.leave, rejected=0, unknown=0, users_imported=plan.in_braze
        )
        if outcome == "stopped":
            sentence: str | None = f"Stopped before anything was sent: {why} {OVERRIDE_HINT}"
            result = self._result(plan, outcome, replace(planned, added=0, removed=0), error=sentence)
        else:
            sentence = f"A real run would be stopped: {why}" if broken else None
            result = replace(
                self._result(plan, outcome, planned, error=sentence), data_points=plan.data_points
            )
        with self.session.transaction():
            self.ledger.drop_plan(plan.import_id)
            self.ledger.write_result(plan.import_id, result, state="closed")
        return ImportEnd(result=result, error=GuardStoppedError(sentence) if outcome == "stopped" else None)

    def _spent(self) -> Counters:
        now, before = self.journal.counters, self.before
        return Counters(
            data_points=before.data_points + now.data_points,
            requests=before.requests + now.requests,
            retries=before.retries + now.retries,
            throttled_seconds=before.throttled_seconds + now.throttled_seconds,
        )

    def _result(self, plan: Plan, outcome: Outcome, totals: Totals, *, error: str | None) -> ImportResult:
        finished_at, spent = datetime.now(UTC), self._spent()
        return ImportResult(
            cohort_id=self.cohort.id,
            cohort_name=self.cohort.name,
            run_id=self.identity.run_id,
            outcome=outcome,
            members=plan.members,
            users_imported=totals.users_imported,
            added=totals.added,
            removed=totals.removed,
            unchanged=plan.unchanged,
            held_out=plan.held_out,
            duplicates=plan.duplicates,
            invalid=plan.invalid,
            rejected=totals.rejected,
            unknown=totals.unknown,
            data_points=spent.data_points,
            requests=spent.requests,
            retries=spent.retries,
            throttled_seconds=round(spent.throttled_seconds, 3),
            duration_seconds=round((finished_at - self.started_at).total_seconds(), 3),
            started_at=self.started_at.isoformat(),
            finished_at=finished_at.isoformat(),
            error=error,
        )


def _sentence(error: Exception) -> str:
    return (
        str(error) if isinstance(error, KubitBrazeError) else f"{type(error).__name__}: {first_line(error)}"
    )
