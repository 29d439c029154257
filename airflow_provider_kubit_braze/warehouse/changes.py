"""The frozen plan as a stream: read in ranges of the sequence number, as Arrow, turned into requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.core.ranges import Range, count, cut, gaps, merge
from airflow_provider_kubit_braze.exceptions import PlanDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from snowflake.connector.cursor import SnowflakeCursor

    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: Changes read by one query: what memory holds of a server that answers with one large result. Requests of 50, 75 and
#: 1,000 users divide it.
RANGE_SIZE: Final = 60_000

_NAMES: Final = ["SEQ", "USER_ID"]


class Run(NamedTuple):
    """Consecutive changes of one action, under one kind of identifier.

    :param action: what is to happen.
    :param id_kind: the ledger's name of the kind.
    """

    range: Range
    action: str
    id_kind: str


class Segment(NamedTuple):
    """Consecutive changes that travel alike.

    :param place: where in Braze.
    :param leave: whether users leave.
    :param id_kind: the kind of identifier, where a request holds only one of them.
    :param runs: the changes, in order.
    """

    place: Place
    leave: bool
    id_kind: str
    runs: tuple[Run, ...]

    @property
    def range(self) -> Range:
        """The sequence numbers of the changes."""
        return Range(self.runs[0].range.first, self.runs[-1].range.last)


def read_segments(session: Session, tables: Tables, *, import_id: str, to_send: int) -> list[Segment]:
    """Return how the plan's changes divide, in the order in which they have to be sent: leavers first.

    :raises PlanDamagedError: when they are not the planned ones.
    """
    rows = session.rows(
        f"SELECT ACTION, PLACE, ID_KIND, MIN(SEQ), MAX(SEQ) FROM {tables.change} "
        "WHERE IMPORT_ID = %s AND SEQ BETWEEN 1 AND %s GROUP BY ACTION, PLACE, ID_KIND ORDER BY MIN(SEQ)",
        (import_id, to_send),
    )
    segments: list[Segment] = []
    for action, text, id_kind, first, last in rows:
        place = Place.parse(text)
        run = Run(Range(int(first), int(last)), action, id_kind)
        # An object of /users/track says itself what kind of identifier it has.
        found = Segment(place, action == "leave", "" if place.kind == "attribute" else id_kind, (run,))
        if segments and segments[-1][:3] == found[:3]:
            found = found._replace(runs=(*segments.pop().runs, run))
        segments.append(found)
    covered = [run.range for segment in segments for run in segment.runs]
    if merge(covered) != [Range(1, to_send)] or count(covered) != to_send:
        raise _damaged(tables, import_id, next(iter(gaps(covered, to_send)), Range(1, to_send)).first)
    return segments


def needs_leavers_first(segments: Iterable[Segment]) -> bool:
    """Whether all leavers have to be told before anybody else, and not only before the others of their shard.

    Who leaves under one kind of identifier may enter under another: one profile in Braze, and the last word about it
    has to be that it is in. And a partner cohort is locked while Braze changes it, so shards would wait for each other.
    """
    gone = {(segment.place, run.id_kind) for segment in segments if segment.leave for run in segment.runs}
    come = {(segment.place, run.id_kind) for segment in segments if not segment.leave for run in segment.runs}
    return any(place.kind == "partner_cohort" for place, _ in gone) or any(
        place == other and kind != another for place, kind in gone for other, another in come
    )


def read_users(
    session: Session,
    tables: Tables,
    *,
    import_id: str,
    ranges: Iterable[Range],
    range_size: int = RANGE_SIZE,
) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(first sequence number, users)`` of contiguous changes, one pair for each Arrow batch.

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
            yield start, table.column(1).to_pylist()
            expected = end + 1
        if expected != last + 1:
            raise _damaged(tables, import_id, expected)


def _damaged(tables: Tables, import_id: str, near: int) -> PlanDamagedError:
    return PlanDamagedError(
        f"The plan {import_id} in {tables.change} is damaged near number {near}: the import stops before "
        "it sends something that was not planned. A retry makes a new plan."
    )


def into_requests(
    pieces: Iterable[tuple[int, list[str]]],
    *,
    join: Callable[[Sequence[str]], bytes],
    max_objects: int,
    max_bytes: int,
) -> Iterator[tuple[int, int, bytes]]:
    """Cut contiguous changes into requests that keep to Braze's limits on objects and bytes.

    :param pieces: first sequence number and users, in order.
    :param join: makes the JSON of some users.
    :return: of each request the first sequence number, how many changes it holds, and their JSON.
    """
    for first, users in _whole_requests(pieces, max_objects):
        for start in range(0, len(users), max_objects):
            yield from _small_enough(first + start, users[start : start + max_objects], join, max_bytes)


def _whole_requests(
    pieces: Iterable[tuple[int, list[str]]], max_objects: int
) -> Iterator[tuple[int, list[str]]]:
    """Put what does not fill a request to the next piece, if that goes on there: pieces may be small."""
    first, rest = 0, list[str]()
    for start, users in pieces:
        if rest and start == first + len(rest):
            rest += users
        else:
            if rest:
                yield first, rest
            first, rest = start, users
        if full := len(rest) - len(rest) % max_objects:
            yield first, rest[:full]
            first, rest = first + full, rest[full:]
    if rest:
        yield first, rest


def _small_enough(
    first: int, users: Sequence[str], join: Callable[[Sequence[str]], bytes], max_bytes: int
) -> Iterator[tuple[int, int, bytes]]:
    objects = join(users)
    if len(objects) <= max_bytes or len(users) == 1:
        yield first, len(users), objects
        return
    middle = len(users) // 2
    yield from _small_enough(first, users[:middle], join, max_bytes)
    yield from _small_enough(first + middle, users[middle:], join, max_bytes)


def _arrow_batches(cursor: SnowflakeCursor) -> Iterable[pyarrow.Table]:
    # A stand-in patched into the process, as people do in unit tests, may not know Arrow.
    if hasattr(cursor, "fetch_arrow_batches"):
        return cursor.fetch_arrow_batches()
    return [pyarrow.table(list(zip(*rows, strict=True)), names=_NAMES)] if (rows := cursor.fetchall()) else []
