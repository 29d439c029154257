"""The history table read back: what imports came to."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.core.run import RunIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: The fields of an ``ImportResult``, which are columns of ``IMPORT_RUN`` too.
FIGURES: Final = [field.name for field in fields(ImportResult)]

_IDENTITY: Final = [field.name for field in fields(RunIdentity)]
_MORE: Final = ["workspace", "state", "place"]


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """One row of the history.

    :param figures: those of an ``ImportResult`` and under its names; without an ``outcome`` while the import runs.
    :param identity: the task instance.
    :param workspace: key of the Braze workspace.
    :param state: ``planned``, ``sending``, ``paused`` or ``closed``; anything but the last means that it has not ended.
    :param place: where in Braze members were marked.
    """

    figures: Mapping[str, Any]
    identity: RunIdentity
    workspace: str
    state: str
    place: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: the figures first, then what else there is."""
        return {
            **self.figures,
            "state": self.state,
            "started_by": self.identity.started_by,
            "dag_id": self.identity.dag_id,
            "task_id": self.identity.task_id,
            "try_number": self.identity.try_number,
            "workspace": self.workspace,
            "place": self.place,
        }


def list_runs(session: Session, tables: Tables, *, cohort_id: str, limit: int) -> list[PastRun]:
    """Return a cohort's imports in every workspace, newest first.

    :param limit: how many at most.
    """
    names = list(dict.fromkeys([*FIGURES, *_IDENTITY, *_MORE]))
    rows = session.rows(
        f"SELECT {', '.join(map(str.upper, names))} FROM {tables.run} WHERE COHORT_ID = %s "
        "ORDER BY STARTED_AT DESC, IMPORT_ID LIMIT %s",
        (cohort_id, limit),
    )
    return [_past_run(dict(zip(names, row, strict=True))) for row in rows]


def _past_run(row: Mapping[str, Any]) -> PastRun:
    numbers = {name: int(row[name]) for name in ("map_index", "try_number")}
    return PastRun(
        figures=read_figures(row),
        identity=RunIdentity(dag_id=row["dag_id"], run_id=row["run_id"], task_id=row["task_id"], **numbers),
        **{name: row[name] for name in _MORE},
    )


def read_figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a row of ``IMPORT_RUN`` as an ``ImportResult`` has them.

    :param row: columns by their names in lower case.
    """
    values: dict[str, Any] = {}
    for field in fields(ImportResult):
        value = row[field.name]
        if field.name == "finished_at" and row["outcome"] is None:
            value = ""
        elif field.name in ("started_at", "finished_at"):
            value = value.replace(tzinfo=UTC).isoformat()
        elif field.name in ("verification", "rejected_reasons"):
            value = json.loads(value) if value else None
        elif isinstance(field.default, int | float):
            value = type(field.default)(value or 0)
        values[field.name] = value
    return values
