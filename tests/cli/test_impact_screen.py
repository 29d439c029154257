"""A measured impact on a terminal of 80 columns: what is said, what is not, and that nothing runs over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.cli.impact_screen import print_report
from airflow_provider_kubit_braze.core.impact.showing import BY_BRAZE, NO_SUM
from tests.impact_reports import (
    EXPERIMENTS,
    UNKNOWN,
    before_after,
    experiment,
    figures,
    hostile,
    message,
    report,
    several,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 80


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Print a report as on a terminal, and return what it says, sentences in one line."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))

    def of(told: dict[str, Any], *, joined: bool = True, fits: bool = True) -> str:
        print_report(told)
        text = capsys.readouterr().out
        assert not fits or max(map(len, text.splitlines())) <= WIDTH
        return " ".join(text.split()) if joined else text

    return of


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_verdict_s_sentence_comes_before_its_figures(name: str, shown: Callable[..., str]) -> None:
    judged = experiment(*EXPERIMENTS[name])
    text = shown(report(message(experiments=[judged])))
    sentence = judged["conversion"]["sentence"]
    assert text.count(sentence) == 1
    assert (
        text.index("Win back Campaign, campaign-1")
        < text.index(sentence)
        < text.index("Against those held out")
    )
    # Of groups that cannot be compared no lift is told, though one could be computed.
    assert ("Conversion: " in text) is (judged["conversion"]["intervals"] is not None)
    assert "44.0% more" not in text


def test_an_interval_is_drawn_with_zero_on_its_axis(shown: Callable[..., str]) -> None:
    text = shown(report(), joined=False)
    axes = [line.split("  ") for line in text.splitlines() if "●" in line]
    assert [ends for *_, ends in axes] == ["+9.78% to +31.2%", "+7.67% to +34.3%"]
    for _, axis, _ in axes:
        assert len(axis) == 42
        assert axis.index("0") < axis.index("━") < axis.index("●") < axis.rindex("━")
    lowered = shown(report(message(experiments=[experiment(*EXPERIMENTS["lowered"])])), joined=False)
    axis = next(line for line in lowered.splitlines() if "●" in line)
    assert axis.index("━") < axis.index("●") < axis.rindex("━") < axis.index("0")


def test_the_funnel_has_a_line_for_every_channel_and_variation(shown: Callable[..., str]) -> None:
    lines = [line.split() for line in shown(report(), joined=False).splitlines()]
    assert ["email", "1,200", "1,190", "400", "90", "40", "812.50", "USD", "3"] in lines
    assert ["push", "300", "298", "?", "7", "40", "812.50", "USD", "3"] in lines
    assert ["var-b", "email", "601", "1,190", "400", "90", "40", "812.50", "USD"] in lines
    assert ["all", "channels", "1,200", "1,190", "400", "90", "40", "812.50", "USD", "3"] in lines
    # A single channel is the whole.
    alone = message(channels=[{"channel": "email", "figures": figures()}])
    assert "all channels" not in shown(report(alone))


def test_what_no_table_can_tell_is_a_question_mark_and_zero_a_zero(shown: Callable[..., str]) -> None:
    told = message(figures={**UNKNOWN, "clicked": 0}, channels=[], variations=[], experiments=[])
    text = shown(report(told), joined=False)
    line = next(line for line in text.splitlines() if line.startswith("all channels"))
    assert line.split()[2:] == ["?", "?", "?", "0", "?", "?", "?"]
    assert "?: not known, as no table of the share can tell it." in text
    assert "It cannot be said what the campaign caused" in text


def test_several_messages_stand_side_by_side_first(shown: Callable[..., str]) -> None:
    text = shown({**several(), "messages_left_out": 4}, joined=False)
    table = text[: text.index("\nAll campaigns and Canvases  ")]
    ends = [line.split()[-3:] for line in table.splitlines() if line.split()[-2:-1] == ["to"] and "%" in line]
    assert ends == [["+9.78%", "to", "+31.2%"], ["-2.81%", "to", "+2.89%"]]
    assert "Nothing known" in table
    assert "not shown here: 4." in " ".join(text.split())
    assert "side by side" not in shown(report()).lower()


def test_before_and_after_comes_with_its_label(shown: Callable[..., str]) -> None:
    text = shown(report(message(experiments=[], before_after=before_after())))
    assert "Before and after: Description only, no proof of an effect" in text
    assert text.count("Description only: 2.00% of 1,000 users converted before") == 1
    assert "After 1,000 30 500.25 EUR" in text


def test_what_kept_a_verdict_from_being_given_is_said_in_its_place(shown: Callable[..., str]) -> None:
    why = "The share has no table that tells the goal, purchase."
    text = shown(report(message(experiments=[], not_judged=why, before_after=before_after())))
    assert text.index("Win back Campaign") < text.index(why) < text.index("Before and after")
    assert text.count("Description only: 2.00% of 1,000 users converted before") == 1
    assert "It cannot be said" not in text


def test_what_the_verdict_covers_and_what_braze_credits_is_said(shown: Callable[..., str]) -> None:
    text = shown(report())
    said = "Each user counts for 7d from the first message on, or from when they came if that was later."
    assert f"90,000 treated users, 10,000 held out. {said}" in text
    assert shown(several()).count(f"{BY_BRAZE} {NO_SUM}") == 1
    assert BY_BRAZE not in shown({**report(), "messages": []})


def test_what_is_missing_limited_and_noted_is_said(shown: Callable[..., str]) -> None:
    text = shown(report())
    for sentence in [*report()["missing"], *report()["limits"], *report()["notes"]]:
        assert sentence in text
    assert "data until 2026-11-29 17:00 UTC" in text
    assert "17 users are not among them yet" in text


def test_a_name_gives_a_terminal_no_orders(shown: Callable[..., str]) -> None:
    told = hostile()
    told["messages"][0]["name"] = "red \x1b[31m [bold]bell\x07"
    told["messages"][0]["channels"][0]["channel"] = "\x1b]0;title\x07"
    told["messages"][0]["experiments"][0]["revenue"]["currency"] = "\x1b[2J"
    text = shown(told, fits=False)
    assert "\x1b" not in text
    assert "\x07" not in text
    # Nor is it markup.
    assert "red ?[31m [bold]bell?" in text


def test_a_report_without_a_message_says_so(shown: Callable[..., str]) -> None:
    assert "No message reached anybody of this cohort" in shown({**report(), "messages": []})


def test_where_messages_are_named_nothing_is_said_of_others(shown: Callable[..., str]) -> None:
    told = shown(report(messages=[], messages_asked="campaign spring"))
    assert "None of the messages asked about reached anybody of this cohort in these days." in told
    assert "No message" not in told
