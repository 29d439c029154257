"""The base of every part of a cohort definition, and the one place where refusals become sentences.

Parts are frozen pydantic models. Whatever is wrong with one, built from YAML or in Python, comes out as a
:class:`CohortConfigError` that names the field, the value and the fix; no author meets pydantic's own report.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_kubit_braze.exceptions import CohortConfigError, CohortFilesError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_SHOWN = 80


class Part(BaseModel):
    """A frozen piece of a cohort definition that refuses unknown keys.

    :raises CohortConfigError: when a value is refused; several: its subclass :class:`CohortFilesError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            problems = [
                p for detail in error.errors(include_url=False) for p in _problems(type(self), detail)
            ]
            raise one_or_all(problems) from None


def show(value: object) -> str:
    """Return a value as its author would recognise it, in YAML's spelling and cut to a readable length.

    :param value: anything read from YAML or given in Python.
    """
    if isinstance(value, str):
        text = repr(value)
    elif value is None or isinstance(value, bool | int | float | list | tuple | dict):
        text = json.dumps(value, default=str, ensure_ascii=False)
    else:
        text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a misspelt one most probably stands for, or None.

    :param word: what was written.
    :param known: the words that would be right.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(word.strip().lower(), sorted(by_lower), n=1)
    return by_lower[found[0]] if found else None


def unknown_key(key: str, known: Iterable[str]) -> CohortConfigError:
    """Build the refusal of a key that does not exist at its place.

    :param key: the key as written.
    :param known: the keys that exist there.
    """
    known = list(known)
    guess = nearest(key, known)
    fix = f"write {guess!r} or remove it" if guess else f"remove it (the keys here are {', '.join(known)})"
    return CohortConfigError(f"unknown key {key!r}", fix=fix, field=key)


def one_or_all(problems: list[CohortConfigError]) -> CohortConfigError:
    """Return the only problem itself, or all of them as one exception.

    :param problems: at least one.
    """
    return problems[0] if len(problems) == 1 else CohortFilesError(problems)


def each(error: CohortConfigError) -> tuple[CohortConfigError, ...]:
    """Return the single problems an exception holds: its own, or each of a :class:`CohortFilesError`.

    :param error: what was raised.
    """
    return error.errors if isinstance(error, CohortFilesError) else (error,)


def placed(
    error: CohortConfigError, *, under: str = "", cohort: str | None = None, file: str | None = None
) -> CohortConfigError:
    """Return the same single problem with more of its place known.

    :param error: a single problem.
    :param under: dotted name of the field that holds the problem's field.
    :param cohort: the cohort's id.
    :param file: the cohort file, with a line when known.
    """
    field = ".".join(part for part in (under, error.field) if part)
    return CohortConfigError(
        error.problem,
        fix=error.fix,
        file=file or error.file,
        cohort=cohort or error.cohort,
        field=field or None,
    )


def all_of_cohort(error: CohortConfigError, cohort: object) -> CohortConfigError:
    """Return the same problems, one or several, each with the cohort that it is about.

    :param error: what was raised.
    :param cohort: the cohort's id; anything but text says nothing.
    """
    known = cohort if isinstance(cohort, str) else None
    return one_or_all([placed(one, cohort=known) for one in each(error)])


@contextmanager
def told_of(cohort: object = None, *, under: str = "") -> Iterator[None]:
    """Let the problems that are raised inside say whose they are.

    :param cohort: the cohort's id; anything but text says nothing.
    :param under: dotted name of the field that holds the problems' fields.
    :raises CohortConfigError: the same problems, with their place.
    """
    try:
        yield
    except CohortConfigError as error:
        placed_there = [placed(one, under=under) for one in each(error)]
        raise all_of_cohort(one_or_all(placed_there), cohort) from None


def has_template(text: str) -> bool:
    """Return whether a text holds a Jinja template, which means something at run time only."""
    return "{{" in text or "{%" in text


def _problems(part: type[BaseModel], detail: ErrorDetails) -> list[CohortConfigError]:
    """Turn one of pydantic's complaints into ours; list indexes are left out, the value tells the item."""
    under = ".".join(step for step in detail["loc"] if isinstance(step, str))
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, CohortConfigError):
        return [placed(problem, under=under) for problem in each(cause)]
    if detail["type"] == "extra_forbidden":
        return [unknown_key(str(detail["loc"][-1]), _fields(part))]
    problem, fix = _sentence(part, detail, under)
    return [CohortConfigError(problem, fix=fix, field=under or None)]


def _fields(part: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields by the names that authors write."""
    return {info.alias or name: info for name, info in part.model_fields.items()}


def _sentence(part: type[BaseModel], detail: ErrorDetails, name: str) -> tuple[str, str]:
    value, kind = detail["input"], detail["type"]
    if kind == "missing":
        info = _fields(part).get(name)
        example = f", for example {name}: {_inline(info.examples[0])}" if info and info.examples else ""
        return "this key is required and missing", f"add {name}{example}"
    if kind == "literal_error":
        return _not_one_of(value, str(detail.get("ctx", {}).get("expected", "")))
    if kind in _WANTED:
        wanted, fix = _WANTED[kind]
        return f"{show(value)} is not {wanted}", fix
    return f"{show(value)} is refused ({detail['msg']})", "write a value of the documented form"


def _not_one_of(value: object, expected: str) -> tuple[str, str]:
    choices = expected.replace("'", "").replace(" or ", ", ").split(", ")
    guess = nearest(value, choices) if isinstance(value, str) else None
    listed = ", ".join(choices)
    return f"{show(value)} is not one of {listed}", f"write {guess}" if guess else f"write one of {listed}"


def _inline(example: object) -> str:
    """Write an example on one line, the way YAML's flow style looks."""
    if isinstance(example, Mapping):
        return "{" + ", ".join(f"{key}: {_inline(value)}" for key, value in example.items()) + "}"
    return str(example)


_WANTED = {
    "string_type": ("text", 'write text, in quotes if it looks like something else: "..."'),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "int_type": ("a whole number", "write a whole number without quotes"),
    "greater_than_equal": ("0 or more", "write 0 or more"),
    "model_type": ("a mapping", "write keys and values below it, or remove the key to get its defaults"),
    "model_attributes_type": (
        "a mapping",
        "write keys and values below it, or remove the key to get its defaults",
    ),
}
