"""The import as an Airflow task."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_kubit_braze.connections import snowflake_connection, state_tables
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.core.run import is_on
from airflow_provider_kubit_braze.exceptions import (
    BrazeUnavailableError,
    CohortConfigError,
    KubitBrazeError,
)
from airflow_provider_kubit_braze.operators.cohorts import given_cohort
from airflow_provider_kubit_braze.operators.identity import task_identity
from airflow_provider_kubit_braze.operators.progress import progress_teller
from airflow_provider_kubit_braze.operators.reasons import reason_left
from airflow_provider_kubit_braze.operators.switches import (
    SWITCHES,
    comes_of_mapped,
    is_template,
    read_options,
)
from airflow_provider_kubit_braze.triggers.wait import WaitTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kubit_braze.core.verify_options import Verify
    from airflow_provider_kubit_braze.endings import ImportEnd
    from airflow_provider_kubit_braze.verifying import Look, Verifier

_T = TypeVar("_T")

#: Seconds to wait before the second look at a sample; doubled every time.
_FIRST_PAUSE: Final = 30.0


class CohortToBrazeOperator(BaseOperator):
    """Bring Braze in line with a cohort in Snowflake: send who entered and who left since the last import.

    .. code-block:: python

        CohortToBrazeOperator(
            task_id="import_to_braze",
            cohort_id="power_users",
            table="ANALYTICS.KUBIT.POWER_USERS",
            identifiers={"external_id": "USER_ID"},
        )

    Give either ``cohort``, or the fields of one as keyword arguments; they mean what they mean in a cohort file.
    The four options may also come from the trigger form: a DAG Param of the same name switches them on.

    The task returns the import's result, and leaves it as XCom also when it fails. A failure that no retry can mend
    (a wrong key, a guard, a source that Snowflake refuses) ends the task at once; after any other one, a retry goes
    on where the import stopped.

    :param cohort: a ``Cohort``, or a mapping of its fields (for ``.expand(cohort=[{...}, ...])``).
    :param cohort_id: the cohort's id (templated).
    :param cohort_name: its name for people (templated).
    :param table: table or view that holds the members (templated).
    :param sql: one query that returns them, or the path of a ``.sql`` file (templated).
    :param identifiers: kind of identifier to column, in order; the first that is not null names the user.
    :param snowflake_conn_id: connection to Snowflake (templated).
    :param braze_conn_id: connection to Braze (templated).
    :param deliver_as: ``attribute`` or ``partner_cohort``.
    :param attribute: the attribute that is true while a user is in the cohort (templated); default
        ``kubit_cohort_<id>``.
    :param on_exit: ``false`` or ``unset``.
    :param create_users: let Braze create profiles for identifiers it does not know.
    :param guards: what stops an import.
    :param holdout: share of the members that is kept from Braze, such as ``"10%"``.
    :param match: how many of those who enter are looked up in Braze before: ``off``, ``sample`` or ``all``.
    :param verify: read a sample back from Braze after the import, such as ``{"sample": 500, "after": "5m"}``. The task
        waits in the triggerer meanwhile.
    :param dry_run: plan and count, send nothing (templated).
    :param full_resync: send every member once more (templated).
    :param override_guards: let the plan pass whatever the guards say (templated).
    :param undo: reverse the last import instead (templated).
    """

    template_fields: Sequence[str] = (
        "cohort_id",
        "cohort_name",
        "table",
        "sql",
        "snowflake_conn_id",
        "braze_conn_id",
        "attribute",
        *SWITCHES.values(),
    )
    template_ext: Sequence[str] = (".sql",)
    # Made when the task runs: Airflow copies operators, and nothing with a lock can be copied.
    _stop: threading.Event | None = None
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012  (Airflow's own form)
    ui_color = "#d7e8ff"

    def __init__(
        self,
        *,
        cohort: Cohort | Mapping[str, Any] | None = None,
        cohort_id: str | None = None,
        cohort_name: str | None = None,
        table: str | None = None,
        sql: str | None = None,
        identifiers: Mapping[str, Any] | None = None,
        snowflake_conn_id: str | None = None,
        braze_conn_id: str | None = None,
        deliver_as: str | None = None,
        attribute: str | None = None,
        on_exit: str | None = None,
        create_users: bool | None = None,
        guards: Mapping[str, Any] | None = None,
        holdout: str | None = None,
        match: str | None = None,
        verify: Verify | Mapping[str, Any] | bool | None = None,
        dry_run: bool | str = False,
        full_resync: bool | str = False,
        override_guards: bool | str = False,
        undo: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cohort = cohort
        self.cohort_id = cohort_id
        self.cohort_name = cohort_name
        self.table = table
        self.sql = sql
        self.identifiers = identifiers
        self.snowflake_conn_id = snowflake_conn_id
        self.braze_conn_id = braze_conn_id
        self.deliver_as = deliver_as
        self.attribute = attribute
        self.on_exit = on_exit
        self.create_users = create_users
        self.guards = guards
        self.holdout = holdout
        self.match = match
        self.verify = verify
        self.as_dry_run = dry_run
        self.full_resync = full_resync
        self.override_guards = override_guards
        self.undo = undo
        if comes_of_mapped(self):
            return
        # Whatever holds no template is as good now as later, and an author hears of it while the file is parsed.
        templated = {name for name in self.template_fields if is_template(getattr(self, name))}
        if cohort is not None or templated <= {*SWITCHES.values()}:
            self.the_cohort()
        for name, attribute in SWITCHES.items():
            if attribute not in templated:
                is_on(name, getattr(self, attribute))

    def the_cohort(self) -> Cohort:
        """Return the cohort this task imports.

        :raises CohortConfigError: when it is defined wrongly, or twice.
        """
        fields = {
            "cohort_id": self.cohort_id,
            "cohort_name": self.cohort_name,
            "table": self.table,
            "sql": self.sql,
            "identifiers": self.identifiers,
            "snowflake_conn_id": self.snowflake_conn_id,
            "braze_conn_id": self.braze_conn_id,
            "deliver_as": self.deliver_as,
            "attribute": self.attribute,
            "on_exit": self.on_exit,
            "create_users": self.create_users,
            "guards": self.guards,
            "holdout": self.holdout,
            "match": self.match,
            "verify": self.verify,
        }
        given = [name for name, value in fields.items() if value is not None]
        if self.cohort is not None:
            if given:
                raise CohortConfigError(
                    f"task {self.task_id!r} gets a cohort and {given[0]} as well",
                    fix=f"put {given[0]} into the cohort, or leave the cohort out",
                )
            return given_cohort(
                self.cohort,
                taker=f"task {self.task_id!r}",
                otherwise="; for the output of a task use .expand(cohort=...)",
            )
        source = {"conn_id": self.snowflake_conn_id, "table": self.table, "sql": self.sql}
        braze = {
            "conn_id": self.braze_conn_id,
            "deliver_as": self.deliver_as,
            "attribute": self.attribute,
            "on_exit": self.on_exit,
            "create_users": self.create_users,
        }
        parts: dict[str, Any] = {
            "id": self.cohort_id,
            "name": self.cohort_name,
            "identifiers": self.identifiers,
            "source": _set(source),
            "braze": _set(braze),
            "guards": self.guards,
            "holdout": self.holdout,
            "match": self.match,
            "verify": self.verify,
        }
        return Cohort(**_set(parts))

    def execute(self, context: Context) -> dict[str, Any]:
        """Import the cohort.

        :return: the result, as plain JSON types.
        :raises AirflowFailException: when it failed and no retry can help.
        :raises KubitBrazeError: when it failed and a retry may help.
        """
        end = self.attempt(context, lambda: self.run_import(context))
        if end.error is None:
            cohort = self.the_cohort()
            if cohort.verify is not None and end.result.outcome in ("success", "partial"):
                self.log.info("%s", end.result.sentence())
                self._wait_to_verify(end.result, end.import_id, cohort.verify)
            return self._publish(context, end.result)
        context["ti"].xcom_push(key="return_value", value=self._publish(context, end.result))
        if end.retry_helps:
            raise end.error
        raise AirflowFailException(str(end.error))

    def run_import(self, context: Context) -> ImportEnd:
        """Do the import, and say how it ended."""
        # Drivers are imported here and not above: DAG files are parsed all the time.
        from airflow_provider_kubit_braze.importer import run_import

        return run_import(self.the_cohort(), **self.import_arguments(context))

    def attempt(self, context: Context, work: Callable[[], _T]) -> _T:
        """Do ``work``, which ``on_kill`` can end, and say whether a retry can help when it raises.

        Why it raised is left as XCom, for the mail and the page: there is no result then.

        :raises AirflowFailException: when no retry can help.
        """
        self._stop = threading.Event()
        with reason_left(context):
            return work()

    def import_arguments(self, context: Context) -> dict[str, Any]:
        """Return what an import needs besides the cohort: see ``importer.run_import``."""
        from airflow_provider_kubit_braze.hooks.braze import BrazeHook

        cohort = self.the_cohort()
        return {
            "settings": BrazeHook(cohort.braze.conn_id).settings,
            "connect": lambda: snowflake_connection(cohort.source.conn_id),
            "tables": state_tables(),
            "identity": task_identity(context),
            "options": read_options(self, context.get("params") or {}),
            "stop": self._stop,
            "tell": progress_teller(context["ti"]),
        }

    def on_kill(self) -> None:
        """End the import in good order: what Braze accepted is written down, and a retry goes on from there."""
        if self._stop is not None:
            self._stop.set()

    # -- verify -------------------------------------------------------------------------------------------------

    def _wait_to_verify(self, result: ImportResult, import_id: str, verify: Verify) -> None:
        ended = datetime.fromisoformat(result.finished_at)
        self._come_back(
            ended + verify.after,
            result=result.to_dict(),
            import_id=import_id,
            deadline=(ended + verify.within).isoformat(),
        )

    def _come_back(self, at: datetime, **kwargs: Any) -> None:
        """Leave the worker and go on in ``verify_import`` at a moment. No user id is in what waits meanwhile."""
        self.log.info("Reading a sample back from Braze at %s.", at.isoformat(timespec="seconds"))
        self.defer(
            trigger=WaitTrigger(until=at.isoformat(), carries=kwargs), method_name=self.verify_import.__name__
        )

    def verify_import(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Read a sample of the import back, and come back as long as it differs and there is time.

        Whatever is found, or keeps it from being found, does not change the import's outcome.

        :param event: the trigger's; it carries the import's result and id, until when to look, the changes that were
            not right at the last look, and the seconds until the next one.
        :return: the result with what was found.
        """
        carried = event["carries"]
        result, import_id, deadline = carried["result"], carried["import_id"], carried["deadline"]
        pending: list[int] | None = carried.get("pending")
        pause: float = carried.get("pause", _FIRST_PAUSE)
        from airflow_provider_kubit_braze.hooks.braze import BrazeHook
        from airflow_provider_kubit_braze.verifying import Verifier

        said = ImportResult(**result)
        now = datetime.now(UTC)
        next_look = now + timedelta(seconds=pause)
        last = next_look > datetime.fromisoformat(deadline)
        cohort = self.the_cohort()
        look: Look | None = None
        waits = False
        try:
            verifier = Verifier(
                cohort=cohort,
                settings=BrazeHook(cohort.braze.conn_id).settings,
                connect=lambda: snowflake_connection(cohort.source.conn_id),
                tables=state_tables(),
                identity=task_identity(context),
                import_id=import_id,
            )
            look = verifier.look(pending, last=last)
            waits = look is not None and look.waits and not last
            if not waits:
                said = self._conclude(verifier, said, look)
        except Exception as error:
            # Whatever it is, the import is over and must not be done again for it.
            if last or (isinstance(error, KubitBrazeError) and not isinstance(error, BrazeUnavailableError)):
                why = str(error) if isinstance(error, KubitBrazeError) else type(error).__name__
                self.log.error("The import could not be verified: %s", why)
                return self._publish(context, said, f"The import could not be verified: {why}")
            self.log.warning(
                "The import could not be verified yet (%s), trying again later.", type(error).__name__
            )
            look, waits = None, True
        if waits:
            self._come_back(
                next_look,
                result=result,
                import_id=import_id,
                deadline=deadline,
                pending=pending if look is None else list(look.pending),
                pause=pause * 2,
            )
        return self._publish(context, said)

    def _conclude(self, verifier: Verifier, said: ImportResult, look: Look | None) -> ImportResult:
        if look is None:
            self.log.info("There is nothing of this import to read back.")
            return said
        self.log.info("%s", look.verification.sentence())
        return verifier.conclude(said, look)

    def _publish(
        self, context: Context, result: ImportResult, unverified: str | None = None
    ) -> dict[str, Any]:
        """Say the same in the log, in the event of the cohort's asset, and as XCom."""
        if unverified is not None:
            result = replace(result, verification={"error": unverified})
        self.log.info("%s", result.sentence())
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            if str(getattr(outlet, "uri", "")).startswith("braze://"):
                events[outlet].extra = result.to_dict()
        return result.to_dict()


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
