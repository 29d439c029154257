"""One Snowflake session: statements with a query tag, transactions, and errors in words for people."""

from __future__ import annotations

import json
import logging
import random
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Times something is tried that gets into others' way, and the longest pause before a try, in seconds.
_TRIES: Final = 24
_PAUSE: Final = 15.0

# Too many statements wait for the table's lock already (Snowflake documentation, "Transactions": at most 20).
_TOO_MANY_WAIT: Final = 625

# What the connector puts before the words varies: errno, SQLSTATE and query id, or the errno alone and twice.
_PREFIX = re.compile(r"(?:\d{6}(?: \(\w{5}\))?:\s*(?:[0-9a-f]{8}-[0-9a-f-]{27}:\s*|None:\s*)?)+")
# SQLSTATE class 22 is "data exception": the words of such an error quote values from rows, so user ids.
_DATA_EXCEPTION = "22"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")

# What is not there, or not for this role; Snowflake does not say which. 3001 is a missing privilege, 2003 and 2043 an
# object, 3030 the database of a share that was revoked.
_DENIED_STATES: Final = frozenset(("42501", "42S02", "02000"))
_DENIED: Final = frozenset((2003, 2043, 3001, 3030))
_DENIED_WORDS: Final = ("insufficient privileges", "does not exist or not authorized")

# The classes of SQLSTATE for a broken connection, a transaction that was rolled back, want of resources, somebody's
# intervention (57014: cancelled, also by a time-out), and a system's own failure.
_PASSING_CLASSES: Final = frozenset(("08", "40", "53", "57", "58", "XX"))
# The same by Snowflake's numbers: its own failure, cancelled, no warehouse, timed out; and a warehouse that a resource
# monitor keeps from being resumed, whose SQLSTATE is one of a wrong statement.
_PASSING: Final = frozenset((603, 604, 606, 630, 90073))

_PART = re.compile(r'[A-Za-z_][A-Za-z0-9_$]*|"(?:[^"]|"")+"')


def split_name(name: str) -> list[str]:
    """Split a dotted Snowflake name into its parts.

    :raises ValueError: when a part is neither a plain nor a double-quoted identifier.
    """
    parts = _PART.findall(name)
    if not parts or ".".join(parts) != name:
        raise ValueError(f"{name!r} is not a Snowflake name")
    return [str(part) for part in parts]


def stored_name(identifier: str) -> str:
    """Return an identifier as Snowflake stores it: unquoted ones in upper case, quoted ones as they are."""
    if identifier.startswith('"'):
        return identifier[1:-1].replace('""', '"')
    return identifier.upper()


def first_line(error: BaseException) -> str:
    """Return what Snowflake says, on one line, without its query id and without values from rows."""
    text = str(getattr(error, "msg", None) or error).strip()
    if prefix := _PREFIX.match(text):
        text = text[prefix.end() :]
    if str(getattr(error, "sqlstate", None) or "").startswith(_DATA_EXCEPTION):
        text = _QUOTED.sub("'...'", text)
    return " ".join(text.split())[:400]


def is_refusal(error: BaseException) -> bool:
    """Whether Snowflake understood a statement and said no, as opposed to not being reached at all."""
    from snowflake.connector.errors import DatabaseError, OperationalError

    return isinstance(error, DatabaseError) and not isinstance(error, OperationalError)


def is_contention(error: BaseException) -> bool:
    """Whether a statement met another one's lock, so that the same transaction may well succeed later."""
    if not is_refusal(error):
        return False
    # DuckDB, the local Snowflake's engine, does not wait for a lock but says so at once: "Conflict on update!" for a
    # row, "Catalog write-write conflict on create" for a table that another session has not committed yet.
    said = str(error).lower()
    return getattr(error, "errno", None) == _TOO_MANY_WAIT or (
        "transactioncontext error" in said and "conflict" in said
    )


def gives_way(error: BaseException, *, attempt: int) -> bool:
    """Pause, if what a statement met was another one's lock and it may be tried again; each pause is longer.

    :param attempt: how often it has been tried by now, from 1.
    :return: False at once when the error is another one, or when it has been tried often enough.
    """
    if attempt >= _TRIES or not is_contention(error):
        return False
    log.info("Snowflake is busy with others' changes of a state table; trying again.")
    time.sleep(min(_PAUSE, 0.05 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
    return True


def is_denied(error: BaseException) -> bool:
    """Whether Snowflake says that something is not there, or not for this role: what a grant may put right."""
    if not is_refusal(error):
        return False
    said = str(getattr(error, "msg", None) or error).lower()
    return (
        getattr(error, "errno", None) in _DENIED
        or getattr(error, "sqlstate", None) in _DENIED_STATES
        or any(words in said for words in _DENIED_WORDS)
    )


def is_passing(error: BaseException) -> bool:
    """Whether Snowflake said no for a reason outside of the statement, which may be gone at the next try.

    It took too long, it was cancelled, no warehouse could run it, or Snowflake itself failed.
    """
    if not is_refusal(error) or is_denied(error):
        return False
    state = str(getattr(error, "sqlstate", None) or "")
    return getattr(error, "errno", None) in _PASSING or state[:2] in _PASSING_CLASSES


class Session:
    """A Snowflake connection of one thread.

    :param connection: a connection of the Snowflake connector; what it does counts at once, also where an account, a
        user or the connection says otherwise: what is noted before a request goes out must not be taken back.
    :param tag: what the ``QUERY_TAG`` of every statement says, as JSON.
    """

    def __init__(self, connection: SnowflakeConnection, *, tag: dict[str, str]) -> None:
        self.connection = connection
        self.execute("ALTER SESSION SET AUTOCOMMIT = TRUE")
        # Not through session_parameters: with those the hook's connection does not roll back.
        try:
            self.execute("ALTER SESSION SET QUERY_TAG = %s", (json.dumps(tag, sort_keys=True),))
        except Exception as error:
            if not is_refusal(error):
                raise
            # A tag helps whoever reads the query history; an import does not depend on it.
            log.warning("Snowflake does not take the QUERY_TAG: %s", first_line(error))

    def execute(self, sql: str, params: Sequence[Any] | None = None) -> SnowflakeCursor:
        """Run one statement. With ``params``, a literal % in ``sql`` is written %%."""
        cursor = self.connection.cursor()
        cursor.execute(sql, params)
        return cursor

    def rows(self, sql: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows."""
        return [tuple(row) for row in self.execute(sql, params).fetchall()]

    def row(self, sql: str, params: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """Run a statement that returns exactly one row."""
        (row,) = self.rows(sql, params)
        return row

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back by Snowflake."""
        self.connection.close()

    @contextmanager
    def transaction(self, *, keep: bool = True) -> Iterator[None]:
        """Run the statements inside as one: all of them count, or none.

        :param keep: False takes back what they changed, as a rehearsal does.
        """
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            try:
                self.execute("ROLLBACK")
            except Exception as error:
                # The reason for it says more; and Snowflake rolls back when the session ends.
                log.warning("Snowflake did not roll back: %s", first_line(error))
            raise
        self.execute("COMMIT" if keep else "ROLLBACK")

    def transact(self, work: Callable[[], _T], *, keep: bool = True) -> _T:
        """Run ``work`` in a transaction and return what it returns; begin anew when it met another one's lock.

        :param work: executes statements on this session, and nothing that a rollback does not undo.
        :param keep: False takes back what it changed, when it has returned.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                with self.transaction(keep=keep):
                    value = work()
            except Exception as error:
                if not gives_way(error, attempt=attempt):
                    raise
            else:
                return value
        raise AssertionError("the last attempt returns or raises")
