from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.errors import DatabaseError, OperationalError, ProgrammingError

from airflow_provider_kubit_braze.warehouse.session import (
    Session,
    first_line,
    is_denied,
    is_passing,
    is_refusal,
    split_name,
    stored_name,
)

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox


def refusal(message: str, sqlstate: str = "42000") -> ProgrammingError:
    return ProgrammingError(msg=message, errno=1003, sqlstate=sqlstate, send_telemetry=False)


class Stub:
    """A connection that runs nothing; statements that begin with a word of ``fails`` raise its error."""

    def __init__(self, **fails: Exception) -> None:
        self.fails = fails
        self.executed: list[str] = []

    def cursor(self) -> Stub:
        return self

    def execute(self, sql: str, params: object = None) -> None:
        self.executed.append(sql.split()[0])
        if (error := self.fails.get(self.executed[-1])) and "AUTOCOMMIT" not in sql:
            raise error


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("KUBIT", ["KUBIT"]),
        ("db.Kubit_1$", ["db", "Kubit_1$"]),
        ('"a.b"."c ""d"" e".F', ['"a.b"', '"c ""d"" e"', "F"]),
    ],
)
def test_a_name_is_split_at_its_dots_outside_of_quotes(name: str, parts: list[str]) -> None:
    assert split_name(name) == parts


@pytest.mark.parametrize("name", ["", ".", "a.", "a..b", "a b", "1a", 'a"b"', '""', "a;b", "a-b", "a.b\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a Snowflake name"):
        split_name(name)


def test_unquoted_names_are_stored_in_upper_case_and_quoted_ones_as_they_are() -> None:
    assert [stored_name(name) for name in ("user_id", '"user_id"', '"say ""hi"""')] == [
        "USER_ID",
        "user_id",
        'say "hi"',
    ]


ID = "01b2c3d4-0000-1111-0000-222233334444"


@pytest.mark.parametrize(
    "prefix",
    [f"001003 (42000): {ID}: ", "001003 (42000): None: ", f"001003: {ID}: ", "001003: 001003: ", ""],
)
def test_what_snowflake_says_is_one_line_without_its_numbers(prefix: str) -> None:
    words = "SQL compilation error:\n  invalid identifier 'NOPE'"

    assert first_line(refusal(prefix + words)) == "SQL compilation error: invalid identifier 'NOPE'"


def test_what_snowflake_says_about_data_holds_no_value_of_a_row() -> None:
    error = refusal("Numeric value 'ann@example.com' is not recognized", "22018")

    assert first_line(error) == "Numeric value '...' is not recognized"


def test_an_error_of_another_kind_is_told_in_its_own_words() -> None:
    assert first_line(ValueError("one\ntwo " + "x" * 1000)) == "one two " + "x" * 392


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (refusal("no"), True),
        (DatabaseError(msg="no", errno=1, send_telemetry=False), True),
        (OperationalError(msg="Connection reset", errno=250003, send_telemetry=False), False),
        (OSError("broken pipe"), False),
    ],
    ids=["statement", "database", "connection", "network"],
)
def test_only_an_answer_of_snowflake_is_a_refusal(error: Exception, refused: bool) -> None:
    assert is_refusal(error) is refused


DENIED, PASSING, NEITHER = (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    ("errno", "sqlstate", "words", "kind"),
    [
        (3001, "42501", "SQL access control error: Insufficient privileges to operate on table 'T'", DENIED),
        (2003, "42S02", "Object 'T' does not exist or not authorized.", DENIED),
        (2003, "02000", "Database 'BRAZE_SHARE' does not exist or not authorized.", DENIED),
        (2043, "02000", "Object does not exist, or operation cannot be performed.", DENIED),
        (3030, "02000", "Shared database is no longer available for use.", DENIED),
        (
            2037,
            "42601",
            "Failure during expansion of view 'V': 'T' does not exist or not authorized.",
            DENIED,
        ),
        (630, "57014", "Statement reached its statement or warehouse timeout of 60 second(s)", PASSING),
        (604, "57014", "SQL execution canceled", PASSING),
        (603, "XX000", "SQL execution internal error: Processing aborted by error 300010", PASSING),
        (606, "57P03", "No active warehouse selected in the current session.", PASSING),
        (90073, "22000", "Warehouse 'W' cannot be resumed because resource monitor 'M' has ...", PASSING),
        (390114, "08001", "Authentication token has expired.", PASSING),
        (1003, "42000", "SQL compilation error: syntax error line 1", NEITHER),
        (904, "42000", "SQL compilation error: invalid identifier 'NOPE'", NEITHER),
        (100038, "22018", "Numeric value 'x' is not recognized", NEITHER),
        (100051, "22012", "Division by zero", NEITHER),
    ],
)
def test_a_missing_grant_what_passes_and_a_wrong_statement_are_told_apart(
    errno: int, sqlstate: str, words: str, kind: tuple[bool, bool]
) -> None:
    error = ProgrammingError(msg=words, errno=errno, sqlstate=sqlstate, send_telemetry=False)

    assert (is_denied(error), is_passing(error)) == kind


def test_a_connection_that_breaks_is_neither_denied_nor_broken_off() -> None:
    error = OperationalError(msg="Connection reset", errno=250003, sqlstate="08001", send_telemetry=False)

    assert (is_denied(error), is_passing(error)) == NEITHER


def test_every_statement_carries_the_tag(kubit_braze_sandbox: Sandbox) -> None:
    tag = {"cohort": "vips", "dag_id": 'it\'s a \\ "tag" 100%', "run_id": "manual__é"}
    session = Session(kubit_braze_sandbox.connect(), tag=tag)

    session.rows("SELECT 'seen with its tag'")
    session.close()

    (statement,) = [
        q for q in kubit_braze_sandbox.snowflake.queries() if q.sql.endswith("'seen with its tag'")
    ]
    assert json.loads(statement.tag) == tag


def test_an_import_does_not_depend_on_the_tag(caplog: pytest.LogCaptureFixture) -> None:
    stub: Any = Stub(ALTER=refusal("Insufficient privileges"))

    Session(stub, tag={})

    assert "Snowflake does not take the QUERY_TAG: Insufficient privileges" in caplog.text


def test_a_connection_that_breaks_at_the_tag_is_an_error() -> None:
    stub: Any = Stub(ALTER=OperationalError(msg="reset", errno=250003, send_telemetry=False))

    with pytest.raises(OperationalError):
        Session(stub, tag={})


def test_a_percent_sign_is_doubled_only_beside_parameters(bare_warehouse: Any) -> None:
    session = bare_warehouse.session

    assert session.row("SELECT '100%'") == ("100%",)
    assert session.row("SELECT '100%%', %s", ("50%",)) == ("100%", "50%")


def test_parameters_arrive_as_they_are(bare_warehouse: Any) -> None:
    values = (1, 0.25, None, "it's 100% \\ \n ✓")

    assert bare_warehouse.session.row("SELECT %s, %s::FLOAT, %s, %s", values) == values


def test_more_or_less_than_one_row_is_an_error(bare_warehouse: Any) -> None:
    for sql in ("SELECT 1 WHERE FALSE", "SELECT 1 UNION ALL SELECT 2"):
        with pytest.raises(ValueError, match="unpack"):
            bare_warehouse.session.row(sql)


def test_a_transaction_counts_as_a_whole(warehouse: Any) -> None:
    with warehouse.session.transaction():
        warehouse.stay("a")
        warehouse.doubt("a")

    assert (warehouse.stays(), warehouse.doubted()) == ([("a", False, True)], ["a"])


@pytest.mark.parametrize("reason", [RuntimeError("no"), KeyboardInterrupt()], ids=repr)
def test_a_transaction_that_fails_leaves_nothing(warehouse: Any, reason: BaseException) -> None:
    def fail() -> None:
        with warehouse.session.transaction():
            warehouse.stay("a")
            raise reason

    with pytest.raises(type(reason)):
        fail()

    assert warehouse.stays() == []
    warehouse.stay("b")
    assert warehouse.stays() == [("b", False, True)]


def test_a_rollback_that_fails_does_not_hide_the_reason_for_it(caplog: pytest.LogCaptureFixture) -> None:
    broken = OperationalError(msg="Connection reset", errno=250003, send_telemetry=False)
    stub: Any = Stub(ROLLBACK=broken, INSERT=ZeroDivisionError())
    session = Session(stub, tag={})

    def fail() -> None:
        with session.transaction():
            session.execute("INSERT")

    with pytest.raises(ZeroDivisionError):
        fail()
    assert stub.executed == ["ALTER", "ALTER", "BEGIN", "INSERT", "ROLLBACK"]
    assert "Snowflake did not roll back: Connection reset" in caplog.text


def test_what_a_session_writes_counts_at_once_whatever_the_connection_says(
    kubit_braze_sandbox: Sandbox,
) -> None:
    session = Session(kubit_braze_sandbox.connect(autocommit=False), tag={"app": "tests"})
    session.execute("CREATE TABLE COUNTS_AT_ONCE (N INTEGER)")
    session.execute("INSERT INTO COUNTS_AT_ONCE SELECT 1")
    session.close()

    other = Session(kubit_braze_sandbox.connect(), tag={"app": "tests"})
    assert other.rows("SELECT N FROM COUNTS_AT_ONCE") == [(1,)]
    other.close()
