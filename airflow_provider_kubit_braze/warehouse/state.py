"""The state tables: their names, their columns, and how they come to be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.exceptions import StateSchemaError
from airflow_provider_kubit_braze.warehouse.session import first_line, is_refusal, split_name, stored_name

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.warehouse.session import Session

log = logging.getLogger(__name__)

DEFAULT_SCHEMA: Final = "KUBIT_BRAZE"

_SCHEMA: Final = "the schema"

# All times are UTC. Text columns have no length: Snowflake stores what is there.
_COLUMNS: Final[dict[str, str]] = {
    "COHORT_MEMBERSHIP": """
        WORKSPACE VARCHAR, COHORT_ID VARCHAR, ID_KIND VARCHAR, USER_ID VARCHAR,
        ENTERED_AT TIMESTAMP_NTZ, LEFT_AT TIMESTAMP_NTZ, ENTERED_RUN VARCHAR, LEFT_RUN VARCHAR, HELD_OUT BOOLEAN""",
    "IMPORT_RUN": """
        IMPORT_ID VARCHAR, WORKSPACE VARCHAR, COHORT_ID VARCHAR, COHORT_NAME VARCHAR,
        DAG_ID VARCHAR, RUN_ID VARCHAR, TASK_ID VARCHAR, MAP_INDEX NUMBER(38,0), TRY_NUMBER NUMBER(38,0),
        STATE VARCHAR, OUTCOME VARCHAR,
        MEMBERS NUMBER(38,0), USERS_IMPORTED NUMBER(38,0), ADDED NUMBER(38,0), REMOVED NUMBER(38,0),
        UNCHANGED NUMBER(38,0), HELD_OUT NUMBER(38,0), DUPLICATES NUMBER(38,0), INVALID NUMBER(38,0),
        REJECTED NUMBER(38,0), UNKNOWN NUMBER(38,0), DATA_POINTS NUMBER(38,0),
        REQUESTS NUMBER(38,0), RETRIES NUMBER(38,0), THROTTLED_SECONDS FLOAT, DURATION_SECONDS FLOAT,
        STARTED_AT TIMESTAMP_NTZ, FINISHED_AT TIMESTAMP_NTZ, ERROR VARCHAR,
        IN_BRAZE NUMBER(38,0), TO_ENTER NUMBER(38,0), TO_LEAVE NUMBER(38,0), TO_REFRESH NUMBER(38,0),
        TO_NOTE NUMBER(38,0)""",
    "IMPORT_CHANGE": """
        IMPORT_ID VARCHAR, SEQ NUMBER(38,0), ACTION VARCHAR, ID_KIND VARCHAR, USER_ID VARCHAR, HELD_OUT BOOLEAN""",
    "IMPORT_PROGRESS": """
        IMPORT_ID VARCHAR, FIRST_SEQ NUMBER(38,0), LAST_SEQ NUMBER(38,0), STATUS VARCHAR,
        DATA_POINTS NUMBER(38,0), REQUESTS NUMBER(38,0), RETRIES NUMBER(38,0), THROTTLED_SECONDS FLOAT,
        RECORDED_AT TIMESTAMP_NTZ""",
    "IMPORT_REJECTED": """
        IMPORT_ID VARCHAR, WORKSPACE VARCHAR, COHORT_ID VARCHAR, RUN_ID VARCHAR, SEQ NUMBER(38,0),
        ACTION VARCHAR, ID_KIND VARCHAR, USER_ID VARCHAR, REASON VARCHAR, REJECTED_AT TIMESTAMP_NTZ""",
    "IMPORT_UNKNOWN": """
        WORKSPACE VARCHAR, COHORT_ID VARCHAR, ID_KIND VARCHAR, USER_ID VARCHAR,
        IMPORT_ID VARCHAR, RECORDED_AT TIMESTAMP_NTZ""",
}


@dataclass(frozen=True)
class Tables:
    """The qualified names of the state tables.

    :param schema: ``SCHEMA`` or ``DATABASE.SCHEMA``.
    :raises StateSchemaError: when ``schema`` is not a Snowflake name.
    """

    schema: str = DEFAULT_SCHEMA

    def __post_init__(self) -> None:
        """Refuse what is no name before it gets into a statement."""
        try:
            parts = split_name(self.schema)
        except ValueError:
            parts = []
        if not 1 <= len(parts) <= 2:
            raise StateSchemaError(
                f"[kubit_braze] state_schema is {self.schema!r}, which is not a Snowflake schema; "
                "write SCHEMA or DATABASE.SCHEMA."
            )

    @property
    def membership(self) -> str:
        """One row per stay: the ledger of what Braze accepted."""
        return f"{self.schema}.COHORT_MEMBERSHIP"

    @property
    def run(self) -> str:
        """One row per import."""
        return f"{self.schema}.IMPORT_RUN"

    @property
    def change(self) -> str:
        """The frozen plans."""
        return f"{self.schema}.IMPORT_CHANGE"

    @property
    def progress(self) -> str:
        """Which ranges of a plan have their verdict."""
        return f"{self.schema}.IMPORT_PROGRESS"

    @property
    def rejected(self) -> str:
        """Users that Braze refused, in its words."""
        return f"{self.schema}.IMPORT_REJECTED"

    @property
    def unknown(self) -> str:
        """Users whose last change has no certain answer; the next import sends them what is right by then."""
        return f"{self.schema}.IMPORT_UNKNOWN"


def ensure_tables(session: Session, tables: Tables) -> None:
    """Create the schema and the tables that are not there yet.

    :raises StateSchemaError: when that is not allowed, with the grants to run.
    """
    *database, schema = split_name(tables.schema)
    catalog = f"{database[0]}." if database else ""
    before: list[str] | None = None
    missing: list[str] | None = None
    while True:
        try:
            missing = _missing(session, catalog, stored_name(schema))
            for name in missing:
                session.execute(
                    f"CREATE SCHEMA IF NOT EXISTS {tables.schema}"
                    if name == _SCHEMA
                    else f"CREATE TABLE IF NOT EXISTS {tables.schema}.{name} ({_COLUMNS[name]})"
                )
        except Exception as error:
            if not is_refusal(error):
                raise
            # Imports that meet at the first use get into each other's way: as long as somebody makes some, go on.
            if missing == before:
                raise StateSchemaError(_grants(session, tables, catalog, first_line(error))) from None
            before = missing
            continue
        if missing:
            log.info("Created the state tables in schema %s.", tables.schema)
        return


def _missing(session: Session, catalog: str, schema: str) -> list[str]:
    sql = f"SELECT TABLE_NAME FROM {catalog}INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = %s"
    there = {name for (name,) in session.rows(sql, (schema,))}
    if there:
        return [name for name in _COLUMNS if name not in there]
    # An administrator may have made the schema for a role that may not make any: IF NOT EXISTS would not help it.
    sql = f"SELECT SCHEMA_NAME FROM {catalog}INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = %s"
    return [*_COLUMNS] if session.rows(sql, (schema,)) else [_SCHEMA, *_COLUMNS]


def _grants(session: Session, tables: Tables, catalog: str, said: str) -> str:
    database = catalog.rstrip(".") or session.connection.database or "<DATABASE>"
    qualified = tables.schema if catalog else f"{database}.{tables.schema}"
    role = session.connection.role or "<ROLE>"
    return (
        f"The state tables cannot be created in schema {qualified} (Snowflake: {said}). Let an administrator run: "
        f"CREATE SCHEMA IF NOT EXISTS {qualified}; "
        f"GRANT USAGE ON DATABASE {database} TO ROLE {role}; "
        f"GRANT USAGE, CREATE TABLE ON SCHEMA {qualified} TO ROLE {role}; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {qualified} TO ROLE {role}; "
        "or name another schema in [kubit_braze] state_schema."
    )
