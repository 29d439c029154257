"""What is measured of a campaign that the local Braze ran is what was true of it: neither knows the other's code."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.measuring import measure_impact
from airflow_provider_kubit_braze.sandbox.braze_share import LATEST_DEFAULT
from airflow_provider_kubit_braze.sandbox.campaign_life import (
    CHANNELS,
    ORDER_EVENT,
    Behaviour,
    Message,
    Truth,
    write_life,
)
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

AT = datetime(2026, 9, 1, 9, 0, tzinfo=UTC)
NOW = datetime(2026, 9, 11, 9, 0, tzinfo=UTC)
CAMPAIGN = Message(kind="campaign", api_id="win-back", name="Win back", dispatch_id="d1", send_id="s1")
CANVAS = Message(kind="canvas", api_id="journey", name="Journey", dispatch_id="d2", send_id=None)
MEANT = [{"braze_id": f"b{n}", "external_id": f"u{n}"} for n in range(2_400)]
HELD_OUT = [{"braze_id": f"h{n}", "external_id": f"v{n}"} for n in range(600)]


class World:
    """A share, and the ledger of a cohort whose members stay."""

    def __init__(self, sandbox: Sandbox, name: str) -> None:
        self.share = f"{name}_SHARE.PUBLIC"
        self.session = Session(sandbox.connect(), tag={"app": "tests"})
        self._tables = Tables(name)
        ensure_tables(self.session, self._tables)

    def live(self, message: Message, **how: Any) -> Truth:
        truth = write_life(
            self.session.connection,
            message,
            MEANT,
            held_out=HELD_OUT,
            seed=11,
            app_group_id="g",
            at=AT,
            share=self.share,
            **how,
        )
        # Everybody in the share has been in the cohort for long, and stays; names tell who is held out.
        self.session.execute(
            f"INSERT INTO {self._tables.membership}"
            " (WORKSPACE, COHORT_ID, ID_KIND, USER_ID, HELD_OUT, ENTERED_AT, ENTERED_IMPORT)"
            " SELECT 'w', 'vips', 'external_id', EXTERNAL_USER_ID, EXTERNAL_USER_ID LIKE 'v%%',"
            " CAST('2026-08-01 00:00:00' AS TIMESTAMP_NTZ), 'none'"
            f" FROM {self.share}.{LATEST_DEFAULT} WHERE APP_GROUP_ID = %s",
            ("g",),
        )
        return truth

    def measure(self, **question: Any) -> dict[str, Any]:
        """Return the one message of the report."""
        report = measure_impact(
            ImpactQuestion(source=self.share, app_group_id="g", since=date(2026, 8, 27), **question),
            session=self.session,
            tables=self._tables,
            workspace="w",
            cohort_id="vips",
            now=NOW,
        ).as_dict()
        (message,) = report["messages"]
        return dict(message)


@pytest.fixture(scope="module")
def world(kubit_braze_sandbox: Sandbox) -> Iterator[World]:
    world = World(kubit_braze_sandbox, "LIFE_MEASURED")
    yield world
    world.session.close()


@pytest.fixture(scope="module")
def truth(world: World) -> Truth:
    behaviour = Behaviour(base=0.2, lift=0.25)
    return world.live(CAMPAIGN, behaviour=behaviour, channels=tuple(CHANNELS), variations=3)


@pytest.fixture(scope="module")
def measured(world: World, truth: Truth) -> dict[str, Any]:
    return world.measure()


def test_the_funnel_is_exactly_what_happened(measured: dict[str, Any], truth: Truth) -> None:
    figures = dict(measured["figures"])

    assert (measured["kind"], measured["id"], measured["name"]) == ("campaign", "win-back", "Win back")
    assert figures.pop("revenue") == pytest.approx(truth.attributed_revenue)
    assert figures == truth.figures


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_funnel_of_a_channel_is_exactly_what_happened(
    measured: dict[str, Any], truth: Truth, channel: str
) -> None:
    (found,) = [one["figures"] for one in measured["channels"] if one["channel"] == channel]
    expected = truth.channels[channel]

    assert {name: found[name] for name in expected} == expected
    for name in {"delivered", "seen", "clicked"} - expected.keys():
        assert found[name] is None


def test_variations_have_their_names(measured: dict[str, Any], truth: Truth) -> None:
    reached = {
        one["name"]: one["figures"]["reached"]
        for one in measured["variations"]
        if one["channel"] == "webhook"
    }

    assert reached.keys() == {"A", "B", "C"}
    assert sum(reached.values()) == truth.channels["webhook"]["reached"]


def test_the_groups_are_exactly_those_that_lived(measured: dict[str, Any], truth: Truth) -> None:
    (experiment,) = measured["experiments"]
    conversion, revenue = experiment["conversion"], experiment["revenue"]

    assert (experiment["treated_users"], experiment["control_users"]) == (2_400, 600)
    assert measured["open_users"] == 0
    for side, group in (("treated", truth.treated), ("control", truth.held_out)):
        assert conversion[side] == pytest.approx(group.converters / group.users)
        assert revenue[side] == pytest.approx(group.revenue / group.users)
    assert revenue["currency"] == "USD"


def test_the_true_effect_is_within_the_intervals(measured: dict[str, Any], truth: Truth) -> None:
    (experiment,) = measured["experiments"]
    for effect in (experiment["conversion"], experiment["revenue"]):
        lift = effect["intervals"]["lift"]
        assert lift["low"] < truth.lift < lift["high"]


def test_an_event_may_be_the_goal(world: World, truth: Truth) -> None:
    (experiment,) = world.measure(goal=ORDER_EVENT)["experiments"]

    assert experiment["conversion"]["treated"] == pytest.approx(truth.treated.converters / 2_400)
    assert experiment["conversion"]["control"] == pytest.approx(truth.held_out.converters / 600)


def test_the_control_group_of_a_canvas_is_the_one_that_was_kept_out(
    kubit_braze_sandbox: Sandbox,
) -> None:
    world = World(kubit_braze_sandbox, "LIFE_CANVAS")
    truth = world.live(CANVAS, behaviour=Behaviour(base=0.2, lift=0.25), braze_control=0.2)
    message = world.measure()
    world.session.close()
    figures = dict(message["figures"])

    assert figures.pop("revenue") == pytest.approx(truth.attributed_revenue)
    assert figures == truth.figures
    by_kind = {one["control_kind"]: one for one in message["experiments"]}
    assert by_kind.keys() == {"holdout", "braze_control"}
    inside = by_kind["braze_control"]
    assert inside["treated_users"] == truth.messaged.users
    assert inside["control_users"] == truth.braze_control.users
    for side, group in (("treated", truth.messaged), ("control", truth.braze_control)):
        assert inside["conversion"][side] == pytest.approx(group.converters / group.users)
    outside = by_kind["holdout"]["conversion"]
    assert outside["treated"] == pytest.approx(truth.treated.converters / 2_400)
