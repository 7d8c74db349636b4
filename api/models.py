"""Request bodies. Unknown fields are ignored; an error names the field that is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

JsonObject = dict[str, Any]
SortOrder = Literal["asc", "desc"]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]
StreamMode = Literal[
    "values", "messages", "messages-tuple", "tasks", "checkpoints", "updates", "events", "debug", "custom",
    "tools", "lifecycle",
]  # fmt: skip


def _uuid(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise ValueError("must be a UUID") from None


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _nodes(value: Any) -> Any:
    if value is None or value == "*" or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise ValueError('must be "*" or a list of node names')


def _ttl(value: Any) -> Any:
    return {"ttl": value, "strategy": "delete"} if isinstance(value, int | float) else value


Uuid = Annotated[str, AfterValidator(_uuid)]
StreamModes = Annotated[list[StreamMode], BeforeValidator(_listed)]
Nodes = Annotated[Any, BeforeValidator(_nodes)]
Limit = Annotated[int, Field(ge=1, le=1000)]
Offset = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


# --- assistants


class Config(Body):
    """A runnable config as clients send it; other keys of it are kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    tags: list[str] | None = None
    recursion_limit: Annotated[int, Field(ge=1)] | None = None
    configurable: JsonObject | None = None

    def given(self) -> JsonObject:
        return {k: v for k, v in self.model_dump(exclude_unset=True).items() if v is not None}


class AssistantCreate(Body):
    graph_id: str
    assistant_id: Uuid | None = None
    config: Config | None = None
    context: JsonObject | None = None
    metadata: JsonObject | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    name: str | None = None
    description: str | None = None


class AssistantPatch(Body):
    graph_id: str | None = None
    config: Config | None = None
    context: JsonObject | None = None
    metadata: JsonObject | None = None
    name: str | None = None
    description: str | None = None


class AssistantFilter(Body):
    metadata: JsonObject | None = None
    graph_id: str | None = None
    name: str | None = None


class AssistantSearch(AssistantFilter):
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "created_at", "updated_at", "name", "graph_id"] | None = None
    sort_order: SortOrder | None = None
    select: list[str] | None = None


class AssistantVersions(Body):
    metadata: JsonObject | None = None
    limit: Limit = 10
    offset: Offset = 0


class AssistantLatest(Body):
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


# --- threads


class Ttl(Body):
    """`ttl` in minutes."""

    strategy: Literal["delete", "keep_latest"] = "delete"
    ttl: Annotated[float, Field(gt=0, le=100_000_000)]


ThreadTtl = Annotated[Ttl, BeforeValidator(_ttl)]


class Update(Body):
    values: Any = None
    as_node: str | None = None
    command: JsonObject | None = None


class Superstep(Body):
    updates: list[Update]


class ThreadCreate(Body):
    thread_id: Uuid | None = None
    metadata: JsonObject | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    ttl: ThreadTtl | None = None
    supersteps: list[Superstep] | None = None


class ThreadPatch(Body):
    metadata: JsonObject | None = None
    ttl: ThreadTtl | None = None


class ThreadFilter(Body):
    metadata: JsonObject | None = None
    values: JsonObject | None = None
    status: ThreadStatus | None = None


class ThreadSearch(ThreadFilter):
    ids: list[str] | None = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None = None
    sort_order: SortOrder | None = None
    select: list[str] | None = None
    extract: Annotated[dict[str, str], Field(max_length=10)] | None = None


class ThreadPrune(Body):
    thread_ids: list[Uuid]
    strategy: Literal["delete", "keep_latest"] | None = None


StateFields = Annotated[
    list[str] | None,
    Field(description="Only these fields of the state; values.<key> for one key of its values. Default: all"),
]


class CheckpointRef(Body):
    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    checkpoint_map: JsonObject | None = None

    def given(self) -> JsonObject:
        return self.model_dump(exclude_none=True, exclude={"thread_id"})


class StateAt(Body):
    checkpoint: CheckpointRef
    subgraphs: bool | None = None
    select: StateFields = None


class StateUpdate(Body):
    values: Any = None
    as_node: str | None = None
    checkpoint: CheckpointRef | None = None
    checkpoint_id: str | None = None

    @model_validator(mode="after")
    def _dict_list_or_null(self) -> StateUpdate:
        if self.values is not None and not isinstance(self.values, dict | list):
            raise ValueError("values: must be an object, a list or null")
        return self


class History(Body):
    limit: Limit = 1
    before: Any = None
    metadata: JsonObject | None = None
    checkpoint: CheckpointRef | None = None
    select: StateFields = None


class StatePatch(Body):
    """`metadata` of the thread, merged."""

    metadata: JsonObject | None = None


# --- runs


class LangsmithTracer(Body):
    project_name: str | None = None
    example_id: str | None = None


class RunCreate(Body):
    """What both thread runs and stateless runs take."""

    assistant_id: Annotated[str, Field(min_length=1)]
    input: Any = None
    command: JsonObject | None = None
    checkpoint: CheckpointRef | None = None
    checkpoint_id: str | None = None
    metadata: JsonObject | None = None
    config: Config | None = None
    context: JsonObject | None = None
    webhook: Annotated[str, Field(min_length=1, max_length=65536)] | None = None
    interrupt_before: Nodes = None
    interrupt_after: Nodes = None
    stream_mode: StreamModes | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    feedback_keys: list[str] | None = None
    multitask_strategy: Literal["reject", "rollback", "interrupt", "enqueue"] | None = None
    if_not_exists: Literal["reject", "create"] | None = None
    after_seconds: float | None = None
    checkpoint_during: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    strict_resume: Annotated[
        bool | None,
        Field(
            description="Fail with UnknownInterruptError, the thread as it was, when no interrupt waits for an answer"
        ),
    ] = None
    on_disconnect: Literal["cancel", "continue"] | None = None
    on_completion: Literal["delete", "keep"] | None = None
    langsmith_tracer: LangsmithTracer | None = None


class CancelMany(Body):
    """Exactly one of `status` or `thread_id` with `run_ids`."""

    status: Literal["pending", "running", "all"] | None = None
    thread_id: Uuid | None = None
    run_ids: list[Uuid] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> CancelMany:
        by_ids = self.thread_id is not None and self.run_ids is not None
        if self.status is not None:
            if self.thread_id is not None or self.run_ids is not None:
                raise ValueError("give either status, or thread_id and run_ids, not both")
        elif not by_ids:
            raise ValueError("give either status, or thread_id and run_ids")
        return self
