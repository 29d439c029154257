"""Tell people how an import ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kubit_braze.notifications.cohort_mail import check_when, send_mail
from airflow_provider_kubit_braze.notifications.run_end import mail_of_run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kubit_braze.core.mail import NotifyWhen


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
    :param when: which ends are mailed: ``always``; ``success``: all but failures; ``change``: those that changed who is
        in the cohort, and all that need a look; ``failure``: only those that need a look.
    :raises ValueError: if ``when`` is none of these.
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
        when: NotifyWhen = "always",
        **kwargs: Any,
    ) -> None:
        super().__init__(task_id=task_id, **kwargs)
        self.recipients = recipients
        self.cohort_id = cohort_id
        self.cohort_name = cohort_name
        self.import_task_id = import_task_id
        self.wait_task_id = wait_task_id
        self.smtp_conn_id = smtp_conn_id
        self.when = check_when(when)

    def execute(self, context: Context) -> None:
        """Send one mail.

        :raises ValueError: if there is no recipient, or no address to send from.
        :raises smtplib.SMTPException: if the mail server refuses the mail.
        """
        mail = mail_of_run(
            context,
            cohort_id=self.cohort_id,
            cohort_name=self.cohort_name,
            import_task_id=self.import_task_id,
            wait_task_id=self.wait_task_id,
        )
        if not mail.is_wanted(self.when):
            self.log.info("No mail, as one is wanted on %s only: %s", self.when, mail.subject)
            return
        reached = send_mail(mail, recipients=self.recipients, smtp_conn_id=self.smtp_conn_id)
        self.log.info("Mailed %s: %s", ", ".join(reached), mail.subject)
