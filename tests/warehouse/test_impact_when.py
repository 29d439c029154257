"""When users count, whether a message reached them by then, when nothing more will come, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.warehouse.impact_world import World

IN_TIME = (
    "the time that is compared (1d from 2026-03-02 on, or from when the user came) holds the first message to only "
    "{} users who were reached. Ask with a longer window: {}d would hold nine in ten."
)


def sent(world: World, *moments: str, held: int = 4) -> None:
    """Send the campaign to one user at each moment, and hold some others out."""
    for number, moment in enumerate(moments):
        world.stay(f"t{number}")
        world.message("EMAIL_SEND", f"t{number}", moment)
    for number in range(held):
        world.stay(f"h{number}", held=True)
    world.purchase("somebody else", "19 00:00")


def judged(report: dict[str, Any]) -> dict[str, Any]:
    (message,) = report["messages"]
    (found,) = message["experiments"]
    return dict(found)


def about(report: dict[str, Any], *words: str) -> list[str]:
    return [note for note in report["notes"] if any(word in note for word in words)]


# -- reached in the time that is compared ------------------------------------------------------------------------------


def test_a_test_send_before_the_launch_is_no_time_to_compare(world: World) -> None:
    sent(world, "02 10:00", *["10 09:00"] * 8, "12 10:00")
    world.purchase("t0", "02 11:00")
    report = world.measure(window="1d")
    found = judged(report)
    assert {found[measure]["verdict"] for measure in ("conversion", "revenue")} == {"reached_later"}
    assert found["conversion"]["p"] is None
    sentence = f"No verdict: {IN_TIME.format('1 of the 10', 8)}"
    assert found["conversion"]["sentence"] == found["revenue"]["sentence"] == sentence
    assert about(report, "the time that is compared", "the verdict is about") == []

    longer = world.measure(window="8d")
    assert judged(longer)["conversion"]["verdict"] == "not_enough_data"
    # Nine in ten are enough, and of the tenth it is said that it was sent something later.
    assert about(longer, "the time that is compared") == []
    assert about(longer, "campaign spring") == [
        "The campaign spring: the verdict is about 8d of each user from 2026-03-02 on, or from when the user came; "
        "what was sent after that did is not in it. A longer window holds more."
    ]


def test_where_most_were_reached_in_time_but_not_nearly_all_the_verdict_says_so(world: World) -> None:
    sent(world, "02 10:00", "02 10:00", "10 10:00", "10 10:00")
    report = world.measure(window="1d")
    found = judged(report)
    assert found["conversion"]["verdict"] == "not_enough_data"
    assert found["reached"]["users"] == 2
    # The stronger of the two notes that there could be.
    assert about(report, "campaign spring") == [f"The campaign spring: {IN_TIME.format('2 of the 4', 9)}"]


def test_only_what_was_sent_in_the_days_that_are_asked_about_is_missed(world: World) -> None:
    sent(world, "02 10:00", "10 10:00", "10 10:00")
    report = world.measure(window="1d", until="2026-03-09")
    assert judged(report)["reached"]["users"] == 1
    assert about(report, "campaign spring") == []


def test_who_came_later_counts_from_then_and_was_reached_in_time(world: World) -> None:
    sent(world, "02 10:00")
    for number in range(5):
        world.stay(f"later {number}", "12 00:00")
        world.message("EMAIL_SEND", f"later {number}", "12 01:00")
    report = world.measure(window="1d")
    assert judged(report)["reached"]["users"] == 6
    assert [note.partition(":")[2][:21] for note in about(report, "campaign spring")] == [
        " the verdict is about"
    ]


def test_of_a_canvas_s_own_control_group_each_counts_from_when_the_user_entered(world: World) -> None:
    canvas = {"CAMPAIGN_API_ID": None, "CANVAS_API_ID": "journey", "CANVAS_VARIATION_API_ID": "V1"}
    for number in range(4):
        world.stay(user := f"t{number}")
        world.row("USERS_CANVAS_ENTRY_SHARED", user, "02 10:00", IN_CONTROL_GROUP=number == 0, **canvas)
        if number:
            world.message("EMAIL_SEND", user, "02 11:00" if number == 1 else "05 10:00", **canvas)
    world.purchase("x", "19 00:00")
    found = judged(world.measure(window="1d"))
    assert (found["control_kind"], found["conversion"]["verdict"]) == ("braze_control", "reached_later")
    assert found["conversion"]["sentence"] == (
        "No verdict: the time that is compared (1d from when the user entered) holds the first message to only 1 of "
        "the 3 users who were reached. Ask with a longer window: 4d would hold nine in ten."
    )


# -- the last look -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moments", "asked", "is_final"),
    [
        (["09 10:00"], {}, True),
        (["02 10:00", "09 10:00"], {}, False),
        (["05 10:00", "09 10:00"], {}, True),
        (["02 10:00", "09 10:00"], {"until": "2026-03-18"}, True),
        (["02 10:00", "09 10:00"], {"until": "2026-03-19"}, False),
    ],
)
def test_between_two_messages_of_a_recurring_one_is_no_last_look(
    moments: list[str], asked: dict[str, Any], is_final: bool, world: World
) -> None:
    """What is known of all users reaches to the first second of the 19th."""
    sent(world, *[moments[0]] * 4)
    for moment in moments[1:]:
        world.message("EMAIL_SEND", "t0", moment)
    sentence = judged(world.measure(window="1d", **asked))["conversion"]["sentence"]
    assert sentence.endswith("next time hold out more.") is is_final


# -- who does not count yet --------------------------------------------------------------------------------------------


def test_while_every_window_is_open_nothing_is_described_and_it_is_said_why(world: World) -> None:
    sent(world, "18 10:00", held=0)
    (message,) = world.measure()["messages"]
    assert (message["before_after"], message["experiments"]) == (None, [])
    assert message["not_judged"] == (
        "Too early to say: the attribution window of the one user is still open. That user counts from 2026-03-25 on."
    )


def older(world: World, *came: tuple[str, bool]) -> None:
    """Send the campaign before the 7th and after it; others come on the 13th and are held out, or are sent it too."""
    for user, held in (("old", False), ("old held", True)):
        world.stay(user, held=held)
    world.message("EMAIL_SEND", "old", "05 10:00")
    world.message("EMAIL_SEND", "old", "09 10:00")
    for user, held in came:
        world.stay(user, "13 10:00", held=held)
        if not held:
            world.message("EMAIL_SEND", user, "14 10:00")
    world.purchase("somebody else", "19 00:00")


def test_when_the_first_users_count_is_their_own_time_and_not_the_message_s(world: World) -> None:
    older(world, ("new", False), ("another", False), ("new held", True))
    report = world.measure(since="2026-03-07")
    assert judged(report)["conversion"]["sentence"] == (
        "Too early to say: the attribution window of all 3 users is still open. The first of them count from "
        "2026-03-20 on."
    )


def test_of_an_older_message_nobody_may_have_come_since(world: World) -> None:
    older(world)
    report = world.measure(since="2026-03-07")
    (message,) = report["messages"]
    assert message["not_judged"] == (
        "No verdict: it began before 2026-03-07, so only users who came since then can be compared, and nobody did. An "
        "earlier first day (since) compares all."
    )
    assert about(report, "began before") == []


def test_it_is_said_which_group_is_waited_for(world: World) -> None:
    sent(world, *["02 10:00"] * 5, held=0)
    world.stay("late held", "12 10:00", held=True)
    world.message("EMAIL_SEND", "t0", "13 10:00")
    assert judged(world.measure())["conversion"]["sentence"] == (
        "Too early to say: nobody among those held out counts yet, as the attribution window of the one user is still "
        "open. That user counts from 2026-03-19 on."
    )


def test_where_there_is_a_holdout_it_is_not_said_that_there_is_none(world: World) -> None:
    older(world, ("new", False))
    (message,) = (report := world.measure(since="2026-03-07", window="3d"))["messages"]
    assert "As nobody among those held out counts yet, nobody can tell" in message["before_after"]["sentence"]
    assert len(about(report, "only users who came since then are compared")) == 1


def test_where_nobody_is_held_out_that_is_said(world: World) -> None:
    sent(world, "02 10:00", held=0)
    (message,) = world.measure()["messages"]
    assert "Without a holdout nobody can tell" in message["before_after"]["sentence"]


# -- Braze's own control group of an older message ---------------------------------------------------------------------


def test_braze_s_control_group_of_an_older_message_is_not_compared(world: World) -> None:
    """The old treated would come in with what they are sent again, and those kept out only when they are new."""
    older(world, ("new", False))
    world.stay("kept out", "13 10:00")
    world.row("USERS_CAMPAIGNS_ENROLLINCONTROL_SHARED", "kept out", "14 10:00", CAMPAIGN_API_ID="spring")
    report = world.measure(since="2026-03-07", window="3d")
    assert report["messages"][0]["experiments"] == []
    assert about(report, "began before") == [
        "The campaign spring began before 2026-03-07: only users who came since then are compared; Braze's own control "
        "group is not compared, as Braze names those in it once, and those whom it treats each time. An earlier first "
        "day (since) compares all."
    ]
    (whole,) = world.measure(window="3d")["messages"]
    assert [one["control_kind"] for one in whole["experiments"]] == ["holdout", "braze_control"]
