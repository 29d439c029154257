"""``make bench``: figures as ratios against a floor or a peer of the same run, never as seconds alone.

Each measure is the median of several rounds, floor and subject in turn, so that noise hits both alike. Prints a table
and writes ``bench/results.json``.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5


def main() -> int:
    """Run all benchmarks."""
    with tempfile.TemporaryDirectory(prefix="kubit-braze-bench-") as folder:
        os.environ["AIRFLOW_HOME"] = str(Path(folder) / "airflow")
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        from bench.delivery import delivery
        from bench.parsing import parsing

        rows = [*parsing(Path(folder), ratio), *delivery(ratio)]
    width = max(len(row["what"]) for row in rows)
    print(f"{'what':<{width}}  {'ratio':>7}  {'spread':>13}  subject  floor")
    for row in rows:
        low, high = row["spread"]
        print(
            f"{row['what']:<{width}}  {row['ratio']:>6.2f}x  {low:>5.2f}..{high:<5.2f}x  "
            f"{row['subject_seconds']:.3f} s  {row['floor_seconds']:.3f} s ({row['floor']})"
        )
    results = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rounds": ROUNDS,
        "rows": rows,
    }
    target = Path(__file__).with_name("results.json")
    target.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target} is written.")
    return 0


def ratio(
    what: str,
    subject: Callable[[], object],
    floor: Callable[[], object],
    *,
    floor_name: str,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Measure a subject against its floor, in turn, after one unmeasured round of each."""
    subject()
    floor()
    pairs = [(_seconds(subject, clock), _seconds(floor, clock)) for _ in range(ROUNDS)]
    ratios = sorted(one / other for one, other in pairs)
    return {
        "what": what,
        "ratio": statistics.median(ratios),
        "spread": [ratios[0], ratios[-1]],
        "subject_seconds": statistics.median(one for one, _ in pairs),
        "floor_seconds": statistics.median(other for _, other in pairs),
        "floor": floor_name,
    }


def _seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    call()
    return clock() - started


if __name__ == "__main__":
    sys.exit(main())
