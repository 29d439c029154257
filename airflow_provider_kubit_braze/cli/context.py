"""What the commands about a cohort share: its definition, the ways to Snowflake and Braze, and how they fail.

Brings Airflow and the drivers along; ``parser`` imports it when such a command is to run.
"""

from __future__ import annotations

import logging
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_kubit_braze.connections import airflow_from_a_shell, snowflake_connection, state_tables
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.cohort_file import read_cohorts
from airflow_provider_kubit_braze.core.source import parse_conn_id
from airflow_provider_kubit_braze.exceptions import CohortConfigError, KubitBrazeError
from airflow_provider_kubit_braze.hooks.braze import BrazeHook
from airflow_provider_kubit_braze.warehouse.session import Session, first_line
from airflow_provider_kubit_braze.warehouse.state import ensure_tables

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)


class WrongUseError(Exception):
    """The command line asks for something that makes no sense."""


def run(command: Callable[[], int]) -> int:
    """Run a command in Airflow's surroundings; turn whatever it raises into one sentence.

    :return: the exit code: that of the command, 1 when it failed, 2 for wrong use.
    """
    try:
        with airflow_from_a_shell(), _only_our_own_log():
            return command()
    except WrongUseError as error:
        print(error, file=sys.stderr)
        return 2
    except KubitBrazeError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
    except AirflowNotFoundException as error:
        print(
            f"{first_line(error)}. Make this Airflow connection, or name another one with --snowflake-conn-id or "
            "--braze-conn-id.",
            file=sys.stderr,
        )
    except Exception as error:
        # Airflow's and Snowflake's own errors, such as a password that is wrong.
        log.debug("The command failed.", exc_info=True)
        print(f"{type(error).__name__}: {first_line(error)}", file=sys.stderr)
    return 1


@dataclass(frozen=True)
class Subject:
    """The cohort that a command is about.

    :param cohort_id: its id.
    :param file: the cohort file or folder that defines it; None: the ledger has to do, and the source is never read.
    :param snowflake_conn_id: instead of the file's.
    :param braze_conn_id: instead of the file's.
    """

    cohort_id: str
    file: str | None = None
    snowflake_conn_id: str | None = None
    braze_conn_id: str | None = None

    @classmethod
    def of(cls, given: argparse.Namespace) -> Subject:
        """Return what the command line names."""
        return cls(
            cohort_id=given.cohort,
            file=given.file,
            snowflake_conn_id=given.snowflake_conn_id,
            braze_conn_id=getattr(given, "braze_conn_id", None),
        )

    @cached_property
    def cohort(self) -> Cohort:
        """The cohort, with the connections of the command line.

        :raises WrongUseError: when it is not defined, or wrongly.
        """
        try:
            cohort = _defined_in(self.file, self.cohort_id) if self.file else _known_by_id(self.cohort_id)
            if self.snowflake_conn_id is not None:
                conn = {"conn_id": parse_conn_id(self.snowflake_conn_id)}
                cohort = cohort.model_copy(update={"source": cohort.source.model_copy(update=conn)})
            if self.braze_conn_id is not None:
                conn = {"conn_id": parse_conn_id(self.braze_conn_id)}
                cohort = cohort.model_copy(update={"braze": cohort.braze.model_copy(update=conn)})
        except CohortConfigError as error:
            raise WrongUseError(str(error)) from None
        return cohort

    @cached_property
    def settings(self) -> BrazeSettings:
        """The connection to Braze."""
        return BrazeHook(self.cohort.braze.conn_id).settings

    @cached_property
    def tables(self) -> Tables:
        """The state tables."""
        return state_tables()

    def connect(self) -> SnowflakeConnection:
        """Open a connection to Snowflake."""
        return snowflake_connection(self.cohort.source.conn_id)

    def open_session(self) -> Session:
        """Open a session; whoever asks for it closes it."""
        tag = {"app": "kubit_braze", "cohort": self.cohort.id, "dag_id": self.cohort.dag_id}
        return Session(self.connect(), tag=tag)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session that finds the state tables."""
        with closing(self.open_session()) as session:
            ensure_tables(session, self.tables)
            yield session


def _defined_in(path: str, cohort_id: str) -> Cohort:
    read = read_cohorts(path)
    for loaded in read.cohorts:
        if loaded.cohort.id == cohort_id:
            return loaded.cohort
    own = [one for one in read.problems if one.cohort == cohort_id]
    problems = own or [one for one in read.problems if one.cohort is None]
    if problems:
        raise WrongUseError("\n".join(map(str, problems)))
    there = ", ".join(sorted(loaded.cohort.id for loaded in read.cohorts)) or "none"
    raise WrongUseError(f"{path} does not define a cohort {cohort_id!r}; the cohorts there: {there}.")


def _known_by_id(cohort_id: str) -> Cohort:
    """Return as much of a cohort as is needed where the ledger knows the rest; its source is never read."""
    return Cohort(id=cohort_id, source={"table": "NONE"}, identifiers={"external_id": "NONE"})


@contextmanager
def _only_our_own_log() -> Iterator[None]:
    """Keep what hooks and drivers tell about connections from what a person is to read; warnings stay."""
    others = [logging.getLogger(name) for name in ("airflow", "snowflake")]
    before = [one.level for one in others]
    for one in others:
        one.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for one, level in zip(others, before, strict=True):
            one.setLevel(level)
