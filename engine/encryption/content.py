"""What of commands is content, and is encrypted: all that the caller's graph reads, keeps and says.

Plain stay ids, types, statuses, times, sizes, names (of nodes, channels, the fields of objects), metadata, which
searches filter on, and what says how a run is to be executed (stream modes, webhook, durability). Deciders and
projections need no more, so they have no keys.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from dataclasses import replace
from typing import Any

import orjson

from threadlog.engine.compression.codec import pack_value
from threadlog.engine.domain.commands import (
    AnswerRequest,
    Command,
    CreateAssistant,
    CreateCron,
    CreateRun,
    CreateThread,
    ImportCheckpoints,
    UpdateAssistant,
    UpdateCron,
    UpdateState,
    UpdateThread,
    WriteItems,
)
from threadlog.engine.domain.text import text_to_data
from threadlog.engine.domain.thread import ERROR_LIMIT
from threadlog.engine.encryption.cipher import DataKey, has_token
from threadlog.engine.encryption.field_cipher import has_field_token

JsonObject = dict[str, Any]
_OF_RUN = ("input", "command", "config", "context")
_OF_UPDATE = ("values", "command")
_OF_CRON = (*_OF_RUN, "caller")
_CANT_BE_SENT = "a text that begins with {} stands for an encrypted value, and can't be sent"
CANT_BE_STORED = _CANT_BE_SENT.format("~encj1:")


def has_content(command: Command) -> str | None:
    """The aggregate whose key encrypts the command; None if there is nothing in it to be encrypted."""
    match command:
        case CreateRun() | UpdateState() | ImportCheckpoints():
            return command.thread_id
        case CreateThread() if command.interrupts or command.error:
            return command.thread_id
        case CreateCron() | UpdateCron() if command.payload:
            return command.cron_id
        case AnswerRequest() if command.body is not None:
            return command.thread_id
    return None


def is_token(text: str) -> bool:
    """Whether this is what stands in the place of an encrypted value."""
    return has_token(orjson.dumps(text))


def reserved(command: Command) -> str | None:
    """Why a command can't be encrypted: a text of its plain part looks like one that is. None: it can."""
    plain: Any = None
    match command:
        case CreateRun():
            plain = _rest(command.run.get("kwargs"), _OF_RUN)
        case CreateCron() | UpdateCron():
            plain = _rest(command.payload, _OF_CRON)
    if plain and has_token(orjson.dumps(plain)):
        return _CANT_BE_SENT.format("~enc1:")
    return CANT_BE_STORED if has_field_token(orjson.dumps(readable(command))) else None


def readable(command: Command) -> Any:
    """What of a command is stored readable but for its encrypted fields (`engine.encryption.fields`)."""
    match command:
        case CreateRun():
            return [command.run.get("metadata"), command.create_thread, command.thread_config]
        case CreateAssistant() | UpdateAssistant():
            return [command.metadata, command.config, command.context]
        case CreateThread():
            return [command.metadata, command.config]
        case UpdateThread():
            return command.metadata
        case UpdateState():
            return [command.metadata, command.config.get("metadata")]
        case CreateCron() | UpdateCron():
            return [command.metadata, _rest(command.payload, _OF_CRON)]
        case ImportCheckpoints():
            return [item.get("metadata") for item in command.items]
        case WriteItems():
            return [op.get("value") for op in command.ops if isinstance(op, dict)]
    return None


def sealed(command: Command, key: DataKey) -> Command:
    """The command with its content encrypted."""
    match command:
        case CreateRun():
            return replace(command, run={**command.run, "kwargs": _fields(command.run.get("kwargs"), _OF_RUN, key)})
        case UpdateState():
            steps = [
                {**step, "updates": [_fields(update, _OF_UPDATE, key) for update in step.get("updates") or ()]}
                for step in command.supersteps
            ]
            config = {**command.config}
            if "configurable" in config:
                config["configurable"] = key.token(config["configurable"])
            return replace(command, supersteps=steps, config=config)
        case ImportCheckpoints():
            return replace(command, items=[sealed_item(item, key) for item in command.items])
        case CreateCron() | UpdateCron():
            return replace(command, payload=_fields(command.payload, _OF_CRON, key))
        case CreateThread():
            error = None if command.error is None else sealed_error(command.error, key)
            return replace(command, interrupts=sealed_interrupts(command.interrupts, key), error=error)
        case AnswerRequest():
            return replace(command, body=key.token(command.body))
    return command


def sealed_item(item: JsonObject, key: DataKey) -> JsonObject:
    """An item of a report, or of an import, with its values encrypted."""
    out = dict(item)
    if channels := item.get("channels"):
        out["channels"] = {name: _reference(ref, key) for name, ref in channels.items()}
    if writes := item.get("writes"):
        out["writes"] = [[idx, channel, _reference(ref, key)] for idx, channel, ref in writes]
    if shown := item.get("shown"):
        out["shown"] = {when: {name: _reference(ref, key) for name, ref in of.items()} for when, of in shown.items()}
    if blobs := item.get("blobs"):
        out["blobs"] = [_blob(blob, key) for blob in blobs]
    return out


def sealed_outcome(outcome: JsonObject, key: DataKey) -> JsonObject:
    """The outcome of a report, with what its run asks and its error's message encrypted."""
    out = dict(outcome)
    if interrupts := outcome.get("interrupts"):
        out["interrupts"] = sealed_interrupts(interrupts, key)
    if error := outcome.get("error"):
        out["error"] = sealed_error(error, key)
    if result := outcome.get("result"):  # of a state update: where the thread stands, and its `configurable`
        out["result"] = {**result, "configurable": key.token(result.get("configurable"))}
    return out


def sealed_interrupts(interrupts: JsonObject, key: DataKey) -> JsonObject:
    return {
        task: [{name: value if name == "id" else key.token(value) for name, value in asked.items()} for asked in of]
        for task, of in interrupts.items()
    }


def sealed_error(error: JsonObject, key: DataKey) -> JsonObject:
    """With its message, as long as a thread keeps it: the decider can't shorten it any more."""
    message = error.get("message")
    if not isinstance(message, str) or not message:
        return error
    short = message if len(message) <= ERROR_LIMIT else f"{message[:ERROR_LIMIT]}…"
    return {**error, "message": key.token(short)}


def _rest(holder: Any, names: tuple[str, ...]) -> Any:
    return {name: value for name, value in holder.items() if name not in names} if isinstance(holder, dict) else None


def _fields(holder: Any, names: tuple[str, ...], key: DataKey) -> Any:
    if not isinstance(holder, dict):
        return holder
    return {name: key.token(value) if name in names and value is not None else value for name, value in holder.items()}


def _reference(ref: JsonObject, key: DataKey) -> JsonObject:
    """A value's reference: small values stand in it, larger ones have names."""
    if (data := ref.get("b")) is not None:
        return {**ref, "b": key.token(data)}
    if (fields := ref.get("d")) is not None:
        return {"d": {name: _reference(of_field, key) for name, of_field in fields.items()}}
    return ref


def _blob(blob: JsonObject, key: DataKey) -> JsonObject:
    if "at" in blob:  # in the topic `values`, encrypted there
        return blob
    if "d" in blob:
        type_, data = pack_value(blob["t"], text_to_data(blob["d"]))
    else:
        type_, data = blob["t"], a2b_base64(blob["b"])
    return {"h": blob["h"], "t": type_, "b": b64encode(key.seal(data)).decode("ascii")}
