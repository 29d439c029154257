"""A measurement goes on from the last one, keeps what it found, and says what it could not find."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.errors import ProgrammingError

from airflow_provider_kubit_braze import measuring
from airflow_provider_kubit_braze.exceptions import (
    CohortConfigError,
    NeverImportedError,
    SourceError,
    StatementBrokenOffError,
)
from airflow_provider_kubit_braze.sandbox.braze_share import (
    fill_profile_share,
    make_profile_view,
    make_share_tables,
)
from airflow_provider_kubit_braze.warehouse.impact_work import WorkTables
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.share_check import Inventory
from tests.warehouse.impact_world import NOW, World, at, figures

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox
    from airflow_provider_kubit_braze.warehouse.impact_stage import Staged
    from tests.warehouse.conftest import Warehouse


def kept(world: World, table: str, columns: str, order: str) -> list[tuple[Any, ...]]:
    tables = world.warehouse.tables
    return world.warehouse.session.rows(f"SELECT {columns} FROM {getattr(tables, table)} ORDER BY {order}")


def daily(world: World) -> list[tuple[Any, ...]]:
    columns = (
        "DAY, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, REACHED, SENDS, SEEN, CONVERTED, REVENUE, OPTED_OUT"
    )
    return kept(world, "impact_daily", columns, "1, 2, 3, 4, 5")


def some_days(world: World) -> None:
    for user in ("ann", "bob"):
        world.stay(user)
        world.message("EMAIL_SEND", user, "02 10:00")
    world.message("EMAIL_OPEN", "ann", "03 10:00")
    # The latest row: what Braze delivers from here on is new, and a day of overlap before it.
    world.purchase("somebody else", "19 00:00")


def test_only_days_that_changed_are_measured_again(world: World) -> None:
    some_days(world)
    assert world.measure()["days_measured"] > 5
    # Today and yesterday, since the cohort may have changed; and what is a day old may have come since.
    assert world.measure()["days_measured"] == 3
    before = daily(world)
    world.message("EMAIL_OPEN", "bob", "04 10:00", SF_CREATED_AT="2026-03-19 12:00:00")
    report = world.measure()
    # The day before for bounces, the window of 7 days after it and one for short days; and the three from above.
    assert report["days_measured"] == 13
    assert figures(report)["seen"] == 2
    assert len(daily(world)) == len(before) + 1


def test_a_late_message_changes_what_followed_it(world: World) -> None:
    some_days(world)
    world.stay("cid")
    world.message("EMAIL_OPEN", "cid", "05 10:00")
    assert figures(world.measure())["seen"] == 1
    world.message("EMAIL_SEND", "cid", "03 09:00", SF_CREATED_AT="2026-03-19 12:00:00")
    assert figures(world.measure())["seen"] == 2


def test_going_on_finds_what_measuring_anew_finds(world: World) -> None:
    some_days(world)
    world.measure(now=NOW - timedelta(days=12))
    world.message("EMAIL_UNSUBSCRIBE", "bob", "06 10:00")
    world.row("USERS_CAMPAIGNS_REVENUE_SHARED", "ann", "07 10:00", CAMPAIGN_API_ID="spring", REVENUE=100)
    world.measure(now=NOW - timedelta(days=8))
    world.message("EMAIL_SEND", "ann", "15 10:00")
    world.stay("dan", "14 00:00")
    world.message("EMAIL_SEND", "dan", "15 10:00")
    in_steps = world.measure()
    rows = daily(world)
    anew = world.measure(full_refresh=True)
    assert daily(world) == rows
    for report in (in_steps, anew):
        del report["days_measured"]
    assert in_steps == anew


def test_what_was_measured_of_another_share_or_app_group_is_of_no_use(world: World) -> None:
    some_days(world)
    world.measure()
    before = daily(world)
    assert before
    first, world.app_group = world.app_group, "another"
    with pytest.raises(CohortConfigError) as told:
        world.measure()
    assert str(told.value) == (
        "cohort 'vips', field 'app_group_id': what is kept of 'purchase within 7d' was measured from "
        f"{world.share}, app group {first!r}, and measuring {world.share}, app group 'another', would delete all "
        "of it; correct source and app_group_id (--share, --app-group-id), or measure once with "
        "full_refresh (--full-refresh) if it may go."
    )
    assert daily(world) == before
    report = world.measure(full_refresh=True)
    assert report["messages"] == []
    assert daily(world) == []
    # Of nothing nothing is lost.
    world.app_group = first
    assert figures(world.measure())["reached"] == 2


def test_a_share_is_the_same_however_its_name_is_written(world: World) -> None:
    some_days(world)
    whole = world.measure()["days_measured"]
    again = world.measure()["days_measured"]
    assert again < whole
    first, world.share = world.share, world.share.lower()
    assert world.measure()["days_measured"] == again
    database, schema = first.split(".")
    world.share = f'"{database}"."{schema}"'
    assert world.measure()["days_measured"] == again


def test_a_note_of_an_earlier_version_has_the_share_as_it_was_written_and_locks_nobody_out(
    world: World,
) -> None:
    some_days(world)
    world.measure()
    refresh = world.warehouse.tables.impact_refresh
    [(settings,)] = world.warehouse.session.rows(f"SELECT DISTINCT SETTINGS FROM {refresh}")
    old = settings.replace(world.share, world.share.lower())
    assert old != settings
    world.warehouse.session.execute(f"UPDATE {refresh} SET SETTINGS = %s", [old])
    assert figures(world.measure())["reached"] == 2


def test_earlier_days_are_measured_when_they_are_asked_for(world: World) -> None:
    some_days(world)
    assert figures(world.measure(since="2026-03-12", window="1d") | {"messages": [{"figures": None}]}) is None
    assert figures(world.measure(since="2026-03-01", window="1d"))["reached"] == 2


def test_measures_of_one_cohort_do_not_disturb_each_other(world: World) -> None:
    some_days(world)
    world.measure()
    world.measure(window="1h")
    measures = {measure for (measure,) in kept(world, "impact_daily", "DISTINCT MEASURE", "1")}
    assert measures == {"purchase within 7d", "purchase within 1h"}
    assert figures(world.measure())["seen"] == 1


def test_the_summary_is_kept_for_whoever_asks_snowflake(world: World) -> None:
    some_days(world)
    world.stay("held", held=True)
    world.measure()
    world.measure()
    columns = (
        "KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, REACHED, TREATED_USERS, CONTROL_USERS, CONVERSION_VERDICT"
    )
    assert kept(world, "impact_summary", columns, "CHANNEL, VARIATION_ID DESC") == [
        ("campaign", "spring", "all", "all", 2, 2, 1, "not_enough_data"),
        ("campaign", "spring", "email", "all", 2, None, None, None),
        ("campaign", "spring", "email", "A", 2, None, None, None),
    ]


def test_summaries_about_other_messages_stay(world: World) -> None:
    some_days(world)
    world.measure(campaigns=["spring"])
    world.measure(campaigns=["spring", "autumn"], canvases=["spring"])
    world.measure(campaigns=["autumn", "spring"], canvases=["spring"])
    world.measure()
    assert kept(world, "impact_summary", "MESSAGES, CHANNEL, VARIATION_ID", "1, 2, 3") == [
        (messages, *part)
        for messages in ("all", "campaign autumn, campaign spring, canvas spring", "campaign spring")
        for part in (("all", "all"), ("email", "A"), ("email", "all"))
    ]


def test_every_figure_that_half_a_share_has_is_told_and_the_others_are_named(warehouse: Warehouse) -> None:
    from airflow_provider_kubit_braze.core.share_catalogue import catalogue

    world = World(warehouse, "HALF_SHARE.PUBLIC")
    lacking = [
        table
        for table in catalogue()
        if any(
            part in table
            for part in ("EMAIL_SEND", "EMAIL_CLICK", "CONVERSION", "SMS", "SUBSCRIPTION", "USERORPHAN")
        )
    ]
    make_share_tables(warehouse.session.connection, world.share, without=lacking)
    for user in ("ann", "bob"):
        world.stay(user)
        world.message("EMAIL_DELIVERY", user, "02 10:00")
    world.stay("held", held=True)
    world.message("EMAIL_OPEN", "ann", "02 11:00")
    world.row("USERS_CAMPAIGNS_REVENUE_SHARED", "ann", "02 12:00", CAMPAIGN_API_ID="spring", REVENUE=500)
    world.message("EMAIL_UNSUBSCRIBE", "bob", "02 11:00")
    world.purchase("ann", "02 12:00")
    world.purchase("x", "19 00:00")
    report = world.measure()
    assert figures(report) == {
        "reached": None,
        "sends": None,
        "delivered": 2,
        "seen": 1,
        "clicked": None,
        "converted": None,
        "revenue": 5.0,
        "opted_out": 1,
    }
    assert report["messages"][0]["experiments"][0]["conversion"]["treated"] == 0.5
    assert report["messages"][0]["experiments"][0]["reached"] is None
    assert [
        one for one in report["missing"] if one.startswith(("reached, email", "converted, campaigns"))
    ] == [
        "reached, email: not possible, as the share lacks table USERS_MESSAGES_EMAIL_SEND_SHARED.",
        "converted, campaigns: not possible, as the share lacks table USERS_CAMPAIGNS_CONVERSION_SHARED.",
    ]
    (limit,) = [one for one in report["limits"] if one.startswith("email")]
    assert limit == "email: whom it reached is not known, so what followed is counted from delivered on."


def test_a_total_is_not_told_when_a_channel_that_it_is_made_of_cannot_be(warehouse: Warehouse) -> None:
    world = World(warehouse, "NO_CLICKS_SHARE.PUBLIC")
    make_share_tables(
        warehouse.session.connection, world.share, without=["USERS_MESSAGES_EMAIL_CLICK_SHARED"]
    )
    world.stay("ann")
    world.message("PUSHNOTIFICATION_SEND", "ann", "02 10:00")
    world.message("PUSHNOTIFICATION_OPEN", "ann", "02 11:00")
    assert figures(world.measure())["clicked"] == 1
    world.message("EMAIL_SEND", "ann", "02 12:00")
    (message,) = world.measure(full_refresh=True)["messages"]
    assert message["figures"]["clicked"] is None
    assert {one["channel"]: one["figures"]["clicked"] for one in message["channels"]} == {
        "email": None,
        "push": 1,
    }


def test_without_the_goal_nothing_is_judged_and_the_funnel_stays(warehouse: Warehouse) -> None:
    world = World(warehouse, "NO_GOAL_SHARE.PUBLIC")
    make_share_tables(warehouse.session.connection, world.share, without=["USERS_BEHAVIORS_PURCHASE_SHARED"])
    world.stay("ann")
    world.stay("bob", held=True)
    world.message("EMAIL_SEND", "ann", "02 10:00")
    report = world.measure()
    assert figures(report)["reached"] == 1
    assert report["messages"][0]["experiments"] == []
    why = "No effect is judged: the share has no table that tells the goal, purchase."
    assert report["messages"][0]["not_judged"] == why


def test_the_archive_stands_in_for_a_table(warehouse: Warehouse) -> None:
    world = World(warehouse, "ARCHIVE_SHARE.PUBLIC")
    session = warehouse.session
    make_share_tables(session.connection, world.share)
    for area in ("EMAIL_SEND", "EMAIL_OPEN"):
        table = f"{world.share}.USERS_MESSAGES_{area}_SHARED"
        session.execute(f"ALTER TABLE {table} RENAME TO {table}_ALL")
    world.stay("ann")
    columns = "ID, USER_ID, EXTERNAL_USER_ID, APP_GROUP_ID, TIME, CAMPAIGN_API_ID"
    for area in ("SEND", "OPEN"):
        session.execute(
            f"INSERT INTO {world.share}.USERS_MESSAGES_EMAIL_{area}_SHARED_ALL ({columns}) "
            f"VALUES ('1', 'u', 'ann', '{world.app_group}', 1772445600, 'spring')"
        )
    found = figures(world.measure())
    assert (found["reached"], found["seen"]) == (1, 1)


def test_profile_views_name_whom_events_do_not(warehouse: Warehouse, kubit_braze_sandbox: Sandbox) -> None:
    world = World(warehouse, "PROFILE_SHARE.PUBLIC")
    make_share_tables(warehouse.session.connection, world.share)
    braze = kubit_braze_sandbox.braze
    braze.add_users([{"external_id": "impact-ann", "email": "ann@example.com"}])
    (profile,) = [user for user in braze.users() if user.get("external_id") == "impact-ann"]
    fill_profile_share(braze, warehouse.session.connection, world.share, app_group_id=world.app_group)
    world.stay("ann@example.com", kind="email")
    world.message("EMAIL_SEND", None, "02 10:00", USER_ID=profile["braze_id"])
    assert figures(world.measure())["reached"] == 1


def test_profile_views_that_cannot_be_asked_are_told_with_the_impacts_own_keys(warehouse: Warehouse) -> None:
    world = World(warehouse, f"PROFILES_{warehouse.schema}.PUBLIC")
    make_share_tables(warehouse.session.connection, world.share)
    some_days(world)
    view, so = "USER_DEFAULT_ATTRIBUTES_VIEW_SHARED", "so users are found by external id and braze_id only"
    with warehouse.session.connection.cursor() as cursor:
        make_profile_view(cursor, world.share, view)
    assert world.measure()["notes"][0] == (
        f"Braze's data share {world.share} has no profile of app group {world.app_group!r} in {view}, {so}; write the "
        "workspace's APP_GROUP_ID, as any of its rows in the share has it, into impact.app_group_id."
    )
    warehouse.session.execute(f"ALTER TABLE {world.share}.{view} DROP COLUMN APP_GROUP_ID")
    assert world.measure()["notes"][0] == (
        f"View {view} of Braze's data share {world.share} has no column APP_GROUP_ID; Braze must have changed its "
        f"views, {so}."
    )


def test_a_name_with_quotes_and_percent_signs_is_a_name(world: World) -> None:
    user = '100%\'s "ann" %s é'
    world.stay(user)
    world.message("EMAIL_SEND", user, "02 10:00", CAMPAIGN_API_ID="it's 100%")
    report = world.measure()
    assert (report["messages"][0]["id"], figures(report)["reached"]) == ("it's 100%", 1)


def test_nothing_is_left_behind_also_when_it_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    some_days(world)
    world.measure()
    session, schema = world.warehouse.session, world.warehouse.schema
    sql = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME LIKE 'IMPACT_WORK%%'"
    assert session.rows(sql, (schema,)) == []
    old = f"{schema}.IMPACT_WORK_1000000000_ABCD_STAGE"
    session.execute(f"CREATE TABLE {old} (A INTEGER)")

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("lost")

    monkeypatch.setattr("airflow_provider_kubit_braze.warehouse.impact_days.Days._count", fail)
    before = daily(world)
    with pytest.raises(RuntimeError, match="lost"):
        world.measure(full_refresh=True)
    assert session.rows(sql, (schema,)) == []
    monkeypatch.undo()
    world.measure()
    assert daily(world) == before


def test_no_user_is_named_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    some_days(world)
    with caplog.at_level(logging.INFO):
        world.measure()
    assert "Measured" in caplog.text
    assert "ann" not in caplog.text


def test_a_day_to_come_and_a_share_that_is_not_there_are_refused(world: World) -> None:
    with pytest.raises(CohortConfigError, match="the first day, 2026-03-21, is still to come"):
        world.measure(since="2026-03-21")
    world.stay("ann")
    with pytest.raises(SourceError, match="GRANT IMPORTED PRIVILEGES ON DATABASE NOWHERE"):
        world.measure(source="NOWHERE.PUBLIC")


def test_a_cohort_that_was_never_imported_is_refused(world: World) -> None:
    with pytest.raises(NeverImportedError, match="anybody of cohort 'vips' into workspace workspace"):
        world.measure()


def test_names_that_are_not_in_the_share_are_told(world: World) -> None:
    some_days(world)
    notes = world.measure(campaigns=["spring", "sprnig"])["notes"]
    assert [note.partition(";")[0] for note in notes] == [
        "Campaign sprnig reached nobody of the cohort in these days"
    ]
    notes = world.measure(campaigns=["sprnig"])["notes"]
    assert notes[0] == (
        "None of the messages asked about reached anybody of the cohort in these days, as far as the share tells."
    )
    world.app_group = "wrong"
    assert "no row of app group 'wrong'" in world.measure(full_refresh=True)["notes"][0]


def test_what_snowflake_refuses_names_the_grants(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    some_days(world)

    def refuse(self: WorkTables, name: str, query: object) -> None:
        raise ProgrammingError(
            msg="SQL access control error: Insufficient privileges", errno=3001, sqlstate="42501"
        )

    monkeypatch.setattr(WorkTables, "make", refuse)
    with pytest.raises(SourceError) as caught:
        world.measure()
    assert "Insufficient privileges" in str(caught.value)
    assert f"GRANT USAGE, CREATE TABLE ON SCHEMA {world.warehouse.schema} TO ROLE" in str(caught.value)


@pytest.mark.parametrize(
    ("errno", "sqlstate", "words"),
    [(630, "57014", "Statement reached its timeout"), (100051, "22012", "Division by zero")],
)
def test_what_no_grant_can_help_against_is_told_in_snowflakes_words_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, errno: int, sqlstate: str, words: str
) -> None:
    some_days(world)

    def fail(self: WorkTables, name: str, query: object) -> None:
        raise ProgrammingError(msg=words, errno=errno, sqlstate=sqlstate, send_telemetry=False)

    monkeypatch.setattr(WorkTables, "make", fail)
    with pytest.raises(StatementBrokenOffError) as caught:
        world.measure()
    assert str(caught.value) == f"The impact could not be measured; Snowflake says: {words}"
    assert caught.value.retry_helps


def test_a_period_that_begins_too_early_for_the_ordinary_tables_asks_for_the_archive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_days(world)
    asked: list[tuple[int, datetime]] = []
    since = Inventory.since

    def look(inventory: Inventory, first: int, *, now: datetime) -> Inventory:
        asked.append((first, now))
        return since(inventory, first, now=now)

    monkeypatch.setattr(Inventory, "since", look)
    world.measure(since="2026-03-01")
    # As far back as it is looked for messages that are older.
    assert asked == [(at("01 00:00") - 365 * 86_400, NOW)]


def test_only_rows_of_the_cohort_are_staged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    some_days(world)
    make, staged = WorkTables.make, set()

    def look(work: WorkTables, name: str, query: Staged) -> None:
        make(work, name, query)
        if name == "stage":
            staged.update(world.warehouse.session.rows(f"SELECT DISTINCT XID FROM {work[name]}"))

    monkeypatch.setattr(WorkTables, "make", look)
    world.measure()
    assert staged == {("ann",), ("bob",)}


def test_whatever_is_read_of_events_is_of_one_app_group_and_of_some_days(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snowflake then leaves out all others' rows, and all other days, unread."""
    some_days(world)
    world.stay("dan", "2025-11-01 00:00")
    world.message("EMAIL_SEND", "dan", "01-02 10:00")
    canvas = {"CAMPAIGN_API_ID": None, "CANVAS_API_ID": "journey"}
    world.message("EMAIL_SEND", "dan", "02 10:00", **canvas)
    said: list[str] = []
    execute = Session.execute

    def listen(session: Session, sql: str, params: Any = None) -> Any:
        said.append(sql)
        return execute(session, sql, params)

    monkeypatch.setattr(Session, "execute", listen)
    world.measure()
    world.measure(goal="signed up", since="2026-03-10")
    world.measure(goal="signed up", since="2026-01-10")
    world.measure(full_refresh=True)
    # Each place where a table of the share is read, with what follows up to the next one.
    parts = [
        re.split(r"\bFROM\b", part)[0]
        for sql in said
        for part in re.split(rf"\bFROM {re.escape(world.share)}\.", sql)[1:]
    ]
    assert len(parts) > 100
    read: dict[str, bool] = {}
    for part in parts:
        table = part.split('"')[1]
        assert '"APP_GROUP_ID" = %s' in part, part
        read[table] = read.get(table, True) and '"TIME" >= %s' in part and '"TIME" < %s' in part
    # A merge of any time says whose the rows are, and a campaign is called what it was called last.
    unbounded = {table for table, bounded in read.items() if not bounded}
    assert unbounded == {
        "USERS_USERORPHAN_SHARED",
        "CHANGELOGS_CAMPAIGN_SHARED",
        "CHANGELOGS_CANVAS_SHARED",
        "CHANGELOGS_GLOBALCONTROLGROUP_SHARED",
        "SNAPSHOTS_CAMPAIGN_MESSAGE_VARIATION_SHARED",
    }
    assert {
        "USERS_MESSAGES_EMAIL_SEND_SHARED",
        "USERS_BEHAVIORS_CUSTOMEVENT_SHARED",
    } < read.keys() - unbounded


def test_one_measures_at_a_time(
    world: World, kubit_braze_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_days(world)
    tables, seen = world.warehouse.tables, []
    lease = f"SELECT COHORT_ID, RUN_ID, OWNER IS NULL FROM {tables.lease}"
    measure = measuring.measure_impact

    def look(*args: Any, **kwargs: Any) -> Any:
        seen.extend(world.warehouse.session.rows(lease))
        return measure(*args, **kwargs)

    monkeypatch.setattr(measuring, "measure_impact", look)
    world.measure_alone(kubit_braze_sandbox)
    assert seen == [("vips: purchase within 7d", "r1", False)]
    assert world.warehouse.session.rows(lease) == [("vips: purchase within 7d", "r1", True)]


def test_days_before_those_that_are_measured_anew_stay(world: World) -> None:
    some_days(world)
    world.measure(window="1d")
    rows = daily(world)
    assert rows[0][0].day == 2
    world.measure(window="1d", since="2026-03-10", full_refresh=True)
    assert daily(world)[0] == rows[0]


def test_an_import_that_was_written_down_late_changes_the_days_since_it_began(world: World) -> None:
    some_days(world)
    world.message("EMAIL_SEND", "late", "10 10:00")
    assert figures(world.measure())["reached"] == 2
    world.warehouse.put(world.warehouse.tables.run, import_id="slow", started_at="2026-03-09 09:00:00")
    world.stay("late", "20 11:00", entered_import="slow")
    assert figures(world.measure())["reached"] == 3


def test_a_row_from_the_future_hides_none_that_come_after_it(world: World) -> None:
    some_days(world)
    world.purchase("x", "18 00:00", SF_CREATED_AT="2031-01-01 00:00:00")
    world.measure()
    world.message("EMAIL_OPEN", "bob", "04 10:00", SF_CREATED_AT="2026-03-20 11:00:00")
    assert figures(world.measure())["seen"] == 2


def test_a_question_about_fewer_days_does_not_make_the_next_one_measure_all_again(world: World) -> None:
    some_days(world)
    world.measure()
    assert world.measure(since="2026-03-18")["days_measured"] == 3
    world.message("EMAIL_OPEN", "bob", "04 10:00", SF_CREATED_AT="2026-03-19 12:00:00")
    # Also of days that it is not about.
    assert world.measure(since="2026-03-18")["days_measured"] == 13
    report = world.measure()
    assert report["days_measured"] == 13
    assert figures(report)["seen"] == 2
