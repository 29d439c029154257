"""Delivering a frozen plan: out of Snowflake, into Braze, and what came of it back into the ledger meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, starmap
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.braze.engine import Batch, Delivery, Patience
from airflow_provider_kubit_braze.core.durations import time_in_words
from airflow_provider_kubit_braze.core.frames import Frame, Writer, frame_of
from airflow_provider_kubit_braze.core.ranges import Range, count, gaps, within
from airflow_provider_kubit_braze.warehouse.changes import Segment, into_requests, read_segments, read_users

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.journal import Counters, Journal
    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.core.run import RunIdentity
    from airflow_provider_kubit_braze.warehouse.ledger import Ledger
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)

#: Progress is written after so many seconds, or so large a share of the plan (and ten requests at least), whatever
#: comes first: a kill -9 costs that much in repeated requests, and what is written meanwhile or under way.
RECORD_EVERY: Final = 2.0
RECORD_SHARE: Final = 0.01
_RECORD_LEAST: Final = 750

_LOOK_EVERY: Final = 0.05
_LOG_EVERY: Final = 5.0

#: Requests made ready in one go by the reading thread, and how many such chunks it is ahead of the delivery: at Braze's
#: ceiling of 1,000 requests a second as much as goes out while Snowflake answers a query.
_CHUNK: Final = 64
_CHUNKS_AHEAD: Final = 12


@dataclass(kw_only=True)
class PlanDelivery:
    """Sends what is left of a plan.

    :param plan: the frozen plan.
    :param cohort: whose plan it is.
    :param settings: the Braze connection.
    :param session: reads the plan; used from another thread while ``run`` runs.
    :param tables: the state tables.
    :param scribe: a ledger on a session of its own, that writes progress meanwhile.
    :param identity: the run that rejections name.
    :param journal: collects the verdicts.
    :param spent: what the import has cost so far, earlier tries included.
    :param permit: raises when no more may be sent.
    :param patience: how long a request is tried.
    :param tell: is told, in a thread of its own and now and then, how many of how many changes have their answer.
    """

    plan: Plan
    cohort: Cohort
    settings: BrazeSettings
    session: Session
    tables: Tables
    scribe: Ledger
    identity: RunIdentity
    journal: Journal
    spent: Callable[[], Counters]
    permit: Callable[[], None]
    patience: Patience | None = None
    tell: Callable[[int, int], None] | None = None
    _telling: asyncio.Task[None] | None = field(default=None, init=False, repr=False)
    _current: Delivery | None = field(default=None, init=False, repr=False)

    def run(self, settled: Sequence[Range], parts: Sequence[Range]) -> None:
        """Deliver all of ``parts`` but the ``settled`` ranges, and write progress down every few seconds.

        :raises BrazeError: when Braze does not let the delivery go on; see ``Delivery.run``.
        :raises PlanDamagedError: when the plan is not what it was.
        """
        missing = gaps(settled, self.plan.to_send)
        if todo := [range_ for part in parts for range_ in within(missing, part)]:
            asyncio.run(self._run(todo))

    def record(self, ledger: Ledger | None = None) -> None:
        """Write down what the journal holds; what cannot be written stays in it."""
        entries = self.journal.take()
        try:
            (ledger or self.scribe).record(self.plan.import_id, entries, self.spent(), identity=self.identity)
        except BaseException:
            self.journal.put_back(entries)
            raise

    async def _run(self, todo: list[Range]) -> None:
        delivery = asyncio.create_task(self._in_order(todo))
        scribe = asyncio.create_task(self._keep_recording(count(todo)))
        await asyncio.wait({delivery, scribe}, return_when=asyncio.FIRST_COMPLETED)
        for task in (delivery, scribe):
            if not task.done():
                task.cancel()
        outcomes = await asyncio.gather(delivery, scribe, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    async def _in_order(self, todo: list[Range]) -> None:
        """Deliver the leavers, then the others.

        Somebody whose kind of identifier changed leaves under the old one and enters under the new one: one profile in
        Braze, and the last word about it has to be that it is in.
        """
        segments = await asyncio.to_thread(
            read_segments,
            self.session,
            self.tables,
            import_id=self.plan.import_id,
            to_send=self.plan.to_send,
        )
        # One for each endpoint: connections, and what was learnt of its limit, serve all segments.
        async with AsyncExitStack() as open_deliveries:
            deliveries: dict[str, Delivery] = {}
            for segment in segments:
                if part := within(todo, segment.range):
                    frame, writer = frame_of(
                        segment.place,
                        segment.id_kind,
                        leave=segment.leave,
                        cohort=self.cohort,
                        settings=self.settings,
                    )
                    if frame.path not in deliveries:
                        deliveries[frame.path] = await open_deliveries.enter_async_context(
                            self._delivery(frame)
                        )
                    self._current = deliveries[frame.path]
                    requests = partial(self._requests, segment, part, frame, writer)
                    async with aclosing(_ahead(requests)) as chunks:
                        await self._current.run(chunks, frame)

    def _delivery(self, frame: Frame) -> Delivery:
        return Delivery(
            settings=self.settings,
            journal=self.journal,
            frame=frame,
            patience=self.patience,
            permit=self.permit,
        )

    def _requests(self, segment: Segment, todo: list[Range], frame: Frame, writer: Writer) -> Iterator[Batch]:
        for run in segment.runs:
            users = read_users(
                self.session, self.tables, import_id=self.plan.import_id, ranges=within(todo, run.range)
            )
            yield from starmap(
                Batch,
                into_requests(
                    users,
                    join=writer.wrapping(run.action, run.id_kind).join,
                    max_objects=frame.max_objects,
                    max_bytes=frame.max_bytes,
                ),
            )

    async def _keep_recording(self, total: int) -> None:
        started = recorded_at = logged_at = time.monotonic()
        enough = max(RECORD_SHARE * total, _RECORD_LEAST)
        recorded = self._done
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            self.permit()
            now = time.monotonic()
            if now - recorded_at >= RECORD_EVERY or self._done - recorded >= enough:
                recorded, recorded_at = self._done, now
                await asyncio.to_thread(self.record)
            if now - logged_at >= _LOG_EVERY:
                logged_at = now
                self._log_progress(total, now - started)
                self._tell_progress(total)

    @property
    def _done(self) -> int:
        counters = self.journal.counters
        return counters.accepted + counters.rejected + counters.unknown

    def _tell_progress(self, total: int) -> None:
        # Whoever is told may take as long as it likes: nothing here waits for it, and told again when done.
        if self.tell is not None and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(asyncio.to_thread(self.tell, self._done, total))

    def _log_progress(self, total: int, seconds: float) -> None:
        counters, rate = self.journal.counters, self._done / seconds
        log.info(
            "Sent %s of %s changes, %s a second, about %s left; %d requests in flight, %s sent, %s retried, "
            "throttled for %.0f of %.0f s.",
            f"{self._done:,}",
            f"{total:,}",
            f"{rate:,.0f}",
            time_in_words((total - self._done) / rate) if rate else "an unknown time",
            self._current.in_flight if self._current else 0,
            f"{counters.requests:,}",
            f"{counters.retries:,}",
            counters.throttled_seconds,
            seconds,
        )


async def _ahead(make: Callable[[], Iterator[Batch]]) -> AsyncGenerator[list[Batch], None]:
    """Read a blocking iterator in a thread, some requests ahead of whoever takes them.

    The next query so runs while what the last one brought is being sent.
    """
    iterator = make()
    ready: asyncio.Queue[list[Batch] | Exception] = asyncio.Queue(maxsize=_CHUNKS_AHEAD)

    async def read() -> None:
        try:
            while chunk := await asyncio.to_thread(lambda: list(islice(iterator, _CHUNK))):
                await ready.put(chunk)
            await ready.put([])
        except Exception as error:
            await ready.put(error)

    reader = asyncio.create_task(read())
    try:
        while found := await ready.get():
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        reader.cancel()
