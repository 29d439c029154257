"""User ids as they may be shown where an example helps."""

from __future__ import annotations

from typing import Final

#: Of so many characters one is shown, and at either end at most three.
_ONE_OF: Final = 4
_MOST: Final = 3


def mask(user: str) -> str:
    """Return enough of an id to see what kind of ids these are, and too little to find the user by it.

    A quarter of the characters is left, half of them at each end: ``C00042`` becomes ``C…``, a UUID ``3f2…9ab``.

    :param user: an id, an address, a number.
    """
    shown = len(user) // _ONE_OF
    head, tail = min((shown + 1) // 2, _MOST), min(shown // 2, _MOST)
    return plain(f"{user[:head]}…{user[len(user) - tail :]}")


def plain(text: str) -> str:
    """Return text that a terminal shows and does not obey: what does not print becomes a question mark."""
    return "".join(one if one.isprintable() else "?" for one in text)
