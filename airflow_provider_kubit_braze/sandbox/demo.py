"""``make demo``: three days of real customers through real Airflow, from the local Snowflake into the local Braze, and
a campaign to some of them with what it did.

Everything it needs it starts, and everything it started it ends, whatever happens. Airflow gets a process of its
own, because inside a task it takes SIGTERM for itself and a ``KeyboardInterrupt`` for the task's failure: only from
outside can it be ended at any moment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.sandbox import cdnow
from airflow_provider_kubit_braze.sandbox.braze_share import make_share_tables
from airflow_provider_kubit_braze.sandbox.manager import Sandbox
from airflow_provider_kubit_braze.sandbox.process import SandboxError, stop_event

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

#: Seconds between two looks at whether Airflow has ended.
_POLL_SECONDS: Final = 0.1

_INTERRUPTED: Final = 130

#: Everything is on this machine, and a proxy would not find it.
_NO_PROXY: Final = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def main() -> int:
    """Run the demo and return the exit code: 0, 1 for a failure, 130 when it was interrupted."""
    dags = Path(__file__).parents[2] / "dags"
    if not (dags / "cohorts").is_dir():
        print("The demo needs a checkout of the project: run make demo there.", file=sys.stderr)
        return 2
    stop = stop_event(exit_with_parent=False)
    os.environ.update(_NO_PROXY)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kubit-braze-demo-") as folder:
        log = Path(folder) / "airflow.log"
        try:
            code = _run(Path(folder), dags, log, stop)
        except SandboxError as error:
            _say(f"\nThe demo failed: {error}")
            code = 1
        if code not in (0, _INTERRUPTED) and log.exists():
            _say(f"\nThe demo failed. The end of Airflow's log:\n{_tail(log)}")
    if code == _INTERRUPTED:
        _say("\nInterrupted; everything that was started is stopped.")
    elif code == 0:
        _say(f"\nDone in {time.monotonic() - started:.0f} s; nothing is left running.")
    return code


def _run(folder: Path, dags: Path, log: Path, stop: threading.Event) -> int:
    _say("Starting a local Snowflake, a local Braze and a local mailbox ...")
    with Sandbox(directory=folder / "sandbox") as sandbox:
        if stop.is_set():
            return _INTERRUPTED
        _say(f"  Braze answers at {sandbox.braze_url}, Snowflake at {sandbox.snowflake_url}.")
        _load(sandbox)
        if stop.is_set():
            return _INTERRUPTED
        arguments = ["--dags", str(dags), "--mails", str(sandbox.mailbox.file)]
        with log.open("wb") as sink:
            airflow = subprocess.Popen(
                [sys.executable, "-m", "airflow_provider_kubit_braze.sandbox.demo_days", *arguments],
                # Its end tells Airflow's process that this one is gone.
                stdin=subprocess.PIPE,
                stderr=sink,
                env=_environment(folder, dags, sandbox.env()),
                # Ctrl-C in a terminal goes to the whole group; this process alone decides about the end.
                start_new_session=True,
            )
            try:
                # Airflow takes longer than this until it needs the share.
                with sandbox.connect() as connection:
                    make_share_tables(connection)
                while airflow.poll() is None and not stop.wait(_POLL_SECONDS):
                    pass
            finally:
                airflow.kill()
                airflow.communicate()
    return _INTERRUPTED if stop.is_set() else int(airflow.returncode != 0)


def _load(sandbox: Sandbox) -> None:
    """Load the purchases into Snowflake, and introduce the customers to Braze."""
    purchases = cdnow.load_purchases()
    with sandbox.connect() as connection:
        cdnow.load_into_snowflake(connection, purchases)
    customers = cdnow.customer_ids(purchases)
    sandbox.braze.add_users(customers)
    _say(f"Snowflake holds {len(purchases):,} purchases, and Braze knows the {len(customers):,} customers.")


def _environment(folder: Path, dags: Path, connections: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a new Airflow that knows nothing of any other on this machine."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return {
        **own,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        **connections,
    }


def _say(text: str) -> None:
    print(text, flush=True)


def _tail(log: Path, lines: int = 40) -> str:
    return "\n".join(f"  {line[:300]}" for line in log.read_text(errors="replace").splitlines()[-lines:])


if __name__ == "__main__":
    sys.exit(main())
