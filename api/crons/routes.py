"""Handlers of crons: create, search, count, get, patch, delete (contract 1.4, 6)."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from threadlog.api.assistants.config import sync_config_and_context
from threadlog.api.auth.gate import allowed, caller_of, metadata_in
from threadlog.api.commands import submit
from threadlog.api.context import Api, api_of
from threadlog.api.crons.bodies import CronCreate, CronFilter, CronPatch, CronSearch, ThreadCronCreate
from threadlog.api.crons.json import CronResponse, CronSearchResponse, cron_to_json, selected
from threadlog.api.encrypted_fields import require_readable
from threadlog.api.http.bodies import JsonObject
from threadlog.api.http.errors import ApiError
from threadlog.api.http.models import Count, fields_of, list_of_selected
from threadlog.api.http.requests import body, path_uuid, select_of
from threadlog.api.http.responses import no_content, page, reply
from threadlog.api.http.routes import Route, requires, sends
from threadlog.api.idempotency.keyed import make_id
from threadlog.api.runs.bodies import RunOptions
from threadlog.api.runs.create import check_webhook, runnable_assistant
from threadlog.engine.clock import now
from threadlog.engine.domain.commands import CreateCron, DeleteCron, UpdateCron
from threadlog.engine.ids import new_id
from threadlog.engine.schedules import ScheduleError, end_of, iso, next_due
from threadlog.projections.queries import crons as queries
from threadlog.projections.queries import threads
from threadlog.projections.queries.metadata_filter import MetadataFilter

_SELECTABLE = fields_of(CronResponse) | {"now"}
_TRIES = 12  # of a PATCH that others, or a firing, overtake
_WAIT_SECONDS = 0.03  # at most before the second one, longer before each further one

# Of the options of a run, those that a cron's payload has under the same name.
_OPTIONS = (
    "input", "interrupt_before", "interrupt_after", "stream_mode", "stream_subgraphs", "stream_resumable",
    "multitask_strategy", "webhook",
)  # fmt: skip


@requires("crons.create", "threads.create_run", "assistants.read")
async def create(request: web.Request) -> web.Response:
    """Create a cron whose every run has a thread of its own. No run is started now.

    POST /runs/crons (contract 1.4, 6).
    """
    return await _create(request, await body(request, CronCreate), None)


@requires("crons.create", "threads.create_run", "assistants.read")
async def create_for_thread(request: web.Request) -> web.Response:
    """Create a cron whose runs are on this thread. No run is started now.

    POST /threads/{thread_id}/runs/crons (contract 1.4, 6).
    """
    thread_id = path_uuid(request, "thread_id", "thread")
    return await _create(request, await body(request, ThreadCronCreate), thread_id)


async def _create(request: web.Request, params: ThreadCronCreate, thread_id: str | None) -> web.Response:
    api = api_of(request)
    await check_webhook(api, params.webhook)
    try:
        assistant = await runnable_assistant(request, api, params.assistant_id)
    except ApiError as error:
        if error.code == "assistant_not_found":  # for the name of no graph it has the 422 of runs
            error.status = 404
        raise
    end_time = None if params.end_time is None else _end(params.end_time)
    enabled = params.enabled is not False
    cron_id = make_id(new_id)
    caller = caller_of(request)
    value: JsonObject = {
        "cron_id": cron_id,
        "assistant_id": assistant.assistant_id,
        "thread_id": thread_id,
        "schedule": params.schedule,
        "timezone": params.timezone,
        "end_time": end_time,
        "payload": _payload(params),
        "metadata": params.metadata or {},
        "user_id": None if caller is None else caller.identity,
    }
    await allowed(request, "crons.create", value)
    await _require_thread(request, api, thread_id, value)
    payload = _payload_in(value)
    if caller is not None:
        payload["caller"] = caller.configurable()
    on_run_completed = (params.on_run_completed or "delete") if isinstance(params, CronCreate) else None
    command = CreateCron(
        cron_id=cron_id,
        assistant_id=assistant.assistant_id,
        schedule=params.schedule,
        timezone=params.timezone,
        end_time=end_time,
        thread_id=thread_id,
        payload=payload,
        metadata=metadata_in(value),
        user_id=None if caller is None else caller.identity,
        on_run_completed=on_run_completed,
        enabled=enabled,
        next_due_at=_next(params.schedule, params.timezone, end_time, enabled=enabled),
    )
    await submit(api, command)
    return await _cron_response(api, cron_id)


@requires("crons.read")
async def get(request: web.Request) -> web.Response:
    """Return a cron.

    GET /runs/crons/{cron_id} (contract 1.4).
    """
    cron_id = path_uuid(request, "cron_id", "cron")
    return await _cron_response(api_of(request), cron_id, await allowed(request, "crons.read", {"cron_id": cron_id}))


@requires("crons.update")
async def patch(request: web.Request) -> web.Response:
    """Change a cron; its next time is found anew, from now, if its schedule, time zone, end or `enabled` is given.

    PATCH /runs/crons/{cron_id} (contract 1.4, 6).
    """
    api = api_of(request)
    cron_id = path_uuid(request, "cron_id", "cron")
    params = await body(request, CronPatch)
    await check_webhook(api, params.webhook)
    given = params.model_fields_set
    end_time = None if params.end_time is None else _end(params.end_time)
    clears: list[str] = [name for name in ("end_time", "timezone") if name in given and getattr(params, name) is None]
    cleared = [name for name in (*_OPTIONS, "durability") if name in given and getattr(params, name) is None]
    if params.config is None and params.context is None and given & {"config", "context"}:
        cleared += ["config", "context"]  # two names of one thing
    value: JsonObject = {
        "cron_id": cron_id,
        "schedule": params.schedule,
        "timezone": params.timezone,
        "end_time": end_time,
        "enabled": params.enabled,
        "on_run_completed": params.on_run_completed,
        "payload": _payload(params) | dict.fromkeys(cleared),
        "metadata": params.metadata or {},
    }
    only = await allowed(request, "crons.update", value)
    payload = _payload_in(value)
    for tries_left in reversed(range(_TRIES)):
        row = await _row(api, cron_id, only)
        enabled = row["enabled"] if params.enabled is None else params.enabled
        last_firing = None if row["last_firing"] is None else orjson.loads(row["last_firing"])
        now_ends = None if "end_time" in clears or row["end_time"] is None else iso(row["end_time"])
        command = UpdateCron(
            cron_id=cron_id,
            version=row["version"],
            schedule=params.schedule,
            timezone=params.timezone,
            end_time=end_time,
            clears=clears,
            payload=payload,
            metadata=metadata_in(value),
            on_run_completed=None if row["thread_id"] is not None else params.on_run_completed,
            enabled=params.enabled,
            reschedules=bool(given & {"schedule", "timezone", "end_time", "enabled"}),
            next_due_at=_next(
                params.schedule or row["schedule"],
                None if "timezone" in clears else params.timezone or row["timezone"],
                end_time or now_ends,
                enabled=enabled,
                fired=None if last_firing is None else last_firing["due_at"],
            ),
        )
        try:
            await submit(api, command)
            break
        except ApiError as error:
            if error.status != 409 or not tries_left:
                raise
            await asyncio.sleep(random.random() * _WAIT_SECONDS * (_TRIES - tries_left))
    return await _cron_response(api, cron_id)


@requires("crons.delete")
async def delete(request: web.Request) -> web.Response:
    """Delete a cron; runs that it has created go on.

    DELETE /runs/crons/{cron_id} (contract 1.4).
    """
    api, cron_id = api_of(request), path_uuid(request, "cron_id", "cron")
    only = await allowed(request, "crons.delete", {"cron_id": cron_id})
    if only is not None:
        await _row(api, cron_id, only)
    await submit(api, DeleteCron(cron_id=cron_id))
    return no_content()


@requires("crons.search")
@sends("X-Pagination-Total", "X-Pagination-Next")
async def search(request: web.Request) -> web.Response:
    """Return a page of the crons that match.

    POST /runs/crons/search (contract 1.4).
    """
    params = await body(request, CronSearch)
    select = select_of(params.select, _SELECTABLE)
    filters, metadata, only = await _allowed(request, params, {"limit": params.limit, "offset": params.offset})
    rows = await queries.search(
        api_of(request).pool,
        filters=filters,
        metadata=metadata,
        sort_by=params.sort_by or "created_at",
        descending=params.sort_order != "asc",
        limit=params.limit + 1,
        offset=params.offset,
        only=only,
    )
    items = [selected(cron_to_json(row), select) for row in rows[: params.limit]]
    return page(items, params.limit, params.offset, more=len(rows) > params.limit)


@requires("crons.search")
async def count(request: web.Request) -> web.Response:
    """Return the number of crons that match.

    POST /runs/crons/count (contract 1.4).
    """
    params = await body(request, CronFilter)
    filters, metadata, only = await _allowed(request, params, {})
    return reply(await queries.count(api_of(request).pool, filters=filters, metadata=metadata, only=only))


async def _allowed(
    request: web.Request, params: CronFilter, page_of_it: JsonObject
) -> tuple[JsonObject, JsonObject, MetadataFilter | None]:
    """Ask for `crons.search`; what the application's handler makes of the search is searched for."""
    filters = {"assistant_id": params.assistant_id, "thread_id": params.thread_id, "enabled": params.enabled}
    value = {**filters, "metadata": params.metadata or {}, **page_of_it}
    only = await allowed(request, "crons.search", value)
    metadata = metadata_in(value)
    require_readable(api_of(request), metadata, "metadata")
    return {name: value.get(name) for name in filters}, metadata, only


def _payload_in(value: JsonObject) -> JsonObject:
    """`payload` of a value that the application's handler has seen, and perhaps changed."""
    if not isinstance(value.get("payload"), dict):
        raise ApiError(500, "The application's authorization made `payload` something else than a dict")
    payload: JsonObject = value["payload"]
    return payload


def _payload(params: RunOptions) -> JsonObject:
    """What the request asks of the runs: only what it gives."""
    given = params.model_fields_set
    payload = {name: getattr(params, name) for name in _OPTIONS if name in given and getattr(params, name) is not None}
    config, context = sync_config_and_context(params.config, params.context)
    if config is not None:
        payload["config"] = config
    if context is not None:
        payload["context"] = context
    if params.durability is not None:
        payload["durability"] = params.durability
    elif params.checkpoint_during is not None:
        payload["durability"] = "async" if params.checkpoint_during else "exit"
    return payload


def _end(text: str) -> str:
    try:
        return end_of(text)
    except ScheduleError as error:
        raise ApiError(422, str(error)) from None


def _next(
    schedule: str, timezone: str | None, end_time: str | None, *, enabled: bool, fired: str | None = None
) -> str | None:
    """The first time from now on, None if there is none; a schedule that can't be understood is a 422 all the same.

    `fired`: the time of the cron's last firing, which may be ahead of this process's clock.
    """
    after = now() if fired is None else max(now(), datetime.fromisoformat(fired))
    try:
        due_at = next_due(schedule, timezone, after, end_time)
    except ScheduleError as error:
        raise ApiError(422, str(error)) from None
    return due_at if enabled else None


async def _require_thread(request: web.Request, api: Api, thread_id: str | None, value: JsonObject) -> None:
    """Ask for what every firing will do; raises `ApiError` 404 unless there is such a thread for this caller."""
    run_value = {**value, "status": "pending", "kwargs": _payload_in(value)}
    only = await allowed(request, "threads.create_run", run_value)
    value["metadata"] = metadata_in(value) | metadata_in(run_value)  # the runs', and so of the threads made for them
    if thread_id is not None and not await threads.exists(api.pool, thread_id, only):
        raise ApiError(404, "Thread or assistant not found.", code="thread_not_found")


async def _row(api: Api, cron_id: str, only: MetadataFilter | None = None) -> Any:
    row = await queries.get(api.pool, cron_id, only)
    if row is None:
        raise ApiError(404, f"Cron with ID {cron_id} not found", code="cron_not_found")
    return row


async def _cron_response(api: Api, cron_id: str, only: MetadataFilter | None = None) -> web.Response:
    return reply(cron_to_json(await _row(api, cron_id, only)))


_CRONS = "/runs/crons"

routes = [
    Route("POST", _CRONS, create, "Create a cron", CronCreate, returns=CronResponse, errors=(400, 404)),
    Route(
        "POST", "/threads/{thread_id}/runs/crons", create_for_thread, "Create a cron on a thread", ThreadCronCreate,
        returns=CronResponse, errors=(400, 404),
    ),
    Route("POST", f"{_CRONS}/search", search, "Search crons", CronSearch, returns=list_of_selected(CronSearchResponse)),
    Route("POST", f"{_CRONS}/count", count, "Count crons", CronFilter, returns=Count),
    Route("GET", f"{_CRONS}/{{cron_id}}", get, "Get a cron", returns=CronResponse, errors=(404,)),
    Route(
        "PATCH", f"{_CRONS}/{{cron_id}}", patch, "Change a cron", CronPatch, returns=CronResponse,
        errors=(400, 404, 409),
    ),
    Route("DELETE", f"{_CRONS}/{{cron_id}}", delete, "Delete a cron", status=204, errors=(404,)),
]  # fmt: skip
