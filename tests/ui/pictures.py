"""``scripts/ui-pictures``: what `make ui` shows, as pictures in ``docs/images``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from airflow_provider_kubit_braze.core.page import PAGE
from airflow_provider_kubit_braze.sandbox.ui import UiSandbox
from tests.ui.browser import HOW_TO_GET_IT, chromium, find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROJECT = Path(__file__).resolve().parents[2]
IMAGES = PROJECT / "docs" / "images"
_SIZE = {"width": 1240, "height": 700}


def main() -> int:
    """Take them; return the exit code."""
    executable = find_chromium()
    if executable is None:
        print(HOW_TO_GET_IT, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="kubit-braze-pictures-") as folder:
        ui = UiSandbox(Path(folder) / "ui", dags=PROJECT / "dags", days=24, say=print)
        with ui.running(), chromium(executable) as browser:
            for theme in ("light", "dark"):
                _take(browser, ui.url, theme)
    return 0


def _take(browser: Browser, url: str, theme: str) -> None:
    context = browser.new_context(viewport=_SIZE, color_scheme=theme, locale="en-GB")  # type: ignore[arg-type]
    # Airflow keeps the reader's choice itself.
    context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    page = context.new_page()
    page.goto(f"{url}/{PAGE}")
    frame = page.frame_locator("iframe")
    expect(frame.get_by_text("Stopped by a guard")).to_be_visible(timeout=60_000)
    page.screenshot(path=IMAGES / f"ui-cohorts-{theme}.png")
    frame.get_by_role("link", name="Repeat buyers").click()
    expect(frame.locator(".uplot")).to_have_count(2)
    page.screenshot(path=IMAGES / f"ui-history-{theme}.png")
    frame.get_by_role("link", name="All cohorts").click()
    frame.get_by_role("link", name="New this week", exact=True).click()
    frame.get_by_role("navigation").get_by_role("link", name="Impact").click()
    expect(frame.locator(".verdict")).to_be_visible()
    page.screenshot(path=IMAGES / f"ui-impact-{theme}.png")
    context.close()
    print(f"docs/images/ui-*-{theme}.png")


if __name__ == "__main__":
    sys.exit(main())
