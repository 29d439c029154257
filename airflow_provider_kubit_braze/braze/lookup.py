"""Look users up through ``/users/export/ids``, within the rate limit of its own that the endpoint has."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.braze.client import EXPORT_IDS, EXPORT_PATH
from airflow_provider_kubit_braze.core.budget import LimitHeaders, RateBudget
from airflow_provider_kubit_braze.core.verification import OTHER_PROFILES
from airflow_provider_kubit_braze.exceptions import (
    BrazeEndpointError,
    BrazeError,
    BrazeRequestError,
    BrazeUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_kubit_braze.braze.client import BrazeClient, BrazeResponse

    Profile = Mapping[str, Any]

_ALIAS: Final = "user_alias:"

#: The ledger's kinds that Braze takes one of in a request, and what Braze calls them there.
_SINGLES: Final = {
    "braze_id": "braze_id",
    "email": "email_address",
    "phone": "phone",
    "device_id": "device_id",
}

#: Seconds before each further try. Together they are longer than the endpoint's window of a minute.
_WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

#: Somebody who wants to stop waits no longer than this many seconds.
_STEP: Final = 1.0


class Lookup:
    """Ask Braze who the users are that the ledger names.

    Requests go out one after the other, no faster than the limit less the connection's reserve, and not at all while
    Braze's rate headers say that the workspace has nothing left. They never ask for campaigns or Canvases received,
    with which Braze would take fewer of them.

    :param client: the way to Braze; its key needs ``users.export.ids``.
    :param per_minute: requests that the workspace may make in a minute.
    :param sleep: how to wait.
    :param clock: seconds on any monotonic clock.
    :param wall: seconds since 1970.
    :param stop: called before every request and at least every second while waiting; what it raises ends the look-up.
    :param waits: seconds before each further try; by default together longer than the endpoint's window of a minute.
    """

    def __init__(
        self,
        client: BrazeClient,
        *,
        per_minute: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        stop: Callable[[], None] | None = None,
        waits: Sequence[float] | None = None,
    ) -> None:
        self._client = client
        self._waits = _WAITS if waits is None else waits
        self._sleep = sleep
        self._clock = clock
        self._wall = wall
        self._stop = stop or (lambda: None)
        self._answered = False
        self._budget = RateBudget(
            max_requests=max(1, int(per_minute)),
            per_seconds=60.0,
            reserve=client.settings.reserve,
            now=clock(),
        )

    def find(
        self, id_kind: str, users: Sequence[str], *, with_attributes: bool = True
    ) -> dict[str, Profile | None]:
        """Return the profile of each user, or None when Braze does not know them.

        External ids and aliases go 50 to a request, everything else one. A profile has the identifiers by which it
        was found and, when it has any, ``custom_attributes``. Several profiles may share an address or a number, and
        nobody can say to which of them Braze would write: one is returned, with the rest under ``other_profiles``.
        Only those with an external id count, when there are any, since Braze prefers them; for a device only
        anonymous ones count, since a cohort import ignores the devices of identified users.

        :param id_kind: as in the ledger: ``external_id``, ``braze_id``, ``email``, ``phone``, ``device_id``, or
            ``user_alias:<label>``.
        :param users: as the ledger names them; each is asked for once.
        :param with_attributes: whether ``custom_attributes`` are wanted.
        :raises ValueError: for another kind.
        :raises BrazeAuthError: 401 or 403.
        :raises BrazeEndpointError: 404, a redirect; nobody was ever reached.
        :raises BrazeUnavailableError: 408, 423, 425, 429, 5xx, or no complete answer, as often as it is tried; Braze
            was reached earlier and is not now.
        :raises BrazeRequestError: any other refusal, or an answer that cannot be read.
        """
        wanted = list(dict.fromkeys(users))
        more = ["custom_attributes"] if with_attributes else []
        found: dict[str, Profile | None] = dict.fromkeys(wanted)
        if id_kind in _SINGLES:
            fields = ["external_id", "braze_id" if id_kind == "device_id" else id_kind, *more]
            for user in wanted:
                profiles = self._ask({_SINGLES[id_kind]: user, "fields_to_export": fields})
                found[user] = _one_of(id_kind, profiles)
            return found
        label = id_kind.removeprefix(_ALIAS) if id_kind.startswith(_ALIAS) else None
        if label is None and id_kind != "external_id":
            raise ValueError(f"There is no look-up by {id_kind}.")
        for start in range(0, len(wanted), EXPORT_IDS):
            some = wanted[start : start + EXPORT_IDS]
            for profile in self._ask(_body_of_many(label, some, more)):
                # Whom an answer names is judged by the profile alone: its order and its invalid_user_ids say nothing.
                for user in _names(label, profile):
                    if user in found:
                        found[user] = profile
        return found

    def find_all(
        self, named: Iterable[tuple[str, str]], *, with_attributes: bool = True
    ) -> dict[tuple[str, str], Profile | None]:
        """Look up users of several kinds, each kind in requests of its own; raises what ``find`` does.

        :param named: kind of identifier and user, as in the ledger.
        :param with_attributes: whether ``custom_attributes`` are wanted.
        """
        by_kind: defaultdict[str, list[str]] = defaultdict(list)
        for id_kind, user in named:
            by_kind[id_kind].append(user)
        return {
            (id_kind, user): profile
            for id_kind, users in sorted(by_kind.items())
            for user, profile in self.find(id_kind, users, with_attributes=with_attributes).items()
        }

    def _ask(self, body: Mapping[str, Any]) -> Sequence[Profile]:
        """Send one request, as often as it takes, and return the profiles of its answer."""
        waits = iter(self._waits)
        while True:
            problem, told = self._try(body)
            if not isinstance(problem, BrazeError):
                return problem
            wait = next(waits, None)
            if wait is None:
                raise BrazeUnavailableError(
                    f"Users could not be looked up in {len(self._waits) + 1} tries: {problem}",
                    status=problem.status,
                )
            # The budget waits for the moment that a 429 told of.
            if not told:
                self._wait(wait)

    def _try(self, body: Mapping[str, Any]) -> tuple[Sequence[Profile] | BrazeError, bool]:
        """Send a request when its turn has come; return what it found, or why to try again and whether Braze said when.

        :raises BrazeError: when trying again cannot help.
        """
        while (wait := self._budget.wait(self._clock())) > 0:
            self._wait(wait)
        self._stop()
        number = self._budget.spend(self._clock())
        try:
            response = self._client.send(EXPORT_PATH, body)
        except BrazeUnavailableError as error:
            return error, False
        except BrazeEndpointError as error:
            # A host that has answered before is the right one, and it will be back.
            if not self._answered:
                raise
            return error, False
        self._answered = True
        headers = LimitHeaders.read(response.headers, now=self._wall())
        self._budget.observe(headers, number=number, limited=response.status == 429, now=self._clock())
        if response.accepted:
            return _profiles(response), False
        refusal = self._client.refusal(EXPORT_PATH, response)
        # A success that is no JSON is an answer that broke on its way.
        broken = 200 <= response.status < 300 and response.body is None
        if not broken and not isinstance(refusal, BrazeUnavailableError):
            raise refusal
        return refusal, response.status == 429 and bool(headers.reset_in)

    def _wait(self, seconds: float) -> None:
        while seconds > 0:
            self._stop()
            self._sleep(min(seconds, _STEP))
            seconds -= _STEP


def _body_of_many(label: str | None, users: Sequence[str], more: Sequence[str]) -> dict[str, Any]:
    if label is None:
        return {"external_ids": list(users), "fields_to_export": ["external_id", *more]}
    aliases = [{"alias_label": label, "alias_name": user} for user in users]
    return {"user_aliases": aliases, "fields_to_export": ["user_aliases", *more]}


def _profiles(response: BrazeResponse) -> Sequence[Profile]:
    users = (response.body or {}).get("users", [])
    if not isinstance(users, list) or not all(isinstance(user, dict) for user in users):
        # Taken for nobody found, it would keep everybody out of Braze.
        raise BrazeRequestError(
            f"Braze answered {EXPORT_PATH} without a list of users.", status=response.status
        )
    return users


def _names(label: str | None, profile: Profile) -> Sequence[str]:
    """Return by which names that were asked for a profile answers: an alias profile may have an external id too."""
    if label is None:
        external_id = profile.get("external_id")
        return [external_id] if isinstance(external_id, str) else []
    aliases = profile.get("user_aliases")
    return [
        alias["alias_name"]
        for alias in (aliases if isinstance(aliases, list) else [])
        if isinstance(alias, dict)
        and alias.get("alias_label") == label
        and isinstance(alias.get("alias_name"), str)
    ]


def _one_of(id_kind: str, profiles: Sequence[Profile]) -> Profile | None:
    identified = [profile for profile in profiles if profile.get("external_id") is not None]
    if id_kind == "device_id":
        candidates = [profile for profile in profiles if profile.get("external_id") is None]
    else:
        candidates = identified or list(profiles)
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    return {**candidates[0], OTHER_PROFILES: candidates[1:]}
