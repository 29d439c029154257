"""Shares and limits: values an author writes as a percentage or as a number of users, kept exactly.

Floats never enter the arithmetic, so 30% of 10 is 3 and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from airflow_provider_kubit_braze.core.part import show
from airflow_provider_kubit_braze.exceptions import CohortConfigError

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")
_PERCENT_SCHEMA = r"^\d{1,3}(\.\d{1,6})?\s*%$"


class Share(Fraction):
    """An exact part of a whole, from 0 to 1, that prints as a percentage: ``str(Share(1, 10))`` is ``10%``.

    It compares and calculates as the :class:`~fractions.Fraction` it is.
    """

    __slots__ = ()

    def __str__(self) -> str:
        percent = Decimal(self.numerator * 100) / Decimal(self.denominator)
        return f"{percent.normalize():f}%"

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)

    def __reduce__(self) -> tuple[type[Share], tuple[int, int]]:
        return Share, (self.numerator, self.denominator)


def parse_percent(value: str) -> Share | None:
    """Read ``"30%"`` or ``"0.5 %"``; None when the text is no percentage (at most six decimals).

    :param value: the text.
    """
    match = _PERCENT.fullmatch(value.strip())
    return None if match is None else Share(Fraction(match[1]) / 100)


def parse_share(value: object) -> Share:
    """Read a share as the holdout takes it: ``"10%"``, 0, or an exact fraction, below 100%.

    :param value: a percentage as text, 0, or a :class:`~fractions.Fraction`.
    :raises CohortConfigError: when it is anything else. A bare 0.1 is refused, since it may mean 10% or 0.1%.
    """
    if isinstance(value, Fraction):
        share: Share | None = Share(value)
    elif isinstance(value, str):
        share = parse_percent(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value != 0:
            raise CohortConfigError(
                f"{show(value)} does not say of what", fix='write a percentage with its sign, such as "10%"'
            )
        share = Share(0)
    else:
        share = None
    if share is None:
        raise CohortConfigError(f"{show(value)} is not a percentage", fix='write one such as "10%"')
    if not 0 <= share < 1:
        raise CohortConfigError(f"{share} is out of range", fix="write 0% or more, and less than 100%")
    return share


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The most of something that may happen: a number of users, or a share of some total. Exactly one is set.

    :param count: users, 0 or more.
    :param share: an exact share, above 0 and at most 1. A float is read as the decimal it prints.
    """

    count: int | None = None
    share: Share | None = None

    def __post_init__(self) -> None:
        given: Any = self.share
        if isinstance(given, float):  # a caller's 0.3 means the decimal 0.3, not its binary neighbour
            given = Fraction(str(given))
        if given is not None and not isinstance(given, Share):
            object.__setattr__(self, "share", Share(given))
        if (self.count is None) == (self.share is None):
            raise CohortConfigError(
                "a limit is either a number or a share", fix="give count or share, not both"
            )
        if self.count is not None and self.count < 0:
            raise CohortConfigError(f"{self.count} is below 0", fix="write 0 or more, or null for no limit")
        if self.share is not None and not 0 < self.share <= 1:
            raise CohortConfigError(
                f"{self.share} is out of range",
                fix="write more than 0% and at most 100%, or the number 0 to allow none",
            )

    @classmethod
    def parse(cls, value: object) -> Limit:
        """Read ``"30%"`` or ``30``.

        :param value: a percentage as text, or a whole number of users.
        :raises CohortConfigError: when it is anything else; a bare 0.3 is refused, since its unit is unclear.
        """
        if isinstance(value, Limit):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return cls(count=value)
        share = parse_percent(value) if isinstance(value, str) else None
        if share is None:
            raise CohortConfigError(
                f"{show(value)} is neither a percentage nor a number of users",
                fix='write a percentage such as "30%" or a whole number such as 500',
            )
        return cls(share=share)

    def exceeded(self, value: int, of: int) -> bool:
        """Tell whether ``value`` is strictly above the limit.

        :param value: how many there are.
        :param of: the total that a share is taken of; a plain number ignores it.
        """
        if self.share is None:
            return self.count is not None and value > self.count
        return value * self.share.denominator > of * self.share.numerator

    def __str__(self) -> str:
        return str(self.count) if self.share is None else str(self.share)


def _plain_limit(limit: Limit) -> str | int:
    return str(limit.share) if limit.count is None else limit.count


def _schema(*others: dict[str, Any]) -> WithJsonSchema:
    percent = {"type": "string", "pattern": _PERCENT_SCHEMA}
    return WithJsonSchema({"anyOf": [percent, *others]})


LimitField = Annotated[
    Limit,
    PlainValidator(Limit.parse),
    PlainSerializer(_plain_limit),
    _schema({"type": "integer", "minimum": 0}),
]
"""A :class:`Limit` as a field of a cohort: ``"30%"`` or ``30`` in YAML."""

ShareField = Annotated[Share, PlainValidator(parse_share), PlainSerializer(str), _schema({"const": 0})]
"""A :class:`Share` as a field of a cohort: ``"10%"`` or ``0`` in YAML."""
