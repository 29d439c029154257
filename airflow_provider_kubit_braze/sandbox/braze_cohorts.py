"""Partner cohorts: who may import them, what a request must look like, and who is in one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_provider_kubit_braze.sandbox.braze_rules import is_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_kubit_braze.sandbox.braze_profiles import Alias, Directory, Profile
    from airflow_provider_kubit_braze.sandbox.braze_settings import WorkspaceSettings

MAX_IDENTIFIERS: Final = 1000
"""Identifiers in one request, over all changes and kinds (Braze: partner cohort import)."""

BAD_PARTNER_KEY: Final = "Invalid Partner API key"
BAD_CLIENT_SECRET: Final = "Invalid client secret"  # noqa: S105 - Braze's words
NOT_ENABLED: Final = "Partner not enabled for client with client secret: {}"
UNAUTHORIZED: Final = "Unauthorized access"
BAD_COHORT_ID: Final = "`cohort_id` must be a valid string"
BAD_NAME: Final = "`name` must be a non-empty string"
BAD_CREATED_AT: Final = "`created_at` must be a valid time as an ISO-8601 string"
BAD_CHANGES: Final = (
    "`cohort_changes` must be an array of objects each with key `user_ids` and/or `device_ids`"
    " mapping to an array of strings, or an `aliases` object"
)
TOO_MANY_IDENTIFIERS: Final = "Only 1,000 `user_ids`, `device_ids`, and `aliases` are allowed per request"


@dataclass(slots=True)
class Cohort:
    """A cohort of a partner.

    :param name: shown to marketers; None until the partner has named it.
    :param created_at: as the partner sent it.
    :param members: numbers of the profiles in it.
    """

    name: str | None = None
    created_at: str | None = None
    members: set[int] = field(default_factory=set)


class Change(NamedTuple):
    """One entry of ``cohort_changes``: the identifiers, and whether they leave."""

    user_ids: Sequence[str]
    device_ids: Sequence[str]
    aliases: Sequence[Alias]
    should_remove: bool


def authentication_problem(body: Mapping[str, Any], partner: str, settings: WorkspaceSettings) -> str | None:
    """Return why the keys in ``body`` do not let ``partner`` in, in Braze's words, or None."""
    key, secret = body.get("partner_api_key"), body.get("client_secret")
    if not isinstance(key, str) or key not in settings.partner_api_keys.values():
        return BAD_PARTNER_KEY
    if settings.partner_api_keys.get(partner) != key:
        return UNAUTHORIZED
    if not isinstance(secret, str) or secret not in settings.client_secrets:
        return BAD_CLIENT_SECRET
    if partner not in settings.client_secrets[secret]:
        return NOT_ENABLED.format(secret)
    return None


def naming_problem(body: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a ``/cohorts`` body, in Braze's words, or None."""
    if not _is_text(body.get("cohort_id")):
        return BAD_COHORT_ID
    if not _is_text(body.get("name")):
        return BAD_NAME
    return None if is_time(body.get("created_at")) else BAD_CREATED_AT


def read_changes(body: Mapping[str, Any]) -> tuple[list[Change], str | None]:
    """Return the changes of a ``/cohorts/users`` body, and what is wrong with it in Braze's words, or None.

    Braze's page calls ``aliases`` an object while Segment sends an array of them: both are taken.
    """
    if not _is_text(body.get("cohort_id")):
        return [], BAD_COHORT_ID
    entries = body.get("cohort_changes")
    if not isinstance(entries, list):
        return [], BAD_CHANGES
    changes: list[Change] = []
    for entry in entries:
        change = _change(entry)
        if change is None:
            return [], BAD_CHANGES
        changes.append(change)
    if identifiers(changes) > MAX_IDENTIFIERS:
        return [], TOO_MANY_IDENTIFIERS
    return changes, None


def identifiers(changes: Iterable[Change]) -> int:
    """Return how many identifiers the changes hold."""
    return sum(len(change.user_ids) + len(change.device_ids) + len(change.aliases) for change in changes)


def apply_changes(members: set[int], changes: Iterable[Change], directory: Directory) -> int:
    """Make ``changes`` to ``members`` in their order, and return how many identifiers meant nobody.

    No profile is created, and an unknown identifier passes without a word. A device id finds anonymous users
    only.
    """
    unknown = 0
    for change in changes:
        found = [_number(directory.by_external_id.get(user_id)) for user_id in change.user_ids]
        found += [_number(directory.find("user_alias", alias)) for alias in change.aliases]
        for device_id in change.device_ids:
            devices = directory.with_device(device_id)
            found.append({profile.number for profile in devices if profile.external_id is None})
        unknown += sum(not numbers for numbers in found)
        (members.difference_update if change.should_remove else members.update)(*found)
    return unknown


def _number(profile: Profile | None) -> set[int]:
    return set() if profile is None else {profile.number}


def _change(entry: Any) -> Change | None:
    if not isinstance(entry, dict) or not entry.keys() & {"user_ids", "device_ids", "aliases"}:
        return None
    user_ids, device_ids = entry.get("user_ids", []), entry.get("device_ids", [])
    aliases, should_remove = entry.get("aliases", []), entry.get("should_remove", False)
    if isinstance(aliases, dict):
        aliases = [aliases]
    if not (_are_texts(user_ids) and _are_texts(device_ids) and isinstance(aliases, list)):
        return None
    pairs: list[Alias] = []
    for alias in aliases:
        if not (
            isinstance(alias, dict)
            and _is_text(alias.get("alias_label"))
            and _is_text(alias.get("alias_name"))
        ):
            return None
        pairs.append((alias["alias_label"], alias["alias_name"]))
    return Change(user_ids, device_ids, pairs, should_remove) if isinstance(should_remove, bool) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
