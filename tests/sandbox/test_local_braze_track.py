"""/users/track and its sisters: what is accepted, and in which words the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest

NOTHING_VALID = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
NO_IDENTIFIER = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
BAD_EMAIL = "The value provided for the 'email' field is not a valid email."
EVENT = {"external_id": "u", "name": "opened", "time": "2026-01-02T03:04:05Z"}
PURCHASE = {
    "external_id": "u",
    "product_id": "cd",
    "currency": "USD",
    "price": 9.5,
    "time": "2026-01-02T03:04:05Z",
}


def _users(count: int) -> list[dict[str, Any]]:
    return [{"external_id": f"user-{number}", "in": True} for number in range(count)]


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        pytest.param(
            {"attributes": _users(2)}, 201, {"message": "success", "attributes_processed": 2}, id="attributes"
        ),
        pytest.param(
            {"attributes": _users(1), "events": [EVENT], "purchases": [PURCHASE]},
            201,
            {
                "message": "success",
                "attributes_processed": 1,
                "events_processed": 1,
                "purchases_processed": 1,
            },
            id="all-three",
        ),
        pytest.param(
            {"attributes": _users(1), "events": []},
            201,
            {"message": "success", "attributes_processed": 1, "events_processed": 0},
            id="an-empty-array-is-counted",
        ),
        pytest.param({}, 400, {"message": NOTHING_VALID}, id="no-array"),
        pytest.param({"attributes": []}, 400, {"message": NOTHING_VALID}, id="empty-array"),
        pytest.param(
            {"attributes": {"external_id": "u"}}, 400, {"message": NOTHING_VALID}, id="not-an-array"
        ),
        pytest.param(
            {"attributes": _users(1), "events": "none"},
            400,
            {"message": NOTHING_VALID},
            id="one-is-not-an-array",
        ),
        pytest.param(
            {"attributes": [{"in": True}, "text"]},
            400,
            {
                "message": NOTHING_VALID,
                "errors": [
                    {"type": NO_IDENTIFIER, "input_array": "attributes", "index": 0},
                    {"type": NO_IDENTIFIER, "input_array": "attributes", "index": 1},
                ],
            },
            id="none-valid",
        ),
        pytest.param(
            {
                "attributes": [{"external_id": "a", "in": True}, {"external_id": "x" * 988, "in": True}],
                "events": [EVENT, {"name": "opened", "time": "2026-01-02T03:04:05Z"}],
                "purchases": [{**PURCHASE, "quantity": 0}],
            },
            201,
            {
                "message": "success",
                "attributes_processed": 1,
                "events_processed": 1,
                "purchases_processed": 0,
                "errors": [
                    {
                        "type": "'external_id' must be fewer than 988 bytes",
                        "input_array": "attributes",
                        "index": 1,
                    },
                    {"type": NO_IDENTIFIER, "input_array": "events", "index": 1},
                    {"type": "'quantity' is not valid", "input_array": "purchases", "index": 0},
                ],
            },
            id="some-valid",
        ),
    ],
)
def test_a_body_is_answered_as_documented(local_braze: Any, body: Any, status: int, answer: Any) -> None:
    response = local_braze.post("/users/track", body)

    assert (response.status_code, response.json()) == (status, answer)


@pytest.mark.parametrize(
    ("identifier", "error"),
    [
        pytest.param({"external_id": "x" * 987}, None, id="987-bytes"),
        pytest.param(
            {"external_id": "x" * 988}, "'external_id' must be fewer than 988 bytes", id="988-bytes"
        ),
        pytest.param({"external_id": "é" * 493}, None, id="986-bytes-of-two-byte-characters"),
        pytest.param(
            {"external_id": "é" * 494}, "'external_id' must be fewer than 988 bytes", id="bytes-not-chars"
        ),
        pytest.param({"external_id": ""}, NO_IDENTIFIER, id="empty"),
        pytest.param({"external_id": None}, NO_IDENTIFIER, id="null"),
        pytest.param({"external_id": 7}, "'external_id' must be a string", id="number"),
        pytest.param({"external_id": " "}, None, id="a-space-is-an-id"),
        pytest.param({"braze_id": "0123456789abcdef01234567"}, None, id="braze-id"),
        pytest.param({"email": "a@example.com"}, None, id="email"),
        pytest.param({"email": "example.com"}, BAD_EMAIL, id="email-without-at"),
        pytest.param({"external_id": "u", "email": "example.com"}, BAD_EMAIL, id="email-as-attribute"),
        pytest.param({"external_id": "u", "email": None}, None, id="email-removed"),
        pytest.param({"phone": "+15551234567"}, None, id="phone"),
        pytest.param(
            {"phone": "none"},
            "The value provided for the 'phone' field is not a valid phone number.",
            id="bad-phone",
        ),
        pytest.param({"user_alias": {"alias_name": "n", "alias_label": "l"}}, None, id="alias"),
        pytest.param(
            {"user_alias": {"alias_name": "n"}},
            "'user_alias' must be an object with 'alias_name' and 'alias_label'",
            id="alias-without-label",
        ),
    ],
)
def test_an_identifier_is_accepted_or_named(
    local_braze: Any, identifier: dict[str, Any], error: str | None
) -> None:
    response = local_braze.track({"external_id": "first", "in": True}, {**identifier, "in": True})

    errors = [] if error is None else [{"type": error, "input_array": "attributes", "index": 1}]
    assert response.status_code == 201
    assert response.json().get("errors", []) == errors
    assert response.json()["attributes_processed"] == 2 - len(errors)


def test_a_wrong_email_attribute_is_named_in_a_body_of_like_objects_too(local_braze: Any) -> None:
    users = [{"external_id": user, "email": email} for user, email in (("a", "a@example.com"), ("b", "none"))]

    response = local_braze.track(*users)

    assert response.json()["errors"] == [{"type": BAD_EMAIL, "input_array": "attributes", "index": 1}]


@pytest.mark.parametrize(
    ("profile", "attributes", "events", "status"),
    [
        pytest.param("default", 75, 0, 201, id="default-75"),
        pytest.param("default", 76, 0, 400, id="default-76"),
        pytest.param("default", 75, 1, 400, id="default-75-and-1"),
        pytest.param("mau", 49, 1, 201, id="mau-49-and-1"),
        pytest.param("mau", 50, 1, 400, id="mau-50-and-1"),
        pytest.param("legacy", 75, 75, 201, id="legacy-75-each"),
        pytest.param("legacy", 76, 0, 400, id="legacy-76"),
        pytest.param("legacy", 0, 76, 400, id="legacy-76-events"),
    ],
)
def test_a_request_over_the_plans_limit_is_refused_whole(
    local_braze: Any, profile: str, attributes: int, events: int, status: int
) -> None:
    local_braze.control.configure(profile=profile)

    response = local_braze.post(
        "/users/track", {"attributes": _users(attributes), "events": [EVENT] * events}
    )

    assert response.status_code == status
    if status == 400:
        assert response.json() == {"message": "Max Input Length Exceeded"}
        assert local_braze.control.counters().objects_accepted == 0


@pytest.mark.parametrize(
    ("event", "error"),
    [
        pytest.param({"name": ""}, "'name' is required", id="no-name"),
        pytest.param({"time": "yesterday"}, "'time' is not valid", id="no-time"),
    ],
)
def test_a_wrong_event_is_named(local_braze: Any, event: dict[str, Any], error: str) -> None:
    response = local_braze.post("/users/track", {"events": [{**EVENT, **event}]})

    assert response.json()["errors"] == [{"type": error, "input_array": "events", "index": 0}]


@pytest.mark.parametrize(
    ("purchase", "error"),
    [
        pytest.param({"product_id": None}, "'product_id' is required", id="no-product"),
        pytest.param({"price": "9"}, "'price' is not valid", id="price-as-text"),
        pytest.param({"quantity": 101}, "'quantity' is not valid", id="quantity-101"),
        pytest.param({"time": 1}, "'time' is not valid", id="no-time"),
    ],
)
def test_a_wrong_purchase_is_named(local_braze: Any, purchase: dict[str, Any], error: str) -> None:
    response = local_braze.post("/users/track", {"purchases": [{**PURCHASE, **purchase}]})

    assert response.json()["errors"] == [{"type": error, "input_array": "purchases", "index": 0}]


def test_a_blocked_user_is_refused_in_brazes_words(local_braze: Any) -> None:
    local_braze.control.configure(blocked_external_ids=["bad"])

    response = local_braze.track({"external_id": "good", "in": True}, {"external_id": "bad", "in": True})

    assert response.json()["errors"] == [
        {
            "type": "provided external_id is blacklisted and disallowed",
            "input_array": "attributes",
            "index": 1,
        }
    ]


def test_bulk_takes_1000_objects_and_refuses_1001(local_braze: Any) -> None:
    assert (
        local_braze.post("/users/track/bulk", {"attributes": _users(1000)}).json()["attributes_processed"]
        == 1000
    )
    assert local_braze.post("/users/track/bulk", {"attributes": _users(1001)}).status_code == 400


def test_bulk_takes_100_objects_for_one_user_and_refuses_101(local_braze: Any) -> None:
    one = {"external_id": "u", "in": True}

    assert local_braze.post("/users/track/bulk", {"attributes": [one] * 100}).status_code == 201
    assert local_braze.post("/users/track/bulk", {"attributes": [one] * 101}).status_code == 400


def test_bulk_refuses_a_body_over_2_mb(local_braze: Any) -> None:
    body = b'{"attributes":[{"external_id":"u","in":true}]}'

    assert local_braze.post("/users/track/bulk", body.ljust(2_000_000)).status_code == 201
    assert local_braze.post("/users/track/bulk", body.ljust(2_000_001)).status_code == 400


def test_sync_applies_its_one_object_before_it_answers(local_braze: Any) -> None:
    response = local_braze.post("/users/track/sync", {"attributes": [{"external_id": "u", "in": True}]})

    assert response.status_code == 201
    assert response.json() == {
        "users": [{"external_id": "u", "custom_attributes": {"in": True}}],
        "message": "success",
    }
    assert local_braze.control.counters().pending == 0


def test_sync_of_an_event_shows_the_event(local_braze: Any) -> None:
    local_braze.post("/users/track/sync", {"events": [EVENT]})
    response = local_braze.post("/users/track/sync", {"events": [{**EVENT, "time": "2025-01-01T00:00:00Z"}]})

    summary = {"name": "opened", "first": "2025-01-01T00:00:00Z", "last": "2026-01-02T03:04:05Z", "count": 2}
    assert response.json()["users"] == [{"external_id": "u", "custom_events": [summary]}]


def test_sync_of_a_user_braze_does_not_have_answers_without_users(local_braze: Any) -> None:
    unknown = {"external_id": "u", "in": True, "_update_existing_only": True}

    assert local_braze.post("/users/track/sync", {"attributes": [unknown]}).json()["users"] == []


def test_sync_refuses_two_objects(local_braze: Any) -> None:
    assert (
        local_braze.post("/users/track/sync", {"attributes": _users(1), "events": [EVENT]}).status_code == 400
    )
