"""YAML as cohort files mean it: no surprises of YAML 1.1, no tags, no bombs, and the line of every key.

Only ``true`` and ``false`` are booleans, so ``on:`` stays a key and ``off`` a word; only plain decimals are
numbers, so ``10:30`` and ``2026-01-05`` stay text. The values are built here from the parser's events, since
PyYAML's own composer recurses in C and a file nested deep enough ends the process.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from airflow_provider_kubit_braze.core.part import show
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VALUES = 200_000
"""Most values one file may hold, its aliases written out: far above any real file, far below a bomb."""

MAX_DEPTH = 50
"""Deepest nesting of one file; a cohort needs five."""

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = re.compile(r"(?:~|null|Null|NULL)?")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")


class Located(dict[str, Any]):
    """A mapping from YAML that knows its line, and the line of each of its keys.

    :param line: line of the mapping's first key, counted from 1.
    """

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}

    def put(self, key: str, value: Any, line: int) -> None:
        """Set a key together with its line."""
        self[key] = value
        self.lines[key] = line

    def line_of(self, field: str | None) -> int:
        """Return the line of a dotted field, or of the nearest thing around it that was written.

        :param field: such as ``schedule.at``; a number counts the items of a list from 1. None for the mapping itself.
        """
        line = self.line
        here: Any = self
        for step in field.split(".") if field else ():
            if isinstance(here, list) and step.isdecimal() and 1 <= int(step) <= len(here):
                here = here[int(step) - 1]
                line = here.line if isinstance(here, Located) else line
            elif isinstance(here, Located) and step in here:
                line, here = here.lines[step], here[step]
            else:
                break
        return line


class Items(list[Any]):
    """A list from YAML that knows the line of each of its items."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []

    def put(self, value: Any, line: int) -> None:
        """Append an item together with its line."""
        self.append(value)
        self.lines.append(line)


def parse_yaml(text: str, *, file: str) -> Any:
    """Read one YAML document into plain values; mappings become :class:`Located`, lists :class:`Items`.

    :param text: the document.
    :param file: the file's name, for the error.
    :raises CohortConfigError: on a syntax error, a duplicate or non-text key, a tag, several documents, or
        too many values.
    """
    try:
        return _Reader(yaml.parse(text, _PARSER), file).document()
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark  # None from some of PyYAML's own errors
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise CohortConfigError(
            f"this is not valid YAML{f' at column {mark.column + 1}' if mark else ''} ({said})",
            fix="correct the indentation, quotes or brackets there",
            file=f"{file}:{min(mark.line + 1, text.rstrip().count(chr(10)) + 1)}" if mark else file,
        ) from None
    except yaml.YAMLError as error:
        raise CohortConfigError(
            f"this is not valid YAML ({' '.join(str(error).split())})",
            fix="remove the characters that are not text",
            file=file,
        ) from None


class _Reader:
    """Builds the values of one document from the parser's events, counting as it goes."""

    def __init__(self, events: Iterator[Any], file: str) -> None:
        self._events = events
        self._file = file
        self._count = 0
        self._depth = 0
        self._anchors: dict[str, tuple[Any, int]] = {}

    def document(self) -> Any:
        value = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                value = self._value(next(self._events))
                break
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise self._refuse(
                    event, "a second document begins here", "keep one document, with a list under cohorts"
                )
        return value

    def _refuse(self, event: Any, problem: str, fix: str) -> CohortConfigError:
        return CohortConfigError(problem, fix=fix, file=f"{self._file}:{_line(event)}")

    def _spend(self, event: Any, values: int) -> None:
        self._count += values
        if self._count > MAX_VALUES:
            raise self._refuse(
                event,
                f"the file holds more than {MAX_VALUES:,} values",
                "use fewer aliases, or several files",
            )

    def _value(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._count
        self._spend(event, 1)
        if getattr(event, "tag", None) is not None:
            raise self._refuse(
                event, f"the tag {event.tag!r} is not allowed", "write plain values, text in quotes"
            )
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._refuse(
                event, f"the values nest deeper than {MAX_DEPTH} levels", "write a flatter file"
            )
        if isinstance(event, yaml.MappingStartEvent):
            value: Any = self._mapping(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence()
        else:
            value = _scalar(event)
        self._depth -= 1
        if event.anchor:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise self._refuse(
                event,
                f"the alias *{event.anchor} stands before the end of its anchor",
                f"define &{event.anchor} above",
            )
        value, size = self._anchors[event.anchor]
        self._spend(event, size)
        return value

    def _sequence(self) -> Items:
        found = Items()
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.put(self._value(event), _line(event))
        return found

    def _mapping(self, start: Any) -> Located:
        found = Located(_line(start))
        merged: list[Located] = []
        seen: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, line = self._value(event), _line(event)
            if not isinstance(key, str):
                raise self._refuse(event, f"the key {show(key)} is not text", "write the key as text")
            if key in seen:
                raise self._refuse(
                    event, f"the key {key!r} stands here and on line {seen[key]}", "keep one of them"
                )
            seen[key] = line
            value_event = next(self._events)
            value = self._value(value_event)
            if key == "<<":
                merged.extend(self._merged(value, value_event))
            else:
                found.put(key, value, line)
        for source in merged:
            for key, value in source.items():
                if key not in found:
                    found.put(key, value, source.lines[key])
        return found

    def _merged(self, value: Any, event: Any) -> Iterator[Located]:
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, Located):
                raise self._refuse(
                    event, f"<< merges mappings, and {show(item)} is none", "name a mapping's alias"
                )
            yield item


def _scalar(event: Any) -> str | int | float | bool | None:
    """Read a scalar; one in quotes is always text."""
    text = str(event.value)
    if not event.implicit[0]:
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
