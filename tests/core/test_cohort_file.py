from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from airflow_provider_kubit_braze.core.cohort_file import CohortFile, read_cohort_file, read_cohorts
from airflow_provider_kubit_braze.exceptions import CohortConfigError

GOOD = "{id: %s, source: {table: A.B.C}, identifiers: {external_id: USER_ID}}"


class Write(Protocol):
    def __call__(self, name: str, text: str | bytes) -> Path: ...


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files below an empty working directory, so that messages hold short relative paths."""
    monkeypatch.chdir(tmp_path)

    def write_one(name: str, text: str | bytes) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_one


def ids(read: CohortFile) -> list[str]:
    return [loaded.cohort.id for loaded in read.cohorts]


def told(read: CohortFile) -> list[str]:
    return [str(problem) for problem in read.problems]


def test_the_file_of_the_contract_is_read(write: Write) -> None:
    read = read_cohort_file(
        write(
            "cohorts/power.yaml",
            """
id: power_users                 # [a-z][a-z0-9_]{0,62}; the DAG id is kubit_braze__power_users
name: Power users               # shown to people
source:
  conn_id: snowflake_default
  table: ANALYTICS.KUBIT.POWER_USERS
  ready: {column: COMPUTED_AT, within: 26h}
identifiers:
  external_id: USER_ID
schedule:
  mode: weekly
  on: monday
  at: 09:00
  timezone: America/New_York
notify: [growth@example.com]
braze:
  conn_id: kubit_braze_default
  deliver_as: attribute
  attribute: kubit_cohort_power_users
  on_exit: "false"
  create_users: false
guards:
  allow_empty: false
  max_removed: 30%
  max_added: null
  max_data_points: null
  max_rejected: 1%
holdout: 0%
""",
        )
    )
    assert told(read) == []
    (loaded,) = read.cohorts
    assert loaded.place == "cohorts/power.yaml:2"
    assert loaded.cohort.schedule is not None
    assert loaded.cohort.schedule.words() == "Mondays 09:00, New York"
    assert loaded.cohort.name == "Power users"


def test_reading_twice_gives_equal_values(write: Write) -> None:
    path = write("a.yaml", f"cohorts: [{GOOD % 'a'}, {GOOD % 'b'}, {{id: 1}}, {GOOD % 'b'}]")
    first, second = read_cohort_file(path), read_cohort_file(path)
    assert first.cohorts == second.cohorts
    assert repr(first.cohorts) == repr(second.cohorts)
    assert told(first) == told(second)
    assert ids(first) == ["a"]


def test_defaults_fill_in_what_a_cohort_leaves_out(write: Write) -> None:
    read = read_cohort_file(
        write(
            "a.yaml",
            """
defaults:
  source: {conn_id: snow}
  identifiers: {external_id: USER_ID, email: MAIL}
  schedule: {mode: daily, at: 06:00, timezone: Europe/Berlin}
  notify: [a@x.y, b@x.y]
  guards: {max_removed: 10%}
cohorts:
  - id: all_defaults
    source: {table: T}
  - id: own
    source: {table: T, conn_id: other}
    identifiers: {email: MAIL2, phone: PHONE}
    schedule: {mode: weekly, on: fri}
    notify: [c@x.y]
    guards: {max_removed: null, max_added: 5}
  - id: none
    source: {table: T}
    schedule: null
""",
        )
    )
    assert told(read) == []
    first, own, none = (loaded.cohort for loaded in read.cohorts)
    assert [loaded.line for loaded in read.cohorts] == [9, 11, 17]
    assert first.source.conn_id == "snow"
    assert first.schedule is not None
    assert first.schedule.words() == "daily 06:00, Berlin"
    assert first.notify == ("a@x.y", "b@x.y")
    assert own.source.conn_id == "other"
    assert own.schedule is not None
    assert own.schedule.words() == "Fridays 06:00, Berlin"
    assert own.notify == ("c@x.y",)
    assert own.guards.max_removed is None
    assert own.identifiers.model_dump() == {"email": "MAIL2", "phone": "PHONE", "external_id": "USER_ID"}
    assert own.identifiers.kinds == ("email", "phone", "external_id")
    assert none.schedule is None


def test_a_partner_cohort_takes_back_a_default_that_means_nothing_to_it(write: Write) -> None:
    text = """
defaults: {source: {table: A}, identifiers: {external_id: U}, braze: {on_exit: unset}}
cohorts:
  - {id: marked}
  - {id: partner, braze: {deliver_as: partner_cohort, on_exit: null}}
  - {id: careless, braze: {deliver_as: partner_cohort}}
"""
    read = read_cohort_file(write("c.yaml", text))
    assert ids(read) == ["marked", "partner"]
    (problem,) = told(read)
    assert problem.startswith(
        "c.yaml:2, cohort 'careless', field 'braze.on_exit': 'unset' means nothing with"
    )


def test_one_bad_cohort_leaves_the_others_and_every_problem_has_its_line(write: Write) -> None:
    read = read_cohort_file(
        write(
            "cohorts/vip.yaml",
            """cohorts:
  - id: good
    source: {table: T}
    identifiers: {external_id: U}
  - id: vip
    source: {table: T}
    identifiers:
      external_id: U
    schedule:
      mode: monthly
      at: "09:00"
      on: 31
    notify:
      - nobody
  - just text
  - id: also_good
    source: {table: T}
    identifiers: {external_id: U}
""",
        )
    )
    assert ids(read) == ["good", "also_good"]
    assert told(read) == [
        "cohorts/vip.yaml:12, cohort 'vip', field 'schedule.on': 31 is not a day every month has; "
        "write 1 to 28, or last.",
        "cohorts/vip.yaml:13, cohort 'vip', field 'notify': 'nobody' is not an e-mail address; "
        "write an address such as growth@example.com.",
        "cohorts/vip.yaml:15, field 'cohorts': 'just text' is not a mapping; write the cohort's keys "
        "and values.",
    ]


def test_a_problem_that_comes_from_the_defaults_is_told_at_their_line(write: Write) -> None:
    read = read_cohort_file(
        write(
            "a.yaml",
            "defaults:\n  identifiers: {external_id: U}\n  holdout: 10\ncohorts:\n- id: a\n  source: "
            "{table: T}",
        )
    )
    assert told(read)[0].startswith("a.yaml:3, cohort 'a', field 'holdout': 10 does not say of what")


def test_a_query_file_is_found_beside_the_cohort_file(write: Write) -> None:
    write("cohorts/sql/q.sql", "SELECT ID FROM T;\n")
    path = write(
        "cohorts/a.yaml",
        "cohorts:\n"
        "- {id: a, source: {sql_file: sql/q.sql}, identifiers: {external_id: ID}}\n"
        "- {id: b, source: {sql_file: none.sql}, identifiers: {external_id: ID}}\n"
        "- {id: c, source: {sql_file: {path: x, text: SELECT 1}}, identifiers: {external_id: ID}}\n"
        "- {id: d, source: {sql_file: ''}, identifiers: {external_id: ID}}\n",
    )
    read = read_cohorts(path)
    assert [loaded.cohort.source.select for loaded in read.cohorts] == ["SELECT ID FROM T"]
    assert told(read) == [
        "cohorts/a.yaml:3, cohort 'b', field 'source.sql_file': 'none.sql' cannot be read (No such "
        "file or directory); "
        "correct the path, which starts at the cohort file's folder unless it is absolute.",
        'cohorts/a.yaml:4, cohort \'c\', field \'source.sql_file\': {"path": "x", "text": "SELECT '
        '1"} is not a path; '
        "write the path of one .sql file.",
        "cohorts/a.yaml:5, cohort 'd', field 'source.sql_file': '' is not a path; write the path of "
        "one .sql file.",
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        pytest.param("", ["a.yaml:1: the file is empty; write a cohort, or remove the file."], id="empty"),
        pytest.param(
            "# soon\n", ["a.yaml:1: the file is empty; write a cohort, or remove the file."], id="comment"
        ),
        pytest.param(
            "- id: a",
            ['a.yaml:1: the file holds [{"id": "a"}] and not a mapping; put the list under cohorts:.'],
            id="list",
        ),
        pytest.param(
            "hello",
            ["a.yaml:1: the file holds 'hello' and not a mapping; write a cohort's keys and values."],
            id="text",
        ),
        pytest.param(
            "{}",
            [
                "a.yaml:1: the mapping is empty; write id, source and identifiers, or a list of "
                "cohorts under cohorts."
            ],
            id="empty mapping",
        ),
        pytest.param(
            "\ncohort: {}",
            [
                "a.yaml:2: there is no cohort under cohort; write id, source and identifiers, or a "
                "list of cohorts "
                "under cohorts."
            ],
            id="other keys",
        ),
        pytest.param(
            "id: a\nsource: {table: T\n",
            ["a.yaml:2: this is not valid YAML at column 1 ("],
            id="syntax error",
        ),
        pytest.param(
            "id: a\nid: b",
            ["a.yaml:2: the key 'id' stands here and on line 1; keep one of them."],
            id="twice",
        ),
        pytest.param(
            b"id: a\nname: caf\xe9\n",
            ["a.yaml:2: the file is not UTF-8 text (byte 16 is 0xe9); save it as UTF-8."],
            id="not UTF-8",
        ),
        pytest.param(
            "cohorts: []",
            [
                "a.yaml:1, field 'cohorts': [] is not a list of cohorts; write at least one cohort "
                "as a list item under "
                "cohorts."
            ],
            id="no cohorts",
        ),
        pytest.param(
            "cohorts: {id: a}", ['a.yaml:1, field \'cohorts\': {"id": "a"} is not a list of'], id="one"
        ),
        pytest.param(
            "defaults: {}",
            [
                "a.yaml:1, field 'cohorts': there are defaults only; write at least one cohort as a "
                "list item under "
                "cohorts."
            ],
            id="defaults only",
        ),
        pytest.param(
            f"defaults: [1]\ncohorts: [{GOOD % 'a'}]",
            ["a.yaml:1, field 'defaults': [1] is not a mapping; write keys and values below it."],
            id="defaults list",
        ),
        pytest.param(
            f"defaults: {{id: x}}\ncohorts: [{GOOD % 'a'}]",
            ["a.yaml:1, field 'defaults.id': an id cannot be a default; give each cohort an id of its own."],
            id="default id",
        ),
        pytest.param(
            f"cohorts:\n- {GOOD % 'a'}\ndefaults:\n  impact:\n",
            [
                "a.yaml:4, cohort 'a', field 'impact': the key is left blank; write true, or keys such as {window: "
                "7d}, or remove the key."
            ],
            id="blank impact",
        ),
        pytest.param(
            "id: a",
            ["a.yaml:1, cohort 'a', field 'source': this key", "a.yaml:1, cohort 'a', field 'id"],
            id="missing keys",
        ),
    ],
)
def test_a_bad_file_is_one_clear_sentence(write: Write, text: str | bytes, sentences: list[str]) -> None:
    read = read_cohorts(write("a.yaml", text))
    assert read.cohorts == ()
    assert len(read.problems) == len(sentences)
    for sentence, expected in zip(told(read), sentences, strict=True):
        assert sentence.startswith(expected)


def test_unknown_keys_beside_the_cohorts_are_told_and_the_cohorts_loaded(write: Write) -> None:
    read = read_cohorts(write("a.yaml", f"cohorts: [{GOOD % 'a'}]\ndefault: {{}}\nholdout: 10%"))
    assert ids(read) == ["a"]
    assert told(read) == [
        "a.yaml:2, field 'default': unknown key 'default'; write 'defaults' or remove it.",
        "a.yaml:3, field 'holdout': 'holdout' stands beside cohorts; move it into the cohort it "
        "belongs to, or under "
        "defaults.",
    ]


def test_a_folder_is_read_in_order_without_what_is_hidden(write: Write) -> None:
    write("c/b.yaml", GOOD % "b")
    write("c/a.yml", GOOD % "a")
    write("c/sub/a.yaml", GOOD % "d")
    write("c/readme.md", "no")
    write("c/.hidden.yaml", GOOD % "e")
    write("c/.git/a.yaml", GOOD % "f")
    write("c/broken.yaml", "[")
    read = read_cohorts("c")
    assert [(loaded.cohort.id, loaded.place) for loaded in read.cohorts] == [
        ("a", "c/a.yml:1"),
        ("b", "c/b.yaml:1"),
        ("d", "c/sub/a.yaml:1"),
    ]
    assert [problem.file for problem in read.problems] == ["c/broken.yaml:1"]


def test_several_paths_are_judged_together_and_a_file_named_twice_is_read_once(write: Write) -> None:
    write("c/a.yaml", GOOD % "a")
    other = write("d/b.yaml", GOOD % "b")
    assert ids(read_cohorts("c", other, "c/../c/a.yaml", "c")) == ["a", "b"]
    copy = write("d/copy.yaml", GOOD % "a")
    read = read_cohorts("c", copy)
    assert ids(read) == []
    assert [problem.file_and_line for problem in read.problems] == [("c/a.yaml", 1)]
    assert "also used at d/copy.yaml:1" in told(read)[0]


@pytest.mark.parametrize(
    ("file", "place"),
    [("a/b.yaml:12", ("a/b.yaml", 12)), ("a/b.yaml", ("a/b.yaml", None)), (None, (None, None))],
    ids=["line", "no line", "no file"],
)
def test_a_problem_knows_its_file_and_line(file: str | None, place: tuple[str | None, int | None]) -> None:
    assert CohortConfigError("it is wrong", fix="mend it", file=file).file_and_line == place


def test_a_byte_order_mark_is_no_part_of_the_file(write: Write) -> None:
    assert ids(read_cohorts(write("a.yaml", b"\xef\xbb\xbf" + (GOOD % "a").encode()))) == ["a"]


def test_a_missing_path_is_told(write: Write) -> None:
    assert told(read_cohorts("nowhere.yaml")) == [
        "nowhere.yaml: it cannot be read (No such file or directory); correct the path or its permissions."
    ]


def test_an_empty_folder_holds_neither_cohorts_nor_problems(write: Write) -> None:
    write("c/readme.md", "soon")
    assert read_cohorts("c") == CohortFile(cohorts=(), problems=())


def test_two_definitions_of_one_id_are_both_refused_and_both_places_named(write: Write) -> None:
    write("c/a.yaml", f"cohorts:\n- {GOOD % 'vip'}\n- {GOOD % 'other'}\n")
    write("c/b.yaml", f"\n{GOOD % 'vip'}")
    read = read_cohorts("c")
    assert ids(read) == ["other"]
    assert told(read) == [
        "c/a.yaml:2, cohort 'vip', field 'id': the id 'vip' is also used at c/b.yaml:2; "
        "give each cohort its own; until then none of them is loaded."
    ]


def test_a_broken_definition_counts_when_ids_are_compared(write: Write) -> None:
    read = read_cohort_file(
        write("a.yaml", f"cohorts:\n- {GOOD % 'vip'}\n- {{id: vip, source: 5}}\n- {GOOD % 'vip'}")
    )
    assert ids(read) == []
    assert told(read)[-1].startswith(
        "a.yaml:2, cohort 'vip', field 'id': the id 'vip' is also used at a.yaml:3 and a.yaml:4; give"
    )


def test_two_cohorts_that_write_one_attribute_are_both_refused(write: Write) -> None:
    cohort = (
        "{id: %s, source: {table: T}, identifiers: {external_id: U}, braze: {attribute: %s, conn_id: %s}}"
    )
    rows = [("a", "x", "one"), ("b", "x", "one"), ("c", "x", "two"), ("d", "X", "one")]
    read = read_cohort_file(write("a.yaml", "cohorts:\n" + "".join(f"- {cohort % row}\n" for row in rows)))
    assert ids(read) == ["c", "d"]
    assert told(read) == [
        "a.yaml:2, cohort 'a', field 'braze.attribute': the attribute is also used at a.yaml:3; "
        "give each cohort its own; until then none of them is loaded."
    ]


def test_aliases_serve_cohorts_too(write: Write) -> None:
    read = read_cohort_file(
        write(
            "a.yaml",
            "cohorts:\n"
            "- &one {id: a, source: {table: T}, identifiers: {external_id: U}}\n"
            "- {<<: *one, id: b, notify: [x@y.z]}\n",
        )
    )
    assert ids(read) == ["a", "b"]
    assert read.cohorts[1].cohort.notify == ("x@y.z",)
