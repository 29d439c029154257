"""API-triggered campaigns and Canvases: whether a request is one Braze takes, and whom it means. Nothing is sent.

After Braze's pages of the four endpoints, of ``/sends/id/create``, and of the audience, recipient and schedule objects.
Where those leave open what happens, this is strict: a request that says no audience, no recipients and no broadcast is
for nobody ("No Recipients" in Braze's list of errors).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.sandbox.braze_audience import AudienceError, matches
from airflow_provider_kubit_braze.sandbox.braze_exchange import Answer, json_answer, message

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.sandbox.braze_profiles import Profile
    from airflow_provider_kubit_braze.sandbox.braze_state import Workspace

MAX_RECIPIENTS: Final = 50
MAX_SEND_ID: Final = 64
MAX_ENTRY_PROPERTIES: Final = 50_000
FARTHEST: Final = timedelta(days=90)

_RECIPIENT: Final = frozenset(
    {
        "external_user_id",
        "user_alias",
        "trigger_properties",
        "canvas_entry_properties",
        "send_to_existing_only",
        "attributes",
    }
)
_COMMON: Final = frozenset({"broadcast", "audience", "recipients"})


@dataclass(frozen=True, kw_only=True)
class Triggered:
    """A request that was taken.

    :param kind: ``campaign`` or ``canvas``.
    :param message_id: its id.
    :param broadcast: as sent.
    :param properties: as sent.
    :param send_id: as sent, or made by Braze for a broadcast of a campaign.
    :param schedule: as sent; None for at once.
    :param dispatch_id: made here.
    :param schedule_id: made here for a scheduled one.
    :param at: epoch seconds.
    :param selected: numbers of the profiles that audience and recipients meant at that moment.
    """

    kind: str
    message_id: str
    broadcast: bool
    properties: Any
    send_id: str | None
    schedule: Any
    dispatch_id: str
    schedule_id: str | None
    at: float
    selected: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


class _RefusedError(ValueError):
    """A request is refused, in Braze's words."""


def create_send_id(workspace: Workspace, body: dict[str, Any], _path: str) -> Answer:
    """Answer ``/sends/id/create``."""
    campaign, send_id = body.get("campaign_id"), body.get("send_id")
    if campaign not in workspace.settings.campaigns:
        return message(400, "Invalid Campaign ID")
    if send_id is None:
        send_id = f"{len(workspace.send_ids) + 1:024x}"
    if not isinstance(send_id, str) or not 0 < len(send_id) <= MAX_SEND_ID or not send_id.isascii():
        return message(400, "'send_id' must be at most 64 ASCII characters")
    workspace.send_ids.add((campaign, send_id))
    return json_answer(201, {"message": "success", "send_id": send_id})


def trigger(workspace: Workspace, body: dict[str, Any], path: str) -> Answer:
    """Answer the four endpoints that trigger or schedule; what is applied by now decides who is in an audience."""
    workspace.apply_due()
    kind = "campaign" if path.startswith("/campaigns/") else "canvas"
    try:
        triggered = _read(workspace, body, kind, scheduled=path.endswith("/schedule/create"))
    except (_RefusedError, AudienceError) as error:
        return message(400, str(error))
    workspace.triggered.append(triggered)
    ids = {"dispatch_id": triggered.dispatch_id}
    if triggered.schedule_id is not None:
        ids["schedule_id"] = triggered.schedule_id
    return json_answer(201, {**ids, "message": "success"})


def _read(workspace: Workspace, body: dict[str, Any], kind: str, *, scheduled: bool) -> Triggered:
    properties_field = "trigger_properties" if kind == "campaign" else "canvas_entry_properties"
    known = {*_COMMON, f"{kind}_id", properties_field}
    known |= {"send_id"} if kind == "campaign" else set()
    known |= {"schedule"} if scheduled else set()
    if unknown := sorted(body.keys() - known):
        raise _RefusedError(f"Bad Request: unknown {unknown[0]!r}")
    message_id = body.get(f"{kind}_id")
    there = workspace.settings.campaigns if kind == "campaign" else workspace.settings.canvases
    if not isinstance(message_id, str) or message_id not in there:
        raise _RefusedError("Invalid Campaign ID" if kind == "campaign" else "Invalid Canvas ID")
    properties = body.get(properties_field)
    if properties is not None and not isinstance(properties, dict):
        raise _RefusedError(f"Bad Request: '{properties_field}' must be an object")
    if kind == "canvas" and len(str(properties).encode()) > MAX_ENTRY_PROPERTIES:
        raise _RefusedError("Bad Request: 'canvas_entry_properties' is over 50 KB")
    number = len(workspace.triggered) + 1
    broadcast = body.get("broadcast", False)
    selected = _selected(workspace, body, broadcast, properties_field)
    send_id = body.get("send_id")
    if send_id is not None and (message_id, send_id) not in workspace.send_ids:
        raise _RefusedError("Bad Request: 'send_id' was not created")
    if send_id is None and kind == "campaign" and broadcast:
        send_id = f"{number:024x}"
    schedule = body.get("schedule")
    if scheduled:
        _check_schedule(schedule, now=workspace.clock())
    return Triggered(
        kind=kind,
        message_id=message_id,
        broadcast=broadcast,
        properties=properties,
        send_id=send_id,
        schedule=schedule,
        dispatch_id=f"{number:032x}",
        schedule_id=f"schedule-{number}" if scheduled else None,
        at=workspace.clock(),
        selected=tuple(profile.number for profile in selected),
    )


def _selected(workspace: Workspace, body: dict[str, Any], broadcast: Any, properties: str) -> list[Profile]:
    if not isinstance(broadcast, bool):
        raise _RefusedError("Bad Request: 'broadcast' must be a boolean")
    recipients = body.get("recipients")
    if broadcast and recipients is not None:
        raise _RefusedError("Bad Request: 'recipients' cannot be included when 'broadcast' is true")
    if not broadcast and not recipients:
        raise _RefusedError("No Recipients")
    profiles = list(workspace.directory)
    if recipients is not None:
        profiles = _recipients(workspace, recipients, properties)
    audience = body.get("audience")
    if audience is None:
        return profiles
    # A mistake in it shows also where there is nobody to judge by it.
    matches(audience, {})
    return [profile for profile in profiles if matches(audience, profile.custom)]


def _recipients(workspace: Workspace, recipients: Any, properties: str) -> list[Profile]:
    if not isinstance(recipients, list) or not all(isinstance(one, dict) for one in recipients):
        raise _RefusedError("Bad Request: 'recipients' must be an array of objects")
    if len(recipients) > MAX_RECIPIENTS:
        raise _RefusedError("The max number of external_ids and aliases per request was exceeded")
    other = {"trigger_properties", "canvas_entry_properties"} - {properties}
    found: dict[int, Profile] = {}
    for one in recipients:
        if one.keys() - (_RECIPIENT - other) or ("external_user_id" in one) == ("user_alias" in one):
            raise _RefusedError("Bad Request: a recipient needs one of 'external_user_id' and 'user_alias'")
        if "external_user_id" in one:
            profile = workspace.directory.find("external_id", one["external_user_id"])
        else:
            alias = one["user_alias"]
            if not isinstance(alias, dict) or alias.keys() != {"alias_label", "alias_name"}:
                raise _RefusedError("Bad Request: 'user_alias' needs 'alias_label' and 'alias_name'")
            profile = workspace.directory.find("user_alias", (alias["alias_label"], alias["alias_name"]))
        if profile is not None:
            found[profile.number] = profile
    return list(found.values())


def _check_schedule(schedule: Any, *, now: float) -> None:
    if not isinstance(schedule, dict) or schedule.keys() - {"time", "in_local_time", "at_optimal_time"}:
        raise _RefusedError("Bad Request: 'schedule' must be an object with 'time'")
    local = [schedule.get(name, False) for name in ("in_local_time", "at_optimal_time")]
    if not all(isinstance(value, bool) for value in local):
        raise _RefusedError("Bad Request: 'in_local_time' and 'at_optimal_time' must be booleans")
    try:
        time = datetime.fromisoformat(schedule.get("time") or "")
    except (TypeError, ValueError):
        raise _RefusedError("Bad Request: 'time' cannot be parsed") from None
    if any(local) and time.tzinfo is not None:
        raise _RefusedError("Bad Request: 'time' must have no time zone with local or optimal time")
    moment = time if time.tzinfo else time.replace(tzinfo=UTC)
    current = datetime.fromtimestamp(now, UTC)
    # A local time is over when it is so in the last zone; an optimal one counts by its day.
    grace = timedelta(hours=12 if any(local) else 0, days=1 if local[1] else 0)
    if moment + grace <= current:
        raise _RefusedError("Bad Request: 'time' has passed")
    if moment > current + FARTHEST:
        raise _RefusedError("Bad Request: 'time' is more than 90 days ahead")
