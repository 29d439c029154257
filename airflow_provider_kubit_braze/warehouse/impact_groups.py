"""The groups that are compared: who was treated, who was held out, and what each of them did in the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.impact.figures import MOSTLY_REACHED
from airflow_provider_kubit_braze.core.impact.report import ALL
from airflow_provider_kubit_braze.warehouse.impact_people import stays_of
from airflow_provider_kubit_braze.warehouse.impact_sql import KEY, chosen_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.warehouse.impact_figures import Run
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

# The first stay that overlaps the run says to which group a user belongs, and when it began to matter.
_UNITS: Final = """
SELECT ID_KIND, USER_ID, HELD_OUT AS IN_CONTROL, GREATEST(START_AT, {first}) AS ANCHOR
FROM ({stays}) t
WHERE START_AT <= {last} AND END_AT > {first} AND START_AT >= {since} AND ID_KIND IN ({kinds})
QUALIFY ROW_NUMBER() OVER (PARTITION BY ID_KIND, USER_ID ORDER BY START_AT, HELD_OUT) = 1
"""

# Braze chooses its control group when a user enters. Of two rows of one second the one that keeps the user out counts.
_BRAZE_UNITS: Final = """
SELECT ID_KIND, USER_ID, FIGURE = '{control}' AS IN_CONTROL, MOMENT AS ANCHOR
FROM {event} WHERE {key} AND DAY >= %s AND DAY <= %s AND KIND = %s AND MESSAGE_ID = %s
AND FIGURE IN ('{control}', '{treated}'){of_step}
QUALIFY ROW_NUMBER() OVER (
    PARTITION BY ID_KIND, USER_ID ORDER BY MOMENT, CASE WHEN FIGURE = '{control}' THEN 0 ELSE 1 END
) = 1
"""

# A refund is no conversion, though it lowers what somebody spent. Those held out who were sent the message all the same
# may have been sent it before the first of the treated.
_GROUPS: Final = """
WITH units AS ({units}),
done AS (
    SELECT u.ID_KIND, u.USER_ID,
        MAX(CASE WHEN o.FIGURE = '{goal}' AND COALESCE(o.AMOUNT, 0) >= 0 THEN 1 ELSE 0 END) AS CONVERTED,
        COALESCE(SUM(CASE WHEN o.FIGURE = 'purchase' AND o.CURRENCY = %s THEN o.AMOUNT END), 0) AS REVENUE
    FROM units u INNER JOIN ({outcomes}) o ON o.ID_KIND = u.ID_KIND AND o.USER_ID = u.USER_ID
    WHERE o.MOMENT >= u.ANCHOR + {shift} AND o.MOMENT < u.ANCHOR + {shift} + {window}
    GROUP BY u.ID_KIND, u.USER_ID
),
met AS (
    SELECT u.ID_KIND, u.USER_ID, MIN(e.MOMENT - u.ANCHOR) AS DELAY
    FROM units u INNER JOIN {event} e ON e.ID_KIND = u.ID_KIND AND e.USER_ID = u.USER_ID
    WHERE e.WORKSPACE = %s AND e.COHORT_ID = %s AND e.MEASURE = %s AND e.DAY >= %s{of_message}
    AND e.FIGURE = CASE WHEN u.IN_CONTROL THEN 'leaked' ELSE 'reached' END
    AND (u.IN_CONTROL OR e.MOMENT >= u.ANCHOR) AND (e.DAY <= %s OR e.MOMENT < u.ANCHOR + {window})
    GROUP BY u.ID_KIND, u.USER_ID
)
SELECT u.IN_CONTROL, u.ANCHOR + {window} > {until} AS IS_OPEN, COUNT(*) AS USERS,
    COUNT(CASE WHEN d.CONVERTED = 1 THEN 1 END) AS CONVERTERS,
    COUNT(CASE WHEN d.REVENUE <> 0 THEN 1 END) AS BUYERS,
    COALESCE(SUM(d.REVENUE), 0) AS TOTAL, COALESCE(SUM(d.REVENUE * d.REVENUE), 0) AS SQUARES,
    COUNT(CASE WHEN m.DELAY < {window} THEN 1 END) AS REACHED, COUNT(m.DELAY) AS EVER_REACHED,
    PERCENTILE_DISC({most}) WITHIN GROUP (ORDER BY m.DELAY) AS DELAY,
    COUNT(CASE WHEN u.ANCHOR > {first} THEN 1 END) AS LATER, MIN(u.ANCHOR) AS EARLIEST
FROM units u
LEFT JOIN done d ON d.ID_KIND = u.ID_KIND AND d.USER_ID = u.USER_ID
LEFT JOIN met m ON m.ID_KIND = u.ID_KIND AND m.USER_ID = u.USER_ID
GROUP BY u.IN_CONTROL, u.ANCHOR + {window} > {until}
"""

#: Kind of message -> the figures of those whom Braze keeps out, and of those whom it treats.
_CONTROL_GROUPS: Final = {"campaign": ("control", "reached"), "canvas": ("control", "entered")}
_CONTROL_PATH: Final = ("path_control", "path")

#: What is selected of a group in which there is nobody.
_NOBODY: Final = (0, 0, 0, 0, 0, 0, 0, None, 0, None)


@dataclass(frozen=True, kw_only=True)
class Sums:
    """The sums of one group, without users whose attribution window is open.

    :param users: all of them.
    :param converters: those with at least one conversion.
    :param buyers: those with a revenue other than 0.
    :param total: of revenue.
    :param squares: sum of the squares of each user's revenue.
    :param reached: those whom the message reached within the time that counts; of those held out, those to whom it was
        sent all the same from the first day on and before that time was over.
    :param ever_reached: those whom it reached in the period, or within the time that counts.
    :param delay: seconds after the time began to count within which ``MOSTLY_REACHED`` of those were reached.
    :param later: users, open ones too, who became countable after the run had begun.
    :param open: users whose window is open.
    :param opened: when the first of those windows opened, in epoch seconds.
    """

    users: int = 0
    converters: int = 0
    buyers: int = 0
    total: float = 0.0
    squares: float = 0.0
    reached: int = 0
    ever_reached: int = 0
    delay: int | None = None
    later: int = 0
    open: int = 0
    opened: int | None = None


class Groups:
    """Sums up the groups of a period.

    :param session: a Snowflake session.
    :param tables: names of the state tables.
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
        question: ImpactQuestion,
        key: tuple[str, str],
        first: date,
        last: date,
    ) -> None:
        self._session = session
        self._tables = tables
        self._question = question
        self._key = (*key, question.measure)
        self._days = (first.isoformat(), last.isoformat())
        # What is measured of later days is for other questions.
        self._end = (last + question.days_after).isoformat()
        self._since = question.starts(first)

    def currency(self) -> tuple[str | None, dict[str, int]]:
        """Return the currency to judge, None where no purchase names one, and how many purchases there are in each.

        Those that name none are under the empty text.
        """
        rows = self._session.rows(
            f"SELECT COALESCE(CURRENCY, '') AS CURRENCY, COUNT(*) AS N FROM {self._tables.impact_event} "
            f"WHERE {KEY} AND FIGURE = 'purchase' AND DAY >= %s AND DAY <= %s GROUP BY COALESCE(CURRENCY, '') "
            "ORDER BY N DESC, CURRENCY",
            (*self._key, self._days[0], self._end),
        )
        found = {str(currency): int(number) for currency, number in rows}
        return self._question.currency or next(filter(None, found), None), found

    def has_holdout(self) -> bool:
        """Whether anybody of the cohort was ever held out."""
        stays, params = stays_of(self._tables, self._key[:2])
        return bool(self._session.rows(f"SELECT 1 FROM ({stays}) t WHERE HELD_OUT LIMIT 1", params))

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
        return self._sums(run, units, params, until=until, currency=currency, outcomes=outcomes, shift=shift)

    def braze_control(
        self, run: Run, *, until: int, currency: str | None, step: str | None = None
    ) -> dict[bool, Sums] | None:
        """Return the same of Braze's own control group; None when there is nobody in it, or nobody to compare it with.

        Of a campaign those are treated whom it reached: never those who are only known to have opened it.

        :param step: an experiment step of the Canvas, whose control path is meant; None: the control group of the
            whole.
        """
        if run.kind == "campaign" and run.figures["reached"] is None:
            return None
        control, treated = _CONTROL_PATH if step else _CONTROL_GROUPS[run.kind]
        units = _BRAZE_UNITS.format(
            event=self._tables.impact_event,
            key=KEY,
            control=control,
            treated=treated,
            of_step=" AND VARIATION_ID = %s" if step else "",
        )
        params = [*self._key, *self._days, run.kind, run.id, *([step] if step else [])]
        groups = self._sums(run, units, params, until=until, currency=currency)
        out = groups.get(True, Sums())
        return groups if out.users or out.open else None

    def experiment_steps(self, run: Run) -> list[str]:
        """Return the steps of a Canvas that put anybody of the cohort on their control path in the period."""
        rows = self._session.rows(
            f"SELECT DISTINCT VARIATION_ID FROM {self._tables.impact_event} WHERE {KEY} AND DAY >= %s AND DAY <= %s "
            f"AND KIND = %s AND MESSAGE_ID = %s AND FIGURE = '{_CONTROL_PATH[0]}' AND VARIATION_ID <> '' "
            "ORDER BY VARIATION_ID",
            [*self._key, *self._days, run.kind, run.id],
        )
        return [str(step) for (step,) in rows]

    def has_braze_control(self, run: Run) -> bool:
        """Whether Braze kept anybody of the cohort out of a message in the period."""
        sql = (
            f"SELECT 1 FROM {self._tables.impact_event} WHERE {KEY} AND DAY >= %s AND DAY <= %s AND KIND = %s "
            "AND MESSAGE_ID = %s AND FIGURE IN ('control', 'path_control') LIMIT 1"
        )
        return bool(self._session.rows(sql, [*self._key, *self._days, run.kind, run.id]))

    def _sums(
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
        own = (
            f"SELECT ID_KIND, USER_ID, MOMENT, FIGURE, CURRENCY, AMOUNT FROM {self._tables.impact_event} "
            # Not from the run's first reach on: Braze may have kept users out before it.
            f"WHERE {KEY} AND FIGURE IN ('purchase', 'event') AND DAY >= %s"
        )
        chosen, ids = (
            chosen_of(self._question)
            if run.kind == ALL
            else (" AND KIND = %s AND MESSAGE_ID = %s", [run.kind, run.id])
        )
        sql = _GROUPS.format(
            units=units,
            goal=self._question.goal_figure,
            outcomes=outcomes or own,
            shift=shift,
            window=self._question.window_seconds,
            event=self._tables.impact_event,
            of_message=chosen,
            most=MOSTLY_REACHED,
            until=until,
            first=run.first,
        )
        of_outcomes = [] if outcomes else [*self._key, self._days[0]]
        rows = self._session.rows(
            sql,
            [*params, currency or "", *of_outcomes, *self._key, self._days[0], *ids, self._days[1]],
        )
        groups: dict[bool, dict[bool, Sequence[Any]]] = {}
        for control, is_open, *numbers in rows:
            groups.setdefault(bool(control), {})[bool(is_open)] = numbers
        return {control: _both(of_group) for control, of_group in groups.items()}


def _both(of_group: dict[bool, Sequence[Any]]) -> Sums:
    """Put the users whose window is over, and those whose is not, into one."""
    closed, still = (of_group.get(is_open, _NOBODY) for is_open in (False, True))
    users, converters, buyers, total, squares, reached, ever, delay, later, _ = closed
    return Sums(
        users=int(users),
        converters=int(converters),
        buyers=int(buyers),
        total=float(total),
        squares=float(squares),
        reached=int(reached),
        ever_reached=int(ever),
        delay=None if delay is None else int(delay),
        later=int(later) + int(still[8]),
        open=int(still[0]),
        opened=None if still[9] is None else int(still[9]),
    )
