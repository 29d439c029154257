"""How a run of a cohort's DAG ended, asked of Airflow from inside one of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_kubit_braze._compat import AIRFLOW_V_3_1_PLUS
from airflow_provider_kubit_braze.core.mail import RunEnd, read_result, render_mail
from airflow_provider_kubit_braze.core.page import history_address
from airflow_provider_kubit_braze.core.readiness import REASON_KEY
from airflow_provider_kubit_braze.core.run import WHY_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kubit_braze.core.mail import Mail


def mail_of_run(
    context: Context,
    *,
    cohort_id: str,
    cohort_name: str | None,
    import_task_id: str,
    wait_task_id: str | None,
    known: Mapping[str, str] | None = None,
) -> Mail:
    """Write the mail of the run that the context belongs to: the import's own figures, else what Airflow knows.

    :param context: of a task of the run.
    :param cohort_name: the name as people know it; the id when None.
    :param import_task_id: the task whose result is told.
    :param wait_task_id: the sensor in front of it; None when there is none.
    :param known: task to state, for tasks that have ended without Airflow knowing it yet.
    """
    ti: Any = context["ti"]
    states = {**_states(context, [one for one in (wait_task_id, import_task_id) if one]), **(known or {})}
    wait_state = states.get(wait_task_id) if wait_task_id else None
    waiting_for = ti.xcom_pull(task_ids=wait_task_id, key=REASON_KEY) if wait_task_id else None
    why = ti.xcom_pull(task_ids=import_task_id, key=WHY_KEY)
    look_at = wait_task_id if wait_task_id and wait_state == "failed" else import_task_id
    run = RunEnd(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        cohort_id=cohort_id,
        cohort_name=cohort_name or cohort_id,
        wait_task_id=wait_task_id,
        import_task_id=import_task_id,
        wait_state=wait_state,
        import_state=states.get(import_task_id),
        waiting_for=waiting_for if isinstance(waiting_for, str) else None,
        why=why if isinstance(why, str) else None,
        link=_link_to(look_at, ti),
        page=_page_of(cohort_id, ti) if AIRFLOW_V_3_1_PLUS else None,
    )
    result = read_result(ti.xcom_pull(task_ids=import_task_id), run_id=str(ti.run_id), cohort_id=cohort_id)
    return render_mail(run, result)


def _states(context: Context, task_ids: list[str]) -> dict[str, str]:
    """Ask Airflow how the tasks of this run ended; a task without a state is left out."""
    ti: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    if hasattr(ti, "get_task_states"):  # Airflow 3: a task has no access to the database
        of_runs = ti.get_task_states(dag_id=ti.dag_id, task_ids=task_ids, run_ids=[ti.run_id])
        found = of_runs.get(ti.run_id, {})
    else:
        found = {other.task_id: other.state for other in dag_run.get_task_instances()}
    return {task_id: str(found[task_id]) for task_id in task_ids if found.get(task_id)}


def _link_to(task_id: str, ti: Any) -> str:
    """Turn the address of this task's log into another task's: the run's address has no public function."""
    own = str(ti.log_url)
    run_page, separator, _ = own.partition("/tasks/")  # 3.x: .../dags/D/runs/R/tasks/T?try_number=1
    if separator:
        return f"{run_page}/tasks/{quote(task_id)}"
    # 2.11: .../grid?...&task_id=T&...
    return own.replace(f"task_id={ti.task_id}", f"task_id={quote(task_id)}")


def _page_of(cohort_id: str, ti: Any) -> str | None:
    """Return the address of the cohort's history; None when Airflow does not know its own."""
    base, separator, _ = str(ti.log_url).partition("/dags/")
    return history_address(base, cohort_id) if separator else None
