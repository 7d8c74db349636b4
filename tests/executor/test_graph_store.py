"""`runtime.store`: what LangGraph's own tests ask of a `BaseStore` (MIT licence; its tests of checkpoint and
checkpoint-postgres), and what follows from the log behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langgraph.store.base import BaseStore, GetOp, InvalidNamespaceError, Item, ListNamespacesOp, PutOp, SearchOp

from tests.databases import new_database
from tests.engine.engine_harness import EngineHarness, engine_harness
from tests.waiting import eventually
from threadlog.engine.domain.store_limits import ITEM_KEY_BYTES, ITEM_VALUE_KEYS, NAMESPACE_BYTES
from threadlog.engine.executor.checkpointer.retrying_pool import RetryingPool
from threadlog.engine.executor.outcomes import Outcomes
from threadlog.engine.executor.reporting.appender import BatchingAppender
from threadlog.engine.executor.store.graph_store import GraphStore
from threadlog.engine.log.port import Append, Log, Topic
from threadlog.engine.log.records import CommandEnvelope, partition_of
from threadlog.engine.store.embedding import Embedder
from threadlog.engine.user_code.store_config import StoreConfig
from threadlog.projections.rebuild.verify import verify


class Watched:
    """A log that keeps the store's commands that were appended, and delays none while its gate is open."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.commands: list[CommandEnvelope] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, records: Any) -> list[int]:
        self.commands += [CommandEnvelope.decode(r.value) for r in records if r.topic is Topic.COMMANDS]
        await self.gate.wait()
        return await self._log.append(records)


class StoreHarness:
    """A store over an engine, with what a test looks at."""

    def __init__(self, engines: EngineHarness, log: Watched, store: GraphStore) -> None:
        self.engines, self.log, self.store = engines, log, store

    async def in_thread(self, work: Callable[[BaseStore], Any]) -> Any:
        return await asyncio.to_thread(work, self.store)


@asynccontextmanager
async def opened(
    engines: EngineHarness, config: StoreConfig, embedder: Embedder | None = None
) -> AsyncIterator[StoreHarness]:
    async def run(work: Callable[[Any], Any]) -> Any:
        async with engines.pool.acquire() as connection:
            return await work(connection)

    log = Watched(engines.log)
    appender = BatchingAppender(log, loop_yield=False)
    store = GraphStore(
        db=engines.pool,
        appender=appender,
        partitions=engines.log.partitions,
        refusal=Outcomes(RetryingPool(engines.pool), engines.log, link=None).refusal_of_write,
        config=config,
        run=run,
        embedder=embedder,
    )
    try:
        yield StoreHarness(engines, log, store)
    finally:
        await appender.drained()
        store.close()
        await appender.aclose()


@pytest.fixture(scope="module")
async def engines(postgres_uri: str, _template: str) -> AsyncIterator[EngineHarness]:
    async with (
        new_database(postgres_uri, template=_template) as dsn,
        engine_harness("postgres", dsn) as engines,
    ):
        await engines.engine()
        yield engines


@pytest.fixture
async def harness(engines: EngineHarness) -> AsyncIterator[StoreHarness]:
    """A store of one engine for all tests here, empty again."""
    await engines.pool.execute("TRUNCATE store_items, store_vectors")
    async with opened(engines, StoreConfig(default_ttl=2)) as harness:
        yield harness


@pytest.fixture
def store(harness: StoreHarness) -> GraphStore:
    return harness.store


# --- as LangGraph's own tests have it


async def test_basic_operations(store: GraphStore) -> None:
    namespace = ("test", "documents")
    await store.aput(namespace, "1", {"title": "Test", "content": "Hello"})
    item = await store.aget(namespace, "1")
    assert item is not None and item.namespace == namespace and item.key == "1"
    assert item.value == {"title": "Test", "content": "Hello"}
    await store.aput(namespace, "1", {"title": "Updated", "content": "Hello, Updated!"})
    updated = await store.aget(namespace, "1")
    assert updated is not None and updated.value["title"] == "Updated" and updated.updated_at > item.updated_at
    assert updated.created_at == item.created_at
    await store.aput(("test", "other"), "1", {"title": "Other"})
    other = await store.aget(("test", "other"), "1")
    assert other is not None and other.value == {"title": "Other"} and updated == await store.aget(namespace, "1")
    await store.adelete(namespace, "1")
    assert await store.aget(namespace, "1") is None


async def test_the_order_of_a_batch(store: GraphStore) -> None:
    await store.aput(("test", "foo"), "key1", {"data": "value1"})
    await store.aput(("test", "bar"), "key2", {"data": "value2"})
    results = await store.abatch(
        [
            GetOp(namespace=("test", "foo"), key="key1"),
            PutOp(namespace=("test", "bar"), key="key2", value={"data": "value2"}),
            SearchOp(namespace_prefix=("test",), filter={"data": "value1"}, limit=10, offset=0),
            ListNamespacesOp(match_conditions=None, max_depth=None, limit=10, offset=0),
            GetOp(namespace=("test",), key="key3"),
        ]
    )
    assert isinstance(results[0], Item) and results[0].value == {"data": "value1"}
    assert results[1] is None and len(results[2]) == 1 and results[4] is None
    assert results[3] == [("test", "bar"), ("test", "foo")]
    results = await store.abatch(
        [
            SearchOp(namespace_prefix=("test",), filter=None, limit=5, offset=0),
            GetOp(namespace=("test", "bar"), key="key2"),
            ListNamespacesOp(match_conditions=None, max_depth=None, limit=5, offset=0),
            PutOp(namespace=("test",), key="key3", value={"data": "value3"}),
            GetOp(namespace=("test", "foo"), key="key1"),
        ]
    )
    assert len(results[0]) == 2 and results[1].value == {"data": "value2"}, "reads see what was before the puts"
    assert len(results[2]) == 2 and results[3] is None and results[4].key == "key1"
    assert (await store.aget(("test",), "key3")).value == {"data": "value3"}


async def test_batches_of_puts(store: GraphStore) -> None:
    results = await store.abatch(
        [
            PutOp(namespace=("test",), key="key1", value={"data": "value1"}),
            PutOp(namespace=("test",), key="key2", value={"data": "value2"}),
            PutOp(namespace=("test",), key="key3", value=None),
        ]
    )
    assert results == [None] * 3
    assert {item.key for item in await store.asearch(["test"], limit=10)} == {"key1", "key2"}
    found = await store.abatch([GetOp(namespace=("test",), key=f"key{n}") for n in (1, 2, 3)])
    assert [item and item.key for item in found] == ["key1", "key2", None]


async def test_of_several_puts_of_an_item_the_last_counts(store: GraphStore) -> None:
    await store.abatch([PutOp(("a",), "k", {"n": n}) for n in range(3)] + [PutOp(("a",), "other", {"n": 9})])
    assert (await store.aget(("a",), "k")).value == {"n": 2}
    await asyncio.gather(*(store.aput(("a",), "k", {"n": n}) for n in range(10)))
    assert (await store.aget(("a",), "k")).value == {"n": 9}


async def test_search_by_prefix_and_filter(store: GraphStore) -> None:
    await store.aput(("test", "docs"), "doc1", {"title": "First", "author": "Alice", "tags": ["important"]})
    await store.aput(("test", "docs"), "doc2", {"title": "Second", "author": "Bob", "tags": ["draft"]})
    await store.aput(("test", "images"), "img1", {"title": "Image", "author": "Alice", "tags": ["final"]})
    assert len(await store.asearch(["test"])) == 3
    docs = await store.asearch(["test", "docs"])
    assert {item.namespace for item in docs} == {("test", "docs")} and len(docs) == 2
    assert {i.key for i in await store.asearch(["test"], filter={"author": "Alice"})} == {"doc1", "img1"}
    assert len(await store.asearch(["test"], limit=2)) == 2 and len(await store.asearch(["test"], offset=2)) == 1
    assert [i.score for i in await store.asearch(["test"], query="x", limit=1)] == [None]
    with pytest.raises(ValueError, match=r"Unsupported operator: \$near"):
        await store.asearch(("test",), filter={"title": {"$near": 1}})


async def test_a_prefix_ends_at_a_label(store: GraphStore) -> None:
    for namespace in [("foo",), ("foo", "child"), ("foo", "child", "deep"), ("foobar",), ("foobar", "baz"), ("foo2",)]:
        await store.aput(namespace, "k", {"v": 1})
    for namespace in [("user_1",), ("user_1", "child"), ("userX1",), ("a%b",), ("axxb",)]:
        await store.aput(namespace, "k", {"v": 1})

    async def found(*prefix: str) -> set[tuple[str, ...]]:
        return {item.namespace for item in await store.asearch(prefix, limit=100)}

    assert await found("foo") == {("foo",), ("foo", "child"), ("foo", "child", "deep")}
    assert await found("foobar") == {("foobar",), ("foobar", "baz")}
    assert await found("foo2") == {("foo2",)} and await found("fo") == set()
    assert await found("user_1") == {("user_1",), ("user_1", "child")} and await found("a%b") == {("a%b",)}
    assert len(await found()) == 11


async def test_namespaces(harness: StoreHarness) -> None:
    namespaces = [
        ("a", "b", "c"), ("a", "b", "d", "e"), ("a", "b", "d", "i"), ("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f"),
        ("users", "123"), ("users", "456", "settings"), ("admin", "users", "789"), ("users", "alice\n"),
    ]  # fmt: skip
    await harness.store.abatch([PutOp(ns, f"id_{i}", {"data": i}) for i, ns in enumerate(namespaces)])

    def listed(**conditions: Any) -> Any:
        return harness.in_thread(lambda store: store.list_namespaces(**conditions))

    assert await listed(prefix=("a", "b")) == namespaces[:4]
    assert await listed(suffix=("f",)) == namespaces[3:6]
    assert await listed(prefix=("a",), suffix=("f",)) == namespaces[3:5]
    assert await listed(prefix=("a", "b"), max_depth=3) == [("a", "b", "c"), ("a", "b", "d"), ("a", "b", "f")]
    assert await listed(prefix=("a", "b"), limit=2) == namespaces[:2]
    assert await listed(prefix=("a", "b"), offset=2) == namespaces[2:4]
    assert await listed(prefix=("a", "*", "f")) == namespaces[3:5]
    assert await listed(suffix=("*", "f")) == namespaces[3:6]
    assert await listed(prefix=("nonexistent",)) == [] and await listed(prefix=("users", "123")) == [("users", "123")]
    assert await listed(prefix=("users", "*")) == sorted(ns for ns in namespaces if ns[0] == "users")
    assert await listed(suffix=("alice",)) == [] and await listed(prefix=("users", "alice")) == []
    assert await listed(max_depth=1) == [("a",), ("admin",), ("b",), ("users",)]
    assert sorted(await listed()) == sorted(namespaces)


async def test_namespaces_that_are_none(harness: StoreHarness) -> None:
    store, doc = harness.store, {"foo": "bar"}
    for namespace in [(), ("the", "thing.about"), ("some", "fun", ""), ("langgraph", "foo")]:
        with pytest.raises(InvalidNamespaceError):
            await store.aput(namespace, "foo", doc)
        with pytest.raises(InvalidNamespaceError):
            await harness.in_thread(lambda store, namespace=namespace: store.put(namespace, "foo", doc))
    for namespace in [("foo", "langgraph", "foo"), ("langgraph", "foo")]:  # past the public api, as LangGraph allows
        await store.abatch([PutOp(namespace, "bar", doc)])
        assert (await store.aget(namespace, "bar")).value == doc
        assert (await store.asearch(namespace, query="bar"))[0].value == doc
        await store.adelete(namespace, "bar")
        assert await store.aget(namespace, "bar") is None
    with pytest.raises(ValueError, match="empty"):
        await store.abatch([PutOp((), "bar", doc)])


async def test_synchronous_methods_work_in_threads_and_not_on_the_loop(harness: StoreHarness) -> None:
    store = harness.store
    for call in (
        lambda: store.put(("foo", "bar"), "baz", {"val": "baz"}),
        lambda: store.get(("foo", "bar"), "baz"),
        lambda: store.delete(("foo", "bar"), "baz"),
        lambda: store.search(("foo", "bar")),
        lambda: store.list_namespaces(prefix=("foo",)),
        lambda: store.batch([PutOp(namespace=("foo", "bar"), key="baz", value={"val": "baz"})]),
    ):
        with pytest.raises(asyncio.InvalidStateError, match="await"):
            call()

    def node(store: BaseStore) -> Any:
        assert store.put(("foo", "bar"), "baz", {"val": "baz"}) is None
        found = store.get(("foo", "bar"), "baz"), store.search(("foo",)), store.list_namespaces(prefix=("foo",))
        store.delete(("foo", "bar"), "baz")
        return found, store.get(("foo", "bar"), "baz")

    (item, items, namespaces), gone = await harness.in_thread(node)
    assert item.value == {"val": "baz"} and [i.key for i in items] == ["baz"] and namespaces == [("foo", "bar")]
    assert gone is None


async def test_large_batches(store: GraphStore) -> None:
    calls: list[Any] = []
    for m in range(2):
        for i in range(60):
            namespace = ("test", "foo", "bar", "baz", str(m % 2))
            calls += [
                store.aput(namespace, f"key{i}", value={"foo": f"bar{i}"}),
                store.aget(namespace, f"key{i}"),
                store.alist_namespaces(prefix=None, max_depth=m + 1),
                store.asearch(("test",)),
                store.aput(namespace, f"key{i}", value={"foo": f"bar{i}"}),
                store.adelete(namespace, f"key{i}"),
            ]
    assert len(await asyncio.gather(*calls)) == 720
    assert await store.asearch(("test",)) == []


async def test_a_cancelled_call_breaks_no_other(store: GraphStore) -> None:
    task = asyncio.create_task(store.aget(namespace=("a",), key="b"))
    other = asyncio.create_task(store.aput(("a",), "c", {"n": 1}))
    await asyncio.sleep(0)
    task.cancel()
    await other
    assert (await store.aget(("a",), "c")).value == {"n": 1}


async def test_a_put_cancelled_before_it_leaves_takes_none_of_its_turn_with_it(store: GraphStore) -> None:
    first = asyncio.create_task(store.aput(("a",), "first", {"n": 1}))
    others = [asyncio.create_task(store.aput(("a",), f"other {n}", {"n": n})) for n in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(*others)
    assert first.cancelled()
    assert [await store.aget(("a",), "first")] == [None]
    assert {item.key for item in await store.asearch(("a",))} == {"other 0", "other 1"}


async def test_what_is_under_way_is_given_up_when_the_executor_ends(harness: StoreHarness) -> None:
    store, log = harness.store, harness.log
    log.gate.clear()
    alone = asyncio.create_task(store.aput(("a",), "1", {"n": 1}))
    await eventually(lambda: len(log.commands) == 1)
    together = [asyncio.create_task(store.aput(("b",), f"{n}", {"n": n})) for n in range(2)]
    batch = asyncio.create_task(store.abatch([PutOp(("c",), f"{n}", {"n": n}) for n in range(2)]))
    await eventually(lambda: len(log.commands) == 3)
    store.close()
    ended = await asyncio.gather(alone, *together, batch, return_exceptions=True)
    assert [type(error) for error in ended] == [asyncio.CancelledError] * 4
    log.gate.set()
    await harness.engines.until("SELECT count(*) = 5 FROM store_items")  # what has left arrives all the same


async def test_time_to_live(harness: StoreHarness) -> None:
    store, pool = harness.store, harness.engines.pool

    async def minutes() -> dict[str, float | None]:
        left = "extract(epoch FROM expires_at - now())::float8 / 60 AS left"
        query = f"SELECT key, {left} FROM store_items"
        return {row["key"]: row["left"] and round(row["left"]) for row in await pool.fetch(query)}

    await store.aput(("t",), "default", {"n": 1})
    await store.aput(("t",), "own", {"n": 1}, ttl=10)
    await store.aput(("t",), "none", {"n": 1}, ttl=None)
    assert await minutes() == {"default": 2.0, "own": 10.0, "none": None}
    await pool.execute("UPDATE store_items SET expires_at = expires_at - interval '1 minute'")
    assert await store.aget(("t",), "own", refresh_ttl=False) and await store.asearch(("t",), refresh_ttl=False)
    assert await minutes() == {"default": 1.0, "own": 9.0, "none": None}
    assert await store.aget(("t",), "own") is not None
    await store.aput(("t",), "after", {"n": 1})  # behind it, on the same key
    assert (await minutes())["own"] == 10.0
    await pool.execute("UPDATE store_items SET expires_at = now() WHERE key = 'default'")
    assert await store.aget(("t",), "default") is None and len(await store.asearch(("t",))) == 3


# --- of the log


async def test_what_is_put_side_by_side_is_one_command_per_namespace(harness: StoreHarness) -> None:
    await asyncio.gather(*(harness.store.aput(("n", str(i % 2)), f"k{i}", {"n": i}) for i in range(100)))
    commands = [c for c in harness.log.commands if c.type == "store.write"]
    assert sorted(len(command.body["ops"]) for command in commands) == [50, 50]
    assert len(await harness.store.asearch(("n",), limit=1000)) == 100


async def test_what_is_large_is_divided(harness: StoreHarness) -> None:
    text = "x" * 400_000
    await harness.store.abatch([PutOp(("n",), f"k{i}", {"text": text}) for i in range(5)])
    commands = [c for c in harness.log.commands if c.type == "store.write"]
    assert [len(command.body["ops"]) for command in commands] == [2, 2, 1]
    assert [item.value["text"] == text for item in await harness.store.asearch(("n",))] == [True] * 5


async def test_a_plain_batch_is_the_command_of_its_puts_one_by_one(harness: StoreHarness) -> None:
    values: list[dict[str, Any]] = [{"n": n, "text": ["é", {"x": None}], "f": 0.1} for n in range(20)]
    batch = asyncio.ensure_future(harness.store.abatch([PutOp(("n",), f"k{n}", v) for n, v in enumerate(values)]))
    await asyncio.gather(*(harness.store.aput(("m",), f"k{n}", v, ttl=None) for n, v in enumerate(values)))
    assert await batch == [None] * 20
    one, other = (c.body for c in harness.log.commands)
    assert one["ops"] == other["ops"] and {*one["namespace"], *other["namespace"]} == {"n", "m"}
    found = await harness.store.asearch(("n",), limit=100)
    assert {item.key: item.value for item in found} == {f"k{n}": v for n, v in enumerate(values)}


async def test_what_is_put_is_what_was_there_in_the_call(harness: StoreHarness) -> None:
    values: list[dict[str, Any]] = [{"n": n} for n in range(3)]
    batch = asyncio.ensure_future(harness.store.abatch([PutOp(("n",), f"k{n}", v) for n, v in enumerate(values)]))
    await asyncio.sleep(0)
    values[0]["n"] = object()
    await batch
    assert [item.value["n"] for item in await harness.store.asearch(("n",))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("namespace", "key", "value", "error", "sentence"),
    [
        (("n",), "k", {"x": object()}, TypeError, "must be JSON"),
        (("n",), "k", {"x": 2**64}, TypeError, "64-bit"),
        (("n",), "k" * (ITEM_KEY_BYTES + 1), {}, ValueError, "key"),
        (("n" * (NAMESPACE_BYTES + 1),), "k", {}, ValueError, "Namespace"),
        (("n",), "k", {str(n): n for n in range(ITEM_VALUE_KEYS + 1)}, ValueError, "keys"),
        (("n",), "k", {"x": "x" * 40_000_000}, ValueError, "bytes"),
        (("n",), "k", [1], ValueError, "object"),
    ],
    ids=["object", "integer", "key", "namespace", "keys", "bytes", "list"],
)
async def test_what_cannot_be_stored_fails_the_call_and_no_other(
    harness: StoreHarness, namespace: Any, key: str, value: Any, error: type[Exception], sentence: str
) -> None:
    good = harness.store.aput(("n",), "good", {"n": 1})
    bad = harness.store.aput(namespace, key, value)
    results = await asyncio.gather(good, bad, return_exceptions=True)
    assert results[0] is None and isinstance(results[1], error) and sentence in str(results[1])
    assert len(await harness.store.asearch(())) == 1


async def test_text_that_utf8_or_postgres_cannot_hold(harness: StoreHarness) -> None:
    await harness.store.aput(("a\ud800",), "k\ud800", {"x\ud800": ["\ud800", "a\x00b"], 1: 2})
    item = await harness.store.aget(("a\ud800",), "k\ud800")
    assert item is not None and item.namespace == ("a\ufffd",) and item.key == "k\ufffd"
    assert item.value == {"x\ufffd": ["\ufffd", "a\ufffdb"], "1": 2}


async def test_another_loop_in_another_thread(harness: StoreHarness) -> None:
    def node(store: BaseStore) -> Any:
        async def on_its_own_loop() -> Any:
            await asyncio.gather(*(store.aput(("n",), f"k{i}", {"n": i}) for i in range(20)))
            return await asyncio.gather(*(store.aget(("n",), f"k{i}") for i in range(20)))

        return asyncio.run(on_its_own_loop())

    assert [item.value["n"] for item in await harness.in_thread(node)] == list(range(20))


@pytest.mark.parametrize("kind", ["postgres", "memory"])
async def test_the_read_models_are_the_log(database: str, kind: Any) -> None:
    async with engine_harness(kind, database) as engines:
        await engines.engine()
        async with opened(engines, StoreConfig()) as harness:
            for n in range(5):
                await asyncio.gather(*(harness.store.aput(("n", str(i)), "k", {"n": n}, ttl=i + 1) for i in range(5)))
            await harness.store.adelete(("n", "0"), "k")
            await harness.store.aput(("n", "0"), "k", {"n": "again"})
            await harness.store.aget(("n", "1"), "k")
        assert await verify(database, engines.log) == []


async def test_a_record_the_log_refuses_is_an_error_of_its_put(harness: StoreHarness) -> None:
    append = harness.log.append

    async def refusing(records: list[Append]) -> list[int]:
        if any(b"bad" in record.value for record in records):
            raise ValueError("the log does not take it")
        return await append(records)

    harness.log.append = refusing  # type: ignore[method-assign]
    calls = [harness.store.aput(("bad",), "k", {"n": 1}), harness.store.aput(("good",), "k", {"n": 1})]
    bad, good = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(bad, ValueError) and good is None


async def test_a_write_the_engine_refuses_is_an_error_of_its_put(harness: StoreHarness) -> None:
    values = {"before": {}, "large": {"x": "x" * 17_000_000}, "after": {}}
    calls = [harness.store.aput(("n",), key, value) for key, value in values.items()]
    before, large, after = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(large, ValueError) and "larger than" in str(large) and before is after is None
    assert {item.key for item in await harness.store.asearch(("n",))} == {"before", "after"}


async def test_what_became_of_a_write_is_known_after_many_others(harness: StoreHarness) -> None:
    for n in range(12):
        await harness.store.aput(("n",), f"k{n}", {})
    with pytest.raises(ValueError, match="larger than"):
        await harness.store.aput(("n",), "large", {"x": "x" * 17_000_000})
    for n in range(12):
        await harness.store.aput(("n",), f"k{n}", {})
    commands = [c for c in harness.log.commands if c.type == "store.write"]
    p = partition_of(commands[0].key, harness.engines.log.partitions)
    offsets = {
        CommandEnvelope.decode(raw.value).id: raw.offset
        for raw in await harness.engines.log.read(Topic.COMMANDS, p, 0, max_bytes=100_000_000)
    }
    outcomes = Outcomes(RetryingPool(harness.engines.pool), harness.engines.log, link=None)
    known = [await outcomes.refusal_of_write(p, offsets[c.id], c.key, c.id) for c in commands]
    assert [n for n, refusal in enumerate(known) if refusal is not None] == [12]
