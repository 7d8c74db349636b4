"""Copy handler: POST /threads/{id}/copy makes a new thread with the state and whole history of another."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
from aiohttp import web

from threadlog.api.auth.gate import allowed, metadata_in
from threadlog.api.commands import submit, submit_unless_rejected
from threadlog.api.context import api_of
from threadlog.api.http.bodies import JsonObject
from threadlog.api.http.errors import ApiError
from threadlog.api.http.requests import path_uuid
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Route, requires
from threadlog.api.idempotency.keyed import KEYED, make_id
from threadlog.api.threads.json import ThreadResponse, thread_to_json
from threadlog.api.threads.lookup import values_of
from threadlog.engine.domain.commands import CreateThread, DeleteThread, ImportCheckpoints
from threadlog.engine.domain.expiry import ttl_of
from threadlog.projections.queries import state, threads
from threadlog.projections.queries.connection import Connection

_CHUNK_BYTES = 512 * 1024


@requires("threads.read", "threads.create")
async def copy(request: web.Request) -> web.Response:
    """Make a new thread with the state and the whole history of another, without its runs.

    POST /threads/{thread_id}/copy (contract 1.2, 4.4). Status and interrupts are copied: the copy of a thread that
    waits at an interrupt can be resumed.
    """
    api = api_of(request)
    source = path_uuid(request, "thread_id", "thread")
    target = make_id(uuid4)
    only = await allowed(request, "threads.read", {"thread_id": source})
    # Few copies run at a time: each holds a connection, for long if the thread is large; other requests need the rest.
    async with api.scans, api.snapshot() as connection:
        row = await threads.get(connection, source, only)
        value = {"thread_id": target, "metadata": {} if row is None else orjson.loads(row["metadata"])}
        await allowed(request, "threads.create", value)
        if row is None:
            raise ApiError(409, "Conflict")
        await submit(api, creation(row, source, target, metadata_in(value)))
        try:
            async for command in imports(connection, source, target):
                await submit(api, command)
        except BaseException as error:
            # Half a copy must not stay behind; the client receives the first error, whatever becomes of the deletion.
            # With an idempotency key, what has failed for the moment is completed when the request is sent again.
            if KEYED.get() is None or (isinstance(error, ApiError) and error.status < 500):
                await submit_unless_rejected(api, DeleteThread(thread_id=target))
            raise
    copied = await threads.get(api.pool, target)
    if copied is None:
        raise ApiError(409, "Conflict")
    return reply(thread_to_json(copied, (await values_of(api.pool, [copied])).get(target)))


def creation(row: asyncpg.Record, source: str, target: str, metadata: JsonObject) -> CreateThread:
    """The command that begins a copy of the thread with this row; `imports` follow."""
    interrupts = orjson.loads(row["interrupts"])
    # Runs in flight are not copied, so the copy has the status that the source has when none is.
    status: Any = row["status"] if row["status"] != "busy" else "interrupted" if interrupts else "idle"
    ttl = ttl_of(None if row["ttl"] is None else orjson.loads(row["ttl"]))
    return CreateThread(
        thread_id=target,
        metadata=metadata,
        copied_from=source,
        status=status,
        interrupts=interrupts,
        config=orjson.loads(row["config"]),
        error=None if row["error"] is None else orjson.loads(row["error"]),
        ttl=None if ttl is None else ttl.wire,
    )


async def imports(connection: Connection, source: str, target: str) -> AsyncGenerator[ImportCheckpoints, None]:
    """The commands that copy what the connection sees of the thread's checkpoints."""
    chunk: list[JsonObject] = []
    size = 0
    async for item in state.export_items(connection, source, target):
        chunk.append(item)
        size += len(orjson.dumps(item))
        if size >= _CHUNK_BYTES:
            yield ImportCheckpoints(thread_id=target, items=chunk)
            chunk, size = [], 0
    if chunk:
        yield ImportCheckpoints(thread_id=target, items=chunk)


routes = [
    Route("POST", "/threads/{thread_id}/copy", copy, "Copy a thread", returns=ThreadResponse, errors=(409,)),
]
