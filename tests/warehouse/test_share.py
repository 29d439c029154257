"""Who is known to Braze, and what the profiles show, by a join with the share's views."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.errors import ProgrammingError

from airflow_provider_kubit_braze.core.ranges import Range
from airflow_provider_kubit_braze.exceptions import SourceError, StatementBrokenOffError
from airflow_provider_kubit_braze.sandbox.braze_share import (
    LATEST_CUSTOM,
    LATEST_DEFAULT,
    OTHER_APP_GROUP,
    SNAPSHOT_CUSTOM,
    SNAPSHOT_DEFAULT,
    VIEWS,
    fill_profile_share,
)
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.share import (
    NOT_IN_SHARE,
    Matched,
    ProfileShare,
    changes_at,
    planned_changes,
    sample_of,
)
from airflow_provider_kubit_braze.warehouse.stays import accepted_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

APP_GROUP = "5f0c-workspace"
VIP = "attribute:vip"
BRAZE_ID = "0123456789abcdef01234567"

Change = tuple[str, str, str, str]


class Share:
    """A share of the test's own in the local Snowflake, and the plan whose users it is asked about."""

    def __init__(self, sandbox: Sandbox, warehouse: Any) -> None:
        self._sandbox = sandbox
        self._warehouse = warehouse
        self.session = warehouse.session
        self.tables = warehouse.tables
        self.key = warehouse.key
        self.name = f"BRAZE_SHARE.{warehouse.schema}"

    def fill(self, *users: Any, **options: Any) -> ProfileShare:
        self._sandbox.braze.add_users(users)
        given = {"app_group_id": APP_GROUP, **options}
        fill_profile_share(self._sandbox.braze, self.session.connection, self.name, **given)
        return self.opened()

    def opened(self, **changes: str) -> ProfileShare:
        return ProfileShare(self.session, **{"share": self.name, "app_group_id": APP_GROUP, **changes})

    def insert(self, view: str, **columns: Any) -> None:
        given = {"APP_GROUP_ID": APP_GROUP, **columns}
        values = ", ".join("PARSE_JSON(%s)" if name == "CUSTOM_ATTRIBUTES" else "%s" for name in given)
        self.session.execute(
            f"INSERT INTO {self.name}.{view} ({', '.join(given)}) SELECT {values}", list(given.values())
        )

    def plan(self, *changes: Change, import_id: str = "i1") -> None:
        """Freeze a plan of action, place, kind and user."""
        columns = "IMPORT_ID, SEQ, ACTION, PLACE, ID_KIND, USER_ID, HELD_OUT"
        values = ", ".join(["(%s, %s, %s, %s, %s, %s, FALSE)"] * len(changes))
        rows = [value for seq, change in enumerate(changes, 1) for value in (import_id, seq, *change)]
        self.session.execute(f"INSERT INTO {self.tables.change} ({columns}) VALUES {values}", rows)

    def enter(self, *users: str, kind: str = "external_id") -> None:
        self.plan(*[("enter", VIP, kind, user) for user in users])

    def match(self, share: ProfileShare, **options: Any) -> Matched:
        share.check(attributes=False)
        with self.session.transaction():
            return share.note_unmatched(self.tables, "i1", key=self.key, run_id="run 1", **options)

    def unmatched(self) -> set[str]:
        return {user for (user,) in self.session.rows(f"SELECT USER_ID FROM {self.tables.unmatched}")}


@pytest.fixture
def braze_share(kubit_braze_clean_sandbox: Sandbox, warehouse: Any) -> Share:
    return Share(kubit_braze_clean_sandbox, warehouse)


def attributes(user: str, **values: Any) -> dict[str, Any]:
    return {"external_id": user, "custom_attributes": values}


# -- who is known ------------------------------------------------------------------------------------------


def test_entrants_whom_braze_does_not_know_are_noted_with_the_reason(braze_share: Share) -> None:
    share = braze_share.fill("known")
    braze_share.enter("known", "stranger")

    found = braze_share.match(share)

    assert found == Matched(asked=2, unmatched=1, unanswered={})
    columns = "IMPORT_ID, WORKSPACE, COHORT_ID, RUN_ID, SEQ, ACTION, PLACE, ID_KIND, USER_ID, REASON"
    rows = braze_share.session.rows(f"SELECT {columns} FROM {braze_share.tables.unmatched}")
    assert rows == [
        ("i1", *braze_share.key, "run 1", 2, "enter", VIP, "external_id", "stranger", NOT_IN_SHARE)
    ]
    (age,) = braze_share.session.row(
        f"SELECT DATEDIFF(second, FOUND_AT, SYSDATE()) FROM {braze_share.tables.unmatched}"
    )
    assert 0 <= age < 600


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        pytest.param("Abc", "abc", id="case"),
        pytest.param("abc", "abc ", id="blank-behind"),
        pytest.param("abc", " abc", id="blank-before"),
        pytest.param("1", "01", id="number"),
        pytest.param("\u00e9", "e\u0301", id="combining-mark"),
        pytest.param("ab", "a_", id="wildcard"),
        pytest.param("NULL", "null", id="null-in-words"),
        pytest.param("x' OR '1'='1", "x", id="quote"),
    ],
)
def test_ids_are_opaque(braze_share: Share, known: str, asked: str) -> None:
    share = braze_share.fill(known)
    braze_share.enter(known, asked)

    braze_share.match(share)

    assert braze_share.unmatched() == {asked}


@pytest.mark.parametrize(
    "user",
    [
        pytest.param("it's; DROP TABLE x --", id="quotes-and-semicolon"),
        pytest.param('\U0001f600 100% \\ "q"', id="emoji-percent-backslash"),
        pytest.param("\u05d0\u05d1\u202e", id="right-to-left"),
        pytest.param("x" * 987, id="as-long-as-can-be"),
    ],
)
def test_a_known_user_is_found_whatever_the_id_is_made_of(braze_share: Share, user: str) -> None:
    share = braze_share.fill(user)
    braze_share.enter(user, "stranger")

    braze_share.match(share)

    assert braze_share.unmatched() == {"stranger"}


@pytest.mark.parametrize("earlier_names", [pytest.param(False, id="now"), pytest.param(True, id="earlier")])
@pytest.mark.parametrize(
    ("kind", "known", "unknown"),
    [
        pytest.param("external_id", "u", BRAZE_ID, id="external_id"),
        pytest.param("braze_id", BRAZE_ID, "u", id="braze_id"),
        pytest.param("email", "a@example.com", "b@example.com", id="email"),
        pytest.param("phone", "+15551234567", "a@example.com", id="phone"),
    ],
)
def test_every_kind_is_looked_for_in_its_own_column_whatever_braze_calls_it(
    braze_share: Share, kind: str, known: str, unknown: str, earlier_names: bool
) -> None:
    user = {"external_id": "u", "braze_id": BRAZE_ID, "email": "a@example.com", "phone": "+15551234567"}
    share = braze_share.fill(user, "somebody else", earlier_names=earlier_names)
    braze_share.enter(known, unknown, kind=kind)

    assert braze_share.match(share) == Matched(asked=2, unmatched=1, unanswered={})
    assert braze_share.unmatched() == {unknown}


def test_a_name_of_one_kind_is_none_of_another(braze_share: Share) -> None:
    names = {"external_id": "u", "braze_id": BRAZE_ID, "email": "a@example.com", "phone": "+15551234567"}
    share = braze_share.fill({**names, "custom_attributes": {"vip": True}})
    braze_share.plan(*[("enter", VIP, kind, name) for kind in names for name in names.values()])

    assert braze_share.match(share) == Matched(asked=16, unmatched=12, unanswered={})
    rows = braze_share.session.rows(f"SELECT ID_KIND, USER_ID FROM {braze_share.tables.unmatched}")
    assert not set(rows) & set(names.items())
    found = share.verify(planned_changes(braze_share.tables, "i1"))
    assert found.counts == {"enter": {"right": 4, "unknown": 12}}


def test_kinds_that_the_share_does_not_have_are_left_to_the_api(braze_share: Share) -> None:
    share = braze_share.fill("u")
    braze_share.plan(
        ("enter", VIP, "user_alias:crm", "n-1"),
        ("enter", VIP, "user_alias:crm", "n-2"),
        ("enter", "partner_cohort:kubit", "device_id", "d"),
        ("leave", VIP, "user_alias:old", "n-3"),
        ("enter", VIP, "external_id", "stranger"),
    )

    found = braze_share.match(share)

    assert found == Matched(asked=1, unmatched=1, unanswered={"user_alias:crm": 2, "device_id": 1})
    assert braze_share.unmatched() == {"stranger"}


def test_nobody_is_asked_about_when_the_share_has_none_of_the_kinds(braze_share: Share) -> None:
    share = braze_share.fill("u")
    braze_share.enter("d", kind="device_id")

    assert braze_share.match(share) == Matched(asked=0, unmatched=0, unanswered={"device_id": 1})
    assert braze_share.unmatched() == set()


def test_entrants_are_asked_about_and_those_to_be_held_out(braze_share: Share) -> None:
    share = braze_share.fill("u")
    braze_share.plan(
        *[(action, VIP, "external_id", action) for action in ("leave", "enter", "refresh", "hold", "drop")]
    )

    assert braze_share.match(share).asked == 2
    assert braze_share.unmatched() == {"enter", "hold"}


def test_another_imports_plan_is_left_alone(braze_share: Share) -> None:
    share = braze_share.fill("u")
    braze_share.enter("mine")
    braze_share.plan(("enter", VIP, "external_id", "theirs"), import_id="i2")

    braze_share.match(share)

    assert braze_share.unmatched() == {"mine"}


def test_asking_again_notes_nobody_twice(braze_share: Share) -> None:
    share = braze_share.fill("u")
    braze_share.enter("s1", "s2")
    first_two = (planned_changes(braze_share.tables, "i1")[0] + " AND c.SEQ = 1", ("i1",))

    assert braze_share.match(share, among=first_two).unmatched == 1
    assert braze_share.match(share) == Matched(asked=2, unmatched=1, unanswered={})
    rows = braze_share.session.rows(f"SELECT USER_ID FROM {braze_share.tables.unmatched} ORDER BY SEQ")
    assert rows == [("s1",), ("s2",)]


def test_a_profile_of_another_workspace_does_not_count(braze_share: Share) -> None:
    share = braze_share.fill("u", others=[{"external_id": "theirs", "braze_id": "t"}])
    braze_share.enter("u", "theirs")

    braze_share.match(share)

    assert braze_share.unmatched() == {"theirs"}


def test_somebody_without_an_external_id_is_nobodys_match(braze_share: Share) -> None:
    share = braze_share.fill({"braze_id": BRAZE_ID, "email": "a@example.com"})
    braze_share.enter("", "None", "NULL")

    braze_share.match(share)

    assert braze_share.unmatched() == {"", "None", "NULL"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param({"TIME": 1}, {"TIME": 2}, id="seconds"),
        pytest.param({"TIME": 1, "TIME_MS": 1001}, {"TIME": 1, "TIME_MS": 1002}, id="milliseconds"),
        pytest.param(
            {"TIME": 1, "SF_UPDATED_AT": "2026-01-01"},
            {"TIME": 1, "SF_UPDATED_AT": "2026-01-02"},
            id="updated",
        ),
        pytest.param({}, {"TIME": 1}, id="without-time"),
    ],
)
def test_of_several_versions_of_a_profile_the_latest_counts(
    braze_share: Share, old: dict[str, Any], new: dict[str, Any]
) -> None:
    share = braze_share.fill("u")
    # In either order, so that none of both comes out right by chance.
    for user, versions in (("1", ("new", "old")), ("2", ("old", "new"))):
        for version in versions:
            columns = new if version == "new" else old
            braze_share.insert(LATEST_DEFAULT, USER_ID=user, EXTERNAL_USER_ID=version + user, **columns)
    braze_share.enter("old1", "new1", "old2", "new2")

    braze_share.match(share)

    assert braze_share.unmatched() == {"old1", "old2"}


def test_somebody_archived_is_unknown(braze_share: Share) -> None:
    share = braze_share.fill("u")
    for archived in (True, False, None):
        user = f"archived: {archived}"
        braze_share.insert(LATEST_DEFAULT, USER_ID=user, EXTERNAL_USER_ID=user, TIME=1, ARCHIVED=archived)
    braze_share.enter("archived: True", "archived: False", "archived: None")

    braze_share.match(share)

    assert braze_share.unmatched() == {"archived: True"}


def test_a_wrong_app_group_is_an_error_and_not_a_cohort_of_strangers(braze_share: Share) -> None:
    braze_share.fill("u", others=[{"external_id": "theirs", "braze_id": "t"}])
    braze_share.enter("u")
    share = braze_share.opened(app_group_id="mistyped")

    with pytest.raises(SourceError, match=f"no profile of app group 'mistyped' in {LATEST_DEFAULT}; write"):
        share.note_unmatched(braze_share.tables, "i1", key=braze_share.key, run_id="run 1")

    assert braze_share.unmatched() == set()


# -- what the share has ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("views", "delay"),
    [
        pytest.param(VIEWS, timedelta(minutes=10), id="all"),
        pytest.param((SNAPSHOT_DEFAULT, SNAPSHOT_CUSTOM), timedelta(hours=12), id="snapshots-only"),
        pytest.param((LATEST_DEFAULT, SNAPSHOT_CUSTOM), timedelta(hours=12), id="the-older-of-both"),
        pytest.param((SNAPSHOT_DEFAULT, LATEST_CUSTOM), timedelta(hours=12), id="the-older-of-both-again"),
    ],
)
def test_the_freshest_views_are_asked(braze_share: Share, views: Sequence[str], delay: timedelta) -> None:
    share = braze_share.fill(attributes("u", vip=True), attributes("out", vip=False), views=views)
    # What only the staler view would say is wrong.
    for stale, fresh in ((SNAPSHOT_DEFAULT, LATEST_DEFAULT), (SNAPSHOT_CUSTOM, LATEST_CUSTOM)):
        if stale in views and fresh in views:
            braze_share.session.execute(f"DELETE FROM {braze_share.name}.{stale}")
    braze_share.enter("u", "out", "stranger")

    share.check()

    assert share.delay == delay
    assert braze_share.match(share).unmatched == 1
    found = share.verify(planned_changes(braze_share.tables, "i1"))
    assert found.counts == {"enter": {"right": 1, "different": 1, "unknown": 1}}


def test_matching_needs_no_custom_attributes(braze_share: Share) -> None:
    share = braze_share.fill("u", views=(LATEST_DEFAULT,))
    braze_share.enter("u", "stranger")

    assert braze_share.match(share).unmatched == 1
    with pytest.raises(SourceError, match=f"has no view {LATEST_CUSTOM} or {SNAPSHOT_CUSTOM}"):
        share.check()


def test_missing_views_are_named_with_the_share_and_the_grant(braze_share: Share) -> None:
    braze_share.fill("u", views=(LATEST_CUSTOM,))

    with pytest.raises(SourceError) as caught:
        braze_share.opened().check()

    said = str(caught.value)
    assert f"share {braze_share.name} has no view {LATEST_DEFAULT} or {SNAPSHOT_DEFAULT}" in said
    assert "GRANT IMPORTED PRIVILEGES ON DATABASE BRAZE_SHARE TO ROLE" in said
    assert "(Snowflake: " in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("view", "dropped", "named"),
    [
        pytest.param(LATEST_DEFAULT, ["APP_GROUP_ID"], "APP_GROUP_ID", id="app-group"),
        pytest.param(LATEST_DEFAULT, ["USER_ID"], "USER_ID", id="user"),
        pytest.param(
            LATEST_DEFAULT, ["EXTERNAL_USER_ID"], "EXTERNAL_USER_ID or EXTERNAL_ID", id="external-id"
        ),
        pytest.param(LATEST_CUSTOM, ["CUSTOM_ATTRIBUTES"], "CUSTOM_ATTRIBUTES", id="attributes"),
        pytest.param(
            LATEST_CUSTOM,
            ["TIME", "TIME_MS", "SF_UPDATED_AT"],
            "TIME or TIME_MS or SF_UPDATED_AT",
            id="recency",
        ),
    ],
)
def test_a_view_without_a_needed_column_is_named_with_it(
    braze_share: Share, view: str, dropped: list[str], named: str
) -> None:
    share = braze_share.fill("u")
    for column in dropped:
        braze_share.session.execute(f"ALTER TABLE {braze_share.name}.{view} DROP COLUMN {column}")

    with pytest.raises(SourceError, match=f"View {view} of .*{braze_share.name} has no column {named};"):
        share.check()


def test_a_view_without_addresses_leaves_them_to_the_api(braze_share: Share) -> None:
    share = braze_share.fill({"external_id": "u", "email": "a@example.com"})
    braze_share.session.execute(f"ALTER TABLE {braze_share.name}.{LATEST_DEFAULT} DROP COLUMN EMAIL_ADDRESS")
    braze_share.enter("b@example.com", kind="email")

    assert braze_share.match(share) == Matched(asked=0, unmatched=0, unanswered={"email": 1})


@pytest.mark.parametrize("name", ["", "a.b.c", "X; DROP TABLE Y", "BRAZE_SHARE.PUBLIC "])
def test_what_is_no_schema_never_gets_into_a_statement(braze_share: Share, name: str) -> None:
    with pytest.raises(SourceError, match=r"is not a schema; write DATABASE\.SCHEMA"):
        braze_share.opened(share=name)


def test_a_quoted_schema_with_a_percent_sign_is_read(braze_share: Share) -> None:
    braze_share.name = f'BRAZE_SHARE."{braze_share.tables.schema} 100%s"'
    share = braze_share.fill(attributes("u", vip=True))
    braze_share.enter("u", "stranger")

    assert braze_share.match(share).unmatched == 1
    assert share.verify(planned_changes(braze_share.tables, "i1")).total("right") == 1


def test_a_view_that_goes_away_meanwhile_is_an_error_in_one_sentence(braze_share: Share) -> None:
    share = braze_share.fill("u")
    braze_share.enter("u")
    share.check()
    braze_share.session.execute(f"DROP TABLE {braze_share.name}.{LATEST_DEFAULT}")

    with pytest.raises(SourceError, match=f"refuses to read Braze's data share {braze_share.name}: "):
        share.verify(planned_changes(braze_share.tables, "i1"))


@pytest.mark.parametrize("statement", ["SELECT * FROM", "SELECT 1 FROM"])
def test_a_share_that_could_not_be_read_now_is_not_called_missing(
    braze_share: Share, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    share = braze_share.fill("u")
    execute = Session.execute

    def time_out(session: Session, sql: str, params: Any = None) -> Any:
        if sql.startswith(statement):
            words = "Statement reached its timeout"
            raise ProgrammingError(msg=words, errno=630, sqlstate="57014", send_telemetry=False)
        return execute(session, sql, params)

    monkeypatch.setattr(Session, "execute", time_out)
    with pytest.raises(StatementBrokenOffError) as caught:
        share.check()
    assert str(caught.value) == (
        f"Braze's data share {braze_share.name} could not be read; Snowflake says: Statement reached its timeout"
    )
    assert caught.value.retry_helps


# -- what the profiles show --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "inside"),
    [
        pytest.param(attributes("u", vip=True), True, id="true"),
        pytest.param(attributes("u", vip=False), False, id="false"),
        pytest.param(attributes("u", vip=None), False, id="null"),
        pytest.param(attributes("u", vip="true"), False, id="text"),
        pytest.param(attributes("u", vip=1), False, id="number"),
        pytest.param(attributes("u", vip=[True]), False, id="array"),
        pytest.param(attributes("u", vip={"vip": True}), False, id="object"),
        pytest.param(attributes("u", VIP=True), False, id="other-case"),
        pytest.param(attributes("u", other=True), False, id="other-attribute"),
        pytest.param("u", False, id="no-attributes"),
    ],
)
@pytest.mark.parametrize("views", [VIEWS, (SNAPSHOT_DEFAULT, SNAPSHOT_CUSTOM)], ids=["latest", "snapshot"])
def test_only_the_boolean_true_is_in_the_cohort(
    braze_share: Share, profile: Any, inside: bool, views: Sequence[str]
) -> None:
    share = braze_share.fill(profile, views=views)
    braze_share.plan(*[(action, VIP, "external_id", "u") for action in ("enter", "refresh", "leave")])

    found = share.verify(planned_changes(braze_share.tables, "i1"))

    member, leaver = ("right", "different") if inside else ("different", "right")
    assert found.counts == {"enter": {member: 1}, "refresh": {member: 1}, "leave": {leaver: 1}}
    assert found.asked == 3


def test_a_leaver_whom_braze_does_not_know_is_right_and_an_entrant_is_not(braze_share: Share) -> None:
    share = braze_share.fill("somebody")
    actions = ("enter", "refresh", "leave", "hold", "drop")
    braze_share.plan(*[(action, VIP, "external_id", "stranger") for action in actions])

    found = share.verify(planned_changes(braze_share.tables, "i1"))

    assert found.counts == {"enter": {"unknown": 1}, "refresh": {"unknown": 1}, "leave": {"right": 1}}
    assert (found.total("right"), found.total("unknown"), found.total("different")) == (1, 2, 0)


@pytest.mark.parametrize(
    "attribute", ["vip", "v.i.p", "v[0]", 'vi\'p "q"', "100%s", "\u00e9 \U0001f600", "a:b", "leave"]
)
def test_each_change_is_looked_for_under_the_attribute_of_its_own_place(
    braze_share: Share, attribute: str
) -> None:
    share = braze_share.fill(attributes("u", **{attribute: True, "former": False}))
    braze_share.plan(
        ("leave", "attribute:former", "external_id", "u"),
        ("enter", f"attribute:{attribute}", "external_id", "u"),
        ("enter", "attribute:neither", "external_id", "u"),
    )

    found = share.verify(planned_changes(braze_share.tables, "i1"))

    assert found.counts == {"leave": {"right": 1}, "enter": {"right": 1, "different": 1}}


def test_of_a_partner_cohort_the_share_tells_who_is_known(braze_share: Share) -> None:
    share = braze_share.fill("u")
    braze_share.plan(
        *[("enter", "partner_cohort:kubit", "external_id", user) for user in ("u", "stranger")],
        ("enter", "partner_cohort:kubit", "device_id", "d"),
    )

    found = share.verify(planned_changes(braze_share.tables, "i1"))

    assert found.counts == {"enter": {"right": 1, "unknown": 1}}
    assert found.unanswered == {"device_id": 1}


@pytest.mark.parametrize(
    ("action", "verdict"),
    [pytest.param("enter", "right", id="entrant"), pytest.param("leave", "different", id="leaver")],
)
def test_of_profiles_that_share_an_address_any_may_be_the_one(
    braze_share: Share, action: str, verdict: str
) -> None:
    shared = "a@example.com"
    share = braze_share.fill(
        {**attributes("in", vip=True), "email": shared},
        {**attributes("out", vip=False), "email": shared},
        {"external_id": "none", "email": shared},
    )
    braze_share.plan((action, VIP, "email", shared))

    assert share.verify(planned_changes(braze_share.tables, "i1")).counts == {action: {verdict: 1}}


def test_the_latest_version_of_the_attributes_counts(braze_share: Share) -> None:
    share = braze_share.fill({"braze_id": "b", **attributes("u", other=1)})
    for moment, value in ((1, "true"), (3, "false"), (2, "true")):
        known = f'{{"vip": {value}}}'
        braze_share.insert(LATEST_CUSTOM, USER_ID="b", TIME=4_000_000_000 + moment, CUSTOM_ATTRIBUTES=known)
    braze_share.enter("u")

    assert share.verify(planned_changes(braze_share.tables, "i1")).counts == {"enter": {"different": 1}}


def test_another_workspaces_attributes_are_not_read(braze_share: Share) -> None:
    twin = {"braze_id": "b", **attributes("u", vip=True)}
    share = braze_share.fill({"braze_id": "b", "external_id": "u"}, others=[twin])
    braze_share.enter("u")

    assert share.verify(planned_changes(braze_share.tables, "i1")).counts == {"enter": {"different": 1}}


def test_another_workspaces_user_of_the_same_name_is_not_ours(braze_share: Share) -> None:
    share = braze_share.fill(
        attributes("u", vip=True), others=[{"braze_id": "t", **attributes("t", vip=True)}]
    )
    braze_share.enter("u", "t")

    assert share.verify(planned_changes(braze_share.tables, "i1")).counts == {
        "enter": {"right": 1, "unknown": 1}
    }


def test_each_change_of_a_sample_has_its_own_verdict(braze_share: Share) -> None:
    share = braze_share.fill(attributes("in", vip=True), attributes("out", vip=False))
    changes = [(a, VIP, "external_id", u) for u in ("in", "out", "stranger") for a in ("enter", "leave")]
    braze_share.plan(*changes, ("enter", VIP, "user_alias:crm", "n"), ("hold", VIP, "external_id", "in"))

    found = share.verdicts(changes_at(braze_share.tables, "i1", range(2, 9)))

    assert found == {2: "different", 3: "different", 4: "right", 5: "unknown", 6: "right"}


@pytest.mark.parametrize("seqs", [pytest.param([], id="none"), pytest.param([2], id="only-an-alias")])
def test_where_nothing_can_be_asked_there_is_no_verdict(braze_share: Share, seqs: list[int]) -> None:
    share = braze_share.fill("u")
    braze_share.plan(("enter", VIP, "external_id", "u"), ("enter", VIP, "user_alias:crm", "n"))

    sql, params = changes_at(braze_share.tables, "i1", seqs)

    assert share.verdicts((sql, params)) == {}
    assert "()" not in sql  # which Snowflake refuses and the local one takes


def test_what_braze_rejected_is_not_verified(braze_share: Share) -> None:
    share = braze_share.fill(attributes("u1", vip=True))
    braze_share.enter("u1", "u2", "u3")
    braze_share.session.execute(
        f"INSERT INTO {braze_share.tables.rejected} (IMPORT_ID, SEQ) VALUES ('i1', 2)"
    )

    found = share.verify(accepted_changes(braze_share.tables, "i1", [Range(1, 2)]))

    assert found.counts == {"enter": {"right": 1}}


def test_strangers_found_by_verification_are_noted_like_those_found_before(braze_share: Share) -> None:
    share = braze_share.fill("u")
    braze_share.enter("u", "s1", "s2")
    accepted = accepted_changes(braze_share.tables, "i1", [Range(1, 2)])

    assert share.verify(accepted).total("unknown") == 1
    assert braze_share.match(share, among=accepted).unmatched == 1
    assert braze_share.unmatched() == {"s1"}


# -- samples -----------------------------------------------------------------------------------------------


def smallest(import_id: str, seqs: Sequence[int], size: int) -> set[int]:
    def digest(seq: int) -> str:
        return hashlib.md5(f"{import_id}:{seq}".encode(), usedforsecurity=False).hexdigest()

    return set(sorted(seqs, key=digest)[:size])


@pytest.mark.parametrize("import_id", ["i1", "it's %s"])
@pytest.mark.parametrize("size", [0, 1, 7, 30, 10_000])
def test_a_sample_is_the_same_random_ones_each_time(braze_share: Share, import_id: str, size: int) -> None:
    actions = ["leave", "enter", "hold", "refresh", "drop"] * 10
    braze_share.plan(
        *[(action, VIP, "external_id", f"u{n}") for n, action in enumerate(actions)], import_id=import_id
    )
    sent = [n for n, action in enumerate(actions, 1) if action not in ("hold", "drop")]

    sql, params = sample_of(planned_changes(braze_share.tables, import_id), import_id, size)

    found = [int(row[0]) for row in braze_share.session.rows(sql, params)]
    assert len(found) == len(set(found))
    assert set(found) == smallest(import_id, sent, size)


def test_a_sample_is_verified_and_the_rest_is_not(braze_share: Share) -> None:
    sampled = smallest("i1", range(1, 41), 5)
    users = [f"u{n}" for n in range(1, 41)]
    share = braze_share.fill(*[attributes(u, vip=n in sampled) for n, u in enumerate(users, 1)])
    braze_share.enter(*users)
    changes = planned_changes(braze_share.tables, "i1")

    assert share.verify(sample_of(changes, "i1", 5)).counts == {"enter": {"right": 5}}
    assert share.verify(changes).counts == {"enter": {"right": 5, "different": 35}}


def test_no_user_leaves_snowflake(braze_share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    share = braze_share.fill(attributes("u", vip=True))
    braze_share.enter("u", *[f"stranger {n}" for n in range(20)])
    seen: list[Any] = []
    rows: Callable[..., list[tuple[Any, ...]]] = braze_share.session.rows

    def watched(*args: Any) -> list[tuple[Any, ...]]:
        seen.extend(found := rows(*args))
        return found

    monkeypatch.setattr(braze_share.session, "rows", watched)

    assert braze_share.match(share).unmatched == 20
    share.verify(planned_changes(braze_share.tables, "i1"))

    assert seen
    assert not [row for row in seen if "u" in row or "stranger" in str(row)]
    assert OTHER_APP_GROUP not in str(seen)
