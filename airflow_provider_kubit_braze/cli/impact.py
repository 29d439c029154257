"""``kubit-braze impact``: what Braze's messages did; with ``--check``, which figures a share can yield, and why."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.cli.context import WrongUseError, run
from airflow_provider_kubit_braze.cli.screen import (
    Column,
    fitting,
    print_facts,
    print_json,
    print_sentence,
    screen,
)
from airflow_provider_kubit_braze.connections import snowflake_connection
from airflow_provider_kubit_braze.core.braze_target import parse_share
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.core.share_figures import FIGURES, Figure, Need, judge
from airflow_provider_kubit_braze.core.source import parse_conn_id
from airflow_provider_kubit_braze.exceptions import CohortConfigError
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.share_check import read_inventory

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.core.share_figures import Verdict
    from airflow_provider_kubit_braze.warehouse.share_check import Inventory

# Told in a line, as no channel has them.
_BESIDES: Final = ("life of a user", "identity", "names")

#: What else has names -> the table that has them, and the column with the ids; without it, the ids are shown.
_NAMED: Final = {
    "campaign variations": ("SNAPSHOTS_CAMPAIGN_MESSAGE_VARIATION_SHARED", "API_ID"),
    "Canvas variations": ("SNAPSHOTS_CANVAS_VARIATION_SHARED", "API_ID"),
    "experiment steps": ("SNAPSHOTS_EXPERIMENT_STEP_SHARED", "API_STEP_ID"),
}
_NAMES: Final = tuple(
    Figure("names", scope, (Need(table, (column, "NAME", "TIME", "APP_GROUP_ID"), {}),))
    for scope, (table, column) in _NAMED.items()
)

#: How the names of tables begin that are listed together; the first that fits.
_GROUPS: Final = (
    *(f"USERS_{one}_" for one in ("MESSAGES", "BEHAVIORS", "CAMPAIGNS", "CANVAS")),
    "USERS_",
    "CHANGELOGS_",
    "SNAPSHOTS_",
)
_SHARED: Final = "_SHARED"

#: What is asked of a measurement, and not of a share.
_OF_MEASURING: Final = (
    "file",
    "braze_conn_id",
    "app_group_id",
    "campaign",
    "canvas",
    "goal",
    "window",
    "since",
    "until",
    "timezone",
    "full_refresh",
    "html",
)

_DEFAULT_CONN_ID: Final = "snowflake_default"

_YES: Final = "yes"
_NO: Final = "NO"


def impact(arguments: argparse.Namespace) -> int:
    """Measure, or check a share.

    :param arguments: with ``check``: ``share``, ``snowflake_conn_id`` and ``json``; otherwise those of
        :func:`~airflow_provider_kubit_braze.cli.impact_measure.measure`.
    :return: the exit code: of a check 0 when every figure is possible, else 1.
    """
    return run(lambda: _asked(arguments))


def _asked(arguments: argparse.Namespace) -> int:
    if arguments.limit is not None:
        raise WrongUseError("--limit is about the life of one user: give --user USER, or leave it out.")
    return _check(arguments) if arguments.check else _measure(arguments)


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.cohort is None:
        raise WrongUseError("Name a cohort to measure, or give --check to look what a share can yield.")
    from airflow_provider_kubit_braze.cli.impact_measure import measure

    return measure(arguments)


def _check(arguments: argparse.Namespace) -> int:
    share, conn_id = arguments.share, arguments.snowflake_conn_id
    if share is None:
        raise WrongUseError("Say which share is to be checked: --share DB.SCHEMA.")
    if arguments.cohort is not None:
        raise WrongUseError(
            "--check looks at a share, whatever the cohort: leave the cohort out, or --check."
        )
    # None and False are not given, and [] is of those that may be repeated; a blank one is.
    if given := [name for name in _OF_MEASURING if getattr(arguments, name) not in (None, False, [])]:
        raise WrongUseError(
            f"--check measures nothing: leave --{given[0].replace('_', '-')} out, or --check."
        )
    conn_id = _DEFAULT_CONN_ID if conn_id is None else conn_id
    try:
        parse_share(share)
        parse_conn_id(conn_id)
    except CohortConfigError as error:
        raise WrongUseError(str(error)) from None
    with closing(Session(snowflake_connection(conn_id), tag={"app": "kubit_braze"})) as session:
        inventory = read_inventory(session, share)
    verdicts, names = judge(inventory.columns), judge(inventory.columns, _NAMES)
    if arguments.json:
        print_json(_as_dict(inventory, verdicts, names))
    else:
        _print(inventory, verdicts, names)
    return 0 if all(one.possible for one in verdicts) else 1


def _as_dict(inventory: Inventory, verdicts: Sequence[Verdict], names: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "share": inventory.share,
        "tables": {
            "documented": len(catalogue()),
            "missing": inventory.missing_tables,
            "missing_columns": inventory.missing_columns,
            "unknown": inventory.unknown_tables,
            "profile_views": inventory.profile_views,
        },
        "figures": [
            {
                "figure": one.figure.name,
                "scope": one.figure.scope,
                "possible": one.possible,
                "missing": list(one.missing),
                "limits": list(one.limits),
                "tables": [need.table for need in one.figure.needs],
            }
            for one in verdicts
        ],
        "names": [
            {"of": one.figure.scope, "known": one.possible, "missing": list(one.missing)} for one in names
        ],
    }


def _in_groups(tables: Sequence[str]) -> str:
    """Return names of tables, those that begin alike in a line, without what they have in common."""
    groups: dict[str, list[str]] = {}
    for table in tables:
        groups.setdefault(next((one for one in _GROUPS if table.startswith(one)), ""), []).append(table)
    return "\n".join(
        f"{start}..{_SHARED}: " + ", ".join(one.removeprefix(start).removesuffix(_SHARED) for one in some)
        if len(some) > 1
        else some[0]
        for start, some in groups.items()
    )


def _print(inventory: Inventory, verdicts: Sequence[Verdict], names: Sequence[Verdict]) -> None:
    out = screen()
    there = len(catalogue()) - len(inventory.missing_tables)
    out.print(
        f"{inventory.share}: {there} of the {len(catalogue())} tables that Braze documents", style="bold"
    )
    besides = [one for one in verdicts if one.figure.name in _BESIDES]
    read = {need.table for figure in (*FIGURES, *_NAMES) for need in figure.needs}
    missing = inventory.missing_tables
    lacking = {table: ", ".join(names) for table, names in inventory.missing_columns.items()}
    print_facts(
        out,
        [
            ("missing tables", _in_groups([one for one in missing if one in read])),
            ("missing, in no figure", _in_groups([one for one in missing if one not in read])),
            ("missing columns", "\n".join(f"{table}: {names}" for table, names in lacking.items())),
            ("not known here", ", ".join(inventory.unknown_tables)),
            *(
                (f"profiles, {what}", ", ".join(views) or "no view: match and verify ask the API")
                for what, views in inventory.profile_views.items()
            ),
            *(
                (
                    name,
                    ", ".join(
                        one.figure.scope
                        for one in (*besides, *names)
                        if one.possible and one.figure.name == name
                    ),
                )
                for name in _BESIDES
            ),
        ],
    )
    funnel = [one for one in verdicts if one.figure.name not in _BESIDES]
    scopes = list(dict.fromkeys(one.figure.scope for one in funnel))
    cells = {(one.figure.name, one.figure.scope): _YES if one.possible else _NO for one in funnel}
    columns = [
        Column(name, [cells.get((name, scope), "") for scope in scopes])
        for name in dict.fromkeys(one.figure.name for one in funnel)
    ]
    table, left_out = fitting([Column("", scopes), *columns], out.width)
    out.print(table)
    if left_out:
        said = f"Not shown for want of room: {', '.join(left_out)}. --json has everything."
        print_sentence(out, said, style="dim")
    for one in verdicts:
        if not one.possible:
            print_sentence(out, one.sentence, style="yellow")
    for one in names:
        if not one.possible:
            lacks = " and ".join(one.missing)
            said = f"{one.figure.words}: shown by their ids, as the share lacks {lacks}."
            print_sentence(out, said, style="yellow")
    for one in verdicts:
        if one.possible and one.limits:
            print_sentence(out, one.sentence, style="dim")
