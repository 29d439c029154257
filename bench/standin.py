"""A frozen plan of any size without a Snowflake: ``PlanDelivery`` reads it, sends it and records it as any other.

So a delivery is measured by itself: what the local Snowflake can bring in a second is no property of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import numpy
import pyarrow  # type: ignore[import-untyped]
import pyarrow.compute  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.journal import Journal
from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.ranges import Range, merge
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.delivery import PlanDelivery
from airflow_provider_kubit_braze.warehouse.state import Tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.journal import Counters, Entries
    from airflow_provider_kubit_braze.warehouse.ledger import Ledger
    from airflow_provider_kubit_braze.warehouse.session import Session

IDENTITY: Final = RunIdentity(dag_id="kubit_braze__bench", run_id="bench")


def cohort(table: str) -> Cohort:
    """Return the cohort of all benchmarks, read from a table in the schema PUBLIC."""
    fields: dict[str, Any] = {
        "id": "bench",
        "name": "Benchmark",
        "source": {"table": f"PUBLIC.{table}"},
        "identifiers": {"external_id": "USER_ID"},
    }
    return Cohort(**fields)


def plan_of(size: int) -> Plan:
    """Return a first import's plan: everybody enters."""
    return Plan(import_id="bench", members=size, in_braze=0, enter=size, leave=0)


class _Change:
    """Stands in for a session: knows a plan's table and nothing else."""

    def __init__(self, size: int, place: str) -> None:
        self._segment = ("enter", place, "external_id", 1, size)

    def rows(self, _sql: str, _params: object) -> list[tuple[Any, ...]]:
        return [self._segment]

    def execute(self, _sql: str, params: tuple[str, int, int]) -> _Answer:
        _, first, last = params
        return _Answer(first, last)


class _Answer:
    def __init__(self, first: int, last: int) -> None:
        self._bounds = first, last

    def fetch_arrow_batches(self) -> list[pyarrow.Table]:
        """One large answer, as the local Snowflake gives; the real one cuts it."""
        first, last = self._bounds
        numbers = numpy.arange(first, last + 1, dtype=numpy.int64)
        # Neither pyarrow.array nor a scalar: both import pandas, to see whether they were given something of its.
        seq = pyarrow.Array.from_buffers(pyarrow.int64(), len(numbers), [None, pyarrow.py_buffer(numbers)])
        digits = pyarrow.compute.utf8_lpad(seq.cast(pyarrow.string()), 9, padding="0")
        users = pyarrow.compute.utf8_replace_slice(digits, 0, 0, "user-")
        return [pyarrow.table({"SEQ": seq, "USER_ID": users})]


class Scribe:
    """Stands in for a ledger: keeps what was accepted as the few ranges that it is."""

    def __init__(self) -> None:
        self.settled: list[Range] = []

    def record(self, _import_id: str, entries: Entries, _spent: Counters, *, identity: RunIdentity) -> None:
        self.settled = merge([*self.settled, *entries.settled])


def deliver(settings: BrazeSettings, size: int, *, permit: Callable[[], None] = lambda: None) -> Counters:
    """Deliver a plan of so many entrants and return what was counted.

    :param permit: asked before every request and every 50 ms; ends the delivery by raising.
    """
    ours, journal, scribe = cohort("BENCH"), Journal(), Scribe()
    delivery = PlanDelivery(
        plan=plan_of(size),
        cohort=ours,
        settings=settings,
        session=cast("Session", _Change(size, f"attribute:{ours.attribute}")),
        tables=Tables(),
        scribe=cast("Ledger", scribe),
        identity=IDENTITY,
        journal=journal,
        spent=lambda: journal.counters,
        permit=permit,
    )
    delivery.run([], [Range(1, size)])
    delivery.record()
    if scribe.settled != [Range(1, size)]:
        raise RuntimeError("Not everything was accepted.")
    return journal.counters
