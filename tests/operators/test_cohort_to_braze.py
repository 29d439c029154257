"""The operator as a shell: what it takes, what it hands on, and how it ends. Whole imports: test_whole_dags.py."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_kubit_braze import importer, verifying
from airflow_provider_kubit_braze.assets import cohort_asset
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
from airflow_provider_kubit_braze.core.verification import Verification
from airflow_provider_kubit_braze.exceptions import (
    BrazeAuthError,
    BrazeEndpointError,
    BrazeUnavailableError,
    CohortBusyError,
    CohortConfigError,
    GuardStoppedError,
    ImportInterruptedError,
    LeaseLostError,
    PlanDamagedError,
    SourceError,
    StateSchemaError,
    TooManyRejectedError,
)
from airflow_provider_kubit_braze.importer import ImportEnd
from airflow_provider_kubit_braze.operators.cohort_to_braze import CohortToBrazeOperator
from airflow_provider_kubit_braze.verifying import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY = "rest-key-0123456789"
RESULT = ImportResult(
    cohort_id="vip", cohort_name="VIP", run_id="r1", outcome="success", added=3, removed=1, data_points=4
)
#: The least an operator needs.
FIELDS: Mapping[str, Any] = {
    "cohort_id": "vip",
    "table": "DB.S.VIP",
    "identifiers": {"external_id": "USER_ID"},
}
#: The same as a mapping.
COHORT: Mapping[str, Any] = {
    "id": "vip",
    "source": {"table": "DB.S.VIP"},
    "identifiers": {"external_id": "USER_ID"},
}


class StubTask:
    """As much of a running task instance as the operator touches."""

    dag_id = "any_dag"
    run_id = "r1"
    task_id = "load"
    map_index = -1
    try_number = 2

    def __init__(self) -> None:
        self.xcoms: dict[str, object] = {}

    def xcom_push(self, key: str, value: object) -> None:
        self.xcoms[key] = value


def context(**extra: Any) -> Any:
    return {"ti": StubTask(), "params": {}, **extra}


def operator(**arguments: Any) -> CohortToBrazeOperator:
    return CohortToBrazeOperator(task_id="load", **arguments)


class Importer:
    """Takes the place of the import itself."""

    def __init__(self) -> None:
        self.end = ImportEnd(result=RESULT, import_id="i1")
        self.raises: Exception | None = None
        self.calls: list[tuple[Cohort, dict[str, Any]]] = []

    def __call__(self, cohort: Cohort, **how: Any) -> ImportEnd:
        self.calls.append((cohort, how))
        if self.raises:
            raise self.raises
        return self.end

    def fail(self, error: Exception, outcome: Any = "failed") -> None:
        self.end = ImportEnd(
            result=replace(RESULT, outcome=outcome, error=str(error)), import_id="i1", error=error
        )

    @property
    def cohort(self) -> Cohort:
        return self.calls[-1][0]

    @property
    def options(self) -> ImportOptions:
        options: ImportOptions = self.calls[-1][1]["options"]
        return options


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Importer:
    fake = Importer()
    monkeypatch.setattr(importer, "run_import", fake)
    connection = {"conn_type": "kubit_braze", "host": "http://127.0.0.1:9", "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT", json.dumps(connection))
    return fake


# -- what it takes ----------------------------------------------------------------------------------------

ALL_FIELDS: Mapping[str, Any] = {
    "cohort_id": "vip",
    "cohort_name": "VIP",
    "sql": "SELECT E, A FROM T",
    "identifiers": {"email": "E", "user_alias": {"label": "shop", "name": "A"}},
    "snowflake_conn_id": "snow",
    "braze_conn_id": "eu",
    "deliver_as": "attribute",
    "attribute": "is_vip",
    "on_exit": "unset",
    "create_users": True,
    "guards": {"max_removed": "5%", "allow_empty": True},
    "holdout": "10%",
}
ALL_AS_COHORT: Mapping[str, Any] = {
    "id": "vip",
    "name": "VIP",
    "source": {"sql": "SELECT E, A FROM T", "conn_id": "snow"},
    "identifiers": {"email": "E", "user_alias": {"label": "shop", "name": "A"}},
    "braze": {
        "conn_id": "eu",
        "deliver_as": "attribute",
        "attribute": "is_vip",
        "on_exit": "unset",
        "create_users": True,
    },
    "guards": {"max_removed": "5%", "allow_empty": True},
    "holdout": "10%",
}


@pytest.mark.parametrize(
    ("fields", "same"), [(FIELDS, COHORT), (ALL_FIELDS, ALL_AS_COHORT)], ids=["least", "all"]
)
def test_keyword_arguments_a_mapping_and_a_cohort_mean_the_same(
    fields: Mapping[str, Any], same: Mapping[str, Any]
) -> None:
    cohort = Cohort(**same)

    assert operator(**fields).the_cohort() == cohort
    assert operator(cohort=dict(same)).the_cohort() == cohort
    assert operator(cohort=cohort).the_cohort() is cohort


def test_an_attribute_has_a_default_made_of_the_id() -> None:
    assert operator(**FIELDS).the_cohort().attribute == "kubit_cohort_vip"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"cohort": Cohort(**COHORT), "table": "T"},
            "task 'load' gets a cohort and table as well; put table into the cohort, or leave the cohort out.",
        ),
        (
            {"cohort": COHORT, "table": "{{ params.table }}"},
            "task 'load' gets a cohort and table as well; put table into the cohort, or leave the cohort out.",
        ),
        (
            {"cohort": COHORT, "guards": {"allow_empty": True}},
            "task 'load' gets a cohort and guards as well; put guards into the cohort, or leave the cohort out.",
        ),
        (
            {"cohort": "vip"},
            "task 'load' gets a cohort that is str; give a Cohort or a mapping of its fields; for the output of a "
            "task use .expand(cohort=...).",
        ),
        (
            {"cohort": {**COHORT, "colour": "red"}, "dry_run": "{{ params.dry }}"},
            "cohort 'vip', field 'colour': unknown key 'colour'",
        ),
        (
            {**FIELDS, "sql": "SELECT 1"},
            "cohort 'vip', field 'source': table and sql are both given; keep one of them.",
        ),
        (
            {"cohort_id": "vip", "identifiers": {"external_id": "U"}},
            "cohort 'vip', field 'source': no source is named; add one of table, sql, sql_file or criteria.",
        ),
        ({"table": "T", "identifiers": {"external_id": "U"}}, "field 'id': this key is required and missing"),
        (
            {"cohort_id": "vip", "table": "T"},
            "cohort 'vip', field 'identifiers': this key is required and missing",
        ),
        ({**FIELDS, "cohort_id": "VIP!"}, "field 'id': 'VIP!' is not a cohort id"),
        (
            {**FIELDS, "deliver_as": "partner_cohort", "attribute": "is_vip"},
            "cohort 'vip', field 'braze.attribute'",
        ),
        ({**FIELDS, "on_exit": "delete"}, "cohort 'vip', field 'braze.on_exit': 'delete'"),
        ({**FIELDS, "guards": {"max_removed": "lots"}}, "cohort 'vip', field 'guards.max_removed': 'lots'"),
        ({**FIELDS, "dry_run": "maybe"}, "field 'dry_run': 'maybe' is no switch; write true or false."),
    ],
    ids=[
        "cohort and table",
        "cohort and templated table",
        "cohort and guards",
        "text as cohort",
        "unknown key beside a templated switch",
        "table and sql",
        "no source",
        "no id",
        "no identifiers",
        "bad id",
        "partner cohort with an attribute",
        "bad on_exit",
        "bad guard",
        "bad switch",
    ],
)
def test_what_makes_no_sense_is_refused_while_the_dag_file_is_parsed(
    arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CohortConfigError) as raised:
        operator(**arguments)

    assert sentence in str(raised.value)


# -- templates --------------------------------------------------------------------------------------------


def test_templated_fields_are_rendered(imports: Importer) -> None:
    task = operator(
        cohort_id="{{ p.id }}",
        cohort_name="{{ p.id | upper }}",
        table="DB.{{ p.schema }}.T",
        identifiers={"external_id": "USER_ID"},
        snowflake_conn_id="snow_{{ p.id }}",
        braze_conn_id="{{ p.braze }}_default",
        attribute="is_{{ p.id }}",
        dry_run="{{ p.dry }}",
        full_resync="{{ p.full }}",
        override_guards="{{ p.none }}",
    )

    task.render_template_fields(
        {"p": {"id": "vip", "schema": "EU", "braze": "kubit_braze", "dry": True, "full": 0, "none": None}}  # type: ignore[typeddict-unknown-key]
    )
    task.execute(context())

    assert imports.cohort == Cohort(
        id="vip",
        name="VIP",
        source={"table": "DB.EU.T", "conn_id": "snow_vip"},
        identifiers={"external_id": "USER_ID"},
        braze={"conn_id": "kubit_braze_default", "attribute": "is_vip"},
    )
    assert imports.options == ImportOptions(dry_run=True, full_resync=False, override_guards=False)


def test_sql_may_be_a_file_beside_the_dag_file(tmp_path: Any) -> None:
    (tmp_path / "vip.sql").write_text("SELECT USER_ID FROM {{ params.table }}")
    with DAG("d", schedule=None, template_searchpath=str(tmp_path)) as dag:
        task = operator(cohort_id="vip", sql="vip.sql", identifiers={"external_id": "USER_ID"})
    dag.resolve_template_files()  # type: ignore[no-untyped-call]

    task.render_template_fields({"params": {"table": "T"}})

    assert task.the_cohort().source.sql == "SELECT USER_ID FROM T"


def test_with_a_template_the_definition_is_judged_when_the_task_runs(imports: Importer) -> None:
    task = operator(cohort_id="vip", table="{{ params.table }}", identifiers={"external_id": "U"})
    task.render_template_fields({"params": {"table": "no table; name"}})

    with pytest.raises(
        AirflowFailException, match=r"cohort 'vip', field 'source\.table': 'no table; name' is not a"
    ):
        task.execute(context())
    assert imports.calls == []


def test_a_mapped_import_is_judged_when_it_runs_and_leaves_why_it_fails(imports: Importer) -> None:
    with DAG("d", schedule=None):
        made: Any = CohortToBrazeOperator.partial(task_id="load").expand(cohort=[COHORT])
    made.unmap({"cohort": COHORT}).execute(context())
    assert imports.cohort.id == "vip"

    running = context()
    with pytest.raises(AirflowFailException, match="cohort 'vip', field 'shard': unknown key"):
        made.unmap({"cohort": {**COHORT, "shard": 2}}).execute(running)
    assert "field 'shard'" in running["ti"].xcoms["failed_because"]


def test_a_tasks_output_counts_as_a_template() -> None:
    from airflow.sdk import task as make_task

    @make_task
    def pick() -> str:
        return "T"

    with DAG("d", schedule=None):
        load = operator(cohort_id="vip", table=pick(), identifiers={"external_id": "U"})

    assert load.upstream_task_ids == {"pick"}


# -- switches ---------------------------------------------------------------------------------------------

OFF = ImportOptions()


@pytest.mark.parametrize(
    ("arguments", "params", "options"),
    [
        ({}, {}, OFF),
        ({}, None, OFF),
        ({"dry_run": True}, {}, replace(OFF, dry_run=True)),
        ({"full_resync": "True"}, {"dry_run": False}, replace(OFF, full_resync=True)),
        ({"override_guards": " true "}, {}, replace(OFF, override_guards=True)),
        ({"override_guards": "1"}, {}, replace(OFF, override_guards=True)),
        ({"dry_run": "None", "full_resync": "0", "override_guards": ""}, {}, OFF),
        ({}, {"dry_run": True, "override_guards": "true"}, ImportOptions(dry_run=True, override_guards=True)),
        ({"dry_run": True}, {"dry_run": False}, replace(OFF, dry_run=True)),
        ({}, {"dry_run": None, "other": "maybe"}, OFF),
        ({"undo": "true"}, {"dry_run": True}, ImportOptions(undo=True, dry_run=True)),
        ({}, {"undo": True}, replace(OFF, undo=True)),
    ],
    ids=[
        "nothing",
        "no params",
        "argument",
        "text",
        "blanks",
        "one",
        "off as text",
        "params",
        "argument wins",
        "null and others",
        "undo as an argument",
        "undo",
    ],
)
def test_switches_come_from_arguments_and_from_params(
    imports: Importer, arguments: dict[str, Any], params: dict[str, Any] | None, options: ImportOptions
) -> None:
    operator(**FIELDS, **arguments).execute(context(params=params))

    assert imports.options == options


def test_a_param_that_is_no_switch_is_refused_before_anything_is_read(imports: Importer) -> None:
    with pytest.raises(
        AirflowFailException, match="field 'dry_run': 'maybe' is no switch; write true or false"
    ):
        operator(**FIELDS).execute(context(params={"dry_run": "maybe"}))
    assert imports.calls == []


def test_an_undo_and_a_full_resync_cannot_be_one_import(imports: Importer) -> None:
    with pytest.raises(AirflowFailException, match="full_resync and undo cannot be done in one import"):
        operator(**FIELDS).execute(context(params={"undo": True, "full_resync": True}))
    assert imports.calls == []


# -- how it ends ------------------------------------------------------------------------------------------


def test_the_import_is_told_who_asks_and_where_the_state_is(
    imports: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA", "OPS.STATE")
    given = context()
    given["ti"].map_index = 3

    returned = operator(**FIELDS).execute(given)

    [(_, how)] = imports.calls
    assert returned == RESULT.to_dict()
    assert json.loads(json.dumps(returned)) == returned
    assert how["identity"] == RunIdentity(
        dag_id="any_dag", run_id="r1", task_id="load", map_index=3, try_number=2
    )
    assert how["tables"].schema == "OPS.STATE"
    assert how["settings"].conn_id == "kubit_braze_default"


def test_the_state_schema_has_a_default(imports: Importer) -> None:
    operator(**FIELDS).execute(context())

    assert imports.calls[0][1]["tables"].schema == "KUBIT_BRAZE"


def test_airflows_own_dry_run_of_a_task_still_works() -> None:
    operator(**FIELDS, dry_run=True).dry_run()


def test_the_event_of_the_cohorts_asset_says_the_same(imports: Importer) -> None:
    asset, other = cohort_asset("vip", "kubit_braze_default"), Asset(name="other", uri="x-other://thing")
    events = OutletEventAccessors()

    operator(**FIELDS, outlets=[asset, other]).execute(context(outlet_events=events))

    assert events[asset].extra == RESULT.to_dict()
    assert events[other].extra == {}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BrazeAuthError("Braze refused the key.", status=401), "failed"),
        (BrazeEndpointError("Nobody listens there."), "failed"),
        (SourceError("The table DB.S.VIP does not exist."), "failed"),
        (GuardStoppedError("Stopped before anything was sent."), "stopped"),
        (TooManyRejectedError("Braze did not accept 9 of 10 changes."), "failed"),
    ],
    ids=["key", "host", "source", "guard", "rejections"],
)
def test_what_no_retry_can_mend_ends_the_task_at_once(
    imports: Importer, error: Exception, outcome: str
) -> None:
    imports.fail(error, outcome)
    given = context()

    with pytest.raises(AirflowFailException, match=str(error)):
        operator(**FIELDS).execute(given)

    assert given["ti"].xcoms == {"return_value": imports.end.result.to_dict()}
    assert given["ti"].xcoms["return_value"]["outcome"] == outcome


@pytest.mark.parametrize(
    "error",
    [
        BrazeUnavailableError("Braze kept answering 503."),
        PlanDamagedError("The plan has holes."),
        ConnectionError("Snowflake is gone"),
    ],
    ids=["unavailable", "plan", "connection"],
)
def test_what_a_retry_may_mend_is_raised_as_it_is(imports: Importer, error: Exception) -> None:
    imports.fail(error)
    given = context()

    with pytest.raises(type(error)) as raised:
        operator(**FIELDS).execute(given)

    assert raised.value is error
    assert given["ti"].xcoms["return_value"]["outcome"] == "failed"


def test_a_success_leaves_its_result_to_airflow(imports: Importer) -> None:
    given = context()

    operator(**FIELDS).execute(given)

    assert given["ti"].xcoms == {}


@pytest.mark.parametrize(
    ("connection", "sentence"),
    [
        ({"host": "http://rest.iad-01.braze.com", "password": KEY}, "kubit_braze_default"),
        ({"host": "https://rest.iad-01.braze.com"}, "kubit_braze_default"),
    ],
    ids=["plain http", "no key"],
)
def test_a_wrong_connection_ends_the_task_at_once_without_showing_the_key(
    imports: Importer, monkeypatch: pytest.MonkeyPatch, connection: dict[str, str], sentence: str
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT", json.dumps({"conn_type": "kubit_braze", **connection})
    )

    with pytest.raises(AirflowFailException, match=sentence) as raised:
        operator(**FIELDS).execute(context())

    assert imports.calls == []
    assert KEY not in repr(raised.value)


def test_missing_grants_end_the_task_at_once(imports: Importer) -> None:
    imports.raises = StateSchemaError("Run: GRANT CREATE SCHEMA ON DATABASE DB TO ROLE R;")

    with pytest.raises(AirflowFailException, match="GRANT CREATE SCHEMA"):
        operator(**FIELDS).execute(context())


def test_any_other_error_is_left_to_airflows_retries(imports: Importer) -> None:
    imports.raises = TimeoutError("no answer from Snowflake")

    with pytest.raises(TimeoutError, match="no answer from Snowflake"):
        operator(**FIELDS).execute(context())


@pytest.mark.parametrize("error", [CohortBusyError, ImportInterruptedError, LeaseLostError])
def test_a_cohort_that_others_import_is_left_to_airflows_retries(
    imports: Importer, error: type[Exception]
) -> None:
    imports.raises = error("later")

    with pytest.raises(error, match="later"):
        operator(**FIELDS).execute(context())


def test_an_operator_can_be_copied_and_killed_before_it_runs() -> None:
    load = copy.deepcopy(operator(**FIELDS))

    load.on_kill()

    assert load.the_cohort().id == "vip"


def test_a_task_that_is_killed_tells_the_import_to_end(imports: Importer) -> None:
    load = operator(**FIELDS)
    load.execute(context())
    stop = imports.calls[0][1]["stop"]
    assert not stop.is_set()

    load.on_kill()

    assert stop.is_set()


# -- verification -----------------------------------------------------------------------------------------

VERIFY = {"sample": 10, "after": "5m", "within": "30m"}


class Looks:
    """Takes the place of the verifier: one answer for each look."""

    def __init__(self) -> None:
        # Whoever looks later than half an hour after this has no time left.
        self.finished = datetime.now(UTC)
        self.answers: list[Any] = []
        self.asked: list[tuple[Any, bool]] = []
        self.made: dict[str, Any] = {}

    def __call__(self, **how: Any) -> Looks:
        self.made = how
        return self

    def look(self, pending: Any = None, *, last: bool = False) -> Any:
        self.asked.append((pending, last))
        answer = self.answers[len(self.asked) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def conclude(self, result: ImportResult, look: Look) -> ImportResult:
        return replace(result, verification=look.verification.to_dict(), unmatched=len(look.unknown))


def seen(*pending: int, unknown: tuple[int, ...] = (), waits: bool = False) -> Look:
    found = Verification(
        sampled=10,
        population=100,
        matched=10 - len(pending),
        different=len(pending) - len(unknown),
        unknown=len(unknown),
        source="api",
        finished=not waits,
    )
    return Look(verification=found, pending=pending, unknown=unknown, waits=waits)


@pytest.fixture
def looks(imports: Importer, monkeypatch: pytest.MonkeyPatch) -> Looks:
    fake = Looks()
    monkeypatch.setattr(verifying, "Verifier", fake)
    imports.end = ImportEnd(result=replace(RESULT, finished_at=fake.finished.isoformat()), import_id="i1")
    return fake


def deferred(run: Callable[[], Any]) -> dict[str, Any]:
    """Run until the task is put off; return what it comes back with."""
    with pytest.raises(TaskDeferred) as raised:
        run()
    assert raised.value.method_name == "verify_import"
    assert not raised.value.kwargs
    path, settings = raised.value.trigger.serialize()
    assert path == "airflow_provider_kubit_braze.triggers.wait.WaitTrigger"
    # Airflow keeps it in its database meanwhile.
    settings = json.loads(json.dumps(settings))
    return {"at": datetime.fromisoformat(settings["until"]), **settings["carries"]}


def come_back(task: CohortToBrazeOperator, put_off: dict[str, Any]) -> Any:
    carried = {name: value for name, value in put_off.items() if name != "at"}
    return task.verify_import(context(), event={"until": "now", "carries": carried})


def test_an_import_is_verified_later_and_says_what_was_found(imports: Importer, looks: Looks) -> None:
    task = operator(**FIELDS, verify=VERIFY)

    put_off = deferred(lambda: task.execute(context()))

    assert put_off["at"] == looks.finished + timedelta(minutes=5)
    assert datetime.fromisoformat(put_off["deadline"]) == looks.finished + timedelta(minutes=30)
    looks.answers = [seen(4, 7, unknown=(4, 7))]
    result = come_back(task, put_off)
    assert (result["unmatched"], result["verification"]["matched"]) == (2, 8)
    assert (looks.asked, looks.made["import_id"]) == ([(None, False)], "i1")


def test_as_long_as_something_differs_it_comes_back_and_waits_longer(imports: Importer, looks: Looks) -> None:
    task = operator(**FIELDS, verify=VERIFY)
    put_off = deferred(lambda: task.execute(context()))
    looks.answers = [seen(4, 7, waits=True), BrazeUnavailableError("busy"), seen(7, waits=True), seen()]

    for seconds in (30, 60, 120):
        pause, before = timedelta(seconds=seconds), datetime.now(UTC)
        put_off = deferred(partial(come_back, task, put_off))
        assert before + pause <= put_off["at"] <= datetime.now(UTC) + pause
    result = come_back(task, put_off)

    assert looks.asked == [(None, False), ([4, 7], False), ([4, 7], False), ([7], False)]
    assert result["verification"]["matched"] == 10


def test_when_time_runs_out_the_last_look_counts(imports: Importer, looks: Looks) -> None:
    task = operator(**FIELDS, verify=VERIFY)
    put_off = deferred(lambda: task.execute(context()))
    put_off["deadline"] = (datetime.now(UTC) + timedelta(seconds=20)).isoformat()
    looks.answers = [seen(4, waits=True)]

    result = come_back(task, put_off)

    assert looks.asked == [(None, True)]
    assert (result["verification"]["different"], result["verification"]["finished"]) == (1, False)


@pytest.mark.parametrize(
    ("answer", "ran_out"),
    [
        (BrazeAuthError("The key lacks users.export.ids.", status=403), False),
        (BrazeUnavailableError("down"), True),
    ],
    ids=["not-allowed", "down-to-the-end"],
)
def test_an_import_that_cannot_be_verified_has_succeeded_all_the_same(
    imports: Importer, looks: Looks, answer: Exception, ran_out: bool, caplog: pytest.LogCaptureFixture
) -> None:
    task = operator(**FIELDS, verify=VERIFY)
    put_off = deferred(lambda: task.execute(context()))
    if ran_out:
        put_off["deadline"] = looks.finished.isoformat()
    looks.answers = [answer]

    result = come_back(task, put_off)

    assert result["outcome"] == RESULT.outcome
    assert result["verification"] == {"error": f"The import could not be verified: {answer}"}


def test_what_cannot_be_read_back_any_more_is_no_failure(imports: Importer, looks: Looks) -> None:
    task = operator(**FIELDS, verify=VERIFY)
    put_off = deferred(lambda: task.execute(context()))
    looks.answers = [None]

    assert come_back(task, put_off)["verification"] is None


@pytest.mark.parametrize("outcome", ["unchanged", "dry_run"])
def test_where_nothing_was_sent_nothing_is_verified(imports: Importer, looks: Looks, outcome: Any) -> None:
    imports.end = ImportEnd(result=replace(RESULT, outcome=outcome), import_id="i1")

    assert operator(**FIELDS, verify=VERIFY).execute(context())["outcome"] == outcome


def test_an_import_that_failed_is_not_verified(imports: Importer, looks: Looks) -> None:
    imports.fail(TooManyRejectedError("too many"))

    with pytest.raises(AirflowFailException, match="too many"):
        operator(**FIELDS, verify=VERIFY).execute(context())


@pytest.mark.parametrize(
    "error", [StateSchemaError("Let an administrator run: GRANT X."), CohortBusyError("Busy.")]
)
def test_why_it_failed_without_a_result_is_left_for_mail_and_page(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> ImportEnd:
        raise error

    task, about = CohortToBrazeOperator(task_id="load", **FIELDS), context()
    monkeypatch.setattr(task, "run_import", refuse)

    with pytest.raises((StateSchemaError, CohortBusyError, AirflowFailException)):
        task.execute(about)

    assert about["ti"].xcoms == {"failed_because": str(error)}
