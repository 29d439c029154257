"""Send a campaign or a Canvas to a cohort, at most once on an occasion: look, record, send, record."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.braze.campaigns import create_send_id, trigger
from airflow_provider_kubit_braze.braze.client import BrazeClient
from airflow_provider_kubit_braze.core.campaign import in_words
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.exceptions import BrazeError, BrazeRequestError, SendUncertainError
from airflow_provider_kubit_braze.warehouse.sends import Sends, members_at
from airflow_provider_kubit_braze.warehouse.session import Session, first_line
from airflow_provider_kubit_braze.warehouse.state import ensure_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.braze.campaigns import TriggerAnswer
    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.campaign import CampaignRequest
    from airflow_provider_kubit_braze.core.run import RunIdentity
    from airflow_provider_kubit_braze.warehouse.sends import Recorded
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CampaignSent:
    """What was sent to whom; no user is named.

    :param kind: ``campaign`` or ``canvas``.
    :param message_id: Braze's id of it.
    :param cohort_id: the cohort.
    :param workspace: key of the Braze workspace.
    :param attribute: what is true for members of the cohort.
    :param broadcast: whether it went to all of them.
    :param members: users in the cohort, as far as Braze accepted. How many of them get the message depends on the
        campaign's own segment and their subscriptions.
    :param send_id: as the request had it.
    :param dispatch_id: Braze's id of the dispatch.
    :param schedule_id: Braze's id of the schedule.
    :param scheduled_for: the moment, in Braze's form; None for at once.
    """

    kind: str
    message_id: str
    cohort_id: str
    workspace: str
    attribute: str
    broadcast: bool
    members: int
    send_id: str | None
    dispatch_id: str | None
    schedule_id: str | None
    scheduled_for: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class NothingSent:
    """There was nothing to send.

    :param why: one sentence for people.
    """

    why: str


def trigger_campaign(
    request: CampaignRequest,
    *,
    cohort_id: str,
    settings: BrazeSettings,
    connect: Callable[[], SnowflakeConnection],
    tables: Tables,
    identity: RunIdentity,
    new_send_id: bool = False,
    occasions: Sequence[str] = (),
) -> CampaignSent | NothingSent:
    """Send the message, unless this task has sent it on this occasion before.

    :param request: what to send.
    :param cohort_id: to which cohort.
    :param settings: the connection to Braze.
    :param connect: opens a Snowflake connection.
    :param tables: the state tables.
    :param identity: the task instance.
    :param new_send_id: tell Braze of the ``send_id`` first.
    :param occasions: what the message follows, such as imports: it is sent unless other runs of the DAG have sent it on
        each of these before.
    :return: what was sent, now or by an earlier try of this DAG run; or why nothing was: nobody is in the cohort, or
        another DAG run has sent it on the same occasions.
    :raises CohortConfigError: when the moment to send at is over or too far ahead.
    :raises NeverImportedError: when the cohort never was under this attribute.
    :raises BrazeError: when certainly nothing was sent.
    :raises SendUncertainError: when it may have been sent, now or by an earlier try.
    :raises StateSchemaError: when the record cannot be kept.
    """
    key = (settings.workspace, cohort_id)
    with closing(Session(connect(), tag=identity.query_tag(cohort_id))) as session:
        ensure_tables(session, tables)
        members = members_at(session, tables, key, Place("attribute", request.attribute))
        sends = Sends(
            session,
            tables,
            workspace=settings.workspace,
            identity=identity,
            request=request,
            cohort_id=cohort_id,
            occasions=occasions,
        )
        # Before anything else that may fail: what was sent is sent, also when nobody is left or its moment is over.
        found = sends.look()
        if found is None or found.state == "not_sent":
            if other := sends.another():
                raise SendUncertainError(
                    f"This task has sent {other} in this DAG run already, or may have, and not what it says now; "
                    "nothing was sent. To send this as well, start a new DAG run."
                )
            if not members:
                return NothingSent(why=f"Nobody is in cohort {cohort_id}: nothing was sent.")
            if request.send_at is not None:
                request.send_at.check(datetime.now(UTC))
            found = sends.begin(request, key=key, members=members)
        if not found.mine:
            if found.state == "sent" and found.run_id != identity.run_id:
                return NothingSent(
                    why=f"Run {found.run_id} of this DAG has sent this after the same import already, at "
                    f"{found.begun_at} UTC: nothing was sent. To send it again, start this DAG by hand."
                )
            return _earlier(found, request, key, sends)
        with BrazeClient(settings) as client:
            answer = _send(client, request, sends, cohort_id=cohort_id, new_send_id=new_send_id)
        try:
            sends.end(answer)
        except Exception as error:
            # The row still says ``sending``, so that nobody sends again; how it ended must not be lost besides.
            log.error("How the send ended could not be recorded: %s", first_line(error))
    if answer.state == "unknown":
        raise SendUncertainError(_uncertain(_ended(answer.error), request, cohort_id, sends.key, sends.table))
    if answer.error is not None:
        raise _of_what(answer.error, request, cohort_id)
    sent = CampaignSent(
        kind=request.kind,
        message_id=request.message_id,
        cohort_id=cohort_id,
        workspace=settings.workspace,
        attribute=request.attribute,
        broadcast=request.broadcast,
        members=members,
        send_id=request.send_id,
        dispatch_id=answer.dispatch_id,
        schedule_id=answer.schedule_id,
        scheduled_for=request.send_at.text if request.send_at else None,
    )
    _tell(sent)
    return sent


def _tell(sent: CampaignSent) -> None:
    to = f"the {sent.members:,} members of" if sent.broadcast else "the recipients who are in"
    when = f"is scheduled for {sent.scheduled_for}" if sent.scheduled_for else "was triggered"
    log.info(
        "%s %s %s, to %s cohort %s that are in its segment; dispatch %s.",
        in_words(sent.kind),
        sent.message_id,
        when,
        to,
        sent.cohort_id,
        sent.dispatch_id,
    )


def _send(
    client: BrazeClient, request: CampaignRequest, sends: Sends, *, cohort_id: str, new_send_id: bool
) -> TriggerAnswer:
    if new_send_id and request.send_id is not None:
        try:
            create_send_id(client, campaign_id=request.message_id, send_id=request.send_id)
        except Exception as error:
            sends.forget()
            if isinstance(error, BrazeError):
                raise _of_what(error, request, cohort_id) from None
            raise
    return trigger(client, request)


def _of_what(error: BrazeError, request: CampaignRequest, cohort_id: str) -> BrazeError:
    """Return the same error with what was to be sent to whom: Braze's words do not say which id it does not know."""
    unit = in_words(request.kind)
    words = f"{_ended(error)} This was to send {unit} {request.message_id} to cohort {cohort_id}."
    if isinstance(error, BrazeRequestError) and error.status == 400:
        words += (
            f" If Braze does not know that {unit}, copy the API identifier that Braze shows on the {unit}'s page, "
            "not the id in the address."
        )
    return type(error)(words, status=error.status, unsent=error.unsent)


def _ended(error: BrazeError | None) -> str:
    """Return the words of an error as a sentence that others may follow; Braze's own end without a stop."""
    words = str(error)
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _earlier(found: Recorded, request: CampaignRequest, key: tuple[str, str], sends: Sends) -> CampaignSent:
    """Return what an earlier try sent."""
    if found.state != "sent":
        said = (
            f"Try {found.try_number} of this task, in run {found.run_id}, began to send at {found.begun_at} UTC, and "
            "no answer is known."
        )
        raise SendUncertainError(_uncertain(said, request, key[1], found.key, sends.table))
    log.warning(
        "Try %s of this task has sent this in this DAG run already, at %s UTC: it is not sent again. "
        "A new DAG run sends again.",
        found.try_number,
        found.begun_at,
    )
    return CampaignSent(
        kind=request.kind,
        message_id=found.message_id,
        cohort_id=key[1],
        workspace=key[0],
        attribute=request.attribute,
        broadcast=request.broadcast,
        members=found.members,
        send_id=found.send_id,
        dispatch_id=found.dispatch_id,
        schedule_id=found.schedule_id,
        scheduled_for=found.scheduled_for,
    )


def _uncertain(said: str, request: CampaignRequest, cohort_id: str, send_key: str, table: str) -> str:
    quoted = send_key.replace("'", "''")
    what = f"{in_words(request.kind)} {request.message_id} to cohort {cohort_id}"
    if request.send_at is not None:
        where = "GET /messages/scheduled_broadcasts lists what is scheduled"
    elif request.send_id is not None:
        where = f"GET /sends/data_series shows the send {request.send_id}"
    else:
        where = "its analytics in the dashboard show a send at that time"
    return (
        f"{said} So {what} may have been sent, and is not sent again. Look in Braze: {where}, and the dashboard's "
        f"message activity log the request. If it was not sent, run UPDATE {table} SET STATE = "
        f"'not_sent' WHERE SEND_KEY = '{quoted}' and clear the task; if it was, set STATE = 'sent' and clear it."
    )
