from __future__ import annotations

import re
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

import pytest
from snowflake.connector.errors import OperationalError, ProgrammingError

from airflow_provider_kubit_braze.core.impact.figures import ControlKind
from airflow_provider_kubit_braze.core.impact.findings import Verdict
from airflow_provider_kubit_braze.core.impact.tellings import Tellings
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.exceptions import StatementBrokenOffError, StateSchemaError
from airflow_provider_kubit_braze.warehouse import session as session_module
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

NAMES = {
    "CAMPAIGN_SEND",
    "IMPACT_DAILY",
    "IMPACT_EVENT",
    "IMPACT_REFRESH",
    "IMPACT_SUMMARY",
    "COHORT_MEMBERSHIP",
    "IMPORT_CHANGE",
    "IMPORT_LEASE",
    "IMPORT_PROGRESS",
    "IMPORT_REJECTED",
    "IMPORT_RUN",
    "IMPORT_UNKNOWN",
    "IMPORT_UNMATCHED",
}


def tables_in(session: Session, schema: str) -> set[str]:
    sql = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = %s"
    return {name for (name,) in session.rows(sql, (schema,))}


class Limited:
    """A connection through which some statements are refused, as to a role that lacks a privilege."""

    database, role = "DEMO", "LOADER"

    def __init__(self, connection: Any, refuses: Callable[[str], Exception | None]) -> None:
        self._connection = connection
        self._refuses = refuses
        self.executed: list[str] = []

    def cursor(self) -> Any:
        cursor, inner = self._connection.cursor(), self._connection.cursor()

        def execute(sql: str, params: object = None) -> None:
            self.executed.append(sql)
            if error := self._refuses(sql):
                raise error
            inner.execute(sql, params)

        cursor.execute, cursor.fetchall = execute, inner.fetchall
        return cursor


def insufficient(what: str) -> ProgrammingError:
    words = f"003001 (42501): SQL access control error:\nInsufficient privileges to operate on {what}"
    return ProgrammingError(msg=words, errno=3001, sqlstate="42501", send_telemetry=False)


@pytest.mark.parametrize("template", ["{}", "DEMO.{}", "demo.{}", 'DEMO."{}"'])
def test_schema_and_tables_are_made_on_first_use_and_left_alone_afterwards(
    bare_warehouse: Any, template: str, kubit_braze_sandbox: Sandbox
) -> None:
    tables = Tables(template.format(bare_warehouse.schema))

    ensure_tables(bare_warehouse.session, tables)

    assert tables_in(bare_warehouse.session, bare_warehouse.schema) == NAMES
    before = bare_warehouse.session.row(f"SELECT COUNT(*) FROM {tables.run}")
    limited: Any = Limited(bare_warehouse.session.connection, lambda _: None)
    ensure_tables(Session(limited, tag={}), tables)
    assert not any(sql.startswith("CREATE") for sql in limited.executed)
    assert before == (0,)


def test_a_table_and_a_column_that_are_missing_are_made_again(bare_warehouse: Any) -> None:
    session, tables = bare_warehouse.session, bare_warehouse.tables
    ensure_tables(session, tables)
    bare_warehouse.doubt("a")
    session.execute(f"DROP TABLE {tables.progress}")
    session.execute(f"ALTER TABLE {tables.lease} DROP COLUMN TRY_NUMBER")

    ensure_tables(session, tables)

    assert tables_in(session, bare_warehouse.schema) == NAMES
    assert bare_warehouse.doubted() == ["a"]
    assert session.rows(f"SELECT TRY_NUMBER FROM {tables.lease}") == []


def test_a_schema_that_an_administrator_made_serves_a_role_that_may_make_none(bare_warehouse: Any) -> None:
    session = bare_warehouse.session
    session.execute(f"CREATE SCHEMA {bare_warehouse.schema}")
    limited: Any = Limited(
        session.connection,
        lambda sql: insufficient("database 'DEMO'") if sql.startswith("CREATE SCHEMA") else None,
    )

    ensure_tables(Session(limited, tag={}), bare_warehouse.tables)

    assert tables_in(session, bare_warehouse.schema) == NAMES


@pytest.mark.parametrize("statement", ["CREATE SCHEMA", "CREATE TABLE"])
@pytest.mark.parametrize("schema", ["{}", "DEMO.{}"])
def test_a_role_that_may_not_make_them_gets_the_grants_to_run(
    bare_warehouse: Any, statement: str, schema: str
) -> None:
    limited: Any = Limited(
        bare_warehouse.session.connection,
        lambda sql: insufficient("something") if sql.startswith(statement) else None,
    )
    full = f"DEMO.{bare_warehouse.schema}"

    with pytest.raises(StateSchemaError) as caught:
        ensure_tables(Session(limited, tag={}), Tables(schema.format(bare_warehouse.schema)))

    assert str(caught.value) == (
        f"The state tables cannot be created in schema {full} "
        "(Snowflake: SQL access control error: Insufficient privileges to operate on something). "
        f"Let an administrator run: CREATE SCHEMA IF NOT EXISTS {full}; GRANT USAGE ON DATABASE DEMO TO ROLE LOADER; "
        f"GRANT USAGE, CREATE TABLE ON SCHEMA {full} TO ROLE LOADER; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {full} TO ROLE LOADER; "
        "or name another schema in [kubit_braze] state_schema."
    )


def test_a_connection_that_breaks_is_not_taken_for_a_missing_grant(bare_warehouse: Any) -> None:
    broken = OperationalError(msg="Connection reset", errno=250003, send_telemetry=False)
    limited: Any = Limited(
        bare_warehouse.session.connection, lambda sql: broken if sql.startswith("SELECT") else None
    )

    with pytest.raises(OperationalError):
        ensure_tables(Session(limited, tag={}), bare_warehouse.tables)


def test_a_warehouse_that_does_not_run_is_not_taken_for_a_missing_grant(bare_warehouse: Any) -> None:
    words = "000606 (57P03): No active warehouse selected in the current session."
    asleep = ProgrammingError(msg=words, errno=606, sqlstate="57P03", send_telemetry=False)
    limited: Any = Limited(
        bare_warehouse.session.connection, lambda sql: asleep if sql.startswith("SELECT") else None
    )

    with pytest.raises(StatementBrokenOffError) as caught:
        ensure_tables(Session(limited, tag={}), bare_warehouse.tables)

    assert str(caught.value) == (
        f"The state tables in schema {bare_warehouse.schema} could not be looked at; Snowflake says: No active "
        "warehouse selected in the current session."
    )
    assert caught.value.retry_helps


@pytest.mark.parametrize("schema", ["", "a.b.c", "a b", "a;DROP TABLE b", "'a'", "{{ var.value.schema }}"])
def test_what_is_no_schema_is_refused_before_it_is_used(schema: str) -> None:
    with pytest.raises(StateSchemaError, match=r"not a Snowflake schema; write SCHEMA or DATABASE\.SCHEMA"):
        Tables(schema)


def test_several_imports_may_meet_at_the_first_use(kubit_braze_sandbox: Sandbox, bare_warehouse: Any) -> None:
    sessions = [Session(kubit_braze_sandbox.connect(), tag={}) for _ in range(4)]
    barrier = threading.Barrier(len(sessions))
    errors: list[BaseException] = []

    def first_use(session: Session) -> None:
        try:
            barrier.wait(timeout=60)
            ensure_tables(session, bare_warehouse.tables)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=first_use, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for session in sessions:
        session.close()

    assert errors == []
    assert tables_in(bare_warehouse.session, bare_warehouse.schema) == NAMES


DOCUMENT = Path(__file__).parents[2] / "docs" / "impact.md"


def documented(table: str) -> dict[str, str]:
    """Return column -> what the document says of it, in the document's order."""
    text = DOCUMENT.read_text(encoding="utf-8")
    [rows] = re.findall(rf"^\| column of `{table}` \|.*\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = (re.fullmatch(r"\| (.+?) \| (.+) \|", row) for row in rows.splitlines())
    return {name: one[2] for one in cells if one for name in re.findall("`([A-Z_]+)`", one[1])}


@pytest.mark.parametrize("table", ["IMPACT_DAILY", "IMPACT_SUMMARY"])
def test_the_document_has_the_columns_of_the_tables_of_an_impact(
    kubit_braze_clean_sandbox: Sandbox, table: str
) -> None:
    tables = Tables("KUBIT_DOCUMENTED")
    with closing(Session(kubit_braze_clean_sandbox.connect(), tag={"app": "tests"})) as session:
        ensure_tables(session, tables)
        sql = (
            "SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s "
            "ORDER BY ORDINAL_POSITION"
        )
        there = [name for (name,) in session.rows(sql, (tables.schema, table))]
        [example] = re.findall(r"```sql\n(SELECT .*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
        assert session.rows(example.replace("KUBIT_BRAZE.", f"{tables.schema}.")) == []
    assert list(documented(table)) == there


def test_the_document_has_every_word_that_those_columns_hold() -> None:
    columns = documented("IMPACT_SUMMARY")

    def words(column: str) -> set[str]:
        return set(re.findall("`([^`]+)`", columns[column]))

    assert words("CONTROL_KIND") == set(get_args(ControlKind))
    assert words("CONVERSION_VERDICT") == set(Verdict)
    assert words("CHANNEL") == {*Tellings(catalogue()).channels, "all"}


def test_a_table_that_somebody_makes_and_has_not_committed_is_waited_for(
    bare_warehouse: Any, kubit_braze_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_tables(bare_warehouse.session, bare_warehouse.tables)
    # Text columns would be noted elsewhere too, which the local Snowflake cannot do in a transaction.
    columns = "FIRST_SEQ NUMBER(38,0), LAST_SEQ NUMBER(38,0), SHARD NUMBER(38,0)"
    bare_warehouse.session.execute(f"DROP TABLE {bare_warehouse.tables.progress}")
    other = Session(kubit_braze_sandbox.connect(), tag={})
    other.execute("BEGIN")
    other.execute(f"CREATE TABLE IF NOT EXISTS {bare_warehouse.tables.progress} ({columns})")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        # What is missing has stayed the same until now.
        pauses.append(seconds)
        if len(pauses) == 5:
            other.execute("COMMIT")

    monkeypatch.setattr(session_module, "time", SimpleNamespace(sleep=pause))

    ensure_tables(bare_warehouse.session, bare_warehouse.tables)
    other.close()

    assert len(pauses) == 5
    assert pauses == sorted(pauses)
    assert pauses[-1] > 2 * pauses[0]
    # The columns that were missing of it are there too.
    sql = f"SELECT LAST_SEQ, NOTE, RECORDED_AT FROM {bare_warehouse.tables.progress}"
    assert bare_warehouse.session.rows(sql) == []


def conflict() -> ProgrammingError:
    words = (
        'TransactionContext Error: Catalog write-write conflict on create with "IMPORT_CHANGE": another transaction '
        "has already created it"
    )
    return ProgrammingError(msg=words, errno=603, sqlstate="XX000", send_telemetry=False)


def test_a_table_that_somebody_never_commits_is_no_missing_grant(
    bare_warehouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(session_module, "time", SimpleNamespace(sleep=pauses.append))
    limited: Any = Limited(
        bare_warehouse.session.connection, lambda sql: conflict() if ".IMPORT_CHANGE (" in sql else None
    )

    with pytest.raises(StatementBrokenOffError, match="Catalog write-write conflict"):
        ensure_tables(Session(limited, tag={}), bare_warehouse.tables)

    # In minutes, an end.
    assert 60 < sum(pauses) < 600
