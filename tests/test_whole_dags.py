"""Whole DAGs through ``dag.test()``: Airflow, the local Snowflake, the local Braze and the local mailbox."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models import dagrun
from airflow.models.asset import AssetEvent
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session

from airflow_provider_kubit_braze.core.holdout import is_held_out
from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.triggers import wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_kubit_braze.sandbox.mailbox import ReceivedMail
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

pytestmark = pytest.mark.usefixtures("airflow_db")

_numbers = count(1)

#: Nobody knows it, so that it can be looked for.
WRONG_KEY = "a-wrong-rest-key-5f2c9e71"

COHORT_FILE = """
from pathlib import Path
from airflow_provider_kubit_braze.factory import load_cohort_dags

load_cohort_dags(Path(__file__).parent / "cohorts", default_args={default_args!r})
"""


def users(*numbers: int) -> set[str]:
    return {f"user-{number}" for number in numbers}


class World:
    """What one test has of the sandbox: a cohort's table, state tables of its own, and a DAG.

    :param sandbox: the running sandbox.
    :param folder: Airflow's folder of DAG files.
    """

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.number = next(_numbers)
        self.cohort_id = f"cohort_{self.number}"
        self.table = f"DEMO.PUBLIC.WHOLE_{self.number}"
        self.state = f"DEMO.WHOLE_STATE_{self.number}"
        self.sandbox = sandbox
        self.folder = folder
        self.connection = sandbox.connect()
        sandbox.braze.add_users(sorted(users(*range(1, 41))))
        self.sql(f"CREATE TABLE {self.table} (USER_ID VARCHAR, COMPUTED_AT TIMESTAMP_NTZ)")

    # -- the source --

    def sql(self, statement: str, params: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, tuple(params))
            return [tuple(row) for row in cursor.fetchall()]

    def compute(self, members: Iterable[str], day: int) -> None:
        """Fill the table as a nightly job would have on a day of March 2026."""
        self.sql(f"DELETE FROM {self.table}")
        values = ", ".join(f"('{user}', '2026-03-{day:02} 05:00:00')" for user in sorted(members))
        if values:
            self.sql(f"INSERT INTO {self.table} VALUES {values}")

    # -- the DAG --

    def cohort_file(self, **more: Any) -> str:
        """The cohort as YAML, which JSON is."""
        return json.dumps(
            {
                "id": self.cohort_id,
                "name": f"Cohort {self.number}",
                "source": {"table": self.table, "ready": {"column": "COMPUTED_AT", "within": "26h"}},
                "identifiers": {"external_id": "USER_ID"},
                "schedule": {"mode": "daily", "at": "09:00", "timezone": "America/New_York"},
                "notify": ["growth@example.com"],
                **more,
            }
        )

    def cohort_dag(self, default_args: dict[str, Any] | None = None, **more: Any) -> Any:
        """The DAG of the cohort file, read by Airflow.

        Without retries and without a second look of the sensor, for ``dag.test()`` really waits for them.
        """
        file = self.folder / "cohorts" / "cohort.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(self.cohort_file(**more))
        text = COHORT_FILE.format(default_args={"retries": 0, "timeout": 0, **(default_args or {})})
        return self.dag(text, f"kubit_braze__{self.cohort_id}")

    def dag(self, text: str, dag_id: str) -> Any:
        (self.folder / "whole_dags.py").write_text(text)
        bag = DagBag(str(self.folder))
        assert bag.import_errors == {}
        return bag.dags[dag_id]

    # -- what became of it --

    def braze_members(self, attribute: str | None = None) -> set[str]:
        self.sandbox.braze.settle()
        return self.sandbox.braze.cohort(attribute or f"kubit_cohort_{self.cohort_id}")

    def write_requests(self) -> int:
        return self.sandbox.braze.counters().write_requests

    def history(self) -> list[dict[str, Any]]:
        """All rows of IMPORT_RUN, oldest first."""
        names = [name.upper() for name in ImportResult.__dataclass_fields__]
        rows = self.sql(f"SELECT {', '.join(names)} FROM {self.state}.IMPORT_RUN ORDER BY STARTED_AT")
        return [dict(zip(ImportResult.__dataclass_fields__, row, strict=True)) for row in rows]

    def mails(self) -> list[ReceivedMail]:
        return self.sandbox.mailbox.messages()

    @property
    def mail(self) -> ReceivedMail:
        """The one mail there is; the mailbox is empty afterwards."""
        [mail] = self.mails()
        self.sandbox.mailbox.clear()
        return mail


@pytest.fixture
def world(
    kubit_braze_clean_sandbox: Sandbox, dags_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    found = World(kubit_braze_clean_sandbox, dags_folder)
    monkeypatch.setenv("AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA", found.state)
    yield found
    found.connection.close()


def run(dag: Any, day: int | None, *, hour: int = 14, **conf: Any) -> Any:
    """Run the DAG for a day of March 2026, or without a logical date, and return the DAG run."""
    moment = None if day is None else datetime(2026, 3, day, hour, tzinfo=UTC)
    return dag.test(logical_date=moment, run_conf=conf or None)


def states(dag_run: Any) -> dict[str, str]:
    return {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
        for ti in dag_run.get_task_instances()
    }


def xcoms(dag_run: Any, key: str = "return_value") -> list[Any]:
    """The values under a key of all tasks, by map index."""
    with create_session() as session:
        found = session.scalars(
            XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key=key)
        ).all()
        values = sorted(((row.map_index, row.value) for row in found), key=lambda pair: pair[0])
    return [json.loads(value) if isinstance(value, str) else value for _, value in values]


def result_of(dag_run: Any) -> dict[str, Any]:
    [value] = xcoms(dag_run)
    assert isinstance(value, dict)
    return value


def asset_events(dag_run: Any) -> list[dict[str, Any]]:
    with create_session() as session:
        rows = session.query(AssetEvent).filter(AssetEvent.source_run_id == dag_run.run_id).all()
        return [dict(row.extra) for row in rows if row.source_dag_id == dag_run.dag_id]


ALL_WELL = {"wait_for_cohort": "success", "import_to_braze": "success", "notify": "success"}


# -- the main road ----------------------------------------------------------------------------------------


def test_two_days_bring_the_difference_and_a_third_run_costs_nothing(world: World) -> None:
    dag = world.cohort_dag()

    world.compute(users(1, 2, 3, 4, 5), 1)
    first = run(dag, 1)
    assert world.braze_members() == users(1, 2, 3, 4, 5)
    world.compute(users(2, 3, 4, 5, 6, 7), 2)
    second = run(dag, 2)
    assert world.braze_members() == users(2, 3, 4, 5, 6, 7)
    requests_before = world.write_requests()
    third = run(dag, 2, hour=15)

    assert [str(one.state) for one in (first, second, third)] == ["success"] * 3
    assert [states(one) for one in (first, second, third)] == [ALL_WELL] * 3
    assert world.write_requests() == requests_before
    assert world.sandbox.braze.left(f"kubit_cohort_{world.cohort_id}") == users(1)
    assert world.sandbox.braze.counters().data_points == 5 + 2 + 1
    told = [
        (row["outcome"], row["added"], row["removed"], row["unchanged"], row["users_imported"])
        for row in world.history()
    ]
    assert told == [("success", 5, 0, 0, 5), ("success", 2, 1, 4, 6), ("unchanged", 0, 0, 6, 6)]
    assert [row["data_points"] for row in world.history()] == [5, 3, 0]
    name = f"Cohort {world.number}"
    assert [mail.subject for mail in world.mails()] == [
        f"[Kubit → Braze] {name}: 5 added, 0 removed",
        f"[Kubit → Braze] {name}: 2 added, 1 removed",
        f"[Kubit → Braze] {name}: unchanged",
    ]


def test_xcom_asset_event_history_and_mail_say_the_same(world: World) -> None:
    world.compute(users(*range(1, 31)), 1)

    dag_run = run(world.cohort_dag(), 1)

    result = result_of(dag_run)
    assert result["run_id"] == dag_run.run_id
    assert (result["members"], result["added"], result["data_points"]) == (30, 30, 30)
    assert asset_events(dag_run) == [result]
    [row] = world.history()
    assert set(row) == set(result) == set(ImportResult.__dataclass_fields__)
    for name, value in result.items():
        if name in ("started_at", "finished_at"):
            assert row[name].replace(tzinfo=UTC) == datetime.fromisoformat(value)
        else:
            assert row[name] == value, name
    mail = world.mail
    assert mail.recipients == ("growth@example.com",)
    text = " ".join(mail.text("plain").split())
    for figure in (
        f"Cohort: Cohort {world.number} ({world.cohort_id})",
        f"Run: {dag_run.run_id}",
        "Members at the source 30",
        "Users imported (in the cohort in Braze now) 30",
        "Added 30",
        "Removed 0",
        "Data points 30",
        f"Requests {result['requests']}",
    ):
        assert figure in text


def test_a_run_without_a_logical_date_works(world: World) -> None:
    world.compute(users(1, 2), 1)
    world.sql(
        f"UPDATE {world.table} SET COMPUTED_AT = %s", [datetime.now(UTC).replace(tzinfo=None).isoformat(" ")]
    )

    dag_run = run(world.cohort_dag(), None)

    assert dag_run.logical_date is None
    assert (str(dag_run.state), states(dag_run)) == ("success", ALL_WELL)
    assert result_of(dag_run)["added"] == 2
    assert world.mail.subject.endswith("2 added, 0 removed")


def test_a_cohort_without_recipients_sends_no_mail(world: World) -> None:
    world.compute(users(1), 1)

    dag_run = run(world.cohort_dag(notify=[]), 1)

    assert states(dag_run) == {"wait_for_cohort": "success", "import_to_braze": "success"}
    assert world.mails() == []


# -- the trigger form -------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_happen_and_sends_nothing(world: World) -> None:
    world.compute(users(1, 2, 3), 1)
    dag = world.cohort_dag()

    dag_run = run(dag, 1, dry_run=True)

    assert world.write_requests() == 0
    result = result_of(dag_run)
    assert (str(dag_run.state), result["outcome"]) == ("success", "dry_run")
    assert (result["added"], result["data_points"], result["users_imported"]) == (3, 3, 0)
    assert world.mail.subject.endswith("dry run, 3 to add, 0 to remove")

    assert result_of(run(dag, 1, hour=15))["added"] == 3


def test_a_full_resync_sends_every_member_once_more(world: World) -> None:
    world.compute(users(1, 2, 3), 1)
    dag = world.cohort_dag()
    run(dag, 1)
    # Somebody has spoilt a profile in Braze, which an import cannot know.
    attribute = f"kubit_cohort_{world.cohort_id}"
    world.sandbox.braze.settle()
    world.sandbox.braze.add_users([{"external_id": "user-1", "custom_attributes": {attribute: False}}])
    assert world.braze_members() == users(2, 3)

    assert result_of(run(dag, 1, hour=15))["outcome"] == "unchanged"
    dag_run = run(dag, 1, hour=16, full_resync=True)

    result = result_of(dag_run)
    assert (str(dag_run.state), result["data_points"]) == ("success", 3)
    assert world.braze_members() == users(1, 2, 3)


def test_an_undo_takes_the_last_import_back_however_old_the_source_is(world: World) -> None:
    dag = world.cohort_dag()
    world.compute(users(1, 2, 3, 4), 1)
    run(dag, 1)
    world.compute(users(2, 3, 4, 5), 2)
    run(dag, 2)
    world.sandbox.mailbox.clear()

    # The cohort was not computed for this day, which nobody has to wait for.
    dag_run = run(dag, 9, undo=True)

    result = result_of(dag_run)
    assert states(dag_run) == ALL_WELL
    assert (result["purpose"], result["added"], result["removed"]) == ("undo", 1, 1)
    assert world.braze_members() == users(1, 2, 3, 4)
    assert "undone" in world.mail.subject


# -- looked up --------------------------------------------------------------------------------------------


def test_with_match_and_a_holdout_strangers_are_in_neither_group(world: World) -> None:
    def held(some: Iterable[str]) -> set[str]:
        return {user for user in some if is_held_out(world.cohort_id, "external_id", user, "40%")}

    def groups() -> tuple[set[str], set[str]]:
        rows = world.sql(
            f"SELECT USER_ID, HELD_OUT FROM {world.state}.COHORT_MEMBERSHIP WHERE LEFT_AT IS NULL"
        )
        return {user for user, out in rows if not out}, {user for user, out in rows if out}

    known, names = users(*range(1, 41)), [f"stranger-{number}" for number in range(1, 41)]
    unknown_held = sorted(held(names))[:6]
    strangers = {*unknown_held, *sorted(set(names) - held(names))[:9]}
    world.compute(known | strangers, 1)
    dag = world.cohort_dag(match="all", holdout="40%")

    first = run(dag, 1)

    result = result_of(first)
    assert states(first) == ALL_WELL
    assert groups() == (known - held(known), held(known))
    assert world.braze_members() == known - held(known)
    assert (result["members"], result["unmatched"]) == (55, 15)
    assert (result["added"], result["held_out"]) == (40 - len(held(known)), len(held(known)))
    assert asset_events(first) == [result]
    [row] = world.history()
    assert (row["held_out"], row["unmatched"]) == (result["held_out"], 15)
    said = " ".join(world.mail.text("plain").split())
    assert f"Held out {len(held(known))} " in said
    assert "Unknown to Braze, tried again by the next import 15 " in said

    signed_up = unknown_held[0]
    world.sandbox.braze.add_users([signed_up])
    world.compute(known | strangers, 2)
    second = run(dag, 2)

    assert groups() == (known - held(known), held(known) | {signed_up})
    result = result_of(second)
    assert (result["added"], result["held_out"], result["unmatched"]) == (0, len(held(known)) + 1, 14)
    [(began,)] = world.sql(
        f"SELECT ENTERED_RUN FROM {world.state}.COHORT_MEMBERSHIP WHERE USER_ID = %s", [signed_up]
    )
    assert began == second.run_id


# -- read back --------------------------------------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time before a verification pass at once."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr(wait, "datetime", Later)


@pytest.mark.usefixtures("soon")
def test_a_verified_import_says_everywhere_whom_braze_does_not_know(world: World) -> None:
    world.compute({*users(*range(1, 31)), "stranger"}, 1)

    dag_run = run(world.cohort_dag(verify={"sample": 500, "after": "5m"}), 1)

    result = result_of(dag_run)
    assert states(dag_run) == ALL_WELL
    assert (result["outcome"], result["users_imported"], result["unmatched"]) == ("success", 30, 1)
    found = result["verification"]
    assert (found["sampled"], found["matched"], found["unknown"]) == (31, 30, 1)
    assert asset_events(dag_run) == [result]
    [row] = world.history()
    assert json.loads(row["verification"]) == found
    assert (row["users_imported"], row["unmatched"]) == (30, 1)
    assert "Verified all 31 changes: 96.8 % right; 1 user unknown to Braze." in " ".join(
        world.mail.text("plain").split()
    )


@pytest.mark.usefixtures("soon")
def test_a_key_that_may_not_read_back_does_not_fail_the_import(world: World) -> None:
    world.compute(users(1, 2), 1)
    world.sandbox.braze.configure(
        keys={key: ["users.track"] for key in world.sandbox.braze.settings()["keys"]}
    )

    dag_run = run(world.cohort_dag(verify=True), 1)

    result = result_of(dag_run)
    assert (str(dag_run.state), result["outcome"], result["added"]) == ("success", "success", 2)
    assert "users.export.ids" in result["verification"]["error"]
    assert "The import could not be verified" in " ".join(world.mail.text("plain").split())


# -- when it does not go well -----------------------------------------------------------------------------


def test_a_guard_stops_the_import_until_a_person_overrides_it(world: World) -> None:
    dag = world.cohort_dag()
    world.compute(users(*range(1, 11)), 1)
    run(dag, 1)
    world.sandbox.mailbox.clear()
    sent = world.write_requests()
    world.compute(users(1), 2)

    stopped = run(dag, 2)

    assert str(stopped.state) == "failed"
    assert states(stopped) == {**ALL_WELL, "import_to_braze": "failed"}
    assert world.write_requests() == sent
    assert world.braze_members() == users(*range(1, 11))
    result = result_of(stopped)
    assert (result["outcome"], result["users_imported"], result["data_points"]) == ("stopped", 10, 0)
    assert "more than guards.max_removed allows (30%)" in result["error"]
    assert world.history()[-1]["outcome"] == "stopped"
    assert world.history()[-1]["error"] == result["error"]
    assert asset_events(stopped) == []
    mail = world.mail
    assert mail.subject.endswith("stopped by a guard")
    assert "trigger the DAG once with override_guards" in mail.text("plain")
    assert "9 of the 10 users now in Braze would be removed" in mail.text("plain")

    overridden = run(dag, 2, hour=15, override_guards=True)

    assert (str(overridden.state), result_of(overridden)["removed"]) == ("success", 9)
    assert world.braze_members() == users(1)


def test_an_empty_cohort_is_stopped(world: World) -> None:
    dag = world.cohort_dag(source={"table": world.table})
    world.compute([], 1)

    dag_run = run(dag, 1)

    assert (str(dag_run.state), result_of(dag_run)["outcome"]) == ("failed", "stopped")
    assert world.write_requests() == 0
    assert "The cohort is empty at the source" in world.mail.text("plain")


def test_a_wrong_key_fails_with_one_mail_and_is_shown_nowhere(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT",
        json.dumps({"conn_type": "kubit_braze", "host": world.sandbox.braze_url, "password": WRONG_KEY}),
    )
    world.compute(users(1, 2, 3), 1)
    # With retries: a wrong key must not be tried again.
    dag = world.cohort_dag({"retries": 3})

    dag_run = run(dag, 1)

    assert str(dag_run.state) == "failed"
    assert states(dag_run) == {**ALL_WELL, "import_to_braze": "failed"}
    [tries] = [ti.try_number for ti in dag_run.get_task_instances() if ti.task_id == "import_to_braze"]
    assert tries == 1
    assert world.braze_members() == set()
    result = result_of(dag_run)
    assert (result["outcome"], result["added"], result["users_imported"]) == ("failed", 0, 0)
    assert "401" in result["error"]
    assert asset_events(dag_run) == []
    mails = world.mails()
    assert len(mails) == 1
    assert mails[0].subject.endswith(": failed")
    assert result["error"] in " ".join(mails[0].text("plain").split())
    out, err = capfd.readouterr()
    logs = "".join(
        file.read_text(errors="replace") for file in Path(world.folder.parent, "logs").rglob("*.log")
    )
    shown = {
        "output": out + err,
        "log": caplog.text,
        "log files": logs,
        "mail": mails[0].message.as_string() + mails[0].text("plain") + mails[0].text("html"),
        "xcom": json.dumps(xcoms(dag_run)),
        "history": repr(world.history()),
        "statements": repr(world.sandbox.snowflake.queries(last=1000)),
    }
    assert "import_to_braze" in shown["output"] + shown["log"], (
        "the log has to be looked at, or this proves nothing"
    )
    assert [place for place, text in shown.items() if WRONG_KEY in text] == []


def test_a_cohort_that_is_not_ready_is_mailed_with_what_is_waited_for(world: World) -> None:
    world.compute(users(1), 1)

    # At 14:00 on the 3rd the cohort of 05:00 on the 1st is 57 hours old; the sensor gives up after its first look.
    dag_run = run(world.cohort_dag(), 3)

    assert str(dag_run.state) == "failed"
    assert states(dag_run) == {
        "wait_for_cohort": "failed",
        "import_to_braze": "upstream_failed",
        "notify": "success",
    }
    mail = world.mail
    assert mail.subject.endswith("failed while waiting for the cohort")
    assert "COMPUTED_AT is 57 h old, waiting for 26 h." in mail.text("plain")
    assert world.write_requests() == 0
    assert xcoms(dag_run) == []


@pytest.fixture
def nobody_listens() -> Iterator[int]:
    """A port that refuses connections: taken, but nobody listens on it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("day_of_data", [1, None], ids=["import succeeds", "import is stopped"])
def test_a_mail_that_cannot_be_sent_changes_nothing_about_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch, nobody_listens: int, day_of_data: int | None
) -> None:
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "k@example.com", "retry_limit": 0}
    monkeypatch.setenv(
        "AIRFLOW_CONN_SMTP_DEFAULT",
        json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": nobody_listens, "extra": extra}),
    )
    world.compute(users(1) if day_of_data else [], 1)

    dag_run = run(world.cohort_dag(source={"table": world.table}), 1)

    importing, whole = ("success", "success") if day_of_data else ("failed", "failed")
    assert str(dag_run.state) == whole
    assert states(dag_run) == {**ALL_WELL, "import_to_braze": importing, "notify": "failed"}
    assert world.braze_members() == (users(1) if day_of_data else set())
    assert world.mails() == []


# -- the operator alone -----------------------------------------------------------------------------------

ALONE = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_kubit_braze.assets import cohort_asset
from airflow_provider_kubit_braze.notifications.cohort_mail import CohortMailNotifier
from airflow_provider_kubit_braze.operators.cohort_to_braze import CohortToBrazeOperator

mail = CohortMailNotifier(recipients="growth@example.com", cohort_id="{{{{ params.cohort }}}}", cohort_name="Fans")

with DAG(
    "alone_{id}",
    schedule=None,
    catchup=False,
    params={{"table": "{table}", "cohort": "{id}"}},
    default_args={{"retries": 0}},
):
    CohortToBrazeOperator(
        task_id="load",
        cohort_id="{id}",
        table="{{{{ params.table }}}}",
        identifiers={{"external_id": "USER_ID"}},
        outlets=[cohort_asset("{id}", "kubit_braze_default")],
        on_success_callback=mail,
        on_failure_callback=mail,
    )
"""


def test_the_operator_works_alone_with_templates_and_without_a_logical_date(world: World) -> None:
    world.compute(users(1, 2, 3), 1)
    dag = world.dag(ALONE.format(id=world.cohort_id, table=world.table), f"alone_{world.cohort_id}")

    dag_run = run(dag, None)

    assert (str(dag_run.state), states(dag_run)) == ("success", {"load": "success"})
    assert world.braze_members() == users(1, 2, 3)
    assert asset_events(dag_run) == [result_of(dag_run)]
    assert world.mail.subject == f"[Kubit → Braze] {result_of(dag_run)['cohort_name']}: 3 added, 0 removed"
    [(dag_id, task_id, map_index, tries)] = world.sql(
        f"SELECT DAG_ID, TASK_ID, MAP_INDEX, TRY_NUMBER FROM {world.state}.IMPORT_RUN"
    )
    assert (dag_id, task_id, map_index, tries) == (f"alone_{world.cohort_id}", "load", -1, 1)
    tag = json.loads(next(seen.tag for seen in reversed(world.sandbox.snowflake.queries()) if seen.tag))
    assert tag == {
        "app": "kubit_braze",
        "cohort": world.cohort_id,
        "dag_id": dag_id,
        "run_id": dag_run.run_id,
    }

    # And when it fails, the one mail has the figures of the failure.
    world.compute([], 2)
    assert str(run(dag, None).state) == "failed"
    assert world.mail.subject.endswith("stopped by a guard")


def test_the_example_of_campaigns_md_sends_to_whom_it_imported(world: World) -> None:
    world.compute(users(1, 2, 3), 1)

    dag_run = run(campaigns_example(world, 1, f"sale_{world.cohort_id}"), 1)

    assert states(dag_run) == {"import_to_braze": "success", "send": "success"}
    [triggered] = world.sandbox.braze.triggered()
    assert set(triggered["selected"]) == users(1, 2, 3)
    assert triggered["properties"] == {"season": "spring", "run": dag_run.run_id}
    assert {one.get("dispatch_id") for one in xcoms(dag_run)} == {None, triggered["dispatch_id"]}


def campaigns_example(world: World, number: int, dag_id: str, **more: str) -> Any:
    """A DAG of campaigns.md, with this world's names, and more arguments of its import."""
    text = (Path(__file__).resolve().parent.parent / "docs" / "campaigns.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[number].split("```")[0]
    for written, ours in (
        ("power_users", world.cohort_id),
        ("ANALYTICS.KUBIT.POWER_USERS", world.table),
        ("spring_sale", f"sale_{world.cohort_id}"),
        ("f6a01c34-0000-0000-0000-000000000000", "sandbox-campaign"),
        ("0b8e1a52-0000-0000-0000-000000000000", "sandbox-canvas"),
        (
            'verify={"sample": 100, "after": "5m"},',
            "".join(f"{name}={value}," for name, value in more.items()),
        ),
    ):
        example = example.replace(written, ours)
    world.sandbox.braze.configure(apply_delay=0)
    return world.dag(example, dag_id)


def test_a_dry_run_before_a_campaign_sends_none(world: World) -> None:
    world.compute(users(1, 2, 3), 1)

    dag_run = run(campaigns_example(world, 1, f"sale_{world.cohort_id}", dry_run="True"), 1)

    assert result_of(dag_run)["outcome"] == "dry_run"
    assert states(dag_run) == {"import_to_braze": "success", "send": "skipped"}
    assert (world.write_requests(), world.sandbox.braze.triggered()) == (0, [])


def test_a_campaign_follows_imports_and_neither_dry_runs_nor_undone_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_by: list[Any] = []
    create = dagrun.get_or_create_dagrun

    def with_events(**kwargs: Any) -> Any:
        """As the scheduler does: it hands the run the events that it has waited for."""
        found, session = create(**kwargs), kwargs["session"]
        named = [one.run_id for one in started_by]
        events = session.query(AssetEvent).filter(AssetEvent.source_run_id.in_(named)).all()
        found.consumed_asset_events.extend(events)
        session.flush()
        return found

    def follows(*imports: Any) -> str:
        dag = campaigns_example(world, 2, f"welcome_{world.cohort_id}")
        with monkeypatch.context() as patched:
            patched.setattr(dagrun, "get_or_create_dagrun", with_events)
            started_by[:] = imports
            return states(run(dag, None))["enter_canvas"]

    world.compute(users(1, 2, 3), 1)
    first, rehearsal, undone, again = (
        run(world.cohort_dag(), 1, hour=hour, **how)
        for hour, how in ((14, {}), (15, {"dry_run": True}), (16, {"undo": True}), (17, {}))
    )
    [(outcome, purpose)] = {(one["outcome"], one["purpose"]) for one in asset_events(undone)}
    assert (outcome, purpose) == ("success", "undo")

    assert follows(rehearsal) == follows(undone) == follows(undone, rehearsal) == "skipped"
    assert world.sandbox.braze.triggered() == []
    assert follows(first, rehearsal) == "success"
    # The same import makes another event when it is cleared.
    assert follows(first) == "skipped"
    assert follows(again) == follows() == "success"
    assert len(world.sandbox.braze.triggered()) == 3


EXPANDED = """
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_kubit_braze.operators.cohort_to_braze import CohortToBrazeOperator

with DAG("expanded_{id}", schedule=None, catchup=False, default_args={{"retries": 0}}):

    @task
    def pick():
        return [
            {{
                "id": "{id}_" + part,
                "source": {{"sql": "SELECT USER_ID FROM {table} WHERE USER_ID LIKE '" + like + "'"}},
                "identifiers": {{"external_id": "USER_ID"}},
            }}
            for part, like in (("ones", "user-1%"), ("twos", "user-2%"))
        ]

    CohortToBrazeOperator.partial(task_id="cohorts").expand(cohort=pick())
    CohortToBrazeOperator.partial(
        task_id="fields", identifiers={{"external_id": "USER_ID"}}, sql="SELECT USER_ID FROM {table}"
    ).expand_kwargs([{{"cohort_id": "{id}_a", "attribute": "is_a"}}, {{"cohort_id": "{id}_b", "attribute": "is_b"}}])
"""


def test_the_operator_expands_over_cohorts_and_over_fields(world: World) -> None:
    world.compute(users(10, 11, 20, 21, 22), 1)
    dag = world.dag(EXPANDED.format(id=world.cohort_id, table=world.table), f"expanded_{world.cohort_id}")

    dag_run = run(dag, 1)

    assert states(dag_run) == {
        "pick": "success",
        "cohorts[0]": "success",
        "cohorts[1]": "success",
        "fields[0]": "success",
        "fields[1]": "success",
    }
    assert world.braze_members(f"kubit_cohort_{world.cohort_id}_ones") == users(10, 11)
    assert world.braze_members(f"kubit_cohort_{world.cohort_id}_twos") == users(20, 21, 22)
    assert world.braze_members("is_a") == world.braze_members("is_b") == users(10, 11, 20, 21, 22)
    rows = world.sql(
        f"SELECT TASK_ID, MAP_INDEX, COHORT_ID, OUTCOME, ADDED FROM {world.state}.IMPORT_RUN ORDER BY 1, 2"
    )
    assert rows == [
        ("cohorts", 0, f"{world.cohort_id}_ones", "success", 2),
        ("cohorts", 1, f"{world.cohort_id}_twos", "success", 3),
        ("fields", 0, f"{world.cohort_id}_a", "success", 5),
        ("fields", 1, f"{world.cohort_id}_b", "success", 5),
    ]


# -- in shards --------------------------------------------------------------------------------------------


def test_a_cohort_in_shards_ends_as_a_whole_one_does(world: World) -> None:
    dag = world.cohort_dag(shards=3)
    everybody = users(*range(1, 31))
    world.sandbox.braze.configure(profile="default")
    world.compute(everybody, 1)

    first = run(dag, 1)
    assert world.braze_members() == everybody
    # Thirty users fit into one request.
    assert states(first) == {
        "wait_for_cohort": "success",
        "plan_import": "success",
        "deliver_shard[0]": "success",
        "import_to_braze": "success",
        "notify": "success",
    }
    result = import_result(first)
    assert (result["outcome"], result["added"], result["requests"]) == ("success", 30, 1)
    assert asset_events(first) == [result]
    assert "30" in world.mail.text()

    world.compute(everybody, 2)
    second = run(dag, 2)
    assert states(second)["deliver_shard"] == "skipped"
    assert (str(second.state), import_result(second)["outcome"]) == ("success", "unchanged")
    assert [row["outcome"] for row in world.history()] == ["success", "unchanged"]


def test_a_guard_stops_a_cohort_in_shards_in_the_task_that_says_how_it_ended(world: World) -> None:
    dag = world.cohort_dag(shards=3)
    world.compute(users(1, 2, 3, 4, 5), 1)
    run(dag, 1)
    world.sandbox.mailbox.clear()
    world.compute(users(1), 2)

    stopped = run(dag, 2)

    assert str(stopped.state) == "failed"
    found = states(stopped)
    assert (found["plan_import"], found["deliver_shard"], found["import_to_braze"], found["notify"]) == (
        "success",
        "skipped",
        "failed",
        "success",
    )
    assert import_result(stopped)["outcome"] == "stopped"
    assert "override_guards" in world.mail.text()
    assert world.braze_members() == users(1, 2, 3, 4, 5)


def test_a_sensor_that_gives_up_fails_a_cohort_in_shards(world: World) -> None:
    dag = world.cohort_dag(shards=2)
    world.compute(users(1, 2), 1)

    late = run(dag, 9)

    found = states(late)
    assert (str(late.state), found["wait_for_cohort"], found["plan_import"]) == (
        "failed",
        "failed",
        "upstream_failed",
    )
    assert "COMPUTED_AT" in world.mail.text()
    assert world.write_requests() == 0


def test_a_shard_that_fails_fails_the_import_and_its_figures_say_what_was_accepted(world: World) -> None:
    dag = world.cohort_dag(shards=2, braze={"conn_id": "kubit_braze_default"})
    everybody = users(*range(1, 31))
    world.compute(everybody, 1)
    world.sandbox.braze.fault("status", "/users/track", status=401, times=None)

    failed = run(dag, 1)

    found = states(failed)
    assert (found["deliver_shard[0]"], found["import_to_braze"]) == ("failed", "failed")
    result = import_result(failed)
    assert (result["outcome"], result["added"]) == ("failed", 0)
    assert "Shard 1 of 1 did not send all of its part" in result["error"]
    assert "Shard 1 of 1 did not send all of its part" in world.mail.text()

    world.sandbox.braze.clear_faults()
    assert import_result(run(dag, 1, hour=15))["outcome"] == "success"
    assert world.braze_members() == everybody


def import_result(dag_run: Any) -> dict[str, Any]:
    """The result of the import among the XComs of all tasks."""
    [value] = [found for found in xcoms(dag_run) if isinstance(found, dict) and "outcome" in found]
    assert isinstance(value, dict)
    return value
