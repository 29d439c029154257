"""Whose the rows of a share are: which profiles the users of a cohort have, and when they were in it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.exceptions import SourceError
from airflow_provider_kubit_braze.warehouse.impact_sql import epoch_of
from airflow_provider_kubit_braze.warehouse.impact_stage import Staged
from airflow_provider_kubit_braze.warehouse.share_views import ShareViews

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
    from airflow_provider_kubit_braze.warehouse.impact_stage import Stage
    from airflow_provider_kubit_braze.warehouse.impact_work import WorkTables
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.share_check import Inventory
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: The end of a stay that has none: the last second of the year 9999.
FOREVER: Final = 253_402_300_799

#: Kinds of identifiers that only the profile views have.
_OF_VIEWS: Final = ("email", "phone")

# A stay begins when the import began that brought the user in: Braze may act on what it has accepted at once.
_STAYS: Final = f"""
SELECT m.ID_KIND, m.USER_ID, m.HELD_OUT,
    {epoch_of("LEAST(m.ENTERED_AT, COALESCE(r.STARTED_AT, m.ENTERED_AT))")} AS START_AT,
    COALESCE({epoch_of("m.LEFT_AT")}, {{forever}}) AS END_AT,
    {epoch_of("m.ENTERED_AT")} AS KNOWN_AT
FROM {{membership}} m
LEFT JOIN (
    SELECT IMPORT_ID, MIN(STARTED_AT) AS STARTED_AT
    FROM {{run}} WHERE WORKSPACE = %s AND COHORT_ID = %s GROUP BY IMPORT_ID
) r ON r.IMPORT_ID = m.ENTERED_IMPORT
WHERE m.WORKSPACE = %s AND m.COHORT_ID = %s
"""

# DONE: the profile is known to be the user's whether or not a message was sent to them. By whom a message names, those
# who were sent none have done nothing, as nobody knows which profile is theirs.
_OWNERS: Final = """
WITH members AS (SELECT DISTINCT ID_KIND, USER_ID FROM {stays}){profiles},
known AS ({known})
SELECT m.ID_KIND, m.USER_ID, k.UID, MAX(k.DONE) AS DONE
FROM members m INNER JOIN known k ON k.ID_KIND = m.ID_KIND AND k.USER_ID = m.USER_ID
GROUP BY m.ID_KIND, m.USER_ID, k.UID
"""

# Of several users of the ledger who are one profile, the one stands for it who is in the cohort, or was last.
_ONE_EACH: Final = """
SELECT o.UID, o.ID_KIND, o.USER_ID FROM {owners} o
INNER JOIN (SELECT ID_KIND, USER_ID, MAX(END_AT) AS END_AT FROM {stays} GROUP BY ID_KIND, USER_ID) t
    ON t.ID_KIND = o.ID_KIND AND t.USER_ID = o.USER_ID
WHERE o.DONE >= {done}
QUALIFY ROW_NUMBER() OVER (PARTITION BY o.UID ORDER BY t.END_AT DESC, o.ID_KIND, o.USER_ID) = 1
"""

_INSIDE: Final = """
SELECT DISTINCT o.UID, t.START_AT, t.END_AT, t.HELD_OUT
FROM {owners} o INNER JOIN {stays} t ON t.ID_KIND = o.ID_KIND AND t.USER_ID = o.USER_ID
"""


class People:
    """Finds out whose rows are whose.

    :param session: a Snowflake session.
    :param tables: names of the state tables.
    :param inventory: what the share has.
    :param stage: its events.
    :param question: what is asked.
    :param key: workspace and cohort.
    :param work: the measurement's tables. Made are ``stays``, and of each range of days ``people`` (UID, ID_KIND and
        USER_ID of whom a message may have reached), ``doers`` (the same of whom it is known what they did) and
        ``inside`` (UID, when it was in the cohort, and whether it was held out then).
    """

    def __init__(
        self,
        session: Session,
        tables: Tables,
        *,
        inventory: Inventory,
        stage: Stage,
        question: ImpactQuestion,
        key: tuple[str, str],
        work: WorkTables,
    ) -> None:
        self._session = session
        self._tables = tables
        self._inventory = inventory
        self._stage = stage
        self._question = question
        self._key = key
        self._work = work
        self._merges = self._names_canvases = False
        self._kinds: list[str] = []
        #: Whether anybody was ever held out.
        self.holds_out = False
        #: What the profile views could not be asked, as sentences.
        self.notes: list[str] = []

    @property
    def orphans(self) -> str | None:
        """The table of merged profiles; None when nobody can have been merged."""
        return self._work["orphans"] if self._merges else None

    @property
    def canvases(self) -> str | None:
        """The table of the Canvases of variations, of the days that are measured; None when no row needs it."""
        return self._work["canvases"] if self._names_canvases else None

    def begin(self) -> None:
        """Make what does not depend on the days."""
        self._work.make("stays", Staged(*stays_of(self._tables, self._key)))
        found = self._session.rows(f"SELECT DISTINCT ID_KIND, HELD_OUT FROM {self._work['stays']}")
        self._kinds = sorted({kind for kind, _ in found})
        self.holds_out = any(held for _, held in found)
        survivors = self._stage.survivors()
        self._merges = survivors is not None
        if survivors is not None:
            self._work.make("orphans", survivors)

    def find(
        self,
        first: int,
        until: int,
        *,
        messages: Collection[str],
        outcomes: Collection[str],
        of_canvases: bool = True,
    ) -> None:
        """Find out who is who in days that are measured together: a row may say it for those before it.

        :param first: the first moment, in epoch seconds.
        :param until: the moment after the last.
        :param messages: tables of messages, and of whatever follows them.
        :param outcomes: tables of what users do whether they were sent a message or not.
        :param of_canvases: whether it matters which Canvas a row is about.
        """
        among = Staged(f"SELECT USER_ID FROM {self._work['stays']} WHERE ID_KIND = 'external_id'", [])
        known, params = [], []
        for tables, done in ((messages, 0), (outcomes, 1)):
            if some := sorted(tables):
                named = self._stage.aliases(some, first=first, until=until, orphans=self.orphans, among=among)
                known.append(
                    f"SELECT 'external_id' AS ID_KIND, XID AS USER_ID, UID, {done} AS DONE FROM ({named.sql}) a"
                )
                params += named.params
        canvases = self._stage.canvases(messages, first=first) if of_canvases else None
        self._names_canvases = canvases is not None
        if canvases is not None:
            self._work.make("canvases", canvases)
        survivor = "COALESCE(o.SURVIVOR, {uid})" if self._merges else "{uid}"
        joined = f"LEFT JOIN {self.orphans} o ON o.ORPHAN = {{uid}}" if self._merges else ""
        mine, theirs = "m.USER_ID", "n.PROFILE"
        known.append(
            f"SELECT 'braze_id' AS ID_KIND, m.USER_ID, {survivor.format(uid=mine)} AS UID, 1 AS DONE "
            f"FROM members m {joined.format(uid=mine)} WHERE m.ID_KIND = 'braze_id'"
        )
        profiles, of_profiles = self._profiles()
        if profiles:
            known.append(
                f"SELECT n.KIND, n.WHO, {survivor.format(uid=theirs)}, 1 FROM names n {joined.format(uid=theirs)}"
            )
        words = {"stays": self._work["stays"], "owners": self._work["owners"]}
        owners = _OWNERS.format(
            **words, profiles=f", {profiles}" if profiles else "", known=" UNION ALL ".join(known)
        )
        self._work.make("owners", Staged(owners, [*of_profiles, *params]))
        self._work.make("people", Staged(_ONE_EACH.format(**words, done=0), []))
        self._work.make("doers", Staged(_ONE_EACH.format(**words, done=1), []))
        self._work.make("inside", Staged(_INSIDE.format(**words), []))

    def nameable(self) -> list[str]:
        """Return the kinds of identifiers of the cohort's users by which the share may know them."""
        return [
            kind for kind in self._kinds if kind in ("braze_id", "external_id") or kind in self._of_views()
        ]

    def _of_views(self) -> list[str]:
        views = self._views
        return [] if views is None else [kind for kind in _OF_VIEWS if views.has(kind)]

    def _profiles(self) -> tuple[str, list[str]]:
        """Return the WITH clauses of the profiles' names, empty without the views."""
        views = self._views
        if views is None:
            return "", []
        asked = [kind for kind in self._kinds if kind in ("external_id", *_OF_VIEWS) and views.has(kind)]
        return views.names(asked) if asked else ("", [])

    @cached_property
    def _views(self) -> ShareViews | None:
        """The profile views; looked at once, for every range of days and kind of identifier."""
        return views_of(
            self._session, self._inventory, app_group_id=self._question.app_group_id, notes=self.notes
        )


def views_of(
    session: Session, inventory: Inventory, *, app_group_id: str, notes: list[str]
) -> ShareViews | None:
    """Return the profile views of a share, if it has any that can be asked.

    :param notes: gets why they cannot be.
    """
    if not inventory.profile_views["who is known"]:
        return None
    views = ShareViews(session, share=inventory.share, app_group_id=app_group_id, of_impact=True)
    try:
        views.people()
    except SourceError as error:
        notes.append(str(error))
        return None
    return views


def stays_of(tables: Tables, key: tuple[str, str]) -> tuple[str, list[str]]:
    """Return the query of all stays of a cohort, and its parameters.

    :return: ID_KIND, USER_ID, HELD_OUT, and in epoch seconds START_AT, END_AT, which is not part of the stay, and
        KNOWN_AT, when the stay was written down.
    """
    statement = _STAYS.format(membership=tables.membership, run=tables.run, forever=FOREVER)
    return statement.strip(), [*key, *key]
