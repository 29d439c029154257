"""Campaigns to a cohort: to whom, and never twice. With the local Snowflake and the local Braze."""

from __future__ import annotations

import copy
import logging
import re
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException
from airflow.utils.session import create_session

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.exceptions import (
    BrazeEndpointError,
    BrazeUnavailableError,
    CohortConfigError,
)
from airflow_provider_kubit_braze.operators.trigger_campaign import (
    TriggerCohortCampaignOperator,
    TriggerCohortCanvasOperator,
)
from airflow_provider_kubit_braze.sandbox.braze_settings import (
    DEFAULT_CAMPAIGN,
    DEFAULT_CANVAS,
    DEFAULT_REST_KEY,
)
from airflow_provider_kubit_braze.warehouse.sends import Sends
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

TABLES = Tables("DEMO.CAMPAIGN_SENDS")

SEND = "/campaigns/trigger/send"
ATTRIBUTE = "kubit_cohort_vips"
WORKSPACE = "127.0.0.1/kubit_braze_default"
COHORT: dict[str, Any] = {
    "id": "vips",
    "source": {"table": "DB.S.T"},
    "identifiers": {"external_id": "USER_ID"},
}


MAPPED = """
from datetime import timedelta
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_kubit_braze.operators.trigger_campaign import TriggerCohortCampaignOperator
with DAG("mapped", schedule=None):
    TriggerCohortCampaignOperator.partial(
        task_id="send", cohort_id="vips", retries=2, retry_delay=timedelta(0)
    ).expand(campaign_id=["c-1"])
"""


class World:
    """A cohort ``vips`` as an import left it: in Braze and in the ledger; it had ``u1`` and ``u2``, and ``u3`` left."""

    def __init__(self, sandbox: Sandbox, session: Session) -> None:
        self.braze = sandbox.braze
        self.braze.configure(apply_delay=0)
        self.tables = TABLES
        self.session = session
        for table in (TABLES.membership, TABLES.campaign_send):
            session.execute(f"DELETE FROM {table}")
        self.try_number = 0
        self.reasons: list[str] = []

    def fill(self, place: str = f"attribute:{ATTRIBUTE}") -> None:
        flags = {"u1": True, "u2": True, "u3": False, "stranger": None}
        self.braze.add_users(
            {"external_id": user, "custom_attributes": {} if flag is None else {ATTRIBUTE: flag}}
            for user, flag in flags.items()
        )
        rows = [("u1", None, False), ("u2", None, False), ("u3", "2026-01-02", False), ("u4", None, True)]
        for user, left, held_out in rows:
            self.session.execute(
                f"INSERT INTO {self.tables.membership} (WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, ENTERED_AT, "
                "LEFT_AT, HELD_OUT) SELECT %s, 'vips', %s, 'external_id', %s, '2026-01-01', %s, %s",
                (WORKSPACE, place, user, left, held_out),
            )

    def run(
        self,
        operator: Any = None,
        *,
        run_id: str = "r1",
        map_index: int = -1,
        events: Sequence[Any] = (),
        events_key: str = "triggering_asset_events",
        **fields: Any,
    ) -> Any:
        """Run the task, each time as its next try, in a run that asset events started, or nobody but a person."""
        self.try_number += 1
        task = operator or campaign(**fields)
        ti = SimpleNamespace(
            dag_id="d",
            run_id=run_id,
            task_id=task.task_id,
            map_index=map_index,
            try_number=self.try_number,
            xcom_push=lambda key, value: self.reasons.append(value),
        )
        context: Any = {"ti": ti, "params": {}, events_key: {"an asset": list(events)}}
        return task.execute(context)

    def record(self, columns: str = "STATE") -> list[Any]:
        rows = self.session.rows(f"SELECT {columns} FROM {self.tables.campaign_send} ORDER BY BEGUN_AT")
        return [row[0] if len(row) == 1 else row for row in rows]

    def sent_to(self) -> list[set[str]]:
        """Return whom each request that the local Braze took meant."""
        return [set(one["selected"]) for one in self.braze.triggered()]

    def requests(self) -> int:
        return self.braze.counters().requests.get(SEND, 0)


def event(run_id: str = "i1", minute: int = 0, **extra: Any) -> Any:
    """The asset event of an import."""
    said = {"cohort_id": "vips", "outcome": "success", "purpose": "import", "run_id": run_id, **extra}
    return SimpleNamespace(
        extra=said,
        source_dag_id="kubit_braze__vips",
        timestamp=datetime(2026, 3, 1, 9, minute, tzinfo=UTC),
    )


def campaign(**fields: Any) -> TriggerCohortCampaignOperator:
    given = {"task_id": "send", "campaign_id": DEFAULT_CAMPAIGN, "cohort_id": "vips", "broadcast": True}
    return TriggerCohortCampaignOperator(**{**given, **fields})


@pytest.fixture(scope="module")
def session(kubit_braze_sandbox: Sandbox) -> Iterator[Session]:
    """A session that finds the state tables: one set for all, as making them takes the longest."""
    with closing(Session(kubit_braze_sandbox.connect(), tag={"app": "tests"})) as opened:
        ensure_tables(opened, TABLES)
        yield opened


@pytest.fixture
def world(kubit_braze_clean_sandbox: Sandbox, session: Session, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(kubit_braze_clean_sandbox, session)
    found.fill()
    monkeypatch.setenv("AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA", TABLES.schema)
    return found


# -- to whom ------------------------------------------------------------------------------------------------------


def test_a_campaign_goes_to_those_who_are_in_the_cohort_now(world: World) -> None:
    result = world.run(trigger_properties={"season": "spring"})
    assert world.sent_to() == [{"u1", "u2"}]
    (triggered,) = world.braze.triggered()
    assert triggered["properties"] == {"season": "spring"}
    assert result == {
        "kind": "campaign",
        "message_id": DEFAULT_CAMPAIGN,
        "cohort_id": "vips",
        "workspace": WORKSPACE,
        "attribute": ATTRIBUTE,
        "broadcast": True,
        "members": 2,
        "send_id": None,
        "dispatch_id": triggered["dispatch_id"],
        "schedule_id": None,
        "scheduled_for": None,
    }
    columns = "STATE, COHORT_ID, PLACE, KIND, MESSAGE_ID, MEMBERS, DISPATCH_ID, RUN_ID, ENDED_AT IS NOT NULL"
    assert world.record(columns) == [
        (
            "sent",
            "vips",
            f"attribute:{ATTRIBUTE}",
            "campaign",
            DEFAULT_CAMPAIGN,
            2,
            result["dispatch_id"],
            "r1",
            True,
        )
    ]


def test_a_rehearsal_goes_to_the_recipients_who_are_in_the_cohort(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        result = world.run(broadcast=False, recipients=["u1", "u3"])
    assert world.sent_to() == [{"u1"}]
    assert "u3" not in f"{result} {caplog.text}"


def test_a_canvas_is_entered_at_a_moment(world: World) -> None:
    at = datetime.now(UTC) + timedelta(days=1)
    task = TriggerCohortCanvasOperator(
        task_id="enter",
        canvas_id=DEFAULT_CANVAS,
        cohort=COHORT,
        broadcast=True,
        canvas_entry_properties={"a": 1},
        send_at=at,
    )
    result = world.run(task)
    (triggered,) = world.braze.triggered()
    assert (triggered["kind"], triggered["properties"], set(triggered["selected"])) == (
        "canvas",
        {"a": 1},
        {"u1", "u2"},
    )
    assert result["schedule_id"] == triggered["schedule_id"] is not None
    assert result["scheduled_for"] == at.isoformat(timespec="seconds")


def test_a_send_id_of_ones_own_is_made_known_first(world: World) -> None:
    assert world.run(send_id="spring", create_send_id=True)["send_id"] == "spring"
    assert world.braze.triggered()[0]["send_id"] == "spring"


def test_nobody_in_the_cohort_is_a_skip_and_asks_braze_nothing(world: World) -> None:
    world.session.execute(f"UPDATE {world.tables.membership} SET LEFT_AT = '2026-01-02' WHERE NOT HELD_OUT")
    with pytest.raises(AirflowSkipException, match="Nobody is in cohort vips"):
        world.run()
    assert (world.requests(), world.record()) == (0, [])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cohort_id": "others"}, "No import has ever brought anybody of cohort 'others'"),
        ({"attribute": "vip"}, "not under attribute vip in Braze but under attribute kubit_cohort_vips"),
    ],
)
def test_a_cohort_that_was_never_there_is_a_mistake(world: World, fields: Any, said: str) -> None:
    with pytest.raises(AirflowFailException, match=said):
        world.run(**fields)
    assert world.requests() == 0


def test_a_cohort_that_is_a_partners_in_the_ledger_is_refused(world: World) -> None:
    world.session.execute(f"UPDATE {world.tables.membership} SET PLACE = 'partner_cohort:kubit'")
    with pytest.raises(AirflowFailException, match="Braze's API cannot filter by a partner cohort"):
        world.run()
    assert world.requests() == 0


# -- never twice --------------------------------------------------------------------------------------------------


def test_a_second_try_in_the_same_run_sends_nothing_and_says_what_was_sent(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        first = world.run()
    assert f"campaign {DEFAULT_CAMPAIGN} was triggered, to the 2 members of cohort vips" in caplog.text

    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert world.run() == first
    assert world.requests() == 1
    assert "is not sent again" in caplog.text
    assert "was triggered" not in caplog.text


def test_a_mapped_task_sends_each_message_once_in_whatever_order_they_come(world: World) -> None:
    world.braze.configure(campaigns=["A", "B"])
    world.run(campaign_id="A", map_index=0)
    world.braze.fault("status", SEND, status=429)
    with pytest.raises(BrazeUnavailableError):
        world.run(campaign_id="B", map_index=1)

    # The run is cleared, and upstream names them the other way round.
    world.run(campaign_id="B", map_index=0)
    assert world.run(campaign_id="A", map_index=1)["message_id"] == "A"

    assert world.record("MESSAGE_ID, STATE") == [("A", "sent"), ("B", "sent")]
    assert len(world.sent_to()) == 2


def test_a_task_that_was_changed_and_cleared_neither_sends_nor_lies(world: World) -> None:
    world.braze.configure(campaigns=["A", "B"])
    world.run(campaign_id="A")

    with pytest.raises(
        AirflowFailException, match=r"has sent campaign A to cohort vips under .* start a new DAG run"
    ):
        world.run(campaign_id="B")

    assert world.record("MESSAGE_ID, STATE") == [("A", "sent")]
    assert world.run(campaign_id="B", run_id="r2")["message_id"] == "B"


def test_other_recipients_are_another_send(world: World) -> None:
    for index, recipient in enumerate(("u1", "u2", "u1")):
        world.run(broadcast=False, recipients=[recipient], map_index=index)

    assert world.sent_to() == [{"u1"}, {"u2"}]


def test_a_cohort_that_has_moved_to_another_attribute_is_refused_and_not_called_empty(world: World) -> None:
    world.session.execute(
        f"UPDATE {world.tables.membership} SET LEFT_AT = SYSDATE() WHERE PLACE = %s",
        (f"attribute:{ATTRIBUTE}",),
    )
    world.fill("attribute:renamed")

    with pytest.raises(AirflowFailException, match="but under"):
        world.run()
    assert world.requests() == 0


def test_another_run_sends_again(world: World) -> None:
    world.run()
    world.run(run_id="r2")
    assert world.sent_to() == [{"u1", "u2"}] * 2


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"outcome": "dry_run"}, "was a dry run"),
        ({"purpose": "undo"}, r"took users out of the cohort \(undo\)"),
        ({"purpose": "retire"}, "took the cohort out of Braze"),
    ],
)
def test_what_imported_nobody_starts_no_campaign(world: World, extra: Any, said: str) -> None:
    with pytest.raises(AirflowSkipException, match=rf"run i1 of DAG kubit_braze__vips\) {said}"):
        world.run(events=[event(**extra)])
    assert (world.requests(), world.record(), world.reasons) == (0, [], [])


def test_of_an_import_that_was_undone_since_nothing_follows(world: World) -> None:
    rehearsed = event("i4", minute=2, outcome="dry_run")
    with pytest.raises(AirflowSkipException, match=r"run i3 of DAG kubit_braze__vips\) took users out"):
        world.run(events=[event(), event("i3", minute=1, purpose="undo"), rehearsed])
    assert world.requests() == 0


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([event(cohort_id="others", outcome="dry_run")], id="of-another-cohort"),
        pytest.param([SimpleNamespace(**{**vars(event()), "extra": {}})], id="made-by-a-person"),
        pytest.param([event("i2", outcome="unchanged"), event(outcome="dry_run")], id="beside-an-import"),
        pytest.param(
            [event(outcome="dry_run", minute=1), event("i2", outcome="partial")], id="after-an-import"
        ),
        pytest.param([event(purpose="undo"), event("i2", minute=1)], id="undone-before-an-import"),
    ],
)
def test_other_events_do_not_keep_a_campaign_back(world: World, events: Any) -> None:
    assert world.run(events=events)["members"] == 2


def test_before_airflow_3_the_events_are_those_of_datasets(world: World) -> None:
    with pytest.raises(AirflowSkipException, match="was a dry run"):
        world.run(events=[event(outcome="dry_run")], events_key="triggering_dataset_events")


def test_an_import_that_is_repeated_starts_no_second_campaign(world: World) -> None:
    first = world.run(events=[event()])
    # Somebody clears the import, which ends well once more and so makes one more event.
    again = event(minute=30, outcome="unchanged")
    with pytest.raises(AirflowSkipException, match=r"Run r1 of this DAG has sent this .+ by hand"):
        world.run(run_id="r2", events=[again])
    # It came together with the event of the next import, whose campaign has still to be sent: once.
    both = [event("i2", minute=20), again]
    second = world.run(run_id="r3", events=both)
    assert world.run(run_id="r3", events=both) == second != first
    assert world.run(events=[event()]) == first
    # Each of them is repeated by itself.
    for number, repeated in enumerate((again, event("i2", minute=40))):
        with pytest.raises(AirflowSkipException, match="after the same import"):
            world.run(run_id=f"r4{number}", events=[repeated])
    assert world.requests() == 2
    assert world.run(run_id="by hand")["members"] == 2
    assert world.requests() == 3


def test_another_message_after_the_same_import_is_another_matter(world: World) -> None:
    world.braze.configure(campaigns=["A", "B"])
    world.run(events=[event()], campaign_id="A")
    assert world.run(run_id="r2", events=[event()], campaign_id="B")["message_id"] == "B"
    assert len(world.sent_to()) == 2


def test_what_was_not_sent_after_an_import_may_be_sent_by_another_run(world: World) -> None:
    world.braze.fault("status", SEND, status=429)
    with pytest.raises(BrazeUnavailableError):
        world.run(events=[event()])
    assert world.run(run_id="r2", events=[event()])["members"] == 2
    with pytest.raises(AirflowSkipException, match="Run r2 of this DAG"):
        world.run(events=[event()])
    assert world.record("RUN_ID, STATE") == [("r1", "not_sent"), ("r2", "sent")]


def test_a_send_of_another_run_that_nobody_knows_the_end_of_is_named_by_its_own_key(world: World) -> None:
    world.braze.fault("drop_after", SEND)
    with pytest.raises(AirflowFailException):
        world.run(events=[event()])
    with pytest.raises(AirflowFailException, match="in run r1, began") as caught:
        world.run(run_id="r2", events=[event()])
    [statement] = re.findall(r"UPDATE .+ WHERE SEND_KEY = '[^']+'", str(caught.value))
    world.session.execute(statement)
    assert world.run(run_id="r2", events=[event()])["members"] == 2


def test_another_workspace_has_a_record_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    host = (
        f'"host": "{world.braze.url}", "password": "{DEFAULT_REST_KEY}", "extra": {{"workspace": "staging"}}'
    )
    monkeypatch.setenv("AIRFLOW_CONN_STAGING", f'{{"conn_type": "kubit_braze", {host}}}')
    world.session.execute(f"UPDATE {world.tables.membership} SET WORKSPACE = 'staging'")
    assert world.run(braze_conn_id="staging")["workspace"] == "staging"
    assert world.requests() == 2


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        pytest.param({"kind": "drop_after"}, 1, id="answer-lost"),
        pytest.param({"kind": "drop_before"}, 0, id="connection-broke"),
        pytest.param({"kind": "status", "status": 503}, 0, id="503"),
        pytest.param({"kind": "status", "status": 408}, 0, id="408"),
        pytest.param({"kind": "status", "status": 500, "apply": True}, 1, id="500-after-it-was-taken"),
        pytest.param({"kind": "malformed"}, 1, id="answer-cut-short"),
        pytest.param({"kind": "non_success_message", "status": 201}, 0, id="2xx-without-success"),
    ],
)
def test_without_an_answer_that_tells_it_fails_for_good(world: World, fault: Any, taken: int) -> None:
    world.braze.fault(endpoint=SEND, **fault)
    with pytest.raises(
        AirflowFailException, match=r"may have been sent, and is not sent again\. Look in Braze"
    ):
        world.run()
    assert world.record() == ["unknown"]
    with pytest.raises(AirflowFailException, match="Try 1 of this task, in run r1, began to send at"):
        world.run()
    assert (world.requests(), len(world.sent_to())) == (1, taken)


def test_the_sentence_says_how_to_go_on_and_it_works(world: World) -> None:
    world.braze.fault("drop_before", SEND)
    with pytest.raises(AirflowFailException) as failed:
        world.run(run_id="it's")
    said = str(failed.value)
    world.session.execute(said[said.index("UPDATE ") : said.index(" and clear")])
    world.run(run_id="it's")
    assert world.sent_to() == [{"u1", "u2"}]
    assert world.record() == ["sent"]


def test_the_statement_to_run_names_its_database_where_the_setting_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA", TABLES.schema.partition(".")[2])
    world.braze.fault("drop_before", SEND)
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=rf"run UPDATE {TABLES.campaign_send} SET STATE"):
            world.run()


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        pytest.param({}, "campaign", id="campaign"),
        pytest.param({"send_id": "s", "create_send_id": True}, "campaign", id="its-send-id"),
        pytest.param({"canvas_id": "wrong"}, "Canvas", id="canvas"),
    ],
)
def test_an_id_that_braze_does_not_know_is_told_with_the_cohort_and_the_fix(
    world: World, fields: Any, unit: str
) -> None:
    given: dict[str, Any] = {"task_id": "send", "cohort_id": "vips", "broadcast": True}
    task = (
        TriggerCohortCanvasOperator(**given, **fields)
        if unit == "Canvas"
        else campaign(campaign_id="wrong", **fields)
    )
    with pytest.raises(AirflowFailException) as failed:
        world.run(task)
    assert f"Braze says: Invalid {unit.title()} ID. This was to send {unit} wrong to cohort vips." in str(
        failed.value
    )
    assert str(failed.value).endswith(
        f"copy the API identifier that Braze shows on the {unit}'s page, not the id in the address."
    )
    assert world.reasons == [str(failed.value)]
    assert world.record() == ["not_sent"]


def test_a_try_that_died_while_sending_is_not_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Sends, "end", dies)
        with pytest.raises(SystemExit):
            world.run()
    with pytest.raises(AirflowFailException, match="began to send"):
        world.run()
    assert world.requests() == 1


def test_two_tries_at_once_send_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Sends.begin

    def meets_another(self: Sends, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(Sends, "begin", looked)
        world.run()
        return looked(self, *args, **kwargs)

    monkeypatch.setattr(Sends, "begin", meets_another)
    world.run()
    assert world.requests() == 1
    assert world.record() == ["sent"]


def test_of_two_tries_that_write_at_the_same_time_none_or_one_sends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = RunIdentity(dag_id="d", run_id="r1", task_id="send")
    request = campaign().the_request()
    first, second = (
        Sends(
            world.session,
            world.tables,
            workspace=WORKSPACE,
            identity=who,
            request=request,
            cohort_id="vips",
        )
        for _ in range(2)
    )
    key = (WORKSPACE, "vips")
    assert first.begin(request, key=key, members=2).mine
    # The second one looked before the first one wrote.
    looks = [None]
    really = second._read
    monkeypatch.setattr(second, "_read", lambda: looks.pop() if looks else really())
    assert not second.begin(request, key=key, members=2).mine
    assert world.record("STATE, OWNER") == [("sending", first._owner)]


@pytest.mark.parametrize("status", [429, 423])
def test_what_braze_certainly_did_not_take_is_tried_again(world: World, status: int) -> None:
    world.braze.fault("status", SEND, status=status)
    with pytest.raises(BrazeUnavailableError):
        world.run()
    assert world.record("STATE, ERROR IS NOT NULL") == [("not_sent", True)]
    world.run()
    assert world.sent_to() == [{"u1", "u2"}]
    assert world.record("STATE, ERROR IS NOT NULL") == [("sent", False)]


def test_a_key_without_the_permission_ends_it_and_a_new_one_mends_it(world: World) -> None:
    world.braze.configure(keys={DEFAULT_REST_KEY: ["users.track"]})
    with pytest.raises(
        AirflowFailException, match=r"lacks the permission campaigns\.trigger\.send"
    ) as failed:
        world.run()
    assert DEFAULT_REST_KEY not in str(failed.value)
    world.braze.configure(keys={DEFAULT_REST_KEY: ["campaigns.trigger.send"]})
    world.run()
    assert len(world.sent_to()) == 1


def test_nobody_listening_is_certainly_not_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = '{"conn_type": "kubit_braze", "host": "http://127.0.0.1:9", "password": "k-0123456789", '
    connection += f'"extra": {{"workspace": "{WORKSPACE}"}}}}'
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", connection)
    # So a retry may send it, when whatever kept the connection from coming about is over.
    with pytest.raises(BrazeEndpointError, match="Nothing listens"):
        world.run(braze_conn_id="elsewhere")
    assert world.record() == ["not_sent"]
    [reason] = world.reasons
    assert reason.startswith("Nothing listens")


def test_a_send_id_that_braze_refuses_sends_nothing(world: World) -> None:
    world.braze.fault("status", "/sends/id/create", status=503)
    with pytest.raises(BrazeUnavailableError):
        world.run(send_id="spring", create_send_id=True)
    assert (world.requests(), world.record()) == (0, ["not_sent"])
    # What is recorded is what was sent, and not what was to be sent before the author changed it.
    world.run(send_id="summer", create_send_id=True)
    assert len(world.sent_to()) == 1
    assert world.record("STATE, SEND_ID") == [("sent", "summer")]


def test_a_moment_that_passed_is_refused_unless_it_was_sent(world: World) -> None:
    late: dict[str, Any] = {"send_at": datetime.now(UTC) - timedelta(minutes=1)}
    with pytest.raises(AirflowFailException, match=r"^cohort 'vips', field 'send_at': '.+ is over"):
        world.run(**late)
    assert world.record() == []
    world.run()
    assert world.run(**late)["members"] == 2


@pytest.mark.parametrize("rendered", [None, ""])
def test_a_moment_that_came_out_empty_does_not_mean_at_once(world: World, rendered: str | None) -> None:
    task = TriggerCohortCampaignOperator(
        task_id="send", campaign_id=DEFAULT_CAMPAIGN, cohort=COHORT, broadcast=True, send_at="{{ params.at }}"
    )
    # As Airflow renders what a task or a native template gives.
    task.send_at = rendered
    with pytest.raises(AirflowFailException, match=r"^cohort 'vips', field 'send_at': it came out empty"):
        world.run(task)
    assert world.braze.triggered() == []


# -- while the DAG file is parsed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"broadcast": False}, "not said to whom", id="broadcast-is-never-implied"),
        pytest.param(
            {"broadcast": False, "cohort_id": "{{ params.cohort }}"},
            "not said to whom",
            id="nor-for-a-template",
        ),
        pytest.param(
            {"cohort_id": None, "cohort": {**COHORT, "braze": {"deliver_as": "partner_cohort"}}},
            "cannot reach a partner cohort",
            id="partner",
        ),
        pytest.param({"cohort": COHORT}, "needs either cohort, or cohort_id", id="two-cohorts"),
        pytest.param({"cohort_id": None}, "needs either cohort, or cohort_id", id="no-cohort"),
        pytest.param({"cohort_id": "V I P"}, "field 'cohort_id': 'V I P' is not a cohort id", id="cohort-id"),
        pytest.param({"attribute": "email"}, "field 'attribute': the attribute name 'email'", id="attribute"),
        pytest.param({"in_local_time": True}, "without a moment", id="local-time-of-nothing"),
        pytest.param({"create_send_id": True}, "without a send_id", id="no-send-id"),
        pytest.param({"send_at": "2026-12-01"}, "has no time zone", id="no-zone"),
        pytest.param(
            {"trigger_properties": ["{{ ds }}"]},
            "field 'trigger_properties': .+ not a mapping",
            id="properties",
        ),
        pytest.param(
            {"trigger_properties": "x"},
            "field 'trigger_properties': 'x' is given, and the properties are not a mapping",
            id="properties-text",
        ),
        pytest.param(
            {"trigger_properties": {"a": "{{ ds }}", "b": [{"c": date(2026, 1, 1)}]}},
            "field 'trigger_properties': .+ plain JSON",
            id="properties-beside-a-template",
        ),
        pytest.param(
            {"send_at": "2026-12-01T09:00", "in_local_time": "false"},
            "field 'in_local_time': 'false' is no switch; write True or False, without quotes",
            id="local-time-text",
        ),
        pytest.param(
            {"send_at": "{{ params.at }}", "at_optimal_time": 1}, "'at_optimal_time': 1", id="optimal-number"
        ),
        pytest.param({"create_send_id": "false"}, "'create_send_id': 'false'", id="send-id-text"),
        pytest.param(
            {"create_send_id": "{{ params.new }}", "send_id": "s"},
            "field 'create_send_id': '{{ params.new }}' is a template .+ this field takes neither",
            id="switch-template",
        ),
        pytest.param(
            {"broadcast": False, "recipients": ["{{ params.who }}"]}, "is a template", id="recipients"
        ),
        pytest.param({"cohort_id": None, "cohort": {**COHORT, "id": "A"}}, "^cohort 'A'", id="mapping-s-id"),
        pytest.param(
            {"campaign_id": "bad name", "send_id": "{{ ds }}"}, "'bad name' is no id", id="beside-a-template"
        ),
        pytest.param(
            {"cohort_id": "{{ params.cohort }}", "send_at": "nope"},
            "'nope' is no moment",
            id="moment-beside-a-template",
        ),
        pytest.param({"cohort_id": None, "cohort": "vips"}, "a cohort that is str", id="cohort-text"),
        pytest.param({"broadcast": False, "recipients": 3}, "int is given, which is no list", id="number"),
        pytest.param({"broadcast": False, "recipients": "u1"}, "str is given, which is no list", id="text"),
        pytest.param({"broadcast": False, "recipients": ["u1", 2]}, "not all recipients", id="not-all"),
        pytest.param({"broadcast": False, "recipients": None}, "not said to whom", id="nobody"),
        pytest.param({"broadcast": False}, "^cohort 'vips', field 'broadcast'", id="names-the-cohort"),
    ],
)
def test_a_mistake_shows_while_the_file_is_parsed(fields: Any, said: str) -> None:
    with pytest.raises(CohortConfigError, match=said):
        campaign(**fields)


def test_a_mapped_task_that_is_wrong_fails_for_good_and_leaves_why(world: World) -> None:
    with DAG("d", schedule=None):
        made: Any = TriggerCohortCampaignOperator.partial(task_id="send", cohort_id="vips").expand(
            campaign_id=[DEFAULT_CAMPAIGN]
        )
    with pytest.raises(AirflowFailException, match=r"^cohort 'vips', .+ not said to whom") as failed:
        world.run(made.unmap({"campaign_id": DEFAULT_CAMPAIGN}))
    assert world.reasons == [str(failed.value)]
    assert world.requests() == 0


@pytest.mark.usefixtures("airflow_db")
def test_airflow_spends_no_retries_on_a_mapped_task_that_is_wrong(dags_folder: Path) -> None:
    (dags_folder / "mapped.py").write_text(MAPPED)
    bag = DagBag(str(dags_folder))
    assert bag.import_errors == {}
    run = bag.dags["mapped"].test(logical_date=datetime.now(UTC))
    with create_session() as database:
        [reason] = database.scalars(XComModel.get_many(run_id=run.run_id, key="failed_because")).all()
        tries = {
            (one.task_id, str(one.state), one.try_number) for one in run.get_task_instances(session=database)
        }
    assert "not said to whom the message goes" in str(reason.value)
    assert tries == {("send", "failed", 1)}


def test_a_task_s_output_names_no_recipients_and_a_canvas_has_no_send_id() -> None:
    with DAG("d", schedule=None):
        other = campaign(task_id="other")
        with pytest.raises(CohortConfigError, match="another task cannot give it"):
            campaign(broadcast=False, recipients=other.output)
        with pytest.raises(CohortConfigError, match="is given for a Canvas, which has none"):
            TriggerCohortCanvasOperator(
                task_id="c", canvas_id="c-1", cohort_id="vips", broadcast=True, send_id="s"
            )
        with pytest.raises(CohortConfigError, match="a Canvas, which has no send id; leave it out"):
            TriggerCohortCanvasOperator(
                task_id="b", canvas_id="c-1", cohort_id="vips", broadcast=True, create_send_id=True
            )


def test_templates_are_judged_when_they_are_rendered() -> None:
    with DAG("d", schedule=None):
        task = campaign(
            cohort_id="{{ params.cohort }}",
            campaign_id="{{ params.campaign }}",
            trigger_properties={"day": "{{ ds }}"},
            send_at="{{ params.at }}",
            in_local_time=True,
        )
    copied = copy.deepcopy(task)
    values = {"cohort": "vips", "campaign": "c-1", "at": "2026-12-01T09:00"}
    copied.render_template_fields({"params": values, "ds": "2026-11-29"})
    assert copied.the_request().body() == {
        "campaign_id": "c-1",
        "audience": {
            "AND": [
                {
                    "custom_attribute": {
                        "custom_attribute_name": ATTRIBUTE,
                        "comparison": "equals",
                        "value": True,
                    }
                }
            ]
        },
        "broadcast": True,
        "trigger_properties": {"day": "2026-11-29"},
        "schedule": {"time": "2026-12-01T09:00:00", "in_local_time": True},
    }


def test_a_cohort_of_ones_own_names_attribute_and_connections() -> None:
    cohort = Cohort(**{**COHORT, "braze": {"attribute": "vip", "conn_id": "eu"}})
    task = campaign(cohort_id=None, cohort=cohort)
    assert task.the_request().attribute == "vip"
    assert task.the_cohort().braze.conn_id == "eu"
