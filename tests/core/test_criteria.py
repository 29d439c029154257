"""Criteria as authors write them: what is read, what is refused and how, and the SQL that comes of it."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.cohort_file import read_cohort_file
from airflow_provider_kubit_braze.core.criteria.definition import MAX_DEPTH, Criteria
from airflow_provider_kubit_braze.core.criteria.where import MAX_VALUES
from airflow_provider_kubit_braze.core.source import Source
from airflow_provider_kubit_braze.core.sql_text import single_query
from airflow_provider_kubit_braze.core.yaml_text import parse_yaml
from airflow_provider_kubit_braze.exceptions import CohortConfigError, CohortFilesError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)

EVERYTHING: dict[str, Any] = {
    "from": "A.B.EVENTS",
    "user": "USER_ID",
    "keep": ["EMAIL", '"Phone Number"'],
    "event": "NAME",
    "time": '"Sent At"',
    "any": [
        {"all": [{"did": "buy", "at_least": 2, "at_most": 4, "within": "36h"}, {"ever": ["a", "b"]}]},
        {"not": {"never": "*", "since": "2026-01-01", "before": "2026-01-31T13:00:00"}},
        {
            "did": "buy",
            "exactly": 0,
            "from": "OTHER",
            "user": "U",
            "event": "E",
            "time": "T",
            "before": "30d",
        },
        {
            "where": {
                "COUNTRY": {"is": ["US", None]},
                "PLAN": {"not": "pro"},
                "AGE": {"at_least": 18, "under": 65.5},
            }
        },
        {"where": {"URL": {"starts_with": "https", "contains": "/shop"}, "SEEN": {"within": "1d"}}},
        {"sum": {"column": "AMOUNT", "over": 100, "did": "buy", "where": {"GIFT": {"is": False}}}},
        {"first": {"within": "7d"}},
        {"last": {"did": "open", "before": "30d"}},
    ],
}


def criteria(*conditions: dict[str, Any], **more: Any) -> Criteria:
    return Criteria(**{"from": "EVENTS", "user": "USER_ID", "all": list(conditions), **more})


def sql(*conditions: dict[str, Any], **more: Any) -> str:
    """Return the query on one line."""
    text = " ".join(criteria(*conditions, **more).sql().split())
    return text.replace("( ", "(").replace(" )", ")")


# -- what is read -----------------------------------------------------------------------------------------------


def test_what_was_written_is_written_back() -> None:
    read = Criteria(**EVERYTHING)
    assert read.model_dump(mode="json") == EVERYTHING
    assert Criteria(**read.model_dump(mode="json")) == read


def test_criteria_travel_with_their_cohort() -> None:
    cohort = Cohort(id="a", source={"criteria": EVERYTHING}, identifiers={"external_id": "user_id"})
    assert Cohort(**cohort.model_dump(mode="json")) == cohort
    travelled = pickle.loads(pickle.dumps(cohort))  # noqa: S301  # our own
    assert travelled == cohort
    assert hash(travelled) == hash(cohort)
    assert travelled.source.select == cohort.source.select == single_query(Criteria(**EVERYTHING).sql())


def test_dates_may_be_pythons_own_and_have_zones() -> None:
    text = {"did": "a", "since": "2026-01-01", "before": "2026-01-31T10:30"}
    for since, before in (
        (date(2026, 1, 1), datetime(2026, 1, 31, 10, 30)),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-31 12:30:00+02:00"),
    ):
        assert criteria({"did": "a", "since": since, "before": before}) == criteria(text)
    assert criteria({"did": "a", "within": timedelta(days=2)}) == criteria({"did": "a", "within": "48h"})


def test_true_and_1_are_not_the_same_question() -> None:
    """They are equal in Python, so nothing may be kept under their names."""
    assert "GIFT = TRUE" in sql({"where": {"GIFT": True}})
    assert "GIFT = 1" in sql({"where": {"GIFT": 1}})
    assert "GIFT = 1.5" in sql({"where": {"GIFT": 1.5}})


def test_the_examples_of_the_documentation_are_cohorts(project: Path) -> None:
    text = (project / "docs" / "criteria.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        single_query(Cohort(**parse_yaml(example, file="docs/criteria.md")).source.select)


# -- what is refused --------------------------------------------------------------------------------------------

DID = {"did": "a"}
NOTHING: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"from": None}, "field 'from': null is not text; write text"),
        ({"from": "A B"}, "field 'from': 'A B' is not a table name; write one to three names"),
        ({"user": "A B"}, "field 'user': 'A B' is not a column name; write letters"),
        ({"keep": "EMAIL"}, "field 'keep': 'EMAIL' is not a list; write a list of columns: [EMAIL]."),
        ({"event": "E;"}, "field 'event': 'E;' is not a column name"),
        ({"form": "A"}, "field 'form': unknown key 'form'; write 'from' or remove it."),
        ({"all": None}, "there is no condition; add one of all, any or not, such as all: [{did: purchase}]."),
        ({"any": [DID]}, "all and any are both given; keep one of them and put the other inside it."),
        ({"all": []}, "field 'all': there is no condition in the list; write at least one."),
        (
            {"all": DID},
            'field \'all\': {"did": "a"} is not a list; write a list of conditions, each after a dash.',
        ),
        ({"all": ["did"]}, "field 'all.1': 'did' is not a condition; write a mapping such as {did: purchase"),
    ],
)
def test_bad_criteria_are_refused_with_the_field_the_value_and_the_fix(
    written: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        Criteria(**{"from": "EVENTS", "user": "USER_ID", "all": [DID], **written})
    assert str(refusal.value).startswith(sentence)


def test_what_is_missing_is_named_with_an_example() -> None:
    with pytest.raises(CohortFilesError) as refusal:
        Criteria(**{**NOTHING, "all": [DID]})
    assert [str(one) for one in refusal.value.errors] == [
        "field 'from': this key is required and missing; add from, for example from: DATABASE.SCHEMA.EVENTS.",
        "field 'user': this key is required and missing; add user, for example user: USER_ID.",
    ]


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        (
            {},
            ": {} asks nothing of a user; add one of all, any, not, did, ever, never, sum, first, last or where",
        ),
        ({"within": "9d"}, ': {"within": "9d"} asks nothing of a user; add one of'),
        ({"dit": "a"}, ".dit': unknown key 'dit'; write 'did' or remove it."),
        ({"OR": [DID]}, ".OR': unknown key 'OR'; write 'any' or remove it."),
        ({**DID, "not": DID}, ": not and did stand in one condition; write a condition of its own for each"),
        ({"did": None, "where": None}, " asks nothing of a user; add one of"),
        ({"did": 5}, '.did\': 5 is not text; write text in quotes: "5".'),
        ({"did": ""}, ".did': '' is empty or holds a control character; write the text to look for."),
        ({"did": "a\x0bb"}, " is empty or holds a control character; write the text to look for."),
        ({"did": []}, ".did': the list of events is empty; write at least one event."),
        ({"did": ["a", "*"]}, '.did\': ["a", "*"] names events, and any event at all; write \'*\' alone.'),
        ({"did": ["a"] * (MAX_VALUES + 1)}, ".did': the list holds 1,001 events and not at most 1,000"),
        (
            {**DID, "at_least": "3"},
            ".at_least': '3' is not a whole number; write a whole number without quotes.",
        ),
        ({**DID, "at_least": True}, ".at_least': true is not a whole number"),
        ({**DID, "at_least": 1.5}, ".at_least': 1.5 is not a whole number"),
        ({**DID, "at_most": -1}, ".at_most': -1 is below zero; write 0 or more."),
        (
            {**DID, "at_least": 0},
            ".at_least': everybody did it 0 times or more; write 1 or more, or remove the key.",
        ),
        (
            {**DID, "at_least": 3, "at_most": 2},
            ".at_most': nobody did it at least 3 and at most 2 times; write the",
        ),
        (
            {**DID, "exactly": 3, "at_most": 4},
            ".exactly': exactly stands beside another number; keep exactly, or",
        ),
        (
            {**DID, "over": 3},
            ".over': unknown key 'over'; remove it (the keys here are within, since, before",
        ),
        (
            {**DID, "within": 90},
            ".within': 90 is no duration; write minutes, hours or days, such as 90m, 26h or 2d.",
        ),
        (
            {**DID, "since": "yesterday"},
            ".since': 'yesterday' is no date; write a day such as 2026-01-31, or a time",
        ),
        (
            {**DID, "since": "2026-02-30"},
            ".since': '2026-02-30' is on no calendar and no clock; write a day such as",
        ),
        ({**DID, "since": 20260101}, ".since': 20260101 is no date; write a day"),
        (
            {**DID, "before": "2026-13-01"},
            ".before': '2026-13-01' is on no calendar and no clock; write a day",
        ),
        (
            {**DID, "before": "long ago"},
            ".before': 'long ago' is neither a date nor a duration; write a day such as",
        ),
        (
            {**DID, "after": "2026-01-01"},
            ".after': unknown key 'after'; write since, which takes in the day itself.",
        ),
        (
            {**DID, "within": "30d", "before": "30d"},
            ".before': nothing is within the last 30d and longer ago than 30d; write the longer time at within.",
        ),
        (
            {**DID, "since": "2026-01-02", "before": "2026-01-02"},
            ".before': nothing is since 2026-01-02 and before 2026-01-02; write the later day at before.",
        ),
        (
            {"ever": "a", "within": "9d"},
            ".within': within limits what ever does not; write did instead of ever.",
        ),
        ({"never": "a", "at_least": 1}, ".at_least': unknown key 'at_least'; remove it"),
        ({"sum": 5}, ".sum': 5 is not a mapping; write keys and values below it"),
        (
            {"sum": {"over": 5}},
            ".sum.column': this key is required and missing; add column, for example column: AM",
        ),
        (
            {"sum": {"column": "A"}},
            ".sum': the sum is compared with nothing; add over, at_least, under or at_most",
        ),
        (
            {"sum": {"column": "A", "over": "5"}},
            ".sum.over': '5' is not a number; write a number without quotes.",
        ),
        ({"sum": {"column": "A", "over": True}}, ".sum.over': true is not a number"),
        ({"sum": {"column": "A", "over": float("nan")}}, ".sum.over': NaN is not a number"),
        (
            {"sum": {"column": "A", "over": 5}, "within": "9d"},
            ".within': within stands beside sum; move it into sum.",
        ),
        (
            {"sum": {"column": "A", "over": 1, "at_least": 2}},
            ".sum.over': over and at_least are both given; keep one",
        ),
        (
            {"sum": {"column": "A", "over": 5, "at_most": 5}},
            ".sum.at_most': nothing is over 5 and at most 5; write",
        ),
        (
            {"sum": {"column": "A", "at_least": 6, "under": 5}},
            ".sum.under': nothing is at least 6 and under 5; write",
        ),
        ({"first": {"did": "a"}}, ".first': the time is compared with nothing; add within, since or before"),
        ({"last": "a"}, ".last': 'a' is not a mapping; write keys and values below it"),
        ({"not": [DID]}, '.not\': [{"did": "a"}] is not a condition; write a mapping such as'),
        (
            {"all": [DID], "within": "9d"},
            ".within': within stands beside all; write it in the conditions inside.",
        ),
        ({"any": [DID, {"did": 1}]}, ".any.2.did': 1 is not text"),
        (
            {"where": {}},
            ".where': {} does not say what to ask of which column; write a mapping from columns to",
        ),
        (
            {"where": {"A": 1}, "at_least": 2},
            ".at_least': at_least counts rows of no event; add did: '*' for any row.",
        ),
        ({"where": "A"}, ".where': 'A' does not say what to ask of which column"),
        ({"where": {"A B": 1}}, ".where.A B': 'A B' is not a column name; write letters"),
        (
            {"where": {"A": {}}},
            ".where.A': nothing is asked of the column; write a value, a list of values, or",
        ),
        (
            {"where": {"A": []}},
            ".where.A': the list is empty, which no row can match; write at least one value.",
        ),
        (
            {"where": {"A": list(range(1001))}},
            ".where.A': the list holds 1,001 values and not at most 1,000; put them",
        ),
        (
            {"where": {"A": [[1]]}},
            ".where.A': [1] is not a value to compare with; write text, a number, true, false",
        ),
        ({"where": {"A": "x\0"}}, " is not a value to compare with"),
        (
            {"where": {"A": {"like": "x%"}}},
            ".where.A.like': unknown key 'like'; remove it (the keys here are over,",
        ),
        (
            {"where": {"A": {"over": 5, "under": 5}}},
            ".where.A.under': nothing is over 5 and under 5; write the smal",
        ),
        (
            {"where": {"A": {"starts_with": 5}}},
            '.where.A.starts_with\': 5 is not text; write text in quotes: "5".',
        ),
        ({**DID, "from": "A.B.C.D"}, ".from': 'A.B.C.D' is not a table name"),
        ({**DID, "user": "1"}, ".user': '1' is not a column name"),
    ],
)
def test_a_bad_condition_is_refused_at_its_place(condition: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        criteria(DID, condition)
    assert str(refusal.value).startswith("field 'all.2")
    assert sentence in str(refusal.value)


def test_every_problem_is_told_at_once_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "id: a\n"
        "source:\n"
        "  criteria:\n"
        "    from: EVENTS\n"
        "    user: USER_ID\n"
        "    all:\n"
        "      - {did: purchase, within: 90}\n"
        "      - any:\n"
        "          - did: purchase\n"
        "            where:\n"
        "              COUNTRY: {over: x}\n"
        "          - not:\n"
        "              {within: 3d}\n"
        "identifiers: {external_id: USER_ID}\n"
    )
    assert [
        str(one).removeprefix(f"{file}:").partition(";")[0] for one in read_cohort_file(file).problems
    ] == [
        "7, cohort 'a', field 'source.criteria.all.1.within': 90 is no duration",
        "11, cohort 'a', field 'source.criteria.all.2.any.1.where.COUNTRY.over': 'x' is not a number",
        "12, cohort 'a', field 'source.criteria.all.2.any.2.not': {\"within\": \"3d\"} asks nothing of a user",
    ]


def test_conditions_nest_so_deep_and_no_deeper() -> None:
    def nested(depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = DID
        for level in range(depth):
            tree = {"not": tree} if level % 2 else {"any": [tree]}
        return {"from": "EVENTS", "user": "USER_ID", **tree}

    Criteria(**nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 5000):
        with pytest.raises(
            CohortConfigError, match=f"nest deeper than {MAX_DEPTH} levels; write fewer levels"
        ):
            Criteria(**nested(depth))


def test_identifiers_name_columns_that_the_criteria_return() -> None:
    source = {"criteria": {"from": "T", "user": "user_id", "keep": ["Email"], "all": [DID]}}
    Cohort(id="a", source=source, identifiers={"external_id": "USER_ID", "email": '"EMAIL"'})
    with pytest.raises(CohortConfigError) as refusal:
        Cohort(id="a", source=source, identifiers={"external_id": "USER_ID", "phone": "PHONE"})
    assert str(refusal.value) == (
        "cohort 'a', field 'identifiers.phone': criteria return USER_ID, EMAIL and not PHONE; name the column that "
        "user names, or write keep: [PHONE] beside it."
    )


def test_criteria_are_one_way_of_four() -> None:
    written = {"from": "T", "user": "U", "all": [DID]}
    with pytest.raises(CohortConfigError, match="table and criteria are both given; keep one of them"):
        Source(table="A", criteria=written)  # type: ignore[arg-type]


# -- the SQL ----------------------------------------------------------------------------------------------------

MS = "DATE_PART(EPOCH_MILLISECOND, "
T, DAYS_AGO = f"{MS}EVENT_TIME)", f"{MS}DATEADD(DAY, -{{}}, SYSDATE()))"


def test_one_table_is_read_once_and_grouped() -> None:
    assert sql(
        {"did": "purchase", "at_least": 3, "where": {"COUNTRY": ["US", "CA"]}},
        {"not": {"did": "refund"}},
        {"sum": {"column": "AMOUNT", "over": 100}},
    ) == (
        "SELECT USER_ID FROM EVENTS WHERE NOT USER_ID IS NULL GROUP BY USER_ID HAVING "
        "COUNT_IF(EVENT_NAME = 'purchase' AND COUNTRY IN ('US', 'CA')) >= 3 "
        "AND NOT COUNT_IF(EVENT_NAME = 'refund') >= 1 "
        "AND COALESCE(SUM(AMOUNT), 0) > 100"
    )


def test_a_window_ends_now_and_is_measured_in_utc() -> None:
    counted = f"COUNT_IF(EVENT_NAME = 'a' AND {T} >= {DAYS_AGO.format(90)} AND {T} <= {MS}SYSDATE()))"
    assert f"HAVING {counted} >= 1" in sql({"did": "a", "within": "90d"})
    pinned = criteria({"did": "a", "within": "90d"}).sql(now=NOW)
    assert "SYSDATE" not in pinned
    assert "CAST('2026-01-31 12:00:00' AS TIMESTAMPNTZ)" in pinned


@pytest.mark.parametrize(
    ("conditions", "left_out"),
    [
        ([{"did": "a"}], "EVENT_NAME = 'a'"),
        ([{"did": "a"}, {"did": ["b", "a"]}], "EVENT_NAME IN ('a', 'b')"),
        ([{"did": "*", "within": "9d"}], "EVENT_TIME >= DATEADD(DAY, -11, SYSDATE())"),
        (
            [{"did": "a", "within": "9d"}, {"sum": {"column": "C", "over": 1, "did": "b", "within": "12h"}}],
            "EVENT_NAME IN ('a', 'b') AND EVENT_TIME >= DATEADD(DAY, -11, SYSDATE())",
        ),
        (
            [{"did": "*", "within": "36h"}, {"did": "*", "since": "2026-01-31"}],
            "EVENT_TIME >= LEAST(DATEADD(HOUR, -84, SYSDATE()), CAST('2026-01-29 00:00:00' AS TIMESTAMPNTZ))",
        ),
        ([{"did": "a", "within": "9d"}, {"did": "a"}], "EVENT_NAME = 'a'"),
        ([{"did": "a", "within": "9d"}, {"first": {"did": "a", "within": "9d"}}], "EVENT_NAME = 'a'"),
        # Who has no row left would be somebody for whom these hold.
        ([{"never": "a", "within": "9d"}], None),
        ([{"did": "a", "at_most": 3}], None),
        ([{"sum": {"column": "C", "under": 1, "did": "a"}}], None),
        ([{"not": {"did": "a"}}], None),
        ([{"any": [{"did": "a"}, {"never": "b"}]}], None),
        ([{"any": [{"did": "a"}, {"did": "b", "from": "OTHER"}]}], None),
        ([{"did": "*"}, {"did": "a"}], None),
        ([{"did": "a", "event": "X"}, {"did": "a"}], None),
        # Who never did a is out already, so only b's rows matter, and a's.
        ([{"did": "a"}, {"never": "b"}], "EVENT_NAME IN ('a', 'b')"),
    ],
)
def test_only_rows_that_change_no_answer_are_left_out_before(
    conditions: list[dict[str, Any]], left_out: str | None
) -> None:
    clause = sql(*conditions).partition("FROM EVENTS ")[2].partition(" GROUP BY")[0]
    assert clause == "WHERE NOT USER_ID IS NULL" + (f" AND {left_out}" if left_out else "")


def test_every_other_table_is_read_once_and_joined() -> None:
    text = sql(
        {"did": "a"},
        {"never": "open", "from": "MAILS", "within": "9d"},
        {"did": "click", "from": "MAILS", "within": "3d"},
        {"where": {"PLAN": "pro"}, "from": "USERS", "user": "ID"},
    )
    assert [text.count(f"FROM {table} ") for table in ("EVENTS", "MAILS", "USERS")] == [1, 1, 1]
    assert text.count("LEFT JOIN") == 2
    assert (
        "FROM MAILS WHERE NOT USER_ID IS NULL AND EVENT_NAME IN ('open', 'click') AND EVENT_TIME >=" in text
    )
    # Whoever has no mail never opened one.
    assert "COALESCE(KUBIT_TABLE_1.KUBIT_ANSWER_1, TRUE)" in text
    assert "COALESCE(KUBIT_TABLE_1.KUBIT_ANSWER_2, FALSE)" in text


def test_what_is_kept_is_kept_of_all_rows() -> None:
    text = sql({"did": "a"}, keep=["EMAIL"])
    assert "KUBIT_TABLE_0.KUBIT_KEEP_0 AS EMAIL" in text
    assert "MAX(EMAIL) AS KUBIT_KEEP_0" in text
    assert "WHERE NOT USER_ID IS NULL GROUP BY" in text


def test_no_column_is_returned_twice() -> None:
    found = criteria({"did": "a"}, keep=["user_id", "EMAIL", "email", '"EMAIL"', '"Email"'])
    assert found.columns == ("USER_ID", "EMAIL", "Email")
    assert re.findall(r" AS (\S+?),?\n", found.sql().partition("FROM")[0]) == ["USER_ID", "EMAIL", '"Email"']


# -- values and names stay what they are ------------------------------------------------------------------------

NASTY = [
    "'",
    "''",
    "\\",
    "\\'",
    "' OR 1=1 --",
    "\\' OR 1=1 --",
    "'); DROP TABLE EVENTS; --",
    "/*",
    "*/ x",
    "$$",
    "%s %(x)s %%",
    "{{ params.x }}",
    '"',
    "a\nb\r\tc",
    "ünïcødé 🎈 \u2028",
    "?:1",
]


def _literals(text: str) -> list[str]:
    (statement,) = sqlglot.parse(text, dialect="snowflake")
    assert statement is not None
    return [one.this for one in statement.find_all(exp.Literal) if one.is_string]


@pytest.mark.parametrize("value", NASTY)
def test_no_value_is_anything_but_a_value(value: str) -> None:
    text = criteria(
        {
            "did": value,
            "where": {"A": value, "B": {"not": [value, "x"], "starts_with": value, "contains": value}},
        }
    ).sql()
    single_query(text)
    found = _literals(text)
    assert found.count(value) == 6
    assert set(found) == {value, "x"}


@given(value=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_text_is_one_literal(value: str) -> None:
    text = criteria({"where": {"A": value}}).sql()
    single_query(text)
    assert _literals(text) == [value]


def test_a_list_of_text_and_numbers_is_refused_before_snowflake_converts_a_column_for_it() -> None:
    with pytest.raises(CohortConfigError, match="mixes text with numbers"):
        criteria({"where": {"ZIP": [12345, "SW1A"]}})
    assert "IN ('12345', 'SW1A')" in criteria({"where": {"ZIP": ["12345", "SW1A"]}}).sql()


def test_the_beginning_of_time_leaves_nothing_out() -> None:
    assert "DATE" in criteria({"did": "x", "since": "0001-01-01"}).sql().upper()


@pytest.mark.parametrize("key", ["from", "user", "event", "time", "keep", "column", "where"])
@pytest.mark.parametrize(
    "name", ["A; DROP TABLE X", "A) OR (1=1", "A--", "A/*", '"A', '"A"B"', "A'", "", "A\n", "Ä"]
)
def test_no_name_is_anything_but_a_name(key: str, name: str) -> None:
    written: dict[str, Any] = {"from": "T", "user": "U", "all": [DID]}
    if key == "column":
        written["all"] = [{"sum": {"column": name, "over": 1}}]
    elif key == "where":
        written["all"] = [{"where": {name: 1}}]
    else:
        written[key] = [name] if key == "keep" else name
    with pytest.raises(CohortConfigError, match=r"is not a (?:column|table) name"):
        Criteria(**written)


def test_a_quoted_name_stays_quoted_whatever_it_holds() -> None:
    name = '"a.b""; DROP TABLE X; --"'
    written: dict[str, Any] = {"from": f"{name}.{name}", "user": name, "keep": [name]}
    text = Criteria(**written, all=({"where": {name: 1}},)).sql()  # type: ignore[arg-type]
    (statement,) = sqlglot.parse(text, dialect="snowflake")
    assert statement is not None
    plain = 'a.b"; DROP TABLE X; --'
    found = [one.this for one in statement.find_all(exp.Identifier) if one.args.get("quoted")]
    assert set(found) == {plain}
    assert text.count(name) == len(found)


def test_a_file_without_criteria_is_read_without_what_writes_sql() -> None:
    code = (
        "import sys; from airflow_provider_kubit_braze.core.cohort import Cohort; "
        "c = Cohort(id='a', source={'table': 'T'}, identifiers={'external_id': 'U'}); c.source.select; "
        "assert 'sqlglot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
