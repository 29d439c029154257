"""The days of a cohort, from a share of Braze's data and the ledger: how many were in it, and what its users did.

Rows are read as for an impact, see ``impact_stage``: of one workspace, each once, by whom they belong to now.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.impact.life import (
    DAY_FIGURES,
    LIFE,
    STAY_FIGURES,
    CohortDay,
    CohortTimeline,
    known_figures,
    split_tables,
    stand_ins,
)
from airflow_provider_kubit_braze.core.impact.tellings import Tellings
from airflow_provider_kubit_braze.exceptions import NeverImportedError
from airflow_provider_kubit_braze.warehouse.impact_days import DAYS_AT_ONCE, Days
from airflow_provider_kubit_braze.warehouse.impact_people import stays_of
from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
from airflow_provider_kubit_braze.warehouse.share_check import read_inventory
from airflow_provider_kubit_braze.warehouse.timeline import was_imported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

_DAY: Final = timedelta(days=1)

_STAYS: Final = """
WITH days (DAY, FIRST, AFTER) AS (SELECT * FROM (VALUES {days}) AS v (DAY, FIRST, AFTER)), stays AS ({stays})
SELECT d.DAY,
    COUNT(DISTINCT CASE WHEN NOT t.HELD_OUT AND t.END_AT >= d.AFTER THEN t.ID_KIND || ':' || t.USER_ID END),
    COUNT(DISTINCT CASE WHEN t.HELD_OUT AND t.END_AT >= d.AFTER THEN t.ID_KIND || ':' || t.USER_ID END),
    COUNT(DISTINCT CASE WHEN NOT t.HELD_OUT AND t.START_AT >= d.FIRST THEN t.ID_KIND || ':' || t.USER_ID END),
    COUNT(DISTINCT CASE WHEN NOT t.HELD_OUT AND t.END_AT < d.AFTER THEN t.ID_KIND || ':' || t.USER_ID END)
FROM days d INNER JOIN stays t ON t.START_AT < d.AFTER AND t.END_AT >= d.FIRST
GROUP BY d.DAY
"""


def cohort_timeline(
    question: ImpactQuestion,
    *,
    session: Session,
    tables: Tables,
    workspace: str,
    cohort_id: str,
    now: datetime,
) -> CohortTimeline:
    """Return the days of a cohort: how many were in it, and how many of its users did what.

    Counted are all days of whoever was in the cohort, or held out of it, at some time of the period: also those before
    they came and after they left. Tables are made in the schema of the state tables, and are gone afterwards.

    :param question: where the share is, of which days, and in which time zone.
    :param session: a session whose role may read the share, and make tables in the state schema.
    :param tables: names of the state tables, which are there.
    :param workspace: key of the Braze workspace, as the ledger has it.
    :param cohort_id: the cohort.
    :param now: an aware moment; nothing after it has happened.
    :raises SourceError: when the share cannot be read; with the SQL that helps.
    :raises CohortConfigError: when the first day is still to come.
    :raises NeverImportedError: when the ledger has nobody of the cohort.
    """
    question.begun_days(now)
    if not was_imported(session, tables, (workspace, cohort_id)):
        raise NeverImportedError(
            f"No import has ever brought anybody of cohort {cohort_id!r} into workspace {workspace}, so it has no days "
            "to tell; correct the cohort's id or the connection to Braze, or import the cohort first."
        )
    return _Calendar(session, tables, question, (workspace, cohort_id), now).timeline()


class _Calendar:
    """The days of a cohort."""

    def __init__(
        self,
        session: Session,
        tables: Tables,
        question: ImpactQuestion,
        key: tuple[str, str],
        now: datetime,
    ) -> None:
        self._session = session
        self._question = question
        first, last = question.days(now)
        inventory = read_inventory(session, question.source).since(question.starts(first), now=now)
        wanted = dict.fromkeys(table for some in DAY_FIGURES.values() for table in some)
        self._there, self._missing = split_tables(inventory.columns, list(wanted))
        self._there += split_tables(inventory.columns, stand_ins(self._there))[0]
        self._stays = stays_of(tables, key)
        self._days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        self._now = int(now.timestamp()) + 1
        self._measured = Days(
            session,
            tables,
            inventory=inventory,
            stage=Stage(inventory, app_group_id=question.app_group_id),
            tellings=Tellings(inventory.columns),
            question=question,
            key=key,
        )

    def timeline(self) -> CohortTimeline:
        figures: dict[date, dict[str, int | None]] = {
            day: dict.fromkeys((*STAY_FIGURES, *DAY_FIGURES), 0) for day in self._days
        }
        channels: set[str] = set()
        for day, *numbers in self._stay_rows():
            figures[day] |= {name: int(one) for name, one in zip(STAY_FIGURES, numbers, strict=True)}
        with self._measured.prepared():
            for first in range(0, len(self._days) if self._there else 0, DAYS_AT_ONCE):
                for day, told, users in self._day_rows(self._days[first : first + DAYS_AT_ONCE]):
                    if told in DAY_FIGURES:
                        figures[day][told] = int(users)
                    else:
                        channels.add(told)
        unknown = dict.fromkeys(DAY_FIGURES.keys() - known_figures(self._there, channels))
        return CohortTimeline(
            days=[CohortDay(day=day, figures=figures[day] | unknown) for day in self._days],
            missing=self._missing,
            notes=self._measured.notes,
        )

    def _starts(self, day: date) -> int:
        return self._question.starts(day)

    def _stay_rows(self) -> list[tuple[Any, ...]]:
        """Return each day with STAY_FIGURES."""
        stays, params = self._stays
        days = ", ".join(
            f"(CAST('{day.isoformat()}' AS DATE), {self._starts(day)}, {self._starts(day + _DAY)})"
            for day in self._days
        )
        return self._session.rows(_STAYS.format(days=days, stays=stays), params)

    def _day_rows(self, days: Sequence[date]) -> list[tuple[Any, ...]]:
        """Return day, figure or channel, and users of some days that follow each other."""
        source = self._measured.stage_life(
            self._there, self._starts(days[0]), min(self._starts(days[-1] + _DAY), self._now)
        )
        tells = [(table, name) for name, tables in DAY_FIGURES.items() for table in tables]
        tells += [(table, channel) for table in self._there if (channel := LIFE[table].channel)]
        told = ", ".join(f"('{table}', '{what}')" for table, what in tells if table in self._there)
        stays, params = self._stays
        period = f"{self._starts(self._days[0])} AND START_AT < {self._starts(self._days[-1] + _DAY)}"
        return self._session.rows(
            f"SELECT {self._measured.day('s.MOMENT')} AS DAY, m.TELLS, "
            f"COUNT(DISTINCT p.ID_KIND || ':' || p.USER_ID) FROM {source} "
            f"INNER JOIN (VALUES {told}) m (SRC, TELLS) ON m.SRC = s.SRC "
            f"INNER JOIN (SELECT DISTINCT ID_KIND, USER_ID FROM ({stays}) t WHERE END_AT >= {period}) c "
            "ON c.ID_KIND = p.ID_KIND AND c.USER_ID = p.USER_ID GROUP BY 1, 2",
            params,
        )
