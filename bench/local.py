"""The local services that are measured against, each in a process of its own, and calls in fresh processes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_REST_KEY
from airflow_provider_kubit_braze.sandbox.certificates import ensure_certificates
from airflow_provider_kubit_braze.sandbox.connections import (
    DATABASE,
    SCHEMA,
    SNOWFLAKE_ACCOUNT,
    SNOWFLAKE_PASSWORD,
    SNOWFLAKE_USER,
)
from airflow_provider_kubit_braze.sandbox.process import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.synchronize import Barrier

    from snowflake.connector import SnowflakeConnection

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: So many requests in a window that the limit holds nobody up, while its headers are there to be followed.
UNLIMITED: Final = 10_000_000

_together: list[Barrier] = []

_TRACK: Final = "users.track"
_START_SECONDS: Final = 60.0


@contextmanager
def local_braze(
    *, limit: int = UNLIMITED, latency_ms: float = 0.0, tls: bool = False
) -> Iterator[BrazeControl]:
    """Run a local Braze.

    With ``tls``, ``REQUESTS_CA_BUNDLE`` names its authority alone meanwhile: all clients then load one certificate
    where they otherwise load 140, which spares those that do so for every request.

    :param limit: requests in a window of three seconds.
    :param latency_ms: between the arrival of a request and its answer.
    """
    with tempfile.TemporaryDirectory(prefix="kubit-braze-bench-") as name:
        folder, arguments, verify = Path(name), [], None
        if tls:
            made = ensure_certificates(folder / "tls")
            arguments = ["--tls-cert", str(made.certificate), "--tls-key", str(made.key)]
            verify = str(folder / "tls" / "ca.pem")
        config = {
            "windows": {_TRACK: [[limit, 3.0]]},
            "latency_ms": latency_ms,
            "recorded_requests": 0,
        }
        service = ServiceProcess(
            name="braze",
            module="airflow_provider_kubit_braze.sandbox.braze_http",
            log=folder / "braze.log",
            arguments=[*arguments, "--config", json.dumps(config)],
        )
        try:
            ready = service.wait_ready(deadline=time.monotonic() + _START_SECONDS)
            with variables({"REQUESTS_CA_BUNDLE": verify} if verify else {}):
                yield BrazeControl(ready["url"], verify=verify or True)
        finally:
            service.stop()


def settings_for(url: str, **extra: Any) -> BrazeSettings:
    """Return the connection to a local Braze; without ``max_requests`` its limit holds nobody up."""
    limits = {"max_requests": UNLIMITED, "reserve": 0.0}
    return BrazeSettings.from_connection("bench", url, DEFAULT_REST_KEY, limits | extra)


def connect(host: str, port: int) -> SnowflakeConnection:
    """Connect to the local Snowflake of another process; the environment has to name its authority."""
    import snowflake.connector

    return snowflake.connector.connect(
        user=SNOWFLAKE_USER,
        password=SNOWFLAKE_PASSWORD,
        account=SNOWFLAKE_ACCOUNT,
        host=host,
        port=port,
        database=DATABASE,
        schema=SCHEMA,
    )


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for this process and those that it starts meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def workers(count: int = 1) -> ProcessPoolExecutor:
    """Return processes that share nothing with this one, each for one call."""
    spawn = get_context("spawn")
    return ProcessPoolExecutor(
        count, spawn, initializer=_join, initargs=(spawn.Barrier(count),), max_tasks_per_child=1
    )


def wait_for_the_others() -> None:
    """In one of several workers: return when all of them are here."""
    _together[0].wait(_START_SECONDS)


def _join(barrier: Barrier) -> None:
    _together.append(barrier)


def alone(call: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Call a function in a fresh process and return what it returns."""
    with workers() as pool:
        return pool.submit(call, *arguments, **options).result()
