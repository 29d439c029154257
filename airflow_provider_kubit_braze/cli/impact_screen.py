"""A measured impact on a terminal: what may be said first, then the figures it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from airflow_provider_kubit_braze.cli.screen import Column, fitting, print_facts, print_sentence, screen
from airflow_provider_kubit_braze.core.impact.showing import (
    BY_BRAZE,
    FIGURES,
    MEASURES,
    NO_SUM,
    NOT_KNOWN,
    axis_of,
    before_after_rows,
    control_of,
    covered_words,
    effect_words,
    effects_of,
    figure,
    headline_of,
    kind_of,
    moment,
    name_of,
    nobody_words,
    period_of,
    ratio_warning,
    reached_words,
    sizes_of,
    subject_of,
    variation_of,
    waiting_words,
)
from airflow_provider_kubit_braze.core.masking import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from airflow_provider_kubit_braze.core.impact.showing import Axis
    from airflow_provider_kubit_braze.core.mail_html import Tone

_STYLES: Final[dict[Tone, str]] = {"good": "green", "plain": "", "care": "yellow", "bad": "red"}

#: What stands in a table for a figure that no table of the share can tell.
_UNKNOWN: Final = "?"

#: Characters of an axis, and of a name in a table; the whole name stands above its figures.
_AXIS: Final = 42
_NAME: Final = 22

_INDENT: Final = "  "

# Sends are rows and no step of the funnel: they go first where a terminal is too narrow. That Braze credits converted
# and revenue is said below all tables: their heads have no room for it.
_COLUMNS: Final = tuple(
    (key, name.lower().removesuffix(" (by braze)")) for key, name in (FIGURES[0], *FIGURES[2:], FIGURES[1])
)


def print_report(report: Mapping[str, Any]) -> None:
    """Print a report, as the entry point of the measurement returns it, for people."""
    out = screen()
    name = f"{subject_of(report)} ({report['cohort_id']})"
    out.print(Text(plain(f"{name}: {report['measure']}"), style="bold"))
    print_facts(
        out,
        [
            ("days", period_of(report)),
            ("data until", moment(report["data_until"])),
            ("measured", moment(report["measured_at"])),
        ],
    )
    messages = report["messages"]
    if not messages:
        print_sentence(out, nobody_words(report), style="yellow")
    if len(messages) > 1:
        out.print()
        _side_by_side(out, messages)
    for message in messages:
        out.print()
        _message(out, message, window=report["window_seconds"])
    if messages:
        out.print()
        print_sentence(out, f"{BY_BRAZE} {NO_SUM}", style="dim")
    notes = list(report["notes"])
    if report["messages_left_out"]:
        notes.append(
            f"Messages that reached fewer people and are not shown here: {report['messages_left_out']:,}."
        )
    told = [*report["missing"], *report["limits"], *notes]
    if told:
        out.print()
    for sentence in report["missing"]:
        print_sentence(out, sentence, style="yellow")
    for sentence in [*report["limits"], *notes]:
        print_sentence(out, sentence, style="dim")


def _side_by_side(out: Console, messages: Sequence[Mapping[str, Any]]) -> None:
    heads = [headline_of(one) for one in messages]
    effects = [one["experiments"][0]["conversion"] if one["experiments"] else None for one in messages]
    axes = [one and axis_of(one) for one in effects]
    table, _ = fitting(
        [
            Column("message", [_cut(name_of(one)) for one in messages]),
            Column("reached", [_cell("reached", one, one) for one in messages], right=True),
            Column("verdict", [Text(_cut(word), style=_STYLES[tone]) for word, _, tone in heads]),
            Column("95% interval", [_ends(one) if one else "" for one in axes]),
        ],
        out.width,
    )
    out.print(table)


def _message(out: Console, message: Mapping[str, Any], *, window: float) -> None:
    of_what = ", ".join(filter(None, (kind_of(message), _id_beside_name(message))))
    out.print(Text(plain(name_of(message)), style="bold").append(f"  {plain(of_what)}", style="dim"))
    _, sentence, tone = headline_of(message)
    print_sentence(out, sentence, style=_STYLES[tone])
    for experiment in message["experiments"]:
        _experiment(out, experiment, said=sentence, window=window)
    if waiting := waiting_words(message):
        print_sentence(out, waiting, style="dim")
    if told := message["before_after"]:
        _before_after(out, told, said=sentence)
    lines = [("all channels", "", message)] if len(message["channels"]) != 1 else []
    lines += [(one["channel"], "", one) for one in message["channels"]]
    _figures(out, "channel", lines, message)
    lines = [(variation_of(one), one["channel"], one) for one in message["variations"]]
    _figures(out, "variation", lines, message)


def _id_beside_name(message: Mapping[str, Any]) -> str:
    return str(message["id"]) if message["name"] and message["kind"] != "all" else ""


def _experiment(out: Console, experiment: Mapping[str, Any], *, said: str, window: float) -> None:
    out.print(Text(plain(f"Against {control_of(experiment)}"), style="bold"))
    print_sentence(out, sizes_of(experiment))
    print_sentence(out, covered_words(experiment, window), style="dim")
    told = {said}
    if (warning := ratio_warning(experiment)) and experiment["conversion"]["sentence"] != said:
        print_sentence(out, warning, style="red")
    for effect in effects_of(experiment):
        words = effect_words(effect, experiment["control_kind"], said=said)
        if words and words not in told:
            print_sentence(out, f"{MEASURES[effect['measure']]}: {words}")
            told.add(words)
        if axis := axis_of(effect):
            out.print(Text(f"{_INDENT}{_drawn(axis)}  {_ends(axis)}"), soft_wrap=True)
    if reached := reached_words(experiment):
        print_sentence(out, reached, style="dim")


def _drawn(axis: Axis) -> str:
    """Draw an interval: a thick line on a dotted axis, 0 and the figure itself marked."""

    def place(share: float) -> int:
        return min(_AXIS - 1, max(0, round(share * (_AXIS - 1))))

    line = ["·"] * _AXIS
    low, high = place(axis.low), place(axis.high)
    line[low : high + 1] = ["━"] * (high - low + 1)
    if axis.is_open:
        line[-1] = ">"
    line[place(axis.zero)] = "0"
    line[place(axis.point)] = "●"
    return "".join(line)


def _ends(axis: Axis) -> str:
    return plain(f"{axis.low_label} and up" if axis.is_open else f"{axis.low_label} to {axis.high_label}")


def _before_after(out: Console, told: Mapping[str, Any], *, said: str) -> None:
    out.print(Text(plain(f"Before and after: {told['label']}"), style="bold"))
    if told["sentence"] != said:
        print_sentence(out, told["sentence"])
    rows = before_after_rows(told)
    heads = ("", "users", "converted", "revenue")
    columns = [Column(head, [plain(row[at]) for row in rows], right=at > 0) for at, head in enumerate(heads)]
    out.print(fitting(columns, out.width)[0])


def _figures(
    out: Console,
    head: str,
    lines: Sequence[tuple[str, str, Mapping[str, Any]]],
    message: Mapping[str, Any],
) -> None:
    if not lines:
        return
    columns = [Column(head, [_cut(name) for name, _, _ in lines])]
    if any(beside for _, beside, _ in lines):
        columns.append(Column("channel", [plain(beside) for _, beside, _ in lines]))
    for key, name in _COLUMNS:
        cells = [_cell(key, line, message) for _, _, line in lines]
        columns.append(Column(name, cells, right=True))
    table, left_out = fitting(columns, out.width)
    out.print(table)
    if any(one is None for _, _, line in lines for one in line["figures"].values()):
        print_sentence(out, f"{_UNKNOWN}: {NOT_KNOWN}, as no table of the share can tell it.", style="dim")
    if left_out:
        said = f"Not shown for want of room: {', '.join(left_out)}. --json has everything."
        print_sentence(out, said, style="dim")


def _cell(key: str, line: Mapping[str, Any], message: Mapping[str, Any]) -> str:
    value = line["figures"][key]
    return _UNKNOWN if value is None else plain(figure(key, value, message["currency"]))


def _cut(name: str) -> str:
    shown = plain(name)
    return shown if len(shown) <= _NAME else f"{shown[: _NAME - 1]}…"
