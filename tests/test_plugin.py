"""The plugin without a browser: what Airflow is told, and that the page is shut where nobody can say who asks."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze import _compat, plugin

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def reloaded() -> Iterator[None]:
    yield
    importlib.reload(plugin)


def answer(path: str = "/") -> tuple[int, bytes]:
    """Ask the page as a server would, and return its status and body."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [], "root_path": "", "http_version": "1.1", "scheme": "http"}
    asyncio.run(plugin.Page()(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_nothing_the_browser_asks_for_starts_at_the_root_of_the_server() -> None:
    (view,) = plugin.KubitBrazePlugin.external_views
    assert [view[name] for name in ("href", "url_route")] == ["kubit-braze/", "kubit-braze"]
    assert all(str(view[name])[0] != "/" for name in ("href", "icon", "icon_dark_mode"))
    assert [app["url_prefix"] for app in plugin.KubitBrazePlugin.fastapi_apps] == ["/kubit-braze"]


@pytest.mark.usefixtures("reloaded")
def test_an_airflow_without_such_pages_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compat, "AIRFLOW_V_3_1_PLUS", False)
    older = importlib.reload(plugin).KubitBrazePlugin
    assert (older.external_views, older.fastapi_apps) == ([], [])


def test_the_web_framework_is_not_imported_before_somebody_asks() -> None:
    import subprocess

    code = (
        "import sys; import airflow.plugins_manager; before = set(sys.modules);"
        "import airflow_provider_kubit_braze.plugin as p; p.Page();"
        "new = [name for name in sys.modules if name not in before];"
        "print([name for name in new if name.startswith(('fastapi', 'starlette', 'airflow.api_fastapi'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_page_is_shut_where_airflow_has_no_check_of_who_asks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "airflow_provider_kubit_braze.plugin.web", raising=False)
    monkeypatch.setitem(sys.modules, "airflow.api_fastapi.core_api.security", None)
    status, body = answer()
    assert status == 503
    assert b"<" not in body
    assert "Airflow's own check of who asks" in caplog.text
