"""A schema of the local Snowflake for each test: its cohort table, its state tables, and eyes to look into them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables
from airflow_provider_kubit_braze.warehouse.plan import freeze_plan
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables
from airflow_provider_kubit_braze.warehouse.stays import utc_text
from tests.warehouse.impact_world import IMPACT_SHARE, OTHER_CHANNELS, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.core.run import Purpose
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

_numbers = count(1)

WORKSPACE, COHORT = "workspace", "vips"

HERE = Place("attribute", "kubit_cohort_vips")


class Warehouse:
    """The schema of one test.

    :param session: an open session.
    :param schema: the schema's name.
    """

    def __init__(self, session: Session, schema: str) -> None:
        self.session = session
        self.schema = schema
        self.tables = Tables(schema)
        self.key = (WORKSPACE, COHORT)

    def source(self, rows: Iterable[Sequence[Any]], columns: str = "USER_ID VARCHAR") -> None:
        """Make the cohort's table anew."""
        self.session.execute(f"CREATE OR REPLACE TABLE {self.schema}.SOURCE ({columns})")
        self.insert(f"{self.schema}.SOURCE", rows)

    def insert(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        found = [tuple(row) for row in rows]
        if found:
            values = ", ".join("(" + ", ".join(["%s"] * len(row)) + ")" for row in found)
            self.session.execute(f"INSERT INTO {table} VALUES {values}", [v for row in found for v in row])

    def cohort(self, **fields: Any) -> Cohort:
        given: dict[str, Any] = {
            "id": COHORT,
            "source": {"table": f"{self.schema}.SOURCE"},
            "identifiers": {"external_id": "USER_ID"},
        }
        return Cohort(**{**given, **fields})

    def freeze(
        self,
        import_id: str = "i1",
        *,
        place: Place = HERE,
        full_resync: bool = False,
        purpose: Purpose = "import",
        undone: str | None = None,
        **fields: Any,
    ) -> Plan:
        with self.session.transaction():
            return freeze_plan(
                self.session,
                self.tables,
                cohort=self.cohort(**fields),
                workspace=WORKSPACE,
                place=place,
                import_id=import_id,
                full_resync=full_resync,
                purpose=purpose,
                undone=undone,
            )

    def put(self, table: str, **values: Any) -> None:
        """Insert one row into a state table; the cohort's key goes without saying."""
        row = {"WORKSPACE": WORKSPACE, "COHORT_ID": COHORT, **{k.upper(): v for k, v in values.items()}}
        self.session.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})",
            list(row.values()),
        )

    def stay(self, user: str, *, held: bool = False, kind: str = "external_id", **more: Any) -> None:
        """Put somebody into the cohort, as an earlier run did."""
        self.put(
            self.tables.membership,
            **{
                "place": str(HERE),
                "id_kind": kind,
                "user_id": user,
                "entered_at": "2026-01-01 00:00:00",
                "entered_run": "run 0",
                "entered_import": "i0",
                "held_out": held,
                **more,
            },
        )

    def doubt(self, user: str, *, kind: str = "external_id", place: Place = HERE) -> None:
        """Leave it open whether an earlier change of a user got through."""
        self.put(
            self.tables.unknown,
            place=str(place),
            id_kind=kind,
            user_id=user,
            import_id="i0",
            recorded_at="2026-01-01 00:00:00",
        )

    def reject(self, user: str, *, ago: timedelta = timedelta(hours=1), **more: Any) -> None:
        """Have Braze rejected a change some time ago."""
        values = {"action": "enter", "place": str(HERE), "id_kind": "external_id", "user_id": user, **more}
        self.put(
            self.tables.rejected,
            **{"import_id": "i0", "reason": "no", "rejected_at": utc_text(datetime.now(UTC) - ago), **values},
        )

    def change(self, *rows: tuple[str, str, bool], import_id: str = "i1", place: Place = HERE) -> None:
        """Write a frozen plan: action, user, held out; the sequence numbers start at 1."""
        columns = "IMPORT_ID, SEQ, ACTION, PLACE, ID_KIND, USER_ID, HELD_OUT"
        self.insert(
            f"{self.tables.change} ({columns})",
            [
                (import_id, seq, action, str(place), "external_id", user, held)
                for seq, (action, user, held) in enumerate(rows, 1)
            ],
        )

    def changes(self, import_id: str = "i1") -> list[tuple[Any, ...]]:
        """Return the frozen plan: sequence number, action, kind, user, held out."""
        return self.session.rows(
            f"SELECT SEQ, ACTION, ID_KIND, USER_ID, HELD_OUT FROM {self.tables.change} "
            "WHERE IMPORT_ID = %s ORDER BY SEQ",
            (import_id,),
        )

    def stays(self) -> list[tuple[str, bool, bool]]:
        """Return user, held out, still in; sorted."""
        rows = self.session.rows(f"SELECT USER_ID, HELD_OUT, LEFT_AT IS NULL FROM {self.tables.membership}")
        return sorted((user, bool(held), bool(still_in)) for user, held, still_in in rows)

    def doubted(self) -> list[str]:
        return sorted(user for (user,) in self.session.rows(f"SELECT USER_ID FROM {self.tables.unknown}"))


@pytest.fixture
def bare_warehouse(kubit_braze_sandbox: Sandbox) -> Iterator[Warehouse]:
    """A schema name that nobody used yet; nothing is in it."""
    session = Session(kubit_braze_sandbox.connect(), tag={"app": "tests"})
    yield Warehouse(session, f"KB_W{next(_numbers)}")
    session.close()


@pytest.fixture
def warehouse(bare_warehouse: Warehouse) -> Warehouse:
    """A schema with empty state tables."""
    ensure_tables(bare_warehouse.session, bare_warehouse.tables)
    return bare_warehouse


@pytest.fixture(scope="session")
def impact_share(kubit_braze_sandbox: Sandbox) -> str:
    """A share, empty at first, with all tables but those of some channels."""
    connection = kubit_braze_sandbox.connect()
    make_share_tables(
        connection,
        IMPACT_SHARE,
        without=[table for table in catalogue() if any(channel in table for channel in OTHER_CHANNELS)],
    )
    connection.close()
    return IMPACT_SHARE


@pytest.fixture
def world(warehouse: Warehouse, impact_share: str) -> World:
    """A workspace in that share."""
    return World(warehouse, impact_share)
