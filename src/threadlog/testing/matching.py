"""Comparing what a scenario expects with what happened, in words a reader of the failure understands."""

from __future__ import annotations

import pprint
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, convert_to_messages

_TYPES = frozenset({"ai", "human", "system", "tool", "function", "remove", "developer"})


def as_message(value: Any) -> Any:
    """A message where `value` is the JSON of one, as a server returns it; else `value`."""
    if isinstance(value, Mapping) and value.get("type") in _TYPES and "content" in value:
        with suppress(Exception):
            return convert_to_messages([dict(value)])[0]
    return value


def messages_in(value: Any) -> Iterable[AnyMessage]:
    """Every message in a node's update, at any place of its lists and mappings."""
    value = as_message(value)
    if isinstance(value, BaseMessage):
        yield value  # type: ignore[misc]
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from messages_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from messages_in(inner)


def matches(expected: Any, actual: Any) -> bool:
    """Whether `actual` is what is expected.

    `...` is anything; a function decides; a compiled regular expression is searched in the text; a mapping has to be
    there but may have more; of a list every item counts. A text stands for a message with this text, `call(…)`, or a
    list of them, for an AI message with these calls; a message is compared by type, text and calls.
    """
    actual = as_message(actual)
    if expected is ...:
        return True
    if isinstance(actual, BaseMessage):
        return _matches_message(expected, actual)
    if isinstance(expected, re.Pattern):
        return isinstance(actual, str) and expected.search(actual) is not None
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(
            key in actual and matches(value, actual[key]) for key, value in expected.items()
        )
    if isinstance(expected, list | tuple):
        return (
            isinstance(actual, list | tuple)
            and len(expected) == len(actual)
            and all(matches(one, other) for one, other in zip(expected, actual, strict=True))
        )
    if callable(expected) and not isinstance(expected, type):
        return bool(expected(actual))
    return bool(expected == actual)


def _matches_message(expected: Any, message: BaseMessage) -> bool:
    if isinstance(expected, str):
        return message.text == expected
    if isinstance(expected, re.Pattern):
        return expected.search(message.text) is not None
    if isinstance(expected, BaseMessage):
        same = expected.type == message.type and expected.text == message.text
        calls = getattr(expected, "tool_calls", [])
        return same and (not calls or _same_calls(calls, message))
    if isinstance(expected, Mapping):
        if expected.get("type") == "tool_call":
            return _same_calls([expected], message)
        return matches(expected, message.model_dump())
    if isinstance(expected, list | tuple):
        return _same_calls(expected, message)
    return callable(expected) and bool(expected(message))


def _same_calls(expected: Sequence[Any], message: BaseMessage) -> bool:
    actual = message.tool_calls if isinstance(message, AIMessage) else []
    return len(expected) == len(actual) and all(
        is_call(one, other) for one, other in zip(expected, actual, strict=True)
    )


def is_call(expected: Any, actual: Any) -> bool:
    """Whether a tool call is the expected one: `call(…)`, or the tool's name alone."""
    if isinstance(expected, str):
        return bool(expected == actual["name"])
    return bool(expected["name"] == actual["name"]) and matches(expected["args"], actual["args"])


def shown(value: Any) -> str:
    """In one line if it fits, else indented."""
    text = pprint.pformat(_plain(value), width=100, compact=True, sort_dicts=False)
    return text if "\n" not in text else "\n      " + text.replace("\n", "\n      ")


def _plain(value: Any) -> Any:
    value = as_message(value)
    if isinstance(value, BaseMessage):
        return _Shown(value)
    if isinstance(value, re.Pattern):
        return value
    if isinstance(value, Mapping):
        if value.get("type") == "tool_call":
            return _Shown(value)
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


class _Shown:
    """A message or tool call as a test writes it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        value = self._value
        if isinstance(value, Mapping):
            args = ", ".join(f"{name}={arg!r}" for name, arg in value["args"].items())
            return f"call({value['name']!r}{', ' if args else ''}{args})"
        calls = [_Shown({**one, "type": "tool_call"}) for one in getattr(value, "tool_calls", [])]
        said = repr(value.text) if value.text or not calls else ""
        return f"{value.type}({', '.join(filter(None, [said, *map(repr, calls)]))})"
