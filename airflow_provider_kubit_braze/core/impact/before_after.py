"""Before and after, without a control group: a description, and never a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_kubit_braze.core.impact.words import before_after_sentence
from airflow_provider_kubit_braze.exceptions import ImpactFiguresError

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.impact.figures import Group


@dataclass(frozen=True, kw_only=True)
class BeforeAfter:
    """The same cohort in two periods of equal length.

    It has no interval, no p-value and no verdict on purpose: what changed between the periods is everything, not only
    the campaign. Whatever shows it, shows ``label`` too.

    :param name: the campaign, for people.
    :param before: the users in the period before.
    :param after: the users in the period after.
    :param has_holdout: whether the cohort has a holdout, of which nobody counts.
    :raises ImpactFiguresError: if their currencies differ.
    """

    label: ClassVar[str] = "Description only, no proof of an effect"

    name: str
    before: Group
    after: Group
    has_holdout: bool = False

    def __post_init__(self) -> None:
        before, after = self.before.revenue, self.after.revenue
        if before and after and before.currency != after.currency:
            raise ImpactFiguresError(
                f"{self.name}: revenue in {before.currency} cannot be compared with {after.currency}; convert it."
            )

    @property
    def conversion_change(self) -> float:
        """Converters per user, after minus before."""
        return self.after.rate - self.before.rate

    @property
    def revenue_change(self) -> float | None:
        """Revenue per user, after minus before, in units of the currency; None when it is not known."""
        before, after = self.before, self.after
        if not (before.revenue and after.revenue and before.users and after.users):
            return None
        return after.revenue.total / after.users - before.revenue.total / before.users

    @property
    def sentence(self) -> str:
        """The same for people."""
        return before_after_sentence(self.before, self.after, has_holdout=self.has_holdout)
