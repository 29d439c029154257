"""The last requests to the local Braze, kept for a test to read, without the keys they carried."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.sandbox.braze_exchange import Answer, Head

_SECRETS: Final = ("partner_api_key", "client_secret", "api_key")


class Recorded(NamedTuple):
    """A request to a Braze endpoint as it arrived, and the status it got; 0 for a dropped connection."""

    number: int
    at: float
    head: Head
    body: bytes | None
    status: int


class Recorder:
    """The last requests, oldest first.

    :param size: how many are kept; 0 keeps none.
    """

    def __init__(self, *, size: int) -> None:
        self._kept: deque[Recorded] = deque(maxlen=size)
        self._number = 0

    def record(self, at: float, head: Head, body: bytes | None, answer: Answer) -> None:
        """Keep one request."""
        self._number += 1
        if self._kept.maxlen:
            self._kept.append(Recorded(self._number, at, head, body, 0 if answer.drop else answer.status))

    def resize(self, size: int) -> None:
        """Keep ``size`` requests from now on."""
        if size != self._kept.maxlen:
            self._kept = deque(self._kept, maxlen=size)

    def last(self, count: int) -> list[dict[str, Any]]:
        """Return the last ``count`` requests as JSON, without any key."""
        return [_recorded_json(item) for item in list(self._kept)[-count:]] if count else []


def _recorded_json(item: Recorded) -> dict[str, Any]:
    content: dict[str, Any] = {
        "number": item.number,
        "at": item.at,
        "method": item.head.method,
        "path": item.head.path,
        "headers": item.head.headers,
        "status": item.status,
        "body": None,
        "text": None,
    }
    if item.body is None:
        return content
    try:
        content["body"] = orjson.loads(item.body)
    except orjson.JSONDecodeError:
        content["text"] = item.body.decode(errors="replace")
        return content
    if isinstance(content["body"], dict):
        content["body"].update({name: "***" for name in _SECRETS if name in content["body"]})
    return content
