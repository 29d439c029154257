from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from datetime import date, timedelta
from typing import Any

import pytest

from airflow_provider_kubit_braze.core import impact
from airflow_provider_kubit_braze.core.impact.before_after import BeforeAfter
from airflow_provider_kubit_braze.core.impact.figures import (
    Course,
    Experiment,
    Group,
    Revenue,
    Timing,
    course_of,
)
from airflow_provider_kubit_braze.core.impact.findings import Effect, Verdict
from airflow_provider_kubit_braze.core.impact.judge import holm, judge, judge_all
from airflow_provider_kubit_braze.exceptions import ImpactFiguresError, StatisticsMissingError

DAY = 86_400


def revenue(buyers: int, basket: float = 20.0, currency: str = "EUR") -> Revenue:
    return Revenue(buyers=buyers, total=buyers * basket, squares=buyers * basket**2 * 2.5, currency=currency)


def experiment(
    treated: tuple[int, int] = (900_000, 54_000), control: tuple[int, int] = (100_000, 5_000), **changes: Any
) -> Experiment:
    """Users and converters of both groups."""
    groups = [Group(users=users, converters=converters) for users, converters in (treated, control)]
    return Experiment(**{"name": "Spring", "treated": groups[0], "control": groups[1], **changes})


def with_revenue(buyers: int, control_buyers: int, **changes: Any) -> Experiment:
    return Experiment(
        name="Spring",
        treated=Group(users=900_000, converters=54_000, revenue=revenue(buyers)),
        control=Group(users=100_000, converters=5_000, revenue=revenue(control_buyers)),
        **changes,
    )


def revenue_effect(judged: Experiment) -> Effect:
    effect = judge(judged).revenue
    assert effect is not None
    return effect


@pytest.mark.parametrize(
    ("treated", "control", "verdict", "words"),
    [
        pytest.param(
            (900_000, 54_000),
            (100_000, 5_000),
            Verdict.RAISED,
            "The campaign raised conversion: 6.00% converted, against 5.00% of those held out, 20.0% more "
            "(95% interval: 16.7% to 23.4% more). About 9,000 conversions (7,693 to 10,280) came of it.",
            id="more",
        ),
        pytest.param(
            (900_000, 40_000),
            (100_000, 5_000),
            Verdict.LOWERED,
            "The campaign lowered conversion: 4.44% converted, against 5.00% of those held out, 11.1% less "
            "(95% interval: 8.52% to 13.6% less). About 5,000 conversions (3,739 to 6,289) were lost by it.",
            id="less",
        ),
        pytest.param(
            (900_000, 45_000),
            (100_000, 5_000),
            Verdict.NONE_FOUND,
            "No effect on conversion was found: 5.00% converted, against 5.00% of those held out, which is compatible "
            "with between 2.81% less and 2.89% more (95% interval). A change of 10% would have shown 4 times in 5.",
            id="the same",
        ),
        pytest.param(
            (90_000, 4_500),
            (10_000, 500),
            Verdict.NOT_ENOUGH_DATA,
            "Not enough data to say: so far 5.00% converted, against 5.00% of those held out, which is compatible with "
            "between 8.59% less and 9.44% more (95% interval). A change of 10% would show in about 76 more days.",
            id="few users",
        ),
        pytest.param(
            (90_000, 5_040),
            (10_000, 500),
            Verdict.NOT_ENOUGH_DATA,
            "but it is early: until then only a clearer one counts (p below 0.001)",
            id="significant, but early",
        ),
        pytest.param(
            (90_000, 6_000), (10_000, 500), Verdict.RAISED, "33.3% more", id="clear enough to be early"
        ),
        pytest.param(
            (9_000, 30),
            (1_000, 0),
            Verdict.NOT_ENOUGH_DATA,
            "so far 0.33% converted, against 0% of those held out, a difference from -0.05% to 0.48% (95% interval)",
            id="no converter held out",
        ),
        pytest.param(
            (200, 200),
            (200, 0),
            Verdict.RAISED,
            "100% converted, against 0% of those held out (95% interval: 98.1% to 100%)",
            id="all and none",
        ),
        pytest.param(
            (100, 100), (50, 50), Verdict.NOT_ENOUGH_DATA, "100% converted, against 100%", id="all converted"
        ),
        pytest.param((1, 1), (1, 0), Verdict.NOT_ENOUGH_DATA, "Not enough data to say", id="one each"),
        pytest.param(
            (1_000, 30),
            (0, 0),
            Verdict.NO_COMPARISON,
            "there is nobody among those held out",
            id="no holdout",
        ),
        pytest.param((0, 0), (50, 3), Verdict.NO_COMPARISON, "nobody was treated", id="nobody treated"),
    ],
)
def test_what_may_be_said_of_conversion(
    treated: tuple[int, int], control: tuple[int, int], verdict: Verdict, words: str
) -> None:
    effect = judge(experiment(treated, control, new_users_per_day=1_000)).conversion

    assert effect.verdict is verdict, effect.sentence
    assert words in effect.sentence
    if verdict is Verdict.NO_COMPARISON:
        assert (effect.p, effect.intervals, effect.detectable) == (None, None, None)


@pytest.mark.parametrize(
    ("buyers", "control_buyers", "verdict", "words"),
    [
        pytest.param(
            54_000,
            5_000,
            Verdict.RAISED,
            "The campaign raised revenue per user: 1.20 EUR a user, against 1.00 EUR of those held out, 20.0% more "
            "(95% interval: 14.8% to 25.7% more). About 180,000 EUR (138,381 EUR to 221,502 EUR) came of it.",
            id="more",
        ),
        pytest.param(
            45_000, 5_000, Verdict.NONE_FOUND, "No effect on revenue per user was found", id="the same"
        ),
        pytest.param(
            500, 19, Verdict.NOT_ENOUGH_DATA, "intervals of revenue need 20 buyers in each", id="few buyers"
        ),
        pytest.param(500, 0, Verdict.NOT_ENOUGH_DATA, "against 0.00 EUR", id="no buyers"),
        pytest.param(180, 20, Verdict.NOT_ENOUGH_DATA, "since no new users come", id="just enough to try"),
    ],
)
def test_what_may_be_said_of_revenue(buyers: int, control_buyers: int, verdict: Verdict, words: str) -> None:
    effect = revenue_effect(with_revenue(buyers, control_buyers))

    assert effect.verdict is verdict, effect.sentence
    assert words in effect.sentence
    assert (effect.p is None) == (control_buyers < 20)


def test_the_figures_of_an_effect_are_those_of_the_groups() -> None:
    effect = revenue_effect(with_revenue(54_000, 5_000))

    assert (effect.treated, effect.control, effect.currency) == (1.2, 1.0, "EUR")
    assert effect.difference == pytest.approx(0.2)
    assert effect.lift == pytest.approx(0.2)
    assert effect.extra == pytest.approx(180_000)
    assert effect.intervals is not None
    assert effect.intervals.confidence == 0.95
    assert effect.intervals.difference.low < 0.2 < (effect.intervals.difference.high or 0)
    assert effect.intervals.lift.low < 0.2 < (effect.intervals.lift.high or 0)
    assert effect.p == effect.p_adjusted
    assert effect.joint_intervals == effect.intervals


@pytest.mark.parametrize(
    ("held_out", "is_sound"),
    [(10_000, True), (10_270, True), (10_330, False), (9_680, False)],
)
def test_groups_of_the_wrong_sizes_get_no_verdict(held_out: int, is_sound: bool) -> None:
    judged = judge(experiment((100_000 - held_out, 6_000), (held_out, 300), control_share=0.1))

    assert judged.sample_ratio is not None
    assert judged.sample_ratio.is_sound is is_sound
    assert judged.sample_ratio.observed == held_out / 100_000
    assert (judged.conversion.verdict is Verdict.GROUPS_BROKEN) is not is_sound
    assert (judged.conversion.intervals is None) is not is_sound
    if not is_sound:
        assert "10.0% of the users should be among those held out" in judged.conversion.sentence


def test_sizes_are_not_checked_where_nobody_knows_what_they_should_be() -> None:
    assert judge(experiment((50_000, 6_000), (50_000, 300))).sample_ratio is None


def test_brazes_control_group_is_named_as_what_it_is() -> None:
    judged = judge(experiment(control_kind="braze_control"))

    assert "against 5.00% of Braze's control group" in judged.conversion.sentence
    assert judged.control_kind == "braze_control"


def test_the_effect_on_those_reached_is_all_of_it() -> None:
    judged = judge(experiment(reached=300_000))

    assert judged.reached is not None
    assert judged.conversion.intervals is not None
    assert judged.conversion.difference is not None
    assert judged.reached.difference == pytest.approx(3 * judged.conversion.difference)
    assert judged.reached.interval.low == pytest.approx(3 * judged.conversion.intervals.difference.low)
    assert judge(experiment(reached=0)).reached is None
    assert judge(experiment(control=(0, 0), reached=5)).reached is None


def test_where_the_control_group_was_reached_as_well_the_effect_is_that_of_the_difference() -> None:
    judged = judge(experiment(reached=300_000, control_reached=5_000))

    assert judged.control_reached == 5_000
    assert judged.conversion.verdict is Verdict.RAISED
    assert judged.reached is not None
    assert judged.conversion.intervals is not None
    assert judged.conversion.difference is not None
    assert judged.reached.difference == pytest.approx(judged.conversion.difference / (1 / 3 - 0.05))
    assert judged.reached.interval.high == pytest.approx(
        judged.conversion.intervals.difference.high / (1 / 3 - 0.05)
    )
    assert judge(experiment(reached=9_000, control_reached=1_000)).reached is None


def test_a_control_group_that_was_sent_the_message_gets_no_verdict() -> None:
    judged = judge(with_revenue(54_000, 5_000, reached=900_000, control_reached=5_001))

    assert judged.revenue is not None
    for effect in (judged.conversion, judged.revenue):
        assert effect.verdict is Verdict.CONTROL_REACHED
        assert (effect.intervals, effect.p, effect.extra_interval) == (None, None, None)
        assert effect.sentence == (
            "No verdict: of those held out, 5.00% (5,001 of 100,000) were sent it all the same, so it cannot be said "
            "what users do without it. Send it with TriggerCohortCampaignOperator (a Canvas with "
            "TriggerCohortCanvasOperator), or filter its audience by the cohort's attribute."
        )
    assert judged.reached is None
    assert judge(experiment(control_reached=None)).conversion.verdict is Verdict.RAISED


def test_one_lucky_campaign_of_many_is_no_finding() -> None:
    lucky, dull = (
        experiment((900_000, 46_500), (100_000, 5_000)),
        experiment((900_000, 45_000), (100_000, 5_000)),
    )

    alone = judge(lucky).conversion
    among = judge_all([lucky] + [dull] * 9)[0].conversion

    assert alone.verdict is Verdict.RAISED
    assert among.verdict is Verdict.NONE_FOUND
    assert among.sentence.endswith("Judged as one of 10 campaigns.")
    assert among.p == alone.p
    assert among.p_adjusted == pytest.approx(10 * (alone.p or 0))
    assert among.intervals == alone.intervals
    assert among.joint_intervals is not None
    assert among.joint_intervals.confidence == pytest.approx(0.995)
    assert among.joint_intervals.lift.low < 0 < (among.joint_intervals.lift.high or 0)


def test_campaigns_that_cannot_be_judged_cost_the_others_nothing() -> None:
    broken = experiment((900_000, 54_000), (50_000, 5_000), control_share=0.1)
    sent = experiment(control_reached=50_000)
    empty = experiment(control=(0, 0), control_reached=0)

    first, *others = judge_all([experiment(), broken, sent, empty])

    assert first.conversion.compared == 1
    assert [other.conversion.verdict for other in others] == [
        Verdict.GROUPS_BROKEN,
        Verdict.CONTROL_REACHED,
        Verdict.NO_COMPARISON,
    ]


def test_no_campaigns_are_no_judgements() -> None:
    assert judge_all([]) == ()


@pytest.mark.parametrize(
    "judged",
    [
        with_revenue(54_000, 5_000, control_share=0.1, reached=9),
        experiment((9, 5), (9, 0)),
        experiment((5, 0), (0, 0)),
    ],
)
def test_a_judgement_is_json_without_infinities(judged: Experiment) -> None:
    text = json.dumps(dataclasses.asdict(judge(judged)), allow_nan=False)

    assert json.loads(text)["conversion"]["verdict"] in set(Verdict)


def test_p_values_are_adjusted_by_holms_method() -> None:
    """The same as R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_a_smaller_lift_that_is_worth_seeing_takes_more_users() -> None:
    users = experiment((900_000, 45_000), (100_000, 5_000), new_users_per_day=10_000)

    effect = judge(users, worth=0.02).conversion

    assert effect.verdict is Verdict.NOT_ENOUGH_DATA
    assert effect.days is not None
    assert effect.detectable == judge(users).conversion.detectable


@pytest.mark.parametrize("worth", [0, -0.1, float("nan")])
def test_a_lift_worth_seeing_is_above_0(worth: float) -> None:
    with pytest.raises(ValueError, match="give the least lift that would matter"):
        judge(experiment(), worth=worth)


@pytest.mark.parametrize("missing", ["numpy", "scipy"])
def test_without_the_extra_all_can_be_imported_and_one_sentence_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{impact.__name__}.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(impact, name.rpartition(".")[2])
    monkeypatch.setitem(sys.modules, missing, None)
    importlib.import_module(f"{impact.__name__}.before_after")
    anew = importlib.import_module(f"{impact.__name__}.judge")

    with pytest.raises(StatisticsMissingError, match=r"pip install 'airflow-provider-kubit-braze\[impact\]'"):
        anew.judge(experiment())


def test_before_and_after_is_a_description_and_carries_no_verdict() -> None:
    described = BeforeAfter(
        name="Spring",
        before=Group(users=1_000, converters=50, revenue=revenue(50)),
        after=Group(users=1_200, converters=90, revenue=revenue(90)),
    )

    assert described.label == "Description only, no proof of an effect"
    assert described.sentence.startswith(
        "Description only: 5.00% of 1,000 users converted before, 7.50% of 1,200 after."
    )
    assert described.conversion_change == pytest.approx(0.025)
    assert described.revenue_change == pytest.approx(0.5)
    assert not {"p", "verdict", "intervals"} & set(dir(described))


def test_before_and_after_in_two_currencies_is_refused() -> None:
    before, after = (
        Group(users=100, converters=5, revenue=revenue(5, currency=currency)) for currency in ("EUR", "USD")
    )

    with pytest.raises(ImpactFiguresError, match="revenue in EUR cannot be compared with USD"):
        BeforeAfter(name="Spring", before=before, after=after)


# -- too few ----------------------------------------------------------------------------------------------------------


def test_a_single_user_held_out_is_no_finding() -> None:
    effect = judge(experiment((100, 5), (1, 1), course=Course.OVER)).conversion
    assert (effect.verdict, effect.p, effect.p_adjusted) == (Verdict.NOT_ENOUGH_DATA, None, None)
    assert effect.intervals is not None
    assert (
        "A verdict needs at least 5 users to be expected in each group who convert, and 5 who do not. "
        in effect.sentence
    )
    assert "looks like an effect" not in effect.sentence


@pytest.mark.parametrize(
    ("treated", "control", "counts"),
    [
        ((900, 45), (100, 5), True),
        ((900, 45), (100, 4), False),
        # Whether the rare thing is to convert or not, and whichever group is the small one.
        ((900, 855), (100, 95), True),
        ((900, 855), (100, 96), False),
        ((100, 5), (900, 45), True),
        ((100, 4), (900, 45), False),
    ],
)
def test_five_of_each_are_to_be_expected_in_each_group(
    treated: tuple[int, int], control: tuple[int, int], counts: bool
) -> None:
    assert (judge(experiment(treated, control)).conversion.p is not None) is counts


def test_who_is_too_few_for_a_p_value_is_looked_at_with_the_others_all_the_same() -> None:
    few, other, _ = judge_all([experiment((100, 5), (1, 1)), experiment(), experiment()])
    assert (few.conversion.compared, other.conversion.compared) == (3, 3)
    for effect in (few.conversion, other.conversion):
        assert effect.joint_intervals is not None
        assert effect.joint_intervals.confidence == pytest.approx(1 - 0.05 / 3)
    assert "one of 3" not in few.conversion.sentence
    assert "one of 3" in other.conversion.sentence


def test_where_they_would_be_enough_for_the_change_itself_nobody_is_told_to_wait() -> None:
    most = experiment((3_000, 2_910), (100, 98), new_users_per_day=50.0)
    assert most.course is Course.RUNNING
    effect = judge(most).conversion
    assert effect.p is None
    assert effect.detectable is not None
    assert effect.detectable < effect.worth
    assert effect.sentence.endswith("convert, and 5 who do not.")


def test_groups_that_cannot_be_compared_have_no_difference() -> None:
    judged = judge(with_revenue(20_000, 2_000, control_share=0.2))
    assert judged.conversion.verdict is Verdict.GROUPS_BROKEN
    assert judged.revenue is not None
    for effect in (judged.conversion, judged.revenue):
        assert (effect.difference, effect.lift, effect.extra, effect.intervals) == (None, None, None, None)
        assert effect.treated > 0


# -- when -------------------------------------------------------------------------------------------------------------


def test_at_the_last_look_a_finding_counts_however_few_the_users_are() -> None:
    few: dict[str, Any] = {"treated": (9_000, 540), "control": (1_000, 44)}
    early = judge(experiment(**few)).conversion
    assert early.p is not None
    assert 0.001 < early.p < 0.05
    assert early.verdict is Verdict.NOT_ENOUGH_DATA
    assert "It looks like an effect, but it is early" in early.sentence
    assert judge(experiment(**few, course=Course.OVER)).conversion.verdict is Verdict.RAISED


def test_what_may_be_sent_again_has_to_be_clearer_to_count() -> None:
    """Or a message that is sent every week would have two last looks."""
    some: dict[str, Any] = {"treated": (9_000, 540), "control": (1_000, 44)}
    quiet = judge(experiment(**some, course=Course.QUIET)).conversion
    assert quiet.p is not None
    assert 0.01 < quiet.p < 0.05
    assert quiet.verdict is Verdict.NOT_ENOUGH_DATA
    assert "if nothing more is sent for 35 days after the last message, it counts as one." in quiet.sentence
    clearer = judge(experiment((9_000, 540), (1_000, 38), course=Course.QUIET)).conversion
    assert clearer.p is not None
    assert 0.001 < clearer.p < 0.01
    assert clearer.verdict is Verdict.RAISED


def test_at_the_last_look_nobody_is_told_to_wait() -> None:
    effect = judge(experiment((900, 50), (100, 5), course=Course.OVER)).conversion
    assert effect.verdict is Verdict.NOT_ENOUGH_DATA
    assert effect.sentence.endswith(
        "A change of 10% would not have shown among so few users: next time hold out more."
    )


def test_while_every_window_is_open_it_is_too_early_and_nobody_is_said_to_be_missing() -> None:
    treated = Group(users=0, converters=0, open_users=950, countable_on=date(2026, 3, 10))
    control = Group(users=0, converters=0, open_users=3, countable_on=date(2026, 3, 9))
    effect = judge(Experiment(name="Spring", treated=treated, control=control)).conversion
    assert effect.sentence == (
        "Too early to say: the attribution window of all 953 users is still open. The first of them count from "
        "2026-03-09 on."
    )


@pytest.mark.parametrize("treated_users", [0, 5])
def test_whom_waiting_does_not_help_is_not_told_to_wait(treated_users: int) -> None:
    treated = Group(users=treated_users, converters=0, open_users=5)
    effect = judge(
        Experiment(name="Spring", treated=treated, control=Group(users=0, converters=0))
    ).conversion
    assert effect.sentence.startswith("No verdict: there is nobody among those held out, ")


def reached_late(in_time: int, days: int | None = 12) -> Experiment:
    timing = Timing(ever_reached=1_000, window=timedelta(days=3), first_day=date(2026, 3, 2), days=days)
    return experiment(reached=in_time, timing=timing)


def test_where_most_are_reached_later_the_time_that_is_compared_says_nothing_of_the_message() -> None:
    late = judge(reached_late(499))
    assert late.conversion.verdict is Verdict.REACHED_LATER
    assert (late.conversion.p, late.conversion.intervals, late.reached) == (None, None, None)
    assert late.conversion.sentence.endswith("Ask with a longer window: 12d would hold nine in ten.")
    assert "(3d from 2026-03-02 on, or from when the user came)" in late.conversion.sentence
    assert judge(reached_late(500)).conversion.verdict is Verdict.RAISED
    never = judge(reached_late(1, days=None)).conversion.sentence
    assert never.endswith(
        "only 1 of the 1,000 users who were reached. No window of up to 90 days would hold nine in ten."
    )
    # Of whom nobody was reached at all, nobody was reached too late.
    nobody = Timing(ever_reached=0, window=timedelta(days=3), first_day=date(2026, 3, 2))
    assert judge(experiment(reached=0, timing=nobody)).conversion.verdict is Verdict.RAISED


@pytest.mark.parametrize(
    ("changes", "course"),
    [
        ({}, Course.QUIET),
        ({"last": 31 * DAY}, Course.RUNNING),
        ({"longest_gap": 4}, Course.QUIET),
        ({"longest_gap": 5}, Course.RUNNING),
        ({"longest_gap": 5, "ends": 40 * DAY}, Course.OVER),
        ({"longest_gap": 5, "ends": 40 * DAY + 1}, Course.RUNNING),
        ({"last": 31 * DAY, "ends": 35 * DAY}, Course.RUNNING),
        ({"last": 5 * DAY}, Course.QUIET),
        ({"last": 5 * DAY - 1}, Course.OVER),
        ({"last": 5 * DAY - 1, "longest_gap": 17}, Course.OVER),
        ({"last": 5 * DAY - 1, "longest_gap": 18}, Course.RUNNING),
    ],
)
def test_a_message_is_over_when_the_days_are_or_it_is_long_silent(
    changes: dict[str, Any], course: Course
) -> None:
    known = {"last": 30 * DAY, "until": 40 * DAY, "window": 10 * DAY, "longest_gap": 0, "ends": None}
    assert course_of(**{**known, **changes}) is course


def test_a_canvas_is_not_called_a_campaign() -> None:
    assert judge(experiment(subject="The Canvas")).conversion.sentence.startswith(
        "The Canvas raised conversion: "
    )
