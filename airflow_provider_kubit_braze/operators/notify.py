"""Tell people how an import ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kubit_braze.core.mail import RunEnd, read_result, render_mail
from airflow_provider_kubit_braze.core.readiness import REASON_KEY
from airflow_provider_kubit_braze.notifications.cohort_mail import send_mail

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from airflow.providers.common.compat.sdk import Context


class NotifyImportOperator(BaseOperator):
    """Mail the recipients how the import of a cohort ended, whatever happened before.

    Meant as the teardown at the end of a cohort's DAG: ``NotifyImportOperator(...).as_teardown()`` runs after
    success, failure, a guard's stop or a sensor that gave up. The figures are the import's own, from its
    XCom; without one of this run the mail says what Airflow knows about the tasks.

    A mail that cannot be sent fails this task, where people see it and retries help; as a teardown that does
    not change how the run ended.

    :param recipients: addresses (templated).
    :param cohort_id: the cohort's id (templated).
    :param cohort_name: its name as people know it (templated); the id when None.
    :param import_task_id: the task whose result is told.
    :param wait_task_id: the sensor in front of it; None when there is none.
    :param smtp_conn_id: the SMTP connection (templated); None takes ``[email] email_conn_id``, else
        ``smtp_default``.
    """

    template_fields: Collection[str] = ("recipients", "cohort_id", "cohort_name", "smtp_conn_id")
    ui_color = "#fdf3d8"

    def __init__(
        self,
        *,
        task_id: str = "notify",
        recipients: str | Iterable[str],
        cohort_id: str,
        cohort_name: str | None = None,
        import_task_id: str = "import_to_braze",
        wait_task_id: str | None = "wait_for_cohort",
        smtp_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(task_id=task_id, **kwargs)
        self.recipients = recipients
        self.cohort_id = cohort_id
        self.cohort_name = cohort_name
        self.import_task_id = import_task_id
        self.wait_task_id = wait_task_id
        self.smtp_conn_id = smtp_conn_id

    def execute(self, context: Context) -> None:
        """Send one mail.

        :raises ValueError: if there is no recipient, or no address to send from.
        :raises smtplib.SMTPException: if the mail server refuses the mail.
        """
        run = self._run_end(context)
        result = read_result(
            context["ti"].xcom_pull(task_ids=self.import_task_id), run_id=run.run_id, cohort_id=self.cohort_id
        )
        mail = render_mail(run, result)
        reached = send_mail(mail, recipients=self.recipients, smtp_conn_id=self.smtp_conn_id)
        self.log.info("Mailed %s: %s", ", ".join(reached), mail.subject)

    def _run_end(self, context: Context) -> RunEnd:
        ti: Any = context["ti"]
        states = self._states(context)
        wait_state = states.get(self.wait_task_id) if self.wait_task_id else None
        waiting_for = ti.xcom_pull(task_ids=self.wait_task_id, key=REASON_KEY) if self.wait_task_id else None
        look_at = self.wait_task_id if self.wait_task_id and wait_state == "failed" else self.import_task_id
        return RunEnd(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            cohort_id=self.cohort_id,
            cohort_name=self.cohort_name or self.cohort_id,
            wait_task_id=self.wait_task_id,
            import_task_id=self.import_task_id,
            wait_state=wait_state,
            import_state=states.get(self.import_task_id),
            waiting_for=waiting_for if isinstance(waiting_for, str) else None,
            link=_link_to(look_at, ti),
        )

    def _states(self, context: Context) -> dict[str, str]:
        """Ask Airflow how the two tasks of this run ended; a task without a state is left out."""
        ti: Any = context["ti"]
        dag_run: Any = context["dag_run"]
        task_ids = [task_id for task_id in (self.wait_task_id, self.import_task_id) if task_id]
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
    return own.replace(
        f"task_id={ti.task_id}", f"task_id={quote(task_id)}"
    )  # 2.11: .../grid?...&task_id=T&...
