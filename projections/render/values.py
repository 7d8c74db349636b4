"""Stored values as JSON-ready Python, without importing the user's types.

LangGraph's serializer stores an object as a msgpack extension that names its class and holds its fields; here the
fields are taken as they are. The result is what `engine.stored.json_form` makes of the live value. Non-finite floats
stay: orjson writes them as null.
"""

from __future__ import annotations

import json
import math
import re
import struct
from base64 import b64decode
from collections.abc import Callable, Iterable
from datetime import date, time, timedelta, timezone
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
import ormsgpack

from threadlog.engine.compression.codec import unpack_value, unpacked_size
from threadlog.engine.stored.json_form import SECRET, digits, plain, seconds, text_of_bytes
from threadlog.engine.stored.value_refs import Reference

# The extension codes of langgraph.checkpoint.serde.jsonplus (a test compares them).
SINGLE_ARGUMENT, POSITIONAL, KEYWORDS, METHOD, PYDANTIC_V1, PYDANTIC_V2, NUMPY, DELTA_SNAPSHOT = range(8)

_BINARY = re.compile(rb"[\xc4\xc5\xc6]")  # the first byte of msgpack's bin types; text has it now and then


class StoredBlob(NamedTuple):
    """A row of `channel_values`."""

    type: str
    data: bytes


class Blobs(dict[str, StoredBlob]):
    """Values by hash. A value is rendered once and shared by all states that have it: callers must not change it."""

    def __init__(self, blobs: Iterable[tuple[str, StoredBlob]] = ()) -> None:
        super().__init__(blobs)
        self._shown: dict[str, Any] = {}

    @property
    def unpacked_size(self) -> int:
        """In bytes, as the serializer wrote them."""
        return sum(unpacked_size(*blob) for blob in self.values())

    def shown(self, name: str) -> Any:
        """A value, rendered. Raises `BlobMissing`, `UnknownType`."""
        if name not in self._shown:
            try:
                blob = self[name]
            except KeyError:
                raise BlobMissing(f"value {name} is not stored") from None
            self._shown[name] = value(*blob)
        return self._shown[name]


class UnknownType(ValueError):
    """A value of a serialisation that can't be shown."""

    def __init__(self, type_: str) -> None:
        super().__init__(f"values stored as {type_!r} can't be rendered")


class BlobMissing(LookupError):
    """A value was deleted between the queries of one read: the caller reads again."""


def reference(ref: Reference, blobs: Blobs) -> Any:
    """The value behind a reference.

    Raises:
        BlobMissing: `blobs` lacks a part of it.
        UnknownType: a part of it is stored in a form that can't be rendered.
    """
    if "b" in ref:
        return value(ref["t"], b64decode(ref["b"]))
    if (segments := ref.get("s")) is not None:
        whole: list[Any] = []
        for name, _ in segments:
            whole += blobs.shown(name)
        return whole
    if (fields := ref.get("d")) is not None:
        return {k: reference(r, blobs) for k, r in fields.items()}
    return blobs.shown(ref["h"])


def value(type_: str, data: bytes) -> Any:
    """A stored value.

    Raises:
        UnknownType: of a serialisation other than LangGraph's own.
    """
    type_, data = unpack_value(type_, data)
    if type_ == "msgpack":
        return _msgpack(data)
    if type_ == "null":
        return None
    if type_ in ("bytes", "bytearray"):
        return text_of_bytes(data)
    if type_ == "json":  # checkpoints of old
        return json.loads(data)
    raise UnknownType(type_)


def _msgpack(data: bytes) -> Any:
    try:
        decoded = ormsgpack.unpackb(data, ext_hook=_extension)
    except ormsgpack.MsgpackDecodeError:  # keys that are not strings
        decoded = ormsgpack.unpackb(data, ext_hook=_extension, option=ormsgpack.OPT_NON_STR_KEYS)
        return _clean(decoded)
    if _BINARY.search(data):
        try:
            orjson.dumps(decoded)  # much faster than looking for bytes here; mostly there are none
        except orjson.JSONEncodeError:
            return _clean(decoded)
    return decoded


def _clean(decoded: Any) -> Any:
    if isinstance(decoded, dict):
        return {_key(k): _clean(v) for k, v in decoded.items()}
    if isinstance(decoded, list | tuple):
        return [_clean(v) for v in decoded]
    return text_of_bytes(decoded) if isinstance(decoded, bytes) else decoded


def _key(key: Any) -> str:
    """As orjson writes a key that is not a string."""
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, float) and not math.isfinite(key):
        return "null"
    if isinstance(key, bytes):
        return text_of_bytes(key)
    return str(list(key) if isinstance(key, tuple) else key)


# --- extensions ------------------------------------------------------------------------------------------------------


def _extension(code: int, data: bytes) -> Any:
    if code == NUMPY:
        return _array(data)
    if code == DELTA_SNAPSHOT:
        return _msgpack(data)
    parts = _msgpack(data)
    try:
        module, name, argument = parts[0], parts[1], parts[2]
        form = _FORMS.get((code, module, name))
        if form is None and code == POSITIONAL and module.startswith("pathlib"):
            form = _path
        if form is None and code == SINGLE_ARGUMENT:
            form = _single(module, name, argument)
        return argument if form is None else form(argument, data)
    except Exception:  # not as expected: what is there
        return parts


Form = Callable[[Any, bytes], Any]


def _single(module: str, name: str, argument: Any) -> Form | None:
    if name == "UUID" and isinstance(argument, str) and len(argument) == 32:
        return _uuid
    if name in ("SecretStr", "SecretBytes", "Secret") and module.startswith("pydantic"):
        return lambda _, __: SECRET
    return None


def _uuid(argument: str, data: bytes) -> str:
    return "-".join((argument[:8], argument[8:12], argument[12:16], argument[16:20], argument[20:]))


def _path(argument: list[str], data: bytes) -> str:
    windows = b"WindowsPath" in data[:64]
    return str(PureWindowsPath(*argument) if windows else PurePosixPath(*argument))


def _send(argument: list[Any], data: bytes) -> dict[str, Any]:
    node, arg, *timeout = argument
    return {"node": node, "arg": arg} | ({"timeout": timeout[0]} if timeout else {})


def _of_object(_: Any, data: bytes) -> Any:
    """Types of the standard library whose parts are of such types again: made, then shown as the live one."""
    return plain(_object_of(ormsgpack.unpackb(data, ext_hook=_object)))


def _object(code: int, data: bytes) -> Any:
    return _object_of(ormsgpack.unpackb(data, ext_hook=_object))


def _object_of(parts: Any) -> Any:
    module, name, argument = parts[0], parts[1], parts[2]
    kind: Any = {
        ("datetime", "timedelta"): timedelta,
        ("datetime", "timezone"): timezone,
        ("datetime", "date"): date,
        ("datetime", "time"): time,
        ("zoneinfo", "ZoneInfo"): ZoneInfo,
        ("builtins", "int"): int,
        ("builtins", "complex"): complex,
        ("builtins", "range"): range,
        ("builtins", "slice"): slice,
        ("fractions", "Fraction"): Fraction,
    }[module, name]
    if isinstance(argument, dict):
        return kind(**argument)
    return kind(*argument) if isinstance(argument, list | tuple) else kind(argument)


def _timedelta(argument: list[int], data: bytes) -> float:
    days, rest, microseconds = argument
    return seconds(timedelta(days, rest, microseconds))


_FORMS: dict[tuple[int, str, str], Form] = {
    (POSITIONAL, "langgraph.types", "Send"): _send,
    (POSITIONAL, "re", "compile"): lambda argument, _: argument[0],
    (POSITIONAL, "builtins", "int"): lambda argument, _: orjson.Fragment(digits(int(*argument))),
    (POSITIONAL, "builtins", "complex"): _of_object,
    (POSITIONAL, "builtins", "range"): _of_object,
    (POSITIONAL, "builtins", "slice"): _of_object,
    (POSITIONAL, "fractions", "Fraction"): _of_object,
    (POSITIONAL, "datetime", "timedelta"): _timedelta,
    (POSITIONAL, "datetime", "date"): _of_object,
    (POSITIONAL, "datetime", "timezone"): _of_object,
    (KEYWORDS, "datetime", "time"): _of_object,
}


# --- arrays -----------------------------------------------------------------------------------------------------------


def _array(data: bytes) -> Any:
    """A numpy array as nested lists; null if its elements are not numbers or text."""
    dtype, shape, order, buffer = ormsgpack.unpackb(data)
    try:
        elements = _elements(dtype, buffer)
    except (struct.error, ValueError, KeyError):
        return None
    strides, step = [], 1
    for n in reversed(shape) if order == "C" else shape:
        strides.append(step)
        step *= n
    if order == "C":
        strides.reverse()
    return _nested(elements, list(shape), strides, 0)


def _nested(elements: list[Any], shape: list[int], strides: list[int], offset: int) -> Any:
    if not shape:
        return elements[offset]
    return [_nested(elements, shape[1:], strides[1:], offset + i * strides[0]) for i in range(shape[0])]


_CODES = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H",
    "u1": "B", "b1": "?",
}  # fmt: skip


def _elements(dtype: str, buffer: bytes) -> list[Any]:
    order, kind, size = dtype[0], dtype[1], int(dtype[2:].split("[")[0])
    if kind == "U":
        encoding = "utf-32-be" if order == ">" else "utf-32-le"
        step = 4 * size
        return [buffer[i : i + step].decode(encoding).rstrip("\0") for i in range(0, len(buffer), step)]
    if kind == "M" or kind == "m":
        raise ValueError(dtype)
    count = len(buffer) // size
    return list(struct.unpack(f"{'>' if order == '>' else '<'}{count}{_CODES[dtype[1:]]}", buffer))
