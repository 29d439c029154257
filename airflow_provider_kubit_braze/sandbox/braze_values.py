"""What one attribute value does to a profile, and what it costs in data points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kubit_braze.sandbox.braze_settings import WorkspaceSettings

MAX_STRING: Final = 255
"""Characters in a string value or in an attribute's name; beyond it the value is dropped without a word."""

STANDARD_FIELDS: Final = frozenset(
    {
        "country",
        "current_location",
        "date_of_first_session",
        "date_of_last_session",
        "dob",
        "email",
        "email_click_tracking_disabled",
        "email_open_tracking_disabled",
        "email_subscribe",
        "facebook",
        "first_name",
        "gender",
        "home_city",
        "language",
        "last_name",
        "marked_email_as_spam_at",
        "phone",
        "push_subscribe",
        "push_tokens",
        "subscription_groups",
        "time_zone",
        "twitter",
    }
)
"""Fields of every Braze profile ("User attributes object"); any other name is a custom attribute."""

FREE_FIELDS: Final = frozenset(
    {"country", "email_subscribe", "language", "push_subscribe", "subscription_groups"}
)
"""Fields that cost no data point ("Data points")."""


def data_points(name: str, value: Any) -> int:
    """Return what writing ``value`` costs, whether it changes anything or not.

    Braze's page says two things about adding to arrays; this is the dearer one, a point for each value.
    """
    if name in FREE_FIELDS:
        return 0
    if isinstance(value, dict):
        if _is_array_change(value):
            return sum(len(values) for values in value.values())
        return 1 if _is_increment(value) else max(1, len(value))
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return max(1, sum(len(item) if isinstance(item, dict) else 1 for item in value))
    return 1


def write_value(
    attributes: dict[str, Any], name: str, value: Any, *, settings: WorkspaceSettings, merge: bool = False
) -> bool:
    """Write one custom attribute into ``attributes``; False when Braze drops the value without a word."""
    if len(name) > MAX_STRING or name in settings.blocklisted_attributes:
        return False
    if value is None:
        attributes.pop(name, None)
        return True
    forced = settings.forced_types.get(name)
    if forced is not None:
        value = _coerced(forced, value)
        if value is None:
            return False
    if isinstance(value, str):
        if len(value) > MAX_STRING:
            return False
    elif isinstance(value, list):
        value = _capped(value, settings.array_cap)
    elif isinstance(value, dict):
        return _write_object(attributes, name, value, settings=settings, merge=merge)
    attributes[name] = value
    return True


def _write_object(
    attributes: dict[str, Any], name: str, value: dict[str, Any], *, settings: WorkspaceSettings, merge: bool
) -> bool:
    present = attributes.get(name)
    if _is_array_change(value):
        kept = (
            [item for item in present if item not in value.get("add", ())]
            if isinstance(present, list)
            else []
        )
        changed = _capped([*kept, *value.get("add", ())], settings.array_cap)
        attributes[name] = [item for item in changed if item not in value.get("remove", ())]
        return True
    if _is_increment(value):
        if present is not None and (isinstance(present, bool) or not isinstance(present, int)):
            return False
        attributes[name] = (present or 0) + value["inc"]
        return True
    if not _is_valid_nested(value):
        return False
    attributes[name] = _merged(present, value) if merge and isinstance(present, dict) else value
    return True


def _is_array_change(value: dict[str, Any]) -> bool:
    return (
        bool(value) and value.keys() <= {"add", "remove"} and all(isinstance(v, list) for v in value.values())
    )


def _is_increment(value: dict[str, Any]) -> bool:
    return value.keys() == {"inc"} and isinstance(value["inc"], int) and not isinstance(value["inc"], bool)


def _capped(values: list[Any], cap: int) -> list[Any]:
    """Keep each value once, at its last place, and the newest ``cap`` of them."""
    unique: list[Any] = []
    for value in values:
        if value in unique:
            unique.remove(value)
        unique.append(value)
    return unique[max(0, len(unique) - cap) :]


def _is_valid_nested(value: Any) -> bool:
    """Return whether every key and value inside is allowed; one that is not drops the whole attribute's
    update.
    """
    if isinstance(value, list):
        return all(_is_valid_nested(item) for item in value)
    if not isinstance(value, dict):
        return value is not None
    if value.keys() == {"$time"}:
        return isinstance(value["$time"], str)
    return all(
        not any(char in key for char in " .$") and _is_valid_nested(item) for key, item in value.items()
    )


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for name, value in new.items():
        before = merged.get(name)
        merged[name] = (
            _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
        )
    return merged


_BOOLEANS: Final = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}


def _coerced(forced: str, value: Any) -> Any:
    """Return ``value`` as the type its attribute is forced to, or None when it does not match."""
    if forced == "boolean":
        return _BOOLEANS.get(str(value).lower())
    if forced == "number":
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if forced == "string":
        return value if isinstance(value, str) else None
    if forced == "array":
        return (
            value
            if isinstance(value, list) or (isinstance(value, dict) and _is_array_change(value))
            else None
        )
    return value if isinstance(value, dict) else None
