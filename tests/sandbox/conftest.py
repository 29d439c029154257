"""The local Braze for the sandbox's own tests: in a thread, on a clock that only moves when told to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import requests

from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_http import LocalBraze
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_REST_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Clock:
    """Epoch seconds that stand still until advanced; starts on a whole hour."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        with self._lock:
            return self.now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds


class Braze:
    """The local Braze as a test sees it: Braze's endpoints, the control surface, and the clock."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self.control = BrazeControl(url)
        self.session = requests.Session()
        self.session.trust_env = False

    def post(
        self,
        path: str,
        body: Any,
        *,
        key: str | None = DEFAULT_REST_KEY,
        headers: Mapping[str, str | None] | None = None,
    ) -> requests.Response:
        sent: dict[str, str | None] = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.session.post(self.url + path, data=data, headers=sent, timeout=30)

    def track(self, *attributes: Mapping[str, Any]) -> requests.Response:
        return self.post("/users/track", {"attributes": attributes})

    def write(self, *attributes: Mapping[str, Any]) -> None:
        """Have all of ``attributes`` accepted and applied."""
        response = self.track(*attributes)
        assert response.status_code == 201, response.text
        assert "errors" not in response.json(), response.text
        self.control.settle()

    def user(self, **identifier: str) -> dict[str, Any]:
        (user,) = self.control.users(**identifier)
        return user


@pytest.fixture(scope="module")
def running_braze() -> Iterator[Braze]:
    clock = Clock()
    with LocalBraze(clock=clock) as service:
        braze = Braze(service.url, clock)
        yield braze
        braze.session.close()
        braze.control.close()


@pytest.fixture
def local_braze(running_braze: Braze) -> Braze:
    """The local Braze as new: no users, default settings."""
    running_braze.control.reset()
    return running_braze
