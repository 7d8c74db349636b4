"""Event stream over server-sent events: one connection is one subscription."""

from __future__ import annotations

from aiohttp import web

from threadlog.api.context import Api
from threadlog.api.events.filters import EventFilter
from threadlog.api.events.subscription import EventSubscription, EventTranslator, RunInfo, info_of
from threadlog.api.streaming.sse import block, open_stream, pump
from threadlog.api.streaming.subscriptions import Item
from threadlog.projections.queries import runs


def translator_of(api: Api, thread_id: str, subscription: EventSubscription, wanted: EventFilter) -> EventTranslator:
    async def lookup(run_id: str) -> RunInfo | None:
        row = await runs.stream_of(api.pool, thread_id, run_id)
        return None if row is None else info_of(row)

    return EventTranslator(subscription.infos, wanted, lookup)


async def follow(request: web.Request, api: Api, thread_id: str, wanted: EventFilter) -> web.StreamResponse:
    """The thread's retained events after `wanted.since`, then those to come, until the client leaves."""
    with EventSubscription(api, thread_id) as subscription:
        await subscription.load()
        translator = translator_of(api, thread_id, subscription, wanted)

        async def render(items: list[Item]) -> bytes:
            events = await translator.events(items)
            return b"".join([block(event.method.encode(), event.body, event.seq) for event in events])

        response = await open_stream(request)
        await pump(
            request,
            response,
            subscription,
            render,
            disconnects=api.disconnects,
            heartbeat_seconds=api.settings.heartbeat_seconds,
        )
    return response
