from __future__ import annotations

import asyncio
import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller

from airflow_provider_kubit_braze.core.mail import Mail
from airflow_provider_kubit_braze.notifications.cohort_mail import send_mail, split_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIL = Mail(
    subject="[Kubit → Braze] Größte Fans: 1,204 added, 87 removed",
    text="Größte Fans\n\n" + "a long line " * 200 + "\n.\n.one dot\n",
    html="<p>Größte <b>Fans</b></p>",
)


class Sink:
    """A mail server's memory; refuses the addresses it is told to refuse."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []
        self.refused: set[str] = set()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.envelopes.append(envelope)
        return "250 OK"

    def message(self) -> EmailMessage:
        [envelope] = self.envelopes
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message


def connection(port: int, **changes: Any) -> str:
    extra = {
        "disable_ssl": True,
        "disable_tls": True,
        "from_email": "Kubit <airflow@example.com>",
        "retry_limit": 0,
    }
    extra = {key: value for key, value in {**extra, **changes.pop("extra", {})}.items() if value is not None}
    return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra, **changes})


@pytest.fixture
def sink() -> Sink:
    return Sink()


class AnyPortController(Controller):
    """A controller on a free port; its own first connection goes to the port it got, not to 0."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


@pytest.fixture
def port(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    controller = AnyPortController(sink, hostname="127.0.0.1", port=0, ready_timeout=30)
    controller.start()
    try:
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", connection(controller.port))
        yield controller.port
    finally:
        controller.stop()


def test_the_mail_arrives_with_a_text_and_an_html_part(sink: Sink, port: int) -> None:
    reached = send_mail(MAIL, recipients=["ann@example.com", "bob@example.com"])

    message = sink.message()
    assert reached == ("ann@example.com", "bob@example.com")
    assert sink.envelopes[0].rcpt_tos == ["ann@example.com", "bob@example.com"]
    assert sink.envelopes[0].mail_from == "airflow@example.com"
    assert message["Subject"] == MAIL.subject
    assert message["From"] == "Kubit <airflow@example.com>"
    assert message["To"] == "ann@example.com, bob@example.com"
    assert message["Date"]
    assert message["Message-ID"].endswith("@example.com>")
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    text, html = (part.get_content().replace("\r\n", "\n") for part in message.iter_parts())
    assert text == MAIL.text
    assert html.strip() == MAIL.html


def test_the_message_is_plain_ascii_with_short_lines(sink: Sink, port: int) -> None:
    send_mail(MAIL, recipients="ann@example.com")

    content = sink.envelopes[0].content
    assert content.isascii()
    assert max(len(line) for line in content.splitlines()) < 998  # RFC 5322, 2.1.1


def test_a_refused_address_does_not_keep_the_mail_from_the_others(
    sink: Sink, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    sink.refused = {"gone@example.com"}

    reached = send_mail(MAIL, recipients=["gone@example.com", "ann@example.com"])

    assert reached == ("ann@example.com",)
    assert "refused gone@example.com: 550 no such mailbox" in caplog.text


def test_a_mail_nobody_may_get_is_an_error(sink: Sink, port: int) -> None:
    sink.refused = {"gone@example.com"}

    with pytest.raises(Exception, match="no such mailbox"):
        send_mail(MAIL, recipients=["gone@example.com"])

    assert sink.envelopes == []


def test_no_recipient_is_refused_before_anything_is_sent(sink: Sink, port: int) -> None:
    with pytest.raises(ValueError, match="no recipient"):
        send_mail(MAIL, recipients=" , ")

    assert sink.envelopes == []


def test_the_connection_named_goes_before_the_configured_one(
    sink: Sink, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MARKETING", connection(port, extra={"from_email": "m@example.com"}))
    monkeypatch.setenv("AIRFLOW_CONN_OPS", connection(port, extra={"from_email": "o@example.com"}))
    monkeypatch.setenv("AIRFLOW__EMAIL__EMAIL_CONN_ID", "ops")

    send_mail(MAIL, recipients="ann@example.com")
    send_mail(MAIL, recipients="ann@example.com", smtp_conn_id="marketing")

    assert [envelope.mail_from for envelope in sink.envelopes] == ["o@example.com", "m@example.com"]


@pytest.mark.parametrize(
    ("configured", "login", "sender"),
    [("c@example.com", "l@example.com", "c@example.com"), (None, "l@example.com", "l@example.com")],
    ids=["configuration", "login"],
)
def test_without_an_address_in_the_connection_another_is_found(
    sink: Sink,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    configured: str | None,
    login: str,
    sender: str,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", connection(port, login=login, extra={"from_email": None}))
    if configured:
        monkeypatch.setenv("AIRFLOW__EMAIL__FROM_EMAIL", configured)

    send_mail(MAIL, recipients="ann@example.com")

    assert sink.message()["From"] == sender


def test_without_any_address_to_send_from_the_fix_is_told(
    sink: Sink, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_SMTP_DEFAULT", connection(port, login="relay", extra={"from_email": None})
    )

    with pytest.raises(ValueError, match="set from_email in the extra of connection 'smtp_default'"):
        send_mail(MAIL, recipients="ann@example.com")

    assert sink.envelopes == []


@pytest.mark.parametrize(
    ("recipients", "addresses"),
    [
        ("a@x.io", ["a@x.io"]),
        ("a@x.io, b@x.io;c@x.io\nd@x.io", ["a@x.io", "b@x.io", "c@x.io", "d@x.io"]),
        (["a@x.io", "b@x.io,a@x.io"], ["a@x.io", "b@x.io"]),
        ([], []),
    ],
    ids=["one", "text", "list", "none"],
)
def test_addresses_are_taken_apart_and_each_is_kept_once(recipients: Any, addresses: list[str]) -> None:
    assert split_addresses(recipients) == addresses
