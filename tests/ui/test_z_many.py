"""The first view of five hundred cohorts. Last of all, since every later list would have them too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.ui.many import COHORTS, IMPORTS, add_many

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.ui.conftest import Ui

#: Lines of the list that a window of 1280 by 800 shows, generously.
IN_VIEW = 30

SEARCHED = "Cohort 490"

# Says when the lines in view say how their cohort stands, in milliseconds since the page was asked for.
READABLE = """() => {
    const inView = (row) => row.getBoundingClientRect().top < innerHeight;
    const says = (row) => !row.querySelector(".badge.none") && /[0-9]/.test(row.querySelector(".figure").textContent);
    const rows = [...document.querySelectorAll("tbody tr")].filter(inView);
    const told = rows.filter(says);
    return rows.length > 5 && told.length === rows.length && performance.now();
}"""


@pytest.fixture(scope="module")
def many(ui: Ui) -> None:
    add_many(ui.sandbox.folder / "airflow" / "airflow.db")


@pytest.mark.usefixtures("many")
def test_five_hundred_cohorts_take_a_bounded_number_of_requests_and_are_there_at_once(
    open_page: Callable[..., Page], record_property: Callable[[str, object], None]
) -> None:
    asked: list[str] = []
    page = open_page("icon.svg")
    page.on("request", lambda request: asked.append(request.url) if "/api/v2/" in request.url else None)
    page.goto(page.url.replace("icon.svg", ""))
    readable = page.wait_for_function(READABLE, timeout=30_000).json_value()
    page.wait_for_load_state("networkidle")
    expect(page.locator("tbody tr")).to_have_count(COHORTS + 5)
    print(
        f"\n{COHORTS} cohorts x {IMPORTS} imports: readable after {readable / 1000:.2f} s, {len(asked)} requests"
    )
    record_property("readable_seconds", readable / 1000)
    dags = math.ceil((COHORTS + 5) / 100)
    events, runs = 5, 2
    assert len([url for url in asked if "/xcomEntries/" in url]) <= 2 * IN_VIEW / 10 + 2
    assert len([url for url in asked if "/xcomEntries/" not in url]) <= dags + events + runs + IN_VIEW
    # A machine that does much else besides is slow; a page that asks for everything would be slower still.
    assert readable < 15_000
    page.get_by_label("Search").fill(SEARCHED)
    expect(page.locator("tbody tr")).to_have_count(1)
    # Its last run failed without a result, and its figures are those of the import before.
    expect(page.locator("tbody tr")).to_contain_text("Failed")
    expect(page.locator("tbody tr")).to_contain_text(f"{10_000 + 37 * (IMPORTS - 1) + 490:,}")
    expect(page.locator("tbody tr").get_by_role("img")).to_have_attribute(
        "aria-label", f"From 10,527 to 11,563 users in the last {IMPORTS - 1} imports"
    )
