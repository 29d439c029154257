"""The local mailbox: what is sent can be read at once, with whom it really went to."""

from __future__ import annotations

import json
import smtplib
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest

from airflow_provider_kubit_braze.sandbox.mailbox import Mailbox
from airflow_provider_kubit_braze.sandbox.manager import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(services=("mailbox",)) as running:
        yield running


@pytest.fixture
def mailbox(sandbox: Sandbox) -> Mailbox:
    sandbox.mailbox.clear()
    return sandbox.mailbox


def send(mailbox: Mailbox, message: EmailMessage, recipients: list[str]) -> None:
    with smtplib.SMTP(mailbox.host, mailbox.port, timeout=30) as client:
        client.send_message(message, from_addr="from@example.com", to_addrs=recipients)


def test_a_mail_arrives_with_all_its_recipients(mailbox: Mailbox) -> None:
    message = EmailMessage()
    message["Subject"] = "Größe: 1 234 användare"
    message["To"] = "a@example.com"
    message.set_content("plain ünïcode")
    message.add_alternative("<p>rich ünïcode</p>", subtype="html")
    send(mailbox, message, ["a@example.com", "hidden@example.com"])
    (mail,) = mailbox.messages()
    assert mail.sender == "from@example.com"
    assert mail.recipients == ("a@example.com", "hidden@example.com")
    assert mail.message["To"] == "a@example.com"
    assert mail.subject == "Größe: 1 234 användare"
    assert mail.text() == "<p>rich ünïcode</p>\n"
    assert mail.text("plain") == "plain ünïcode\n"


def test_mails_keep_their_order_and_clear_forgets_them(mailbox: Mailbox) -> None:
    for number in range(3):
        message = EmailMessage()
        message["Subject"] = str(number)
        send(mailbox, message, ["a@example.com"])
    assert [mail.subject for mail in mailbox.messages()] == ["0", "1", "2"]
    mailbox.clear()
    assert mailbox.messages() == []
    send(mailbox, EmailMessage(), ["a@example.com"])
    assert len(mailbox.messages()) == 1


def test_airflows_hook_sends_with_the_connection_of_the_environment(
    sandbox: Sandbox, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    smtp = pytest.importorskip("airflow.providers.smtp.hooks.smtp")
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    with smtp.SmtpHook("smtp_default") as hook:
        hook.send_email_smtp(
            to=["a@example.com"], cc="c@example.com", subject="Done", html_content="<b>7</b>"
        )
    (mail,) = mailbox.messages()
    assert mail.sender == json.loads(sandbox.env()["AIRFLOW_CONN_SMTP_DEFAULT"])["extra"]["from_email"]
    assert mail.recipients == ("a@example.com", "c@example.com")
    assert mail.subject == "Done"
    assert "<b>7</b>" in mail.text()


def test_a_mail_still_being_written_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "mails.jsonl"
    whole = json.dumps({"sender": "s", "recipients": ["r"], "content": "Subject: whole\n\n"})
    file.write_text(whole + "\n" + whole[:20])
    mailbox = Mailbox(file=file, host="127.0.0.1", port=1)
    assert [mail.subject for mail in mailbox.messages()] == ["whole"]


def test_before_the_first_mail_there_is_none(tmp_path: Path) -> None:
    assert Mailbox(file=tmp_path / "none", host="127.0.0.1", port=1).messages() == []
