"""How many requests are under way at the same time: as many as Braze's latency asks for, fewer when it is in trouble.

The rate budget says how fast requests may go out; how many are then under way is rate times latency, which nobody knows
beforehand: 50 at 50 ms, 400 at 400 ms. So the number starts low and doubles, answer by answer, for as long as it is
what holds the import back. A failure halves it, and from then on it grows by about one each time that all of them have
been answered, as TCP's congestion window does (RFC 5681).

Pure: the caller passes the time.
"""

from __future__ import annotations

import math
from typing import Final

#: What an import begins with.
_FIRST: Final = 50

#: Failures within so many seconds are one piece of trouble: requests that were under way together fail together.
_ONE_TROUBLE: Final = 1.0


class InFlight:
    """The number of requests that may be under way.

    :param most: never more than this.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(min(_FIRST, most))
        self._doubles = True
        self._troubled_at = -math.inf
        self._full_at = -math.inf

    @property
    def limit(self) -> int:
        """Requests that may be under way, at least 1."""
        return int(self._size)

    def answered(self, *, sent_at: float, full: bool, now: float) -> None:
        """Note a request that Braze took.

        Answers come in bursts, as the requests went out: in the middle of a burst the rate budget is what holds the
        next ones back. So a request counts when there was nothing but the limit in the way at any time of its journey.

        :param sent_at: when it went out.
        :param full: more would be sent at this moment, did the limit let them.
        """
        if full:
            self._full_at = now
        if self._full_at >= sent_at and self._size < self._most:
            self._size = min(float(self._most), self._size + (1.0 if self._doubles else 1.0 / self._size))

    def failed(self, now: float) -> None:
        """Note a request that Braze did not manage: an error of its own, no answer in time, a broken connection."""
        self._doubles = False
        if now - self._troubled_at >= _ONE_TROUBLE:
            self._troubled_at = now
            self._size = max(1.0, self._size / 2)
