"""Braze's data share in Snowflake: who is known to Braze, and what the profiles show, without asking the API.

What the views are and what is assumed of them stands in ``share_views``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.warehouse.share_views import ShareViews
from airflow_provider_kubit_braze.warehouse.stays import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow_provider_kubit_braze.core.verification import Verdict
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables
    from airflow_provider_kubit_braze.warehouse.stays import Key

#: A SELECT and its parameters; of changes, with the columns SEQ, ACTION, AREA, KIND and WHO of ``accepted_changes``.
Query = tuple[str, "Sequence[Any]"]

NOT_IN_SHARE: Final = "Braze's data share has no profile of the user"

_ATTRIBUTE: Final = str(Place("attribute", ""))

#: Whom to look up before an import. Those to be held out like the others: strangers in one of two groups that are
#: compared would be a difference that no campaign made.
ENTERS: Final = "ACTION IN ('enter', 'hold')"

_SENT: Final = "ACTION IN ('enter', 'refresh', 'leave')"

_NOTE: Final = """
INSERT INTO {unmatched}
    (IMPORT_ID, RUN_ID, SEQ, ACTION, WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, REASON, FOUND_AT)
WITH {names}
SELECT %s, %s, a.SEQ, a.ACTION, %s, %s, a.AREA, a.KIND, a.WHO, %s, CAST(%s AS TIMESTAMP_NTZ)
FROM ({changes}) a
LEFT JOIN (SELECT DISTINCT KIND, WHO FROM names) n ON n.KIND = a.KIND AND n.WHO = a.WHO
LEFT JOIN (SELECT SEQ FROM {unmatched} WHERE IMPORT_ID = %s) noted ON noted.SEQ = a.SEQ
WHERE {enters} AND a.KIND IN ({kinds}) AND n.WHO IS NULL AND noted.SEQ IS NULL
"""

# Of several profiles that share an address, any may be the one Braze wrote to: as in core/verification.py.
# TO_JSON tells the boolean true from the text "true". A key that is an expression is taken as it is, dots and all.
_VERIFY: Final = """
WITH asked AS (SELECT SEQ, ACTION, AREA, KIND, WHO FROM ({changes}) c WHERE {sent} AND KIND IN ({kinds})),
{names},
owners AS (
    SELECT a.SEQ, n.PROFILE FROM asked a INNER JOIN names n ON n.KIND = a.KIND AND n.WHO = a.WHO
),
attributes AS (
    SELECT "USER_ID" AS PROFILE, "CUSTOM_ATTRIBUTES" AS FIELDS FROM {custom}
    WHERE "APP_GROUP_ID" = %s AND "USER_ID" IN (SELECT PROFILE FROM owners)
    QUALIFY {latest} = 1
),
seen AS (
    SELECT a.SEQ, a.ACTION, a.AREA, COUNT(o.PROFILE) AS PROFILES,
        MAX(CASE WHEN TO_JSON(GET(t.FIELDS, NULLIF(SUBSTR(a.AREA, {skip}), ''))) = 'true' THEN 1 ELSE 0 END) AS INSIDE
    FROM asked a LEFT JOIN owners o ON o.SEQ = a.SEQ LEFT JOIN attributes t ON t.PROFILE = o.PROFILE
    GROUP BY a.SEQ, a.ACTION, a.AREA
)
SELECT {shown} FROM (
    SELECT SEQ, ACTION, CASE
        WHEN PROFILES = 0 THEN CASE WHEN ACTION = 'leave' THEN 'right' ELSE 'unknown' END
        WHEN SUBSTR(AREA, 1, {prefix}) <> '{attribute}' THEN 'right'
        WHEN (INSIDE = 1) = (ACTION <> 'leave') THEN 'right'
        ELSE 'different'
    END AS VERDICT FROM seen
) judged
"""


@dataclass(frozen=True, kw_only=True)
class Matched:
    """What the share says about an import's entrants.

    :param asked: entrants, those to be held out included, that the share was asked about.
    :param unmatched: of those, the ones noted now as unknown to Braze.
    :param unanswered: kind of identifier that the share does not have, to the entrants named so: ask the API.
    """

    asked: int
    unmatched: int
    unanswered: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the share says about changes that Braze accepted.

    :param counts: action to verdict to the number of changes; what is zero is absent.
    :param unanswered: kind of identifier that the share does not have, to the changes named so: ask the API.
    """

    counts: Mapping[str, Mapping[Verdict, int]]
    unanswered: Mapping[str, int]

    def total(self, verdict: Verdict) -> int:
        """Return how many changes got the verdict, whatever their action."""
        return sum(by_verdict.get(verdict, 0) for by_verdict in self.counts.values())

    @property
    def asked(self) -> int:
        """How many changes the share was asked about."""
        return sum(sum(by_verdict.values()) for by_verdict in self.counts.values())


def planned_changes(tables: Tables, import_id: str) -> Query:
    """Return the query of all changes of a frozen plan."""
    sql = (
        "SELECT c.SEQ, c.ACTION, c.PLACE AS AREA, c.ID_KIND AS KIND, c.USER_ID AS WHO "
        f"FROM {tables.change} c WHERE c.IMPORT_ID = %s"
    )
    return sql, (import_id,)


def changes_at(tables: Tables, import_id: str, seqs: Sequence[int]) -> Query:
    """Return the query of some changes of a frozen plan.

    :param seqs: their sequence numbers, at most 16,384 (Snowflake's longest list).
    """
    sql, params = planned_changes(tables, import_id)
    return f"{sql} AND c.SEQ IN ({', '.join(['%s'] * len(seqs)) or 'NULL'})", (*params, *seqs)


def sample_of(changes: Query, import_id: str, size: int) -> Query:
    """Return the query of a random sample of an import's sent ``changes``: always the same ones.

    :param size: how many at most.
    """
    sql, params = changes
    sampled = (
        f"SELECT SEQ, ACTION, AREA, KIND, WHO FROM ({sql}) c WHERE {_SENT} "
        f"ORDER BY MD5(%s || ':' || CAST(SEQ AS VARCHAR)) LIMIT {int(size)}"
    )
    return sampled, (*params, import_id)


class ProfileShare:
    """The profile views of a Braze data share, as seen by one workspace.

    :param session: a session whose role may read the share.
    :param share: the schema with the views, such as ``BRAZE_SHARE.PUBLIC``.
    :param app_group_id: the workspace's rows in the share; all others are somebody else's.
    :raises SourceError: when ``share`` is no name.
    """

    def __init__(self, session: Session, *, share: str, app_group_id: str) -> None:
        self._session = session
        self._views = ShareViews(session, share=share, app_group_id=app_group_id)

    def check(self, *, attributes: bool = True) -> None:
        """See that the questions can be answered, without reading more than a row; best outside a transaction.

        :param attributes: False when only ``note_unmatched`` will be asked, which does without custom attributes.
        :raises SourceError: when a view is missing or may not be read, lacks a column, or has nobody of the workspace.
        """
        self._views.people()
        if attributes:
            self._views.attributes()

    @property
    def delay(self) -> timedelta:
        """How long after a change the views may still show the profile without it.

        :raises SourceError: as for ``check``.
        """
        return max(self._views.people().delay, self._views.attributes().delay)

    def note_unmatched(
        self, tables: Tables, import_id: str, *, key: Key, run_id: str, among: Query | None = None
    ) -> Matched:
        """Write the entrants whom Braze does not know into ``IMPORT_UNMATCHED``; doing it again adds nobody twice.

        Those to be held out are entrants, too. Runs inside the caller's transaction. No user crosses the network.
        E-mail addresses and phone numbers are compared as they stand, like every identifier.

        :param key: workspace and cohort.
        :param run_id: the run that the rows name.
        :param among: the changes to look at; by default all of the plan.
        :raises SourceError: as for ``check(attributes=False)``.
        """
        changes, params = among or planned_changes(tables, import_id)
        entrants = self._count_kinds(f"SELECT KIND FROM ({changes}) c WHERE {ENTERS}", params)
        kinds, unanswered = self._split(entrants)
        if not kinds:
            return Matched(asked=0, unmatched=0, unanswered=unanswered)
        names, name_params = self._views.names(kinds)
        sql = _NOTE.format(
            unmatched=tables.unmatched,
            names=names,
            changes=changes,
            enters=f"a.{ENTERS}",
            kinds=", ".join(["%s"] * len(kinds)),
        )
        now = utc_text(datetime.now(UTC))
        given = (*name_params, import_id, run_id, *key, NOT_IN_SHARE, now, *params, import_id, *kinds)
        ((inserted,),) = self._views.ask(sql, given)
        return Matched(
            asked=sum(entrants[kind] for kind in kinds), unmatched=int(inserted), unanswered=unanswered
        )

    def verify(self, changes: Query) -> Findings:
        """Compare what was sent with what the profiles show.

        Only the boolean true means being in the cohort, and whom Braze does not know is in none. Each change is
        looked for under the attribute of its own place. Of a partner cohort no view tells more than whether Braze
        knows the user.

        :param changes: the changes, such as ``sample_of(accepted_changes(...), ...)``; what was not sent is left out.
        :raises SourceError: as for ``check``.
        """
        by_kind = self._sent_by_kind(changes)
        kinds, unanswered = self._split(by_kind)
        counts: dict[str, dict[Verdict, int]] = {}
        if kinds:
            sql, params = self._judged(changes, kinds, shown="ACTION, VERDICT, COUNT(*)")
            for action, verdict, number in self._views.ask(f"{sql} GROUP BY ACTION, VERDICT", params):
                counts.setdefault(action, {})[verdict] = int(number)
        return Findings(counts=counts, unanswered=unanswered)

    def verdicts(self, changes: Query) -> dict[int, Verdict]:
        """Compare like ``verify`` and return sequence number -> verdict; of use for a sample.

        What the share cannot answer, or was not sent, is absent.

        :param changes: the changes, such as ``changes_at(...)``.
        :raises SourceError: as for ``check``.
        """
        kinds, _ = self._split(self._sent_by_kind(changes))
        if not kinds:
            return {}
        sql, params = self._judged(changes, kinds, shown="SEQ, VERDICT")
        return {int(seq): verdict for seq, verdict in self._views.ask(f"{sql} ORDER BY SEQ", params)}

    def _sent_by_kind(self, changes: Query) -> dict[str, int]:
        sql, params = changes
        return self._count_kinds(f"SELECT KIND FROM ({sql}) c WHERE {_SENT}", params)

    def _judged(self, changes: Query, kinds: Sequence[str], *, shown: str) -> Query:
        sql, params = changes
        names, name_params = self._views.names(kinds)
        custom = self._views.attributes()
        statement = _VERIFY.format(
            changes=sql,
            sent=_SENT,
            kinds=", ".join(["%s"] * len(kinds)),
            names=names,
            custom=custom.name,
            latest=custom.latest(),
            skip=len(_ATTRIBUTE) + 1,
            prefix=len(_ATTRIBUTE),
            attribute=_ATTRIBUTE,
            shown=shown,
        )
        return statement, (*params, *kinds, *name_params, self._views.app_group_id)

    def _count_kinds(self, kinds: str, params: Sequence[Any]) -> dict[str, int]:
        rows = self._session.rows(
            f"SELECT KIND, COUNT(*) FROM ({kinds}) k GROUP BY KIND ORDER BY KIND", params
        )
        return {kind: int(number) for kind, number in rows}

    def _split(self, by_kind: Mapping[str, int]) -> tuple[list[str], dict[str, int]]:
        """Tell the kinds of identifiers that the share has from those it has not."""
        kinds = [kind for kind in by_kind if self._views.has(kind)]
        return kinds, {kind: number for kind, number in by_kind.items() if kind not in kinds}
