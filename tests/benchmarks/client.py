"""The load generator's view of a server: raw HTTP, so that its own cost is small and the same for everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any

import aiohttp
import orjson

JSON = {"content-type": "application/json"}
ENDED = {"success", "error", "timeout", "interrupted"}


class Client:
    """One session with unlimited connections; every failure raises."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __aenter__(self) -> Client:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=600),
            headers={"accept-encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else orjson.dumps(body)
        async with self.session.request(method, self.url + path, data=data, headers=JSON) as answer:
            read = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {read[:200]!r}")
            return orjson.loads(read) if read else None

    async def thread(self) -> str:
        created: dict[str, str] = await self.call("POST", "/threads", {})
        return created["thread_id"]

    async def threads(self, count: int) -> list[str]:
        found: list[str] = []
        await spread([self.thread for _ in range(count)], 16, found.append)
        return found

    async def wait(self, thread: str | None, assistant: str, given: Any) -> Any:
        path = f"/threads/{thread}/runs/wait" if thread else "/runs/wait"
        values = await self.call("POST", path, {"assistant_id": assistant, "input": given})
        if not isinstance(values, dict) or "__error__" in values:
            raise RuntimeError(f"a run failed: {values}")
        return values

    async def background(self, thread: str, assistant: str, given: Any) -> str:
        run = await self.call("POST", f"/threads/{thread}/runs", {"assistant_id": assistant, "input": given})
        return str(run["run_id"])

    async def ended(self, thread: str, run: str) -> bool:
        state = await self.call("GET", f"/threads/{thread}/runs/{run}")
        if state["status"] in ENDED - {"success"}:
            raise RuntimeError(f"run {run} ended with {state['status']}")
        return state["status"] == "success"

    async def stream(self, method: str, path: str, body: Any = None) -> AsyncIterator[tuple[float, int]]:
        """`(time, number of events so far)` for each chunk received, comments not counted. Raises on an error event."""
        data = None if body is None else orjson.dumps(body)
        async with self.session.request(method, self.url + path, data=data, headers=JSON) as answer:
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {(await answer.read())[:200]!r}")
            count, tail = 0, b""
            async for chunk in answer.content.iter_any():
                at = time.perf_counter()
                text = tail + chunk
                if b"event: error" in text:
                    raise RuntimeError(f"error in the stream: {text[-300:]!r}")
                count += text.count(b"event: ")
                tail = text[-6:] if not text.endswith(b"\n") else b""
                count -= tail.count(b"event: ")
                yield at, count


async def spread(jobs: list[Callable[[], Awaitable[Any]]], at_once: int, take: Callable[[Any], Any]) -> None:
    """Run the jobs, `at_once` of them at a time, and hand each result to `take`."""
    left = iter(jobs)

    async def worker() -> None:
        for job in left:
            take(await job())

    await asyncio.gather(*(worker() for _ in range(at_once)))
