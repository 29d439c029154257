"""What is believed of Braze's answers, and written into the journal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.ranges import Range, gaps
from airflow_provider_kubit_braze.core.response import Next, Verdict
from airflow_provider_kubit_braze.exceptions import BrazeRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kubit_braze.braze.batch import Batch
    from airflow_provider_kubit_braze.core.journal import Journal

#: So many requests in a row without one accepted object, and whatever answers is not doing Braze's work.
_FRUITLESS_LIMIT: Final = 20


class Verdicts:
    """Write verdicts into the journal, once it is sure that it is Braze that speaks.

    :param journal: receives them.
    :param redact: takes keys out of Braze's words.
    :param host: for messages.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, journal: Journal, *, redact: Callable[[str], str], host: str, clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._redact = redact
        self._host = host
        self._clock = clock
        #: When something was accepted last.
        self.last_fruit = -math.inf
        #: First numbers of the requests that have failed since.
        self.failing: set[int] = set()
        self.begin()

    def begin(self) -> None:
        """Judge what comes from now on by itself."""
        self._fruitless = self._accepted = 0
        self._withheld: list[tuple[Range, dict[int, str]]] = []

    def conclude(self, batch: Batch, verdict: Verdict, *, applied: bool) -> None:
        """Write the verdict down. Whatever is raised from here on, there is no more doubt about the batch.

        :param applied: an earlier attempt may have been applied.
        :raises BrazeRequestError: when nothing at all is accepted.
        """
        if verdict.next is Next.RETRY:
            self._journal.doubt(batch.range)
            return
        words = {batch.first + index: self._redact(text) for index, text in verdict.rejected.items()}
        if verdict.unknown:
            self._settle_certain(batch, words)
            self._count_fruit(0, verdict.message)
            return
        if applied or self._accepted:
            self.let_go()
            self._journal.settle(batch.range, words)
        else:
            # Whoever refuses everything as a whole may not be doing Braze's work, and then nobody was rejected.
            self._withheld.append((batch.range, words))
        self._count_fruit(batch.size - len(words), verdict.message)

    def let_go(self) -> None:
        """Believe the refusals that came before the first acceptance."""
        for range_, words in self._withheld:
            self._journal.settle(range_, words)
        self._withheld = []

    def _settle_certain(self, batch: Batch, words: dict[int, str]) -> None:
        """Of an answer that cannot be read as a whole, keep what it says about single objects."""
        for seq, text in words.items():
            self._journal.settle(Range(seq, seq), {seq: text})
        offset = batch.first - 1
        for first, last in gaps(((seq - offset, seq - offset) for seq in words), batch.size):
            self._journal.doubt(Range(first + offset, last + offset))

    def _count_fruit(self, accepted: int, message: str) -> None:
        if accepted:
            self._accepted += accepted
            self.last_fruit = self._clock()
            self.failing.clear()
            self._fruitless = 0
            return
        self._fruitless += 1
        if self._fruitless >= _FRUITLESS_LIMIT and self._accepted == 0:
            raise BrazeRequestError(
                f"Braze at {self._host} accepted nothing of the first {self._fruitless} requests "
                f"({message}), so the import stops here."
            )
