from __future__ import annotations

import html
import json
from urllib.parse import quote, quote_plus, urlencode

import pytest

from airflow_provider_kubit_braze.braze.redaction import Redactor

KEY = 'a1"b/2 +é&c\\d'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(KEY, id="bare"),
        pytest.param(f"before {KEY}, after", id="inside"),
        pytest.param(KEY.upper(), id="upper case"),
        pytest.param(json.dumps({"k": KEY}), id="json"),
        pytest.param(json.dumps({"k": KEY}, ensure_ascii=False), id="json with letters"),
        pytest.param(repr({"k": KEY}), id="repr"),
        pytest.param(urlencode({"k": KEY}), id="query"),
        pytest.param(quote(KEY), id="url path"),
        pytest.param(quote(KEY, safe="").lower(), id="url component, lower case"),
        pytest.param(quote_plus(KEY), id="form"),
        pytest.param(html.escape(KEY), id="html"),
    ],
)
def test_a_known_key_is_found_in_every_form(text: str) -> None:
    redacted = Redactor([KEY])(text)
    assert "***" in redacted
    assert "a1" not in redacted.lower()
    assert "c\\d" not in redacted.lower()
    assert "%26c" not in redacted.lower()


def test_all_known_keys_are_replaced_and_the_longest_wins() -> None:
    assert Redactor(["abc", "abcdef", "xyz"])("abcdef abc xyz") == "*** *** ***"


def test_a_key_with_stray_quotes_is_also_found_without_them() -> None:
    assert Redactor(['"k3y-1234" '])("k3y-1234") == "***"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        pytest.param(
            '{"message":"Invalid API key: non-existent"}',
            '{"message":"Invalid API key: ***"}',
            id="rest key echoed",
        ),
        pytest.param(
            r'{"message":"Invalid API key: \"quoted key\""}',
            '{"message":"Invalid API key: ***"}',
            id="quoted key echoed",
        ),
        pytest.param(
            'Invalid API key: "quoted key" here', "Invalid API key: ***", id="quoted key in plain text"
        ),
        pytest.param(
            '{"message":"Partner not enabled for client with client secret: zz-9","x":1}',
            '{"message":"Partner not enabled for client with client secret: ***","x":1}',
            id="client secret echoed",
        ),
        pytest.param("Authorization: Bearer abc-1", "Authorization: Bearer ***", id="header"),
        pytest.param(
            "{'Authorization': 'bearer abc-1'}", "{'Authorization': 'bearer ***'}", id="headers in a repr"
        ),
        pytest.param('Bearer "abc-1"', 'Bearer ***"', id="quoted header"),
        pytest.param('{"api_key": "a\\"b", "n": 2}', '{"api_key": ***, "n": 2}', id="api_key field"),
        pytest.param(
            "{'partner_api_key': 'abc', 'n': 2}", "{'partner_api_key': ***, 'n': 2}", id="field in a repr"
        ),
        pytest.param(
            r'"{\"client_secret\": \"abc\", \"n\": 2}"',
            r'"{\"client_secret\": ***, \"n\": 2}"',
            id="json in json",
        ),
        pytest.param("POST /x?api_key=abc&n=2", "POST /x?api_key=***&n=2", id="query"),
        pytest.param("http://user:pa55@proxy:8080/x", "http://***@proxy:8080/x", id="url with a password"),
    ],
)
def test_an_unknown_key_is_found_where_braze_and_http_libraries_show_it(text: str, redacted: str) -> None:
    assert Redactor()(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        '{"message":"success","attributes_processed":75}',
        '{"message":"Invalid API Key"}',
        "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields.",
        "Read https://www.braze.com/docs/api/errors",
    ],
)
def test_text_without_a_key_stays_as_it_is(text: str) -> None:
    assert Redactor(["", None])(text) == text


def test_the_redactor_does_not_show_what_it_knows() -> None:
    assert KEY not in repr(Redactor([KEY]))
    assert "k3y" not in repr(Redactor(["k3y"]))
