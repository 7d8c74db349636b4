"""Text policy: what becomes of characters that JSON or Postgres can't hold.

A lone surrogate has no UTF-8 form; Postgres' text and jsonb have no NUL.

| text of                                                      | NUL    | lone surrogate | by                       |
|--------------------------------------------------------------|--------|----------------|--------------------------|
| commands, events: requests, ids, names, metadata, errors     | U+FFFD | U+FFFD         | `storable`, `without_nul`|
| read models: text columns, jsonb                             | U+FFFD | in no event    | `storable`, `without_nul`|
| checkpoint data, as LangGraph's serializer made it           | kept   | "?"            | `data_to_text`           |
| live values: frames, and what a run reports of its values    | kept   | "?"            | `serialized`             |

Checkpoint data is lossless: it passes through commands and events as a character per byte, with U+0100 for the byte 0.
Its "?" is LangGraph's serializer's choice, and live values follow it: they look as they do when they are read back.
"""

from __future__ import annotations

import re

SEALED = "~enc1:"
"""What a JSON string begins with that stands for an encrypted value (`engine.encryption.cipher`)."""
SEALED_FIELD = "~encj1:"
"""The same of one field of an object that is otherwise readable (`engine.encryption.field_cipher`)."""

_LOST = "\ufffd"
_NUL_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")  # an escape that is not itself escaped
_NUL_BYTE = "\u0100"  # no byte is this character


def storable(text: str) -> str:
    """The text, with U+FFFD for each lone surrogate and NUL."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = "".join(_LOST if "\ud800" <= character <= "\udfff" else character for character in text)
    return text.replace("\0", _LOST) if "\0" in text else text


def has_nul(json: bytes) -> bool:
    """Whether JSON has an escape that may be a NUL. In this order: one byte is found ten times as fast as six."""
    return b"\\" in json and rb"\u" in json and rb"\u0000" in json


def without_nul(json: bytes) -> bytes:
    """The JSON, with U+FFFD for each NUL in its strings."""
    return _NUL_ESCAPE.sub(rb"\1\\ufffd", json) if has_nul(json) else json


def serialized(text: str) -> str:
    """The text as LangGraph's serializer stores it: with "?" for each lone surrogate."""
    return text.encode("utf-8", "replace").decode()


def data_to_text(data: bytes) -> str:
    """Bytes as a string for JSON, a character each: short where they are text for the most part."""
    text = data.decode("latin-1")
    return text.replace("\0", _NUL_BYTE) if "\0" in text else text


def text_to_data(text: str) -> bytes:
    """Undoes `data_to_text`. Raises `UnicodeEncodeError`, a `ValueError`, for what it never makes."""
    return text.replace(_NUL_BYTE, "\0").encode("latin-1")
