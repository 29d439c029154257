"""The operator as a shell: what it takes, what it hands on, and how it ends. Whole imports: test_whole_dags.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_kubit_braze import importer
from airflow_provider_kubit_braze.assets import cohort_asset
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
from airflow_provider_kubit_braze.exceptions import (
    BrazeAuthError,
    BrazeEndpointError,
    BrazeUnavailableError,
    CohortConfigError,
    GuardStoppedError,
    PlanDamagedError,
    SourceError,
    StateSchemaError,
    TooManyRejectedError,
)
from airflow_provider_kubit_braze.importer import ImportEnd
from airflow_provider_kubit_braze.operators.cohort_to_braze import CohortToBrazeOperator

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self.end = ImportEnd(result=RESULT)
        self.raises: Exception | None = None
        self.calls: list[tuple[Cohort, dict[str, Any]]] = []

    def __call__(self, cohort: Cohort, **how: Any) -> ImportEnd:
        self.calls.append((cohort, how))
        if self.raises:
            raise self.raises
        return self.end

    def fail(self, error: Exception, outcome: Any = "failed") -> None:
        self.end = ImportEnd(result=replace(RESULT, outcome=outcome, error=str(error)), error=error)

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
            "cohort 'vip', field 'source': no source is named; add one of table, sql or sql_file.",
        ),
        ({"table": "T", "identifiers": {"external_id": "U"}}, "field 'id': this key is required and missing"),
        (
            {"cohort_id": "vip", "table": "T"},
            "cohort 'vip', field 'identifiers': this key is required and missing",
        ),
        ({**FIELDS, "cohort_id": "VIP!"}, "field 'id': 'VIP!' is not a cohort id"),
        (
            {**FIELDS, "deliver_as": "partner_cohort"},
            "cohort 'vip', field 'braze.deliver_as': deliver_as: partner_cohort is not supported yet",
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
        "partner cohort",
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
