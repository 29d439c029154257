"""What one request costs the processor: the whole way of a delivery, against others with bodies made beforehand.

The whole way: users in Arrow's memory, as Snowflake's connector hands them over, to request bodies in a thread; over
kept connections to Braze; its answers read, the rate limit followed, and verdicts in the journal. Connections are open
before anything is measured, but for those who open one for every request.

What the whole way costs beyond bare aiohttp is made of three parts: *bodies*, made of Arrow's memory; *answers*, that
is the rate limit followed, the answer read and the verdict kept; and the *engine*, which is the rest: whose turn it is,
what is under way, what to do when it goes wrong, and the processor's caches, which two kinds of work share. Bodies are
the work itself, and answers what the promises of this package rest on; below 1.4 over plain HTTP one would have to
leave aiohttp's client for a protocol of one's own, as bare sockets show: over TLS, which is what Braze speaks, that
would save less. A serial `requests.post` cannot cost ten times as much over plain HTTP as long as it costs less than
ten times that of bare aiohttp.
"""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import time
from contextlib import aclosing
from itertools import starmap
from typing import TYPE_CHECKING, Final

import pyarrow  # type: ignore[import-untyped]
from multidict import CIMultiDict

from airflow_provider_kubit_braze.braze.engine import Batch, Delivery
from airflow_provider_kubit_braze.braze.verdicts import Verdicts
from airflow_provider_kubit_braze.core.budget import LimitHeaders, RateBudget
from airflow_provider_kubit_braze.core.frames import track_frame
from airflow_provider_kubit_braze.core.in_flight import InFlight
from airflow_provider_kubit_braze.core.journal import Journal
from airflow_provider_kubit_braze.core.payload import AttributeWriter
from airflow_provider_kubit_braze.core.ranges import Range
from airflow_provider_kubit_braze.delivery import _ahead
from airflow_provider_kubit_braze.warehouse.changes import into_requests
from bench.local import local_braze, settings_for
from bench.peers import CONCURRENCY, THREADS, BareAiohttp, BareSockets, Errand, serial, waves
from bench.rows import Row, over

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.frames import Frame
    from bench.sizes import Sizes

_OBJECTS: Final = 75

#: Rows of one Arrow batch.
_BATCH: Final = 7_500

_WRAPPING: Final = AttributeWriter(attribute="kubit_cohort_bench").wrapping("enter", "external_id")


def delivery(sizes: Sizes) -> Iterator[Row]:
    """Measure over plain HTTP and over TLS."""
    for scheme, tls in (("HTTP", False), ("HTTPS", True)):
        with local_braze(tls=tls) as braze:
            settings = settings_for(braze.url, max_in_flight=CONCURRENCY)
            ca = os.environ["REQUESTS_CA_BUNDLE"] if tls else None
            costs = asyncio.run(_Measured(settings, sizes, ca=ca).rounds())
        yield from _rows(scheme, costs)


def _rows(scheme: str, costs: list[dict[str, float]]) -> Iterator[Row]:
    def times(one: str, other: str) -> list[float]:
        return [cost[one] / cost[other] for cost in costs]

    ours = f"CPU of one request, whole way, {scheme}"
    yield over(times("whole", "aiohttp"), ours, "bare aiohttp, bodies made beforehand", most=1.4)
    yield over(times("whole", "sockets"), ours, "bare sockets, bodies made beforehand")
    floor = "bare aiohttp, bodies made beforehand"
    yield over(times("bodies", "aiohttp"), f"of which bodies, {scheme}", floor)
    yield over(times("answers", "aiohttp"), f"of which answers, {scheme}", floor)
    engine = [
        (cost["whole"] - cost["aiohttp"] - cost["bodies"] - cost["answers"]) / cost["aiohttp"]
        for cost in costs
    ]
    yield over(engine, f"of which the engine, {scheme}", floor)
    yield over(times("serial", "aiohttp"), f"CPU of one requests.post in a serial loop, {scheme}", floor)
    yield over(
        times("serial", "whole"),
        f"CPU of one requests.post in a serial loop, {scheme}",
        "one request of the whole way",
        least=10.0,
    )
    yield over(
        times("waves", "whole"),
        f"CPU of one requests.post in waves of {THREADS} threads, {scheme}",
        "one request of the whole way",
    )


class _Measured:
    def __init__(self, settings: BrazeSettings, sizes: Sizes, *, ca: str | None) -> None:
        self._settings, self._sizes = settings, sizes
        self._total = sizes.requests * _OBJECTS
        self._users = pyarrow.array([f"user-{n:09}" for n in range(self._total)])
        self._frame: Frame = track_frame(settings)
        self._journal = Journal()
        headers = {
            "Authorization": f"Bearer {settings.rest_key}",
            "Content-Type": "application/json",
            "User-Agent": settings.user_agent,
        }
        bodies = [self._frame.body(batch.objects) for batch in self._batches()]
        self._errand = Errand(
            url=settings.base_url + self._frame.path,
            headers=headers,
            bodies=bodies,
            tls=ssl.create_default_context(cafile=ca) if ca else None,
        )
        self._single = Errand(
            url=self._errand.url, headers=headers, bodies=bodies[: sizes.single], tls=self._errand.tls
        )

    def _batches(self) -> Iterator[Batch]:
        pieces = (
            (start + 1, self._users[start : start + _BATCH].to_pylist())
            for start in range(0, self._total, _BATCH)
        )
        return starmap(
            Batch,
            into_requests(pieces, join=_WRAPPING.join, max_objects=_OBJECTS, max_bytes=self._frame.max_bytes),
        )

    async def rounds(self) -> list[dict[str, float]]:
        """Return the CPU seconds of one request of each, round by round; the first round is for warming up."""
        single = self._single
        async with (
            Delivery(settings=self._settings, journal=self._journal) as ours,
            BareAiohttp(self._errand) as aiohttp,
            BareSockets(self._errand) as sockets,
        ):
            costs = [
                {
                    "aiohttp": await self._cost(aiohttp.run, self._errand),
                    "whole": await self._cost(lambda: self._whole(ours), self._errand),
                    "sockets": await self._cost(sockets.run, self._errand),
                    "bodies": await self._cost(self._bodies, self._errand),
                    "answers": await self._cost(self._answers, self._errand),
                    "serial": await self._cost(lambda: _at_once(serial, single), single),
                    "waves": await self._cost(lambda: _at_once(waves, single), single),
                }
                for _ in range(self._sizes.trips + 1)
            ]
        return costs[1:]

    async def _whole(self, ours: Delivery) -> None:
        async with aclosing(_ahead(self._batches)) as chunks:
            await ours.run(chunks)
        if self._journal.take().settled != (Range(1, self._total),):
            raise RuntimeError("Not everything was accepted.")

    async def _bodies(self) -> None:
        """Make the bodies, and send nothing."""
        for batch in self._batches():
            self._frame.body(batch.objects)

    async def _answers(self) -> None:
        """Do with answers what the engine does with them; they are those of a Braze that accepts everything."""
        frame, journal, clock = self._frame, Journal(), time.monotonic
        verdicts = Verdicts(journal, redact=str, host="braze", clock=clock)
        budget = RateBudget(
            max_requests=frame.max_requests, per_seconds=frame.per_seconds, reserve=frame.reserve, now=clock()
        )
        flight = InFlight(frame.max_in_flight)
        ends = str(int(time.time()) + 3)
        body = b'{"message":"success","attributes_processed":%d}' % _OBJECTS
        for which, size in enumerate([_OBJECTS] * len(self._errand.bodies)):
            headers = CIMultiDict(
                {
                    "X-RateLimit-Limit": "3000",
                    "X-RateLimit-Remaining": str(2999 - which),
                    "X-RateLimit-Reset": ends,
                }
            )
            sent_at = clock()
            budget.wait(sent_at)
            number = budget.spend(sent_at)
            verdict = frame.read(200, body, size)
            now = clock()
            told = LimitHeaders.read(headers, now=time.time())
            budget.observe(told, number=number, limited=False, now=now)
            flight.answered(sent_at=sent_at, full=False, now=now)
            batch = Batch(which * size + 1, size, b"")
            verdicts.conclude(batch, verdict, applied=verdict.applied)

    @staticmethod
    async def _cost(run: Callable[[], Awaitable[None]], errand: Errand) -> float:
        gc.collect()
        started = time.process_time()
        await run()
        return (time.process_time() - started) / len(errand.bodies)


async def _at_once(run: Callable[[Errand], None], errand: Errand) -> None:
    run(errand)
