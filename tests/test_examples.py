"""The Python of README and documents is what a DAG file holds, or a test: Airflow and pytest take it as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import BundleDagBag

from airflow_provider_kubit_braze.assets import impact_asset

PROJECT = Path(__file__).resolve().parent.parent

#: Document -> the DAGs of its examples, one after the other.
DAGS = {
    "README.md": [
        ["kubit_braze__power_users"],
        ["kubit_braze__power_users", "kubit_braze_impact__power_users"],
        ["power_users_to_braze"],
    ],
    "docs/campaigns.md": [["spring_sale"], ["welcome_power_users"]],
    "docs/impact.md": [
        ["kubit_braze__power_users", "kubit_braze_impact__power_users"],
        ["spring_sale_impact"],
    ],
}


def examples(document: str, language: str = "python") -> list[str]:
    text = (PROJECT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def read(example: str, folder: Path) -> Any:
    # Where cohort files are read, the README's stands beside it.
    (folder / "cohorts").mkdir()
    (folder / "cohorts" / "power_users.yaml").write_text(examples("README.md", "yaml")[0], encoding="utf-8")
    (folder / "example.py").write_text(example, encoding="utf-8")
    return BundleDagBag(str(folder), bundle_path=folder, bundle_name="examples")


CASES = [
    pytest.param(document, number, wanted, id=f"{document}-{number + 1}")
    for document, of_examples in DAGS.items()
    for number, wanted in enumerate(of_examples)
]


@pytest.mark.parametrize(("document", "number", "wanted"), CASES)
def test_an_example_is_a_dag_file(document: str, number: int, wanted: list[str], tmp_path: Path) -> None:
    found = examples(document)
    assert len(found) == len(DAGS[document])
    bag = read(found[number], tmp_path)
    assert bag.import_errors == {}
    assert sorted(bag.dags) == wanted
    # Which only Airflow 3 has.
    assert "airflow.sdk" not in found[number]


def test_the_measurement_in_a_dag_of_ones_own_updates_the_asset_of_the_impact(tmp_path: Path) -> None:
    [task] = read(examples("docs/impact.md")[1], tmp_path).dags["spring_sale_impact"].tasks
    assert [one.uri for one in task.outlets] == [impact_asset("power_users", "kubit_braze_default").uri]


#: The DAG that the sandbox's example has beside the cohort's: docs/sandbox.md says in words what it does.
SPRING_SALE = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_kubit_braze.operators.trigger_campaign import TriggerCohortCampaignOperator

with DAG("spring_sale", schedule=None, catchup=False):
    TriggerCohortCampaignOperator(
        task_id="send", campaign_id="sandbox-campaign", cohort_id="power_users", broadcast=True
    )
"""


def test_the_example_of_a_test_of_one_s_own_report_passes(tmp_path: Path) -> None:
    """In a project and an Airflow of its own, as its reader has them: only what the document names is there."""
    [cohort] = examples("docs/sandbox.md", "yaml")
    [test] = [one for one in examples("docs/sandbox.md") if "def test_my_report" in one]
    files = {
        "dags/cohorts/power_users.yaml": cohort,
        "dags/cohorts.py": examples("README.md")[0],
        "dags/spring_sale.py": SPRING_SALE,
        "test_my_report.py": test,
    }
    (tmp_path / "dags" / "cohorts").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTEST_"))},
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    for command in (
        ["airflow", "db", "migrate"],
        ["pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-8_000:]
    assert "1 passed" in done.stdout
