"""Is a cohort ready to be imported: pure judgement over what was measured in the warehouse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

REASON_KEY = "waiting_for"
"""XCom key under which the sensor leaves what it is waiting for; the mail at the end of the run reads it."""


@dataclass(frozen=True, kw_only=True)
class CohortMeasure:
    """What the warehouse said about a cohort at one moment.

    :param exists: whether the table, or every table the SQL reads, is there.
    :param members: rows in the source, or None when they were not counted.
    :param newest: the newest value of the ready column, in UTC, or None when it is empty or was not asked
        for.
    """

    exists: bool
    members: int | None = None
    newest: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What a cohort must show before it is imported.

    :param min_members: rows it must have at least; 0 asks for none.
    :param within: how old the newest value of ``column`` may be at most; None does not look at its age.
    :param column: the column that says when the cohort was computed, such as ``COMPUTED_AT``.
    :param table: the table's name for the sentences; None when the source is SQL.
    """

    min_members: int = 1
    within: timedelta | None = None
    column: str | None = None
    table: str | None = None

    def __post_init__(self) -> None:
        if (self.within is None) != (self.column is None):
            raise ValueError("A ready column and its greatest age belong together: give both or neither.")
        if self.within is not None and self.within <= timedelta():
            raise ValueError(f"The greatest age of the ready column must be above zero, not {self.within}.")
        if self.min_members < 0:
            raise ValueError(f"The smallest number of members must be 0 or more, not {self.min_members}.")


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """The judgement.

    :param ready: whether the import may begin.
    :param reason: one phrase for the log: what is waited for, or what was found.
    """

    ready: bool
    reason: str


def judge(measure: CohortMeasure, requirement: Requirement, reference: datetime) -> Readiness:
    """Judge a cohort against what is required of it.

    :param measure: what the warehouse said.
    :param requirement: what the cohort must show.
    :param reference: the moment its age is measured against: the run's own time, so that a late look does not
        make the data older. A value after the reference is fresh.
    :raises ValueError: if ``reference`` or ``measure.newest`` has no zone.
    """
    if reference.tzinfo is None or (measure.newest is not None and measure.newest.tzinfo is None):
        raise ValueError("An age can only be measured between times that have a zone.")
    if not measure.exists:
        name = f"table {requirement.table}" if requirement.table else "a table that the SQL reads"
        return Readiness(ready=False, reason=f"{name} does not exist yet, or the role may not read it")
    waiting: list[str] = []
    found: list[str] = []
    if requirement.within is not None and requirement.column is not None:
        ready, phrase = _judge_age(requirement.column, measure.newest, requirement.within, reference)
        (found if ready else waiting).append(phrase)
    if requirement.min_members > 0:
        members = measure.members or 0
        phrase = f"the cohort has {members:,} {'member' if members == 1 else 'members'}"
        if members < requirement.min_members:
            waiting.append(f"{phrase}, waiting for at least {requirement.min_members:,}")
        else:
            found.append(phrase)
    if waiting:
        return Readiness(ready=False, reason="; ".join(waiting))
    return Readiness(ready=True, reason="; ".join(found) or "the cohort exists")


def _judge_age(
    column: str, newest: datetime | None, within: timedelta, reference: datetime
) -> tuple[bool, str]:
    limit = span_text(within, units=4)
    if newest is None:
        return False, f"{column} is empty"
    # A run's own time is pendulum's, whose differences are no plain timedelta.
    age = timedelta(seconds=(reference - newest).total_seconds())
    if age <= timedelta():
        return True, f"{column} is not older than the run"
    if age <= within:
        return True, f"{column} is {span_text(age)} old, at most {limit} is asked for"
    text = span_text(age)
    # "26 h old, waiting for 26 h" would be no reason at all: say the minutes, too.
    return (
        False,
        f"{column} is {span_text(age, units=4) if text == limit else text} old, waiting for {limit}",
    )


def span_text(span: timedelta, units: int = 2) -> str:
    """Write a length of time for people, such as ``31 h`` or ``26 h 10 min``; parts of a second count as one.

    :param span: the length; negative ones read as zero.
    :param units: how many units to show at most; what is left over is dropped.
    """
    seconds = max(0, -(-span // timedelta(seconds=1)))
    # Up to three days people think in hours: the limits of cohort files are written so.
    days, seconds = divmod(seconds, 86400) if seconds >= 3 * 86400 else (0, seconds)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    named = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    parts = [f"{count} {unit}" for count, unit in named if count]
    return " ".join(parts[:units]) or "0 s"
