"""Revenue per user of two groups compared, where few users buy and few buyers spend most.

The usual interval (Welch's) takes each group's variance from that group alone. With skewed revenue that fails where it
matters: in a small control group the big spenders are mostly missing, which makes its mean too low *and* its variance
too small, so that its 95 % interval held the truth in 87 to 94 % of our simulations. Correcting for skewness did not
help (P. Hall, *On the removal of skewness by transformation*, Journal of the Royal Statistical Society B 54 (1992)
221-228; X.-H. Zhou, P. Dinh, *Nonparametric confidence intervals for the one- and two-sample problems*, Biostatistics 6
(2005) 187-200): it knows only the spenders that are there, and so does a bootstrap.

So this goes the way of Miettinen and Nurminen (:mod:`~airflow_provider_kubit_braze.core.impact.proportions`): the
variance is the one under the hypothesis that is tested. If the treated bring r times as much per buyer, baskets of both
groups divided by their scale have one distribution, so its moments are taken from the buyers of both. Each group's own
moments have the weight k / (k + 200), for k buyers, in the form of a moderated variance (G. K. Smyth, *Linear models
and empirical Bayes methods*, Statistical Applications in Genetics and Molecular Biology 3 (2004) 3): with few buyers a
group borrows, with thousands it speaks for itself, and nothing is assumed any more. The shares of buyers are its own.
An interval is the hypotheses that are not rejected, so the test, the difference and the ratio always agree. No book has
this method as a whole: what it holds is measured, in ``tests/core/impact/test_coverage.py``.

Four sums for each group are all it takes.

All functions take numbers, or arrays with one element for each experiment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.impact.edges import first_true

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kubit_braze.core.impact.figures import Group

#: Fewest buyers in each group for any statement. Below, simulated intervals missed the truth in up to 6.4 % instead of
#: 5 %, and always on the same side: one big spender among those held out makes the campaign look harmful.
FEWEST_BUYERS = 20

#: With so many buyers, a group's own variance weighs as much as that of both groups together. Between 200 and 500,
#: coverage was the same where the groups' baskets have one shape, and 200 was best where they have not.
BORROWED_BUYERS = 200

#: Logarithms of the least and the greatest ratio that is told from 0 and from any ratio.
_LOWEST, _HIGHEST = -35.0, 35.0

_ROUNDING = 1e-12


class Sums(NamedTuple):
    """A group's figures; each a number, or an array with one element for each experiment."""

    users: Any
    buyers: Any
    total: Any
    squares: Any


def sums_of(group: Group) -> Sums:
    """Return the figures of a group whose revenue is known."""
    assert group.revenue is not None  # noqa: S101
    revenue = group.revenue
    return Sums(float(group.users), float(revenue.buyers), float(revenue.total), float(revenue.squares))


def p_value(treated: Sums, control: Sums) -> Any:
    """Return the two-sided p-value of no difference in revenue per user.

    Both groups need buyers and a total above 0, here and below.
    """
    distance, error = _ratio(np.ones(np.shape(treated.total)), treated, control)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where everybody spends the same nothing varies, and nothing differs either unless the amounts do.
        same = np.abs(distance) <= _ROUNDING * treated.total / treated.users
        z = np.where(same, 0.0, np.abs(distance) / error)
    return 2 * ndtr(-z)


def difference_interval(treated: Sums, control: Sums, confidence: float) -> tuple[Any, Any]:
    """Return the interval of the difference in revenue per user, treated minus control, in units of the currency.

    :param confidence: such as 0.95.
    """
    low, high = _limits(_difference, treated, control, confidence)
    # A campaign that leaves nothing may not be ruled out, and baskets pooled at its scale then have no bound. The
    # interval ends no farther from what was seen than three times where a plain one would; what it says of 0 stays.
    of_treated, of_control = errors(treated, control)
    far = 3 * ndtri((1 + confidence) / 2) * np.sqrt(of_treated / treated.users + of_control / control.users)
    seen = treated.total / treated.users - control.total / control.users
    return (
        np.maximum(_shift(np.exp(low), treated, control), seen - far),
        np.minimum(_shift(np.exp(high), treated, control), seen + far),
    )


def ratio_interval(treated: Sums, control: Sums, confidence: float) -> tuple[Any, Any]:
    """Return the interval of the ratio of the revenues per user, treated over control, from 0 to infinity.

    It has no upper end where the control group's revenue per user cannot be told from 0.

    :param confidence: such as 0.95.
    """
    low, high = _limits(_ratio, treated, control, confidence)
    return (
        np.where(low <= _LOWEST + _ROUNDING, 0.0, np.exp(low)),
        np.where(high >= _HIGHEST, np.inf, np.exp(high)),
    )


def errors(treated: Sums, control: Sums) -> tuple[Any, Any]:
    """Return the variances of one user's revenue, treated and control, if the campaign does nothing."""
    return _variances(np.ones(np.shape(treated.total)), treated, control)


def _limits(
    statistic: Callable[[Any, Sums, Sums], tuple[Any, Any]], treated: Sums, control: Sums, confidence: float
) -> tuple[Any, Any]:
    z = ndtri((1 + confidence) / 2)

    def above_low(log: Any) -> Any:
        distance, error = statistic(np.exp(log), treated, control)
        return distance <= z * error

    def above_high(log: Any) -> Any:
        distance, error = statistic(np.exp(log), treated, control)
        return distance < -z * error

    return (
        first_true(above_low, _LOWEST, _HIGHEST, treated.total),
        first_true(above_high, _LOWEST, _HIGHEST, treated.total),
    )


def _scale(ratio: Any, treated: Sums, control: Sums) -> Any:
    """Return how many times as much a treated buyer spends, if revenue per user is ``ratio`` times as much."""
    return ratio * (control.buyers / control.users) / (treated.buyers / treated.users)


def _shift(ratio: Any, treated: Sums, control: Sums) -> Any:
    """Return the difference in revenue per user that ``ratio`` stands for, with baskets pooled at its scale."""
    basket = (treated.total / _scale(ratio, treated, control) + control.total) / (
        treated.buyers + control.buyers
    )
    return (ratio - 1) * control.buyers / control.users * basket


def _variances(ratio: Any, treated: Sums, control: Sums) -> tuple[Any, Any]:
    scale = _scale(ratio, treated, control)
    buyers = treated.buyers + control.buyers
    pooled = (
        (treated.total / scale + control.total) / buyers,
        (treated.squares / scale**2 + control.squares) / buyers,
    )
    return _variance(treated, scale, *pooled), _variance(control, 1.0, *pooled)


def _variance(group: Sums, scale: Any, mean: Any, square: Any) -> Any:
    own = group.buyers / (group.buyers + BORROWED_BUYERS)
    mean = own * group.total / group.buyers + (1 - own) * mean * scale
    square = own * group.squares / group.buyers + (1 - own) * square * scale**2
    share = group.buyers / group.users
    # The rounding of sums would make a variance of 0 a negative one.
    return np.maximum(share * square - (share * mean) ** 2, 0.0)


def _difference(ratio: Any, treated: Sums, control: Sums) -> tuple[Any, Any]:
    of_treated, of_control = _variances(ratio, treated, control)
    observed = treated.total / treated.users - control.total / control.users
    error = np.sqrt(of_treated / treated.users + of_control / control.users)
    return observed - _shift(ratio, treated, control), error


def _ratio(ratio: Any, treated: Sums, control: Sums) -> tuple[Any, Any]:
    of_treated, of_control = _variances(ratio, treated, control)
    observed = treated.total / treated.users - ratio * control.total / control.users
    return observed, np.sqrt(of_treated / treated.users + ratio**2 * of_control / control.users)
