"""References to stored channel values, as they stand in checkpoints and events (ARCHITECTURE "Checkpoints")."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

Reference = dict[str, Any]


def hashes(reference: Reference) -> Iterator[str]:
    """The content hashes a reference needs to be read, in order; none for an inline value."""
    if (h := reference.get("h")) is not None:
        yield h
    elif (segments := reference.get("s")) is not None:
        for segment in segments:
            yield segment[0]
    elif (fields := reference.get("d")) is not None:
        for field in fields.values():
            yield from hashes(field)


def needed(references: Iterable[Reference]) -> set[str]:
    """All content hashes these references need."""
    return {h for reference in references for h in hashes(reference)}


def content_hash(type_: str, data: bytes, key: bytes = b"") -> str:
    """The name of a value: BLAKE2b-128 over type and uncompressed data, base64url without padding. `key`: of threads
    whose content is encrypted, at most 64 bytes."""
    digest = blake2b(type_.encode(), digest_size=16, key=key)
    digest.update(b"\0")
    digest.update(data)
    return urlsafe_b64encode(digest.digest())[:22].decode("ascii")


def text_reference(text: str) -> Reference:
    """The inline reference of a string of at most 31 bytes, as the default serializer stores it."""
    data = text.encode()
    if len(data) > 31:
        raise ValueError(f"too long: {text!r}")
    return {"t": "msgpack", "b": b64encode(bytes((0xA0 | len(data),)) + data).decode("ascii")}
