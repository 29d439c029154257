"""The life of a user, from a share of Braze's data and the ledger; that of a cohort is in ``cohort_days``.

Rows are read as for an impact, see ``impact_stage``: of one workspace, each once, by whom they belong to now.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_provider_kubit_braze.core.impact.life import (
    LIFE,
    Moment,
    UserTimeline,
    split_tables,
)
from airflow_provider_kubit_braze.warehouse.impact_people import stays_of, views_of
from airflow_provider_kubit_braze.warehouse.impact_stage import Stage, Staged, union
from airflow_provider_kubit_braze.warehouse.share_check import read_inventory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.share_views import ShareViews
    from airflow_provider_kubit_braze.warehouse.state import Tables

_DAY: Final = timedelta(days=1)

_NAMES: Final = {"campaign": "CHANGELOGS_CAMPAIGN_SHARED", "canvas": "CHANGELOGS_CANVAS_SHARED"}

_ENTRIES: Final = "USERS_CANVAS_ENTRY_SHARED"

#: Identifiers by which the profile views may know a user.
_KINDS: Final = ("braze_id", "email", "external_id", "phone")

# One second's rows in the order of LIFE; the user came in before whatever that brought, and left after it.
_RANKS: Final = {table: rank for rank, table in enumerate(LIFE, 1)}

_MOMENTS: Final = """
SELECT SRC, BY_MACHINE, UID, XID, MOMENT, KIND, MESSAGE_ID, VARIATION_ID, NAME, CURRENCY, AMOUNT, IN_CONTROL,
    COUNT(*) OVER () AS OF_ALL
FROM ({rows}) e ORDER BY MOMENT DESC, RANK DESC, BY_MACHINE, MESSAGE_ID, VARIATION_ID, NAME, AMOUNT LIMIT {limit}
"""


class _Row(NamedTuple):
    """A row of ``_MOMENTS``."""

    table: str
    by_machine: bool
    profile: str
    external_id: str | None
    moment: int
    kind: str | None
    message_id: str | None
    variation: str | None
    name: str | None
    currency: str | None
    amount: float | None
    in_control: bool | None
    of_all: int


def user_timeline(
    question: ImpactQuestion,
    user: str,
    *,
    session: Session,
    tables: Tables,
    workspace: str,
    cohort_id: str,
    now: datetime,
    limit: int = 200,
) -> UserTimeline:
    """Return what is known of one user, in its order; no state table is changed.

    :param question: where the share is, and of which days; without a first one everything that the share has.
    :param user: any identifier of the user.
    :param session: a session whose role may read the share and the state tables.
    :param tables: names of the state tables.
    :param workspace: key of the Braze workspace, as the ledger has it.
    :param cohort_id: the cohort whose stays are told.
    :param now: an aware moment; nothing after it has happened.
    :param limit: the latest so many moments.
    :raises SourceError: when the share cannot be read; with the SQL that helps.
    :raises CohortConfigError: when the first day is still to come.
    """
    _, last = question.begun_days(now)
    first = question.starts(question.since) if question.since else 0
    period = (first, min(question.starts(last + _DAY), int(now.timestamp()) + 1))
    life = _Life(session, question, period, now)
    if not was_imported(session, tables, (workspace, cohort_id)):
        life.notes.append(
            f"No stay is told: no import has ever brought anybody of cohort {cohort_id!r} into workspace {workspace}; "
            "correct the cohort's id or the connection to Braze, or import the cohort first."
        )
    return life.of(user, tables=tables, key=(workspace, cohort_id), limit=limit)


def was_imported(session: Session, tables: Tables, key: tuple[str, str]) -> bool:
    """Whether the ledger has anybody of a cohort.

    :param key: workspace and cohort.
    """
    sql = f"SELECT 1 FROM {tables.membership} WHERE WORKSPACE = %s AND COHORT_ID = %s LIMIT 1"
    return bool(session.rows(sql, key))


class _Life:
    """What the share and the ledger have of somebody."""

    def __init__(
        self, session: Session, question: ImpactQuestion, period: tuple[int, int], now: datetime
    ) -> None:
        self._session = session
        self._inventory = read_inventory(session, question.source).since(period[0], now=now)
        self._stage = Stage(self._inventory, app_group_id=question.app_group_id)
        self._app_group_id = question.app_group_id
        self._first, self._until = period
        self._tables, self._missing = split_tables(self._inventory.columns, list(LIFE))
        self.notes: list[str] = []

    def of(self, user: str, *, tables: Tables, key: tuple[str, str], limit: int) -> UserTimeline:
        views = views_of(self._session, self._inventory, app_group_id=self._app_group_id, notes=self.notes)
        profiles = self._profiles(user, views)
        # Or the identifier is a profile's own.
        rows = self._rows(sorted(profiles | {user}), limit)
        profiles |= {row.profile for row in rows}
        names = {("external_id", row.external_id) for row in rows if row.external_id is not None}
        names |= {("braze_id", one) for one in profiles} | self._named(sorted(profiles), views)
        stays = self._stays(tables, key, user, names)
        moments = sorted([*self._moments(rows), *stays], key=lambda one: one[0])
        return UserTimeline(
            moments=[moment for _, moment in moments[-limit:]],
            left_out=(int(rows[0].of_all) if rows else 0) - len(rows) + max(0, len(moments) - limit),
            profiles=len(profiles),
            missing=self._missing,
            notes=self.notes,
        )

    # -- who it is ------------------------------------------------------------------------------------------------

    def _profiles(self, user: str, views: ShareViews | None) -> set[str]:
        """Return the profiles that are named so, with all that were merged with them."""
        named = self._stage.aliases(
            self._tables,
            first=self._first,
            until=self._until,
            orphans=None,
            among=Staged("SELECT %s", [user]),
        )
        rows = self._session.rows(named.sql, named.params)
        found = {str(profile) for _, profile in rows if profile is not None}
        if views is not None:
            clauses, params = views.names([kind for kind in _KINDS if views.has(kind)])
            sql = f"WITH {clauses} SELECT DISTINCT PROFILE FROM names WHERE WHO = %s"
            found |= {str(profile) for (profile,) in views.ask(sql, [*params, user])}
        survivors = self._stage.survivors()
        if survivors is None:
            return found
        heirs = self._merged(survivors, "ORPHAN", "SURVIVOR", {user, *found})
        return found | heirs | self._merged(survivors, "SURVIVOR", "ORPHAN", {user, *found, *heirs})

    def _merged(self, survivors: Staged, given: str, wanted: str, profiles: Iterable[str]) -> set[str]:
        some = sorted(profiles)
        marks = ", ".join(["%s"] * len(some))
        sql = f"SELECT DISTINCT {wanted} FROM ({survivors.sql}) m WHERE {given} IN ({marks})"
        return {str(profile) for (profile,) in self._session.rows(sql, [*survivors.params, *some])}

    def _named(self, profiles: Sequence[str], views: ShareViews | None) -> set[tuple[str, str]]:
        """Return kind and identifier of all that the profile views call these profiles."""
        if views is None or not profiles:
            return set()
        clauses, params = views.names([kind for kind in _KINDS if views.has(kind)])
        marks = ", ".join(["%s"] * len(profiles))
        sql = f"WITH {clauses} SELECT DISTINCT KIND, WHO FROM names WHERE PROFILE IN ({marks})"
        return {(kind, who) for kind, who in views.ask(sql, [*params, *profiles])}

    # -- what happened ---------------------------------------------------------------------------------------------

    def _rows(self, profiles: Sequence[str], limit: int) -> list[_Row]:
        """Return the latest rows about some profiles."""
        parts = []
        for table in self._tables:
            for machines in (False, True) if self._stage.has_machines(table) else (False,):
                rows = self._stage.rows(
                    table,
                    first=self._first,
                    until=self._until,
                    orphans=None,
                    profiles=profiles,
                    machines=machines,
                )
                shown = f"{_RANKS[table]} AS RANK, {machines} AS BY_MACHINE, r.*"
                parts.append(Staged(f"SELECT {shown} FROM ({rows.sql}) r", rows.params))
        if not parts:
            return []
        everything = union(parts)
        sql = _MOMENTS.format(rows=everything.sql, limit=int(limit))
        found = [_Row(*row) for row in self._session.rows(sql, everything.params)]
        return self._with_canvases(found)

    def _with_canvases(self, rows: list[_Row]) -> list[_Row]:
        """Return rows with the Canvas that they are about where they name its variation alone."""
        unnamed = {row.table for row in rows if row.kind is None and row.variation}
        query = self._stage.canvases(sorted(unnamed), first=self._first)
        if query is None:
            return rows
        canvases = dict(self._session.rows(query.sql, query.params))
        return [
            row._replace(kind="canvas", message_id=canvases[row.variation])
            if row.kind is None and row.table in unnamed and row.variation in canvases
            else row
            for row in rows
        ]

    def _moments(self, rows: Sequence[_Row]) -> Iterator[tuple[tuple[int, int], Moment]]:
        """Yield when, and what."""
        messages = self._messages({(row.kind or "", row.message_id) for row in rows if row.message_id})
        for row in rows:
            chapter = LIFE[row.table]
            what = f"{chapter.what} by a machine" if row.by_machine else chapter.what
            if row.table == _ENTRIES and row.in_control:
                what = "kept out by Braze"
            moment = Moment(
                at=datetime.fromtimestamp(int(row.moment), UTC),
                what=what,
                channel=chapter.channel,
                kind=row.kind or "",
                message_id=row.message_id or "",
                message=messages.get((row.kind or "", row.message_id or ""), ""),
                variation=row.variation or "",
                detail=row.name or "",
                amount=None if row.amount is None else float(row.amount),
                currency=row.currency,
            )
            yield (int(row.moment), _RANKS[row.table]), moment

    def _messages(self, ids: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return the names of messages, as far as the share knows them."""
        found: dict[tuple[str, str], str] = {}
        for kind, table in _NAMES.items():
            query = self._stage.names(table, sorted(one for of, one in ids if of == kind))
            if query is not None:
                rows = self._session.rows(query.sql, query.params)
                found |= {(kind, one): name for one, name in rows if name}
        return found

    def _stays(
        self, tables: Tables, key: tuple[str, str], user: str, names: set[tuple[str, str]]
    ) -> Iterator[tuple[tuple[int, int], Moment]]:
        """Yield when the user came into the cohort, and went."""
        stays, params = stays_of(tables, key)
        some = sorted(names)
        named = " OR ".join(["USER_ID = %s", *(["ID_KIND = %s AND USER_ID = %s"] * len(some))])
        found = self._session.rows(
            f"SELECT HELD_OUT, START_AT, END_AT FROM ({stays}) s WHERE {named}",
            [*params, user, *(value for pair in some for value in pair)],
        )
        for held, *edges in found:
            what = "held out of the cohort" if held else "entered the cohort"
            left = "held out no more" if held else "left the cohort"
            ranks = (0, len(_RANKS) + 1)
            for moment, words, rank in zip(edges, (what, left), ranks, strict=True):
                if self._first <= moment < self._until:
                    yield (int(moment), rank), Moment(at=datetime.fromtimestamp(int(moment), UTC), what=words)
