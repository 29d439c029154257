"""Who gets what of the page: the files only who is logged in, the data whatever Airflow lets them see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests
from playwright.sync_api import expect

from airflow_provider_kubit_braze.plugin.web import STATIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.ui.conftest import Ui

FILES = ["", *sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*.*")), "docs", "openapi.json"]


def test_nobody_who_is_not_logged_in_gets_a_file(ui: Ui) -> None:
    assert len(FILES) > 12
    for name in FILES:
        assert requests.get(f"{ui.url}/kubit-braze/{name}", timeout=10).status_code == 401, name


def test_a_file_comes_with_strict_headers_and_only_when_it_has_changed(ui: Ui) -> None:
    headers = {"Authorization": f"Bearer {ui.tokens['vera']}"}
    first = requests.get(f"{ui.url}/kubit-braze/app.js", headers=headers, timeout=10)
    assert first.status_code == 200
    assert first.headers["Content-Type"].startswith("text/javascript")
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    policy = first.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    headers["If-None-Match"] = first.headers["ETag"]
    again = requests.get(f"{ui.url}/kubit-braze/app.js", headers=headers, timeout=10)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["docs", "openapi.json", "..%2fweb.py", "%2e%2e%2fweb.py", "nothing.js"])
def test_nothing_but_its_files_is_there(ui: Ui, name: str) -> None:
    headers = {"Authorization": f"Bearer {ui.tokens['anna']}"}
    assert requests.get(f"{ui.url}/kubit-braze/{name}", headers=headers, timeout=10).status_code == 404


def test_a_viewer_sees_the_cohorts_and_may_change_nothing(open_page: Callable[..., Page]) -> None:
    page = open_page("", "vera", quiet=False)
    row = page.get_by_role("row").filter(has_text="Repeat buyers")
    row.get_by_role("button", name="Import Repeat buyers now").click()
    page.get_by_role("button", name="Import now", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text(
        "Airflow does not let you do this"
    )
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Pause Repeat buyers").click()
    expect(page.get_by_role("alert")).to_contain_text("Airflow does not let you do this")
    expect(row).to_contain_text("Live")


def test_whoever_s_session_has_ended_is_told_so(ui: Ui, open_page: Callable[..., Page]) -> None:
    page = open_page("", quiet=False)
    expect(page.get_by_role("link", name="Repeat buyers")).to_be_visible()
    page.context.clear_cookies()
    page.get_by_role("button", name="Pause Repeat buyers").click()
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended")
