"""What the source and the ledger say about one user, for ``kubit-braze why``.

The user's id stands in no statement, so not in Snowflake's query history either: rows are found by the MD5 of their
ids, and looked at once more here.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.explanation import Answer, Sent, SourceRow, Stay
from airflow_provider_kubit_braze.core.payload import alias_kind
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.warehouse.plan import every_identifier, refused, rows_of_source
from airflow_provider_kubit_braze.warehouse.plan_sql import USABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.identifiers import Identifier
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: Users whom rows of the source may name that hold one id, and newest changes, of which more would help nobody.
_MOST: Final = 20

# Of one import and one user: the first of these that is known is what counts. A rejection and a look-up that found
# nobody are about this very change; a doubt is removed as soon as a change is accepted.
_STRONGEST: Final[tuple[Answer, ...]] = ("rejected", "unmatched", "unknown", "accepted", "pending")

#: The import, the place, the kind and the user.
_Key = tuple[str, Place, str, str]


def ledger_kind(identifier: Identifier) -> str:
    """Return the ledger's name of a kind of identifier."""
    return identifier.kind if identifier.label is None else alias_kind(identifier.label)


def find_in_source(session: Session, cohort: Cohort, place: Place, user: str) -> list[SourceRow]:
    """Return the users named by rows that hold ``user`` under any of the cohort's identifiers.

    :raises SourceError: when Snowflake refuses the source.
    """
    rows, params = rows_of_source(cohort, place)
    names = every_identifier(cohort.identifiers) or ["USER_ID"]
    digest = _digest(user)
    where = " OR ".join(f"MD5({name}) = %s" for name in names)
    try:
        found = session.rows(
            f"SELECT DISTINCT ID_KIND,{USABLE} AS NAMED, HELD, ROW_HASH, {', '.join(names)} "
            f"FROM ({rows}) listed WHERE {where} LIMIT {_MOST}",
            [*params, *[digest] * len(names)],
        )
    except Exception as error:
        raise refused(cohort, error) from None
    kinds = [ledger_kind(one) for one in cohort.identifiers]
    return [
        SourceRow(
            id_kind=id_kind,
            user=named,
            found_by=tuple(kind for kind, value in zip(kinds, values, strict=True) if value == user),
            held_out=bool(held),
            row_hash=row_hash,
        )
        for id_kind, named, held, row_hash, *values in found
        if user in values
    ]


class Traces:
    """What the state tables hold of a few users of one cohort.

    :param session: a Snowflake session.
    :param tables: the state tables.
    :param key: workspace and cohort.
    :param users: their ids, whatever the kind.
    """

    def __init__(
        self, session: Session, tables: Tables, *, key: tuple[str, str], users: Iterable[str]
    ) -> None:
        self._session = session
        self._tables = tables
        self._key = key
        self._users = set(users)

    def read(self) -> tuple[list[Stay], list[Sent]]:
        """Return the users' stays, and what imports sent of them or looked up; both oldest first.

        Frozen plans are kept for 30 days; of earlier imports only what became of them is known.
        """
        rows = self._stays()
        planned = dict(self._planned())
        found: dict[_Key, Sent] = {}
        for key, one in [*planned.items(), *_accepted(rows), *self._noted(planned)]:
            other = found.get(key)
            if other is None or _STRONGEST.index(one.answer) <= _STRONGEST.index(other.answer):
                found[key] = one
        # What an import that has ended never sent is of no interest.
        sent = [one for one in found.values() if one.answer != "pending" or not one.ended]
        return [stay for stay, _, _ in rows], sorted(sent, key=lambda one: one.at)[-_MOST:]

    def _stays(self) -> list[tuple[Stay, str | None, str | None]]:
        """Return the stays, each with the imports that opened and closed it."""
        rows = self._rows(
            # The local Snowflake returns 1970 where a timestamp is null.
            "SELECT PLACE, ID_KIND, USER_ID, ENTERED_AT, ENTERED_RUN, LEFT_AT IS NULL, LEFT_AT, LEFT_RUN, HELD_OUT, "
            f"ENTERED_IMPORT, LEFT_IMPORT FROM {self._tables.membership} t WHERE {{mine}} ORDER BY ENTERED_AT"
        )
        return [
            (
                Stay(
                    place=Place.parse(place),
                    id_kind=id_kind,
                    user=user,
                    entered_at=_utc(entered_at),
                    entered_run=entered_run,
                    left_at=None if is_in else _utc(left_at),
                    left_run=left_run,
                    held_out=bool(held_out),
                ),
                *imports,
            )
            for place, id_kind, user, entered_at, entered_run, is_in, left_at, left_run, held_out, *imports in rows
        ]

    def _planned(self) -> Iterator[tuple[_Key, Sent]]:
        """Changes of plans that are still there, with what the progress says of them."""
        t = self._tables
        rows = self._rows(
            "SELECT t.PLACE, t.ID_KIND, t.USER_ID, t.IMPORT_ID, t.SEQ, t.ACTION, r.RUN_ID, r.STATE, "
            f"COALESCE(r.FINISHED_AT, r.STARTED_AT) AS MOMENT FROM {t.change} t "
            f"INNER JOIN {t.run} r ON r.IMPORT_ID = t.IMPORT_ID "
            f"WHERE {{mine}} AND t.ACTION IN ('enter', 'leave', 'refresh') ORDER BY MOMENT DESC LIMIT {_MOST}",
            of="r",
        )
        for place, id_kind, user, import_id, seq, action, run_id, state, moment in rows:
            statuses = self._statuses(import_id, int(seq))
            answer: Answer = (
                "accepted"
                if "settled" in statuses
                else "unknown"
                if "unknown" in statuses and state == "closed"
                else "pending"
            )
            where = Place.parse(place)
            yield (
                (import_id, where, id_kind, user),
                Sent(
                    at=_utc(moment),
                    run_id=run_id,
                    action=action,
                    place=where,
                    id_kind=id_kind,
                    user=user,
                    answer=answer,
                    ended=state == "closed",
                ),
            )

    def _statuses(self, import_id: str, seq: int) -> set[str]:
        rows = self._session.rows(
            f"SELECT DISTINCT STATUS FROM {self._tables.progress} "
            "WHERE IMPORT_ID = %s AND %s BETWEEN FIRST_SEQ AND LAST_SEQ",
            (import_id, seq),
        )
        return {status for (status,) in rows}

    def _noted(self, planned: Mapping[_Key, Sent]) -> Iterator[tuple[_Key, Sent]]:
        """Who was rejected, or turned out to be unknown to Braze, or was sent without a certain answer."""
        t = self._tables
        mine = "t.PLACE, t.ID_KIND, t.USER_ID, t.IMPORT_ID"
        no = "CAST(NULL AS VARCHAR)"
        queries: Sequence[tuple[Answer, str]] = (
            (
                "rejected",
                f"SELECT {mine}, t.RUN_ID, t.REJECTED_AT, t.ACTION, t.REASON, t.ROW_HASH, t.CLEARED_AT IS NOT NULL "
                f"FROM {t.rejected} t WHERE {{mine}}",
            ),
            (
                "unmatched",
                f"SELECT {mine}, t.RUN_ID, t.FOUND_AT, t.ACTION, t.REASON, {no}, FALSE "
                f"FROM {t.unmatched} t WHERE {{mine}}",
            ),
            (
                "unknown",
                f"SELECT {mine}, r.RUN_ID, t.RECORDED_AT, {no}, {no}, {no}, FALSE FROM {t.unknown} t "
                f"LEFT JOIN {t.run} r ON r.IMPORT_ID = t.IMPORT_ID WHERE {{mine}}",
            ),
        )
        for answer, sql in queries:
            for (
                place,
                id_kind,
                user,
                import_id,
                run_id,
                moment,
                action,
                reason,
                row_hash,
                cleared,
            ) in self._rows(sql):
                key = (import_id, Place.parse(place), id_kind, user)
                yield (
                    key,
                    Sent(
                        at=_utc(moment),
                        run_id=run_id,
                        action=action or (planned[key].action if key in planned else None),
                        place=key[1],
                        id_kind=id_kind,
                        user=user,
                        answer=answer,
                        reason=reason,
                        row_hash=row_hash,
                        cleared=bool(cleared),
                    ),
                )

    def _rows(self, sql: str, *, of: str = "t") -> list[tuple[Any, ...]]:
        """Return the rows of the users. Their columns begin with the place, the kind and the user.

        :param sql: has ``{mine}`` where the cohort and the users are to be asked for.
        :param of: the table that says whose rows they are.
        """
        marks = ", ".join(["%s"] * len(self._users))
        mine = f"{of}.WORKSPACE = %s AND {of}.COHORT_ID = %s AND MD5(t.USER_ID) IN ({marks})"
        rows = self._session.rows(
            sql.replace("{mine}", mine), [*self._key, *map(_digest, sorted(self._users))]
        )
        return [row for row in rows if row[2] in self._users]


def _accepted(rows: Iterable[tuple[Stay, str | None, str | None]]) -> Iterator[tuple[_Key, Sent]]:
    """What Braze accepted, as far as stays tell. Nothing is sent of those who are held out."""
    for stay, entered_import, left_import in rows:
        if stay.held_out:
            continue
        who = (stay.place, stay.id_kind, stay.user)
        entered = Sent(
            at=stay.entered_at,
            run_id=stay.entered_run,
            action="enter",
            place=stay.place,
            id_kind=stay.id_kind,
            user=stay.user,
            answer="accepted",
        )
        if entered_import:
            yield (entered_import, *who), entered
        if left_import and stay.left_at and stay.left_run:
            yield (left_import, *who), replace(entered, at=stay.left_at, run_id=stay.left_run, action="leave")


def _digest(user: str) -> str:
    return hashlib.md5(user.encode(), usedforsecurity=False).hexdigest()


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
