"""What people do of their own accord: they visit, look, buy, and are merged, moved and deleted.

Every purchase is a draw from the true rates, so whoever measures can be held against them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.sandbox.process import SandboxError

if TYPE_CHECKING:
    import random

    from airflow_provider_kubit_braze.sandbox.life_rows import Noise, Rows

#: The custom event that goes with each purchase.
ORDER_EVENT: Final = "order_placed"

_SECOND_CURRENCY: Final = "EUR"
#: What Braze takes for a unit of it in dollars.
_RATE: Final = 1.1
_NORMAL: Final = NormalDist()
#: Purchases of a buyer -> how often it is so many or fewer.
_PURCHASES: Final = {1: 0.75, 2: 0.95, 3: 1.0}
_PURCHASES_EACH: Final = 1.3


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How people buy, and what the message does to it.

    :param base: how likely somebody buys within the window, when nothing has been sent to them.
    :param lift: the true effect: whoever the message was meant for buys with ``base * (1 + lift)``, reached or not.
    :param window: from the moment of sending on.
    :param before: how long the life before the message is.
    :param after: how long it is after the window; at least a seventh of the window.
    :param mean_price: of a purchase, in dollars; the same with and without the message.
    :param price_spread: the standard deviation of the price's logarithm: 0.7 is a few large among many small ones.
    :param foreign: share of the purchases that are in euro.
    """

    base: float = 0.10
    lift: float = 0.0
    window: timedelta = timedelta(days=7)
    before: timedelta = timedelta(days=28)
    after: timedelta = timedelta(days=2)
    mean_price: float = 35.0
    price_spread: float = 0.7
    foreign: float = 0.03

    def __post_init__(self) -> None:
        for name in ("base", "foreign"):
            if not 0 <= getattr(self, name) <= 1:
                raise SandboxError(f"{name} is {getattr(self, name)}; it is a share between 0 and 1.")
        if not 0 <= self.treated_rate <= 1:
            raise SandboxError(
                f"base {self.base} with lift {self.lift} is {self.treated_rate:g}; a rate is between 0 and 1."
            )
        if self.window < timedelta(hours=1) or self.after < self.window / 7 or self.before < timedelta(0):
            raise SandboxError(
                "The window is an hour or more, the time after it a seventh of it or more, the time before it not"
                " negative."
            )
        if not (self.mean_price > 0 and self.price_spread >= 0):
            raise SandboxError("A mean price is above 0, and its spread is not negative.")

    @property
    def treated_rate(self) -> float:
        """How likely somebody buys for whom the message was meant."""
        return self.base * (1 + self.lift)

    def revenue(self, rate: float) -> float:
        """Return the expected dollars of a user who buys at a rate; purchases in euro are none of them."""
        return rate * _PURCHASES_EACH * (1 - self.foreign) * self.mean_price


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """The moments of a life, in epoch seconds.

    Around the two ends of the window nothing happens for ``margin`` seconds, so that it does not matter whether
    somebody counts from the request or from the first message sent.

    :param at: when the message was triggered.
    :param behaviour: says how long before and after.
    """

    at: int
    behaviour: Behaviour

    @property
    def window(self) -> int:
        """Length in seconds."""
        return int(self.behaviour.window.total_seconds())

    @property
    def margin(self) -> int:
        """Length in seconds."""
        return min(3600, self.window // 20)

    @property
    def start(self) -> int:
        """When the life begins."""
        return self.at - int(self.behaviour.before.total_seconds())

    @property
    def window_end(self) -> int:
        """When the window ends."""
        return self.at + self.window

    @property
    def end(self) -> int:
        """When the life ends."""
        return self.window_end + int(self.behaviour.after.total_seconds())


@dataclass(slots=True)
class Person:
    """Somebody in a share.

    :param number: counts from 0.
    :param user_id: Braze's id.
    :param external_id: None for somebody without one.
    :param rate: how likely they buy within the window.
    :param merged_at: when an anonymous profile became part of theirs; None when none did.
    :param orphans: the anonymous profiles.
    :param purchases: moment and cents, in dollars, of what they bought from the message on.
    """

    number: int
    user_id: str
    external_id: str | None
    rate: float
    merged_at: float | None = None
    orphans: tuple[str, ...] = ()
    purchases: list[tuple[float, int]] = field(default_factory=list)

    def owner(self, rows: Rows, moment: float, toss: float) -> str | None:
        """Return the profile that has a row of something done on a device; None for the person's own.

        :param toss: between 0 and 1: whether they were logged in, if they were not known yet.
        """
        if self.merged_at is not None and moment < self.merged_at and toss < 0.5:
            return self.orphans[int(toss * 2 * len(self.orphans))]
        return rows.own(self.user_id)


@dataclass
class Outcome:
    """What a group did within the window.

    :param users: how many they are.
    :param converters: who bought.
    :param revenue: dollars of what they bought in dollars.
    :param rates: the sum of their true rates.
    """

    users: int = 0
    converters: int = 0
    revenue: float = 0.0
    rates: float = 0.0


class Life:
    """Lets people live.

    :param rows: takes what they do.
    :param chance: decides.
    :param calendar: says when.
    :param noise: how untidy.
    """

    def __init__(self, rows: Rows, chance: random.Random, calendar: Calendar, noise: Noise) -> None:
        self._rows = rows
        self._roll = chance.random
        self._calendar = calendar
        self._noise = noise
        behaviour = calendar.behaviour
        self._spread = behaviour.price_spread
        self._scale = behaviour.mean_price * math.exp(-(self._spread**2) / 2)

    def live(self, person: Person, outcome: Outcome) -> None:
        """Write a person's life, and add what they bought within the window to the outcome."""
        calendar, behaviour = self._calendar, self._calendar.behaviour
        self._merge(person)
        self._visit(person)
        # The past, in windows that end where the next begins.
        end = calendar.at
        while end > calendar.start:
            begin = max(calendar.start, end - calendar.window)
            if self._roll() < behaviour.base * (end - begin) / calendar.window:
                self._buy(person, begin, end)
            end = begin
        outcome.users += 1
        outcome.rates += person.rate
        if self._roll() < person.rate:
            outcome.converters += 1
            outcome.revenue += self._buy(person, calendar.at, calendar.window_end)
        rest = calendar.end - calendar.window_end
        if self._roll() < behaviour.base * rest / calendar.window:
            self._buy(person, calendar.window_end, calendar.end)
        if self._roll() < self._noise.deleted:
            self._rows.add("USERDELETEREQUEST", person.number, calendar.end - 1)

    def live_elsewhere(self, person: Person) -> None:
        """Write what somebody of the same external id does in another app group: much."""
        calendar = self._calendar
        self._rows.add("BEHAVIORS_APP_SESSIONSTART", person.number, calendar.at + calendar.margin)
        self._buy(person, calendar.at, calendar.window_end)

    def _between(self, begin: float, end: float) -> float:
        """Return a moment between two, not too near to either."""
        margin = min(self._calendar.margin, (end - begin) / 3)
        return begin + margin + self._roll() * (end - begin - 2 * margin)

    def _buy(self, person: Person, begin: float, end: float) -> float:
        """Buy once or more often, and return the dollars of what was bought in dollars."""
        roll, dollars = self._roll, 0.0
        how_often = roll()
        for _ in range(next(many for many, share in _PURCHASES.items() if how_often <= share)):
            moment = self._between(begin, end)
            # 0 has no quantile.
            price = max(
                0.01, round(self._scale * math.exp(self._spread * _NORMAL.inv_cdf(1 - roll() or 0.5)), 2)
            )
            foreign = roll() < self._calendar.behaviour.foreign
            toss = roll()
            owner = person.owner(self._rows, moment, toss)
            currency = _SECOND_CURRENCY if foreign else "USD"
            self._rows.add(
                "BEHAVIORS_PURCHASE", person.number, moment, owner=owner, amount=price, word=currency
            )
            owner = person.owner(self._rows, moment, toss)
            self._rows.add("BEHAVIORS_CUSTOMEVENT", person.number, moment, owner=owner, word=ORDER_EVENT)
            if begin >= self._calendar.at:
                person.purchases.append((moment, round(100 * price * (_RATE if foreign else 1))))
            dollars += 0.0 if foreign else price
        return dollars

    def _visit(self, person: Person) -> None:
        """Open the app now and then, perhaps for the first time."""
        rows, roll, calendar = self._rows, self._roll, self._calendar
        number = person.number
        if roll() < 0.05 and calendar.start < calendar.at:
            first = self._between(calendar.start, calendar.at)
            rows.add("BEHAVIORS_APP_FIRSTSESSION", number, first, word=f"first-{number}")
            if roll() < 0.6:
                source = "Organic" if roll() < 0.4 else "Ad network"
                rows.add("BEHAVIORS_INSTALLATTRIBUTION", number, first - 30, word=source)
        for visit in range(min(4, int(-1.5 * math.log(1 - roll())))):
            moment = calendar.start + roll() * (calendar.end - calendar.start - 600)
            owner, session = person.owner(rows, moment, roll()), f"session-{number}-{visit}"
            length = 10 + 500 * roll()
            rows.add("BEHAVIORS_APP_SESSIONSTART", number, moment, owner=owner, word=session)
            if roll() < 0.5:
                viewed = "product_viewed" if roll() < 0.8 else "added_to_cart"
                rows.add("BEHAVIORS_CUSTOMEVENT", number, moment + length / 2, owner=owner, word=viewed)
            rows.add(
                "BEHAVIORS_APP_SESSIONEND", number, moment + length, owner=owner, amount=length, word=session
            )
        if roll() < 0.005:
            rows.add("BEHAVIORS_UNINSTALL", number, calendar.end - 10)
        if roll() < 0.003:
            # Somebody opts out without any message.
            moment = self._between(calendar.at, calendar.window_end)
            rows.add(
                "BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE",
                number,
                moment,
                word="unsubscribed",
                channel="email",
            )

    def _merge(self, person: Person) -> None:
        """Perhaps somebody was not known for a while, on one device or on two."""
        if self._roll() >= self._noise.merged:
            return
        calendar = self._calendar
        person.merged_at = self._between((calendar.start + calendar.at) / 2, calendar.window_end)
        person.orphans = tuple(f"{person.user_id}-anonymous-{n}" for n in range(1 + (self._roll() < 0.2)))
        # A chain: the first was merged into the second, and that into the person.
        for orphan, into in zip(person.orphans, (*person.orphans[1:], person.user_id), strict=True):
            self._rows.add("USERORPHAN", person.number, person.merged_at, owner=orphan, word=into)
