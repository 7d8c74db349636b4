"""Server-sent events as a client reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import ClientResponse

from .api_harness import ApiHarness


@dataclass(frozen=True, slots=True)
class Event:
    """`name` None: a comment."""

    name: str | None
    data: Any
    id: str | None
    fields: tuple[str, ...]


async def events(answer: ClientResponse, *, comments: bool = False) -> AsyncIterator[Event]:
    """The events of an open response as they arrive."""
    buffer = b""
    async for chunk in answer.content.iter_any():
        *blocks, buffer = (buffer + chunk).split(b"\n\n")
        for block in blocks:
            event = parse(block.decode())
            if comments or event.name is not None:
                yield event
    assert buffer == b"", "the stream ended within an event"


def parse(block: str) -> Event:
    fields = [line.partition(":") for line in block.split("\n")]
    values = {name: value.removeprefix(" ") for name, _, value in fields}
    data = orjson.loads(values["data"]) if "data" in values else values.get("")
    return Event(values.get("event"), data, values.get("id"), tuple(name for name, _, _ in fields))


async def read_all(api: ApiHarness, path: str, *, last_event_id: str | None = None) -> list[Event]:
    """All events of a stream that ends."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with api.client.get(path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        return [event async for event in events(answer)]
