"""``make test-distributed``: CeleryExecutor with two workers, Redis and PostgreSQL, and workers that are killed."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.sandbox.process import SandboxError
from tests.distributed import environment, services
from tests.distributed.cluster import Cluster
from tests.distributed.forwarder import Forwarder
from tests.distributed.processes import Processes, ProofFailedError
from tests.distributed.proof import COHORT_FILE, DAG_FILE, DAG_ID, Proof

LOGS = environment.FOLDER / "logs"
# Of each log, when the proof has failed.
LINES = 15


STARTED = time.monotonic()


def say(text: str) -> None:
    """Print a line, with the seconds so far."""
    print(f"{time.monotonic() - STARTED:5.0f} s  {text}", flush=True)


def main() -> int:
    """Run the proof and return the exit code."""
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    try:
        programs = services.find_programs()
        airflow = environment.prepare()
        say("The environment is made.")
        run(programs, airflow)
    except (ProofFailedError, SandboxError) as error:
        show_logs()
        say(f"The distributed proof failed: {error}")
        return 1
    say("The distributed proof holds; nothing is left running.")
    return 0


def run(programs: dict[str, Path], airflow: Path) -> None:
    """Start everything, go through the proof, and end everything."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubit-braze-distributed-")))
        (folder / "dags" / "cohorts").mkdir(parents=True)
        (folder / "dags" / "my_cohorts.py").write_text(DAG_FILE)
        (folder / "dags" / "cohorts" / "distributed.yaml").write_text(COHORT_FILE)
        processes = stack.enter_context(Processes(LOGS))
        cluster = Cluster(
            processes,
            programs=airflow,
            folder=folder,
            redis=stack.enter_context(services.redis(processes, programs["redis"])),
            postgresql=stack.enter_context(services.postgresql(processes, programs["postgresql"])),
        )
        stack.callback(cluster.end)
        migration = cluster.migrate()
        sandbox = stack.enter_context(Sandbox(directory=LOGS / "sandbox", services=("snowflake", "braze")))
        ways = stack.enter_context(Forwarder(int(sandbox.braze_url.rpartition(":")[2])))
        proof = Proof(processes, cluster, sandbox, ways, say)
        proof.start_worker()
        proof.start_worker()
        say("PostgreSQL, Redis, Snowflake and Braze are up.")
        cluster.start(migration)
        cluster.wait_until_up(DAG_ID)
        say("Airflow is up, with two Celery workers.")
        proof.run()
        say("Ending everything.")


def show_logs() -> None:
    """Print the end of every log, without the API server's notes of who asked it."""
    for log in sorted(LOGS.rglob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        lines = [line[:300] for line in lines if "[http.access]" not in line][-LINES:]
        print(f"\n-- {log.relative_to(environment.PROJECT)}", *lines, sep="\n   ")


if __name__ == "__main__":
    # `kill` ends it like Ctrl-C does: by unwinding, so that everything it started ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("distributed: stopped")
