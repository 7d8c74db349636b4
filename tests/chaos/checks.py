"""What must hold after a chaos run. Each check answers sentences about what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from langgraph_sdk import get_client

from tests.chaos.history import Event, Run, Stay, Told, event_of
from tests.chaos.load import Load, Seen


def ends(told: Told, load: Load) -> Iterator[str]:
    """Every accepted run is in the log, and every run there ended, exactly once and well."""
    for run_id in load.accepted:
        if run_id not in told.runs:
            yield f"run {run_id} was accepted by {load.accepted[run_id]} and is not in the log"
    for run in told.runs.values():
        if len(run.ends) != 1:
            yield f"{name(run)} ended {len(run.ends)} times: {run.ends}"
        if run.attempts != list(range(1, len(run.attempts) + 1)):
            yield f"{name(run)} had the attempts {run.attempts}"
        if run.end in ("run.failed", "run.timed_out"):
            yield f"{name(run)}: {run.end} after {run.lost} lost attempts: {run.error}"


def one_at_a_time(stays: dict[str, list[Stay]], paused: Container[int] = ()) -> Iterator[str]:
    """No two attempts on one thread were at work at the same time, and none was made by two processes.

    `paused`: processes that were held for longer than their lease lasts: nothing can keep these from a last step.
    """
    for thread_id, of_thread in stays.items():
        for one, other in pairwise([stay for stay in of_thread if stay.pid not in paused]):
            if other.begin <= one.end:
                both = (min(one.end, other.end) - other.begin) / 1e6
                yield f"thread {thread_id}: {told_of(one)} and {told_of(other)} ran at the same time, for {both:.0f} ms"
        made: dict[tuple[str, int], Stay] = {}
        for stay in of_thread:
            first = made.setdefault((stay.run_id, stay.attempt), stay)
            if first is not stay:
                yield f"thread {thread_id}: {told_of(first)} and {told_of(stay)} are one attempt in two processes"


def streams(told: Told, stays: dict[str, list[Stay]], load: Load) -> Iterator[str]:
    """Clients saw all that the last attempt sent, and of each attempt before it a beginning, nothing twice."""
    for seen in load.streams:
        run = told.runs.get(seen.run_id)
        if run is None:
            yield f"run {seen.run_id} was streamed and is not in the log"
            continue
        sent = [stay for stay in stays.get(run.thread_id, []) if stay.run_id == run.run_id]
        yield from (f"{name(run)}: the client {problem}" for problem in _stream(seen, run, sent))


def _stream(seen: Seen, run: Run, sent: list[Stay]) -> Iterator[str]:
    events = [event_of(part.data) for part in seen.parts if part.event == "custom"]
    by_attempt = {attempt: list(group) for attempt, group in groupby(events, key=lambda event: event[0])}
    if sorted(by_attempt) != list(by_attempt) or sum(map(len, by_attempt.values())) != len(events):
        yield f"saw attempts mixed: {shortly(events)}"
        return
    last = run.attempts[-1] if run.attempts else 0
    if unknown := set(by_attempt) - {stay.attempt for stay in sent}:
        yield f"saw events of the attempts {unknown}, which did nothing"
    for stay in sent:
        got = by_attempt.get(stay.attempt, [])
        complete = stay.attempt == last and run.end == "run.succeeded" and not seen.cut
        if got != stay.sent[: len(got)] or (complete and got != stay.sent):
            yield f"saw of attempt {stay.attempt} {shortly(got)}, sent were {shortly(stay.sent)}"
        in_log = [event for event in run.shown if event[0] == stay.attempt]
        if in_log != got[: len(in_log)] and not seen.cut:
            yield f"saw of attempt {stay.attempt} {shortly(got)}, in the log are {shortly(in_log)}"
    ids = [part.id for part in seen.parts if part.id]
    if len(set(ids)) != len(ids):
        yield "saw an event id twice"
    values = [part.data for part in seen.parts if part.event == "values"]
    if run.end == "run.succeeded" and not seen.cut:
        yield from _complete(run, values[-1] if values else None)


def answers(told: Told, load: Load) -> Iterator[str]:
    """Whoever waited for a run that succeeded got its result."""
    for run_id, answer in load.answers:
        run = told.runs.get(run_id)
        if run is not None and run.end == "run.succeeded":
            yield from (f"{name(run)}: whoever waited {problem}" for problem in _complete(run, answer))


def _complete(run: Run, values: Any) -> Iterator[str]:
    steps = values.get("steps") if isinstance(values, dict) else None
    if steps is None or len([step for step in steps if step.startswith(run.run_id)]) != run.steps:
        yield f"got {values!r}"


async def states(told: Told, load: Load) -> list[str]:
    """Every superstep is in its thread's state once; each thread's checkpoints are one unbroken line."""
    few = asyncio.Semaphore(8)
    async with get_client(url=load.url, api_key=None) as client:

        async def look(thread_id: str, runs: list[Run]) -> list[str]:
            async with few:
                history = await client.threads.get_history(thread_id, limit=1000)
            updates = load.updates.get(thread_id, [])
            return [f"thread {thread_id}: {problem}" for problem in _thread(runs, updates, history)]  # type: ignore[arg-type]

        found = await asyncio.gather(*[look(*item) for item in told.threads().items()])
    return [problem for of_thread in found for problem in of_thread]


def _thread(runs: list[Run], updates: list[str], history: Sequence[Any]) -> Iterator[str]:
    for newer, older in pairwise(history):
        at, before = newer["metadata"]["step"], older["metadata"]["step"]
        if at != before + 1:
            yield f"step {at} follows step {before}"
        if (
            newer["parent_checkpoint"] is None
            or newer["parent_checkpoint"]["checkpoint_id"] != older["checkpoint"]["checkpoint_id"]
        ):
            yield f"the parent of step {at} is not step {before}"
        steps, fewer = newer["values"].get("steps", []), older["values"].get("steps", [])
        if steps[: len(fewer)] != fewer:
            yield f"step {at} has {steps}, the one before {fewer}"
    if history and history[-1]["parent_checkpoint"] is not None:
        yield "the first checkpoint has a parent"
    if (
        history
        and history[0]["next"]
        and all(run.end == "run.succeeded" for run in runs)
        and runs[-1].graph != "question"
    ):
        yield f"all runs succeeded, but {history[0]['next']} comes next"
    written: list[tuple[str, list[int]]] = [
        (writer, [int(step.rpartition(":")[2]) for step in group])
        for writer, group in groupby(
            history[0]["values"].get("steps", []) if history else [], key=lambda step: step.rpartition(":")[0]
        )
    ]
    numbers = dict(written)
    if len(numbers) != len(written):
        yield f"runs are mixed: {written}"
    for update in updates:
        if numbers.get(update) != [0]:
            yield f"the answered state update {update} is there as {numbers.get(update)}"
    for run in runs:
        if problem := _steps(run, numbers.get(run.run_id, [])):
            yield f"{name(run)} {problem}"


def _steps(run: Run, numbers: list[int]) -> str | None:
    first = 1 if run.resumes else 0
    expected = list(range(first, first + run.steps))
    if run.end == "run.succeeded":
        whole = sorted(numbers) == expected if run.graph == "pairs" else numbers == expected
        return None if whole else f"succeeded with the steps {numbers} of {expected}"
    if run.end == "run.rolled_back":
        return f"was rolled back and left the steps {numbers}" if numbers else None
    return None if numbers == expected[: len(numbers)] else f"ended ({run.end}) with the steps {numbers}"


def name(run: Run) -> str:
    return f"run {run.run_id} ({run.graph}, thread {run.thread_id}, attempts {run.attempts})"


def told_of(stay: Stay) -> str:
    return f"attempt {stay.attempt} of run {stay.run_id} in process {stay.pid}"


def shortly(events: Sequence[Event]) -> str:
    """`[first … last] (count)` and where it is not what one expects."""
    if not events:
        return "nothing"
    gaps = [
        f"{a[1:]} → {b[1:]}"
        for a, b in pairwise(events)
        if a[0] == b[0] and b[1:] not in ((a[1], a[2] + 1), (a[1] + 1, 0))
    ]
    return f"[{events[0]} … {events[-1]}] ({len(events)}{', gaps ' + ', '.join(gaps[:5]) if gaps else ''})"
