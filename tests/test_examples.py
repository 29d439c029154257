"""The Python of README and documents is what a DAG file holds: Airflow reads it as it stands."""

from __future__ import annotations

import re
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
