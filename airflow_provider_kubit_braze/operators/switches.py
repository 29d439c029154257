"""The switches of the trigger form: where they are kept, and how their values read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_provider_kubit_braze.core.part import has_template, show
from airflow_provider_kubit_braze.core.run import ImportOptions, is_on
from airflow_provider_kubit_braze.exceptions import CohortConfigError

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
        return has_template(value) or value.endswith(".sql")
    # A task's output, known only at run time.
    return not (value is None or isinstance(value, bool))


def holds_template(value: Any) -> bool:
    """Return whether any part of a value is known at run time only: a template, or the output of a task."""
    if isinstance(value, Mapping):
        return any(map(holds_template, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_template, value))
    if isinstance(value, str):
        return has_template(value)
    return hasattr(value, "resolve")


def without_templates(value: Any) -> Any:
    """Return mappings and lists with an empty text for each value in them that is known at run time only."""
    if isinstance(value, Mapping):
        return {name: without_templates(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_templates(one) for one in value]
    return "" if holds_template(value) else value


def refuse_templates(task: object, fields: Iterable[str]) -> None:
    """See that fields which Airflow does not render hold no template: its text would be taken for the value.

    :param task: the operator.
    :param fields: its arguments, kept under their names.
    :raises CohortConfigError: for the first that holds one.
    """
    for name in fields:
        value = getattr(task, name)
        if holds_template(value):
            raise CohortConfigError(
                f"{show(value)} is a template or the output of a task, and this field takes neither",
                fix="write the value itself",
                field=name,
            )


def comes_of_mapped(task: object) -> bool:
    """Return whether a task is made of ``.partial().expand()``, in the worker, as its values are known by then only.

    What its ``__init__`` raises, Airflow neither shows while the file is parsed nor takes for final: no reason is left,
    and retries are spent. So it is judged when it is executed.
    """
    return bool(getattr(task, "_BaseOperator__from_mapped", False))
