"""The cohort that a task is given."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.exceptions import CohortConfigError


def given_cohort(cohort: object, *, taker: str, otherwise: str = "") -> Cohort:
    """Return a cohort as an author gives it to a task or a DAG.

    :param cohort: a :class:`Cohort`, or a mapping of its fields.
    :param taker: what it is given to, such as ``task 'import'``.
    :param otherwise: what else an author might have meant, as a phrase.
    :raises CohortConfigError: when it is neither, or its fields are wrong.
    """
    if isinstance(cohort, Cohort):
        return cohort
    if not isinstance(cohort, Mapping):
        raise CohortConfigError(
            f"{taker} gets a cohort that is {type(cohort).__name__}",
            fix=f"give a Cohort or a mapping of its fields{otherwise}",
        )
    return Cohort(**{str(key): value for key, value in cohort.items()})


def id_of(cohort: object, cohort_id: object = None) -> object:
    """Return the id of a cohort as far as it is known, for a message about it.

    :param cohort: as for ``given_cohort``, or None.
    :param cohort_id: what is given instead.
    """
    if isinstance(cohort, Mapping):
        return cohort.get("id")
    return getattr(cohort, "id", cohort_id)
