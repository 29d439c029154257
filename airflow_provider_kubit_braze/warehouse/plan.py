"""Planning: the difference between the source and the ledger, frozen by one statement in Snowflake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.holdout import holdout_threshold
from airflow_provider_kubit_braze.core.payload import MAX_ID_BYTES, alias_kind
from airflow_provider_kubit_braze.core.plan import Plan
from airflow_provider_kubit_braze.exceptions import SourceError
from airflow_provider_kubit_braze.warehouse.session import first_line, is_refusal, stored_name

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.identifiers import Identifier, Identifiers
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

# The counts travel as one more row of the frozen plan, so that they are of the very same moment, and are taken out
# again in the same transaction.
_COUNTS_SEQ: Final = -1

# TRIM takes away spaces only.
_BLANKS: Final = "CHR(9) || CHR(10) || CHR(13)"

# The first name is an unusual one: Snowflake takes a table of the same name in the author's SQL for a recursion.
_PLAN: Final = """
INSERT INTO {change} (IMPORT_ID, SEQ, ACTION, ID_KIND, USER_ID, HELD_OUT)
WITH kubit_source_rows AS (
    SELECT {kind} AS ID_KIND, {user} AS USER_ID FROM (
{select}
    ) source
),
members AS (
    SELECT ID_KIND, USER_ID, {held} AS HELD FROM kubit_source_rows WHERE {valid} GROUP BY ID_KIND, USER_ID
),
stays AS (
    SELECT ID_KIND, USER_ID, CASE WHEN HELD_OUT THEN 1 ELSE 2 END AS STATE
    FROM {membership} WHERE WORKSPACE = %s AND COHORT_ID = %s AND LEFT_AT IS NULL
),
doubtful AS (
    SELECT DISTINCT ID_KIND, USER_ID FROM {unknown} WHERE WORKSPACE = %s AND COHORT_ID = %s
),
known AS (
    SELECT s.ID_KIND, s.USER_ID, s.STATE, d.USER_ID IS NOT NULL AS DOUBT
    FROM stays s LEFT JOIN doubtful d ON s.ID_KIND = d.ID_KIND AND s.USER_ID = d.USER_ID
    UNION ALL
    SELECT d.ID_KIND, d.USER_ID, 0, TRUE
    FROM doubtful d LEFT JOIN stays s ON s.ID_KIND = d.ID_KIND AND s.USER_ID = d.USER_ID
    WHERE s.USER_ID IS NULL
),
compared AS (
    SELECT
        COALESCE(m.ID_KIND, k.ID_KIND) AS ID_KIND,
        COALESCE(m.USER_ID, k.USER_ID) AS USER_ID,
        CASE WHEN m.USER_ID IS NULL THEN 0 WHEN m.HELD THEN 1 ELSE 2 END AS WANTED,
        COALESCE(k.STATE, 0) AS STATE,
        COALESCE(k.DOUBT, FALSE) AS DOUBT
    FROM members m FULL OUTER JOIN known k ON m.ID_KIND = k.ID_KIND AND m.USER_ID = k.USER_ID
),
judged AS (
    SELECT ID_KIND, USER_ID, WANTED = 1 AS HELD,
        CASE
            WHEN WANTED = 2 AND STATE = 2 THEN CASE WHEN DOUBT OR {resync} THEN 'refresh' END
            WHEN WANTED = 2 THEN 'enter'
            WHEN STATE = 2 OR DOUBT THEN 'leave'
            WHEN WANTED = 1 AND STATE = 0 THEN 'hold'
            WHEN WANTED = 0 AND STATE = 1 THEN 'drop'
        END AS ACTION
    FROM compared
)
SELECT
    %s,
    ROW_NUMBER() OVER (
        ORDER BY CASE ACTION WHEN 'leave' THEN 0 WHEN 'enter' THEN 1 WHEN 'refresh' THEN 2 ELSE 3 END,
            ID_KIND, USER_ID
    ),
    ACTION, ID_KIND, USER_ID, HELD
FROM judged WHERE ACTION IS NOT NULL
UNION ALL
SELECT %s, {counts_seq}, 'counts', NULL,
    CONCAT_WS('/', rows_read.N, valid_rows.N, member_counts.N, member_counts.HELD, stay_counts.N,
        doubt_counts.N), NULL
FROM (SELECT CAST(COUNT(*) AS VARCHAR) AS N FROM kubit_source_rows) rows_read,
    (SELECT CAST(COUNT(*) AS VARCHAR) AS N FROM kubit_source_rows WHERE {valid}) valid_rows,
    (SELECT CAST(COUNT(*) AS VARCHAR) AS N, CAST(COUNT(CASE WHEN HELD THEN 1 END) AS VARCHAR) AS HELD FROM members)
        member_counts,
    (SELECT CAST(COUNT(CASE WHEN STATE = 2 THEN 1 END) AS VARCHAR) AS N FROM stays) stay_counts,
    (SELECT CAST(COUNT(CASE WHEN STATE = 0 THEN 1 END) AS VARCHAR) AS N FROM known) doubt_counts
"""


def check_source(session: Session, cohort: Cohort) -> None:
    """Read the source's columns, and no row, to see that the plan can be made.

    :raises SourceError: when Snowflake refuses the source, or an identifier column is missing.
    """
    try:
        cursor = session.execute(f"SELECT * FROM (\n{cohort.source.select}\n) LIMIT 0")
    except Exception as error:
        raise _refused(cohort, error) from None
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
    import_id: str,
    full_resync: bool,
) -> Plan:
    """Freeze the change set into ``IMPORT_CHANGE`` and return its counts.

    Runs inside the caller's transaction. The same source and ledger always give the same sequence numbers.

    :param workspace: key of the ledger.
    :param import_id: key of the plan.
    :param full_resync: send members once more that are in Braze already.
    :raises SourceError: when Snowflake refuses the source.
    """
    sql = _PLAN.format(
        change=tables.change,
        membership=tables.membership,
        unknown=tables.unknown,
        kind=_kind(cohort.identifiers),
        user=_user(cohort.identifiers),
        # Only text that we wrote goes through the connector's %-formatting.
        select=cohort.source.select.replace("%", "%%"),
        held=f"SUBSTR(MD5(%s || ':' || ID_KIND || ':' || USER_ID), 1, 8) < '{holdout_threshold(cohort.holdout)}'"
        if cohort.holdout
        else "FALSE",
        valid=f"USER_ID IS NOT NULL AND TRIM(TRANSLATE(USER_ID, {_BLANKS}, '')) <> '' "
        f"AND BIT_LENGTH(USER_ID) <= {8 * MAX_ID_BYTES}",
        resync="TRUE" if full_resync else "FALSE",
        counts_seq=_COUNTS_SEQ,
    )
    salt = [cohort.id] if cohort.holdout else []
    try:
        session.execute(sql, [*salt, workspace, cohort.id, workspace, cohort.id, import_id, import_id])
    except Exception as error:
        raise _refused(cohort, error) from None
    by_action = {
        action: int(number)
        for action, number in session.rows(
            f"SELECT ACTION, COUNT(*) FROM {tables.change} WHERE IMPORT_ID = %s AND SEQ > 0 GROUP BY ACTION",
            (import_id,),
        )
    }
    (counts,) = session.row(
        f"SELECT USER_ID FROM {tables.change} WHERE IMPORT_ID = %s AND SEQ = {_COUNTS_SEQ}", (import_id,)
    )
    session.execute(f"DELETE FROM {tables.change} WHERE IMPORT_ID = %s AND SEQ = {_COUNTS_SEQ}", (import_id,))
    rows, valid, members, held_out, in_braze, in_doubt = (int(number) for number in counts.split("/"))
    return Plan(
        import_id=import_id,
        members=members,
        in_braze=in_braze,
        enter=by_action.get("enter", 0),
        leave=by_action.get("leave", 0),
        refresh=by_action.get("refresh", 0),
        quiet=by_action.get("hold", 0) + by_action.get("drop", 0),
        held_out=held_out,
        duplicates=valid - members,
        invalid=rows - valid,
        in_doubt=in_doubt,
    )


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("%", "%%") + "'"


def _column(identifier: Identifier) -> str:
    return identifier.column.replace("%", "%%")


def _kind(chain: Identifiers) -> str:
    names = [i.kind if i.label is None else alias_kind(i.label) for i in chain]
    cases = " ".join(
        f"WHEN {_column(i)} IS NOT NULL THEN {_literal(name)}" for i, name in zip(chain, names, strict=True)
    )
    return f"CASE {cases} END"


def _user(chain: Identifiers) -> str:
    # As Snowflake shows it: numbers and UUIDs become text, nothing is trimmed or folded.
    cases = " ".join(f"WHEN {_column(i)} IS NOT NULL THEN CAST({_column(i)} AS VARCHAR)" for i in chain)
    return f"CASE {cases} END"


def _refused(cohort: Cohort, error: Exception) -> Exception:
    if not is_refusal(error):
        return error
    source = cohort.source
    what = f"table {source.table}" if source.table else "sql"
    return SourceError(f"Cohort {cohort.id!r}: Snowflake refuses source.{what}: {first_line(error)}")
