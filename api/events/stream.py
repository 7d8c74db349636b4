"""Event stream over server-sent events: one connection is one subscription."""

from __future__ import annotations

from aiohttp import web

from threadlog.api.context import Api
from threadlog.api.events.filters import EventFilter, FilterUnion
from threadlog.api.events.subscription import EventSubscription, EventTranslator, RunInfo, info_of
from threadlog.api.streaming.sse import block, stream_to
from threadlog.api.streaming.subscriptions import Item
from threadlog.projections.queries import runs, threads
from threadlog.projections.queries.metadata_filter import MetadataFilter


def translator_of(
    api: Api,
    thread_id: str,
    subscription: EventSubscription,
    event_filter: EventFilter | FilterUnion,
    only: MetadataFilter | None = None,
) -> EventTranslator:
    """`only`: runs are shown while the thread passes it. The stream may be older than the thread, which is somebody's
    from its creation on."""

    async def visible() -> bool:
        return only is None or await threads.exists(api.pool, thread_id, only)

    async def lookup(run_id: str) -> RunInfo | None:
        row = await runs.stream_of(api.pool, thread_id, run_id)
        return None if row is None else info_of(row)

    return EventTranslator(subscription.infos, event_filter, lookup, visible)


class EventView:
    """Events of a thread as SSE, their ids the sequence numbers."""

    def __init__(self, translator: EventTranslator) -> None:
        self._translator = translator

    async def render(self, items: list[Item]) -> bytes:
        events = await self._translator.events(items)
        return b"".join([block(event.method.encode(), event.body, event.seq) for event in events])

    def ending(self) -> bytes:
        """Nothing: the stream ends with the thread."""
        return b""


async def follow(
    request: web.Request, api: Api, thread_id: str, event_filter: EventFilter, only: MetadataFilter | None
) -> web.StreamResponse:
    """The thread's retained events after `event_filter.since`, then those to come, until the client leaves."""
    with EventSubscription(api, thread_id) as subscription:
        await subscription.load()
        translator = translator_of(api, thread_id, subscription, event_filter, only)
        return await stream_to(
            request,
            {},
            subscription,
            EventView(translator),
            disconnects=api.disconnects,
            heartbeat_seconds=api.settings.heartbeat_seconds,
        )
