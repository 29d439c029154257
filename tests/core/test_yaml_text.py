from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kubit_braze.core.yaml_text import MAX_VALUES, Items, Located, parse_yaml
from airflow_provider_kubit_braze.exceptions import CohortConfigError


def bomb() -> str:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(["l0: &l0 [x, x, x, x, x, x, x, x, x]", *levels])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("on: monday", {"on": "monday"}, id="on stays a key"),
        pytest.param("a: [on, off, yes, no, y, n]", {"a": ["on", "off", "yes", "no", "y", "n"]}, id="words"),
        pytest.param("a: [true, True, false, FALSE]", {"a": [True, True, False, False]}, id="booleans"),
        pytest.param("a: 10:30", {"a": "10:30"}, id="time of day"),
        pytest.param("a: 06:30:00", {"a": "06:30:00"}, id="time with seconds"),
        pytest.param("a: 2026-01-05", {"a": "2026-01-05"}, id="date"),
        pytest.param("a: 2026-01-05 10:00:00", {"a": "2026-01-05 10:00:00"}, id="timestamp"),
        pytest.param("a: [1, -2, 0, 0.5]", {"a": [1, -2, 0, 0.5]}, id="numbers"),
        pytest.param(
            "a: [010, 0x1F, 1_000, 1e3, .5, .inf]",
            {"a": ["010", "0x1F", "1_000", "1e3", ".5", ".inf"]},
            id="what only looks like numbers",
        ),
        pytest.param("a: ['1', \"true\", 'null', '']", {"a": ["1", "true", "null", ""]}, id="quoted is text"),
        pytest.param("a: |\n  1\n", {"a": "1\n"}, id="block is text"),
        pytest.param("a:\nb: ~\nc: null", {"a": None, "b": None, "c": None}, id="null"),
        pytest.param("a: 30%", {"a": "30%"}, id="percentage"),
        pytest.param("a: =", {"a": "="}, id="equals sign"),
        pytest.param("a: &x {k: 1}\nb: *x", {"a": {"k": 1}, "b": {"k": 1}}, id="alias"),
        pytest.param(
            "a: &x {k: 1, m: 2}\nb: {<<: *x, k: 3}",
            {"a": {"k": 1, "m": 2}, "b": {"k": 3, "m": 2}},
            id="merge",
        ),
        pytest.param(
            "a: &x {k: 1}\nb: &y {k: 2, m: 2}\nc: {<<: [*x, *y]}",
            {"a": {"k": 1}, "b": {"k": 2, "m": 2}, "c": {"k": 1, "m": 2}},
            id="merge of several",
        ),
        pytest.param("%YAML 1.1\n---\na: on\n", {"a": "on"}, id="directive"),
        pytest.param("", None, id="nothing"),
        pytest.param("# only a comment\n", None, id="comment"),
        pytest.param("---\n", None, id="marker only"),
    ],
)
def test_values_are_what_their_author_sees(text: str, value: Any) -> None:
    assert parse_yaml(text, file="f.yaml") == value


def test_merged_keys_follow_the_mappings_own() -> None:
    assert list(parse_yaml("a: &x {k: 1, m: 2}\nb: {<<: *x, z: 0, m: 3}", file="f")["b"]) == ["z", "m", "k"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            "a: 1\nb: [1\nc: 2",
            "f.yaml:3: this is not valid YAML at column ",
            id="syntax",
        ),
        pytest.param(
            "a: b: c", "f.yaml:1: this is not valid YAML at column 5 (mapping values are not", id="colon"
        ),
        pytest.param("a: 1\n\tb: 2", "f.yaml:2: this is not valid YAML at column 1 (", id="tab"),
        pytest.param("a: \x00", "f.yaml: this is not valid YAML (", id="control character"),
        pytest.param(
            "a: 1\nb: 2\na: 3",
            "f.yaml:3: the key 'a' stands here and on line 1; keep one of them.",
            id="key twice",
        ),
        pytest.param(
            "x:\n  a: 1\n  'a': 3", "f.yaml:3: the key 'a' stands here and on line 2", id="twice inside"
        ),
        pytest.param("1: a", "f.yaml:1: the key 1 is not text; write the key as text.", id="number as key"),
        pytest.param(
            "true: a", "f.yaml:1: the key true is not text; write the key as text.", id="boolean as key"
        ),
        pytest.param(
            "? [a]\n: 1", 'f.yaml:1: the key ["a"] is not text; write the key as text.', id="list as key"
        ),
        pytest.param(
            "a: !!python/object/apply:os.system [ls]",
            "f.yaml:1: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed; write",
            id="python tag",
        ),
        pytest.param("a: !!int '5'", "f.yaml:1: the tag 'tag:yaml.org,2002:int' is not allowed", id="tag"),
        pytest.param("a: !env HOME", "f.yaml:1: the tag '!env' is not allowed", id="own tag"),
        pytest.param(
            "a: 1\n---\nb: 2", "f.yaml:2: a second document begins here; keep one document", id="documents"
        ),
        pytest.param(
            "a: *x", "f.yaml:1: the alias *x stands before the end of its anchor; define &x", id="no anchor"
        ),
        pytest.param("a: &x [*x]", "f.yaml:1: the alias *x stands before the end of its anchor", id="circle"),
        pytest.param(
            "a: {<<: 5}", "f.yaml:1: << merges mappings, and 5 is none; name a mapping's alias.", id="merge"
        ),
        pytest.param(
            "[" * 100_000, "f.yaml:1: the values nest deeper than 50 levels; write a flatter file.", id="deep"
        ),
        pytest.param(
            bomb(), f"f.yaml:6: the file holds more than {MAX_VALUES:,} values; use fewer aliases", id="bomb"
        ),
    ],
)
def test_a_bad_document_is_refused_with_its_line_and_the_fix(text: str, sentence: str) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        parse_yaml(text, file="f.yaml")
    assert str(refusal.value).startswith(sentence)


def test_every_field_knows_its_line() -> None:
    data = parse_yaml("\n# top\nid: a\nschedule:\n  mode: once\n  at: 1\nnotify:\n  - x\n", file="f")
    assert isinstance(data, Located)
    lines = {
        field: data.line_of(field) for field in ("id", "schedule", "schedule.at", "notify", "guards.x", None)
    }
    assert lines == {"id": 3, "schedule": 4, "schedule.at": 6, "notify": 7, "guards.x": 3, None: 3}
    assert data.line_of("schedule.on") == 4


def test_every_item_of_a_list_knows_its_line() -> None:
    data = parse_yaml("a:\n- 1\n-\n  b: 2\n\n- [3,\n   4]", file="f")
    items = data["a"]
    assert isinstance(items, Items)
    assert (list(items), items.lines) == ([1, {"b": 2}, [3, 4]], [2, 4, 6])
    assert items[2].lines == [6, 7]
