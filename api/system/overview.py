"""Handler of /system: who has which partition, executors, what the read models lack, webhooks, and the counting."""

from __future__ import annotations

from aiohttp import web
from typing_extensions import TypedDict

from threadlog.api.auth.gate import allowed
from threadlog.api.context import api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.models import Time
from threadlog.api.http.responses import reply, time_text
from threadlog.api.http.routes import Route, requires
from threadlog.api.system.lag import lag_of
from threadlog.engine.log.unreadable import UNREADABLE, UNREADABLE_FRAMES
from threadlog.projections.derived import queries as derived
from threadlog.projections.queries import system as queries
from threadlog.projections.queries.connection import Reader

SHOWN = 50
"""Skipped events and unreadable records of one response."""


class PartitionResponse(TypedDict):
    """`owner` of null: no living engine has it. `decided`, `projected`: offsets of the last command and event record in
    the read models. `lag`: commands not decided yet, null while the log does not respond."""

    partition: int
    owner: str | None
    epoch: int
    decided: int
    projected: int
    lag: int | None


class ExecutorResponse(TypedDict):
    """An executor that lives."""

    executor_id: str
    slots: int
    active: int
    left_behind: int
    graphs: list[str]


class SkippedEventResponse(TypedDict):
    """An event of the log that the read models do not hold."""

    partition: int
    offset: int
    index: int
    key: str
    type: str
    error: str
    at: str


class UnreadableRecordResponse(TypedDict):
    """A record that this process could not decode."""

    topic: str
    partition: int
    offset: int
    error: str


class WebhookCountsResponse(TypedDict):
    """`failed`: those of the waiting ones that failed before; `dead`: of the last 30 days."""

    waiting: int
    failed: int
    dead: int


class CountingResponse(TypedDict):
    """Whether `GET /usage` has something, and whether a process counts at the moment."""

    counted: bool
    counting: bool
    counted_until: Time | None


class SystemResponse(TypedDict):
    """The server as operators see it."""

    partitions: list[PartitionResponse]
    executors: list[ExecutorResponse]
    not_projected: int
    skipped: list[SkippedEventResponse]
    unreadable: list[UnreadableRecordResponse]
    webhooks: WebhookCountsResponse
    usage: CountingResponse


@requires("system.read")
async def overview(request: web.Request) -> web.Response:
    """Return the state of the server, for operators: with `auth`, those whom a handler allows `system.read`.

    GET /system (threadlog's own, docs/monitoring.md).
    """
    if await allowed(request, "system.read", {}) is not None:
        raise ApiError(403, "Only who may read all of the system may see this: let a handler allow system.read")
    api = api_of(request)
    partitions = await queries.partitions(api.pool)
    lag = await lag_of(api, {one.partition: one.decided for one in partitions})
    webhooks = await queries.webhooks(api.pool)
    facts: SystemResponse = {
        "partitions": [
            {
                "partition": one.partition,
                "owner": one.owner,
                "epoch": one.epoch,
                "decided": one.decided,
                "projected": one.projected,
                "lag": lag.get(one.partition),
            }
            for one in partitions
        ],
        "executors": [
            {
                "executor_id": one.executor_id,
                "slots": one.slots,
                "active": one.active,
                "left_behind": one.left_behind,
                "graphs": one.graphs,
            }
            for one in await queries.executors(api.pool)
        ],
        "not_projected": (await queries.queue(api.pool)).not_projected,
        "skipped": [
            {
                "partition": row["p"],
                "offset": row["ev_off"],
                "index": row["idx"],
                "key": row["key"],
                "type": row["type"],
                "error": row["error"],
                "at": row["at"],
            }
            for row in await queries.skips(api.pool, SHOWN)
        ],
        "unreadable": _unreadable(),
        "webhooks": {"waiting": webhooks["waiting"], "failed": webhooks["failed"], "dead": webhooks["dead"]},
        "usage": await _counting(api.pool),
    }
    return reply(facts)


def _unreadable() -> list[UnreadableRecordResponse]:
    found: list[UnreadableRecordResponse] = []
    for topic, records in (("events", UNREADABLE), ("stream", UNREADABLE_FRAMES)):
        for (partition, offset), why in list(records.places.items())[-SHOWN:]:
            found.append({"topic": topic, "partition": partition, "offset": offset, "error": why})
    return found[:SHOWN]


async def _counting(pool: Reader) -> CountingResponse:
    try:
        progress = await derived.progress(pool)
    except derived.NotCounted:
        return {"counted": False, "counting": False, "counted_until": None}
    until = None if progress.until is None else time_text(progress.until)
    return {"counted": True, "counting": progress.counting, "counted_until": until}


routes = [
    Route("GET", "/system", overview, "The server for operators: partitions, executors, what is amiss",
          returns=SystemResponse, errors=(403,)),
]  # fmt: skip
