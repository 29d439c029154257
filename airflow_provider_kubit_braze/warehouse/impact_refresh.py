"""Bring the measured days of a cohort up to date: only those of which something new has arrived."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.warehouse.stays import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.tellings import Tellings
    from airflow_provider_kubit_braze.warehouse.impact_days import Days
    from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)

_KEY: Final = "WORKSPACE = %s AND COHORT_ID = %s AND MEASURE = %s"

#: Rows count as new for so long after they were last looked for: Braze writes when it has loaded a row without a time
#: zone in some tables, and a row is seen only when its load has ended.
_OVERLAP: Final = timedelta(days=1)

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """What has been measured.

    :param days: days that were measured anew.
    :param data_until: the latest event of the share, in epoch seconds; None without any.
    """

    days: int
    data_until: int | None


@dataclass(frozen=True, kw_only=True)
class _Before:
    """How far the last measurement has come."""

    settings: str
    first: date
    last: date
    data_until: int | None
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


class Refresh:
    """A measurement of a cohort, from the last one on.

    :param session: a Snowflake session.
    :param tables: names of the state tables.
    :param days: measures them.
    :param stage: the share's events.
    :param tellings: what they tell.
    :param question: what is asked.
    :param key: workspace and cohort.
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
    ) -> None:
        self._session = session
        self._tables = tables
        self._days = days
        self._stage = stage
        self._tellings = tellings
        self._question = question
        self._key = (*key, question.measure)

    def run(self, *, now: datetime, run_id: str, anew: bool) -> Refreshed:
        """Measure what has changed; must run inside ``Days.prepared``.

        :param now: an aware moment; nothing after it has happened.
        :param run_id: the run that the record names.
        :param anew: measure everything, whatever was measured before.
        """
        first, last = self._range(now)
        found = self._before()
        before = found if found is not None and not anew and self._continues(found, first, last) else None
        if before is None:
            # Days before those that are asked about stay as they were measured, unless they are somebody else's.
            same = found is not None and self._is_same_share(found)
            self._forget(first if same else None)
        else:
            # What was measured stays one piece, so that the last reach before an event is always among it.
            first = before.first
        arrived = self._arrivals(first, now, before)
        changed = self._changed(first, last, before, {one.day for one in arrived})
        data_until = max((one.moment for one in arrived), default=None)
        loaded_until = max((one.loaded for one in arrived if one.loaded is not None), default=None)
        used = {one.table for one in arrived}
        if before is not None:
            data_until = max(
                (one for one in (data_until, before.data_until) if one is not None), default=None
            )
            loaded_until = max(
                (one for one in (loaded_until, before.loaded_until) if one is not None), default=None
            )
            used |= before.used
        for start, end in _pieces(changed):
            log.info("Measuring the impact from %s to %s.", start, end)
            self._days.measure(start, end, used=used, measured_at=now)
        self._session.execute(
            f"INSERT INTO {self._tables.impact_refresh} (WORKSPACE, COHORT_ID, MEASURE, SETTINGS, FIRST_DAY, LAST_DAY, "
            "DAYS, DATA_UNTIL, LOADED_UNTIL, MEASURED_AT, RUN_ID, USED) "
            "SELECT %s, %s, %s, %s, CAST(%s AS DATE), CAST(%s AS DATE), %s, %s, %s, CAST(%s AS TIMESTAMP_NTZ), %s, %s",
            (
                *self._key,
                self._settings,
                first.isoformat(),
                last.isoformat(),
                len(changed),
                data_until,
                loaded_until,
                utc_text(now),
                run_id,
                json.dumps(sorted(used)),
            ),
        )
        return Refreshed(days=len(changed), data_until=data_until)

    def _range(self, now: datetime) -> tuple[date, date]:
        """Return the days that the question needs: what follows a message may lie outside of those asked about."""
        first, last = self._question.days(now)
        around = math.ceil(self._question.window / _DAY) * _DAY
        return first - around, min(last + around, now.astimezone(self._question.zone).date())

    @property
    def _settings(self) -> str:
        """Everything that makes other rows of the same events."""
        question = self._question
        return json.dumps(
            {
                "source": question.source,
                "app_group_id": question.app_group_id,
                "tables": {
                    table: [f"{one.figure} {one.channel}".strip() for one in tellings]
                    for table, tellings in self._tellings.by_table.items()
                },
            },
            sort_keys=True,
        )

    def _before(self) -> _Before | None:
        rows = self._session.rows(
            "SELECT SETTINGS, FIRST_DAY, LAST_DAY, DATA_UNTIL, LOADED_UNTIL, CAST(MEASURED_AT AS VARCHAR), USED "
            f"FROM {self._tables.impact_refresh} WHERE {_KEY} "
            "ORDER BY MEASURED_AT DESC, LAST_DAY DESC LIMIT 1",
            self._key,
        )
        if not rows:
            return None
        settings, first, last, data_until, loaded_until, measured_at, used = rows[0]
        return _Before(
            settings=settings,
            first=first,
            last=last,
            data_until=None if data_until is None else int(data_until),
            loaded_until=None if loaded_until is None else int(loaded_until),
            measured_at=_aware(datetime.fromisoformat(measured_at)),
            used=frozenset(json.loads(used)),
        )

    def _continues(self, before: _Before, first: date, last: date) -> bool:
        """Whether what was measured is of use: it means the same, and the days that are wanted now go on from it."""
        return (
            before.settings == self._settings
            and before.first <= first <= before.last + _DAY
            and last >= before.first
        )

    def _is_same_share(self, before: _Before) -> bool:
        settings, now = json.loads(before.settings), json.loads(self._settings)
        return all(settings[name] == now[name] for name in ("source", "app_group_id"))

    def _forget(self, first: date | None) -> None:
        """Remove what was measured, from a day on; None: all of it."""
        since = "" if first is None else " AND DAY >= %s"
        params = self._key if first is None else (*self._key, first.isoformat())

        def work() -> None:
            for table in (self._tables.impact_event, self._tables.impact_daily):
                self._session.execute(f"DELETE FROM {table} WHERE {_KEY}{since}", params)
            self._session.execute(f"DELETE FROM {self._tables.impact_refresh} WHERE {_KEY}", self._key)

        self._session.transact(work)

    def _arrivals(self, first: date, now: datetime, before: _Before | None) -> list[_Arrived]:
        """Return the days of which a table has something new."""
        since = None
        if before is not None and before.loaded_until is not None:
            since = before.loaded_until - int(_OVERLAP.total_seconds())
        query = self._stage.arrivals(
            self._tellings.by_table,
            day=self._days.day('"TIME"'),
            since=since,
            first=self._question.starts(first),
            # Not to the last day only: how far the data reach says whose attribution window is over.
            until=int(now.timestamp()) + 1,
        )
        if not query.sql:
            return []
        return [
            _Arrived(table=table, day=day, moment=int(moment), loaded=None if loaded is None else int(loaded))
            for table, day, moment, loaded in self._session.rows(query.sql, query.params)
        ]

    def _changed(
        self, first: date, last: date, before: _Before | None, arrived: Iterable[date]
    ) -> list[date]:
        """Return the days to measure: what is new on one changes those that it may be followed by."""
        after = math.ceil(self._question.window / _DAY)
        days = {day + number * _DAY for day in arrived for number in range(-1, after + 1)}
        if before is not None:
            # Stays may have begun and ended since the last look.
            looked = before.measured_at.astimezone(self._question.zone).date() - _DAY
            days |= set(_between(max(first, min(looked, before.last + _DAY)), last))
        return sorted(day for day in days if first <= day <= last)


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


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
