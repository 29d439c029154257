"""Who is compared with whom, and what is counted of each group."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables
from tests.warehouse.impact_world import World

if TYPE_CHECKING:
    from tests.warehouse.conftest import Warehouse


def populate(world: World, treated: int, held: int) -> tuple[list[str], list[str]]:
    """Put users into the cohort, and send the campaign to all but those held out."""
    of_treated = [f"t{number}" for number in range(treated)]
    of_held = [f"h{number}" for number in range(held)]
    for user in of_treated:
        world.stay(user)
        world.message("EMAIL_SEND", user, "02 10:00")
    for user in of_held:
        world.stay(user, held=True)
    # The share goes on: the attribution windows are over.
    world.purchase("somebody else", "19 00:00")
    return of_treated, of_held


def experiment(report: dict[str, Any], number: int = 0) -> dict[str, Any]:
    (found,) = report["messages"][number]["experiments"]
    return dict(found)


def test_both_groups_are_counted_from_the_same_moment_for_the_same_time(world: World) -> None:
    treated, held = populate(world, 4, 2)
    # Before the campaign, at its end and after it: not within.
    for user, moment in ((treated[0], "02 09:59"), (treated[1], "09 10:00"), (held[0], "09 10:00")):
        world.purchase(user, moment)
    for user, moment in ((treated[2], "02 10:00"), (treated[3], "09 09:59"), (held[1], "02 10:00")):
        world.purchase(user, moment)
    found = experiment(world.measure())
    assert (found["treated_users"], found["control_users"]) == (4, 2)
    assert (found["conversion"]["treated"], found["conversion"]["control"]) == (0.5, 0.5)
    assert found["control_kind"] == "holdout"


def test_leaving_the_cohort_may_be_an_effect_and_does_not_end_the_count(world: World) -> None:
    world.stay("ann", "01 00:00", "03 00:00")
    world.stay("bob", held=True)
    world.message("EMAIL_SEND", "ann", "02 10:00")
    world.purchase("ann", "05 10:00")
    world.purchase("x", "19 00:00")
    report = world.measure()
    assert experiment(report)["conversion"]["treated"] == 1.0


def test_users_whose_window_is_open_are_in_neither_group(world: World) -> None:
    world.stay("ann")
    world.stay("bob", held=True)
    world.stay("cid", "12 00:00")
    world.stay("dan", "12 00:00", held=True)
    for user, moment in (("ann", "02 10:00"), ("cid", "13 10:00")):
        world.message("EMAIL_SEND", user, moment)
    world.purchase("x", "18 23:59")
    (message,) = (report := world.measure())["messages"]
    found = experiment(report)
    assert (found["treated_users"], found["control_users"], message["open_users"]) == (1, 1, 2)


def test_whoever_came_after_the_last_message_or_left_before_the_first_is_not_compared(world: World) -> None:
    populate(world, 1, 1)
    world.stay("left", "01 00:00", "02 10:00")
    world.stay("came", "02 10:01")
    world.stay("came held", "02 10:01", held=True)
    found = experiment(world.measure())
    assert (found["treated_users"], found["control_users"]) == (1, 1)


def test_the_first_stay_says_to_which_group_a_user_belongs(world: World) -> None:
    populate(world, 1, 0)
    world.stay("ann", "01 00:00", "05 00:00", held=True)
    world.stay("ann", "05 00:00")
    world.message("EMAIL_SEND", "t0", "06 10:00")
    world.message("EMAIL_SEND", "ann", "06 10:00")
    found = experiment(world.measure())
    assert (found["treated_users"], found["control_users"]) == (1, 1)


def test_revenue_is_summed_by_user_in_the_currency_that_most_purchases_have(world: World) -> None:
    treated, held = populate(world, 3, 2)
    for user, price, currency in (
        (treated[0], 10.0, "USD"),
        (treated[0], 20.0, "usd"),
        (treated[1], 5.0, "EUR"),
        (held[0], 8.0, "USD"),
        (held[1], 7.0, "EUR"),
    ):
        world.purchase(user, "03 10:00", price, currency)
    report = world.measure()
    found = experiment(report)["revenue"]
    assert (found["treated"], found["control"], found["currency"]) == (10.0, 4.0, "USD")
    assert any("Revenue in EUR (40.0% of the purchases) is not judged" in one for one in report["notes"])
    in_euro = experiment(world.measure(currency="EUR"))["revenue"]
    assert (in_euro["currency"], in_euro["control"]) == ("EUR", 3.5)


def test_a_refund_lowers_revenue_and_is_no_conversion(world: World) -> None:
    treated, held = populate(world, 4, 2)
    for user, price in ((treated[0], 30.0), (treated[0], -10.0), (treated[1], -5.0), (treated[2], 0.0)):
        world.purchase(user, "03 10:00", price)
    world.purchase(treated[3], "03 10:00", price=None)
    world.purchase(held[0], "03 10:00", 8.0)
    found = experiment(world.measure())
    assert (found["conversion"]["treated"], found["conversion"]["control"]) == (0.75, 0.5)
    assert (found["revenue"]["treated"], found["revenue"]["control"]) == (15 / 4, 4.0)


def test_no_currency_is_no_currency_to_judge_revenue_in(world: World) -> None:
    treated, held = populate(world, 3, 1)
    for user in (treated[0], treated[1], held[0]):
        world.purchase(user, "03 10:00", currency=None)
    report = world.measure()
    assert experiment(report)["revenue"] is None
    assert "Revenue is not judged: the purchases have no currency." in report["notes"]
    world.purchase(treated[2], "03 10:00", 9.0, "EUR", SF_CREATED_AT="2026-03-19 12:00:00")
    report = world.measure()
    assert (experiment(report)["revenue"]["currency"], experiment(report)["revenue"]["treated"]) == (
        "EUR",
        3.0,
    )
    assert any(
        "Revenue in no currency (75.0% of the purchases) is not judged" in one for one in report["notes"]
    )


def test_a_custom_event_may_be_the_goal(world: World) -> None:
    treated, held = populate(world, 2, 1)
    events = "USERS_BEHAVIORS_CUSTOMEVENT_SHARED"
    world.row(events, treated[0], "03 10:00", NAME="trial started")
    world.row(events, treated[1], "03 10:00", NAME="trial ended")
    world.purchase(held[0], "03 10:00")
    world.row(events, "somebody else", "19 00:00", NAME="another")
    found = experiment(world.measure(goal="trial started"))
    assert (found["conversion"]["treated"], found["conversion"]["control"]) == (0.5, 0.0)
    (note,) = world.measure(goal="Trial started", holdout=Fraction(1, 3))["notes"]
    assert (
        note == "Nobody of the cohort did 'Trial started' in these days; names of events are case-sensitive."
    )


def test_the_sizes_of_the_groups_are_checked_against_the_holdout(world: World) -> None:
    populate(world, 45, 5)
    found = experiment(world.measure(holdout=Fraction(1, 10)))
    assert found["sample_ratio"]["is_sound"]
    broken = experiment(world.measure(holdout=Fraction(1, 2)))
    assert broken["conversion"]["verdict"] == "groups_broken"
    unchecked = world.measure()
    assert experiment(unchecked)["sample_ratio"] is None
    said = "Whether the groups have the sizes that they should have was not checked, as "
    assert unchecked["notes"] == [f"{said}it is not said what share is held out."]
    assert world.measure(holdout=Fraction(0))["notes"] == [f"{said}nobody is to be held out now."]
    assert world.measure(holdout=Fraction(1, 10))["notes"] == []


def test_the_effect_on_those_reached_is_told_where_it_is_known_who_was(world: World) -> None:
    treated, _ = populate(world, 40, 40)
    for number in range(10):
        world.stay(f"not reached {number}")
    for user in treated[:20]:
        world.purchase(user, "03 10:00")
    found = experiment(world.measure())
    assert found["treated_users"] == 50
    assert found["reached"]["users"] == 40
    assert found["reached"]["difference"] == pytest.approx(0.5)


def test_held_out_users_who_were_sent_it_all_the_same_are_told_and_nothing_is_judged(world: World) -> None:
    treated, held = populate(world, 30, 30)
    for number, user in enumerate(held):
        # Those held out may come first.
        world.message("EMAIL_SEND", user, "02 09:59" if number < 10 else "02 10:00")
        world.message("EMAIL_OPEN", user, "02 11:00")
        world.purchase(user, "03 10:00")
    for user in treated:
        world.purchase(user, "03 10:00")
    report = world.measure(holdout=Fraction(1, 2))
    (message,) = report["messages"]
    assert (message["figures"]["reached"], message["figures"]["sends"], message["figures"]["seen"]) == (
        30,
        30,
        0,
    )
    assert message["first_reach"] == "2026-03-02T10:00:00+00:00"
    assert [one["figures"]["sends"] for one in message["days"]] == [30]
    assert report["notes"] == [
        "30 of 30 held-out users were sent campaign spring all the same: its audience is not the cohort (or somebody "
        "sent it by hand)."
    ]
    found = experiment(report)
    assert (found["control_reached"], found["reached"]) == (30, None)
    assert {found[one]["verdict"] for one in ("conversion", "revenue")} == {"control_reached"}
    tables, session = world.warehouse.tables, world.warehouse.session
    sends = f"SELECT SUM(SENDS) FROM {tables.impact_daily} WHERE MEASURE = %s AND MESSAGE_ID = 'spring'"
    assert session.row(sends, (report["measure"],)) == (30,)


def test_a_few_held_out_users_who_were_sent_it_leave_the_verdict_and_count_in_the_effect_per_user(
    world: World,
) -> None:
    treated, held = populate(world, 40, 40)
    for user in treated[:20]:
        world.purchase(user, "03 10:00")
    # Two were within what counts of them; the others later, and before the days that are asked about.
    for user, moment in zip(held, ("02 10:00", "09 09:59", "09 10:00", "01 23:59"), strict=False):
        world.message("SMS_SEND", user, moment)
    report = world.measure(since="2026-03-02")
    found = experiment(report)
    assert found["control_reached"] == 2
    assert found["conversion"]["intervals"] is not None
    assert found["reached"]["difference"] == pytest.approx(0.5 / (1 - 2 / 40))
    assert report["notes"][0].startswith("2 of 40 held-out users were sent campaign spring all the same: ")


def test_beside_no_verdict_nothing_is_said_of_what_one_would_be_about(world: World) -> None:
    treated, held = populate(world, 30, 30)
    for user in held:
        world.message("EMAIL_SEND", user, "02 10:00")
    world.message("EMAIL_SEND", treated[0], "12 10:00")
    world.purchase("x", "19 23:00")
    report = world.measure(holdout=Fraction(1, 2))
    assert experiment(report)["conversion"]["verdict"] == "control_reached"
    assert len(report["notes"]) == 1


def test_whoever_is_treated_by_another_name_of_the_profile_was_not_sent_it_by_mistake(world: World) -> None:
    populate(world, 1, 0)
    # The held-out name stands for the profile.
    world.stay("braze two names", kind="braze_id", held=True)
    world.stay("two names")
    world.message("EMAIL_SEND", "two names", "02 10:00")
    report = world.measure()
    assert report["messages"][0]["figures"]["reached"] == 2
    assert experiment(report)["control_reached"] == 0


def test_of_all_messages_together_those_held_out_count_who_were_sent_any(world: World) -> None:
    _, held = populate(world, 2, 3)
    world.message("SMS_SEND", "t0", "03 10:00", **{"CAMPAIGN_API_ID": None, "CANVAS_API_ID": "journey"})
    world.message("EMAIL_SEND", held[0], "03 10:00")
    world.message("SMS_SEND", held[1], "03 10:00", **{"CAMPAIGN_API_ID": None, "CANVAS_API_ID": "journey"})
    report = world.measure(holdout=Fraction(1, 2))
    counts = {one["id"]: one["experiments"][0]["control_reached"] for one in report["messages"]}
    assert counts == {"all": 2, "spring": 1, "journey": 1}
    assert [note.partition(" all the same")[0] for note in report["notes"]] == [
        "2 of 3 held-out users were sent one of the messages",
        "1 of 3 held-out users were sent campaign spring",
        "1 of 3 held-out users were sent Canvas journey",
    ]


def test_several_messages_are_judged_together_and_their_sum_by_itself(world: World) -> None:
    treated, _ = populate(world, 3, 2)
    world.message("SMS_SEND", treated[0], "03 10:00", CAMPAIGN_API_ID="summer")
    together, *each = world.measure()["messages"]
    assert together["experiments"][0]["conversion"]["compared"] == 1
    assert {one["experiments"][0]["conversion"]["compared"] for one in each} == {2}


def test_braze_s_own_control_groups_are_read(world: World) -> None:
    for user in ("ann", "bob", "cid", "dan"):
        world.stay(user)
    for user in ("ann", "bob"):
        world.message("EMAIL_SEND", user, "02 10:00")
    world.row("USERS_CAMPAIGNS_ENROLLINCONTROL_SHARED", "cid", "02 10:00", CAMPAIGN_API_ID="spring")
    canvas = {"CANVAS_API_ID": "journey", "CANVAS_VARIATION_API_ID": "V1"}
    world.message("EMAIL_SEND", "ann", "03 10:00", CAMPAIGN_API_ID=None, **canvas)
    for user, control in (("ann", False), ("bob", None), ("dan", True)):
        world.row("USERS_CANVAS_ENTRY_SHARED", user, "03 09:00", IN_CONTROL_GROUP=control, **canvas)
    world.purchase("bob", "03 12:00")
    world.purchase("x", "19 00:00")
    found = {
        message["id"]: experiment({"messages": [message]})
        for message in world.measure()["messages"]
        if message["kind"] != "all"
    }
    assert {name: one["control_kind"] for name, one in found.items()} == {
        "spring": "braze_control",
        "journey": "braze_control",
    }
    sizes = {name: (one["treated_users"], one["control_users"]) for name, one in found.items()}
    assert sizes == {"spring": (2, 1), "journey": (2, 1)}
    assert found["journey"]["conversion"]["treated"] == 0.5


def test_the_control_path_of_an_experiment_step_is_a_control_group(world: World) -> None:
    for user in ("ann", "bob", "cid", "dan", "eve"):
        world.stay(user)
    canvas = {"CANVAS_API_ID": "journey", "CANVAS_VARIATION_API_ID": "V1"}
    world.message("EMAIL_SEND", "ann", "03 10:00", CAMPAIGN_API_ID=None, **canvas)

    def takes(user: str, moment: str, step: str | None, control: bool | None) -> None:
        row = {**canvas, "EXPERIMENT_STEP_API_ID": step, "IN_CONTROL_GROUP": control}
        world.row("USERS_CANVAS_EXPERIMENTSTEP_SPLITENTRY_SHARED", user, moment, **row)

    for user, moment, control in (
        ("ann", "03 09:00", False),
        ("bob", "03 09:00", None),
        ("cid", "03 09:00", True),
        # The first time counts, and of two rows of one second the one that keeps somebody out.
        ("dan", "03 09:00", True),
        ("dan", "04 09:00", False),
        ("eve", "03 09:00", False),
        ("eve", "03 09:00", True),
    ):
        takes(user, moment, "step", control)
    # A step that kept nobody out is no experiment, nor one that nobody can name.
    takes("ann", "03 09:00", "another", False)
    takes("cid", "03 09:00", None, True)
    for moment, name in (("01 10:00", "Draft"), ("02 10:00", "Which button")):
        snapshot = {"API_STEP_ID": "step", "NAME": name}
        world.row("SNAPSHOTS_EXPERIMENT_STEP_SHARED", None, moment, **snapshot)
    world.purchase("bob", "03 09:00")
    world.purchase("cid", "03 08:59")
    world.purchase("x", "19 00:00")
    found = experiment(world.measure())
    about = ("control_kind", "control_id", "control_name", "treated_users", "control_users")
    assert [found[one] for one in about] == ["control_path", "step", "Which button", 2, 3]
    assert (found["conversion"]["treated"], found["conversion"]["control"]) == (0.5, 0.0)
    kept = world.warehouse.session.rows(
        f"SELECT CONTROL_KIND, CONTROL_ID FROM {world.warehouse.tables.impact_summary} "
        "WHERE CONTROL_KIND IS NOT NULL"
    )
    assert kept == [("control_path", "step")]


def test_it_is_said_how_many_braze_keeps_out_of_everything(world: World) -> None:
    populate(world, 4, 0)
    said = "of all users of the workspace are in Braze's Global Control Group"
    assert not [one for one in world.measure()["notes"] if said in one]

    def bucket(number: int, moment: str, is_out: bool, **more: Any) -> None:
        row = {"RANDOM_BUCKET_NUMBER": number, "GLOBAL_CONTROL_GROUP": is_out, **more}
        world.row("CHANGELOGS_GLOBALCONTROLGROUP_SHARED", None, moment, **row)

    for number in (0, 7, 9999):
        bucket(number, "02 10:00", True)
    bucket(8, "02 10:00", False)
    bucket(7, "03 10:00", False)
    bucket(7, "02 11:00", True)
    bucket(5, "02 10:00", True, APP_GROUP_ID="another")
    # After the last day that is measured.
    bucket(6, "21 10:00", True)
    [note] = [one for one in world.measure()["notes"] if said in one]
    assert note.startswith("0.02% of all users")


def test_without_a_holdout_before_and_after_are_described_and_nothing_is_judged(world: World) -> None:
    treated, _ = populate(world, 4, 0)
    for user, moment in (
        (treated[0], "01 10:00"),
        (treated[0], "03 10:00"),
        (treated[1], "03 10:00"),
        (treated[2], "09 10:00"),
    ):
        world.purchase(user, moment, 5.0)
    (message,) = world.measure()["messages"]
    assert message["experiments"] == []
    found = message["before_after"]
    assert found["label"] == "Description only, no proof of an effect"
    assert (found["before"]["converters"], found["after"]["converters"]) == (1, 2)
    assert (found["before"]["revenue"], found["after"]["revenue"]) == (5.0, 10.0)


def test_before_and_after_knows_what_users_did_before_they_came(world: World) -> None:
    world.stay("bob")
    world.purchase("ann", "05 10:00")
    world.purchase("x", "19 00:00")
    world.measure()
    world.stay("ann", "06 00:00")
    world.message("EMAIL_SEND", "ann", "06 10:00", SF_CREATED_AT="2026-03-19 01:00:00")
    (message,) = world.measure()["messages"]
    assert message["before_after"]["before"]["converters"] == 1


def test_a_cohort_that_no_message_has_reached_has_no_message_and_says_so(world: World) -> None:
    world.stay("ann")
    world.purchase("ann", "03 10:00")
    report = world.measure()
    assert report["messages"] == []
    assert report["notes"] == [
        "No message reached anybody of the cohort in these days, as far as the share tells."
    ]


def test_what_a_user_did_counts_the_same_whether_a_message_names_them_or_not(world: World) -> None:
    """Guests who buy and log in later: by the message they got it would be known whose the treated ones' profile is."""
    for user, held in (("t", False), ("h", True)):
        world.stay(user, held=held)
        world.purchase(None, "03 10:00", USER_ID=f"guest {user}")
        world.row(
            "USERS_USERORPHAN_SHARED",
            None,
            "04 10:00",
            USER_ID=f"guest {user}",
            ORPHANED_BY_ID=f"braze {user}",
        )
    world.message("EMAIL_SEND", "t", "02 10:00")
    world.purchase("x", "19 00:00")
    found = experiment(world.measure())
    assert (found["conversion"]["treated"], found["conversion"]["control"]) == (0.0, 0.0)
    for user in ("t", "h"):
        world.purchase(user, "05 10:00", SF_CREATED_AT="2026-03-19 12:00:00")
    found = experiment(world.measure(full_refresh=True))
    assert (found["conversion"]["treated"], found["conversion"]["control"]) == (1.0, 1.0)
    assert (found["revenue"]["treated"], found["revenue"]["control"]) == (20.0, 20.0)


def test_a_profile_that_two_users_of_the_ledger_have_is_the_one_s_who_is_in_it(world: World) -> None:
    world.stay("ann@example.com", "01 00:00", "05 00:00", kind="braze_id")
    world.stay("ann", "05 00:00")
    for moment in ("02 10:00", "06 10:00"):
        world.message("EMAIL_SEND", "ann", moment, USER_ID="ann@example.com")
    world.purchase("ann", "07 10:00", USER_ID="ann@example.com")
    world.purchase("x", "19 00:00")
    (message,) = world.measure()["messages"]
    # Both were sent while somebody who is this profile was in the cohort, and both to one user.
    assert (message["figures"]["reached"], message["figures"]["sends"]) == (1, 2)
    assert message["before_after"]["after"]["converters"] == 1


def test_of_a_campaign_that_began_before_the_days_only_those_count_who_came_since(world: World) -> None:
    """Those whom it has moved to leave are gone from one of the groups alone."""
    for user, held in (("old", False), ("old held", True)):
        world.stay(user, held=held)
    for user, held in (("new", False), ("new held", True)):
        world.stay(user, "08 00:00", held=held)
    for user, moment in (("old", "05 10:00"), ("old", "09 10:00"), ("new", "09 10:00")):
        world.message("EMAIL_SEND", user, moment)
    world.purchase("x", "19 00:00")
    report = world.measure(since="2026-03-07", holdout=Fraction(1, 2))
    found = experiment(report)
    assert (found["treated_users"], found["control_users"]) == (1, 1)
    (note,) = report["notes"]
    assert note.startswith(
        "The campaign spring began before 2026-03-07: only users who came since then are compared."
    )
    found = experiment(world.measure())
    assert (found["treated_users"], found["control_users"]) == (2, 2)


def test_users_whom_the_share_cannot_know_are_in_neither_group(world: World) -> None:
    populate(world, 1, 1)
    world.stay("label:name", kind="user_alias")
    world.stay("ann@example.com", kind="email", held=True)
    report = world.measure(holdout=Fraction(1, 2))
    found = experiment(report)
    assert (found["treated_users"], found["control_users"]) == (1, 1)
    assert [note.partition(",")[0] for note in report["notes"]] == [
        "1 users of the cohort are known by email",
        "1 users of the cohort are known by user_alias",
    ]


def test_a_window_is_over_when_it_is_known_what_users_did_in_it(world: World) -> None:
    populate(world, 1, 1)
    world.message("EMAIL_SEND", "t0", "17 10:00")
    events = "USERS_BEHAVIORS_CUSTOMEVENT_SHARED"
    world.row(events, "somebody else", "05 00:00", NAME="looked")
    report = world.measure(goal="looked")
    assert report["data_until"] == "2026-03-19T00:00:00+00:00"
    assert report["messages"][0]["open_users"] == 2
    assert experiment(report)["conversion"]["sentence"].startswith(
        "Too early to say: the attribution window of all 2"
    )
    world.row(events, "somebody else", "18 06:00", NAME="looked")
    assert world.measure(goal="looked")["messages"][0]["open_users"] == 0


def test_a_campaign_s_control_group_is_not_compared_with_those_who_opened_it(warehouse: Warehouse) -> None:
    world = World(warehouse, "NO_SENDS_SHARE.PUBLIC")
    lacking = ["USERS_MESSAGES_EMAIL_SEND_SHARED", "USERS_MESSAGES_EMAIL_DELIVERY_SHARED"]
    make_share_tables(warehouse.session.connection, world.share, without=lacking)
    for user in ("ann", "bob"):
        world.stay(user)
    world.message("EMAIL_OPEN", "ann", "02 10:00")
    world.row("USERS_CAMPAIGNS_ENROLLINCONTROL_SHARED", "bob", "02 10:00", CAMPAIGN_API_ID="spring")
    world.purchase("ann", "03 10:00")
    world.purchase("x", "19 00:00")
    (message,) = world.measure()["messages"]
    assert (message["figures"]["reached"], message["figures"]["seen"]) == (None, 1)
    assert message["experiments"] == []


def test_control_groups_of_two_kinds_are_not_adjusted_for_each_other(world: World) -> None:
    populate(world, 2, 1)
    world.stay("kept out")
    world.row("USERS_CAMPAIGNS_ENROLLINCONTROL_SHARED", "kept out", "02 10:00", CAMPAIGN_API_ID="spring")
    (message,) = world.measure()["messages"]
    kinds = {one["control_kind"]: one["conversion"]["compared"] for one in message["experiments"]}
    assert kinds == {"holdout": 1, "braze_control": 1}
