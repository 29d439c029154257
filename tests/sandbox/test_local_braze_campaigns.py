"""Campaigns and Canvases of the local Braze: what it takes, and whom a request means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_kubit_braze.sandbox.braze_audience import AudienceError, matches
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_CAMPAIGN, DEFAULT_CANVAS

SEND = "/campaigns/trigger/send"
CAMPAIGN = {"campaign_id": DEFAULT_CAMPAIGN}
ALIAS = {"alias_label": "crm", "alias_name": "n-1"}


def attribute(name: str, comparison: str, value: Any = None) -> dict[str, Any]:
    content = {"custom_attribute_name": name, "comparison": comparison}
    return {"custom_attribute": content if value is None else {**content, "value": value}}


VIPS = {"AND": [attribute("vip", "equals", True)]}


def fill(braze: Any) -> None:
    braze.control.add_users(
        [
            {"external_id": "in", "custom_attributes": {"vip": True}},
            {"external_id": "out", "custom_attributes": {"vip": False}},
            {"external_id": "never"},
            {"external_id": "aliased", "user_aliases": [ALIAS], "custom_attributes": {"vip": True}},
        ]
    )


@pytest.mark.parametrize(
    ("body", "selected"),
    [
        pytest.param({"broadcast": True, "audience": VIPS}, {"in", "aliased"}, id="audience"),
        pytest.param({"broadcast": True}, {"in", "out", "never", "aliased"}, id="everybody"),
        pytest.param(
            {"audience": VIPS, "recipients": [{"external_user_id": "in"}, {"external_user_id": "out"}]},
            {"in"},
            id="recipients-within-the-audience",
        ),
        pytest.param(
            {"recipients": [{"user_alias": ALIAS}, {"external_user_id": "x"}]}, {"aliased"}, id="alias"
        ),
    ],
)
def test_audience_and_recipients_say_whom_it_means(local_braze: Any, body: Any, selected: set[str]) -> None:
    fill(local_braze)
    answer = local_braze.post(SEND, {**CAMPAIGN, **body})
    assert answer.status_code == 201
    assert answer.json()["message"] == "success"
    (triggered,) = local_braze.control.triggered()
    assert set(triggered["selected"]) == selected
    assert triggered["dispatch_id"] == answer.json()["dispatch_id"]


def test_whom_it_means_is_settled_when_it_is_triggered(local_braze: Any) -> None:
    fill(local_braze)
    local_braze.control.configure(apply_delay=10)
    local_braze.track({"external_id": "in", "vip": False})
    local_braze.post(SEND, {**CAMPAIGN, "broadcast": True, "audience": VIPS})
    local_braze.control.settle()
    local_braze.post(SEND, {**CAMPAIGN, "broadcast": True, "audience": VIPS})
    before, after = (set(one["selected"]) for one in local_braze.control.triggered())
    assert before == {"in", "aliased"}
    assert after == {"aliased"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"audience": VIPS}, "No Recipients"),
        ({"audience": VIPS, "broadcast": False, "recipients": []}, "No Recipients"),
        ({"broadcast": True, "recipients": [{"external_user_id": "in"}]}, "'recipients' cannot be included"),
        ({"broadcast": True, "campaign_id": "other"}, "Invalid Campaign ID"),
        ({"broadcast": True, "send_id": "s"}, "'send_id' was not created"),
        ({"broadcast": True, "canvas_id": "v"}, "unknown 'canvas_id'"),
        ({"broadcast": True, "schedule": {"time": "2026-12-01"}}, "unknown 'schedule'"),
        ({"broadcast": "yes"}, "'broadcast' must be a boolean"),
        ({"broadcast": True, "trigger_properties": []}, "must be an object"),
        ({"recipients": [{"external_user_id": "u", "user_alias": ALIAS}]}, "needs one of"),
        ({"recipients": [{"external_user_id": f"u{n}"} for n in range(51)]}, "max number of external_ids"),
        ({"broadcast": True, "audience": {"AND": []}}, "non-empty array"),
        ({"broadcast": True, "audience": attribute("vip", "equal", True)}, "'equal' is no comparison"),
        (
            {"broadcast": True, "audience": attribute("vip", "not_equal", True)},
            "'not_equal' is no comparison",
        ),
        ({"broadcast": True, "audience": {"segment": "x"}}, "'segment' is no filter"),
        ({"broadcast": True, "audience": {"last_used_app": {}}}, "cannot judge the filter"),
    ],
)
def test_what_braze_refuses_triggers_nothing(local_braze: Any, body: Any, said: str) -> None:
    answer = local_braze.post(SEND, {**CAMPAIGN, **body})
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert local_braze.control.triggered() == []


@pytest.mark.parametrize(
    ("path", "permission", "body"),
    [
        (SEND, "campaigns.trigger.send", CAMPAIGN),
        ("/campaigns/trigger/schedule/create", "campaigns.trigger.schedule.create", CAMPAIGN),
        ("/canvas/trigger/send", "canvas.trigger.send", {"canvas_id": DEFAULT_CANVAS}),
        ("/canvas/trigger/schedule/create", "canvas.trigger.schedule.create", {"canvas_id": DEFAULT_CANVAS}),
        ("/sends/id/create", "sends.id.create", CAMPAIGN),
    ],
)
def test_each_endpoint_has_a_permission_and_takes_what_is_right(
    local_braze: Any, path: str, permission: str, body: Any
) -> None:
    local_braze.control.configure(keys={"with": [permission], "without": ["users.track"]})
    if path != "/sends/id/create":
        body = {**body, "broadcast": True}
    if path.endswith("/schedule/create"):
        body = {**body, "schedule": {"time": "2099-01-01T00:00:00Z"}}
        assert "90 days" in local_braze.post(path, body, key="with").json()["message"]
        body["schedule"] = {"time": datetime.fromtimestamp(local_braze.clock() + 60, UTC).isoformat()}
    assert local_braze.post(path, body, key="without").status_code == 403
    answer = local_braze.post(path, body, key="with")
    assert answer.status_code == 201, answer.text
    assert ("schedule_id" in answer.json()) == path.endswith("/schedule/create")


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"time": "2020-01-01T00:00:00Z"}, "has passed"),
        ({"time": "2020-01-01T00:00:00Z", "in_local_time": True}, "no time zone"),
        ({"time": "soon"}, "cannot be parsed"),
        ({}, "cannot be parsed"),
        ({"at": "now"}, "must be an object with 'time'"),
        ({"time": "2020-01-01T00:00:00", "in_local_time": "yes"}, "must be booleans"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(local_braze: Any, schedule: Any, said: str) -> None:
    body = {**CAMPAIGN, "broadcast": True, "schedule": schedule}
    answer = local_braze.post("/campaigns/trigger/schedule/create", body)
    assert (answer.status_code, said in answer.json()["message"]) == (400, True)


def test_a_send_id_is_created_before_it_is_used(local_braze: Any) -> None:
    made = local_braze.post("/sends/id/create", {**CAMPAIGN, "send_id": "spring"})
    assert made.json() == {"message": "success", "send_id": "spring"}
    local_braze.post(SEND, {**CAMPAIGN, "broadcast": True, "send_id": "spring"})
    local_braze.post(SEND, {**CAMPAIGN, "broadcast": True})
    given, own = local_braze.control.triggered()
    assert given["send_id"] == "spring"
    assert own["send_id"] not in (None, "spring")


def test_messages_have_a_limit_of_their_own(local_braze: Any) -> None:
    local_braze.control.configure(windows={"campaigns.trigger.send": [[1, 60]]})
    body = {**CAMPAIGN, "broadcast": True}
    assert [local_braze.post(SEND, body).status_code for _ in range(2)] == [201, 429]


@pytest.mark.parametrize(
    ("audience", "found"),
    [
        (attribute("flag", "equals", True), True),
        (attribute("flag", "equals", 1), False),
        (attribute("flag", "does_not_equal", True), False),
        (attribute("missing", "does_not_equal", True), True),
        (attribute("one", "equals", True), False),
        (attribute("one", "greater_than", 0), True),
        (attribute("one", "less_than_or_equal_to", 0), False),
        (attribute("list", "includes_value", "a"), True),
        (attribute("list", "does_not_include_value", "a"), False),
        (attribute("word", "not_equal", "x"), False),
        (attribute("word", "exists"), True),
        (attribute("missing", "does_not_exist"), True),
        ({"AND": [attribute("flag", "equals", True), attribute("one", "equals", 2)]}, False),
        ({"OR": [attribute("flag", "equals", False), {"AND": [attribute("one", "equals", 1)]}]}, True),
    ],
)
def test_a_filter_tells_types_apart(audience: Any, found: bool) -> None:
    assert matches(audience, {"flag": True, "one": 1, "list": ["a"], "word": "x"}) is found


def test_a_time_is_not_guessed_at() -> None:
    with pytest.raises(AudienceError, match="cannot judge the comparison 'after'"):
        matches(attribute("seen", "after", "2026-01-01"), {})
