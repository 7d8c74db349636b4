"""Request bodies. Unknown fields are ignored; an error names the field that is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from threadlog.api.http.limits import (
    CHECKPOINT_CHARACTERS,
    FILTER_KEYS,
    NAME_CHARACTERS,
    NAMES,
    RUNS,
    TEXT_CHARACTERS,
    THREADS,
    UPDATES,
    AtMost,
    small,
)
from threadlog.engine.domain.limits import INDEXED_BYTES, METADATA_KEYS

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
    if isinstance(value, list):
        AtMost(NAMES).check(value)
    if value is None or value == "*" or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise ValueError('must be "*" or a list of node names')


def _updates(value: Any) -> Any:
    if isinstance(value, list):
        steps = [step.get("updates") for step in value if isinstance(step, dict)]
        count = sum(len(updates) for updates in steps if isinstance(updates, list))
        if max(count, len(value)) > UPDATES:
            raise ValueError(f"have {count} updates in {len(value)} supersteps; at most {UPDATES} are allowed")
    return value


def _later(value: Any) -> Any:
    """For what is not acted on yet: to ask for it is refused, to ask for none is not."""
    if value in (None, "", [], {}, False):
        return None
    raise ValueError("threadlog has no such feature yet. Leave it out.")


_CHARACTERS = "characters"
Uuid = Annotated[str, AfterValidator(_uuid), AtMost(NAME_CHARACTERS, _CHARACTERS)]
Name = Annotated[str, AtMost(NAME_CHARACTERS, _CHARACTERS)]
Indexed = Annotated[str, AtMost(INDEXED_BYTES // 4, _CHARACTERS)]
CheckpointText = Annotated[str, AtMost(CHECKPOINT_CHARACTERS, _CHARACTERS)]
Text = Annotated[str, AtMost(TEXT_CHARACTERS, _CHARACTERS)]
Names = Annotated[list[Name], AtMost(NAMES)]
Metadata = Annotated[JsonObject, AfterValidator(small(METADATA_KEYS))]
Filter = Annotated[JsonObject, AfterValidator(small(FILTER_KEYS))]
Later = Annotated[Any, BeforeValidator(_later)]
StreamModes = Annotated[list[StreamMode], AtMost(NAMES), BeforeValidator(_listed)]
Nodes = Annotated[Any, BeforeValidator(_nodes)]
Limit = Annotated[int, Field(ge=1, le=1000)]
Offset = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


# --- assistants


class Config(Body):
    """A runnable config as clients send it; other keys of it are kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    tags: Names | None = None
    recursion_limit: Annotated[int, Field(ge=1)] | None = None
    configurable: JsonObject | None = None
    metadata: JsonObject | None = None

    def as_dict(self) -> JsonObject:
        return {k: v for k, v in self.model_dump(exclude_unset=True).items() if v is not None}


SmallConfig = Annotated[Config, BeforeValidator(small(METADATA_KEYS))]


class AssistantCreate(Body):
    graph_id: Indexed
    assistant_id: Uuid | None = None
    config: SmallConfig | None = None
    context: Metadata | None = None
    metadata: Metadata | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    name: Indexed | None = None
    description: Text | None = None


class AssistantPatch(Body):
    graph_id: Indexed | None = None
    config: SmallConfig | None = None
    context: Metadata | None = None
    metadata: Metadata | None = None
    name: Indexed | None = None
    description: Text | None = None


class AssistantFilter(Body):
    metadata: Filter | None = None
    graph_id: Indexed | None = None
    name: Indexed | None = None


class AssistantSearch(AssistantFilter):
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "created_at", "updated_at", "name", "graph_id"] | None = None
    sort_order: SortOrder | None = None
    select: Names | None = None


class AssistantVersions(Body):
    metadata: Filter | None = None
    limit: Limit = 10
    offset: Offset = 0


class AssistantLatest(Body):
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


# --- threads


class Update(Body):
    values: Any = None
    as_node: Name | None = None
    command: JsonObject | None = None


class Superstep(Body):
    updates: list[Update]


class ThreadCreate(Body):
    thread_id: Uuid | None = None
    metadata: Metadata | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    ttl: Later = None
    supersteps: Annotated[list[Superstep], BeforeValidator(_updates)] | None = None


class ThreadPatch(Body):
    metadata: Metadata | None = None
    ttl: Later = None


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
    values: Any = None
    as_node: Name | None = None
    checkpoint: CheckpointRef | None = None
    checkpoint_id: CheckpointText | None = None

    @model_validator(mode="after")
    def _dict_list_or_null(self) -> StateUpdate:
        if self.values is not None and not isinstance(self.values, dict | list):
            raise ValueError("values: must be an object, a list or null")
        if isinstance(self.values, list) and len(self.values) > UPDATES and isinstance(self.values[0], dict):
            raise ValueError(f"values: are {len(self.values)} updates; at most {UPDATES} are allowed")
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


# --- runs


class LangsmithTracer(Body):
    project_name: Name | None = None
    example_id: Name | None = None


class RunCreate(Body):
    """What both thread runs and stateless runs take."""

    assistant_id: Annotated[Indexed, Field(min_length=1)]
    input: Any = None
    command: JsonObject | None = None
    checkpoint: CheckpointRef | None = None
    checkpoint_id: CheckpointText | None = None
    metadata: Metadata | None = None
    config: SmallConfig | None = None
    context: Metadata | None = None
    webhook: Later = None
    interrupt_before: Nodes = None
    interrupt_after: Nodes = None
    stream_mode: StreamModes | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    feedback_keys: Later = None
    multitask_strategy: Literal["reject", "rollback", "interrupt", "enqueue"] | None = None
    if_not_exists: Literal["reject", "create"] | None = None
    after_seconds: Annotated[
        float | None,
        Field(description="The run is due so many seconds from now, at that time of day: see docs/operations.md"),
    ] = None
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
    run_ids: Annotated[list[Uuid], AtMost(RUNS)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> CancelMany:
        by_ids = self.thread_id is not None and self.run_ids is not None
        if self.status is not None:
            if self.thread_id is not None or self.run_ids is not None:
                raise ValueError("give either status, or thread_id and run_ids, not both")
        elif not by_ids:
            raise ValueError("give either status, or thread_id and run_ids")
        return self
