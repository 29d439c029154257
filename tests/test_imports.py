"""Who imports whom: the house's directions, and that what is imported is also declared."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "airflow_provider_kubit_braze"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What an import name is declared as, where the two differ.
DECLARED_AS = {
    "airflow.providers.common.compat": "apache-airflow-providers-common-compat",
    "airflow.providers.smtp": "apache-airflow-providers-smtp",
    "airflow.providers.snowflake": "apache-airflow-providers-snowflake",
    "airflow": "apache-airflow",
    "fastapi": "apache-airflow",  # what its API server is made of
    "sqlalchemy": "apache-airflow",
    "pydantic_core": "pydantic",  # one release of pydantic needs exactly one of pydantic_core
    "snowflake": "apache-airflow-providers-snowflake",  # its bounds on the connector are the ones that count
    "starlette": "fakesnow",  # its extra `server` is these two
    "uvicorn": "fakesnow",
    "yaml": "pyyaml",
}
# Importable where they are imported, and nowhere a dependency: pytest loads its own plugin.
NOT_DECLARED = {("sandbox/pytest_plugin.py", "pytest")}

# Rooms that are entered by their own door, an entry point naming the package; nobody passes through them.
ENTERED = {"cli", "plugin"}

BLOCKED_IN_CORE = (
    "aiohttp",
    "airflow",
    "duckdb",
    "fakesnow",
    "http",
    "httpx",
    "pandas",
    "pyarrow",
    "requests",
    "smtplib",
    "snowflake",
    "urllib3",
)

IMPORT_WITH_BLOCKED = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"the core has imported {name}")

# pydantic reads entry points, and the standard library's module for that imports socket: so it is opening one
# that is refused here; importing it is the linter's matter.
def refuse_sockets(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"the core has opened a socket: {event}")

sys.addaudithook(refuse_sockets)
BLOCKED = set(sys.argv[1].split(","))
for name in [name for name in sys.modules if name.partition(".")[0] in BLOCKED]:
    del sys.modules[name]  # a namespace that a .pth file has opened
sys.meta_path.insert(0, Refuse())
for name in sys.argv[2:]:
    importlib.import_module(name)
print(len(sys.argv[2:]), "imported")
"""


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Dotted names a module imports, at any depth, but those for type checkers only."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for statement in node.orelse:
                visit(statement)
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def declared() -> dict[str, str | None]:
    """Map each requirement of setup.cfg to the extra that brings it; the extra ``dev`` counts for nothing."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(PROJECT / "setup.cfg", encoding="utf-8")
    lists: list[tuple[str | None, str]] = [(None, setup["options"]["install_requires"])]
    lists += [(extra, text) for extra, text in setup["options.extras_require"].items() if extra != "dev"]
    found: dict[str, str | None] = {}
    for extra, text in lists:
        for name in re.findall(r"^[A-Za-z0-9._-]+", text.strip(), re.MULTILINE):
            found.setdefault(re.sub(r"[._-]+", "-", name).lower(), extra)
    return found


def distribution_of(name: str) -> str:
    for prefix, distribution in DECLARED_AS.items():
        if name == prefix or name.startswith(f"{prefix}."):
            return distribution
    return name.partition(".")[0].lower().replace("_", "-")


def test_no_room_is_entered_from_the_wrong_side() -> None:
    # In a process of its own: the linter sets up logging and silences every logger it finds.
    code = "import sys; from importlinter import cli; sys.exit(cli.lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_keeps_every_room_of_the_package() -> None:
    configuration = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]
    direction = next(contract for contract in configuration["contracts"] if contract["id"] == "direction")
    named = set(re.findall(r"\w+", " ".join(direction["layers"])))
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms, "no room was found"
    assert rooms <= named
    assert direction["exhaustive"] is True
    assert configuration["include_external_packages"] is True


def test_the_core_is_imported_without_airflow_driver_or_socket() -> None:
    names = [module_name(path) for path in MODULES if path.is_relative_to(PACKAGE / "core")]
    assert len(names) > 1
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITH_BLOCKED, ",".join(BLOCKED_IN_CORE), *names],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{len(names)} imported"


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.name == "__init__.py" and path.parent.name not in ENTERED],
    ids=lambda path: str(path.parent.relative_to(PROJECT)),
)
def test_an_init_file_holds_a_docstring_and_at_most_the_version(path: Path) -> None:
    """Airflow imports it while it discovers providers: more would cost every command, or be circular."""
    first, *rest = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(first, ast.Expr)
    assert isinstance(first.value, ast.Constant)
    expected = ["__version__"] if path.parent == PACKAGE else []
    assert [ast.unparse(node.targets[0]) for node in rest if isinstance(node, ast.Assign)] == expected
    assert len(rest) == len(expected)


def test_the_provider_info_imports_nothing() -> None:
    assert imported(PACKAGE / "get_provider_info.py") <= {"__future__", "typing"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_package_that_is_imported_is_declared(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    allowed = {"email"} if relative.startswith(("notifications/", "operators/")) else set()
    if relative.startswith("sandbox/"):
        allowed = {"sandbox"}
    if relative.startswith("core/impact/"):
        allowed = {"impact"}
    requirements = declared()
    for name in imported(path):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == PACKAGE.name or (relative, top) in NOT_DECLARED:
            continue
        distribution = distribution_of(name)
        assert distribution in requirements, f"{name} is no dependency in setup.cfg"
        extra = requirements[distribution]
        assert extra is None or extra in allowed, f"{name} comes with the extra {extra!r} only"
