"""The import as an Airflow task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, conf

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
from airflow_provider_kubit_braze.exceptions import CohortConfigError, KubitBrazeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context
    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.core.report import ImportResult

#: The switches of the trigger form, and the attribute of each: Airflow's operators have a method ``dry_run``.
_SWITCHES: Final = {
    "dry_run": "as_dry_run",
    "full_resync": "full_resync",
    "override_guards": "override_guards",
}


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
    The three options may also come from the trigger form: a DAG Param of the same name switches them on.

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
    :param deliver_as: ``attribute``.
    :param attribute: the attribute that is true while a user is in the cohort (templated); default
        ``kubit_cohort_<id>``.
    :param on_exit: ``false`` or ``unset``.
    :param create_users: let Braze create profiles for identifiers it does not know.
    :param guards: what stops an import.
    :param holdout: share of the members that is kept from Braze, such as ``"10%"``.
    :param dry_run: plan and count, send nothing (templated).
    :param full_resync: send every member once more (templated).
    :param override_guards: let the plan pass whatever the guards say (templated).
    """

    template_fields: Sequence[str] = (
        "cohort_id",
        "cohort_name",
        "table",
        "sql",
        "snowflake_conn_id",
        "braze_conn_id",
        "attribute",
        *_SWITCHES.values(),
    )
    template_ext: Sequence[str] = (".sql",)
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
        dry_run: bool | str = False,
        full_resync: bool | str = False,
        override_guards: bool | str = False,
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
        self.as_dry_run = dry_run
        self.full_resync = full_resync
        self.override_guards = override_guards
        # Whatever holds no template is as good now as later, and an author hears of it while the file is parsed.
        templated = {name for name in self.template_fields if _is_template(getattr(self, name))}
        if cohort is not None or templated <= {*_SWITCHES.values()}:
            self.the_cohort()
        for name, attribute in _SWITCHES.items():
            if attribute not in templated:
                _is_on(name, getattr(self, attribute))

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
        }
        given = [name for name, value in fields.items() if value is not None]
        if self.cohort is not None:
            if given:
                raise CohortConfigError(
                    f"task {self.task_id!r} gets a cohort and {given[0]} as well",
                    fix=f"put {given[0]} into the cohort, or leave the cohort out",
                )
            if isinstance(self.cohort, Cohort):
                return self.cohort
            if not isinstance(self.cohort, Mapping):
                raise CohortConfigError(
                    f"task {self.task_id!r} gets a cohort that is {type(self.cohort).__name__}",
                    fix="give a Cohort or a mapping of its fields; for the output of a task use .expand(cohort=...)",
                )
            return Cohort(**{str(key): value for key, value in self.cohort.items()})
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
        }
        return Cohort(**_set(parts))

    def execute(self, context: Context) -> dict[str, Any]:
        """Import the cohort.

        :return: the result, as plain JSON types.
        :raises AirflowFailException: when it failed and no retry can help.
        :raises KubitBrazeError: when it failed and a retry may help.
        """
        # Drivers are imported here and not above: DAG files are parsed all the time.
        from airflow_provider_kubit_braze.hooks.braze import BrazeHook
        from airflow_provider_kubit_braze.importer import run_import
        from airflow_provider_kubit_braze.warehouse.state import DEFAULT_SCHEMA, Tables

        try:
            cohort = self.the_cohort()
            settings = BrazeHook(cohort.braze.conn_id).settings
            schema = conf.get("kubit_braze", "state_schema", fallback=DEFAULT_SCHEMA)
            end = run_import(
                cohort,
                settings=settings,
                connect=lambda: _connect(cohort.source.conn_id),
                tables=Tables(schema),
                identity=_identity(context),
                options=self._options(context),
            )
        except KubitBrazeError as error:
            # Nothing was begun: the definition, a connection or the state schema is wrong.
            raise AirflowFailException(str(error)) from None
        self._publish(context, end.result)
        if end.error is None:
            return end.result.to_dict()
        context["ti"].xcom_push(key="return_value", value=end.result.to_dict())
        if end.retry_helps:
            raise end.error
        raise AirflowFailException(str(end.error))

    def _options(self, context: Context) -> ImportOptions:
        params: Mapping[str, Any] = context.get("params") or {}
        return ImportOptions(
            **{
                name: _is_on(name, getattr(self, attribute)) or _is_on(name, params.get(name))
                for name, attribute in _SWITCHES.items()
            }
        )

    def _publish(self, context: Context, result: ImportResult) -> None:
        """Say the same in the log and in the event of the cohort's asset."""
        self.log.info("%s", result.sentence())
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            if str(getattr(outlet, "uri", "")).startswith("braze://"):
                events[outlet].extra = result.to_dict()


def _identity(context: Context) -> RunIdentity:
    ti: Any = context["ti"]
    map_index = getattr(ti, "map_index", None)
    return RunIdentity(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if map_index is None else map_index,
        try_number=ti.try_number,
    )


def _connect(conn_id: str) -> SnowflakeConnection:
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

    connection: SnowflakeConnection = SnowflakeHook(snowflake_conn_id=conn_id).get_conn()
    return connection


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _is_template(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value or "{%" in value or value.endswith(".sql")
    # A task's output, known only at run time.
    return not (value is None or isinstance(value, bool))


def _is_on(name: str, value: Any) -> bool:
    """Read a switch that may have come through a template."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in ("true", "1"):
            return True
        if text in ("false", "0", "none", ""):
            return False
    elif value is None or isinstance(value, bool):
        return bool(value)
    raise CohortConfigError(f"{value!r} is no switch", fix="write true or false", field=name)
