"""Where a statement that holds on one side begins to hold: how limits of intervals are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: Halvings of a bracket: enough for the last bit of a double between -1 and 1, and of a logarithm below 100.
_HALVINGS = 64


def first_true(holds: Callable[[Any], Any], low: float, high: float, like: Any) -> NDArray[np.float64]:
    """Return, for each experiment, the least point of ``low`` to ``high`` at which ``holds`` is true.

    A root finder would not do: at the estimate itself both sides of the inequality may be 0, as with no converter
    at all, and that is no limit.

    :param holds: takes an array of points, one for each experiment, and returns booleans: false, then true from some
        point on.
    :param like: an array, or a number, of the shape of the experiments.
    :return: ``high`` where it is never true.
    """
    left, right = np.full(np.shape(like), low), np.full(np.shape(like), high)
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        true = holds(middle)
        left, right = np.where(true, left, middle), np.where(true, middle, right)
    return right
