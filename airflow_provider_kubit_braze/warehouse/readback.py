"""What verification reads from the ledger, and what it corrects there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.core.ranges import count, merge
from airflow_provider_kubit_braze.core.sampling import draw
from airflow_provider_kubit_braze.core.verification import UNKNOWN_REASON
from airflow_provider_kubit_braze.warehouse.stays import chunks, doubt_users, note_users

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.core.plan import Action
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables


class SentChange(NamedTuple):
    """A change that Braze accepted."""

    seq: int
    action: Action
    place: Place
    id_kind: str
    user: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Accepted changes of one import, drawn at random.

    :param seqs: their sequence numbers.
    :param population: how many changes were accepted.
    """

    seqs: Sequence[int]
    population: int


def draw_accepted(session: Session, tables: Tables, import_id: str, size: int) -> Sample:
    """Draw a sample of what Braze accepted of an import; the same one every time."""
    (to_send,) = session.row(
        f"SELECT TO_ENTER + TO_LEAVE + TO_REFRESH FROM {tables.run} WHERE IMPORT_ID = %s", (import_id,)
    )
    settled = merge(
        (int(first), min(int(last), int(to_send)))
        for first, last in session.rows(
            f"SELECT FIRST_SEQ, LAST_SEQ FROM {tables.progress} WHERE IMPORT_ID = %s AND STATUS = 'settled'",
            (import_id,),
        )
        if int(first) <= int(to_send)
    )
    rejected = {
        int(seq)
        for (seq,) in session.rows(
            f"SELECT DISTINCT SEQ FROM {tables.rejected} WHERE IMPORT_ID = %s", (import_id,)
        )
    }
    return Sample(
        seqs=draw(settled, size, seed=import_id, without=rejected), population=count(settled) - len(rejected)
    )


def read_changes(session: Session, tables: Tables, import_id: str, seqs: Sequence[int]) -> list[SentChange]:
    """Return changes of an import by their sequence numbers, in their order when ``seqs`` are."""
    found: list[SentChange] = []
    for some in chunks(seqs):
        rows = session.rows(
            f"SELECT SEQ, ACTION, PLACE, ID_KIND, USER_ID FROM {tables.change} "
            f"WHERE IMPORT_ID = %s AND SEQ IN ({', '.join(['%s'] * len(some))}) ORDER BY SEQ",
            [import_id, *some],
        )
        found += [
            SentChange(int(seq), action, Place.parse(place), kind, user)
            for seq, action, place, kind, user in rows
        ]
    return found


def unmatch(
    session: Session,
    tables: Tables,
    *,
    key: tuple[str, str],
    import_id: str,
    run_id: str,
    seqs: Sequence[int],
) -> int:
    """Take users out of the ledger who entered with this import and whom Braze turned out not to know.

    Part of the caller's transaction. The next import finds them at the source and tries them again; if they are gone
    from there by then, Braze is told that they left, in case it learned of them late.

    :return: how many they were.
    """
    taken = 0
    for some in chunks(seqs):
        within = ", ".join(["%s"] * len(some))
        rows = session.rows(
            f"SELECT c.SEQ FROM {tables.change} c INNER JOIN {tables.membership} m "
            "ON m.PLACE = c.PLACE AND m.ID_KIND = c.ID_KIND AND m.USER_ID = c.USER_ID "
            f"WHERE c.IMPORT_ID = %s AND c.SEQ IN ({within}) AND m.WORKSPACE = %s AND m.COHORT_ID = %s "
            "AND m.ENTERED_IMPORT = %s AND m.LEFT_AT IS NULL AND NOT m.HELD_OUT",
            [import_id, *some, *key, import_id],
        )
        entered = [int(seq) for (seq,) in rows]
        if not entered:
            continue
        taken += len(entered)
        reasons = dict.fromkeys(entered, UNKNOWN_REASON)
        note_users(session, tables, key=key, import_id=import_id, run_id=run_id, unmatched=reasons)
        doubt_users(
            session, tables, key=key, import_id=import_id, unknown=merge((seq, seq) for seq in entered)
        )
        within = ", ".join(["%s"] * len(entered))
        session.execute(
            f"DELETE FROM {tables.membership} USING (SELECT PLACE AS AREA, ID_KIND AS KIND, USER_ID AS WHO "
            f"FROM {tables.change} WHERE IMPORT_ID = %s AND SEQ IN ({within})) gone "
            "WHERE WORKSPACE = %s AND COHORT_ID = %s AND ENTERED_IMPORT = %s AND LEFT_AT IS NULL AND NOT HELD_OUT "
            "AND PLACE = gone.AREA AND ID_KIND = gone.KIND AND USER_ID = gone.WHO",
            [import_id, *entered, *key, import_id],
        )
    return taken
