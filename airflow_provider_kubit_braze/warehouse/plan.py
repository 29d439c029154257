"""Planning: the difference between the source and the ledger, frozen by one statement in Snowflake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.holdout import holdout_threshold
from airflow_provider_kubit_braze.core.payload import alias_kind
from airflow_provider_kubit_braze.core.plan import REST_DAYS, Plan
from airflow_provider_kubit_braze.exceptions import SourceError, StatementBrokenOffError
from airflow_provider_kubit_braze.warehouse.plan_sql import (
    BEFORE_IMPORT,
    CHANGES_COUNTED,
    COUNTS_SEQ,
    FROM_SOURCE,
    NO_PAIRS,
    NOBODY,
    ONE_IDENTIFIER,
    PLAN,
    SEVERAL_IDENTIFIERS,
    STAYS_COUNTED,
    USABLE,
    as_text,
)
from airflow_provider_kubit_braze.warehouse.session import (
    first_line,
    is_contention,
    is_passing,
    is_refusal,
    stored_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.identifiers import Identifier, Identifiers
    from airflow_provider_kubit_braze.core.place import Place
    from airflow_provider_kubit_braze.core.run import Purpose
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables


def check_source(session: Session, cohort: Cohort) -> None:
    """Read the source's columns, and no row, to see that the plan can be made.

    :raises SourceError: when Snowflake refuses the source, or an identifier column is missing.
    """
    try:
        cursor = session.execute(f"SELECT * FROM (\n{cohort.source.select}\n) LIMIT 0")
    except Exception as error:
        raise refused(cohort, error) from None
    columns = [column.name for column in cursor.description]
    for identifier in cohort.identifiers:
        if stored_name(identifier.column) not in columns:
            raise SourceError(
                f"Cohort {cohort.id!r}: identifiers.{identifier.kind} names column {identifier.column}, "
                f"which the source does not have; its columns are {', '.join(columns)}."
            )


def freeze_plan(
    session: Session,
    tables: Tables,
    *,
    cohort: Cohort,
    workspace: str,
    place: Place,
    import_id: str,
    full_resync: bool = False,
    purpose: Purpose = "import",
    undone: str | None = None,
) -> Plan:
    """Freeze the change set into ``IMPORT_CHANGE`` and return its counts.

    Runs inside the caller's transaction. The same source and ledger always give the same sequence numbers.

    :param workspace: key of the ledger.
    :param place: where members are to be marked; who is marked elsewhere leaves there.
    :param import_id: key of the plan.
    :param full_resync: send members once more that are in Braze already, or were rejected lately.
    :param purpose: ``import`` compares with the source, ``undo`` with the ledger as it was, ``retire`` with nobody.
    :param undone: for ``undo``, the import to reverse.
    :raises SourceError: when Snowflake refuses the source.
    """
    key = (workspace, cohort.id)
    row_params: list[Any] = []
    match purpose:
        case "import":
            rows, row_params = rows_of_source(cohort, place)
        case "undo":
            rows, row_params = BEFORE_IMPORT.format(membership=tables.membership), [*key, undone, undone]
        case "retire":
            rows = NOBODY.format(membership=tables.membership)
    chain = tuple(cohort.identifiers) if purpose == "import" else ()
    # An undo may be asked for without the cohort's file, and so without its identifiers.
    several = purpose == "undo" or (
        purpose == "import" and (len(chain) > 1 or _knows_others(session, tables, key, chain[0]))
    )
    sql = PLAN.format(
        change=tables.change,
        stays=f"{tables.membership} WHERE WORKSPACE = %s AND COHORT_ID = %s AND LEFT_AT IS NULL",
        unknown=tables.unknown,
        rejected=tables.rejected,
        rows=rows,
        every="".join(f", {name}" for name in every_identifier(chain)),
        usable=USABLE,
        judged=_judged(chain, tables) if several else ONE_IDENTIFIER,
        resync="TRUE" if full_resync else "FALSE",
        rest_days=REST_DAYS,
        counts_seq=COUNTS_SEQ,
        changes_counted=as_text(CHANGES_COUNTED),
        stays_counted=as_text(STAYS_COUNTED),
    )
    try:
        session.execute(
            sql,
            [
                *row_params,
                *key,
                *key,
                *key,
                *([*key, *key, *key] if several else []),
                import_id,
                import_id,
                str(place),
                *key,
            ],
        )
    except Exception as error:
        raise refused(cohort, error) from None
    (counts,) = session.row(
        f"SELECT USER_ID FROM {tables.change} WHERE IMPORT_ID = %s AND SEQ = {COUNTS_SEQ}", (import_id,)
    )
    session.execute(f"DELETE FROM {tables.change} WHERE IMPORT_ID = %s AND SEQ = {COUNTS_SEQ}", (import_id,))
    n = dict(zip([*CHANGES_COUNTED, *STAYS_COUNTED], map(int, counts.split("/")), strict=True))
    # Whoever has no change is to be what they are.
    members = n["stays"] - n["were"] + n["wanted"]
    return Plan(
        import_id=import_id,
        members=members,
        in_braze=n["stays"] - n["stays_held"],
        enter=n["enter"],
        leave=n["leave"],
        refresh=n["refresh"],
        quiet=n["quiet"],
        held_out=n["stays_held"] - n["were_held"] + n["wanted_held"],
        duplicates=n["listed"] - n["invalid"] - members,
        invalid=n["invalid"],
        in_doubt=n["in_doubt"],
        set_aside=n["set_aside"],
        elsewhere=n["elsewhere"],
        purpose=purpose,
    )


def rows_of_source(cohort: Cohort, place: Place) -> tuple[str, list[Any]]:
    """Return the query of what a cohort is to be, and its parameters; the columns are those of ``FROM_SOURCE``."""
    chain = cohort.identifiers
    held = (
        f"COALESCE(SUBSTR(MD5(%s || ':' || ID_KIND || ':' || USER_ID), 1, 8) < "
        f"'{holdout_threshold(cohort.holdout)}', FALSE)"
        if cohort.holdout
        else "FALSE"
    )
    rows = FROM_SOURCE.format(
        held=held,
        kind=_kind(chain),
        user=_user(chain),
        row_hash=_row_hash(chain),
        every="".join(f", {name}" for name in every_identifier(chain)),
        every_as="".join(
            f", CAST({_column(i)} AS VARCHAR) AS {name}"
            for i, name in zip(chain, every_identifier(chain), strict=False)
        ),
        # Only text that we wrote goes through the connector's %-formatting.
        select=cohort.source.select.replace("%", "%%"),
    )
    return rows, [str(place), *([cohort.id] if cohort.holdout else [])]


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("%", "%%") + "'"


def _column(identifier: Identifier) -> str:
    return identifier.column.replace("%", "%%")


def every_identifier(chain: Sequence[Identifier] | Identifiers) -> list[str]:
    """Return names for all identifiers of a row; with one of them nobody can be the same person twice."""
    return [f"KUBIT_ID_{number}" for number in range(len(chain))] if len(chain) > 1 else []


def _knows_others(session: Session, tables: Tables, key: tuple[str, str], identifier: Identifier) -> bool:
    """Whether the ledger has users by other identifiers than this one, from before it was the only one."""
    others = " UNION ALL ".join(
        f"SELECT 1 AS ONE FROM {table} WHERE WORKSPACE = %s AND COHORT_ID = %s AND {still} "
        f"AND ID_KIND <> {_name(identifier)}"
        for table, still in (
            (tables.membership, "LEFT_AT IS NULL"),
            (tables.unknown, "TRUE"),
            (tables.rejected, "CLEARED_AT IS NULL"),
        )
    )
    return bool(session.rows(f"SELECT ONE FROM ({others}) others LIMIT 1", key * 3))


def _judged(chain: Sequence[Identifier], tables: Tables) -> str:
    pairs = " UNION ALL ".join(
        f"SELECT PLACE, ID_KIND, USER_ID, {_name(i)} AS OTHER_KIND, {column} AS OTHER FROM alone "
        f"WHERE ACTION IS NULL AND {column} IS NOT NULL AND ID_KIND <> {_name(i)}"
        # One identifier alone has no column of its own there.
        for i, column in zip(chain, every_identifier(chain), strict=False)
    )
    return SEVERAL_IDENTIFIERS.format(
        pairs=pairs or NO_PAIRS, unknown=tables.unknown, rejected=tables.rejected, run=tables.run
    )


def _name(identifier: Identifier) -> str:
    """Return the ledger's name of a kind of identifier, as a literal."""
    return _literal(identifier.kind if identifier.label is None else alias_kind(identifier.label))


def _kind(chain: Identifiers) -> str:
    cases = " ".join(f"WHEN {_column(i)} IS NOT NULL THEN {_name(i)}" for i in chain)
    return f"CASE {cases} END"


def _user(chain: Identifiers) -> str:
    # As Snowflake shows it: numbers and UUIDs become text, nothing is trimmed or folded.
    cases = " ".join(f"WHEN {_column(i)} IS NOT NULL THEN CAST({_column(i)} AS VARCHAR)" for i in chain)
    return f"CASE {cases} END"


def _row_hash(chain: Identifiers) -> str:
    """What tells whether a row's identifiers changed; with one identifier that is the user itself."""
    if len(chain) == 1:
        return "CAST(NULL AS VARCHAR)"
    parts = " || ".join(f"COALESCE(MD5(CAST({_column(i)} AS VARCHAR)), '-')" for i in chain)
    return f"MD5({parts})"


def refused(cohort: Cohort, error: Exception) -> Exception:
    """Return what to raise when a statement that reads the source failed.

    Its own error, one that a later try may not meet, or a ``SourceError``.
    """
    if not is_refusal(error) or is_contention(error):
        return error
    source = cohort.source
    what = f"table {source.table}" if source.table else source.way
    if is_passing(error):
        return StatementBrokenOffError(
            f"Cohort {cohort.id!r}: source.{what} could not be read; Snowflake says: {first_line(error)}"
        )
    return SourceError(f"Cohort {cohort.id!r}: Snowflake refuses source.{what}: {first_line(error)}")
