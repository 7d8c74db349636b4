"""`strict_resume`: an answer that no waiting interrupt takes is refused, and the thread stays as it was."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.installed import strict_client

pytestmark = pytest.mark.star

UNKNOWN = "0" * 32


async def refused(client: LangGraphClient, thread_id: str, graph: str, resume: Any, **options: Any) -> dict[str, Any]:
    """Resume strictly, see that nothing has changed, and return the error."""
    thread, state = await client.threads.get(thread_id), await client.threads.get_state(thread_id)
    history = await client.threads.get_history(thread_id)
    parts = [
        part
        async for part in client.runs.stream(
            thread_id,
            graph,
            command={"resume": resume},
            strict_resume=True,
            stream_mode=["values", "updates"],
            **options,
        )
    ]
    assert [part.event for part in parts] == ["metadata", "error"]
    [run, *_] = await client.runs.list(thread_id)
    assert run["status"] == "error" and run["run_id"] == parts[0].data["run_id"]
    after = await client.threads.get(thread_id)
    for field in ("status", "interrupts", "values", "error"):
        assert after[field] == thread[field], field
    assert await client.threads.get_state(thread_id) == state
    assert await client.threads.get_history(thread_id) == history
    return parts[-1].data


async def test_the_server_says_that_it_can(http: httpx.AsyncClient) -> None:
    assert (await http.get("/info")).json()["flags"]["strict_resume"] is True


@strict_client
@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_an_unknown_interrupt_is_refused_and_the_known_one_can_still_be_answered(
    client: LangGraphClient, thread_id: str, durability: Any
) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    [waiting] = (await client.threads.get_state(thread_id))["interrupts"]
    error = await refused(client, thread_id, "ask", {UNKNOWN: "yes"}, durability=durability)
    assert error == {
        "error": "UnknownInterruptError",
        "message": f"Unknown or already-consumed interrupt: {UNKNOWN}",
        "reason": "not_pending",
        "interrupt_ids": [UNKNOWN],
        "pending_ids": [waiting["id"]],
    }
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    error = await refused(client, thread_id, "ask", {waiting["id"]: "yes", UNKNOWN: "no"})
    assert error["interrupt_ids"] == [UNKNOWN], "nor is half of a map answered"
    values = await client.runs.wait(thread_id, "ask", command={"resume": {waiting["id"]: "yes"}}, strict_resume=True)
    assert values["items"] == ["yes", "done"]
    error = await refused(client, thread_id, "ask", {waiting["id"]: "again"})
    assert (error["reason"], error["pending_ids"]) == ("not_pending", [])
    assert (await client.threads.get(thread_id))["status"] == "idle"


@strict_client
async def test_one_answer_for_several_questions_is_refused(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask_two", input={"items": []})
    ids = sorted(one["id"] for one in (await client.threads.get_state(thread_id))["interrupts"])
    error = await refused(client, thread_id, "ask_two", "yes")
    assert (error["error"], error["reason"], error["pending_ids"]) == ("UnknownInterruptError", "ambiguous", ids)
    error = await refused(client, thread_id, "ask_two", {})
    assert (error["reason"], error["pending_ids"]) == ("empty_map", ids)
    await client.runs.wait(thread_id, "ask_two", command={"resume": {ids[0]: "1"}}, strict_resume=True)
    error = await refused(client, thread_id, "ask_two", {ids[0]: "1", ids[1]: "2"})
    assert (error["interrupt_ids"], error["pending_ids"]) == ([ids[0]], [ids[1]])
    values = await client.runs.wait(thread_id, "ask_two", command={"resume": {ids[1]: "2"}}, strict_resume=True)
    assert values["items"][-1] == "done"


@strict_client
async def test_an_interrupt_of_a_subgraph_waits_as_well(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "family", input={"items": []})
    [waiting] = (await client.threads.get_state(thread_id, subgraphs=True))["interrupts"]
    await refused(client, thread_id, "family", {UNKNOWN: "yes"}, stream_subgraphs=True)
    values = await client.runs.wait(thread_id, "family", command={"resume": {waiting["id"]: "yes"}}, strict_resume=True)
    assert values["items"][-2:] == ["yes", "after"]


@strict_client
async def test_without_an_interrupt_one_answer_goes_on_from_a_breakpoint(
    client: LangGraphClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "breakpoint", input={"items": []})
    values = await client.runs.wait(thread_id, "breakpoint", command={"resume": "go"}, strict_resume=True)
    assert values["items"] == ["a", "b", "c"]


@strict_client
async def test_waiting_and_joining_clients_are_told_too(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    body = {"assistant_id": "ask", "command": {"resume": {UNKNOWN: "yes"}}, "strict_resume": True}
    answer = await http.post(f"/threads/{thread_id}/runs/wait", json={**body, "stream_resumable": True})
    assert answer.status_code == 200
    assert answer.json()["__error__"]["error"] == "UnknownInterruptError"
    with pytest.raises(Exception, match="UnknownInterruptError: Unknown or already-consumed"):
        await client.runs.wait(
            thread_id, "ask", command={"resume": {UNKNOWN: "yes"}}, strict_resume=True, raise_error=True
        )
    [_, run, *_] = await client.runs.list(thread_id)
    replayed = [part async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")]
    assert [part.event for part in replayed] == ["metadata", "error"]
    assert replayed[-1].data == answer.json()["__error__"]
    assert (await client.threads.get(thread_id))["status"] == "interrupted"


@strict_client
async def test_without_it_an_unknown_interrupt_is_passed_over(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    for options in ({}, {"strict_resume": False}):
        values = await client.runs.wait(thread_id, "ask", command={"resume": {UNKNOWN: "yes"}}, **options)
        assert values["__interrupt__"][0]["value"] == {"question": "ok?"}
        assert (await client.threads.get(thread_id))["status"] == "interrupted"


async def test_strictness_is_true_or_false(http: httpx.AsyncClient, thread_id: str) -> None:
    body = {"assistant_id": "ask", "command": {"resume": "x"}, "strict_resume": "yes"}
    for path in (f"/threads/{thread_id}/runs", f"/threads/{thread_id}/runs/stream", "/runs/wait"):
        answer = await http.post(path, json=body)
        assert answer.status_code == 422 and "strict_resume" in answer.json()["detail"]
