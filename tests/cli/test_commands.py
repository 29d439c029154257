"""The console command, run as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from airflow_provider_kubit_braze import __version__
from airflow_provider_kubit_braze.cli import main
from airflow_provider_kubit_braze.core.yaml_text import parse_yaml

PROJECT = Path(__file__).resolve().parents[2]
GOOD = "id: vip\nname: VIP\nsource: {table: T}\nidentifiers: {external_id: U}\n"


@pytest.fixture
def cohorts(tmp_path: Path) -> Path:
    folder = tmp_path / "cohorts"
    folder.mkdir()
    (folder / "vip.yaml").write_text(GOOD + "schedule: {mode: monthly, on: last, at: '09:00'}\n")
    (folder / "new.yml").write_text(GOOD.replace("vip", "new").replace("VIP", "New ones"))
    return folder


def test_validate_lists_what_is_right(cohorts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["validate", str(cohorts)])

    out, err = capsys.readouterr()
    assert code == 0
    assert out.splitlines() == [
        f"{cohorts}/new.yml:1: new: New ones, on request",
        f"{cohorts}/vip.yaml:1: vip: VIP, last day of the month 09:00, UTC",
    ]
    assert err == "Cohorts: 2, problems: 0.\n"


def test_validate_names_every_problem_and_fails(cohorts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = cohorts / "bad.yaml"
    bad.write_text(GOOD.replace("id: vip", "id: bad") + "colour: red\nholdout: lots\n")

    code = main(["validate", str(cohorts)])

    out, err = capsys.readouterr()
    assert code == 1
    assert len(out.splitlines()) == 2
    assert f"{bad}:5, cohort 'bad', field 'colour': unknown key 'colour'" in err
    assert f"{bad}:6, cohort 'bad', field 'holdout': 'lots'" in err


def test_validate_sees_one_id_twice(cohorts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cohorts / "copy.yaml").write_text(GOOD)

    code = main(["validate", str(cohorts)])

    out, err = capsys.readouterr()
    assert code == 1
    assert "vip" not in out.replace(str(cohorts), "")
    assert f"{cohorts}/copy.yaml:1" in err
    assert f"{cohorts}/vip.yaml:1" in err


def test_validate_takes_several_paths(cohorts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(cohorts / "vip.yaml"), str(cohorts / "new.yml")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_validate_sees_one_id_twice_over_several_paths(
    cohorts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(GOOD)

    assert main(["validate", str(cohorts), str(copy), str(copy)]) == 1
    _, err = capsys.readouterr()
    assert f"{cohorts}/vip.yaml:1, cohort 'vip', field 'id': the id 'vip' is also used at {copy}:1;" in err
    assert err.endswith("Cohorts: 1, problems: 1.\n")


def test_validate_has_an_object_for_each_problem(cohorts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = cohorts / "bad.yaml"
    bad.write_text(GOOD.replace("id: vip", "id: bad") + "colour: red\nholdout: lots\n")
    missing = cohorts / "missing.yaml"

    assert main(["validate", "--json", str(cohorts), str(missing)]) == 1

    out, err = capsys.readouterr()
    assert err == ""
    colour, holdout, nothing = json.loads(out)
    assert colour == {
        "file": str(bad),
        "line": 5,
        "cohort": "bad",
        "field": "colour",
        "problem": "unknown key 'colour'",
        "fix": colour["fix"],
        "message": f"{bad}:5, cohort 'bad', field 'colour': unknown key 'colour'; {colour['fix']}.",
    }
    assert (holdout["line"], holdout["field"]) == (6, "holdout")
    assert (nothing["file"], nothing["line"]) == (str(missing), None)


def test_validate_has_an_empty_list_where_all_is_well(
    cohorts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--json", str(cohorts)]) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("empty", "there is no cohort file here"), ("missing.yaml", "it cannot be read")],
)
def test_validate_fails_where_there_is_nothing(
    tmp_path: Path, name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()

    assert main(["validate", str(tmp_path / name)]) == 1
    assert sentence in capsys.readouterr().err


def test_schema_prints_a_json_schema_that_knows_our_own_cohorts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0

    schema = json.loads(capsys.readouterr().out)
    check = jsonschema.Draft202012Validator(schema)
    check.check_schema(schema)
    check.validate(parse_yaml((PROJECT / "dags" / "cohorts" / "cdnow.yaml").read_text(), file="cdnow.yaml"))
    assert not check.is_valid({"id": "vip", "colour": "red"})


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["import"], ["validate"]], ids=["none", "unknown", "no path"])
def test_wrong_use_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "usage: kubit-braze" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--help"],
            [
                "validate",
                "preview",
                "history",
                "why",
                "impact",
                "undo",
                "retire",
                "schema",
                "sandbox",
                "Ends with 0",
            ],
        ),
        (["validate", "--help"], ["--json"]),
        (["preview", "--help"], ["COHORT", "--file", "--full-resync", "--json", "--braze-conn-id"]),
        (["history", "--help"], ["COHORT", "--limit", "--file", "--json", "--snowflake-conn-id"]),
        (["why", "--help"], ["USER", "--cohort", "--file", "--json", "--braze-conn-id"]),
        (["impact", "--help"], ["--check", "--share", "--json", "--snowflake-conn-id"]),
        (["sandbox", "--help"], ["--with-cdnow", "--with-share", "--braze-port", "--directory", "campaign"]),
        (
            ["sandbox", "campaign", "--help"],
            ["--cohort", "--canvas", "--lift", "--seed", "--share", "--json"],
        ),
        (
            ["undo", "--help"],
            ["COHORT", "--file", "--snowflake-conn-id", "--braze-conn-id", "--dry-run", "--yes"],
        ),
        (["retire", "--help"], ["COHORT", "--file", "--dry-run", "--yes", "--forget", "--workspace"]),
    ],
    ids=["all", "validate", "preview", "history", "why", "impact", "sandbox", "campaign", "undo", "retire"],
)
def test_help_says_what_there_is(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert [word for word in words if word not in text] == []


def without(blocked: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where some packages are not installed."""
    code = (
        "import sys\n"
        f"blocked = {blocked!r}\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in blocked:\n"
        "            raise ImportError(f'{name} is not installed')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from airflow_provider_kubit_braze.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


AIRFLOW = {"airflow", "snowflake", "fakesnow", "aiosmtpd", "duckdb", "uvicorn", "starlette", "cryptography"}


def test_a_check_of_cohort_files_needs_neither_airflow_nor_the_sandbox_extra(cohorts: Path) -> None:
    done = without(AIRFLOW, "validate", str(cohorts))

    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr


def test_help_is_quick_for_it_imports_next_to_nothing() -> None:
    done = without(AIRFLOW | {"pydantic", "yaml", "rich", "requests", "pendulum", "argcomplete"}, "--help")

    assert (done.returncode, done.stderr) == (0, "")


# -- completion -------------------------------------------------------------------------------------------------


def completed(line: str) -> list[str]:
    """Return what a shell would offer at the end of a line, as argcomplete's shell code asks for it."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as offers:
        environment = {
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SHELL": "bash",
            "_ARGCOMPLETE_STDOUT_FILENAME": offers.name,
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "9",
        }
        done = subprocess.run(
            [sys.executable, "-m", "airflow_provider_kubit_braze.cli"],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return sorted(word.strip() for word in offers.read().split("\n"))


def test_a_shell_completes_commands_options_and_cohorts(cohorts: Path) -> None:
    assert completed("kubit-braze h") == ["history"]
    assert completed("kubit-braze preview vip --f") == ["--file", "--full-resync"]
    assert completed(f"kubit-braze why ann --file {cohorts} --cohort ") == ["new", "vip"]
    assert completed(f"kubit-braze history --file {cohorts} v") == ["vip"]
