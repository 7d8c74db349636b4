"""Handler of /runs/webhooks: which webhooks could not be delivered, and why."""

from __future__ import annotations

from typing import Any, get_args
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiohttp import web
from typing_extensions import TypedDict

from threadlog.api.auth.gate import allowed
from threadlog.api.context import api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.models import Id, Time
from threadlog.api.http.requests import place_after, query_int, query_moment, query_text
from threadlog.api.http.responses import reply, time_text
from threadlog.api.http.routes import Query, Route, requires, sends
from threadlog.engine.domain.events.webhook import WebhookStatus
from threadlog.projections.queries import webhook_failures
from threadlog.projections.queries.webhook_failures import FailureState

LIMIT = 1000


class FailedWebhookResponse(TypedDict):
    """A webhook that could not be delivered. `attempts`: so far; `next_attempt_at` of null: it is dead. `url` without
    its query and its user, which may be secret."""

    run_id: Id
    thread_id: Id
    assistant_id: Id | None
    url: str
    run_status: WebhookStatus
    state: FailureState
    attempts: int
    http_status: int | None
    reason: str | None
    failed_at: Time
    next_attempt_at: Time | None


@requires("threads.search")
@sends("X-Pagination-Next")
async def search(request: web.Request) -> web.Response:
    """Return a page of the webhooks of which an attempt failed, the last failure first: dead, or to be tried again.
    `X-Pagination-Next` is the `after` of the next page, if there is one.

    GET /runs/webhooks (threadlog's own, docs/webhooks.md).
    """
    limit = query_int(request, "limit", 100, 1, LIMIT)
    state = _state(query_text(request, "state"))
    since = query_moment(request, "since")
    text = query_text(request, "after")
    after = None if text is None else place_after(text)
    value: dict[str, Any] = {"metadata": {}, "values": {}, "status": None, "limit": limit, "offset": 0}
    only = await allowed(request, "threads.search", value)
    rows = await webhook_failures.search(
        api_of(request).pool,
        state=state,
        since=since,
        after=after,
        limit=limit + 1,
        only=only,
    )
    items = [_to_json(row) for row in rows[:limit]]
    more = {"X-Pagination-Next": f"{items[-1]['failed_at']}/{items[-1]['run_id']}"} if len(rows) > limit else {}
    return reply(items, headers=more)


def _state(text: str | None) -> FailureState | None:
    for state in get_args(FailureState):
        if text == state:
            return state  # type: ignore[no-any-return]
    if text is not None:
        raise ApiError(422, f"state: must be dead or failed, not {shown(text)}")
    return None


def _to_json(row: asyncpg.Record) -> FailedWebhookResponse:
    return {
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "assistant_id": None if row["assistant_id"] is None else str(row["assistant_id"]),
        "url": without_secrets(row["url"]),
        "run_status": row["run_status"],
        "state": "dead" if row["due_at"] is None else "failed",
        "attempts": row["attempt"],
        "http_status": row["http_status"],
        "reason": row["reason"],
        "failed_at": time_text(row["failed_at"]),
        "next_attempt_at": None if row["due_at"] is None else time_text(row["due_at"]),
    }


def without_secrets(url: str) -> str:
    """The URL without user, query and fragment; of what is no URL, the empty text."""
    try:
        scheme, place, path, _, _ = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((scheme, place.rpartition("@")[2], path, "", ""))


routes = [
    Route(
        "GET", "/runs/webhooks", search, "List webhooks that could not be delivered",
        returns=list[FailedWebhookResponse], errors=(400,),
        query=(
            Query("state", "string", "dead, or failed: to be tried again"),
            Query("since", "string", "ISO-8601 time: failed from then on"),
            Query("limit", "integer", f"webhooks of a page, at most {LIMIT}"),
            Query("after", "string", "X-Pagination-Next of the page before"),
        ),
    ),
]  # fmt: skip
