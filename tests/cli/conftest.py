"""A cohort ``vips`` with a file, a table and state tables of its own, for the commands to be run on."""

from __future__ import annotations

import io
import json
import sys
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.braze.engine import Patience
from airflow_provider_kubit_braze.connections import snowflake_connection, state_tables
from airflow_provider_kubit_braze.core.cohort_file import read_cohorts
from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
from airflow_provider_kubit_braze.hooks.braze import BrazeHook
from airflow_provider_kubit_braze.importer import run_import
from airflow_provider_kubit_braze.warehouse.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from airflow_provider_kubit_braze.importer import ImportEnd
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

_numbers = count(1)

ATTRIBUTE = "kubit_cohort_vips"
WORKSPACE = "127.0.0.1/kubit_braze_default"
SECRET = "a-key-nobody-may-ever-see-0815"


class World:
    """A cohort ``vips`` with a file, a table and state tables of its own.

    :param sandbox: the running sandbox.
    :param folder: where the cohort file goes.
    """

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.braze = sandbox.braze
        self.braze.configure(apply_delay=0)
        self.schema = f"DEMO.CLI_{next(_numbers)}"
        self.folder = folder / "cohorts"
        self.folder.mkdir()
        self.file = self.folder / "vips.yaml"
        self.session = Session(sandbox.connect(), tag={"app": "tests"})
        self.session.execute(f"CREATE SCHEMA {self.schema}")
        self.define()

    def define(self, **fields: Any) -> None:
        """Write the cohort file; JSON is YAML."""
        definition = {
            "id": "vips",
            "name": "Our V.I.P.s",
            "source": {"table": f"{self.schema}.SOURCE"},
            "identifiers": {"external_id": "USER_ID"},
            "guards": {"max_removed": None, "max_rejected": None},
        }
        self.file.write_text(json.dumps({**definition, **fields}))

    def source(self, *rows: str | Sequence[Any], columns: str = "USER_ID VARCHAR") -> None:
        """Make the cohort's table anew; a string is a row of one column."""
        self.session.execute(f"CREATE OR REPLACE TABLE {self.schema}.SOURCE ({columns})")
        found = [(row,) if isinstance(row, str) else tuple(row) for row in rows]
        if found:
            values = ", ".join("(" + ", ".join(["%s"] * len(row)) + ")" for row in found)
            self.session.execute(
                f"INSERT INTO {self.schema}.SOURCE VALUES {values}", [v for row in found for v in row]
            )

    def run(self, run_id: str | None = None, **options: bool) -> ImportEnd:
        """Import the cohort as its DAG would."""
        [loaded] = read_cohorts(self.file).cohorts
        end = run_import(
            loaded.cohort,
            settings=BrazeHook(loaded.cohort.braze.conn_id).settings,
            connect=lambda: snowflake_connection(loaded.cohort.source.conn_id),
            tables=state_tables(),
            identity=RunIdentity(
                dag_id=loaded.cohort.dag_id, run_id=run_id or f"scheduled__{next(_numbers)}"
            ),
            options=ImportOptions(**options),
            patience=Patience(tries=2, first_wait=0.001, longest_wait=0.002),
        )
        self.braze.settle()
        return end

    def imported(self, *users: str, run_id: str | None = None) -> None:
        """Import the cohort when these are its members, all of them known to Braze."""
        self.braze.add_users(users)
        self.source(*users)
        end = self.run(run_id)
        assert end.error is None, end.error

    def members(self) -> set[str]:
        """Return who is in the cohort in Braze."""
        self.braze.settle()
        return self.braze.cohort(ATTRIBUTE)

    def known(self) -> set[str]:
        """Return who is in the cohort as far as the ledger knows."""
        rows = self.session.rows(f"SELECT USER_ID FROM {self.schema}.COHORT_MEMBERSHIP WHERE LEFT_AT IS NULL")
        return {user for (user,) in rows}

    def history(self, columns: str, where: str = "TRUE") -> list[tuple[Any, ...]]:
        """Return rows of IMPORT_RUN, oldest first."""
        return self.session.rows(
            f"SELECT {columns} FROM {self.schema}.IMPORT_RUN WHERE {where} ORDER BY STARTED_AT"
        )

    @property
    def points(self) -> int:
        """Data points that Braze has counted for the cohort."""
        return self.braze.counters().data_points_by_name.get(ATTRIBUTE, 0)

    @property
    def requests(self) -> int:
        """Requests that may change a profile."""
        return self.braze.counters().write_requests


@pytest.fixture
def world(
    kubit_braze_clean_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    found = World(kubit_braze_clean_sandbox, tmp_path)
    monkeypatch.setenv("AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA", found.schema)
    with closing(found.session):
        yield found


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have somebody at a terminal who types this."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def types(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal(text))

    return types


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no terminal, as in a job of a scheduler."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
