"""A plain client of the event-streaming protocol: commands and server-sent events as they are on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx

from .frames import Frame, frames

EVERY = ["values", "updates", "messages", "tools", "lifecycle", "input", "tasks", "checkpoints", "custom"]
Event = dict[str, Any]


class EventClient:
    """One thread, which need not exist yet."""

    def __init__(self, http: httpx.AsyncClient, thread_id: str | None = None) -> None:
        self._http, self.thread_id = http, thread_id or str(uuid4())
        self._next_id = 0

    async def command(self, method: str, **params: Any) -> Event:
        """The response to a command, whatever it is."""
        self._next_id += 1
        command_id = self._next_id
        body = {"id": command_id, "method": method, "params": params}
        response = await self._http.post(f"/threads/{self.thread_id}/commands", json=body)
        assert response.status_code == 200, response.text
        answer: Event = response.json()
        assert answer["id"] == command_id
        return answer

    async def start(self, graph: str, input: Any, **params: Any) -> str:
        """Start a run; its id."""
        answer = await self.command("run.start", assistant_id=graph, input=input, **params)
        assert answer["type"] == "success", answer
        return str(answer["result"]["run_id"])

    async def events(
        self, channels: list[str], until: Callable[[Event], Any] | None = None, within: float = 60.0, **body: Any
    ) -> list[Event]:
        """The events from the beginning until one for which `until` holds: as a rule, the end of a run."""
        holds = until or ended
        seen: list[Event] = []
        async with (
            asyncio.timeout(within),
            self._http.stream(
                "POST", f"/threads/{self.thread_id}/stream/events", json={"channels": channels, **body}
            ) as stream,
        ):
            assert stream.status_code == 200, await stream.aread()
            async for frame in frames(stream):
                if frame.event is None:
                    continue
                seen.append(checked(frame))
                if holds(seen[-1]):
                    break
        return seen


def checked(frame: Frame) -> Event:
    """The event of a frame, which is framed as the contract says."""
    event: Event = frame.data
    assert frame.fields == ["event", "data", "id"]
    assert (frame.event, frame.id) == (event["method"], str(event["seq"]))
    assert event["type"] == "event"
    assert isinstance(event["params"]["timestamp"], int)
    return event


def ended(event: Event) -> bool:
    """Whether the event is the end of a run."""
    return (
        event["method"] == "lifecycle"
        and event["params"]["namespace"] == []
        and event["params"]["data"]["event"] in ("completed", "failed", "interrupted")
    )


def data(seen: list[Event], method: str) -> list[Any]:
    return [event["params"]["data"] for event in seen if event["method"] == method]


def lifecycle(seen: list[Event]) -> list[str]:
    """The lifecycle of the root graph."""
    return [e["params"]["data"]["event"] for e in seen if e["method"] == "lifecycle" and not e["params"]["namespace"]]
