"""Partner cohorts: Braze's documented answers, and who ends up in the cohort."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.sandbox.process import SandboxError

KEYS = {"partner_api_key": "sandbox-partner-api-key", "client_secret": "sandbox-data-import-key"}
NAMING = {"cohort_id": "c", "name": "Power users", "created_at": "2026-01-02T03:04:05Z"}
BAD_CHANGES = (
    "`cohort_changes` must be an array of objects each with key `user_ids` and/or `device_ids`"
    " mapping to an array of strings, or an `aliases` object"
)
ALIAS = {"alias_label": "crm", "alias_name": "n-1"}


def _name(braze: Any, **body: Any) -> Any:
    return braze.post("/partners/kubit/cohorts", {**KEYS, **NAMING, **body}, key=None)


def _change(braze: Any, *changes: Any, **body: Any) -> Any:
    content = {**KEYS, "cohort_id": "c", "cohort_changes": changes, **body}
    return braze.post("/partners/kubit/cohorts/users", content, key=None)


@pytest.mark.parametrize("call", [_name, _change], ids=["name", "change"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"partner_api_key": "x"}, "Invalid Partner API key", id="partner-key"),
        pytest.param({"partner_api_key": None}, "Invalid Partner API key", id="no-partner-key"),
        pytest.param({"partner_api_key": "other-key"}, "Unauthorized access", id="key-of-another-partner"),
        pytest.param({"client_secret": "x"}, "Invalid client secret", id="client-secret"),
        pytest.param(
            {"client_secret": "s-2"},
            "Partner not enabled for client with client secret: s-2",
            id="not-enabled",
        ),
    ],
)
def test_wrong_keys_are_a_401_in_brazes_words(
    local_braze: Any, call: Any, body: dict[str, Any], message: str
) -> None:
    local_braze.control.configure(
        partner_api_keys={"kubit": "sandbox-partner-api-key", "other": "other-key"},
        client_secrets={"sandbox-data-import-key": ["kubit"], "s-2": ["other"]},
    )

    response = call(local_braze, **body)

    assert (response.status_code, response.json()) == (401, {"message": message})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"cohort_id": ""}, "`cohort_id` must be a valid string", id="cohort-id"),
        pytest.param({"cohort_id": 7}, "`cohort_id` must be a valid string", id="cohort-id-number"),
        pytest.param({"name": ""}, "`name` must be a non-empty string", id="name"),
        pytest.param(
            {"created_at": "now"}, "`created_at` must be a valid time as an ISO-8601 string", id="created-at"
        ),
    ],
)
def test_a_wrong_name_is_a_400_in_brazes_words(local_braze: Any, body: dict[str, Any], message: str) -> None:
    response = _name(local_braze, **body)

    assert (response.status_code, response.json()) == (400, {"message": message})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(None, id="null"),
        pytest.param({"user_ids": ["u"]}, id="no-array"),
        pytest.param([{}], id="no-identifiers"),
        pytest.param([{"user_ids": "u"}], id="user-ids-no-array"),
        pytest.param([{"user_ids": [7]}], id="user-id-number"),
        pytest.param([{"device_ids": [None]}], id="device-id-null"),
        pytest.param([{"aliases": ["n"]}], id="alias-text"),
        pytest.param([{"aliases": [{"alias_name": "n"}]}], id="alias-without-label"),
        pytest.param([{"user_ids": ["u"], "should_remove": "yes"}], id="should-remove-text"),
    ],
)
def test_wrong_changes_are_a_400_in_brazes_words(local_braze: Any, changes: Any) -> None:
    response = _change(local_braze, cohort_changes=changes)

    assert (response.status_code, response.json()) == (400, {"message": BAD_CHANGES})


def test_1000_identifiers_of_all_kinds_are_taken_and_1001_refused(local_braze: Any) -> None:
    most = {"user_ids": ["u"] * 998, "device_ids": ["d"]}

    assert _change(local_braze, most, {"aliases": [ALIAS], "should_remove": True}).status_code == 201
    refused = _change(local_braze, most, {"aliases": [ALIAS, ALIAS]})
    assert refused.status_code == 400
    assert refused.json() == {
        "message": "Only 1,000 `user_ids`, `device_ids`, and `aliases` are allowed per request"
    }


def test_no_changes_are_accepted_as_a_credential_probe(local_braze: Any) -> None:
    response = _change(local_braze)

    assert (response.status_code, response.content) == (201, b"{}")
    assert local_braze.control.partner_cohorts() == []


def test_known_users_enter_and_leave_and_unknown_ones_pass_in_silence(local_braze: Any) -> None:
    local_braze.control.add_users(["a", "b", {"braze_id": "alias", "user_aliases": [ALIAS]}])
    _name(local_braze)

    _change(local_braze, {"user_ids": ["a", "b", "nobody"], "aliases": [ALIAS]})
    local_braze.control.settle()
    assert local_braze.control.members("c", kind="braze_id") >= {"alias"}
    assert local_braze.control.members("c") == {"a", "b"}

    _change(local_braze, {"user_ids": ["c"]}, {"user_ids": ["a", "nobody"], "should_remove": True})
    local_braze.control.settle()
    assert local_braze.control.members("c") == {"b"}
    counters = local_braze.control.counters()
    assert (counters.profiles, counters.profiles_created) == (3, 0)
    assert (counters.cohort_identifiers, counters.cohort_unknown) == (7, 3)


def test_changes_of_one_request_apply_in_their_order(local_braze: Any) -> None:
    local_braze.control.add_users(["a"])

    _change(local_braze, {"user_ids": ["a"], "should_remove": True}, {"user_ids": ["a"]})
    local_braze.control.settle()

    assert local_braze.control.members("c") == {"a"}


def test_a_single_alias_object_is_taken_too(local_braze: Any) -> None:
    local_braze.control.add_users([{"external_id": "a", "user_aliases": [ALIAS]}])

    _change(local_braze, {"aliases": ALIAS})
    local_braze.control.settle()

    assert local_braze.control.members("c", kind="alias") == {"n-1"}


def test_a_device_finds_anonymous_users_only(local_braze: Any) -> None:
    local_braze.control.add_users(
        [{"external_id": "a", "device_ids": ["d"]}, {"braze_id": "anonymous", "device_ids": ["d"]}]
    )

    _change(local_braze, {"device_ids": ["d"]})
    local_braze.control.settle()

    assert local_braze.control.members("c", kind="braze_id") == {"anonymous"}


def test_members_show_only_after_the_delay(local_braze: Any) -> None:
    local_braze.control.add_users(["a"])
    _name(local_braze)

    _change(local_braze, {"user_ids": ["a"]})
    assert local_braze.control.members("c") == set()

    local_braze.clock.advance(0.05)
    assert local_braze.control.members("c") == {"a"}


def test_naming_twice_renames_and_an_unnamed_cohort_has_no_name(local_braze: Any) -> None:
    _name(local_braze)
    _name(local_braze, name="Renamed")
    _change(local_braze, {"user_ids": ["a"]}, cohort_id="unnamed")
    local_braze.control.settle()

    names = {cohort["cohort_id"]: cohort["name"] for cohort in local_braze.control.partner_cohorts()}
    assert names == {"c": "Renamed", "unnamed": None}


def test_a_locked_cohort_is_a_423_once(local_braze: Any) -> None:
    local_braze.control.fault("status", "/partners/*/cohorts/users", status=423, message="Resource locked")

    locked = _change(local_braze, {"user_ids": ["a"]})

    assert (locked.status_code, locked.json()) == (423, {"message": "Resource locked"})
    assert _change(local_braze, {"user_ids": ["a"]}).status_code == 201


def test_cohorts_have_a_rate_limit_of_their_own(local_braze: Any) -> None:
    local_braze.control.configure(windows={"partners.cohorts": [[1, 3600.0]]})
    local_braze.track({"external_id": "u", "in": True})

    assert [_name(local_braze).status_code, _change(local_braze).status_code] == [201, 429]


def test_each_partner_has_its_own_limit(local_braze: Any) -> None:
    local_braze.control.configure(
        windows={"partners.cohorts": [[1, 3600.0]]}, partner_api_keys={"kubit": "a", "other": "b"}
    )

    paths = ["/partners/kubit/cohorts", "/partners/other/cohorts", "/partners/kubit/cohorts"]
    assert [local_braze.post(path, {}, key=None).status_code for path in paths] == [401, 401, 429]


def test_a_cohort_never_sent_is_named_in_the_error(local_braze: Any) -> None:
    with pytest.raises(SandboxError, match="partner kubit has sent no cohort missing"):
        local_braze.control.members("missing")
