from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.errors import ProgrammingError

from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.exceptions import CohortBusyError, ImportInterruptedError, LeaseLostError
from airflow_provider_kubit_braze.warehouse import lease as lease_module
from airflow_provider_kubit_braze.warehouse.lease import Lease
from airflow_provider_kubit_braze.warehouse.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

ME = RunIdentity(dag_id="dag", run_id="run", try_number=1)
OTHER = RunIdentity(dag_id="other dag", run_id="another run", try_number=1)


@pytest.fixture
def lease_of(warehouse: Any, kubit_braze_sandbox: Sandbox) -> Iterator[Callable[..., Lease]]:
    """Make leases of the warehouse's cohort; their keepers end with the test."""
    made: list[Lease] = []

    def make(identity: RunIdentity = ME, *, seconds: float = 600, connect: Any = None, **more: Any) -> Lease:
        made.append(
            Lease(
                connect or (lambda: Session(kubit_braze_sandbox.connect(), tag={})),
                warehouse.tables,
                warehouse.key,
                identity,
                seconds=seconds,
                **more,
            )
        )
        return made[-1]

    yield make
    for lease in made:
        lease.release(warehouse.session)


def row(warehouse: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = warehouse.session.row(
        "SELECT OWNER IS NULL, DAG_ID, RUN_ID, TRY_NUMBER, EXPIRES_AT > SYSDATE() "
        f"FROM {warehouse.tables.lease}"
    )
    return found


def expire(warehouse: Any) -> None:
    warehouse.session.execute(
        f"UPDATE {warehouse.tables.lease} SET EXPIRES_AT = DATEADD(second, -1, SYSDATE())"
    )


def test_a_free_lease_is_taken_and_given_back(warehouse: Any, lease_of: Callable[..., Lease]) -> None:
    lease = lease_of()

    lease.take(warehouse.session)
    assert row(warehouse) == (False, "dag", "run", 1, True)
    lease.check()

    lease.release(warehouse.session)
    assert row(warehouse)[0] is True
    lease_of(OTHER).take(warehouse.session)
    assert row(warehouse) == (False, "other dag", "another run", 1, True)


def test_cohorts_and_workspaces_do_not_keep_each_other_waiting(
    warehouse: Any, lease_of: Callable[..., Lease]
) -> None:
    lease_of().take(warehouse.session)
    for key in (("workspace", "other"), ("other", "vips")):
        other = Lease(lambda: warehouse.session, warehouse.tables, key, OTHER, seconds=600)
        other.take(warehouse.session)
        other.release(warehouse.session)

    count = f"SELECT COUNT(*) FROM {warehouse.tables.lease}"
    assert warehouse.session.row(count) == (3,)


def test_a_living_owner_is_recognised_by_its_renewal(
    warehouse: Any, lease_of: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_LOOK", 0.01)
    first = lease_of(OTHER)
    first.take(warehouse.session)
    looks = []
    holder = Lease._holder

    def look(self: Lease, session: Session) -> Any:
        looks.append(holder(self, session))
        if len(looks) == 2:
            first.fence(session)
        return looks[-1]

    monkeypatch.setattr(Lease, "_holder", look)

    with pytest.raises(
        CohortBusyError, match=r"'vips' is being imported by another task \(DAG other dag, run another"
    ):
        lease_of().take(warehouse.session)

    assert len(looks) == 3
    first.fence(warehouse.session)


def test_a_dead_owners_lease_is_taken_over_when_it_expires_and_the_log_says_so(
    warehouse: Any,
    lease_of: Callable[..., Lease],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(lease_module, "_LOOK", 0.01)
    dead = lease_of(OTHER)
    dead.take(warehouse.session)
    holder = Lease._holder
    looks = []

    def look(self: Lease, session: Session) -> Any:
        looks.append(holder(self, session))
        if len(looks) == 3:
            expire(warehouse)
        return looks[-1]

    monkeypatch.setattr(Lease, "_holder", look)
    lease_of().take(warehouse.session)

    assert len(looks) == 3
    assert row(warehouse) == (False, "dag", "run", 1, True)
    assert (
        "Another task holds this cohort (DAG other dag, run another run, task import_to_braze, try 1)."
        in caplog.text
    )
    assert "Took over this cohort's lease from DAG other dag" in caplog.text
    with pytest.raises(LeaseLostError, match="Another task imports cohort 'vips' by now"):
        dead.fence(warehouse.session)


@pytest.mark.parametrize(
    ("mine", "at_once"),
    [
        pytest.param({"try_number": 2}, True, id="a-later-try-of-the-task"),
        pytest.param({"try_number": 1}, False, id="the-same-try-elsewhere"),
        pytest.param({"try_number": 2, "run_id": "next run"}, False, id="another-run"),
        pytest.param({"try_number": 2, "map_index": 1}, False, id="another-mapped-task"),
    ],
)
def test_only_a_later_try_of_the_same_task_need_not_wait(
    warehouse: Any,
    lease_of: Callable[..., Lease],
    caplog: pytest.LogCaptureFixture,
    mine: dict[str, Any],
    at_once: bool,
) -> None:
    first = lease_of()
    first.take(warehouse.session)
    stop = threading.Event()
    stop.set()
    later = lease_of(RunIdentity(**{"dag_id": "dag", "run_id": "run", **mine}), stop=stop)

    if not at_once:
        # It would wait, and is told to end instead.
        with pytest.raises(ImportInterruptedError, match="while it waited for another import"):
            later.take(warehouse.session)
        first.fence(warehouse.session)
        return
    later.take(warehouse.session)
    assert "is an earlier try of this task" in caplog.text
    with pytest.raises(LeaseLostError):
        first.fence(warehouse.session)
    with pytest.raises(LeaseLostError):
        first.look(warehouse.session)
    with pytest.raises(LeaseLostError):
        first.check()
    later.look(warehouse.session)


def test_what_is_fenced_off_changes_nothing(warehouse: Any, lease_of: Callable[..., Lease]) -> None:
    first = lease_of()
    first.take(warehouse.session)
    lease_of(RunIdentity(dag_id="dag", run_id="run", try_number=2)).take(warehouse.session)

    def late() -> None:
        warehouse.stay("late")
        first.fence(warehouse.session)

    with pytest.raises(LeaseLostError):
        warehouse.session.transact(late)

    assert warehouse.stays() == []


def test_giving_back_a_lost_lease_leaves_its_new_owner_alone(
    warehouse: Any, lease_of: Callable[..., Lease]
) -> None:
    first, second = lease_of(), lease_of(RunIdentity(dag_id="dag", run_id="run", try_number=2))
    first.take(warehouse.session)
    second.take(warehouse.session)

    first.release(warehouse.session)

    second.fence(warehouse.session)


def test_a_long_import_renews_its_lease_over_a_session_of_its_own(
    warehouse: Any, lease_of: Callable[..., Lease], kubit_braze_sandbox: Sandbox
) -> None:
    opened = threading.Event()

    def connect() -> Session:
        opened.set()
        return Session(kubit_braze_sandbox.connect(), tag={})

    lease = lease_of(seconds=2, connect=connect)
    lease.take(warehouse.session)
    sql = f"SELECT EXPIRES_AT FROM {warehouse.tables.lease}"
    (before,) = warehouse.session.row(sql)

    assert opened.wait(60)
    seen = (before,)
    for _ in range(600):
        seen = warehouse.session.row(sql)
        if seen != (before,):
            break
        threading.Event().wait(0.05)
    assert seen > (before,)


def test_a_short_import_needs_no_session_for_it(warehouse: Any, lease_of: Callable[..., Lease]) -> None:
    def connect() -> Session:
        raise AssertionError("nobody needs this")

    lease = lease_of(connect=connect)
    lease.take(warehouse.session)
    lease.release(warehouse.session)


@pytest.mark.parametrize("clock", [0, 1], ids=["monotonic", "wall"])
def test_an_owner_that_cannot_renew_stops_before_its_lease_expires(
    warehouse: Any, lease_of: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch, clock: int
) -> None:
    lease = lease_of()
    now = [1000.0, 5000.0]
    monkeypatch.setattr(lease, "_now", lambda: tuple(now))
    lease.take(warehouse.session)

    now[clock] += 449
    lease.check()
    now[clock] += 2
    with pytest.raises(LeaseLostError, match="could not be renewed in time"):
        lease.check()
    lease.fence(warehouse.session)
    lease.check()


def test_whoever_is_told_to_end_sends_nothing_more(warehouse: Any, lease_of: Callable[..., Lease]) -> None:
    stop = threading.Event()
    lease = lease_of(stop=stop)
    lease.take(warehouse.session)
    lease.check()

    stop.set()

    with pytest.raises(ImportInterruptedError, match="a retry goes on from there"):
        lease.check()


def test_of_many_that_begin_at_once_one_gets_the_lease(
    warehouse: Any, lease_of: Callable[..., Lease], kubit_braze_sandbox: Sandbox
) -> None:
    """Nobody has made the cohort's row yet. Those who do not get it wait, and are told to end or that it is held."""
    stop, start = threading.Event(), threading.Barrier(6)
    won: list[int] = []

    def contend(number: int) -> None:
        session = Session(kubit_braze_sandbox.connect(), tag={})
        # Two may have made a row each and hold one of them until they expire.
        lease = lease_of(RunIdentity(dag_id="dag", run_id=f"run {number}"), stop=stop, seconds=10)
        start.wait()
        try:
            lease.take(session)
            won.append(number)
            stop.set()
        except (CohortBusyError, ImportInterruptedError):
            pass
        finally:
            session.close()

    threads = [threading.Thread(target=contend, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert len(won) == 1
    owners = warehouse.session.rows(
        f"SELECT DISTINCT RUN_ID FROM {warehouse.tables.lease} WHERE OWNER IS NOT NULL"
    )
    assert owners == [(f"run {won[0]}",)]


def test_whoever_sees_by_looking_that_the_lease_is_lost_sends_nothing_more(
    warehouse: Any, lease_of: Callable[..., Lease]
) -> None:
    first = lease_of()
    first.take(warehouse.session)
    lease_of(RunIdentity(dag_id="dag", run_id="run", try_number=2)).take(warehouse.session)
    first.check()

    with pytest.raises(LeaseLostError):
        first.look(warehouse.session)

    with pytest.raises(LeaseLostError, match="Another task imports cohort"):
        first.check()


class Renewals:
    """Stands in for the keeper's session: each statement ends as it is told, and the keeper is seen to close it."""

    def __init__(self, *ends: Exception | int) -> None:
        self.ends = list(ends)
        self.all_seen = threading.Event()
        self.closed = threading.Event()

    def execute(self, _sql: str, _params: Any = None) -> Any:
        end = self.ends.pop(0)
        if not self.ends:
            self.all_seen.set()
        if isinstance(end, Exception):
            raise end
        return SimpleNamespace(rowcount=end)

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        pytest.param(
            (OSError("no route"), 1), "could not be renewed, trying again: no route", id="tried-again"
        ),
        pytest.param((1, 0), "Another task imports cohort 'vips' by now", id="lost"),
    ],
)
def test_a_renewal_that_fails_is_tried_again_and_a_lost_lease_is_not(
    warehouse: Any,
    lease_of: Callable[..., Lease],
    caplog: pytest.LogCaptureFixture,
    ends: tuple[Exception | int, ...],
    words: str,
) -> None:
    renewals = Renewals(*ends)
    lease = lease_of(seconds=2, connect=lambda: renewals)
    lease.take(warehouse.session)

    assert renewals.all_seen.wait(60)
    if ends[-1] == 0:
        # The keeper ends by itself; nobody has told it to.
        assert renewals.closed.wait(60)
    lease.release(warehouse.session)

    assert renewals.closed.is_set()
    assert words in caplog.text


def test_an_import_ends_as_it_did_when_its_lease_cannot_be_given_back(
    warehouse: Any, lease_of: Callable[..., Lease], caplog: pytest.LogCaptureFixture
) -> None:
    lease = lease_of()
    lease.take(warehouse.session)

    class Gone:
        def execute(self, _sql: str, _params: Any = None) -> Any:
            raise OSError("the session is gone")

    lease.release(Gone())  # type: ignore[arg-type]

    assert "could not be given back and expires by itself: the session is gone" in caplog.text
    lease.fence(warehouse.session)


def test_what_keeps_the_lease_from_being_taken_is_told_at_once(
    warehouse: Any, lease_of: Callable[..., Lease]
) -> None:
    """Unlike another one's lock, which is waited for."""
    lease = lease_of()
    warehouse.session.execute(f"ALTER TABLE {warehouse.tables.lease} DROP COLUMN TAKEN_AT")

    with pytest.raises(ProgrammingError, match="TAKEN_AT"):
        lease.take(warehouse.session)


def test_of_two_rows_one_is_not_the_lease(warehouse: Any, lease_of: Callable[..., Lease]) -> None:
    """Two that met at the first import may both have made a row, and each may have got one."""
    lease_of(OTHER).take(warehouse.session)
    warehouse.put(warehouse.tables.lease, expires_at="2020-01-01 00:00:00")
    stop = threading.Event()
    stop.set()

    with pytest.raises(ImportInterruptedError):
        lease_of(stop=stop).take(warehouse.session)
