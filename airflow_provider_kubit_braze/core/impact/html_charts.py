"""Drawings for the report of an impact: SVG in the page itself, which needs no script and no library.

Lengths along an axis are percentages, so that a drawing is as wide as there is room, and its words are not scaled.
"""

from __future__ import annotations

from datetime import date
from html import escape
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.impact.showing import (
    NAMES,
    NOT_KNOWN,
    axis_of,
    figure,
    lift_words,
    steps_of,
)
from airflow_provider_kubit_braze.core.impact.words import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What is drawn by day.
TRENDS: Final = ("reached", "clicked", "converted", "revenue")

#: The colours and sizes of the drawings; the document's style sheet holds the variables.
SHEET: Final = (
    "svg{display:block;width:100%;overflow:visible}"
    "svg text{font-size:12px;fill:var(--quiet);paint-order:stroke;stroke:var(--card);stroke-width:5px}"
    ".axis{stroke:var(--line);stroke-width:1}.zero{stroke:var(--quiet);stroke-width:1;stroke-dasharray:3 3}"
    ".joint{stroke:var(--mark);stroke-width:1.5}.interval{fill:var(--mark);opacity:.4}.point{fill:var(--mark)}"
    ".arrow{fill:var(--mark)}.bar{fill:var(--mark)}.room{fill:var(--soft)}"
    ".trend{border-bottom:1px solid var(--line)}"
)


def interval_svg(effect: Mapping[str, Any]) -> str:
    """Draw an interval with 0 on its axis; nothing when there is no interval."""
    axis = axis_of(effect)
    if axis is None:
        return ""
    low, high, point, zero = (100 * one for one in (axis.low, axis.high, axis.point, axis.zero))
    words = escape(f"{lift_words(effect)}; 0, no effect, is marked.")
    end = (
        '<svg x="100%" y="26" width="1" height="16"><path class="arrow" d="M-9 0L2 8L-9 16Z"/></svg>'
        if axis.is_open
        else f'<text x="{high:.2f}%" dx="6" y="38">{escape(axis.high_label)}</text>'
    )
    return (
        f'<svg class="lift" height="58" role="img" aria-label="{words}">'
        '<line class="axis" x1="0" x2="100%" y1="34" y2="34"/>'
        f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="16" y2="56"/>'
        f'<text x="{zero:.2f}%" y="11" text-anchor="middle">0 (no effect)</text>'
        f'<rect class="interval" x="{low:.2f}%" width="{max(high - low, 0.3):.2f}%" y="27" height="14"/>'
        f'<circle class="point" cx="{point:.2f}%" cy="34" r="6"/>'
        f'<text x="{low:.2f}%" dx="-6" y="38" text-anchor="end">{escape(axis.low_label)}</text>{end}</svg>'
    )


def funnel_rows(figures: Mapping[str, Any]) -> str:
    """Return the lines of the funnel's table: step, users, share and a bar of it."""
    rows = []
    for step in steps_of(figures):
        known = step.users is not None
        users = f"{step.users:,}" if known else f'<span class="hint">{NOT_KNOWN}</span>'
        share = percent(step.share) if step.share is not None else ""
        width = 100 * min(step.share or 0.0, 1.0)
        drawn = f'<rect class="bar" height="14" width="{width:.2f}%"/>' if width else ""
        bar = (
            f'<svg height="14" aria-hidden="true"><rect class="room" height="14" width="100%"/>{drawn}</svg>'
            if known
            else '<span class="hint">the share cannot tell</span>'
        )
        rows.append(
            f'<tr><th scope="row">{step.name}</th><td class="figure">{users}</td>'
            f'<td class="figure">{share}</td><td class="drawn">{bar}</td></tr>'
        )
    return "".join(rows)


def trends(days: Sequence[Mapping[str, Any]], currency: str | None) -> str:
    """Draw what happened day by day, one small drawing for each figure that any day knows."""
    return "".join(
        _trend(key, NAMES[key], days, currency)
        for key in TRENDS
        if any(one["figures"][key] is not None for one in days)
    )


def _trend(key: str, name: str, days: Sequence[Mapping[str, Any]], currency: str | None) -> str:
    told = [
        (date.fromisoformat(one["day"]).toordinal(), one["figures"][key])
        for one in days
        if one["figures"][key] is not None
    ]
    dates = [date.fromisoformat(one["day"]).toordinal() for one in days]
    first, count = min(dates), max(dates) - min(dates) + 1
    top = max((value for _, value in told), default=0)
    # One path for all days: a bar of 1 unit for each, with a little room between.
    path = "".join(
        f"M{day - first + 0.1:g} 100V{100 - 100 * max(value, 0) / top:.1f}h.8V100z"
        for day, value in told
        if value and top > 0
    )
    most = figure(key, top, currency)
    span = f"{date.fromordinal(first)} to {date.fromordinal(first + count - 1)}"
    words = escape(f"{name} by day, {span}: at most {most} a day.")
    return (
        f'<div class="small"><h4>{name} by day</h4><p class="hint">at most {escape(most)}</p>'
        f'<svg class="trend" height="70" viewBox="0 0 {count} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><path class="bar" d="{path}"/></svg>'
        f'<p class="hint ends"><span>{date.fromordinal(first)}</span>'
        f"<span>{date.fromordinal(first + count - 1)}</span></p></div>"
    )
