"""The part of the demo that Airflow runs: the cohorts of successive days, imported, shown and proved.

``make demo`` gives it a process of its own, see ``demo``.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_kubit_braze.core.holdout import is_held_out
from airflow_provider_kubit_braze.sandbox import cdnow, demo_campaign
from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_CAMPAIGN
from airflow_provider_kubit_braze.sandbox.life_people import Behaviour
from airflow_provider_kubit_braze.sandbox.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Successive days of the purchase history.
DAYS = tuple(datetime.date(1997, 3, day) for day in (24, 25, 26))

#: Who is held out, as the cohort file says it.
HOLDOUTS = {"lapsed_buyers": "20%", "new_this_week": "20%"}

COHORTS = ("repeat_buyers", "big_spenders", "lapsed_buyers", "new_this_week")

#: Whom the campaign is for, and what it does to them: 27 % buy within two days, 20 % of those held out.
CAMPAIGN_COHORT = "lapsed_buyers"
EFFECT = Behaviour(
    base=0.2,
    lift=0.35,
    window=demo_campaign.WINDOW,
    before=2 * demo_campaign.WINDOW,
    after=demo_campaign.WINDOW / 4,
)
SEED = 1997

_LINE = "  {cohort:<15} {outcome:<10} {added:>7} {removed:>8} {unchanged:>11} {users_imported:>9} {data_points:>12}"


class DemoFailedError(Exception):
    """The demo did not show what it set out to show."""


class Demo:
    """The demo's steps, and where they print.

    :param mails: the mailbox's file.
    :param out: where people read.
    """

    def __init__(self, *, mails: Path, out: TextIO) -> None:
        from airflow.providers.common.compat.sdk import BaseHook
        from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

        self._braze = BrazeControl(str(BaseHook.get_connection("kubit_braze_default").host))
        self._mailbox = Mailbox(file=mails, host="", port=0)
        self._connection = SnowflakeHook("snowflake_default").get_conn()
        self._out = out
        self._dags: Mapping[str, Any] = {}
        self._planned_points = 0

    def say(self, text: str = "") -> None:
        """Print a line."""
        print(text, file=self._out, flush=True)

    def read_dags(self, dags_folder: Path) -> None:
        """Make Airflow's database, and let Airflow read the cohort files."""
        from airflow.utils.db import initdb

        initdb()
        try:
            from airflow.dag_processing.dagbag import DagBag
        except ImportError:
            from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
        bag = DagBag(str(dags_folder))
        if bag.import_errors:
            raise DemoFailedError(f"Airflow cannot read the DAGs: {bag.import_errors}")
        self._dags = bag.dags
        self.say(
            f"Airflow read {len(bag.dags)} DAGs from {dags_folder.name}, four of them import a cohort each:"
        )
        for cohort in COHORTS:
            self.say(f"  {self._dag(cohort).dag_id:<29} {self._dag(cohort).description}")

    def run_day(self, number: int, day: datetime.date, run_date: datetime.date) -> None:
        """Compute the cohorts as of a day and import all of them."""
        computed = datetime.datetime.combine(run_date, datetime.time(5))
        cdnow.compute_cohorts(self._connection, day, computed_at=computed)
        self.say(f"\nDay {number}, the cohorts as of {day:%d %B %Y}:")
        self.say(_LINE.format(**_HEADINGS))
        for cohort in COHORTS:
            self._import(cohort, datetime.datetime.combine(run_date, datetime.time(9), datetime.UTC))
        self._compare()

    def run_again(self, run_date: datetime.date) -> None:
        """Import once more without any change, which must not cost a single request."""
        before = self._braze.counters().write_requests
        self.say("\nOnce more, and nothing has changed:")
        self.say(_LINE.format(**_HEADINGS))
        for cohort in COHORTS:
            self._import(cohort, datetime.datetime.combine(run_date, datetime.time(18), datetime.UTC))
        sent = self._braze.counters().write_requests - before
        if sent:
            raise DemoFailedError(f"{sent} requests went to Braze although nothing had changed")
        self.say("  Not one request went to Braze.")

    def sum_up(self) -> None:
        """Hold the costs against what was planned, and show the mails and the history."""
        counters = self._braze.counters()
        if counters.data_points != self._planned_points:
            raise DemoFailedError(
                f"Braze counted {counters.data_points:,} data points, entrants and leavers are {self._planned_points:,}"
            )
        self.say(
            f"\nBraze counted {counters.data_points:,} data points in {counters.write_requests:,} requests: "
            "exactly one for each user who entered or left."
        )
        mails = self._mailbox.messages()
        self.say(f"{len(mails)} mails went to the recipients named in the cohort file; the last one says")
        self.say(f"  {mails[-1].message['Subject']}")
        rows = self._rows(
            "SELECT STARTED_AT, COHORT_ID, OUTCOME, ADDED, REMOVED, USERS_IMPORTED, DURATION_SECONDS "
            "FROM DEMO.KUBIT_BRAZE.IMPORT_RUN ORDER BY STARTED_AT"
        )
        self.say("\nThe history, from KUBIT_BRAZE.IMPORT_RUN in Snowflake:")
        for started, cohort, outcome, added, removed, users, seconds in rows:
            self.say(
                f"  {started:%H:%M:%S}  {cohort:<15} {outcome:<10} +{added:<6,} -{removed:<6,} "
                f"{users:>6,} in Braze  {seconds:5.2f} s"
            )

    def send_campaign(self) -> None:
        """Send a campaign to a cohort, let the local Braze run it, measure it, and hold that against the truth."""
        import time_machine

        cohort, now = CAMPAIGN_COHORT, datetime.datetime.now(datetime.UTC)
        self._succeed(demo_campaign.DAG_ID, now, {"cohort": cohort, "campaign": DEFAULT_CAMPAIGN})
        truth = demo_campaign.let_it_run(
            self._braze,
            self._connection,
            cohort,
            DEFAULT_CAMPAIGN,
            name="Win back",
            seed=SEED,
            at=now,
            behaviour=EFFECT,
        )
        self.say(
            f"\nA campaign to {cohort}, sent by Airflow: in Braze it means {truth.treated.users:,} users, and "
            f"{truth.held_out.users:,} are held out."
        )
        self.say(f"  What they all did in the days after is {truth.rows:,} rows of the local data share.")
        # As measured when it is all over, and nobody has to wait for it.
        with time_machine.travel(truth.until + datetime.timedelta(hours=1), tick=True):
            self._succeed(f"kubit_braze_impact__{cohort}", datetime.datetime.now(datetime.UTC))
        measured = demo_campaign.Measured(self._connection, cohort, DEFAULT_CAMPAIGN)
        if wrong := measured.wrong(truth):
            raise DemoFailedError(wrong)
        self.say("\nIts impact, as Airflow measured it when the two days were over:")
        for line in measured.lines(truth):
            self.say(line)
        self.say("  The funnel is what happened, and the true lift lies in both intervals.")

    def _succeed(self, dag_id: str, moment: datetime.datetime, conf: Mapping[str, Any] | None = None) -> None:
        run = demo_campaign.run_dag(self._dags[dag_id], moment, conf)
        if str(run.state) != "success":
            raise DemoFailedError(f"{dag_id} ended as {run.state}")

    def _dag(self, cohort: str) -> Any:
        return self._dags[f"kubit_braze__{cohort}"]

    def _import(self, cohort: str, moment: datetime.datetime) -> None:
        run = demo_campaign.run_dag(self._dag(cohort), moment)
        columns = [name for name in _HEADINGS if name != "cohort"]
        rows = self._rows(
            f"SELECT {', '.join(columns).upper()} FROM DEMO.KUBIT_BRAZE.IMPORT_RUN WHERE COHORT_ID = %s "
            "AND RUN_ID = %s",
            (cohort, run.run_id),
        )
        if len(rows) != 1 or str(run.state) != "success":
            raise DemoFailedError(f"the import of {cohort} ended as {run.state}")
        result = dict(zip(columns, rows[0], strict=True))
        self._planned_points += result["added"] + result["removed"]
        shown = {k: f"{v:,}" if isinstance(v, int) else v for k, v in result.items()}
        self.say(_LINE.format(cohort=cohort, **shown))

    def _compare(self) -> None:
        """Hold Braze's profiles against the source without the held out, user for user."""
        self._braze.settle()
        held_out = {}
        for cohort in COHORTS:
            source = {user for (user,) in self._rows(f"SELECT USER_ID FROM {cdnow.COHORT_SCHEMA}.{cohort}")}
            share = HOLDOUTS.get(cohort, 0)
            kept = {user for user in source if is_held_out(cohort, "external_id", user, share)}
            braze = self._braze.cohort(f"kubit_cohort_{cohort}")
            if source - kept != braze:
                missing, beyond = len(source - kept - braze), len(braze - (source - kept))
                raise DemoFailedError(
                    f"{cohort}: {missing} members are missing in Braze, {beyond} are too many"
                )
            if share:
                held_out[cohort] = len(kept)
        self.say("  Braze's profiles equal the source, user for user, in all four cohorts.")
        words = " and ".join(f"{many:,} {cohort}" for cohort, many in held_out.items())
        self.say(f"  Held out by their hash, and not in Braze's cohorts: {words}.")

    def _rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return [tuple(row) for row in cursor.fetchall()]


_HEADINGS = {
    "cohort": "cohort",
    "outcome": "outcome",
    "added": "added",
    "removed": "removed",
    "unchanged": "left alone",
    "users_imported": "in Braze",
    "data_points": "data points",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the days against the sandbox that the environment's connections name; return the exit code."""
    parser = argparse.ArgumentParser(description="The part of make demo that Airflow runs")
    parser.add_argument("--dags", type=Path, required=True)
    parser.add_argument("--mails", type=Path, required=True)
    args = parser.parse_args(arguments)
    threading.Thread(target=end_with_parent, name="parent watch", daemon=True).start()
    # People read what the demo says; Airflow's own log goes where its errors go.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    demo = Demo(mails=args.mails, out=out)
    try:
        demo.read_dags(args.dags)
        today = datetime.datetime.now(datetime.UTC).date()
        first = today - datetime.timedelta(days=len(DAYS) + 1)
        for number, day in enumerate(DAYS):
            demo.run_day(number + 1, day, first + datetime.timedelta(days=number))
        demo.run_again(first + datetime.timedelta(days=len(DAYS) - 1))
        demo.sum_up()
        demo.send_campaign()
    except DemoFailedError as error:
        demo.say(f"\nThis is not as it should be: {error}.")
        return 1
    return 0


def end_with_parent() -> None:
    """Wait for the end of standard input, which only the parent's own end brings about."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
