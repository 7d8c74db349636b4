"""The gate by which commands leave: whatever is in one, its readers can decode what they get."""

from __future__ import annotations

import asyncio
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadlog.engine.log.encodable import LEVELS, encodable
from threadlog.engine.log.records import CommandEnvelope, RefusedEnvelope


def envelope(**body: Any) -> CommandEnvelope:
    return CommandEnvelope(id="i", type="t", key="k", at="a", body=body)


class Unshowable:
    def __repr__(self) -> str:
        raise ValueError("no")


def test_what_json_holds_is_written_as_it_is() -> None:
    said = envelope(text="é\n\U0001f600", number=2**63, list=[1.5, None, True], nested={"a": {}})
    read, value = asyncio.run(said.on_wire())
    assert read is said and value == orjson.dumps(said) and CommandEnvelope.decode(value) == said


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ("a\x00b", "a\ufffdb"),
        ({"\ud800": 1, "b\x00": 2}, {"\ufffd": 1, "b\ufffd": 2}),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        ([10**5000], [hex(10**5000)]),
        ({1: 1, None: 2, False: 3, (1, 2): 4}, {"1": 1, "null": 2, "false": 3, "[1, 2]": 4}),
        (b"a\xff\x00", "a\ufffd\ufffd"),
        ({3}, [3]),
        ([float("nan"), float("inf"), "\ud800"], [None, None, "\ufffd"]),
        ([datetime(2026, 1, 1, tzinfo=UTC), uuid.UUID(int=1), "\ud800"],
         ["2026-01-01T00:00:00+00:00", str(uuid.UUID(int=1)), "\ufffd"]),
        (Unshowable(), "<Unshowable>"),
        (ValueError("\ud800"), "ValueError('\ufffd')"),
    ],
)  # fmt: skip
def test_what_json_or_postgres_cannot_hold_is_replaced(given: Any, read: Any) -> None:
    said, value = asyncio.run(envelope(x=given).on_wire())
    assert CommandEnvelope.decode(value) == said
    if isinstance(given, ValueError):
        read = said.body["x"]
        assert read.startswith("ValueError(") and "\ud800" not in read
    assert said.body["x"] == read


def test_ids_and_keys_are_replaced_as_well() -> None:
    said, value = asyncio.run(CommandEnvelope("i\ud800", "t", "k\x00", "a", {}, actor="\udc80").on_wire())
    assert (said.id, said.key, said.actor) == ("i\ufffd", "k\ufffd", "\ufffd") and CommandEnvelope.decode(value) == said


def test_what_is_too_deep_or_contains_itself_is_cut() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = {"a": [deep]}
    itself: list[Any] = [1]
    itself.append(itself)
    said, value = asyncio.run(envelope(deep=deep, itself=itself).on_wire())
    assert CommandEnvelope.decode(value) == said and said.body["itself"] == [1, "…"]
    levels, inner = 0, said.body["deep"]
    while inner != "…":
        inner = inner["a"] if isinstance(inner, dict) else inner[0]
        levels += 1
    assert LEVELS - 2 <= levels <= LEVELS < sys.getrecursionlimit()
    assert orjson.dumps([[[said]]]), "an event that says the same can be written"


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()) | st.integers(), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(json, st.text(st.characters()))
def test_whatever_it_is_its_readers_decode_it(value: Any, text: str) -> None:
    said, encoded = asyncio.run(CommandEnvelope(text, text, text, text, {text: value}).on_wire())
    assert b"\\u0000" not in encoded
    assert orjson.dumps(CommandEnvelope.decode(encoded)) == orjson.dumps(said) == encoded
    assert orjson.dumps(encodable(encodable(value))) == orjson.dumps(encodable(value))


def test_a_refusal_leaves_what_it_refuses_behind() -> None:
    refused = RefusedEnvelope.instead_of(
        envelope(thread_id="t", attempt=1, run_id=["x"], metadata={"a": "\ud800"}), "why"
    )
    assert refused.reason == "why" and refused.body == {"thread_id": "t", "attempt": 1}
    assert CommandEnvelope.decode(refused.encode()) == envelope(thread_id="t", attempt=1)
