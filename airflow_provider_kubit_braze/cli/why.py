"""``kubit-braze why``: one screen that says why a user is in a cohort in Braze, or is not.

The id that was typed may be shown to whoever typed it. Other ids that belong to it are masked, and no id is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.cli.context import Subject, WrongUseError, run
from airflow_provider_kubit_braze.cli.screen import print_facts, print_json, print_sentence, screen
from airflow_provider_kubit_braze.core.explanation import explain, minute, show_value
from airflow_provider_kubit_braze.core.masking import mask, plain
from airflow_provider_kubit_braze.explaining import investigate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from airflow_provider_kubit_braze.core.explanation import Facts, Profile, Sent, SourceRow, Stay, Verdict
    from airflow_provider_kubit_braze.explaining import Findings


def why(arguments: argparse.Namespace) -> int:
    """Explain one user.

    :param arguments: ``user``, ``cohort``, ``file``, ``snowflake_conn_id``, ``braze_conn_id`` and ``json``.
    :return: the exit code: 0 when the user is in Braze what the source and the holdout say, else 1.
    """
    return run(lambda: _Screen(arguments).show())


class _Screen:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.user: str = arguments.user
        self.as_json: bool = arguments.json
        self.subject = Subject.of(arguments)

    def show(self) -> int:
        if not self.user.strip():
            raise WrongUseError("The user's id is blank; give the id, the address or the number of one user.")
        subject = self.subject
        found = investigate(
            self.user,
            subject.cohort,
            settings=subject.settings,
            connect=subject.connect,
            tables=subject.tables,
        )
        verdict = explain(found.facts)
        if self.as_json:
            print_json(self._as_dict(found, verdict))
        else:
            self._print(found, verdict)
        return 0 if verdict.as_it_should_be else 1

    def _name(self, id_kind: str, user: str | None) -> str:
        """Return an identifier as it may be shown."""
        shown = "unusable" if user is None else plain(user) if user == self.user else mask(user)
        return f"{id_kind} {shown}"

    # -- for a program ------------------------------------------------------------------------------------------

    def _as_dict(self, found: Findings, verdict: Verdict) -> dict[str, Any]:
        known = found.facts
        return {
            "user": self.user,
            "cohort_id": self.subject.cohort.id,
            "cohort_name": self.subject.cohort.name,
            "verdict": verdict.code,
            "as_it_should_be": verdict.as_it_should_be,
            "sentence": verdict.sentence,
            "source": [
                {
                    "named": self._name(one.id_kind, one.user),
                    "found_by": one.found_by,
                    "held_out": one.held_out,
                }
                for one in known.rows
            ],
            "stays": [
                {
                    "named": self._name(one.id_kind, one.user),
                    "place": str(one.place),
                    "entered_at": one.entered_at.isoformat(),
                    "entered_run": one.entered_run,
                    "left_at": one.left_at and one.left_at.isoformat(),
                    "left_run": one.left_run,
                    "held_out": one.held_out,
                }
                for one in known.stays
            ],
            "sent": [
                {
                    "named": self._name(one.id_kind, one.user),
                    "place": str(one.place),
                    "at": one.at.isoformat(),
                    "run_id": one.run_id,
                    "action": one.action,
                    "answer": one.answer,
                    "reason": one.reason,
                }
                for one in known.sent
            ],
            "braze": [
                {
                    "named": self._name(one.id_kind, one.user),
                    "known": one.known,
                    "readable": one.readable,
                    "value": one.value,
                    "profiles": one.profiles,
                }
                for one in known.profiles
            ],
            "braze_problem": found.problem,
            "workspace": self.subject.settings.workspace,
            "place": str(known.place),
        }

    # -- for people ---------------------------------------------------------------------------------------------

    def _print(self, found: Findings, verdict: Verdict) -> None:
        known, cohort, out = found.facts, self.subject.cohort, screen()
        out.print(f"{plain(self.user)} and {cohort.name} ({cohort.id})", style="bold")
        print_facts(
            out,
            [
                ("source", _lines(map(self._row, known.rows)) or f"no row with this {self._kinds()}"),
                ("ledger", _lines(map(self._stay, known.stays)) or "never in the cohort"),
                ("last sent", _lines(map(self._change, known.sent[-3:])) or "nothing"),
                ("Braze now", self._braze(known, found.problem)),
            ],
        )
        style = "green" if verdict.as_it_should_be else "yellow"
        print_sentence(out, verdict.sentence, style=style)

    def _kinds(self) -> str:
        return " or ".join(one.kind for one in self.subject.cohort.identifiers)

    def _row(self, row: SourceRow) -> str:
        by = "" if row.id_kind in row.found_by else f" (found by {', '.join(row.found_by)})"
        return f"a row for {self._name(row.id_kind, row.user)}{by}{', held out' if row.held_out else ''}"

    def _stay(self, stay: Stay) -> str:
        until = f"until {minute(stay.left_at)} ({stay.left_run})" if stay.left_at else "still in"
        what = "held out" if stay.held_out else f"in, {stay.place.words}"
        named = self._name(stay.id_kind, stay.user)
        return f"{named}: {what}, from {minute(stay.entered_at)} ({stay.entered_run}), {until}"

    def _change(self, one: Sent) -> str:
        reason = f": {one.reason}" if one.reason else ""
        return f"{minute(one.at)}  {one.action or 'change'}  {one.answer}{reason}  (run {one.run_id})"

    def _braze(self, known: Facts, problem: str | None) -> str:
        if problem:
            return f"could not be asked: {problem}"
        return _lines(self._profile(known, one) for one in known.profiles)

    def _profile(self, known: Facts, one: Profile) -> str:
        named = self._name(one.id_kind, one.user)
        if not one.known:
            return f"{named}: no such user"
        if not one.readable:
            return f"{named}: known; who is in a partner cohort cannot be read back"
        shared = f", in {one.profiles} profiles that share it" if one.profiles > 1 else ""
        return f"{named}: {known.place.words} is {plain(show_value(one.value))}{shared}"


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(texts)
