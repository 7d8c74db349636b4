"""What a command may hold at most, so that the log and the read models can store what follows from it.

The deciders' gate (`check_limits`) refuses what is beyond; the api names the same numbers in its 422s. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from threadlog.engine.domain.commands import (
    AnswerRequest,
    BeginRequest,
    Command,
    CreateAssistant,
    CreateCron,
    CreateRun,
    CreateThread,
    ExpireItems,
    RegisterGraph,
    ReportRun,
    TouchItems,
    UpdateAssistant,
    UpdateCron,
    UpdateState,
    UpdateThread,
    WriteItems,
)
from threadlog.engine.domain.expiry import check_ttl
from threadlog.engine.domain.priority import check_priority
from threadlog.engine.domain.store_limits import check_store_command, check_value_size

MESSAGE_BYTES = 256 * 1024 * 1024
"""A command, or the event record it is decided to. Postgres takes both and the row in one statement of 1 GB."""

DEPTH = 200
"""Lists and objects inside each other, in a value of a request. JSON of more than 254 levels can be read and not
written, and what is stored, streamed or listed stands a few levels deeper than in the request."""

ID_CHARACTERS = 250
"""The id of a command, which its sender makes up."""

ACTOR_CHARACTERS = 600
"""Who wants a command, as `user:<identity>` and the like; an identity has at most 500."""

INDEXED_BYTES = 2600
"""UTF-8 of a text in an index: a row of an index in Postgres has 2704 bytes, of which 100 are needed otherwise."""

METADATA_BYTES = 16 * 1024 * 1024
"""Metadata of one command, keys and strings. A jsonb value has 256 MB at most, what was merged before included."""

METADATA_KEYS = 10_000
"""Keys and list elements in the metadata of one command, at all levels: the index of metadata has an entry for each."""

WEBHOOK_CHARACTERS = 65_536
"""A webhook's URL."""

ANSWER_CHARACTERS = 256 * 1024
"""Text of a response that is kept for a request's idempotency key."""

LARGE_BYTES = 32 * 1024
"""What is no larger as a whole is within the limits of metadata, and need not be looked into."""


def check_indexed(name: str, text: str) -> None:
    """Raise ValueError, naming the field, when an index can't hold the text."""
    if len(text) * 4 > INDEXED_BYTES and len(text.encode("utf-8", "replace")) > INDEXED_BYTES:
        raise ValueError(f"`{name}` is longer than {INDEXED_BYTES} bytes")


def check_metadata(name: str, metadata: Any) -> None:
    """Raise ValueError, naming the field, when metadata has too many keys or is too large."""
    keys = size = 0
    left = [metadata]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            keys += len(value)
            left += value
            left += value.values()
        elif isinstance(value, list):
            keys += len(value)
            left += value
        elif isinstance(value, str):
            size += len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
        if keys > METADATA_KEYS:
            raise ValueError(f"`{name}` has more than {METADATA_KEYS} keys and list elements")
        if size > METADATA_BYTES:
            raise ValueError(f"`{name}` is larger than {METADATA_BYTES} bytes")


def check_limits(command: Command) -> None:
    """Raise ValueError, naming the field, when a text of the command is too long for its index, or a part of it that
    has no declared type has the wrong shape."""
    check = _INDEXED.get(type(command))
    if check is not None:
        check(command)


def check_large(command: Command) -> None:
    """The same for what only a command above `LARGE_BYTES` can break: the limits of metadata and of items."""
    if isinstance(command, WriteItems):
        for op in command.ops:
            check_value_size(op.get("value"))
    for name, metadata in _metadata_of(command):
        if metadata:
            check_metadata(name, metadata)


def _ttl(command: CreateThread | UpdateThread) -> None:
    if command.ttl is not None:
        check_ttl(command.ttl)


def _run(command: CreateRun) -> None:
    _graph(command)
    if command.thread_ttl is not None:
        check_ttl(command.thread_ttl)
    if command.priority is not None:
        check_priority(command.priority)
    kwargs = command.run.get("kwargs")
    webhook = kwargs.get("webhook") if isinstance(kwargs, dict) else None
    if isinstance(webhook, str) and len(webhook) > WEBHOOK_CHARACTERS:
        raise ValueError(f"`webhook` is longer than {WEBHOOK_CHARACTERS} characters")


def _graph(command: CreateRun | UpdateState | RegisterGraph) -> None:
    check_indexed("graph_id", command.graph_id)


def _assistant(command: CreateAssistant | UpdateAssistant) -> None:
    if command.graph_id is not None:
        check_indexed("graph_id", command.graph_id)
    if command.name is not None:
        check_indexed("name", command.name)


def _cron(command: CreateCron | UpdateCron) -> None:
    for name, text in (("schedule", command.schedule), ("timezone", command.timezone)):
        if text is not None:
            check_indexed(name, text)


def _request(command: BeginRequest | AnswerRequest) -> None:
    check_indexed("request_id", command.request_id)
    check_indexed("fingerprint", command.fingerprint)
    if isinstance(command, AnswerRequest):
        size = sum(len(str(part)) for header in command.headers.items() for part in header)
        if len(command.body or "") + size > ANSWER_CHARACTERS:
            raise ValueError(f"`body` and `headers` have more than {ANSWER_CHARACTERS} characters")


_INDEXED: dict[type[Command], Callable[[Any], None]] = {
    CreateThread: _ttl,
    UpdateThread: _ttl,
    CreateRun: _run,
    UpdateState: _graph,
    RegisterGraph: _graph,
    CreateAssistant: _assistant,
    UpdateAssistant: _assistant,
    WriteItems: check_store_command,
    TouchItems: check_store_command,
    ExpireItems: check_store_command,
    CreateCron: _cron,
    UpdateCron: _cron,
    BeginRequest: _request,
    AnswerRequest: _request,
}


def _metadata_of(command: Command) -> list[tuple[str, Any]]:
    """What becomes jsonb of this command."""
    match command:
        case CreateThread() | UpdateThread() | CreateAssistant() | UpdateAssistant() | CreateCron() | UpdateCron():
            return [("metadata", command.metadata)]
        case CreateRun():
            return [
                ("metadata", command.run.get("metadata")),
                ("metadata", command.thread_metadata),
                ("metadata", command.create_thread),
            ]
        case ReportRun():
            return [("metadata", item.get("metadata")) for item in command.items if isinstance(item, dict)]
    return []
