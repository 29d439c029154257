from __future__ import annotations

import json
from dataclasses import fields, replace

from airflow_provider_kubit_braze.core.report import OUTCOMES, ImportResult

RESULT = ImportResult(
    cohort_id="power_users",
    cohort_name="Power users",
    run_id="manual__1",
    outcome="partial",
    members=5000,
    users_imported=4321,
    added=1200,
    removed=34,
    unchanged=3111,
    held_out=10,
    duplicates=2,
    invalid=1,
    rejected=5,
    unknown=6,
    data_points=1245,
    requests=17,
    retries=1,
    throttled_seconds=0.5,
    duration_seconds=3.25,
    started_at="2026-08-01T09:00:00+00:00",
    finished_at="2026-08-01T09:00:03.250000+00:00",
)


def test_the_result_has_the_keys_of_the_contract() -> None:
    contract = """
        cohort_id, cohort_name, run_id, outcome, members, users_imported, added, removed, unchanged, held_out,
        duplicates, invalid, rejected, unknown, data_points, requests, retries, throttled_seconds,
        duration_seconds, started_at, finished_at
    """
    names = [name.strip() for name in contract.split(",")]

    later = "error, set_aside, unmatched, users_before, purpose, rejected_reasons, verification"
    assert list(RESULT.to_dict()) == [*names, *later.split(", ")]
    assert set(OUTCOMES) == {"success", "partial", "unchanged", "dry_run", "stopped", "failed"}


def test_the_result_is_plain_json_and_back() -> None:
    found = json.loads(json.dumps(RESULT.to_dict()))

    assert ImportResult(**found) == RESULT
    assert {item.name for item in fields(RESULT)} == set(found)


def test_the_sentence_gives_the_figures() -> None:
    assert RESULT.sentence() == (
        "Power users: partial; 1,200 added, 34 removed, 3,111 left alone, 4,321 users now in Braze, "
        "1,245 data points, 10 held out, 5 rejected, 6 without a certain answer."
    )


def test_the_sentence_tells_what_is_left_and_what_the_import_was_for() -> None:
    result = replace(RESULT, purpose="undo", set_aside=7, unmatched=8)

    assert result.sentence().startswith("Power users: partial (undo); 1,200 added")
    assert result.sentence().endswith(", 7 set aside after a rejection, 8 unknown to Braze.")


def test_the_sentence_leaves_out_what_did_not_happen_and_ends_with_the_error() -> None:
    result = replace(
        RESULT, outcome="failed", held_out=0, rejected=0, unknown=0, error="Braze does not know this key."
    )

    assert result.sentence().endswith("1,245 data points. Braze does not know this key.")
