"""A share that cannot be read is answered with the SQL that helps, whatever has become of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from snowflake.connector.errors import ProgrammingError

from airflow_provider_kubit_braze.exceptions import SourceError, StatementBrokenOffError
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.share_check import Inventory, read_inventory

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

REVOKED = ProgrammingError(
    msg="003030 (02000): SQL compilation error:\nShared database is no longer available for use. It will need to be "
    "re-created if and when the publisher makes it available again.",
    errno=3030,
    sqlstate="02000",
    send_telemetry=False,
)

TIMEOUT = ProgrammingError(
    msg="000630 (57014): Statement reached its statement or warehouse timeout of 60 second(s) and was canceled.",
    errno=630,
    sqlstate="57014",
    send_telemetry=False,
)


def said(session: Session) -> str:
    with pytest.raises(SourceError) as caught:
        read_inventory(session, "NO_BRAZE.PUBLIC")
    return str(caught.value)


def test_of_a_share_that_was_revoked_or_made_anew_the_database_goes_first(mocker: MockerFixture) -> None:
    connection = mocker.MagicMock(role="LOADER")
    session = Session(connection, tag={})
    connection.cursor.return_value.execute.side_effect = REVOKED

    text = said(session)

    assert "(Snowflake: SQL compilation error: Shared database is no longer available" in text
    statements = [
        "DROP DATABASE NO_BRAZE;",
        "SHOW SHARES LIKE '%BRAZE%';",
        "CREATE DATABASE NO_BRAZE FROM SHARE <PROVIDER_ACCOUNT>.<SHARE>;",
        "GRANT IMPORTED PRIVILEGES ON DATABASE NO_BRAZE TO ROLE LOADER;",
    ]
    assert " ".join(statements) in text
    assert "the last one is enough" not in text


def test_a_time_out_says_nothing_of_a_share_that_is_missing_and_is_tried_again(mocker: MockerFixture) -> None:
    connection = mocker.MagicMock(role="LOADER")
    session = Session(connection, tag={})
    connection.cursor.return_value.execute.side_effect = TIMEOUT

    with pytest.raises(StatementBrokenOffError) as caught:
        read_inventory(session, "NO_BRAZE.PUBLIC")

    assert str(caught.value) == (
        "It could not be looked up what Braze's data share NO_BRAZE.PUBLIC has; Snowflake says: Statement reached its "
        "statement or warehouse timeout of 60 second(s) and was canceled."
    )
    assert caught.value.retry_helps


def test_the_archive_serves_where_the_ordinary_tables_begin_too_late() -> None:
    columns = frozenset(("ID", "TIME"))
    names = ("A_SHARED", "A_SHARED_ALL", "B_SHARED", "C_SHARED_ALL")
    inventory = Inventory(share="X.Y", columns=dict.fromkeys(names, columns))
    now = datetime(2026, 3, 12, tzinfo=UTC)
    two_years_ago = int((now - timedelta(days=730)).timestamp())

    assert inventory.since(two_years_ago, now=now).columns.keys() == {*names}
    early = inventory.since(two_years_ago - 1, now=now)
    assert (early.share, {*early.columns}) == ("X.Y", {"A_SHARED_ALL", "B_SHARED", "C_SHARED_ALL"})


def test_of_a_share_that_was_never_accepted_nothing_is_dropped(kubit_braze_sandbox: Sandbox) -> None:
    with kubit_braze_sandbox.connect() as connection:
        text = said(Session(connection, tag={}))

    assert "CREATE DATABASE NO_BRAZE FROM SHARE" in text
    assert "Where the database is there, the last one is enough" in text
    assert "DROP DATABASE" not in text
