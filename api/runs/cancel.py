"""Cancellation handlers: one run, many runs, and runs whose client has disconnected."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.commands import submit_many, submit_unless_rejected
from threadlog.api.context import Api, api_of
from threadlog.api.http.disconnects import client_gone
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.requests import body, path_of, path_uuid, query_flag, query_text, thread_id_or_none
from threadlog.api.http.responses import no_content, reply
from threadlog.api.http.routes import requires, sends
from threadlog.api.idempotency.keyed import has_done_something
from threadlog.api.idempotency.returns import unless_it_returns
from threadlog.api.runs.bodies import CancelMany
from threadlog.api.streaming.cursor import RunEnd
from threadlog.api.streaming.waiters import EventWaiter
from threadlog.engine.domain.cancelling import REASON_CHARACTERS
from threadlog.engine.domain.commands import CancelAction, CancelRun
from threadlog.engine.log.port import LogUnavailable
from threadlog.projections.queries import runs, threads
from threadlog.projections.queries.metadata_filter import MetadataFilter

logger = logging.getLogger(__name__)

_NONE_FOUND = "No runs found to cancel."
_TAKEN = "taken"


@requires("threads.update")
@sends("Location")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a run; with `wait` the response comes once its executor has stopped.

    POST …/runs/{run_id}/cancel (contract 1.3, 3.4).
    """
    api = api_of(request)
    run_id = path_uuid(request, "run_id", "run")
    thread_id = thread_id_or_none(request)
    wait = query_flag(request, "wait")
    action = _action(request)
    by = "POST /threads/{thread_id}/runs/{run_id}/cancel" if thread_id else "POST /runs/{run_id}/cancel"
    reason = _reason(request, action, by)
    only = await cancel_allowed(request, action, thread_id, [run_id])
    row = await runs.progress(api.pool, run_id, thread_id, only)
    if row is None:
        if await has_done_something(api):  # rolled back
            return web.Response(status=202)
        raise ApiError(404, _NONE_FOUND, code="run_not_found")
    thread_id = str(row["thread_id"])
    command = CancelRun(thread_id=thread_id, run_id=run_id, action=action, reason=reason)
    stopped = EventWaiter(thread_id, "run.stopped", "thread.deleted", run_id=run_id)
    api.hub.subscribe(stopped)
    try:
        decided = await submit_unless_rejected(api, command)
        if decided is None:
            raise ApiError(404, "No matching runs to cancel: the run has already ended.", code="run_not_found")
        if wait and any(event.get("stopping") for event in decided.events):
            await stopped.wait(api.settings.cancel_wait_timeout_seconds)
    finally:
        api.hub.unsubscribe(stopped)
    if not wait:
        return web.Response(status=202)
    return reply({}, headers={"Location": f"{path_of(request).rpartition('/')[0]}/join"})


@requires("threads.update")
async def cancel_many(request: web.Request) -> web.Response:
    """Cancel every run that matches and has not ended.

    POST /runs/cancel (contract 1.3, 3.4).
    """
    api = api_of(request)
    params = await body(request, CancelMany)
    action = _action(request)
    reason = _reason(request, action, "POST /runs/cancel")
    only = await cancel_allowed(request, action, params.thread_id, params.run_ids, params.status)
    if params.status is not None:
        statuses = ["pending", "running"] if params.status == "all" else [params.status]
        rows = await runs.in_flight(api.pool, statuses, only)
        matching = [(str(row["thread_id"]), str(row["run_id"])) for row in rows]
    else:
        assert params.thread_id is not None and params.run_ids is not None
        if only is not None and not await threads.exists(api.pool, params.thread_id, only):
            raise ApiError(404, _NONE_FOUND, code="run_not_found")
        matching = [(params.thread_id, run_id) for run_id in dict.fromkeys(params.run_ids)]
    commands = [
        CancelRun(thread_id=thread_id, run_id=run_id, action=action, reason=reason) for thread_id, run_id in matching
    ]
    if not await submit_many(api, commands):
        raise ApiError(404, _NONE_FOUND, code="run_not_found")
    return no_content()


async def cancel_allowed(
    request: web.Request,
    action: CancelAction,
    thread_id: str | None,
    run_ids: list[str] | None,
    status: str | None = None,
) -> MetadataFilter | None:
    """Ask for `threads.update`: to cancel these runs."""
    value = {"thread_id": thread_id, "action": action, "metadata": {"run_ids": run_ids, "status": status}}
    return await allowed(request, "threads.update", value)


async def may_cancel(request: web.Request, api: Api, run_id: str, thread_id: str | None) -> bool:
    """Whether the caller, who joins the run, may also cancel it."""
    only = await cancel_allowed(request, "interrupt", thread_id, [run_id])
    return only is None or await runs.progress(api.pool, run_id, thread_id, only) is not None


class Followed(Protocol):
    """A run that a client follows: a subscription, or a waiter."""

    thread_id: str
    run_id: str | None

    @property
    def end(self) -> RunEnd | None: ...


@asynccontextmanager
async def cancelled_on_disconnect(
    api: Api, request: web.Request, run: Followed, reason: str | None
) -> AsyncIterator[None]:
    """While the response to a client is under way: cancel the run for this reason when the client leaves before its
    end, and no other such client is left; with an idempotency key, when it does not come back either. `reason` None:
    the run goes on."""
    if reason is None or run.end is not None:
        yield
        return
    run_id = str(run.run_id)
    cancel = partial(_cancel_after_disconnect, api, run.thread_id, run_id, reason)
    left = await unless_it_returns(api, run_id, cancel)
    with api.disconnects.cancels(run_id) as is_last:
        try:
            yield
        finally:
            if run.end is None and client_gone(request) and is_last():
                if left is None:
                    await cancel()
                else:
                    left()


async def _cancel_after_disconnect(api: Api, thread_id: str, run_id: str, reason: str) -> None:
    """A run that has ended meanwhile is not an error; a log that can't be reached is a line in the server's log."""
    try:
        await submit_unless_rejected(api, CancelRun(thread_id=thread_id, run_id=run_id, reason=reason))
    except LogUnavailable as error:
        fields = {"thread_id": thread_id, "run_id": run_id}
        logger.warning("run %s was not cancelled although its client left: %s", run_id, error, extra=fields)


def _reason(request: web.Request, action: CancelAction, by: str) -> str:
    """The `cancel_reason` of the runs: the client's own words, or which request it was.

    `reason=taken` (of the newest clients): the run's input was taken up by another run.
    """
    default = f"{action} requested via {by}"
    reason = query_text(request, "reason")
    if not reason:
        return default
    if reason == _TAKEN:
        if action != "interrupt":
            raise ApiError(422, "reason: `taken` is for action=interrupt only")
        return f"{_TAKEN}: {default}"
    if len(reason) > REASON_CHARACTERS:
        raise ApiError(422, f"reason: must have at most {REASON_CHARACTERS} characters", code="limit_exceeded")
    return reason


def _action(request: web.Request) -> CancelAction:
    action = query_text(request, "action") or "interrupt"
    if action == "interrupt":
        return "interrupt"
    if action == "rollback":
        return "rollback"
    raise ApiError(422, f"action: must be interrupt or rollback, not {shown(action)}")
