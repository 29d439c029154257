"""Criteria against their oracle: the local Snowflake and plain Python find the same users, operator by operator."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_kubit_braze.core.criteria.definition import Criteria
from airflow_provider_kubit_braze.sandbox import cdnow
from tests.warehouse.criteria_oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

SCHEMA = f"{cdnow.DATABASE}.KB_CRITERIA"
EVENTS, USERS, MAILS = f"{SCHEMA}.EVENTS", f"{SCHEMA}.USERS", f"{SCHEMA}.MAILS"

NOW = datetime.datetime(1997, 9, 1, 12)

# Every tenth customer of CDNOW. Some rows have no country, amount, time or user; some lie after NOW.
TABLES = {
    EVENTS: """
        SELECT
            IFF(N % 97 = 0, NULL, CUSTOMER_ID) AS USER_ID,
            CASE WHEN CDS >= 4 THEN 'bulk purchase' WHEN CDS = 1 THEN 'single' ELSE 'purchase' END AS EVENT_NAME,
            IFF(N % 53 = 0, NULL, DATEADD(minute, N * 137 % 1440, PURCHASED_AT::TIMESTAMP_NTZ)) AS EVENT_TIME,
            CASE N % 5 WHEN 0 THEN NULL WHEN 1 THEN 'US' WHEN 2 THEN 'CA' WHEN 3 THEN 'C\\\\A''s "%' ELSE 'us' END
                AS COUNTRY,
            IFF(N % 7 = 0, NULL, AMOUNT) AS AMOUNT, CDS, CDS > 2 AS GIFT, PURCHASED_AT AS DAY
        FROM numbered""",
    USERS: """
        SELECT CUSTOMER_ID AS ID, ANY_VALUE(N) % 3 AS SCORE, CUSTOMER_ID || '@example.com' AS EMAIL,
            CASE ANY_VALUE(N) % 4 WHEN 0 THEN NULL WHEN 1 THEN 'pro' WHEN 2 THEN 'free' ELSE 'trial' END AS PLAN,
            MIN(PURCHASED_AT) AS SIGNED_UP
        FROM (SELECT CUSTOMER_ID, PURCHASED_AT, MAX(N) OVER (PARTITION BY CUSTOMER_ID) AS N FROM numbered) t
        WHERE N % 3 <> 0 GROUP BY CUSTOMER_ID""",
    MAILS: """
        SELECT CUSTOMER_ID AS CUSTOMER, IFF(N % 2 = 0, 'open', 'click') AS KIND,
            DATEADD(hour, N % 700, PURCHASED_AT::TIMESTAMP_NTZ) AS SENT_AT
        FROM numbered WHERE N % 4 <> 0
        UNION ALL SELECT 'stranger', 'open', '1997-08-31'::TIMESTAMP_NTZ""",
}


@pytest.fixture(scope="module")
def connection(kubit_braze_sandbox: Sandbox) -> Iterator[SnowflakeConnection]:
    sample = [one for one in cdnow.load_purchases() if one.customer_id.endswith("7")]
    with kubit_braze_sandbox.connect() as connection, connection.cursor() as cursor:
        cdnow.load_into_snowflake(connection, sample)
        cursor.execute(f"CREATE SCHEMA {SCHEMA}")
        for table, query in TABLES.items():
            cursor.execute(
                f"CREATE TABLE {table} AS WITH numbered AS (SELECT *, ROW_NUMBER() OVER "
                f"(ORDER BY CUSTOMER_ID, PURCHASED_AT, CDS, AMOUNT) AS N FROM {cdnow.PURCHASES_TABLE}) {query}"
            )
        yield connection


@pytest.fixture(scope="module")
def oracle(connection: SnowflakeConnection) -> Oracle:
    tables = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table}")
            names = [column.name for column in cursor.description]
            # The local Snowflake shows a time that is NULL as the first second of 1970.
            rows = (
                [None if value == datetime.datetime(1970, 1, 1) else value for value in row] for row in cursor
            )
            tables[table] = [dict(zip(names, row, strict=True)) for row in rows]
    return Oracle(tables, NOW)


def found(
    connection: SnowflakeConnection, criteria: dict[str, Any], now: datetime.datetime = NOW
) -> set[Any]:
    """Run the query and return its users; each may be there only once."""
    with connection.cursor() as cursor:
        cursor.execute(Criteria(**criteria).sql(now=now))
        users = [row[0] for row in cursor.fetchall()]
    assert len(users) == len(set(users))
    return set(users)


def over_events(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"from": EVENTS, "user": "USER_ID", "all": list(conditions)}


USERS_ONCE: dict[str, Any] = {"from": USERS, "user": "ID"}
OPENED = {"did": "open", "from": MAILS, "user": "CUSTOMER", "event": "KIND", "time": "SENT_AT"}

CONDITIONS: dict[str, dict[str, Any]] = {
    "did": {"did": "purchase"},
    "did one of several": {"did": ["purchase", "bulk purchase"]},
    "did anything": {"did": "*"},
    "did what nobody did": {"did": "Purchase"},
    "at least": {"did": "purchase", "at_least": 3},
    "at most": {"did": "purchase", "at_most": 1},
    "between": {"did": "purchase", "at_least": 2, "at_most": 3},
    "exactly": {"did": "purchase", "exactly": 2},
    "exactly none": {"did": "purchase", "exactly": 0},
    "ever": {"ever": "bulk purchase"},
    "never": {"never": ["purchase", "single"]},
    "never lately": {"never": "*", "within": "120d"},
    "within days": {"did": "purchase", "within": "90d"},
    "within hours": {"did": "*", "within": "1000h"},
    "within minutes": {"did": "*", "within": "9000m"},
    "since": {"did": "purchase", "since": "1997-07-01"},
    "since a time": {"did": "purchase", "since": "1997-07-01T13:30"},
    "before a day": {"did": "purchase", "before": "1997-02-01"},
    "before a coming day": {"did": "purchase", "before": "1998-02-01", "at_least": 3},
    "before how long ago": {"did": "purchase", "before": "200d"},
    "since and before": {"did": "*", "since": "1997-03-01", "before": "1997-04-01"},
    "within and before": {"did": "*", "within": "90d", "before": "30d"},
    "a short and a long window": {
        "all": [{"did": "*", "within": "40d"}, {"did": "single", "within": "200d"}]
    },
    "not lately": {"not": {"did": "*", "within": "150d"}},
    "where equal": {"did": "purchase", "where": {"COUNTRY": "US"}},
    "where one of": {"did": "purchase", "where": {"COUNTRY": ["US", "CA"]}},
    "where null": {"did": "purchase", "where": {"COUNTRY": None}},
    "where one of, or null": {"did": "purchase", "where": {"COUNTRY": ["US", None]}},
    "where not": {"did": "purchase", "at_least": 2, "where": {"COUNTRY": {"not": "US"}}},
    "where none of": {"did": "purchase", "at_least": 2, "where": {"COUNTRY": {"not": ["US", "CA"]}}},
    "where not null": {"did": "purchase", "at_least": 2, "where": {"COUNTRY": {"not": None}}},
    "where neither null nor": {"did": "purchase", "where": {"COUNTRY": {"not": ["US", None]}}},
    "where odd text": {"did": "*", "where": {"COUNTRY": "C\\A's \"%"}},
    "where it starts with": {"did": "*", "where": {"COUNTRY": {"starts_with": "C\\"}}},
    "where it contains": {"did": "*", "where": {"COUNTRY": {"contains": 's "%'}}},
    "where over": {"did": "*", "where": {"AMOUNT": {"over": 29.99}}},
    "where at least": {"did": "*", "where": {"AMOUNT": {"at_least": 29.99}}},
    "where under": {"did": "*", "where": {"AMOUNT": {"under": 11.77}}},
    "where at most": {"did": "*", "where": {"AMOUNT": {"at_most": 11.77}}},
    "where between": {"did": "*", "where": {"CDS": {"over": 1, "under": 4}, "GIFT": False}},
    "where true": {"did": "*", "where": {"GIFT": True}},
    "where a day": {"did": "*", "where": {"DAY": {"since": "1997-08-01", "before": "1997-08-20"}}},
    "where lately": {"where": {"EVENT_TIME": {"within": "10d"}}},
    "where alone": {"where": {"COUNTRY": "CA", "CDS": 1}},
    "sum over": {"sum": {"column": "AMOUNT", "over": 100}},
    "sum at least": {"sum": {"column": "CDS", "at_least": 10}},
    "sum under": {"sum": {"column": "AMOUNT", "under": 15}},
    "sum at most": {"sum": {"column": "AMOUNT", "at_most": 0, "within": "60d"}},
    "sum between": {"sum": {"column": "AMOUNT", "over": 20.5, "at_most": 60, "did": ["purchase", "single"]}},
    "sum of some": {
        "sum": {"column": "AMOUNT", "over": 30, "within": "120d", "where": {"COUNTRY": ["US", None]}}
    },
    "sum below zero": {"sum": {"column": "AMOUNT", "over": -1, "did": "bulk purchase"}},
    "first": {"first": {"within": "200d"}},
    "first of some": {"first": {"did": "purchase", "since": "1997-03-01", "before": "1997-05-01"}},
    "not first": {"not": {"first": {"did": "bulk purchase", "within": "100d"}}},
    "last": {"last": {"before": "90d"}},
    "last of some": {"last": {"did": "single", "where": {"AMOUNT": {"not": None}}, "before": "30d"}},
    "last lately": {"last": {"did": ["single", "purchase"], "within": "45d", "before": "5d"}},
    "not last": {"not": {"last": {"did": "bulk purchase", "before": "1997-06-01"}}},
    "another table": OPENED,
    "never in another table": {**OPENED, "did": "click", "exactly": 0},
    "not in another table": {"not": {**OPENED, "within": "60d"}},
    "few in another table": {**OPENED, "at_most": 1, "within": "90d"},
    "first in another table": {"first": {**OPENED, "within": "100d"}},
    "a property of another table": {"where": {"PLAN": "pro"}, "from": USERS, "user": "ID"},
    "no such property of another table": {"not": {"where": {"PLAN": "pro"}, "from": USERS, "user": "ID"}},
    "a sum of another table": {"sum": {"column": "SCORE", "under": 1, "from": USERS, "user": "ID"}},
    "any": {"any": [{"did": "bulk purchase"}, {"did": "single", "at_least": 4}]},
    "all in any": {"any": [{"all": [{"did": "single"}, {"never": "purchase"}]}, {"did": "bulk purchase"}]},
    "not any": {"not": {"any": [{"did": "single"}, OPENED]}},
    "not not": {"not": {"not": {"did": "single"}}},
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_an_operator_finds_whom_the_oracle_finds(
    connection: SnowflakeConnection, oracle: Oracle, name: str
) -> None:
    criteria = over_events(CONDITIONS[name])
    expected = oracle.members(criteria)
    assert found(connection, criteria) == expected
    everybody = set(oracle.rows(EVENTS, "USER_ID"))
    nobody = name in ("did what nobody did",)
    assert nobody or name in ("did anything", "sum below zero") or set() < expected < everybody, (
        "the data say nothing"
    )


@pytest.mark.parametrize(
    "conditions",
    [
        {"all": [{"where": {"PLAN": "pro"}}]},
        {"all": [{"where": {"PLAN": {"not": ["pro", "free"]}, "SCORE": {"at_least": 1}}}]},
        {"any": [{"where": {"PLAN": None}}, {"where": {"SIGNED_UP": {"within": "190d"}}}]},
        {"not": {"where": {"EMAIL": {"starts_with": "0"}}}},
        {
            "all": [
                {"where": {"PLAN": "free"}},
                {"never": "*", "from": EVENTS, "user": "USER_ID", "within": "30d"},
            ]
        },
        {"all": [OPENED, {"sum": {"from": EVENTS, "user": "USER_ID", "column": "AMOUNT", "over": 50}}]},
    ],
)
def test_a_table_of_users_is_asked_in_the_same_words(
    connection: SnowflakeConnection, oracle: Oracle, conditions: dict[str, Any]
) -> None:
    criteria = {**USERS_ONCE, **conditions}
    expected = oracle.members(criteria)
    assert expected
    assert found(connection, criteria) == expected


# -- any tree at all ------------------------------------------------------------------------------------------------

_windows = st.sampled_from(
    [
        {},
        {"within": "30d"},
        {"within": "150d"},
        {"since": "1997-06-01"},
        {"before": "1997-04-01"},
        {"before": "60d"},
        {"within": "200d", "before": "60d"},
        {"since": "1997-02-01", "before": "1997-07-01"},
    ]
)
_wheres = st.sampled_from(
    [
        {},
        {},
        {"where": {"COUNTRY": "US"}},
        {"where": {"COUNTRY": ["CA", None]}},
        {"where": {"COUNTRY": {"not": "us"}, "GIFT": False}},
        {"where": {"AMOUNT": {"over": 15}}},
    ]
)
_events = st.sampled_from(["*", "purchase", "single", ["purchase", "bulk purchase"], "nothing"])
_numbers = st.sampled_from([{}, {"at_least": 2}, {"at_most": 1}, {"exactly": 0}, {"exactly": 1}])
_amounts = st.sampled_from([{"over": 0}, {"at_most": 0}, {"at_least": 40}, {"under": 60, "over": 10}])
_times = _windows.filter(bool)


def _joined(*parts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


_leaves = st.one_of(
    st.builds(lambda did, *more: _joined({"did": did}, *more), _events, _numbers, _windows, _wheres),
    st.builds(lambda never, *more: _joined({"never": never}, *more), _events, _windows, _wheres),
    st.builds(
        lambda did, *more: {"sum": _joined({"column": "AMOUNT", "did": did}, *more)},
        _events,
        _amounts,
        _windows,
    ),
    st.builds(
        lambda kind, did, *more: {kind: _joined({"did": did}, *more)},
        st.sampled_from(["first", "last"]),
        _events,
        _times,
        _wheres,
    ),
    st.builds(lambda *more: _joined(OPENED, *more), _numbers, _windows),
    st.sampled_from([{"where": {"PLAN": "pro"}, "from": USERS, "user": "ID"}, {"ever": "single"}]),
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda found: {"all": found}),
        st.lists(inner, min_size=1, max_size=3).map(lambda found: {"any": found}),
        inner.map(lambda found: {"not": found}),
    ),
    max_leaves=5,
)


def _elsewhere(condition: dict[str, Any]) -> dict[str, Any]:
    """Return the same condition for criteria that are over another table than the events."""
    for group in ("all", "any"):
        if group in condition:
            return {group: [_elsewhere(one) for one in condition[group]]}
    for wrapped in ("sum", "first", "last"):
        if wrapped in condition:
            return {wrapped: {"from": EVENTS, "user": "USER_ID", **condition[wrapped]}}
    if "not" in condition:
        return {"not": _elsewhere(condition["not"])}
    return {"from": EVENTS, "user": "USER_ID", **condition}


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tree=_trees, over_users=st.booleans())
def test_any_tree_of_conditions_finds_whom_the_oracle_finds(
    connection: SnowflakeConnection, oracle: Oracle, tree: dict[str, Any], over_users: bool
) -> None:
    criteria = {**USERS_ONCE, "all": [_elsewhere(tree)]} if over_users else over_events(tree)
    assert found(connection, criteria) == oracle.members(criteria)


# -- the sandbox's own cohorts, whose oracle is another one -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("BIG_SPENDERS", {"sum": {"column": "AMOUNT", "at_least": 100, "within": "60d"}}),
        ("LAPSED_BUYERS", {"last": {"before": "60d"}}),
        ("NEW_THIS_WEEK", {"first": {"within": "7d"}}),
    ],
)
@pytest.mark.parametrize("day", ["1997-03-02", "1997-03-31"])
def test_criteria_say_what_the_demos_sql_says(
    connection: SnowflakeConnection, name: str, condition: dict[str, Any], day: str
) -> None:
    as_of = datetime.date.fromisoformat(day)
    evening = datetime.datetime.combine(as_of, datetime.time(23, 59))
    criteria = {
        "from": cdnow.PURCHASES_TABLE,
        "user": "CUSTOMER_ID",
        "time": "PURCHASED_AT",
        "all": [condition],
    }
    sample = [one for one in cdnow.load_purchases() if one.customer_id.endswith("7")]
    expected = cdnow.cohort_members(sample, name, as_of)
    # Users whom a rule over no rows would take in have bought nothing yet on that day.
    assert expected
    assert found(connection, criteria, evening) == expected


# -- edges ----------------------------------------------------------------------------------------------------------


_OPEN_ENDED: tuple[dict[str, Any], ...] = ({"since": "1997-08-02T12:00"}, {"before": "1997-09-02"})


@pytest.mark.parametrize("column", ["NTZ", "TZ"])
@pytest.mark.parametrize(
    ("window", "inside"),
    [
        ({"within": "30d"}, {"start", "end"}),
        ({"before": "30d"}, {"early"}),
        ({"within": "30d", "before": "1m"}, {"start"}),
        ({"since": "1997-08-02T12:00"}, {"start", "end"}),
        ({"since": "1997-08-02T12:00", "before": "1997-09-01T12:00"}, {"start"}),
        ({"before": "1997-09-02"}, {"early", "start", "end"}),
    ],
)
def test_a_window_holds_its_first_moment_and_now_whatever_the_columns_type(
    connection: SnowflakeConnection, edges: str, column: str, window: dict[str, Any], inside: set[str]
) -> None:
    for condition in (
        {"did": "*", **window},
        {"where": {column: window}},
        {"first": window},
        {"last": window},
        {"sum": {"column": "ONE", "over": 0, **window}},
    ):
        criteria = {"from": edges, "user": "NAME", "time": column, "all": [condition]}
        # What a property says may lie ahead, unless the window ends now.
        ahead = {"late"} if "where" in condition and window in _OPEN_ENDED else set()
        assert found(connection, criteria) == inside | ahead, condition


@pytest.fixture(scope="module")
def edges(connection: SnowflakeConnection) -> str:
    """A table of moments around the 30 days before NOW, in a column without a zone and in one of another zone."""
    table, start = f"{SCHEMA}.EDGES", NOW - datetime.timedelta(days=30)
    tick = datetime.timedelta(milliseconds=1)
    moments = {"early": start - tick, "start": start, "end": NOW, "late": NOW + tick, "never": None}
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {table} (NAME VARCHAR, NTZ TIMESTAMP_NTZ, TZ TIMESTAMP_TZ, ONE INTEGER)"
        )
        for name, moment in moments.items():
            zoned = moment and (moment + datetime.timedelta(hours=9)).isoformat(sep=" ") + "+09:00"
            cursor.execute(f"INSERT INTO {table} VALUES (%s, %s, %s, 1)", (name, moment, zoned))
    return table


def test_a_day_is_its_midnight(connection: SnowflakeConnection) -> None:
    criteria = {"from": cdnow.PURCHASES_TABLE, "user": "CUSTOMER_ID", "time": "PURCHASED_AT"}
    since, before = (
        found(connection, {**criteria, "all": [{"did": "*", **window}]})
        for window in (
            {"since": "1997-01-02", "before": "1997-01-03"},
            {"since": "1997-01-02T00:01", "before": "1997-01-03T00:01"},
        )
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT CUSTOMER_ID, PURCHASED_AT FROM {cdnow.PURCHASES_TABLE}")
        rows = list(cursor)
    assert since == {user for user, day in rows if day == datetime.date(1997, 1, 2)}
    assert before == {user for user, day in rows if day == datetime.date(1997, 1, 3)}


def test_what_is_kept_is_returned_beside_the_user(connection: SnowflakeConnection) -> None:
    written: dict[str, Any] = {"keep": ["EMAIL", "PLAN"], "all": [{"where": {"PLAN": "pro"}}, OPENED]}
    with connection.cursor() as cursor:
        cursor.execute(Criteria(**USERS_ONCE, **written).sql(now=NOW))
        assert [column.name for column in cursor.description] == ["ID", "EMAIL", "PLAN"]
        rows = cursor.fetchall()
    assert rows
    assert {(email, plan) for _, email, plan in rows} == {
        (f"{user}@example.com", "pro") for user, _, _ in rows
    }
