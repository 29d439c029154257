"""Send a campaign or a Canvas to a cohort, as an Airflow task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_kubit_braze.connections import snowflake_connection, state_tables
from airflow_provider_kubit_braze.core.braze_target import parse_attribute
from airflow_provider_kubit_braze.core.campaign import (
    CampaignRequest,
    SendAt,
    as_properties,
    check_audience,
    check_delivery,
    check_switches,
)
from airflow_provider_kubit_braze.core.cohort import Cohort, check_cohort_id
from airflow_provider_kubit_braze.core.followed import nothing_to_follow
from airflow_provider_kubit_braze.core.part import told_of
from airflow_provider_kubit_braze.exceptions import CohortConfigError
from airflow_provider_kubit_braze.operators.cohorts import given_cohort, id_of
from airflow_provider_kubit_braze.operators.followed import imports_before, imports_that_started
from airflow_provider_kubit_braze.operators.identity import task_identity
from airflow_provider_kubit_braze.operators.reasons import reason_left
from airflow_provider_kubit_braze.operators.switches import (
    comes_of_mapped,
    holds_template,
    refuse_templates,
    without_templates,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kubit_braze.core.campaign import MessageKind


_SWITCHES: Final = ("broadcast", "create_send_id", "in_local_time", "at_optimal_time")


class _TriggerOperator(BaseOperator):
    """What both operators share; see them."""

    kind: ClassVar[MessageKind]
    template_fields: Sequence[str] = (
        "message_id",
        "cohort_id",
        "attribute",
        "properties",
        "send_id",
        "send_at",
        "snowflake_conn_id",
        "braze_conn_id",
    )
    template_fields_renderers = {"properties": "json"}  # noqa: RUF012  (Airflow's own form)
    ui_color = "#e8e0ff"

    def __init__(
        self,
        *,
        message_id: str,
        cohort: Cohort | Mapping[str, Any] | None,
        cohort_id: str | None,
        attribute: str | None,
        broadcast: bool,
        recipients: Sequence[str] | None,
        properties: Mapping[str, Any] | str | None,
        send_id: str | None,
        create_send_id: bool,
        send_at: datetime | str | None,
        in_local_time: bool,
        at_optimal_time: bool,
        snowflake_conn_id: str | None,
        braze_conn_id: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.message_id = message_id
        self.cohort = cohort
        self.cohort_id = cohort_id
        self.attribute = attribute
        self.broadcast = broadcast
        self.recipients = recipients
        self.properties = properties
        self.send_id = send_id
        self.create_send_id = create_send_id
        self.send_at = send_at
        self._is_scheduled = send_at is not None
        self.in_local_time = in_local_time
        self.at_optimal_time = at_optimal_time
        self.snowflake_conn_id = snowflake_conn_id
        self.braze_conn_id = braze_conn_id
        if comes_of_mapped(self):
            return
        # Whatever holds no template is as good now as later, and an author hears of it while the file is parsed.
        with told_of(id_of(cohort, cohort_id)):
            self.the_request(now=True)

    def the_cohort(self, *, now: bool = False) -> Cohort:
        """Return the cohort that the message goes to.

        :param now: let others stand for what templates say, so that the rest can be judged while the file is parsed.
        :raises CohortConfigError: when none is named, or two are, or it is a partner cohort.
        """
        if (self.cohort is None) == (self.cohort_id is None) or (self.cohort is not None and self.attribute):
            raise CohortConfigError(
                f"task {self.task_id!r} needs either cohort, or cohort_id and perhaps attribute",
                fix="name the cohort once",
            )
        if self.cohort is not None:
            cohort = given_cohort(
                self.cohort, taker=f"task {self.task_id!r}", otherwise=", or the cohort's id as cohort_id"
            )
        else:
            cohort_id = self._known("cohort_id", "later", now=now)
            attribute = self._known("attribute", None, now=now)
            with told_of(under="cohort_id"):
                check_cohort_id(cohort_id)
            if attribute:
                with told_of(under="attribute"):
                    parse_attribute(attribute)
            # Its source is never read: who is in it is in Braze, and in the ledger.
            cohort = Cohort(
                id=cohort_id,
                source={"table": "NONE"},
                identifiers={"external_id": "NONE"},
                braze={"attribute": attribute} if attribute else {},
            )
        check_delivery(cohort.braze.deliver_as, cohort.id)
        return cohort

    def the_request(self, *, now: bool = False) -> CampaignRequest:
        """Return what Braze is asked for.

        :param now: as for ``the_cohort``.
        :raises CohortConfigError: when Braze would refuse it.
        """
        self._check_options()
        check_audience(broadcast=self.broadcast, recipients=self.recipients)
        send_at = self._known("send_at", None, now=now)
        if self._is_scheduled and not (now or send_at):
            raise CohortConfigError(
                "it came out empty, and the message would go out at once",
                fix="have the template or the task give a moment, or leave the task out that day",
                field="send_at",
            )
        if send_at is not None:
            send_at = SendAt.read(
                send_at, in_local_time=self.in_local_time, at_optimal_time=self.at_optimal_time
            )
        properties: object = self.properties
        if now:
            # What stands beside a template is as good now as later.
            properties = None if _is_template(properties) else without_templates(properties)
        return CampaignRequest(
            kind=self.kind,
            message_id=self._known("message_id", "later", now=now),
            attribute=self.the_cohort(now=now).attribute,
            broadcast=self.broadcast,
            recipients=tuple(self.recipients or ()),
            properties=as_properties(self.kind, properties),
            send_id=self._known("send_id", None, now=now),
            send_at=send_at,
        )

    def _check_options(self) -> None:
        """Refuse options that are no switches, or have nothing to be about."""
        refuse_templates(self, _SWITCHES)
        check_switches(**{name: getattr(self, name) for name in _SWITCHES})
        if self.create_send_id and self.kind == "canvas":
            raise CohortConfigError(
                "create_send_id is given for a Canvas, which has no send id",
                fix="leave it out",
                field="create_send_id",
            )
        if self.create_send_id and self.send_id is None:
            raise CohortConfigError(
                "create_send_id is given without a send_id",
                fix="add send_id, or leave it out",
                field="create_send_id",
            )
        for name in ("in_local_time", "at_optimal_time"):
            if getattr(self, name) and self.send_at is None:
                raise CohortConfigError(
                    "local or optimal time is given without a moment", fix="add send_at", field=name
                )

    def _known(self, name: str, otherwise: Any, *, now: bool) -> Any:
        value = getattr(self, name)
        return otherwise if now and holds_template(value) else value

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the message, once in a DAG run, and once after an import whose asset events start the DAG.

        :return: what was sent, as plain JSON types; no user is named.
        :raises AirflowSkipException: when nobody is in the cohort, it was sent after the same import by another run, or
            the import before was none: a dry run, or one that took users out again.
        :raises AirflowFailException: when it was not sent, or may have been, and trying again cannot help.
        :raises KubitBrazeError: when it was certainly not sent and a retry may help.
        """
        # Drivers are imported here and not above: DAG files are parsed all the time.
        from airflow_provider_kubit_braze.hooks.braze import BrazeHook
        from airflow_provider_kubit_braze.triggering import NothingSent, trigger_campaign

        with reason_left(context), told_of(id_of(self.cohort, self.cohort_id)):
            cohort, request = self.the_cohort(), self.the_request()
            started, before = imports_that_started(context, cohort.id), imports_before(context, cohort.id)
            for imports in (started, before):
                if why := nothing_to_follow(imports):
                    raise AirflowSkipException(why)
            sent = trigger_campaign(
                request,
                cohort_id=cohort.id,
                settings=BrazeHook(self.braze_conn_id or cohort.braze.conn_id).settings,
                connect=lambda: snowflake_connection(self.snowflake_conn_id or cohort.source.conn_id),
                tables=state_tables(),
                identity=task_identity(context),
                new_send_id=self.create_send_id,
                occasions=[one.occasion for one in started if one.has_imported],
            )
        if isinstance(sent, NothingSent):
            raise AirflowSkipException(sent.why)
        return sent.to_dict()


def _is_template(value: object) -> bool:
    return not isinstance(value, Mapping | list | tuple) and holds_template(value)


class TriggerCohortCampaignOperator(_TriggerOperator):
    """Send an API-triggered Braze campaign to a cohort that is delivered as an attribute.

    .. code-block:: python

        TriggerCohortCampaignOperator(
            task_id="spring_sale",
            campaign_id="f6a01c34-...",
            cohort_id="power_users",
            broadcast=True,
            trigger_properties={"season": "{{ ds }}"},
        )

    The message goes to those for whom the cohort's attribute is true when Braze sends it, and who are in the segment
    that the campaign has in the dashboard. ``broadcast=True`` has to be written: it is Braze's word for "without a
    list of recipients", and nothing here says it for the author. The audience filter is in the request either way.

    It is sent at most once in a DAG run, and at most once after an import whose asset event starts the DAG, whatever is
    retried or cleared: a row of ``CAMPAIGN_SEND`` is written before the request goes out. After a dry run or an undo
    nothing is sent. When no answer tells whether Braze took it, the task fails for good and says how to look.

    :param campaign_id: the campaign's API identifier (templated).
    :param cohort: the cohort, as its import has it; or
    :param cohort_id: its id (templated), and
    :param attribute: its attribute (templated), when that is not ``kubit_cohort_<id>``.
    :param broadcast: True: to everybody in the cohort.
    :param recipients: instead: up to 50 external ids, of whom those in the cohort get the message. To try it out.
    :param trigger_properties: what the campaign's template may use (templated).
    :param send_id: what the send is called in Braze's figures and in its data share (templated). Braze has to know it:
    :param create_send_id: True: tell Braze of it before; 100 a day, and the key needs ``sends.id.create``.
    :param send_at: schedule it for then instead (templated), up to 90 days ahead: with a time zone, or without one for
        either of:
    :param in_local_time: at that time where the user is.
    :param at_optimal_time: on that day, at the time Braze holds for best for the user.
    :param snowflake_conn_id: where the state tables are (templated); default: the cohort's.
    :param braze_conn_id: connection to Braze (templated); default: the cohort's. Its key needs
        ``campaigns.trigger.send``, or ``campaigns.trigger.schedule.create`` with ``send_at``.
    :raises CohortConfigError: for a partner cohort, or when it is not said to whom.
    """

    kind: ClassVar[MessageKind] = "campaign"

    def __init__(
        self,
        *,
        campaign_id: str,
        cohort: Cohort | Mapping[str, Any] | None = None,
        cohort_id: str | None = None,
        attribute: str | None = None,
        broadcast: bool = False,
        recipients: Sequence[str] | None = None,
        trigger_properties: Mapping[str, Any] | str | None = None,
        send_id: str | None = None,
        create_send_id: bool = False,
        send_at: datetime | str | None = None,
        in_local_time: bool = False,
        at_optimal_time: bool = False,
        snowflake_conn_id: str | None = None,
        braze_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            message_id=campaign_id,
            cohort=cohort,
            cohort_id=cohort_id,
            attribute=attribute,
            broadcast=broadcast,
            recipients=recipients,
            properties=trigger_properties,
            send_id=send_id,
            create_send_id=create_send_id,
            send_at=send_at,
            in_local_time=in_local_time,
            at_optimal_time=at_optimal_time,
            snowflake_conn_id=snowflake_conn_id,
            braze_conn_id=braze_conn_id,
            **kwargs,
        )


class TriggerCohortCanvasOperator(_TriggerOperator):
    """Let a cohort that is delivered as an attribute enter an API-triggered Canvas.

    As ``TriggerCohortCampaignOperator``, but for what a Canvas calls otherwise, and a Canvas has no send id.

    :param canvas_id: the Canvas's API identifier (templated).
    :param cohort: the cohort, as its import has it; or
    :param cohort_id: its id (templated), and
    :param attribute: its attribute (templated), when that is not ``kubit_cohort_<id>``.
    :param broadcast: True: everybody in the cohort.
    :param recipients: instead: up to 50 external ids, of whom those in the cohort enter.
    :param canvas_entry_properties: what the Canvas's messages may use (templated), up to 50 KB.
    :param send_at: schedule it for then instead (templated); as for a campaign.
    :param in_local_time: at that time where the user is.
    :param at_optimal_time: on that day, at the time Braze holds for best for the user.
    :param snowflake_conn_id: where the state tables are (templated); default: the cohort's.
    :param braze_conn_id: connection to Braze (templated); default: the cohort's. Its key needs
        ``canvas.trigger.send``, or ``canvas.trigger.schedule.create`` with ``send_at``.
    :raises CohortConfigError: for a partner cohort, or when it is not said to whom.
    """

    kind: ClassVar[MessageKind] = "canvas"

    def __init__(
        self,
        *,
        canvas_id: str,
        cohort: Cohort | Mapping[str, Any] | None = None,
        cohort_id: str | None = None,
        attribute: str | None = None,
        broadcast: bool = False,
        recipients: Sequence[str] | None = None,
        canvas_entry_properties: Mapping[str, Any] | str | None = None,
        send_at: datetime | str | None = None,
        in_local_time: bool = False,
        at_optimal_time: bool = False,
        snowflake_conn_id: str | None = None,
        braze_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            message_id=canvas_id,
            cohort=cohort,
            cohort_id=cohort_id,
            attribute=attribute,
            broadcast=broadcast,
            recipients=recipients,
            properties=canvas_entry_properties,
            send_id=kwargs.pop("send_id", None),
            create_send_id=kwargs.pop("create_send_id", False),
            send_at=send_at,
            in_local_time=in_local_time,
            at_optimal_time=at_optimal_time,
            snowflake_conn_id=snowflake_conn_id,
            braze_conn_id=braze_conn_id,
            **kwargs,
        )
