"""What an import sends of a cohort that has not changed: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.rows import Row
from bench.warehouse import import_cohort, local_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.sizes import Sizes


def unchanged(sizes: Sizes) -> Iterator[Row]:
    """Import a cohort whose members are all in Braze, and count what Braze gets."""
    with local_warehouse() as warehouse:
        warehouse.fill_source("USERS", sizes.unchanged)
        warehouse.fill_ledger("USERS")
        result = import_cohort(warehouse.way, "USERS")
        if (result.outcome, result.members) != ("unchanged", sizes.unchanged):
            raise RuntimeError(f"{result.outcome} with {result.members} members")
        sent = sum(warehouse.braze.counters().requests.values())
    yield Row(
        what=f"requests for an unchanged cohort of {sizes.unchanged / 1e6:g} million",
        against="counted by the local Braze",
        figure=sent,
        unit="",
        most=0.0,
    )
