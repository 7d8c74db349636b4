"""Search handlers of runs over all threads: /runs/search and /runs/count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from threadlog.api.auth.gate import allowed, metadata_in
from threadlog.api.context import api_of
from threadlog.api.encrypted_fields import require_readable
from threadlog.api.http.errors import ApiError
from threadlog.api.http.models import Count, fields_of, list_of_selected
from threadlog.api.http.requests import body, place_after, select_of
from threadlog.api.http.responses import reply, select_fields
from threadlog.api.http.routes import Route, requires, sends
from threadlog.api.runs.bodies import RunFilterBody, RunSearch
from threadlog.api.runs.json import FoundRunResponse, found_run_to_json
from threadlog.projections.queries import run_search
from threadlog.projections.queries.run_search import STATUSES, RunFilter

_SELECTABLE = fields_of(FoundRunResponse)


@requires("threads.search")
@sends("X-Pagination-Next")
async def search(request: web.Request) -> web.Response:
    """Return a page of the runs of all threads that match, newest first; `X-Pagination-Next` is the `after` of the next
    page, if there is one.

    POST /runs/search (threadlog's own, docs/runs.md).
    """
    api = api_of(request)
    params = await body(request, RunSearch)
    select = select_of(params.select, _SELECTABLE)
    after = None if params.after is None else place_after(params.after)
    wanted = await _wanted(request, params, params.limit)
    with_kwargs = select is not None and "kwargs" in select
    rows = await run_search.search(
        api.pool, wanted, after=after, descending=params.sort_order != "asc", limit=params.limit + 1,
        with_kwargs=with_kwargs,
    )  # fmt: skip
    items = [found_run_to_json(row, with_kwargs=with_kwargs) for row in rows[: params.limit]]
    more = {"X-Pagination-Next": _after(items[-1])} if len(rows) > params.limit else {}
    return reply([select_fields(item, select) for item in items], headers=more)


@requires("threads.search")
async def count(request: web.Request) -> web.Response:
    """Return the number of runs of all threads that match.

    POST /runs/count (threadlog's own, docs/runs.md).
    """
    params = await body(request, RunFilterBody)
    return reply(await run_search.count(api_of(request).pool, await _wanted(request, params)))


async def _wanted(request: web.Request, params: RunFilterBody, limit: int = 0) -> RunFilter:
    """Ask for `threads.search`; what the application's handler makes of the search is searched for."""
    value: dict[str, Any] = {
        "metadata": params.metadata or {},
        "values": {},
        "status": params.status,
        "thread_id": params.thread_id,
        "assistant_id": params.assistant_id,
        "graph_id": params.graph_id,
        "limit": limit,
        "offset": 0,
    }
    only = await allowed(request, "threads.search", value)
    metadata = metadata_in(value)
    require_readable(api_of(request), metadata, "metadata")
    return RunFilter(
        statuses=_statuses(value),
        assistant_id=params.assistant_id,
        graph_id=params.graph_id,
        thread_id=params.thread_id,
        run_ids=params.run_ids,
        metadata=metadata,
        since=params.since,
        until=params.until,
        only=only,
    )


def _statuses(value: Mapping[str, Any]) -> list[str] | None:
    status = value.get("status")
    if isinstance(status, str):
        status = [status]
    if status is not None and not (isinstance(status, list) and all(one in STATUSES for one in status)):
        raise ApiError(500, "The application's authorization made `status` something else than statuses of runs")
    return status


def _after(item: FoundRunResponse) -> str:
    return f"{item['created_at']}/{item['run_id']}"


routes = [
    Route(
        "POST", "/runs/search", search, "Search the runs of all threads", RunSearch,
        returns=list_of_selected(FoundRunResponse),
    ),
    Route("POST", "/runs/count", count, "Count the runs of all threads", RunFilterBody, returns=Count),
]  # fmt: skip
