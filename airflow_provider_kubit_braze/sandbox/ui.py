"""``make ui``: the sandbox with Airflow's own pages, and weeks of imports behind it, for a person to click.

Everything it needs it starts, and everything it started it ends, whatever happens.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.page import PAGE
from airflow_provider_kubit_braze.sandbox import cdnow
from airflow_provider_kubit_braze.sandbox.airflow_server import START_SECONDS, airflow_environment
from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.sandbox.process import (
    SandboxError,
    ServiceProcess,
    require_extra,
    stop_event,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

_POLL_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 30.0
_INTERRUPTED: Final = 130


class Interrupted(Exception):
    """Somebody ended it while it was starting."""


class UiSandbox:
    """A sandbox, an Airflow with its pages, and the past they show.

    :param folder: where everything goes; whoever gives it removes it.
    :param dags: DAG files to copy into Airflow's folder.
    :param days: how far the past goes back.
    :param users: who may log in, see ``airflow_environment``.
    :param path: below which path Airflow is.
    :param port: where Airflow listens.
    :param say: takes a line for people.
    :param prepare: is called when the sandbox has its data, and before the first import.
    :param stop: set when somebody wants it to end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dags: Path,
        days: int,
        users: Mapping[str, str] | None = None,
        path: str = "",
        port: int | None = None,
        say: Callable[[str], None] = lambda line: None,
        prepare: Callable[[Sandbox], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.folder = folder
        self.dags = folder / "dags"
        self.days = days
        self.sandbox = Sandbox(directory=folder / "sandbox")
        self.environment = airflow_environment(
            home=folder / "airflow", dags=self.dags, users=users, path=path, port=port
        )
        self.url = self.environment["AIRFLOW__API__BASE_URL"]
        self._say = say
        self._prepare = prepare
        self._stop = stop
        shutil.copytree(dags, self.dags, ignore=shutil.ignore_patterns("__pycache__"))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start everything, and end it afterwards.

        :raises SandboxError: when a part cannot be started.
        """
        require_extra("time_machine")
        self._say("Starting a local Snowflake, a local Braze, a local mailbox and Airflow ...")
        with self.sandbox, ExitStack() as ends:
            self.environment |= self.sandbox.env()
            history = self._start_history(ends)
            self._load()
            self._next_line(history)
            # As much as can be done beside the history is.
            airflow = ServiceProcess(
                name="Airflow",
                module="airflow_provider_kubit_braze.sandbox.airflow_server",
                log=self.folder / "airflow.log",
                arguments=["--after", str(self.folder / "history.done")],
                environment=self.environment,
            )
            ends.callback(airflow.stop, grace_seconds=_STOP_SECONDS)
            self._say(f"Importing what was due in the last {self.days} days:")
            self._make_history(history)
            (self.folder / "history.done").touch()
            airflow.wait_ready(deadline=time.monotonic() + START_SECONDS)
            yield

    def _load(self) -> None:
        purchases = cdnow.load_purchases()
        with self.sandbox.connect() as connection:
            cdnow.load_into_snowflake(connection, purchases)
            make_share_tables(connection)
        self.sandbox.braze.add_users(cdnow.customer_ids(purchases))
        if self._prepare is not None:
            self._prepare(self.sandbox)

    def _start_history(self, ends: ExitStack) -> subprocess.Popen[str]:
        arguments = ["--dags", str(self.dags), "--days", str(self.days)]
        with (self.folder / "history.log").open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow_provider_kubit_braze.sandbox.ui_history", *arguments],
                # Its end tells that process that this one is gone.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={**os.environ, **self.environment},
                start_new_session=True,
                text=True,
            )

        def end() -> None:
            process.kill()
            process.communicate()

        ends.callback(end)
        return process

    def _make_history(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None  # noqa: S101  (stdin=PIPE)
        process.stdin.write("go\n")
        process.stdin.flush()
        while line := self._next_line(process):
            self._say(line)
        if process.wait():
            raise SandboxError(f"The past could not be made:\n{_tail(self.folder / 'history.log')}")

    def _next_line(self, process: subprocess.Popen[str]) -> str:
        if self._stop is not None and self._stop.is_set():
            raise Interrupted
        assert process.stdout is not None  # noqa: S101  (stdout=PIPE)
        return process.stdout.readline().rstrip("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it until Ctrl-C or SIGTERM; return the exit code: 0, or 1 when it could not be started."""
    parser = argparse.ArgumentParser(prog="make ui", description=__doc__)
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8080))
    parser.add_argument("--days", type=int, default=24)
    args = parser.parse_args(arguments)
    dags = Path(__file__).parents[2] / "dags"
    if not (dags / "cohorts").is_dir():
        print("make ui needs a checkout of the project.", file=sys.stderr)
        return 2
    stop = stop_event(exit_with_parent=False)
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ.update(NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kubit-braze-ui-") as folder:
        ui = UiSandbox(Path(folder), dags=dags, days=args.days, port=args.port, say=_say, stop=stop)
        try:
            with ui.running():
                _say(
                    f"\nReady after {time.monotonic() - started:.0f} s. Open this in a browser; there is no login:\n"
                )
                _say(f"    {ui.url}/{PAGE}\n")
                _say("Ctrl-C ends it, and nothing is left behind.")
                while not stop.wait(_POLL_SECONDS):
                    pass
        except Interrupted:
            return _INTERRUPTED
        except SandboxError as error:
            log = Path(folder) / "airflow.log"
            _say(f"\nThis did not start: {error}\n{_tail(log) if log.exists() else ''}")
            return 1
    _say("\nEverything that was started is stopped.")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _tail(log: Path, lines: int = 40) -> str:
    return "\n".join(f"  {line[:300]}" for line in log.read_text(errors="replace").splitlines()[-lines:])


if __name__ == "__main__":
    sys.exit(main())
