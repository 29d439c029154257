from __future__ import annotations

import heapq
from bisect import bisect_left
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.budget import MAX_PAUSE, LimitHeaders, RateBudget

NOW = 1_800_000_000.0


def budget_of(max_requests: int = 100, per_seconds: float = 1.0, reserve: float = 0.0) -> RateBudget:
    return RateBudget(max_requests=max_requests, per_seconds=per_seconds, reserve=reserve, now=0.0)


def moments(budget: RateBudget, *, workers: int, requests: int, seconds: float = 0.0) -> list[float]:
    """When requests go out, on a clock of the test's own: a worker takes a turn, waits, sends, and again."""
    sent: list[float] = []
    free = [(0.0, worker) for worker in range(workers)]
    waiting: list[tuple[float, int, float]] = []
    while len(sent) < requests:
        if free and (not waiting or free[0][0] <= waiting[0][0]):
            now, worker = heapq.heappop(free)
            turn = budget.take(now)
            heapq.heappush(waiting, (now + budget.wait(turn, now), worker, turn))
            continue
        now, worker, turn = heapq.heappop(waiting)
        if (more := budget.wait(turn, now)) > 1e-9:
            heapq.heappush(waiting, (now + more, worker, turn))
            continue
        sent.append(now)
        heapq.heappush(free, (now + seconds, worker))
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


def test_a_pause_of_the_caller_saves_nothing_up() -> None:
    budget = budget_of(1000, 1.0)
    after_a_day = 86_400.0

    at_once = sum(budget.wait(budget.take(after_a_day), after_a_day) == 0 for _ in range(1000))

    assert at_once == 50


def test_requests_that_already_wait_do_not_go_off_together_when_the_brake_is_released() -> None:
    budget = budget_of(100, 1.0)
    turns = [budget.take(0.0) for _ in range(60)]
    budget.observe(LimitHeaders(reset_in=10.0), limited=True, now=0.0)

    waits = [budget.wait(turn, 0.0) for turn in turns]

    assert min(waits) >= 10.0
    assert sum(wait < 10.02 for wait in waits) <= 6
    assert all(later - earlier >= 0.009 for earlier, later in pairwise(waits[6:]))


def test_requests_that_come_while_the_brake_is_on_do_not_go_off_together_either() -> None:
    budget = budget_of(3000, 3.0, 0.1)
    budget.observe(LimitHeaders(reset_in=3.0), limited=True, now=0.0)
    arrivals = [i * 3.0 / 1000 for i in range(1000)]

    sent = [now + budget.wait(budget.take(now), now) for now in arrivals]
    sent += [now + budget.wait(budget.take(now), now) for now in (3.0 + i / 1000 for i in range(3000))]

    assert min(sent) == 3.0
    assert most_in_window(sent, 3.0) <= 2700


@pytest.mark.parametrize(
    ("headers", "limited", "pause"),
    [
        pytest.param({"limit": 100, "remaining": 50, "reset_in": 2.0}, False, 0.0, id="plenty left"),
        pytest.param({"limit": 100, "remaining": 11, "reset_in": 2.0}, False, 0.0, id="above the reserve"),
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

    budget.observe(LimitHeaders(**headers), limited=limited, now=0.0)

    assert budget.wait(budget.take(0.0), 0.0) == pause


def test_an_earlier_end_does_not_release_the_brake() -> None:
    budget = budget_of()
    budget.observe(LimitHeaders(reset_in=10.0), limited=True, now=0.0)
    budget.observe(LimitHeaders(reset_in=1.0), limited=True, now=2.0)

    assert budget.wait(budget.take(2.0), 2.0) == 8.0


def test_the_brake_can_be_prolonged() -> None:
    budget = budget_of()
    budget.observe(LimitHeaders(reset_in=2.0), limited=True, now=0.0)
    turn = budget.take(0.5)
    budget.observe(LimitHeaders(reset_in=4.0), limited=True, now=1.0)

    assert budget.wait(turn, 1.0) == 4.0
    assert budget.wait(turn, 5.0) == 0.0


def test_once_released_the_brake_is_forgotten() -> None:
    budget = budget_of()
    budget.observe(LimitHeaders(reset_in=2.0), limited=True, now=0.0)

    assert budget.wait(budget.take(2.0), 2.0) == 0.0


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
