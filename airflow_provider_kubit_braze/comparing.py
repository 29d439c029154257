"""Compare, for each message, those who were treated with those who were not, and judge what the message did."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, get_args

from airflow_provider_kubit_braze.core.campaign import in_words
from airflow_provider_kubit_braze.core.impact.before_after import BeforeAfter
from airflow_provider_kubit_braze.core.impact.figures import (
    MOSTLY_REACHED,
    ControlKind,
    Course,
    Experiment,
    Group,
    Revenue,
    Timing,
    course_of,
)
from airflow_provider_kubit_braze.core.impact.findings import Verdict
from airflow_provider_kubit_braze.core.impact.judge import judge_all
from airflow_provider_kubit_braze.core.impact.question import MAX_WINDOW
from airflow_provider_kubit_braze.core.impact.report import ALL
from airflow_provider_kubit_braze.core.impact.words import (
    nobody_came,
    percent,
    reached_in_time,
    sent_later,
    too_early,
)
from airflow_provider_kubit_braze.exceptions import ImpactFiguresError, StatisticsMissingError
from airflow_provider_kubit_braze.warehouse.impact_groups import Sums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from airflow_provider_kubit_braze.core.impact.findings import Judgement
    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.tellings import Tellings
    from airflow_provider_kubit_braze.warehouse.impact_days import Days
    from airflow_provider_kubit_braze.warehouse.impact_figures import Run
    from airflow_provider_kubit_braze.warehouse.impact_groups import Groups

_DAY: Final = timedelta(days=1)
_DAY_SECONDS: Final = 86_400

#: What is compared with a control path is what the step's other paths bring.
_STEP: Final = "The experiment step"

_SUBJECTS: Final = {"campaign": "The campaign", "canvas": "The Canvas", ALL: "The messages together"}

#: Where nothing is judged, nothing is to be said of what the verdict is about.
_NO_VERDICT: Final = (
    Verdict.NO_COMPARISON,
    Verdict.GROUPS_BROKEN,
    Verdict.CONTROL_REACHED,
    Verdict.REACHED_LATER,
)


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
    :param groups: sums them up.
    :param days: measures more of them, where a description needs it.
    :param tellings: what the share can tell.
    :param holdout: the share that was to be held out; None when it is not known.
    :param kinds: the identifiers of users of whom it can be known what they did.
    :param since: the first day.
    :param notes: gets what whoever reads the figures has to know.
    """

    question: ImpactQuestion
    groups: Groups
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
        experiments: list[Experiment] = []
        groups = self.groups.held_out(run, until=until, currency=currency, kinds=self.kinds)
        if True in groups:
            experiments.append(self._experiment(run, groups, until, currency, "holdout"))
            self._note_leaks(run, groups[True])
        if run.is_older:
            self._note_what_is_older(run, somebody_came=bool(groups))
        elif run.kind != ALL:
            of_braze = self.groups.braze_control(run, until=until, currency=currency)
            if of_braze is not None:
                experiments.append(self._experiment(run, of_braze, until, currency, "braze_control"))
            for step in self.groups.experiment_steps(run):
                of_step = self.groups.braze_control(run, until=until, currency=currency, step=step)
                if of_step is not None:
                    experiments.append(self._experiment(run, of_step, until, currency, "control_path", step))
        still = sum(sums.open for sums in groups.values())
        return Compared(run=run, open_users=still, experiments=experiments)

    def _note_leaks(self, run: Run, control: Sums) -> None:
        """Say whom a message was sent though they were held out."""
        if control.reached:
            what = "one of the messages" if run.kind == ALL else f"{in_words(run.kind)} {run.id}"
            self.notes.append(
                f"{control.reached:,} of {control.users:,} held-out users were sent {what} all the same: its audience "
                "is not the cohort (or somebody sent it by hand)."
            )

    def _note_what_is_older(self, run: Run, *, somebody_came: bool) -> None:
        not_compared = []
        if somebody_came:
            not_compared.append("only users who came since then are compared")
        if run.kind != ALL and self.groups.has_braze_control(run):
            not_compared.append(
                "Braze's own control group is not compared, as Braze names those in it once, and those whom it treats "
                "each time"
            )
        if not_compared:
            self.notes.append(
                f"{_name(run)} began before {self.since}: {'; '.join(not_compared)}. An earlier first day (since) "
                "compares all."
            )

    def _experiment(
        self,
        run: Run,
        groups: Mapping[bool, Sums],
        until: int,
        currency: str | None,
        control_kind: ControlKind,
        step: str = "",
    ) -> Experiment:
        treated, control = groups.get(False, Sums()), groups.get(True, Sums())
        of_treated, of_control = (self._group(sums, currency) for sums in (treated, control))
        if of_treated.revenue is None or of_control.revenue is None:
            of_treated, of_control = replace(of_treated, revenue=None), replace(of_control, revenue=None)
        first, last, window = run.first, run.last, self.question.window_seconds
        length = (last - first) / _DAY_SECONDS
        share = self.holdout if control_kind == "holdout" and self.holdout else None
        knows_reached = run.figures["reached"] is not None
        return Experiment(
            name=run.id,
            treated=of_treated,
            control=of_control,
            control_kind=control_kind,
            control_id=step,
            control_share=float(share) if share else None,
            new_users_per_day=(treated.later + control.later) / length if length >= 1 else 0.0,
            reached=treated.reached if knows_reached else None,
            control_reached=control.reached if control_kind == "holdout" else None,
            timing=self._timing(run, treated) if knows_reached else None,
            course=Course.RUNNING
            if treated.open or control.open
            else course_of(
                last=last,
                until=until,
                window=window,
                longest_gap=run.longest_gap,
                ends=self.question.starts(self.question.until + _DAY) if self.question.until else None,
            ),
            subject=_STEP if step else _SUBJECTS[run.kind],
        )

    def _timing(self, run: Run, treated: Sums) -> Timing:
        days = None if treated.delay is None else treated.delay // _DAY_SECONDS + 1
        return Timing(
            ever_reached=treated.ever_reached,
            window=self.question.window,
            first_day=self._day(run.first),
            days=None if days is None or days > MAX_WINDOW.days else days,
        )

    def _described(self, compared: Sequence[Compared], until: int, currency: str | None) -> list[Compared]:
        """Add before and after where nobody was held out, whomever Braze kept out."""
        described = [one for one in compared if all(its.control_kind != "holdout" for its in one.experiments)]
        if not described:
            return list(compared)
        window = self.question.window_seconds
        first, last = min(one.run.first for one in described), max(one.run.last for one in described)
        self.days.stage_outcomes(first - window, last + window)
        outcomes = self.days.staged_outcomes()
        return [
            self._before_after(one, until, currency, outcomes) if one in described else one
            for one in compared
        ]

    def _before_after(self, one: Compared, until: int, currency: str | None, outcomes: str) -> Compared:
        before, after = (
            self.groups.held_out(
                one.run, until=until, currency=currency, kinds=self.kinds, outcomes=outcomes, shift=shift
            ).get(False, Sums())
            for shift in (-self.question.window_seconds, 0)
        )
        if not after.users and one.experiments:
            return one
        of_after = self._group(after, currency)
        if not after.users:
            return replace(one, not_judged=too_early(of_after) if after.open else nobody_came(self.since))
        has_holdout = self.groups.has_holdout()
        return replace(
            one,
            before_after=BeforeAfter(
                name=one.run.id,
                before=self._group(before, currency),
                after=of_after,
                has_holdout=has_holdout,
            ),
        )

    def _judged(self, compared: Sequence[Compared]) -> list[Compared]:
        """Judge the messages together by each kind of control group, and what they did as a whole by itself."""
        judged: dict[int, list[Judgement]] = {}
        # In the order of a message's experiments.
        kinds = itertools.product((True, False), get_args(ControlKind))
        try:
            for whole, control_kind in kinds:
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
        self._note_unchecked_sizes(compared)
        for index, of_message in judged.items():
            self._note_what_is_left_out(compared[index], of_message)
        return [replace(one, judgements=judged.get(index, [])) for index, one in enumerate(compared)]

    def _note_unchecked_sizes(self, compared: Sequence[Compared]) -> None:
        """Say it where groups are compared that may have the wrong sizes."""
        if self.holdout or not any(
            its.control_kind == "holdout" and its.treated.users and its.control.users
            for one in compared
            for its in one.experiments
        ):
            return
        why = (
            "it is not said what share is held out"
            if self.holdout is None
            else "nobody is to be held out now"
        )
        self.notes.append(
            f"Whether the groups have the sizes that they should have was not checked, as {why}."
        )

    def _note_what_is_left_out(self, one: Compared, judgements: Sequence[Judgement]) -> None:
        """Say of a message that is judged, once, what was sent after the time that is compared."""
        run = one.run
        for experiment, judgement in zip(one.experiments, judgements, strict=True):
            timing, in_time = experiment.timing, experiment.reached_in_time
            if timing is None or in_time is None or judgement.conversion.verdict in _NO_VERDICT:
                continue
            is_late = run.last > run.first + self.question.window_seconds
            if in_time < MOSTLY_REACHED:
                self.notes.append(f"{_name(run)}: {reached_in_time(experiment)}")
                return
            if is_late and experiment.control_kind == "holdout":
                self.notes.append(f"{_name(run)}: {sent_later(timing)}")
                return

    def _day(self, moment: int) -> date:
        return datetime.fromtimestamp(moment, UTC).astimezone(self.question.zone).date()

    def _currency(self) -> str | None:
        currency, purchases = self.groups.currency()
        if currency is None and purchases:
            self.notes.append("Revenue is not judged: the purchases have no currency.")
            return None
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
        opened = sums.opened
        return Group(
            users=sums.users,
            converters=sums.converters,
            revenue=revenue,
            open_users=sums.open,
            countable_on=None if opened is None else self._day(opened + self.question.window_seconds),
        )


def _name(run: Run) -> str:
    """Return a message as a sentence begins with it."""
    return _SUBJECTS[run.kind] if run.kind == ALL else f"{_SUBJECTS[run.kind]} {run.id}"
