"""Compare, for each message, those who were treated with those who were not, and judge what the message did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.impact.before_after import BeforeAfter
from airflow_provider_kubit_braze.core.impact.figures import Experiment, Group, Revenue
from airflow_provider_kubit_braze.core.impact.judge import judge_all
from airflow_provider_kubit_braze.core.impact.report import ALL
from airflow_provider_kubit_braze.core.impact.words import percent, too_early
from airflow_provider_kubit_braze.exceptions import ImpactFiguresError, StatisticsMissingError
from airflow_provider_kubit_braze.warehouse.impact_figures import Sums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from airflow_provider_kubit_braze.core.impact.figures import ControlKind
    from airflow_provider_kubit_braze.core.impact.findings import Judgement
    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.tellings import Tellings
    from airflow_provider_kubit_braze.warehouse.impact_days import Days
    from airflow_provider_kubit_braze.warehouse.impact_figures import PeriodFigures, Run

_DAY_SECONDS: Final = 86_400

_KINDS: Final = {"campaign": "campaign", "canvas": "Canvas"}
_SUBJECTS: Final = {"campaign": "The campaign", "canvas": "The Canvas", ALL: "The messages together"}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A message with what it is judged by.

    :param run: the message.
    :param open_users: users whose attribution window is not over.
    :param experiments: one for each control group that there is.
    :param judgements: what came of them.
    :param before_after: a description, where nobody was held out.
    :param not_judged: why there is nothing of the three, as a sentence.
    """

    run: Run
    open_users: int = 0
    experiments: Sequence[Experiment] = ()
    judgements: Sequence[Judgement] = ()
    before_after: BeforeAfter | None = None
    not_judged: str | None = None


@dataclass(kw_only=True)
class Comparison:
    """Compares and judges messages.

    :param question: what was asked.
    :param figures: the measured days.
    :param days: measures more of them, where a description needs it.
    :param tellings: what the share can tell.
    :param holdout: the share that was to be held out; None when it is not known.
    :param kinds: the identifiers of users of whom it can be known what they did.
    :param since: the first day.
    :param notes: gets what whoever reads the figures has to know.
    """

    question: ImpactQuestion
    figures: PeriodFigures
    days: Days
    tellings: Tellings
    holdout: Fraction | None
    kinds: Sequence[str]
    since: date
    notes: list[str] = field(default_factory=list)

    def of(self, runs: Sequence[Run], until: int | None) -> list[Compared]:
        """Compare the groups of messages; must run inside ``Days.prepared``.

        :param until: until when it is known what users did, in epoch seconds; None: nothing is known.
        """
        if not self.days.goal_tables:
            why = f"No effect is judged: the share has no table that tells the goal, {self.question.goal}."
            return [Compared(run=run, not_judged=why) for run in runs]
        if until is None:
            why = f"No effect is judged: in these days the share has no row of what is the goal, {self.question.goal}."
            return [Compared(run=run, not_judged=why) for run in runs]
        currency = self._currency() if self.tellings.tables(("purchase",)) else None
        return self._judged(
            self._described([self._compared(run, until, currency) for run in runs], until, currency)
        )

    def _compared(self, run: Run, until: int, currency: str | None) -> Compared:
        if run.first is None:
            return Compared(run=run)
        experiments: list[Experiment] = []
        if run.is_older:
            self.notes.append(
                f"{_SUBJECTS[run.kind]}{'' if run.kind == ALL else f' {run.id}'} began before {self.since}: only users "
                "who came since then are compared. An earlier first day (since) compares all."
            )
        groups = self.figures.held_out(run, until=until, currency=currency, kinds=self.kinds)
        if True in groups:
            experiments.append(self._experiment(run, groups, until, currency, "holdout"))
            self._note_leaks(run, groups[True])
        if run.kind != ALL:
            of_braze = self.figures.braze_control(run, until=until, currency=currency)
            if of_braze is not None:
                experiments.append(self._experiment(run, of_braze, until, currency, "braze_control"))
        still = sum(sums.open for sums in groups.values())
        return Compared(run=run, open_users=still, experiments=experiments)

    def _note_leaks(self, run: Run, control: Sums) -> None:
        """Say whom a message was sent though they were held out."""
        if control.reached:
            what = "one of the messages" if run.kind == ALL else f"{_KINDS[run.kind]} {run.id}"
            self.notes.append(
                f"{control.reached:,} of {control.users:,} held-out users were sent {what} all the same: its audience "
                "is not the cohort (or somebody sent it by hand)."
            )

    def _experiment(
        self,
        run: Run,
        groups: Mapping[bool, Sums],
        until: int,
        currency: str | None,
        control_kind: ControlKind,
    ) -> Experiment:
        treated, control = groups.get(False, Sums()), groups.get(True, Sums())
        of_treated, of_control = (self._group(sums, currency) for sums in (treated, control))
        if of_treated.revenue is None or of_control.revenue is None:
            of_treated, of_control = replace(of_treated, revenue=None), replace(of_control, revenue=None)
        first, last, window = run.first or 0, run.last or 0, self.question.window_seconds
        length = (last - first) / _DAY_SECONDS
        share = self.holdout if control_kind == "holdout" and self.holdout else None
        still = treated.open + control.open
        return Experiment(
            name=run.id,
            treated=of_treated,
            control=of_control,
            control_kind=control_kind,
            control_share=float(share) if share else None,
            new_users_per_day=(treated.later + control.later) / length if length >= 1 else 0.0,
            reached=treated.reached if run.figures["reached"] is not None else None,
            control_reached=control.reached if control_kind == "holdout" else None,
            open_users=still,
            countable_on=self._countable_on(run),
            is_final=not still and last + window <= until,
            subject=_SUBJECTS[run.kind],
        )

    def _described(self, compared: Sequence[Compared], until: int, currency: str | None) -> list[Compared]:
        """Add before and after where nobody was held out, whomever Braze kept out."""
        described = [
            one
            for one in compared
            if one.run.first is not None and all(its.control_kind != "holdout" for its in one.experiments)
        ]
        if not described:
            return list(compared)
        window = self.question.window_seconds
        firsts = [one.run.first for one in described if one.run.first is not None]
        lasts = [one.run.last for one in described if one.run.last is not None]
        self.days.stage_outcomes(min(firsts) - window, max(lasts) + window)
        outcomes = self.days.staged_outcomes()
        return [
            self._before_after(one, until, currency, outcomes) if one in described else one
            for one in compared
        ]

    def _before_after(self, one: Compared, until: int, currency: str | None, outcomes: str) -> Compared:
        before, after = (
            self.figures.held_out(
                one.run, until=until, currency=currency, kinds=self.kinds, outcomes=outcomes, shift=shift
            ).get(False, Sums())
            for shift in (-self.question.window_seconds, 0)
        )
        if not after.users:
            if one.experiments:
                return one
            return replace(one, not_judged=too_early(one.open_users, self._countable_on(one.run)))
        return replace(
            one,
            before_after=BeforeAfter(
                name=one.run.id, before=self._group(before, currency), after=self._group(after, currency)
            ),
        )

    def _judged(self, compared: Sequence[Compared]) -> list[Compared]:
        """Judge the messages together by each kind of control group, and what they did as a whole by itself."""
        judged: dict[int, list[Judgement]] = {}
        kinds = {(one.run.kind == ALL, its.control_kind) for one in compared for its in one.experiments}
        try:
            for whole, control_kind in sorted(kinds, reverse=True):
                of = [
                    (index, experiment)
                    for index, one in enumerate(compared)
                    if (one.run.kind == ALL) == whole
                    for experiment in one.experiments
                    if experiment.control_kind == control_kind
                ]
                found = judge_all([experiment for _, experiment in of], worth=self.question.worth)
                for (index, _), judgement in zip(of, found, strict=True):
                    judged.setdefault(index, []).append(judgement)
        except StatisticsMissingError as error:
            why = f"No effect is judged. {error}"
            return [replace(one, not_judged=why) if one.experiments else one for one in compared]
        return [replace(one, judgements=judged.get(index, [])) for index, one in enumerate(compared)]

    def _countable_on(self, run: Run) -> date:
        over = (run.first or 0) + self.question.window_seconds
        return datetime.fromtimestamp(over, UTC).astimezone(self.question.zone).date()

    def _currency(self) -> str | None:
        currency, purchases = self.figures.currency()
        number = sum(purchases.values())
        for other, count in purchases.items():
            if other != currency:
                self.notes.append(
                    f"Revenue in {other or 'no currency'} ({percent(count / number)} of the purchases) is not judged: "
                    f"amounts of several currencies have no sum. {currency} is."
                )
        return currency

    def _group(self, sums: Sums, currency: str | None) -> Group:
        revenue = None
        if currency is not None:
            try:
                revenue = Revenue(
                    buyers=sums.buyers, total=sums.total, squares=sums.squares, currency=currency
                )
            except ImpactFiguresError as error:
                if str(error) not in self.notes:
                    self.notes.append(str(error))
        return Group(users=sums.users, converters=sums.converters, revenue=revenue)
