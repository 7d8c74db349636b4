"""Contract statement 181: the stream modes `tools` and `lifecycle`, as the newest clients mean them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import StreamPart

from tests.installed import named_tool_calls, tool_writes

from .frames import Frame, events
from .gate import Gate
from .waiting import ended

pytestmark = pytest.mark.star


def work(*calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The input of a graph whose model makes these tool calls, as call-0, call-1, …"""
    return {"calls": [list(call) for call in calls]}


ADD = ("add", {"left": 2, "right": 3})


async def streamed(client: LangGraphClient, thread_id: str | None, graph: str, **options: Any) -> list[StreamPart]:
    return [part async for part in client.runs.stream(thread_id, graph, **options)]


def of_mode(parts: Sequence[StreamPart | Frame], mode: str) -> list[tuple[str, Any]]:
    """The events of a mode: (namespace, data)."""
    split = [((part.event or "").partition("|"), part.data) for part in parts]
    return [(ns, data) for (name, _, ns), data in split if name == mode]


def of_call(parts: Sequence[StreamPart], call_id: str) -> list[dict[str, Any]]:
    return [data for _, data in of_mode(parts, "tools") if data.get("toolCallId") == call_id]


@named_tool_calls
@pytest.mark.contract(181)
async def test_a_tool_starts_and_ends(client: LangGraphClient, thread_id: str) -> None:
    parts = await streamed(client, thread_id, "tools", input=work(ADD), stream_mode="tools")
    assert [part.event for part in parts] == ["metadata", "tools", "tools"]
    start, end = (part.data for part in parts[1:])
    assert start == {"event": "on_tool_start", "toolCallId": "call-0", "name": "add", "input": ADD[1]}
    assert (end["event"], end["toolCallId"], end["name"]) == ("on_tool_end", "call-0", "add")
    state = await client.threads.get_state(thread_id)
    assert (end["output"]["content"], end["output"]["tool_call_id"]) == ("5", "call-0")
    assert state["values"]["messages"][1]["content"] == "5"


@tool_writes
@pytest.mark.contract(181)
async def test_what_a_tool_writes_comes_between_its_start_and_end(client: LangGraphClient) -> None:
    calls = work(("count", {"to": 3}), ADD)
    for graph in ("tools", "tools_each"):
        parts = await streamed(client, None, graph, input=calls, stream_mode="tools")
        told = of_call(parts, "call-0")
        assert [data["event"] for data in told] == ["on_tool_start", *["on_tool_event"] * 3, "on_tool_end"]
        assert [data["data"] for data in told[1:-1]] == [{"number": number} for number in range(3)]
        assert {data["name"] for data in told} == {"count"}
        assert [data["event"] for data in of_call(parts, "call-1")] == ["on_tool_start", "on_tool_end"]


@named_tool_calls
@pytest.mark.contract(181)
@pytest.mark.parametrize(("graph", "fails"), [("tools", False), ("tools_strict", True)])
async def test_a_tool_that_raises(client: LangGraphClient, graph: str, fails: bool) -> None:
    parts = await streamed(client, None, graph, input=work(("explode", {})), stream_mode=["tools", "values"])
    start, error = of_call(parts, "call-0")
    assert start["event"] == "on_tool_start"
    told = {"error": "ValueError", "message": "boom"}
    assert error == {"event": "on_tool_error", "toolCallId": "call-0", "name": "explode", "error": told}
    assert [part.data for part in parts if part.event == "error"] == ([told] if fails else [])


@named_tool_calls
@pytest.mark.contract(181)
async def test_a_tool_that_asks_starts_again_and_ends_then(client: LangGraphClient, thread_id: str) -> None:
    calls = work(("ask", {"question": "really?"}))
    asked = await streamed(client, thread_id, "tools", input=calls, stream_mode=["tools", "updates"])
    assert [data["event"] for data in of_call(asked, "call-0")] == ["on_tool_start"]
    answered = await streamed(client, thread_id, "tools", command={"resume": "yes"}, stream_mode="tools")
    start, end = of_call(answered, "call-0")
    assert (start["event"], end["event"], end["output"]["content"]) == ("on_tool_start", "on_tool_end", "yes")


@named_tool_calls
@pytest.mark.contract(181)
async def test_a_call_inside_a_tool_is_told_too(client: LangGraphClient) -> None:
    parts = await streamed(client, None, "tools", input=work(("twice", {"text": "it"})), stream_mode="tools")
    order = [(data["event"], data["toolCallId"]) for _, data in of_mode(parts, "tools")]
    assert order == [
        ("on_tool_start", "call-0"), ("on_tool_start", "inside"), ("on_tool_end", "inside"), ("on_tool_end", "call-0"),
    ]  # fmt: skip


@pytest.mark.contract(181)
async def test_tools_of_subgraphs_only_for_those_who_want_subgraphs(client: LangGraphClient) -> None:
    inside = await streamed(
        client, None, "tools_parent", input=work(ADD), stream_mode=["tools", "updates"], stream_subgraphs=True
    )
    [namespace] = {ns for ns, _ in of_mode(inside, "tools")}
    assert namespace.startswith("office:")
    assert [data["event"] for _, data in of_mode(inside, "tools")] == ["on_tool_start", "on_tool_end"]
    outside = await streamed(client, None, "tools_parent", input=work(ADD), stream_mode=["tools", "updates"])
    assert of_mode(outside, "tools") == [] and of_mode(outside, "updates")


@pytest.mark.contract(181)
async def test_tools_beside_all_other_modes(client: LangGraphClient) -> None:
    modes = ["values", "updates", "messages-tuple", "tasks", "checkpoints", "debug", "custom", "events"]
    plain = await streamed(client, None, "tools", input=work(ADD), stream_mode=modes)
    both = await streamed(client, None, "tools", input=work(ADD), stream_mode=[*modes, "tools", "lifecycle"])
    assert [data["event"] for _, data in of_mode(both, "tools")] == ["on_tool_start", "on_tool_end"]
    for mode in ("values", "updates", "messages", "tasks", "checkpoints", "debug"):
        assert len(of_mode(both, mode)) == len(of_mode(plain, mode)) > 0, mode


def named(namespace: str) -> tuple[str, ...]:
    """A namespace without the ids of tasks."""
    return tuple(segment.partition(":")[0] for segment in namespace.split("|"))


def told(parts: Sequence[StreamPart | Frame]) -> list[tuple[str, tuple[str, ...]]]:
    """The lifecycle events: (what happened, names of the namespace)."""
    for namespace, data in of_mode(parts, "lifecycle"):
        assert data["namespace"] == namespace.split("|")
    return [(data["event"], named(namespace)) for namespace, data in of_mode(parts, "lifecycle")]


@pytest.mark.contract(181)
async def test_subgraphs_start_and_end(client: LangGraphClient) -> None:
    parts = await streamed(client, None, "thinking", input={"text": "it"}, stream_mode="lifecycle")
    assert told(parts) == [
        ("started", ("outer",)),
        ("started", ("outer", "inner")),
        ("completed", ("outer", "inner")),
        ("completed", ("outer",)),
    ]
    assert parts[0].event == "metadata"
    assert all(set(data) == {"event", "namespace"} for _, data in of_mode(parts, "lifecycle"))
    assert told(await streamed(client, None, "noop", input={"items": []}, stream_mode="lifecycle")) == []


@pytest.mark.contract(181)
async def test_a_failing_subgraph_fails_before_the_run_does(client: LangGraphClient) -> None:
    parts = await streamed(client, None, "thinking", input={"text": "nonsense"}, stream_mode="lifecycle")
    assert told(parts)[2:] == [("failed", ("outer", "inner")), ("failed", ("outer",))]
    error = {"error": "ValueError", "message": "this is nonsense"}
    assert [data.get("error") for _, data in of_mode(parts, "lifecycle")] == [None, None, error, error]
    assert (parts[-1].event, parts[-1].data) == ("error", error)


@pytest.mark.contract(181)
async def test_a_subgraph_that_asks_is_interrupted_and_goes_on(client: LangGraphClient, thread_id: str) -> None:
    for durability in ("async", "exit"):
        thread_id = (await client.threads.create())["thread_id"]
        asked = await streamed(
            client, thread_id, "thinking", input={"text": "unclear"}, stream_mode="lifecycle", durability=durability
        )
        assert told(asked)[2:] == [("interrupted", ("outer", "inner")), ("interrupted", ("outer",))]
        answered = await streamed(
            client, thread_id, "thinking", command={"resume": "this"}, stream_mode="lifecycle", durability=durability
        )
        assert told(answered)[0] == ("started", ("outer",)) and told(answered)[-1] == ("completed", ("outer",))
        spaces = [{ns for ns, _ in of_mode(parts, "lifecycle")} for parts in (asked, answered)]
        assert spaces[0] == spaces[1], "it is the same subgraph"


@named_tool_calls
@pytest.mark.contract(181)
@pytest.mark.parametrize("graph", ["tools", "tools_each"])
async def test_the_tool_call_that_started_a_subgraph_is_named(client: LangGraphClient, graph: str) -> None:
    calls = work(("research", {"text": "it"}), ("research", {"text": "nonsense"}))
    parts = await streamed(client, None, graph, input=calls, stream_mode=["lifecycle", "tools"])
    of_tool = [data for _, data in of_mode(parts, "lifecycle") if "tool_call_id" in data]
    ends = {call: [data["event"] for data in of_tool if data["tool_call_id"] == call] for call in ("call-0", "call-1")}
    assert ends == {"call-0": ["started", "completed"], "call-1": ["started", "failed"]}
    spaces = {data["tool_call_id"]: data["namespace"] for data in of_tool}
    assert spaces["call-0"] != spaces["call-1"]
    inner = [data for _, data in of_mode(parts, "lifecycle") if "tool_call_id" not in data]
    assert sorted(data["event"] for data in inner) == ["completed", "failed", "started", "started"]
    assert {tuple(data["namespace"][:-1]) for data in inner} == {tuple(space) for space in spaces.values()}


@named_tool_calls
@pytest.mark.contract(181)
async def test_one_tool_call_may_start_several_subgraphs(client: LangGraphClient) -> None:
    parts = await streamed(client, None, "tools", input=work(("twice", {"text": "it"})), stream_mode="lifecycle")
    of_tool = [
        (data["event"], tuple(data["namespace"])) for _, data in of_mode(parts, "lifecycle") if "tool_call_id" in data
    ]
    started = [ns for event, ns in of_tool if event == "started"]
    assert len(set(started)) == 2
    assert sorted(of_tool) == sorted([(event, ns) for ns in started for event in ("started", "completed")])
    assert {data.get("tool_call_id") for _, data in of_mode(parts, "lifecycle")} == {"call-0", None}


@pytest.mark.contract(181)
async def test_a_cancelled_subgraph_is_shown_to_have_started(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(
        thread_id, "tools_parent", input=work(("wait", {"gate": str(gate.folder)})),
        stream_mode=["lifecycle", "tools"], stream_resumable=True, stream_subgraphs=True,
    )  # fmt: skip
    await gate.entered(run["run_id"])
    await client.runs.cancel(thread_id, run["run_id"], wait=True)
    replayed = await replay(http, thread_id, run["run_id"], "-1")
    assert told(replayed)[0] == ("started", ("office",))
    assert of_mode(replayed, "tools")[0][1]["event"] == "on_tool_start"


async def replay(http: httpx.AsyncClient, thread_id: str, run_id: str, last_event_id: str, **query: str) -> list[Frame]:
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    async with http.stream("GET", path, headers={"last-event-id": last_event_id}, params=query) as stream:
        assert stream.status_code == 200
        return await events(stream)


@pytest.mark.contract(181)
async def test_both_modes_are_replayed_resumed_and_filtered(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    run = await client.runs.create(
        thread_id, "tools", input=work(("research", {"text": "it"}), ADD),
        stream_mode=["tools", "lifecycle", "updates"], stream_resumable=True, stream_subgraphs=True,
    )  # fmt: skip
    await ended(client, thread_id, run["run_id"])
    everything = await replay(http, thread_id, run["run_id"], "-1")
    assert {(frame.event or "").partition("|")[0] for frame in everything} == {
        "metadata", "tools", "lifecycle", "updates"
    }  # fmt: skip
    ids = [frame.id for frame in everything]
    assert len(set(ids)) == len(ids)
    for earlier, later in pairwise(range(len(everything))):
        rest = await replay(http, thread_id, run["run_id"], str(ids[earlier]))
        assert [frame.data for frame in rest] == [frame.data for frame in everything[later:]]
    for mode in ("tools", "lifecycle"):
        parts = [
            part
            async for part in client.runs.join_stream(thread_id, run["run_id"], stream_mode=mode, last_event_id="-1")
        ]
        assert of_mode(parts, mode) == of_mode(everything, mode) != []
        assert {part.event.partition("|")[0] for part in parts} == {"metadata", mode}
