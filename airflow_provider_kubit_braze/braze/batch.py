"""One request of a delivery: what it holds, how long it is tried, and what has become of it so far."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import orjson

from airflow_provider_kubit_braze.core.ranges import Range


@dataclass(frozen=True, slots=True)
class Batch:
    """One request for the changes with sequence numbers ``first`` to ``first + size - 1``.

    :param first: sequence number of the first change.
    :param size: how many changes it holds, at least 1.
    :param objects: the JSON of each user in their order, with commas between them.
    :param doubtful: Braze may have applied it in an earlier attempt.
    """

    first: int
    size: int
    objects: bytes
    doubtful: bool = False

    @property
    def range(self) -> Range:
        """The sequence numbers of the request."""
        return Range(self.first, self.first + self.size - 1)

    def halves(self) -> tuple[Batch, Batch]:
        """Split in two, which takes two changes at least."""
        users = orjson.loads(b"[" + self.objects + b"]")
        middle = self.size // 2
        parts = (orjson.dumps(some)[1:-1] for some in (users[:middle], users[middle:]))
        return (
            replace(self, size=middle, objects=next(parts)),
            replace(self, first=self.first + middle, size=self.size - middle, objects=next(parts)),
        )


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a single request is tried.

    :param tries: attempts before a request is given up.
    :param first_wait: seconds before the second attempt; doubled every time, with jitter.
    :param longest_wait: upper bound of that wait, in seconds.
    :param windows: rate windows in which a request is refused (429 with a known end), and nothing else
        accepted, before it is given up.
    """

    tries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0
    windows: int = 20

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after the given attempt (1, 2, ...)."""
        # Jitter, so that the workers of one outage do not come back in one wave.
        return min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311


@dataclass(slots=True)
class Trial:
    """One request on its way to a verdict. Times are the clock's.

    :param maybe_applied: Braze may have applied it.
    :param on_the_wire: an attempt has begun to be written and has no verdict yet.
    :param failures: times of the failed attempts.
    :param refused: rate windows in a row that refused it while nothing else was accepted.
    :param since: when its last attempt ended.
    """

    maybe_applied: bool
    since: float
    on_the_wire: bool = False
    failures: list[float] = field(default_factory=list)
    refused: int = 0
