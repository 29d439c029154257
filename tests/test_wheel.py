"""The wheel that users install, built from a copy of this tree and read back."""

from __future__ import annotations

import configparser
import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_kubit_braze import __version__

if TYPE_CHECKING:
    from email.message import Message

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = "airflow_provider_kubit_braze"

# What setup.cfg may set, and the name pyproject.toml must then list as dynamic. Not here: the license files;
# setuptools refuses them in that list and reads them from setup.cfg all the same.
DYNAMIC = {
    ("metadata", "author"): "authors",
    ("metadata", "classifiers"): "classifiers",
    ("metadata", "description"): "description",
    ("metadata", "keywords"): "keywords",
    ("metadata", "license_expression"): "license",
    ("metadata", "long_description"): "readme",
    ("metadata", "project_urls"): "urls",
    ("metadata", "version"): "version",
    ("options", "install_requires"): "dependencies",
    ("options", "python_requires"): "requires-python",
    ("options.entry_points", "apache_airflow_provider"): "entry-points",
    ("options.entry_points", "console_scripts"): "scripts",
    ("options.extras_require", "sandbox"): "optional-dependencies",
}


@dataclass(frozen=True)
class Wheel:
    """What was built.

    :param metadata: the parsed METADATA file.
    :param entry_points: the parsed entry_points.txt.
    :param files: every path in the wheel.
    """

    metadata: Message
    entry_points: configparser.ConfigParser
    files: frozenset[str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """Build in a copy, so that nothing is left here and nothing left here gets in; without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in (PACKAGE, "dags", "tests", "bench", "scripts"):
        if (PROJECT / name).exists():
            shutil.copytree(PROJECT / name, source / name, ignore=ignore)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        files = frozenset(archive.namelist())
        info = f"{PACKAGE}-{__version__}.dist-info"
        entry_points = configparser.ConfigParser(delimiters="=")
        entry_points.read_string(archive.read(f"{info}/entry_points.txt").decode())
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    return Wheel(metadata=metadata, entry_points=entry_points, files=files)


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    """The source of the metadata."""
    parser = configparser.ConfigParser(interpolation=None, delimiters="=")
    parser.read(PROJECT / "setup.cfg", encoding="utf-8")
    return parser


def canonical(requirement: str) -> tuple[str, frozenset[str], frozenset[str]]:
    """Name, extras and version bounds of a requirement, whichever way it is written."""
    match = re.fullmatch(r"([\w.-]+)\s*(?:\[([\w,\s-]*)\])?\s*([^;]*?)\s*(?:;.*)?", requirement)
    assert match, requirement
    name, extras, bounds = match.groups()
    return (
        re.sub(r"[._-]+", "-", name).lower(),
        frozenset(filter(None, re.split(r"[\s,]+", extras or ""))),
        frozenset(bound.replace(" ", "") for bound in bounds.split(",") if bound),
    )


def lines(text: str) -> list[str]:
    return [
        line for line in (line.strip() for line in text.splitlines()) if line and not line.startswith("#")
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Name", "airflow-provider-kubit-braze"),
        ("Version", __version__),
        ("Requires-Python", ">=3.11"),
        ("License-Expression", "Apache-2.0"),
        ("License-File", "LICENSE"),
        ("Description-Content-Type", "text/markdown"),
    ],
)
def test_a_field_of_the_metadata_says_what_it_must(wheel: Wheel, field: str, value: str) -> None:
    assert wheel.metadata.get_all(field) == [value]


def test_the_description_is_the_readme(wheel: Wheel) -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(readme) > 200
    payload = wheel.metadata.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().strip() == readme.strip()


def test_the_classifiers_arrive_whole(wheel: Wheel, setup_cfg: configparser.ConfigParser) -> None:
    classifiers = wheel.metadata.get_all("Classifier") or []
    assert sorted(classifiers) == sorted(lines(setup_cfg["metadata"]["classifiers"]))
    assert "Framework :: Apache Airflow :: Provider" in classifiers
    assert {"3.11", "3.12", "3.13"} <= {line.rpartition(" ")[2] for line in classifiers if ":: 3." in line}


def test_the_project_urls_arrive_whole(wheel: Wheel, setup_cfg: configparser.ConfigParser) -> None:
    wanted = {
        tuple(re.split(r"\s*=\s*", line, maxsplit=1))
        for line in lines(setup_cfg["metadata"].get("project_urls", ""))
    }
    arrived = {
        tuple(re.split(r"\s*,\s*", line, maxsplit=1)) for line in wheel.metadata.get_all("Project-URL") or []
    }
    assert arrived == wanted
    assert all(url.startswith("https://") for _, url in arrived)


def test_the_requirements_arrive_whole(wheel: Wheel, setup_cfg: configparser.ConfigParser) -> None:
    arrived = wheel.metadata.get_all("Requires-Dist") or []
    plain = {canonical(line) for line in arrived if "extra ==" not in line}
    assert plain == {canonical(line) for line in lines(setup_cfg["options"]["install_requires"])}
    assert ("apache-airflow", frozenset(), frozenset({">=2.11", "<4"})) in plain


def test_the_extras_arrive_whole(wheel: Wheel, setup_cfg: configparser.ConfigParser) -> None:
    wanted = {
        extra: {canonical(line) for line in lines(text)}
        for extra, text in setup_cfg["options.extras_require"].items()
    }
    assert (
        set(wheel.metadata.get_all("Provides-Extra") or [])
        == set(wanted)
        == {"dev", "distributed", "email", "impact", "sandbox"}
    )
    arrived: dict[str, set[object]] = {extra: set() for extra in wanted}
    for line in wheel.metadata.get_all("Requires-Dist") or []:
        extra = re.search(r"""extra == ['"](\w+)['"]""", line)
        if extra:
            arrived[extra[1]].add(canonical(line))
    assert arrived == wanted


def test_the_data_of_the_demo_are_no_requirement(wheel: Wheel) -> None:
    assert not [
        line for line in wheel.metadata.get_all("Requires-Dist") or [] if line.startswith("lifetimes")
    ]


def test_the_entry_points_lead_to_our_modules(wheel: Wheel) -> None:
    found = {group: dict(wheel.entry_points[group]) for group in wheel.entry_points.sections()}
    assert found == {
        "airflow.plugins": {"kubit_braze": f"{PACKAGE}.plugin:KubitBrazePlugin"},
        "apache_airflow_provider": {"provider_info": f"{PACKAGE}.get_provider_info:get_provider_info"},
        "console_scripts": {"kubit-braze": f"{PACKAGE}.cli:main"},
        "pytest11": {"kubit_braze": f"{PACKAGE}.sandbox.pytest_plugin"},
    }
    for group in found.values():
        for target in group.values():
            module = target.partition(":")[0].replace(".", "/")
            assert wheel.files & {f"{module}.py", f"{module}/__init__.py"}


def test_everything_of_the_package_is_in_the_wheel_and_nothing_else(wheel: Wheel) -> None:
    inside = {name for name in wheel.files if not name.startswith(f"{PACKAGE}-{__version__}.dist-info/")}
    package = PROJECT / PACKAGE
    wanted = {
        str(path.relative_to(PROJECT))
        for path in package.rglob("*")
        if path.is_file() and not re.search(r"/(?:__pycache__|\.)", str(path.relative_to(PROJECT)))
    }
    assert inside == wanted
    assert f"{PACKAGE}/py.typed" in inside
    assert not {name.partition("/")[0] for name in inside} & {"airflow", "bench", "dags", "scripts", "tests"}


def test_every_key_of_the_metadata_is_declared_dynamic(setup_cfg: configparser.ConfigParser) -> None:
    """Setuptools drops what setup.cfg sets and the list lacks, with no more than a warning."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project) == {"name", "dynamic"}
    assert project["name"] == setup_cfg["metadata"]["name"]
    missing = [
        dynamic
        for (section, key), dynamic in DYNAMIC.items()
        if setup_cfg.has_option(section, key) and dynamic not in project["dynamic"]
    ]
    assert missing == []
