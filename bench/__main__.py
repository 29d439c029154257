"""``make bench``: figures as ratios against a floor or a peer of the same run, never as seconds alone.

``python -m bench`` measures everything, ``python -m bench delivery memory`` some parts, and ``--quick`` only shows that
they work. Every part has a process of its own, so that none leaves another its garbage.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from bench.local import alone
from bench.page import write_page
from bench.parts import PARTS, measure
from bench.results import Results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rows import Row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; 0 when all of them ran, whatever they found."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes, no figures worth keeping")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.part) - set(PARTS):
        parser.error(f"there is no part {min(unknown)!r}")
    results, broken = Results.stored(), []
    with tempfile.TemporaryDirectory(prefix="kubit-braze-bench-") as folder:
        _seclude(folder)
        for part in chosen.part or PARTS:
            started = time.monotonic()
            try:
                rows = alone(measure, part, quick=chosen.quick)
            except Exception as error:
                print(f"\n{part}: {type(error).__name__}: {error}", flush=True)
                broken.append(part)
                continue
            _show(part, rows, time.monotonic() - started)
            results.put(part, rows)
    if not chosen.quick:
        print(f"\n{results.write()} is written.")
        print(f"{write_page(results)} is written.")
        if missing := results.missing():
            print(f"Not measured on this machine yet: {', '.join(missing)}.")
    return 1 if broken else 0


def _seclude(folder: str) -> None:
    """Keep the Airflow of the shell, and its proxies, out of this."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": folder,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _show(part: str, rows: Sequence[Row], seconds: float) -> None:
    print(f"\n{PARTS[part]} ({part}, {seconds:.0f} s)")
    table = [(row.what, row.shown, row.spread, row.against, row.judged) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
