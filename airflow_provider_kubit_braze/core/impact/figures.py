"""What an impact is judged from: a few sums over the users of each group, whatever their number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_provider_kubit_braze.exceptions import ImpactFiguresError

if TYPE_CHECKING:
    from datetime import date

#: Where the control group comes from: the cohort's own holdout, or the control group of a Braze campaign or Canvas.
ControlKind = Literal["holdout", "braze_control"]


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
    :raises ImpactFiguresError: if a figure is impossible.
    """

    users: int
    converters: int
    revenue: Revenue | None = None

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
class Experiment:
    """A campaign with a control group: two groups that chance alone has divided.

    Both are counted by the same rule (intention to treat): everybody who was in the cohort while the campaign ran,
    whether a message reached them or not, from the same moment on and for the same time.

    :param name: the campaign, for people.
    :param treated: the users who were to be treated.
    :param control: the users who were not, whatever they got otherwise.
    :param control_kind: where the control group comes from.
    :param control_share: the share of all users that was to be in the control group, above 0 and below 1; None when
        it was changed on the way or is not known, and then the sizes cannot be checked.
    :param new_users_per_day: users, of both groups together, who become countable each day.
    :param reached: how many of the treated received a message; None when it is not known.
    :param control_reached: how many of the control group were sent the message all the same; None when it is not known.
    :param open_users: users who are in neither group yet, as their attribution window is not over.
    :param countable_on: the day on which the first of them is; None when it is not known.
    :param is_final: whether the message has run its course and nobody more will become countable: a last look.
    :param subject: what is judged, as a sentence begins with it.
    :raises ImpactFiguresError: if a figure is impossible, or the groups' currencies differ.
    """

    name: str
    treated: Group
    control: Group
    control_kind: ControlKind = "holdout"
    control_share: float | None = None
    new_users_per_day: float = 0.0
    reached: int | None = None
    control_reached: int | None = None
    open_users: int = 0
    countable_on: date | None = None
    is_final: bool = False
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
