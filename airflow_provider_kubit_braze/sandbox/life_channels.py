"""What a message does in each channel: it is sent, bounces, arrives, is opened by people and machines, clicked, and
unsubscribed from.

The shares are made up, and of a size that real campaigns have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel, in shares; the names of rows are those of tables, without ``USERS_MESSAGES_`` and the channel.

    :param area: the part of the tables' names that is the channel's.
    :param has: of the people, who can be reached by it at all.
    :param reach: the rows that say so.
    :param shown: whether people see it when they open the app, rather than when it is sent.
    :param aborted: of the messages, which are never sent.
    :param fails: of the sends, what hinders their delivery.
    :param delivery: the rows of a delivery; None where Braze has none.
    :param besides: rows that say nothing about the funnel, and the share of the deliveries that have them.
    :param seen: rows that say that a person has seen it, and of how many deliveries; the rest have none of them.
    :param clicked: rows of a click.
    :param clicks: of those who have seen it (where nobody can: of the deliveries), who click.
    :param click_shows: whether a click is a view too, and none comes before it.
    :param machines: of the deliveries, which a machine opens.
    :param bots: of the deliveries, whose links a scanner follows.
    :param leaves: of the deliveries, who unsubscribes, by rows of which table; they answer or click for it.
    :param group: whether it is a subscription group that they leave.
    """

    area: str
    has: float
    reach: str = "SEND"
    shown: bool = False
    aborted: float = 0.005
    fails: Mapping[str, float] = field(default_factory=dict)
    delivery: str | None = None
    besides: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, float] = field(default_factory=dict)
    clicked: str | None = None
    clicks: float = 0.0
    click_shows: bool = False
    machines: float = 0.0
    bots: float = 0.0
    leaves: Mapping[str, float] = field(default_factory=dict)
    group: bool = False


#: As ``core.share_figures`` names them.
CHANNELS: Final[Mapping[str, Channel]] = {
    "email": Channel(
        area="EMAIL",
        has=0.9,
        fails={"BOUNCE": 0.015, "SOFTBOUNCE": 0.01},
        delivery="DELIVERY",
        besides={"DEFERRAL": 0.02},
        seen={"OPEN": 0.3},
        clicked="CLICK",
        clicks=0.15,
        machines=0.25,
        bots=0.03,
        leaves={"UNSUBSCRIBE": 0.004, "MARKASSPAM": 0.001},
    ),
    "push": Channel(
        area="PUSHNOTIFICATION",
        has=0.55,
        fails={"BOUNCE": 0.03},
        besides={"IOSFOREGROUND": 0.02},
        seen={"INFLUENCEDOPEN": 0.06},
        clicked="OPEN",
        clicks=0.04,
        click_shows=True,
    ),
    "SMS": Channel(
        area="SMS",
        has=0.4,
        fails={"REJECTION": 0.01, "DELIVERYFAILURE": 0.03},
        delivery="DELIVERY",
        besides={"CARRIERSEND": 1.0},
        clicked="SHORTLINKCLICK",
        clicks=0.06,
        bots=0.02,
        leaves={"INBOUNDRECEIVE": 0.01},
        group=True,
    ),
    "RCS": Channel(
        area="RCS",
        has=0.3,
        fails={"REJECTION": 0.03},
        delivery="DELIVERY",
        seen={"READ": 0.6},
        clicked="CLICK",
        clicks=0.12,
        bots=0.01,
        leaves={"INBOUNDRECEIVE": 0.008},
        group=True,
    ),
    "WhatsApp": Channel(
        area="WHATSAPP",
        has=0.35,
        fails={"FAILURE": 0.03},
        delivery="DELIVERY",
        seen={"READ": 0.7},
        clicked="CLICK",
        clicks=0.12,
        leaves={"INBOUNDRECEIVE": 0.008},
        group=True,
    ),
    "LINE": Channel(
        area="LINE",
        has=0.2,
        clicked="CLICK",
        clicks=0.05,
        bots=0.01,
        leaves={"INBOUNDRECEIVE": 0.008},
        group=True,
    ),
    "content card": Channel(
        area="CONTENTCARD",
        has=0.7,
        besides={"DISMISS": 0.05},
        seen={"IMPRESSION": 0.35},
        clicked="CLICK",
        clicks=0.1,
    ),
    "webhook": Channel(area="WEBHOOK", has=1.0, besides={"FAILURE": 0.02}),
    "in-app message": Channel(
        area="INAPPMESSAGE", has=0.4, reach="IMPRESSION", shown=True, clicked="CLICK", clicks=0.12
    ),
    "banner": Channel(area="BANNER", has=0.35, reach="IMPRESSION", shown=True, clicked="CLICK", clicks=0.06),
    "feature flag": Channel(area="FEATUREFLAG", has=0.35, reach="IMPRESSION", shown=True, aborted=0.0),
}

#: Rows with a word that says why.
WHY: Final = {
    "ABORT": "quiet_hours",
    "BOUNCE": "550 no such user",
    "SOFTBOUNCE": "452 mailbox full",
    "DEFERRAL": "421 try again later",
    "DELIVERYFAILURE": "unreachable handset",
    "REJECTION": "landline",
}
