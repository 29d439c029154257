"""``kubit-braze impact --check``: what a share can yield, asked of the local Snowflake."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_kubit_braze.cli import main
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.core.share_figures import FIGURES
from airflow_provider_kubit_braze.sandbox.braze_share import LATEST_DEFAULT, make_share_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

SHARE = "BRAZE_SHARE_DB.IMPACT_CHECK"
HALF_SHARE = "BRAZE_SHARE_DB.HALF_OF_IT"
HALF = list(catalogue())[1::2]


@pytest.fixture(scope="module")
def connection(kubit_braze_sandbox: Sandbox) -> Iterator[SnowflakeConnection]:
    with closing(kubit_braze_sandbox.connect()) as opened:
        assert make_share_tables(opened, SHARE) == 104
        yield opened


def check(capsys: pytest.CaptureFixture[str], *more: str, share: str = SHARE) -> tuple[int, str]:
    code = main(["impact", "--check", "--share", share, *more])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_a_whole_share_yields_everything_and_one_query_tells(
    kubit_braze_clean_sandbox: Sandbox, connection: SnowflakeConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = check(capsys, "--json")
    found = json.loads(text)

    assert code == 0
    assert found["tables"]["missing"] == []
    assert found["tables"]["missing_columns"] == {}
    assert found["tables"]["unknown"] == []
    assert len(found["figures"]) == len(FIGURES)
    assert all(one["possible"] for one in found["figures"])
    seen = [
        one.sql for one in kubit_braze_clean_sandbox.snowflake.queries(last=20) if "IMPACT_CHECK" in one.sql
    ]
    assert len([sql for sql in seen if "INFORMATION_SCHEMA" in sql.upper()]) == 1


def test_what_people_see(connection: SnowflakeConnection, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(capsys)
    assert code == 0
    assert f"{SHARE}: 104 of the 104 tables that Braze documents" in text
    assert "match and verify ask the API" in text
    assert "missing" not in text
    assert "campaigns, Canvases, campaign variations, Canvas variations, experiment steps" in text
    [line] = [one for one in text.splitlines() if one.startswith("email")]
    assert line.split() == ["email", *["yes"] * 5]
    assert "clicked, banner: not of Canvases." in text


def test_half_a_share_yields_what_it_can_and_names_what_it_cannot(
    connection: SnowflakeConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    purchases = "USERS_BEHAVIORS_PURCHASE_SHARED"
    assert purchases not in HALF
    assert make_share_tables(connection, HALF_SHARE, without=HALF) == 52
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {HALF_SHARE}.{purchases} DROP COLUMN CURRENCY")
        cursor.execute(f"CREATE TABLE {HALF_SHARE}.USERS_MESSAGES_HOLOGRAM_SEND_SHARED (ID VARCHAR)")
        cursor.execute(f"CREATE TABLE {HALF_SHARE}.{LATEST_DEFAULT} (USER_ID VARCHAR)")

    code, shown = check(capsys, "--json", share=HALF_SHARE)
    found = json.loads(shown)
    _, text = check(capsys, share=HALF_SHARE)

    assert code == 1
    assert found["tables"]["missing"] == HALF
    assert found["tables"]["missing_columns"] == {purchases: ["CURRENCY"]}
    assert found["tables"]["unknown"] == ["USERS_MESSAGES_HOLOGRAM_SEND_SHARED"]
    assert found["tables"]["profile_views"] == {"who is known": [LATEST_DEFAULT], "custom attributes": []}
    possible = {(one["figure"], one["scope"]) for one in found["figures"] if one["possible"]}
    for one in found["figures"]:
        # Told from the tables that were dropped, not from what the check says.
        whole = not set(one["tables"]) & set(HALF) and one["tables"] != [purchases]
        assert ((one["figure"], one["scope"]) in possible) == whole, one
    assert 0 < len(possible) < len(FIGURES)
    for one in found["figures"]:
        if not one["possible"]:
            assert (
                f"{one['figure']}, {one['scope']}: not possible, as the share lacks {one['missing'][0]}"
                in text
            )
    assert f"column CURRENCY of {purchases}" in text


def test_each_missing_table_is_named_in_groups_and_whether_a_figure_needs_it(
    connection: SnowflakeConnection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    share = "BRAZE_SHARE_DB.SHORT_OF_A_FEW"
    without = [
        "USERS_MESSAGES_EMAIL_OPEN_SHARED",
        "USERS_MESSAGES_SMS_SEND_SHARED",
        "USERS_CANVAS_REVENUE_SHARED",
        "USERS_MESSAGES_EMAIL_ABORT_SHARED",
        "USERS_MESSAGES_NEWSFEEDCARD_CLICK_SHARED",
        "USERS_USERDELETEREQUEST_SHARED",
    ]
    make_share_tables(connection, share, without=without)
    _, text = check(capsys, share=share)
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("missing tables"))
    assert [line.strip() for line in lines[at : at + 4]] == [
        "missing tables               USERS_CANVAS_REVENUE_SHARED",
        "USERS_MESSAGES_.._SHARED: EMAIL_OPEN, SMS_SEND",
        "missing, in no figure        USERS_MESSAGES_.._SHARED: EMAIL_ABORT, NEWSFEEDCARD_CLICK",
        "USERS_USERDELETEREQUEST_SHARED",
    ]
    monkeypatch.setenv("COLUMNS", "70")
    _, narrow = check(capsys, share=share)
    assert max(map(len, narrow.splitlines())) <= 70


def test_where_names_are_missing_it_is_said_what_is_shown_by_its_id(
    connection: SnowflakeConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    share = "BRAZE_SHARE_DB.NAMELESS"
    variations, steps = "SNAPSHOTS_CANVAS_VARIATION_SHARED", "SNAPSHOTS_EXPERIMENT_STEP_SHARED"
    make_share_tables(connection, share, without=[variations])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {share}.{steps} DROP COLUMN NAME")
    code, text = check(capsys, share=share)
    # It is no figure that is missing.
    assert code == 0
    [names] = [line for line in text.splitlines() if line.startswith("names  ")]
    assert names.endswith("  campaigns, Canvases, campaign variations")
    said = "shown by their ids, as the share lacks"
    assert f"names, Canvas variations: {said} table {variations}." in text
    assert f"names, experiment steps: {said} column NAME of {steps}." in text
    _, text = check(capsys, "--json", share=share)
    known = {one["of"]: (one["known"], one["missing"]) for one in json.loads(text)["names"]}
    assert known == {
        "campaign variations": (True, []),
        "Canvas variations": (False, [f"table {variations}"]),
        "experiment steps": (False, [f"column NAME of {steps}"]),
    }


def test_a_share_that_is_not_there_is_answered_with_the_sql_that_makes_it(
    kubit_braze_clean_sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = check(capsys, share="NO_SHARE.PUBLIC")
    assert code == 1
    assert "CREATE DATABASE NO_SHARE FROM SHARE <PROVIDER_ACCOUNT>.<SHARE>;" in text
    assert "GRANT IMPORTED PRIVILEGES ON DATABASE NO_SHARE TO ROLE" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["impact", "--share", SHARE], "--check"),
        (["impact", "--check"], "--share"),
        (["impact", "--check", "--share", "PUBLIC"], "write database and schema, such as BRAZE_SHARE.PUBLIC"),
        (["impact", "--check", "--share", SHARE, "--snowflake-conn-id", ""], "is not a connection id"),
        *(
            (["impact", "--check", "--share", SHARE, *more], f"--check measures nothing: leave {more[0]} out")
            for more in (
                ["--file", "dags"],
                ["--braze-conn-id", "one"],
                ["--app-group-id", "ours"],
                ["--campaign", "one"],
                ["--canvas", "one"],
                ["--goal", ""],
                ["--window", "7d"],
                ["--since", "2026-01-31"],
                ["--until", "2026-01-31"],
                ["--timezone", "UTC"],
                ["--full-refresh"],
                ["--html", "report.html"],
            )
        ),
        (["impact", "--check", "--share", SHARE, "--limit", "5"], "--limit is about the life of one user"),
        (["impact", "vips", "--limit", "5"], "--limit is about the life of one user"),
    ],
)
def test_wrong_use_says_what_is_missing(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert (code, said in capsys.readouterr().err) == (2, True)
