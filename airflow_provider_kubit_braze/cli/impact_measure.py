"""``kubit-braze impact COHORT``: what Braze's messages did to a cohort, measured now."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.cli.context import Subject, WrongUseError
from airflow_provider_kubit_braze.cli.impact_screen import print_report
from airflow_provider_kubit_braze.cli.screen import print_json
from airflow_provider_kubit_braze.core.impact.html_report import impact_html
from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.core.run import COMMAND, RunIdentity
from airflow_provider_kubit_braze.exceptions import CohortConfigError
from airflow_provider_kubit_braze.measuring import measure_alone

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

#: Option of the command line -> field of the question.
_OPTIONS = {
    "share": "source",
    "app_group_id": "app_group_id",
    "goal": "goal",
    "window": "window",
    "since": "since",
    "until": "until",
    "timezone": "timezone",
}


def measure(arguments: argparse.Namespace) -> int:
    """Measure, and show or write what was found.

    :param arguments: ``cohort``, ``file``, the connections, what the question is made of, ``full_refresh``, ``json``
        and ``html``.
    :return: the exit code: 0, as a verdict of any kind is no failure.
    """
    subject = Subject.of(arguments)
    # Whatever is wrong with the command line is said before anything is asked.
    question, asked = question_of(subject, arguments), question_of_file(subject)
    target = _target(arguments.html)
    report = measure_alone(
        question,
        open_session=subject.open_session,
        identity=RunIdentity(dag_id="", run_id=f"impact__{uuid.uuid4().hex}", task_id=COMMAND),
        tables=subject.tables,
        workspace=subject.settings.workspace,
        cohort_id=subject.cohort.id,
        cohort_name=subject.cohort.name if subject.file else None,
        holdout=subject.cohort.holdout if subject.file else None,
        now=datetime.now(UTC),
        full_refresh=arguments.full_refresh,
        # What the cohort's DAG asks every day has to stay in the summary.
        keep=question == asked,
    ).as_dict()
    if target is not None:
        target.write_text(impact_html(report), encoding="utf-8")
    if arguments.json:
        print_json(report)
    else:
        print_report(report)
    return 0


def question_of(
    subject: Subject, arguments: argparse.Namespace, *, days_of_file: bool = True
) -> ImpactQuestion:
    """Return the question: that of the cohort file, as far as the command line does not ask another one.

    :param days_of_file: whether the first and the last day of the cohort file are meant, too.
    :raises WrongUseError: when it makes no sense, or nothing says where the share is.
    """
    cohort = subject.cohort
    known: dict[str, Any] = {"source": cohort.braze.share, "app_group_id": cohort.braze.app_group_id}
    if (asked := question_of_file(subject)) is not None:
        known = dict(asked) if days_of_file else {**dict(asked), "since": None, "until": None}
    given = {field: getattr(arguments, option) for option, field in _OPTIONS.items()}
    _check_days(known, arguments)
    known |= {field: value for field, value in given.items() if value is not None}
    if arguments.campaign or arguments.canvas:
        # Those that are named, and no others.
        known |= {"campaigns": tuple(arguments.campaign), "canvases": tuple(arguments.canvas)}
    for field, option in (("source", "--share DB.SCHEMA"), ("app_group_id", "--app-group-id ID")):
        if known[field] is None:
            raise WrongUseError(
                f"Nothing says where Braze's data share is: give {option}, or the cohort file (--file) whose keys "
                "impact, or braze.share and braze.app_group_id, say it."
            )
    try:
        return ImpactQuestion(**known)
    except CohortConfigError as error:
        raise WrongUseError(str(error)) from None


def _check_days(known: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Say of a day that was typed, and one of the cohort file, which is which when they are in the wrong order.

    :param known: what the file says.
    """
    since, until = arguments.since, arguments.until
    if (since is None) == (until is None):
        return
    try:
        typed = date.fromisoformat(since or until)
    except ValueError:
        return  # which the question says
    first, last = known.get("since"), known.get("until")
    if until is not None and first is not None and typed < first:
        raise WrongUseError(
            f"--until {until} is before {first}, the first day in the cohort file: give --since as well."
        )
    if since is not None and last is not None and typed > last:
        raise WrongUseError(
            f"--since {since} is after {last}, the last day in the cohort file: give --until as well."
        )


def question_of_file(subject: Subject) -> ImpactQuestion | None:
    """Return what the cohort's DAG asks; None when its file has no ``impact``."""
    impact = subject.cohort.impact
    return ImpactQuestion(**impact.model_dump(exclude={"at"})) if impact is not None else None


def _target(path: str | None) -> Path | None:
    if path is None:
        return None
    target = Path(path)
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise WrongUseError(f"{path} cannot be written: name a file in a folder that is there.")
    return target
