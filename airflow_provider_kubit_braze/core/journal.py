"""What has become of each change so far, in memory, until it is written down."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields

from airflow_provider_kubit_braze.core.ranges import Range, merge


@dataclass(frozen=True, kw_only=True)
class Entries:
    """What happened since the last time somebody looked.

    :param settled: ranges of sequence numbers with a certain verdict: accepted, except for ``rejected`` ones.
    :param rejected: sequence number -> Braze's words.
    """

    settled: tuple[Range, ...] = ()
    rejected: dict[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.settled)


@dataclass
class Counters:
    """Counts of one delivery.

    :param accepted: changes that Braze accepted.
    :param rejected: changes that Braze refused for good.
    :param unknown: changes without a certain answer.
    :param data_points: attribute writes that Braze accepted, or may have (repeated ones count again).
    :param requests: requests that got an answer.
    :param retries: requests that were sent again.
    :param throttled_seconds: seconds in which at least one request waited for the rate limit.
    """

    accepted: int = 0
    rejected: int = 0
    unknown: int = 0
    data_points: int = 0
    requests: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0

    def __add__(self, other: Counters) -> Counters:
        """Return the sums."""
        return Counters(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


class Journal:
    """Collects verdicts from the event loop; another thread takes them out to write them down."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._lock = threading.Lock()
        self._settled: list[Range] = []
        self._rejected: dict[int, str] = {}
        self._unknown: list[Range] = []

    def settle(self, range_: Range, rejected: dict[int, str]) -> None:
        """Record that every change of ``range_`` was accepted, except for those ``rejected``."""
        with self._lock:
            self._settled.append(range_)
            self._rejected.update(rejected)
            self.counters.rejected += len(rejected)
            self.counters.accepted += range_.size - len(rejected)

    def doubt(self, range_: Range) -> None:
        """Record that Braze may or may not have applied the changes of ``range_``."""
        with self._lock:
            self._unknown.append(range_)
            self.counters.unknown += range_.size

    def take(self) -> Entries:
        """Return what was settled since the last call, and forget it."""
        with self._lock:
            entries = Entries(settled=tuple(merge(self._settled)), rejected=self._rejected)
            self._settled, self._rejected = [], {}
        return entries

    def put_back(self, entries: Entries) -> None:
        """Undo ``take``: the entries could not be written down."""
        with self._lock:
            self._settled.extend(entries.settled)
            self._rejected = {**entries.rejected, **self._rejected}

    @property
    def unknown(self) -> list[Range]:
        """Ranges whose outcome is uncertain."""
        with self._lock:
            return merge(self._unknown)
