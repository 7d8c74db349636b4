"""A value looks the same whether it was just produced (streams) or read back without its types (states)."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
import threading
import uuid
from collections import OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde import jsonplus
from langgraph.store.base import Item
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, SecretStr
from pydantic.v1 import BaseModel as OldModel

from tests.installed import has, needs
from threadlog.engine.compression.codec import LARGE_BYTES, pack_value
from threadlog.engine.executor.checkpointer.serde import UnserializableState, pack
from threadlog.engine.executor.checkpointer.stored_types import default_serializer
from threadlog.engine.executor.checkpointer.values import PendingBlobs, Values
from threadlog.engine.executor.reporting.jsonable import dumps
from threadlog.projections.queries import state as queries
from threadlog.projections.render import values as render
from threadlog.projections.render.values import Blobs, StoredBlob


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Text(enum.StrEnum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


class Inner(BaseModel):
    when: datetime
    tags: set[str]


class Outer(BaseModel):
    inner: Inner
    more: dict[str, Any] = {}


class Old(OldModel):
    x: int
    nested: dict[str, Any] = {}


@dataclasses.dataclass
class Record:
    x: int
    _hidden: Any = None
    nested: Any = None


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    x: Any


class Pair(NamedTuple):
    a: Any
    b: Any


Point = namedtuple("Point", "x y")

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901)
MODEL = Outer(inner=Inner(when=NOW, tags={"t"}), more={"deep": Record(1, nested=[Pair(1, None)])})

# What LangGraph's serializer refuses.
WIDER: dict[str, Any] = {
    "large integer": 2**64,
    "large negative integer": -(2**63) - 1,
    "largest integer": 10**4213,
    "large integers inside": {"a": [1, 2**70, {"b": -(10**40)}], "c": (2**65,), "d": {2**66}},
    "large integer in an object": [Record(2**70, nested=Pair(2**71, 1)), Slotted(2**72)],
    "fraction": [Fraction(1, 3), Fraction(10**40, 7)],
    "complex": 1 - 2j,
    "range": range(0, 10**30, 3),
    "slice": slice(1, None, 2),
    "pure path": [PurePosixPath("a/b"), PurePosixPath("/a"), PureWindowsPath("c:/x/y")],
    "namespace": SimpleNamespace(a=1, b=[Fraction(1, 2)]),
}

VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "int": 2**53,
    "negative": -(2**63),
    "unsigned": 2**64 - 1,
    "float": 0.1,
    "nan": math.nan,
    "infinite": [math.inf, -math.inf],
    "text": "ünï\u0000 \U0001f600",
    "list": [1, [2, [3]]],
    "tuple": (1, (2,)),
    "dict": {"a": {"b": None}},
    "bytes": b"\x00\xff",
    "bytes inside": {"a": [b"x", bytearray(b"y")]},
    "bytearray": bytearray(b"abc"),
    "int keys": {1: "a", -2: {3: "b"}},
    "other keys": {None: 1, True: 2, 1.5: 3},
    "tuple keys": {(1, 2): "a"},
    "set": {1},
    "frozenset": frozenset(("a",)),
    "deque": deque([1, {2}]),
    "ordered": OrderedDict(b=1, a=2),
    "default dict": defaultdict(list, a=[1]),
    "datetime": NOW,
    "datetime utc": NOW.replace(tzinfo=UTC, microsecond=0),
    "datetime zone": datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    "date": date(2026, 1, 2),
    "time": time(1, 2, 3),
    "time utc": time(1, 2, tzinfo=UTC),
    "time zone": time(1, 2, 3, 4, tzinfo=timezone(timedelta(hours=-3))),
    "timedelta": timedelta(days=1, seconds=2, microseconds=3),
    "timezone": timezone(timedelta(hours=1)),
    "named timezone": timezone(timedelta(hours=1), "here"),
    "zone": ZoneInfo("Europe/Berlin"),
    "uuid": uuid.UUID(int=5),
    "decimal": Decimal("1.10"),
    "path": Path("/tmp/a"),
    "pattern": re.compile("a+", re.I),
    "address": [ip_address("::1"), ip_network("10.0.0.0/8")],
    "enum": [Colour.RED, Colour.PAIR, Text.A, Number.ONE],
    "model": MODEL,
    "old model": Old(x=1, nested={"m": MODEL}),
    "dataclass": Record(1, _hidden="h", nested={"d": Slotted(NOW)}),
    "named tuple": [Pair(1, {2}), Point(1, 2)],
    "secret": {"s": SecretStr("hunter2")},
    "send": Send("node", {"x": MODEL}),
    "interrupt": Interrupt(value={"q": [Colour.RED]}, id="abc"),
    "command": Command(goto="a", update={"x": 1}),
    "error": ValueError("kaboom"),
    "item": Item(namespace=("a", "b"), key="k", value={"v": 1}, created_at=NOW, updated_at=NOW),
    "document": Document("text", metadata={"n": 1}),
    "messages": [
        SystemMessage("s", id="0"),
        HumanMessage([{"type": "text", "text": "hi"}], id="1", additional_kwargs={"k": 1}),
        AIMessage("a", id="2", tool_calls=[{"name": "t", "args": {"q": 1}, "id": "c"}],
                  usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
        AIMessageChunk("chunk", id="3"),
        ToolMessage("r", tool_call_id="c", artifact=Record(1), id="4"),
        RemoveMessage(id="5"),
    ],
    **WIDER,
    "everything at once": {"a": [MODEL, {1: {b"x"}}], "b": (Colour.PAIR, NOW)},
}  # fmt: skip
DELTA_SNAPSHOTS = has("langgraph-checkpoint", "4.1")
if DELTA_SNAPSHOTS:
    from langgraph.checkpoint.serde.types import _DeltaSnapshot
    from langgraph.types import Overwrite

    VALUES["overwrite"] = Overwrite([1])
    VALUES["surrogate"] = "a\ud800b"  # which older serializers store without it
    VALUES["delta snapshot"] = _DeltaSnapshot([HumanMessage("hi", id="1")])


def as_read_back(value: Any) -> bytes:
    """What the API sends of a stored value."""
    type_, data = default_serializer().dumps_typed(value)
    return orjson.dumps(render.value(*pack(type_, data)))


@pytest.mark.parametrize("name", VALUES)
def test_stored_and_live_values_look_the_same(name: str) -> None:
    assert as_read_back(VALUES[name]) == dumps(VALUES[name])


@pytest.mark.parametrize("name", WIDER)
@pytest.mark.parametrize("reader", [default_serializer(), jsonplus.JsonPlusSerializer()], ids=["ours", "LangGraph's"])
def test_what_langgraph_refuses_is_read_back_as_it_was(name: str, reader: jsonplus.JsonPlusSerializer) -> None:
    with pytest.raises(TypeError):
        jsonplus.JsonPlusSerializer().dumps_typed(WIDER[name])
    assert reader.loads_typed(default_serializer().dumps_typed(WIDER[name])) in (WIDER[name], _as_lists(WIDER[name]))


def _as_lists(value: Any) -> Any:
    """As msgpack returns it: without tuples."""
    if isinstance(value, dict):
        return {k: _as_lists(v) for k, v in value.items()}
    return [_as_lists(v) for v in value] if type(value) in (list, tuple) else value


@needs("langgraph-checkpoint", "4.0.1")
def test_strict_readers_make_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threadlog.engine.executor.checkpointer.stored_types.STRICT_MSGPACK_ENABLED", True)
    strict = default_serializer().with_msgpack_allowlist([("tests.render.test_render", "Record"), *((
        "tests.render.test_render", name) for name in ("Pair", "Slotted"))])  # fmt: skip
    for name, value in WIDER.items():
        assert strict.loads_typed(strict.dumps_typed(value)) in (value, _as_lists(value)), name


@pytest.mark.parametrize(
    "value",
    [len, int, ..., (i for i in ()), {}.keys(), 10**4300, {"a": [object()]}],
    ids=["function", "class", "ellipsis", "generator", "view", "4301 digits", "object"],
)
def test_what_cannot_be_stored_is_refused_with_the_name_of_its_key(value: Any) -> None:
    for odd in (value, [value] * 20, {"in": [value, 2**70]}):
        with pytest.raises(UnserializableState, match="state key 'the_key'"):
            Values(default_serializer()).reference("the_key", odd, PendingBlobs())


def test_what_clients_see_of_what_langgraph_refuses() -> None:
    shown = {name: dumps(value).decode() for name, value in WIDER.items()}
    assert shown["large integer"] == "18446744073709551616"
    assert shown["large integers inside"].startswith('{"a":[1,1180591620717411303424,{"b":-1')
    assert shown["fraction"] == f'["1/3","{10**40}/7"]'
    assert shown["complex"] == '"(1-2j)"'
    assert shown["range"] == f'"range(0, {10**30}, 3)"'
    assert shown["pure path"].startswith('["a/b","/a",')
    assert dumps(10**4300).startswith(b'"0x')  # a node may stream what no state can hold


def test_what_clients_see_of_a_few() -> None:
    shown = {name: json.loads(dumps(VALUES[name])) for name in VALUES}
    assert shown["datetime"] == "2026-01-02T03:04:05.678901"
    assert shown["uuid"] == "00000000-0000-0000-0000-000000000005"
    assert shown["decimal"] == "1.10"
    assert shown["timedelta"] == 86402.000003
    assert shown["bytes"] == "AP8="
    assert shown["secret"] == {"s": "**********"}
    assert shown["infinite"] == [None, None]
    assert shown["int keys"] == {"1": "a", "-2": {"3": "b"}}
    assert shown["error"] == "ValueError('kaboom')"
    assert shown["send"]["node"] == "node"
    assert shown["dataclass"] == {"x": 1, "_hidden": "h", "nested": {"d": {"x": "2026-01-02T03:04:05.678901"}}}
    ai = shown["messages"][2]
    assert (ai["type"], ai["id"], ai["tool_calls"][0]["args"], ai["content"]) == ("ai", "2", {"q": 1}, "a")


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.fractions() | st.complex_numbers(allow_nan=False)
    | st.floats() | st.text() | st.binary()
    | st.datetimes() | st.dates() | st.times() | st.timedeltas() | st.uuids() | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(-99, 99), inner, max_size=4)
    | st.builds(Pair, inner, inner) | st.builds(Slotted, inner) | st.tuples(inner),
    max_leaves=12,
)  # fmt: skip


@given(JSON_LIKE)
def test_any_value_looks_the_same(value: Any) -> None:
    assert json.loads(as_read_back(value)) == json.loads(dumps(value))


@given(JSON_LIKE | st.lists(st.integers(0, 3), max_size=40))
def test_references_render_to_the_value(value: Any) -> None:
    values, draft = Values(default_serializer()), PendingBlobs()
    reference = values.reference("c", value, draft)
    draft.seal()
    rendered = render.reference(reference, Blobs((name, StoredBlob(*blob)) for name, blob in draft.sealed.items()))
    assert json.loads(orjson.dumps(rendered)) == json.loads(dumps(value))


def test_arrays_are_nested_lists() -> None:
    numpy = pytest.importorskip("numpy")
    for array in (
        numpy.arange(6, dtype="<f8").reshape(2, 3),
        numpy.asfortranarray(numpy.arange(6, dtype=">i4").reshape(2, 3)),
        numpy.arange(6).reshape(2, 3)[:, ::2],
        numpy.float32([0.1]),
        numpy.array(["a", "bc"]),
        numpy.array([True]),
        numpy.array(3.5),
    ):
        assert as_read_back({"a": array}) == dumps({"a": array})


def test_the_extension_codes_are_the_serializers() -> None:
    names = ("CONSTRUCTOR_SINGLE_ARG", "CONSTRUCTOR_POS_ARGS", "CONSTRUCTOR_KW_ARGS", "METHOD_SINGLE_ARG",
             "PYDANTIC_V1", "PYDANTIC_V2", "NUMPY_ARRAY", *(["DELTA_SNAPSHOT"] if DELTA_SNAPSHOTS else []))  # fmt: skip
    assert [getattr(jsonplus, f"EXT_{name}") for name in names] == [
        render.SINGLE_ARGUMENT, render.POSITIONAL, render.KEYWORDS, render.METHOD, render.PYDANTIC_V1,
        render.PYDANTIC_V2, render.NUMPY, render.DELTA_SNAPSHOT,
    ][: len(names)]  # fmt: skip
    assert len([name for name in vars(jsonplus) if name.startswith("EXT_")]) == len(names)


def test_rendering_imports_no_type_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    type_, data = default_serializer().dumps_typed([MODEL, Record(1), Colour.RED])
    monkeypatch.setattr("importlib.import_module", lambda *_: pytest.fail("imported"))
    assert render.value(type_, data)[1]["x"] == 1


def test_live_values_without_a_stored_form_are_shown_somehow() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert orjson.loads(dumps({"f": len, "t": int, "big": 2**70, "loop": loop, "o": object}))["big"] == 2**70
    assert dumps({(1, 2): object}).startswith(b'{"[1, 2]":')


def test_a_missing_value_says_so() -> None:
    with pytest.raises(render.BlobMissing):
        render.reference({"h": "x"}, Blobs())
    with pytest.raises(render.BlobMissing):
        render.reference({"s": [["x", 1]]}, Blobs())
    with pytest.raises(render.UnknownType):
        render.value("pickle", b"")


def test_how_large_values_are_is_known_without_reading_them() -> None:
    long = default_serializer().dumps_typed("x" * 1_000_000)
    packed = pack_value(*long)
    assert len(packed[1]) < 10_000
    assert Blobs([("a", StoredBlob(*packed)), ("b", StoredBlob("null", b""))]).unpacked_size == len(long[1])


async def test_large_values_are_rendered_in_a_thread() -> None:
    here = threading.get_ident()
    large = Blobs([("a", StoredBlob(*pack_value("bytes", b"x" * (LARGE_BYTES + 1))))])
    assert await queries._rendered([large], threading.get_ident) != here
    assert await queries._rendered([Blobs([("a", StoredBlob("bytes", b"x"))])], threading.get_ident) == here
