"""An impact is measured by what the share has: each figure by hand, in a world small enough to see through."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.measuring import measure_impact
from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction

    from tests.warehouse.conftest import Warehouse

from tests.warehouse.conftest import COHORT, WORKSPACE

APP_GROUP = "our-workspace"

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)

_numbers = count(1)


def at(text: str) -> int:
    """Return the epoch seconds of a moment of March 2026, such as ``02 10:00``."""
    return int(datetime.strptime(f"2026-03-{text} +0000", "%Y-%m-%d %H:%M %z").timestamp())


class World:
    """A share of its own, and the cohort's ledger."""

    def __init__(self, warehouse: Warehouse, without: Iterable[str] = ()) -> None:
        self.warehouse = warehouse
        self.share = f"SHARE_{next(_numbers)}.PUBLIC"
        make_share_tables(warehouse.session.connection, self.share, without=list(without))

    def row(self, table: str, user: str | None, moment: str, **values: Any) -> None:
        columns = catalogue()[table]
        seconds = at(moment)
        known: dict[str, Any] = {
            "ID": f"event {next(_numbers)}",
            "USER_ID": f"braze {user}",
            "EXTERNAL_USER_ID": user,
            "APP_GROUP_ID": APP_GROUP,
            "TIME": seconds,
            "SF_CREATED_AT": datetime.fromtimestamp(seconds + 60, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            **values,
        }
        given = {name: value for name, value in known.items() if name in columns}
        self.warehouse.session.execute(
            f"INSERT INTO {self.share}.{table} ({', '.join(given)}) VALUES ({', '.join(['%s'] * len(given))})",
            list(given.values()),
        )

    def message(self, area: str, user: str | None, moment: str, **values: Any) -> None:
        given = {"CAMPAIGN_API_ID": "spring", "MESSAGE_VARIATION_API_ID": "A", **values}
        self.row(f"USERS_MESSAGES_{area}_SHARED", user, moment, **given)

    def purchase(
        self, user: str | None, moment: str, price: float = 10.0, currency: str = "USD", **values: Any
    ) -> None:
        self.row("USERS_BEHAVIORS_PURCHASE_SHARED", user, moment, PRICE=price, CURRENCY=currency, **values)

    def stay(self, user: str, entered: str = "01 00:00", left: str | None = None, **values: Any) -> None:
        def text(moment: str) -> str:
            return datetime.fromtimestamp(at(moment), UTC).strftime("%Y-%m-%d %H:%M:%S")

        times = {"entered_at": text(entered)} | ({"left_at": text(left)} if left else {})
        self.warehouse.stay(user, **{**times, "entered_import": "none", **values})

    def measure(
        self,
        *,
        now: datetime = NOW,
        holdout: Fraction | None = None,
        full_refresh: bool = False,
        **question: Any,
    ) -> dict[str, Any]:
        asked = {
            "source": self.share,
            "app_group_id": APP_GROUP,
            "window": "7d",
            "since": "2026-03-01",
            **question,
        }
        report = measure_impact(
            ImpactQuestion(**asked),
            session=self.warehouse.session,
            tables=self.warehouse.tables,
            workspace=WORKSPACE,
            cohort_id=COHORT,
            now=now,
            holdout=holdout,
            full_refresh=full_refresh,
        )
        return report.as_dict()


@pytest.fixture
def world(warehouse: Warehouse) -> World:
    return World(warehouse)


def figures(report: dict[str, Any], number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = report["messages"][number]["figures"]
    return found


def test_the_life_of_a_message_is_counted_by_users(world: World) -> None:
    for user in ("ann", "bob", "cid"):
        world.stay(user)
        world.message("EMAIL_SEND", user, "02 10:00")
    for user in ("ann", "bob"):
        world.message("EMAIL_DELIVERY", user, "02 10:01")
        world.message("EMAIL_OPEN", user, "02 11:00")
    world.message("EMAIL_OPEN", "ann", "02 12:00")
    world.message("EMAIL_CLICK", "ann", "02 12:01")
    world.row(
        "USERS_CAMPAIGNS_CONVERSION_SHARED",
        "ann",
        "03 09:00",
        CAMPAIGN_API_ID="spring",
        CONVERSION_BEHAVIOR_INDEX=0,
    )
    world.row("USERS_CAMPAIGNS_REVENUE_SHARED", "ann", "03 09:00", CAMPAIGN_API_ID="spring", REVENUE=1999)
    world.message("EMAIL_UNSUBSCRIBE", "bob", "02 11:05")
    report = world.measure()
    assert figures(report) == {
        "reached": 3,
        "sends": 3,
        "delivered": 2,
        "seen": 2,
        "clicked": 1,
        "converted": 1,
        "revenue": 19.99,
        "opted_out": 1,
    }
    (message,) = report["messages"]
    assert [(one["channel"], one["figures"]["converted"]) for one in message["channels"]] == [("email", 1)]
    assert [
        (one["day"], one["figures"]["reached"], one["figures"]["converted"]) for one in message["days"]
    ] == [
        ("2026-03-02", 3, 0),
        ("2026-03-03", 0, 1),
    ]
