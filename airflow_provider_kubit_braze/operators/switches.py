"""The switches of the trigger form: where they are kept, and how their values read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_provider_kubit_braze.core.run import ImportOptions, is_on

#: Each switch, and the operator's attribute for it: Airflow's operators have a method ``dry_run``.
SWITCHES: Final = {
    "dry_run": "as_dry_run",
    "full_resync": "full_resync",
    "override_guards": "override_guards",
    "undo": "undo",
}


def read_options(operator: object, params: Mapping[str, Any]) -> ImportOptions:
    """Return what is switched on, by the author of the DAG or by whoever triggered the run.

    :raises CohortConfigError: for a value that is no switch, or switches that exclude each other.
    """
    return ImportOptions(
        **{
            name: is_on(name, getattr(operator, attribute)) or is_on(name, params.get(name))
            for name, attribute in SWITCHES.items()
        }
    )


def is_template(value: Any) -> bool:
    """Return whether a value is known at run time only."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value or value.endswith(".sql")
    # A task's output, known only at run time.
    return not (value is None or isinstance(value, bool))


def holds_template(value: Any) -> bool:
    """Return whether any part of a value is known at run time only: a template, or the output of a task."""
    if isinstance(value, Mapping):
        return any(map(holds_template, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_template, value))
    if isinstance(value, str):
        return is_template(value)
    return hasattr(value, "resolve")
