"""Why a user is in a cohort, or is not: the source, the ledger and Braze asked about one user."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.braze.client import BrazeClient
from airflow_provider_kubit_braze.braze.lookup import Lookup
from airflow_provider_kubit_braze.core.explanation import Facts, Profile
from airflow_provider_kubit_braze.core.place import place_of
from airflow_provider_kubit_braze.core.run import RunIdentity
from airflow_provider_kubit_braze.core.verification import OTHER_PROFILES
from airflow_provider_kubit_braze.exceptions import BrazeError
from airflow_provider_kubit_braze.warehouse.explain import Traces, find_in_source, ledger_kind
from airflow_provider_kubit_braze.warehouse.plan import check_source
from airflow_provider_kubit_braze.warehouse.session import Session
from airflow_provider_kubit_braze.warehouse.state import ensure_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.identifiers import IdentifierKind
    from airflow_provider_kubit_braze.warehouse.state import Tables

#: Seconds before the second and the third try to ask Braze: a person is waiting.
_WAITS: Final = (1.0, 2.0)

_FORMS: Final[Mapping[IdentifierKind, re.Pattern[str]]] = {
    "braze_id": re.compile("[0-9a-f]{24}"),
    "email": re.compile(r"[^@\s]+@[^@\s]+"),
    "phone": re.compile(r"\+?[0-9][0-9 ().-]*"),
}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found out.

    :param facts: what is known.
    :param problem: why Braze could not be asked; None when it was.
    """

    facts: Facts
    problem: str | None


def investigate(
    user: str,
    cohort: Cohort,
    *,
    settings: BrazeSettings,
    connect: Callable[[], SnowflakeConnection],
    tables: Tables,
) -> Findings:
    """Find out all there is to know about a user and a cohort; nothing is changed.

    :param user: an id, an address or a number: any of the cohort's identifiers.
    :raises StateSchemaError: when there are no state tables, and none can be made.
    :raises SourceError: when Snowflake refuses the source.
    """
    place = place_of(cohort, settings)
    identity = RunIdentity(dag_id=cohort.dag_id, run_id="why")
    with closing(Session(connect(), tag=identity.query_tag(cohort.id))) as session:
        ensure_tables(session, tables)
        check_source(session, cohort)
        rows = find_in_source(session, cohort, place, user)
        names = [user, *(row.user for row in rows if row.user is not None)]
        stays, sent = Traces(session, tables, key=(settings.workspace, cohort.id), users=names).read()
    facts = Facts(
        user=user,
        place=place,
        rows=rows,
        stays=stays,
        sent=sent,
        profiles=(),
        now=datetime.now(UTC),
        creates=cohort.braze.create_users,
    )
    try:
        return Findings(facts=replace(facts, profiles=_profiles(facts, cohort, settings)), problem=None)
    except BrazeError as error:
        return Findings(facts=facts, problem=str(error))


def _profiles(facts: Facts, cohort: Cohort, settings: BrazeSettings) -> Sequence[Profile]:
    """Ask Braze.

    :raises BrazeError: when it does not answer.
    """
    named = [(row.id_kind, row.user) for row in facts.rows if row.user is not None]
    named = named or [(stay.id_kind, stay.user) for stay in facts.stays]
    named = named or [(sent.id_kind, sent.user) for sent in facts.sent]
    named = named or [
        (ledger_kind(one), facts.user) for one in cohort.identifiers if _could_be(one.kind, facts.user)
    ]
    attribute = facts.place.name if facts.place.kind == "attribute" else None
    with BrazeClient(settings) as braze:
        lookup = Lookup(braze, per_minute=settings.lookups_per_minute, waits=_WAITS)
        found = lookup.find_all(dict.fromkeys(named), with_attributes=attribute is not None)
    return [_profile(kind, user, profile, attribute) for (kind, user), profile in found.items()]


def _could_be(kind: IdentifierKind, user: str) -> bool:
    """Whether Braze may be asked for ``user`` as this kind of identifier: it refuses what has not its form."""
    form = _FORMS.get(kind)
    return form is None or form.fullmatch(user) is not None


def _profile(kind: str, user: str, found: Mapping[str, Any] | None, attribute: str | None) -> Profile:
    every = [found, *found.get(OTHER_PROFILES, ())] if found else []
    values = [(one.get("custom_attributes") or {}).get(attribute) for one in every]
    return Profile(
        id_kind=kind,
        user=user,
        known=found is not None,
        readable=attribute is not None,
        # Any of them may be the one that is written to.
        value=True if any(value is True for value in values) else next(iter(values), None),
        profiles=len(every),
    )
