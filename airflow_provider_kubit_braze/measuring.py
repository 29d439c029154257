"""Measure what messages did to a cohort: refresh the days, read the figures, judge them, and keep what was found."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.comparing import Comparison
from airflow_provider_kubit_braze.core.impact.question import PURCHASE
from airflow_provider_kubit_braze.core.impact.report import MOST_MESSAGES, ImpactReport, MessageImpact
from airflow_provider_kubit_braze.core.impact.tellings import Tellings
from airflow_provider_kubit_braze.core.impact.words import percent
from airflow_provider_kubit_braze.exceptions import (
    NeverImportedError,
    SourceError,
    StatementBrokenOffError,
)
from airflow_provider_kubit_braze.warehouse.impact_days import Days
from airflow_provider_kubit_braze.warehouse.impact_figures import PeriodFigures
from airflow_provider_kubit_braze.warehouse.impact_groups import Groups
from airflow_provider_kubit_braze.warehouse.impact_older import LOOK_BACK
from airflow_provider_kubit_braze.warehouse.impact_refresh import Refresh
from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
from airflow_provider_kubit_braze.warehouse.impact_summary import keep_summary
from airflow_provider_kubit_braze.warehouse.lease import Lease
from airflow_provider_kubit_braze.warehouse.session import (
    first_line,
    is_contention,
    is_denied,
    is_refusal,
    split_name,
)
from airflow_provider_kubit_braze.warehouse.share_check import read_inventory
from airflow_provider_kubit_braze.warehouse.state import ensure_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import date
    from fractions import Fraction

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.core.impact.report import Slice
    from airflow_provider_kubit_braze.core.run import RunIdentity
    from airflow_provider_kubit_braze.warehouse.impact_figures import Run
    from airflow_provider_kubit_braze.warehouse.impact_refresh import Refreshed
    from airflow_provider_kubit_braze.warehouse.impact_stage import Staged
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)

#: Braze gives each user one of so many random buckets, some of which are its Global Control Group.
#: https://www.braze.com/docs/user_guide/engagement_tools/testing/random_bucket_numbers/
_BUCKETS: Final = 10_000

_DAY: Final = timedelta(days=1)

_STEPS: Final = "SNAPSHOTS_EXPERIMENT_STEP_SHARED"
_NAMES: Final = {
    "campaign": ("CHANGELOGS_CAMPAIGN_SHARED", "SNAPSHOTS_CAMPAIGN_MESSAGE_VARIATION_SHARED"),
    "canvas": ("CHANGELOGS_CANVAS_SHARED", "SNAPSHOTS_CANVAS_VARIATION_SHARED"),
}


def measure_alone(
    question: ImpactQuestion,
    *,
    open_session: Callable[[], Session],
    identity: RunIdentity,
    tables: Tables,
    workspace: str,
    cohort_id: str,
    **rest: Any,
) -> ImpactReport:
    """Measure as ``measure_impact``, while nobody else measures the same of the cohort.

    :param open_session: opens a session; a second one is opened only by a measurement that takes long.
    :param identity: who measures, so that others see it.
    :param tables: names of the state tables; made when they are not there.
    :param rest: what else ``measure_impact`` takes.
    :raises StateSchemaError: when the state tables cannot be made; with the grants that are missing.
    :raises CohortBusyError: when another task is measuring; a later try finds that ended.
    :raises LeaseLostError: when another task has taken this one for dead, and measures by now.
    """
    with closing(open_session()) as session:
        ensure_tables(session, tables)
        lease = Lease(
            open_session,
            tables,
            (workspace, f"{cohort_id}: {question.measure}"),
            identity,
            busy=f"The impact on cohort {cohort_id!r} is being measured",
            lost=f"Another task measures the impact on cohort {cohort_id!r}",
        )
        with lease.held(session):
            return measure_impact(
                question,
                session=session,
                tables=tables,
                workspace=workspace,
                cohort_id=cohort_id,
                fence=lambda: lease.fence(session),
                **rest,
            )


def measure_impact(
    question: ImpactQuestion,
    *,
    session: Session,
    tables: Tables,
    workspace: str,
    cohort_id: str,
    now: datetime,
    cohort_name: str | None = None,
    holdout: Fraction | None = None,
    run_id: str = "",
    full_refresh: bool = False,
    keep: bool = True,
    fence: Callable[[], None] | None = None,
) -> ImpactReport:
    """Measure the impact of messages on a cohort, and keep it in ``IMPACT_DAILY`` and ``IMPACT_SUMMARY``.

    :param question: what is asked.
    :param session: a session whose role may read the share, write the state tables, and make tables in their schema.
    :param tables: names of the state tables, which are there.
    :param workspace: key of the Braze workspace, as the ledger has it.
    :param cohort_id: the cohort.
    :param now: an aware moment; nothing after it has happened.
    :param cohort_name: the cohort's name for people.
    :param holdout: the share that was to be held out; None when that is not known, and the sizes cannot be checked.
    :param run_id: the run that the rows name.
    :param full_refresh: measure every day anew, whatever was measured before.
    :param keep: write what was found into ``IMPACT_SUMMARY``; not for a question that is asked once, in which the one
        that is asked each day would be lost.
    :param fence: the last statement of every transaction that changes what was measured, which it has rolled back by
        raising when somebody else measures the same by now; None: nobody can.
    :raises SourceError: when the share cannot be read; with the SQL that helps.
    :raises StatementBrokenOffError: when Snowflake could not do it now.
    :raises CohortConfigError: when the first day is still to come.
    :raises NeverImportedError: when the ledger has nobody of the cohort.
    """
    question.begun_days(now)
    try:
        kinds = _kinds_of(session, tables, (workspace, cohort_id))
        return _Measurement(
            question=question,
            session=session,
            tables=tables,
            key=(workspace, cohort_id),
            now=now,
            holdout=holdout,
            kinds=kinds,
            fence=fence or (lambda: None),
        ).report(cohort_name=cohort_name or cohort_id, run_id=run_id, full_refresh=full_refresh, keep=keep)
    except Exception as error:
        if not is_refusal(error) or is_contention(error):
            raise
        if not is_denied(error):
            raise StatementBrokenOffError(
                f"The impact could not be measured; Snowflake says: {first_line(error)}"
            ) from None
        role = session.connection.role or "<ROLE>"
        raise SourceError(
            f"The impact cannot be measured (Snowflake: {first_line(error)}). Role {role} has to read the data share "
            f"{question.source} (GRANT IMPORTED PRIVILEGES ON DATABASE {split_name(question.source)[0]} TO ROLE "
            f"{role}) and to make tables in schema {tables.schema} (GRANT USAGE, CREATE TABLE ON SCHEMA "
            f"{tables.schema} TO ROLE {role}), for a measurement works in tables of its own."
        ) from None


def _kinds_of(session: Session, tables: Tables, key: tuple[str, str]) -> dict[str, int]:
    """Return how many users of the cohort the ledger knows, ever, by the kind of their identifier.

    :raises NeverImportedError: when there is nobody.
    """
    rows = session.rows(
        f"SELECT ID_KIND, COUNT(DISTINCT USER_ID) FROM {tables.membership} WHERE WORKSPACE = %s AND COHORT_ID = %s "
        "GROUP BY ID_KIND ORDER BY ID_KIND",
        key,
    )
    if not rows:
        workspace, cohort_id = key
        raise NeverImportedError(
            f"No import has ever brought anybody of cohort {cohort_id!r} into workspace {workspace}, so there is no "
            "impact to measure; correct the cohort's id or the connection to Braze, or import the cohort first."
        )
    return {kind: int(number) for kind, number in rows}


class _Measurement:
    def __init__(
        self,
        *,
        question: ImpactQuestion,
        session: Session,
        tables: Tables,
        key: tuple[str, str],
        now: datetime,
        holdout: Fraction | None,
        kinds: Mapping[str, int],
        fence: Callable[[], None],
    ) -> None:
        self._question = question
        self._session = session
        self._tables = tables
        self._key = key
        self._now = now
        self._fence = fence
        self._holdout = holdout
        # It is looked so far back for messages that are older.
        first = question.starts(question.days(now)[0] - LOOK_BACK)
        self._inventory = read_inventory(session, question.source).since(first, now=now)
        self._tellings = Tellings(self._inventory.columns)
        self._stage = Stage(self._inventory, app_group_id=question.app_group_id)
        self._days = Days(
            session,
            tables,
            inventory=self._inventory,
            stage=self._stage,
            tellings=self._tellings,
            question=question,
            key=key,
            fence=fence,
        )
        self._kinds = kinds
        self._notes: list[str] = []

    def report(self, *, cohort_name: str, run_id: str, full_refresh: bool, keep: bool) -> ImpactReport:
        question = self._question
        first, last = question.days(self._now)
        self._figures = PeriodFigures(
            self._session,
            self._tables,
            tellings=self._tellings,
            question=question,
            key=self._key,
            first=first,
            last=last,
        )
        with self._days.prepared():
            refreshed = Refresh(
                self._session,
                self._tables,
                days=self._days,
                stage=self._stage,
                tellings=self._tellings,
                question=question,
                key=self._key,
                fence=self._fence,
            ).run(now=self._now, run_id=run_id, anew=full_refresh)
            runs, left_out = self._figures.runs()
            compared = Comparison(
                question=question,
                groups=Groups(
                    self._session, self._tables, question=question, key=self._key, first=first, last=last
                ),
                days=self._days,
                tellings=self._tellings,
                holdout=self._holdout,
                kinds=(nameable := self._days.nameable()),
                since=first,
                notes=self._notes,
            ).of(runs, refreshed.goal_until)
        self._note_who_is_kept_out_of_all(runs, last)
        names = self._names(runs, {its.control_id for one in compared for its in one.experiments} - {""})
        messages = [
            MessageImpact(
                kind=one.run.kind,
                id=one.run.id,
                name=names.get(one.run.id),
                first_reach=_moment(one.run.first),
                last_reach=_moment(one.run.last),
                figures=one.run.figures,
                channels=self._figures.slices(one.run, "channel"),
                variations=_named(self._figures.slices(one.run, "variation"), names),
                days=self._figures.slices(one.run, "day"),
                open_users=one.open_users,
                judgements=[
                    replace(judged, control_name=names.get(judged.control_id)) for judged in one.judgements
                ],
                before_after=one.before_after,
                not_judged=one.not_judged,
            )
            for one in compared
        ]
        self._note_what_is_not_there({(one.kind, one.id) for one in messages}, refreshed, nameable)
        report = ImpactReport(
            question=question,
            cohort_id=self._key[1],
            cohort_name=cohort_name,
            run_id=run_id,
            since=first,
            until=last,
            data_until=_moment(refreshed.data_until),
            measured_at=self._now,
            days_measured=refreshed.days,
            messages=messages,
            messages_left_out=left_out,
            missing=self._tellings.missing,
            limits=self._tellings.limits(
                {part.channel for one in messages for part in one.channels if part.channel},
                of_canvases=any(one.kind == "canvas" for one in messages),
            ),
            notes=[*self._days.notes, *self._notes],
        )
        if keep:
            keep_summary(self._session, self._tables, report, key=self._key, fence=self._fence)
        log.info(
            "Measured %d days; %d messages reached the cohort.", refreshed.days, len(runs) - (len(runs) > 1)
        )
        return report

    def _note_who_is_kept_out_of_all(self, runs: Sequence[Run], last: date) -> None:
        """Say it where Braze has a Global Control Group, which makes an effect on all users smaller."""
        query = self._stage.kept_out_of_all(self._question.starts(last + _DAY)) if runs else None
        buckets = int(self._session.row(query.sql, query.params)[0]) if query else 0
        if buckets:
            self._notes.append(
                f"{percent(buckets / _BUCKETS)} of all users of the workspace are in Braze's Global Control Group, "
                "whom campaigns and Canvases do not reach. They are among the treated and those held out alike, and so "
                "an effect looks smaller, by about that share, than it is on those who can be reached."
            )

    def _note_what_is_not_there(
        self, messages: set[tuple[str, str]], refreshed: Refreshed, nameable: Sequence[str]
    ) -> None:
        """Name what was asked for and is not in the share: a wrong name looks like no effect."""
        question = self._question
        if refreshed.data_until is None:
            self._notes.append(
                f"The share has no row of app group {question.app_group_id!r} in these days: app_group_id has to be "
                "the APP_GROUP_ID that the workspace's rows have there."
            )
        elif not messages:
            which = "None of the messages asked about" if question.named else "No message"
            self._notes.append(
                f"{which} reached anybody of the cohort in these days, as far as the share tells."
            )
        for kind, one in question.named if len(messages) <= MOST_MESSAGES else ():
            if (kind, one) not in messages:
                self._notes.append(
                    f"{'Campaign' if kind == 'campaign' else 'Canvas'} {one} reached nobody of the cohort in these "
                    "days; its API identifier is the one that Braze shows on its page, not the one in the address."
                )
        if messages and question.goal != PURCHASE and not self._figures.has("event"):
            self._notes.append(
                f"Nobody of the cohort did {question.goal!r} in these days; names of events are case-sensitive."
            )
        for kind, number in self._kinds.items():
            if kind not in nameable:
                self._notes.append(
                    f"{number:,} users of the cohort are known by {kind}, which the share does not have: nothing is "
                    "known of them, and they are in neither group."
                )

    def _names(self, runs: Sequence[Run], steps: Collection[str]) -> dict[str, str]:
        """Return id -> name of messages, variations and experiment steps, as far as the share knows them."""
        names: dict[str, str] = {}
        for kind, (of_messages, of_variations) in _NAMES.items():
            some = [run for run in runs if run.kind == kind]
            variations = {
                one.variation
                for run in some
                for one in self._figures.slices(run, "variation")
                if one.variation
            }
            for table, ids in ((of_messages, [run.id for run in some]), (of_variations, sorted(variations))):
                names |= self._known(self._stage.names(table, ids))
        return names | self._known(self._stage.names(_STEPS, sorted(steps), column="API_STEP_ID"))

    def _known(self, query: Staged | None) -> dict[str, str]:
        rows = self._session.rows(query.sql, query.params) if query else []
        return {one: name for one, name in rows if name}


def _named(variations: Sequence[Slice], names: Mapping[str, str]) -> list[Slice]:
    return [replace(one, name=names.get(one.variation or "")) for one in variations]


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
