"""Many imports under one rate limit, simulated: the very budgets of the imports, on a clock that costs nothing.

A discrete-event simulation. The workspace counts requests in fixed windows as Braze does and tells in every answer how
many are left; the imports decide by ``core.budget.RateBudget`` and ``core.in_flight.InFlight``, as in the engine; live
traffic sends when it likes. ``python -m bench.simulation`` prints the table of ``docs/scale.md``.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.core.budget import LimitHeaders, RateBudget
from airflow_provider_kubit_braze.core.in_flight import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The engine lets its event loop sleep at least so long, in seconds.
_NAP = 0.005


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What all requests have in common.

    :param limit: requests in a window.
    :param window: its length, in seconds.
    :param reserve: what the imports leave to others.
    :param latency: seconds from a request to its answer; up to a tenth more or less, by chance.
    :param max_in_flight: most requests of one import that are under way.
    """

    limit: int = 3000
    window: float = 3.0
    reserve: float = 0.1
    latency: float = 0.4
    max_in_flight: int = 400


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import.

    :param starts: when, in seconds.
    :param requests: how many it has to send; None for one that never ends.
    """

    starts: float = 0.0
    requests: int | None = None


@dataclass
class Course:
    """What happened.

    :param accepted: requests that Braze took, by window, all imports together.
    :param by_import: the same for each import.
    :param live: requests of live traffic that Braze took, by window.
    :param refused: requests of imports that got a 429.
    :param live_refused: requests of live traffic that got one.
    :param ended: when each import had everything answered; None for one that had not.
    """

    accepted: Counter[int] = field(default_factory=Counter)
    by_import: list[Counter[int]] = field(default_factory=list)
    live: Counter[int] = field(default_factory=Counter)
    refused: int = 0
    live_refused: int = 0
    ended: list[float | None] = field(default_factory=list)

    @property
    def refused_share(self) -> float:
        """What part of the imports' requests got a 429."""
        return self.refused / max(1, self.refused + self.accepted.total())

    def used(self, windows: Sequence[int]) -> list[int]:
        """Requests taken in each of these windows, live traffic included."""
        return [self.accepted[window] + self.live[window] for window in windows]


class _Sender:
    def __init__(self, workspace: Workspace, plan: Import) -> None:
        self.left = math.inf if plan.requests is None else plan.requests
        self.under_way = 0
        self.wakes = False
        self.flight = InFlight(workspace.max_in_flight)
        self.budget = RateBudget(
            max_requests=workspace.limit,
            per_seconds=workspace.window,
            reserve=workspace.reserve,
            now=plan.starts,
        )


def simulate(
    imports: Sequence[Import],
    *,
    workspace: Workspace | None = None,
    seconds: float = 60.0,
    live: Callable[[float], float] = lambda _: 0.0,
    seed: int = 1,
) -> Course:
    """Let the imports run for some seconds, or until all have ended.

    :param live: requests a second of live traffic at a moment.
    :param seed: of jitter, and of the moments at which live traffic sends.
    """
    world = workspace or Workspace()
    chance = random.Random(seed)
    senders = [_Sender(world, plan) for plan in imports]
    course = Course(by_import=[Counter() for _ in imports], ended=[None for _ in imports])
    events: list[tuple[float, int, Callable[[float], None]]] = []
    order = 0

    def at(moment: float, what: Callable[[float], None]) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (moment, order, what))

    def take(now: float) -> bool:
        """Whether the workspace has room for one more request."""
        window = math.floor(now / world.window)
        return course.accepted[window] + course.live[window] < world.limit

    def go(which: int, now: float) -> None:
        sender = senders[which]
        sender.wakes = False
        while sender.left > 0 and sender.under_way < sender.flight.limit:
            if (wait := sender.budget.wait(now)) > 0:
                sender.wakes = True
                at(now + max(wait, _NAP), partial(go, which))
                return
            number = sender.budget.spend(now)
            sender.left -= 1
            sender.under_way += 1
            on_its_way = world.latency * 0.1 * (0.9 + 0.1 * chance.random())
            at(now + on_its_way, partial(arrive, which, number, now))

    def arrive(which: int, number: int, sent_at: float, now: float) -> None:
        window = math.floor(now / world.window)
        if taken := take(now):
            course.accepted[window] += 1
            course.by_import[which][window] += 1
        else:
            course.refused += 1
        remaining = world.limit - course.accepted[window] - course.live[window]
        ends = math.ceil((window + 1) * world.window)
        on_its_way_back = world.latency * chance.uniform(0.8, 1.0)
        at(now + on_its_way_back, partial(answer, which, number, sent_at, taken, remaining, ends))

    def answer(
        which: int, number: int, sent_at: float, taken: bool, remaining: int, ends: float, now: float
    ) -> None:
        sender = senders[which]
        headers = LimitHeaders(limit=world.limit, remaining=remaining, reset_in=max(ends - now, 0.0))
        sender.budget.observe(headers, number=number, limited=not taken, now=now)
        if taken:
            full = sender.under_way >= sender.flight.limit and not sender.wakes
            sender.flight.answered(sent_at=sent_at, full=full and sender.budget.wait(now) <= 0, now=now)
        else:
            sender.left += 1
        sender.under_way -= 1
        if not sender.wakes:
            go(which, now)
        if sender.left == 0 and sender.under_way == 0:
            course.ended[which] = now

    def live_request(now: float) -> None:
        if take(now):
            course.live[math.floor(now / world.window)] += 1
        else:
            course.live_refused += 1

    def live_second(now: float) -> None:
        for moment in sorted(chance.random() for _ in range(round(live(now)))):
            at(now + moment, live_request)
        at(now + 1.0, live_second)

    for which, plan in enumerate(imports):
        at(plan.starts, partial(go, which))
    at(0.0, live_second)
    while events and None in course.ended:
        moment, _, what = heapq.heappop(events)
        if moment > seconds:
            break
        what(moment)
    return course


def table() -> list[tuple[str, str, str, str, str]]:
    """Return the rows of ``docs/scale.md``: what was simulated, and what became of it."""
    daily = Workspace()
    cases: list[tuple[str, list[Import], Workspace, Callable[[float], float], float]] = [
        ("1 import", [Import()], daily, _nobody, 60),
        ("1 import, answers after 50 ms", [Import()], Workspace(latency=0.05), _nobody, 60),
        (
            "1 import, answers after 1 s, 1,000 in flight",
            [Import()],
            Workspace(latency=1.0, max_in_flight=1000),
            _nobody,
            60,
        ),
        ("4 imports, or shards, at once", [Import()] * 4, daily, _nobody, 60),
        ("20 imports at once", [Import()] * 20, daily, _nobody, 60),
        ("20 imports, one more every 3 s", [Import(starts=3.0 * n) for n in range(20)], daily, _nobody, 120),
        ("20 imports of 5,000 requests each", [Import(requests=5000)] * 20, daily, _nobody, 600),
        ("4 imports, and 500 live requests a second", [Import()] * 4, daily, lambda _: 500.0, 60),
        ("4 imports, live traffic from 20 to 600 and back", [Import()] * 4, daily, _wave, 90),
        (
            "4 imports, bulk: 50 requests a second",
            [Import()] * 4,
            Workspace(limit=50, window=1.0),
            _nobody,
            60,
        ),
    ]
    rows = []
    for what, imports, workspace, live, seconds in cases:
        course = simulate(imports, workspace=workspace, seconds=seconds, live=live)
        ends = [end for end in course.ended if end is not None]
        last = max(ends) if len(ends) == len(imports) else seconds
        windows = range(2, int(last / workspace.window) - 1)
        used = course.used(windows)
        usable = workspace.limit * (1 - workspace.reserve)
        fair = [sum(one[w] for w in windows) for one in course.by_import]
        rows.append(
            (
                what,
                f"{sum(used) / len(used) / usable:.0%}",
                f"{max(used) / workspace.limit:.0%}",
                f"{course.refused_share:.2%} / {course.live_refused}",
                f"{min(fair) / max(fair):.2f}" if len(fair) > 1 else "",
            )
        )
    return rows


def _nobody(_: float) -> float:
    return 0.0


def _wave(now: float) -> float:
    return 600.0 if 30 <= now < 60 else 20.0


if __name__ == "__main__":
    head = ("what", "used of limit less reserve", "fullest window", "429: imports / live", "least to most")
    for row in (head, ("---",) * 5, *table()):
        print(f"| {' | '.join(row)} |")
