"""Which run an import belongs to, and what the person who triggered it asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from airflow_provider_kubit_braze.exceptions import CohortConfigError

Purpose = Literal["import", "undo", "retire"]

#: The XCom in which a task that failed without a result leaves why, as one sentence.
WHY_KEY: Final = "failed_because"

StartedBy = Literal["schedule", "trigger", "backfill", "asset", "command line", "other"]

#: What stands in the history where an import of Airflow has its task.
COMMAND: Final = "kubit-braze"

# How run ids begin; in Airflow 2 assets were data sets. Whoever triggers a run may also give it any other id.
_STARTED_BY: Final[dict[str, StartedBy]] = {
    "scheduled": "schedule",
    "manual": "trigger",
    "backfill": "backfill",
    "asset_triggered": "asset",
    "dataset_triggered": "asset",
}


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

    @property
    def started_by(self) -> StartedBy:
        """What started the run, as far as its id tells; ``trigger`` is a person or a program."""
        if self.task_id == COMMAND:
            return "command line"
        return _STARTED_BY.get(self.run_id.partition("__")[0], "other")

    def query_tag(self, cohort_id: str) -> dict[str, str]:
        """Return what the ``QUERY_TAG`` of its statements says."""
        return {"app": "kubit_braze", "cohort": cohort_id, "dag_id": self.dag_id, "run_id": self.run_id}


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the trigger form and the command line offer.

    :param dry_run: plan and count, send and record nothing.
    :param full_resync: send every member once more, also those Braze already has, and those it rejected lately.
    :param override_guards: let the plan pass whatever the guards say, this once.
    :param undo: reverse the last import: everybody is in or out again as before it.
    :param retire: take everybody out.
    :raises CohortConfigError: for two of ``full_resync``, ``undo`` and ``retire``.
    """

    dry_run: bool = False
    full_resync: bool = False
    override_guards: bool = False
    undo: bool = False
    retire: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be done together."""
        chosen = [name for name in ("full_resync", "undo", "retire") if getattr(self, name)]
        if len(chosen) > 1:
            raise CohortConfigError(
                f"{' and '.join(chosen)} cannot be done in one import", fix="choose one of them"
            )

    @property
    def purpose(self) -> Purpose:
        """What kind of import this is."""
        return "undo" if self.undo else "retire" if self.retire else "import"


def is_on(name: str, value: Any) -> bool:
    """Read a switch that may have come through a template."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in ("true", "1"):
            return True
        if text in ("false", "0", "none", ""):
            return False
    elif value is None or isinstance(value, bool):
        return bool(value)
    raise CohortConfigError(f"{value!r} is no switch", fix="write true or false", field=name)
