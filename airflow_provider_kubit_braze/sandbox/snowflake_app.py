"""The local Snowflake's HTTP face: fakesnow's server, hardened where its answers would mislead a client.

What this adds: a login that can be refused, sessions that really close, an ordinary Snowflake error where
fakesnow answers HTTP 500 (on which the connector retries for minutes), one statement at a time per session, a
COMMIT that never claims what was lost, and a look at the statements that were run.
"""

from __future__ import annotations

import contextvars
import gzip
import json
import logging
import time
import uuid
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message

    from airflow_provider_kubit_braze.sandbox.snowflake_sessions import Peer, Session, Sessions

#: Login refused. https://docs.snowflake.com/en/user-guide/troubleshooting-login
BAD_LOGIN = ("390100", "Incorrect username or password was specified.")
#: The session is gone; unlike 390112 the connector does not try to renew it.
SESSION_GONE = ("390111", "Session no longer exists.  New login required to access the service.")
#: "SQL execution internal error" of Snowflake; the connector raises it as ProgrammingError 603.
INTERNAL_ERROR = "000603"
#: Snowflake would have kept the transaction's other statements; this store cannot, and says so.
LOST_TRANSACTION = (
    "The local Snowflake cannot commit: an earlier statement of this transaction failed, "
    "and all of it was rolled back."
)

_unhandled: contextvars.ContextVar[list[BaseException]] = contextvars.ContextVar("unhandled")


def _remember_unhandled(record: logging.LogRecord) -> bool:
    """Keep the exception that fakesnow logs and then hides behind an HTTP 500; a logging filter."""
    seen = _unhandled.get(None)
    if seen is not None and record.exc_info and record.exc_info[1] is not None:
        seen.append(record.exc_info[1])
    return True


class SnowflakeApp:
    """ASGI application around fakesnow's.

    :param inner: fakesnow's own application.
    :param sessions: the sessions, shared with whoever watches the TCP connections.
    :param required_password: when set, any other password is refused as Snowflake does.
    """

    def __init__(self, *, inner: ASGIApp, sessions: Sessions, required_password: str | None = None) -> None:
        self._inner = inner
        self._sessions = sessions
        self._required_password = required_password
        logging.getLogger("fakesnow.server").addFilter(_remember_unhandled)
        self.asgi = Starlette(
            routes=[
                Route("/_sandbox/health", self._health, methods=["GET"]),
                Route("/_sandbox/queries", self._queries, methods=["GET"]),
                Route("/_sandbox/config", self._configure, methods=["POST"]),
                Route("/telemetry/send", self._telemetry, methods=["POST"]),
                Route("/session/v1/login-request", self._login, methods=["POST"]),
                Route("/session", self._session, methods=["POST"]),
                Route("/queries/v1/query-request", self._query, methods=["POST"]),
                Route("/{path:path}", self._other, methods=["GET", "POST", "PUT"]),
            ]
        )

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"service": "snowflake", "sessions": len(self._sessions)})

    async def _queries(self, request: Request) -> Response:
        return JSONResponse(self._sessions.statements(int(request.query_params.get("last", 100))))

    async def _configure(self, request: Request) -> Response:
        self._required_password = (await request.json())["required_password"]
        return JSONResponse({"required_password": self._required_password})

    async def _telemetry(self, _request: Request) -> Response:
        return JSONResponse({"data": "Log Received", "code": None, "message": None, "success": True})

    async def _login(self, request: Request) -> Response:
        body = await _body(request)
        data = json.loads(body)["data"]
        if self._required_password is not None and data.get("PASSWORD") != self._required_password:
            return _refusal(*BAD_LOGIN)
        parameters = data.setdefault("SESSION_PARAMETERS", {})
        # A database of the client's own would lock its file against every other session.
        parameters.pop("FAKESNOW_DB_PATH", None)
        status, answer, failure = await self._ask(request, json.dumps({"data": data}).encode())
        if status >= 500:
            return _refusal(INTERNAL_ERROR, f"The local Snowflake could not open a session: {failure}")
        content = json.loads(answer)
        if content.get("success"):
            token = content["data"]["token"]
            # Without a master token the connector's close() never tells the server.
            content["data"]["masterToken"] = token
            content["data"]["parameters"].append({"name": "CLIENT_TELEMETRY_ENABLED", "value": False})
            self._sessions.opened(token, peer=_peer(request), parameters=parameters)
        return JSONResponse(content, status_code=status)

    async def _session(self, request: Request) -> Response:
        session = self._session_of(request)
        if session is None:
            return _refusal(*SESSION_GONE)
        if request.query_params.get("delete"):
            await self._sessions.close(session)
        return JSONResponse({"data": None, "code": None, "message": None, "success": True})

    async def _query(self, request: Request) -> Response:
        body = await _body(request)
        return await self._in_session(request, lambda session: self._run(request, session, body))

    async def _run(self, request: Request, session: Session, body: bytes) -> Response:
        content = json.loads(body)
        sql = content["sqlText"]
        statement = self._sessions.remember(
            session, sql, tag=(content.get("parameters") or {}).get("QUERY_TAG")
        )
        started = time.monotonic()
        response, statement.error = await self._answer(request, session, sql, body)
        statement.seconds = time.monotonic() - started
        if statement.error is None:
            session.note_success(sql)
        else:
            session.failed_since_commit = True
        return response

    async def _answer(
        self, request: Request, session: Session, sql: str, body: bytes
    ) -> tuple[Response, str | None]:
        """Run one statement; return the answer and, when it failed, Snowflake's code."""
        if session.is_doubtful_commit(sql) and (await self._ask(request, _statement("SELECT 1")))[0] >= 400:
            # DuckDB aborted the transaction at an earlier error, and would now call this COMMIT a success.
            await self._ask(request, _statement("ROLLBACK"))
            session.failed_since_commit = False
            return _refusal(INTERNAL_ERROR, LOST_TRANSACTION), INTERNAL_ERROR
        status, answer, failure = await self._ask(request, body)
        if status >= 400:
            message = f"The local Snowflake could not run this statement: {failure}"
            return _refusal(INTERNAL_ERROR, message), INTERNAL_ERROR
        response = Response(answer, media_type="application/json")
        # An error envelope is small; a result of a million rows is not parsed again.
        if len(answer) < 100_000 and not (envelope := json.loads(answer))["success"]:
            return response, str(envelope["code"])
        return response, None

    async def _other(self, request: Request) -> Response:
        body = await _body(request)
        if request.url.path.startswith("/fs_bucket/"):  # an upload of PUT: a presigned URL, no token
            return await self._pass_on(request, body)
        return await self._in_session(request, lambda _session: self._pass_on(request, body))

    async def _pass_on(self, request: Request, body: bytes) -> Response:
        status, answer, failure = await self._ask(request, body)
        if status >= 500:
            return _refusal(INTERNAL_ERROR, f"The local Snowflake failed at {request.url.path}: {failure}")
        return Response(answer, status_code=status, media_type="application/json")

    async def _in_session(self, request: Request, act: Callable[[Session], Awaitable[Response]]) -> Response:
        session = self._session_of(request)
        if session is None:
            return _refusal(*SESSION_GONE)
        async with session.lock:
            if self._sessions.get(session.token) is None:  # closed while this request waited
                return _refusal(*SESSION_GONE)
            return await act(session)

    def _session_of(self, request: Request) -> Session | None:
        header = request.headers.get("authorization", "")
        session = self._sessions.get(header.removeprefix('Snowflake Token="').removesuffix('"'))
        if session is not None:
            session.seen_on(_peer(request))
        return session

    async def _ask(self, request: Request, body: bytes) -> tuple[int, bytes, str]:
        """Have fakesnow answer; return status, body and, after an unhandled exception, its text."""
        headers = [(name, value) for name, value in request.scope["headers"] if name not in _BODY_HEADERS]
        scope = {**request.scope, "headers": headers}
        status = 500
        chunks: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                chunks.append(message.get("body", b""))

        unhandled: list[BaseException] = []
        reset = _unhandled.set(unhandled)
        try:
            await self._inner(scope, receive, send)
        except Exception as error:  # whatever it is, the client gets one error instead of minutes of retries
            logging.getLogger(__name__).exception("fakesnow failed at %s", request.url.path)
            status = 500
            unhandled.append(error)
        finally:
            _unhandled.reset(reset)
        failure = f"{type(unhandled[-1]).__name__}: {unhandled[-1]}" if unhandled else f"HTTP {status}"
        return status, b"".join(chunks), failure


#: The body is passed on decompressed and whole.
_BODY_HEADERS = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


async def _body(request: Request) -> bytes:
    body = await request.body()
    return gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body


def _statement(sql: str) -> bytes:
    return json.dumps({"sqlText": sql}).encode()


def _peer(request: Request) -> Peer:
    client = request.client
    return (client.host, client.port) if client else ("", 0)


def _refusal(code: str, message: str) -> JSONResponse:
    """Return Snowflake's envelope of an error; HTTP 200, because the connector retries on anything else."""
    sqlstate = "08001" if code == BAD_LOGIN[0] else "XX000"
    data = {"errorCode": code, "sqlState": sqlstate, "queryId": str(uuid.uuid4())}
    return JSONResponse({"data": data, "code": code, "message": message, "success": False, "headers": None})
