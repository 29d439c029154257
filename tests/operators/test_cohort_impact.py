"""The impact of a cohort as an Airflow task: what authors may write, and what a whole DAG leaves behind."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.utils.session import create_session

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.exceptions import CohortConfigError
from airflow_provider_kubit_braze.factory import impact_dag
from airflow_provider_kubit_braze.operators.cohort_impact import CohortImpactOperator
from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables
from airflow_provider_kubit_braze.warehouse.stays import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

STATE = "DEMO.IMPACT_OPERATOR_STATE"
SHARE = "IMPACT_OPERATOR_SHARE.PUBLIC"
SENDS, PURCHASES = "USERS_MESSAGES_EMAIL_SEND_SHARED", "USERS_BEHAVIORS_PURCHASE_SHARED"

COHORT = f"""
id: vips
name: Very important
source: {{table: DEMO.PUBLIC.NONE}}
identifiers: {{external_id: USER_ID}}
holdout: 50%
schedule: {{mode: daily, at: "06:00", timezone: Europe/Berlin}}
braze: {{share: {SHARE}, app_group_id: growth}}
impact: {{campaigns: [spring], window: 2d, at: "08:30"}}
"""

DAG_FILE = """
from pathlib import Path
from airflow_provider_kubit_braze.factory import load_cohort_dags
load_cohort_dags(Path(__file__).parent / "cohorts", default_args={"retries": 0})
"""

ASKED: dict[str, Any] = {
    "task_id": "measure",
    "cohort_id": "vips",
    "source": SHARE,
    "app_group_id": "growth",
}


CONTEXT: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: None), "params": {}}


def cohort(**fields: Any) -> Cohort:
    given: dict[str, Any] = {"id": "vips", "source": {"table": "A.B.C"}, "identifiers": {"external_id": "ID"}}
    return Cohort(**{**given, **fields})


# -- what authors may write -------------------------------------------------------------------------------------


def test_the_question_is_the_cohorts_unless_the_task_says_otherwise() -> None:
    one = cohort(
        holdout="20%", impact={"source": SHARE, "app_group_id": "growth", "window": "3d", "goal": "trial"}
    )
    task = CohortImpactOperator(task_id="measure", cohort=one, window="1d", since="")
    question = task.the_question()
    assert (question.source, question.goal, question.window) == (SHARE, "trial", timedelta(days=1))
    assert task.the_holdout() == Fraction(1, 5)


def test_a_cohort_without_an_impact_lends_its_share() -> None:
    task = CohortImpactOperator(task_id="m", cohort=cohort(braze={"share": SHARE, "app_group_id": "growth"}))
    assert task.the_question().app_group_id == "growth"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cohort": {"id": "vips"}}, "task 'measure' needs either cohort or cohort_id; name the cohort once"),
        ({"cohort_id": None}, "task 'measure' needs either cohort or cohort_id"),
        ({"source": None}, "field 'source': this key is required and missing"),
        ({"window": "soon"}, "field 'window': 'soon' is no duration"),
        ({"campaigns": "spring"}, "field 'campaigns': 'spring' is not a list"),
        ({"holdout": 0.1}, "0.1"),
        ({"full_refresh": "perhaps"}, "cohort 'vips', field 'full_refresh': 'perhaps' is no switch"),
        ({"campaigns": ""}, "cohort 'vips', field 'campaigns': '' is not a list"),
        ({"until": "0001-01-01"}, "cohort 'vips', field 'until': 0001-01-01 is not within the years"),
    ],
)
def test_an_author_hears_of_a_mistake_while_the_file_is_parsed(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(CohortConfigError) as caught:
        CohortImpactOperator(**{**ASKED, **fields})
    assert said in str(caught.value)


def test_what_a_template_holds_is_judged_when_it_is_known() -> None:
    task = CohortImpactOperator(
        **{**ASKED, "since": "{{ params.since }}", "campaigns": ["{{ params.campaign }}"]}
    )
    task.since = "never"
    task.campaigns = ["no campaign"]
    with pytest.raises(CohortConfigError, match=r"(?s)'no campaign' is not the API.+'never' is no day"):
        task.the_question()


@pytest.mark.parametrize("field", ["currency", "holdout", "timezone", "window", "worth"])
def test_a_template_where_none_is_read_is_a_mistake(field: str) -> None:
    said = (
        rf"^cohort 'vips', field '{field}': '{{{{ params\.it }}}}' is a template .+ this field takes neither"
    )
    with pytest.raises(CohortConfigError, match=said):
        CohortImpactOperator(**{**ASKED, field: "{{ params.it }}"})


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"campaigns": None}, "null"),
        ({"campaigns": ""}, "''"),
        ({"campaigns": [], "canvases": []}, "[]"),
        ({"campaigns": ["spring"], "canvases": None}, "null"),
    ],
)
def test_messages_that_were_to_be_chosen_and_are_not_do_not_become_all(given: Any, found: str) -> None:
    later = dict.fromkeys(given, "{{ params.it }}")
    task = CohortImpactOperator(**{**ASKED, **later})
    for name, value in given.items():
        setattr(task, name, value)
    with pytest.raises(AirflowFailException) as caught:
        task.execute(CONTEXT)
    assert f"its template or task gives {found}, which names no message" in str(caught.value)
    assert str(caught.value).startswith("cohort 'vips', field 'ca")


def test_one_kind_of_message_may_be_left_without_any_and_an_author_may_ask_about_all() -> None:
    task = CohortImpactOperator(**{**ASKED, "campaigns": "{{ params.it }}", "canvases": "{{ params.it }}"})
    task.campaigns, task.canvases = ["spring"], []
    assert task.the_question().named == [("campaign", "spring")]
    assert CohortImpactOperator(**{**ASKED, "campaigns": None}).the_question().messages == "all"


def test_a_mapped_task_is_judged_when_it_runs_and_leaves_why_it_fails() -> None:
    with DAG("d", schedule=None):
        made: Any = CohortImpactOperator.partial(**ASKED).expand(window=["1d", "soon"])
    pushed: list[Any] = []
    context: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.append((key, value)))}
    with pytest.raises(AirflowFailException, match="cohort 'vips', field 'window': 'soon' is no duration"):
        made.unmap({"window": "soon"}).execute(context)
    assert [key for key, _ in pushed] == ["failed_because"]


def test_a_mapped_task_whose_messages_are_none_does_not_measure_all() -> None:
    with DAG("d", schedule=None):
        made: Any = CohortImpactOperator.partial(**ASKED).expand(campaigns=[["spring"], []])
    assert made.unmap({"campaigns": ["spring"]}).the_question().messages == "campaign spring"
    with pytest.raises(AirflowFailException, match=r"task gives \[\], which names no message"):
        made.unmap({"campaigns": []}).execute(CONTEXT)


def test_a_cohort_without_an_impact_has_no_dag_for_it() -> None:
    with pytest.raises(CohortConfigError, match="no impact is to be measured"):
        impact_dag(cohort())


# -- what a DAG leaves behind -----------------------------------------------------------------------------------


class World:
    """A share with a campaign of some days ago, and a ledger with two treated users and one held out."""

    def __init__(self, sandbox: Sandbox, session: Session) -> None:
        self.session = session
        self.tables = Tables(STATE)
        self.sent = datetime.now(UTC) - timedelta(days=5)
        for table in (self.tables.membership, self.tables.impact_refresh, self.tables.impact_event):
            session.execute(f"DELETE FROM {table}")
        for table in (SENDS, PURCHASES):
            session.execute(f"DELETE FROM {SHARE}.{table}")
        for user, held in (("u1", False), ("u2", False), ("u3", True)):
            session.execute(
                f"INSERT INTO {self.tables.membership} (WORKSPACE, COHORT_ID, ID_KIND, USER_ID, ENTERED_AT, HELD_OUT) "
                "SELECT '127.0.0.1/kubit_braze_default', 'vips', 'external_id', %s, CAST(%s AS TIMESTAMP_NTZ), %s",
                (user, utc_text(self.sent - timedelta(days=1)), held),
            )
        for user in ("u1", "u2"):
            self.row(SENDS, user, self.sent, CAMPAIGN_API_ID="spring")
        self.row(PURCHASES, "u1", self.sent + timedelta(hours=1), PRICE=10, CURRENCY="USD")
        self.row(PURCHASES, "x", self.sent + timedelta(days=4), PRICE=10, CURRENCY="USD")

    def row(self, table: str, user: str, moment: datetime, **values: Any) -> None:
        given = {
            "ID": f"{table} {user}",
            "USER_ID": f"braze {user}",
            "EXTERNAL_USER_ID": user,
            "APP_GROUP_ID": "growth",
            "TIME": int(moment.timestamp()),
            "SF_CREATED_AT": utc_text(moment),
            **values,
        }
        self.session.execute(
            f"INSERT INTO {SHARE}.{table} ({', '.join(given)}) VALUES ({', '.join(['%s'] * len(given))})",
            list(given.values()),
        )


@pytest.fixture(scope="module")
def session(kubit_braze_sandbox: Sandbox) -> Iterator[Session]:
    with closing(Session(kubit_braze_sandbox.connect(), tag={"app": "tests"})) as opened:
        ensure_tables(opened, Tables(STATE))
        make_share_tables(opened.connection, SHARE, without=catalogue().keys() - {SENDS, PURCHASES})
        yield opened


@pytest.fixture
def world(kubit_braze_clean_sandbox: Sandbox, session: Session, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA", STATE)
    return World(kubit_braze_clean_sandbox, session)


@pytest.fixture
def dag(dags_folder: Path) -> Any:
    (dags_folder / "cohorts").mkdir()
    (dags_folder / "cohorts" / "vips.yaml").write_text(COHORT)
    (dags_folder / "impact.py").write_text(DAG_FILE)
    bag = DagBag(str(dags_folder))
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["kubit_braze__vips", "kubit_braze_impact__vips"]
    return bag.dags["kubit_braze_impact__vips"]


def test_a_cohort_file_makes_a_dag_that_measures_each_day(dag: Any) -> None:
    assert dag.tags >= {"kubit-braze-impact", "cohort:vips"}
    assert "kubit-braze" not in dag.tags
    assert (dag.timetable._expression, str(dag.timetable._timezone)) == ("30 8 * * *", "Europe/Berlin")
    assert dag.max_active_runs == 1
    assert dag.params["full_refresh"] is False


@pytest.mark.usefixtures("airflow_db")
def test_a_run_leaves_the_report_in_short_and_in_full_and_an_asset_event(world: World, dag: Any) -> None:
    run = dag.test(logical_date=datetime.now(UTC))
    assert str(run.state) == "success"
    with create_session() as database:
        rows = database.scalars(XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id)).all()
        values = {row.key: json.loads(row.value) if isinstance(row.value, str) else row.value for row in rows}
        events = database.query(AssetEvent).filter(AssetEvent.source_run_id == run.run_id).all()
        extras = [
            (event.asset.uri, dict(event.extra)) for event in events if event.source_dag_id == run.dag_id
        ]
    short, whole = values["return_value"], values["impact"]
    (message,) = whole["messages"]
    assert (message["figures"]["reached"], message["figures"]["seen"]) == (2, None)
    assert [one["figures"]["reached"] for one in message["days"]] == [2]
    (experiment,) = message["experiments"]
    assert (experiment["treated_users"], experiment["control_users"]) == (2, 1)
    assert experiment["conversion"]["treated"] == 0.5
    assert experiment["sample_ratio"]["expected"] == 0.5
    assert (whole["cohort_name"], whole["run_id"], whole["timezone"]) == (
        "Very important",
        run.run_id,
        "Europe/Berlin",
    )
    assert "days" not in short["messages"][0]
    assert extras == [("braze://kubit_braze_default/impact/vips", short)]
    assert "u1" not in json.dumps(whole)


def test_a_second_run_goes_on_unless_a_full_refresh_is_asked_for(world: World) -> None:
    def days(**params: Any) -> int:
        ti = SimpleNamespace(
            dag_id="d", run_id="r", task_id="measure", map_index=-1, try_number=1, xcom_push=lambda **_: None
        )
        context: Any = {"ti": ti, "params": params}
        return int(CohortImpactOperator(**ASKED).execute(context)["days_measured"])

    first = days()
    assert days() < first
    assert days(full_refresh=True) == first


def test_a_share_that_is_not_there_fails_for_good_and_says_what_to_run(world: World) -> None:
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="d",
        run_id="r",
        task_id="measure",
        map_index=-1,
        try_number=1,
        xcom_push=lambda key, value: pushed.update({key: value}),
    )
    task = CohortImpactOperator(**{**ASKED, "source": "NOWHERE.PUBLIC"})
    context: Any = {"ti": ti, "params": {}}
    with pytest.raises(AirflowFailException, match="GRANT IMPORTED PRIVILEGES ON DATABASE NOWHERE"):
        task.execute(context)
    assert pushed["failed_because"].startswith("Braze's data share NOWHERE.PUBLIC cannot be read")
