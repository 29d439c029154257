"""Measure what campaigns did to a cohort, as an Airflow task."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kubit_braze.connections import snowflake_connection, state_tables
from airflow_provider_kubit_braze.core.cohort import Cohort, check_cohort_id
from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.core.impact.report import in_short
from airflow_provider_kubit_braze.core.limits import parse_share
from airflow_provider_kubit_braze.core.part import show, told_of
from airflow_provider_kubit_braze.core.run import is_on
from airflow_provider_kubit_braze.exceptions import CohortConfigError
from airflow_provider_kubit_braze.operators.cohorts import given_cohort, id_of
from airflow_provider_kubit_braze.operators.identity import task_identity
from airflow_provider_kubit_braze.operators.reasons import reason_left
from airflow_provider_kubit_braze.operators.switches import comes_of_mapped, holds_template, refuse_templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from airflow.providers.common.compat.sdk import Context

#: The XCom with the whole report, by day and variation; ``return_value`` is the short one.
IMPACT_KEY: Final = "impact"

_QUESTION: Final = tuple(ImpactQuestion.model_fields)

# Which messages are asked about; without either: all.
_CHOICES: Final = ("campaigns", "canvases")

# Airflow does not render these.
_AS_WRITTEN: Final = ("holdout", "window", "timezone", "currency", "worth")


class CohortImpactOperator(BaseOperator):
    """Measure what campaigns and Canvases did to a cohort, from Braze's data share in Snowflake.

    .. code-block:: python

        CohortImpactOperator(
            task_id="measure_impact",
            cohort_id="power_users",
            source="BRAZE_SHARE.PUBLIC",
            app_group_id="5f0c1e2d3b4a",
            holdout="10%",
        )

    Only days are measured of which Braze has delivered something new. The figures are in ``IMPACT_DAILY`` and
    ``IMPACT_SUMMARY`` of the state schema; the task returns them as one report. The whole report, by day and variation
    too, is the XCom ``impact``. Nothing is sent to Braze.

    :param cohort: the cohort, as its import has it, or a mapping of its fields; its ``impact`` says what is not given
        here; or
    :param cohort_id: its id (templated), and
    :param cohort_name: its name for people (templated), and
    :param holdout: the share of members that is kept from Braze, such as ``"10%"``; without it the sizes of the groups
        are not checked.
    :param source: schema with the data share (templated), such as ``BRAZE_SHARE.PUBLIC``.
    :param app_group_id: which rows of the share are the workspace's (templated).
    :param campaigns: API identifiers of campaigns (templated); with no Canvases either: all of both, but not where a
        template or a task was to name them and names none.
    :param canvases: API identifiers of Canvases (templated).
    :param goal: what counts as a conversion of both groups (templated): ``purchase``, or the name of a custom event.
    :param window: how long after a message what users do is credited to it, such as ``"7d"``.
    :param since: the first day (templated); default: so that there are 90.
    :param until: the last day (templated); default: today.
    :param timezone: IANA name of the zone whose days these are.
    :param currency: of the revenue that is judged; default: the one that most of the cohort's purchases have.
    :param worth: the least lift that would matter, such as ``"10%"``.
    :param full_refresh: measure every day anew (templated); the DAG Param of that name switches it on, too.
    :param snowflake_conn_id: connection to Snowflake (templated); default: the cohort's.
    :param braze_conn_id: connection to Braze (templated), for the name of its workspace; default: the cohort's.
    :raises CohortConfigError: when something is wrong that can be told while the file is parsed.
    """

    template_fields: Sequence[str] = (
        "cohort_id",
        "cohort_name",
        "source",
        "app_group_id",
        "campaigns",
        "canvases",
        "goal",
        "since",
        "until",
        "full_refresh",
        "snowflake_conn_id",
        "braze_conn_id",
    )
    ui_color = "#d9f2e3"

    def __init__(
        self,
        *,
        cohort: Cohort | Mapping[str, Any] | None = None,
        cohort_id: str | None = None,
        cohort_name: str | None = None,
        holdout: str | None = None,
        source: str | None = None,
        app_group_id: str | None = None,
        campaigns: Sequence[str] | None = None,
        canvases: Sequence[str] | None = None,
        goal: str | None = None,
        window: str | timedelta | None = None,
        since: str | date | None = None,
        until: str | date | None = None,
        timezone: str | None = None,
        currency: str | None = None,
        worth: float | str | None = None,
        full_refresh: bool | str = False,
        snowflake_conn_id: str | None = None,
        braze_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cohort = cohort
        self.cohort_id = cohort_id
        self.cohort_name = cohort_name
        self.holdout = holdout
        self.source = source
        self.app_group_id = app_group_id
        self.campaigns = campaigns
        self.canvases = canvases
        self.goal = goal
        self.window = window
        self.since = since
        self.until = until
        self.timezone = timezone
        self.currency = currency
        self.worth = worth
        self.full_refresh = full_refresh
        self.snowflake_conn_id = snowflake_conn_id
        self.braze_conn_id = braze_conn_id
        is_mapped = comes_of_mapped(self)
        # None of a mapped task may well be its author's.
        self._chosen_later = tuple(
            name
            for name, value in (("campaigns", campaigns), ("canvases", canvases))
            if holds_template(value) or (is_mapped and value is not None)
        )
        if is_mapped:
            return
        # Whatever holds no template is as good now as later, and an author hears of it while the file is parsed.
        with told_of(id_of(cohort, cohort_id)):
            self.the_question(now=True)
            self.the_holdout()
            if not holds_template(full_refresh):
                is_on("full_refresh", full_refresh)

    def the_cohort(self) -> Cohort | None:
        """Return the cohort, None when only its id is given.

        :raises CohortConfigError: when neither is given, or both are.
        """
        if (self.cohort is None) == (self.cohort_id is None):
            raise CohortConfigError(
                f"task {self.task_id!r} needs either cohort or cohort_id", fix="name the cohort once"
            )
        if self.cohort is None:
            if not holds_template(self.cohort_id):
                with told_of(under="cohort_id"):
                    check_cohort_id(self.cohort_id)
            return None
        return given_cohort(
            self.cohort, taker=f"task {self.task_id!r}", otherwise=", or the cohort's id as cohort_id"
        )

    def the_question(self, *, now: bool = False) -> ImpactQuestion:
        """Return what is asked.

        :param now: leave out what templates say, so that the rest can be judged while the file is parsed.
        :raises CohortConfigError: when it is no question.
        """
        refuse_templates(self, _AS_WRITTEN)
        cohort = self.the_cohort()
        said: dict[str, Any] = {}
        if cohort is not None:
            of_cohort = cohort.impact
            said = (
                {name: getattr(of_cohort, name) for name in _QUESTION}
                if of_cohort is not None
                else {"source": cohort.braze.share, "app_group_id": cohort.braze.app_group_id}
            )
        given = {name: getattr(self, name) for name in _QUESTION}
        if not now:
            self._refuse_nothing_chosen(given)
        # An empty text is what a template leaves that has nothing to say.
        said |= {
            name: value
            for name, value in given.items()
            if value is not None and (value != "" or name in _CHOICES)
        }
        if now:
            # What is required and not known yet stands for itself.
            known = {"source": "DATABASE.SCHEMA", "app_group_id": "later"}
            said = {
                name: known.get(name) if name in self.template_fields and holds_template(value) else value
                for name, value in said.items()
            }
        return ImpactQuestion(**{name: value for name, value in said.items() if value is not None})

    def _refuse_nothing_chosen(self, given: Mapping[str, Any]) -> None:
        """See that whoever was to choose the messages has chosen some: no choice would measure all there are."""
        names_some = any(given[name] for name in _CHOICES)
        for name in self._chosen_later:
            if given[name] in (None, "") or not (given[name] or names_some):
                raise CohortConfigError(
                    f"its template or task gives {show(given[name])}, which names no message",
                    fix=f"see that it gives a list of API identifiers, or leave {name} out to measure all",
                    field=name,
                )

    def the_holdout(self) -> Fraction | None:
        """Return the share that is held out; None when it is not known.

        :raises CohortConfigError: when it is no share.
        """
        if self.holdout is not None:
            with told_of(under="holdout"):
                return parse_share(self.holdout)
        cohort = self.the_cohort() if self.cohort is not None else None
        return cohort.holdout if cohort is not None else None

    def execute(self, context: Context) -> dict[str, Any]:
        """Measure the impact.

        :return: the report without its days and variations, as plain JSON types; no user is named.
        :raises AirflowFailException: when it failed and no retry can help.
        :raises KubitBrazeError: when it failed and a retry may help.
        """
        with reason_left(context), told_of(id_of(self.cohort, self.cohort_id)):
            report = self._measure(context)
        short = in_short(report)
        context["ti"].xcom_push(key=IMPACT_KEY, value=report)
        self._tell(report)
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            if str(getattr(outlet, "uri", "")).startswith("braze://"):
                events[outlet].extra = short
        return short

    def _measure(self, context: Context) -> dict[str, Any]:
        # Drivers are imported here and not above: DAG files are parsed all the time.
        from airflow_provider_kubit_braze.hooks.braze import BrazeHook
        from airflow_provider_kubit_braze.measuring import measure_alone
        from airflow_provider_kubit_braze.warehouse.session import Session

        cohort, question, identity = self.the_cohort(), self.the_question(), task_identity(context)
        cohort_id = cohort.id if cohort else str(self.cohort_id)
        snowflake = self.snowflake_conn_id or (cohort.source.conn_id if cohort else "snowflake_default")
        braze = self.braze_conn_id or (cohort.braze.conn_id if cohort else BrazeHook.default_conn_name)
        params = context.get("params") or {}
        report = measure_alone(
            question,
            open_session=lambda: Session(snowflake_connection(snowflake), tag=identity.query_tag(cohort_id)),
            identity=identity,
            tables=state_tables(),
            workspace=BrazeHook(braze).settings.workspace,
            cohort_id=cohort_id,
            cohort_name=self.cohort_name or (cohort.name if cohort else None),
            holdout=self.the_holdout(),
            now=datetime.now(UTC),
            run_id=identity.run_id,
            full_refresh=is_on("full_refresh", self.full_refresh)
            or is_on("full_refresh", params.get("full_refresh")),
        )
        return report.as_dict()

    def _tell(self, report: Mapping[str, Any]) -> None:
        self.log.info(
            "Impact of %s, %s, %s to %s: %d days measured, %d messages.",
            report["cohort_id"],
            report["measure"],
            report["since"],
            report["until"],
            report["days_measured"],
            len([one for one in report["messages"] if one["kind"] != "all"]),
        )
        for message in report["messages"]:
            name = message["name"] or message["id"]
            for experiment in message["experiments"]:
                for effect in filter(None, (experiment["conversion"], experiment["revenue"])):
                    self.log.info("%s: %s", name, effect["sentence"])
            if message["before_after"]:
                self.log.info("%s: %s", name, message["before_after"]["sentence"])
            if message["not_judged"]:
                self.log.warning("%s: %s", name, message["not_judged"])
        for sentence in (*report["missing"], *report["limits"]):
            self.log.info("%s", sentence)
        for sentence in report["notes"]:
            self.log.warning("%s", sentence)
