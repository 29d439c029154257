"""``kubit-braze impact COHORT --user`` and ``--timeline``: asked of the local Snowflake, after an import."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.cli import main
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables

if TYPE_CHECKING:
    from tests.cli.conftest import World

APP_GROUP = "ours"
TABLES = (
    "USERS_MESSAGES_EMAIL_SEND_SHARED",
    "USERS_BEHAVIORS_PURCHASE_SHARED",
    "USERS_BEHAVIORS_CUSTOMEVENT_SHARED",
    "CHANGELOGS_CAMPAIGN_SHARED",
)

_numbers = count(1)


class Asked:
    """The command, with a cohort of two users of whom one has a life."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.capsys = capsys
        self.share = f"LIFE_SHARE_{next(_numbers)}.PUBLIC"
        without = [one for one in catalogue() if one not in TABLES]
        make_share_tables(world.session.connection, self.share, without=without)
        world.define(braze={"share": self.share, "app_group_id": APP_GROUP})
        world.imported("ann", "bob")
        self.row("USERS_MESSAGES_EMAIL_SEND_SHARED", CAMPAIGN_API_ID="spring", ago=6000)
        self.row("USERS_BEHAVIORS_CUSTOMEVENT_SHARED", NAME="sign\x1b[2Jup", ago=4000)
        self.row("USERS_BEHAVIORS_PURCHASE_SHARED", PRICE=1234.5, CURRENCY="EUR", ago=2000)
        self.row("CHANGELOGS_CAMPAIGN_SHARED", API_ID="spring", NAME="Spring [bold]sale", ago=9000)

    def row(self, table: str, *, ago: int, **values: Any) -> None:
        seconds = int(time.time()) - ago
        known = {
            "ID": f"event {next(_numbers)}",
            "USER_ID": "profile of ann",
            "EXTERNAL_USER_ID": "ann",
            "APP_GROUP_ID": APP_GROUP,
            "TIME": seconds,
            **values,
        }
        given = {name: value for name, value in known.items() if name in catalogue()[table]}
        self.world.session.execute(
            f"INSERT INTO {self.share}.{table} ({', '.join(given)}) VALUES ({', '.join(['%s'] * len(given))})",
            list(given.values()),
        )

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = main(["impact", "vips", "--file", str(self.world.file), *arguments])
        out, err = self.capsys.readouterr()
        return code, out, err


@pytest.fixture
def asked(world: World, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(world, capsys)


def test_the_life_of_a_user_on_one_screen(asked: Asked) -> None:
    code, out, err = asked("--user", "ann")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "ann and Our V.I.P.s (vips)"
    found = [line.split(maxsplit=2)[2].rstrip() for line in lines if line.startswith("20")]
    assert [" ".join(line.split()) for line in found] == [
        "sent, email Spring [bold]sale",
        "event sign?[2Jup",
        "purchase 1,234.50 EUR",
        "entered the cohort",
    ]
    assert "Not told, as the share lacks their tables: profile merged, install, first session, session" in out
    assert "; push (sent, bounced, opened the app after it, opened); " in out
    assert "ann" not in err
    assert "profile of" not in out + err


def test_the_days_of_the_file_bound_no_life(asked: Asked) -> None:
    today = datetime.now(UTC).date()
    asked.world.define(
        impact={
            "source": asked.share,
            "app_group_id": APP_GROUP,
            "since": (today + timedelta(days=1)).isoformat(),
            "until": (today + timedelta(days=2)).isoformat(),
        }
    )
    code, out, err = asked("--user", "ann", "--json")
    assert code == 0, err
    assert len(json.loads(out)["moments"]) == 4
    later = (today + timedelta(days=1)).isoformat()
    code, out, err = asked("--user", "ann", "--since", later, "--json")
    assert (code, out) == (1, "")
    assert f"the first day, {later}, is still to come" in err
    code, _, err = asked("--timeline", "--until", today.isoformat())
    assert code == 2
    assert (
        f"--until {today} is before {later}, the first day in the cohort file: give --since as well." in err
    )
    code, _, err = asked("--timeline", "--since", (today + timedelta(days=3)).isoformat())
    assert code == 2
    assert "the last day in the cohort file: give --until as well." in err


def test_a_program_gets_all_of_it_and_the_latest_when_it_asks_for_few(asked: Asked) -> None:
    code, out, _ = asked("--user", "profile of ann", "--limit", "2", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["user"], found["cohort_id"], found["profiles"]) == ("profile of ann", "vips", 1)
    assert (len(found["moments"]), found["left_out"]) == (2, 2)
    [bought] = [one for one in found["moments"] if one["what"] == "purchase"]
    assert (bought["amount"], bought["currency"], bought["message"]) == (1234.5, "EUR", "")
    assert "install: the share lacks table USERS_BEHAVIORS_INSTALLATTRIBUTION_SHARED." in found["missing"]


def test_nothing_known_of_a_user_is_a_finding(asked: Asked) -> None:
    code, out, _ = asked("--user", "zoë")
    assert code == 1
    assert "Nothing is known of such a user" in out


def test_the_days_of_the_cohort(asked: Asked) -> None:
    today = datetime.now(UTC).date()
    since = (today - timedelta(days=2)).isoformat()
    code, out, err = asked("--timeline", "--since", since, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["days"]) in (3, 4)
    last = found["days"][-1]["figures"]
    assert (last["members"], last["held_out"], last["session"]) == (2, 0, None)
    assert sum(one["figures"]["entered"] for one in found["days"]) == 2
    assert sum(one["figures"]["purchase"] for one in found["days"]) == 1
    code, out, _ = asked("--timeline", "--since", since)
    assert code == 0
    [line] = [one for one in out.splitlines() if one.startswith(found["days"][-1]["day"])]
    # No message is told to have been opened where no table tells it.
    assert line.split()[1:3] == ["2", "-"]
    assert "?" in line


def test_a_cohort_that_was_never_imported_is_told_and_no_table_of_dashes(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--share", asked.share, "--app-group-id", APP_GROUP]
    assert main(["impact", "vip", *where, "--timeline"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "No import has ever brought anybody of cohort 'vip' into workspace" in err
    assert main(["impact", "vip", *where, "--user", "ann"]) == 0
    out, _ = capsys.readouterr()
    assert "purchase" in out
    assert "No stay is told: no import has ever brought anybody of cohort 'vip'" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", " "], "The user's id is blank"),
        (["--user", ""], "The user's id is blank"),
        (["--user", "ann", "--goal", ""], "--user measures nothing: leave --goal out."),
        (["--timeline", "--limit", "5"], "--timeline tells every day: leave --limit out."),
        (["--user", "ann", "--html", "report.html"], "--user measures nothing: leave --html out."),
        (["--timeline", "--full-refresh"], "--timeline measures nothing: leave --full-refresh out."),
        (["--timeline", "--check"], "leave --check out"),
        (["--timeline", "--since", "soon"], "no day"),
    ],
)
def test_what_makes_no_sense_is_refused(
    world: World, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    world.define(braze={"share": "NO.SHARE", "app_group_id": APP_GROUP})
    code = main(["impact", "vips", "--file", str(world.file), *arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err


def test_a_cohort_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["impact", "--timeline", "--share", "A.B", "--app-group-id", "x"]) == 2
    assert "Name a cohort" in capsys.readouterr().err
