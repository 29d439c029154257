"""What of a share counts, each figure by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.warehouse.impact_world import figures

if TYPE_CHECKING:
    from tests.warehouse.impact_world import World


def test_the_life_of_a_message_is_counted_by_users(world: World) -> None:
    for user in ("ann", "bob", "cid"):
        world.stay(user)
        world.message("EMAIL_SEND", user, "02 10:00")
    for user in ("ann", "bob"):
        world.message("EMAIL_DELIVERY", user, "02 10:01")
        world.message("EMAIL_OPEN", user, "02 11:00")
    world.message("EMAIL_OPEN", "ann", "02 12:00")
    world.message("EMAIL_CLICK", "ann", "02 12:01")
    world.row(
        "USERS_CAMPAIGNS_CONVERSION_SHARED",
        "ann",
        "03 09:00",
        CAMPAIGN_API_ID="spring",
        CONVERSION_BEHAVIOR_INDEX=0,
    )
    world.row("USERS_CAMPAIGNS_REVENUE_SHARED", "ann", "03 09:00", CAMPAIGN_API_ID="spring", REVENUE=1999)
    world.message("EMAIL_UNSUBSCRIBE", "bob", "02 11:05")
    report = world.measure()
    assert figures(report) == {
        "reached": 3,
        "sends": 3,
        "delivered": 2,
        "seen": 2,
        "clicked": 1,
        "converted": 1,
        "revenue": 19.99,
        "opted_out": 1,
    }
    (message,) = report["messages"]
    assert [(one["channel"], one["figures"]["converted"]) for one in message["channels"]] == [("email", 1)]
    assert [
        (one["day"], one["figures"]["reached"], one["figures"]["converted"]) for one in message["days"]
    ] == [
        ("2026-03-02", 3, 0),
        ("2026-03-03", 0, 1),
    ]


def test_a_row_counts_once_and_only_of_ones_own_workspace(world: World) -> None:
    world.stay("ann")
    world.message("EMAIL_SEND", "ann", "02 10:00", ID="same")
    world.message("EMAIL_SEND", "ann", "02 10:00", ID="same", SF_CREATED_AT="2026-03-05 00:00:00")
    world.message("EMAIL_SEND", "ann", "02 11:00", APP_GROUP_ID="somebody else's")
    assert figures(world.measure())["sends"] == 1


def test_machines_and_bots_do_not_count(world: World) -> None:
    for user in ("ann", "bob", "cid"):
        world.stay(user)
        world.message("EMAIL_SEND", user, "02 10:00")
    for user, machine in (("ann", "true"), ("bob", "True"), ("cid", "false")):
        world.message("EMAIL_OPEN", user, "02 10:01", MACHINE_OPEN=machine)
    world.message("EMAIL_CLICK", "ann", "02 10:02", IS_SUSPECTED_BOT_CLICK=True)
    world.message("EMAIL_CLICK", "cid", "02 10:02", IS_SUSPECTED_BOT_CLICK=None)
    found = figures(world.measure())
    assert (found["seen"], found["clicked"]) == (1, 1)


def test_only_what_happens_in_the_stay_counts(world: World) -> None:
    world.stay("ann", "02 00:00", "04 00:00")
    world.stay("ann", "06 00:00")
    world.stay("bob", held=True)
    for moment in ("01 23:59", "02 00:00", "03 23:59", "04 00:00", "05 12:00", "06 00:00"):
        world.message("EMAIL_SEND", "ann", moment)
    world.message("EMAIL_SEND", "bob", "02 10:00")
    world.message("EMAIL_OPEN", "ann", "05 00:00")
    world.message("EMAIL_SEND", "not in the cohort", "02 10:00")
    found = figures(world.measure())
    assert (found["reached"], found["sends"], found["seen"]) == (1, 3, 0)


def test_a_stay_begins_when_the_import_began_that_brought_the_user_in(world: World) -> None:
    world.warehouse.put(world.warehouse.tables.run, import_id="long", started_at="2026-03-02 09:00:00")
    world.stay("ann", "02 10:00", entered_import="long")
    world.message("EMAIL_SEND", "ann", "02 08:59")
    world.message("EMAIL_SEND", "ann", "02 09:00")
    assert figures(world.measure())["sends"] == 1


def test_what_follows_is_credited_within_the_window_and_to_the_same_message_and_channel(world: World) -> None:
    for user in ("ann", "bob", "cid", "dan"):
        world.stay(user)
    for user in ("ann", "bob", "cid"):
        world.message("EMAIL_SEND", user, "02 10:00")
    world.message("SMS_SEND", "dan", "02 10:00")
    world.message("EMAIL_OPEN", "ann", "03 09:59")
    world.message("EMAIL_OPEN", "bob", "03 10:00")
    world.message("EMAIL_OPEN", "cid", "02 09:00")
    world.message("EMAIL_OPEN", "dan", "02 11:00")
    world.message("EMAIL_OPEN", "ann", "02 11:00", CAMPAIGN_API_ID="another")
    assert figures(world.measure(window="1d"))["seen"] == 1


def test_a_conversion_is_credited_to_the_last_reach_in_any_channel(world: World) -> None:
    world.stay("ann")
    world.message("EMAIL_SEND", "ann", "02 10:00", MESSAGE_VARIATION_API_ID="A")
    world.message("SMS_SEND", "ann", "02 12:00", MESSAGE_VARIATION_API_ID="B")
    world.message("EMAIL_SEND", "ann", "02 18:00", MESSAGE_VARIATION_API_ID="A")
    for moment, index in (("02 13:00", 0), ("02 14:00", 1), ("01 09:00", 0)):
        world.row(
            "USERS_CAMPAIGNS_CONVERSION_SHARED",
            "ann",
            moment,
            CAMPAIGN_API_ID="spring",
            CONVERSION_BEHAVIOR_INDEX=index,
        )
    (message,) = world.measure()["messages"]
    converted = {
        (one["channel"], one["variation"]): one["figures"]["converted"] for one in message["variations"]
    }
    assert converted == {("SMS", "B"): 1, ("email", "A"): 0}


def test_what_follows_the_messages_of_the_days_counts_and_what_follows_earlier_ones_does_not(
    world: World,
) -> None:
    for user, sent, done in (("ann", "05 22:00", "06 02:00"), ("bob", "04 22:00", "05 02:00")):
        world.stay(user)
        world.message("EMAIL_SEND", user, sent)
        world.message("EMAIL_OPEN", user, done)
        world.message("EMAIL_CLICK", user, done)
        world.row("USERS_CAMPAIGNS_CONVERSION_SHARED", user, done, CAMPAIGN_API_ID="spring")
    world.message("EMAIL_CLICK", "bob", "05 03:00")
    world.message("SMS_SEND", "bob", "05 10:00", CAMPAIGN_API_ID="summer")
    # A question about more days has measured all of it before.
    world.measure()
    together, spring, _ = world.measure(since="2026-03-05", until="2026-03-05")["messages"]
    wanted = {"reached": 1, "sends": 1, "seen": 1, "clicked": 1, "converted": 1}
    (channel,), (variation,) = spring["channels"], spring["variations"]
    for one in (spring, channel, variation, together["channels"][1]):
        assert {name: one["figures"][name] for name in wanted} == wanted
    assert together["figures"]["reached"] == 2
    assert spring["first_reach"] == spring["last_reach"] == "2026-03-05T22:00:00+00:00"
    # By day there is what happened on it, as in IMPACT_DAILY: bob's click.
    for one in (spring, together):
        (day,) = one["days"]
        assert (day["day"], day["figures"]["clicked"]) == ("2026-03-05", 1)
        assert day["figures"]["sends"] == (1 if one is spring else 2)


def test_a_push_is_delivered_unless_it_bounces_within_a_day(world: World) -> None:
    for user in ("ann", "bob", "cid"):
        world.stay(user)
        world.message("PUSHNOTIFICATION_SEND", user, "02 23:00", DISPATCH_ID="d1", DEVICE_ID="phone")
    world.message("PUSHNOTIFICATION_BOUNCE", "ann", "03 01:00", DISPATCH_ID="d1", DEVICE_ID="phone")
    world.message("PUSHNOTIFICATION_BOUNCE", "bob", "03 01:00", DISPATCH_ID="d1", DEVICE_ID="tablet")
    world.message("PUSHNOTIFICATION_BOUNCE", "cid", "03 23:00", DISPATCH_ID="d1", DEVICE_ID="phone")
    world.message("PUSHNOTIFICATION_OPEN", "bob", "03 02:00")
    world.message("PUSHNOTIFICATION_INFLUENCEDOPEN", "cid", "03 02:00")
    found = figures(world.measure())
    assert (found["reached"], found["delivered"], found["seen"], found["clicked"]) == (3, 2, 2, 1)


def test_what_is_shown_in_an_app_reaches_whoever_sees_it(world: World) -> None:
    world.stay("ann")
    world.message("INAPPMESSAGE_IMPRESSION", "ann", "02 10:00")
    world.message("INAPPMESSAGE_IMPRESSION", "ann", "02 11:00")
    world.message("INAPPMESSAGE_CLICK", "ann", "02 11:01")
    found = figures(world.measure())
    assert (found["reached"], found["sends"], found["seen"], found["clicked"]) == (1, 2, 1, 1)
    (channel,) = world.measure()["messages"][0]["channels"]
    assert channel["figures"]["delivered"] is None


def test_a_canvas_has_variations_conversions_and_revenue_of_its_own(world: World) -> None:
    world.stay("ann")
    canvas = {
        "CAMPAIGN_API_ID": "",
        "CANVAS_API_ID": "journey",
        "CANVAS_VARIATION_API_ID": "V1",
        "MESSAGE_VARIATION_API_ID": None,
    }
    world.message("EMAIL_SEND", "ann", "02 10:00", **canvas)
    for table, more in (("CONVERSION", {"CONVERSION_BEHAVIOR_INDEX": None}), ("REVENUE", {"REVENUE": 250})):
        world.row(f"USERS_CANVAS_{table}_SHARED", "ann", "02 12:00", CANVAS_API_ID="journey", **more)
    (message,) = world.measure()["messages"]
    assert (message["kind"], message["id"]) == ("canvas", "journey")
    assert (message["figures"]["converted"], message["figures"]["revenue"]) == (1, 2.5)
    assert [one["variation"] for one in message["variations"]] == ["V1"]


def test_whoever_opts_out_counts_once_and_for_the_message_that_is_named(world: World) -> None:
    for user in ("ann", "bob", "cid"):
        world.stay(user)
        world.message("EMAIL_SEND", user, "02 10:00")
    state = "USERS_BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE_SHARED"
    world.message("EMAIL_UNSUBSCRIBE", "ann", "02 11:00")
    world.row(state, "ann", "02 11:00", CAMPAIGN_API_ID="spring", SUBSCRIPTION_STATUS="Unsubscribed")
    world.row(state, "bob", "02 11:00", SUBSCRIPTION_STATUS="Unsubscribed")
    world.row(state, "cid", "02 11:00", CAMPAIGN_API_ID="spring", SUBSCRIPTION_STATUS="Subscribed")
    assert figures(world.measure())["opted_out"] == 1


def test_rows_belong_to_whom_a_profile_was_merged_into(world: World) -> None:
    world.stay("ann")
    world.message("EMAIL_SEND", "ann", "02 10:00")
    world.row("USERS_USERORPHAN_SHARED", None, "02 12:00", USER_ID="first", ORPHANED_BY_ID="second")
    world.row("USERS_USERORPHAN_SHARED", None, "02 13:00", USER_ID="second", ORPHANED_BY_ID="braze ann")
    world.message("EMAIL_OPEN", None, "02 11:00", USER_ID="first")
    assert figures(world.measure())["seen"] == 1


def test_a_row_without_an_external_id_belongs_to_who_owns_the_profile(world: World) -> None:
    world.stay("ann")
    world.message("EMAIL_SEND", None, "02 10:00", USER_ID="braze ann")
    assert world.measure()["messages"] == []
    world.message("EMAIL_OPEN", "ann", "02 11:00")
    found = figures(world.measure(full_refresh=True))
    assert (found["reached"], found["seen"]) == (1, 1)


def test_a_ledger_of_braze_ids_needs_no_external_id_and_two_names_of_one_profile_count_once(
    world: World,
) -> None:
    world.stay("braze ann", kind="braze_id")
    world.stay("ann")
    world.message("EMAIL_SEND", "ann", "02 10:00")
    world.message("EMAIL_SEND", "ann", "03 10:00")
    found = figures(world.measure())
    assert (found["reached"], found["sends"]) == (1, 2)


def test_days_are_those_of_the_time_zone(world: World) -> None:
    world.stay("ann")
    world.message("EMAIL_SEND", "ann", "02 03:00")
    (message,) = world.measure(timezone="America/New_York")["messages"]
    assert [one["day"] for one in message["days"]] == ["2026-03-01"]


def test_of_several_messages_all_together_come_first_and_nobody_counts_twice(world: World) -> None:
    for user in ("ann", "bob"):
        world.stay(user)
        world.message("EMAIL_SEND", user, "02 10:00")
    world.message("SMS_SEND", "ann", "03 10:00", CAMPAIGN_API_ID="summer")
    report = world.measure()
    assert [(one["kind"], one["id"], one["figures"]["reached"]) for one in report["messages"]] == [
        ("all", "all", 2),
        ("campaign", "spring", 2),
        ("campaign", "summer", 1),
    ]
    one = world.measure(campaigns=["summer"])
    assert [message["id"] for message in one["messages"]] == ["summer"]


def test_names_are_the_latest_that_the_share_has(world: World) -> None:
    world.stay("ann")
    world.message("EMAIL_SEND", "ann", "02 10:00")
    for moment, name in (("01 10:00", "Old"), ("02 10:00", "Spring sale")):
        world.row("CHANGELOGS_CAMPAIGN_SHARED", None, moment, API_ID="spring", NAME=name)
    world.row("SNAPSHOTS_CAMPAIGN_MESSAGE_VARIATION_SHARED", None, "01 10:00", API_ID="A", NAME="Red button")
    (message,) = world.measure()["messages"]
    assert message["name"] == "Spring sale"
    assert [one["name"] for one in message["variations"]] == ["Red button"]
