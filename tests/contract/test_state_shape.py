"""States tell tasks in the graph's order, and their metadata what the reference server tells (statement 176)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.installed import needs

NAMES = ["zeta", "alpha", "mid"]  # as the graph has them


def order(state: Any) -> tuple[list[str], list[str]]:
    return state["next"], [task["name"] for task in state["tasks"]]


@pytest.mark.contract(176)
@pytest.mark.parametrize("how", ["interrupts", "breakpoint", "update"])
async def test_next_and_tasks_are_in_the_graphs_order(client: LangGraphClient, thread_id: str, how: str) -> None:
    options = {"interrupt_before": "*"} if how != "interrupts" else {}
    await client.runs.wait(thread_id, "parallel", input={"ask": how == "interrupts", "items": []}, **options)
    if how == "update":
        await client.threads.update_state(thread_id, {"items": ["more"]}, as_node="__start__")
    state = await client.threads.get_state(thread_id)
    assert order(state) == (NAMES, NAMES)
    assert (await client.threads.get_history(thread_id))[0]["next"] == NAMES


@pytest.mark.contract(176)
async def test_a_finished_step_keeps_the_order(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "parallel", input={"items": []})
    _, before, _ = await client.threads.get_history(thread_id)
    assert order(before) == (NAMES, NAMES)


@pytest.mark.contract(176)
async def test_tasks_that_were_sent_come_first(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "parallel", input={"ask": True, "send": True, "items": []})
    state = await client.threads.get_state(thread_id)
    assert order(state)[1] == ["mid", "alpha", *NAMES]
    assert [task["path"][0] for task in state["tasks"]] == ["__pregel_push"] * 2 + ["__pregel_pull"] * 3


@pytest.mark.contract(176)
async def test_the_order_of_a_subgraph_is_its_own(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "parallel_below", input={"ask": True, "items": []})
    state = await client.threads.get_state(thread_id, subgraphs=True)
    assert order(state["tasks"][0]["state"]) == (NAMES, NAMES)


@needs("langgraph", "1.1.8")
@pytest.mark.contract(176)
async def test_a_subgraphs_metadata_tells_its_task(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(
        thread_id, "nested_question", input={"ask": True, "items": []}, metadata={"nothing": None, "deep": {"a": [1]}}
    )
    state = await client.threads.get_state(thread_id, subgraphs=True)
    outer, middle = state["tasks"][0], state["tasks"][0]["state"]["tasks"][0]
    outer_ns, middle_ns = f"outer:{outer['id']}", f"outer:{outer['id']}|middle:{middle['id']}"
    told = {
        "checkpoint_ns", "checkpoint_map", "langgraph_node", "langgraph_path", "langgraph_step", "langgraph_triggers",
        "langgraph_checkpoint_ns",
    }  # fmt: skip
    assert not told & state["metadata"].keys()

    def of_task(metadata: dict[str, Any]) -> dict[str, Any]:
        return {key: metadata[key] for key in told}

    assert of_task(outer["state"]["metadata"]) == {
        "checkpoint_ns": outer_ns,
        "checkpoint_map": {"": state["checkpoint_id"]},
        "langgraph_node": "outer",
        "langgraph_path": ["__pregel_pull", "outer"],
        "langgraph_step": 1,
        "langgraph_triggers": ["branch:to:outer"],
        "langgraph_checkpoint_ns": outer_ns,
    }
    inner = middle["state"]["metadata"]
    assert of_task(inner) == {
        "checkpoint_ns": outer_ns,
        "checkpoint_map": {"": state["checkpoint_id"], outer_ns: outer["state"]["checkpoint_id"]},
        "langgraph_node": "middle",
        "langgraph_path": ["__pregel_pull", "middle"],
        "langgraph_step": 1,
        "langgraph_triggers": ["branch:to:middle"],
        "langgraph_checkpoint_ns": middle_ns,
    }
    for metadata in (state["metadata"], outer["state"]["metadata"], inner):
        assert metadata["nothing"] is None and metadata["deep"] == {"a": [1]}
    found = await client.threads.get_history(
        thread_id, checkpoint={"checkpoint_ns": outer_ns}, metadata={"langgraph_node": "outer", "source": "loop"}
    )
    assert [entry["checkpoint_id"] for entry in found] == [outer["state"]["checkpoint_id"]]


@pytest.mark.parametrize("streamed", ["values", "updates"])
async def test_a_waiting_client_gets_interrupts_as_a_streaming_one(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, streamed: str
) -> None:
    asked = {"assistant_id": "parallel", "input": {"ask": True, "items": []}, "stream_mode": [streamed]}
    waited = (await http.post(f"/threads/{thread_id}/runs/wait", json=asked)).json()["__interrupt__"]
    assert [sorted(interrupt) for interrupt in waited] == [["id", "response_schema", "value"]] * 3
    assert sorted(interrupt["value"]["from"] for interrupt in waited) == sorted(NAMES)


@pytest.mark.star  # the reference server leaves out response_schema there
async def test_a_client_that_joins_later_gets_the_same(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    asked = {"assistant_id": "parallel", "input": {"ask": True, "items": []}}
    waited = (await http.post(f"/threads/{thread_id}/runs/wait", json=asked)).json()["__interrupt__"]
    [run] = await client.runs.list(thread_id)
    joined = (await http.get(f"/threads/{thread_id}/runs/{run['run_id']}/join")).json()["__interrupt__"]
    assert joined == waited
