"""The store as clients see it, through the public client, and what of it the client does not show."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "store.md"


@pytest.fixture
def root() -> str:
    """The first label of this test's namespaces."""
    return f"store-{uuid4().hex[:8]}"


@pytest.mark.contract(151)
async def test_an_item_is_put_read_and_deleted(client: LangGraphClient, http: httpx.AsyncClient, root: str) -> None:
    namespace = [root, "ann"]
    missing = await http.get("/store/items", params={"namespace": ".".join(namespace), "key": "tea"})
    assert (missing.status_code, missing.json()) == (200, None)
    await client.store.put_item(namespace, key="tea", value={"likes": ["oolong", 1, None]})
    first = await client.store.get_item(namespace, key="tea")
    assert (first["namespace"], first["key"], first["value"]) == (namespace, "tea", {"likes": ["oolong", 1, None]})
    await client.store.put_item(namespace, key="tea", value={"likes": []})
    second = await client.store.get_item(namespace, key="tea")
    assert second["value"] == {"likes": []} and second["created_at"] == first["created_at"] < second["updated_at"]
    for _ in range(2):
        answer = await http.request("DELETE", "/store/items", json={"namespace": namespace, "key": "tea"})
        assert (answer.status_code, answer.content) == (204, b"")
    assert await client.store.get_item(namespace, key="tea") is None


@pytest.mark.contract(152)
async def test_a_prefix_is_of_whole_labels_and_literal(client: LangGraphClient, root: str) -> None:
    for label in ("a", "ab", "a_b", "a%", "axb"):
        await client.store.put_item([root, label], key=label, value={"n": 1})
    await client.store.put_item([root, "a", "below"], key="below", value={"n": 2})

    async def keys(*prefix: str) -> list[str]:
        return [item["key"] for item in (await client.store.search_items([root, *prefix]))["items"]]

    assert await keys("a") == ["below", "a"]
    assert await keys("a_b") == ["a_b"] and await keys("a%") == ["a%"] and await keys("a", "bel") == []
    assert await keys() == ["below", "axb", "a%", "a_b", "ab", "a"]
    page = await client.store.search_items([root], limit=2, offset=1)
    assert [item["key"] for item in page["items"]] == ["axb", "a%"] and page["items"][0]["score"] is None


@pytest.mark.star
@pytest.mark.contract(153)
async def test_filters_compare_and_an_absent_field_does_not_fail(
    client: LangGraphClient, http: httpx.AsyncClient, root: str
) -> None:
    for key, value in {"one": {"n": 1}, "nine": {"n": 9}, "ten": {"n": 10}, "none": {"m": 1}}.items():
        await client.store.put_item([root], key=key, value=value)

    async def keys(filter: dict[str, object]) -> set[str]:
        return {item["key"] for item in (await client.store.search_items([root], filter=filter))["items"]}

    assert await keys({"n": 9}) == await keys({"n": {"$eq": 9}}) == {"nine"}
    assert await keys({"n": {"$gt": 1, "$lt": 10}}) == {"nine"}
    assert await keys({"n": {"$gte": 9}}) == {"nine", "ten"} and await keys({"n": {"$lte": 1}}) == {"one"}
    assert await keys({"n": {"$ne": 9}}) == {"one", "ten", "none"}
    body = {"namespace_prefix": [root], "filter": {"n": {"$near": 9}}}
    answer = await http.post("/store/items/search", json=body)
    assert answer.status_code == 400 and "$near" in answer.json()["detail"]


@pytest.mark.contract(154)
async def test_an_item_is_gone_after_its_time_to_live(client: LangGraphClient, root: str) -> None:
    await client.store.put_item([root], key="short", value={"n": 1}, ttl=1 / 30)
    await client.store.put_item([root], key="long", value={"n": 1}, ttl=60)

    async def left() -> list[str]:
        items = await client.store.search_items([root], refresh_ttl=False)
        return [item["key"] for item in items["items"]]

    await eventually(left, lambda keys: keys == ["long"])
    assert await client.store.get_item([root], key="short") is None
    assert await client.store.get_item([root], key="long", refresh_ttl=True) is not None


@pytest.mark.contract(156)
async def test_namespaces_are_listed_by_depth_and_wildcard(client: LangGraphClient, root: str) -> None:
    for labels in (["a", "x", "1"], ["a", "y", "1"], ["b", "x", "2"], ["b"]):
        await client.store.put_item([root, *labels], key="k", value={"n": 1})

    async def listed(**fields: object) -> list[list[str]]:
        return [labels[1:] for labels in (await client.store.list_namespaces(**fields))["namespaces"]]

    assert await listed(prefix=[root]) == [["a", "x", "1"], ["a", "y", "1"], ["b"], ["b", "x", "2"]]
    assert await listed(prefix=[root], max_depth=2) == [["a"], ["b"]]
    assert await listed(prefix=[root, "*", "x"]) == [["a", "x", "1"], ["b", "x", "2"]]
    assert await listed(prefix=[root], suffix=["*", "1"]) == [["a", "x", "1"], ["a", "y", "1"]]
    assert await listed(prefix=[root], limit=1, offset=2) == [["b"]]


@pytest.mark.star
async def test_graphs_have_the_same_store_and_read_what_they_write(client: LangGraphClient, root: str) -> None:
    values = await client.runs.wait(None, "remembering", input={"root": root, "seen": []})
    assert values["seen"] == [1, 1, 2, ["second"], [[root, "facts"]]]
    item = await client.store.get_item([root, "facts"], key="second")
    assert item["value"] == {"n": 2} and await client.store.get_item([root, "facts"], key="first") is None
    await client.store.put_item([root, "facts"], key="first", value={"n": 0})
    again = await client.runs.wait(None, "remembering", input={"root": root, "seen": []})
    assert again["seen"][:3] == [1, 1, 2]


@pytest.mark.star
async def test_a_node_is_told_of_a_write_that_is_refused(client: LangGraphClient, root: str) -> None:
    values = await client.runs.wait(None, "writes_too_much", input={"root": root, "seen": []})
    large, small = values["seen"]
    assert large.startswith("ValueError: ") and "larger than" in large and small is None
    assert [item["key"] for item in (await client.store.search_items([root]))["items"]] == ["small"]


@pytest.mark.contract(155)
async def test_a_query_orders_by_score(client: LangGraphClient, root: str) -> None:
    for key, text in {"bees": "bbb", "ays": "aaa", "both": "abab", "none": ""}.items():
        await client.store.put_item([root], key=key, value={"text": text}, index=["text"])
    await client.store.put_item([root], key="hidden", value={"text": "aaa"}, index=False)
    items = (await client.store.search_items([root], query="aa"))["items"]
    assert [item["key"] for item in items] == ["ays", "both", "bees"]
    assert [round(item["score"], 3) for item in items] == [1.0, 0.707, 0.0]
    page = (await client.store.search_items([root], query="aa", filter={"text": {"$ne": "aaa"}}, limit=1))["items"]
    assert [item["key"] for item in page] == ["both"]
    assert len((await client.store.search_items([root]))["items"]) == 5


async def test_the_page_is_right(url: str) -> None:
    snippet = PAGE.read_text().split("```python\n")[1].split("```")[0].replace("http://127.0.0.1:2024", url)
    names: dict[str, Any] = {}
    await eval(compile(snippet, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    assert names["item"]["value"] == {"likes": "oolong", "cups": 3}
    assert names["item"] in [{k: v for k, v in item.items() if k != "score"} for item in names["found"]["items"]]
    assert ["users", "ann"] in names["listed"]["namespaces"]
