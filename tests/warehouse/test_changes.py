from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.ranges import Range
from airflow_provider_kubit_braze.exceptions import PlanDamagedError
from airflow_provider_kubit_braze.warehouse.changes import into_requests, read_segments, read_users

if TYPE_CHECKING:
    from collections.abc import Sequence


def read(warehouse: Any, *ranges: tuple[int, int], range_size: int = 50_000) -> list[tuple[int, list[str]]]:
    return list(
        read_users(
            warehouse.session,
            warehouse.tables,
            import_id="i1",
            ranges=[Range(*found) for found in ranges],
            range_size=range_size,
        )
    )


def numbered(pieces: list[tuple[int, list[str]]]) -> dict[int, str]:
    return {start + index: user for start, users in pieces for index, user in enumerate(users)}


def test_each_user_is_read_as_it_is_under_its_number(warehouse: Any) -> None:
    warehouse.insert(
        f"{warehouse.tables.change} (IMPORT_ID, SEQ, ACTION, ID_KIND, USER_ID, HELD_OUT)",
        [
            ("i1", 1, "leave", "email", "a@example.com", False),
            ("i1", 2, "leave", "external_id", "a", True),
            ("i1", 3, "enter", "external_id", 'say "é" \\ \n', False),
            ("i1", 4, "enter", "user_alias:crm", "b", False),
            ("i1", 5, "refresh", "external_id", "c", False),
            ("i2", 1, "enter", "external_id", "not of this plan", False),
        ],
    )

    assert numbered(read(warehouse, (1, 5))) == {
        1: "a@example.com",
        2: "a",
        3: 'say "é" \\ \n',
        4: "b",
        5: "c",
    }


@pytest.mark.parametrize("range_size", [1, 3, 4, 100])
def test_only_the_ranges_asked_for_are_read_whatever_a_query_takes(warehouse: Any, range_size: int) -> None:
    warehouse.change(*[("enter", f"u{number}", False) for number in range(1, 21)])

    pieces = read(warehouse, (2, 5), (7, 7), (15, 20), range_size=range_size)

    assert numbered(pieces) == {number: f"u{number}" for number in (2, 3, 4, 5, 7, 15, 16, 17, 18, 19, 20)}
    assert all(len(users) <= range_size for _, users in pieces)


@pytest.mark.parametrize(
    ("missing", "read_before"),
    [
        pytest.param("1 AND 1", set(), id="first"),
        pytest.param("5 AND 5", {1, 2, 3}, id="middle"),
        pytest.param("9 AND 9", {1, 2, 3, 4, 5, 6, 7, 8}, id="last"),
        pytest.param("1 AND 9", set(), id="all"),
        pytest.param("4 AND 6", {1, 2, 3}, id="a-whole-range"),
    ],
)
def test_a_plan_with_a_hole_is_refused_before_what_follows_is_read(
    warehouse: Any, missing: str, read_before: set[int]
) -> None:
    warehouse.change(*[("enter", f"u{number}", False) for number in range(1, 10)])
    warehouse.session.execute(f"DELETE FROM {warehouse.tables.change} WHERE SEQ BETWEEN {missing}")
    pieces = read_users(
        warehouse.session, warehouse.tables, import_id="i1", ranges=[Range(1, 9)], range_size=3
    )
    seen: set[int] = set()

    def exhaust() -> None:
        for start, users in pieces:
            seen.update(range(start, start + len(users)))

    with pytest.raises(
        PlanDamagedError, match=r"^The plan i1 in \w+\.IMPORT_CHANGE is damaged near number \d"
    ):
        exhaust()
    assert seen == read_before


def joined(users: Sequence[str]) -> bytes:
    return ",".join(users).encode()


def requests(pieces: list[tuple[int, list[str]]], **limits: int) -> list[tuple[int, list[str]]]:
    """First number and users of each request; that it says how many they are goes with it."""
    found = list(into_requests(pieces, join=joined, **{"max_objects": 75, "max_bytes": 10_000, **limits}))
    texts = [(first, size, objects.decode().split(",")) for first, size, objects in found]
    assert [size for _, size, _ in texts] == [len(users) for _, _, users in texts]
    return [(first, users) for first, _, users in texts]


@pytest.mark.parametrize(
    ("users", "sizes"), [(1, [1]), (75, [75]), (76, [75, 1]), (151, [75, 75, 1])], ids=str
)
def test_a_request_holds_no_more_users_than_it_may(users: int, sizes: list[int]) -> None:
    found = requests([(10, [f"x{number}" for number in range(users)])])

    assert [len(texts) for _, texts in found] == sizes
    assert [start for start, _ in found] == [10 + 75 * index for index in range(len(sizes))]
    assert [text for _, texts in found for text in texts] == [f"x{number}" for number in range(users)]


def test_a_request_holds_no_more_bytes_than_it_may() -> None:
    found = requests([(1, ["x" * 30] * 10)], max_bytes=100)

    assert [user for _, users in found for user in users] == ["x" * 30] * 10
    assert [start for start, _ in found] == [1 + sum(len(u) for _, u in found[:n]) for n in range(len(found))]
    assert max(len(joined(users)) for _, users in found) <= 100
    assert len(found) == 4


def test_a_user_that_is_larger_than_a_request_goes_alone() -> None:
    found = requests([(1, ["w" * 200, "x", "y" * 200, "z"])], max_bytes=100)

    assert found == [(1, ["w" * 200]), (2, ["x"]), (3, ["y" * 200]), (4, ["z"])]


def test_small_pieces_fill_requests_together() -> None:
    pieces = [(1, ["a"]), (2, ["b", "c", "d"]), (5, ["e"]), (6, ["f", "g"])]

    assert requests(pieces, max_objects=3) == [(1, ["a", "b", "c"]), (4, ["d", "e", "f"]), (7, ["g"])]


def test_pieces_that_do_not_follow_each_other_are_never_joined() -> None:
    assert requests([(1, ["a"]), (8, ["b"])]) == [(1, ["a"]), (8, ["b"])]


def test_a_connection_that_knows_no_arrow_is_read_as_well(warehouse: Any) -> None:
    class Plain:
        def __init__(self, rows: list[tuple[Any, ...]]) -> None:
            self.rows = rows

        def fetchall(self) -> list[tuple[Any, ...]]:
            return self.rows

    class Session:
        def execute(self, _sql: str, params: tuple[str, int, int]) -> Plain:
            _, first, last = params
            return Plain([(n, f"u{n}") for n in range(first, last + 1) if n <= 3])

    patched: Any = type("Patched", (), {"session": Session(), "tables": warehouse.tables})()

    assert numbered(read(patched, (1, 3))) == {1: "u1", 2: "u2", 3: "u3"}
    with pytest.raises(PlanDamagedError):
        read(patched, (4, 5))


def segments(warehouse: Any, to_send: int) -> list[tuple[Any, ...]]:
    found = read_segments(warehouse.session, warehouse.tables, import_id="i1", to_send=to_send)
    return [(*segment.range, str(segment.place), segment.leave, segment.id_kind) for segment in found]


def test_changes_that_travel_alike_are_one_segment(warehouse: Any) -> None:
    attribute, partner = "attribute:new", "partner_cohort:kubit"
    rows = [
        ("leave", "attribute:old", "email"),
        ("leave", "attribute:old", "external_id"),
        ("leave", partner, "device_id"),
        ("leave", partner, "external_id"),
        ("leave", partner, "external_id"),
        ("enter", attribute, "email"),
        ("refresh", attribute, "external_id"),
        ("hold", attribute, "external_id"),
    ]
    warehouse.insert(
        f"{warehouse.tables.change} (IMPORT_ID, SEQ, ACTION, PLACE, ID_KIND, USER_ID)",
        [("i1", seq, *row, f"u{seq}") for seq, row in enumerate(rows, 1)],
    )

    assert segments(warehouse, 7) == [
        (1, 2, "attribute:old", True, ""),
        (3, 3, partner, True, "device_id"),
        (4, 5, partner, True, "external_id"),
        (6, 7, attribute, False, ""),
    ]


@pytest.mark.parametrize("missing", ["SEQ = 1", "SEQ = 3", "SEQ = 5", "SEQ IN (2, 3)", "TRUE"])
def test_segments_that_do_not_hold_what_was_planned_are_no_segments(warehouse: Any, missing: str) -> None:
    actions = ["leave", "leave", "enter", "refresh", "refresh"]
    warehouse.change(*[(action, f"u{n}", False) for n, action in enumerate(actions)])
    warehouse.session.execute(f"DELETE FROM {warehouse.tables.change} WHERE {missing}")

    with pytest.raises(PlanDamagedError, match="is damaged near number"):
        segments(warehouse, 5)
