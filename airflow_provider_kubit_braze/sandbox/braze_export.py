"""Braze's ``/users/export/ids``: reading profiles back, and finding out whom Braze does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.sandbox.braze_exchange import Answer, json_answer, message
from airflow_provider_kubit_braze.sandbox.braze_rules import identify

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.sandbox.braze_profiles import Kind, Profile
    from airflow_provider_kubit_braze.sandbox.braze_state import Workspace

MAX_EXPORTED: Final = 50
"""Users in one request, external_ids and aliases together."""

_LISTS: Final[tuple[tuple[str, Kind], ...]] = (
    ("external_ids", "external_id"),
    ("user_aliases", "user_alias"),
)
_SINGLES: Final = ("braze_id", "device_id", "email_address", "phone")


def export(workspace: Workspace, body: dict[str, Any], _path: str) -> Answer:
    """Answer ``/users/export/ids``: what is applied by now; what a profile lacks is left out of it."""
    workspace.apply_due()
    wanted = body.get("fields_to_export")
    if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        return message(400, "'fields_to_export' must be a non-empty array of strings")
    asked = [(kind, body.get(name) or []) for name, kind in _LISTS]
    if not all(isinstance(values, list) for _, values in asked):
        return message(400, "'external_ids' and 'user_aliases' must be arrays")
    count = sum(len(values) for _, values in asked)
    if count > MAX_EXPORTED:
        return message(400, "The max number of external_ids and aliases per request was exceeded")
    singles = [name for name in _SINGLES if isinstance(body.get(name), str)]
    if len(singles) + bool(count) != 1:
        return message(400, "One kind of user identifier is required")
    invalid: list[Any] = []
    if singles:
        profiles = _with(workspace, singles[0], body[singles[0]])
    else:
        profiles, invalid = _listed(workspace, asked)
    users = [{k: v for k, v in profile.as_json().items() if k in wanted} for profile in profiles]
    content: dict[str, Any] = {"message": "success", "users": users}
    return json_answer(201, {**content, "invalid_user_ids": invalid} if invalid else content)


def _listed(workspace: Workspace, asked: list[tuple[Kind, list[Any]]]) -> tuple[list[Profile], list[Any]]:
    """Return the profiles asked for, each once, and the ids that mean nobody."""
    found: dict[int, Profile] = {}
    invalid: list[Any] = []
    for kind, values in asked:
        for value in values:
            identity, problem = identify({kind: value}, kind)
            profile = workspace.directory.find(kind, identity) if problem is None else None
            if profile is None:
                invalid.append(value)
            else:
                found[profile.number] = profile
    return list(found.values()), invalid


def _with(workspace: Workspace, name: str, value: str) -> list[Profile]:
    directory = workspace.directory
    if name == "email_address":
        return list(directory.all_with("email", value))
    if name == "phone":
        return list(directory.all_with("phone", value))
    if name == "device_id":
        return list(directory.with_device(value))
    profile = directory.find("braze_id", value)
    return [] if profile is None else [profile]
