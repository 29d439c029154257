"""What an impact is judged from: a few sums over the users of each group, whatever their number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from airflow_provider_kubit_braze.exceptions import ImpactFiguresError

if TYPE_CHECKING:
    from datetime import date, timedelta

#: Where the control group comes from: the cohort's own holdout, the control group of a Braze campaign or Canvas, or the
#: control path of an experiment step of a Canvas.
ControlKind = Literal["holdout", "braze_control", "control_path"]

#: Of the treated users whom a message reached at all, this share has to be reached within the time that is compared, or
#: that time says nothing of the message; and with less than the second share, the report says how many were.
LEAST_REACHED: Final = 0.5
MOSTLY_REACHED: Final = 0.9

#: After so many days of silence a message counts as over: one that is sent every day, week or month would have been
#: sent again.
SILENT_DAYS: Final = 35

_DAY_SECONDS: Final = 86_400


class Course(Enum):
    """Whether more may come of a message."""

    #: More may come: somebody's window is open, or the message is between two sends.
    RUNNING = "running"
    #: Nothing is open, but it has not been silent for so long that it is over: so far it may be a recurring one.
    QUIET = "quiet"
    #: The days that were asked about are over, or it has been silent for long.
    OVER = "over"


@dataclass(frozen=True, kw_only=True)
class Revenue:
    """The revenue of a group, summed over its users.

    A user's revenue is what they spent in the whole period, so ``squares`` is a sum over users, not over purchases:
    somebody who spent 10 and 20 counts as one buyer, with 30 and 900. The revenue of several currencies has no sum;
    whoever collects the figures refuses it.

    :param buyers: users with a revenue other than 0.
    :param total: sum of the users' revenues, in units of ``currency``.
    :param squares: sum of the squares of the users' revenues.
    :param currency: the one currency of it all, such as ``USD``.
    :raises ImpactFiguresError: if a figure is impossible, or refunds are more than purchases.
    """

    buyers: int
    total: float
    squares: float
    currency: str

    def __post_init__(self) -> None:
        if self.buyers < 0:
            raise ImpactFiguresError(f"{self.buyers:,} buyers cannot be: count the users with revenue.")
        if not (math.isfinite(self.total) and math.isfinite(self.squares)):
            raise ImpactFiguresError("Revenue has to be finite: leave out rows without a price.")
        if self.total < 0:
            raise ImpactFiguresError(
                f"A revenue of {self.total:,.2f} {self.currency} cannot be judged: refunds are more than purchases."
            )
        # Cauchy-Schwarz: the squares cannot be smaller, but for the rounding of sums.
        if self.squares * self.buyers < self.total**2 * (1 - 1e-9):
            raise ImpactFiguresError(
                f"The sum of squared revenues ({self.squares:,.2f}) is too small for {self.buyers:,} buyers with "
                f"{self.total:,.2f} {self.currency}: sum the squares of what each user spent in the whole period."
            )


@dataclass(frozen=True, kw_only=True)
class Group:
    """Users who are compared as one: all who were to be treated, or all who were not.

    :param users: all of them, reached or not.
    :param converters: those who converted at least once.
    :param revenue: what they spent; None when it is not known.
    :param open_users: users who are not among them yet, as their attribution window is not over.
    :param countable_on: the day on which the first of those is; None when it is not known.
    :raises ImpactFiguresError: if a figure is impossible.
    """

    users: int
    converters: int
    revenue: Revenue | None = None
    open_users: int = 0
    countable_on: date | None = None

    def __post_init__(self) -> None:
        if self.users < 0:
            raise ImpactFiguresError(f"A group cannot have {self.users:,} users.")
        for what, number in (
            ("converters", self.converters),
            ("buyers", self.revenue.buyers if self.revenue else 0),
        ):
            if not 0 <= number <= self.users:
                raise ImpactFiguresError(
                    f"{number:,} {what} cannot be among {self.users:,} users: count each user once."
                )

    @property
    def rate(self) -> float:
        """Converters per user; 0 for nobody."""
        return self.converters / self.users if self.users else 0.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When a message reached the treated, against the time of each user that is compared.

    :param ever_reached: of the treated users who count, those whom the message reached at all.
    :param window: how long each user's time is.
    :param first_day: the day of the first message, on which it begins at the earliest.
    :param days: the least window in whole days that would hold the first message to ``MOSTLY_REACHED`` of them; None
        when it would have to be longer than a window may be.
    """

    ever_reached: int
    window: timedelta
    first_day: date
    days: int | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A campaign with a control group: two groups that chance alone has divided.

    Both are counted by the same rule (intention to treat): everybody who was in the cohort while the campaign ran,
    whether a message reached them or not, from the same moment on and for the same time.

    :param name: the campaign, for people.
    :param treated: the users who were to be treated.
    :param control: the users who were not, whatever they got otherwise.
    :param control_kind: where the control group comes from.
    :param control_id: the API id of the experiment step, where the control group is its control path; else empty.
    :param control_share: the share of all users that was to be in the control group, above 0 and below 1; None when
        it was changed on the way or is not known, and then the sizes cannot be checked.
    :param new_users_per_day: users, of both groups together, who become countable each day.
    :param reached: how many of the treated received a message in the time that is compared; None when it is not known.
    :param control_reached: how many of the control group were sent the message all the same; None when it is not known.
    :param timing: how many of the treated it reached at all, and when; None when it is not known.
    :param course: whether more may come of the message. Only when nobody is left to become countable it is not running.
    :param subject: what is judged, as a sentence begins with it.
    :raises ImpactFiguresError: if a figure is impossible, or the groups' currencies differ.
    """

    name: str
    treated: Group
    control: Group
    control_kind: ControlKind = "holdout"
    control_id: str = ""
    control_share: float | None = None
    new_users_per_day: float = 0.0
    reached: int | None = None
    control_reached: int | None = None
    timing: Timing | None = None
    course: Course = Course.RUNNING
    subject: str = "The campaign"

    def __post_init__(self) -> None:
        if self.control_share is not None and not 0 < self.control_share < 1:
            raise ImpactFiguresError(
                f"{self.name}: a control group of {self.control_share:.1%} leaves nothing to compare; "
                "it has to be above 0% and below 100%."
            )
        if not (math.isfinite(self.new_users_per_day) and self.new_users_per_day >= 0):
            raise ImpactFiguresError(f"{self.name}: {self.new_users_per_day} new users a day cannot be.")
        for who, number, group in (
            ("treated", self.reached, self.treated),
            ("held-out", self.control_reached, self.control),
        ):
            if number is not None and not 0 <= number <= group.users:
                raise ImpactFiguresError(
                    f"{self.name}: {number:,} of {group.users:,} {who} users cannot have been reached."
                )
        treated, control = self.treated.revenue, self.control.revenue
        if (treated is None) != (control is None):
            raise ImpactFiguresError(f"{self.name}: revenue is known of one group only; give it for both.")
        if treated and control and treated.currency != control.currency:
            raise ImpactFiguresError(
                f"{self.name}: revenue in {treated.currency} cannot be compared with {control.currency}; "
                "convert it, or judge each currency by itself."
            )

    @property
    def reached_in_time(self) -> float | None:
        """Of the treated whom the message reached, the share that it reached in the time that is compared."""
        if self.reached is None or self.timing is None or not self.timing.ever_reached:
            return None
        return self.reached / self.timing.ever_reached


def course_of(*, last: int, until: int, window: int, longest_gap: int, ends: int | None) -> Course:
    """Return whether a message will be sent again, as far as can be told, and what followed it is known.

    Between two messages of a recurring one nothing is open either, and the last look is due only once.

    :param last: when it last reached somebody; this and the other moments in epoch seconds.
    :param until: until when it is known what users did.
    :param window: the attribution window in seconds.
    :param longest_gap: days between two days in a row on which it reached somebody, at most; 0 with one such day.
    :param ends: when the last day that was asked about is over; None when every day to come is asked about.
    """
    if last + window > until:
        return Course.RUNNING
    silence = until - last
    if (ends is not None and ends <= until) or silence > _DAY_SECONDS * max(2 * longest_gap, SILENT_DAYS):
        return Course.OVER
    return Course.QUIET if silence > _DAY_SECONDS * 2 * longest_gap else Course.RUNNING
