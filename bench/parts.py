"""The parts of the benchmark: each a module whose generator, named like it, yields rows."""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bench.sizes import FULL, QUICK

if TYPE_CHECKING:
    from bench.rows import Row

#: In the order of the page, and what they are called there.
PARTS: Final = {
    "delivery": "CPU of a request",
    "rate": "The rate that is held",
    "scale": "Many imports under one limit",
    "memory": "Memory",
    "planning": "Planning",
    "unchanged": "A cohort without changes",
    "start": "Time to the first request",
    "parsing": "DAG files and commands",
    "pages": "The page in Airflow",
    "impact": "Impact",
}


def measure(part: str, *, quick: bool) -> list[Row]:
    """Run one part, best in a process of its own, and say how it goes on."""
    rows: list[Row] = []
    for row in getattr(importlib.import_module(f"bench.{part}"), part)(QUICK if quick else FULL):
        print(f"  {row.what}: {row.shown}", file=sys.stderr, flush=True)
        rows.append(replace(row, part=part))
    return rows


def explained(part: str) -> str:
    """Return what a part says of itself."""
    return inspect.getdoc(importlib.import_module(f"bench.{part}")) or ""
