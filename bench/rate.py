"""How much of Braze's limit is used, and how often it says no: one import at three latencies, and four at once.

The local Braze counts 3,000 requests in fixed windows of three seconds, as the real one does. What was taken of a
window is what its last answer says. The first window in which everybody sends is left out.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.budget import LimitHeaders
from bench.local import local_braze, settings_for, wait_for_the_others, workers
from bench.rows import Row, over
from bench.standin import deliver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from bench.sizes import Sizes

LIMIT: Final = 3000
WINDOW: Final = 3.0

#: What an import may have under way at a latency in milliseconds; 400 is the connection's default.
_IN_FLIGHT: Final = {50: 400, 400: 400, 1000: 1000}

_IMPORTS: Final = 4
_RESERVE: Final = 0.1

#: More than anybody can send meanwhile.
_ENDLESS: Final = 10_000_000_000


class _OverError(Exception):
    """The time is up."""


def rate(sizes: Sizes) -> Iterator[Row]:
    """Hold the rate for a while."""
    for latency, in_flight in _IN_FLIGHT.items():
        yield from _one(latency, in_flight, sizes.seconds)
    yield from _several(sizes.seconds)


def _one(latency: int, in_flight: int, seconds: float) -> Iterator[Row]:
    seen = _Seen(latency, [{"reserve": 0.0, "max_in_flight": in_flight}], seconds)
    at, note = f"at {latency:,} ms", f"{in_flight:,} in flight at most"
    yield over(
        [taken / LIMIT for taken in seen.taken],
        f"requests taken in a window, one import, {at}",
        "the limit",
        unit="%",
        least=0.95 if latency == 400 else None,
        note=note,
    )
    yield over(
        seen.cores(),
        f"CPU of an import at the ceiling, {at}",
        "one core",
        unit="x",
        most=0.5 if latency == 400 else None,
        note=note,
    )
    yield Row(
        what=f"requests refused with 429, one import, {at}",
        against="all requests",
        figure=seen.refused_share,
        unit="%",
        most=0.0,
    )


def _several(seconds: float) -> Iterator[Row]:
    usable = LIMIT * (1 - _RESERVE)
    seen = _Seen(400, [{"reserve": _RESERVE}] * _IMPORTS, seconds)
    shares = [taken / usable for taken in seen.taken]
    them = f"{_IMPORTS} processes at 400 ms, reserve {_RESERVE}"
    yield over(
        shares,
        f"requests taken in a window, {them}",
        "the limit less the reserve",
        unit="%",
        least=0.85,
        most=1.0,
    )
    yield Row(
        what=f"requests taken in the fullest window, {them}",
        against="the limit less the reserve",
        figure=max(shares),
        unit="%",
        most=1.0,
    )
    yield Row(
        what=f"requests refused with 429, {them}",
        against="all requests",
        figure=seen.refused_share,
        unit="%",
        most=0.001,
    )


class _Seen:
    """What happened while imports sent to a Braze of their own.

    :param latency: of Braze, in milliseconds.
    :param extras: of each import's connection.
    :param seconds: how long they send.
    """

    def __init__(self, latency: int, extras: list[dict[str, float]], seconds: float) -> None:
        limits = {"max_requests": LIMIT, "per_seconds": WINDOW}
        with local_braze(limit=LIMIT, latency_ms=latency) as braze:
            all_settings = [settings_for(braze.url, **limits, **extra) for extra in extras]
            with workers(len(extras)) as pool:
                self._held = list(pool.map(_hold, all_settings, [seconds] * len(extras)))
            statuses = braze.counters().statuses["/users/track"]
        self.refused_share = statuses.get(429, 0) / sum(statuses.values())
        # Each began at the start of its first window, and broke off in its last one.
        common = set.intersection(*(set(held.cpu) for held in self._held))
        self._windows = [window for window in sorted(common)[1:] if window + 1 in common]
        if len(self._windows) < 2:
            raise RuntimeError(
                "The imports were hardly ever sending at the same time: the machine is too busy."
            )
        self.taken = [max(held.taken.get(window, 0) for held in self._held) for window in self._windows]

    def cores(self) -> list[float]:
        """Return how many cores the imports used, window by window."""
        return [
            sum(held.cpu[window + 1] - held.cpu[window] for held in self._held) / WINDOW
            for window in self._windows
        ]


@dataclass
class _Held:
    """What one import saw, by the number of the window.

    :param cpu: seconds of CPU that had been used when it began.
    :param taken: requests that Braze had taken of everybody by its last answer.
    """

    cpu: dict[int, float] = field(default_factory=dict)
    taken: dict[int, int] = field(default_factory=dict)


def _hold(settings: BrazeSettings, seconds: float) -> _Held:
    """Send for some seconds."""
    # One request, so that everything is imported.
    deliver(settings, 1)
    wait_for_the_others()
    time.sleep(WINDOW - time.time() % WINDOW)
    held = _Held()
    _listen(held.taken)
    ends = time.monotonic() + seconds

    def look() -> None:
        window = int(time.time() // WINDOW)
        if window not in held.cpu:
            held.cpu[window] = time.process_time()
        if time.monotonic() > ends:
            raise _OverError

    with suppress(_OverError):
        deliver(settings, _ENDLESS, permit=look)
    return held


def _listen(taken: dict[int, int]) -> None:
    """From now on, note for each window what the answers say of it, beside what the engine makes of them."""
    read = LimitHeaders.read

    def note(headers: Mapping[str, str], *, now: float) -> LimitHeaders:
        window = int(headers["X-RateLimit-Reset"]) // int(WINDOW) - 1
        taken[window] = max(taken.get(window, 0), LIMIT - int(headers["X-RateLimit-Remaining"]))
        return read(headers, now=now)

    LimitHeaders.read = note  # type: ignore[method-assign]
