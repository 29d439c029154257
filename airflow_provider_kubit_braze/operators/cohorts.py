"""The cohort that a task is given."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.exceptions import CohortConfigError


def given_cohort(cohort: object, *, task_id: str, otherwise: str) -> Cohort:
    """Return a cohort as an author gives it to a task.

    :param cohort: a :class:`Cohort`, or a mapping of its fields.
    :param task_id: the task.
    :param otherwise: what else an author might have meant, as a phrase.
    :raises CohortConfigError: when it is neither, or its fields are wrong.
    """
    if isinstance(cohort, Cohort):
        return cohort
    if not isinstance(cohort, Mapping):
        raise CohortConfigError(
            f"task {task_id!r} gets a cohort that is {type(cohort).__name__}",
            fix=f"give a Cohort or a mapping of its fields{otherwise}",
        )
    return Cohort(**{str(key): value for key, value in cohort.items()})
