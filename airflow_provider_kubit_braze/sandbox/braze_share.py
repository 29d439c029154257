"""A stand-in for Braze's data share in the local Snowflake: its tables, and its profile views.

The tables are those of the catalogue, empty. The views have the columns that Braze documents in "User profile
attributes", now or earlier, and show the local Braze's users as they are when they are filled, not 10 minutes or 12
hours later.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.warehouse.session import split_name
from airflow_provider_kubit_braze.warehouse.stays import chunks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor

    from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl

LATEST_DEFAULT: Final = "USER_LATEST_STATE_DEFAULT_ATTRIBUTES_VIEW_SHARED"
LATEST_CUSTOM: Final = "USER_LATEST_STATE_CUSTOM_ATTRIBUTE_VIEW_SHARED"
SNAPSHOT_DEFAULT: Final = "USER_DEFAULT_ATTRIBUTES_VIEW_SHARED"
SNAPSHOT_CUSTOM: Final = "USER_CUSTOM_ATTRIBUTES_VIEW_SHARED"

VIEWS: Final = (LATEST_DEFAULT, LATEST_CUSTOM, SNAPSHOT_DEFAULT, SNAPSHOT_CUSTOM)

#: Where ``kubit-braze sandbox --with-share`` puts it.
SHARE: Final = "BRAZE_SHARE.PUBLIC"

OTHER_APP_GROUP: Final = "another-workspace"

# Braze's columns as of 2026; those in _LATER are in every view, and were in none before.
_COMMON: Final = {
    "APP_GROUP_ID": "VARCHAR",
    "APP_ID": "VARCHAR",
    "USER_ID": "VARCHAR",
    "TIME": "NUMBER(38,0)",
    "UPDATE_SOURCE": "VARCHAR",
    "SF_UPDATED_AT": "TIMESTAMP_NTZ",
}
_DEFAULT: Final = {
    "EXTERNAL_USER_ID": "VARCHAR",
    "FIRST_NAME": "VARCHAR",
    "LAST_NAME": "VARCHAR",
    "EMAIL_ADDRESS": "VARCHAR",
    "GENDER": "VARCHAR",
    "PHONE_NUMBER": "VARCHAR",
    "DOB": "VARCHAR",
    "TIME_ZONE": "VARCHAR",
    "HOME_CITY": "VARCHAR",
    "COUNTRY": "VARCHAR",
    "LANGUAGE": "VARCHAR",
}
_LATER: Final = {"TIME_MS": "NUMBER(38,0)", "ARCHIVED": "BOOLEAN"}
_EARLIER_NAMES: Final = {
    "EXTERNAL_USER_ID": "EXTERNAL_ID",
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
}
_FIELDS: Final = {
    "USER_ID": "braze_id",
    "EXTERNAL_USER_ID": "external_id",
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
}


def fill_profile_share(
    braze: BrazeControl,
    connection: SnowflakeConnection,
    share: str,
    *,
    app_group_id: str,
    views: Collection[str] = VIEWS,
    others: Sequence[Mapping[str, Any]] = (),
    earlier_names: bool = False,
) -> int:
    """Make the views of a share anew and fill them with the users of the local Braze.

    :param connection: to the local Snowflake; its current schema stays what it was.
    :param share: the schema, such as ``BRAZE_SHARE.PUBLIC``; made when it is not there, its database too.
    :param app_group_id: of the local Braze's users.
    :param views: the views that the share has; the others of ``VIEWS`` are removed.
    :param others: users of another workspace in the same share, described as ``BrazeControl.users`` returns them.
    :param earlier_names: use the columns of Braze's earlier documentation (EXTERNAL_ID, EMAIL, PHONE; no TIME_MS, no
        ARCHIVED, no external id among the custom attributes).
    :return: how many users of the local Braze are in the share.
    """
    users = braze.users()
    everybody = [(app_group_id, user) for user in users] + [(OTHER_APP_GROUP, user) for user in others]
    with connection.cursor() as cursor:
        make_schema(cursor, share)
        for view in VIEWS:
            cursor.execute(f"DROP TABLE IF EXISTS {share}.{view}")
        for view in views:
            custom = view in (LATEST_CUSTOM, SNAPSHOT_CUSTOM)
            columns = _columns(view, custom=custom, earlier_names=earlier_names)
            names = [_EARLIER_NAMES.get(name, name) if earlier_names else name for name in columns]
            kinds = columns.values()
            defined = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
            cursor.execute(f"CREATE TABLE {share}.{view} ({defined})")
            rows = [
                _row(columns, group, user)
                for group, user in everybody
                # Nothing says that Braze has a row for somebody without any.
                if not custom or user.get("custom_attributes")
            ]
            selected = ", ".join(
                f"PARSE_JSON(COLUMN{number})" if kind in ("VARIANT", "OBJECT") else f"COLUMN{number}"
                for number, kind in enumerate(kinds, 1)
            )
            # With parameters, a percent sign of a quoted name is written twice.
            table = f"{share}.{view}".replace("%", "%%")
            for some in chunks(rows):
                values = ", ".join("(" + ", ".join(["%s"] * len(columns)) + ")" for _ in some)
                cursor.execute(
                    f"INSERT INTO {table} SELECT {selected} FROM VALUES {values}",
                    [value for row in some for value in row],
                )
    return len(users)


def make_share_tables(
    connection: SnowflakeConnection, share: str = SHARE, *, without: Collection[str] = ()
) -> int:
    """Make all tables that Braze documents for its share, empty, where they are not there yet.

    :param connection: to the local Snowflake; its current schema stays what it was.
    :param share: the schema; made when it is not there, its database too.
    :param without: tables that the share is to lack; they are removed.
    :return: how many tables of the catalogue the share has now.
    """
    with connection.cursor() as cursor:
        make_schema(cursor, share)
        for table, columns in catalogue().items():
            if table in without:
                cursor.execute(f"DROP TABLE IF EXISTS {share}.{table}")
            else:
                defined = ", ".join(f"{name} {kind}" for name, kind in columns.items())
                cursor.execute(f"CREATE TABLE IF NOT EXISTS {share}.{table} ({defined})")
    return len(catalogue().keys() - set(without))


def make_profile_view(cursor: SnowflakeCursor, share: str, view: str = LATEST_DEFAULT) -> None:
    """Make one of the profile views with Braze's columns of today, empty, where it is not there yet."""
    columns = _columns(view, custom=view in (LATEST_CUSTOM, SNAPSHOT_CUSTOM), earlier_names=False)
    defined = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {share}.{view} ({defined})")


def make_schema(cursor: SnowflakeCursor, share: str) -> None:
    """Make a schema, and its database, where they are not there yet; the current schema stays what it was."""
    cursor.execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
    ((database, schema),) = cursor.fetchall()
    *parent, _ = split_name(share)
    for name in parent:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {name}")
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {share}")
    # Both made themselves the current ones.
    cursor.execute(f'USE SCHEMA "{database}"."{schema}"')


def _columns(view: str, *, custom: bool, earlier_names: bool) -> dict[str, str]:
    columns: dict[str, str] = dict(_COMMON)
    if view == LATEST_DEFAULT:
        columns["SF_UPDATED_AT"] = "TIMESTAMP_LTZ"
    if not custom:
        columns |= _DEFAULT
    elif not earlier_names:
        columns["EXTERNAL_USER_ID"] = "VARCHAR"
    if not earlier_names:
        columns |= _LATER
    if custom:
        columns["CUSTOM_ATTRIBUTES"] = "OBJECT" if view == LATEST_CUSTOM else "VARIANT"
    return columns


def _row(columns: Mapping[str, str], app_group_id: str, user: Mapping[str, Any]) -> list[Any]:
    now = time.time()
    given: dict[str, Any] = {
        "APP_GROUP_ID": app_group_id,
        "TIME": int(now),
        "TIME_MS": int(now * 1000),
        "UPDATE_SOURCE": "API",
        "SF_UPDATED_AT": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)),
        "ARCHIVED": False,
        "CUSTOM_ATTRIBUTES": json.dumps(user.get("custom_attributes", {}), ensure_ascii=False),
    }
    return [given[name] if name in given else user.get(_FIELDS.get(name, name.lower())) for name in columns]
