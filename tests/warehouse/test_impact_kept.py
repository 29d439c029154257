"""What was measured stays: whatever is asked next, wherever a measurement is killed, and whoever else measures."""

from __future__ import annotations

import random
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_provider_kubit_braze.exceptions import LeaseLostError
from airflow_provider_kubit_braze.warehouse import impact_refresh
from airflow_provider_kubit_braze.warehouse.impact_days import Days
from airflow_provider_kubit_braze.warehouse.impact_older import Older
from airflow_provider_kubit_braze.warehouse.impact_work import WorkTables
from airflow_provider_kubit_braze.warehouse.session import Session
from tests.warehouse.impact_world import World, figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox
    from airflow_provider_kubit_braze.warehouse.impact_stage import Staged

JANUARY: Final[dict[str, Any]] = {"since": "2026-01-05", "until": "2026-01-20"}


def kept(world: World) -> list[tuple[Any, ...]]:
    """Return what is kept of days, without when they were measured."""
    tables = world.warehouse.tables
    daily = (
        f"SELECT DAY, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, REACHED, SENDS, SEEN FROM {tables.impact_daily} "
        "ORDER BY 1, 2, 3, 4, 5"
    )
    events = (
        "SELECT DAY, MOMENT, FIGURE, KIND, MESSAGE_ID, CHANNEL, USER_ID, AMOUNT "
        f"FROM {tables.impact_event} WHERE FIGURE <> 'older' ORDER BY 1, 2, 3, 4, 5, 6, 7"
    )
    return [*world.warehouse.session.rows(daily), *world.warehouse.session.rows(events)]


def older(world: World) -> list[tuple[Any, ...]]:
    rows = world.warehouse.session.rows(
        "SELECT MESSAGE_ID, TO_CHAR(DAY, 'YYYY-MM-DD'), COALESCE(USER_ID, '') "
        f"FROM {world.warehouse.tables.impact_event} WHERE FIGURE = 'older' ORDER BY 1, 2"
    )
    return [(message, day) for message, day, user in rows if not user]


def two_seasons(world: World) -> None:
    """Have messages in January and in March."""
    for user in ("ann", "bob"):
        world.stay(user, "01-01 00:00")
        world.message("EMAIL_SEND", user, "01-10 10:00", CAMPAIGN_API_ID="winter")
        world.message("EMAIL_SEND", user, "02 10:00")
    world.message("EMAIL_OPEN", "ann", "01-11 10:00", CAMPAIGN_API_ID="winter")
    world.message("EMAIL_OPEN", "ann", "03 10:00")
    world.purchase("somebody else", "19 00:00")


def messages(report: dict[str, Any]) -> list[tuple[str, int]]:
    return sorted((one["id"], one["figures"]["reached"]) for one in report["messages"] if one["id"] != "all")


def killed_at(number: int, work: Callable[..., None]) -> Callable[..., None]:
    """Return what raises in place of the call of that number."""
    calls = iter(range(1, 100))

    def call(*args: object, **kwargs: object) -> None:
        if next(calls) == number:
            raise RuntimeError("killed")
        work(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("of", "name", "is_new"),
    [
        (Older, "look", False),
        (Days, "_measure", False),
        (Days, "_measure", True),
        (Days, "_count", False),
        (Older, "keep", False),
    ],
)
def test_a_retry_after_a_killed_measurement_finds_all_that_was_there(
    world: World, monkeypatch: pytest.MonkeyPatch, of: type, name: str, is_new: bool
) -> None:
    two_seasons(world)
    world.measure(since="2026-01-01")
    rows = kept(world)
    if is_new:
        monkeypatch.setattr(impact_refresh, "_RULES", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(of, name, killed_at(2 if name == "_measure" else 1, getattr(of, name)))
        with pytest.raises(RuntimeError, match="killed"):
            world.measure(full_refresh=not is_new)
        assert set(kept(world)) <= set(rows)
        assert [row for row in kept(world) if row[0].month == 1] == [row for row in rows if row[0].month == 1]
    assert messages(world.measure()) == [("spring", 2)]
    assert kept(world) == rows
    assert messages(world.measure(since="2026-01-01")) == [("spring", 2), ("winter", 2)]
    assert kept(world) == rows


def test_a_question_about_days_of_their_own_leaves_all_others_known(world: World) -> None:
    two_seasons(world)
    world.measure()
    march = kept(world)
    assert messages(world.measure(**JANUARY)) == [("winter", 2)]
    assert [row for row in kept(world) if row[0].month == 3] == march
    both = kept(world)
    # As if nothing had been asked in between: today, yesterday, and what is a day old.
    assert world.measure()["days_measured"] == 3
    assert world.measure(**JANUARY)["days_measured"] == 0
    assert kept(world) == both
    # The days between are new, and what may follow them; the others are known.
    bridged = world.measure(since="2026-01-05")
    assert messages(bridged) == [("spring", 2), ("winter", 2)]
    assert kept(world) == both
    assert world.measure(**JANUARY)["days_measured"] == 3
    assert messages(world.measure(since="2026-01-05", full_refresh=True)) == messages(bridged)
    assert kept(world) == both


def test_what_was_bought_later_says_nothing_of_the_currency(world: World) -> None:
    two_seasons(world)
    world.purchase("ann", "01-12 10:00")
    world.purchase("ann", "04 10:00", currency="EUR")
    world.purchase("bob", "04 10:00", currency="EUR")
    alone = world.measure(**JANUARY)
    world.measure()
    again = world.measure(**JANUARY)
    del alone["days_measured"], again["days_measured"]
    assert again == alone
    assert alone["notes"] == []


def test_days_are_measured_again_that_were_last_measured_with_other_settings(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_seasons(world)
    world.measure(**JANUARY)
    with monkeypatch.context() as patch:
        patch.setattr(impact_refresh, "_RULES", 1000)
        world.measure(since="2026-01-15")
        # Of days that were not asked about in other words nothing is lost.
        assert messages(world.measure(since="2026-01-01")) == [("spring", 2), ("winter", 2)]
    # What January was measured by is not what is there now.
    assert world.measure(**JANUARY)["days_measured"] > 10


def test_another_share_takes_the_place_of_all_days_and_of_what_is_known_of_them(world: World) -> None:
    two_seasons(world)
    world.measure(**JANUARY)
    world.measure()
    first, world.app_group = world.app_group, "another"
    world.message("EMAIL_SEND", "ann", "10 10:00", CAMPAIGN_API_ID="theirs")
    assert messages(world.measure(since="2026-03-08", window="7d", full_refresh=True)) == [("theirs", 1)]
    assert {row[0].month for row in kept(world)} == {3}
    world.app_group = first
    assert messages(world.measure(**JANUARY, full_refresh=True)) == [("winter", 2)]
    assert {row[0].month for row in kept(world)} == {1}


def test_whatever_was_asked_before_the_answer_is_that_of_one_measurement(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges of every kind, one after the other, some killed, while rows go on coming, early ones and late ones."""
    chance = random.Random(1)  # noqa: S311  (the same each time, and no secret)
    days = [f"{month}-{day:02}" for month in ("02", "03") for day in range(1, 20)]
    for user in ("ann", "bob", "cid"):
        world.stay(user, f"{chance.choice(days)} 00:00")
    for step in range(5):
        loaded = f"2026-03-{8 + step:02} 12:00:00"
        for _ in range(4):
            day, message = chance.choice(days), chance.choice(("spring", "winter"))
            for area in ("EMAIL_SEND", "EMAIL_OPEN"):
                user, hour = chance.choice(("ann", "bob", "cid")), chance.choice(("09:00", "23:30"))
                world.message(area, user, f"{day} {hour}", CAMPAIGN_API_ID=message, SF_CREATED_AT=loaded)
        since, until = sorted(chance.sample(days, 2))
        asked: dict[str, Any] = {"since": f"2026-{since}", "until": f"2026-{until}", "window": "2d"}
        with monkeypatch.context() as patch:
            if is_killed := chance.random() < 0.3:
                patch.setattr(Days, "_measure", killed_at(chance.choice((1, 2)), Days._measure))
            try:
                found = world.measure(**asked, full_refresh=chance.random() < 0.2)
            except RuntimeError:
                assert is_killed
                continue
        whole = world.measure(**asked, full_refresh=True)
        for report in (found, whole):
            del report["days_measured"]
        assert found == whole
        # The measurement anew has withdrawn what was known; other ranges are to be gone on from as well.
        if chance.random() < 0.5:
            world.measure(since="2026-02-10", window="2d")
    wide = world.measure(since="2026-02-01", window="2d")
    rows = kept(world)
    assert world.measure(since="2026-02-01", window="2d", full_refresh=True)["messages"] == wide["messages"]
    assert [row for row in kept(world) if row[0].month > 1] == [row for row in rows if row[0].month > 1]


# -- only whoever holds the lease --------------------------------------------------------------------------------


def test_every_transaction_that_changes_what_was_measured_ends_with_the_fence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_seasons(world)
    said: list[str] = []
    execute = Session.execute

    def listen(session: Session, sql: str, params: Sequence[Any] | None = None) -> Any:
        said.append(sql)
        return execute(session, sql, params)

    monkeypatch.setattr(Session, "execute", listen)
    world.measure(fence=lambda: said.append("FENCE"))
    world.app_group = "another"
    world.measure(full_refresh=True, fence=lambda: said.append("FENCE"))
    changed = [
        f"{verb} {world.warehouse.schema}.IMPACT_" for verb in ("INSERT INTO", "DELETE FROM", "UPDATE")
    ]
    work = f"{world.warehouse.schema}.IMPACT_WORK_"
    written, begun = set(), False
    for sql, after in zip(said, [*said[1:], ""], strict=True):
        begun = sql == "BEGIN" or (begun and sql != "COMMIT")
        if any(one in sql for one in changed) and f"INTO {work}" not in sql:
            assert begun, sql
            assert after != "COMMIT", sql
            written.add(sql.split(f"{world.warehouse.schema}.")[1].split()[0])
    assert written == {"IMPACT_EVENT", "IMPACT_DAILY", "IMPACT_REFRESH", "IMPACT_SUMMARY"}


def test_whoever_was_taken_for_dead_changes_nothing_any_more(
    world: World, kubit_braze_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_seasons(world)
    world.measure()
    rows, tables = kept(world), world.warehouse.tables
    world.message("EMAIL_SEND", "ann", "18 10:00", SF_CREATED_AT="2026-03-20 11:00:00")
    make = WorkTables.make

    def lose(work: WorkTables, name: str, query: Staged) -> None:
        make(work, name, query)
        if name == "fresh":
            world.warehouse.session.execute(f"UPDATE {tables.lease} SET OWNER = 'the retry'")

    monkeypatch.setattr(WorkTables, "make", lose)
    with pytest.raises(LeaseLostError, match="Another task measures the impact on cohort 'vips' by now"):
        world.measure_alone(kubit_braze_sandbox, since=date(2026, 3, 1))
    assert kept(world) == rows


# -- messages that are older than the days -----------------------------------------------------------------------


def two_generations(world: World, *earlier: str) -> None:
    """Have a campaign go to users who were there before, and to some who came on 8 March."""
    for user, came in (("old", "2024-01-01 00:00"), ("new", "08 00:00")):
        world.stay(user, came)
        world.stay(f"{user} held", came, held=True)
    for moment in earlier:
        world.message("EMAIL_SEND", "old", moment)
    for user in ("old", "new"):
        world.message("EMAIL_SEND", user, "09 10:00")
    world.purchase("x", "19 00:00")


def sizes(report: dict[str, Any]) -> tuple[int, int]:
    (found,) = report["messages"][0]["experiments"]
    assert any("began before" in note for note in report["notes"]) == (found["treated_users"] == 1)
    return found["treated_users"], found["control_users"]


@pytest.mark.parametrize(
    ("moment", "of_march"),
    [
        ("01-10 10:00", (1, 1)),
        ("2025-03-07 00:00", (1, 1)),
        ("2025-03-06 23:59", (2, 2)),
    ],
)
def test_the_same_question_has_one_answer_whatever_was_measured_before(
    world: World, moment: str, of_march: tuple[int, int]
) -> None:
    two_generations(world, moment)
    assert sizes(world.measure(since="2026-03-07")) == of_march
    # Again, from what is known; with more days before; with days measured by themselves; and anew.
    assert sizes(world.measure(since="2026-03-07")) == of_march
    world.measure(since="2025-02-20", until="2025-03-20")
    assert sizes(world.measure(since="2026-03-07")) == of_march
    world.measure(since="2025-12-01")
    assert sizes(world.measure(since="2026-03-07")) == of_march
    world.measure(**JANUARY, full_refresh=True)
    assert sizes(world.measure(since="2026-03-07")) == of_march
    assert sizes(world.measure(since="2026-03-07", full_refresh=True)) == of_march


def test_only_what_reached_the_cohort_in_a_stay_makes_a_message_old(world: World) -> None:
    two_generations(world)
    world.message("EMAIL_SEND", "old held", "01-10 10:00")
    world.message("EMAIL_SEND", "new", "01-10 10:00")
    world.message("EMAIL_SEND", "old", "01-10 10:00", APP_GROUP_ID="another")
    world.message("EMAIL_SEND", "old", "01-10 10:00", CAMPAIGN_API_ID="winter")
    world.message("EMAIL_OPEN", "old", "01-10 10:00")
    world.message("EMAIL_SEND", "old", "07 00:00")
    assert sizes(world.measure(since="2026-03-07")) == (2, 2)
    assert older(world) == [("winter", "2026-01-10")]


def test_an_older_message_is_known_by_braze_s_id_and_through_merges(world: World) -> None:
    two_generations(world)
    world.message("EMAIL_SEND", None, "01-10 10:00", USER_ID="guest")
    world.message("SMS_SEND", "old", "01-11 10:00", CAMPAIGN_API_ID="winter")
    world.row("USERS_USERORPHAN_SHARED", None, "02-01 10:00", USER_ID="guest", ORPHANED_BY_ID="braze old")
    assert sizes(world.measure(since="2026-03-07")) == (1, 1)


def test_it_is_looked_for_once_and_not_at_all_before_anybody_came(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = WorkTables.make, []

    def look(work: WorkTables, name: str, query: Staged) -> None:
        make(work, name, query)
        made.append(name)

    def looks(**asked: Any) -> int:
        made.clear()
        world.measure(**asked)
        return made.count("older")

    monkeypatch.setattr(WorkTables, "make", look)
    world.stay("ann", "02-21 00:00")
    world.message("EMAIL_SEND", "ann", "02 10:00")
    assert looks(since="2026-02-28") == 0
    assert looks(since="2026-03-01") == 0
    world.stay("bob", "01-01 00:00")
    world.message("EMAIL_SEND", "bob", "01-10 10:00")
    assert looks(since="2026-02-28", full_refresh=True) == 1
    assert older(world) == [("spring", "2026-01-10")]
    assert looks(since="2026-02-28") == 0
    assert looks(since="2026-03-08") == 0
    assert looks(since="2026-01-20") == 1
    # From there on the days say it themselves.
    assert looks(since="2026-01-15") == 1
    assert older(world) == []
    assert figures(world.measure(since="2026-01-05"))["reached"] == 2


def test_measuring_anew_replaces_what_was_found_of_older_messages(world: World) -> None:
    two_generations(world, "2025-03-06 23:59", "01-10 10:00", "01-10 11:00", "01-12 10:00")
    assert sizes(world.measure(since="2026-03-07")) == (1, 1)
    assert older(world) == [("spring", "2026-01-10"), ("spring", "2026-01-12")]
    world.warehouse.session.execute(
        f"DELETE FROM {world.share}.USERS_MESSAGES_EMAIL_SEND_SHARED WHERE APP_GROUP_ID = %s AND TIME < 1769904000",
        (world.app_group,),
    )
    assert sizes(world.measure(since="2026-03-07")) == (1, 1)
    assert sizes(world.measure(since="2026-03-07", full_refresh=True)) == (2, 2)
    assert older(world) == []


def test_what_is_delivered_late_for_all_days_is_found_by_whoever_asks_for_the_earlier_ones(
    world: World,
) -> None:
    world.stay("ann")
    # Braze has delivered nothing yet.
    assert world.measure(window="1d")["messages"] == []
    world.message("EMAIL_SEND", "ann", "02 10:00")
    world.purchase("x", "19 00:00")
    assert world.measure(window="1d", since="2026-03-12")["messages"] == []
    assert figures(world.measure(window="1d"))["reached"] == 1
