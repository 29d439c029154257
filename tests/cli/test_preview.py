"""``kubit-braze preview``: it says what the import would do, and nobody can tell that it was there."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.cli import main
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.warehouse.lease import Lease
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables
from tests.cli.conftest import ATTRIBUTE, WORKSPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import World

TABLES = ["COHORT_MEMBERSHIP", "IMPORT_RUN", "IMPORT_CHANGE", "IMPORT_PROGRESS", "IMPORT_LEASE"]


def state(world: World) -> list[Any]:
    # Without an ORDER BY they come in any order.
    return [sorted(world.session.rows(f"SELECT * FROM {world.schema}.{name}"), key=repr) for name in TABLES]


@pytest.fixture
def preview(world: World, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    def look(*more: str) -> tuple[int, dict[str, Any]]:
        code = main(["preview", "vips", "--file", str(world.file), "--json", *more])
        out, err = capsys.readouterr()
        assert out, err
        return code, json.loads(out)

    return look


def test_a_first_import_is_previewed_and_nothing_stays(
    world: World, preview: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    world.source("customer-1", "customer-2", "customer-2", " ", "customer-3", "customer-4")

    code, said = preview()

    assert code == 0
    figures = (
        "members",
        "users_imported",
        "added",
        "removed",
        "unchanged",
        "duplicates",
        "invalid",
        "data_points",
    )
    assert [said[name] for name in figures] == [4, 0, 4, 0, 0, 1, 1, 4]
    assert (said["outcome"], said["requests"], said["would_stop"], said["guards"]) == (
        "dry_run",
        1,
        False,
        [],
    )
    assert said["examples"] == {"added": ["c…1", "c…2", "c…3"]}
    assert said["sql"] == f"SELECT * FROM {world.schema}.SOURCE"
    assert (said["workspace"], said["place"]) == (WORKSPACE, f"attribute:{ATTRIBUTE}")
    assert state(world) == [[]] * len(TABLES)
    assert world.requests == 0


def test_it_says_what_the_import_then_does(
    world: World, preview: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    world.imported("ann", "bob", "cid")
    world.braze.add_users(["dan"])
    world.source("bob", "cid", "dan")
    before = state(world)

    code, said = preview()

    assert state(world) == before
    result = world.run().result
    names = (
        "cohort_id",
        "cohort_name",
        "members",
        "added",
        "removed",
        "unchanged",
        "held_out",
        "data_points",
    )
    assert {name: said[name] for name in names} == {name: getattr(result, name) for name in names}
    assert (code, said["added"], said["removed"]) == (0, 1, 1)


def test_a_guard_that_would_stop_it_is_a_finding(
    world: World,
    preview: Callable[..., tuple[int, dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.imported("ann", "bob")
    world.define(guards={"max_removed": "30%"})
    world.source("ann")

    code, said = preview()

    assert (code, said["would_stop"]) == (1, True)
    [sentence] = said["guards"]
    assert "1 of the 2 users now in Braze would be removed" in sentence
    assert main(["preview", "vips", "--file", str(world.file)]) == 1
    assert f"A guard would stop it: {sentence}" in capsys.readouterr().out


def test_a_running_import_keeps_its_lease_and_is_named(
    world: World, preview: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    world.imported("ann")
    world.source("ann", "bob")
    world.braze.fault("status", "/users/track", status=401, times=None)
    assert world.run("day 2").error is not None
    running = RunIdentity(dag_id="kubit_braze__vips", run_id="day 2")
    tables = Tables(world.schema)

    def connect() -> Session:
        return Session(world.sandbox.connect(), tag={"app": "tests"})

    with closing(connect()) as session, Lease(connect, tables, (WORKSPACE, "vips"), running).held(session):
        leases = world.session.rows(f"SELECT * FROM {tables.lease}")
        code, said = preview()
        assert world.session.rows(f"SELECT * FROM {tables.lease}") == leases

    assert (code, said["added"], said["running"]) == (0, 1, ["day 2"])


def test_a_full_resync_sends_everybody_again(
    world: World, preview: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    world.imported("ann", "bob")

    code, said = preview("--full-resync")

    assert (code, said["added"], said["sent_again"], said["data_points"]) == (0, 0, 2, 2)
    assert set(said["examples"]) == {"sent_again"}


def test_a_screen_for_people(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    query = f"SELECT USER_ID -- [bold]all\nFROM {world.schema}.SOURCE"
    world.define(source={"sql": query}, name="[red]V.I.P.s[/red]")
    world.imported("customer-1")
    world.braze.add_users(["customer-2"])
    world.source("customer-1", "customer-2")

    assert main(["preview", "vips", "--file", str(world.file)]) == 0

    out, err = capsys.readouterr()
    assert err == ""
    assert "[red]V.I.P.s[/red] (vips): what the next import would do" in out
    assert "would add     1  such as c…2" in " ".join(out.split(" "))
    assert "1 data points in 1 requests" in out
    assert "would let it pass" in out
    assert out.endswith(f"Source (connection snowflake_default):\n{query}\n")
    assert "customer" not in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"source": {"table": "NOWHERE_AT_ALL"}}, "Snowflake refuses source.table NOWHERE_AT_ALL"),
        ({"identifiers": {"external_id": "NO_SUCH"}}, "names column NO_SUCH, which the source does not have"),
        ({"braze": {"deliver_as": "partner_cohort"}}, "partner_api_key"),
    ],
    ids=["table", "column", "keys"],
)
def test_what_would_make_the_import_fail_is_a_sentence(
    world: World, fields: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.source("ann")
    world.define(**fields)

    assert main(["preview", "vips", "--file", str(world.file)]) == 1

    assert sentence in capsys.readouterr().err


def test_criteria_are_shown_as_the_query_that_they_become(
    world: World, preview: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    world.source(("ann", 1), ("bob", 2), columns="USER_ID VARCHAR, LEVEL NUMBER(38,0)")
    criteria = {"from": f"{world.schema}.SOURCE", "user": "USER_ID", "all": [{"where": {"LEVEL": 2}}]}
    world.define(source={"criteria": criteria})

    code, said = preview()

    assert (code, said["members"], said["added"]) == (0, 1, 1)
    assert said["sql"].startswith("SELECT")
    assert "LEVEL" in said["sql"]
