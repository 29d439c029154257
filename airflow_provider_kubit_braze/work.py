"""What every task of an import starts from: the cohort, the way to Snowflake and Braze, and the right to use it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.place import place_of
from airflow_provider_kubit_braze.delivery import PlanDelivery
from airflow_provider_kubit_braze.warehouse.lease import LEASE_SECONDS, Lease
from airflow_provider_kubit_braze.warehouse.ledger import Ledger
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.braze.engine import Patience
    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.journal import Counters, Journal
    from airflow_provider_kubit_braze.core.place import Place
    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
    from airflow_provider_kubit_braze.warehouse.lease import Leases


@dataclass(kw_only=True)
class Work:
    """What every task of an import has: what it is about, and the way to Snowflake and Braze.

    :param session: the task's own, for one thread.
    :param tell: is told how a delivery gets on, see ``PlanDelivery``.
    :param lease: the right to change the ledger, once it is taken.
    """

    cohort: Cohort
    settings: BrazeSettings
    place: Place
    tables: Tables
    identity: RunIdentity
    options: ImportOptions
    patience: Patience | None
    stop: threading.Event | None
    lease_seconds: float
    open_session: Callable[[], Session]
    session: Session
    tell: Callable[[int, int], None] | None = None
    lease: Lease | Leases | None = None

    @classmethod
    @contextmanager
    def begun(
        cls,
        cohort: Cohort,
        *,
        settings: BrazeSettings,
        connect: Callable[[], SnowflakeConnection],
        tables: Tables,
        identity: RunIdentity,
        options: ImportOptions,
        patience: Patience | None = None,
        stop: threading.Event | None = None,
        lease_seconds: float = LEASE_SECONDS,
        tell: Callable[[int, int], None] | None = None,
    ) -> Iterator[Work]:
        """Open a session and see that the state tables are there; raises what ``run_import`` does."""
        place = place_of(cohort, settings)
        if place.kind == "partner_cohort":
            settings.partner_keys()

        def open_session() -> Session:
            return Session(connect(), tag=identity.query_tag(cohort.id))

        session = open_session()
        try:
            ensure_tables(session, tables)
            yield cls(
                cohort=cohort,
                settings=settings,
                place=place,
                tables=tables,
                identity=identity,
                options=options,
                patience=patience,
                stop=stop,
                lease_seconds=lease_seconds,
                open_session=open_session,
                session=session,
                tell=tell,
            )
        finally:
            session.close()

    @property
    def key(self) -> tuple[str, str]:
        """Workspace and cohort."""
        return self.settings.workspace, self.cohort.id

    def new_lease(self, part: str = "", **kwargs: Any) -> Lease:
        """Return a lease of the cohort that is not taken yet, or of a part of an import of it."""
        workspace, cohort_id = self.key
        return Lease(
            self.open_session,
            self.tables,
            (workspace, cohort_id + part),
            self.identity,
            stop=self.stop,
            seconds=self.lease_seconds,
            **kwargs,
        )

    def ledger(self, session: Session | None = None, *, shard: int = 0) -> Ledger:
        """Return the ledger on the task's session, or on another one."""
        return Ledger(
            session or self.session,
            self.tables,
            workspace=self.settings.workspace,
            cohort_id=self.cohort.id,
            lease=self.lease,
            shard=shard,
        )

    def permit(self) -> None:
        """Raise when no more may be sent."""
        if self.lease is not None:
            self.lease.check()

    @contextmanager
    def delivery(
        self, plan: Plan, journal: Journal, spent: Callable[[], Counters], *, shard: int = 0
    ) -> Iterator[PlanDelivery]:
        """Prepare to send what is left of a plan; progress is written on a session of its own."""
        scribe = self.open_session()
        try:
            yield PlanDelivery(
                plan=plan,
                cohort=self.cohort,
                settings=self.settings,
                session=self.session,
                tables=self.tables,
                scribe=self.ledger(scribe, shard=shard),
                identity=self.identity,
                journal=journal,
                spent=spent,
                permit=self.permit,
                patience=self.patience,
                tell=self.tell,
            )
        finally:
            scribe.close()
