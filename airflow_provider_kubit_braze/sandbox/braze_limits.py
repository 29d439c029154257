"""Rate limits: fixed windows, counted per workspace and limit, and the headers that tell of them."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.sandbox.braze_settings import Windows

HEADER_LIMIT: Final = b"x-ratelimit-limit"
HEADER_REMAINING: Final = b"x-ratelimit-remaining"
HEADER_RESET: Final = b"x-ratelimit-reset"
HEADER_RETRY_AFTER: Final = b"x-ratelimit-retry-after"

EMPTY_HEADERS: Final = b"x-ratelimit-limit: \r\nx-ratelimit-remaining: \r\nx-ratelimit-reset: \r\n"
"""As recorded on a 401: there is no workspace whose limit could be told."""


class Reading(NamedTuple):
    """Where a limit stands after a request.

    :param allowed: False when the request is over the limit.
    :param limit: requests in the window told of.
    :param remaining: requests left in it.
    :param reset: epoch seconds at which it starts anew.
    """

    allowed: bool
    limit: int
    remaining: int
    reset: float


class _Window:
    __slots__ = ("limit", "number", "seconds", "used")

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self.number = -1.0
        self.used = 0

    def reading(self, *, allowed: bool) -> Reading:
        return Reading(allowed, self.limit, self.limit - self.used, (self.number + 1.0) * self.seconds)


class RateLimit:
    """All windows of one limit; a request must fit into each.

    A refused request uses nothing up. The headers tell of the window that refused, otherwise of the longest
    one (MAU plans have a burst and an hourly window, and were seen to tell of the hourly one).

    :param windows: ``(requests, seconds)`` of each window; none means unlimited.
    """

    def __init__(self, windows: Windows) -> None:
        self._windows = [
            _Window(limit, seconds) for limit, seconds in sorted(windows, key=lambda pair: pair[1])
        ]

    def take(self, now: float) -> Reading | None:
        """Count one request at ``now`` (epoch seconds); None when nothing limits it."""
        windows = self._windows
        if not windows:
            return None
        for window in windows:
            number = now // window.seconds
            if number != window.number:
                window.number = number
                window.used = 0
            if window.used >= window.limit:
                return window.reading(allowed=False)
        for window in windows:
            window.used += 1
        return windows[-1].reading(allowed=True)


def rate_headers(reading: Reading | None, *, style: str, now: float) -> bytes:
    """Return the header lines for ``reading`` in one of the settings' styles."""
    if style == "none" or reading is None:
        return b""
    if style == "empty":
        return EMPTY_HEADERS
    if style == "retry_after" and not reading.allowed:
        return b"%b: %d\r\n" % (HEADER_RETRY_AFTER, ceil(reading.reset - now))
    reset = ceil(reading.reset - now) if style == "delta" else ceil(reading.reset)
    return b"%b: %d\r\n%b: %d\r\n%b: %d\r\n" % (
        HEADER_LIMIT,
        reading.limit,
        HEADER_REMAINING,
        reading.remaining,
        HEADER_RESET,
        reset,
    )
