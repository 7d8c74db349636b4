"""The two versions of A2A's objects. They are made as 0.3 has them, and translated for clients of 1.0.

0.3: https://a2a-protocol.org/v0.3.0/specification; 1.0: https://a2a-protocol.org/v1.0.0/specification, whose JSON is
that of its protocol buffers.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_EVENTS = {"task": "task", "message": "message", "status-update": "statusUpdate", "artifact-update": "artifactUpdate"}
_STATES = {
    state: f"TASK_STATE_{state.upper().replace('-', '_')}"
    for state in ("submitted", "working", "completed", "failed", "canceled", "input-required")
}
NEVER = frozenset(("rejected", "auth-required"))
"""States of the protocol that no task has here."""
_NAMES = {f"TASK_STATE_{state.upper().replace('-', '_')}": state for state in (*_STATES, *NEVER)}
_FILE_1_0 = {"bytes": "raw", "uri": "url", "mimeType": "mediaType", "name": "filename"}


def state_named(name: Any) -> str | None:
    """The state of a filter, in the words of 0.3; None: the protocol has no such state."""
    return name if name in _STATES or name in NEVER else _NAMES.get(name)


def as_1_0(value: Any) -> Any:
    """An object of 0.3 as 1.0 has it."""
    if isinstance(value, list):
        return [as_1_0(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("kind")
    if kind == "data":  # what the application said stays as it is
        return {"data": value["data"]}
    if kind == "file":
        return {_FILE_1_0[name]: item for name, item in value["file"].items() if name in _FILE_1_0}
    made = {name: as_1_0(item) for name, item in value.items() if name not in ("kind", "final")}
    if kind == "message":
        made["role"] = f"ROLE_{str(value['role']).upper()}"
    if "state" in value and value["state"] in _STATES:
        made["state"] = _STATES[value["state"]]
    return made


def event_1_0(value: Json) -> Json:
    """A result or an item of a stream, under the name of what it is."""
    return {_EVENTS[value["kind"]]: as_1_0(value)}


def parts_0_3(parts: Any) -> list[Json] | None:
    """The parts of a message of either version, as 0.3 has them; None if they are no parts."""
    if not isinstance(parts, list) or not parts:
        return None
    known = [_part_0_3(part) for part in parts]
    return None if None in known else [part for part in known if part is not None]


def _part_0_3(part: Any) -> Json | None:
    if not isinstance(part, dict):
        return None
    if isinstance(part.get("text"), str):
        return {"kind": "text", "text": part["text"]}
    if "data" in part and part.get("kind", "data") == "data":
        return {"kind": "data", "data": part["data"]}
    file = part.get("file")
    if file is None and ("raw" in part or "url" in part):
        file = {old: part[new] for old, new in _FILE_1_0.items() if new in part}
    if not isinstance(file, dict) or not all(isinstance(item, str) for item in file.values()):
        return None
    return {"kind": "file", "file": file}
