"""The mail at the end of a run: what to say, as text and as HTML. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime, timedelta
from html import escape

from airflow_provider_kubit_braze.core.readiness import span_text
from airflow_provider_kubit_braze.core.report import OUTCOMES, ImportResult

_PREFIX = "[Kubit → Braze]"
_SUBJECT_LIMIT = 180
_GOES_ON = "what Braze accepted is recorded, and the import goes on from there."
_FIELDS = {field.name: field for field in fields(ImportResult)}
_REQUIRED = frozenset(name for name, field in _FIELDS.items() if field.default is MISSING)


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail without addresses.

    :param subject: one line.
    :param text: the plain part; says everything the other part says.
    :param html: the HTML part; every value in it is escaped.
    """

    subject: str
    text: str
    html: str


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run of a cohort's DAG ended, seen from outside the import.

    :param dag_id: the DAG.
    :param run_id: the run.
    :param cohort_id: the cohort's id.
    :param cohort_name: the cohort's name as people know it.
    :param wait_task_id: the sensor's task; None when there is none.
    :param import_task_id: the import's task.
    :param wait_state: the sensor's state in Airflow's word, None when unknown.
    :param import_state: the import's state in Airflow's word, None when unknown.
    :param waiting_for: what the sensor last said it was waiting for.
    :param link: where to look in Airflow's pages; only http and https addresses are shown.
    """

    dag_id: str
    run_id: str
    cohort_id: str
    cohort_name: str
    wait_task_id: str | None = "wait_for_cohort"
    import_task_id: str = "import_to_braze"
    wait_state: str | None = None
    import_state: str | None = None
    waiting_for: str | None = None
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Story:
    headline: str
    lead: str
    advice: str
    error: str | None = None


def read_result(value: object, *, run_id: str, cohort_id: str) -> ImportResult | None:
    """Read the result of this run's import of this cohort from an XCom; None if the value is not that.

    :param value: what was pulled: a mapping, a list of them (a mapped import), or nothing.
    :param run_id: only a result of this run counts.
    :param cohort_id: only a result of this cohort counts.
    """
    for item in value if isinstance(value, list | tuple) else [value]:
        if (
            isinstance(item, Mapping)
            and item.keys() >= _REQUIRED
            and item["run_id"] == run_id
            and item["cohort_id"] == cohort_id
            and item["outcome"] in OUTCOMES
        ):
            return ImportResult(**{name: item[name] for name in _FIELDS if name in item})
    return None


def render_mail(run: RunEnd, result: ImportResult | None) -> Mail:
    """Write the mail of one run.

    :param run: how the run ended.
    :param result: the import's own result, or None when it left none.
    """
    name = _line(result.cohort_name if result else run.cohort_name) or run.cohort_id
    story = _tell_result(result, run) if result else _tell_states(run)
    figures = _figures(result) if result else []
    about = [
        ("Cohort", f"{name} ({_line(run.cohort_id)})"),
        ("DAG", _line(run.dag_id)),
        ("Run", _line(run.run_id)),
    ]
    link = _link(run.link)
    return Mail(
        subject=_line(f"{_PREFIX} {name}: {story.headline}")[:_SUBJECT_LIMIT],
        text=_text(story, figures, about, link),
        html=_html(name, story, figures, about, link),
    )


def _tell_result(result: ImportResult, run: RunEnd) -> _Story:
    changes = f"{result.added:,} added, {result.removed:,} removed"
    planned = f"{result.added:,} to add, {result.removed:,} to remove"
    error = result.error or None
    later_failure = run.import_state == "failed" and result.outcome not in ("failed", "stopped")
    if later_failure:
        return _Story(
            headline=f"failed after {changes}" if result.outcome != "dry_run" else "dry run, failed",
            lead=f"The figures below are recorded, but task {run.import_task_id} failed.",
            error=error,
            advice=f"The log of {run.import_task_id} says why. The next import sends only what is missing.",
        )
    match result.outcome:
        case "success":
            return _Story(
                headline=changes,
                lead=f"The import succeeded: {changes}.",
                advice="Nothing is left to do.",
            )
        case "partial":
            left = " and ".join(
                f"{count:,} {word}"
                for count, word in ((result.rejected, "rejected"), (result.unknown, "without an answer"))
                if count
            )
            return _Story(
                headline=", ".join(filter(None, (changes, left))),
                lead=f"The import succeeded in part: {changes}{', ' + left if left else ''}.",
                error=error,
                advice="Rejected users stand in the table IMPORT_REJECTED with Braze's reasons. Changes "
                "without a certain answer are sent again by the next import.",
            )
        case "unchanged":
            return _Story(
                headline="unchanged",
                lead="The cohort is the same as after the last import; nothing was sent.",
                advice="Nothing is left to do.",
            )
        case "dry_run":
            return _Story(
                headline=f"dry run, {planned}",
                lead="This was a dry run and nothing was sent. "
                f"An import would add {result.added:,} users and remove {result.removed:,}.",
                error=error,
                advice="Trigger the DAG without dry_run to import the cohort.",
            )
        case "stopped":
            return _Story(
                headline="stopped by a guard",
                lead="A guard stopped the import and nothing was sent.",
                error=error,
                advice="If the change is right, trigger the DAG once with override_guards; if not, correct "
                "the cohort at its source.",
            )
        case "failed":
            return _Story(
                headline="failed",
                lead=f"The import failed. Before that Braze accepted: {changes}.",
                error=error or "The import gave no reason.",
                advice=f"Remove the cause (the log of {run.import_task_id} has the details), then clear the "
                f"task or wait for the next run: {_GOES_ON}",
            )


def _tell_states(run: RunEnd) -> _Story:
    importing, waiting = run.import_task_id, run.wait_task_id
    if run.wait_state == "failed":
        return _Story(
            headline="failed while waiting for the cohort",
            lead=f"Nothing was imported: task {waiting} failed while it waited for the cohort.",
            error=run.waiting_for or f"The log of {waiting} says what it waited for.",
            advice=f"Set the cohort right at its source, then clear {waiting} or wait for the next run.",
        )
    if run.wait_state == "skipped" or run.import_state == "skipped":
        return _Story(
            headline="skipped",
            lead=f"Nothing was imported: task {importing} was skipped.",
            error=run.waiting_for if run.wait_state == "skipped" else None,
            advice="If it should have run, look at the tasks before it.",
        )
    if run.import_state == "upstream_failed":
        return _Story(
            headline="failed before the import",
            lead=f"Nothing was imported: a task before {importing} failed.",
            advice="Remove the cause, then clear the failed task or wait for the next run.",
        )
    if run.import_state == "failed":
        return _Story(
            headline="failed",
            lead=f"Task {importing} failed and left no figures: its process may have died.",
            advice=f"The log of {importing} has the details. Clear the task or wait for the next run: "
            f"{_GOES_ON}",
        )
    state = f"ended in state {_line(run.import_state)}" if run.import_state else "did not run"
    return _Story(
        headline="ended without figures",
        lead=f"Task {importing} {state} and left no figures of this run.",
        advice="Look at the run in Airflow.",
    )


def _figures(result: ImportResult) -> list[tuple[str, str]]:
    planned = result.outcome == "dry_run"
    counts = [
        ("Members at the source", result.members),
        ("Users imported (in the cohort in Braze now)", result.users_imported),
        ("To be added" if planned else "Added", result.added),
        ("To be removed" if planned else "Removed", result.removed),
        ("Unchanged", result.unchanged),
        ("Held out", result.held_out),
        ("Duplicate rows", result.duplicates),
        ("Rows without a usable identifier", result.invalid),
        ("Rejected by Braze", result.rejected),
        ("Without a certain answer", result.unknown),
        ("Data points planned" if planned else "Data points", result.data_points),
        ("Requests", result.requests),
        ("Requests sent again", result.retries),
    ]
    return [
        *((label, f"{count:,}") for label, count in counts),
        ("Waited for the rate limit", _seconds(result.throttled_seconds)),
        ("Duration", _seconds(result.duration_seconds)),
        ("Started", _moment(result.started_at)),
        ("Finished", _moment(result.finished_at)),
    ]


def _text(
    story: _Story, figures: list[tuple[str, str]], about: list[tuple[str, str]], link: str | None
) -> str:
    paragraphs = [_line(story.lead)]
    if story.error:
        paragraphs.append(_sentence(story.error))
    paragraphs.append(_line(story.advice))
    if figures:
        left, right = max(len(label) for label, _ in figures), max(len(value) for _, value in figures)
        paragraphs.append("\n".join(f"{label:<{left}}  {value:>{right}}" for label, value in figures))
    paragraphs.append("\n".join(f"{label}: {value}" for label, value in [*about, *_link_row(link)]))
    return "\n\n".join(paragraphs) + "\n"


def _html(
    name: str,
    story: _Story,
    figures: list[tuple[str, str]],
    about: list[tuple[str, str]],
    link: str | None,
) -> str:
    error = f'<p style="color:#a4161a">{escape(_sentence(story.error))}</p>' if story.error else ""
    table = "".join(
        f'<tr><td style="padding:2px 24px 2px 0">{escape(label)}</td>'
        f'<td style="padding:2px 0;text-align:right">{escape(value)}</td></tr>'
        for label, value in figures
    )
    rows = "<br>".join(f"{escape(label)}: {escape(value)}" for label, value in about)
    anchor = f'<br><a href="{escape(link)}">Open in Airflow</a>' if link else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"></head>'
        '<body style="font-family:sans-serif;color:#1b1b1b">'
        f"<h2>{escape(name)}: {escape(_line(story.headline))}</h2>"
        f"<p>{escape(_line(story.lead))}</p>{error}<p>{escape(_line(story.advice))}</p>"
        f'{f"<table>{table}</table>" if table else ""}<p style="color:#555">{rows}{anchor}</p></body></html>'
    )


def _line(text: str | None) -> str:
    """One line: a name with a line break may neither forge a header nor a line of the mail."""
    return " ".join("".join(char if char.isprintable() else " " for char in text or "").split())


def _sentence(text: str) -> str:
    line = _line(text)
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _link(link: str | None) -> str | None:
    return link if link and link.startswith(("http://", "https://")) and _line(link) == link else None


def _link_row(link: str | None) -> list[tuple[str, str]]:
    return [("In Airflow", link)] if link else []


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else span_text(timedelta(seconds=round(seconds)), units=3)


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _line(text) or "unknown"
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()
