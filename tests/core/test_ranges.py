from __future__ import annotations

import random

import pytest

from airflow_provider_kubit_braze.core.ranges import Range, count, cut, gaps, merge


def numbers(ranges: list[Range]) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("ranges", "merged"),
    [
        pytest.param([], [], id="none"),
        pytest.param([(3, 5)], [(3, 5)], id="one"),
        pytest.param([(4, 6), (1, 3)], [(1, 6)], id="touching, out of order"),
        pytest.param([(1, 5), (3, 9)], [(1, 9)], id="overlapping"),
        pytest.param([(1, 9), (3, 5)], [(1, 9)], id="one inside the other"),
        pytest.param([(1, 2), (4, 5)], [(1, 2), (4, 5)], id="a gap of one"),
        pytest.param([(7, 7), (7, 7)], [(7, 7)], id="twice the same"),
    ],
)
def test_ranges_merge_into_the_fewest(ranges: list[tuple[int, int]], merged: list[tuple[int, int]]) -> None:
    assert merge(ranges) == merged


@pytest.mark.parametrize(
    ("done", "total", "missing"),
    [
        pytest.param([], 10, [(1, 10)], id="nothing done"),
        pytest.param([], 0, [], id="nothing to do"),
        pytest.param([(1, 10)], 10, [], id="all done"),
        pytest.param([(1, 3)], 10, [(4, 10)], id="a beginning"),
        pytest.param([(8, 10)], 10, [(1, 7)], id="an end"),
        pytest.param([(3, 4), (6, 6)], 8, [(1, 2), (5, 5), (7, 8)], id="islands"),
        pytest.param([(9, 20)], 10, [(1, 8)], id="beyond the total"),
        pytest.param([(15, 20)], 10, [(1, 10)], id="all of it beyond the total"),
        pytest.param([(1, 3), (15, 20)], 10, [(4, 10)], id="some beyond the total"),
        pytest.param([(3, 5)], 0, [], id="something done of nothing"),
        pytest.param([(1, 10), (12, 13)], 10, [], id="done and beyond"),
    ],
)
def test_gaps_are_what_is_missing(
    done: list[tuple[int, int]], total: int, missing: list[tuple[int, int]]
) -> None:
    assert gaps(done, total) == missing


def test_ranges_and_their_gaps_hold_every_number_once() -> None:
    chance = random.Random(7)  # noqa: S311
    for _ in range(200):
        total = chance.randint(0, 40)
        done = [
            (first, min(total, first + chance.randint(0, 6)))
            for first in (chance.randint(1, max(total, 1)) for _ in range(chance.randint(0, 8)))
            if first <= total
        ]

        found = merge(done) + gaps(done, total)

        assert sorted(numbers(found)) == list(range(1, total + 1))
        assert count(found) == total


def test_cutting_keeps_order_and_numbers_and_joins_nothing() -> None:
    pieces = list(cut([(1, 7), (8, 9), (20, 20)], 3))

    assert pieces == [(1, 3), (4, 6), (7, 7), (8, 9), (20, 20)]
    assert [piece.size for piece in pieces] == [3, 3, 1, 2, 1]


def test_a_range_counts_both_ends() -> None:
    assert Range(4, 4).size == 1
    assert count([(1, 3), (10, 10)]) == 4
