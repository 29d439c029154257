"""The frozen plan as a stream: read in ranges of the sequence number, as Arrow, turned into requests."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import pyarrow  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.ranges import Range, cut
from airflow_provider_kubit_braze.exceptions import PlanDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from snowflake.connector.cursor import SnowflakeCursor

    from airflow_provider_kubit_braze.core.payload import AttributeWriter
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: Changes read by one query. A server that answers with one large result then never holds more than this.
RANGE_SIZE: Final = 50_000

_NAMES: Final = ["SEQ", "ACTION", "ID_KIND", "USER_ID"]


def read_objects(
    session: Session,
    tables: Tables,
    *,
    import_id: str,
    ranges: Iterable[Range],
    writer: AttributeWriter,
    range_size: int = RANGE_SIZE,
) -> Iterator[tuple[int, list[bytes]]]:
    """Yield ``(first sequence number, JSON objects)`` of contiguous changes, one pair for each Arrow batch.

    :raises PlanDamagedError: when a range does not hold what was planned.
    """
    for first, last in cut(ranges, range_size):
        cursor = session.execute(
            f"SELECT {', '.join(_NAMES)} FROM {tables.change} "
            "WHERE IMPORT_ID = %s AND SEQ BETWEEN %s AND %s ORDER BY SEQ",
            (import_id, first, last),
        )
        expected = first
        for table in _arrow_batches(cursor):
            if table.num_rows == 0:
                continue
            start = int(table.column(0)[0].as_py())
            end = int(table.column(0)[-1].as_py())
            if start != expected or end - start + 1 != table.num_rows:
                break
            yield start, _encode(table, writer)
            expected = end + 1
        if expected != last + 1:
            raise PlanDamagedError(
                f"The plan {import_id} in {tables.change} is damaged near number {expected}: the import stops before "
                "it sends something that was not planned. A retry makes a new plan."
            )


def into_requests(
    pieces: Iterable[tuple[int, list[bytes]]], *, max_objects: int, max_bytes: int
) -> Iterator[tuple[int, list[bytes]]]:
    """Cut contiguous objects into requests that keep to Braze's limits on objects and bytes."""
    for start, objects in pieces:
        first, size = 0, 0
        for index, text in enumerate(objects):
            # One byte for the comma; the frame around the objects is within the margin.
            if index > first and (index - first == max_objects or size + len(text) + 1 > max_bytes):
                yield start + first, objects[first:index]
                first, size = index, 0
            size += len(text) + 1
        yield start + first, objects[first:]


def _arrow_batches(cursor: SnowflakeCursor) -> Iterable[pyarrow.Table]:
    # A stand-in patched into the process, as people do in unit tests, may not know Arrow.
    if hasattr(cursor, "fetch_arrow_batches"):
        return cursor.fetch_arrow_batches()
    return [pyarrow.table(list(zip(*rows, strict=True)), names=_NAMES)] if (rows := cursor.fetchall()) else []


def _encode(table: pyarrow.Table, writer: AttributeWriter) -> list[bytes]:
    # Rows come in the order of action and kind, so this groups into very few runs.
    keys = zip(table.column(1).to_pylist(), table.column(2).to_pylist(), strict=True)
    users = table.column(3).to_pylist()
    objects: list[bytes] = []
    for (action, kind), run in groupby(keys):
        end = len(objects) + sum(1 for _ in run)
        objects += writer.objects(action, kind, users[len(objects) : end])
    return objects
