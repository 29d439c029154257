"""How much is measured: all of it, or as little as shows that every part still works (``--quick``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of the benchmark.

    :param rounds: times that subject and floor are measured in turn.
    :param trips: the same for the CPU of requests.
    :param requests: requests of one trip over kept connections.
    :param single: requests of one trip that each open their own connection.
    :param seconds: how long a rate is held.
    :param streamed: changes streamed past the memory, smallest first.
    :param imported: changes imported from the local Snowflake while memory is watched, smallest first.
    :param started: changes of the two plans whose first request is waited for.
    :param unchanged: members of the cohort that has not changed.
    :param planned: members of the cohort that is planned.
    :param parsed: cohorts in a file.
    :param simulated: simulated seconds.
    :param impact_events: events of a share in a day.
    :param impact_days: days of history before one more is measured, few and many.
    :param impact_rounds: days more that are measured.
    """

    rounds: int = 11
    trips: int = 25
    requests: int = 640
    single: int = 60
    seconds: float = 24.0
    streamed: tuple[int, ...] = (500_000, 5_000_000, 20_000_000)
    imported: tuple[int, ...] = (500_000, 2_000_000)
    started: tuple[int, int] = (100_000, 2_000_000)
    unchanged: int = 10_000_000
    planned: int = 10_000_000
    parsed: tuple[int, ...] = (1, 100, 500)
    simulated: float = 300.0
    impact_events: int = 1_000_000
    impact_days: tuple[int, int] = (10, 100)
    impact_rounds: int = 5


FULL = Sizes()

QUICK = Sizes(
    rounds=3,
    trips=3,
    requests=150,
    single=20,
    seconds=9.0,
    streamed=(50_000, 100_000, 200_000),
    imported=(50_000, 100_000),
    started=(10_000, 50_000),
    unchanged=100_000,
    planned=100_000,
    parsed=(1, 10),
    simulated=60.0,
    impact_events=10_000,
    impact_days=(9, 30),
    impact_rounds=3,
)
