"""Who is in a cohort, said in conditions instead of SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, model_validator

from airflow_provider_kubit_braze.core.criteria.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Conditions,
    Not,
)
from airflow_provider_kubit_braze.core.criteria.where import ColumnField, ColumnsField
from airflow_provider_kubit_braze.core.criteria.written import Written
from airflow_provider_kubit_braze.core.identifiers import TableField, stored_name
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    from datetime import datetime

MAX_DEPTH = 10
"""Deepest nesting of all, any and not: what is deeper nobody can read."""

_GROUPS = ("all", "any", "not")


class Criteria(Written):
    """Who is in a cohort: the users of a table for whom the conditions hold.

    The universe is every user who has a row in the table; ``not`` means those of them for whom something is not true.

    :param from_: written ``from``: a table of events, or of users.
    :param user: its column that tells users apart; rows without one are left out.
    :param keep: further columns to return, for identifiers; the greatest value, where a user has several.
    :param event: its column of event names.
    :param time: its column of times; what has no zone is in UTC.
    :param all: all of these conditions hold; or
    :param any: at least one of them; or
    :param not_: written ``not``: this one does not.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [group]} for group in _GROUPS]})

    from_: TableField = Field(
        alias="from", description="Table of events or of users.", examples=["DATABASE.SCHEMA.EVENTS"]
    )
    user: ColumnField = Field(description="Its column that tells users apart.", examples=["USER_ID"])
    keep: ColumnsField = Field(default=(), description="Further columns to return, for identifiers.")
    event: ColumnField = Field(default="EVENT_NAME", description="Its column of event names.")
    time: ColumnField = Field(default="EVENT_TIME", description="Its column of times.")
    all: Conditions | None = Field(
        default=None, description="All of these hold.", json_schema_extra={"minItems": 1}
    )
    any: Conditions | None = Field(
        default=None, description="At least one of these holds.", json_schema_extra={"minItems": 1}
    )
    not_: Condition | None = Field(default=None, alias="not", description="This does not hold.")

    @model_validator(mode="before")
    @classmethod
    def _it_can_be_read(cls, data: Any) -> Any:
        level = [data.get(group) for group in _GROUPS] if isinstance(data, Mapping) else []
        for _ in range(MAX_DEPTH):
            level = [inner for one in level for inner in _inside(one)]
        if level:
            raise CohortConfigError(
                f"all, any and not nest deeper than {MAX_DEPTH} levels", fix="write fewer levels"
            )
        return data

    @model_validator(mode="after")
    def _one_group_is_given(self) -> Criteria:
        given = [name for name, group in zip(_GROUPS, (self.all, self.any, self.not_), strict=True) if group]
        if not given:
            raise CohortConfigError(
                "there is no condition", fix="add one of all, any or not, such as all: [{did: purchase}]"
            )
        if len(given) > 1:
            raise CohortConfigError(
                f"{' and '.join(given)} are both given", fix="keep one of them and put the other inside it"
            )
        return self

    @property
    def condition(self) -> AllOf | AnyOf | Not:
        """The one condition that holds of the members."""
        if self.all is not None:
            return AllOf(all=self.all)
        if self.any is not None:
            return AnyOf(any=self.any)
        negated: Any = {"not": self.not_}
        return Not(**negated)

    @property
    def kept(self) -> dict[str, str]:
        """The further columns that are returned, each once: as Snowflake stores its name, and as it stands in SQL."""
        found = {stored_name(self.user): self.user}
        for column in self.keep:
            found.setdefault(stored_name(column), column)
        return dict(list(found.items())[1:])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are returned, as Snowflake stores their names."""
        return (stored_name(self.user), *self.kept)

    def sql(self, *, now: datetime | None = None) -> str:
        """Return the query that returns the members, one row for each.

        :param now: the moment that windows in time end at, in UTC unless it has a zone; by default that at which
            Snowflake runs the query.
        """
        # Most DAG files have no criteria, and are parsed without what it takes to write SQL.
        from airflow_provider_kubit_braze.core.criteria.compiler import compile_criteria

        return compile_criteria(self, now=now)


def _inside(value: Any) -> list[Any]:
    """Return what stands inside a group, written or built; nothing for all else."""
    if isinstance(value, list | tuple):
        return [inner for one in value for inner in _inside(one)]
    if isinstance(value, AllOf):
        return [value.all]
    if isinstance(value, AnyOf):
        return [value.any]
    if isinstance(value, Not):
        return [value.not_]
    if isinstance(value, Mapping):
        return [value[group] for group in _GROUPS if value.get(group) is not None]
    return []
