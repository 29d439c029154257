from __future__ import annotations

import heapq
from bisect import bisect_left
from math import ceil
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.budget import MAX_PAUSE, LimitHeaders, RateBudget
from bench.simulation import Import, Workspace, simulate

NOW = 1_800_000_000.0


def budget_of(max_requests: int = 100, per_seconds: float = 1.0, reserve: float = 0.0) -> RateBudget:
    return RateBudget(max_requests=max_requests, per_seconds=per_seconds, reserve=reserve, now=0.0)


def moments(budget: RateBudget, *, workers: int, requests: int, seconds: float = 0.0) -> list[float]:
    """When requests go out, on a clock of the test's own: a worker waits, sends, is busy for a while, and again."""
    sent: list[float] = []
    free = [0.0] * workers
    while len(sent) < requests:
        now = heapq.heappop(free)
        while (wait := budget.wait(now)) > 1e-9:
            now += wait
        budget.spend(now)
        sent.append(now)
        heapq.heappush(free, now + seconds)
    return sent


def most_in_window(sent: list[float], seconds: float) -> int:
    """The most requests in any stretch of time of this length, its end not included."""
    ordered = sorted(sent)
    return max(bisect_left(ordered, start + seconds - 1e-9) - i for i, start in enumerate(ordered))


@pytest.mark.parametrize(
    ("max_requests", "per_seconds", "reserve"),
    [
        pytest.param(3000, 3.0, 0.1, id="Braze's published limit"),
        pytest.param(3000, 3.0, 0.0, id="without a reserve"),
        pytest.param(3000, 3.0, 0.9, id="a great reserve"),
        pytest.param(50, 1.0, 0.1, id="bulk"),
        pytest.param(7, 2.0, 0.25, id="few"),
        pytest.param(2, 3.0, 0.0, id="two"),
        pytest.param(1, 3.0, 0.5, id="one"),
    ],
)
@pytest.mark.parametrize("workers", [1, 400])
def test_no_window_holds_more_than_the_limit_less_the_reserve(
    max_requests: int, per_seconds: float, reserve: float, workers: int
) -> None:
    budget = budget_of(max_requests, per_seconds, reserve)

    sent = moments(budget, workers=workers, requests=max_requests * 4 + 3)

    assert most_in_window(sent, per_seconds) <= max(1, max_requests * (1 - reserve))


def test_the_budget_is_used_up_and_not_wasted() -> None:
    sent = moments(budget_of(3000, 3.0, 0.1), workers=400, requests=27_000)

    assert len(sent) / (sent[-1] - sent[0]) == pytest.approx(900, rel=0.06)


def test_slow_answers_are_not_slowed_down_further() -> None:
    sent = moments(budget_of(3000, 3.0, 0.1), workers=2, requests=50, seconds=1.0)

    assert [round(at) for at in sent] == [i // 2 for i in range(50)]


def sent_at_once(budget: RateBudget, now: float) -> int:
    """How many requests may go out at one moment."""
    number = 0
    while budget.wait(now) == 0:
        budget.spend(now)
        number += 1
    return number


def test_a_pause_of_the_caller_saves_nothing_up() -> None:
    assert sent_at_once(budget_of(1000, 1.0), 86_400.0) == 50


def test_no_crowd_goes_off_when_the_brake_is_released() -> None:
    budget = budget_of(3000, 3.0, 0.1)
    budget.observe(LimitHeaders(reset_in=3.0), number=0, limited=True, now=0.0)

    sent = moments(budget, workers=400, requests=5000)

    assert min(sent) == 3.0
    assert most_in_window(sent, 3.0) <= 2700


@pytest.mark.parametrize(
    ("headers", "limited", "pause"),
    [
        pytest.param({"limit": 100, "remaining": 50, "reset_in": 2.0}, False, 0.0, id="plenty left"),
        pytest.param({"limit": 100, "remaining": 13, "reset_in": 2.0}, False, 0.0, id="above the reserve"),
        pytest.param(
            {"limit": 100, "remaining": 10, "reset_in": 2.0}, False, 2.0, id="the reserve is reached"
        ),
        pytest.param({"limit": 100, "remaining": 0, "reset_in": 2.0}, False, 2.0, id="nothing left"),
        pytest.param({"remaining": 0, "reset_in": 2.0}, False, 2.0, id="nothing left, of no one knows what"),
        pytest.param({"limit": 100, "remaining": 0}, False, 0.0, id="no reset"),
        pytest.param({"limit": 100, "remaining": 0, "reset_in": 0.0}, False, 0.0, id="a window that is over"),
        pytest.param({}, False, 0.0, id="no headers"),
        pytest.param({"reset_in": 7.0}, True, 7.0, id="429 with a reset"),
        pytest.param({"limit": 100, "remaining": 60, "reset_in": 7.0}, True, 7.0, id="429 below the limit"),
        pytest.param({}, True, 1.0, id="429 without a word"),
        pytest.param({"reset_in": 0.0}, True, 1.0, id="429 with a reset that is over"),
    ],
)
def test_the_brake_follows_the_headers(headers: dict[str, Any], limited: bool, pause: float) -> None:
    budget = budget_of(100, 1.0, 0.1)

    budget.observe(LimitHeaders(**headers), number=budget.spend(0.0), limited=limited, now=0.0)

    assert budget.wait(0.0) == pause


def test_an_earlier_end_does_not_release_the_brake() -> None:
    budget = budget_of()
    budget.observe(LimitHeaders(reset_in=10.0), number=1, limited=True, now=0.0)
    budget.observe(LimitHeaders(reset_in=1.0), number=2, limited=True, now=2.0)

    assert budget.wait(2.0) == 8.0


def test_the_brake_can_be_prolonged_and_is_forgotten_once_released() -> None:
    budget = budget_of()
    budget.observe(LimitHeaders(reset_in=2.0), number=1, limited=True, now=0.0)
    budget.observe(LimitHeaders(reset_in=4.0), number=2, limited=True, now=1.0)

    assert budget.wait(1.0) == 4.0
    assert budget.wait(5.0) == 0.0


# -- the allowance --------------------------------------------------------------------------------------------


def heard(budget: RateBudget, requests: int, *, others: int, limit: int = 100, end: float = 600.0) -> float:
    """Send so many requests and hear of each; others send so many for each of ours. Return when that was done."""
    now = 0.0
    for number in range(1, requests + 1):
        now += budget.wait(now)
        assert budget.spend(now) == number
        headers = LimitHeaders(
            limit=limit, remaining=limit - number * (1 + others), reset_in=max(0.0, end - now)
        )
        budget.observe(headers, number=number, limited=False, now=now)
    return now


def left_in_window(budget: RateBudget, now: float, end: float = 600.0) -> int:
    """How many requests may still go out until the window's end."""
    number = 0
    while (now := now + budget.wait(now)) < end:
        budget.spend(now)
        number += 1
    return number


def test_alone_all_of_the_window_is_ours() -> None:
    budget = budget_of(10_000, 10.0)
    now = heard(budget, 200, others=0, limit=10_000)

    assert left_in_window(budget, now) == 10_000 - 200 - 100


@pytest.mark.parametrize(("others", "most"), [(1, 0.54), (3, 0.29), (9, 0.12)])
def test_of_what_is_left_an_import_takes_what_it_used_of_all_and_little_more(
    others: int, most: float
) -> None:
    budget = budget_of(100_000, 100.0)
    now = heard(budget, 2_500, others=others, limit=100_000)
    left = 100_000 * 0.99 - 2_500 * (1 + others)

    assert 1 / (1 + others) < left_in_window(budget, now) / left < most


def test_the_reserve_of_the_window_is_left_to_others() -> None:
    budget = budget_of(1000, 1.0, 0.3)
    now = heard(budget, 100, others=0, limit=1000)

    assert left_in_window(budget, now) == 1000 - 300 - 10 - 100


def test_a_limit_below_the_connections_holds_too() -> None:
    budget = budget_of(3000, 3.0)
    now = heard(budget, 20, others=0, limit=100)

    assert left_in_window(budget, now) == 100 - 20 - 1


def test_an_hourly_window_is_used_up_at_once_and_then_waited_for() -> None:
    budget = budget_of(3000, 3.0)
    heard(budget, 1, others=0, limit=600, end=1800.0)

    sent = moments(budget, workers=400, requests=700)

    assert sent[592] < 1.0
    assert sent[593] == 1800.0


def test_what_is_left_of_a_short_window_lasts_to_its_end() -> None:
    budget = budget_of(3000, 3.0)
    now = heard(budget, 30, others=0, limit=330, end=3.0)

    sent = moments(budget, workers=400, requests=290)

    middle = (now + 3.0) / 2
    assert 140 <= sum(at < middle for at in sent) <= 150
    assert sent[-1] < 3.0


def test_without_an_answer_the_next_window_is_taken_for_one_like_the_last() -> None:
    budget = budget_of(3000, 3.0)
    heard(budget, 100, others=1, limit=3000, end=3.0)

    in_next = [at for at in moments(budget, workers=400, requests=6000) if 3.0 <= at < 6.0]

    assert 1500 <= len(in_next) <= 1650


def test_resets_told_as_a_delay_in_whole_seconds_end_one_window_once() -> None:
    budget = budget_of(3000, 3.0)
    for at, left in ((0.1, 2000), (0.5, 1900), (0.9, 1800), (1.4, 1700), (1.95, 0)):
        headers = LimitHeaders(limit=3000, remaining=left, reset_in=float(ceil(3.0 - at)))
        budget.observe(headers, number=budget.spend(at), limited=False, now=at)

    # The first answer told of 3 s at 0.1, the last one of 2 s at 1.95.
    assert budget.wait(1.95) == pytest.approx(3.1 - 1.95)


def test_an_answer_that_was_overtaken_changes_nothing() -> None:
    budget = budget_of(3000, 3.0)
    now = heard(budget, 10, others=0, limit=3000)
    budget.observe(LimitHeaders(limit=3000, remaining=0, reset_in=60.0), number=5, limited=False, now=now)

    assert budget.wait(now) < 0.01


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_the_smallest_limit_still_lets_requests_through(limit: int) -> None:
    budget = budget_of(limit, 3.0, 0.5)
    heard(budget, 1, others=0, limit=limit, end=3.0)

    # Half of such a limit may be half a request.
    assert moments(budget, workers=1, requests=10)[-1] <= 60.0


# Four processes that know nothing of each other, and live traffic: what the whole is for.
@pytest.mark.parametrize("latency", [0.05, 0.4, 1.0])
def test_imports_share_the_limit_less_the_reserve_without_a_429(latency: float) -> None:
    course = simulate(
        [Import(starts=0.3 * n) for n in range(4)], workspace=Workspace(latency=latency), seconds=45
    )
    windows = range(2, 14)

    assert course.refused_share < 0.001
    assert all(0.85 * 2700 <= used <= 2760 for used in course.used(windows))
    for one in course.by_import:
        assert sum(one[w] for w in windows) > 0.5 * 2700 * len(windows) / 4


def test_a_latecomer_gets_its_share_and_what_somebody_leaves_is_used() -> None:
    early, late = Import(requests=40_000), Import(starts=15.0)
    course = simulate([early, late], workspace=Workspace(latency=0.1), seconds=120)
    ended = course.ended[0]

    assert ended is not None
    last_shared = int(ended // 3) - 1
    assert course.by_import[1][last_shared] > 0.3 * 2700
    assert course.by_import[1][last_shared + 4] > 0.85 * 2700


def test_live_traffic_is_not_crowded_out() -> None:
    course = simulate(
        [Import(), Import()],
        workspace=Workspace(latency=0.1),
        seconds=60,
        live=lambda now: 500 if now >= 20 else 20,
    )

    # Of some 20,000; the step itself, from 20 to 500 a second at once, may cost a few.
    assert course.live_refused < 50
    assert course.refused_share < 0.001


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param(
            {
                "X-RateLimit-Limit": "3000",
                "X-RateLimit-Remaining": "12",
                "X-RateLimit-Reset": str(int(NOW) + 3),
            },
            LimitHeaders(limit=3000, remaining=12, reset_in=3.0),
            id="epoch seconds",
        ),
        pytest.param({"X-RateLimit-Reset": "2"}, LimitHeaders(reset_in=2.0), id="seconds to wait"),
        pytest.param({"X-RateLimit-Reset": "0.25"}, LimitHeaders(reset_in=0.25), id="parts of a second"),
        pytest.param({"X-RateLimit-Reset": str(int(NOW) - 9)}, LimitHeaders(reset_in=0.0), id="in the past"),
        pytest.param({"X-RateLimit-Reset": "-5"}, LimitHeaders(reset_in=0.0), id="negative"),
        pytest.param({"X-RateLimit-Reset": "86400"}, LimitHeaders(reset_in=MAX_PAUSE), id="a day"),
        pytest.param({"X-RateLimit-Retry-After": "7"}, LimitHeaders(reset_in=7.0), id="MAU plans"),
        pytest.param({"Retry-After": "8"}, LimitHeaders(reset_in=8.0), id="the common header"),
        pytest.param(
            {"X-RateLimit-Reset": "3", "Retry-After": "8"},
            LimitHeaders(reset_in=3.0),
            id="the reset goes first",
        ),
        pytest.param(
            {"X-RateLimit-Limit": "", "X-RateLimit-Remaining": "", "X-RateLimit-Reset": ""},
            LimitHeaders(),
            id="empty, as on a 401",
        ),
        pytest.param(
            {"X-RateLimit-Limit": "many", "X-RateLimit-Remaining": "nan", "X-RateLimit-Reset": "inf"},
            LimitHeaders(),
            id="no numbers",
        ),
        pytest.param({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, LimitHeaders(), id="a date"),
        pytest.param({}, LimitHeaders(), id="none"),
    ],
)
def test_headers_are_read_or_let_be(headers: dict[str, str], expected: LimitHeaders) -> None:
    assert LimitHeaders.read(headers, now=NOW) == expected
