"""An import tells how far it is, and does not care who listens."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_kubit_braze import delivery
from airflow_provider_kubit_braze.operators.progress import progress_teller

USERS = [f"u{n:03}" for n in range(300)]


@pytest.fixture
def slow(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Braze that keeps one request waiting for longer than progress is told."""
    monkeypatch.setattr(delivery, "_LOG_EVERY", 0.05)
    world.people(*USERS)
    world.braze.fault("delay", "/users/track", seconds=0.5)
    return world


def test_progress_is_told_in_a_thread_of_its_own(slow: Any) -> None:
    told: list[tuple[int, int, bool]] = []

    def tell(sent: int, total: int) -> None:
        told.append((sent, total, threading.current_thread() is threading.main_thread()))

    assert slow.run(tell=tell).result.added == len(USERS)
    assert told
    assert {(total, in_main) for _, total, in_main in told} == {(len(USERS), False)}
    assert all(0 <= sent <= len(USERS) for sent, _, _ in told)
    assert [sent for sent, _, _ in told] == sorted(sent for sent, _, _ in told)


def test_whoever_listens_may_take_its_time_and_the_import_goes_on(slow: Any) -> None:
    told: list[int] = []
    arrived = threading.Event()

    def tell(sent: int, _total: int) -> None:
        told.append(sent)
        # Until Braze has every change.
        while len(slow.written()) < len(USERS):
            arrived.wait(0.01)

    assert slow.run(tell=tell).result.added == len(USERS)
    assert told


def test_an_xcom_that_cannot_be_written_ends_the_telling_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pushed: list[dict[str, Any]] = []

    class TaskInstance:
        def xcom_push(self, **xcom: Any) -> None:
            pushed.append(xcom)
            if len(pushed) == 2:
                raise ConnectionError("api.example.com/?token=secret")

    tell = progress_teller(TaskInstance())
    assert tell is not None
    for sent in (1, 2, 3):
        tell(sent, 9)

    assert pushed == [{"key": "progress", "value": {"sent": sent, "total": 9}} for sent in (1, 2)]
    assert "ConnectionError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("is_safe", [True, False])
def test_nothing_is_told_where_threads_would_read_each_others_answers(
    monkeypatch: pytest.MonkeyPatch, is_safe: bool
) -> None:
    from airflow.sdk.execution_time import task_runner

    comms = SimpleNamespace(_thread_lock=None) if is_safe else SimpleNamespace()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)

    assert (progress_teller(object()) is not None) == is_safe
