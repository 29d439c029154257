"""What Braze's data share has by its documentation: 104 tables with their columns, in ``share_tables.txt``.

The profile views are not among them; what is known of those stands in ``warehouse/share_views.py``.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")

_TYPES: Final = {
    "": "VARCHAR",
    "n": "NUMBER(38,0)",
    "b": "BOOLEAN",
    "f": "FLOAT",
    "a": "ARRAY",
    "l": "TIMESTAMP_LTZ(9)",
    "t": "TIMESTAMP_NTZ(9)",
}

#: What the name of a table ends in that has the same columns, and also the rows of more than two years ago.
ARCHIVE_SUFFIX: Final = "_ALL"

#: How far the tables without that ending go back.
ORDINARY: Final = timedelta(days=730)


@cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """Return table -> column -> Snowflake type, in Braze's order. Read once, when it is first asked for."""
    text = files("airflow_provider_kubit_braze.core").joinpath("share_tables.txt").read_text(encoding="utf-8")
    tables: dict[str, Mapping[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        table, *columns = line.split(" ")
        split = (column.partition(":") for column in columns)
        tables[table] = MappingProxyType({name: _TYPES[kind] for name, _, kind in split})
    return MappingProxyType(tables)


def with_archive(there: Mapping[str, _T]) -> dict[str, _T]:
    """Return the tables of a share without those that have a twin with the archive, which has all their rows.

    :param there: the tables that the share has.
    """
    return {table: some for table, some in there.items() if f"{table}{ARCHIVE_SUFFIX}" not in there}


def table_in(there: Mapping[str, object], table: str) -> str | None:
    """Return the name under which a share has a table: its own, else that of its twin with the archive; or None.

    :param there: the tables that the share has.
    :param table: a name of the catalogue.
    """
    return next((name for name in (table, f"{table}{ARCHIVE_SUFFIX}") if name in there), None)
