from __future__ import annotations

import pytest

from airflow_provider_kubit_braze.core.impact.figures import Experiment, Group, Revenue
from airflow_provider_kubit_braze.core.impact.power import (
    LONGEST_DAYS,
    days_until,
    detectable_conversion,
    detectable_revenue,
)


def experiment(users: int = 10_000, rate: float = 0.05, *, per_day: float = 0) -> Experiment:
    buyers = int(users * rate)
    group = Group(
        users=users,
        converters=buyers,
        revenue=Revenue(buyers=buyers, total=20.0 * buyers, squares=500.0 * buyers, currency="EUR"),
    )
    return Experiment(name="x", treated=group, control=group, new_users_per_day=per_day)


def test_the_detectable_lift_is_what_the_textbooks_sample_size_is_for() -> None:
    """Fleiss, Levin, Paik (2003), section 4.2, by hand: from 60 % to 70 % takes 356 users in each group."""
    lift = detectable_conversion(experiment(356, 0.6))

    assert lift is not None
    assert 0.6 * (1 + lift) == pytest.approx(0.7, abs=0.001)


def test_the_detectable_lift_of_revenue_is_2_8_standard_errors() -> None:
    # Of one user: 25 a user squared, less the mean of 1, squared: a variance of 24.
    expected = (1.95996 + 0.84162) * (2 * 24 / 10_000) ** 0.5 / 1.0

    assert detectable_revenue(experiment()) == pytest.approx(expected, rel=1e-4)


def test_a_test_among_twenty_sees_less() -> None:
    alone, among = (detectable_revenue(experiment(), compared=compared) for compared in (1, 20))

    # 5 % and 5 %/20, two-sided, and 80 % power.
    assert among / alone == pytest.approx((3.0233 + 0.8416) / (1.9600 + 0.8416), rel=1e-3)
    assert (detectable_conversion(experiment(), compared=20) or 0) > (
        detectable_conversion(experiment()) or 1
    )


def test_four_times_the_users_see_half_the_lift() -> None:
    small, large = experiment(10_000, per_day=2_000), experiment(40_000)

    for detectable in (detectable_conversion, detectable_revenue):
        before, after = detectable(small), detectable(large)
        assert before is not None
        assert after is not None
        assert before / after == pytest.approx(2, rel=0.05)
        assert detectable(small, 30) == pytest.approx(after, rel=1e-3)


def test_without_any_converter_there_is_still_a_size_to_plan_with() -> None:
    lift = detectable_conversion(experiment(1_000, 0.0))

    assert lift is not None
    assert lift > 1


def test_a_group_of_one_cannot_see_anything() -> None:
    assert (
        detectable_conversion(
            Experiment(name="x", treated=Group(users=1, converters=1), control=Group(users=1, converters=1))
        )
        is None
    )


def test_the_days_are_the_first_on_which_the_lift_is_seen() -> None:
    growing = experiment(10_000, per_day=2_000)

    days = days_until(lambda more: detectable_conversion(growing, more), 0.1)

    assert days is not None
    assert (
        (detectable_conversion(growing, days) or 1) <= 0.1 < (detectable_conversion(growing, days - 1) or 1)
    )


@pytest.mark.parametrize("per_day", [0.0, 0.5])
def test_a_plan_for_more_than_ten_years_is_none(per_day: float) -> None:
    slow = experiment(100, per_day=per_day)

    assert days_until(lambda more: detectable_revenue(slow, more), 0.01) is None


def test_a_lift_that_nothing_shows_yet_may_be_shown_later() -> None:
    assert days_until(lambda more: None if more < LONGEST_DAYS else 0.1, 0.1) == LONGEST_DAYS
