"""Many imports under one limit, in the simulation of ``bench.simulation``: what no single machine can try."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from bench.rows import Row, over
from bench.simulation import Import, Workspace, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.sizes import Sizes

_IMPORTS: Final = (4, 20)
_WORLD: Final = Workspace()

#: Windows left out: the imports get to know each other.
_FIRST: Final = 5


def scale(sizes: Sizes) -> Iterator[Row]:
    """Let 4 and 20 imports send for some minutes; every figure is the same in every run."""
    usable = _WORLD.limit * (1 - _WORLD.reserve)
    for count in _IMPORTS:
        course = simulate([Import()] * count, workspace=_WORLD, seconds=sizes.simulated)
        windows = range(_FIRST, int(sizes.simulated // _WORLD.window))
        them = f"{count} simulated imports, reserve {_WORLD.reserve}"
        yield over(
            [taken / usable for taken in course.used(windows)],
            f"requests taken in a window, {them}",
            "the limit less the reserve",
            unit="%",
            least=0.85,
            most=1.0,
        )
        yield Row(
            what=f"requests refused with 429, {them}",
            against="all requests",
            figure=course.refused_share,
            unit="%",
            most=0.001,
        )
        shares = [sum(own[window] for window in windows) for own in course.by_import]
        yield Row(
            what=f"requests of the slowest import, {them}",
            against="those of the average one",
            figure=min(shares) / statistics.mean(shares),
            unit="%",
        )
