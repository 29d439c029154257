"""What a plan is: which changes there are, and how many of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.run import Purpose

Action = Literal["leave", "enter", "refresh", "hold", "drop"]

#: Sent to Braze: out of the cohort, into it, and once more into it for somebody who is in already
#: (``full_resync``, or a user whose last removal had no certain answer).
SENT_ACTIONS: Final[tuple[Action, ...]] = ("leave", "enter", "refresh")

#: Kept in the ledger only: a member starts, or stops, being held out.
QUIET_ACTIONS: Final[tuple[Action, ...]] = ("hold", "drop")

#: Days in which a user that Braze rejected is not sent again.
REST_DAYS: Final = 7


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The frozen difference between the cohort at the source and what Braze holds.

    Sequence numbers start at 1. Those up to ``to_send`` go to Braze, leavers first, so that an import that
    stops half-way has not left anybody in who should be out; the rest concern the ledger only.

    :param import_id: key of the plan in ``IMPORT_CHANGE``.
    :param members: distinct valid users at the source, held-out ones included.
    :param in_braze: users in the cohort in Braze before this import.
    :param in_doubt: users besides those who may be in the cohort in Braze: their last change has no certain answer.
    :param enter: members that are not in Braze yet.
    :param leave: users in Braze, or possibly in Braze, that are no members any more.
    :param refresh: members in Braze that are sent once more.
    :param quiet: changes of the ledger alone (holdout).
    :param held_out: members that the holdout keeps from Braze, without the unmatched.
    :param duplicates: source rows beyond the first for the same user.
    :param invalid: source rows without a usable identifier.
    :param unmatched: entrants taken out of the plan, to be sent or held out, because Braze does not know them.
    :param set_aside: members that are not sent because Braze rejected them lately.
    :param elsewhere: of the leavers, those at another place in Braze than the cohort's present one.
    :param purpose: what the plan is for.
    """

    import_id: str
    members: int
    in_braze: int
    enter: int
    leave: int
    refresh: int = 0
    quiet: int = 0
    held_out: int = 0
    duplicates: int = 0
    invalid: int = 0
    in_doubt: int = 0
    set_aside: int = 0
    unmatched: int = 0
    elsewhere: int = 0
    purpose: Purpose = "import"

    @property
    def to_send(self) -> int:
        """Changes that go to Braze, each of them one object and one data point."""
        return self.leave + self.enter + self.refresh

    @property
    def size(self) -> int:
        """All changes, those of the ledger alone included."""
        return self.to_send + self.quiet

    @property
    def unchanged(self) -> int:
        """Members that were in Braze before and stay."""
        return self.members - self.held_out - self.enter - self.set_aside - self.unmatched

    @property
    def data_points(self) -> int:
        """Attribute writes the plan will cost when every request is sent once."""
        return self.to_send
