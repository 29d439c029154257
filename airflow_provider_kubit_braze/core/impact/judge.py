"""Judge campaigns: what they did to conversion and revenue, or that it cannot be said."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.impact.figures import LEAST_REACHED, Course
from airflow_provider_kubit_braze.core.impact.findings import (
    Effect,
    Interval,
    Intervals,
    Judgement,
    LiftInterval,
    Measure,
    ReachedEffect,
    SampleRatio,
    Verdict,
)
from airflow_provider_kubit_braze.core.impact.words import sentence_of
from airflow_provider_kubit_braze.exceptions import StatisticsMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

    from airflow_provider_kubit_braze.core.impact.figures import Experiment, Group

#: How often chance alone may pass for an effect of any of the campaigns that are judged together.
FALSE_ALARMS = 0.05

#: The same before the data are as many as planned (J. L. Haybittle, *Repeated assessment of results in clinical trials
#: of cancer treatment*, British Journal of Radiology 44 (1971) 793-797): somebody who looks every day, and stops at the
#: first p below 5 %, would have an effect of every second campaign that has none. At the last look, when a message is
#: over, 5 % are due as well. Of one that may yet be sent again it may turn out not to have been the last look.
FALSE_ALARMS_BEFORE = {Course.RUNNING: 0.001, Course.QUIET: 0.01, Course.OVER: FALSE_ALARMS}

#: Groups whose sizes chance brings more rarely than this are broken. An alarm throws a whole experiment away, and each
#: is checked at every look, so it has to be rarer than 5 % (R. Kohavi, D. Tang, Y. Xu, *Trustworthy Online Controlled
#: Experiments* (2020), chapter 21, use the same).
SAMPLE_RATIO_ALARMS = 0.001

#: The share of a control group that may have been sent the message all the same: the difference lacks what it did to
#: them.
MOST_CONTROL_REACHED = 0.05

#: With fewer users to expect who convert, or who do not, in one of the groups there is no finding: a single one of a
#: hundred held-out users who converts would be one.
FEWEST_EXPECTED = 5

#: The lift that is worth seeing, unless one is given.
WORTH = 0.1


def judge(experiment: Experiment, *, worth: float = WORTH) -> Judgement:
    """Judge one campaign by itself; see :func:`judge_all`."""
    return judge_all([experiment], worth=worth)[0]


def judge_all(experiments: Iterable[Experiment], *, worth: float = WORTH) -> tuple[Judgement, ...]:
    """Judge campaigns that are looked at together, so that many of them are no excuse for a lucky one.

    The p-values of conversion are adjusted among all campaigns by Holm's method, and those of revenue among
    themselves: the chance that any of them is wrongly said to have an effect on conversion stays at 5 %, whatever the
    campaigns have in common. The intervals stay at 95 % for each; ``joint_intervals`` are Bonferroni's.

    :param experiments: all that are looked at, with and without effect. Leaving out the dull ones spoils the rest.
    :param worth: the least lift that would matter: 0.1 is 10 % more or less than the control group's figure. Decides
        how many users are enough.
    :raises ValueError: if ``worth`` is not above 0.
    :raises StatisticsMissingError: if numpy or scipy is not installed.
    """
    if not worth > 0:
        raise ValueError(f"worth is {worth}; give the least lift that would matter, such as 0.1 for 10 %.")
    readings = [_Reading(experiment, worth) for experiment in experiments]
    # Those of too few users are looked at as well, and their intervals are shown beside the others.
    conversions = _adjusted([1.0 if reading.are_few else reading.conversion_p for reading in readings])
    revenues = _adjusted([reading.revenue_p for reading in readings])
    return tuple(
        reading.judgement(conversion, revenue)
        for reading, conversion, revenue in zip(readings, conversions, revenues, strict=True)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being so many, in their order.

    S. Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6 (1979)
    65-70.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _adjusted(p_values: Sequence[float | None]) -> list[tuple[float | None, int]]:
    """Return each p-value adjusted, with the number of those it was adjusted for."""
    known = [p for p in p_values if p is not None]
    found = iter(holm(known))
    return [(None if p is None else next(found), len(known)) for p in p_values]


class _Reading:
    """One campaign's figures with what can be computed of them alone."""

    def __init__(self, experiment: Experiment, worth: float) -> None:
        self._experiment = experiment
        self._worth = worth
        self._proportions, self._revenue, self._power, stats = _methods()
        self._ratio = _sample_ratio(experiment, stats)
        treated, control = experiment.treated, experiment.control
        self._blocked: Verdict | None = None
        if not (treated.users and control.users):
            self._blocked = Verdict.NO_COMPARISON
        elif self._ratio and not self._ratio.is_sound:
            self._blocked = Verdict.GROUPS_BROKEN
        elif (experiment.control_reached or 0) / control.users > MOST_CONTROL_REACHED:
            self._blocked = Verdict.CONTROL_REACHED
        elif (in_time := experiment.reached_in_time) is not None and in_time < LEAST_REACHED:
            self._blocked = Verdict.REACHED_LATER
        self._counts = (treated.converters, treated.users, control.converters, control.users)
        self._sums: tuple[Any, Any] | None = None
        if treated.revenue and control.revenue:
            fewest = min(treated.revenue.buyers, control.revenue.buyers)
            least = min(treated.revenue.total, control.revenue.total)
            if fewest >= self._revenue.FEWEST_BUYERS and least > 0:
                self._sums = self._revenue.sums_of(treated), self._revenue.sums_of(control)

    @property
    def conversion_p(self) -> float | None:
        return None if self._blocked or self.are_few else float(self._proportions.p_value(*self._counts))

    @property
    def are_few(self) -> bool:
        """Whether the groups could be compared, but have too few users for a p-value of conversion."""
        return not self._blocked and self._proportions.least_expected(*self._counts) < FEWEST_EXPECTED

    @property
    def revenue_p(self) -> float | None:
        return None if self._blocked or not self._sums else float(self._revenue.p_value(*self._sums))

    def judgement(self, conversion: tuple[float | None, int], revenue: tuple[float | None, int]) -> Judgement:
        """Return the whole of it.

        :param conversion: the adjusted p-value, and the campaigns it was adjusted for.
        :param revenue: the same of revenue.
        """
        experiment = self._experiment
        of_conversion = self._effect("conversion", self.conversion_p, *conversion)
        has_revenue = experiment.treated.revenue is not None
        return Judgement(
            name=experiment.name,
            control_kind=experiment.control_kind,
            control_id=experiment.control_id,
            treated_users=experiment.treated.users,
            control_users=experiment.control.users,
            control_reached=experiment.control_reached,
            sample_ratio=self._ratio,
            conversion=of_conversion,
            revenue=self._effect("revenue", self.revenue_p, *revenue) if has_revenue else None,
            reached=_reached(experiment, of_conversion),
        )

    def _effect(self, measure: Measure, p: float | None, p_adjusted: float | None, compared: int) -> Effect:
        experiment = self._experiment
        treated, control = _figure(measure, experiment.treated), _figure(measure, experiment.control)
        users = experiment.treated.users
        p_adjusted = None if p is None else p_adjusted
        difference = lift = intervals = joint = extra = detectable = days = None
        # Where groups cannot be compared, the difference of their figures would be read as an effect.
        if not self._blocked and (measure == "conversion" or self._sums):
            difference = treated - control
            lift = difference / control if control else None
            intervals = self._intervals(measure, 1 - FALSE_ALARMS)
            joint = self._intervals(measure, 1 - FALSE_ALARMS / compared) if compared > 1 else intervals
            extra = _scaled(intervals.difference, users)
            detectable = self._detectable(measure, 0, compared)
            if not self._is_enough(detectable):
                days = self._power.days_until(
                    lambda more: self._detectable(measure, more, compared), self._worth
                )
        effect = Effect(
            measure=measure,
            currency=experiment.treated.revenue.currency
            if measure == "revenue" and experiment.treated.revenue
            else None,
            treated=treated,
            control=control,
            difference=difference,
            lift=lift,
            extra=None if difference is None else difference * users,
            extra_interval=extra,
            intervals=intervals,
            joint_intervals=joint,
            p=p,
            p_adjusted=p_adjusted,
            compared=compared,
            detectable=detectable,
            worth=self._worth,
            days=days,
            verdict=self._blocked or self._verdict(p_adjusted, difference, detectable),
        )
        return dataclasses.replace(effect, sentence=sentence_of(effect, experiment, self._ratio))

    def _verdict(self, p: float | None, difference: float | None, detectable: float | None) -> Verdict:
        if p is None or difference is None:
            return Verdict.NOT_ENOUGH_DATA
        enough = self._is_enough(detectable)
        # The last look may take all that the earlier ones have left of the false alarms, however few the data are.
        if p < (FALSE_ALARMS if enough else FALSE_ALARMS_BEFORE[self._experiment.course]):
            return Verdict.RAISED if difference > 0 else Verdict.LOWERED
        return Verdict.NONE_FOUND if enough else Verdict.NOT_ENOUGH_DATA

    def _is_enough(self, detectable: float | None) -> bool:
        return detectable is not None and detectable <= self._worth

    def _detectable(self, measure: Measure, days: float, compared: int) -> float | None:
        of_measure = {
            "conversion": self._power.detectable_conversion,
            "revenue": self._power.detectable_revenue,
        }[measure]
        found: float | None = of_measure(self._experiment, days, compared=compared)
        return found

    def _intervals(self, measure: Measure, confidence: float) -> Intervals:
        method: Any = self._proportions if measure == "conversion" else self._revenue
        figures = self._counts if measure == "conversion" else self._sums or ()
        low, high = method.difference_interval(*figures, confidence)
        least, most = method.ratio_interval(*figures, confidence)
        return Intervals(
            confidence=confidence,
            difference=Interval(low=float(low), high=float(high)),
            lift=LiftInterval(low=float(least) - 1, high=None if most == float("inf") else float(most) - 1),
        )


def _methods() -> tuple[ModuleType, ModuleType, ModuleType, ModuleType]:
    """Return the modules that need numpy and scipy, which come with the extra ``impact``."""
    try:
        from scipy import stats  # type: ignore[import-untyped]

        from airflow_provider_kubit_braze.core.impact import power, proportions, revenue
    except ImportError as error:
        raise StatisticsMissingError(
            "Judging an impact needs numpy and scipy: pip install 'airflow-provider-kubit-braze[impact]'."
        ) from error
    return proportions, revenue, power, stats


def _sample_ratio(experiment: Experiment, stats: ModuleType) -> SampleRatio | None:
    users = experiment.treated.users + experiment.control.users
    if experiment.control_share is None or not users:
        return None
    p = float(stats.binomtest(experiment.control.users, users, experiment.control_share).pvalue)
    return SampleRatio(
        expected=experiment.control_share,
        observed=experiment.control.users / users,
        p=p,
        is_sound=p >= SAMPLE_RATIO_ALARMS,
    )


def _figure(measure: Measure, group: Group) -> float:
    if measure == "conversion":
        return group.rate
    return group.revenue.total / group.users if group.revenue and group.users else 0.0


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(low=interval.low * factor, high=interval.high * factor)


def _reached(experiment: Experiment, effect: Effect) -> ReachedEffect | None:
    """Return the effect on those reached: all of it is theirs (H. S. Bloom, Evaluation Review 8 (1984) 225-246).

    Where some of the control group were reached as well, it is that of those more who were in the treated group
    (G. W. Imbens, J. D. Angrist, Econometrica 62 (1994) 467-475).
    """
    if not experiment.reached or not effect.intervals or effect.difference is None:
        return None
    treated, control = experiment.treated.users, experiment.control.users
    more = experiment.reached * control - (experiment.control_reached or 0) * treated
    if more <= 0:
        return None
    factor = treated * control / more
    return ReachedEffect(
        users=experiment.reached,
        difference=effect.difference * factor,
        interval=_scaled(effect.intervals.difference, factor),
    )
