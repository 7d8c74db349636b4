"""Commands and events as plain JSON objects and back. Pure: the caller turns objects into bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import datetime, timedelta
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from threadlog.engine.domain.commands import COMMANDS, Command
from threadlog.engine.domain.events import EVENTS, Event
from threadlog.engine.domain.upcasting import major_of

Message = Command | Event
Test = Callable[[Any], Any]
_NO_DEFAULT = object()
_UTC = timedelta(0)
_TESTED = (str, int)
LONG = frozenset({"stream_from", "offset", "after"})
IDS = frozenset({"thread_id", "run_id", "job_id", "assistant_id", "cron_id"})
TIMES = frozenset(
    {"before", "due_at", "next_due_at", "end_time", "cron_due_at", "begun_at", "expires_at", "imported_at"}
)
_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def is_time(value: str) -> bool:
    """Whether this is an ISO-8601 time in UTC."""
    try:
        return datetime.fromisoformat(value).utcoffset() == _UTC
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Check:
    """A field's values: their types, then a test when the type is str or int, and what to call that in a refusal."""

    name: str
    types: Collection[type]
    test: Test | None
    called: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of a message class: its fields, what writes their values into an object, the checks."""

    known: frozenset[str]
    write: Callable[[Any, dict[str, Any]], dict[str, Any]]
    checks: dict[str, _Check]


_SHAPES: dict[type, _Shape] = {}


def _check_of(name: str, hint: Any) -> _Check | None:
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if Any in options:
        return None
    literals = [value for option in options if get_origin(option) is Literal for value in get_args(option)]
    if literals:
        types = {type(value) for value in literals} | {type(None) for option in options if option is type(None)}
        return _Check(name, frozenset(types), literals.__contains__, f"one of {', '.join(literals)}")
    types = {get_origin(option) or option for option in options}
    if name in IDS:
        return _Check(name, frozenset(types), _is_uuid, "a UUID")
    if name in TIMES:
        return _Check(name, frozenset(types), is_time, "a time in UTC")
    if int in types:
        bits = 64 if name in LONG else 32
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
        return _Check(name, frozenset(types), lambda value: low <= value < high, f"an integer of {bits} bits")
    called = {str: "a string", dict: "an object", list: "a list", bool: "a boolean"}
    return _Check(name, frozenset(types), None, next(called[t] for t in types if t is not type(None)))


def _shape(kind: type) -> _Shape:
    known = _SHAPES.get(kind)
    if known is None:
        hints = get_type_hints(kind)
        defaults: list[Any] = []
        checks: dict[str, _Check] = {}
        for f in fields(kind):
            if f.default is not MISSING:
                defaults.append(f.default)
            elif f.default_factory is not MISSING:
                defaults.append(f.default_factory())
            else:
                defaults.append(_NO_DEFAULT)
            check = _check_of(f.name, hints[f.name])
            if check is not None:
                checks[f.name] = check
        names = tuple(f.name for f in fields(kind))
        known = _Shape(frozenset(names), _writer(names, defaults), checks)
        _SHAPES[kind] = known
    return known


def _writer(names: Sequence[str], defaults: Sequence[Any]) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """A function `(message, into)` that adds the fields to `into` and returns it; those that equal their default are
    left out.

    Written as source, as `dataclasses` does it: a loop over the fields takes three times as long, and every event and
    command comes through here.
    """
    lines = ["def write(message, into):"]
    for n, (name, default) in enumerate(zip(names, defaults, strict=True)):
        if default is _NO_DEFAULT:
            lines.append(f"    into[{name!r}] = message.{name}")
        else:
            lines.append(f"    value = message.{name}")
            lines.append(f"    if value is not defaults[{n}] and value != defaults[{n}]: into[{name!r}] = value")
    lines.append("    return into")
    namespace: dict[str, Any] = {"defaults": tuple(defaults)}
    exec("\n".join(lines), namespace)  # nothing in it but the names of fields
    write: Callable[[Any, dict[str, Any]], dict[str, Any]] = namespace["write"]
    return write


def check_fields(kind: type[Message], values: dict[str, Any]) -> None:
    """Raise ValueError, naming the field, when a value has not the type that `kind` declares or an id is not a UUID.

    What passes here the read models can store; one record they cannot store would hold up its partition for ever.
    """
    checks = _shape(kind).checks
    for name, value in values.items():
        c = checks.get(name)
        if c is None:
            continue
        kind_of = type(value)
        if kind_of not in c.types or (c.test is not None and kind_of in _TESTED and not c.test(value)):
            raise ValueError(f"`{name}` must be {c.called}")


def to_body(message: Message) -> dict[str, Any]:
    """The message's fields as a JSON object; fields that equal their default are left out."""
    return _shape(type(message)).write(message, {})


_MAJORS = {kind.type: major for kind in EVENTS.values() if (major := major_of(kind)) > 1}


def event_to_wire(event: Event) -> dict[str, Any]:
    """`{"type": …, …fields}`, with `v`, the number before the dot of its version, if that is not 1."""
    wire = _shape(type(event)).write(event, {"type": event.type})
    if _MAJORS and (major := _MAJORS.get(event.type)) is not None:
        wire["v"] = major
    return wire


def event_from_wire(wire: dict[str, Any]) -> Event:
    """The event of a wire object; fields this version does not know are ignored.

    Raises:
        KeyError: the type is unknown. The engine treats that as an error, derived streams skip the event.
    """
    kind = EVENTS[wire["type"]]
    known = _shape(kind).known
    return kind(**{k: v for k, v in wire.items() if k in known})


def command_from_wire(type_: str, body: dict[str, Any]) -> Command:
    """The command of an envelope's type and body, its fields checked.

    Raises:
        KeyError: the type is unknown.
        TypeError: a field without a default is missing.
        ValueError: a field has the wrong type; the message names it.
    """
    kind = COMMANDS[type_]
    known = _shape(kind).known
    values = {k: v for k, v in body.items() if k in known}
    check_fields(kind, values)
    return kind(**values)
