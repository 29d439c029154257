"""What a customer's share of Braze's data really has, and how such a share is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.share_catalogue import ORDINARY, catalogue, table_in, with_archive
from airflow_provider_kubit_braze.exceptions import SourceError, StatementBrokenOffError
from airflow_provider_kubit_braze.warehouse.session import (
    first_line,
    is_contention,
    is_denied,
    is_refusal,
    split_name,
    stored_name,
)
from airflow_provider_kubit_braze.warehouse.share_views import PROFILE_VIEWS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_provider_kubit_braze.warehouse.session import Session

# "Shared database is no longer available for use. It will need to be re-created if and when the publisher makes it
# available again." (Snowflake's error 3030): its share was revoked, or made anew.
_REVOKED: Final = "no longer available"


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The tables of a share.

    :param share: the schema.
    :param columns: table or view -> the columns it has.
    """

    share: str
    columns: Mapping[str, frozenset[str]]

    def since(self, first: int, *, now: datetime) -> Inventory:
        """Return what serves for rows from a moment on: the twins with the archive, where the others begin later.

        :param first: the first moment, in epoch seconds.
        :param now: an aware moment.
        """
        if first >= (now - ORDINARY).timestamp():
            return self
        return Inventory(share=self.share, columns=with_archive(self.columns))

    @cached_property
    def missing_tables(self) -> list[str]:
        """Tables that Braze documents and the share lacks."""
        return [table for table in catalogue() if table_in(self.columns, table) is None]

    @cached_property
    def missing_columns(self) -> dict[str, list[str]]:
        """Table -> columns that Braze documents and the share's table lacks."""
        found: dict[str, list[str]] = {}
        for table, columns in catalogue().items():
            name = table_in(self.columns, table)
            if name is not None and (lacks := [one for one in columns if one not in self.columns[name]]):
                found[name] = lacks
        return found

    @cached_property
    def unknown_tables(self) -> list[str]:
        """Tables and views of the share that this package does not know."""
        known = {name for table in catalogue() if (name := table_in(self.columns, table))}
        known |= {f"{table}_ALL" for table in catalogue()}
        known |= {view for views in PROFILE_VIEWS.values() for view in views}
        return sorted(self.columns.keys() - known)

    @property
    def profile_views(self) -> dict[str, list[str]]:
        """What the profile views are for -> those that the share has, the freshest first."""
        return {
            what: [view for view in views if view in self.columns] for what, views in PROFILE_VIEWS.items()
        }


def read_inventory(session: Session, share: str) -> Inventory:
    """Look what a share has: one query of its information schema, and no row of the share is read.

    :param session: a session whose role may read the share.
    :param share: ``DATABASE.SCHEMA``.
    :raises SourceError: when there is no such schema, or the role sees nothing in it; with the SQL that helps.
    :raises StatementBrokenOffError: when Snowflake could not be asked now.
    """
    try:
        parts = split_name(share)
    except ValueError:
        parts = []
    if len(parts) != 2:
        raise SourceError(
            f"{share!r} is not a schema of a data share; write DATABASE.SCHEMA, such as BRAZE_SHARE.PUBLIC."
        )
    database, schema = parts
    said = "the schema has no table that this role sees"
    # With parameters, a percent sign of a quoted name is written twice.
    catalog = database.replace("%", "%%")
    sql = f"SELECT TABLE_NAME, COLUMN_NAME FROM {catalog}.INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = %s"
    columns: dict[str, set[str]] = {}
    try:
        for table, column in session.rows(sql, (stored_name(schema),)):
            columns.setdefault(table, set()).add(column)
    except Exception as error:
        if not is_refusal(error) or is_contention(error):
            raise
        if not is_denied(error):
            raise StatementBrokenOffError(
                f"It could not be looked up what Braze's data share {share} has; Snowflake says: {first_line(error)}"
            ) from None
        said = first_line(error)
    if not columns:
        statements = " ".join(accept_statements(database, role=session.connection.role or "<ROLE>"))
        helps = (
            f"If Braze has shared it, let an administrator run, with the names that SHOW SHARES gives: {statements} "
            "Where the database is there, the last one is enough; SHOW SCHEMAS IN DATABASE names the schema."
        )
        if _REVOKED in said:
            helps = (
                "Braze has revoked the share, or made it anew. When Braze has shared it again, let an administrator "
                f"run, with the names that SHOW SHARES gives: DROP DATABASE {database}; {statements} The database is "
                "of the share that is gone, so it has to go first."
            )
        raise SourceError(
            f"Braze's data share {share} cannot be read (Snowflake: {said.rstrip('.')}). {helps}"
        )
    return Inventory(share=share, columns={table: frozenset(names) for table, names in columns.items()})


def accept_statements(database: str, *, role: str) -> list[str]:
    """Return the SQL that makes a database of the share that Braze has offered, and lets a role read it.

    A role needs ``IMPORT SHARE`` and ``CREATE DATABASE`` for it, as ACCOUNTADMIN has (Snowflake documentation, "Consume
    imported data"). A share that Braze has made anew needs a new database.

    :param database: what it shall be called here.
    :param role: the role of the Airflow connection.
    """
    return [
        "SHOW SHARES LIKE '%BRAZE%';",
        f"CREATE DATABASE {database} FROM SHARE <PROVIDER_ACCOUNT>.<SHARE>;",
        f"GRANT IMPORTED PRIVILEGES ON DATABASE {database} TO ROLE {role};",
    ]
