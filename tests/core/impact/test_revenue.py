"""Revenue per user against tests that know every user."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.impact.figures import Group, Revenue
from airflow_provider_kubit_braze.core.impact.revenue import (
    Sums,
    difference_interval,
    errors,
    p_value,
    ratio_interval,
    sums_of,
)


def spenders(users: int, buyers: int, seed: int, *, scale: float = 20.0, sigma: float = 1.0) -> Any:
    revenue = np.zeros(users)
    revenue[:buyers] = scale * np.random.default_rng(seed).lognormal(0, sigma, buyers)
    return revenue


def summed(revenue: Any) -> Sums:
    return Sums(
        float(len(revenue)),
        float(np.count_nonzero(revenue)),
        float(revenue.sum()),
        float((revenue**2).sum()),
    )


@pytest.mark.parametrize("seed", [1, 2, 6])
def test_a_small_control_group_is_judged_as_a_permutation_test_judges_it(seed: int) -> None:
    """Which knows all users, and needs no assumption to test that nothing has changed. Welch's is off by 0.26."""
    treated, control = spenders(3600, 180, seed, scale=24), spenders(400, 25, seed + 100)
    exact = stats.permutation_test(
        (treated, control),
        lambda a, b, axis: np.abs(a.mean(axis=axis) - b.mean(axis=axis)),
        alternative="greater",
        vectorized=True,
        n_resamples=1999,
        batch=200,
        rng=np.random.default_rng(seed),
    )

    assert float(p_value(summed(treated), summed(control))) == pytest.approx(exact.pvalue, abs=0.07)


def test_with_thousands_of_buyers_it_is_welchs_test() -> None:
    """However different the groups' baskets are: each speaks for itself."""
    treated, control = spenders(900_000, 90_000, 1, sigma=0.5), spenders(500_000, 50_000, 2, scale=15)
    low, high = difference_interval(summed(treated), summed(control), 0.95)
    welch = stats.ttest_ind(treated, control, equal_var=False).confidence_interval(0.95)

    width = welch.high - welch.low
    assert float(low) == pytest.approx(welch.low, abs=0.02 * width)
    assert float(high) == pytest.approx(welch.high, abs=0.02 * width)


#: Hours of sleep that ten people gained by each of two drugs: Student, *The probable error of a mean*, Biometrika 6
#: (1908) 1-25; the data set ``sleep`` of R.
SLEEP = (
    (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4),
    (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0),
)


def test_the_interval_of_means_is_the_published_one_but_for_what_a_small_sample_costs() -> None:
    """R prints of ``t.test(extra ~ group, data = sleep)``, with the groups the other way round: t = -1.8608,
    df = 17.776, 95 percent confidence interval -3.3654832 to 0.2054832, means 0.75 and 2.33.

    This method has no degrees of freedom, and few buyers would borrow. So there are so many of each of the ten that a
    group speaks for itself; the published standard error then shrinks with their number, and has no n - 1.
    """
    times = 10_000
    treated, control = (summed(np.repeat(hours, times)) for hours in SLEEP)
    low, high = (float(end) for end in difference_interval(treated, control, 0.95))

    error = 1.58 / 1.8608
    assert float(stats.t.ppf(0.975, 17.776)) * error == pytest.approx((3.3654832 + 0.2054832) / 2, rel=1e-4)
    of_so_many = 1.959964 * error * np.sqrt(9 / 10 / times)
    assert (low + high) / 2 == pytest.approx(1.58, abs=0.01 * of_so_many)
    assert (high - low) / 2 == pytest.approx(of_so_many, rel=0.01)


def test_the_variances_are_the_groups_own_where_they_are_alike() -> None:
    revenue = spenders(1000, 50, 1)

    of_treated, of_control = errors(summed(revenue), summed(revenue))

    assert float(of_treated) == pytest.approx(revenue.var())
    assert float(of_control) == pytest.approx(revenue.var())


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_test_difference_and_ratio_say_the_same(confidence: float) -> None:
    generator = np.random.default_rng(1)

    def groups(users: int, most: int, scale: float, seeds: range) -> Sums:
        each = [
            summed(spenders(users, int(generator.integers(20, most)), seed, scale=scale)) for seed in seeds
        ]
        return Sums(*np.array(each).T)

    treated, control = groups(900, 150, 45.0, range(300)), groups(300, 40, 20.0, range(300, 600))

    significant = p_value(treated, control) < 1 - confidence
    low, high = difference_interval(treated, control, confidence)
    least, most = ratio_interval(treated, control, confidence)

    assert 3 < significant.sum() < 297
    assert np.array_equal(significant, (low > 0) | (high < 0))
    assert np.array_equal(significant, (least > 1) | (most < 1))


def test_a_multiple_of_the_currency_changes_nothing_but_the_unit() -> None:
    euros = summed(spenders(900, 90, 1)), summed(spenders(300, 25, 2))
    first, second = (sums._replace(total=100 * sums.total, squares=10_000 * sums.squares) for sums in euros)
    cents = first, second

    assert float(p_value(*cents)) == pytest.approx(float(p_value(*euros)))
    np.testing.assert_allclose(ratio_interval(*cents, 0.95), ratio_interval(*euros, 0.95))
    low, high = difference_interval(*euros, 0.95)
    np.testing.assert_allclose(difference_interval(*cents, 0.95), (100 * low, 100 * high))


def test_one_buyer_with_most_of_the_revenue_leaves_the_lift_without_an_upper_end() -> None:
    treated = summed(spenders(1000, 50, 1))
    control = Sums(100.0, 20.0, 10_019.0, 10_000.0**2 + 19)

    least, most = ratio_interval(treated, control, 0.95)

    assert 0 <= float(least) < 1
    assert float(most) == np.inf


def test_skewed_baskets_never_make_the_difference_boundless() -> None:
    for seed in range(12):
        treated = summed(spenders(9000, 270, seed, sigma=1.5))
        control = summed(spenders(1000, 30, seed + 100, sigma=1.5))
        low, high = (float(end) for end in difference_interval(treated, control, 0.9975))
        seen = treated.total / treated.users - control.total / control.users

        assert low <= seen <= high
        assert high - low < 60 * control.total / control.users
        # What it says of 0 is what the test says.
        assert (low > 0 or high < 0) == (float(p_value(treated, control)) < 0.0025)


@pytest.mark.parametrize(("price", "p"), [(9.99, 1.0), (9.99 + 1e-14, 1.0), (12.99, 0.0)])
def test_a_subscription_that_everybody_pays_does_not_vary(price: float, p: float) -> None:
    treated, control = (
        Sums(300.0, 300.0, 300 * price, 300 * price**2),
        Sums(100.0, 100.0, 999.0, 999.0 * 9.99),
    )

    assert float(p_value(treated, control)) == pytest.approx(p, abs=1e-6)
    low, high = difference_interval(treated, control, 0.95)
    assert (float(low), float(high)) == pytest.approx((price - 9.99, price - 9.99), abs=1e-3)


def test_the_sums_are_those_of_the_group() -> None:
    revenue = Revenue(buyers=3, total=60.5, squares=1800.25, currency="EUR")

    assert sums_of(Group(users=10, converters=4, revenue=revenue)) == (10.0, 3.0, 60.5, 1800.25)


def test_a_hundred_million_users_are_no_more_than_four_numbers() -> None:
    treated, control = Sums(1e8, 2e6, 8.08e7, 8e9), Sums(1e7, 2e5, 8e6, 8e8)

    low, high = difference_interval(treated, control, 0.95)
    least, most = ratio_interval(treated, control, 0.95)

    assert 0 < float(low) < 0.008 < float(high) < 0.02
    assert 1 < float(least) < 1.01 < float(most) < 1.02
