"""What the measured days say of a period: the funnel of each message, and the groups that are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.impact.report import ALL, MOST_MESSAGES, Slice
from airflow_provider_kubit_braze.core.impact.tellings import FUNNEL
from airflow_provider_kubit_braze.warehouse.impact_days import counted
from airflow_provider_kubit_braze.warehouse.impact_older import LOOK_BACK
from airflow_provider_kubit_braze.warehouse.impact_people import stays_of
from airflow_provider_kubit_braze.warehouse.impact_sql import KEY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.report import Figures
    from airflow_provider_kubit_braze.core.impact.tellings import Tellings
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

_COLUMNS: Final = ("KIND", "MESSAGE_ID", "CHANNEL", "VARIATION_ID", "DAY")

_REACH: Final = "CASE WHEN FIGURE IN ('reached', 'anchor') THEN MOMENT END"

_FUNNEL: Final = """
SELECT {columns}, {figures}, MIN({reach}), MAX({reach})
FROM {event}
WHERE {key} AND DAY >= %s AND DAY <= %s AND MESSAGE_ID <> '' AND FIGURE NOT IN ('control', 'entered', 'older'){chosen}
GROUP BY GROUPING SETS ({sets})
"""

# The first stay that overlaps the run says to which group a user belongs, and when it began to matter.
_UNITS: Final = """
SELECT ID_KIND, USER_ID, HELD_OUT AS IN_CONTROL, GREATEST(START_AT, {first}) AS ANCHOR
FROM ({stays}) t
WHERE START_AT <= {last} AND END_AT > {first} AND START_AT >= {since} AND ID_KIND IN ({kinds})
QUALIFY ROW_NUMBER() OVER (PARTITION BY ID_KIND, USER_ID ORDER BY START_AT, HELD_OUT) = 1
"""

# Braze chooses its control group when a user enters.
_BRAZE_UNITS: Final = """
SELECT ID_KIND, USER_ID, FIGURE = 'control' AS IN_CONTROL, MOMENT AS ANCHOR
FROM {event} WHERE {key} AND DAY >= %s AND DAY <= %s AND KIND = %s AND MESSAGE_ID = %s AND FIGURE IN ({figures})
QUALIFY ROW_NUMBER() OVER (PARTITION BY ID_KIND, USER_ID ORDER BY MOMENT, FIGURE) = 1
"""

_GROUPS: Final = """
WITH units AS ({units}),
done AS (
    SELECT u.ID_KIND, u.USER_ID,
        MAX(CASE WHEN o.FIGURE = '{goal}' THEN 1 ELSE 0 END) AS CONVERTED,
        COALESCE(SUM(CASE WHEN o.FIGURE = 'purchase' AND o.CURRENCY = %s THEN o.AMOUNT END), 0) AS REVENUE
    FROM units u INNER JOIN ({outcomes}) o ON o.ID_KIND = u.ID_KIND AND o.USER_ID = u.USER_ID
    WHERE o.MOMENT >= u.ANCHOR + {shift} AND o.MOMENT < u.ANCHOR + {shift} + {window}
    GROUP BY u.ID_KIND, u.USER_ID
),
met AS (
    SELECT DISTINCT u.ID_KIND, u.USER_ID
    FROM units u INNER JOIN {event} e ON e.ID_KIND = u.ID_KIND AND e.USER_ID = u.USER_ID
    WHERE e.WORKSPACE = %s AND e.COHORT_ID = %s AND e.MEASURE = %s AND e.FIGURE = 'reached'{of_message}
    AND e.MOMENT >= u.ANCHOR AND e.MOMENT < u.ANCHOR + {window}
)
SELECT u.IN_CONTROL, u.ANCHOR + {window} > {until} AS IS_OPEN, COUNT(*) AS USERS,
    COUNT(CASE WHEN d.CONVERTED = 1 THEN 1 END) AS CONVERTERS,
    COUNT(CASE WHEN d.REVENUE <> 0 THEN 1 END) AS BUYERS,
    COALESCE(SUM(d.REVENUE), 0) AS TOTAL, COALESCE(SUM(d.REVENUE * d.REVENUE), 0) AS SQUARES,
    COUNT(m.USER_ID) AS REACHED, COUNT(CASE WHEN u.ANCHOR > {first} THEN 1 END) AS LATER
FROM units u
LEFT JOIN done d ON d.ID_KIND = u.ID_KIND AND d.USER_ID = u.USER_ID
LEFT JOIN met m ON m.ID_KIND = u.ID_KIND AND m.USER_ID = u.USER_ID
GROUP BY u.IN_CONTROL, u.ANCHOR + {window} > {until}
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A message in a period.

    :param kind: ``campaign``, ``canvas`` or ``all``.
    :param id: its API identifier, or ``all``.
    :param first: when it first reached somebody, in epoch seconds; None when it reached nobody.
    :param last: when it last did.
    :param figures: over the whole period.
    :param is_older: whether it reached somebody in the year before the period, too.
    """

    kind: str
    id: str
    first: int | None
    last: int | None
    figures: Figures
    is_older: bool = False


@dataclass(frozen=True, kw_only=True)
class Sums:
    """The sums of one group, without users whose attribution window is open.

    :param users: all of them.
    :param converters: those with at least one conversion.
    :param buyers: those with a revenue other than 0.
    :param total: of revenue.
    :param squares: sum of the squares of each user's revenue.
    :param reached: those whom the message reached.
    :param later: users, open ones too, who became countable after the run had begun.
    :param open: users whose window is open.
    """

    users: int = 0
    converters: int = 0
    buyers: int = 0
    total: float = 0.0
    squares: float = 0.0
    reached: int = 0
    later: int = 0
    open: int = 0


class PeriodFigures:
    """Reads a period of ``IMPACT_EVENT``.

    :param session: a Snowflake session.
    :param tables: names of the state tables.
    :param tellings: what the share can tell.
    :param question: what is asked.
    :param key: workspace and cohort.
    :param first: the first day.
    :param last: the last day.
    """

    def __init__(
        self,
        session: Session,
        tables: Tables,
        *,
        tellings: Tellings,
        question: ImpactQuestion,
        key: tuple[str, str],
        first: date,
        last: date,
    ) -> None:
        self._session = session
        self._tables = tables
        self._tellings = tellings
        self._question = question
        self._key = (*key, question.measure)
        self._days = (first.isoformat(), last.isoformat())
        # What is measured of later days is for other questions.
        self._end = (last + math.ceil(question.window / timedelta(days=1)) * timedelta(days=1)).isoformat()
        self._looked = (first - LOOK_BACK).isoformat()
        self._since = question.starts(first)
        self._older: set[tuple[str, str]] = set()
        self._channels: dict[tuple[str, str], set[str]] = {}
        self._slices: dict[tuple[str, str], dict[str, list[Slice]]] = {}

    def runs(self) -> tuple[list[Run], int]:
        """Return all messages together, if there are several, and the largest ones; and how many more there are."""
        chosen, params = self._chosen()
        message = ("KIND", "MESSAGE_ID")
        # No further back than it is looked: what else happens to be measured must not make another message of it.
        before = (
            f"SELECT DISTINCT KIND, MESSAGE_ID FROM {self._tables.impact_event} "
            f"WHERE {KEY} AND FIGURE IN ('reached', 'anchor', 'older') AND DAY >= %s AND DAY < %s{chosen}"
        )
        self._older = set(self._session.rows(before, (*self._key, self._looked, self._days[0], *params)))
        rows = self._funnel((message, (*message, "CHANNEL"), ("CHANNEL",), ("DAY",), ()), chosen, params)
        for row in rows:
            if row[0] is not None and row[2] is not None:
                self._channels.setdefault((row[0], row[1]), set()).add(row[2])
        messages = sorted(
            (self._run(row) for row in rows if row[0] is not None and row[2] is None),
            key=lambda run: (-(run.figures["reached"] or 0), -(run.figures["seen"] or 0), run.kind, run.id),
        )
        kept = messages[:MOST_MESSAGES]
        if kept:
            pairs = " OR ".join(["KIND = %s AND MESSAGE_ID = %s"] * len(kept))
            ids = [value for run in kept for value in (run.kind, run.id)]
            parts = ((*message, "CHANNEL", "VARIATION_ID"), (*message, "DAY"))
            rows += self._funnel(parts, f" AND ({pairs})", ids)
        for row in rows:
            if row[2] is not None or row[4] is not None:
                self._keep(row)
        if len(messages) > 1:
            together = next(self._run(row) for row in rows if all(value is None for value in row[:5]))
            kept = [replace(together, is_older=any(run.is_older for run in messages)), *kept]
        return kept, max(0, len(messages) - MOST_MESSAGES)

    def slices(self, run: Run, by: str) -> list[Slice]:
        """Return a message's figures by ``channel``, ``variation`` or ``day``, in their order."""
        found = self._slices.get((run.kind, run.id), {}).get(by, [])
        return sorted(found, key=lambda one: (one.day or 0, one.channel or "", one.variation or ""))

    def has(self, figure: str) -> bool:
        """Whether anything of a figure of ``IMPACT_EVENT`` is there, from the first day to the last window's end."""
        sql = (
            f"SELECT 1 FROM {self._tables.impact_event} "
            f"WHERE {KEY} AND FIGURE = %s AND DAY >= %s AND DAY <= %s LIMIT 1"
        )
        return bool(self._session.rows(sql, (*self._key, figure, self._days[0], self._end)))

    def currency(self) -> tuple[str | None, dict[str, int]]:
        """Return the currency to judge, None without purchases, and how many purchases there are in each."""
        rows = self._session.rows(
            f"SELECT COALESCE(CURRENCY, '') AS CURRENCY, COUNT(*) AS N FROM {self._tables.impact_event} "
            f"WHERE {KEY} AND FIGURE = 'purchase' AND DAY >= %s AND DAY <= %s GROUP BY COALESCE(CURRENCY, '') "
            "ORDER BY N DESC, CURRENCY",
            (*self._key, self._days[0], self._end),
        )
        found = {str(currency): int(number) for currency, number in rows}
        return self._question.currency or next(iter(found), None), found

    def held_out(
        self,
        run: Run,
        *,
        until: int,
        currency: str | None,
        kinds: Sequence[str],
        outcomes: str = "",
        shift: int = 0,
    ) -> dict[bool, Sums]:
        """Return the sums of the treated (False) and of those held out (True).

        Of a message that is older than the period only those count who came since: of the others, those may be gone
        whom it has moved.

        :param until: until when it is known what users did, in epoch seconds.
        :param kinds: the identifiers of users of whom it can be known.
        :param currency: of the revenue.
        :param outcomes: a query of what users did instead of ``IMPACT_EVENT``.
        :param shift: seconds that are added to when a user's outcomes begin to count.
        """
        stays, params = stays_of(self._tables, self._key[:2])
        units = _UNITS.format(
            stays=stays,
            first=run.first,
            last=run.last,
            since=self._since if run.is_older else 0,
            kinds=", ".join(f"'{kind}'" for kind in kinds) or "''",
        )
        return self._groups(
            run, units, params, until=until, currency=currency, outcomes=outcomes, shift=shift
        )

    def braze_control(self, run: Run, *, until: int, currency: str | None) -> dict[bool, Sums] | None:
        """Return the same of Braze's own control group; None when there is nobody in it, or nobody to compare it with.

        Of a campaign those are treated whom it reached: never those who are only known to have opened it.
        """
        if run.kind == "campaign" and run.figures["reached"] is None:
            return None
        figures = "'control', 'entered'" if run.kind == "canvas" else "'control', 'reached'"
        units = _BRAZE_UNITS.format(event=self._tables.impact_event, key=KEY, figures=figures)
        params = [*self._key, *self._days, run.kind, run.id]
        groups = self._groups(run, units, params, until=until, currency=currency)
        control = groups.get(True, Sums())
        return groups if control.users or control.open else None

    def _groups(
        self,
        run: Run,
        units: str,
        params: Sequence[Any],
        *,
        until: int,
        currency: str | None,
        outcomes: str = "",
        shift: int = 0,
    ) -> dict[bool, Sums]:
        goal = self._question.goal_figure
        own = (
            f"SELECT ID_KIND, USER_ID, MOMENT, FIGURE, CURRENCY, AMOUNT FROM {self._tables.impact_event} "
            # Not from the run's first reach on: Braze may have kept users out before it.
            f"WHERE {KEY} AND FIGURE IN ('purchase', 'event') AND DAY >= %s"
        )
        chosen, ids = (
            self._chosen() if run.kind == ALL else (" AND KIND = %s AND MESSAGE_ID = %s", [run.kind, run.id])
        )
        sql = _GROUPS.format(
            units=units,
            goal=goal,
            outcomes=outcomes or own,
            shift=shift,
            window=self._question.window_seconds,
            event=self._tables.impact_event,
            of_message=chosen,
            until=until,
            first=run.first,
        )
        of_outcomes = [] if outcomes else [*self._key, self._days[0]]
        rows = self._session.rows(sql, [*params, currency or "", *of_outcomes, *self._key, *ids])
        groups: dict[bool, dict[bool, Sequence[Any]]] = {}
        for control, is_open, *numbers in rows:
            groups.setdefault(bool(control), {})[bool(is_open)] = numbers
        return {control: _sums(of_group) for control, of_group in groups.items()}

    def _funnel(
        self, sets: Sequence[tuple[str, ...]], chosen: str, params: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        """Return one row for each group of each set: _COLUMNS, the figures, and the first and last reach."""
        grouped = {name for group in sets for name in group}
        columns = ", ".join(name if name in grouped else f"NULL AS {name}" for name in _COLUMNS)
        figures = ", ".join(f"{counted(figure)} AS {figure.upper()}" for figure in FUNNEL)
        sql = _FUNNEL.format(
            columns=columns,
            figures=figures,
            reach=_REACH,
            event=self._tables.impact_event,
            key=KEY,
            chosen=chosen,
            sets=", ".join(f"({', '.join(group)})" for group in sets),
        )
        return self._session.rows(sql, (*self._key, *self._days, *params))

    def _chosen(self) -> tuple[str, list[str]]:
        """Return the condition of the messages that are asked about."""
        named = self._question.named
        if not named:
            return "", []
        pairs = " OR ".join(["KIND = %s AND MESSAGE_ID = %s"] * len(named))
        return f" AND ({pairs})", [value for pair in named for value in pair]

    def _run(self, row: tuple[Any, ...]) -> Run:
        first, last = row[-2:]
        return Run(
            kind=row[0] or ALL,
            id=row[1] or ALL,
            first=None if first is None else int(first),
            last=None if last is None else int(last),
            figures=self._figures(row),
            is_older=(row[0], row[1]) in self._older,
        )

    def _keep(self, row: tuple[Any, ...]) -> None:
        kind, message_id, channel, variation, day, *_ = row
        by = "day" if day is not None else "channel" if variation is None else "variation"
        part = Slice(figures=self._figures(row), channel=channel, variation=variation, day=day)
        self._slices.setdefault((kind or ALL, message_id or ALL), {}).setdefault(by, []).append(part)

    def _figures(self, row: tuple[Any, ...]) -> Figures:
        kind, message_id, channel = row[:3]
        of = {(kind, message_id): self._channels[kind, message_id]} if kind else self._channels
        kinds = {one for one, _ in of}
        channels = {channel} if channel else {one for channels in of.values() for one in channels}
        values = zip(FUNNEL, row[5:-2], strict=True)
        return {
            figure: (round(float(value), 2) if figure == "revenue" else int(value))
            if self._tellings.knows_total(figure, kinds=kinds, channels=channels)
            else None
            for figure, value in values
        }


def _sums(of_group: dict[bool, Sequence[Any]]) -> Sums:
    """Put the users whose window is over, and those whose is not, into one."""
    users, converters, buyers, total, squares, reached, later = of_group.get(False, [0] * 7)
    still = of_group.get(True, [0] * 7)
    return Sums(
        users=int(users),
        converters=int(converters),
        buyers=int(buyers),
        total=float(total),
        squares=float(squares),
        reached=int(reached),
        later=int(later) + int(still[6]),
        open=int(still[0]),
    )
