"""Contract statements 51 to 65: state and history."""

from __future__ import annotations

from itertools import pairwise
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError

from tests.installed import forks_older

from .frames import frames
from .gate import Gate
from .refusals import refused
from .waiting import settled


@pytest.mark.contract(51)
async def test_update_state_takes_the_place_of_a_node(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "four", input={"items": []})
    before = await client.threads.get_state(thread_id)
    answer = await client.threads.update_state(thread_id, {"items": ["by hand"]}, as_node="two")
    after = await client.threads.get_state(thread_id)
    assert answer["checkpoint"]["checkpoint_id"] == after["checkpoint"]["checkpoint_id"]
    assert answer["checkpoint"]["thread_id"] == thread_id
    assert after["metadata"]["source"] == "update"
    assert after["metadata"]["step"] == before["metadata"]["step"] + 1
    assert after["next"] == ["three"]
    assert after["values"]["items"] == ["one", "two", "three", "four", "by hand"]
    assert after["parent_checkpoint"]["checkpoint_id"] == before["checkpoint"]["checkpoint_id"]
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("interrupted", after["values"])

    values = await client.runs.wait(thread_id, "four", input=None)
    assert values["items"][4:] == ["by hand", "three", "four"]


@pytest.mark.contract(52)
async def test_update_state_has_to_wait_for_runs(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    with pytest.raises(ConflictError):
        await client.threads.update_state(thread_id, {"items": ["early"]}, as_node="first")
    await gate.entered(run["run_id"])
    with pytest.raises(ConflictError):
        await client.threads.update_state(thread_id, {"items": ["early"]}, as_node="first")
    await client.runs.cancel(thread_id, run["run_id"], wait=True)
    await settled(client, thread_id)
    await client.threads.update_state(thread_id, {"items": ["late"]}, as_node="last")
    assert (await client.threads.get_state(thread_id))["values"]["items"] == ["first", "late"]
    assert (await client.threads.get(thread_id))["status"] == "idle"


@pytest.mark.contract(53)
async def test_update_state_as_an_unknown_node_is_400(client: LangGraphClient, thread_id: str) -> None:
    with refused(BadRequestError, "graph"):
        await client.threads.update_state(thread_id, {"items": ["x"]})
    await client.runs.wait(thread_id, "noop", input={"items": []})
    with refused(BadRequestError, "nowhere"):
        await client.threads.update_state(thread_id, {"items": ["x"]}, as_node="nowhere")
    assert (await client.threads.get_state(thread_id))["values"]["items"] == ["a", "b"]
    assert (await client.threads.get(thread_id))["status"] == "idle"
    with pytest.raises(NotFoundError):
        await client.threads.update_state(str(uuid4()), {"items": ["x"]})


@pytest.mark.contract(53)
async def test_an_ambiguous_update_is_400(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask_two", input={"items": []}, interrupt_before=["done"])
    both = {task["interrupts"][0]["id"]: "yes" for task in (await client.threads.get_state(thread_id))["tasks"]}
    await client.runs.wait(thread_id, "ask_two", command={"resume": both}, interrupt_before=["done"])
    with refused(BadRequestError, "mbiguous"):
        await client.threads.update_state(thread_id, {"items": ["x"]})


@pytest.mark.contract(54)
async def test_an_update_may_be_nothing(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "breakpoint", input={"items": []})
    assert (await client.threads.get_state(thread_id))["next"] == ["b"]
    await client.threads.update_state(thread_id, None, as_node="b")
    state = await client.threads.get_state(thread_id)
    assert (state["next"], state["values"]["items"]) == (["c"], ["a"])
    assert (await client.runs.wait(thread_id, "breakpoint", input=None))["items"] == ["a", "c"]


@pytest.mark.contract(54)
@pytest.mark.star
async def test_an_update_may_be_a_list_of_updates(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    await client.threads.update_state(thread_id, [{"items": ["one"]}, {"items": ["two"]}], as_node="b")
    assert (await client.threads.get_state(thread_id))["values"]["items"] == ["a", "b", "one", "two"]


@forks_older
@pytest.mark.contract(55)
async def test_an_update_of_an_older_checkpoint_forks(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "four", input={"items": []})
    history = await client.threads.get_history(thread_id)
    older = next(at for at in history if at["next"] == ["three"])
    await client.threads.update_state(
        thread_id, {"items": ["fork"]}, as_node="three", checkpoint_id=older["checkpoint"]["checkpoint_id"]
    )
    fork = await client.threads.get_state(thread_id)
    assert fork["values"]["items"] == ["one", "two", "fork"]
    assert fork["next"] == ["four"]
    assert fork["parent_checkpoint"]["checkpoint_id"] == older["checkpoint"]["checkpoint_id"]
    assert (await client.threads.get_history(thread_id))[1:] == history


@pytest.mark.contract(56)
async def test_changing_a_message_at_an_interrupt_changes_what_the_node_sees(
    client: LangGraphClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "review", input={"messages": []})
    asked = await client.threads.get_state(thread_id)
    better = {"messages": [{"role": "assistant", "content": "a better draft", "id": "draft"}]}
    await client.threads.update_state(thread_id, better)
    edited = await client.threads.get_state(thread_id)
    assert [message["content"] for message in edited["values"]["messages"]] == ["a better draft"]
    assert edited["next"] == asked["next"] == ["approve"]
    assert [task["name"] for task in edited["tasks"]] == ["approve"]
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    values = await client.runs.wait(thread_id, "review", command={"resume": "approved"})
    assert [message["content"] for message in values["messages"]] == ["a better draft", "approved: a better draft"]


@pytest.mark.contract(57)
async def test_thread_stream_listeners_hear_of_an_update(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    async with http.stream("GET", f"/threads/{thread_id}/stream?stream_modes=state_update") as stream:
        await client.threads.update(thread_id, metadata={"not": "a state update"})
        await client.threads.update_state(thread_id, {"items": ["z"]}, as_node="b")
        async for frame in frames(stream):
            if frame.event:
                break
    state = await client.threads.get_state(thread_id)
    assert frame.event == "state_update" and frame.id
    assert frame.data["state"]["values"] == {"items": ["a", "b", "z"]}
    assert frame.data["state"]["checkpoint"]["checkpoint_id"] == state["checkpoint"]["checkpoint_id"]


@pytest.mark.contract(58)
async def test_history_is_a_chain_newest_first(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "four", input={"items": []})
    history = await client.threads.get_history(thread_id)
    assert [at["next"] for at in history] == [[], ["four"], ["three"], ["two"], ["one"], ["__start__"]]
    assert [at["metadata"]["step"] for at in history] == [4, 3, 2, 1, 0, -1]
    assert [at["metadata"]["source"] for at in history] == ["loop"] * 5 + ["input"]
    for newer, older in pairwise(history):
        assert newer["parent_checkpoint"] == older["checkpoint"]
    assert history[-1]["parent_checkpoint"] is None
    for limit in (1, 3):
        assert await client.threads.get_history(thread_id, limit=limit) == history[:limit]
    done = [at["tasks"][0]["result"] for at in history[1:5]]
    assert done == [{"items": [word]} for word in ("four", "three", "two", "one")]


@pytest.mark.contract(59)
async def test_history_filters_by_checkpoint_metadata(client: LangGraphClient, thread_id: str) -> None:
    for _ in range(2):
        await client.runs.wait(thread_id, "noop", input={"items": []})
    inputs = await client.threads.get_history(thread_id, metadata={"source": "input"})
    assert [at["metadata"]["step"] for at in inputs] == [3, -1]
    [zeroth] = await client.threads.get_history(thread_id, metadata={"step": 0})
    assert (zeroth["metadata"]["step"], zeroth["next"]) == (0, ["a"])
    assert await client.threads.get_history(thread_id, metadata={"step": 99}) == []


@pytest.mark.contract(60)
@pytest.mark.parametrize(
    "form", ["configurable", pytest.param("bare", marks=pytest.mark.star), pytest.param("id", marks=pytest.mark.star)]
)
async def test_history_begins_before_a_checkpoint(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, form: str
) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    history = await client.threads.get_history(thread_id)
    checkpoint_id = history[1]["checkpoint"]["checkpoint_id"]
    bare = {"checkpoint_id": checkpoint_id}
    before = {"configurable": {"configurable": bare}, "bare": bare, "id": checkpoint_id}[form]
    answer = await http.post(f"/threads/{thread_id}/history", json={"limit": 10, "before": before})
    assert answer.json() == history[2:]
    if form == "id":
        assert (await http.get(f"/threads/{thread_id}/history?before={checkpoint_id}")).json() == history[2:]


@pytest.mark.contract(61)
async def test_the_state_at_a_checkpoint_is_its_history_entry(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    history = await client.threads.get_history(thread_id)
    for entry in history:
        checkpoint_id = entry["checkpoint"]["checkpoint_id"]
        by_id = await client.threads.get_state(thread_id, checkpoint_id=checkpoint_id)
        by_checkpoint = await client.threads.get_state(thread_id, checkpoint=entry["checkpoint"])
        for field in ("values", "next", "tasks", "metadata", "created_at", "interrupts"):
            assert by_id[field] == by_checkpoint[field] == entry[field], field
        assert by_id["checkpoint"]["checkpoint_id"] == checkpoint_id
        assert by_checkpoint["checkpoint"] == entry["checkpoint"]
        assert by_checkpoint["parent_checkpoint"] == entry["parent_checkpoint"]
    assert await client.threads.get_state(thread_id) == history[0]


@pytest.mark.contract(62)
async def test_an_unknown_checkpoint_is_an_empty_state(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    for checkpoint_id in ("1f1e5334-edd5-6000-8000-000000000000", str(uuid4())):
        answer = await http.get(f"/threads/{thread_id}/state/{checkpoint_id}")
        assert answer.status_code == 200
        assert (answer.json()["values"], answer.json()["next"], answer.json()["tasks"]) == ({}, [], [])


@pytest.mark.contract(63)
async def test_a_subgraph_is_a_pointer_or_a_nested_state(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "family", input={"items": []})
    [pointing] = (await client.threads.get_state(thread_id))["tasks"]
    assert pointing["name"] == "kid" and pointing["state"] is None
    assert pointing["checkpoint"]["checkpoint_ns"] == f"kid:{pointing['id']}"
    assert pointing["checkpoint"]["thread_id"] == thread_id

    [nested] = (await client.threads.get_state(thread_id, subgraphs=True))["tasks"]
    assert nested["state"]["next"] == ["question"]
    assert nested["state"]["values"]["items"] == ["before", "thought"]
    assert nested["state"]["checkpoint"]["checkpoint_ns"] == f"kid:{nested['id']}"
    [leaf] = nested["state"]["tasks"]
    assert leaf["interrupts"][0]["value"] == {"question": "ok?"}

    pointed = await client.threads.get_state(thread_id, checkpoint=pointing["checkpoint"])
    assert pointed["values"] == nested["state"]["values"] and pointed["next"] == ["question"]


@pytest.mark.contract(64)
async def test_a_subgraph_has_a_history_of_its_own(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "family", input={"items": []})
    [task] = (await client.threads.get_state(thread_id))["tasks"]
    history = await client.threads.get_history(thread_id, checkpoint={"checkpoint_ns": f"kid:{task['id']}"})
    assert [at["next"] for at in history] == [["question"], ["think"], ["__start__"]]
    assert {at["checkpoint"]["checkpoint_ns"] for at in history} == {f"kid:{task['id']}"}
    root = await client.threads.get_history(thread_id)
    assert {at["checkpoint"]["checkpoint_ns"] for at in root} == {""}


@pytest.mark.contract(59)
async def test_the_history_of_a_checkpoint_is_that_one(client: LangGraphClient, thread_id: str) -> None:
    """As LangGraph lists the history of a config that names a checkpoint."""
    await client.runs.wait(thread_id, "family", input={"items": []})
    history = await client.threads.get_history(thread_id)
    for entry in history:
        assert await client.threads.get_history(thread_id, checkpoint=entry["checkpoint"]) == [entry]
    assert await client.threads.get_history(thread_id, checkpoint={"checkpoint_id": str(uuid4())}) == []
    below = {"checkpoint_ns": f"kid:{history[0]['tasks'][0]['id']}"}
    newest, *_ = await client.threads.get_history(thread_id, checkpoint=below)
    assert await client.threads.get_history(thread_id, checkpoint=newest["checkpoint"]) == [newest]


@pytest.mark.contract(64)
async def test_an_update_of_a_subgraph_says_where_in_its_parents_it_is(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "family", input={"items": []})
    root = await client.threads.get_state(thread_id)
    ns = root["tasks"][0]["checkpoint"]["checkpoint_ns"]
    updated = await client.threads.update_state(thread_id, {"items": ["by hand"]}, checkpoint={"checkpoint_ns": ns})
    checkpoint = updated["checkpoint"]
    assert checkpoint["checkpoint_ns"] == ns
    assert checkpoint["checkpoint_map"] == {
        "": root["checkpoint"]["checkpoint_id"],
        ns: checkpoint["checkpoint_id"],
    }
    state = await client.threads.get_state(thread_id, checkpoint=checkpoint)
    assert state["values"]["items"] == ["before", "thought", "by hand"]
    assert state["checkpoint"] == checkpoint


@pytest.mark.contract(65)
async def test_debug_checkpoints_are_the_history_reversed(client: LangGraphClient, thread_id: str) -> None:
    payloads = [
        part.data["payload"]
        async for part in client.runs.stream(thread_id, "four", input={"items": []}, stream_mode="debug")
        if part.event == "debug" and part.data["type"] == "checkpoint"
    ]
    history = (await client.threads.get_history(thread_id))[::-1]
    assert len(payloads) == len(history) == 6
    for payload, entry in zip(payloads, history, strict=True):
        assert payload["values"] == entry["values"]
        assert payload["next"] == entry["next"]
        assert payload["checkpoint"]["checkpoint_id"] == entry["checkpoint"]["checkpoint_id"]
        assert (payload["parent_checkpoint"] or {}).get("checkpoint_id") == (entry["parent_checkpoint"] or {}).get(
            "checkpoint_id"
        )
        assert payload["metadata"]["step"] == entry["metadata"]["step"]
        assert [task["id"] for task in payload["tasks"]] == [task["id"] for task in entry["tasks"]]
