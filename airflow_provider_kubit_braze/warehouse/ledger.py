"""The ledger: what Braze accepted, import by import.

An import goes through these states: ``planned`` (its plan is frozen, nothing was sent), ``sending``, ``paused``
(stopped in good order, so that what is uncertain is written down) and ``closed``. Found open by a later task, a
``sending`` import is one that died: whatever has no verdict may have been sent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.ranges import Range, count, gaps, merge
from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.warehouse.progress import COSTS, Progress, now_text
from airflow_provider_kubit_braze.warehouse.runs import FIGURES, read_figures
from airflow_provider_kubit_braze.warehouse.stays import (
    apply_changes,
    count_by_action,
    count_users,
    doubt_users,
    utc_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kubit_braze.core.journal import Counters
    from airflow_provider_kubit_braze.core.place import Place

State = Literal["planned", "sending", "paused", "closed"]

#: Days for which the plan of an import that has ended is kept, for whoever wants to look into it.
KEPT_DAYS: Final = 30

#: A result tells so many of the reasons for rejections, and so many characters of each.
_MOST_REASONS: Final = 5
_WORDS_LENGTH: Final = 200

# Fields of Plan whose columns are named otherwise: the plain names are the result's.
_RENAMED: Final = {
    "in_braze": "USERS_BEFORE",
    "enter": "TO_ENTER",
    "leave": "TO_LEAVE",
    "refresh": "TO_REFRESH",
    "quiet": "TO_NOTE",
}
_PLAN: Final = {field.name: _RENAMED.get(field.name, field.name.upper()) for field in fields(Plan)}
_IDENTITY: Final = [field.name for field in fields(RunIdentity)]


@dataclass(frozen=True, kw_only=True)
class OpenImport:
    """An import whose plan is not closed yet.

    :param plan: its frozen plan.
    :param state: how far it came.
    :param identity: the task instance it belongs to.
    :param started_at: when its first try began, UTC.
    :param counters: what its earlier tries cost.
    """

    plan: Plan
    state: State
    identity: RunIdentity
    started_at: datetime
    counters: Counters


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What the ledger says about an import and its cohort.

    :param added: entrants that Braze accepted.
    :param removed: leavers that Braze accepted.
    :param rejected: changes that Braze refused.
    :param unknown: changes without a certain answer.
    :param users_imported: users now in the cohort in Braze.
    """

    added: int
    removed: int
    rejected: int
    unknown: int
    users_imported: int


class Ledger(Progress):
    """The state tables as seen by one cohort in one workspace; takes what ``Progress`` takes."""

    def has_several_kinds(self, import_id: str) -> bool:
        """Whether a plan has users by different identifiers, of whom two may be one person."""
        (kinds,) = self._session.row(
            f"SELECT COUNT(DISTINCT ID_KIND) FROM {self._tables.change} WHERE IMPORT_ID = %s", (import_id,)
        )
        return int(kinds) > 1

    def open_imports(self) -> list[OpenImport]:
        """Return the imports that were begun and not closed, oldest first. More than one is rare."""
        columns = [*_PLAN.values(), *map(str.upper, _IDENTITY), "STATE", "STARTED_AT"]
        rows = self._session.rows(
            f"SELECT {', '.join(columns)} FROM {self._tables.run} "
            "WHERE WORKSPACE = %s AND COHORT_ID = %s AND STATE <> 'closed' ORDER BY STARTED_AT",
            self._key,
        )
        return [self._open_import(dict(zip(columns, row, strict=True))) for row in rows]

    def _open_import(self, row: Mapping[str, Any]) -> OpenImport:
        def number(value: Any) -> Any:
            return value if isinstance(value, str) else int(value or 0)

        return OpenImport(
            plan=Plan(**{name: number(row[column]) for name, column in _PLAN.items()}),
            state=row["STATE"],
            identity=RunIdentity(**{name: number(row[name.upper()]) for name in _IDENTITY}),
            started_at=row["STARTED_AT"].replace(tzinfo=UTC),
            counters=self.spent(row["IMPORT_ID"]),
        )

    def begin(
        self,
        plan: Plan,
        identity: RunIdentity,
        *,
        cohort_name: str,
        place: Place,
        started_at: datetime,
        state: State = "planned",
        undone: str | None = None,
    ) -> None:
        """Write the row of a new import, in the transaction that freezes its plan."""
        workspace, cohort_id = self._key
        self._insert(
            self._tables.run,
            [
                {
                    **{column: getattr(plan, name) for name, column in _PLAN.items()},
                    **{name.upper(): value for name, value in asdict(identity).items()},
                    "WORKSPACE": workspace,
                    "COHORT_ID": cohort_id,
                    "COHORT_NAME": cohort_name,
                    "PLACE": str(place),
                    "STATE": state,
                    "UNDONE": undone,
                    "STARTED_AT": utc_text(started_at),
                }
            ],
        )

    def start_sending(self, plan: Plan, *, try_number: int) -> None:
        """Say that from now on requests may go out."""

        def start() -> None:
            self._sending = None
            self._doubt_a_dead_try(plan)
            self._session.execute(
                f"UPDATE {self._tables.run} SET STATE = 'sending', TRY_NUMBER = %s WHERE IMPORT_ID = %s",
                (try_number, plan.import_id),
            )

        self.transact(start)
        self._sending = plan.import_id

    def _doubt_a_dead_try(self, plan: Plan) -> None:
        """Note, when an earlier try died while sending, that any of what it has not settled may have been sent."""
        (state,) = self._session.row(
            f"SELECT STATE FROM {self._tables.run} WHERE IMPORT_ID = %s", (plan.import_id,)
        )
        if state == "sending" and self._sending != plan.import_id:
            rest = gaps(self.settled(plan.import_id), plan.to_send)
            self._insert_ranges(plan.import_id, rest, "unknown")

    def named(self, import_id: str, name: str) -> None:
        """Write down that Braze knows the partner cohort by this name now."""
        self._session.execute(
            f"UPDATE {self._tables.run} SET NAMED_AS = %s WHERE IMPORT_ID = %s", (name, import_id)
        )

    def pause(self, plan: Plan, unknown: list[Range], *, run_id: str) -> None:
        """Commit what was accepted so far and write down what is uncertain, so that a later try goes on from here.

        Part of the caller's transaction, as are ``give_up`` and ``commit``; the state goes with the result.
        """
        self._doubt_a_dead_try(plan)
        self._apply(plan.import_id, self.settled(plan.import_id), run_id=run_id)
        self._insert_ranges(plan.import_id, unknown, "unknown")

    def give_up(self, plan: Plan, *, run_id: str) -> None:
        """Commit what was accepted of a plan that cannot be finished, and doubt all the rest."""
        settled = self.settled(plan.import_id)
        self._apply(plan.import_id, settled, run_id=run_id)
        self._doubt(plan.import_id, gaps(settled, plan.to_send))

    def abandon(self, found: OpenImport) -> None:
        """Close an import that nobody will continue: keep what was accepted, doubt what may have been sent."""
        import_id = found.plan.import_id

        def close() -> None:
            settled = self.settled(import_id)
            unknown = {
                "planned": [],
                "paused": self.doubtful(found.plan),
                "sending": gaps(settled, found.plan.to_send),
            }[found.state]
            self._apply(import_id, settled, run_id=found.identity.run_id)
            self._doubt(import_id, unknown)
            totals = self.totals(import_id, unknown)
            values = {
                **asdict(totals),
                "unchanged": found.plan.unchanged,
                **{name: getattr(found.counters, name) for name in COSTS},
            }
            assignments = ", ".join(f"{name.upper()} = %s" for name in values)
            self._session.execute(
                f"UPDATE {self._tables.run} SET STATE = 'closed', OUTCOME = 'failed', {assignments}, "
                "FINISHED_AT = COALESCE(FINISHED_AT, CAST(%s AS TIMESTAMP_NTZ)), "
                "ERROR = COALESCE(ERROR, 'The import died; a later one took over.') WHERE IMPORT_ID = %s",
                (*values.values(), now_text(), import_id),
            )

        self.transact(close)

    def commit(self, plan: Plan, unknown: list[Range], *, run_id: str) -> None:
        """Make every accepted change a stay and note the uncertain ones."""
        quiet = [Range(plan.to_send + 1, plan.size)] if plan.quiet else []
        self._apply(plan.import_id, merge([*self.settled(plan.import_id), *quiet]), run_id=run_id)
        self._doubt(plan.import_id, unknown)

    def totals(self, import_id: str, unknown: list[Range]) -> Totals:
        """Count what the import has come to."""
        accepted = count_by_action(self._session, self._tables, import_id, self.settled(import_id))
        # Two tries may both have heard about one user.
        (rejected,) = self._session.row(
            f"SELECT COUNT(DISTINCT SEQ) FROM {self._tables.rejected} WHERE IMPORT_ID = %s", (import_id,)
        )
        return Totals(
            added=accepted.get("enter", 0),
            removed=accepted.get("leave", 0),
            rejected=int(rejected),
            unknown=count(unknown),
            users_imported=self.users_imported(),
        )

    def reasons(self, import_id: str) -> dict[str, int]:
        """Return Braze's words for what it rejected, the most frequent first, with how often it said them.

        The words of one user's rejection may name that user: the id is taken out, and what then is equal counts as one.
        """
        rows = self._session.rows(
            "SELECT WORDS, COUNT(*) AS TIMES FROM ("
            "SELECT SEQ, MIN(LEFT(REPLACE(REASON, USER_ID, '…'), %s)) AS WORDS "
            f"FROM {self._tables.rejected} WHERE IMPORT_ID = %s GROUP BY SEQ) said "
            "GROUP BY WORDS ORDER BY TIMES DESC, WORDS LIMIT %s",
            (_WORDS_LENGTH, import_id, _MOST_REASONS),
        )
        return {str(words): int(times) for words, times in rows}

    def write_result(self, import_id: str, result: ImportResult, *, state: State) -> None:
        """Write the result into the import's row."""
        columns = {
            name.upper(): json.dumps(value) if isinstance(value, dict) else value
            for name, value in result.to_dict().items()
            if name not in ("cohort_id", "cohort_name", "run_id", "started_at", "finished_at")
        }
        assignments = ", ".join(f"{name} = %s" for name in columns)
        self._session.execute(
            f"UPDATE {self._tables.run} SET {assignments}, STATE = %s, FINISHED_AT = CAST(%s AS TIMESTAMP_NTZ) "
            "WHERE IMPORT_ID = %s",
            [*columns.values(), state, utc_text(datetime.fromisoformat(result.finished_at)), import_id],
        )

    def result(self, import_id: str) -> ImportResult | None:
        """Return the result of an import that was closed; None when there is none."""
        rows = self._session.rows(
            f"SELECT {', '.join(map(str.upper, FIGURES))} FROM {self._tables.run} "
            "WHERE IMPORT_ID = %s AND STATE = 'closed' AND OUTCOME IS NOT NULL",
            (import_id,),
        )
        return ImportResult(**read_figures(dict(zip(FIGURES, rows[0], strict=True)))) if rows else None

    def drop_plan(self, import_id: str) -> None:
        """Forget the changes of a plan that will never be sent."""
        self._session.execute(f"DELETE FROM {self._tables.change} WHERE IMPORT_ID = %s", (import_id,))

    def prune(self) -> None:
        """Remove the plans, and the progress, of this cohort's imports that ended long ago.

        Nothing needs them any more: stays, rejections and results have what they say.
        """
        old = (
            f"SELECT IMPORT_ID FROM {self._tables.run} WHERE WORKSPACE = %s AND COHORT_ID = %s "
            f"AND STATE = 'closed' AND FINISHED_AT < DATEADD(day, -{KEPT_DAYS}, SYSDATE())"
        )
        for table in (self._tables.change, self._tables.progress):
            self._session.execute(f"DELETE FROM {table} WHERE IMPORT_ID IN ({old})", self._key)

    def users_imported(self) -> int:
        """Return how many users are in the cohort in Braze, as far as Braze accepted."""
        return count_users(self._session, self._tables, self._key)

    def _apply(self, import_id: str, settled: list[Range], *, run_id: str) -> None:
        apply_changes(
            self._session, self._tables, key=self._key, import_id=import_id, run_id=run_id, settled=settled
        )

    def _doubt(self, import_id: str, unknown: list[Range]) -> None:
        doubt_users(self._session, self._tables, key=self._key, import_id=import_id, unknown=unknown)
