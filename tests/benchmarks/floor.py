"""The floor: the same graphs in plain LangGraph, in one process, with no server. Prints one JSON object of figures."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "app"))


async def _runs(graph: Any, given: Any, count: int = 300) -> tuple[float, float]:
    from langgraph.checkpoint.memory import InMemorySaver

    graph = graph.copy()
    graph.checkpointer = InMemorySaver()
    for n in range(20):
        await graph.ainvoke(given, {"configurable": {"thread_id": f"warm-{n}"}})
    cpu, wall = time.process_time(), time.perf_counter()
    for n in range(count):
        config = {"configurable": {"thread_id": str(n)}}
        async for _ in graph.astream(given, config, stream_mode=["values", "updates"], durability="async"):
            pass
    return (time.process_time() - cpu) / count, count / (time.perf_counter() - wall)


async def main() -> None:
    import graphs

    figures: dict[str, dict[str, float]] = {}
    cpu, rate = await _runs(graphs.noop, {})
    figures["wait_one"] = {"p50_ms": 1e3 / rate, "cpu_ms": cpu * 1e3}
    figures["wait_16"] = {"runs_per_s": rate, "cpu_ms": cpu * 1e3}
    cpu, rate = await _runs(graphs.chat, {"messages": [("user", "hi")]}, 60)
    figures["chat_16"] = {"events_per_s": rate * 100}
    cpu, seen, start = time.process_time(), 0, time.perf_counter()
    config = {"configurable": {"thread_id": "t"}}
    async for _ in graphs.tokens.astream({"n": 20_000}, config, stream_mode=["custom"]):
        seen += 1
    figures["custom_one"] = {"events_per_s": seen / (time.perf_counter() - start)}
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
