"""Rows of a share, made comparable in one place.

Whatever reads events of a share for an impact reads them through here: of one workspace, each once, by whom they belong
to now, with the message they are about, without machines and bots, and amounts in units of their currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.share_catalogue import catalogue, table_in
from airflow_provider_kubit_braze.core.share_figures import canvases_by_variation
from airflow_provider_kubit_braze.warehouse.impact_sql import epoch_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_kubit_braze.warehouse.share_check import Inventory

#: The columns of a staged row, besides SRC, the table of the catalogue it comes from. UID is the Braze profile that the
#: row belongs to now, MOMENT epoch seconds.
COLUMNS: Final = (
    "UID, XID, MOMENT, KIND, MESSAGE_ID, VARIATION_ID, NAME, CURRENCY, AMOUNT, IN_CONTROL, DISPATCH, DEVICE"
)

_ORPHANS: Final = "USERS_USERORPHAN_SHARED"
_KEPT_OUT: Final = "CHANGELOGS_GLOBALCONTROLGROUP_SHARED"
_PATHS: Final = "USERS_CANVAS_EXPERIMENTSTEP_SPLITENTRY_SHARED"

#: A Canvas may keep users for so many seconds and longer before it sends them anything.
_ENTRIES_BEFORE: Final = 90 * 86_400

#: Merges of merges are followed for so many doublings: a chain of 2 ** 5 profiles.
_DOUBLINGS: Final = 5

_MACHINES: Final = frozenset({"MACHINE_OPEN", "IS_SUSPECTED_BOT_CLICK"})
_CANVASES: Final = frozenset({"CANVAS_API_ID", "CANVAS_VARIATION_API_ID"})
_FINER: Final = (
    _MACHINES | _CANVASES | {"EXTERNAL_USER_ID", "CONVERSION_BEHAVIOR_INDEX", "DISPATCH_ID", "DEVICE_ID"}
)

# What may stand in a column, by what it is called here. The first that the table has is taken.
_TAKEN: Final[Mapping[str, tuple[str, ...]]] = {
    "XID": ("EXTERNAL_USER_ID",),
    # Of an install where it came from.
    "NAME": ("NAME", "SOURCE"),
}


@dataclass(frozen=True)
class Staged:
    """A query of staged rows.

    :param sql: a SELECT of ``SRC`` and ``COLUMNS``.
    :param params: its parameters.
    """

    sql: str
    params: list[Any]


class Stage:
    """The events of one workspace in a share.

    :param inventory: what the share has.
    :param app_group_id: the workspace's rows; all others are somebody else's.
    """

    def __init__(self, inventory: Inventory, *, app_group_id: str) -> None:
        self._inventory = inventory
        self._app_group_id = app_group_id

    def rows(
        self,
        table: str,
        *,
        first: int,
        until: int,
        orphans: str | None,
        event: str | None = None,
        canvases: str | None = None,
        profiles: Sequence[str] | None = None,
        machines: bool = False,
        once: bool = True,
    ) -> Staged:
        """Return the query of the rows of a table.

        :param table: a table of the catalogue that the share has, itself or its twin with the archive.
        :param first: the first moment, in epoch seconds.
        :param until: the moment after the last.
        :param orphans: a table of merged profiles, as ``survivors`` selects them; None: nobody was merged.
        :param event: only rows of that NAME.
        :param canvases: a table of Canvases, as ``canvases`` selects them, for rows that name the variation alone.
        :param profiles: only rows that Braze wrote of these profiles, whatever they were merged into later.
        :param machines: what mail programs and link scanners did, instead of what people did.
        :param once: each ID once; False where it does not matter how often, as it costs a sort of all the rows.
        """
        name = self._name(table)
        columns = self._inventory.columns[name]
        wanted = sorted({"USER_ID", "TIME"} | {column for column in _needed(table) if column in columns})
        selected = ", ".join(f'"{column}"' for column in wanted)
        named = ' AND "NAME" = %s' if event is not None else ""
        if profiles is not None:
            named += f' AND "USER_ID" IN ({", ".join(["%s"] * len(profiles)) or "NULL"})'
        read = (
            f'SELECT {selected} FROM {self._qualified(name)} WHERE "APP_GROUP_ID" = %s AND "TIME" >= %s '
            f'AND "TIME" < %s{named}{f" {_once(columns)}" if once else ""}'
        )
        by_variation = bool(canvases and canvases_by_variation(self._inventory.columns, table))
        taken = _columns_of(table, columns, by_variation=by_variation)
        if orphans:
            taken["UID"] = 'COALESCE(o.SURVIVOR, e."USER_ID")'
            joined = f' LEFT JOIN {orphans} o ON o.ORPHAN = e."USER_ID"'
        else:
            taken["UID"], joined = 'e."USER_ID"', ""
        if by_variation:
            joined += f' LEFT JOIN {canvases} c ON c.VARIATION_ID = e."CANVAS_VARIATION_API_ID"'
        shown = ", ".join(f"{taken[column]} AS {column}" for column in COLUMNS.split(", "))
        human, others = _human(columns), _counted(table, columns)
        if machines:
            human = [f"NOT ({' AND '.join(human) or 'TRUE'})"]
        conditions = " AND ".join((*human, *others)) or "TRUE"
        sql = f"SELECT '{table}' AS SRC, {shown} FROM ({read}) e{joined} WHERE {conditions}"
        named_as = [] if event is None else [event]
        return Staged(sql, [self._app_group_id, first, until, *named_as, *(profiles or ())])

    def aliases(
        self, tables: Iterable[str], *, first: int, until: int, orphans: str | None, among: Staged
    ) -> Staged:
        """Return the query of XID and UID: the profiles that rows of some tables give an external id.

        A row of somebody whom Braze knows by then has it; one from before that has none.

        :param tables: tables of the catalogue that the share has.
        :param first: the first moment, in epoch seconds.
        :param until: the moment after the last.
        :param orphans: as for ``rows``.
        :param among: a query of the external ids that matter.
        """
        parts = []
        params: list[Any] = []
        for table in tables:
            name = self._name(table)
            columns = self._inventory.columns[name]
            if "EXTERNAL_USER_ID" in columns:
                parts.append(
                    f'SELECT "EXTERNAL_USER_ID" AS XID, "USER_ID" AS PROFILE FROM {self._qualified(name)} '
                    'WHERE "APP_GROUP_ID" = %s AND "TIME" >= %s AND "TIME" < %s '
                    f'AND "EXTERNAL_USER_ID" IN ({among.sql}) {_once(columns)}'
                )
                params += [self._app_group_id, first, until, *among.params]
        named = (
            " UNION ".join(parts) or "SELECT CAST(NULL AS VARCHAR) AS XID, CAST(NULL AS VARCHAR) AS PROFILE"
        )
        if not orphans:
            return Staged(f"SELECT XID, PROFILE AS UID FROM ({named}) e", params)
        return Staged(
            f"SELECT DISTINCT e.XID, COALESCE(o.SURVIVOR, e.PROFILE) AS UID FROM ({named}) e "
            f"LEFT JOIN {orphans} o ON o.ORPHAN = e.PROFILE",
            params,
        )

    def tells_apart(self, table: str) -> list[str]:
        """Return the columns of a table without which other rows would count."""
        return sorted(_FINER & self._inventory.columns[self._name(table)])

    def has_machines(self, table: str) -> bool:
        """Whether a table says what machines did."""
        columns = self._inventory.columns[self._name(table)]
        return bool(columns & _MACHINES)

    def survivors(self) -> Staged | None:
        """Return the query of ORPHAN and SURVIVOR, whatever the number of merges between; None without the table."""
        name = table_in(self._inventory.columns, _ORPHANS)
        if name is None:
            return None
        steps = [
            'o0 AS (SELECT "USER_ID" AS ORPHAN, "ORPHANED_BY_ID" AS SURVIVOR FROM ('
            f'SELECT "ID", "USER_ID", "ORPHANED_BY_ID", "TIME" FROM {self._qualified(name)} '
            f'WHERE "APP_GROUP_ID" = %s {_once(self._inventory.columns[name])}'
            ') e WHERE "ORPHANED_BY_ID" <> "USER_ID" '
            'QUALIFY ROW_NUMBER() OVER (PARTITION BY "USER_ID" ORDER BY "TIME" DESC, "ID" DESC) = 1)'
        ]
        steps += [
            f"o{step + 1} AS (SELECT a.ORPHAN, COALESCE(b.SURVIVOR, a.SURVIVOR) AS SURVIVOR "
            f"FROM o{step} a LEFT JOIN o{step} b ON b.ORPHAN = a.SURVIVOR)"
            for step in range(_DOUBLINGS)
        ]
        sql = f"WITH {', '.join(steps)} SELECT ORPHAN, SURVIVOR FROM o{_DOUBLINGS}"
        return Staged(sql, [self._app_group_id])

    def arrivals(
        self, tables: Iterable[str], *, day: str, since: int | None, first: int, until: int
    ) -> Staged:
        """Return the query of what has arrived: ``SRC``, ``DAY``, its latest ``MOMENT``, and when that was ``LOADED``.

        :param tables: tables of the catalogue that the share has.
        :param day: an expression of the day of the column ``"TIME"``.
        :param since: only what Braze has delivered after that moment (epoch seconds), where a table tells; None: all.
        :param first: the first moment of what happened, in epoch seconds.
        :param until: the moment after the last.
        """
        parts: list[str] = []
        params: list[Any] = []
        for table in tables:
            name = self._name(table)
            loaded = "CAST(NULL AS NUMBER(38,0))"
            condition = ""
            if "SF_CREATED_AT" in self._inventory.columns[name]:
                loaded = epoch_of('MAX("SF_CREATED_AT")')
                if since is not None:
                    # The bare column, so that Snowflake leaves out what was loaded before.
                    condition = f' AND ("SF_CREATED_AT" > {_moment(table)} OR "SF_CREATED_AT" IS NULL)'
            parts.append(
                f"SELECT '{table}' AS SRC, {day} AS DAY, "
                f'MAX("TIME") AS MOMENT, {loaded} AS LOADED FROM {self._qualified(name)} '
                f'WHERE "APP_GROUP_ID" = %s AND "TIME" >= %s AND "TIME" < %s{condition} GROUP BY {day}'
            )
            params += [self._app_group_id, first, until, *([since] if condition else [])]
        return Staged(" UNION ALL ".join(parts), params)

    def names(self, table: str, ids: Sequence[str], *, column: str = "API_ID") -> Staged | None:
        """Return the query of the id and the latest NAME of campaigns and the like.

        :param ids: those that are asked for.
        :param column: where the table has them.
        :return: None when nothing is asked for, or the share cannot tell.
        """
        name = table_in(self._inventory.columns, table)
        if name is None or not ids:
            return None
        if not {column, "NAME", "TIME", "APP_GROUP_ID"} <= self._inventory.columns[name]:
            return None
        marks = ", ".join(["%s"] * len(ids))
        return Staged(
            f'SELECT "{column}", "NAME" FROM {self._qualified(name)} WHERE "APP_GROUP_ID" = %s '
            f'AND "{column}" IN ({marks}) '
            f'QUALIFY ROW_NUMBER() OVER (PARTITION BY "{column}" ORDER BY "TIME" DESC) = 1',
            [self._app_group_id, *ids],
        )

    def canvases(self, tables: Iterable[str], *, first: int) -> Staged | None:
        """Return the query of VARIATION_ID and MESSAGE_ID of Canvases; None when none of the tables needs it.

        :param tables: tables of the catalogue that the share has.
        :param first: the first moment that is staged. Whoever was brought into a Canvas by an entry of up to 90 days
            before is known, and by anybody's of the same variation.
        """
        found = (canvases_by_variation(self._inventory.columns, table) for table in tables)
        name = next(filter(None, found), None)
        if name is None:
            return None
        return Staged(
            'SELECT "CANVAS_VARIATION_API_ID" AS VARIATION_ID, MIN("CANVAS_API_ID") AS MESSAGE_ID '
            f'FROM {self._qualified(name)} WHERE "APP_GROUP_ID" = %s AND "TIME" >= %s '
            "AND \"CANVAS_VARIATION_API_ID\" <> '' AND \"CANVAS_API_ID\" <> '' "
            'GROUP BY "CANVAS_VARIATION_API_ID" HAVING COUNT(DISTINCT "CANVAS_API_ID") = 1',
            [self._app_group_id, first - _ENTRIES_BEFORE],
        )

    def kept_out_of_all(self, until: int) -> Staged | None:
        """Return the query of how many random buckets are in the workspace's Global Control Group.

        :param until: the moment at which, in epoch seconds.
        :return: None when the share cannot tell.
        """
        name = table_in(self._inventory.columns, _KEPT_OUT)
        needed = {"ID", "APP_GROUP_ID", "TIME", "RANDOM_BUCKET_NUMBER", "GLOBAL_CONTROL_GROUP"}
        if name is None or not needed <= self._inventory.columns[name]:
            return None
        return Staged(
            'SELECT COUNT(*) FROM (SELECT "GLOBAL_CONTROL_GROUP" AS IS_OUT FROM '
            f'{self._qualified(name)} WHERE "APP_GROUP_ID" = %s AND "TIME" < %s '
            'QUALIFY ROW_NUMBER() OVER (PARTITION BY "RANDOM_BUCKET_NUMBER" ORDER BY "TIME" DESC, "ID" DESC) = 1'
            ") b WHERE IS_OUT",
            [self._app_group_id, until],
        )

    def _name(self, table: str) -> str:
        name = table_in(self._inventory.columns, table)
        if name is None:
            raise LookupError(f"the share has no table {table}")
        return name

    def _qualified(self, name: str) -> str:
        # With parameters, a percent sign of a quoted name is written twice.
        return f'{self._inventory.share.replace("%", "%%")}."{name}"'


def union(parts: Sequence[Staged]) -> Staged:
    """Return the rows of all parts."""
    return Staged(
        " UNION ALL ".join(part.sql for part in parts), [value for part in parts for value in part.params]
    )


def _once(columns: frozenset[str]) -> str:
    """Return the clause that keeps one of the rows with one ID: the first that Braze has delivered."""
    order = '"SF_CREATED_AT" ASC NULLS LAST' if "SF_CREATED_AT" in columns else '"TIME"'
    return f'QUALIFY ROW_NUMBER() OVER (PARTITION BY "ID" ORDER BY {order}) = 1'


def _needed(table: str) -> set[str]:
    """Return the columns of a table, beyond who and when, that anything here is made of."""
    needed = {column for columns in _TAKEN.values() for column in columns} | {"DISPATCH_ID", "DEVICE_ID"}
    needed |= {"CAMPAIGN_API_ID", "CANVAS_API_ID", "MESSAGE_VARIATION_API_ID", "CANVAS_VARIATION_API_ID"}
    needed |= {"IN_CONTROL_GROUP", "MACHINE_OPEN", "IS_SUSPECTED_BOT_CLICK", "CONVERSION_BEHAVIOR_INDEX"}
    needed |= {"EXPERIMENT_STEP_API_ID"} if table == _PATHS else set()
    needed |= {"SUBSCRIPTION_STATUS", "CURRENCY", "REVENUE" if table.endswith("_REVENUE_SHARED") else "PRICE"}
    return needed


def _columns_of(table: str, columns: frozenset[str], *, by_variation: bool = False) -> dict[str, str]:
    """Return an expression for each column of a staged row.

    :param by_variation: the Canvas is that of ``c``, as the row names its variation alone.
    """

    def text(name: str) -> str:
        return f"NULLIF(e.\"{name}\", '')" if name in columns else "CAST(NULL AS VARCHAR)"

    campaign = text("CAMPAIGN_API_ID")
    canvas = "c.MESSAGE_ID" if by_variation else text("CANVAS_API_ID")
    of_campaign = text("MESSAGE_VARIATION_API_ID")
    # Whoever takes a path does so in a step of the Canvas, whichever of its variations they are in.
    of_canvas = text("EXPERIMENT_STEP_API_ID" if table == _PATHS else "CANVAS_VARIATION_API_ID")
    taken = {
        name: next((f'e."{column}"' for column in candidates if column in columns), "CAST(NULL AS VARCHAR)")
        for name, candidates in _TAKEN.items()
    }
    # Compared with each other, where one that is not there is like another.
    for name, column in (("DISPATCH", "DISPATCH_ID"), ("DEVICE", "DEVICE_ID")):
        taken[name] = f"COALESCE(e.\"{column}\", '')" if column in columns else "''"
    taken |= {
        "MOMENT": 'e."TIME"',
        "KIND": f"CASE WHEN {campaign} IS NOT NULL THEN 'campaign' WHEN {canvas} IS NOT NULL THEN 'canvas' END",
        "MESSAGE_ID": f"COALESCE({campaign}, {canvas})",
        "VARIATION_ID": f"COALESCE(CASE WHEN {campaign} IS NOT NULL THEN {of_campaign} ELSE {of_canvas} END, '')",
        "IN_CONTROL": 'e."IN_CONTROL_GROUP"' if "IN_CONTROL_GROUP" in columns else "CAST(NULL AS BOOLEAN)",
    }
    # Braze keeps the revenue of campaigns and Canvases in US cents, purchases in units of their own currency.
    if table.endswith("_REVENUE_SHARED"):
        taken |= {"CURRENCY": "'USD'", "AMOUNT": 'CAST(e."REVENUE" AS FLOAT) / 100'}
    elif {"PRICE", "CURRENCY"} <= columns:
        taken |= {"CURRENCY": 'UPPER(e."CURRENCY")', "AMOUNT": 'CAST(e."PRICE" AS FLOAT)'}
    else:
        taken |= {"CURRENCY": "CAST(NULL AS VARCHAR)", "AMOUNT": "CAST(NULL AS FLOAT)"}
    return taken


def _human(columns: frozenset[str]) -> list[str]:
    """Return the conditions of a row that somebody is behind it, and no machine."""
    conditions = []
    if "MACHINE_OPEN" in columns:
        conditions.append("LOWER(COALESCE(CAST(e.\"MACHINE_OPEN\" AS VARCHAR), '')) <> 'true'")
    if "IS_SUSPECTED_BOT_CLICK" in columns:
        conditions.append('NOT COALESCE(e."IS_SUSPECTED_BOT_CLICK", FALSE)')
    return conditions


def _counted(table: str, columns: frozenset[str]) -> list[str]:
    """Return the conditions of a row that says what the table's figure is."""
    conditions = []
    if "CONVERSION_BEHAVIOR_INDEX" in columns:
        # The primary conversion event of the campaign or Canvas.
        conditions.append('COALESCE(e."CONVERSION_BEHAVIOR_INDEX", 0) = 0')
    if table.startswith("USERS_BEHAVIORS_SUBSCRIPTION") and "SUBSCRIPTION_STATUS" in columns:
        conditions.append("LOWER(COALESCE(e.\"SUBSCRIPTION_STATUS\", '')) = 'unsubscribed'")
    return conditions


def _moment(table: str) -> str:
    """Return epoch seconds as Braze writes when a row was loaded: with a zone in some tables, in others without."""
    with_zone = catalogue()[table]["SF_CREATED_AT"].startswith("TIMESTAMP_LTZ")
    return f"TO_TIMESTAMP_{'LTZ' if with_zone else 'NTZ'}(%s)"
