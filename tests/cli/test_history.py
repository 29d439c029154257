"""``kubit-braze history``: the imports of a cohort as the history table has them."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.cli import main
from airflow_provider_kubit_braze.core.report import ImportResult
from tests.cli.conftest import WORKSPACE

if TYPE_CHECKING:
    from tests.cli.conftest import World


def told(capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    assert main(["history", "vips", "--json", *more]) == 0
    return list(json.loads(capsys.readouterr().out))


def test_every_figure_of_a_run_is_the_results(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.imported("ann", "bob")
    world.source("bob", "cid", "cid")
    result = world.run("scheduled__day 2").result.to_dict()

    newest, oldest = told(capsys, "--file", str(world.file))

    names = [field.name for field in fields(ImportResult)]
    assert list(newest)[: len(names)] == names
    assert {name: newest[name] for name in names} == result
    assert (newest["added"], newest["removed"], newest["duplicates"]) == (1, 1, 1)
    assert {name: newest[name] for name in ("state", "started_by", "dag_id", "task_id", "workspace")} == {
        "state": "closed",
        "started_by": "schedule",
        "dag_id": "kubit_braze__vips",
        "task_id": "import_to_braze",
        "workspace": WORKSPACE,
    }
    assert oldest["users_imported"] == 2


def test_the_newest_come_first_and_a_limit_counts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for day in ("day 1", "day 2", "day 3"):
        world.imported(day, run_id=day)

    assert [one["run_id"] for one in told(capsys, "--limit", "2")] == ["day 3", "day 2"]
    assert len(told(capsys)) == 3


def test_a_command_is_told_from_a_dag_and_a_stopped_import_says_why(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann", "bob", run_id="manual__day 1")
    assert main(["undo", "vips", "--yes"]) == 0
    world.source()
    world.define(guards={"allow_empty": False})
    world.run("day 3")
    capsys.readouterr()

    newest, undone, first = [one for one in told(capsys) if one["outcome"] != "dry_run"]

    assert (newest["outcome"], undone["purpose"], undone["started_by"]) == ("stopped", "undo", "command line")
    assert (newest["started_by"], first["started_by"]) == ("other", "trigger")
    assert main(["history", "vips"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "The cohort is empty at the source" in out
    assert "success undo" in out
    assert "\x1b" not in out


def test_an_import_that_has_not_ended_has_a_state_and_no_outcome(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann")
    world.session.execute(
        f"INSERT INTO {world.schema}.IMPORT_RUN (IMPORT_ID, WORKSPACE, COHORT_ID, COHORT_NAME, DAG_ID, RUN_ID, "
        "TASK_ID, MAP_INDEX, TRY_NUMBER, PURPOSE, STATE, STARTED_AT, PLACE, MEMBERS) SELECT 'i', WORKSPACE, COHORT_ID, "
        "COHORT_NAME, DAG_ID, 'day 2', TASK_ID, -1, 1, 'import', 'sending', DATEADD(day, 1, STARTED_AT), PLACE, 7 "
        f"FROM {world.schema}.IMPORT_RUN"
    )

    running, _ = told(capsys)

    assert (running["outcome"], running["state"], running["members"], running["finished_at"]) == (
        None,
        "sending",
        7,
        "",
    )
    assert main(["history", "vips"]) == 0
    assert "(sending)" in capsys.readouterr().out


def test_a_cohort_without_imports_is_a_sentence_or_an_empty_list(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys) == []
    assert main(["history", "vips"]) == 0
    assert capsys.readouterr().out == "Cohort vips has never been imported.\n"


@pytest.mark.parametrize("colours", [True, False], ids=["terminal", "NO_COLOR"])
def test_a_terminal_has_colours_unless_it_wants_none(
    world: World, monkeypatch: pytest.MonkeyPatch, colours: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    world.imported("ann")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if colours:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")

    assert main(["history", "vips"]) == 0

    text = terminal.getvalue()
    assert "success" in text
    assert ("\x1b[32m" in text) is colours


def test_what_does_not_fit_is_left_out_and_named_and_nothing_is_cut(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.imported("ann", run_id="a-run-with-a-name-that-is-rather-long-for-eighty-characters")
    monkeypatch.setenv("COLUMNS", "80")

    assert main(["history", "vips"]) == 0

    out, _ = capsys.readouterr()
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "…" not in out
    _, _, note = out.partition("Not shown for want of room: ")
    assert "run" in note
    monkeypatch.delenv("COLUMNS")
    assert main(["history", "vips"]) == 0
    assert "a-run-with-a-name-that-is-rather-long-for-eighty-characters" in capsys.readouterr().out


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_is_a_number_of_runs(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["history", "vips", "--limit", limit])

    assert ended.value.code == 2
    assert "--limit" in capsys.readouterr().err
