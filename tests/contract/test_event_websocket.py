"""The event-streaming protocol over its WebSocket: commands and events on one connection."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import httpx
import orjson
import pytest

from .event_client import EVERY, Event, EventClient, ended

HELLO = {"messages": [{"role": "user", "content": "hello there"}]}


@pytest.fixture
def thread(http: httpx.AsyncClient) -> EventClient:
    return EventClient(http)


class Socket:
    """The protocol's WebSocket: replies by their command's id, and the events beside them."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.events: list[Event] = []

    async def command(self, command_id: int, method: str, **params: Any) -> Event:
        await self._socket.send_str(orjson.dumps({"id": command_id, "method": method, "params": params}).decode())
        return await self.reply(command_id)

    async def reply(self, command_id: int | None) -> Event:
        while True:
            message = await asyncio.wait_for(self._socket.receive_json(), 60)
            if message["type"] != "event":
                assert message["id"] == command_id
                return dict(message)
            self.events.append(message)

    async def until_ended(self) -> None:
        while not (self.events and ended(self.events[-1])):
            self.events.append(await asyncio.wait_for(self._socket.receive_json(), 60))


@pytest.mark.contract(144)
async def test_the_websocket_carries_commands_and_events(thread: EventClient, url: str) -> None:
    path = f"{url}/threads/{thread.thread_id}/stream/events"
    async with aiohttp.ClientSession() as session, session.ws_connect(path) as connection:
        socket = Socket(connection)
        subscribed = await socket.command(1, "subscription.subscribe", channels=EVERY)
        assert subscribed["result"]["replayed_events"] == 0
        started = await socket.command(2, "run.start", assistant_id="noop", input={"items": []})
        assert started["type"] == "success"
        await socket.until_ended()
        assert socket.events == await thread.events(EVERY)
        await connection.send_str("this is no JSON")
        assert (await socket.reply(None))["error"] == "invalid_argument"
        again = await socket.command(3, "subscription.subscribe", channels=["values"])
        values = [event for event in socket.events if event["method"] == "values"]
        assert again["result"]["replayed_events"] == len(values) // 2
        ended_one = await socket.command(
            4, "subscription.unsubscribe", subscription_id=again["result"]["subscription_id"]
        )
        assert ended_one["result"] == {}
        gone = await socket.command(5, "subscription.unsubscribe", subscription_id=again["result"]["subscription_id"])
        assert gone["error"] == "no_such_subscription"


@pytest.mark.contract(144)
async def test_a_websocket_for_no_thread_is_closed_with_the_status(url: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/threads/not-a-thread/stream/events") as connection,
    ):
        message = await asyncio.wait_for(connection.receive(), 60)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == 4422


@pytest.mark.contract(144)
async def test_subscriptions_of_one_websocket_are_one_ordered_stream(thread: EventClient, url: str) -> None:
    """A client takes the end of a run for the end of its events, whichever subscription it comes for."""
    path = f"{url}/threads/{thread.thread_id}/stream/events"
    async with aiohttp.ClientSession() as session, session.ws_connect(path) as connection:
        socket = Socket(connection)
        await socket.command(1, "subscription.subscribe", channels=["lifecycle", "input"])
        await socket.command(2, "subscription.subscribe", channels=["values", "messages", "lifecycle"])
        await socket.command(3, "run.start", assistant_id="chat", input=HELLO)
        await socket.until_ended()
        assert [event["seq"] for event in socket.events] == sorted({event["seq"] for event in socket.events})
        assert socket.events == await thread.events(["values", "messages", "lifecycle"])
