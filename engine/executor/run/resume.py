"""Where a second or later attempt takes up: supersteps of the run that are in the log are not made again.

What an earlier attempt may have left, and what that means for the input of this one:

- a checkpoint of this run: its input or command was consumed; continue from the thread's newest checkpoint with none;
- no checkpoint, but the command's own writes (under the null task): the command is stored; continue with no input,
  and if a task already took the resume value, keep it from being given to that task's next question;
- neither: begin again with the input or command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.types import Command

from threadlog.engine.executor.checkpointer.retrying_pool import RetryingPool
from threadlog.engine.executor.checkpointer.saver import ThreadlogSaver
from threadlog.engine.executor.langgraph_internals import CONFIG_KEY_CHECKPOINTER, NULL_TASK_ID, RESUME
from threadlog.engine.executor.queue import Claim
from threadlog.engine.executor.run.config import at_newest

AnyGraph = Pregel[Any, Any, Any, Any]


class AttemptSaver(ThreadlogSaver):
    """The checkpointer of an attempt. With `resume_taken` it does not hand out the stored resume value again."""

    resume_taken = False

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        if found is None or not self.resume_taken or not found.pending_writes:
            return found
        kept = [write for write in found.pending_writes if write[:2] != (NULL_TASK_ID, RESUME)]
        return found._replace(pending_writes=kept)


_OWN_CHECKPOINT = """
SELECT 1 FROM checkpoints WHERE thread_id = $1::uuid AND ns = '' AND run_id = $2::uuid LIMIT 1
"""

_OWN_WRITES = """
SELECT task_id, channel FROM checkpoint_writes WHERE thread_id = $1::uuid AND run_id = $2::uuid
"""


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What to call the graph with. `breakpoint`: do not call it, the run already stood at one; the state there."""

    input: Any
    config: dict[str, Any]
    breakpoint: Any = None


async def plan_attempt(
    claim: Claim, graph: AnyGraph, saver: AttemptSaver, pool: RetryingPool, given: Any, config: dict[str, Any]
) -> StartPlan:
    """How attempt 2 and later of a run begin."""
    if await pool.fetchval(_OWN_CHECKPOINT, claim.thread_id, claim.run_id):
        newest = at_newest(config)
        state = await _at_breakpoint(claim, graph, saver)
        return StartPlan(None, newest, state)
    if not isinstance(given, Command):
        return StartPlan(given, config)
    own = [(row[0], row[1]) for row in await pool.fetch(_OWN_WRITES, claim.thread_id, claim.run_id)]
    taken = any(task != NULL_TASK_ID and channel == RESUME for task, channel in own)
    if isinstance(given.resume, dict) and given.resume and not given.update and not given.goto:
        pending = await _pending(claim, graph, saver)
        left = {key: value for key, value in given.resume.items() if key in pending}
        if len(left) < len(given.resume) and taken:
            return StartPlan(Command(resume=left) if left else None, config)
        return StartPlan(given, config)
    if not any(task == NULL_TASK_ID for task, _ in own):
        return StartPlan(given, config)
    if taken:
        saver.resume_taken = True
    return StartPlan(None, config)


def state_config(thread_id: str, saver: AttemptSaver) -> Any:
    """The config to read the thread's newest state with."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", CONFIG_KEY_CHECKPOINTER: saver}}


async def _pending(claim: Claim, graph: AnyGraph, saver: AttemptSaver) -> set[str]:
    """Ids of the interrupts that wait for an answer."""
    state = await graph.aget_state(state_config(claim.thread_id, saver))
    return {interrupt.id for interrupt in state.interrupts}


async def _at_breakpoint(claim: Claim, graph: AnyGraph, saver: AttemptSaver) -> Any:
    """The state, if the newest checkpoint stands at a breakpoint of this run.

    Continuing without input would pass it: LangGraph takes that for the client's wish to go on.
    """
    before = claim.kwargs.get("interrupt_before") or graph.interrupt_before_nodes
    after = claim.kwargs.get("interrupt_after") or graph.interrupt_after_nodes
    if not before and not after:
        return None
    state = await graph.aget_state(state_config(claim.thread_id, saver))
    if before and any(_listed(name, before) for name in state.next):
        return state
    if after and state.next and state.parent_config and (state.metadata or {}).get("source") == "loop":
        parent = state_config(claim.thread_id, saver)
        parent["configurable"]["checkpoint_id"] = state.parent_config["configurable"]["checkpoint_id"]
        ran = (await graph.aget_state(parent)).next
        if any(_listed(name, after) for name in ran):
            return state
    return None


def _listed(name: str, nodes: Any) -> bool:
    return name != "__start__" and (nodes == "*" or name in nodes)
