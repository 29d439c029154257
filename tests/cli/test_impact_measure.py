"""``kubit-braze impact COHORT``: measured for real, from an import and a share in the local Snowflake."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.cli import main
from airflow_provider_kubit_braze.core.impact.html_report import impact_html
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import World

APP_GROUP = "ours"
DAY = 86_400

_numbers = count(1)

#: What these tests have rows of; a share of 104 tables takes long to make and to look through.
TABLES = (
    "USERS_MESSAGES_EMAIL_SEND_SHARED",
    "USERS_MESSAGES_EMAIL_CLICK_SHARED",
    "USERS_MESSAGES_PUSHNOTIFICATION_SEND_SHARED",
    "USERS_BEHAVIORS_PURCHASE_SHARED",
    "USERS_BEHAVIORS_CUSTOMEVENT_SHARED",
)

USERS = [f"user-{number:02}" for number in range(40)]


class Share:
    """A share of its own, with rows of days ago."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = f"CLI_SHARE_{next(_numbers)}.PUBLIC"
        without = [one for one in catalogue() if one not in TABLES]
        make_share_tables(world.session.connection, self.name, without=without)

    def row(self, table: str, user: str, days_ago: float, **values: Any) -> None:
        seconds = int(time.time() - days_ago * DAY)
        known: dict[str, Any] = {
            "ID": f"event {next(_numbers)}",
            "USER_ID": f"braze {user}",
            "EXTERNAL_USER_ID": user,
            "APP_GROUP_ID": APP_GROUP,
            "TIME": seconds,
            "SF_CREATED_AT": datetime.fromtimestamp(seconds + 60, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            **values,
        }
        given = {name: value for name, value in known.items() if name in catalogue()[table]}
        self.world.session.execute(
            f"INSERT INTO {self.name}.{table} ({', '.join(given)}) VALUES ({', '.join(['%s'] * len(given))})",
            list(given.values()),
        )


@pytest.fixture
def share(world: World) -> Share:
    """Have half of 40 users held out; a mail went to the others 15 days ago, and a push to five of them."""
    found = Share(world)
    world.define(
        holdout="50%", braze={"share": found.name, "app_group_id": APP_GROUP}, impact={"window": "5d"}
    )
    world.imported(*USERS)
    world.session.execute(
        f"UPDATE {world.schema}.COHORT_MEMBERSHIP SET ENTERED_AT = DATEADD('day', -30, ENTERED_AT)"
    )
    members = sorted(world.members())
    assert 0 < len(members) < len(USERS)
    for user in members:
        found.row("USERS_MESSAGES_EMAIL_SEND_SHARED", user, 15, CAMPAIGN_API_ID="spring")
    for user in members[:5]:
        found.row("USERS_MESSAGES_PUSHNOTIFICATION_SEND_SHARED", user, 14, CANVAS_API_ID="welcome")
    for user in members[:3]:
        found.row("USERS_BEHAVIORS_PURCHASE_SHARED", user, 12, PRICE=10.0, CURRENCY="USD")
        # Not within five days.
        found.row("USERS_BEHAVIORS_CUSTOMEVENT_SHARED", user, 3, NAME="booked")
    found.row("USERS_BEHAVIORS_CUSTOMEVENT_SHARED", members[0], 1, NAME="looked")
    # Until then it is known what users have bought, and that the others have not.
    found.row("USERS_BEHAVIORS_PURCHASE_SHARED", "a stranger", 1, PRICE=10.0, CURRENCY="USD")
    return found


def impact(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["impact", *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = impact(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_terminal_json_and_file_say_the_same_of_what_the_cohort_file_asks(
    world: World, share: Share, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    members = len(world.members())
    target = tmp_path / "impact.html"
    found = as_json(capsys, "vips", "--file", str(world.file), "--html", str(target))

    assert [one["id"] for one in found["messages"]] == ["all", "spring", "welcome"]
    assert found["cohort_name"] == "Our V.I.P.s"
    whole, spring, welcome = found["messages"]
    assert [one["figures"]["reached"] for one in (whole, spring, welcome)] == [members, members, 5]
    assert found["measure"] == "purchase within 5d"
    assert [one["figures"]["delivered"] for one in (spring, welcome)] == [None, None]
    [judged] = spring["experiments"]
    assert judged["control_kind"] == "holdout"
    assert (judged["treated_users"], judged["control_users"]) == (members, len(USERS) - members)
    assert judged["conversion"]["treated"] == pytest.approx(3 / members)
    # What the file asks for; its holdout is what the sizes are checked against.
    assert judged["sample_ratio"]["expected"] == 0.5
    assert target.read_text(encoding="utf-8") == impact_html(found)

    code, out, err = impact(capsys, "vips", "--file", str(world.file))
    said = " ".join(out.split())
    assert (code, err) == (0, "")
    assert said.startswith("Our V.I.P.s (vips): purchase within 5d ")
    assert spring["experiments"][0]["conversion"]["sentence"] in said
    assert f"{members} treated users, {len(USERS) - members} held out." in said


def test_options_ask_another_question_than_the_file(
    world: World, share: Share, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*options: str) -> dict[str, Any]:
        return as_json(capsys, "vips", "--file", str(world.file), *options)

    changed = ("--canvas", "welcome", "--goal", "booked", "--window", "12d", "--timezone", "Asia/Tokyo")
    found = ask(*changed)
    assert (found["goal"], found["window_seconds"], found["timezone"]) == ("booked", 12 * DAY, "Asia/Tokyo")
    [message] = found["messages"]
    assert message["id"] == "welcome"
    [judged] = message["experiments"]
    assert judged["conversion"]["treated"] == pytest.approx(3 / len(world.members()))
    # Nothing new has come, so that few days are counted again unless that is wanted.
    assert ask(*changed)["days_measured"] < found["days_measured"]
    assert ask(*changed, "--full-refresh", "--campaign", "spring")["days_measured"] == found["days_measured"]

    late = ask("--since", str(datetime.now(UTC).date()), "--until", str(datetime.now(UTC).date()))
    assert (late["messages"], late["since"]) == ([], late["until"])


def test_a_question_that_is_asked_once_leaves_the_summary_of_the_daily_one(
    world: World, share: Share, capsys: pytest.CaptureFixture[str]
) -> None:
    def summed_up() -> list[tuple[Any, ...]]:
        return world.session.rows(
            f"SELECT DISTINCT MESSAGE_ID FROM {world.schema}.IMPACT_SUMMARY ORDER BY MESSAGE_ID"
        )

    every = [("all",), ("spring",), ("welcome",)]
    of_file = ("vips", "--file", str(world.file))
    as_json(capsys, *of_file)
    assert summed_up() == every
    assert len(as_json(capsys, *of_file, "--canvas", "welcome")["messages"]) == 1
    assert summed_up() == every

    # Without a file nothing says what the DAG asks, nor what share is held out.
    without = ("vips", "--share", share.name, "--app-group-id", APP_GROUP, "--window", "5d")
    a_week_ago = str(datetime.now(UTC).date() - timedelta(days=7))
    for some in (["--campaign", "spring"], ["--canvas", "welcome"], ["--since", a_week_ago]):
        as_json(capsys, *without, *some)
        assert summed_up() == every, some
    a_month_ago = str(datetime.now(UTC).date() - timedelta(days=30))
    assert as_json(capsys, *without, "--until", a_month_ago)["messages"] == []
    assert summed_up() == every
    world.session.execute(f"DELETE FROM {world.schema}.IMPACT_SUMMARY")
    as_json(capsys, *without)
    assert summed_up() == []


def test_without_a_file_the_ledger_and_the_options_have_to_do(
    world: World, share: Share, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, "vips", "--share", share.name, "--app-group-id", APP_GROUP, "--window", "5d")
    [judged] = found["messages"][1]["experiments"]
    assert judged["treated_users"] == len(world.members())
    # What share was to be held out only the file knows.
    assert judged["sample_ratio"] is None
    assert [note for note in found["notes"] if "was not checked, as it is not said what share" in note]
    other = as_json(capsys, "vips", "--share", share.name, "--app-group-id", "theirs")
    assert other["messages"] == []


def test_no_user_is_named_in_what_is_shown_or_written(
    world: World,
    share: Share,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = tmp_path / "impact.html"
    _, out, err = impact(capsys, "vips", "--file", str(world.file), "--html", str(target))
    assert "user-" not in out + err + target.read_text(encoding="utf-8") + caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--window", "7x"], "field 'window': '7x' is no duration"),
        (["--window", "100d"], "write 90d or less"),
        (["--since", "yesterday"], "field 'since': 'yesterday' is no day; write a date such as 2026-01-31."),
        (["--since", "2026-02-01", "--until", "2026-01-01"], "the first day, 2026-02-01, is after the last"),
        (["--timezone", "Mars/Base"], "Mars/Base"),
        (["--campaign", "two words"], "is not the API identifier of a campaign or Canvas"),
        (["--goal", " "], "is no goal"),
        (["--share", "PUBLIC"], "write database and schema, such as BRAZE_SHARE.PUBLIC"),
        (["--html", "/no/such/folder/impact.html"], "name a file in a folder that is there"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_before_anything_is_asked(
    options: list[str],
    said: str,
    world: World,
    capsys: pytest.CaptureFixture[str],
    asked_since: Callable[[], list[str]],
) -> None:
    world.define(braze={"share": "NO_SHARE.PUBLIC", "app_group_id": APP_GROUP})
    code, out, err = impact(capsys, "vips", "--file", str(world.file), *options)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert asked_since() == []


@pytest.fixture
def asked_since(world: World) -> Callable[[], list[str]]:
    """Return what was asked of Snowflake since."""
    # It remembers so many statements and no more: what came since is behind this one, and not behind so many others.
    mark = f"SELECT 'mark {uuid.uuid4().hex}'"
    world.session.execute(mark)

    def since() -> list[str]:
        seen = [one.sql for one in world.sandbox.snowflake.queries(last=10_000)]
        return seen[seen.index(mark) + 1 :]

    return since


def test_who_says_nothing_of_a_share_is_told_how(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = impact(capsys, "vips", "--file", str(world.file))
    assert code == 2
    assert "Nothing says where Braze's data share is: give --share DB.SCHEMA" in err
    code, _, err = impact(capsys, "vips", "--share", "A.B")
    assert code == 2
    assert "give --app-group-id ID" in err
    code, _, err = impact(capsys)
    assert (code, err) == (2, "Name a cohort to measure, or give --check to look what a share can yield.\n")


def test_a_share_that_cannot_be_read_is_a_failure_in_one_sentence(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("vips", "--share", "NO_SHARE.PUBLIC", "--app-group-id", APP_GROUP)
    code, out, err = impact(capsys, *options)
    assert (code, out) == (1, "")
    assert "No import has ever brought anybody of cohort 'vips'" in err
    world.define()
    world.imported("ann")
    code, out, err = impact(capsys, *options)
    assert (code, out) == (1, "")
    assert "NO_SHARE" in err
