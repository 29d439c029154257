"""What a measurement found: the figures of each message, what may be said of them, and what could not be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from airflow_provider_kubit_braze.core.impact.before_after import BeforeAfter
    from airflow_provider_kubit_braze.core.impact.figures import Group
    from airflow_provider_kubit_braze.core.impact.findings import Judgement
    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion

#: The kind and the id of all messages together.
ALL: Final = "all"

#: Messages that a report is about at most: those that reached the most users.
MOST_MESSAGES: Final = 20

#: Figure of the funnel -> its value; None when the share cannot tell it.
Figures = dict[str, int | float | None]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The figures of a part of a message.

    :param figures: figure -> value.
    :param channel: the channel, unless it is about a day.
    :param variation: id of the variation, for one.
    :param name: its name, as far as the share knows it.
    :param day: the day, for one.
    """

    figures: Figures
    channel: str | None = None
    variation: str | None = None
    name: str | None = None
    day: date | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        if self.day is not None:
            return {"day": self.day.isoformat(), "figures": self.figures}
        if self.variation is None:
            return {"channel": self.channel, "figures": self.figures}
        return {
            "channel": self.channel,
            "variation": self.variation,
            "name": self.name,
            "figures": self.figures,
        }


@dataclass(frozen=True, kw_only=True)
class MessageImpact:
    """A campaign or Canvas, or all of them together.

    :param kind: ``campaign``, ``canvas`` or ``all``.
    :param id: its API identifier, or ``all``.
    :param name: its name, as far as the share knows it.
    :param first_reach: when it first reached somebody of the cohort in the period; None when it is not known.
    :param last_reach: when it last did.
    :param figures: figure -> value, of what reached users in the period, with all that followed it.
    :param channels: the same by channel.
    :param variations: the same by channel and variation.
    :param days: what happened on each day of the period, whenever the message was sent that it followed.
    :param open_users: users whose attribution window is not over, and who are therefore in neither group yet.
    :param judgements: what it did, against each control group that there is.
    :param before_after: a description, where nobody was held out.
    :param not_judged: why there is neither, as a sentence.
    """

    kind: str
    id: str
    name: str | None
    first_reach: datetime | None
    last_reach: datetime | None
    figures: Figures
    channels: Sequence[Slice] = ()
    variations: Sequence[Slice] = ()
    days: Sequence[Slice] = ()
    open_users: int = 0
    judgements: Sequence[Judgement] = ()
    before_after: BeforeAfter | None = None
    not_judged: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "kind": self.kind,
            "id": self.id,
            "name": self.name,
            "first_reach": _iso(self.first_reach),
            "last_reach": _iso(self.last_reach),
            "figures": self.figures,
            # Braze keeps the revenue it credits to messages in US cents.
            "currency": "USD",
            "channels": [one.as_dict() for one in self.channels],
            "variations": [one.as_dict() for one in self.variations],
            "days": [one.as_dict() for one in self.days],
            "open_users": self.open_users,
            "experiments": [_judgement(one) for one in self.judgements],
            "before_after": _before_after(self.before_after),
            "not_judged": self.not_judged,
        }


@dataclass(frozen=True, kw_only=True)
class ImpactReport:
    """The impact of messages on a cohort.

    :param question: what was asked.
    :param cohort_id: the cohort.
    :param cohort_name: its name for people.
    :param run_id: the run that measured it; empty for the command line.
    :param since: the first day.
    :param until: the last day.
    :param data_until: the latest event of the share; None when it has none.
    :param measured_at: when it was measured.
    :param days_measured: days that were measured anew.
    :param messages: all together first, when there are several; then those that reached the most users.
    :param messages_left_out: how many more there are.
    :param missing: what the share cannot tell, as sentences.
    :param limits: what it tells with limits, as sentences.
    :param notes: what else whoever reads the figures has to know.
    """

    question: ImpactQuestion
    cohort_id: str
    cohort_name: str
    run_id: str
    since: date
    until: date
    data_until: datetime | None
    measured_at: datetime
    days_measured: int
    messages: Sequence[MessageImpact]
    messages_left_out: int = 0
    missing: Sequence[str] = ()
    limits: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it: what page, mail, terminal and report are made of."""
        question = self.question
        return {
            "cohort_id": self.cohort_id,
            "cohort_name": self.cohort_name,
            "run_id": self.run_id,
            "measure": question.measure,
            "goal": question.goal,
            "messages_asked": question.messages,
            "window_seconds": question.window_seconds,
            "timezone": question.timezone,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "data_until": _iso(self.data_until),
            "measured_at": _iso(self.measured_at),
            "days_measured": self.days_measured,
            "messages": [one.as_dict() for one in self.messages],
            "messages_left_out": self.messages_left_out,
            "missing": list(self.missing),
            "limits": list(self.limits),
            "notes": list(self.notes),
        }


def in_short(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report, as ``as_dict`` writes it, without what only charts need."""
    messages = [
        {key: value for key, value in one.items() if key not in ("days", "variations")}
        for one in report["messages"]
    ]
    return {**report, "messages": messages}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _judgement(one: Judgement) -> dict[str, Any]:
    return {
        "control_kind": one.control_kind,
        "control_id": one.control_id,
        "control_name": one.control_name,
        "treated_users": one.treated_users,
        "control_users": one.control_users,
        "control_reached": one.control_reached,
        "sample_ratio": asdict(one.sample_ratio) if one.sample_ratio else None,
        "conversion": asdict(one.conversion),
        "revenue": asdict(one.revenue) if one.revenue else None,
        "reached": asdict(one.reached) if one.reached else None,
    }


def _before_after(one: BeforeAfter | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "label": one.label,
        "sentence": one.sentence,
        "before": _group(one.before),
        "after": _group(one.after),
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "users": group.users,
        "converters": group.converters,
        "revenue": group.revenue.total if group.revenue else None,
        "currency": group.revenue.currency if group.revenue else None,
    }
