"""The demo's campaign: a measurement that does not agree with the truth is told, and so is in what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.sandbox.demo_campaign import Measured
from airflow_provider_kubit_braze.sandbox.life_rows import Message
from airflow_provider_kubit_braze.sandbox.life_truth import GroupTruth, Truth
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import Tables, ensure_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

_numbers = count(1)

EMAIL = {"sends": 90, "reached": 90, "delivered": 88, "seen": 30, "clicked": 9}
CARD = {"sends": 50, "reached": 50, "seen": 10, "clicked": 2}


def group(users: int, rate: float) -> GroupTruth:
    return GroupTruth(users=users, conversion_rate=rate, revenue_per_user=10 * rate, converters=0, revenue=0)


TRUTH = Truth(
    message=Message(kind="campaign", api_id="c", name="Win back", dispatch_id="d", send_id=None),
    at=datetime(2026, 11, 1, tzinfo=UTC),
    until=datetime(2026, 11, 4, tzinfo=UTC),
    treated=group(100, 0.27),
    held_out=group(20, 0.2),
    messaged=group(100, 0.27),
    braze_control=group(0, 0.2),
    unknown=0,
    figures={},
    channels={"email": EMAIL, "content card": CARD},
    attributed_revenue=0.0,
    rows=1,
)


@pytest.fixture
def measured(kubit_braze_sandbox: Sandbox) -> Iterator[Callable[..., Measured]]:
    """Writes what was found of the campaign, and reads it back."""
    session = Session(kubit_braze_sandbox.connect(), tag={"app": "tests"})

    def write(cohort: str = "lapsed", **found: Any) -> Measured:
        tables = Tables(f"DEMO_CAMPAIGN_{next(_numbers)}")
        ensure_tables(session, tables)
        of_all = {"COHORT_ID": "lapsed", "MESSAGE_ID": "c", "VARIATION_ID": "all"}
        effects: dict[str, Any] = {"TREATED_USERS": 100, "CONTROL_USERS": 20}
        for measure in ("CONVERSION", "REVENUE"):
            effects |= {f"{measure}_TREATED": 0.26, f"{measure}_CONTROL": 0.2, f"{measure}_LIFT": 0.3}
            effects |= {f"{measure}_LIFT_LOW": 0.1, f"{measure}_LIFT_HIGH": 0.5}
            effects |= {f"{measure}_SENTENCE": f"The campaign raised {measure.lower()}."}
        rows = [
            {"CHANNEL": "all", "REACHED": 95, **effects, **found},
            {"CHANNEL": "email", **{name.upper(): value for name, value in EMAIL.items()}},
            {"CHANNEL": "content card", **{name.upper(): value for name, value in CARD.items()}},
        ]
        for row in rows:
            values = {**of_all, **row}
            session.execute(
                f"INSERT INTO {tables.impact_summary} ({', '.join(values)})"
                f" SELECT {', '.join(['%s'] * len(values))}",
                list(values.values()),
            )
        return Measured(session.connection, cohort, "c", state=tables.schema)

    yield write
    session.close()


def test_a_measurement_that_agrees_is_shown_beside_the_truth(measured: Callable[..., Measured]) -> None:
    found = measured()

    assert found.wrong(TRUTH) is None
    lines = list(found.lines(TRUTH))
    assert "  email                 90       90         88       30        9" in lines
    # Nobody knows what was delivered of content cards.
    assert "  content card          50       50                  10        2" in lines
    (conversion,) = [line for line in lines if line.startswith("  conversion")]
    assert conversion.split() == [
        "conversion",
        "26.00%",
        "20.00%",
        "+30.0%",
        "+10.0%",
        "to",
        "+50.0%",
        "+35.0%",
    ]
    assert lines[-1] == "  The campaign raised conversion."


def test_an_interval_may_have_no_upper_end(measured: Callable[..., Measured]) -> None:
    found = measured(REVENUE_LIFT_HIGH=None)

    assert found.wrong(TRUTH) is None
    assert any("+10.0% to no upper end" in line for line in found.lines(TRUTH))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"CONVERSION_LIFT_LOW": 0.36}, "the true lift of conversion, 0.35, is not within 0.36 to 0.5"),
        ({"REVENUE_LIFT_HIGH": 0.34}, "the true lift of revenue, 0.35, is not within 0.1 to 0.34"),
        ({"REVENUE_LIFT_LOW": None}, "no effect was judged"),
        ({"CONTROL_USERS": 21}, "the groups were measured as (100, 21)"),
    ],
)
def test_a_measurement_that_does_not_agree_is_told(
    measured: Callable[..., Measured], row: dict[str, Any], words: str
) -> None:
    assert measured(**row).wrong(TRUTH) == words


def test_a_funnel_that_is_not_what_happened_is_told(measured: Callable[..., Measured]) -> None:
    truth = replace(TRUTH, channels={**TRUTH.channels, "email": {**EMAIL, "clicked": 8}})

    wrong = measured().wrong(truth)

    assert wrong is not None
    assert wrong.startswith("email was measured as")


def test_nothing_measured_is_told(measured: Callable[..., Measured]) -> None:
    assert measured(cohort="another").wrong(TRUTH) == "no effect was judged"
