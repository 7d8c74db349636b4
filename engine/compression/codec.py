"""zstd with dictionaries, for log records and stored values: most are small and alike, which plain zstd can't use.

A dictionary is never changed: what was compressed with it stays readable as long as its file is there. A better one
gets the next number (`python -m tests.benchmarks.write_dictionaries`). What is written names the dictionary it needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import zstandard

_FOLDER = Path(__file__).with_name("dictionaries")
_LEVEL = 3
_RECORDS = zstandard.ZstdCompressionDict((_FOLDER / "records-1.zdict").read_bytes())
_VALUES = zstandard.ZstdCompressionDict((_FOLDER / "values-1.zdict").read_bytes())
_RECORDS.precompute_compress(level=_LEVEL)
_VALUES.precompute_compress(level=_LEVEL)

# A stored record: as it is, unless its first byte says otherwise. No record of ours begins with one of these.
_PLAIN, _RECORDS_1, _ZSTD_ALONE = 0, 1, 2
_RESERVED = 16
_SMALL_RECORD = 160
LARGE_BYTES = 1024 * 1024
"""To compress so much takes 2 ms and more: a thread does it, as zstd does not hold the interpreter."""
_SMALL_VALUE = 64
_SMALL_FRAMES, _FRAMES_LEVEL = 4096, 1

# What is appended to a value's type.
_ZSTD, _ZSTD_VALUES_1 = "+zstd", "+zstd1"


class _PerThread(threading.local):
    """zstd contexts: costly to make, not to be shared between threads."""

    def __init__(self) -> None:
        # The dictionary is named by what stands before the data.
        self.pack_record = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_RECORDS, write_dict_id=False).compress
        self.pack_value = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_VALUES, write_dict_id=False).compress
        self.pack_frames = zstandard.ZstdCompressor(level=_FRAMES_LEVEL).compress
        self.unpack_record = zstandard.ZstdDecompressor(dict_data=_RECORDS).decompress
        self.unpack_value = zstandard.ZstdDecompressor(dict_data=_VALUES).decompress
        self.unpack = zstandard.ZstdDecompressor().decompress


_OF_THREAD = _PerThread()


class UnknownCompression(ValueError):
    """A record was compressed in a way this version does not know: a newer one wrote it. Upgrade this process."""


def pack_record(value: bytes) -> bytes:
    """A record's bytes as they are stored, smaller where that is worth it."""
    if len(value) > LARGE_BYTES:  # others wait for it, and a dictionary is of no use any more
        return _packed(value, _ZSTD_ALONE, _OF_THREAD.pack_frames)
    return _packed(value, _RECORDS_1, _OF_THREAD.pack_record if len(value) >= _SMALL_RECORD else None)


def pack_frames(value: bytes) -> bytes:
    """Stream frames as they are stored: only large ones smaller, they go by fast and are soon forgotten."""
    return _packed(value, _ZSTD_ALONE, _OF_THREAD.pack_frames if len(value) >= _SMALL_FRAMES else None)


def _packed(value: bytes, how: int, pack: Callable[[bytes], bytes] | None) -> bytes:
    if pack is not None and len(packed := pack(value)) < len(value):
        return bytes([how]) + packed
    return bytes([_PLAIN]) + value if value and value[0] < _RESERVED else value


def unpack_record(stored: bytes) -> bytes:
    """The record, or the frames, that were stored. Raises `UnknownCompression`.

    What claims to be compressed and is not comes back as it is stored: no record, as its reader will find.
    """
    if not stored or (how := stored[0]) >= _RESERVED:
        return stored
    try:
        if how == _RECORDS_1:
            return _OF_THREAD.unpack_record(stored[1:])
        if how == _PLAIN:
            return stored[1:]
        if how == _ZSTD_ALONE:
            return _OF_THREAD.unpack(stored[1:])
    except zstandard.ZstdError:
        return stored
    raise UnknownCompression(f"a record is compressed in the way {how}")


def pack_value(type_: str, data: bytes) -> tuple[str, bytes]:
    """Type and bytes of a value as they are stored, smaller where that is worth it."""
    if len(data) > _SMALL_VALUE:
        packed = _OF_THREAD.pack_value(data)
        if len(packed) + 8 < len(data):
            return type_ + _ZSTD_VALUES_1, packed
    return type_, data


def unpacked_size(type_: str, data: bytes) -> int:
    """How large `unpack_value` makes it, in bytes."""
    return zstandard.frame_content_size(data) if type_.endswith((_ZSTD_VALUES_1, _ZSTD)) else len(data)


def unpack_value(type_: str, data: bytes) -> tuple[str, bytes]:
    """The serializer's own type and bytes of a stored value."""
    if type_.endswith(_ZSTD_VALUES_1):
        return type_.removesuffix(_ZSTD_VALUES_1), _OF_THREAD.unpack_value(data)
    if type_.endswith(_ZSTD):
        return type_.removesuffix(_ZSTD), _OF_THREAD.unpack(data)
    return type_, data
