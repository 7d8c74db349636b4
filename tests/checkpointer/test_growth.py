"""Storage grows with what is said: a late turn costs the bytes of an early one, what stays the same costs nothing."""

from __future__ import annotations

import random
import string
import uuid
from typing import Any, TypedDict

import asyncpg
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from tests.checkpointer.checkpointer_harness import CheckpointerHarness
from threadlog.engine.log.port import Topic

TABLES = ("checkpoints", "checkpoint_writes", "channel_values")
SAID = 500
WORDS = ["".join(random.Random(n).choices(string.ascii_lowercase, k=5)) for n in range(4096)]  # compress as prose does
FACTS = {"langgraph_host": "self-hosted", "created_by": "system", "assistant_id": "a" * 36, "note": "n" * 200}


def said(n: int) -> str:
    return " ".join(random.Random(n).choices(WORDS, k=SAID // 6))


async def tables(pool: asyncpg.Pool, thread_id: str) -> int:
    size = "SELECT coalesce(sum(pg_column_size(t)), 0)::int FROM {} t WHERE thread_id = $1"
    return sum([await pool.fetchval(size.format(table), thread_id) for table in TABLES])


async def logged(harness: CheckpointerHarness) -> int:
    values = 0
    for partition in range(harness.log.partitions):
        records = await harness.log.read(Topic.VALUES, partition, 0, max_bytes=1 << 40)
        values += sum(len(record.value) for record in records)
    return harness.event_bytes + values


async def run(harness: CheckpointerHarness, thread_id: str, graph: Any, given: Any) -> None:
    attempt = await harness.run(thread_id)
    compiled = graph.compile(checkpointer=attempt.saver)
    configurable = {"thread_id": thread_id, "checkpoint_ns": "", "langgraph_request_id": attempt.run_id}
    config: Any = {
        "configurable": configurable, "metadata": {**FACTS, "run_id": attempt.run_id}, "recursion_limit": 500,
    }  # fmt: skip
    async for ns, _, payload in compiled.astream(given, config, stream_mode=["checkpoints"], subgraphs=True):
        attempt.saver.planned(ns, payload)
    await attempt.saver.finish(compiled, config)
    await attempt.end()


async def test_a_late_turn_costs_what_an_early_one_did(pool: asyncpg.Pool) -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda s: {"messages": [AIMessage(said(len(s["messages"])))]})
    graph.add_edge(START, "model")
    harness, thread_id = CheckpointerHarness(pool), str(uuid.uuid4())
    after: dict[int, tuple[int, int]] = {}
    # 128 turns apart: once in so many sixteen times sixteen messages are written again as one segment.
    for turn in range(1, 267):
        await run(harness, thread_id, graph, {"messages": [HumanMessage(said(10_000 + turn))]})
        if turn in (10, 138, 266):
            after[turn] = (await tables(pool, thread_id), await logged(harness))
    for at_10, at_138, at_266 in zip(after[10], after[138], after[266], strict=True):
        assert at_266 - at_138 <= 1.2 * (at_138 - at_10)
    # Two messages a turn, in tables and log; each stored without and with its id, and in longer segments.
    assert sum(after[266]) / 266 < 20 * SAID


async def test_a_value_that_does_not_change_is_stored_once(pool: asyncpg.Pool) -> None:
    class Work(TypedDict):
        document: str
        steps: int

    graph = StateGraph(Work)
    graph.add_node("step", lambda s: {"steps": s["steps"] + 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda s: "step" if s["steps"] < 100 else "__end__", ["step", "__end__"])
    harness, thread_id, document = (
        CheckpointerHarness(pool),
        str(uuid.uuid4()),
        random.Random(0).randbytes(100_000).hex(),
    )
    await run(harness, thread_id, graph, {"document": document, "steps": 0})
    # Hexadecimal digits are half a byte each. The rest is 100 steps.
    assert await tables(pool, thread_id) < len(document) * 0.6 + 100 * 1200
    assert await logged(harness) < len(document) * 0.6 + 100 * 600
