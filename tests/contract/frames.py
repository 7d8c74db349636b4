"""Server-sent events as they are on the wire: names, data, ids, comments and field order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson


@dataclass(frozen=True, slots=True)
class Frame:
    """One block between blank lines; a comment has no event. `fields` are the field names in their order."""

    event: str | None
    data: Any
    id: str | None
    comment: str | None = None
    fields: list[str] = field(default_factory=list)


def parse(block: str) -> Frame:
    """Read one block strictly: an unknown field is an error."""
    values: dict[str, str] = {}
    comment = None
    for line in block.splitlines():
        name, _, value = line.partition(":")
        assert name in ("", "event", "data", "id", "retry"), f"unknown field in {block!r}"
        if name:
            assert name not in values, f"{name} twice in {block!r}"
            values[name] = value.removeprefix(" ")
        else:
            comment = value.strip()
    data = orjson.loads(values["data"]) if values.get("data") else None
    return Frame(values.get("event"), data, values.get("id"), comment, list(values))


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """The frames of an open response, as they arrive."""
    buffer = ""
    async for text in response.aiter_text():
        buffer = (buffer + text).replace("\r\n", "\n")
        while "\n\n" in buffer:
            block, buffer = buffer.split("\n\n", 1)
            if block.strip():
                yield parse(block)


async def events(response: httpx.Response) -> list[Frame]:
    """All frames until the end of the response, without comments."""
    return [frame async for frame in frames(response) if frame.event]
