"""The life of a user and the days of a cohort, in a world small enough to see through."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_kubit_braze.core.impact.life import DAY_FIGURES, LIFE, STAY_FIGURES
from airflow_provider_kubit_braze.core.impact.question import PURCHASE, ImpactQuestion
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.exceptions import CohortConfigError, NeverImportedError
from airflow_provider_kubit_braze.warehouse.cohort_days import cohort_timeline
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import ensure_tables
from airflow_provider_kubit_braze.warehouse.timeline import user_timeline
from tests.warehouse.conftest import COHORT, WORKSPACE, Warehouse
from tests.warehouse.impact_events import (
    APP_GROUP,
    OTHER_APP_GROUP,
    add_rows,
    fill_share,
    fill_view,
    make_world,
)
from tests.warehouse.impact_oracle import Oracle, read_stays

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_kubit_braze.core.impact.life import CohortTimeline, UserTimeline
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

NOW = datetime(2026, 3, 12, tzinfo=UTC)
SHARE = "BRAZE_SHARE_DB.{schema}"


def at(text: str) -> int:
    """Return the epoch seconds of a moment of March 2026, such as ``02 10:00``."""
    return int(datetime.strptime(f"2026-03-{text} +0000", "%Y-%m-%d %H:%M %z").timestamp())


def text(moment: str) -> str:
    return datetime.fromtimestamp(at(moment), UTC).strftime("%Y-%m-%d %H:%M:%S")


class Lives:
    """A share with some rows, and the ledger."""

    def __init__(self, warehouse: Warehouse, tables: Collection[str] = LIFE.keys()) -> None:
        self.warehouse = warehouse
        self.source = SHARE.format(schema=warehouse.schema)
        fill_share(warehouse.session.connection, self.source, {table: [] for table in tables})
        self.number = 0

    def row(self, table: str, user: str | None, moment: str, **more: Any) -> dict[str, Any]:
        name = f"USERS_{table}_SHARED"
        self.number += 1
        given = {
            "ID": f"event {self.number}",
            "USER_ID": f"profile of {user}",
            "EXTERNAL_USER_ID": user,
            "APP_GROUP_ID": APP_GROUP,
            "TIME": at(moment),
            "SF_CREATED_AT": f"{text(moment)}+00:00",
            **more,
        }
        row = {column: value for column, value in given.items() if column in catalogue()[name]}
        add_rows(self.warehouse.session.connection, self.source, {name: [row]})
        return row

    def again(self, table: str, row: dict[str, Any], **more: Any) -> None:
        add_rows(self.warehouse.session.connection, self.source, {f"USERS_{table}_SHARED": [{**row, **more}]})

    def stay(self, user: str, entered: str, left: str | None = None, **more: Any) -> None:
        times: dict[str, Any] = {"entered_at": text(entered), "left_at": left and text(left)}
        self.warehouse.stay(user, **{**times, "entered_import": "none", **more})

    def question(self, **asked: Any) -> ImpactQuestion:
        return ImpactQuestion(source=self.source, app_group_id=APP_GROUP, **asked)

    def user(self, user: str, limit: int = 100, **asked: Any) -> UserTimeline:
        return user_timeline(
            self.question(**asked),
            user,
            session=self.warehouse.session,
            tables=self.warehouse.tables,
            workspace=WORKSPACE,
            cohort_id=COHORT,
            now=NOW,
            limit=limit,
        )

    def days(self, **asked: Any) -> CohortTimeline:
        return cohort_timeline(
            self.question(**asked),
            session=self.warehouse.session,
            tables=self.warehouse.tables,
            workspace=WORKSPACE,
            cohort_id=COHORT,
            now=NOW,
        )


@pytest.fixture(scope="module")
def lives(kubit_braze_sandbox: Sandbox) -> Iterator[Lives]:
    """Where Ann lives, and some others; nothing is written in the order in which it happened."""
    with closing(Session(kubit_braze_sandbox.connect(), tag={"app": "tests"})) as session:
        warehouse = Warehouse(session, "KB_TIMELINE")
        ensure_tables(session, warehouse.tables)
        found = Lives(warehouse)
        live(found)
        found.stay("bob", "04 00:00")
        found.stay("cy", "04 12:00", held=True)
        found.stay("dee", "01 00:00", "02 00:00", cohort_id="another")
        found.row("BEHAVIORS_APP_SESSIONSTART", "dee", "04 10:00")
        found.row("BEHAVIORS_PURCHASE", "cy", "04 10:00", PRICE=1.0, CURRENCY="EUR")
        found.row("BEHAVIORS_PURCHASE", "cy", "04 11:00", PRICE=1.0, CURRENCY="EUR")
        yield found


def test_who_came_in_this_very_second_is_told(warehouse: Warehouse) -> None:
    lives = Lives(warehouse)
    warehouse.stay("ann", entered_at="2026-03-11 23:59:59.9", entered_import="none")
    warehouse.stay("ann", entered_at="2026-03-01 00:00:00", left_at="2026-03-11 23:59:59.1", held=True)
    found = user_timeline(
        lives.question(),
        "ann",
        session=warehouse.session,
        tables=warehouse.tables,
        workspace=WORKSPACE,
        cohort_id=COHORT,
        now=NOW - timedelta(seconds=0.05),
    )
    assert [(one.at.strftime("%d %H:%M:%S"), one.what) for one in found.moments] == [
        ("01 00:00:00", "held out of the cohort"),
        ("11 23:59:59", "entered the cohort"),
        ("11 23:59:59", "held out no more"),
    ]


def test_an_rcs_message_is_of_the_canvas_that_its_variation_is_of(warehouse: Warehouse) -> None:
    lives = Lives(warehouse)
    lives.stay("ann", "01 00:00")
    named = {"CANVAS_API_ID": "journey", "CANVAS_VARIATION_API_ID": "V1"}
    lives.row("CANVAS_ENTRY", "bob", "02 09:00", **named)
    lives.row("MESSAGES_RCS_SEND", "ann", "02 10:00", CANVAS_VARIATION_API_ID="V1")
    lives.row("MESSAGES_RCS_SEND", "ann", "03 10:00", CANVAS_VARIATION_API_ID="V2")
    lives.row("MESSAGES_RCS_SEND", "ann", "04 10:00", CAMPAIGN_API_ID="spring")
    found = [(one.kind, one.message_id) for one in lives.user("ann").moments if one.what == "sent"]
    assert found == [("canvas", "journey"), ("", ""), ("campaign", "spring")]


def told(timeline: UserTimeline) -> list[str]:
    """Return each moment as a line."""
    return [
        " ".join(
            str(word)
            for word in (
                one.at.strftime("%d %H:%M"),
                one.what,
                one.channel,
                one.message_id,
                one.detail,
                one.amount,
                one.currency,
            )
            if word not in ("", None)
        )
        for one in timeline.moments
    ]


SPRING = {"CAMPAIGN_API_ID": "spring", "MESSAGE_VARIATION_API_ID": "A"}


def live(lives: Lives) -> None:
    lives.stay("ann", "03 00:00", "06 00:00")
    lives.stay("ann", "01 00:00", "02 00:00", held=True)
    lives.row("BEHAVIORS_PURCHASE", "ann", "05 10:00", PRICE=19.5, CURRENCY="EUR")
    lives.row("MESSAGES_EMAIL_CLICK", "ann", "04 10:02", **SPRING)
    lives.row("MESSAGES_EMAIL_CLICK", "ann", "04 10:02", **SPRING, IS_SUSPECTED_BOT_CLICK=True)
    lives.row("MESSAGES_EMAIL_OPEN", "ann", "04 10:01", **SPRING)
    machine = lives.row("MESSAGES_EMAIL_OPEN", "ann", "04 10:00", **SPRING, MACHINE_OPEN="True")
    lives.again("MESSAGES_EMAIL_OPEN", machine, SF_CREATED_AT="2026-03-11 00:00:00+00:00")
    lives.row("MESSAGES_EMAIL_SEND", "ann", "04 10:00", **SPRING)
    lives.row("MESSAGES_EMAIL_SEND", "ann", "04 10:00", **SPRING, APP_GROUP_ID=OTHER_APP_GROUP)
    lives.row("MESSAGES_EMAIL_SEND", "bob", "04 10:00", **SPRING)
    lives.row(
        "CAMPAIGNS_CONVERSION", "ann", "05 10:00", CAMPAIGN_API_ID="spring", CONVERSION_BEHAVIOR_INDEX=0
    )
    lives.row(
        "CAMPAIGNS_CONVERSION", "ann", "05 10:00", CAMPAIGN_API_ID="spring", CONVERSION_BEHAVIOR_INDEX=1
    )
    lives.row("CAMPAIGNS_REVENUE", "ann", "05 10:00", CAMPAIGN_API_ID="spring", REVENUE=1950)
    lives.row("BEHAVIORS_APP_FIRSTSESSION", "ann", "01 10:00")
    lives.row("BEHAVIORS_INSTALLATTRIBUTION", "ann", "01 10:00", SOURCE="an ad")
    lives.row("BEHAVIORS_CUSTOMEVENT", "ann", "04 11:00", NAME="signup")
    lives.row(
        "BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE", "ann", "07 00:00", SUBSCRIPTION_STATUS="Unsubscribed"
    )
    lives.row("BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE", "ann", "08 00:00", SUBSCRIPTION_STATUS="subscribed")


LIFE_OF_ANN = [
    "01 00:00 held out of the cohort",
    "01 10:00 install an ad",
    "01 10:00 first session",
    "02 00:00 held out no more",
    "03 00:00 entered the cohort",
    "04 10:00 sent email spring",
    "04 10:00 opened by a machine email spring",
    "04 10:01 opened email spring",
    "04 10:02 clicked email spring",
    "04 10:02 clicked by a machine email spring",
    "04 11:00 event signup",
    "05 10:00 purchase 19.5 EUR",
    "05 10:00 conversion spring",
    "05 10:00 revenue credited spring 19.5 USD",
    "06 00:00 left the cohort",
    "07 00:00 opted out",
]


def test_a_life_is_told_in_its_order_and_each_thing_once(lives: Lives) -> None:
    found = lives.user("ann")
    assert told(found) == LIFE_OF_ANN
    assert (found.left_out, found.profiles, list(found.missing)) == (0, 1, [])


def test_the_latest_moments_are_told_and_how_many_are_not(lives: Lives) -> None:
    found = lives.user("ann", limit=3)
    assert told(found) == LIFE_OF_ANN[-3:]
    assert found.left_out == len(LIFE_OF_ANN) - 3


def test_days_of_the_time_zone_bound_a_life(lives: Lives) -> None:
    found = lives.user("ann", since=date(2026, 3, 1), until=date(2026, 3, 1), timezone="America/New_York")
    assert told(found) == LIFE_OF_ANN[1:4]


def test_merged_profiles_are_one_user_by_whatever_name(warehouse: Warehouse) -> None:
    lives = Lives(warehouse, ["USERS_USERORPHAN_SHARED", "USERS_BEHAVIORS_APP_SESSIONSTART_SHARED"])
    lives.stay("ann", "03 00:00")
    lives.row("BEHAVIORS_APP_SESSIONSTART", None, "02 10:00", USER_ID="guest 1")
    lives.row("BEHAVIORS_APP_SESSIONSTART", None, "02 11:00", USER_ID="guest 2")
    lives.row("USERORPHAN", None, "02 12:00", USER_ID="guest 1", ORPHANED_BY_ID="guest 2")
    lives.row("USERORPHAN", None, "02 13:00", USER_ID="guest 2", ORPHANED_BY_ID="profile of ann")
    lives.row("BEHAVIORS_APP_SESSIONSTART", "ann", "04 10:00")
    wanted = [
        "02 10:00 session",
        "02 11:00 session",
        "02 12:00 profile merged",
        "02 13:00 profile merged",
        "03 00:00 entered the cohort",
        "04 10:00 session",
    ]
    for name in ("ann", "guest 1", "profile of ann"):
        found = lives.user(name)
        assert told(found) == wanted, name
        assert found.profiles == 3


def test_only_a_life_that_begins_two_years_ago_or_earlier_is_read_from_the_archive(
    warehouse: Warehouse,
) -> None:
    table = "USERS_BEHAVIORS_APP_SESSIONSTART_SHARED"
    lives = Lives(warehouse, [table])
    twin = f"CREATE TABLE {lives.source}.{table}_ALL AS SELECT * FROM {lives.source}.{table}"
    warehouse.session.execute(twin)
    lives.stay("ann", "03 00:00")
    session = lives.row("BEHAVIORS_APP_SESSIONSTART", "ann", "04 10:00")
    old = int(datetime(2023, 1, 2, 10, tzinfo=UTC).timestamp())
    # Not what Braze would write, but so it shows which of the two is read.
    archived = [{**session, "ID": "old", "TIME": old}, {**session, "ID": "new", "TIME": at("05 10:00")}]
    add_rows(warehouse.session.connection, lives.source, {f"{table}_ALL": archived})
    stay = "03 00:00 entered the cohort"
    assert told(lives.user("ann")) == ["02 10:00 session", stay, "05 10:00 session"]
    assert told(lives.user("ann", since=date(2024, 3, 11))) == [stay, "05 10:00 session"]
    assert told(lives.user("ann", since=date(2024, 3, 13))) == [stay, "04 10:00 session"]
    lives.stay("ann", "03 00:00", entered_at="2023-01-01 00:00:00", left_at="2023-02-01 00:00:00")
    [day] = lives.days(since=date(2023, 1, 2), until=date(2023, 1, 2)).days
    assert (day.figures["members"], day.figures["session"]) == (1, 1)


def test_a_view_names_users_whom_no_row_does(warehouse: Warehouse) -> None:
    lives = Lives(warehouse, ["USERS_BEHAVIORS_APP_SESSIONSTART_SHARED"])
    lives.stay("ann@example.com", "03 00:00", kind="email")
    lives.row("BEHAVIORS_APP_SESSIONSTART", None, "04 10:00", USER_ID="p1")
    people = [
        {
            "USER_ID": "p1",
            "EXTERNAL_USER_ID": "ann",
            "EMAIL_ADDRESS": "ann@example.com",
            "APP_GROUP_ID": APP_GROUP,
        }
    ]
    fill_view(lives.warehouse.session.connection, lives.source, people)
    for name in ("ann@example.com", "ann", "p1"):
        assert told(lives.user(name)) == ["03 00:00 entered the cohort", "04 10:00 session"], name


def test_of_a_stranger_nothing_is_known(lives: Lives) -> None:
    found = lives.user("zoë's 100%")
    assert (list(found.moments), found.left_out, found.profiles) == ([], 0, 0)


def test_what_a_share_lacks_is_named_and_the_rest_is_told(warehouse: Warehouse) -> None:
    lives = Lives(
        warehouse, ["USERS_BEHAVIORS_APP_SESSIONSTART_SHARED", "USERS_BEHAVIORS_CUSTOMEVENT_SHARED"]
    )
    lives.stay("ann", "03 00:00")
    lives.row("BEHAVIORS_APP_SESSIONSTART", "ann", "04 10:00")
    found = lives.user("ann")
    assert told(found) == ["03 00:00 entered the cohort", "04 10:00 session"]
    assert len(found.missing) == len(LIFE) - 2
    assert found.missing[0] == "profile merged: the share lacks table USERS_USERORPHAN_SHARED."
    assert "opened, email: the share lacks table USERS_MESSAGES_EMAIL_OPEN_SHARED." in found.missing
    days = lives.days(since=date(2026, 3, 4), until=date(2026, 3, 4))
    [day] = days.days
    assert (day.figures["purchase"], day.figures["event"], day.figures["session"]) == (None, 0, 1)
    assert "purchase: the share lacks table USERS_BEHAVIORS_PURCHASE_SHARED." in days.missing


EMAIL = ("USERS_MESSAGES_EMAIL_SEND_SHARED", "USERS_MESSAGES_EMAIL_DELIVERY_SHARED")
PUSH = tuple(
    f"USERS_MESSAGES_PUSHNOTIFICATION_{one}_SHARED" for one in ("SEND", "OPEN", "INFLUENCEDOPEN", "BOUNCE")
)
OPT_OUTS = tuple(
    f"USERS_{one}_SHARED"
    for one in (
        "MESSAGES_EMAIL_UNSUBSCRIBE",
        "MESSAGES_EMAIL_MARKASSPAM",
        "BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE",
        "BEHAVIORS_SUBSCRIPTIONGROUP_STATECHANGE",
    )
)
MESSAGE_FIGURES = ("reached", "seen", "clicked", "opted_out")


@pytest.mark.parametrize(
    ("there", "sent", "wanted"),
    [
        # What the share has of push says nothing of who opened a mail.
        ((*EMAIL, *PUSH, *OPT_OUTS), ["EMAIL_SEND"], (1, None, None, 0)),
        ((*EMAIL, *PUSH, *OPT_OUTS), ["EMAIL_SEND", "PUSHNOTIFICATION_SEND"], (1, None, None, 0)),
        ((*EMAIL, *PUSH, *OPT_OUTS), ["PUSHNOTIFICATION_SEND", "PUSHNOTIFICATION_OPEN"], (1, 1, 1, 0)),
        ((*EMAIL, *PUSH, *OPT_OUTS), [], (0, 0, 0, 0)),
        # A direct open is told and one that the push brought about is not.
        ((*PUSH[:2], *OPT_OUTS), ["PUSHNOTIFICATION_SEND", "PUSHNOTIFICATION_OPEN"], (1, None, 1, 0)),
        # That mails were sent is known from their deliveries, and not how many were reached.
        ((EMAIL[1], *PUSH, *OPT_OUTS), ["EMAIL_DELIVERY"], (None, None, None, 0)),
        ((*EMAIL, *PUSH, *OPT_OUTS[2:]), ["EMAIL_SEND"], (1, None, None, None)),
        ((*EMAIL, *PUSH, *OPT_OUTS[2:]), ["PUSHNOTIFICATION_SEND"], (1, 0, 0, 0)),
        ((*EMAIL, *PUSH, *OPT_OUTS[:3]), ["PUSHNOTIFICATION_SEND"], (1, 0, 0, None)),
        ((), [], (None, None, None, None)),
    ],
)
def test_a_figure_is_known_where_all_tables_of_the_channels_that_were_used_are_there(
    warehouse: Warehouse, there: tuple[str, ...], sent: list[str], wanted: tuple[int | None, ...]
) -> None:
    lives = Lives(warehouse, [*there, "USERS_BEHAVIORS_APP_SESSIONSTART_SHARED"])
    lives.stay("ann", "03 00:00")
    for table in sent:
        lives.row(f"MESSAGES_{table}", "ann", "04 10:00", **SPRING)
    found = lives.days(since=date(2026, 3, 4), until=date(2026, 3, 5)).days
    for name, of_first in zip(MESSAGE_FIGURES, wanted, strict=True):
        of_second = None if of_first is None else 0
        assert [one.figures[name] for one in found] == [of_first, of_second], name


def test_the_ends_of_all_subscriptions_and_of_one_are_named_apart(warehouse: Warehouse) -> None:
    found = Lives(warehouse, OPT_OUTS[:3]).user("ann")
    assert [one for one in found.missing if "opted out" in one] == [
        f"opted out of a group: the share lacks table {OPT_OUTS[3]}."
    ]


def test_the_days_of_a_cohort_that_was_never_imported_are_refused(warehouse: Warehouse) -> None:
    lives = Lives(warehouse)
    warehouse.stay("ann", cohort_id="another")
    wanted = f"anybody of cohort '{COHORT}' into workspace {WORKSPACE}, so it has no days to tell"
    with pytest.raises(NeverImportedError, match=wanted):
        lives.days()


def test_a_life_beside_a_cohort_that_was_never_imported_is_told_with_a_note(warehouse: Warehouse) -> None:
    lives = Lives(warehouse)
    warehouse.stay("ann", cohort_id="another")
    lives.row("BEHAVIORS_APP_SESSIONSTART", "ann", "04 10:00")
    found = lives.user("ann")
    assert told(found) == ["04 10:00 session"]
    [note] = found.notes
    assert note.startswith(f"No stay is told: no import has ever brought anybody of cohort '{COHORT}' into")
    lives.stay("bob", "04 00:00")
    assert list(lives.user("ann").notes) == []


def test_days_that_are_still_to_come_have_no_life(lives: Lives) -> None:
    with pytest.raises(CohortConfigError, match="the first day, 2026-03-13, is still to come"):
        lives.user("ann", since=date(2026, 3, 13))
    with pytest.raises(CohortConfigError, match="the first day, 2026-03-12, is still to come"):
        lives.user("ann", since=date(2026, 3, 12), timezone="America/New_York")
    assert told(lives.user("ann", since=date(2026, 3, 12))) == []


def test_nobody_is_named_in_the_log(lives: Lives, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        lives.user("ann")
    assert "ann" not in "".join(
        one.getMessage() for one in caplog.records if one.name.startswith("airflow_prov")
    )


def test_the_days_of_a_cohort_are_counted_by_users(lives: Lives) -> None:
    found = {
        one.day.day: dict(one.figures)
        for one in lives.days(since=date(2026, 3, 1), until=date(2026, 3, 7)).days
    }
    assert list(found) == list(range(1, 8))
    nothing = dict.fromkeys(("members", "held_out", "entered", "left", *DAY_FIGURES), 0)
    assert found[1] == {**nothing, "held_out": 1, "install": 1, "first_session": 1}
    assert found[2] == nothing
    assert found[3] == {**nothing, "members": 1, "entered": 1}
    assert found[4] == {
        **nothing,
        "members": 2,
        "held_out": 1,
        "entered": 1,
        "event": 1,
        "purchase": 1,
        "reached": 2,
        "seen": 1,
        "clicked": 1,
    }
    assert found[5] == {**nothing, "members": 2, "held_out": 1, "purchase": 1}
    assert found[6] == {**nothing, "members": 1, "held_out": 1, "left": 1}
    assert found[7] == {**nothing, "members": 1, "held_out": 1, "opted_out": 1}


def test_the_work_tables_of_the_days_are_gone_afterwards(lives: Lives) -> None:
    lives.days(since=date(2026, 3, 4), until=date(2026, 3, 4))
    rows = lives.warehouse.session.rows(
        "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = %s", (lives.warehouse.schema,)
    )
    assert "COHORT_MEMBERSHIP" in {name for (name,) in rows}
    assert not [name for (name,) in rows if "WORK" in name]


class OfDays(Oracle):
    """Reads who is who in the days themselves, from the tables that are counted."""

    @property
    def scanned(self) -> list[str]:
        return [table for some in DAY_FIGURES.values() for table in some if table in self.share]


@dataclass(frozen=True)
class Asked:
    """A question about days, as the oracle wants it."""

    since: date | None
    until: date | None
    timezone: str
    app_group_id: str = APP_GROUP
    campaigns: tuple[str, ...] = ()
    canvases: tuple[str, ...] = ()
    goal: str = PURCHASE
    window: timedelta = timedelta(0)
    currency: str | None = None


def test_the_days_of_a_random_world_are_those_that_pandas_counts(warehouse: Warehouse) -> None:
    asked = Asked(since=date(2026, 3, 2), until=date(2026, 3, 12), timezone="America/New_York")
    world = make_world(5, journeys=180)
    counted = dict.fromkeys(table for tables in DAY_FIGURES.values() for table in tables)
    world.share = world.only([*counted, "USERS_USERORPHAN_SHARED"])
    share = SHARE.format(schema=warehouse.schema)
    fill_share(warehouse.session.connection, share, world.share)
    ledger = {"COHORT_MEMBERSHIP": world.membership, "IMPORT_RUN": world.runs}
    add_rows(warehouse.session.connection, warehouse.schema, ledger)
    found = cohort_timeline(
        ImpactQuestion(
            source=share,
            app_group_id=APP_GROUP,
            since=asked.since,
            until=asked.until,
            timezone=asked.timezone,
        ),
        session=warehouse.session,
        tables=warehouse.tables,
        workspace=WORKSPACE,
        cohort_id=COHORT,
        now=datetime(2026, 3, 21, tzinfo=UTC),
    )
    stays = read_stays(world.membership, world.runs, workspace=WORKSPACE, cohort_id=COHORT)
    oracle = OfDays(world.share, stays, asked)
    edges = [
        int(datetime(2026, 3, number, tzinfo=ZoneInfo(asked.timezone)).timestamp()) for number in range(2, 14)
    ]
    users = {
        stay.user for stay in stays if stay.start < edges[-1] and (stay.end is None or stay.end >= edges[0])
    }
    assert len(users) < len({stay.user for stay in stays})
    seen: set[str] = set()
    for one, first, after in zip(found.days, edges, edges[1:], strict=False):
        at_the_end = [
            stay for stay in stays if stay.start < after and (stay.end is None or stay.end >= after)
        ]
        wanted: dict[str, int | None] = {
            "members": len({stay.user for stay in at_the_end if not stay.held}),
            "held_out": len({stay.user for stay in at_the_end if stay.held}),
            "entered": len({stay.user for stay in stays if first <= stay.start < after and not stay.held}),
            "left": len(
                {
                    stay.user
                    for stay in stays
                    if stay.end is not None and first <= stay.end < after and not stay.held
                }
            ),
        }
        for name, tables in DAY_FIGURES.items():
            who: set[Any] = set()
            for table in tables:
                events = oracle.events(table)
                if "SUBSCRIPTION_STATUS" in events:
                    events = events[
                        [str(said).lower() == "unsubscribed" for said in events["SUBSCRIPTION_STATUS"]]
                    ]
                of_table = {
                    user for user, day in zip(events["USER"], events["DAY"], strict=True) if day == one.day
                }
                who |= of_table
                if of_table & users:
                    seen.add(table)
            wanted[name] = len(who & users)
        assert dict(one.figures) == wanted, one.day
    assert seen == {*counted}
    assert all(sum(one.figures[name] or 0 for one in found.days) for name in (*STAY_FIGURES, *DAY_FIGURES))
