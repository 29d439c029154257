"""The state tables: their names, their columns, and how they come to be."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.exceptions import StatementBrokenOffError, StateSchemaError
from airflow_provider_kubit_braze.warehouse.session import (
    first_line,
    gives_way,
    is_contention,
    is_passing,
    is_refusal,
    split_name,
    stored_name,
)

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.warehouse.session import Session

log = logging.getLogger(__name__)

DEFAULT_SCHEMA: Final = "KUBIT_BRAZE"

_ID = "WORKSPACE VARCHAR, COHORT_ID VARCHAR, PLACE VARCHAR, ID_KIND VARCHAR, USER_ID VARCHAR"

# All times are UTC. Text columns have no length: Snowflake stores what is there.
_COLUMNS: Final[dict[str, str]] = {
    "COHORT_MEMBERSHIP": f"""
        {_ID}, ENTERED_AT TIMESTAMP_NTZ, LEFT_AT TIMESTAMP_NTZ, ENTERED_RUN VARCHAR, LEFT_RUN VARCHAR,
        HELD_OUT BOOLEAN, ENTERED_IMPORT VARCHAR, LEFT_IMPORT VARCHAR""",
    "IMPORT_RUN": """
        IMPORT_ID VARCHAR, WORKSPACE VARCHAR, COHORT_ID VARCHAR, COHORT_NAME VARCHAR,
        DAG_ID VARCHAR, RUN_ID VARCHAR, TASK_ID VARCHAR, MAP_INDEX NUMBER(38,0), TRY_NUMBER NUMBER(38,0),
        PURPOSE VARCHAR, STATE VARCHAR, OUTCOME VARCHAR,
        MEMBERS NUMBER(38,0), USERS_IMPORTED NUMBER(38,0), ADDED NUMBER(38,0), REMOVED NUMBER(38,0),
        UNCHANGED NUMBER(38,0), HELD_OUT NUMBER(38,0), DUPLICATES NUMBER(38,0), INVALID NUMBER(38,0),
        REJECTED NUMBER(38,0), UNKNOWN NUMBER(38,0), SET_ASIDE NUMBER(38,0), UNMATCHED NUMBER(38,0),
        DATA_POINTS NUMBER(38,0), REQUESTS NUMBER(38,0), RETRIES NUMBER(38,0), THROTTLED_SECONDS FLOAT,
        DURATION_SECONDS FLOAT, STARTED_AT TIMESTAMP_NTZ, FINISHED_AT TIMESTAMP_NTZ, ERROR VARCHAR,
        VERIFICATION VARCHAR, REJECTED_REASONS VARCHAR, PLACE VARCHAR, NAMED_AS VARCHAR, UNDONE VARCHAR,
        USERS_BEFORE NUMBER(38,0), IN_DOUBT NUMBER(38,0), TO_ENTER NUMBER(38,0), TO_LEAVE NUMBER(38,0),
        TO_REFRESH NUMBER(38,0), TO_NOTE NUMBER(38,0), ELSEWHERE NUMBER(38,0)""",
    "IMPORT_CHANGE": """
        IMPORT_ID VARCHAR, SEQ NUMBER(38,0), ACTION VARCHAR, PLACE VARCHAR, ID_KIND VARCHAR, USER_ID VARCHAR,
        HELD_OUT BOOLEAN, ROW_HASH VARCHAR""",
    "IMPORT_PROGRESS": """
        IMPORT_ID VARCHAR, FIRST_SEQ NUMBER(38,0), LAST_SEQ NUMBER(38,0), STATUS VARCHAR,
        DATA_POINTS NUMBER(38,0), REQUESTS NUMBER(38,0), RETRIES NUMBER(38,0), THROTTLED_SECONDS FLOAT,
        RECORDED_AT TIMESTAMP_NTZ, SHARD NUMBER(38,0), NOTE VARCHAR""",
    "IMPORT_REJECTED": f"""
        IMPORT_ID VARCHAR, RUN_ID VARCHAR, SEQ NUMBER(38,0), ACTION VARCHAR, {_ID}, ROW_HASH VARCHAR,
        REASON VARCHAR, REJECTED_AT TIMESTAMP_NTZ, CLEARED_AT TIMESTAMP_NTZ""",
    "IMPORT_UNMATCHED": f"""
        IMPORT_ID VARCHAR, RUN_ID VARCHAR, SEQ NUMBER(38,0), ACTION VARCHAR, {_ID},
        REASON VARCHAR, FOUND_AT TIMESTAMP_NTZ""",
    "IMPORT_UNKNOWN": f"""
        IMPORT_ID VARCHAR, {_ID}, RECORDED_AT TIMESTAMP_NTZ""",
    "IMPORT_LEASE": """
        WORKSPACE VARCHAR, COHORT_ID VARCHAR, OWNER VARCHAR,
        DAG_ID VARCHAR, RUN_ID VARCHAR, TASK_ID VARCHAR, MAP_INDEX NUMBER(38,0), TRY_NUMBER NUMBER(38,0),
        TAKEN_AT TIMESTAMP_NTZ, EXPIRES_AT TIMESTAMP_NTZ""",
    "CAMPAIGN_SEND": """
        SEND_KEY VARCHAR, OWNER VARCHAR, STATE VARCHAR, WORKSPACE VARCHAR, COHORT_ID VARCHAR, PLACE VARCHAR,
        KIND VARCHAR, MESSAGE_ID VARCHAR, SEND_ID VARCHAR, BROADCAST BOOLEAN, MEMBERS NUMBER(38,0),
        DAG_ID VARCHAR, RUN_ID VARCHAR, TASK_ID VARCHAR, MAP_INDEX NUMBER(38,0), TRY_NUMBER NUMBER(38,0),
        BEGUN_AT TIMESTAMP_NTZ, ENDED_AT TIMESTAMP_NTZ, SCHEDULED_FOR VARCHAR, DISPATCH_ID VARCHAR,
        SCHEDULE_ID VARCHAR, ERROR VARCHAR, FOLLOWS VARCHAR""",
    "IMPACT_EVENT": """
        WORKSPACE VARCHAR, COHORT_ID VARCHAR, MEASURE VARCHAR, DAY DATE, MOMENT NUMBER(38,0), FIGURE VARCHAR,
        KIND VARCHAR, MESSAGE_ID VARCHAR, CHANNEL VARCHAR, VARIATION_ID VARCHAR, ID_KIND VARCHAR, USER_ID VARCHAR,
        CURRENCY VARCHAR, AMOUNT FLOAT, REACH_DAY DATE""",
    "IMPACT_DAILY": """
        WORKSPACE VARCHAR, COHORT_ID VARCHAR, MEASURE VARCHAR, DAY DATE, KIND VARCHAR, MESSAGE_ID VARCHAR,
        CHANNEL VARCHAR, VARIATION_ID VARCHAR, REACHED NUMBER(38,0), SENDS NUMBER(38,0), DELIVERED NUMBER(38,0),
        SEEN NUMBER(38,0), CLICKED NUMBER(38,0), CONVERTED NUMBER(38,0), REVENUE FLOAT, CURRENCY VARCHAR,
        OPTED_OUT NUMBER(38,0), MEASURED_AT TIMESTAMP_NTZ""",
    "IMPACT_SUMMARY": """
        WORKSPACE VARCHAR, COHORT_ID VARCHAR, MEASURE VARCHAR, MESSAGES VARCHAR, KIND VARCHAR, MESSAGE_ID VARCHAR,
        NAME VARCHAR, CHANNEL VARCHAR, VARIATION_ID VARCHAR, FIRST_DAY DATE, LAST_DAY DATE,
        REACHED NUMBER(38,0), SENDS NUMBER(38,0), DELIVERED NUMBER(38,0),
        SEEN NUMBER(38,0), CLICKED NUMBER(38,0), CONVERTED NUMBER(38,0), REVENUE FLOAT, CURRENCY VARCHAR,
        OPTED_OUT NUMBER(38,0), CONTROL_KIND VARCHAR, CONTROL_ID VARCHAR, TREATED_USERS NUMBER(38,0),
        CONTROL_USERS NUMBER(38,0),
        CONVERSION_TREATED FLOAT, CONVERSION_CONTROL FLOAT, CONVERSION_LIFT FLOAT, CONVERSION_LIFT_LOW FLOAT,
        CONVERSION_LIFT_HIGH FLOAT, CONVERSION_VERDICT VARCHAR, CONVERSION_SENTENCE VARCHAR,
        REVENUE_TREATED FLOAT, REVENUE_CONTROL FLOAT, REVENUE_CURRENCY VARCHAR, REVENUE_LIFT FLOAT,
        REVENUE_LIFT_LOW FLOAT, REVENUE_LIFT_HIGH FLOAT, REVENUE_VERDICT VARCHAR, REVENUE_SENTENCE VARCHAR,
        MEASURED_AT TIMESTAMP_NTZ, RUN_ID VARCHAR""",
    "IMPACT_REFRESH": """
        WORKSPACE VARCHAR, COHORT_ID VARCHAR, MEASURE VARCHAR, SETTINGS VARCHAR, FIRST_DAY DATE, LAST_DAY DATE,
        DAYS NUMBER(38,0), DATA_UNTIL NUMBER(38,0), GOAL_UNTIL NUMBER(38,0), LOADED_UNTIL NUMBER(38,0),
        MEASURED_AT TIMESTAMP_NTZ, RUN_ID VARCHAR, USED VARCHAR""",
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
    def unmatched(self) -> str:
        """Users that Braze does not know."""
        return f"{self.schema}.IMPORT_UNMATCHED"

    @property
    def lease(self) -> str:
        """Who imports a cohort now; one row for each cohort."""
        return f"{self.schema}.IMPORT_LEASE"

    @property
    def unknown(self) -> str:
        """Users whose last change has no certain answer; the next import sends them what is right by then."""
        return f"{self.schema}.IMPORT_UNKNOWN"

    @property
    def campaign_send(self) -> str:
        """One row per campaign or Canvas that was to be sent to a cohort, and what became of it."""
        return f"{self.schema}.CAMPAIGN_SEND"

    @property
    def impact_event(self) -> str:
        """One row for everything that counts in an impact: a message that reached a user, and what followed."""
        return f"{self.schema}.IMPACT_EVENT"

    @property
    def impact_daily(self) -> str:
        """The figures of each day, message, channel and variation."""
        return f"{self.schema}.IMPACT_DAILY"

    @property
    def impact_summary(self) -> str:
        """The figures of the whole period, and what is said of them."""
        return f"{self.schema}.IMPACT_SUMMARY"

    @property
    def impact_refresh(self) -> str:
        """One row per measurement: what it has measured, and up to where."""
        return f"{self.schema}.IMPACT_REFRESH"


def ensure_tables(session: Session, tables: Tables) -> None:
    """Create the schema, the tables and the columns that are not there yet.

    :raises StateSchemaError: when that is not allowed, with the grants to run.
    :raises StatementBrokenOffError: when Snowflake could not do it now.
    """
    *database, schema = split_name(tables.schema)
    catalog = f"{database[0]}." if database else ""
    before: list[str] | None = None
    missing: list[str] | None = None
    met = 0
    while True:
        try:
            missing = _missing(session, tables, catalog, stored_name(schema))
            for statement in missing:
                session.execute(statement)
        except Exception as error:
            if not is_refusal(error):
                raise
            # Imports that meet at the first use get into each other's way. Whoever makes a table may not have
            # committed it yet, so that the next look would find as little as this one did.
            met += is_contention(error)
            if gives_way(error, attempt=met):
                continue
            # Otherwise, as long as somebody makes some, go on.
            if missing == before:
                if is_passing(error) or is_contention(error):
                    raise StatementBrokenOffError(
                        f"The state tables in schema {tables.schema} could not be looked at; Snowflake says: "
                        f"{first_line(error)}"
                    ) from None
                raise StateSchemaError(_grants(session, tables, catalog, first_line(error))) from None
            before = missing
            continue
        if missing:
            log.info("Created the state tables in schema %s.", tables.schema)
        return


def _missing(session: Session, tables: Tables, catalog: str, schema: str) -> list[str]:
    """Return the statements that make what is not there."""
    sql = f"SELECT TABLE_NAME, COLUMN_NAME FROM {catalog}INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = %s"
    there: dict[str, set[str]] = {}
    for table, column in session.rows(sql, (schema,)):
        there.setdefault(table, set()).add(column)
    statements: list[str] = []
    # An administrator may have made the schema for a role that may not make any: IF NOT EXISTS would not help it.
    sql = f"SELECT SCHEMA_NAME FROM {catalog}INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = %s"
    if not there and not session.rows(sql, (schema,)):
        statements.append(f"CREATE SCHEMA IF NOT EXISTS {tables.schema}")
    for table, columns in _COLUMNS.items():
        if table not in there:
            statements.append(f"CREATE TABLE IF NOT EXISTS {tables.schema}.{table} ({columns})")
            continue
        if "PLACE" in columns and "PLACE" not in there[table]:
            raise StateSchemaError(
                f"Table {tables.schema}.{table} was made by a version of this package that was never released, and "
                "does not say where in Braze users are. Drop the state tables, or name another schema in "
                "[kubit_braze] state_schema."
            )
        # Made by an earlier version of this package.
        statements += [
            f"ALTER TABLE {tables.schema}.{table} ADD COLUMN IF NOT EXISTS {name} {kind}"
            for name, kind in _split_columns(columns)
            if name not in there[table]
        ]
    return statements


def _split_columns(columns: str) -> list[tuple[str, str]]:
    # Only the comma of NUMBER(38,0) has no blank behind it.
    return [(name, kind) for name, kind in (one.split() for one in re.split(r",\s", columns.strip()))]


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
