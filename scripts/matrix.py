"""Run the smoke of the whole walk on several Airflows, each in an environment of its own.

Run by ``make matrix`` with the interpreter of ``.venv``, after the wheel is in ``dist/``. Each environment
under ``.matrix/`` gets the wheel, not this folder, so that what users install is what is tried. The sandbox's
services run from ``.venv``: the Airflow under test sees only their addresses.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.sandbox.manager import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = PROJECT / ".matrix"
SMOKE = PROJECT / "tests" / "matrix" / "smoke.py"
EXTRAS = "email"
# Seconds for one smoke; it takes well under a minute, so this is only for one that hangs.
SMOKE_LIMIT = 180


@dataclass(frozen=True)
class Target:
    """One Airflow to try.

    :param airflow: its minor version, as in the name of its constraints file.
    :param newest_python: newest minor version of Python 3 that it is released for.
    """

    airflow: str
    newest_python: int


# Airflow 2.11 declares itself unfit for Python 3.13 and later.
TARGETS = (Target("2.11", 12), Target("3.1", 13), Target("3.3", 14))


class SetupFailedError(Exception):
    """An environment could not be made; the message is the installer's own output."""


def interpreter_for(target: Target) -> str | None:
    """Find an interpreter that the target runs on: the one of ``.venv`` if possible, else one on PATH."""
    if sys.version_info[1] <= target.newest_python:
        return sys.executable
    for minor in range(target.newest_python, 10, -1):
        found = shutil.which(f"python3.{minor}")
        if (
            found
            and subprocess.run([found, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0
        ):
            return found
    return None


def checked(command: list[str]) -> None:
    """Run an installing command; raise :class:`SetupFailedError` with what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    if done.returncode != 0:
        raise SetupFailedError(done.stdout + done.stderr)


def fingerprint(wheel: Path, constraints: Path, interpreter: str) -> str:
    """Identify what an environment is made from. A wheel's RECORD lists the hash of every file in it."""
    digest = hashlib.sha256(interpreter.encode())
    digest.update(constraints.read_bytes())
    with zipfile.ZipFile(wheel) as archive:
        record = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        digest.update(archive.read(record))
    return digest.hexdigest()


def prepare(target: Target, interpreter: str, wheel: Path) -> Path:
    """Make the target's environment, or leave it when it already fits; return its interpreter."""
    environment = ENVIRONMENTS / target.airflow
    constraints = PROJECT / "constraints" / f"airflow-{target.airflow}.txt"
    python = environment / "bin" / "python"
    made_from = environment / ".made-from"
    wanted = fingerprint(wheel, constraints, interpreter)
    if python.exists() and made_from.exists() and made_from.read_text() == wanted:
        return python
    shutil.rmtree(environment, ignore_errors=True)
    requirement = f"{wheel}[{EXTRAS}]"
    uv = PROJECT / "scripts" / "uv"
    if (PROJECT / ".bootstrap" / "bin" / "uv").exists():
        checked([str(uv), "venv", "--quiet", "--no-project", "--python", interpreter, str(environment)])
        install = [str(uv), "pip", "install", "--compile-bytecode", "--python", str(python)]
        checked([*install, "-c", str(constraints), requirement])
    else:
        checked([interpreter, "-m", "venv", str(environment)])
        checked([str(python), "-m", "pip", "install", "-c", str(constraints), requirement])
    made_from.write_text(wanted)
    return python


def smoke_environment(sandbox: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return a smoke's environment: the sandbox's, and nothing of the caller's Airflow or Python settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW_", "AIRFLOW__", "PYTHON", "VIRTUAL_ENV"))
    }
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
        **sandbox,
    }


def run_smoke(python: Path, log: Path) -> bool:
    """Run the smoke against a sandbox of its own, its output going to ``log``; say whether it passed."""
    with (
        tempfile.TemporaryDirectory(prefix="kubit-braze-matrix-") as folder,
        Sandbox(directory=Path(folder) / "sandbox") as sandbox,
        log.open("w") as output,
    ):
        home = Path(folder) / "airflow"
        home.mkdir()
        # Its own process group, so that whatever Airflow has started ends with it.
        process = subprocess.Popen(
            [str(python), str(SMOKE)],
            cwd=home,
            env=smoke_environment(sandbox.env(), home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(SMOKE_LIMIT) == 0
        except subprocess.TimeoutExpired:
            output.write(f"\nmatrix: stopped after {SMOKE_LIMIT} s\n")
            return False
        finally:
            end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything it has left behind in its group."""
    with contextlib.suppress(ProcessLookupError):  # nothing was left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_lines(text: str, count: int = 60) -> str:
    """Return the end of a text, indented."""
    return "\n".join(f"    {line}" for line in text.splitlines()[-count:])


def try_target(target: Target, wheel: Path) -> str:
    """Try one Airflow, print its line, and return ``passed``, ``failed`` or ``skipped``."""
    interpreter = interpreter_for(target)
    if interpreter is None:
        here = f"3.{sys.version_info[1]}"
        print(f"Airflow {target.airflow}: skipped, it does not run on Python {here} and none older was found")
        return "skipped"
    started = time.monotonic()
    try:
        python = prepare(target, interpreter, wheel)
    except SetupFailedError as error:
        print(f"Airflow {target.airflow}: failed, its environment cannot be made\n{last_lines(str(error))}")
        return "failed"
    made = time.monotonic()
    log = ENVIRONMENTS / f"{target.airflow}.log"
    passed = run_smoke(python, log)
    outcome = "passed" if passed else "failed"
    times = f"set-up {made - started:.0f} s, smoke {time.monotonic() - made:.0f} s"
    print(f"Airflow {target.airflow}: {outcome} ({times})", flush=True)
    if not passed:
        print(last_lines(log.read_text(errors="replace")))
        print(f"    the whole output is in {log.relative_to(PROJECT)}")
    return outcome


def main() -> int:
    """Try the Airflows named on the command line, or all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = [target.airflow for target in TARGETS]
    parser.add_argument(
        "airflow", nargs="*", metavar="AIRFLOW", help=f"any of {', '.join(names)}; all if none is given"
    )
    chosen = parser.parse_args().airflow or names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"no such Airflow here: {', '.join(unknown)}; there are {', '.join(names)}")
    wheels = sorted((PROJECT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        parser.error(f"dist/ must hold one wheel and holds {len(wheels)}: run 'make wheel'")
    ENVIRONMENTS.mkdir(exist_ok=True)
    outcomes = [try_target(target, wheels[0]) for target in TARGETS if target.airflow in chosen]
    counts = {outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped")}
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 0 if counts["passed"] and not counts["failed"] else 1


if __name__ == "__main__":
    # `kill` ends it like Ctrl-C does: by unwinding, so that the services stop.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("matrix: stopped")
