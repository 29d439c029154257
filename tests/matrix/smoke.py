"""The whole walk on whatever Airflow this interpreter has: one cohort, two imports, through ``dag.test()``.

Run by ``scripts/matrix.py`` in an environment that has the wheel and nothing of this folder, with a sandbox's
addresses in the environment. Exits with 0 when Braze, the ledger and the mails are as they should be.
"""

from __future__ import annotations

import datetime
import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HOME = Path(os.environ["AIRFLOW_HOME"])
DAGS = HOME / "dags"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAGS)

DAG_FILE = """
from pathlib import Path
from airflow_provider_kubit_braze.factory import load_cohort_dags

load_cohort_dags(Path(__file__).parent / "cohorts")
"""

COHORTS = """
cohorts:
  - id: smoke
    name: Smoke
    source: {table: DEMO.PUBLIC.SMOKE, ready: {column: COMPUTED_AT, within: 26h}}
    identifiers: {external_id: USER_ID}
    schedule: {mode: daily, at: "09:00", timezone: America/New_York}
    notify: [growth@example.com]
    verify: {sample: 50, after: 1m}
    impact: {source: BRAZE_SHARE.PUBLIC, app_group_id: ours}
  - id: wrong
    source: {table: DEMO.PUBLIC.SMOKE}
    identifiers: {external_id: USER_ID}
    schedule: {mode: monthly, on: 31, at: "09:00"}
"""

CAMPAIGNS = """
from datetime import datetime, timezone
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_kubit_braze.operators.cohort_to_braze import CohortToBrazeOperator
from airflow_provider_kubit_braze.operators.trigger_campaign import TriggerCohortCampaignOperator

start = datetime(2026, 3, 1, tzinfo=timezone.utc)
message = {"campaign_id": "sandbox-campaign", "cohort_id": "smoke", "broadcast": True}

with DAG("campaign", schedule=None, start_date=start, catchup=False):
    TriggerCohortCampaignOperator(task_id="send", **message)

with DAG("rehearsal", schedule=None, start_date=start, catchup=False):
    CohortToBrazeOperator(
        task_id="rehearse",
        cohort_id="smoke",
        table="DEMO.PUBLIC.SMOKE",
        identifiers={"external_id": "USER_ID"},
        dry_run=True,
    ) >> TriggerCohortCampaignOperator(task_id="send", **message)
"""


def check(what: str, found: object, wanted: object) -> None:
    """Stop unless two values are equal."""
    if found != wanted:
        sys.exit(f"{what}: found {found!r}, wanted {wanted!r}")
    print(f"ok: {what}")


def snowflake() -> Any:
    """Connect as the DAG does."""
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

    return SnowflakeHook("snowflake_default").get_conn()


def braze(path: str) -> Any:
    """Ask the local Braze's control surface."""
    import requests

    host = json.loads(os.environ["AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"])["host"]
    if path.startswith("POST "):
        return requests.post(host + path.removeprefix("POST "), json=[], timeout=30).json()
    return requests.get(host + path, timeout=30).json()


def main() -> None:
    """Import a cohort on two days and hold Braze against the source."""
    (DAGS / "cohorts").mkdir(parents=True)
    (DAGS / "my_cohorts.py").write_text(DAG_FILE)
    (DAGS / "cohorts" / "smoke.yaml").write_text(COHORTS)
    (DAGS / "campaigns.py").write_text(CAMPAIGNS)

    import airflow
    from airflow.utils.db import initdb

    print(f"Airflow {airflow.__version__}, Python {sys.version.split()[0]}")
    initdb()
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]  # where Airflow 2.11 has it
    bag = DagBag(str(DAGS))
    (file, error), *more = bag.import_errors.items()
    check("only the wrong cohort is an import error", (Path(file).name, more), ("smoke.yaml", []))
    check("which names cohort and field", "'wrong'" in error and "schedule.on" in error, True)
    dag = bag.dags["kubit_braze__smoke"]

    hasten()
    import_days(dag)
    user_ids = {f"user-{n}" for n in range(1, 301)}
    check("profiles in Braze", set(braze_members()), user_ids - {"user-1", "user-2"} | {"late"})
    check("data points", braze("/_sandbox/counters")["data_points"], 300 + 3)
    check("the run that undoes", one_day(dag, 4, undo=True), "success")
    check("profiles in Braze after the undo", set(braze_members()), user_ids)
    check("data points after the undo", braze("/_sandbox/counters")["data_points"], 300 + 3 + 3)
    found = run(snowflake(), "SELECT VERIFICATION FROM DEMO.KUBIT_BRAZE.IMPORT_RUN ORDER BY STARTED_AT")
    shares = [json.loads(text)["share"] if text else None for (text,) in found]
    check("what was read back from Braze", shares, [1.0, 1.0, None, 1.0])
    check("the run that sends", one_day(bag.dags["campaign"], 5), "success")
    check("the run that only rehearses", one_day(bag.dags["rehearsal"], 5), "success")
    (sent,) = braze("/_sandbox/triggered?kind=external_id")["triggered"]
    check("whom the one message went to", set(sent["selected"]), user_ids)
    measure_impact(bag.dags["kubit_braze_impact__smoke"])


def hasten() -> None:
    """Let the minute before a verification pass at once; only the clock is not the real one."""
    from airflow_provider_kubit_braze.triggers import wait

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime.now(tz) + datetime.timedelta(hours=1)

    setattr(wait, "datetime", Later)  # noqa: B010  (mypy knows that nobody else should)


def import_days(dag: Any) -> None:
    """Import on two days with a difference, and a third time without one."""
    import requests

    host = json.loads(os.environ["AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"])["host"]
    users = [{"external_id": f"user-{n}"} for n in range(1, 301)] + [{"external_id": "late"}]
    requests.post(f"{host}/_sandbox/users", json=users, timeout=30).raise_for_status()
    connection = snowflake()
    run(connection, "CREATE TABLE DEMO.PUBLIC.SMOKE (USER_ID VARCHAR, COMPUTED_AT TIMESTAMP_NTZ)")
    values = ", ".join(f"('user-{n}', '2026-03-01 05:00:00')" for n in range(1, 301))
    run(connection, f"INSERT INTO DEMO.PUBLIC.SMOKE VALUES {values}")
    results = [one_day(dag, 1)]
    run(connection, "DELETE FROM DEMO.PUBLIC.SMOKE WHERE USER_ID IN ('user-1', 'user-2')")
    run(connection, "INSERT INTO DEMO.PUBLIC.SMOKE VALUES ('late', '2026-03-02 05:00:00')")
    results += [one_day(dag, 2)]
    run(connection, "UPDATE DEMO.PUBLIC.SMOKE SET COMPUTED_AT = '2026-03-03 05:00:00'")
    results += [one_day(dag, 3)]
    rows = run(
        connection,
        "SELECT OUTCOME, ADDED, REMOVED, USERS_IMPORTED FROM DEMO.KUBIT_BRAZE.IMPORT_RUN ORDER BY STARTED_AT",
    )
    check("states of the runs", results, ["success"] * 3)
    check(
        "the history",
        [tuple(row) for row in rows],
        [("success", 300, 0, 300), ("success", 1, 2, 299), ("unchanged", 0, 0, 299)],
    )


def measure_impact(dag: Any) -> None:
    """Measure a mail of just now, from a share with one table."""
    table = "BRAZE_SHARE.PUBLIC.USERS_MESSAGES_EMAIL_SEND_SHARED"
    texts = ("ID", "USER_ID", "EXTERNAL_USER_ID", "APP_GROUP_ID", "CAMPAIGN_API_ID")
    connection = snowflake()
    run(connection, "CREATE DATABASE BRAZE_SHARE")
    run(connection, "CREATE SCHEMA IF NOT EXISTS BRAZE_SHARE.PUBLIC")
    run(
        connection,
        f"CREATE TABLE {table} ({', '.join(f'{name} VARCHAR' for name in texts)}, TIME NUMBER(38,0))",
    )
    values = f"'1', 'b', 'user-9', 'ours', 'spring', {int(time.time())}"
    run(connection, f"INSERT INTO {table} ({', '.join(texts)}, TIME) VALUES ({values})")
    check("the run that measures", one_day(dag, 5), "success")
    found = run(
        snowflake(),
        "SELECT MESSAGE_ID, CHANNEL, REACHED, CLICKED FROM DEMO.KUBIT_BRAZE.IMPACT_SUMMARY ORDER BY CHANNEL",
    )
    expected = [("spring", "all", 1, None), ("spring", "email", 1, None), ("spring", "email", 1, None)]
    check("the impact", [tuple(row) for row in found], expected)


def one_day(dag: Any, day: int, **conf: Any) -> str:
    """Run the DAG for a day of March 2026; Airflow 2 and 3 name the argument differently."""
    name = "logical_date" if "logical_date" in inspect.signature(dag.test).parameters else "execution_date"
    moment = datetime.datetime(2026, 3, day, 14, tzinfo=datetime.UTC)
    return str(dag.test(**{name: moment}, run_conf=conf or None).state)


def run(connection: Any, sql: str) -> list[Any]:
    """Run a statement and return its rows."""
    with connection.cursor() as cursor:
        return list(cursor.execute(sql).fetchall())


def braze_members() -> list[str]:
    """Return whom the local Braze has in the cohort."""
    braze("POST /_sandbox/settle")
    members: list[str] = braze("/_sandbox/cohort?attribute=kubit_cohort_smoke")["true"]
    return members


if __name__ == "__main__":
    main()
