"""How long a DAG file with many cohorts takes, and how soon the command line answers."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.rows import Row, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.sizes import Sizes

_COHORT: Final = """
  - id: cohort_{n}
    name: Cohort {n}
    source: {{table: ANALYTICS.KUBIT.COHORT_{n}, ready: {{column: COMPUTED_AT, within: 26h}}}}
    identifiers: {{external_id: USER_ID, email: EMAIL}}
    schedule: {{mode: weekly, on: monday, at: "09:00", timezone: America/New_York}}
    notify: [growth@example.com]
"""

_VALIDATED: Final = 100

#: To import Airflow takes seconds.
_MOST_ROUNDS: Final = 5


def parsing(sizes: Sizes) -> Iterator[Row]:
    """Measure cohort files of several lengths, then the command."""
    with tempfile.TemporaryDirectory(prefix="kubit-braze-bench-") as name:
        folder = Path(name)
        for count in sizes.parsed:
            yield _parsed(_file(folder, count), count, sizes.rounds)
        yield from _commands(_file(folder, _VALIDATED), min(sizes.rounds, _MOST_ROUNDS))


def _file(folder: Path, count: int) -> Path:
    file = folder / f"cohorts_{count}.yaml"
    file.write_text("cohorts:" + "".join(_COHORT.format(n=n) for n in range(count)))
    return file


def _parsed(file: Path, count: int, rounds: int) -> Row:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
    from airflow.timetables.trigger import CronTriggerTimetable

    from airflow_provider_kubit_braze.factory import load_cohort_dags

    def ours() -> None:
        if len(load_cohort_dags(file, strict=True)) != count:
            raise RuntimeError(f"not {count} DAGs")

    def plain() -> None:
        for n in range(count):
            timetable = CronTriggerTimetable("0 9 * * 1", timezone="America/New_York")
            with DAG(f"plain_{n}", schedule=timetable, catchup=False, start_date=None):
                (
                    EmptyOperator(task_id="wait")
                    >> EmptyOperator(task_id="import")
                    >> EmptyOperator(task_id="notify").as_teardown()
                )

    cohorts = f"{count} cohort{'s' if count > 1 else ''}"
    return ratio(
        f"CPU of a DAG file with {cohorts}, YAML to DAGs",
        ours,
        plain,
        against=f"{count} plain DAG{'s' if count > 1 else ''} of three empty tasks",
        rounds=rounds,
    )


def _commands(file: Path, rounds: int) -> Iterator[Row]:
    validate = [sys.executable, "-m", "airflow_provider_kubit_braze.cli", "validate", str(file)]
    for against, code in (
        ("python -c 'import yaml, pydantic'", "import yaml, pydantic"),
        ("python -c 'import airflow.sdk'", "from airflow.sdk import DAG"),
    ):
        yield ratio(
            f"CPU of kubit-braze validate, {_VALIDATED} cohorts",
            lambda: _run(validate),
            lambda code=code: _run([sys.executable, "-c", code]),  # type: ignore[misc]
            against=against,
            clock=_childrens_cpu,
            rounds=rounds,
        )


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _childrens_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
