"""The JSON Schema of a cohort file, derived from the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

_DRAFT = "https://json-schema.org/draft/2020-12/schema"

_CONDITIONS = ("required", "oneOf", "allOf", "minProperties")
"""What a part may leave to the other half when defaults and cohort are merged."""


def file_schema(cohort: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a file that holds one cohort, or a list of cohorts with or without defaults.

    Where there are defaults, neither they nor the cohorts need to be complete: only their union is.

    :param cohort: the model of a cohort.
    """
    whole = cohort.model_json_schema(ref_template="#/$defs/{model}")
    parts: dict[str, Any] = whole.pop("$defs", {})
    parts[cohort.__name__] = whole
    for schema in parts.values():  # a docstring's first paragraph is for editors, its :param: lines are not
        schema["description"] = schema["description"].partition("\n\n")[0]
    partial = {f"Partial{name}": _partial(schema) for name, schema in parts.items()}
    one = {"$ref": f"#/$defs/{cohort.__name__}"}
    some = {"$ref": f"#/$defs/Partial{cohort.__name__}"}
    return {
        "$schema": _DRAFT,
        "title": "Cohort file",
        "description": "One cohort, or a list under cohorts with or without defaults.",
        "type": "object",
        "if": {"anyOf": [{"required": ["cohorts"]}, {"required": ["defaults"]}]},
        "then": {
            "required": ["cohorts"],
            "properties": {"defaults": some, "cohorts": {"type": "array", "minItems": 1}},
            "additionalProperties": False,
            "if": {"required": ["defaults"]},
            "then": {"properties": {"cohorts": {"items": {"allOf": [some, {"required": ["id"]}]}}}},
            "else": {"properties": {"cohorts": {"items": one}}},
        },
        "else": one,
        "$defs": {**parts, **partial},
    }


def _partial(schema: Any) -> Any:
    """Copy the schema of a part without what makes it complete, pointing at the other partial ones."""
    if isinstance(schema, list):
        return [_partial(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {}
    for key, value in schema.items():
        if key in _CONDITIONS and "properties" in schema:
            continue
        if key == "$ref":
            copy[key] = value.replace("#/$defs/", "#/$defs/Partial")
        else:
            copy[key] = _partial(value)
    return copy
