"""A cohort that is defined wrongly shows as an import error of its own file, while its neighbours load.

Airflow knows import errors by file, and takes every DAG of a file with an import error off the schedule. So the error
of a cohort may not be filed under the DAG file that loads it with others: it is filed under the cohort file.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowClusterPolicySkipDag
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_kubit_braze.exceptions import CohortConfigError, CohortFilesError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

log = logging.getLogger(__name__)


class BrokenCohorts(DAG):
    """Stands in for the wrong cohorts of one file while Airflow collects DAGs, and vanishes then.

    Airflow validates each DAG while it fills a ``DagBag``. This one notes its error in that bag, under the path of the
    cohort file, and asks to be skipped, as a cluster policy may.
    """

    def validate(self) -> None:
        """Hand the errors to the ``DagBag`` that is asking.

        :raises AirflowClusterPolicySkipDag: so that the bag drops this stand-in.
        :raises CohortFilesError: when something else asks.
        """
        file, errors = self.kubit_braze_broken
        bag = _asking_dag_bag()
        if bag is None:
            raise CohortFilesError(errors)
        bag.import_errors[_key(bag, file)] = "\n".join(f"{type(e).__name__}: {e}" for e in errors)
        raise AirflowClusterPolicySkipDag(f"{file} holds no valid cohort here")

    kubit_braze_broken: tuple[str, Sequence[CohortConfigError]]


def report_broken_cohorts(file: str, errors: Sequence[CohortConfigError]) -> None:
    """Make the errors of one cohort file an import error of that file.

    :param file: path of the cohort file.
    :param errors: what is wrong in it.
    """
    for error in errors:
        log.error("%s", error)
    # Leaving the context registers the DAG with the parse that is under way, if one is.
    with BrokenCohorts(dag_id=f"kubit_braze_broken__{abs(hash_of(file))}", schedule=None) as dag:
        dag.kubit_braze_broken = (file, tuple(errors))


def hash_of(text: str) -> int:
    """Return a number for a text that is the same in every process."""
    import zlib

    return zlib.crc32(text.encode())


def _asking_dag_bag() -> Any | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        asking = frame.f_locals.get("self")
        if isinstance(getattr(asking, "import_errors", None), dict):
            return asking
        frame = frame.f_back
    return None


def _key(bag: Any, file: str) -> str:
    """Airflow 3 names files relative to their bundle, 2.11 by their whole path."""
    bundle = getattr(bag, "bundle_path", None)
    path = Path(file).resolve()
    if bundle is not None and path.is_relative_to(Path(bundle).resolve()):
        return str(path.relative_to(Path(bundle).resolve()))
    return str(path)
