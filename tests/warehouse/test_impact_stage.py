"""Whatever is read of a share is read by workspace and time, and by name: nothing of another's, nothing in vain."""

from __future__ import annotations

import re

import pytest

from airflow_provider_kubit_braze.core.impact.tellings import Tellings
from airflow_provider_kubit_braze.core.share_catalogue import catalogue
from airflow_provider_kubit_braze.warehouse.impact_stage import Stage, Staged
from airflow_provider_kubit_braze.warehouse.share_check import Inventory

COLUMNS = {table: frozenset(columns) for table, columns in catalogue().items()}
TOLD = sorted(Tellings(COLUMNS).by_table)
STAGE = Stage(Inventory(share="BRAZE.PUBLIC", columns=COLUMNS), app_group_id="ours")

#: A read of the share: the table, and the conditions that follow it.
_READ = re.compile(r'FROM BRAZE\.PUBLIC\."(\w+)" WHERE (.*?)(?= QUALIFY| GROUP BY|$)')


def reads(sql: str) -> dict[str, str]:
    found = dict(_READ.findall(sql))
    assert len(found) == sql.count("BRAZE.PUBLIC."), "a table is read without conditions"
    return found


@pytest.mark.parametrize("table", TOLD)
def test_events_are_read_by_workspace_and_time_and_by_name(table: str) -> None:
    staged = STAGE.rows(table, first=100, until=200, orphans=None)
    assert reads(staged.sql) == {table: '"APP_GROUP_ID" = %s AND "TIME" >= %s AND "TIME" < %s'}
    assert staged.params == ["ours", 100, 200]
    assert "*" not in staged.sql


def test_who_is_who_is_read_by_workspace_and_time() -> None:
    found = reads(STAGE.aliases(TOLD, first=100, until=200, orphans=None, among=Staged("SELECT 1", [])).sql)
    assert len(found) > 40
    for conditions in found.values():
        assert conditions.startswith('"APP_GROUP_ID" = %s AND "TIME" >= %s AND "TIME" < %s')


def test_what_has_arrived_is_read_by_workspace_time_and_load() -> None:
    """The bare column, compared with a moment of its own kind: only so Snowflake leaves out what came before."""
    query = STAGE.arrivals(TOLD, day="DAY", since=50, first=100, until=200)
    found = reads(query.sql)
    assert sorted(found) == TOLD
    for table, conditions in found.items():
        kind = "LTZ" if catalogue()[table]["SF_CREATED_AT"].startswith("TIMESTAMP_LTZ") else "NTZ"
        assert conditions == (
            '"APP_GROUP_ID" = %s AND "TIME" >= %s AND "TIME" < %s '
            f'AND ("SF_CREATED_AT" > TO_TIMESTAMP_{kind}(%s) OR "SF_CREATED_AT" IS NULL)'
        )
    assert query.params == ["ours", 100, 200, 50] * len(TOLD)


def test_a_name_of_the_share_with_a_percent_sign_is_a_name() -> None:
    stage = Stage(Inventory(share='"100%".PUBLIC', columns=COLUMNS), app_group_id="ours")
    assert '"100%%".PUBLIC."' in stage.rows(TOLD[0], first=1, until=2, orphans=None).sql
