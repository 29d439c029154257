"""Standard output belongs to what a command itself says."""

from __future__ import annotations

import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_own: list[TextIO] = []


@contextmanager
def own_output() -> Iterator[None]:
    """Send to standard error whatever else writes to standard output: Airflow's log, in the middle of JSON.

    Airflow 3 sets its log up while it is imported, so the import has to happen inside.
    """
    _own.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _own.pop()


def output() -> TextIO:
    """Return where a command writes."""
    return _own[-1] if _own else sys.stdout


def say(*values: Any, end: str = "\n") -> None:
    """Print for whoever started the command."""
    print(*values, end=end, file=output(), flush=True)
