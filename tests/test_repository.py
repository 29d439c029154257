"""Habits of the repository: what no file in it may hold, and what its constraints look like."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

# Folders of one machine, and hosts of package registries: neither means anything to anybody else. Written in
# two halves, so that this file does not hold them itself.
FORBIDDEN = {
    "a folder of one machine": re.compile(
        r"(?<![\w.$}/-])/(?:"
        + "|".join(("wo" + "rk", "ro" + "ot", "ho" + r"me/\w+", "Us" + r"ers/\w+", "op" + "t/wheels"))
        + r")(?![\w-])"
        r"|/tmp/" + "scratch"
    ),
    "the host of a package registry": re.compile(
        "|".join(
            ("py" + r"pi\.org", "python" + r"hosted\.org", "registry" + r"\.npmjs", "deb" + r"\.debian\.org")
        ),
        re.IGNORECASE,
    ),
    "an internal name": re.compile("tool " + "library", re.IGNORECASE),
    "a private key": re.compile("-----BEGIN [A-Z ]*PRIVATE " + "KEY-----"),
    "a conflict marker": re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE),
}
NOT_TEXT = {".gif", ".ico", ".png", ".woff2"}

# Lines. A module has one idea, and most stay under 250; one that is longer than this has two.
LONGEST_MODULE = 400


def repository_files() -> list[Path]:
    """Every file that is tracked, or would be with the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(path for name in listed.stdout.split("\0") if name and (path := PROJECT / name).is_file())


def texts() -> dict[str, str]:
    return {
        str(path.relative_to(PROJECT)): path.read_text(encoding="utf-8")
        for path in repository_files()
        if path.suffix not in NOT_TEXT
    }


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for name, text in texts().items()
        for match in FORBIDDEN[what].finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a folder of one machine", "see /wo" + "rk/main/x"),
        ("a folder of one machine", "'/ro" + "ot/.cache'"),
        ("a folder of one machine", "/ho" + "me/ann/project"),
        ("a folder of one machine", "in /tmp/" + "scratch/x"),
        ("the host of a package registry", "https://py" + "pi.org/simple"),
        ("the host of a package registry", "https://files.python" + "hosted.org/x.whl"),
        ("an internal name", "the Tool " + "Library"),
        ("a private key", "-----BEGIN RSA PRIVATE " + "KEY-----"),
        ("a conflict marker", "x\n" + "<" * 7 + " HEAD\n"),
    ],
)
def test_the_search_finds_what_it_is_for(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


@pytest.mark.parametrize(
    "text", ["docs/work/x", "$HOME/work", "a root/leaf", "https://x.y/root", "${DIR}/root"]
)
def test_the_search_leaves_ordinary_paths_alone(text: str) -> None:
    assert not FORBIDDEN["a folder of one machine"].search(text)


def test_no_module_of_the_package_is_a_long_one() -> None:
    modules = {
        name: text.count("\n")
        for name, text in texts().items()
        if name.startswith("airflow_provider_kubit_braze/")
    }
    assert len(modules) > 10
    assert {
        name: lines for name, lines in modules.items() if name.endswith(".py") and lines > LONGEST_MODULE
    } == {}


@pytest.mark.parametrize("airflow", ["2.11", "3.1", "3.3"])
def test_a_constraints_file_holds_names_versions_and_markers_only(airflow: str) -> None:
    lines = (PROJECT / "constraints" / f"airflow-{airflow}.txt").read_text(encoding="ascii").splitlines()
    assert len(lines) > 100
    pattern = re.compile(
        r"[a-z0-9][a-z0-9-]*==[0-9][A-Za-z0-9.!]*(?: ; [a-z0-9_.<>=!'* ()-]+)?", re.IGNORECASE
    )
    assert [line for line in lines if not pattern.fullmatch(line)] == []
    assert [line for line in lines if re.match(rf"apache-airflow=={re.escape(airflow)}\.\d+$", line)]


@pytest.mark.parametrize("airflow", ["2.11", "3.1", "3.3"])
def test_a_constraints_file_knows_every_requirement_of_the_metadata(airflow: str) -> None:
    """What `make constraints` was not run for after a change would be installed at any version."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(PROJECT / "setup.cfg", encoding="utf-8")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    wanted = {name.lower() for text in lists for name in re.findall(r"^[A-Za-z][\w.-]*", text, re.MULTILINE)}
    assert {"apache-airflow", "fakesnow", "ruff"} <= wanted
    constraints = (PROJECT / "constraints" / f"airflow-{airflow}.txt").read_text(encoding="ascii")
    assert wanted - {line.partition("==")[0] for line in constraints.splitlines()} == set()


@pytest.mark.parametrize(
    "script",
    [
        "scripts/setup",
        "scripts/constraints",
        "scripts/uv",
        "scripts/chromium",
        "scripts/distributed_services",
        ".ci/run",
    ],
)
def test_a_script_is_executable_and_names_its_shell(script: str) -> None:
    path = PROJECT / script
    assert path.stat().st_mode & 0o111
    assert path.read_text(encoding="utf-8").startswith(("#!/bin/sh\n", "#!/usr/bin/env bash\n"))
