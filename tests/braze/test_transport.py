"""The way to Braze: proxies, passwords of other programs, and whom to trust."""

from __future__ import annotations

import asyncio
import base64
import ssl
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.braze.engine import Batch, Delivery, Patience
from airflow_provider_kubit_braze.braze.transport import proxy_of
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.journal import Journal
from airflow_provider_kubit_braze.exceptions import BrazeEndpointError
from airflow_provider_kubit_braze.sandbox.certificates import Certificates, ensure_certificates
from tests.braze.conftest import QuietHandler, serving
from tests.braze.conftest import deliver as run_delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

KEY = "sandbox-rest-key"
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def settings_of(url: str) -> BrazeSettings:
    return BrazeSettings(base_url=url, rest_key=KEY, workspace="w", max_in_flight=1)


def deliver(url: str) -> Journal:
    async def batches() -> AsyncIterator[Batch]:
        yield Batch(1, 1, b'{"external_id":"u","in_cohort":true}')

    journal = Journal()
    patience = Patience(tries=2, first_wait=0.01)
    delivery = Delivery(settings=settings_of(url), journal=journal, patience=patience)
    asyncio.run(run_delivery(delivery, batches()))
    return journal


@contextmanager
def proxy(seen: list[tuple[str, dict[str, str]]]) -> Iterator[str]:
    """A proxy for plain http that answers for everybody."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, dict(self.headers)))
            self.send_response(201)
            answer = b'{"message":"success"}'
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with serving(Handler) as address:
        yield address


@pytest.mark.parametrize("scheme", ["http://", ""], ids=["with a scheme", "without"])
def test_the_environments_proxy_is_used_with_its_password(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    seen: list[tuple[str, dict[str, str]]] = []
    with proxy(seen) as address:
        monkeypatch.setenv("HTTP_PROXY", f"{scheme}me:secret@{address}")
        journal = deliver("http://braze.example")

    assert journal.counters.accepted == 1
    ((path, headers),) = seen
    assert path == "http://braze.example/users/track"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


def test_no_proxy_sees_a_request_to_this_machine(monkeypatch: pytest.MonkeyPatch, local_braze: Any) -> None:
    seen: list[tuple[str, dict[str, str]]] = []
    with proxy(seen) as address:
        monkeypatch.setenv("HTTP_PROXY", f"http://{address}")
        monkeypatch.setenv("ALL_PROXY", f"http://{address}")
        journal = deliver(local_braze.url)

    assert (journal.counters.accepted, seen) == (1, [])


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        pytest.param({"HTTPS_PROXY": "http://p:1"}, "https://rest.example", "http://p:1", id="https"),
        pytest.param({"https_proxy": "p:1"}, "https://rest.example", "http://p:1", id="without a scheme"),
        pytest.param({"HTTP_PROXY": "http://p:1"}, "https://rest.example", None, id="another scheme's"),
        pytest.param({"ALL_PROXY": "http://p:1"}, "https://rest.example", "http://p:1", id="for all"),
        pytest.param(
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example"}, "https://rest.example", None, id="excepted"
        ),
        pytest.param({}, "https://rest.example", None, id="none"),
        pytest.param({"HTTPS_PROXY": "http://p:1"}, "https://localhost:1", None, id="this machine"),
    ],
)
def test_the_proxy_is_the_one_of_the_single_calls(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, expected: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert proxy_of(settings_of(url)) == expected


def test_a_password_in_netrc_does_not_meet_our_key(
    monkeypatch: pytest.MonkeyPatch, local_braze: Any, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    assert deliver(local_braze.url).counters.accepted == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return ensure_certificates(tmp_path_factory.mktemp("tls"))


@contextmanager
def tls_braze(files: Certificates) -> Iterator[str]:
    module = "airflow_provider_kubit_braze.sandbox.braze_http"
    command = [
        sys.executable,
        "-m",
        module,
        "--tls-cert",
        str(files.certificate),
        "--tls-key",
        str(files.key),
    ]
    with subprocess.Popen([*command, "--exit-with-parent"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split('"url": "')[1].partition('"')[0]
        finally:
            process.terminate()


def test_an_authority_is_trusted_as_the_single_calls_trust_it(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: Path
) -> None:
    with tls_braze(certificates) as url:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
        assert deliver(url).counters.accepted == 1

        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.setenv("CURL_CA_BUNDLE", str(certificates.bundle))
        assert deliver(url).counters.accepted == 1


def test_a_certificate_that_cannot_be_verified_stops_at_once(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)

    with (
        tls_braze(certificates) as url,
        pytest.raises(BrazeEndpointError, match="TLS certificate cannot be verified") as caught,
    ):
        deliver(url)

    assert "attempts" not in str(caught.value)
    assert not isinstance(caught.value.__context__, ssl.SSLError)
