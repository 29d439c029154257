"""Tell Airflow's pages how far an import is, while it runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze._compat import AIRFLOW_V_3_1_PLUS

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: The XCom's key; its value is ``{"sent": int, "total": int}``, changes that have their answer and changes in all.
PROGRESS_KEY: Final = "progress"


def progress_teller(ti: Any) -> Callable[[int, int], None] | None:
    """Return what writes the progress of a task's import down as XCom, or None where no page would show it.

    It is called in a thread beside the delivery. An XCom that cannot be written ends the telling, never the import.

    :param ti: the running task instance.
    """
    if not AIRFLOW_V_3_1_PLUS or not _may_be_asked_beside_others():
        return None
    works = True

    def tell(sent: int, total: int) -> None:
        nonlocal works
        if not works:
            return
        try:
            ti.xcom_push(key=PROGRESS_KEY, value={"sent": sent, "total": total})
        except Exception as error:
            works = False
            log.warning("The pages show no progress of this import: %s", type(error).__name__)

    return tell


def _may_be_asked_beside_others() -> bool:
    """Whether threads may talk to Airflow at the same time: in 3.1 they read each other's answers, or wait for ever."""
    from airflow.sdk.execution_time import task_runner

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return comms is None or hasattr(comms, "_thread_lock")
