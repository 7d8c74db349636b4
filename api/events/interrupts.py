"""Open interrupts: the questions of a thread that an answer reaches, also while its runs are at work.

A client answers as soon as it is asked, which is before the run that asks has ended, and the questions of parallel
nodes one after the other. An answer to a busy thread is a run that waits for its turn.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator
from typing import Any

import orjson

from threadlog.api.context import Api
from threadlog.api.threads.state import read_state
from threadlog.engine.backoff import Backoff
from threadlog.projections.queries import runs, threads
from threadlog.projections.queries.connection import Reader
from threadlog.projections.render.state import StateSelection

PATIENCE_SECONDS = 5.0
"""How long a busy thread is looked at for a question that is not there: its client may have seen it in the stream
before the read models have it."""

_INTERRUPT_ID = re.compile(r"[0-9a-f]{32}")  # LangGraph takes an answer's keys for ids if all of them are such
_TASKS = StateSelection(frozenset(("tasks",)))


async def waiting(db: Reader, thread_id: str) -> set[str]:
    """Ids of the interrupts that the thread, at rest, waits at."""
    row = await threads.get(db, thread_id)
    return set() if row is None else _at_rest(row)


async def missing(api: Api, thread_id: str, interrupt_ids: Collection[str]) -> list[str]:
    """Which of these an answer would not reach. Waits up to `PATIENCE_SECONDS` while the thread is busy."""
    backoff = Backoff(most_seconds=0.25)
    give_up_at = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        row = await threads.get(api.pool, thread_id)
        busy = row is not None and row["status"] == "busy"
        found = set() if row is None else await _of_busy(api, thread_id) if busy else _at_rest(row)
        lacking = [interrupt_id for interrupt_id in interrupt_ids if interrupt_id not in found]
        if not lacking or not busy or asyncio.get_running_loop().time() >= give_up_at:
            return lacking
        await backoff.wait()


def _at_rest(row: Any) -> set[str]:
    if row["status"] != "interrupted" or row["interrupts"] is None:
        return set()
    of_tasks = orjson.loads(row["interrupts"])
    return {str(interrupt.get("id")) for of_task in of_tasks.values() for interrupt in of_task}


async def _of_busy(api: Api, thread_id: str) -> set[str]:
    """Those of the current checkpoint that no run in flight answers; none where one of these answers them all, or
    begins anew."""
    answered = set[str]()
    for run in await runs.commands_in_flight(api.pool, thread_id):
        resume = ((orjson.loads(run["kwargs"]).get("command")) or {}).get("resume")
        if isinstance(resume, dict) and resume and all(_INTERRUPT_ID.fullmatch(key) for key in resume):
            answered |= resume.keys()
        elif resume is not None or run["status"] == "pending":
            return set()
    state_json = await read_state(api, thread_id, subgraphs=True, selection=_TASKS)
    return set(_interrupt_ids(state_json)) - answered


def _interrupt_ids(state_json: dict[str, Any]) -> Iterator[str]:
    for task in state_json["tasks"]:
        yield from (str(interrupt["id"]) for interrupt in task["interrupts"])
        if task["state"] is not None:
            yield from _interrupt_ids(task["state"])
