"""DAG integrity of the project's own ``dags/``: what a user copies has to be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_kubit_braze.core.cohort_file import read_cohorts
from airflow_provider_kubit_braze.sandbox.cdnow import COHORT_SCHEMA, COHORTS
from airflow_provider_kubit_braze.sandbox.demo_campaign import APP_GROUP_ID, DAG_ID, WINDOW
from airflow_provider_kubit_braze.sandbox.demo_days import HOLDOUTS

DAGS = Path(__file__).resolve().parent.parent / "dags"

#: What a DAG's id begins with -> its tag, and its tasks.
WHAT = {
    "kubit_braze": ("kubit-braze", ["import_to_braze", "notify", "wait_for_cohort"]),
    "kubit_braze_impact": ("kubit-braze-impact", ["measure_impact"]),
    DAG_ID: ("kubit-braze-campaign", ["send_campaign"]),
}


@pytest.fixture(scope="module")
def bag() -> Any:
    return BundleDagBag(str(DAGS), bundle_path=DAGS, bundle_name="dags-folder")


def test_there_are_no_import_errors_and_no_warnings(bag: Any) -> None:
    assert bag.import_errors == {}
    assert bag.captured_warnings == {}


def test_every_cohort_has_one_dag_and_all_schedule_modes_are_shown(bag: Any) -> None:
    cohorts = [loaded.cohort for loaded in read_cohorts(DAGS).cohorts]

    impacts = [cohort.impact_dag_id for cohort in cohorts if cohort.impact is not None]
    assert sorted(bag.dags) == sorted([*(cohort.dag_id for cohort in cohorts), *impacts, DAG_ID])
    assert len({cohort.id for cohort in cohorts}) == len(cohorts) == 4
    assert {cohort.schedule and cohort.schedule.mode for cohort in cohorts} == {
        "once",
        "daily",
        "weekly",
        "monthly",
    }


def test_the_cohorts_are_those_the_sandbox_computes() -> None:
    sources = {loaded.cohort.id: loaded.cohort.source.select for loaded in read_cohorts(DAGS).cohorts}

    assert sorted(sources) == sorted(name.lower() for name in COHORTS)
    for cohort, select in sources.items():
        assert f"{COHORT_SCHEMA}.{cohort.upper()}" in select


def test_every_dag_is_tagged_owned_and_tried_again(bag: Any) -> None:
    for dag in bag.dags.values():
        kind, _, cohort = dag.dag_id.partition("__")
        tags, tasks = WHAT[kind]
        assert dag.tags == ({tags, f"cohort:{cohort}"} if cohort else {tags})
        assert (dag.max_active_runs, dag.catchup) == (1, False)
        assert sorted(dag.task_dict) == tasks
        for task in dag.tasks:
            assert task.owner
            assert task.retries >= 1, "a worker that dies must not fail the run"


def test_the_demo_knows_who_is_held_out_and_how_long_an_impact_lasts() -> None:
    cohorts = {loaded.cohort.id: loaded.cohort for loaded in read_cohorts(DAGS).cohorts}

    assert {one.id: f"{one.holdout * 100}%" for one in cohorts.values() if one.holdout} == HOLDOUTS
    measured = [one.impact for one in cohorts.values() if one.impact is not None]
    assert {(impact.app_group_id, impact.window) for impact in measured} == {(APP_GROUP_ID, WINDOW)}
    # Nobody can say what a campaign did where nobody is held out.
    assert {one.id for one in cohorts.values() if one.impact is not None} == HOLDOUTS.keys()


def test_every_dag_survives_serialization(bag: Any) -> None:
    for dag in bag.dags.values():
        stored = DagSerialization.to_dict(dag)
        DagSerialization.validate_schema(stored)

        back = DagSerialization.from_dict(stored)

        assert sorted(back.task_dict) == sorted(dag.task_dict)
        if dag.schedule is not None:
            assert back.timetable.serialize() == dag.timetable.serialize()
        assert back.dag_display_name == dag.dag_display_name


def test_the_dag_file_is_the_three_lines_of_the_readme() -> None:
    text = (DAGS / "cdnow_cohorts.py").read_text()
    code = [line for line in text.splitlines() if line and not line.startswith('"""')]

    assert len(code) == 3
    # Airflow skips files that hold neither word.
    assert "airflow" in text
    assert "dag" in text.lower()
