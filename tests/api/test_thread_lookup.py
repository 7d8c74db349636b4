"""What a run inherits from its thread, known from events, is what the thread's row says."""

from __future__ import annotations

import asyncpg
import orjson

from tests.engine.engine_harness import EngineHarness, create_run, engine_harness, finish, new_id
from threadlog.api.caches.thread_defaults import ThreadDefaults, ThreadDefaultsCache
from threadlog.engine.domain.commands import CreateThread, DeleteThread, UpdateThread


class Told:
    def __init__(self, lookup: ThreadDefaultsCache) -> None:
        self._lookup = lookup

    def projected(self, partition: int, offset: int, record: object) -> None:
        self._lookup.changed(record.key, record.events)  # type: ignore[attr-defined]


async def row_of(harness: EngineHarness, thread_id: str) -> ThreadDefaults:
    (row,) = await harness.rows("SELECT metadata, config FROM threads WHERE thread_id = $1", thread_id)
    return ThreadDefaults(orjson.loads(row["metadata"]), orjson.loads(row["config"]))


async def test_events_and_rows_agree(database: str) -> None:
    async with engine_harness("postgres", database) as harness:
        engine = await harness.engine()
        nobody: asyncpg.Pool = asyncpg.create_pool(database, min_size=0)  # never opened: a query would fail
        lookup = ThreadDefaultsCache(nobody)
        engine.processor.add_listener(Told(lookup))
        a, b = new_id(), new_id()
        await engine.submit(CreateThread(thread_id=a, metadata={"n": 1, "deep": {"x": 1, "y": 2}}))
        assert await lookup.get(a) == await row_of(harness, a)
        await engine.submit(UpdateThread(thread_id=a, metadata={"n": 2, "deep": {"x": 3}}))
        assert await lookup.get(a) == await row_of(harness, a) == ThreadDefaults({"n": 2, "deep": {"x": 3}}, {})
        run = create_run(a, thread_metadata={"graph_id": "g"}, thread_config={"tags": ["t"], "configurable": {}})
        await engine.submit(run)
        assert await lookup.get(a) == await row_of(harness, a)
        await engine.submit(finish(a, run.run_id))
        await engine.submit(create_run(a, thread_metadata={"graph_id": "h"}, thread_config={"tags": []}))
        assert (
            await lookup.get(a)
            == await row_of(harness, a)
            == ThreadDefaults({"n": 2, "deep": {"x": 3}, "graph_id": "h"}, {"tags": []})
        )
        await engine.submit(create_run(b, thread_metadata={"graph_id": "g"}))  # makes its thread, too
        assert await lookup.get(b) == await row_of(harness, b)


async def test_what_is_not_known_is_read_and_what_is_gone_is_gone(database: str) -> None:
    async with engine_harness("postgres", database) as harness:
        engine = await harness.engine()
        old, new = new_id(), new_id()
        await engine.submit(CreateThread(thread_id=old, metadata={"n": 1}))
        lookup = ThreadDefaultsCache(harness.pool)
        engine.processor.add_listener(Told(lookup))
        await engine.submit(UpdateThread(thread_id=old, metadata={"n": 2}))  # of a thread it has not seen the whole of
        assert await lookup.get(old) == ThreadDefaults({"n": 2}, {})
        await engine.submit(CreateThread(thread_id=new))
        await engine.submit(DeleteThread(thread_id=new))
        assert await lookup.get(new) is None
        await lookup.aclose()
