"""Why a user is in a cohort in Braze, or is not: from what is known about them to one sentence.

``kubit-braze why`` gathers the facts from the source, the ledger and Braze.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_kubit_braze.core.plan import REST_DAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.core.place import Place
    from airflow_provider_kubit_braze.core.plan import Action

#: What became of a change: Braze took it; refused it; its answer got lost; the user was looked up first and Braze does
#: not know them; the import has not ended and nothing is known yet.
Answer = Literal["accepted", "rejected", "unknown", "unmatched", "pending"]

#: How it is with a user: see ``explain``.
Code = Literal[
    "in", "moving", "held_out", "set_aside", "rejected", "unknown", "unmatched", "under_way", "waiting", "invalid",
    "leaving", "left", "never",
]  # fmt: skip

#: The ledger cannot say what Braze shows.
_UNSURE: Final = ("unknown", "under_way")

#: What stands as the run that ended a stay when a workspace was given up (``retire --forget``).
FORGOTTEN: Final = "forgotten"


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """Rows of the source that name one user.

    :param id_kind: the first identifier that is not null, by which the user is named to Braze.
    :param user: its value; None when Braze could do nothing with it.
    :param found_by: the kinds of identifier under which the row holds what was asked for.
    :param held_out: whether the holdout keeps the user from Braze.
    :param row_hash: what tells whether the row's identifiers have changed.
    """

    id_kind: str
    user: str | None
    found_by: tuple[str, ...]
    held_out: bool = False
    row_hash: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stay:
    """One row of ``COHORT_MEMBERSHIP``; all times are UTC."""

    place: Place
    id_kind: str
    user: str
    entered_at: datetime
    entered_run: str
    left_at: datetime | None = None
    left_run: str | None = None
    held_out: bool = False


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One change that an import sent, or was to send.

    :param at: when it was written down, UTC.
    :param run_id: the run it belonged to.
    :param action: what was to happen; None when that is not known any more.
    :param answer: what became of it.
    :param reason: Braze's words, or why there is no answer; None when it was accepted.
    :param row_hash: the row's identifiers when it was rejected.
    :param cleared: for a rejection: whether Braze has taken the user since.
    :param ended: whether the import has ended, so that what Braze accepted is a stay.
    """

    at: datetime
    run_id: str
    action: Action | None
    place: Place
    id_kind: str
    user: str
    answer: Answer
    reason: str | None = None
    row_hash: str | None = None
    cleared: bool = False
    ended: bool = True


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What Braze shows of a user now.

    :param known: whether there is a profile.
    :param readable: whether the membership can be read back; that of a partner cohort cannot.
    :param value: the attribute's value; None when it is not set.
    :param profiles: profiles that share the address or number; any may be the one that is written to.
    """

    id_kind: str
    user: str
    known: bool
    readable: bool = True
    value: Any = None
    profiles: int = 1

    @property
    def inside(self) -> bool:
        """Whether Braze takes the user for a member: only the boolean true counts, as in its filters."""
        return self.known and self.value is True


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is known about one user and one cohort.

    :param user: what was asked for.
    :param place: where the cohort is kept in Braze now.
    :param rows: what the source says.
    :param stays: what the ledger says, oldest first.
    :param sent: what was sent, oldest first.
    :param profiles: what Braze shows; empty when it could not be asked.
    :param creates: whether Braze creates users that it does not know.
    :param now: this moment, UTC.
    """

    user: str
    place: Place
    rows: Sequence[SourceRow]
    stays: Sequence[Stay]
    sent: Sequence[Sent]
    profiles: Sequence[Profile]
    now: datetime
    creates: bool = False

    @property
    def wanted(self) -> bool:
        """Whether Braze should have the user in the cohort."""
        return any(row.user is not None and not row.held_out for row in self.rows)

    @property
    def open_stays(self) -> list[Stay]:
        """The stays that have not ended, in Braze."""
        return [stay for stay in self.stays if stay.left_at is None and not stay.held_out]

    @property
    def here(self) -> list[Stay]:
        """Those of the open stays that are at the cohort's present place."""
        return [stay for stay in self.open_stays if stay.place == self.place]

    @property
    def last(self) -> Sent | None:
        """The newest change; of a member, the newest at the cohort's present place under a name of theirs."""
        named = {(row.id_kind, row.user) for row in self.rows if row.user is not None}
        mine = [one for one in self.sent if one.place == self.place and (one.id_kind, one.user) in named]
        return max(mine if named else self.sent, key=lambda one: one.at, default=None)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer.

    :param code: how it is with the user, in one word.
    :param sentence: the same for people.
    :param as_it_should_be: whether the user is in Braze what the source and the holdout say.
    """

    code: Code
    sentence: str
    as_it_should_be: bool


def explain(facts: Facts) -> Verdict:
    """Say why a user is in the cohort in Braze, or is not.

    Of members: ``in``; ``moving`` (still marked at the cohort's former place); ``held_out``; ``set_aside`` (rejected
    lately, and not sent again yet); ``rejected`` (the next import tries again); ``unknown`` (no certain answer);
    ``unmatched`` (Braze does not know them); ``under_way`` (in the plan of an import that has not ended); ``waiting``
    (for the next import); ``invalid`` (nothing in the row names a user). Of others: ``leaving``, ``unknown``, ``left``,
    ``never``.
    """
    code, said = _in_flight(facts) or (_of_member(facts) if facts.rows else _of_stranger(facts))
    readable = [one for one in facts.profiles if one.readable]
    inside = any(one.inside for one in readable) if readable else bool(facts.here)
    right = (
        inside == facts.wanted
        and code != "invalid"
        and len(facts.here) == len(facts.open_stays)
        and (bool(readable) or code not in _UNSURE)
    )
    live = _live(facts, readable, None if code in _UNSURE else bool(facts.here)) if facts.profiles else ""
    return Verdict(code=code, sentence=f"{said.rstrip('.')}.{live}", as_it_should_be=right)


def _in_flight(facts: Facts) -> tuple[Code, str] | None:
    """What Braze has accepted of an import that has not ended is no stay yet."""
    last = facts.last
    if (
        last is None
        or last.ended
        or last.answer != "accepted"
        or (last.action == "leave") != bool(facts.here)
    ):
        return None
    where = "In the source" if facts.wanted else "Not in the source"
    what = "their removal was accepted" if last.action == "leave" else "they were accepted"
    return (
        "under_way",
        f"{where}, and {what} by Braze in run {last.run_id} of {minute(last.at)}, which has not ended",
    )


def _of_member(facts: Facts) -> tuple[Code, str]:
    if not any(row.user is not None for row in facts.rows):
        return "invalid", (
            "The source has a row, but its first identifier that is not null is blank, or of 988 bytes and more: "
            "Braze could do nothing with it, and imports count it as invalid"
        )
    if not facts.wanted:
        return _of_held_out(facts)
    if facts.here:
        stay = facts.here[-1]
        said = f"In the source and in the cohort since {minute(stay.entered_at)}: run {stay.entered_run} sent them, "
        return "in", said + f"Braze accepted{_since(facts, stay)}"
    if facts.open_stays:
        where = facts.open_stays[-1].place.words
        return "moving", (
            f"In the source, and marked where the cohort was kept before ({where}); the next import moves them to "
            f"{facts.place.words}"
        )
    return _of_missing_member(facts)


def _of_held_out(facts: Facts) -> tuple[Code, str]:
    if facts.open_stays:
        return "held_out", "A member whom the holdout keeps from Braze; the next import takes them out"
    last = facts.last
    # They may have been held out since: then Braze knew them, or nobody looked any more.
    if (
        last is not None
        and last.answer == "unmatched"
        and not any(stay.left_at is None or stay.entered_at > last.at for stay in facts.stays)
    ):
        return "unmatched", (
            f"A member whom the holdout would keep from Braze, but Braze did not know them when run {last.run_id} of "
            f"{minute(last.at)} looked, so they do not count as held out; every import tries them again"
        )
    return "held_out", "A member whom the holdout keeps from Braze, on purpose"


def _of_missing_member(facts: Facts) -> tuple[Code, str]:
    last = facts.last
    if last is not None and last.action in ("enter", "refresh"):
        when = f"run {last.run_id} of {minute(last.at)}"
        match last.answer:
            case "rejected":
                return _of_rejected(facts, last, when)
            case "unmatched":
                return "unmatched", (
                    f"In the source, but Braze did not know them when {when} looked; every import tries them again"
                )
            case "unknown":
                return "unknown", (
                    f"In the source and sent by {when}, but no certain answer came back; the next import sends them "
                    "again"
                )
            case "pending":
                return "under_way", f"In the source and in the plan of {when}, which has not ended"
    if last is not None and last.answer in ("unknown", "pending"):
        return "unknown", (
            f"In the source again; an earlier removal, by run {last.run_id} of {minute(last.at)}, has no certain "
            "answer, and the next import sends them"
        )
    before = f"; they were in it until {minute(left)}" if (left := _left_at(facts)) else ""
    return "waiting", f"In the source, but no import has sent them yet: the next one adds them{before}"


def _of_rejected(facts: Facts, last: Sent, when: str) -> tuple[Code, str]:
    said = f"In the source, but Braze rejected them in {when}: {last.reason}"
    until = last.at + timedelta(days=REST_DAYS)
    same = any(row.user == last.user and (row.row_hash or "") == (last.row_hash or "") for row in facts.rows)
    if same and not last.cleared and facts.now < until:
        return "set_aside", (
            f"{said}; set aside until {minute(until)}, unless an identifier in their row changes or a full_resync "
            "sends everybody"
        )
    return "rejected", f"{said}; the next import sends them again"


def _of_stranger(facts: Facts) -> tuple[Code, str]:
    last = facts.last
    if facts.open_stays:
        said = (
            f"Not in the source any more, but in the cohort since {minute(facts.open_stays[-1].entered_at)}"
        )
        if last is not None and last.action == "leave" and last.answer == "rejected":
            said += f"; Braze refused their removal in run {last.run_id} of {minute(last.at)}: {last.reason}"
        return "leaving", f"{said}; the next import takes them out, unless a guard stops it"
    if last is not None and last.answer in ("unknown", "pending"):
        return "unknown", (
            f"Not in the source; what run {last.run_id} of {minute(last.at)} sent of them has no certain answer, and "
            "the next import takes them out to be sure"
        )
    ended = [one for one in facts.stays if one.left_at]
    left = max(ended, key=lambda one: one.left_at or facts.now, default=None)
    if left is not None and left.left_at is not None and not left.held_out:
        if left.left_run == FORGOTTEN:
            return "left", (
                f"Not in the source; the ledger let them go on {minute(left.left_at)}, when the workspace was given "
                "up, and Braze was told nothing"
            )
        return "left", (
            f"Not in the source any more, and out of the cohort since {minute(left.left_at)}: run {left.left_run} sent "
            "it, Braze accepted"
        )
    if last is not None:
        return (
            "never",
            f"Not in the source; never in the cohort in Braze, and last {last.answer} in run {last.run_id}",
        )
    if facts.stays:
        return "never", "Not in the source any more; the holdout kept them from Braze while they were"
    return "never", "Not in the source, and no import ever had them"


def _since(facts: Facts, stay: Stay) -> str:
    """Say what became of somebody who is in, when something was sent of them since."""
    last = facts.last
    if last is None or last.at <= stay.entered_at or last.answer == "accepted":
        return ""
    if last.answer == "rejected":
        what = (
            "Braze refused their removal in" if last.action == "leave" else "they were rejected once more in"
        )
        return f" then; {what} run {last.run_id}: {last.reason}"
    return f" then; what run {last.run_id} of {minute(last.at)} sent since has no certain answer"


def _left_at(facts: Facts) -> datetime | None:
    return max((one.left_at for one in facts.stays if one.left_at and not one.held_out), default=None)


def _live(facts: Facts, readable: Sequence[Profile], expected: bool | None) -> str:
    """Say what Braze shows now, and what it means where the ledger has something else.

    :param expected: whether it should show a member, as far as the ledger knows; None: it may show either.
    """
    if not any(one.known for one in facts.profiles):
        if facts.wanted and not facts.creates:
            return " Braze does not know this user now, and drops what is sent of them."
        return " Braze does not know this user now."
    if not readable:
        return " Braze knows the user; who is in a partner cohort cannot be read back."
    known = [one for one in readable if one.known]
    shown = next((one for one in known if one.inside), known[0])
    says = (
        f" Braze says {show_value(shown.value)} now" if shown.value is not None else " Braze has no value now"
    )
    if expected is None or shown.inside == expected:
        return f"{says}."
    if expected:
        return f"{says}: it may be late by minutes, or something else writes the attribute."
    return f"{says}: something else writes the attribute, or Braze is late by minutes."


def show_value(value: Any) -> str:
    """Return an attribute's value as people write it."""
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def minute(moment: datetime) -> str:
    """Return a moment, which is in UTC, to the minute."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
