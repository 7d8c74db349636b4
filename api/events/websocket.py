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
from threadlog.api.events.commands import Commands, failure, is_command, malformed
from threadlog.api.events.errors import ProtocolError
from threadlog.api.events.filters import EventFilter, InvalidFilter, filter_of
from threadlog.api.events.stream import translator_of
from threadlog.api.events.subscription import EventSubscription
from threadlog.api.http.errors import ApiError, is_unavailable
from threadlog.api.http.limits import shown
from threadlog.api.http.requests import decoded_body
from threadlog.api.streaming.subscriptions import CaughtUp

logger = logging.getLogger(__name__)

_PING_SECONDS = 30.0
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # of a command; larger input goes by POST …/commands
_MAX_SUBSCRIPTIONS = 64
_MAX_REASON_BYTES = 123  # of a close frame


async def refuse(request: web.Request, error: ApiError) -> web.WebSocketResponse:
    """Close at once with 4000 and the status: browsers do not tell a page how a handshake has failed."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.close(code=4000 + error.status, message=error.detail.encode()[:_MAX_REASON_BYTES])
    return socket


class Socket:
    """One client's connection."""

    def __init__(self, request: web.Request, api: Api, thread_id: str) -> None:
        self._api, self._thread_id = api, thread_id
        self._commands = Commands(request, api, thread_id)
        limit = min(_MAX_MESSAGE_BYTES, api.settings.max_body_bytes)
        self._socket = web.WebSocketResponse(heartbeat=_PING_SECONDS, max_msg_size=limit, compress=False)
        self._request = request
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._subscriptions: dict[str, EventSubscription] = {}
        self._stopping = False

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
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return self._socket

    async def _received(self, text: str) -> None:
        try:
            command = decoded_body(text.encode("utf-8", "surrogatepass"))
        except ApiError as error:
            await self._send(failure(None, ProtocolError("invalid_argument", error.detail)))
            return
        if not is_command(command):
            await self._send(malformed(command))
            return
        try:
            if command["method"] == "subscription.subscribe":
                self._subscribe(command)
                return
            if command["method"] == "subscription.unsubscribe":
                response = self._commands.success(command["id"], await self._unsubscribe(command.get("params")))
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
        if len(self._tasks) >= _MAX_SUBSCRIPTIONS:
            raise ProtocolError("invalid_argument", f"a connection has at most {_MAX_SUBSCRIPTIONS} subscriptions")
        subscription_id = str(uuid4())
        task = asyncio.create_task(self._follow(command["id"], subscription_id, event_filter))
        self._tasks[subscription_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(subscription_id, None))

    async def _unsubscribe(self, params: Any) -> dict[str, Any]:
        subscription_id = params.get("subscription_id") if isinstance(params, dict) else None
        task = self._tasks.get(subscription_id) if isinstance(subscription_id, str) else None
        if task is None:
            raise ProtocolError("no_such_subscription", f"Unknown subscription: {shown(str(subscription_id))}")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return {}

    async def _follow(self, command_id: int, subscription_id: str, event_filter: EventFilter) -> None:
        """Replay, then respond to the command, then stay live."""
        replayed, answered = 0, False
        try:
            with EventSubscription(self._api, self._thread_id) as subscription:
                await subscription.load()
                translator = translator_of(self._api, self._thread_id, subscription, event_filter)
                while (items := await subscription.next(self._api.settings.heartbeat_seconds)) is not None:
                    for event in await translator.events(items):
                        await self._socket.send_str(event.body.decode())
                        replayed += not answered
                    if not answered and any(isinstance(item, CaughtUp) for item in items):
                        answered = True
                        result = {"subscription_id": subscription_id, "replayed_events": replayed}
                        await self._send(self._commands.success(command_id, result))
        except ConnectionError:
            return  # the client has left
        except Exception as error:
            if not is_unavailable(error):
                logger.exception("an event subscription failed")
            await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"the stream was interrupted")
            return
        code = WSCloseCode.SERVICE_RESTART if self._api.hub.closing else WSCloseCode.OK
        await self._socket.close(code=code)
