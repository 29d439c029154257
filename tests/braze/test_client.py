from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.braze.client import BrazeClient
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.exceptions import (
    BrazeAuthError,
    BrazeEndpointError,
    BrazeError,
    BrazeRequestError,
    BrazeSettingsError,
    BrazeUnavailableError,
)
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_CLIENT_SECRET, DEFAULT_PARTNER_API_KEY
from tests.braze.conftest import QuietHandler, everything_in, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "5ecret-rest-key"
IMPORT_KEY = "5ecret-import-key"
PARTNER_KEY = "5ecret-partner-key"
USER = "u5er-0001"
NOTHING_VALID = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."

Answer = tuple[int, "dict[str, Any] | str"]


@dataclass
class StandIn:
    """Just enough of an HTTP server to answer as Braze does; what Braze does is tested in tests/sandbox."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    before_answer: Callable[[], object] = lambda: None


@pytest.fixture
def braze() -> Iterator[StandIn]:
    stand_in = StandIn(
        answers={
            "/users/track": (400, {"message": NOTHING_VALID}),
            "/users/export/ids": (201, {"message": "success", "users": [], "invalid_user_ids": []}),
            "/partners/kubit/cohorts/users": (201, {}),
        }
    )

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stand_in.seen.append((self.path, dict(self.headers), json.loads(body)))
            stand_in.before_answer()
            status, answer = stand_in.answers.get(self.path, (404, {"message": "Invalid URL"}))
            sent = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{stand_in.url}/users/export/ids")
            for name, value in stand_in.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

    with serving(Handler) as address:
        stand_in.url = f"http://{address}"
        yield stand_in


def client_of(url: str, **changes: Any) -> BrazeClient:
    return BrazeClient(BrazeSettings(base_url=url, rest_key=KEY, workspace="w", **changes))


def test_a_call_carries_key_user_agent_and_body(braze: StandIn) -> None:
    braze.answers["/users/track"] = (201, {"message": "success", "attributes_processed": 1})
    with client_of(braze.url) as client:
        response = client.post("/users/track", {"attributes": [{"external_id": USER}]})
    assert (response.status, response.message, response.accepted) == (201, "success", True)
    assert (response.body or {})["attributes_processed"] == 1
    (path, headers, body) = braze.seen[0]
    assert (path, body) == ("/users/track", {"attributes": [{"external_id": USER}]})
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("partner-Kubit-AirflowProviderKubitBraze/")


@pytest.mark.parametrize(
    ("status", "body", "expected", "says"),
    [
        (
            401,
            {"message": f"Invalid API key: {KEY}"},
            BrazeAuthError,
            "does not know this REST API key (401): check the key, which needs the permission users.track, and",
        ),
        (401, {"message": "Invalid API key: another"}, BrazeAuthError, "Invalid API key: ***"),
        (403, {"message": "Access Denied"}, BrazeAuthError, "lacks the permission users.track (403)"),
        (404, {"message": "Invalid URL"}, BrazeEndpointError, "check the connection's host"),
        (302, "", BrazeEndpointError, "as a Braze REST endpoint does (302)"),
        (200, "<html>welcome</html>", BrazeEndpointError, "as a Braze REST endpoint does (200)"),
        (200, "[1]", BrazeEndpointError, "as a Braze REST endpoint does (200)"),
        (201, {"message": "queued somewhere"}, BrazeRequestError, "queued somewhere"),
        (400, {"message": NOTHING_VALID}, BrazeRequestError, NOTHING_VALID),
        (413, "too large", BrazeRequestError, "(413)"),
        (408, {}, BrazeUnavailableError, "(408)"),
        (423, {"message": "Resource locked"}, BrazeUnavailableError, "Resource locked"),
        (425, {"message": "Too Early"}, BrazeUnavailableError, "(425)"),
        (429, {"message": "Rate limited"}, BrazeUnavailableError, "(429)"),
        (500, {}, BrazeUnavailableError, "(500)"),
        (503, "<html>", BrazeUnavailableError, "cannot take /users/track now (503)"),
    ],
)
def test_each_status_says_what_to_do_and_shows_no_key(
    braze: StandIn, status: int, body: dict[str, Any] | str, expected: type[BrazeError], says: str
) -> None:
    braze.answers["/users/track"] = (status, body)
    with client_of(braze.url) as client, pytest.raises(BrazeError) as refused:
        client.post("/users/track", {"attributes": [{"external_id": USER}]})
    assert type(refused.value) is expected
    assert refused.value.status == status
    assert says in str(refused.value)
    for secret in (KEY, "another", USER):
        assert secret not in everything_in(refused.value)


def test_an_answer_is_returned_as_it_is_with_its_headers(braze: StandIn) -> None:
    braze.answers["/users/track"] = (429, {"message": "Rate limited"})
    braze.headers = {"x-ratelimit-reset": "12"}
    with client_of(braze.url) as client:
        response = client.send("/users/track", {})
        refusal = client.refusal("/users/track", response)
    assert (response.status, response.accepted) == (429, False)
    assert response.headers["X-RateLimit-Reset"] == "12"
    assert "x-ratelimit-reset" not in repr(response)
    assert type(refusal) is BrazeUnavailableError


def test_a_redirect_is_not_followed_so_that_no_other_host_gets_the_key(braze: StandIn) -> None:
    braze.answers["/users/track"] = (307, "")
    with client_of(braze.url) as client, pytest.raises(BrazeEndpointError):
        client.post("/users/track", {})
    assert [path for path, _, _ in braze.seen] == ["/users/track"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_nobody_listening_is_about_the_endpoint() -> None:
    with client_of(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(BrazeEndpointError) as refused:
        client.post("/users/track", {"attributes": [{"external_id": USER}]})
    assert "Nothing listens at 127.0.0.1:" in str(refused.value)
    assert refused.value.status is None
    assert refused.value.__context__ is None


def test_an_unknown_name_is_about_the_endpoint(mocker: Any) -> None:
    mocker.patch(
        "socket.getaddrinfo", side_effect=socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    )
    with client_of("https://rest.nowhere.invalid") as client, pytest.raises(BrazeEndpointError) as refused:
        client.post("/users/track", {"attributes": [{"external_id": USER}]})
    assert "There is no host rest.nowhere.invalid" in str(refused.value)
    assert USER not in everything_in(refused.value)


def test_plain_http_where_tls_is_expected_is_about_the_endpoint(braze: StandIn) -> None:
    with (
        client_of(braze.url.replace("http:", "https:")) as client,
        pytest.raises(BrazeEndpointError) as refused,
    ):
        client.post("/users/track", {})
    assert "No TLS connection" in str(refused.value)
    assert KEY not in everything_in(refused.value)


def test_silence_ends_with_the_time_limit(braze: StandIn) -> None:
    answered = threading.Event()
    braze.before_answer = lambda: answered.wait(60)
    with client_of(braze.url, timeout=0.05) as client, pytest.raises(BrazeUnavailableError) as refused:
        client.post("/users/track", {"attributes": [{"external_id": USER}]})
    answered.set()
    assert "did not answer within 0.05 seconds" in str(refused.value)
    assert USER not in everything_in(refused.value)


def test_a_broken_connection_may_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with client_of(url) as client, pytest.raises(BrazeUnavailableError) as refused:
            client.post("/users/track", {})
        thread.join()
    assert "broke before the answer was complete" in str(refused.value)
    assert KEY not in everything_in(refused.value)


def test_a_proxy_never_sees_a_request_for_this_machine(
    braze: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with client_of(braze.url) as client:
        assert client.check()[0].level == "ok"


def test_a_netrc_file_does_not_replace_the_key(
    braze: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with client_of(braze.url) as client:
        client.check()
    assert braze.seen[0][1]["Authorization"] == f"Bearer {KEY}"


def test_users_are_looked_up_by_ids_and_aliases(braze: StandIn) -> None:
    alias = {"alias_name": "n", "alias_label": "l"}
    braze.answers["/users/export/ids"] = (
        201,
        {"message": "success", "users": [{"external_id": USER}], "invalid_user_ids": ["nobody", alias]},
    )
    with client_of(braze.url) as client:
        found = client.export_ids(
            external_ids=[USER, "nobody"],
            user_aliases=[alias],
            fields_to_export=["external_id", "custom_attributes"],
        )
    assert found.users == ({"external_id": USER},)
    assert found.invalid_user_ids == ("nobody", alias)
    assert USER not in repr(found)
    assert braze.seen[0][2] == {
        "external_ids": [USER, "nobody"],
        "user_aliases": [alias],
        "fields_to_export": ["external_id", "custom_attributes"],
    }


@pytest.mark.parametrize("kind", ["braze_id", "device_id", "email_address", "phone"])
def test_one_user_is_looked_up_by_another_kind_of_identifier(braze: StandIn, kind: str) -> None:
    given: dict[str, Any] = {kind: "x"}
    with client_of(braze.url) as client:
        client.export_ids(**given, fields_to_export=["external_id"])
    assert braze.seen[0][2] == {kind: "x", "fields_to_export": ["external_id"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param({}, "exactly one kind", id="nobody"),
        pytest.param({"external_ids": ["a"], "phone": "+1"}, "exactly one kind", id="two kinds"),
        pytest.param(
            {"external_ids": [str(n) for n in range(51)]}, "at most 50 users in one call, not 51", id="51"
        ),
        pytest.param(
            {"external_ids": ["a"] * 50, "user_aliases": [{"alias_name": "n", "alias_label": "l"}]},
            "not 51",
            id="51 of two kinds",
        ),
        pytest.param(
            {"external_ids": ["a"], "fields_to_export": []}, "needs fields_to_export", id="no fields"
        ),
    ],
)
def test_an_impossible_look_up_is_refused_before_it_is_sent(
    braze: StandIn, arguments: dict[str, Any], says: str
) -> None:
    with client_of(braze.url) as client, pytest.raises(ValueError, match=says):
        client.export_ids(**{"fields_to_export": ["external_id"], **arguments})
    assert braze.seen == []


def test_fifty_users_fit_in_one_look_up(braze: StandIn) -> None:
    with client_of(braze.url) as client:
        client.export_ids(external_ids=[str(n) for n in range(50)], fields_to_export=["external_id"])
    assert len(braze.seen[0][2]["external_ids"]) == 50


def levels_and_text(client: BrazeClient) -> tuple[list[str], str]:
    findings = client.check()
    return [finding.level for finding in findings], " ".join(finding.text for finding in findings)


def test_the_check_changes_nothing_and_says_what_the_key_can_do(braze: StandIn) -> None:
    with client_of(braze.url) as client:
        levels, text = levels_and_text(client)
    assert levels == ["ok", "ok"]
    assert "users.track" in text
    assert "users.export.ids" in text
    assert [(path, body) for path, _, body in braze.seen] == [
        ("/users/track", {"attributes": []}),
        (
            "/users/export/ids",
            {"external_ids": ["kubit_braze_connection_test"], "fields_to_export": ["external_id"]},
        ),
    ]


def test_the_check_asks_the_bulk_endpoint_when_imports_would(braze: StandIn) -> None:
    braze.answers["/users/track/bulk"] = (403, {"message": "Access Denied"})
    with client_of(braze.url, bulk=True) as client:
        levels, text = levels_and_text(client)
    assert levels == ["problem"]
    assert "lacks the permission users.track.bulk (403)" in text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(
            (401, {"message": f"Invalid API key: {KEY}"}), "does not know this REST API key", id="401"
        ),
        pytest.param((403, {"message": "Access Denied"}), "lacks the permission users.track ", id="403"),
        pytest.param((404, {"message": "Invalid URL"}), "check the connection's host", id="404"),
        pytest.param(
            (400, "<html>Bad Request</html>"), "as a Braze REST endpoint does (400)", id="not braze"
        ),
        pytest.param((429, {"message": "Rate limited"}), "(429)", id="429"),
    ],
)
def test_the_check_stops_at_a_key_that_cannot_import(braze: StandIn, answer: Answer, says: str) -> None:
    braze.answers["/users/track"] = answer
    with client_of(braze.url) as client:
        levels, text = levels_and_text(client)
    assert levels == ["problem"]
    assert says in text
    assert KEY not in text
    assert len(braze.seen) == 1


def test_the_check_turns_silence_into_a_finding() -> None:
    with client_of(f"http://127.0.0.1:{free_port()}") as client:
        levels, text = levels_and_text(client)
    assert levels == ["problem"]
    assert "Nothing listens" in text


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_cannot_verify_can_still_import(braze: StandIn, status: int) -> None:
    braze.answers["/users/export/ids"] = (status, {"message": f"Access denied {KEY}"})
    with client_of(braze.url) as client:
        levels, text = levels_and_text(client)
    assert levels == ["ok", "note"]
    assert "Verification is not possible: the key lacks users.export.ids." in text
    assert KEY not in text


def test_verification_that_is_out_of_order_is_a_note(braze: StandIn) -> None:
    braze.answers["/users/export/ids"] = (503, {})
    with client_of(braze.url) as client:
        levels, text = levels_and_text(client)
    assert levels == ["ok", "note"]
    assert "could not be tried" in text
    assert "(503)" in text


def partner_client(url: str) -> BrazeClient:
    return client_of(url, client_secret=IMPORT_KEY, partner_api_key=PARTNER_KEY)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((201, {}), id="accepted"),
        pytest.param((200, ""), id="accepted without a body"),
        pytest.param(
            (400, {"message": "`cohort_changes` must be an array of objects"}), id="only the list is refused"
        ),
    ],
)
def test_partner_keys_are_tried_with_an_empty_change(braze: StandIn, answer: Answer) -> None:
    braze.answers["/partners/kubit/cohorts/users"] = answer
    with partner_client(braze.url) as client:
        levels, text = levels_and_text(client)
    assert levels == ["ok", "ok", "ok"]
    assert "partner cohort keys of kubit" in text
    path, headers, body = braze.seen[2]
    assert path == "/partners/kubit/cohorts/users"
    assert "Authorization" not in headers
    assert body == {
        "partner_api_key": PARTNER_KEY,
        "client_secret": IMPORT_KEY,
        "cohort_id": "kubit_braze_connection_test",
        "cohort_changes": [],
    }


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, {"message": "Invalid Partner API key"}), "refuses the partner cohort keys (401)"),
        (
            (401, {"message": f"Partner not enabled for client with client secret: {IMPORT_KEY}"}),
            "Partner not enabled for client with client secret: ***",
        ),
        ((404, {"message": "Invalid URL"}), "check the connection's host or partner"),
        ((423, {"message": "Resource locked"}), "Resource locked"),
    ],
)
def test_wrong_partner_keys_are_a_problem(braze: StandIn, answer: Answer, says: str) -> None:
    braze.answers["/partners/kubit/cohorts/users"] = answer
    with partner_client(braze.url) as client:
        levels, text = levels_and_text(client)
    assert levels == ["ok", "ok", "problem"]
    assert says in text
    assert "5ecret" not in text


COHORTS = "/partners/kubit/cohorts"
SINCE = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


class Waits:
    """Note what somebody would sleep, and let something happen meanwhile."""

    def __init__(self, then: Callable[[int], object] = lambda _: None) -> None:
        self.seconds: list[float] = []
        self._then = then

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._then(len(self.seconds))


@pytest.mark.parametrize("answer", [(201, {}), (200, ""), (204, ""), (201, {"message": "success"})], ids=repr)
def test_a_cohort_is_named_with_the_keys_in_the_body_only(braze: StandIn, answer: Answer) -> None:
    braze.answers[COHORTS] = answer
    waits = Waits()
    with partner_client(braze.url) as client:
        client.name_cohort("vip", "Very important ★", SINCE, sleep=waits)
    ((path, headers, body),) = braze.seen
    assert path == COHORTS
    assert body == {
        "partner_api_key": PARTNER_KEY,
        "client_secret": IMPORT_KEY,
        "cohort_id": "vip",
        "name": "Very important ★",
        "created_at": "2026-11-23T09:30:00+00:00",
    }
    assert "Authorization" not in headers
    assert KEY not in str(headers)
    assert "5ecret" not in path + str(headers)
    assert waits.seconds == []


@pytest.mark.parametrize("status", [408, 423, 425, 429, 500, 503])
def test_naming_is_tried_again_while_braze_cannot_take_it(braze: StandIn, status: int) -> None:
    braze.answers[COHORTS] = (status, {"message": "Resource locked"})

    def then(waited: int) -> None:
        if waited == 3:
            braze.answers[COHORTS] = (201, {})

    waits = Waits(then)
    with partner_client(braze.url) as client:
        client.name_cohort("vip", "VIP", SINCE, sleep=waits)
    assert waits.seconds == [1, 2, 4]
    assert len(braze.seen) == 4


def test_naming_gives_up_after_a_handful_of_tries(braze: StandIn) -> None:
    braze.answers[COHORTS] = (423, {"message": "Resource locked"})
    waits = Waits()
    with partner_client(braze.url) as client, pytest.raises(BrazeUnavailableError, match="Resource locked"):
        client.name_cohort("vip", "VIP", SINCE, waits=(0.5, 7), sleep=waits)
    assert waits.seconds == [0.5, 7]
    assert len(braze.seen) == 3


@pytest.mark.parametrize(("reset", "first"), [("20", 20), ("0", 1), ("3000", 60), ("", 1)])
def test_naming_waits_for_the_end_of_a_limit_but_no_hour(braze: StandIn, reset: str, first: float) -> None:
    braze.answers[COHORTS] = (429, {"message": "Rate limited"})
    braze.headers = {"X-RateLimit-Reset": reset}
    waits = Waits()
    with partner_client(braze.url) as client, pytest.raises(BrazeUnavailableError):
        client.name_cohort("vip", "VIP", SINCE, waits=(1,), sleep=waits)
    assert waits.seconds == [first]


@pytest.mark.parametrize(
    ("status", "words", "expected", "says"),
    [
        (400, "`name` must be a non-empty string", BrazeRequestError, "`name` must be a non-empty string"),
        (
            401,
            f"Invalid client secret: {IMPORT_KEY}",
            BrazeAuthError,
            "refuses the partner cohort keys (401)",
        ),
        (
            401,
            f"Partner not enabled for client with client secret: {IMPORT_KEY}",
            BrazeAuthError,
            "client secret: ***",
        ),
        (403, f"Forbidden {PARTNER_KEY}", BrazeAuthError, "refuses the partner cohort keys (403)"),
        (404, "Invalid URL", BrazeEndpointError, "check the connection's host or partner"),
        (307, "", BrazeEndpointError, "check the connection's host or partner"),
    ],
)
def test_naming_that_is_refused_is_not_tried_again_and_shows_no_key(
    braze: StandIn, status: int, words: str, expected: type[BrazeError], says: str
) -> None:
    braze.answers[COHORTS] = (status, {"message": words})
    waits = Waits()
    with partner_client(braze.url) as client, pytest.raises(BrazeError) as refused:
        client.name_cohort("vip", "VIP", SINCE, sleep=waits)
    assert type(refused.value) is expected
    assert says in str(refused.value)
    assert "5ecret" not in everything_in(refused.value)
    assert waits.seconds == []
    assert len(braze.seen) == 1


def test_naming_needs_both_keys_and_a_time_with_a_zone(braze: StandIn) -> None:
    with client_of(braze.url) as client, pytest.raises(BrazeSettingsError, match="partner_api_key"):
        client.name_cohort("vip", "VIP", SINCE)
    with partner_client(braze.url) as client, pytest.raises(ValueError, match="time zone"):
        client.name_cohort("vip", "VIP", SINCE.replace(tzinfo=None))
    assert braze.seen == []


def local_client(local_braze: Any) -> BrazeClient:
    return client_of(
        local_braze.url, client_secret=DEFAULT_CLIENT_SECRET, partner_api_key=DEFAULT_PARTNER_API_KEY
    )


def test_naming_outlives_broken_connections_and_in_the_end_does_not(local_braze: Any) -> None:
    local_braze.control.fault("drop_before", COHORTS, times=2)
    waits = Waits()
    with local_client(local_braze) as client:
        client.name_cohort("vip", "VIP", SINCE, sleep=waits)
        assert waits.seconds == [1, 2]
        local_braze.control.fault("drop_before", COHORTS, times=None)
        with pytest.raises(BrazeUnavailableError, match="broke before the answer"):
            client.name_cohort("vip", "VIP", SINCE, waits=(1,), sleep=waits)
    assert waits.seconds == [1, 2, 1]


def test_the_local_braze_takes_a_name_and_another_one(local_braze: Any) -> None:
    with local_client(local_braze) as client:
        for name in ("VIP", "Renamed"):
            client.name_cohort("vip", name, SINCE)
    (cohort,) = local_braze.control.partner_cohorts()
    assert (cohort["cohort_id"], cohort["name"]) == ("vip", "Renamed")
    assert cohort["created_at"] == "2026-11-23T09:30:00+00:00"


def test_neither_client_nor_answer_shows_a_key_or_a_user(braze: StandIn) -> None:
    braze.answers["/users/track"] = (201, {"message": "success", "errors": [USER]})
    with partner_client(braze.url) as client:
        response = client.post("/users/track", {})
        assert "5ecret" not in repr(client)
    assert USER not in repr(response)
