"""Why a task failed is left for the mail and the page, and no secret with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)
from snowflake.connector.errors import ProgrammingError

from airflow_provider_kubit_braze.exceptions import (
    BrazeAuthError,
    BrazeEndpointError,
    BrazeUnavailableError,
    SourceError,
)
from airflow_provider_kubit_braze.operators.reasons import reason_left

SECRET = "a-key-that-nobody-may-see"


def left_by(error: BaseException, expected: type[BaseException]) -> list[Any]:
    pushed: list[Any] = []
    context: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.append((key, value)))}
    with pytest.raises(expected), reason_left(context):
        raise error
    return pushed


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        pytest.param(SourceError("No."), AirflowFailException, id="no-retry-helps"),
        pytest.param(BrazeAuthError("No.", status=401), AirflowFailException, id="nor-here"),
        pytest.param(BrazeUnavailableError("No."), BrazeUnavailableError, id="retry"),
        pytest.param(BrazeEndpointError("No.", unsent=True), BrazeEndpointError, id="no-connection"),
        pytest.param(BrazeEndpointError("No."), AirflowFailException, id="another-host"),
        pytest.param(AirflowFailException("No."), AirflowFailException, id="already-judged"),
        pytest.param(AirflowNotFoundException("No."), AirflowNotFoundException, id="no-such-connection"),
    ],
)
def test_the_reason_stays_in_its_own_words(error: Exception, raised: type[Exception]) -> None:
    assert left_by(error, raised) == [("failed_because", "No.")]


def test_what_snowflake_says_stays() -> None:
    [(_, reason)] = left_by(ProgrammingError(msg="Object does not exist."), ProgrammingError)
    assert reason == "Snowflake: Object does not exist."


def test_what_others_say_may_hold_anything_and_does_not_stay() -> None:
    [(_, reason)] = left_by(ValueError(SECRET), ValueError)
    assert reason == "ValueError; the task's log says more."


def test_a_skip_is_no_failure() -> None:
    assert left_by(AirflowSkipException("Nobody."), AirflowSkipException) == []
