from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.source import Ready, Source, SqlFile, SqlFileIn
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("table", ["A", "A.B", "A.B.C", "a_1.b$", '"my-db"."S S".T', '"a.b"."c""d"'])
def test_a_table_is_selected_whole(table: str) -> None:
    assert Source(table=table).select == f"SELECT * FROM {table}"


def test_a_query_is_selected_without_what_surrounds_it() -> None:
    source = Source(sql="  SELECT ID FROM T; -- all\n")
    assert source.select == "SELECT ID FROM T"
    assert source.sql == "  SELECT ID FROM T; -- all\n"


def test_a_query_in_a_file_is_read_once_and_kept_with_its_path(tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    file.write_text("SELECT 'ü';\n", encoding="utf-8")
    source = Source(sql_file=SqlFileIn(tmp_path, "q.sql"))  # type: ignore[arg-type]
    file.unlink()
    assert source.sql_file == SqlFile("q.sql", "SELECT 'ü';\n")
    assert source.select == "SELECT 'ü'"


def test_a_byte_order_mark_is_no_part_of_the_query(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_bytes(b"\xef\xbb\xbfSELECT 1")
    assert SqlFile.read("q.sql", folder=tmp_path).text == "SELECT 1"


def test_python_names_a_query_file_by_its_absolute_path(tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    file.write_text("SELECT 1", encoding="utf-8")
    by_text: Any = str(file)
    assert Source(sql_file=by_text).select == "SELECT 1"


def test_ready_says_which_column_and_how_old() -> None:
    ready = Ready(column='"Computed At"', within="26h")  # type: ignore[arg-type]
    assert ready.within == timedelta(hours=26)
    assert ready.model_dump(mode="json") == {"column": '"Computed At"', "within": "26h"}


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        pytest.param({}, "no source is named; add one of table, sql, sql_file or criteria.", id="none"),
        pytest.param(
            {"table": "A", "sql": "SELECT 1"},
            "table and sql are both given; keep one of them.",
            id="two sources",
        ),
        pytest.param(
            {"criteria": {"from": "T", "user": "U", "any": 1}},
            "field 'criteria.any': 1 is not a list; write a list of conditions, each after a dash.",
            id="criteria",
        ),
        *(
            pytest.param(
                {"table": table},
                f"field 'table': {table!r} is not a table name; write one to three names joined by dots",
                id=f"table {table}",
            )
            for table in (
                "",
                "A B",
                "A.B.C.D",
                "A..B",
                "A.",
                "my-table",
                '"A',
                "T; DROP TABLE X",
                "{{ params.t }}",
            )
        ),
        pytest.param({"table": 5}, "field 'table': 5 is not text", id="number for a table"),
        pytest.param(
            {"sql": "SELECT 1; SELECT 2"},
            "field 'sql': the SQL holds more than one statement; keep one SELECT or WITH query.",
            id="two statements",
        ),
        pytest.param(
            {"sql_file": "q.sql"},
            "field 'sql_file': 'q.sql' is a relative path; write str(Path(__file__).parent / "
            "'q.sql'), or use sql.",
            id="relative file in Python",
        ),
        pytest.param(
            {"sql_file": {"path": "q.sql"}},
            'field \'sql_file\': {"path": "q.sql"} is not a path; write the path of one .sql file.',
            id="file that is no path",
        ),
        pytest.param(
            {"table": "A", "conn_id": "snow flake"},
            "field 'conn_id': 'snow flake' is not a connection id; write the id of an Airflow connection.",
            id="bad connection id",
        ),
        pytest.param(
            {"table": "A", "ready": {"column": "C"}},
            "field 'ready.within': this key is required and missing; add within",
            id="ready without within",
        ),
        pytest.param(
            {"table": "A", "ready": {"column": "C D", "within": "26"}},
            "field 'ready.column': 'C D' is not a column name",
            id="bad column",
        ),
        pytest.param(
            {"table": "A", "ready": {"column": "C", "within": "26"}},
            "field 'ready.within': '26' is no duration; write minutes, hours or days, such as 90m, "
            "26h or 2d.",
            id="duration without a unit",
        ),
        pytest.param(
            {"tabel": "A"},
            "field 'tabel': unknown key 'tabel'; write 'table' or remove it.",
            id="misspelt key",
        ),
    ],
)
def test_a_bad_source_is_refused_with_the_field_the_value_and_the_fix(
    written: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        Source(**written)
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "field 'sql_file': 'q.sql' cannot be read (No such file or directory); correct the path"),
        (b"SELECT '\xff'", "field 'sql_file': 'q.sql' is not UTF-8 text; save it as UTF-8."),
        (
            b"DROP TABLE T",
            "field 'sql_file': in 'q.sql' the SQL begins with 'DROP'; write a query that begins",
        ),
        (
            b"\n",
            "field 'sql_file': in 'q.sql' the SQL is blank; write a query that begins with SELECT or WITH.",
        ),
    ],
    ids=["missing", "not UTF-8", "not a query", "blank"],
)
def test_a_bad_query_file_is_refused_with_its_name_and_the_fix(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / "q.sql").write_bytes(content)
    with pytest.raises(CohortConfigError) as refusal:
        Source(sql_file=SqlFileIn(tmp_path, "q.sql"))  # type: ignore[arg-type]
    assert str(refusal.value).startswith(sentence)
