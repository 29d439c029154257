"""One line of the table: a figure against a floor or a peer of the same run, with its spread and what it has to be."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: How a figure is written: times as much, a share of one, megabytes, or a plain number.
Unit = Literal["x", "%", "MB", ""]

ROUNDS = 7


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure.

    :param what: what was measured.
    :param against: the floor or peer that the figure is a ratio to; for a share, what it is a share of.
    :param figure: the median of the rounds.
    :param low: the lower quartile of the rounds, None where there is one round or a count.
    :param high: the upper quartile.
    :param unit: how the figure is written; shares are held as 0 to 1.
    :param least: the figure is to be at least that.
    :param most: the figure is to be at most that.
    :param note: how it was measured, where the page's text does not say.
    :param part: the part of the benchmark it came from; the program fills it in.
    """

    what: str
    against: str
    figure: float
    low: float | None = None
    high: float | None = None
    unit: Unit = "x"
    least: float | None = None
    most: float | None = None
    note: str = ""
    part: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the figure is what it has to be; None where nothing was asked for."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.figure >= self.least) and (
            self.most is None or self.figure <= self.most
        )

    @property
    def shown(self) -> str:
        """The figure as people read it."""
        return written(self.figure, self.unit)

    @property
    def spread(self) -> str:
        """The quartiles as people read them."""
        if self.low is None or self.high is None:
            return ""
        return f"{written(self.low, self.unit)} to {written(self.high, self.unit)}"

    @property
    def target(self) -> str:
        """What the figure has to be, as people read it."""
        bounds = []
        if self.least is not None:
            bounds.append(f"at least {written(self.least, self.unit)}")
        if self.most is not None:
            bounds.append(f"at most {written(self.most, self.unit)}" if self.most else "none")
        return " and ".join(bounds)

    @property
    def judged(self) -> str:
        """What the figure has to be, and whether it is."""
        return "" if self.met is None else f"{self.target}: {'met' if self.met else 'missed'}"

    def as_json(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return asdict(self) | {"met": self.met}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Row:
        """Read what ``as_json`` wrote."""
        return cls(**{name: value for name, value in values.items() if name != "met"})


def written(value: float, unit: Unit) -> str:
    """Write a figure with about three digits."""
    match unit:
        case "%":
            return f"{value:.2%}" if 0 < value < 0.01 else f"{value:.1%}"
        case "x":
            return f"{value:.2f} x" if value < 10 else f"{value:,.0f} x"
        case "MB":
            return f"{value:,.0f} MB"
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def quartiles(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return median, lower and upper quartile; of fewer than three values only the median."""
    if len(values) < 3:
        return statistics.median(values), None, None
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def over(values: Sequence[float], what: str, against: str, **more: Any) -> Row:
    """Return the row of a figure that was measured in several rounds."""
    figure, low, high = quartiles(values)
    return Row(what=what, against=against, figure=figure, low=low, high=high, **more)


def ratio(
    what: str,
    subject: Callable[[], object],
    floor: Callable[[], object],
    *,
    against: str,
    clock: Callable[[], float] = time.process_time,
    rounds: int = ROUNDS,
    **more: Any,
) -> Row:
    """Measure a subject against its floor, in turn, after one unmeasured round of each.

    :param clock: CPU seconds of this process, which noise on the machine hardly touches.
    """
    spent(subject, clock)
    spent(floor, clock)
    ratios = [spent(subject, clock) / spent(floor, clock) for _ in range(rounds)]
    return over(ratios, what, against, **more)


def spent(call: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Return what a call costs by the clock; nobody else's garbage is cleared meanwhile."""
    gc.collect()
    started = clock()
    call()
    return clock() - started
