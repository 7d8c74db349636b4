"""The call of a run's graph: its options, its callbacks, and where its stream goes."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore

from threadlog.engine.executor.langgraph_internals import (
    CONFIG_KEY_CHECKPOINTER,
    CONFIG_KEY_RUNTIME,
    CONFIG_KEY_STREAM,
    DEFAULT_RUNTIME,
    RunControl,
    control_options,
    stream_hook,
)
from threadlog.engine.executor.queue import Claim
from threadlog.engine.executor.reporting.frames import FrameQueue
from threadlog.engine.executor.run.config import context_for, durability, with_limit
from threadlog.engine.executor.run.messages import MessageHandler
from threadlog.engine.executor.run.resume import AttemptSaver, StartPlan, state_config
from threadlog.engine.executor.run.streaming import RunStream
from threadlog.engine.executor.run.strict_resume import resume_strictly
from threadlog.engine.executor.run.tracing import chosen_tracer
from threadlog.engine.executor.run.usage import UsageCounter

AnyGraph = Pregel[Any, Any, Any, Any]


async def call_graph(
    graph: AnyGraph,
    plan: StartPlan,
    claim: Claim,
    saver: AttemptSaver,
    stream: RunStream,
    queue: FrameQueue,
    control: RunControl,
    store: BaseStore,
    usage: UsageCounter,
    nodes: BaseCallbackHandler | None,
) -> None:
    """Run the graph to its end, with its checkpoints in `saver`, what it emits in `stream`, and `store` as its store.
    `usage` counts the tokens of its models, `nodes` hears of what is called.

    Waits between supersteps while `queue` is full. Raises what the graph raises.
    """
    kwargs, config = claim.kwargs, plan.config
    runtime: Runtime[Any] = DEFAULT_RUNTIME.override(
        store=store, stream_writer=stream.write_custom if "custom" in stream.modes else stream.ignore_custom
    )
    stream.plans_come = graph.checkpointer is not False
    config["configurable"].update({
        CONFIG_KEY_CHECKPOINTER: saver,
        CONFIG_KEY_STREAM: stream_hook(stream, stream.graph_modes, control),
        CONFIG_KEY_RUNTIME: runtime,
    })  # fmt: skip
    if kwargs.get("strict_resume"):
        await resume_strictly(graph, plan.input, config, state_config(claim.thread_id, saver), saver)
    handlers: list[Any] = [usage]
    if stream.messages is not None:
        handlers.append(MessageHandler(stream.messages, stream.subgraphs))
    if stream.tool_calls is not None:
        handlers.append(stream.tool_calls)
    if (tracer := chosen_tracer(config["configurable"])) is not None:
        handlers.append(tracer)
    if nodes is not None:
        handlers.append(nodes)
    config["callbacks"] = handlers
    options: dict[str, Any] = {
        "context": context_for(graph, kwargs.get("context")),
        "interrupt_before": kwargs.get("interrupt_before") or None,
        "interrupt_after": kwargs.get("interrupt_after") or None,
        "durability": None if graph.checkpointer is False else durability(kwargs),
        **control_options(control),
    }
    if "events" not in stream.modes:  # clients see the output schema's channels; LangChain's events tell all
        options["output_keys"] = graph.output_channels
    call: Any = graph  # its overloads know stream modes by their literals
    if "events" in stream.modes:
        config = with_limit(config, graph)
        # LangChain copies the first namespace it sees into the metadata of all events: let that be their own.
        if not config["configurable"].get("checkpoint_ns"):
            config["configurable"].pop("checkpoint_ns", None)
        async for event in call.astream_events(plan.input, config, version="v2", **options):
            stream.event(event)
            if queue.full:
                await queue.room()
        return
    # one item per superstep, and only to wait here while the log cannot keep up: the stream itself goes its own way
    async for _ in call.astream(plan.input, config, stream_mode=["checkpoints"], **options):
        if queue.full:
            await queue.room()
