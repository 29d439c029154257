"""The proof: two imports, in each of which a worker dies in the middle, and one that has nothing to do."""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.distributed.processes import ProofFailedError, send_signal
from tests.distributed.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox
    from tests.distributed.cluster import Cluster, Worker
    from tests.distributed.forwarder import Forwarder
    from tests.distributed.processes import Processes

COHORT = "distributed"
DAG_ID = f"kubit_braze__{COHORT}"
ATTRIBUTE = f"kubit_cohort_{COHORT}"
TABLE = "DEMO.PUBLIC.DISTRIBUTED"
STATE = "DEMO.KUBIT_BRAZE"
SHARDS = 4

# The half minute between two tries is no part of what is proved.
DAG_FILE = """
from datetime import timedelta
from pathlib import Path
from airflow_provider_kubit_braze.factory import load_cohort_dags

load_cohort_dags(Path(__file__).parent / "cohorts", default_args={"retry_delay": timedelta(seconds=1)})
"""

COHORT_FILE = f"""
id: {COHORT}
source: {{table: {TABLE}}}
identifiers: {{external_id: USER_ID}}
guards: {{max_removed: 60%}}
shards: {SHARDS}
"""

#: Everybody Braze knows. The first two thirds are in the cohort at first, and the last two thirds then: the same number
#: of changes both times, half of them leavers the second time.
USERS = [f"user-{number:05}" for number in range(30_000)]
FIRST, SECOND = USERS[:20_000], USERS[10_000:]

# Until all is seen that is to be seen, each shard sends 4 requests a second with 5 users each: 4 minutes' work.
USERS_PER_REQUEST = 5
IN_FLIGHT = 2
SLOW_MS = 500

#: Requests that a worker shall have sent before it is killed, and that orphans shall send all by themselves.
ENOUGH = 40

# Progress is written every 2 seconds, so a shard that dies, or is taken over, sends about 8 requests again. On a busy
# machine the writing takes a while; more than this, and it has not gone on from where the last try was.
MOST_REPEATED = 40 * USERS_PER_REQUEST


class Proof:
    """One run of the proof.

    :param processes: waits.
    :param cluster: runs the DAG.
    :param sandbox: local Snowflake and Braze.
    :param ways: one to Braze for each worker.
    :param say: prints a line.
    """

    def __init__(
        self,
        processes: Processes,
        cluster: Cluster,
        sandbox: Sandbox,
        ways: Forwarder,
        say: Callable[[str], None],
    ) -> None:
        self._wait_for = processes.wait_for
        self._cluster = cluster
        self._sandbox = sandbox
        self._braze = sandbox.braze
        self._ways = ways
        self._snowflake: SnowflakeConnection = sandbox.connect()
        self.say = say
        self._braze.add_users(USERS)

    def start_worker(self) -> Worker:
        """Start another worker."""
        workspace = {
            # By default the ledger's key would hold the host, which is another one for each worker here.
            "workspace": COHORT,
            "max_objects_per_request": USERS_PER_REQUEST,
            "max_in_flight": IN_FLIGHT,
        }
        return self._cluster.start_worker(self._ways, self._sandbox.env(), workspace)

    def run(self) -> None:
        """Go through everything.

        :raises ProofFailedError: when something is not as it should be.
        """
        self._kill_a_worker()
        self._kill_a_main_process()
        self._import_without_changes()

    # -- the three imports --------------------------------------------------------------------------------------

    def _kill_a_worker(self) -> None:
        run_id = "whole-worker-killed"
        victim, other = self._cluster.workers
        traffic = self._begin(run_id, FIRST)
        self._until_both_send(traffic, victim, other)
        self._cluster.kill_whole(victim)
        unwritten = traffic.users_of(victim.host) - self._written(run_id)
        self.say(f"Killed {victim.name} with all its processes, while both workers were sending.")
        self.start_worker()
        self._braze.configure(latency_ms=0)
        self._until_success(run_id)
        self._see_that_it_is_right(run_id, inside=FIRST, left=[])
        # A dead process writes nothing down any more, so for its two shards this is known exactly.
        known = min(len(unwritten), SHARDS // 2 * MOST_REPEATED)
        self._see_repeats(traffic, at_most=known + (self._retries(run_id) - SHARDS // 2) * MOST_REPEATED)

    def _kill_a_main_process(self) -> None:
        run_id = "main-process-killed"
        _, victim, other = self._cluster.workers
        self._cluster.wait_until_ready(other)
        traffic = self._begin(run_id, SECOND)
        self._until_both_send(traffic, victim, other)
        self._cluster.kill_main(victim)
        killed = traffic.last
        self.say(f"Killed the main process of {victim.name} alone, while both workers were sending.")
        substitute = self.start_worker()
        self._wait_for(
            f"requests from the orphans of {victim.name}",
            lambda: len(traffic.of(victim.host, after=killed)) >= ENOUGH,
        )
        orphans = victim.process.tasks()
        if not orphans:
            raise ProofFailedError(f"None of the tasks of {victim.name} lives, although they send.")
        self.say(f"Its orphaned tasks go on sending (processes {', '.join(map(str, orphans))}).")
        self._wait_for("second try of a shard", lambda: self._retries(run_id, "running"))
        with self._frozen(orphans):
            self._wait_for(f"requests from {substitute.name}", lambda: traffic.of(substitute.host))
        began = traffic.of(substitute.host)[0].number
        self.say(f"{substitute.name} sends what they were sending, and they are still at it.")
        self._wait_for("end of the orphans", lambda: not victim.process.tasks())
        alone = len(traffic.of(victim.host, after=killed)) - len(traffic.of(victim.host, after=began))
        beside = len(traffic.of(victim.host, after=began))
        self.say(
            f"They noticed and ended. They sent {alone} requests by themselves and {beside} beside the retry."
        )
        if not beside:
            raise ProofFailedError(
                "The orphans sent nothing beside the retry, so nothing is proved about that."
            )
        self._braze.configure(latency_ms=0)
        self._until_success(run_id)
        inside = set(SECOND)
        self._see_that_it_is_right(run_id, inside=SECOND, left=[user for user in FIRST if user not in inside])
        self._see_repeats(traffic, at_most=self._retries(run_id) * MOST_REPEATED)

    def _import_without_changes(self) -> None:
        run_id = "nothing-changed"
        before = self._braze.counters().write_requests
        self._cluster.trigger(DAG_ID, run_id)
        self._until_success(run_id)
        result = self._cluster.result(DAG_ID, run_id, "import_to_braze")
        found = (result.get("outcome"), self._braze.counters().write_requests - before)
        self._same("outcome and requests of an import without changes", found, ("unchanged", 0))
        self.say("Right: nothing had changed, and not one request went to Braze.")

    def _begin(self, run_id: str, members: Sequence[str]) -> Traffic:
        self._fill(members)
        self._braze.configure(latency_ms=SLOW_MS)
        traffic = Traffic(self._braze)
        self._cluster.trigger(DAG_ID, run_id)
        self.say(f"Triggered the run {run_id}: {len(members):,} members, {SHARDS} shards.")
        return traffic

    def _until_both_send(self, traffic: Traffic, *workers: Worker) -> None:
        self._wait_for(
            "requests from " + " and ".join(worker.name for worker in workers),
            lambda: all(len(traffic.of(worker.host)) >= ENOUGH for worker in workers),
        )

    def _until_success(self, run_id: str) -> None:
        def ended() -> str:
            state = self._cluster.state(DAG_ID, run_id)
            return state if state in ("success", "failed") else ""

        if (state := self._wait_for(f"end of the run {run_id}", ended)) != "success":
            raise ProofFailedError(f"The run {run_id} ended as {state}.")
        self.say(f"The run ended well, with {self._retries(run_id)} tasks tried again.")

    def _retries(self, run_id: str, state: str | None = None) -> int:
        """Return how often tasks (that are in this state) were tried again."""
        tasks = self._cluster.tasks(DAG_ID, run_id)
        return sum(max(task["try_number"] - 1, 0) for task in tasks if state in (None, task["state"]))

    @contextmanager
    def _frozen(self, pids: list[int]) -> Iterator[None]:
        """Let processes stand still, so that they do not learn what is going on."""
        send_signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            send_signal(pids, signal.SIGCONT)

    # -- Snowflake ----------------------------------------------------------------------------------------------

    def _fill(self, members: Sequence[str]) -> None:
        """Make these the cohort; they are neighbours among all users."""
        self._rows(
            f"CREATE OR REPLACE TABLE {TABLE} AS SELECT 'user-' || LPAD(SEQ4()::VARCHAR, 5, '0') AS USER_ID "
            f"FROM TABLE(GENERATOR(ROWCOUNT => {len(USERS)}))"
        )
        self._rows(f"DELETE FROM {TABLE} WHERE USER_ID NOT BETWEEN '{members[0]}' AND '{members[-1]}'")

    def _written(self, run_id: str) -> set[str]:
        """Return whose change has its verdict in the ledger."""
        rows = self._rows(
            f"SELECT c.USER_ID FROM {STATE}.IMPORT_RUN r JOIN {STATE}.IMPORT_CHANGE c ON c.IMPORT_ID = r.IMPORT_ID "
            f"JOIN {STATE}.IMPORT_PROGRESS p ON p.IMPORT_ID = r.IMPORT_ID AND p.STATUS = 'settled' "
            f"AND c.SEQ BETWEEN p.FIRST_SEQ AND p.LAST_SEQ WHERE r.RUN_ID = '{run_id}'"
        )
        return {user for (user,) in rows}

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self._snowflake.cursor() as cursor:
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    # -- what has to be so --------------------------------------------------------------------------------------

    def _see_that_it_is_right(self, run_id: str, *, inside: list[str], left: list[str]) -> None:
        """Hold Braze, user for user, and the ledger against the source."""
        self._braze.settle()
        profiles = {user["external_id"]: user.get("custom_attributes", {}) for user in self._braze.users()}
        values = dict.fromkeys(inside, True) | dict.fromkeys(left, False)
        wanted = {user: {ATTRIBUTE: values[user]} if user in values else {} for user in USERS}
        self._same("profiles in Braze", profiles, wanted)
        stays = self._rows(f"SELECT USER_ID, LEFT_AT IS NULL FROM {STATE}.COHORT_MEMBERSHIP")
        self._same("open stays", Counter(user for user, is_open in stays if is_open), Counter(inside))
        self._same("closed stays", Counter(user for user, is_open in stays if not is_open), Counter(left))
        columns = ("outcome", "members", "users_imported", "added", "removed", "rejected", "unknown")
        row = ("success", len(inside), len(inside), len(left) or len(inside), len(left), 0, 0)
        found = self._rows(f"SELECT {', '.join(columns)} FROM {STATE}.IMPORT_RUN WHERE RUN_ID = '{run_id}'")
        self._same("rows of the history", found, [row])
        result = self._cluster.result(DAG_ID, run_id, "import_to_braze")
        self._same("results in XCom", tuple(result.get(name) for name in columns), row)
        self.say(
            f"Right, user for user: {len(profiles):,} profiles, {len(stays):,} stays; and history and result."
        )

    def _see_repeats(self, traffic: Traffic, *, at_most: int) -> None:
        changes = traffic.changes()
        repeated = changes.total() - len(changes)
        if repeated > at_most:
            raise ProofFailedError(f"{repeated} changes went out again, and at most {at_most} should have.")
        self.say(f"{repeated} of {len(changes):,} changes went out again, at most {at_most} might have.")

    def _same(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise ProofFailedError(f"The {what} are {str(found)[:300]}, and should be {str(wanted)[:300]}.")
