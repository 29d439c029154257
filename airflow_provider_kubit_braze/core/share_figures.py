"""Which figures a share of Braze's data can yield: each needs some tables, and of them some columns.

Braze documents the tables' columns (``share_catalogue``); what a figure is taken from is this package's choice by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.share_catalogue import table_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: Of every event: the key to tell duplicates by, who, whose workspace, and when.
_EVENT: Final = ("ID", "USER_ID", "APP_GROUP_ID", "TIME")

#: Column -> what cannot be said without it.
NOT_OF_CANVASES: Final = "not of Canvases"
_PERSON: Final = {"EXTERNAL_USER_ID": "only of users that the ledger knows by braze_id"}
_OF_MESSAGE: Final = {
    **_PERSON,
    "CANVAS_API_ID": NOT_OF_CANVASES,
    "MESSAGE_VARIATION_API_ID": "not by variation",
}
_OF_CANVAS: Final = {**_PERSON, "CANVAS_VARIATION_API_ID": "not by variation"}
_ENTRIES: Final = "USERS_CANVAS_ENTRY_SHARED"
_MACHINES: Final = {"MACHINE_OPEN": "with opens by machines among them"}
_BOTS: Final = {"IS_SUSPECTED_BOT_CLICK": "with clicks by bots among them"}


@dataclass(frozen=True)
class Need:
    """A table that a figure is taken from.

    :param table: its name in the catalogue.
    :param columns: those it cannot do without.
    :param finer: column -> what cannot be said without it.
    """

    table: str
    columns: tuple[str, ...]
    finer: Mapping[str, str]


@dataclass(frozen=True)
class Figure:
    """One figure of one channel, or of what else it is told by.

    :param name: such as ``clicked``.
    :param scope: such as ``email``.
    :param needs: all the tables it takes.
    """

    name: str
    scope: str
    needs: tuple[Need, ...]

    @property
    def words(self) -> str:
        """The figure in words for people."""
        return f"{self.name}, {self.scope}"


@dataclass(frozen=True)
class Verdict:
    """Whether a share can yield a figure.

    :param figure: the figure.
    :param missing: the tables and columns for whose sake it cannot; none when it can.
    :param limits: what it cannot tell apart although it can be told.
    """

    figure: Figure
    missing: tuple[str, ...]
    limits: tuple[str, ...]

    @property
    def possible(self) -> bool:
        """Whether it can be told."""
        return not self.missing

    @property
    def sentence(self) -> str:
        """Why it cannot be told, or with which limits."""
        if self.missing:
            return f"{self.figure.words}: not possible, as the share lacks {' and '.join(self.missing)}."
        return f"{self.figure.words}: {', and '.join(self.limits)}."


def _message(area: str, *columns: str, finer: Mapping[str, str] | None = None) -> Need:
    return Need(
        f"USERS_MESSAGES_{area}_SHARED",
        (*_EVENT, "CAMPAIGN_API_ID", *columns),
        {**_OF_MESSAGE, **(finer or {})},
    )


def _other(table: str, *columns: str, finer: Mapping[str, str] = _PERSON) -> Need:
    return Need(f"{table}_SHARED", (*_EVENT, *columns), finer)


def _campaign(table: str, *columns: str) -> Need:
    finer = {**_PERSON, "MESSAGE_VARIATION_API_ID": "not by variation"}
    return _other(f"USERS_CAMPAIGNS_{table}", "CAMPAIGN_API_ID", *columns, finer=finer)


def _canvas(table: str, *columns: str) -> Need:
    return _other(f"USERS_CANVAS_{table}", "CANVAS_API_ID", *columns, finer=_OF_CANVAS)


def _nobody(table: str, *columns: str) -> Need:
    """Return a table that is about no user."""
    return Need(f"{table}_SHARED", columns, {})


_BY_CHANNEL: Final[Mapping[str, Mapping[str, tuple[Need, ...]]]] = {
    # Of what is shown inside an app there are no sends: whom it reached is who has seen it.
    "reached": {
        "email": (_message("EMAIL_SEND"),),
        "push": (_message("PUSHNOTIFICATION_SEND"),),
        "SMS": (_message("SMS_SEND"),),
        "RCS": (_message("RCS_SEND"),),
        "WhatsApp": (_message("WHATSAPP_SEND"),),
        "LINE": (_message("LINE_SEND"),),
        "content card": (_message("CONTENTCARD_SEND"),),
        "webhook": (_message("WEBHOOK_SEND"),),
        "in-app message": (_message("INAPPMESSAGE_IMPRESSION"),),
        "banner": (_message("BANNER_IMPRESSION"),),
        "feature flag": (_message("FEATUREFLAG_IMPRESSION"),),
    },
    # Braze records no delivery of a push: it is a send without a bounce.
    "delivered": {
        "email": (_message("EMAIL_DELIVERY"),),
        "push": (_message("PUSHNOTIFICATION_SEND"), _message("PUSHNOTIFICATION_BOUNCE")),
        "SMS": (_message("SMS_DELIVERY"),),
        "RCS": (_message("RCS_DELIVERY"),),
        "WhatsApp": (_message("WHATSAPP_DELIVERY"),),
    },
    "seen": {
        "email": (_message("EMAIL_OPEN", finer=_MACHINES),),
        "push": (_message("PUSHNOTIFICATION_OPEN"), _message("PUSHNOTIFICATION_INFLUENCEDOPEN")),
        "RCS": (_message("RCS_READ"),),
        "WhatsApp": (_message("WHATSAPP_READ"),),
        "content card": (_message("CONTENTCARD_IMPRESSION"),),
        "in-app message": (_message("INAPPMESSAGE_IMPRESSION"),),
        "banner": (_message("BANNER_IMPRESSION"),),
        "feature flag": (_message("FEATUREFLAG_IMPRESSION"),),
    },
    # A direct open of a push is a click on it.
    "clicked": {
        "email": (_message("EMAIL_CLICK", finer=_BOTS),),
        "push": (_message("PUSHNOTIFICATION_OPEN"),),
        "SMS": (_message("SMS_SHORTLINKCLICK", finer=_BOTS),),
        "RCS": (_message("RCS_CLICK", finer=_BOTS),),
        "WhatsApp": (_message("WHATSAPP_CLICK"),),
        "LINE": (_message("LINE_CLICK", finer=_BOTS),),
        "content card": (_message("CONTENTCARD_CLICK"),),
        "in-app message": (_message("INAPPMESSAGE_CLICK"),),
        "banner": (_message("BANNER_CLICK"),),
    },
    "converted": {
        "campaigns": (_campaign("CONVERSION", "CONVERSION_BEHAVIOR_INDEX"),),
        "Canvases": (_canvas("CONVERSION", "CONVERSION_BEHAVIOR_INDEX"),),
        "experiment steps": (_canvas("EXPERIMENTSTEP_CONVERSION", "CONVERSION_BEHAVIOR_INDEX"),),
    },
    "revenue": {
        "campaigns": (_campaign("REVENUE", "REVENUE"),),
        "Canvases": (_canvas("REVENUE", "REVENUE"),),
        "purchases": (_other("USERS_BEHAVIORS_PURCHASE", "PRICE", "CURRENCY"),),
    },
    "opt-outs": {
        "email": (_message("EMAIL_UNSUBSCRIBE"), _message("EMAIL_MARKASSPAM")),
        "subscription states": (
            _other("USERS_BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE", "SUBSCRIPTION_STATUS", "CHANNEL"),
        ),
        "subscription groups": (
            _other(
                "USERS_BEHAVIORS_SUBSCRIPTIONGROUP_STATECHANGE",
                "SUBSCRIPTION_STATUS",
                "SUBSCRIPTION_GROUP_API_ID",
            ),
        ),
    },
    "control group": {
        "campaigns": (_campaign("ENROLLINCONTROL"),),
        "Canvases": (_canvas("ENTRY", "IN_CONTROL_GROUP"),),
        "experiment steps": (
            _other(
                "USERS_CANVAS_EXPERIMENTSTEP_SPLITENTRY",
                "CANVAS_API_ID",
                "EXPERIMENT_STEP_API_ID",
                "IN_CONTROL_GROUP",
            ),
        ),
        "all messages": (
            _nobody(
                "CHANGELOGS_GLOBALCONTROLGROUP",
                "ID",
                "APP_GROUP_ID",
                "TIME",
                "RANDOM_BUCKET_NUMBER",
                "GLOBAL_CONTROL_GROUP",
            ),
        ),
    },
    "life of a user": {
        "first session": (_other("USERS_BEHAVIORS_APP_FIRSTSESSION"),),
        "install": (_other("USERS_BEHAVIORS_INSTALLATTRIBUTION", "SOURCE"),),
        "sessions": (_other("USERS_BEHAVIORS_APP_SESSIONSTART"),),
        "custom events": (_other("USERS_BEHAVIORS_CUSTOMEVENT", "NAME"),),
    },
    "identity": {
        "merged users": (_other("USERS_USERORPHAN", "ORPHANED_BY_ID"),),
    },
    "names": {
        "campaigns": (_nobody("CHANGELOGS_CAMPAIGN", "API_ID", "NAME", "TIME"),),
        "Canvases": (_nobody("CHANGELOGS_CANVAS", "API_ID", "NAME", "TIME"),),
    },
}

FIGURES: Final = tuple(
    Figure(name, scope, needs) for name, scopes in _BY_CHANNEL.items() for scope, needs in scopes.items()
)


def judge(there: Mapping[str, Collection[str]], figures: Iterable[Figure] = FIGURES) -> list[Verdict]:
    """Return what each figure says of a share.

    :param there: the tables that it has, with their columns.
    :param figures: those to judge.
    """
    return [_verdict(figure, there) for figure in figures]


def canvases_by_variation(there: Mapping[str, Collection[str]], table: str) -> str | None:
    """Return the table that tells which Canvas a variation is of, for rows that name the variation alone.

    Those of RCS messages do so; Braze calls each variation something else, and everybody who gets into a Canvas has a
    row that names both.

    :param there: the tables that the share has, with their columns.
    :param table: a table of the catalogue that the share has.
    :return: its name in the share; None when the rows name the Canvas themselves, and when nothing tells it.
    """
    columns = there[table_in(there, table) or table]
    entries = table_in(there, _ENTRIES)
    names = {"CANVAS_API_ID", "CANVAS_VARIATION_API_ID"}
    if entries is None or names.intersection(columns) != {"CANVAS_VARIATION_API_ID"}:
        return None
    return entries if names | {"APP_GROUP_ID", "TIME"} <= set(there[entries]) else None


def _verdict(figure: Figure, there: Mapping[str, Collection[str]]) -> Verdict:
    missing: list[str] = []
    limits: list[str] = []
    for need in figure.needs:
        table = table_in(there, need.table)
        if table is None:
            missing.append(f"table {need.table}")
            continue
        missing += [f"column {column} of {table}" for column in need.columns if column not in there[table]]
        limits += [
            said
            for column, said in need.finer.items()
            if column not in there[table]
            and not (said == NOT_OF_CANVASES and canvases_by_variation(there, need.table))
        ]
    return Verdict(figure, tuple(missing), tuple(dict.fromkeys(limits)))
