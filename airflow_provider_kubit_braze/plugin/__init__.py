"""The Airflow plugin, found by its entry point: on 3.1 and later the page *Kubit → Braze*, on 2.11 a timetable."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_kubit_braze._compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS
from airflow_provider_kubit_braze.core.page import ROUTE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]

log = logging.getLogger(__name__)


class Page:
    """The page's ASGI application, made at its first request.

    Scheduler, workers and the DAG processor load plugins too, and have no use for a web framework.
    """

    def __init__(self) -> None:
        self._app: Callable[..., Awaitable[None]] | None = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer, or refuse to when this Airflow cannot say who asks."""
        if self._app is None:
            try:
                from airflow_provider_kubit_braze.plugin.web import make_app
            except ImportError:
                log.exception(
                    "The page Kubit → Braze needs Airflow's own check of who asks, and cannot find it"
                )
                await _refuse(scope, send)
                return
            self._app = make_app()
        await self._app(scope, receive, send)


async def _refuse(scope: Message, send: Callable[[Message], Awaitable[None]]) -> None:
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"This page does not work with this version of Airflow."}
        )


def _timetables() -> list[type[Any]]:
    if AIRFLOW_V_3_0_PLUS:
        return []
    from airflow_provider_kubit_braze.timetables import NextTickTimetable

    return [NextTickTimetable]


# No leading slash in what the browser asks for: Airflow's own address may have a path.
_APPS: Final = [{"app": Page(), "url_prefix": f"/{ROUTE}", "name": "Kubit → Braze"}]
_VIEWS: Final = [
    {
        "name": "Kubit → Braze",
        "href": f"{ROUTE}/",
        "destination": "nav",
        "url_route": ROUTE,
        "icon": f"{ROUTE}/icon.svg",
        "icon_dark_mode": f"{ROUTE}/icon-dark.svg",
        "nav_top_level": True,
    }
]


class KubitBrazePlugin(AirflowPlugin):
    """Registers what Airflow has to know by name; versions that have no such pages get none."""

    name = "kubit_braze"
    timetables = _timetables()
    fastapi_apps = _APPS if AIRFLOW_V_3_1_PLUS else []
    external_views = _VIEWS if AIRFLOW_V_3_1_PLUS else []
