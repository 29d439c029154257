"""Cohort files to DAGs.

A DAG file needs three lines::

    from pathlib import Path
    from airflow_provider_kubit_braze.factory import load_cohort_dags

    load_cohort_dags(Path(__file__).parent / "cohorts")
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, Param, get_parsing_context

from airflow_provider_kubit_braze._compat import defined_in_this_parse
from airflow_provider_kubit_braze.assets import cohort_asset, impact_asset
from airflow_provider_kubit_braze.broken import report_broken_cohorts
from airflow_provider_kubit_braze.core.cohort_file import read_cohorts
from airflow_provider_kubit_braze.core.schedule import Schedule
from airflow_provider_kubit_braze.exceptions import CohortConfigError, CohortFilesError
from airflow_provider_kubit_braze.operators.cohort_impact import CohortImpactOperator
from airflow_provider_kubit_braze.operators.cohort_to_braze import CohortToBrazeOperator
from airflow_provider_kubit_braze.operators.cohorts import given_cohort
from airflow_provider_kubit_braze.operators.notify import NotifyImportOperator
from airflow_provider_kubit_braze.operators.sharded import (
    PLAN_TASK_ID,
    CommitImportOperator,
    DeliverShardOperator,
    PlanImportOperator,
)
from airflow_provider_kubit_braze.sensors.snowflake_cohort import SnowflakeCohortSensor
from airflow_provider_kubit_braze.timetables import start_date_of, timetable_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.source import Source

#: A retry continues the plan, so it is cheap; a dead worker without one fails the run.
DEFAULT_ARGS: Mapping[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
}


def load_cohort_dags(
    path: str | Path,
    *,
    default_args: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    strict: bool = False,
) -> dict[str, DAG]:
    """Make a DAG of every cohort in a file, or in all ``*.yaml`` and ``*.yml`` files below a folder.

    A cohort with the key ``impact`` has a second one, which measures what campaigns did to it. A cohort that is defined
    wrongly becomes an import error of its own file, and the others load.

    :param path: a file or a folder; a relative path starts at the folder of the DAG file that calls.
    :param default_args: for every task; added to two retries with growing delay.
    :param tags: added to ``kubit-braze`` and ``cohort:<id>``.
    :param strict: raise instead when a cohort is wrong, as a test in CI wants it.
    :return: DAG id to DAG. The DAGs register themselves; nothing has to be done with this.
    :raises CohortFilesError: with ``strict``, with the problems of every cohort.
    """
    read = read_cohorts(_from_caller(Path(path)))
    problems = list(read.problems)
    # A worker parses the file again for a single task, and needs only that task's DAG.
    wanted = get_parsing_context().dag_id
    dags: dict[str, DAG] = {}
    for loaded in read.cohorts:
        try:
            for make, dag_id in _dags_of(loaded.cohort):
                if wanted in (None, dag_id):
                    dags[dag_id] = make(
                        loaded.cohort, default_args=default_args, tags=tags, source=loaded.place
                    )
        except CohortConfigError as error:
            problems.append(error)
    if problems and strict:
        raise CohortFilesError(problems)
    if wanted is not None:
        # The log of one cohort's task is no place for the others' problems.
        problems = [
            problem
            for problem in problems
            if wanted in (f"kubit_braze__{problem.cohort}", f"kubit_braze_impact__{problem.cohort}")
        ]
    by_file: dict[str, list[CohortConfigError]] = defaultdict(list)
    for problem in problems:
        by_file[problem.file_and_line[0] or str(path)].append(problem)
    for file, of_file in by_file.items():
        report_broken_cohorts(file, of_file)
    return dags


def cohort_dag(
    cohort: Cohort | Mapping[str, Any],
    *,
    default_args: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    source: str | None = None,
) -> DAG:
    """Make the DAG of one cohort: wait for it, import it, tell people.

    With ``shards`` the import is several tasks: one plans it, some deliver it beside each other, one commits it.

    .. code-block:: python

        cohort_dag(
            Cohort(
                id="power_users",
                source={"table": "ANALYTICS.KUBIT.POWER_USERS"},
                identifiers={"external_id": "USER_ID"},
                schedule={"mode": "daily", "at": "06:00", "timezone": "Europe/Berlin"},
            )
        )

    :param cohort: the cohort, or a mapping of its fields.
    :param default_args: for every task; added to two retries with growing delay.
    :param tags: added to ``kubit-braze`` and ``cohort:<id>``.
    :param source: where the cohort is defined, for messages; default: this DAG file.
    :raises CohortConfigError: when it is no cohort, the same DAG file has a DAG of this cohort already, mail is wanted
        and the SMTP provider is not installed, or ``default_args`` has a ``start_date``.
    """
    cohort = given_cohort(cohort, taker="cohort_dag")
    _refuse_second_schedule(cohort, source)
    _refuse_mail_without_smtp(cohort, source)
    _refuse_start_date(cohort, source, default_args or {})
    options = {
        "dry_run": ("Dry run", "Count what would be added and removed, and send nothing."),
        "full_resync": (
            "Full resync",
            "Send every member once more, also those Braze already has. Costs data points.",
        ),
        "override_guards": ("Override guards", "Let this one import pass, whatever the guards say."),
        "undo": (
            "Undo the last import",
            "Do not import; take back what the last import did. Pause the DAG or correct the source, or the next "
            "import does it again.",
        ),
    }
    with DAG(
        dag_id=cohort.dag_id,
        dag_display_name=cohort.name,
        # The page Kubit → Braze reads source and schedule from here.
        description=f"Snowflake to Braze · {_where_from(cohort.source)} · {_when(cohort)}",
        schedule=timetable_of(cohort.schedule),
        start_date=start_date_of(cohort.schedule),
        catchup=False,
        max_active_runs=1,
        tags=["kubit-braze", f"cohort:{cohort.id}", *tags],
        default_args={**DEFAULT_ARGS, **(default_args or {})},
        doc_md=_doc(cohort),
        params={
            name: Param(False, type="boolean", title=title, description=text)
            for name, (title, text) in options.items()
        },
    ) as dag:
        dag.kubit_braze_source = source  # type: ignore[attr-defined]
        import_to_braze = _import(cohort, _sensor(cohort))
        if cohort.notify:
            notify = NotifyImportOperator(
                task_id="notify",
                recipients=[_raw(address) for address in cohort.notify],
                cohort_id=cohort.id,
                cohort_name=_raw(cohort.name),
                when=cohort.notify_when,
            )
            import_to_braze >> notify.as_teardown()
    return dag


def impact_dag(
    cohort: Cohort | Mapping[str, Any],
    *,
    default_args: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    source: str | None = None,
) -> DAG:
    """Make the DAG that measures each day what campaigns did to a cohort.

    :param cohort: the cohort, with ``impact``, or a mapping of its fields.
    :param default_args: for its task; added to two retries with growing delay.
    :param tags: added to ``kubit-braze-impact`` and ``cohort:<id>``.
    :param source: where the cohort is defined, for messages; default: this DAG file.
    :raises CohortConfigError: when it is no cohort or says nothing of an impact, or ``default_args`` has a
        ``start_date``.
    """
    cohort = given_cohort(cohort, taker="impact_dag")
    if cohort.impact is None:
        raise CohortConfigError(
            "no impact is to be measured",
            fix="give the cohort an impact",
            file=source,
            cohort=cohort.id,
            field="impact",
        )
    _refuse_start_date(cohort, source, default_args or {})
    schedule = Schedule(mode="daily", at=cohort.impact.at, timezone=cohort.impact.timezone)
    with DAG(
        dag_id=cohort.impact_dag_id,
        dag_display_name=f"{cohort.name}: impact",
        description=f"What campaigns did to {cohort.name} · {cohort.impact.measure} · {schedule.words()}",
        schedule=timetable_of(schedule),
        start_date=start_date_of(schedule),
        catchup=False,
        max_active_runs=1,
        tags=["kubit-braze-impact", f"cohort:{cohort.id}", *tags],
        default_args={**DEFAULT_ARGS, **(default_args or {})},
        params={
            "full_refresh": Param(
                False,
                type="boolean",
                title="Full refresh",
                description="Measure every day of the period anew, not only those that changed.",
            )
        },
    ) as dag:
        dag.kubit_braze_source = source  # type: ignore[attr-defined]
        CohortImpactOperator(
            task_id="measure_impact", cohort=cohort, outlets=[impact_asset(cohort.id, cohort.braze.conn_id)]
        )
    return dag


def _dags_of(cohort: Cohort) -> list[tuple[Callable[..., DAG], str]]:
    """Return what makes the DAGs of a cohort, and their ids."""
    dags: list[tuple[Callable[..., DAG], str]] = [(cohort_dag, cohort.dag_id)]
    if cohort.impact is not None:
        dags.append((impact_dag, cohort.impact_dag_id))
    return dags


def _import(cohort: Cohort, ready: SnowflakeCohortSensor) -> CohortToBrazeOperator:
    """Make the tasks of the import, and return the one that says how it ended."""
    task_id, outlets = "import_to_braze", [cohort_asset(cohort.id, cohort.braze.conn_id)]
    if cohort.shards == 1:
        whole = CohortToBrazeOperator(task_id=task_id, cohort=cohort, outlets=outlets)
        ready >> whole
        return whole
    plan = PlanImportOperator(task_id=PLAN_TASK_ID, cohort=cohort)
    shards = DeliverShardOperator.partial(
        task_id="deliver_shard", cohort=cohort, map_index_template="shard {{ task.shard }}"
    ).expand(shard=plan.output)
    commit = CommitImportOperator(task_id=task_id, cohort=cohort, outlets=outlets)
    ready >> plan >> shards >> commit
    return commit


def _sensor(cohort: Cohort) -> SnowflakeCohortSensor:
    source, ready = cohort.source, cohort.source.ready
    # How fresh a cohort of criteria is, the table they are over tells; without that, every table has to be there.
    table = source.watched_table if ready else source.table
    scheduled = cohort.schedule is not None and cohort.schedule.mode != "once"
    return SnowflakeCohortSensor(
        task_id="wait_for_cohort",
        table=_raw(table) if table else None,
        sql=None if table else _raw(source.select),
        ready_column=_raw(ready.column) if ready else None,
        within=ready.within if ready else None,
        # Whether an empty cohort may be imported is for the guards to say.
        min_members=0,
        snowflake_conn_id=_raw(source.conn_id),
        cohort_id=cohort.id,
        # Mode once has no tick of its own that the data could belong to.
        as_of="run" if scheduled else "now",
    )


def _raw(text: str) -> str:
    """Keep a cohort file's text from being read as a Jinja template, or as the path of one."""
    if "{" not in text and not text.endswith(".sql"):
        return text
    # A string literal of Jinja's, which takes JSON's escapes.
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"


def _refuse_second_schedule(cohort: Cohort, source: str | None) -> None:
    other = defined_in_this_parse(cohort.dag_id)
    if other is not None:
        place = getattr(other, "kubit_braze_source", None) or "the same DAG file"
        raise CohortConfigError(
            f"a cohort {cohort.id!r} is also defined in {place}, and a cohort has one live schedule",
            fix="rename one of them, or remove it",
            file=source,
            cohort=cohort.id,
            field="id",
        )


def _refuse_mail_without_smtp(cohort: Cohort, source: str | None) -> None:
    if cohort.notify and find_spec("airflow.providers.smtp") is None:
        raise CohortConfigError(
            "notify names recipients, but Airflow's SMTP provider is not installed",
            fix="run pip install 'airflow-provider-kubit-braze[email]', or remove notify",
            file=source,
            cohort=cohort.id,
            field="notify",
        )


def _refuse_start_date(cohort: Cohort, source: str | None, default_args: Mapping[str, Any]) -> None:
    # With one in the past, Airflow runs the tick before the deployment at once: last month's import, today.
    if "start_date" in default_args:
        raise CohortConfigError(
            "default_args has a start_date, but a cohort's schedule begins with its next tick",
            fix="leave start_date out",
            file=source,
            cohort=cohort.id,
            field="schedule",
        )


def _when(cohort: Cohort) -> str:
    return cohort.schedule.words() if cohort.schedule else "on request"


def _where_from(source: Source, *, mark: str = "") -> str:
    """Say where a cohort comes from, with ``mark`` around the name of a table."""
    if source.table is not None:
        return f"{mark}{source.table}{mark}"
    if source.criteria is not None:
        return f"criteria over {mark}{source.criteria.from_}{mark}"
    return "a query"


def _doc(cohort: Cohort) -> str:
    source = cohort.source
    rows = {
        "Comes from": _where_from(source, mark="`"),
        "Schedule": _when(cohort),
        "In Braze": "partner cohort of the same name"
        if cohort.braze.deliver_as == "partner_cohort"
        else f"custom attribute `{cohort.attribute}` is `true`",
        "Connections": f"`{source.conn_id}`, `{cohort.braze.conn_id}`",
        "Mail to": ", ".join(cohort.notify) or "nobody",
    }
    table = "\n".join(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items())
    return f"### {cohort.name}\n\n| | |\n|---|---|\n{table}\n"


def _from_caller(path: Path) -> Path:
    """Resolve a relative path at the folder of the DAG file; a worker's own folder means nothing to its author."""
    import sys

    if path.is_absolute():
        return path
    caller = sys._getframe(2).f_globals.get("__file__")
    return Path(caller).parent / path if caller else path
