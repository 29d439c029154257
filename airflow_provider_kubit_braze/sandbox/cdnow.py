"""CDNOW: real purchases of real people, as a source of cohorts that change from day to day.

The data are the 69,659 purchases, January 1997 to June 1998, of all 23,570 customers who first bought at the
CD shop CDNOW in the first quarter of 1997 (Fader and Hardie, "Forecasting Repeat Sales at CDNOW", 2001). The
PyPI package ``lifetimes`` carries the file; only the file is used, so that
``pip install --no-deps lifetimes`` is enough.
"""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import tempfile
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_kubit_braze.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from snowflake.connector import SnowflakeConnection

DATABASE = "DEMO"
PURCHASES_TABLE = f"{DATABASE}.CDNOW.PURCHASES"
COHORT_SCHEMA = f"{DATABASE}.KUBIT"

#: REPEAT_BUYERS: bought on at least two days of so many, today included.
REPEAT_DAYS = 60
#: BIG_SPENDERS: spent at least so many dollars within so many days, today included.
BIG_SPENDER_DOLLARS = 100
BIG_SPENDER_DAYS = 60
#: LAPSED_BUYERS: the last purchase is so many days ago, or more.
LAPSED_DAYS = 60
#: NEW_THIS_WEEK: the first purchase was within so many days, today included.
NEW_DAYS = 7


class Purchase(NamedTuple):
    """One line of the data: a customer's purchase of ``cds`` CDs for ``amount`` dollars."""

    customer_id: str
    day: datetime.date
    cds: int
    amount: Decimal


def load_purchases() -> list[Purchase]:
    """Return all purchases, in the order of the file: by customer, then by day.

    :raises SandboxError: when the package ``lifetimes`` is not installed.
    """
    try:
        package = importlib.metadata.distribution("lifetimes")
    except importlib.metadata.PackageNotFoundError:
        raise SandboxError(
            "The CDNOW data come with the Python package 'lifetimes': pip install --no-deps lifetimes"
        ) from None
    text = Path(str(package.locate_file("lifetimes/datasets/CDNOW_master.txt"))).read_text(encoding="ascii")
    rows = (line.split() for line in text.splitlines()[1:])
    return [
        Purchase(customer, datetime.date.fromisoformat(day), int(cds), Decimal(amount))
        for customer, day, cds, amount in rows
    ]


def customer_ids(purchases: Iterable[Purchase]) -> list[str]:
    """Return each customer once, sorted."""
    return sorted({purchase.customer_id for purchase in purchases})


def load_into_snowflake(connection: SnowflakeConnection, purchases: Iterable[Purchase] | None = None) -> int:
    """Fill ``DEMO.CDNOW.PURCHASES`` anew and return the number of rows.

    :param purchases: what to load; default: all.
    """
    rows = load_purchases() if purchases is None else list(purchases)
    with connection.cursor() as cursor, tempfile.TemporaryDirectory() as directory:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {DATABASE}.CDNOW")
        cursor.execute(
            f"CREATE OR REPLACE TABLE {PURCHASES_TABLE}"
            " (CUSTOMER_ID VARCHAR, PURCHASED_AT DATE, CDS NUMBER(38,0), AMOUNT NUMBER(10,2))"
        )
        cursor.execute(f"CREATE STAGE IF NOT EXISTS {DATABASE}.CDNOW.FILES")
        file = Path(directory) / "purchases.csv"
        with file.open("w", newline="", encoding="ascii") as out:
            csv.writer(out).writerows(rows)
        cursor.execute(f"PUT file://{file} @{DATABASE}.CDNOW.FILES OVERWRITE = TRUE")
        cursor.execute(
            f"COPY INTO {PURCHASES_TABLE} FROM @{DATABASE}.CDNOW.FILES/purchases.csv.gz"
            " FILE_FORMAT = (TYPE = CSV)"
        )
    return len(rows)


#: Cohort to its query; ``p`` holds the purchases until the day in question.
_QUERIES: Mapping[str, str] = {
    "REPEAT_BUYERS": f"""
        SELECT CUSTOMER_ID FROM p WHERE PURCHASED_AT > DATEADD(day, -{REPEAT_DAYS}, %(as_of)s::DATE)
        GROUP BY CUSTOMER_ID HAVING COUNT(DISTINCT PURCHASED_AT) >= 2""",
    "BIG_SPENDERS": f"""
        SELECT CUSTOMER_ID FROM p WHERE PURCHASED_AT > DATEADD(day, -{BIG_SPENDER_DAYS}, %(as_of)s::DATE)
        GROUP BY CUSTOMER_ID HAVING SUM(AMOUNT)::NUMBER(38,2) >= {BIG_SPENDER_DOLLARS}""",
    "LAPSED_BUYERS": f"""
        SELECT CUSTOMER_ID FROM p
        GROUP BY CUSTOMER_ID HAVING MAX(PURCHASED_AT) <= DATEADD(day, -{LAPSED_DAYS}, %(as_of)s::DATE)""",
    "NEW_THIS_WEEK": f"""
        SELECT CUSTOMER_ID FROM p
        GROUP BY CUSTOMER_ID HAVING MIN(PURCHASED_AT) > DATEADD(day, -{NEW_DAYS}, %(as_of)s::DATE)""",
}

#: Names of the cohort tables.
COHORTS = tuple(_QUERIES)


def compute_cohorts(
    connection: SnowflakeConnection, as_of: datetime.date, *, computed_at: datetime.datetime | None = None
) -> dict[str, int]:
    """Fill the tables ``DEMO.KUBIT.<cohort>`` as a nightly job would have on the evening of ``as_of``.

    All of them change in one transaction. Returns cohort to number of members.

    :param computed_at: what ``COMPUTED_AT`` says; default: now. Naive, in UTC.
    """
    stamp = computed_at or datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    sizes = {}
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {COHORT_SCHEMA}")
        for name in _QUERIES:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {COHORT_SCHEMA}.{name}"
                " (USER_ID VARCHAR, COMPUTED_AT TIMESTAMP_NTZ)"
            )
        cursor.execute("BEGIN")
        try:
            for name, query in _QUERIES.items():
                cursor.execute(f"DELETE FROM {COHORT_SCHEMA}.{name}")
                cursor.execute(
                    f"INSERT INTO {COHORT_SCHEMA}.{name} (USER_ID, COMPUTED_AT)"
                    f" WITH p AS (SELECT * FROM {PURCHASES_TABLE} WHERE PURCHASED_AT <= %(as_of)s::DATE)"
                    f" SELECT CUSTOMER_ID, %(stamp)s::TIMESTAMP_NTZ FROM ({query})",
                    {"as_of": as_of.isoformat(), "stamp": stamp.isoformat(sep=" ")},
                )
                sizes[name] = cursor.rowcount or 0
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")
    return sizes


def cohort_members(purchases: Iterable[Purchase], name: str, as_of: datetime.date) -> set[str]:
    """Return who is in a cohort on the evening of ``as_of``, worked out without SQL: the tests' oracle."""
    history: dict[str, list[Purchase]] = defaultdict(list)
    for purchase in purchases:
        if purchase.day <= as_of:
            history[purchase.customer_id].append(purchase)
    belongs = _ORACLES[name]
    return {customer for customer, bought in history.items() if belongs(bought, as_of)}


def _within(bought: Iterable[Purchase], as_of: datetime.date, days: int) -> list[Purchase]:
    return [purchase for purchase in bought if (as_of - purchase.day).days < days]


def _is_repeat_buyer(bought: list[Purchase], as_of: datetime.date) -> bool:
    return len({purchase.day for purchase in _within(bought, as_of, REPEAT_DAYS)}) >= 2


def _is_big_spender(bought: list[Purchase], as_of: datetime.date) -> bool:
    recent = _within(bought, as_of, BIG_SPENDER_DAYS)
    return bool(recent) and sum(purchase.amount for purchase in recent) >= BIG_SPENDER_DOLLARS


def _is_lapsed(bought: list[Purchase], as_of: datetime.date) -> bool:
    return not _within(bought, as_of, LAPSED_DAYS)


def _is_new(bought: list[Purchase], as_of: datetime.date) -> bool:
    return len(_within(bought, as_of, NEW_DAYS)) == len(bought)


_ORACLES: Mapping[str, Callable[[list[Purchase], datetime.date], bool]] = {
    "REPEAT_BUYERS": _is_repeat_buyer,
    "BIG_SPENDERS": _is_big_spender,
    "LAPSED_BUYERS": _is_lapsed,
    "NEW_THIS_WEEK": _is_new,
}
