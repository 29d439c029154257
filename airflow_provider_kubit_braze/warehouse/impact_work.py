"""Tables that a measurement works in: made in the schema of the state tables, and gone afterwards."""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.warehouse.session import first_line, is_refusal, split_name, stored_name

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.warehouse.impact_stage import Staged
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)

_PREFIX: Final = "IMPACT_WORK"

#: Seconds after which nobody works in them any more.
_SECONDS: Final = 86_400


class WorkTables:
    """The tables of one measurement.

    Not temporary ones: those need a current schema, which a connection may not have.

    :param session: a session whose role may make tables there.
    :param tables: names of the state tables.
    """

    def __init__(self, session: Session, tables: Tables) -> None:
        self._session = session
        self._schema = tables.schema
        self._name = f"{_PREFIX}_{int(time.time())}_{secrets.token_hex(4).upper()}"
        self._made: set[str] = set()

    def __getitem__(self, name: str) -> str:
        """Return the qualified name of a table, whether it is there or not."""
        return f"{self._schema}.{self._name}_{name.upper()}"

    def make(self, name: str, query: Staged) -> None:
        """Make a table of the rows of a query, in place of the one that has the name."""
        if name in self._made:
            self._session.execute(f"DROP TABLE IF EXISTS {self[name]}")
        self._made.add(name)
        self._session.execute(f"CREATE TRANSIENT TABLE {self[name]} AS {query.sql}", query.params)

    def drop(self) -> None:
        """Remove all that were made."""
        for name in sorted(self._made):
            self._session.execute(f"DROP TABLE IF EXISTS {self[name]}")
        self._made.clear()

    def drop_leftovers(self) -> None:
        """Remove what measurements have left that were killed a day ago or longer."""
        *database, schema = split_name(self._schema)
        catalog = f"{database[0]}." if database else ""
        rows = self._session.rows(
            f"SELECT TABLE_NAME FROM {catalog}INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME LIKE %s",
            (stored_name(schema), f"{_PREFIX}%"),
        )
        for (name,) in rows:
            made = name.removeprefix(f"{_PREFIX}_").partition("_")[0]
            if made.isdecimal() and int(made) < time.time() - _SECONDS:
                try:
                    self._session.execute(f"DROP TABLE IF EXISTS {self._schema}.{name}")
                except Exception as error:
                    if not is_refusal(error):
                        raise
                    # Another role's, such as that of somebody at a terminal.
                    log.warning(
                        "Table %s.%s is left over and cannot be removed: %s",
                        self._schema,
                        name,
                        first_line(error),
                    )
