"""``kubit-braze validate`` and ``schema``: cohort files checked before they are deployed, without Airflow."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.cohort import cohort_json_schema
from airflow_provider_kubit_braze.core.cohort_file import cohort_files, read_cohorts
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    import argparse


def validate(arguments: argparse.Namespace) -> int:
    """Say what is right and what is wrong in cohort files.

    :param arguments: ``path``, several of them, and ``json``.
    :return: the exit code: 1 when anything is wrong.
    """
    read = read_cohorts(*arguments.path)
    problems = [*(_nothing_in(path) for path in arguments.path if not cohort_files(path)), *read.problems]
    if arguments.json:
        print(json.dumps([_as_dict(problem) for problem in problems], indent=2))
        return 1 if problems else 0
    for loaded in read.cohorts:
        when = loaded.cohort.schedule.words() if loaded.cohort.schedule else "on request"
        print(f"{loaded.place}: {loaded.cohort.id}: {loaded.cohort.name}, {when}")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"Cohorts: {len(read.cohorts)}, problems: {len(problems)}.", file=sys.stderr)
    return 1 if problems else 0


def schema(_: argparse.Namespace) -> int:
    """Print the JSON Schema of a cohort file."""
    print(json.dumps(cohort_json_schema(), indent=2))
    return 0


def _nothing_in(path: str) -> CohortConfigError:
    fix = "name a cohort file, or a folder with *.yaml or *.yml files"
    return CohortConfigError("there is no cohort file here", fix=fix, file=path)


def _as_dict(problem: CohortConfigError) -> dict[str, Any]:
    """Return a problem for a program, such as one that marks the line in a pull request."""
    file, line = problem.file_and_line
    return {
        "file": file,
        "line": line,
        "cohort": problem.cohort,
        "field": problem.field,
        "problem": problem.problem,
        "fix": problem.fix,
        "message": str(problem),
    }
