"""One import of a cohort at a time, wherever the others run: a row with an owner and an expiry.

Airflow keeps the runs of one DAG apart; the lease keeps apart two DAGs, two deployments, the command line, and a
process that Airflow took for dead and that is not. It does three things:

- *take*: a free or expired lease is taken at once; so is that of an earlier try of the same task, which Airflow has
  given up. Any other one is watched: once it is renewed its owner lives, and once it expires its owner is dead.
- *fence*: the last statement of every transaction that changes the ledger is an update of the lease's row by its
  owner. An owner that has lost it meanwhile changes nothing.
- *check*: an owner that could not renew its lease stops sending before it expires, as Braze cannot be fenced.

An import in shards is several tasks, one after the other and beside each other. The lease then belongs to the import:
the task that plans hands it over, every shard holds it together with the others (and beside it one of its own, so that
two tries of one shard exclude each other), and the task that commits takes it for itself.

Times are Snowflake's, so workers' clocks may differ.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.exceptions import CohortBusyError, ImportInterruptedError, LeaseLostError
from airflow_provider_kubit_braze.warehouse.session import Session, first_line, is_contention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)

#: Seconds until the lease of an owner that does not renew it expires: what a later import waits at most for a dead one.
LEASE_SECONDS: Final = 90.0

# An owner renews after this share of the lease, and sends nothing more in the last part of it.
_RENEW: Final = 1 / 4
_MARGIN: Final = 1 / 4

# Seconds between two looks at somebody else's lease.
_LOOK: Final = 5.0


@dataclass(frozen=True)
class _Holder:
    owner: str
    identity: RunIdentity
    expires_at: object
    remaining: float

    @property
    def words(self) -> str:
        who = self.identity
        return f"DAG {who.dag_id}, run {who.run_id}, task {who.task_id}, try {who.try_number}"


class Lease:
    """The right to import one cohort.

    :param connect: opens a Snowflake connection for the thread that renews; called only by an import that takes long.
    :param tables: the state tables.
    :param key: workspace and cohort.
    :param identity: the task instance, so that others see who it is.
    :param tag: for the query tag.
    :param stop: set when the import is to end early.
    :param seconds: how long the lease lasts without renewal.
    :param shared_by: the import whose tasks hold the lease together: it is taken as one of them, and not given back.
    :param after: the import whose tasks held the lease together until now; it is taken from them at once.
    :param busy: what another owner does, as a sentence begins with it; default: that the cohort is being imported.
    :param lost: the same of the one who has taken it over.
    """

    def __init__(
        self,
        connect: Callable[[], Session],
        tables: Tables,
        key: tuple[str, str],
        identity: RunIdentity,
        *,
        stop: threading.Event | None = None,
        seconds: float = LEASE_SECONDS,
        shared_by: str | None = None,
        after: str | None = None,
        busy: str | None = None,
        lost: str | None = None,
    ) -> None:
        self._busy = busy or f"Cohort {key[1]!r} is being imported"
        self._lost_to = lost or f"Another task imports cohort {key[1]!r}"
        self._connect = connect
        self._table = tables.lease
        self._key = key
        self._identity = identity
        self._stop = stop or threading.Event()
        self._seconds = seconds
        self._owner = _owner_of(shared_by) if shared_by else uuid.uuid4().hex
        self._is_shared = shared_by is not None
        # Whoever this is, it is the same import.
        self._predecessors = {self._owner, _owner_of(after)} if after else {self._owner}
        self._held_until = (0.0, 0.0)
        self._lost = False
        self._done = threading.Event()
        self._keeper: threading.Thread | None = None

    # -- take and give back -----------------------------------------------------------------------------------------

    @contextmanager
    def held(self, session: Session) -> Iterator[None]:
        """Take the lease, and give it back whatever happens meanwhile; raises what ``take`` does."""
        self.take(session)
        try:
            yield
        finally:
            self.release(session)

    def take(self, session: Session) -> None:
        """Take the lease, or wait until its owner proves to be alive or dead.

        :raises CohortBusyError: when another import of the cohort is running.
        :raises ImportInterruptedError: when the import is to end meanwhile.
        """
        seen: _Holder | None = None
        while True:
            before = self._now()
            holder = self._holder(session)
            if self._update(session, holder):
                break
            # The other tasks of this import, or what is left of an earlier try, are only in the way for a moment.
            if holder is not None and not self._may_succeed(holder):
                if seen is not None and (seen.owner, seen.expires_at) != (holder.owner, holder.expires_at):
                    raise CohortBusyError(
                        f"{self._busy} by another task ({holder.words}); "
                        "this one can go on when that has ended."
                    )
                if seen is None:
                    log.info(
                        "Another task holds this cohort (%s). If it is dead its lease expires in %.0f s.",
                        holder.words,
                        holder.remaining,
                    )
                seen = holder
            if self._stop.wait(min(_LOOK, self._seconds / 8, holder.remaining + 0.05 if holder else 0.05)):
                raise ImportInterruptedError("The task was asked to end while it waited for another import.")
        if holder is not None and holder.owner not in self._predecessors:
            log.warning(
                "Took over this cohort's lease from %s, which %s.",
                holder.words,
                "expired: its owner is dead"
                if holder.remaining <= 0
                else "is an earlier try of this task; should it still be alive, it cannot change the ledger any more",
            )
        self._hold(before)
        self._keeper = threading.Thread(target=self._keep, name="kubit-braze-lease", daemon=True)
        self._keeper.start()

    def hand_over(self, session: Session, import_id: str) -> None:
        """Leave the lease to the other tasks of an import; they have as long as it lasts to take it up.

        :raises LeaseLostError: when somebody else has it by now.
        """
        self._stop_renewing()
        cursor = session.execute(
            f"UPDATE {self._table} SET OWNER = %s, EXPIRES_AT = DATEADD(millisecond, %s, SYSDATE()) "
            "WHERE WORKSPACE = %s AND COHORT_ID = %s AND OWNER = %s",
            (_owner_of(import_id), self._milliseconds, *self._key, self._owner),
        )
        if not cursor.rowcount:
            self._lost = True
            raise self._lost_error()

    def _stop_renewing(self) -> None:
        self._done.set()
        if self._keeper is not None:
            self._keeper.join()

    def release(self, session: Session) -> None:
        """Give the lease back; it may be somebody else's by now."""
        self._stop_renewing()
        if self._is_shared:
            return
        try:
            session.execute(
                f"UPDATE {self._table} SET OWNER = NULL, EXPIRES_AT = SYSDATE() "
                "WHERE WORKSPACE = %s AND COHORT_ID = %s AND OWNER = %s",
                (*self._key, self._owner),
            )
        except Exception as error:
            # The import is over, well or badly; the lease expires by itself.
            log.warning("The lease could not be given back and expires by itself: %s", first_line(error))

    def _holder(self, session: Session) -> _Holder | None:
        """Return who holds the lease, also when it has expired; None when it is free."""
        rows = session.rows(
            "SELECT OWNER, DAG_ID, RUN_ID, TASK_ID, MAP_INDEX, TRY_NUMBER, EXPIRES_AT, "
            f"DATEDIFF(millisecond, SYSDATE(), EXPIRES_AT) FROM {self._table} "
            "WHERE WORKSPACE = %s AND COHORT_ID = %s ORDER BY EXPIRES_AT DESC",
            self._key,
        )
        if not rows:
            session.execute(
                f"INSERT INTO {self._table} (WORKSPACE, COHORT_ID, EXPIRES_AT) "
                "SELECT %s, %s, SYSDATE() FROM (SELECT 1 AS ONE) one "
                f"WHERE NOT EXISTS (SELECT 1 FROM {self._table} WHERE WORKSPACE = %s AND COHORT_ID = %s)",
                (*self._key, *self._key),
            )
            return None
        owner, dag_id, run_id, task_id, map_index, try_number, expires_at, milliseconds = rows[0]
        if owner is None:
            return None
        identity = RunIdentity(
            dag_id=dag_id,
            run_id=run_id,
            task_id=task_id,
            map_index=int(map_index),
            try_number=int(try_number),
        )
        return _Holder(owner, identity, expires_at, int(milliseconds) / 1000)

    def _update(self, session: Session, holder: _Holder | None) -> bool:
        who = self._identity
        given_up = holder.owner if holder is not None and self._may_succeed(holder) else None
        try:
            session.execute(
                f"UPDATE {self._table} SET OWNER = %s, DAG_ID = %s, RUN_ID = %s, TASK_ID = %s, MAP_INDEX = %s, "
                "TRY_NUMBER = %s, TAKEN_AT = SYSDATE(), EXPIRES_AT = DATEADD(millisecond, %s, SYSDATE()) "
                "WHERE WORKSPACE = %s AND COHORT_ID = %s "
                "AND (OWNER IS NULL OR EXPIRES_AT <= SYSDATE() OR OWNER = %s)",
                (
                    self._owner,
                    who.dag_id,
                    who.run_id,
                    who.task_id,
                    who.map_index,
                    who.try_number,
                    self._milliseconds,
                    *self._key,
                    given_up,
                ),
            )
        except Exception as error:
            if not is_contention(error):
                raise
            return False
        # Two that meet at the first import may both have made a row; whoever is in all of them has the lease.
        rows = session.rows(
            f"SELECT OWNER FROM {self._table} WHERE WORKSPACE = %s AND COHORT_ID = %s", self._key
        )
        return bool(rows) and all(owner == self._owner for (owner,) in rows)

    def _may_succeed(self, holder: _Holder) -> bool:
        """Whether the holder is the same import, or an earlier try of the same task."""
        mine = self._identity
        return holder.owner in self._predecessors or (
            replace(holder.identity, try_number=0) == replace(mine, try_number=0)
            and holder.identity.try_number < mine.try_number
        )

    # -- keep ---------------------------------------------------------------------------------------------------

    def fence(self, session: Session) -> None:
        """Prove, as the last statement of a transaction, that the lease is still held; it is renewed by that.

        :raises LeaseLostError: when somebody else has it. The transaction has to be rolled back.
        """
        before = self._now()
        cursor = session.execute(
            f"UPDATE {self._table} SET EXPIRES_AT = DATEADD(millisecond, %s, SYSDATE()) "
            "WHERE WORKSPACE = %s AND COHORT_ID = %s AND OWNER = %s",
            (self._milliseconds, *self._key, self._owner),
        )
        if not cursor.rowcount:
            self._lost = True
            raise self._lost_error()
        self._hold(before)

    def look(self, session: Session) -> None:
        """Prove it as ``fence`` does, but only by looking: for notes that are true whoever writes them down.

        :raises LeaseLostError: when somebody else has it.
        """
        rows = session.rows(
            f"SELECT OWNER FROM {self._table} WHERE WORKSPACE = %s AND COHORT_ID = %s", self._key
        )
        if all(owner != self._owner for (owner,) in rows):
            self._lost = True
            raise self._lost_error()

    def check(self) -> None:
        """See, without asking Snowflake, whether another request may go out to Braze.

        :raises LeaseLostError: when the lease is lost, or could not be renewed in time.
        :raises ImportInterruptedError: when the import is to end.
        """
        if self._stop.is_set():
            raise ImportInterruptedError(
                "The task was asked to end. What Braze accepted is recorded; a retry goes on from there."
            )
        if self._lost:
            raise self._lost_error()
        if any(now > until for now, until in zip(self._now(), self._held_until, strict=True)):
            raise LeaseLostError(
                f"The lease of cohort {self._key[1]!r} could not be renewed in time (is Snowflake out of reach?), "
                "so the import stops sending before another one may begin."
            )

    def _keep(self) -> None:
        session: Session | None = None
        wait = self._seconds * _RENEW
        try:
            while not self._done.wait(wait):
                wait = self._seconds * _RENEW
                try:
                    session = session or self._connect()
                    self.fence(session)
                except LeaseLostError as error:
                    log.warning("%s", error)
                    return
                except Exception as error:
                    log.warning("The lease could not be renewed, trying again: %s", first_line(error))
                    wait = min(5.0, self._seconds / 20)
        finally:
            if session is not None:
                session.close()

    def _hold(self, before: tuple[float, float]) -> None:
        # Both clocks: one stands still while a machine sleeps, the other one may be set.
        self._held_until = (
            before[0] + self._seconds * (1 - _MARGIN),
            before[1] + self._seconds * (1 - _MARGIN),
        )

    def _now(self) -> tuple[float, float]:
        return time.monotonic(), time.time()

    def _lost_error(self) -> LeaseLostError:
        return LeaseLostError(
            f"{self._lost_to} by now; this one stops, and changes nothing in the state tables."
        )

    @property
    def _milliseconds(self) -> int:
        return int(self._seconds * 1000)


class Leases:
    """Several leases that are only worth anything together.

    :param leases: the leases.
    """

    def __init__(self, *leases: Lease) -> None:
        self._leases = leases

    def fence(self, session: Session) -> None:
        """Do as ``Lease.fence`` does, for each of them."""
        for lease in self._leases:
            lease.fence(session)

    def look(self, session: Session) -> None:
        """Do as ``Lease.look`` does, for each of them."""
        for lease in self._leases:
            lease.look(session)

    def check(self) -> None:
        """Do as ``Lease.check`` does, for each of them."""
        for lease in self._leases:
            lease.check()


def part_of(import_id: str, shard: int) -> str:
    """Return what follows the cohort's id in the key of the lease of one shard."""
    return f"/{import_id}/{shard}"


def forget_parts(session: Session, tables: Tables, key: tuple[str, str], import_id: str) -> None:
    """Remove the leases of an import's shards: it is over, and whoever still holds one has lost it."""
    workspace, cohort_id = key
    start = f"{cohort_id}/{import_id}/"
    session.execute(
        f"DELETE FROM {tables.lease} WHERE WORKSPACE = %s AND SUBSTR(COHORT_ID, 1, {len(start)}) = %s",
        (workspace, start),
    )


def _owner_of(import_id: str) -> str:
    return f"import {import_id}"
