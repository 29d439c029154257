"""The wire and the process: pipelining, odd framing, TLS, starting and ending."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_http import BrazeServer
from airflow_provider_kubit_braze.sandbox.braze_settings import WorkspaceSettings

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = [sys.executable, "-m", "airflow_provider_kubit_braze.sandbox.braze_http", "--port", "0"]
HEAD = (
    b"POST /users/track HTTP/1.1\r\nHost: x\r\n"
    b"Authorization: Bearer sandbox-rest-key\r\nContent-Type: application/json\r\n"
)


def _body(user: str) -> bytes:
    return json.dumps({"attributes": [{"external_id": user, "in": True}]}).encode()


def _request(user: str) -> bytes:
    body = _body(user)
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _connect(braze: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(braze.url).port or 0), timeout=30)


def _read_to_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def _exchange(braze: Any, *parts: bytes) -> bytes:
    """Send the parts and a last request that asks to close; return everything that came back."""
    with _connect(braze) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        connection.sendall(b"GET /_sandbox/health HTTP/1.1\r\nConnection: close\r\n\r\n")
        return _read_to_end(connection)


def test_pipelined_requests_are_answered_in_order_each_once(local_braze: Any) -> None:
    answers = _exchange(local_braze, b"".join(_request(f"user-{number}") for number in range(50)))
    local_braze.control.settle()

    assert answers.count(b"HTTP/1.1 201 Created\r\n") == 50
    assert answers.count(b"HTTP/1.1 ") == 51
    bodies = [request.body["attributes"][0]["external_id"] for request in local_braze.control.requests()]
    assert bodies == [f"user-{number}" for number in range(50)]
    assert len(local_braze.control.cohort("in")) == 50


def test_pipelined_requests_wait_for_a_late_answer(local_braze: Any) -> None:
    local_braze.control.fault("delay", seconds=0.2, body="late")

    answers = _exchange(local_braze, _request("a") + _request("b"))

    assert answers.index(b"late") < answers.index(b"attributes_processed")
    assert local_braze.control.counters().most_in_flight >= 1


def test_a_request_may_come_byte_by_byte(local_braze: Any) -> None:
    answers = _exchange(local_braze, *(bytes([byte]) for byte in _request("a")))

    assert answers.count(b"HTTP/1.1 201") == 1


def test_a_chunked_body_is_put_together(local_braze: Any) -> None:
    body = _body("chunky")
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:]))
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

    answers = _exchange(local_braze, head, chunks[:7], chunks[7:], b"0\r\n\r\n" + _request("next"))
    trailer = _exchange(local_braze, head + chunks + b"0\r\nX-Trailer: 1\r\n\r\n" + _request("next"))

    assert answers.count(b"HTTP/1.1 201") == 2
    assert trailer.count(b"HTTP/1.1 201") == 2
    users = [request.body["attributes"][0]["external_id"] for request in local_braze.control.requests()]
    assert users == ["chunky", "next", "chunky", "next"]


def test_a_client_that_asks_first_is_told_to_continue(local_braze: Any) -> None:
    body = _body("a")
    with _connect(local_braze) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 201")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"nonsense\r\n\r\n", id="request-line"),
        pytest.param(b"POST / HTTP/2\r\n\r\n", id="version"),
        pytest.param(b"POST / HTTP/1.1\r\nno colon\r\n\r\n", id="header"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", id="length"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two-lengths"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", id="encoding"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", id="chunk"),
        pytest.param(b"x" * 70_000, id="endless-head"),
    ],
)
def test_what_is_no_request_is_a_400_and_the_connection_ends(local_braze: Any, raw: bytes) -> None:
    with _connect(local_braze) as connection:
        connection.sendall(raw)
        assert _read_to_end(connection).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", False, id="1.0"),
        pytest.param(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, id="1.0-keep-alive"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", True, id="1.1"),
        pytest.param(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False, id="1.1-close"),
    ],
)
def test_the_connection_is_kept_as_the_client_asks(local_braze: Any, head: bytes, kept: bool) -> None:
    with _connect(local_braze) as connection:
        connection.sendall(head + b"GET /_sandbox/health HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert _read_to_end(connection).count(b"HTTP/1.1 ") == 1 + kept


def test_an_oversized_body_is_read_to_its_end_so_that_the_connection_stays_usable(local_braze: Any) -> None:
    oversized = HEAD + b"Content-Length: 5000000\r\n\r\n"

    answers = _exchange(local_braze, oversized, b" " * 2_500_000, b" " * 2_500_000 + _request("next"))

    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"413", b"201", b"200"]


def test_an_oversized_chunked_body_is_a_413(local_braze: Any) -> None:
    with _connect(local_braze) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3d0901\r\n")
        assert _read_to_end(connection).startswith(b"HTTP/1.1 413 ")


def test_an_accepted_write_applies_by_itself_after_the_delay() -> None:
    async def write_and_wait() -> tuple[int, int]:
        server = BrazeServer(settings=WorkspaceSettings(apply_delay=0.01))
        port = urlsplit(await server.start()).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # Two writes, so that the timer has to be set again after it has fired.
        for user in ("a", "b"):
            writer.write(_request(user))
            await reader.readuntil(b"attributes_processed")
            # Reading through the control surface would apply what is due; the workspace itself does not.
            async with asyncio.timeout(30):
                while server.workspace.pending:
                    await asyncio.sleep(0)
        applied = len(server.workspace.directory), server.workspace.pending
        writer.close()
        await server.stop()
        return applied

    assert asyncio.run(write_and_wait()) == (2, 0)


# ---------------------------------------------------------------------- the process


def _start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([*SERVICE, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["service"] == "braze"
    return process, ready["url"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_service_says_when_it_is_ready_and_ends_on_a_signal(number: signal.Signals) -> None:
    process, url = _start("--config", '{"profile": "mau", "apply_delay": 0}')
    with process:
        control = BrazeControl(url)
        assert url.startswith("http://127.0.0.1:")
        assert control.settings()["profile"] == "mau"
        process.send_signal(number)
        assert process.wait(timeout=30) == 0


def test_the_service_ends_when_the_process_that_started_it_is_killed() -> None:
    parent_code = (
        "import subprocess, sys\n"
        f"service = subprocess.Popen({[*SERVICE, '--exit-with-parent']!r})\n"
        "print(service.pid, flush=True)\n"
        "service.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        lines = [parent.stdout.readline(), parent.stdout.readline()]
        service = next(int(line) for line in lines if line.strip().isdigit())
        os.kill(service, 0)
        parent.kill()
        # The service holds the same pipe: its end is this pipe's end.
        parent.communicate(timeout=30)
        assert parent.returncode == -signal.SIGKILL


def test_the_service_ends_when_its_parent_was_gone_before_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", "print()"], stdout=subprocess.DEVNULL) as gone:
        gone.wait(timeout=30)
    process = subprocess.run([*SERVICE, "--exit-with-parent", str(gone.pid)], capture_output=True, timeout=30)

    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--config", "{"], "--config", id="no-json"),
        pytest.param(["--config", "[]"], "must be a JSON object", id="no-object"),
        pytest.param(["--config", '{"colour": 1}'], "unknown setting 'colour'", id="unknown-setting"),
        pytest.param(["--tls-cert", "x.pem"], "--tls-cert and --tls-key go together", id="half-of-tls"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(arguments: list[str], words: str) -> None:
    process = subprocess.run([*SERVICE, *arguments], capture_output=True, text=True, timeout=30)

    assert process.returncode == 2
    assert words in process.stderr


def test_the_service_speaks_https(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "1",
                "-subj",
                "/CN=127.0.0.1",
            ),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    process, url = _start("--tls-cert", str(certificate), "--tls-key", str(key))
    with process:
        control = BrazeControl(url, verify=str(certificate))
        assert url.startswith("https://127.0.0.1:")
        assert control.add_users(f"user-{number}" for number in range(20_000)) == 20_000
        process.terminate()
        assert process.wait(timeout=30) == 0
