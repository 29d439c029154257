"""Which objects of a ``/users/track`` body Braze accepts, and in which words it refuses the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.sandbox.braze_profiles import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_kubit_braze.sandbox.braze_settings import WorkspaceSettings

ARRAYS: Final = ("attributes", "events", "purchases")
UPDATE_ONLY: Final = "_update_existing_only"
MERGE: Final = "_merge_objects"

EXTERNAL_ID_BYTES: Final = 988
"""An external_id has fewer bytes than this (text of a live error quoted in RudderStack's code; no Braze page
says it)."""

BULK_OBJECTS_PER_USER: Final = 100
"""Objects for one user in a ``/users/track/bulk`` request."""

NOTHING_VALID: Final = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
NO_IDENTIFIER: Final = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
TOO_LONG_ID: Final = "'external_id' must be fewer than 988 bytes"
BAD_EMAIL: Final = "The value provided for the 'email' field is not a valid email."
BLOCKED_USER: Final = "provided external_id is blacklisted and disallowed"
TOO_MANY_OBJECTS: Final = "Max Input Length Exceeded"

_NO_WRITES: Final = frozenset({*KINDS, "alias_name", "alias_label", UPDATE_ONLY, MERGE, "push_token_import"})


@dataclass(frozen=True, slots=True)
class Shape:
    """What the keys of an attributes object say: computed once for all objects with the same keys.

    :param kind: the identifier that counts, or None when there is none.
    :param names: the attributes written.
    :param flagged: whether ``_update_existing_only`` is among the keys.
    """

    kind: Kind | None
    names: tuple[str, ...]
    flagged: bool


@lru_cache(maxsize=4096)
def shape_of(keys: tuple[str, ...]) -> Shape:
    """Return the shape of an object with these keys. E-mail and phone are attributes when another identifier
    counts.
    """
    kind = next((kind for kind in KINDS if kind in keys), None)
    contact = {"email", "phone"} - {kind}
    return Shape(kind, tuple(k for k in keys if k not in _NO_WRITES or k in contact), UPDATE_ONLY in keys)


@dataclass(slots=True)
class Run:
    """Accepted attributes objects of one shape, in the order they were sent.

    :param shape: of all of them.
    :param kind: the identifier that counts in them.
    :param identities: the user each is for; an alias as ``(label, name)``.
    :param objects: as sent.
    """

    shape: Shape
    kind: Kind
    identities: list[Any]
    objects: list[dict[str, Any]]


Occurrence = tuple[Kind, Any, dict[str, Any]]
"""An accepted event or purchase: identifier kind, identity, object as sent."""


@dataclass(slots=True)
class Verdict:
    """What becomes of a body.

    :param runs: accepted attributes objects.
    :param events: accepted events.
    :param purchases: accepted purchases.
    :param processed: accepted objects of each array that was sent.
    :param errors: Braze's entries for the others: ``type``, ``input_array``, ``index``.
    :param refused: identities refused because the caller asked for it.
    """

    runs: list[Run] = field(default_factory=list)
    events: list[Occurrence] = field(default_factory=list)
    purchases: list[Occurrence] = field(default_factory=list)
    processed: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    refused: set[Any] = field(default_factory=set)

    @property
    def accepted(self) -> int:
        """Objects accepted, over all arrays."""
        return sum(self.processed.values())


def too_many(body: Mapping[str, Any], *, settings: WorkspaceSettings, bulk: bool) -> bool:
    """Return whether the body holds more objects than the plan allows in one request; then all of it is
    refused.
    """
    counts = [len(body[name]) for name in ARRAYS if isinstance(body.get(name), list)]
    if bulk:
        return sum(counts) > settings.bulk_objects
    if settings.profile == "legacy":
        return max(counts, default=0) > 75
    return sum(counts) > (50 if settings.profile == "mau" else 75)


def judge(body: Mapping[str, Any], *, refused: Mapping[Any, str]) -> Verdict:
    """Judge every object of ``body``.

    :param refused: identities to refuse, with the words to do it in.
    """
    verdict = Verdict()
    for name in ARRAYS:
        objects = body.get(name)
        if not isinstance(objects, list):
            continue
        before = len(verdict.errors)
        if name == "attributes":
            run = _one_run(objects, refused)
            verdict.runs = _runs(objects, refused, verdict) if run is None else [run]
        elif name == "events":
            verdict.events = _occurrences(name, objects, _event_error, refused, verdict)
        else:
            verdict.purchases = _occurrences(name, objects, _purchase_error, refused, verdict)
        verdict.processed[name] = len(objects) - (len(verdict.errors) - before)
    return verdict


def _one_run(objects: list[Any], refused: Mapping[Any, str]) -> Run | None:
    """Return all objects as one run when they are alike and plainly right: the usual body, judged without a
    loop.
    """
    if set(map(type, objects)) != {dict}:
        return None
    keys = set(map(tuple, objects))
    if len(keys) != 1:
        return None
    shape = shape_of(keys.pop())
    if shape.kind != "external_id" or "email" in shape.names:
        return None
    ids: list[str] = list(map(itemgetter("external_id"), objects))
    if set(map(type, ids)) != {str} or not all(ids) or max(map(len, ids)) * 4 >= EXTERNAL_ID_BYTES:
        return None
    if refused and not refused.keys().isdisjoint(ids):
        return None
    return Run(shape, shape.kind, ids, objects)


def _runs(objects: list[Any], refused: Mapping[Any, str], verdict: Verdict) -> list[Run]:
    accepted: list[tuple[Shape, Any, dict[str, Any]]] = []
    for index, item in enumerate(objects):
        shape = shape_of(tuple(item)) if isinstance(item, dict) else shape_of(())
        identity, problem = identify(item, shape.kind)
        if problem is None and "email" in shape.names and not _is_email_or_null(item["email"]):
            problem = BAD_EMAIL
        problem = problem or _refusal(identity, refused, verdict)
        if problem is None:
            accepted.append((shape, identity, item))
        else:
            verdict.errors.append({"type": problem, "input_array": "attributes", "index": index})
    return [
        Run(shape, shape.kind, [identity for _, identity, _ in entries], [item for _, _, item in entries])
        for shape, entries in ((shape, list(group)) for shape, group in groupby(accepted, key=itemgetter(0)))
        if shape.kind is not None
    ]


def _occurrences(
    array: str,
    objects: list[Any],
    find_error: Callable[[Mapping[str, Any]], str | None],
    refused: Mapping[Any, str],
    verdict: Verdict,
) -> list[Occurrence]:
    accepted: list[Occurrence] = []
    for index, item in enumerate(objects):
        kind = next((kind for kind in KINDS if kind in item), None) if isinstance(item, dict) else None
        identity, problem = identify(item, kind)
        problem = problem or find_error(item) or _refusal(identity, refused, verdict)
        if problem is None and kind is not None:
            accepted.append((kind, identity, item))
        else:
            verdict.errors.append({"type": problem, "input_array": array, "index": index})
    return accepted


def _refusal(identity: Any, refused: Mapping[Any, str], verdict: Verdict) -> str | None:
    name = identity[1] if isinstance(identity, tuple) else identity
    problem = refused.get(name)
    if problem is not None:
        verdict.refused.add(name)
    return problem


def identify(item: Any, kind: Kind | None) -> tuple[Any, str | None]:
    """Return whom ``item`` is about and None, or anything and what is wrong with its identifier."""
    if kind is None:
        return None, NO_IDENTIFIER
    value = item[kind]
    if kind == "user_alias":
        return _alias(value)
    if value is None or value == "":
        return None, NO_IDENTIFIER
    if not isinstance(value, str):
        return None, f"'{kind}' must be a string"
    if kind == "external_id" and len(value.encode()) >= EXTERNAL_ID_BYTES:
        return None, TOO_LONG_ID
    if kind == "email" and "@" not in value:
        return None, BAD_EMAIL
    if kind == "phone" and not any(char.isdigit() for char in value):
        return None, "The value provided for the 'phone' field is not a valid phone number."
    return value, None


def _alias(value: Any) -> tuple[Any, str | None]:
    if value is None:
        return None, NO_IDENTIFIER
    if isinstance(value, dict):
        alias = value.get("alias_label"), value.get("alias_name")
        if all(isinstance(part, str) and part for part in alias):
            return alias, None
    return None, "'user_alias' must be an object with 'alias_name' and 'alias_label'"


def _is_email_or_null(value: Any) -> bool:
    return value is None or (isinstance(value, str) and "@" in value)


def _event_error(item: Mapping[str, Any]) -> str | None:
    if not isinstance(item.get("name"), str) or not item["name"]:
        return "'name' is required"
    return None if is_time(item.get("time")) else "'time' is not valid"


def _purchase_error(item: Mapping[str, Any]) -> str | None:
    for name in ("product_id", "currency"):
        if not isinstance(item.get(name), str) or not item[name]:
            return f"'{name}' is required"
    price, quantity = item.get("price"), item.get("quantity", 1)
    if isinstance(price, bool) or not isinstance(price, (int, float)):
        return "'price' is not valid"
    if isinstance(quantity, bool) or not isinstance(quantity, int) or not 1 <= quantity <= 100:
        return "'quantity' is not valid"
    return None if is_time(item.get("time")) else "'time' is not valid"


def is_time(value: Any) -> bool:
    """Return whether ``value`` is a time in ISO 8601."""
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def most_objects_of_one_user(verdict: Verdict) -> int:
    """Return how many accepted objects the most frequent user has."""
    counts: dict[Any, int] = {}
    everybody: list[Sequence[Any]] = [[(run.kind, who) for who in run.identities] for run in verdict.runs]
    everybody += [[(kind, who) for kind, who, _ in found] for found in (verdict.events, verdict.purchases)]
    for identities in everybody:
        for identity in identities:
            counts[identity] = counts.get(identity, 0) + 1
    return max(counts.values(), default=0)
