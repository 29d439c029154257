"""``kubit-braze undo`` and ``kubit-braze retire``: imports that a person starts to take something back.

Brings Airflow and the drivers along; ``parser`` imports it when one of the two commands is to run.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.cli.context import Subject, WrongUseError, run
from airflow_provider_kubit_braze.cli.output import say
from airflow_provider_kubit_braze.core.run import COMMAND, ImportOptions, RunIdentity
from airflow_provider_kubit_braze.importer import forget_cohort, run_import
from airflow_provider_kubit_braze.warehouse.history import History
from airflow_provider_kubit_braze.warehouse.ledger import Ledger

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from types import FrameType

    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.report import ImportResult
    from airflow_provider_kubit_braze.core.run import Purpose
    from airflow_provider_kubit_braze.importer import ImportEnd
    from airflow_provider_kubit_braze.warehouse.ledger import OpenImport


def undo(arguments: argparse.Namespace) -> int:
    """Reverse a cohort's last import.

    :param arguments: ``cohort``, ``file``, ``snowflake_conn_id``, ``braze_conn_id``, ``dry_run`` and ``yes``.
    :return: the exit code: 0 when it is done, 1 when it is not, 2 for wrong use.
    """
    return run(lambda: _Reversal(_check(arguments), "undo").reverse())


def retire(arguments: argparse.Namespace) -> int:
    """Take everybody of a cohort out of Braze.

    :param arguments: those of ``undo``, and ``forget`` and ``workspace``.
    :return: the exit code: 0 when it is done, 1 when it is not, 2 for wrong use.
    """
    if arguments.forget:
        return run(lambda: _Reversal(_check(arguments), "retire").forget(arguments.workspace))
    return run(lambda: _Reversal(_check(arguments), "retire").reverse())


def _check(given: argparse.Namespace) -> argparse.Namespace:
    """Refuse what makes no sense before anything is read."""
    forget, workspace = getattr(given, "forget", False), getattr(given, "workspace", None)
    if forget and not workspace:
        raise WrongUseError("--forget needs --workspace: the name in the column WORKSPACE of IMPORT_RUN.")
    if workspace and not forget:
        raise WrongUseError(
            "--workspace goes with --forget; otherwise the connection to Braze says which it is."
        )
    if forget and given.braze_conn_id:
        raise WrongUseError("--forget tells Braze nothing; leave out --braze-conn-id.")
    if not (given.yes or given.dry_run or (sys.stdin and sys.stdin.isatty())):
        raise WrongUseError(
            "There is no terminal to ask at; add --yes to go on without, or --dry-run to look."
        )
    return given


@dataclass(frozen=True)
class _Reversal:
    arguments: argparse.Namespace
    purpose: Purpose

    @cached_property
    def subject(self) -> Subject:
        return Subject.of(self.arguments)

    @property
    def cohort(self) -> Cohort:
        return self.subject.cohort

    @contextmanager
    def ledger(self, workspace: str) -> Iterator[tuple[Ledger, History]]:
        tables = self.subject.tables
        with self.subject.session() as session:
            yield (
                Ledger(session, tables, workspace=workspace, cohort_id=self.cohort.id),
                History(session, tables, workspace=workspace, cohort_id=self.cohort.id),
            )

    # -- what it does -------------------------------------------------------------------------------------------

    def reverse(self) -> int:
        """Say what will happen, ask, do it, and say what happened."""
        identity = RunIdentity(
            dag_id=self.cohort.dag_id,
            run_id=f"{self.purpose}__{datetime.now(UTC).isoformat()}",
            task_id=COMMAND,
        )
        begun, what = self._look()
        if begun and not self.arguments.dry_run:
            # The same try, not the next one: should it still be running somewhere, it is not to be pushed aside.
            identity = begun.identity
            say(f"{self._where()}: {what} did not end; it would go on from where it stopped.")
        else:
            planned = self._import(identity, dry_run=True)
            if planned.error:
                return _failed(planned)
            say(f"{self._where()}: {what} would {self._figures(planned.result)}.")
        if self.arguments.dry_run:
            return 0
        if not self._agreed():
            return 1
        with _stop_in_good_order() as stop:
            end = self._import(identity, stop=stop)
        if end.error:
            return _failed(end)
        say(end.result.sentence())
        if end.result.outcome == "partial":
            print(_what_is_missing(end.result), file=sys.stderr)
            return 1
        say(self._what_next())
        return 0

    def forget(self, workspace: str) -> int:
        """Close the stays of a workspace that is gone."""
        with self.ledger(workspace) as (ledger, _):
            users = ledger.users_imported()
        say(
            f"Cohort {self.cohort.id}, workspace {workspace}: would forget that {users:,} users are in it. Braze is "
            "told nothing: whoever is marked there stays so."
        )
        if self.arguments.dry_run:
            return 0
        if not self._agreed():
            return 1
        forgotten = forget_cohort(
            self.cohort.id, connect=self.subject.connect, tables=self.subject.tables, workspace=workspace
        )
        say(f"{self.cohort.id}: {forgotten:,} users forgotten in workspace {workspace}.")
        return 0

    def _look(self) -> tuple[OpenImport | None, str]:
        """Return what an interrupted command of the same kind left, and what is to be done, in words.

        :raises NothingToUndoError: when there is nothing.
        """
        with self.ledger(self.subject.settings.workspace) as (ledger, history):
            for found in ledger.open_imports():
                if found.identity.task_id == COMMAND and found.plan.purpose == self.purpose:
                    return found, f"the {self.purpose} of {_minute(found.started_at)}"
            if self.purpose == "retire":
                return None, "taking everybody out"
            last = history.last_change()
        changes = f"{last.added:,} added, {last.removed:,} removed"
        return None, f"undoing run {last.run_id} of {_minute(last.started_at)} ({changes})"

    def _import(
        self, identity: RunIdentity, *, dry_run: bool = False, stop: threading.Event | None = None
    ) -> ImportEnd:
        return run_import(
            self.cohort,
            settings=self.subject.settings,
            connect=self.subject.connect,
            tables=self.subject.tables,
            identity=identity,
            options=ImportOptions(
                dry_run=dry_run, undo=self.purpose == "undo", retire=self.purpose == "retire"
            ),
            stop=stop,
        )

    def _agreed(self) -> bool:
        if self.arguments.yes:
            return True
        try:
            say("Type the cohort's id to go on: ", end="")
            answer = input()
        except EOFError:
            answer = ""
        if answer.strip() == self.cohort.id:
            return True
        print("That is not the cohort's id; nothing was done.", file=sys.stderr)
        return False

    # -- what it says -------------------------------------------------------------------------------------------

    def _where(self) -> str:
        return (
            f"Cohort {self.cohort.id}, workspace {self.subject.settings.workspace}, "
            f"connection {self.cohort.braze.conn_id}"
        )

    def _figures(self, planned: ImportResult) -> str:
        added = f" and add {planned.added:,}" if self.purpose == "undo" else ""
        return f"remove {planned.removed:,} users{added}, for {planned.data_points:,} data points"

    def _what_next(self) -> str:
        dag = self.cohort.dag_id
        if self.purpose == "retire":
            return f"Delete the cohort's file or pause the DAG {dag} now: the next import would fill the cohort again."
        return f"The next import follows the source again: until the source is right, pause the DAG {dag}."


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _what_is_missing(result: ImportResult) -> str:
    counts = (
        (result.rejected, "rejected (IMPORT_REJECTED says why)"),
        (result.unknown, "without a certain answer"),
        (result.unmatched, "unknown to Braze (IMPORT_UNMATCHED)"),
    )
    missing = ", ".join(f"{count:,} {what}" for count, what in counts if count)
    return f"Not every change was made: {missing}."


def _failed(end: ImportEnd) -> int:
    print(end.result.error or end.error, file=sys.stderr)
    return 1


@contextmanager
def _stop_in_good_order() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into an event, so that what Braze has accepted is written down."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        # Whoever asks twice does not want to wait.
        signal.signal(number, before[number])

    for one in (signal.SIGINT, signal.SIGTERM):
        before[one] = signal.signal(one, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
