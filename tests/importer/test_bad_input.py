"""What goes wrong before or while sending: one clear sentence, nothing half-recorded, no secret anywhere."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.errors import ProgrammingError

from airflow_provider_kubit_braze.exceptions import StateSchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "a-key-nobody-may-ever-see-4711"


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port of this machine that is taken, so that nobody else gets it, and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def yesterday(world: Any) -> Any:
    """The world after a first good import of five, with one who is to come and one who is to go today."""
    world.people("a", "b", "c", "d", "e", "new")
    world.source("a", "b", "c", "d", "e")
    world.imported("day 1")
    world.source("b", "c", "d", "e", "new")
    return world


def assert_one_clear_sentence(end: Any) -> None:
    assert str(end.error) == end.result.error
    assert end.result.outcome == "failed"
    assert "\n" not in str(end.error)
    assert 20 < len(str(end.error)) < 600
    assert "Traceback" not in str(end.error)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param(
            {"source": {"sql": "SELECT USER_ID FORM MEMBERS"}},
            r"^Cohort 'vips': Snowflake refuses source\.sql: ",
            id="sql-error",
        ),
        pytest.param(
            {"source": {"table": "NOWHERE.MEMBERS"}},
            r"^Cohort 'vips': Snowflake refuses source\.table NOWHERE\.MEMBERS: .*NOWHERE",
            id="no-such-table",
        ),
        pytest.param(
            {"identifiers": {"external_id": "USER_ID", "email": "MAIL"}},
            r"^Cohort 'vips': identifiers\.email names column MAIL, which the source does not have; "
            r"its columns are USER_ID\.$",
            id="no-such-column",
        ),
    ],
)
def test_a_source_that_cannot_be_read_is_told_and_changes_nothing(
    yesterday: Any, fields: dict[str, Any], words: str
) -> None:
    before, requests = yesterday.state("run"), yesterday.braze.counters().write_requests

    end = yesterday.run("day 2", **fields)

    assert_one_clear_sentence(end)
    assert re.search(words, str(end.error))
    assert not end.retry_helps
    assert (yesterday.state("run"), yesterday.braze.counters().write_requests) == (before, requests)
    assert yesterday.rows("run", "STATE, OUTCOME, ERROR, USERS_IMPORTED", "RUN_ID = 'day 2'") == [
        ("closed", "failed", end.result.error, 5)
    ]
    assert yesterday.imported("day 3").outcome == "success"


def test_an_error_that_only_the_data_causes_names_nobody(yesterday: Any, everything_said: Any) -> None:
    before = yesterday.state("run")
    sql = f"SELECT CAST(USER_ID AS NUMBER(38,0)) AS USER_ID FROM {yesterday.schema}.SOURCE"

    end = yesterday.run("day 2", source={"sql": sql})

    assert_one_clear_sentence(end)
    assert "refuses source.sql: " in str(end.error)
    assert not re.search(r"'(b|c|d|e|new)'", str(end.error))
    assert yesterday.state("run") == before


def test_without_a_place_for_the_state_the_grants_are_told(world: Any) -> None:
    world.people("a")
    words = "003001 (42501): SQL access control error:\nInsufficient privileges to operate on schema"

    class Limited:
        database, role = "DEMO", "LOADER"

        def __init__(self) -> None:
            self.inner = world.sandbox.connect()
            self.close = self.inner.close

        def cursor(self) -> Any:
            cursor = self.inner.cursor()
            execute = cursor.execute

            def limited(sql: str, params: Any = None) -> None:
                if sql.startswith("CREATE"):
                    raise ProgrammingError(msg=words, errno=3001, sqlstate="42501", send_telemetry=False)
                execute(sql, params)

            cursor.execute = limited
            return cursor

    with pytest.raises(
        StateSchemaError, match=r"GRANT USAGE, CREATE TABLE ON SCHEMA DEMO\.KB_I\d+ TO ROLE LOADER"
    ):
        world.run(connect=Limited)

    assert world.braze.counters().write_requests == 0


def test_a_wrong_key_stops_at_once_and_shows_itself_nowhere(yesterday: Any, everything_said: Any) -> None:
    wrong = "another-key-nobody-may-see-0815"
    before = yesterday.state("run", "change")

    end = yesterday.run("day 2", braze={"rest_key": wrong})

    assert_one_clear_sentence(end)
    assert re.search(r"^Braze at 127\.0\.0\.1:\d+ refused the REST API key \(HTTP 401: ", str(end.error))
    assert (end.retry_helps, end.result.data_points, end.result.users_imported) == (False, 0, 5)
    assert yesterday.state("run", "change") == before
    assert yesterday.imported("day 2", 2).outcome == "success"
    assert yesterday.cohort_in_braze() == yesterday.users() == {"b", "c", "d", "e", "new"}
    said = everything_said(yesterday, [end])
    assert wrong not in said
    assert KEY not in said


def test_a_key_that_braze_repeats_in_its_answer_is_blotted_out(yesterday: Any, everything_said: Any) -> None:
    yesterday.braze.fault(
        "status", "/users/track", status=401, body={"message": f"Bad key {KEY}!"}, times=None
    )
    ends = [yesterday.run("day 2")]
    yesterday.braze.clear_faults()
    yesterday.braze.fault("status", "/users/track", status=500, body=f"trouble with {KEY}", times=None)
    ends += [yesterday.run("day 2", 2)]
    yesterday.braze.clear_faults()
    yesterday.braze.fault("reject_ids", "/users/track", ids=["new"], message=f"refused for {KEY}")
    ends += [yesterday.run("day 2", 3, guards={"max_rejected": None})]

    assert [end.result.outcome for end in ends] == ["failed", "failed", "partial"]
    assert "Bad key" in str(ends[0].error)
    assert "trouble with" in str(ends[1].error)
    ((reason,),) = yesterday.rows("rejected", "REASON")
    assert reason.startswith("refused for ")
    assert KEY not in everything_said(yesterday, ends)


def test_a_missing_permission_is_named(yesterday: Any) -> None:
    yesterday.braze.configure(keys={KEY: ["users.export.ids"]})
    before = yesterday.state("run", "change")

    end = yesterday.run("day 2")

    assert_one_clear_sentence(end)
    assert re.search(r"REST API key lacks .*users\.track.* at 127\.0\.0\.1:\d+ \(HTTP 403: ", str(end.error))
    assert (end.retry_helps, yesterday.state("run", "change")) == (False, before)


def test_a_host_that_is_not_braze_is_told_apart(yesterday: Any) -> None:
    before = yesterday.state("run", "change")

    end = yesterday.run("day 2", braze={"base_url": f"{yesterday.sandbox.braze_url}/elsewhere"})

    assert_one_clear_sentence(end)
    assert re.search(
        r"does not answer like a Braze REST endpoint \(HTTP 404: .*\)\. Check the host of the connection\.$",
        str(end.error),
    )
    assert (end.retry_helps, yesterday.state("run", "change")) == (False, before)


def test_a_host_at_which_nobody_listens_is_told(yesterday: Any, deaf_port: int) -> None:
    before = yesterday.state("run", "change")

    end = yesterday.run("day 2", braze={"base_url": f"http://127.0.0.1:{deaf_port}"})

    assert_one_clear_sentence(end)
    assert f"Braze at 127.0.0.1:{deaf_port} did not take a request in 3 attempts (no connection: " in str(
        end.error
    )
    assert str(end.error).endswith("Check the host of the connection, and that this machine may reach it.")
    assert (yesterday.state("run", "change"), end.result.requests) == (before, 0)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_workspace_that_is_down_throughout_is_told_and_a_retry_goes_on(yesterday: Any, status: int) -> None:
    before, stays = yesterday.state("run", "change", "progress"), yesterday.stays()
    yesterday.braze.fault("status", "/users/track", status=status, times=None)

    end = yesterday.run("day 2")

    assert_one_clear_sentence(end)
    assert re.search(
        rf"^Braze at 127\.0\.0\.1:\d+ did not take a request in 3 attempts \(HTTP {status}: .*\)\.$",
        str(end.error),
    )
    assert (end.retry_helps, end.result.added, end.result.removed) == (True, 0, 0)
    assert (yesterday.state("run", "change", "progress"), yesterday.stays()) == (before, stays)
    yesterday.braze.clear_faults()

    result = yesterday.imported("day 2", 2)

    assert (result.outcome, result.added, result.removed) == ("success", 1, 1)
    assert yesterday.cohort_in_braze() == yesterday.users() == {"b", "c", "d", "e", "new"}
    assert yesterday.rows("run", "STATE, OUTCOME", "RUN_ID = 'day 2'") == [("closed", "success")]


def test_braze_that_refuses_every_request_stops_the_import(world: Any) -> None:
    world.people(*[f"u{n:02}" for n in range(40)])
    world.braze.fault("status", "/users/track", status=405, times=None)

    end = world.run(braze={"max_objects_per_request": 1, "max_in_flight": 1})

    assert_one_clear_sentence(end)
    assert (end.retry_helps, world.stays(), end.result.requests) == (False, set(), 1)


def test_nothing_that_is_said_of_a_good_import_holds_a_key_or_at_info_a_user(
    world: Any, everything_said: Any, caplog: pytest.LogCaptureFixture
) -> None:
    users = [f"somebody-{n}@example.com" for n in range(30)]
    world.braze.add_users([{"email": user} for user in users])
    world.source(*users)

    end = world.run(identifiers={"email": "USER_ID"}, holdout="20%")

    assert end.error is None
    assert KEY not in everything_said(world, [end])
    ours = [r for r in caplog.records if r.name.startswith("airflow_provider_kubit_braze")]
    assert any("Will add" in record.getMessage() for record in ours)
    at_info = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
    assert not any("somebody-" in message for message in at_info)
