"""How long a DAG file with many cohorts takes, against as many plain DAGs of three empty tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

COHORT = """
  - id: cohort_{n}
    name: Cohort {n}
    source: {{table: ANALYTICS.KUBIT.COHORT_{n}, ready: {{column: COMPUTED_AT, within: 26h}}}}
    identifiers: {{external_id: USER_ID, email: EMAIL}}
    schedule: {{mode: weekly, on: monday, at: "09:00", timezone: America/New_York}}
    notify: [growth@example.com]
"""


def parsing(folder: Path, ratio: Callable[..., dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Measure 1, 100 and 500 cohorts."""
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
    from airflow.timetables.trigger import CronTriggerTimetable

    from airflow_provider_kubit_braze.factory import load_cohort_dags

    def plain(count: int) -> None:
        for n in range(count):
            timetable = CronTriggerTimetable("0 9 * * 1", timezone="America/New_York")
            with DAG(f"plain_{n}", schedule=timetable, catchup=False, start_date=None):
                (
                    EmptyOperator(task_id="wait")
                    >> EmptyOperator(task_id="import")
                    >> EmptyOperator(task_id="notify").as_teardown()
                )

    for count in (1, 100, 500):
        file = folder / f"cohorts_{count}.yaml"
        file.write_text("cohorts:" + "".join(COHORT.format(n=n) for n in range(count)))

        def cohorts(file: Path = file, count: int = count) -> None:
            assert len(load_cohort_dags(file, strict=True)) == count  # noqa: S101

        yield ratio(
            f"{count} cohorts: YAML to DAGs",
            cohorts,
            lambda count=count: plain(count),
            floor_name=f"{count} plain DAGs",
        )
