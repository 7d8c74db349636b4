"""Request bodies of runs: create, cancel."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from threadlog.api.assistants.bodies import SmallConfig
from threadlog.api.http.bodies import (
    Body,
    Filter,
    Indexed,
    JsonObject,
    Limit,
    Metadata,
    Moment,
    Name,
    Names,
    SortOrder,
    Uuid,
)
from threadlog.api.http.limits import FEEDBACK_KEYS, NAMES, RUNS, AtMost
from threadlog.api.threads.bodies import CheckpointRef, CheckpointText
from threadlog.engine.domain.limits import WEBHOOK_CHARACTERS

StreamMode = Literal[
    "values", "messages", "messages-tuple", "tasks", "checkpoints", "updates", "events", "debug", "custom",
    "tools", "lifecycle",
]  # fmt: skip


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _nodes(value: Any) -> Any:
    if isinstance(value, list):
        AtMost(NAMES).check(value)
    if value is None or value == "*" or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise ValueError('must be "*" or a list of node names')


_OneOrMore: Any = StreamMode | list[StreamMode]  # what a client may send, for the description
StreamModes = Annotated[list[StreamMode], AtMost(NAMES), BeforeValidator(_listed, json_schema_input_type=_OneOrMore)]
RunStatus = Literal["pending", "running", "success", "error", "timeout", "interrupted"]
_OneOrMoreStatuses: Any = RunStatus | list[RunStatus]
RunStatuses = Annotated[
    list[RunStatus], AtMost(NAMES), BeforeValidator(_listed, json_schema_input_type=_OneOrMoreStatuses)
]
Nodes = Annotated[Any, BeforeValidator(_nodes, json_schema_input_type=Literal["*"] | list[str] | None)]


def _targets(command: Any) -> Any:
    """Refuse a `goto` that names nothing. That of a large body, which stays text, is the executor's to refuse."""
    goto = command.get("goto") if isinstance(command, dict) else None
    for target in goto if isinstance(goto, list) else () if goto is None else (goto,):
        named = not isinstance(target, (bool, int, float, list, dict)) and target is not None
        if not named and not (isinstance(target, dict) and isinstance(target.get("node"), str)):
            raise ValueError('goto must be the name of a node, {"node": …, "input": …}, or a list of these')
    return command


def _not_only_null(command: Any) -> Any:
    if isinstance(command, dict) and "resume" in command and not any(command.values()) and command["resume"] is None:
        raise ValueError(
            "resume: null answers nothing in LangGraph. To continue without an answer leave command out; to answer null"
            ' name the interrupt: {"resume": {"<interrupt id>": null}}'
        )
    return command


class LangsmithTracer(Body):
    project_name: Name | None = None
    example_id: Name | None = None


class RunOptions(Body):
    """What a run may be asked, be it created by a request or by a cron."""

    OPAQUE: ClassVar[tuple[str, ...]] = ("input",)

    input: Any = None
    metadata: Metadata | None = None
    config: SmallConfig | None = None
    context: Metadata | None = None
    webhook: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=WEBHOOK_CHARACTERS,
            description="URL to which the end of the run is POSTed: docs/webhooks.md",
        ),
    ] = None
    interrupt_before: Nodes = None
    interrupt_after: Nodes = None
    stream_mode: StreamModes | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    multitask_strategy: Literal["reject", "rollback", "interrupt", "enqueue"] | None = None
    checkpoint_during: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = None


class RunCreate(RunOptions):
    """A run of a thread, or a stateless one."""

    OPAQUE = ("input", "command")

    assistant_id: Annotated[Indexed, Field(min_length=1)]
    command: Annotated[JsonObject | None, AfterValidator(_not_only_null), AfterValidator(_targets)] = None
    checkpoint: CheckpointRef | None = None
    checkpoint_id: CheckpointText | None = None
    feedback_keys: Annotated[
        list[Annotated[Name, Field(min_length=1)]] | None,
        AtMost(FEEDBACK_KEYS),
        Field(description="Keys for which LangSmith's presigned URLs are returned at the run's end: docs/streaming.md"),
    ] = None
    if_not_exists: Literal["reject", "create"] | None = None
    after_seconds: Annotated[
        float | None,
        Field(description="The run is due so many seconds from now, at that time of day: see docs/operations.md"),
    ] = None
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


class RunFilterBody(Body):
    """Runs of all threads. `since` to before `until`: when they were created."""

    status: RunStatuses | None = None
    assistant_id: Uuid | None = None
    graph_id: Indexed | None = None
    thread_id: Uuid | None = None
    run_ids: Annotated[list[Uuid], AtMost(RUNS)] | None = None
    metadata: Filter | None = None
    since: Moment | None = None
    until: Moment | None = None


class RunSearch(RunFilterBody):
    limit: Limit = 10
    after: Annotated[
        Name | None,
        Field(description="`X-Pagination-Next` of the page before: what follows it, whatever was created since"),
    ] = None
    sort_order: SortOrder | None = None
    select: Names | None = None
