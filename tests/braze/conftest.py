"""The local Braze for the tests of the wire, on the real clock: the engine sleeps for real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_http import LocalBraze

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Braze:
    """The local Braze as a test sees it."""

    url: str
    control: BrazeControl


@pytest.fixture(scope="module")
def running_braze() -> Iterator[Braze]:
    with LocalBraze() as service:
        control = BrazeControl(service.url)
        yield Braze(service.url, control)
        control.close()


@pytest.fixture
def local_braze(running_braze: Braze) -> Braze:
    """The local Braze as new: no users, default settings."""
    running_braze.control.reset()
    return running_braze
