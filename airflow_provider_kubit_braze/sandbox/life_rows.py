"""Rows of the local share: collected thinly, and filled up by the local Snowflake itself while they are loaded.

An event here holds what differs from row to row. Whatever depends on the person, the message or the table only is
joined on by one ``INSERT ... SELECT`` for each table, which is what makes hundreds of thousands of rows a matter of
seconds.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.share_catalogue import catalogue, table_in
from airflow_provider_kubit_braze.sandbox.braze_share import LATEST_DEFAULT, make_profile_view
from airflow_provider_kubit_braze.sandbox.process import SandboxError
from airflow_provider_kubit_braze.warehouse.session import split_name, stored_name

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path
    from typing import TextIO

    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor

_DAY: Final = 86_400

_EVENT: Final = {
    "TABLE_NAME": "VARCHAR",
    "ID": "VARCHAR",
    "PERSON": "NUMBER(38,0)",
    "MOMENT": "NUMBER(38,0)",
    "CREATED": "NUMBER(38,0)",
    "OWNER": "VARCHAR",
    "VARIATION": "NUMBER(38,0)",
    "STEP": "NUMBER(38,0)",
    "DEVICE": "NUMBER(38,0)",
    "AMOUNT": "FLOAT",
    "FLAG": "BOOLEAN",
    "WORD": "VARCHAR",
    "CHANNEL": "VARCHAR",
}
_PERSON: Final = {
    "PERSON": "NUMBER(38,0)",
    "USER_ID": "VARCHAR",
    "EXTERNAL_ID": "VARCHAR",
    "APP_GROUP_ID": "VARCHAR",
    "EMAIL": "VARCHAR",
    "PHONE": "VARCHAR",
}


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How untidy the rows are; each is a share between 0 and 1.

    :param duplicates: of the rows that are there twice, the second time with a later ``SF_CREATED_AT``.
    :param late: of the rows that reach the share one to four days after they happened.
    :param unnamed: of the rows without ``EXTERNAL_USER_ID``, although their user has one.
    :param merged: of the users some of whose rows belong to an anonymous profile that was merged into theirs later.
    :param deleted: of the users whom Braze was asked to delete, after everything that is measured.
    :param elsewhere: of the users who are, under the same external id, also in another app group, and buy there.
    """

    duplicates: float = 0.02
    late: float = 0.02
    unnamed: float = 0.01
    merged: float = 0.03
    deleted: float = 0.005
    elsewhere: float = 0.05

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            if not 0 <= share <= 1:
                raise SandboxError(f"{name} is {share}; it is a share between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class Message:
    """The campaign or Canvas that rows are about.

    :param kind: ``campaign`` or ``canvas``.
    :param api_id: its API identifier.
    :param name: as its author calls it.
    :param dispatch_id: of the request that triggered it.
    :param send_id: of the request; None without one.
    """

    kind: str
    api_id: str
    name: str
    dispatch_id: str
    send_id: str | None

    def variation(self, number: int) -> str:
        """Return the API identifier of a variation, counted from 0."""
        return f"{self.api_id}-{'abcdefgh'[number]}"

    def columns(self) -> dict[str, str]:
        """Return column -> expression over the event ``e``."""
        variation = " ".join(f"WHEN {n} THEN {_text(self.variation(n))}" for n in range(8))
        step = f"{_text(self.api_id + '-step-')} || e.STEP"
        values = {
            "DISPATCH_ID": _text(self.dispatch_id),
            "SEND_ID": _text(self.send_id),
        }
        if self.kind == "campaign":
            values |= {
                "CAMPAIGN_ID": _text(f"internal-{self.api_id}"),
                "CAMPAIGN_API_ID": _text(self.api_id),
                "CAMPAIGN_NAME": _text(self.name),
                "MESSAGE_VARIATION_API_ID": f"CASE e.VARIATION {variation} END",
            }
        else:
            values |= {
                "CANVAS_ID": _text(f"internal-{self.api_id}"),
                "CANVAS_API_ID": _text(self.api_id),
                "CANVAS_NAME": _text(self.name),
                "CANVAS_VARIATION_API_ID": f"CASE e.VARIATION {variation} END",
                "CANVAS_STEP_API_ID": step,
                "CANVAS_STEP_MESSAGE_VARIATION_API_ID": f"{step} || '-message'",
                "EXPERIMENT_STEP_API_ID": _text(f"{self.api_id}-experiment"),
                "EXPERIMENT_SPLIT_API_ID": _text(f"{self.api_id}-path-1"),
            }
        return {name: f"IFF(e.VARIATION IS NULL, NULL, {value})" for name, value in values.items()}


_DEVICE: Final = "p.USER_ID || c.SUFFIX || '-device-' || COALESCE(e.DEVICE, 0)"

#: Column -> expression over the event ``e``, the person ``p`` and the copy ``c``. Other columns stay null.
_COLUMNS: Final = {
    "ID": "e.ID || c.SUFFIX",
    "TIME": "e.MOMENT",
    "SF_CREATED_AT": "TO_TIMESTAMP_NTZ(e.CREATED)",
    "USER_ID": "COALESCE(e.OWNER, p.USER_ID) || c.SUFFIX",
    "EXTERNAL_USER_ID": "IFF(e.OWNER IS NULL, p.EXTERNAL_ID || c.SUFFIX, NULL)",
    "ORPHANED_BY_ID": "e.WORD || c.SUFFIX",
    "APP_GROUP_ID": "p.APP_GROUP_ID",
    "APP_GROUP_API_ID": "p.APP_GROUP_ID || '-api'",
    "APP_API_ID": "'sandbox-app'",
    "EMAIL_ADDRESS": "p.EMAIL",
    "TO_PHONE_NUMBER": "p.PHONE",
    "USER_PHONE_NUMBER": "p.PHONE",
    "PHONE_NUMBER": "p.PHONE",
    "COUNTRY": "CASE MOD(p.PERSON, 5) WHEN 0 THEN 'DE' WHEN 1 THEN 'GB' ELSE 'US' END",
    "LANGUAGE": "IFF(MOD(p.PERSON, 5) = 0, 'de', 'en')",
    "TIMEZONE": "IFF(MOD(p.PERSON, 5) = 0, 'Europe/Berlin', 'America/New_York')",
    "PLATFORM": "IFF(MOD(p.PERSON, 2) = 0, 'ios', 'android')",
    "DEVICE_ID": _DEVICE,
    "PUSH_TOKEN": f"MD5({_DEVICE})",
    "FROM_DOMAIN": "'mail.example.com'",
    "URL": "'https://shop.example.com/sale'",
    "PRODUCT_ID": "'product-' || MOD(p.PERSON, 97)",
    "SUBSCRIPTION_GROUP_API_ID": "'sandbox-subscription-group'",
    "CONTENT_CARD_ID": "'card-' || p.PERSON",
    "BANNER_PLACEMENT_ID": "'home'",
    "FEATURE_FLAG_ID_NAME": "'new_checkout'",
    "IS_SUSPECTED_BOT_CLICK": "e.FLAG",
    "SUSPECTED_BOT_CLICK_REASON": """IFF(e.FLAG, PARSE_JSON('["user_agent"]')::ARRAY, NULL)""",
    "IN_CONTROL_GROUP": "e.FLAG",
    "IS_CANVAS_ENTRY": "e.FLAG",
    "CHANNEL": "e.CHANNEL",
    **dict.fromkeys(("CONVERSION_BEHAVIOR_INDEX", "DURATION", "PRICE", "REVENUE"), "e.AMOUNT"),
    **dict.fromkeys(
        (
            "ABORT_TYPE",
            "ACTION",
            "BOUNCE_REASON",
            "CURRENCY",
            "DEFERRAL_REASON",
            "ERROR",
            "MACHINE_OPEN",
            "NAME",
            "PROGRESSION_TYPE",
            "SESSION_ID",
            "SOURCE",
            "SUBSCRIPTION_STATUS",
        ),
        "e.WORD",
    ),
}

#: Column of the profile view -> expression over the person ``p`` and the copy ``c``.
_PROFILE: Final = {
    "APP_GROUP_ID": "p.APP_GROUP_ID",
    "USER_ID": "p.USER_ID || c.SUFFIX",
    "EXTERNAL_USER_ID": "p.EXTERNAL_ID || c.SUFFIX",
    "EMAIL_ADDRESS": "p.EMAIL",
    "PHONE_NUMBER": "p.PHONE",
    "TIME": "{at}",
    "TIME_MS": "{at}000",
    "SF_UPDATED_AT": "TO_TIMESTAMP_NTZ({at})",
    "UPDATE_SOURCE": "'API'",
    "ARCHIVED": "FALSE",
}


class Rows:
    """A file of events that grows.

    :param out: the file.
    :param chance: what decides about identifiers, delays and duplicates.
    :param noise: how many of which.
    """

    def __init__(self, out: TextIO, chance: random.Random, noise: Noise) -> None:
        self._write = csv.writer(out).writerow
        self._chance = chance
        self._noise = noise
        self.tables: set[str] = set()

    def add(
        self,
        what: str,
        person: int,
        moment: float,
        *,
        owner: str | None = None,
        variation: int | None = None,
        step: int | None = None,
        device: int | None = None,
        amount: float | None = None,
        flag: bool | None = None,
        word: str | None = None,
        channel: str | None = None,
    ) -> None:
        """Add a row.

        :param what: the table, without ``USERS_`` and ``_SHARED``.
        :param person: whose.
        :param moment: epoch seconds.
        :param owner: the profile that has the row, when that is another of the person's, or the row names no user.
        :param variation: of the message that the row is about; None for a row about no message.
        """
        self.tables.add(what)
        roll, noise = self._chance.random, self._noise
        created = int(moment) + 60 + int(roll() * 1800)
        if roll() < noise.late:
            created += int((1 + 3 * roll()) * _DAY)
        identifier = f"{self._chance.getrandbits(128):032x}"
        row = (
            identifier,
            person,
            int(moment),
            created,
            owner,
            variation,
            step,
            device,
            amount,
            flag,
            word,
            channel,
        )
        self._write((what, *row))
        if roll() < noise.duplicates:
            again = created + 60 + int(roll() * _DAY)
            self._write((what, *row[:3], again, *row[4:]))

    def own(self, user_id: str) -> str | None:
        """Return an owner for a row: now and then the user's own profile, so that the row names no user."""
        return user_id if self._chance.random() < self._noise.unnamed else None


def load(
    connection: SnowflakeConnection,
    share: str,
    *,
    message: Message,
    people: Iterable[tuple[Any, ...]],
    tables: Collection[str],
    folder: Path,
    copies: int = 1,
    profiles_at: int | None = None,
) -> int:
    """Load the file ``events.csv`` of a folder into a share, and return the number of rows.

    A table that the share lacks gets no rows; so does a column no values.

    :param people: number, USER_ID, external id, app group, address and telephone number of each.
    :param tables: those that the events are of.
    :param copies: how often everybody lives; those of a copy have ids that end in ``~1`` and so on.
    :param profiles_at: put everybody into the profile view too, as of this moment (epoch seconds).
    """
    with (folder / "people.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(people)
    there = columns_of(connection, share)
    *parent, _ = split_name(share)
    work = ".".join([*parent, "KUBIT_BRAZE_SANDBOX_LIFE"])
    columns = {**_COLUMNS, **message.columns()}
    loaded = 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
        ((database, schema),) = cursor.fetchall()
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {work}")
        try:
            cursor.execute(f"CREATE STAGE IF NOT EXISTS {work}.FILES")
            for name, kinds in (("EVENTS", _EVENT), ("PEOPLE", _PERSON)):
                _copy(cursor, work, name, kinds, folder / f"{name.lower()}.csv")
            cursor.execute(f"CREATE OR REPLACE TABLE {work}.COPIES (SUFFIX VARCHAR)")
            suffixes = ", ".join(f"('~{number}')" if number else "('')" for number in range(copies))
            cursor.execute(f"INSERT INTO {work}.COPIES VALUES {suffixes}")
            selected = ", ".join(f"{value} AS {name}" for name, value in columns.items())
            cursor.execute(
                f"CREATE OR REPLACE VIEW {work}.LIVES AS SELECT e.TABLE_NAME AS LIFE_TABLE, {selected}"
                f" FROM {work}.EVENTS e JOIN {work}.PEOPLE p ON p.PERSON = e.PERSON CROSS JOIN {work}.COPIES c"
            )
            for what in sorted(tables):
                table = table_in(there, f"USERS_{what}_SHARED")
                if table is None:
                    continue
                used = ", ".join(name for name in there[table] if name in columns)
                cursor.execute(
                    f"INSERT INTO {share}.{table} ({used}) SELECT {used} FROM {work}.LIVES"
                    f" WHERE LIFE_TABLE = {_text(what)}"
                )
                loaded += cursor.rowcount or 0
            if profiles_at is not None:
                make_profile_view(cursor, share)
                cursor.execute(
                    f"INSERT INTO {share}.{LATEST_DEFAULT} ({', '.join(_PROFILE)})"
                    f" SELECT {', '.join(_PROFILE.values()).format(at=profiles_at)}"
                    f" FROM {work}.PEOPLE p CROSS JOIN {work}.COPIES c"
                )
        finally:
            cursor.execute(f"DROP SCHEMA IF EXISTS {work} CASCADE")
            cursor.execute(f'USE SCHEMA "{database}"."{schema}"')
    return loaded


def load_names(
    connection: SnowflakeConnection, share: str, table: str, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Insert rows of a table of names, if the share has it: each with ID, TIME, APP_GROUP_ID, API_ID and NAME."""
    there = columns_of(connection, share)
    if table not in there:
        return
    used = [name for name in ("ID", "TIME", "APP_GROUP_ID", "API_ID", "NAME") if name in there[table]]
    values = ", ".join("(" + ", ".join(_text(row[name]) for name in used) + ")" for row in rows)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {share}.{table} ({', '.join(used)}) VALUES {values}")


def columns_of(connection: SnowflakeConnection, share: str) -> dict[str, list[str]]:
    """Return the tables of the catalogue that a share has, with their columns."""
    *parent, schema = split_name(share)
    known = catalogue()
    found: dict[str, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT TABLE_NAME, COLUMN_NAME FROM {'.'.join([*parent, 'INFORMATION_SCHEMA'])}.COLUMNS"
            " WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME, ORDINAL_POSITION",
            (stored_name(schema),),
        )
        for table, column in cursor.fetchall():
            if table in known or table.removesuffix("_ALL") in known:
                found.setdefault(table, []).append(column)
    return found


def _copy(cursor: SnowflakeCursor, work: str, name: str, kinds: Mapping[str, str], file: Path) -> None:
    defined = ", ".join(f"{column} {kind}" for column, kind in kinds.items())
    cursor.execute(f"CREATE OR REPLACE TABLE {work}.{name} ({defined})")
    cursor.execute(f"PUT file://{file} @{work}.FILES OVERWRITE = TRUE AUTO_COMPRESS = FALSE")
    cursor.execute(f"COPY INTO {work}.{name} FROM @{work}.FILES/{file.name} FILE_FORMAT = (TYPE = CSV)")


def _text(value: Any) -> str:
    """Return a value as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"
