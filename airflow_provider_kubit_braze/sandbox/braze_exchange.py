"""One HTTP request and its answer as plain values: parsing the head, writing the answer. No sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL_PREFIX: Final = "/_sandbox/"

MAX_BODY: Final = 4_000_000
"""Bytes in a body ("All API endpoints have a data payload limit of 4 MB"), in the stricter reading of MB."""

MAX_CONTROL_BODY: Final = 512_000_000
"""Bytes in a body for the control surface: 100,000 users at once are some 10 MB."""

EMPTY_BODY: Final = b"{}"

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class HeadError(ValueError):
    """The bytes are no HTTP/1.1 request."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request.

    :param method: as sent.
    :param path: without the query.
    :param query: each name's last value.
    :param headers: lower-case names, without ``authorization``.
    :param authorization: that header's value, or None.
    :param length: of the body in bytes; 0 when there is none; -1 when it comes in chunks.
    :param keep_alive: whether the connection outlives the answer.
    :param expects_continue: whether the client waits for ``100 Continue`` before it sends the body.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    authorization: str | None
    length: int
    keep_alive: bool
    expects_continue: bool

    @property
    def max_body(self) -> int:
        """Bytes of body that are read; beyond it the answer is 413."""
        return MAX_CONTROL_BODY if self.path.startswith(CONTROL_PREFIX) else MAX_BODY


def parse_head(raw: bytes) -> Head:
    """Read a request's head, without the empty line that ends it.

    :raises HeadError: when it is not HTTP/1.x, or the body's length is unclear.
    """
    lines = raw.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise HeadError(f"not an HTTP/1.1 request line: {lines[0][:80]!r}")
    method, target, version = parts
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise HeadError(f"not a header line: {name[:40]!r}")
        name = name.lower()
        if name == "content-length" and name in headers:
            raise HeadError("two content-length headers")
        headers[name] = value.strip()
    authorization = headers.pop("authorization", None)
    connection = headers.get("connection", "").lower()
    url = urlsplit(target)
    return Head(
        method=method,
        path=url.path,
        query={name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()},
        headers=headers,
        authorization=authorization,
        length=_body_length(headers),
        keep_alive="close" not in connection if version == "HTTP/1.1" else "keep-alive" in connection,
        expects_continue=headers.get("expect", "").lower() == "100-continue",
    )


def _body_length(headers: Mapping[str, str]) -> int:
    encoding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if encoding is not None:
        if encoding.lower() != "chunked" or length is not None:
            raise HeadError("a transfer-encoding other than chunked, or beside a content-length")
        return -1
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()):
        raise HeadError(f"not a content-length: {length[:40]!r}")
    return int(length)


def read_chunks(data: bytes | bytearray, start: int, limit: int) -> tuple[bytes | None, int] | None:
    """Read a chunked body from ``start``.

    :returns: the body and where it ends, the body being None beyond ``limit`` bytes; or None while it is
        incomplete.
    :raises HeadError: when it is no chunked body.
    """
    body = bytearray()
    while True:
        line_end = data.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = bytes(data[start:line_end]).partition(b";")[0].strip()
        if not size or size.strip(b"0123456789abcdefABCDEF"):
            raise HeadError("not a chunk size")
        length, start = int(size, 16), line_end + 2
        if length == 0:
            end = start if data.startswith(b"\r\n", start) else data.find(b"\r\n\r\n", start) + 2
            if end == 1 or len(data) < end + 2:
                return None
            return bytes(body), end + 2
        if len(body) + length > limit:
            return None, len(data)
        if len(data) < start + length + 2:
            return None
        body += data[start : start + length]
        start += length + 2


@dataclass(slots=True, kw_only=True)
class Answer:
    """What goes back.

    :param status: the HTTP status.
    :param body: JSON, as a rule.
    :param headers: complete header lines, each ended by CRLF; names in lower case, as Braze sends them.
    :param drop: close the connection instead of answering.
    :param delay: seconds to wait before answering, on top of the workspace's latency.
    """

    status: int
    body: bytes = EMPTY_BODY
    headers: bytes = b""
    drop: bool = False
    delay: float = field(default=0.0)

    def encode(self, *, keep_alive: bool) -> bytes:
        """Return the bytes of the answer."""
        return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
            self.status,
            _REASONS.get(self.status, "Unknown").encode(),
            self.headers,
            b"" if keep_alive else b"connection: close\r\n",
            len(self.body),
            self.body,
        )


def json_answer(status: int, content: Any) -> Answer:
    """Return an answer with ``content`` as JSON."""
    return Answer(status=status, body=orjson.dumps(content))


def message(status: int, text: str) -> Answer:
    """Return Braze's envelope around one message."""
    return json_answer(status, {"message": text})
