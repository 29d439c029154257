"""``kubit-braze history``: the imports of a cohort, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from airflow_provider_kubit_braze.cli.context import Subject, run
from airflow_provider_kubit_braze.cli.screen import (
    STYLES,
    Column,
    count,
    fitting,
    print_json,
    print_sentence,
    screen,
)
from airflow_provider_kubit_braze.core.durations import time_in_words
from airflow_provider_kubit_braze.core.masking import plain
from airflow_provider_kubit_braze.warehouse.runs import list_runs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

#: What has a column, the most telling first; the last ones go where a terminal is too narrow.
_COLUMNS: Final = (
    "started_at",
    "outcome",
    "users_imported",
    "added",
    "removed",
    "rejected",
    "unknown",
    "unmatched",
    "set_aside",
    "data_points",
    "duration",
    "started_by",
    "held_out",
    "members",
    "unchanged",
    "run_id",
    "requests",
    "duplicates",
    "invalid",
    "retries",
    "workspace",
    "place",
)

#: Those that have one only where any run has something to tell there.
_SOMETIMES: Final = {
    "rejected",
    "unknown",
    "unmatched",
    "set_aside",
    "held_out",
    "duplicates",
    "invalid",
    "retries",
}

#: Those that have one only where runs differ.
_DIFFERING: Final = {"workspace", "place"}


def history(arguments: argparse.Namespace) -> int:
    """Show a cohort's imports.

    :param arguments: ``cohort``, ``file``, ``snowflake_conn_id``, ``limit`` and ``json``.
    :return: the exit code.
    """
    return run(lambda: _show(Subject.of(arguments), arguments.limit, as_json=arguments.json))


def _show(subject: Subject, limit: int, *, as_json: bool) -> int:
    with subject.session() as session:
        runs = [
            one.to_dict()
            for one in list_runs(session, subject.tables, cohort_id=subject.cohort.id, limit=limit)
        ]
    if as_json:
        print_json(runs)
        return 0
    out = screen()
    if not runs:
        out.print(f"Cohort {subject.cohort.id} has never been imported.")
        return 0
    table, left_out = fitting([_column(name, runs) for name in _COLUMNS if _tells(name, runs)], out.width)
    out.print(table)
    for one in runs:
        if one["error"]:
            print_sentence(out, f"{_started(one)} UTC: {one['error']}")
    if left_out:
        said = f"Not shown for want of room: {', '.join(left_out)}. --json has everything."
        print_sentence(out, said, style="dim")
    return 0


def _tells(name: str, runs: Sequence[dict[str, Any]]) -> bool:
    if name in _DIFFERING:
        return len({one[name] for one in runs}) > 1
    return name not in _SOMETIMES or any(one[name] for one in runs)


def _column(name: str, runs: Sequence[dict[str, Any]]) -> Column:
    if name == "started_at":
        return Column("started (UTC)", [_started(one) for one in runs])
    if name == "outcome":
        return Column("outcome", [_outcome(one) for one in runs])
    if name == "duration":
        took = [time_in_words(one["duration_seconds"]) if one["outcome"] else "" for one in runs]
        return Column("took", took, right=True)
    if isinstance(runs[0][name], int):
        return Column(name.replace("_", " "), [count(one[name]) for one in runs], right=True)
    return Column(name.removesuffix("_id").replace("_", " "), [plain(one[name]) for one in runs])


def _outcome(one: dict[str, Any]) -> Text:
    outcome = one["outcome"] or f"({one['state']})"
    also = "" if one["purpose"] == "import" else f" {one['purpose']}"
    return Text(outcome + also, style=STYLES.get(outcome, ""))


def _started(one: dict[str, Any]) -> str:
    return f"{datetime.fromisoformat(one['started_at']):%Y-%m-%d %H:%M}"
