"""The statements that measure days, see ``impact_days``: who, what reached them, what followed, and what they did."""

from __future__ import annotations

from typing import Final

# A stay begins when the import began that brought the user in: Braze may act on what it has accepted at once.
STAYS: Final = """
SELECT m.ID_KIND, m.USER_ID, m.HELD_OUT,
    DATE_PART(EPOCH_SECOND, LEAST(m.ENTERED_AT, COALESCE(r.STARTED_AT, m.ENTERED_AT))) AS START_AT,
    COALESCE(DATE_PART(EPOCH_SECOND, m.LEFT_AT), {forever}) AS END_AT
FROM {membership} m
LEFT JOIN (
    SELECT IMPORT_ID, MIN(STARTED_AT) AS STARTED_AT
    FROM {run} WHERE WORKSPACE = %s AND COHORT_ID = %s GROUP BY IMPORT_ID
) r ON r.IMPORT_ID = m.ENTERED_IMPORT
WHERE m.WORKSPACE = %s AND m.COHORT_ID = %s
"""

# Of several users of the ledger who are one profile, the first stands for it: nobody counts twice.
PEOPLE: Final = """
WITH members AS (SELECT DISTINCT ID_KIND, USER_ID FROM {stays}){profiles},
known AS ({known})
SELECT m.ID_KIND, m.USER_ID, k.UID
FROM members m INNER JOIN known k ON k.ID_KIND = m.ID_KIND AND k.USER_ID = m.USER_ID
QUALIFY ROW_NUMBER() OVER (PARTITION BY k.UID ORDER BY m.ID_KIND, m.USER_ID) = 1
"""

TOLD: Final = "INNER JOIN (VALUES {tellings}) m (SRC, FIGURE, CHANNEL) ON m.SRC = s.SRC"

INSIDE: Final = (
    "EXISTS (SELECT 1 FROM {stays} t WHERE NOT t.HELD_OUT AND t.ID_KIND = p.ID_KIND AND t.USER_ID = p.USER_ID "
    "AND t.START_AT <= s.MOMENT AND s.MOMENT < t.END_AT)"
)

REACHES: Final = """
INSERT INTO {event} ({kept})
SELECT %s, %s, %s, {day}, s.MOMENT,
    CASE WHEN m.FIGURE = 'control' AND s.KIND = 'canvas' AND NOT COALESCE(s.IN_CONTROL, FALSE) THEN 'entered'
        ELSE m.FIGURE END,
    s.KIND, s.MESSAGE_ID, m.CHANNEL, s.VARIATION_ID, p.ID_KIND, p.USER_ID, NULL, NULL
FROM {stage} s {told} INNER JOIN {people} p ON p.UID = s.UID
WHERE s.MESSAGE_ID IS NOT NULL AND s.MOMENT < %s AND {inside}
"""

OUTCOMES: Final = """
INSERT INTO {event} ({kept})
SELECT %s, %s, %s, {day}, s.MOMENT, m.FIGURE, '', '', '', '', p.ID_KIND, p.USER_ID, s.CURRENCY, s.AMOUNT
FROM {stage} s {told} INNER JOIN {people} p ON p.UID = s.UID
WHERE s.MOMENT < %s
"""

# The last reach before something happened: there may be several, and only the last is asked for its channel.
LAST: Final = (
    "OVER (PARTITION BY ID_KIND, USER_ID, KIND, MESSAGE_ID{by} ORDER BY MOMENT, ORD, CHANNEL, VARIATION_ID "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
)

REACTIONS: Final = """
INSERT INTO {event} ({kept})
SELECT %s, %s, %s, {day}, s.MOMENT, s.FIGURE, s.KIND, s.MESSAGE_ID, s.REACH_CHANNEL, s.REACH_VARIATION, s.ID_KIND,
    s.USER_ID, s.CURRENCY, s.AMOUNT
FROM (
    SELECT ORD, MOMENT, FIGURE, KIND, MESSAGE_ID, ID_KIND, USER_ID, CURRENCY, AMOUNT,
        MAX(CASE WHEN ORD = 0 THEN MOMENT END) {last} AS REACHED_AT,
        LAST_VALUE(CASE WHEN ORD = 0 THEN CHANNEL END) IGNORE NULLS {last} AS REACH_CHANNEL,
        LAST_VALUE(CASE WHEN ORD = 0 THEN VARIATION_ID END) IGNORE NULLS {last} AS REACH_VARIATION
    FROM (
        SELECT 0 AS ORD, MOMENT, FIGURE, KIND, MESSAGE_ID, CHANNEL, VARIATION_ID, ID_KIND, USER_ID,
            CAST(NULL AS VARCHAR) AS CURRENCY, CAST(NULL AS FLOAT) AS AMOUNT
        FROM {event}
        WHERE {key} AND FIGURE IN ('reached', 'anchor') AND DAY >= %s AND DAY <= %s AND MOMENT > %s
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
WHERE s.MESSAGE_ID IS NOT NULL AND s.MOMENT < %s AND {inside}
"""

DELIVERED_PUSH: Final = """
UNION ALL
SELECT 1, s.MOMENT, 'delivered', s.KIND, s.MESSAGE_ID, 'push', s.VARIATION_ID, p.ID_KIND, p.USER_ID,
    s.CURRENCY, s.AMOUNT
FROM {stage} s INNER JOIN {people} p ON p.UID = s.UID
WHERE s.SRC = '{send}' AND s.MESSAGE_ID IS NOT NULL AND s.MOMENT < %s AND {inside}
AND NOT EXISTS (
    SELECT 1 FROM {stage} b WHERE b.SRC = '{bounce}' AND b.UID = s.UID AND b.KIND = s.KIND
    AND b.MESSAGE_ID = s.MESSAGE_ID AND COALESCE(b.DISPATCH, '') = COALESCE(s.DISPATCH, '')
    AND COALESCE(b.DEVICE, '') = COALESCE(s.DEVICE, '')
    AND b.MOMENT >= s.MOMENT AND b.MOMENT < s.MOMENT + {bounce_seconds}
)
"""
