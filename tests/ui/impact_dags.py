"""DAGs that are called as those of measurements are, and leave reports as those do; what they leave lies beside them.

Copied into the folder of DAGs of the tests of the pages. Triggered with ``{"fail": true}``, one fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, get_current_context, task
from airflow.timetables.simple import NullTimetable

REPORTS = Path(__file__).with_name("impact_reports.json")


def measurement(cohort: str, report: dict[str, Any]) -> DAG:
    with DAG(
        f"kubit_braze_impact__{cohort}",
        schedule=NullTimetable(),
        tags=["kubit-braze-impact", f"cohort:{cohort}"],
    ) as dag:

        @task(task_id="measure_impact")
        def measure() -> str:
            context = get_current_context()
            if context["dag_run"].conf.get("fail"):  # type: ignore[union-attr]
                context["ti"].xcom_push(key="failed_because", value="The share cannot be read.")
                raise RuntimeError
            context["ti"].xcom_push(key="impact", value=report)
            return "measured"

        measure()
    return dag


for _cohort, _report in json.loads(REPORTS.read_text(encoding="utf-8")).items():
    globals()[_cohort] = measurement(_cohort, _report)
