"""Users whom Braze does not know are found, before they are sent or afterwards, instead of vanishing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.holdout import is_held_out
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.sandbox.braze_share import fill_profile_share
from airflow_provider_kubit_braze.verifying import Look, Verifier
from tests.importer.conftest import ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable

USERS = [f"u{n:03}" for n in range(120)]
STRANGERS = {"u005", "u050", "u119"}


@pytest.fixture
def sample_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make ``match: sample`` look up so many, and the same ones in every run.

    They are drawn by the import's id, which is random: one in 250 would hold none of three strangers.
    """

    def set_to(size: int) -> None:
        monkeypatch.setattr("airflow_provider_kubit_braze.matching.SAMPLE", size)
        fixed = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="import-1"))
        monkeypatch.setattr("airflow_provider_kubit_braze.importer.uuid", fixed)

    return set_to


@pytest.fixture
def strange(world: Any) -> Any:
    """A cohort of which Braze does not know three."""
    world.braze.add_users([user for user in USERS if user not in STRANGERS])
    world.source(*USERS)
    return world


def lookups(world: Any) -> int:
    return int(world.braze.counters().requests.get("/users/export/ids", 0))


def test_without_matching_strangers_count_as_imported(strange: Any) -> None:
    """What Braze says of them is 201; this is why there is matching."""
    assert strange.imported("day 1").users_imported == 120


def test_entrants_whom_braze_does_not_know_are_not_sent_and_tried_again(strange: Any) -> None:
    result = strange.imported("day 1", match="all")

    assert (result.added, result.unmatched, result.data_points, result.unchanged) == (117, 3, 117, 0)
    assert result.members == 120
    assert lookups(strange) == 3
    assert strange.users() == strange.cohort_in_braze() == set(USERS) - STRANGERS
    columns = "RUN_ID, ACTION, ID_KIND, USER_ID, REASON"
    assert sorted(strange.rows("unmatched", columns)) == [
        ("day 1", "enter", "external_id", user, "Braze does not know the user") for user in sorted(STRANGERS)
    ]

    strange.braze.add_users(["u005"])
    again = strange.imported("day 2", match="all")

    assert (again.added, again.unmatched, again.unchanged, again.data_points) == (1, 2, 117, 1)
    assert lookups(strange) == 4
    assert strange.users() == strange.cohort_in_braze() == set(USERS) - STRANGERS | {"u005"}


def test_nobody_but_strangers_sends_nothing(world: Any) -> None:
    world.source("x", "y")

    result = world.imported("day 1", match="all")

    assert (result.unmatched, result.added, result.data_points) == (2, 0, 0)
    assert world.braze.counters().write_requests == 0


def test_leavers_are_not_looked_up(strange: Any) -> None:
    strange.imported("day 1")
    strange.source(*USERS[1:])

    strange.imported("day 2", match="all")

    assert lookups(strange) == 0


def test_a_sample_says_what_share_braze_knows_and_keeps_those_it_met(
    strange: Any, sample_of: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sample_of(100)

    result = strange.imported("day 1", match="sample")

    assert lookups(strange) == 2
    assert result.added + result.unmatched == 120
    assert result.unmatched == len(strange.rows("unmatched")) > 0
    assert "Of 120 users who enter, 100 were looked up: Braze knows 9" in caplog.text


def test_a_retry_does_not_look_up_again_what_an_earlier_try_has(
    strange: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_kubit_braze.matching._PIECE", 50)
    monkeypatch.setattr("airflow_provider_kubit_braze.braze.lookup._WAITS", ())
    strange.braze.fault("status", "/users/export/ids", status=503, after=2, times=1)
    assert strange.run("day 1", match="all").result.outcome == "failed"
    assert (lookups(strange), strange.braze.counters().write_requests) == (3, 0)

    result = strange.imported("day 1", 2, match="all")

    assert lookups(strange) == 4
    assert (result.added, result.unmatched) == (117, 3)
    assert strange.users() == set(USERS) - STRANGERS


def test_an_import_that_broke_off_after_matching_goes_on_with_the_same_plan(strange: Any) -> None:
    strange.braze.fault("status", "/users/track", status=401, times=None)
    assert strange.run("day 1", match="all", braze={"max_in_flight": 1}).error is not None
    strange.braze.clear_faults()

    result = strange.imported("day 1", 2, match="all")

    assert (result.added, result.unmatched, result.data_points) == (117, 3, 117)
    assert lookups(strange) == 3


def test_a_key_that_may_not_look_up_fails_the_import_before_anybody_is_sent(strange: Any) -> None:
    from tests.importer.conftest import KEY

    strange.braze.configure(keys={KEY: ["users.track"]})

    end = strange.run("day 1", match="all")

    assert "users.export.ids" in str(end.error)
    assert (end.retry_helps, strange.braze.counters().write_requests) == (False, 0)


# -- with a holdout -----------------------------------------------------------------------------------------------

SHARE = "40%"
HELD = {user for user in USERS if is_held_out("vips", "external_id", user, SHARE)}


@pytest.fixture
def parted(world: Any) -> Any:
    """A cohort with a holdout, of which Braze does not know every fourth user, whichever group they are in."""
    world.unknown = {user for group in (HELD, set(USERS) - HELD) for user in sorted(group)[::4]}
    world.braze.add_users([user for user in USERS if user not in world.unknown])
    world.source(*USERS)
    return world


def groups(world: Any) -> tuple[set[str], set[str]]:
    """Return who is treated and who is held out, as the ledger has them."""
    return world.users(), {user for _, user in world.stays(held=True)}


def give_share(world: Any) -> None:
    """Let the cohort be looked up in the profile views of Braze's data share; ``world.fill_share`` brings them up."""
    share = f"{world.schema}_SHARE"
    cohort = world.cohort

    def fill() -> None:
        fill_profile_share(world.braze, world.session.connection, share, app_group_id="group-1")

    world.fill_share = fill
    world.cohort = lambda **fields: cohort(
        **{**fields, "braze": {"share": f"DEMO.{share}", "app_group_id": "group-1"}}
    )
    fill()


@pytest.mark.parametrize("by", ["api", "share"])
def test_strangers_are_in_neither_group(parted: Any, by: str) -> None:
    unknown, known = parted.unknown, set(USERS) - parted.unknown
    if by == "share":
        give_share(parted)

    result = parted.imported("day 1", match="all", holdout=SHARE)

    # Both groups have strangers, or nothing would be seen.
    assert len(unknown & HELD) > 5
    assert len(unknown - HELD) > 5
    assert groups(parted) == (known - HELD, known & HELD)
    assert (result.members, result.added, result.held_out, result.unmatched, result.unchanged) == (
        120,
        len(known - HELD),
        len(known & HELD),
        len(unknown),
        0,
    )
    assert set(parted.rows("unmatched", "ACTION, USER_ID")) == {
        ("hold" if user in HELD else "enter", user) for user in unknown
    }
    assert parted.rows("run", "HELD_OUT, UNMATCHED") == [(len(known & HELD), len(unknown))]
    assert parted.cohort_in_braze() == known - HELD

    held, treated = min(unknown & HELD), min(unknown - HELD)
    parted.braze.add_users([held, treated])
    if by == "share":
        parted.fill_share()
    again = parted.imported("day 2", match="all", holdout=SHARE)

    assert (again.added, again.held_out, again.unmatched) == (
        1,
        len(known & HELD) + 1,
        len(unknown) - 2,
    )
    assert again.unchanged == len(known - HELD)
    assert groups(parted) == (known - HELD | {treated}, known & HELD | {held})
    # They count from now on, and not from when they came to the source.
    began = dict(parted.rows("membership", "USER_ID, ENTERED_RUN"))
    assert (began[held], began[treated], began[min(known & HELD)]) == ("day 2", "day 2", "day 1")


def test_a_day_on_which_somebody_is_only_to_be_held_out_has_look_ups_too(world: Any) -> None:
    held = sorted(HELD)[:3]
    world.braze.add_users(held[1:])
    world.source(*held)

    result = world.imported("day 1", match="all", holdout=SHARE)

    assert (result.held_out, result.unmatched, result.data_points, lookups(world)) == (2, 1, 0, 1)
    assert groups(world) == (set(), set(held[1:]))
    assert world.braze.counters().write_requests == 0


def test_a_sample_is_of_both_groups(parted: Any, sample_of: Callable[[int], None]) -> None:
    sample_of(60)

    result = parted.imported("day 1", match="sample", holdout=SHARE)

    met = {user for (user,) in parted.rows("unmatched", "USER_ID")}
    assert met & HELD
    assert met - HELD
    assert met < parted.unknown
    assert result.unmatched == len(met)
    assert groups(parted) == (set(USERS) - HELD - met, HELD - met)


def test_a_retry_does_not_look_up_again_those_to_be_held_out(
    parted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_kubit_braze.matching._PIECE", 50)
    monkeypatch.setattr("airflow_provider_kubit_braze.braze.lookup._WAITS", ())
    # In pieces of 50 and the rest: those to be sent, then those to be held out.
    pieces = [-(-len(group) // 50) for group in (set(USERS) - HELD, HELD)]
    parted.braze.fault("status", "/users/export/ids", status=503, after=pieces[0], times=1)
    assert parted.run("day 1", match="all", holdout=SHARE).result.outcome == "failed"
    assert lookups(parted) == pieces[0] + 1

    result = parted.imported("day 1", 2, match="all", holdout=SHARE)

    assert lookups(parted) == sum(pieces) + 1
    assert result.unmatched == len(parted.unknown)
    assert groups(parted) == (set(USERS) - HELD - parted.unknown, HELD - parted.unknown)


def test_a_smaller_holdout_leaves_no_stranger_in_the_control_group(parted: Any) -> None:
    smaller = {user for user in USERS if is_held_out("vips", "external_id", user, "20%")}
    parted.imported("day 1", holdout=SHARE)
    strangers = parted.unknown & HELD - smaller
    assert strangers

    result = parted.imported("day 2", match="all", holdout="20%")

    treated, held = groups(parted)
    # Nobody looks at those who stay what they are, in either group.
    assert held == smaller
    assert treated == set(USERS) - smaller - strangers
    assert (result.unmatched, result.held_out) == (len(strangers), len(smaller))
    parted.braze.add_users(list(strangers))
    assert parted.imported("day 3", match="all", holdout="20%").added == len(strangers)
    assert groups(parted) == (set(USERS) - smaller, smaller)


# -- afterwards ---------------------------------------------------------------------------------------------------


def verifier(world: Any, end: Any, **fields: Any) -> Verifier:
    return Verifier(
        cohort=world.cohort(**{"verify": True, **fields}),
        settings=world.settings(),
        connect=world.sandbox.connect,
        tables=world.tables,
        identity=RunIdentity(dag_id="kubit_braze__vips", run_id=end.result.run_id),
        import_id=end.import_id,
    )


def look(found: Verifier, *arguments: Any, **options: Any) -> Look:
    seen = found.look(*arguments, **options)
    assert seen is not None
    return seen


def test_a_sample_of_everything_finds_every_stranger_and_corrects_the_ledger(strange: Any) -> None:
    end = strange.run("day 1")
    verify = verifier(strange, end)

    seen = look(verify)

    found = seen.verification
    assert (found.sampled, found.population, found.matched, found.unknown) == (120, 120, 117, 3)
    assert (found.low, found.high, found.finished, seen.waits) == (117 / 120, 117 / 120, True, False)
    result = verify.conclude(end.result, seen)
    assert (result.users_imported, result.unmatched) == (117, 3)
    assert result.verification == found.to_dict()
    assert strange.users() == set(USERS) - STRANGERS
    assert {row[0] for row in strange.rows("unmatched", "USER_ID")} == STRANGERS
    columns = "USERS_IMPORTED, UNMATCHED, VERIFICATION IS NOT NULL"
    assert strange.rows("run", columns) == [(117, 3, True)]
    # They are tried again, also after having signed up.
    strange.braze.add_users(["u050"])
    assert strange.imported("day 2").added == 3
    assert "u050" in strange.cohort_in_braze()


def test_a_sample_of_some_gives_an_interval_and_is_the_same_at_the_next_look(strange: Any) -> None:
    end = strange.run("day 1")
    verify = verifier(strange, end, verify={"sample": 40})

    first, second = look(verify), look(verify)

    assert first == second
    assert (first.verification.sampled, first.verification.population) == (40, 120)
    assert first.verification.low < first.verification.matched / 40 <= first.verification.high


def test_what_braze_does_not_show_yet_is_looked_at_again(world: Any) -> None:
    world.people(*USERS)
    world.imported("day 1")
    world.source(*USERS[20:], "new")
    world.braze.add_users(["new"])
    world.braze.configure(apply_delay=3600)
    world.sandbox.braze.configure()
    settle = world.braze.settle
    world.braze.settle = lambda: 0
    end = world.run("day 2")
    verify = verifier(world, end)

    first = look(verify)
    assert (first.verification.different, first.verification.unknown, first.waits) == (21, 0, True)
    assert not look(verify, first.pending, last=True).verification.finished
    settle()
    second = look(verify, first.pending)

    assert (second.verification.matched, second.pending, second.waits) == (21, (), False)
    assert second.verification.finished


def test_a_second_look_asks_only_for_what_was_not_right(world: Any) -> None:
    world.people("a", "b", "c")
    end = world.run("day 1")
    world.braze.add_users([{"external_id": "b", "custom_attributes": {ATTRIBUTE: False}}])
    verify = verifier(world, end)

    first = look(verify)
    look(verify, first.pending)

    asked = [request for request in world.braze.requests() if request.path == "/users/export/ids"]
    assert [sorted(one.body["external_ids"]) for one in asked] == [["a", "b", "c"], ["b"]]


def test_rejected_changes_are_not_in_the_sample(world: Any) -> None:
    world.people(*USERS)
    world.braze.fault("reject_ids", "/users/track", ids=["u007"])
    end = world.run("day 1")

    assert look(verifier(world, end)).verification.population == 119


def test_a_plan_that_is_gone_cannot_be_verified(world: Any) -> None:
    world.people(*USERS)
    end = world.run("day 1")
    world.session.execute(f"DELETE FROM {world.tables.change}")

    assert verifier(world, end).look() is None


def test_a_partner_cohort_is_verified_as_far_as_it_can_be(strange: Any) -> None:
    from tests.importer.conftest import PARTNER

    cohort = strange.cohort
    strange.cohort = lambda **fields: cohort(**{**fields, "braze": {"deliver_as": "partner_cohort"}})
    end = strange.run("day 1", braze=PARTNER)

    seen = look(verifier(strange, end))

    assert (seen.verification.matched, seen.verification.unknown, seen.waits) == (117, 3, False)


def test_a_cohort_that_is_imported_again_meanwhile_is_not_corrected(
    strange: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_kubit_braze.exceptions import CohortBusyError
    from airflow_provider_kubit_braze.warehouse.lease import Lease

    end = strange.run("day 1")
    verify = verifier(strange, end)
    seen = look(verify)

    def busy(self: Lease, session: Any) -> None:
        raise CohortBusyError("busy")

    monkeypatch.setattr(Lease, "take", busy)
    result = verify.conclude(end.result, seen)

    assert (result.unmatched, result.users_imported) == (0, 120)
    assert result.verification == seen.verification.to_dict()
    assert strange.users() == set(USERS)


# -- by Braze's data share ----------------------------------------------------------------------------------------


@pytest.fixture
def shared(strange: Any) -> Any:
    """The same cohort, with the profile views of Braze's data share beside it."""
    strange.braze.add_users([{"external_id": "somebody else"}])
    give_share(strange)
    return strange


@pytest.mark.parametrize("match", ["all", "sample"])
def test_with_a_data_share_everybody_is_matched_without_a_request(shared: Any, match: str) -> None:
    result = shared.imported("day 1", match=match)

    assert (result.added, result.unmatched, lookups(shared)) == (117, 3, 0)
    assert shared.users() == shared.cohort_in_braze() == set(USERS) - STRANGERS
    assert {row[0] for row in shared.rows("unmatched", "USER_ID")} == STRANGERS


def test_what_the_share_does_not_name_is_asked_for_by_api(shared: Any) -> None:
    shared.braze.add_users(
        [{"external_id": "known", "user_aliases": [{"alias_label": "crm", "alias_name": "C 1"}]}]
    )
    shared.fill_share()
    shared.source(
        ("u001", None), ("u005", None), (None, "C 1"), (None, "C 2"), columns="USER_ID VARCHAR, CRM VARCHAR"
    )
    chain = {"external_id": "USER_ID", "user_alias": {"label": "crm", "name": "CRM"}}

    result = shared.imported("day 1", match="all", identifiers=chain)

    assert (result.added, result.unmatched, lookups(shared)) == (2, 2, 1)
    asked = [request for request in shared.braze.requests() if request.path == "/users/export/ids"]
    assert [one["alias_name"] for one in asked[0].body["user_aliases"]] == ["C 1", "C 2"]
    assert shared.users() == {"u001", "C 1"}


def test_a_share_that_cannot_be_read_fails_the_import_before_anybody_is_sent(shared: Any) -> None:
    shared.session.execute(f"DROP SCHEMA {shared.schema}_SHARE CASCADE")

    end = shared.run("day 1", match="all")

    assert "Braze's data share" in str(end.error)
    assert (end.retry_helps, shared.braze.counters().write_requests) == (False, 0)


def test_a_data_share_verifies_without_a_request(shared: Any) -> None:
    end = shared.run("day 1")
    verify = verifier(shared, end)
    early = look(verify)
    # The views are as old as the last import; by now they have caught up.
    assert (early.verification.different, early.waits) == (117, True)
    shared.fill_share()

    seen = look(verify, early.pending)

    assert (seen.verification.matched, seen.verification.unknown, seen.waits) == (117, 3, False)
    assert (seen.verification.source, lookups(shared)) == ("share", 0)
