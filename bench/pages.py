"""How soon the page *Kubit → Braze* can be read: 500 cohorts with 30 imports each, in Chromium, from a new window on.

Readable is when every line in view says how its cohort stands and how many users are in Braze. The peer is Airflow's
own list of DAGs, which shows 50 of the same; both ask the same Airflow.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.rows import Row, over
from tests.ui.browser import HOW_TO_GET_IT, chromium, find_chromium, token_of
from tests.ui.many import COHORTS, IMPORTS, add_many
from tests.ui.test_z_many import READABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from bench.sizes import Sizes

_PROJECT: Final = Path(__file__).resolve().parent.parent

#: A window each, with nothing kept from the one before.
_MOST_ROUNDS: Final = 7

_LISTED: Final = """() => {
    const names = [...document.querySelectorAll("a")].filter((link) => /^Cohort [0-9]{3}$/.test(link.textContent));
    return names.length > 5 && performance.now();
}"""


def pages(sizes: Sizes) -> Iterator[Row]:
    """Start Airflow, fill it, and open both lists in turn."""
    from airflow_provider_kubit_braze.sandbox.ui import UiSandbox

    executable = find_chromium()
    if executable is None:
        raise RuntimeError(HOW_TO_GET_IT)
    folder = Path(tempfile.mkdtemp(prefix="kubit-braze-bench-ui-"))
    sandbox = UiSandbox(folder / "ui", dags=_PROJECT / "dags", days=1, users={"anna": "admin"})
    try:
        with sandbox.running(), chromium(executable) as browser:
            add_many(folder / "ui" / "airflow" / "airflow.db")
            token = token_of(sandbox.url, "anna")
            requests: list[int] = []
            shares = []
            # The first of each finds Airflow unprepared.
            for which in range(min(sizes.rounds, _MOST_ROUNDS) + 1):
                ours, asked = _opened(browser, sandbox.url, token, "kubit-braze/", READABLE)
                theirs, _ = _opened(browser, sandbox.url, token, "dags?name_pattern=Cohort", _LISTED)
                if which:
                    shares.append(ours / theirs)
                    requests.append(asked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    what = f"first view of {COHORTS} cohorts with {IMPORTS} imports each"
    yield over(shares, f"time until the {what} can be read", "Airflow's own list of DAGs")
    yield Row(
        what=f"requests until the {what} can be read",
        against="counted in the browser",
        figure=max(requests),
        unit="",
    )


def _opened(browser: Browser, url: str, token: str, path: str, ready: str) -> tuple[float, int]:
    """Return after how many milliseconds a page was ready, and what it had asked Airflow's API by then."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        context.add_cookies([{"name": "_token", "value": token, "url": f"{url}/"}])
        page: Page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/api/v2/" in request.url else None)
        page.goto(f"{url}/{path}")
        milliseconds: float = page.wait_for_function(ready, timeout=60_000).json_value()
        return milliseconds, len(asked)
    finally:
        context.close()
