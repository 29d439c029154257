"""How much memory a delivery takes, and whether it takes more when there is more to deliver.

Every size has a process of its own, with Airflow's task SDK in it, beside one that does nothing: peaks only rise. One
stream comes from a stand-in for Snowflake, in requests of 75 users to a Braze whose limit holds nobody up; it is as
long as it has to be. The other is a whole import, as large as the local Snowflake can bring in a reasonable time.
"""

from __future__ import annotations

import importlib
import re
import resource
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.local import alone, local_braze, settings_for
from bench.rows import Row, over
from bench.standin import deliver
from bench.warehouse import Way, import_cohort, local_warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from bench.sizes import Sizes

#: What a task that delivers has imported when it begins.
_MODULES: Final = (
    "airflow.sdk",
    "airflow_provider_kubit_braze.operators.cohort_to_braze",
    "airflow_provider_kubit_braze.importer",
    "snowflake.connector",
    "pyarrow.compute",
)

_REPEATED: Final = 3


def memory(sizes: Sizes) -> Iterator[Row]:
    """Stream, then import."""
    idle = [alone(_idle) for _ in range(_REPEATED)]
    with local_braze() as braze:
        settings = settings_for(braze.url, max_in_flight=400)
        yield from _rows("streamed", sizes.streamed, idle, lambda size: alone(_streamed, settings, size))
    with local_warehouse() as warehouse:
        numbers = count(1)
        for size in sizes.imported:
            warehouse.fill_source(f"USERS_{size}", size)
        yield from _rows(
            "imported from the local Snowflake",
            sizes.imported,
            idle,
            # Always a first import, also of a cohort that was imported before.
            lambda size: alone(_imported, warehouse.way, f"USERS_{size}", size, f"NUMBER_{next(numbers)}"),
        )


def _rows(
    how: str, sizes: Sequence[int], idle: Sequence[float], peak_at: Callable[[int], float]
) -> Iterator[Row]:
    small, *larger = sizes
    low = [peak_at(small) for _ in range(_REPEATED)]
    for size in larger:
        high = peak_at(size)
        last = size == larger[-1]
        what = f"peak memory, {_millions(size)} changes {how}"
        yield over(
            [high / one for one in low], what, f"{_millions(small)} changes", most=1.1 if last else None
        )
        yield over(
            [high - one for one in idle],
            what,
            "above a process that has imported the same and does nothing",
            unit="MB",
            most=150.0 if last else None,
        )


def _millions(size: int) -> str:
    return f"{size / 1e6:g} million"


def _idle() -> float:
    for module in _MODULES:
        importlib.import_module(module)
    return _peak()


def _streamed(settings: BrazeSettings, size: int) -> float:
    _idle()
    deliver(settings, size)
    return _peak()


def _imported(way: Way, table: str, size: int, state: str) -> float:
    _idle()
    result = import_cohort(way, table, state=state)
    if result.added != size:
        raise RuntimeError(f"{result.added} of {size} users were added.")
    return _peak()


def _peak() -> float:
    """Return this process's peak of resident memory, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which on Linux begins with what the parent had.
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(kilobytes) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / (1024 if sys.platform == "darwin" else 1)
