"""One client's connection: bytes in, requests out, answers back in order. HTTP/1.1 with keep-alive and
pipelining.

A hand-written protocol instead of a web framework, so that the local Braze is never what a benchmark
measures.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from airflow_provider_kubit_braze.sandbox.braze_exchange import (
    Answer,
    Head,
    HeadError,
    message,
    parse_head,
    read_chunks,
)

MAX_HEAD: Final = 64 * 1024
"""Bytes in a request's head."""

_HEADS: Final[dict[bytes, Head]] = {}
"""Heads seen: a client's requests differ in little but the body's length, so most need no parsing."""
_MAX_HEADS: Final = 4096


class Server(Protocol):
    """What a connection needs of the service it belongs to."""

    connections: set[Connection]

    def joined(self, connection: Connection) -> None:
        """Note a new connection."""

    def answer(self, head: Head, body: bytes | None, peer: str) -> Answer:
        """Answer one request."""

    def answered(self, head: Head) -> None:
        """Note that a request is over."""


class Connection(asyncio.Protocol):
    """Reads requests one at a time; the next waits, in the buffer, until the last is answered.

    :param server: answers the requests.
    :param loop: the event loop, for answers that come late.
    """

    def __init__(self, *, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._buffer: bytes | bytearray = b""
        self._head: Head | None = None
        self._unread = 0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a stream transport is needed, not {transport!r}")
        self._transport = transport
        self._peer = str(transport.get_extra_info("peername")[0])
        self._server.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; an answer still to come goes nowhere."""
        self._server.connections.discard(self)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what arrived, and answer what is complete."""
        if self._unread:
            skipped = min(self._unread, len(data))
            self._unread -= skipped
            data = data[skipped:]
        if not self._buffer:
            self._buffer = data
        elif isinstance(self._buffer, bytearray):
            self._buffer += data
        else:
            self._buffer = bytearray(self._buffer + data)
        try:
            while not self._busy and not self._unread and not self._transport.is_closing() and self._next():
                pass
        except HeadError as error:
            self._transport.write(message(400, f"Bad Request: {error}").encode(keep_alive=False))
            self._transport.close()

    def _next(self) -> bool:
        """Answer one request when it is complete, and return whether there may be another."""
        head = self._head
        if head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD:
                    raise HeadError("the head is too long")
                return False
            head = self._head = _head(bytes(self._buffer[:end]))
            self._buffer = self._buffer[end + 4 :]
            if head.length > head.max_body:
                # Read to its end and thrown away: closing now would reach the client as a reset before the
                # 413.
                self._unread = max(0, head.length - len(self._buffer))
                self._buffer = self._buffer[head.length :]
            if head.expects_continue and not self._buffer:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head.length > head.max_body:
            if self._unread:
                return False
            self._answer(head, None)
            return True
        if head.length >= 0:
            if len(self._buffer) < head.length:
                return False
            body: bytes | None = bytes(self._buffer[: head.length])
            self._buffer = self._buffer[head.length :]
        else:
            chunks = read_chunks(self._buffer, 0, head.max_body)
            if chunks is None:
                return False
            body, end = chunks
            self._buffer = self._buffer[end:]
        self._answer(head, body)
        return True

    def _answer(self, head: Head, body: bytes | None) -> None:
        self._head = None
        answer = self._server.answer(head, body, self._peer)
        if answer.delay > 0:
            self._busy = True
            self._loop.call_later(answer.delay, self._finish_late, head, answer)
        else:
            self._finish(head, answer, keep_alive=head.keep_alive and (body is not None or head.length >= 0))

    def _finish_late(self, head: Head, answer: Answer) -> None:
        self._busy = False
        self._finish(head, answer, keep_alive=head.keep_alive)
        if not self._transport.is_closing():
            self.data_received(b"")

    def _finish(self, head: Head, answer: Answer, *, keep_alive: bool) -> None:
        self._server.answered(head)
        if self._transport.is_closing():
            return
        if answer.drop:
            self._transport.abort()
            return
        self._transport.write(answer.encode(keep_alive=keep_alive))
        if not keep_alive:
            self._transport.close()


def _head(raw: bytes) -> Head:
    head = _HEADS.get(raw)
    if head is None:
        head = parse_head(raw)
        if len(_HEADS) >= _MAX_HEADS:
            _HEADS.clear()
        _HEADS[raw] = head
    return head
