"""Sees into the local Snowflake and sets it up from a test or a demo, over its ``/_sandbox/`` surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds a control request may take.
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class SeenStatement:
    """One statement the local Snowflake ran.

    :param sql: its text, cut after 10,000 characters.
    :param tag: the query tag in force, or an empty string.
    :param session: tells sessions apart.
    :param seconds: how long it took; None while it runs.
    :param error: Snowflake's code when it failed, otherwise None.
    """

    sql: str
    tag: str
    session: str
    seconds: float | None
    error: str | None


class SnowflakeControl:
    """A client of the control surface.

    :param url: of the local Snowflake, as its ready line says.
    :param bundle: file with the authority that signed its certificate.
    """

    def __init__(self, url: str, *, bundle: Path) -> None:
        self.url = url
        self._bundle = bundle

    def queries(self, *, last: int = 100) -> list[SeenStatement]:
        """Return the newest statements, oldest first; the local Snowflake remembers the last 1,000."""
        return [SeenStatement(**found) for found in self._call("GET", f"queries?last={last}")]

    def open_sessions(self) -> int:
        """Return the number of open sessions."""
        return int(self._call("GET", "health")["sessions"])

    def require_password(self, password: str | None) -> None:
        """Refuse every other password at login from now on; None: take any."""
        self._call("POST", "config", {"required_password": password})

    def _call(self, method: str, path: str, body: object = None) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method,
                f"{self.url}/_sandbox/{path}",
                json=body,
                verify=str(self._bundle),
                timeout=TIMEOUT_SECONDS,
            )
        answer.raise_for_status()
        return answer.json()
