"""What holds for every test: an Airflow home of the run's own, and nothing of the developer's Airflow."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

if any(name == "airflow" or name.startswith("airflow.") for name in sys.modules):
    raise pytest.UsageError("Airflow was imported before tests/conftest.py could give it a home of its own")

# Airflow reads its configuration once, while it is imported, so this cannot wait for a fixture. Connections,
# variables and settings of the developer's shell are not for the tests.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AIRFLOW__"))]:
    del os.environ[_name]

# What a command writes depends on it; pytest-xdist sets it for its workers.
os.environ.pop("COLUMNS", None)

# What Hypothesis has chosen by itself (in CI the same examples every time), but no machine is too slow for it.
settings.register_profile(
    "tests", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="kubit-braze-tests-"))
(AIRFLOW_HOME / "dags").mkdir()

os.environ.update(
    {
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(AIRFLOW_HOME / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # Everything is on this machine: a proxy of the developer's would only be in the way.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one process, and the folder of the pages' tests as a whole: it has one Airflow running."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "tests/ui" if nodeid.startswith("tests/ui/") else nodeid.partition("::")[0]

    return ByFile(config, log)


def pytest_unconfigure() -> None:
    """Remove the home, unless ``KEEP_AIRFLOW_HOME`` asks for it."""
    if os.environ.get("KEEP_AIRFLOW_HOME"):
        sys.stderr.write(f"kept {AIRFLOW_HOME}\n")
    else:
        shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's top folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's database, made when a test first needs it."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def dags_folder() -> Iterator[Path]:
    """Airflow's folder of DAG files, empty; ``dag.test()`` reads all of it each time."""
    folder = AIRFLOW_HOME / "dags"
    yield folder
    shutil.rmtree(folder)
    folder.mkdir()
