from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.identifiers import Identifier, Identifiers
from airflow_provider_kubit_braze.exceptions import CohortConfigError


def test_the_chain_keeps_the_order_of_the_mapping() -> None:
    chain = Identifiers(
        email="MAIL", user_alias={"label": "crm", "name": '"Alias Name"'}, external_id="USER_ID", phone="MAIL"
    )
    assert chain.kinds == ("email", "user_alias", "external_id", "phone")
    assert list(chain) == [
        Identifier("email", "MAIL"),
        Identifier("user_alias", '"Alias Name"', "crm"),
        Identifier("external_id", "USER_ID"),
        Identifier("phone", "MAIL"),
    ]
    assert len(chain) == 4
    assert chain[2].column == "USER_ID"


def test_the_order_makes_a_difference_and_is_part_of_the_value() -> None:
    assert Identifiers(email="A", external_id="B") != Identifiers(external_id="B", email="A")
    assert hash(Identifiers(email="A")) == hash(Identifiers(email="A"))


def test_a_chain_can_be_written_out_and_read_again() -> None:
    chain = Identifiers(user_alias={"label": "crm", "name": "N"}, braze_id="B")
    written = chain.model_dump(mode="json")
    assert written == {"user_alias": {"label": "crm", "name": "N"}, "braze_id": "B"}
    assert list(written) == ["user_alias", "braze_id"]
    assert Identifiers(**written) == chain


@pytest.mark.parametrize(
    ("column", "stored"),
    [("user_id", "USER_ID"), ("_A$1", "_A$1"), ('"User Id"', "User Id"), ('"a""b"', 'a"b')],
)
def test_a_column_is_known_by_the_name_snowflake_stores(column: str, stored: str) -> None:
    assert Identifier("external_id", column).stored_name == stored


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        pytest.param({}, "no identifier is named; write one, such as external_id: USER_ID.", id="none"),
        pytest.param(
            {"externalid": "A"},
            "field 'externalid': unknown key 'externalid'; write 'external_id' or remove it.",
            id="misspelt kind",
        ),
        pytest.param(
            {"email": None},
            "field 'email': null is not a column name; write the name of one column.",
            id="null column",
        ),
        pytest.param(
            {"email": "USER ID"},
            "field 'email': 'USER ID' is not a column name; write letters, digits, _ and $ only, or put",
            id="blank in a column",
        ),
        pytest.param({"email": "1A"}, "field 'email': '1A' is not a column name", id="digit first"),
        pytest.param({"email": '"A'}, "field 'email': '\"A' is not a column name", id="open quote"),
        pytest.param({"email": "A;DROP TABLE X"}, "field 'email': 'A;DROP TABLE X' is not", id="injection"),
        pytest.param({"email": "A" * 256}, "field 'email': the column name", id="too long a column"),
        pytest.param(
            {"user_alias": "N"},
            "field 'user_alias': 'N' does not name an alias; write {label: the alias label, name: "
            "THE_COLUMN}.",
            id="alias without a label",
        ),
        pytest.param({"user_alias": {"name": "N"}}, "field 'user_alias': {", id="alias lacks a key"),
        pytest.param(
            {"user_alias": {"label": " ", "name": "N"}},
            "field 'user_alias.label': ' ' is not an alias label; write the label as text.",
            id="blank label",
        ),
        pytest.param(
            {"user_alias": {"label": "crm", "name": "N N"}},
            "field 'user_alias.name': 'N N' is not a column name",
            id="bad alias column",
        ),
    ],
)
def test_bad_identifiers_are_refused_with_the_field_the_value_and_the_fix(
    written: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        Identifiers(**written)
    assert str(refusal.value).startswith(sentence)


def test_every_bad_identifier_is_named() -> None:
    with pytest.raises(CohortConfigError) as refusal:
        Identifiers(email="A A", phon="B")
    assert [line.partition(":")[0] for line in str(refusal.value).splitlines()] == [
        "field 'email'",
        "field 'phon'",
    ]


@pytest.mark.parametrize(
    "wrong",
    [("email", "A", "label"), ("user_alias", "A", None), ("mail", "A", None), ("email", "A A", None)],
    ids=["label without alias", "alias without label", "unknown kind", "bad column"],
)
def test_an_identifier_refuses_nonsense_when_built(wrong: tuple[Any, str, str | None]) -> None:
    with pytest.raises(CohortConfigError):
        Identifier(*wrong)
