from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from airflow_provider_kubit_braze.core.cohort import Cohort, cohort_json_schema
from airflow_provider_kubit_braze.core.yaml_text import parse_yaml

if TYPE_CHECKING:
    from jsonschema.protocols import Validator  # type: ignore[import-untyped]

ONE = "{id: vip, source: {table: A.B.C}, identifiers: {external_id: USER_ID}"
CRITERIA = "{id: vip, source: {criteria: {from: A.B, user: U, "
USER = "}}, identifiers: {external_id: U}}"


@pytest.fixture(scope="module")
def schema() -> Validator:
    jsonschema.Draft202012Validator.check_schema(cohort_json_schema())
    return jsonschema.Draft202012Validator(cohort_json_schema())


def accepted(text: str) -> bool:
    try:
        Cohort(**parse_yaml(text, file="f"))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        ONE + "}",
        ONE + ", name: null, schedule: null, notify: [], holdout: 0%}",
        ONE + ", holdout: 12.5%, notify: [a@b.c]}",
        ONE + ", schedule: {mode: once}}",
        ONE + ", schedule: {mode: daily, at: 10:30, timezone: Europe/Berlin}}",
        ONE + ", schedule: {mode: weekly, at: '10:30', on: Monday}}",
        ONE + ", schedule: {mode: monthly, at: '10:30', on: last}}",
        ONE + ", schedule: {mode: monthly, at: '10:30', on: 28}}",
        ONE + ", braze: {on_exit: false, attribute: null, create_users: true, deliver_as: attribute}}",
        ONE + ", braze: {on_exit: unset, attribute: VIP customer}}",
        ONE + ", braze: {on_exit: null}}",
        ONE + ", braze: {deliver_as: partner_cohort}}",
        ONE + ", braze: {deliver_as: partner_cohort, on_exit: null, attribute: null, create_users: false}}",
        ONE + ", braze: {share: A.B, app_group_id: 5e-1}}",
        ONE + ", braze: {share: null, app_group_id: null}}",
        ONE + ", braze: {share: '\"a b\".C', app_group_id: x}}",
        ONE + ", verify: true}",
        ONE + ", verify: false}",
        ONE + ", verify: null, match: false}",
        ONE + ", verify: {sample: 10000, after: 1m, within: 1d}, match: all}",
        ONE + ", verify: {}, match: sample}",
        ONE + ", match: off, braze: {create_users: true}}",
        "{id: v, source: {table: A}, identifiers: {device_id: D, user_alias: {label: crm, name: N}, external_id: U},"
        " braze: {deliver_as: partner_cohort}}",
        ONE + ", guards: {max_removed: null, max_added: 5, max_rejected: 0.5%, max_data_points: 0}}",
        "{id: v, source: {sql: SELECT 1, ready: {column: C, within: 26h}}, identifiers: {email: '\"E M\"'}}",
        CRITERIA
        + "all: [{did: a, at_least: 2, within: 9d}, {never: [a, b], since: 2026-01-01, before: 9d}]"
        + USER,
        CRITERIA
        + "any: [{all: [{ever: a}, {not: {did: '*', at_most: 0}}]}, {where: {A: null, B: [1, 2.5], C: [x, null]}}]"
        + USER,
        CRITERIA
        + "not: {sum: {column: A, over: 5, did: a, where: {B: {not: null, under: 5.5}}}}, keep: [E]"
        + USER,
        CRITERIA
        + "all: [{first: {within: 9d}}, {last: {did: a, before: 2026-01-01T10:00Z, from: B.C}}]"
        + USER,
        CRITERIA
        + "event: E, time: '\"T t\"', all: [{where: {A: {starts_with: x, within: 9d}}, time: T}]"
        + USER,
        "{id: v, source: {table: '\"a-b\".C'}, identifiers: {user_alias: {label: crm, name: N}, phone: P}}",
    ],
)
def test_the_schema_takes_what_the_models_take(schema: Validator, text: str) -> None:
    assert accepted(text)
    schema.validate(parse_yaml(text, file="f"))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{id: vip}",
        "{id: VIP, source: {table: A}, identifiers: {external_id: U}}",
        "{id: vip, source: {}, identifiers: {external_id: U}}",
        "{id: vip, source: {table: A, sql: SELECT 1}, identifiers: {external_id: U}}",
        "{id: vip, source: {criteria: {}}, identifiers: {external_id: U}}",
        "{id: vip, source: {table: A, criteria: {from: T, user: U, all: [{did: a}]}}, identifiers: {external_id: U}}",
        *(
            CRITERIA + wrong + USER
            for wrong in (
                "all: [{where: {A: [1, x]}}]",
                "keep: []",
                "all: []",
                "all: [{}]",
                "all: [{within: 9d}]",
                "all: [{did: a}], any: [{did: a}]",
                "all: [{did: a, never: b}]",
                "all: [{did: a, at_least: -1}]",
                "all: [{did: a, at_least: 1.5}]",
                "all: [{did: a, within: 9}]",
                "all: [{did: a, since: monday}]",
                "all: [{did: []}]",
                "all: [{ever: a, within: 9d}]",
                "all: [{sum: {over: 5}}]",
                "all: [{sum: {column: A, over: x}}]",
                "all: [{where: {}}]",
                "all: [{where: {A: {}}}]",
                "all: [{where: {A: []}}]",
                "all: [{where: {A B: 1}}]",
                "all: [{where: {A: {like: x}}}]",
                "not: {not: {dit: a}}",
                "not: [{did: a}]",
            )
        ),
        "{id: vip, source: {table: A B}, identifiers: {external_id: U}}",
        "{id: vip, source: {table: A}, identifiers: {}}",
        "{id: vip, source: {table: A}, identifiers: {user_alias: N}}",
        "{id: vip, source: {table: A}, identifiers: {device_id: N}}",
        "{id: vip, source: {table: A, ready: {column: C}}, identifiers: {email: N}}",
        "{id: vip, source: {table: A, ready: {column: C, within: 26}}, identifiers: {email: N}}",
        ONE + ", schedule: {mode: hourly}}",
        ONE + ", schedule: {mode: once, at: '09:00'}}",
        ONE + ", schedule: {mode: daily}}",
        ONE + ", schedule: {mode: daily, at: '09:00', on: monday}}",
        ONE + ", schedule: {mode: daily, at: '24:00'}}",
        ONE + ", schedule: {mode: weekly, at: '09:00'}}",
        ONE + ", schedule: {mode: weekly, at: '09:00', on: 3}}",
        ONE + ", schedule: {mode: weekly, at: '09:00', on: last}}",
        ONE + ", schedule: {mode: monthly, at: '09:00', on: 31}}",
        ONE + ", schedule: {mode: monthly, at: '09:00', on: monday}}",
        ONE + ", notify: a@b.c}",
        ONE + ", notify: [nobody]}",
        ONE + ", braze: {attribute: email}}",
        ONE + ", braze: {attribute: _x}}",
        "{id: vip, source: {table: A}, identifiers: {device_id: N}, braze: {deliver_as: attribute}}",
        "{id: vip, source: {table: A}, identifiers: {email: N}, braze: {deliver_as: partner_cohort}}",
        "{id: vip, source: {table: A}, identifiers: {external_id: U, phone: N}, braze: {deliver_as: partner_cohort}}",
        ONE + ", braze: {deliver_as: partner_cohort, on_exit: false}}",
        ONE + ", braze: {deliver_as: partner_cohort, on_exit: unset}}",
        ONE + ", braze: {deliver_as: partner_cohort, attribute: vip}}",
        ONE + ", braze: {deliver_as: partner_cohort, create_users: true}}",
        ONE + ", braze: {share: A.B}}",
        ONE + ", braze: {app_group_id: x}}",
        ONE + ", braze: {share: A.B, app_group_id: null}}",
        ONE + ", braze: {share: A, app_group_id: x}}",
        ONE + ", braze: {share: A.B, app_group_id: x y}}",
        ONE + ", verify: 5}",
        ONE + ", verify: {sample: 0}}",
        ONE + ", verify: {sample: 10001}}",
        ONE + ", verify: {after: 5}}",
        ONE + ", verify: {samples: 5}}",
        ONE + ", match: true}",
        ONE + ", match: some}",
        ONE + ", match: all, braze: {create_users: true}}",
        ONE + ", braze: {on_exit: true}}",
        ONE + ", braze: null}",
        ONE + ", guards: {max_removed: 0.3}}",
        ONE + ", guards: {max_removed: -1}}",
        ONE + ", guards: {allow_empty: no}}",
        ONE + ", holdout: 0.1}",
        ONE + ", unknown: 1}",
    ],
)
def test_the_schema_refuses_what_the_models_refuse(schema: Validator, text: str) -> None:
    assert not accepted(text)
    assert not schema.is_valid(parse_yaml(text, file="f"))


LIST: dict[str, Any] = {
    "defaults": {
        "identifiers": {"external_id": "U"},
        "schedule": {"at": "09:00"},
        "source": {"conn_id": "s"},
    },
    "cohorts": [{"id": "a", "source": {"table": "A"}, "schedule": {"mode": "daily"}}],
}


def test_with_defaults_neither_half_has_to_be_complete(schema: Validator) -> None:
    schema.validate(LIST)
    partner = {"id": "a", "source": {"table": "A"}, "braze": {"deliver_as": "partner_cohort"}}
    schema.validate({**LIST, "cohorts": [partner, {"id": "b", "identifiers": {"device_id": "D"}}]})
    assert not schema.is_valid({"cohorts": LIST["cohorts"]})


def test_defaults_may_hold_the_table_that_all_criteria_are_over(schema: Validator) -> None:
    table = {"source": {"criteria": {"from": "A.B", "user": "U"}}, "identifiers": {"external_id": "U"}}
    cohort = {"id": "a", "source": {"criteria": {"all": [{"did": "a"}, {"not": {"where": {"A": 1}}}]}}}
    schema.validate({"defaults": table, "cohorts": [cohort]})


@pytest.mark.parametrize(
    "change",
    [
        {"cohorts": []},
        {"cohorts": [{"source": {"table": "A"}}]},
        {"cohorts": [{"id": "a", "sourse": {}}]},
        {"defaults": {"guards": {"max_removed": 0.3}}},
        {"defaults": {"verify": {"sample": 0}}},
        {"defaults": {"source": {"criteria": {"all": [{"did": 5}]}}}},
        {"extra": 1},
    ],
    ids=[
        "no cohort",
        "no id",
        "misspelt key",
        "bad default",
        "bad default of verify",
        "bad condition",
        "unknown key",
    ],
)
def test_a_bad_list_is_refused(schema: Validator, change: dict[str, Any]) -> None:
    assert not schema.is_valid({**LIST, **change})


def test_the_schema_describes_and_defaults_every_key_for_editors() -> None:
    definitions = cohort_json_schema()["$defs"]
    conditions = (
        "AllOf",
        "AnyOf",
        "Not",
        "Did",
        "Ever",
        "Never",
        "Has",
        "Sum",
        "SumOf",
        "First",
        "Last",
        "TimeOf",
    )
    parts = (
        "Cohort",
        "Source",
        "Ready",
        "Schedule",
        "BrazeTarget",
        "Guards",
        "Verify",
        "Criteria",
        *conditions,
    )
    for part in parts:
        assert ":param" not in definitions[part]["description"]
        assert all("description" in key for key in definitions[part]["properties"].values()), part
    assert definitions["Guards"]["properties"]["max_removed"]["default"] == "30%"
    assert definitions["Verify"]["properties"]["after"]["default"] == "5m"
    assert set(definitions["Cohort"]["properties"]) == set(Cohort.model_fields)


def test_an_impact_that_is_left_blank_is_marked(schema: Validator) -> None:
    """Python's None says that nothing is measured; a file that says so says false."""
    for written, is_valid in (("true", True), ("false", True), ("{window: 7d}", True), ("null", False)):
        assert schema.is_valid(parse_yaml(f"{ONE}, impact: {written}}}", file="f")) == is_valid, written
