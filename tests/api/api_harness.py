"""The api on a port of its own, with log, processor and read models in Postgres; no executors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import asyncpg
import orjson
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.described import Description
from threadlog.api.app import ROUTES, make_app
from threadlog.api.auth.gate import Gate
from threadlog.api.custom_app.mount import CustomApp
from threadlog.api.http.openapi import describe
from threadlog.api.settings import SETTINGS, ApiSettings
from threadlog.api.streaming.hub import StreamHub
from threadlog.deploy.compose.api_engine import api_and_engine
from threadlog.deploy.settings import Settings
from threadlog.engine.domain.commands import Command, CreateAssistant, RegisterGraph, ReportRun
from threadlog.engine.ids import default_assistant_id
from threadlog.engine.log.port import Append, Log, Topic
from threadlog.engine.log.records import Frames, partition_of
from threadlog.engine.processor.ports import Gateway

Frame = tuple[str, Any]
DESCRIPTION = Description(describe(ROUTES, "tests"))

_SCHEMA = {"type": "object", "properties": {"items": {"type": "array"}}}
GRAPH_INFO = {
    "description": "does nothing",
    "schemas": {"input": _SCHEMA, "output": _SCHEMA, "state": _SCHEMA, "config": None, "context": _SCHEMA},
    "drawings": {
        "0": {"nodes": [{"id": "__start__", "type": "schema", "data": "__start__"}], "edges": []},
        "1": {"nodes": [{"id": "child:model", "type": "runnable", "data": {"name": "model"}}], "edges": []},
        "true": {"nodes": [{"id": "child:deep:model", "type": "runnable", "data": {"name": "model"}}], "edges": []},
    },
    "subgraphs": {"child": {"state": _SCHEMA}, "child|deep": {"state": _SCHEMA}},
    "out": ["items"],
}


@dataclass
class ApiHarness:
    """Everything a test looks at. `gateway` and `log` are what an executor would use."""

    client: TestClient
    pool: asyncpg.Pool
    log: Log
    gateway: Gateway
    hub: StreamHub

    async def submit(self, command: Command) -> list[dict[str, Any]]:
        return (await self.gateway.submit(command)).events

    async def register(self, graph_id: str, info: dict[str, Any] | None = None) -> str:
        """What an executor says when it has loaded a graph; returns the graph's own assistant."""
        described = GRAPH_INFO if info is None else info
        await self.submit(RegisterGraph(graph_id=graph_id, digest=str(hash(str(described))), info=described))
        assistant_id = default_assistant_id(graph_id)
        await self.submit(
            CreateAssistant(
                assistant_id=assistant_id, graph_id=graph_id, name=graph_id, metadata={"created_by": "system"},
                if_exists="do_nothing",
            ),
        )  # fmt: skip
        return assistant_id

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON of a successful answer (None if it has no body)."""
        status, answer = await self.ask(method, path, body, **more)
        assert status < 300, (status, answer)
        return answer

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Status and JSON."""
        if body is not None:
            more["data"] = orjson.dumps(body)
        async with self.client.request(method, path, **more) as answer:
            data = await answer.read()
            return answer.status, orjson.loads(data) if data.strip() else None

    async def thread(self, **fields: Any) -> str:
        return (await self.call("POST", "/threads", fields))["thread_id"]

    async def run(self, thread_id: str, **fields: Any) -> dict[str, Any]:
        """A run in the background."""
        return await self.call("POST", f"/threads/{thread_id}/runs", {"assistant_id": "noop", **fields})

    # --- what an executor does

    async def emit(
        self, thread_id: str, run_id: str, frames: Iterable[Frame], *, seq: int = 0, attempt: int = 1
    ) -> int:
        """Append one record of stream frames; returns its offset."""
        batch = Frames(run_id, thread_id, attempt, seq, [(name.encode(), orjson.dumps(data)) for name, data in frames])
        place = partition_of(thread_id, self.log.partitions)
        return (await self.log.append([Append(Topic.STREAM, place, thread_id, batch.encode())]))[0]

    async def report(
        self,
        thread_id: str,
        run_id: str,
        status: str,
        *,
        frames: int = 0,
        attempt: int = 1,
        items: list[dict[str, Any]] | None = None,
        **outcome: Any,
    ) -> None:
        """End the attempt."""
        done = {"status": status, "next": [], "interrupts": {}, "checkpoint_id": None, "frames": frames, **outcome}
        events = await self.submit(
            ReportRun(thread_id=thread_id, run_id=run_id, attempt=attempt, items=items or [], outcome=done)
        )
        assert events[0]["type"] not in ("command.rejected", "report.fenced"), events

    async def claim(self, run_id: str) -> None:
        """Take the run, as an executor that lives for an hour."""
        await self.pool.execute(
            "INSERT INTO executors VALUES ('somebody', now() + interval '1 hour', 10) ON CONFLICT DO NOTHING"
        )
        await self.pool.execute("UPDATE run_queue SET owner = 'somebody' WHERE run_id = $1", run_id)

    async def in_flight(self, thread_id: str) -> str:
        """The run that holds the thread."""
        while True:
            run_id = await self.pool.fetchval("SELECT run_id::text FROM run_queue WHERE thread_id = $1", thread_id)
            if run_id is not None:
                return str(run_id)


@asynccontextmanager
async def api_harness(
    database: str,
    options: ApiSettings | None = None,
    custom: CustomApp | None = None,
    gate: Gate | None = None,
    around: Callable[[Gateway], Gateway] | None = None,
) -> AsyncIterator[ApiHarness]:
    """The api and the engine as one process of `threadlog up` has them; `options`: of the api; `around`: makes the
    gateway that the api uses.

    What the api returns has to be as /openapi.json describes it, if nothing of the application's own is around it.
    """
    settings = Settings.load(database_uri=database)
    async with api_and_engine(settings, database, options or ApiSettings(), alone=True) as deps:
        gateway = deps.gateway if around is None else around(deps.gateway)
        app = make_app(replace(deps, gate=gate, gateway=gateway), custom)
        description = DESCRIPTION if gate is None else Description(describe(ROUTES, "tests", {}))
        undescribed: list[str] = []

        async def compare(request: web.Request, response: web.StreamResponse) -> None:
            if custom is not None or app[SETTINGS].disabled or response.status in (101, 499):
                return  # 101 is a WebSocket's; a 499 is not sent: the client has left
            body = response.body if isinstance(response, web.Response) else None
            undescribed.extend(
                description.problems(
                    request.method,
                    request.path,
                    response.status,
                    response.content_type,
                    body if isinstance(body, bytes) else None,
                    response.headers,
                )
            )

        app.on_response_prepare.append(compare)
        client = TestClient(TestServer(app), timeout=aiohttp.ClientTimeout(total=30))
        await client.start_server()
        try:
            yield ApiHarness(client, deps.pool, deps.log, deps.gateway, deps.hub)
        finally:
            await client.close()
        assert not undescribed, "\n".join(["not as /openapi.json has it:", *undescribed])
