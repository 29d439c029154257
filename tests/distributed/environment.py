"""The cluster's own environment: the wheel with Celery and PostgreSQL's drivers, at the versions of constraints/."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from scripts.matrix import SetupFailedError, checked, fingerprint
from tests.distributed.processes import ProofFailedError

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / ".cache" / "distributed"
CONSTRAINTS = PROJECT / "constraints" / "airflow-3.3.txt"
EXTRAS = "email,distributed"


def prepare() -> Path:
    """Make the environment, or leave it when it already fits; return its folder of programs.

    :raises ProofFailedError: when it cannot be made.
    """
    wheels = sorted((PROJECT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        raise ProofFailedError(f"dist/ must hold one wheel and holds {len(wheels)}: run 'make wheel'.")
    environment = FOLDER / "venv"
    programs = environment / "bin"
    made_from = environment / ".made-from"
    wanted = fingerprint(wheels[0], CONSTRAINTS, sys.executable)
    if (programs / "airflow").exists() and made_from.exists() and made_from.read_text() == wanted:
        return programs
    shutil.rmtree(environment, ignore_errors=True)
    try:
        _install(environment, f"{wheels[0]}[{EXTRAS}]")
    except SetupFailedError as error:
        raise ProofFailedError(f"The cluster's environment cannot be made: {error}") from None
    made_from.write_text(wanted)
    return programs


def _install(environment: Path, requirement: str) -> None:
    python = str(environment / "bin" / "python")
    options = ["-c", str(CONSTRAINTS), requirement]
    if (PROJECT / ".bootstrap" / "bin" / "uv").exists():
        uv = str(PROJECT / "scripts" / "uv")
        checked([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(environment)])
        checked([uv, "pip", "install", "--compile-bytecode", "--python", python, *options])
    else:
        checked([sys.executable, "-m", "venv", str(environment)])
        checked([python, "-m", "pip", "install", *options])
