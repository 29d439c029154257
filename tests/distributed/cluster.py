"""Airflow on CeleryExecutor: API server, scheduler, DAG processor, and workers that can be killed."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from tests.distributed.processes import PATIENCE, Process, Processes, ProofFailedError
from tests.distributed.services import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.distributed.forwarder import Forwarder

#: Tasks that one worker runs at a time: two workers share the four shards evenly.
SLOTS = 2

#: Seconds without a heartbeat after which a task's process is taken for dead; the default is 300.
HEARTBEAT_TIMEOUT = 20


@dataclass(frozen=True)
class Worker:
    """A Celery worker.

    :param host: what its requests to Braze have as Host header.
    """

    name: str
    process: Process
    host: str


class Cluster:
    """Airflow's components, and its REST API.

    :param programs: folder of the environment's programs.
    :param folder: for Airflow's home; its folder ``dags`` holds the DAG files.
    :param redis: URL of the broker.
    :param postgresql: ``user@host:port/database``.
    """

    def __init__(
        self,
        processes: Processes,
        *,
        programs: Path,
        folder: Path,
        redis: str,
        postgresql: str,
    ) -> None:
        self._processes = processes
        self._airflow = str(programs / "airflow")
        self._folder = folder
        self._started: list[Process] = []
        self.workers: list[Worker] = []
        self.url = f"http://{LOOPBACK}:{free_port()}"
        self._http = requests.Session()
        self._http.trust_env = False
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)},
            "AIRFLOW_HOME": str(folder),
            **_airflow_settings(self.url, folder, redis, postgresql, logs=processes.logs),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONUNBUFFERED": "1",
        }

    def migrate(self) -> Process:
        """Begin to make the tables, and return the process that does it."""
        return self._start("migrate", "db", "migrate", stays=False)

    def start(self, migration: Process) -> None:
        """Start what every Airflow has, when the tables are made."""
        if (code := self._processes.wait_for("end of the migration", lambda: _ended(migration))) != ["0"]:
            raise ProofFailedError(f"'airflow db migrate' ended with {code[0]}; see {migration.log.name}.")
        for name in ("api-server", "scheduler", "dag-processor"):
            self._start(name, name)

    def start_worker(
        self, ways: Forwarder, services: Mapping[str, str], workspace: Mapping[str, Any]
    ) -> Worker:
        """Start another worker.

        :param ways: gives it a way of its own to Braze.
        :param services: environment variables with the connections.
        :param workspace: extras of the Braze connection.
        """
        name = f"worker-{len(self.workers) + 1}"
        host = f"{LOOPBACK}:{ways.open()}"
        braze = json.loads(services[_BRAZE])
        connection = {**braze, "host": f"http://{host}", "extra": workspace}
        process = self._start(
            name,
            *("celery", "worker", "--celery-hostname", name, "--concurrency", str(SLOTS)),
            *("--pid", str(self._folder / f"{name}.pid")),
            *("--skip-serve-logs", "--without-gossip", "--without-mingle"),
            variables={**services, _BRAZE: json.dumps(connection)},
        )
        self.workers.append(worker := Worker(name, process, host))
        return worker

    def wait_until_up(self, dag_id: str) -> None:
        """Wait until everything is up and the DAG can be triggered."""
        self._processes.wait_for("answer of the API server", lambda: self._get("monitor/health"))
        # The first request of a task takes the API server many seconds. Better it is this one, while others start.
        self._http.get(f"{self.url}/execution/connections/none", timeout=PATIENCE)
        self._processes.wait_for("healthy scheduler and DAG processor", self._healthy)
        for worker in self.workers:
            self.wait_until_ready(worker)
        self._processes.wait_for(f"DAG {dag_id}", lambda: self._has(dag_id))

    def wait_until_ready(self, worker: Worker) -> None:
        """Wait until a worker takes tasks."""
        self._processes.wait_for(
            f"word from {worker.name} that it is ready", lambda: b" ready." in worker.process.log.read_bytes()
        )

    def kill_whole(self, worker: Worker) -> None:
        """Kill a worker with all its processes."""
        self._processes.kill(worker.process)

    def kill_main(self, worker: Worker) -> None:
        """Kill a worker's main process only."""
        self._processes.let_go(worker.process)
        worker.process.kill_main()

    def end(self) -> None:
        """Kill everything; there is nothing here that has to end in good order."""
        self._processes.kill(*self._started)

    # -- REST API -----------------------------------------------------------------------------------------------

    def trigger(self, dag_id: str, run_id: str) -> None:
        """Start a DAG run."""
        answer = self._http.post(
            f"{self.url}/api/v2/dags/{dag_id}/dagRuns",
            json={"dag_run_id": run_id, "logical_date": None},
            timeout=60,
        )
        if not answer.ok:
            raise ProofFailedError(f"Airflow did not start run {run_id}: {answer.text}")

    def state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str((self._get(f"dags/{dag_id}/dagRuns/{run_id}") or {}).get("state"))

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        found = self._get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances") or {}
        return list(found.get("task_instances", []))

    def result(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what a task has returned."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        value = (self._get(path) or {}).get("value")
        return dict(json.loads(value) if isinstance(value, str) else value or {})

    def _healthy(self) -> bool:
        found = self._get("monitor/health") or {}
        return all(
            found.get(part, {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def _has(self, dag_id: str) -> bool:
        for error in (self._get("importErrors") or {}).get("import_errors", []):
            raise ProofFailedError(f"Airflow cannot read the DAG: {error['stack_trace']}")
        return self._get(f"dags/{dag_id}") is not None

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            answer = self._http.get(f"{self.url}/api/v2/{path}", timeout=60)
        except requests.RequestException:
            return None
        return dict(answer.json()) if answer.ok else None

    def _start(
        self, name: str, *command: str, stays: bool = True, variables: Mapping[str, str] | None = None
    ) -> Process:
        process = self._processes.start(
            name,
            [self._airflow, *command],
            environment={**self._environment, **(variables or {})},
            cwd=self._folder,
            stays=stays,
        )
        self._started.append(process)
        return process


_BRAZE = "AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"

# The caller's Airflow and Python are none of this one's business.
_NOT_OURS = ("AIRFLOW_", "PYTHON", "VIRTUAL_ENV")


def _ended(process: Process) -> list[str]:
    code = process.popen.poll()
    return [] if code is None else [str(code)]


def _airflow_settings(url: str, folder: Path, redis: str, postgresql: str, *, logs: Path) -> dict[str, str]:
    """Return Airflow's settings, as environment variables."""
    settings = {
        "CORE__EXECUTOR": "CeleryExecutor",
        "CORE__DAGS_FOLDER": folder / "dags",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__FERNET_KEY": "",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
        "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{postgresql}",
        "CELERY__BROKER_URL": redis,
        "CELERY__RESULT_BACKEND": f"db+postgresql://{postgresql}",
        # A worker takes no more than it can run, so that both are at work.
        "CELERY__WORKER_PREFETCH_MULTIPLIER": 1,
        "API__PORT": url.rpartition(":")[2],
        "API__HOST": LOOPBACK,
        "API__BASE_URL": url,
        "API__WORKERS": 1,
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": HEARTBEAT_TIMEOUT,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 2,
        "LOGGING__BASE_LOG_FOLDER": logs / "tasks",
    }
    return {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
