"""Send the mail about an import over Airflow's SMTP connection, from any DAG."""

from __future__ import annotations

import logging
import re
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import TYPE_CHECKING, Any, cast, get_args

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException, BaseNotifier, conf

from airflow_provider_kubit_braze.core.mail import NotifyWhen
from airflow_provider_kubit_braze.notifications.run_end import mail_of_run

if TYPE_CHECKING:
    import smtplib
    from collections.abc import Iterable, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kubit_braze.core.mail import Mail

log = logging.getLogger(__name__)

_SEPARATOR = re.compile(r"[,;\s]+")


class CohortMailNotifier(BaseNotifier):
    """Mail how an import ended, from a ``CohortToBrazeOperator`` in a DAG of one's own.

    The cohort's own DAG mails by its ``notify`` task. Where the operator stands in another DAG, hang this on its task:

    .. code-block:: python

        mail = CohortMailNotifier(recipients=["growth@example.com"], cohort_id="power_users")
        CohortToBrazeOperator(..., on_success_callback=mail, on_failure_callback=mail)

    A mail that cannot be sent is logged by Airflow as a failed callback; the task ends as it would have.

    :param recipients: addresses (templated).
    :param cohort_id: the cohort's id (templated).
    :param cohort_name: its name as people know it (templated), for an import that left no figures; the id when None.
    :param import_task_id: the task whose result is told; None: the task that this hangs on.
    :param smtp_conn_id: the SMTP connection (templated); None takes ``[email] email_conn_id``, else ``smtp_default``.
    :param when: which ends are mailed, see ``NotifyImportOperator``.
    :raises ValueError: if ``when`` is none of them.
    """

    template_fields: Sequence[str] = ("recipients", "cohort_id", "cohort_name", "smtp_conn_id")

    def __init__(
        self,
        *,
        recipients: str | Iterable[str],
        cohort_id: str,
        cohort_name: str | None = None,
        import_task_id: str | None = None,
        smtp_conn_id: str | None = None,
        when: NotifyWhen = "always",
    ) -> None:
        super().__init__()
        self.recipients = recipients
        self.cohort_id = cohort_id
        self.cohort_name = cohort_name
        self.import_task_id = import_task_id
        self.smtp_conn_id = smtp_conn_id
        self.when = check_when(when)

    def notify(self, context: Context) -> None:
        """Send one mail; raises what ``send_mail`` does."""
        ti: Any = context["ti"]
        import_task_id = self.import_task_id or ti.task_id
        # While its callbacks run, a task has not ended yet for Airflow.
        known = {ti.task_id: "failed" if context.get("exception") else "success"}
        mail = mail_of_run(
            context,
            cohort_id=self.cohort_id,
            cohort_name=self.cohort_name,
            import_task_id=import_task_id,
            wait_task_id=None,
            known=known,
        )
        if mail.is_wanted(self.when):
            send_mail(mail, recipients=self.recipients, smtp_conn_id=self.smtp_conn_id)


def check_when(when: str) -> NotifyWhen:
    """Return ``when``, or raise ValueError if it names no ends of a run."""
    if when not in (known := get_args(NotifyWhen)):
        raise ValueError(f"when is {when!r}; write one of {', '.join(known)}.")
    return cast("NotifyWhen", when)


def send_mail(
    mail: Mail, *, recipients: str | Iterable[str], smtp_conn_id: str | None = None
) -> tuple[str, ...]:
    """Send a mail in one message to all recipients, who see each other.

    Airflow's own ``SmtpHook.send_email_smtp`` knows only an HTML part, so the message is built here and goes
    out over the hook's logged-in client: host, port, login, OAuth 2 and TLS are those of the Airflow
    connection.

    :param mail: what to send.
    :param recipients: addresses, or one text with addresses separated by commas, semicolons or spaces.
    :param smtp_conn_id: the SMTP connection; None takes ``[email] email_conn_id``, else ``smtp_default``.
    :return: the recipients the server accepted; those it refused are logged.
    :raises ValueError: if there is no recipient, or no address to send from.
    :raises AirflowOptionalProviderFeatureException: if the SMTP provider is not installed.
    :raises smtplib.SMTPException: if the server refuses the mail, or every recipient.
    """
    try:
        from airflow.providers.smtp.hooks.smtp import SmtpHook
    except ImportError as error:
        raise AirflowOptionalProviderFeatureException(
            "Mails need the SMTP provider: pip install 'airflow-provider-kubit-braze[email]'."
        ) from error

    to = split_addresses(recipients)
    if not to:
        raise ValueError("The mail has no recipient: name at least one address under notify.")
    conn_id = smtp_conn_id or conf.get("email", "email_conn_id", fallback=None) or "smtp_default"
    with SmtpHook(smtp_conn_id=conn_id) as hook:
        message = build_message(mail, sender=_sender(hook, conn_id), recipients=to)
        # The hook has no public way to its client; the name is the same in all releases of the provider since
        # 2.3.
        client = cast("smtplib.SMTP", hook._smtp_client)
        refused = client.send_message(message, to_addrs=to)
    for address, (code, words) in refused.items():
        log.warning("The mail server refused %s: %s %s", address, code, words.decode(errors="replace"))
    return tuple(address for address in to if address not in refused)


def build_message(mail: Mail, *, sender: str, recipients: Iterable[str]) -> EmailMessage:
    """Build the message: text first, HTML as its alternative.

    :param mail: what to send.
    :param sender: the address it comes from, with or without a name.
    :param recipients: the addresses it goes to.
    """
    message = EmailMessage()
    message["Subject"] = mail.subject
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = formatdate(localtime=False)
    # Without a domain the host's own name would go out, and be looked up first.
    message["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
    # Quoted-printable passes any server, also one without 8BITMIME.
    message.set_content(mail.text, cte="quoted-printable")
    message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
    return message


def split_addresses(recipients: str | Iterable[str]) -> list[str]:
    """Return the addresses one by one, each once, in their order."""
    texts = [recipients] if isinstance(recipients, str) else recipients
    return list(dict.fromkeys(part for text in texts for part in _SEPARATOR.split(text) if part))


def _sender(hook: Any, conn_id: str) -> str:
    login = hook.smtp_user
    sender = (
        hook.from_email
        or conf.get("email", "from_email", fallback=None)
        or (login if login and "@" in login else None)
    )
    if not sender:
        raise ValueError(
            f"There is no address to send from: set from_email in the extra of connection {conn_id!r}, "
            "or [email] from_email in Airflow's configuration."
        )
    return str(sender)
