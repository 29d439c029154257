"""The statements that measure days, see ``impact_days``: what reached users, what followed, and what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion

#: The rows of one measure of a cohort.
KEY: Final = "WORKSPACE = %s AND COHORT_ID = %s AND MEASURE = %s"


def epoch_of(moment: str) -> str:
    """Return the SQL of the whole second that a moment lies in, in epoch seconds.

    Snowflake cuts the fraction off anyway; the local one would round it, and a moment would lie in the future.
    """
    return f"DATE_PART(EPOCH_SECOND, DATE_TRUNC('SECOND', {moment}))"


def chosen_of(question: ImpactQuestion) -> tuple[str, list[str]]:
    """Return the condition of the messages that are asked about, to append to others, and its parameters."""
    named = question.named
    if not named:
        return "", []
    pairs = " OR ".join(["KIND = %s AND MESSAGE_ID = %s"] * len(named))
    return f" AND ({pairs})", [value for pair in named for value in pair]


#: The columns of ``IMPACT_EVENT``, and of what is being measured. REACH_DAY is the day of the reach that a row is, or
#: has followed; NULL of what users did whether or not they were reached.
KEPT: Final = (
    "WORKSPACE, COHORT_ID, MEASURE, DAY, REACH_DAY, MOMENT, FIGURE, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, ID_KIND, "
    "USER_ID, CURRENCY, AMOUNT"
)

TOLD: Final = "INNER JOIN (VALUES {tellings}) AS m (SRC, FIGURE, CHANNEL) ON m.SRC = s.SRC"

INSIDE: Final = (
    "EXISTS (SELECT 1 FROM {inside} t "
    "WHERE t.UID = s.UID AND t.START_AT <= s.MOMENT AND t.END_AT > s.MOMENT AND {of_group})"
)

#: The figures that say that a message reached somebody, or what stands in for that.
REACHED: Final = ("reached", "anchor")

#: Rows of messages that figures are counted from.
COUNTS: Final = (
    "MESSAGE_ID <> '' AND FIGURE NOT IN ('control', 'entered', 'path_control', 'path', 'leaked', 'older')"
)

#: What a row of a message that reached a user says.
REACH: Final = (
    "CASE WHEN m.FIGURE = 'control' AND s.KIND = 'canvas' AND NOT COALESCE(s.IN_CONTROL, FALSE) THEN 'entered' "
    "WHEN m.FIGURE = 'path' AND COALESCE(s.IN_CONTROL, FALSE) THEN 'path_control' "
    "ELSE m.FIGURE END"
)

#: What it says where the user was held out, and should have been sent nothing.
LEAK: Final = "'leaked'"

REACHES: Final = """
INSERT INTO {fresh} ({kept})
SELECT %s, %s, %s, {day}, {day}, s.MOMENT,
    {figure}, s.KIND, s.MESSAGE_ID, m.CHANNEL, s.VARIATION_ID, p.ID_KIND, p.USER_ID, NULL, NULL
FROM {stage} s {told} INNER JOIN {people} p ON p.UID = s.UID
WHERE s.MESSAGE_ID IS NOT NULL AND s.MOMENT < %s AND {is_theirs}
"""

OUTCOMES: Final = """
INSERT INTO {fresh} ({kept})
SELECT %s, %s, %s, {day}, NULL, s.MOMENT, m.FIGURE, '', '', '', '', p.ID_KIND, p.USER_ID, s.CURRENCY, s.AMOUNT
FROM {stage} s {told} INNER JOIN {doers} p ON p.UID = s.UID
WHERE s.MOMENT < %s
"""

# The last reach before something happened: there may be several, and only the last is asked for its channel.
LAST: Final = (
    "OVER (PARTITION BY ID_KIND, USER_ID, KIND, MESSAGE_ID{by} ORDER BY MOMENT, ORD, CHANNEL, VARIATION_ID "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
)

REACTIONS: Final = """
INSERT INTO {fresh} ({kept})
SELECT %s, %s, %s, {day}, {reach_day}, s.MOMENT, s.FIGURE, s.KIND, s.MESSAGE_ID, s.REACH_CHANNEL, s.REACH_VARIATION,
    s.ID_KIND, s.USER_ID, s.CURRENCY, s.AMOUNT
FROM (
    SELECT ORD, MOMENT, FIGURE, KIND, MESSAGE_ID, ID_KIND, USER_ID, CURRENCY, AMOUNT,
        MAX(CASE WHEN ORD = 0 THEN MOMENT END) {last} AS REACHED_AT,
        LAST_VALUE(CASE WHEN ORD = 0 THEN CHANNEL END) IGNORE NULLS {last} AS REACH_CHANNEL,
        LAST_VALUE(CASE WHEN ORD = 0 THEN VARIATION_ID END) IGNORE NULLS {last} AS REACH_VARIATION
    FROM (
        SELECT 0 AS ORD, MOMENT, FIGURE, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, ID_KIND, USER_ID,
            CAST(NULL AS VARCHAR) AS CURRENCY, CAST(NULL AS FLOAT) AS AMOUNT
        FROM {event}
        WHERE {key} AND FIGURE IN ('reached', 'anchor') AND DAY >= %s AND DAY < %s AND MOMENT > %s
        UNION ALL
        SELECT 0, MOMENT, FIGURE, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, ID_KIND, USER_ID, NULL, NULL
        FROM {fresh} WHERE FIGURE IN ('reached', 'anchor')
        UNION ALL
        {reactions}
    ) moments
) s
WHERE s.ORD = 1 AND s.MOMENT - s.REACHED_AT < %s
"""

FOLLOWED: Final = """
SELECT 1, s.MOMENT, m.FIGURE, s.KIND, s.MESSAGE_ID, m.CHANNEL, s.VARIATION_ID, p.ID_KIND, p.USER_ID,
    s.CURRENCY, s.AMOUNT
FROM {stage} s {told} INNER JOIN {people} p ON p.UID = s.UID
WHERE s.MESSAGE_ID IS NOT NULL AND s.MOMENT < %s AND {is_inside}
"""

DELIVERED_PUSH: Final = """
SELECT 1, s.MOMENT, 'delivered', s.KIND, s.MESSAGE_ID, 'push', s.VARIATION_ID, p.ID_KIND, p.USER_ID,
    s.CURRENCY, s.AMOUNT
FROM {stage} s INNER JOIN {people} p ON p.UID = s.UID
LEFT JOIN (SELECT UID, KIND, MESSAGE_ID, DISPATCH, DEVICE, MOMENT FROM {stage} WHERE SRC = '{bounce}') b
    ON b.UID = s.UID AND b.KIND = s.KIND AND b.MESSAGE_ID = s.MESSAGE_ID
    AND b.DISPATCH = s.DISPATCH AND b.DEVICE = s.DEVICE
    AND b.MOMENT >= s.MOMENT AND b.MOMENT < s.MOMENT + {bounce_seconds}
WHERE s.SRC = '{send}' AND s.MESSAGE_ID IS NOT NULL AND s.MOMENT < %s AND b.UID IS NULL AND {is_inside}
"""
