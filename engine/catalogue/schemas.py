"""JSON Schemas of the commands and events, made from their dataclasses."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from threadlog.engine.catalogue.meanings import MEANINGS
from threadlog.engine.domain.commands import Command
from threadlog.engine.domain.events import Event
from threadlog.engine.domain.wire import IDS, LONG, TIMES

Message = type[Command] | type[Event]
Schema = dict[str, Any]

_PLAIN: dict[Any, str] = {str: "string", bool: "boolean", dict: "object", list: "array", NoneType: "null"}


def schema_of(kind: Message) -> Schema:
    """The JSON Schema of an event as it is in an event record, or of a command's `body`.

    Fields that equal their default may be left out. Others than these may be there: a later version's.
    """
    properties: Schema = {"type": {"const": kind.type}} if issubclass(kind, Event) else {}
    for field, shape in _shapes(kind):
        properties[field.name] = {**shape, "description": meaning_of(kind, field.name), **_default(field)}
    schema: Schema = {"title": kind.__name__, "type": "object", "properties": properties}
    if text := text_of(kind):
        schema["description"] = text
    if required := [*(("type",) if issubclass(kind, Event) else ()), *_required(kind)]:
        schema["required"] = required
    return schema | {"x-version": kind.schema_version}


def fingerprint_of(kind: Message) -> Schema:
    """What a version of a message promises: its fields, their types, which may be missing. Its words may change."""
    return {"fields": {field.name: shape for field, shape in _shapes(kind)}, "required": _required(kind)}


def meaning_of(kind: Message, name: str) -> str:
    """What a field of the message means, in words."""
    return MEANINGS.get(f"{kind.type}.{name}") or MEANINGS[name]


def text_of(kind: Message) -> str:
    """The docstring of the class; "" where there is only what dataclasses write."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return "" if text.startswith(f"{kind.__name__}(") else text


def _shapes(kind: Message) -> list[tuple[Field[Any], Schema]]:
    hints = get_type_hints(kind)
    return [(field, _shape(field.name, hints[field.name])) for field in fields(kind)]


def _shape(name: str, hint: Any) -> Schema:
    """What `engine.domain.wire.check_fields` lets through."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if Any in options:
        return {}
    values: list[Any] = [v for option in options if get_origin(option) is Literal for v in get_args(option)]
    if values:
        return {"enum": [*values, None] if NoneType in options else values}
    types = ["integer" if option is int else _PLAIN[get_origin(option) or option] for option in options]
    shape: Schema = {"type": types[0] if len(types) == 1 else types}
    if name in IDS:
        shape["format"] = "uuid"
    elif name in TIMES:
        shape["format"] = "date-time"
    elif int in options:
        bits = 64 if name in LONG else 32
        shape |= {"minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}
    for option in options:
        if get_origin(option) is list and (item := _shape("", get_args(option)[0])):
            shape["items"] = item
    return shape


def _default(field: Field[Any]) -> Schema:
    if field.default is not MISSING:
        return {"default": field.default}
    return {} if field.default_factory is MISSING else {"default": field.default_factory()}


def _required(kind: Message) -> list[str]:
    return [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
