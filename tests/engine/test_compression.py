"""What is stored compressed comes back as it was, whatever stored it."""

from __future__ import annotations

import os

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from threadlog.engine.compression.codec import (
    UnknownCompression,
    pack_frames,
    pack_record,
    pack_value,
    unpack_record,
    unpack_value,
)
from threadlog.engine.domain.text import data_to_text, text_to_data
from threadlog.engine.processor.term import envelope_of

RECORD = b'{"id":"%b","type":"run.report","key":"k","at":"","body":{"items":[]},"actor":null}'
BYTES = st.one_of(st.binary(max_size=300), st.binary(min_size=1, max_size=50).map(lambda part: part * 200))


@given(BYTES)
def test_records_and_frames(value: bytes) -> None:
    assert unpack_record(pack_record(value)) == value
    assert unpack_record(pack_frames(value)) == value


@given(BYTES)
def test_values(data: bytes) -> None:
    assert unpack_value(*pack_value("msgpack", data)) == ("msgpack", data)


def test_what_is_alike_gets_small_and_what_is_random_does_not_grow() -> None:
    assert len(pack_record(RECORD % (b"i" * 200))) < 120
    noise = os.urandom(10_000)
    assert pack_value("bytes", noise) == ("bytes", noise)
    assert len(pack_frames(noise)) <= len(noise) + 1
    assert len(pack_frames(b"frame\n" * 10_000)) < 200


def test_what_was_stored_before_there_were_dictionaries() -> None:
    assert unpack_record(RECORD) == RECORD
    data = b"data " * 200
    assert unpack_value("msgpack+zstd", zstandard.ZstdCompressor().compress(data)) == ("msgpack", data)
    assert unpack_value("null", b"") == ("null", b"")


def test_a_later_way_to_compress_is_told() -> None:
    with pytest.raises(UnknownCompression, match="15"):
        unpack_record(b"\x0fdata")


@given(st.binary(max_size=300))
def test_values_as_text_pass_through_a_command(data: bytes) -> None:
    text = data_to_text(data)
    assert text_to_data(text) == data
    assert envelope_of(b'{"id":"","type":"","key":"","at":"","body":{"d":%b}}' % orjson.dumps(text), "").body == {
        "d": text
    }
