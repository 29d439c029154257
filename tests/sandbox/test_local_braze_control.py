"""The control surface: settings, users, counters, recorded requests."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from airflow_provider_kubit_braze.sandbox.braze_exchange import parse_head
from airflow_provider_kubit_braze.sandbox.braze_http import BrazeServer
from airflow_provider_kubit_braze.sandbox.braze_settings import WorkspaceSettings
from airflow_provider_kubit_braze.sandbox.process import SandboxError

ONE = {"attributes": [{"external_id": "u", "in": True}]}


def test_every_setting_can_be_read_and_sent_back(local_braze: Any) -> None:
    settings = local_braze.control.settings()

    assert set(settings) == {item.name for item in fields(WorkspaceSettings)}
    assert local_braze.control.configure(**settings) == settings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"colour": "red"}, "unknown setting 'colour'", id="unknown"),
        pytest.param({"profile": "tiny"}, "profile must be one of default, legacy, mau", id="profile"),
        pytest.param({"keys": {"k": ["users.delete"]}}, "keys.k must be a list out of", id="permission"),
        pytest.param({"apply_delay": -1}, "apply_delay must be a number of at least 0", id="negative"),
        pytest.param({"windows": {"users.track": [[1, 0]]}}, "seconds above 0", id="window"),
        pytest.param({"windows": {"users.delete": []}}, "unknown limit 'windows.users.delete'", id="limit"),
        pytest.param({"bulk_objects": True}, "bulk_objects must be a whole number", id="boolean"),
        pytest.param({"forced_types": {"a": "date"}}, "forced_types.a must be one of", id="forced-type"),
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_changes(
    local_braze: Any, change: dict[str, Any], words: str
) -> None:
    before = local_braze.control.settings()

    with pytest.raises(SandboxError, match=words):
        local_braze.control.configure(**{"latency_ms": 1, **change})

    assert local_braze.control.settings() == before


def test_a_window_is_changed_without_touching_the_others(local_braze: Any) -> None:
    windows = local_braze.control.configure(windows={"users.track": [[9, 1]]})["windows"]

    assert windows["users.track"] == [[9, 1.0]]
    assert windows["users.export.ids"] == [[250, 60.0]]


def test_reset_forgets_everything(local_braze: Any) -> None:
    before = (local_braze.control.settings(), local_braze.control.counters())
    local_braze.control.configure(profile="mau", recorded_requests=5)
    local_braze.control.fault("drop_before", times=None, endpoint="/nowhere")
    local_braze.post("/users/track", ONE)

    local_braze.control.reset()

    after = local_braze.control.counters()
    assert local_braze.control.settings() == before[0]
    assert (after.requests, after.statuses, after.profiles, after.pending) == ({}, {}, 0, 0)
    assert local_braze.control.users() == []
    assert local_braze.control.faults() == []
    assert local_braze.control.requests() == []


def test_users_are_added_in_bulk_changed_and_cost_nothing(local_braze: Any) -> None:
    assert local_braze.control.add_users(f"user-{number:064}" for number in range(100_001)) == 100_001
    local_braze.control.add_users([{"external_id": f"user-{7:064}", "custom_attributes": {"in": True}}])
    local_braze.control.add_users([{"external_id": f"user-{7:064}", "custom_attributes": {"since": "May"}}])

    counters = local_braze.control.counters()
    assert (counters.profiles, counters.profiles_created, counters.data_points) == (100_001, 0, 0)
    assert local_braze.user(external_id=f"user-{7:064}")["custom_attributes"] == {"in": True, "since": "May"}
    assert local_braze.control.cohort("in") == {f"user-{7:064}"}


def test_users_are_found_by_alias(local_braze: Any) -> None:
    local_braze.control.add_users(
        [{"external_id": "u", "user_aliases": [{"alias_label": "crm", "alias_name": "n"}]}, "other"]
    )

    assert local_braze.user(alias_label="crm", alias_name="n")["external_id"] == "u"
    assert local_braze.control.users(alias_label="erp", alias_name="n") == []
    assert len(local_braze.control.users()) == 2


@pytest.mark.parametrize(
    "users", [["text"], [{"user_aliases": [{"alias_name": "n"}]}], [{"custom_attributes": 7}]], ids=str
)
def test_users_not_described_as_expected_are_refused(local_braze: Any, users: list[Any]) -> None:
    response = local_braze.post("/_sandbox/users", users, key=None)

    assert response.status_code == 400


def test_cohort_and_left_tell_true_from_false_and_from_neither(local_braze: Any) -> None:
    for user, value in (("in", True), ("out", False), ("text", "true"), ("one", 1)):
        local_braze.control.add_users([{"external_id": user, "custom_attributes": {"a": value}}])

    assert local_braze.control.cohort("a") == {"in"}
    assert local_braze.control.left("a") == {"out"}
    with pytest.raises(SandboxError, match="kind must be one of"):
        local_braze.control.cohort("a", "shoe_size")


def test_counters_tell_requests_and_answers_apart_by_path(local_braze: Any) -> None:
    local_braze.post("/users/track", ONE)
    local_braze.post("/users/track", {"attributes": [*ONE["attributes"], {}]})
    local_braze.post("/users/track", b"{")
    local_braze.post("/users/export/ids", {})
    local_braze.post("/partners/kubit/cohorts", {}, key=None)
    local_braze.post("/nowhere", {})

    counters = local_braze.control.counters()
    assert counters.statuses == {
        "/users/track": {201: 2, 400: 1},
        "/users/export/ids": {400: 1},
        "/partners/kubit/cohorts": {401: 1},
        "/nowhere": {404: 1},
    }
    assert counters.requests == {path: sum(found.values()) for path, found in counters.statuses.items()}
    assert counters.write_requests == 4
    assert (counters.objects_accepted, counters.objects_rejected) == (2, 1)


def test_requests_are_recorded_without_their_keys(local_braze: Any) -> None:
    local_braze.post("/users/track", ONE, headers={"X-Mine": "yes"})
    local_braze.post("/users/track", b"{broken")
    keys = {"partner_api_key": "secret-1", "client_secret": "secret-2"}
    local_braze.post("/partners/kubit/cohorts", {**keys, "cohort_id": "c"}, key=None)

    track, broken, cohort = local_braze.control.requests()
    assert (track.number, track.method, track.path, track.status, track.body) == (
        1,
        "POST",
        "/users/track",
        201,
        ONE,
    )
    assert track.at == local_braze.clock()
    assert track.headers["x-mine"] == "yes"
    assert "authorization" not in track.headers
    assert (broken.body, broken.text, broken.status) == (None, "{broken", 400)
    assert cohort.body == {"partner_api_key": "***", "client_secret": "***", "cohort_id": "c"}


def test_only_as_many_requests_are_kept_as_asked_for(local_braze: Any) -> None:
    local_braze.control.configure(recorded_requests=2)
    for _ in range(3):
        local_braze.post("/users/track", ONE)

    assert [item.number for item in local_braze.control.requests()] == [2, 3]
    assert [item.number for item in local_braze.control.requests(last=1)] == [3]
    assert local_braze.control.requests(last=0) == []
    local_braze.control.configure(recorded_requests=0)
    local_braze.post("/users/track", ONE)
    assert local_braze.control.requests() == []


def test_an_unknown_control_path_is_a_404_and_health_answers(local_braze: Any) -> None:
    assert local_braze.post("/_sandbox/nothing", {}, key=None).status_code == 404
    assert local_braze.control.health()


@pytest.mark.parametrize(
    ("peer", "status"), [("127.0.0.1", 200), ("127.8.9.1", 200), ("::1", 200), ("10.0.0.7", 403)]
)
def test_the_control_surface_answers_this_machine_only(peer: str, status: int) -> None:
    server = BrazeServer()

    assert server.answer(parse_head(b"GET /_sandbox/health HTTP/1.1"), b"", peer).status == status


def test_latency_and_jitter_come_on_top_of_each_answer() -> None:
    server = BrazeServer(settings=WorkspaceSettings(latency_ms=200, latency_jitter_ms=100))
    head = parse_head(b"POST /nowhere HTTP/1.1")

    delays = [server.answer(head, b"", "127.0.0.1").delay for _ in range(50)]

    assert min(delays) >= 0.2
    assert max(delays) <= 0.3
    assert len(set(delays)) == 50
