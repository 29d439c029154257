"""How long a delivery takes to its first request, and whether that depends on how much there is to deliver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from airflow_provider_kubit_braze.braze.engine import Delivery
from airflow_provider_kubit_braze.core.journal import Journal
from airflow_provider_kubit_braze.core.ranges import Range
from airflow_provider_kubit_braze.delivery import PlanDelivery
from bench.local import settings_for
from bench.rows import Row, ratio
from bench.standin import IDENTITY, Scribe, cohort, plan_of
from bench.warehouse import local_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_kubit_braze.core.frames import Frame
    from airflow_provider_kubit_braze.warehouse.ledger import Ledger
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables
    from bench.sizes import Sizes


class _FirstError(Exception):
    """The first request is about to go out."""


class _UntilTheFirst(PlanDelivery):
    def _delivery(self, frame: Frame) -> Delivery:
        return Delivery(settings=self.settings, journal=self.journal, frame=frame, permit=_stop)


def _stop() -> None:
    raise _FirstError


def start(sizes: Sizes) -> Iterator[Row]:
    """Begin two plans in the local Snowflake, in turn."""
    small, large = sizes.started
    with local_warehouse() as warehouse:
        plans = {size: warehouse.fill_plan(f"PLAN_{size}", size) for size in sizes.started}
        session = warehouse.way.open_session()

        def begin(size: int) -> None:
            try:
                _delivery(session, plans[size], size, warehouse.way.braze_url).run([], [Range(1, size)])
            except _FirstError:
                return
            raise RuntimeError("Nothing was sent.")

        yield ratio(
            f"time to the first request, plan of {large / 1e6:g} million changes",
            lambda: begin(large),
            lambda: begin(small),
            against=f"plan of {small / 1e6:g} million changes",
            clock=time.perf_counter,
            rounds=sizes.rounds,
        )


def _delivery(session: Session, tables: Tables, size: int, braze_url: str) -> PlanDelivery:
    journal = Journal()
    return _UntilTheFirst(
        plan=plan_of(size),
        cohort=cohort("BENCH"),
        settings=settings_for(braze_url),
        session=session,
        tables=tables,
        scribe=cast("Ledger", Scribe()),
        identity=IDENTITY,
        journal=journal,
        spent=lambda: journal.counters,
        permit=lambda: None,
    )
