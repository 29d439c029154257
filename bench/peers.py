"""Others who bring the same bodies to the same Braze: what HTTP costs at least, and what people write by themselves."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import aiohttp
import requests

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

#: Requests under way at the same time, where there are several.
CONCURRENCY: Final = 64

#: Threads of Braze's own CSV loader, each of which makes one request and ends.
THREADS: Final = 20

_TIMEOUT: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What is to be brought where.

    :param url: of the endpoint.
    :param headers: of every request.
    :param bodies: all different, or the second would be found in the processor's caches.
    :param tls: whom to trust, None for plain HTTP.
    """

    url: str
    headers: Mapping[str, str]
    bodies: Sequence[bytes]
    tls: ssl.SSLContext | None


class BareAiohttp:
    """aiohttp as its documentation shows it: kept connections, every answer read, and nothing done with it."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=CONCURRENCY,
            keepalive_timeout=600,
            ssl=True if self._errand.tls is None else self._errand.tls,
        )
        self._session = aiohttp.ClientSession(connector=connector, headers=self._errand.headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def run(self) -> None:
        """Bring all bodies."""
        todo = iter(self._errand.bodies)
        await asyncio.gather(*(self._work(todo) for _ in range(CONCURRENCY)))

    async def _work(self, todo: Iterator[bytes]) -> None:
        for body in todo:
            async with self._session.post(self._errand.url, data=body) as answer:
                await answer.read()
                if answer.status != 201:
                    raise RuntimeError(f"HTTP {answer.status}")


class BareSockets:
    """Kept connections without an HTTP library: bytes out, an answer's end looked for, and no more."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand

    async def __aenter__(self) -> Self:
        where, lines = urlsplit(self._errand.url), [f"{n}: {v}" for n, v in self._errand.headers.items()]
        head = "\r\n".join(
            [f"POST {where.path} HTTP/1.1", f"Host: {where.netloc}", *lines, "Content-Length: "]
        ).encode()
        loop = asyncio.get_running_loop()
        self._lines = [
            (
                await loop.create_connection(
                    lambda: _Line(head), where.hostname or "", where.port or 0, ssl=self._errand.tls
                )
            )[1]
            for _ in range(CONCURRENCY)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.close()

    async def run(self) -> None:
        """Bring all bodies."""
        todo = iter(self._errand.bodies)
        await asyncio.gather(*(line.bring(todo) for line in self._lines))


class _Line(asyncio.Protocol):
    def __init__(self, head: bytes) -> None:
        self._head = head
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def close(self) -> None:
        self._transport.abort()

    def bring(self, todo: Iterator[bytes]) -> asyncio.Future[None]:
        self._todo = todo
        self._done = asyncio.get_running_loop().create_future()
        self._next()
        return self._done

    def _next(self) -> None:
        body = next(self._todo, None)
        if body is None:
            self._done.set_result(None)
        else:
            self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, blank, body = self._got.partition(b"\r\n\r\n")
        if not blank:
            return
        # The local Braze writes its names in lower case.
        _, _, length = head.partition(b"content-length: ")
        if len(body) < int(length.partition(b"\r\n")[0]):
            return
        self._got = b""
        if head.startswith(b"HTTP/1.1 201"):
            self._next()
        elif not self._done.done():
            self._done.set_exception(RuntimeError(head.decode()))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the connection was closed"))


def serial(errand: Errand) -> None:
    """One ``requests.post`` after the other, as in the usual Airflow task."""
    for body in errand.bodies:
        _post(errand, body)


def waves(errand: Errand) -> None:
    """Threads that make one ``requests.post`` each; the next ones start when all have ended."""
    for start in range(0, len(errand.bodies), THREADS):
        wave = [
            threading.Thread(target=_post, args=(errand, body))
            for body in errand.bodies[start : start + THREADS]
        ]
        for thread in wave:
            thread.start()
        for thread in wave:
            thread.join()


def _post(errand: Errand, body: bytes) -> None:
    requests.post(errand.url, data=body, headers=errand.headers, timeout=_TIMEOUT).raise_for_status()
