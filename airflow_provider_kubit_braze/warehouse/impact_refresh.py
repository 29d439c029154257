"""Bring the measured days of a cohort up to date: only those of which something new has arrived."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.exceptions import CohortConfigError
from airflow_provider_kubit_braze.warehouse.impact_people import stays_of
from airflow_provider_kubit_braze.warehouse.impact_sql import KEY, epoch_of
from airflow_provider_kubit_braze.warehouse.session import split_name, stored_name
from airflow_provider_kubit_braze.warehouse.stays import utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.tellings import Tellings
    from airflow_provider_kubit_braze.warehouse.impact_days import Days
    from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)

#: What counts, and how: with other rules, what was measured before means something else.
_RULES: Final = 3

#: Rows count as new for so long after they were last looked for: Braze writes when it has loaded a row without a time
#: zone in some tables, and a row is seen only when its load has ended.
_OVERLAP: Final = timedelta(days=1)

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """What has been measured.

    :param days: days that were measured anew.
    :param data_until: the latest event of the share, in epoch seconds; None without any.
    :param goal_until: the latest event of the table that tells the goal: until then it is known what users did.
    """

    days: int
    data_until: int | None
    goal_until: int | None


@dataclass(frozen=True, kw_only=True)
class _Before:
    """How far an earlier measurement has come."""

    first: date
    last: date
    data_until: int | None
    goal_until: int | None
    loaded_until: int | None
    measured_at: datetime
    used: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class _Arrived:
    """What a table has of a day that is new."""

    table: str
    day: date
    moment: int
    loaded: int | None


# A row of IMPACT_REFRESH says: each of these days was measured with these settings, since all had come that is loaded
# until then. For this to stay true, and for nobody's history to be lost, wherever a measurement is killed:
#
# - A row is written when all of its days are measured, in the last transaction. One that will not be true any more goes
#   in the first, before any of its days is touched: a retry then knows nothing of these days, and measures them.
# - Days are only ever replaced, by what the share says of them now; or cleared, where it says nothing. Those outside of
#   what is wanted, and of the row that is gone on from, stay as they are, known or not.
# - Only rows that overlap these days go: with a measurement anew all of them; otherwise those with other settings, as
#   with the same settings a day that is measured again is no less measured than before.
# - What is known to be of another share or app group goes as a whole. Without a row nothing proves that.
# - Days that touch are one range: what follows a message may come in the next. A range that is prolonged to the front
#   has its first days measured again, as far as something may follow from the new ones.
class Refresh:
    """A measurement of a cohort, from the last one on.

    :param session: a Snowflake session.
    :param tables: names of the state tables.
    :param days: measures them.
    :param stage: the share's events.
    :param tellings: what they tell.
    :param question: what is asked.
    :param key: workspace and cohort.
    :param fence: the last statement of each transaction: raises when somebody else measures the same by now.
    """

    def __init__(
        self,
        session: Session,
        tables: Tables,
        *,
        days: Days,
        stage: Stage,
        tellings: Tellings,
        question: ImpactQuestion,
        key: tuple[str, str],
        fence: Callable[[], None],
    ) -> None:
        self._session = session
        self._tables = tables
        self._days = days
        self._stage = stage
        self._tellings = tellings
        self._question = question
        self._key = (*key, question.measure)
        self._fence = fence

    def run(self, *, now: datetime, run_id: str, anew: bool) -> Refreshed:
        """Measure what has changed; must run inside ``Days.prepared``.

        :param now: an aware moment; nothing after it has happened.
        :param run_id: the run that the record names.
        :param anew: measure everything, whatever was measured before.
        :raises CohortConfigError: when what was measured before is of another share or app group, unless ``anew``.
        """
        self._forget_another_share(may=anew)
        asked = self._range(now)
        before = None if anew else self._before(*asked)
        arrived = self._arrivals(asked[0], now, before)
        first, last = asked
        if before is not None:
            # What was measured for other questions stays up to date, or theirs would be measured anew.
            first, last = min(first, before.first), max(last, before.last)
        changed = self._changed(first, last, before, arrived)
        self._withdraw(first, last, before, changed)
        if before is None or first < before.first:
            self._days.older.look(self._question.days(now)[0], first)
        until = int(now.timestamp())
        reached = {
            "data": max((one.moment for one in arrived), default=None),
            "goal": max((one.moment for one in arrived if one.table in self._days.goal_tables), default=None),
            # A row that says it was loaded in the future would hide all that come until then.
            "loaded": max(
                (min(one.loaded, until) for one in arrived if one.loaded is not None), default=None
            ),
        }
        used = {one.table for one in arrived}
        if before is not None:
            earlier = {"data": before.data_until, "goal": before.goal_until, "loaded": before.loaded_until}
            reached = {
                name: max((one for one in (value, earlier[name]) if one is not None), default=None)
                for name, value in reached.items()
            }
            used |= before.used
        for one, other in _pieces(changed):
            log.info("Measuring the impact from %s to %s.", one, other)
            self._days.measure(one, other, used=used, measured_at=now)
        record = (
            *self._key,
            self._settings,
            first.isoformat(),
            last.isoformat(),
            len(changed),
            reached["data"],
            reached["goal"],
            reached["loaded"],
            utc_text(now),
            run_id,
            json.dumps(sorted(used)),
        )

        def note() -> None:
            self._days.older.keep(first, last)
            self._session.execute(
                f"INSERT INTO {self._tables.impact_refresh} (WORKSPACE, COHORT_ID, MEASURE, SETTINGS, FIRST_DAY, "
                "LAST_DAY, DAYS, DATA_UNTIL, GOAL_UNTIL, LOADED_UNTIL, MEASURED_AT, RUN_ID, USED) "
                "SELECT %s, %s, %s, %s, CAST(%s AS DATE), CAST(%s AS DATE), %s, %s, %s, %s, "
                "CAST(%s AS TIMESTAMP_NTZ), %s, %s",
                record,
            )
            self._fence()

        self._session.transact(note)
        return Refreshed(days=len(changed), data_until=reached["data"], goal_until=reached["goal"])

    def _range(self, now: datetime) -> tuple[date, date]:
        """Return the days that the question needs: what follows a message may lie outside of those asked about."""
        first, last = self._question.days(now)
        around = self._question.days_after
        return first - around, min(last + around, now.astimezone(self._question.zone).date())

    @cached_property
    def _settings(self) -> str:
        """Everything that makes other rows of the same events."""
        question = self._question
        return json.dumps(
            {
                "rules": _RULES,
                "source": _stored(question.source),
                "app_group_id": question.app_group_id,
                "tables": {
                    table: [
                        *(f"{one.figure} {one.channel}".strip() for one in tellings),
                        *self._stage.tells_apart(table),
                    ]
                    for table, tellings in self._tellings.by_table.items()
                },
            },
            sort_keys=True,
        )

    def _before(self, first: date, last: date) -> _Before | None:
        """Return the latest measurement that may be gone on from: it means the same, and touches the days."""
        rows = self._session.rows(
            "SELECT FIRST_DAY, LAST_DAY, DATA_UNTIL, GOAL_UNTIL, LOADED_UNTIL, "
            f"{epoch_of('MEASURED_AT')}, USED FROM {self._tables.impact_refresh} WHERE {KEY} "
            "AND SETTINGS = %s AND FIRST_DAY <= %s AND LAST_DAY >= %s "
            "ORDER BY MEASURED_AT DESC, LAST_DAY DESC, FIRST_DAY, LOADED_UNTIL DESC NULLS LAST LIMIT 1",
            (*self._key, self._settings, (last + _DAY).isoformat(), (first - _DAY).isoformat()),
        )
        if not rows:
            return None
        first_day, last_day, *numbers, measured_at, used = rows[0]
        data_until, goal_until, loaded_until = (None if one is None else int(one) for one in numbers)
        return _Before(
            first=first_day,
            last=last_day,
            data_until=data_until,
            goal_until=goal_until,
            loaded_until=loaded_until,
            measured_at=datetime.fromtimestamp(int(measured_at), UTC),
            used=frozenset(json.loads(used)),
        )

    def _forget_another_share(self, *, may: bool) -> None:
        """Remove all that was measured, with what is noted of it, when a note proves that it is somebody else's.

        :param may: whether it may be removed though there is something: a wrong letter in a question looks the same.
        :raises CohortConfigError: when it may not.
        """
        noted = self._session.rows(
            f"SELECT DISTINCT SETTINGS FROM {self._tables.impact_refresh} WHERE {KEY}", self._key
        )
        now = _whose(self._settings)
        others = sorted({whose for (settings,) in noted if (whose := _whose(settings)) != now})
        if not others:
            return
        kept = self._session.rows(f"SELECT 1 FROM {self._tables.impact_event} WHERE {KEY} LIMIT 1", self._key)
        if kept and not may:
            (source, app_group_id), question = others[0], self._question
            raise CohortConfigError(
                f"what is kept of {question.measure!r} was measured from {source}, app group {app_group_id!r}, and "
                f"measuring {question.source}, app group {question.app_group_id!r}, would delete all of it",
                fix="correct source and app_group_id (--share, --app-group-id), or measure once with full_refresh "
                "(--full-refresh) if it may go",
                cohort=self._key[1],
                field="app_group_id" if source == now[0] else "source",
            )

        def work() -> None:
            for table in (self._tables.impact_event, self._tables.impact_daily, self._tables.impact_refresh):
                self._session.execute(f"DELETE FROM {table} WHERE {KEY}", self._key)
            self._fence()

        self._session.transact(work)

    def _withdraw(self, first: date, last: date, before: _Before | None, changed: Iterable[date]) -> None:
        """Take back the notes that will not be true any more, and clear the days of which the share has nothing."""
        uncovered = _between(first, last if before is None else before.first - _DAY)
        quiet = sorted(set(uncovered).difference(changed))
        others = "" if before is None else " AND SETTINGS <> %s"
        params = [*self._key, last.isoformat(), first.isoformat(), *([self._settings] if others else [])]

        def work() -> None:
            self._session.execute(
                f"DELETE FROM {self._tables.impact_refresh} "
                f"WHERE {KEY} AND FIRST_DAY <= %s AND LAST_DAY >= %s{others}",
                params,
            )
            for one, other in _pieces(quiet):
                self._days.clear(one, other)
            self._fence()

        self._session.transact(work)

    def _arrivals(self, first: date, now: datetime, before: _Before | None) -> list[_Arrived]:
        """Return the days of which a table has something new."""
        # Not to the last day only: how far the data reach says whose attribution window is over.
        until = int(now.timestamp()) + 1
        if before is None:
            return self._arrived(first, until, None)
        if before.loaded_until is None:
            return self._arrived(min(first, before.first), until, None)
        since = before.loaded_until - int(_OVERLAP.total_seconds())
        found = self._arrived(before.first, until, since)
        if first < before.first:
            found += self._arrived(first, self._question.starts(before.first), None)
        return found

    def _arrived(self, first: date, until: int, since: int | None) -> list[_Arrived]:
        query = self._stage.arrivals(
            self._days.read(list(self._tellings.by_table)),
            day=self._days.day('"TIME"'),
            since=since,
            first=self._question.starts(first),
            until=until,
        )
        if not query.sql:
            return []
        return [
            _Arrived(table=table, day=day, moment=int(moment), loaded=None if loaded is None else int(loaded))
            for table, day, moment, loaded in self._session.rows(query.sql, query.params)
        ]

    def _changed(
        self, first: date, last: date, before: _Before | None, arrived: Iterable[_Arrived]
    ) -> list[date]:
        """Return the days to measure: what is new on one changes those that it may be followed by."""
        after = self._question.days_after
        days = {day for one in arrived for day in _between(one.day - _DAY, one.day + after)}
        if before is not None:
            days |= set(_between(max(first, min(self._stays_changed(before), before.last + _DAY)), last))
            if first < before.first:
                days |= set(_between(before.first, before.first + after))
        return sorted(day for day in days if first <= day <= last)

    def _stays_changed(self, before: _Before) -> date:
        """Return the first day on which the cohort may have been another one than at the last look."""
        looked = before.measured_at - _OVERLAP
        stays, params = stays_of(self._tables, self._key[:2])
        since = int(looked.timestamp())
        # An import may have begun long before its stays were written down.
        (moment,) = self._session.row(
            f"SELECT MIN(START_AT) FROM ({stays}) t WHERE KNOWN_AT >= {since}", params
        )
        earliest = since if moment is None else min(since, int(moment))
        return datetime.fromtimestamp(earliest, UTC).astimezone(self._question.zone).date()


def _whose(settings: str) -> tuple[str, str]:
    """Return the share and the app group of which something was measured."""
    told = json.loads(settings)
    # A note of an earlier version has the name as somebody wrote it.
    return _stored(told["source"]), told["app_group_id"]


def _stored(schema: str) -> str:
    """Return the same name of a schema however it is written."""
    return ".".join(stored_name(part) for part in split_name(schema))


def _between(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += _DAY


def _pieces(days: Iterable[date]) -> Iterator[tuple[date, date]]:
    """Yield the first and the last day of each run of days."""
    run: list[date] = []
    for day in days:
        if run and day - run[-1] > _DAY:
            yield run[0], run[-1]
            run = []
        run.append(day)
    if run:
        yield run[0], run[-1]
