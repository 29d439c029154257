"""What a share can tell follows from the tables it has."""

from __future__ import annotations

from airflow_provider_kubit_braze.core.impact.tellings import FUNNEL, Telling, Tellings
from airflow_provider_kubit_braze.core.share_catalogue import catalogue

WHOLE = {table: frozenset(columns) for table, columns in catalogue().items()}


def without(*parts: str) -> Tellings:
    return Tellings(
        {table: columns for table, columns in WHOLE.items() if not any(part in table for part in parts)}
    )


def test_a_whole_share_tells_everything() -> None:
    tellings = Tellings(WHOLE)
    assert tellings.missing == []
    assert tellings.limits({"email", "push"}) == []
    assert all(tellings.knows(figure) for figure in FUNNEL)


def test_an_open_of_a_push_is_seen_and_clicked_and_an_impression_reaches_and_is_seen() -> None:
    by_table = Tellings(WHOLE).by_table
    assert by_table["USERS_MESSAGES_PUSHNOTIFICATION_OPEN_SHARED"] == (
        Telling("clicked", "push"),
        Telling("seen", "push"),
    )
    assert by_table["USERS_MESSAGES_INAPPMESSAGE_IMPRESSION_SHARED"] == (
        Telling("reached", "in-app message"),
        Telling("seen", "in-app message"),
    )
    assert by_table["USERS_MESSAGES_PUSHNOTIFICATION_BOUNCE_SHARED"] == (Telling("bounced", "push"),)


def test_what_comes_next_stands_in_for_the_reach_that_a_share_lacks() -> None:
    tellings = without("EMAIL_SEND")
    assert not tellings.knows("reached", channel="email")
    assert tellings.knows("reached")
    assert Telling("anchor", "email") in tellings.by_table["USERS_MESSAGES_EMAIL_DELIVERY_SHARED"]
    said = "email: whom it reached is not known, so what followed is counted from delivered on."
    assert said in tellings.limits({"email"})
    assert tellings.limits({"push"}) == []
    assert any(one.startswith("reached, email: not possible") for one in tellings.missing)


def test_limits_are_told_of_the_channels_that_are_used() -> None:
    """Braze's own tables of banners lack the Canvas."""
    tellings = Tellings(WHOLE)
    assert "reached, banner: not of Canvases." in tellings.limits({"banner"})
    assert tellings.limits({"email"}) == []


def test_of_which_channels_a_canvas_has_no_figures_is_told_whether_or_not_they_are_used() -> None:
    tellings = without("CANVAS_ENTRY")
    said = {f"{name}, {channel}" for name in ("reached", "seen", "clicked") for channel in ("RCS", "banner")}
    assert {one.partition(":")[0] for one in tellings.limits({"email"}, of_canvases=True)} >= said
    assert tellings.limits({"email"}) == []


def test_a_push_is_delivered_only_where_bounces_are_known() -> None:
    tellings = without("PUSHNOTIFICATION_BOUNCE")
    assert not tellings.knows("delivered", channel="push")
    assert tellings.knows("reached", channel="push")


def test_conversions_of_campaigns_and_canvases_are_known_apart() -> None:
    tellings = without("CANVAS_CONVERSION", "EXPERIMENTSTEP_CONVERSION")
    assert tellings.knows("converted", kind="campaign")
    assert not tellings.knows("converted", kind="canvas")
    assert tellings.knows("converted")


def test_an_opt_out_is_known_by_any_of_its_tables() -> None:
    tellings = without("SUBSCRIPTION_GLOBALSTATECHANGE", "SUBSCRIPTIONGROUP_STATECHANGE")
    assert tellings.knows("opted_out", channel="email")
    assert not tellings.knows("opted_out", channel="push")


def test_an_empty_share_tells_nothing_and_says_so() -> None:
    tellings = Tellings({})
    assert not any(tellings.knows(figure) for figure in FUNNEL)
    assert tellings.by_table == {}
    assert len(tellings.missing) > 30
