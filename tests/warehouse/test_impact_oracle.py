"""Impacts against their oracle: the local Snowflake and pandas find the same figures in the same random rows."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_provider_kubit_braze.core.impact.figures import Course, Experiment, Group, Revenue, Timing
from airflow_provider_kubit_braze.core.impact.judge import judge_all
from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.exceptions import ImpactFiguresError
from airflow_provider_kubit_braze.measuring import measure_impact
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables
from tests.warehouse.impact_events import (
    APP_GROUP,
    COHORT,
    NEW_MESSAGES,
    NOW,
    SINCE,
    TABLES,
    UNTIL,
    WORKSPACE,
    World,
    add_rows,
    copy_share,
    fill_share,
    fill_view,
    make_world,
)
from tests.warehouse.impact_oracle import EVENTS, FIGURE_NAMES, PURCHASES, Oracle, Stay, Sums, read_stays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_kubit_braze.core.impact.figures import ControlKind
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox
    from tests.warehouse.impact_oracle import Compared, Message

DAY = date(2026, 3, 9)
NOON = int(datetime(2026, 3, 9, 12, tzinfo=UTC).timestamp())
HOUR = 3600

#: The world that most questions are asked in.
WORLD, JOURNEYS = 3, 130


@dataclass(frozen=True)
class Asked:
    """A question with the least that the oracle wants."""

    app_group_id: str = APP_GROUP
    campaigns: tuple[str, ...] = ()
    canvases: tuple[str, ...] = ()
    goal: str = "purchase"
    window: timedelta = timedelta(hours=1)
    since: date | None = date(2026, 3, 1)
    until: date | None = date(2026, 3, 31)
    timezone: str = "UTC"
    currency: str | None = None


def event(n: int, user: str, moment: int, **more: Any) -> dict[str, Any]:
    return {
        "ID": f"{n}",
        "USER_ID": f"profile of {user}",
        "EXTERNAL_USER_ID": user,
        "APP_GROUP_ID": APP_GROUP,
        "TIME": moment,
        "SF_CREATED_AT": f"2026-03-20 00:00:{n % 60:02}",
        "CAMPAIGN_API_ID": "c",
        **more,
    }


def stay(user: str, start: int, end: int | None = None, *, held: bool = False) -> Stay:
    return Stay(("external_id", user), start, end, held)


def share(**rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return a whole share; all but these tables are empty."""
    return {table: [] for table in TABLES} | {f"USERS_{name}_SHARED": found for name, found in rows.items()}


# -- the oracle itself, by facts that can be seen ----------------------------------------------------------------


def test_the_oracle_counts_a_funnel_as_anybody_would() -> None:
    stays = [stay("ann", NOON, NOON + 100), stay("bob", NOON), stay("cy", NOON, held=True)]
    sends = [
        event(1, "ann", NOON - 1),
        event(2, "ann", NOON),
        event(3, "ann", NOON + 99),
        event(4, "ann", NOON + 100),
        event(5, "bob", NOON + 50),
        event(5, "bob", NOON + 50, SF_CREATED_AT="2026-03-21"),
        event(6, "bob", NOON + 50, APP_GROUP_ID="another"),
        event(7, "cy", NOON + 50),
        event(8, "dee", NOON + 50),
    ]
    opens = [
        event(1, "bob", NOON + 49),
        event(2, "ann", NOON + 10, MACHINE_OPEN="True"),
        event(3, "bob", NOON + 50 + HOUR),
    ]
    clicks = [event(1, "ann", NOON), event(2, "bob", NOON + 49 + HOUR, CAMPAIGN_API_ID="other")]
    found = Oracle(
        share(MESSAGES_EMAIL_SEND=sends, MESSAGES_EMAIL_OPEN=opens, MESSAGES_EMAIL_CLICK=clicks),
        stays,
        Asked(),
    )
    figures = found.figures(found.counted)
    assert [figures[name] for name in FIGURE_NAMES] == [2, 3, 0, 0, 1, 0, 0, 0]
    assert found.messages == [("campaign", "c")]


def test_the_oracle_knows_merged_users_and_those_without_an_external_id() -> None:
    orphans = [
        event(1, "", NOON, USER_ID="a", EXTERNAL_USER_ID=None, ORPHANED_BY_ID="b"),
        event(2, "", NOON, USER_ID="b", EXTERNAL_USER_ID=None, ORPHANED_BY_ID="profile of ann"),
    ]
    sends = [
        event(1, "ann", NOON),
        event(2, "", NOON, USER_ID="a", EXTERNAL_USER_ID=None),
        event(3, "", NOON, USER_ID="profile of ann", EXTERNAL_USER_ID=None),
        event(4, "", NOON, USER_ID="c", EXTERNAL_USER_ID=None),
    ]
    stays = [stay("ann", NOON), Stay(("braze_id", "b"), NOON, None, False)]
    found = Oracle(share(USERORPHAN=orphans, MESSAGES_EMAIL_SEND=sends), stays[:1], Asked())
    assert (found.figures(found.counted)["reached"], found.figures(found.counted)["sends"]) == (1, 3)
    # The ledger knows one profile by two names: the first stands for it.
    both = Oracle(share(USERORPHAN=orphans, MESSAGES_EMAIL_SEND=sends), stays, Asked())
    assert set(both.counted["USER"]) == {("braze_id", "b")}


def test_the_oracle_lets_whoever_stays_longest_stand_for_a_profile_and_any_of_its_stays_count() -> None:
    stays = [
        stay("ann", NOON, NOON + 100),
        Stay(("braze_id", "profile of ann"), NOON + 200, NOON + 300, False),
        Stay(("braze_id", "profile of bob"), NOON, None, False),
        stay("bob", NOON),
    ]
    sends = [event(n, "ann", NOON + moment) for n, moment in enumerate((50, 150, 250))]
    found = Oracle(share(MESSAGES_EMAIL_SEND=[*sends, event(9, "bob", NOON)]), stays, Asked())
    assert [(user, t - NOON) for user, t in zip(found.counted["USER"], found.counted["T"], strict=True)] == [
        (("braze_id", "profile of ann"), 50),
        (("braze_id", "profile of ann"), 250),
        (("braze_id", "profile of bob"), 0),
    ]


def test_the_oracle_takes_the_day_in_the_time_zone_and_the_latest_reach() -> None:
    sends = [
        event(1, "ann", NOON - 9 * HOUR, MESSAGE_VARIATION_API_ID="A"),
        event(2, "ann", NOON - 8 * HOUR, MESSAGE_VARIATION_API_ID="B"),
    ]
    push = [event(1, "ann", NOON - 8 * HOUR, MESSAGE_VARIATION_API_ID="C")]
    conversions = [
        event(1, "ann", NOON - 7 * HOUR, CONVERSION_BEHAVIOR_INDEX=None),
        event(2, "ann", NOON - 7 * HOUR, CONVERSION_BEHAVIOR_INDEX=1),
    ]
    revenue = [event(1, "ann", NOON - 7 * HOUR, REVENUE=1234)]
    asked = Asked(window=timedelta(hours=2), timezone="America/New_York", since=date(2026, 3, 8))
    found = Oracle(
        share(
            MESSAGES_EMAIL_SEND=sends,
            MESSAGES_PUSHNOTIFICATION_SEND=push,
            CAMPAIGNS_CONVERSION=conversions,
            CAMPAIGNS_REVENUE=revenue,
        ),
        [stay("ann", NOON - 30 * HOUR)],
        asked,
    )
    # 03:00 UTC is still the day before there, and 04:00 is not: the clocks have just changed.
    assert {
        key: row["sends"] for key, row in found.grouped(found.counted, "DAY", "CHANNEL", "VARIATION").items()
    } == {(date(2026, 3, 8), "email", "A"): 1, (DAY, "email", "B"): 1, (DAY, "push", "C"): 1}
    [converted] = found.counted[found.counted["FIGURE"] == "converted"].to_dict("records")
    assert (converted["CHANNEL"], converted["VARIATION"], converted["DAY"]) == ("push", "C", DAY)
    assert found.figures(found.counted)["revenue"] == pytest.approx(12.34)


def test_the_oracle_counts_what_follows_the_messages_of_the_days_and_by_day_what_happened() -> None:
    day = 24 * HOUR
    sends = [event(n, user, NOON + n * day) for n, user in ((-1, "ann"), (0, "bob"), (1, "cy"))]
    clicks = [event(n, user, NOON + n * day) for n, user in ((0, "ann"), (1, "bob"), (2, "cy"))]
    found = Oracle(
        share(MESSAGES_EMAIL_SEND=sends, MESSAGES_EMAIL_CLICK=clicks),
        [stay(user, NOON - 9 * day) for user in ("ann", "bob", "cy")],
        Asked(since=DAY, until=DAY, window=timedelta(days=2)),
    )
    what = ["FIGURE", "USER"]
    bob, ann = ("external_id", "bob"), ("external_id", "ann")
    assert found.counted[what].to_numpy().tolist() == [["reached", bob], ["clicked", bob]]
    assert found.happened[what].to_numpy().tolist() == [["reached", bob], ["clicked", ann]]


def test_the_oracle_says_null_where_no_table_tells_and_finds_what_stands_in() -> None:
    tables = share(
        MESSAGES_EMAIL_OPEN=[event(1, "ann", NOON), event(2, "ann", NOON + 10)],
        MESSAGES_EMAIL_CLICK=[event(1, "ann", NOON + 5), event(2, "ann", NOON - 5)],
    )
    for lacking in ("MESSAGES_EMAIL_SEND", "MESSAGES_EMAIL_DELIVERY", "CAMPAIGNS_CONVERSION"):
        del tables[f"USERS_{lacking}_SHARED"]
    found = Oracle(tables, [stay("ann", NOON - HOUR)], Asked())
    figures = found.figures(found.counted)
    assert [figures[name] for name in FIGURE_NAMES] == [None, None, None, 1, 1, None, 0, 0]
    assert sum(found.counted["FIGURE"] == "clicked") == 1


def test_the_oracle_compares_groups_from_one_moment_on() -> None:
    stays = [
        stay("ann", NOON - HOUR, NOON + 1),
        stay("bob", NOON + 100),
        stay("cy", NOON - HOUR, held=True),
        stay("cy", NOON + 200),
        stay("dee", NOON - HOUR, NOON),
        stay("eve", NOON + 101 + HOUR),
        stay("fay", NOON + 100 + HOUR),
    ]
    bought = [
        event(1, "ann", NOON - 1, PRICE=1.0, CURRENCY="USD"),
        event(2, "ann", NOON + HOUR - 1, PRICE=10.0, CURRENCY="USD"),
        event(3, "bob", NOON + 100 + HOUR, PRICE=5.0, CURRENCY="USD"),
        event(4, "cy", NOON, PRICE=3.0, CURRENCY="USD"),
        event(5, "cy", NOON, PRICE=4.0, CURRENCY="USD"),
        event(6, "cy", NOON, PRICE=99.0, CURRENCY="EUR"),
        event(7, "dee", NOON, PRICE=7.0, CURRENCY="USD"),
    ]
    sends = [
        event(1, "ann", NOON),
        event(2, "bob", NOON + 100 + HOUR),
        event(3, "eve", NOON + 101 + HOUR, CAMPAIGN_API_ID="later"),
        event(4, "zoe", NOON + 3 * HOUR),
    ]
    # Neither what is sent later, nor what others buy, nor what has not happened says that purchases reach as far.
    bought.append(event(8, "zoe", NOON + 9 * HOUR))
    bought.append(event(9, "zoe", NOON + 3 * HOUR, APP_GROUP_ID="another"))
    at_eight = datetime.fromtimestamp(NOON + 8 * HOUR, UTC)
    whole = share(MESSAGES_EMAIL_SEND=sends, BEHAVIORS_PURCHASE=bought)
    found = Oracle(whole, stays, Asked(), now=at_eight)
    compared = found.experiment(("campaign", "c"))
    assert compared.treated == Sums(users=2, converters=1, buyers=1, total=10.0, squares=100.0)
    assert compared.control == Sums(users=1, converters=1, buyers=1, total=7.0, squares=49.0)
    # Bob was reached an hour after he came, which is too late, and of fay it is too early to say anything.
    assert (compared.reached, compared.ever_reached, compared.open_users) == (1, 2, 1)
    before, after = found.before_after(("campaign", "c"))
    assert (before.converters, before.total, after.total) == (1, 1.0, 17.0)
    never = Oracle({**whole, "USERS_BEHAVIORS_PURCHASE_SHARED": []}, stays, Asked())
    assert not never.can_compare


def test_the_oracle_knows_whom_of_those_held_out_a_message_was_sent_all_the_same() -> None:
    held = [stay(user, NOON - HOUR, held=True) for user in ("bob", "cy", "dee", "eve")]
    stays = [stay("ann", NOON), *held, Stay(("braze_id", "profile of dee"), NOON - HOUR, None, False)]
    sends = [event(1, "ann", NOON), event(2, "dee", NOON)]
    # Before the first of the treated, after the time that counts, and another campaign.
    sends += [
        event(3, "bob", NOON - 1),
        event(4, "cy", NOON + HOUR),
        event(5, "eve", NOON, CAMPAIGN_API_ID="new"),
    ]
    tables = share(MESSAGES_EMAIL_SEND=sends, BEHAVIORS_PURCHASE=[event(1, "zoe", NOON + 3 * HOUR)])
    found = Oracle(tables, stays, Asked())
    assert found.figures(found.counted)["sends"] == 2
    compared = found.experiment(("campaign", "c"))
    assert (compared.reached, compared.control_reached, compared.control.users) == (2, 1, 4)
    assert found.experiment(None).control_reached == 2
    assert found.messages == [("campaign", "c")]


def test_the_oracle_knows_who_bought_by_what_both_groups_do() -> None:
    stays = [stay("ann", NOON), stay("bob", NOON, held=True)]
    guest = event(1, "", NOON, USER_ID="guest", EXTERNAL_USER_ID=None, ORPHANED_BY_ID="profile of bob")
    bought: dict[str, Any] = {"EXTERNAL_USER_ID": None, "PRICE": 5.0, "CURRENCY": "USD"}
    tables = share(
        USERORPHAN=[guest],
        MESSAGES_EMAIL_SEND=[event(1, "ann", NOON)],
        BEHAVIORS_PURCHASE=[
            event(1, "ann", NOON, **bought),
            event(2, "bob", NOON, **{**bought, "USER_ID": "guest"}),
            event(3, "zoe", NOON + HOUR),
        ],
        BEHAVIORS_CUSTOMEVENT=[event(1, "bob", NOON - 1, NAME="other"), event(2, "zoe", NOON + HOUR)],
    )

    def spent(asked: Asked, views: Sequence[dict[str, Any]] = ()) -> list[float]:
        compared = Oracle(tables, stays, asked, views).experiment(None)
        assert (compared.treated.users, compared.control.users, compared.reached) == (1, 1, 1)
        return [compared.treated.total, compared.control.total]

    # Ann's message names her, and nobody is sent one who is held out.
    assert spent(Asked()) == [0, 0]
    assert spent(Asked(goal="signup")) == [0, 5]
    views = [
        {"USER_ID": "profile of ann", "EXTERNAL_USER_ID": "ann", "EMAIL_ADDRESS": "", "PHONE_NUMBER": ""}
    ]
    assert spent(Asked(), views) == [5, 0]


def test_the_oracle_compares_those_who_came_since_and_whom_the_share_can_name() -> None:
    midnight = NOON - 12 * HOUR
    stays = [
        stay("ann", midnight - 1),
        stay("bob", midnight),
        stay("cy", midnight - 5, midnight - 4),
        stay("cy", midnight + 1, held=True),
        *(
            Stay((kind, "dee"), midnight, None, False)
            for kind in ("user_alias", "device_id", "email", "phone")
        ),
    ]
    sends = [
        event(1, "ann", midnight - 1),
        event(2, "ann", NOON),
        event(3, "ann", NOON, CAMPAIGN_API_ID="new"),
        # Before she came, and to somebody who never did.
        event(4, "ann", midnight - 5, CAMPAIGN_API_ID="new"),
        event(5, "zoe", midnight - 1, CAMPAIGN_API_ID="new"),
    ]
    found = Oracle(share(MESSAGES_EMAIL_SEND=sends), stays, Asked(since=DAY))
    treated, control = (("external_id", "bob"), (False, NOON)), (("external_id", "cy"), (True, NOON))
    assert found.units(("campaign", "c")) == found.units(None) == dict([treated, control])
    assert found.units(("campaign", "new")) == dict(
        [(("external_id", "ann"), (False, NOON)), treated, control]
    )
    views = [{"USER_ID": "d", "EXTERNAL_USER_ID": None, "EMAIL_ADDRESS": "dee", "PHONE_NUMBER": None}]
    named = Oracle(share(MESSAGES_EMAIL_SEND=sends), stays, Asked(since=DAY), views)
    assert named.units(None).keys() - found.units(None).keys() == {("email", "dee"), ("phone", "dee")}


def test_the_oracle_looks_for_older_messages_in_the_year_before() -> None:
    midnight, year = NOON - 12 * HOUR, 365 * 24 * HOUR
    stays = [stay("ann", midnight - 2 * year), stay("bob", NOON, held=True)]
    sends = [
        event(1, "ann", midnight - year, CAMPAIGN_API_ID="a year ago"),
        event(2, "ann", midnight - year - 1, CAMPAIGN_API_ID="longer ago"),
        event(3, "", midnight - 40 * HOUR, EXTERNAL_USER_ID=None, USER_ID="profile of ann"),
        *(
            event(n, "ann", NOON, CAMPAIGN_API_ID=one)
            for n, one in enumerate(("a year ago", "longer ago", "c"), 4)
        ),
    ]

    def older(rows: list[dict[str, Any]]) -> list[str]:
        found = Oracle(share(MESSAGES_EMAIL_SEND=rows), stays, Asked(since=DAY))
        return [one for kind, one in found.messages if found.began_before((kind, one))]

    # By the message of a year ago it is known then whose the profile is; by what comes later it is not.
    assert older(sends) == ["a year ago", "c"]
    assert older(sends[1:]) == []


def test_the_oracle_has_no_control_group_of_braze_where_it_is_not_known_whom_a_campaign_reached() -> None:
    tables = share(
        MESSAGES_EMAIL_SEND=[event(1, "ann", NOON)],
        MESSAGES_SMS_SHORTLINKCLICK=[event(1, "bob", NOON)],
        CAMPAIGNS_ENROLLINCONTROL=[event(1, "cy", NOON)],
        BEHAVIORS_PURCHASE=[event(1, "zoe", NOON + HOUR)],
    )
    stays = [stay(user, NOON) for user in ("ann", "bob", "cy")]
    compared = Oracle(tables, stays, Asked()).braze_control(("campaign", "c"))
    assert compared is not None
    assert (compared.treated.users, compared.control.users, compared.reached) == (1, 1, 1)
    for lacking in ("SEND", "DELIVERY"):
        del tables[f"USERS_MESSAGES_SMS_{lacking}_SHARED"]
    assert Oracle(tables, stays, Asked()).braze_control(("campaign", "c")) is None


def test_the_random_worlds_have_something_of_everything() -> None:
    world = make_world(WORLD, journeys=JOURNEYS)
    assert make_world(WORLD, journeys=JOURNEYS) == world
    stays = read_stays(world.membership, world.runs, workspace=WORKSPACE, cohort_id=COHORT)
    found = Oracle(world.share, stays, Asked(window=WEEK, since=SINCE, until=UNTIL), now=NOW)
    assert all(len(rows) for rows in world.share.values())
    assert len(found.messages) == 5
    channels = found.grouped(found.counted, "CHANNEL")
    assert sorted(channel for (channel,) in channels) == sorted(found.channels)
    assert all(found.figures(found.counted).values())
    compared = found.experiment(None)
    assert min(compared.treated.converters, compared.control.converters, compared.reached) > 1
    # Old and new messages, windows that are not over, users of every kind, and profiles of two.
    assert {found.began_before(message) for message in found.messages} == {True, False}
    assert compared.open_users
    # Those held out to whom a message was sent are none, a few, and too many.
    groups = [found.experiment(message) for message in found.messages]
    shares = [one.control_reached / one.control.users for one in groups]
    assert min(shares) == 0
    assert any(0 < one <= 0.05 for one in shares)
    assert max(shares) > 0.05
    assert {kind for kind, _ in found.ends} == {
        "braze_id", "external_id", "email", "phone", "user_alias", "device_id"
    }  # fmt: skip
    two = [users for users in found.people.values() if len({found.ends[user] for user in users}) > 1]
    assert any(found.standing(users) != min(users) for users in two)


# -- the local Snowflake against the oracle ------------------------------------------------------------------------

HOLDOUT: Final = Fraction(3, 10)
WEEK: Final = timedelta(days=7)

_numbers = count(1)


class Lab:
    """A share, a ledger, and what both of them say of a question.

    :param session: an open session.
    :param world: what is in them.
    """

    def __init__(self, session: Session, world: World) -> None:
        number = next(_numbers)
        self.session = session
        self.world = world
        self.rows: Mapping[str, Sequence[dict[str, Any]]] = world.share
        self.views: Sequence[dict[str, Any]] = ()
        self.source = f"BRAZE_SHARE_DB.ORACLE_{number}"
        self.tables = Tables(f"KB_ORACLE_{number}")
        ensure_tables(session, self.tables)
        ledger = {"COHORT_MEMBERSHIP": world.membership, "IMPORT_RUN": world.runs}
        add_rows(session.connection, self.tables.schema, ledger)

    def filled(self) -> Lab:
        """Write all rows into the share."""
        fill_share(self.session.connection, self.source, self.rows)
        return self

    def with_share(self, tables: Sequence[str], *, suffix: str = "") -> Lab:
        """Return a laboratory of its own whose share has some of the tables only, and the same ledger."""
        other = Lab(self.session, self.world)
        copy_share(self.session.connection, self.source, other.source, tables, suffix=suffix)
        other.rows = {f"{table}{suffix}": self.rows[table] for table in tables}
        return other

    def with_everybody_treated(self) -> Lab:
        """Return a laboratory of its own with the same share, and a ledger where nobody is held out."""
        ledger = [{**row, "HELD_OUT": False} for row in self.world.membership]
        other = Lab(self.session, replace(self.world, membership=ledger))
        other.source = self.source
        return other

    def question(self, **asked: Any) -> ImpactQuestion:
        days = {"since": SINCE, "until": UNTIL}
        return ImpactQuestion(source=self.source, app_group_id=APP_GROUP, **{**days, **asked})

    def measured(self, question: ImpactQuestion) -> dict[str, Any]:
        """Return what the package says."""
        report = measure_impact(
            question,
            session=self.session,
            tables=self.tables,
            workspace=WORKSPACE,
            cohort_id=COHORT,
            holdout=HOLDOUT,
            now=NOW,
        )
        return report.as_dict()

    def daily(self, question: ImpactQuestion) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Return IMPACT_DAILY's rows of the period."""
        rows = self.session.rows(
            f"SELECT DAY, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, {', '.join(FIGURE_NAMES)} "
            f"FROM {self.tables.impact_daily} WHERE MEASURE = %s AND DAY >= %s AND DAY <= %s",
            (question.measure, question.since, question.until),
        )
        return {row[:5]: _rounded(dict(zip(FIGURE_NAMES, row[5:], strict=True))) for row in rows}

    def oracle(self, question: ImpactQuestion) -> Oracle:
        world = self.world
        stays = read_stays(world.membership, world.runs, workspace=WORKSPACE, cohort_id=COHORT)
        return Oracle(self.rows, stays, question, self.views, now=NOW)


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {**figures, "revenue": None if figures["revenue"] is None else round(figures["revenue"], 2)}


def expected(oracle: Oracle) -> dict[Message, dict[str, Any]]:
    """Return message -> what a report has to say of it, ('all', 'all') among them."""
    messages: list[Message | None] = [*oracle.messages, *([None] if len(oracle.messages) > 1 else [])]
    experiments = _judged(oracle, oracle.messages) | _judged(oracle, messages[len(oracle.messages) :])
    found = {}
    for message in messages:
        rows = oracle.of(message)
        of_kinds = oracle.counted if message is None else rows
        found[message or ("all", "all")] = {
            "figures": oracle.figures(rows),
            "channels": {
                channel: oracle.figures(some, of_kinds.assign(CHANNEL=channel))
                for channel, some in rows.groupby("CHANNEL")
            },
            "variations": {}
            if message is None
            else {key: oracle.figures(some) for key, some in rows.groupby(["CHANNEL", "VARIATION"])},
            "days": {
                day.isoformat(): oracle.figures(some, rows)
                for day, some in oracle.of(message, oracle.happened).groupby("DAY")
            },
            **experiments[message],
        }
    return found


def _judged(oracle: Oracle, messages: Sequence[Message | None]) -> dict[Message | None, dict[str, Any]]:
    """Judge messages, those together that have control groups of one kind, by the oracle's groups."""
    described: dict[Message | None, dict[str, Any]] = {}
    held_out: list[tuple[Message | None, Experiment]] = []
    by_braze: list[tuple[Message | None, Experiment]] = []
    by_step: list[tuple[Message | None, Experiment]] = []
    for message in messages:
        own = oracle.experiment(message)
        there = oracle.run_of(message) is not None and oracle.can_compare
        described[message] = {
            "open_users": own.open_users if there else 0,
            "experiments": [],
            "before_after": None,
            # Of what reached nobody there is nothing to say; of anything else it is said why nothing is judged.
            "is_told": oracle.run_of(message) is not None or not oracle.can_compare,
        }
        if not there:
            continue
        if any(held for held, _ in oracle.units(message).values()):
            held_out.append((message, _experiment(oracle, message, own, "holdout")))
        else:
            groups = [_group(oracle, sums) for sums in oracle.before_after(message)]
            if groups[0].users:
                described[message]["before_after"] = [
                    (one.users, one.converters, one.revenue and round(one.revenue.total, 2)) for one in groups
                ]
        # Braze names those whom it keeps out once, and the treated each time: old ones would be missing of one group.
        if message is None or oracle.began_before(message):
            continue
        of_braze = oracle.braze_control(message)
        if of_braze is not None:
            by_braze.append((message, _experiment(oracle, message, of_braze, "braze_control")))
        for step in oracle.steps(message):
            of_step = oracle.control_path(message, step)
            if of_step is not None:
                by_step.append(
                    (message, _experiment(oracle, message, of_step, "control_path", control_id=step))
                )
    for together in (held_out, by_braze, by_step):
        for (message, _), judged in zip(together, judge_all([one for _, one in together]), strict=True):
            described[message]["experiments"].append(_comparable(asdict(judged)))
    return described


def _experiment(
    oracle: Oracle,
    message: Message | None,
    compared: Compared,
    control_kind: ControlKind,
    control_id: str = "",
) -> Experiment:
    treated, control = _group(oracle, compared.treated), _group(oracle, compared.control)
    if treated.revenue is None or control.revenue is None:
        treated, control = (Group(users=one.users, converters=one.converters) for one in (treated, control))
    run = oracle.run_of(message)
    assert run is not None
    is_known = oracle.figures(oracle.of(message))["reached"] is not None
    # Of which only the words make more than the number.
    timing = Timing(ever_reached=compared.ever_reached, window=oracle.question.window, first_day=DAY)
    return Experiment(
        name="",
        treated=treated,
        control=control,
        control_kind=control_kind,
        control_id=control_id,
        control_share=float(HOLDOUT) if control_kind == "holdout" else None,
        reached=compared.reached if is_known else None,
        control_reached=compared.control_reached if control_kind == "holdout" else None,
        timing=timing if is_known else None,
        # Nobody is missing, and nobody more can come.
        course=oracle.course_of(message)
        if not compared.open_users and oracle.is_over(run[1])
        else Course.RUNNING,
    )


def _group(oracle: Oracle, sums: Sums) -> Group:
    revenue = None
    if oracle.currency is not None and ("revenue", "purchases") in oracle.possible:
        try:
            revenue = Revenue(
                buyers=sums.buyers, total=sums.total, squares=sums.squares, currency=oracle.currency
            )
        except ImpactFiguresError:
            # Refunds are more than purchases: then there is no revenue to judge.
            revenue = None
    return Group(users=sums.users, converters=sums.converters, revenue=revenue)


def _comparable(judged: dict[str, Any]) -> dict[str, Any]:
    """Return a judgement with numbers that may have been summed in another order."""
    return {key: _nearly(value) for key, value in _plain(judged).items()}


def _nearly(value: Any) -> Any:
    """Make numbers comparable that were summed in another order."""
    if isinstance(value, dict):
        return {key: _nearly(one) for key, one in value.items()}
    return pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value


def told(report: dict[str, Any]) -> dict[Message, dict[str, Any]]:
    """Return the same of a report."""
    found = {}
    for one in report["messages"]:
        described = one["before_after"]
        assert not (one["not_judged"] and (one["experiments"] or described))
        found[one["kind"], one["id"]] = {
            "figures": one["figures"],
            "channels": {part["channel"]: part["figures"] for part in one["channels"]},
            "variations": {
                (part["channel"], part["variation"]): part["figures"] for part in one["variations"]
            },
            "days": {part["day"]: part["figures"] for part in one["days"]},
            "open_users": one["open_users"],
            "experiments": [_plain(each) for each in one["experiments"]],
            "is_told": bool(one["experiments"] or described or one["not_judged"]),
            "before_after": described
            and [
                (of["users"], of["converters"], of["revenue"] and round(of["revenue"], 2))
                for of in (described["before"], described["after"])
            ],
        }
    return found


def _plain(judged: dict[str, Any]) -> dict[str, Any]:
    """Return a judgement without its words, and without the forecast, which the oracle does not know."""
    found = {key: value for key, value in judged.items() if key != "name"}
    for measure in ("conversion", "revenue"):
        if found[measure]:
            found[measure] = {k: v for k, v in found[measure].items() if k not in ("days", "sentence")}
    return found


def assert_same(lab: Lab, question: ImpactQuestion, report: dict[str, Any] | None = None) -> Oracle:
    """Compare all that the package says with all that the oracle says, piece by piece."""
    oracle = lab.oracle(question)
    report = report or lab.measured(question)
    found, wanted = told(report), expected(oracle)
    assert report["data_until"] == datetime.fromtimestamp(oracle.data_until or 0, UTC).isoformat()
    _check_notes(oracle, report)
    assert found.keys() == wanted.keys()
    for message, parts in wanted.items():
        for part, value in parts.items():
            assert found[message][part] == value, (message, part)
    if not (question.campaigns or question.canvases):
        columns = ("DAY", "KIND", "MESSAGE", "CHANNEL", "VARIATION")
        assert lab.daily(question) == oracle.grouped(oracle.happened, *columns)
    return oracle


def _check_notes(oracle: Oracle, report: dict[str, Any]) -> None:
    """Compare of how many messages and users it is said that only some are compared."""
    ids: list[Message | None] = [*oracle.messages, *([None] if len(oracle.messages) > 1 else [])]
    older = [
        one
        for one in ids
        if oracle.can_compare
        and oracle.run_of(one) is not None
        and oracle.began_before(one)
        and (oracle.units(one) or (one and oracle.keeps_out(one)))
    ]
    assert len([note for note in report["notes"] if "began before" in note]) == len(older)
    groups = [oracle.experiment(one) for one in ids if oracle.can_compare and oracle.run_of(one) is not None]
    assert sorted(
        f"{one.control_reached} of {one.control.users}" for one in groups if one.control_reached
    ) == sorted(
        note.partition(" held-out users were sent")[0] for note in report["notes"] if "all the same" in note
    )
    kinds = [kind for kind, user in oracle.ends if not oracle.is_nameable((kind, user))]
    assert {f"{kinds.count(kind)} users of the cohort are known by {kind}" for kind in kinds} == {
        note.partition(",")[0] for note in report["notes"] if "are known by" in note
    }


@pytest.fixture(scope="module")
def session(kubit_braze_sandbox: Sandbox) -> Iterator[Session]:
    opened = Session(kubit_braze_sandbox.connect(), tag={"app": "tests"})
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def lab(session: Session) -> Lab:
    """Where some users are held out."""
    return Lab(session, make_world(WORLD, journeys=JOURNEYS)).filled()


@pytest.mark.parametrize(
    "asked",
    [
        {"window": WEEK},
        {
            "window": timedelta(days=1),
            "goal": "signup",
            "timezone": "America/New_York",
            "campaigns": [NEW_MESSAGES[0]],
            "canvases": [NEW_MESSAGES[1]],
        },
    ],
    ids=str,
)
def test_snowflake_and_the_oracle_agree(lab: Lab, asked: dict[str, Any]) -> None:
    oracle = assert_same(lab, lab.question(**asked))
    assert any(held for held, _ in oracle.units(None).values())
    assert oracle.began_before(None) is ("campaigns" not in asked)
    canvas: Message = ("canvas", NEW_MESSAGES[1])
    assert oracle.steps(canvas) == ["step-1", "step-2"]
    assert any(oracle.control_path(canvas, step) for step in oracle.steps(canvas))


def test_without_a_holdout_they_agree_on_before_and_after(lab: Lab) -> None:
    everybody = lab.with_everybody_treated()
    asked = {"campaigns": ["camp-1"], "currency": "EUR"}
    oracle = assert_same(
        everybody, everybody.question(window=timedelta(days=3), timezone="America/New_York", **asked)
    )
    before, after = oracle.before_after(oracle.messages[0])
    # Whom Braze itself kept out is no holdout of the cohort.
    assert oracle.braze_control(oracle.messages[0])
    assert before.converters
    assert after.converters
    # Somebody bought nothing in that time, and gave something back.
    oracle.goals = oracle.events(PURCHASES, oracle.doers)
    assert oracle.before_after(oracle.messages[0]) != (before, after)


def half_of_them(seed: int) -> list[str]:
    """Return a random half of the tables."""
    return [table for table in TABLES if random.Random(f"{seed} {table}").random() < 0.5]  # noqa: S311


def test_a_share_that_lacks_half_of_its_tables_yields_the_same_as_the_oracle_s(lab: Lab) -> None:
    half = lab.with_share(half_of_them(1))
    oracle = assert_same(half, half.question(window=timedelta(days=1), goal="signup"))
    assert oracle.figures(oracle.counted)["reached"] is None


def test_tables_with_the_archive_do_as_well_and_profile_views_name_users_too(lab: Lab) -> None:
    outcomes = [table for table in TABLES if table in (PURCHASES, EVENTS)]
    twins = lab.with_share(list(dict.fromkeys([*half_of_them(3), *outcomes])), suffix="_ALL")
    twins.views = twins.world.views
    fill_view(twins.session.connection, twins.source, twins.views)
    oracle = assert_same(twins, twins.question(window=timedelta(hours=6), goal="o'clock 100%"))
    assert "email" in {kind for kind, _ in oracle.counted["USER"]}
    assert "phone" in {kind for kind, _ in oracle.units(None)}


def test_measuring_day_by_day_finds_what_measuring_once_finds(session: Session) -> None:
    world = make_world(4, users=40, journeys=70, named=1.0)
    parts = ("EMAIL", "PUSH", "CAMPAIGNS", "ORPHAN", "PURCHASE")
    world.share = world.only([table for table in TABLES if any(part in table for part in parts)])
    steps = Lab(session, world)
    fill_share(session.connection, steps.source, dict.fromkeys(world.share, ()))
    # Who is who must not depend on which days are measured together, as it does where only other rows say it.
    steps.views = world.views
    fill_view(session.connection, steps.source, steps.views)
    question = steps.question(window=timedelta(days=1))
    measured = []
    for batch in world.batches(3):
        add_rows(session.connection, steps.source, batch)
        measured.append(steps.measured(question))
    assert_same(steps, question, measured[-1])
    # What the later ones found was new on some days only.
    (wanted,) = session.row(f"SELECT MAX(LAST_DAY) - MIN(FIRST_DAY) + 1 FROM {steps.tables.impact_refresh}")
    assert max(one["days_measured"] for one in measured) < wanted
    assert all(len(one["messages"]) > 1 for one in measured[1:])
