"""CPU of the api per token of a model and viewer, by what the viewer has asked for; no server is started.

    python -m tests.benchmarks.event_streams

`messages`: an event stream that shows the tokens; `values`: one that does not, but has to count their events;
`legacy`: a run stream of mode `messages-tuple`. The best of five rounds, as what else the machine does makes it slower.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import orjson

from threadlog.api.events.filters import filter_of
from threadlog.api.events.subscription import EventTranslator, RunInfo
from threadlog.api.streaming.sse import FrameFilter, render_frames
from threadlog.api.streaming.subscriptions import NewFrames
from threadlog.engine.log.records import Frames

TOKENS_PER_RECORD, RECORDS, ROUNDS = 20, 1000, 5

_CHUNK = {
    "content": "", "additional_kwargs": {}, "response_metadata": {}, "type": "AIMessageChunk", "name": None,
    "id": "lc_run--" + "a" * 36, "tool_calls": [], "invalid_tool_calls": [], "usage_metadata": None,
    "tool_call_chunks": [], "chunk_position": None,
}  # fmt: skip
_METADATA = {
    "created_by": "system", "graph_id": "chat", "assistant_id": "x" * 36, "run_attempt": 1, "langgraph_step": 1,
    "langgraph_node": "model", "langgraph_triggers": ["branch:to:model"],
    "langgraph_path": ["__pregel_pull", "model"], "langgraph_checkpoint_ns": "model:" + "0" * 36, "run_id": "y" * 36,
    "thread_id": "z" * 36, "ls_provider": "p", "ls_model_type": "chat", "ls_integration": "langchain_chat_model",
}  # fmt: skip


def _records() -> list[NewFrames]:
    records = []
    for number in range(RECORDS):
        first = number * TOKENS_PER_RECORD
        frames = [
            (b"messages", orjson.dumps([{**_CHUNK, "content": f" word{n}"}, _METADATA]))
            for n in range(first, first + TOKENS_PER_RECORD)
        ]
        records.append(NewFrames(number, 0, Frames("r", "t", 1, first, frames)))
    return records


async def _unknown(_: str) -> None:
    return None


def _translate(channel: str, records: list[NewFrames]) -> None:
    translator = EventTranslator({"r": RunInfo("chat", True)}, filter_of({"channels": [channel]}), _unknown)

    async def each() -> None:
        for record in records:
            await translator.events([record])

    asyncio.run(each())


def _render(records: list[NewFrames]) -> None:
    shown = FrameFilter(("messages-tuple",))
    for record in records:
        render_frames(record, shown, ids=True)


def main() -> None:
    records = _records()
    views: dict[str, Callable[[], None]] = {
        "messages": lambda: _translate("messages", records),
        "values": lambda: _translate("values", records),
        "legacy": lambda: _render(records),
    }
    for name, view in views.items():
        best = float("inf")
        for _ in range(ROUNDS):
            begun = time.process_time()
            view()
            best = min(best, time.process_time() - begun)
        print(f"{name:10} {best / (RECORDS * TOKENS_PER_RECORD) * 1e6:5.2f} µs per token and viewer")


if __name__ == "__main__":
    main()
