"""The mails that the imports have sent, as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import MARKUP
from tests.ui.test_pages import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext, Page

    from tests.ui.conftest import Ui


@pytest.fixture
def read(ui: Ui, context_of: Callable[..., BrowserContext]) -> Callable[..., Page]:
    """Opens the newest mail whose subject holds some words; nothing may be loaded for it."""

    def open_(words: str, **options: object) -> Page:
        mail = [mail for mail in ui.sandbox.sandbox.mailbox.messages() if words in mail.subject][-1]
        page = context_of(None, **options).new_page()
        page.on("request", lambda request: pytest.fail(f"The mail loads {request.url}."))
        page.set_content(mail.text("html"))
        return page

    return open_


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_mail_is_readable_in_light_and_dark_and_breaks_no_rule(
    read: Callable[..., Page], scheme: str
) -> None:
    page = read(
        "Repeat buyers: stopped by a guard", color_scheme=scheme, viewport={"width": 700, "height": 900}
    )

    expect(page.get_by_role("heading", name="Repeat buyers")).to_be_visible()
    expect(page.get_by_text("Stopped before anything was sent")).to_be_visible()
    expect(page.get_by_role("row", name="Removed 0")).to_be_visible()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    assert dark == (scheme == "dark")
    check(page, f"mail-{scheme}")


def test_a_mail_fits_a_telephone(read: Callable[..., Page]) -> None:
    page = read("added", viewport={"width": 360, "height": 740})

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    check(page, "mail-narrow")


def test_the_mail_leads_to_the_run_and_to_the_cohorts_history(ui: Ui, read: Callable[..., Page]) -> None:
    page = read("Repeat buyers")

    run = page.get_by_role("link", name="Open the run in Airflow").get_attribute("href") or ""
    assert "/dags/kubit_braze__repeat_buyers/runs/" in run
    history = page.get_by_role("link", name="History of the cohort").get_attribute("href") or ""
    assert history.endswith("/plugin/kubit-braze#/cohort/repeat_buyers")


def test_markup_in_a_name_and_in_a_reason_stays_text(read: Callable[..., Page]) -> None:
    page = read("<img src=x")

    expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    assert page.evaluate("[document.images.length, typeof globalThis.hacked]") == [0, "undefined"]
