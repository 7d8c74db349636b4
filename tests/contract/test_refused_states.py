"""What a pydantic state refuses does not stay on the thread, and what nodes change later does not change the record."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient


async def streamed(client: LangGraphClient, thread_id: str, graph: str, given: Any, **options: Any) -> list[Any]:
    modes = ["values", "updates"]
    return [
        (part.event, part.data)
        async for part in client.runs.stream(thread_id, graph, input=given, stream_mode=modes, **options)
        if part.event != "metadata"
    ]


@pytest.mark.parametrize("refused", [{"age": "old"}, {"age": None}])
async def test_input_that_the_schema_refuses_is_shown_nowhere(
    client: LangGraphClient, thread_id: str, refused: Any
) -> None:
    [(event, error)] = await streamed(client, thread_id, "aged", refused)
    assert (event, error["error"]) == ("error", "ValidationError")
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("error", {"items": []})


@pytest.mark.star  # a thread of the reference server can't be used, nor even read, after such an input
@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_a_thread_goes_on_after_input_that_was_refused(
    client: LangGraphClient, thread_id: str, durability: Any
) -> None:
    await client.runs.wait(thread_id, "aged", input={"age": 1})
    before = await client.threads.get_state(thread_id)
    assert before["values"] == {"age": 1, "items": ["checked", "1"]}
    for refused in ({"age": "old"}, {"age": [1]}):
        with pytest.raises(Exception, match="ValidationError"):
            await client.runs.wait(thread_id, "aged", input=refused, durability=durability)
        state = await client.threads.get_state(thread_id)
        assert state["values"] == before["values"]
        assert (await client.threads.get(thread_id))["values"] == before["values"]
    after = await client.runs.wait(thread_id, "aged", input={"age": 2})
    assert after == {"age": 2, "items": ["checked", "1", "checked", "2"]}


@pytest.mark.star
async def test_a_thread_goes_on_after_an_update_that_the_next_node_refuses(
    client: LangGraphClient, thread_id: str
) -> None:
    shown = await streamed(client, thread_id, "aged", {"age": -1})
    assert [event for event, _ in shown] == ["values", "updates", "error"]
    assert shown[0][1] == {"age": -1, "items": []}
    state = await client.threads.get_state(thread_id)
    assert state["values"] == {"age": -1, "items": []}
    assert [(task["name"], task["result"]["age"]) for task in state["tasks"]] == [("check", "spoilt")]
    after = await client.runs.wait(thread_id, "aged", input={"age": 2})
    assert after == {"age": 2, "items": ["checked", "2"]}


async def test_values_changed_after_they_were_returned_are_recorded_as_they_were(
    client: LangGraphClient, thread_id: str
) -> None:
    shown = await streamed(client, thread_id, "mutating", {})
    changed = ["given", "changed by its maker", "changed by another"]
    assert ("updates", {"give": {"first": ["given"]}}) in shown and ("values", {"first": ["given"]}) in shown
    assert shown[-1] == ("values", {"first": changed, "seen": changed})  # the run itself sees its objects
    states = await client.threads.get_history(thread_id)
    assert [state["values"].get("first") for state in states] == [["given"]] * 3 + [None] * 2
    assert states[0]["values"]["seen"] == changed
