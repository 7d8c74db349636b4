"""What a probe hears: yes only while what is asked for can be written, decided and read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from threadlog.api.app import make_app
from threadlog.api.context import ApiDeps
from threadlog.api.streaming.hub import StreamHub
from threadlog.engine.domain.commands import CreateThread
from threadlog.engine.gateway.gateway import envelope_for
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, LogUnavailable, Topic
from threadlog.engine.log.records import partition_of
from threadlog.projections.health import WritePath
from threadlog.projections.queries import system

from .api_harness import ApiHarness


class Broken:
    """A log that lacks a topic, or takes no record, as with a full disk."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.missing: Topic | None = None
        self.full = False
        self.appended: list[Append] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def append(self, records: Sequence[Append]) -> list[int]:
        if self.full:
            raise LogUnavailable("no space left on device")
        self.appended += records
        return await self._inner.append(records)

    async def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        if topic is self.missing:
            raise LogUnavailable(f"the topic {topic.name} does not exist")
        return await self._inner.bounds(topic, partition)


@asynccontextmanager
async def served(api: ApiHarness, log: Any, **more: Any) -> AsyncIterator[TestClient]:
    deps = ApiDeps(pool=api.pool, gateway=api.gateway, log=log, hub=StreamHub(log), **more)
    async with TestClient(TestServer(make_app(deps)), timeout=aiohttp.ClientTimeout(total=60)) as client:
        yield client


async def probe(client: TestClient) -> tuple[int, dict[str, str | None], str]:
    """Status, what is wrong by service, and the sentence."""
    async with client.get("/ok?check_db=1") as answer:
        body = await answer.json()
        assert body["ok"] == (answer.status == 200)
        return answer.status, {k: v.get("error") for k, v in body["services"].items()}, body.get("detail", "")


async def test_all_is_well(api: ApiHarness) -> None:
    async with served(api, api.log) as client:
        assert await probe(client) == (200, {"postgres": None, "log": None, "engine": None}, "")


@pytest.mark.parametrize(
    ("how", "value", "says"),
    [("full", True, "no space left"), *(("missing", topic, f"{topic.name} does not exist") for topic in Topic)],
)
async def test_a_log_that_takes_nothing_is_named(api: ApiHarness, how: str, value: Any, says: str) -> None:
    log = Broken(api.log)
    async with served(api, log) as client:
        setattr(log, how, value)
        status, services, detail = await probe(client)
        assert (status, services["postgres"]) == (500, None)
        assert says in str(services["log"]) and "log: " in detail
        async with client.get("/ok") as answer:
            assert answer.status == 200  # the process itself is there


async def test_partitions_without_a_living_engine_are_named(api: ApiHarness) -> None:
    await api.pool.execute("UPDATE processors SET lease_until = now() - interval '1 hour', owner = owner || '-gone'")
    path = WritePath(api.pool, api.log)
    # Its heart beats on, but a partition is another's, who is dead.
    await api.pool.execute("UPDATE partitions SET owner = 'dead' WHERE p = 0")
    problem = (await path.check())["engine"]
    assert problem is not None and "partitions have no engine" in problem


async def test_what_the_engine_of_this_process_fails_at_is_told(api: ApiHarness) -> None:
    trouble: list[str | None] = [None]
    async with served(api, api.log, trouble=lambda: trouble[0]) as client:
        trouble[0] = "it failed: TypeError: Recursion limit reached"
        assert (await probe(client))[1]["engine"] == trouble[0]


async def test_a_command_that_nobody_decides_is_told_by_its_age(api: ApiHarness) -> None:
    """As of an engine that gets nowhere: its leases are renewed, and what is in the log stays undecided."""
    wedged = MemoryLog(api.log.partitions)
    thread_id = "0199b2c0-0000-7000-8000-000000000001"
    envelope = envelope_for(CreateThread(thread_id=thread_id))
    p = partition_of(thread_id, wedged.partitions)
    decided = max(p.decided for p in await system.positions(api.pool))
    for _ in range(decided + 2):  # at least one after those that are decided
        await wedged.append([Append(Topic.COMMANDS, p, thread_id, envelope.encode())])
    problem = (await WritePath(api.pool, wedged, undecided_seconds=-1).check())["engine"]
    assert problem is not None and "waits for its decision" in problem
    assert (await WritePath(api.pool, wedged, undecided_seconds=3600).check())["engine"] is None


async def test_many_probes_are_one_look(api: ApiHarness) -> None:
    log = Broken(api.log)
    path = WritePath(api.pool, log, fresh_seconds=3600)
    for _ in range(20):
        assert set((await path.check()).values()) == {None}
    assert len(log.appended) == 1
    path = WritePath(api.pool, log, fresh_seconds=0)
    for _ in range(2):
        await path.check()
    assert [record.partition for record in log.appended] == [0, 0, 1]  # another partition each time


async def test_a_part_that_does_not_answer_is_not_waited_for(api: ApiHarness) -> None:
    class Stuck(Broken):
        async def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
            await asyncio.Event().wait()
            raise AssertionError

    found = await WritePath(api.pool, Stuck(api.log), step_seconds=0.05).check()
    assert found["log"] == "no answer in 0.05 s"


async def test_an_executor_lives_by_its_lease(api: ApiHarness) -> None:
    path = WritePath(api.pool, api.log, executor_id="somebody")
    assert "lease" in str((await path.check())["executor"])
    await api.pool.execute("INSERT INTO executors VALUES ('somebody', now() + interval '1 hour', 10)")
    path = WritePath(api.pool, api.log, executor_id="somebody")
    assert (await path.check())["executor"] is None
