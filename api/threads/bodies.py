"""Request bodies of /threads, their state and history, and the checkpoint that these and runs refer to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from threadlog.api.http.bodies import (
    CHARACTERS,
    Body,
    Filter,
    JsonObject,
    Limit,
    Metadata,
    Name,
    Names,
    Offset,
    SortOrder,
    Uuid,
)
from threadlog.api.http.limits import CHECKPOINT_CHARACTERS, THREADS, UPDATES, AtMost, LimitExceeded
from threadlog.engine.domain.expiry import Ttl, check_ttl

CheckpointText = Annotated[str, AtMost(CHECKPOINT_CHARACTERS, CHARACTERS)]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]


def _ttl(value: Any) -> Any:
    """A number is minutes, after which the thread is deleted."""
    if type(value) in (int, float):
        value = {"ttl": value}
    return None if value is None else check_ttl(value)


ThreadTtl = Annotated[
    Ttl | None,
    BeforeValidator(_ttl),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {
                        "strategy": {"enum": ["delete", "keep_latest"], "default": "delete"},
                        "ttl": {"type": "number"},
                    },
                    "required": ["ttl"],
                },
                {"type": "number"},
                {"type": "null"},
            ],
            "description": "What becomes of the thread after so many idle minutes; a number: it is deleted",
        }
    ),
]


def _updates(value: Any) -> Any:
    if isinstance(value, list):
        steps = [step.get("updates") for step in value if isinstance(step, dict)]
        count = sum(len(updates) for updates in steps if isinstance(updates, list))
        if max(count, len(value)) > UPDATES:
            raise LimitExceeded(f"have {count} updates in {len(value)} supersteps; at most {UPDATES} are allowed")
    return value


class Update(Body):
    values: Any = None
    as_node: Name | None = None
    command: JsonObject | None = None


class Superstep(Body):
    updates: list[Update]


class ThreadCreate(Body):
    OPAQUE = ("supersteps",)

    thread_id: Uuid | None = None
    metadata: Metadata | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    ttl: ThreadTtl = None
    supersteps: Annotated[list[Superstep], BeforeValidator(_updates)] | None = None


class ThreadPatch(Body):
    metadata: Metadata | None = None
    ttl: ThreadTtl = None


class ThreadFilter(Body):
    metadata: Filter | None = None
    values: Filter | None = None
    status: ThreadStatus | None = None


class ThreadSearch(ThreadFilter):
    ids: Annotated[list[Name], AtMost(THREADS)] | None = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None = None
    sort_order: SortOrder | None = None
    select: Names | None = None
    extract: Annotated[dict[Name, Name], AtMost(10)] | None = None


class ThreadPrune(Body):
    thread_ids: Annotated[list[Uuid], AtMost(THREADS)]
    strategy: Literal["delete", "keep_latest"] | None = None


StateFields = Annotated[
    Names | None,
    Field(description="Only these fields of the state; values.<key> for one key of its values. Default: all"),
]


class CheckpointRef(Body):
    thread_id: Name | None = None
    checkpoint_ns: CheckpointText | None = None
    checkpoint_id: CheckpointText | None = None
    checkpoint_map: Metadata | None = None

    def as_dict(self) -> JsonObject:
        return self.model_dump(exclude_none=True, exclude={"thread_id"})


class StateAt(Body):
    checkpoint: CheckpointRef
    subgraphs: bool | None = None
    select: StateFields = None


class StateUpdate(Body):
    OPAQUE = ("values",)

    values: Any = None
    as_node: Name | None = None
    checkpoint: CheckpointRef | None = None
    checkpoint_id: CheckpointText | None = None

    @model_validator(mode="after")
    def _dict_list_or_null(self) -> StateUpdate:
        if self.values is not None and not isinstance(self.values, dict | list):
            raise ValueError("values: must be an object, a list or null")
        if isinstance(self.values, list) and len(self.values) > UPDATES and isinstance(self.values[0], dict):
            raise LimitExceeded(f"values: are {len(self.values)} updates; at most {UPDATES} are allowed")
        return self


class History(Body):
    limit: Limit = 1
    before: Any = None
    metadata: Filter | None = None
    checkpoint: CheckpointRef | None = None
    select: StateFields = None


class StatePatch(Body):
    """`metadata` of the thread, merged."""

    metadata: Metadata | None = None
