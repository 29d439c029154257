"""Which run an import belongs to, and what the person who triggered it asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """The Airflow task instance that does an import. A retry has the same identity but for ``try_number``.

    :param dag_id: id of the DAG.
    :param run_id: id of the DAG run.
    :param task_id: id of the task.
    :param map_index: index of a mapped task, -1 for any other.
    :param try_number: 1 for the first attempt.
    """

    dag_id: str
    run_id: str
    task_id: str = "import_to_braze"
    map_index: int = -1
    try_number: int = 1


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the trigger form offers.

    :param dry_run: plan and count, send and record nothing.
    :param full_resync: send every member once more, also those Braze already has.
    :param override_guards: let the plan pass whatever the guards say, this once.
    """

    dry_run: bool = False
    full_resync: bool = False
    override_guards: bool = False
