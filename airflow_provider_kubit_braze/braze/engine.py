"""Delivery: request bodies out over a bounded number of kept-alive connections, verdicts into the journal.

One event loop. Workers take turns at a turnstile: whoever is in it takes the next request from the reader, and waits
there until the rate budget lets it go. So the reader is never asked for more than can be sent, and memory does not
depend on how much there is to send. There are as many workers as requests may be under way, which follows Braze's
latency.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from airflow_provider_kubit_braze.braze.batch import Batch, Patience, Trial
from airflow_provider_kubit_braze.braze.redaction import Redactor
from airflow_provider_kubit_braze.braze.transport import failure_words, open_session, proxy_of, under_way
from airflow_provider_kubit_braze.braze.verdicts import Verdicts
from airflow_provider_kubit_braze.core.budget import LimitHeaders, RateBudget
from airflow_provider_kubit_braze.core.frames import Frame, track_frame
from airflow_provider_kubit_braze.core.in_flight import InFlight
from airflow_provider_kubit_braze.core.response import SUCCESS, Next, Verdict
from airflow_provider_kubit_braze.exceptions import (
    BrazeAuthError,
    BrazeEndpointError,
    BrazeError,
    BrazeRequestError,
    BrazeUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.journal import Journal

__all__ = ["Batch", "Delivery", "Patience"]

log = logging.getLogger(__name__)

#: Seconds that the turnstile sleeps at least: what the budget allows meanwhile goes out together, and a thousand
#: requests a second do not need a thousand timers.
_NAP: Final = 0.005

#: A clock that differs from Braze's by more seconds is not trusted to know when a window ends. Less may be the rounding
#: of ``Date``.
_CLOCK_ERROR: Final = 2.0


class Delivery:
    """Send batches to Braze and write each verdict into the journal.

    .. code-block:: python

        async with Delivery(settings=settings, journal=journal) as delivery:
            await delivery.run(chunks)

    :param settings: the Braze connection.
    :param journal: receives what was accepted, rejected, or is uncertain.
    :param frame: what the requests have in common; default: those of ``/users/track``.
    :param patience: how long a request is tried.
    :param permit: called before every request; raises when no more may be sent.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        settings: BrazeSettings,
        journal: Journal,
        frame: Frame | None = None,
        patience: Patience | None = None,
        permit: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._frame = frame = frame or track_frame(settings)
        self._permit = permit
        self._patience = patience or Patience()
        self._clock = clock
        self._redact = Redactor(settings.secrets)
        self._url = settings.base_url + frame.path
        self._proxy = proxy_of(settings)
        self._budget = RateBudget(
            max_requests=frame.max_requests,
            per_seconds=frame.per_seconds,
            reserve=frame.reserve,
            now=clock(),
        )
        self._flight = InFlight(frame.max_in_flight)
        self._crew = 0
        self._waiting = 0
        self._under_way = 0
        self._verdicts = Verdicts(journal, redact=self._redact, host=settings.host, clock=clock)
        self._answered = False
        self._has_split = False
        self._throttled = 0
        self._throttled_since = 0.0
        self._clock_error: float | None = None

    @property
    def in_flight(self) -> int:
        """Requests that are under way now."""
        return self._under_way

    async def __aenter__(self) -> Self:
        """Open the connections, which are kept from one ``run`` to the next."""
        self._session = await open_session(self._settings, bearer=self._frame.bearer).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        await self._session.close()

    async def run(self, chunks: AsyncIterator[Sequence[Batch]], frame: Frame | None = None) -> None:
        """Deliver everything.

        When it raises, the journal still holds a verdict for whatever was answered, and a doubt for whatever
        may have been applied; all the rest was never sent.

        :param chunks: requests, some at a time; the next ones are asked for when these have gone out.
        :param frame: what these requests have in common, when that is not what was given first; the path is the same.
        :raises BrazeAuthError: on 401 and 403.
        :raises BrazeEndpointError: on 404, on redirects, and when nobody listens at the host.
        :raises BrazeUnavailableError: when Braze keeps failing.
        :raises BrazeRequestError: when Braze refuses requests as such.
        """
        self._frame = frame or self._frame
        self._chunks = chunks
        self._ready: deque[Batch] = deque()
        self._turnstile, self._second_turnstile = asyncio.Lock(), asyncio.Lock()
        # Each run is judged by itself: one endpoint may take one kind of change and refuse another.
        self._verdicts.begin()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._hire()
            self._verdicts.let_go()
            return
        except BaseExceptionGroup as errors:
            failure = _first(errors)
        # Raised out here, so that it is not chained to the group that it was in.
        raise failure

    # -- the crew -----------------------------------------------------------------------------------------------

    def _hire(self) -> None:
        self._crew += 1
        self._group.create_task(self._work())

    async def _work(self) -> None:
        try:
            while (batch := await self._next()) is not None:
                parts = [batch]
                try:
                    while parts:
                        parts[-1:] = await self._deliver(parts[-1])
                except BaseException:
                    for part in parts[:-1]:
                        if part.doubtful:
                            self._journal.doubt(part.range)
                    raise
                if self._crew > self._flight.limit:
                    # Braze is in trouble; whoever is still at work takes over.
                    return
        finally:
            self._crew -= 1

    async def _next(self) -> Batch | None:
        """Take the next request, once it may go out."""
        # As a rule nobody is before us, and there is nothing to wait for.
        if self._waiting or not self._ready or self._budget.wait(self._clock()) > 0:
            self._waiting += 1
            try:
                async with self._turnstile:
                    while not self._ready:
                        if (chunk := await anext(self._chunks, None)) is None:
                            return None
                        self._ready.extend(chunk)
                    await self._wait_for_budget()
                    batch = self._ready.popleft()
            finally:
                self._waiting -= 1
        else:
            batch = self._ready.popleft()
        if self._waiting == 0 and self._crew < self._flight.limit:
            self._hire()
        return batch

    async def _deliver(self, batch: Batch) -> tuple[Batch, ...]:
        """Bring one batch to its verdict; return its halves when Braze refuses it as a whole."""
        body = self._frame.body(batch.objects)
        trial = Trial(maybe_applied=batch.doubtful, since=self._clock())
        under_way.set(trial)
        try:
            while True:
                self._permit()
                status, verdict, limited = await self._post(body, batch, trial)
                self._stop_if_told(status, verdict)
                if verdict.next is not Next.RETRY or not await self._try_again(
                    batch, verdict, limited, trial
                ):
                    break
                self._journal.counters.retries += 1
                # Not behind a reader that may be waiting for Snowflake.
                async with self._second_turnstile:
                    await self._wait_for_budget()
        except BaseException:
            if trial.on_the_wire:
                self._journal.counters.data_points += batch.size
            if trial.on_the_wire or trial.maybe_applied:
                self._journal.doubt(batch.range)
            raise
        if verdict.next is Next.SPLIT:
            return self._split(replace(batch, doubtful=trial.maybe_applied), verdict)
        self._verdicts.conclude(batch, verdict, applied=trial.maybe_applied)
        return ()

    async def _try_again(self, batch: Batch, verdict: Verdict, limited: bool, trial: Trial) -> bool:
        """Wait until it is time for another attempt, or return False when this one request has had enough.

        :raises BrazeError: when everything has had enough.
        """
        before, trial.since = trial.since, self._clock()
        if limited:
            # The budget knows when to go on. Others may be faster, but somebody has to pass.
            trial.refused = 1 if self._verdicts.last_fruit > before else trial.refused + 1
            if trial.refused >= self._patience.windows:
                raise self._unavailable(trial.refused, verdict)
            return True
        trial.failures.append(trial.since)
        self._verdicts.failing.add(batch.first)
        if len(trial.failures) < self._patience.tries:
            await asyncio.sleep(self._patience.wait(len(trial.failures)))
            return True
        if not self._alone(batch, trial):
            raise self._unavailable(len(trial.failures), verdict)
        log.warning("A request of %d users got no certain answer (%s).", batch.size, verdict.message)
        return False

    def _alone(self, batch: Batch, trial: Trial) -> bool:
        """Return whether a request fails by itself, and not because Braze does.

        Either others were accepted while it waited for its last attempt, or some were after its first failure
        and nobody else has failed since.
        """
        first, last_but_one = trial.failures[0], trial.failures[-2:][0]
        last_fruit = self._verdicts.last_fruit
        return last_fruit > last_but_one or (last_fruit > first and self._verdicts.failing <= {batch.first})

    async def _wait_for_budget(self) -> None:
        """Wait, inside a turnstile, until the next request may go out."""
        if (wait := self._budget.wait(self._clock())) <= 0:
            return
        if self._throttled == 0:
            self._throttled_since = self._clock()
        self._throttled += 1
        try:
            while wait > 0:
                # An answer may change how long it takes, so nobody sleeps through all of a long wait.
                await asyncio.sleep(min(max(wait, _NAP), 1.0))
                wait = self._budget.wait(self._clock())
        finally:
            now = self._clock()
            self._throttled -= 1
            self._journal.counters.throttled_seconds += now - self._throttled_since
            self._throttled_since = now

    async def _post(self, body: bytes, batch: Batch, trial: Trial) -> tuple[int | None, Verdict, bool]:
        """Send one request; return status, verdict, and whether a limit with a known end refused it."""
        counters = self._journal.counters
        sent_at = self._clock()
        number = self._budget.spend(sent_at)
        self._under_way += 1
        try:
            async with self._session.post(
                self._url, data=body, allow_redirects=False, proxy=self._proxy
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            self._flight.failed(self._clock())
            message = self._redact(failure_words(error, self._settings.timeout))
            # Not on the wire means not connected: it has not been sent.
            verdict = Verdict(next=Next.RETRY, applied=trial.on_the_wire, message=message)
            if isinstance(error, aiohttp.ClientSSLError):
                verdict = replace(verdict, next=Next.STOP_ENDPOINT)
            return None, self._note(verdict, batch.size, trial), False
        finally:
            is_full = self._waiting == 0 and self._under_way >= self._flight.limit
            self._under_way -= 1
        self._answered = True
        counters.requests += 1
        status, now = response.status, self._clock()
        verdict = self._frame.read(status, answer, batch.size)
        headers = LimitHeaders.read(response.headers, now=self._brazes_time(response.headers))
        self._budget.observe(headers, number=number, limited=status == 429, now=now)
        if verdict.next is not Next.RETRY:
            full = is_full and self._budget.wait(now) <= 0
            self._flight.answered(sent_at=sent_at, full=full, now=now)
        elif status != 429:
            self._flight.failed(now)
        if verdict.message != SUCCESS:
            verdict = replace(verdict, message=f"HTTP {status}: {self._redact(verdict.message)}")
        limited = status == 429 and bool(headers.reset_in)
        return status, self._note(verdict, batch.size, trial), limited

    def _brazes_time(self, headers: Mapping[str, str]) -> float:
        """Return the seconds since 1970, by Braze's clock if this machine's is wrong: resets are told in its time."""
        now = time.time()
        if self._clock_error is None:
            try:
                told = parsedate_to_datetime(headers.get("Date", "")).timestamp()
            except ValueError:
                told = now
            self._clock_error = now - told
            if abs(self._clock_error) <= _CLOCK_ERROR:
                self._clock_error = 0.0
        return now - self._clock_error

    def _note(self, verdict: Verdict, sent: int, trial: Trial) -> Verdict:
        if verdict.applied:
            trial.maybe_applied = True
            self._journal.counters.data_points += sent - len(verdict.rejected)
        # Only now: a signal may end the task between any two lines.
        trial.on_the_wire = False
        return verdict

    def _stop_if_told(self, status: int | None, verdict: Verdict) -> None:
        host, message = self._settings.host, verdict.message
        match verdict.next:
            case Next.STOP_AUTH:
                hint = (
                    f"Braze at {host} refused the keys for partner cohorts ({message}). Check client_secret (the Data "
                    "Import Key), partner_api_key and partner in the connection."
                    if not self._frame.bearer
                    else f"Braze at {host} refused the REST API key ({message}). Check the key, and that {host} "
                    "is the instance it was made for."
                    if status == 401
                    else f"The REST API key lacks the permission {self._settings.track_permission} at {host} "
                    f"({message}). A key's permissions cannot be changed: make a new key that has it."
                )
                raise BrazeAuthError(hint, status=status)
            case Next.STOP_ENDPOINT:
                raise BrazeEndpointError(
                    f"{host} does not answer like a Braze REST endpoint ({message}). Check the host of the "
                    "connection.",
                    status=status,
                )
            case Next.STOP_REQUEST:
                raise BrazeRequestError(f"Braze at {host} refused the request ({message}).", status=status)

    def _split(self, batch: Batch, verdict: Verdict) -> tuple[Batch, ...]:
        if not self._has_split:
            self._has_split = True
            log.warning(
                "Braze refused a request of %d users as a whole (%s), so its halves are tried. If this is "
                "the rule, lower max_objects_per_request in the connection.",
                batch.size,
                verdict.message,
            )
        return tuple(reversed(batch.halves()))

    def _unavailable(self, attempts: int, verdict: Verdict) -> BrazeError:
        error: type[BrazeError] = BrazeUnavailableError if self._answered else BrazeEndpointError
        hint = (
            "" if self._answered else " Check the host of the connection, and that this machine may reach it."
        )
        return error(
            f"Braze at {self._settings.host} did not take a request in {attempts} attempts "
            f"({verdict.message}).{hint}"
        )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that started it; the other workers were only cancelled."""
    inner: BaseException = errors
    while isinstance(inner, BaseExceptionGroup):
        inner = next((e for e in inner.exceptions if isinstance(e, BrazeError)), inner.exceptions[0])
    return inner
