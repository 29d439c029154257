"""The local Snowflake, reached by the unmodified connector and Airflow's unmodified hook."""

from __future__ import annotations

import asyncio
import importlib
import signal
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
from snowflake.connector.errors import DatabaseError, ProgrammingError

from airflow_provider_kubit_braze.sandbox import snowflake_server
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.sandbox.process import SandboxError, require_extra
from airflow_provider_kubit_braze.sandbox.snowflake_sessions import RecentResults, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snowflake.connector import SnowflakeConnection


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(services=("snowflake",)) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.env().items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def table(sandbox: Sandbox) -> str:
    """A table of the test's own, with the row (1, 0)."""
    name = f"DEMO.PUBLIC.T_{uuid.uuid4().hex}"
    with sandbox.connect() as connection:
        connection.cursor().execute(f"CREATE TABLE {name} (ID NUMBER(38,0), N NUMBER(38,0))")
        connection.cursor().execute(f"INSERT INTO {name} VALUES (1, 0)")
    return name


def rows(sandbox: Sandbox, sql: str) -> list[Any]:
    with sandbox.connect() as connection:
        return fetch(connection, sql)


def fetch(connection: SnowflakeConnection, sql: str) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(sql)
    return list(cursor.fetchall())


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.02)


# -- the clients people have ------------------------------------------------------------------------------


def test_the_unmodified_hook_writes_and_reads(sandbox: Sandbox, table: str) -> None:
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

    hook = SnowflakeHook("snowflake_default")
    hook.run([f"INSERT INTO {table} VALUES (2, 20)", f"UPDATE {table} SET N = 10 WHERE ID = 1"])
    assert hook.get_records(f"SELECT ID, N FROM {table} ORDER BY ID") == [(1, 10), (2, 20)]


def test_a_failed_run_of_the_hook_is_rolled_back(sandbox: Sandbox, table: str) -> None:
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

    with pytest.raises(ProgrammingError):
        SnowflakeHook("snowflake_default").run(
            [f"DELETE FROM {table}", "DELETE FROM DEMO.PUBLIC.NO_SUCH_TABLE"]
        )
    assert rows(sandbox, f"SELECT ID FROM {table}") == [(1,)]


def test_another_process_sees_the_same_tables(sandbox: Sandbox, table: str) -> None:
    run_client(sandbox, f"cursor.execute('INSERT INTO {table} VALUES (2, 0)')")
    assert rows(sandbox, f"SELECT COUNT(*) FROM {table}") == [(2,)]


def test_a_million_rows_arrive_as_arrow_batches(sandbox: Sandbox) -> None:
    with sandbox.connect() as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT ROW_NUMBER() OVER (ORDER BY SEQ4()) AS ID, MD5(SEQ4()::VARCHAR) AS X"
            " FROM TABLE(GENERATOR(ROWCOUNT => 1000000))"
        )
        batches = list(cursor.fetch_arrow_batches())
    assert sum(batch.num_rows for batch in batches) == 1_000_000
    assert sum(sum(batch.column("ID").to_pylist()) for batch in batches) == 500_000_500_000


def test_threads_that_share_a_connection_get_their_own_rows(sandbox: Sandbox) -> None:
    wrong: list[object] = []

    def ask(number: int) -> None:
        for turn in range(15):
            expected = number * 1000 + turn
            try:
                found = fetch(connection, f"SELECT {expected} AS N")
            except Exception as error:
                found = [(error,)]
            if found != [(expected,)]:
                wrong.append(found)

    with sandbox.connect() as connection:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# -- transactions and sessions ----------------------------------------------------------------------------


def test_closing_a_connection_ends_its_session_and_rolls_back(sandbox: Sandbox, table: str) -> None:
    before = sandbox.snowflake.open_sessions()
    connection = sandbox.connect()
    connection.cursor().execute("BEGIN")
    connection.cursor().execute(f"UPDATE {table} SET N = 7")
    assert sandbox.snowflake.open_sessions() == before + 1
    connection.close()
    assert sandbox.snowflake.open_sessions() == before
    assert rows(sandbox, f"UPDATE {table} SET N = N + 1") == [(1, 0)]
    assert rows(sandbox, f"SELECT N FROM {table}") == [(1,)]


def test_the_open_transaction_of_a_killed_client_is_rolled_back(sandbox: Sandbox, table: str) -> None:
    update = f"UPDATE {table} SET N = N + 1"
    before = sandbox.snowflake.open_sessions()
    client = start_client(
        sandbox, f"cursor.execute('BEGIN'); cursor.execute('{update}'); print('locked', flush=True); input()"
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "locked\n"
        with pytest.raises(ProgrammingError):
            rows(sandbox, update)
    finally:
        client.send_signal(signal.SIGKILL)
        client.communicate()
    until(lambda: sandbox.snowflake.open_sessions() == before, "the killed client's session is closed")
    rows(sandbox, update)
    assert rows(sandbox, f"SELECT N FROM {table}") == [(1,)]


def test_autocommit_off_is_obeyed(sandbox: Sandbox, table: str) -> None:
    with sandbox.connect() as connection:
        connection.autocommit(False)
        connection.cursor().execute(f"DELETE FROM {table}")
        connection.rollback()
    assert rows(sandbox, f"SELECT COUNT(*) FROM {table}") == [(1,)]


def test_data_survive_sigkill_of_the_server_and_old_sessions_are_told(sandbox: Sandbox, table: str) -> None:
    old = sandbox.connect()
    old.cursor().execute(f"INSERT INTO {table} VALUES (2, 0)")
    sandbox.kill("snowflake")
    sandbox.restart("snowflake")
    with pytest.raises(DatabaseError) as refused:
        old.cursor().execute("SELECT 1")
    assert refused.value.errno == 390111
    assert rows(sandbox, f"SELECT ID FROM {table} ORDER BY ID") == [(1,), (2,)]
    old.close()


# -- errors -----------------------------------------------------------------------------------------------


def test_what_fakesnow_answers_with_http_500_is_one_ordinary_error(sandbox: Sandbox, table: str) -> None:
    update = f"UPDATE {table} SET N = N + 1"
    with sandbox.connect() as first, sandbox.connect() as second:
        first.cursor().execute("BEGIN")
        first.cursor().execute(update)
        with pytest.raises(ProgrammingError, match="Conflict on") as refused:
            second.cursor().execute(update)
        assert refused.value.errno == 603
        first.cursor().execute("ROLLBACK")


def test_a_commit_after_a_failed_statement_is_not_called_a_success(sandbox: Sandbox, table: str) -> None:
    with sandbox.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("BEGIN")
        cursor.execute(f"INSERT INTO {table} VALUES (2, 0)")
        with pytest.raises(ProgrammingError):
            cursor.execute("SELECT * FROM NO_SUCH_TABLE")
        with pytest.raises(
            ProgrammingError, match="cannot commit: an earlier statement of this transaction failed"
        ):
            cursor.execute("COMMIT")
        assert fetch(connection, f"SELECT ID FROM {table}") == [(1,)]
        cursor.execute("BEGIN")
        cursor.execute(f"INSERT INTO {table} VALUES (3, 0)")
        cursor.execute("COMMIT")
    assert rows(sandbox, f"SELECT ID FROM {table} ORDER BY ID") == [(1,), (3,)]


def test_a_commit_after_an_error_outside_the_transaction_commits(sandbox: Sandbox, table: str) -> None:
    with sandbox.connect() as connection:
        cursor = connection.cursor()
        with pytest.raises(ProgrammingError):
            cursor.execute("SELECT * FROM NO_SUCH_TABLE")
        cursor.execute("BEGIN")
        cursor.execute(f"INSERT INTO {table} VALUES (2, 0)")
        cursor.execute("COMMIT")
    assert rows(sandbox, f"SELECT ID FROM {table} ORDER BY ID") == [(1,), (2,)]


def test_a_wrong_password_is_refused_in_snowflakes_words(sandbox: Sandbox) -> None:
    sandbox.snowflake.require_password("right")
    try:
        with pytest.raises(DatabaseError, match="Incorrect username or password") as refused:
            sandbox.connect(password="wrong")
        assert refused.value.errno == 390100
        sandbox.connect(password="right").close()
    finally:
        sandbox.snowflake.require_password(None)
    sandbox.connect(password="wrong").close()


def test_without_the_bundle_its_certificate_is_refused(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{sandbox.snowflake_url}/_sandbox/health", timeout=10)


def test_a_fakesnow_without_what_is_needed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delattr(importlib.import_module("fakesnow.server"), "sessions")
    with pytest.raises(SandboxError, match=r"no fakesnow\.server\.sessions.*pip install 'fakesnow\[server\]"):
        snowflake_server._open_store(tmp_path, "DEMO")


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(
        SandboxError, match=r"'no_such_package'.*pip install 'airflow-provider-kubit-braze\[sandbox\]'"
    ):
        require_extra("json", "no_such_package")


# -- statements with a meaning on Snowflake only ----------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "USE WAREHOUSE COMPUTE_WH",
        "USE ROLE SYSADMIN",
        "CREATE WAREHOUSE IF NOT EXISTS W WITH WAREHOUSE_SIZE = 'XSMALL'",
        "GRANT SELECT ON ALL TABLES IN SCHEMA DEMO.PUBLIC TO ROLE R",
        "ALTER SESSION SET TIMEZONE = 'UTC'",
        "ALTER SESSION UNSET QUERY_TAG",
    ],
    ids=lambda sql: " ".join(sql.split()[:3]),
)
def test_it_succeeds_without_effect(sandbox: Sandbox, sql: str) -> None:
    assert rows(sandbox, sql) == [("Statement executed successfully.",)]


def test_each_statement_is_remembered_under_its_query_tag(sandbox: Sandbox) -> None:
    mark = uuid.uuid4().hex
    with sandbox.connect(session_parameters={"QUERY_TAG": "from login"}) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT '{mark}', 1")
        cursor.execute("""ALTER SESSION SET QUERY_TAG = '{"dag": "it''s", "n": 1}'""")
        cursor.execute(f"SELECT '{mark}', 2")
        cursor.execute(f"SELECT '{mark}', 3", _statement_params={"QUERY_TAG": "this one"})
        cursor.execute("ALTER SESSION UNSET QUERY_TAG")
        with pytest.raises(ProgrammingError):
            cursor.execute(f"SELECT '{mark}', NO_SUCH_COLUMN")
    seen = [statement for statement in sandbox.snowflake.queries() if mark in statement.sql]
    assert [statement.tag for statement in seen] == [
        "from login",
        '{"dag": "it\'s", "n": 1}',
        "this one",
        "",
    ]
    assert [statement.error is None for statement in seen] == [True, True, True, False]
    assert sandbox.snowflake.queries(last=1)[0].sql == seen[-1].sql


# -- the parts, on their own ------------------------------------------------------------------------------


class FakeConnection:
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("requests_seen", "gone", "closed"),
    [
        ([("a", 1), ("a", 1)], [("a", 1)], True),
        ([("a", 1), ("a", 1), ("a", 2)], [("a", 1)], False),
        ([("a", 1), ("a", 1), ("a", 2)], [("a", 1), ("a", 2)], True),
        ([("a", 1), ("a", 2)], [("a", 1), ("a", 2)], False),
        ([("a", 1), ("a", 1)], [("b", 1)], False),
    ],
    ids=["its only one", "one of two", "both", "it never keeps one open", "somebody else's"],
)
def test_a_session_is_closed_with_its_last_kept_tcp_connection(
    requests_seen: list[tuple[str, int]], gone: list[tuple[str, int]], closed: bool
) -> None:
    connection = FakeConnection()
    registry = {"token": connection}
    sessions = Sessions(registry, idle_seconds=60, remembered=10)
    sessions.opened("token", peer=requests_seen[0], parameters={})
    session = sessions.get("token")
    assert session is not None
    for peer in requests_seen[1:]:
        session.seen_on(peer)
    for peer in gone:
        asyncio.run(sessions.peer_gone(peer))
    assert (connection.closed, len(sessions), len(registry)) == (closed, int(not closed), int(not closed))


@pytest.mark.parametrize(("idle_seconds", "closed"), [(0, True), (60, False)], ids=["idle", "not idle"])
def test_a_session_nobody_uses_is_closed(idle_seconds: float, closed: bool) -> None:
    connection = FakeConnection()
    sessions = Sessions({"token": connection}, idle_seconds=idle_seconds, remembered=10)
    sessions.opened("token", peer=("a", 1), parameters={})
    asyncio.run(sessions.close_idle())
    assert connection.closed is closed


def test_only_the_newest_results_are_kept() -> None:
    results = RecentResults(2)
    for number in range(4):
        results[str(number)] = number
    assert list(results.items()) == [("2", 2), ("3", 3)]


# -- clients in processes of their own --------------------------------------------------------------------

CLIENT = """
import json, os, snowflake.connector
found = json.loads(os.environ["AIRFLOW_CONN_SNOWFLAKE_DEFAULT"])
connection = snowflake.connector.connect(user=found["login"], password=found["password"], **found["extra"])
cursor = connection.cursor()
"""


def start_client(sandbox: Sandbox, statements: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT + statements], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def run_client(sandbox: Sandbox, statements: str) -> None:
    client = start_client(sandbox, statements)
    client.communicate(timeout=120)
    assert client.returncode == 0
