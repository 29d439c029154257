"""A local mailbox: an SMTP server that takes every mail and delivers none, and a reader of what it took.

As a service: ``python -m airflow_provider_kubit_braze.sandbox.mailbox --file FILE``. Each mail is one line of
JSON, written before the sender is told "250", so that a mail that was sent can be read at once.
"""

from __future__ import annotations

import argparse
import asyncio
import email
import email.policy
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.sandbox.process import SandboxError, announce, require_extra, stop_event

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from email.message import EmailMessage

    from aiosmtpd.smtp import SMTP, Envelope, Session

#: Bytes a mail may have.
MAX_MAIL_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ReceivedMail:
    """One mail.

    :param sender: the envelope's sender (``MAIL FROM``).
    :param recipients: the envelope's recipients (``RCPT TO``): whom the mail really went to, Bcc included.
    :param message: headers and parts.
    """

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def subject(self) -> str:
        """The subject, decoded."""
        return str(self.message["Subject"] or "")

    def text(self, kind: str = "html") -> str:
        """Return the body of ``text/<kind>``, or any text when there is none; lines end in newlines."""
        body = self.message.get_body((kind, "html", "plain"))
        return "" if body is None else str(body.get_content()).replace("\r\n", "\n")


class Mailbox:
    """Reads what the mail service took.

    :param file: the service's file.
    :param host: where the service listens.
    :param port: its port.
    """

    def __init__(self, *, file: Path, host: str, port: int) -> None:
        self.file = file
        self.host = host
        self.port = port

    def messages(self) -> list[ReceivedMail]:
        """Return all mails, oldest first."""
        lines = self.file.read_bytes().split(b"\n") if self.file.exists() else []
        # The piece after the last newline is a mail still being written, or nothing.
        return [_read(json.loads(line)) for line in lines[:-1]]

    def clear(self) -> None:
        """Forget all mails."""
        self.file.write_bytes(b"")


def _read(line: dict[str, object]) -> ReceivedMail:
    content = str(line["content"]).encode("utf-8", "surrogateescape")
    recipients = line["recipients"]
    assert isinstance(recipients, list)  # noqa: S101  (we wrote it)
    message = email.message_from_bytes(content, policy=email.policy.default)
    return ReceivedMail(sender=str(line["sender"]), recipients=tuple(recipients), message=message)


class _WriteToFile:
    """aiosmtpd's handler: one line of JSON for each mail."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        raw = content.encode() if isinstance(content, str) else content or b""
        line = {
            "sender": envelope.mail_from or "",
            "recipients": list(envelope.rcpt_tos),
            "content": raw.decode("utf-8", "surrogateescape"),
        }
        with self._file.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
        return "250 Message accepted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until SIGTERM, SIGINT or, on request, the death of the parent."""
    parser = argparse.ArgumentParser(description="Local mailbox of the kubit-braze sandbox")
    parser.add_argument("--file", type=Path, required=True, help="takes the mails, one line of JSON each")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--exit-with-parent", action="store_true")
    args = parser.parse_args(arguments)
    stop = stop_event(exit_with_parent=args.exit_with_parent)
    try:
        require_extra("aiosmtpd")
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 2
    asyncio.run(_serve(args.file, args.port, stop))
    return 0


async def _serve(file: Path, port: int, stop: threading.Event) -> None:
    from aiosmtpd.smtp import SMTP

    file.touch()
    handler = _WriteToFile(file)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, enable_SMTPUTF8=True, data_size_limit=MAX_MAIL_BYTES, hostname="localhost"),
        host="127.0.0.1",
        port=port,
    )
    bound = server.sockets[0].getsockname()[1]
    announce("mailbox", url=f"smtp://127.0.0.1:{bound}", host="127.0.0.1", port=bound)
    await asyncio.to_thread(stop.wait)
    server.close()


if __name__ == "__main__":
    sys.exit(main())
