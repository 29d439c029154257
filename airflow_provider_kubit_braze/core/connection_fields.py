"""Read the fields of an Airflow connection, and refuse a wrong one in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_kubit_braze.exceptions import BrazeSettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Refuse:
    """Raise the one sentence that names connection, field, value and fix.

    :param conn_id: the connection's id, or None when there is none.
    """

    conn_id: str | None

    def __call__(self, name: str, value: object, fix: str) -> NoReturn:
        """Refuse and show the value; None stands for a missing one."""
        self.because(name, "is missing" if value is None else f"cannot be {value!r}", fix)

    def because(self, name: str, problem: str, fix: str) -> NoReturn:
        """Refuse without showing the value, which may be a key."""
        where = f"connection {self.conn_id!r}, " if self.conn_id else ""
        raise BrazeSettingsError(f"{where}field {name!r}: {problem}; {fix}.")


class Extra:
    """Typed access to the extra, whose values are text when the connection comes from a URI.

    A blank value counts as absent: connection forms store empty boxes.

    :param refuse: what to call when a value has the wrong type.
    :param values: the connection's extra.
    """

    def __init__(self, refuse: Refuse, values: Mapping[str, Any]) -> None:
        self._refuse = refuse
        self._values = {
            name: value
            for name, value in values.items()
            if value is not None and not (isinstance(value, str) and not value.strip())
        }

    def text(self, name: str, *, secret: bool = False) -> str | None:
        """Return text without the blanks around it; a secret is returned as it is, to be judged."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            self._refuse.because(name, f"is not text but {type(value).__name__}", "put the value in quotes")
        return value if secret else value.strip()

    def number(self, name: str) -> float | None:
        """Return a number."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            if isinstance(value, bool):
                raise TypeError
            return float(value)
        except (TypeError, ValueError):
            self._refuse(name, value, "use a number")

    def integer(self, name: str) -> int | None:
        """Return a whole number."""
        number = self.number(name)
        if number is None:
            return None
        if not number.is_integer():
            self._refuse(name, self._values[name], "use a whole number")
        return int(number)

    def boolean(self, name: str) -> bool | None:
        """Return true or false."""
        value = self._values.get(name)
        if value is None or isinstance(value, bool):
            return value
        word = _WORDS.get(str(value).strip().lower())
        if word is None:
            self._refuse(name, value, "use true or false")
        return word
