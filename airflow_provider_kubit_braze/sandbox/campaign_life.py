"""A campaign's whole life in the local share, with a true effect that is known: whatever measures can be held to it.

The local Braze takes the request that triggers a campaign or a Canvas, and remembers whom it meant. What Braze would
then write into its data share, this writes: sends and what comes of them in each channel, and what everybody does who
was sent it, who was held out, and a few others besides. All of it is drawn from a seed. The same seed, request and
users give the same rows.
"""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.sandbox.braze_share import (
    OTHER_APP_GROUP,
    SHARE,
    make_schema,
    make_share_tables,
)
from airflow_provider_kubit_braze.sandbox.connections import DATABASE
from airflow_provider_kubit_braze.sandbox.life_channels import CHANNELS
from airflow_provider_kubit_braze.sandbox.life_delivery import Delivery
from airflow_provider_kubit_braze.sandbox.life_people import (
    ORDER_EVENT,
    Behaviour,
    Calendar,
    Life,
    Outcome,
    Person,
)
from airflow_provider_kubit_braze.sandbox.life_rows import (
    Message,
    Noise,
    Rows,
    columns_of,
    load,
    load_names,
)
from airflow_provider_kubit_braze.sandbox.life_truth import GroupTruth, Truth, truth_of
from airflow_provider_kubit_braze.sandbox.process import SandboxError
from airflow_provider_kubit_braze.warehouse.state import DEFAULT_SCHEMA, Tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl

__all__ = [
    "CHANNELS",
    "ORDER_EVENT",
    "Behaviour",
    "GroupTruth",
    "Message",
    "Noise",
    "Truth",
    "held_out_of",
    "run_campaign",
    "write_life",
]

DEFAULT_CHANNELS: Final = ("email", "push", "SMS", "content card", "in-app message")

#: Where an import through the sandbox's connection keeps its state.
STATE: Final = f"{DATABASE}.{DEFAULT_SCHEMA}"

_DAY: Final = 86_400
_MOST_VARIATIONS: Final = 8
#: Of the users whom the message was not meant for, so many live in the share too.
_OTHERS: Final = 1_000


def held_out_of(connection: SnowflakeConnection, cohort_id: str, *, state: str = STATE) -> list[str]:
    """Return who is in a cohort and held out, as the ledger has it.

    :param state: schema of the state tables.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT USER_ID FROM {Tables(state).membership}"
            " WHERE COHORT_ID = %s AND HELD_OUT AND LEFT_AT IS NULL ORDER BY USER_ID",
            (cohort_id,),
        )
        return [str(user) for (user,) in cursor.fetchall()]


def run_campaign(
    braze: BrazeControl,
    connection: SnowflakeConnection,
    message_id: str,
    *,
    seed: int,
    app_group_id: str,
    held_out: Iterable[str] = (),
    identifier: str = "external_id",
    name: str | None = None,
    share: str = SHARE,
    at: datetime | None = None,
    others: int = _OTHERS,
    **how: Any,
) -> Truth:
    """Let the last triggered request for a campaign or Canvas run its course, and return the truth about it.

    :param braze: the local Braze that took the request.
    :param connection: to the local Snowflake; its current schema stays what it was.
    :param message_id: the campaign's or Canvas's API identifier.
    :param seed: decides about everything that is left to chance.
    :param app_group_id: of the local Braze's users.
    :param held_out: who was kept out of the cohort, and lives all the same; see ``held_out_of``.
    :param identifier: what these are: external_id, braze_id, email or phone.
    :param name: what the message is called in the share; default: its identifier.
    :param share: the schema; where it has no table, all are made.
    :param at: when it was sent; default: when it was triggered, or what it was scheduled for.
    :param others: how many users besides live in the share.
    :param how: what else ``write_life`` takes, such as ``behaviour``, ``channels`` and ``noise``.
    :raises SandboxError: when nobody triggered it, or it meant nobody, or it meant somebody who is held out.
    """
    triggered = [one for one in braze.triggered("braze_id") if one["message_id"] == message_id]
    if not triggered:
        settings = braze.settings()
        if message_id in (*settings["campaigns"], *settings["canvases"]):
            raise SandboxError(
                f"Nobody has triggered {message_id!r} in the local Braze yet; trigger it first."
            )
        known = ", ".join(sorted((*settings["campaigns"], *settings["canvases"])))
        raise SandboxError(f"The local Braze has no campaign or Canvas {message_id!r}; it has {known}.")
    request = triggered[-1]
    users = braze.users()
    by_identifier = {user[identifier]: user for user in users if identifier in user}
    wanted = list(dict.fromkeys(held_out))
    kept_out = [by_identifier[one] for one in wanted if one in by_identifier]
    meant, kept = set(request["selected"]), {user["braze_id"] for user in kept_out}
    rest = [user for user in users if user["braze_id"] not in meant | kept]
    return write_life(
        connection,
        Message(
            kind=request["kind"],
            api_id=message_id,
            name=name or message_id,
            dispatch_id=request["dispatch_id"],
            send_id=request["send_id"],
        ),
        [user for user in users if user["braze_id"] in meant],
        held_out=kept_out,
        others=rest[:others],
        seed=seed,
        app_group_id=app_group_id,
        share=share,
        at=at or _moment(request),
        unknown=len(wanted) - len(kept_out),
        **how,
    )


def write_life(
    connection: SnowflakeConnection,
    message: Message,
    meant: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    app_group_id: str,
    at: datetime,
    held_out: Sequence[Mapping[str, Any]] = (),
    others: Sequence[Mapping[str, Any]] = (),
    share: str = SHARE,
    behaviour: Behaviour | None = None,
    noise: Noise | None = None,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    variations: int = 2,
    braze_control: float = 0.0,
    unknown: int = 0,
    copies: int = 1,
    profiles: bool = True,
) -> Truth:
    """Write the life of a message and of the people around it, without a local Braze.

    :param meant: whom it is meant for: each with ``braze_id``, and perhaps ``external_id``, ``email`` and ``phone``.
    :param held_out: who is held out of the cohort, likewise.
    :param others: who else lives in the share, likewise.
    :param at: when it was triggered.
    :param behaviour: how people buy, and the true effect; default: one in ten buys, and there is no effect.
    :param noise: how untidy the rows are.
    :param channels: in which it is sent, of those in ``CHANNELS``.
    :param variations: how many it has.
    :param braze_control: share of those meant whom Braze keeps out as its own control group.
    :param unknown: is handed on.
    :param copies: more than 1 for millions of rows: everybody has so many lives under ids that end in ``~1``, ``~2``
        and so on. The truth is that of one life.
    :param profiles: whether the share also has the profile view, with everybody in it. Without it nobody can tell whose
        the rows are of somebody who is never named by an external id.
    :raises SandboxError: for an unknown channel, or when it is meant for nobody or for somebody held out.
    """
    if strange := [channel for channel in channels if channel not in CHANNELS]:
        raise SandboxError(f"There is no channel {strange[0]!r}; there are {', '.join(CHANNELS)}.")
    if not channels or not 1 <= variations <= _MOST_VARIATIONS or not 0 <= braze_control < 1 or copies < 1:
        raise SandboxError(
            f"A message has a channel, one to {_MOST_VARIATIONS} variations, a control group below 1, and a copy."
        )
    if not meant:
        raise SandboxError(f"{message.api_id} was meant for nobody: there is nothing to run.")
    groups = [_sorted(group) for group in (meant, held_out, others)]
    if both := len({user["braze_id"] for user in groups[0]} & {user["braze_id"] for user in groups[1]}):
        raise SandboxError(f"{message.api_id} was meant for {both:,} users who are said to be held out.")
    with connection.cursor() as cursor:
        make_schema(cursor, share)
    if not columns_of(connection, share):
        make_share_tables(connection, share)
    with tempfile.TemporaryDirectory(prefix="kubit-braze-life-") as folder:
        calendar = Calendar(at=int(at.timestamp()), behaviour=behaviour or Behaviour())
        with (Path(folder) / "events.csv").open("w", newline="", encoding="utf-8") as out:
            # Another message of the same seed has a life of its own.
            chance = random.Random(f"{seed}/{message.api_id}/{message.dispatch_id}")
            noise = noise or Noise()
            rows = Rows(out, chance, noise)
            world = _World(
                Life(rows, chance, calendar, noise),
                Delivery(rows, chance, calendar, message, tuple(channels), variations),
                chance,
                app_group_id=app_group_id,
                elsewhere=noise.elsewhere,
            )
            world.treat(groups[0], calendar.behaviour, braze_control)
            world.live(groups[1], "held_out", calendar.behaviour.base)
            world.live(groups[2], "others", calendar.behaviour.base)
            # Whoever asks until when there are data hears of the end.
            rows.add("BEHAVIORS_APP_SESSIONSTART", 0, calendar.end)
        written = load(
            connection,
            share,
            message=message,
            people=world.people,
            tables=rows.tables,
            folder=Path(folder),
            copies=copies,
            profiles_at=calendar.end if profiles else None,
        )
    _name(connection, share, message, app_group_id, calendar.start, variations)
    truth = {name: truth_of(outcome, calendar.behaviour) for name, outcome in world.outcomes.items()}
    funnel = world.delivery.funnel
    return Truth(
        message=message,
        at=datetime.fromtimestamp(calendar.at, UTC),
        until=datetime.fromtimestamp(calendar.end, UTC),
        treated=truth["treated"],
        held_out=truth["held_out"],
        messaged=truth["messaged"],
        braze_control=truth["braze_control"],
        unknown=unknown,
        figures=funnel.figures(),
        channels={channel: funnel.figures(channel) for channel in channels},
        attributed_revenue=funnel.revenue_cents / 100,
        rows=written,
    )


class _World:
    """The people of one share, and what they do one after the other."""

    def __init__(
        self, life: Life, delivery: Delivery, chance: random.Random, *, app_group_id: str, elsewhere: float
    ) -> None:
        self.delivery = delivery
        self.people: list[tuple[Any, ...]] = []
        self.outcomes = {
            name: Outcome() for name in ("treated", "held_out", "messaged", "braze_control", "others")
        }
        self._life = life
        self._chance = chance
        self._group = app_group_id
        self._elsewhere = elsewhere
        self._numbers = count()

    def treat(self, users: Iterable[Mapping[str, Any]], behaviour: Behaviour, braze_control: float) -> None:
        """Let users live with the message; Braze keeps some of them out of it."""
        for user in users:
            kept_out = self._chance.random() < braze_control
            person = self._person(user, behaviour.base if kept_out else behaviour.treated_rate)
            self._life.live(person, self.outcomes["braze_control" if kept_out else "messaged"])
            if kept_out:
                self.delivery.keep_out(person)
            else:
                self.delivery.bring(person)
        for name in ("messaged", "braze_control"):
            part, whole = self.outcomes[name], self.outcomes["treated"]
            for figure in vars(part):
                setattr(whole, figure, getattr(whole, figure) + getattr(part, figure))

    def live(self, users: Iterable[Mapping[str, Any]], group: str, rate: float) -> None:
        """Let users live without it."""
        for user in users:
            self._life.live(self._person(user, rate), self.outcomes[group])

    def _person(self, user: Mapping[str, Any], rate: float) -> Person:
        name = user.get("external_id")
        person = Person(next(self._numbers), user["braze_id"], name, rate)
        known = (name, self._group, user.get("email") or f"person-{person.number}@example.com")
        self.people.append((person.number, person.user_id, *known, user.get("phone")))
        if name is not None and self._chance.random() < self._elsewhere:
            twin = Person(next(self._numbers), f"{person.user_id}-elsewhere", name, rate)
            self.people.append((twin.number, twin.user_id, name, OTHER_APP_GROUP, *self.people[-1][4:]))
            self._life.live_elsewhere(twin)
        return person


def _sorted(users: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return users in an order that does not depend on when Braze first heard of them."""
    return sorted(users, key=lambda user: (user.get("external_id") or "", user["braze_id"]))


def _moment(request: Mapping[str, Any]) -> datetime:
    schedule = request["schedule"]
    if schedule:
        moment = datetime.fromisoformat(schedule["time"])
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(request["at"], UTC)


def _name(
    connection: SnowflakeConnection,
    share: str,
    message: Message,
    app_group_id: str,
    start: int,
    variations: int,
) -> None:
    """Write what the message and its variations are called, and were called before."""
    changes = "CHANGELOGS_CAMPAIGN_SHARED"
    snapshots = "SNAPSHOTS_CAMPAIGN_MESSAGE_VARIATION_SHARED"
    if message.kind == "canvas":
        changes, snapshots = "CHANGELOGS_CANVAS_SHARED", "SNAPSHOTS_CANVAS_VARIATION_SHARED"

    def row(api_id: str, name: str, time: int) -> dict[str, Any]:
        known = {"APP_GROUP_ID": app_group_id, "API_ID": api_id, "NAME": name}
        return {"ID": f"{api_id}-{message.dispatch_id}-{time}", "TIME": time, **known}

    draft, final = start - 10 * _DAY, start - 5 * _DAY
    names = [row(message.api_id, f"{message.name} (draft)", draft), row(message.api_id, message.name, final)]
    load_names(connection, share, changes, names)
    letters = []
    for number in range(variations):
        api_id = message.variation(number)
        letters += [row(api_id, f"Variant {number + 1}", draft), row(api_id, "ABCDEFGH"[number], final)]
    load_names(connection, share, snapshots, letters)
