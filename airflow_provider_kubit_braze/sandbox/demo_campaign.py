"""A campaign of the demos: Airflow triggers it, the local Braze runs it, Airflow measures it."""

from __future__ import annotations

import inspect
import textwrap
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.sandbox.campaign_life import STATE, held_out_of, run_campaign

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
    from airflow_provider_kubit_braze.sandbox.life_truth import Truth

#: The DAG that sends a campaign to a cohort.
DAG_ID: Final = "win_back"

#: As ``dags/cohorts/cdnow.yaml`` says it.
APP_GROUP_ID: Final = "sandbox"
WINDOW: Final = timedelta(days=2)

_FUNNEL: Final = ("REACHED", "SENDS", "DELIVERED", "SEEN", "CLICKED")
_EFFECT: Final = ("TREATED", "CONTROL", "LIFT", "LIFT_LOW", "LIFT_HIGH", "SENTENCE")


def run_dag(dag: Any, moment: datetime, conf: Mapping[str, Any] | None = None) -> Any:
    """Run a DAG as of a moment, in this process, and return the run."""
    # Airflow 2 and 3 name the argument differently.
    name = "logical_date" if "logical_date" in inspect.signature(dag.test).parameters else "execution_date"
    return dag.test(**{name: moment}, run_conf=dict(conf or {}))


def let_it_run(
    braze: BrazeControl, connection: SnowflakeConnection, cohort: str, campaign: str, **how: Any
) -> Truth:
    """Let a campaign that was triggered for a cohort run its course.

    :param how: as ``run_campaign`` takes it.
    """
    return run_campaign(
        braze,
        connection,
        campaign,
        app_group_id=APP_GROUP_ID,
        held_out=held_out_of(connection, cohort),
        # Who is in one cohort of the demo is somebody else in another.
        others=0,
        **how,
    )


class Measured:
    """What ``IMPACT_SUMMARY`` says of a campaign.

    :param connection: to the local Snowflake.
    :param cohort: the cohort.
    :param campaign: its API identifier.
    :param state: schema of the state tables.
    """

    def __init__(
        self, connection: SnowflakeConnection, cohort: str, campaign: str, *, state: str = STATE
    ) -> None:
        columns = ["NAME", "CHANNEL", *_FUNNEL, "TREATED_USERS", "CONTROL_USERS"]
        columns += [f"{measure}_{part}" for measure in ("CONVERSION", "REVENUE") for part in _EFFECT]
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {', '.join(columns)} FROM {state}.IMPACT_SUMMARY WHERE COHORT_ID = %s"
                " AND MESSAGE_ID = %s AND VARIATION_ID = 'all' ORDER BY REACHED DESC, CHANNEL",
                (cohort, campaign),
            )
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        #: Channel -> figures, in lower case.
        self.channels = {
            row["CHANNEL"]: {name.lower(): row[name] for name in _FUNNEL}
            for row in rows
            if row["CHANNEL"] != "all"
        }
        self._whole: Mapping[str, Any] = next((row for row in rows if row["CHANNEL"] == "all"), {})

    @property
    def is_judged(self) -> bool:
        """Whether there is an interval for conversion and revenue."""
        return all(
            self._whole.get(f"{measure}_LIFT_LOW") is not None for measure in ("CONVERSION", "REVENUE")
        )

    def wrong(self, truth: Truth) -> str | None:
        """Return in what the measurement does not agree with the truth; None when it does."""
        if not self.is_judged:
            return "no effect was judged"
        for channel, figures in truth.channels.items():
            found = self.channels.get(channel, {})
            if {name: found.get(name) for name in figures} != figures:
                return f"{channel} was measured as {found}, and was {dict(figures)}"
        groups = (self._whole["TREATED_USERS"], self._whole["CONTROL_USERS"])
        if groups != (truth.treated.users, truth.held_out.users):
            return f"the groups were measured as {groups}"
        for measure in ("CONVERSION", "REVENUE"):
            low, high = self._whole[f"{measure}_LIFT_LOW"], self._whole[f"{measure}_LIFT_HIGH"]
            if truth.lift is None or not low <= truth.lift or (high is not None and truth.lift > high):
                return f"the true lift of {measure.lower()}, {truth.lift}, is not within {low} to {high}"
        return None

    def lines(self, truth: Truth) -> Iterator[str]:
        """Return the measurement as a table for people, beside the truth."""
        yield "  channel          reached    sends  delivered     seen  clicked"
        for channel, figures in self.channels.items():
            cells = [
                "" if figures[name.lower()] is None else f"{figures[name.lower()]:,}" for name in _FUNNEL
            ]
            yield "  {:<15} {:>8} {:>8} {:>10} {:>8} {:>8}".format(channel, *cells)
        yield "                  treated  held out      lift   95% interval          true lift"
        for measure, form in (("CONVERSION", "{:.2%}"), ("REVENUE", "${:,.2f}")):
            row = {part: self._whole[f"{measure}_{part}"] for part in _EFFECT}
            high = "no upper end" if row["LIFT_HIGH"] is None else "{:+.1%}".format(row["LIFT_HIGH"])
            interval = "{:+.1%} to {}".format(row["LIFT_LOW"], high)
            name = "conversion" if measure == "CONVERSION" else "revenue a user"
            yield (
                f"  {name:<14} {form.format(row['TREATED']):>8} {form.format(row['CONTROL']):>9}"
                f" {row['LIFT']:>+9.1%}   {interval:<20}  {truth.lift:>+9.1%}"
            )
        yield from textwrap.wrap(
            self._whole["CONVERSION_SENTENCE"], 100, initial_indent="  ", subsequent_indent="  "
        )
