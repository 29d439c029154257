from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kubit_braze.core.payload import AttributeWriter, alias_kind, alias_label

# Characters that JSON has to escape, or that are more than one byte long.
AWKWARD = 'a"b\\c/d\n\u2028é😀 '


def written(action: str, kind: str, *users: str, **writer: Any) -> list[dict[str, Any]]:
    wrapping = AttributeWriter(**{"attribute": "in_cohort", **writer}).wrapping(action, kind)
    found: list[dict[str, Any]] = json.loads(b"[" + wrapping.join(users) + b"]")
    return found


@pytest.mark.parametrize("kind", ["external_id", "braze_id", "email", "phone"])
def test_an_object_holds_identifier_boolean_and_flag_and_nothing_else(kind: str) -> None:
    assert written("enter", kind, "u") == [{kind: "u", "in_cohort": True, "_update_existing_only": True}]


def test_an_alias_is_an_object_of_label_and_name() -> None:
    (found,) = written("enter", alias_kind('my "label":'), "u")

    assert found == {
        "user_alias": {"alias_label": 'my "label":', "alias_name": "u"},
        "in_cohort": True,
        "_update_existing_only": True,
    }


@pytest.mark.parametrize(
    ("action", "on_exit", "value"),
    [
        ("enter", "false", True),
        ("refresh", "false", True),
        ("leave", "false", False),
        ("enter", "unset", True),
        ("refresh", "unset", True),
        ("leave", "unset", None),
    ],
)
def test_the_action_decides_the_value(action: str, on_exit: str, value: bool | None) -> None:
    (found,) = written(action, "external_id", "u", on_exit=on_exit)

    assert found["in_cohort"] is value


@pytest.mark.parametrize(
    ("action", "create_users", "only_existing"),
    [
        pytest.param("enter", False, True, id="nobody is created by default"),
        pytest.param("enter", True, False, id="entrants may be created"),
        pytest.param("refresh", True, False, id="and those sent again"),
        pytest.param("leave", True, True, id="leavers never are"),
    ],
)
@pytest.mark.parametrize("kind", ["external_id", alias_kind("label")])
def test_users_are_created_only_on_request_and_never_to_be_removed(
    kind: str, action: str, create_users: bool, only_existing: bool
) -> None:
    (found,) = written(action, kind, "u", create_users=create_users)

    assert found["_update_existing_only"] is only_existing


@pytest.mark.parametrize("kind", ["external_id", alias_kind("label")])
def test_any_text_survives_as_it_is(kind: str) -> None:
    found = written("enter", kind, AWKWARD, " padded ", attribute=AWKWARD)

    assert names(found) == [AWKWARD, " padded "]
    assert all(item[AWKWARD] is True for item in found)


# Among them what would end a text, or look like what stands between two, were it not escaped.
@example(users=[",", "a"])
@example(users=["a", ",", ",", "b"])
@given(
    users=st.lists(st.text(st.sampled_from('",\\{}[]: ae\n\u2028é😀'), max_size=6), min_size=1, max_size=5)
)
def test_users_of_one_request_are_written_as_each_of_them_alone(users: list[str]) -> None:
    for kind in ("external_id", alias_kind("label")):
        assert names(written("enter", kind, *users)) == users


def names(found: list[dict[str, Any]]) -> list[str]:
    return [
        item["external_id"] if "external_id" in item else item["user_alias"]["alias_name"] for item in found
    ]


@pytest.mark.parametrize("label", ["amplitude_id", "", "user_alias:", "a:b"])
def test_a_label_comes_back_out_of_the_kind(label: str) -> None:
    assert alias_label(alias_kind(label)) == label


@pytest.mark.parametrize("kind", ["external_id", "user_alias", "device_id"])
def test_other_kinds_have_no_label(kind: str) -> None:
    assert alias_label(kind) is None
