"""Just enough of Snowflake's lexical rules to tell one query from several, past quotes and comments."""

from __future__ import annotations

import re

from airflow_provider_kubit_braze.exceptions import CohortConfigError

_TOKEN = re.compile(
    r"""
      (?P<blank>   \s+ | --[^\n]* | //[^\n]* | /\*.*?\*/ )
    | (?P<string>  '(?:[^'\\]|''|\\.)*' | "(?:[^"]|"")*" | \$\$.*?\$\$ )
    | (?P<open>    /\* | ' | " | \$\$ )  # begun, but no end was found above
    | (?P<word>    [A-Za-z_][A-Za-z0-9_$]* )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)


def single_query(text: str) -> str:
    """Return the one query in the text, without what surrounds it: blanks, comments and closing semicolons.

    The result can stand in parentheses: it never ends in a line comment.

    :param text: SQL as its author wrote it.
    :raises CohortConfigError: when the text is blank, holds several statements, leaves a quote, comment or
        parenthesis open, or begins with anything but SELECT or WITH.
    """
    start = end = depth = 0
    first = ""
    ended = False
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "blank":
            continue
        if token.lastgroup == "open":
            raise CohortConfigError(f"the SQL opens {token.group()} and never closes it", fix="close it")
        if token.group() == ";":
            ended = True
            continue
        if ended and first:
            raise CohortConfigError(
                "the SQL holds more than one statement", fix="keep one SELECT or WITH query"
            )
        if not first:
            first, start = token.group(), token.start()
        end = token.end()
        depth += {"(": 1, ")": -1}.get(token.group(), 0)
        if depth < 0:
            break
    if not first:
        raise CohortConfigError("the SQL is blank", fix="write a query that begins with SELECT or WITH")
    if first.upper() not in ("SELECT", "WITH"):
        raise CohortConfigError(
            f"the SQL begins with {first!r}", fix="write a query that begins with SELECT or WITH"
        )
    if depth:
        raise CohortConfigError("the SQL's parentheses do not match", fix="open and close the same number")
    return text[start:end]
