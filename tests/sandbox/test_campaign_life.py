"""The local Braze runs a campaign: what it writes into the share, held against the truth it tells."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.sandbox.braze_settings import (
    DEFAULT_CAMPAIGN,
    DEFAULT_CANVAS,
    DEFAULT_REST_KEY,
)
from airflow_provider_kubit_braze.sandbox.braze_share import (
    LATEST_DEFAULT,
    OTHER_APP_GROUP,
    make_share_tables,
)
from airflow_provider_kubit_braze.sandbox.campaign_life import (
    CHANNELS,
    ORDER_EVENT,
    Behaviour,
    Message,
    Noise,
    Truth,
    held_out_of,
    write_life,
)
from airflow_provider_kubit_braze.sandbox.process import SandboxError
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

GROUP = "the-workspace"
AT = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
WINDOW = timedelta(days=7)
CAMPAIGN = Message(kind="campaign", api_id="it's c", name="Win 'em back", dispatch_id="d1", send_id="s1")
CANVAS = Message(kind="canvas", api_id="canvas", name="Journey", dispatch_id="d2", send_id=None)
TIDY = Noise(duplicates=0, late=0, unnamed=0, merged=0, deleted=0, elsewhere=0)
LIFTED = Behaviour(base=0.2, lift=0.5)

MEANT = [{"braze_id": f"b{n}", "external_id": f"u{n}"} for n in range(2_000)]
HELD_OUT = [{"braze_id": f"h{n}", "external_id": f"v{n}", "email": f"h{n}@example.org"} for n in range(700)]
OTHERS = [{"braze_id": "nameless"}, {"braze_id": "o", "external_id": "o"}]


@dataclass(frozen=True)
class Share:
    """A schema with a life in it."""

    connection: SnowflakeConnection
    name: str
    _truth: Truth | None = None

    @property
    def truth(self) -> Truth:
        assert self._truth is not None
        return self._truth

    def rows(self, table: str) -> list[dict[str, Any]]:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {self.name}.{table}")
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def events(self, what: str) -> list[dict[str, Any]]:
        """Rows that count: of this workspace, each once, and with the surviving profile as USER_ID."""
        into = {row["USER_ID"]: row["ORPHANED_BY_ID"] for row in self.rows("USERS_USERORPHAN_SHARED")}
        first: dict[str, dict[str, Any]] = {}
        for row in sorted(self.rows(f"USERS_{what}_SHARED"), key=lambda row: row["SF_CREATED_AT"]):
            if row["APP_GROUP_ID"] == GROUP:
                first.setdefault(row["ID"], row)
        for row in first.values():
            while row["USER_ID"] in into:
                row["USER_ID"] = into[row["USER_ID"]]
        return list(first.values())

    def counts(self) -> dict[str, int]:
        with self.connection.cursor() as cursor:
            cursor.execute(
                " UNION ALL ".join(
                    f"SELECT '{table}', COUNT(*) FROM {self.name}.{table}" for table in catalogue()
                )
            )
            return {table: many for table, many in cursor.fetchall() if many}


@pytest.fixture(scope="module")
def connection(kubit_braze_sandbox: Sandbox) -> Iterator[SnowflakeConnection]:
    with kubit_braze_sandbox.connect() as opened:
        yield opened


@pytest.fixture(scope="module")
def tables(connection: SnowflakeConnection) -> str:
    """A schema with all tables."""
    make_share_tables(connection, "LIFE_SHARE.SCRATCH")
    return "LIFE_SHARE.SCRATCH"


@pytest.fixture
def empty(connection: SnowflakeConnection, tables: str) -> str:
    """A schema with all tables, empty."""
    clear(connection, tables)
    return tables


def clear(connection: SnowflakeConnection, share: str) -> None:
    with connection.cursor() as cursor:
        for table in Share(connection, share).counts():
            cursor.execute(f"DELETE FROM {share}.{table}")


def live(connection: SnowflakeConnection, share: str, message: Message = CAMPAIGN, **how: Any) -> Share:
    given = {"meant": MEANT, "held_out": HELD_OUT, "seed": 5, "at": AT, "app_group_id": GROUP, **how}
    return Share(connection, share, write_life(connection, message, share=share, **given))


@pytest.fixture(scope="module")
def campaign(connection: SnowflakeConnection) -> Share:
    """A campaign in all channels, with an effect."""
    return live(connection, "LIFE_SHARE.CAMPAIGN", behaviour=LIFTED, channels=tuple(CHANNELS), others=OTHERS)


@pytest.fixture(scope="module")
def canvas(connection: SnowflakeConnection) -> Share:
    """A Canvas, some of whose entrants Braze keeps out."""
    return live(connection, "LIFE_SHARE.CANVAS", CANVAS, behaviour=LIFTED, braze_control=0.2)


def users(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    return {row["USER_ID"] for row in rows}


def within(moment: int) -> bool:
    return AT.timestamp() <= moment < (AT + WINDOW).timestamp()


# -- what is true ----------------------------------------------------------------------------------------------


def test_the_purchases_are_those_of_the_truth(campaign: Share) -> None:
    bought = [row for row in campaign.events("BEHAVIORS_PURCHASE") if within(row["TIME"])]
    for group, truth in ((MEANT, campaign.truth.treated), (HELD_OUT, campaign.truth.held_out)):
        members = {user["braze_id"] for user in group}
        theirs = [row for row in bought if row["USER_ID"] in members]
        dollars = sum(row["PRICE"] for row in theirs if row["CURRENCY"] == "USD")

        assert truth.users == len(group)
        assert truth.converters == len(users(theirs))
        assert truth.revenue == pytest.approx(dollars)
        # Chance strays farther than this once in 16,000 times; here it does not, as the seed is given.
        spread = math.sqrt(truth.users * truth.conversion_rate * (1 - truth.conversion_rate))
        assert abs(truth.converters - truth.users * truth.conversion_rate) < 4 * spread
        assert truth.revenue / truth.users == pytest.approx(truth.revenue_per_user, rel=0.2)
        assert {row["CURRENCY"] for row in theirs} == {"USD", "EUR"}


def test_the_true_rates_are_the_given_ones(campaign: Share) -> None:
    truth = campaign.truth

    assert truth.held_out.conversion_rate == pytest.approx(0.2)
    assert truth.treated.conversion_rate == pytest.approx(0.3)
    assert truth.messaged == truth.treated
    assert truth.lift == pytest.approx(0.5)
    # A buyer buys 1.3 times for 35 dollars; of a hundred purchases three are in euro.
    assert truth.held_out.revenue_per_user == pytest.approx(0.2 * 1.3 * 35 * 0.97)
    assert truth.treated.revenue_per_user == pytest.approx(1.5 * truth.held_out.revenue_per_user)
    assert truth.as_dict()["lift"] == pytest.approx(0.5)


def test_a_purchase_is_an_event_too_and_prices_are_skewed(campaign: Share) -> None:
    bought, ordered = campaign.events("BEHAVIORS_PURCHASE"), campaign.events("BEHAVIORS_CUSTOMEVENT")

    orders = sorted((row["USER_ID"], row["TIME"]) for row in ordered if row["NAME"] == ORDER_EVENT)
    assert orders == sorted((row["USER_ID"], row["TIME"]) for row in bought)
    prices = sorted(row["PRICE"] for row in bought)
    assert sum(prices) / len(prices) > 1.2 * prices[len(prices) // 2]


def test_before_the_message_everybody_buys_at_the_base_rate(campaign: Share) -> None:
    earlier = AT - WINDOW
    bought = [
        row
        for row in campaign.events("BEHAVIORS_PURCHASE")
        if earlier.timestamp() <= row["TIME"] < AT.timestamp()
    ]
    for group in (MEANT, HELD_OUT):
        converters = len(users(bought) & {user["braze_id"] for user in group})
        assert abs(converters - 0.2 * len(group)) < 4 * math.sqrt(len(group) * 0.2 * 0.8)


def test_nothing_happens_where_the_window_begins_and_ends(campaign: Share) -> None:
    """So it does not matter by some minutes from when on somebody counts."""
    sent = [row["TIME"] for row in campaign.rows("USERS_MESSAGES_EMAIL_SEND_SHARED")]
    moments = [row["TIME"] for row in campaign.rows("USERS_BEHAVIORS_PURCHASE_SHARED")]

    assert min(sent) == AT.timestamp()
    assert max(sent) < AT.timestamp() + 1800
    for edge in (AT, AT + WINDOW):
        assert not [moment for moment in moments if abs(moment - edge.timestamp()) < 3_590]
    latest = max(row["TIME"] for row in campaign.events("BEHAVIORS_APP_SESSIONSTART"))
    assert latest == campaign.truth.until.timestamp() == (AT + timedelta(days=9)).timestamp()


# -- the funnel ------------------------------------------------------------------------------------------------

OPENS = {
    "email": ("EMAIL_OPEN",),
    "push": ("PUSHNOTIFICATION_OPEN", "PUSHNOTIFICATION_INFLUENCEDOPEN"),
    "RCS": ("RCS_READ",),
    "WhatsApp": ("WHATSAPP_READ",),
    "content card": ("CONTENTCARD_IMPRESSION",),
    "in-app message": ("INAPPMESSAGE_IMPRESSION",),
    "banner": ("BANNER_IMPRESSION",),
    "feature flag": ("FEATUREFLAG_IMPRESSION",),
}
CLICKS = {
    "email": "EMAIL_CLICK",
    "push": "PUSHNOTIFICATION_OPEN",
    "SMS": "SMS_SHORTLINKCLICK",
    "RCS": "RCS_CLICK",
    "WhatsApp": "WHATSAPP_CLICK",
    "LINE": "LINE_CLICK",
    "content card": "CONTENTCARD_CLICK",
    "in-app message": "INAPPMESSAGE_CLICK",
    "banner": "BANNER_CLICK",
}


def counted(share: Share, what: str, reached: Mapping[str, float]) -> set[str]:
    """Return whom rows of people, not machines, say it of within the window after they were reached."""
    return users(
        row
        for row in share.events(f"MESSAGES_{what}")
        if row.get("MACHINE_OPEN") != "true"
        and not row.get("IS_SUSPECTED_BOT_CLICK")
        and 0 <= row["TIME"] - reached[row["USER_ID"]] < WINDOW.total_seconds()
    )


@pytest.mark.parametrize("name", CHANNELS)
def test_the_funnel_is_that_of_the_truth(campaign: Share, name: str) -> None:
    channel, figures = CHANNELS[name], dict(campaign.truth.channels[name])
    sent = campaign.events(f"MESSAGES_{channel.area}_{channel.reach}")
    reached: dict[str, float] = {}
    for row in sent:
        reached[row["USER_ID"]] = max(row["TIME"], reached.get(row["USER_ID"], 0))

    assert figures.pop("sends") == len(sent)
    assert figures.pop("reached") == len(reached) > 250
    if channel.delivery:
        assert figures.pop("delivered") == len(counted(campaign, f"{channel.area}_DELIVERY", reached))
    if name == "push":
        bounced = {
            (row["USER_ID"], row["DEVICE_ID"]) for row in campaign.events("MESSAGES_PUSHNOTIFICATION_BOUNCE")
        }
        assert bounced
        arrived = {row["USER_ID"] for row in sent if (row["USER_ID"], row["DEVICE_ID"]) not in bounced}
        assert figures.pop("delivered") == len(arrived)
    if name in OPENS:
        seen = set().union(*(counted(campaign, what, reached) for what in OPENS[name]))
        assert figures.pop("seen") == len(seen) > 0
    if name in CLICKS:
        assert figures.pop("clicked") == len(counted(campaign, CLICKS[name], reached)) > 0
    assert figures == {}


def test_machines_open_and_click_and_some_people_come_too_late(campaign: Share) -> None:
    opens = campaign.events("MESSAGES_EMAIL_OPEN")
    clicks = campaign.events("MESSAGES_EMAIL_CLICK")
    sent = {row["USER_ID"]: row["TIME"] for row in campaign.events("MESSAGES_EMAIL_SEND")}

    assert {row["MACHINE_OPEN"] for row in opens} == {"true", "false", None}
    assert {row["IS_SUSPECTED_BOT_CLICK"] for row in clicks} == {True, False, None}
    reasons = {(row["IS_SUSPECTED_BOT_CLICK"], row["SUSPECTED_BOT_CLICK_REASON"]) for row in clicks}
    assert reasons == {(True, '["user_agent"]'), (False, None), (None, None)}
    assert [row for row in opens if row["TIME"] - sent[row["USER_ID"]] > WINDOW.total_seconds()]


def test_only_whom_it_was_meant_for_is_sent_anything(campaign: Share) -> None:
    meant = {user["braze_id"] for user in MEANT}
    for table in campaign.counts():
        if table.startswith(("USERS_MESSAGES_", "USERS_CAMPAIGNS_")):
            assert users(campaign.events(table.removeprefix("USERS_").removesuffix("_SHARED"))) <= meant


def test_braze_ascribes_purchases_in_cents_within_three_days(campaign: Share) -> None:
    converted = campaign.events("CAMPAIGNS_CONVERSION")
    revenue = campaign.events("CAMPAIGNS_REVENUE")
    bought = {
        (row["USER_ID"], row["TIME"]): (row["PRICE"], row["CURRENCY"])
        for row in campaign.events("BEHAVIORS_PURCHASE")
    }

    first = [row for row in converted if row["CONVERSION_BEHAVIOR_INDEX"] == 0]
    assert {row["CONVERSION_BEHAVIOR_INDEX"] for row in converted} == {0, 1}
    assert len(users(first)) == len(first) == campaign.truth.figures["converted"]
    assert users(revenue) == users(first)
    assert sum(row["REVENUE"] for row in revenue) / 100 == pytest.approx(campaign.truth.attributed_revenue)
    for row in revenue:
        price, currency = bought[row["USER_ID"], row["TIME"]]
        assert row["REVENUE"] == round(price * (110 if currency == "EUR" else 100))
        assert row["TIME"] <= (AT + timedelta(days=3, hours=1)).timestamp()


def test_people_opt_out_by_each_way(campaign: Share) -> None:
    left = users(
        row for part in ("UNSUBSCRIBE", "MARKASSPAM") for row in campaign.events(f"MESSAGES_EMAIL_{part}")
    )
    for what in ("SUBSCRIPTION_GLOBALSTATECHANGE", "SUBSCRIPTIONGROUP_STATECHANGE"):
        rows = campaign.events(f"BEHAVIORS_{what}")
        assert {row["SUBSCRIPTION_STATUS"].lower() for row in rows} == {"unsubscribed"}
        left |= users(row for row in rows if row["CAMPAIGN_API_ID"])

    assert campaign.truth.figures["opted_out"] == len(left) > 20
    without = campaign.events("BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE")
    assert any(row["CAMPAIGN_API_ID"] is None for row in without)


# -- what the rows look like -------------------------------------------------------------------------------------


def test_rows_name_their_user_and_their_message(campaign: Share) -> None:
    tables = campaign.counts()
    assert len(tables) > 50
    for table in tables:
        if not table.startswith("USERS_"):
            continue
        for row in campaign.rows(table):
            assert re.fullmatch("[0-9a-f]{32}", row["ID"])
            assert row["USER_ID"]
            assert row["APP_GROUP_ID"] in {GROUP, OTHER_APP_GROUP}
            assert row["SF_CREATED_AT"].timestamp() >= row["TIME"] + 60
            assert row.get("CANVAS_API_ID") is None
            if table.startswith(("USERS_MESSAGES_", "USERS_CAMPAIGNS_")):
                assert row["CAMPAIGN_API_ID"] == CAMPAIGN.api_id
                assert row["MESSAGE_VARIATION_API_ID"] in {"it's c-a", "it's c-b"}
                assert row.get("DISPATCH_ID", "d1") == "d1"
                assert row.get("SEND_ID", "s1") == "s1"


def test_a_user_has_one_variation(campaign: Share) -> None:
    variations: dict[str, set[str]] = {}
    for what in ("EMAIL_SEND", "PUSHNOTIFICATION_SEND", "EMAIL_OPEN"):
        for row in campaign.events(f"MESSAGES_{what}"):
            variations.setdefault(row["USER_ID"], set()).add(row["MESSAGE_VARIATION_API_ID"])

    assert {len(found) for found in variations.values()} == {1}
    halves = [min(found) for found in variations.values()]
    assert 0.4 < halves.count("it's c-a") / len(halves) < 0.6


def test_names_have_several_versions(campaign: Share, canvas: Share) -> None:
    def names(share: Share, table: str) -> list[tuple[str, str]]:
        rows = sorted(share.rows(table), key=lambda row: (row["API_ID"], row["TIME"]))
        return [(row["API_ID"], row["NAME"]) for row in rows]

    assert names(campaign, "CHANGELOGS_CAMPAIGN_SHARED") == [
        ("it's c", "Win 'em back (draft)"),
        ("it's c", "Win 'em back"),
    ]
    assert names(campaign, "SNAPSHOTS_CAMPAIGN_MESSAGE_VARIATION_SHARED") == [
        ("it's c-a", "Variant 1"),
        ("it's c-a", "A"),
        ("it's c-b", "Variant 2"),
        ("it's c-b", "B"),
    ]
    assert names(canvas, "CHANGELOGS_CANVAS_SHARED")[-1] == ("canvas", "Journey")
    assert len(names(canvas, "SNAPSHOTS_CANVAS_VARIATION_SHARED")) == 4


def test_the_rows_are_untidy(campaign: Share) -> None:
    rows = campaign.rows("USERS_BEHAVIORS_PURCHASE_SHARED")
    once = {row["ID"]: row for row in rows}
    merged = campaign.rows("USERS_USERORPHAN_SHARED")
    orphans = {row["USER_ID"] for row in merged}
    nameless = [row for row in rows if row["EXTERNAL_USER_ID"] is None]

    assert 0 < len(rows) - len(once) < 0.05 * len(rows)
    for row in rows:
        twin = once[row["ID"]]
        assert {**row, "SF_CREATED_AT": None} == {**twin, "SF_CREATED_AT": None}
    late = [row for row in rows if row["SF_CREATED_AT"].timestamp() - row["TIME"] > 86_400 + 3_600]
    assert 0 < len(late) < 0.1 * len(rows)
    assert {row["USER_ID"] in orphans for row in nameless} == {True, False}
    # Chains of merges, and purchases in the window by people nobody knew yet.
    assert orphans & {row["ORPHANED_BY_ID"] for row in merged}
    assert [row for row in nameless if row["USER_ID"] in orphans and within(row["TIME"])]
    assert all(row["EXTERNAL_USER_ID"] is None for row in rows if row["USER_ID"] in orphans)
    deleted = campaign.rows("USERS_USERDELETEREQUEST_SHARED")
    assert deleted
    assert min(row["TIME"] for row in deleted) > (AT + WINDOW).timestamp()


def test_the_profile_view_names_everybody(campaign: Share) -> None:
    rows = campaign.rows(LATEST_DEFAULT)
    ours = {row["USER_ID"]: row["EXTERNAL_USER_ID"] for row in rows if row["APP_GROUP_ID"] == GROUP}

    assert ours == {user["braze_id"]: user.get("external_id") for user in (*MEANT, *HELD_OUT, *OTHERS)}
    assert {row["APP_GROUP_ID"] for row in rows} == {GROUP, OTHER_APP_GROUP}
    (known,) = [row for row in rows if row["USER_ID"] == "h7" and row["APP_GROUP_ID"] == GROUP]
    assert (known["EMAIL_ADDRESS"], known["ARCHIVED"]) == ("h7@example.org", False)


def test_another_app_group_has_its_own_purchases(campaign: Share) -> None:
    rows = campaign.rows("USERS_BEHAVIORS_PURCHASE_SHARED")
    ours = {row["USER_ID"] for row in rows if row["APP_GROUP_ID"] == GROUP}
    theirs = [row for row in rows if row["APP_GROUP_ID"] == OTHER_APP_GROUP]

    assert 100 < len(users(theirs)) < 400
    assert not users(theirs) & ours
    assert {row["EXTERNAL_USER_ID"] for row in theirs} <= {
        None,
        *(user["external_id"] for user in (*MEANT, *HELD_OUT)),
    }


def test_without_noise_there_is_none(connection: SnowflakeConnection, empty: str) -> None:
    share = live(connection, empty, noise=TIDY, meant=MEANT[:500], held_out=HELD_OUT[:100])
    rows = share.rows("USERS_BEHAVIORS_PURCHASE_SHARED")

    assert len({row["ID"] for row in rows}) == len(rows) > 100
    assert {row["APP_GROUP_ID"] for row in rows} == {GROUP}
    assert all(row["EXTERNAL_USER_ID"] for row in rows)
    assert max(row["SF_CREATED_AT"].timestamp() - row["TIME"] for row in rows) < 3_600
    assert not {"USERS_USERORPHAN_SHARED", "USERS_USERDELETEREQUEST_SHARED"} & share.counts().keys()


# -- Canvases and Braze's own control group --------------------------------------------------------------------------


def test_a_canvas_has_entries_and_steps(canvas: Share) -> None:
    entries = canvas.events("CANVAS_ENTRY")
    kept_out = users(row for row in entries if row["IN_CONTROL_GROUP"])
    sent = canvas.events("MESSAGES_EMAIL_SEND")
    pushed = canvas.events("MESSAGES_PUSHNOTIFICATION_SEND")

    assert users(entries) == {user["braze_id"] for user in MEANT}
    assert len(kept_out) == canvas.truth.braze_control.users
    assert users(sent) <= users(row for row in entries if row["IN_CONTROL_GROUP"] is False)
    for rows, step in ((sent, "canvas-step-0"), (pushed, "canvas-step-1")):
        assert {row["CANVAS_STEP_API_ID"] for row in rows} == {step}
        assert {row["CANVAS_API_ID"] for row in rows} == {"canvas"}
        assert {row["CANVAS_VARIATION_API_ID"] for row in rows} == {"canvas-a", "canvas-b"}
        assert {row["CAMPAIGN_API_ID"] for row in rows} == {None}
    first = [row for row in canvas.events("CANVAS_CONVERSION") if row["CONVERSION_BEHAVIOR_INDEX"] == 0]
    assert len(users(first)) == canvas.truth.figures["converted"]
    assert users(first) == users(canvas.events("CANVAS_EXPERIMENTSTEP_CONVERSION"))
    assert users(first) == users(canvas.events("CANVAS_REVENUE"))


def test_whom_braze_keeps_out_buys_at_the_base_rate_and_is_treated_all_the_same(canvas: Share) -> None:
    truth = canvas.truth

    assert truth.braze_control.users + truth.messaged.users == truth.treated.users == len(MEANT)
    assert 0.16 < truth.braze_control.users / len(MEANT) < 0.24
    assert truth.braze_control.conversion_rate == pytest.approx(0.2)
    assert truth.messaged.conversion_rate == pytest.approx(0.3)
    share = truth.messaged.users / len(MEANT)
    assert truth.treated.conversion_rate == pytest.approx(0.2 + 0.1 * share)
    assert truth.treated.converters == truth.messaged.converters + truth.braze_control.converters


def test_a_campaign_enrols_its_own_control_group(connection: SnowflakeConnection, empty: str) -> None:
    share = live(connection, empty, meant=MEANT[:400], held_out=(), braze_control=0.5)
    enrolled = users(share.events("CAMPAIGNS_ENROLLINCONTROL"))

    assert len(enrolled) == share.truth.braze_control.users > 100
    assert not enrolled & users(share.events("MESSAGES_EMAIL_SEND"))
    assert share.truth.held_out.users == 0


# -- seeds, shares, sizes ---------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(
    connection: SnowflakeConnection, empty: str
) -> None:
    def lived(seed: int, meant: list[dict[str, str]]) -> tuple[Truth, list[Any]]:
        clear(connection, empty)
        share = live(connection, empty, seed=seed, meant=meant, held_out=HELD_OUT[:50])
        return share.truth, [sorted(map(repr, share.rows(table))) for table in share.counts()]

    once = lived(1, MEANT[:200])
    # The order in which Braze names its users does not matter.
    assert lived(1, MEANT[199::-1]) == once
    assert lived(2, MEANT[:200])[1] != once[1]


def test_what_is_in_the_share_stays(connection: SnowflakeConnection, empty: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {empty}.USERS_BEHAVIORS_PURCHASE_SHARED (ID, USER_ID, APP_GROUP_ID, PRICE)"
            " VALUES ('mine', 'somebody', 'third', 5)"
        )
        cursor.execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
        before = cursor.fetchall()

    share = live(connection, empty, meant=MEANT[:100], held_out=())

    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
        assert cursor.fetchall() == before
        cursor.execute(f"SHOW TABLES IN SCHEMA {empty}")
        assert {row[1] for row in cursor.fetchall()} == {*catalogue(), LATEST_DEFAULT}
        cursor.execute("SHOW SCHEMAS IN DATABASE LIFE_SHARE")
        assert not [row[1] for row in cursor.fetchall() if "KUBIT" in row[1]]
    (mine,) = [row for row in share.rows("USERS_BEHAVIORS_PURCHASE_SHARED") if row["ID"] == "mine"]
    assert (mine["USER_ID"], mine["APP_GROUP_ID"], mine["PRICE"]) == ("somebody", "third", 5)


def test_tables_and_columns_that_a_share_lacks_stay_lacking(connection: SnowflakeConnection) -> None:
    share = Share(connection, "LIFE_SHARE.POOR")
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS LIFE_SHARE")
        cursor.execute("CREATE SCHEMA LIFE_SHARE.POOR")
        # The twin with the archive stands in for the table.
        for table in ("USERS_MESSAGES_EMAIL_SEND_SHARED_ALL", "USERS_MESSAGES_EMAIL_CLICK_SHARED", "OURS"):
            cursor.execute(f"CREATE TABLE {share.name}.{table} (ID VARCHAR, USER_ID VARCHAR, TIME NUMBER)")
        cursor.execute('USE SCHEMA "DEMO"."PUBLIC"')

    live(connection, share.name, meant=MEANT[:300], held_out=(), profiles=False)

    assert len(share.rows("USERS_MESSAGES_EMAIL_SEND_SHARED_ALL")) > 200
    assert share.rows("USERS_MESSAGES_EMAIL_CLICK_SHARED")[0].keys() == {"ID", "USER_ID", "TIME"}
    assert share.rows("OURS") == []
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW TABLES IN SCHEMA {share.name}")
        assert len(cursor.fetchall()) == 3


def test_everybody_can_live_several_times(connection: SnowflakeConnection, empty: str) -> None:
    share = live(connection, empty, meant=MEANT[:100], held_out=(), copies=3, noise=TIDY)
    sent = share.rows("USERS_MESSAGES_EMAIL_SEND_SHARED")

    assert len({row["ID"] for row in sent}) == len(sent) == 3 * share.truth.channels["email"]["sends"]
    names = {row["EXTERNAL_USER_ID"] for row in sent}
    assert {f"{name}~2" for name in names if "~" not in name} == {
        name for name in names if name.endswith("~2")
    }


def test_the_number_of_statements_does_not_depend_on_the_number_of_users(
    connection: SnowflakeConnection, kubit_braze_sandbox: Sandbox, empty: str
) -> None:
    def statements(many: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT 'before {many} users'")
        live(connection, empty, meant=MEANT[:many], held_out=(), noise=TIDY)
        texts = [seen.sql for seen in kubit_braze_sandbox.snowflake.queries(last=1000)]
        return len(texts) - texts.index(f"SELECT 'before {many} users'")

    few = statements(300)
    assert 20 < few < 100
    # A table more, for what happens rarely.
    assert statements(2_000) < few + 10


# -- through the local Braze -----------------------------------------------------------------------------------------


def trigger(sandbox: Sandbox, kind: str, body: dict[str, Any]) -> None:
    path = "/campaigns/trigger/send" if kind == "campaign" else "/canvas/trigger/send"
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            sandbox.braze_url + path,
            json=body,
            headers={"Authorization": f"Bearer {DEFAULT_REST_KEY}"},
            timeout=30,
        )
    assert answer.status_code == 201, answer.text


AUDIENCE = {
    "custom_attribute": {"custom_attribute_name": "in", "comparison": "equals", "value": True},
}


@pytest.fixture
def with_users(kubit_braze_clean_sandbox: Sandbox) -> Sandbox:
    """The local Braze with 300 users in a cohort, 100 held out, and 50 others."""
    known = [{"external_id": f"in{n}", "custom_attributes": {"in": True}} for n in range(300)]
    outside = [f"out{n}" for n in range(100)] + [f"other{n}" for n in range(50)]
    kubit_braze_clean_sandbox.braze.add_users([*known, *outside])
    return kubit_braze_clean_sandbox


@pytest.mark.parametrize("kind", ["campaign", "canvas"])
def test_a_triggered_message_runs_its_course(
    with_users: Sandbox, connection: SnowflakeConnection, empty: str, kind: str
) -> None:
    message_id = DEFAULT_CAMPAIGN if kind == "campaign" else DEFAULT_CANVAS
    trigger(with_users, kind, {f"{kind}_id": message_id, "broadcast": True, "audience": AUDIENCE})
    (request,) = with_users.braze.triggered("braze_id")

    truth = with_users.run_campaign(
        message_id,
        seed=3,
        app_group_id=GROUP,
        share=empty,
        held_out=[f"out{n}" for n in range(100)] + ["unheard of"],
        name="Win back",
        others=20,
    )
    share = Share(connection, empty, truth)

    assert (truth.treated.users, truth.held_out.users, truth.unknown) == (300, 100, 1)
    assert truth.message == Message(
        kind=kind,
        api_id=message_id,
        name="Win back",
        dispatch_id=request["dispatch_id"],
        send_id=request["send_id"],
    )
    assert truth.at == datetime.fromtimestamp(int(request["at"]), UTC)
    assert users(share.events("MESSAGES_EMAIL_SEND")) <= set(request["selected"])
    living = {
        row["EXTERNAL_USER_ID"].rstrip("0123456789")
        for row in share.events("BEHAVIORS_APP_SESSIONSTART")
        if row["EXTERNAL_USER_ID"]
    }
    assert living == {"in", "out", "other"}


def test_it_can_have_been_sent_at_another_time(
    with_users: Sandbox, connection: SnowflakeConnection, empty: str
) -> None:
    body = {"campaign_id": DEFAULT_CAMPAIGN, "broadcast": True, "audience": AUDIENCE}
    trigger(with_users, "campaign", body)

    truth = with_users.run_campaign(DEFAULT_CAMPAIGN, seed=3, app_group_id=GROUP, share=empty, at=AT)

    assert truth.at == AT
    sent = Share(connection, empty, truth).rows("USERS_MESSAGES_EMAIL_SEND_SHARED")
    assert min(row["TIME"] for row in sent) == AT.timestamp()


def test_who_is_held_out_stands_in_the_ledger(
    kubit_braze_sandbox: Sandbox, connection: SnowflakeConnection
) -> None:
    session = Session(kubit_braze_sandbox.connect(), tag={"app": "tests"})
    tables = Tables("LIFE_LEDGER")
    ensure_tables(session, tables)
    session.execute(
        f"INSERT INTO {tables.membership} (COHORT_ID, USER_ID, HELD_OUT, LEFT_AT) VALUES"
        " ('vips', 'ann', TRUE, NULL), ('vips', 'bob', FALSE, NULL), ('others', 'cid', TRUE, NULL),"
        " ('vips', 'dan', TRUE, CAST('2026-01-01' AS TIMESTAMP_NTZ)), ('vips', 'abe', TRUE, NULL)"
    )
    session.close()

    assert held_out_of(connection, "vips", state="LIFE_LEDGER") == ["abe", "ann"]


@pytest.mark.parametrize(
    ("message_id", "words"),
    [
        ("no-such", "has no campaign or Canvas 'no-such'; it has sandbox-campaign, sandbox-canvas."),
        (DEFAULT_CANVAS, "Nobody has triggered 'sandbox-canvas' in the local Braze yet; trigger it first."),
    ],
)
def test_what_was_not_triggered_is_refused(with_users: Sandbox, message_id: str, words: str) -> None:
    with pytest.raises(SandboxError, match=re.escape(words)):
        with_users.run_campaign(message_id, seed=1, app_group_id=GROUP)


def test_who_was_meant_cannot_be_held_out(with_users: Sandbox) -> None:
    body = {"campaign_id": DEFAULT_CAMPAIGN, "broadcast": True, "audience": AUDIENCE}
    trigger(with_users, "campaign", body)

    with pytest.raises(SandboxError, match=r"was meant for 2 users who are said to be held out\.$"):
        with_users.run_campaign(DEFAULT_CAMPAIGN, seed=1, app_group_id=GROUP, held_out=["in1", "in2", "out1"])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"channels": ["pigeon"]}, "There is no channel 'pigeon'; there are email, push,"),
        ({"channels": []}, "A message has a channel"),
        ({"variations": 9}, "one to 8 variations"),
        ({"braze_control": 1.0}, "a control group below 1"),
        ({"meant": []}, "was meant for nobody"),
    ],
)
def test_a_message_that_cannot_be_is_refused(
    connection: SnowflakeConnection, how: dict[str, Any], words: str
) -> None:
    with pytest.raises(SandboxError, match=words):
        live(connection, "LIFE_SHARE.NOWHERE", **how)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"base": 1.5}, "base is 1.5; it is a share between 0 and 1."),
        ({"base": 0.6, "lift": 1.0}, "base 0.6 with lift 1.0 is 1.2; a rate is between 0 and 1."),
        ({"after": timedelta(hours=1)}, "the time after it a seventh of it or more"),
        ({"mean_price": 0}, "A mean price is above 0"),
    ],
)
def test_a_behaviour_that_cannot_be_is_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(SandboxError, match=re.escape(words)):
        Behaviour(**how)


def test_noise_beyond_all_is_refused() -> None:
    with pytest.raises(SandboxError, match=r"late is 2; it is a share between 0 and 1\."):
        Noise(late=2)
