"""How an import ends: what is committed, what is left to a retry, and what the result says about it."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.core.guards import OVERRIDE_HINT, judge_rejections
from airflow_provider_kubit_braze.core.journal import Counters, Journal
from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.report import ImportResult, Outcome
from airflow_provider_kubit_braze.exceptions import (
    GuardStoppedError,
    KubitBrazeError,
    PlanDamagedError,
    TooManyRejectedError,
)
from airflow_provider_kubit_braze.warehouse.ledger import Ledger, State, Totals
from airflow_provider_kubit_braze.warehouse.session import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.run import Purpose, RunIdentity

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImportEnd:
    """How an import ended.

    :param result: the figures.
    :param import_id: key of the import in the state tables.
    :param error: why the task has to fail, or None when it has not.
    """

    result: ImportResult
    import_id: str
    error: Exception | None = None

    @property
    def retry_helps(self) -> bool:
        """Whether another try may end better without a person doing something first."""
        return not isinstance(self.error, KubitBrazeError) or self.error.retry_helps


@dataclass(kw_only=True)
class Endings:
    """The ways out of one import; each writes the history row and returns what the task is to say.

    :param cohort: the cohort.
    :param identity: the task instance.
    :param purpose: what the import is for.
    :param ledger: where it is written down.
    :param journal: what was answered.
    :param begin: writes the history row of a plan.
    :param started_at: when the import's first try began, UTC.
    :param before: what earlier tries cost.
    """

    cohort: Cohort
    identity: RunIdentity
    purpose: Purpose
    ledger: Ledger
    journal: Journal
    begin: Callable[[Plan], None]
    started_at: datetime
    before: Counters = field(default_factory=Counters)

    def commit(self, plan: Plan) -> ImportEnd:
        """Make stays of what Braze accepted, and judge how much that was."""
        unknown = self.journal.unknown

        def commit() -> ImportEnd:
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
            return ImportEnd(
                result=result,
                import_id=plan.import_id,
                error=TooManyRejectedError(refusal) if refusal else None,
            )

        end = self.ledger.transact(commit)
        try:
            self.ledger.prune()
        except Exception as error:
            # The import is over; the next one of the cohort removes them.
            log.warning("Old plans could not be removed: %s", first_line(error))
        return end

    def fail(self, plan: Plan, error: Exception, *, untouched: bool = False) -> ImportEnd:
        """Delivery stopped: commit what was accepted and leave the rest of the plan to a retry.

        :param untouched: nothing was sent yet, so that a retry has to judge the plan once more.
        """
        damaged = isinstance(error, PlanDamagedError)

        def close() -> ImportResult:
            if damaged:
                self.ledger.give_up(plan, run_id=self.identity.run_id)
            else:
                self.ledger.pause(plan, self.journal.unknown, run_id=self.identity.run_id)
            totals = self.ledger.totals(plan.import_id, self.ledger.doubtful(plan))
            result = self._result(plan, "failed", totals, error=in_words(error))
            state: State = "closed" if damaged else "planned" if untouched else "paused"
            self.ledger.write_result(plan.import_id, result, state=state)
            return result

        return ImportEnd(result=self.ledger.transact(close), import_id=plan.import_id, error=error)

    def fail_unplanned(self, error: KubitBrazeError) -> ImportEnd:
        """There is no plan, so a later try begins from the beginning."""
        in_braze = self.ledger.users_imported()
        plan = Plan(
            import_id=uuid.uuid4().hex,
            members=0,
            in_braze=in_braze,
            enter=0,
            leave=0,
            purpose=self.purpose,
        )

        def write() -> ImportResult:
            self.begin(plan)
            totals = Totals(added=0, removed=0, rejected=0, unknown=0, users_imported=in_braze)
            result = replace(self._result(plan, "failed", totals, error=str(error)), unchanged=0)
            self.ledger.write_result(plan.import_id, result, state="closed")
            return result

        return ImportEnd(result=self.ledger.transact(write), import_id=plan.import_id, error=error)

    def end_unsent(self, plan: Plan, outcome: Outcome, broken: tuple[str, ...]) -> ImportEnd:
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

        def write() -> None:
            self.ledger.drop_plan(plan.import_id)
            self.ledger.write_result(plan.import_id, result, state="closed")

        self.ledger.transact(write)
        stopped = GuardStoppedError(sentence) if outcome == "stopped" else None
        return ImportEnd(result=result, import_id=plan.import_id, error=stopped)

    def spent(self) -> Counters:
        """Return what the import has cost so far, earlier tries included."""
        return self.before + self.journal.counters

    def _result(self, plan: Plan, outcome: Outcome, totals: Totals, *, error: str | None) -> ImportResult:
        finished_at, spent = datetime.now(UTC), self.spent()
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
            rejected_reasons=self.ledger.reasons(plan.import_id) if totals.rejected else None,
            unknown=totals.unknown,
            set_aside=plan.set_aside,
            unmatched=plan.unmatched,
            users_before=plan.in_braze,
            purpose=plan.purpose,
            data_points=spent.data_points,
            requests=spent.requests,
            retries=spent.retries,
            throttled_seconds=round(spent.throttled_seconds, 3),
            duration_seconds=round((finished_at - self.started_at).total_seconds(), 3),
            started_at=self.started_at.isoformat(),
            finished_at=finished_at.isoformat(),
            error=error,
        )


def in_words(error: Exception) -> str:
    """Return why an import, or a part of it, stopped; values from rows are left out."""
    return (
        str(error) if isinstance(error, KubitBrazeError) else f"{type(error).__name__}: {first_line(error)}"
    )
