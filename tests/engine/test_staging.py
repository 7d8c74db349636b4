"""Large values go through the staging table, in pieces, and arrive as they are."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Sequence

import orjson
import pytest

from tests.engine.engine_harness import EngineHarness, new_id
from tests.projections.test_verify import checkpoint
from threadlog.engine.domain.commands import CreateRun, ReportRun, UpdateState
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import partition_of
from threadlog.engine.postgres import staging
from threadlog.engine.postgres.staging import StagedValue


async def test_large_input_updates_and_values_are_stored_in_pieces_as_they_are(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of each in a transaction, beside small ones; the read models hold what a rebuild makes of the log."""
    staged: list[str] = []

    async def pieces(values: Sequence[StagedValue]) -> AsyncIterator[bytes | memoryview]:
        staged.extend(value.place for value in values)
        async for piece in binary(values):
            yield piece

    binary = staging._binary
    monkeypatch.setattr(staging, "_binary", pieces)
    engine = await harness.engine()
    texts = [base64.b64encode(os.urandom(staging.TOTAL_BYTES)).decode() + "é" for _ in range(2)]
    threads = [new_id() for _ in range(3)]

    def run(thread_id: str, value: object) -> CreateRun:
        run = {"assistant_id": None, "metadata": {}, "kwargs": {"input": value}}
        return CreateRun(thread_id=thread_id, run_id=new_id(), graph_id="g", run=run, create_thread={})

    created = [run(thread_id, value) for thread_id, value in zip(threads, [*texts, "small"], strict=True)]
    await asyncio.gather(*(engine.submit(command) for command in created))
    kwargs = {str(row["run_id"]): orjson.loads(row["kwargs"]) for row in await harness.rows("SELECT * FROM runs")}
    assert kwargs == {command.run_id: command.run["kwargs"] for command in created}
    assert staged.count("5") == 2

    reports = []
    for number, command in enumerate(created[:2]):
        p = partition_of(command.thread_id, harness.log.partitions)
        data = texts[number].encode()
        [offset] = await harness.log.append([Append(Topic.VALUES, p, command.thread_id, data)])
        item = {**checkpoint(0), "blobs": [{"h": "hash-0", "t": "msgpack", "at": offset}]}
        outcome = {"status": "success", "frames": 0}
        reports.append(
            ReportRun(thread_id=command.thread_id, run_id=command.run_id, attempt=1, items=[item], outcome=outcome)
        )
    await asyncio.gather(*(engine.submit(report) for report in reports))
    values = {str(row["thread_id"]): bytes(row["data"]) for row in await harness.rows("SELECT * FROM channel_values")}
    assert values == {thread_id: text.encode() for thread_id, text in zip(threads, texts, strict=False)}
    assert staged.count("15") == 2

    updates = [{"values": {"x": texts[0]}}]
    update = UpdateState(thread_id=threads[0], job_id=new_id(), graph_id="g", supersteps=[{"updates": updates}])
    await engine.submit(update)
    [row] = await harness.rows("SELECT payload FROM run_queue WHERE run_id = $1::text::uuid", update.job_id)
    assert orjson.loads(row["payload"])["supersteps"] == [{"updates": updates}]
    assert staged.count("7") == 1
    assert await harness.verify() == []
