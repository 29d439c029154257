"""User ids as they may be shown where an example helps."""

from __future__ import annotations

from typing import Final

#: Of so many characters one is shown, at either end at most three, and of an id of this length one at each end.
_ONE_OF: Final = 4
_MOST: Final = 3
_TWO_ENDS: Final = 5


def mask(user: str) -> str:
    """Return enough of an id to see what kind of ids these are, and too little to find the user by it.

    A quarter of the characters is left, and both ends of a short id: ``C00042`` becomes ``C…2``, a UUID ``3f2…9ab``.

    :param user: an id, an address, a number.
    """
    shown = max(len(user) // _ONE_OF, 2 if len(user) >= _TWO_ENDS else 0)
    head, tail = min((shown + 1) // 2, _MOST), min(shown // 2, _MOST)
    return plain(f"{user[:head]}…{user[len(user) - tail :]}")


def plain(text: str) -> str:
    """Return text that a terminal shows and does not obey: what does not print becomes a question mark."""
    return "".join(one if one.isprintable() else "?" for one in text)
