"""Clients that keep runs in flight while the server is being broken, and remember what they were told.

Each session is one conversation on a thread of its own, with the unmodified public client: that reconnects by
`Location` and `Last-Event-ID` when a connection is cut. What a session itself does about an outage is what a user would
do: send a refused request again, and join a run once more after the client has given up.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.schema import StreamPart
from langgraph_sdk.sse import SSEDecoder, aiter_lines_raw

from tests.waiting import eventually

T = TypeVar("T")

PATIENCE_SECONDS = 90
_PAUSE_SECONDS = 0.05
_TOO_LATE = (404, 409)  # for a cancellation: the run was quicker, or an earlier try got there
_CREATES = re.compile(r"(^|/)runs(/stream|/wait)?$")

# What each graph's run adds to the state, by number.
STEPS = {"walk": 6, "block": 4, "talk": 4, "pairs": 8, "nest": 5}
EVENTS = 20  # of each step of `talk`


class Stuck(Exception):
    """Something that was waited for did not come."""


@dataclass
class Seen:
    """What a client saw of one run's stream, reconnections included, or until it was `cut`."""

    run_id: str = ""
    parts: list[StreamPart] = field(default_factory=list)
    cut: bool = False


class Load:
    """`keep` sessions running, `stop` starting new ones, `finish` those under way.

    Args:
        marks: the folder in which the graphs leave theirs.
        seconds: about how long a run takes on an idle machine.
    """

    def __init__(self, url: str, marks: Path, *, seed: int, seconds: float = 4.0) -> None:
        self.url, self._marks, self._seconds = url, marks, seconds
        self._random = random.Random(seed)
        self._client = get_client(url=url, api_key=None, timeout=PATIENCE_SECONDS)
        http = self._client.http.client
        http.event_hooks = {"response": [self._answered]}
        self.accepted: dict[str, str] = {}  # run id → the path it was created with
        self.updates: dict[str, list[str]] = {}  # thread id → ids of the state updates that were answered
        self.answers: list[tuple[str, Any]] = []  # run id → what `wait` or `join` gave
        self.streams: list[Seen] = []
        self.outages: Counter[str] = Counter()  # requests that got no answer, or 503
        self.unclean: list[str] = []  # answers that a client should never get
        self.failed: list[str] = []  # sessions that ended with an error
        self.ended = 0  # sessions that got to their end
        self._sessions: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._kinds: list[Callable[[], Awaitable[None]]] = []

    async def aclose(self) -> None:
        await self._end_keeper()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._client.aclose()

    # --- sessions ----------------------------------------------------------------------------------------------------

    def keep(self, sessions: int) -> None:
        """From now on this many sessions are under way; whenever one ends, another begins."""
        self._keeper = asyncio.create_task(self._keep(sessions))

    async def stop(self) -> None:
        """Begin no more; answers when those under way have ended. Raises `Stuck`."""
        await self._end_keeper()
        if self._sessions:
            _, left = await asyncio.wait(self._sessions, timeout=PATIENCE_SECONDS)
            if left:
                raise Stuck(f"sessions did not end: {sorted(task.get_name() for task in left)}")

    async def progress(self, sessions: int, *, busy: int = 0) -> None:
        """Wait until so many more sessions have ended, and `busy` are under way."""
        wanted = self.ended + sessions
        await eventually(
            lambda: self.ended >= wanted and len(self._sessions) >= busy,
            within=PATIENCE_SECONDS,
            says=lambda: f"{self.ended} of {wanted} sessions have ended, {len(self._sessions)} are under way",
        )

    async def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    async def _keep(self, sessions: int) -> None:
        while True:
            while len(self._sessions) < sessions:
                self._begin()
            await asyncio.wait(self._sessions, return_when=asyncio.FIRST_COMPLETED)

    def _begin(self) -> None:
        if not self._kinds:  # a whole mixture, shuffled, so that each kind has its share
            self._kinds = [
                self._sleep, self._sleep, self._walk, self._walk, self._talk, self._talk, self._talk, self._pairs,
                self._nest, self._queue, self._supersede, self._cancel, self._ask, self._update, self._stateless_wait,
                self._stateless_stream, self._watch, self._watch,
            ]  # fmt: skip
            self._random.shuffle(self._kinds)
        kind = self._kinds.pop()
        session = asyncio.create_task(self._run(kind), name=kind.__name__)
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _run(self, kind: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await kind()
        except Exception as error:
            self.failed.append(f"{kind.__name__}: {type(error).__name__}: {error}")
        self.ended += 1

    async def _sleep(self) -> None:
        await self._wait(await self._thread(), "block")

    async def _walk(self) -> None:
        thread_id = await self._thread()
        await self._join(thread_id, await self._create(thread_id, "walk"))

    async def _talk(self) -> None:
        await self._stream(await self._thread(), "talk")

    async def _pairs(self) -> None:
        await self._wait(await self._thread(), "pairs")

    async def _nest(self) -> None:
        thread_id = await self._thread()
        await self._join(thread_id, await self._create(thread_id, "nest"))

    async def _queue(self) -> None:
        """Two runs wait for each other on one thread."""
        thread_id = await self._thread()
        first = await self._create(thread_id, "walk")
        second = await self._create(thread_id, "walk")
        await self._join(thread_id, first)
        await self._join(thread_id, second)

    async def _supersede(self) -> None:
        """Double-texting: a new message ends the run in flight, once or twice."""
        thread_id = await self._thread()
        run_id = await self._create(thread_id, "walk")
        for _ in range(self._random.randint(1, 2)):
            await self._begun(thread_id, run_id)
            strategy = self._random.choice(["interrupt", "rollback"])
            run_id = await self._create(thread_id, "walk", multitask_strategy=strategy)
        await self._join(thread_id, run_id)

    async def _cancel(self) -> None:
        """A run is cancelled on the way; the thread goes on with another."""
        thread_id = await self._thread()
        run_id = await self._create(thread_id, "walk")
        await self._begun(thread_id, run_id)
        action = self._random.choice(["interrupt", "rollback"])
        try:
            await self._insist(lambda: self._client.runs.cancel(thread_id, run_id, action=action))
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in _TOO_LATE:
                raise
        await self._join(thread_id, await self._create(thread_id, "walk"))

    async def _ask(self) -> None:
        """An interrupt, and its answer."""
        thread_id = await self._thread()
        await self._join(thread_id, await self._create(thread_id, "question", steps=1))
        await self._join(thread_id, await self._create(thread_id, "question", steps=2, command={"resume": "yes"}))

    async def _update(self) -> None:
        """A state update between two runs. One that was refused may have been made all the same: it has another id."""
        thread_id = await self._thread()
        await self._join(thread_id, await self._create(thread_id, "walk"))

        async def update() -> None:
            update_id = f"update-{uuid.uuid4().hex[:8]}"
            await self._client.threads.update_state(thread_id, {"steps": [f"{update_id}:0"]})
            self.updates.setdefault(thread_id, []).append(update_id)

        await self._insist(update)
        await self._join(thread_id, await self._create(thread_id, "walk"))

    async def _stateless_wait(self) -> None:
        await self._wait(None, "walk")

    async def _stateless_stream(self) -> None:
        await self._stream(None, "talk")

    async def _watch(self) -> None:
        """A stream that is not resumable, seen until its end or until the connection breaks."""
        thread_id = await self._thread()
        seen = await self._insist(lambda: self._seen_once(thread_id, "talk"))
        await self._join(thread_id, seen.run_id)
        self.streams.append(seen)

    # --- requests ----------------------------------------------------------------------------------------------------

    def _given(self, graph: str, *, steps: int | None = None, **more: Any) -> dict[str, Any]:
        """The arguments of a run; its metadata tells how many steps it adds."""
        steps = steps or STEPS[graph]
        pause = self._seconds / STEPS.get(graph, 3) * self._random.uniform(0.7, 1.3)
        if graph == "pairs":
            pause *= 2  # two steps at once
        given = {"assistant_id": graph, "metadata": {"graph": graph, "steps": steps}, **more}
        if "command" not in given:
            given["input"] = {"steps": [], "pause": pause, "events": EVENTS}
        given.setdefault("durability", self._random.choice(["async", "async", "sync"]))
        return given

    async def _thread(self) -> str:
        thread_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        await self._insist(lambda: self._client.threads.create(thread_id=thread_id, if_exists="do_nothing"))
        return thread_id

    async def _create(self, thread_id: str, graph: str, **more: Any) -> str:
        given = self._given(graph, **more)
        run = await self._insist(lambda: self._client.runs.create(thread_id, **given))
        run_id: str = run["run_id"]
        return run_id

    async def _begun(self, thread_id: str, run_id: str) -> None:
        """Wait until a node of the run is at work."""
        path = self._marks / f"{thread_id}.jsonl"
        await eventually(
            lambda: path.exists() and run_id in path.read_text(),
            within=PATIENCE_SECONDS,
            says=f"run {run_id} begins",
        )

    async def _wait(self, thread_id: str | None, graph: str) -> None:
        given = self._given(graph)
        run_ids: list[str] = []

        async def wait() -> Any:
            if run_ids:  # it exists, only the answer got lost
                return await self._joined(thread_id, run_ids[0])
            return await self._client.runs.wait(
                thread_id, **given, on_run_created=lambda run: run_ids.append(run["run_id"])
            )

        answer = await self._insist(wait)
        self.answers.append((run_ids[0], answer))

    async def _join(self, thread_id: str, run_id: str) -> None:
        self.answers.append((run_id, await self._insist(lambda: self._joined(thread_id, run_id))))

    def _joined(self, thread_id: str | None, run_id: str) -> Awaitable[Any]:
        if thread_id is not None:
            return self._client.runs.join(thread_id, run_id)
        return self._client.http.request_reconnect(f"/runs/{run_id}/join", "GET")

    async def _stream(self, thread_id: str | None, graph: str) -> None:
        given = self._given(graph, stream_mode=["custom", "values"], stream_resumable=True)
        seen = Seen()

        def created(run: Any) -> None:
            seen.run_id = run["run_id"]

        async def stream() -> None:
            parts: AsyncIterator[StreamPart]
            if seen.run_id:  # the client has given up: a new one goes on where it was
                last = next((part.id for part in reversed(seen.parts) if part.id), "-1")
                path = (
                    f"/runs/{seen.run_id}/stream"
                    if thread_id is None
                    else f"/threads/{thread_id}/runs/{seen.run_id}/stream"
                )
                parts = self._client.http.stream(path, "GET", headers={"Last-Event-ID": last})
            else:
                parts = self._client.runs.stream(thread_id, **given, on_run_created=created)
            async with aclosing(parts):  # type: ignore[type-var]
                async for part in parts:
                    seen.parts.append(part)

        await self._insist(stream)
        self.streams.append(seen)

    async def _seen_once(self, thread_id: str, graph: str) -> Seen:
        """Raises what httpx raises when the answer does not begin."""
        seen = Seen()
        given = self._given(graph, stream_mode=["custom", "values"])
        request = self._client.http.client.stream("POST", f"/threads/{thread_id}/runs/stream", json=given)
        async with request as answer:
            answer.raise_for_status()
            seen.run_id = answer.headers["content-location"].rpartition("/")[2]
            decoder = SSEDecoder()
            try:
                async for line in aiter_lines_raw(answer):
                    if (part := decoder.decode(line=line.rstrip(b"\n"))) is not None:  # type: ignore[union-attr]
                        seen.parts.append(part)
            except httpx.TransportError as error:
                self.outages[type(error).__name__] += 1
                seen.cut = True
        return seen

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """The answer to a request that is sent again as long as the server is away."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await call()
            except httpx.TransportError as error:
                self.outages[type(error).__name__] += 1
                last: Exception = error
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 503:
                    raise
                self.outages["503"] += 1
                last = error
            if time.monotonic() > deadline:
                raise Stuck(f"the server was away for {PATIENCE_SECONDS} s") from last
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _answered(self, response: httpx.Response) -> None:
        """Every answer passes here, also those the client deals with by itself."""
        status, request = response.status_code, response.request
        if response.is_success:
            created = request.method == "POST" and _CREATES.search(request.url.path)
            if created and (location := response.headers.get("content-location")):
                self.accepted[location.rpartition("/")[2]] = request.url.path
            return
        too_late = status in _TOO_LATE and request.url.path.endswith("/cancel")
        if not too_late and (status != 503 or "retry-after" not in response.headers):
            body = (await response.aread()).decode(errors="replace")
            self.unclean.append(f"{request.method} {request.url.path}: {status} {body}")
