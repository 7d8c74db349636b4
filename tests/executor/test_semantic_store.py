"""Semantic search of `runtime.store`: what LangGraph's own tests ask (MIT licence), with embeddings of letters."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from langchain_core.embeddings import Embeddings
from langgraph.store.base import get_text_at_path

from tests.databases import new_database
from tests.engine.engine_harness import EngineHarness, engine_harness
from tests.executor.test_graph_store import StoreHarness, opened
from threadlog.engine.store import similarity
from threadlog.engine.store.embedding import Embedder, EmbeddingFailed
from threadlog.engine.store.text_paths import texts_at
from threadlog.engine.user_code.store_config import IndexConfig, StoreConfig
from threadlog.projections.rebuild.verify import verify

DIMS = 50


class CharacterEmbeddings(Embeddings):
    """How often each letter is there, projected at random."""

    def __init__(self) -> None:
        rng = random.Random(42)
        self._letters: defaultdict[str, list[float]] = defaultdict(
            lambda: [rng.gauss(0, 1 / math.sqrt(DIMS)) for _ in range(DIMS)]
        )
        self.threads: set[int] = set()

    def embed_query(self, text: str) -> list[float]:
        self.threads.add(threading.get_ident())
        vector = [0.0] * DIMS
        for letter, count in Counter(text).items():
            for n, number in enumerate(self._letters[letter]):
                vector[n] += number * count
        norm = math.sqrt(sum(number * number for number in vector)) or 1.0
        return [number / norm for number in vector]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


@pytest.fixture(scope="module")
async def engines(postgres_uri: str, _template: str) -> AsyncIterator[EngineHarness]:
    async with new_database(postgres_uri, template=_template) as dsn, engine_harness("postgres", dsn) as harness:
        await harness.engine()
        async with harness.pool.acquire() as connection:
            for _ in range(2):
                await similarity.prepare(connection, DIMS)  # type: ignore[arg-type]
        yield harness


@pytest.fixture
async def harness(request: pytest.FixtureRequest, engines: EngineHarness) -> AsyncIterator[StoreHarness]:
    """A store with embeddings, empty; of the fields in the parameter, else of the whole value."""
    await engines.pool.execute("TRUNCATE store_items, store_vectors")
    index = IndexConfig(DIMS, "", tuple(getattr(request, "param", ["$"])))
    embedder = Embedder(index, CharacterEmbeddings)
    async with opened(engines, StoreConfig(index=index), embedder) as harness:
        yield harness
    embedder.close()


async def keys(harness: StoreHarness, query: str, **more: Any) -> list[str]:
    return [item.key for item in await harness.store.asearch(("test",), query=query, **more)]


async def test_what_is_put_is_found_by_its_text(harness: StoreHarness) -> None:
    for key, value in {
        "doc1": {"text": "zany zebra Xerxes"},
        "doc2": {"text": "something about dogs"},
        "doc3": {"text": "text about birds"},
    }.items():
        await harness.store.aput(("test",), key, value)
    (first, *_) = before = await harness.store.asearch(("test",), query="Zany Xerxes")
    assert first.key == "doc1" and len(before) == 3
    await harness.store.aput(("test",), "doc1", {"text": "new text about dogs"})
    after = {item.key: item.score or 0.0 for item in await harness.store.asearch(("test",), query="Zany Xerxes")}
    assert first.score is not None and after["doc1"] < first.score
    await harness.store.aput(("test",), "doc4", {"text": "new text about dogs"}, index=False)
    assert "doc4" not in await keys(harness, "new text about dogs")
    assert "doc4" in [item.key for item in await harness.store.asearch(("test",))]
    assert await keys(harness, "") == ["doc4", "doc1", "doc3", "doc2"], "no query: the newest first"
    await harness.store.adelete(("test",), "doc1")
    assert await harness.engines.pool.fetchval("SELECT count(*) FROM store_vectors") == 2


async def test_a_text_that_can_not_be_embedded_fails_its_put_alone(engines: EngineHarness) -> None:
    """Puts of one turn of the loop are embedded together, whosever runs they are of."""
    await engines.pool.execute("TRUNCATE store_items, store_vectors")

    def embed(texts: list[str]) -> list[list[float]]:
        if any("odd" in text for text in texts):
            raise RuntimeError("not these")
        return [[1.0] * DIMS for _ in texts]

    index = IndexConfig(DIMS, "", ("text",))
    embedder = Embedder(index, lambda: embed)
    async with opened(engines, StoreConfig(index=index), embedder) as harness:
        puts = (harness.store.aput(("test",), text, {"text": text}) for text in ("even", "odd", "even too"))
        first, failed, last = await asyncio.gather(*puts, return_exceptions=True)
        assert first is None and last is None
        assert isinstance(failed, EmbeddingFailed) and "not these" in str(failed)
        assert sorted(await keys(harness, "x")) == ["even", "even too"]
    embedder.close()


async def test_with_filters_and_pages(harness: StoreHarness) -> None:
    for key, text, color, score in [
        ("doc1", "red apple", "red", 4.5), ("doc2", "red car", "red", 3.0),
        ("doc3", "green apple", "green", 4.0), ("doc4", "blue car", "blue", 3.5),
    ]:  # fmt: skip
        await harness.store.aput(("test",), key, {"text": text, "color": color, "score": score}, index=["text"])
    assert await keys(harness, "apple", filter={"color": "red"}) == ["doc1", "doc2"]
    assert await keys(harness, "car", filter={"color": "red"}) == ["doc2", "doc1"]
    assert (await keys(harness, "bbbbluuu", filter={"score": {"$gt": 3.2}}))[0] == "doc4"
    assert await keys(harness, "apple", filter={"score": {"$gte": 4.0}, "color": "green"}) == ["doc3"]
    everything = await keys(harness, "apple")
    assert await keys(harness, "apple", limit=2) + await keys(harness, "apple", limit=2, offset=2) == everything
    assert [item.key for item in await harness.store.asearch(("other",), query="apple")] == []
    assert len(await harness.store.asearch((), query="apple")) == 4


@pytest.mark.parametrize("harness", [["key0", "key1", "key3"]], indirect=True)
async def test_an_item_is_as_near_as_its_nearest_text(harness: StoreHarness) -> None:
    await harness.store.aput(("test",), "doc1", {"key1": "xxx", "key2": "yyy", "key3": "zzz"})
    await harness.store.aput(("test",), "doc2", {"key0": "uuu", "key1": "vvv", "key2": "www", "key3": "xxx"})
    for query, first, alike in (("xxx", None, True), ("uuu", "doc2", False), ("zzz", "doc1", False)):
        one, two = await harness.store.asearch(("test",), query=query)
        assert one.score == pytest.approx(1, abs=1e-3) and (one.score == pytest.approx(two.score, abs=1e-3)) is alike
        assert first in (None, one.key) and one.key != two.key
    assert all((item.score or 1.0) < 0.9 for item in await harness.store.asearch(("test",), query="www"))


@pytest.mark.parametrize("harness", [["key17"]], indirect=True)
async def test_a_put_says_itself_what_is_embedded(harness: StoreHarness) -> None:
    await harness.store.aput(("test",), "doc3", {"key0": "aaa", "tags": ["bbb", "ccc"]}, index=["key0", "tags[*]"])
    await harness.store.aput(("test",), "doc4", {"key0": "eee", "tags": []}, index=["key0"])
    await harness.store.aput(("test",), "doc5", {"key0": "hhh"})
    paths = await harness.engines.pool.fetch("SELECT key, path FROM store_vectors ORDER BY 1, 2")
    assert [tuple(row) for row in paths] == [
        ("doc3", "key0"),
        ("doc3", "tags[*].0"),
        ("doc3", "tags[*].1"),
        ("doc4", "key0"),
    ]
    assert (await keys(harness, "ccc"))[0] == "doc3" and (await keys(harness, "eee"))[0] == "doc4"


async def test_texts_in_any_script(harness: StoreHarness) -> None:
    texts = ["这是中文", "これは日本語です", "이건 한국어야", "Это русский", "यह रूसी है"]
    for n, text in enumerate(texts):
        await harness.store.aput(("test",), str(n), {"text": text})
    for n, text in enumerate(texts):
        assert (await keys(harness, text))[0] == str(n)


async def test_above_so_many_vectors_the_index_is_walked(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same results, also where the prefix or a filter leaves out nearly all."""
    from langgraph.store.base import PutOp

    words = ["apple", "car", "dog", "bird", "tree"]
    await harness.store.abatch(
        [
            PutOp(("test", words[n % 5]), f"k{n}", {"text": words[n % 5] * (1 + n % 3) + str(n), "n": n})
            for n in range(300)
        ]
    )
    exact = [
        await keys(harness, "apple7", limit=5),
        await keys(harness, "dog1", limit=7, offset=3),
        await keys(harness, "car", filter={"n": 51}),
        [i.key for i in await harness.store.asearch(("test", "bird"), query="apple", limit=4)],
    ]
    monkeypatch.setattr(similarity, "EXACT_VECTORS", 10)
    walked = [
        await keys(harness, "apple7", limit=5),
        await keys(harness, "dog1", limit=7, offset=3),
        await keys(harness, "car", filter={"n": 51}),
        [i.key for i in await harness.store.asearch(("test", "bird"), query="apple", limit=4)],
    ]
    assert walked == exact and exact[2] == ["k51"]


async def test_the_plan_of_a_large_search_walks_the_index(harness: StoreHarness) -> None:
    await harness.store.aput(("test",), "k", {"text": "apple"})
    query, *arguments = similarity.near_query([1.0] * DIMS, (), {}, 10, 0, 40)
    async with harness.engines.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *arguments))
    assert f"store_vectors_near_{DIMS}" in plan


async def test_vectors_are_in_the_log(harness: StoreHarness) -> None:
    await harness.store.aput(("verified",), "k", {"text": "apple"})
    async with harness.engines.pool.acquire() as connection:
        rows = await connection.fetch("SELECT key, embedding FROM store_vectors WHERE namespace = 'verified'")
    assert rows[0]["embedding"] == pytest.approx(CharacterEmbeddings().embed_query('{"text": "apple"}'))
    (dsn,) = [harness.engines.dsn]
    assert [d for d in await verify(dsn, harness.engines.log) if d.key.get("namespace") == "verified"] == []


async def test_the_applications_code_runs_on_another_thread(harness: StoreHarness) -> None:
    await harness.store.aput(("test",), "k", {"text": "apple"})
    assert await keys(harness, "apple") == ["k"]
    embedder: Any = harness.store._embedder
    assert threading.get_ident() not in embedder._model.threads


def embedder(function: Any, dims: int = 2) -> Embedder:
    return Embedder(IndexConfig(dims, ""), lambda: function)


async def later(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


@pytest.mark.parametrize("function", [lambda texts: [(len(text), 1) for text in texts], later])
async def test_a_function_may_be_synchronous_or_not(function: Any) -> None:
    assert await embedder(function).documents(["a", "bcd"]) == [[1.0, 1.0], [3.0, 1.0]]
    assert await embedder(function).query("abc") == [3.0, 1.0]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda texts: 1 / 0, "ZeroDivisionError"),
        (lambda texts: [[1.0]], "dims is 2"),
        (lambda texts: [], "0 vectors"),
        (lambda texts: None, "a list of numbers"),
        (lambda texts: [[float("nan"), 1.0]], "not finite"),
    ],
)
async def test_what_is_wrong_with_embeddings_is_said(function: Any, sentence: str) -> None:
    with pytest.raises(EmbeddingFailed, match=sentence):
        await embedder(function).query("a")


async def test_code_that_does_not_load_is_an_error_each_time() -> None:
    broken = Embedder(IndexConfig(2, "openai:model"), lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(EmbeddingFailed, match="openai:model can't be loaded: ZeroDivisionError"):
            await broken.load()


async def test_a_database_without_the_extension_has_no_semantic_search(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute("CREATE VIEW pg_temp.pg_available_extensions AS SELECT ''::name AS name WHERE false")
        await connection.execute("SET search_path = pg_temp, pg_catalog")
        with pytest.raises(similarity.NoVectors, match="pgvector"):
            await similarity.prepare(connection, DIMS)
    finally:
        await connection.close()


NESTED: dict[str, Any] = {
    "name": "test",
    "info": {"age": 25, "tags": ["a", "b"], "metadata": {"created": "2024-01-01", "updated": "2024-01-02"}},
    "items": [{"id": 1, "value": "first", "tags": ["x"]}, {"id": 2, "value": "second", "tags": ["y", "z"]}],
    "empty": None,
    "zeros": [0, 0.0, "0", True],
    "empty_list": [],
    "empty_dict": {},
}


@pytest.mark.parametrize(
    "path",
    [
        "$", "", "name", "info.age", "info.metadata.created", "info.metadata.*", "items[0].value", "items[-1].value",
        "items[*].value", "items[1].tags[0]", "items[*].tags[*]", "{name,info.age}", "items[*].{id,value}", "info",
        "nonexistent", "items[99].value", "items[*].nonexistent", "empty", "empty_list", "empty_dict", "zeros[*]",
        "items[].value", "items[abc].value", "{unclosed", "nested[{invalid}]", "*", "items.*", "..name", "{info.tags}",
    ],
)  # fmt: skip
def test_paths_are_langgraphs(path: str) -> None:
    assert texts_at(NESTED, path) == get_text_at_path(NESTED, path)
    for other in (None, {}, [], "text"):
        assert texts_at(other, path) == get_text_at_path(other, path)
