"""From facts to one sentence; tests/cli/test_why.py gathers the facts themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.explanation import (
    FORGOTTEN,
    Answer,
    Facts,
    Profile,
    Sent,
    SourceRow,
    Stay,
    Verdict,
    explain,
    show_value,
)
from airflow_provider_kubit_braze.core.place import Place

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.plan import Action

HERE, ELSEWHERE = Place("attribute", "a"), Place("attribute", "b")
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
ROW = SourceRow(id_kind="external_id", user="u", found_by=("external_id",))
HELD = SourceRow(id_kind="external_id", user="u", found_by=("external_id",), held_out=True)


def stay(days_ago: float = 5, **more: Any) -> Stay:
    values = {"place": HERE, "id_kind": "external_id", "user": "u", "entered_run": "r1", **more}
    return Stay(entered_at=NOW - timedelta(days=days_ago), **values)


def sent(answer: Answer, action: Action | None = "enter", *, days_ago: float = 1, **more: Any) -> Sent:
    values = {"place": HERE, "id_kind": "external_id", "user": "u", "run_id": "r2", **more}
    return Sent(at=NOW - timedelta(days=days_ago), action=action, answer=answer, **values)


def braze(value: Any = None, **more: Any) -> Profile:
    return Profile(id_kind="external_id", user="u", **{"known": True, "value": value, **more})


def verdict(
    *, rows: Any = (), stays: Any = (), changes: Any = (), profiles: Any = (), creates: bool = False
) -> Verdict:
    return explain(
        Facts(
            user="u",
            place=HERE,
            rows=rows,
            stays=stays,
            sent=changes,
            profiles=profiles,
            now=NOW,
            creates=creates,
        )
    )


CLOSED: dict[str, Any] = {"left_at": NOW - timedelta(days=2), "left_run": "r3"}


@pytest.mark.parametrize(
    ("facts", "code", "right", "words"),
    [
        ({"rows": [ROW], "stays": [stay()]}, "in", True, "since 2026-03-05 12:00 UTC: run r1 sent them"),
        (
            {"rows": [ROW], "stays": [stay()], "changes": [sent("rejected", "refresh", reason="bad id")]},
            "in",
            True,
            "accepted then; they were rejected once more in run r2: bad id",
        ),
        (
            {"rows": [ROW], "stays": [stay()], "changes": [sent("unknown", "leave")]},
            "in",
            True,
            "what run r2 of 2026-03-09 12:00 UTC sent since has no certain answer",
        ),
        ({"rows": [ROW], "stays": [stay(place=ELSEWHERE)]}, "moving", False, "(attribute b)"),
        ({"rows": [HELD]}, "held_out", True, "on purpose"),
        ({"rows": [HELD], "stays": [stay()]}, "held_out", False, "the next import takes them out"),
        ({"rows": [HELD], "stays": [stay(held_out=True)]}, "held_out", True, "on purpose"),
        (
            {"rows": [HELD], "changes": [sent("unmatched", "hold")]},
            "unmatched",
            True,
            "Braze did not know them when run r2 of 2026-03-09 12:00 UTC looked",
        ),
        # Held out since, and whatever became of that.
        (
            {
                "rows": [HELD],
                "stays": [stay(0.5, held_out=True)],
                "changes": [sent("unmatched", "hold")],
            },
            "held_out",
            True,
            "on purpose",
        ),
        (
            {
                "rows": [HELD],
                "stays": [stay(0.5, held_out=True, left_at=NOW, left_run="r3")],
                "changes": [sent("unmatched", "hold")],
            },
            "held_out",
            True,
            "on purpose",
        ),
        (
            {
                "rows": [HELD],
                "stays": [stay(held_out=True, **CLOSED)],
                "changes": [sent("unmatched", "hold")],
            },
            "unmatched",
            True,
            "do not count as held out",
        ),
        # The holdout was made smaller since.
        ({"rows": [ROW], "changes": [sent("unmatched", "hold")]}, "waiting", False, "the next one adds them"),
        ({"rows": [SourceRow(id_kind="external_id", user=None, found_by=())]}, "invalid", False, "invalid"),
        ({"rows": [ROW]}, "waiting", False, "the next one adds them"),
        ({"rows": [ROW], "stays": [stay(**CLOSED)]}, "waiting", False, "in it until 2026-03-08 12:00 UTC"),
        (
            {"rows": [ROW], "changes": [sent("rejected", reason="bad id.")]},
            "set_aside",
            False,
            "rejected them in run r2 of 2026-03-09 12:00 UTC: bad id.; set aside until 2026-03-16 12:00 UTC",
        ),
        ({"rows": [ROW], "changes": [sent("rejected", days_ago=8)]}, "rejected", False, "sends them again"),
        ({"rows": [ROW], "changes": [sent("rejected", row_hash="x")]}, "rejected", False, "sends them again"),
        ({"rows": [ROW], "changes": [sent("rejected", cleared=True)]}, "rejected", False, "sends them again"),
        ({"rows": [ROW], "changes": [sent("unknown")]}, "unknown", False, "no certain answer came back"),
        ({"rows": [ROW], "changes": [sent("unknown", "leave")]}, "unknown", False, "an earlier removal"),
        ({"rows": [ROW], "changes": [sent("unmatched")]}, "unmatched", False, "every import tries"),
        ({"rows": [ROW], "changes": [sent("pending")]}, "under_way", False, "which has not ended"),
        (
            {"rows": [ROW], "changes": [sent("accepted", ended=False)]},
            "under_way",
            False,
            "accepted by Braze",
        ),
        # Braze has taken them in, or out, and no stay says so yet.
        ({"changes": [sent("accepted", ended=False)]}, "under_way", False, "they were accepted by Braze"),
        (
            {"rows": [ROW], "stays": [stay()], "changes": [sent("accepted", "leave", ended=False)]},
            "under_way",
            False,
            "their removal was accepted by Braze",
        ),
        # What was refused under the attribute's old name does not keep them from the new one.
        ({"rows": [ROW], "changes": [sent("rejected", place=ELSEWHERE)]}, "waiting", False, ""),
        ({}, "never", True, "no import ever had them"),
        ({"stays": [stay(held_out=True, **CLOSED)]}, "never", True, "the holdout kept them"),
        ({"changes": [sent("rejected")]}, "never", True, "last rejected in run r2"),
        ({"stays": [stay()]}, "leaving", False, "takes them out"),
        ({"stays": [stay(place=ELSEWHERE)]}, "leaving", False, "takes them out"),
        (
            {"stays": [stay()], "changes": [sent("rejected", "leave", reason="no")]},
            "leaving",
            False,
            "Braze refused their removal in run r2 of 2026-03-09 12:00 UTC: no",
        ),
        ({"stays": [stay(**CLOSED)]}, "left", True, "run r3 sent it, Braze accepted"),
        (
            {"stays": [stay(left_at=NOW, left_run=FORGOTTEN)]},
            "left",
            True,
            "and Braze was told nothing",
        ),
        ({"changes": [sent("unknown", None)]}, "unknown", False, "to be sure"),
    ],
)
def test_how_it_is_with_a_user(facts: dict[str, Any], code: str, right: bool, words: str) -> None:
    found = verdict(**facts)

    assert (found.code, found.as_it_should_be) == (code, right)
    assert words in found.sentence
    assert found.sentence.endswith(".")
    assert ".." not in found.sentence


@pytest.mark.parametrize(
    ("facts", "profiles", "right", "words"),
    [
        ({"rows": [ROW], "stays": [stay()]}, [braze(True)], True, "Braze says true now."),
        ({"rows": [ROW], "stays": [stay()]}, [braze("true")], False, "says 'true' now: it may be late"),
        ({"rows": [ROW], "stays": [stay()]}, [braze(known=False)], False, "drops what is sent of them"),
        (
            {"rows": [ROW], "stays": [stay()], "creates": True},
            [braze(known=False)],
            False,
            "Braze does not know this user now.",
        ),
        ({"rows": [ROW], "stays": [stay()]}, [braze(), braze(True)], True, "Braze says true now."),
        ({"rows": [ROW], "changes": [sent("unknown")]}, [braze(True)], True, "Braze says true now."),
        ({"rows": [ROW], "stays": [stay(place=ELSEWHERE)]}, [braze()], False, "Braze has no value now."),
        ({"stays": [stay(place=ELSEWHERE)]}, [braze()], False, "Braze has no value now."),
        ({"rows": [HELD]}, [braze(True)], False, "something else writes the attribute"),
        ({}, [braze(known=False)], True, "Braze does not know this user now."),
        (
            {"rows": [ROW], "stays": [stay()]},
            [braze(readable=False)],
            True,
            "who is in a partner cohort cannot be read back.",
        ),
        ({"rows": [ROW], "changes": [sent("unknown")]}, [braze(readable=False)], False, "read back."),
    ],
)
def test_what_braze_shows_has_the_last_word(
    facts: dict[str, Any], profiles: list[Profile], right: bool, words: str
) -> None:
    found = verdict(profiles=profiles, **facts)

    assert found.as_it_should_be is right
    assert words in found.sentence


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "not set"), (True, "true"), (False, "false"), ("yes", "'yes'"), (3, "3")]
)
def test_a_value_is_shown_as_people_write_it(value: Any, shown: str) -> None:
    assert show_value(value) == shown
