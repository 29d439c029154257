"""Pieces of Snowflake's SQL as sqlglot's trees. Names are checked before; values are quoted by its generator."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from sqlglot import exp

from airflow_provider_kubit_braze.core.identifiers import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_kubit_braze.core.criteria.bounds import Amount
    from airflow_provider_kubit_braze.core.criteria.where import Value

    Sql: TypeAlias = exp.Expr

_PART = re.compile(NAME_PATTERN)


def identifier(name: str) -> exp.Identifier:
    """Return a name as it stands in SQL, quoted or not, as an identifier."""
    if name.startswith('"'):
        return exp.Identifier(this=name[1:-1].replace('""', '"'), quoted=True)
    return exp.Identifier(this=name, quoted=False)


def column_sql(name: str) -> Sql:
    """Return a column by its name."""
    return exp.Column(this=identifier(name))


def table_sql(name: str) -> exp.Table:
    """Return a table by its dotted name."""
    last, *above = [identifier(part) for part in reversed(_PART.findall(name))]
    return exp.Table(this=last, **dict(zip(("db", "catalog"), above, strict=False)))


def as_sql(value: Sql, name: str) -> Sql:
    """Name a column of the result."""
    return exp.Alias(this=value, alias=identifier(name))


def literal_sql(value: Value) -> Sql:
    """Return a value; its text is quoted when SQL is made of it."""
    if value is None:
        return exp.null()
    if isinstance(value, bool):
        return exp.true() if value else exp.false()
    if isinstance(value, str):
        return exp.Literal.string(value)
    number = exp.Literal.number(abs(value))
    return exp.Neg(this=number) if value < 0 else number


def moment_sql(moment: datetime) -> Sql:
    """Return a moment as Snowflake's time without a zone, in UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return exp.cast(exp.Literal.string(moment.isoformat(sep=" ")), "TIMESTAMPNTZ")


def clock_sql(time: Sql) -> Sql:
    """Return a time as milliseconds since 1970 in UTC, whatever its type and the session's time zone."""
    return exp.Anonymous(this="DATE_PART", expressions=[exp.var("EPOCH_MILLISECOND"), time])


def and_sql(conditions: Sequence[Sql]) -> Sql:
    """Return that all conditions hold."""
    return exp.and_(*conditions, copy=False)


def if_sql(condition: Sql | None, value: Sql) -> Sql:
    """Return a value where the condition holds, and NULL elsewhere."""
    return value if condition is None else exp.If(this=condition, true=value, false=exp.null())


def one_of(column: Sql, values: Sequence[Value]) -> Sql:
    """Return that a row has one of the values, of which None is to have no value."""
    named = [literal_sql(value) for value in values if value is not None]
    found: list[Sql] = []
    if named:
        found.append(
            exp.EQ(this=column, expression=named[0])
            if len(named) == 1
            else exp.In(this=column, expressions=named)
        )
    if None in values:
        found.append(exp.Is(this=column.copy(), expression=exp.null()))
    return exp.or_(*found, copy=False)


def none_of(column: Sql, values: Sequence[Value]) -> Sql:
    """Return that a row has none of the values; without a value it has none of them, unless null is one."""
    is_null = exp.Is(this=column.copy(), expression=exp.null())
    named = [literal_sql(value) for value in values if value is not None]
    if not named:
        return exp.not_(is_null, copy=False)
    if None not in values and len(named) == 1:
        return exp.NullSafeNEQ(this=column, expression=named[0])
    others = exp.not_(exp.In(this=column, expressions=named), copy=False)
    if None in values:
        return exp.and_(exp.not_(is_null, copy=False), others, copy=False)
    return exp.paren(exp.or_(is_null, others, copy=False), copy=False)


_LIMITS: dict[str, Callable[..., Sql]] = {
    "over": exp.GT,
    "at_least": exp.GTE,
    "under": exp.LT,
    "at_most": exp.LTE,
}


def amount_sql(value: Sql, limits: Amount) -> list[Sql]:
    """Return each limit that is given as a comparison."""
    return [
        compare(this=value.copy(), expression=literal_sql(limit))
        for name, compare in _LIMITS.items()
        if (limit := getattr(limits, name)) is not None
    ]
