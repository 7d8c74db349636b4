"""Who reads a thread's events reads the same bytes: live or later, whole or in pieces, however the runs ended."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import httpx
import orjson
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.waiting import eventually

from .event_client import EVERY, Event, EventClient, data, ended, lifecycle
from .gate import Gate

HELLO = {"messages": [{"role": "user", "content": "add 2 3"}]}
LIFECYCLE = {"running": 5, "completed": 1, "failed": 1, "interrupted": 4}


class Reader:
    """A client that reads from now on, over a WebSocket or not; `lines` are the events as they were on the wire."""

    def __init__(self, url: str, thread_id: str, *, websocket: bool) -> None:
        self.path, self.websocket = f"{url}/threads/{thread_id}/stream/events", websocket
        self.lines: list[str] = []
        self.open = asyncio.Event()

    @property
    def events(self) -> list[Event]:
        return [orjson.loads(line) for line in self.lines]

    async def until(self, ends: int, since: int | None = None) -> list[str]:
        """Read until so many runs have ended; `since`: go on after this event."""
        wanted = {"channels": EVERY, **({} if since is None else {"since": since})}
        async with asyncio.timeout(120), aiohttp.ClientSession() as session:
            if self.websocket:
                async with session.ws_connect(self.path) as socket:
                    await socket.send_json({"id": 1, "method": "subscription.subscribe", "params": wanted})
                    async for message in socket:
                        if orjson.loads(message.data)["type"] != "event":
                            self.open.set()
                        elif self._took(message.data, ends):
                            return self.lines
            else:
                async with session.post(self.path, json=wanted) as response:
                    self.open.set()
                    async for line in response.content:
                        if line.startswith(b"data: ") and self._took(line[6:-1].decode(), ends):
                            return self.lines
        raise AssertionError("the stream ended")

    def _took(self, line: str, ends: int) -> bool:
        self.lines.append(line)
        return sum(map(ended, self.events)) == ends


async def ends_of_all_kinds(thread: EventClient, client: LangGraphClient, gate: Gate) -> int:
    """Run the thread through every kind of end; returns how many there were."""
    cancelled = await thread.start("gated", gate.input)
    waiting = await thread.start("noop", {"items": []})
    await gate.entered(cancelled)
    await client.runs.cancel(thread.thread_id, waiting)  # before it began
    await client.runs.cancel(thread.thread_id, cancelled, wait=True)
    await thread.start("agent", HELLO)
    await thread.start("failing", {"kind": "expected"})
    superseded = await thread.start("gated", gate.input)
    await gate.entered(superseded)
    await thread.start("ask", {"items": []}, multitask_strategy="interrupt")
    return 6


@pytest.mark.contract(138)
async def test_events_are_the_same_live_and_later_whole_and_in_pieces(
    http: httpx.AsyncClient, url: str, client: LangGraphClient, gate: Gate
) -> None:
    thread = EventClient(http)
    live = [Reader(url, thread.thread_id, websocket=websocket) for websocket in (False, True)]
    ends = 6
    reading = [asyncio.create_task(reader.until(ends)) for reader in live]
    for reader in live:
        await reader.open.wait()
    assert await ends_of_all_kinds(thread, client, gate) == ends
    first, second = await asyncio.gather(*reading)
    assert first == second
    assert Counter(lifecycle(live[0].events)) == LIFECYCLE
    for websocket in (False, True):
        assert await Reader(url, thread.thread_id, websocket=websocket).until(ends) == first
    numbers = [event["seq"] for event in live[0].events]
    assert numbers == sorted(set(numbers)) and all(event["params"]["timestamp"] > 0 for event in live[0].events)
    last = len(first) - 1
    for cut in {0, last // 3, last // 2, last - 1, *(i for i, event in enumerate(live[0].events[:-1]) if ended(event))}:
        left = sum(ended(event) for event in live[0].events[cut + 1 :])
        again = await Reader(url, thread.thread_id, websocket=bool(cut % 2)).until(left, since=numbers[cut])
        assert again == first[cut + 1 :]
    assert len({event["event_id"] for event in live[0].events}) == len(first)
    assert data(live[0].events, "input.requested")
    await eventually(lambda: client.threads.get(thread.thread_id), lambda found: found["status"] == "interrupted")
