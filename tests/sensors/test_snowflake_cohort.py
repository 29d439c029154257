from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fakesnow
import pytest
import snowflake.connector
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_kubit_braze.core.readiness import REASON_KEY
from airflow_provider_kubit_braze.exceptions import CohortConfigError, SourceError
from airflow_provider_kubit_braze.sensors.snowflake_cohort import SnowflakeCohortSensor
from airflow_provider_kubit_braze.triggers.snowflake_cohort import SnowflakeCohortTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore:Arrow output on a DB-API result:UserWarning")

COMPUTED_AT = datetime(2026, 11, 23, 5, tzinfo=UTC)
TABLE = "DEMO.KUBIT.VIP"


class StubTask:
    """As much of a running task instance as the sensor touches."""

    dag_id = "kubit_braze__vip"
    run_id = "manual__1"
    task_id = "wait_for_cohort"

    def __init__(self) -> None:
        self.xcoms: dict[str, object] = {}

    def xcom_push(self, key: str, value: object) -> None:
        self.xcoms[key] = value


def context(**extra: object) -> Any:
    return {"ti": StubTask(), "dag_run": SimpleNamespace(run_after=None), **extra}


@pytest.fixture(scope="module", autouse=True)
def warehouse() -> Iterator[None]:
    with fakesnow.patch(nop_regexes=[r"^\s*ALTER SESSION SET QUERY_TAG"]):
        cursor = snowflake.connector.connect(database="DEMO", schema="KUBIT").cursor()
        cursor.execute("CREATE TABLE VIP (USER_ID VARCHAR, COMPUTED_AT TIMESTAMP_NTZ)")
        cursor.execute("INSERT INTO VIP VALUES ('u1', '2026-11-22 05:00:00'), ('u2', '2026-11-23 05:00:00')")
        yield


@pytest.fixture(autouse=True)
def _connection(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"account": "fakesnow", "database": "DEMO"}
    for conn_id in ("SNOWFLAKE_DEFAULT", "OTHER"):
        monkeypatch.setenv(
            f"AIRFLOW_CONN_{conn_id}",
            json.dumps({"conn_type": "snowflake", "login": "u", "password": "p", "extra": extra}),
        )


def sensor(**arguments: Any) -> SnowflakeCohortSensor:
    source = {} if "sql" in arguments else {"table": TABLE}
    return SnowflakeCohortSensor(task_id="wait_for_cohort", **{**source, **arguments})


def fresh(**arguments: Any) -> SnowflakeCohortSensor:
    return sensor(ready_column="COMPUTED_AT", within="26h", **arguments)


def test_a_cohort_that_is_there_is_ready() -> None:
    given = context()

    sensor(mode="poke").execute(given)

    assert given["ti"].xcoms == {}


def test_sql_is_a_source_too() -> None:
    waiting = sensor(sql=f"SELECT * FROM {TABLE} WHERE USER_ID = 'u1'", min_members=2)

    assert waiting.poke(context()) is False


def test_what_is_waited_for_is_logged_and_left_for_the_mail(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = context(data_interval_end=COMPUTED_AT + timedelta(hours=31))

    with caplog.at_level(logging.INFO):
        ready = fresh().poke(given)

    assert ready is False
    assert given["ti"].xcoms == {REASON_KEY: "COMPUTED_AT is 31 h old, waiting for 26 h"}
    # Airflow 3 logs tasks through structlog to the standard output, Airflow 2 through the standard library.
    logged = capsys.readouterr().out + caplog.text
    assert "Not ready: COMPUTED_AT is 31 h old, waiting for 26 h" in logged


@pytest.mark.parametrize(
    ("times", "ready"),
    [
        pytest.param({"data_interval_end": COMPUTED_AT + timedelta(hours=26)}, True, id="interval"),
        pytest.param(
            {
                "data_interval_end": COMPUTED_AT + timedelta(hours=27),
                "logical_date": COMPUTED_AT + timedelta(hours=3),
            },
            False,
            id="the interval's end goes before the logical date",
        ),
        pytest.param({"logical_date": COMPUTED_AT + timedelta(hours=26)}, True, id="logical date"),
        pytest.param({"logical_date": COMPUTED_AT + timedelta(hours=27)}, False, id="late logical date"),
        pytest.param(
            {"dag_run": SimpleNamespace(run_after=COMPUTED_AT + timedelta(hours=26))}, True, id="run_after"
        ),
        pytest.param(
            {
                "logical_date": None,
                "data_interval_end": None,
                "dag_run": SimpleNamespace(run_after=COMPUTED_AT + timedelta(hours=27)),
            },
            False,
            id="late run_after",
        ),
    ],
)
def test_age_is_measured_against_the_runs_own_time(times: dict[str, object], ready: bool) -> None:
    assert fresh().poke(context(**times)) is ready


def test_as_of_now_measures_against_the_moment_of_the_look() -> None:
    long_ago = context(data_interval_end=COMPUTED_AT)

    assert fresh().poke(long_ago) is True
    assert fresh(as_of="now").poke(long_ago) is (datetime.now(UTC) - COMPUTED_AT <= timedelta(hours=26))
    assert sensor(ready_column="COMPUTED_AT", within="1m", as_of="now").poke(long_ago) is False


def test_a_table_that_is_missing_is_waited_for() -> None:
    given = context()

    assert sensor(table="DEMO.KUBIT.SOON").poke(given) is False
    assert given["ti"].xcoms[REASON_KEY].startswith("table DEMO.KUBIT.SOON does not exist yet")


def test_a_column_that_is_missing_fails_and_is_left_for_the_mail() -> None:
    given = context()

    with pytest.raises(SourceError, match="COMPUTED_ON"):
        sensor(ready_column="COMPUTED_ON", within="26h").poke(given)

    assert "Snowflake refuses to read table DEMO.KUBIT.VIP" in given["ti"].xcoms[REASON_KEY]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"ready_column": "COMPUTED_AT", "within": "soon"}, "'soon' is no duration", id="within"),
        pytest.param({"ready_column": "COMPUTED_AT"}, "both or neither", id="column alone"),
        pytest.param({"within": "26h"}, "both or neither", id="within alone"),
        pytest.param({"min_members": -1}, "0 or more, not -1", id="min_members"),
        pytest.param({"table": "A B"}, "'A B' is not a table name", id="table"),
    ],
)
def test_values_are_judged_when_the_task_runs_not_when_the_file_is_parsed(
    arguments: dict[str, Any], words: str
) -> None:
    waiting = sensor(**arguments, cohort_id="vip")

    with pytest.raises(CohortConfigError, match=words):
        waiting.poke(context())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({}, "exactly one source", id="no source"),
        pytest.param({"table": "A", "sql": "SELECT 1"}, "exactly one source", id="two sources"),
        pytest.param({"table": "A", "as_of": "tomorrow"}, "'run' or 'now', not 'tomorrow'", id="as_of"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_at_once(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SnowflakeCohortSensor(task_id="wait_for_cohort", **arguments)


def test_templates_are_rendered_and_a_timedelta_survives() -> None:
    waiting = sensor(
        table="{{ params.table }}",
        ready_column="{{ params.column }}",
        within=timedelta(hours=26),
        snowflake_conn_id="{{ params.conn }}",
        cohort_id="{{ params.cohort }}",
    )

    waiting.render_template_fields(
        {"params": {"table": TABLE, "column": "COMPUTED_AT", "conn": "other", "cohort": "vip"}}
    )

    assert (waiting.table, waiting.ready_column, waiting.within) == (
        TABLE,
        "COMPUTED_AT",
        timedelta(hours=26),
    )
    assert (waiting.snowflake_conn_id, waiting.cohort_id) == ("other", "vip")
    assert waiting.poke(context(logical_date=COMPUTED_AT)) is True


def test_the_worker_is_given_back_between_looks_unless_told_otherwise() -> None:
    assert (sensor().mode, sensor().poke_interval, sensor().timeout) == ("reschedule", 300, 12 * 3600)
    assert sensor(mode="poke").mode == "poke"


def test_a_ready_cohort_is_not_deferred() -> None:
    sensor(deferrable=True).execute(context())


def test_deferring_hands_everything_to_the_trigger() -> None:
    reference = COMPUTED_AT + timedelta(hours=31)
    given = context(data_interval_end=reference)
    before = datetime.now(UTC)

    with pytest.raises(TaskDeferred) as deferred:
        fresh(deferrable=True, min_members=2, poke_interval=90, timeout=3600, cohort_id="vip").execute(given)

    after = datetime.now(UTC)
    trigger = deferred.value.trigger
    assert isinstance(trigger, SnowflakeCohortTrigger)
    kwargs = trigger.serialize()[1]
    deadline = kwargs.pop("deadline")
    assert before <= deadline - timedelta(hours=1) <= after
    assert kwargs.pop("tag") == {
        "app": "kubit_braze",
        "dag_id": "kubit_braze__vip",
        "run_id": "manual__1",
        "cohort": "vip",
    }
    assert kwargs == {
        "snowflake_conn_id": "snowflake_default",
        "table": TABLE,
        "sql": None,
        "ready_column": "COMPUTED_AT",
        "within": 26 * 3600.0,
        "min_members": 2,
        "reference": reference,
        "poll_interval": 90,
    }
    assert deferred.value.method_name == "execute_complete"
    # Airflow's own time limit must leave the trigger time to say why it gives up.
    assert deferred.value.timeout is not None
    assert deferred.value.timeout > timedelta(hours=1, seconds=90)


def test_as_of_now_leaves_the_reference_to_the_trigger() -> None:
    with pytest.raises(TaskDeferred) as deferred:
        sensor(min_members=9, as_of="now", deferrable=True).execute(context(logical_date=COMPUTED_AT))

    assert deferred.value.trigger.serialize()[1]["reference"] is None


def test_a_ready_event_ends_the_wait() -> None:
    given = context()

    sensor().execute_complete(given, {"status": "ready", "reason": "the cohort has 2 members"})

    assert given["ti"].xcoms == {}


@pytest.mark.parametrize(
    ("status", "exception", "words"),
    [
        ("timeout", AirflowSensorTimeout, "not ready within 43200 seconds: C is empty"),
        ("error", SourceError, "^C is empty$"),
    ],
)
def test_a_bad_event_fails_with_its_reason_and_leaves_it_for_the_mail(
    status: str, exception: type[Exception], words: str
) -> None:
    given = context()

    with pytest.raises(exception, match=words):
        sensor().execute_complete(given, {"status": status, "reason": "C is empty"})

    assert given["ti"].xcoms == {REASON_KEY: "C is empty"}


@pytest.mark.parametrize("event", [None, {}, {"status": "splendid"}, "ready", {"reason": "ready"}], ids=str)
def test_an_event_that_is_missing_or_unknown_is_never_taken_for_ready(event: object) -> None:
    with pytest.raises(ValueError, match="wait_for_cohort ended with an event that is not known"):
        sensor().execute_complete(context(), event)


@pytest.mark.parametrize("error", ["Trigger timeout", "Trigger/execution timeout"], ids=["3.x", "2.11"])
@pytest.mark.parametrize(
    ("arguments", "exception"),
    [({}, AirflowSensorTimeout), ({"soft_fail": True}, AirflowSkipException)],
    ids=["fails for good", "soft fail skips"],
)
def test_a_deferral_that_took_too_long_is_the_sensors_timeout(
    error: str, arguments: dict[str, Any], exception: type[Exception]
) -> None:
    with pytest.raises(exception, match="triggerer did not answer"):
        sensor(**arguments).resume_execution("__fail__", {"error": error}, context())


def test_another_failure_of_the_trigger_stays_a_failure() -> None:
    with pytest.raises(Exception, match="Trigger failure") as caught:
        sensor().resume_execution("__fail__", {"error": "Trigger failure"}, context())

    assert not isinstance(caught.value, AirflowSensorTimeout)


def test_resuming_calls_the_method_with_the_event() -> None:
    event = {"status": "timeout", "reason": "C is empty"}

    with pytest.raises(AirflowSkipException):
        sensor(soft_fail=True).resume_execution("execute_complete", {"event": event}, context())
