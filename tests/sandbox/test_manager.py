"""The sandbox as a whole: it starts, it is found by what needs it, and nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.sandbox.connections import SERVICES
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowflake.connector import SnowflakeConnection


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody asked about (a zombie) does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() not in ("", "Z", "Zs")


def fetch(connection: SnowflakeConnection, sql: str) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(sql)
    return list(cursor.fetchall())


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, f"still running after 30 s: {left}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


# -- while it runs ----------------------------------------------------------------------------------------


def test_all_services_answer(sandbox: Sandbox) -> None:
    with sandbox.connect() as connection:
        assert fetch(connection, "SELECT CURRENT_DATABASE()") == [("DEMO",)]
    sandbox.braze.add_users([{"external_id": "a"}])
    assert len(sandbox.braze.users(external_id="a")) == 1
    assert sandbox.mailbox.messages() == []


def test_the_environment_has_a_connection_to_each_service(sandbox: Sandbox) -> None:
    env = sandbox.env()
    snowflake = json.loads(env["AIRFLOW_CONN_SNOWFLAKE_DEFAULT"])
    assert snowflake["conn_type"] == "snowflake"
    assert snowflake["extra"]["port"] == sandbox.snowflake_port
    assert "session_parameters" not in snowflake["extra"]
    braze = json.loads(env["AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"])
    assert (braze["conn_type"], braze["host"]) == ("kubit_braze", sandbox.braze_url)
    smtp = json.loads(env["AIRFLOW_CONN_SMTP_DEFAULT"])
    assert (smtp["conn_type"], smtp["host"], smtp["port"]) == ("smtp", "127.0.0.1", sandbox.mailbox.port)
    assert Path(env["REQUESTS_CA_BUNDLE"]).is_file()


def test_the_local_braze_accepts_the_key_of_the_environment(sandbox: Sandbox) -> None:
    import requests

    key = json.loads(sandbox.env()["AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"])["password"]
    answer = requests.post(
        f"{sandbox.braze_url}/users/track",
        json={"attributes": [{"external_id": "b", "x": True}]},
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
    )
    assert (answer.status_code, answer.json()["message"]) == (201, "success")


def test_one_service_can_crash_and_come_back_on_its_port(sandbox: Sandbox) -> None:
    url, pid = sandbox.braze_url, sandbox.pids["braze"]
    sandbox.kill("braze")
    assert not alive(pid)
    sandbox.restart("braze")
    assert sandbox.braze_url == url
    assert sandbox.braze.users(external_id="a") == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_ends_cleanly_at_sigterm(sandbox: Sandbox, service: str) -> None:
    with sandbox.connect():
        assert sandbox.terminate(service) == 0
    sandbox.restart(service)


LONG_STATEMENT = """
import sys, snowflake.connector
connection = snowflake.connector.connect(
    user="u", password="p", account="a", host="127.0.0.1", port=int(sys.argv[1]), database="DEMO",
    schema="PUBLIC",
)
cursor = connection.cursor()
cursor.execute("CREATE TABLE MANY AS SELECT SEQ4() AS N FROM TABLE(GENERATOR(ROWCOUNT => 1000000))")
cursor.execute("SELECT COUNT(*) FROM MANY a JOIN MANY b ON a.N * b.N % 7 = 3")
"""


def test_a_running_statement_does_not_hold_up_the_end(sandbox: Sandbox) -> None:
    command = [sys.executable, "-c", LONG_STATEMENT, str(sandbox.snowflake_port)]
    client = subprocess.Popen(command, env={**os.environ, **sandbox.env()}, stderr=subprocess.DEVNULL)
    try:
        while not any("JOIN MANY" in running.sql for running in sandbox.snowflake.queries(last=1)):
            assert client.poll() is None
            time.sleep(0.05)
        assert sandbox.snowflake.queries(last=1)[0].seconds is None
        assert sandbox.terminate("snowflake") == 0
    finally:
        client.kill()
        client.communicate()
    sandbox.restart("snowflake")


# -- its end ----------------------------------------------------------------------------------------------


def test_after_the_end_no_process_and_no_file_is_left() -> None:
    with Sandbox() as sandbox:
        pids, directory = list(sandbox.pids.values()), sandbox.directory
        assert len(pids) == len(SERVICES)
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)
    assert not directory.exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt], ids=lambda error: error.__name__)
def test_an_exception_ends_it_too(error: type[BaseException]) -> None:
    pids: list[int] = []

    def interrupted() -> None:
        with Sandbox(services=("mailbox",)) as sandbox:
            pids.extend(sandbox.pids.values())
            raise error

    with pytest.raises(error):
        interrupted()
    assert pids
    assert not any(alive(pid) for pid in pids)


PARENT = """
import json, time
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
with Sandbox() as sandbox:
    print(json.dumps(sandbox.pids), flush=True)
    time.sleep(600)
"""


def test_services_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    try:
        assert parent.stdout is not None
        pids = list(json.loads(parent.stdout.readline()).values())
        assert all(alive(pid) for pid in pids)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    wait_until_gone(pids)


def test_a_service_that_cannot_start_is_named_and_none_is_left() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sandbox = Sandbox(services=("braze", "mailbox"), ports={"mailbox": taken.getsockname()[1]})
        with pytest.raises(
            SandboxError, match=r"local mailbox ended while starting: .*address already in use"
        ):
            sandbox.start()
    assert sandbox.pids == {}


def test_a_service_that_stays_silent_is_not_waited_for_for_ever() -> None:
    sandbox = Sandbox(services=("mailbox",), start_timeout=0)
    with pytest.raises(SandboxError, match="local mailbox did not become ready in time"):
        sandbox.start()
    assert sandbox.pids == {}


def test_a_given_directory_is_kept_and_its_data_are_there_again(tmp_path: Path) -> None:
    with Sandbox(directory=tmp_path, services=("snowflake",)) as sandbox, sandbox.connect() as connection:
        connection.cursor().execute("CREATE TABLE KEPT AS SELECT 7 AS N")
        connection.cursor().execute("CREATE DATABASE SECOND")
        connection.cursor().execute("CREATE SCHEMA SECOND.S")
        connection.cursor().execute("CREATE TABLE SECOND.S.ALSO AS SELECT 8 AS N")
    with Sandbox(directory=tmp_path, services=("snowflake",)) as sandbox, sandbox.connect() as connection:
        assert fetch(connection, "SELECT N FROM KEPT") == [(7,)]
        assert fetch(connection, "SELECT N FROM SECOND.S.ALSO") == [(8,)]


def test_the_environment_of_this_process_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    before = dict(os.environ)
    with Sandbox(services=("snowflake",)) as sandbox:
        sandbox.connect().close()
        assert os.environ["REQUESTS_CA_BUNDLE"] == sandbox.env()["REQUESTS_CA_BUNDLE"]
    assert dict(os.environ) == before


def test_an_unknown_service_is_refused() -> None:
    with pytest.raises(SandboxError, match="no service 'snowfake'; it has snowflake, braze, mailbox"):
        Sandbox(services=("snowfake",))


# -- what people start ------------------------------------------------------------------------------------

COMMAND = """
import argparse, sys
from airflow_provider_kubit_braze.sandbox import command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args()))
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_command_prints_what_to_paste_and_ends_cleanly(ending: signal.Signals) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--with-cdnow"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert command.stdout is not None
        said: list[str] = []
        while not said or not said[-1].startswith("Ctrl-C ends it"):
            said.append(command.stdout.readline())
            assert said[-1], "it ended by itself"
    finally:
        command.send_signal(ending)
        command.communicate(timeout=60)
    assert command.returncode == 0
    assert any("NEW_THIS_WEEK: 1,789 users" in line for line in said)
    exported = "".join(line for line in said if line.startswith("export "))
    shell = subprocess.run(["sh", "-c", f"{exported} env"], capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in shell.stdout.splitlines() if line.startswith("AIRFLOW_CONN_"))
    assert json.loads(found["AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"])["conn_type"] == "kubit_braze"
    assert not Path(next(line for line in said if line.startswith("Files")).split()[1]).exists()


PLUGIN_TEST = """
import os

def test_the_environment_points_at_it(kubit_braze_sandbox):
    assert {name: os.environ[name] for name in kubit_braze_sandbox.env()} == kubit_braze_sandbox.env()
    kubit_braze_sandbox.braze.add_users([{"external_id": "a"}])

def test_a_clean_one_has_forgotten(kubit_braze_clean_sandbox, kubit_braze_sandbox):
    assert kubit_braze_clean_sandbox is kubit_braze_sandbox
    assert kubit_braze_sandbox.braze.users(external_id="a") == []
"""

PLUGIN = "airflow_provider_kubit_braze.sandbox.pytest_plugin"


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Blocked under its entry point's name, so that an installed package does not register it twice.
    command = [sys.executable, "-m", "pytest", "-p", "no:kubit_braze", "-p", PLUGIN, "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_pytest_fixtures_serve_a_users_own_tests(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(PLUGIN_TEST)
    ended = run_pytest(tmp_path)
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr


def test_loading_the_pytest_plugin_imports_nothing_of_the_sandbox() -> None:
    heavy = ["aiosmtpd", "airflow", "cryptography", "fakesnow", "requests", "snowflake.connector"]
    code = f"import sys, {PLUGIN}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_stopping_leaves_alone_what_the_caller_has_set_to_the_same_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fixture points the environment at the sandbox, and takes that back before the sandbox ends."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)

    with Sandbox(services=("snowflake",)) as sandbox, pytest.MonkeyPatch.context() as patch:
        for name, value in sandbox.env().items():
            patch.setenv(name, value)
        sandbox.connect().close()
    assert "REQUESTS_CA_BUNDLE" not in os.environ
