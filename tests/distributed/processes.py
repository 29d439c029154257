"""Processes of the proof: each in a session of its own, watched while anything is waited for, never left behind.

Airflow gives each task a process group of its own, and a task whose worker died belongs to nobody. Only the session
stays what it was, so a process belongs to a worker if it is in the worker's session.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

# Seconds for one wait. On an idle machine the longest takes 30; this is for one that has hung.
PATIENCE = 180.0

# Airflow's API server has more to do than to answer the proof.
LOOK_EVERY = 0.3

Value = TypeVar("Value")


class ProofFailedError(Exception):
    """Something is not as it should be; the message is one sentence."""


@dataclass(frozen=True)
class Process:
    """A process that was started, with everything it has started since.

    :param name: for messages.
    :param log: takes its output.
    """

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    def members(self) -> list[int]:
        """Return the processes that live in its session: itself, its children, and orphans they left."""
        return session_members({self.popen.pid})

    def tasks(self) -> list[int]:
        """Return the tasks that live in its session: Airflow makes each the leader of a process group."""
        found = []
        for pid in self.members():
            with suppress(ProcessLookupError):
                if os.getpgid(pid) == pid != self.popen.pid:
                    found.append(pid)
        return found

    def kill_main(self) -> None:
        """End this one process by SIGKILL, and leave its children to themselves."""
        self.popen.kill()
        self.popen.wait()


def session_members(sessions: set[int]) -> list[int]:
    """Return the ids of the live processes in these sessions."""
    found = []
    for pid in psutil.pids():
        # Whoever ended between two lines is no member; what ended and was not buried yet is none either.
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(pid) in sessions and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def kill_sessions(sessions: set[int]) -> None:
    """End everything in these sessions; first stop it all, so that nothing is started meanwhile."""
    stopped: set[int] = set()
    while fresh := set(session_members(sessions)) - stopped:
        send_signal(fresh, signal.SIGSTOP)
        stopped |= fresh
    deadline = time.monotonic() + PATIENCE
    while (members := session_members(sessions)) and time.monotonic() < deadline:
        send_signal(members, signal.SIGKILL)
        time.sleep(LOOK_EVERY / 10)


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those who still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Processes:
    """Starts processes, waits with them, and ends them all; a context manager.

    :param logs: the folder for their output.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.started: list[Process] = []
        self._expected: list[Process] = []
        # Ends what is left should this process be killed: the end of its standard input tells it.
        self._undertaker = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        stays: bool = True,
        **options: Any,
    ) -> Process:
        """Start a process.

        :param stays: whether it shall live until the end; if it does not, whatever waits fails.
        :param options: more for ``subprocess.Popen``.
        """
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        stdin = self._undertaker.stdin
        assert stdin is not None
        stdin.write(b"%d\n" % popen.pid)
        stdin.flush()
        process = Process(name, log, popen)
        self.started.append(process)
        if stays:
            self._expected.append(process)
        return process

    def let_go(self, *processes: Process) -> None:
        """Expect processes to end."""
        self._expected = [process for process in self._expected if process not in processes]

    def kill(self, *processes: Process) -> None:
        """End processes with everything in their sessions by SIGKILL."""
        self.let_go(*processes)
        kill_sessions({process.popen.pid for process in processes})
        for process in processes:
            process.popen.wait()

    def wait_for(self, what: str, look: Callable[[], Value], seconds: float = PATIENCE) -> Value:
        """Look until there is something to see, and return it.

        :param what: "... did not happen" is the message when it does not.
        :raises ProofFailedError: when time is up, or a process has ended that should live.
        """
        deadline = time.monotonic() + seconds
        while True:
            if value := look():
                return value
            for process in self._expected:
                if (code := process.popen.poll()) is not None:
                    raise ProofFailedError(f"{process.name} ended with {code} while waiting for {what}.")
            if time.monotonic() > deadline:
                raise ProofFailedError(f"Within {seconds:.0f} s there was no {what}.")
            time.sleep(LOOK_EVERY)

    def end(self) -> None:
        """End everything."""
        self.kill(*self.started)
        self._undertaker.kill()
        self._undertaker.communicate()


def bury() -> None:
    """Read sessions from standard input until it ends, and then end them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    kill_sessions({int(line) for line in sys.stdin})


if __name__ == "__main__":
    bury()
