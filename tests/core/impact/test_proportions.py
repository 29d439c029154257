"""Intervals of proportions against published figures, and against the likelihood itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, special, stats  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.impact.proportions import difference_interval, p_value, ratio_interval

# R. G. Newcombe, Interval estimation for the difference between independent proportions: comparison of eleven
# methods, Statistics in Medicine 17 (1998) 873-890, table II, method 6 (Miettinen-Nurminen).
NEWCOMBE = [
    ((56, 70, 48, 80), (0.0528, 0.3382)),
    ((9, 10, 3, 10), (0.1700, 0.8406)),
    ((6, 7, 2, 7), (0.0342, 0.8534)),
    ((5, 56, 0, 29), (-0.0326, 0.1933)),
    ((0, 10, 0, 20), (-0.1658, 0.2844)),
    ((0, 10, 0, 10), (-0.2879, 0.2879)),
    ((10, 10, 0, 20), (0.7156, 1.0)),
    ((10, 10, 0, 10), (0.6636, 1.0)),
]

# Of every kind: ordinary, small, lopsided, none, all, and as many as a share of Braze's can hold.
COUNTS = [
    (540, 9000, 50, 1000),
    (7, 34, 1, 34),
    (3, 2000, 2, 100),
    (0, 900, 4, 100),
    (12, 900, 0, 100),
    (900, 900, 97, 100),
    (1_000, 100_000_000, 90, 10_000_000),
    (5_010_000, 100_000_000, 500_000, 10_000_000),
]


@pytest.mark.parametrize(("counts", "published"), NEWCOMBE)
def test_the_interval_of_the_difference_is_the_published_one(
    counts: tuple[int, int, int, int], published: tuple[float, float]
) -> None:
    low, high = difference_interval(*counts, 0.95)

    # One unit in the fourth decimal place, to which the table is rounded.
    assert (float(low), float(high)) == pytest.approx(published, abs=1.01e-4)


def test_the_interval_of_the_difference_is_that_of_the_r_package_propcis() -> None:
    """PropCIs: diffscoreci(7, 34, 1, 34, 0.95); Fagerland et al. (2015) print 0.028 and 0.34 for the same trial."""
    low, high = difference_interval(7, 34, 1, 34, 0.95)

    assert (float(low), float(high)) == pytest.approx((0.0270416, 0.3452912), abs=1e-6)


def test_the_interval_of_the_ratio_is_koopmans_but_for_the_variance_over_n_less_1() -> None:
    """Fagerland et al. (2015), table VI: 1.21 to 43; PropCIs: riskscoreci(7, 34, 1, 34, 0.95)."""
    # Koopman divides by N where Miettinen and Nurminen divide by N - 1: the same as another confidence.
    z = special.ndtri(0.975) * np.sqrt(67 / 68)
    low, high = ratio_interval(7, 34, 1, 34, 2 * special.ndtr(z) - 1)

    assert (float(low), float(high)) == pytest.approx((1.220853, 42.575718), rel=1e-6)


@pytest.mark.parametrize("counts", COUNTS)
def test_the_limits_are_where_the_score_statistic_of_the_likelihood_is_1_96(
    counts: tuple[int, int, int, int],
) -> None:
    x1, n1, x0, n0 = counts
    for limit, z in zip(difference_interval(*counts, 0.95), (1.959964, -1.959964), strict=True):
        delta = float(limit)

        def score(p0: float, delta: float = delta) -> float:
            p1 = p0 + delta
            return x1 / p1 - (n1 - x1) / (1 - p1) + x0 / p0 - (n0 - x0) / (1 - p0)

        p0 = _root(score, max(0.0, -delta), min(1.0, 1 - delta))
        p1 = p0 + delta
        variance = (p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0) * (n1 + n0) / (n1 + n0 - 1)
        assert (x1 / n1 - x0 / n0 - delta) / variance**0.5 == pytest.approx(z, rel=1e-4)


@pytest.mark.parametrize("counts", COUNTS)
def test_the_p_value_is_that_of_the_chi_square_with_n_less_1(counts: tuple[int, int, int, int]) -> None:
    x1, n1, x0, n0 = counts
    chi_square = stats.chi2_contingency([[x1, n1 - x1], [x0, n0 - x0]], correction=False).statistic

    expected = stats.chi2.sf(chi_square * (n1 + n0 - 1) / (n1 + n0), 1)
    assert float(p_value(*counts)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_test_difference_and_ratio_say_the_same(confidence: float) -> None:
    generator = np.random.default_rng(1)
    x1, x0 = generator.integers(0, 60, 3000), generator.integers(0, 12, 3000)
    n1, n0 = x1 + generator.integers(0, 900, 3000) + 1, x0 + generator.integers(0, 90, 3000) + 1

    significant = p_value(x1, n1, x0, n0) < 1 - confidence
    low, high = difference_interval(x1, n1, x0, n0, confidence)
    least, most = ratio_interval(x1, n1, x0, n0, confidence)

    assert 20 < significant.sum() < 2980
    assert np.array_equal(significant, (low > 0) | (high < 0))
    assert np.array_equal(significant, (least > 1) | (most < 1))


def test_swapping_the_groups_mirrors_the_difference_and_inverts_the_ratio() -> None:
    low, high = difference_interval(40, 300, 9, 200, 0.95)
    least, most = ratio_interval(40, 300, 9, 200, 0.95)

    assert difference_interval(9, 200, 40, 300, 0.95) == pytest.approx((-high, -low))
    assert ratio_interval(9, 200, 40, 300, 0.95) == pytest.approx((1 / most, 1 / least))


@pytest.mark.parametrize(
    ("counts", "bounds"),
    [
        pytest.param((0, 50, 0, 50), (0.0, np.inf), id="nobody converted"),
        pytest.param((5, 50, 0, 50), (None, np.inf), id="nobody of the control group"),
        pytest.param((0, 50, 5, 50), (0.0, None), id="nobody of the treated"),
    ],
)
def test_a_ratio_to_nothing_has_no_end(counts: tuple[int, int, int, int], bounds: tuple[Any, Any]) -> None:
    for limit, bound in zip(ratio_interval(*counts, 0.95), bounds, strict=True):
        assert bound is None or float(limit) == bound
        assert bound is not None or 0 < float(limit) < np.inf


@pytest.mark.parametrize("everybody", [0, 1])
def test_where_all_users_are_alike_chance_explains_it(everybody: int) -> None:
    assert float(p_value(everybody * 30, 30, everybody * 10, 10)) == 1.0


def _root(score: Any, low: float, high: float) -> float:
    """Return the maximum of the likelihood; the ends of the range where it has none inside."""
    inside = (high - low) * 1e-13
    left, right = low + inside, high - inside
    if score(left) <= 0:
        return low
    if score(right) >= 0:
        return high
    return float(optimize.brentq(score, left, right, xtol=1e-16, rtol=1e-15, maxiter=500))
