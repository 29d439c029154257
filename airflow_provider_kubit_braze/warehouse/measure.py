"""Measure a cohort in Snowflake for the sensor: one statement, a few values back."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.identifiers import parse_column, parse_table
from airflow_provider_kubit_braze.core.readiness import CohortMeasure
from airflow_provider_kubit_braze.core.sql_text import single_query
from airflow_provider_kubit_braze.exceptions import CohortConfigError, SourceError
from airflow_provider_kubit_braze.warehouse.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snowflake.connector import SnowflakeConnection

# "Object ... does not exist or not authorized": Snowflake gives one answer for both.
_MISSING_ERRNO = 2003
_MISSING_SQLSTATE = "42S02"

# SQLSTATE class 22 is "data exception": the words of such an error quote values from rows, so user ids.
_DATA_EXCEPTION = "22"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
# Which prefix the connector puts before the words depends on its log level: errno, SQLSTATE, query id.
_PREFIX = re.compile(r"\d{6}(?: \(\w{5}\))?:\s*(?:[0-9a-f]{8}-[0-9a-f-]{27}:\s*|None:\s*)?")


def measure_cohort(
    connection: SnowflakeConnection,
    *,
    table: str | None = None,
    sql: str | None = None,
    column: str | None = None,
    count: bool = True,
    tag: dict[str, str] | None = None,
) -> CohortMeasure:
    """Ask Snowflake, in one statement, whether a cohort is there, how large it is and how fresh.

    ``TIMESTAMP_NTZ`` values are taken as UTC, ``TIMESTAMP_TZ`` and ``TIMESTAMP_LTZ`` are converted to it, a
    ``DATE`` is its midnight in UTC. (``CURRENT_TIMESTAMP()::TIMESTAMP_NTZ`` is local to the session, which
    Snowflake starts in Los Angeles: fill such a column with ``SYSDATE()``.)

    :param connection: an open connection to Snowflake; it is not closed here.
    :param table: the cohort's table, one to three identifiers joined by dots; or
    :param sql: a SELECT that returns the cohort's rows.
    :param column: the column whose newest value tells when the cohort was computed.
    :param count: whether to count the rows.
    :param tag: what the ``QUERY_TAG`` of the statement says.
    :raises CohortConfigError: if the table or the column is no name, or the SQL is not one query.
    :raises SourceError: if Snowflake refuses the statement for another reason than a missing table, or the
        column holds no date or time.
    """
    import snowflake.connector.errors as snowflake_errors

    statement = measure_sql(table=table, sql=sql, column=column, count=count)
    if tag is not None:
        Session(connection, tag=tag)
    with closing(connection.cursor()) as cursor:
        try:
            cursor.execute(statement)
            row: Sequence[Any] | None = cursor.fetchone()
        except snowflake_errors.OperationalError:
            raise  # the way to Snowflake, not the statement: another try may well succeed
        except snowflake_errors.DatabaseError as error:
            if error.errno == _MISSING_ERRNO or error.sqlstate == _MISSING_SQLSTATE:
                return CohortMeasure(exists=False)
            # `from None`: the original's text may quote rows.
            raise SourceError(_refusal(error, f"table {table}" if table else "the cohort's SQL")) from None
    if row is None:
        return CohortMeasure(exists=True)
    members, newest = row
    return CohortMeasure(
        exists=True,
        members=None if members is None else int(members),
        newest=None if column is None else _utc(newest, column),
    )


def measure_sql(*, table: str | None, sql: str | None, column: str | None, count: bool) -> str:
    """Write the statement of :func:`measure_cohort`.

    :raises CohortConfigError: if the table or the column is no name, the SQL is not one query, or not
        exactly one source is given.
    """
    if (table is None) == (sql is None):
        raise CohortConfigError("a cohort has exactly one source", fix="give table or sql", field="source")
    if column is not None:
        parse_column(column)
    source = parse_table(table) if table is not None else f"(\n{single_query(sql or '')}\n) AS cohort"
    if not count and column is None:
        return f"SELECT NULL AS members, NULL AS newest FROM {source} LIMIT 0"
    members = "COUNT(*)::NUMBER(38,0)" if count else "NULL"
    newest = f"MAX({column})" if column is not None else "NULL"
    return f"SELECT {members} AS members, {newest} AS newest FROM {source}"


def _utc(value: object, column: str) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), tzinfo=UTC)
    kind = "text" if isinstance(value, str) else f"a {type(value).__name__}"
    raise SourceError(
        f"{column} holds {kind}, no date or time: name a DATE or TIMESTAMP column as the ready column."
    )


def _refusal(error: Any, what: str) -> str:
    words = " ".join(_PREFIX.sub("", str(error.msg), count=1).split()).rstrip(".")
    sqlstate = str(error.sqlstate or "")
    if sqlstate.startswith(_DATA_EXCEPTION):
        words = _QUOTED.sub("'...'", words)
    query = f", query {error.sfqid}" if error.sfqid else ""
    return f"Snowflake refuses to read {what}: {words} (error {error.errno}, SQLSTATE {sqlstate}{query})."
