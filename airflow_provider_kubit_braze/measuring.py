"""Measure what messages did to a cohort: refresh the days, read the figures, judge them, and keep what was found."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.impact.before_after import BeforeAfter
from airflow_provider_kubit_braze.core.impact.figures import Experiment, Group, Revenue
from airflow_provider_kubit_braze.core.impact.judge import judge_all
from airflow_provider_kubit_braze.core.impact.question import PURCHASE
from airflow_provider_kubit_braze.core.impact.report import ALL, ImpactReport, MessageImpact
from airflow_provider_kubit_braze.core.impact.tellings import Tellings
from airflow_provider_kubit_braze.core.impact.words import percent
from airflow_provider_kubit_braze.exceptions import (
    CohortConfigError,
    ImpactFiguresError,
    StatisticsMissingError,
)
from airflow_provider_kubit_braze.warehouse.impact_days import Days
from airflow_provider_kubit_braze.warehouse.impact_figures import PeriodFigures, Sums
from airflow_provider_kubit_braze.warehouse.impact_refresh import Refresh
from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
from airflow_provider_kubit_braze.warehouse.impact_summary import keep_summary
from airflow_provider_kubit_braze.warehouse.share_check import read_inventory
from airflow_provider_kubit_braze.warehouse.state import ensure_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from airflow_provider_kubit_braze.core.impact.figures import ControlKind
    from airflow_provider_kubit_braze.core.impact.findings import Judgement
    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.report import Slice
    from airflow_provider_kubit_braze.warehouse.impact_figures import Run
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)

_DAY_SECONDS: Final = 86_400

_NAMES: Final = {
    "campaign": ("CHANGELOGS_CAMPAIGN_SHARED", "SNAPSHOTS_CAMPAIGN_MESSAGE_VARIATION_SHARED"),
    "canvas": ("CHANGELOGS_CANVAS_SHARED", "SNAPSHOTS_CANVAS_VARIATION_SHARED"),
}


def measure_impact(
    question: ImpactQuestion,
    *,
    session: Session,
    tables: Tables,
    workspace: str,
    cohort_id: str,
    now: datetime,
    cohort_name: str | None = None,
    holdout: Fraction | None = None,
    run_id: str = "",
    full_refresh: bool = False,
    keep: bool = True,
) -> ImpactReport:
    """Measure the impact of messages on a cohort, and keep it in ``IMPACT_DAILY`` and ``IMPACT_SUMMARY``.

    :param question: what is asked.
    :param session: a session whose role may read the share, and write and make state tables.
    :param tables: names of the state tables; made when they are not there.
    :param workspace: key of the Braze workspace, as the ledger has it.
    :param cohort_id: the cohort.
    :param now: an aware moment; nothing after it has happened.
    :param cohort_name: the cohort's name for people.
    :param holdout: the share that was to be held out; None when that is not known, and the sizes cannot be checked.
    :param run_id: the run that the rows name.
    :param full_refresh: measure every day anew, whatever was measured before.
    :param keep: write what was found into ``IMPACT_SUMMARY``; not for a question that is asked once, as there is one
        summary of a measure.
    :raises SourceError: when the share cannot be read; with the SQL that helps.
    :raises CohortConfigError: when the first day is still to come.
    :raises StateSchemaError: when the state tables cannot be made; with the grants that are missing.
    """
    first, last = question.days(now)
    if first > last:
        raise CohortConfigError(
            f"the first day, {first}, is still to come", fix="write a day that has begun", field="since"
        )
    ensure_tables(session, tables)
    return _Measurement(
        question=question,
        session=session,
        tables=tables,
        key=(workspace, cohort_id),
        now=now,
        holdout=holdout,
    ).report(cohort_name=cohort_name or cohort_id, run_id=run_id, full_refresh=full_refresh, keep=keep)


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """A message with the groups it is judged by."""

    run: Run
    held_out: Mapping[bool, Sums]
    experiments: Sequence[Experiment]
    before_after: BeforeAfter | None

    @property
    def open_users(self) -> int:
        return sum(sums.open for sums in self.held_out.values())


class _Measurement:
    def __init__(
        self,
        *,
        question: ImpactQuestion,
        session: Session,
        tables: Tables,
        key: tuple[str, str],
        now: datetime,
        holdout: Fraction | None,
    ) -> None:
        self._question = question
        self._session = session
        self._tables = tables
        self._key = key
        self._now = now
        self._holdout = holdout
        self._inventory = read_inventory(session, question.source)
        self._tellings = Tellings(self._inventory.columns)
        self._stage = Stage(self._inventory, app_group_id=question.app_group_id)
        self._days = Days(
            session,
            tables,
            inventory=self._inventory,
            stage=self._stage,
            tellings=self._tellings,
            question=question,
            key=key,
        )
        self._notes: list[str] = []

    def report(self, *, cohort_name: str, run_id: str, full_refresh: bool, keep: bool) -> ImpactReport:
        question = self._question
        first, last = question.days(self._now)
        self._figures = PeriodFigures(
            self._session,
            self._tables,
            tellings=self._tellings,
            question=question,
            key=self._key,
            first=first,
            last=last,
        )
        with self._days.prepared():
            refreshed = Refresh(
                self._session,
                self._tables,
                days=self._days,
                stage=self._stage,
                tellings=self._tellings,
                question=question,
                key=self._key,
            ).run(now=self._now, run_id=run_id, anew=full_refresh)
            runs, left_out = self._figures.runs()
            compared = self._compare(runs, refreshed.data_until)
        judgements = self._judge(compared)
        names = self._names(runs)
        messages = [
            MessageImpact(
                kind=one.run.kind,
                id=one.run.id,
                name=names.get(one.run.id),
                first_reach=_moment(one.run.first),
                last_reach=_moment(one.run.last),
                figures=one.run.figures,
                channels=self._figures.slices(one.run, "channel"),
                variations=_named(self._figures.slices(one.run, "variation"), names),
                days=self._figures.slices(one.run, "day"),
                open_users=one.open_users,
                judgements=judged,
                before_after=one.before_after,
            )
            for one, judged in zip(compared, judgements, strict=True)
        ]
        if not messages:
            self._notes.append(
                "No message reached anybody of the cohort in these days, as far as the share tells."
            )
        report = ImpactReport(
            question=question,
            cohort_id=self._key[1],
            cohort_name=cohort_name,
            run_id=run_id,
            since=first,
            until=last,
            data_until=_moment(refreshed.data_until),
            measured_at=self._now,
            days_measured=refreshed.days,
            messages=messages,
            messages_left_out=left_out,
            missing=self._tellings.missing,
            limits=self._tellings.limits(
                {part.channel for one in messages for part in one.channels if part.channel}
            ),
            notes=[*self._days.notes, *self._notes],
        )
        if keep:
            keep_summary(self._session, self._tables, report, key=self._key)
        log.info(
            "Measured %d days; %d messages reached the cohort.", refreshed.days, len(runs) - (len(runs) > 1)
        )
        return report

    def _compare(self, runs: Sequence[Run], until: int | None) -> list[_Compared]:
        """Read the groups of each message."""
        if until is None or not self._can_compare():
            return [_Compared(run=run, held_out={}, experiments=(), before_after=None) for run in runs]
        currency = self._currency() if self._tellings_of("purchase") else None
        compared = []
        for run in runs:
            groups: Mapping[bool, Sums] = {}
            experiments: list[Experiment] = []
            if run.first is not None:
                groups = self._figures.held_out(run, until=until, currency=currency)
                if True in groups:
                    experiments.append(self._experiment(run, groups, currency, "holdout"))
                if run.kind != ALL:
                    of_braze = self._figures.braze_control(run, until=until, currency=currency)
                    if of_braze is not None:
                        experiments.append(self._experiment(run, of_braze, currency, "braze_control"))
            compared.append(_Compared(run=run, held_out=groups, experiments=experiments, before_after=None))
        return self._with_description(compared, until, currency)

    def _with_description(
        self, compared: Sequence[_Compared], until: int, currency: str | None
    ) -> list[_Compared]:
        """Add before and after where nobody is held out."""
        described = [one for one in compared if one.run.first is not None and True not in one.held_out]
        if not described:
            return list(compared)
        window = self._question.window_seconds
        firsts = [one.run.first for one in described if one.run.first is not None]
        lasts = [one.run.last for one in described if one.run.last is not None]
        self._days.stage_outcomes(min(firsts) - window, max(lasts) + window)
        outcomes = self._days.staged_outcomes()
        found = []
        for one in compared:
            if one not in described:
                found.append(one)
                continue
            before, after = (
                _group(
                    self._figures.held_out(
                        one.run, until=until, currency=currency, outcomes=outcomes, shift=shift
                    ).get(False, Sums()),
                    currency,
                    self._notes,
                )
                for shift in (-window, 0)
            )
            found.append(replace(one, before_after=BeforeAfter(name=one.run.id, before=before, after=after)))
        return found

    def _experiment(
        self, run: Run, groups: Mapping[bool, Sums], currency: str | None, control_kind: ControlKind
    ) -> Experiment:
        treated, control = groups.get(False, Sums()), groups.get(True, Sums())
        of_treated, of_control = (_group(sums, currency, self._notes) for sums in (treated, control))
        if of_treated.revenue is None or of_control.revenue is None:
            of_treated, of_control = replace(of_treated, revenue=None), replace(of_control, revenue=None)
        length = ((run.last or 0) - (run.first or 0)) / _DAY_SECONDS
        share = self._holdout if control_kind == "holdout" and self._holdout else None
        return Experiment(
            name=run.id,
            treated=of_treated,
            control=of_control,
            control_kind=control_kind,
            control_share=float(share) if share else None,
            new_users_per_day=(treated.later + control.later) / length if length >= 1 else 0.0,
            reached=treated.reached if run.figures["reached"] is not None else None,
        )

    def _judge(self, compared: Sequence[_Compared]) -> list[list[Judgement]]:
        """Judge all messages together; what they did as a whole is another question, and is judged by itself."""
        judged: dict[int, list[Judgement]] = {}
        try:
            for together in (True, False):
                of = [
                    (index, experiment)
                    for index, one in enumerate(compared)
                    if (one.run.kind == ALL) == together
                    for experiment in one.experiments
                ]
                found = judge_all([experiment for _, experiment in of], worth=self._question.worth)
                for (index, _), judgement in zip(of, found, strict=True):
                    judged.setdefault(index, []).append(judgement)
        except StatisticsMissingError as error:
            self._notes.append(f"No effect is judged. {error}")
        return [judged.get(index, []) for index in range(len(compared))]

    def _can_compare(self) -> bool:
        goal = "purchase" if self._question.goal == PURCHASE else "event"
        if self._tellings_of(goal):
            return True
        self._notes.append(
            f"No effect is judged: the share has no table that tells the goal, {self._question.goal}."
        )
        return False

    def _tellings_of(self, figure: str) -> bool:
        return any(one.figure == figure for tellings in self._tellings.by_table.values() for one in tellings)

    def _currency(self) -> str | None:
        currency, purchases = self._figures.currency()
        number = sum(purchases.values())
        for other, count in purchases.items():
            if other != currency:
                self._notes.append(
                    f"Revenue in {other or 'no currency'} ({percent(count / number)} of the purchases) is not judged: "
                    f"amounts of several currencies have no sum. {currency} is."
                )
        return currency

    def _names(self, runs: Sequence[Run]) -> dict[str, str]:
        """Return id -> name of messages and variations, as far as the share knows them."""
        names: dict[str, str] = {}
        for kind, (of_messages, of_variations) in _NAMES.items():
            some = [run for run in runs if run.kind == kind]
            variations = {
                one.variation
                for run in some
                for one in self._figures.slices(run, "variation")
                if one.variation
            }
            for table, ids in ((of_messages, [run.id for run in some]), (of_variations, sorted(variations))):
                query = self._stage.names(table, ids)
                if query is not None:
                    names |= {one: name for one, name in self._session.rows(query.sql, query.params) if name}
        return names


def _group(sums: Sums, currency: str | None, notes: list[str]) -> Group:
    revenue = None
    if currency is not None:
        try:
            revenue = Revenue(buyers=sums.buyers, total=sums.total, squares=sums.squares, currency=currency)
        except ImpactFiguresError as error:
            if str(error) not in notes:
                notes.append(str(error))
    return Group(users=sums.users, converters=sums.converters, revenue=revenue)


def _named(variations: Sequence[Slice], names: Mapping[str, str]) -> list[Slice]:
    return [replace(one, name=names.get(one.variation or "")) for one in variations]


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
