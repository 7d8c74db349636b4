"""Wait and join handlers: return one JSON body, the run's last values or its error, once it has ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.context import Api, api_of
from threadlog.api.http.disconnects import CREATOR_LEFT, JOINER_LEFT, abort_connection, client_gone
from threadlog.api.http.errors import ApiError
from threadlog.api.http.request_keys import ANSWER
from threadlog.api.http.requests import body, path_of, path_uuid, query_flag, thread_id_or_none
from threadlog.api.http.responses import decoded, exactly, raw_reply
from threadlog.api.http.routes import joins, requires, sends
from threadlog.api.runs import stateless
from threadlog.api.runs.bodies import RunCreate
from threadlog.api.runs.cancel import cancelled_on_disconnect, may_cancel
from threadlog.api.runs.create import create_run, prepare, was_created
from threadlog.api.streaming.cursor import RunEnd, run_end_of_row
from threadlog.api.streaming.waiters import FinalValuesWaiter
from threadlog.projections.queries import runs, state
from threadlog.projections.queries.metadata_filter import MetadataFilter

_GONE = orjson.dumps({"__error__": {"error": "HTTPException", "message": "404: Run not found"}})


@joins
@requires("threads.create_run", "assistants.read")
@sends("Location", "Content-Location")
async def create(request: web.Request) -> web.StreamResponse:
    """Create a run and return its final values.

    POST …/runs/wait (contract 1.3, 2.5).
    """
    api = api_of(request)
    thread_id = thread_id_or_none(request)
    new = await prepare(request, api, await body(request, RunCreate), thread_id)
    repeated = await was_created(api, new)
    output = FinalValuesWaiter(
        new.thread_id, new.run_id, from_start=not repeated, frame_wait_seconds=api.settings.frame_wait_seconds
    )
    api.hub.subscribe(output)
    try:
        if repeated:
            row = await runs.progress(api.pool, new.run_id)
            if row is None:
                return await _deleted_run_response(api, new.run_id, thread_id, None)
            output.ended(run_end_of_row(row))
        else:
            await create_run(api, new)
        headers = new.headers("join")
        cancels = CREATOR_LEFT if new.params.on_disconnect == "cancel" else None
        keys = new.params.feedback_keys
        return await _respond(api, request, output, headers, cancels=cancels, feedback_keys=keys)
    finally:
        api.hub.unsubscribe(output)


@requires("threads.read")
@sends("Location", "Content-Location")
async def join(request: web.Request) -> web.StreamResponse:
    """Wait for the end of a run and return its final values.

    GET …/runs/{run_id}/join (contract 1.3, 2.5).
    """
    api = api_of(request)
    thread_id = thread_id_or_none(request)
    run_id = path_uuid(request, "run_id", "run")
    leaves = query_flag(request, "cancel_on_disconnect")
    only = await allowed(request, "threads.read", {"thread_id": thread_id, "run_id": run_id})
    cancels = JOINER_LEFT if leaves and await may_cancel(request, api, run_id, thread_id) else None
    row = await runs.progress(api.pool, run_id, thread_id, only)
    if row is None:
        return await _deleted_run_response(api, run_id, thread_id, only)
    output = FinalValuesWaiter(
        str(row["thread_id"]), run_id, from_start=False, frame_wait_seconds=api.settings.frame_wait_seconds
    )
    api.hub.subscribe(output)
    try:
        row = await runs.progress(api.pool, run_id, thread_id, only)  # again, now that no event can be missed
        if row is None:
            return await _deleted_run_response(api, run_id, thread_id, only)
        output.ended(run_end_of_row(row))
        headers = {"Location": path_of(request), "Content-Location": path_of(request).rpartition("/")[0]}
        keys = await api.feedback.keys_of(api.pool, run_id)
        return await _respond(api, request, output, headers, cancels=cancels, feedback_keys=keys)
    finally:
        api.hub.unsubscribe(output)


async def _deleted_run_response(
    api: Api, run_id: str, thread_id: str | None, only: MetadataFilter | None
) -> web.Response:
    """A stateless run may have ended, and been deleted, while its client was on the way back."""
    values = await logged_output(api, run_id, only) if thread_id is None else None
    if values is None:
        raise ApiError(404, "Run not found", code="run_not_found")
    return raw_reply(values)


async def logged_output(api: Api, run_id: str, only: MetadataFilter | None = None) -> bytes | None:
    """The response body, made of the frames of a stateless run that was deleted with its thread; None without one."""
    run = await stateless.find(api, run_id, None, only)
    if run is None:
        return None
    values, error = await stateless.output(api, run)
    if error is not None:
        return b'{"__error__":%b}' % error
    return _GONE if values is None else values


async def _respond(
    api: Api,
    request: web.Request,
    output: FinalValuesWaiter,
    headers: dict[str, str],
    *,
    cancels: str | None,
    feedback_keys: Sequence[str] | None,
) -> web.StreamResponse:
    """A run ending within `answer_wait_seconds` is one response; else headers first, then a newline per heartbeat."""
    async with cancelled_on_disconnect(api, request, output, cancels):
        with api.disconnects.watch(request, output.close):
            return await _deliver(api, request, output, headers, feedback_keys)


async def _deliver(
    api: Api,
    request: web.Request,
    output: FinalValuesWaiter,
    headers: dict[str, str],
    feedback_keys: Sequence[str] | None,
) -> web.StreamResponse:
    if await output.wait(api.settings.answer_wait_seconds):
        if not output.closed:
            return raw_reply(await _with_feedback(api, output, feedback_keys), headers=headers)
        if client_gone(request):
            raise ConnectionResetError
        # The server stops, the run goes on: the headers tell the client where to resume.
    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    await response.prepare(request)
    try:
        while not await output.wait(api.settings.heartbeat_seconds):
            await response.write(b"\n")
        if output.closed:
            abort_connection(request)  # not an end the client may take for the result
        else:
            body = request[ANSWER] = await _with_feedback(api, output, feedback_keys)
            await response.write_eof(body)
    except Exception as error:
        if not (isinstance(error, ConnectionResetError) and client_gone(request)):
            abort_connection(request)  # it may as well be a connection to the database that was reset
            raise
    return response


async def _with_feedback(api: Api, output: FinalValuesWaiter, keys: Sequence[str] | None) -> bytes:
    """The body, and a successful run's feedback links in it."""
    values = await result(api, output)
    if not keys or output.end is None or output.end.kind != "success":
        return values
    links = await api.feedback.of(output.run_id or "", keys)
    with_feedback = None if links is None else exactly(values)
    if not isinstance(with_feedback, dict):
        return values
    return orjson.dumps({**with_feedback, "__feedback__": links})


async def result(api: Api, output: FinalValuesWaiter) -> bytes:
    """The body: values, with `__interrupt__` when it stopped at one, or `__error__`."""
    end = output.end
    assert end is not None
    if end.kind == "gone":
        return _GONE if output.values is None else output.values
    if end.kind in ("error", "timeout"):
        return orjson.dumps({"__error__": end.error or {"error": "Error", "message": ""}})
    if end.kind == "success" and output.complete and output.values is not None:
        return _with_interrupts(output.values, end.interrupts) if end.interrupts else output.values
    return await _values_in_thread(api, output.thread_id, output.run_id or "", end)


def _with_interrupts(values: bytes, interrupts: dict[str, list[Any]]) -> bytes:
    """These values with all interrupts of the run: each of its last `values` events has one only."""
    with_interrupts = exactly(values)
    if not isinstance(with_interrupts, dict):
        return values
    return orjson.dumps(
        {
            **with_interrupts,
            "__interrupt__": _as_streamed(interrupt for of_task in interrupts.values() for interrupt in of_task),
        }
    )


def _as_streamed(interrupts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Interrupts in the form that streams have."""
    return [{"value": None, "id": None, "response_schema": None, **interrupt} for interrupt in interrupts]


async def _values_in_thread(api: Api, thread_id: str, run_id: str, end: RunEnd) -> bytes:
    """The values that the run left in the thread: at its last checkpoint, or the newest if it wrote none."""
    checkpoint_id = await runs.last_checkpoint(api.pool, thread_id, run_id)
    latest = await state.get_state(api.pool, thread_id, checkpoint_id=checkpoint_id)
    values = latest["values"]
    # The request joined a stateless run before its end: it has not seen all frames, and the thread is deleted.
    if values == {} and (emitted := await logged_output(api, run_id)) is not None:
        return emitted
    if end.kind == "success" and latest["interrupts"]:
        values = decoded(values)
        if isinstance(values, dict):
            values = {**values, "__interrupt__": _as_streamed(latest["interrupts"])}
    return orjson.dumps(values)
