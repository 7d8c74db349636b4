"""WebSocket transport of the event-streaming protocol: each text frame of the client is a command, each of ours a
response or an event."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from threadlog.api.context import Api
from threadlog.api.events.commands import OPAQUE, Commands, failure, is_command, malformed
from threadlog.api.events.errors import ProtocolError
from threadlog.api.events.filters import EventFilter, FilterUnion, InvalidFilter, filter_of
from threadlog.api.events.models import CommandFailedResponse, CommandSucceededResponse
from threadlog.api.events.stream import translator_of
from threadlog.api.events.subscription import EventSubscription, ProtocolEvent
from threadlog.api.http.errors import ApiError, is_unavailable
from threadlog.api.http.limits import shown
from threadlog.api.http.requests import json_of
from threadlog.api.streaming.subscriptions import CaughtUp
from threadlog.projections.queries.metadata_filter import MetadataFilter

logger = logging.getLogger(__name__)

_PING_SECONDS = 30.0
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # of a command; larger input goes by POST …/commands
_MAX_SUBSCRIPTIONS = 64


class _Subscription:
    """What a client has subscribed to: `cursor` is the number up to which it has been handed all events it wants."""

    def __init__(self, command_id: int, event_filter: EventFilter) -> None:
        self.id = str(uuid4())
        self.command_id, self.filter = command_id, event_filter
        self.cursor = event_filter.since
        self.replayed = 0
        self.answered = False

    def takes(self, event: ProtocolEvent) -> bool:
        return self.cursor < event.seq and self.filter.wants(event.channel, event.namespace, event.name)


class Socket:
    """One client's connection. All its subscriptions together are one pass over the thread's events: each event is sent
    once, and those of one subscription never overtake those of another."""

    def __init__(self, request: web.Request, api: Api, thread_id: str, only: MetadataFilter | None) -> None:
        self._api, self._thread_id, self._only = api, thread_id, only
        self._commands = Commands(request, api, thread_id, only)
        limit = min(_MAX_MESSAGE_BYTES, api.settings.max_body_bytes)
        self._socket = web.WebSocketResponse(heartbeat=_PING_SECONDS, max_msg_size=limit, compress=False)
        self._request = request
        self._subscriptions: dict[str, _Subscription] = {}
        self._pass: EventSubscription | None = None
        self._following: asyncio.Task[None] | None = None
        self._again = False

    async def serve(self) -> web.WebSocketResponse:
        """Until the client leaves or the server stops."""
        await self._socket.prepare(self._request)
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._received(message.data)
                elif message.type is WSMsgType.BINARY:
                    await self._send(malformed(None))
        except Exception as error:
            if not is_unavailable(error) and not isinstance(error, ApiError):
                raise
            await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"the server is unavailable")
        finally:
            if self._following is not None:
                self._following.cancel()
                await asyncio.gather(self._following, return_exceptions=True)
        return self._socket

    async def _received(self, text: str) -> None:
        try:
            command = await json_of([text.encode("utf-8", "surrogatepass")], OPAQUE)
        except ApiError as error:
            if error.status >= 500:
                raise
            await self._send(failure(None, ProtocolError("invalid_argument", error.detail)))
            return
        if not is_command(command):
            await self._send(malformed(command))
            return
        try:
            if command["method"] == "subscription.subscribe":
                self._subscribe(command)
                return
            response: CommandSucceededResponse | CommandFailedResponse
            if command["method"] == "subscription.unsubscribe":
                response = self._commands.success(command["id"], self._unsubscribe(command.get("params")))
            else:
                response = await self._commands.respond(command)
        except ProtocolError as error:
            response = failure(command["id"], error)
        await self._send(response)

    async def _send(self, value: Any) -> None:
        await self._socket.send_str(orjson.dumps(value).decode())

    # --- subscriptions

    def _subscribe(self, command: dict[str, Any]) -> None:
        params = command.get("params")
        try:
            event_filter = filter_of(params if isinstance(params, dict) else {})
        except InvalidFilter as error:
            raise ProtocolError("invalid_argument", str(error)) from None
        if len(self._subscriptions) >= _MAX_SUBSCRIPTIONS:
            raise ProtocolError("invalid_argument", f"a connection has at most {_MAX_SUBSCRIPTIONS} subscriptions")
        added = _Subscription(command["id"], event_filter)
        self._subscriptions[added.id] = added
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
        else:
            self._begin_again()

    def _unsubscribe(self, params: Any) -> dict[str, Any]:
        subscription_id = params.get("subscription_id") if isinstance(params, dict) else None
        if not isinstance(subscription_id, str) or self._subscriptions.pop(subscription_id, None) is None:
            raise ProtocolError("no_such_subscription", f"Unknown subscription: {shown(str(subscription_id))}")
        if not self._subscriptions:
            self._begin_again()  # the pass under way has none to read for
        return {}

    def _begin_again(self) -> None:
        """End the pass under way: the next one has what is subscribed to now."""
        self._again = True
        if self._pass is not None:
            self._pass.close()

    async def _follow(self) -> None:
        try:
            while self._subscriptions:
                self._again = False
                await self._one_pass(list(self._subscriptions.values()))
                if not self._again:
                    code = WSCloseCode.SERVICE_RESTART if self._api.hub.closing else WSCloseCode.OK
                    await self._socket.close(code=code)
                    return
        except ConnectionError:
            return  # the client has left
        except Exception as error:
            if not is_unavailable(error):
                logger.exception("an event subscription failed")
            await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"the stream was interrupted")

    async def _one_pass(self, subscriptions: list[_Subscription]) -> None:
        """The past for those who have not had it, the responses to their commands, then what happens."""
        wanted = FilterUnion([s.filter for s in subscriptions], after=[s.cursor for s in subscriptions])
        with EventSubscription(self._api, self._thread_id) as self._pass:
            await self._pass.load()
            translator = translator_of(self._api, self._thread_id, self._pass, wanted, self._only)
            while not self._again and (items := await self._pass.next(_PING_SECONDS)) is not None:
                for event in await translator.events(items):
                    takers = [s for s in subscriptions if s.takes(event) and s.id in self._subscriptions]
                    if takers:
                        await self._socket.send_str(event.body.decode())
                    for subscription in takers:
                        subscription.replayed += not subscription.answered
                    for subscription in subscriptions:
                        subscription.cursor = max(subscription.cursor, event.seq)
                if any(isinstance(item, CaughtUp) for item in items):
                    await self._respond(subscriptions)

    async def _respond(self, subscriptions: list[_Subscription]) -> None:
        for subscription in subscriptions:
            if not subscription.answered:
                subscription.answered = True
                result = {"subscription_id": subscription.id, "replayed_events": subscription.replayed}
                await self._send(self._commands.success(subscription.command_id, result))
