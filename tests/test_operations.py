"""docs/operations.md: what it tells people to run can be run."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "operations.md").read_text(encoding="utf-8")
STATEMENTS = [
    statement.strip()
    for block in re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
    for statement in block.split(";")
    if statement.strip()
]


def test_there_are_statements() -> None:
    assert len(STATEMENTS) == 6


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: text.splitlines()[0].removeprefix("-- "))
def test_every_statement_runs(kubit_braze_clean_sandbox: Sandbox, statement: str) -> None:
    tables = Tables("DEMO.OPERATIONS_MD")
    with closing(Session(kubit_braze_clean_sandbox.connect(), tag={"app": "tests"})) as session:
        ensure_tables(session, tables)
        assert "KUBIT_BRAZE." in statement
        assert session.rows(statement.replace("KUBIT_BRAZE.", f"{tables.schema}.")) == []


def test_every_link_inside_the_page_has_its_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    links = set(re.findall(r"\]\(#([^)]*)\)", TEXT))

    assert links
    assert links <= headings
