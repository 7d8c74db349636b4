"""Writes the dictionaries of `engine.compression.codec`: `python -m tests.benchmarks.write_dictionaries NUMBER`.

Trained on what conversations and agents make of records and values, with made-up content, so that only the form of
things gets into a dictionary. Files that are there stay as they are: logs hold what was compressed with them.
"""

from __future__ import annotations

import asyncio
import random
import string
import sys
import uuid
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import zstandard
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from tests.benchmarks.storage_app.graphs import working
from tests.checkpointer.checkpointer_harness import CheckpointerHarness, Run
from tests.databases import new_database
from threadlog.deploy.postgres import temporary_postgres
from threadlog.engine.compression import codec
from threadlog.engine.domain.commands import CreateRun, ReportRun
from threadlog.engine.log.records import CommandEnvelope, EventRecord

FOLDER = Path(codec.__file__).with_name("dictionaries")
RECORD_BYTES, VALUE_BYTES = 12 * 1024, 4 * 1024
CHANCE = random.Random(0)
FACTS = {
    "langgraph_version": "1.2.22", "langgraph_api_version": "0.1.0", "langgraph_plan": "community",
    "langgraph_host": "self-hosted", "langgraph_api_url": "http://127.0.0.1:2024",
}  # fmt: skip


def said(n: int) -> str:
    return " ".join("".join(CHANCE.choices(string.ascii_letters, k=CHANCE.randint(3, 9))) for _ in range(n))


def answer() -> AIMessage:
    usage: Any = {"input_tokens": CHANCE.randint(1, 9999), "output_tokens": CHANCE.randint(1, 999), "total_tokens": 99,
                  "input_token_details": {"cache_read": 0}, "output_token_details": {"reasoning": 0}}  # fmt: skip
    said_by = {"token_usage": {"completion_tokens": 9, "prompt_tokens": 9, "total_tokens": 18}, "model_name": said(1),
               "finish_reason": "stop", "model_provider": said(1)}  # fmt: skip
    call: Any = {"name": said(1), "args": {"query": said(3)}, "id": f"call_{said(2)}", "type": "tool_call"}
    kind = CHANCE.randint(0, 2)
    if kind == 0:
        return AIMessage(said(20))
    if kind == 1:
        return AIMessage(said(20), id=f"lc_run--{uuid.uuid4()}", response_metadata=said_by, usage_metadata=usage)
    return AIMessage("", id=f"lc_run--{uuid.uuid4()}", tool_calls=[call], usage_metadata=usage)


def talk() -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("agent", lambda s: {"messages": [answer()]})
    graph.add_node("tools", lambda s: {"messages": [ToolMessage(said(9), tool_call_id=said(1), name=said(1))]})
    graph.add_node("model", lambda s: {"messages": [answer()]})
    graph.add_edge(START, "agent")
    graph.add_edge("agent", "tools")
    graph.add_edge("tools", "model")
    return graph


def short() -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda s: {"messages": [answer()]})
    graph.add_edge(START, "model")
    return graph


def asking() -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("ask", lambda s: {"messages": [HumanMessage(str(interrupt({"question": said(4)})))]})
    graph.add_edge(START, "ask")
    return graph


async def talks(harness: CheckpointerHarness, graph: Any, inputs: list[Any]) -> None:
    thread_id, assistant_id = str(uuid.uuid4()), str(uuid.uuid4())
    for given in inputs:
        run_id = str(uuid.uuid4())
        metadata = {"graph_id": "agent", "assistant_id": assistant_id, "created_by": "system"}
        ids = {"run_id": run_id, "thread_id": thread_id, "graph_id": "agent", "assistant_id": assistant_id}
        whole = {"messages": [{"role": "user", "content": said(9)}]}
        kwargs = {
            "input": whole, "command": None, "context": {},
            "config": {"configurable": {"run_id": run_id, "thread_id": thread_id}, "metadata": metadata, "tags": []},
            "stream_mode": ["values"], "interrupt_before": None, "interrupt_after": None, "webhook": None,
            "feedback_keys": None, "temporary": False, "subgraphs": False, "resumable": False,
            "checkpoint_during": True, "durability": "async",
        }  # fmt: skip
        await harness.submit(
            CreateRun(
                thread_id=thread_id, run_id=run_id, graph_id="agent", create_thread={}, thread_metadata=metadata,
                run={"assistant_id": assistant_id, "metadata": metadata, "kwargs": kwargs},
            ),
        )  # fmt: skip
        run = Run(harness, thread_id, run_id, False, False)
        configurable = {**ids, "checkpoint_ns": "", "langgraph_request_id": run_id}
        attempt = {**metadata, "run_attempt": 1, **FACTS, "run_id": run_id, "user_id": ""}
        config: Any = {"configurable": configurable, "recursion_limit": 50, "metadata": attempt}
        compiled = graph.compile(checkpointer=run.saver)
        async for ns, _, payload in compiled.astream(given, config, stream_mode=["checkpoints"], subgraphs=True):
            run.saver.planned(ns, payload)
        await run.saver.finish(compiled, config)
        outcome = {"status": "success", "next": run.saver.next(), "interrupts": run.saver.interrupts(),
                   "checkpoint_id": run.saver.head, "frames": 9}  # fmt: skip
        started = {"executor": f"host-{CHANCE.randint(1, 99)}-{said(1)}", "at": "2026-01-01T00:00:00.000000+00:00"}
        report = ReportRun(
            thread_id=thread_id, run_id=run_id, attempt=1, items=run.items, outcome=outcome, started=started
        )
        await harness.submit(report, id=f"{run_id}:1:0")


def human() -> dict[str, Any]:
    return {"messages": [HumanMessage(said(12))]}


async def main(number: int) -> None:
    records: list[bytes] = []
    values: list[bytes] = []

    def watched(encode: Any, into: list[bytes]) -> Any:
        def encoded(self: Any) -> bytes:
            into.append(encode(self))
            return into[-1]

        return encoded

    def seen(type_: str, data: bytes) -> tuple[str, bytes]:
        values.append(data)
        return type_, data

    with temporary_postgres({"fsync": "off"}) as server:
        async with new_database(server.uri) as dsn, asyncpg.create_pool(dsn, min_size=2, max_size=4) as pool:
            for path in sorted((Path(__file__).parents[2] / "projections" / "migrations").glob("*.sql")):
                await pool.execute(path.read_text())
            harness = CheckpointerHarness(pool)
            with (
                mock.patch.object(EventRecord, "encode", watched(EventRecord.encode, records)),
                mock.patch("threadlog.projections.fold.checkpoints.pack_value", seen),
            ):
                for turns in (1, 2, 20) * 8:
                    await talks(harness, short(), [human() for _ in range(turns)])
                    await talks(harness, talk(), [human() for _ in range(turns)])
                    await talks(harness, asking(), [human(), Command(resume=said(3))])
                    await talks(harness, working, [{"document": said(9), "steps_left": turns}])
    # Commands are compressed with the same dictionary.
    records += [CommandEnvelope(str(uuid.uuid4()), "run.create", str(uuid.uuid4()), "", {}).encode() for _ in range(20)]
    CHANCE.shuffle(records)
    FOLDER.mkdir(exist_ok=True)
    for name, samples, size in (("records", records, RECORD_BYTES), ("values", values, VALUE_BYTES)):
        file = FOLDER / f"{name}-{number}.zdict"
        if not file.exists():
            small = [sample for sample in samples if len(sample) < 64 * 1024]
            file.write_bytes(zstandard.train_dictionary(size, small, level=3).as_bytes())
        print(file.name, file.stat().st_size, "bytes from", len(samples), "samples")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
