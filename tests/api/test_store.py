"""/store over HTTP: items, namespaces, filters, time to live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.api_harness import ApiHarness, api_harness
from tests.databases import new_database
from tests.waiting import eventually
from threadlog.api.settings import ApiSettings
from threadlog.engine.domain.store_limits import ITEM_KEY_BYTES, NAMESPACE_BYTES, NAMESPACE_LABELS
from threadlog.engine.user_code.store_config import StoreConfig

ITEMS = "/store/items"


@pytest.fixture(scope="module")
async def opened(postgres_uri: str, _template: str) -> AsyncIterator[ApiHarness]:
    async with new_database(postgres_uri, template=_template) as dsn, api_harness(dsn, ApiSettings()) as api:
        yield api


@pytest.fixture
async def store(opened: ApiHarness) -> ApiHarness:
    """One api for all tests here, its store empty again."""
    await opened.pool.execute("TRUNCATE store_items, store_vectors")
    return opened


async def put(api: ApiHarness, namespace: str, key: str, value: Any = None, **fields: Any) -> None:
    body = {"namespace": namespace.split("."), "key": key, "value": value or {"n": 1}, **fields}
    await api.call("PUT", ITEMS, body)


async def get(api: ApiHarness, namespace: str, key: str, **query: Any) -> Any:
    return await api.call("GET", ITEMS, params={"namespace": namespace, "key": key, **query})


async def keys(api: ApiHarness, prefix: str, **fields: Any) -> list[str]:
    body = {"namespace_prefix": prefix.split(".") if prefix else [], **fields}
    return [item["key"] for item in (await api.call("POST", f"{ITEMS}/search", body))["items"]]


async def listed(api: ApiHarness, **fields: Any) -> list[str]:
    return [".".join(labels) for labels in (await api.call("POST", "/store/namespaces", fields))["namespaces"]]


async def test_an_item_is_what_was_put_last(store: ApiHarness) -> None:
    assert await get(store, "users.ann", "tea") is None
    await put(store, "users.ann", "tea", {"likes": "oolong", "nul": "a\x00b"})
    first = await get(store, "users.ann", "tea")
    assert first["namespace"] == ["users", "ann"] and first["key"] == "tea"
    assert first["value"] == {"likes": "oolong", "nul": "a\ufffdb"} and first["created_at"] == first["updated_at"]
    await put(store, "users.ann", "tea", {"likes": "sencha"})
    second = await get(store, "users.ann", "tea")
    assert second["value"] == {"likes": "sencha"}
    assert second["created_at"] == first["created_at"] < second["updated_at"]
    for _ in range(2):
        assert await store.ask("DELETE", ITEMS, {"namespace": ["users", "ann"], "key": "tea"}) == (204, None)
    assert await get(store, "users.ann", "tea") is None


@pytest.mark.parametrize(
    ("namespace", "status", "sentence"),
    [
        ([], 400, "Namespace cannot be empty."),
        (["langgraph", "x"], 400, 'Root label for namespace cannot be "langgraph". Got: langgraph'),
        (["a", ""], 422, "Namespace label '' must be a non-empty string without periods"),
        (["a.b"], 422, "Namespace label 'a.b' must be a non-empty string without periods"),
        (["a", 1], 422, "Namespace label '1' must be a non-empty string without periods"),
        (["a"] * (NAMESPACE_LABELS + 1), 422, f"{NAMESPACE_LABELS + 1} labels"),
        (["a" * NAMESPACE_BYTES, "b"], 422, f"at most {NAMESPACE_BYTES} are allowed"),
    ],
)
async def test_what_no_namespace_may_be(store: ApiHarness, namespace: list[Any], status: int, sentence: str) -> None:
    for method, body in (("PUT", {"value": {}}), ("DELETE", {})):
        found, answer = await store.ask(method, ITEMS, {"namespace": namespace, "key": "k", **body})
        assert found == status and sentence in answer["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"),
    [
        ("PUT", ITEMS, {"namespace": ["a"], "key": "", "value": {}}, 422, "key"),
        ("PUT", ITEMS, {"namespace": ["a"], "key": "k" * (ITEM_KEY_BYTES + 1), "value": {}}, 422, "key"),
        ("PUT", ITEMS, {"namespace": ["a"], "key": "k", "value": [1]}, 422, "value"),
        ("PUT", ITEMS, {"namespace": ["a"], "key": "k", "value": {}, "ttl": 0}, 422, "ttl"),
        ("PUT", ITEMS, {"namespace": ["a"], "key": "k", "value": {}, "ttl": 1e300}, 422, "ttl"),
        ("PUT", ITEMS, {"namespace": ["a"], "key": "k", "value": {}, "ttl": True}, 422, "ttl"),
        ("PUT", ITEMS, {"namespace": ["a"], "key": "k", "value": {}, "index": True}, 422, "index"),
        ("PUT", ITEMS, {"namespace": ["a"], "value": {}}, 422, "key"),
        ("GET", f"{ITEMS}?namespace=a", None, 400, "Key is required"),
        ("GET", f"{ITEMS}?namespace=a..b&key=k", None, 422, "Namespace label ''"),
        ("GET", f"{ITEMS}?namespace=a&key={'k' * (ITEM_KEY_BYTES + 1)}", None, 422, "key"),
        ("POST", f"{ITEMS}/search", {"namespace_prefix": ["a."]}, 422, "Namespace label 'a.'"),
        ("POST", f"{ITEMS}/search", {"namespace_prefix": [], "filter": {"a": {"$foo": 1}}}, 400, "$foo"),
        ("POST", f"{ITEMS}/search", {"namespace_prefix": [], "filter": {"a": {"$gt": [1]}}}, 400, "$gt"),
        ("POST", f"{ITEMS}/search", {"namespace_prefix": [], "filter": {"$or": [{"a": 1}]}}, 400, "$or"),
        ("POST", f"{ITEMS}/search", {"namespace_prefix": [], "filter": {"$gt": 1}}, 400, "$gt"),
        ("POST", f"{ITEMS}/search", {"namespace_prefix": [], "filter": {"a": {"$gt": 1, "b": 2}}}, 400, "b"),
        ("POST", f"{ITEMS}/search", {"namespace_prefix": [], "limit": -1}, 422, "limit"),
        ("POST", "/store/namespaces", {"max_depth": 0}, 422, "max_depth"),
    ],
)
async def test_what_is_wrong_with_a_request_is_said(
    store: ApiHarness, method: str, path: str, body: Any, status: int, sentence: str
) -> None:
    found, answer = await store.ask(method, path, body)
    assert (found, sentence in answer["detail"]) == (status, True), (found, answer)


async def test_a_search_finds_what_is_under_whole_labels(store: ApiHarness) -> None:
    for namespace in ("a", "a.b", "ab", "a_b", "aXb", "a%", "a.b.c", "b"):
        await put(store, namespace, namespace)
    assert sorted(await keys(store, "a")) == ["a", "a.b", "a.b.c"]
    assert await keys(store, "a_b") == ["a_b"]
    assert await keys(store, "a%") == ["a%"]
    assert sorted(await keys(store, "a.b")) == ["a.b", "a.b.c"]
    assert await keys(store, "") == ["b", "a.b.c", "a%", "aXb", "a_b", "ab", "a.b", "a"]
    assert await keys(store, "a", limit=1) == ["a.b.c"] and await keys(store, "a", limit=0) == []
    assert await keys(store, "a", limit=2, offset=1) == ["a.b", "a"] and await keys(store, "a", offset=3) == []
    await put(store, "a", "a")
    assert await keys(store, "a", limit=2) == ["a", "a.b.c"]
    assert len((await store.call("POST", f"{ITEMS}/search", {}))["items"]) == 8


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"n": 1}, {"one"}),
        ({"n": 1.0}, {"one"}),
        ({"n": {"$eq": 2}}, {"two"}),
        ({"n": {"$ne": 1}}, {"two", "ten", "text", "none"}),
        ({"n": {"$gt": 1}}, {"two", "ten"}),
        ({"n": {"$gte": 2, "$lt": 10}}, {"two"}),
        ({"n": {"$lte": 2}}, {"one", "two"}),
        ({"n": {"$gt": "1"}}, {"text"}),
        ({"n": "9"}, {"text"}),
        ({"n": None}, set()),
        ({"missing": {"$gte": 1}}, set()),
        ({"tag": None}, {"one"}),
        ({"flag": True}, {"two"}),
        ({"flag": {"$lt": True}}, {"ten"}),
        ({"list": [1, 2]}, {"ten"}),
        ({"list": [1]}, set()),
        ({"deep": {"a": 1}}, {"two"}),
        ({"deep": {"a": {"$gt": 1}}}, {"ten"}),
        ({"deep": {"$eq": {"a": 1, "b": 2}}}, {"two"}),
        ({"deep": {}}, {"two", "ten"}),
        ({"deep": {"a": {"b": 1}}}, set()),
        ({"n": 2, "flag": True}, {"two"}),
        ({"n": 2, "flag": False}, set()),
        ({"it's \"a\" %s $1": 1}, {"none"}),
    ],
)  # fmt: skip
async def test_filters(store: ApiHarness, filter: dict[str, Any], found: set[str]) -> None:
    for key, value in {
        "one": {"n": 1, "tag": None},
        "two": {"n": 2, "flag": True, "deep": {"a": 1, "b": 2}},
        "ten": {"n": 10, "flag": False, "deep": {"a": 5}, "list": [1, 2]},
        "text": {"n": "9", "deep": [1]},
        "none": {'it\'s "a" %s $1': 1},
    }.items():
        await put(store, "f.x" if key == "ten" else "f", key, value)
    assert set(await keys(store, "f", filter=filter)) == found
    assert set(await keys(store, "", filter=filter)) == found


async def test_namespaces_by_prefix_suffix_wildcard_and_depth(store: ApiHarness) -> None:
    for namespace in ("a", "a.b.c", "a.b.d", "a.x.c", "a-b.c", "b.b.c", "c"):
        await put(store, namespace, "k")
        await put(store, namespace, "k2")
    assert await listed(store) == ["a", "a-b.c", "a.b.c", "a.b.d", "a.x.c", "b.b.c", "c"]
    assert await listed(store, limit=2, offset=1) == ["a-b.c", "a.b.c"] and await listed(store, limit=0) == []
    assert await listed(store, prefix=["a"]) == ["a", "a.b.c", "a.b.d", "a.x.c"]
    assert await listed(store, prefix=["a", "*", "c"]) == ["a.b.c", "a.x.c"]
    assert await listed(store, prefix=["*", "b"]) == ["a.b.c", "a.b.d", "b.b.c"]
    assert await listed(store, suffix=["c"]) == ["a-b.c", "a.b.c", "a.x.c", "b.b.c", "c"]
    assert await listed(store, prefix=["a"], suffix=["*", "c"]) == ["a.b.c", "a.x.c"]
    assert await listed(store, max_depth=1) == ["a", "a-b", "b", "c"]
    assert await listed(store, max_depth=2) == ["a", "a-b.c", "a.b", "a.x", "b.b", "c"]
    assert await listed(store, max_depth=2, limit=2, offset=2) == ["a.b", "a.x"]
    assert await listed(store, prefix=["a", "b"], max_depth=1) == ["a"]
    assert await listed(store, suffix=["d"], max_depth=2) == ["a.b"]
    await store.call("DELETE", ITEMS, {"namespace": ["c"], "key": "k"})
    assert "c" in await listed(store)
    await store.call("DELETE", ITEMS, {"namespace": ["c"], "key": "k2"})
    assert "c" not in await listed(store)


async def expire(api: ApiHarness, key: str, seconds: float = 60) -> None:
    """Let so many seconds pass for an item."""
    await api.pool.execute(
        "UPDATE store_items SET expires_at = expires_at - make_interval(secs => $2) WHERE key = $1", key, seconds
    )


async def test_an_item_is_gone_when_its_time_has_passed(store: ApiHarness) -> None:
    await put(store, "t", "short", ttl=1)
    await put(store, "t", "long", ttl=100)
    await put(store, "t", "forever")
    await expire(store, "short")
    assert await get(store, "t", "short") is None
    assert await keys(store, "t") == ["forever", "long"]
    await expire(store, "long", 100 * 60)
    await store.call("DELETE", ITEMS, {"namespace": ["t"], "key": "forever"})
    assert await listed(store) == []


@pytest.mark.parametrize("reading", ["get", "search"])
async def test_a_read_begins_the_time_anew_unless_told_not_to(store: ApiHarness, reading: str) -> None:
    async def left() -> float:
        return await store.pool.fetchval("SELECT extract(epoch FROM expires_at - now())::float8 FROM store_items")

    async def read(refresh: bool) -> None:
        if reading == "get":
            await get(store, "t", "k", refresh_ttl=str(refresh).lower())
        else:
            assert await keys(store, "t", refresh_ttl=refresh) == ["k"]

    await put(store, "t", "k", ttl=10)
    await expire(store, "k", 300)
    await read(False)
    assert await left() <= 300
    await read(True)
    assert await left() > 500


async def test_a_time_to_live_of_the_file_is_that_of_items_without_one(database: str) -> None:
    config = StoreConfig(default_ttl=5, refresh_on_read=False)
    async with api_harness(database, ApiSettings(store=config)) as api:
        await put(api, "t", "default")
        await put(api, "t", "null", ttl=None)
        await put(api, "t", "own", ttl=7)
        found = await api.pool.fetch("SELECT key, ttl_minutes FROM store_items")
        assert {row["key"]: row["ttl_minutes"] for row in found} == {"default": 5, "null": 5, "own": 7}
        await expire(api, "own", 200)
        await get(api, "t", "own")
        left = "SELECT extract(epoch FROM expires_at - now()) FROM store_items WHERE key = 'own'"
        assert await api.pool.fetchval(left) < 250


async def test_the_partitions_owner_removes_what_has_expired(database: str) -> None:
    options = ApiSettings(store=StoreConfig(sweep_interval_minutes=0.0001))
    async with api_harness(database, options) as api:
        await put(api, "t", "short", ttl=1 / 600)
        await put(api, "t", "kept")

        async def left() -> list[str]:
            return [row["key"] for row in await api.pool.fetch("SELECT key FROM store_items")]

        await eventually(left, lambda found: found == ["kept"])
        await put(api, "t", "short", ttl=None)
        assert await keys(api, "t") == ["short", "kept"]
