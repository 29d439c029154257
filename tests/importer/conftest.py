"""A world of its own for each test: a cohort table and state tables in local Snowflake, and an empty local Braze."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.braze.engine import Patience
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
from airflow_provider_kubit_braze.importer import ImportEnd, run_import
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables
from airflow_provider_kubit_braze.work import Work

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from airflow_provider_kubit_braze.core.report import ImportResult
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

_numbers = count(1)

KEY = "a-key-nobody-may-ever-see-4711"
ATTRIBUTE = "kubit_cohort_vips"

# Enough to see a retry, and no test waits for it.
PATIENCE = Patience(tries=3, first_wait=0.001, longest_wait=0.002)

PARTNER_KEY, CLIENT_SECRET = "a-partner-key-nobody-sees-0815", "a-client-secret-nobody-sees-0816"

#: What a connection for partner cohorts has besides.
PARTNER = {"partner_api_key": PARTNER_KEY, "client_secret": CLIENT_SECRET}

_TABLES = ("membership", "run", "change", "progress", "rejected", "unknown", "unmatched")


class World:
    """Where one test imports its cohort ``vips``.

    :param sandbox: the running sandbox.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.braze = sandbox.braze
        self.braze.configure(
            keys={KEY: ["users.track", "users.export.ids"]},
            partner_api_keys={"kubit": PARTNER_KEY},
            client_secrets={CLIENT_SECRET: ["kubit"]},
            apply_delay=0,
        )
        self.schema = f"KB_I{next(_numbers)}"
        self.tables = Tables(self.schema)
        self.session = Session(sandbox.connect(), tag={"app": "tests"})
        self.session.execute(f"CREATE SCHEMA {self.schema}")
        self.fields: dict[str, Any] = {
            "id": "vips",
            "name": "Our V.I.P.s",
            "source": {"table": f"{self.schema}.SOURCE"},
            "identifiers": {"external_id": "USER_ID"},
        }

    # -- what there is ------------------------------------------------------------------------------------------

    def source(self, *rows: str | Sequence[Any], columns: str = "USER_ID VARCHAR") -> None:
        """Make the cohort's table anew; a string is a row of one column."""
        self.session.execute(f"CREATE OR REPLACE TABLE {self.schema}.SOURCE ({columns})")
        found = [(row,) if isinstance(row, str) else tuple(row) for row in rows]
        for start in range(0, len(found), 500):
            part = found[start : start + 500]
            values = ", ".join("(" + ", ".join(["%s"] * len(row)) + ")" for row in part)
            self.session.execute(
                f"INSERT INTO {self.schema}.SOURCE VALUES {values}", [v for row in part for v in row]
            )

    def people(self, *rows: str) -> None:
        """Have these at the source, and known to Braze."""
        self.braze.add_users(rows)
        self.source(*rows)

    def rows(self, table: str, columns: str = "*", where: str = "TRUE") -> list[tuple[Any, ...]]:
        return self.session.rows(f"SELECT {columns} FROM {getattr(self.tables, table)} WHERE {where}")

    def state(self, *but: str) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything in the state tables, apart from the tables ``but``."""
        return {name: sorted(self.rows(name), key=repr) for name in _TABLES if name not in but}

    def stays(self, *, held: bool = False) -> set[tuple[str, str]]:
        """Return the open stays as kind and user; each may be there only once."""
        found = self.rows("membership", "ID_KIND, USER_ID", f"LEFT_AT IS NULL AND HELD_OUT = {held}")
        assert len(found) == len(set(found))
        return {(kind, user) for kind, user in found}

    def users(self) -> set[str]:
        """Return who is in, as far as the ledger knows."""
        return {user for _, user in self.stays()}

    def cohort_in_braze(self) -> set[str]:
        return self.braze.cohort(ATTRIBUTE)

    @property
    def points(self) -> int:
        """Data points that Braze has counted for the cohort."""
        return self.braze.counters().data_points_by_name.get(ATTRIBUTE, 0)

    def written(self) -> list[dict[str, Any]]:
        """Return every object that Braze got, in order; retries repeat theirs."""
        return [
            found
            for request in self.braze.requests()
            if request.path.startswith("/users/track")
            for found in (request.body or {})["attributes"]
        ]

    # -- what is done -------------------------------------------------------------------------------------------

    def cohort(self, **fields: Any) -> Cohort:
        return Cohort(**{**self.fields, **fields})

    def settings(self, **changes: Any) -> BrazeSettings:
        return BrazeSettings(
            **{"base_url": self.sandbox.braze_url, "rest_key": KEY, "workspace": "workspace", **changes}
        )

    def run(
        self,
        run_id: str = "run 1",
        try_number: int = 1,
        *,
        braze: dict[str, Any] | None = None,
        connect: Callable[[], Any] | None = None,
        dry_run: bool = False,
        full_resync: bool = False,
        override_guards: bool = False,
        undo: bool = False,
        retire: bool = False,
        lease_seconds: float = 600,
        stop: threading.Event | None = None,
        tell: Callable[[int, int], None] | None = None,
        **fields: Any,
    ) -> ImportEnd:
        """Import the cohort; ``fields`` change its definition, ``braze`` the connection."""
        end = run_import(
            self.cohort(**fields),
            settings=self.settings(**(braze or {})),
            connect=connect or self.sandbox.connect,
            tables=self.tables,
            identity=RunIdentity(dag_id="kubit_braze__vips", run_id=run_id, try_number=try_number),
            options=ImportOptions(
                dry_run=dry_run,
                full_resync=full_resync,
                override_guards=override_guards,
                undo=undo,
                retire=retire,
            ),
            patience=PATIENCE,
            lease_seconds=lease_seconds,
            stop=stop,
            tell=tell,
        )
        self.braze.settle()
        return end

    @contextmanager
    def work(
        self,
        task_id: str,
        run_id: str = "run 1",
        try_number: int = 1,
        *,
        map_index: int = -1,
        braze: dict[str, Any] | None = None,
        lease_seconds: float = 600,
        stop: threading.Event | None = None,
        options: dict[str, bool] | None = None,
        **fields: Any,
    ) -> Iterator[Work]:
        """Begin one task of an import in shards."""
        with Work.begun(
            self.cohort(**fields),
            settings=self.settings(**(braze or {})),
            connect=self.sandbox.connect,
            tables=self.tables,
            identity=RunIdentity(
                dag_id="kubit_braze__vips",
                run_id=run_id,
                task_id=task_id,
                map_index=map_index,
                try_number=try_number,
            ),
            options=ImportOptions(**(options or {})),
            patience=PATIENCE,
            lease_seconds=lease_seconds,
            stop=stop,
        ) as work:
            yield work
        self.braze.settle()

    def imported(self, *arguments: Any, **options: Any) -> ImportResult:
        """Import the cohort and see that it went well."""
        end = self.run(*arguments, **options)
        assert end.error is None, end.error
        return end.result


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true answer of ``condition``; one that never comes is a failure, not a matter of speed."""
    deadline = time.monotonic() + 120
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still no {what}"
        time.sleep(0.05)
    return answer


@pytest.fixture
def world(kubit_braze_clean_sandbox: Sandbox) -> Iterator[World]:
    found = World(kubit_braze_clean_sandbox)
    yield found
    found.session.close()


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[[Callable[[], Any], str], Any]:
    return wait_until


@pytest.fixture
def everything_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Callable[[World, Iterable[ImportEnd]], str]:
    """Collect all that an import said and wrote anywhere, down to DEBUG."""
    caplog.set_level("DEBUG")

    def collect(world: World, ends: Iterable[ImportEnd]) -> str:
        out, err = capfd.readouterr()
        told = [f"{end.result!r} {end.error!r} {end.error} {end.result.sentence()}" for end in ends]
        return "\n".join([caplog.text, out, err, *told, repr(world.state())])

    return collect
