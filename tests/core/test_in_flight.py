from __future__ import annotations

import pytest

from airflow_provider_kubit_braze.core.in_flight import InFlight


class Rounds:
    """Requests that go out together a second after each other, and are all answered before the next second."""

    def __init__(self, flight: InFlight) -> None:
        self.flight = flight
        self.second = 0.0

    def answer(self, number: int, *, full: int = 0) -> int:
        """Answer some requests; the first so many answers find that the limit alone held others back."""
        for which in range(number):
            now = self.second + 0.5 + which / 10_000
            self.flight.answered(sent_at=self.second, full=which < full, now=now)
        self.second += 1
        return self.flight.limit


def test_as_long_as_it_holds_the_import_back_the_number_doubles_with_every_round_of_answers() -> None:
    flight = InFlight(400)
    rounds = Rounds(flight)

    # The second answer already finds the next requests waiting for the rate budget.
    assert [rounds.answer(flight.limit, full=1) for _ in range(4)] == [100, 200, 400, 400]


def test_it_does_not_grow_while_something_else_holds_the_import_back() -> None:
    flight = InFlight(400)
    rounds = Rounds(flight)

    assert rounds.answer(50, full=1) == 100
    assert [rounds.answer(1000) for _ in range(3)] == [100, 100, 100]


@pytest.mark.parametrize("most", [1, 3, 50])
def test_it_begins_with_no_more_than_there_may_be(most: int) -> None:
    flight = InFlight(most)

    assert flight.limit == most
    assert Rounds(flight).answer(100, full=1) == most


def test_trouble_halves_it_and_then_it_grows_by_one_a_round() -> None:
    flight = InFlight(400)
    rounds = Rounds(flight)
    rounds.answer(350, full=1)

    flight.failed(10.0)

    assert flight.limit == 200
    assert [rounds.answer(flight.limit, full=1) for _ in range(3)] == pytest.approx([201, 202, 203], abs=1)


def test_requests_that_fail_together_are_one_piece_of_trouble() -> None:
    flight = InFlight(400)
    for after in (0.0, 0.2, 0.4, 0.9):
        flight.failed(10.0 + after)

    assert flight.limit == 25


def test_lasting_trouble_leaves_one() -> None:
    flight = InFlight(400)
    for second in range(20):
        flight.failed(float(second))

    assert flight.limit == 1
