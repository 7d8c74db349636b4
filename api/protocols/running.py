"""Runs on behalf of a call: created like any other, and waited for."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from threadlog.api.context import Api
from threadlog.api.http.disconnects import CREATOR_LEFT, client_gone
from threadlog.api.http.errors import ServerStopping
from threadlog.api.http.responses import exactly
from threadlog.api.idempotency.keyed import KEYED
from threadlog.api.protocols.slow_reply import keep_alive
from threadlog.api.runs.bodies import RunCreate
from threadlog.api.runs.cancel import cancelled_on_disconnect
from threadlog.api.runs.create import NewRun, create_run, prepare, was_created
from threadlog.api.runs.wait import logged_output, result
from threadlog.api.streaming.cursor import RunEnd, run_end_of_row
from threadlog.api.streaming.waiters import FinalValuesWaiter
from threadlog.projections.queries import runs


async def run_to_end(
    request: web.Request, api: Api, params: RunCreate, thread_id: str | None, *, cancels: bool
) -> tuple[NewRun, dict[str, Any] | None, Any]:
    """Create a run and wait for its end: the run, its error (`{error, message}`) or None, and its values.

    `cancels`: the run is cancelled when the client leaves before its end, unless the request has an idempotency key:
    it will be sent again.

    Raises:
        ApiError: the run can't be created.
        ConnectionResetError: the client has left.
        ServerStopping: the server stops; the run goes on.
    """
    new = await prepare(request, api, params, thread_id)
    repeated = await was_created(api, new)
    cancels = cancels and KEYED.get() is None
    output = FinalValuesWaiter(
        new.thread_id, new.run_id, from_start=not repeated, frame_wait_seconds=api.settings.frame_wait_seconds
    )
    api.hub.subscribe(output)
    try:
        if not repeated:
            await create_run(api, new)
        elif (row := await runs.progress(api.pool, new.run_id)) is not None:
            output.ended(run_end_of_row(row))
        elif thread_id is None and (logged := await logged_output(api, new.run_id)) is not None:
            return _outcome(new, logged)
        else:
            output.ended(RunEnd("gone"))
        async with cancelled_on_disconnect(api, request, output, CREATOR_LEFT if cancels else None):
            with api.disconnects.watch(request, output.close):
                while not await output.wait(api.settings.heartbeat_seconds):
                    await keep_alive(request)
                if output.closed:
                    raise ConnectionResetError if client_gone(request) else ServerStopping
                return _outcome(new, await result(api, output))
    finally:
        api.hub.unsubscribe(output)


def _outcome(new: NewRun, body: bytes) -> tuple[NewRun, dict[str, Any] | None, Any]:
    values = exactly(body)
    error = values.get("__error__") if isinstance(values, dict) else None
    return new, error, None if error is not None else values
