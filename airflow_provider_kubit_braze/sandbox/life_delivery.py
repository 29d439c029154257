"""A message on its way: what each channel makes of it, person by person."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.share_figures import FIGURES
from airflow_provider_kubit_braze.sandbox.life_channels import CHANNELS, WHY

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from airflow_provider_kubit_braze.sandbox.life_channels import Channel
    from airflow_provider_kubit_braze.sandbox.life_people import Calendar, Person
    from airflow_provider_kubit_braze.sandbox.life_rows import Message, Rows

_HOUR: Final = 3600

BY_CHANNEL: Final = ("reached", "delivered", "seen", "clicked")


class Funnel:
    """Whom a message reached, and what came of it: everything that is to be counted, as it was written.

    What happened later than the window after the message is not in it, nor what machines did.
    """

    def __init__(self) -> None:
        self.sends: dict[str, int] = defaultdict(int)
        self.revenue_cents = 0
        self._who: dict[tuple[str, str], set[int]] = defaultdict(set)

    def add(self, channel: str, figure: str, person: int) -> None:
        """Count a person for a figure of a channel."""
        self._who[channel, figure].add(person)
        self._who["", figure].add(person)

    def figures(self, channel: str = "") -> dict[str, int]:
        """Return the figures of a channel, those that it can have, or of all: users, and ``sends``, which are rows."""
        if channel:
            names = [one.name for one in FIGURES if one.scope == channel and one.name in BY_CHANNEL]
        else:
            names = [*BY_CHANNEL, "converted", "opted_out"]
        sends = self.sends[channel] if channel else sum(self.sends.values())
        return {"sends": sends, **{name: len(self._who[channel, name]) for name in names}}


class Delivery:
    """Brings a message to people.

    :param rows: takes what happens.
    :param chance: decides.
    :param calendar: says when.
    :param message: what is sent.
    :param channels: in which.
    :param variations: how many there are of it.
    """

    def __init__(
        self,
        rows: Rows,
        chance: random.Random,
        calendar: Calendar,
        message: Message,
        channels: tuple[str, ...],
        variations: int,
    ) -> None:
        self._rows = rows
        self._roll = chance.random
        self._calendar = calendar
        self._message = message
        self._channels = channels
        self._variations = variations
        self._table = "CAMPAIGNS" if message.kind == "campaign" else "CANVAS"
        self._first = True
        self.funnel = Funnel()

    def keep_out(self, person: Person) -> None:
        """Put a person into Braze's own control group."""
        about = self._about()
        if self._message.kind == "campaign":
            self._rows.add("CAMPAIGNS_ENROLLINCONTROL", person.number, self._calendar.at, **about)
        else:
            self._rows.add("CANVAS_ENTRY", person.number, self._calendar.at, flag=True, **about)

    def bring(self, person: Person) -> None:
        """Send the message to a person, and let them make of it what they will."""
        # The first one gets it in every channel and at once: the run begins when it was triggered.
        first, self._first = self._first, False
        about, number, at = self._about(), person.number, self._calendar.at
        if self._message.kind == "canvas":
            self._rows.add("CANVAS_ENTRY", number, at, flag=False, **about)
            self._rows.add("CANVASSTEP_PROGRESSION", number, at, flag=True, word="advance", **about)
            self._rows.add("CANVAS_EXPERIMENTSTEP_SPLITENTRY", number, at, flag=False, **about)
        if not first and self._roll() < 0.01:
            self._rows.add(f"{self._table}_FREQUENCYCAP", number, at, channel=self._channels[0], **about)
            return
        reached = [
            moment
            for step, name in enumerate(self._channels)
            if (moment := self._through(name, person, {**about, "step": step}, first=first)) is not None
        ]
        if reached:
            self._attribute(person, min(reached), about)

    def _about(self) -> dict[str, Any]:
        return {"variation": int(self._roll() * self._variations), "step": 0}

    def _through(self, name: str, person: Person, about: Mapping[str, Any], *, first: bool) -> float | None:
        """Take one channel; return when it reached the person, or None."""
        channel, number, roll = CHANNELS[name], person.number, self._roll
        table = f"MESSAGES_{channel.area}_"
        if roll() >= channel.has and not first:
            return None
        if roll() < channel.aborted and not first:
            self._row(table + "ABORT", person, self._calendar.at, about)
            return None
        moment = self._calendar.at + (0 if first else self._calendar.margin * roll() / 2)
        if channel.shown:
            moment = moment if first else self._calendar.at + self._delay(20, late=0)
            self._row(table + channel.reach, person, moment, about, on_device=True)
            self._count(name, "reached", number, sends=1)
            self._count(name, "seen", number)
            if roll() < channel.clicks:
                self._row(
                    table + str(channel.clicked), person, moment + 1 + 20 * roll(), about, on_device=True
                )
                self._count(name, "clicked", number)
            return moment
        arrived = False
        for device in range(2 if name == "push" and roll() < 0.2 else 1):
            where = {**about, "device": device}
            self._row(table + channel.reach, person, moment + device, where)
            self._count(name, "reached", number, sends=1)
            failure = self._pick(channel.fails)
            if failure:
                self._row(table + failure, person, moment + device + 5, where)
            arrived = arrived or not failure
        if arrived:
            self._arrive(name, channel, person, moment, about)
        return moment

    def _arrive(
        self, name: str, channel: Channel, person: Person, moment: float, about: Mapping[str, Any]
    ) -> None:
        number, roll, table = person.number, self._roll, f"MESSAGES_{channel.area}_"
        if channel.delivery:
            self._row(table + channel.delivery, person, moment + 2 + 30 * roll(), about)
        if channel.delivery or name == "push":
            self._count(name, "delivered", number)
        for other, share in channel.besides.items():
            if roll() < share:
                self._row(table + other, person, moment + 40, about)
        if roll() < channel.machines:
            self._row(table + "OPEN", person, moment + 45, about, word="true")
        if roll() < channel.bots:
            self._row(table + str(channel.clicked), person, moment + 46, about, flag=True)
        if how := self._pick(channel.leaves):
            self._leave(name, channel, how, person, moment + self._delay(6, late=0), about)
        delay = self._delay(8)
        counts = delay < self._calendar.window
        what = self._pick(channel.seen)
        if what:
            word = "false" if name == "email" and roll() < 0.7 else None
            self._row(table + what, person, moment + delay, about, word=word)
            if roll() < 0.2:
                self._row(table + what, person, moment + delay + 30, about, word=word)
            if counts:
                self._count(name, "seen", number)
        if (
            not channel.clicked
            or not (what or channel.click_shows or not channel.seen)
            or roll() >= channel.clicks
        ):
            return
        # Whether it was a person is not always known.
        flag = False if channel.bots and roll() < 0.8 else None
        self._row(table + channel.clicked, person, moment + delay + 60, about, flag=flag)
        if counts:
            self._count(name, "clicked", number)
            if channel.click_shows:
                self._count(name, "seen", number)

    def _leave(
        self,
        name: str,
        channel: Channel,
        what: str,
        person: Person,
        moment: float,
        about: Mapping[str, Any],
    ) -> None:
        self._row(f"MESSAGES_{channel.area}_{what}", person, moment, about, word="Unsubscribed")
        change = "SUBSCRIPTIONGROUP" if channel.group else "SUBSCRIPTION_GLOBAL"
        self._row(
            f"BEHAVIORS_{change}{'_' if channel.group else ''}STATECHANGE",
            person,
            moment + 1,
            about,
            word="unsubscribed" if self._roll() < 0.9 else "Unsubscribed",
            channel=name.lower(),
        )
        self._count(name, "opted_out", person.number)

    def _attribute(self, person: Person, reached: float, about: Mapping[str, Any]) -> None:
        """Let Braze ascribe purchases to the message, as it does within three days."""
        deadline = reached + min(self._calendar.window - self._calendar.margin, 72 * _HOUR)
        bought = sorted((moment, cents) for moment, cents in person.purchases if reached < moment < deadline)
        for number, (moment, cents) in enumerate(bought):
            if not number:
                self._row(f"{self._table}_CONVERSION", person, moment, about, amount=0)
                if self._message.kind == "canvas":
                    self._row("CANVAS_EXPERIMENTSTEP_CONVERSION", person, moment, about, amount=0)
                self._count("", "converted", person.number)
            self._row(f"{self._table}_REVENUE", person, moment, about, amount=cents)
            self.funnel.revenue_cents += cents
        if self._roll() < 0.15:
            moment = reached + 60 + self._roll() * (deadline - reached - 60)
            self._row(f"{self._table}_CONVERSION", person, moment, about, amount=1)

    def _delay(self, hours: float, *, late: float = 0.01) -> float:
        """Return seconds until somebody acts, mostly within hours; a few do when the window is over."""
        calendar, roll = self._calendar, self._roll
        if roll() < late:
            return calendar.window + calendar.margin + roll() * (calendar.end - calendar.window_end) / 2
        usual = min(hours * _HOUR, calendar.window / 8)
        return 50 + min(-usual * math.log(1 - roll()), calendar.window - 2 * calendar.margin)

    def _row(
        self,
        what: str,
        person: Person,
        moment: float,
        about: Mapping[str, Any],
        *,
        on_device: bool = False,
        **more: Any,
    ) -> None:
        word = more.pop("word", None) or WHY.get(what.rpartition("_")[2])
        profile = self._rows.own(person.user_id)
        if on_device:
            profile = person.owner(self._rows, moment, self._roll())
        self._rows.add(what, person.number, moment, owner=profile, word=word, **about, **more)

    def _pick(self, shares: Mapping[str, float]) -> str | None:
        roll = self._roll()
        for what, share in shares.items():
            if roll < share:
                return what
            roll -= share
        return None

    def _count(self, channel: str, figure: str, person: int, *, sends: int = 0) -> None:
        self.funnel.add(channel, figure, person)
        if sends:
            self.funnel.sends[channel] += sends
