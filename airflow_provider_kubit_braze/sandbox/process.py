"""Services of the sandbox as processes: started together, ready by their own word, never left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.exceptions import KubitBrazeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

#: How a service learns who started it, even when that process died before the service could look.
PARENT_ENV = "KUBIT_BRAZE_SANDBOX_PARENT_PID"

#: Seconds between two looks at the parent. A portable substitute for Linux' PR_SET_PDEATHSIG.
PARENT_POLL_SECONDS = 0.2

INSTALL_HINT = "pip install 'airflow-provider-kubit-braze[sandbox]'"


class SandboxError(KubitBrazeError):
    """A part of the sandbox cannot be started or used; the message says which one and what to do."""


def require_extra(*modules: str) -> None:
    """Refuse to go on without the modules that the optional extra ``sandbox`` installs.

    :raises SandboxError: naming the first missing module and the command that installs it.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise SandboxError(f"The sandbox needs the Python package {module!r}: {INSTALL_HINT}")


def announce(service: str, **details: object) -> None:
    """Print the one line that tells the starter that ``service`` is ready, and where."""
    print(json.dumps({"service": service, **details}), flush=True)


def stop_event(*, exit_with_parent: bool) -> threading.Event:
    """Return an event that is set by SIGTERM, by SIGINT and, on request, by the death of the parent.

    Call it first thing in a service, from the main thread: what is imported later may take seconds.
    """
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if exit_with_parent:
        parent = int(os.environ.get(PARENT_ENV) or os.getppid())

        def watch() -> None:
            while os.getppid() == parent and not stop.wait(PARENT_POLL_SECONDS):
                pass
            stop.set()

        threading.Thread(target=watch, name="parent watch", daemon=True).start()
    return stop


class ServiceProcess:
    """One service in a process of its own.

    :param name: how messages and the log file call it.
    :param module: what ``python -m`` runs; it prints one JSON line when it is ready.
    :param arguments: its command line, without ``--port`` and ``--exit-with-parent``.
    :param log: the file that takes what it writes.
    :param environment: variables to set beside those of this process.
    """

    def __init__(
        self,
        *,
        name: str,
        module: str,
        log: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.name = name
        self.log = log
        self._answer: dict[str, Any] | None = None
        self._spoke = threading.Event()
        command = [sys.executable, "-m", module, "--port", str(port), "--exit-with-parent", *arguments]
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                # An open pipe: a service may take its end as the sign that its parent is gone.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **(environment or {}), PARENT_ENV: str(os.getpid())},
                # Ctrl-C in a terminal goes to the whole group; the manager alone decides about its end.
                start_new_session=True,
            )
        threading.Thread(target=self._listen, name=f"{name} output", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def wait_ready(self, *, deadline: float) -> dict[str, Any]:
        """Return the service's ready line.

        :param deadline: value of ``time.monotonic()`` after which waiting makes no sense.
        :raises SandboxError: when the service ended or stayed silent, with the end of its log.
        """
        self._spoke.wait(max(0.0, deadline - time.monotonic()))
        if self._answer is None:
            what = "did not become ready in time" if self.running else "ended while starting"
            raise SandboxError(f"The local {self.name} {what}: {self._last_words()}")
        return self._answer

    def stop(self, *, grace_seconds: float = 5.0) -> int:
        """End the process, by SIGTERM first and SIGKILL after ``grace_seconds``; return its exit code."""
        self.terminate()
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return self._process.returncode

    def terminate(self) -> None:
        """Ask the process to end, without waiting for it."""
        self._signal(self._process.terminate)

    def kill(self) -> None:
        """End the process by SIGKILL, as a crash would, and wait until it is gone."""
        self._signal(self._process.kill)
        self._process.wait()

    def _signal(self, send: Callable[[], None]) -> None:
        if self.running:
            send()

    def _listen(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  (stdout=PIPE)
        with stdout, self.log.open("ab") as log:
            for line in stdout:
                if self._answer is None and line.startswith(b"{"):
                    self._answer = json.loads(line)
                    self._spoke.set()
                else:
                    log.write(line)
                    log.flush()
        # Its output has ended; with its exit code known, the message says that it ended.
        self._process.wait()
        self._spoke.set()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
