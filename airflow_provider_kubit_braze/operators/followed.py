"""Which imports a task comes after: those whose asset events started its run, and those before it in the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.followed import Followed
from airflow_provider_kubit_braze.operators.cohort_to_braze import CohortToBrazeOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context


def imports_that_started(context: Context, cohort_id: str) -> list[Followed]:
    """Return the imports of a cohort whose asset events started this run, the latest first."""
    found = [
        (event.timestamp, one)
        for event in _events(context)
        if (one := Followed.read(event.extra, cohort_id=cohort_id, dag_id=str(event.source_dag_id)))
    ]
    return [one for _, one in sorted(found, key=lambda pair: pair[0], reverse=True)]


def imports_before(context: Context, cohort_id: str) -> list[Followed]:
    """Return the imports of a cohort by tasks that stand before this one in its run, directly or not."""
    task: Any = context.get("task")
    dag = getattr(task, "dag", None)
    if dag is None:
        return []
    importing, seen, waiting = [], set[str](), [task]
    while waiting:
        for task_id in sorted(waiting.pop().upstream_task_ids - seen):
            seen.add(task_id)
            waiting.append(before := dag.get_task(task_id))
            if issubclass(getattr(before, "operator_class", type(before)), CohortToBrazeOperator):
                importing.append(task_id)
    if not importing:
        return []
    results = context["ti"].xcom_pull(task_ids=importing, key="return_value") or []
    return [one for result in results if (one := Followed.read(result, cohort_id=cohort_id))]


def _events(context: Context) -> Iterator[Any]:
    # Before Airflow 3 assets are datasets.
    known: Any = context
    for by_asset in (known.get("triggering_asset_events"), known.get("triggering_dataset_events")):
        for _, events in by_asset.items() if by_asset else ():
            yield from events
