"""Two imports of one cohort at once, an orphan beside its retry, and imports that are told to end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.exceptions import (
    CohortBusyError,
    ImportInterruptedError,
    LeaseLostError,
)
from airflow_provider_kubit_braze.warehouse import lease as lease_module
from tests.importer.gate import Gate, gate_before

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = [f"u{n:04}" for n in range(600)]


class Background:
    """An import in a thread of its own."""

    def __init__(self, run: Any, *arguments: Any, **options: Any) -> None:
        self.end: Any = None
        self.error: BaseException | None = None

        def work() -> None:
            try:
                self.end = run(*arguments, **options)
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()


@pytest.fixture
def gate(world: Any) -> Iterator[Gate]:
    """An import of 600 users comes through it, in eight requests one after the other; it stands at the third."""
    world.people(*USERS)
    with gate_before(world.sandbox.braze_url, request=3) as found:
        yield found


def test_the_second_of_two_imports_ends_when_it_sees_that_the_first_is_alive(
    world: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_LOOK", 0.05)
    first = Background(world.run, "day 1", braze=gate.settings, lease_seconds=8)
    gate.reached()

    with pytest.raises(
        CohortBusyError, match=r"is being imported by another task \(DAG kubit_braze__vips, run day 1"
    ):
        world.run("by hand", lease_seconds=8)

    gate.open()
    first.join()
    assert first.error is None
    assert first.end.result.added == 600
    assert world.points == 600
    assert world.imported("day 2").outcome == "unchanged"


def test_a_rehearsal_need_not_wait_and_disturbs_nobody(world: Any, gate: Gate) -> None:
    first = Background(world.run, "day 1", braze=gate.settings)
    gate.reached()

    rehearsed = world.imported("look", dry_run=True)

    assert (rehearsed.outcome, rehearsed.added) == ("dry_run", 600)
    gate.open()
    first.join()
    assert (first.end.result.outcome, world.points) == ("success", 600)


def test_an_orphan_beside_its_retry_is_fenced_off_and_the_ledger_is_right(
    world: Any, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    orphan = Background(world.run, "day 1", 1, braze=gate.settings)
    gate.reached()

    # Airflow took the first try for dead.
    retry = world.imported("day 1", 2)
    gate.open()
    orphan.join()

    assert isinstance(orphan.error, LeaseLostError)
    assert "is an earlier try of this task" in caplog.text
    assert (retry.outcome, retry.users_imported) == ("success", 600)
    assert world.users() == world.cohort_in_braze() == set(USERS)
    assert world.rows("run", "OUTCOME, STATE, USERS_IMPORTED") == [("success", "closed", 600)]
    assert world.imported("day 2").outcome == "unchanged"


def test_an_orphan_that_wakes_up_after_the_next_import_writes_nothing(world: Any, gate: Gate) -> None:
    orphan = Background(world.run, "day 1", 1, braze=gate.settings, lease_seconds=6)
    gate.reached()
    keeper = next(t for t in threading.enumerate() if t.name == "kubit-braze-lease")
    assert keeper.is_alive()
    # Whoever expires the lease by hand does what a machine does that stood still.
    sql = f"UPDATE {world.tables.lease} SET EXPIRES_AT = DATEADD(second, -1, SYSDATE()), OWNER = 'nobody'"
    # The keeper may be renewing it in this very moment.
    world.session.transact(lambda: world.session.execute(sql))
    world.source(*USERS[:500])

    second = world.imported("day 2", guards={"max_removed": None})
    state = world.state("run", "progress")
    # It finds out by itself.
    keeper.join(120)
    assert not keeper.is_alive()
    gate.open()
    orphan.join()

    assert isinstance(orphan.error, LeaseLostError)
    assert world.state("run", "progress") == state
    assert second.users_imported == 500
    assert world.users() == set(USERS[:500])


@pytest.mark.parametrize("same_run", [True, False], ids=["retry", "next-run"])
def test_an_import_that_is_told_to_end_writes_down_what_it_has_and_is_continued(
    world: Any, gate: Gate, same_run: bool
) -> None:
    stop = threading.Event()
    told = Background(world.run, "day 1", 1, braze=gate.settings, stop=stop)
    gate.reached()

    stop.set()
    gate.open()
    told.join()

    assert told.error is None
    assert isinstance(told.end.error, ImportInterruptedError)
    assert (told.end.retry_helps, told.end.result.outcome) == (True, "failed")
    added = told.end.result.added
    assert 0 < added < 600
    assert len(world.users()) == added
    result = world.imported("day 1", 2) if same_run else world.imported("day 2")
    assert result.users_imported == 600
    assert world.users() == world.cohort_in_braze() == set(USERS)
    # The request that was under way is the only one that may have been paid for twice.
    assert 600 <= world.points <= 675
