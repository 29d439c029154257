"""Chromium for the tests of the pages: where it is, how it is started, who is logged in."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

HOW_TO_GET_IT = "Chromium is not installed, so the pages are not tested: run scripts/chromium"

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find_chromium() -> str | None:
    """Return the path of Chromium or Chrome; ``CHROMIUM`` names another one."""
    named = os.environ.get("CHROMIUM")
    found = [named] if named else [shutil.which(name) for name in _NAMES]
    return next(filter(None, found), str(_MAC) if _MAC.exists() else None)


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """Start it without a window, with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def token_of(url: str, user: str) -> str:
    """Log somebody in whose password is their name, as Airflow's simple auth manager does."""
    answer = requests.post(f"{url}/auth/token", json={"username": user, "password": user}, timeout=30)
    answer.raise_for_status()
    return str(answer.json()["access_token"])
