"""Commands and events as plain JSON objects and back. Pure: the caller turns objects into bytes."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar

from engine.domain.commands import COMMANDS, Command
from engine.domain.events import EVENTS, Event

T = TypeVar("T", bound=Command | Event)

_DEFAULTS: dict[type, list[tuple[str, Any]]] = {}
_NO_DEFAULT = object()


def _defaults(kind: type) -> list[tuple[str, Any]]:
    known = _DEFAULTS.get(kind)
    if known is None:
        known = []
        for f in fields(kind):
            if f.default is not MISSING:
                known.append((f.name, f.default))
            elif f.default_factory is not MISSING:
                known.append((f.name, f.default_factory()))
            else:
                known.append((f.name, _NO_DEFAULT))
        _DEFAULTS[kind] = known
    return known


def to_body(message: Command | Event) -> dict[str, Any]:
    """The message's fields as a JSON object; fields that equal their default are left out."""
    body = {}
    for name, default in _defaults(type(message)):
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
    known = {name for name, _ in _defaults(kind)}
    return kind(**{k: v for k, v in wire.items() if k in known})


def command_from_wire(type_: str, body: dict[str, Any]) -> Command:
    """The command of an envelope's type and body.

    Raises:
        KeyError: the type is unknown.
    """
    kind = COMMANDS[type_]
    known = {name for name, _ in _defaults(kind)}
    return kind(**{k: v for k, v in body.items() if k in known})
