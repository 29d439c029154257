"""Why a task fails: left as XCom for the mail and the page, and judged for whether a retry can help."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from airflow_provider_kubit_braze.core.run import WHY_KEY
from airflow_provider_kubit_braze.exceptions import BrazeError, KubitBrazeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context


@contextmanager
def reason_left(context: Context) -> Iterator[None]:
    """Leave why the work inside raises as XCom ``failed_because``.

    :raises AirflowFailException: instead of an error of ours after which no retry can help.
    """
    try:
        yield
    except AirflowSkipException:
        raise
    except Exception as error:
        context["ti"].xcom_push(key=WHY_KEY, value=_words(error))
        if not isinstance(error, KubitBrazeError) or error.retry_helps:
            raise
        # Whatever kept a connection from coming about may be over soon, and nothing was sent.
        if isinstance(error, BrazeError) and error.unsent:
            raise
        raise AirflowFailException(str(error)) from None


def _words(error: Exception) -> str:
    from airflow_provider_kubit_braze.warehouse.session import first_line

    if isinstance(error, KubitBrazeError | AirflowException):
        return str(error)
    if hasattr(error, "sqlstate"):
        return f"Snowflake: {first_line(error)}"
    # What others say may hold anything, and XCom masks no secrets.
    return f"{type(error).__name__}; the task's log says more."
