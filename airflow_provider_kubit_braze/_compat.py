"""The one place that knows which Airflow is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow import __version__ as _airflow_version

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG

_MAJOR, _MINOR = (int(part) for part in _airflow_version.split(".")[:2])

AIRFLOW_V_3_0_PLUS: bool = (_MAJOR, _MINOR) >= (3, 0)

#: Plugins may have pages of their own in Airflow's.
AIRFLOW_V_3_1_PLUS: bool = (_MAJOR, _MINOR) >= (3, 1)


def defined_in_this_parse(dag_id: str) -> DAG | None:
    """Return the DAG with this id that the DAG file being parsed has defined already, if any."""
    if AIRFLOW_V_3_0_PLUS:
        from airflow.sdk.definitions._internal.contextmanager import DagContext
    else:
        from airflow.models.dag import DagContext  # type: ignore[no-redef]
    return next((dag for dag, _ in DagContext.autoregistered_dags if dag.dag_id == dag_id), None)
