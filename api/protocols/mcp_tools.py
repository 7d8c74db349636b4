"""Tools of MCP: the names of assistants as tools', and the schemas of graphs' inputs as those of arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

NAME_CHARACTERS = 128
_MESSAGES = {"type": "string", "title": "Messages", "description": "The user message to send to the agent."}
_REF = "#/$defs/"


def tool_name(name: str) -> str:
    """The name of an assistant as a tool's: letters, digits, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:NAME_CHARACTERS] or "_"


def add_tools(named: dict[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Add assistants by the names of their tools, each of which is another: the first of several with one name has it
    as it is, those after it with the end of their id, which stays the same when others come or go."""
    for row in rows:
        name = tool_name(row["name"])
        if name in named:
            suffix = str(row["assistant_id"])[-12:]
            name = f"{name[: NAME_CHARACTERS - len(suffix) - 1]}_{suffix}"
        named.setdefault(name, row)


def tool_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, for a graph with this schema of its input.

    Arguments are an object: any other input is in `input`. `messages` is the text of the user, as on LangGraph Server:
    the schema of LangChain's messages has some 20 kB, which a model would have to read for each tool.
    """
    if schema.get("type") != "object":
        wrapped = {"properties": {"input": schema}, "required": ["input"]} if schema else {}
        return {"type": "object", **wrapped}
    if not _takes_messages(schema):
        return dict(schema)
    made = {**schema, "properties": {**schema["properties"], "messages": _MESSAGES}}
    definitions = made.pop("$defs", {})
    used: dict[str, Any] = {}
    pending = [made]
    while pending:
        for name in _names_in(pending.pop()):
            if name in definitions and name not in used:
                used[name] = definitions[name]
                pending.append(definitions[name])
    return {**made, "$defs": used} if used else made


def tool_input(arguments: dict[str, Any], schema: Mapping[str, Any]) -> Any:
    """The input of a graph with this schema, for a call with these arguments."""
    if schema and schema.get("type") not in (None, "object"):
        return arguments.get("input")
    text = arguments.get("messages")
    if isinstance(text, str) and _takes_messages(schema):
        return {**arguments, "messages": [{"role": "user", "content": text}]}
    return arguments


def _takes_messages(schema: Mapping[str, Any]) -> bool:
    """Whether `messages` of the input is a list of LangChain's messages."""
    messages = (schema.get("properties") or {}).get("messages")
    return isinstance(messages, dict) and messages.get("type") == "array" and "HumanMessage" in schema.get("$defs", {})


def _names_in(schema: Any) -> set[str]:
    """The definitions that a schema refers to."""
    if isinstance(schema, dict):
        ref = schema.get("$ref")
        own = {ref.removeprefix(_REF)} if isinstance(ref, str) and ref.startswith(_REF) else set()
        return own.union(*(_names_in(part) for part in schema.values()))
    return set().union(*(_names_in(part) for part in schema)) if isinstance(schema, list) else set()
