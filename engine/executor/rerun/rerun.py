"""Rerun of one past run: each of its supersteps with today's code, from the recorded checkpoint, compared with it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import asyncpg

from threadlog.engine.executor.graphs.loader import Graphs
from threadlog.engine.executor.rerun.answers import install
from threadlog.engine.executor.rerun.compare import TaskResult, compared
from threadlog.engine.executor.rerun.record import recorded_run, recorded_steps
from threadlog.engine.executor.rerun.sandbox import execute
from threadlog.engine.executor.run.config import ServerFacts
from threadlog.engine.executor.state_migrations import StateMigrationFailed, StateTooNew


@dataclass(frozen=True, slots=True)
class RunComparison:
    """What became of a rerun. `why`: of a run that could not be executed again at all."""

    run_id: str
    thread_id: str
    graph_id: str
    tasks: list[TaskResult] = field(default_factory=list)
    why: str | None = None

    @property
    def verdict(self) -> Literal["same", "different", "unanswered"]:
        """`different` if a task is; `unanswered` if all of the others could be compared but some, or none could be."""
        verdicts = {task.verdict for task in self.tasks}
        if "different" in verdicts:
            return "different"
        return "unanswered" if "unanswered" in verdicts or not verdicts else "same"


async def rerun(
    pool: asyncpg.Pool, graphs: Graphs, run_id: str, *, api_url: str, ignored: Collection[str] = ()
) -> RunComparison:
    """Execute a run again and compare; writes nothing. `ignored`: channels that need not be the same.

    Raises:
        NoSuchRun: the read models have no such run.
    """
    install()
    run = await recorded_run(pool, run_id)
    claim = run.claim
    comparison = RunComparison(claim.run_id, claim.thread_id, claim.graph_id)

    def impossible(why: str) -> RunComparison:
        return RunComparison(claim.run_id, claim.thread_id, claim.graph_id, why=why)

    loaded = graphs.by_id.get(claim.graph_id)
    if loaded is None or loaded.error is not None:
        return impossible((loaded and loaded.error) or f"there is no graph {claim.graph_id} any more")
    try:
        steps = await recorded_steps(pool, run, loaded.migrations)
    except (StateMigrationFailed, StateTooNew) as error:
        return impossible(str(error))
    if not steps:
        return impossible("nothing is recorded of its steps (durability `exit`, or its checkpoints are gone)")
    facts = ServerFacts.of(api_url).metadata()
    async with loaded.open(
        {"configurable": dict((claim.kwargs.get("config") or {}).get("configurable") or {})}
    ) as graph:
        for step in steps:
            saver, answers, raised = await execute(graph, run, step, facts)
            comparison.tasks.extend(compared(step, saver.written, answers.missing, raised, ignored=ignored))
    return comparison
