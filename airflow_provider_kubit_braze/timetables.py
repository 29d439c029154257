"""Schedules as Airflow timetables, with one meaning on Airflow 2.11 and 3.x.

A cron expression with an explicit zone, a run at the tick itself, and no run for the tick before the DAG was deployed:
a monthly cohort deployed in mid-month waits for its next day.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pendulum
from airflow.timetables.simple import NullTimetable, OnceTimetable
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_provider_kubit_braze._compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

    from airflow_provider_kubit_braze.core.schedule import Schedule

#: Mode ``once`` runs at its start date, so that has to be in the past, and the same in every parse.
#: Airflow 2.11 wants one for every schedule.
START_DATE: Final = datetime(2024, 1, 1, tzinfo=UTC)

#: Shortly after a tick it still counts. Without this, a DAG parsed anew between a tick and the scheduler's next look
#: would lose its first run.
_GRACE: Final = timedelta(minutes=5)


class NextTickTimetable(CronTriggerTimetable):
    """Airflow 2.11 only: the first run is at the next tick, not at the last one before the deployment.

    Airflow 3 can be told so by ``run_immediately``.
    """

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next run; the first one lies in the future, or less than five minutes back."""
        if last_automated_data_interval is None:
            since = pendulum.now("UTC") - _GRACE
            restriction = restriction._replace(earliest=max(since, restriction.earliest or since))
        return super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )


def timetable_of(schedule: Schedule | None) -> Timetable:
    """Return the timetable of a cohort's schedule; without one, only people and other DAGs start the import."""
    if schedule is None:
        return NullTimetable()
    cron = schedule.cron()
    if cron is None:
        return OnceTimetable()
    if AIRFLOW_V_3_0_PLUS:
        extra: dict[str, Any] = {"run_immediately": _GRACE}
        return CronTriggerTimetable(cron, timezone=schedule.timezone, **extra)
    return NextTickTimetable(cron, timezone=schedule.timezone)


def start_date_of(schedule: Schedule | None) -> datetime | None:
    """Return the DAG's start date, the same at every parse; None lets Airflow 3 begin with the next tick."""
    if schedule is not None and (schedule.mode == "once" or not AIRFLOW_V_3_0_PLUS):
        return START_DATE
    return None
