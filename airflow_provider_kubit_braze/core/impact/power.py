"""How small a difference the figures could show, and how long until they show one that matters.

The size is planned as usual: a two-sided test at 5 % that sees the difference 4 times in 5 (J. L. Fleiss, B. Levin,
M. C. Paik, *Statistical Methods for Rates and Proportions*, 3rd edition (2003), section 4.2, without continuity
correction).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.core.impact.revenue import errors, sums_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kubit_braze.core.impact.figures import Experiment

#: The chance to see a difference that is there.
POWER = 0.8

_Z_POWER = NormalDist().inv_cdf(POWER)

#: A time longer than this is no plan any more.
LONGEST_DAYS = 3650


def detectable_conversion(experiment: Experiment, days: float = 0, *, compared: int = 1) -> float | None:
    """Return the least lift of conversion that so many users show, as a share of the control group's rate.

    :param experiment: with users in both groups.
    :param days: count on the new users of so many more days.
    :param compared: campaigns that are judged together: each has to pass a test that is so much stricter.
    :return: None when not even everybody converting would be enough.
    """
    n1, n0 = _users(experiment, days)
    z = _z_test(compared)
    # Half a converter more: a rate of 0 would promise that one converter is a finding.
    base = (experiment.control.converters + experiment.treated.converters + 0.5) / (
        experiment.control.users + experiment.treated.users + 1
    )

    def is_seen(rate: float) -> bool:
        pooled = (n1 * rate + n0 * base) / (n1 + n0)
        needed = z * math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
        needed += _Z_POWER * math.sqrt(rate * (1 - rate) / n1 + base * (1 - base) / n0)
        return rate - base >= needed

    low, high = base, 1.0
    if not is_seen(high):
        return None
    while high - low > 1e-12 + 1e-6 * (high - base):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return high / base - 1


def detectable_revenue(experiment: Experiment, days: float = 0, *, compared: int = 1) -> float:
    """Return the least lift of revenue per user that so many users show, as a share of what both groups spend.

    :param experiment: with buyers and revenue in both groups.
    :param days: count on the new users of so many more days.
    :param compared: campaigns that are judged together.
    """
    n1, n0 = _users(experiment, days)
    treated, control = sums_of(experiment.treated), sums_of(experiment.control)
    of_treated, of_control = errors(treated, control)
    mean = (treated.total + control.total) / (treated.users + control.users)
    return float((_z_test(compared) + _Z_POWER) * math.sqrt(of_treated / n1 + of_control / n0) / mean)


def days_until(detectable: Callable[[float], float | None], worth: float) -> int | None:
    """Return after how many more days, at least one, a lift of ``worth`` is seen, or None when that is no plan.

    :param detectable: takes days, and returns the least lift that is seen then; less with every day.
    :param worth: the lift worth seeing, such as 0.1.
    """

    def is_seen(days: int) -> bool:
        least = detectable(days)
        return least is not None and least <= worth

    if not is_seen(LONGEST_DAYS):
        return None
    low, high = 0, LONGEST_DAYS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return high


def _z_test(compared: int) -> float:
    """Return how many errors off a finding has to be, at the first of Holm's steps: the strictest one."""
    return NormalDist().inv_cdf(1 - 0.05 / compared / 2)


def _users(experiment: Experiment, days: float) -> tuple[float, float]:
    """Return the users of both groups in so many days; the new ones divide like those who are there."""
    n1, n0 = experiment.treated.users, experiment.control.users
    growth = 1 + days * experiment.new_users_per_day / (n1 + n0)
    return n1 * growth, n0 * growth
