"""Who is held out: a fixed share of a cohort, chosen by a hash, so that anybody can recompute it.

A user's hash is the first 8 of the 32 lower-case hexadecimal digits of
``MD5(salt || ':' || kind || ':' || user)`` over the UTF-8 bytes: ``SUBSTR(MD5(...), 1, 8)`` in Snowflake, the
same in Python. The salt is the cohort's id, so two cohorts hold out different users. A user is held out when
the hash is below :func:`holdout_threshold`, compared as text. The hash does not depend on the share: raising
the share keeps everybody who was held out before.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.core.limits import parse_share

if TYPE_CHECKING:
    from fractions import Fraction

_DIGITS = 8


@lru_cache(maxsize=256)
def holdout_threshold(share: Fraction | int | str) -> str:
    """Return the first hash that is not held out: ``floor(share * 2**32)`` as 8 lower-case hex digits.

    :param share: 0 or more and below 1, or a percentage such as ``"10%"``; 0 gives ``"00000000"``, nobody.
    :raises CohortConfigError: when the share is out of range.
    """
    return f"{parse_share(share) * 16**_DIGITS // 1:0{_DIGITS}x}"


def holdout_hash(salt: str, kind: str, user_id: str) -> str:
    """Return a user's hash, 8 lower-case hexadecimal digits.

    :param salt: the cohort's id.
    :param kind: the kind of identifier, such as ``external_id``.
    :param user_id: the user as the ledger names them.
    """
    digest = hashlib.md5(f"{salt}:{kind}:{user_id}".encode(), usedforsecurity=False)
    return digest.hexdigest()[:_DIGITS]


def is_held_out(salt: str, kind: str, user_id: str, share: Fraction | int | str) -> bool:
    """Tell whether a user is held out.

    :param salt: the cohort's id.
    :param kind: the kind of identifier, such as ``external_id``.
    :param user_id: the user as the ledger names them.
    :param share: the share held out, as :func:`holdout_threshold` takes it.
    """
    return holdout_hash(salt, kind, user_id) < holdout_threshold(share)
