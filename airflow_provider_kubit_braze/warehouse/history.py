"""What earlier imports of a cohort left behind: where its users are, what can be undone, what Braze calls it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.core.run import COMMAND, RunIdentity
from airflow_provider_kubit_braze.exceptions import NothingToUndoError, WorkspaceChangedError
from airflow_provider_kubit_braze.warehouse.lease import Lease
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import ensure_tables
from airflow_provider_kubit_braze.warehouse.stays import utc_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.core.place import Place
    from airflow_provider_kubit_braze.warehouse.state import Tables


@dataclass(frozen=True, kw_only=True)
class Changed:
    """The last import that changed who is in the cohort.

    :param import_id: key of the import.
    :param identity: the task instance it belonged to; ``try_number`` is 0.
    :param started_at: when it began, UTC.
    :param added: users it added.
    :param removed: users it removed.
    :param undone: for an undo, the import that it reversed.
    """

    import_id: str
    identity: RunIdentity
    started_at: datetime
    added: int
    removed: int
    undone: str | None = None

    @property
    def run_id(self) -> str:
        """The Airflow run it belonged to."""
        return self.identity.run_id


class History:
    """The state tables as seen by one cohort, before it plans an import.

    :param session: a Snowflake session.
    :param tables: names of the state tables.
    :param workspace: key of the Braze workspace.
    :param cohort_id: the cohort.
    """

    def __init__(self, session: Session, tables: Tables, *, workspace: str, cohort_id: str) -> None:
        self._session = session
        self._tables = tables
        self._workspace = workspace
        self._cohort_id = cohort_id
        self._key = (workspace, cohort_id)

    def see_that_nobody_is_elsewhere(self) -> None:
        """Refuse to import a cohort that still has users in another workspace: nobody would take them out there.

        :raises WorkspaceChangedError: with the ways out.
        """
        t = self._tables
        rows = self._session.rows(
            "SELECT WORKSPACE, SUM(N) FROM ("
            f"SELECT WORKSPACE, COUNT(*) AS N FROM {t.membership} "
            "WHERE COHORT_ID = %s AND WORKSPACE <> %s AND LEFT_AT IS NULL AND NOT HELD_OUT GROUP BY WORKSPACE "
            f"UNION ALL SELECT WORKSPACE, COUNT(*) AS N FROM {t.unknown} "
            "WHERE COHORT_ID = %s AND WORKSPACE <> %s GROUP BY WORKSPACE "
            # Of an import that did not end, anybody may be in who was to enter and is no stay yet.
            f"UNION ALL SELECT r.WORKSPACE, COUNT(*) AS N FROM {t.run} r "
            f"INNER JOIN {t.change} c ON c.IMPORT_ID = r.IMPORT_ID AND c.ACTION = 'enter' "
            f"LEFT JOIN {t.membership} m ON m.WORKSPACE = r.WORKSPACE AND m.COHORT_ID = r.COHORT_ID "
            "AND m.PLACE = c.PLACE AND m.ID_KIND = c.ID_KIND AND m.USER_ID = c.USER_ID AND m.LEFT_AT IS NULL "
            "WHERE r.COHORT_ID = %s AND r.WORKSPACE <> %s AND r.STATE IN ('sending', 'paused') AND m.USER_ID IS NULL "
            "GROUP BY r.WORKSPACE"
            ") others GROUP BY WORKSPACE HAVING SUM(N) > 0 ORDER BY WORKSPACE",
            [self._cohort_id, self._workspace] * 3,
        )
        if rows:
            others = " and ".join(f"{int(number):,} in {workspace}" for workspace, number in rows)
            workspace = rows[0][0]
            raise WorkspaceChangedError(
                f"Cohort {self._cohort_id!r} is to be imported into workspace {self._workspace}, but it still has "
                f"users in another one: {others}. Take them out there first (kubit-braze retire {self._cohort_id} "
                f"--braze-conn-id <that connection>), or, if that workspace is gone, let them go (kubit-braze retire "
                f"{self._cohort_id} --forget --workspace {workspace!r}). Two deployments that import one cohort into "
                "two workspaces need a [kubit_braze] state_schema each."
            )

    def last_change(self) -> Changed:
        """Return the import that an undo reverses: the last one that added or removed somebody, or may have.

        :raises NothingToUndoError: when there is none.
        """
        t = self._tables
        rows = self._session.rows(
            f"SELECT r.IMPORT_ID, r.DAG_ID, r.RUN_ID, r.TASK_ID, r.MAP_INDEX, r.STARTED_AT, r.ADDED, r.REMOVED, "
            f"r.PURPOSE, r.UNDONE FROM {t.run} r "
            "WHERE r.WORKSPACE = %s AND r.COHORT_ID = %s AND r.OUTCOME IN ('success', 'partial', 'failed') "
            "AND r.IMPORT_ID IN ("
            f"SELECT ENTERED_IMPORT FROM {t.membership} WHERE WORKSPACE = %s AND COHORT_ID = %s "
            f"UNION SELECT LEFT_IMPORT FROM {t.membership} WHERE WORKSPACE = %s AND COHORT_ID = %s "
            f"UNION SELECT IMPORT_ID FROM {t.unknown} WHERE WORKSPACE = %s AND COHORT_ID = %s) "
            "ORDER BY r.STARTED_AT DESC LIMIT 1",
            [*self._key] * 4,
        )
        if not rows:
            raise NothingToUndoError(
                f"Cohort {self._cohort_id!r} has no import in workspace {self._workspace} that could be undone."
            )
        import_id, dag_id, run_id, task_id, map_index, started_at, added, removed, purpose, undone = rows[0]
        return Changed(
            import_id=import_id,
            identity=RunIdentity(
                dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=int(map_index), try_number=0
            ),
            started_at=started_at.replace(tzinfo=UTC),
            added=int(added),
            removed=int(removed),
            undone=undone if purpose == "undo" else None,
        )

    def has_ended_well(self, identity: RunIdentity) -> bool:
        """Whether an import of this very task has ended without an error: what follows is a repetition."""
        rows = self._session.rows(
            f"SELECT 1 FROM {self._tables.run} WHERE WORKSPACE = %s AND COHORT_ID = %s AND DAG_ID = %s "
            "AND RUN_ID = %s AND TASK_ID = %s AND MAP_INDEX = %s "
            "AND STATE = 'closed' AND OUTCOME IN ('success', 'partial', 'unchanged') LIMIT 1",
            (*self._key, identity.dag_id, identity.run_id, identity.task_id, identity.map_index),
        )
        return bool(rows)

    def name_at(self, place: Place) -> str | None:
        """Return by what name Braze knows the partner cohort, None if it does not."""
        rows = self._session.rows(
            f"SELECT NAMED_AS FROM {self._tables.run} WHERE WORKSPACE = %s AND COHORT_ID = %s AND PLACE = %s "
            "AND NAMED_AS IS NOT NULL ORDER BY STARTED_AT DESC LIMIT 1",
            (*self._key, str(place)),
        )
        return str(rows[0][0]) if rows else None

    def forget(self, lease: Lease) -> int:
        """Close every stay without telling Braze, for a workspace that is gone; return how many were in Braze.

        :param lease: the cohort's, so that no import writes them down again.
        """
        t, now = self._tables, utc_text(datetime.now(UTC))

        def close() -> int:
            (users,) = self._session.row(
                f"SELECT COUNT(*) FROM {t.membership} "
                "WHERE WORKSPACE = %s AND COHORT_ID = %s AND LEFT_AT IS NULL AND NOT HELD_OUT",
                self._key,
            )
            self._session.execute(
                f"UPDATE {t.membership} SET LEFT_AT = CAST(%s AS TIMESTAMP_NTZ), LEFT_RUN = 'forgotten' "
                "WHERE WORKSPACE = %s AND COHORT_ID = %s AND LEFT_AT IS NULL",
                (now, *self._key),
            )
            # Nothing before this can be undone any more.
            self._session.execute(
                f"UPDATE {t.membership} SET ENTERED_IMPORT = NULL, LEFT_IMPORT = NULL "
                "WHERE WORKSPACE = %s AND COHORT_ID = %s",
                self._key,
            )
            self._session.execute(
                f"DELETE FROM {t.unknown} WHERE WORKSPACE = %s AND COHORT_ID = %s", self._key
            )
            self._session.execute(
                f"UPDATE {t.run} SET STATE = 'closed', OUTCOME = 'failed', ERROR = 'The workspace was given up.', "
                "FINISHED_AT = CAST(%s AS TIMESTAMP_NTZ) "
                "WHERE WORKSPACE = %s AND COHORT_ID = %s AND STATE <> 'closed'",
                (now, *self._key),
            )
            lease.fence(self._session)
            return int(users)

        return self._session.transact(close)


def forget_cohort(
    cohort_id: str, *, connect: Callable[[], SnowflakeConnection], tables: Tables, workspace: str
) -> int:
    """Close the stays of a cohort in a workspace that is gone, without telling Braze.

    :return: how many users were in the cohort there.
    :raises CohortBusyError: when the cohort is being imported there.
    """

    def open_session() -> Session:
        return Session(connect(), tag={"app": "kubit_braze", "cohort": cohort_id})

    session = open_session()
    try:
        ensure_tables(session, tables)
        identity = RunIdentity(dag_id="", run_id=f"forget__{uuid.uuid4().hex}", task_id=COMMAND)
        lease = Lease(open_session, tables, (workspace, cohort_id), identity)
        with lease.held(session):
            return History(session, tables, workspace=workspace, cohort_id=cohort_id).forget(lease)
    finally:
        session.close()
