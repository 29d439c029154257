"""The Airflow plugin, found by its entry point."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_kubit_braze._compat import AIRFLOW_V_3_0_PLUS


def _timetables() -> list[type[Any]]:
    if AIRFLOW_V_3_0_PLUS:
        return []
    from airflow_provider_kubit_braze.timetables import NextTickTimetable

    return [NextTickTimetable]


class KubitBrazePlugin(AirflowPlugin):
    """Registers what Airflow has to know by name: on 2.11 the timetable of cohort schedules."""

    name = "kubit_braze"
    timetables = _timetables()
