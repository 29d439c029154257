"""Connected audiences: whether a profile is in one, by its custom attributes (Braze: "Connected audience object").

Comparisons that the local Braze cannot judge (regular expressions, times, subscriptions, the last use of an app) are
refused by name rather than guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ABSENT: Final = object()

_PRESENCE: Final[Mapping[str, bool]] = {"exists": True, "does_not_exist": False}
_NUMBERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "greater_than": lambda mine, value: mine > value,
    "greater_than_or_equal_to": lambda mine, value: mine >= value,
    "less_than": lambda mine, value: mine < value,
    "less_than_or_equal_to": lambda mine, value: mine <= value,
}
# Braze's word for "not" differs by the attribute's type: boolean, and text or number.
_NOT_EQUAL: Final[Mapping[str, Callable[[Any], bool]]] = {
    "does_not_equal": lambda value: isinstance(value, bool),
    "not_equal": lambda value: isinstance(value, (str, int, float)) and not isinstance(value, bool),
}
_MEMBER: Final[Mapping[str, bool]] = {"includes_value": True, "does_not_include_value": False}
_ELSEWHERE: Final = frozenset(
    {
        "matches_regex",
        "does_not_match_regex",
        "less_than_x_days_ago",
        "greater_than_x_days_ago",
        "less_than_x_days_in_the_future",
        "greater_than_x_days_in_the_future",
        "after",
        "before",
    }
)
_OTHER_FILTERS: Final = frozenset({"push_subscription_status", "email_subscription_status", "last_used_app"})


class AudienceError(ValueError):
    """An audience is none, or is one that the local Braze cannot judge."""


def matches(audience: Any, custom: Mapping[str, Any]) -> bool:
    """Return whether a profile with these custom attributes is in the audience.

    :raises AudienceError: when the audience is not one; all of it is looked at.
    """
    if not isinstance(audience, dict) or len(audience) != 1:
        raise AudienceError("Bad Request: 'audience' must be one filter, or 'AND' or 'OR' of several")
    ((name, content),) = audience.items()
    if name in ("AND", "OR"):
        if not isinstance(content, list) or not content:
            raise AudienceError(f"Bad Request: '{name}' must be a non-empty array")
        each = [matches(one, custom) for one in content]
        return all(each) if name == "AND" else any(each)
    if name in _OTHER_FILTERS:
        raise AudienceError(f"the local Braze cannot judge the filter '{name}'")
    if name != "custom_attribute" or not isinstance(content, dict):
        raise AudienceError(f"Bad Request: '{name}' is no filter of a connected audience")
    return _attribute(content, custom)


def _attribute(content: dict[str, Any], custom: Mapping[str, Any]) -> bool:
    attribute, comparison = content.get("custom_attribute_name"), content.get("comparison")
    if content.keys() - {"custom_attribute_name", "comparison", "value"} or not isinstance(attribute, str):
        raise AudienceError("Bad Request: 'custom_attribute' needs 'custom_attribute_name' and 'comparison'")
    if not isinstance(comparison, str):
        raise AudienceError("Bad Request: 'comparison' must be a string")
    mine = custom.get(attribute, _ABSENT)
    if comparison in _PRESENCE:
        return (mine is not _ABSENT) == _PRESENCE[comparison]
    value = content.get("value", _ABSENT)
    if comparison in _ELSEWHERE:
        raise AudienceError(f"the local Braze cannot judge the comparison '{comparison}'")
    if isinstance(value, (str, bool, int, float)):
        if comparison == "equals":
            return _same(mine, value)
        if comparison in _NOT_EQUAL and _NOT_EQUAL[comparison](value):
            return not _same(mine, value)
        if comparison in _MEMBER:
            held = isinstance(mine, list) and any(_same(one, value) for one in mine)
            return held == _MEMBER[comparison]
        if comparison in _NUMBERS and not isinstance(value, (str, bool)):
            return (
                isinstance(mine, (int, float))
                and not isinstance(mine, bool)
                and _NUMBERS[comparison](mine, value)
            )
    raise AudienceError(f"Bad Request: '{comparison}' is no comparison for this value")


def _same(mine: Any, value: Any) -> bool:
    """Compare as types do: true is not 1 and not "true"."""
    return isinstance(mine, bool) == isinstance(value, bool) and mine is not _ABSENT and mine == value
