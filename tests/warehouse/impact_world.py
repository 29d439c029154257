"""A workspace in a share, and a cohort in the ledger: a world small enough to see through."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.measuring import measure_alone, measure_impact
from airflow_provider_kubit_braze.warehouse.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox
    from tests.warehouse.conftest import Warehouse

WORKSPACE, COHORT = "workspace", "vips"

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)

#: The share that tests have in common: each has an app group of its own there.
IMPACT_SHARE = "IMPACT_SHARE.PUBLIC"

#: Channels that no test of this share needs: every table makes each measurement take longer.
OTHER_CHANNELS = (
    "BANNER",
    "CONTENTCARD",
    "FEATUREFLAG",
    "LINE_",
    "LIVEACTIVITY",
    "NEWSFEED",
    "RCS",
    "WEBHOOK",
    "WHATSAPP",
)

_numbers = count(1)


def at(text: str) -> int:
    """Return the epoch seconds of a moment of March 2026, ``02 10:00``, another month, ``01-02 10:00``, or year."""
    whole = f"{'2026-03-'[: len('2026-03-02 10:00') - len(text)]}{text}"
    return int(datetime.strptime(f"{whole} +0000", "%Y-%m-%d %H:%M %z").timestamp())


class World:
    """A workspace in a share, and the cohort's ledger."""

    def __init__(self, warehouse: Warehouse, share: str) -> None:
        self.warehouse = warehouse
        self.share = share
        self.app_group = f"workspace-{next(_numbers)}"

    def row(self, table: str, user: str | None, moment: str, **values: Any) -> None:
        columns = catalogue()[table]
        seconds = at(moment)
        known: dict[str, Any] = {
            "ID": f"event {next(_numbers)}",
            "USER_ID": f"braze {user}",
            "EXTERNAL_USER_ID": user,
            "APP_GROUP_ID": self.app_group,
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
        self,
        user: str | None,
        moment: str,
        price: float | None = 10.0,
        currency: str | None = "USD",
        **values: Any,
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
        fence: Callable[[], None] | None = None,
        **question: Any,
    ) -> dict[str, Any]:
        asked = {
            "source": self.share,
            "app_group_id": self.app_group,
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
            fence=fence,
        )
        return report.as_dict()

    def measure_alone(self, sandbox: Sandbox, **question: Any) -> None:
        """Measure as a task does, with a lease of its own, as run ``r1``."""
        measure_alone(
            ImpactQuestion(source=self.share, app_group_id=self.app_group, **question),
            open_session=lambda: Session(sandbox.connect(), tag={"app": "tests"}),
            identity=RunIdentity(dag_id="d", run_id="r1"),
            tables=self.warehouse.tables,
            workspace=WORKSPACE,
            cohort_id=COHORT,
            now=NOW,
        )


def figures(report: dict[str, Any], number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = report["messages"][number]["figures"]
    return found
