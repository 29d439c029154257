from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.limits import Limit, Share, parse_share
from airflow_provider_kubit_braze.exceptions import CohortConfigError


@pytest.mark.parametrize(
    ("limit", "value", "of", "exceeded"),
    [
        pytest.param("30%", 3, 10, False, id="exactly the share is not above it"),
        pytest.param("30%", 4, 10, True, id="one more is"),
        pytest.param("30%", 0, 0, False, id="none of none"),
        pytest.param("30%", 1, 0, True, id="one of none"),
        pytest.param("0.5%", 1, 200, False, id="half a percent of 200"),
        pytest.param("0.5%", 1, 199, True, id="half a percent of 199"),
        pytest.param("29%", 29, 100, False, id="a share that binary floats round down"),
        pytest.param("57%", 57, 100, False, id="another one"),
        pytest.param("1.1%", 11, 1000, False, id="one with decimals"),
        pytest.param("0.000001%", 1, 10**8, False, id="the finest share"),
        pytest.param("0.000001%", 2, 10**8, True, id="above the finest share"),
        pytest.param("100%", 10, 10, False, id="everybody"),
        pytest.param(30, 30, 5, False, id="exactly the number"),
        pytest.param(30, 31, 10**9, True, id="a number ignores the total"),
        pytest.param(0, 0, 10, False, id="none allowed and none there"),
        pytest.param(0, 1, 10, True, id="none allowed and one there"),
    ],
)
def test_a_limit_is_exceeded_only_strictly_above_it(
    limit: object, value: int, of: int, exceeded: bool
) -> None:
    assert Limit.parse(limit).exceeded(value, of) is exceeded


def test_every_whole_percentage_of_every_total_is_exact() -> None:
    for percent in range(1, 101):
        limit = Limit.parse(f"{percent}%")
        for of in (1, 7, 100, 999, 10**12 + 1):
            most = percent * of // 100
            assert not limit.exceeded(most, of)
            assert limit.exceeded(most + 1, of)


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("30%", "30%"),
        ("0.5%", "0.5%"),
        ("30.50 %", "30.5%"),
        (" 7%", "7%"),
        ("100%", "100%"),
        (30, "30"),
        (0, "0"),
    ],
)
def test_a_limit_prints_as_it_is_written(written: object, printed: str) -> None:
    assert str(Limit.parse(written)) == printed


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        pytest.param(
            0.3, "0.3 is neither a percentage nor a number of users; write a percentage", id="bare fraction"
        ),
        pytest.param("30", "'30' is neither a percentage nor a number of users", id="number in quotes"),
        pytest.param("30 percent", "'30 percent' is neither", id="words"),
        pytest.param("-3%", "'-3%' is neither", id="negative share"),
        pytest.param("0.0000001%", "'0.0000001%' is neither", id="too fine a share"),
        pytest.param(True, "true is neither", id="boolean"),
        pytest.param([], "[] is neither", id="list"),
        pytest.param(-1, "-1 is below 0; write 0 or more, or null for no limit", id="negative number"),
        pytest.param(
            "0%", "0% is out of range; write more than 0% and at most 100%, or the number 0", id="0%"
        ),
        pytest.param("101%", "101% is out of range", id="above 100%"),
    ],
)
def test_a_bad_limit_is_refused_with_the_value_and_the_fix(written: object, sentence: str) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        Limit.parse(written)
    assert str(refusal.value).startswith(sentence)


def test_a_limit_built_from_a_float_means_the_decimal_it_prints() -> None:
    by_float: Any = 0.3
    assert Limit(share=by_float) == Limit.parse("30%")


@pytest.mark.parametrize("parts", [{}, {"count": 1, "share": Share(1, 2)}], ids=["neither", "both"])
def test_a_limit_is_a_number_or_a_share(parts: dict[str, Any]) -> None:
    with pytest.raises(CohortConfigError, match="either a number or a share"):
        Limit(**parts)


def test_a_share_is_a_fraction_that_prints_as_a_percentage() -> None:
    share = parse_share("12.5%")
    assert share == Fraction(1, 8)
    assert f"{share}|{share:>6}|{share!s}|{share!r}" == "12.5%| 12.5%|12.5%|Share(1, 8)"
    assert bool(parse_share(0)) is False


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # our own


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_a_share_survives_copying_and_pickling(again: Any) -> None:
    share = Share(1, 8)
    assert again(share) == share
    assert type(again(share)) is Share
    assert str(again(share)) == "12.5%"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        pytest.param(
            0.1, '0.1 does not say of what; write a percentage with its sign, such as "10%"', id="fraction"
        ),
        pytest.param(10, "10 does not say of what", id="number"),
        pytest.param(False, "false is not a percentage", id="boolean"),
        pytest.param("ten", "'ten' is not a percentage", id="word"),
        pytest.param("100%", "100% is out of range; write 0% or more, and less than 100%", id="everybody"),
        pytest.param(Fraction(-1, 2), "-50% is out of range", id="negative"),
    ],
)
def test_a_bad_share_is_refused_with_the_value_and_the_fix(written: object, sentence: str) -> None:
    with pytest.raises(CohortConfigError) as refusal:
        parse_share(written)
    assert str(refusal.value).startswith(sentence)
