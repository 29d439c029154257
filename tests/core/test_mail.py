from __future__ import annotations

from dataclasses import fields, replace
from html.parser import HTMLParser
from typing import get_args

import pytest

from airflow_provider_kubit_braze.core.mail import Mail, NotifyWhen, RunEnd, read_result, render_mail
from airflow_provider_kubit_braze.core.report import OUTCOMES, ImportResult
from airflow_provider_kubit_braze.core.verification import Verification

RUN = RunEnd(
    dag_id="kubit_braze__power_users",
    run_id="scheduled__2026-11-23T14:00:00+00:00",
    cohort_id="power_users",
    cohort_name="Power users",
    wait_state="success",
    import_state="success",
    link="https://airflow.example.com/dags/kubit_braze__power_users/runs/r1/tasks/import_to_braze",
)
# Each figure is another number, so that none can stand in for another.
RESULT = ImportResult(
    cohort_id="power_users",
    cohort_name="Power users",
    run_id=RUN.run_id,
    outcome="success",
    members=51_001,
    users_imported=50_002,
    added=1_204,
    removed=87,
    unchanged=49_003,
    users_before=48_885,
    held_out=504,
    duplicates=65,
    invalid=46,
    rejected=0,
    unknown=0,
    data_points=1_291,
    requests=18,
    retries=3,
    throttled_seconds=2.25,
    duration_seconds=75.4,
    started_at="2026-11-23T14:00:05.123456+00:00",
    finished_at="2026-11-23T14:01:20+00:00",
)


class _Text(HTMLParser):
    """What a reader of the HTML part sees, and which tags made it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def seen(mail: Mail) -> str:
    return " ".join(" ".join(_Text(mail.html).words).split())


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        pytest.param({}, "1,204 added, 87 removed", id="success"),
        pytest.param(
            {"outcome": "partial", "rejected": 12, "unknown": 5},
            "1,204 added, 87 removed, 12 rejected and 5 without an answer",
            id="partial",
        ),
        pytest.param(
            {"outcome": "partial", "rejected": 12}, "1,204 added, 87 removed, 12 rejected", id="rejected"
        ),
        pytest.param(
            {"outcome": "partial", "rejected": 12, "unknown": 5, "unmatched": 1_003},
            "1,204 added, 87 removed, 12 rejected, 5 without an answer and 1,003 unknown to Braze",
            id="all kinds of partial",
        ),
        pytest.param({"outcome": "unchanged", "added": 0, "removed": 0}, "unchanged", id="unchanged"),
        pytest.param({"outcome": "dry_run"}, "dry run, 1,204 to add, 87 to remove", id="dry run"),
        pytest.param({"outcome": "stopped"}, "stopped by a guard", id="stopped"),
        pytest.param({"outcome": "failed"}, "failed", id="failed"),
    ],
)
def test_the_subject_names_cohort_and_outcome(changes: dict[str, object], subject: str) -> None:
    mail = render_mail(RUN, replace(RESULT, **changes))  # type: ignore[arg-type]

    assert mail.subject == f"[Kubit → Braze] Power users: {subject}"


@pytest.mark.parametrize(
    ("purpose", "outcome", "subject"),
    [
        ("undo", "success", "undone: 87 removed again, 1,204 added back"),
        ("undo", "partial", "undone in part: 87 removed again, 1,204 added back, 12 rejected"),
        ("undo", "unchanged", "undone: nothing had to be changed"),
        ("undo", "dry_run", "dry run of an undo, 87 to remove again, 1,204 to add back"),
        ("undo", "stopped", "undo stopped by a guard"),
        ("undo", "failed", "undo failed"),
        ("retire", "success", "retired: 87 removed"),
        ("retire", "partial", "retired in part: 87 removed, 12 rejected"),
        ("retire", "unchanged", "retired: nobody was left"),
        ("retire", "dry_run", "dry run of a retirement, 87 to remove"),
        ("retire", "stopped", "retirement stopped by a guard"),
        ("retire", "failed", "retirement failed"),
    ],
)
def test_the_subject_says_what_was_taken_back(purpose: str, outcome: str, subject: str) -> None:
    rejected = 12 if outcome == "partial" else 0
    mail = render_mail(RUN, replace(RESULT, purpose=purpose, outcome=outcome, rejected=rejected))  # type: ignore[arg-type]

    assert mail.subject == f"[Kubit → Braze] Power users: {subject}"
    assert f"<title>Power users: {subject}</title>" in mail.html
    assert f">{subject}</p>" in mail.html


@pytest.mark.parametrize(
    ("purpose", "outcome", "import_state", "what_to_do"),
    [
        ("undo", "success", "success", "pause the DAG until the source is right"),
        ("undo", "unchanged", "success", "pause the DAG until the source is right"),
        ("undo", "partial", "success", "pause the DAG until the source is right"),
        ("undo", "dry_run", "success", "without dry_run to undo the last import"),
        ("undo", "failed", "failed", "then clear the task: what Braze accepted is recorded"),
        ("undo", "success", "failed", "The next import follows the source again."),
        ("retire", "success", "success", "Delete the cohort's file or pause its DAG now"),
        ("retire", "unchanged", "success", "Delete the cohort's file or pause its DAG now"),
        ("retire", "partial", "success", "retire the cohort again before its file is deleted"),
        ("retire", "dry_run", "success", "without dry_run to take everybody out of Braze"),
        ("retire", "failed", "failed", "then clear the task: what Braze accepted is recorded"),
        ("retire", "success", "failed", "The next import would fill the cohort again."),
        ("import", "success", "failed", "The next import sends only what is missing."),
    ],
)
def test_what_was_taken_back_comes_back_unless_somebody_sees_to_it(
    purpose: str, outcome: str, import_state: str, what_to_do: str
) -> None:
    result = replace(RESULT, purpose=purpose, outcome=outcome)  # type: ignore[arg-type]
    mail = render_mail(replace(RUN, import_state=import_state), result)

    for body in (mail.text, seen(mail)):
        assert what_to_do in body
        assert ("or wait for the next run" in body) == (purpose == "import" and outcome == "failed")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "48,885 before this import (+1,117, +2.3%)"),
        ({"users_before": 0}, "0 before this import (+50,002)"),
        ({"users_before": 50_003}, "50,003 before this import (-1, -0.0%)"),
        ({"users_before": 50_002}, "50,002 before this import: no more and no fewer"),
        ({"outcome": "failed"}, "48,885 before this import (+1,117, +2.3%)"),
    ],
)
def test_what_changed_since_the_last_import_is_told_in_both_parts(
    changes: dict[str, object], told: str
) -> None:
    mail = render_mail(RUN, replace(RESULT, **changes))  # type: ignore[arg-type]

    assert f"50,002 users in the cohort in Braze; {told}." in mail.text
    assert f"50,002 users in the cohort in Braze {told} " in seen(mail)


@pytest.mark.parametrize("outcome", ["unchanged", "dry_run", "stopped"])
def test_an_import_that_changed_nothing_is_not_compared_with_before(outcome: str) -> None:
    mail = render_mail(RUN, replace(RESULT, outcome=outcome))  # type: ignore[arg-type]

    assert "before this import" not in mail.text
    assert "before this import" not in seen(mail)


class _Bars(HTMLParser):
    """The pieces of each bar: what they stand for, and how many percent wide they are."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[dict[str, int]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        kind = (given.get("class") or "").removeprefix("kb-")
        if tag == "tr":
            self.rows.append({})
        elif tag == "td" and kind in ("stayed", "added", "removed"):
            self.rows[-1][kind] = int((given["width"] or "").removesuffix("%"))

    @classmethod
    def of(cls, mail: Mail) -> list[dict[str, int]]:
        return [row for row in cls(mail.html).rows if row]


def test_the_bars_show_who_stayed_who_left_and_who_came() -> None:
    result = replace(RESULT, users_before=100, users_imported=120, added=60, removed=40)
    mail = render_mail(RUN, result)

    assert _Bars.of(mail) == [{"stayed": 50, "removed": 33}, {"stayed": 50, "added": 50}]
    assert "Before: 60 stayed, 40 removed" in seen(mail)
    assert "Now: 60 stayed, 60 added" in seen(mail)


def test_a_few_among_many_still_have_a_piece_of_their_bar() -> None:
    result = replace(RESULT, users_before=1_000_000, users_imported=1_000_000, added=1, removed=1)

    assert [row.keys() for row in _Bars.of(render_mail(RUN, result))] == [
        {"stayed", "removed"},
        {"stayed", "added"},
    ]


def test_a_dry_run_shows_what_would_be() -> None:
    result = replace(RESULT, outcome="dry_run", users_before=100, users_imported=100, added=60, removed=40)
    mail = render_mail(RUN, result)

    assert "After an import: 60 stayed, 60 added" in seen(mail)
    assert _Bars.of(mail) == [{"stayed": 50, "removed": 33}, {"stayed": 50, "added": 50}]


@pytest.mark.parametrize(
    "changes", [{"added": 0, "removed": 0}, {"users_imported": 3, "added": 3, "removed": 0}]
)
def test_bars_are_drawn_only_of_a_change_and_fill_their_room(changes: dict[str, int]) -> None:
    bars = _Bars.of(render_mail(RUN, replace(RESULT, **changes)))  # type: ignore[arg-type]

    assert bars == ([{"added": 100}] if changes["added"] else [])


_QUIET = {"added": 0, "removed": 0}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        pytest.param({}, {"always", "success", "change"}, id="success"),
        pytest.param(_QUIET, {"always", "success"}, id="only held-out users changed"),
        pytest.param({"outcome": "unchanged", **_QUIET}, {"always", "success"}, id="unchanged"),
        pytest.param({"outcome": "dry_run"}, {"always", "success"}, id="dry run"),
        pytest.param(
            {"outcome": "partial", "rejected": 1},
            {"always", "success", "change", "failure"},
            id="in part",
        ),
        pytest.param({"outcome": "stopped", **_QUIET}, {"always", "change", "failure"}, id="stopped"),
        pytest.param({"outcome": "failed", **_QUIET}, {"always", "change", "failure"}, id="failed"),
    ],
)
def test_a_mail_is_wanted_by_those_whom_its_news_concern(
    changes: dict[str, object], wanted: set[str]
) -> None:
    mail = render_mail(RUN, replace(RESULT, **changes))  # type: ignore[arg-type]

    assert {when for when in get_args(NotifyWhen) if mail.is_wanted(when)} == wanted


def test_a_run_without_figures_is_news_for_those_who_hear_of_failures() -> None:
    mail = render_mail(replace(RUN, wait_state="failed", import_state="upstream_failed"), None)

    assert {when for when in get_args(NotifyWhen) if mail.is_wanted(when)} == {"always", "change", "failure"}


@pytest.mark.parametrize("part", ["text", "html"])
def test_who_is_set_aside_or_unmatched_is_told_only_when_there_is_somebody(part: str) -> None:
    def body(**figures: int) -> str:
        mail = render_mail(RUN, replace(RESULT, **figures))  # type: ignore[arg-type]
        return " ".join(mail.text.split()) if part == "text" else seen(mail)

    labels = ("Rejected before and not sent again yet", "Unknown to Braze, tried again by the next import")
    assert [label for label in labels if label in body()] == []
    assert f"{labels[0]} 27" in body(set_aside=27)
    assert labels[1] not in body(set_aside=27)
    assert f"{labels[1]} 1,033" in body(unmatched=1_033)


def test_a_partial_import_tells_where_the_unmatched_are() -> None:
    def text(unmatched: int) -> str:
        return render_mail(RUN, replace(RESULT, outcome="partial", rejected=1, unmatched=unmatched)).text

    assert "IMPORT_UNMATCHED" in text(unmatched=3)
    assert "IMPORT_UNMATCHED" not in text(unmatched=0)


VERIFICATION = Verification(
    sampled=500, population=51_001, matched=487, different=4, unknown=9, source="api", finished=False
)


def test_why_braze_rejected_users_is_told_in_both_parts_and_stays_text() -> None:
    reasons = {"<b>is blacklisted</b>": 7, "… is\nnot valid": 2}
    mail = render_mail(RUN, replace(RESULT, outcome="partial", rejected=9, rejected_reasons=reasons))

    words = "Braze rejected users with these words: “<b>is blacklisted</b>” (7), “… is not valid” (2)."
    assert words in mail.text
    assert words in seen(mail)
    assert "with these words" not in render_mail(RUN, RESULT).text


def test_a_verification_is_told_in_its_own_sentence_in_both_parts() -> None:
    mail = render_mail(RUN, replace(RESULT, verification=VERIFICATION.to_dict()))

    assert "Verified 500 of 51,001 changes: 97.4 % right" in VERIFICATION.sentence()
    assert VERIFICATION.sentence() in mail.text
    assert VERIFICATION.sentence() in seen(mail)
    assert "erified" not in render_mail(RUN, RESULT).text


@pytest.mark.parametrize(
    "verification",
    [
        {},
        {"sampled": 3},
        {**VERIFICATION.to_dict(), "matched": 9_999},
        {**VERIFICATION.to_dict(), "matched": "x"},
    ],
    ids=["empty", "half", "does not add up", "no number"],
)
def test_a_verification_that_makes_no_sense_costs_no_mail(verification: dict[str, object]) -> None:
    mail = render_mail(RUN, replace(RESULT, verification=verification))

    assert "1,204 added" in mail.text
    assert "erified" not in mail.text


@pytest.mark.parametrize("part", ["text", "html"])
def test_both_parts_hold_every_figure_under_its_label(part: str) -> None:
    mail = render_mail(RUN, replace(RESULT, rejected=9, unknown=4, outcome="partial"))
    body = " ".join(mail.text.split()) if part == "text" else seen(mail)

    for figure in (
        "Members at the source 51,001",
        "Users imported (in the cohort in Braze now) 50,002",
        "Users in the cohort in Braze before 48,885",
        "Added 1,204",
        "Removed 87",
        "Unchanged 49,003",
        "Held out 504",
        "Duplicate rows 65",
        "Rows without a usable identifier 46",
        "Rejected by Braze 9",
        "Without a certain answer 4",
        "Data points 1,291",
        "Requests 18",
        "Requests sent again 3",
        "Waited for the rate limit 2.2 s",
        "Duration 1 min 15 s",
        "Started 2026-11-23 14:00:05 UTC",
        "Finished 2026-11-23 14:01:20 UTC",
        "Cohort: Power users (power_users)",
        "DAG: kubit_braze__power_users",
        "Run: scheduled__2026-11-23T14:00:00+00:00",
    ):
        assert figure in body


def test_a_new_field_of_the_result_must_find_its_way_into_the_mail() -> None:
    result = replace(RESULT, outcome="partial", rejected=9, unknown=4, set_aside=27, unmatched=1_033)
    told = render_mail(RUN, result).text
    numbers = {
        field.name: format(getattr(result, field.name), ",")
        for field in fields(ImportResult)
        if field.type == "int"
    }

    assert len(set(numbers.values())) == len(numbers)
    assert [name for name, number in numbers.items() if f" {number}\n" not in told] == []


def test_a_dry_run_tells_what_an_import_would_do_and_which_guard_would_stop_it() -> None:
    text = render_mail(
        RUN, replace(RESULT, outcome="dry_run", error="A real run would be stopped: empty.")
    ).text

    assert f"would add {RESULT.added:,} users and remove {RESULT.removed:,}" in text
    assert "A real run would be stopped: empty." in text


def test_what_was_only_planned_is_not_called_done() -> None:
    text = render_mail(RUN, replace(RESULT, outcome="dry_run")).text

    assert "To be added" in text
    assert "Data points planned" in text
    assert "Added" not in text
    assert "nothing was sent" in text


@pytest.mark.parametrize(
    ("outcome", "what_to_do"),
    [
        ("partial", "IMPORT_REJECTED"),
        ("dry_run", "without dry_run"),
        ("stopped", "override_guards"),
        ("failed", "clear the task"),
    ],
)
def test_the_error_and_what_to_do_are_told_in_both_parts(outcome: str, what_to_do: str) -> None:
    sentence = "31 % of the cohort would leave, max_removed is 30%."
    rejected = int(outcome == "partial")
    result = replace(RESULT, outcome=outcome, error=sentence, rejected=rejected)  # type: ignore[arg-type]
    mail = render_mail(RUN, result)

    for body in (mail.text, seen(mail)):
        assert what_to_do in body
        assert sentence in body


def test_nobody_is_sent_to_a_table_where_nobody_is() -> None:
    text = render_mail(RUN, replace(RESULT, outcome="partial", unknown=3)).text

    assert "IMPORT_REJECTED" not in text
    assert "Changes without a certain answer are sent again" in text


def test_why_an_import_left_no_figures_is_told_where_it_is_known() -> None:
    run = replace(RUN, import_state="failed", why="The state tables cannot be created in schema X.")

    for body in ((mail := render_mail(run, None)).text, seen(mail)):
        assert "The state tables cannot be created in schema X." in body
        assert "may have died" not in body


def test_a_result_that_ended_well_is_not_called_a_success_when_its_task_failed() -> None:
    mail = render_mail(replace(RUN, import_state="failed"), RESULT)

    assert mail.subject.endswith("failed after 1,204 added, 87 removed")
    assert "1,291" in mail.text


@pytest.mark.parametrize(
    ("states", "subject", "words"),
    [
        pytest.param(
            {
                "wait_state": "failed",
                "import_state": "upstream_failed",
                "waiting_for": "COMPUTED_AT is empty",
            },
            "failed while waiting for the cohort",
            "COMPUTED_AT is empty",
            id="sensor gave up",
        ),
        pytest.param(
            {"wait_state": "failed", "import_state": None},
            "failed while waiting for the cohort",
            "The log of wait_for_cohort says what it waited for.",
            id="sensor died",
        ),
        pytest.param(
            {"wait_state": "skipped", "import_state": "skipped"}, "skipped", "was skipped", id="soft fail"
        ),
        pytest.param({"import_state": "failed"}, "failed", "its process may have died", id="worker died"),
        pytest.param(
            {"wait_state": None, "import_state": "upstream_failed"},
            "failed before the import",
            "a task before import_to_braze failed",
            id="another task failed",
        ),
        pytest.param({"import_state": "success"}, "ended without figures", "in state success", id="no XCom"),
        pytest.param({"import_state": None}, "ended without figures", "did not run", id="nothing known"),
    ],
)
def test_without_a_result_the_mail_tells_what_airflow_knows(
    states: dict[str, str | None], subject: str, words: str
) -> None:
    mail = render_mail(replace(RUN, **states), None)  # type: ignore[arg-type]

    assert mail.subject == f"[Kubit → Braze] Power users: {subject}"
    assert words in mail.text
    assert words in seen(mail)
    assert "Members at the source" not in mail.text


def test_markup_in_any_value_stays_text() -> None:
    evil = "<script>alert('x')</script>\"&"
    result = replace(
        RESULT, cohort_name=evil, outcome="failed", error=evil, started_at=evil, finished_at=evil
    )
    run = replace(RUN, dag_id=evil, run_id=evil, cohort_id=evil, cohort_name=evil, waiting_for=evil)

    mails = [render_mail(run, result), render_mail(replace(run, wait_state="failed"), None)]

    for mail in mails:
        assert _Text(mail.html).tags <= {
            *("html", "head", "meta", "title", "style", "body", "h1", "p", "span", "div", "br", "a"),
            *("table", "tr", "th", "td"),
        }
        assert evil in seen(mail)
        assert evil in mail.text


def test_a_line_break_in_a_name_forges_neither_a_header_nor_a_line() -> None:
    mail = render_mail(RUN, replace(RESULT, cohort_name="VIP\r\nBcc: x@example.com\n\nAdded 9"))

    assert "\n" not in mail.subject
    assert "\r" not in mail.subject
    assert not [line for line in mail.text.splitlines() if line.startswith(("Bcc", "Added 9"))]


@pytest.mark.parametrize(
    "trick", ["\x1b[31m", "\u202e", "\x00", "\u2028"], ids=["escape", "bidi", "nul", "separator"]
)
def test_a_character_that_cannot_be_seen_is_left_out(trick: str) -> None:
    mail = render_mail(RUN, replace(RESULT, cohort_name=f"VIP{trick}"))

    assert not any(trick[0] in part for part in (mail.subject, mail.text, mail.html))


def test_a_very_long_name_leaves_the_subject_a_line() -> None:
    assert len(render_mail(RUN, replace(RESULT, cohort_name="x" * 1000)).subject) == 180


@pytest.mark.parametrize("link", ["javascript:alert(1)", "/dags/x", "https://x.example/\nBcc: y", None])
def test_only_a_web_address_becomes_a_link(link: str | None) -> None:
    mail = render_mail(replace(RUN, link=link), RESULT)

    assert "<a " not in mail.html
    assert "Airflow:" not in mail.text


def test_the_links_stand_in_both_parts() -> None:
    page = "https://airflow.example.com/plugin/kubit-braze#/cohort/power_users"
    mail = render_mail(replace(RUN, page=page), RESULT)

    assert f"Open the run in Airflow: {RUN.link}" in mail.text
    assert f'href="{RUN.link}"' in mail.html
    assert f"History of the cohort: {page}" in mail.text
    assert f'href="{page}"' in mail.html


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_result_survives_the_way_through_an_xcom(outcome: str) -> None:
    result = replace(
        RESULT,
        outcome=outcome,  # type: ignore[arg-type]
        error="Why.",
        purpose="undo",
        set_aside=27,
        unmatched=33,
        verification=VERIFICATION.to_dict(),
    )
    pulled = {**result.to_dict(), "from_a_newer_version": 1}

    assert read_result(pulled, run_id=RUN.run_id, cohort_id="power_users") == result


def test_a_result_left_before_an_upgrade_is_still_read() -> None:
    new = ("set_aside", "unmatched", "users_before", "purpose", "rejected_reasons", "verification")
    old = {name: value for name, value in RESULT.to_dict().items() if name not in new}

    assert read_result(old, run_id=RUN.run_id, cohort_id="power_users") == replace(RESULT, users_before=0)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="an empty list"),
        pytest.param("power_users", id="text"),
        pytest.param({**RESULT.to_dict(), "run_id": "manual__1"}, id="of another run"),
        pytest.param({**RESULT.to_dict(), "cohort_id": "vip"}, id="of another cohort"),
        pytest.param({**RESULT.to_dict(), "outcome": "splendid"}, id="an unknown outcome"),
        pytest.param({**RESULT.to_dict(), "purpose": "celebrate"}, id="an unknown purpose"),
        pytest.param({"run_id": RUN.run_id, "cohort_id": "power_users"}, id="half a result"),
    ],
)
def test_what_is_no_result_of_this_run_is_not_used(value: object) -> None:
    assert read_result(value, run_id=RUN.run_id, cohort_id="power_users") is None


def test_of_a_mapped_import_the_own_cohort_is_taken() -> None:
    values = [{**RESULT.to_dict(), "cohort_id": "vip"}, None, RESULT.to_dict()]

    assert read_result(values, run_id=RUN.run_id, cohort_id="power_users") == RESULT
