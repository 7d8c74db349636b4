"""A request that takes long leaves the others what they need: the loop, and connections to the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from threadlog.api.app import make_app
from threadlog.api.context import ApiDeps
from threadlog.api.http import limits
from threadlog.api.streaming.hub import StreamHub
from threadlog.engine.domain.commands import Command, ImportCheckpoints
from threadlog.engine.processor.ports import Decided

from .api_harness import ApiHarness
from .checkpoints import checkpoint


class Held:
    """A gateway whose commands of the kinds wait until the test lets them go."""

    def __init__(self, inner: Any, *kinds: type[Command]) -> None:
        self._inner, self._kinds = inner, kinds
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()
        self.most = self._now = 0

    async def submit(self, command: Command, **more: Any) -> Decided:
        if not self._kinds or isinstance(command, self._kinds):
            self._now += 1
            self.most = max(self.most, self._now)
            self.waiting.set()
            try:
                await self.go.wait()
            finally:
                self._now -= 1
        return await self._inner.submit(command, **more)


@asynccontextmanager
async def served(api: ApiHarness, gateway: Held) -> AsyncIterator[TestClient]:
    deps = ApiDeps(pool=api.pool, gateway=gateway, log=api.log, hub=StreamHub(api.log))
    async with TestClient(TestServer(make_app(deps)), timeout=aiohttp.ClientTimeout(total=100)) as client:
        try:
            yield client
        finally:
            gateway.go.set()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/runs/cancel", {"thread_id": str(uuid4()), "run_ids": [str(uuid4()) for _ in range(1000)]}),
        ("/threads/prune", {"strategy": "delete"}),
        ("/runs/batch", [{"assistant_id": "noop"}] * 200),
    ],
)
async def test_another_request_is_answered_while_one_of_many_commands_is_under_way(
    api: ApiHarness, path: str, body: Any
) -> None:
    other = await api.thread()
    if path == "/threads/prune":
        body = {**body, "thread_ids": [await api.thread() for _ in range(100)]}
    gateway = Held(api.gateway)
    async with served(api, gateway) as client:
        many = asyncio.create_task(client.post(path, json=body))
        await gateway.waiting.wait()
        for asked in (f"/threads/{other}", f"/threads/{other}/state", "/ok"):
            async with client.get(asked) as answer:
                assert answer.status == 200
        assert not many.done()
        gateway.go.set()
        assert (await many).status in (200, 404)  # none of the runs to cancel exists
    assert gateway.most <= limits.AT_A_TIME


async def test_copies_leave_connections_to_others(api: ApiHarness) -> None:
    source = await api.thread()
    run = await api.run(source)
    await api.report(source, run["run_id"], "success", items=checkpoint({"n": 1})[1])
    gateway = Held(api.gateway, ImportCheckpoints)
    async with served(api, gateway) as client:
        copies = [asyncio.create_task(client.post(f"/threads/{source}/copy")) for _ in range(20)]
        await gateway.waiting.wait()
        for _ in range(5):
            async with client.get(f"/threads/{source}/state") as answer:
                assert answer.status == 200
        assert not any(copy.done() for copy in copies)
        gateway.go.set()
        assert [(await copy).status for copy in copies] == [200] * 20
    assert gateway.most <= 2
