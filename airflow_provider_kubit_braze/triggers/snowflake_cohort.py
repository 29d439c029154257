"""Wait for a cohort in the triggerer, holding no worker."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_kubit_braze.core.readiness import Readiness, Requirement, judge
from airflow_provider_kubit_braze.warehouse.measure import measure_cohort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READY = "ready"
TIMEOUT = "timeout"
ERROR = "error"


def look_at_cohort(
    *,
    snowflake_conn_id: str,
    table: str | None,
    sql: str | None,
    requirement: Requirement,
    reference: datetime,
    tag: dict[str, str] | None = None,
) -> Readiness:
    """Measure a cohort over a connection of its own and judge it; blocks while Snowflake works.

    :param snowflake_conn_id: the Airflow connection to Snowflake.
    :param table: the cohort's table; or
    :param sql: a SELECT that returns its rows.
    :param requirement: what the cohort must show.
    :param reference: the moment its age is measured against.
    :param tag: what the ``QUERY_TAG`` of the statement says.
    :raises CohortConfigError: if the table or the column is no name.
    :raises SourceError: if Snowflake refuses the statement, or the ready column holds no date or time.
    """
    # Importing the connector takes seconds, and this module is imported whenever a DAG file is parsed.
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

    with closing(SnowflakeHook(snowflake_conn_id=snowflake_conn_id).get_conn()) as connection:
        measure = measure_cohort(
            connection,
            table=table,
            sql=sql,
            column=requirement.column,
            count=requirement.min_members > 0,
            tag=tag,
        )
    return judge(measure, requirement, reference)


class SnowflakeCohortTrigger(BaseTrigger):
    """Look at a cohort again and again until it is ready, and say so once.

    The event is ``{"status": "ready" | "timeout" | "error", "reason": <one phrase>}``. Snowflake is asked
    from a thread, each time over a new connection, so the triggerer's event loop is never held up.

    :param snowflake_conn_id: the Airflow connection to Snowflake.
    :param table: the cohort's table; or
    :param sql: a SELECT that returns its rows.
    :param ready_column: the column that tells when the cohort was computed.
    :param within: how old its newest value may be at most, in seconds.
    :param min_members: rows the cohort must have at least.
    :param reference: the moment the age is measured against; None takes the moment of each look.
    :param poll_interval: seconds between two looks; the first comes after one interval, since the sensor has
        just looked itself.
    :param deadline: the moment after which nothing is waited for any more. It is absolute, so that a
        restarted triggerer does not begin to wait anew.
    :param tag: what the ``QUERY_TAG`` of the statements says.
    """

    def __init__(
        self,
        *,
        snowflake_conn_id: str,
        table: str | None,
        sql: str | None,
        ready_column: str | None,
        within: float | None,
        min_members: int,
        reference: datetime | None,
        poll_interval: float,
        deadline: datetime,
        tag: dict[str, str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.snowflake_conn_id = snowflake_conn_id
        self.table = table
        self.sql = sql
        self.ready_column = ready_column
        self.within = within
        self.min_members = min_members
        self.reference = reference
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.tag = tag

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and every argument of the constructor."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "snowflake_conn_id": self.snowflake_conn_id,
                "table": self.table,
                "sql": self.sql,
                "ready_column": self.ready_column,
                "within": self.within,
                "min_members": self.min_members,
                "reference": self.reference,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "tag": self.tag,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield exactly one event."""
        yield TriggerEvent(await self._outcome())  # type: ignore[no-untyped-call]

    async def _outcome(self) -> dict[str, str]:
        reason = "the cohort was not ready"
        while (left := (self.deadline - datetime.now(UTC)).total_seconds()) > 0:
            await asyncio.sleep(min(self.poll_interval, left))
            try:
                # Not asyncio.to_thread: Airflow 3.0 and 3.1 find the triggerer's loop, which the look-up of
                # the connection needs, only from a thread of asgiref. Not thread-sensitive: that is one
                # thread for all.
                readiness = await sync_to_async(self._look, thread_sensitive=False)()
            except Exception as error:
                self.log.exception("The cohort cannot be looked at")
                return {"status": ERROR, "reason": " ".join(str(error).split()) or type(error).__name__}
            if readiness.ready:
                self.log.info("Ready: %s", readiness.reason)
                return {"status": READY, "reason": readiness.reason}
            reason = readiness.reason
            self.log.info("Not ready: %s", reason)
        return {"status": TIMEOUT, "reason": reason}

    def _look(self) -> Readiness:
        return look_at_cohort(
            snowflake_conn_id=self.snowflake_conn_id,
            table=self.table,
            sql=self.sql,
            requirement=Requirement(
                min_members=self.min_members,
                within=None if self.within is None else timedelta(seconds=self.within),
                column=self.ready_column,
                table=self.table,
            ),
            reference=self.reference or datetime.now(UTC),
            tag=self.tag,
        )
