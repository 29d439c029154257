"""Who is let in, what is too large or too often, and what the headers tell."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_REST_KEY

ONE = {"attributes": [{"external_id": "u", "in": True}]}
RATE_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


def _rate(response: Any) -> tuple[str | None, ...]:
    return tuple(response.headers.get(name) for name in RATE_HEADERS)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        pytest.param(None, "Invalid API key", id="no-header"),
        pytest.param("wrong-key", "Invalid API key: wrong-key", id="unknown-key-is-echoed"),
        pytest.param(f'"{DEFAULT_REST_KEY}"', f'Invalid API key: "{DEFAULT_REST_KEY}"', id="quoted-key"),
        pytest.param(
            DEFAULT_REST_KEY.upper(), f"Invalid API key: {DEFAULT_REST_KEY.upper()}", id="other-case"
        ),
        pytest.param(f" {DEFAULT_REST_KEY}", f"Invalid API key:  {DEFAULT_REST_KEY}", id="two-spaces"),
    ],
)
def test_a_wrong_key_is_a_401_with_empty_rate_headers(
    local_braze: Any, key: str | None, message: str
) -> None:
    response = local_braze.post("/users/track", ONE, key=key)

    assert (response.status_code, response.json()) == (401, {"message": message})
    assert _rate(response) == ("", "", "")


def test_a_key_in_the_body_or_without_bearer_does_not_count(local_braze: Any) -> None:
    in_body = local_braze.post("/users/track", {**ONE, "api_key": DEFAULT_REST_KEY}, key=None)
    bare = local_braze.post("/users/track", ONE, key=None, headers={"Authorization": DEFAULT_REST_KEY})
    basic = local_braze.post(
        "/users/track", ONE, key=None, headers={"Authorization": f"Basic {DEFAULT_REST_KEY}"}
    )

    assert (in_body.status_code, bare.status_code, basic.status_code) == (401, 401, 401)


@pytest.mark.parametrize(
    ("path", "permission"),
    [
        ("/users/track", "users.track"),
        ("/users/track/bulk", "users.track.bulk"),
        ("/users/track/sync", "users.track.sync"),
        ("/users/export/ids", "users.export.ids"),
    ],
)
def test_each_endpoint_needs_its_own_permission(local_braze: Any, path: str, permission: str) -> None:
    every = ["users.track", "users.track.bulk", "users.track.sync", "users.export.ids"]
    local_braze.control.configure(
        keys={"only": [permission], "others": [name for name in every if name != permission]}
    )
    body = {**ONE, "external_ids": ["u"], "fields_to_export": ["external_id"]}

    assert local_braze.post(path, body, key="only").status_code == 201
    denied = local_braze.post(path, body, key="others")
    assert (denied.status_code, denied.json()) == (403, {"message": "Access Denied"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/", id="root"),
        pytest.param("POST", "/users/tracks", id="unknown-path"),
        pytest.param("POST", "/users/track/", id="slash-at-the-end"),
        pytest.param("GET", "/users/track", id="wrong-method"),
        pytest.param("POST", "/partners/nobody/cohorts", id="unknown-partner"),
        pytest.param("POST", "/partners/kubit/cohort", id="unknown-partner-path"),
    ],
)
def test_an_unknown_url_is_a_404(local_braze: Any, method: str, path: str) -> None:
    response = local_braze.session.request(method, local_braze.url + path, data=b"{}", timeout=30)

    assert (response.status_code, response.json()) == (404, {"message": "Invalid URL"})


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("Application/JSON; charset=utf-8", 201),
        ("text/plain", 415),
        ("application/json-seq", 415),
        (None, 415),
    ],
)
def test_the_content_type_must_be_json(local_braze: Any, content_type: str | None, status: int) -> None:
    assert local_braze.post("/users/track", ONE, headers={"Content-Type": content_type}).status_code == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"attributes": NaN}', b'{"a": "\xff"}'])
def test_a_body_that_is_no_json_object_is_a_400(local_braze: Any, body: bytes) -> None:
    response = local_braze.post("/users/track", body)

    assert response.status_code == 400
    assert response.json()["message"].startswith("Bad Request")


def test_a_body_of_4_mb_is_read_and_a_byte_more_is_a_413(local_braze: Any) -> None:
    body = b'{"attributes":[{"external_id":"u","in":true}]}'

    assert local_braze.post("/users/track", body.ljust(4_000_000)).status_code == 201
    assert local_braze.post("/users/track", body.ljust(4_000_001)).status_code == 413
    assert local_braze.post("/users/track", body).status_code == 201, "the connection stays usable"


def test_the_limit_counts_down_and_refuses_until_the_window_is_over(local_braze: Any) -> None:
    local_braze.control.configure(windows={"users.track": [[2, 3.0]]})
    reset = str(int(local_braze.clock() // 3 * 3 + 3))

    answers = [local_braze.post("/users/track", ONE) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert [_rate(answer) for answer in answers] == [("2", "1", reset), ("2", "0", reset), ("2", "0", reset)]
    assert "retry-after" not in answers[2].headers
    assert local_braze.control.counters().objects_accepted == 2

    local_braze.clock.advance(3.0)
    assert local_braze.post("/users/track", ONE).status_code == 201


def test_an_hourly_window_outlasts_the_burst_and_is_the_one_told_of(local_braze: Any) -> None:
    local_braze.control.configure(windows={"users.track": [[2, 3.0], [3, 3600.0]]})
    first = [local_braze.post("/users/track", ONE) for _ in range(3)]
    local_braze.clock.advance(3.0)
    second = [local_braze.post("/users/track", ONE) for _ in range(2)]
    local_braze.clock.advance(3600.0)

    assert [answer.status_code for answer in first + second] == [201, 201, 429, 201, 429]
    assert [answer.headers["x-ratelimit-limit"] for answer in first + second] == ["3", "3", "2", "3", "3"]
    assert local_braze.post("/users/track", ONE).status_code == 201


def test_refused_bodies_count_against_the_limit_and_wrong_keys_do_not(local_braze: Any) -> None:
    local_braze.control.configure(windows={"users.track": [[3, 3.0]]})

    local_braze.post("/users/track", ONE, key="wrong")
    local_braze.post("/users/track", b"{")

    assert local_braze.post("/users/track", ONE).headers["x-ratelimit-remaining"] == "1"


def test_export_has_a_limit_of_its_own(local_braze: Any) -> None:
    body = {"external_ids": ["u"], "fields_to_export": ["external_id"]}
    local_braze.post("/users/track", ONE)

    assert _rate(local_braze.post("/users/export/ids", body))[:2] == ("250", "249")


@pytest.mark.parametrize(
    ("style", "allowed", "refused"),
    [
        pytest.param("epoch", ("1", "0", "{epoch}"), ("1", "0", "{epoch}"), id="epoch"),
        pytest.param("delta", ("1", "0", "2"), ("1", "0", "2"), id="delta"),
        pytest.param("empty", ("", "", ""), ("", "", ""), id="empty"),
        pytest.param("none", (None, None, None), (None, None, None), id="none"),
        pytest.param("retry_after", ("1", "0", "{epoch}"), (None, None, None), id="retry-after"),
    ],
)
def test_the_rate_headers_come_in_the_style_asked_for(
    local_braze: Any, style: str, allowed: tuple[str | None, ...], refused: tuple[str | None, ...]
) -> None:
    local_braze.control.configure(windows={"users.track": [[1, 3.0]]}, rate_headers=style)
    epoch = int(local_braze.clock() // 3 * 3 + 3)
    local_braze.clock.advance(epoch - 2 - local_braze.clock())

    answers = [local_braze.post("/users/track", ONE) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 429]
    for answer, expected in zip(answers, (allowed, refused), strict=True):
        assert _rate(answer) == tuple(value and value.format(epoch=epoch) for value in expected)
    assert answers[1].headers.get("x-ratelimit-retry-after") == ("2" if style == "retry_after" else None)


def test_header_names_are_in_lower_case(local_braze: Any) -> None:
    response = local_braze.post("/users/track", ONE)

    names = list(response.raw.headers)
    assert set(RATE_HEADERS) < set(names)
    assert names == [name.lower() for name in names]


def test_a_limit_without_windows_does_not_limit(local_braze: Any) -> None:
    local_braze.control.configure(windows={"users.track": []})

    assert _rate(local_braze.post("/users/track", ONE)) == (None, None, None)
