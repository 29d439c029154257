"""The rate budget: how soon the next request may go out.

Braze limits ``/users/track`` for the whole workspace (3,000 requests per 3 seconds, Braze docs "API rate
limits"), and says in every answer how much is left of everybody's share (``X-RateLimit-Remaining``,
``-Reset``). The budget is a bucket below the configured limit plus a brake that follows those headers, so
that DAGs and workers that know nothing of each other stay within the limit and leave the reserve to live
messaging.

Pure: the caller passes the time and does the waiting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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


@dataclass(frozen=True, kw_only=True)
class LimitHeaders:
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
        # On MAU plans a 429 carries only this one (peers' code, not in Braze's docs).
        retry = _number(headers.get("X-RateLimit-Retry-After")) or _number(headers.get("Retry-After"))
        if reset is not None and reset >= _EPOCH_FROM:
            reset = reset - now
        wait = reset if reset is not None else retry
        limit, remaining = (
            _number(headers.get("X-RateLimit-Limit")),
            _number(headers.get("X-RateLimit-Remaining")),
        )
        return cls(
            limit=None if limit is None else int(limit),
            remaining=None if remaining is None else int(remaining),
            reset_in=None if wait is None else min(max(wait, 0.0), MAX_PAUSE),
        )


class RateBudget:
    """Hand out the moments at which requests may be sent.

    A turn is a moment of the budget's own time, which stands still while the brake is pulled: those who
    already wait keep their distance from each other, so that no crowd goes off when the brake is released.

    :param max_requests: the workspace's published limit.
    :param per_seconds: length of the limit's window in seconds.
    :param reserve: share of the limit left to others, 0 <= reserve < 1.
    :param now: the time on any monotonic clock, in seconds.
    """

    def __init__(self, *, max_requests: int, per_seconds: float, reserve: float, now: float) -> None:
        usable = max(1.0, max_requests * (1.0 - reserve))
        self._reserve = reserve
        burst = max(1.0, min(usable / 2, usable / per_seconds * _BURST_SECONDS))
        # The burst is part of the window's share, or a full bucket would overshoot it.
        self._interval = per_seconds / max(usable - burst, 0.5)
        self._slack = (burst - 1.0) * self._interval
        self._next = now - self._slack
        self._closed_until = now
        self._stood_still = 0.0

    def take(self, now: float) -> float:
        """Take one request out of the budget and return its turn, to be asked ``wait`` about."""
        own_time = max(now, self._closed_until) - self._stood_still
        turn = max(self._next, own_time - self._slack)
        self._next = turn + self._interval
        return turn

    def wait(self, turn: float, now: float) -> float:
        """Return for how many seconds a turn is still to come; 0 when it is there. The brake prolongs it."""
        return max(turn + self._stood_still - now, self._closed_until - now, 0.0)

    def observe(self, headers: LimitHeaders, *, limited: bool, now: float) -> None:
        """Follow what an answer said.

        :param headers: the answer's headers.
        :param limited: the answer was a 429.
        """
        if limited:
            pause = headers.reset_in or _DEFAULT_PAUSE
        elif headers.remaining is not None and headers.reset_in:
            if headers.remaining > (headers.limit or 0) * self._reserve:
                return
            pause = headers.reset_in
        else:
            return
        until = now + pause
        if until > self._closed_until:
            self._stood_still += until - max(now, self._closed_until)
            self._closed_until = until


def _number(text: str | None) -> float | None:
    # Braze sends empty strings on some answers (401).
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
