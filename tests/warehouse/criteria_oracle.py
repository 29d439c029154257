"""What criteria mean, said in plain Python over lists of rows: the tests' oracle. It reads what the author wrote."""

from __future__ import annotations

import operator
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]
_LIMITS = {"over": operator.gt, "at_least": operator.ge, "under": operator.lt, "at_most": operator.le}
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Oracle:
    """The tables as lists of rows, by the names that criteria use.

    :param tables: table to rows.
    :param now: the moment of the question, naive, in UTC.
    """

    def __init__(self, tables: Mapping[str, Sequence[Row]], now: datetime) -> None:
        self.tables = tables
        self.now = now
        self._by_user: dict[tuple[str, str], dict[Any, list[Row]]] = {}

    def rows(self, table: str, user: str) -> dict[Any, list[Row]]:
        if (table, user) not in self._by_user:
            found = defaultdict(list)
            for row in self.tables[table]:
                if row[user] is not None:
                    found[row[user]].append(row)
            self._by_user[table, user] = found
        return self._by_user[table, user]

    def members(self, criteria: Mapping[str, Any]) -> set[Any]:
        """Return the users for whom the criteria hold."""
        names = {"event": "EVENT_NAME", "time": "EVENT_TIME", **criteria}
        return {user for user in self.rows(names["from"], names["user"]) if self._group(names, user, names)}

    def _group(self, condition: Mapping[str, Any], user: Any, names: Mapping[str, Any]) -> bool | None:
        if "all" in condition:
            return all(self._holds(one, user, names) for one in condition["all"])
        if "any" in condition:
            return any(self._holds(one, user, names) for one in condition["any"])
        if "not" in condition:
            return not self._holds(condition["not"], user, names)
        return None

    def _holds(self, condition: Mapping[str, Any], user: Any, names: Mapping[str, Any]) -> bool:
        group = self._group(condition, user, names)
        if group is not None:
            return group
        if "sum" in condition:
            return self._sum(condition["sum"], user, names)
        for kind, pick in (("first", min), ("last", max)):
            if kind in condition:
                return self._time(condition[kind], user, names, pick)
        which = dict(condition)
        for kind in ("did", "ever", "never"):
            if kind in condition:
                which["did"] = condition[kind]
        number = len(self._matching(which, user, names))
        if "never" in condition:
            return number == 0
        if "exactly" in condition:
            return number == int(condition["exactly"])
        low = int(condition.get("at_least", 0 if "at_most" in condition else 1))
        return low <= number <= int(condition.get("at_most", number))

    def _sum(self, of: Mapping[str, Any], user: Any, names: Mapping[str, Any]) -> bool:
        found = [row[of["column"]] for row in self._matching(of, user, names)]
        return self._amount(sum(value for value in found if value is not None), of)

    def _time(self, of: Mapping[str, Any], user: Any, names: Mapping[str, Any], pick: Any) -> bool:
        column = of.get("time", names["time"])
        untimed = {key: value for key, value in of.items() if key not in ("within", "since", "before")}
        times = [moment(row[column]) for row in self._matching(untimed, user, names)]
        past = [one for one in times if one is not None and one <= self.now]
        return bool(past) and self._inside(pick(past), of)

    def _matching(self, which: Mapping[str, Any], user: Any, names: Mapping[str, Any]) -> list[Row]:
        table = self.rows(which.get("from", names["from"]), which.get("user", names["user"]))
        events = which.get("did", "*")
        events = events if isinstance(events, list) else [events]
        event, column = which.get("event", names["event"]), which.get("time", names["time"])
        return [
            row
            for row in table.get(user, ())
            if (events == ["*"] or row[event] in events)
            and all(self._test(row[name], asked) for name, asked in which.get("where", {}).items())
            and (not _windowed(which) or self._inside(moment(row[column]), which))
        ]

    def _test(self, value: Any, asked: Any) -> bool:
        if not isinstance(asked, dict):
            asked = {"is": asked}
        if "is" in asked and not _among(value, asked["is"]):
            return False
        if "not" in asked and _among(value, asked["not"]):
            return False
        # What a property says may lie ahead; only a window that ends now leaves the future out.
        if _windowed(asked) and not self._inside(moment(value), asked, ahead="within" not in asked):
            return False
        for text, holds in (("starts_with", str.startswith), ("contains", str.__contains__)):
            if text in asked and (value is None or not holds(value, asked[text])):
                return False
        return self._amount(value, asked)

    def _amount(self, value: Any, limits: Mapping[str, Any]) -> bool:
        for name, holds in _LIMITS.items():
            # 29.99 is meant as it is written, not as the binary fraction beside it.
            if name in limits and (value is None or not holds(value, Decimal(str(limits[name])))):
                return False
        return True

    def _inside(self, when: datetime | None, window: Mapping[str, Any], *, ahead: bool = False) -> bool:
        if when is None or (when > self.now and not ahead):
            return False
        if "within" in window and when < self.now - duration(window["within"]):
            return False
        if "since" in window and when < _day(window["since"]):
            return False
        if "before" in window:
            end = window["before"]
            return when < (_day(end) if "-" in end else self.now - duration(end))
        return True


def duration(text: str) -> timedelta:
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def moment(value: Any) -> datetime | None:
    """Return a column's time as it is on UTC's clock."""
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return datetime.combine(value, time()) if isinstance(value, date) else value


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _windowed(window: Mapping[str, Any]) -> bool:
    return any(key in window for key in ("within", "since", "before"))


def _among(value: Any, values: Any) -> bool:
    return value in (values if isinstance(values, list) else [values])
