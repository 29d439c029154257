"""Faults on demand, before and after the request took effect."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_provider_kubit_braze.sandbox.process import SandboxError

ONE = {"attributes": [{"external_id": "u", "in": True}]}


def _applied(braze: Any) -> bool:
    braze.control.settle()
    return bool(braze.control.cohort("in") == {"u"})


@pytest.mark.parametrize(
    ("rule", "status", "body", "applied"),
    [
        pytest.param(
            {"kind": "status", "status": 503}, 503, '{"message":"Injected 503"}', False, id="status"
        ),
        pytest.param(
            {"kind": "status", "status": 504, "apply": True, "message": "late"},
            504,
            '{"message":"late"}',
            True,
            id="status-after-applying",
        ),
        pytest.param(
            {"kind": "status", "status": 502, "body": "<html>"},
            502,
            "<html>",
            False,
            id="body-that-is-no-json",
        ),
        pytest.param({"kind": "malformed"}, 201, '{"message":"succ', True, id="malformed"),
        pytest.param({"kind": "non_success_message"}, 201, '{"message":"queued"}', False, id="non-success"),
        pytest.param(
            {"kind": "error_without_index", "message": "odd"},
            201,
            '{"message":"success","attributes_processed":1,"errors":[{"type":"odd","input_array":"attributes"}]}',
            True,
            id="error-without-index",
        ),
        pytest.param(
            {"kind": "error_index_out_of_range"},
            201,
            '{"message":"success","attributes_processed":1,"errors":'
            '[{"type":"Injected error","input_array":"attributes","index":1000000}]}',
            True,
            id="index-out-of-range",
        ),
    ],
)
def test_a_fault_spoils_one_answer(
    local_braze: Any, rule: dict[str, Any], status: int, body: str, applied: bool
) -> None:
    local_braze.control.fault(**rule)

    response = local_braze.post("/users/track", ONE)

    assert (response.status_code, response.text) == (status, body)
    assert _applied(local_braze) is applied
    assert local_braze.post("/users/track", ONE).json() == {"message": "success", "attributes_processed": 1}


@pytest.mark.parametrize(("kind", "applied"), [("drop_before", False), ("drop_after", True)])
def test_a_dropped_connection_is_closed_before_or_after_applying(
    local_braze: Any, kind: str, applied: bool
) -> None:
    local_braze.control.fault(kind)

    with pytest.raises(requests.ConnectionError):
        local_braze.post("/users/track", ONE)

    assert [request.status for request in local_braze.control.requests()] == [0]
    counters = local_braze.control.counters()
    assert counters.dropped == {"/users/track": 1}
    assert counters.requests == {"/users/track": 1}
    assert counters.statuses == {}
    assert _applied(local_braze) is applied


def test_a_delayed_answer_is_late_and_applied(local_braze: Any) -> None:
    local_braze.control.fault("delay", seconds=30)

    with pytest.raises(requests.ReadTimeout):
        local_braze.session.post(
            local_braze.url + "/users/track",
            json=ONE,
            headers={"Authorization": "Bearer sandbox-rest-key"},
            timeout=0.1,
        )

    assert _applied(local_braze)


def test_a_fault_concerns_its_endpoint_only(local_braze: Any) -> None:
    local_braze.control.fault("status", "/users/export/*", status=500)

    assert local_braze.post("/users/track", ONE).status_code == 201
    assert local_braze.post("/users/export/ids", {}).status_code == 500


def test_times_and_after_say_which_requests_it_hits(local_braze: Any) -> None:
    local_braze.control.fault("status", status=500, after=1, times=2)

    assert [local_braze.post("/users/track", ONE).status_code for _ in range(5)] == [201, 500, 500, 201, 201]
    (rule,) = local_braze.control.faults()
    assert rule["fired"] == 2


def test_for_ever_lasts_until_cleared(local_braze: Any) -> None:
    local_braze.control.fault("status", status=500, times=None)
    assert {local_braze.post("/users/track", ONE).status_code for _ in range(5)} == {500}

    local_braze.control.clear_faults()
    assert local_braze.post("/users/track", ONE).status_code == 201


def test_faults_are_tried_in_order(local_braze: Any) -> None:
    local_braze.control.fault("status", status=500)
    local_braze.control.fault("status", status=502)

    assert [local_braze.post("/users/track", ONE).status_code for _ in range(3)] == [500, 502, 201]


def test_a_probability_hits_some_and_the_same_ones_again(local_braze: Any) -> None:
    runs = []
    for _ in range(2):
        local_braze.control.reset()
        local_braze.control.fault("status", status=500, times=None, probability=0.5)
        runs.append([local_braze.post("/users/track", ONE).status_code for _ in range(20)])

    assert set(runs[0]) == {201, 500}
    assert runs[0] == runs[1]


def test_a_fault_may_add_headers(local_braze: Any) -> None:
    local_braze.control.fault("status", status=429, headers={"X-RateLimit-Retry-After": "7"})

    assert local_braze.post("/users/track", ONE).headers["x-ratelimit-retry-after"] == "7"


def test_rejected_ids_are_refused_wherever_they_stand_and_beside_other_faults(local_braze: Any) -> None:
    local_braze.control.fault("reject_ids", ids=["bad", "worse"], message="no")
    local_braze.control.fault("status", status=500)
    users = [{"external_id": name, "in": True} for name in ("good", "bad", "fine")]

    assert local_braze.track(*users).status_code == 500
    response = local_braze.track(*users, {"email": "worse", "in": True})
    local_braze.control.settle()

    assert [error["index"] for error in response.json()["errors"]] == [1, 3]
    assert response.json()["errors"][0] == {"type": "no", "input_array": "attributes", "index": 1}
    assert local_braze.control.cohort("in") == {"good", "fine"}
    assert [rule["fired"] for rule in local_braze.control.faults()] == [1, 1]


def test_a_request_without_the_rejected_id_does_not_use_the_rule_up(local_braze: Any) -> None:
    local_braze.control.fault("reject_ids", ids=["bad"], times=1)
    bad = {"external_id": "bad", "in": True}

    assert local_braze.track({"external_id": "good", "in": True}).json().get("errors") is None
    assert local_braze.track(bad).status_code == 400
    assert local_braze.track(bad).status_code == 201


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param({"kind": "earthquake"}, id="kind"),
        pytest.param({"kind": "status"}, id="no-status"),
        pytest.param({"kind": "status", "status": 99}, id="status"),
        pytest.param({"kind": "delay"}, id="no-seconds"),
        pytest.param({"kind": "reject_ids"}, id="no-ids"),
        pytest.param({"kind": "drop_before", "times": 0}, id="times"),
        pytest.param({"kind": "drop_before", "after": -1}, id="after"),
        pytest.param({"kind": "drop_before", "probability": 0}, id="probability"),
        pytest.param({"kind": "drop_before", "tmies": 1}, id="unknown-name"),
    ],
)
def test_a_wrong_fault_is_refused(local_braze: Any, rule: dict[str, Any]) -> None:
    with pytest.raises(SandboxError):
        local_braze.control.fault(**rule)

    assert local_braze.control.faults() == []
