"""Redis and PostgreSQL for one run of the proof: empty, on free ports of loopback, nothing written through to disk."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.distributed.environment import PROJECT
from tests.distributed.processes import Process, Processes, ProofFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"

# Seconds for PostgreSQL to stop in good order, so that it takes its shared memory along.
STOP_SECONDS = 20


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return int(one.getsockname()[1])


def find_programs() -> dict[str, Path]:
    """Return where ``redis`` and the folder ``postgresql`` are, installed if need be.

    :raises ProofFailedError: when they are not to be had; the script has said why.
    """
    done = subprocess.run(
        [PROJECT / "scripts" / "distributed_services"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise ProofFailedError("Redis and PostgreSQL are not to be had here; the lines above say what to do.")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {name: Path(path) for name, path in found.items()}


@contextmanager
def redis(processes: Processes, program: Path) -> Iterator[str]:
    """Run a Redis and give its URL."""
    port = free_port()
    command = [str(program), "--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory(prefix="kubit-braze-redis-") as folder:
        processes.start("redis", command, environment=os.environ, cwd=Path(folder))
        processes.wait_for("answer of Redis", lambda: _pong(port))
        yield f"redis://{LOOPBACK}:{port}/0"


def _pong(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False


@contextmanager
def postgresql(processes: Processes, programs: Path) -> Iterator[str]:
    """Run a PostgreSQL and give ``user@host:port/database``; it is stopped at the end."""
    port = free_port()
    owner = _owner()
    folder = Path(tempfile.mkdtemp(prefix="kubit-braze-postgresql-"))
    try:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        data = folder / "data"
        make = [
            str(programs / "initdb"),
            "--pgdata",
            str(data),
            "--username=airflow",
            "--auth=trust",
            "--no-sync",
        ]
        done = subprocess.run(
            [*make, "--encoding=UTF8", "--locale=C"], cwd=folder, capture_output=True, text=True, **owner
        )
        if done.returncode != 0:
            raise ProofFailedError(f"PostgreSQL's initdb failed: {(done.stderr or done.stdout).strip()}")
        # -F: the data need not survive a power cut. No socket but that on loopback.
        command = [
            str(programs / "postgres"),
            "-D",
            str(data),
            "-F",
            "-h",
            LOOPBACK,
            "-p",
            str(port),
            "-k",
            "",
        ]
        process = processes.start("postgresql", command, environment=os.environ, cwd=folder, **owner)
        ready = [str(programs / "pg_isready"), "--quiet", "--host", LOOPBACK, "--port", str(port)]
        processes.wait_for("answer of PostgreSQL", lambda: subprocess.run(ready).returncode == 0)
        try:
            yield f"airflow@{LOOPBACK}:{port}/postgres"
        finally:
            _stop(processes, process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> dict[str, Any]:
    """Return the arguments that start a process as somebody else when this one is root, whom PostgreSQL refuses."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}
    raise ProofFailedError(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody."
    )


def _stop(processes: Processes, process: Process) -> None:
    processes.let_go(process)
    process.popen.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.popen.wait(STOP_SECONDS)
