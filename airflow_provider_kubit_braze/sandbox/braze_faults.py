"""Faults on demand: rules that make the local Braze fail in the ways a network and a service can."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from random import Random
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_kubit_braze.sandbox.braze_exchange import Answer

MALFORMED_BODY: Final = b'{"message":"succ'

KINDS: Final = frozenset(
    {
        "status",
        "drop_before",
        "drop_after",
        "delay",
        "malformed",
        "non_success_message",
        "error_without_index",
        "error_index_out_of_range",
        "reject_ids",
    }
)

_APPLIES: Final = KINDS - {"status", "drop_before", "non_success_message"}


class FaultError(ValueError):
    """A fault rule has an unknown name or an impossible value."""


@dataclass(kw_only=True)
class Fault:
    """One rule. Rules are tried in the order they were added; the first that fires decides about the request.

    ``reject_ids`` is apart: it goes with any other rule, and has fired when a request held one of its ids.

    :param kind: ``status`` answers it; ``drop_before`` / ``drop_after`` close the connection without an
        answer, without or after applying; ``delay`` answers late; ``malformed`` answers a body that is no
        JSON; ``non_success_message`` answers 201 with another message; ``error_without_index`` and
        ``error_index_out_of_range`` add an error that fits no object; ``reject_ids`` refuses the objects of
        ``ids``.
    :param endpoint: path it concerns, ``*`` as wildcard (``/partners/*``); None concerns every Braze path.
    :param status: HTTP status of ``status``, ``non_success_message`` and ``malformed``.
    :param body: answered instead of the built-in one: text as it is, anything else as JSON.
    :param headers: added to the answer's headers.
    :param message: text of the error or of the message.
    :param ids: identifier values that ``reject_ids`` refuses, of whatever kind.
    :param seconds: how late ``delay`` answers, in seconds.
    :param apply: whether the request is processed as usual behind the fault; None leaves it to the kind
        (``status``, ``drop_before`` and ``non_success_message`` do not).
    :param times: how often it fires; None is for ever (the default of ``reject_ids``; 1 otherwise).
    :param probability: of firing, each time it could.
    :param after: so many matching requests pass untouched first.
    """

    kind: str
    endpoint: str | None = None
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str | None = None
    ids: Sequence[str] = ()
    seconds: float = 0.0
    apply: bool | None = None
    times: int | None = 1
    probability: float = 1.0
    after: int = 0
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    @property
    def applies(self) -> bool:
        """Whether the request is processed behind this fault."""
        return self.kind in _APPLIES if self.apply is None else self.apply

    def as_json(self) -> dict[str, Any]:
        """Return the rule and how often it was ``seen`` and has ``fired``."""
        return asdict(self)


_NAMES: Final = frozenset(item.name for item in fields(Fault) if item.init)


def fault_from_json(rule: Mapping[str, Any]) -> Fault:
    """Read one rule.

    :raises FaultError: for an unknown name or kind, or a value that cannot be.
    """
    unknown = sorted(set(rule) - _NAMES)
    if unknown:
        raise FaultError(f"unknown in a fault: {', '.join(unknown)}; known are {', '.join(sorted(_NAMES))}")
    kind = rule.get("kind")
    if kind not in KINDS:
        raise FaultError(f"kind must be one of {', '.join(sorted(KINDS))}, not {kind!r}")
    status = rule.get("status")
    if kind == "status" and status is None:
        raise FaultError("a fault of kind status needs a status")
    if status is not None and (not isinstance(status, int) or not 200 <= status <= 599):
        raise FaultError(f"status must be 200 to 599, not {status!r}")
    if kind == "reject_ids" and not rule.get("ids"):
        raise FaultError("a fault of kind reject_ids needs ids")
    if kind == "delay" and not rule.get("seconds"):
        raise FaultError("a fault of kind delay needs seconds")
    for name, lowest in (("times", 1), ("after", 0)):
        value = rule.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < lowest):
            raise FaultError(f"{name} must be a whole number of at least {lowest}, not {value!r}")
    probability = rule.get("probability", 1.0)
    if not isinstance(probability, (int, float)) or not 0 < probability <= 1:
        raise FaultError(f"probability must be above 0 and at most 1, not {probability!r}")
    return Fault(**{"times": None if kind == "reject_ids" else 1, **rule})


class Faults:
    """The rules in force.

    :param seed: makes rules with a probability repeatable.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._random = Random(seed)
        self._rules: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def rules(self) -> Sequence[Fault]:
        """All rules, spent ones too, in the order they were added."""
        return tuple(self._rules)

    def add(self, rules: Sequence[Fault]) -> None:
        """Put ``rules`` behind those in force."""
        self._rules.extend(rules)

    def clear(self) -> None:
        """Forget all rules."""
        self._rules.clear()

    def next(self, path: str) -> Fault | None:
        """Return the rule that decides about a request to ``path``, and count that it fired."""
        for rule in self._rules:
            if rule.kind != "reject_ids" and self._is_due(rule, path):
                rule.fired += 1
                return rule
        return None

    def refusers(self, path: str) -> Mapping[str, Fault]:
        """Return each id to be refused in this request to ``path``, with its rule; ``fired`` is left to the
        caller.
        """
        due = [rule for rule in self._rules if rule.kind == "reject_ids" and self._is_due(rule, path)]
        return {identifier: rule for rule in reversed(due) for identifier in rule.ids}

    def _is_due(self, rule: Fault, path: str) -> bool:
        if rule.endpoint is not None and not fnmatchcase(path, rule.endpoint):
            return False
        if rule.times is not None and rule.fired >= rule.times:
            return False
        rule.seen += 1
        if rule.seen <= rule.after:
            return False
        return rule.probability >= 1 or self._random.random() < rule.probability


def spoil(answer: Answer, fault: Fault) -> None:
    """Do to ``answer`` what ``fault`` says."""
    answer.delay = fault.seconds
    if fault.kind in ("drop_before", "drop_after"):
        answer.drop = True
    elif fault.kind == "status":
        answer.status = fault.status or 500
        answer.body = orjson.dumps({"message": fault.message or f"Injected {answer.status}"})
    elif fault.kind == "malformed":
        answer.status, answer.body = fault.status or answer.status, MALFORMED_BODY
    elif fault.kind == "non_success_message":
        answer.status = fault.status or 201
        answer.body = orjson.dumps({"message": fault.message or "queued"})
    elif fault.kind in ("error_without_index", "error_index_out_of_range"):
        content = orjson.loads(answer.body)
        error: dict[str, Any] = {"type": fault.message or "Injected error", "input_array": "attributes"}
        if fault.kind == "error_index_out_of_range":
            error["index"] = 1_000_000
        content["errors"] = [*content.get("errors", []), error]
        answer.body = orjson.dumps(content)
    if fault.body is not None:
        answer.body = fault.body.encode() if isinstance(fault.body, str) else orjson.dumps(fault.body)
    for name, value in fault.headers.items():
        answer.headers += f"{name.lower()}: {value}\r\n".encode()
