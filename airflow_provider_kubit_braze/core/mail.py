"""The mail at the end of a run: what to say, as text and as HTML. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeGuard

from airflow_provider_kubit_braze.core.mail_html import Bars, Page, write_html
from airflow_provider_kubit_braze.core.mail_story import PURPOSES, tell_result, tell_states
from airflow_provider_kubit_braze.core.readiness import span_text
from airflow_provider_kubit_braze.core.report import OUTCOMES, ImportResult
from airflow_provider_kubit_braze.core.verification import Verification

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.mail_html import Tone

NotifyWhen = Literal["always", "success", "change", "failure"]
"""Which ends of a run are mailed: all; those without a failure; those that changed who is in the cohort, and all that
need a look; only those that need a look (failed, stopped by a guard, succeeded in part)."""

_PREFIX = "[Kubit → Braze]"
_SUBJECT_LIMIT = 180
_FIELDS = {field.name: field for field in fields(ImportResult)}
_REQUIRED = frozenset(name for name, field in _FIELDS.items() if field.default is MISSING)
_VERIFIED = tuple(field.name for field in fields(Verification))


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail without addresses.

    :param subject: one line.
    :param text: the plain part; says everything the other part says.
    :param html: the HTML part; every value in it is escaped.
    :param tone: how the run ended, from ``good`` to ``bad``.
    :param changed: somebody was added or removed.
    """

    subject: str
    text: str
    html: str
    tone: Tone = "plain"
    changed: bool = False

    def is_wanted(self, when: NotifyWhen) -> bool:
        """Whether it is to be sent: what needs a look is kept from nobody but those who ask for successes only."""
        if when == "always":
            return True
        if when == "success":
            return self.tone != "bad"
        return self.tone in ("care", "bad") or (when == "change" and self.changed)


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
    :param why: why the import failed, where it left no result.
    :param link: where to look in Airflow's pages; only http and https addresses are shown.
    :param page: where the cohort's history is; the same.
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
    why: str | None = None
    link: str | None = None
    page: str | None = None


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
            and item.get("purpose", "import") in PURPOSES
        ):
            return ImportResult(**{name: item[name] for name in _FIELDS if name in item})
    return None


def render_mail(run: RunEnd, result: ImportResult | None) -> Mail:
    """Write the mail of one run.

    :param run: how the run ended.
    :param result: the import's own result, or None when it left none.
    """
    name = _line(result.cohort_name if result else run.cohort_name) or run.cohort_id
    story = tell_result(result, run) if result else tell_states(run)
    error = _sentence(story.error) if story.error else None
    page = Page(
        name=name,
        headline=_line(story.headline),
        tone=story.tone,
        lead=_line(story.lead),
        error=error,
        advice=_line(story.advice),
        remark=_remark(result) if result else None,
        users=f"{result.users_imported:,}" if result else None,
        change=_change(result) if result else None,
        bars=_bars(result) if result else None,
        figures=_figures(result) if result else (),
        about=(
            ("Cohort", f"{name} ({_line(run.cohort_id)})"),
            ("DAG", _line(run.dag_id)),
            ("Run", _line(run.run_id)),
        ),
        links=[
            (label, address)
            for label, address in (("Open the run in Airflow", run.link), ("History of the cohort", run.page))
            if _is_link(address)
        ],
    )
    return Mail(
        subject=_line(f"{_PREFIX} {name}: {story.headline}")[:_SUBJECT_LIMIT],
        text=_text(page),
        html=write_html(page),
        tone=story.tone,
        changed=result is not None and result.outcome != "dry_run" and result.added + result.removed > 0,
    )


def _remark(result: ImportResult) -> str | None:
    """Return Braze's words for what it rejected, and what reading a sample back has shown."""
    reasons = result.rejected_reasons if isinstance(result.rejected_reasons, Mapping) else {}
    said = ", ".join(f"“{_line(str(words))}” ({count})" for words, count in reasons.items())
    parts = [f"Braze rejected users with these words: {said}." if said else None, _verified(result)]
    return " ".join(filter(None, parts)) or None


def _verified(result: ImportResult) -> str | None:
    """Return what reading a sample back has shown; None without one, or of a form that is not known here."""
    said = result.verification or {}
    if isinstance(said.get("error"), str):
        return _line(said["error"])
    try:
        found = Verification(**{name: said[name] for name in _VERIFIED})
    except (KeyError, TypeError, ValueError):
        return None
    return found.sentence()


def _figures(result: ImportResult) -> list[tuple[str, str]]:
    planned = result.outcome == "dry_run"
    sometimes = (
        ("Rejected before and not sent again yet", result.set_aside),
        ("Unknown to Braze, tried again by the next import", result.unmatched),
    )
    counts = [
        ("Members at the source", result.members),
        ("Users imported (in the cohort in Braze now)", result.users_imported),
        ("Users in the cohort in Braze before", result.users_before),
        ("To be added" if planned else "Added", result.added),
        ("To be removed" if planned else "Removed", result.removed),
        ("Unchanged", result.unchanged),
        ("Held out", result.held_out),
        ("Duplicate rows", result.duplicates),
        ("Rows without a usable identifier", result.invalid),
        ("Rejected by Braze", result.rejected),
        ("Without a certain answer", result.unknown),
        *((label, count) for label, count in sometimes if count),
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


def _change(result: ImportResult) -> str | None:
    """Compare with before the import, where the import may have changed something."""
    if result.outcome not in ("success", "partial", "failed") or not result.members + result.users_before:
        return None
    before, more = result.users_before, result.users_imported - result.users_before
    if not more:
        return f"{before:,} before this import: no more and no fewer"
    share = f", {more / before:+.1%}" if before else ""
    return f"{before:,} before this import ({more:+,}{share})"


def _bars(result: ImportResult) -> Bars | None:
    if not result.added + result.removed:
        return None
    planned = result.outcome == "dry_run"
    # Of an import that was read back and corrected, what is known now counts.
    stayed = result.users_before - result.removed if planned else result.users_imported - result.added
    return Bars(
        stayed=max(0, stayed),
        removed=result.removed,
        added=result.added,
        after="After an import" if planned else "Now",
    )


def _text(page: Page) -> str:
    paragraphs = [page.lead, *filter(None, (page.error,)), page.advice, *filter(None, (page.remark,))]
    if page.users is not None:
        change = f"; {page.change}" if page.change else ""
        paragraphs.append(f"{page.users} users in the cohort in Braze{change}.")
    if page.figures:
        left, right = (max(len(one[side]) for one in page.figures) for side in (0, 1))
        paragraphs.append("\n".join(f"{label:<{left}}  {value:>{right}}" for label, value in page.figures))
    paragraphs.append("\n".join(f"{label}: {value}" for label, value in [*page.about, *page.links]))
    return "\n\n".join(paragraphs) + "\n"


def _line(text: str | None) -> str:
    """One line: a name with a line break may neither forge a header nor a line of the mail."""
    return " ".join("".join(char if char.isprintable() else " " for char in text or "").split())


def _sentence(text: str) -> str:
    line = _line(text)
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _is_link(address: str | None) -> TypeGuard[str]:
    return bool(address and address.startswith(("http://", "https://")) and _line(address) == address)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else span_text(timedelta(seconds=round(seconds)), units=3)


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _line(text) or "unknown"
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()
