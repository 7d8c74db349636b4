"""Handler of /usage: runs, tokens, cost and durations, as `threadlog derive` has counted them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiohttp import web
from typing_extensions import TypedDict

from threadlog.api.auth.gate import allowed, caller_of
from threadlog.api.context import api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import NAMES, shown
from threadlog.api.http.models import Time
from threadlog.api.http.requests import query_int, query_list, query_moment, query_text
from threadlog.api.http.responses import reply, time_text
from threadlog.api.http.routes import Query, Route, requires
from threadlog.engine.clock import now
from threadlog.projections.derived import queries
from threadlog.projections.derived.queries import DIMENSIONS, WINDOWS

DAYS = 30
"""What is shown unless `since` tells otherwise."""
TOP, MOST = 20, 500
ROWS = 20_000
"""Windows times values of one response."""
_HOURS = {"hour": 1, "day": 24, "month": 28 * 24}


class ModelUsageResponse(TypedDict):
    """The calls of one model."""

    calls: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cache_read_tokens: int
    reasoning_tokens: int
    unpriced_calls: int
    cost: float


class UsageRowResponse(TypedDict):
    """What one value of the dimension used in one window; `start` of null: in all of the time. Seconds: `wait_…` from a
    run's creation to its start, `run_…` from there to its end. `unpriced_calls`: of models without a price."""

    start: Time | None
    value: str
    runs: int
    succeeded: int
    failed: int
    timed_out: int
    interrupted: int
    attempts: int
    wait_seconds: float
    wait_median: float | None
    wait_p95: float | None
    wait_max: float
    run_seconds: float
    run_median: float | None
    run_p95: float | None
    run_max: float
    calls: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    unpriced_calls: int
    cost: float
    models: dict[str, ModelUsageResponse]


class UsageResponse(TypedDict):
    """`counting`: whether a process counts at the moment; `counted_until`: the time of the last event counted.
    `left_out`: values of the dimension beyond `top`."""

    by: str
    window: str
    since: Time
    until: Time
    counting: bool
    counted_until: Time | None
    left_out: int
    rows: list[UsageRowResponse]


@requires("usage.read")
async def usage(request: web.Request) -> web.Response:
    """Return runs, tokens, cost and durations per value of a dimension, and per window. 404 where nothing is counted.

    GET /usage (threadlog's own, docs/usage.md).
    """
    by = _one_of(request, "by", DIMENSIONS, "graph")
    window = _one_of(request, "window", WINDOWS, "all")
    until = query_moment(request, "until") or now()
    since = _floor(query_moment(request, "since") or _before(until, timedelta(days=DAYS)))
    values, models = _names(request, "value"), _names(request, "model")
    top = query_int(request, "top", TOP, 1, MOST)
    _check_size(window, since, until, top)
    if await allowed(request, "usage.read", {"by": by, "window": window}) is not None:
        caller = caller_of(request)
        if by != "user" or caller is None:
            raise ApiError(403, "You may see your own usage alone: ask with by=user. That of others needs usage.read")
        values = [caller.actor]
    pool = api_of(request).pool
    try:
        progress = await queries.progress(pool)
        rows = await queries.usage(
            pool, by=by, window=window, since=since, until=until, values=values, models=models, top=top
        )
    except queries.NotCounted as error:
        text = str(error)
        raise ApiError(404, text[0].upper() + text[1:], code="usage_not_counted") from None
    shown_values = len({row["value"] for row in rows})
    left_out = 0
    if values is None and shown_values == top:
        left_out = await queries.count_values(pool, by=by, since=since, until=until) - shown_values
    return reply(
        {
            "by": by,
            "window": window,
            "since": time_text(since),
            "until": time_text(until),
            "counting": progress.counting,
            "counted_until": None if progress.until is None else time_text(progress.until),
            "left_out": max(0, left_out),
            "rows": [{**row, "start": None if row["start"] is None else time_text(row["start"])} for row in rows],
        }
    )


def _one_of(request: web.Request, name: str, known: tuple[str, ...], default: str) -> str:
    chosen = query_text(request, name) or default
    if chosen not in known:
        raise ApiError(422, f"{name}: must be one of {', '.join(known)}, not {shown(chosen)}")
    return chosen


def _names(request: web.Request, name: str) -> list[str] | None:
    names = query_list(request, name)
    if len(names) > NAMES:
        raise ApiError(422, f"{name}: has {len(names)} elements; at most {NAMES} are allowed", code="limit_exceeded")
    return names or None


def _before(time: datetime, span: timedelta) -> datetime:
    return time - span if time - datetime.min.replace(tzinfo=UTC) > span else datetime.min.replace(tzinfo=UTC)


def _floor(time: datetime) -> datetime:
    """The window that a time is in counts."""
    return time.replace(minute=0, second=0, microsecond=0)


def _check_size(window: str, since: datetime, until: datetime, top: int) -> None:
    if window == "all":
        return
    windows = max(0, int((until - since).total_seconds() // 3600 // _HOURS[window])) + 1
    if windows * top > ROWS:
        raise ApiError(
            422,
            f"{windows} windows of {top} values are {windows * top} rows; at most {ROWS} are allowed: choose a longer "
            "window, a shorter time or a smaller top",
            code="limit_exceeded",
        )


routes = [
    Route(
        "GET", "/usage", usage, "Usage: runs, tokens, cost and durations", returns=UsageResponse,
        errors=(400, 403, 404),
        query=(
            Query("by", "string", "all, assistant, graph (default), user or tag"),
            Query("window", "string", "a row per hour, day or month, in UTC; all (default): sums"),
            Query("since", "string", f"ISO-8601 time: from then on; default: {DAYS} days before `until`"),
            Query("until", "string", "ISO-8601 time: before then; default: now"),
            Query("value", "array", "only these values: names of graphs, ids of assistants, user:<identity>, tags"),
            Query("model", "array", "of tokens and cost, only those of these models"),
            Query("top", "integer", f"values with the most tokens, then runs: {TOP}, at most {MOST}"),
        ),
    ),
]  # fmt: skip
