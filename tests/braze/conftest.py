"""The local Braze for the tests of the wire, on the real clock: the engine sleeps for real."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from airflow_provider_kubit_braze.braze.batch import Batch
from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_http import LocalBraze

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from airflow_provider_kubit_braze.braze.engine import Delivery
    from airflow_provider_kubit_braze.core.payload import Wrapping


class QuietHandler(BaseHTTPRequestHandler):
    """Answers one request after the other on a kept-alive connection, and logs none."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[QuietHandler]) -> Iterator[str]:
    """Serve on loopback while the block runs; the value is host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def everything_in(error: BaseException) -> str:
    """Everything a traceback, a log or a debugger could show of an exception."""
    chained = (error.__cause__, error.__context__)
    return " ".join([str(error), repr(error), str(vars(error)), *(everything_in(e) for e in chained if e)])


async def deliver(delivery: Delivery, batches: AsyncIterator[Batch]) -> None:
    """Run one delivery over connections of its own."""
    async with delivery:
        await delivery.run([batch] async for batch in batches)


def cut_up(users: Sequence[str], wrapping: Wrapping, size: int) -> Iterator[Batch]:
    """Make requests of so many users each; the first user's sequence number is 1."""
    for start in range(0, len(users), size):
        some = users[start : start + size]
        yield Batch(start + 1, len(some), wrapping.join(some))


@dataclass(frozen=True)
class Braze:
    """The local Braze as a test sees it."""

    url: str
    control: BrazeControl


@pytest.fixture(scope="module")
def running_braze() -> Iterator[Braze]:
    with LocalBraze() as service:
        control = BrazeControl(service.url)
        yield Braze(service.url, control)
        control.close()


@pytest.fixture
def local_braze(running_braze: Braze) -> Braze:
    """The local Braze as new: no users, default settings."""
    running_braze.control.reset()
    return running_braze
