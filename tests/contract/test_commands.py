"""Contract statements 88 to 97: interrupts, commands, forks."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from .waiting import ended, settled


@pytest.mark.contract(88)
async def test_resume_gives_the_node_its_answer(client: LangGraphClient, thread_id: str) -> None:
    asked = await client.runs.wait(thread_id, "ask", input={"items": ["in"]})
    assert asked["__interrupt__"][0]["value"] == {"question": "ok?"}
    answer = {"approved": True, "by": ["me"]}
    values = await client.runs.wait(thread_id, "ask", command={"resume": answer})
    assert values == {"items": ["in", answer, "done"]}
    assert (await client.threads.get(thread_id))["status"] == "idle"


@pytest.mark.contract(88)
async def test_an_answer_given_again_finds_nothing_left_to_do(client: LangGraphClient, thread_id: str) -> None:
    """As when its first reply was lost: the run succeeds with the values there are, and nothing is done twice."""
    await client.runs.wait(thread_id, "ask", input={"items": ["in"]})
    values = await client.runs.wait(thread_id, "ask", command={"resume": "yes"})
    history = await client.threads.get_history(thread_id)
    again = await client.runs.create(thread_id, "ask", command={"resume": "yes"})
    assert await client.runs.join(thread_id, again["run_id"]) == values
    assert (await client.runs.get(thread_id, again["run_id"]))["status"] == "success"
    assert await client.threads.get_history(thread_id) == history
    assert (await client.threads.get(thread_id))["status"] == "idle"
    asked = await client.runs.wait(thread_id, "ask", input={"items": ["more"]})
    assert asked["__interrupt__"], "that answer is not kept for the next question"


@pytest.mark.contract(89)
async def test_parallel_interrupts_are_answered_one_by_one(client: LangGraphClient, thread_id: str) -> None:
    asked = await client.runs.wait(thread_id, "ask_two", input={"items": []})
    ids = {interrupt["value"]["side"]: interrupt["id"] for interrupt in asked["__interrupt__"]}
    assert set(ids) == {"left", "right"}
    half = await client.runs.wait(thread_id, "ask_two", command={"resume": {ids["left"]: "yes"}})
    assert [interrupt["id"] for interrupt in half["__interrupt__"]] == [ids["right"]]
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    whole = await client.runs.wait(thread_id, "ask_two", command={"resume": {ids["right"]: "no"}})
    assert whole["items"] == ["left yes", "right no", "done"]


@pytest.mark.contract(89)
async def test_both_may_be_answered_at_once(client: LangGraphClient, thread_id: str) -> None:
    asked = await client.runs.wait(thread_id, "ask_two", input={"items": []})
    answers = {interrupt["id"]: interrupt["value"]["side"].upper() for interrupt in asked["__interrupt__"]}
    values = await client.runs.wait(thread_id, "ask_two", command={"resume": answers})
    assert values["items"] == ["left LEFT", "right RIGHT", "done"]


@pytest.mark.contract(90)
async def test_an_unknown_interrupt_id_answers_nothing(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    before = await client.threads.get_state(thread_id)
    again = await client.runs.wait(thread_id, "ask", command={"resume": {uuid4().hex: "yes"}})
    assert again["__interrupt__"] == before["interrupts"] or [
        interrupt["id"] for interrupt in again["__interrupt__"]
    ] == [interrupt["id"] for interrupt in before["interrupts"]]
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    assert (await client.runs.wait(thread_id, "ask", command={"resume": "yes"}))["items"] == ["yes", "done"]


async def test_null_is_an_answer_to_an_interrupt_that_is_named(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    asked = await client.runs.wait(thread_id, "ask", input={"items": []})
    for command in ({"resume": None}, {"resume": None, "update": {}, "goto": None}):
        refused = await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "ask", "command": command})
        assert refused.status_code == 422 and "answers nothing" in refused.json()["detail"], refused.text
    for nothing in ({}, {"goto": []}, {"update": None}):
        again = await client.runs.wait(thread_id, "ask", command=nothing)
        assert again["__interrupt__"] == asked["__interrupt__"]
    answer: Any = {"resume": {asked["__interrupt__"][0]["id"]: None}}
    assert (await client.runs.wait(thread_id, "ask", command=answer))["items"] == [None, "done"]


@pytest.mark.contract(91)
async def test_null_input_continues(client: LangGraphClient, thread_id: str) -> None:
    assert (await client.runs.wait(thread_id, "breakpoint", input={"items": []}))["items"] == ["a"]
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    assert (await client.runs.wait(thread_id, "breakpoint", input=None))["items"] == ["a", "b", "c"]
    assert (await client.runs.wait(thread_id, "breakpoint", input=None))["items"] == ["a", "b", "c"]


@pytest.mark.contract(91)
async def test_null_input_on_a_fresh_thread_is_an_error(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "noop", input=None)
    assert (await ended(client, thread_id, run["run_id"]))["status"] == "error"
    assert (await settled(client, thread_id))["error"]["error"] == "EmptyInputError"


@pytest.mark.contract(92)
async def test_new_input_on_an_interrupted_thread_starts_over(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": ["first"]})
    again = await client.runs.wait(thread_id, "ask", input={"items": ["second"]})
    assert again["items"] == ["first", "second"]
    assert len(again["__interrupt__"]) == 1
    values = await client.runs.wait(thread_id, "ask", command={"resume": "yes"})
    assert values["items"] == ["first", "second", "yes", "done"]


@pytest.mark.contract(93)
async def test_a_run_stops_before_and_after_nodes(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "four", input={"items": []}, interrupt_before=["three"])
    assert (await client.runs.join(thread_id, run["run_id"]))["items"] == ["one", "two"]
    state = await client.threads.get_state(thread_id)
    assert (state["next"], state["interrupts"]) == (["three"], [])
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "success"
    after = await client.runs.wait(thread_id, "four", input=None, interrupt_after=["three"])
    assert after["items"] == ["one", "two", "three"]
    assert (await client.threads.get_state(thread_id))["next"] == ["four"]


@pytest.mark.contract(93)
async def test_a_star_stops_before_every_node(client: LangGraphClient, thread_id: str) -> None:
    seen = []
    await client.runs.wait(thread_id, "four", input={"items": []}, interrupt_before="*")
    while (state := await client.threads.get_state(thread_id))["next"]:
        seen += state["next"]
        await client.runs.wait(thread_id, "four", input=None, interrupt_before="*")
    assert seen == ["one", "two", "three", "four"]


@pytest.mark.contract(94)
async def test_goto_and_update_run_the_target(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "jump", input={"items": []})
    values = await client.runs.wait(thread_id, "jump", command={"goto": "elsewhere", "update": {"n": 7}})
    assert values["items"] == ["a", "elsewhere with n=7"]
    sent = await client.runs.wait(
        thread_id,
        "jump",
        command={"goto": [{"node": "elsewhere", "input": {"n": 8}}, {"node": "elsewhere", "input": {"n": 9}}]},
    )
    assert sent["items"][2:] == ["elsewhere with n=8", "elsewhere with n=9"]


@pytest.mark.contract(94)
async def test_resume_update_and_goto_go_together(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    values = await client.runs.wait(thread_id, "ask", command={"resume": "yes", "update": {"n": 5}})
    assert (values["items"], values["n"]) == (["yes", "done"], 5)


@pytest.mark.contract(95)
async def test_an_interrupt_of_a_subgraph_is_resumed_through_the_parent(
    client: LangGraphClient, thread_id: str
) -> None:
    asked = await client.runs.wait(thread_id, "family", input={"items": []})
    assert asked["__interrupt__"][0]["value"] == {"question": "ok?"}
    [parent_task] = (await client.threads.get_state(thread_id, subgraphs=True))["tasks"]
    [leaf] = parent_task["state"]["tasks"]
    [[shown]] = (await client.threads.get(thread_id))["interrupts"].values()
    assert shown["id"] == leaf["interrupts"][0]["id"] == asked["__interrupt__"][0]["id"]
    values = await client.runs.wait(thread_id, "family", command={"resume": "yes"})
    assert values["items"] == ["before", "before", "thought", "yes", "after"]
    assert (await client.threads.get(thread_id))["status"] == "idle"


@pytest.mark.contract(95)
@pytest.mark.star
async def test_the_thread_shows_it_under_the_leaf_task(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "family", input={"items": []})
    [parent_task] = (await client.threads.get_state(thread_id, subgraphs=True))["tasks"]
    [leaf] = parent_task["state"]["tasks"]
    assert list((await client.threads.get(thread_id))["interrupts"]) == [leaf["id"]]


@pytest.mark.contract(96)
@pytest.mark.parametrize("form", ["checkpoint_id", "checkpoint", "configurable"])
async def test_a_run_forks_from_a_checkpoint(client: LangGraphClient, thread_id: str, form: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": ["one"]})
    await client.runs.wait(thread_id, "noop", input={"items": ["two"]})
    before = await client.threads.get_history(thread_id)
    base = before[4]["checkpoint"]
    options = {
        "checkpoint_id": {"checkpoint_id": base["checkpoint_id"]},
        "checkpoint": {"checkpoint": {"checkpoint_id": base["checkpoint_id"], "checkpoint_ns": ""}},
        "configurable": {"config": {"configurable": {"checkpoint_id": base["checkpoint_id"]}}},
    }[form]
    values = await client.runs.wait(thread_id, "noop", input={"items": ["fork"]}, **options)
    assert values["items"] == ["one", "a", "b", "fork", "a", "b"]
    history = await client.threads.get_history(thread_id, limit=100)
    assert history[4:] == before
    assert history[3]["parent_checkpoint"] == base
    assert (await client.threads.get_state(thread_id))["values"] == values


@pytest.mark.contract(97)
async def test_null_input_at_a_checkpoint_runs_on_from_there(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "chat", input={"messages": [{"role": "user", "content": "hello"}]})
    first = await client.threads.get_state(thread_id)
    before = await client.threads.get_history(thread_id)
    asked = next(at for at in before if at["next"] == ["model"])
    values = await client.runs.wait(thread_id, "chat", input=None, checkpoint=asked["checkpoint"])
    assert [message["content"] for message in values["messages"]] == ["hello", "You said: hello"]
    assert values["messages"][0] == first["values"]["messages"][0]
    assert values["messages"][1]["id"] != first["values"]["messages"][1]["id"]
    assert (await client.threads.get_state(thread_id))["values"] == values
    assert (await client.threads.get_history(thread_id))[-len(before) :] == before
