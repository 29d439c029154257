"""Ids as examples: recognisable beside their row, useless without it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kubit_braze.core.masking import mask, plain


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("ann", "…"),
        ("1234", "1…"),
        ("C00042", "C…2"),
        ("12345678", "1…8"),
        ("ann@example.com", "an…m"),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2…301"),
        ("", "…"),
        ("\x1b[2Jabcdefghi", "?[…i"),
    ],
)
def test_a_quarter_is_shown_and_at_most_six_characters(user: str, shown: str) -> None:
    assert mask(user) == shown


@given(st.text(max_size=200))
def test_no_more_than_a_quarter_is_shown_or_both_ends(user: str) -> None:
    shown = len(mask(user)) - 1
    assert shown <= 6
    assert 4 * shown <= max(len(user), 8)


def test_what_does_not_print_becomes_a_question_mark() -> None:
    assert plain("Größe\x1b[31m\u202e\n") == "Größe?[31m??"
