"""What the measured days say of a period: the funnel of each message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.impact.report import ALL, MOST_MESSAGES, Slice
from airflow_provider_kubit_braze.core.impact.tellings import FUNNEL
from airflow_provider_kubit_braze.warehouse.impact_days import counted
from airflow_provider_kubit_braze.warehouse.impact_older import LOOK_BACK
from airflow_provider_kubit_braze.warehouse.impact_sql import COUNTS, KEY, chosen_of

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

# What came of the messages that reached somebody in the period, though it came after its last day. The days say no more
# than where to look.
_OF_PERIOD: Final = "DAY >= %s AND DAY <= %s AND REACH_DAY >= %s AND REACH_DAY <= %s"

# What happened on each day, whenever the message was sent that it came of.
_BY_DAY: Final = "DAY >= %s AND DAY <= %s"

_FUNNEL: Final = """
SELECT {columns}, {figures}, MIN({reach}), MAX({reach})
FROM {event}
WHERE {key} AND {period} AND {counts}{chosen}
GROUP BY GROUPING SETS ({sets})
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A message in a period.

    :param kind: ``campaign``, ``canvas`` or ``all``.
    :param id: its API identifier, or ``all``.
    :param first: when it first reached somebody, in epoch seconds: of others nothing is counted.
    :param last: when it last did.
    :param figures: over the whole period.
    :param is_older: whether it reached somebody in the year before the period, too.
    :param longest_gap: days between two days in a row on which it reached somebody, at most; 0 with one such day.
    """

    kind: str
    id: str
    first: int
    last: int
    figures: Figures
    is_older: bool = False
    longest_gap: int = 0


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
        self._end = (last + question.days_after).isoformat()
        self._looked = (first - LOOK_BACK).isoformat()
        self._older: set[tuple[str, str]] = set()
        self._channels: dict[tuple[str, str], set[str]] = {}
        self._slices: dict[tuple[str, str], dict[str, list[Slice]]] = {}
        self._reach_days: dict[tuple[str, str], list[date]] = {}

    def runs(self) -> tuple[list[Run], int]:
        """Return all messages together, if there are several, and the largest ones; and how many more there are."""
        chosen, params = chosen_of(self._question)
        message = ("KIND", "MESSAGE_ID")
        # No further back than it is looked: what else happens to be measured must not make another message of it.
        before = (
            f"SELECT DISTINCT KIND, MESSAGE_ID FROM {self._tables.impact_event} "
            f"WHERE {KEY} AND FIGURE IN ('reached', 'anchor', 'older') AND DAY >= %s AND DAY < %s{chosen}"
        )
        self._older = set(self._session.rows(before, (*self._key, self._looked, self._days[0], *params)))
        rows = self._funnel((message, (*message, "CHANNEL"), ("CHANNEL",), ()), chosen, params)
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
            rows += self._funnel([(*message, "CHANNEL", "VARIATION_ID")], f" AND ({pairs})", ids)
            rows += self._funnel([(*message, "DAY")], f" AND ({pairs})", ids)
        if len(messages) > 1:
            rows += self._funnel([("DAY",)], chosen, params)
        for row in rows:
            if row[2] is not None or row[4] is not None:
                self._keep(row)
        if len(messages) > 1:
            together = next(self._run(row) for row in rows if all(value is None for value in row[:5]))
            kept = [replace(together, is_older=any(run.is_older for run in messages)), *kept]
        kept = [replace(run, longest_gap=self._longest_gap(run)) for run in kept]
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

    def _funnel(
        self, sets: Sequence[tuple[str, ...]], chosen: str, params: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        """Return one row for each group of each set: _COLUMNS, the figures, and the first and last reach."""
        grouped = {name for group in sets for name in group}
        period, days = _BY_DAY, list(self._days)
        if "DAY" not in grouped:
            period, days = _OF_PERIOD, [self._days[0], self._end, *self._days]
        columns = ", ".join(name if name in grouped else f"NULL AS {name}" for name in _COLUMNS)
        figures = ", ".join(f"{counted(figure)} AS {figure.upper()}" for figure in FUNNEL)
        sql = _FUNNEL.format(
            columns=columns,
            figures=figures,
            reach=_REACH,
            event=self._tables.impact_event,
            key=KEY,
            period=period,
            counts=COUNTS,
            chosen=chosen,
            sets=", ".join(f"({', '.join(group)})" for group in sets),
        )
        return self._session.rows(sql, (*self._key, *days, *params))

    def _run(self, row: tuple[Any, ...]) -> Run:
        first, last = row[-2:]
        return Run(
            kind=row[0] or ALL,
            id=row[1] or ALL,
            first=int(first),
            last=int(last),
            figures=self._figures(row),
            is_older=(row[0], row[1]) in self._older,
        )

    def _keep(self, row: tuple[Any, ...]) -> None:
        kind, message_id, channel, variation, day, *_ = row
        by = "day" if day is not None else "channel" if variation is None else "variation"
        part = Slice(figures=self._figures(row), channel=channel, variation=variation, day=day)
        self._slices.setdefault((kind or ALL, message_id or ALL), {}).setdefault(by, []).append(part)
        if day is not None and row[-1] is not None:
            self._reach_days.setdefault((kind or ALL, message_id or ALL), []).append(day)

    def _longest_gap(self, run: Run) -> int:
        days = sorted(self._reach_days.get((run.kind, run.id), ()))
        return max(((later - earlier).days for earlier, later in pairwise(days)), default=0)

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
