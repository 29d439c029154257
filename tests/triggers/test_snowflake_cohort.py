from __future__ import annotations

import asyncio
import inspect
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.readiness import Readiness, Requirement
from airflow_provider_kubit_braze.exceptions import SourceError
from airflow_provider_kubit_braze.triggers import snowflake_cohort
from airflow_provider_kubit_braze.triggers.snowflake_cohort import SnowflakeCohortTrigger
from tests.triggers.test_wait import Clock

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

RUN = datetime(2026, 11, 23, 9, tzinfo=UTC)
FAR_AWAY = datetime(2999, 1, 1, tzinfo=UTC)
ARGUMENTS: dict[str, Any] = {
    "snowflake_conn_id": "snowflake_default",
    "table": "A.B.VIP",
    "sql": None,
    "ready_column": "COMPUTED_AT",
    "within": 93600.0,
    "min_members": 7,
    "reference": RUN,
    "poll_interval": 0.0,
    "deadline": FAR_AWAY,
    "tag": {"dag_id": "d"},
}
WAITING = Readiness(ready=False, reason="COMPUTED_AT is 31 h old, waiting for 26 h")
READY = Readiness(ready=True, reason="the cohort has 7 members")


class Looks:
    """Stands in for the look at Snowflake: answers from a list and remembers what it was asked."""

    def __init__(self, *answers: Readiness | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __call__(self, **question: Any) -> Readiness:
        self.asked.append(question)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def events_of(trigger: SnowflakeCohortTrigger) -> list[Any]:
    async def collect() -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    return [event.payload for event in asyncio.run(collect())]


def looking(monkeypatch: pytest.MonkeyPatch, *answers: Readiness | Exception) -> Looks:
    looks = Looks(*answers)
    monkeypatch.setattr(snowflake_cohort, "look_at_cohort", looks)
    return looks


def test_it_looks_until_the_cohort_is_ready_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = looking(monkeypatch, WAITING, WAITING, READY)

    assert events_of(SnowflakeCohortTrigger(**ARGUMENTS)) == [
        {"status": "ready", "reason": "the cohort has 7 members"}
    ]
    assert len(looks.asked) == 3


def test_it_asks_what_it_was_told_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = looking(monkeypatch, READY)

    events_of(SnowflakeCohortTrigger(**ARGUMENTS))

    assert looks.asked == [
        {
            "snowflake_conn_id": "snowflake_default",
            "table": "A.B.VIP",
            "sql": None,
            "requirement": Requirement(
                min_members=7, within=timedelta(hours=26), column="COMPUTED_AT", table="A.B.VIP"
            ),
            "reference": RUN,
            "tag": {"dag_id": "d"},
        }
    ]


def test_without_a_reference_each_look_takes_its_own_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = looking(monkeypatch, WAITING, READY)
    before = datetime.now(UTC)

    events_of(SnowflakeCohortTrigger(**{**ARGUMENTS, "reference": None}))

    first, second = (question["reference"] for question in looks.asked)
    assert before <= first < second <= datetime.now(UTC)


def test_the_deadline_is_absolute_and_ends_the_wait_with_the_last_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, clock = looking(monkeypatch, WAITING), Clock()

    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return clock.now(tz)

    monkeypatch.setattr(snowflake_cohort, "datetime", Now)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    soon = clock.time + timedelta(minutes=10)

    # The next look would be an hour away: the deadline cuts the wait short, after one last look.
    trigger = SnowflakeCohortTrigger(**{**ARGUMENTS, "poll_interval": 3600.0, "deadline": soon})

    assert events_of(trigger) == [{"status": "timeout", "reason": WAITING.reason}]
    assert (clock.slept, len(looks.asked)) == ([600.0], 1)


def test_a_trigger_restarted_after_its_deadline_does_not_look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = looking(monkeypatch)
    past = datetime(2026, 1, 1, tzinfo=UTC)

    [event] = events_of(SnowflakeCohortTrigger(**{**ARGUMENTS, "deadline": past}))

    assert event["status"] == "timeout"
    assert looks.asked == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceError("Snowflake refuses to read table VIP."), "Snowflake refuses to read table VIP."),
        (ConnectionError("no\n  route"), "no route"),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=["source", "connection", "without words"],
)
def test_an_error_becomes_the_one_event(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    looking(monkeypatch, WAITING, error)

    assert events_of(SnowflakeCohortTrigger(**ARGUMENTS)) == [{"status": "error", "reason": reason}]


def test_the_event_loop_goes_on_while_snowflake_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two looks wait for each other, then for the loop: on one thread, or the loop's own, neither would end.
    both_looking = threading.Barrier(2, timeout=20)
    loops: list[asyncio.AbstractEventLoop] = []

    async def answer() -> Readiness:
        return READY

    def look(**question: Any) -> Readiness:
        both_looking.wait()
        return asyncio.run_coroutine_threadsafe(answer(), loops[0]).result(20)

    monkeypatch.setattr(snowflake_cohort, "look_at_cohort", look)

    async def drain(trigger: SnowflakeCohortTrigger) -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    async def main() -> list[list[TriggerEvent]]:
        loops.append(asyncio.get_running_loop())
        return await asyncio.gather(*(drain(SnowflakeCohortTrigger(**ARGUMENTS)) for _ in range(2)))

    assert [events[0].payload["status"] for events in asyncio.run(main())] == ["ready", "ready"]


def test_serialize_holds_every_argument_and_builds_the_same_trigger() -> None:
    path, kwargs = SnowflakeCohortTrigger(**ARGUMENTS).serialize()

    assert path == "airflow_provider_kubit_braze.triggers.snowflake_cohort.SnowflakeCohortTrigger"
    assert kwargs == ARGUMENTS
    assert set(kwargs) == set(inspect.signature(SnowflakeCohortTrigger).parameters)
    assert SnowflakeCohortTrigger(**kwargs).serialize() == (path, kwargs)


def test_the_arguments_survive_airflows_own_serialization() -> None:
    from airflow.serialization.serialized_objects import BaseSerialization

    stored = BaseSerialization.serialize(ARGUMENTS)

    assert BaseSerialization.deserialize(stored) == ARGUMENTS
