"""Authentication and authorization, as users of an application with `auth` see it (contract 8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from tests.installed import event_client, has
from tests.servers import Server

APP = Path(__file__).parent / "auth_app" / "langgraph.json"


@pytest.fixture(scope="module")
def guarded(start_server: Callable[..., Server]) -> Iterator[Server]:
    """A server with the application of `auth_app`."""
    running = start_server(APP, executors=1)
    yield running
    running.stop()


@pytest.fixture(scope="module")
async def ann(guarded: Server) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=guarded.url, headers={"Authorization": "Bearer ann"}) as client:
        yield client


@pytest.fixture(scope="module")
async def bob(guarded: Server) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=guarded.url, headers={"Authorization": "Bearer bob"}) as client:
        yield client


async def refused(call: Any) -> int:
    with pytest.raises((APIStatusError, httpx.HTTPStatusError)) as error:  # `runs.wait` raises the latter
        await call
    return error.value.response.status_code


@pytest.mark.contract(157)
async def test_without_credentials_the_response_is_what_authenticate_raises(guarded: Server) -> None:
    async with httpx.AsyncClient(base_url=guarded.url) as nobody:
        response = await nobody.post("/threads", json={})
        assert (response.status_code, response.json()["detail"]) == (401, "Send a token")
        assert response.headers["www-authenticate"] == "Bearer"
        for path in ("/ok", "/info", "/docs", "/openapi.json", "/asyncapi.json", "/metrics"):
            assert (await nobody.get(path)).status_code == 200


@pytest.mark.contract(158)
async def test_a_foreign_thread_is_not_there(guarded: Server, ann: LangGraphClient, bob: LangGraphClient) -> None:
    thread = await ann.threads.create(metadata={"topic": "cats"})
    thread_id = thread["thread_id"]
    run = await ann.runs.create(thread_id, "whoami", input={})
    await ann.runs.join(thread_id, run["run_id"])
    calls = [
        lambda: bob.threads.get(thread_id),
        lambda: bob.threads.update(thread_id, metadata={"topic": "dogs"}),
        lambda: bob.threads.get_state(thread_id),
        lambda: bob.threads.get_history(thread_id),
        lambda: bob.threads.update_state(thread_id, {"look": ""}),
        lambda: bob.runs.create(thread_id, "whoami", input={}),
        lambda: bob.runs.wait(thread_id, "whoami", input={}),
        lambda: bob.runs.list(thread_id),
        lambda: bob.runs.get(thread_id, run["run_id"]),
        lambda: bob.runs.join(thread_id, run["run_id"]),
        lambda: bob.runs.cancel(thread_id, run["run_id"]),
        lambda: bob.runs.delete(thread_id, run["run_id"]),
        lambda: bob.threads.delete(thread_id),
    ]
    assert [await refused(call()) for call in calls] == [404] * len(calls)
    assert await refused(bob.threads.copy(thread_id)) == 409
    assert await refused(bob.threads.create(thread_id=thread_id, if_exists="do_nothing")) == 409
    async with get_client(url=guarded.url, headers={"Authorization": "Bearer cid"}) as cid:  # no filter, just a stamp
        assert await refused(cid.threads.create(thread_id=thread_id, if_exists="do_nothing")) == 409
    assert await bob.threads.search(metadata={"topic": "cats"}) == []
    assert await bob.threads.count(metadata={"topic": "cats"}) == 0
    assert await ann.threads.count(metadata={"topic": "cats"}) == 1
    assert (await ann.threads.get(thread_id))["metadata"]["topic"] == "cats"


async def test_an_idempotency_key_is_its_callers_own(guarded: Server) -> None:
    body, key = {"metadata": {"topic": "cats"}}, {"Idempotency-Key": f"same {uuid4()}"}
    async with httpx.AsyncClient(base_url=guarded.url, headers=key) as http:
        made = {
            name: [
                await http.post("/threads", json=body, headers={"Authorization": f"Bearer {name}"}) for _ in range(2)
            ]
            for name in ("ann", "bob")
        }
    ids = {name: [answer.json()["thread_id"] for answer in answers] for name, answers in made.items()}
    assert [len(set(mine)) for mine in ids.values()] == [1, 1] and ids["ann"][0] != ids["bob"][0]
    assert [answer.headers.get("idempotent-replayed") for answer in made["bob"]] == [None, "true"]
    assert made["bob"][0].json()["metadata"]["owner"] == "bob"


@pytest.mark.contract(158)
async def test_a_foreign_threads_streams_are_not_there(
    guarded: Server, ann: LangGraphClient, bob: LangGraphClient
) -> None:
    thread_id = (await ann.threads.create())["thread_id"]
    run = await ann.runs.create(thread_id, "whoami", input={}, stream_resumable=True)
    await ann.runs.join(thread_id, run["run_id"])
    async with httpx.AsyncClient(base_url=guarded.url, headers={"Authorization": "Bearer bob"}) as http:
        for path in (f"/threads/{thread_id}/stream", f"/threads/{thread_id}/runs/{run['run_id']}/stream"):
            assert (await http.get(path, headers={"Last-Event-ID": "-1"})).status_code == 404
        events = f"/threads/{thread_id}/stream/events"
        assert (await http.post(events, json={"channels": ["values"]})).status_code == 404
    joined = [part.event async for part in ann.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")]
    assert "values" in joined


async def test_a_stateless_run_that_is_deleted_is_still_its_users(ann: LangGraphClient, guarded: Server) -> None:
    parts = [part async for part in ann.runs.stream(None, "whoami", input={}, stream_resumable=True)]
    run_id = parts[0].data["run_id"]
    for token, status in (("ann", 200), ("bob", 404)):
        async with httpx.AsyncClient(base_url=guarded.url, headers={"Authorization": f"Bearer {token}"}) as http:
            response = await http.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": "-1"})
            assert response.status_code == status
            assert (await http.get(f"/runs/{run_id}/join")).status_code == status


@pytest.mark.contract(159)
async def test_what_the_handler_writes_into_metadata_is_stored_and_filters(ann: LangGraphClient) -> None:
    thread = await ann.threads.create(metadata={"topic": "birds", "owner": "bob"})
    assert thread["metadata"] == {"topic": "birds", "owner": "ann"}
    assert (await ann.threads.get(thread["thread_id"]))["metadata"]["owner"] == "ann"
    made = await ann.assistants.create("whoami", metadata={"a": 1})
    assert made["metadata"] == {"a": 1, "owner": "ann"}
    assert [found["assistant_id"] for found in await ann.assistants.search()] == [made["assistant_id"]]
    kept = await ann.runs.create(None, "whoami", input={}, on_completion="keep", metadata={"topic": "fish"})
    assert (await ann.threads.get(kept["thread_id"]))["metadata"].items() >= {("owner", "ann"), ("topic", "fish")}


@pytest.mark.contract(160)
async def test_a_handler_that_returns_false_forbids(guarded: Server) -> None:
    async with get_client(url=guarded.url, headers={"Authorization": "Bearer viewer-1"}) as viewer:
        assert await viewer.threads.search() == []
        assert await refused(viewer.threads.create()) == 403
        assert await refused(viewer.runs.wait(None, "whoami", input={})) == 403


@pytest.mark.contract(161)
async def test_a_rewritten_namespace_keeps_users_apart(ann: LangGraphClient, bob: LangGraphClient) -> None:
    await ann.store.put_item(["notes"], "k", {"text": "of ann"})
    assert (await ann.store.get_item(["notes"], "k"))["value"] == {"text": "of ann"}
    assert await bob.store.get_item(["notes"], "k") is None
    assert (await bob.store.search_items([]))["items"] == []
    assert (await ann.store.list_namespaces())["namespaces"] == [["ann", "notes"]]
    await bob.store.delete_item(["notes"], "k")
    assert len((await ann.store.search_items(["notes"]))["items"]) == 1


@pytest.mark.contract(162)
async def test_contains_takes_one_value_or_several(ann: LangGraphClient, bob: LangGraphClient) -> None:
    shared = await ann.threads.create(metadata={"members": ["bob", "eve"]})
    assert (await bob.threads.get(shared["thread_id"]))["metadata"]["owner"] == "ann"
    everybodys = await ann.threads.create(metadata={"members": ["everybody", "cid", "dan"]})
    assert await refused(bob.threads.get(everybodys["thread_id"])) == 404  # both have to be in it
    found = {thread["thread_id"] for thread in await bob.threads.search(limit=100)}
    assert shared["thread_id"] in found and everybodys["thread_id"] not in found


async def test_nodes_and_factories_know_their_user(ann: LangGraphClient) -> None:
    seen = (await ann.runs.wait(None, "whoami", input={}))["seen"]
    fields = ["display_name", "identity", "is_authenticated", "permissions", "team"]
    assert seen == {
        "id": "ann", "permissions": ["look"], "user": ["ann", "of ann", "of ann", fields],
        "runtime": "ann" if has("langgraph", "1.1.5") else None,
    }  # fmt: skip
    assert (await ann.runs.wait(None, "made_for", input={}))["seen"] == {"made for": "ann"}


async def test_a_nodes_own_client_acts_as_the_server(ann: LangGraphClient, bob: LangGraphClient) -> None:
    of_bob = await bob.threads.create()
    seen = (await ann.runs.wait(None, "whoami", input={"look": of_bob["thread_id"]}))["seen"]
    assert seen["own client"] == ["bob", ""]


@event_client
async def test_the_event_protocol_is_the_users_too(ann: LangGraphClient, bob: LangGraphClient) -> None:
    async with ann.threads.stream(assistant_id="whoami") as thread:
        await thread.run.start(input={})
        assert (await thread.output)["seen"]["id"] == "ann"
    assert await refused(bob.threads.get(thread.thread_id)) == 404


async def test_the_log_says_who_did_what(guarded: Server, ann: LangGraphClient) -> None:
    thread_id = (await ann.threads.create())["thread_id"]
    await ann.runs.wait(thread_id, "whoami", input={})
    shown = await asyncio.to_thread(guarded.threadlog, "events", "--thread", thread_id, "--json")
    actors = {line["event"]["type"]: line["actor"] for line in map(json.loads, shown.stdout.splitlines())}
    assert (actors["thread.created"], actors["run.created"]) == ("user:ann", "user:ann")
    assert actors["run.succeeded"] == "executor"
    plain = await asyncio.to_thread(guarded.threadlog, "events", "--thread", thread_id)
    assert plain.stdout.splitlines()[0].endswith(" by=user:ann")


async def test_the_log_agrees(guarded: Server, ann: LangGraphClient) -> None:
    verified = await asyncio.to_thread(guarded.threadlog, "events", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
