"""The walk of an import with real parts: who is in Braze and in the ledger afterwards, and what it cost."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.holdout import is_held_out

ATTRIBUTE = "kubit_cohort_vips"
FIGURES = ["added", "removed", "unchanged", "members", "users_imported", "data_points"]


def figures(result: Any) -> tuple[int, ...]:
    return tuple(getattr(result, name) for name in FIGURES)


PEOPLE = [
    {
        "external_id": f"user-{n}",
        "braze_id": f"{n:024x}",
        "email": f"user.{n}+x@example.com",
        "phone": f"+1555000000{n}",
        "user_aliases": [{"alias_label": "crm", "alias_name": f"Alias {n}"}],
    }
    for n in range(1, 8)
]


@pytest.mark.parametrize(
    ("kind", "identifiers", "ledger_kind"),
    [
        ("external_id", {"external_id": "USER_ID"}, "external_id"),
        ("braze_id", {"braze_id": "USER_ID"}, "braze_id"),
        ("email", {"email": "USER_ID"}, "email"),
        ("phone", {"phone": "USER_ID"}, "phone"),
        ("alias", {"user_alias": {"label": "crm", "name": "USER_ID"}}, "user_alias:crm"),
    ],
)
def test_two_days_differ_by_those_who_came_and_went(
    world: Any, kind: str, identifiers: dict[str, Any], ledger_kind: str
) -> None:
    world.braze.add_users(PEOPLE)
    names = [
        person["user_aliases"][0]["alias_name"] if kind == "alias" else person[kind]  # type: ignore[index]
        for person in PEOPLE
    ]

    world.source(*names[:5])
    first = world.imported("day 1", identifiers=identifiers)
    assert world.braze.cohort(ATTRIBUTE, kind) == set(names[:5])
    assert figures(first) == (5, 0, 0, 5, 5, 5)

    world.source(*names[1:7])
    second = world.imported("day 2", identifiers=identifiers)
    assert world.braze.cohort(ATTRIBUTE, kind) == set(names[1:7])
    assert world.braze.left(ATTRIBUTE, kind) == {names[0]}
    assert world.stays() == {(ledger_kind, name) for name in names[1:7]}
    assert figures(second) == (2, 1, 4, 6, 6, 3)
    assert (first.outcome, second.outcome, world.points) == ("success", "success", 5 + 3)

    requests = world.braze.counters().write_requests
    third = world.imported("day 3", identifiers=identifiers)
    assert (third.outcome, figures(third)) == ("unchanged", (0, 0, 6, 6, 6, 0))
    assert world.braze.counters().write_requests == requests
    assert third.requests == 0


def test_a_stay_begins_and_ends_with_the_runs_that_saw_it(world: Any) -> None:
    world.people("a", "b", "c", "d")
    world.imported("day 1")
    world.source("b", "c", "d")
    world.imported("day 2")
    world.source("a", "b", "c", "d")
    world.imported("day 3")

    columns = "ENTERED_RUN, LEFT_RUN, LEFT_AT > ENTERED_AT, WORKSPACE, COHORT_ID, HELD_OUT"
    assert sorted(world.rows("membership", columns, "USER_ID = 'a'"), key=repr) == [
        ("day 1", "day 2", True, "workspace", "vips", False),
        ("day 3", None, None, "workspace", "vips", False),
    ]
    assert world.rows("membership", columns, "USER_ID = 'b'") == [
        ("day 1", None, None, "workspace", "vips", False)
    ]


def test_the_history_says_what_the_result_says(world: Any) -> None:
    world.people("a", "b", "b", "c")

    result = world.imported("it's day \\ 1").to_dict()

    names = [name for name in result if not name.endswith("_at")]
    ((*row, started, finished, state),) = world.rows(
        "run", ", ".join(names) + ", STARTED_AT, FINISHED_AT, STATE"
    )
    assert dict(zip(names, row, strict=True)) == {name: result[name] for name in names}
    for written, said in ((started, result["started_at"]), (finished, result["finished_at"])):
        assert written == datetime.fromisoformat(said).replace(tzinfo=None)
    assert state == "closed"
    assert (result["cohort_name"], result["duplicates"]) == ("Our V.I.P.s", 1)


def test_every_statement_says_whose_it_is(world: Any) -> None:
    world.people("a")

    world.imported("run of tags")

    tags = {
        q.tag
        for q in world.sandbox.snowflake.queries(last=500)
        if world.schema in q.sql and "run of tags" in q.tag
    }
    assert [json.loads(tag) for tag in tags] == [
        {"app": "kubit_braze", "cohort": "vips", "dag_id": "kubit_braze__vips", "run_id": "run of tags"}
    ]
    untagged = [
        q.sql
        for q in world.sandbox.snowflake.queries(last=500)
        if f"{world.schema}.IMPORT_" in q.sql and "kubit_braze" not in q.tag
    ]
    assert untagged == []


def test_sessions_are_closed_at_the_end(world: Any) -> None:
    world.people("a")
    before = world.sandbox.snowflake.open_sessions()

    world.imported()

    assert world.sandbox.snowflake.open_sessions() == before


def test_more_changes_than_a_request_holds_go_out_in_several(world: Any) -> None:
    users = [f"u{n:03}" for n in range(400)]
    world.people(*users)

    result = world.imported(braze={"max_in_flight": 4})

    assert world.cohort_in_braze() == world.users() == set(users)
    assert (result.requests, result.data_points, world.points) == (6, 400, 400)


def test_who_leaves_may_lose_the_attribute_altogether(world: Any) -> None:
    world.people("a", "b", "c", "d")
    world.fields["braze"] = {"on_exit": "unset"}
    world.imported("day 1")
    world.source("b", "c", "d")
    world.imported("day 2")

    (left,) = world.braze.users(external_id="a")
    assert ATTRIBUTE not in left.get("custom_attributes", {})
    assert world.cohort_in_braze() == {"b", "c", "d"}


def test_unknown_users_are_created_only_on_request_and_never_to_leave(world: Any) -> None:
    world.source("a", "b", "c", "d")
    assert world.imported("day 1").added == 4
    assert world.braze.users() == []

    world.source("b", "c", "d", "e")
    world.fields["braze"] = {"create_users": True}
    world.imported("day 2")

    assert {user["external_id"] for user in world.braze.users()} == {"e"}


@pytest.mark.parametrize("stopped_too", [False, True], ids=["fine", "a-real-run-would-be-stopped"])
def test_a_dry_run_counts_and_changes_nothing(world: Any, stopped_too: bool) -> None:
    world.people("a", "b", "c", "d")
    world.imported("day 1")
    before, points = world.state("run"), world.points
    requests = world.braze.counters().write_requests
    world.source("d", "e") if stopped_too else world.source("b", "c", "d", "e")

    result = world.imported("day 2", dry_run=True)

    assert result.outcome == "dry_run"
    assert figures(result) == ((1, 3, 1, 2, 4, 4) if stopped_too else (1, 1, 3, 4, 4, 2))
    assert (result.requests, world.points, world.state("run")) == (0, points, before)
    assert world.braze.counters().write_requests == requests
    assert world.rows("run", "OUTCOME, STATE", "RUN_ID = 'day 2'") == [("dry_run", "closed")]
    assert result.error == (
        "A real run would be stopped: 3 of the 4 users now in Braze would be removed, "
        "more than guards.max_removed allows (30%)."
        if stopped_too
        else None
    )


@pytest.mark.parametrize(
    ("tomorrow", "guards", "words"),
    [
        pytest.param("", {}, "The cohort is empty at the source", id="empty"),
        pytest.param("j", {}, "9 of the 10 users now in Braze would be removed", id="lost-90-percent"),
        pytest.param("abcdefghijklm", {"max_added": 2}, "3 users would be added to the 10", id="max-added"),
        pytest.param(
            "bcdefghijk", {"max_data_points": 1}, "would cost 2 data points, more than", id="max-data-points"
        ),
    ],
)
def test_a_guard_stops_an_import_before_anything_changes_until_a_person_says_yes(
    world: Any, tomorrow: str, guards: dict[str, Any], words: str
) -> None:
    world.people(*"abcdefghijklm")
    world.source(*"abcdefghij")
    world.imported("day 1")
    before, points = world.state("run"), world.points
    world.source(*tomorrow)

    end = world.run("day 2", guards=guards)

    assert str(end.error) == end.result.error
    assert words in str(end.error)
    assert str(end.error).startswith("Stopped before anything was sent: ")
    assert str(end.error).endswith("trigger the DAG once with override_guards.")
    assert (end.result.outcome, end.retry_helps, end.result.data_points) == ("stopped", False, 0)
    assert (end.result.added, end.result.removed, end.result.users_imported) == (0, 0, 10)
    assert (world.state("run"), world.points) == (before, points)
    assert world.rows("run", "OUTCOME, STATE, ERROR", "RUN_ID = 'day 2'") == [
        ("stopped", "closed", end.result.error)
    ]

    assert world.imported("day 2", 2, guards=guards, override_guards=True).outcome == "success"
    assert world.cohort_in_braze() == world.users() == set(tomorrow)


def test_an_empty_cohort_may_be_allowed(world: Any) -> None:
    world.people("a", "b")
    world.imported("day 1")
    world.source()

    result = world.imported("day 2", guards={"allow_empty": True, "max_removed": None})

    assert (world.cohort_in_braze(), world.users(), result.removed) == (set(), set(), 2)


def test_a_first_import_has_nobody_to_lose(world: Any) -> None:
    world.people("a")

    assert world.imported(guards={"max_removed": 0}).outcome == "success"


def test_a_full_resync_sends_every_member_once_more(world: Any) -> None:
    world.people("a", "b", "c", "d")
    world.imported("day 1")
    world.braze.add_users([{"external_id": "b", "custom_attributes": {ATTRIBUTE: False}}])
    world.source("b", "c", "d", "e")
    world.braze.add_users(["e"])

    result = world.imported("day 2", full_resync=True)

    assert world.cohort_in_braze() == world.users() == {"b", "c", "d", "e"}
    assert figures(result) == (1, 1, 3, 4, 4, 5)
    assert len(world.rows("membership")) == 5


def test_a_holdout_comes_grows_shrinks_and_goes(world: Any) -> None:
    users = {f"u{n}" for n in range(60)}
    world.people(*sorted(users))
    no_limit = {"max_removed": None}
    before: set[str] = set()
    for run, share in enumerate(["10%", "40%", "0%", "20%", "20%"]):
        held = {user for user in users if is_held_out("vips", "external_id", user, share)}

        result = world.imported(f"run {run}", holdout=share, guards=no_limit)

        assert world.cohort_in_braze() == world.users() == users - held
        assert {user for _, user in world.stays(held=True)} == held
        sent = len((users - held) ^ before)
        assert (result.data_points, result.added + result.removed) == (sent, sent)
        assert (result.members, result.held_out, result.users_imported) == (60, len(held), 60 - len(held))
        before = users - held
    assert result.outcome == "unchanged"


def test_who_is_held_out_and_leaves_is_not_mentioned_to_braze(world: Any) -> None:
    users = {f"u{n}" for n in range(30)}
    held = {user for user in users if is_held_out("vips", "external_id", user, "50%")}
    world.people(*sorted(users))
    world.imported("day 1", holdout="50%")
    points = world.points
    world.source(*sorted(users - held))

    result = world.imported("day 2", holdout="50%")

    assert (world.points, result.requests, world.stays(held=True)) == (points, 0, set())
    assert (result.added, result.removed, result.held_out) == (0, 0, 0)


def test_another_kind_of_identifier_is_another_user_who_enters_while_the_old_one_leaves(world: Any) -> None:
    world.braze.add_users([{"external_id": n, "email": f"{n}@example.com"} for n in "abcdefgh"])
    columns = "USER_ID VARCHAR, EMAIL VARCHAR"
    chain = {"email": "EMAIL", "external_id": "USER_ID"}
    world.source(*[(n, None) for n in "abcdefgh"], columns=columns)
    world.imported("day 1", identifiers=chain)
    world.source(*[(n, f"{n}@example.com" if n in "ab" else None) for n in "abcdefgh"], columns=columns)

    result = world.imported("day 2", identifiers=chain)

    assert (result.added, result.removed, result.data_points) == (2, 2, 4)
    assert world.stays() == {("email", "a@example.com"), ("email", "b@example.com")} | {
        ("external_id", n) for n in "cdefgh"
    }
    assert world.cohort_in_braze() == set("abcdefgh")


def test_the_last_word_about_somebody_whose_identifier_changed_is_that_they_are_in(world: Any) -> None:
    world.braze.add_users([{"external_id": "a", "email": "a@example.com"}])
    columns = "USER_ID VARCHAR, EMAIL VARCHAR"
    chain = {"email": "EMAIL", "external_id": "USER_ID"}
    world.source(("a", None), columns=columns)
    world.imported("day 1", identifiers=chain)
    world.source(("a", "a@example.com"), columns=columns)
    # The leaver's request has to be repeated, so it would be overtaken.
    world.braze.fault("status", "/users/track", status=503, times=2)

    world.imported(
        "day 2", identifiers=chain, braze={"max_objects_per_request": 1}, guards={"max_removed": None}
    )

    assert [found[ATTRIBUTE] for found in world.written()] == [True, False, False, False, True]
    assert world.cohort_in_braze() == {"a"}


def test_somebody_braze_refuses_is_kept_with_its_words_and_not_paid_for_again_next_day(world: Any) -> None:
    users = [f"u{n:03}" for n in range(200)]
    world.people(*users)
    world.braze.fault("reject_ids", "/users/track", ids=["u007", "u190"], message="is blacklisted")

    result = world.imported("day 1")

    assert (result.outcome, result.rejected, result.added, result.data_points) == ("partial", 2, 198, 198)
    assert result.rejected_reasons == {"is blacklisted": 2}
    assert world.users() == world.cohort_in_braze() == set(users) - {"u007", "u190"}
    columns = "RUN_ID, ACTION, PLACE, ID_KIND, USER_ID, REASON"
    place = f"attribute:{ATTRIBUTE}"
    assert sorted(world.rows("rejected", columns)) == [
        ("day 1", "enter", place, "external_id", user, "is blacklisted") for user in ("u007", "u190")
    ]

    quiet = world.imported("day 2")

    assert (quiet.outcome, quiet.set_aside, quiet.unchanged, quiet.data_points) == ("unchanged", 2, 198, 0)
    world.braze.clear_faults()
    world.session.execute(
        f"UPDATE {world.tables.rejected} SET REJECTED_AT = DATEADD(day, -8, REJECTED_AT) WHERE USER_ID = 'u007'"
    )

    week_later = world.imported("day 9")

    assert (*figures(week_later), week_later.set_aside) == (1, 0, 198, 200, 199, 1, 1)
    resync = world.imported("day 10", full_resync=True)
    assert (resync.added, resync.set_aside) == (1, 0)
    assert world.users() == world.cohort_in_braze() == set(users)
    # Whom Braze has taken meanwhile may come and go as often as they like.
    world.source(*sorted(set(users) - {"u190"}))
    world.imported("day 11")
    world.source(*users)
    assert world.imported("day 12").added == 1


def test_the_most_frequent_reasons_are_told_without_the_users_they_name(world: Any) -> None:
    users = [f"u{n:04}" for n in range(1600)]
    world.people(*users)
    for n in range(6):
        for user in users[n * 2 : n * 2 + 2]:
            # Two users each, whom the words name, and the last one alone.
            if user != users[11]:
                words = f"{user} is not valid {n}"
                world.braze.fault("reject_ids", "/users/track", ids=[user], message=words)

    result = world.imported("day 1")

    assert result.rejected == 11
    assert result.rejected_reasons == {f"… is not valid {n}": 2 for n in range(5)}
    assert list(result.rejected_reasons) == sorted(result.rejected_reasons)
    assert world.imported("day 2").rejected_reasons is None


def test_too_many_refusals_fail_the_run_after_everything_accepted_is_recorded(world: Any) -> None:
    users = [f"u{n:03}" for n in range(100)]
    world.people(*users)
    world.braze.fault("reject_ids", "/users/track", ids=["u007", "u008"])

    end = world.run("day 1")

    assert (end.result.outcome, end.retry_helps) == ("failed", False)
    assert str(end.error) == end.result.error
    assert "Braze did not accept 2 of 100 changes (2 rejected, 0 without a certain answer)" in str(end.error)
    assert world.users() == world.cohort_in_braze() == set(users) - {"u007", "u008"}
    assert world.rows("run", "STATE, OUTCOME, ADDED, REJECTED") == [("closed", "failed", 98, 2)]


def test_a_leaver_braze_refuses_stays_in_the_ledger(world: Any) -> None:
    world.people("a", "b", "c", "d")
    world.imported("day 1")
    world.source("b", "c", "d")
    world.braze.fault("reject_ids", "/users/track", ids=["a"])

    result = world.imported("day 2", guards={"max_rejected": None})

    assert (result.outcome, result.removed, result.users_imported) == ("partial", 0, 4)
    assert world.users() == {"a", "b", "c", "d"}


def test_who_got_no_certain_answer_gets_whatever_is_right_by_then(world: Any) -> None:
    world.people("came", "stays", "went", "c", "d", "e", "f")
    world.source("went", "c", "d", "e", "f")
    world.imported("day 1")
    world.source("came", "stays", "c", "d", "e", "f")
    world.braze.fault("error_without_index", "/users/track", times=None)

    doubtful = world.imported("day 2", guards={"max_rejected": None})

    assert (doubtful.outcome, doubtful.unknown, doubtful.added, doubtful.removed) == ("partial", 3, 0, 0)
    assert world.users() == {"went", "c", "d", "e", "f"}
    world.braze.clear_faults()
    # By now who came has left again, and who went is back.
    world.source("went", "stays", "c", "d", "e", "f")

    result = world.imported("day 3")

    assert world.cohort_in_braze() == world.users() == {"went", "stays", "c", "d", "e", "f"}
    assert world.braze.left(ATTRIBUTE) == {"came"}
    assert (result.outcome, result.data_points, world.rows("unknown")) == ("success", 3, [])
    assert world.imported("day 4").outcome == "unchanged"
