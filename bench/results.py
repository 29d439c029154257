"""``bench/results.json``: what was measured, part by part, and on what."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.parts import PARTS
from bench.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE: Final = Path(__file__).with_name("results.json")

_PACKAGES: Final = (
    "aiohttp",
    "requests",
    "pyarrow",
    "apache-airflow",
    "snowflake-connector-python",
    "duckdb",
)


@dataclass
class Results:
    """Everything that was measured on one machine.

    :param machine: what figures depend on; nobody's name or path.
    :param parts: rows by part.
    """

    machine: dict[str, Any]
    parts: dict[str, list[Row]] = field(default_factory=dict)

    @classmethod
    def stored(cls) -> Results:
        """Read what is stored of this machine; of another one nothing is kept."""
        results = cls(_machine())
        if FILE.exists():
            found = json.loads(FILE.read_text(encoding="utf-8"))
            if found["machine"] == results.machine:
                for part, rows in found["parts"].items():
                    results.put(part, [Row.from_json(row) for row in rows])
        return results

    def put(self, part: str, rows: Sequence[Row]) -> None:
        """Keep the rows of a part, in place of its last ones."""
        self.parts[part] = list(rows)

    def missing(self) -> list[str]:
        """Return the parts that were never measured."""
        return [part for part in PARTS if part not in self.parts]

    def write(self) -> str:
        """Write everything, and return the file's name."""
        stored = {
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": self.machine,
            "parts": {
                part: [row.as_json() for row in self.parts[part]] for part in PARTS if part in self.parts
            },
        }
        FILE.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        return f"bench/{FILE.name}"


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }
