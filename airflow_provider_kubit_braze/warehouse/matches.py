"""Entrants whom Braze does not know: looked up before they are sent or held out, and taken out of the frozen plan."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_kubit_braze.core.ranges import Range, gaps, merge, within
from airflow_provider_kubit_braze.warehouse.share import ENTERS
from airflow_provider_kubit_braze.warehouse.stays import note_users, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.warehouse.ledger import Ledger
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.share import ProfileShare
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)


class Entrant(NamedTuple):
    """One user who is to enter, or to be held out."""

    seq: int
    id_kind: str
    user: str


class Matches:
    """What is known about the entrants of one plan.

    :param session: a Snowflake session.
    :param tables: the state tables.
    :param ledger: whose lease the writing needs.
    :param key: workspace and cohort.
    :param plan: the plan; nothing of it has been sent.
    """

    def __init__(
        self, session: Session, tables: Tables, ledger: Ledger, *, key: tuple[str, str], plan: Plan
    ) -> None:
        self._session = session
        self._tables = tables
        self._ledger = ledger
        self._key = key
        self._plan = plan

    def count(self) -> int:
        """Return how many entrants there are."""
        (number,) = self._session.row(
            f"SELECT COUNT(*) FROM {self._tables.change} WHERE IMPORT_ID = %s AND {ENTERS}",
            (self._plan.import_id,),
        )
        return int(number)

    def missing(self) -> list[Range]:
        """Return the ranges with entrants that no try has looked up yet."""
        left = gaps(self.looked_up(), self._plan.size)
        return [part for bounds in ranges_of_entrants(self._plan) for part in within(left, bounds)]

    def looked_up(self) -> list[Range]:
        """Return the ranges that an earlier try has looked up."""
        rows = self._session.rows(
            f"SELECT FIRST_SEQ, LAST_SEQ FROM {self._tables.progress} WHERE IMPORT_ID = %s AND STATUS = 'matched'",
            (self._plan.import_id,),
        )
        return merge((int(first), int(last)) for first, last in rows)

    def read(self, some: Range) -> list[Entrant]:
        """Return entrants by their sequence numbers."""
        return self._read("AND SEQ BETWEEN %s AND %s ORDER BY SEQ", *some)

    def sample(self, size: int) -> list[Entrant]:
        """Return a random sample, the same for every try."""
        return self._read("ORDER BY MD5(CONCAT(IMPORT_ID, ':', CAST(SEQ AS VARCHAR))) LIMIT %s", size)

    def _read(self, which: str, *params: int) -> list[Entrant]:
        rows = self._session.rows(
            f"SELECT SEQ, ID_KIND, USER_ID FROM {self._tables.change} WHERE IMPORT_ID = %s AND {ENTERS} {which}",
            (self._plan.import_id, *params),
        )
        return [Entrant(int(seq), id_kind, user) for seq, id_kind, user in rows]

    def note(self, looked_up: Iterable[Range], unmatched: Mapping[int, str], *, run_id: str) -> None:
        """Write down who is unmatched, and why, and which ranges need not be looked up again."""

        def write() -> None:
            note_users(
                self._session,
                self._tables,
                key=self._key,
                import_id=self._plan.import_id,
                run_id=run_id,
                unmatched=unmatched,
            )
            self._note_ranges(looked_up)

        # An orphan's numbers may be others' by now.
        self._ledger.transact(write)

    def note_by(self, share: ProfileShare, *, run_id: str) -> Mapping[str, int]:
        """Write down whom Braze's data share does not know; return the kinds of identifiers it cannot answer for.

        :raises SourceError: when the share cannot be read.
        """
        # Outside of the transaction, which a view that is missing would end.
        share.check(attributes=False)
        matched = self._ledger.transact(
            lambda: share.note_unmatched(self._tables, self._plan.import_id, key=self._key, run_id=run_id)
        )
        log.info("Braze's data share answered for %s users who enter.", f"{matched.asked:,}")
        return matched.unanswered

    def take_out(self) -> Plan:
        """Take the unmatched out of the plan and close the gaps; return the plan that is left."""
        t, import_id = self._tables, self._plan.import_id

        def write() -> Plan:
            numbers = {
                action: int(number)
                for action, number in self._session.rows(
                    f"SELECT ACTION, COUNT(*) FROM {t.change} WHERE IMPORT_ID = %s "
                    f"AND SEQ IN (SELECT SEQ FROM {t.unmatched} WHERE IMPORT_ID = %s) GROUP BY ACTION",
                    (import_id, import_id),
                )
            }
            if not numbers:
                return self._plan
            enter, hold = numbers.get("enter", 0), numbers.get("hold", 0)
            dropped = self._drop_instead() if enter else 0
            self._session.execute(
                f"DELETE FROM {t.change} WHERE IMPORT_ID = %s "
                f"AND SEQ IN (SELECT SEQ FROM {t.unmatched} WHERE IMPORT_ID = %s)",
                (import_id, import_id),
            )
            self._session.execute(
                f"UPDATE {t.change} SET SEQ = n.BECOMES FROM ("
                "SELECT SEQ AS WAS, ROW_NUMBER() OVER (ORDER BY SEQ) AS BECOMES "
                f"FROM {t.change} WHERE IMPORT_ID = %s) n "
                "WHERE IMPORT_ID = %s AND SEQ = n.WAS AND n.WAS <> n.BECOMES",
                (import_id, import_id),
            )
            # From now on those numbers are others'.
            self._session.execute(f"UPDATE {t.unmatched} SET SEQ = NULL WHERE IMPORT_ID = %s", (import_id,))
            left = replace(
                self._plan,
                enter=self._plan.enter - enter,
                quiet=self._plan.quiet - hold + dropped,
                held_out=self._plan.held_out - hold,
                unmatched=self._plan.unmatched + enter + hold,
            )
            self._session.execute(
                f"UPDATE {t.run} SET TO_ENTER = %s, TO_NOTE = %s, HELD_OUT = %s, UNMATCHED = %s WHERE IMPORT_ID = %s",
                (left.enter, left.quiet, left.held_out, left.unmatched, import_id),
            )
            self._session.execute(
                f"DELETE FROM {t.progress} WHERE IMPORT_ID = %s AND STATUS = 'matched'", (import_id,)
            )
            self._note_ranges(ranges_of_entrants(left))
            return left

        return self._ledger.transact(write)

    def _drop_instead(self) -> int:
        """Let those of the unmatched who were to enter, and were held out so far, be no longer held out.

        :return: how many they are.
        """
        t, import_id = self._tables, self._plan.import_id
        cursor = self._session.execute(
            f"UPDATE {t.change} SET ACTION = 'drop', SEQ = SEQ + %s FROM ("
            f"SELECT PLACE AS AREA, ID_KIND AS KIND, USER_ID AS WHO FROM {t.membership} "
            "WHERE WORKSPACE = %s AND COHORT_ID = %s AND LEFT_AT IS NULL AND HELD_OUT) held "
            "WHERE IMPORT_ID = %s AND ACTION = 'enter' AND PLACE = held.AREA AND ID_KIND = held.KIND "
            f"AND USER_ID = held.WHO AND SEQ IN (SELECT SEQ FROM {t.unmatched} WHERE IMPORT_ID = %s)",
            # Behind all others, where the changes are that concern the ledger only.
            (self._plan.size, *self._key, import_id, import_id),
        )
        return cursor.rowcount or 0

    def _note_ranges(self, some: Iterable[Range]) -> None:
        for first, last in some:
            self._session.execute(
                f"INSERT INTO {self._tables.progress} (IMPORT_ID, FIRST_SEQ, LAST_SEQ, STATUS, RECORDED_AT) "
                "VALUES (%s, %s, %s, 'matched', %s)",
                (self._plan.import_id, first, last, utc_text(datetime.now(UTC))),
            )


def ranges_of_entrants(plan: Plan) -> list[Range]:
    """Return where the entrants are: those to be sent follow the leavers, those to be held out are among the last."""
    ranges = Range(plan.leave + 1, plan.leave + plan.enter), Range(plan.to_send + 1, plan.size)
    return [some for some in ranges if some.size]
