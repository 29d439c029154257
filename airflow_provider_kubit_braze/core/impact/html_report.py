"""A measured impact as one HTML file to send on: no script, nothing loaded, everything escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.impact import html_charts
from airflow_provider_kubit_braze.core.impact.html_charts import funnel_rows, interval_svg, trends
from airflow_provider_kubit_braze.core.impact.showing import (
    BY_BRAZE,
    FIGURES,
    INTERVALS,
    MEASURES,
    NAMES,
    NO_SUM,
    NOT_KNOWN,
    VERDICTS,
    base_of,
    before_after_rows,
    control_of,
    covered_words,
    effect_words,
    effects_of,
    figure,
    headline_of,
    kind_of,
    lift_words,
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
from airflow_provider_kubit_braze.core.mail_html import TONES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Text and its ground are at least 4.5 : 1 apart in both, and what is drawn 3 : 1 (WCAG 2.2, 1.4.3 and 1.4.11).
_LIGHT: Final = (
    "--page:#f4f5f7;--card:#ffffff;--text:#1b1d21;--quiet:#565d6b;--line:#d9dce2;--soft:#e6e8ec;"
    "--link:#1d4ebf;--mark:#3f66c4;"
)
_DARK: Final = (
    "--page:#14161a;--card:#1d2026;--text:#e6e8ec;--quiet:#b4bac6;--line:#4a505c;--soft:#353a44;"
    "--link:#9db8ff;--mark:#8aa8ee;"
)


def _tones(first: int) -> str:
    return "".join(
        f"--{tone}:{colors[first]};--{tone}-ground:{colors[first + 1]};" for tone, colors in TONES.items()
    )


_SHEET: Final = (
    f":root{{color-scheme:light dark;{_LIGHT}{_tones(0)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_DARK}{_tones(2)}}}}}"
    f"@media print{{:root{{color-scheme:light;{_LIGHT}{_tones(0)}}}"
    "body{padding:0;background:none}main,section{border:0;padding:0}"
    ".keep,tr,.small{break-inside:avoid}h2,h3{break-after:avoid}}"
    "*{box-sizing:border-box;print-color-adjust:exact;-webkit-print-color-adjust:exact}"
    "body{margin:0;padding:16px;background:var(--page);color:var(--text);"
    "font:15px/1.5 -apple-system,Segoe UI,Helvetica,Arial,sans-serif}"
    "main{max-width:860px;margin:0 auto}"
    "section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:20px 24px;margin:16px 0}"
    "h1{font-size:24px;line-height:1.3;margin:0}h2{font-size:20px;line-height:1.3;margin:0 0 8px}"
    "h3{font-size:16px;margin:24px 0 8px}h4{font-size:14px;margin:0}h1,h2,h3,td,li,p,tbody th{overflow-wrap:anywhere}"
    "p{margin:0 0 10px}a{color:var(--link)}.hint{color:var(--quiet);font-size:13px}"
    ".kind{color:var(--quiet);font-size:13px;font-weight:normal;display:block}"
    ".verdict{font-size:19px;line-height:1.4;border-radius:6px;padding:12px 16px;margin:0 0 14px}"
    ".verdict strong{display:block;font-size:14px}"
    + "".join(f".{tone}{{color:var(--{tone});background:var(--{tone}-ground)}}" for tone in TONES)
    + ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}"
    "th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:middle}"
    "tbody th{font-weight:normal;min-width:110px}td{min-width:60px}"
    ".figure{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    "thead .figure{white-space:normal}.drawn{width:45%;padding-left:8px}"
    ".word{display:inline-block;padding:0 8px;border-radius:999px}"
    ".trends{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:16px}"
    ".small p{margin:0}.ends{display:flex;justify-content:space-between}"
    ".facts{display:flex;flex-wrap:wrap;gap:6px 28px;margin:10px 0 0}.facts dt{color:var(--quiet);font-size:13px}"
    ".facts dd{margin:0;font-weight:600}ul{margin:0 0 12px;padding-left:20px}" + html_charts.SHEET
)


def impact_html(report: Mapping[str, Any]) -> str:
    """Write a report as one HTML document that loads nothing.

    :param report: the report as JSON, whole: with days and variations.
    """
    messages = report["messages"]
    title = f"{subject_of(report)}: impact"
    parts = [
        _head(report),
        _side_by_side(messages) if len(messages) > 1 else "",
        *(
            _message(number, message, window=report["window_seconds"])
            for number, message in enumerate(messages)
        ),
        _bounds(report),
        _about(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_SHEET}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )


def _head(report: Mapping[str, Any]) -> str:
    facts = (
        ("Measured", report["measure"]),
        ("Days", period_of(report)),
        ("The data go until", moment(report["data_until"])),
    )
    empty = "" if report["messages"] else _paragraph(nobody_words(report))
    return (
        f'<section><h1>{escape(subject_of(report))}<span class="kind">Impact of messages from Braze</span></h1>'
        f"{_facts(facts)}{empty}</section>"
    )


def _side_by_side(messages: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for number, message in enumerate(messages):
        word, _, tone = headline_of(message)
        effect = message["experiments"][0]["conversion"] if message["experiments"] else None
        lift = (effect and lift_words(effect)) or "not judged"
        cells = "".join(
            f'<td class="figure">{escape(figure(key, message["figures"][key], message["currency"]))}</td>'
            for key in ("reached", "converted")
        )
        rows.append(
            f'<tr><th scope="row"><a href="#m{number}">{escape(name_of(message))}</a></th>{cells}'
            f'<td>{escape(lift)}</td><td><span class="word {tone}">{escape(word)}</span></td></tr>'
        )
    return (
        '<section class="keep"><h2>Side by side</h2>'
        + _table(
            "Side by side",
            ("Message", "Reached", NAMES["converted"], "Lift of conversion", "Verdict"),
            rows,
            figures=(1, 2),
        )
        + "</section>"
    )


def _message(number: int, message: Mapping[str, Any], *, window: float) -> str:
    word, sentence, tone = headline_of(message)
    waiting = waiting_words(message)
    parts = [
        f'<h2>{escape(name_of(message))}<span class="kind">{escape(_kind_and_reach(message))}</span></h2>',
        f'<p class="verdict {tone}"><strong>{escape(word)}</strong>{escape(sentence)}</p>',
        *(_experiment(one, said=sentence, window=window) for one in message["experiments"]),
        f'<p class="hint">{escape(waiting)}</p>' if waiting else "",
        _before_after(message, said=sentence),
        _funnel(message),
        _lines(
            "By channel", ("Channel",), ((one, (one["channel"],)) for one in message["channels"]), message
        ),
        _lines(
            "By variation",
            ("Variation", "Channel"),
            ((one, (variation_of(one), one["channel"])) for one in message["variations"]),
            message,
        ),
        _days(message),
    ]
    return f'<section id="m{number}">{"".join(parts)}</section>'


def _kind_and_reach(message: Mapping[str, Any]) -> str:
    reach = (
        f"reached people from {moment(message['first_reach'])} to {moment(message['last_reach'])}"
        if message["first_reach"]
        else ""
    )
    return ", ".join(filter(None, (kind_of(message), reach)))


def _experiment(experiment: Mapping[str, Any], *, said: str, window: float) -> str:
    warning = ratio_warning(experiment)
    reached = reached_words(experiment)
    return (
        f'<div class="keep"><h3>Against {escape(control_of(experiment))}</h3>'
        f'<p class="hint">{escape(sizes_of(experiment))}<br>{escape(covered_words(experiment, window))}</p>'
        + (f'<p class="verdict bad">{escape(warning)}</p>' if warning else "")
        + "".join(_effect(one, experiment["control_kind"], said=said) for one in effects_of(experiment))
        + (f'<p class="hint">{escape(reached)}</p>' if reached else "")
        + "</div>"
    )


def _effect(effect: Mapping[str, Any], control_kind: str, *, said: str) -> str:
    word, tone = VERDICTS[effect["verdict"]]
    told = effect_words(effect, control_kind, said=said)
    return (
        f'<h4>{MEASURES[effect["measure"]]} <span class="word {tone}">{escape(word)}</span></h4>'
        f"{_paragraph(told) if told else ''}{interval_svg(effect)}"
    )


def _before_after(message: Mapping[str, Any], *, said: str) -> str:
    told = message["before_after"]
    if not told:
        return ""
    rows = (
        f'<tr><th scope="row">{name}</th>'
        + "".join(f'<td class="figure">{escape(cell)}</td>' for cell in cells)
        + "</tr>"
        for name, *cells in before_after_rows(told)
    )
    sentence = _paragraph(told["sentence"]) if told["sentence"] != said else ""
    return (
        f'<div class="keep"><h3>Before and after: {escape(told["label"])}</h3>{sentence}'
        + _table("Before and after", ("", "Users", "Converted", "Revenue"), rows, figures=(1, 2, 3))
        + "</div>"
    )


def _funnel(message: Mapping[str, Any]) -> str:
    figures = message["figures"]
    facts = tuple(
        (NAMES[key], figure(key, figures[key], message["currency"]))
        for key in ("sends", "revenue", "opted_out")
    )
    return (
        '<div class="keep"><h3>From reached to converted</h3>'
        + _table(
            "From reached to converted",
            ("Step", "Users", f"Of those {base_of(figures)}", ""),
            [funnel_rows(figures)],
            figures=(1, 2),
        )
        + f'{_facts(facts)}<p class="hint">{escape(BY_BRAZE)}</p></div>'
    )


def _lines(
    title: str,
    heads: tuple[str, ...],
    lines: Iterable[tuple[Mapping[str, Any], tuple[str, ...]]],
    message: Mapping[str, Any],
) -> str:
    rows = []
    for line, (name, *others) in lines:
        cells = "".join(f"<td>{escape(one)}</td>" for one in others) + "".join(
            f'<td class="figure">{escape(figure(key, line["figures"][key], message["currency"]))}</td>'
            for key, _ in FIGURES
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    if not rows:
        return ""
    names = (*heads, *(name for _, name in FIGURES))
    figures = tuple(range(len(heads), len(names)))
    return f'<div class="keep"><h3>{title}</h3>{_table(title, names, rows, figures=figures)}</div>'


def _days(message: Mapping[str, Any]) -> str:
    drawn = trends(message["days"], message["currency"])
    return f'<h3>Day by day</h3><div class="trends">{drawn}</div>' if drawn else ""


def _bounds(report: Mapping[str, Any]) -> str:
    left_out = report["messages_left_out"]
    notes = list(report["notes"])
    if left_out:
        notes.append(f"Messages that reached fewer people and are not shown here: {left_out:,}.")
    lists = [
        f"<h3>{title}</h3><ul>{''.join(f'<li>{escape(one)}</li>' for one in told)}</ul>"
        for title, told in (
            (f"What is {NOT_KNOWN}", report["missing"]),
            ("What the figures hold besides", report["limits"]),
            ("Notes", notes),
        )
        if told
    ]
    return f"<section><h2>Limits</h2>{''.join(lists)}</section>" if lists else ""


def _about(report: Mapping[str, Any]) -> str:
    run = f", run {report['run_id']}" if report["run_id"] else ""
    measured = f"Measured on {moment(report['measured_at'])}{run}. Cohort {report['cohort_id']}."
    return f'<p class="hint">{escape(f"{INTERVALS} {NO_SUM}")}</p><p class="hint">{escape(measured)}</p>'


def _table(title: str, heads: Iterable[str], rows: Iterable[str], *, figures: tuple[int, ...]) -> str:
    cells = "".join(
        (
            f'<th scope="col" class="figure">{escape(one)}</th>'
            if at in figures
            else f'<th scope="col">{escape(one)}</th>'
        )
        if one
        else "<td></td>"
        for at, one in enumerate(heads)
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{title}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    told = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{told}</dl>'


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
