"""The rate budget: how soon the next request may go out.

Braze limits ``/users/track`` for the whole workspace (3,000 requests per 3 seconds, Braze docs "API rate
limits"), and says in every answer how much is left of everybody's share (``X-RateLimit-Remaining``,
``-Reset``). DAGs and workers that know nothing of each other stay within that limit by three rules:

- a *bucket* below the limit that the connection states, so that one import alone never exceeds it;
- an *allowance*: of what is left of the window, less the reserve, an import takes its own share and no more. Its share
  is what it used of all that was used lately, which the headers tell, and a little more. The little more is what makes
  unequal shares equal in time, and lets the others have what one does not use any more;
- a *brake* for answers that say the limit is reached.

The reserve so stays free for live messaging, whose requests count as somebody else's share. ``bench/simulation.py``
shows what becomes of it with many imports, and with live traffic that comes and goes.

Pure: the caller passes the time and does the waiting.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Below this, ``X-RateLimit-Reset`` is a number of seconds to wait, above it seconds since 1970.
_EPOCH_FROM: Final = 1_000_000_000

#: Requests that may go out at once after a pause, in seconds' worth of the rate.
_BURST_SECONDS: Final = 0.05

#: A limit that says nothing about its reset is asked again after this many seconds.
_DEFAULT_PAUSE: Final = 1.0

#: Nobody waits longer than the longest window Braze documents (an hour, MAU plans).
MAX_PAUSE: Final = 3_600.0

#: Share of the limit that is left unused besides the reserve: requests overtake each other on their way.
_MARGIN: Final = 0.01

#: What a share grows by, at most, beyond what was used of it; shares below a fifth grow by less, down to a sixth of
#: this, or the many imports that have them would ask for far more than there is.
_GROWTH: Final = 0.03

#: The use of so many windows' worth of requests is remembered.
_MEMORY: Final = 0.5

#: In a window of up to so many seconds what is left is spread evenly until its end; the use of a longer one may come in
#: bursts, as nobody wants to wait an hour for a few requests.
_SHORT: Final = 10.0

#: A window that ends later than so many of the connection's own windows from now is another one (hourly, MAU plans).
_OWN: Final = 1.5

#: Moments of reset are told in whole seconds: those of one window differ by less than one when told as a delay.
_ROUNDING: Final = 0.999


class LimitHeaders(NamedTuple):
    """What an answer says about the limit; each is None when it is missing or unreadable.

    :param limit: requests per window.
    :param remaining: requests left in this window.
    :param reset_in: seconds until the window ends.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_in: float | None = None

    @classmethod
    def read(cls, headers: Mapping[str, str], *, now: float) -> LimitHeaders:
        """Read the headers of an answer; names are case-insensitive in ``headers``.

        :param now: seconds since 1970, to make a moment of reset into a wait.
        """
        reset = _number(headers.get("X-RateLimit-Reset"))
        if reset is None:
            # On MAU plans a 429 carries only this one (peers' code, not in Braze's docs).
            reset = _number(headers.get("X-RateLimit-Retry-After")) or _number(headers.get("Retry-After"))
        elif reset >= _EPOCH_FROM:
            reset -= now
        limit = _number(headers.get("X-RateLimit-Limit"))
        remaining = _number(headers.get("X-RateLimit-Remaining"))
        return cls(
            limit=None if limit is None else int(limit),
            remaining=None if remaining is None else int(remaining),
            reset_in=None if reset is None else min(max(reset, 0.0), MAX_PAUSE),
        )


class _Share:
    """What part of the workspace's requests are this import's, by what the answers tell.

    :param window: requests per window.
    """

    def __init__(self, window: int) -> None:
        self._memory = window * _MEMORY
        # So many of our requests, or four times as many of everybody's, make a new reading: one by one they tell
        # little, as requests overtake each other.
        self._step = max(2, window // 100)
        self._since: tuple[int, int] | None = None
        self._own = self._all = 0.0
        self.value = 1.0

    def observe(self, number: int, remaining: int) -> None:
        """Learn from the answer to our request of this number how much was left."""
        before = self._since
        if before is None or remaining > before[1]:
            # A new window.
            self._since = number, remaining
            return
        own, everybody = number - before[0], before[1] - remaining
        if own < self._step and everybody < 4 * self._step:
            return
        self._since = number, remaining
        everybody = max(own, everybody)
        fading = math.exp(-everybody / self._memory)
        self._own = self._own * fading + own
        self._all = self._all * fading + everybody
        used = self._own / self._all
        self.value = min(1.0, used + _GROWTH * min(1.0, 1 / 6 + 2.7 * used))


class RateBudget:
    """Say when the next request may be sent.

    :param max_requests: the workspace's published limit.
    :param per_seconds: length of the limit's window in seconds.
    :param reserve: share of the limit left to others, 0 <= reserve < 1.
    :param now: the time on any monotonic clock, in seconds.
    """

    def __init__(self, *, max_requests: int, per_seconds: float, reserve: float, now: float) -> None:
        usable = max(1.0, max_requests * (1.0 - reserve))
        self._max_requests = max_requests
        self._per_seconds = per_seconds
        self._kept = reserve + _MARGIN
        burst = max(1.0, min(usable / 2, usable / per_seconds * _BURST_SECONDS))
        # The burst is part of the window's share, or a full bucket would overshoot it.
        self._interval = per_seconds / max(usable - burst, 0.5)
        self._slack = (burst - 1.0) * self._interval
        self._next = now - self._slack
        self._closed_until = now
        self._sent = 0
        self._heard = 0
        # Of the window that ends then, this number is the last one that may be sent.
        self._window_end = -math.inf
        self._last = math.inf
        self._is_short = False
        self._limit = max_requests
        self._share = _Share(max_requests)

    def wait(self, now: float) -> float:
        """Return for how many seconds no request may be sent; 0 when the next one may."""
        self._begin_window(now)
        wait = max(self._next - now, self._closed_until - now, 0.0)
        if now < self._window_end and self._last - self._sent < 1:
            wait = max(wait, self._window_end - now)
        return wait

    def spend(self, now: float) -> int:
        """Take one request out of the budget, which is sent now; return its number, for ``observe``."""
        interval = self._interval
        if self._is_short and now < self._window_end:
            # What is left has to last until the window's end: in bursts the imports would crowd out everybody else.
            left = max(self._last - self._sent, 1.0)
            interval = max(interval, (self._window_end - now) / left)
        self._next = max(self._next, now - self._slack) + interval
        self._sent += 1
        return self._sent

    def observe(self, headers: LimitHeaders, *, number: int, limited: bool, now: float) -> None:
        """Follow what an answer said.

        :param headers: the answer's headers.
        :param number: the request's, from ``spend``.
        :param limited: the answer was a 429.
        """
        if limited:
            self._closed_until = max(self._closed_until, now + (headers.reset_in or _DEFAULT_PAUSE))
            return
        # Answers overtake each other; what was sent last saw most.
        if headers.remaining is None or not headers.reset_in or number <= self._heard:
            return
        self._heard = number
        self._limit = headers.limit or self._max_requests
        self._share.observe(number, headers.remaining)
        left = headers.remaining - self._limit * self._kept
        self._last = number + max(0.0, self._share.value * left)
        end = now + headers.reset_in
        self._window_end = min(self._window_end, end) if self._is_same_window(end, now) else end
        self._is_short = headers.reset_in <= min(_SHORT, _OWN * self._per_seconds)

    def _is_same_window(self, end: float, now: float) -> bool:
        return now < self._window_end and abs(end - self._window_end) < _ROUNDING

    def _begin_window(self, now: float) -> None:
        """A window is over and no answer of the next one is here yet: it is taken for one like the last."""
        if self._is_short and self._window_end <= now:
            windows = math.floor((now - self._window_end) / self._per_seconds) + 1
            self._window_end += windows * self._per_seconds
            allowance = self._share.value * self._limit * (1.0 - self._kept)
            # Somebody has to ask, or nobody would hear of a limit that has grown.
            self._last = self._sent + max(1.0, allowance)


def _number(text: str | None) -> float | None:
    # Braze sends empty strings on some answers (401).
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
