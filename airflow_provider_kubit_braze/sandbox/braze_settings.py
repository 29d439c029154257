"""How the local Braze's workspace is set up: keys, plan, limits, delays. Every value can be changed while it
runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

DEFAULT_REST_KEY: Final = "sandbox-rest-key"
DEFAULT_PARTNER: Final = "kubit"
DEFAULT_PARTNER_API_KEY: Final = "sandbox-partner-api-key"
DEFAULT_CLIENT_SECRET: Final = "sandbox-data-import-key"  # noqa: S105 - opens nothing but the sandbox

TRACK: Final = "users.track"
TRACK_BULK: Final = "users.track.bulk"
TRACK_SYNC: Final = "users.track.sync"
EXPORT_IDS: Final = "users.export.ids"
COHORTS: Final = "partners.cohorts"
SEND_CAMPAIGN: Final = "campaigns.trigger.send"
SCHEDULE_CAMPAIGN: Final = "campaigns.trigger.schedule.create"
SEND_CANVAS: Final = "canvas.trigger.send"
SCHEDULE_CANVAS: Final = "canvas.trigger.schedule.create"
SEND_ID: Final = "sends.id.create"
MESSAGING: Final = (SEND_CAMPAIGN, SCHEDULE_CAMPAIGN, SEND_CANVAS, SCHEDULE_CANVAS)
PERMISSIONS: Final = frozenset({TRACK, TRACK_BULK, TRACK_SYNC, EXPORT_IDS, *MESSAGING, SEND_ID})

DEFAULT_CAMPAIGN: Final = "sandbox-campaign"
DEFAULT_CANVAS: Final = "sandbox-canvas"

PROFILES: Final = frozenset({"default", "legacy", "mau"})
RATE_HEADERS: Final = frozenset({"epoch", "delta", "empty", "none", "retry_after"})
FORCED_TYPES: Final = frozenset({"boolean", "number", "string", "array", "object"})

Windows = tuple[tuple[int, float], ...]

DEFAULT_WINDOWS: Final[Mapping[str, Windows]] = {
    TRACK: ((3000, 3.0),),
    TRACK_BULK: ((50, 1.0),),
    TRACK_SYNC: ((500, 60.0),),
    EXPORT_IDS: ((250, 60.0),),
    COHORTS: ((250_000, 3600.0),),
    # The stricter limit, of requests with a connected audience; the others share 250,000 an hour.
    **dict.fromkeys(MESSAGING, ((250, 60.0),)),
    SEND_ID: ((100, 86_400.0),),
}


class SettingError(ValueError):
    """A setting of the local Braze has an unknown name or an impossible value."""


@dataclass(frozen=True, kw_only=True)
class WorkspaceSettings:
    """Everything about the workspace that a test may want different.

    The limits are those of Braze's "API rate limits" page; see each field.

    :param keys: REST API key to the permissions it holds.
    :param profile: objects allowed in one ``/users/track`` request: ``default`` 75 over all three arrays,
        ``legacy`` 75 in each array, ``mau`` 50 over all three (Braze: "Rate limits", batching).
    :param bulk_objects: objects allowed in one ``/users/track/bulk`` request.
    :param windows: limit name to its windows, each ``(requests, seconds)``; an empty tuple means unlimited.
        The names are the permissions, and ``partners.cohorts``.
    :param rate_headers: ``epoch`` as documented; ``delta`` seconds until the reset; ``empty`` values;
        ``none`` sent; ``retry_after`` as MAU plans were seen to answer: a 429 carries only
        ``x-ratelimit-retry-after``.
    :param apply_delay: seconds between the 201 and the change being visible (Braze queues, it does not
        apply).
    :param latency_ms: milliseconds between the arrival of a request and its answer.
    :param latency_jitter_ms: up to this many milliseconds more, drawn evenly.
    :param array_cap: longest array attribute; beyond it the oldest values go (Braze's older pages say 25,
        newer 500).
    :param blocklisted_attributes: names whose values are dropped on arrival, without a word.
    :param forced_types: attribute name to the type it is forced to; other values are ignored, without a word.
    :param blocked_external_ids: users Braze refuses ("provided external_id is blacklisted and disallowed").
    :param partner_api_keys: partner's path name to the key Braze gave it.
    :param client_secrets: data import key to the partners it is enabled for.
    :param campaigns: ids of the API-triggered campaigns that the dashboard has.
    :param canvases: ids of its API-triggered Canvases.
    :param recorded_requests: how many of the last requests are kept for reading; 0 keeps none.
    :param seed: makes jitter and faults with a probability repeatable.
    """

    keys: Mapping[str, frozenset[str]] = field(default_factory=lambda: {DEFAULT_REST_KEY: PERMISSIONS})
    profile: str = "default"
    bulk_objects: int = 1000
    windows: Mapping[str, Windows] = field(default_factory=lambda: dict(DEFAULT_WINDOWS))
    rate_headers: str = "epoch"
    apply_delay: float = 0.05
    latency_ms: float = 0.0
    latency_jitter_ms: float = 0.0
    array_cap: int = 25
    blocklisted_attributes: frozenset[str] = frozenset()
    forced_types: Mapping[str, str] = field(default_factory=dict)
    blocked_external_ids: frozenset[str] = frozenset()
    partner_api_keys: Mapping[str, str] = field(
        default_factory=lambda: {DEFAULT_PARTNER: DEFAULT_PARTNER_API_KEY}
    )
    client_secrets: Mapping[str, frozenset[str]] = field(
        default_factory=lambda: {DEFAULT_CLIENT_SECRET: frozenset({DEFAULT_PARTNER})}
    )
    campaigns: frozenset[str] = frozenset({DEFAULT_CAMPAIGN})
    canvases: frozenset[str] = frozenset({DEFAULT_CANVAS})
    recorded_requests: int = 200
    seed: int = 0

    def changed(self, changes: Mapping[str, Any]) -> WorkspaceSettings:
        """Return these settings with JSON ``changes`` made; ``windows`` merge by name, all else is replaced.

        :raises SettingError: for a name that is none of ours, or a value that cannot be.
        """
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in _READERS:
                raise SettingError(f"unknown setting {name!r}; known are {', '.join(sorted(_READERS))}")
            values[name] = _READERS[name](name, value)
        if "windows" in values:
            values["windows"] = {**self.windows, **values["windows"]}
        return replace(self, **values)

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them; ``changed`` reads it back."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _wrong(name: str, value: Any, wanted: str) -> SettingError:
    return SettingError(f"{name} must be {wanted}, not {value!r}")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise _wrong(name, value, "a number of at least 0")
    return value


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(name, value, "a whole number of at least 0")
    return value


def _words(name: str, value: Any) -> frozenset[str]:
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(
        isinstance(word, str) for word in value
    ):
        raise _wrong(name, value, "a list of strings")
    return frozenset(value)


def _one_of(choices: frozenset[str]) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if value not in choices:
            raise _wrong(name, value, f"one of {', '.join(sorted(choices))}")
        return str(value)

    return read


def _mapping_of(read_item: Callable[[str, Any], Any]) -> Callable[[str, Any], dict[str, Any]]:
    def read(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _wrong(name, value, "an object")
        return {key: read_item(f"{name}.{key}", item) for key, item in value.items()}

    return read


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "a string")
    return value


def _permissions(name: str, value: Any) -> frozenset[str]:
    words = _words(name, value)
    if not words <= PERMISSIONS:
        raise _wrong(name, value, f"a list out of {', '.join(sorted(PERMISSIONS))}")
    return words


def _window_list(name: str, value: Any) -> Windows:
    if name.removeprefix("windows.") not in DEFAULT_WINDOWS:
        raise SettingError(f"unknown limit {name!r}; known are {', '.join(sorted(DEFAULT_WINDOWS))}")
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value
    ):
        raise _wrong(name, value, "a list of [requests, seconds]")
    windows = tuple((_count(name, requests), float(_number(name, seconds))) for requests, seconds in value)
    if any(seconds == 0 for _, seconds in windows):
        raise _wrong(name, value, "a list of [requests, seconds] with seconds above 0")
    return windows


_READERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "keys": _mapping_of(_permissions),
    "profile": _one_of(PROFILES),
    "bulk_objects": _count,
    "windows": _mapping_of(_window_list),
    "rate_headers": _one_of(RATE_HEADERS),
    "apply_delay": _number,
    "latency_ms": _number,
    "latency_jitter_ms": _number,
    "array_cap": _count,
    "blocklisted_attributes": _words,
    "forced_types": _mapping_of(_one_of(FORCED_TYPES)),
    "blocked_external_ids": _words,
    "partner_api_keys": _mapping_of(_text),
    "client_secrets": _mapping_of(_words),
    "campaigns": _words,
    "canvases": _words,
    "recorded_requests": _count,
    "seed": _count,
}
