"""Look entrants up before they are sent or held out, so that nobody counts as a member whom Braze does not know.

Braze answers 201 for a user it does not know and drops them when it may not create them. Such a user is kept in
``IMPORT_UNMATCHED``, is no stay, and is tried again by every later import, also after having signed up. So is one whom
the holdout would keep from Braze: a control group with users who can do nothing would make any campaign look good.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.braze.client import BrazeClient
from airflow_provider_kubit_braze.braze.lookup import Lookup
from airflow_provider_kubit_braze.core.ranges import cut
from airflow_provider_kubit_braze.core.verification import UNKNOWN_REASON, wilson_interval
from airflow_provider_kubit_braze.warehouse.matches import Entrant, Matches, ranges_of_entrants
from airflow_provider_kubit_braze.warehouse.share import ProfileShare

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
    from airflow_provider_kubit_braze.core.cohort import Cohort
    from airflow_provider_kubit_braze.core.plan import Plan
    from airflow_provider_kubit_braze.warehouse.ledger import Ledger
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

log = logging.getLogger(__name__)

#: Entrants looked up with ``match: sample``; enough for an interval of at most 9 points.
SAMPLE: Final = 500

#: Entrants looked up between two writings: what a crash makes the retry look up again.
_PIECE: Final = 1000


def match_entrants(
    plan: Plan,
    *,
    cohort: Cohort,
    settings: BrazeSettings,
    session: Session,
    tables: Tables,
    ledger: Ledger,
    run_id: str,
    permit: Callable[[], None],
) -> Plan:
    """Look entrants up as ``match`` says, and return the plan without those Braze does not know.

    :param plan: a plan of which nothing has been sent.
    :param permit: raises when the import has to end.
    :raises BrazeError: when they cannot be looked up.
    """
    matches = Matches(session, tables, ledger, key=(settings.workspace, cohort.id), plan=plan)
    everybody, kinds = cohort.match == "all", None
    if cohort.braze.share:
        # A join costs no request; the API answers for what the share does not have.
        share = ProfileShare(session, share=cohort.braze.share, app_group_id=str(cohort.braze.app_group_id))
        kinds = matches.note_by(share, run_id=run_id)
    if kinds is None or kinds:
        with BrazeClient(settings) as braze:
            lookup = Lookup(braze, per_minute=settings.lookups_per_minute, stop=permit)
            if everybody:
                _match_everybody(matches, lookup, kinds, run_id=run_id)
            elif not matches.looked_up():
                _match_sample(matches, lookup, kinds, plan=plan, run_id=run_id)
    left = matches.take_out()
    if left.unmatched:
        log.warning(
            "Braze does not know %s of the users who enter. They are neither sent nor held out, and tried again by "
            "the next import (table %s).",
            f"{left.unmatched:,}",
            tables.unmatched,
        )
    return left


def _match_everybody(matches: Matches, lookup: Lookup, kinds: Container[str] | None, *, run_id: str) -> None:
    """Look up all entrants, or only those named by ``kinds`` of identifiers."""
    for piece in cut(matches.missing(), _PIECE):
        some = [one for one in matches.read(piece) if kinds is None or one.id_kind in kinds]
        matches.note([piece], _unknown(lookup, some), run_id=run_id)


def _match_sample(
    matches: Matches, lookup: Lookup, kinds: Container[str] | None, *, plan: Plan, run_id: str
) -> None:
    """Look up a sample of the entrants; of those, only the ones named by ``kinds`` of identifiers if there are any."""
    sample = [one for one in matches.sample(SAMPLE) if kinds is None or one.id_kind in kinds]
    unknown, entrants = _unknown(lookup, sample), matches.count()
    # Looked up once and for all: a retry has to find the same plan.
    matches.note(ranges_of_entrants(plan), unknown, run_id=run_id)
    if not sample:
        return
    low, high = wilson_interval(len(sample) - len(unknown), len(sample), entrants)
    log.info(
        "Of %s users who enter, %s were looked up: Braze knows %.1f %% of them (95 %% interval of all: %.1f to %.1f "
        "%%).",
        f"{entrants:,}",
        f"{len(sample):,}",
        100 * (1 - len(unknown) / len(sample)),
        100 * low,
        100 * high,
    )


def _unknown(lookup: Lookup, entrants: Sequence[Entrant]) -> dict[int, str]:
    """Return the sequence numbers of those Braze does not know, each with the reason."""
    profiles = lookup.find_all(((one.id_kind, one.user) for one in entrants), with_attributes=False)
    return {one.seq: UNKNOWN_REASON for one in entrants if profiles[one.id_kind, one.user] is None}
