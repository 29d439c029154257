from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import fakesnow
import pytest
import snowflake.connector
from snowflake.connector.errors import OperationalError, ProgrammingError

from airflow_provider_kubit_braze.core.readiness import CohortMeasure
from airflow_provider_kubit_braze.exceptions import CohortConfigError, SourceError
from airflow_provider_kubit_braze.warehouse.measure import measure_cohort, measure_sql

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore:Arrow output on a DB-API result:UserWarning")


def measure(connection: Any, **question: Any) -> CohortMeasure:
    return measure_cohort(connection, **question)


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    with fakesnow.patch(nop_regexes=[r"^\s*ALTER SESSION SET QUERY_TAG"]):
        connection = snowflake.connector.connect(database="DEMO", schema="KUBIT")
        connection.cursor().execute(
            "CREATE TABLE VIP (USER_ID VARCHAR, COMPUTED_AT TIMESTAMP_NTZ, AT_LTZ TIMESTAMP_LTZ,"
            " AT_TZ TIMESTAMP_TZ, ON_DAY DATE, NAME VARCHAR)"
        )
        connection.cursor().execute("CREATE TABLE NOBODY (USER_ID VARCHAR, COMPUTED_AT TIMESTAMP_NTZ)")
        rows = ", ".join(
            f"('u{n}', '2026-11-{20 + n} 05:00:00', '2026-11-{20 + n} 05:00:00+02:00',"
            f" '2026-11-{20 + n} 05:00:00+02:00', '2026-11-{20 + n}', 'x')"
            for n in (3, 1, 2)
        )
        connection.cursor().execute(f"INSERT INTO VIP VALUES {rows}")
        yield connection


@pytest.mark.parametrize(
    ("column", "newest"),
    [
        pytest.param("COMPUTED_AT", datetime(2026, 11, 23, 5, tzinfo=UTC), id="NTZ is UTC"),
        pytest.param("AT_LTZ", datetime(2026, 11, 23, 3, tzinfo=UTC), id="LTZ is converted"),
        pytest.param("AT_TZ", datetime(2026, 11, 23, 3, tzinfo=UTC), id="TZ is converted"),
        pytest.param("ON_DAY", datetime(2026, 11, 23, tzinfo=UTC), id="a date is its midnight"),
        pytest.param(None, None, id="no column"),
    ],
)
def test_a_table_is_counted_and_dated(connection: Any, column: str | None, newest: datetime | None) -> None:
    found = measure(connection, table="DEMO.KUBIT.VIP", column=column)

    assert found == CohortMeasure(exists=True, members=3, newest=newest)
    assert newest is None or (found.newest is not None and found.newest.tzinfo is UTC)


def test_sql_with_a_comment_at_its_end_is_measured(connection: Any) -> None:
    sql = "SELECT * FROM VIP WHERE USER_ID <> 'u3' -- not the newest\n;"

    found = measure(connection, sql=sql, column="COMPUTED_AT", tag={"dag_id": "it's a \\ tag"})

    assert found == CohortMeasure(exists=True, members=2, newest=datetime(2026, 11, 22, 5, tzinfo=UTC))


def test_an_empty_table_has_no_newest_value(connection: Any) -> None:
    found = measure(connection, table="NOBODY", column="COMPUTED_AT")

    assert found == CohortMeasure(exists=True, members=0, newest=None)


@pytest.mark.parametrize(
    "source", [{"table": "NOBODY"}, {"sql": "SELECT * FROM NOBODY"}], ids=["table", "sql"]
)
def test_mere_existence_is_measured_without_counting(connection: Any, source: dict[str, Any]) -> None:
    assert measure(connection, **source, count=False) == CohortMeasure(exists=True)


@pytest.mark.parametrize(
    "source",
    [
        {"table": "DEMO.KUBIT.SOON"},
        {"table": "ELSEWHERE.KUBIT.VIP"},
        {"sql": "SELECT * FROM SOON"},
    ],
    ids=["table", "database", "sql"],
)
def test_a_missing_table_is_not_there_yet(connection: Any, source: dict[str, str]) -> None:
    assert measure(connection, **source) == CohortMeasure(exists=False)


def test_a_missing_column_is_told_in_snowflakes_words(connection: Any) -> None:
    with pytest.raises(SourceError, match=r"^Snowflake refuses to read table VIP: .*COMPUTED.*not found"):
        measure(connection, table="VIP", column="COMPUTED")


def test_a_column_of_text_is_refused(connection: Any) -> None:
    with pytest.raises(SourceError, match="NAME holds text, no date or time"):
        measure(connection, table="VIP", column="NAME")


@pytest.mark.parametrize(
    ("arguments", "statement"),
    [
        (
            {"table": "A.B.C", "column": "D", "count": True},
            "SELECT COUNT(*)::NUMBER(38,0) AS members, MAX(D) AS newest FROM A.B.C",
        ),
        (
            {"table": "C", "column": '"d ""x"', "count": False},
            'SELECT NULL AS members, MAX("d ""x") AS newest FROM C',
        ),
        (
            {"sql": " SELECT 1 -- one\n;; -- the end", "count": True},
            "SELECT COUNT(*)::NUMBER(38,0) AS members, NULL AS newest FROM (\nSELECT 1\n) AS cohort",
        ),
    ],
    ids=["both", "age only", "sql"],
)
def test_one_statement_asks_for_no_more_than_is_needed(arguments: dict[str, Any], statement: str) -> None:
    assert measure_sql(**{"table": None, "sql": None, "column": None, **arguments}) == statement


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"table": "A.B.C.D"}, "'A.B.C.D' is not a table name"),
        ({"table": "VIP; DROP TABLE VIP"}, "is not a table name"),
        ({"table": "{{ params.table }}"}, "is not a table name"),
        ({"table": ""}, "is not a table name"),
        ({"table": "VIP", "column": "MAX(X)"}, "MAX(X)"),
        ({"sql": " ; "}, "the SQL is blank"),
        ({"sql": "SELECT 1; SELECT 2"}, "more than one statement"),
        ({"sql": "SELECT 1", "table": "VIP"}, "exactly one source"),
        ({}, "exactly one source"),
    ],
    ids=str,
)
def test_a_source_that_is_none_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(CohortConfigError) as caught:
        measure_sql(**{"table": None, "sql": None, "column": None, "count": True, **arguments})

    assert words in str(caught.value)


def test_the_statement_carries_the_tag() -> None:
    executed: list[tuple[str, object]] = []

    class Recording(_Refusing):
        def execute(self, operation: str, params: object = None, /) -> None:
            executed.append((operation, params))

        def fetchone(self) -> Any:
            return (1, None)

    measure(Recording(AssertionError()), table="VIP", tag={"dag_id": "kubit_braze__vip"})

    assert executed == [
        ("ALTER SESSION SET AUTOCOMMIT = TRUE", None),
        ("ALTER SESSION SET QUERY_TAG = %s", ('{"dag_id": "kubit_braze__vip"}',)),
        ("SELECT COUNT(*)::NUMBER(38,0) AS members, NULL AS newest FROM VIP", None),
    ]


class _Refusing:
    """A connection whose every statement ends in one error, as the connector would raise it."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    def cursor(self) -> _Refusing:
        return self

    def execute(self, operation: str, params: object = None, /) -> None:
        raise self.error

    def fetchone(self) -> None:
        raise AssertionError("nothing was executed")

    def close(self) -> None:
        self.closed = True


def _snowflake_error(message: str, errno: int, sqlstate: str) -> ProgrammingError:
    return ProgrammingError(
        msg=message,
        errno=errno,
        sqlstate=sqlstate,
        sfqid="01b2c3d4-0000-1111-0000-222233334444",
        send_telemetry=False,
    )


@pytest.mark.parametrize(
    ("errno", "sqlstate"),
    [pytest.param(2003, "42S02", id="table"), pytest.param(2003, "02000", id="database or schema")],
)
def test_what_snowflake_calls_missing_is_waited_for(errno: int, sqlstate: str) -> None:
    words = "SQL compilation error:\nObject 'A.B.SOON' does not exist or not authorized."
    connection = _Refusing(_snowflake_error(words, errno, sqlstate))

    assert measure(connection, table="A.B.SOON") == CohortMeasure(exists=False)
    assert connection.closed


def test_any_other_refusal_is_one_sentence_with_number_state_and_query() -> None:
    words = "SQL compilation error: error line 1 at position 7\ninvalid identifier 'COMPUTED'"
    connection = _Refusing(_snowflake_error(words, 904, "42000"))

    with pytest.raises(SourceError) as caught:
        measure(connection, table="VIP", column="COMPUTED")

    assert str(caught.value) == (
        "Snowflake refuses to read table VIP: SQL compilation error: error line 1 at position 7 invalid "
        "identifier 'COMPUTED' (error 904, SQLSTATE 42000, query 01b2c3d4-0000-1111-0000-222233334444)."
    )
    assert connection.closed


def test_a_value_of_a_row_never_reaches_the_message_nor_the_chain() -> None:
    error = _snowflake_error("Numeric value 'ann@example.com' is not recognized", 100038, "22018")

    with pytest.raises(SourceError) as caught:
        measure(_Refusing(error), sql="SELECT TO_NUMBER(USER_ID) FROM VIP")

    assert "Numeric value '...' is not recognized" in str(caught.value)
    assert "ann@example.com" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_broken_way_to_snowflake_is_not_called_a_refusal() -> None:
    error = OperationalError(msg="Connection reset", errno=250001, sqlstate="08001", send_telemetry=False)

    with pytest.raises(OperationalError):
        measure(_Refusing(error), table="VIP")


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 11, 23, 14, tzinfo=timezone(timedelta(hours=9))),
        datetime(2026, 11, 23, 5),
        date(2026, 11, 23),
    ],
    ids=["other zone", "no zone", "date"],
)
def test_whatever_the_driver_returns_the_newest_value_is_in_utc(value: date) -> None:
    class Answering(_Refusing):
        def execute(self, operation: str, params: object = None, /) -> None:
            return None

        def fetchone(self) -> Any:
            return (4, value)

    newest = measure(Answering(AssertionError()), table="VIP", column="C").newest

    assert newest is not None
    assert newest.tzinfo is UTC
    assert newest.hour in (0, 5)
