"""Sets of sequence numbers, kept as sorted, disjoint, closed ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Range(NamedTuple):
    """Sequence numbers ``first`` to ``last``, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many numbers the range holds."""
        return self.last - self.first + 1


def merge(ranges: Iterable[tuple[int, int]]) -> list[Range]:
    """Return the same numbers as the fewest ranges, in order. Ranges may overlap or touch."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1].last + 1:
            if last > merged[-1].last:
                merged[-1] = Range(merged[-1].first, last)
        else:
            merged.append(Range(first, last))
    return merged


def gaps(done: Iterable[tuple[int, int]], total: int) -> list[Range]:
    """Return what is missing of 1 to ``total``."""
    missing: list[Range] = []
    start = 1
    for first, last in merge(done):
        if start > total:
            break
        if first > start:
            missing.append(Range(start, min(first - 1, total)))
        start = max(start, last + 1)
    if start <= total:
        missing.append(Range(start, total))
    return missing


def cut(ranges: Iterable[tuple[int, int]], size: int) -> Iterator[Range]:
    """Yield the same numbers in order, in ranges of at most ``size`` numbers."""
    for first, last in ranges:
        for start in range(first, last + 1, size):
            yield Range(start, min(start + size - 1, last))


def count(ranges: Iterable[tuple[int, int]]) -> int:
    """Return how many numbers disjoint ranges hold."""
    return sum(last - first + 1 for first, last in ranges)


def within(ranges: Iterable[tuple[int, int]], bounds: Range) -> list[Range]:
    """Return those of the numbers that are also in ``bounds``."""
    return [
        Range(max(first, bounds.first), min(last, bounds.last))
        for first, last in ranges
        if first <= bounds.last and last >= bounds.first
    ]
