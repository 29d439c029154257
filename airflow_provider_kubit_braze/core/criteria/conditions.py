"""What can be asked of a user: what they did, how often, how much, when first and last; and all, any and not of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from airflow_provider_kubit_braze.core.criteria.bounds import Amount, CountField, Window
from airflow_provider_kubit_braze.core.criteria.where import ColumnField, EventsField, WhereField
from airflow_provider_kubit_braze.core.criteria.written import Written
from airflow_provider_kubit_braze.core.identifiers import TableField
from airflow_provider_kubit_braze.core.part import each, nearest, one_or_all, placed, show
from airflow_provider_kubit_braze.exceptions import CohortConfigError


class Rows(Written):
    """Which rows a condition looks at.

    :param where: what is asked of a row's columns.
    :param from_: written ``from``: another table than the criteria's.
    :param user: its column of users; by default called as in the criteria's table.
    :param event: its column of event names; by default called as in the criteria's table.
    :param time: its column of times; by default called as in the criteria's table.
    """

    where: WhereField | None = Field(
        default=None, description="Only rows like this.", examples=[{"COUNTRY": ["US", "CA"]}]
    )
    from_: TableField | None = Field(default=None, alias="from", description="Another table.")
    user: ColumnField | None = Field(default=None, description="The other table's column of users.")
    event: ColumnField | None = Field(default=None, description="The other table's column of event names.")
    time: ColumnField | None = Field(default=None, description="The other table's column of times.")


class Did(Rows, Window):
    """The user did something, once or more unless a number says otherwise.

    :param did: the event, or several of which any will do; ``*`` for any row.
    :param at_least: so many times or more.
    :param at_most: so many times or fewer, which is also true of those who never did.
    :param exactly: so many times.
    """

    did: EventsField = Field(
        description="The event, or a list of events; '*' for any row.", examples=["purchase"]
    )
    at_least: CountField | None = Field(default=None, description="So many times or more; default 1.")
    at_most: CountField | None = Field(default=None, description="So many times or fewer, or never.")
    exactly: CountField | None = Field(default=None, description="So many times.")

    @model_validator(mode="after")
    def _the_number_is_possible(self) -> Did:
        if self.exactly is not None and (self.at_least is not None or self.at_most is not None):
            raise CohortConfigError(
                "exactly stands beside another number",
                fix="keep exactly, or at_least and at_most",
                field="exactly",
            )
        if self.at_least == 0:
            raise CohortConfigError(
                "everybody did it 0 times or more", fix="write 1 or more, or remove the key", field="at_least"
            )
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise CohortConfigError(
                f"nobody did it at least {self.at_least} and at most {self.at_most} times",
                fix="write the smaller number at at_least",
                field="at_most",
            )
        return self


class Ever(Rows):
    """The user did something at any time.

    :param ever: the event, or several of which any will do; ``*`` for any row.
    """

    ever: EventsField = Field(description="The event, or a list of events.", examples=["install"])


class Never(Rows, Window):
    """The user did not do something: not at all, or not in the time given.

    :param never: the event, or several of which none may be; ``*`` for any row.
    """

    never: EventsField = Field(description="The event, or a list of events.", examples=["purchase"])


class Has(Rows, Window):
    """The user has a row like this: a property of theirs, in a table of users."""

    model_config = ConfigDict(json_schema_extra={"required": ["where"]})


class SumOf(Rows, Window, Amount):
    """The sum of a column over the user's rows; without rows or values it is 0.

    :param column: the column to sum.
    :param did: only rows of this event, or of one of these; any row by default.
    """

    column: ColumnField = Field(description="The column to sum.", examples=["AMOUNT"])
    did: EventsField = Field(default=("*",), description="Only rows of this event; any row by default.")

    @model_validator(mode="after")
    def _a_limit_is_given(self) -> SumOf:
        if not self.has_limit:
            raise CohortConfigError(
                "the sum is compared with nothing",
                fix="add over, at_least, under or at_most, such as over: 100",
            )
        return self


class Sum(Written):
    """The sum of a column over the user's rows is large or small enough.

    :param sum: what is summed, and the limit.
    """

    sum: SumOf = Field(
        description="What is summed, and the limit.", examples=[{"column": "AMOUNT", "over": 100}]
    )


class TimeOf(Rows, Window):
    """The first or the last time the user did something.

    :param did: the event, or several of which the first or last counts; any row by default.
    """

    did: EventsField = Field(
        default=("*",), description="The event, or a list of events; any row by default."
    )

    @model_validator(mode="after")
    def _a_window_is_given(self) -> TimeOf:
        if not self.has_window:
            raise CohortConfigError(
                "the time is compared with nothing", fix="add within, since or before, such as within: 7d"
            )
        return self


class First(Written):
    """The user did something, and for the first time when it says.

    :param first: what was done, and when for the first time.
    """

    first: TimeOf = Field(
        description="What was done, and when for the first time.",
        examples=[{"did": "install", "within": "7d"}],
    )


class Last(Written):
    """The user did something, and for the last time when it says.

    :param last: what was done, and when for the last time.
    """

    last: TimeOf = Field(
        description="What was done, and when for the last time.", examples=[{"did": "open", "before": "30d"}]
    )


class AllOf(Written):
    """All of these are true of the user.

    :param all: the conditions.
    """

    all: Conditions = Field(description="All of these.", json_schema_extra={"minItems": 1})


class AnyOf(Written):
    """At least one of these is true of the user.

    :param any: the conditions.
    """

    any: Conditions = Field(description="At least one of these.", json_schema_extra={"minItems": 1})


class Not(Written):
    """Something is not true of the user.

    :param not_: written ``not``: the condition.
    """

    not_: Condition = Field(alias="not", description="Not this.")


_KINDS: dict[str, type[Written]] = {
    "all": AllOf,
    "any": AnyOf,
    "not": Not,
    "did": Did,
    "ever": Ever,
    "never": Never,
    "sum": Sum,
    "first": First,
    "last": Last,
}
_WRAPPED = ("sum", "first", "last")
_GROUPS = ("all", "any", "not")
_OTHER_WORDS = {"and": "all", "or": "any", "none": "not"}

Leaf = Did | Ever | Never | Has | Sum | First | Last


def read_condition(value: object) -> Any:
    """Build one condition of what was written.

    :param value: a mapping from YAML or given in Python, or a condition.
    :raises CohortConfigError: when it is not exactly one condition.
    """
    if isinstance(value, (*_KINDS.values(), Has)):
        return value
    if not isinstance(value, Mapping):
        raise CohortConfigError(
            f"{show(value)} is not a condition",
            fix="write a mapping such as {did: purchase, within: 90d}",
        )
    written = {str(key): one for key, one in value.items() if one is not None}
    kinds = [kind for kind in _KINDS if kind in written]
    if not kinds and "where" in written:
        if number := [key for key in written if key in ("at_least", "at_most", "exactly")]:
            raise CohortConfigError(
                f"{number[0]} counts rows of no event", fix="add did: '*' for any row", field=number[0]
            )
        return Has(**written)
    if not kinds:
        raise _no_kind(value, written)
    if len(kinds) > 1:
        raise CohortConfigError(
            f"{' and '.join(kinds)} stand in one condition",
            fix="write a condition of its own for each, under all or any",
        )
    (kind,) = kinds
    _refuse_neighbours(kind, written)
    return _KINDS[kind](**written)


def _no_kind(value: object, written: Mapping[str, Any]) -> CohortConfigError:
    for key in written:
        if guess := _OTHER_WORDS.get(key.lower()) or nearest(key, [*_KINDS, "where"]):
            return CohortConfigError(f"unknown key {key!r}", fix=f"write {guess!r} or remove it", field=key)
    return CohortConfigError(
        f"{show(value)} asks nothing of a user",
        fix=f"add one of {', '.join(_KINDS)} or where, such as did: purchase",
    )


def _refuse_neighbours(kind: str, written: Mapping[str, Any]) -> None:
    """Refuse keys that are right elsewhere, and say where."""
    others = [key for key in written if key != kind]
    if kind == "ever" and (timed := [key for key in others if key in Window.model_fields]):
        raise CohortConfigError(
            f"{timed[0]} limits what ever does not", fix="write did instead of ever", field=timed[0]
        )
    if "after" in others and kind not in (*_GROUPS, *_WRAPPED):
        raise CohortConfigError(
            "unknown key 'after'", fix="write since, which takes in the day itself", field="after"
        )
    if others and (kind in _GROUPS or kind in _WRAPPED):
        fix = f"move it into {kind}" if kind in _WRAPPED else "write it in the conditions inside"
        raise CohortConfigError(f"{others[0]} stands beside {kind}", fix=fix, field=others[0])


def read_conditions(value: object) -> tuple[Any, ...]:
    """Build the conditions of a list; a problem is placed at its condition's number, counted from 1.

    :param value: a list from YAML or given in Python.
    :raises CohortConfigError: when it is no list, is empty, or holds something else.
    """
    if not isinstance(value, list | tuple):
        raise CohortConfigError(
            f"{show(value)} is not a list", fix="write a list of conditions, each after a dash"
        )
    if not value:
        raise CohortConfigError("there is no condition in the list", fix="write at least one")
    found: list[Any] = []
    problems: list[CohortConfigError] = []
    for number, item in enumerate(value, 1):
        try:
            found.append(read_condition(item))
        except CohortConfigError as error:
            problems.extend(placed(problem, under=str(number)) for problem in each(error))
    if problems:
        raise one_or_all(problems)
    return tuple(found)


Condition = Annotated[
    AllOf | AnyOf | Not | Did | Ever | Never | Has | Sum | First | Last, BeforeValidator(read_condition)
]
"""One condition as a field."""

Conditions = Annotated[tuple[Condition, ...], BeforeValidator(read_conditions)]
"""Several conditions as a field."""

for _part in (AllOf, AnyOf, Not):
    _part.model_rebuild()
