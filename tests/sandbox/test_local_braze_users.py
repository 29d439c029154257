"""What accepted objects do to profiles, when they do it, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest

ALIAS = {"alias_label": "crm", "alias_name": "n-1"}


@pytest.mark.parametrize(
    ("item", "created"),
    [
        pytest.param({"external_id": "u"}, 1, id="external-id"),
        pytest.param({"external_id": "u", "_update_existing_only": False}, 1, id="external-id-flag-false"),
        pytest.param({"external_id": "u", "_update_existing_only": True}, 0, id="external-id-update-only"),
        pytest.param({"user_alias": ALIAS}, 0, id="alias-updates-only-unless-told"),
        pytest.param({"user_alias": ALIAS, "_update_existing_only": False}, 1, id="alias-flag-false"),
        pytest.param({"email": "a@example.com"}, 1, id="email"),
        pytest.param({"email": "a@example.com", "_update_existing_only": True}, 0, id="email-update-only"),
        pytest.param({"phone": "+15551234567"}, 1, id="phone"),
        pytest.param({"braze_id": "0123456789abcdef01234567"}, 0, id="braze-id-never"),
    ],
)
def test_an_unknown_user_is_created_or_silently_left_out(
    local_braze: Any, item: dict[str, Any], created: int
) -> None:
    local_braze.write({**item, "in": True})

    counters = local_braze.control.counters()
    assert (counters.profiles, counters.profiles_created, counters.unknown_users) == (
        created,
        created,
        1 - created,
    )
    assert (counters.attribute_writes, counters.data_points) == (1, created)


@pytest.mark.parametrize(
    "identifier",
    [
        pytest.param({"external_id": "u"}, id="external-id"),
        pytest.param({"braze_id": "bz"}, id="braze-id"),
        pytest.param({"user_alias": ALIAS}, id="alias"),
        pytest.param({"email": "a@example.com"}, id="email"),
        pytest.param({"phone": "+15551234567"}, id="phone"),
    ],
)
def test_every_identifier_finds_the_user(local_braze: Any, identifier: dict[str, Any]) -> None:
    local_braze.control.add_users(
        [
            {
                "external_id": "u",
                "braze_id": "bz",
                "email": "a@example.com",
                "phone": "+15551234567",
                "user_aliases": [ALIAS],
            },
            {"external_id": "somebody else"},
        ]
    )

    local_braze.write({**identifier, "in": True, "_update_existing_only": True})

    assert local_braze.control.cohort("in") == {"u"}
    assert local_braze.control.cohort("in", "braze_id") == {"bz"}
    assert local_braze.control.cohort("in", "email") == {"a@example.com"}
    assert local_braze.control.cohort("in", "phone") == {"+15551234567"}
    assert local_braze.control.cohort("in", "alias", label="crm") == {"n-1"}
    assert local_braze.control.cohort("in", "alias", label="other") == set()


def test_a_derived_braze_id_finds_the_user(local_braze: Any) -> None:
    local_braze.control.add_users(["a", "b"])
    braze_id = local_braze.user(external_id="b")["braze_id"]

    local_braze.write({"braze_id": braze_id, "in": True})

    assert local_braze.control.cohort("in") == {"b"}


def test_a_user_with_a_braze_id_of_its_own_has_no_other(local_braze: Any) -> None:
    local_braze.control.add_users([{"external_id": "u", "braze_id": "bz"}])

    local_braze.write({"braze_id": f"{0:024x}", "in": True})

    assert local_braze.control.cohort("in") == set()
    assert local_braze.control.counters().unknown_users == 1


def test_ids_and_attribute_names_differ_by_case_and_spaces(local_braze: Any) -> None:
    local_braze.control.add_users(["a", "A", " a"])

    local_braze.write({"external_id": "A", "In": True, "_update_existing_only": True})

    assert local_braze.control.cohort("In") == {"A"}
    assert local_braze.control.cohort("in") == set()


def test_an_email_means_the_most_recently_updated_user_with_an_external_id(local_braze: Any) -> None:
    mail = "a@example.com"
    local_braze.control.add_users([{"external_id": user, "email": mail} for user in ("old", "new")])
    local_braze.control.add_users([{"braze_id": "anonymous", "email": mail}])
    local_braze.write({"external_id": "old", "seen": 1})
    local_braze.write({"external_id": "new", "seen": 1})
    local_braze.write({"braze_id": "anonymous", "seen": 1})

    local_braze.write({"email": mail, "in": True})

    assert local_braze.control.cohort("in", "braze_id") == {local_braze.user(external_id="new")["braze_id"]}


def test_an_email_without_identified_users_means_the_most_recently_updated(local_braze: Any) -> None:
    local_braze.control.add_users(
        [{"braze_id": name, "email": "a@example.com"} for name in ("first", "second")]
    )
    local_braze.write({"braze_id": "first", "seen": 1})

    local_braze.write({"email": "a@example.com", "in": True})

    assert local_braze.control.cohort("in", "braze_id") == {"first"}


def test_email_wins_over_phone(local_braze: Any) -> None:
    local_braze.control.add_users(
        [{"external_id": "mail", "email": "a@example.com"}, {"external_id": "call", "phone": "+15551234567"}]
    )

    local_braze.write({"email": "a@example.com", "phone": "+15551234567", "in": True})

    assert local_braze.control.cohort("in") == {"mail"}


def test_a_changed_email_is_found_at_the_new_address_only(local_braze: Any) -> None:
    local_braze.control.add_users([{"external_id": "u", "email": "old@example.com"}])

    local_braze.write({"external_id": "u", "email": "new@example.com", "first_name": "Ann"})

    assert local_braze.control.users(email="old@example.com") == []
    assert local_braze.user(email="new@example.com")["first_name"] == "Ann"


@pytest.mark.parametrize(
    ("before", "value", "after", "points"),
    [
        pytest.param(None, True, True, 1, id="boolean"),
        pytest.param(True, True, True, 1, id="unchanged-costs-too"),
        pytest.param(True, False, False, 1, id="false"),
        pytest.param(True, None, None, 1, id="null-removes"),
        pytest.param(None, None, None, 1, id="null-of-nothing"),
        pytest.param(None, "x" * 255, "x" * 255, 1, id="255-characters"),
        pytest.param("old", "x" * 256, "old", 0, id="256-characters-dropped"),
        pytest.param(2, {"inc": 3}, 5, 1, id="inc"),
        pytest.param(None, {"inc": 3}, 3, 1, id="inc-of-nothing"),
        pytest.param("text", {"inc": 3}, "text", 0, id="inc-of-text-dropped"),
        pytest.param(None, ["a", "b", "a"], ["b", "a"], 1, id="array-collapses"),
        pytest.param(["a", "b"], {"add": ["a", "c"]}, ["b", "a", "c"], 2, id="add-moves-to-the-end"),
        pytest.param(["a", "b"], {"remove": ["a", "z"]}, ["b"], 2, id="remove"),
        pytest.param(["a"], {"add": ["b"], "remove": ["a"]}, ["b"], 2, id="add-then-remove"),
        pytest.param([1, 2, 3], {"add": [4]}, [2, 3, 4], 1, id="oldest-falls-out-of-a-full-array"),
        pytest.param({"a": 1}, {"b": 2, "c": 3}, {"b": 2, "c": 3}, 2, id="object-overwrites"),
        pytest.param({"a": 1}, {"b": None}, {"a": 1}, 0, id="null-inside-drops-the-object"),
        pytest.param({"a": 1}, {"b.c": 2}, {"a": 1}, 0, id="dot-in-a-key-drops-the-object"),
        pytest.param(
            None, [{"a": 1, "b": 2}, {"c": 3}], [{"a": 1, "b": 2}, {"c": 3}], 3, id="array-of-objects"
        ),
    ],
)
def test_a_value_is_written_and_counted(
    local_braze: Any, before: Any, value: Any, after: Any, points: int
) -> None:
    local_braze.control.configure(array_cap=3)
    local_braze.control.add_users(
        [{"external_id": "u", "custom_attributes": {} if before is None else {"a": before}}]
    )

    local_braze.write({"external_id": "u", "a": value})

    attributes = local_braze.user(external_id="u").get("custom_attributes", {})
    assert attributes == ({} if after is None else {"a": after})
    assert local_braze.control.counters().data_points == points


def test_a_standard_field_is_no_custom_attribute_even_when_it_is_a_boolean(local_braze: Any) -> None:
    local_braze.control.add_users(["u"])

    local_braze.write({"external_id": "u", "email_open_tracking_disabled": True})

    user = local_braze.user(external_id="u")
    assert user["email_open_tracking_disabled"] is True
    assert "custom_attributes" not in user


def test_merge_objects_keeps_the_other_keys(local_braze: Any) -> None:
    local_braze.control.add_users([{"external_id": "u", "custom_attributes": {"a": {"x": {"p": 1}, "y": 2}}}])

    local_braze.write({"external_id": "u", "_merge_objects": True, "a": {"x": {"q": 3}}})

    assert local_braze.user(external_id="u")["custom_attributes"]["a"] == {"x": {"p": 1, "q": 3}, "y": 2}


@pytest.mark.parametrize(
    ("settings", "name", "value", "kept"),
    [
        pytest.param({"blocklisted_attributes": ["a"]}, "a", True, False, id="blocklisted"),
        pytest.param({"blocklisted_attributes": ["A"]}, "a", True, True, id="another-case-is-another-name"),
        pytest.param({}, "a" * 255, True, True, id="name-of-255"),
        pytest.param({}, "a" * 256, True, False, id="name-of-256"),
        pytest.param({"forced_types": {"a": "boolean"}}, "a", "T", True, id="forced-boolean-coerced"),
        pytest.param({"forced_types": {"a": "boolean"}}, "a", "yes", False, id="forced-boolean-mismatch"),
        pytest.param({"forced_types": {"a": "number"}}, "a", True, False, id="forced-number-mismatch"),
        pytest.param({"forced_types": {"a": "string"}}, "a", 1, False, id="forced-string-mismatch"),
        pytest.param({"forced_types": {"a": "array"}}, "a", {"add": ["x"]}, True, id="forced-array-added-to"),
        pytest.param({"forced_types": {"a": "object"}}, "a", [], False, id="forced-object-mismatch"),
    ],
)
def test_a_value_braze_drops_is_answered_201_all_the_same(
    local_braze: Any, settings: dict[str, Any], name: str, value: Any, kept: bool
) -> None:
    local_braze.control.configure(**settings)
    local_braze.control.add_users(["u"])

    local_braze.write({"external_id": "u", name: value})

    counters = local_braze.control.counters()
    assert (name in local_braze.user(external_id="u").get("custom_attributes", {})) is kept
    assert (counters.attribute_writes, counters.data_points) == (1, int(kept))


def test_data_points_are_counted_by_name_and_free_fields_cost_none(local_braze: Any) -> None:
    local_braze.write(
        {"external_id": "u", "a": True, "b": 1, "email_subscribe": "opted_in", "first_name": "Ann"}
    )
    local_braze.write({"external_id": "u", "a": True})

    counters = local_braze.control.counters()
    assert counters.data_points_by_name == {"a": 2, "b": 1, "first_name": 1}
    assert counters.attribute_writes_by_name == {"a": 2, "b": 1, "email_subscribe": 1, "first_name": 1}


def test_objects_of_different_shapes_for_one_user_apply_in_the_order_sent(local_braze: Any) -> None:
    local_braze.write(
        {"external_id": "u", "a": 1},
        {"external_id": "u", "a": 2, "_update_existing_only": True},
        {"external_id": "u", "a": 3},
    )

    assert local_braze.user(external_id="u")["custom_attributes"] == {"a": 3}
    assert local_braze.control.counters().profiles_created == 1


def test_a_user_named_twice_is_created_once(local_braze: Any) -> None:
    local_braze.write({"external_id": "u", "a": True}, {"external_id": "u", "a": False})

    assert local_braze.control.counters().profiles == 1
    assert local_braze.control.left("a") == {"u"}


def test_known_and_unknown_users_in_one_request_are_told_apart(local_braze: Any) -> None:
    local_braze.control.add_users(["known"])

    local_braze.write(
        *(
            {"external_id": user, "in": True, "_update_existing_only": True}
            for user in ("unknown", "known", "no one")
        )
    )

    counters = local_braze.control.counters()
    assert local_braze.control.cohort("in") == {"known"}
    assert (counters.attribute_writes, counters.data_points, counters.unknown_users) == (3, 1, 2)


def test_an_accepted_write_shows_only_after_the_delay(local_braze: Any) -> None:
    local_braze.control.configure(apply_delay=10.0)
    local_braze.control.add_users(["u"])
    local_braze.track({"external_id": "u", "in": True})

    local_braze.clock.advance(9.5)
    assert local_braze.control.cohort("in") == set()
    assert local_braze.control.counters().pending == 1

    local_braze.clock.advance(0.5)
    assert local_braze.control.cohort("in") == {"u"}
    assert local_braze.control.counters().pending == 0


def test_writes_apply_in_the_order_they_were_accepted(local_braze: Any) -> None:
    for value in (True, False, True, False):
        local_braze.track({"external_id": "u", "in": value})

    assert local_braze.control.settle() == 4
    assert local_braze.control.left("in") == {"u"}


def test_attributes_apply_before_events_and_purchases_of_the_same_request(local_braze: Any) -> None:
    time = "2026-01-02T03:04:05Z"
    body = {
        "events": [{"external_id": "u", "name": "opened", "time": time}],
        "purchases": [
            {
                "external_id": "u",
                "product_id": "cd",
                "currency": "USD",
                "price": 1,
                "quantity": 3,
                "time": time,
            }
        ],
        "attributes": [{"external_id": "u", "in": True}],
    }

    assert local_braze.post("/users/track", body).status_code == 201
    local_braze.control.settle()

    user = local_braze.user(external_id="u")
    assert user["custom_attributes"] == {"in": True}
    assert user["custom_events"] == [{"name": "opened", "first": time, "last": time, "count": 1}]
    assert user["purchases"] == [{"name": "cd", "first": time, "last": time, "count": 3}]
    assert local_braze.control.counters().data_points == 3
