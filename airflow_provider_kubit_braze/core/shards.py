"""How a frozen plan is divided among shards: tasks that deliver it beside each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.core.plan import Plan

#: Each shard is a task with a process, connections and Snowflake sessions of its own, and one process alone reaches
#: Braze's published ceiling.
MOST_SHARDS: Final = 64


def shard_count(wanted: int, changes: int, *, in_one: int) -> int:
    """Return into how many shards so many changes are divided: never more than there are requests.

    :param wanted: what the cohort asks for.
    :param in_one: most changes in one request.
    """
    return min(wanted, math.ceil(changes / in_one))


def shard_ranges(
    plan: Plan, shard: int, shards: int, *, in_one: int, leavers: bool = True
) -> Sequence[Range]:
    """Return what one shard sends: its part of the leavers, and then its part of the others.

    :param shard: which one, from 1 to ``shards``.
    :param in_one: most changes in one request; parts are whole requests.
    :param leavers: False when the leavers have been sent before.
    """
    parts = [(1, plan.leave)] if leavers else []
    parts.append((plan.leave + 1, plan.to_send))
    found = []
    for first, last in parts:
        requests = math.ceil((last - first + 1) / in_one)
        start = first + requests * (shard - 1) // shards * in_one
        end = min(first + requests * shard // shards * in_one - 1, last)
        if start <= end:
            found.append(Range(start, end))
    return found
