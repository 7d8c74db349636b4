"""Channel values as bytes: zstd, and the content hash that names a stored value."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, NamedTuple

from threadlog.engine.compression.codec import pack_value, unpack_value

INLINE_BYTES = 100  # a value up to this size stands in the reference itself


class UnserializableState(TypeError):
    """A channel holds a value that the serializer can't store."""

    def __init__(self, channel: str, value: Any, cause: BaseException) -> None:
        super().__init__(
            f"The value of state key {channel!r} can't be saved in a checkpoint ({type(value).__name__}: {cause}). "
            "Keep it out of the state (use the runtime context or an UntrackedValue), or make it a dict, a dataclass "
            "or a pydantic model."
        )
        self.channel = channel


class Blob(NamedTuple):
    """A stored value: what `channel_values` holds."""

    type: str
    data: bytes


def pack(type_: str, data: bytes) -> Blob:
    """Compress, if that is worth it."""
    return Blob(*pack_value(type_, data))


def unpack(type_: str, data: bytes) -> tuple[str, bytes]:
    """The serializer's own type and bytes of a stored value."""
    return unpack_value(type_, data)


def inline(type_: str, data: bytes) -> dict[str, str]:
    """The reference of a value so small that it stands in the checkpoint."""
    return {"t": type_, "b": b64encode(data).decode("ascii")}


def inlined(reference: dict[str, str]) -> tuple[str, bytes]:
    """Type and bytes of an inline reference."""
    return reference["t"], b64decode(reference["b"])
