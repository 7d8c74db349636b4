"""`select` on states and histories, and PATCH of a state, as the newest clients send them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from tests.installed import selecting_client

from .refusals import refused

pytestmark = pytest.mark.star

FIELDS = {
    "values", "next", "tasks", "metadata", "created_at", "checkpoint", "parent_checkpoint", "interrupts",
    "checkpoint_id", "parent_checkpoint_id",
}  # fmt: skip


async def every_way(
    client: LangGraphClient, thread_id: str, checkpoint: dict[str, Any], select: list[str]
) -> list[dict[str, Any]]:
    """The same state, selected by every call that can."""
    [newest] = await client.threads.get_history(thread_id, limit=1, select=select)
    return [
        await client.threads.get_state(thread_id, select=select),
        await client.threads.get_state(thread_id, checkpoint=checkpoint, select=select),
        await client.threads.get_state(thread_id, checkpoint_id=checkpoint["checkpoint_id"], select=select),
        newest,
    ]


@selecting_client
async def test_only_the_selected_fields_are_told(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": [], "n": 7})
    whole = await client.threads.get_state(thread_id)
    assert set(whole) == FIELDS
    for select in (["next"], ["values"], ["tasks", "checkpoint"], ["metadata", "created_at"], ["interrupts"]):
        expected = {name: whole[name] for name in select}
        assert await every_way(client, thread_id, whole["checkpoint"], select) == [expected] * 4


@selecting_client
async def test_one_key_of_the_values_is_selected(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": [], "n": 7})
    checkpoint = (await client.threads.get_state(thread_id))["checkpoint"]
    for select, values in (
        (["values.n"], {"n": 7}),
        (["values.n", "values.items"], {"items": ["a", "b"], "n": 7}),
        (["values.n", "values"], {"items": ["a", "b"], "n": 7}),
        (["values.nothing"], {}),
    ):
        assert await every_way(client, thread_id, checkpoint, select) == [{"values": values}] * 4
    [newest, *_] = await client.threads.get_history(thread_id, select=["values.n", "next"])
    assert newest == {"values": {"n": 7}, "next": []}


@selecting_client
async def test_values_that_are_one_object_have_keys_too(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "functional", input=[1, 2])
    assert await client.threads.get_state(thread_id, select=["values.doubled"]) == {"values": {"doubled": [2, 4]}}
    assert await client.threads.get_state(thread_id, select=["values.nothing"]) == {"values": {}}


@selecting_client
async def test_interrupts_and_states_of_subgraphs_are_selected(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "family", input={"items": []})
    whole = await client.threads.get_state(thread_id, subgraphs=True)
    asked = await client.threads.get_state(thread_id, subgraphs=True, select=["interrupts"])
    assert asked == {"interrupts": whole["interrupts"]} and len(whole["interrupts"]) == 1
    nested = await client.threads.get_state(thread_id, subgraphs=True, select=["tasks"])
    assert nested == {"tasks": whole["tasks"]} and nested["tasks"][0]["state"]["values"]["items"]


@selecting_client
async def test_an_empty_state_is_selected_from_as_well(client: LangGraphClient, thread_id: str) -> None:
    assert await client.threads.get_state(thread_id, select=["values.items", "next"]) == {"values": {}, "next": []}
    assert await client.threads.get_history(thread_id, select=["next"]) == []
    with pytest.raises(NotFoundError):
        await client.threads.get_state(str(uuid4()), select=["next"])


@pytest.mark.parametrize("query", ["select=next&select=values.n", "select=next,values.n", 'select=["next","values.n"]'])
async def test_a_query_lists_fields_in_every_form(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, query: str
) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": [], "n": 7})
    assert (await http.get(f"/threads/{thread_id}/state?{query}")).json() == {"values": {"n": 7}, "next": []}
    history = (await http.get(f"/threads/{thread_id}/history?limit=1&{query}")).json()
    assert history == [{"values": {"n": 7}, "next": []}]


@selecting_client
@pytest.mark.parametrize("select", [["everything"], ["values."], ["next", ""]])
async def test_an_unknown_field_is_named(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, select: list[str]
) -> None:
    with refused(UnprocessableEntityError, r"select: .* is not one of .*values\.<key>"):
        await client.threads.get_history(thread_id, select=select)
    with refused(UnprocessableEntityError, "select: "):
        await client.threads.get_state(thread_id, checkpoint={"checkpoint_ns": ""}, select=select)
    answer = await http.get(f"/threads/{thread_id}/state", params={"select": select[0] or "x"})
    assert answer.status_code == (200 if select[0] == "next" else 422)
    wrong = await http.post(f"/threads/{thread_id}/history", json={"select": "next"})
    assert wrong.status_code == 422 and "select" in wrong.json()["detail"]


async def test_a_patched_state_is_patched_metadata_of_the_thread(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    thread = await client.threads.create(metadata={"kept": 1, "changed": 1})
    path = f"/threads/{thread['thread_id']}/state"
    answer = await http.patch(path, json={"metadata": {"changed": 2, "new": {"deep": True}}})
    assert (answer.status_code, answer.content) == (204, b"")
    found = await client.threads.get(thread["thread_id"])
    assert found["metadata"] == {"kept": 1, "changed": 2, "new": {"deep": True}}
    assert found["status"] == "idle" and found["values"] is None
    assert (await http.patch(path, json={"metadata": ["x"]})).status_code == 422
    assert (await http.patch(f"/threads/{uuid4()}/state", json={"metadata": {}})).status_code == 404
