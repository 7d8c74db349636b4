"""Streams of a part of a run: of some graphs only (`namespace`), or after a checkpoint (`checkpoint_id`)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.installed import named_tool_calls
from tests.waiting import eventually

from .frames import Frame, events
from .gate import Gate
from .waiting import ended

pytestmark = pytest.mark.star

HELLO = {"messages": [{"role": "user", "content": "tell me a short story"}]}
ALWAYS = {"metadata", "error"}


async def finished(client: LangGraphClient, thread_id: str, graph: str, input: Any, *modes: str) -> str:
    """A finished run that can be replayed, its subgraphs streamed."""
    run = await client.runs.create(
        thread_id, graph, input=input, stream_mode=list(modes), stream_resumable=True, stream_subgraphs=True
    )
    await ended(client, thread_id, run["run_id"])
    return run["run_id"]


async def replay(
    http: httpx.AsyncClient, thread_id: str, run_id: str, last_event_id: str | None = "-1", **query: Any
) -> list[Frame]:
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    async with http.stream("GET", path, headers=headers, params=query) as stream:
        assert stream.status_code == 200
        return await events(stream)


def facts(seen: list[Frame]) -> list[tuple[Any, ...]]:
    return [(frame.event, frame.data, frame.id) for frame in seen]


def spaces(seen: list[Frame]) -> set[str]:
    """The namespaces of what is not always shown."""
    return {(frame.event or "").partition("|")[2] for frame in seen if frame.event not in ALWAYS}


async def test_the_server_says_that_it_can(http: httpx.AsyncClient) -> None:
    assert (await http.get("/info")).json()["flags"]["stream_namespaces"] is True


async def test_a_joiner_chooses_graphs(client: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    run_id = await finished(client, thread_id, "grandparent", HELLO, "updates", "values", "messages-tuple", "tasks")
    everything = await replay(http, thread_id, run_id)
    found = sorted(spaces(everything), key=len)
    assert [space.count("|") for space in found[1:]] == [0, 1] and found[0] == ""
    for chosen in ([found[0]], [found[1]], [found[2]], [found[0], found[2]]):
        seen = await replay(http, thread_id, run_id, namespace=chosen)
        expected = [f for f in everything if f.event in ALWAYS or (f.event or "").partition("|")[2] in chosen]
        assert facts(seen) == facts(expected) and spaces(seen) == set(chosen)
        as_json = await replay(http, thread_id, run_id, namespace=json.dumps(chosen))
        assert facts(as_json) == facts(seen)
    both = await replay(http, thread_id, run_id, namespace=found[1], stream_mode="updates")
    assert {frame.event for frame in both} == {"metadata", f"updates|{found[1]}"}
    for nothing in ("elsewhere", "parent", "[]"):
        seen = await replay(http, thread_id, run_id, namespace=nothing)
        assert [frame.event for frame in seen] == ["metadata"]


async def test_who_creates_a_run_chooses_graphs(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    options: dict[str, Any] = {"input": HELLO, "stream_mode": ["updates", "values"], "stream_subgraphs": True}
    for thread in (thread_id, None):
        parts = [
            part async for part in client.runs.stream(thread, "chat_parent", **options, params={"namespace": [""]})
        ]
        assert {part.event for part in parts} == {"metadata", "updates", "values"}
    body = {"assistant_id": "flaky", "input": {"items": [], "n": 0}, "stream_mode": "updates"}
    async with http.stream("POST", "/runs/stream", json=body, params={"namespace": "nowhere"}) as stream:
        assert [frame.event for frame in await events(stream)] == ["metadata", "error"]


async def test_modes_without_namespaces_in_their_names_are_chosen_too(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    run_id = await finished(client, thread_id, "chat_parent", HELLO, "messages", "events")
    everything = await replay(http, thread_id, run_id)
    assert {frame.event for frame in everything} <= {
        "metadata", "messages/metadata", "messages/partial", "messages/complete", "events"
    }  # fmt: skip
    [task] = {
        frame.data["metadata"]["langgraph_checkpoint_ns"].partition("|")[0]
        for frame in everything
        if frame.event == "events" and frame.data["event"] == "on_chat_model_stream"
    }
    child = await replay(http, thread_id, run_id, namespace=task)
    root = await replay(http, thread_id, run_id, namespace="")

    def tokens(seen: list[Frame]) -> int:
        return len([f for f in seen if f.event == "events" and f.data["event"] == "on_chat_model_stream"])

    assert tokens(child) == tokens(everything) > 0 and tokens(root) == 0
    assert [f.event for f in child if f.event == "messages/partial"] and "messages/partial" not in {
        f.event for f in root
    }
    assert sorted([f.id for f in (*child[1:], *root)]) == sorted(f.id for f in everything), "each is of one graph"
    thread = f"/threads/{thread_id}/stream"
    async with http.stream("GET", thread, headers={"last-event-id": "-"}) as stream:
        async for line in stream.aiter_lines():
            assert not line.startswith("event:") or "|" not in line
            if "run_done" in line:
                break


@named_tool_calls
async def test_starts_of_subgraphs_show_with_the_graph_that_starts_them(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    calls = {"calls": [["research", {"text": "it"}], ["research", {"text": "that"}]]}
    run_id = await finished(client, thread_id, "tools", calls, "lifecycle", "updates")
    everything = await replay(http, thread_id, run_id)
    root = await replay(http, thread_id, run_id, namespace="")
    started = [f.data for f in root if (f.event or "").startswith("lifecycle|") and f.data["event"] == "started"]
    assert sorted(data["tool_call_id"] for data in started) == ["call-0", "call-1"]
    assert {f.event for f in root if not (f.event or "").startswith("lifecycle|")} == {"metadata", "updates"}
    for data in started:
        name = "|".join(data["namespace"])
        seen = await replay(http, thread_id, run_id, namespace=name)
        own = {name} | {space for space in spaces(everything) if space.startswith(f"{name}|inner:")}
        assert spaces(seen) == own, "its own start and end, and that of the graph it has started"
        assert {f.event for f in seen if (f.event or "").startswith("updates")} == {f"updates|{name}"}


@pytest.mark.parametrize("namespace", ['["", 3]', "[nonsense", '[["a"]]', "[null]"])
async def test_a_list_of_namespaces_is_a_list_of_texts(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, namespace: str
) -> None:
    query = {"namespace": namespace}
    body = {"assistant_id": "noop", "input": {"items": []}}
    created = await http.post(f"/threads/{thread_id}/runs/stream", json=body, params=query)
    assert created.status_code == 422 and "namespace" in created.json()["detail"]
    assert await client.runs.list(thread_id) == [], "and no run was made"
    run_id = await finished(client, thread_id, "noop", {"items": []}, "values")
    joined = await http.get(f"/threads/{thread_id}/runs/{run_id}/stream", params=query)
    assert joined.status_code == 422


MODES = (
    ["updates", "values", "checkpoints"],
    ["updates", "values"],
    ["debug", "updates"],
    ["updates", "checkpoints", "debug"],
)


@pytest.mark.parametrize("modes", MODES, ids="+".join)
async def test_a_joiner_goes_on_after_the_checkpoint_it_shows(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, modes: list[str]
) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": ["before"]})
    run_id = await finished(client, thread_id, "four", {"items": ["in"]}, *modes)
    everything = await replay(http, thread_id, run_id)
    history = await client.threads.get_history(thread_id, metadata={"run_id": run_id})
    assert len(history) == 6
    words = ["one", "two", "three", "four"]
    for state in history:
        done = len([word for word in state["values"]["items"] if word in words])
        for last_event_id in ("-1", None):
            seen = await replay(
                http, thread_id, run_id, last_event_id, checkpoint_id=state["checkpoint"]["checkpoint_id"]
            )
            assert facts(seen) == facts(everything)[len(everything) - len(seen) :], "it is the end of the run's stream"
            updates = [next(iter(frame.data)) for frame in seen if frame.event == "updates"]
            assert updates == words[done:]
            told = [
                frame.data["payload"] if frame.event == "debug" else frame.data
                for frame in seen
                if frame.event == "checkpoints" or (frame.event == "debug" and frame.data["type"] == "checkpoint")
            ]
            ids = [one["config"]["configurable"]["checkpoint_id"] for one in told]
            assert all(one > state["checkpoint"]["checkpoint_id"] for one in ids)


async def test_a_checkpoint_that_the_run_did_not_make_brings_the_whole_run(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": ["before"]})
    head = (await client.threads.get_state(thread_id))["checkpoint"]["checkpoint_id"]
    run_id = await finished(client, thread_id, "noop", {"items": ["in"]}, "values")
    everything = await replay(http, thread_id, run_id)
    assert everything[0].event == "metadata"
    for checkpoint_id in (head, "1f1e5334-edd5-6000-8000-000000000000", 'no "id"', "~checkpoint\n"):
        for last_event_id in ("-1", None):
            seen = await replay(http, thread_id, run_id, last_event_id, checkpoint_id=checkpoint_id)
            assert facts(seen) == facts(everything)


async def test_the_last_event_says_more_than_a_checkpoint(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    run_id = await finished(client, thread_id, "four", {"items": []}, "values")
    everything = await replay(http, thread_id, run_id)
    head = (await client.threads.get_state(thread_id))["checkpoint"]["checkpoint_id"]
    seen = await replay(http, thread_id, run_id, everything[1].id, checkpoint_id=head)
    assert facts(seen) == facts(everything[2:])
    assert await replay(http, thread_id, run_id, "-1", checkpoint_id=head) == []


async def test_a_joiner_of_a_live_run_goes_on_after_the_head_it_shows(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(
        thread_id, "gated", input=gate.input, stream_mode=["updates"], stream_resumable=True, durability="sync"
    )
    await gate.entered(run["run_id"])
    state = await eventually(lambda: client.threads.get_state(thread_id), lambda state: state["next"] == ["hold"])
    path = f"/threads/{thread_id}/runs/{run['run_id']}/stream"
    query = {"checkpoint_id": state["checkpoint"]["checkpoint_id"]}
    async with http.stream("GET", path, headers={"last-event-id": "-1"}, params=query) as stream:
        gate.open()
        seen = await events(stream)
    assert [next(iter(frame.data)) for frame in seen if frame.event == "updates"][-2:] == ["hold", "last"]
    again = await replay(http, thread_id, run["run_id"], "-1", **query)
    assert [list(frame.data) for frame in again] == [["hold"], ["last"]]
    error = await finished(client, thread_id, "flaky", {"items": [], "n": 0}, "values")
    head = (await client.threads.get_state(thread_id))["checkpoint"]["checkpoint_id"]
    assert [frame.event for frame in await replay(http, thread_id, error, "-1", checkpoint_id=head)] == ["error"]
