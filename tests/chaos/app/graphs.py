"""Graphs whose runs take seconds and leave traces: each step adds `<run_id>:<number>` to the state, and marks."""

import asyncio
import operator
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from marks import mark
from typing_extensions import TypedDict

TICK_SECONDS = 0.05


class Steps(TypedDict, total=False):
    """`pause`: seconds that a step takes; `events`: how many custom events each step of `talk` writes."""

    steps: Annotated[list[str], operator.add]
    pause: float
    events: int


def done(config: RunnableConfig, number: int) -> dict[str, Any]:
    return {"steps": [f"{config['configurable']['run_id']}:{number}"]}


async def rest(config: RunnableConfig, number: int, seconds: float) -> None:
    """Take time, and leave marks meanwhile: two attempts at the same time would be seen."""
    mark(config, "enter", number)
    try:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, TICK_SECONDS))
            mark(config, "tick", number)
    finally:
        mark(config, "exit", number)


Node = Callable[[Steps, RunnableConfig], Awaitable[dict[str, Any]]]


def resting(number: int, share: float = 1.0) -> Node:
    async def node(state: Steps, config: RunnableConfig) -> dict[str, Any]:
        await rest(config, number, share * state["pause"])
        return done(config, number)

    return node


def blocking(number: int) -> Callable[[Steps, RunnableConfig], dict[str, Any]]:
    def node(state: Steps, config: RunnableConfig) -> dict[str, Any]:
        mark(config, "enter", number)
        until = time.monotonic() + state["pause"]
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SECONDS))
            mark(config, "tick", number)
        mark(config, "exit", number)
        return done(config, number)

    return node


def talking(number: int) -> Node:
    async def node(state: Steps, config: RunnableConfig) -> dict[str, Any]:
        writer = get_stream_writer()
        attempt = config["metadata"]["run_attempt"]
        mark(config, "enter", number)
        try:
            for event in range(state["events"]):
                mark(config, "sent", number, event=event)  # first: a killed step may have marked one more than it sent
                writer({"attempt": attempt, "step": number, "event": event})
                await asyncio.sleep(state["pause"] / state["events"])
        finally:
            mark(config, "exit", number)
        return done(config, number)

    return node


def chain(*nodes: Any) -> Any:
    builder = StateGraph(Steps)
    builder.add_sequence([(f"step_{number}", node) for number, node in enumerate(nodes)])
    builder.add_edge(START, "step_0")
    return builder.compile()


walk = chain(*[resting(number) for number in range(6)])
block = chain(*[blocking(number) for number in range(4)])
talk = chain(*[talking(number) for number in range(4)])


# Two tasks per superstep, one much faster: killed in between, its writes are all there is of the superstep.
builder = StateGraph(Steps)
before: list[str] = []
for level in range(4):
    fast, slow = f"fast_{level}", f"slow_{level}"
    builder.add_node(fast, resting(2 * level, share=0.1))
    builder.add_node(slow, resting(2 * level + 1))
    for name in (fast, slow):
        if before:
            builder.add_edge(before, name)
        else:
            builder.add_edge(START, name)
    before = [fast, slow]
pairs = builder.compile()


# A step that is a graph of its own, with checkpoints of its own.
inner = chain(*[resting(number) for number in range(1, 4)])


async def nested(state: Steps, config: RunnableConfig) -> dict[str, Any]:
    result = await inner.ainvoke({"steps": [], "pause": state["pause"]}, config)
    return {"steps": result["steps"]}


nest = chain(resting(0), nested, resting(4))


async def ask(state: Steps, config: RunnableConfig) -> dict[str, Any]:
    interrupt("go on?")
    await rest(config, 1, state["pause"])
    return done(config, 1)


question = chain(resting(0), ask, resting(2))
