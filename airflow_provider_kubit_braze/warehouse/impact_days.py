"""The measurement of days: what of a share counts for a cohort, day by day.

``IMPACT_EVENT`` gets a row for everything that counts: a message that reached a user of the cohort while the stay
lasted, and what followed within the attribution window; and what users of both groups did, for the comparison.
``IMPACT_DAILY`` is counted from it. Days are measured in their order, since what follows a message may come days later.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.impact.question import PURCHASE
from airflow_provider_kubit_braze.core.impact.tellings import FUNNEL
from airflow_provider_kubit_braze.warehouse import impact_sql as sql
from airflow_provider_kubit_braze.warehouse.impact_older import Older
from airflow_provider_kubit_braze.warehouse.impact_people import People
from airflow_provider_kubit_braze.warehouse.impact_stage import COLUMNS, Staged, union
from airflow_provider_kubit_braze.warehouse.impact_work import WorkTables
from airflow_provider_kubit_braze.warehouse.stays import utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import date, datetime

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.tellings import Tellings
    from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.share_check import Inventory
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: So long after a push was sent, a bounce says that it was not delivered.
BOUNCE_SECONDS: Final = 86_400

#: Days that are measured at once: the cohort's events of so many days are staged, and not of all its history.
DAYS_AT_ONCE: Final = 16

_OUTCOMES: Final = ("purchase", "event")

_PUSH_SEND: Final = "USERS_MESSAGES_PUSHNOTIFICATION_SEND_SHARED"
_EVENTS: Final = "USERS_BEHAVIORS_CUSTOMEVENT_SHARED"


class Days:
    """Measures days of a cohort.

    :param session: a session whose role may read the share, and write and make state tables.
    :param tables: names of the state tables, which are there.
    :param inventory: what the share has.
    :param stage: its events.
    :param tellings: what they tell.
    :param question: what is asked.
    :param key: workspace and cohort.
    :param fence: the last statement of each transaction: raises when somebody else measures the same by now. None:
        nobody can, or nothing is written.
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
        fence: Callable[[], None] | None = None,
    ) -> None:
        self._session = session
        self._tables = tables
        self._stage = stage
        self._tellings = tellings
        self._question = question
        self._key = (*key, question.measure)
        self._fence = fence or (lambda: None)
        self._work = WorkTables(session, tables)
        self._people = People(
            session, tables, inventory=inventory, stage=stage, question=question, key=key, work=self._work
        )
        self._words = {
            **{name: self._work[name] for name in ("fresh", "stage", "people", "doers", "inside")},
            "event": tables.impact_event,
            "kept": sql.KEPT,
            "key": sql.KEY,
            "day": self.day("s.MOMENT"),
            "reach_day": self.day("s.REACHED_AT"),
            "is_inside": sql.INSIDE.format(inside=self._work["inside"], of_group="NOT t.HELD_OUT"),
        }
        self._is_held_out = sql.INSIDE.format(inside=self._work["inside"], of_group="t.HELD_OUT")
        #: The messages that are older than the measured days.
        self.older = Older(
            session,
            tables,
            stage=stage,
            tellings=tellings,
            people=self._people,
            question=question,
            key=self._key,
            work=self._work,
            words=self._words,
        )

    @property
    def notes(self) -> list[str]:
        """What could not be asked, as sentences."""
        return self._people.notes

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Make what all days need, in tables that are gone afterwards."""
        self._work.drop_leftovers()
        try:
            self._people.begin()
            yield
        finally:
            self._work.drop()

    def nameable(self) -> list[str]:
        """Return the kinds of identifiers by which the share may know the cohort's users; inside ``prepared``."""
        return self._people.nameable()

    def read(self, tables: Collection[str]) -> list[str]:
        """Return those tables that are of use to the question: the largest of most workspaces often is of none."""
        return [one for one in tables if one != _EVENTS or self._question.goal != PURCHASE]

    @property
    def goal_tables(self) -> list[str]:
        """The tables that tell the goal."""
        return self._tellings.tables((self._question.goal_figure,))

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
        self._find_people(self._question.starts(first), after, used)
        while first <= last:
            end = min(last, first + timedelta(days=DAYS_AT_ONCE - 1))
            self._measure(first, end, used, measured_at)
            first = end + timedelta(days=1)

    def clear(self, first: date, last: date) -> None:
        """Remove what is said of days; inside a transaction.

        :param first: the first day.
        :param last: the last one.
        """
        days = (*self._key, first.isoformat(), last.isoformat())
        for table in (self._tables.impact_event, self._tables.impact_daily):
            self._session.execute(f"DELETE FROM {table} WHERE {sql.KEY} AND DAY >= %s AND DAY <= %s", days)

    def stage_outcomes(self, first: int, until: int) -> None:
        """Stage what users did, without what is about messages; inside ``prepared``.

        :param first: the first moment, in epoch seconds.
        :param until: the moment after the last.
        """
        outcomes = self.read(self._tellings.tables(_OUTCOMES))
        self._find_people(first, until, outcomes)
        self._make_stage(self._rows(first, until, outcomes))

    def staged_outcomes(self) -> str:
        """Return the query of what has been staged that users did, as columns of ``IMPACT_EVENT``."""
        told = self._told(_OUTCOMES) or sql.TOLD.format(tellings="('', '', '')")
        return (
            "SELECT p.ID_KIND, p.USER_ID, s.MOMENT, m.FIGURE, s.CURRENCY, s.AMOUNT "
            f"FROM {self._words['stage']} s {told} INNER JOIN {self._words['doers']} p ON p.UID = s.UID"
        )

    def stage_life(self, tables: Sequence[str], first: int, until: int) -> str:
        """Stage all of some tables, whatever they tell of messages; inside ``prepared``.

        :param tables: tables of the catalogue that the share has.
        :param first: the first moment, in epoch seconds.
        :param until: the moment after the last.
        :return: what to select from: ``s`` is a staged row, ``p`` the user of the cohort who it belongs to.
        """
        self._people.find(first, until, messages=tables, outcomes=(), of_canvases=False)
        rows = self._stage.rows
        self._make_stage(
            [rows(one, first=first, until=until, orphans=self._people.orphans) for one in tables]
        )
        return f"{self._words['stage']} s INNER JOIN {self._words['people']} p ON p.UID = s.UID"

    def _find_people(self, first: int, until: int, used: Collection[str]) -> None:
        tables = self.read([table for table in self._tellings.by_table if table in used])
        tell_outcomes = self._tellings.tables(_OUTCOMES)
        outcomes = [table for table in tables if table in tell_outcomes]
        messages = [table for table in tables if table not in outcomes]
        self._people.find(first, until, messages=messages, outcomes=outcomes)

    def _measure(self, first: date, last: date, used: Collection[str], measured_at: datetime) -> None:
        start = self._question.starts(first)
        end = self._question.starts(last + timedelta(days=1))
        self._make_stage(self._rows(start, end, used))
        # Worked out beside the tables of all cohorts, which are locked only while it is moved there.
        self._work.make(
            "fresh", Staged(f"SELECT {sql.KEPT} FROM {self._tables.impact_event} WHERE 1 = 0", [])
        )
        inside, reaches = self._words["is_inside"], sql.REACHED
        self._insert(sql.REACHES, (*reaches, "control", "path"), end, figure=sql.REACH, is_theirs=inside)
        if self._people.holds_out:
            # Of a profile that two users of the ledger have, one may be treated.
            held_out = f"{self._is_held_out} AND NOT {inside}"
            self._insert(sql.REACHES, reaches, end, figure=sql.LEAK, is_theirs=held_out)
        self._insert_reactions(first, start, end)
        self._insert(sql.OUTCOMES, _OUTCOMES, end)

        def work() -> None:
            self.clear(first, last)
            self._session.execute(
                f"INSERT INTO {self._tables.impact_event} ({sql.KEPT}) SELECT {sql.KEPT} FROM {self._words['fresh']}"
            )
            self._count(measured_at)
            self._fence()

        self._session.transact(work)

    def _rows(self, first: int, until: int, used: Collection[str]) -> list[Staged]:
        bounces = self._tellings.tables(("bounced",))
        return [
            self._stage.rows(
                table,
                first=first,
                until=until + (BOUNCE_SECONDS if table in bounces else 0),
                orphans=self._people.orphans,
                canvases=self._people.canvases,
                event=self._question.goal if table == _EVENTS else None,
            )
            for table in self.read([one for one in self._tellings.by_table if one in used])
        ]

    def _make_stage(self, parts: Sequence[Staged]) -> None:
        """Stage rows of the cohort's users, and of nobody else."""
        everything = union(parts) if parts else _nothing()
        owners = f"SELECT UID FROM {self._work['owners']}"
        self._work.make(
            "stage",
            Staged(f"SELECT r.* FROM ({everything.sql}) r WHERE r.UID IN ({owners})", everything.params),
        )

    def _insert(self, statement: str, figures: tuple[str, ...], end: int, **words: str) -> None:
        if told := self._told(figures):
            self._session.execute(statement.format(**self._words, told=told, **words), (*self._key, end))

    def _insert_reactions(self, first: date, start: int, end: int) -> None:
        window = self._question.window_seconds
        earliest = first - self._question.days_after
        followed = ("delivered", "seen", "clicked", "converted", "revenue", "opted_out")
        for by, has_channel in ((", CHANNEL", True), ("", False)):
            reactions = []
            if told := self._told(followed, has_channel=has_channel):
                reactions.append(sql.FOLLOWED.format(**self._words, told=told))
            bounced = self._tellings.tables(("bounced",))
            if has_channel and bounced:
                reactions.append(
                    sql.DELIVERED_PUSH.format(
                        **self._words, send=_PUSH_SEND, bounce=bounced[0], bounce_seconds=BOUNCE_SECONDS
                    )
                )
            if reactions:
                statement = sql.REACTIONS.format(
                    **self._words, last=sql.LAST.format(by=by), reactions=" UNION ALL ".join(reactions)
                )
                days = (earliest.isoformat(), first.isoformat())
                ends = [end] * len(reactions)
                self._session.execute(
                    statement, (*self._key, *self._key, *days, start - window, *ends, window)
                )

    def _told(self, figures: tuple[str, ...], *, has_channel: bool | None = None) -> str:
        """Return the join of a staged row with what it tells; empty when nothing does."""
        rows = [
            f"('{table}', '{one.figure}', '{one.channel}')"
            for table, tellings in self._tellings.by_table.items()
            for one in tellings
            if one.figure in figures and has_channel in (None, bool(one.channel))
        ]
        return sql.TOLD.format(tellings=", ".join(rows)) if rows else ""

    def _count(self, measured_at: datetime) -> None:
        figures = ", ".join(f"{self._known(figure)} AS {figure.upper()}" for figure in FUNNEL)
        self._session.execute(
            f"INSERT INTO {self._tables.impact_daily} (WORKSPACE, COHORT_ID, MEASURE, DAY, KIND, MESSAGE_ID, CHANNEL, "
            f"VARIATION_ID, {', '.join(FUNNEL).upper()}, CURRENCY, MEASURED_AT) "
            f"SELECT WORKSPACE, COHORT_ID, MEASURE, DAY, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, {figures}, 'USD', "
            f"CAST(%s AS TIMESTAMP_NTZ) FROM {self._words['fresh']} "
            f"WHERE {sql.COUNTS} "
            "GROUP BY WORKSPACE, COHORT_ID, MEASURE, DAY, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID",
            (utc_text(measured_at),),
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


def counted(figure: str) -> str:
    """Return the expression of a figure over rows of ``IMPACT_EVENT``.

    :param figure: one of ``FUNNEL``.
    """
    if figure == "revenue":
        return "COALESCE(SUM(CASE WHEN FIGURE = 'revenue' THEN AMOUNT END), 0)"
    if figure == "sends":
        return "COUNT(CASE WHEN FIGURE = 'reached' THEN 1 END)"
    return f"COUNT(DISTINCT CASE WHEN FIGURE = '{figure}' THEN ID_KIND || ':' || USER_ID END)"


def _nothing() -> Staged:
    columns = {"MOMENT": "NUMBER(38,0)", "AMOUNT": "FLOAT", "IN_CONTROL": "BOOLEAN"}
    empty = ", ".join(
        f"CAST(NULL AS {columns.get(name, 'VARCHAR')}) AS {name}" for name in COLUMNS.split(", ")
    )
    return Staged(f"SELECT CAST(NULL AS VARCHAR) AS SRC, {empty} FROM (SELECT 1 AS ONE) n WHERE ONE = 0", [])
