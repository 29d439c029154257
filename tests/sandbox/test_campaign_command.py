"""``kubit-braze sandbox campaign``: what it says is true is measured, and nothing but a sandbox is written to."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kubit_braze.cli import main
from airflow_provider_kubit_braze.core.campaign import CampaignRequest
from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.measuring import measure_impact
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_CAMPAIGN, DEFAULT_REST_KEY
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

_numbers = count(1)

MEMBERS, HELD_OUT = 1_200, 300


class World:
    """A cohort that was imported just now, in state tables and with a share of its own."""

    def __init__(self, sandbox: Sandbox, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
        number = next(_numbers)
        self.sandbox, self.session, self.capsys = sandbox, session, capsys
        self.tables = Tables(f"DEMO.CAMPAIGN_COMMAND_{number}")
        self.share = f"COMMAND_SHARE_{number}.PUBLIC"
        self.attribute = "kubit_cohort_vips"
        ensure_tables(session, self.tables)
        sandbox.braze.add_users(
            {"external_id": f"u{n}", "custom_attributes": {self.attribute: True}} for n in range(MEMBERS)
        )
        sandbox.braze.add_users(f"h{n}" for n in range(HELD_OUT))
        self.entered = datetime.now(UTC).replace(microsecond=0)
        self.stays([f"u{n}" for n in range(MEMBERS)])
        self.stays([f"h{n}" for n in range(HELD_OUT)], held_out=True)
        session.execute(
            f"INSERT INTO {self.tables.run} (IMPORT_ID, WORKSPACE, COHORT_ID, STARTED_AT, FINISHED_AT) "
            "SELECT 'first', 'w', COLUMN1, CAST(%s AS TIMESTAMP_NTZ), CAST(%s AS TIMESTAMP_NTZ) "
            "FROM (VALUES ('vips'), ('others')) v (COLUMN1)",
            (self._text(-5), self._text(0)),
        )

    def _text(self, seconds: int) -> str:
        return (self.entered + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")

    def stays(self, users: list[str], *, held_out: bool = False, kind: str = "external_id") -> None:
        self.session.execute(
            f"INSERT INTO {self.tables.membership} (WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, HELD_OUT, "
            "ENTERED_AT, ENTERED_IMPORT) SELECT 'w', 'vips', %s, %s, v.COLUMN1, %s, CAST(%s AS TIMESTAMP_NTZ), 'first' "
            f"FROM (VALUES {', '.join(['(%s)'] * len(users))}) v (COLUMN1)",
            (f"attribute:{self.attribute}", kind, held_out, self._text(0), *users),
        )

    def __call__(self, *arguments: str, cohort: str = "vips", share: str = "") -> tuple[int, str, str]:
        asked = ["--cohort", cohort, "--share", share or self.share, *arguments]
        code = main(["sandbox", "campaign", *asked])
        out, err = self.capsys.readouterr()
        return code, out, err

    def measured(self, **question: Any) -> dict[str, Any]:
        asked = ImpactQuestion(source=self.share, app_group_id="sandbox", **question)
        report = measure_impact(
            asked,
            session=self.session,
            tables=self.tables,
            workspace="w",
            cohort_id="vips",
            now=datetime.now(UTC),
        ).as_dict()
        (message,) = report["messages"]
        return dict(message)

    def started(self, cohort: str) -> list[datetime]:
        sql = f"SELECT STARTED_AT, FINISHED_AT FROM {self.tables.run} WHERE COHORT_ID = %s"
        [row] = self.session.rows(sql, (cohort,))
        return [one.replace(tzinfo=UTC) for one in row]


@pytest.fixture
def world(
    kubit_braze_clean_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    with closing(Session(kubit_braze_clean_sandbox.connect(), tag={"app": "tests"})) as session:
        found = World(kubit_braze_clean_sandbox, session, capsys)
        monkeypatch.setenv("AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA", found.tables.schema)
        yield found


def test_what_it_says_is_true_is_what_is_measured_now(world: World) -> None:
    code, out, err = world("--lift", "0.5", "--base", "0.2", "--seed", "3", "--window", "2d", "--json")
    assert code == 0, err
    told = json.loads(out)
    truth = told["truth"]
    assert (truth["lift"], truth["treated"]["users"], truth["held_out"]["users"]) == (0.5, MEMBERS, HELD_OUT)
    assert datetime.fromisoformat(truth["until"]) < datetime.now(UTC)
    [request] = world.sandbox.braze.triggered()
    assert (request["message_id"], len(request["selected"])) == (DEFAULT_CAMPAIGN, MEMBERS)

    measured = world.measured(window="2d")
    assert {name: measured["figures"][name] for name in truth["figures"]} == truth["figures"]
    assert measured["open_users"] == 0
    [experiment] = measured["experiments"]
    assert (experiment["treated_users"], experiment["control_users"]) == (MEMBERS, HELD_OUT)
    conversion = experiment["conversion"]
    for side, group in (("treated", truth["treated"]), ("control", truth["held_out"])):
        assert conversion[side] == pytest.approx(group["converters"] / group["users"])
    interval = conversion["intervals"]["lift"]
    assert interval["low"] <= 0.5 <= interval["high"]


def test_the_cohort_s_ledger_is_set_back_as_a_whole_and_no_other_s(world: World) -> None:
    before, others = world.started("vips"), world.started("others")
    _, out, _ = world("--json")
    told = json.loads(out)
    back = timedelta(seconds=told["set_back_seconds"])
    assert world.started("vips") == [one - back for one in before]
    assert world.started("others") == others
    [(least, most)] = world.session.rows(
        f"SELECT MIN(ENTERED_AT), MAX(ENTERED_AT) FROM {world.tables.membership}"
    )
    assert least == most
    sent = datetime.fromisoformat(told["truth"]["at"])
    assert timedelta(minutes=1) <= sent - most.replace(tzinfo=UTC) < timedelta(minutes=3)


def test_people_read_the_truth_and_how_to_measure_it(world: World) -> None:
    code, out, _ = world("--canvas", "journey", "--name", "Our journey", "--channel", "email")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("Our journey (canvas journey) to vips, triggered now; dated 20")
    assert lines[1] == "lift      +35% within 7d, of conversions and of revenue"
    assert lines[2].startswith("treated   1,200 users, of whom each buys with 13.5%; ")
    assert lines[3].startswith("held out  300 users, of whom each buys with 10%; ")
    assert " email" in lines[4]
    assert "push" not in lines[4]
    assert "ledger    all that it has of vips was set back by " in out
    assert lines[-1] == (
        f"Measure it: kubit-braze impact vips --share {world.share} --app-group-id sandbox --window 7d"
    )
    assert world.measured()["name"] == "Our journey"


def test_a_message_that_was_triggered_already_is_not_triggered_again(world: World) -> None:
    request = CampaignRequest(
        kind="campaign", message_id=DEFAULT_CAMPAIGN, attribute=world.attribute, broadcast=True
    )
    assert requests.post(
        world.sandbox.braze_url + request.path,
        json=request.body(),
        headers={"Authorization": f"Bearer {DEFAULT_REST_KEY}"},
        timeout=30,
    ).ok
    [triggered] = world.sandbox.braze.triggered()
    code, out, err = world("--json")
    assert code == 0, err
    assert json.loads(out)["was_triggered"] is True
    assert json.loads(out)["truth"]["message"]["dispatch_id"] == triggered["dispatch_id"]
    assert len(world.sandbox.braze.triggered()) == 1


def test_a_second_campaign_gets_a_share_of_its_own(world: World) -> None:
    assert world("--seed", "1")[0] == 0
    code, out, err = world("--campaign", "second", "--seed", "2")
    assert (code, out) == (1, "")
    assert f"{world.share} has purchases already" in err
    assert len(world.sandbox.braze.triggered()) == 1
    # What the ledger has is old enough by now.
    code, out, _ = world("--campaign", "second", "--json", share=f"{world.share}_2")
    assert code == 0
    assert json.loads(out)["set_back_seconds"] < 3600


def test_where_something_was_measured_the_next_measurement_has_to_say_that_it_may_go(world: World) -> None:
    code, out, _ = world("--window", "2d")
    assert code == 0
    assert out.rstrip().endswith("--window 2d")
    note = {"WORKSPACE": "w", "COHORT_ID": "vips", "MEASURE": "purchase within 2d", "SETTINGS": "{}"}
    world.session.execute(
        f"INSERT INTO {world.tables.impact_refresh} ({', '.join(note)}) VALUES (%s, %s, %s, %s)",
        list(note.values()),
    )
    code, out, _ = world("--campaign", "second", "--window", "2d", share=f"{world.share}_2")
    assert code == 0
    assert out.rstrip().endswith("--window 2d --full-refresh")


def test_a_cohort_that_was_not_imported_or_that_no_campaign_can_go_to_is_told(world: World) -> None:
    code, _, err = world(cohort="vip")
    assert code == 1
    assert f"Nobody is in cohort 'vip' by the ledger in {world.tables.schema}: import it" in err
    world.stays(["ann"], kind="user_alias:crm")
    code, _, err = world()
    assert code == 1
    assert "cohort 'vips' is not" in err
    assert world.sandbox.braze.triggered() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base", "0.8", "--lift", "0.5"], "a rate is between 0 and 1"),
        (["--window", "soon"], "'soon' is no duration"),
        (["--window", "5m"], "The window is an hour or more"),
        (["--share", "SECOND"], "write database and schema"),
        (["--channel", "e-mail"], "'e-mail' is no channel; there are email, "),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_looked_at(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SNOWFLAKE_DEFAULT", raising=False)
    assert main(["sandbox", "campaign", "--cohort", "vips", *arguments]) == 2
    assert said in capsys.readouterr().err


def _real_account(connection: dict[str, Any]) -> None:
    connection["extra"]["account"] = "acme-prod"


def _elsewhere(connection: dict[str, Any]) -> None:
    connection["extra"]["host"] = "acme.snowflakecomputing.com"


@pytest.mark.parametrize("change", [_real_account, _elsewhere])
def test_nothing_is_written_to_a_snowflake_that_is_not_the_sandbox_s(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]
) -> None:
    connection = json.loads(world.sandbox.env()["AIRFLOW_CONN_SNOWFLAKE_DEFAULT"])
    change(connection)
    monkeypatch.setenv("AIRFLOW_CONN_SNOWFLAKE_DEFAULT", json.dumps(connection))
    code, _, err = world()
    assert code == 1
    assert "leads to a Snowflake that is not the sandbox's" in err
    assert world.sandbox.braze.triggered() == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", None])
def test_without_a_local_braze_it_says_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    # The local Snowflake is somebody who has no such page, and speaks otherwise.
    other = {"conn_type": "kubit_braze", "host": url or world.sandbox.snowflake_url, "password": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT", json.dumps(other))
    code, _, err = world()
    assert code == 1
    assert "leads to no local Braze: start kubit-braze sandbox" in err
    monkeypatch.delenv("AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT")
    assert "paste the lines that kubit-braze sandbox has printed" in world()[2]
