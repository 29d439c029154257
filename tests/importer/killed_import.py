"""An import in a process of its own, to be killed. ``test_interrupted`` starts it with its order as JSON."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import snowflake.connector

from airflow_provider_kubit_braze import delivery, importer
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
from airflow_provider_kubit_braze.warehouse.state import Tables

if TYPE_CHECKING:
    from types import FrameType


def end_in_good_order(_number: int, _frame: FrameType | None) -> None:
    sys.exit(143)


def main() -> None:
    order: dict[str, Any] = json.loads(sys.argv[1])
    signal.signal(signal.SIGTERM, end_in_good_order)
    if order["record_every"]:
        # Final for everybody but the test that has to see it happen, or not happen, within its own time.
        delivery.RECORD_EVERY = order["record_every"]  # type: ignore[misc]
    importer.run_import(
        Cohort(**order["cohort"]),
        settings=BrazeSettings(**order["settings"]),
        connect=lambda: snowflake.connector.connect(**order["snowflake"]),
        tables=Tables(order["schema"]),
        identity=RunIdentity(dag_id="kubit_braze__vips", run_id=order["run_id"]),
        options=ImportOptions(),
    )


if __name__ == "__main__":
    main()
