"""The AsyncAPI 3 document: the topics of the log, and every message in them."""

from __future__ import annotations

from typing import Any

from threadlog.engine.catalogue.schemas import Message, Schema, schema_of
from threadlog.engine.domain.commands import COMMANDS
from threadlog.engine.domain.events import EVENTS, Event

_JSON = "application/json"
_TEXT: Schema = {"type": ["string", "null"]}
_OFFSET: Schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
_AT: Schema = {"type": "string", "format": "date-time", "description": "when, in UTC"}
_ACTOR = _TEXT | {"description": "who: `user:<identity>`, `server`, `engine`, `executor`; null: not told"}
_TRACE = _TEXT | {"description": "W3C traceparent, then a space and the tracestate if there is one"}

_DESCRIPTION = """\
What the topics of the log hold. `events` is for subscribers: it is kept for ever, and what is in it has happened. A
reader has to apply the acceptance rule of the announcements, and passes over event types that it does not know. The key
of a record is the aggregate's, and its partition `crc32(key) % partitions`. The topics have the prefix
THREADLOG_TOPIC_PREFIX; with the log in Postgres there are none, and `threadlog events --json` returns what is in them.

`x-version` is the version of a message: the second number counts fields that were added, each with a default. An event
whose first number is not 1 has it in its field `v`.
"""


def asyncapi(version: str, partitions: int) -> dict[str, Any]:
    """The document of this version of threadlog, over topics with so many partitions."""
    kinds: list[Message] = [*COMMANDS.values(), *EVENTS.values()]
    names = {kind: _name(kind) for kind in kinds}
    messages: dict[str, Any] = {f"command.{type_}": _command(kind, names[kind]) for type_, kind in COMMANDS.items()}
    messages |= {"eventRecord": _record([names[kind] for kind in EVENTS.values()]), "announcement": _announcement()}
    messages |= {"value": _VALUE, "frames": _FRAMES}
    in_topic: dict[str, list[str]] = {
        "commands": [f"command.{type_}" for type_ in COMMANDS],
        "events": ["eventRecord", "announcement"],
        "values": ["value"],
        "stream": ["frames"],
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "threadlog",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": _JSON,
        "channels": {topic: _channel(topic, messages, partitions) for topic, messages in in_topic.items()},
        "operations": {
            f"read_{topic}": {
                "action": "send",
                "summary": f"threadlog writes {topic}; subscribers read them",
                "channel": {"$ref": f"#/channels/{topic}"},
            }
            for topic in in_topic
        },
        "components": {
            "messages": messages,
            "schemas": {name: schema_of(kind) for kind, name in names.items()},
        },
    }


def _name(kind: Message) -> str:
    return kind.type if issubclass(kind, Event) else f"command.{kind.type}"


_ABOUT = {
    "commands": "What clients, executors and timers ask for: kept for days.",
    "events": "What the commands were decided to: kept for ever.",
    "values": "Values of channels over 32 KiB, which events name by offset: kept as the events are.",
    "stream": "Frames of runs: kept for hours, and no part of the history.",
}


def _channel(topic: str, messages: list[str], partitions: int) -> dict[str, Any]:
    return {
        "address": topic,
        "description": _ABOUT[topic],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, "partitions": partitions, "bindingVersion": "0.5.0"}},
    }


def _command(kind: Message, name: str) -> dict[str, Any]:
    payload = {
        "type": "object",
        "required": ["id", "type", "key", "at", "body"],
        "properties": {
            "id": {"type": "string", "description": "of the command: one that comes again is decided once"},
            "type": {"const": kind.type},
            "key": {"type": "string", "description": "of the aggregate"},
            "at": _AT,
            "body": {"$ref": f"#/components/schemas/{name}"},
            "actor": _ACTOR,
            "trace": _TRACE,
        },
    }
    return {"name": kind.type, "contentType": _JSON, "payload": payload, "x-version": kind.schema_version}


def _record(events: list[str]) -> dict[str, Any]:
    payload = {
        "type": "object",
        "required": ["epoch", "cmd_off", "cmd_id", "key", "at", "events"],
        "properties": {
            "epoch": _OFFSET | {"description": "term of the engine that wrote it"},
            "cmd_off": _OFFSET | {"description": "offset of the command, in the same partition of `commands`"},
            "after": {**_OFFSET, "type": ["integer", "null"]}
            | {"description": "`cmd_off` of the accepted record before it; null: not told"},
            "cmd_id": {"type": "string"},
            "key": {"type": "string", "description": "of the aggregate"},
            "at": _AT,
            "actor": _ACTOR,
            "trace": _TRACE,
            "events": {"type": "array", "items": {"anyOf": [{"$ref": f"#/components/schemas/{e}"} for e in events]}},
        },
    }
    summary = "What one command was decided to, all of it or nothing"
    return {"name": "event record", "contentType": _JSON, "summary": summary, "payload": payload}


def _announcement() -> dict[str, Any]:
    payload = {
        "type": "object",
        "required": ["epoch", "start"],
        "properties": {"epoch": _OFFSET, "start": {"const": True}},
    }
    summary = "A new term of the partition's engine: records of a lower epoch that follow count for no reader"
    return {"name": "announcement", "contentType": _JSON, "summary": summary, "payload": payload}


_VALUE = {
    "name": "value",
    "contentType": "application/zstd",
    "summary": "A serialised value of a channel, content-addressed",
    "payload": {"type": "string", "contentEncoding": "binary"},
}
_FRAMES = {
    "name": "frames",
    "contentType": "text/plain",
    "summary": "A line `{run_id, thread_id, attempt, seq}`, then per frame its name and its data, a line each",
    "payload": {"type": "string"},
}
