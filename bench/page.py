"""``docs/performance.md``, written from the figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.parts import PARTS, explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.results import Results
    from bench.rows import Row

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "performance.md"

_HEAD: Final = """\
<!-- Written by `make bench`, from bench/results.json. Change bench/page.py instead. -->

# Performance

Every figure here is a ratio to something measured beside it: a floor that cannot be gone below, a peer that does the
same work, a limit, or the same thing in another size. A second is worth something else on every machine; a ratio is
worth nearly the same.

- Subject and floor are measured in turn, in many short rounds, and a figure is the median of the rounds. Behind it
  stand the quartiles: half of the rounds lie between them. Where there are none it was counted, or measured once.
- On a machine that does other things meanwhile the figures are worse than they could be, and the quartiles far apart.
- CPU is that of the measured process, all its threads included. Braze, and whatever else answers, runs in another.
- Braze and Snowflake are the local ones of the [sandbox](sandbox.md), on the same machine. So nothing is said about
  the real ones' speed, only about what this package makes of it.
"""

_TAIL: Final = """\
## Run it

```
make bench                                    # everything; some 20 minutes, on a machine that does nothing else
.venv/bin/python -m bench delivery memory     # some parts: {parts}
.venv/bin/python -m bench --quick             # only whether it works
```

It prints the tables, and writes `bench/results.json` and this page. Parts that were measured on the same machine before
stay; a part that never was is said to be missing.
"""


def write_page(results: Results) -> str:
    """Write the page and return its name."""
    PAGE.write_text("\n".join(_page(results)), encoding="utf-8")
    return f"docs/{PAGE.name}"


def _page(results: Results) -> Iterator[str]:
    rows = [row for part in PARTS for row in results.parts.get(part, [])]
    yield _HEAD
    yield _judgement(rows)
    yield _machine(results)
    for part, title in PARTS.items():
        yield f"## {title}\n"
        yield f"{explained(part)}\n"
        yield _table(results.parts[part]) if part in results.parts else f"Not measured yet (`{part}`).\n"
    yield _TAIL.format(parts=", ".join(PARTS))


def _judgement(rows: Sequence[Row]) -> str:
    asked = [row for row in rows if row.met is not None]
    missed = [f"- {row.what}: {row.shown} of {row.against}, {row.judged}" for row in asked if not row.met]
    if not missed:
        return f"All {len(asked)} targets are met.\n"
    met = len(asked) - len(missed)
    return "\n".join([f"{met} of {len(asked)} targets are met. Missed:\n", *missed, ""])


def _machine(results: Results) -> str:
    about = dict(results.machine)
    where = f"{about.pop('cores')} cores, {about.pop('architecture')}, {about.pop('system')}"
    versions = ", ".join(
        f"{name.capitalize() if name == 'python' else name} {v}" for name, v in about.items()
    )
    return f"Measured on {where}; {versions}.\n"


def _table(rows: Sequence[Row]) -> str:
    lines = ["| what | against | figure | quartiles | target |", "|---|---|---|---|---|"]
    for row in rows:
        what = f"{row.what} ({row.note})" if row.note else row.what
        lines.append(f"| {what} | {row.against} | {row.shown} | {row.spread} | {row.judged} |")
    return "\n".join([*lines, ""])
