"""One import as several tasks: planned once, delivered by shards, committed once, and what can go wrong between."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.holdout import is_held_out
from airflow_provider_kubit_braze.exceptions import (
    BrazeAuthError,
    CohortBusyError,
    ImportEndedError,
    LeaseLostError,
    ShardsUnfinishedError,
)
from airflow_provider_kubit_braze.sharding import ShardedPlan, commit_shards, deliver_shard, plan_shards
from airflow_provider_kubit_braze.warehouse import lease as lease_module
from tests.importer.gate import Gate, gate_before
from tests.importer.test_at_once import Background

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = [f"u{n:04}" for n in range(500)]
TEN = {"max_objects_per_request": 10}


class Sharded:
    """The tasks of one import in four shards, ten users in a request."""

    def __init__(self, world: Any, run_id: str = "run 1", **fields: Any) -> None:
        self.world, self.run_id, self.fields = world, run_id, fields

    def plan(self, try_number: int = 1, *, shards: int = 4, **options: bool) -> Any:
        with self.world.work(
            "plan_import", self.run_id, try_number, braze=TEN, options=options, **self.fields
        ) as work:
            return plan_shards(work, shards=shards)

    def planned(self, **options: Any) -> ShardedPlan:
        found = self.plan(**options)
        assert isinstance(found, ShardedPlan), found
        return found

    def deliver(
        self, sharded: ShardedPlan, shard: int, try_number: int = 1, *, braze: Any = None, **work: Any
    ) -> Any:
        with self.world.work(
            "deliver_shard",
            self.run_id,
            try_number,
            map_index=shard - 1,
            braze={**TEN, **(braze or {})},
            **work,
            **self.fields,
        ) as begun:
            return deliver_shard(begun, sharded, shard)

    def commit(self, sharded: ShardedPlan, try_number: int = 1) -> Any:
        with self.world.work("import_to_braze", self.run_id, try_number, braze=TEN, **self.fields) as work:
            return commit_shards(work, sharded)

    def whole(self, **options: Any) -> Any:
        """Run all tasks and see that it goes well."""
        sharded = self.planned(**options)
        for shard in range(1, sharded.shards + 1):
            self.deliver(sharded, shard)
        end = self.commit(sharded)
        assert end.error is None, end.error
        return end.result


def sent(world: Any) -> Counter[str]:
    return Counter(found["external_id"] for found in world.written())


@pytest.fixture
def gate(world: Any) -> Iterator[Gate]:
    """A shard comes through it one request after the other, and stands at the third."""
    with gate_before(world.sandbox.braze_url, request=3) as found:
        yield found


def sees_all_right(world: Any, users: Any) -> None:
    assert world.users() == world.cohort_in_braze() == set(users)
    assert world.imported("after").outcome == "unchanged"


# -- as it should be ------------------------------------------------------------------------------------------


def test_an_import_in_shards_comes_to_the_same_as_a_whole_one(world: Any) -> None:
    world.people(*USERS)
    first = Sharded(world).whole()
    world.source(*USERS[50:], "new")
    world.braze.add_users(["new"])
    second = Sharded(world, "run 2").whole()

    assert (first.outcome, first.members, first.added, first.users_imported) == ("success", 500, 500, 500)
    assert (first.requests, first.data_points, first.retries) == (50, 500, 0)
    assert (second.outcome, second.added, second.removed, second.unchanged) == ("success", 1, 50, 450)
    assert world.points == 551
    assert [row[:2] for row in sorted(world.rows("run", "RUN_ID, OUTCOME, STATE"))] == [
        ("run 1", "success"),
        ("run 2", "success"),
    ]
    # Nothing of the shards is left behind.
    assert world.session.rows(f"SELECT COHORT_ID, OWNER FROM {world.tables.lease}") == [("vips", None)]
    sees_all_right(world, {*USERS[50:], "new"})


def test_what_is_unknown_to_braze_is_neither_sent_by_a_shard_nor_held_out(world: Any) -> None:
    unknown = set(USERS[::4])
    held = {user for user in USERS if is_held_out("vips", "external_id", user, "40%")}
    world.braze.add_users(set(USERS) - unknown)
    world.source(*USERS)

    result = Sharded(world, match="all", holdout="40%").whole()

    assert (result.added, result.held_out, result.unmatched) == (
        len(set(USERS) - held - unknown),
        len(held - unknown),
        len(unknown),
    )
    assert world.users() == world.cohort_in_braze() == set(USERS) - held - unknown
    assert {user for _, user in world.stays(held=True)} == held - unknown


def test_each_shard_sends_its_part_and_its_leavers_first(world: Any) -> None:
    world.people(*USERS)
    Sharded(world).whole()
    world.source(*USERS[100:], *(f"n{n}" for n in range(100)))
    world.braze.add_users([f"n{n}" for n in range(100)])
    run = Sharded(world, "run 2")
    sharded = run.planned()
    before = len(world.written())

    run.deliver(sharded, 2)

    values = [found["kubit_cohort_vips"] for found in world.written()[before:]]
    assert Counter(values) == {False: 30, True: 30} or Counter(values) == {False: 20, True: 20}
    assert values == sorted(values)


def test_there_are_no_more_shards_than_requests(world: Any) -> None:
    world.people(*USERS[:11])

    assert Sharded(world).planned(shards=9).shards == 2


def test_shards_beside_each_other_do_not_disturb_each_other(world: Any) -> None:
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()

    shards = [Background(run.deliver, sharded, shard) for shard in (1, 2, 3, 4)]
    for shard in shards:
        shard.join()

    assert [shard.error for shard in shards] == [None] * 4
    assert run.commit(sharded).result.requests == 50
    assert set(sent(world).values()) == {1}
    sees_all_right(world, USERS)


@pytest.mark.parametrize("option", ["dry_run", "guard", "unchanged"])
def test_what_ends_before_anything_is_sent_leaves_no_shards(world: Any, option: str) -> None:
    world.people(*USERS[:20])
    if option != "dry_run":
        world.imported("before")
    if option == "guard":
        world.source(*USERS[:2])

    end = Sharded(world).plan(dry_run=option == "dry_run")

    assert end.result.outcome == {"guard": "stopped"}.get(option, option)
    assert (end.error is None) is (option != "guard")


def test_who_may_be_the_same_person_leaves_before_any_shard_begins(world: Any) -> None:
    world.braze.add_users(USERS[:40])
    columns = "USER_ID VARCHAR, MAIL VARCHAR"
    chain = {"external_id": "USER_ID", "email": "MAIL"}
    world.source(*[(None, f"{user}@x.y") for user in USERS[:40]], columns=columns)
    world.imported("before", identifiers=chain)
    world.source(*[(user, f"{user}@x.y") for user in USERS[:40]], columns=columns)
    run = Sharded(world, identifiers=chain, guards={"max_removed": None})
    before = len(world.written())

    sharded = run.planned()

    assert not sharded.leavers
    assert [found["kubit_cohort_vips"] for found in world.written()[before:]] == [False] * 40
    for shard in (4, 3, 2, 1):
        run.deliver(sharded, shard)
    result = run.commit(sharded).result
    assert (result.outcome, result.added, result.removed, result.requests) == ("success", 40, 40, 8)
    assert world.users() == set(USERS[:40])


def test_an_import_in_shards_can_be_undone_in_shards(world: Any) -> None:
    world.people(*USERS[:100])
    world.imported("before")
    world.source(*USERS[:90])
    Sharded(world, "run 1").whole()

    undone = Sharded(world, "run 2").whole(undo=True)

    assert (undone.purpose, undone.added, undone.removed) == ("undo", 10, 0)
    assert world.users() == world.cohort_in_braze() == set(USERS[:100])


# -- a shard that fails ---------------------------------------------------------------------------------------


def test_a_shard_that_fails_leaves_a_failed_import_that_says_so_and_goes_on_when_it_is_run_again(
    world: Any,
) -> None:
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()
    for shard in (1, 2, 4):
        run.deliver(sharded, shard)
    world.braze.fault("status", "/users/track", status=401, after=3, times=None)
    with pytest.raises(BrazeAuthError):
        run.deliver(sharded, 3, braze={"max_in_flight": 1})
    world.braze.clear_faults()

    failed = run.commit(sharded)

    assert isinstance(failed.error, ShardsUnfinishedError)
    assert not failed.retry_helps
    assert "Shard 3 of 4 did not send all of its part: Braze at" in str(failed.error)
    assert (failed.result.outcome, failed.result.unknown) == ("failed", 0)
    assert failed.result.users_imported == failed.result.added == len(world.cohort_in_braze()) == 410
    assert world.users() == world.cohort_in_braze()

    # A person makes a new key, and clears the shard and what comes after it.
    run.deliver(sharded, 3, 2)
    result = run.commit(sharded, 2).result

    assert (result.outcome, result.added, result.users_imported) == ("success", 500, 500)
    assert world.points == result.data_points == 500
    sees_all_right(world, USERS)


def test_a_shard_that_died_is_told_from_one_that_stopped_and_from_one_that_never_began(world: Any) -> None:
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()
    run.deliver(sharded, 1)
    died(run, sharded, 2)

    end = run.commit(sharded)

    assert "Shard 2 of 4 (and 2 more) did not send all of its part: it died." in str(end.error)
    # Shard 2 may have sent its part, 3 and 4 have not.
    assert end.result.unknown == 130
    assert end.result.added == 120

    # The next import plans anew.
    assert world.imported("run 2").outcome == "success"
    sees_all_right(world, USERS)


def died(run: Sharded, sharded: ShardedPlan, shard: int) -> None:
    """Begin a shard as ``deliver_shard`` does, and go no further, as after a kill -9."""
    with run.world.work("deliver_shard", run.run_id, 1, map_index=shard - 1, braze=TEN) as work:
        ledger = work.ledger(shard=shard)
        (found,) = [one for one in ledger.open_imports() if one.plan.import_id == sharded.import_id]
        ledger.begin_shard(found.plan, sharded.ranges(found.plan, shard))


def test_a_shard_that_died_is_sent_again_by_its_retry(world: Any) -> None:
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()
    died(run, sharded, 2)
    for shard in (1, 2, 3, 4):
        run.deliver(sharded, shard, 2)

    result = run.commit(sharded).result

    assert (result.outcome, result.added, result.unknown) == ("success", 500, 0)
    sees_all_right(world, USERS)


def test_an_orphan_of_a_shard_beside_its_retry_is_fenced_off(world: Any, gate: Gate) -> None:
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()
    orphan = Background(run.deliver, sharded, 1, braze=gate.settings)
    gate.reached()

    run.deliver(sharded, 1, 2)
    gate.open()
    orphan.join()
    for shard in (2, 3, 4):
        run.deliver(sharded, shard)
    result = run.commit(sharded).result

    assert isinstance(orphan.error, LeaseLostError)
    assert (result.outcome, result.added, result.users_imported) == ("success", 500, 500)
    sees_all_right(world, USERS)


def test_an_orphan_that_outlives_the_commit_changes_nothing_any_more(world: Any, gate: Gate) -> None:
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()
    orphan = Background(run.deliver, sharded, 1, braze=gate.settings)
    gate.reached()
    run.deliver(sharded, 1, 2)
    for shard in (2, 3, 4):
        run.deliver(sharded, shard)
    assert run.commit(sharded).result.outcome == "success"
    state = world.state("progress")

    gate.open()
    orphan.join()

    assert isinstance(orphan.error, LeaseLostError)
    assert world.state("progress") == state
    sees_all_right(world, USERS)


def test_rejected_and_uncertain_users_of_all_shards_are_in_the_result(world: Any) -> None:
    world.people(*USERS)
    world.braze.configure(blocked_external_ids=[USERS[7], USERS[400]])
    run = Sharded(world, guards={"max_rejected": None})
    sharded = run.planned()
    run.deliver(sharded, 1)
    world.braze.fault("drop_after", "/users/track", times=None, after=1)
    with pytest.raises(Exception, match="did not take a request"):
        run.deliver(sharded, 2, braze={"max_in_flight": 1})
    world.braze.clear_faults()
    for shard in (2, 3, 4):
        run.deliver(sharded, shard, 2)

    result = run.commit(sharded).result

    assert (result.outcome, result.rejected, result.unknown, result.added) == ("partial", 2, 0, 498)
    assert result.retries > 0
    assert result.data_points == world.points


# -- others ---------------------------------------------------------------------------------------------------


def test_nobody_else_imports_the_cohort_while_shards_are_at_work(
    world: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_LOOK", 0.05)
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()
    shard = Background(run.deliver, sharded, 1, braze=gate.settings, lease_seconds=8)
    gate.reached()

    with pytest.raises(CohortBusyError, match="task deliver_shard"):
        world.run("by hand", lease_seconds=8)

    gate.open()
    shard.join()
    assert shard.error is None


def test_shards_of_an_import_that_was_taken_over_send_nothing(world: Any) -> None:
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()
    run.deliver(sharded, 1)
    # Nobody took the lease up in time.
    world.session.execute(f"UPDATE {world.tables.lease} SET EXPIRES_AT = SYSDATE()")
    assert world.imported("another run").outcome == "success"
    before = len(world.written())

    for shard in (1, 2):
        with pytest.raises(ImportEndedError, match="another import of cohort 'vips' took over"):
            run.deliver(sharded, shard, 2)
    with pytest.raises(ImportEndedError):
        run.commit(sharded)

    assert len(world.written()) == before
    sees_all_right(world, USERS)


def test_a_plan_that_is_made_again_goes_on_with_the_one_there_is(world: Any) -> None:
    world.people(*USERS)
    run = Sharded(world)
    first = run.planned()
    run.deliver(first, 1)

    again = run.planned(try_number=2)

    assert again == first
    for shard in (1, 2, 3, 4):
        run.deliver(again, shard)
    assert run.commit(again).result.added == 500
    assert set(sent(world).values()) == {1}


def test_a_commit_that_is_repeated_says_the_same(world: Any) -> None:
    world.people(*USERS)
    run = Sharded(world)
    sharded = run.planned()
    for shard in (1, 2, 3, 4):
        run.deliver(sharded, shard)
    first = run.commit(sharded).result

    again = run.commit(sharded, 2).result

    assert replace(again, throttled_seconds=0, duration_seconds=0) == replace(
        first, throttled_seconds=0, duration_seconds=0
    )
    assert len(world.rows("run")) == 1
