"""The statement that plans an import, in its parts.

One statement, so that changes and counts are of the very same moment. ``warehouse.plan`` puts it together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.payload import MAX_ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

# The counts travel as one more row of the frozen plan, so that they are of the very same moment, and are taken out
# again in the same transaction.
COUNTS_SEQ: Final = -1

# What the cohort is to be, rows as they come: PLACE, ID_KIND, USER_ID, HELD, ROW_HASH, and all of a row's identifiers.
FROM_SOURCE: Final = """
    SELECT %s AS PLACE, ID_KIND, USER_ID, {held} AS HELD, ROW_HASH{every} FROM (
        SELECT {kind} AS ID_KIND, {user} AS USER_ID, {row_hash} AS ROW_HASH{every_as} FROM (
{select}
        ) source
    ) named
"""

# The stays as they were before one import: opened by another one, and still open or closed by this one.
BEFORE_IMPORT: Final = """
    SELECT PLACE, ID_KIND, USER_ID, HELD_OUT AS HELD, CAST(NULL AS VARCHAR) AS ROW_HASH
    FROM {membership} WHERE WORKSPACE = %s AND COHORT_ID = %s
    AND (ENTERED_IMPORT IS NULL OR ENTERED_IMPORT <> %s) AND (LEFT_AT IS NULL OR LEFT_IMPORT = %s)
"""

NOBODY: Final = """
    SELECT PLACE, ID_KIND, USER_ID, HELD_OUT AS HELD, CAST(NULL AS VARCHAR) AS ROW_HASH
    FROM {membership} WHERE 1 = 0
"""

# The user id of a row, or NULL where Braze could do nothing with it: longer than it takes, or of blanks alone. What
# sorts behind the blanks does not begin with one, which spares almost every row the search for them.
USABLE: Final = f"""
        CASE WHEN BIT_LENGTH(USER_ID) > {8 * MAX_ID_BYTES} THEN NULL
            WHEN USER_ID > '!' THEN USER_ID
            WHEN TRIM(TRANSLATE(USER_ID, CHR(9) || CHR(10) || CHR(13), '')) <> '' THEN USER_ID
        END"""

# Everybody is looked at once, row by row: the source is read in one place only, and a table of all users is joined once
# and never grouped. WANTED and STATE, what a user is to be and is: 0 not in the cohort, 1 held out, 2 in it in Braze.
# Only changes become one row per user, with all others together in a row for each kind of them: what the plan has to
# count follows from these few rows and from the number of stays, and is of the very rows that the changes came from.
# The name around the source is an unusual one: Snowflake takes a table of the same name in the author's SQL for a
# recursion.
PLAN: Final = """
INSERT INTO {change} (IMPORT_ID, SEQ, ACTION, PLACE, ID_KIND, USER_ID, HELD_OUT, ROW_HASH)
WITH kubit_source_rows AS (
    SELECT PLACE, ID_KIND,{usable} AS USER_ID, HELD, ROW_HASH, 1 AS LISTED{every}
    FROM ({rows}) listed
),
stays AS (
    SELECT PLACE, ID_KIND, USER_ID, CASE WHEN HELD_OUT THEN 1 ELSE 2 END AS STATE, ENTERED_AT
    FROM {stays}
),
doubtful AS (
    SELECT PLACE, ID_KIND, USER_ID, MAX(RECORDED_AT) AS SINCE
    FROM {unknown} WHERE WORKSPACE = %s AND COHORT_ID = %s GROUP BY PLACE, ID_KIND, USER_ID
),
known AS (
    SELECT
        COALESCE(s.PLACE, d.PLACE) AS PLACE,
        COALESCE(s.ID_KIND, d.ID_KIND) AS ID_KIND,
        COALESCE(s.USER_ID, d.USER_ID) AS USER_ID,
        COALESCE(s.STATE, 0) AS STATE,
        d.USER_ID IS NOT NULL AS DOUBT,
        d.SINCE
    FROM stays s FULL OUTER JOIN doubtful d
        ON s.PLACE = d.PLACE AND s.ID_KIND = d.ID_KIND AND s.USER_ID = d.USER_ID
),
compared AS (
    SELECT
        COALESCE(m.PLACE, k.PLACE) AS PLACE,
        COALESCE(m.ID_KIND, k.ID_KIND) AS ID_KIND,
        COALESCE(m.USER_ID, k.USER_ID) AS USER_ID,
        CASE WHEN m.USER_ID IS NULL THEN 0 WHEN m.HELD THEN 1 ELSE 2 END AS WANTED,
        COALESCE(k.STATE, 0) AS STATE,
        COALESCE(k.DOUBT, FALSE) AS DOUBT,
        k.SINCE, m.ROW_HASH, m.LISTED{every}
    FROM kubit_source_rows m FULL OUTER JOIN known k
        ON m.PLACE = k.PLACE AND m.ID_KIND = k.ID_KIND AND m.USER_ID = k.USER_ID
),
alone AS (
    SELECT *,
        CASE
            WHEN WANTED = 2 AND STATE = 2 THEN CASE WHEN DOUBT OR {resync} THEN 'refresh' END
            WHEN WANTED = 2 THEN 'enter'
            WHEN STATE = 2 OR DOUBT THEN 'leave'
            WHEN WANTED = 1 AND STATE = 0 THEN 'hold'
            WHEN WANTED = 0 AND STATE = 1 THEN 'drop'
        END AS ACTION
    FROM compared
),
resting AS (
    SELECT PLACE, ID_KIND, USER_ID, COALESCE(ROW_HASH, '') AS ROW_HASH, MAX(REJECTED_AT) AS SINCE FROM {rejected}
    WHERE WORKSPACE = %s AND COHORT_ID = %s AND ACTION <> 'leave' AND CLEARED_AT IS NULL
    AND REJECTED_AT > DATEADD(day, -{rest_days}, SYSDATE())
    GROUP BY PLACE, ID_KIND, USER_ID, COALESCE(ROW_HASH, '')
),
{judged},
gathered AS (
    SELECT
        CASE WHEN ACTION IS NOT NULL THEN PLACE END AS PLACE,
        CASE WHEN ACTION IS NOT NULL THEN ID_KIND END AS ID_KIND,
        CASE WHEN ACTION IS NOT NULL THEN USER_ID END AS USER_ID,
        WANTED, STATE, DOUBT, SINCE, ACTION, COALESCE(MIN(ROW_HASH), '') AS ROW_HASH, COUNT(LISTED) AS LISTED
    FROM judged GROUP BY 1, 2, 3, WANTED, STATE, DOUBT, SINCE, ACTION
),
changes AS (
    SELECT g.PLACE, g.ID_KIND, g.USER_ID, g.ROW_HASH, g.WANTED, g.STATE, g.DOUBT, g.LISTED,
        CASE WHEN g.ACTION = 'enter' AND NOT {resync} AND COALESCE(g.SINCE, r.SINCE) <= r.SINCE THEN 'rest'
            ELSE g.ACTION END AS ACTION
    FROM gathered g LEFT JOIN resting r
        ON g.PLACE = r.PLACE AND g.ID_KIND = r.ID_KIND AND g.USER_ID = r.USER_ID AND g.ROW_HASH = r.ROW_HASH
)
SELECT
    %s,
    ROW_NUMBER() OVER (
        ORDER BY CASE ACTION WHEN 'leave' THEN 0 WHEN 'enter' THEN 1 WHEN 'refresh' THEN 2 ELSE 3 END,
            PLACE, ID_KIND, USER_ID
    ),
    ACTION, PLACE, ID_KIND, USER_ID, WANTED = 1, NULLIF(ROW_HASH, '')
FROM changes WHERE ACTION <> 'rest'
UNION ALL
SELECT %s, {counts_seq}, 'counts', NULL, NULL, CONCAT_WS('/', of_changes.NUMBERS, of_stays.NUMBERS), NULL, NULL
FROM (SELECT {changes_counted} AS NUMBERS FROM changes) of_changes,
    (SELECT {stays_counted} AS NUMBERS FROM {stays}) of_stays
ORDER BY 2
"""

NO_PAIRS: Final = (
    "SELECT PLACE, ID_KIND, USER_ID, ID_KIND AS OTHER_KIND, USER_ID AS OTHER FROM stays WHERE 1 = 0"
)

ONE_IDENTIFIER: Final = "judged AS (SELECT * FROM alone)"

# Who leaves under one identifier may be the person who stays under another: one profile, and the last word about it
# has to be that it is in. Whoever enters comes after the leavers anyway. Others are sent once more when their row names
# the leaver; where no row does any more, when they entered since an import that could not make somebody of another kind
# leave; and when Braze refused to hear of them last, so that another name may have had the last word.
SEVERAL_IDENTIFIERS: Final = """kin AS ({pairs}),
late AS (
    SELECT l.PLACE, l.ID_KIND, MIN(r.STARTED_AT) AS SINCE FROM alone l
    INNER JOIN (
        SELECT PLACE, ID_KIND, USER_ID, IMPORT_ID FROM {unknown} WHERE WORKSPACE = %s AND COHORT_ID = %s
        UNION ALL
        SELECT PLACE, ID_KIND, USER_ID, IMPORT_ID FROM {rejected}
        WHERE WORKSPACE = %s AND COHORT_ID = %s AND ACTION = 'leave' AND CLEARED_AT IS NULL
    ) overdue ON overdue.PLACE = l.PLACE AND overdue.ID_KIND = l.ID_KIND AND overdue.USER_ID = l.USER_ID
    INNER JOIN {run} r ON r.IMPORT_ID = overdue.IMPORT_ID
    WHERE l.ACTION = 'leave' GROUP BY l.PLACE, l.ID_KIND
),
shaken AS (
    SELECT k.PLACE, k.ID_KIND, k.USER_ID FROM kin k INNER JOIN alone l
        ON l.PLACE = k.PLACE AND l.ID_KIND = k.OTHER_KIND AND l.USER_ID = k.OTHER AND l.ACTION = 'leave'
    UNION
    SELECT s.PLACE, s.ID_KIND, s.USER_ID FROM stays s INNER JOIN late
        ON late.PLACE = s.PLACE AND late.ID_KIND <> s.ID_KIND AND s.ENTERED_AT >= late.SINCE
    UNION
    SELECT w.PLACE, w.ID_KIND, w.USER_ID FROM {rejected} w
    LEFT JOIN resting q ON q.PLACE = w.PLACE AND q.ID_KIND = w.ID_KIND AND q.USER_ID = w.USER_ID
    WHERE w.WORKSPACE = %s AND w.COHORT_ID = %s AND w.ACTION <> 'enter' AND w.CLEARED_AT IS NULL AND q.USER_ID IS NULL
),
judged AS (
    SELECT a.PLACE, a.ID_KIND, a.USER_ID, a.ROW_HASH, a.WANTED, a.STATE, a.DOUBT, a.SINCE, a.LISTED,
        CASE WHEN a.ACTION IS NULL AND a.WANTED = 2 AND s.USER_ID IS NOT NULL THEN 'refresh' ELSE a.ACTION END AS ACTION
    FROM alone a LEFT JOIN shaken s ON s.PLACE = a.PLACE AND s.ID_KIND = a.ID_KIND AND s.USER_ID = a.USER_ID
)"""


def _number(condition: str) -> str:
    return f"COUNT(CASE WHEN {condition} THEN 1 END)"


def _sum(value: str) -> str:
    return f"COALESCE(SUM(CAST({value} AS NUMBER(38,0))), 0)"


# What is counted of the gathered rows: of the source's rows, of the changes, and of the users who have one.
CHANGES_COUNTED: Final = {
    "listed": _sum("LISTED"),
    "invalid": _sum("CASE WHEN WANTED = 0 THEN LISTED END"),
    "enter": _number("ACTION = 'enter'"),
    "leave": _number("ACTION = 'leave'"),
    "refresh": _number("ACTION = 'refresh'"),
    "quiet": _number("ACTION IN ('hold', 'drop')"),
    "set_aside": _number("ACTION = 'rest'"),
    "elsewhere": _number("ACTION = 'leave' AND PLACE <> %s"),
    "in_doubt": _number("STATE <> 2 AND DOUBT"),
    "wanted": _number("ACTION IS NOT NULL AND WANTED > 0"),
    "wanted_held": _number("ACTION IS NOT NULL AND WANTED = 1"),
    "were": _number("ACTION IS NOT NULL AND STATE > 0"),
    "were_held": _number("ACTION IS NOT NULL AND STATE = 1"),
}

STAYS_COUNTED: Final = {"stays": "COUNT(*)", "stays_held": _number("HELD_OUT")}


def as_text(counts: Mapping[str, str]) -> str:
    """Return the SQL of some counts as one text, with slashes between them."""
    values = ", ".join(f"CAST({count} AS VARCHAR)" for count in counts.values())
    return f"CONCAT_WS('/', {values})"
