"""The report of an impact as an HTML file: what it says, and that it loads and runs nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.impact.findings import Verdict
from airflow_provider_kubit_braze.core.impact.html_report import impact_html
from airflow_provider_kubit_braze.core.impact.showing import (
    BY_BRAZE,
    NO_SUM,
    VERDICTS,
    axis_of,
    covered_words,
    headline_of,
    lift_words,
    steps_of,
)
from tests.impact_reports import (
    EXPERIMENTS,
    HOSTILE,
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
    from collections.abc import Iterator

_VOID = {"meta", "br", "img", "link", "input"}


class Document(HTMLParser):
    """What an HTML document is made of; a tag that is closed wrongly fails the test."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def texts_of(told: Any) -> Iterator[str]:
    """Return whatever holds markup, wherever it stands in a report."""
    if isinstance(told, str):
        yield from [told] if HOSTILE in told else []
    elif isinstance(told, dict | list):
        for one in told.values() if isinstance(told, dict) else told:
            yield from texts_of(one)


def documents() -> dict[str, dict[str, Any]]:
    verdicts = {name: report(message(experiments=[experiment(*two)])) for name, two in EXPERIMENTS.items()}
    nothing = report(data_until=None, missing=[], limits=[], notes=[], cohort_name=None)
    nothing["messages"] = []
    return {"several": several(), "hostile": hostile(), "nothing": nothing, **verdicts}


@pytest.mark.parametrize(("name", "told"), documents().items())
def test_every_report_is_well_formed_and_loads_and_runs_nothing(name: str, told: dict[str, Any]) -> None:
    html = impact_html(told)
    read = Document(html)

    assert not read.tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "b"}
    for key, value in read.attributes:
        assert not key.startswith("on"), (key, value)
        assert key not in ("src", "srcset", "action", "data", "style"), (key, value)
        if key.endswith("href"):
            assert (value or "").startswith("#m"), value
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in html


def test_whatever_others_wrote_stays_text_at_every_place_where_it_stands() -> None:
    told = hostile()
    read = Document(impact_html(told))

    written = list(texts_of(told))
    assert len(written) == 26
    for text in written:
        assert text in read.text, text
    assert any(key == "aria-label" and value and HOSTILE in value for key, value in read.attributes)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_verdict_is_said_first_in_its_own_sentence(name: str) -> None:
    judged = experiment(*EXPERIMENTS[name])
    assert judged["conversion"]["verdict"] == name
    read = Document(impact_html(report(message(experiments=[judged]))))

    sentence = judged["conversion"]["sentence"]
    assert sentence in read.text
    assert read.text.index(sentence) < read.text.index("Against those held out")
    has_interval = judged["conversion"]["intervals"] is not None
    assert ("95% interval" in read.text.split("A 95% interval")[0]) is has_interval
    # Of groups that cannot be compared no lift is told, though one could be computed.
    assert ("44.0% more" in read.text) is False


def test_groups_of_wrong_sizes_are_warned_of() -> None:
    broken = experiment(*EXPERIMENTS["groups_broken"])
    text = Document(impact_html(report(message(experiments=[broken])))).text
    assert (
        "The sizes of the groups are wrong: 10.0% of the users should be among those held out, and 11.8%"
        in text
    )
    assert "The sizes of the groups are wrong" not in Document(impact_html(report())).text


def test_a_figure_that_no_table_can_tell_is_not_called_zero() -> None:
    told = message(figures={**UNKNOWN, "clicked": 0}, channels=[], variations=[], days=[], experiments=[])
    read = Document(impact_html(report(told)))

    cells = [one.strip() for one in read.texts if one.strip()]
    funnel = cells[cells.index("Step") : cells.index("Limits")]
    names = ("Reached", "Delivered", "Seen", "Converted (by Braze)")
    at = {name: funnel[funnel.index(name) + 1] for name in names}
    assert set(at.values()) == {"not known"}
    assert funnel[funnel.index("Clicked") + 1] == "0"
    assert funnel.count("the share cannot tell") == 4
    assert funnel[funnel.index("Revenue (by Braze)") + 1] == "not known"


def test_shares_are_of_the_first_step_that_is_known() -> None:
    steps = steps_of(figures(reached=None, delivered=200, seen=50, clicked=0, converted=None))
    assert [(one.users, one.share) for one in steps] == [
        (None, None),
        (200, 1.0),
        (50, 0.25),
        (0, 0.0),
        (None, None),
    ]
    assert [one.share for one in steps_of(figures(reached=0, delivered=0))][:2] == [None, None]


def test_an_interval_lies_where_its_figures_say_and_zero_is_on_its_axis() -> None:
    for name in ("raised", "lowered", "none_found"):
        effect = experiment(*EXPERIMENTS[name])["conversion"]
        axis = axis_of(effect)
        assert axis is not None
        assert 0 < axis.low < axis.point < axis.high < 1
        assert 0 < axis.zero < 1
        side = (axis.low > axis.zero) - (axis.high < axis.zero)
        assert side == {"raised": 1, "lowered": -1, "none_found": 0}[name]
        lift = effect["intervals"]["lift"]
        # Lengths on the axis are as the figures are.
        scale = (axis.point - axis.zero) / effect["lift"] if effect["lift"] else None
        if scale:
            assert axis.high - axis.low == pytest.approx(scale * (lift["high"] - lift["low"]))
    assert axis_of(experiment(*EXPERIMENTS["groups_broken"])["conversion"]) is None


def test_an_interval_without_an_upper_bound_says_so_and_one_without_a_lift_is_in_points() -> None:
    nobody = experiment((9_000, 90), (1_000, 0))["conversion"]
    assert nobody["lift"] is None
    axis = axis_of(nobody)
    assert axis is not None
    assert axis.high_label.endswith("points")
    assert "points (95% interval" in (lift_words(nobody) or "")

    unbounded = {
        **nobody,
        "lift": 5.0,
        "intervals": {**nobody["intervals"], "lift": {"low": 0.5, "high": None}},
    }
    axis = axis_of(unbounded)
    assert axis is not None
    assert (axis.high, axis.is_open, axis.high_label) == (1.0, True, "no upper bound")
    assert axis.zero < axis.low < axis.point < 1
    told = experiment()
    html = impact_html(report(message(experiments=[{**told, "conversion": unbounded}])))
    assert 'class="arrow"' in html
    assert "at least 50.0% more" in html


def test_several_campaigns_at_once_have_the_interval_for_all_of_them_beside_their_own() -> None:
    effect = experiment()["conversion"]
    words = lift_words({**effect, "compared": 3}) or ""
    assert words.startswith("20.0% more (95% interval: 9.78% to 31.2% more; for all 3 at once: ")
    assert "at once" not in (lift_words(effect) or "")


def test_before_and_after_is_shown_with_its_label_only_and_never_as_a_verdict() -> None:
    told = message(experiments=[], before_after=before_after())
    word, sentence, tone = headline_of(told)
    assert (word, tone) == ("Description only, no proof of an effect", "care")
    assert sentence.startswith("Description only: 2.00% of 1,000 users converted before")
    read = Document(impact_html(report(told)))
    assert read.text.count("Description only, no proof of an effect") == 2
    assert "Lift of conversion" not in read.text
    assert not any(value == "lift" for _, value in read.attributes)


def test_what_kept_a_verdict_from_being_given_comes_first_and_a_description_is_told_all_the_same() -> None:
    why = "The share has no table that tells the goal, purchase."
    told = message(experiments=[], not_judged=why, before_after=before_after())
    assert headline_of(told) == ("No verdict", why, "care")
    text = Document(impact_html(report(told))).text
    assert text.index(why) < text.index("Description only: 2.00% of 1,000 users converted before")
    assert "nobody was held out" not in text
    assert "not among them yet" not in text
    # An experiment that was judged says its own, as do reports of before there was such a sentence.
    assert headline_of(message(not_judged=why)) == headline_of(message())
    old = message(experiments=[])
    del old["not_judged"]
    assert headline_of(old)[0] == "No comparison"


def test_what_braze_credits_is_told_apart_from_what_is_judged() -> None:
    read = Document(impact_html(several()))
    cells = [one.strip() for one in read.texts if one.strip()]
    assert BY_BRAZE in cells
    assert NO_SUM in read.text
    # In the first table, and in each message's funnel and lines; only before and after counts everybody's.
    assert cells[cells.index("Side by side") + 3] == "Converted (by Braze)"
    assert cells.count("Converted") == cells.count("Revenue") == 1
    assert "Converted (by Braze) by day" in cells


def test_the_time_that_a_verdict_covers_is_said() -> None:
    held_out, of_braze = experiment(), experiment(kind="braze_control")
    told = report(message(experiments=[held_out, of_braze]), window_seconds=36 * 3600)
    text = Document(impact_html(told)).text
    after_sizes = text.split("90,000 treated users, 10,000 held out.")[1].split()
    said = "Each user counts for 36h from the first message on, or from when they came if that was later."
    assert " ".join(after_sizes).startswith(said)
    assert "Each user counts for 36h from when they entered the campaign or Canvas on." in text
    path = {**experiment(kind="control_path"), "control_id": "step-1", "control_name": None}
    text = Document(impact_html(report(message(experiments=[path])))).text
    assert "Against those on the control path of experiment step step-1" in text
    assert "90,000 treated users, 10,000 on the control path." in text
    assert "from when they came to the step on." in text
    windows = {604_800: "7d", 90 * 60: "90m", 86_400: "1d", 7200: "2h"}
    assert {one: covered_words(held_out, one).split()[4] for one in windows} == windows


def test_messages_stand_side_by_side_and_those_left_out_are_counted() -> None:
    told = {**several(), "messages_left_out": 4}
    read = Document(impact_html(told))
    links = [value for key, value in read.attributes if key == "href"]
    ids = [value for key, value in read.attributes if key == "id"]
    assert links == [f"#{one}" for one in ids]
    assert len(links) == 4
    assert "Messages that reached fewer people and are not shown here: 4." in read.text
    assert "Side by side" not in Document(impact_html(report())).text


def test_a_report_without_a_message_says_that_nobody_was_reached() -> None:
    told = {**report(), "messages": []}
    assert "No message reached anybody of this cohort in these days." in Document(impact_html(told)).text
    named = Document(impact_html({**told, "messages_asked": "campaign spring, canvas 7"})).text
    assert "None of the messages asked about reached anybody of this cohort in these days." in named
    assert "No message" not in named


def test_a_report_of_before_it_said_what_was_asked_about_can_be_shown() -> None:
    told = {**report(), "messages": []}
    del told["messages_asked"]
    assert "No message reached anybody of this cohort in these days." in Document(impact_html(told)).text


def test_every_verdict_has_a_word() -> None:
    assert VERDICTS.keys() == set(Verdict)
