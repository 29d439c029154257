"""What a person does with the pages, in a browser, against a running Airflow."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from airflow_provider_kubit_braze.sandbox.ui_history import REASON
from tests.ui.conftest import MARKUP, PICTURES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Locator, Page

    from tests.ui.conftest import Ui

#: Milliseconds that Airflow may take for three tasks, when the machine does much else; 10 s when it does not.
SLOWEST = 240_000


def row_of(page: Any, name: str) -> Locator:
    row: Locator = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
    return row


def results(ui: Ui, cohort: str) -> list[dict[str, Any]]:
    """Return the results of a cohort's imports that Airflow has events of, newest first."""
    query = {"source_dag_id": f"kubit_braze__{cohort}", "order_by": "-timestamp", "limit": 100}
    return [event["extra"] for event in ui.ask("assets/events", params=query)["asset_events"]]


def test_the_page_is_found_in_airflow_s_own_and_leads_back_to_it(
    ui: Ui, context_of: Callable[..., BrowserContext]
) -> None:
    page = context_of().new_page()
    page.goto(f"{ui.url}/plugin/kubit-braze#/cohort/repeat_buyers")
    frame = page.frame_locator("iframe")
    # A link may name the cohort, as the mails' do, and Airflow's address says which one is open.
    expect(frame.get_by_role("heading", name="Repeat buyers", level=1)).to_be_visible()
    frame.get_by_role("link", name="All cohorts").click()
    expect(row_of(frame, "Big spenders")).to_contain_text("Mondays 09:00, New York")
    expect(page).not_to_have_url(re.compile("repeat_buyers"))
    frame.get_by_role("link", name="Big spenders", exact=True).click()
    expect(page).to_have_url(re.compile(r"#/cohort/big_spenders$"))
    frame.get_by_role("button", name=re.compile("^Details of")).first.click()
    # The frame lets no link out of it: Airflow's own router has to be told.
    frame.get_by_role("link", name="Log", exact=True).click()
    expect(page).to_have_url(
        re.compile(r"/air/dags/kubit_braze__big_spenders/runs/.+/tasks/import_to_braze$")
    )
    expect(page.get_by_text("import_to_braze").first).to_be_visible()


def test_the_list_says_how_each_cohort_stands(ui: Ui, open_page: Callable[..., Page]) -> None:
    page = open_page()
    daily = row_of(page, "Repeat buyers")
    expect(daily).to_contain_text("DEMO.KUBIT.REPEAT_BUYERS")
    expect(daily).to_contain_text("daily 09:00, New York")
    expect(daily).to_contain_text("Live")
    expect(daily).to_contain_text("Stopped by a guard")
    expect(daily).to_contain_text(f"{results(ui, 'repeat_buyers')[0]['users_imported']:,}")
    # Three days hold two to four times of 09:00. The last import was stopped: Airflow has no event of it.
    imports = 1 + len([told for told in results(ui, "repeat_buyers") if told["outcome"] != "dry_run"])
    expect(daily.get_by_role("img")).to_have_attribute(
        "aria-label", re.compile(f"in the last {imports} imports")
    )
    monthly = row_of(page, "Lapsed buyers")
    expect(monthly).to_contain_text("Paused")
    expect(monthly).to_contain_text("when resumed")
    expect(row_of(page, "Big spenders")).to_contain_text("Partial")
    expect(page.get_by_text("5 cohorts, 1 whose last import failed or was stopped")).to_be_visible()


def test_search_and_sort_work_with_the_keyboard_alone(open_page: Callable[..., Page]) -> None:
    page = open_page()
    expect(page.get_by_role("link", name="Repeat buyers")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("buyers new york")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Search").fill("nobody")
    expect(page.get_by_text("No cohort matches this search.")).to_be_visible()
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="Last import").focus()
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr").first).to_contain_text("Repeat buyers")
    expect(page.get_by_role("columnheader", name="Last import")).to_have_attribute("aria-sort", "ascending")
    expect(page.get_by_role("status")).to_have_text("Sorted by Last import, ascending.")


def test_why_last_night_s_import_stopped_is_the_first_thing_its_history_says(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("#/cohort/repeat_buyers")
    expect(page.get_by_text("was stopped by a guard")).to_be_visible()
    expect(page.get_by_text("more than guards.max_removed allows (30%)").first).to_be_visible()
    expect(page.get_by_text("choose Override guards")).to_be_visible()


def test_whoever_may_not_see_why_a_run_failed_still_sees_that_it_did(
    ui: Ui, open_page: Callable[..., Page]
) -> None:
    page = open_page("icon.svg", quiet=False)
    page.route("**/xcomEntries/**", lambda route: route.fulfill(status=403, json={"detail": "Forbidden"}))
    page.goto(f"{ui.url}/kubit-braze/#/cohort/repeat_buyers")
    expect(page.locator(".note")).to_contain_text("Airflow does not let you see why.")
    expect(page.locator("tbody tr[data-run]").first).to_contain_text("Failed")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_history_has_every_figure_its_filters_and_a_csv(
    ui: Ui, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = open_page("#/cohort/repeat_buyers")
    told = results(ui, "repeat_buyers")
    lines = page.locator("tbody tr[data-run]")
    expect(lines).to_have_count(len(told) + 1)
    expect(lines.first).to_contain_text("Stopped by a guard")
    for line, result in zip(lines.all()[1:], told, strict=True):
        expect(line.get_by_role("cell").nth(1)).to_have_text(f"{result['users_imported']:,}")
        expect(line.get_by_role("cell").nth(2)).to_have_text(f"{result['added']:,}")
        expect(line.get_by_role("cell").nth(3)).to_have_text(f"{result['removed']:,}")
        expect(line.get_by_role("cell").nth(5)).to_have_text(f"{result['data_points']:,}")
        expect(line.get_by_role("cell").nth(7)).to_have_text("Schedule")
    expect(page.locator(".uplot")).to_have_count(2)
    page.get_by_label("Outcome").select_option("bad")
    expect(lines).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    file = tmp_path / "history.csv"
    download.value.save_as(file)
    (row,) = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    assert download.value.suggested_filename == "repeat_buyers-imports.csv"
    assert row["outcome"] == "stopped"
    assert "guards.max_removed" in row["error"]


def test_rejected_users_are_counted_with_braze_s_words(open_page: Callable[..., Page]) -> None:
    page = open_page("#/cohort/big_spenders")
    page.get_by_role("button", name=re.compile("^Details of")).first.click()
    expect(page.get_by_role("listitem").filter(has_text=REASON)).to_have_text(
        re.compile(rf"^{REASON}: [1-4]$")
    )


def test_a_name_and_a_reason_never_become_markup(open_page: Callable[..., Page]) -> None:
    page = open_page("#/cohort/markup")
    expect(page.get_by_role("heading", name=MARKUP, level=1)).to_have_text(MARKUP)
    page.get_by_role("button", name=re.compile("^Details of")).click()
    # Braze may name the user in its words; here the id is taken out of them.
    expect(page.get_by_role("listitem").filter(has_text="onerror")).to_have_text(f"{MARKUP} …: 1")
    page.get_by_role("link", name="All cohorts").click()
    row_of(page, MARKUP).get_by_role("button", name="Import").click()
    expect(page.get_by_role("dialog")).to_contain_text(MARKUP)
    assert page.evaluate("globalThis.hacked === undefined")
    assert page.locator("main img, dialog img, main b, dialog b").count() == 0


def test_what_is_drawn_anew_while_it_is_pressed_is_clicked_all_the_same(
    open_page: Callable[..., Page],
) -> None:
    """Rows are drawn anew each minute, and whenever something is read."""

    def pass_a_minute(page: Page) -> None:
        page.evaluate(
            "const now = Date.now; Date.now = () => now() + 60000; "
            "document.getElementById('search').dispatchEvent(new Event('input'))"
        )

    page = open_page()
    button = row_of(page, "Repeat buyers").get_by_role("button", name="Import")
    # As long as results come in, rows above may grow, and the button may move away below the pointer.
    page.wait_for_load_state("networkidle")
    button.hover()
    page.mouse.down()
    expect(button).to_be_focused()
    row = row_of(page, "Repeat buyers").element_handle()
    pass_a_minute(page)
    page.mouse.up()
    expect(page.get_by_role("dialog")).to_be_visible()
    # It was drawn anew afterwards.
    page.wait_for_function("(row) => !row.isConnected", arg=row)
    page.keyboard.press("Escape")
    before = row_of(page, "Repeat buyers").element_handle()
    pass_a_minute(page)
    assert not before.evaluate("(row) => row.isConnected")


def test_a_dry_run_is_a_preview_and_an_import_started_from_it_is_watched_to_its_end(
    ui: Ui, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    row_of(page, "Repeat buyers").get_by_role("button", name="Import").click()
    dialog = page.get_by_role("dialog")
    page.get_by_label("Dry run").check()
    expect(dialog.get_by_role("status")).to_contain_text("Nothing is sent to Braze")
    before = ui.sandbox.sandbox.braze.counters().write_requests
    dialog.get_by_role("button", name="Start dry run").click()
    expect(dialog).to_have_count(0)
    row = row_of(page, "Repeat buyers")
    expect(row).to_contain_text(re.compile("Waiting|Running"))
    expect(row.get_by_role("button", name="Import")).to_be_disabled()
    page.get_by_role("link", name="Repeat buyers").click()
    preview = page.get_by_text("nothing was sent")
    expect(preview).to_be_visible(timeout=SLOWEST)
    expect(page.get_by_text("No guard would stop it.")).to_be_visible()
    planned = results(ui, "repeat_buyers")[0]
    words = f"Will add {planned['added']:,} and remove {planned['removed']:,} users"
    expect(page.get_by_text(words).first).to_be_visible()
    assert ui.sandbox.sandbox.braze.counters().write_requests == before

    page.locator(".note").get_by_role("button", name="Import now").click()
    page.get_by_role("dialog").get_by_role("button", name="Import now").click()
    expect(page.get_by_role("status").filter(has_text="Repeat buyers: Success.")).to_have_count(
        1, timeout=SLOWEST
    )
    done = results(ui, "repeat_buyers")[0]
    assert (done["outcome"], done["added"], done["removed"]) == (
        "success",
        planned["added"],
        planned["removed"],
    )
    newest = page.locator("tbody tr[data-run]").first
    expect(newest).to_contain_text("anna")
    assert_the_same_everywhere(ui, page, newest, done)


def assert_the_same_everywhere(ui: Ui, page: Page, line: Locator, result: dict[str, Any]) -> None:
    """Compare page, mail, history table and log of one run, figure for figure."""
    line.get_by_role("button").click()
    shown = dict(
        page.evaluate(
            "[...document.querySelectorAll('.details:not([hidden]) dl > div')].map((one) => "
            "[one.children[0].textContent, one.children[1].textContent])"
        )
    )
    names = {
        "Members at the source": "members",
        "Users imported (in Braze now)": "users_imported",
        "Users in Braze before": "users_before",
        "Added": "added",
        "Removed": "removed",
        "Unchanged": "unchanged",
        "Held out": "held_out",
        "Duplicate rows": "duplicates",
        "Rows without a usable identifier": "invalid",
        "Rejected by Braze": "rejected",
        "Without a certain answer": "unknown",
        "Set aside after a rejection": "set_aside",
        "Unknown to Braze": "unmatched",
        "Data points": "data_points",
        "Requests": "requests",
        "Requests sent again": "retries",
    }
    figures = {field: int(shown[name].replace(",", "")) for name, field in names.items()}
    assert figures == {field: result[field] for field in figures}
    with ui.sandbox.sandbox.connect() as connection, connection.cursor() as cursor:
        columns = ", ".join(figures).upper()
        cursor.execute(
            f"SELECT {columns} FROM DEMO.KUBIT_BRAZE.IMPORT_RUN WHERE COHORT_ID = %s AND RUN_ID = %s",
            (result["cohort_id"], result["run_id"]),
        )
        (row,) = cursor.fetchall()
    assert dict(zip(figures, map(int, row), strict=True)) == figures
    mails = [text for text in texts(ui) if result["run_id"] in text]
    assert len(mails) == 1
    mailed = dict(re.findall(r"^(\S.*?)  +([\d,]+)$", mails[0], re.MULTILINE))
    others = {
        "users_imported": "Users imported (in the cohort in Braze now)",
        "users_before": "Users in the cohort in Braze before",
    }
    for name, field in names.items():
        # The mail leaves these two out when there are none.
        if figures[field] or field not in ("set_aside", "unmatched"):
            assert mailed[others.get(field, name)] == f"{figures[field]:,}", field
    log = log_of(ui, result["cohort_id"], result["run_id"])
    assert (
        f"{figures['added']:,} added, {figures['removed']:,} removed, {figures['unchanged']:,} left alone, "
        f"{figures['users_imported']:,} users now in Braze, {figures['data_points']:,} data points"
    ) in log


def texts(ui: Ui) -> list[str]:
    """Return the plain parts of all mails."""
    return [mail.text("plain") for mail in ui.sandbox.sandbox.mailbox.messages()]


def log_of(ui: Ui, cohort: str, run: str) -> str:
    path = f"dags/kubit_braze__{cohort}/dagRuns/{run}/taskInstances/import_to_braze/logs/1"
    return json.dumps(ui.ask(path, params={"full_content": "true"})["content"], ensure_ascii=False)


def test_a_paused_cohort_is_imported_only_when_its_schedule_goes_on(open_page: Callable[..., Page]) -> None:
    page = open_page()
    row_of(page, "Lapsed buyers").get_by_role("button", name="Import").click()
    go = page.get_by_role("dialog").get_by_role("button", name="Import now")
    expect(go).to_be_disabled()
    page.get_by_label("Resume the schedule").check()
    expect(go).to_be_enabled()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    row_of(page, "Lapsed buyers").get_by_role("button", name="Resume Lapsed buyers").click()
    expect(row_of(page, "Lapsed buyers")).to_contain_text("Live")
    row_of(page, "Lapsed buyers").get_by_role("button", name="Pause Lapsed buyers").click()
    expect(row_of(page, "Lapsed buyers")).to_contain_text("Paused")


def test_an_airflow_that_does_not_answer_and_one_without_cohorts_are_told_apart(
    ui: Ui, open_page: Callable[..., Page]
) -> None:
    page = open_page("icon.svg", quiet=False)
    page.route("**/api/v2/dags?*", lambda route: route.fulfill(status=503, json={"detail": "Resting."}))
    page.goto(f"{ui.url}/kubit-braze/")
    expect(page.get_by_role("alert")).to_contain_text("Resting.")
    page.unroute("**/api/v2/dags?*")
    page.route("**/api/v2/dags?*", lambda route: route.fulfill(json={"dags": [], "total_entries": 0}))
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("There is no cohort here yet")).to_be_visible()


def test_a_page_that_nobody_looks_at_asks_nothing_and_a_quiet_one_once_a_minute(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("icon.svg")
    page.clock.install()
    page.goto(page.url.replace("icon.svg", ""))
    expect(page.get_by_role("link", name="Repeat buyers")).to_be_visible()
    page.wait_for_load_state("networkidle")
    made = "globalThis.kubitBraze.requestsMade()"
    before = page.evaluate(made)
    page.clock.fast_forward(50_000)
    assert page.evaluate(made) == before
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.fast_forward(600_000)
    assert page.evaluate(made) == before
    page.evaluate("delete document.hidden")
    with page.expect_response("**/api/v2/dags?*"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.clock.fast_forward(1_000)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_accessibility_rule_is_broken(theme: str, open_page: Callable[..., Page]) -> None:
    page = open_page(color_scheme=theme)
    expect(row_of(page, "Repeat buyers")).to_contain_text(re.compile("Success|Stopped"))
    check(page, f"cohorts-{theme}")
    row_of(page, "Lapsed buyers").get_by_role("button", name="Import").click()
    check(page, f"import-{theme}")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Repeat buyers").click()
    expect(page.locator(".uplot")).to_have_count(2)
    page.get_by_role("button", name=re.compile("^Details of")).first.click()
    check(page, f"history-{theme}")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    check(page, f"history-narrow-{theme}")
    page.get_by_role("link", name="All cohorts").click()
    expect(page.get_by_role("link", name="Repeat buyers")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    check(page, f"cohorts-narrow-{theme}")


def check(page: Page, name: str) -> None:
    """Keep a picture, and hold what is shown against axe's rules."""
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
    page.evaluate(axe())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == [], (
        name
    )
    assert len(found["passes"]) > 10


def axe() -> str:
    from importlib.resources import files

    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
