"""Accepted changes become stays: the set-based statements behind a commit.

Every statement may be repeated without harm: a stay is closed only while it is open, and opened only where none is.
All of them run inside the caller's transaction.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_kubit_braze.core.ranges import Range
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

Key = tuple[str, str]

_T = TypeVar("_T")

#: What one statement takes: it stays well below Snowflake's limit of 1 MB of SQL text and is compiled quickly.
_PER_STATEMENT: Final = 500

_STAY = "WORKSPACE = %s AND COHORT_ID = %s AND LEFT_AT IS NULL"


def chunks(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield ``rows`` in pieces that fit into one statement each."""
    for start in range(0, len(rows), _PER_STATEMENT):
        yield rows[start : start + _PER_STATEMENT]


def utc_text(moment: datetime) -> str:
    """Write a moment as Snowflake reads it into a TIMESTAMP_NTZ, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def count_by_action(
    session: Session, tables: Tables, import_id: str, settled: Sequence[Range]
) -> dict[str, int]:
    """Count the accepted changes of an import."""
    found: Counter[str] = Counter()
    for ranges in chunks(settled):
        rows = session.rows(
            f"SELECT ACTION, COUNT(*) FROM ({_accepted(tables, ranges)}) a GROUP BY ACTION",
            (import_id, import_id),
        )
        found.update({action: int(number) for action, number in rows})
    return found


def count_users(session: Session, tables: Tables, key: Key) -> int:
    """Count the users who are in the cohort in Braze, as far as Braze accepted."""
    (users,) = session.row(f"SELECT COUNT(*) FROM {tables.membership} WHERE {_STAY} AND NOT HELD_OUT", key)
    return int(users)


def apply_changes(
    session: Session, tables: Tables, *, key: Key, import_id: str, run_id: str, settled: Sequence[Range]
) -> None:
    """Close and open the stays of every accepted change in ``settled``.

    :param key: workspace and cohort.
    :param run_id: the run that the stays name.
    :param settled: ranges that have their verdict; rejected changes in them are left out.
    """
    now = utc_text(datetime.now(UTC))
    for ranges in chunks(settled):
        _apply(session, tables, key, import_id, run_id, now, ranges)


def _apply(
    session: Session, tables: Tables, key: Key, import_id: str, run_id: str, now: str, ranges: Sequence[Range]
) -> None:
    accepted = _accepted(tables, ranges)
    ids = (import_id, import_id)
    # A member who was held out so far, or is from now on, changes from one stay to another.
    session.execute(
        f"UPDATE {tables.membership} SET LEFT_AT = CAST(%s AS TIMESTAMP_NTZ), LEFT_RUN = %s "
        f"FROM ({accepted}) gone "
        f"WHERE {_STAY} AND ID_KIND = gone.KIND AND USER_ID = gone.WHO "
        "AND (gone.ACTION = 'leave' AND NOT (HELD_OUT AND gone.HELD) "
        "OR gone.ACTION IN ('drop', 'enter') AND HELD_OUT)",
        (now, run_id, *ids, *key),
    )
    session.execute(
        f"INSERT INTO {tables.membership} "
        "(WORKSPACE, COHORT_ID, ID_KIND, USER_ID, ENTERED_AT, ENTERED_RUN, HELD_OUT) "
        "SELECT %s, %s, a.KIND, a.WHO, CAST(%s AS TIMESTAMP_NTZ), %s, a.HELD "
        f"FROM ({accepted}) a "
        f"LEFT JOIN (SELECT ID_KIND, USER_ID FROM {tables.membership} WHERE {_STAY}) s "
        "ON s.ID_KIND = a.KIND AND s.USER_ID = a.WHO "
        "WHERE s.USER_ID IS NULL AND (a.ACTION IN ('enter', 'refresh', 'hold') OR a.ACTION = 'leave' AND a.HELD)",
        (*key, now, run_id, *ids, *key),
    )
    session.execute(
        f"DELETE FROM {tables.unknown} USING ({accepted}) sure "
        "WHERE WORKSPACE = %s AND COHORT_ID = %s AND ID_KIND = sure.KIND AND USER_ID = sure.WHO",
        (*ids, *key),
    )


def doubt_users(
    session: Session, tables: Tables, *, key: Key, import_id: str, unknown: Sequence[Range]
) -> None:
    """Note the users whose change has no certain answer: the next import sends them what is right by then."""
    now = utc_text(datetime.now(UTC))
    for ranges in chunks(unknown):
        session.execute(
            f"INSERT INTO {tables.unknown} (WORKSPACE, COHORT_ID, ID_KIND, USER_ID, IMPORT_ID, RECORDED_AT) "
            "SELECT %s, %s, a.KIND, a.WHO, %s, CAST(%s AS TIMESTAMP_NTZ) "
            f"FROM ({_accepted(tables, ranges)}) a",
            (*key, import_id, now, import_id, import_id),
        )


def _accepted(tables: Tables, ranges: Sequence[Range]) -> str:
    """Return the query of an import's changes in ``ranges`` that Braze did not reject; takes the import id twice."""
    within = " OR ".join(f"c.SEQ BETWEEN {first} AND {last}" for first, last in ranges)
    return (
        f"SELECT c.ACTION, c.ID_KIND AS KIND, c.USER_ID AS WHO, c.HELD_OUT AS HELD FROM {tables.change} c "
        f"LEFT JOIN (SELECT SEQ FROM {tables.rejected} WHERE IMPORT_ID = %s) r ON c.SEQ = r.SEQ "
        f"WHERE c.IMPORT_ID = %s AND r.SEQ IS NULL AND ({within})"
    )
