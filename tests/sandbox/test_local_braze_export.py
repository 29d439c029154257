"""/users/export/ids: reading back, and whom Braze does not know."""

from __future__ import annotations

from typing import Any

import pytest

ALIAS = {"alias_label": "crm", "alias_name": "n-1"}
USER = {
    "external_id": "u",
    "braze_id": "bz",
    "email": "a@example.com",
    "phone": "+15551234567",
    "user_aliases": [ALIAS],
    "device_ids": ["dev"],
    "custom_attributes": {"in": True},
}


def _export(braze: Any, **body: Any) -> Any:
    return braze.post("/users/export/ids", {"fields_to_export": ["external_id", "custom_attributes"], **body})


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"external_ids": ["u"]}, id="external-ids"),
        pytest.param({"user_aliases": [ALIAS]}, id="user-aliases"),
        pytest.param({"external_ids": ["u"], "user_aliases": [ALIAS]}, id="both-show-the-user-once"),
        pytest.param({"braze_id": "bz"}, id="braze-id"),
        pytest.param({"email_address": "a@example.com"}, id="email-address"),
        pytest.param({"phone": "+15551234567"}, id="phone"),
        pytest.param({"device_id": "dev"}, id="device-id"),
    ],
)
def test_a_user_is_found_by_each_identifier_with_the_fields_asked_for(
    local_braze: Any, asked: dict[str, Any]
) -> None:
    local_braze.control.add_users([USER])

    response = _export(local_braze, **asked)

    assert response.status_code == 201
    assert response.json() == {
        "message": "success",
        "users": [{"external_id": "u", "custom_attributes": {"in": True}}],
    }


def test_unknown_ids_are_listed_and_empty_fields_left_out(local_braze: Any) -> None:
    local_braze.control.add_users(["u"])

    response = _export(local_braze, external_ids=["u", "U", "nobody"])

    assert response.json() == {
        "message": "success",
        "users": [{"external_id": "u"}],
        "invalid_user_ids": ["U", "nobody"],
    }


def test_an_unknown_address_finds_nobody(local_braze: Any) -> None:
    assert _export(local_braze, email_address="b@example.com").json() == {"message": "success", "users": []}


def test_a_write_is_read_back_only_after_it_was_applied(local_braze: Any) -> None:
    local_braze.track({"external_id": "u", "in": True})
    assert _export(local_braze, external_ids=["u"]).json()["invalid_user_ids"] == ["u"]

    local_braze.clock.advance(0.05)
    assert _export(local_braze, external_ids=["u"]).json()["users"] == [
        {"external_id": "u", "custom_attributes": {"in": True}}
    ]


def test_50_ids_are_read_and_51_refused(local_braze: Any) -> None:
    ids = [f"user-{number}" for number in range(50)]

    assert _export(local_braze, external_ids=ids).status_code == 201
    refused = _export(local_braze, external_ids=ids, user_aliases=[ALIAS])
    assert refused.status_code == 400
    assert refused.json() == {
        "message": "The max number of external_ids and aliases per request was exceeded"
    }


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"external_ids": ["u"], "fields_to_export": None}, id="no-fields"),
        pytest.param({"external_ids": ["u"], "fields_to_export": []}, id="empty-fields"),
        pytest.param({"external_ids": "u"}, id="ids-no-array"),
        pytest.param({}, id="no-identifier"),
        pytest.param({"external_ids": ["u"], "braze_id": "bz"}, id="two-kinds"),
    ],
)
def test_an_unclear_request_is_a_400(local_braze: Any, body: dict[str, Any]) -> None:
    assert _export(local_braze, **body).status_code == 400
