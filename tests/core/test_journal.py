from __future__ import annotations

import threading

from airflow_provider_kubit_braze.core.journal import Entries, Journal
from airflow_provider_kubit_braze.core.ranges import Range, count


def test_a_settled_range_is_accepted_but_for_the_rejected() -> None:
    journal = Journal()
    journal.settle(Range(1, 10), {3: "no", 7: "never"})

    entries = journal.take()

    assert entries.settled == (Range(1, 10),)
    assert entries.rejected == {3: "no", 7: "never"}
    assert (journal.counters.accepted, journal.counters.rejected, journal.counters.unknown) == (8, 2, 0)


def test_entries_are_taken_once_and_the_counters_stay() -> None:
    journal = Journal()
    journal.settle(Range(1, 5), {2: "no"})
    journal.take()

    entries = journal.take()

    assert not entries
    assert entries.rejected == {}
    assert (journal.counters.accepted, journal.counters.rejected) == (4, 1)


def test_ranges_that_came_in_any_order_are_joined() -> None:
    journal = Journal()
    for first in (21, 1, 11):
        journal.settle(Range(first, first + 9), {})

    assert journal.take().settled == (Range(1, 30),)


def test_what_is_put_back_is_taken_again_together_with_what_came_meanwhile() -> None:
    journal = Journal()
    journal.settle(Range(1, 5), {2: "old"})
    failed = journal.take()
    journal.settle(Range(6, 9), {8: "new"})
    journal.put_back(failed)

    entries = journal.take()

    assert entries.settled == (Range(1, 9),)
    assert entries.rejected == {2: "old", 8: "new"}
    assert (journal.counters.accepted, journal.counters.rejected) == (7, 2)


def test_doubts_stay_and_are_never_settled() -> None:
    journal = Journal()
    journal.doubt(Range(8, 9))
    journal.doubt(Range(1, 2))
    journal.doubt(Range(3, 3))

    assert not journal.take()
    assert journal.unknown == [Range(1, 3), Range(8, 9)]
    assert journal.unknown == [Range(1, 3), Range(8, 9)]
    assert (journal.counters.accepted, journal.counters.unknown) == (0, 5)


def test_nothing_is_lost_between_the_loop_and_the_thread_that_writes() -> None:
    journal, done = Journal(), threading.Event()
    taken: list[Entries] = []

    def write_down() -> None:
        while True:
            last = done.is_set()
            entries = journal.take()
            if len(taken) % 3 == 1:
                journal.put_back(entries)
                entries = journal.take()
            taken.append(entries)
            if last:
                return

    writer = threading.Thread(target=write_down)
    writer.start()
    for seq in range(1, 5001):
        journal.settle(Range(seq, seq), {seq: "no"} if seq % 10 == 0 else {})
    done.set()
    writer.join()

    assert sum(count(entries.settled) for entries in taken) == 5000
    assert sum(len(entries.rejected) for entries in taken) == 500
    assert journal.counters.accepted == 4500
