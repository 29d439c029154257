"""The local Snowflake as a service: ``python -m airflow_provider_kubit_braze.sandbox.snowflake_server``.

It is fakesnow's server (DuckDB behind Snowflake's protocol) with one persistent, shared store and the
hardening of :mod:`.snowflake_app`. The unmodified connector and ``SnowflakeHook`` reach it over TLS when
``REQUESTS_CA_BUNDLE`` names the sandbox' bundle. It serves demos and tests: it is no oracle for what
Snowflake accepts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.sandbox.process import SandboxError, announce, require_extra, stop_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from airflow_provider_kubit_braze.sandbox.snowflake_sessions import Sessions

#: Statements that have a meaning on Snowflake only and succeed without effect here. AUTOCOMMIT has one.
NOP_STATEMENTS = (
    r"\s*ALTER\s+SESSION\s+(?!SET\s+AUTOCOMMIT\b)",
    r"\s*(CREATE|ALTER|DROP)\s+(OR\s+REPLACE\s+)?WAREHOUSE\b",
    r"\s*(CREATE|DROP)\s+(OR\s+REPLACE\s+)?ROLE\b",
    r"\s*(GRANT|REVOKE)\s",
    r"\s*USE\s+(WAREHOUSE|ROLE|SECONDARY\s+ROLES)\b",
)

#: Results kept for RESULT_SCAN; fakesnow's unbounded cache grew by 467 MB over 24 selects of 500,000 rows.
REMEMBERED_RESULTS = 8

#: Seconds between two looks for idle sessions.
IDLE_POLL_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until SIGTERM, SIGINT or, on request, the death of the parent."""
    args = _parser().parse_args(arguments)
    stop = stop_event(exit_with_parent=args.exit_with_parent)
    try:
        require_extra("fakesnow", "uvicorn", "starlette")
        _serve(args, stop)
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Local Snowflake of the kubit-braze sandbox")
    parser.add_argument("--directory", type=Path, required=True, help="where the databases are kept")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--database", default="DEMO", help="created when it does not exist")
    parser.add_argument(
        "--required-password", help="refuse any other password; default: every password is right"
    )
    parser.add_argument(
        "--idle-seconds", type=float, default=4 * 3600.0, help="close sessions unused for so long"
    )
    parser.add_argument("--remembered-statements", type=int, default=1000)
    parser.add_argument("--exit-with-parent", action="store_true")
    return parser


def _serve(args: argparse.Namespace, stop: threading.Event) -> None:
    import uvicorn

    from airflow_provider_kubit_braze.sandbox.snowflake_app import SnowflakeApp
    from airflow_provider_kubit_braze.sandbox.snowflake_sessions import Sessions

    server_module = _open_store(args.directory, args.database)
    sessions = Sessions(
        server_module.sessions, idle_seconds=args.idle_seconds, remembered=args.remembered_statements
    )
    app = SnowflakeApp(inner=server_module.app, sessions=sessions, required_password=args.required_password)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", args.port))
    port = listener.getsockname()[1]
    scheme = "https" if args.tls_cert else "http"
    tasks: set[asyncio.Task[None]] = set()

    async def ready() -> None:
        if not tasks:
            tasks.add(asyncio.get_running_loop().create_task(_close_idle(sessions)))
            announce("snowflake", url=f"{scheme}://127.0.0.1:{port}", host="127.0.0.1", port=port)

    config = uvicorn.Config(
        app.asgi,
        http=_watching_protocol(sessions),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        # Only the client ends a TCP connection, so that its end means that the client is gone.
        timeout_keep_alive=7 * 24 * 3600,
        timeout_graceful_shutdown=1,
        callback_notify=ready,
        ssl_certfile=args.tls_cert,
        ssl_keyfile=args.tls_key,
    )
    server = uvicorn.Server(config)

    def run() -> None:
        try:
            # A thread of its own: uvicorn would take the signals over.
            server.run(sockets=[listener])
        finally:
            stop.set()

    thread = threading.Thread(target=run, name="local snowflake", daemon=True)
    thread.start()
    stop.wait()
    server.should_exit = server.force_exit = True
    thread.join(timeout=1)
    # At once, whatever is running: nobody waits for a statement, and the write-ahead log survives any end.
    sys.stdout.flush()
    os._exit(0)


def _open_store(directory: Path, database: str) -> ModuleType:
    """Give fakesnow's server one store for all sessions, with every database in ``directory`` attached."""
    from airflow_provider_kubit_braze.sandbox.snowflake_sessions import RecentResults

    try:
        import fakesnow.server as server_module
        from fakesnow.instance import FakeSnow

        missing = [name for name in ("app", "sessions", "shared_fs") if not hasattr(server_module, name)]
        if missing:
            raise SandboxError(
                f"This release of fakesnow has no fakesnow.server.{missing[0]}, which is needed here: "
                "pip install 'fakesnow[server]==0.12.*'"
            )
        directory.mkdir(parents=True, exist_ok=True)
        shared = FakeSnow(db_path=directory, nop_regexes=list(NOP_STATEMENTS))
        shared.results_cache = RecentResults(REMEMBERED_RESULTS)
        server_module.shared_fs = shared
        # Connecting attaches a database's file, or creates it.
        for file in sorted(directory.glob("*.db")):
            shared.connect(file.stem).close()
        shared.connect(database, "PUBLIC").close()
    except (ImportError, AttributeError, TypeError) as error:
        raise SandboxError(
            f"The installed fakesnow does not offer what the local Snowflake needs ({error}): "
            "pip install 'fakesnow[server]==0.12.*'"
        ) from error
    return server_module


def _watching_protocol(sessions: Sessions) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol, made to tell ``sessions`` when a client's TCP connection is gone."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    closing: set[asyncio.Task[None]] = set()

    class WatchingProtocol(H11Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.client is not None:
                task = asyncio.get_running_loop().create_task(sessions.peer_gone(self.client))
                closing.add(task)
                task.add_done_callback(closing.discard)

    return WatchingProtocol


async def _close_idle(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(IDLE_POLL_SECONDS)
        await sessions.close_idle()


if __name__ == "__main__":
    sys.exit(main())
