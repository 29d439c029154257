"""Braze's ``/users/track`` endpoints: plain, bulk and synchronous."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.sandbox import braze_rules as rules
from airflow_provider_kubit_braze.sandbox.braze_exchange import Answer, json_answer, message
from airflow_provider_kubit_braze.sandbox.braze_profiles import summaries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kubit_braze.sandbox.braze_state import Workspace

BULK_PATH: Final = "/users/track/bulk"

MAX_BULK_BODY: Final = 2_000_000
"""Bytes in a ``/users/track/bulk`` body; more is a 400, and beyond 4 MB a 413 as everywhere."""


def track(workspace: Workspace, body: dict[str, Any], path: str) -> Answer:
    """Answer ``/users/track`` and ``/users/track/bulk``: accepted objects are queued."""
    bulk = path == BULK_PATH
    if _has_no_array(body):
        return message(400, rules.NOTHING_VALID)
    if rules.too_many(body, settings=workspace.settings, bulk=bulk):
        return message(400, rules.TOO_MANY_OBJECTS)
    verdict = _judge(workspace, body, path)
    if bulk and rules.most_objects_of_one_user(verdict) > rules.BULK_OBJECTS_PER_USER:
        return message(400, rules.TOO_MANY_OBJECTS)
    workspace.accept(verdict)
    if not verdict.accepted:
        return _nothing_valid(verdict)
    content: dict[str, Any] = {"message": "success"}
    for name, count in verdict.processed.items():
        content[f"{name}_processed"] = count
    if verdict.errors:
        content["errors"] = verdict.errors
    return json_answer(201, content)


def sync(workspace: Workspace, body: dict[str, Any], path: str) -> Answer:
    """Answer ``/users/track/sync``: the one object is applied, and the answer shows what came of it."""
    if _has_no_array(body):
        return message(400, rules.NOTHING_VALID)
    if sum(len(body.get(name) or ()) for name in rules.ARRAYS) > 1:
        return message(400, rules.TOO_MANY_OBJECTS)
    verdict = _judge(workspace, body, path)
    workspace.apply_now(verdict)
    if not verdict.accepted:
        return _nothing_valid(verdict)
    return json_answer(201, {"users": _changed(workspace, verdict), "message": "success"})


def _has_no_array(body: Mapping[str, Any]) -> bool:
    """Return whether none of the three fields is there, or one is no array."""
    sent = [body[name] for name in rules.ARRAYS if body.get(name) is not None]
    return not sent or not all(isinstance(objects, list) for objects in sent)


def _nothing_valid(verdict: rules.Verdict) -> Answer:
    content: dict[str, Any] = {"message": rules.NOTHING_VALID}
    return json_answer(400, {**content, "errors": verdict.errors} if verdict.errors else content)


def _judge(workspace: Workspace, body: dict[str, Any], path: str) -> rules.Verdict:
    refusers = workspace.faults.refusers(path) if workspace.faults else {}
    refused: Mapping[Any, str] = {}
    if refusers or workspace.settings.blocked_external_ids:
        refused = {
            **dict.fromkeys(workspace.settings.blocked_external_ids, rules.BLOCKED_USER),
            **{name: rule.message or rules.BLOCKED_USER for name, rule in refusers.items()},
        }
    verdict = rules.judge(body, refused=refused)
    for rule in {id(refusers[name]): refusers[name] for name in verdict.refused if name in refusers}.values():
        rule.fired += 1
    return verdict


def _changed(workspace: Workspace, verdict: rules.Verdict) -> list[dict[str, Any]]:
    """Return the user of the one accepted object as it is now; nothing when Braze has no such user."""
    for run in verdict.runs:
        item = run.objects[0]
        profile = workspace.directory.find(run.kind, run.identities[0])
        if profile is None:
            return []
        written = {name: profile.custom[name] for name in run.shape.names if name in profile.custom}
        return [{run.kind: item[run.kind], "custom_attributes": written}]
    kind, identity, item = (verdict.events or verdict.purchases)[0]
    profile = workspace.directory.find(kind, identity)
    if profile is None:
        return []
    if verdict.events:
        return [{kind: item[kind], "custom_events": summaries(profile.events, only=item["name"])}]
    return [{kind: item[kind], "purchase_events": summaries(profile.purchases, only=item["product_id"])}]
