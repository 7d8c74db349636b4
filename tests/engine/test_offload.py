"""Large JSON is read by a process of its own, and what only a graph looks into stays text."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.engine.engine_harness import EngineHarness, create_run, new_id
from threadlog.engine.domain.commands import UpdateState
from threadlog.engine.gateway.gateway import envelope_for
from threadlog.engine.log import large
from threadlog.engine.log.port import Append, Record, Topic
from threadlog.engine.log.records import CommandEnvelope, EventRecord, partition_of
from threadlog.engine.log.unreadable import read_event
from threadlog.engine.offload import process
from threadlog.engine.offload.carved import SMALL_BYTES, carve, restore
from threadlog.engine.processor.term import envelope_of, read_envelope

pytestmark = pytest.mark.server  # it starts processes

LONG = "long " * SMALL_BYTES


def large_run(text: str = "x", thread_id: str | None = None) -> CommandEnvelope:
    command = create_run(thread_id or new_id())
    long = text * (process.LARGE_BYTES // len(text) + 1)
    command.run["kwargs"].update(input={"text": long}, config={"tags": ["a"]})
    return envelope_for(command)


def test_what_is_carved_is_restored_as_text(tmp_path: Path) -> None:
    value = {"a": {"b": [LONG, "short"]}, "c": 1}
    path = tmp_path / "carved"
    path.write_bytes(b"".join(carve(orjson.loads(orjson.dumps(value)), [("a", "b", 0), ("a", "b", 1)])))
    with path.open("rb") as file:
        restored = restore(file)
    assert isinstance(restored["a"]["b"][0], orjson.Fragment)
    assert restored["a"]["b"][1] == "short"
    assert orjson.loads(orjson.dumps(restored)) == value
    path.write_bytes(path.read_bytes()[:-1])
    with path.open("rb") as file, pytest.raises(OSError, match="cut off"):
        restore(file)


FUNCTIONS = """
from threadlog.engine.offload.carved import carve

def echo(value, *arguments):
    return carve({"length": len(value), "arguments": arguments}, ())

def fail(value):
    raise MemoryError("no memory left")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "functions_of_a_test.py").write_text(FUNCTIONS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "functions_of_a_test"


async def test_a_process_of_its_own_is_called(here: str) -> None:
    results = await asyncio.gather(*(process.call(f"{here}:echo", [b"ab", b"c" * n], "x", "y") for n in range(3)))
    assert results == [{"length": n + 2, "arguments": ["x", "y"]} for n in range(3)]


async def test_what_goes_wrong_in_it_is_told(here: str) -> None:
    with pytest.raises(process.OffloadFailed, match="no memory left"):
        await process.call(f"{here}:fail", [b""])


async def test_a_nul_is_found_wherever_the_pieces_end() -> None:
    escape = rb"\u0000"
    for before in range(2 * large._PIECE_BYTES - len(escape) - 1, 2 * large._PIECE_BYTES + 2):
        value = b"x" * before + escape + b"x" * (process.LARGE_BYTES - before)
        assert await large.holds_nul(value)
    assert not await large.holds_nul(b"\\" * (process.LARGE_BYTES + 1))


async def test_a_large_command_is_read_as_a_small_one_and_its_input_stays_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    envelope = large_run("a\x00b")
    value = envelope.encode()
    expected = envelope_of(value, envelope.key).encode()
    monkeypatch.setattr(large, "_parsed", None)  # it is not read in this process
    read = await read_envelope(value, envelope.key)
    assert isinstance(read.body["run"]["kwargs"]["input"], orjson.Fragment)
    assert read.body["run"]["kwargs"]["config"] == {"tags": ["a"]}
    assert read.encode() == expected and b"\\u0000" not in expected


async def test_an_update_s_values_stay_text_too() -> None:
    thread_id = new_id()
    update = UpdateState(
        thread_id=thread_id,
        job_id=new_id(),
        graph_id="g",
        supersteps=[{"updates": [{"values": {"text": "x" * process.LARGE_BYTES}, "as_node": "n"}]}],
    )
    value = envelope_for(update).encode()
    read = await read_envelope(value, thread_id)
    assert isinstance(read.body["supersteps"][0]["updates"], orjson.Fragment)
    assert read.encode() == value


@pytest.mark.parametrize("value", [b"{", b"[1]", b"[" * 5000, b'{"body": {}}'], ids=["text", "list", "deep", "fields"])
async def test_large_nonsense_is_refused_as_small_nonsense_is(value: bytes) -> None:
    small = envelope_of(value, "k")
    read = await read_envelope(b" " * process.LARGE_BYTES + value, "k")
    assert type(read) is type(small) and read.key == "k"


async def test_a_large_event_record_is_read_as_a_small_one() -> None:
    run = {"kwargs": {"input": "x" * process.LARGE_BYTES}}
    record = EventRecord(1, 2, "c", "k", "", [{"type": "run.created", "run": run}], after=1)
    read = await read_event(Record(Topic.EVENTS, 0, 7, "k", record.encode(), 0))
    assert read is not None and isinstance(read.events[0]["run"]["kwargs"]["input"], orjson.Fragment)
    assert read.encode() == record.encode()


async def test_without_a_process_a_large_command_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(*_: Any) -> Any:
        raise process.OffloadFailed("no process")

    monkeypatch.setattr(large, "call", call)
    envelope = large_run()
    assert (await read_envelope(envelope.encode(), envelope.key)).body == envelope.body


async def test_a_large_command_from_the_log_is_decided_and_shown(harness: EngineHarness) -> None:
    engine = await harness.engine()
    envelope = large_run("a\x00")
    p = partition_of(envelope.key, harness.log.partitions)
    await harness.log.append([Append(Topic.COMMANDS, p, envelope.key, envelope.encode())])
    await harness.until("SELECT count(*) = 1 FROM runs WHERE thread_id = $1::text::uuid", envelope.key)
    [row] = await harness.rows("SELECT kwargs FROM runs")
    text = envelope.body["run"]["kwargs"]["input"]["text"]
    assert orjson.loads(row["kwargs"])["input"] == {"text": text.replace("\0", "\ufffd")}
    await engine.stop()
    harness.engines.remove(engine)
    second = await harness.engine("two")  # takes over, reading back what is large
    assert (await second.submit(create_run(envelope.key, multitask_strategy="reject"))).events[0]["code"] == "conflict"
    assert await harness.verify() == []
