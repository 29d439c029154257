"""Send a mail with a text and an HTML part over Airflow's SMTP connection."""

from __future__ import annotations

import logging
import re
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException, conf

if TYPE_CHECKING:
    import smtplib
    from collections.abc import Iterable

    from airflow_provider_kubit_braze.core.mail import Mail

log = logging.getLogger(__name__)

_SEPARATOR = re.compile(r"[,;\s]+")


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
