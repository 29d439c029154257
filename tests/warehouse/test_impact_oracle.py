"""Impacts against their oracle: the local Snowflake and pandas find the same figures in the same random rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.warehouse.impact_events import APP_GROUP, COHORT, TABLES, WORKSPACE, make_world
from tests.warehouse.impact_oracle import FIGURE_NAMES, Oracle, Stay, Sums, read_stays

DAY = date(2026, 3, 9)
NOON = int(datetime(2026, 3, 9, 12, tzinfo=UTC).timestamp())
HOUR = 3600


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
        stay("eve", NOON + 301),
        stay("fay", NOON + 300),
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
        event(2, "bob", NOON + 300),
        event(3, "eve", NOON + 301, CAMPAIGN_API_ID="later"),
        event(4, "zoe", NOON + 100 + HOUR),
    ]
    found = Oracle(share(MESSAGES_EMAIL_SEND=sends, BEHAVIORS_PURCHASE=bought), stays, Asked())
    compared = found.experiment(("campaign", "c"))
    assert compared.treated == Sums(users=2, converters=1, buyers=1, total=10.0, squares=100.0)
    assert compared.control == Sums(users=1, converters=1, buyers=1, total=7.0, squares=49.0)
    assert (compared.reached, compared.open_users) == (2, 1)
    before, after = found.before_after(("campaign", "c"))
    assert (before.converters, before.total, after.total) == (1, 1.0, 17.0)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_random_worlds_have_something_of_everything(seed: int) -> None:
    world = make_world(seed)
    assert make_world(seed) == world
    stays = read_stays(world.membership, world.runs, workspace=WORKSPACE, cohort_id=COHORT)
    found = Oracle(world.share, stays, Asked(window=timedelta(days=1)))
    assert all(len(rows) for rows in world.share.values())
    assert len(found.messages) == 5
    channels = found.grouped(found.counted, "CHANNEL")
    assert sorted(channel for (channel,) in channels) == sorted(found.channels)
    assert all(found.figures(found.counted).values())
    compared = found.experiment(None)
    assert min(compared.treated.converters, compared.control.converters, compared.reached) > 1
