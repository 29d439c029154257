"""Delivery against the local Braze: what may be called accepted, and what becomes of all the rest."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kubit_braze.braze.engine import Batch, Delivery, Patience
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.journal import Journal
from airflow_provider_kubit_braze.core.payload import AttributeWriter
from airflow_provider_kubit_braze.core.ranges import Range, count, merge
from airflow_provider_kubit_braze.exceptions import (
    BrazeAuthError,
    BrazeEndpointError,
    BrazeRequestError,
    BrazeUnavailableError,
    PlanDamagedError,
)
from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_http import LocalBraze
from airflow_provider_kubit_braze.sandbox.braze_settings import WorkspaceSettings
from tests.braze.conftest import QuietHandler, cut_up, deliver, everything_in, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

KEY = "sandbox-rest-key"
WRONG_KEY = "5ecret-key-of-another-workspace"
ATTRIBUTE = "in_cohort"
QUICK = Patience(tries=4, first_wait=0.01, longest_wait=0.05)

Answer = tuple[int, dict[str, Any], dict[str, str]]


class Import:
    """One delivery of made-up users; ``seq`` is the position in the plan, from 1."""

    def __init__(self, url: str, users: int, *, size: int = 10, patience: Patience = QUICK, **settings: Any):
        self.users = {seq: f"u5er-{seq:05d}" for seq in range(1, users + 1)}
        self.size = size
        self.journal = Journal()
        self.produced = 0
        self.settings = BrazeSettings(
            **{
                "base_url": url,
                "rest_key": KEY,
                "workspace": "w",
                "max_in_flight": 4,
                "reserve": 0.0,
                **settings,
            }
        )
        self.delivery = Delivery(settings=self.settings, journal=self.journal, patience=patience)

    async def batches(self) -> AsyncIterator[Batch]:
        wrapping = AttributeWriter(attribute=ATTRIBUTE, create_users=True).wrapping("enter", "external_id")
        for batch in cut_up(list(self.users.values()), wrapping, self.size):
            self.produced += 1
            yield batch

    def run(self) -> None:
        asyncio.run(deliver(self.delivery, self.batches()))

    def run_until(self, reached: Callable[[], bool]) -> None:
        """Cancel the delivery as soon as ``reached`` says so, from another thread than the event loop's."""

        async def main() -> None:
            task = asyncio.create_task(deliver(self.delivery, self.batches()))
            while not task.done() and not await asyncio.to_thread(reached):
                await asyncio.sleep(0.002)
            assert not task.done(), "the delivery ended before it could be cancelled"
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        asyncio.run(main())

    def verdicts(self) -> tuple[set[str], dict[str, str], set[str], set[str]]:
        """Accepted, rejected with its words, uncertain, and without any verdict."""
        entries, counters = self.journal.take(), self.journal.counters
        settled, unknown = self._names(entries.settled), self._names(self.journal.unknown)
        rejected = {self.users[seq]: words for seq, words in entries.rejected.items()}
        accepted = settled - rejected.keys()
        assert not settled & unknown
        assert rejected.keys() <= settled
        assert (counters.accepted, counters.rejected) == (len(accepted), len(rejected))
        assert counters.unknown == len(unknown)
        return accepted, rejected, unknown, set(self.users.values()) - settled - unknown

    def _names(self, ranges: Sequence[Range]) -> set[str]:
        assert count(ranges) == count(merge(ranges))
        return {self.users[seq] for first, last in ranges for seq in range(first, last + 1)}

    def of_batch(self, *numbers: int) -> set[str]:
        """The users of the batches with these numbers, from 1."""
        return {user for seq, user in self.users.items() if (seq - 1) // self.size + 1 in numbers}


def in_braze(braze: Any) -> set[str]:
    braze.control.settle()
    return set(braze.control.cohort(ATTRIBUTE))


def posted(braze: Any) -> int:
    return int(braze.control.counters().requests.get("/users/track", 0))


@contextmanager
def front(answer: Callable[[str], Answer | None], braze_url: str = "") -> Iterator[str]:
    """A server before the local Braze: ``answer`` sees each body and answers it, or lets it pass to Braze."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = answer(body.decode())
            if found is None:
                headers = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
                passed = requests.post(braze_url + self.path, data=body, headers=headers, timeout=30)
                found = (passed.status_code, passed.json(), {})
            status, content, headers = found
            sent = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(sent))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

    with serving(Handler) as address:
        yield f"http://{address}"


# -- accepted and rejected ------------------------------------------------------------------------------------


def test_everything_accepted_is_settled_and_in_braze(local_braze: Any) -> None:
    work = Import(local_braze.url, 95)
    work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert accepted == set(work.users.values()) == in_braze(local_braze)
    assert (rejected, unknown, rest) == ({}, set(), set())
    counters = work.journal.counters
    assert (counters.requests, counters.retries, counters.data_points) == (10, 0, 95)
    assert posted(local_braze) == 10
    sizes = [len(request.body["attributes"]) for request in local_braze.control.requests()]
    assert sorted(sizes) == [5] + [10] * 9


def test_nothing_to_send_sends_nothing(local_braze: Any) -> None:
    work = Import(local_braze.url, 0)
    work.run()

    assert work.verdicts() == (set(), {}, set(), set())
    assert posted(local_braze) == 0


def test_bulk_goes_to_its_own_endpoint(local_braze: Any) -> None:
    work = Import(local_braze.url, 250, size=200, bulk=True, max_objects_per_request=1000)
    work.run()

    assert work.verdicts()[0] == in_braze(local_braze) == set(work.users.values())
    assert local_braze.control.counters().requests == {"/users/track/bulk": 2}


def test_each_rejection_reaches_the_right_user_in_brazes_words(local_braze: Any) -> None:
    work = Import(local_braze.url, 95)
    bad = {work.users[seq] for seq in (1, 10, 11, 37, 38, 39, 60, 95)}
    local_braze.control.fault("reject_ids", ids=sorted(bad), message="no such user")
    work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert rejected == dict.fromkeys(bad, "no such user")
    assert accepted == set(work.users.values()) - bad == in_braze(local_braze)
    assert (unknown, rest) == (set(), set())
    assert work.journal.counters.data_points == 87


def test_a_request_of_rejected_users_only_is_no_reason_to_split_it(local_braze: Any) -> None:
    work = Import(local_braze.url, 30)
    bad = work.of_batch(2)
    local_braze.control.fault("reject_ids", ids=sorted(bad), message="no")
    work.run()

    accepted, rejected, unknown, _ = work.verdicts()
    assert rejected == dict.fromkeys(bad, "no")
    assert accepted == work.of_batch(1, 3)
    assert not unknown
    assert posted(local_braze) == 3


def test_several_errors_of_one_user_are_one_rejection_and_one_without_a_place_leaves_the_rest_uncertain(
    local_braze: Any,
) -> None:
    errors = [
        {"type": "first", "input_array": "attributes", "index": 3},
        {"type": "second", "input_array": "attributes", "index": 3},
        {"type": "lost"},
    ]
    local_braze.control.fault("status", status=201, apply=True, body={"message": "success", "errors": errors})
    work = Import(local_braze.url, 20, max_in_flight=1)
    work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert rejected == {work.users[4]: "first; second"}
    assert unknown == work.of_batch(1) - {work.users[4]}
    assert accepted == work.of_batch(2)
    assert not rest


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param({"kind": "error_without_index"}, id="an error without index"),
        pytest.param({"kind": "error_index_out_of_range"}, id="an index out of range"),
        pytest.param(
            {
                "kind": "status",
                "status": 201,
                "apply": True,
                "body": {
                    "message": "success",
                    "errors": [{"type": "no", "input_array": "events", "index": 0}],
                },
            },
            id="an error in another array",
        ),
        pytest.param({"kind": "malformed"}, id="malformed"),
        pytest.param({"kind": "non_success_message"}, id="another message than success"),
        pytest.param(
            {
                "kind": "status",
                "status": 201,
                "body": {"message": "success", "attributes_processed": 9, "errors": []},
            },
            id="one fewer processed than sent",
        ),
    ],
)
def test_an_answer_that_cannot_be_read_accepts_nobody(local_braze: Any, rule: dict[str, Any]) -> None:
    local_braze.control.fault(**rule)
    work = Import(local_braze.url, 30, max_in_flight=1)
    work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert unknown == work.of_batch(1)
    assert accepted == work.of_batch(2, 3)
    assert (rejected, rest) == ({}, set())
    assert (work.journal.counters.data_points, work.journal.counters.retries) == (30, 0)


# -- tried again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "answered", "data_points"),
    [
        pytest.param({"kind": "status", "status": 500}, 4, 40, id="500"),
        pytest.param({"kind": "status", "status": 503, "body": "<html>"}, 4, 40, id="503 of a proxy"),
        pytest.param({"kind": "status", "status": 504, "apply": True}, 4, 40, id="504 after applying"),
        pytest.param({"kind": "status", "status": 408}, 4, 40, id="408"),
        pytest.param({"kind": "status", "status": 423}, 4, 30, id="423 applies nothing"),
        pytest.param({"kind": "drop_before"}, 3, 40, id="dropped before applying"),
        pytest.param({"kind": "drop_after"}, 3, 40, id="dropped after applying"),
    ],
)
def test_a_passing_trouble_is_tried_again_and_may_cost_twice(
    local_braze: Any, rule: dict[str, Any], answered: int, data_points: int
) -> None:
    local_braze.control.fault(**rule, after=1)
    work = Import(local_braze.url, 30, max_in_flight=1)
    work.run()

    accepted, _, unknown, _ = work.verdicts()
    assert accepted == set(work.users.values()) == in_braze(local_braze)
    assert not unknown
    counters = work.journal.counters
    assert (counters.requests, counters.retries) == (answered, 1)
    assert counters.data_points == data_points
    assert posted(local_braze) == 4


def test_a_late_answer_is_tried_again(local_braze: Any) -> None:
    local_braze.control.fault("delay", seconds=60, after=1)
    work = Import(local_braze.url, 30, max_in_flight=1, timeout=1.0)
    work.run()

    assert work.verdicts()[0] == set(work.users.values()) == in_braze(local_braze)
    sent = posted(local_braze)
    assert sent >= 4
    assert work.journal.counters.retries == sent - 3
    assert work.journal.counters.data_points == 10 * sent


@pytest.mark.parametrize(
    ("headers", "times"),
    [
        pytest.param({"X-RateLimit-Reset": "0.02"}, 9, id="with a reset, more often than tries"),
        pytest.param({"X-RateLimit-Retry-After": "0.02"}, 9, id="with a wait, more often than tries"),
        pytest.param({}, 1, id="without a word"),
        pytest.param({"X-RateLimit-Reset": "", "X-RateLimit-Remaining": ""}, 1, id="with empty headers"),
    ],
)
def test_a_rate_limit_costs_time_and_nothing_else(
    local_braze: Any, headers: dict[str, str], times: int
) -> None:
    local_braze.control.configure(rate_headers="none")
    local_braze.control.fault("status", status=429, headers=headers, times=times, after=1)
    work = Import(local_braze.url, 30, max_in_flight=1)
    work.run()

    assert work.verdicts()[0] == set(work.users.values()) == in_braze(local_braze)
    counters = work.journal.counters
    assert (counters.requests, counters.retries, counters.data_points) == (3 + times, times, 30)
    assert counters.throttled_seconds > 0


@pytest.mark.parametrize("style", ["epoch", "delta", "retry_after", "none"])
def test_a_limit_below_ours_is_lived_with(local_braze: Any, style: str) -> None:
    local_braze.control.configure(windows={"users.track": [[4, 1]]}, rate_headers=style)
    patience = Patience(tries=40, first_wait=0.2, longest_wait=0.5)
    # Thirteen requests: wherever a second ends between them, one of three windows is too small for what it gets.
    work = Import(local_braze.url, 130, max_in_flight=8, patience=patience)
    work.run()

    assert work.verdicts()[0] == set(work.users.values()) == in_braze(local_braze)
    assert work.journal.counters.data_points == 130
    assert work.journal.counters.throttled_seconds > 0


def test_the_reserve_is_left_to_others(local_braze: Any) -> None:
    # Four of a window's six requests are ours; what the headers say is left then belongs to others.
    local_braze.control.configure(windows={"users.track": [[6, 1]]}, rate_headers="epoch")
    work = Import(local_braze.url, 90, max_in_flight=1, reserve=0.34)
    work.run()

    assert work.verdicts()[0] == set(work.users.values())
    windows = Counter(int(request.at) for request in local_braze.control.requests())
    # One more may arrive in the moment the window ends.
    assert max(windows.values()) <= 5
    assert local_braze.control.counters().statuses["/users/track"] == {201: 9}


def test_a_limit_that_lets_nobody_pass_is_given_up(local_braze: Any) -> None:
    local_braze.control.configure(rate_headers="none")
    local_braze.control.fault("status", status=429, headers={"X-RateLimit-Reset": "0.01"}, times=None)
    patience = Patience(tries=4, first_wait=0.01, windows=5)
    work = Import(local_braze.url, 30, max_in_flight=1, patience=patience)

    with pytest.raises(BrazeUnavailableError, match=r"5 attempts \(HTTP 429"):
        work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert (accepted, rejected, unknown) == (set(), {}, set())
    assert rest == set(work.users.values())
    assert work.journal.counters.data_points == 0


def test_a_request_that_others_keep_out_of_the_window_is_not_given_up(local_braze: Any) -> None:
    refusals, permits = 0, threading.Semaphore(0)

    def answer(body: str) -> Answer | None:
        nonlocal refusals
        if '"u5er-00001"' not in body:
            permits.acquire(timeout=30)
            return None
        if refusals == 8:
            permits.release(100)
            return None
        refusals += 1
        before = work.journal.counters.accepted
        permits.release()
        wait_for(lambda: work.journal.counters.accepted > before)
        return 429, {"message": "Rate limited"}, {"X-RateLimit-Reset": "0.01"}

    with front(answer, local_braze.url) as url:
        work = Import(url, 200, max_in_flight=2, patience=Patience(tries=4, first_wait=0.01, windows=3))
        work.run()

    assert work.verdicts()[0] == set(work.users.values())
    assert work.journal.counters.retries == 8


# -- given up -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "sent_is_doubtful"),
    [
        pytest.param({"kind": "status", "status": 500}, True, id="500"),
        pytest.param({"kind": "status", "status": 503, "apply": True}, True, id="503 that applies"),
        pytest.param({"kind": "drop_before"}, True, id="dropped before"),
        pytest.param({"kind": "drop_after"}, True, id="dropped after"),
        pytest.param({"kind": "status", "status": 423}, False, id="423 applies nothing"),
    ],
)
def test_a_lasting_trouble_is_given_up_and_nothing_is_called_accepted(
    local_braze: Any, rule: dict[str, Any], sent_is_doubtful: bool
) -> None:
    local_braze.control.fault(**rule, times=None)
    work = Import(local_braze.url, 200, max_in_flight=1)

    with pytest.raises(_expected(rule), match="4 attempts"):
        work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert (accepted, rejected) == (set(), {})
    assert unknown == (work.of_batch(1) if sent_is_doubtful else set())
    assert rest == set(work.users.values()) - unknown
    assert in_braze(local_braze) <= unknown
    assert posted(local_braze) == 4
    assert work.journal.counters.retries == 3
    assert work.journal.counters.data_points == (40 if sent_is_doubtful else 0)


def _expected(rule: dict[str, Any]) -> type[Exception]:
    # Whatever drops every connection has never answered: it need not be Braze at all.
    return BrazeEndpointError if rule["kind"].startswith("drop") else BrazeUnavailableError


def test_an_outage_in_the_middle_stops_the_import_and_keeps_what_was_accepted(local_braze: Any) -> None:
    local_braze.control.fault("status", status=502, after=2, times=None)
    work = Import(local_braze.url, 60, max_in_flight=6)

    with pytest.raises(BrazeUnavailableError):
        work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert accepted == in_braze(local_braze)
    assert len(accepted) == 20
    assert unknown
    assert unknown | rest == set(work.users.values()) - accepted
    assert rejected == {}


def wait_for(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_a_poisoned_request_becomes_unknown_although_all_others_have_long_passed(
    local_braze: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    def answer(body: str) -> Answer | None:
        nonlocal tries
        if '"u5er-00120"' in body:
            # Passes after the first failure of the poisoned one, so it shows that Braze works.
            wait_for(lambda: tries >= 2)
        if '"u5er-00025"' not in body:
            return None
        tries += 1
        if tries == 3:
            wait_for(lambda: work.journal.counters.accepted == 110)
        return 500, {"message": "Internal Server Error"}, {}

    with front(answer, local_braze.url) as url, caplog.at_level(logging.DEBUG):
        # Room for both that wait, however often failures that lie seconds apart halve it.
        work = Import(url, 120, max_in_flight=48)
        work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert unknown == work.of_batch(3)
    assert accepted == set(work.users.values()) - unknown == in_braze(local_braze)
    assert (rejected, rest) == ({}, set())
    assert tries == QUICK.tries
    assert "A request of 10 users got no certain answer (HTTP 500: Internal Server Error)" in caplog.text
    assert "u5er" not in caplog.text


def test_two_poisoned_requests_become_unknown_while_others_pass(local_braze: Any) -> None:
    tries = Counter[str]()
    first, second = '"u5er-00025"', '"u5er-00055"'

    def answer(body: str) -> Answer | None:
        if '"u5er-00120"' in body:
            # Passes while both wait for their last attempt.
            wait_for(lambda: tries[first] == tries[second] == QUICK.tries)
        poison = next((user for user in (first, second) if user in body), None)
        if poison is None:
            return None
        tries[poison] += 1
        if tries[poison] == QUICK.tries:
            wait_for(lambda: work.journal.counters.accepted == 100)
            # One after the other, so that the other one has failed since anybody was accepted.
            wait_for(lambda: poison == first or work.journal.counters.unknown == 10)
        return 500, {"message": "Internal Server Error"}, {}

    with front(answer, local_braze.url) as url:
        # Room for all that wait, however often failures that lie seconds apart halve it.
        work = Import(url, 120, max_in_flight=48)
        work.run()

    accepted, _, unknown, _ = work.verdicts()
    assert unknown == work.of_batch(3, 6)
    assert accepted == set(work.users.values()) - unknown == in_braze(local_braze)


def test_an_outage_is_none_of_single_requests_although_the_last_success_came_late(local_braze: Any) -> None:
    tries = Counter[str]()

    def answer(body: str) -> Answer | None:
        if '"u5er-00001"' in body:
            wait_for(lambda: tries['"u5er-00011"'] >= 2 and tries['"u5er-00021"'] >= 2)
            return None
        user = next(user for user in ('"u5er-00011"', '"u5er-00021"') if user in body)
        tries[user] += 1
        if tries[user] == 3:
            wait_for(lambda: work.journal.counters.accepted == 10)
        return 502, {"message": "Bad Gateway"}, {}

    with front(answer, local_braze.url) as url:
        work = Import(url, 30, max_in_flight=3)
        with pytest.raises(BrazeUnavailableError):
            work.run()

    accepted, _, unknown, rest = work.verdicts()
    assert accepted == work.of_batch(1)
    assert unknown == work.of_batch(2, 3)
    assert not rest


def test_the_last_request_failing_alone_may_be_an_outage_so_the_import_is_to_be_tried_again(
    local_braze: Any,
) -> None:
    local_braze.control.fault("status", status=500, after=2, times=None)
    work = Import(local_braze.url, 30, max_in_flight=1)

    with pytest.raises(BrazeUnavailableError):
        work.run()

    accepted, _, unknown, rest = work.verdicts()
    assert accepted == work.of_batch(1, 2)
    assert unknown == work.of_batch(3)
    assert not rest


# -- stopped at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_in_flight", [1, 4])
def test_a_wrong_key_stops_at_once_and_is_not_shown(
    local_braze: Any, max_in_flight: int, caplog: pytest.LogCaptureFixture
) -> None:
    work = Import(local_braze.url, 300, rest_key=WRONG_KEY, max_in_flight=max_in_flight)

    with caplog.at_level(logging.DEBUG), pytest.raises(BrazeAuthError) as caught:
        work.run()

    assert caught.value.status == 401
    assert "Invalid API key: ***" in str(caught.value)
    assert "instance it was made for" in str(caught.value)
    assert "5ecret" not in everything_in(caught.value) + caplog.text
    assert posted(local_braze) <= max_in_flight
    assert work.verdicts()[:2] == (set(), {})
    if max_in_flight == 1:
        assert work.verdicts()[2] == set()
        assert work.journal.counters.data_points == 0


@pytest.mark.parametrize(("bulk", "permission"), [(False, "users.track"), (True, "users.track.bulk")])
def test_a_missing_permission_is_named(local_braze: Any, bulk: bool, permission: str) -> None:
    local_braze.control.configure(keys={KEY: ["users.export.ids"]})
    work = Import(local_braze.url, 30, bulk=bulk, max_in_flight=1)

    with pytest.raises(BrazeAuthError, match=rf"lacks the permission {permission} at") as caught:
        work.run()

    assert caught.value.status == 403
    assert work.verdicts() == (set(), {}, set(), set(work.users.values()))
    assert work.journal.counters.requests == 1


def test_a_host_that_is_not_braze_stops_at_once(local_braze: Any) -> None:
    work = Import(local_braze.url + "/nowhere", 30, max_in_flight=1)

    with pytest.raises(BrazeEndpointError, match="does not answer like a Braze REST endpoint") as caught:
        work.run()

    assert caught.value.status == 404
    assert work.settings.host in str(caught.value)
    assert work.verdicts() == (set(), {}, set(), set(work.users.values()))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(local_braze: Any, status: int) -> None:
    with front(lambda _: (status, {}, {"Location": local_braze.url + "/users/track"})) as url:
        work = Import(url, 30, max_in_flight=1)
        with pytest.raises(BrazeEndpointError, match=f"HTTP {status}"):
            work.run()

    assert posted(local_braze) == 0
    assert work.verdicts() == (set(), {}, set(), set(work.users.values()))


def test_where_nobody_listens_nothing_was_sent_and_nothing_is_in_doubt() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        work = Import(f"http://127.0.0.1:{taken.getsockname()[1]}", 300)

        with pytest.raises(
            BrazeEndpointError, match=r"4 attempts \(no connection: .*Check the host"
        ) as caught:
            work.run()

    assert caught.value.status is None
    assert work.verdicts() == (set(), {}, set(), set(work.users.values()))
    assert (work.journal.counters.requests, work.journal.counters.data_points) == (0, 0)


def test_a_host_that_never_lets_us_in_was_sent_nothing_either() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        # TLS is never answered, so no request ever goes out.
        work = Import(f"https://127.0.0.1:{silent.getsockname()[1]}", 300, timeout=0.05, max_in_flight=2)

        with pytest.raises(BrazeEndpointError, match=r"no answer within 0\.05 s"):
            work.run()

    assert work.verdicts() == (set(), {}, set(), set(work.users.values()))
    assert work.journal.counters.data_points == 0


def test_a_status_nobody_expects_stops_at_once(local_braze: Any) -> None:
    local_braze.control.fault("status", status=415, times=None)
    work = Import(local_braze.url, 30, max_in_flight=1)

    with pytest.raises(BrazeRequestError, match="HTTP 415"):
        work.run()

    assert posted(local_braze) == 1
    assert work.verdicts() == (set(), {}, set(), set(work.users.values()))


# -- refused as a whole ---------------------------------------------------------------------------------------


def test_a_request_with_too_many_objects_is_halved(
    local_braze: Any, caplog: pytest.LogCaptureFixture
) -> None:
    local_braze.control.configure(profile="mau")
    work = Import(local_braze.url, 150, size=75)
    work.run()

    assert work.verdicts()[0] == set(work.users.values()) == in_braze(local_braze)
    assert posted(local_braze) == 6
    counters = work.journal.counters
    assert (counters.retries, counters.data_points) == (0, 150)
    assert caplog.text.count("lower max_objects_per_request") == 1


def test_a_request_of_too_many_bytes_is_halved_down_to_the_object_that_is_too_large(local_braze: Any) -> None:
    work = Import(local_braze.url, 0)
    huge, small = b'{"external_id":"%b","note":"%b"}', b'{"external_id":"%b","in_cohort":true}'
    objects = [small % b"a", small % b"b", huge % (b"c", b"x" * 4_100_000), small % b"d", small % b"e"]

    async def batches() -> AsyncIterator[Batch]:
        yield Batch(101, len(objects), b",".join(objects))

    asyncio.run(deliver(work.delivery, batches()))

    entries = work.journal.take()
    assert entries.settled == (Range(101, 105),)
    assert entries.rejected == {103: "Request Entity Too Large"}
    assert in_braze(local_braze) == {"a", "b", "d", "e"}
    assert work.journal.counters.data_points == 4


def test_halving_goes_down_to_the_one_that_is_refused(local_braze: Any) -> None:
    bad = {"u5er-00003", "u5er-00017"}

    def answer(body: str) -> Answer | None:
        found = any(f'"{user}"' in body for user in bad)
        return (400, {"message": "Bad Request: odd"}, {}) if found else None

    with front(answer, local_braze.url) as url:
        work = Import(url, 20)
        work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert rejected == dict.fromkeys(bad, "Bad Request: odd")
    assert accepted == set(work.users.values()) - bad == in_braze(local_braze)
    assert (unknown, rest) == (set(), set())


def test_a_systemic_refusal_stops_after_twenty_fruitless_requests(local_braze: Any) -> None:
    local_braze.control.fault("status", status=400, message="Bad Request", times=None)
    work = Import(local_braze.url, 1000, max_in_flight=1)

    with pytest.raises(BrazeRequestError, match=r"accepted nothing of the first 20 requests \(HTTP 400"):
        work.run()

    # Whatever answers so is not doing Braze's work: nobody counts as rejected, and a later try begins anew.
    accepted, rejected, unknown, rest = work.verdicts()
    assert (accepted, rejected, unknown) == (set(), {}, set())
    assert len(rest) == 1000


@pytest.mark.parametrize(
    ("users", "refusals"), [(1, 1), (4, 3)], ids=["nobody-accepted", "others-afterwards"]
)
def test_a_few_refusals_are_believed_at_a_good_end(local_braze: Any, users: int, refusals: int) -> None:
    local_braze.control.fault("status", status=400, message="Bad Request", times=refusals)
    work = Import(local_braze.url, users, max_in_flight=1)

    work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert (len(accepted), unknown, rest) == (users - 1, set(), set())
    assert list(rejected.values()) == ["Bad Request"]


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        pytest.param({"kind": "malformed"}, "unknown", id="malformed"),
        pytest.param({"kind": "non_success_message"}, "unknown", id="another message"),
        pytest.param(
            {
                "kind": "status",
                "status": 201,
                "body": {
                    "message": "success",
                    "errors": [{"type": "no", "input_array": "attributes", "index": i} for i in range(10)],
                },
            },
            "rejected",
            id="a 2xx that rejects everybody",
        ),
    ],
)
def test_whatever_accepts_nobody_is_not_braze_and_its_verdicts_are_noted_once(
    local_braze: Any, rule: dict[str, Any], verdict: str
) -> None:
    local_braze.control.fault(**rule, times=None)
    work = Import(local_braze.url, 1000, max_in_flight=1)

    with pytest.raises(BrazeRequestError, match="accepted nothing of the first 20 requests"):
        work.run()

    accepted, rejected, unknown, _ = work.verdicts()
    first = work.of_batch(*range(1, 21))
    assert accepted == set()
    assert (set(rejected), unknown) == ((first, set()) if verdict == "rejected" else (set(), first))


def test_twenty_refusals_after_a_success_do_not_stop(local_braze: Any) -> None:
    work = Import(local_braze.url, 300, max_in_flight=1)
    bad = set(work.users.values()) - work.of_batch(1)
    local_braze.control.fault("reject_ids", ids=sorted(bad), message="no")
    work.run()

    assert work.verdicts()[0] == work.of_batch(1)


# -- doubts ---------------------------------------------------------------------------------------------------


def test_cancelled_in_flight_only_what_may_have_been_applied_is_in_doubt(local_braze: Any) -> None:
    local_braze.control.fault("delay", seconds=600, after=2, times=None)
    work = Import(local_braze.url, 100, max_in_flight=2)
    work.run_until(lambda: posted(local_braze) == 4 and work.journal.counters.requests == 2)

    accepted, rejected, unknown, rest = work.verdicts()
    assert accepted == work.of_batch(1, 2)
    assert unknown == work.of_batch(3, 4) == in_braze(local_braze) - accepted
    assert rest == set(work.users.values()) - work.of_batch(1, 2, 3, 4)
    assert rejected == {}
    assert work.journal.counters.data_points == 40


@pytest.mark.parametrize(
    ("rule", "doubtful"),
    [
        pytest.param({"kind": "status", "status": 503}, True, id="after a 503"),
        pytest.param({"kind": "drop_after"}, True, id="after a drop"),
        pytest.param({"kind": "status", "status": 423}, False, id="after a 423"),
        pytest.param(
            {"kind": "status", "status": 429, "headers": {"X-RateLimit-Reset": "600"}},
            False,
            id="after a 429",
        ),
    ],
)
def test_cancelled_while_waiting_to_try_again_the_doubt_stays(
    local_braze: Any, rule: dict[str, Any], doubtful: bool
) -> None:
    local_braze.control.configure(rate_headers="none")
    local_braze.control.fault(**rule)
    work = Import(local_braze.url, 100, max_in_flight=1, patience=Patience(first_wait=600, longest_wait=600))
    dropped = rule["kind"] == "drop_after"
    work.run_until(
        lambda: work.journal.counters.data_points == 10 if dropped else work.journal.counters.requests == 1
    )

    accepted, rejected, unknown, rest = work.verdicts()
    assert (accepted, rejected) == (set(), {})
    assert unknown == (work.of_batch(1) if doubtful else set())
    assert rest == set(work.users.values()) - unknown


def test_the_doubt_of_a_request_goes_with_both_its_halves(local_braze: Any) -> None:
    local_braze.control.fault("drop_after")
    local_braze.control.fault("status", status=400)
    local_braze.control.fault("status", status=401, times=None)
    work = Import(local_braze.url, 30, max_in_flight=1)

    with pytest.raises(BrazeAuthError):
        work.run()

    accepted, rejected, unknown, rest = work.verdicts()
    assert unknown == work.of_batch(1) == in_braze(local_braze)
    assert (accepted, rejected) == (set(), {})
    assert rest == work.of_batch(2, 3)


def test_halves_of_what_was_never_applied_are_not_in_doubt(local_braze: Any) -> None:
    local_braze.control.fault("status", status=400)
    local_braze.control.fault("status", status=401, times=None)
    work = Import(local_braze.url, 30, max_in_flight=1)

    with pytest.raises(BrazeAuthError):
        work.run()

    assert work.verdicts() == (set(), {}, set(), set(work.users.values()))


def test_a_doubt_ends_with_a_verdict(local_braze: Any) -> None:
    work = Import(local_braze.url, 10, max_in_flight=1)
    local_braze.control.fault("reject_ids", ids=[work.users[7]], message="no")
    local_braze.control.fault("drop_after")
    work.run()

    accepted, rejected, unknown, _ = work.verdicts()
    assert rejected == {work.users[7]: "no"}
    assert accepted == set(work.users.values()) - {work.users[7]}
    assert not unknown


def test_the_readers_own_error_comes_out_as_it_is(local_braze: Any) -> None:
    work = Import(local_braze.url, 20)

    async def broken() -> AsyncIterator[Batch]:
        async for batch in work.batches():
            yield batch
        raise PlanDamagedError("holes")

    with pytest.raises(PlanDamagedError, match="holes"):
        asyncio.run(deliver(work.delivery, broken()))

    accepted, rejected, unknown, rest = work.verdicts()
    assert rejected == {}
    assert accepted | unknown | rest == set(work.users.values())
    assert accepted <= in_braze(local_braze)


# -- how much at once -----------------------------------------------------------------------------------------


def test_no_more_requests_are_under_way_than_allowed() -> None:
    # A service of its own: what other tests left unanswered counts as under way.
    with LocalBraze(settings=WorkspaceSettings(latency_ms=100)) as service:
        work = Import(service.url, 120, max_in_flight=3)
        work.run()
        control = BrazeControl(service.url)
        most = control.counters().most_in_flight
        control.close()

    assert most == 3
    assert work.verdicts()[0] == set(work.users.values())


def test_connections_are_kept(local_braze: Any) -> None:
    before = local_braze.control.counters().connections_accepted
    work = Import(local_braze.url, 400, max_in_flight=2)
    work.run()

    assert local_braze.control.counters().connections_accepted - before <= 2
    assert posted(local_braze) == 40


def test_the_reader_is_held_back_while_braze_is_slow(local_braze: Any) -> None:
    local_braze.control.fault("delay", seconds=600, times=None)
    work = Import(local_braze.url, 1000, max_in_flight=2)
    work.run_until(lambda: posted(local_braze) == 2)

    assert work.produced == 2


def test_our_own_rate_keeps_to_the_connections_limit(local_braze: Any) -> None:
    started = time.time()
    work = Import(local_braze.url, 120, max_in_flight=12, max_requests=6, per_seconds=0.5)
    work.run()

    assert work.verdicts()[0] == set(work.users.values())
    assert work.journal.counters.throttled_seconds > 0
    # Six in half a second, the first at once, the others spread over the rest: the twelfth is the eleventh of those.
    assert max(request.at for request in local_braze.control.requests()) - started > 11 * 0.1 - 0.01


def test_waits_grow_up_to_the_longest_and_never_vanish() -> None:
    patience = Patience(first_wait=1.0, longest_wait=8.0)

    for attempt, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (60, 8.0)):
        waits = {patience.wait(attempt) for _ in range(50)}
        assert longest / 2 <= min(waits) <= max(waits) <= longest
        assert len(waits) > 1


def test_halves_hold_the_same_objects_in_order() -> None:
    batch = Batch(11, 3, b'{"email":"a,\\"b"},{"email":"b"},{"email":"\xc3\xa9"}', doubtful=True)

    first, second = batch.halves()

    assert (first.range, first.objects) == (Range(11, 11), b'{"email":"a,\\"b"}')
    assert (second.range, second.objects) == (Range(12, 13), b'{"email":"b"},{"email":"\xc3\xa9"}')
    assert first.doubtful
    assert second.doubtful
