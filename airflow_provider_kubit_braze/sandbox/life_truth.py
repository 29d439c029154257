"""What is true of a campaign that was run, for whoever measures it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_provider_kubit_braze.sandbox.life_people import Behaviour, Outcome
    from airflow_provider_kubit_braze.sandbox.life_rows import Message


@dataclass(frozen=True, kw_only=True)
class GroupTruth:
    """What is true of a group, and what came of it.

    :param users: how many they are.
    :param conversion_rate: how likely one of them buys within the window.
    :param revenue_per_user: dollars that one of them spends within it, on average; purchases in euro are not in it.
    :param converters: who did buy.
    :param revenue: dollars they did spend.
    """

    users: int
    conversion_rate: float
    revenue_per_user: float
    converters: int
    revenue: float


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a measurement has to find.

    :param message: what was sent.
    :param at: when it was triggered; the window begins here, give or take the minutes in which it is sent.
    :param until: the moment of the last rows; all outcomes are known then.
    :param treated: all whom the message was meant for, Braze's own control group among them: intention to treat.
    :param held_out: those who were held out of the cohort.
    :param messaged: of the treated, those whom Braze did send it.
    :param braze_control: of the treated, those whom Braze kept out.
    :param unknown: how many held-out users Braze has no profile of; nothing is written of them.
    :param figures: the funnel of all channels together, in users: reached, delivered, seen, clicked, converted and
        opted_out, and the rows of ``sends``; for somebody who counts within the window and stays in the cohort.
    :param channels: the first five by channel, where the channel has them.
    :param attributed_revenue: dollars that Braze ascribes to the message.
    :param rows: how many rows were written.
    """

    message: Message
    at: datetime
    until: datetime
    treated: GroupTruth
    held_out: GroupTruth
    messaged: GroupTruth
    braze_control: GroupTruth
    unknown: int
    figures: Mapping[str, int]
    channels: Mapping[str, Mapping[str, int]]
    attributed_revenue: float
    rows: int

    @property
    def lift(self) -> float | None:
        """The true relative difference of the conversion rates; that of revenue is the same. None without a base."""
        base = self.held_out.conversion_rate
        return round(self.treated.conversion_rate / base - 1, 9) if base else None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            **asdict(self),
            "at": self.at.isoformat(),
            "until": self.until.isoformat(),
            "lift": self.lift,
        }


def truth_of(outcome: Outcome, behaviour: Behaviour) -> GroupTruth:
    """Return the truth about a group."""
    # Without what adding up many small numbers leaves behind.
    rate = round(outcome.rates / outcome.users, 9) if outcome.users else behaviour.base
    return GroupTruth(
        users=outcome.users,
        conversion_rate=rate,
        revenue_per_user=behaviour.revenue(rate),
        converters=outcome.converters,
        revenue=round(outcome.revenue, 2),
    )
