"""Two proportions compared by Miettinen and Nurminen's score method, which holds for small counts, too.

O. S. Miettinen, M. Nurminen, *Comparative analysis of two rates*, Statistics in Medicine 4 (1985) 213-226. The variance
is the one under the hypothesis that is tested, so that neither zero converters nor a small group breaks it, and a
test, the interval of the difference and the interval of the ratio always say the same. M. W. Fagerland, S. Lydersen,
P. Laake, *Recommended confidence intervals for two independent binomial proportions*, Statistical Methods in Medical
Research 24 (2015) 224-254, recommend it for the difference, and for the ratio Koopman's interval, which is the same but
for a variance over N instead of N - 1.

scipy has no such interval. statsmodels 0.15 has one that does not give the published figures: of the eight examples in
R. G. Newcombe's comparison (Statistics in Medicine 17 (1998) 873-890) ``confint_proportions_2indep`` fails on seven.

All functions take numbers, or arrays with one element for each experiment. Group 1 is the treated one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.impact.edges import first_true

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Logarithms of the least and the greatest ratio that is told from 0 and from any ratio.
_LOWEST, _HIGHEST = -35.0, 35.0

_ROUNDING = 1e-12


def p_value(x1: Any, n1: Any, x0: Any, n0: Any) -> Any:
    """Return the two-sided p-value of no difference: Pearson's chi-square, with the variance over N-1 instead of N.

    :param x1: converters among the ``n1`` treated users, ``n1`` above 0; ``x0`` and ``n0`` of the control group.
    """
    distance, error = _difference(np.zeros(np.shape(x1)), *_floats(x1, n1, x0, n0))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(error > 0, np.abs(distance) / error, 0.0)
    return 2 * ndtr(-z)


def least_expected(x1: Any, n1: Any, x0: Any, n0: Any) -> Any:
    """Return how many users are to be expected in the emptiest of four cells, if there is no difference.

    The cells are those who convert and those who do not, of both groups. With fewer than 5 the p-value, which takes the
    difference for normal, is too small for what chance does (W. G. Cochran, *Some methods for strengthening the common
    chi-squared tests*, Biometrics 10 (1954) 417-451).
    """
    x1, n1, x0, n0 = _floats(x1, n1, x0, n0)
    n, x = n1 + n0, x1 + x0
    return np.minimum(x, n - x) * np.minimum(n1, n0) / n


def difference_interval(x1: Any, n1: Any, x0: Any, n0: Any, confidence: float) -> tuple[Any, Any]:
    """Return the interval of the difference of the proportions, treated minus control, within -1 and 1.

    :param confidence: such as 0.95.
    """
    figures, z = _floats(x1, n1, x0, n0), ndtri((1 + confidence) / 2)

    def above_low(delta: NDArray[np.float64]) -> Any:
        distance, error = _difference(delta, *figures)
        return distance <= z * error

    def above_high(delta: NDArray[np.float64]) -> Any:
        distance, error = _difference(delta, *figures)
        return distance < -z * error

    return first_true(above_low, -1, 1, x1), first_true(above_high, -1, 1, x1)


def ratio_interval(x1: Any, n1: Any, x0: Any, n0: Any, confidence: float) -> tuple[Any, Any]:
    """Return the interval of the ratio of the proportions, treated over control, from 0 to infinity.

    :param confidence: such as 0.95.
    """
    figures, z = _floats(x1, n1, x0, n0), ndtri((1 + confidence) / 2)

    def above_low(log: NDArray[np.float64]) -> Any:
        distance, error = _ratio(np.exp(log), *figures)
        return distance <= z * error

    def above_high(log: NDArray[np.float64]) -> Any:
        distance, error = _ratio(np.exp(log), *figures)
        return distance < -z * error

    low = first_true(above_low, _LOWEST, _HIGHEST, x1)
    high = first_true(above_high, _LOWEST, _HIGHEST, x1)
    return (
        np.where(low <= _LOWEST + _ROUNDING, 0.0, np.exp(low)),
        np.where(high >= _HIGHEST, np.inf, np.exp(high)),
    )


def _floats(*figures: Any) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.asarray(figure, dtype=float) for figure in figures)


def _difference(delta: Any, x1: Any, n1: Any, x0: Any, n0: Any) -> tuple[Any, Any]:
    """Return how far the observed difference is from ``delta``, and its standard error if ``delta`` is true."""
    n, x = n1 + n0, x1 + x0
    # The likelihood's maximum under p1 = p0 + delta is a root of a cubic in p0 (page 223 of the article).
    c2 = ((n1 + 2 * n0) * delta - n - x) / n
    c1 = ((n0 * delta - n - 2 * x0) * delta + x) / n
    c0 = x0 * delta * (1 - delta) / n
    q = c2**3 / 27 - c2 * c1 / 6 + c0 / 2
    p = np.where(q < 0, -1.0, 1.0) * np.sqrt(np.maximum(c2**2 / 9 - c1 / 3, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(p == 0, 0.0, q / p**3)
    angle = (np.pi + np.arccos(np.clip(cosine, -1, 1))) / 3
    p0 = np.clip(2 * p * np.cos(angle) - c2 / 3, np.maximum(0, -delta), np.minimum(1, 1 - delta))
    p1 = np.clip(p0 + delta, 0, 1)
    # At delta = 0 the root is known; the cubic's would have its rounding.
    p0, p1 = np.where(delta == 0, x / n, p0), np.where(delta == 0, x / n, p1)
    error = np.sqrt((p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0) * n / (n - 1))
    return x1 / n1 - x0 / n0 - delta, error


def _ratio(ratio: Any, x1: Any, n1: Any, x0: Any, n0: Any) -> tuple[Any, Any]:
    """Return how far the observed proportions are from ``ratio``, and the standard error of that if it is true."""
    n, x = n1 + n0, x1 + x0
    # The likelihood's maximum under p1 = ratio * p0, a root of a quadratic in p0, in the form that cancels nothing.
    b = n1 * ratio + x1 + n0 + x0 * ratio
    p0 = 2 * x / (b + np.sqrt(np.maximum(b**2 - 4 * n * ratio * x, 0)))
    p1 = np.clip(ratio * p0, 0, 1)
    error = np.sqrt((p1 * (1 - p1) / n1 + ratio**2 * p0 * (1 - p0) / n0) * n / (n - 1))
    return x1 / n1 - ratio * x0 / n0, error
