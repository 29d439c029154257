from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity, StartedBy, is_on
from airflow_provider_kubit_braze.exceptions import CohortConfigError


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        pytest.param({"full_resync", "undo"}, "full_resync and undo", id="resync-undo"),
        pytest.param({"full_resync", "retire"}, "full_resync and retire", id="resync-retire"),
        pytest.param({"undo", "retire"}, "undo and retire", id="undo-retire"),
        pytest.param({"undo", "retire", "full_resync"}, "full_resync and undo and retire", id="all"),
    ],
)
def test_what_contradicts_each_other_is_refused_with_the_fix(switches: set[str], words: str) -> None:
    with pytest.raises(CohortConfigError, match=f"{words} cannot be done in one import.*choose one of them"):
        ImportOptions(**dict.fromkeys(switches, True))


@pytest.mark.parametrize(
    ("switches", "purpose"),
    [
        pytest.param(set(), "import", id="by-default"),
        pytest.param({"full_resync"}, "import", id="resync"),
        pytest.param({"undo"}, "undo", id="undo"),
        pytest.param({"retire"}, "retire", id="retire"),
    ],
)
def test_each_of_them_goes_with_a_dry_run_and_without_guards(switches: set[str], purpose: str) -> None:
    options = ImportOptions(**dict.fromkeys({*switches, "dry_run", "override_guards"}, True))

    assert options.purpose == purpose


@pytest.mark.parametrize(
    ("value", "on"),
    [
        *[(value, True) for value in (True, "true", " True\n", "TRUE", "1")],
        *[(value, False) for value in (False, None, "false", "False", "0", "None", "", "  ")],
    ],
    ids=repr,
)
def test_a_switch_may_come_as_text(value: Any, on: bool) -> None:
    assert is_on("undo", value) is on


@pytest.mark.parametrize("value", ["yes", "on", "2", 1, 0, [], {}], ids=repr)
def test_what_is_no_switch_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(CohortConfigError, match=r"undo.* is no switch.*write true or false"):
        is_on("undo", value)


@pytest.mark.parametrize(
    ("run_id", "task_id", "started_by"),
    [
        ("scheduled__2026-11-23T14:00:00+00:00", "import_to_braze", "schedule"),
        ("manual__2026-11-23T14:00:00+00:00", "import_to_braze", "trigger"),
        ("backfill__2026-11-23", "import_to_braze", "backfill"),
        ("asset_triggered__2026-11-23", "import_to_braze", "asset"),
        ("dataset_triggered__2026-11-23", "import_to_braze", "asset"),
        ("undo__2026-11-23", "kubit-braze", "command line"),
        ("our own id", "import_to_braze", "other"),
    ],
)
def test_a_run_says_what_started_it(run_id: str, task_id: str, started_by: StartedBy) -> None:
    assert RunIdentity(dag_id="d", run_id=run_id, task_id=task_id).started_by == started_by
