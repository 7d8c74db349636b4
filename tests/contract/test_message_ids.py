"""What a node returns without an id is streamed with the one it gets in the state (statement 177)."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient


async def streamed(client: LangGraphClient, thread_id: str, graph: str, mode: str) -> list[Any]:
    """What the node `inner` and the nodes around it are said to have returned as `messages`."""
    found = []
    async for part in client.runs.stream(
        thread_id, graph, input={"messages": []}, stream_mode=[mode], stream_subgraphs=True
    ):
        if part.event.split("|")[0] != mode:
            continue
        if mode == "updates":
            found += [update["messages"] for update in part.data.values()]
        elif "result" in part.data:
            found.append(part.data["result"]["messages"])
    return found


def ids(messages: Any) -> list[Any]:
    return [message["id"] for message in (messages if isinstance(messages, list) else [messages])]


@pytest.mark.contract(177)
@pytest.mark.parametrize("kind", ["updates", "tasks"])
@pytest.mark.parametrize("graph", ["in_list", "alone", "in_command", "in_object", "deep", "own_reducer"])
async def test_the_id_is_the_reducers_at_every_depth(
    client: LangGraphClient, thread_id: str, graph: str, kind: str
) -> None:
    shown = await streamed(client, thread_id, f"ids_{graph}", kind)
    [message] = (await client.threads.get_state(thread_id))["values"]["messages"]
    assert message["id"]
    assert [ids(messages) for messages in shown] == [[message["id"]]] * (4 if graph == "deep" else 2)
    for state in await client.threads.get_history(thread_id):
        assert [m["id"] for m in state["values"].get("messages", [])] in ([], [message["id"]])


@pytest.mark.contract(177)
@pytest.mark.parametrize(
    ("graph", "returned"), [("as_tuple", [["ai", "x"]]), ("as_dict", [{"role": "ai", "content": "x"}])]
)
async def test_what_is_no_message_yet_is_shown_as_it_was_returned(
    client: LangGraphClient, thread_id: str, graph: str, returned: list[Any]
) -> None:
    inner, outer = await streamed(client, thread_id, f"ids_{graph}", "updates")
    assert inner == returned
    [message] = (await client.threads.get_state(thread_id))["values"]["messages"]
    assert ids(outer) == [message["id"]] and message["id"]


@pytest.mark.contract(177)
async def test_where_no_reducer_gives_ids_there_are_none(client: LangGraphClient, thread_id: str) -> None:
    [shown] = await streamed(client, thread_id, "ids_added", "updates")
    state = await client.threads.get_state(thread_id)
    assert ids(shown) == ids(state["values"]["messages"]) == [None]
