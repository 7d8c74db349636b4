"""State update jobs: submits a job that an executor applies with the graph, and waits for the event of its outcome."""

from __future__ import annotations

from typing import Any

from uuid_utils import uuid7

from threadlog.api.commands import submit
from threadlog.api.context import Api
from threadlog.api.http.bodies import JsonObject
from threadlog.api.http.errors import ApiError, ServerStopping
from threadlog.api.idempotency.keyed import is_repeated, make_id
from threadlog.api.streaming.waiters import EventWaiter
from threadlog.engine.domain.commands import UpdateState
from threadlog.engine.log.port import Topic
from threadlog.engine.log.unreadable import event_in
from threadlog.engine.processor.ports import Decided
from threadlog.engine.tracing import active as tracing

NO_GRAPH = (
    "The thread has no graph yet: its metadata has no graph_id. Run a graph on it first, or set metadata.graph_id."
)


_OUTCOMES = ("state.updated", "state.update_failed", "thread.deleted")


class UpdateFailed(Exception):
    """The graph refused the update: `InvalidUpdateError` and the like."""


async def update_state(
    api: Api,
    thread_id: str,
    metadata: JsonObject,
    supersteps: list[JsonObject],
    *,
    checkpoint: JsonObject | None = None,
    config: JsonObject | None = None,
) -> dict[str, Any]:
    """Have the updates applied; returns `{checkpoint, configurable}` of the checkpoint they made.

    Raises `UpdateFailed`, and `ApiError`: 400 without a graph, 409 while a run is in flight.
    """
    graph_id = metadata.get("graph_id")
    if not isinstance(graph_id, str):
        raise ApiError(400, NO_GRAPH)
    if graph_id not in await api.assistant_cache.graph_names(api.pool):
        raise ApiError(
            400, f"The thread's graph '{graph_id}' is not registered. Is an executor running?", code="graph_not_found"
        )
    job_id = make_id(uuid7)
    trace = tracing.current()
    settled = EventWaiter(thread_id, *_OUTCOMES, job_id=job_id)
    api.hub.subscribe(settled)
    try:
        decided = await submit(
            api,
            UpdateState(
                thread_id=thread_id,
                job_id=job_id,
                graph_id=graph_id,
                supersteps=supersteps,
                checkpoint=checkpoint,
                config={**(config or {}), **({} if trace is None else {"trace": trace})},
                metadata=metadata,
            ),
        )
        event = await _past_outcome(api, decided, thread_id, job_id) if is_repeated(decided) else None
        event = event or await settled.wait(api.settings.state_update_timeout_seconds)
    finally:
        api.hub.unsubscribe(settled)
    if event is None:
        if settled.closed:
            raise ServerStopping
        raise ApiError(
            503, "No executor has applied the update in time. Is one running?", {"Retry-After": "5"}, code="no_executor"
        )
    if event["type"] == "thread.deleted":
        raise ApiError(404, f"Thread with ID {thread_id} not found", code="thread_not_found")
    if event["type"] == "state.update_failed":
        error = event.get("error") or {}
        raise UpdateFailed(f"{error.get('error', 'Error')}: {error.get('message', '')}")
    result: dict[str, Any] = event.get("result") or {}
    return result


async def _past_outcome(api: Api, decided: Decided, thread_id: str, job_id: str) -> dict[str, Any] | None:
    """How a job ended that was submitted before, by a request that was sent again; None while it has not."""
    at, end = decided.offset, (await api.log.bounds(Topic.EVENTS, decided.partition))[1]
    while at < end and (records := await api.log.read(Topic.EVENTS, decided.partition, at, end=end)):
        for record in records:
            if record.key == thread_id and (event_record := event_in(record)) is not None:
                for event in event_record.events:
                    if event["type"] in _OUTCOMES and event.get("job_id", job_id) == job_id:
                        return event
        at = records[-1].offset + 1
    return None


async def apply_supersteps(api: Api, thread_id: str, metadata: JsonObject, supersteps: list[JsonObject]) -> str | None:
    """Replay a history into a new thread; returns what went wrong, None if nothing did."""
    try:
        await update_state(api, thread_id, metadata, supersteps)
    except (UpdateFailed, ApiError) as error:
        return str(error)
    return None
