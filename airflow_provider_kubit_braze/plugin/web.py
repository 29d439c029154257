"""Serves the files of the page to whoever is logged in; the data come from Airflow's own API.

Airflow does not ask who calls an application of a plugin, so this one does. The files hold nothing of anybody: what a
person may see and do is decided by ``/api/v2``, which the page calls with that person's own session. The one thing that
is made here is the report of an impact to send on, of figures that the page has read that way and sends along.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from airflow_provider_kubit_braze.core.impact.html_report import impact_html

STATIC: Final = Path(__file__).parent / "static"

#: Not left to the machine's table of types: a module served as anything else is not run.
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS: Final = {
    # The page runs with the full rights of whoever looks at it: nothing but its own files may run, and nobody but
    # Airflow may frame it.
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}

#: Of what others wrote, so that no browser takes it for a page of Airflow's.
_REPORT_HEADERS: Final = {
    **HEADERS,
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "Content-Disposition": 'attachment; filename="impact.html"',
    "Cache-Control": "no-store",
}

#: Bytes of a report; one of 20 messages and 90 days has less than half a million.
_REPORT_MOST: Final = 8_000_000


@dataclass(frozen=True)
class File:
    """A file of the page.

    :param content: its bytes.
    :param media_type: what it is.
    :param etag: changes with its content.
    """

    content: bytes
    media_type: str
    etag: str


def read_files(folder: Path = STATIC) -> dict[str, File]:
    """Read all files of the page, by their path below it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[path.relative_to(folder).as_posix()] = File(content, _TYPES[path.suffix], etag)
    return found


def make_app() -> FastAPI:
    """Make the application; every path of it, also one that is not there, is for people who are logged in."""
    files = read_files()
    # Without its own documents: those would be open to anybody.
    app = FastAPI(
        title="Kubit → Braze",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(get_user)],
    )

    @app.get("/{name:path}")
    def file(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        found = files.get(name or "index.html")
        if found is None:
            raise HTTPException(404, "There is no such file.")
        headers = {**HEADERS, "ETag": found.etag}
        if if_none_match == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.media_type, headers=headers)

    @app.post("/impact-report")
    async def impact_report(request: Request) -> Response:
        # A form of another site cannot send JSON.
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise HTTPException(415, "Send the report as JSON.")
        html = await run_in_threadpool(write_report, await _body(request))
        return Response(html, media_type="text/html; charset=utf-8", headers=_REPORT_HEADERS)

    return app


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _REPORT_MOST:
            raise HTTPException(413, f"A report of more than {_REPORT_MOST:,} bytes is not written.")
    return bytes(body)


def write_report(body: bytes) -> bytes:
    """Write the report that somebody's browser has sent, as HTML.

    :raises HTTPException: when it is none: it may be anything, of any depth, and text that UTF-8 has no bytes for.
    """
    try:
        report: Any = json.loads(body)
        return impact_html(report).encode()
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise HTTPException(422, "This is no report of an impact.") from error
