"""Delivery to a partner cohort: keys in the body and nowhere else, and a brake that the caller may pull."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.braze.engine import Batch, Delivery, Patience
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.frames import IdentifierWriter, cohort_frame, track_frame
from airflow_provider_kubit_braze.core.journal import Journal
from airflow_provider_kubit_braze.core.ranges import Range
from airflow_provider_kubit_braze.exceptions import BrazeAuthError, LeaseLostError
from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_http import LocalBraze
from airflow_provider_kubit_braze.sandbox.braze_settings import (
    DEFAULT_CLIENT_SECRET,
    DEFAULT_PARTNER_API_KEY,
    DEFAULT_REST_KEY,
    WorkspaceSettings,
)
from tests.braze.conftest import QuietHandler, cut_up, deliver, everything_in, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

PATH = "/partners/kubit/cohorts/users"
KEYS = {"partner_api_key": DEFAULT_PARTNER_API_KEY, "client_secret": DEFAULT_CLIENT_SECRET}


class Import:
    """The delivery of users ``u1`` to ``u<users>`` into a partner cohort, or out of it, ten in a request."""

    def __init__(
        self,
        url: str,
        users: int,
        *,
        leave: bool = False,
        track: bool = False,
        permit: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
        **settings: Any,
    ) -> None:
        self.users = [f"u{n}" for n in range(1, users + 1)]
        self.leave = leave
        self.journal = Journal()
        self.reached: Callable[[], bool] = lambda: True
        given = BrazeSettings(
            **{"base_url": url, "rest_key": DEFAULT_REST_KEY, "workspace": "w", **KEYS, **settings}
        )
        frame = cohort_frame(given, "kubit", "vips", "external_id", leave=leave)
        self.delivery = Delivery(
            settings=given,
            journal=self.journal,
            frame=track_frame(given) if track else frame,
            patience=patience or Patience(tries=4, first_wait=0.01, longest_wait=0.05),
            permit=permit,
        )

    async def batches(self) -> AsyncIterator[Batch]:
        wrapping = IdentifierWriter().wrapping("leave" if self.leave else "enter", "external_id")
        for batch in cut_up(self.users, wrapping, 10):
            if batch.range.last == len(self.users):
                while not await asyncio.to_thread(self.reached):
                    await asyncio.sleep(0.002)
            yield batch

    def run(self) -> None:
        asyncio.run(deliver(self.delivery, self.batches()))

    def verdicts(self) -> tuple[Sequence[Range], dict[int, str], Sequence[Range]]:
        """Settled, rejected with its words, uncertain."""
        entries = self.journal.take()
        return list(entries.settled), dict(entries.rejected), list(self.journal.unknown)


@contextmanager
def recorder(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[tuple[str, list[tuple[Any, str, str]]]]:
    """A server that answers as it is told, and keeps headers, path and body of what it got."""
    seen: list[tuple[Any, str, str]] = []

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            seen.append((self.headers, self.path, body))
            status, content = answer(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with serving(Handler) as address:
        yield f"http://{address}", seen


def posted(braze: Any) -> int:
    return int(braze.control.counters().requests.get(PATH, 0))


def test_entrants_get_in_and_leavers_out(local_braze: Any) -> None:
    local_braze.control.add_users([f"u{n}" for n in range(1, 26)])
    work = Import(local_braze.url, 25)
    work.run()
    local_braze.control.settle()

    assert work.verdicts() == ([Range(1, 25)], {}, [])
    assert local_braze.control.members("vips") == set(work.users)
    counters = work.journal.counters
    assert (counters.requests, counters.retries, counters.data_points) == (3, 0, 25)

    Import(local_braze.url, 12, leave=True).run()
    local_braze.control.settle()
    assert local_braze.control.members("vips") == set(work.users[12:])


def test_the_keys_are_in_the_body_and_nowhere_else() -> None:
    with recorder(lambda _: (200, b"{}")) as (url, seen):
        Import(url, 1).run()
        Import(url, 1, track=True).run()

    (headers, path, body), (track_headers, *_) = seen
    assert (path, json.loads(body)) == (
        PATH,
        {**KEYS, "cohort_id": "vips", "cohort_changes": [{"user_ids": ["u1"]}]},
    )
    assert headers["Authorization"] is None
    assert track_headers["Authorization"] == f"Bearer {DEFAULT_REST_KEY}"
    shown = str(headers) + path
    assert not [key for key in (*KEYS.values(), DEFAULT_REST_KEY) if key in shown]
    assert DEFAULT_REST_KEY not in body


@pytest.mark.parametrize("body", [b"{}", b"", b'{"message":"success"}'], ids=["object", "empty", "success"])
def test_a_success_without_words_accepts_everybody(body: bytes) -> None:
    with recorder(lambda _: (201, body)) as (url, _):
        work = Import(url, 10)
        work.run()

    assert work.verdicts() == ([Range(1, 10)], {}, [])


def test_a_web_page_accepts_nobody() -> None:
    with recorder(lambda _: (200, b"<html>Log in</html>")) as (url, seen):
        work = Import(url, 10)
        work.run()

    assert work.verdicts() == ([], {}, [Range(1, 10)])
    assert len(seen) == 1


def test_a_locked_cohort_is_tried_again_and_costs_nothing(local_braze: Any) -> None:
    local_braze.control.add_users([f"u{n}" for n in range(1, 11)])
    local_braze.control.fault("status", status=423, message="Resource locked", times=2)
    work = Import(local_braze.url, 10)
    work.run()
    local_braze.control.settle()

    assert work.verdicts() == ([Range(1, 10)], {}, [])
    assert local_braze.control.members("vips") == set(work.users)
    counters = work.journal.counters
    assert (counters.requests, counters.retries, counters.data_points) == (3, 2, 10)


def test_halves_of_a_refused_change_are_changes_too() -> None:
    def answer(body: str) -> tuple[int, bytes]:
        return (400, b'{"message":"odd"}') if '"u7"' in body else (200, b"{}")

    with recorder(answer) as (url, seen):
        work = Import(url, 10, leave=True)
        work.run()

    assert work.verdicts() == ([Range(1, 10)], {7: "odd"}, [])
    changes = [json.loads(body)["cohort_changes"] for _, _, body in seen]
    assert all(change["should_remove"] is True for (change,) in changes)


@pytest.mark.parametrize(
    ("settings", "secrets"),
    [
        pytest.param({"client_secret": "wr0ng-secret"}, None, id="wrong-data-import-key"),
        pytest.param({"partner_api_key": "wr0ng-partner-key"}, None, id="wrong-partner-key"),
        # Braze's words quote the key.
        pytest.param({}, {DEFAULT_CLIENT_SECRET: ["another"]}, id="another-partners-key"),
    ],
)
def test_refused_keys_are_named_and_not_shown(
    local_braze: Any,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    secrets: dict[str, list[str]] | None,
) -> None:
    caplog.set_level("DEBUG")
    if secrets:
        local_braze.control.configure(client_secrets=secrets)
    work = Import(local_braze.url, 50, max_in_flight=1, **settings)

    with pytest.raises(BrazeAuthError, match=r"HTTP 401.*Check client_secret .*, partner_api_key") as caught:
        work.run()

    assert work.verdicts() == ([], {}, [])
    shown = everything_in(caught.value) + caplog.text
    assert not [key for key in (*KEYS.values(), *settings.values(), DEFAULT_REST_KEY) if key in shown]


def test_no_more_than_four_requests_about_a_cohort_are_under_way() -> None:
    # A service of its own: what other tests left unanswered counts as under way.
    with LocalBraze(settings=WorkspaceSettings(latency_ms=100)) as service:
        work = Import(service.url, 120, max_in_flight=400)
        work.run()
        control = BrazeControl(service.url)
        most = control.counters().most_in_flight
        control.close()

    assert most == 4
    assert work.verdicts() == ([Range(1, 120)], {}, [])


# -- the brake ------------------------------------------------------------------------------------------------


class Brake:
    """Lets requests out until it is pulled."""

    def __init__(self) -> None:
        self.pulled = False
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        if self.pulled:
            raise LeaseLostError("somebody else")


def test_every_request_is_asked_for() -> None:
    brake = Brake()
    with recorder(lambda _: (423, b"{}") if brake.asked == 1 else (200, b"{}")) as (url, seen):
        Import(url, 30, permit=brake, max_in_flight=1).run()

    assert brake.asked == len(seen) == 4


def test_nothing_is_sent_and_nothing_in_doubt_when_it_is_pulled_before(local_braze: Any) -> None:
    brake = Brake()
    brake.pulled = True
    work = Import(local_braze.url, 100, permit=brake)

    with pytest.raises(LeaseLostError, match="somebody else"):
        work.run()

    assert posted(local_braze) == 0
    assert work.verdicts() == ([], {}, [])


def test_what_was_under_way_when_it_is_pulled_is_in_doubt_and_the_rest_was_never_sent(
    local_braze: Any,
) -> None:
    brake = Brake()
    work = Import(local_braze.url, 40, permit=brake, max_in_flight=3)
    local_braze.control.fault("delay", seconds=600, after=1, times=None)

    def pull() -> bool:
        brake.pulled = posted(local_braze) == 3 and work.journal.counters.requests == 1
        return brake.pulled

    # The last request is made ready when one was answered and two are under way.
    work.reached = pull
    with pytest.raises(LeaseLostError, match="somebody else"):
        work.run()

    settled, rejected, unknown = work.verdicts()
    assert posted(local_braze) == 3
    assert (settled, rejected) == ([Range(1, 10)], {})
    assert unknown == [Range(11, 30)]
    assert work.journal.counters.data_points == 30


@pytest.mark.parametrize(
    ("status", "unknown"),
    [pytest.param(503, [Range(1, 10)], id="after-a-503"), pytest.param(423, [], id="after-a-423")],
)
def test_pulled_before_another_attempt_it_leaves_the_doubt_of_the_last(
    status: int, unknown: list[Range]
) -> None:
    brake = Brake()

    def answer(_: str) -> tuple[int, bytes]:
        brake.pulled = True
        return status, b"{}"

    with recorder(answer) as (url, seen):
        work = Import(url, 10, permit=brake)
        with pytest.raises(LeaseLostError):
            work.run()

    assert len(seen) == 1
    assert work.verdicts() == ([], {}, unknown)
