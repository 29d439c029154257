from __future__ import annotations

import pytest

from airflow_provider_kubit_braze.core.in_flight import InFlight


def answers(flight: InFlight, number: int, *, held_back: bool = True) -> int:
    for _ in range(number):
        flight.answered(held_back=held_back)
    return flight.limit


def test_as_long_as_it_holds_the_import_back_the_number_doubles_with_every_round_of_answers() -> None:
    flight = InFlight(400)

    assert [answers(flight, flight.limit) for _ in range(4)] == [100, 200, 400, 400]


def test_it_does_not_grow_while_something_else_holds_the_import_back() -> None:
    assert answers(InFlight(400), 1000, held_back=False) == 50


@pytest.mark.parametrize("most", [1, 3, 50])
def test_it_begins_with_no_more_than_there_may_be(most: int) -> None:
    flight = InFlight(most)

    assert flight.limit == most
    assert answers(flight, 100) == most


def test_trouble_halves_it_and_then_it_grows_by_one_a_round() -> None:
    flight = InFlight(400)
    answers(flight, 350)

    flight.failed(10.0)

    assert flight.limit == 200
    assert [answers(flight, flight.limit) for _ in range(3)] == pytest.approx([201, 202, 203], abs=1)


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
