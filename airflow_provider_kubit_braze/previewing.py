"""What the next import of a cohort would do: planned like an import, and taken back.

Nothing is sent, nothing stays in the state tables, and nobody's lease is touched.
"""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.forecast import Forecast, forecast
from airflow_provider_kubit_braze.core.guards import judge_plan
from airflow_provider_kubit_braze.core.place import place_of
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.warehouse.history import History
from airflow_provider_kubit_braze.warehouse.ledger import Ledger
from airflow_provider_kubit_braze.warehouse.plan import check_source, freeze_plan
from airflow_provider_kubit_braze.warehouse.readback import read_changes
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import ensure_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.place import Place
    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.warehouse.ledger import OpenImport
    from airflow_provider_kubit_braze.warehouse.readback import SentChange
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: Users shown of each kind of change.
EXAMPLES: Final = 3


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What the next import would do.

    :param plan: its figures.
    :param place: where members are marked.
    :param forecast: what it would cost.
    :param broken: a sentence for each guard that would stop it.
    :param examples: a few of the changes, in the plan's order; their users are personal data.
    :param running: imports of the cohort that have not ended, so that the figures are not the last word.
    """

    plan: Plan
    place: Place
    forecast: Forecast
    broken: tuple[str, ...]
    examples: Sequence[SentChange]
    running: Sequence[OpenImport]


def preview_import(
    cohort: Cohort,
    *,
    settings: BrazeSettings,
    connect: Callable[[], SnowflakeConnection],
    tables: Tables,
    full_resync: bool = False,
) -> Preview:
    """Plan the next import of ``cohort``, and take the plan back.

    The state tables are made where there are none, as by the first import.

    :param full_resync: as if every member were to be sent once more.
    :raises BrazeSettingsError: when the connection lacks what the cohort's delivery needs.
    :raises StateSchemaError: when there is no place to keep the state.
    :raises WorkspaceChangedError: when the cohort has users in another workspace.
    :raises SourceError: when Snowflake refuses the source, or a column is missing.
    """
    place = place_of(cohort, settings)
    if place.kind == "partner_cohort":
        settings.partner_keys()
    identity = RunIdentity(dag_id=cohort.dag_id, run_id="preview")
    with closing(Session(connect(), tag=identity.query_tag(cohort.id))) as session:
        ensure_tables(session, tables)
        History(
            session, tables, workspace=settings.workspace, cohort_id=cohort.id
        ).see_that_nobody_is_elsewhere()
        check_source(session, cohort)

        def rehearse() -> tuple[Plan, list[SentChange]]:
            import_id = uuid.uuid4().hex
            plan = freeze_plan(
                session,
                tables,
                cohort=cohort,
                workspace=settings.workspace,
                place=place,
                import_id=import_id,
                full_resync=full_resync,
            )
            return plan, sorted(read_changes(session, tables, import_id, _first_of_each(plan)))

        plan, examples = session.transact(rehearse, keep=False)
        running = Ledger(session, tables, workspace=settings.workspace, cohort_id=cohort.id).open_imports()
    return Preview(
        plan=plan,
        place=place,
        forecast=forecast(plan, place, settings),
        broken=judge_plan(plan, cohort.guards),
        examples=examples,
        running=running,
    )


def _first_of_each(plan: Plan) -> list[int]:
    """Return the first sequence numbers of each kind of change."""
    found: list[int] = []
    first = 1
    for number in (plan.leave, plan.enter, plan.refresh, plan.quiet):
        found += range(first, first + min(EXAMPLES, number))
        first += number
    return found
