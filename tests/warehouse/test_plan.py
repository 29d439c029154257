from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from snowflake.connector.errors import OperationalError, ProgrammingError

from airflow_provider_kubit_braze.core.holdout import is_held_out
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.exceptions import SourceError, StatementBrokenOffError
from airflow_provider_kubit_braze.warehouse.plan import check_source

KINDS = {
    "external_id": "A",
    "email": "B",
    "user_alias": {"label": "50% o'ff \\ {x}", "name": '"c d"'},
}


def actions(warehouse: Any) -> dict[str, str]:
    return {user: action for _, action, _, user, _ in warehouse.changes()}


@pytest.mark.parametrize(
    ("member", "stay", "doubt", "resync", "action"),
    [
        pytest.param(False, None, False, False, None, id="nobody"),
        pytest.param(True, None, False, False, "enter", id="new"),
        pytest.param(True, None, True, False, "enter", id="new-and-doubtful"),
        pytest.param(True, "in", False, False, None, id="stays"),
        pytest.param(True, "in", True, False, "refresh", id="stays-but-doubtful"),
        pytest.param(True, "in", False, True, "refresh", id="stays-on-resync"),
        pytest.param(True, "held", False, False, "enter", id="was-held-out"),
        pytest.param(True, "held", True, False, "enter", id="was-held-out-and-doubtful"),
        pytest.param(False, "in", False, False, "leave", id="left"),
        pytest.param(False, "in", True, False, "leave", id="left-and-doubtful"),
        pytest.param(False, "in", False, True, "leave", id="left-on-resync"),
        pytest.param(False, None, True, False, "leave", id="gone-but-perhaps-in-braze"),
        pytest.param(False, "held", False, False, "drop", id="left-the-holdout"),
        pytest.param(False, "held", True, False, "leave", id="left-the-holdout-and-doubtful"),
        pytest.param("held", None, False, False, "hold", id="new-in-the-holdout"),
        pytest.param("held", None, True, False, "leave", id="held-out-but-perhaps-in-braze"),
        pytest.param("held", "in", False, False, "leave", id="held-out-from-now-on"),
        pytest.param("held", "in", False, True, "leave", id="held-out-from-now-on-resync"),
        pytest.param("held", "held", False, False, None, id="held-out-as-before"),
        pytest.param("held", "held", True, False, "leave", id="held-out-as-before-but-perhaps-in-braze"),
    ],
)
def test_every_meeting_of_source_and_ledger_has_its_action(
    warehouse: Any, member: bool | str, stay: str | None, doubt: bool, resync: bool, action: str | None
) -> None:
    share = "50%"
    candidates = (f"u{n}" for n in range(100))
    user = next(u for u in candidates if is_held_out("vips", "external_id", u, share) == (member == "held"))
    warehouse.source([(user,)] if member else [])
    if stay:
        warehouse.stay(user, held=stay == "held")
    if doubt:
        warehouse.doubt(user)
        warehouse.doubt(user)

    plan = warehouse.freeze(holdout=share, full_resync=resync)

    assert warehouse.changes() == (
        [(1, action, "external_id", user, member == "held")] if action is not None else []
    )
    assert {
        "enter": plan.enter,
        "leave": plan.leave,
        "refresh": plan.refresh,
        "hold": plan.quiet,
        "drop": plan.quiet,
    }.get(action or "", 1) == 1
    assert plan.size == (action is not None)
    assert (plan.members, plan.in_braze, plan.held_out) == (bool(member), stay == "in", member == "held")


def test_the_counts_are_those_of_the_source_and_of_the_ledger(warehouse: Any) -> None:
    warehouse.source(
        [("a",), ("a",), ("b",), ("c",), (None,), ("",), ("  ",), ("\t\r\n ",), ("x" * 988,), ("a",)]
    )
    for user in ("a", "gone", "away"):
        warehouse.stay(user)
    warehouse.doubt("elsewhere")

    plan = warehouse.freeze()

    assert (plan.members, plan.duplicates, plan.invalid) == (3, 2, 5)
    assert (plan.in_braze, plan.enter, plan.leave, plan.refresh, plan.quiet) == (3, 2, 3, 0, 0)
    assert (plan.unchanged, plan.to_send, plan.data_points, plan.in_doubt) == (1, 5, 5, 1)
    assert actions(warehouse) == {
        "b": "enter",
        "c": "enter",
        "gone": "leave",
        "away": "leave",
        "elsewhere": "leave",
    }


def test_a_user_in_many_rows_is_one_user_whatever_becomes_of_them(warehouse: Any) -> None:
    share = "50%"
    candidates = [f"u{n}" for n in range(100)]
    held, held_before, held_from_now_on = [
        u for u in candidates if is_held_out("vips", "external_id", u, share)
    ][:3]
    new, stays, doubted = [u for u in candidates if not is_held_out("vips", "external_id", u, share)][:3]
    users = [held, held_before, held_from_now_on, new, stays, doubted]
    warehouse.source([(user,) for user in users * 3] + [(None,)] * 3)
    for user in (held_from_now_on, stays, doubted):
        warehouse.stay(user)
    warehouse.stay(held_before, held=True)
    warehouse.doubt(doubted)

    plan = warehouse.freeze(holdout=share)

    assert [change[1:] for change in warehouse.changes()] == [
        ("leave", "external_id", held_from_now_on, True),
        ("enter", "external_id", new, False),
        ("refresh", "external_id", doubted, False),
        ("hold", "external_id", held, True),
    ]
    assert (plan.members, plan.held_out, plan.duplicates, plan.invalid) == (6, 3, 12, 3)
    assert (plan.in_braze, plan.unchanged) == (3, 2)


def test_who_is_in_under_an_id_that_braze_would_not_take_leaves(warehouse: Any) -> None:
    users = ["x" * 988, " "]
    warehouse.source([(user,) for user in users])
    for user in users:
        warehouse.stay(user)

    plan = warehouse.freeze()

    assert actions(warehouse) == dict.fromkeys(users, "leave")
    assert (plan.members, plan.invalid, plan.in_braze, plan.leave) == (0, 2, 2, 2)


@pytest.mark.parametrize("chain", [{"external_id": "A"}, KINDS], ids=["one-identifier", "several"])
def test_the_source_is_read_in_one_place_so_that_it_cannot_give_two_answers(
    warehouse: Any, chain: dict[str, Any], monkeypatch: Any
) -> None:
    warehouse.source([("a", "b", "c")], 'A VARCHAR, B VARCHAR, "c d" VARCHAR')
    statements: list[str] = []
    execute = warehouse.session.execute

    def noted(sql: str, params: Any = None) -> Any:
        statements.append(sql)
        return execute(sql, params)

    monkeypatch.setattr(warehouse.session, "execute", noted)

    assert warehouse.freeze(identifiers=chain).enter == 1
    assert sum(sql.count(f"{warehouse.schema}.SOURCE") for sql in statements) == 1
    assert sum("kubit_source_rows" in line for sql in statements for line in sql.splitlines()) == 2


def test_another_cohort_or_workspace_is_not_looked_at(warehouse: Any) -> None:
    warehouse.source([("a",)])
    for workspace, cohort_id in (("workspace", "other"), ("other", "vips")):
        warehouse.stay("b", workspace=workspace, cohort_id=cohort_id)
        warehouse.put(
            warehouse.tables.unknown,
            workspace=workspace,
            cohort_id=cohort_id,
            place="attribute:kubit_cohort_vips",
            id_kind="external_id",
            user_id="c",
        )
        warehouse.reject("a", workspace=workspace, cohort_id=cohort_id)

    plan = warehouse.freeze()

    assert (plan.in_braze, actions(warehouse)) == (0, {"a": "enter"})


def test_a_stay_that_ended_counts_for_nothing(warehouse: Any) -> None:
    warehouse.source([("a",)])
    warehouse.stay("a", left_at="2026-01-02 00:00:00", left_run="r")

    assert warehouse.freeze().enter == 1


def test_leavers_come_first_and_the_order_is_always_the_same(warehouse: Any) -> None:
    warehouse.source([(user,) for user in ("d", "b", "e", "B", "é")])
    for user in ("z", "y", "d"):
        warehouse.stay(user)
    warehouse.stay("h", held=True)

    first, second = (warehouse.freeze(name, full_resync=True) for name in ("i1", "i2"))

    assert [(seq, action, user) for seq, action, _, user, _ in warehouse.changes("i1")] == [
        (1, "leave", "y"),
        (2, "leave", "z"),
        (3, "enter", "B"),
        (4, "enter", "b"),
        (5, "enter", "e"),
        (6, "enter", "é"),
        (7, "refresh", "d"),
        (8, "drop", "h"),
    ]
    assert warehouse.changes("i2") == warehouse.changes("i1")
    assert (first.to_send, first.size) == (second.to_send, second.size) == (7, 8)


@pytest.mark.parametrize(
    ("row", "change"),
    [
        pytest.param(("x", "b", "c"), ("external_id", "x"), id="first"),
        pytest.param((None, "b@example.com", "c"), ("email", "b@example.com"), id="second"),
        pytest.param((None, None, "c"), ("user_alias:50% o'ff \\ {x}", "c"), id="third"),
        pytest.param((None, None, None), None, id="none"),
        pytest.param(("", "b@example.com", "c"), None, id="blank-is-not-null"),
    ],
)
def test_the_first_identifier_that_is_not_null_names_the_user(
    warehouse: Any, row: tuple[str | None, ...], change: tuple[str, str] | None
) -> None:
    warehouse.source([row], 'A VARCHAR, B VARCHAR, "c d" VARCHAR')

    plan = warehouse.freeze(identifiers=KINDS)

    assert [(kind, user) for _, _, kind, user, _ in warehouse.changes()] == ([change] if change else [])
    assert plan.invalid == (change is None)


@pytest.mark.parametrize(
    "user",
    [
        "it's",
        'say "hi"',
        "back\\slash\\n",
        "100%s %d %",
        "{user} {0}",
        " lead",
        "trail  ",
        "007",
        "-0",
        "NULL",
        "日本語",
        "😀",
        "e\u0301",
        "a,b;--c /* d */",
        "tab\tand\nline",
        "x" * 987,
        "é" * 493 + "x",
    ],
)
def test_an_identifier_is_frozen_as_it_is(warehouse: Any, user: str) -> None:
    warehouse.source([(user,)])

    plan = warehouse.freeze()

    assert warehouse.changes() == [(1, "enter", "external_id", user, False)]
    assert (plan.members, plan.invalid) == (1, 0)


@pytest.mark.parametrize("user", ["!", " !", "\t.", "\x1f", "\x0b", "\u00a0", "\u3000", "#"])
def test_what_is_not_all_blanks_names_a_user(warehouse: Any, user: str) -> None:
    warehouse.source([(user,), ("",), (" ",), ("\t",), ("\n\r ",)])

    plan = warehouse.freeze()

    assert (actions(warehouse), plan.invalid) == ({user: "enter"}, 4)


@pytest.mark.parametrize("user", ["x" * 988, "é" * 494, "😀" * 247], ids=["ascii", "two-bytes", "four-bytes"])
def test_988_bytes_are_one_too_many_however_few_letters_they_make(warehouse: Any, user: str) -> None:
    warehouse.source([(user,)])

    assert (warehouse.freeze().invalid, warehouse.changes()) == (1, [])


@pytest.mark.parametrize(
    ("column_type", "value", "user"),
    [
        ("NUMBER(38,0)", 42, "42"),
        ("NUMBER(10,2)", 1.5, "1.50"),
        ("DATE", "2026-02-28", "2026-02-28"),
        ("BOOLEAN", True, "true"),
    ],
)
def test_numbers_and_dates_are_named_as_snowflake_shows_them(
    warehouse: Any, column_type: str, value: Any, user: str
) -> None:
    warehouse.source([(value,)], f"USER_ID {column_type}")

    warehouse.freeze()

    assert list(actions(warehouse)) == [user]


def test_names_that_differ_in_case_or_blanks_only_are_different_users(warehouse: Any) -> None:
    warehouse.source([("ann",), ("Ann",), ("ann ",), (" ann",)])
    warehouse.stay("ANN")

    plan = warehouse.freeze()

    assert (plan.members, plan.duplicates, plan.enter, plan.leave) == (4, 0, 4, 1)


def test_the_holdout_is_the_one_anybody_can_compute(warehouse: Any) -> None:
    users = [f"user-{n} é'%" for n in range(200)]
    warehouse.source([(user,) for user in users])

    plan = warehouse.freeze(holdout="25%")

    held = {user for user in users if is_held_out("vips", "external_id", user, "25%")}
    assert {user for user, action in actions(warehouse).items() if action == "hold"} == held
    assert (plan.held_out, plan.enter) == (len(held), 200 - len(held))
    assert 20 < len(held) < 80


SQL = """
WITH members AS (SELECT USER_ID, '%s {{x}} %' AS NOTE FROM {schema}.SOURCE WHERE USER_ID LIKE 'a%')
SELECT USER_ID FROM members -- the members; 100 %
"""


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param(SQL, id="percent-braces-and-a-name-of-ours"),
        pytest.param("SELECT USER_ID, 1 AS ID_KIND, 2 AS HELD FROM {schema}.ONE", id="columns-of-ours"),
        pytest.param("SELECT USER_ID FROM {schema}.ONE ORDER BY 1 LIMIT 5", id="order-and-limit"),
    ],
)
def test_sql_is_used_as_it_is(warehouse: Any, sql: str) -> None:
    warehouse.source([("a",), ("b",)])
    schema = warehouse.schema
    warehouse.session.execute(
        f"CREATE TABLE {schema}.ONE AS SELECT * FROM {schema}.SOURCE WHERE USER_ID = 'a'"
    )
    source = {"sql": sql.format(schema=schema)}

    check_source(warehouse.session, warehouse.cohort(source=source))
    warehouse.freeze(source=source)

    assert actions(warehouse) == {"a": "enter"}


def test_the_author_may_name_a_query_of_a_plan_as_the_plan_does(warehouse: Any) -> None:
    warehouse.source([("a",)])
    for name in ("members", "stays", "known", "compared", "judged", "source"):
        sql = f"WITH {name} AS (SELECT * FROM {warehouse.schema}.SOURCE) SELECT * FROM {name}"
        assert warehouse.freeze(f"of {name}", source={"sql": sql}).enter == 1


def test_a_missing_column_is_named_with_those_there_are(warehouse: Any) -> None:
    warehouse.source([], 'USER_ID VARCHAR, "e mail" VARCHAR')
    cohort = warehouse.cohort(identifiers={"external_id": "user_id", "email": '"E-mail"'})

    with pytest.raises(SourceError) as caught:
        check_source(warehouse.session, cohort)

    assert str(caught.value) == (
        "Cohort 'vips': identifiers.email names column \"E-mail\", which the source does not have; "
        "its columns are USER_ID, e mail."
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"table": "NOWHERE.MEMBERS"}, r"refuses source\.table NOWHERE\.MEMBERS: .*NOWHERE"),
        ({"sql": "SELECT NOTHING FROM NOWHERE.MEMBERS"}, r"refuses source\.sql: .*NOWHERE"),
        ({"sql": "SELECT FROM WHERE"}, r"refuses source\.sql: "),
    ],
    ids=["table", "sql", "syntax"],
)
def test_a_source_that_snowflake_refuses_is_told_in_its_words(
    warehouse: Any, source: dict[str, str], words: str
) -> None:
    with pytest.raises(SourceError, match=rf"^Cohort 'vips': Snowflake {words}") as caught:
        check_source(warehouse.session, warehouse.cohort(source=source))

    assert "\n" not in str(caught.value)


def test_an_error_that_only_the_data_causes_tells_no_value_of_it_and_freezes_nothing(warehouse: Any) -> None:
    warehouse.source([("ann@example.com",)])
    sql = f"SELECT CAST(USER_ID AS NUMBER(38,0)) AS USER_ID FROM {warehouse.schema}.SOURCE"
    check_source(warehouse.session, warehouse.cohort(source={"sql": sql}))

    with pytest.raises(SourceError, match=r"Snowflake refuses source\.sql: ") as caught:
        warehouse.freeze(source={"sql": sql})

    assert "ann@example.com" not in str(caught.value)
    assert warehouse.changes() == []


def test_a_source_that_takes_too_long_is_not_called_wrong_and_is_tried_again(
    warehouse: Any, monkeypatch: Any
) -> None:
    def broken(*_: Any) -> None:
        words = "000630 (57014): Statement reached its statement or warehouse timeout of 60 second(s)"
        raise ProgrammingError(msg=words, errno=630, sqlstate="57014", send_telemetry=False)

    monkeypatch.setattr(warehouse.session, "execute", broken)

    with pytest.raises(StatementBrokenOffError) as caught:
        check_source(warehouse.session, warehouse.cohort(source={"table": "DEMO.VIPS"}))
    assert str(caught.value) == (
        "Cohort 'vips': source.table DEMO.VIPS could not be read; Snowflake says: Statement reached its statement or "
        "warehouse timeout of 60 second(s)"
    )
    assert caught.value.retry_helps


def test_a_way_to_snowflake_that_breaks_is_not_called_a_refusal(warehouse: Any, monkeypatch: Any) -> None:
    def broken(*_: Any) -> None:
        raise OperationalError(msg="Connection reset", errno=250003, send_telemetry=False)

    monkeypatch.setattr(warehouse.session, "execute", broken)

    with pytest.raises(OperationalError):
        check_source(warehouse.session, warehouse.cohort())


# -- places -------------------------------------------------------------------------------------------------------


def test_a_renamed_attribute_empties_the_old_place_and_fills_the_new_one(warehouse: Any) -> None:
    warehouse.source([("a",), ("b",)])
    for user in ("a", "gone"):
        warehouse.stay(user, place="attribute:old")

    plan = warehouse.freeze()

    found = warehouse.session.rows(
        f"SELECT ACTION, PLACE, USER_ID FROM {warehouse.tables.change} ORDER BY SEQ"
    )
    new = "attribute:kubit_cohort_vips"
    assert found == [
        ("leave", "attribute:old", "a"),
        ("leave", "attribute:old", "gone"),
        ("enter", new, "a"),
        ("enter", new, "b"),
    ]
    assert (plan.leave, plan.elsewhere, plan.enter, plan.in_braze) == (2, 2, 2, 2)


def test_a_doubt_at_the_old_place_is_settled_there(warehouse: Any) -> None:
    warehouse.source([("a",)])
    warehouse.doubt("a", place=Place("attribute", "old"))

    plan = warehouse.freeze()

    assert [(action, user) for _, action, _, user, _ in warehouse.changes()] == [
        ("leave", "a"),
        ("enter", "a"),
    ]
    assert (plan.elsewhere, plan.in_doubt) == (1, 1)


# -- rejected users -----------------------------------------------------------------------------------------------

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("rejection", "action"),
    [
        pytest.param({}, None, id="lately"),
        pytest.param({"ago": 7 * DAY - timedelta(minutes=5)}, None, id="almost-seven-days-ago"),
        pytest.param({"ago": 7 * DAY + timedelta(minutes=5)}, "enter", id="over-seven-days-ago"),
        pytest.param({"cleared_at": "2026-01-01 00:00:00"}, "enter", id="taken-after-all"),
        pytest.param({"action": "leave"}, "enter", id="as-a-leaver"),
        pytest.param({"action": "refresh"}, None, id="when-sent-again"),
        pytest.param({"place": "attribute:old"}, "enter", id="elsewhere"),
        pytest.param({"id_kind": "email"}, "enter", id="under-another-kind"),
        pytest.param({"row_hash": "another"}, "enter", id="with-another-row"),
    ],
)
def test_whom_braze_rejected_is_not_sent_again_too_soon(
    warehouse: Any, rejection: dict[str, Any], action: str | None
) -> None:
    warehouse.source([("a",), ("b",)])
    warehouse.reject("a", **rejection)

    plan = warehouse.freeze()

    assert actions(warehouse) == {"b": "enter", **({"a": action} if action else {})}
    assert (plan.set_aside, plan.unchanged) == (0 if action else 1, 0)


def test_a_full_resync_tries_the_rejected_as_well(warehouse: Any) -> None:
    warehouse.source([("a",)])
    warehouse.reject("a")

    assert warehouse.freeze(full_resync=True).enter == 1


def test_a_rejected_user_who_may_be_in_braze_is_told_to_leave_all_the_same(warehouse: Any) -> None:
    warehouse.source([])
    warehouse.reject("a")
    warehouse.doubt("a")

    warehouse.freeze()

    assert actions(warehouse) == {"a": "leave"}


def test_a_leaver_is_tried_every_time(warehouse: Any) -> None:
    warehouse.source([])
    warehouse.stay("a")
    warehouse.reject("a", action="leave")

    warehouse.freeze()

    assert actions(warehouse) == {"a": "leave"}


def test_a_row_whose_other_identifiers_change_is_another_row(warehouse: Any) -> None:
    columns, chain = "A VARCHAR, B VARCHAR", {"external_id": "A", "email": "B"}
    warehouse.source([("a", "old@example.com")], columns)
    warehouse.freeze("i1", identifiers=chain)
    ((row_hash,),) = warehouse.session.rows(f"SELECT ROW_HASH FROM {warehouse.tables.change}")
    warehouse.reject("a", row_hash=row_hash)

    assert warehouse.freeze("i2", identifiers=chain).set_aside == 1
    warehouse.source([("a", "new@example.com")], columns)
    assert warehouse.freeze("i3", identifiers=chain).enter == 1


def test_who_has_several_rows_rests_until_the_one_that_stands_for_them_changes(warehouse: Any) -> None:
    columns, chain = "A VARCHAR, B VARCHAR", {"external_id": "A", "email": "B"}
    rows = [("a", f"{n}@example.com") for n in range(5)]
    warehouse.source(rows, columns)
    warehouse.freeze("i1", identifiers=chain)
    ((row_hash,),) = warehouse.session.rows(f"SELECT ROW_HASH FROM {warehouse.tables.change}")
    warehouse.reject("a", row_hash=row_hash)

    warehouse.source(reversed(rows), columns)
    again = warehouse.freeze("i2", identifiers=chain)
    warehouse.source([("a", "new@example.com")], columns)

    assert (again.set_aside, again.enter, again.duplicates) == (1, 0, 4)
    assert warehouse.freeze("i3", identifiers=chain).enter == 1


# -- other purposes -----------------------------------------------------------------------------------------------


def test_an_undo_wants_everybody_as_they_were_before_that_import(warehouse: Any) -> None:
    warehouse.source([("whoever",)])
    warehouse.stay("stayed")
    warehouse.stay("came", entered_import="i1")
    warehouse.stay("left", left_at="2026-01-02 00:00:00", left_import="i1")
    warehouse.stay("left before", left_at="2026-01-02 00:00:00", left_import="i0")
    warehouse.stay("moved", place="attribute:old", left_at="2026-01-02 00:00:00", left_import="i1")
    warehouse.stay("moved", entered_import="i1")
    warehouse.stay("was held", held=True, left_at="2026-01-02 00:00:00", left_import="i1")
    warehouse.stay("was held", entered_import="i1")
    warehouse.stay("is held", held=True, entered_import="i1")
    warehouse.doubt("perhaps came")

    plan = warehouse.freeze("i2", purpose="undo", undone="i1")

    sql = f"SELECT ACTION, PLACE, USER_ID, HELD_OUT FROM {warehouse.tables.change} ORDER BY SEQ"
    here = "attribute:kubit_cohort_vips"
    assert warehouse.session.rows(sql) == [
        ("leave", here, "came", False),
        ("leave", here, "moved", False),
        ("leave", here, "perhaps came", False),
        ("leave", here, "was held", True),
        ("enter", here, "left", False),
        ("enter", "attribute:old", "moved", False),
        ("drop", here, "is held", False),
    ]
    assert (plan.purpose, plan.members, plan.held_out) == ("undo", 4, 1)


def test_a_retirement_wants_nobody(warehouse: Any) -> None:
    warehouse.source([("a",)])
    warehouse.stay("a")
    warehouse.stay("b", place="partner_cohort:kubit")
    warehouse.stay("h", held=True)

    plan = warehouse.freeze(purpose="retire")

    assert actions(warehouse) == {"a": "leave", "b": "leave", "h": "drop"}
    assert (plan.members, plan.leave, plan.enter) == (0, 2, 0)
