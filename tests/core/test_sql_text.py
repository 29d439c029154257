from __future__ import annotations

import pytest

from airflow_provider_kubit_braze.core.sql_text import single_query
from airflow_provider_kubit_braze.exceptions import CohortConfigError


@pytest.mark.parametrize(
    ("text", "query"),
    [
        pytest.param("SELECT 1", "SELECT 1", id="plain"),
        pytest.param(" select 1 ;; \n; ", "select 1", id="closing semicolons"),
        pytest.param(
            "WITH a AS (SELECT 1) SELECT * FROM a;", "WITH a AS (SELECT 1) SELECT * FROM a", id="with"
        ),
        pytest.param("-- why\n/* and; how */ SELECT 1 -- end;", "SELECT 1", id="comments around"),
        pytest.param("SELECT 1 // end", "SELECT 1", id="slash comment at the end"),
        pytest.param("SELECT 1 -- a;\n, 2", "SELECT 1 -- a;\n, 2", id="comment within"),
        pytest.param("SELECT 1; -- end", "SELECT 1", id="comment after the semicolon"),
        pytest.param("SELECT ';--', ';' ", "SELECT ';--', ';'", id="semicolon in a string"),
        pytest.param("SELECT 'it''s;'", "SELECT 'it''s;'", id="doubled quote"),
        pytest.param(r"SELECT 'it\'s;'", r"SELECT 'it\'s;'", id="escaped quote"),
        pytest.param('SELECT "a;""b)"', 'SELECT "a;""b)"', id="quoted name"),
        pytest.param("SELECT $$;'($$", "SELECT $$;'($$", id="dollar string"),
        pytest.param("SELECT A$$B FROM T", "SELECT A$$B FROM T", id="dollars in a name"),
        pytest.param("SELECT 'http://a' ", "SELECT 'http://a'", id="slashes in a string"),
        pytest.param("SELECT ')' FROM (T)", "SELECT ')' FROM (T)", id="parenthesis in a string"),
    ],
)
def test_one_query_is_taken_without_what_surrounds_it(text: str, query: str) -> None:
    assert single_query(text) == query


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the SQL is blank; write a query that begins with SELECT or WITH."),
        (" -- only this\n;", "the SQL is blank; write a query that begins with SELECT or WITH."),
        ("DELETE FROM T", "the SQL begins with 'DELETE'; write a query that begins with SELECT or WITH."),
        ("(SELECT 1)", "the SQL begins with '('; write a query that begins with SELECT or WITH."),
        ("SELECTED", "the SQL begins with 'SELECTED'; write a query that begins with SELECT or WITH."),
        ("SELECT 1; DROP TABLE T", "the SQL holds more than one statement; keep one SELECT or WITH query."),
        (
            "SELECT ''; DROP TABLE T --'",
            "the SQL holds more than one statement; keep one SELECT or WITH query.",
        ),
        ("SELECT 'a", "the SQL opens ' and never closes it; close it."),
        ('SELECT "a', 'the SQL opens " and never closes it; close it.'),
        ("SELECT 1 /* a", "the SQL opens /* and never closes it; close it."),
        ("SELECT $$ a", "the SQL opens $$ and never closes it; close it."),
        ("SELECT (1", "the SQL's parentheses do not match; open and close the same number."),
        ("SELECT 1) UNION (SELECT 2", "the SQL's parentheses do not match; open and close the same number."),
    ],
)
def test_anything_but_one_query_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        single_query(text)
    assert str(refusal.value) == sentence
