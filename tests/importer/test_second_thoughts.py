"""What goes wrong only later: repetitions of what was done, answers that were lost, users Braze knows late."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.exceptions import BrazeRequestError, LeaseLostError, StateSchemaError
from airflow_provider_kubit_braze.verifying import Verifier
from airflow_provider_kubit_braze.warehouse.lease import Lease
from airflow_provider_kubit_braze.warehouse.ledger import Ledger
from airflow_provider_kubit_braze.warehouse.matches import Matches
from airflow_provider_kubit_braze.warehouse.readback import unmatch
from tests.importer.conftest import ATTRIBUTE, PARTNER

OPEN = {"max_removed": None, "max_rejected": None}


# -- a task that is done over -------------------------------------------------------------------------------------


def test_an_undo_that_is_repeated_does_not_undo_itself(world: Any) -> None:
    """The worker died after the last commit and before Airflow heard of it; so the task is tried again."""
    world.people("a", "b")
    world.imported("day 1")
    world.people("a", "b", "c")
    world.imported("day 2")
    world.imported("oops", 1, undo=True)

    again = world.imported("oops", 2, undo=True)

    assert (again.outcome, again.purpose) == ("unchanged", "undo")
    assert world.users() == world.cohort_in_braze() == {"a", "b"}
    # Another run is another matter.
    world.imported("oops again", undo=True)
    assert world.users() == {"a", "b", "c"}


def test_a_full_resync_that_is_repeated_is_paid_for_once(world: Any) -> None:
    world.people("a", "b")
    world.imported("day 1")
    before = world.points

    world.imported("resync", 1, full_resync=True)
    world.imported("resync", 2, full_resync=True)
    assert world.points - before == 2
    world.imported("another", full_resync=True)
    assert world.points - before == 4


def test_a_guard_is_overridden_once(world: Any) -> None:
    world.people("a", "b", "c", "d")
    world.imported("day 1")
    world.source("a", "b")
    world.imported("yes", 1, override_guards=True)
    world.source()

    assert world.run("yes", 2, override_guards=True).result.outcome == "stopped"


def test_an_import_that_changed_nobody_is_not_what_an_undo_reverses(world: Any) -> None:
    users = [f"u{n}" for n in range(40)]
    world.people(*users)
    world.imported("day 1")
    world.people(*users, *(f"w{n}" for n in range(40)))
    world.braze.fault("status", "/users/track", status=401, times=None)
    assert world.run("day 2", holdout="20%", override_guards=True).error is not None
    world.braze.clear_faults()

    assert world.imported("oops", undo=True).removed == 40
    assert world.users() == set()


def test_an_undo_reverses_what_its_rehearsal_said(world: Any) -> None:
    one_by_one = {"max_objects_per_request": 1, "max_in_flight": 1}
    world.people("a", "b")
    world.imported("day 1")
    world.people("a", "b", "c", "d")
    world.braze.fault("status", "/users/track", status=401, times=None, after=1)
    assert world.run("day 2", braze=one_by_one).error is not None
    world.braze.clear_faults()

    rehearsed = world.imported("oops", undo=True, dry_run=True)
    undone = world.imported("oops", undo=True)

    assert (rehearsed.removed, rehearsed.added) == (undone.removed, undone.added) == (1, 0)
    assert world.users() == world.cohort_in_braze() == {"a", "b"}


# -- one person under two names -----------------------------------------------------------------------------------

CHAIN = {"external_id": "USER_ID", "email": "EMAIL"}
COLUMNS = "USER_ID VARCHAR, EMAIL VARCHAR"


@pytest.fixture
def renamed(world: Any) -> Any:
    """``a`` was known by address only and has an id now; it is one profile in Braze."""
    world.braze.add_users([{"email": "a@example.com"}, {"external_id": "b"}])
    world.source((None, "a@example.com"), ("b", None), columns=COLUMNS)
    world.imported("day 1", identifiers=CHAIN)
    world.braze.add_users([{"external_id": "a", "email": "a@example.com"}, {"external_id": "z"}])
    world.source(("a", "a@example.com"), ("b", None), ("z", None), columns=COLUMNS)
    return world


ALONE = {"max_objects_per_request": 1, "max_in_flight": 1}


#: By which identifiers the cohort is imported from the second day on: by both still, or no longer by address.
AFTERWARDS = pytest.mark.parametrize(
    "chain", [CHAIN, {"external_id": "USER_ID"}], ids=["same-identifiers", "one-is-dropped"]
)


@AFTERWARDS
@pytest.mark.parametrize("address_stays", [True, False], ids=["row-still-names-it", "nothing-names-it"])
@pytest.mark.parametrize("lost", ["rejected", "unknown"])
def test_a_late_farewell_does_not_take_out_who_is_in_under_another_name(
    renamed: Any, lost: str, address_stays: bool, chain: dict[str, str]
) -> None:
    if not address_stays:
        renamed.source(("a", None), ("b", None), ("z", None), columns=COLUMNS)
    if lost == "rejected":
        renamed.braze.fault("reject_ids", "/users/track", ids=["a@example.com"], times=None)
    else:
        renamed.braze.fault("error_without_index", "/users/track", times=1)
    first = renamed.run("day 2", identifiers=chain, guards=OPEN, braze=ALONE)
    assert (first.result.removed, first.result.added) == (0, 2)
    renamed.braze.clear_faults()

    result = renamed.imported("day 3", identifiers=chain, guards=OPEN)

    assert result.removed == 1
    assert renamed.cohort_in_braze() == {"a", "b", "z"}
    assert renamed.stays() == {("external_id", "a"), ("external_id", "b"), ("external_id", "z")}
    assert renamed.imported("day 4", identifiers=chain).outcome == "unchanged"


@AFTERWARDS
def test_a_farewell_that_got_lost_is_not_repeated_after_the_welcome(
    renamed: Any, chain: dict[str, str]
) -> None:
    renamed.braze.fault("error_without_index", "/users/track", times=1)
    renamed.braze.fault("status", "/users/track", status=401, times=None, after=1)
    options = {"identifiers": chain, "guards": OPEN, "braze": ALONE}
    assert renamed.run("day 2", **options).error is not None
    renamed.braze.clear_faults()

    retried = renamed.imported("day 2", 2, **options)

    assert "a" in renamed.cohort_in_braze()
    renamed.imported("day 3", **options)
    assert renamed.cohort_in_braze() == {"a", "b", "z"}
    assert retried.removed + retried.unknown == 1


@pytest.fixture
def both(world: Any) -> Any:
    """Braze refused to let ``a`` go under the id and let them in by address: one person, in under two names."""
    world.braze.add_users([{"external_id": "a", "email": "a@example.com"}, {"external_id": "b"}])
    world.source(("a", None), ("b", None), columns=COLUMNS)
    world.imported("day 1", identifiers=CHAIN)
    world.source((None, "a@example.com"), ("b", None), columns=COLUMNS)
    world.braze.fault("reject_ids", "/users/track", ids=["a"])
    world.imported("day 2", identifiers=CHAIN, guards=OPEN)
    world.braze.clear_faults()
    return world


@pytest.mark.parametrize("undo", [True, False], ids=["by-an-undo", "at-the-source"])
def test_who_goes_under_the_second_name_is_still_in_under_the_first(both: Any, undo: bool) -> None:
    both.source(("a", None), ("b", None), columns=COLUMNS)

    both.imported("day 3", identifiers=CHAIN, guards=OPEN, undo=undo)

    assert both.stays() == {("external_id", "a"), ("external_id", "b")}
    assert both.cohort_in_braze() == {"a", "b"}


def test_who_could_not_be_told_that_they_are_still_in_is_told_a_week_later(both: Any) -> None:
    both.braze.fault("reject_ids", "/users/track", ids=["a@example.com"])
    both.imported("day 3", identifiers=CHAIN, guards=OPEN)
    both.braze.clear_faults()
    assert both.imported("day 4", identifiers=CHAIN, guards=OPEN).outcome == "unchanged"
    both.session.execute(f"UPDATE {both.tables.rejected} SET REJECTED_AT = DATEADD(day, -8, REJECTED_AT)")

    both.imported("day 12", identifiers=CHAIN, guards=OPEN)

    assert both.stays() == {("email", "a@example.com"), ("external_id", "b")}
    assert both.cohort_in_braze() == {"a", "b"}


# -- doubts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["start_sending", "name"])
def test_whom_a_dead_try_may_have_sent_stays_in_doubt_when_its_retry_cannot_begin(
    world: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    world.people("a", "b", "c")
    world.braze.fault("status", "/users/track", status=401, times=None)
    assert world.run("day 1").error is not None
    world.braze.clear_faults()
    # As a kill -9 leaves it, after Braze has taken everybody.
    world.session.execute(f"UPDATE {world.tables.run} SET STATE = 'sending'")
    world.session.execute(f"DELETE FROM {world.tables.progress}")
    world.braze.add_users([{"external_id": u, "custom_attributes": {ATTRIBUTE: True}} for u in "abc"])

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("a bad moment") if where == "start_sending" else BrazeRequestError("no name")

    with monkeypatch.context() as patch:
        if where == "start_sending":
            patch.setattr(Ledger, "start_sending", fail)
        else:
            patch.setattr("airflow_provider_kubit_braze.importer.Import._name", fail)
        assert world.run("day 1", 2).error is not None
    world.source("b", "c")

    world.imported("day 2", override_guards=True)

    assert world.users() == world.cohort_in_braze() == {"b", "c"}


def test_a_doubt_that_is_newer_than_a_rejection_is_settled_at_once(world: Any) -> None:
    world.people("a", "b")
    world.braze.fault("reject_ids", "/users/track", ids=["a"])
    world.run("day 1", guards=OPEN)
    world.braze.clear_faults()
    world.braze.fault("error_without_index", "/users/track", times=None)
    world.run("day 2", full_resync=True, guards=OPEN)
    world.braze.clear_faults()

    world.imported("day 3", guards=OPEN)

    assert world.users() == world.cohort_in_braze() == {"a", "b"}


def test_an_endpoint_that_refuses_everything_rejects_nobody(world: Any) -> None:
    """The leavers are taken out of the attribute; the partner's endpoint then refuses whatever comes."""
    users = [f"u{n}" for n in range(60)]
    world.people(*users)
    world.imported("day 1")
    cohort = world.cohort
    world.cohort = lambda **fields: cohort(**{**fields, "braze": {"deliver_as": "partner_cohort"}})
    world.braze.fault("status", "/partners/kubit/cohorts/users", status=400, times=None)

    refused = world.run("day 2", braze=PARTNER, override_guards=True)

    assert isinstance(refused.error, BrazeRequestError)
    assert world.rows("rejected") == []
    world.braze.clear_faults()
    result = world.imported("day 3", braze=PARTNER)
    assert (result.set_aside, result.added) == (0, 60)
    assert world.braze.members("vips") == set(users)


# -- verification -------------------------------------------------------------------------------------------------


def verifier(world: Any, end: Any) -> Verifier:
    return Verifier(
        cohort=world.cohort(verify=True),
        settings=world.settings(),
        connect=world.sandbox.connect,
        tables=world.tables,
        identity=RunIdentity(dag_id="kubit_braze__vips", run_id="x"),
        import_id=end.import_id,
    )


def test_whom_braze_may_create_late_is_not_taken_out_of_the_ledger(world: Any) -> None:
    world.braze.configure(apply_delay=3600)
    world.source("a", "b", "c")
    cohort = world.cohort
    world.cohort = lambda **fields: cohort(**{**fields, "braze": {"create_users": True}})
    settle, world.braze.settle = world.braze.settle, lambda: 0
    end = world.run("day 1")
    verify = verifier(world, end)
    look = verify.look(last=True)
    assert look is not None
    assert look.verification.unknown == 3
    result = verify.conclude(end.result, look)
    settle()
    world.braze.configure(apply_delay=0)
    world.braze.settle = settle

    assert (result.users_imported, result.unmatched) == (3, 0)
    world.source("b", "c")
    world.imported("day 2", override_guards=True)
    assert world.users() == world.cohort_in_braze() == {"b", "c"}


def test_a_late_verification_leaves_what_came_after_alone(world: Any) -> None:
    world.source("a", "b")
    world.braze.add_users(["b"])
    end = world.run("day 1")
    verify = verifier(world, end)
    look = verify.look(last=True)
    assert look is not None
    world.source("b")
    world.imported("day 2", guards=OPEN)
    world.braze.add_users(["a"])
    world.source("a", "b")
    world.imported("day 3")

    verify.conclude(end.result, look)

    assert world.users() == world.cohort_in_braze() == {"a", "b"}


def test_a_stay_that_was_only_sent_once_more_is_not_forgotten(world: Any) -> None:
    world.people("a", "b")
    world.imported("day 1")
    end = world.run("day 2", full_resync=True)
    ((seq,),) = world.rows("change", "SEQ", f"IMPORT_ID = '{end.import_id}' AND USER_ID = 'a'")

    taken = unmatch(
        world.session,
        world.tables,
        key=("workspace", "vips"),
        import_id=end.import_id,
        run_id="x",
        seqs=[int(seq)],
    )

    assert (taken, world.users(), world.rows("unmatched")) == (0, {"a", "b"}, [])


def test_a_stranger_who_was_taken_out_is_told_to_leave_in_case_braze_learns_of_them(world: Any) -> None:
    world.source("stranger", "b")
    world.braze.add_users(["b"])
    end = world.run("day 1")
    verify = verifier(world, end)
    look = verify.look(last=True)
    assert look is not None
    verify.conclude(end.result, look)
    world.source("b")

    assert world.imported("day 2", guards=OPEN).removed == 1


# -- orphans and old tables ---------------------------------------------------------------------------------------


def test_a_late_note_about_strangers_does_not_hit_whoever_has_their_number_now(world: Any) -> None:
    world.braze.add_users(["b", "c"])
    world.source("a", "b", "c")
    end = world.run("day 1", match="all")
    key = ("workspace", "vips")
    # Somebody else has the lease by now: it was given back.
    lost = Lease(lambda: world.session, world.tables, key, RunIdentity(dag_id="dag", run_id="day 1"))
    ledger = Ledger(world.session, world.tables, workspace="workspace", cohort_id="vips", lease=lost)
    stale = Plan(import_id=end.import_id, members=3, in_braze=0, enter=3, leave=0)
    orphan = Matches(world.session, world.tables, ledger, key=key, plan=stale)

    with pytest.raises(LeaseLostError):
        orphan.note([], {1: "Braze does not know the user"}, run_id="day 1")
    assert {row[0] for row in world.rows("unmatched", "USER_ID")} == {"a"}


def test_tables_of_a_version_that_was_never_released_are_refused_in_a_sentence(world: Any) -> None:
    world.people("a")
    world.imported("day 1")
    world.session.execute(f"ALTER TABLE {world.tables.membership} DROP COLUMN PLACE")

    with pytest.raises(
        StateSchemaError, match="was made by a version of this package that was never released"
    ):
        world.run("day 2")
