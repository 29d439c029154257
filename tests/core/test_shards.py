from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.ranges import Range, count, merge
from airflow_provider_kubit_braze.core.shards import shard_count, shard_ranges


def plan_of(leave: int, enter: int) -> Plan:
    return Plan(import_id="i", members=enter, in_braze=leave, leave=leave, enter=enter)


@given(
    leave=st.integers(0, 500),
    enter=st.integers(0, 2000),
    shards=st.integers(1, 64),
    in_one=st.integers(1, 90),
)
def test_shards_hold_every_change_once_in_whole_requests_and_alike(
    leave: int, enter: int, shards: int, in_one: int
) -> None:
    plan = plan_of(leave, enter)
    parts = [shard_ranges(plan, shard, shards, in_one=in_one) for shard in range(1, shards + 1)]
    every = [found for part in parts for found in part]

    assert count(every) == plan.to_send
    assert merge(every) == ([Range(1, plan.to_send)] if plan.to_send else [])
    for first, last in every:
        start, end = (1, leave) if last <= leave else (leave + 1, plan.to_send)
        assert first >= start
        assert (first - start) % in_one == 0
        assert last == end or (last + 1 - start) % in_one == 0
    requests = [sum(-(-found.size // in_one) for found in part) for part in parts]
    assert max(requests) - min(requests) <= 2


def test_leavers_come_first_or_not_at_all() -> None:
    plan = plan_of(20, 40)

    assert shard_ranges(plan, 2, 2, in_one=10) == [Range(11, 20), Range(41, 60)]
    assert shard_ranges(plan, 2, 2, in_one=10, leavers=False) == [Range(41, 60)]


@pytest.mark.parametrize(
    ("wanted", "changes", "shards"), [(4, 1, 1), (4, 300, 4), (4, 151, 3), (1, 10_000, 1), (64, 10**9, 64)]
)
def test_there_are_never_more_shards_than_requests(wanted: int, changes: int, shards: int) -> None:
    assert shard_count(wanted, changes, in_one=75) == shards
