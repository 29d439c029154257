"""The past that ``make ui`` shows: real imports by real Airflow on the days that have gone by, under a set clock.

It has a process of its own, because Airflow takes over the one it runs in, and because the clock is set in all of it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.holdout import is_held_out
from airflow_provider_kubit_braze.sandbox import cdnow, demo_campaign
from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_CAMPAIGN
from airflow_provider_kubit_braze.sandbox.demo_days import EFFECT, HOLDOUTS, end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_kubit_braze.sandbox.life_people import Behaviour

#: The day of the purchase history that today stands for; the days before it stand for the days before today.
TODAY: Final = datetime.date(1997, 3, 26)

#: The cohort whose last import a guard has stopped, the one whose imports rest, and the one Braze took not all of.
STOPPED, PAUSED, PARTIAL = "repeat_buyers", "lapsed_buyers", "big_spenders"

#: What Braze says to users of the partial import.
REASON: Final = "The external_id is not valid"

#: What it prints first: Airflow's database is there, and a line on the standard input lets it go on.
DATABASE_READY: Final = "database ready"

_SECOND: Final = datetime.timedelta(seconds=1)
_HOUR: Final = datetime.timedelta(hours=1)


SEED: Final = 1997

_IMPORT: Final = "kubit_braze__"
_IMPACT: Final = "kubit_braze_impact__"


@dataclass(frozen=True)
class Campaign:
    """A campaign of the past.

    :param cohort: whom it was sent to.
    :param message_id: its API identifier.
    :param name: what the share calls it.
    :param behaviour: what it did.
    :param ago: when it was sent, if the cohort is older than that.
    """

    cohort: str
    message_id: str
    name: str
    behaviour: Behaviour
    ago: datetime.timedelta


#: One whose effect is plain to see, and one whose cohort is small when the past goes back weeks.
CAMPAIGNS: Final = (
    Campaign(
        "new_this_week", DEFAULT_CAMPAIGN, "Welcome", replace(EFFECT, lift=0.5), datetime.timedelta(days=6)
    ),
    Campaign("lapsed_buyers", "win-back", "Win back", EFFECT, datetime.timedelta(days=4)),
)


class Past:
    """The simulated weeks.

    :param dags_folder: Airflow's folder of DAG files.
    :param days: how far back it goes.
    :param say: takes a line for people.
    """

    def __init__(self, dags_folder: Path, *, days: int, say: Callable[[str], None]) -> None:
        from airflow.providers.common.compat.sdk import BaseHook
        from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

        self._folder = dags_folder
        self._days = days
        self._say = say
        self._braze = BrazeControl(str(BaseHook.get_connection("kubit_braze_default").host))
        self._connection = SnowflakeHook("snowflake_default").get_conn()
        self._now = datetime.datetime.now(datetime.UTC)
        self._computed: datetime.date | None = None

    def make(self) -> None:
        """Import what was due, in its order, and leave the sources as they are today."""
        try:
            from airflow.dag_processing.dagbag import DagBag
        except ImportError:
            from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

        bag = DagBag(str(self._folder))
        if bag.import_errors:
            raise RuntimeError(f"Airflow cannot read the DAGs: {bag.import_errors}")
        self._braze.configure(campaigns=[campaign.message_id for campaign in CAMPAIGNS])
        ticks = {
            dag_id: self._ticks(dag)
            for dag_id, dag in bag.dags.items()
            if dag_id.startswith((_IMPORT, _IMPACT))
        }
        steps: list[tuple[datetime.datetime, Callable[[], None]]] = []
        for dag_id, dag in bag.dags.items():
            if dag_id.startswith(_IMPORT):
                steps += [
                    (tick, partial(self._import_due, dag, tick, is_last=tick == ticks[dag_id][-1]))
                    for tick in ticks[dag_id]
                ]
        for campaign in CAMPAIGNS:
            moment = self._sent(campaign, ticks.get(f"{_IMPORT}{campaign.cohort}", []))
            if moment is not None:
                steps.append((moment, partial(self._send, bag.dags[demo_campaign.DAG_ID], campaign, moment)))
        for _, step in sorted(steps, key=lambda one: one[0]):
            step()
        for dag_id, dag in bag.dags.items():
            if dag_id.startswith(_IMPACT) and ticks[dag_id]:
                self._measure(dag, ticks[dag_id][-1])
        self._compute(self._now)
        self._hand_over(f"{_IMPORT}{PAUSED}")

    def _import_due(self, dag: Any, tick: datetime.datetime, *, is_last: bool) -> None:
        """Do what was due at a moment, or what became of it."""
        cohort = dag.dag_id.removeprefix(_IMPORT)
        self._compute(tick)
        if is_last and cohort == STOPPED:
            self._lose_half(cohort)
        if is_last and cohort == PARTIAL:
            for user in self._some_entrants(cohort):
                self._braze.fault("reject_ids", ids=[user], message=REASON, times=1)
        state = self._import(dag, tick)
        self._say(f"  {tick:%d %b %H:%M} UTC  {cohort:<15} {state}")
        if is_last and cohort == STOPPED:
            # The data were put right in the morning, so that an import started now succeeds.
            self._computed = None

    def _ticks(self, dag: Any) -> list[datetime.datetime]:
        import pendulum
        from airflow.timetables.base import DataInterval, TimeRestriction
        from airflow.timetables.simple import NullTimetable, OnceTimetable

        first = self._now - datetime.timedelta(days=self._days)
        if isinstance(dag.timetable, NullTimetable):
            return []
        if isinstance(dag.timetable, OnceTimetable):
            return [first + datetime.timedelta(minutes=5)]
        ticks = []
        interval = DataInterval.exact(pendulum.instance(first))
        anything = TimeRestriction(earliest=None, latest=None, catchup=True)
        while (
            info := dag.timetable.next_dagrun_info(
                last_automated_data_interval=interval, restriction=anything
            )
        ) and info.run_after < self._now - 60 * _SECOND:
            ticks.append(info.run_after)
            interval = info.data_interval
        # A cohort whose day lies further back has an import to show all the same.
        return ticks or [first]

    def _compute(self, tick: datetime.datetime) -> None:
        """Let the nightly job of that day have run."""
        day = TODAY - (self._now.date() - tick.date())
        if day != self._computed:
            stamp = (tick - datetime.timedelta(hours=1)).astimezone(datetime.UTC).replace(tzinfo=None)
            cdnow.compute_cohorts(self._connection, day, computed_at=stamp)
            self._computed = day

    def _lose_half(self, cohort: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {cdnow.COHORT_SCHEMA}.{cohort} WHERE RIGHT(USER_ID, 1) < '5'")

    def _some_entrants(self, cohort: str) -> list[str]:
        """Return a few members whom Braze has not got yet: few enough for the guard max_rejected."""
        in_braze = self._braze.cohort(f"kubit_cohort_{cohort}")
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT USER_ID FROM {cdnow.COHORT_SCHEMA}.{cohort} ORDER BY USER_ID")
            members = [user for (user,) in cursor.fetchall()]
        share = HOLDOUTS.get(cohort, 0)
        entrants = [
            user
            for user in members
            if user not in in_braze and not is_held_out(cohort, "external_id", user, share)
        ]
        return entrants[: max(1, min(4, len(entrants) // 150))]

    def _sent(self, campaign: Campaign, imports: list[datetime.datetime]) -> datetime.datetime | None:
        """Return when a campaign was sent; None when it would not be over yet."""
        if not imports:
            return None
        moment = max(imports[0] + _HOUR, self._now - campaign.ago)
        behaviour = campaign.behaviour
        return moment if moment + behaviour.window + behaviour.after < self._now else None

    def _send(self, dag: Any, campaign: Campaign, moment: datetime.datetime) -> None:
        """Trigger a campaign as of a moment, and let the local Braze run it."""
        import time_machine

        with time_machine.travel(moment, tick=True):
            conf = {"cohort": campaign.cohort, "campaign": campaign.message_id}
            run = demo_campaign.run_dag(dag, moment, conf)
        truth = demo_campaign.let_it_run(
            self._braze,
            self._connection,
            campaign.cohort,
            campaign.message_id,
            name=campaign.name,
            seed=SEED,
            at=moment,
            behaviour=campaign.behaviour,
        )
        self._say(
            f"  {moment:%d %b %H:%M} UTC  {campaign.cohort:<15} campaign {campaign.name}: {run.state}, "
            f"{truth.treated.users:,} users, true lift {truth.lift:+.0%}"
        )

    def _measure(self, dag: Any, tick: datetime.datetime) -> None:
        """Measure an impact: the last time it was due, but of all that there is by now."""
        run = demo_campaign.run_dag(dag, tick)
        self._as_scheduled(run)
        self._say(f"  {tick:%d %b %H:%M} UTC  {dag.dag_id.removeprefix(_IMPACT):<15} impact {run.state}")

    def _import(self, dag: Any, tick: datetime.datetime) -> str:
        import time_machine

        with time_machine.travel(tick + 4 * _SECOND, tick=True):
            run = demo_campaign.run_dag(dag, tick)
        self._as_scheduled(run)
        return str(run.state)

    def _as_scheduled(self, run: Any) -> None:
        """Say that the schedule has started it, as it would have."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from airflow.utils.types import DagRunTriggeredByType, DagRunType
        from sqlalchemy import update

        with create_session() as session:
            session.execute(
                update(DagRun)
                .where(DagRun.dag_id == run.dag_id, DagRun.run_id == run.run_id)
                .values(
                    run_type=DagRunType.SCHEDULED,
                    triggered_by=DagRunTriggeredByType.TIMETABLE,
                    triggering_user_name=None,
                )
            )

    def _hand_over(self, paused: str) -> None:
        """Pause a DAG, and let Airflow work out anew when each is due: what it noted was right in the past."""
        from airflow.models.dag import DagModel
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session() as session:
            session.execute(update(DagModel).values(next_dagrun=None, next_dagrun_create_after=None))
            session.execute(update(DagModel).where(DagModel.dag_id == paused).values(is_paused=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the past in the Airflow and the sandbox that the environment names."""
    parser = argparse.ArgumentParser(description="The part of make ui that has already happened")
    parser.add_argument("--dags", type=Path, required=True)
    parser.add_argument("--days", type=int, required=True)
    args = parser.parse_args(arguments)
    # People read what this says; Airflow's own log goes where its errors go.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from airflow.utils.db import initdb

    initdb()
    print(DATABASE_READY, file=out, flush=True)
    # The source is being loaded meanwhile.
    if sys.stdin.readline():
        threading.Thread(target=end_with_parent, name="parent watch", daemon=True).start()
        Past(args.dags, days=args.days, say=lambda line: print(line, file=out, flush=True)).make()
    return 0


if __name__ == "__main__":
    sys.exit(main())
