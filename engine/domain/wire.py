"""Commands and events as plain JSON objects and back. Pure: the caller turns objects into bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from engine.domain.commands import COMMANDS, Command
from engine.domain.events import EVENTS, Event

Message = Command | Event
_NO_DEFAULT = object()
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_IDS = frozenset({"thread_id", "run_id", "job_id", "assistant_id"})


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of a message class: its fields with their defaults, and a check per field."""

    defaults: tuple[tuple[str, Any], ...]
    names: frozenset[str]
    checks: tuple[tuple[str, Callable[[Any], bool], str], ...]


_SHAPES: dict[type, _Shape] = {}


def _check_of(name: str, hint: Any) -> tuple[Callable[[Any], bool], str] | None:
    """The test a field's value has to pass, and what it is called in the refusal."""
    if hint is Any:
        return None
    options = get_args(hint) if get_origin(hint) in (Union, type(int | None)) else (hint,)
    if Any in options:
        return None
    optional = type(None) in options
    kinds: tuple[type, ...] = ()
    literals: tuple[Any, ...] = ()
    for option in options:
        if get_origin(option) is Literal:
            literals += get_args(option)
        elif option is not type(None):
            kinds += (get_origin(option) or option,)
    if literals:
        return (lambda v: v in literals or (optional and v is None)), f"one of {', '.join(map(str, literals))}"
    if name in _IDS and kinds == (str,):
        return (lambda v: (isinstance(v, str) and _UUID(v) is not None) or (optional and v is None)), "a UUID"
    if kinds == (int,):
        return (lambda v: type(v) is int or (optional and v is None)), "an integer"
    called = {str: "a string", dict: "an object", list: "a list", bool: "a boolean"}[kinds[0]]
    accepted = (*kinds, type(None)) if optional else kinds
    return (lambda v: isinstance(v, accepted)), called


def _shape(kind: type) -> _Shape:
    known = _SHAPES.get(kind)
    if known is None:
        hints = get_type_hints(kind)
        defaults: list[tuple[str, Any]] = []
        checks: list[tuple[str, Callable[[Any], bool], str]] = []
        for f in fields(kind):
            if f.default is not MISSING:
                defaults.append((f.name, f.default))
            elif f.default_factory is not MISSING:
                defaults.append((f.name, f.default_factory()))
            else:
                defaults.append((f.name, _NO_DEFAULT))
            check = _check_of(f.name, hints[f.name])
            if check is not None:
                checks.append((f.name, *check))
        known = _Shape(tuple(defaults), frozenset(name for name, _ in defaults), tuple(checks))
        _SHAPES[kind] = known
    return known


def check(message: Message) -> None:
    """Raise ValueError, naming the field, when a field has not the declared type or an id is not a UUID.

    What passes here the read models can store; one record they cannot store would hold up its partition for ever.
    """
    for name, holds, called in _shape(type(message)).checks:
        if not holds(getattr(message, name)):
            raise ValueError(f"{message.type}: `{name}` must be {called}")


def to_body(message: Message) -> dict[str, Any]:
    """The message's fields as a JSON object; fields that equal their default are left out."""
    body = {}
    for name, default in _shape(type(message)).defaults:
        value = getattr(message, name)
        if default is _NO_DEFAULT or value != default:
            body[name] = value
    return body


def event_to_wire(event: Event) -> dict[str, Any]:
    """`{"type": …, …fields}`."""
    return {"type": event.type, **to_body(event)}


def event_from_wire(wire: dict[str, Any]) -> Event:
    """The event of a wire object; fields this version does not know are ignored.

    Raises:
        KeyError: the type is unknown. The engine treats that as an error, derived streams skip the event.
    """
    kind = EVENTS[wire["type"]]
    known = _shape(kind).names
    return kind(**{k: v for k, v in wire.items() if k in known})


def command_from_wire(type_: str, body: dict[str, Any]) -> Command:
    """The command of an envelope's type and body, its fields checked.

    Raises:
        KeyError: the type is unknown.
        TypeError: a field without a default is missing.
        ValueError: a field has the wrong type; the message names it.
    """
    kind = COMMANDS[type_]
    known = _shape(kind).names
    command = kind(**{k: v for k, v in body.items() if k in known})
    check(command)
    return command
