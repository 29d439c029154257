"""The local Snowflake with a cohort of any size in it, and imports of that cohort."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.core.run import ImportOptions
from airflow_provider_kubit_braze.importer import run_import
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables
from bench.local import UNLIMITED, connect, settings_for, variables
from bench.standin import IDENTITY, cohort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_kubit_braze.core.report import ImportResult

_WORKSPACE: Final = "bench"
_NUMBERS: Final = "SELECT SEQ4() + 1 AS N FROM TABLE(GENERATOR(ROWCOUNT => {size}))"
_USER: Final = "'user-' || LPAD(CAST(N AS VARCHAR), 9, '0')"


@dataclass(frozen=True)
class Way:
    """How another process gets to the services; their authority it finds in the environment."""

    host: str
    port: int
    braze_url: str

    def open_session(self) -> Session:
        """Open a session of the caller's own."""
        return Session(connect(self.host, self.port), tag={"app": "bench"})


class Warehouse:
    """A running local Snowflake, and a Braze beside it whose limit holds nobody up.

    :param sandbox: which is running.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.braze = sandbox.braze
        self.way = Way(sandbox.snowflake_host, sandbox.snowflake_port, sandbox.braze_url)
        self._session = self.way.open_session()

    def fill_source(self, table: str, size: int) -> None:
        """Make a cohort's table with so many users."""
        self._session.execute(
            f"CREATE TABLE PUBLIC.{table} AS SELECT {_USER} AS USER_ID FROM ({_NUMBERS.format(size=size)}) n"
        )

    def fill_ledger(self, table: str) -> None:
        """Say of all users of a cohort's table that Braze has taken them."""
        tables, place = _tables(table), Place("attribute", cohort(table).attribute)
        ensure_tables(self._session, tables)
        self._session.execute(
            f"INSERT INTO {tables.membership} "
            "(WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, ENTERED_AT, ENTERED_RUN, ENTERED_IMPORT, HELD_OUT) "
            "SELECT %s, %s, %s, 'external_id', USER_ID, SYSDATE(), 'before', 'before', FALSE "
            f"FROM PUBLIC.{table}",
            (_WORKSPACE, cohort(table).id, str(place)),
        )

    def fill_plan(self, schema: str, size: int) -> Tables:
        """Freeze a plan of so many entrants, alone in state tables of its own; its id is ``bench``."""
        tables, place = Tables(schema), Place("attribute", cohort(schema).attribute)
        ensure_tables(self._session, tables)
        self._session.execute(
            f"INSERT INTO {tables.change} (IMPORT_ID, SEQ, ACTION, PLACE, ID_KIND, USER_ID, HELD_OUT) "
            f"SELECT 'bench', N, 'enter', %s, 'external_id', {_USER}, FALSE FROM ({_NUMBERS.format(size=size)}) n",
            (str(place),),
        )
        return tables


@contextmanager
def local_warehouse() -> Iterator[Warehouse]:
    """Run the local services; meanwhile the environment of this process names their authority."""
    with Sandbox(services=("snowflake", "braze")) as sandbox, variables(sandbox.env()):
        sandbox.braze.configure(windows={"users.track": [[UNLIMITED, 3.0]]}, recorded_requests=0)
        yield Warehouse(sandbox)


def import_cohort(way: Way, table: str, *, state: str | None = None) -> ImportResult:
    """Import the cohort of a table.

    :param state: which state tables to use; default: those of the table, that ``fill_ledger`` fills.
    """
    end = run_import(
        cohort(table),
        settings=settings_for(way.braze_url, workspace=_WORKSPACE),
        connect=lambda: connect(way.host, way.port),
        tables=_tables(state or table),
        identity=IDENTITY,
        options=ImportOptions(),
    )
    if end.error is not None:
        raise end.error
    return end.result


def _tables(state: str) -> Tables:
    return Tables(f"KUBIT_BRAZE_{state}")
