"""Messages that are older than the days that are asked about: found in the share, not in what happens to be measured.

Whoever such a message has moved to leave is gone before the first day, so whether a message is one decides who is
compared. ``IMPACT_EVENT`` says it of the measured days; of those before, it is looked up in the share once, when the
first of the days is measured. What was found is kept as rows of the figure ``older``, of no user and no channel: one
for each day on which the message reached somebody of the cohort.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.warehouse import impact_sql as sql
from airflow_provider_kubit_braze.warehouse.impact_stage import Staged, union

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.tellings import Tellings
    from airflow_provider_kubit_braze.warehouse.impact_people import People
    from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
    from airflow_provider_kubit_braze.warehouse.impact_work import WorkTables
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: A message that last reached somebody longer than this before the first day is as good as new.
LOOK_BACK: Final = timedelta(days=365)

_FOUND: Final = """
SELECT {day} AS DAY, MIN(s.MOMENT) AS MOMENT, s.KIND, s.MESSAGE_ID
FROM ({rows}) s
WHERE s.MESSAGE_ID IS NOT NULL AND {is_inside}
GROUP BY {day}, s.KIND, s.MESSAGE_ID
"""


class Older:
    """Finds and keeps the messages that reached somebody before the measured days.

    :param session: a Snowflake session.
    :param tables: names of the state tables.
    :param stage: the share's events.
    :param tellings: what they tell.
    :param people: finds out whose they are.
    :param question: what is asked.
    :param key: workspace, cohort and measure.
    :param work: the measurement's tables, ``stays`` among them when something is looked for.
    :param words: ``day`` and ``is_inside`` of a staged row ``s``, as SQL.
    """

    def __init__(
        self,
        session: Session,
        tables: Tables,
        *,
        stage: Stage,
        tellings: Tellings,
        people: People,
        question: ImpactQuestion,
        key: tuple[str, str, str],
        work: WorkTables,
        words: Mapping[str, str],
    ) -> None:
        self._session = session
        self._tables = tables
        self._stage = stage
        self._tellings = tellings
        self._people = people
        self._question = question
        self._key = key
        self._work = work
        self._words = words
        self._since: date | None = None
        self._found = False

    def look(self, asked: date, measured: date) -> None:
        """Look once for what reached the cohort before the measured days; inside ``Days.prepared``.

        :param asked: the first day that is asked about.
        :param measured: the first day that is measured.
        """
        self._since = asked - LOOK_BACK
        until = self._question.starts(measured)
        # Before anybody was in the cohort nothing can have reached it: a young cohort costs no look at all.
        (entered,) = self._session.row(
            f"SELECT MIN(START_AT) FROM {self._work['stays']} WHERE NOT HELD_OUT AND START_AT < {until}"
        )
        tables = self._tellings.tables(sql.REACHED)
        if entered is None or not tables:
            return
        first = max(int(entered), self._question.starts(self._since))
        self._people.find(first, until, messages=tables, outcomes=())
        # Not each ID once, which would sort a year of the whole workspace: that there is one is all that counts.
        rows = union(
            [
                self._stage.rows(
                    table,
                    first=first,
                    until=until,
                    orphans=self._people.orphans,
                    canvases=self._people.canvases,
                    once=False,
                )
                for table in tables
            ]
        )
        self._work.make("older", Staged(_FOUND.format(**self._words, rows=rows.sql), rows.params))
        self._found = True

    def keep(self, first: date, last: date) -> None:
        """Write what was found in place of what was known; inside a transaction.

        :param first: the first measured day; from there on the days say by themselves what reached whom.
        :param last: the last one.
        """
        since = first if self._since is None else min(first, self._since)
        event = self._tables.impact_event
        self._session.execute(
            f"DELETE FROM {event} WHERE {sql.KEY} AND FIGURE = 'older' AND DAY >= %s AND DAY <= %s",
            (*self._key, since.isoformat(), last.isoformat()),
        )
        if self._found:
            self._session.execute(
                f"INSERT INTO {event} ({sql.KEPT}) SELECT %s, %s, %s, DAY, DAY, MOMENT, 'older', KIND, MESSAGE_ID, "
                f"'', '', '', '', NULL, NULL FROM {self._work['older']}",
                self._key,
            )
