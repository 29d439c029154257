"""Sessions of the local Snowflake: who is connected, and which statements were seen under which query tag."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict, deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A TCP connection as the server sees it: the client's address and port.
Peer = tuple[str, int]

#: Statements are remembered with at most this many characters, so that the ring's memory is bounded.
MAX_SQL_CHARACTERS = 10_000

_SET_TAG = re.compile(r"\bQUERY_TAG\s*=\s*'((?:[^'\\]|''|\\.)*)'", re.IGNORECASE | re.DOTALL)
_UNSET_TAG = re.compile(r"\bUNSET\b.*\bQUERY_TAG\b", re.IGNORECASE | re.DOTALL)
_COMMIT = re.compile(r"\s*COMMIT\b", re.IGNORECASE)
_ALTER_SESSION = re.compile(r"\s*ALTER\s+SESSION\s", re.IGNORECASE)


class Closable(Protocol):
    """What is needed of fakesnow's connection: closing it rolls back what it left open."""

    def close(self) -> None:
        """Close."""


@dataclass
class Statement:
    """One statement as it was run; ``error`` is Snowflake's code, ``seconds`` is None while it runs."""

    sql: str
    tag: str
    session: str
    seconds: float | None = None
    error: str | None = None


@dataclass
class Session:
    """One login.

    ``lock`` runs its statements one after the other, as Snowflake does; fakesnow would mix up the results of
    threads that share a connection.
    """

    token: str
    connection: Closable
    tag: str = ""
    failed_since_commit: bool = False
    peers: set[Peer] = field(default_factory=set)
    keeps_alive: bool = False
    last_used: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def seen_on(self, peer: Peer) -> None:
        """Note a request; a second one on the same TCP connection proves that the client keeps it open."""
        self.keeps_alive = self.keeps_alive or peer in self.peers
        self.peers.add(peer)
        self.last_used = time.monotonic()

    def is_doubtful_commit(self, sql: str) -> bool:
        """Whether this is a COMMIT after an error, at which DuckDB may have thrown the transaction away."""
        return self.failed_since_commit and bool(_COMMIT.match(sql))

    def note_success(self, sql: str) -> None:
        """Follow ``COMMIT`` and ``ALTER SESSION SET | UNSET QUERY_TAG``."""
        if _COMMIT.match(sql):
            self.failed_since_commit = False
        if not _ALTER_SESSION.match(sql):
            return
        if found := _SET_TAG.search(sql):
            self.tag = re.sub(r"''|\\(.)", lambda match: match[1] or "'", found[1])
        elif _UNSET_TAG.search(sql):
            self.tag = ""


class Sessions:
    """All sessions, over the registry that fakesnow's server keeps.

    :param registry: fakesnow's token -> connection dictionary.
    :param idle_seconds: a session nobody used for so long is closed. Snowflake's own limit is four hours
        (docs: "Session and session policies").
    :param remembered: number of statements kept for :meth:`statements`.
    """

    def __init__(self, registry: dict[str, Any], *, idle_seconds: float, remembered: int) -> None:
        self._registry = registry
        self._idle_seconds = idle_seconds
        self._sessions: dict[str, Session] = {}
        self._statements: deque[Statement] = deque(maxlen=remembered)

    def __len__(self) -> int:
        return len(self._sessions)

    def opened(self, token: str, *, peer: Peer, parameters: Mapping[str, Any]) -> None:
        """Note a successful login."""
        session = Session(token, self._registry[token], tag=str(parameters.get("QUERY_TAG") or ""))
        session.seen_on(peer)
        self._sessions[token] = session

    def get(self, token: str) -> Session | None:
        """Return the session of a token, or None when it was closed or never existed."""
        return self._sessions.get(token)

    async def close(self, session: Session) -> None:
        """Close a session once its running statement has ended; what it left open is rolled back."""
        async with session.lock:
            if self._sessions.pop(session.token, None) is not None:
                self._registry.pop(session.token, None)
                session.connection.close()

    async def peer_gone(self, peer: Peer) -> None:
        """Close every session whose TCP connections, known to be kept alive, are now all gone.

        This is what a killed client leaves: the kernel closes its sockets, so its locks fall within
        milliseconds. A client that opens a TCP connection for each request is left to :meth:`close_idle`.
        """
        for session in list(self._sessions.values()):
            if peer in session.peers:
                session.peers.discard(peer)
                if session.keeps_alive and not session.peers:
                    await self.close(session)

    async def close_idle(self) -> None:
        """Close the sessions nobody used for ``idle_seconds``."""
        for session in list(self._sessions.values()):
            if not session.lock.locked() and time.monotonic() - session.last_used > self._idle_seconds:
                await self.close(session)

    def remember(self, session: Session, sql: str, *, tag: str | None) -> Statement:
        """Add a statement to the ring; ``tag`` overrides the session's for this statement alone."""
        effective = session.tag if tag is None else tag
        statement = Statement(sql=sql[:MAX_SQL_CHARACTERS], tag=effective, session=session.token[:8])
        self._statements.append(statement)
        return statement

    def statements(self, last: int) -> list[dict[str, Any]]:
        """Return the newest ``last`` statements, oldest first."""
        recent = list(self._statements)
        return [asdict(statement) for statement in recent[max(0, len(recent) - last) :]]


class RecentResults(OrderedDict[str, Any]):
    """The newest results only; fakesnow itself keeps every result of every session for ever.

    :param size: number of results kept for ``RESULT_SCAN`` and ``get_results_from_sfqid``.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > self._size:
            self.popitem(last=False)
