"""A campaign to one of the cohorts, when somebody starts this DAG: what ``make demo`` sends, and a pattern to copy."""

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_kubit_braze.operators.trigger_campaign import TriggerCohortCampaignOperator

with DAG(
    dag_id="win_back",
    description="Sends a Braze campaign to everybody in a cohort",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["kubit-braze-campaign"],
    # A retry never sends a message twice.
    default_args={"retries": 2},
    params={
        "cohort": Param("lapsed_buyers", type="string", title="Cohort"),
        "campaign": Param("sandbox-campaign", type="string", title="API identifier of the campaign"),
    },
):
    TriggerCohortCampaignOperator(
        task_id="send_campaign",
        campaign_id="{{ params.campaign }}",
        cohort_id="{{ params.cohort }}",
        broadcast=True,
    )
