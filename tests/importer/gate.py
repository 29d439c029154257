"""A server before the local Braze that keeps an answer back until a test lets it go, however long that takes."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import requests

from tests.braze.conftest import QuietHandler, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds after which what does not come is a failure, and not a matter of speed.
_FAILED = 120


class Gate:
    """The answer to one request of an import.

    :param url: what the import is to take for Braze's address.
    """

    def __init__(self, url: str = "") -> None:
        self.url = url
        self._reached, self._opened = threading.Event(), threading.Event()

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of an import that comes to the gate: it has one request under way, and waits for its answer."""
        return {"base_url": self.url, "max_in_flight": 1, "timeout": 600}

    def reached(self) -> None:
        """Wait until Braze has applied the request."""
        assert self._reached.wait(_FAILED), "no request came to the gate"

    def open(self) -> None:
        """Let the answer go."""
        self._opened.set()

    def hold(self) -> None:
        """Keep the answer back; called by the server."""
        self._reached.set()
        self._opened.wait()


@contextmanager
def gate_before(braze_url: str, *, request: int) -> Iterator[Gate]:
    """Serve a gate for the answer to a ``request``, from 1; all others pass. It is open when the block ends."""
    gate, lock, seen = Gate(), threading.Lock(), 0

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            nonlocal seen
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
            passed = requests.post(braze_url + self.path, data=body, headers=headers, timeout=_FAILED)
            with lock:
                seen += 1
                held = seen == request
            if held:
                gate.hold()
            # Whoever lost its lease may not have waited for it.
            with suppress(ConnectionError):
                self.send_response(passed.status_code)
                self.send_header("Content-Length", str(len(passed.content)))
                self.end_headers()
                self.wfile.write(passed.content)

    with serving(Handler) as address:
        gate.url = f"http://{address}"
        try:
            yield gate
        finally:
            gate.open()
