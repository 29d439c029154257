"""Reading Braze's answer: what was accepted, what was refused and in which words, and what is not certain.

Sources: Braze docs "POST: /users/track" and "Errors and responses". The wording of messages varies, so
nothing here matches prose except for the word ``success``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping


SUCCESS = "success"
"""The only message that means that the valid objects were queued."""


class Next(Enum):
    """What to do after an answer."""

    DONE = "done"  # every object has its verdict
    RETRY = "retry"  # try again later; nothing is certain unless the status says so
    SPLIT = "split"  # refused as a whole; halves may pass
    STOP_AUTH = "stop_auth"
    STOP_ENDPOINT = "stop_endpoint"
    STOP_REQUEST = "stop_request"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one answer says about one request.

    :param next: what to do now.
    :param rejected: position in the request -> Braze's words.
    :param unknown: True when the objects that are not ``rejected`` have no certain answer.
    :param applied: True when Braze may have applied the request, so that sending it again may cost data
        points again.
    :param message: Braze's message for people; may hold a key, so redact it before it is shown.
    """

    next: Next
    rejected: Mapping[int, str] = field(default_factory=dict)
    unknown: bool = False
    applied: bool = False
    message: str = ""


# What nearly every answer says; a thousand a second need not make it anew.
_ALL_ACCEPTED = Verdict(next=Next.DONE, applied=True, message=SUCCESS)

# 423 is documented for cohorts only ("Resource locked"); 408 is a gateway's word for a time-out.
_RETRIED = frozenset({408, 423, 425, 429})
# With these Braze did not take the request on, so nothing of it was applied.
_NOT_APPLIED = frozenset({423, 425, 429})


def read_answer(status: int, body: bytes, sent: int) -> Verdict:
    """Judge the answer to a request of ``sent`` objects.

    :param status: HTTP status.
    :param body: the raw body.
    :param sent: number of objects in ``attributes``.
    """
    if 200 <= status < 300:
        return _read_success(body, sent)
    parsed = _parse(body)
    message = _message(parsed, body)
    if status in _RETRIED or status >= 500:
        return Verdict(next=Next.RETRY, applied=status not in _NOT_APPLIED, message=message)
    if status in (401, 403):
        return Verdict(next=Next.STOP_AUTH, message=message)
    # 405 is what a web server that is not Braze says to a POST.
    if status in (404, 405) or 300 <= status < 400:
        return Verdict(next=Next.STOP_ENDPOINT, message=message)
    if status in (400, 413):
        return _read_refusal(status, parsed, message, sent)
    return Verdict(next=Next.STOP_REQUEST, message=message)


def read_cohort_answer(status: int, body: bytes, sent: int) -> Verdict:
    """Judge the answer of a partner cohort endpoint.

    Its success body is not documented (Segment's tests show ``{}``), and it says nothing about single users: a 2xx is a
    success unless its body says something else.

    :param status: HTTP status.
    :param body: the raw body.
    :param sent: number of identifiers sent.
    """
    if not 200 <= status < 300:
        return read_answer(status, body, sent)
    parsed = _parse(body) if body.strip() else {}
    message = _message(parsed, body)
    plain = isinstance(parsed, dict) and not parsed.get("errors")
    success = plain and parsed.get("message", SUCCESS) == SUCCESS
    return Verdict(next=Next.DONE, unknown=not success, applied=True, message=message)


# Nearly all answers of an import are the same few bytes.
@lru_cache(maxsize=16)
def _read_success(body: bytes, sent: int) -> Verdict:
    parsed = _parse(body)
    message = _message(parsed, body)
    if not isinstance(parsed, dict) or parsed.get("message") != SUCCESS:
        return Verdict(next=Next.DONE, unknown=True, applied=True, message=message)
    rejected, mapped = _read_errors(parsed.get("errors"), sent)
    # The counter covers valid objects only. Fewer than the errors explain, and nobody can say who is missing.
    processed = parsed.get("attributes_processed")
    short = type(processed) is int and processed < sent - len(rejected)
    if mapped and not short and not rejected:
        return _ALL_ACCEPTED
    return Verdict(
        next=Next.DONE, rejected=rejected, unknown=short or not mapped, applied=True, message=message
    )


def _read_refusal(status: int, parsed: Any, message: str, sent: int) -> Verdict:
    errors = parsed.get("errors") if isinstance(parsed, dict) else None
    if status == 400 and errors:
        rejected, mapped = _read_errors(errors, sent)
        if mapped and len(rejected) == sent:
            return Verdict(next=Next.DONE, rejected=rejected, message=message)
    if sent > 1:
        return Verdict(next=Next.SPLIT, message=message)
    return Verdict(next=Next.DONE, rejected={0: message}, message=message)


def _read_errors(errors: Any, sent: int) -> tuple[dict[int, str], bool]:
    """Return the words for each position, and whether every error could be given to an object."""
    if errors in (None, []):
        return {}, True
    if not isinstance(errors, list):
        return {}, False
    rejected: dict[int, str] = {}
    mapped = True
    for error in errors:
        index = error.get("index") if isinstance(error, dict) else None
        of_attributes = isinstance(error, dict) and error.get("input_array") in (None, "attributes")
        if type(index) is not int or not 0 <= index < sent or not of_attributes:
            mapped = False
            continue
        words = str(error.get("type") or error.get("message") or "refused without a reason")
        rejected[index] = f"{rejected[index]}; {words}" if index in rejected else words
    return rejected, mapped


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _message(parsed: Any, body: bytes) -> str:
    if isinstance(parsed, dict) and isinstance(parsed.get("message"), str):
        return str(parsed["message"])[:500]
    return body[:200].decode("utf-8", "replace").strip() or "an empty answer"
