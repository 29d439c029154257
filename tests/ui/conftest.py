"""One Airflow with its pages and one browser for all tests of this folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from playwright.sync_api import expect

from airflow_provider_kubit_braze.sandbox.ui import UiSandbox
from tests.impact_reports import hostile, report, several
from tests.ui.browser import HOW_TO_GET_IT, chromium, find_chromium, token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

PROJECT = Path(__file__).resolve().parents[2]
PICTURES = PROJECT / ".cache" / "ui-pictures"

#: Name to role; "vera" may look and nothing else.
USERS = {"anna": "admin", "vera": "viewer"}

MARKUP = "<img src=x onerror='globalThis.hacked = 1'><b>bold</b>"

#: Of the cohort "markup" alone, and refused by Braze in words that are markup and name the user.
REFUSED = "somebody_refused"

COHORTS = f"""
cohorts:
  - id: markup
    name: "{MARKUP}"
    source: {{sql: "SELECT USER_ID FROM DEMO.KUBIT.BIG_SPENDERS UNION ALL SELECT '{REFUSED}'"}}
    schedule: {{mode: once}}
    notify: [growth@example.com]
    identifiers: {{external_id: USER_ID}}
    braze: {{attribute: in_markup}}
"""

#: Measurement to the report that it leaves, beside those of the sandbox's own cohorts; one leaves something else.
REPORTS: dict[str, dict[str, Any]] = {
    "several": {**several(), "cohort_id": "several"},
    "markup": {**hostile(), "cohort_id": "markup"},
    "never": {**report(), "cohort_id": "never"},
    "named": {**report(), "cohort_id": "named", "messages": [], "messages_asked": "campaign spring"},
    "odd": {"rows": 5},
}


# For a machine that does much else; whatever is there is seen at once.
expect.set_options(timeout=20_000)


@dataclass(frozen=True)
class Ui:
    """The running Airflow, and who is logged in to it.

    :param sandbox: what it runs on.
    :param tokens: user to token.
    """

    sandbox: UiSandbox
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return self.sandbox.url

    def ask(self, path: str, *, user: str = "anna", method: str = "GET", **options: Any) -> Any:
        """Ask Airflow's API, as the page does."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        answer = requests.request(method, f"{self.url}/api/v2/{path}", headers=headers, timeout=30, **options)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="session")
def executable() -> str:
    found = find_chromium()
    if found is None:
        # In CI a skipped test would look like a passed one.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW_TO_GET_IT)
    return found


def refuse_one(sandbox: Sandbox) -> None:
    sandbox.braze.fault("reject_ids", ids=[REFUSED], message=f"{MARKUP} {REFUSED}")


@pytest.fixture(scope="session")
def ui(executable: str) -> Iterator[Ui]:
    folder = Path(tempfile.mkdtemp(prefix="kubit-braze-ui-tests-"))
    dags = folder / "source"
    shutil.copytree(PROJECT / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    (dags / "cohorts" / "markup.yaml").write_text(COHORTS, encoding="utf-8")
    shutil.copy(Path(__file__).with_name("impact_dags.py"), dags)
    (dags / "impact_reports.json").write_text(json.dumps(REPORTS), encoding="utf-8")
    # Not at the root of its address: links and files have to work below a path too.
    sandbox = UiSandbox(folder / "ui", dags=dags, days=3, users=USERS, path="/air", prepare=refuse_one)
    # Cohorts are live, and a moment at which one is due may fall into the tests; only what they start is to run.
    sandbox.environment["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] = "False"
    try:
        with sandbox.running():
            yield Ui(sandbox, {user: token_of(sandbox.url, user) for user in USERS})
    finally:
        if os.environ.get("KEEP_AIRFLOW_HOME"):
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def browser(ui: Ui, executable: str) -> Iterator[Browser]:
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    with chromium(executable) as found:
        yield found


@pytest.fixture
def context_of(ui: Ui, browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browsers' windows of somebody who is logged in; None is nobody."""
    contexts: list[BrowserContext] = []

    def make(user: str | None = "anna", **options: Any) -> BrowserContext:
        wanted = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", "color_scheme": "light"}
        context = browser.new_context(**{**wanted, **options})
        context.set_default_timeout(20_000)
        contexts.append(context)
        if user is not None:
            context.add_cookies([{"name": "_token", "value": ui.tokens[user], "url": f"{ui.url}/"}])
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(ui: Ui, context_of: Callable[..., BrowserContext]) -> Iterator[Callable[..., Page]]:
    """Opens the page alone, without Airflow's around it; whatever it complains of fails the test."""
    complaints: list[str] = []

    def open_(path: str = "", user: str | None = "anna", *, quiet: bool = True, **options: Any) -> Page:
        page = context_of(user, **options).new_page()
        if quiet:
            page.on("pageerror", lambda error: complaints.append(str(error)))
            # What a task has not said yet is not there: the browser calls every 404 an error.
            page.on(
                "console",
                lambda line: (
                    complaints.append(line.text) if line.type == "error" and "404" not in line.text else None
                ),
            )
        page.goto(f"{ui.url}/kubit-braze/{path}")
        return page

    yield open_
    assert complaints == []
