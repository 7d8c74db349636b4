"""Calls of models and tools in a sandbox, answered from the record; nothing is asked of the world.

LangChain's base classes ask `_ANSWERS` first, from the first rerun of a process on; elsewhere they are as they were.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool
from langgraph.errors import GraphInterrupt

from threadlog.engine.executor.langgraph_internals import ensure_config
from threadlog.engine.executor.rerun.record import RecordedTask, nodes_of


class NotRecorded(RuntimeError):
    """A call of which the record has no answer: the reply was never part of what a node wrote."""


class Answers:
    """The answers of one superstep. `missing`: what could not be answered, by the id of the task that asked."""

    def __init__(self, tasks: Mapping[str, RecordedTask]) -> None:
        self._tasks = tasks
        self._given: set[int] = set()
        self.missing: dict[str, list[str]] = {}

    def reply(self, model: str) -> AIMessage:
        """The next reply that the calling node has got from a model. Raises `NotRecorded`."""
        task, path = self._caller()
        if task is not None:
            left = [(at, reply) for at, reply in task.replies if id(reply) not in self._given]
            # A node's own words have an id that LangGraph made; those of models are named by LangChain or the provider.
            said = [found for found in left if not _is_uuid(found[1].id)] or left
            chosen = next((reply for at, reply in said if at == path), said[0][1] if said else None)
            if chosen is not None:
                self._given.add(id(chosen))
                return chosen.model_copy(deep=True)
        raise self._not_recorded(task, f"a call of {model}")

    def tool(self, name: str, tool_call_id: str | None) -> Any:
        """What the call of this id has returned. Raises `NotRecorded`; `GraphInterrupt` if it has asked a question."""
        task, _ = self._caller()
        if task is not None:
            if tool_call_id is not None and (message := task.tools.get(tool_call_id)) is not None:
                return message.model_copy(deep=True)
            if task.interrupts:
                raise GraphInterrupt(tuple(task.interrupts))
        raise self._not_recorded(task, f"a call of the tool {name}")

    def _not_recorded(self, task: RecordedTask | None, what: str) -> NotRecorded:
        self.missing.setdefault("" if task is None else task.task_id, []).append(what)
        return NotRecorded(f"the record has no answer to {what}")

    def _caller(self) -> tuple[RecordedTask | None, tuple[str, ...]]:
        ns = str((ensure_config().get("configurable") or {}).get("checkpoint_ns") or "")
        return self._tasks.get(ns.split("|")[0].partition(":")[2]), nodes_of(ns)


ANSWERS: ContextVar[Answers | None] = ContextVar("threadlog_rerun_answers", default=None)


def install() -> None:
    """From now on models and tools ask `ANSWERS`. Once is enough, more does no harm."""
    if getattr(BaseTool.run, "__wrapped__", None) is not None:
        return
    _replace(BaseChatModel, "_generate_with_cache", lambda answers, self, args, kwargs: _result(answers, self))
    _replace_async(BaseChatModel, "_agenerate_with_cache", lambda answers, self, args, kwargs: _result(answers, self))
    _replace(BaseTool, "run", lambda answers, self, args, kwargs: answers.tool(self.name, kwargs.get("tool_call_id")))
    _replace_async(
        BaseTool, "arun", lambda answers, self, args, kwargs: answers.tool(self.name, kwargs.get("tool_call_id"))
    )
    _replace_streams()


def _result(answers: Answers, model: Any) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=answers.reply(type(model).__name__))])


def _replace(kind: type, name: str, answer: Any) -> None:
    original = getattr(kind, name)

    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        answers = ANSWERS.get()
        return original(self, *args, **kwargs) if answers is None else answer(answers, self, args, kwargs)

    setattr(kind, name, call)


def _replace_async(kind: type, name: str, answer: Any) -> None:
    original = getattr(kind, name)

    @functools.wraps(original)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        answers = ANSWERS.get()
        return await original(self, *args, **kwargs) if answers is None else answer(answers, self, args, kwargs)

    setattr(kind, name, call)


def _replace_streams() -> None:
    stream, astream = BaseChatModel.stream, BaseChatModel.astream

    @functools.wraps(stream)
    def answered(self: Any, *args: Any, **kwargs: Any) -> Iterator[AIMessageChunk]:
        answers = ANSWERS.get()
        if answers is None:
            yield from stream(self, *args, **kwargs)
        else:
            yield _chunk(answers.reply(type(self).__name__))

    @functools.wraps(astream)
    async def answered_async(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[AIMessageChunk]:
        answers = ANSWERS.get()
        if answers is None:
            async for chunk in astream(self, *args, **kwargs):
                yield chunk
        else:
            yield _chunk(answers.reply(type(self).__name__))

    BaseChatModel.stream = answered  # type: ignore[method-assign]
    BaseChatModel.astream = answered_async  # type: ignore[method-assign]


def _chunk(message: AIMessage) -> AIMessageChunk:
    return AIMessageChunk(**message.model_dump(exclude={"type"}), chunk_position="last")


def _is_uuid(text: str | None) -> bool:
    try:
        return bool(UUID(text or ""))
    except ValueError:
        return False
