"""What a day more costs to measure, when years lie behind it.

A share of 1,000,000 events a day, of four workspaces, in the order in which Braze delivers them: e-mails sent,
delivered, opened and clicked, and purchases, of a million users, of whom 100,000 are in the cohort and a tenth of those
are held out. One purchase in a hundred is of an anonymous profile, which is merged into its user's on the same day;
profile views are not in the share. A day is added and measured, some times, while there are ten days of history; and
again when there are a hundred. What is measured is the whole of `measure_impact`: finding what has arrived, the days
that it changes, the figures of the period and the verdict; of the last eight days, and of the ninety that are asked for
by default, whose figures are read from what was measured before; for that question there is no target. The clock is the
wall's, as most of the work is the local Snowflake's.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.measuring import measure_impact
from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables
from bench.rows import Row, spent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.sizes import Sizes

_SHARE: Final = "BENCH_SHARE.PUBLIC"
_KEY: Final = ("bench", "bench")
_FIRST: Final = date(2026, 1, 1)
_DAY: Final = timedelta(days=1)

#: Table -> the share of a day's events in it, and what it has besides who and when.
_TABLES: Final[dict[str, tuple[float, dict[str, str]]]] = {
    "USERS_MESSAGES_EMAIL_SEND_SHARED": (0.30, {"CAMPAIGN_API_ID": "'spring'"}),
    "USERS_MESSAGES_EMAIL_DELIVERY_SHARED": (0.30, {"CAMPAIGN_API_ID": "'spring'"}),
    "USERS_MESSAGES_EMAIL_OPEN_SHARED": (0.25, {"CAMPAIGN_API_ID": "'spring'", "MACHINE_OPEN": "'false'"}),
    "USERS_MESSAGES_EMAIL_CLICK_SHARED": (0.05, {"CAMPAIGN_API_ID": "'spring'"}),
    "USERS_BEHAVIORS_PURCHASE_SHARED": (0.10, {"PRICE": "MOD(N, 90) + 10", "CURRENCY": "'USD'"}),
    "USERS_USERORPHAN_SHARED": (0.001, {"ORPHANED_BY_ID": "'braze-' || U"}),
}

#: Whose profile a row is of, where that is not always its user's. A day's first purchases are of the users who are
#: merged on it, as N makes a user alike in every table.
_PROFILES: Final = {
    "USERS_BEHAVIORS_PURCHASE_SHARED": "CASE WHEN N < {rows} / 100 THEN 'anonymous-' ELSE 'braze-' END",
    "USERS_USERORPHAN_SHARED": "'anonymous-'",
}

# A prime step spreads events over users, workspaces and the hours of a day.
_EVENTS: Final = """
INSERT INTO {share}.{table} (ID, USER_ID, EXTERNAL_USER_ID, APP_GROUP_ID, TIME, SF_CREATED_AT, {more})
SELECT '{day}-' || N, P || U, CASE WHEN P = 'braze-' THEN 'user-' || U END, 'workspace-' || MOD(N, 4),
    {start} + CAST(FLOOR(N * 86399.0 / {rows}) AS INTEGER),
    TO_TIMESTAMP_NTZ({start} + 300 + CAST(FLOOR(N * 86399.0 / {rows}) AS INTEGER)), {values}
FROM (
    SELECT N, U, {profile} AS P FROM (
        SELECT SEQ4() AS N, MOD(SEQ4() * 7919 + {number} * 104729, {users}) AS U
        FROM TABLE(GENERATOR(ROWCOUNT => {rows}))
    ) n
) e
"""


class _Share:
    """The share as it grows."""

    def __init__(self, session: Session, sizes: Sizes) -> None:
        self.session = session
        self.sizes = sizes
        self.days = 0
        self.tables = Tables("BENCH_IMPACT")
        make_share_tables(session.connection, _SHARE)
        ensure_tables(session, self.tables)
        members = sizes.impact_events // 10
        session.execute(
            f"INSERT INTO {self.tables.membership} (WORKSPACE, COHORT_ID, ID_KIND, USER_ID, ENTERED_AT, HELD_OUT) "
            f"SELECT %s, %s, 'external_id', 'user-' || (N * 10), CAST(%s AS TIMESTAMP_NTZ), MOD(N, 10) = 0 "
            f"FROM (SELECT SEQ4() AS N FROM TABLE(GENERATOR(ROWCOUNT => {members}))) n",
            (*_KEY, _FIRST.isoformat()),
        )

    def add_day(self) -> None:
        day = _FIRST + self.days * _DAY
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        for table, (share, more) in _TABLES.items():
            rows = int(self.sizes.impact_events * share)
            self.session.execute(
                _EVENTS.format(
                    share=_SHARE,
                    table=table,
                    more=", ".join(more),
                    values=", ".join(more.values()),
                    day=day,
                    start=start,
                    number=self.days,
                    users=self.sizes.impact_events,
                    rows=rows,
                    profile=_PROFILES.get(table, "'braze-'").format(rows=rows),
                )
            )
        self.days += 1

    def grow(self, days: int) -> None:
        while self.days < days:
            self.add_day()

    def measure(self, days: int | None = None) -> dict[str, Any]:
        """Measure the last days, or the period that is the default, when the last day is over."""
        over = _FIRST + self.days * _DAY
        question = ImpactQuestion(
            source=_SHARE,
            app_group_id="workspace-0",
            window="7d",
            since=None if days is None else over - days * _DAY,
        )
        return measure_impact(
            question,
            session=self.session,
            tables=self.tables,
            workspace=_KEY[0],
            cohort_id=_KEY[1],
            now=datetime(over.year, over.month, over.day, tzinfo=UTC),
        ).as_dict()


def impact(sizes: Sizes) -> Iterator[Row]:
    """Measure days when few and when many lie behind them."""
    few, many = sizes.impact_days
    found: dict[tuple[int, str], float] = {}
    with Sandbox(services=("snowflake",)) as sandbox:
        session = Session(sandbox.connect(), tag={"app": "bench"})
        share = _Share(session, sizes)
        for history in (few, many):
            share.grow(history)
            report = share.measure()
            short, whole = [], []
            for _ in range(sizes.impact_rounds):
                share.add_day()
                short.append(spent(lambda: share.measure(8), time.perf_counter))
                whole.append(spent(share.measure, time.perf_counter))
            found[history, "short"] = statistics.median(short)
            found[history, "whole"] = statistics.median(whole)
        session.close()
    events = many * sizes.impact_events
    reached = report["messages"][0]["figures"]["reached"]
    yield Row(
        what=f"One more day, after {many} days and {events:,} events",
        against=f"the same after {few} days",
        figure=found[many, "short"] / found[few, "short"],
        most=1.5,
        note=f"{reached:,} users of the cohort reached",
    )
    yield Row(
        what="The same with the figures of the last 90 days",
        against=f"the same after {few} days, of which there are then no more",
        figure=found[many, "whole"] / found[few, "whole"],
    )
