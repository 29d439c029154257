"""The result of an import: one value that XCom, asset event, history row, log and mail all repeat."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.run import Purpose

Outcome = Literal["success", "partial", "unchanged", "dry_run", "stopped", "failed"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What one import of one cohort did.

    :param cohort_id: the cohort's id.
    :param cohort_name: the cohort's name as people know it.
    :param run_id: the Airflow run the import belongs to.
    :param outcome: ``success``; ``partial`` (some users were rejected or are unknown); ``unchanged`` (nothing
        to send); ``dry_run``; ``stopped`` (by a guard, nothing was sent); ``failed``.
    :param members: users in the cohort at the source: distinct and valid.
    :param users_imported: users now in the cohort in Braze, as far as Braze accepted.
    :param users_before: users that were in the cohort in Braze before this import.
    :param added: users Braze accepted into the cohort (planned, when ``dry_run``).
    :param removed: users Braze accepted out of the cohort (planned, when ``dry_run``).
    :param unchanged: members that were in the cohort before and stay; nothing was sent for them, unless the run was
        a ``full_resync``.
    :param held_out: members that the holdout keeps from Braze, without those found to be unknown to it.
    :param duplicates: source rows beyond the first for the same user.
    :param invalid: source rows without a usable identifier (all null, blank, or 988 bytes and more).
    :param rejected: changes that Braze refused, in words kept in ``IMPORT_REJECTED``.
    :param unknown: changes with no certain answer; they are planned again by the next import.
    :param data_points: attribute writes sent, repeated ones included (planned, when ``dry_run``). Of a process that was
        killed, what it sent after its last note is missing here and in ``requests``.
    :param requests: requests that got an answer from Braze, retries included.
    :param retries: requests sent again.
    :param throttled_seconds: seconds spent waiting for the rate limit.
    :param duration_seconds: from ``started_at`` to ``finished_at``.
    :param started_at: ISO 8601, UTC.
    :param finished_at: ISO 8601, UTC.
    :param error: one sentence for people when the outcome is ``failed`` or ``stopped``, else None.
    :param set_aside: members that Braze rejected in the last 7 days; they are not sent again until then, until the
        identifiers in their row change, or a ``full_resync``.
    :param unmatched: entrants that Braze does not know, those whom the holdout would keep from it included; they stand
        in ``IMPORT_UNMATCHED``, and the next import tries them again.
    :param purpose: ``import``, ``undo`` or ``retire``.
    :param rejected_reasons: Braze's words for what it rejected, the most frequent five, with how often it said them;
        user ids are taken out of the words. None when nothing was rejected.
    :param verification: what reading a sample back from Braze found, see ``core.verification``; None without one.
    """

    cohort_id: str
    cohort_name: str
    run_id: str
    outcome: Outcome
    members: int = 0
    users_imported: int = 0
    added: int = 0
    removed: int = 0
    unchanged: int = 0
    held_out: int = 0
    duplicates: int = 0
    invalid: int = 0
    rejected: int = 0
    unknown: int = 0
    data_points: int = 0
    requests: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0
    duration_seconds: float = 0.0
    started_at: str = ""
    finished_at: str = ""
    error: str | None = None
    set_aside: int = 0
    unmatched: int = 0
    users_before: int = 0
    purpose: Purpose = "import"
    rejected_reasons: dict[str, int] | None = None
    verification: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, in the order of the fields, as XCom and the asset event carry them."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the result in one sentence, for the task log."""
        figures = (
            f"{self.added:,} added, {self.removed:,} removed, {self.unchanged:,} left alone, "
            f"{self.users_imported:,} users now in Braze, {self.data_points:,} data points"
        )
        also = "".join(
            f", {value:,} {name}"
            for name, value in (
                ("held out", self.held_out),
                ("rejected", self.rejected),
                ("without a certain answer", self.unknown),
                ("set aside after a rejection", self.set_aside),
                ("unknown to Braze", self.unmatched),
            )
            if value
        )
        why = f" {self.error}" if self.error else ""
        what = "" if self.purpose == "import" else f" ({self.purpose})"
        return f"{self.cohort_name}: {self.outcome}{what}; {figures}{also}.{why}"
