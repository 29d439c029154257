from __future__ import annotations

from dataclasses import fields, replace
from html.parser import HTMLParser

import pytest

from airflow_provider_kubit_braze.core.mail import Mail, RunEnd, read_result, render_mail
from airflow_provider_kubit_braze.core.report import OUTCOMES, ImportResult

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
        pytest.param({"outcome": "unchanged", "added": 0, "removed": 0}, "unchanged", id="unchanged"),
        pytest.param({"outcome": "dry_run"}, "dry run, 1,204 to add, 87 to remove", id="dry run"),
        pytest.param({"outcome": "stopped"}, "stopped by a guard", id="stopped"),
        pytest.param({"outcome": "failed"}, "failed", id="failed"),
    ],
)
def test_the_subject_names_cohort_and_outcome(changes: dict[str, object], subject: str) -> None:
    mail = render_mail(RUN, replace(RESULT, **changes))  # type: ignore[arg-type]

    assert mail.subject == f"[Kubit → Braze] Power users: {subject}"


@pytest.mark.parametrize("part", ["text", "html"])
def test_both_parts_hold_every_figure_under_its_label(part: str) -> None:
    mail = render_mail(RUN, replace(RESULT, rejected=9, unknown=4, outcome="partial"))
    body = " ".join(mail.text.split()) if part == "text" else seen(mail)

    for figure in (
        "Members at the source 51,001",
        "Users imported (in the cohort in Braze now) 50,002",
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
    told = render_mail(RUN, RESULT).text
    numbers = {
        field.name: format(getattr(RESULT, field.name), ",")
        for field in fields(ImportResult)
        if field.type == "int" and getattr(RESULT, field.name)
    }

    assert len(numbers) == 11
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
    mail = render_mail(RUN, replace(RESULT, outcome=outcome, error=sentence))  # type: ignore[arg-type]

    for body in (mail.text, seen(mail)):
        assert what_to_do in body
        assert sentence in body


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
            "html", "head", "meta", "body", "h2", "p", "table", "tr", "td", "br", "a",
        }  # fmt: skip
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
    assert "In Airflow" not in mail.text


def test_the_link_stands_in_both_parts() -> None:
    mail = render_mail(RUN, RESULT)

    assert f"In Airflow: {RUN.link}" in mail.text
    assert f'<a href="{RUN.link}">' in mail.html


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_result_survives_the_way_through_an_xcom(outcome: str) -> None:
    result = replace(RESULT, outcome=outcome, error="Why.")  # type: ignore[arg-type]
    pulled = {**result.to_dict(), "from_a_newer_version": 1}

    assert read_result(pulled, run_id=RUN.run_id, cohort_id="power_users") == result


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="an empty list"),
        pytest.param("power_users", id="text"),
        pytest.param({**RESULT.to_dict(), "run_id": "manual__1"}, id="of another run"),
        pytest.param({**RESULT.to_dict(), "cohort_id": "vip"}, id="of another cohort"),
        pytest.param({**RESULT.to_dict(), "outcome": "splendid"}, id="an unknown outcome"),
        pytest.param({"run_id": RUN.run_id, "cohort_id": "power_users"}, id="half a result"),
    ],
)
def test_what_is_no_result_of_this_run_is_not_used(value: object) -> None:
    assert read_result(value, run_id=RUN.run_id, cohort_id="power_users") is None


def test_of_a_mapped_import_the_own_cohort_is_taken() -> None:
    values = [{**RESULT.to_dict(), "cohort_id": "vip"}, None, RESULT.to_dict()]

    assert read_result(values, run_id=RUN.run_id, cohort_id="power_users") == RESULT
