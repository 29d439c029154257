"""What the parts of criteria share: keys that are Python's own words, and writing back what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, model_serializer

from airflow_provider_kubit_braze.core.part import Part

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler


class Written(Part):
    """A part whose keys may be Python's own words, such as ``from``; it is written without its defaults."""

    model_config = ConfigDict(populate_by_name=True)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = handler(self)
        found = {}
        for name, field in type(self).model_fields.items():
            if getattr(self, name) != field.default:
                key = field.alias or name
                found[key] = written[key] if key in written else written[name]
        return found
