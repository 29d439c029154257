"""Trigger a campaign or a Canvas: one request, and whether Braze took it, refused it, or nobody can say.

A message cannot be taken back and Braze knows no idempotency key, so nothing here is ever sent a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_kubit_braze.core.campaign import CREATE_SEND_ID_PATH
from airflow_provider_kubit_braze.exceptions import BrazeError

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.braze.client import BrazeClient, BrazeResponse
    from airflow_provider_kubit_braze.core.campaign import CampaignRequest


@dataclass(frozen=True, kw_only=True)
class TriggerAnswer:
    """How a request to trigger a message ended.

    :param state: ``sent``: Braze took it; ``not_sent``: certainly not; ``unknown``: no answer tells.
    :param dispatch_id: Braze's id of the dispatch, when it took it.
    :param schedule_id: Braze's id of the schedule, with which it can be changed or deleted there.
    :param error: what went wrong, when it did not.
    """

    state: Literal["sent", "not_sent", "unknown"]
    dispatch_id: str | None = None
    schedule_id: str | None = None
    error: BrazeError | None = None


def trigger(client: BrazeClient, request: CampaignRequest) -> TriggerAnswer:
    """Send the request, once.

    Braze says of 4xx that nothing was sent ("API errors and responses"). A 5xx, 408, a time-out or a broken connection
    may have come after it was; so may a 2xx that does not say success.

    :param client: for single calls.
    :param request: what to send to whom.
    """
    try:
        response = client.send(request.path, request.body())
    except BrazeError as error:
        return TriggerAnswer(state="not_sent" if error.unsent else "unknown", error=error)
    if response.accepted:
        body = response.body or {}
        return TriggerAnswer(
            state="sent", dispatch_id=_text(body, "dispatch_id"), schedule_id=_text(body, "schedule_id")
        )
    return TriggerAnswer(
        state="not_sent" if _was_refused(response) else "unknown",
        error=client.refusal(request.path, _without_users(response, request)),
    )


def create_send_id(client: BrazeClient, *, campaign_id: str, send_id: str) -> None:
    """Tell Braze of a send id, so that a send may carry it: the key needs ``sends.id.create``, and 100 a day are free.

    :raises BrazeError: as ``BrazeClient.post`` does. Nothing was sent to anybody by then.
    """
    client.post(CREATE_SEND_ID_PATH, {"campaign_id": campaign_id, "send_id": send_id})


def _was_refused(response: BrazeResponse) -> bool:
    # 408 is a time-out: some gateway stopped waiting for whoever had the request.
    return 300 <= response.status < 500 and response.status not in (408, 499)


def _without_users(response: BrazeResponse, request: CampaignRequest) -> BrazeResponse:
    """Blot out the recipients, should Braze name one: its words go into a log and a table."""
    message = response.message
    for user in sorted(request.recipients, key=len, reverse=True):
        message = message.replace(user, "***")
    return replace(response, body={**(response.body or {}), "message": message})


def _text(body: Any, name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None
