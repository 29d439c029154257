"""Which column holds which of Braze's identifiers, and in what order they are tried."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_serializer, model_validator

from airflow_provider_kubit_braze.core.part import Part, one_or_all, show, unknown_key
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

IdentifierKind = Literal["external_id", "braze_id", "email", "phone", "user_alias", "device_id"]

KINDS: tuple[IdentifierKind, ...] = get_args(IdentifierKind)

NAME_PATTERN = r'(?:[A-Za-z_][A-Za-z0-9_$]*|"(?:[^"]|"")+")'
"""One Snowflake identifier, plain or in double quotes."""

NAME_MAX_LENGTH = 255
"""Snowflake's longest identifier, in characters (Snowflake documentation, "Identifier requirements")."""

_NAME = re.compile(NAME_PATTERN)
_TABLE = re.compile(rf"{NAME_PATTERN}(?:\.{NAME_PATTERN}){{0,2}}")


def parse_column(value: object) -> str:
    """Check a column name and return it as written, ready to stand in SQL.

    :param value: a plain name such as ``USER_ID``, or one in double quotes such as ``"User Id"``.
    :raises CohortConfigError: when it is anything else.
    """
    if not isinstance(value, str):
        raise CohortConfigError(f"{show(value)} is not a column name", fix="write the name of one column")
    if not _NAME.fullmatch(value):
        raise CohortConfigError(
            f"{show(value)} is not a column name",
            fix="write letters, digits, _ and $ only, or put the name in double quotes inside single ones: "
            "'\"User Id\"'",
        )
    if len(value.strip('"')) > NAME_MAX_LENGTH:
        raise CohortConfigError(
            f"the column name {show(value)} is longer than {NAME_MAX_LENGTH} characters",
            fix="write the name of an existing column",
        )
    return value


def parse_table(value: str) -> str:
    """Check a table's name and return it as written, ready to stand in SQL.

    :param value: one to three identifiers joined by dots: table, schema.table or database.schema.table.
    :raises CohortConfigError: when it is anything else.
    """
    if not _TABLE.fullmatch(value):
        raise CohortConfigError(
            f"{show(value)} is not a table name",
            fix="write one to three names joined by dots, such as DATABASE.SCHEMA.TABLE, each of letters, "
            "digits, _ and $ or in double quotes; or use sql",
        )
    return value


TableField = Annotated[
    str, AfterValidator(parse_table), Field(json_schema_extra={"pattern": f"^{_TABLE.pattern}$"})
]
"""A table's name as a field of a cohort."""


def stored_name(column: str) -> str:
    """Return a column's name as Snowflake stores and reports it: upper case unless it was quoted.

    :param column: the name as it stands in SQL.
    """
    if column.startswith('"'):
        return column[1:-1].replace('""', '"')
    return column.upper()


@dataclass(frozen=True)
class Identifier:
    """One way to name a user to Braze.

    :param kind: which of Braze's identifiers it is.
    :param column: the column of the source that holds it, as it stands in SQL.
    :param label: for ``user_alias`` the alias label, the same for every user; None otherwise.
    """

    kind: IdentifierKind
    column: str
    label: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_key(str(self.kind), KINDS)
        parse_column(self.column)
        if (self.kind == "user_alias") != (self.label is not None):
            raise CohortConfigError(
                f"{self.kind} with label {show(self.label)}",
                fix="give a label to user_alias and to nothing else",
            )

    @property
    def stored_name(self) -> str:
        """The column's name as Snowflake stores and reports it: upper case unless it was quoted."""
        return stored_name(self.column)


class Identifiers(Part):
    """The chain of identifiers of a cohort: the first one that is not null in a row names the user.

    Written as a mapping from kind to column; the order of the keys is the order of the chain.

    :param external_id: column of Braze's ``external_id``.
    :param braze_id: column of Braze's own id; it names existing profiles only.
    :param email: column of an e-mail address.
    :param phone: column of a phone number (E.164).
    :param user_alias: ``{"label": "the alias label", "name": "COLUMN"}``.
    :param device_id: column of a device id; only with ``deliver_as: partner_cohort``.
    """

    chain: tuple[Identifier, ...]

    if TYPE_CHECKING:

        def __init__(self, **kinds: str | Mapping[str, str]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if not data:
            raise CohortConfigError("no identifier is named", fix="write one, such as external_id: USER_ID")
        chain: list[Identifier] = []
        problems: list[CohortConfigError] = []
        for kind, value in data.items():
            try:
                chain.append(_identifier(kind, value))
            except CohortConfigError as error:
                problems.append(
                    CohortConfigError(error.problem, fix=error.fix, field=error.field or str(kind))
                )
        if problems:
            raise one_or_all(problems)
        return {"chain": tuple(chain)}

    @model_serializer
    def _write(self) -> dict[str, Any]:
        return {
            one.kind: one.column if one.label is None else {"label": one.label, "name": one.column}
            for one in self
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        column = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
        alias = {
            "type": "object",
            "properties": {"label": {"type": "string", "pattern": r"\S"}, "name": column},
            "required": ["label", "name"],
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "title": "Identifiers",
            "description": "Columns that name the user; the first that is not null in a row wins.",
            "properties": {kind: alias if kind == "user_alias" else column for kind in KINDS},
            "minProperties": 1,
            "additionalProperties": False,
        }

    @property
    def kinds(self) -> tuple[IdentifierKind, ...]:
        """The kinds in the order they are tried."""
        return tuple(one.kind for one in self.chain)

    def __iter__(self) -> Iterator[Identifier]:  # type: ignore[override]  # pydantic's own yields (field, value)
        return iter(self.chain)

    def __len__(self) -> int:
        return len(self.chain)

    def __getitem__(self, index: int) -> Identifier:
        return self.chain[index]


def _identifier(kind: Any, value: Any) -> Identifier:
    if kind not in KINDS:
        raise unknown_key(str(kind), KINDS)
    if kind != "user_alias":
        return Identifier(kind, parse_column(value))
    if not isinstance(value, Mapping) or set(value) != {"label", "name"}:
        raise CohortConfigError(
            f"{show(value)} does not name an alias", fix="write {label: the alias label, name: THE_COLUMN}"
        )
    label = value["label"]
    if not isinstance(label, str) or not label.strip():
        raise CohortConfigError(
            f"{show(label)} is not an alias label", fix="write the label as text", field="user_alias.label"
        )
    try:
        column = parse_column(value["name"])
    except CohortConfigError as error:
        raise CohortConfigError(error.problem, fix=error.fix, field="user_alias.name") from None
    return Identifier(kind, column, label)
