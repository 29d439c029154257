"""What the local Braze has got, request by request, and from which worker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl, RecordedRequest

TRACK = "/users/track"


@dataclass(frozen=True)
class Sent:
    """A request with changes.

    :param number: in order of arrival.
    :param host: tells which worker it came from.
    :param users: external ids, in the order of the body.
    """

    number: int
    host: str
    users: tuple[str, ...]


class Traffic:
    """The requests of one import.

    :param braze: told to keep all requests from now on, and to forget those before.
    """

    def __init__(self, braze: BrazeControl) -> None:
        self._braze = braze
        braze.configure(recorded_requests=100_000)
        self._seen = max((request.number for request in braze.requests(1)), default=0)
        self.requests: list[Sent] = []

    def look(self) -> list[Sent]:
        """Return all requests so far."""
        found = self._braze.requests(100)
        if found and found[0].number > self._seen + 1:
            found = self._braze.requests(found[-1].number - self._seen)
        fresh = [request for request in found if request.number > self._seen]
        if fresh:
            self._seen = fresh[-1].number
        self.requests += [_sent(request) for request in fresh if request.path == TRACK]
        return self.requests

    def of(self, host: str, *, after: int = 0) -> list[Sent]:
        """Return the requests of one worker that came after request number ``after``."""
        return [request for request in self.look() if request.host == host and request.number > after]

    def users_of(self, host: str) -> set[str]:
        """Return whom a worker has sent."""
        return {user for request in self.of(host) for user in request.users}

    @property
    def last(self) -> int:
        """The number of the last request."""
        self.look()
        return self._seen

    def changes(self) -> Counter[str]:
        """Return how often each user was sent."""
        return Counter(user for request in self.look() for user in request.users)


def _sent(request: RecordedRequest) -> Sent:
    return Sent(
        number=request.number,
        host=request.headers["host"],
        users=tuple(item["external_id"] for item in request.body["attributes"]),
    )
