"""What Braze is asked for when a cohort is to get a message, and what is refused before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.campaign import CampaignRequest, SendAt, check_delivery
from airflow_provider_kubit_braze.exceptions import CohortConfigError

ATTRIBUTE = "kubit_cohort_vips"
AUDIENCE = {
    "AND": [
        {
            "custom_attribute": {
                "custom_attribute_name": ATTRIBUTE,
                "comparison": "equals",
                "value": True,
            }
        }
    ]
}
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def request(**fields: Any) -> CampaignRequest:
    return CampaignRequest(
        **{"kind": "campaign", "message_id": "c-1", "attribute": ATTRIBUTE, "broadcast": True, **fields}
    )


def test_a_broadcast_goes_to_the_cohort_only() -> None:
    made = request(properties={"season": "spring"}, send_id="s-1")
    assert made.path == "/campaigns/trigger/send"
    assert made.body() == {
        "campaign_id": "c-1",
        "audience": AUDIENCE,
        "broadcast": True,
        "trigger_properties": {"season": "spring"},
        "send_id": "s-1",
    }


def test_recipients_are_no_broadcast_and_stay_within_the_cohort() -> None:
    made = request(broadcast=False, recipients=["u1", "u2"])
    assert made.body() == {
        "campaign_id": "c-1",
        "audience": AUDIENCE,
        "recipients": [{"external_user_id": "u1"}, {"external_user_id": "u2"}],
        "broadcast": False,
    }
    assert "u1" not in repr(made)


def test_a_canvas_has_names_of_its_own() -> None:
    at = SendAt.read("2026-12-01T09:00:00+01:00")
    made = request(kind="canvas", message_id="v-1", properties={"a": [1]}, send_at=at)
    assert made.path == "/canvas/trigger/schedule/create"
    assert made.body() == {
        "canvas_id": "v-1",
        "audience": AUDIENCE,
        "broadcast": True,
        "canvas_entry_properties": {"a": [1]},
        "schedule": {"time": "2026-12-01T08:00:00+00:00"},
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"broadcast": False}, "not said to whom.*broadcast=True for everybody", id="nobody"),
        pytest.param({"recipients": ["u"]}, "broadcast and recipients are both given", id="both"),
        pytest.param({"broadcast": "true"}, "'true' is no switch", id="a-text"),
        pytest.param(
            {"broadcast": False, "recipients": [f"u{n}" for n in range(51)]}, "51 recipients", id="51"
        ),
        pytest.param({"broadcast": False, "recipients": "u"}, "no list of external ids", id="one-text"),
        pytest.param({"broadcast": False, "recipients": {"u": 1}}, "no list of external ids", id="a-mapping"),
        pytest.param(
            {"broadcast": False, "recipients": ["u", "{{ params.who }}"]},
            "'recipients': one of the recipients is a template",
            id="a-template",
        ),
        pytest.param(
            {"broadcast": False, "recipients": ["{% if 1 %}u{% endif %}"]}, "is a template", id="a-block"
        ),
        pytest.param({"message_id": ""}, "campaign_id.*is no id", id="no-id"),
        pytest.param({"attribute": "email"}, "reserved by Braze", id="attribute"),
        pytest.param({"send_id": "s" * 65}, "longer than 64", id="send-id-too-long"),
        pytest.param({"send_id": "é"}, "not ASCII", id="send-id-not-ascii"),
        pytest.param({"kind": "canvas", "send_id": "s"}, "a Canvas, which has none", id="canvas-send-id"),
        pytest.param({"properties": {"x": NOW}}, "plain JSON", id="properties"),
        pytest.param({"properties": {"x": float("nan")}}, "plain JSON", id="nan"),
        pytest.param(
            {"kind": "canvas", "properties": {"x": "y" * 50_000}}, "over Braze's 50,000", id="50-kb"
        ),
    ],
)
def test_what_braze_would_refuse_or_misunderstand_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(CohortConfigError, match=said):
        request(**fields)


def test_fifty_recipients_are_taken() -> None:
    request(broadcast=False, recipients=[f"u{n}" for n in range(50)])


def test_a_partner_cohort_is_refused_with_the_reason() -> None:
    check_delivery("attribute", "vips")
    with pytest.raises(
        CohortConfigError, match=r"'vips'.*cannot reach a partner cohort.*custom attributes only"
    ):
        check_delivery("partner_cohort", "vips")


@pytest.mark.parametrize(
    ("time", "options", "body"),
    [
        ("2026-12-01T09:00:00+01:00", {}, {"time": "2026-12-01T08:00:00+00:00"}),
        (
            datetime(2026, 12, 1, 9, tzinfo=timezone(timedelta(hours=-5))),
            {},
            {"time": "2026-12-01T14:00:00+00:00"},
        ),
        ("2026-12-01T09:00", {"in_local_time": True}, {"time": "2026-12-01T09:00:00", "in_local_time": True}),
        (
            "2026-12-01T09:00",
            {"at_optimal_time": True},
            {"time": "2026-12-01T09:00:00", "at_optimal_time": True},
        ),
    ],
)
def test_a_moment_is_written_as_braze_reads_it(time: Any, options: dict[str, bool], body: Any) -> None:
    assert SendAt.read(time, **options).body() == body


@pytest.mark.parametrize(
    ("time", "options", "said"),
    [
        ("2026-12-01T09:00", {}, "has no time zone"),
        ("2026-12-01T09:00Z", {"in_local_time": True}, "has a time zone"),
        ("2026-12-01T09:00+01:00", {"at_optimal_time": True}, "has a time zone"),
        ("tomorrow", {}, "'tomorrow' is no moment"),
        (5, {}, "5 is no moment"),
        ("2026-12-01T09:00", {"in_local_time": "false"}, "'in_local_time': 'false' is no switch"),
        ("2026-12-01T09:00", {"at_optimal_time": 1}, "'at_optimal_time': 1 is no switch"),
        ("0001-01-01T00:00+14:00", {}, "'send_at': '0001-01-01.* is no moment that a message can go out at"),
        ("9999-12-31T23:00", {"in_local_time": True}, "is no moment that a message can go out at"),
    ],
)
def test_a_moment_that_could_be_misunderstood_is_refused(
    time: Any, options: dict[str, bool], said: str
) -> None:
    with pytest.raises(CohortConfigError, match=said):
        SendAt.read(time, **options)


@pytest.mark.parametrize(
    ("time", "options", "said"),
    [
        ("2026-11-29T12:00:01Z", {}, None),
        ("2026-11-29T12:00:00Z", {}, "is over"),
        # It is not yet 01:00 of the 29th in the last zone.
        ("2026-11-29T00:01:00", {"in_local_time": True}, None),
        ("2026-11-29T00:00:00", {"in_local_time": True}, "is over"),
        ("2026-11-28T00:01:00", {"at_optimal_time": True}, None),
        ("2027-02-27T12:00:00Z", {}, None),
        ("2027-02-27T12:00:01Z", {}, "more than 90 days"),
    ],
)
def test_a_moment_lies_ahead_and_within_90_days(
    time: str, options: dict[str, bool], said: str | None
) -> None:
    at = SendAt.read(time, **options)
    if said is None:
        at.check(NOW)
    else:
        with pytest.raises(CohortConfigError, match=said):
            at.check(NOW)
