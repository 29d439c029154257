"""Whether a request to trigger a message certainly did not get to Braze, or may have."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kubit_braze.braze.campaigns import trigger
from airflow_provider_kubit_braze.braze.client import BrazeClient, BrazeResponse
from airflow_provider_kubit_braze.braze.failures import transport_error
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.campaign import CampaignRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = CampaignRequest(kind="campaign", message_id="c", attribute="kubit_cohort_vips", broadcast=True)


class Stub(BrazeClient):
    """Answers, or fails, as it is told."""

    def __init__(self, does: BrazeResponse | Exception) -> None:
        super().__init__(
            BrazeSettings(base_url="https://rest.iad-01.braze.com", rest_key="k" * 20, workspace="w")
        )
        self.does = does

    def send(self, path: str, json: Any, **_: Any) -> BrazeResponse:
        if isinstance(self.does, Exception):
            raise self.does
        return self.does


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (requests.ConnectTimeout(), "not_sent"),
        (requests.ConnectionError(socket.gaierror()), "not_sent"),
        (requests.ConnectionError(OSError(errno.ECONNREFUSED, "refused")), "not_sent"),
        (requests.exceptions.SSLError(ssl.SSLCertVerificationError()), "not_sent"),
        (requests.ReadTimeout(), "unknown"),
        (requests.ConnectionError(OSError(errno.ECONNRESET, "reset")), "unknown"),
        # It may have broken after the request was out.
        (requests.exceptions.SSLError(ssl.SSLEOFError()), "unknown"),
        (requests.exceptions.ProxyError(), "unknown"),
        (requests.exceptions.ProxyError(OSError("Tunnel connection failed: 407 Auth")), "not_sent"),
        (requests.exceptions.ProxyError(socket.gaierror()), "not_sent"),
        (requests.exceptions.ProxyError(OSError(errno.ECONNRESET, "reset")), "unknown"),
        (requests.exceptions.ChunkedEncodingError(), "unknown"),
        (requests.exceptions.InvalidHeader(), "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_request_without_an_answer_is_unsent_only_where_no_connection_came_about(
    error: requests.RequestException, state: str
) -> None:
    failed = transport_error(error, host="rest.iad-01.braze.com", timeout=30)
    answer = trigger(Stub(failed), REQUEST)
    assert (answer.state, answer.error) == (state, failed)


@contextlib.contextmanager
def proxy_that_says(status: bytes) -> Iterator[str]:
    """A proxy that answers whatever it is asked with a status."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_what_a_proxy_lets_nobody_through_for_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with proxy_that_says(b"407 Proxy Authentication Required") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.setenv("https_proxy", proxy)
        settings = BrazeSettings(base_url="https://rest.invalid", rest_key="k" * 20, workspace="w")
        with BrazeClient(settings) as client:
            answer = trigger(client, REQUEST)
    assert answer.state == "not_sent"
    assert "The proxy on the way to rest.invalid refuses: check HTTPS_PROXY" in str(answer.error)


@pytest.mark.parametrize(
    ("status", "message", "state"),
    [
        (201, "success", "sent"),
        (200, "success", "sent"),
        (202, "queued", "unknown"),
        (204, "", "unknown"),
        (302, "", "not_sent"),
        (400, "Invalid Campaign ID", "not_sent"),
        (401, "Invalid API key", "not_sent"),
        (404, "Invalid URL", "not_sent"),
        (408, "", "unknown"),
        (429, "Rate limited", "not_sent"),
        (499, "", "unknown"),
        (500, "", "unknown"),
        (503, "", "unknown"),
    ],
)
def test_an_answer_says_sent_not_sent_or_nothing(status: int, message: str, state: str) -> None:
    answer = trigger(
        Stub(BrazeResponse(status=status, body={"message": message, "dispatch_id": "d"})), REQUEST
    )
    assert answer.state == state
    assert answer.dispatch_id == ("d" if state == "sent" else None)
    assert (answer.error is None) == (state == "sent")
