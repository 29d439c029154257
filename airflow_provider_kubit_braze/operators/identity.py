"""Which task instance is running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.run import RunIdentity

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def task_identity(context: Context) -> RunIdentity:
    """Return who is running, for the state tables and the query tag."""
    ti: Any = context["ti"]
    map_index = getattr(ti, "map_index", None)
    return RunIdentity(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if map_index is None else map_index,
        try_number=ti.try_number,
    )
