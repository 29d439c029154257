"""The imports that a campaign follows, and whether any of them brought anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Followed:
    """An import that a campaign's task came after: its asset event started the run, or its task stands before.

    :param outcome: as in the import's result.
    :param purpose: as in the import's result.
    :param run_id: the DAG run that imported.
    :param dag_id: its DAG; empty: the campaign's own.
    """

    outcome: str
    purpose: str
    run_id: str
    dag_id: str = ""

    @classmethod
    def read(cls, result: object, *, cohort_id: str, dag_id: str = "") -> Self | None:
        """Read the result of an import; None for anything else, and for an import of another cohort.

        :param result: what an asset event or an XCom carries.
        :param cohort_id: the cohort that the campaign goes to.
        :param dag_id: where it comes from.
        """
        if not isinstance(result, Mapping) or "outcome" not in result or result.get("cohort_id") != cohort_id:
            return None
        return cls(
            outcome=str(result["outcome"]),
            purpose=str(result.get("purpose", "import")),
            run_id=str(result.get("run_id", "")),
            dag_id=dag_id,
        )

    @property
    def has_imported(self) -> bool:
        """Whether it was to bring the cohort to Braze: no dry run, and nothing that takes users out again."""
        return self.outcome != "dry_run" and self.purpose == "import"

    @property
    def occasion(self) -> str:
        """What a message follows at most once, however often the same import is repeated."""
        return f"after {self.dag_id}/{self.run_id}"

    @property
    def _what(self) -> str:
        if self.outcome == "dry_run":
            return "was a dry run"
        return (
            "took users out of the cohort (undo)"
            if self.purpose == "undo"
            else "took the cohort out of Braze"
        )


def nothing_to_follow(imports: Sequence[Followed]) -> str | None:
    """Say why there is nothing to send after these imports; None when there is.

    :param imports: of the cohort, the latest first; without any, nothing speaks against sending.
    """
    # A dry run has changed nothing: what came before it still holds.
    real = [one for one in imports if one.outcome != "dry_run"]
    if not imports or (real and real[0].has_imported):
        return None
    last = (real or imports)[0]
    where = f" (run {last.run_id} of DAG {last.dag_id})" if last.dag_id else ""
    how = "start this DAG by hand" if last.dag_id else "start a run that imports"
    return f"The import before this{where} {last._what}, so nothing was sent. To send all the same, {how}."
