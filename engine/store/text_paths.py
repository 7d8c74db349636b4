"""Texts of a value by path, as LangGraph's stores pick what they embed: `title`, `a.b`, `notes[*].text`, `tags[-1]`,
`meta.*`, `{title,meta.author}`, and `$` or an empty path for the whole value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def texts_at(value: Any, path: str) -> list[str]:
    """What is found there; nothing where the path leads nowhere. Objects and lists are their JSON, with sorted keys."""
    if path in ("", "$"):
        return [_json(value)]
    return list(_found(value, _tokens(path)))


def _found(value: Any, tokens: list[str]) -> Iterator[str]:
    if not tokens:
        if isinstance(value, dict | list):
            yield _json(value)
        elif value is not None:
            yield str(value)
        return
    token, rest = tokens[0], tokens[1:]
    if token.startswith("[") and token.endswith("]"):
        if isinstance(value, list):
            for item in _items(value, token[1:-1]):
                yield from _found(item, rest)
    elif token.startswith("{") and token.endswith("}"):
        if isinstance(value, dict):
            for field in token[1:-1].split(","):
                yield from _field(value, _tokens(field.strip()))
    elif token == "*":
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from _found(item, rest)
    elif isinstance(value, dict) and token in value:
        yield from _found(value[token], rest)


def _items(values: list[Any], index: str) -> list[Any]:
    if index == "*":
        return values
    try:
        at = int(index)
    except ValueError:
        return []
    return [values[at]] if -len(values) <= at < len(values) else []


def _field(value: Any, keys: list[str]) -> Iterator[str]:
    """Of a selection of fields, which ends the path."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return
        value = value[key]
    if keys:
        yield from _found(value, [])


def _tokens(path: str) -> list[str]:
    tokens, current, i = [], "", 0
    while i < len(path):
        character = path[i]
        if character in "[{":
            if current:
                tokens.append(current)
                current = ""
            end = _closing(path, i)
            tokens.append(path[i:end])
            i = end
            continue
        if character == ".":
            if current:
                tokens.append(current)
            current = ""
        else:
            current += character
        i += 1
    return [*tokens, current] if current else tokens


def _closing(path: str, start: int) -> int:
    """Behind the bracket that closes the one at `start`, or the path's end."""
    opening = path[start]
    closing = "]" if opening == "[" else "}"
    depth = 0
    for i in range(start, len(path)):
        depth += (path[i] == opening) - (path[i] == closing)
        if not depth:
            return i + 1
    return len(path)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
