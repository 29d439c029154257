"""One import as several tasks: one plans it, shards deliver it beside each other, one commits it.

``factory.cohort_dag`` puts them together for a cohort with ``shards``. In a DAG of one's own::

    plan = PlanImportOperator(task_id="plan_import", cohort=cohort)
    shards = DeliverShardOperator.partial(task_id="deliver_shard", cohort=cohort).expand(shard=plan.output)
    plan >> shards >> CommitImportOperator(task_id="import_to_braze", cohort=cohort)
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.core.run import WHY_KEY, ImportOptions
from airflow_provider_kubit_braze.exceptions import ImportStoppedError
from airflow_provider_kubit_braze.operators.cohort_to_braze import CohortToBrazeOperator

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kubit_braze.endings import ImportEnd
    from airflow_provider_kubit_braze.sharding import ShardedPlan
    from airflow_provider_kubit_braze.work import Work

#: XCom of the planning task for the tasks that go on with it.
PLAN_KEY: Final = "plan"

PLAN_TASK_ID: Final = "plan_import"


class PlanImportOperator(CohortToBrazeOperator):
    """Plan the import of a cohort that is delivered in shards, and judge the plan.

    Takes the cohort and the options as ``CohortToBrazeOperator`` does. An import that ends here (a dry run, a guard
    that stops it, nothing to send) leaves no shards; the committing task then says how it ended.

    The task returns the numbers of the shards, to expand ``DeliverShardOperator`` over.
    """

    def execute(self, context: Context) -> Any:
        """Plan.

        :return: the numbers of the shards; none when the import has ended.
        :raises AirflowFailException: when it failed and no retry can help.
        :raises KubitBrazeError: when it failed and a retry may help.
        """
        from airflow_provider_kubit_braze.sharding import ShardedPlan, plan_shards

        def plan() -> ShardedPlan | ImportEnd:
            with _work(self, context) as work:
                return plan_shards(work, shards=work.cohort.shards)

        found = self.attempt(context, plan)
        if isinstance(found, ShardedPlan):
            context["ti"].xcom_push(key=PLAN_KEY, value=asdict(found))
            return list(range(1, found.shards + 1))
        ended = {
            "import_id": found.import_id,
            "result": found.result.to_dict(),
            "failed": None if found.error is None else str(found.error),
        }
        context["ti"].xcom_push(key=PLAN_KEY, value=ended)
        if found.error is not None and found.retry_helps:
            raise found.error
        # The committing task fails with the reason, where people look for it.
        return []


class DeliverShardOperator(CohortToBrazeOperator):
    """Deliver one shard of a planned import.

    A retry goes on where the shard's last try stopped. A process of that try which was only taken for dead finds out
    before its next note in the ledger, and stops.

    :param shard: which one, from 1.
    :param plan_task_id: the task that planned.
    """

    def __init__(self, *, shard: int, plan_task_id: str = PLAN_TASK_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shard = shard
        self.plan_task_id = plan_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Deliver.

        :return: what the shard has cost: ``data_points``, ``requests``, ``retries``, ``throttled_seconds``.
        :raises AirflowFailException: when it failed and no retry can help.
        :raises KubitBrazeError: when it failed and a retry may help.
        """
        from airflow_provider_kubit_braze.sharding import deliver_shard

        planned = _planned(context, self.plan_task_id)

        def deliver() -> dict[str, Any]:
            with _work(self, context) as work:
                spent = deliver_shard(work, _plan_of(planned), self.shard)
            names = ("data_points", "requests", "retries", "throttled_seconds")
            return {name: getattr(spent, name) for name in names}

        return self.attempt(context, deliver)


class CommitImportOperator(CohortToBrazeOperator):
    """Commit a planned import when its shards have ended, and say how it ended, as ``CohortToBrazeOperator`` does.

    Runs whatever became of the shards: what Braze accepted is written down also when one of them failed.

    :param plan_task_id: the task that planned.
    """

    def __init__(
        self, *, plan_task_id: str = PLAN_TASK_ID, trigger_rule: str = "all_done", **kwargs: Any
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.plan_task_id = plan_task_id

    def run_import(self, context: Context) -> ImportEnd:
        """Commit, or repeat how the import has ended without shards."""
        from airflow_provider_kubit_braze.endings import ImportEnd
        from airflow_provider_kubit_braze.sharding import commit_shards

        planned = _planned(context, self.plan_task_id)
        if "result" in planned:
            why = planned["failed"]
            return ImportEnd(
                result=ImportResult(**planned["result"]),
                import_id=planned["import_id"],
                error=None if why is None else ImportStoppedError(why),
            )
        with _work(self, context) as work:
            return commit_shards(work, _plan_of(planned))


def _work(task: CohortToBrazeOperator, context: Context) -> AbstractContextManager[Work]:
    from airflow_provider_kubit_braze.work import Work

    arguments = task.import_arguments(context)
    if not isinstance(task, PlanImportOperator):
        # What the run was asked for concerns its plan.
        arguments["options"] = ImportOptions()
    # The page shows the progress of one task.
    arguments["tell"] = None
    return Work.begun(task.the_cohort(), **arguments)


def _planned(context: Context, plan_task_id: str) -> dict[str, Any]:
    found = context["ti"].xcom_pull(task_ids=plan_task_id, key=PLAN_KEY)
    if not isinstance(found, dict):
        if why := context["ti"].xcom_pull(task_ids=plan_task_id, key=WHY_KEY):
            raise AirflowFailException(f"The import was not planned: {why}")
        raise AirflowFailException(
            f"There is no plan to go on with: task {plan_task_id} made none, and its log says why."
        )
    return found


def _plan_of(planned: dict[str, Any]) -> ShardedPlan:
    from airflow_provider_kubit_braze.sharding import ShardedPlan

    return ShardedPlan(**planned)
