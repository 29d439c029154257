"""Every exception of this package: one class for each decision a caller has to make.

Messages are sentences for people and never carry a key or a user id; what a program needs is on the exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class KubitBrazeError(Exception):
    """Base of all exceptions of this package.

    ``retry_helps`` says whether a task that failed with it may end well by being tried again, without a person doing
    something first.
    """

    retry_helps: ClassVar[bool] = False


class CohortConfigError(KubitBrazeError, ValueError):
    """A cohort is defined wrongly: nothing can be done until its author changes the definition.

    :param problem: what is wrong, with the value, as a phrase.
    :param fix: what to write instead, as a phrase.
    :param file: the cohort file, with the line after a colon when it is known; None for a cohort written in Python.
    :param cohort: the cohort's id, or None when it could not be read.
    :param field: dotted name of the field, such as ``schedule.at``, or None when it is about the whole.
    """

    def __init__(
        self,
        problem: str,
        *,
        fix: str,
        file: str | None = None,
        cohort: str | None = None,
        field: str | None = None,
    ) -> None:
        where = ", ".join(
            part
            for part in (
                file,
                f"cohort {cohort!r}" if cohort else None,
                f"field {field!r}" if field else None,
            )
            if part
        )
        super().__init__(f"{where}: {problem}; {fix}." if where else f"{problem}; {fix}.")
        self.problem = problem
        self.fix = fix
        self.file = file
        self.cohort = cohort
        self.field = field

    @property
    def file_and_line(self) -> tuple[str | None, int | None]:
        """The cohort file and the line in it, as far as they are known."""
        path, colon, line = (self.file or "").rpartition(":")
        return (path, int(line)) if colon and line.isdecimal() else (self.file, None)


class CohortFilesError(CohortConfigError):
    """Several cohorts are defined wrongly; ``errors`` holds each one's own error."""

    def __init__(self, errors: Sequence[CohortConfigError]) -> None:
        Exception.__init__(self, "\n".join(str(error) for error in errors))
        self.errors = tuple(errors)
        first = errors[0]
        self.problem, self.fix = first.problem, first.fix
        self.file, self.cohort, self.field = first.file, first.cohort, first.field


class BrazeSettingsError(KubitBrazeError, ValueError):
    """The Airflow connection to Braze is filled in wrongly."""


class BrazeError(KubitBrazeError):
    """Braze, or the way to it, said no.

    :param message: one sentence, already free of keys.
    :param status: the HTTP status, or None when no answer arrived.
    :param unsent: whether the request certainly never got to Braze: no connection came about.
    """

    def __init__(self, message: str, *, status: int | None = None, unsent: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.unsent = unsent


class BrazeAuthError(BrazeError):
    """401 or 403: the key is wrong, belongs to another instance, or lacks a permission. Retrying cannot help."""


class BrazeEndpointError(BrazeError):
    """The host is not a Braze REST endpoint: 404, an unknown name, or nobody listens. Retrying rarely helps."""


class BrazeUnavailableError(BrazeError):
    """Braze kept answering 5xx or 429, or did not answer at all. A later try continues where this one stopped."""

    retry_helps = True


class BrazeRequestError(BrazeError):
    """Braze refused a request as malformed: a defect on our side, or a limit set wrongly in the connection."""


class SourceError(KubitBrazeError):
    """The cohort's source in Snowflake cannot be read: a missing table or column, or SQL that Snowflake refuses."""


class StatementBrokenOffError(KubitBrazeError):
    """Snowflake did not do what it was asked, and no grant is missing: as a rule a time-out, no warehouse that runs, or
    a failure of its own. A later try may end well.
    """

    retry_helps = True


class StateSchemaError(KubitBrazeError):
    """The state tables cannot be created or written; the message holds the exact grants to run."""


class PlanDamagedError(KubitBrazeError):
    """The frozen plan has holes: somebody changed ``IMPORT_CHANGE`` while it was being delivered."""

    retry_helps = True


class GuardStoppedError(KubitBrazeError):
    """A guard stopped the import before anything was sent. A person decides."""


class TooManyRejectedError(KubitBrazeError):
    """Braze accepted fewer changes than ``guards.max_rejected`` demands; what it accepted is recorded."""


class CohortBusyError(KubitBrazeError):
    """Another import of the same cohort is running. A later try finds it ended."""

    retry_helps = True


class ImportStoppedError(KubitBrazeError):
    """The import ended before its shards began, for the reason given."""


class ShardsUnfinishedError(KubitBrazeError):
    """Not all shards of an import sent their part; what Braze accepted is recorded, and the shards can be run again."""


class ImportEndedError(KubitBrazeError):
    """A shard's import has ended, or was taken over by another one: there is nothing for it to send any more."""


class LeaseLostError(KubitBrazeError):
    """Somebody else imports this cohort by now: whatever this process still wants to write down must not be."""

    retry_helps = True


class ImportInterruptedError(KubitBrazeError):
    """Airflow asked the task to end. What Braze accepted is recorded; a retry goes on from there."""

    retry_helps = True


class WorkspaceChangedError(KubitBrazeError):
    """The cohort still has users in another Braze workspace. A person decides what becomes of them."""


class NothingToUndoError(KubitBrazeError):
    """The cohort has no import that could be reversed."""


class ImpactFiguresError(KubitBrazeError, ValueError):
    """Figures that an impact is to be judged from cannot be true, such as more converters than users."""


class StatisticsMissingError(KubitBrazeError):
    """The packages that an impact is judged with are not installed."""


class SendUncertainError(KubitBrazeError):
    """A campaign may have been sent, and nobody here can say. A person has to look, and decide."""


class NeverImportedError(KubitBrazeError):
    """Something is about a cohort that was never brought to this place in Braze. A person has to correct the names."""
