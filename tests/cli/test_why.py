"""``kubit-braze why``: every way in which a user can be in a cohort, or not."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from airflow_provider_kubit_braze.cli import main
from airflow_provider_kubit_braze.core.holdout import is_held_out
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_CLIENT_SECRET, DEFAULT_PARTNER_API_KEY
from tests.cli.conftest import ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import World

BRAZE = "AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"


class Answer(NamedTuple):
    """What the command said."""

    code: int
    said: dict[str, Any]

    @property
    def verdict(self) -> tuple[int, str]:
        return self.code, self.said["verdict"]

    @property
    def sentence(self) -> str:
        return str(self.said["sentence"])

    @property
    def value(self) -> Any:
        [profile] = self.said["braze"]
        return profile["value"] if profile["known"] else "no such user"


@pytest.fixture
def why(world: World, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Answer]:
    def ask(user: str) -> Answer:
        code = main(["why", user, "--cohort", "vips", "--file", str(world.file), "--json"])
        out, err = capsys.readouterr()
        assert out, err
        return Answer(code, json.loads(out))

    return ask


def test_members_strangers_and_those_between(world: World, why: Callable[[str], Answer]) -> None:
    world.imported("ann", "bob", run_id="day 1")
    world.braze.fault("reject_ids", "/users/track", ids=["rex"])
    world.imported("ann", "rex", run_id="day 2")
    world.source("rex", "new")

    ann = why("ann")
    assert ann.verdict == (1, "leaving")
    assert "Not in the source any more, but in the cohort since 2" in ann.sentence
    assert (ann.value, ann.said["source"]) == (True, [])

    bob = why("bob")
    assert bob.verdict == (0, "left")
    assert "run day 2 sent it, Braze accepted. Braze says false now." in bob.sentence
    assert [(one["run_id"], one["action"], one["answer"]) for one in bob.said["sent"]] == [
        ("day 1", "enter", "accepted"),
        ("day 2", "leave", "accepted"),
    ]
    [stay] = bob.said["stays"]
    assert (stay["entered_run"], stay["left_run"]) == ("day 1", "day 2")

    rex = why("rex")
    assert rex.verdict == (1, "set_aside")
    assert "Braze rejected them in run day 2 of 2" in rex.sentence
    assert "set aside until 2" in rex.sentence
    assert rex.said["sent"][-1]["reason"]

    new = why("new")
    assert new.verdict == (1, "waiting")
    assert new.sentence.endswith("Braze does not know this user now, and drops what is sent of them.")
    assert new.value == "no such user"

    nobody = why("nobody")
    assert nobody.verdict == (0, "never")
    assert nobody.sentence.startswith("Not in the source, and no import ever had them.")

    world.source("ann", "rex")
    ann = why("ann")
    assert ann.verdict == (0, "in")
    assert "run day 1 sent them, Braze accepted. Braze says true now." in ann.sentence
    assert ann.said["source"] == [
        {"named": "external_id ann", "found_by": ["external_id"], "held_out": False}
    ]


def test_who_was_set_aside_is_sent_again_when_the_row_changes(
    world: World, why: Callable[[str], Answer]
) -> None:
    world.define(identifiers={"external_id": "USER_ID", "email": "EMAIL"})
    world.braze.fault("reject_ids", "/users/track", ids=["rex"])
    columns = "USER_ID VARCHAR, EMAIL VARCHAR"
    world.source(("rex", "rex@example.com"), columns=columns)
    assert world.run().result.rejected == 1

    assert why("rex").verdict == (1, "set_aside")
    world.source(("rex", "rex@example.org"), columns=columns)
    assert why("rex").verdict == (1, "rejected")


def test_an_answer_that_got_lost_may_mean_either(world: World, why: Callable[[str], Answer]) -> None:
    world.imported("gone", run_id="day 1")
    world.braze.fault("error_without_index", "/users/track", times=None)
    world.imported("came", run_id="day 2")
    world.braze.clear_faults()

    came, gone = why("came"), why("gone")

    assert "In the source and sent by run day 2" in came.sentence
    assert came.said["verdict"] == "unknown"
    # Braze took it, as it turns out: what is read back decides.
    assert (came.code, came.value) == (0, True)
    assert (gone.said["verdict"], gone.value) == ("leaving", False)
    assert gone.said["sent"][-1]["answer"] == "unknown"

    world.source("nobody")
    assert "has no certain answer, and the next import takes them out" in why("came").sentence


def test_who_was_looked_up_and_not_found_is_unmatched(world: World, why: Callable[[str], Answer]) -> None:
    world.define(match="all")
    world.source("stranger")
    assert world.run("day 1").result.unmatched == 1

    found = why("stranger")

    assert found.verdict == (1, "unmatched")
    assert "Braze did not know them when run day 1 of 2" in found.sentence
    assert found.value == "no such user"


def test_who_was_to_be_held_out_and_is_unknown_to_braze_is_unmatched(
    world: World, why: Callable[[str], Answer]
) -> None:
    world.define(match="all", holdout="50%")
    users = [f"u{n}" for n in range(20)]
    held = next(user for user in users if is_held_out("vips", "external_id", user, "50%"))
    world.braze.add_users([user for user in users if user != held])
    world.source(*users)
    assert world.run("day 1").result.unmatched == 1

    found = why(held)

    # Kept from Braze is what they should be.
    assert found.verdict == (0, "unmatched")
    assert "whom the holdout would keep from Braze" in found.sentence
    assert (found.value, found.said["stays"]) == ("no such user", [])
    assert [(one["action"], one["answer"]) for one in found.said["sent"]] == [("hold", "unmatched")]

    world.braze.add_users([held])
    assert world.run("day 2").result.unmatched == 0
    assert why(held).verdict == (0, "held_out")


def test_a_held_out_member_is_kept_out_on_purpose(world: World, why: Callable[[str], Answer]) -> None:
    users = [f"u{n}" for n in range(20)]
    held = next(user for user in users if is_held_out("vips", "external_id", user, "50%"))
    world.define(holdout="50%")
    world.imported(*users)

    found = why(held)

    assert found.verdict == (0, "held_out")
    assert "holdout keeps from Braze, on purpose" in found.sentence
    assert found.value is None
    assert found.said["stays"][0]["held_out"] is True
    assert found.said["sent"] == []


def test_one_of_several_identifiers_is_enough_and_the_others_are_masked(
    world: World, why: Callable[[str], Answer], capsys: pytest.CaptureFixture[str]
) -> None:
    world.define(identifiers={"external_id": "USER_ID", "email": "EMAIL"})
    columns = "USER_ID VARCHAR, EMAIL VARCHAR"
    world.braze.add_users(["customer-4711", {"external_id": "x", "email": "only@example.com"}])
    world.source(("customer-4711", "ann@example.com"), (None, "only@example.com"), columns=columns)
    assert world.run().error is None

    found = why("ann@example.com")

    assert found.verdict == (0, "in")
    assert found.said["source"] == [{"named": "external_id cu…1", "found_by": ["email"], "held_out": False}]
    assert "4711" not in json.dumps(found.said)
    only = why("only@example.com")
    assert only.verdict == (0, "in")
    assert only.said["source"][0]["named"] == "email only@example.com"

    main(["why", "ann@example.com", "--cohort", "vips", "--file", str(world.file)])
    out, _ = capsys.readouterr()
    assert "a row for external_id cu…1 (found by email)" in out
    assert "4711" not in out


def test_a_row_that_names_nobody_is_invalid(world: World, why: Callable[[str], Answer]) -> None:
    long = "x" * 988
    world.source(long)

    found = why(long)

    assert found.verdict == (1, "invalid")


def test_the_members_of_a_partner_cohort_cannot_be_read_back(
    world: World,
    why: Callable[[str], Answer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = json.loads(os.environ[BRAZE])
    keys = {"partner_api_key": DEFAULT_PARTNER_API_KEY, "client_secret": DEFAULT_CLIENT_SECRET}
    monkeypatch.setenv(BRAZE, json.dumps({**given, "extra": keys}))
    world.define(braze={"deliver_as": "partner_cohort"})
    world.imported("ann")

    found = why("ann")

    assert found.verdict == (0, "in")
    assert found.sentence.endswith("Braze knows the user; who is in a partner cohort cannot be read back.")
    assert found.said["place"] == "partner_cohort:kubit"
    main(["why", "ann", "--cohort", "vips", "--file", str(world.file)])
    assert "known; who is in a partner cohort cannot be read back" in capsys.readouterr().out


def test_a_cohort_that_moved_says_where_the_user_is_still_marked(
    world: World, why: Callable[[str], Answer]
) -> None:
    world.imported("ann")
    world.define(braze={"attribute": "is_vip"})

    found = why("ann")

    assert found.verdict == (1, "moving")
    assert f"(attribute {ATTRIBUTE}); the next import moves them to attribute is_vip" in found.sentence


def test_what_an_import_under_way_has_in_its_plan_is_told(world: World, why: Callable[[str], Answer]) -> None:
    world.braze.add_users(["ann"])
    world.source("ann")
    world.braze.fault("status", "/users/track", status=401, times=None)
    assert world.run("day 1").error is not None

    found = why("ann")

    assert found.verdict == (1, "under_way")
    assert "in the plan of run day 1 of 2" in found.sentence


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (False, "Braze says false now: it may be late by minutes"),
        (None, "Braze has no value now: it may be late by minutes"),
    ],
    ids=["false", "not set"],
)
def test_what_braze_shows_decides_whether_all_is_well(
    world: World, why: Callable[[str], Answer], value: bool | None, words: str
) -> None:
    world.imported("ann")
    world.braze.reset()
    world.braze.add_users(
        [{"external_id": "ann", "custom_attributes": {} if value is None else {ATTRIBUTE: value}}]
    )

    found = why("ann")

    assert found.verdict == (1, "in")
    assert words in found.sentence


def test_somebody_elses_write_is_seen(world: World, why: Callable[[str], Answer]) -> None:
    world.imported("ann")
    world.braze.add_users([{"external_id": "eve", "custom_attributes": {ATTRIBUTE: True}}])

    found = why("eve")

    assert found.verdict == (1, "never")
    assert "Braze says true now: something else writes the attribute" in found.sentence


def test_without_the_right_to_look_the_ledger_still_answers(
    world: World, why: Callable[[str], Answer], capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_REST_KEY

    world.imported("ann")
    world.braze.configure(keys={DEFAULT_REST_KEY: ["users.track"]})

    found = why("ann")

    assert found.verdict == (0, "in")
    assert "users.export.ids" in found.said["braze_problem"]
    assert "Braze says" not in found.sentence
    main(["why", "ann", "--cohort", "vips", "--file", str(world.file)])
    assert "could not be asked: " in capsys.readouterr().out


def test_one_screen_for_people(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.imported("ann", run_id="day 1")

    code = main(["why", "ann", "--cohort", "vips", "--file", str(world.file)])

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    first, *lines, last = out.splitlines()
    assert first == "ann and Our V.I.P.s (vips)"
    assert [line.split("  ")[0] for line in lines] == ["source", "ledger", "last sent", "Braze now"]
    assert f"external_id ann: attribute {ATTRIBUTE} is true" in out
    assert last.startswith("In the source and in the cohort since 2")
    assert "\x1b" not in out


def test_the_id_stands_in_no_log_and_in_no_statement(
    world: World, why: Callable[[str], Answer], caplog: pytest.LogCaptureFixture
) -> None:
    world.imported("somebody-very-private", "another-private-one")
    caplog.set_level("DEBUG")

    assert why("somebody-very-private").verdict == (0, "in")

    statements = [seen for seen in world.sandbox.snowflake.queries(last=60) if '"why"' in seen.tag]
    assert len(statements) > 5
    assert "private" not in caplog.text + " ".join(seen.sql + seen.tag for seen in statements)


def test_nothing_is_changed_and_no_lease_is_needed(world: World, why: Callable[[str], Answer]) -> None:
    world.imported("ann")
    tables = ["COHORT_MEMBERSHIP", "IMPORT_RUN", "IMPORT_CHANGE", "IMPORT_LEASE"]

    def state() -> list[Any]:
        # Without an ORDER BY they come in any order.
        return [
            sorted(world.session.rows(f"SELECT * FROM {world.schema}.{name}"), key=repr) for name in tables
        ]

    before = state()
    written = world.requests

    why("ann")

    assert state() == before
    assert world.requests == written


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([" ", "--cohort", "vips", "--file", "{file}"], "The user's id is blank"),
        (["ann", "--cohort", "other", "--file", "{file}"], "does not define a cohort 'other'"),
    ],
    ids=["blank", "another cohort"],
)
def test_wrong_use_is_a_sentence_and_2(
    world: World, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", *(one.format(file=world.file) for one in arguments)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_source_that_is_not_there_is_a_sentence(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "ann", "--cohort", "vips", "--file", str(world.file)]) == 1
    assert "Snowflake refuses source.table" in capsys.readouterr().err
