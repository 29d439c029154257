"""A whole Airflow on this machine, with its pages: one service of the sandbox's kind, ready by its own word.

It is what ``airflow standalone`` starts, but each part is the leader of a process group that is ended as a whole, also
when whoever started this is gone: ``standalone`` would leave a scheduler behind.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.sandbox.process import announce, stop_event

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

_FIRST: Final = "api-server"
_OTHERS: Final = ("scheduler", "dag-processor", "triggerer")

#: Seconds until every part has to be healthy; 30 on an idle machine with two cores.
START_SECONDS: Final = 240.0

_POLL_SECONDS: Final = 0.25
_GRACE_SECONDS: Final = 15.0


def airflow_environment(
    *,
    home: Path,
    dags: Path,
    users: Mapping[str, str] | None = None,
    path: str = "",
    port: int | None = None,
) -> dict[str, str]:
    """Return the settings of an Airflow of its own, with its database in its home.

    :param home: its home.
    :param dags: its folder of DAG files.
    :param users: name to role (``admin``, ``op``, ``user``, ``viewer``), each with its name as password; None lets
        everybody in as an administrator, without a login.
    :param path: below which path of its address everything is, such as ``/airflow``.
    :param port: where it listens; any free one when None.
    """
    port = port or free_port()
    login = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
    if users is not None:
        home.mkdir(parents=True, exist_ok=True)
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({name: name for name in users}), encoding="ascii")
        login = {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{n}:{r}" for n, r in users.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        }
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}{path}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # Everything is on this machine, and a proxy would not find it.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        **login,
    }


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the Airflow that the environment describes until SIGTERM, Ctrl-C or the end of whoever started it."""
    parser = argparse.ArgumentParser(description="A whole Airflow, for the sandbox")
    parser.add_argument(
        "--port", type=int, default=0, help="part of every service; here the environment has it"
    )
    parser.add_argument("--exit-with-parent", action="store_true")
    parser.add_argument("--after", type=Path, help="start what runs DAGs only when this file is there")
    args = parser.parse_args(arguments)
    stop = stop_event(exit_with_parent=args.exit_with_parent)
    url = os.environ["AIRFLOW__API__BASE_URL"]
    with ExitStack() as ends:
        # It takes longest, and only reads.
        processes = {_FIRST: _start(_FIRST, ends)}
        while args.after is not None and not args.after.exists():
            if stop.wait(_POLL_SECONDS):
                return 0
        processes |= {part: _start(part, ends) for part in _OTHERS}
        if not _await_health(url, processes, stop):
            return 1
        announce("airflow", url=url)
        while not stop.wait(_POLL_SECONDS):
            ended = [part for part, process in processes.items() if process.poll() is not None]
            if ended:
                print(f"Airflow's {ended[0]} has ended by itself", file=sys.stderr, flush=True)
                return 1
        # All at once, so that no part waits for another one's end.
        for process in processes.values():
            _signal(process, signal.SIGTERM)
    return 0


def _start(part: str, ends: ExitStack) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow", part],
        stdin=subprocess.DEVNULL,
        # What goes to the standard output of this process is the ready line.
        stdout=sys.stderr.fileno(),
        start_new_session=True,
    )
    ends.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    # Also what the leader of the group has left behind.
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _await_health(url: str, processes: Mapping[str, subprocess.Popen[bytes]], stop: threading.Event) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and not stop.wait(_POLL_SECONDS):
        if ended := [part for part, process in processes.items() if process.poll() is not None]:
            print(f"Airflow's {ended[0]} has ended while starting", file=sys.stderr, flush=True)
            return False
        health = _health(url)
        if all(health.get(part, {}).get("status") == "healthy" for part in ("scheduler", "dag_processor")):
            return True
    return False


def _health(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/v2/monitor/health", timeout=5) as answer:
            return dict(json.load(answer))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    sys.exit(main())
