"""``make demo`` as people run it: it shows what it promises, and nothing of it is left, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parent.parent.parent
MARK = "KUBIT_BRAZE_DEMO_UNDER_TEST"

#: Seconds after which something hangs.
HANGS = 120


class Demo:
    """The demo in a process of its own; it and all its descendants carry a mark in their environment."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self._mark = uuid.uuid4().hex
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "airflow_provider_kubit_braze.sandbox.demo"],
            cwd=PROJECT,
            env={
                **environment,
                MARK: self._mark,
                "TMPDIR": str(temporary),
                # Somebody's real Airflow: the demo must not touch it.
                "AIRFLOW_HOME": str(temporary / "real"),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{temporary}/nowhere/airflow.db",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def wait_for(self, words: str) -> None:
        with self._more:
            self._more.wait_for(lambda: words in self.text or not self._reader.is_alive(), timeout=HANGS)
        assert words in self.text, self.text

    def end(self) -> int:
        """Return the exit code."""
        code = self.process.wait(HANGS)
        self._reader.join(HANGS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def airflow(self) -> psutil.Process:
        """Airflow's process, once it is there."""
        self.wait_for("Snowflake holds")
        deadline = time.monotonic() + HANGS
        while True:
            for process in self.processes():
                if "airflow_provider_kubit_braze.sandbox.demo_days" in process.cmdline():
                    return process
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def processes(self) -> list[psutil.Process]:
        """What runs of it: the demo itself, Airflow, the services."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    yield running
    for process in running.processes():
        process.kill()
    running.end()


def test_the_demo_succeeds_and_leaves_nothing(demo: Demo) -> None:
    code = demo.end()

    assert code == 0, demo.text
    assert demo.text.count("Braze's profiles equal the source, user for user, in all four cohorts.") == 3
    assert "Not one request went to Braze." in demo.text
    assert demo.text.count("Held out by their hash, and not in Braze's cohorts:") == 3
    assert "exactly one for each user who entered or left." in demo.text
    assert "The campaign raised conversion:" in demo.text
    assert "The funnel is what happened, and the true lift lies in both intervals." in demo.text
    assert demo.text.splitlines()[-1].startswith("Done in ")
    assert demo.processes() == []
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", ["Starting", "Day 1"], ids=["while services start", "inside Airflow"])
def test_an_interrupted_demo_cleans_up(demo: Demo, moment: str, number: signal.Signals) -> None:
    demo.wait_for(moment)

    demo.process.send_signal(number)

    assert demo.end() == 130, demo.text
    assert demo.text.splitlines()[-1] == "Interrupted; everything that was started is stopped."
    assert demo.processes() == []
    assert list(demo.temporary.iterdir()) == []


def test_when_airflow_dies_the_demo_fails_and_cleans_up(demo: Demo) -> None:
    demo.airflow().kill()

    assert demo.end() == 1, demo.text
    assert "The demo failed. The end of Airflow's log:" in demo.text
    assert demo.processes() == []
    assert list(demo.temporary.iterdir()) == []


def test_when_the_demo_is_killed_airflow_and_the_services_end_too(demo: Demo) -> None:
    demo.airflow()
    assert len(demo.processes()) == 5

    demo.process.kill()

    deadline = time.monotonic() + HANGS
    while left := demo.processes():
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)
