"""Fields that take any installed component of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from ..component import ComponentConfig
from ..kinds import KINDS
from ..plugins import registry

__all__ = ["Installed"]


@dataclass(frozen=True)
class Installed:
    """Annotation of a field that takes any installed component of one kind.

    ``prior: Annotated[PriorConfig, Installed("prior")]`` accepts a mapping whose ``type`` names an installed prior
    (the bare type name for ``shorthand``), or a config instance. The union is looked up when a value is validated,
    so components of every plugin may nest in those of any other.

    Args:
        kind: A key of :data:`KINDS`.
        number: For schedules: the type that a bare number stands for.
    """

    kind: str
    number: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.resolve,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"x-uncollapse-kind": self.kind, **({"x-number": True} if self.number else {})}

    def resolve(self, value: Any) -> ComponentConfig:
        """Return the config that ``value`` stands for; the error names what is allowed and the near match."""
        if isinstance(value, KINDS[self.kind]):
            return value
        if self.number is not None and isinstance(value, int | float) and not isinstance(value, bool):
            value = {"type": self.number, "value": value}
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, dict):
            known = ", ".join(registry().names(self.kind))
            raise PydanticCustomError(
                "component_expected",
                "expected a mapping with 'type' (one of: {known}), found {found}",
                {"known": known, "found": f"{value!r} ({type(value).__name__})"},
            )
        name = value.get("type")
        if name is None:
            known = ", ".join(registry().names(self.kind))
            raise PydanticCustomError("component_type_missing", "'type' is missing; allowed: {known}", {"known": known})
        found = registry().find(self.kind, name) if isinstance(name, str) else None
        if found is None:
            raise PydanticCustomError("component_unknown", "{why}", {"why": registry().unknown(self.kind, name)})
        return found.model_validate(value)
