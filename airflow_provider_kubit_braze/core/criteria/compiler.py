"""Criteria to Snowflake's SQL: one pass over each table, which gathers per user whatever the conditions ask for.

The text is sqlglot's: names and values go into its tree as they are, and its generator quotes them. A query over one
table is a ``GROUP BY`` with the conditions as its ``HAVING``. Where there are several, each is gathered by itself, and
the criteria's own, which holds the universe, is joined with the others once each.

Times are compared as milliseconds since 1970, in UTC: that is right for every type Snowflake has for them, whatever
the session's time zone. So that it need not read years for a month, the bare column is limited too, two days wider.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlglot import exp

from airflow_provider_kubit_braze.core.criteria.conditions import (
    AllOf,
    AnyOf,
    Did,
    Ever,
    First,
    Has,
    Last,
    Never,
    Not,
    Sum,
)
from airflow_provider_kubit_braze.core.criteria.pieces import (
    amount_sql,
    and_sql,
    as_sql,
    clock_sql,
    column_sql,
    if_sql,
    literal_sql,
    moment_sql,
    none_of,
    one_of,
    table_sql,
)
from airflow_provider_kubit_braze.core.criteria.where import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.core.criteria.bounds import Window
    from airflow_provider_kubit_braze.core.criteria.conditions import Leaf, Rows
    from airflow_provider_kubit_braze.core.criteria.definition import Criteria
    from airflow_provider_kubit_braze.core.criteria.pieces import Sql
    from airflow_provider_kubit_braze.core.criteria.where import ColumnTest

# How much earlier than a window the bare column is read from: more than any two time zones are apart.
_SLACK = timedelta(days=2)

_USER, _KEEP, _ANSWER, _TABLE = "KUBIT_USER", "KUBIT_KEEP", "KUBIT_ANSWER", "KUBIT_TABLE"


def compile_criteria(criteria: Criteria, *, now: datetime | None = None) -> str:
    """Return the query that returns the members, one row for each.

    :param criteria: who is in.
    :param now: the end of windows in time, in UTC unless it has a zone; by default when Snowflake runs the query.
    """
    return _Compiler(criteria, now).query().sql(dialect="snowflake", pretty=True)


@dataclass(frozen=True)
class _Question:
    """What a condition asks of the rows of one user.

    :param table: the table, and its column of users.
    :param answer: the aggregate that is true or false, never NULL.
    :param of_nobody: what the answer is for a user without rows.
    :param events: the column of event names with the names that count, or None when any row may.
    :param times: the column of times with the start of the window, or None when there is none.
    """

    table: tuple[str, str]
    answer: Sql
    of_nobody: bool
    events: tuple[str, tuple[str, ...]] | None
    times: tuple[str, datetime | timedelta] | None


class _Compiler:
    def __init__(self, criteria: Criteria, now: datetime | None) -> None:
        self.criteria = criteria
        self.now = now
        self.universe = (criteria.from_, criteria.user)
        self.kept = list(criteria.kept.values())
        self.questions: list[_Question] = []

    def query(self) -> exp.Select:
        tree = self._tree(self.criteria.condition)
        tables = list(dict.fromkeys([self.universe, *(question.table for question in self.questions)]))
        if len(tables) == 1 and not self.kept:
            answers = [question.answer for question in self.questions]
            return (
                self._gathered(self.universe, tree)
                .select(column_sql(self.criteria.user))
                .having(_sql(tree, answers))
            )
        return self._joined(tables, tree)

    def _joined(self, tables: Sequence[tuple[str, str]], tree: _Tree) -> exp.Select:
        """Return the users of the universe, with the answers of all tables beside each other."""
        home = f"{_TABLE}_0"
        query = exp.select(as_sql(exp.column(_USER, home), self.criteria.user))
        for number, column in enumerate(self.kept):
            query = query.select(as_sql(exp.column(f"{_KEEP}_{number}", home), column))
        answers: dict[int, Sql] = {}
        for place, table in enumerate(tables):
            alias = f"{_TABLE}_{place}"
            gathered = self._gathered(table, tree).select(as_sql(column_sql(table[1]), _USER))
            for number, column in enumerate(self.kept if place == 0 else ()):
                gathered = gathered.select(as_sql(exp.Max(this=column_sql(column)), f"{_KEEP}_{number}"))
            for number, question in enumerate(self.questions):
                if question.table == table:
                    gathered = gathered.select(as_sql(question.answer, f"{_ANSWER}_{number}"))
                    answer = exp.column(f"{_ANSWER}_{number}", alias)
                    answers[number] = (
                        exp.Coalesce(this=answer, expressions=[literal_sql(question.of_nobody)])
                        if place
                        else answer
                    )
            found = gathered.subquery(alias)
            if place == 0:
                query = query.from_(found)
            else:
                same = exp.EQ(this=exp.column(_USER, alias), expression=exp.column(_USER, home))
                query = query.join(found, on=same, join_type="left")
        return query.where(_sql(tree, [answers[number] for number in range(len(self.questions))]))

    def _gathered(self, table: tuple[str, str], tree: _Tree) -> exp.Select:
        """Return the grouped rows of one table, without those that cannot change any answer."""
        name, user = table
        known = exp.Not(this=exp.Is(this=column_sql(user), expression=exp.null()))
        return (
            exp.select()
            .from_(table_sql(name))
            .where(known, *self._only(table, tree))
            .group_by(column_sql(user))
        )

    def _only(self, table: tuple[str, str], tree: _Tree) -> list[Sql]:
        """Return what may be left out before rows are gathered.

        A user whose rows are all left out has no row at all. That is all the same in a table that is joined. In the
        universe it is so when nobody without any rows that count can be a member, whatever other tables say.
        """
        mine = [question for question in self.questions if question.table == table]
        if table == self.universe:
            without = [None if question.table != table else question.of_nobody for question in self.questions]
            if self.kept or _truth(tree, without) is not False:
                return []
        found: list[Sql] = []
        events = [question.events for question in mine if question.events]
        if mine and len(events) == len(mine) and len({column for column, _ in events}) == 1:
            names = dict.fromkeys(name for _, names in events for name in names)
            found.append(one_of(column_sql(events[0][0]), list(names)))
        times = [question.times for question in mine if question.times]
        if mine and len(times) == len(mine) and len({column for column, _ in times}) == 1:
            ago = [start for _, start in times if isinstance(start, timedelta)]
            since = [start for _, start in times if isinstance(start, datetime)]
            bounds = [self._ago(max(ago) + _SLACK)] if ago else []
            if since and min(since).replace(tzinfo=None) - datetime.min <= _SLACK:
                # From the beginning of time: there is nothing to leave out.
                return found
            bounds += [moment_sql(min(since) - _SLACK)] if since else []
            earliest = bounds[0] if len(bounds) == 1 else exp.Least(this=bounds[0], expressions=bounds[1:])
            found.append(exp.GTE(this=column_sql(times[0][0]), expression=earliest))
        return found

    # -- conditions ---------------------------------------------------------------------------------------------

    def _tree(self, condition: Any) -> _Tree:
        match condition:
            case AllOf(all=inner):
                return "all", [self._tree(one) for one in inner]
            case AnyOf(any=inner):
                return "any", [self._tree(one) for one in inner]
            case Not(not_=one):
                return "not", [self._tree(one)]
        self.questions.append(self._question(condition))
        return len(self.questions) - 1

    def _question(self, leaf: Leaf) -> _Question:
        match leaf:
            case Did(did=events, at_least=low, at_most=high, exactly=exactly):
                if low is None and high is None and exactly is None:
                    low = 1
                return self._counted(leaf, events, low, high, exactly, leaf)
            case Ever(ever=events):
                return self._counted(leaf, events, 1, None, None, None)
            case Never(never=events):
                return self._counted(leaf, events, None, None, 0, leaf)
            case Has():
                return self._counted(leaf, (EVERYTHING,), 1, None, None, leaf)
            case Sum(sum=of):
                value = exp.Sum(this=if_sql(self._rows(of, of.did, of), column_sql(of.column)))
                total = exp.Coalesce(this=value, expressions=[literal_sql(0)])
                return self._asked(of, of.did, of, and_sql(amount_sql(total, of)), of_nobody=of.admits(0))
            case First(first=of):
                return self._timed(of, exp.Min)
            case Last(last=of):
                return self._timed(of, exp.Max)

    def _counted(
        self,
        rows: Rows,
        events: tuple[str, ...],
        low: int | None,
        high: int | None,
        exactly: int | None,
        window: Window | None,
    ) -> _Question:
        which = self._rows(rows, events, window)
        number = exp.CountIf(this=which) if which else exp.Count(this=exp.Star())
        if exactly is not None:
            answer: Sql = exp.EQ(this=number, expression=literal_sql(exactly))
        elif low is not None and high is not None:
            answer = exp.Between(this=number, low=literal_sql(low), high=literal_sql(high))
        elif low is not None:
            answer = exp.GTE(this=number, expression=literal_sql(low))
        else:
            answer = exp.LTE(this=number, expression=literal_sql(high))
        return self._asked(rows, events, window, answer, of_nobody=not (low or exactly))

    def _timed(self, of: Any, pick: type[exp.Min | exp.Max]) -> _Question:
        moment = clock_sql(column_sql(of.time or self.criteria.time))
        happened = exp.LTE(this=moment, expression=clock_sql(self._now()))
        picked = pick(this=if_sql(and_sql([*self._counting(of, of.did), happened]), moment))
        inside = and_sql(self._window(picked, of, until_now=False))
        answer = exp.Coalesce(this=exp.paren(inside), expressions=[exp.false()])
        # All rows have a say in which one is first or last, so the window leaves none of them out.
        return self._asked(of, of.did, None, answer, of_nobody=False)

    def _asked(
        self, rows: Rows, events: tuple[str, ...], window: Window | None, answer: Sql, *, of_nobody: bool
    ) -> _Question:
        start: datetime | timedelta | None = None
        if window is not None:
            start = window.within or window.since
        return _Question(
            table=(rows.from_ or self.criteria.from_, rows.user or self.criteria.user),
            answer=answer,
            of_nobody=of_nobody,
            events=None if events == (EVERYTHING,) else (rows.event or self.criteria.event, events),
            times=None if start is None else (rows.time or self.criteria.time, start),
        )

    # -- rows ---------------------------------------------------------------------------------------------------

    def _rows(self, rows: Rows, events: tuple[str, ...], window: Window | None) -> Sql | None:
        """Return which rows count, or None when all of them do."""
        found = self._counting(rows, events)
        if window is not None and window.has_window:
            found += self._window(clock_sql(column_sql(rows.time or self.criteria.time)), window)
        return and_sql(found) if found else None

    def _counting(self, rows: Rows, events: tuple[str, ...]) -> list[Sql]:
        """Return what rows must show, apart from their time."""
        found: list[Sql] = []
        if events != (EVERYTHING,):
            found.append(one_of(column_sql(rows.event or self.criteria.event), events))
        for column, test in rows.where.tests if rows.where else ():
            found += self._test(column, test)
        return found

    def _test(self, name: str, test: ColumnTest) -> list[Sql]:
        found: list[Sql] = []
        if test.is_:
            found.append(one_of(column_sql(name), test.is_))
        if test.not_:
            found.append(none_of(column_sql(name), test.not_))
        found += amount_sql(column_sql(name), test)
        if test.starts_with:
            found.append(
                exp.func("STARTSWITH", column_sql(name), literal_sql(test.starts_with), dialect="snowflake")
            )
        if test.contains:
            found.append(
                exp.func("CONTAINS", column_sql(name), literal_sql(test.contains), dialect="snowflake")
            )
        if test.has_window:
            # A renewal or the end of a trial may well lie ahead; only a window that ends now leaves the future out.
            found += self._window(clock_sql(column_sql(name)), test, until_now=test.within is not None)
        return found

    # -- time ---------------------------------------------------------------------------------------------------

    def _window(self, clock: Sql, window: Window, *, until_now: bool = True) -> list[Sql]:
        found: list[Sql] = []
        if window.within is not None:
            found.append(exp.GTE(this=clock.copy(), expression=clock_sql(self._ago(window.within))))
        if window.since is not None:
            found.append(exp.GTE(this=clock.copy(), expression=clock_sql(moment_sql(window.since))))
        if isinstance(window.before, timedelta):
            found.append(exp.LT(this=clock.copy(), expression=clock_sql(self._ago(window.before))))
        elif window.before is not None:
            found.append(exp.LT(this=clock.copy(), expression=clock_sql(moment_sql(window.before))))
        if until_now and not isinstance(window.before, timedelta):
            found.append(exp.LTE(this=clock.copy(), expression=clock_sql(self._now())))
        return found

    def _now(self) -> Sql:
        return moment_sql(self.now) if self.now else exp.Anonymous(this="SYSDATE")

    def _ago(self, how_long: timedelta) -> Sql:
        minutes = how_long // timedelta(minutes=1)
        size, unit = next(
            (size, unit) for size, unit in ((1440, "DAY"), (60, "HOUR"), (1, "MINUTE")) if minutes % size == 0
        )
        return exp.Anonymous(
            this="DATEADD", expressions=[exp.var(unit), literal_sql(-(minutes // size)), self._now()]
        )


# -- all, any and not ---------------------------------------------------------------------------------------------

# A question's number, or how the trees below are combined.
_Tree: TypeAlias = "int | tuple[str, list[_Tree]]"


def _sql(tree: _Tree, answers: Sequence[Sql]) -> Sql:
    if isinstance(tree, int):
        return answers[tree].copy()
    how, below = tree
    parts = [_sql(one, answers) for one in below]
    if how == "not":
        return exp.not_(parts[0], copy=False)
    return exp.and_(*parts, copy=False) if how == "all" else exp.or_(*parts, copy=False)


def _truth(tree: _Tree, answers: Sequence[bool | None]) -> bool | None:
    """Return whether it holds; None where that hangs on answers that are not known."""
    if isinstance(tree, int):
        return answers[tree]
    how, below = tree
    parts = [_truth(one, answers) for one in below]
    if how == "not":
        return None if parts[0] is None else not parts[0]
    decisive = how == "any"
    if decisive in parts:
        return decisive
    return None if None in parts else not decisive
