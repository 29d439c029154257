"""How commands show things: tables on a terminal, plain text or JSON elsewhere."""

from __future__ import annotations

import json
import os
import textwrap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from airflow_provider_kubit_braze.cli.output import output, say
from airflow_provider_kubit_braze.core.masking import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Columns where there is no terminal that has a width: nothing is to be left out or broken in a log or a file.
_WIDE: Final = 1000

#: What stands between two columns of a table.
_BETWEEN: Final = 2

#: The colour of an outcome.
STYLES: Final = {
    "success": "green",
    "unchanged": "green",
    "dry_run": "cyan",
    "partial": "yellow",
    "stopped": "yellow",
    "failed": "red",
}


def screen() -> Console:
    """Return where to print. Colours only on a terminal, and not with ``NO_COLOR``; text is never markup."""
    width = None if output().isatty() or os.environ.get("COLUMNS") else _WIDE
    return Console(file=output(), markup=False, emoji=False, highlight=False, width=width)


def print_facts(out: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other; one without a value is left out, one of several lines has several."""
    told = [(name, value) for name, value in rows if value]
    indent = max(len(name) for name, _ in told) + _BETWEEN
    for name, value in told:
        head = name
        for line in value.split("\n"):
            wrapped = textwrap.wrap(
                plain(line), max(out.width - indent, 20), break_long_words=False, break_on_hyphens=False
            )
            for part in wrapped:
                out.print(
                    Text(head.ljust(indent), style="bold").append(part, style="not bold"), soft_wrap=True
                )
                head = ""


def print_sentence(out: Console, text: str, *, style: str = "") -> None:
    """Print a sentence, as wide as the terminal is."""
    for line in textwrap.wrap(plain(text), out.width, break_long_words=False, break_on_hyphens=False):
        out.print(Text(line, style=style), soft_wrap=True)


class Column(NamedTuple):
    """A column of a table.

    :param name: its head.
    :param cells: from top to bottom.
    :param right: whether they stand at the right.
    """

    name: str
    cells: Sequence[str | Text]
    right: bool = False

    @property
    def head(self) -> str:
        """The name, one word in a line."""
        return self.name.replace(" ", "\n")

    @property
    def width(self) -> int:
        """Characters that its widest line takes."""
        texts = [*self.head.split("\n"), *map(str, self.cells)]
        return max(map(cell_len, texts))


def fitting(columns: Sequence[Column], width: int) -> tuple[Table, list[str]]:
    """Return a table of those columns that fit beside each other, in their order, and the names of the others.

    Nothing is cut off or broken: half a number is worse than none.
    """
    shown: list[Column] = []
    left = width + _BETWEEN
    for column in columns:
        if column.width + _BETWEEN <= left:
            left -= column.width + _BETWEEN
            shown.append(column)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in shown:
        table.add_column(column.head, justify="right" if column.right else "left", no_wrap=True)
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*cells)
    return table, [column.name for column in columns if column not in shown]


def count(number: float) -> str:
    """Return a number with commas between thousands; zero is a dash, so that the others can be seen."""
    return f"{number:,}" if number else "-"


def print_json(value: Any) -> None:
    """Print JSON for a program."""
    say(json.dumps(value, indent=2))
