"""How a measured impact reads, wherever a person reads it: words, shares and places on an axis. It judges nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.durations import duration_text
from airflow_provider_kubit_braze.core.impact.findings import LiftInterval
from airflow_provider_kubit_braze.core.impact.words import CONTROLS, change, change_range, money, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kubit_braze.core.mail_html import Tone

#: What stands where no table of the share can tell a figure. It is not 0.
NOT_KNOWN: Final = "not known"

#: A verdict in a word or two, and how to take it.
VERDICTS: Final[dict[str, tuple[str, Tone]]] = {
    "raised": ("Raised", "good"),
    "lowered": ("Lowered", "bad"),
    "none_found": ("No effect found", "plain"),
    "not_enough_data": ("Not enough data", "care"),
    "groups_broken": ("No verdict", "bad"),
    "control_reached": ("No verdict", "bad"),
    "reached_later": ("No verdict", "care"),
    "no_comparison": ("No verdict", "care"),
}

#: The steps of the funnel, as keys and for people.
STEPS: Final = (
    ("reached", "Reached"),
    ("delivered", "Delivered"),
    ("seen", "Seen"),
    ("clicked", "Clicked"),
    ("converted", "Converted (by Braze)"),
)

#: Every figure of a line, in the order of a table.
FIGURES: Final = (
    ("reached", "Reached"),
    ("sends", "Sends"),
    *STEPS[1:],
    ("revenue", "Revenue (by Braze)"),
    ("opted_out", "Opted out"),
)

#: The same, to look one up by its key.
NAMES: Final = dict(FIGURES)

#: What *converted* and *revenue* of a message are, which the verdict is not made of.
BY_BRAZE: Final = (
    "Converted and revenue in these figures are what Braze itself credits to messages. A verdict counts what everybody "
    "in both groups did, whether or not a message reached them."
)

#: Why the lines of a table are more than their sum.
NO_SUM: Final = "Figures count different users, so they do not add up over days and channels."

#: What lift and interval are.
INTERVALS: Final = (
    "Lift is the difference as a share of what the control group did. A 95% interval is what the data are compatible "
    "with: in 95 of 100 experiments such an interval holds the truth. An interval with 0 in it does not tell an effect "
    "from chance."
)

MEASURES: Final = {"conversion": "Conversion", "revenue": "Revenue per user"}
_KINDS: Final = {"campaign": "Campaign", "canvas": "Canvas"}

# Of the length of an axis, on either side, so that the ends of an interval have room for their words.
_MARGIN: Final = 0.25

#: Kind of control group -> where its users are, and from when on a user counts.
_WHERE: Final = {
    "holdout": "held out",
    "braze_control": "in Braze's control group",
    "control_path": "on the control path",
}
_FROM: Final = {
    "holdout": "the first message on, or from when they came if that was later",
    "braze_control": "when they entered the campaign or Canvas on",
    "control_path": "when they came to the step on",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the funnel.

    :param name: for people.
    :param users: how many got so far; None when no table can tell.
    :param share: of those in the first step that is known; None when it cannot be said.
    """

    name: str
    users: int | None
    share: float | None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An interval on an axis that has 0 on it; places are shares of the axis, from its left end.

    :param low: where the interval begins.
    :param high: where it ends; the end of the axis when it has no upper bound.
    :param point: the figure itself.
    :param zero: where no effect is.
    :param is_open: whether the interval has no upper bound.
    :param low_label: its least value, with a sign.
    :param high_label: its greatest value, with a sign.
    """

    low: float
    high: float
    point: float
    zero: float
    is_open: bool
    low_label: str
    high_label: str


def steps_of(figures: Mapping[str, Any]) -> list[Step]:
    """Return the funnel of one message, each step with its share of the first one that is known."""
    base = next((figures[key] for key, _ in STEPS if figures[key] is not None), None)
    return [
        Step(
            name=name,
            users=figures[key],
            share=None if figures[key] is None or not base else figures[key] / base,
        )
        for key, name in STEPS
    ]


def base_of(figures: Mapping[str, Any]) -> str:
    """Return of whom the shares of the funnel are, such as ``reached``."""
    return next((key for key, _ in STEPS if figures[key] is not None), "reached")


def figure(key: str, value: float | None, currency: str | None) -> str:
    """Return one figure of a line; revenue with its currency."""
    if value is None:
        return NOT_KNOWN
    if key == "revenue":
        return money(value, currency or "").strip()
    return f"{value:,}"


def name_of(message: Mapping[str, Any]) -> str:
    """Return what a message is called: its name, else its id."""
    if message["kind"] == "all":
        return "All campaigns and Canvases"
    return str(message["name"] or message["id"])


def kind_of(message: Mapping[str, Any]) -> str:
    """Return what kind of message it is, for people; nothing for all of them together."""
    return "" if message["kind"] == "all" else _KINDS.get(message["kind"], str(message["kind"]))


def variation_of(variation: Mapping[str, Any]) -> str:
    """Return what a variation is called; the share need not say which one it was."""
    return str(variation["name"] or variation["variation"] or NOT_KNOWN)


def headline_of(message: Mapping[str, Any]) -> tuple[str, str, Tone]:
    """Return the first thing to say of a message: a word or two, a sentence, and how to take it."""
    if message["experiments"]:
        effect = message["experiments"][0]["conversion"]
        word, tone = VERDICTS[effect["verdict"]]
        return word, effect["sentence"], tone
    if why := message.get("not_judged"):
        return "No verdict", str(why), "care"
    if message["before_after"]:
        return message["before_after"]["label"], message["before_after"]["sentence"], "care"
    return (
        "No comparison",
        "It cannot be said what the campaign caused: nobody was held out, or the notes say what else is missing. The "
        "figures below say what happened, and not because of what.",
        "care",
    )


def effects_of(experiment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what was judged: conversion, and revenue where it is known."""
    return [one for one in (experiment["conversion"], experiment["revenue"]) if one]


def both_figures(effect: Mapping[str, Any], control_kind: str) -> str:
    """Return what both groups did."""
    what = "converted" if effect["measure"] == "conversion" else "a user"
    return (
        f"{_amount(effect, effect['treated'])} {what}, against {_amount(effect, effect['control'])} of "
        f"{CONTROLS[control_kind]}"
    )


def lift_words(effect: Mapping[str, Any]) -> str | None:
    """Return lift and interval in words; None when there is no interval, for then there is no lift to be told."""
    intervals = effect["intervals"]
    if not intervals:
        return None
    if effect["lift"] is None:
        low, high = (_amount(effect, intervals["difference"][end], sign=True) for end in ("low", "high"))
        return f"{_amount(effect, effect['difference'], sign=True)} (95% interval: {low} to {high})"
    lift = change(effect["lift"]) if effect["lift"] else "no difference"
    said = f"{lift} (95% interval: {change_range(LiftInterval(**intervals['lift']))}"
    if effect["compared"] > 1 and effect["joint_intervals"]:
        joint = change_range(LiftInterval(**effect["joint_intervals"]["lift"]))
        said += f"; for all {effect['compared']} at once: {joint}"
    return f"{said})"


def effect_words(effect: Mapping[str, Any], control_kind: str, *, said: str) -> str | None:
    """Return what to say of an effect: its sentence, or where that was said already, its figures.

    :param said: the sentence that stands above.
    """
    if effect["sentence"] != said:
        return str(effect["sentence"])
    lift = lift_words(effect)
    # Groups that cannot be compared have figures all the same; they would be read as an effect.
    return f"{both_figures(effect, control_kind)}: {lift}." if lift else None


def axis_of(effect: Mapping[str, Any]) -> Axis | None:
    """Return where the interval lies: of the lift, or where the control group's figure is 0, of the difference."""
    intervals = effect["intervals"]
    if not intervals:
        return None
    of_lift = effect["lift"] is not None
    point: float = effect["lift"] if of_lift else effect["difference"]
    low, high = (intervals["lift" if of_lift else "difference"][end] for end in ("low", "high"))
    least: float = min(low, point, 0.0)
    # Without an upper bound the axis ends somewhat beyond what is known.
    most: float = max(point, low, 0.0, high if high is not None else 0.0)
    span = (most - least) or 1.0
    if high is None:
        most += 0.3 * span
        span = most - least
    whole = span * (1 + 2 * _MARGIN)

    def place(value: float) -> float:
        return (value - least + _MARGIN * span) / whole

    def label(value: float) -> str:
        return signed(value) if of_lift else _amount(effect, value, sign=True)

    return Axis(
        low=place(low),
        high=1.0 if high is None else place(high),
        point=place(point),
        zero=place(0.0),
        is_open=high is None,
        low_label=label(low),
        high_label="no upper bound" if high is None else label(high),
    )


def signed(share: float) -> str:
    """Return a share as a percentage with its sign."""
    return f"{'+' if share > 0 else ''}{percent(share)}"


def control_of(experiment: Mapping[str, Any]) -> str:
    """Return with whom the treated are compared."""
    words = CONTROLS[experiment["control_kind"]]
    step = experiment.get("control_name") or experiment.get("control_id")
    return f"{words} of experiment step {step}" if step else words


def sizes_of(experiment: Mapping[str, Any]) -> str:
    """Return how many users were compared."""
    where = _WHERE[experiment["control_kind"]]
    return f"{experiment['treated_users']:,} treated users, {experiment['control_users']:,} {where}."


def covered_words(experiment: Mapping[str, Any], window_seconds: float) -> str:
    """Return which time of each user an experiment covers.

    :param window_seconds: the attribution window.
    """
    window = duration_text(timedelta(seconds=window_seconds))
    return f"Each user counts for {window} from {_FROM[experiment['control_kind']]}."


def ratio_warning(experiment: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the sizes of the groups, if something is."""
    ratio = experiment["sample_ratio"]
    if ratio is None or ratio["is_sound"]:
        return None
    return (
        f"The sizes of the groups are wrong: {percent(ratio['expected'])} of the users should be among "
        f"{CONTROLS[experiment['control_kind']]}, and {percent(ratio['observed'])} are. No verdict is given."
    )


def reached_words(experiment: Mapping[str, Any]) -> str | None:
    """Return what it did per user who was reached, where that can be said."""
    reached = experiment["reached"]
    if not reached:
        return None
    low, high = (_points(reached["interval"][end]) for end in ("low", "high"))
    return (
        f"Per user who was reached ({reached['users']:,}): {_points(reached['difference'])} percentage points "
        f"({low} to {high}), if the campaign did nothing to the others."
    )


def before_after_rows(told: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return when, users, converters and revenue of both periods."""
    return [
        (
            name,
            f"{told[key]['users']:,}",
            f"{told[key]['converters']:,}",
            figure("revenue", told[key]["revenue"], told[key]["currency"]),
        )
        for key, name in (("before", "Before"), ("after", "After"))
    ]


def moment(text: str | None) -> str:
    """Return an ISO moment for people, in UTC."""
    if text is None:
        return NOT_KNOWN
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def nobody_words(report: Mapping[str, Any]) -> str:
    """Return what to say of a report without a message: others than those asked about may have reached somebody."""
    # A report of an earlier version does not say what was asked about.
    is_of_all = report.get("messages_asked", "all") == "all"
    which = "No message" if is_of_all else "None of the messages asked about"
    return f"{which} reached anybody of this cohort in these days."


def subject_of(report: Mapping[str, Any]) -> str:
    """Return what a report is about: its cohort."""
    return str(report["cohort_name"] or report["cohort_id"])


def period_of(report: Mapping[str, Any]) -> str:
    """Return which days were looked at."""
    return f"{report['since']} to {report['until']} ({report['timezone']})"


def waiting_words(message: Mapping[str, Any]) -> str | None:
    """Return how many users are not counted yet."""
    users = message["open_users"]
    # What kept it from being judged says the same of all of them.
    if not users or message.get("not_judged"):
        return None
    are = "user is" if users == 1 else "users are"
    return f"{users:,} {are} not among them yet, since the time in which to convert is not over."


def _amount(effect: Mapping[str, Any], value: float, *, sign: bool = False) -> str:
    plus = "+" if sign and value > 0 else ""
    if effect["currency"] is not None:
        return plus + money(value, effect["currency"])
    return f"{_points(value)} points" if sign else percent(value)


def _points(difference: float) -> str:
    return f"{'+' if difference > 0 else ''}{percent(difference).removesuffix('%')}"
