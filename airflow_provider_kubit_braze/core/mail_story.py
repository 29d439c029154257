"""What the mail at the end of a run tells: a headline, a sentence, and what to do now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from airflow_provider_kubit_braze.core.run import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_kubit_braze.core.mail import RunEnd
    from airflow_provider_kubit_braze.core.mail_html import Tone
    from airflow_provider_kubit_braze.core.report import ImportResult

PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

_GOES_ON = "what Braze accepted is recorded, and the import goes on from there."


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a mail says in words.

    :param headline: a few words, also the end of the subject.
    :param lead: what happened.
    :param advice: what to do now.
    :param tone: how to take it: ``bad`` wants somebody to act, ``care`` somebody to look.
    :param error: why, in the import's own words.
    """

    headline: str
    lead: str
    advice: str
    tone: Tone
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Words:
    """How an import of one purpose is told.

    :param noun: what it is.
    :param changes: what was done; ``{added}`` and ``{removed}`` stand for the figures.
    :param planned: what would be done.
    :param done: goes before ``changes`` when all went well.
    :param done_in_part: goes before ``changes`` when some of it did not.
    :param failing: goes before a bad end.
    :param unchanged: the headline when there was nothing to do.
    :param nothing_sent: the same as a sentence.
    :param afterwards: what to do after a good end.
    :param after_failure: what to know when the task failed all the same.
    :param rest: what becomes of the changes that Braze did not take.
    :param rehearsal: what a dry run of it is called.
    :param would: what it would do, as a sentence.
    :param carry_out: how a dry run becomes real.
    :param resume: what goes on from where it failed.
    """

    noun: str
    changes: str
    planned: str
    done: str
    done_in_part: str
    failing: str
    unchanged: str
    nothing_sent: str
    afterwards: str
    after_failure: str
    rest: str
    rehearsal: str
    would: str
    carry_out: str
    resume: str


_WORDS: Final[dict[Purpose, _Words]] = {
    "import": _Words(
        noun="import",
        changes="{added} added, {removed} removed",
        planned="{added} to add, {removed} to remove",
        done="",
        done_in_part="",
        failing="",
        unchanged="unchanged",
        nothing_sent="The cohort is the same as after the last import; nothing was sent.",
        afterwards="Nothing is left to do.",
        after_failure="The next import sends only what is missing.",
        rest="Changes without a certain answer are sent again by the next import.",
        rehearsal="dry run",
        would="An import would add {added} users and remove {removed}.",
        carry_out="Trigger the DAG without dry_run to import the cohort.",
        resume="clear the task or wait for the next run",
    ),
    "undo": _Words(
        noun="undo of the last import",
        changes="{removed} removed again, {added} added back",
        planned="{removed} to remove again, {added} to add back",
        done="undone: ",
        done_in_part="undone in part: ",
        failing="undo ",
        unchanged="undone: nothing had to be changed",
        nothing_sent="Braze is as it was before the last import; nothing had to be sent.",
        afterwards="The next import follows the source again: pause the DAG until the source is right.",
        after_failure="The next import follows the source again.",
        rest="Changes without a certain answer are put right by the next import, which follows the source again: "
        "pause the DAG until the source is right.",
        rehearsal="dry run of an undo",
        would="The undo would remove {removed} users again and add {added} back.",
        carry_out="Do the same without dry_run to undo the last import.",
        resume="clear the task",
    ),
    "retire": _Words(
        noun="retirement of the cohort",
        changes="{removed} removed",
        planned="{removed} to remove",
        done="retired: ",
        done_in_part="retired in part: ",
        failing="retirement ",
        unchanged="retired: nobody was left",
        nothing_sent="Nobody of the cohort was left in Braze; nothing was sent.",
        afterwards="Delete the cohort's file or pause its DAG now: the next import would fill the cohort again.",
        after_failure="The next import would fill the cohort again.",
        rest="They may still be in Braze: retire the cohort again before its file is deleted.",
        rehearsal="dry run of a retirement",
        would="The retirement would remove {removed} users.",
        carry_out="Do the same without dry_run to take everybody out of Braze.",
        resume="clear the task",
    ),
}


def tell_result(result: ImportResult, run: RunEnd) -> Story:
    """Tell an import by its own result.

    :param result: what the import left.
    :param run: how the run ended.
    """
    words, error = _WORDS[result.purpose], result.error or None
    figures = {"added": f"{result.added:,}", "removed": f"{result.removed:,}"}
    changes, planned = words.changes.format(**figures), words.planned.format(**figures)
    later_failure = run.import_state == "failed" and result.outcome not in ("failed", "stopped")
    if later_failure:
        return Story(
            tone="bad",
            headline=f"failed after {changes}" if result.outcome != "dry_run" else "dry run, failed",
            lead=f"The figures below are recorded, but task {run.import_task_id} failed.",
            error=error,
            advice=f"The log of {run.import_task_id} says why. {words.after_failure}",
        )
    match result.outcome:
        case "success":
            return Story(
                tone="good",
                headline=f"{words.done}{changes}",
                lead=f"The {words.noun} succeeded: {changes}.",
                error=error,
                advice=words.afterwards,
            )
        case "partial":
            left = _and(
                f"{count:,} {word}"
                for count, word in (
                    (result.rejected, "rejected"),
                    (result.unknown, "without an answer"),
                    (result.unmatched, "unknown to Braze"),
                )
                if count
            )
            changes = ", ".join(filter(None, (changes, left)))
            refused = (
                "Rejected users stand in the table IMPORT_REJECTED with Braze's reasons. "
                if result.rejected
                else ""
            )
            strangers = "Users unknown to Braze stand in IMPORT_UNMATCHED. " if result.unmatched else ""
            return Story(
                tone="care",
                headline=f"{words.done_in_part}{changes}",
                lead=f"The {words.noun} succeeded in part: {changes}.",
                error=error,
                advice=f"{refused}{strangers}{words.rest}",
            )
        case "unchanged":
            return Story(
                tone="plain",
                headline=words.unchanged,
                lead=words.nothing_sent,
                error=error,
                advice=words.afterwards,
            )
        case "dry_run":
            return Story(
                tone="plain",
                headline=f"{words.rehearsal}, {planned}",
                lead=f"This was a {words.rehearsal} and nothing was sent. {words.would.format(**figures)}",
                error=error,
                advice=words.carry_out,
            )
        case "stopped":
            return Story(
                tone="bad",
                headline=f"{words.failing}stopped by a guard",
                lead=f"A guard stopped the {words.noun} and nothing was sent.",
                error=error,
                advice="If the change is right, trigger the DAG once with override_guards; if not, correct "
                "the cohort at its source.",
            )
        case "failed":
            return Story(
                tone="bad",
                headline=f"{words.failing}failed",
                lead=f"The {words.noun} failed. Before that Braze accepted: {changes}.",
                error=error or f"The {words.noun} gave no reason.",
                advice=f"Remove the cause (the log of {run.import_task_id} has the details), then {words.resume}: "
                f"{_GOES_ON}",
            )


def tell_states(run: RunEnd) -> Story:
    """Tell a run whose import left no result.

    :param run: how the run ended.
    """
    importing, waiting = run.import_task_id, run.wait_task_id
    if run.wait_state == "failed":
        return Story(
            tone="bad",
            headline="failed while waiting for the cohort",
            lead=f"Nothing was imported: task {waiting} failed while it waited for the cohort.",
            error=run.waiting_for or f"The log of {waiting} says what it waited for.",
            advice=f"Set the cohort right at its source, then clear {waiting} or wait for the next run.",
        )
    if run.wait_state == "skipped" or run.import_state == "skipped":
        return Story(
            tone="plain",
            headline="skipped",
            lead=f"Nothing was imported: task {importing} was skipped.",
            error=run.waiting_for if run.wait_state == "skipped" else None,
            advice="If it should have run, look at the tasks before it.",
        )
    if run.import_state == "upstream_failed":
        return Story(
            tone="bad",
            headline="failed before the import",
            lead=f"Nothing was imported: a task before {importing} failed.",
            advice="Remove the cause, then clear the failed task or wait for the next run.",
        )
    if run.import_state == "failed":
        return Story(
            tone="bad",
            headline="failed",
            lead=f"Task {importing} failed and left no figures{'' if run.why else ': its process may have died'}.",
            error=run.why,
            advice=f"The log of {importing} has the details. Clear the task or wait for the next run: "
            f"{_GOES_ON}",
        )
    state = f"ended in state {run.import_state}" if run.import_state else "did not run"
    return Story(
        tone="care",
        headline="ended without figures",
        lead=f"Task {importing} {state} and left no figures of this run.",
        advice="Look at the run in Airflow.",
    )


def _and(parts: Iterable[str]) -> str:
    *others, last = [*parts] or [""]
    return f"{', '.join(others)} and {last}" if others else last
