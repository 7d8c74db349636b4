"""Channel values to references and back: what is stored already is not stored again."""

from __future__ import annotations

import asyncio
import marshal
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import orjson
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol

from threadlog.engine.domain.text import data_to_text
from threadlog.engine.executor.checkpointer.segments import Part, Segment, Segments, Signature
from threadlog.engine.executor.checkpointer.serde import (
    INLINE_BYTES,
    Blob,
    UnserializableState,
    inline,
    inlined,
    pack,
    unpack,
)
from threadlog.engine.executor.checkpointer.stored_types import StateSerializer
from threadlog.engine.stored.value_refs import Reference, content_hash, hashes

LARGE_BYTES = 32 * 1024  # compressed, above this a value travels in the `values` topic
_PLAIN_BYTES = 4 * 1024  # up to this much a value travels as it is: records are compressed, and often say it twice
_PLAIN_GROWTH = 2  # unless it is binary data, which JSON text makes that much longer
_BACKGROUND_BYTES = 256 * 1024  # above this, compressing would hold up the loop
_KEPT_BYTES = 16 * 1024 * 1024  # of what an attempt has put, for reading it again before it is projected
_SHORT_LIST = 8
_INLINE_LIST = 64
_INPUT = "__start__"
_SCALARS = (int, float, str, bool)
_FIELDS = 64
_WIDE_TEXT = 2048
_DEEPEST = 3
_NUMBERS = 65_536  # a longer list of numbers is data (an embedding, a sample), not a history

_SIGNING = StateSerializer()
_PLAIN_MESSAGES: WeakKeyDictionary[type, bool] = (
    WeakKeyDictionary()
)  # whether a class is one of LangChain's own messages


class ValueLost(RuntimeError):
    """A reference names a value that is stored nowhere."""


@dataclass(slots=True)
class PendingBlobs:
    """What one report item needs stored and is not stored yet."""

    raw: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    sealed: dict[str, Blob] = field(default_factory=dict)

    def seal(self) -> None:
        """Compress what is to be stored."""
        for name, (type_, data) in self.raw.items():
            if name not in self.sealed:
                self.sealed[name] = Blob(type_, data) if len(data) <= _PLAIN_BYTES else pack(type_, data)

    async def seal_aside(self) -> None:
        """Compress, the big ones in a thread."""
        for name, (type_, data) in self.raw.items():
            if len(data) > _BACKGROUND_BYTES:
                self.sealed[name] = await asyncio.to_thread(pack, type_, data)
        self.seal()

    @property
    def big(self) -> bool:
        """Whether sealing would hold up the loop."""
        return any(len(data) > _BACKGROUND_BYTES for _, data in self.raw.values())

    def large(self) -> list[str]:
        """The hashes of sealed values that don't fit into an item."""
        return [name for name, blob in self.sealed.items() if len(blob.data) > LARGE_BYTES]

    def items(self, offsets: Mapping[str, int]) -> list[dict[str, Any]]:
        """The `blobs` of the item; `offsets`: where the large ones are in the `values` topic."""
        return [
            {"h": name, "t": blob.type, "at": offsets[name]}
            if name in offsets
            else {"h": name, "t": blob.type, **_data(blob.data)}
            for name, blob in self.sealed.items()
        ]


def _data(data: bytes) -> dict[str, str]:
    """A value's bytes in an item."""
    if len(data) <= _PLAIN_BYTES:
        text = data_to_text(data)
        if text.isascii() or len(orjson.dumps(text)) <= _PLAIN_GROWTH * len(data):
            return {"d": text}
    return {"b": b64encode(data).decode("ascii")}


class Values:
    """The values of one thread, as far as this attempt has seen them."""

    def __init__(self, serde: SerializerProtocol, *, naming_key: bytes = b"") -> None:
        """`naming_key`: without it nobody can tell from a value's name what it is, or that two threads have it."""
        self.serde, self._naming_key = serde, naming_key
        self._known: set[str] = set()
        self._segments = Segments()
        self._kept: OrderedDict[str, Blob] = OrderedDict()
        self._kept_bytes = 0

    # --- writing -------------------------------------------------------------------------------------

    def reference(self, channel: str, value: Any, draft: PendingBlobs, _depth: int = 0) -> Reference:
        """The reference of a value; what must be stored for it is added to `draft`.

        Raises:
            UnserializableState: the serializer can't store it.
        """
        kind = type(value)
        if kind is list and value:
            if len(value) < _SHORT_LIST or (len(value) < _INLINE_LIST and type(value[0]) in _SCALARS):
                type_, data = self._dumps(channel, value)
                if len(data) <= INLINE_BYTES:
                    return inline(type_, data)
            if len(value) <= _NUMBERS or type(value[0]) not in (int, float):
                return {"s": self._list(channel, value, draft)}
        elif kind is dict and _depth < _DEEPEST and (_wide(value) or (channel == _INPUT and _shared(value))):
            return {"d": {k: self.reference(channel, v, draft, _depth + 1) for k, v in value.items()}}
        type_, data = self._dumps(channel, value)
        if len(data) <= INLINE_BYTES:
            return inline(type_, data)
        return {"h": self._store(type_, data, draft)}

    def commit(self, draft: PendingBlobs) -> None:
        """The item with this draft is on its way: others may refer to its values."""
        for segment in draft.segments:
            self._segments.add(segment)
        for name, blob in draft.sealed.items():
            self._known.add(name)
            self._keep(name, blob)

    def settle(self, draft: PendingBlobs) -> None:
        """What has been stored since the draft was made is not stored again."""
        for name in self._known & draft.raw.keys():
            del draft.raw[name]
            draft.sealed.pop(name, None)

    def forget(self) -> None:
        """Stored values may have been deleted: refer to none that is not read or written again."""
        self._known.clear()
        self._segments.clear()

    def _dumps(self, channel: str, value: Any) -> tuple[str, bytes]:
        try:
            return self.serde.dumps_typed(value)
        except Exception as error:
            raise UnserializableState(channel, value, error) from error

    def _store(self, type_: str, data: bytes, draft: PendingBlobs) -> str:
        name = content_hash(type_, data, self._naming_key)
        if name not in self._known and name not in draft.raw:
            draft.raw[name] = (type_, data)
        return name

    def _list(self, channel: str, value: list[Any], draft: PendingBlobs) -> list[list[Any]]:
        try:
            signatures = [signature(element) for element in value]
        except Exception as error:
            raise UnserializableState(channel, value, error) from error
        return [self._segment(channel, value, signatures, part, draft) for part in self._segments.split(signatures)]

    def _segment(
        self, channel: str, value: list[Any], signatures: list[Signature], part: Part, draft: PendingBlobs
    ) -> list[Any]:
        if part.stored is not None:
            return [part.stored.hash, part.end - part.start]
        type_, data = self._dumps(channel, value[part.start : part.end])
        name = self._store(type_, data, draft)
        draft.segments.append(Segment(name, tuple(signatures[part.start : part.end])))
        return [name, part.end - part.start]

    def _keep(self, name: str, blob: Blob) -> None:
        if name not in self._kept:
            self._kept[name] = blob
            self._kept_bytes += len(blob.data)
            while self._kept_bytes > _KEPT_BYTES:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= len(dropped.data)

    # --- reading -------------------------------------------------------------------------------------

    def kept(self, names: Iterable[str]) -> dict[str, Blob]:
        """Those of these values that this attempt has put and still has."""
        return {name: self._kept[name] for name in names if name in self._kept}

    def value(self, reference: Reference, blobs: Mapping[str, Blob]) -> Any:
        """The value of a reference, a new object each time.

        Raises:
            ValueLost: a blob is not there.
        """
        if "b" in reference:
            return self.serde.loads_typed(inlined(reference))
        if (segments := reference.get("s")) is not None:
            whole: list[Any] = []
            for name, _ in segments:
                whole += self._loads(name, blobs)
            return whole
        if (fields := reference.get("d")) is not None:
            return {k: self.value(r, blobs) for k, r in fields.items()}
        return self._loads(reference["h"], blobs)

    def learn(self, reference: Reference, value: Any) -> None:
        """What was read with this reference is stored."""
        if (segments := reference.get("s")) is not None:
            at = 0
            for name, n in segments:
                self._known.add(name)
                if name not in self._segments:
                    self._segments.add(Segment(name, tuple(signature(element) for element in value[at : at + n])))
                at += n
        elif (fields := reference.get("d")) is not None:
            for k, r in fields.items():
                self.learn(r, value[k])
        else:
            self._known.update(hashes(reference))

    def _loads(self, name: str, blobs: Mapping[str, Blob]) -> Any:
        blob = blobs.get(name)
        if blob is None:
            raise ValueLost(f"the value {name} of a checkpoint is not stored")
        return self.serde.loads_typed(unpack(blob.type, blob.data))


def _wide(value: dict[Any, Any]) -> bool:
    """Whether the fields of a dict are worth storing one by one: some may change while large others don't."""
    wide = False
    if len(value) > _FIELDS:
        return False
    if not _named(value):
        return False
    for field_value in value.values():
        kind = type(field_value)
        if kind is str or kind is bytes:
            wide = wide or len(field_value) > _WIDE_TEXT
        elif kind is list or kind is dict:
            wide = wide or len(field_value) >= _SHORT_LIST
    return wide


def _named(value: dict[Any, Any]) -> bool:
    """Whether all keys can be keys of JSON."""
    return all(type(key) is str and (key.isascii() or _encodable(key)) for key in value)


def _shared(value: dict[Any, Any]) -> bool:
    """Whether an input has lists: field by field they are the same values as the writes made of them."""
    return len(value) <= _FIELDS and any(type(v) is list and v for v in value.values()) and _named(value)


def _encodable(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def signature(element: Any) -> Signature:
    """Equal for two elements only if they are stored as the same bytes (as long as this process lives)."""
    kind = type(element)
    if kind is str:
        return cast(str, element) if len(element) <= 64 else (hash(element), len(element))
    if kind is int or element is None:
        return cast(int | None, element)
    if kind is bool:
        return "b", element
    if kind is float:
        return "f", repr(element)
    if (plain := _PLAIN_MESSAGES.get(kind)) is None:
        plain = issubclass(kind, BaseMessage) and kind.__module__.startswith("langchain_core.messages")
        _PLAIN_MESSAGES[kind] = plain
    if plain:
        # The fields decide what is stored, and marshal reads them twice as fast as the serializer. Not by identity:
        # nodes do change messages in place.
        try:
            fields = marshal.dumps((element.__dict__, element.__pydantic_extra__), 2)
            return hash(fields), len(fields), kind
        except ValueError:
            pass  # a field that is not plain data
    _, data = _SIGNING.dumps_typed([element])
    return hash(data), len(data), "e"
