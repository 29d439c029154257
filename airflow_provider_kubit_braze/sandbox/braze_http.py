"""The local Braze as a service: ``python -m airflow_provider_kubit_braze.sandbox.braze_http --port 0``.

Prints one JSON line when it is ready, ``{"service": "braze", "url": "http://127.0.0.1:PORT"}``, and ends on
SIGTERM, SIGINT or, with ``--exit-with-parent``, soon after the process that started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import ssl
import sys
import threading
import time
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, Self

from airflow_provider_kubit_braze.sandbox.braze_api import Api
from airflow_provider_kubit_braze.sandbox.braze_connection import Connection
from airflow_provider_kubit_braze.sandbox.braze_exchange import CONTROL_PREFIX, Answer, Head, message
from airflow_provider_kubit_braze.sandbox.braze_sandbox_routes import SandboxRoutes
from airflow_provider_kubit_braze.sandbox.braze_settings import SettingError, WorkspaceSettings
from airflow_provider_kubit_braze.sandbox.braze_state import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

LOOPBACK: Final = "127.0.0.1"
PARENT_CHECK_SECONDS: Final = 0.2


class BrazeServer:
    """One workspace behind one listening socket, inside a running event loop.

    :param settings: of the workspace.
    :param clock: epoch seconds; see ``Workspace``.
    """

    def __init__(
        self, *, settings: WorkspaceSettings | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.workspace = Workspace(settings=settings, clock=clock)
        self.connections: set[Connection] = set()
        self._api = Api(workspace=self.workspace)
        self._routes = SandboxRoutes(workspace=self.workspace, connections=self._connection_counters)
        self._jitter = Random(self.workspace.settings.seed)
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._accepted = 0
        self._in_flight = 0
        self._most_in_flight = 0

    async def start(self, *, port: int = 0, ssl_context: ssl.SSLContext | None = None) -> str:
        """Listen on loopback and return the URL; port 0 takes a free one."""
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            lambda: Connection(server=self, loop=self._loop), LOOPBACK, port, ssl=ssl_context, backlog=1024
        )
        scheme = "https" if ssl_context else "http"
        return f"{scheme}://{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close the socket and every connection, at once."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.abort()
        await asyncio.sleep(0)

    def joined(self, connection: Connection) -> None:
        """Note a new connection."""
        self.connections.add(connection)
        self._accepted += 1

    def answer(self, head: Head, body: bytes | None, peer: str) -> Answer:
        """Answer one request from ``peer`` (its address)."""
        if head.path.startswith(CONTROL_PREFIX):
            if not ip_address(peer).is_loopback:
                return message(403, "the sandbox is controlled from the same machine only")
            return self._routes.answer(head, body)
        answer = self._api.answer(head, body)
        self._routes.recorder.record(self.workspace.clock(), head, body, answer)
        settings = self.workspace.settings
        if settings.latency_ms or settings.latency_jitter_ms:
            answer.delay += (settings.latency_ms + self._jitter.random() * settings.latency_jitter_ms) / 1000
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        if self._timer is None and self.workspace.pending:
            self._set_timer()
        return answer

    def answered(self, head: Head) -> None:
        """Note that the answer to a request went out, or its connection was dropped."""
        if not head.path.startswith(CONTROL_PREFIX):
            self._in_flight -= 1

    def _set_timer(self) -> None:
        due = self.workspace.next_due
        if due is None:
            self._timer = None
        else:
            # A clock that a test has stopped is asked again after the whole delay, not in a busy loop.
            self._timer = self._loop.call_later(max(due - self.workspace.clock(), 0.002), self._apply_due)

    def _apply_due(self) -> None:
        self.workspace.apply_due()
        self._set_timer()

    def _connection_counters(self) -> Mapping[str, int]:
        return {
            "connections_accepted": self._accepted,
            "connections_open": len(self.connections),
            "most_in_flight": self._most_in_flight,
        }


class LocalBraze:
    """The local Braze in a thread of this process: ``with LocalBraze() as braze: braze.url``.

    :param settings: of the workspace.
    :param clock: epoch seconds, read in that thread.
    """

    def __init__(
        self, *, settings: WorkspaceSettings | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local-braze", daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        """Start listening; ``url`` is set from here on."""
        self._thread.start()
        self._server = BrazeServer(settings=self._settings, clock=self._clock)
        self.url = asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and wait for the thread."""
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def serve(
    *, settings: WorkspaceSettings, port: int, ssl_context: ssl.SSLContext | None, parent: int | None
) -> None:
    """Serve until SIGTERM or SIGINT, or until the process ``parent`` is not our parent any more."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = BrazeServer(settings=settings)
    url = await server.start(port=port, ssl_context=ssl_context)
    sys.stdout.write(json.dumps({"service": "braze", "url": url}) + "\n")
    sys.stdout.flush()

    def check_parent() -> None:
        if os.getppid() == parent:
            loop.call_later(PARENT_CHECK_SECONDS, check_parent)
        else:
            stop.set()

    if parent is not None:
        check_parent()
    await stop.wait()
    await server.stop()


def main(arguments: list[str] | None = None) -> None:
    """Run the service from the command line."""
    parent = os.getppid()
    parser = argparse.ArgumentParser(prog="braze_http", description="A local Braze to try and to test with.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain (PEM) to serve https with")
    parser.add_argument("--tls-key", type=Path, help="its private key (PEM)")
    parser.add_argument("--config", default="{}", help="settings as JSON; see GET /_sandbox/config")
    parser.add_argument(
        "--exit-with-parent",
        nargs="?",
        type=int,
        const=parent,
        metavar="PID",
        help="end when the parent process is gone; its PID, where it may be gone before this one starts",
    )
    options = parser.parse_args(arguments)
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key go together")
    try:
        changes = json.loads(options.config)
        if not isinstance(changes, dict):
            raise SettingError(f"must be a JSON object, not {options.config}")
        settings = WorkspaceSettings().changed(changes)
    except (json.JSONDecodeError, SettingError) as error:
        parser.error(f"--config: {error}")
    # Profiles live as long as the service: without this the collector walks all of them again and again.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    ssl_context = None
    if options.tls_cert:
        ssl_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ssl_context.load_cert_chain(options.tls_cert, options.tls_key)
    asyncio.run(
        serve(settings=settings, port=options.port, ssl_context=ssl_context, parent=options.exit_with_parent)
    )


if __name__ == "__main__":
    main()
