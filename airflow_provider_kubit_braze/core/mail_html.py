"""The HTML part of the mail at the end of a run: tables and plain colours, which every mail client draws.

Mail clients know no SVG and no scripts, and many drop ``<style>``: so every rule stands in the element itself, bars are
cells of a table, and the style sheet only exchanges the colours where a client prefers dark ones. Text and background
are at least 4.5 : 1 apart in both (WCAG 2.2, 1.4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Tone = Literal["good", "plain", "care", "bad"]

#: Text and background of a headline, by how to take it; light, then dark.
TONES: Final[dict[Tone, tuple[str, str, str, str]]] = {
    "good": ("#0b5d2a", "#e3f4e8", "#9be3b2", "#123d22"),
    "plain": ("#3b4252", "#eceff4", "#d8dee9", "#2e3440"),
    "care": ("#7a4100", "#fdf0dc", "#f5c77e", "#4a2f0a"),
    "bad": ("#96161c", "#fde7e8", "#ffb3b6", "#541519"),
}

# What a piece of a bar stands for: its colour, light and dark.
_PIECES: Final = {
    "stayed": ("#5b7fd4", "#7f9fe6"),
    "added": ("#2f9e5b", "#4cc07b"),
    "removed": ("#d9822b", "#e8a15a"),
}

_SHEET: Final = (
    ":root{color-scheme:light dark;supported-color-schemes:light dark}"
    "@media (prefers-color-scheme:dark){"
    ".kb-page{background:#14161a!important;color:#e6e8ec!important}"
    ".kb-card{background:#1d2026!important;border-color:#353a44!important}"
    ".kb-soft{color:#b4bac6!important}.kb-line td,.kb-line th{border-color:#353a44!important}"
    ".kb-link{color:#9db8ff!important}"
    ".kb-button{background:#2f57b8!important;color:#ffffff!important}"
    + "".join(
        f".kb-{tone}{{color:{text}!important;background:{ground}!important}}"
        for tone, (_, _, text, ground) in TONES.items()
    )
    + "".join(f".kb-{name}{{background:{dark}!important}}" for name, (_, dark) in _PIECES.items())
    + "}"
)


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Who was in the cohort in Braze before the import, and who is (or would be) after it.

    :param stayed: users that were in it before and are afterwards.
    :param removed: users that were in it before only.
    :param added: users that are in it afterwards only.
    :param after: what the second bar is called.
    """

    stayed: int
    removed: int
    added: int
    after: str = "Now"


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the HTML part says. All texts are plain; they are escaped here.

    :param name: the cohort's name.
    :param headline: how the run ended, in a few words.
    :param tone: how to take it.
    :param lead: what happened.
    :param error: why, if it did not go well.
    :param advice: what to do now.
    :param remark: what was found by reading a sample back.
    :param users: how many users are in the cohort in Braze; None when that is not known.
    :param change: how that compares with before.
    :param bars: drawn below it.
    :param figures: label and value.
    :param about: label and value of what it is about.
    :param links: label and address, the first one as a button.
    """

    name: str
    headline: str
    tone: Tone
    lead: str
    advice: str
    error: str | None = None
    remark: str | None = None
    users: str | None = None
    change: str | None = None
    bars: Bars | None = None
    figures: Sequence[tuple[str, str]] = ()
    about: Sequence[tuple[str, str]] = ()
    links: Sequence[tuple[str, str]] = ()


def write_html(page: Page) -> str:
    """Write the page as one HTML document that loads nothing."""
    parts = [
        f'<h1 style="margin:0 0 12px;font-size:22px;line-height:1.3">{escape(page.name)}</h1>',
        _note(page.headline, page.tone, "margin:0 0 16px;font-weight:bold"),
        _paragraph(page.lead),
    ]
    if page.error:
        parts.append(_note(page.error, "bad" if page.tone == "bad" else "care", "margin:0 0 12px"))
    parts.append(_paragraph(page.advice))
    if page.remark:
        parts.append(_paragraph(page.remark))
    if page.users is not None:
        parts.append(_big(page.users, page.change))
    if page.bars is not None:
        parts.append(_bars(page.bars))
    if page.figures:
        parts.append(_figures(page.figures))
    parts += [_links(page.links), _about(page.about)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
        f"<title>{escape(page.name)}: {escape(page.headline)}</title><style>{_SHEET}</style></head>"
        '<body class="kb-page" style="margin:0;padding:16px;background:#f4f5f7;color:#1b1d21;'
        'font-family:-apple-system,Segoe UI,Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5">'
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0"><tr><td align="center">'
        '<table role="presentation" class="kb-card" width="600" cellpadding="0" cellspacing="0" '
        'style="width:100%;max-width:600px;background:#ffffff;border:1px solid #d9dce2;border-radius:8px">'
        f'<tr><td style="padding:24px;text-align:left"><div role="main">{"".join(parts)}</div></td></tr></table>'
        "</td></tr></table></body></html>"
    )


def _paragraph(text: str) -> str:
    return f'<p style="margin:0 0 12px">{escape(text)}</p>'


def _note(text: str, tone: Tone, style: str) -> str:
    color, ground, _, _ = TONES[tone]
    return (
        f'<p class="kb-{tone}" style="{style};padding:8px 12px;border-radius:6px;color:{color};background:{ground}">'
        f"{escape(text)}</p>"
    )


def _big(users: str, change: str | None) -> str:
    beside = (
        f'<br><span class="kb-soft" style="font-size:13px;color:#565d6b">{escape(change)}</span>'
        if change
        else ""
    )
    return (
        f'<p style="margin:20px 0 8px"><span style="font-size:30px;line-height:1.2;font-weight:bold">{escape(users)}'
        f"</span> users in the cohort in Braze{beside}</p>"
    )


def _bars(bars: Bars) -> str:
    before, after = bars.stayed + bars.removed, bars.stayed + bars.added
    longest = max(before, after)
    if not longest:
        return ""
    rows = (
        _bar("Before", (("stayed", bars.stayed), ("removed", bars.removed)), longest),
        _bar(bars.after, (("stayed", bars.stayed), ("added", bars.added)), longest),
    )
    return f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0">{"".join(rows)}</table>'


def _bar(label: str, pieces: Sequence[tuple[str, int]], longest: int) -> str:
    """Draw one bar; its widths add up to 100 % of the room, and nobody disappears: a piece is 1 % at least."""
    shown = [(name, count, max(1, round(100 * count / longest))) for name, count in pieces if count]
    cells = "".join(
        f'<td class="kb-{name}" width="{width}%" style="background:{_PIECES[name][0]};height:14px;line-height:14px;'
        f'font-size:1px">&nbsp;</td>'
        for name, _, width in shown
    )
    rest = 100 - sum(width for *_, width in shown)
    empty = f'<td width="{rest}%" style="font-size:1px">&nbsp;</td>' if rest > 0 else ""
    words = ", ".join(f"{count:,} {name}" for name, count, _ in shown) or "nobody"
    return (
        f'<tr><td style="padding:6px 0 2px;font-size:13px">{escape(label)}: {escape(words)}</td></tr>'
        '<tr><td><table role="presentation" width="100%" cellpadding="0" cellspacing="0" '
        f'style="table-layout:fixed"><tr>{cells}{empty}</tr></table></td></tr>'
    )


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    edge = "border-bottom:1px solid #e6e8ec"
    rows = "".join(
        f'<tr class="kb-line"><th scope="row" style="padding:4px 16px 4px 0;font-weight:normal;text-align:left;'
        f'{edge}">{escape(label)}</th>'
        f'<td style="padding:4px 0;text-align:right;white-space:nowrap;{edge}">{escape(value)}</td></tr>'
        for label, value in figures
    )
    return (
        '<table width="100%" cellpadding="0" cellspacing="0" style="margin:20px 0 0;font-size:14px">'
        f"{rows}</table>"
    )


def _links(links: Sequence[tuple[str, str]]) -> str:
    if not links:
        return ""
    (label, address), *others = links
    button = (
        f'<a class="kb-button" href="{escape(address)}" style="display:inline-block;padding:10px 16px;'
        f'border-radius:6px;background:#1d4ebf;color:#ffffff;text-decoration:none">{escape(label)}</a>'
    )
    more = "".join(
        f' &nbsp; <a class="kb-link" href="{escape(address)}" style="color:#1d4ebf">{escape(label)}</a>'
        for label, address in others
    )
    return f'<p style="margin:20px 0 0">{button}{more}</p>'


def _about(about: Sequence[tuple[str, str]]) -> str:
    rows = "<br>".join(f"{escape(label)}: {escape(value)}" for label, value in about)
    return f'<p class="kb-soft" style="margin:20px 0 0;font-size:13px;color:#565d6b">{rows}</p>'
