"""The server of `threadlog.testing`: the whole api in this process, its clock, and scenarios through it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph_sdk import get_client

from tests.installed import needs
from tests.testing.conftest import Serve
from tests.testing.test_scenario import asks, trip_graph
from threadlog.testing import (
    Input,
    LocalServer,
    Resume,
    ScriptedChatModel,
    ServerNotStarted,
    Unexpected,
    call,
    given,
    serve,
)


def one_node(node: Any) -> Any:
    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node")


def say(text: str) -> Any:
    return one_node(lambda state: {"messages": [AIMessage(text)]})


async def test_the_whole_api_over_a_log_in_memory(served: Serve) -> None:
    server = served(agent=say("hello"))
    client = server.client
    assert [assistant["graph_id"] for assistant in await client.assistants.search()] == ["agent"]
    thread = await client.threads.create()
    parts = [
        part.event
        async for part in client.runs.stream(
            thread["thread_id"], "agent", input=asks("Hi"), stream_mode=["messages-tuple", "updates"]
        )
    ]
    assert parts[0] == "metadata" and "messages" in parts and parts[-1] == "updates"
    state = await client.threads.get_state(thread["thread_id"])
    assert [message["content"] for message in state["values"]["messages"]] == ["Hi", "hello"]
    await client.store.put_item(["notes"], "one", {"text": "x"})
    assert (await client.store.search_items(["notes"]))["items"][0]["value"] == {"text": "x"}
    types = [event["type"] for event in server.events(thread["thread_id"])]
    assert types[0] == "thread.created" and "run.succeeded" in types and "checkpoint.saved" in types


def test_servers_have_nothing_in_common(served: Serve) -> None:
    one, other = served(agent=say("one")), served(agent=say("other"))
    thread = one.sync_client.threads.create()
    assert one.url != other.url and other.sync_client.threads.search() == []
    answer = other.sync_client.runs.wait(None, "agent", input=asks("Hi"))
    assert answer["messages"][-1]["content"] == "other"
    one.advance(hours=1)
    assert one.now - other.now > timedelta(minutes=59)
    assert other.sync_client.threads.create()["created_at"] < one.sync_client.threads.create()["created_at"]
    assert one.sync_client.threads.get(thread["thread_id"])["status"] == "idle"


def test_a_delayed_run_starts_when_its_time_has_come(served: Serve) -> None:
    server = served(agent=say("hello"))
    client, thread = server.sync_client, server.sync_client.threads.create()
    run = client.runs.create(thread["thread_id"], "agent", input=asks("Hi"), after_seconds=7200)
    server.advance(timedelta(hours=1))
    assert client.runs.get(thread["thread_id"], run["run_id"])["status"] == "pending"
    server.advance(hours=1, seconds=1)
    assert client.runs.get(thread["thread_id"], run["run_id"])["status"] == "success"
    due = [event["at"] for event in server.events(thread["thread_id"]) if event["type"] == "run.scheduled"]
    assert due and due[0] > run["created_at"]


@needs("langgraph-sdk", "0.3")
def test_a_cron_fires_at_each_of_its_times(served: Serve) -> None:
    server = served(agent=say("good morning"))
    thread = server.sync_client.threads.create()
    cron = server.sync_client.crons.create_for_thread(
        thread["thread_id"], "agent", schedule="0 7 * * *", timezone="Europe/Berlin", input=asks("wake up")
    )
    server.advance(days=3)
    fired = [event["due_at"] for event in server.events(f"cron:{cron['cron_id']}") if event["type"] == "cron.fired"]
    assert len(fired) == 3 and fired == sorted(set(fired))
    messages = server.sync_client.threads.get_state(thread["thread_id"])["values"]["messages"]
    assert [message["content"] for message in messages] == ["wake up", "good morning"] * 3


def test_what_expires_is_gone_when_its_time_has_come(served: Serve) -> None:
    server = served(agent=say("hello"))
    client = server.sync_client
    thread = client.threads.create(ttl=60)
    client.store.put_item(["notes"], "short", {"n": 1}, ttl=30)
    server.advance(minutes=29)
    assert client.store.get_item(["notes"], "short")["value"] == {"n": 1}
    server.advance(minutes=32)
    assert client.threads.search() == []
    assert client.store.search_items(["notes"])["items"] == []
    assert server.events(thread["thread_id"])[-1]["type"] == "thread.deleted"


def test_time_waits_for_what_is_under_way_and_says_what_that_is(served: Serve) -> None:
    may_end = threading.Event()
    server = served(agent=one_node(lambda state: may_end.wait(60) and {"messages": [("ai", "at last")]}))
    client, thread = server.sync_client, server.sync_client.threads.create()
    run = client.runs.create(thread["thread_id"], "agent", input=asks("Hi"))
    with pytest.raises(TimeoutError, match="still going on: 1 runs"):
        server.advance(hours=1, within_seconds=0.1)
    may_end.set()
    server.settled()
    assert client.runs.get(thread["thread_id"], run["run_id"])["status"] == "success"
    with pytest.raises(ValueError, match="only moves forward"):
        server.advance(seconds=-1)


def test_scenarios_run_through_a_server_too(served: Serve) -> None:
    model = ScriptedChatModel([call("weather", city="Porto"), "Sunny.", "Booking.", "Booking.", "Hello again."])
    server = served(trip=trip_graph(model))
    given(server.graph("trip")).when(asks("Porto?")).then(
        messages=[call("weather", city="Porto"), "sunny in Porto", "Sunny."], nodes=["talk", "tools", "talk", "book"]
    )
    asked = given(server.graph("trip")).when(asks("book Porto"))
    asked.then(interrupts=[{"price": 89}], next=["book"]).when(Resume("by train")).then(state={"booked": "by train"})
    failed = given(server.graph("trip"), Input(asks("book Porto"))).when(Resume("break"))
    failed.then(raises=ValueError).then(raises="card was refused")
    with pytest.raises(Unexpected):
        failed.then(raises=KeyError)
    scenario = given(server.graph("trip"), {"messages": [{"role": "user", "content": "Hi"}], "booked": "by bus"})
    scenario.when(asks("Hi!")).then(state={"booked": "by bus"}, messages=["Hello again."])
    assert server.events(scenario.thread_id)


def test_an_application_by_its_file(postgres_uri: str, tmp_path: Path) -> None:
    (tmp_path / "agent_of_this_test.py").write_text(
        "import os\n"
        "from langgraph.graph import START, MessagesState, StateGraph\n"
        "from langgraph_sdk import get_client\n"
        "async def count(state):\n"
        "    threads = await get_client().threads.search()\n"
        "    return {'messages': [('ai', f\"{os.environ['GREETING']}, {len(threads)} thread\")]}\n"
        "graph = StateGraph(MessagesState).add_node(count).add_edge(START, 'count')\n"
    )
    config = {"dependencies": ["."], "graphs": {"agent": "./agent_of_this_test.py:graph"}, "env": {"GREETING": "Hi"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))
    assert "GREETING" not in os.environ
    with serve(tmp_path, database_uri=postgres_uri) as server:
        thread = server.sync_client.threads.create()
        answer = server.sync_client.runs.wait(thread["thread_id"], "agent", input=asks("?"))
        assert answer["messages"][-1]["content"] == "Hi, 1 thread"
    assert "GREETING" not in os.environ


def test_the_store_of_a_graph_is_that_of_the_clients(served: Serve) -> None:
    async def note(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
        await store.aput(("notes",), "last", {"text": state["messages"][-1].text})
        return {}

    server = served(agent=one_node(note))
    server.sync_client.runs.wait(None, "agent", input=asks("remember"))
    assert server.sync_client.store.get_item(["notes"], "last")["value"] == {"text": "remember"}


def test_a_graph_that_does_not_load_is_told_at_once(postgres_uri: str) -> None:
    with (
        pytest.raises(ServerNotStarted, match=r"graph agent: agent in the test is a int"),
        serve(graphs={"agent": 7}, database_uri=postgres_uri),
    ):
        raise AssertionError("it started")


def test_a_node_that_would_wait_for_itself_is_refused(served: Serve) -> None:
    server: list[LocalServer] = []

    async def node(state: MessagesState) -> dict[str, Any]:
        server[0].settled()
        return {}

    server.append(served(agent=one_node(node)))
    answer = server[0].sync_client.runs.wait(None, "agent", input=asks("?"), raise_error=False)
    assert "can't wait for the server that runs it" in answer["__error__"]["message"]


async def test_stopping_ends_streams_and_runs_in_flight(postgres_uri: str) -> None:
    began = threading.Event()

    async def node(state: MessagesState) -> dict[str, Any]:
        began.set()
        await asyncio.sleep(600)
        return {}

    before = set(threading.enumerate())
    with serve(graphs={"agent": one_node(node)}, database_uri=postgres_uri) as server:
        client = get_client(url=server.url)
        await client.runs.create(None, "agent", input=asks("?"))
        assert began.wait(30)
    assert "threadlog-server" not in {thread.name for thread in set(threading.enumerate()) - before}
