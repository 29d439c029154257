from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import pytest

from airflow_provider_kubit_braze.core.holdout import holdout_threshold, is_held_out
from airflow_provider_kubit_braze.exceptions import CohortConfigError

PEOPLE = [f"user-{number}" for number in range(100_000)]


def held_out(share: str, salt: str = "vip") -> set[str]:
    return {user for user in PEOPLE if is_held_out(salt, "external_id", user, share)}


@pytest.mark.parametrize(
    ("share", "threshold"),
    [
        ("0%", "00000000"),
        (0, "00000000"),
        ("10%", "19999999"),
        ("50%", "80000000"),
        (Fraction(1, 2**32), "00000001"),
        (Fraction(2**32 - 1, 2**32), "ffffffff"),
    ],
)
def test_the_threshold_is_the_share_of_all_hashes(share: Fraction | str | int, threshold: str) -> None:
    assert holdout_threshold(share) == threshold


def test_holding_out_everybody_is_refused() -> None:
    with pytest.raises(CohortConfigError, match="100% is out of range"):
        holdout_threshold("100%")


def test_raising_the_share_keeps_everybody_who_was_held_out() -> None:
    assert held_out("10%") < held_out("20%") < held_out("75%")


@pytest.mark.parametrize("percent", [1, 10, 33, 90])
def test_the_share_held_out_is_the_share_asked_for(percent: int) -> None:
    share = percent / 100
    deviation = math.sqrt(len(PEOPLE) * share * (1 - share))
    assert abs(len(held_out(f"{percent}%")) - len(PEOPLE) * share) < 4 * deviation


def test_nobody_is_held_out_at_zero() -> None:
    assert held_out("0%") == set()


def test_two_cohorts_hold_out_different_people() -> None:
    both = held_out("10%", "vip") & held_out("10%", "lapsed")
    assert 0.008 < len(both) / len(PEOPLE) < 0.012


@pytest.mark.parametrize("user", ["u1", "Jürgen", "名前", "a:b", "it's"])
def test_the_hash_is_the_documented_one(user: str) -> None:
    digest = hashlib.md5(b"vip:email:" + user.encode("utf-8")).hexdigest()[:8]  # noqa: S324  # a spread, not a secret
    number = int(digest, 16)
    assert is_held_out("vip", "email", user, Fraction(number, 2**32)) is False
    assert is_held_out("vip", "email", user, Fraction(number + 1, 2**32)) is True
