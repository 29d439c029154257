"""The measurement of days: what of a share counts for a cohort, day by day.

``IMPACT_EVENT`` gets a row for everything that counts: a message that reached a user of the cohort while the stay
lasted, and what followed within the attribution window; and what users of both groups did, for the comparison.
``IMPACT_DAILY`` is counted from it. Days are measured in their order, since what follows a message may come days later.
"""

from __future__ import annotations

import math
import secrets
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.impact.question import PURCHASE
from airflow_provider_kubit_braze.core.impact.tellings import FUNNEL
from airflow_provider_kubit_braze.exceptions import SourceError
from airflow_provider_kubit_braze.warehouse import impact_sql as sql
from airflow_provider_kubit_braze.warehouse.impact_stage import COLUMNS, Staged, union
from airflow_provider_kubit_braze.warehouse.session import split_name, stored_name
from airflow_provider_kubit_braze.warehouse.share_views import ShareViews
from airflow_provider_kubit_braze.warehouse.stays import utc_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import date, datetime

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.tellings import Tellings
    from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.share_check import Inventory
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: The end of a stay that has none: the last second of the year 9999.
FOREVER: Final = 253_402_300_799

#: So long after a push was sent, a bounce says that it was not delivered.
BOUNCE_SECONDS: Final = 86_400

#: Days that are measured at once: a workspace's events of so many days are staged, and not of all its history.
DAYS_AT_ONCE: Final = 16

_WORK: Final = "IMPACT_WORK"
_WORK_SECONDS: Final = 86_400

_PUSH_SEND: Final = "USERS_MESSAGES_PUSHNOTIFICATION_SEND_SHARED"
_EVENTS: Final = "USERS_BEHAVIORS_CUSTOMEVENT_SHARED"

_KEY: Final = "WORKSPACE = %s AND COHORT_ID = %s AND MEASURE = %s"

_KEPT: Final = (
    "WORKSPACE, COHORT_ID, MEASURE, DAY, MOMENT, FIGURE, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, ID_KIND, USER_ID, "
    "CURRENCY, AMOUNT"
)


class Days:
    """Measures days of a cohort.

    :param session: a session whose role may read the share, and write and make state tables.
    :param tables: names of the state tables, which are there.
    :param inventory: what the share has.
    :param stage: its events.
    :param tellings: what they tell.
    :param question: what is asked.
    :param key: workspace and cohort.
    """

    def __init__(
        self,
        session: Session,
        tables: Tables,
        *,
        inventory: Inventory,
        stage: Stage,
        tellings: Tellings,
        question: ImpactQuestion,
        key: tuple[str, str],
    ) -> None:
        self._session = session
        self._tables = tables
        self._inventory = inventory
        self._stage = stage
        self._tellings = tellings
        self._question = question
        self._key = (*key, question.measure)
        self._words = {"event": tables.impact_event, "kept": _KEPT, "key": _KEY, "day": self.day("s.MOMENT")}
        self._merges = False
        #: What the profile views could not be asked, as sentences.
        self.notes: list[str] = []

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Make what all days need, in tables that are gone afterwards."""
        self._drop_leftovers()
        work = f"{self._tables.schema}.{_WORK}_{int(time.time())}_{secrets.token_hex(4)}".upper()
        made = {name: f"{work}_{name.upper()}" for name in ("stays", "orphans", "aliases", "stage", "people")}
        self._words |= made
        try:
            stays, params = stays_of(self._tables, self._key[:2])
            self._make("stays", Staged(stays, params))
            survivors = self._stage.survivors()
            self._merges = survivors is not None
            if survivors is not None:
                self._make("orphans", survivors)
            yield
        finally:
            for table in made.values():
                self._session.execute(f"DROP TABLE IF EXISTS {table}")

    def day(self, seconds: str) -> str:
        """Return an SQL expression of the day of epoch seconds."""
        zone = self._question.timezone
        return f"CAST(CONVERT_TIMEZONE('UTC', '{zone}', TO_TIMESTAMP_NTZ({seconds})) AS DATE)"

    def measure(self, first: date, last: date, *, used: Collection[str], measured_at: datetime) -> None:
        """Measure days anew: all of what is said of them counts, or nothing.

        :param first: the first day, after which no day before it is to be measured.
        :param last: the last one.
        :param used: the tables that have anything.
        """
        after = self._question.starts(last + timedelta(days=1))
        self._make_aliases(self._question.starts(first), after, used)
        while first <= last:
            end = min(last, first + timedelta(days=DAYS_AT_ONCE - 1))
            self._measure(first, end, used, measured_at)
            first = end + timedelta(days=1)

    def stage_outcomes(self, first: int, until: int) -> None:
        """Stage what users did, and who they are, without what is about messages.

        :param first: the first moment, in epoch seconds.
        :param until: the moment after the last.
        """
        outcomes = [
            table
            for table in self._tellings.by_table
            if any(self._tells(table, one) for one in ("purchase", "event"))
        ]
        # Somebody may have been known by what they did elsewhere, and not have bought since.
        self._make_aliases(first, until, self._tellings.by_table)
        self._fill_stage(first, until, outcomes)

    def staged_outcomes(self) -> str:
        """Return the query of what has been staged that users did, as columns of ``IMPACT_EVENT``."""
        told = self._told(("purchase", "event")) or sql.TOLD.format(tellings="('', '', '')")
        return (
            "SELECT p.ID_KIND, p.USER_ID, s.MOMENT, m.FIGURE, s.CURRENCY, s.AMOUNT "
            f"FROM {self._words['stage']} s {told} INNER JOIN {self._words['people']} p ON p.UID = s.UID"
        )

    def stage_life(self, tables: Sequence[str], first: int, until: int) -> str:
        """Stage all of some tables, whatever they tell of messages; must run inside ``prepared``.

        :param tables: tables of the catalogue that the share has.
        :param first: the first moment, in epoch seconds.
        :param until: the moment after the last.
        :return: what to select from: ``s`` is a staged row, ``p`` the user of the cohort who it belongs to.
        """
        self._make_aliases(first, until, tables)
        rows = self._stage.rows
        self._make_stage([rows(one, first=first, until=until, orphans=self._orphans) for one in tables])
        return f"{self._words['stage']} s INNER JOIN {self._words['people']} p ON p.UID = s.UID"

    def _measure(self, first: date, last: date, used: Collection[str], measured_at: datetime) -> None:
        start = self._question.starts(first)
        end = self._question.starts(last + timedelta(days=1))
        self._fill_stage(start, end, used)

        def work() -> None:
            for table in (self._tables.impact_event, self._tables.impact_daily):
                self._session.execute(
                    f"DELETE FROM {table} WHERE {_KEY} AND DAY >= %s AND DAY <= %s",
                    (*self._key, first.isoformat(), last.isoformat()),
                )
            self._insert(sql.REACHES, ("reached", "anchor", "control"), end)
            self._insert_reactions(first, last, start, end)
            if self._question.goal == PURCHASE:
                self._insert(sql.OUTCOMES, ("purchase",), end)
            else:
                self._insert(sql.OUTCOMES, ("purchase", "event"), end)
            self._count(first, last, measured_at)

        self._session.transact(work)

    def _fill_stage(self, first: int, until: int, used: Collection[str]) -> None:
        parts = []
        for table, tellings in self._tellings.by_table.items():
            figures = {one.figure for one in tellings}
            if table not in used or self._is_unread(table):
                continue
            parts.append(
                self._stage.rows(
                    table,
                    first=first,
                    until=until + (BOUNCE_SECONDS if "bounced" in figures else 0),
                    orphans=self._orphans,
                    event=self._question.goal if table == _EVENTS else None,
                )
            )
        self._make_stage(parts)

    def _make_stage(self, parts: Sequence[Staged]) -> None:
        for name in ("people", "stage"):
            self._session.execute(f"DROP TABLE IF EXISTS {self._words[name]}")
        self._make("stage", union(parts) if parts else _nothing())
        self._make("people", self._people())

    def _is_unread(self, table: str) -> bool:
        """Whether a table, the largest of most workspaces, is of no use to the question."""
        return table == _EVENTS and self._question.goal == PURCHASE

    @property
    def _orphans(self) -> str | None:
        return self._words["orphans"] if self._merges else None

    def _make_aliases(self, first: int, until: int, tables: Collection[str]) -> None:
        """Find out who is who in all days that are measured together: a row may say it for those before it."""
        query = self._stage.aliases(
            sorted(table for table in tables if not self._is_unread(table)),
            first=first,
            until=until,
            orphans=self._orphans,
            among=Staged(f"SELECT USER_ID FROM {self._words['stays']} WHERE ID_KIND = 'external_id'", []),
        )
        self._session.execute(f"DROP TABLE IF EXISTS {self._words['aliases']}")
        self._make("aliases", query)

    def _people(self) -> Staged:
        words = self._words
        survivor = "COALESCE(o.SURVIVOR, {uid})" if self._merges else "{uid}"
        orphans = f"LEFT JOIN {words['orphans']} o ON o.ORPHAN = {{uid}}" if self._merges else ""
        known = [f"SELECT 'external_id' AS ID_KIND, XID AS USER_ID, UID FROM {words['aliases']}"]
        mine = "m.USER_ID"
        known.append(
            f"SELECT 'braze_id', m.USER_ID, {survivor.format(uid=mine)} FROM members m {orphans.format(uid=mine)} "
            "WHERE m.ID_KIND = 'braze_id'"
        )
        profiles, params = self._profiles()
        if profiles:
            known.append(
                f"SELECT n.KIND, n.WHO, {survivor.format(uid='n.PROFILE')} FROM names n "
                f"{orphans.format(uid='n.PROFILE')}"
            )
        statement = sql.PEOPLE.format(
            stays=words["stays"], profiles=f", {profiles}" if profiles else "", known=" UNION ".join(known)
        )
        return Staged(statement, params)

    def _profiles(self) -> tuple[str, list[str]]:
        """Return the WITH clauses of the profiles' names, empty without the views."""
        if not self._inventory.profile_views["who is known"]:
            return "", []
        views = ShareViews(
            self._session, share=self._inventory.share, app_group_id=self._question.app_group_id
        )
        kinds = [
            kind for (kind,) in self._session.rows(f"SELECT DISTINCT ID_KIND FROM {self._words['stays']}")
        ]
        try:
            asked = sorted(
                kind for kind in kinds if kind in ("external_id", "email", "phone") and views.has(kind)
            )
        except SourceError as error:
            if str(error) not in self.notes:
                self.notes.append(str(error))
            return "", []
        return views.names(asked) if asked else ("", [])

    def _make(self, name: str, query: Staged) -> None:
        self._session.execute(f"CREATE TRANSIENT TABLE {self._words[name]} AS {query.sql}", query.params)

    def _insert(self, statement: str, figures: tuple[str, ...], end: int) -> None:
        if told := self._told(figures):
            inside = sql.INSIDE.format(**self._words)
            self._session.execute(
                statement.format(**self._words, told=told, inside=inside), (*self._key, end)
            )

    def _insert_reactions(self, first: date, last: date, start: int, end: int) -> None:
        window = self._question.window_seconds
        earliest = first - timedelta(days=math.ceil(window / 86_400) + 1)
        followed = ("delivered", "seen", "clicked", "converted", "revenue", "opted_out")
        for by, has_channel in ((", CHANNEL", True), ("", False)):
            reactions, ends = [], []
            if told := self._told(followed, has_channel=has_channel):
                inside = sql.INSIDE.format(**self._words)
                reactions.append(sql.FOLLOWED.format(**self._words, told=told, inside=inside))
                ends.append(end)
            bounced = [table for table in self._tellings.by_table if self._tells(table, "bounced")]
            if has_channel and bounced:
                reactions.append(
                    sql.DELIVERED_PUSH.format(
                        **self._words,
                        inside=sql.INSIDE.format(**self._words),
                        send=_PUSH_SEND,
                        bounce=bounced[0],
                        bounce_seconds=BOUNCE_SECONDS,
                    )
                )
                ends.append(end)
            if not reactions:
                continue
            statement = sql.REACTIONS.format(
                **self._words,
                last=sql.LAST.format(by=by),
                reactions="".join(reactions).strip().removeprefix("UNION ALL"),
            )
            days = (earliest.isoformat(), last.isoformat())
            self._session.execute(statement, (*self._key, *self._key, *days, start - window, *ends, window))

    def _tells(self, table: str, figure: str) -> bool:
        return any(one.figure == figure for one in self._tellings.by_table[table])

    def _told(self, figures: tuple[str, ...], *, has_channel: bool | None = None) -> str:
        """Return the join of a staged row with what it tells; empty when nothing does."""
        rows = [
            f"('{table}', '{one.figure}', '{one.channel}')"
            for table, tellings in self._tellings.by_table.items()
            for one in tellings
            if one.figure in figures and has_channel in (None, bool(one.channel))
        ]
        return sql.TOLD.format(tellings=", ".join(rows)) if rows else ""

    def _count(self, first: date, last: date, measured_at: datetime) -> None:
        figures = ", ".join(f"{self._known(figure)} AS {figure.upper()}" for figure in FUNNEL)
        statement = (
            f"INSERT INTO {self._tables.impact_daily} (WORKSPACE, COHORT_ID, MEASURE, DAY, KIND, MESSAGE_ID, CHANNEL, "
            f"VARIATION_ID, {', '.join(FUNNEL).upper()}, CURRENCY, MEASURED_AT) "
            f"SELECT WORKSPACE, COHORT_ID, MEASURE, DAY, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, {figures}, 'USD', "
            f"CAST(%s AS TIMESTAMP_NTZ) FROM {self._tables.impact_event} "
            f"WHERE {_KEY} AND DAY >= %s AND DAY <= %s AND MESSAGE_ID <> '' "
            "AND FIGURE NOT IN ('control', 'entered') "
            "GROUP BY WORKSPACE, COHORT_ID, MEASURE, DAY, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID"
        )
        self._session.execute(
            statement, (utc_text(measured_at), *self._key, first.isoformat(), last.isoformat())
        )

    def _known(self, figure: str) -> str:
        """Return the expression of a figure that is null where the share cannot tell it."""
        channels = self._tellings.channels
        known = {
            kind: [one for one in channels if self._tellings.knows(figure, kind=kind, channel=one)]
            for kind in ("campaign", "canvas")
        }
        if all(len(of_kind) == len(channels) for of_kind in known.values()):
            return counted(figure)
        listed = {
            kind: ", ".join(f"'{one}'" for one in of_kind) for kind, of_kind in known.items() if of_kind
        }
        told = " OR ".join(f"KIND = '{kind}' AND CHANNEL IN ({of_kind})" for kind, of_kind in listed.items())
        return f"CASE WHEN {told} THEN {counted(figure)} END" if told else "NULL"

    def _drop_leftovers(self) -> None:
        """Remove what measurements have left that were killed: they take a day at the most."""
        *database, schema = split_name(self._tables.schema)
        catalog = f"{database[0]}." if database else ""
        rows = self._session.rows(
            f"SELECT TABLE_NAME FROM {catalog}INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = %s "
            "AND TABLE_NAME LIKE %s",
            (stored_name(schema), f"{_WORK}%"),
        )
        for (name,) in rows:
            made = name.removeprefix(f"{_WORK}_").partition("_")[0]
            if made.isdecimal() and int(made) < time.time() - _WORK_SECONDS:
                self._session.execute(f"DROP TABLE IF EXISTS {self._tables.schema}.{name}")


def counted(figure: str) -> str:
    """Return the expression of a figure over rows of ``IMPACT_EVENT``.

    :param figure: one of ``FUNNEL``.
    """
    if figure == "revenue":
        return "COALESCE(SUM(CASE WHEN FIGURE = 'revenue' THEN AMOUNT END), 0)"
    if figure == "sends":
        return "COUNT(CASE WHEN FIGURE = 'reached' THEN 1 END)"
    return f"COUNT(DISTINCT CASE WHEN FIGURE = '{figure}' THEN ID_KIND || ':' || USER_ID END)"


def stays_of(tables: Tables, key: tuple[str, str]) -> tuple[str, list[Any]]:
    """Return the query of all stays of a cohort, and its parameters.

    :return: ID_KIND, USER_ID, HELD_OUT, START_AT and END_AT, in epoch seconds; the end is not part of the stay.
    """
    statement = sql.STAYS.format(membership=tables.membership, run=tables.run, forever=FOREVER)
    return statement.strip(), [*key, *key]


def _nothing() -> Staged:
    columns = {"MOMENT": "NUMBER(38,0)", "AMOUNT": "FLOAT", "IN_CONTROL": "BOOLEAN"}
    empty = ", ".join(
        f"CAST(NULL AS {columns.get(name, 'VARCHAR')}) AS {name}" for name in COLUMNS.split(", ")
    )
    return Staged(f"SELECT CAST(NULL AS VARCHAR) AS SRC, {empty} FROM (SELECT 1 AS ONE) n WHERE ONE = 0", [])
