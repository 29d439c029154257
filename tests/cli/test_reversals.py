"""``kubit-braze undo`` and ``retire``, run as people run them, against the local Snowflake and the local Braze."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete

from airflow_provider_kubit_braze.cli import main, reversals
from airflow_provider_kubit_braze.connections import airflow_from_a_shell
from airflow_provider_kubit_braze.importer import run_import
from tests.cli.conftest import ATTRIBUTE, SECRET, WORKSPACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import World


# -- undo -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_file", [True, False], ids=["file", "no file"])
def test_undo_takes_back_the_last_import_exactly(
    world: World, answer: Callable[[str], None], with_file: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann", "bob", "cid")
    world.imported("bob", "cid", "dan", "eve")
    [_, (run_id,)] = world.history("RUN_ID")
    before = world.points
    answer("vips\n")

    code = main(["undo", "vips", *(["--file", str(world.file)] if with_file else [])])

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert world.members() == world.known() == {"ann", "bob", "cid"}
    assert world.points == before + 3
    where = f"Cohort vips, workspace {WORKSPACE}, connection kubit_braze_default"
    assert f"{where}: undoing run {run_id} of 2" in out
    assert "(2 added, 1 removed) would remove 2 users and add 1, for 3 data points." in out
    assert "Type the cohort's id to go on: " in out
    assert "success (undo); 1 added, 2 removed" in out
    assert "until the source is right, pause the DAG kubit_braze__vips." in out


def test_an_undo_stands_in_the_history_as_an_import_of_its_own(world: World) -> None:
    world.imported("ann", "bob")

    assert main(["undo", "vips", "--yes"]) == 0

    *_, (purpose, outcome, dag_id, run_id, task_id, added, removed) = world.history(
        "PURPOSE, OUTCOME, DAG_ID, RUN_ID, TASK_ID, ADDED, REMOVED"
    )
    assert (purpose, outcome, dag_id, task_id) == ("undo", "success", "kubit_braze__vips", "kubit-braze")
    assert run_id.startswith("undo__2")
    assert run_id.endswith("+00:00")
    assert (added, removed) == (0, 2)


def test_what_was_undone_can_be_done_again_by_undoing_the_undo(world: World) -> None:
    world.imported("ann")
    world.imported("bob")

    assert main(["undo", "vips", "--yes"]) == 0
    assert world.members() == {"ann"}
    assert main(["undo", "vips", "--yes"]) == 0
    assert world.members() == {"bob"}


def test_nothing_to_undo_is_a_sentence(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["undo", "vips", "--yes"]) == 1

    _, err = capsys.readouterr()
    assert err == f"Cohort 'vips' has no import in workspace {WORKSPACE} that could be undone.\n"


# -- retire -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_file", [True, False], ids=["file", "no file"])
def test_retire_takes_everybody_out_and_says_what_to_do_then(
    world: World, answer: Callable[[str], None], with_file: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann", "bob", "cid")
    answer(" vips \n")

    code = main(["retire", "vips", *(["--file", str(world.folder)] if with_file else [])])

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert world.members() == world.known() == set()
    assert "taking everybody out would remove 3 users, for 3 data points." in out
    assert "success (retire); 0 added, 3 removed" in out
    assert "Delete the cohort's file or pause the DAG kubit_braze__vips now" in out
    *_, (purpose, run_id) = world.history("PURPOSE, RUN_ID")
    assert purpose == "retire"
    assert run_id.startswith("retire__2")


@pytest.mark.parametrize(
    ("with_file", "flagged"), [(True, {}), (False, {ATTRIBUTE: False})], ids=["file", "no file"]
)
def test_the_file_says_what_leavers_get(world: World, with_file: bool, flagged: dict[str, bool]) -> None:
    world.define(braze={"on_exit": "unset"})
    world.imported("ann")

    assert main(["retire", "vips", "--yes", *(["--file", str(world.file)] if with_file else [])]) == 0

    world.braze.settle()
    [ann] = world.braze.users(external_id="ann")
    assert ann.get("custom_attributes", {}) == flagged


def test_a_cohort_whose_attribute_has_another_name_is_retired_without_its_file(world: World) -> None:
    world.define(braze={"attribute": "is_vip"})
    world.imported("ann")

    assert main(["retire", "vips", "--yes"]) == 0

    world.braze.settle()
    assert world.braze.cohort("is_vip") == set()
    assert world.braze.left("is_vip") == {"ann"}


def test_whoever_could_not_be_taken_out_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.imported("ann", "bob", "cid")
    world.braze.fault("reject_ids", "/users/track", ids=["bob"])

    code = main(["retire", "vips", "--yes", "--file", str(world.file)])

    out, err = capsys.readouterr()
    assert code == 1
    assert err == "Not every change was made: 1 rejected (IMPORT_REJECTED says why).\n"
    assert "Delete the cohort's file" not in out
    assert world.members() == {"bob"}


# -- what comes before --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["undo", "retire"])
def test_a_dry_run_says_it_and_does_nothing(
    world: World, silence: None, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann", "bob")
    before = world.requests

    assert main([command, "vips", "--dry-run"]) == 0

    out, err = capsys.readouterr()
    assert "would remove 2 users" in out
    assert "Type the cohort's id" not in out
    assert (err, world.requests) == ("", before)
    assert world.members() == world.known() == {"ann", "bob"}


@pytest.mark.parametrize("typed", ["", "\n", "y\n", "VIPS\n"], ids=["end", "return", "y", "upper case"])
def test_without_the_id_nothing_is_done(
    world: World, answer: Callable[[str], None], typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann", "bob")
    answer(typed)

    assert main(["retire", "vips"]) == 1

    assert capsys.readouterr().err == "That is not the cohort's id; nothing was done.\n"
    assert world.members() == world.known() == {"ann", "bob"}


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["undo", "vips"], "There is no terminal to ask at; add --yes"),
        (["retire", "vips", "--yes", "--forget"], "--forget needs --workspace"),
        (["retire", "vips", "--yes", "--workspace", "w"], "--workspace goes with --forget"),
        (
            ["retire", "vips", "--yes", "--forget", "--workspace", "w", "--braze-conn-id", "b"],
            "leave out --braze-conn-id",
        ),
        (["undo", "VIPs!", "--yes"], "field 'id': 'VIPs!' is not a cohort id"),
        (["undo", "vips", "--yes", "--braze-conn-id", "my conn"], "'my conn' is not a connection id"),
        (["undo", "vips", "--yes", "--snowflake-conn-id", ""], "'' is not a connection id"),
        (["undo", "vips", "--yes", "--file", "{folder}/none.yaml"], "none.yaml: it cannot be read"),
        (
            ["undo", "viips", "--yes", "--file", "{folder}"],
            "does not define a cohort 'viips'; the cohorts there: vips.",
        ),
        (
            ["undo", "odd", "--yes", "--file", "{folder}"],
            "odd.yaml:1, cohort 'odd', field 'colour': unknown key",
        ),
        (["retire", "vips", "--yes", "--file", "{folder}/odd.yaml"], "the cohorts there: none."),
    ],
    ids=[
        "no terminal",
        "forget without workspace",
        "workspace without forget",
        "forget with a connection",
        "bad id",
        "bad connection id",
        "no connection id",
        "no file",
        "another cohort",
        "a broken definition",
        "somebody else's broken definition",
    ],
)
def test_wrong_use_is_a_sentence_and_2(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Were anything read from Snowflake or sent to Braze, this would end with 1.
    for name in ("KUBIT_BRAZE_DEFAULT", "SNOWFLAKE_DEFAULT"):
        monkeypatch.delenv(f"AIRFLOW_CONN_{name}", raising=False)
    good = "id: vips\nsource: {table: T}\nidentifiers: {external_id: U}\n"
    (tmp_path / "vips.yaml").write_text(good)
    (tmp_path / "odd.yaml").write_text("colour: red\n" + good.replace("vips", "odd"))

    code = main([argument.format(folder=tmp_path) for argument in arguments])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["undo"], ["retire"], ["undo", "a", "--forget"]])
def test_what_the_command_line_does_not_know_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2


# -- connections --------------------------------------------------------------------------------------------


def test_connections_of_the_command_line_take_the_place_of_the_files(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann")
    world.define(
        source={"table": "GONE", "conn_id": "nowhere"}, braze={"conn_id": "nowhere", "on_exit": "unset"}
    )
    for name in ("SNOWFLAKE", "KUBIT_BRAZE"):
        given = json.loads(os.environ[f"AIRFLOW_CONN_{name}_DEFAULT"])
        if name == "KUBIT_BRAZE":
            given["extra"] = {"workspace": WORKSPACE}
        monkeypatch.setenv(f"AIRFLOW_CONN_OTHER_{name}", json.dumps(given))
        monkeypatch.delenv(f"AIRFLOW_CONN_{name}_DEFAULT")
    conns = ["--snowflake-conn-id", "other_snowflake", "--braze-conn-id", "other_kubit_braze"]

    assert main(["retire", "vips", "--yes", "--file", str(world.file), *conns]) == 0

    world.braze.settle()
    [ann] = world.braze.users(external_id="ann")
    assert ann.get("custom_attributes", {}) == {}
    assert f"workspace {WORKSPACE}, connection other_kubit_braze: taking" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT": None},
            "The conn_id `kubit_braze_default` isn't defined. Make this Airflow connection",
        ),
        ({"AIRFLOW_CONN_SNOWFLAKE_DEFAULT": None}, "The conn_id `snowflake_default` isn't defined"),
        (
            {"AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA": "a b"},
            "state_schema is 'a b', which is not a Snowflake schema",
        ),
        (
            {"AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT": {"host": "http://rest.example.com", "password": SECRET}},
            "kubit_braze_default",
        ),
    ],
    ids=["no braze", "no snowflake", "bad schema", "plain http"],
)
@pytest.mark.usefixtures("airflow_db")
def test_a_setting_that_is_wrong_is_a_sentence_and_no_traceback(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in changes.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            text = value if isinstance(value, str) else json.dumps({"conn_type": "kubit_braze", **value})
            monkeypatch.setenv(name, text)

    assert main(["retire", "vips", "--yes"]) == 1

    out, err = capsys.readouterr()
    assert sentence in err
    assert "Traceback" not in err
    assert SECRET not in out + err


def test_a_key_that_braze_refuses_is_not_shown(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann")
    given = json.loads(os.environ["AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT", json.dumps({**given, "password": SECRET}))

    assert main(["retire", "vips", "--yes"]) == 1

    out, err = capsys.readouterr()
    assert "refused the REST API key" in err
    assert "Traceback" not in err
    assert SECRET not in out + err
    assert world.members() == world.known() == {"ann"}


@pytest.mark.usefixtures("airflow_db")
def test_from_a_shell_connections_in_airflows_database_are_found(world: World, project: Path) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    world.imported("ann", "bob")
    names = ("AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT", "AIRFLOW_CONN_SNOWFLAKE_DEFAULT")
    left = {name: value for name, value in os.environ.items() if name not in names}
    kept = [
        Connection.from_json(os.environ[name], name.removeprefix("AIRFLOW_CONN_").lower()) for name in names
    ]
    try:
        with create_session() as session:
            session.add_all(kept)
        done = subprocess.run(
            [sys.executable, "-m", "airflow_provider_kubit_braze.cli", "retire", "vips", "--yes"],
            cwd=project,
            env=left,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        with create_session() as session:
            session.execute(delete(Connection).where(Connection.conn_id.in_([one.conn_id for one in kept])))

    assert done.returncode == 0, done.stderr
    assert "success (retire); 0 added, 2 removed" in done.stdout
    assert "snowflake.connector" not in done.stdout + done.stderr
    # Airflow has something to say about the sandbox's short password, and says it elsewhere.
    assert [line.partition(" ")[0] for line in done.stdout.splitlines()] == ["Cohort", "Vips:", "Delete"]
    assert world.members() == set()


@pytest.mark.parametrize("before", [None, "client"])
def test_the_process_is_what_it_was_afterwards(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "_AIRFLOW_PROCESS_CONTEXT"
    monkeypatch.delenv(name, raising=False)
    if before:
        monkeypatch.setenv(name, before)

    with airflow_from_a_shell():
        assert os.environ[name] == "server"

    assert os.environ.get(name) == before


# -- interrupted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["undo", "retire"])
def test_what_failed_goes_on_where_it_stopped(
    world: World, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("zoe")
    world.imported("ann", "bob")
    world.braze.fault("status", "/users/track", status=401, times=None)
    assert main([command, "vips", "--yes"]) == 1
    assert "refused the REST API key" in capsys.readouterr().err
    world.braze.clear_faults()

    assert main([command, "vips", "--yes"]) == 0

    out, _ = capsys.readouterr()
    assert f"connection kubit_braze_default: the {command} of 2" in out
    assert "did not end; it would go on from where it stopped." in out
    assert world.members() == world.known() == ({"zoe"} if command == "undo" else set())
    [ended] = world.history("OUTCOME, TRY_NUMBER", f"PURPOSE = '{command}' AND OUTCOME <> 'dry_run'")
    # Were it another try, it would push the first one aside that may still be running at somebody else's shell.
    assert ended == ("success", 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_it_in_good_order(
    world: World,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.imported("ann", "bob")
    both = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(one) for one in both]
    asked: list[bool] = []

    def interrupted(*arguments: Any, stop: Any, **options: Any) -> Any:
        if stop is not None:
            os.kill(os.getpid(), number)
            asked.append(stop.wait(60))
        return run_import(*arguments, stop=stop, **options)

    monkeypatch.setattr(reversals, "run_import", interrupted)
    assert main(["retire", "vips", "--yes"]) == 1
    monkeypatch.undo()

    assert asked == [True]
    assert "asked to end" in capsys.readouterr().err
    assert [signal.getsignal(one) for one in both] == before
    assert world.members() == world.known() == {"ann", "bob"}


# -- forget -------------------------------------------------------------------------------------------------


def test_forget_lets_the_users_of_a_lost_workspace_go_without_a_word_to_braze(
    world: World,
    answer: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.imported("ann", "bob")
    before = world.requests
    # The connection is gone with the workspace.
    monkeypatch.delenv("AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT")
    command = ["retire", "vips", "--forget", "--workspace", WORKSPACE]

    assert main([*command, "--dry-run"]) == 0
    assert "would forget that 2 users are in it" in capsys.readouterr().out
    answer("no\n")
    assert main(command) == 1
    assert world.known() == {"ann", "bob"}
    answer("vips\n")
    assert main(command) == 0

    assert f"vips: 2 users forgotten in workspace {WORKSPACE}." in capsys.readouterr().out
    assert world.known() == set()
    assert world.members() == {"ann", "bob"}
    assert world.requests == before


def test_forget_touches_no_other_workspace(world: World) -> None:
    world.imported("ann")

    assert main(["retire", "vips", "--yes", "--forget", "--workspace", "elsewhere"]) == 0

    assert world.known() == {"ann"}
