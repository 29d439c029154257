"""Which rows count: what a condition asks of the columns of a row."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from airflow_provider_kubit_braze.core.criteria.bounds import Amount, Window
from airflow_provider_kubit_braze.core.identifiers import NAME_PATTERN, parse_column
from airflow_provider_kubit_braze.core.part import each, one_or_all, placed, show
from airflow_provider_kubit_braze.exceptions import CohortConfigError

Value = str | int | float | bool | None
"""What a column can be compared with; None stands for a column without a value."""

# What Snowflake and sqlglot do not write alike in a literal, and what UTF-8 cannot hold.
_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

MAX_VALUES = 1000
"""Most values of one list. Snowflake takes more, but a list that long belongs into a table."""


def parse_text(value: object) -> str:
    """Check a text that is to stand in SQL.

    :param value: anything read from YAML or given in Python.
    :raises CohortConfigError: when it is no text, is empty, or holds a control character.
    """
    if not isinstance(value, str):
        raise CohortConfigError(f"{show(value)} is not text", fix=f"write text in quotes: {_quoted(value)}")
    if not value or _UNREADABLE.search(value):
        raise CohortConfigError(
            f"{show(value)} is empty or holds a control character", fix="write the text to look for"
        )
    return value


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, int | float) and not isinstance(value, bool) else '"..."'


def _parse_value(value: object) -> Value:
    if isinstance(value, str) and not _UNREADABLE.search(value):
        return value
    if value is None or type(value) in (int, bool) or (type(value) is float and math.isfinite(value)):
        return value  # type: ignore[return-value]  # mypy does not read `type(value) in`
    raise CohortConfigError(
        f"{show(value)} is not a value to compare with",
        fix="write text, a number, true, false, null, or a list of them",
    )


def _read_values(value: object) -> tuple[Value, ...]:
    """Read one value or a list; the empty tuple is the default and stands for a key that was not written."""
    if not isinstance(value, list | tuple):
        return (_parse_value(value),)
    if isinstance(value, list) and not value:
        raise CohortConfigError("the list is empty, which no row can match", fix="write at least one value")
    if len(value) > MAX_VALUES:
        raise CohortConfigError(
            f"the list holds {len(value):,} values and not at most {MAX_VALUES:,}",
            fix="put them into a table and name it with from",
        )
    parsed = tuple(_parse_value(one) for one in value)
    kinds = {"text" if isinstance(one, str) else "other" for one in parsed if one is not None}
    if len(kinds) > 1:
        raise CohortConfigError(
            "the list mixes text with numbers or true and false, which Snowflake would convert the whole column for",
            fix="put every value in quotes for a column of text, or none of them",
        )
    return parsed


_VALUE: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}
_VALUES: dict[str, Any] = {
    "anyOf": [
        _VALUE,
        *(
            {"type": "array", "items": {"type": [*kinds, "null"]}, "minItems": 1, "maxItems": MAX_VALUES}
            for kinds in (["string"], ["number", "boolean"])
        ),
    ]
}

ValuesField = Annotated[
    tuple[Value, ...],
    PlainValidator(_read_values),
    PlainSerializer(lambda values: values[0] if len(values) == 1 else list(values)),
    WithJsonSchema(_VALUES),
]
"""One value, or several of which any will do, as a field."""

TextField = Annotated[str, PlainValidator(parse_text), WithJsonSchema({"type": "string", "minLength": 1})]
"""A text to look for, as a field."""


class ColumnTest(Window, Amount):
    """What is asked of one column of a row; everything given must hold. A column without a value is nothing but null.

    :param is_: written ``is``: equal to the value, or to one of the values.
    :param not_: written ``not``: different from the value, or from all of the values.
    :param starts_with: text that begins so, in upper and lower case as written.
    :param contains: text that holds this, in upper and lower case as written.
    """

    is_: ValuesField = Field(default=(), alias="is", description="Equal to this, or to one of these.")
    not_: ValuesField = Field(
        default=(), alias="not", description="Different from this, or from all of these."
    )
    starts_with: TextField | None = Field(default=None, description="Text that begins so.")
    contains: TextField | None = Field(default=None, description="Text that holds this.")

    @model_validator(mode="after")
    def _something_is_asked(self) -> ColumnTest:
        asked = self.is_ or self.not_ or self.starts_with or self.contains
        if not (asked or self.has_limit or self.has_window):
            raise CohortConfigError(
                "nothing is asked of the column",
                fix="write a value, a list of values, or a mapping such as {over: 5} or {not: null}",
            )
        return self


@dataclass(frozen=True)
class Where:
    """What is asked of a row, column by column; everything must hold.

    :param tests: column as it stands in SQL, and what is asked of it.
    """

    tests: tuple[tuple[str, ColumnTest], ...]

    def written(self) -> dict[str, Any]:
        """Return the mapping that reads as this one."""
        return {column: test.model_dump(mode="json") for column, test in self.tests}


def _read_where(value: object) -> Where:
    if isinstance(value, Where):
        return value
    if not isinstance(value, Mapping) or not value:
        raise CohortConfigError(
            f"{show(value)} does not say what to ask of which column",
            fix="write a mapping from columns to values, such as {COUNTRY: [US, CA]}",
        )
    tests: list[tuple[str, ColumnTest]] = []
    problems: list[CohortConfigError] = []
    for column, asked in value.items():
        try:
            tests.append((parse_column(column), _read_test(asked)))
        except CohortConfigError as error:
            problems.extend(placed(problem, under=str(column)) for problem in each(error))
    if problems:
        raise one_or_all(problems)
    return Where(tuple(tests))


def _read_test(asked: object) -> ColumnTest:
    if isinstance(asked, ColumnTest):
        return asked
    if isinstance(asked, Mapping):
        keys: dict[str, Any] = {str(key): value for key, value in asked.items()}
        return ColumnTest(**keys)
    shorthand: Any = {"is": asked}
    try:
        return ColumnTest(**shorthand)
    except CohortConfigError as error:  # "is" was not written
        raise CohortConfigError(error.problem, fix=error.fix) from None


def _where_schema() -> dict[str, Any]:
    """Return the schema of ``where``; that of a test is given in full, for a reference cannot be made here."""
    test = ColumnTest.model_json_schema()
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
        "additionalProperties": {
            "anyOf": [
                *_VALUES["anyOf"],
                {
                    "type": "object",
                    "properties": test["properties"],
                    "additionalProperties": False,
                    "minProperties": 1,
                },
            ]
        },
    }


WhereField = Annotated[
    Where,
    PlainValidator(_read_where),
    PlainSerializer(lambda where: where.written(), return_type=dict[str, Any]),
    WithJsonSchema(_where_schema()),
]
"""What is asked of a row, as a field."""

EVERYTHING = "*"
"""The name that stands for any event at all."""


def _read_events(value: object) -> tuple[str, ...]:
    names = value if isinstance(value, list | tuple) else [value]
    if not names:
        raise CohortConfigError("the list of events is empty", fix="write at least one event")
    if len(names) > MAX_VALUES:
        raise CohortConfigError(
            f"the list holds {len(names):,} events and not at most {MAX_VALUES:,}", fix="name fewer events"
        )
    found = tuple(dict.fromkeys(parse_text(name) for name in names))
    if EVERYTHING in found and len(found) > 1:
        raise CohortConfigError(
            f"{show(list(found))} names events, and any event at all", fix=f"write '{EVERYTHING}' alone"
        )
    return found


_NAME: dict[str, Any] = {"type": "string", "minLength": 1}

EventsField = Annotated[
    tuple[str, ...],
    PlainValidator(_read_events),
    PlainSerializer(lambda names: names[0] if len(names) == 1 else list(names)),
    WithJsonSchema(
        {"anyOf": [_NAME, {"type": "array", "items": _NAME, "minItems": 1, "maxItems": MAX_VALUES}]}
    ),
]
"""The name of an event, or several of which any will do, as a field."""


def _read_columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise CohortConfigError(f"{show(value)} is not a list", fix=f"write a list of columns: [{value}]")
    return tuple(dict.fromkeys(parse_column(column) for column in value))


_COLUMN: dict[str, Any] = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}

ColumnField = Annotated[str, PlainValidator(parse_column), WithJsonSchema(_COLUMN)]
"""A column as a field."""

ColumnsField = Annotated[
    tuple[str, ...],
    PlainValidator(_read_columns),
    PlainSerializer(list),
    WithJsonSchema({"type": "array", "items": _COLUMN}),
]
"""Columns as a field."""
