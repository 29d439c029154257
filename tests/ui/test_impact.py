"""The tab *Impact* of a cohort, on reports that tasks of a real Airflow have left; and the report to send on."""

from __future__ import annotations

import json
import re
import threading
import time
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml
from playwright.sync_api import expect

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.impact import showing
from airflow_provider_kubit_braze.core.impact.html_report import impact_html
from airflow_provider_kubit_braze.core.impact.words import percent
from tests.impact_reports import (
    EXPERIMENTS,
    HOSTILE,
    UNKNOWN,
    before_after,
    experiment,
    figures,
    message,
    report,
)
from tests.ui.conftest import REPORTS
from tests.ui.test_pages import SLOWEST, check, row_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import BrowserContext, FloatRect, Page

    from tests.ui.conftest import Ui

DAG = "kubit_braze_impact__{}"


def start(ui: Ui, cohort: str, **conf: Any) -> str:
    body = {"logical_date": datetime.now(UTC).isoformat(), "conf": conf}
    run = ui.ask(f"dags/{DAG.format(cohort)}/dagRuns", method="POST", json=body)
    return str(run["dag_run_id"])


def ended(ui: Ui, cohort: str, run: str) -> str:
    deadline = time.monotonic() + SLOWEST / 1000
    while (state := ui.ask(f"dags/{DAG.format(cohort)}/dagRuns/{run}")["state"]) not in ("success", "failed"):
        assert time.monotonic() < deadline, f"{cohort} is still {state}"
        threading.Event().wait(0.3)
    return str(state)


@pytest.fixture(scope="module")
def measured(ui: Ui) -> None:
    """Have all but one of them measured."""
    runs = {cohort: start(ui, cohort) for cohort in REPORTS if cohort != "never"}
    assert {cohort: ended(ui, cohort, run) for cohort, run in runs.items()} == dict.fromkeys(runs, "success")


pytestmark = pytest.mark.usefixtures("measured")


def test_the_tab_is_beside_the_history_and_shows_what_the_cohort_s_dag_has_found(
    ui: Ui, context_of: Callable[..., BrowserContext]
) -> None:
    [run] = ui.ask("dags/kubit_braze_impact__new_this_week/dagRuns", params={"limit": 1, "state": "success"})[
        "dag_runs"
    ]
    path = f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/measure_impact/xcomEntries/impact"
    told = ui.ask(path, params={"stringify": "false"})["value"]
    page = context_of().new_page()
    page.goto(f"{ui.url}/plugin/kubit-braze#/cohort/new_this_week")
    frame = page.frame_locator("iframe")
    frame.get_by_role("navigation").get_by_role("link", name="Impact").click()
    expect(page).to_have_url(re.compile(r"#/cohort/new_this_week/impact$"))
    expect(frame.get_by_role("heading", name="New this week", level=1)).to_be_visible()
    expect(frame.locator(".facts").first).to_contain_text(f"Measured{told['measure']}")
    if told["messages"]:
        word, sentence, _ = showing.headline_of(told["messages"][0])
        expect(frame.locator(".verdict")).to_have_text(f"{word}{sentence}")
    else:
        expect(frame.get_by_text("No message reached anybody of this cohort in these days.")).to_be_visible()
    expect(frame.get_by_role("link", name="Impact")).to_have_attribute("aria-current", "page")
    frame.get_by_role("link", name="History").click()
    expect(frame.get_by_role("region", name="Imports")).to_be_visible()
    expect(frame.get_by_role("link", name="History")).to_have_attribute("aria-current", "page")


def test_where_messages_are_named_nothing_is_said_of_others(open_page: Callable[..., Page]) -> None:
    page = open_page("#/cohort/named/impact")
    expect(page.get_by_text(showing.nobody_words(REPORTS["named"]))).to_be_visible()
    expect(page.get_by_text("No message")).to_have_count(0)


def test_the_list_leads_to_the_impact_of_the_cohorts_that_are_measured(
    open_page: Callable[..., Page],
) -> None:
    page = open_page()
    expect(row_of(page, "Repeat buyers").get_by_role("link")).to_have_count(1)
    expect(page.get_by_text(re.compile("^5 cohorts"))).to_be_visible()
    row_of(page, "Lapsed buyers").get_by_role("link", name="Impact").click()
    expect(page.get_by_text("purchase within 2d")).to_be_visible()
    page.get_by_role("link", name="All cohorts").click()
    expect(row_of(page, "Lapsed buyers")).to_be_visible()


def box(page: Page, selector: str) -> FloatRect:
    found = page.locator(selector).first.bounding_box()
    assert found is not None
    return found


def test_what_may_be_said_comes_first_with_its_interval_drawn(open_page: Callable[..., Page]) -> None:
    page = open_page("#/cohort/several/impact")
    sentence = REPORTS["several"]["messages"][0]["experiments"][0]["conversion"]["sentence"]
    expect(page.locator(".verdict")).to_have_text(f"Raised{sentence}")
    expect(page.locator("svg.lift").first).to_have_attribute("aria-label", re.compile(r"^20\.0% more \(95%"))
    zero, point, interval = (box(page, f"svg.lift .{name}") for name in ("zero", "point", "interval"))
    assert zero["x"] < interval["x"] < point["x"] < interval["x"] + interval["width"]


def test_every_message_can_be_chosen_and_shows_its_own_figures(open_page: Callable[..., Page]) -> None:
    page = open_page("#/cohort/several/impact")
    funnel = page.get_by_role("region", name="From reached to converted")
    expect(funnel.get_by_role("row", name="Reached 2,100 100%")).to_be_visible()
    expect(funnel.get_by_role("row", name=f"Clicked 90 {percent(90 / 2100)}")).to_be_visible()
    expect(page.locator(".uplot")).to_have_count(4)
    expect(page.get_by_role("heading", name="Converted (by Braze) by day")).to_be_visible()
    expect(page.get_by_role("region", name="Side by side")).to_contain_text("Converted (by Braze)Lift")
    expect(page.get_by_role("region", name="By channel")).to_contain_text("Revenue (by Braze)Opted out")
    expect(page.get_by_text(showing.BY_BRAZE)).to_be_visible()
    expect(page.get_by_text(f"{showing.INTERVALS} {showing.NO_SUM}")).to_be_visible()
    told = REPORTS["several"]["messages"][0]["experiments"][0]
    sizes, covered = showing.sizes_of(told), showing.covered_words(told, 7 * 86_400)
    expect(page.locator("section.chart .hint").first).to_have_text(f"{sizes}{covered}")

    page.get_by_label("Campaign or Canvas").select_option("canvas-1, Canvas")
    expect(page.locator(".verdict")).to_contain_text("Description only, no proof of an effect")
    described = page.get_by_role("region", name="Before and after")
    expect(described).to_contain_text("500.25 EUR")
    # What everybody did, not what Braze credits.
    expect(described).to_contain_text("ConvertedRevenue")
    expect(page.get_by_text("Description only: 2.00%")).to_have_count(1)
    expect(page.locator("svg.lift")).to_have_count(0)

    page.get_by_role("button", name="Win back").click()
    expect(page.locator(".verdict")).to_contain_text("No effect found")
    expect(page.get_by_role("heading", name="Win back")).to_be_focused()
    channels = page.get_by_role("region", name="By channel")
    expect(channels.get_by_role("row").filter(has_text="push")).to_contain_text("300310298not known7")
    variations = page.get_by_role("region", name="By variation")
    expect(variations.get_by_role("row").filter(has_text="var-b")).to_contain_text("601")
    expect(page.get_by_text("17 users are not among them yet")).to_be_visible()
    page.get_by_text("Day by day as a table").click()
    days = page.get_by_role("region", name="Day by day")
    expect(days.get_by_role("row").filter(has_text="2026-11-03")).to_contain_text("102")
    expect(page.get_by_role("listitem").filter(has_text="USERS_MESSAGES_RCS_READ_SHARED")).to_be_visible()


def test_a_figure_that_nobody_knows_is_not_a_zero(open_page: Callable[..., Page]) -> None:
    page = open_page("#/cohort/several/impact")
    page.get_by_label("Campaign or Canvas").select_option("Nothing known, Campaign")
    expect(page.locator(".verdict")).to_contain_text("No comparison")
    funnel = page.get_by_role("region", name="From reached to converted")
    rows = funnel.get_by_role("row")
    expect(rows).to_have_count(6)
    for name in ("Reached", "Delivered", "Seen", "Clicked", "Converted"):
        expect(rows.filter(has_text=name).last).to_contain_text("not knownthe share cannot tell")
    assert "0" not in funnel.inner_text()
    expect(page.locator(".uplot")).to_have_count(0)


def test_a_name_in_a_report_never_becomes_markup(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page("#/cohort/markup/impact")
    expect(page.get_by_role("heading", level=2).first).to_contain_text(f"name {HOSTILE}")
    for place in ("channel", "variation", "label", "missing", "limits", "notes", "measure"):
        expect(page.locator(".impact")).to_contain_text(f"{place} {HOSTILE}")
    assert page.locator("main img, main script").count() == 0
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    with page.expect_download() as download:
        page.get_by_role("button", name="Report to send on").click()
    download.value.save_as(tmp_path / "report.html")
    alone = page.context.new_page()
    alone.goto((tmp_path / "report.html").as_uri())
    expect(alone.get_by_role("heading", level=1)).to_contain_text(f"cohort {HOSTILE}")
    for one in (page, alone):
        assert one.evaluate("globalThis.hacked === undefined")
    assert alone.evaluate("document.images.length + document.scripts.length") == 0


def test_a_viewer_sees_the_impact_takes_the_report_and_may_not_measure(
    open_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = open_page("#/cohort/several/impact", "vera", quiet=False)
    with page.expect_download() as download:
        page.get_by_role("button", name="Report to send on").click()
    assert download.value.suggested_filename == "several-impact.html"
    download.value.save_as(tmp_path / "report.html")
    # Written where the terminal's is: the same report, to the letter.
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == impact_html(REPORTS["several"])
    page.get_by_role("button", name="Measure now").click()
    expect(page.get_by_role("alert")).to_contain_text("Airflow does not let you do this")


def test_a_cohort_is_measured_when_somebody_wants_it_and_the_page_waits_for_it(
    ui: Ui, open_page: Callable[..., Page]
) -> None:
    page = open_page("#/cohort/never/impact")
    expect(page.get_by_text("The impact of this cohort was never measured.")).to_be_visible()
    expect(page.get_by_role("button", name="Report to send on")).to_be_hidden()
    page.get_by_role("button", name="Measure now").click()
    expect(page.locator(".note.live")).to_contain_text(re.compile("A measurement is (waiting|running)"))
    expect(page.get_by_role("button", name="Measure now")).to_be_disabled()
    expect(page.locator(".verdict")).to_contain_text("The campaign raised conversion", timeout=SLOWEST)
    expect(page.locator(".note")).to_have_count(0)

    # One that fails afterwards is said, and what was known before stays.
    assert ended(ui, "never", start(ui, "never", fail=True)) == "failed"
    page.reload()
    expect(page.locator(".note.bad")).to_contain_text(re.compile("The measurement of .* failed"))
    expect(page.locator(".note.bad")).to_contain_text(
        "The share cannot be read.What follows is from before it."
    )
    expect(page.locator(".verdict")).to_contain_text("The campaign raised conversion")
    link = page.get_by_role("link", name="Its log").get_attribute("href") or ""
    assert re.search(r"/dags/kubit_braze_impact__never/runs/.+/tasks/measure_impact$", link)


def test_what_cannot_be_shown_is_said(ui: Ui, open_page: Callable[..., Page]) -> None:
    page = open_page("#/cohort/big_spenders/impact")
    expect(page.get_by_text("The impact of this cohort is not measured.")).to_be_visible()
    written = yaml.safe_load(page.locator("pre").inner_text().replace("<APP_GROUP_ID>", "ours"))
    # With one's own id it is a cohort that can be judged.
    assert set(written) == {"braze", "holdout", "impact"}
    cohort = Cohort(
        id="big_spenders", source={"table": "A.B.C"}, identifiers={"external_id": "USER_ID"}, **written
    )
    assert cohort.holdout == Fraction(1, 10)
    assert cohort.impact is not None
    assert cohort.impact.source == "BRAZE_SHARE.PUBLIC"
    expect(page.get_by_role("button")).to_have_count(0)
    page.goto(f"{ui.url}/kubit-braze/#/cohort/odd/impact")
    expect(page.get_by_text("The last measurement left nothing that this page can show.")).to_be_visible()


def test_whoever_may_not_read_what_a_task_left_is_told_so(ui: Ui, open_page: Callable[..., Page]) -> None:
    page = open_page("icon.svg", quiet=False)
    page.route("**/xcomEntries/**", lambda route: route.fulfill(status=403, json={"detail": "Forbidden"}))
    page.goto(f"{ui.url}/kubit-braze/#/cohort/several/impact")
    expect(page.get_by_role("alert")).to_contain_text("does not let you see the measurements of this cohort")


def test_the_tab_takes_three_requests_and_none_before_it_is_opened(open_page: Callable[..., Page]) -> None:
    asked: list[str] = []
    page = open_page("icon.svg")
    page.on("request", lambda request: asked.append(request.url) if "/api/v2/" in request.url else None)
    page.goto(page.url.replace("icon.svg", "#/cohort/new_this_week"))
    expect(page.get_by_role("region", name="Imports")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if "impact" in url] == []
    asked.clear()
    page.get_by_role("link", name="Impact").click()
    expect(page.get_by_text("Last measured")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert len(asked) == 3, asked


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_accessibility_rule_is_broken(theme: str, open_page: Callable[..., Page]) -> None:
    page = open_page("#/cohort/several/impact", color_scheme=theme)
    expect(page.locator(".uplot")).to_have_count(4)
    page.get_by_text("Day by day as a table").click()
    check(page, f"impact-{theme}")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    check(page, f"impact-narrow-{theme}")
    page.get_by_label("Campaign or Canvas").select_option("canvas-1, Canvas")
    check(page, f"impact-described-{theme}")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_to_send_on_is_readable_and_loads_nothing(
    theme: str, context_of: Callable[..., BrowserContext]
) -> None:
    # Only so that axe may be put into it.
    page = context_of(None, color_scheme=theme, bypass_csp=True).new_page()
    page.on("request", lambda request: pytest.fail(f"The report loads {request.url}."))
    page.set_content(impact_html(REPORTS["several"]))
    check(page, f"impact-report-{theme}")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    check(page, f"impact-report-narrow-{theme}")


def test_the_report_is_written_for_those_who_are_logged_in_and_of_reports_only(ui: Ui) -> None:
    address = f"{ui.url}/kubit-braze/impact-report"
    vera = {"Authorization": f"Bearer {ui.tokens['vera']}"}

    assert requests.post(address, json=report(), timeout=10).status_code == 401
    answer = requests.post(address, json=report(), headers=vera, timeout=10)
    assert (answer.status_code, answer.text) == (200, impact_html(report()))
    # A browser never takes it for a page of Airflow's.
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"].startswith("attachment")
    wrong_ones: list[Any] = [[], {}, "text", {**report(), "messages": [{}]}, {**report(), "messages": 5}]
    for wrong in wrong_ones:
        assert requests.post(address, json=wrong, headers=vera, timeout=10).status_code == 422, wrong
    as_json = {**vera, "Content-Type": "application/json"}
    # Deeper than can be read, text that no file can hold, and no JSON.
    surrogate = json.dumps({**report(), "cohort_name": "\ud800"})
    for body in ("[" * 100_000, surrogate, "{", b"\xff"):
        answer = requests.post(address, data=body, headers=as_json, timeout=10)
        assert (answer.status_code, answer.json()["detail"]) == (422, "This is no report of an impact."), (
            body[:9]
        )
    as_form = {**vera, "Content-Type": "text/plain"}
    assert requests.post(address, data="{}", headers=as_form, timeout=10).status_code == 415
    assert requests.post(address, json="x" * 8_000_001, headers=vera, timeout=10).status_code == 413
    assert requests.get(address, headers=vera, timeout=10).status_code == 404


def call(page: Page, function: str, *arguments: Any) -> Any:
    code = "async ([f, a]) => (await import(new URL('impact_model.js', document.baseURI)))[f](...a)"
    return page.evaluate(code, [function, list(arguments)])


def constants(page: Page) -> dict[str, Any]:
    code = "async () => ({...await import(new URL('impact_model.js', document.baseURI))})"
    told: dict[str, Any] = page.evaluate(code)
    return {name: told[name] for name in ("BY_BRAZE", "NO_SUM", "INTERVALS", "NAMES", "NOT_KNOWN")}


def test_page_terminal_and_report_say_the_same_of_the_same(open_page: Callable[..., Page]) -> None:
    page = open_page("icon.svg")
    page.goto(page.url.replace("icon.svg", ""))
    judged = [experiment(*two) for two in EXPERIMENTS.values()]
    judged += [
        experiment((9_000, 90), (1_000, 0)),
        experiment((40, 3), (9, 2)),
        experiment(kind="braze_control"),
        {**experiment(kind="control_path"), "control_id": "step-1", "control_name": "Which button"},
        {**experiment(kind="control_path"), "control_id": "step-1", "control_name": None},
    ]
    effects = [one for told in judged for one in showing.effects_of(told)]
    effects += [{**one, "compared": 3} for one in effects]
    open_end = {**effects[0], "intervals": {**effects[0]["intervals"], "lift": {"low": -0.5, "high": None}}}
    effects += [
        open_end,
        {**open_end, "intervals": {**open_end["intervals"], "lift": {"low": 0.5, "high": None}}},
    ]
    assert len(effects) > 30
    for effect in effects:
        assert call(page, "liftWords", effect) == showing.lift_words(effect)
        assert call(page, "bothFigures", effect, "holdout") == showing.both_figures(effect, "holdout")
        for said in ("", effect["sentence"]):
            words = showing.effect_words(effect, "holdout", said=said)
            assert call(page, "effectWords", effect, "holdout", said) == words
        axis, other = showing.axis_of(effect), call(page, "axisOf", effect)
        assert (axis is None) == (other is None)
        if axis:
            assert (other["lowLabel"], other["highLabel"], other["open"]) == (
                axis.low_label,
                axis.high_label,
                axis.is_open,
            )
            places = [axis.low, axis.high, axis.point, axis.zero]
            assert [other[one] for one in ("low", "high", "point", "zero")] == pytest.approx(places)
    for told in judged:
        assert call(page, "sizesOf", told) == showing.sizes_of(told)
        assert call(page, "controlOf", told) == showing.control_of(told)
        for window in (90 * 60, 36 * 3600, 604_800):
            assert call(page, "coveredWords", told, window) == showing.covered_words(told, window)
        assert call(page, "ratioWarning", told) == showing.ratio_warning(told)
        assert call(page, "reachedWords", told) == showing.reached_words(told)
    old = message(experiments=[])
    del old["not_judged"]
    for one in (
        *(message(experiments=[told], not_judged="scipy is missing.") for told in judged),
        message(experiments=[], not_judged="scipy is missing.", before_after=before_after()),
        message(experiments=[], before_after=before_after()),
        old,
    ):
        headline = call(page, "headlineOf", one)
        assert (headline["word"], headline["sentence"], headline["tone"]) == showing.headline_of(one)
        assert call(page, "waitingWords", one) == showing.waiting_words(one)
    for name, said in constants(page).items():
        assert said == (dict(showing.FIGURES) if name == "NAMES" else getattr(showing, name)), name
    for some in (figures(), UNKNOWN, figures(reached=None), figures(reached=0), {**UNKNOWN, "seen": 7}):
        steps = [(one.name, one.users, one.share) for one in showing.steps_of(some)]
        assert [(one["name"], one["users"], one["share"]) for one in call(page, "stepsOf", some)] == steps
        assert call(page, "baseOf", some) == showing.base_of(some)
    shares = [
        0.0,
        1e-4,
        0.00125,
        0.00994,
        0.00995,
        0.0123,
        0.1225,
        0.09995,
        0.0999,
        0.9995,
        1.5,
        12.345,
        -0.0345,
    ]
    assert [call(page, "percent", one) for one in shares] == [percent(one) for one in shares]
    for amount in (0.0, 0.125, 999.99, 999.996, 1000.5, -1234567.0, 812.5):
        assert call(page, "money", amount, "USD") == showing.figure("revenue", amount, "USD")


def test_of_the_runs_of_a_measurement_the_right_ones_are_taken(open_page: Callable[..., Page]) -> None:
    page = open_page("icon.svg")
    page.goto(page.url.replace("icon.svg", ""))
    runs = [{"state": state, "at": at} for at, state in enumerate(["queued", "failed", "success", "success"])]
    short = call(page, "runsInShort", runs)
    assert {name: run and run["at"] for name, run in short.items()} == {"running": 0, "last": 1, "done": 2}
    assert call(page, "runsInShort", []) == {"running": None, "last": None, "done": None}
