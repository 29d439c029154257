"""A cohort of criteria from its YAML file into Braze, with the clock that Snowflake has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.cohort_file import read_cohort_file
from airflow_provider_kubit_braze.warehouse.measure import measure_cohort

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
defaults:
  source:
    criteria: {{from: {schema}.EVENTS, user: USER_ID, time: SENT_AT}}
  identifiers: {{external_id: USER_ID}}
cohorts:
  - id: vips
    source:
      criteria:
        all:
          - {{did: 'buy 100% "of it"', at_least: 2, within: 30d, where: {{SHOP: {{not: 'L''or%'}}}}}}
          - not: {{did: refund, from: {schema}.REFUNDS, event: KIND, within: 7d}}
      ready: {{column: SENT_AT, within: 26h}}
"""


def happened(world: Any, table: str, *rows: tuple[str, str, int, str | None]) -> None:
    """Add events: user, event, days ago, shop."""
    for user, event, ago, shop in rows:
        world.session.execute(
            f"INSERT INTO {world.schema}.{table} SELECT %s, %s, DATEADD(day, %s, SYSDATE()), %s",
            (user, event, -ago, shop),
        )


def test_a_cohort_of_criteria_goes_from_its_file_into_braze(world: Any, tmp_path: Path) -> None:
    file = tmp_path / "vips.yaml"
    file.write_text(FILE.format(schema=world.schema))
    read = read_cohort_file(file)
    assert read.problems == ()
    (cohort,) = (loaded.cohort for loaded in read.cohorts)
    fields = {"source": cohort.source, "identifiers": cohort.identifiers}

    for table, column in (("EVENTS", "EVENT_NAME"), ("REFUNDS", "KIND")):
        world.session.execute(
            f"CREATE TABLE {world.schema}.{table} "
            f"(USER_ID VARCHAR, {column} VARCHAR, SENT_AT TIMESTAMP_NTZ, SHOP VARCHAR)"
        )
    world.braze.add_users(["ann", "bob", "cid", "dot", "eve"])
    bought = 'buy 100% "of it"'
    happened(
        world,
        "EVENTS",
        *[(user, bought, ago, None) for user in ("ann", "bob", "cid", "dot") for ago in (1, 29)],
        ("eve", bought, 1, "x"),
        ("dot", bought, 31, None),
        *[("fay", bought, 1, "L'or%")] * 2,
    )
    happened(
        world, "REFUNDS", ("cid", "refund", 6, None), ("bob", "refund", 8, None), ("zoe", "refund", 1, None)
    )

    first = world.imported("day 1", **fields)

    assert world.cohort_in_braze() == {"ann", "bob", "dot"}
    assert (first.members, first.added, first.invalid, first.duplicates) == (3, 3, 0, 0)
    with world.sandbox.connect() as connection:
        assert measure_cohort(connection, sql=cohort.source.select).members == 3
        ready = measure_cohort(connection, table=cohort.source.watched_table, column="SENT_AT")
        assert ready.newest is not None

    happened(world, "EVENTS", ("eve", bought, 0, None))
    happened(world, "REFUNDS", ("ann", "refund", 0, None))

    second = world.imported("day 2", **{**fields, "guards": {"max_removed": None}})

    assert world.cohort_in_braze() == {"bob", "dot", "eve"}
    assert (second.added, second.removed) == (1, 1)


def test_criteria_that_snowflake_refuses_are_named(world: Any) -> None:
    world.source("a")
    criteria = {"from": f"{world.schema}.SOURCE", "user": "USER_ID", "all": [{"where": {"NO_SUCH": 1}}]}

    end = world.run("day 1", source={"criteria": criteria})

    assert str(end.error).startswith("Cohort 'vips': Snowflake refuses source.criteria: ")
    assert "NO_SUCH" in str(end.error)
