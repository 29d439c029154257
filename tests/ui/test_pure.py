"""The page's pure modules, run where they run: in the browser."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.ui.conftest import Ui


#: What stands where there is nothing to say.
NONE = "\N{EN DASH}"


@pytest.fixture(scope="module")
def page(ui: Ui, browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.add_cookies([{"name": "_token", "value": ui.tokens["vera"], "url": f"{ui.url}/"}])
    page = context.new_page()
    page.goto(f"{ui.url}/kubit-braze/icon.svg")
    page.goto(f"{ui.url}/kubit-braze/")
    yield page
    context.close()


def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    code = "async ([m, f, a]) => (await import(new URL(m, document.baseURI)))[f](...a)"
    return page.evaluate(code, [module, function, list(arguments)])


@pytest.mark.parametrize(
    ("text", "source", "schedule"),
    [
        ("Snowflake to Braze · A.B.C · Mondays 09:00, New York", "A.B.C", "Mondays 09:00, New York"),
        ('Snowflake to Braze · "a · b" · daily 06:00, UTC', '"a · b"', "daily 06:00, UTC"),
        ("Somebody's own words", NONE, "Somebody's own words"),
        (None, NONE, NONE),
    ],
)
def test_source_and_schedule_are_read_from_the_description(
    page: Page, text: str | None, source: str, schedule: str
) -> None:
    assert call(page, "words.js", "readDescription", text) == {"source": source, "schedule": schedule}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.84, "0.8 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (3725, "1 h 2 min"), (None, NONE)],
)
def test_a_duration_reads_as_people_say_it(page: Page, seconds: float | None, words: str) -> None:
    assert call(page, "words.js", "seconds", seconds) == words


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(-1, "1 minute ago"), (-90, "1 hour ago"), (50 * 60, "in 2 days"), (0.2, "in a moment")],
)
def test_a_moment_is_told_from_now(page: Page, minutes: float, words: str) -> None:
    now = 1_800_000_000_000
    then = page.evaluate("(at) => new Date(at).toISOString()", now + minutes * 60_000)
    assert call(page, "words.js", "fromNow", then, now) == words


def test_what_will_happen_is_said_for_every_choice(page: Page) -> None:
    def said(**options: bool) -> str:
        return str(call(page, "words.js", "whatWillHappen", options, {"users": 1234}))

    assert "1,234 users are in Braze now" in said()
    assert "sends only who entered and who left" in said()
    assert "Nothing is sent to Braze" in said(dry_run=True)
    assert "costs a data point for each" in said(full_resync=True)
    assert "Guards will not stop it" in said(override_guards=True)
    assert "Takes back what the last import did" in said(undo=True)
    assert (
        len({said(), said(dry_run=True), said(full_resync=True), said(override_guards=True), said(undo=True)})
        == 5
    )


def test_a_cell_of_the_csv_neither_breaks_the_file_nor_runs_as_a_formula(page: Page) -> None:
    result = {"users_imported": 5, "error": '=HYPERLINK("http://x")\nand, more'}
    row = {
        "at": "2026-01-02T03:04:05.000Z",
        "outcome": "failed",
        "by": "@me",
        "result": result,
        "dagId": "d",
        "runId": "r",
    }
    text = call(page, "words.js", "csv", [row])
    (read,) = csv.DictReader(io.StringIO(text, newline=""))
    assert read["error"] == f"'{result['error']}"
    assert read["started_by"] == "'@me"
    assert (read["users_imported"], read["added"]) == ("5", "")


def event(run: str, at: str, users: int, outcome: str = "success") -> dict[str, Any]:
    extra = {"cohort_id": "c", "outcome": outcome, "users_imported": users, "started_at": at}
    return {"source_dag_id": "d", "source_run_id": run, "timestamp": at, "extra": extra}


def run_of(run: str, at: str, state: str, **more: Any) -> dict[str, Any]:
    return {"dag_id": "d", "dag_run_id": run, "start_date": at, "run_after": at, "state": state, **more}


def joined(page: Page, events: list[Any], runs: list[Any], known: list[Any] = []) -> list[Any]:  # noqa: B006
    code = """async ([events, runs, known]) => {
        const m = await import(new URL('model.js', document.baseURI));
        return m.joinHistory(m.importsOf(events), runs, new Map(known));
    }"""
    return list(page.evaluate(code, [events, runs, known]))


def test_events_and_runs_make_one_history_newest_first(page: Page) -> None:
    events = [event("r1", "2026-01-01T09:00:00+00:00", 10), event("r2", "2026-01-02T09:00:00Z", 12)]
    runs = [
        run_of("r3", "2026-01-03T09:00:00Z", "failed", run_type="scheduled"),
        run_of("r2", "2026-01-02T08:59:58Z", "success", triggering_user_name="ann"),
        run_of("r4", "2026-01-04T09:00:00Z", "running", run_type="manual"),
    ]
    rows = joined(page, events, runs)
    assert [(row["runId"], row["outcome"], row["by"]) for row in rows] == [
        ("r4", "running", "By hand"),
        ("r3", "failed", "Schedule"),
        ("r2", "success", "ann"),
        ("r1", "success", NONE),
    ]
    assert rows[1]["unread"] is True


def test_a_run_that_was_cleared_and_failed_is_not_the_success_it_was(page: Page) -> None:
    told = event("r1", "2026-01-01T09:05:00Z", 10)
    failed = run_of("r1", "2026-01-01T12:00:00Z", "failed")
    assert [row["outcome"] for row in joined(page, [told], [failed])] == ["failed"]
    # Another task of the run failed after the import: the import is what it was.
    failed = run_of("r1", "2026-01-01T09:00:00Z", "failed")
    assert [row["outcome"] for row in joined(page, [told], [failed])] == ["success"]


def test_of_a_run_that_was_cleared_the_newest_event_counts(page: Page) -> None:
    code = """async (events) => {
        const [{ Store }, m] = await Promise.all(
            ["store.js", "model.js"].map((name) => import(new URL(name, document.baseURI))));
        const store = new Store();
        store.addImports(m.importsOf(events));
        return store.rows("d").map((row) => row.result.users_imported);
    }"""
    events = [event("r1", "2026-01-01T12:00:00Z", 20), event("r1", "2026-01-01T09:00:00Z", 10)]
    assert page.evaluate(code, events) == page.evaluate(code, events[::-1]) == [20]


def test_a_run_that_another_dag_started_is_not_called_manual(page: Page) -> None:
    run = run_of("r1", "2026-01-01T09:00:00Z", "failed", run_type="manual", triggered_by="operator")
    assert [row["by"] for row in joined(page, [], [run])] == ["Another DAG"]


def test_a_run_that_was_started_anew_is_under_way_again_whatever_it_said_before(page: Page) -> None:
    old = {
        "dagId": "d",
        "runId": "r1",
        "at": "2026-01-01T00:00:00Z",
        "outcome": "stopped",
        "result": {"outcome": "stopped"},
    }
    rows = joined(page, [], [run_of("r1", "2026-01-05T00:00:00Z", "running")], [["d r1", old]])
    assert [row["outcome"] for row in rows] == ["running"]
    rows = joined(page, [], [run_of("r1", "2026-01-05T00:00:00Z", "failed")], [["d r1", old]])
    assert [row["outcome"] for row in rows] == ["stopped"]
    again = run_of("r1", "2026-01-05T00:00:00Z", "failed", end_date="2026-01-05T00:01:00Z")
    assert [(row["outcome"], row["unread"]) for row in joined(page, [], [again], [["d r1", old]])] == [
        ("failed", True)
    ]


def test_an_event_of_another_asset_is_no_import(page: Page) -> None:
    foreign = {
        "source_dag_id": "d",
        "source_run_id": "r",
        "timestamp": "2026-01-01T00:00:00Z",
        "extra": {"rows": 5},
    }
    assert joined(page, [foreign, {**foreign, "extra": {}}, {**foreign, "extra": None}], []) == []


def test_a_dry_run_is_neither_the_last_import_nor_a_point_of_the_line(page: Page) -> None:
    rows = joined(
        page,
        [event("r1", "2026-01-01T09:00:00Z", 10), event("r2", "2026-01-02T09:00:00Z", 10, "dry_run")],
        [],
    )
    filled = call(page, "model.js", "fill", {"name": "C"}, rows)
    assert filled["last"]["runId"] == "r1"
    assert len(filled["points"]) == 1


def test_cohorts_are_searched_by_every_word_and_sorted_worst_first(page: Page) -> None:
    def cohort(name: str, outcome: str, users: int) -> dict[str, Any]:
        return {
            "name": name,
            "id": name,
            "source": "T",
            "schedule": "daily",
            "last": {"outcome": outcome},
            "users": users,
        }

    cohorts = [
        cohort("Alpha one", "success", 3),
        cohort("Beta", "failed", 1),
        cohort("Alpha two", "stopped", 2),
    ]

    def names(**view: Any) -> list[str]:
        return [one["name"] for one in call(page, "model.js", "arrange", cohorts, view)]

    assert names(search="alpha TWO") == ["Alpha two"]
    assert names(sort="last") == ["Beta", "Alpha two", "Alpha one"]
    assert names(sort="users", down=True) == ["Alpha one", "Alpha two", "Beta"]


@pytest.mark.parametrize(
    ("paused", "due", "missed"),
    [
        (True, "2026-01-01T09:00:00Z", True),
        (True, "2199-01-01T09:00:00Z", False),
        (True, None, False),
        (False, "2026-01-01T09:00:00Z", False),
    ],
)
def test_what_was_due_while_a_cohort_was_paused_is_known(
    page: Page, paused: bool, due: str | None, missed: bool
) -> None:
    dag = {"dag_id": "d", "dag_display_name": "D", "is_paused": paused, "next_dagrun_run_after": due}
    assert call(page, "model.js", "cohortOf", dag)["missed"] is missed
