"""The record of campaigns sent to cohorts: it keeps a retry from sending again, and tells later who got what.

What is sent is part of a row's key, and the number of a mapped task is not: whatever order a cleared run's messages
come in, each of them goes out once.

A row is written before the request goes out, and says ``sending`` until its end is known. So whatever happens to the
task in between, the next try finds that there may have been a send, and stops.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.campaign import in_words
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.exceptions import NeverImportedError
from airflow_provider_kubit_braze.warehouse.session import split_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.braze.campaigns import TriggerAnswer
    from airflow_provider_kubit_braze.core.campaign import CampaignRequest
    from airflow_provider_kubit_braze.core.run import RunIdentity
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables
    from airflow_provider_kubit_braze.warehouse.stays import Key

_WHAT = "KIND, MESSAGE_ID, COHORT_ID, PLACE"

_ENDS = (
    "STATE, MESSAGE_ID, MEMBERS, SEND_ID, SCHEDULED_FOR, DISPATCH_ID, SCHEDULE_ID, BEGUN_AT, TRY_NUMBER, RUN_ID, "
    "OWNER"
)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the record says of one send.

    :param key: of the row.
    :param state: ``sending``, ``sent``, ``not_sent`` or ``unknown``.
    :param mine: whether it is to be done by this process, now.
    :param message_id: the campaign or Canvas.
    :param members: users in the cohort when it was begun.
    :param send_id: as the request had it.
    :param scheduled_for: the moment, in Braze's form; None for at once.
    :param dispatch_id: Braze's.
    :param schedule_id: Braze's.
    :param begun_at: UTC.
    :param try_number: Airflow's number of the try that began it.
    :param run_id: the DAG run that began it.
    """

    key: str
    state: str
    mine: bool
    message_id: str
    members: int
    send_id: str | None
    scheduled_for: str | None
    dispatch_id: str | None
    schedule_id: str | None
    begun_at: Any
    try_number: int
    run_id: str


class Sends:
    """The row of one message of a task in the record.

    :param session: a Snowflake session in autocommit mode.
    :param tables: the state tables.
    :param workspace: key of the Braze workspace; deployments of one DAG for two of them may share the tables.
    :param identity: the task instance.
    :param request: what is to be sent, at most once in a DAG run.
    :param cohort_id: to which cohort.
    :param occasions: what it follows: it is sent unless other runs of the DAG have sent it on each of these before.
    """

    def __init__(
        self,
        session: Session,
        tables: Tables,
        *,
        workspace: str,
        identity: RunIdentity,
        request: CampaignRequest,
        cohort_id: str,
        occasions: Sequence[str] = (),
    ) -> None:
        self._session = session
        self._table = tables.campaign_send
        self._identity = identity
        self._owner = uuid.uuid4().hex
        self._workspace = workspace
        who = identity
        self._what = f"/{who.task_id}/{_what(request, cohort_id)}"
        self.key = f"{workspace}/{who.dag_id}/{who.run_id}{self._what}"
        self._occasions = frozenset(occasions)

    @property
    def table(self) -> str:
        """The table's name for a person, whose worksheet may be in another database: with the session's."""
        database = getattr(self._session.connection, "database", None)
        if len(split_name(self._table)) > 2 or not isinstance(database, str) or not database:
            return self._table
        # The session tells the name as Snowflake stores it.
        is_plain = re.fullmatch(r"[A-Z_][A-Z0-9_$]*", database) or database.startswith('"')
        quoted = database if is_plain else '"{}"'.format(database.replace('"', '""'))
        return f"{quoted}.{self._table}"

    def another(self) -> str | None:
        """Return, of a task that is not mapped, what else it has sent in this DAG run, or may have; None: nothing."""
        who = self._identity
        if who.map_index >= 0:
            return None
        rows = self._session.rows(
            f"SELECT {_WHAT} FROM {self._table} WHERE WORKSPACE = %s AND DAG_ID = %s AND RUN_ID = %s "
            "AND TASK_ID = %s AND SEND_KEY <> %s AND STATE <> 'not_sent' LIMIT 1",
            (self._workspace, who.dag_id, who.run_id, who.task_id, self.key),
        )
        if not rows:
            return None
        kind, message_id, cohort_id, place = rows[0]
        return f"{in_words(kind)} {message_id} to cohort {cohort_id} under {Place.parse(place).words}"

    def look(self) -> Recorded | None:
        """Return what an earlier try of this task made of the send, or other runs on the same occasions, if any."""
        own = self._read()
        if own is not None and own.state != "not_sent":
            return own
        return self._on_the_same_occasions() or own

    def forget(self) -> None:
        """Give the send back: nothing went out."""
        self._session.execute(
            f"UPDATE {self._table} SET STATE = 'not_sent', ENDED_AT = SYSDATE() WHERE SEND_KEY = %s AND OWNER = %s",
            (self.key, self._owner),
        )

    def begin(self, request: CampaignRequest, *, key: Key, members: int) -> Recorded:
        """Take the send for this process, or return what an earlier one made of it.

        :param request: what is to be sent.
        :param key: workspace and cohort.
        :param members: users in the cohort now.
        """
        found = self.look()
        if found is not None and found.state != "not_sent":
            return found
        # The author may have changed anything since: what was not sent is begun anew.
        self._session.execute(
            f"DELETE FROM {self._table} WHERE SEND_KEY = %s AND STATE = 'not_sent'", (self.key,)
        )
        self._insert(request, key, members)
        found = self._on_the_same_occasions() or self._read()
        assert found is not None  # noqa: S101  it has just been written
        if not found.mine:
            # Two tries met here: whoever sees the other's row leaves the send to it.
            self._session.execute(
                f"DELETE FROM {self._table} WHERE SEND_KEY = %s AND OWNER = %s", (self.key, self._owner)
            )
        return found

    def end(self, answer: TriggerAnswer) -> None:
        """Write down how the send ended."""
        self._session.execute(
            f"UPDATE {self._table} SET STATE = %s, DISPATCH_ID = %s, SCHEDULE_ID = %s, ERROR = %s, "
            "ENDED_AT = SYSDATE() WHERE SEND_KEY = %s AND OWNER = %s",
            (
                answer.state,
                answer.dispatch_id,
                answer.schedule_id,
                None if answer.error is None else str(answer.error),
                self.key,
                self._owner,
            ),
        )

    def _on_the_same_occasions(self) -> Recorded | None:
        """Return the last send of other runs when they, together, have sent it on each of these occasions."""
        if not self._occasions:
            return None
        who = self._identity
        rows = self._session.rows(
            f"SELECT SEND_KEY, FOLLOWS FROM {self._table} WHERE WORKSPACE = %s AND DAG_ID = %s AND TASK_ID = %s "
            "AND RUN_ID <> %s AND STATE <> 'not_sent' AND FOLLOWS IS NOT NULL ORDER BY BEGUN_AT",
            (self._workspace, who.dag_id, who.task_id, who.run_id),
        )
        sent = {key: frozenset(json.loads(follows)) for key, follows in rows if key.endswith(self._what)}
        same = [key for key, follows in sent.items() if follows & self._occasions]
        if not self._occasions <= frozenset[str]().union(*sent.values()):
            return None
        return self._read(same[-1])

    def _read(self, key: str | None = None) -> Recorded | None:
        rows = self._session.rows(
            f"SELECT {_ENDS} FROM {self._table} WHERE SEND_KEY = %s", (key or self.key,)
        )
        others = [row for row in rows if row[-1] != self._owner]
        if not rows:
            return None
        (
            state,
            message_id,
            members,
            send_id,
            scheduled_for,
            dispatch_id,
            schedule_id,
            begun_at,
            number,
            run_id,
            _,
        ) = (others or rows)[0]
        return Recorded(
            key=key or self.key,
            state=state,
            mine=not others,
            message_id=message_id,
            members=int(members),
            send_id=send_id,
            scheduled_for=scheduled_for,
            dispatch_id=dispatch_id,
            schedule_id=schedule_id,
            begun_at=begun_at,
            try_number=int(number),
            run_id=run_id,
        )

    def _insert(self, request: CampaignRequest, key: Key, members: int) -> None:
        who = self._identity
        values = {
            "SEND_KEY": self.key,
            "OWNER": self._owner,
            "STATE": "sending",
            "WORKSPACE": key[0],
            "COHORT_ID": key[1],
            "PLACE": str(Place("attribute", request.attribute)),
            "KIND": request.kind,
            "MESSAGE_ID": request.message_id,
            "SEND_ID": request.send_id,
            "BROADCAST": request.broadcast,
            "MEMBERS": members,
            "DAG_ID": who.dag_id,
            "RUN_ID": who.run_id,
            "TASK_ID": who.task_id,
            "MAP_INDEX": who.map_index,
            "TRY_NUMBER": who.try_number,
            "SCHEDULED_FOR": request.send_at and request.send_at.text,
            "FOLLOWS": json.dumps(sorted(self._occasions)) if self._occasions else None,
        }
        self._session.execute(
            f"INSERT INTO {self._table} ({', '.join(values)}, BEGUN_AT) "
            f"SELECT {', '.join(['%s'] * len(values))}, SYSDATE()",
            tuple(values.values()),
        )


def _what(request: CampaignRequest, cohort_id: str) -> str:
    """Say what is sent to whom; recipients, who are no everybody, by a digest: no user is named."""
    to = "/".join((request.kind, request.message_id, cohort_id, request.attribute))
    if request.broadcast:
        return to
    return f"{to}/{hashlib.sha256(json.dumps(sorted(request.recipients)).encode()).hexdigest()[:16]}"


def members_at(session: Session, tables: Tables, key: Key, place: Place) -> int:
    """Return how many users of a cohort Braze shows at a place, as far as it accepted.

    :param key: workspace and cohort.
    :param place: the attribute.
    :raises NeverImportedError: when nobody of the cohort ever was there: a name is wrong, or it is a partner cohort.
    """
    rows = session.rows(
        "SELECT PLACE, COUNT_IF(LEFT_AT IS NULL AND NOT HELD_OUT), COUNT_IF(NOT HELD_OUT) "
        f"FROM {tables.membership} WHERE WORKSPACE = %s AND COHORT_ID = %s GROUP BY PLACE",
        key,
    )
    by_place = {name: (int(now), int(ever)) for name, now, ever in rows}
    now, ever = by_place.get(str(place), (0, 0))
    workspace, cohort_id = key
    # Whoever left one place for another is not in a cohort that is empty.
    others = sorted(Place.parse(name).words for name, (inside, _) in by_place.items() if inside)
    if ever and (now or not others):
        return now
    if others:
        partner = any(name.startswith("partner_cohort:") for name, (inside, _) in by_place.items() if inside)
        why = ", and Braze's API cannot filter by a partner cohort" if partner else ""
        raise NeverImportedError(
            f"Cohort {cohort_id!r} is not under {place.words} in Braze but under {' and '.join(others)}{why}; "
            "name the attribute that its import writes."
        )
    raise NeverImportedError(
        f"No import has ever brought anybody of cohort {cohort_id!r} under {place.words} into workspace {workspace}; "
        "correct cohort_id, attribute or braze_conn_id, or import the cohort first."
    )
