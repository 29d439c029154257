"""CDNOW: the data are all there, and the SQL agrees with the oracle user for user."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.sandbox import cdnow
from airflow_provider_kubit_braze.sandbox.cdnow import Purchase
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowflake.connector import SnowflakeConnection

DAY = datetime.date(1997, 3, 31)


@pytest.fixture(scope="module")
def purchases() -> list[Purchase]:
    return cdnow.load_purchases()


@pytest.fixture(scope="module")
def connection(purchases: list[Purchase]) -> Iterator[SnowflakeConnection]:
    with Sandbox(services=("snowflake",)) as sandbox, sandbox.connect() as connection:
        assert cdnow.load_into_snowflake(connection, purchases) == 69_659
        yield connection


def fetch(connection: SnowflakeConnection, sql: str) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(sql)
    return list(cursor.fetchall())


def members(connection: SnowflakeConnection, name: str) -> set[str]:
    found = fetch(connection, f"SELECT USER_ID FROM {cdnow.COHORT_SCHEMA}.{name}")
    assert len(found) == len(set(found))
    return {user for (user,) in found}


def test_the_whole_file_is_read(purchases: list[Purchase]) -> None:
    assert len(purchases) == 69_659
    assert len(cdnow.customer_ids(purchases)) == 23_570
    assert purchases[0] == Purchase("00001", datetime.date(1997, 1, 1), 1, Decimal("11.77"))
    assert max(purchase.day for purchase in purchases) == datetime.date(1998, 6, 30)


def test_what_is_loaded_is_what_was_read(connection: SnowflakeConnection, purchases: list[Purchase]) -> None:
    found = fetch(connection, f"SELECT * FROM {cdnow.PURCHASES_TABLE}")
    assert sorted(found) == sorted(tuple(purchase) for purchase in purchases)


@pytest.mark.parametrize(
    "as_of",
    ["1997-01-01", "1997-03-02", "1997-03-03", "1997-03-31", "1997-07-04", "1998-06-30"],
)
def test_the_sql_agrees_with_the_oracle_user_for_user(
    connection: SnowflakeConnection, purchases: list[Purchase], as_of: str
) -> None:
    day = datetime.date.fromisoformat(as_of)
    sizes = cdnow.compute_cohorts(connection, day)
    expected = {name: cdnow.cohort_members(purchases, name, day) for name in cdnow.COHORTS}
    assert {name: members(connection, name) for name in cdnow.COHORTS} == expected
    assert sizes == {name: len(users) for name, users in expected.items()}


@pytest.mark.parametrize("name", ["REPEAT_BUYERS", "BIG_SPENDERS", "LAPSED_BUYERS", "NEW_THIS_WEEK"])
def test_from_one_day_to_the_next_users_enter_and_leave(purchases: list[Purchase], name: str) -> None:
    before = cdnow.cohort_members(purchases, name, datetime.date(1997, 3, 19))
    after = cdnow.cohort_members(purchases, name, datetime.date(1997, 3, 20))
    assert after - before
    assert before - after


def bought(*days_ago: int, amount: str = "10.00") -> list[Purchase]:
    return [Purchase("1", DAY - datetime.timedelta(days=ago), 1, Decimal(amount)) for ago in days_ago]


@pytest.mark.parametrize(
    ("name", "history", "member"),
    [
        ("REPEAT_BUYERS", bought(0, 59), True),
        ("REPEAT_BUYERS", bought(0, 60), False),
        ("REPEAT_BUYERS", bought(5, 5), False),
        ("BIG_SPENDERS", bought(59, amount="100.00"), True),
        ("BIG_SPENDERS", bought(60, amount="100.00"), False),
        ("BIG_SPENDERS", bought(1, 2, amount="49.99"), False),
        ("LAPSED_BUYERS", bought(60, 70), True),
        ("LAPSED_BUYERS", bought(59, 70), False),
        ("NEW_THIS_WEEK", bought(6, 0), True),
        ("NEW_THIS_WEEK", bought(7, 0), False),
        ("NEW_THIS_WEEK", bought(-1), False),
    ],
)
def test_a_cohort_begins_and_ends_on_its_day(
    connection: SnowflakeConnection,
    purchases: list[Purchase],
    name: str,
    history: list[Purchase],
    member: bool,
) -> None:
    assert cdnow.cohort_members(history, name, DAY) == ({"1"} if member else set())
    cdnow.load_into_snowflake(connection, history)
    try:
        cdnow.compute_cohorts(connection, DAY)
        assert members(connection, name) == ({"1"} if member else set())
    finally:
        cdnow.load_into_snowflake(connection, purchases)


def test_computed_at_says_when(connection: SnowflakeConnection) -> None:
    stamp = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_000)
    cdnow.compute_cohorts(connection, DAY, computed_at=stamp)
    sql = f"SELECT DISTINCT COMPUTED_AT FROM {cdnow.COHORT_SCHEMA}.REPEAT_BUYERS"
    assert fetch(connection, sql) == [(stamp,)]


def test_a_computation_that_fails_changes_nothing(
    connection: SnowflakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    cdnow.compute_cohorts(connection, DAY)
    before = members(connection, "REPEAT_BUYERS")
    monkeypatch.setitem(cdnow._QUERIES, "NEW_THIS_WEEK", "SELECT NO_SUCH_COLUMN FROM p")
    with pytest.raises(Exception, match="NO_SUCH_COLUMN"):
        cdnow.compute_cohorts(connection, datetime.date(1997, 5, 1))
    assert members(connection, "REPEAT_BUYERS") == before


def test_without_the_package_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.Distribution.discover", lambda **_: iter(()))
    with pytest.raises(SandboxError, match="pip install --no-deps lifetimes"):
        cdnow.load_purchases()
