"""What was found, as one or two sentences for people who have not heard of p-values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.durations import duration_text
from airflow_provider_kubit_braze.core.impact.figures import SILENT_DAYS, Course
from airflow_provider_kubit_braze.core.impact.findings import Verdict

if TYPE_CHECKING:
    from datetime import date

    from airflow_provider_kubit_braze.core.impact.figures import Experiment, Group, Timing
    from airflow_provider_kubit_braze.core.impact.findings import Effect, LiftInterval, SampleRatio

#: Kind of control group -> who is in it.
CONTROLS: Final = {
    "holdout": "those held out",
    "braze_control": "Braze's control group",
    "control_path": "those on the control path",
}

#: When the time of a user begins that Braze itself has put into a group.
_SINCE: Final = {"braze_control": "when the user entered", "control_path": "when the user came to the step"}


def sentence_of(effect: Effect, experiment: Experiment, ratio: SampleRatio | None) -> str:
    """Return the sentences for one effect.

    :param ratio: whether the groups have the sizes they should have.
    """
    control = CONTROLS[experiment.control_kind]
    if effect.verdict is Verdict.NO_COMPARISON:
        return _no_comparison(experiment, control)
    if effect.verdict is Verdict.REACHED_LATER:
        return f"No verdict: {reached_in_time(experiment)}"
    if effect.verdict is Verdict.GROUPS_BROKEN and ratio:
        return (
            f"No verdict: {percent(ratio.expected)} of the users should be among {control}, and "
            f"{percent(ratio.observed)} are. Chance does that less than once in 1,000 times, so the groups differ in "
            "something else as well: find out in what before comparing them. If the holdout was changed, measure from "
            "the day after on (since)."
        )
    if effect.verdict is Verdict.CONTROL_REACHED:
        reached, users = experiment.control_reached or 0, experiment.control.users
        return (
            f"No verdict: of {control}, {percent(reached / users)} ({reached:,} of {users:,}) were sent it all the "
            "same, so it cannot be said what users do without it. Send it with TriggerCohortCampaignOperator (a Canvas "
            "with TriggerCohortCanvasOperator), or filter its audience by the cohort's attribute."
        )
    if effect.p is None and effect.measure == "revenue":
        return (
            f"Not enough data to say: {_figures(effect, control)}. In one of the groups too few have bought; intervals "
            "of revenue need 20 buyers in each."
        )
    if effect.verdict in (Verdict.RAISED, Verdict.LOWERED):
        return _finding(effect, experiment, control) + _among(effect)
    if effect.verdict is Verdict.NONE_FOUND:
        return (
            f"No effect on {_name(effect)} was found: {_figures(effect, control)}, {_range(effect)}. A change of "
            f"{100 * effect.worth:g}% would have shown 4 times in 5.{_among(effect)}"
        )
    text = f"Not enough data to say: so far {_figures(effect, control)}, {_range(effect)}."
    if effect.p is None:
        text += (
            " A verdict needs at least 5 users to be expected in each group who convert, and 5 who do not."
        )
        if effect.detectable is not None and effect.detectable <= effect.worth:
            # They would be enough for the change itself, of which waiting has nothing to say.
            return text
    return f"{text} {_wait(effect, experiment)}"


def percent(share: float) -> str:
    """Return a share as a percentage, with as many digits as its size deserves."""
    value = 100 * abs(share)
    if not value:
        return "0%"
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    text = f"{value:.2g}" if 0 < value < 0.995 else f"{value:,.{digits}f}"
    return f"{'-' if share < 0 else ''}{text}%"


def money(amount: float, currency: str) -> str:
    """Return an amount with its currency; cents only where they can be seen."""
    return f"{amount:,.{0 if abs(amount) >= 1000 else 2}f} {currency}"


def change(share: float) -> str:
    """Return a lift in words, such as ``12.0% more``."""
    return f"{percent(abs(share))} {'less' if share < 0 else 'more'}"


def change_range(interval: LiftInterval) -> str:
    """Return an interval of a lift in words, such as ``between 3.0% less and 12.0% more``."""
    if interval.high is None:
        return (
            f"at least {change(interval.low)}"
            if interval.low > 0
            else f"anything from {change(interval.low)} up"
        )
    if interval.low >= 0:
        return f"{percent(interval.low)} to {change(interval.high)}"
    if interval.high <= 0:
        return f"{percent(abs(interval.high))} to {change(interval.low)}"
    return f"between {change(interval.low)} and {change(interval.high)}"


def shown(effect: Effect, value: float) -> str:
    """Return a figure per user in its unit."""
    return percent(value) if effect.currency is None else money(value, effect.currency)


def too_early(*groups: Group) -> str:
    """Return what can be said while every attribution window is open.

    :param groups: those whose users are waited for.
    """
    return f"Too early to say: {_open(*groups)}"


def nobody_came(since: date) -> str:
    """Return what can be said of a message that began before the first day, when nobody has come since."""
    return (
        f"No verdict: it began before {since}, so only users who came since then can be compared, and nobody did. An "
        "earlier first day (since) compares all."
    )


def reached_in_time(experiment: Experiment) -> str:
    """Return how many of those whom a message reached it reached in the time that is compared, and what to ask."""
    timing = experiment.timing
    if timing is None:
        raise ValueError(f"{experiment.name}: when the message reached users is not known.")
    longer = (
        "No window of up to 90 days would hold nine in ten."
        if timing.days is None
        else f"Ask with a longer window: {timing.days}d would hold nine in ten."
    )
    since = _SINCE.get(experiment.control_kind) or _since(timing)
    return (
        f"the time that is compared ({duration_text(timing.window)} from {since}) holds the first message to only "
        f"{experiment.reached:,} of the {timing.ever_reached:,} users who were reached. {longer}"
    )


def sent_later(timing: Timing) -> str:
    """Return what a verdict leaves out of a message that was sent after the first users' time was over."""
    return (
        f"the verdict is about {duration_text(timing.window)} of each user from {_since(timing)}; what was sent after "
        "that did is not in it. A longer window holds more."
    )


def before_after_sentence(before: Group, after: Group, *, has_holdout: bool) -> str:
    """Return what a comparison without a control group may say.

    :param has_holdout: whether the cohort has a holdout, of which nobody counts.
    """
    why = "As nobody among those held out counts yet, nobody" if has_holdout else "Without a holdout nobody"
    return (
        f"Description only: {percent(before.rate)} of {before.users:,} users converted before, "
        f"{percent(after.rate)} of {after.users:,} after. {why} can tell how much of that the campaign has caused: "
        "season, price, other campaigns and the choice of users change it just as well."
    )


def _since(timing: Timing) -> str:
    return f"{timing.first_day} on, or from when the user came"


def _no_comparison(experiment: Experiment, control: str) -> str:
    empty = {
        who: group
        for who, group in (("the treated", experiment.treated), (control, experiment.control))
        if not group.users
    }
    # Where there is nobody at all, waiting for the others does not help.
    nobody = [who for who, group in empty.items() if not group.open_users]
    if nobody:
        who = "nobody was treated" if nobody == ["the treated"] else f"there is nobody among {nobody[-1]}"
        return f"No verdict: {who}, so it cannot be said what the campaign caused."
    if len(empty) == 2:
        return too_early(*empty.values())
    [(who, group)] = empty.items()
    return f"Too early to say: nobody among {who} counts yet, as {_open(group)}"


def _open(*groups: Group) -> str:
    """Return whose windows are open, and when the first of those users count."""
    number = sum(group.open_users for group in groups)
    days = [group.countable_on for group in groups if group.countable_on is not None]
    whose, who = (
        (f"all {number:,} users", "The first of them count")
        if number > 1
        else ("the one user", "That user counts")
    )
    text = f"the attribution window of {whose} is still open."
    return f"{text} {who} from {min(days)} on." if days else text


def _name(effect: Effect) -> str:
    return "conversion" if effect.measure == "conversion" else "revenue per user"


def _figures(effect: Effect, control: str) -> str:
    if effect.measure == "conversion":
        return (
            f"{shown(effect, effect.treated)} converted, against {shown(effect, effect.control)} of {control}"
        )
    return f"{shown(effect, effect.treated)} a user, against {shown(effect, effect.control)} of {control}"


def _range(effect: Effect) -> str:
    """Return the interval: of the lift, or where the control group's figure is 0, of the difference."""
    if not effect.intervals:
        return "without an interval"
    if effect.lift is None:
        return f"a difference from {_difference(effect)} (95% interval)"
    if effect.compared > 1 and effect.joint_intervals and effect.verdict is Verdict.NONE_FOUND:
        # One campaign's own interval may leave out 0 where all of them together show nothing.
        together = change_range(effect.joint_intervals.lift)
        return f"which is compatible with {together} (95% interval for all {effect.compared} at once)"
    return f"which is compatible with {change_range(effect.intervals.lift)} (95% interval)"


def _difference(effect: Effect) -> str:
    interval = effect.intervals.difference if effect.intervals else None
    return f"{shown(effect, interval.low)} to {shown(effect, interval.high)}" if interval else "unknown"


def _finding(effect: Effect, experiment: Experiment, control: str) -> str:
    verb = "raised" if effect.verdict is Verdict.RAISED else "lowered"
    lift = "" if effect.lift is None else f", {change(effect.lift)}"
    text = f"{experiment.subject} {verb} {_name(effect)}: {_figures(effect, control)}{lift}"
    if effect.intervals:
        inside = _difference(effect) if effect.lift is None else change_range(effect.intervals.lift)
        text += f" (95% interval: {inside})"
    what = "came of it" if effect.verdict is Verdict.RAISED else "were lost by it"
    amount = _amount(effect, abs(effect.extra or 0.0))
    if effect.extra_interval:
        low, high = sorted((abs(effect.extra_interval.low), abs(effect.extra_interval.high)))
        amount += f" ({_amount(effect, low, bare=True)} to {_amount(effect, high, bare=True)})"
    return f"{text}. About {amount} {what}."


def _amount(effect: Effect, value: float, *, bare: bool = False) -> str:
    if effect.currency is not None:
        return money(value, effect.currency)
    return f"{value:,.0f}" if bare else f"{value:,.0f} conversions"


def _among(effect: Effect) -> str:
    return (
        f" Judged as one of {effect.compared:,} campaigns."
        if effect.compared > 1 and effect.p is not None
        else ""
    )


def _wait(effect: Effect, experiment: Experiment) -> str:
    worth = f"{100 * effect.worth:g}%"
    looks_like_one = effect.p_adjusted is not None and effect.p_adjusted < 0.05
    if experiment.course is not Course.RUNNING:
        text = f"A change of {worth} would not have shown among so few users: next time hold out more."
        if looks_like_one:
            text = (
                f"It looks like an effect: if nothing more is sent for {SILENT_DAYS} days after the last message, it "
                "counts as one. Until then only a clearer one does (p below 0.01), as what is sent every week is "
                "looked at again."
            )
        return text + _among(effect)
    if effect.days is None:
        cause = (
            "no new users come" if not experiment.new_users_per_day else "the new users are too few for that"
        )
        text = f"A change of {worth} will not show, since {cause}: hold out more users, or look for a larger change."
    else:
        days = "1 more day" if effect.days == 1 else f"{effect.days:,} more days"
        text = f"A change of {worth} would show in about {days}."
    if looks_like_one:
        text += (
            " It looks like an effect, but it is early: until then only a clearer one counts (p below 0.001), or those "
            "who look every day would find effects that are not there."
        )
    return text + _among(effect)
