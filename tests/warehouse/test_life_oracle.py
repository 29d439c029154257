"""Random lives, with rows in every table that tells of one, are told as pandas reads them."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pandas as pd  # type: ignore[import-untyped]  # it brings no types

from airflow_provider_kubit_braze.core.impact.life import LIFE
from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.warehouse.timeline import user_timeline
from tests.warehouse.conftest import COHORT, WORKSPACE
from tests.warehouse.impact_events import APP_GROUP, OTHER_APP_GROUP, fill_share

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.impact.life import Moment, UserTimeline
    from tests.warehouse.conftest import Warehouse

Row = dict[str, Any]

#: Profile -> its external id, and the profile it was merged into.
PEOPLE: Final = {
    "p0": ("ann", None),
    "p1": ("o'brien 100%", None),
    "p2": (None, "p0"),
    "p3": (None, "p2"),
}
MERGED: Final = {"p0", "p2", "p3"}

#: What messages are about is written so in the tables' names.
CHANNELS: Final = {
    "EMAIL": "email",
    "PUSHNOTIFICATION": "push",
    "SMS": "SMS",
    "RCS": "RCS",
    "WHATSAPP": "WhatsApp",
    "LINE": "LINE",
    "CONTENTCARD": "content card",
    "WEBHOOK": "webhook",
    "INAPPMESSAGE": "in-app message",
    "BANNER": "banner",
    "FEATUREFLAG": "feature flag",
}
WORDS: Final = {
    "SEND": "sent",
    "DELIVERY": "delivered",
    "SOFTBOUNCE": "bounced for now",
    "BOUNCE": "bounced",
    "DELIVERYFAILURE": "not delivered",
    "FAILURE": "not delivered",
    "REJECTION": "rejected",
    "OPEN": "opened",
    "INFLUENCEDOPEN": "opened the app after it",
    "READ": "read",
    "IMPRESSION": "seen",
    "CLICK": "clicked",
    "SHORTLINKCLICK": "clicked",
    "DISMISS": "dismissed",
    "UNSUBSCRIBE": "opted out",
    "MARKASSPAM": "marked as spam",
}
OTHERS: Final = {
    "USERORPHAN": "profile merged",
    "BEHAVIORS_INSTALLATTRIBUTION": "install",
    "BEHAVIORS_APP_FIRSTSESSION": "first session",
    "BEHAVIORS_APP_SESSIONSTART": "session",
    "CAMPAIGNS_ENROLLINCONTROL": "kept out by Braze",
    "CANVAS_ENTRY": "entered Canvas",
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

FIRST, LAST = (
    int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()),
    int(datetime(2026, 3, 9, tzinfo=UTC).timestamp()),
)
#: Few, so that much happens in one second; some before and after the days that are asked about.
MOMENTS: Final = [FIRST + n * 43_200 + near for n in range(16) for near in (-1, 0)]


def random_rows(seed: int) -> dict[str, list[Row]]:
    """Return rows for every table of a life: what a column means is random, and so is what means nothing here."""
    rng = random.Random(seed)  # noqa: S311  (the same each time, and no secret)
    ids = count(1)
    share: dict[str, list[Row]] = {}
    for table, columns in catalogue().items():
        if table not in LIFE:
            continue
        rows = []
        for profile, (external_id, _) in PEOPLE.items():
            for _ in range(rng.choice((1, 2, 4))):
                row = {column: _value(rng, column, kind) for column, kind in columns.items()}
                moment = rng.choice(MOMENTS)
                row |= {
                    "ID": f"e{next(ids)}",
                    "USER_ID": profile,
                    "EXTERNAL_USER_ID": rng.choice((external_id, external_id, None)),
                    "APP_GROUP_ID": APP_GROUP,
                    "TIME": moment,
                    "SF_CREATED_AT": f"{datetime.fromtimestamp(moment + 60, UTC):%Y-%m-%d %H:%M:%S}+00:00",
                }
                rows.append(row)
                if rng.random() < 0.2:
                    later = f"{datetime.fromtimestamp(moment + 99_999, UTC):%Y-%m-%d %H:%M:%S}+00:00"
                    again = {**row, "SF_CREATED_AT": later, "TIME": rng.choice(MOMENTS)}
                    theirs = {**row, "APP_GROUP_ID": OTHER_APP_GROUP, "ID": f"e{next(ids)}"}
                    rows.append(rng.choice((again, theirs)))
        rng.shuffle(rows)
        share[table] = [{name: value for name, value in row.items() if name in columns} for row in rows]
    orphans = [(profile, heir) for profile, (_, heir) in PEOPLE.items() if heir is not None]
    model = share["USERS_USERORPHAN_SHARED"][0]
    share["USERS_USERORPHAN_SHARED"] = [
        {**model, "ID": f"merge {old}", "APP_GROUP_ID": APP_GROUP, "USER_ID": old, "ORPHANED_BY_ID": new}
        for old, new in orphans
    ]
    return share


def _value(rng: random.Random, column: str, kind: str) -> Any:
    known = {
        "CAMPAIGN_API_ID": ("camp-1", "camp 2%", "", None, None),
        "CANVAS_API_ID": ("canvas-1", "", None, None),
        "MESSAGE_VARIATION_API_ID": ("A", "", None),
        "CANVAS_VARIATION_API_ID": ("X", "", None),
        "MACHINE_OPEN": ("true", "True", "false", "", None),
        "CONVERSION_BEHAVIOR_INDEX": (0, None, 1, 2),
        "SUBSCRIPTION_STATUS": ("unsubscribed", "Unsubscribed", "subscribed", None),
        "REVENUE": (0, 1, 12_345, None),
        "CURRENCY": ("eur", "USD", None),
    }
    by_kind: dict[str, tuple[Any, ...]] = {
        "VARCHAR": ("some text", "o'clock 100%", None),
        "NUMBER(38,0)": (0, 7, None),
        "FLOAT": (9.99, -5.0, None),
        "BOOLEAN": (True, False, None),
    }
    return rng.choice(known.get(column) or by_kind.get(kind, (None,)))


class Reading:
    """The moments of some profiles, as pandas reads the rows.

    :param share: table -> rows.
    :param profiles: whose moments are told.
    """

    def __init__(self, share: dict[str, list[Row]], profiles: set[str]) -> None:
        found = []
        for rank, table in enumerate(LIFE):
            frame = pd.DataFrame(share[table], dtype=object)
            frame = frame.astype(object).where(frame.notna(), None)
            frame = frame[(frame["APP_GROUP_ID"] == APP_GROUP) & frame["USER_ID"].isin(profiles)]
            frame = frame[(frame["TIME"] >= FIRST) & (frame["TIME"] < LAST)]
            frame = frame.sort_values("SF_CREATED_AT", kind="stable").drop_duplicates("ID", keep="first")
            found += [
                (int(row["TIME"]), rank, *one)
                for row in frame.to_dict("records")
                if (one := _told(table.removeprefix("USERS_").removesuffix("_SHARED"), row))
            ]
        self.moments = sorted(found, key=lambda one: one[:2])
        self.tables = {one[1] for one in found}


def _told(table: str, row: Row) -> tuple[Any, ...] | None:
    """Return what, channel, kind, message, variation, detail, amount and currency; None: it is not told."""
    if (row.get("CONVERSION_BEHAVIOR_INDEX") or 0) != 0:
        return None
    if "SUBSCRIPTION_STATUS" in row and str(row["SUBSCRIPTION_STATUS"]).lower() != "unsubscribed":
        return None
    channel = ""
    if table.startswith("MESSAGES_"):
        _, area, did = table.split("_")
        channel, what = CHANNELS[area], "failed" if table == "MESSAGES_WEBHOOK_FAILURE" else WORDS[did]
    else:
        what = OTHERS[table]
    if str(row.get("MACHINE_OPEN")).lower() == "true" or row.get("IS_SUSPECTED_BOT_CLICK") is True:
        what = f"{what} by a machine"
    if table == "CANVAS_ENTRY" and row["IN_CONTROL_GROUP"]:
        what = "kept out by Braze"
    campaign, canvas = row.get("CAMPAIGN_API_ID"), row.get("CANVAS_API_ID")
    kind, column = ("campaign", "MESSAGE") if campaign else ("canvas", "CANVAS")
    variation = row.get(f"{column}_VARIATION_API_ID") or ""
    detail = {"BEHAVIORS_CUSTOMEVENT": "NAME", "BEHAVIORS_INSTALLATTRIBUTION": "SOURCE"}.get(table, "")
    amount, currency = None, None
    if table == "BEHAVIORS_PURCHASE":
        amount, currency = row["PRICE"], row["CURRENCY"] and row["CURRENCY"].upper()
    elif table.endswith("_REVENUE"):
        amount, currency = row["REVENUE"] if row["REVENUE"] is None else row["REVENUE"] / 100, "USD"
    return (
        what,
        channel,
        kind if campaign or canvas else "",
        campaign or canvas or "",
        variation,
        row.get(detail) or "",
        amount,
        currency,
    )


def _seen(one: Moment) -> tuple[Any, ...]:
    at = int(one.at.timestamp())
    message = (one.kind, one.message_id, one.variation)
    return (at, one.what, one.channel, *message, one.detail, one.amount, one.currency)


def _order(what: str, channel: str) -> tuple[str, str]:
    """Return what tells in which table's turn something is: of Canvases two things stand in one."""
    return ("entered Canvas" if what == "kept out by Braze" else what.removesuffix(" by a machine"), channel)


def test_random_lives_are_told_as_pandas_reads_them(warehouse: Warehouse) -> None:
    share = random_rows(3)
    source = f"BRAZE_LIVES_DB.{warehouse.schema}"
    fill_share(warehouse.session.connection, source, share)

    def life(user: str, limit: int = 10_000) -> UserTimeline:
        return user_timeline(
            ImpactQuestion(
                source=source, app_group_id=APP_GROUP, since=date(2026, 3, 1), until=date(2026, 3, 8)
            ),
            user,
            session=warehouse.session,
            tables=warehouse.tables,
            workspace=WORKSPACE,
            cohort_id=COHORT,
            now=datetime(2026, 3, 12, tzinfo=UTC),
            limit=limit,
        )

    lives = {}
    for user, profiles in {"ann": MERGED, "o'brien 100%": {"p1"}}.items():
        found, wanted = life(user), Reading(share, set(profiles))
        assert (found.profiles, found.left_out, list(found.missing)) == (len(profiles), 0, []), user
        assert Counter(map(_seen, found.moments)) == Counter((one[0], *one[2:]) for one in wanted.moments), (
            user
        )
        turns = [(int(one.at.timestamp()), *_order(one.what, one.channel)) for one in found.moments]
        assert turns == [(one[0], *_order(*one[2:4])) for one in wanted.moments], user
        lives[user] = wanted
    assert len(lives["ann"].tables) == len(LIFE), "a table tells nothing"
    # By the name of a profile that was merged into another one, which was merged, too; and the latest only.
    some = life("p3", limit=40)
    turns = [(int(one.at.timestamp()), *_order(one.what, one.channel)) for one in some.moments]
    assert turns == [(one[0], *_order(*one[2:4])) for one in lives["ann"].moments][-40:]
    assert (some.profiles, some.left_out) == (len(MERGED), len(lives["ann"].moments) - 40)
