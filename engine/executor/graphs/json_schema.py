"""JSON Schemas of types from user code, as far as they have one.

A field that cannot be expressed (a function, a class pydantic does not know, a name that cannot be resolved) is there
without detail; it never takes the others away.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

_CONFIG = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
_QUALIFIERS = (typing.Required, typing.NotRequired, typing_extensions.ReadOnly)
Fields = Mapping[str, tuple[Any, Any]]  # type and default, `...` where it is required


class _Lenient(GenerateJsonSchema):
    """Leaves out what has no JSON Schema, where pydantic raises."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def emit_warning(self, kind: Any, detail: str) -> None:
        return


def of_type(declared: Any) -> dict[str, Any]:
    """The schema of a class or any other type.

    Raises:
        Exception: what pydantic makes of a type that is no set of fields, and has no schema.
    """
    if inspect.isclass(declared) and issubclass(declared, BaseModel):
        return declared.model_json_schema(schema_generator=_Lenient)
    name = getattr(declared, "__name__", "Schema")
    if typing_extensions.is_typeddict(declared):
        required = declared.__required_keys__
        hints = _hints(declared)
        doc = declared.__doc__
        return of_fields(name, {key: (hint, ... if key in required else None) for key, hint in hints.items()}, doc)
    if inspect.isclass(declared) and dataclasses.is_dataclass(declared):
        hints = _hints(declared)
        fields = {field.name: (hints[field.name], _default(field)) for field in dataclasses.fields(declared)}
        doc = declared.__doc__ if not str(declared.__doc__).startswith(f"{name}(") else None  # not the generated one
        return of_fields(name, fields, doc, defaults=True)
    return _without_defs_of_its_own(of_fields(name, {"it": (declared, ...)}))


def of_fields(name: str, fields: Fields, doc: str | None = None, *, defaults: bool = False) -> dict[str, Any]:
    """The schema of an object. `defaults`: whether it shows the defaults of the fields that have one."""
    usable = {key: (_unqualified(kind), default) for key, (kind, default) in fields.items()}
    try:
        schema = _schema(name, usable, doc)
    except Exception:
        known = {key: field if _expressible(field) else (Any, field[1]) for key, field in usable.items()}
        schema = _schema(name, known, doc)
    for field in schema.get("properties", {}).values():
        if not defaults and field.get("default", ...) is None:
            del field["default"]
    return schema


def _schema(name: str, fields: Fields, doc: str | None) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    for number, (key, (kind, default)) in enumerate(fields.items()):
        if key.startswith("_") or hasattr(BaseModel, key):  # no name for a field of a model
            title = key.replace("_", " ").title().strip()
            definitions[f"field_{number}_"] = (kind, _field(default, alias=key, title=title))
        else:
            definitions[key] = (kind, default if isinstance(default, FieldInfo) else _field(default))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: type[BaseModel] = create_model(name, __config__=_CONFIG, **definitions)
        model.__doc__ = doc and inspect.cleandoc(doc)
        return model.model_json_schema(schema_generator=_Lenient)


def _field(default: Any, **more: Any) -> Any:
    return Field(default, **more)


def _expressible(field: tuple[Any, Any]) -> bool:
    try:
        _schema("Probe", {"it": field}, None)
    except Exception:
        return False
    return True


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return Field(default_factory=field.default_factory)
    return ...


def _unqualified(hint: Any) -> Any:
    """Without `NotRequired` and the like, which only a TypedDict may have; LangGraph leaves them in its channels."""
    origin = typing.get_origin(hint)
    if origin in _QUALIFIERS:
        return _unqualified(typing.get_args(hint)[0])
    if origin is Annotated:
        inner, *metadata = typing.get_args(hint)
        return Annotated[(_unqualified(inner), *metadata)]
    return hint


def _hints(declared: Any) -> dict[str, Any]:
    """The types of its fields; `Any` for one that cannot be resolved."""
    try:
        return typing_extensions.get_type_hints(declared, include_extras=True)
    except Exception:
        found: dict[str, Any] = {}
        for part in reversed(declared.__mro__):
            names = vars(sys.modules.get(part.__module__, types.ModuleType("")))
            for key, hint in inspect.get_annotations(part).items():
                one = types.SimpleNamespace(__annotations__={key: hint})
                try:
                    found |= typing_extensions.get_type_hints(one, names, names, include_extras=True)
                except Exception:
                    found[key] = Any
        return found


def _without_defs_of_its_own(schema: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = schema["properties"]["it"]
    if inner.get("title") == "It":
        del inner["title"]
    return {**inner, **({"$defs": schema["$defs"]} if "$defs" in schema else {})}
