"""Which rows become which users, all the way into Braze."""

from __future__ import annotations

from typing import Any

import pytest

ODD = [
    "it's",
    'say "hi"',
    "back\\slash\\n",
    "100%s %d %",
    "{user}",
    " lead",
    "trail  ",
    "007",
    "7",
    "NULL",
    "日本語",
    "😀",
    "e\u0301",
    "\u00e9",
    "a,b;--c /* d */",
    "Ann",
    "ann",
    "x" * 987,
    "é" * 493 + "x",
    "<script>",
]


def test_odd_identifiers_reach_braze_as_they_are(world: Any) -> None:
    world.people(*ODD)

    result = world.imported()

    assert world.cohort_in_braze() == world.users() == set(ODD)
    assert (result.added, result.invalid, result.duplicates, result.data_points) == (len(ODD), 0, 0, len(ODD))
    assert world.imported("day 2").outcome == "unchanged"


def test_odd_identifiers_leave_as_they_came(world: Any) -> None:
    world.people(*ODD)
    world.imported("day 1")
    world.source("somebody else")
    world.braze.add_users(["somebody else"])

    world.imported("day 2", guards={"max_removed": None})

    assert world.cohort_in_braze() == {"somebody else"}
    assert world.braze.left("kubit_cohort_vips") == set(ODD)


def test_rows_without_a_usable_identifier_are_counted_and_not_sent(world: Any) -> None:
    world.people("a", "b")
    blank = [(None,), ("",), ("   ",), ("\t\n\r",), ("x" * 988,), ("é" * 494,)]
    world.source("a", "b", "a", "a", *blank)

    result = world.imported()

    assert (result.members, result.duplicates, result.invalid, result.added) == (2, 2, 6, 2)
    assert {found["external_id"] for found in world.written()} == {"a", "b"}


@pytest.mark.parametrize(
    ("column", "values", "users"),
    [
        ("NUMBER(38,0)", [7, 42, 1234567890123456789], {"7", "42", "1234567890123456789"}),
        ("DATE", ["2026-02-28"], {"2026-02-28"}),
    ],
    ids=["numbers", "dates"],
)
def test_numbers_and_dates_are_sent_as_text(
    world: Any, column: str, values: list[Any], users: set[str]
) -> None:
    world.braze.add_users(users)
    world.source(*[(value,) for value in values], columns=f"USER_ID {column}")

    world.imported()

    assert world.cohort_in_braze() == users


def test_the_first_identifier_that_is_not_null_names_the_user(world: Any) -> None:
    world.braze.add_users(
        [
            {"external_id": "a"},
            {"email": "b@example.com"},
            {"phone": "+15550000003"},
            {"user_aliases": [{"alias_label": "crm", "alias_name": "d"}]},
        ]
    )
    world.source(
        ("a", "a@example.com", None, None),
        (None, "b@example.com", "+15550000002", None),
        (None, None, "+15550000003", "c"),
        (None, None, None, "d"),
        (None, None, None, None),
        columns="ID VARCHAR, MAIL VARCHAR, PHONE VARCHAR, ALIAS VARCHAR",
    )

    result = world.imported(
        identifiers={
            "external_id": "ID",
            "email": "MAIL",
            "phone": "PHONE",
            "user_alias": {"label": "crm", "name": "ALIAS"},
        }
    )

    assert world.stays() == {
        ("external_id", "a"),
        ("email", "b@example.com"),
        ("phone", "+15550000003"),
        ("user_alias:crm", "d"),
    }
    assert (result.invalid, result.data_points, world.points) == (1, 4, 4)
