"""What comes of judging an impact: values for a report, a table, a page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.impact.figures import ControlKind

#: What is compared: converters per user, or revenue per user.
Measure = Literal["conversion", "revenue"]


class Verdict(StrEnum):
    """What may be said."""

    #: The treated did more, and chance is no explanation.
    RAISED = "raised"
    #: The treated did less, and chance is no explanation.
    LOWERED = "lowered"
    #: There are enough users to see a lift that is worth seeing, and none is seen.
    NONE_FOUND = "none_found"
    #: There are too few users to say.
    NOT_ENOUGH_DATA = "not_enough_data"
    #: The groups do not have the sizes they should have, so chance alone has not divided them.
    GROUPS_BROKEN = "groups_broken"
    #: Too many of the control group were sent the message all the same.
    CONTROL_REACHED = "control_reached"
    #: Most of those whom the message reached were reached after the time that is compared.
    REACHED_LATER = "reached_later"
    #: One of the groups is empty.
    NO_COMPARISON = "no_comparison"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The differences that the data are compatible with: least and greatest."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class LiftInterval:
    """The lifts that the data are compatible with.

    :param low: the least, -1 or more.
    :param high: the greatest; None when there is no upper bound, for want of converters or buyers in the control group.
    """

    low: float
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """The same finding as a difference and as a share.

    :param confidence: how often such an interval holds the truth, such as 0.95.
    :param difference: of the treated minus the control group, per user.
    :param lift: the difference as a share of the control group's figure: 0.1 is 10 % more.
    """

    confidence: float
    difference: Interval
    lift: LiftInterval


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One measure of both groups, and what may be said of it.

    Conversion is in converters per user (0.05 is 5 %), revenue in units of ``currency`` per user.

    :param measure: what is compared.
    :param currency: of revenue; None for conversion.
    :param treated: the treated group's figure per user.
    :param control: the control group's.
    :param difference: treated minus control; None when nothing can be said.
    :param lift: the difference as a share of ``control``; None when that is 0, and when nothing can be said.
    :param extra: ``difference`` for all treated users: converters, or revenue, that would not have been; None with it.
    :param extra_interval: the same of the interval of the difference; None when there is no interval.
    :param intervals: of this campaign by itself, at 95 %; None when nothing can be said.
    :param joint_intervals: wider ones, which hold the truth of all ``compared`` campaigns at once in 95 % of cases.
    :param p: how often chance alone brings a difference this large; None when nothing can be said, and of so few users
        that it would be wrong.
    :param p_adjusted: the same among ``compared`` campaigns (Holm).
    :param compared: campaigns that were judged together.
    :param detectable: the least lift that these users would show in 4 cases of 5; None when there is none.
    :param worth: the lift worth seeing that was asked for.
    :param days: more days until a lift of ``worth`` is seen; None when it is already, or when that is no plan.
    :param verdict: what may be said.
    :param sentence: the same for people.
    """

    measure: Measure
    currency: str | None
    treated: float
    control: float
    difference: float | None
    lift: float | None
    extra: float | None
    extra_interval: Interval | None
    intervals: Intervals | None
    joint_intervals: Intervals | None
    p: float | None
    p_adjusted: float | None
    compared: int
    detectable: float | None
    worth: float
    days: int | None
    verdict: Verdict
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class SampleRatio:
    """Whether the groups have the sizes that chance gives them.

    :param expected: the share of users that was to be in the control group.
    :param observed: the share that is.
    :param p: how often chance alone is this far off.
    :param is_sound: false when it is so rare that something else is at work.
    """

    expected: float
    observed: float
    p: float
    is_sound: bool


@dataclass(frozen=True, kw_only=True)
class ReachedEffect:
    """What the campaign did to those whom it reached, if it did nothing to the others.

    :param users: the treated users who were reached.
    :param difference: converters per reached user that would not have been.
    :param interval: of the difference, from the interval of all treated users.
    """

    users: int
    difference: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A campaign, judged.

    :param name: the campaign, for people.
    :param control_kind: where its control group comes from.
    :param control_id: the API id of the experiment step, where it is a control path; else empty.
    :param control_name: the step's name, as far as it is known.
    :param treated_users: users in the treated group.
    :param control_users: users in the control group.
    :param control_reached: those of them whom the message was sent all the same; None when it is not known.
    :param sample_ratio: None when the sizes could not be checked.
    :param conversion: what it did to conversion.
    :param revenue: what it did to revenue; None when that is not known.
    :param reached: what it did to those reached; None when it is not known who was, or nothing can be said.
    """

    name: str
    control_kind: ControlKind
    control_id: str = ""
    control_name: str | None = None
    treated_users: int
    control_users: int
    control_reached: int | None
    sample_ratio: SampleRatio | None
    conversion: Effect
    revenue: Effect | None
    reached: ReachedEffect | None
