"""The catalogue of Braze's share, and what a share without some of it can still yield."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from airflow_provider_kubit_braze.core.impact.life import LIFE
from airflow_provider_kubit_braze.core.share_catalogue import catalogue, table_in
from airflow_provider_kubit_braze.core.share_figures import FIGURES, judge

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.share_figures import Verdict

OPEN = "USERS_MESSAGES_EMAIL_OPEN_SHARED"


def share(**lacks: tuple[str, ...] | None) -> dict[str, set[str]]:
    """A whole share but for tables (None), or columns of them."""
    return {
        table: set(columns) - set(lacks.get(table) or ())
        for table, columns in catalogue().items()
        if lacks.get(table, ()) is not None
    }


def verdict(name: str, scope: str, there: dict[str, set[str]]) -> Verdict:
    [found] = [one for one in judge(there) if (one.figure.name, one.figure.scope) == (name, scope)]
    return found


def test_the_catalogue_is_what_braze_documents() -> None:
    tables = catalogue()
    assert (len(tables), sum(map(len, tables.values()))) == (104, 2225)
    assert tables["USERS_USERORPHAN_SHARED"] == {
        "ID": "VARCHAR",
        "USER_ID": "VARCHAR",
        "EXTERNAL_USER_ID": "VARCHAR",
        "DEVICE_ID": "VARCHAR",
        "APP_GROUP_ID": "VARCHAR",
        "APP_GROUP_API_ID": "VARCHAR",
        "APP_API_ID": "VARCHAR",
        "TIME": "NUMBER(38,0)",
        "ORPHANED_BY_ID": "VARCHAR",
        "SF_CREATED_AT": "TIMESTAMP_LTZ(9)",
    }
    assert tables["USERS_BEHAVIORS_PURCHASE_SHARED"]["PRICE"] == "FLOAT"
    assert tables["CHANGELOGS_GLOBALCONTROLGROUP_SHARED"]["GLOBAL_CONTROL_GROUP"] == "BOOLEAN"


def test_every_figure_is_possible_in_a_whole_share() -> None:
    """Also a test of the figures: each table and column that one needs is in Braze's documentation."""
    assert [one.sentence for one in judge(share()) if not one.possible] == []
    unnamed = {
        column
        for figure in FIGURES
        for need in figure.needs
        for column in need.finer
        if column not in catalogue()[need.table]
    }
    # RCS and banners have it not; everything else that a figure is finer with is documented.
    assert unnamed == {"CANVAS_API_ID"}


#: Figure -> channel or kind -> the tables that tell it, without what all names begin and end with. Written down from
#: Braze's descriptions of the tables, and not from the code: the oracle of the measurements reads the code's list.
TOLD_BY: dict[str, dict[str, str]] = {
    "reached": {
        "email": "EMAIL_SEND",
        "push": "PUSHNOTIFICATION_SEND",
        "SMS": "SMS_SEND",
        "RCS": "RCS_SEND",
        "WhatsApp": "WHATSAPP_SEND",
        "LINE": "LINE_SEND",
        "content card": "CONTENTCARD_SEND",
        "webhook": "WEBHOOK_SEND",
        "in-app message": "INAPPMESSAGE_IMPRESSION",
        "banner": "BANNER_IMPRESSION",
        "feature flag": "FEATUREFLAG_IMPRESSION",
    },
    "delivered": {
        "email": "EMAIL_DELIVERY",
        "push": "PUSHNOTIFICATION_SEND PUSHNOTIFICATION_BOUNCE",
        "SMS": "SMS_DELIVERY",
        "RCS": "RCS_DELIVERY",
        "WhatsApp": "WHATSAPP_DELIVERY",
    },
    "seen": {
        "email": "EMAIL_OPEN",
        "push": "PUSHNOTIFICATION_OPEN PUSHNOTIFICATION_INFLUENCEDOPEN",
        "RCS": "RCS_READ",
        "WhatsApp": "WHATSAPP_READ",
        "content card": "CONTENTCARD_IMPRESSION",
        "in-app message": "INAPPMESSAGE_IMPRESSION",
        "banner": "BANNER_IMPRESSION",
        "feature flag": "FEATUREFLAG_IMPRESSION",
    },
    "clicked": {
        "email": "EMAIL_CLICK",
        "push": "PUSHNOTIFICATION_OPEN",
        "SMS": "SMS_SHORTLINKCLICK",
        "RCS": "RCS_CLICK",
        "WhatsApp": "WHATSAPP_CLICK",
        "LINE": "LINE_CLICK",
        "content card": "CONTENTCARD_CLICK",
        "in-app message": "INAPPMESSAGE_CLICK",
        "banner": "BANNER_CLICK",
    },
    "converted": {
        "campaigns": "CAMPAIGNS_CONVERSION",
        "Canvases": "CANVAS_CONVERSION",
        "experiment steps": "CANVAS_EXPERIMENTSTEP_CONVERSION",
    },
    "revenue": {
        "campaigns": "CAMPAIGNS_REVENUE",
        "Canvases": "CANVAS_REVENUE",
        "purchases": "BEHAVIORS_PURCHASE",
    },
    "opt-outs": {
        "email": "EMAIL_UNSUBSCRIBE EMAIL_MARKASSPAM",
        "subscription states": "BEHAVIORS_SUBSCRIPTION_GLOBALSTATECHANGE",
        "subscription groups": "BEHAVIORS_SUBSCRIPTIONGROUP_STATECHANGE",
    },
    "control group": {
        "campaigns": "CAMPAIGNS_ENROLLINCONTROL",
        "Canvases": "CANVAS_ENTRY",
        "experiment steps": "CANVAS_EXPERIMENTSTEP_SPLITENTRY",
        "all messages": "CHANGELOGS_GLOBALCONTROLGROUP",
    },
    "life of a user": {
        "first session": "BEHAVIORS_APP_FIRSTSESSION",
        "install": "BEHAVIORS_INSTALLATTRIBUTION",
        "sessions": "BEHAVIORS_APP_SESSIONSTART",
        "custom events": "BEHAVIORS_CUSTOMEVENT",
    },
    "identity": {"merged users": "USERORPHAN"},
    "names": {"campaigns": "CHANGELOGS_CAMPAIGN", "Canvases": "CHANGELOGS_CANVAS"},
}


def test_each_figure_is_taken_from_the_tables_that_tell_it() -> None:
    found: dict[str, dict[str, str]] = {}
    for one in FIGURES:
        short = [re.sub("^USERS_(MESSAGES_)?", "", need.table).removesuffix("_SHARED") for need in one.needs]
        found.setdefault(one.name, {})[one.scope] = " ".join(short)
    assert found == TOLD_BY


def test_a_table_that_is_missing_takes_its_figures_along_and_no_others() -> None:
    gone = [one for one in judge(share(**{OPEN: None})) if not one.possible]
    assert [one.sentence for one in gone] == [f"seen, email: not possible, as the share lacks table {OPEN}."]


def test_a_figure_of_two_tables_needs_both() -> None:
    bounce = "USERS_MESSAGES_PUSHNOTIFICATION_BOUNCE_SHARED"
    there = share(**{bounce: None})
    assert verdict("delivered", "push", there).missing == (f"table {bounce}",)
    assert verdict("reached", "push", there).possible


@pytest.mark.parametrize("column", ["ID", "USER_ID", "APP_GROUP_ID", "TIME", "CAMPAIGN_API_ID"])
def test_a_column_that_a_figure_cannot_do_without(column: str) -> None:
    found = verdict("seen", "email", share(**{OPEN: (column,)}))
    assert found.missing == (f"column {column} of {OPEN}",)


@pytest.mark.parametrize(
    ("columns", "limit"),
    [
        (("MACHINE_OPEN",), "with opens by machines among them"),
        (("CANVAS_API_ID", "CANVAS_VARIATION_API_ID"), "not of Canvases"),
        (("EXTERNAL_USER_ID",), "only of users that the ledger knows by braze_id"),
    ],
)
def test_a_column_that_makes_a_figure_finer(columns: tuple[str, ...], limit: str) -> None:
    found = verdict("seen", "email", share(**{OPEN: columns}))
    assert (found.possible, found.limits) == (True, (limit,))
    assert found.sentence == f"seen, email: {limit}."


def test_rows_that_name_the_variation_alone_are_of_a_canvas_by_who_got_into_it() -> None:
    """As Braze's own of RCS do."""
    entries = "USERS_CANVAS_ENTRY_SHARED"
    assert verdict("reached", "RCS", share()).limits == ()
    for there in (share(**{entries: None}), share(**{entries: ("CANVAS_VARIATION_API_ID",)})):
        assert verdict("reached", "RCS", there).limits == ("not of Canvases",)


def test_a_twin_with_the_archive_stands_in_for_a_table() -> None:
    there = share(**{OPEN: None})
    there[f"{OPEN}_ALL"] = set(catalogue()[OPEN]) - {"TIME"}
    assert table_in(there, OPEN) == f"{OPEN}_ALL"
    assert verdict("seen", "email", there).missing == (f"column TIME of {OPEN}_ALL",)
    assert table_in(share(), OPEN) == OPEN


UNREAD = (
    "USERS_RANDOMBUCKETNUMBERUPDATE_SHARED",
    "USERS_USERDELETEREQUEST_SHARED",
)


def test_a_table_that_nothing_reads_is_not_missed() -> None:
    there = {table: columns for table, columns in share().items() if table not in UNREAD}
    assert [one.sentence for one in judge(there) if not one.possible] == []
    # What is promised is read: by the measurements and timelines, and for the names of messages.
    needed = {need.table for figure in FIGURES for need in figure.needs}
    read = {f"CHANGELOGS_{area}_SHARED" for area in ("CAMPAIGN", "CANVAS", "GLOBALCONTROLGROUP")}
    assert needed <= {*LIFE, *read, "USERS_CANVAS_EXPERIMENTSTEP_SPLITENTRY_SHARED"}


def test_an_empty_share_yields_nothing() -> None:
    assert not [one for one in judge({}) if one.possible]
