"""``kubit-braze impact COHORT --user ID`` and ``--timeline``: the life of a user, and the days of a cohort.

The id that was typed may be shown to whoever typed it; no id is logged.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.cli.context import Subject, WrongUseError, run
from airflow_provider_kubit_braze.cli.impact_measure import question_of
from airflow_provider_kubit_braze.cli.screen import Column, count, fitting, print_json, print_sentence, screen
from airflow_provider_kubit_braze.core.impact.life import DAY_FIGURES, STAY_FIGURES
from airflow_provider_kubit_braze.core.masking import plain
from airflow_provider_kubit_braze.warehouse.cohort_days import cohort_timeline
from airflow_provider_kubit_braze.warehouse.timeline import user_timeline

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from airflow_provider_kubit_braze.core.impact.life import CohortTimeline, Moment, UserTimeline
    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion

#: What is asked of a measurement, and of no timeline.
_OF_MEASURING: Final = ("check", "campaign", "canvas", "goal", "window", "full_refresh", "html")

#: Moments of a life that are shown, the latest ones; ``--limit`` says otherwise.
_MOMENTS: Final = 200

#: What stands in a table for a figure that the share cannot tell.
_UNKNOWN: Final = "?"


def timeline(arguments: argparse.Namespace) -> int:
    """Tell the life of a user or the days of a cohort.

    :param arguments: ``user`` or ``timeline``; ``cohort``, ``file``, the connections, where the share is, ``since``,
        ``until``, ``timezone``, ``limit`` and ``json``.
    :return: the exit code: 1 when nothing is known of the user, else 0.
    """
    return run(lambda: _tell(arguments))


def _tell(arguments: argparse.Namespace) -> int:
    option = "--timeline" if arguments.user is None else "--user"
    for name in _OF_MEASURING:
        if getattr(arguments, name) not in (None, False, []):
            raise WrongUseError(f"{option} measures nothing: leave --{name.replace('_', '-')} out.")
    if arguments.user is None and arguments.limit is not None:
        raise WrongUseError("--timeline tells every day: leave --limit out.")
    if arguments.cohort is None:
        raise WrongUseError(f"Name a cohort, whose stays {option} is to tell.")
    if arguments.user is not None and not arguments.user.strip():
        raise WrongUseError("The user's id is blank; give the id, the address or the number of one user.")
    subject = Subject.of(arguments)
    # A life goes back before what the cohort's DAG measures.
    question = question_of(subject, arguments, days_of_file=arguments.user is None)
    tell = _days if arguments.user is None else _life
    return tell(subject, question, arguments)


def _life(subject: Subject, question: ImpactQuestion, arguments: argparse.Namespace) -> int:
    user: str = arguments.user
    with subject.session() as session:
        found = user_timeline(
            question,
            user,
            session=session,
            tables=subject.tables,
            workspace=subject.settings.workspace,
            cohort_id=subject.cohort.id,
            now=datetime.now(UTC),
            limit=_MOMENTS if arguments.limit is None else arguments.limit,
        )
    _show(subject, found, {"user": user}, lambda: _print_life(user, found, question), arguments)
    return 0 if found.moments or found.profiles else 1


def _days(subject: Subject, question: ImpactQuestion, arguments: argparse.Namespace) -> int:
    with subject.session() as session:
        found = cohort_timeline(
            question,
            session=session,
            tables=subject.tables,
            workspace=subject.settings.workspace,
            cohort_id=subject.cohort.id,
            now=datetime.now(UTC),
        )
    _show(subject, found, {"timezone": question.timezone}, lambda: _print_days(found), arguments)
    return 0


def _show(
    subject: Subject,
    found: UserTimeline | CohortTimeline,
    more: dict[str, Any],
    show: Callable[[], None],
    arguments: argparse.Namespace,
) -> None:
    """Print for a program, or for people, who also want to know what is not there."""
    cohort = subject.cohort
    if arguments.json:
        print_json({**more, "cohort_id": cohort.id, "cohort_name": cohort.name, **found.as_dict()})
        return
    out = screen()
    whose = f"{plain(arguments.user)} and " if arguments.user is not None else ""
    out.print(f"{whose}{plain(cohort.name)} ({cohort.id})", style="bold")
    show()
    for note in found.notes:
        print_sentence(out, note, style="yellow")
    if found.missing:
        said = f"Not told, as the share lacks their tables: {_in_short(found.missing)}."
        print_sentence(out, f"{said} --json names them.", style="yellow")


def _in_short(missing: Sequence[str]) -> str:
    """Return what is missing, each channel's in one piece."""
    pieces: dict[str, dict[str, None]] = {}
    for sentence in missing:
        what, _, channel = sentence.partition(":")[0].partition(", ")
        pieces.setdefault(channel, {})[what] = None
    return "; ".join(
        f"{channel} ({', '.join(some)})" if channel else ", ".join(some) for channel, some in pieces.items()
    )


def _print_life(user: str, found: UserTimeline, question: ImpactQuestion) -> None:
    out = screen()
    if not found.moments:
        known = "Nothing happened in these days" if found.profiles else "Nothing is known of such a user"
        print_sentence(out, f"{known}, as far as the share and the ledger tell.")
        return
    if found.left_out:
        print_sentence(out, f"The latest of {len(found.moments) + found.left_out:,} moments.", style="dim")
    whens = [one.at.astimezone(question.zone).strftime("%Y-%m-%d %H:%M:%S") for one in found.moments]
    columns = [
        Column(question.timezone, whens),
        Column("what", [f"{one.what}, {one.channel}" if one.channel else one.what for one in found.moments]),
        Column("of it", [_about(one) for one in found.moments]),
    ]
    _print_table(columns)


def _about(one: Moment) -> str:
    """Return the message, the event's name, where an install came from, an amount: whatever there is."""
    amount = "" if one.amount is None else f"{one.amount:,.2f} {one.currency or ''}".strip()
    return plain(", ".join(filter(None, (one.message or one.message_id, one.detail, amount))))


def _print_days(found: CohortTimeline) -> None:
    names = (*STAY_FIGURES, *DAY_FIGURES)
    columns = [Column("", [one.day.isoformat() for one in found.days])]
    for name in names:
        values = [one.figures[name] for one in found.days]
        cells = [_UNKNOWN if value is None else count(value) for value in values]
        columns.append(Column(name.replace("_", " "), cells, right=True))
    _print_table(columns)


def _print_table(columns: Sequence[Column]) -> None:
    out = screen()
    table, left_out = fitting(columns, out.width)
    out.print(table)
    if left_out:
        print_sentence(
            out, f"Not shown for want of room: {', '.join(left_out)}. --json has everything.", style="dim"
        )
