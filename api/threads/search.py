"""Search handlers: /threads/search and /threads/count."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from aiohttp import web

from threadlog.api.auth.gate import allowed, metadata_in
from threadlog.api.context import api_of
from threadlog.api.encrypted_fields import require_readable
from threadlog.api.http.errors import ApiError
from threadlog.api.http.models import Count, fields_of, list_of_selected
from threadlog.api.http.requests import body, select_of
from threadlog.api.http.responses import decoded, page, reply, select_fields
from threadlog.api.http.routes import Route, requires, sends
from threadlog.api.threads.bodies import ThreadFilter, ThreadSearch
from threadlog.api.threads.json import FoundThreadResponse, ThreadResponse, thread_to_json
from threadlog.api.threads.lookup import values_of
from threadlog.api.threads.paths import follow, parse_path
from threadlog.projections.queries import threads
from threadlog.projections.queries.jsonb_match import contains
from threadlog.projections.queries.metadata_filter import MetadataFilter

_SELECTABLE = fields_of(ThreadResponse) - {"error", "ttl"}


@requires("threads.search")
@sends("X-Pagination-Total", "X-Pagination-Next")
async def search(request: web.Request) -> web.Response:
    """Return a page of the threads that match.

    POST /threads/search (contract 1.2, 4.5).
    """
    api = api_of(request)
    params = await body(request, ThreadSearch)
    select = select_of(params.select, _SELECTABLE)
    paths = {alias: parse_path(alias, path) for alias, path in (params.extract or {}).items()}
    needs_values = select is None or "values" in select or any(steps[0] == "values" for steps in paths.values())
    only = await _allowed(request, params, params.limit, params.offset, params.ids)
    if params.values:
        rows, values = await _by_values(request, params, only)
    else:
        rows = await threads.search(
            api.pool,
            metadata=params.metadata,
            status=params.status,
            ids=_ids(params.ids),
            sort_by=params.sort_by or "created_at",
            descending=params.sort_order != "asc",
            limit=params.limit + 1,
            offset=params.offset,
            only=only,
        )
        values = await values_of(api.pool, rows[: params.limit]) if needs_values else {}
    items = []
    for row in rows[: params.limit]:
        item = select_fields(thread_to_json(row, values.get(str(row["thread_id"]))), select)
        if paths:
            item = {**item, "extracted": _extracted(row, values.get(str(row["thread_id"])), paths)}
        items.append(item)
    return page(items, params.limit, params.offset, more=len(rows) > params.limit)


@requires("threads.search")
async def count(request: web.Request) -> web.Response:
    """Return the number of threads that match.

    POST /threads/count (contract 1.2, 4.5).
    """
    api = api_of(request)
    params = await body(request, ThreadFilter)
    only = await _allowed(request, params)
    if not params.values:
        return reply(await threads.count(api.pool, metadata=params.metadata, status=params.status, only=only))
    total = 0
    async for _ in _with_values(request, params, only):
        total += 1
    return reply(total)


async def _allowed(
    request: web.Request, params: ThreadFilter, limit: int = 0, offset: int = 0, ids: list[str] | None = None
) -> MetadataFilter | None:
    """Ask for `threads.search`; what the application's handler makes of the search is searched for."""
    value: dict[str, Any] = {
        "metadata": params.metadata or {},
        "values": params.values or {},
        "status": params.status,
        "limit": limit,
        "offset": offset,
    }
    if ids is not None:
        value["ids"] = ids
    only = await allowed(request, "threads.search", value)
    params.metadata, params.values, params.status = metadata_in(value), value.get("values"), value.get("status")
    require_readable(api_of(request), params.metadata, "metadata")
    return only


async def _by_values(
    request: web.Request, params: ThreadSearch, only: MetadataFilter | None
) -> tuple[list[asyncpg.Record], dict[str, Any]]:
    """As many as the asked page needs, and one more if there is one."""
    matches: list[asyncpg.Record] = []
    values_by_thread: dict[str, Any] = {}
    skip = params.offset
    sort = {"sort_by": params.sort_by or "created_at", "descending": params.sort_order != "asc"}
    async with aclosing(_with_values(request, params, only, ids=_ids(params.ids), **sort)) as matching:
        async for row, values in matching:
            if skip:
                skip -= 1
                continue
            matches.append(row)
            values_by_thread[str(row["thread_id"])] = values
            if len(matches) > params.limit:
                break
    return matches, values_by_thread


async def _with_values(
    request: web.Request,
    params: ThreadFilter,
    only: MetadataFilter | None,
    *,
    ids: list[str] | None = None,
    **order: Any,
) -> AsyncGenerator[tuple[asyncpg.Record, Any]]:
    """The threads that are asked for, with their values.

    Stored values are not searchable by Postgres: they are read and rendered, a few threads at a time, until the caller
    has enough or the client is gone. Takes as long as there are threads that the rest of the filter leaves; few
    of these searches run at a time.
    """
    api = api_of(request)
    async with (
        api.scans,
        api.snapshot() as connection,
        aclosing(
            threads.scan(connection, metadata=params.metadata, status=params.status, ids=ids, only=only, **order)
        ) as pages,
    ):
        async for rows in pages:
            if request.transport is None:
                return
            values = await values_of(connection, rows)
            for row in rows:
                row_values = values.get(str(row["thread_id"]))
                if contains(decoded(row_values), params.values):
                    yield row, row_values


def _ids(ids: list[str] | None) -> list[str] | None:
    if ids is None:
        return None
    checked = []
    for thread_id in ids:
        try:
            checked.append(str(UUID(thread_id)))
        except ValueError:
            raise ApiError(400, f"Invalid thread ID {thread_id}") from None
    return checked


def _extracted(row: asyncpg.Record, values: Any, paths: dict[str, list[str | int]]) -> dict[str, Any]:
    roots: dict[str, Any] = {}
    for steps in paths.values():
        root = str(steps[0])
        if root not in roots:
            roots[root] = decoded(values) if root == "values" else orjson.loads(row[root])
    return {alias: follow(roots[str(steps[0])], steps[1:]) for alias, steps in paths.items()}


routes = [
    Route(
        "POST",
        "/threads/search",
        search,
        "Search threads",
        ThreadSearch,
        returns=list_of_selected(FoundThreadResponse),
        errors=(400,),
    ),
    Route("POST", "/threads/count", count, "Count threads", ThreadFilter, returns=Count),
]
