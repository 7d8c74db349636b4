"""A thread, its state, and what else its resource returns, as clients receive it."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

import asyncpg
from pydantic import Field
from typing_extensions import TypedDict

from threadlog.api.http.models import AnyObject, Id, Time
from threadlog.api.http.responses import raw, time_text
from threadlog.engine.domain.events import ThreadStatus


class InterruptResponse(TypedDict):
    """What a node asks, and waits for the answer to."""

    id: str | None
    value: Any
    response_schema: NotRequired[AnyObject | bool]


class TtlResponse(TypedDict):
    """When the thread expires."""

    strategy: str
    ttl_minutes: float
    expires_at: Time


class ThreadResponse(TypedDict):
    """A thread, with the values of its newest checkpoint."""

    thread_id: Id
    created_at: Time
    updated_at: Time
    state_updated_at: Time
    metadata: AnyObject
    status: ThreadStatus
    config: AnyObject
    values: Any
    error: AnyObject | None
    interrupts: Annotated[dict[str, list[InterruptResponse]], Field(description="By the id of the task")]
    ttl: NotRequired[TtlResponse | None]


class FoundThreadResponse(ThreadResponse):
    """A thread of a search."""

    extracted: NotRequired[Annotated[AnyObject, Field(description="By the aliases of `extract`")]]


class CheckpointResponse(TypedDict):
    """Which checkpoint of a thread."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: NotRequired[str]
    checkpoint_map: NotRequired[dict[str, str]]


class TaskResponse(TypedDict):
    """A node that is to run, or has run, at a checkpoint."""

    id: str
    name: str
    path: list[Any]
    error: Any
    interrupts: list[InterruptResponse]
    checkpoint: CheckpointResponse | None
    state: Annotated[AnyObject | None, Field(description="Of the node's subgraph, if it was asked for")]
    result: Any


class ThreadStateResponse(TypedDict, total=False):
    """The state of a thread at a checkpoint: all of it, or the fields that `select` names."""

    values: Any
    next: list[str]
    tasks: list[TaskResponse]
    metadata: AnyObject | None
    created_at: Time | None
    checkpoint: CheckpointResponse | None
    parent_checkpoint: CheckpointResponse | None
    interrupts: list[InterruptResponse]
    checkpoint_id: str | None
    parent_checkpoint_id: str | None


class StateUpdatedResponse(TypedDict):
    """The checkpoint that an update has made."""

    checkpoint: CheckpointResponse
    configurable: AnyObject
    checkpoint_id: str | None


class SizeResponse(TypedDict):
    """How much of something is stored."""

    count: int
    bytes: int


class ChannelSizeResponse(TypedDict):
    """What one channel's values occupy."""

    versions: int
    bytes: int


class ValuesSizeResponse(SizeResponse):
    """What the values occupy."""

    by_channel: dict[str, ChannelSizeResponse]


class StorageResponse(TypedDict):
    """The bytes that a thread occupies in the read models."""

    thread_id: Id
    total_bytes: int
    checkpoints: SizeResponse
    channel_values: ValuesSizeResponse
    pending_writes: SizeResponse


class PrunedResponse(TypedDict):
    """How many threads were pruned."""

    pruned_count: int


def thread_to_json(row: asyncpg.Record, values: Any) -> ThreadResponse:
    """`row`: of `projections.queries.threads`. `values`: rendered values of its newest checkpoint, if it has one."""
    return {
        "thread_id": str(row["thread_id"]),
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
        "state_updated_at": time_text(row["state_updated_at"]),
        "metadata": raw(row["metadata"]),
        "status": row["status"],
        "config": raw(row["config"]),
        "values": values,
        "error": raw(row["error"]),
        "interrupts": raw(row["interrupts"]),
    }


def new_thread_to_json(thread_id: str, metadata: dict[str, Any], at: str) -> ThreadResponse:
    """The thread that `CreateThread` has just created without a state, as its row would show it; `at`: when."""
    return {
        "thread_id": thread_id,
        "created_at": at,
        "updated_at": at,
        "state_updated_at": at,
        "metadata": metadata,
        "status": "idle",
        "config": {},
        "values": None,
        "error": None,
        "interrupts": {},
    }
