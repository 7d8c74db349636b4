"""A run as clients receive it, and its output."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

import asyncpg
from pydantic import Field
from typing_extensions import TypedDict

from threadlog.api.http.models import AnyObject, Id, Time
from threadlog.api.http.responses import raw, time_text
from threadlog.api.runs.bodies import RunStatus
from threadlog.engine.domain.commands import CreateRun, MultitaskStrategy


class RunResponse(TypedDict):
    """A run, without its output."""

    run_id: Id
    thread_id: Id
    assistant_id: Id | None
    metadata: AnyObject
    status: RunStatus
    kwargs: AnyObject
    multitask_strategy: MultitaskStrategy
    created_at: Time
    updated_at: Time
    cancel_reason: str | None
    langsmith_session_name: str | None


class FoundRunResponse(TypedDict):
    """A run that a search has found. `error`: what it failed with; `kwargs` where `select` names it."""

    run_id: Id
    thread_id: Id
    assistant_id: Id | None
    graph_id: str
    metadata: AnyObject
    status: RunStatus
    error: AnyObject | None
    attempt: int
    multitask_strategy: MultitaskStrategy
    created_at: Time
    updated_at: Time
    cancel_reason: str | None
    kwargs: NotRequired[AnyObject]


Output = Annotated[
    Any, Field(description="The run's final values; with `__interrupt__` where it waits, or `__error__` instead")
]


def run_to_json(row: asyncpg.Record) -> RunResponse:
    """`row`: of `projections.queries.runs`."""
    return {
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "assistant_id": str(row["assistant_id"]) if row["assistant_id"] is not None else None,
        "metadata": raw(row["metadata"]),
        "status": row["status"],
        "kwargs": raw(row["kwargs"]),
        "multitask_strategy": row["multitask_strategy"],
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
        "cancel_reason": row["cancel_reason"],
        "langsmith_session_name": None,
    }


def found_run_to_json(row: asyncpg.Record, *, with_kwargs: bool) -> FoundRunResponse:
    """`row`: of `projections.queries.run_search`."""
    item: FoundRunResponse = {
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "assistant_id": str(row["assistant_id"]) if row["assistant_id"] is not None else None,
        "graph_id": row["graph_id"],
        "metadata": raw(row["metadata"]),
        "status": row["status"],
        "error": raw(row["error"]),
        "attempt": row["attempt"],
        "multitask_strategy": row["multitask_strategy"],
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
        "cancel_reason": row["cancel_reason"],
    }
    if with_kwargs:
        item["kwargs"] = raw(row["kwargs"])
    return item


def new_run_to_json(command: CreateRun, at: str) -> RunResponse:
    """The run that this command has created, as its row would show it before an executor claims it; `at`: when."""
    return {
        "run_id": command.run_id,
        "thread_id": command.thread_id,
        "assistant_id": command.run["assistant_id"],
        "metadata": command.run["metadata"],
        "status": "pending",
        "kwargs": command.run["kwargs"],
        "multitask_strategy": command.multitask_strategy,
        "created_at": at,
        "updated_at": at,
        "cancel_reason": None,
        "langsmith_session_name": None,
    }
