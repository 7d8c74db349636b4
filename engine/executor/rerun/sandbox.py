"""Sandbox of a rerun: one superstep from a recorded checkpoint, with a checkpointer and a store in memory alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.store.memory import InMemoryStore
from langsmith import tracing_context

from threadlog.engine.executor.langgraph_internals import CONFIG_KEY_CHECKPOINTER, CONFIG_KEY_RUNTIME, DEFAULT_RUNTIME
from threadlog.engine.executor.rerun.answers import ANSWERS, Answers
from threadlog.engine.executor.rerun.record import RecordedRun, RecordedStep
from threadlog.engine.executor.run.config import context_for, run_config


class SandboxSaver(BaseCheckpointSaver[Any]):
    """Hands out what is recorded of the step's beginning, and keeps what is put to itself: `written` has the writes of
    each task of the graph itself."""

    def __init__(self, step: RecordedStep) -> None:
        super().__init__()
        self._step = step
        self._put: dict[str, CheckpointTuple] = {}
        self.written: dict[str, list[tuple[str, Any]]] = {}

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        ns = config["configurable"].get("checkpoint_ns", "")
        if not ns:
            return self._step.start
        return self._put.get(ns) or self._step.children.get(ns)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        yield self._step.start

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        versions: ChannelVersions,
    ) -> RunnableConfig:
        ns = config["configurable"].get("checkpoint_ns", "")
        place: RunnableConfig = {
            "configurable": {**config["configurable"], "checkpoint_ns": ns, "checkpoint_id": checkpoint["id"]}
        }
        if ns:
            self._put[ns] = CheckpointTuple(place, checkpoint, metadata, config, [])
        return place

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        if not config["configurable"].get("checkpoint_ns", ""):
            self.written.setdefault(task_id, []).extend(writes)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.get_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        for found in self.list(config):
            yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.put(config, checkpoint, metadata, versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.put_writes(config, writes, task_id, task_path)


async def execute(
    graph: Any, run: RecordedRun, step: RecordedStep, facts: Mapping[str, Any]
) -> tuple[SandboxSaver, Answers, Exception | None]:
    """Run the step's tasks with today's code. What they wrote, what could not be answered, and what the graph raised
    that no task has left as its error."""
    saver, answers = SandboxSaver(step), Answers(step.tasks)
    config: Any = run_config(run.claim, facts)
    configurable = {k: v for k, v in config["configurable"].items() if k not in ("checkpoint_id", "checkpoint_map")}
    configurable |= {
        "checkpoint_ns": "",
        CONFIG_KEY_CHECKPOINTER: saver,
        CONFIG_KEY_RUNTIME: DEFAULT_RUNTIME.override(store=InMemoryStore(), stream_writer=lambda _: None),
    }
    token = ANSWERS.set(answers)
    error: Exception | None = None
    try:
        with tracing_context(enabled=False):
            async for _ in graph.astream(
                None,
                {**config, "configurable": configurable, "callbacks": []},
                stream_mode="checkpoints",
                context=context_for(graph, run.claim.kwargs.get("context")),
                interrupt_before="*",  # of what follows: not of the tasks it goes on with
                durability="sync",
            ):
                pass
    except Exception as raised:
        error = raised
    finally:
        ANSWERS.reset(token)
    return saver, answers, error
