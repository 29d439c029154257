"""Schedules as Airflow's own timetables run them, on a clock that the test sets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.timetables.base import TimeRestriction

from airflow_provider_kubit_braze import plugin, timetables
from airflow_provider_kubit_braze.core.schedule import Schedule
from airflow_provider_kubit_braze.timetables import NextTickTimetable, start_date_of, timetable_of

if TYPE_CHECKING:
    from airflow.timetables.base import DataInterval, Timetable

NEW_YORK = "America/New_York"
BERLIN = "Europe/Berlin"


class Scheduler:
    """Asks a timetable for runs as Airflow's scheduler does, at times of the test's choice.

    :param timetable: what is asked.
    :param start_date: the DAG's.
    """

    def __init__(
        self, timetable: Timetable, start_date: datetime | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.timetable = timetable
        self.now = pendulum.datetime(2026, 1, 1)
        self.last: DataInterval | None = None
        self._restriction = TimeRestriction(
            earliest=pendulum.instance(start_date) if start_date else None, latest=None, catchup=False
        )
        monkeypatch.setattr("airflow.timetables.trigger.utcnow", lambda: self.now)
        monkeypatch.setattr(pendulum, "now", lambda zone: self.now.in_timezone(zone))

    def next(self, at: str) -> str | None:
        """Return when the next run is due, asked at ``at``; nothing runs yet."""
        self.now = pendulum.instance(datetime.fromisoformat(at)).in_timezone("UTC")
        info = self.timetable.next_dagrun_info(
            last_automated_data_interval=self.last, restriction=self._restriction
        )
        return info and info.run_after.in_timezone("UTC").strftime("%Y-%m-%d %H:%MZ")

    def run(self, start: str, count: int, zone: str) -> list[str]:
        """Deploy at ``start`` and return the next runs, each started when it is due, as times of ``zone``."""
        self.now = pendulum.instance(datetime.fromisoformat(start)).in_timezone("UTC")
        found = []
        for _ in range(count):
            info = self.timetable.next_dagrun_info(
                last_automated_data_interval=self.last, restriction=self._restriction
            )
            if info is None:
                break
            assert info.data_interval is not None
            assert info.run_after == info.data_interval.end == info.logical_date
            found.append(info.run_after.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M%z"))
            self.last = info.data_interval
            self.now = max(self.now, info.run_after) + timedelta(seconds=3)
        return found


@pytest.fixture(params=["3.x", "2.11"])
def airflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both branches; the class for 2.11 runs on 3.x as well."""
    monkeypatch.setattr(timetables, "AIRFLOW_V_3_0_PLUS", request.param == "3.x")
    return str(request.param)


@pytest.fixture
def scheduler(airflow: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(written: dict[str, Any] | None) -> Scheduler:
        schedule = Schedule(**written) if written is not None else None
        return Scheduler(timetable_of(schedule), start_date_of(schedule), monkeypatch)

    return make


def daily(at: str, timezone: str) -> dict[str, Any]:
    return {"mode": "daily", "at": at, "timezone": timezone}


def weekly(on: str, at: str, timezone: str) -> dict[str, Any]:
    return {"mode": "weekly", "on": on, "at": at, "timezone": timezone}


def monthly(on: int | str, at: str, timezone: str) -> dict[str, Any]:
    return {"mode": "monthly", "on": on, "at": at, "timezone": timezone}


@pytest.mark.parametrize(
    ("written", "start", "runs"),
    [
        pytest.param(
            daily("09:00", "Asia/Kathmandu"),
            "2026-12-30T00:00Z",
            ["2026-12-30 09:00+0545", "2026-12-31 09:00+0545", "2027-01-01 09:00+0545"],
            id="daily over the new year",
        ),
        pytest.param(
            daily("00:00", "Pacific/Auckland"),
            "2026-06-01T00:00Z",
            ["2026-06-02 00:00+1200", "2026-06-03 00:00+1200"],
            id="daily at midnight, a day ahead of UTC",
        ),
        pytest.param(
            daily("23:59", "UTC"),
            "2026-02-27T12:00Z",
            ["2026-02-27 23:59+0000", "2026-02-28 23:59+0000", "2026-03-01 23:59+0000"],
            id="daily in UTC",
        ),
        pytest.param(
            daily("06:00", NEW_YORK),
            "2026-03-06T12:00Z",
            ["2026-03-07 06:00-0500", "2026-03-08 06:00-0400", "2026-03-09 06:00-0400"],
            id="06:00 stays local when New York's clocks go forward",
        ),
        pytest.param(
            daily("06:00", NEW_YORK),
            "2026-10-30T12:00Z",
            ["2026-10-31 06:00-0400", "2026-11-01 06:00-0500", "2026-11-02 06:00-0500"],
            id="06:00 stays local when New York's clocks go back",
        ),
        pytest.param(
            daily("06:00", BERLIN),
            "2026-03-27T12:00Z",
            ["2026-03-28 06:00+0100", "2026-03-29 06:00+0200", "2026-03-30 06:00+0200"],
            id="06:00 stays local when Berlin's clocks go forward",
        ),
        pytest.param(
            daily("06:00", BERLIN),
            "2026-10-23T12:00Z",
            ["2026-10-24 06:00+0200", "2026-10-25 06:00+0100", "2026-10-26 06:00+0100"],
            id="06:00 stays local when Berlin's clocks go back",
        ),
        pytest.param(
            daily("02:30", NEW_YORK),
            "2026-03-06T12:00Z",
            ["2026-03-07 02:30-0500", "2026-03-08 03:30-0400", "2026-03-09 02:30-0400"],
            id="02:30 that New York does not have runs at 03:30",
        ),
        pytest.param(
            daily("02:30", BERLIN),
            "2026-03-27T12:00Z",
            ["2026-03-28 02:30+0100", "2026-03-29 03:30+0200", "2026-03-30 02:30+0200"],
            id="02:30 that Berlin does not have runs at 03:30",
        ),
        pytest.param(
            daily("01:30", NEW_YORK),
            "2026-10-30T12:00Z",
            ["2026-10-31 01:30-0400", "2026-11-01 01:30-0500", "2026-11-02 01:30-0500"],
            id="01:30 that New York has twice runs once",
        ),
        pytest.param(
            daily("02:30", BERLIN),
            "2026-10-23T12:00Z",
            ["2026-10-24 02:30+0200", "2026-10-25 02:30+0100", "2026-10-26 02:30+0100"],
            id="02:30 that Berlin has twice runs once",
        ),
        pytest.param(
            weekly("monday", "09:00", NEW_YORK),
            "2026-10-20T00:00Z",
            ["2026-10-26 09:00-0400", "2026-11-02 09:00-0500", "2026-11-09 09:00-0500"],
            id="weekly stays local over a switch",
        ),
        pytest.param(
            weekly("sunday", "02:30", NEW_YORK),
            "2026-02-26T00:00Z",
            ["2026-03-01 02:30-0500", "2026-03-08 03:30-0400", "2026-03-15 02:30-0400"],
            id="weekly on the day of the switch is not lost",
        ),
        pytest.param(
            weekly("saturday", "00:30", "Pacific/Kiritimati"),
            "2026-12-30T00:00Z",
            ["2027-01-02 00:30+1400", "2027-01-09 00:30+1400"],
            id="weekly by the zone's own weekday",
        ),
        pytest.param(
            monthly(1, "06:00", BERLIN),
            "2026-11-23T10:00Z",
            ["2026-12-01 06:00+0100", "2027-01-01 06:00+0100", "2027-02-01 06:00+0100"],
            id="monthly on the 1st",
        ),
        pytest.param(
            monthly(28, "06:00", "America/Sao_Paulo"),
            "2027-01-29T00:00Z",
            ["2027-02-28 06:00-0300", "2027-03-28 06:00-0300"],
            id="monthly on the 28th, in February too",
        ),
        pytest.param(
            monthly("last", "06:00", "UTC"),
            "2027-01-10T00:00Z",
            [
                "2027-01-31 06:00+0000",
                "2027-02-28 06:00+0000",
                "2027-03-31 06:00+0000",
                "2027-04-30 06:00+0000",
            ],
            id="the last day of each month",
        ),
        pytest.param(
            monthly("last", "06:00", BERLIN),
            "2028-01-31T12:00Z",
            ["2028-02-29 06:00+0100", "2028-03-31 06:00+0200"],
            id="the last day of a leap year's February",
        ),
        pytest.param(
            monthly("last", "06:00", "UTC"),
            "2100-02-01T00:00Z",
            ["2100-02-28 06:00+0000", "2100-03-31 06:00+0000"],
            id="2100 is no leap year",
        ),
        pytest.param(
            monthly("last", "00:30", "Pacific/Kiritimati"),
            "2026-01-30T00:00Z",
            ["2026-01-31 00:30+1400", "2026-02-28 00:30+1400"],
            id="the last day where the zone is, while UTC is a day behind",
        ),
        pytest.param(
            monthly("last", "22:00", "Pacific/Honolulu"),
            "2026-01-30T00:00Z",
            ["2026-01-31 22:00-1000", "2026-02-28 22:00-1000"],
            id="the last day where the zone is, while UTC is a day ahead",
        ),
        pytest.param(
            monthly("last", "02:30", BERLIN),
            "2030-03-01T00:00Z",
            ["2030-03-31 03:30+0200", "2030-04-30 02:30+0200"],
            id="the last day, which lacks 02:30",
        ),
        pytest.param(
            monthly("last", "02:30", BERLIN),
            "2027-10-01T00:00Z",
            ["2027-10-31 02:30+0100", "2027-11-30 02:30+0100"],
            id="the last day, which has 02:30 twice",
        ),
    ],
)
def test_a_schedule_runs_when_its_zone_says(
    scheduler: Any, written: dict[str, Any], start: str, runs: list[str]
) -> None:
    assert scheduler(written).run(start, len(runs), written["timezone"]) == runs


@pytest.mark.parametrize("start", ["2026-11-23T10:00Z", "2031-01-01T00:00Z"], ids=["now", "years later"])
def test_once_is_one_run_at_the_first_look(scheduler: Any, start: str) -> None:
    once = scheduler({"mode": "once"})

    assert once.run(start, 3, "UTC") == ["2024-01-01 00:00+0000"]
    assert once.next("2032-01-01T00:00Z") is None


def test_without_a_schedule_nothing_runs_by_itself(scheduler: Any) -> None:
    assert scheduler(None).run("2026-11-23T10:00Z", 1, "UTC") == []


# -- deployment -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "deployed", "first"),
    [
        pytest.param(
            monthly(1, "06:00", "UTC"), "2026-11-23T10:00Z", "2026-12-01 06:00Z", id="monthly in mid-month"
        ),
        pytest.param(
            monthly("last", "06:00", BERLIN), "2026-11-23T10:00Z", "2026-11-30 05:00Z", id="monthly, last"
        ),
        pytest.param(
            weekly("monday", "09:00", NEW_YORK), "2026-11-25T10:00Z", "2026-11-30 14:00Z", id="weekly"
        ),
        pytest.param(daily("09:00", "UTC"), "2026-11-23T09:06Z", "2026-11-24 09:00Z", id="daily"),
        pytest.param(
            daily("09:00", "UTC"), "2026-11-23T09:04Z", "2026-11-23 09:00Z", id="within five minutes after"
        ),
        pytest.param(
            monthly(23, "09:00", "UTC"), "2026-11-23T09:05Z", "2026-11-23 09:00Z", id="five minutes after"
        ),
        pytest.param(
            monthly(23, "09:00", "UTC"),
            "2026-11-23T09:05:01Z",
            "2026-12-23 09:00Z",
            id="more than five minutes after",
        ),
        pytest.param(daily("09:00", "UTC"), "2026-11-23T09:00Z", "2026-11-23 09:00Z", id="at the tick"),
        pytest.param(daily("09:00", "UTC"), "2026-11-23T08:59Z", "2026-11-23 09:00Z", id="just before"),
    ],
)
def test_a_deployment_waits_for_the_next_tick(
    scheduler: Any, written: dict[str, Any], deployed: str, first: str
) -> None:
    assert scheduler(written).next(deployed) == first


def test_a_first_run_is_not_lost_when_the_file_is_parsed_between_tick_and_scheduler(scheduler: Any) -> None:
    deployed = scheduler(monthly(1, "06:00", "UTC"))

    asked = [deployed.next(at) for at in ("2026-11-23T10:00Z", "2026-12-01T05:59:59Z", "2026-12-01T06:04Z")]

    assert asked == ["2026-12-01 06:00Z"] * 3


def test_a_dag_that_stays_paused_over_its_first_tick_waits_for_the_next_one(scheduler: Any) -> None:
    paused = scheduler(monthly(1, "06:00", "UTC"))

    assert paused.next("2026-11-23T10:00Z") == "2026-12-01 06:00Z"
    assert paused.next("2026-12-01T12:00Z") == "2027-01-01 06:00Z"


def test_after_a_pause_the_latest_missed_run_is_made_up_for_as_airflow_does(scheduler: Any) -> None:
    resumed = scheduler(monthly(1, "06:00", "UTC"))

    assert resumed.run("2026-08-01T05:00Z", 1, "UTC") == ["2026-08-01 06:00+0000"]
    assert resumed.run("2026-11-23T10:00Z", 2, "UTC") == ["2026-11-01 06:00+0000", "2026-12-01 06:00+0000"]


# -- what Airflow keeps -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        daily("02:30", NEW_YORK),
        weekly("monday", "09:00", BERLIN),
        monthly("last", "06:00", "Asia/Kolkata"),
        monthly(28, "23:59", "UTC"),
        {"mode": "once"},
        None,
    ],
    ids=["daily", "weekly", "last", "28th", "once", "none"],
)
@pytest.mark.parametrize("deployed", ["2026-11-23T09:03Z", "2026-12-31T01:02Z"])
def test_a_timetable_means_the_same_after_airflow_has_stored_it(
    airflow: str, monkeypatch: pytest.MonkeyPatch, written: dict[str, Any] | None, deployed: str
) -> None:
    schedule = Schedule(**written) if written is not None else None
    zone = schedule.timezone if schedule else "UTC"
    fresh = timetable_of(schedule)

    stored = type(fresh).deserialize(json.loads(json.dumps(fresh.serialize())))

    assert type(stored) is type(fresh)
    assert stored.serialize() == fresh.serialize()
    both = [
        Scheduler(timetable, start_date_of(schedule), monkeypatch).run(deployed, 4, zone)
        for timetable in (fresh, stored)
    ]
    assert both[0] == both[1]


def test_a_stored_timetable_still_waits_for_the_next_tick(
    airflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = Schedule(**monthly(1, "06:00", "UTC"))
    fresh = timetable_of(schedule)

    stored = type(fresh).deserialize(fresh.serialize())

    asked = Scheduler(stored, start_date_of(schedule), monkeypatch)
    assert asked.next("2026-11-23T10:00Z") == "2026-12-01 06:00Z"
    assert asked.next("2026-12-01T06:05Z") == "2026-12-01 06:00Z"


def test_airflow_learns_of_our_timetable_only_where_it_is_used(
    airflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "AIRFLOW_V_3_0_PLUS", airflow == "3.x")
    used = type(timetable_of(Schedule(**daily("09:00", "UTC"))))

    assert plugin._timetables() == ([] if airflow == "3.x" else [NextTickTimetable])
    assert (used is NextTickTimetable) == (airflow == "2.11")


def test_the_start_date_is_the_same_at_every_parse(airflow: str) -> None:
    once, often = Schedule(mode="once"), Schedule(**daily("09:00", "UTC"))
    fixed = datetime(2024, 1, 1, tzinfo=UTC)

    assert start_date_of(once) == fixed
    assert start_date_of(often) == (None if airflow == "3.x" else fixed)
    assert start_date_of(None) is None
