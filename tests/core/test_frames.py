"""How changes travel to Braze: the exact bodies, the limits, and where the keys are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.frames import (
    Frame,
    IdentifierWriter,
    cohort_frame,
    frame_of,
    track_frame,
)
from airflow_provider_kubit_braze.core.payload import alias_kind
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.exceptions import BrazeSettingsError

REST, PARTNER, SECRET = "r3st-key", "p4rtner-key", "d4ta-import-key"
KEYS = {"partner_api_key": PARTNER, "client_secret": SECRET, "cohort_id": "vips"}

# Characters that JSON has to escape, or that are more than one byte long.
AWKWARD = 'a"b\\c/d\n\u2028é😀 '


def settings(**given: Any) -> BrazeSettings:
    return BrazeSettings(
        **{
            "base_url": "http://127.0.0.1",
            "rest_key": REST,
            "partner_api_key": PARTNER,
            "client_secret": SECRET,
            "workspace": "w",
            **given,
        }
    )


def cohort(**braze: Any) -> Cohort:
    return Cohort(id="vips", source={"table": "A.B"}, identifiers={"external_id": "ID"}, braze=braze)


def change(kind: str, *users: str, leave: bool) -> Any:
    """Return the body of a partner cohort's change."""
    frame = cohort_frame(settings(), "kubit", "vips", kind, leave=leave)
    return json.loads(
        frame.body(IdentifierWriter().wrapping("leave" if leave else "enter", kind).join(users))
    )


@pytest.mark.parametrize(
    ("kind", "listed"),
    [
        pytest.param("external_id", {"user_ids": ["u", AWKWARD]}, id="external_id"),
        pytest.param("device_id", {"device_ids": ["u", AWKWARD]}, id="device_id"),
        pytest.param(
            alias_kind('my "label":'),
            {
                "aliases": [
                    {"alias_label": 'my "label":', "alias_name": "u"},
                    {"alias_label": 'my "label":', "alias_name": AWKWARD},
                ]
            },
            id="user_alias",
        ),
    ],
)
@pytest.mark.parametrize(
    ("leave", "more"),
    [pytest.param(False, {}, id="enter"), pytest.param(True, {"should_remove": True}, id="leave")],
)
def test_a_partner_cohorts_change_lists_identifiers_of_one_kind(
    kind: str, listed: dict[str, Any], leave: bool, more: dict[str, Any]
) -> None:
    assert change(kind, "u", AWKWARD, leave=leave) == {**KEYS, "cohort_changes": [{**listed, **more}]}


def test_track_takes_one_object_for_each_user() -> None:
    place, vips = Place("attribute", "old_name"), cohort(on_exit="unset", create_users=True)

    def body(action: str, *, leave: bool) -> Any:
        frame, writer = frame_of(place, "external_id", leave=leave, cohort=vips, settings=settings())
        return json.loads(frame.body(writer.wrapping(action, "external_id").join(["u", "v"])))

    # The attribute is the place's: whoever leaves may be marked under an earlier name.
    assert body("enter", leave=False) == {
        "attributes": [
            {"external_id": user, "old_name": True, "_update_existing_only": False} for user in ("u", "v")
        ]
    }
    assert body("leave", leave=True) == {
        "attributes": [
            {"external_id": user, "old_name": None, "_update_existing_only": True} for user in ("u", "v")
        ]
    }


def test_a_place_of_a_partner_is_reached_under_that_partners_name() -> None:
    frame, writer = frame_of(
        Place("partner_cohort", "kubit_old"),
        "device_id",
        leave=True,
        cohort=cohort(),
        settings=settings(partner="kubit"),
    )

    assert frame.path == "/partners/kubit_old/cohorts/users"
    assert json.loads(frame.body(writer.wrapping("leave", "device_id").join(["d"]))) == {
        **KEYS,
        "cohort_changes": [{"device_ids": ["d"], "should_remove": True}],
    }


@pytest.mark.parametrize(
    ("frame", "keys", "bearer"),
    [
        pytest.param(track_frame(settings()), [], True, id="track"),
        pytest.param(
            cohort_frame(settings(), "kubit", "vips", "external_id", leave=False),
            [PARTNER, SECRET],
            False,
            id="partner-cohort",
        ),
    ],
)
def test_keys_are_where_braze_reads_them_and_nowhere_else(
    frame: Frame, keys: list[str], bearer: bool
) -> None:
    body = frame.body(b'"u"').decode()

    assert frame.bearer is bearer
    assert [key for key in (REST, PARTNER, SECRET) if key in body] == keys
    assert not [key for key in (REST, PARTNER, SECRET) if key in frame.path + repr(frame)]


@pytest.mark.parametrize("key", ["partner_api_key", "client_secret"])
def test_a_partner_cohort_needs_both_keys(key: str) -> None:
    with pytest.raises(BrazeSettingsError, match=f"{key}.* is missing"):
        cohort_frame(settings(**{key: None}), "kubit", "vips", "external_id", leave=False)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        pytest.param({}, "/users/track", id="track"),
        pytest.param({"bulk": True}, "/users/track/bulk", id="bulk"),
    ],
)
def test_track_keeps_to_the_limits_of_the_connection(given: dict[str, Any], path: str) -> None:
    frame = track_frame(
        settings(
            max_objects_per_request=9,
            max_requests=8,
            per_seconds=7.0,
            reserve=0.6,
            max_in_flight=5,
            **given,
        )
    )

    # Braze takes 4 MB, and 2 MB of bulk.
    assert (frame.path, frame.max_bytes) == (path, 1_000_000)
    assert (frame.max_objects, frame.max_requests, frame.per_seconds) == (9, 8, 7.0)
    assert (frame.reserve, frame.max_in_flight) == (0.6, 5)


@pytest.mark.parametrize(
    ("in_flight", "most"), [pytest.param(400, 4, id="four"), pytest.param(3, 3, id="what-is-allowed")]
)
def test_a_partner_cohort_has_limits_of_its_own(in_flight: int, most: int) -> None:
    frame = cohort_frame(
        settings(max_in_flight=in_flight, max_objects_per_request=75, max_requests=1),
        "kubit",
        "vips",
        "external_id",
        leave=False,
    )

    assert (frame.max_objects, frame.max_bytes, frame.max_in_flight) == (1000, 1_000_000, most)
    # Never more than 250,000 in an hour, and not much less.
    assert 249_000 <= frame.max_requests / frame.per_seconds * 3600 <= 250_000
    assert frame.reserve == 0.0
