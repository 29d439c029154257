"""What a share tells of somebody's life, beyond what messages did: how it began, what they do, and what they get."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.share_catalogue import table_in
from airflow_provider_kubit_braze.core.share_figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import date, datetime

#: Without one of these, nothing can be said of a table's rows.
_COLUMNS: Final = frozenset(("ID", "USER_ID", "APP_GROUP_ID", "TIME"))


@dataclass(frozen=True)
class Chapter:
    """What a row of a table tells of a user.

    :param what: in words.
    :param channel: of a message; empty otherwise.
    """

    what: str
    channel: str = ""

    @property
    def words(self) -> str:
        """The same with its channel."""
        return f"{self.what}, {self.channel}" if self.channel else self.what


_OF_USERS: Final = {
    "USERORPHAN": "profile merged",
    "BEHAVIORS_INSTALLATTRIBUTION": "install",
    "BEHAVIORS_APP_FIRSTSESSION": "first session",
    "BEHAVIORS_APP_SESSIONSTART": "session",
    "CAMPAIGNS_ENROLLINCONTROL": "kept out by Braze",
    "CANVAS_ENTRY": "entered Canvas",
}
_OF_CHANNELS: Final = {
    "email": {
        "EMAIL_SEND": "sent",
        "EMAIL_DELIVERY": "delivered",
        "EMAIL_SOFTBOUNCE": "bounced for now",
        "EMAIL_BOUNCE": "bounced",
        "EMAIL_OPEN": "opened",
        "EMAIL_CLICK": "clicked",
        "EMAIL_UNSUBSCRIBE": "opted out",
        "EMAIL_MARKASSPAM": "marked as spam",
    },
    "push": {
        "PUSHNOTIFICATION_SEND": "sent",
        "PUSHNOTIFICATION_BOUNCE": "bounced",
        "PUSHNOTIFICATION_INFLUENCEDOPEN": "opened the app after it",
        "PUSHNOTIFICATION_OPEN": "opened",
    },
    "SMS": {
        "SMS_SEND": "sent",
        "SMS_DELIVERY": "delivered",
        "SMS_DELIVERYFAILURE": "not delivered",
        "SMS_REJECTION": "rejected",
        "SMS_SHORTLINKCLICK": "clicked",
    },
    "RCS": {
        "RCS_SEND": "sent",
        "RCS_DELIVERY": "delivered",
        "RCS_REJECTION": "rejected",
        "RCS_READ": "read",
        "RCS_CLICK": "clicked",
    },
    "WhatsApp": {
        "WHATSAPP_SEND": "sent",
        "WHATSAPP_DELIVERY": "delivered",
        "WHATSAPP_FAILURE": "not delivered",
        "WHATSAPP_READ": "read",
        "WHATSAPP_CLICK": "clicked",
    },
    "LINE": {"LINE_SEND": "sent", "LINE_CLICK": "clicked"},
    "content card": {
        "CONTENTCARD_SEND": "sent",
        "CONTENTCARD_IMPRESSION": "seen",
        "CONTENTCARD_CLICK": "clicked",
        "CONTENTCARD_DISMISS": "dismissed",
    },
    "webhook": {"WEBHOOK_SEND": "sent", "WEBHOOK_FAILURE": "failed"},
    "in-app message": {"INAPPMESSAGE_IMPRESSION": "seen", "INAPPMESSAGE_CLICK": "clicked"},
    "banner": {"BANNER_IMPRESSION": "seen", "BANNER_CLICK": "clicked"},
    "feature flag": {"FEATUREFLAG_IMPRESSION": "seen"},
}
_AFTERWARDS: Final = {
    "BEHAVIORS_CUSTOMEVENT": "event",
    "BEHAVIORS_PURCHASE": "purchase",
    "CAMPAIGNS_CONVERSION": "conversion",
    "CANVAS_CONVERSION": "conversion",
    "CANVAS_EXPERIMENTSTEP_CONVERSION": "conversion",
    "CAMPAIGNS_REVENUE": "revenue credited",
    "CANVAS_REVENUE": "revenue credited",
    "BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE": "opted out",
    "BEHAVIORS_SUBSCRIPTIONGROUP_STATECHANGE": "opted out of a group",
}

#: Table -> what its rows tell, in the order in which things of one second happened.
LIFE: Final[Mapping[str, Chapter]] = MappingProxyType(
    {
        **{f"USERS_{table}_SHARED": Chapter(what) for table, what in _OF_USERS.items()},
        **{
            f"USERS_MESSAGES_{table}_SHARED": Chapter(what, channel)
            for channel, tables in _OF_CHANNELS.items()
            for table, what in tables.items()
        },
        **{f"USERS_{table}_SHARED": Chapter(what) for table, what in _AFTERWARDS.items()},
    }
)


def _tables_of(name: str, *scopes: str) -> tuple[str, ...]:
    figures = (one for one in FIGURES if one.name == name and (not scopes or one.scope in scopes))
    return tuple(dict.fromkeys(need.table for figure in figures for need in figure.needs))


#: What is counted of a cohort's day -> the tables with the users who did it.
DAY_FIGURES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "install": _tables_of("life of a user", "install"),
        "first_session": _tables_of("life of a user", "first session"),
        "session": _tables_of("life of a user", "sessions"),
        "event": _tables_of("life of a user", "custom events"),
        "purchase": _tables_of("revenue", "purchases"),
        "reached": _tables_of("reached"),
        "seen": _tables_of("seen"),
        "clicked": _tables_of("clicked"),
        "opted_out": _tables_of("opt-outs"),
    }
)

#: Channel -> the tables that show that it was used where the share lacks whom it reached.
_STAND_INS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {channel: _tables_of("delivered", channel) for channel in _OF_CHANNELS}
)

#: What the ledger says of a day.
STAY_FIGURES: Final = ("members", "held_out", "entered", "left")


def split_tables(there: Mapping[str, Collection[str]], tables: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return those of some tables that a share has, and a sentence about each that it lacks.

    :param there: the tables that it has, with their columns.
    """
    found: list[str] = []
    missing: list[str] = []
    for table in tables:
        name = table_in(there, table)
        words = LIFE[table].words
        if name is None:
            missing.append(f"{words}: the share lacks table {table}.")
        elif lacking := sorted(_COLUMNS - set(there[name])):
            missing.append(f"{words}: table {name} lacks column {', '.join(lacking)}.")
        else:
            found.append(table)
    return found, missing


def stand_ins(there: Collection[str]) -> list[str]:
    """Return the tables that are read only to see in which channels something was sent.

    :param there: the tables that the share has.
    """
    return [
        table
        for channel, tables in _STAND_INS.items()
        if not set(_tables_of("reached", channel)) <= set(there)
        for table in tables
    ]


def known_figures(there: Collection[str], channels: Collection[str]) -> set[str]:
    """Return those of ``DAY_FIGURES`` that can be told: with a table lacking, what is counted would be too small.

    :param there: the tables that the share has.
    :param channels: those in which anything was sent; nothing is missed in the others.
    """
    return {
        name
        for name, tables in DAY_FIGURES.items()
        if any(table in there for table in tables)
        and all(table in there for table in tables if LIFE[table].channel in ("", *channels))
    }


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Something in the life of a user.

    :param at: when.
    :param what: in words.
    :param channel: of a message; empty otherwise.
    :param kind: ``campaign`` or ``canvas``; empty when it is about no message.
    :param message_id: its API identifier.
    :param message: its name, as far as the share knows it.
    :param variation: the variation's identifier, or empty.
    :param detail: the event's name, or the source of an install.
    :param amount: of money, in units of ``currency``; None when it is about none.
    :param currency: the currency.
    """

    at: datetime
    what: str
    channel: str = ""
    kind: str = ""
    message_id: str = ""
    message: str = ""
    variation: str = ""
    detail: str = ""
    amount: float | None = None
    currency: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**self.__dict__, "at": self.at.isoformat()}


@dataclass(frozen=True, kw_only=True)
class UserTimeline:
    """The life of one user.

    :param moments: from the first to the last.
    :param left_out: how many more there are before them.
    :param profiles: Braze profiles that are this user, those merged into another among them; 0: none is known.
    :param missing: what the share cannot tell, as sentences.
    :param notes: what else whoever reads it has to know.
    """

    moments: Sequence[Moment]
    left_out: int
    profiles: int
    missing: Sequence[str]
    notes: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "profiles": self.profiles,
            "moments": [one.as_dict() for one in self.moments],
            "left_out": self.left_out,
            "missing": list(self.missing),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class CohortDay:
    """A day of a cohort.

    :param day: the day.
    :param figures: ``STAY_FIGURES`` and ``DAY_FIGURES`` -> how many users; None when the share cannot tell.
    """

    day: date
    figures: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True)
class CohortTimeline:
    """The days of a cohort.

    :param days: one after the other, also those on which nothing happened.
    :param missing: what the share cannot tell, as sentences.
    :param notes: what else whoever reads it has to know.
    """

    days: Sequence[CohortDay]
    missing: Sequence[str]
    notes: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "days": [{"day": one.day.isoformat(), "figures": dict(one.figures)} for one in self.days],
            "missing": list(self.missing),
            "notes": list(self.notes),
        }
