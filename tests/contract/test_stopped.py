"""Contract statement 173: what a run that was stopped leaves on its thread, and why it was stopped."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.waiting import eventually

from .gate import Gate
from .waiting import ended, settled

# The reference server has the error of a task only where it streams messages, custom events or subgraphs.
pytestmark = pytest.mark.star
ASKED = "interrupt requested via POST /threads/{thread_id}/runs/{run_id}/cancel"


def interrupted(reason: str) -> dict[str, str]:
    return {"error": "UserInterrupt", "message": reason}


async def held(client: LangGraphClient, thread_id: str, gate: Gate, graph: str = "gated", **more: Any) -> str:
    """A run that stands at the gate, as clients can read by now; its id."""
    run = await client.runs.create(thread_id, graph, **{"input": gate.input, **more})
    await gate.entered(run["run_id"])
    await eventually(lambda: client.threads.get_state(thread_id), lambda state: state["next"])
    if graph == "gated":
        await eventually(lambda: client.threads.get_state(thread_id), lambda state: state["next"] == ["hold"])
    return run["run_id"]


async def left(client: LangGraphClient, thread_id: str) -> dict[str, Any]:
    """The errors of the newest checkpoint's tasks, as the history tells them; the state has to say the same."""
    newest = (await client.threads.get_history(thread_id))[0]
    errors = {task["name"]: task["error"] for task in newest["tasks"]}
    state = await client.threads.get_state(thread_id)
    assert {task["name"]: task["error"] for task in state["tasks"]} == errors
    return errors


@pytest.mark.contract(173)
@pytest.mark.parametrize("wait", [False, True])
async def test_the_unfinished_task_is_cancelled_with_the_answer_already(
    client: LangGraphClient, thread_id: str, gate: Gate, wait: bool
) -> None:
    run_id = await held(client, thread_id, gate)
    gate.linger()  # the executor has not stopped when the answer comes, unless it was waited for
    await client.runs.cancel(thread_id, run_id, wait=wait)
    assert await left(client, thread_id) == {"hold": "CancelledError()"}
    assert (await client.threads.get(thread_id))["error"] == interrupted(ASKED)
    assert (await client.runs.get(thread_id, run_id))["cancel_reason"] == ASKED
    thread = await settled(client, thread_id)
    assert (thread["status"], thread["error"], thread["interrupts"]) == ("interrupted", interrupted(ASKED), {})
    assert await left(client, thread_id) == {"hold": "CancelledError()"}


@pytest.mark.contract(173)
async def test_what_was_stopped_goes_on_with_no_input(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run_id = await held(client, thread_id, gate)
    await client.runs.cancel(thread_id, run_id, wait=True)
    gate.open()
    assert (await client.runs.wait(thread_id, "gated", input=None))["items"] == ["first", "held", "last"]
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"]) == ("idle", None)
    assert (await client.threads.get_state(thread_id))["tasks"] == []


@pytest.mark.contract(173)
async def test_a_client_that_leaves_stops_its_run(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    body = {"assistant_id": "gated", "input": gate.input, "on_disconnect": "cancel"}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        run_id = stream.headers["content-location"].rsplit("/", 1)[1]
        await gate.entered(run_id)
    await ended(client, thread_id, run_id)
    thread = await settled(client, thread_id)
    assert thread["error"] == interrupted("client disconnected from the run stream (on_disconnect=cancel)")
    assert await left(client, thread_id) == {"hold": "CancelledError()"}


@pytest.mark.contract(173)
async def test_a_run_that_is_superseded_says_by_which(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run_id = await held(client, thread_id, gate)
    checkpoint = (await client.threads.get_state(thread_id))["checkpoint"]["checkpoint_id"]
    other = Gate(gate.folder)
    later = await client.runs.create(
        thread_id, "gated", input={**other.input, "items": ["second"]}, multitask_strategy="interrupt"
    )
    reason = f"superseded by run {later['run_id']} (multitask_strategy=interrupt)"
    assert (await client.runs.get(thread_id, run_id))["cancel_reason"] == reason
    assert (await client.threads.get(thread_id))["error"] == interrupted(reason)
    history = {s["checkpoint"]["checkpoint_id"]: s for s in await client.threads.get_history(thread_id, limit=50)}
    assert [task["error"] for task in history[checkpoint]["tasks"]] == ["CancelledError()"]
    gate.open()
    assert (await ended(client, thread_id, later["run_id"]))["status"] == "success"
    thread = await settled(client, thread_id)
    assert (thread["status"], thread["error"]) == ("idle", None)


@pytest.mark.contract(173)
async def test_a_question_asked_after_a_stop_is_a_question(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run_id = await held(client, thread_id, gate, "gated_question")
    await client.runs.cancel(thread_id, run_id, wait=True)
    assert await left(client, thread_id) == {"ask": "CancelledError()"}
    gate.open()
    await client.runs.wait(thread_id, "gated_question", input=None)
    assert await left(client, thread_id) == {"ask": None}
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"], len(thread["interrupts"])) == ("interrupted", None, 1)
    values = await client.runs.wait(thread_id, "gated_question", command={"resume": "yes"})
    assert values["items"] == ["yes", "done"]


@pytest.mark.contract(173)
async def test_a_run_stopped_while_it_uses_an_answer_goes_on_with_it(
    client: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    await client.runs.wait(thread_id, "gated_answer", input=gate.input)
    run_id = await held(client, thread_id, gate, "gated_answer", input=None, command={"resume": "yes"})
    await client.runs.cancel(thread_id, run_id, wait=True)
    assert await left(client, thread_id) == {"ask": "CancelledError()"}
    gate.open()
    assert (await client.runs.wait(thread_id, "gated_answer", input=None))["items"] == ["yes", "done"]


@pytest.mark.contract(173)
async def test_a_question_is_left_alone_by_a_run_that_never_began(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    run = await client.runs.create(thread_id, "ask", input={"items": []}, after_seconds=600)
    await client.runs.cancel(thread_id, run["run_id"])
    assert await left(client, thread_id) == {"question": None}
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"], len(thread["interrupts"])) == ("interrupted", None, 1)
    assert (await client.runs.get(thread_id, run["run_id"]))["cancel_reason"] == ASKED


@pytest.mark.contract(173)
async def test_beside_it_what_has_finished_or_asked_stays_so(
    client: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    run_id = await held(client, thread_id, gate, "gated_sides")
    await eventually(lambda: client.threads.get_state(thread_id), lambda state: state["next"] == ["hold", "ask"])
    await eventually(lambda: client.threads.get_state(thread_id), lambda state: state["interrupts"])
    gate.linger()
    await client.runs.cancel(thread_id, run_id)
    expected = {"hold": "CancelledError()", "quick": None, "ask": None}
    assert await left(client, thread_id) == expected
    thread = await settled(client, thread_id)
    assert await left(client, thread_id) == expected
    assert (thread["status"], len(thread["interrupts"])) == ("interrupted", 1)


@pytest.mark.contract(173)
async def test_tasks_of_subgraphs_are_cancelled_too(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run_id = await held(client, thread_id, gate, "gated_family")
    await client.runs.cancel(thread_id, run_id, wait=True)
    (task,) = (await client.threads.get_state(thread_id, subgraphs=True))["tasks"]
    (below,) = task["state"]["tasks"]
    assert (task["error"], below["name"], below["error"]) == ("CancelledError()", "hold", "CancelledError()")


@pytest.mark.contract(173)
async def test_a_copy_is_stopped_as_well(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run_id = await held(client, thread_id, gate)
    await client.runs.cancel(thread_id, run_id, wait=True)
    copy = await client.threads.copy(thread_id)
    assert await left(client, copy["thread_id"]) == {"hold": "CancelledError()"}
    thread = await client.threads.get(copy["thread_id"])
    assert (thread["status"], thread["error"]) == ("interrupted", interrupted(ASKED))


@pytest.mark.contract(173)
async def test_a_state_update_takes_the_error_away(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run_id = await held(client, thread_id, gate)
    await client.runs.cancel(thread_id, run_id, wait=True)
    await client.threads.update_state(thread_id, {"items": ["by hand"]}, as_node="hold")
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"]) == ("interrupted", None)
    assert await left(client, thread_id) == {"last": None}


@pytest.mark.parametrize(
    ("given", "told"), [("taken", f"taken: {ASKED}"), ("they changed their mind", "they changed their mind")]
)
async def test_a_reason_is_recorded(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate, given: str, told: str
) -> None:
    run_id = await held(client, thread_id, gate)
    answer = await http.post(f"/threads/{thread_id}/runs/{run_id}/cancel", params={"wait": "1", "reason": given})
    assert answer.status_code == 200
    assert (await client.runs.get(thread_id, run_id))["cancel_reason"] == told
    assert [run["cancel_reason"] for run in await client.runs.list(thread_id)] == [told]
    assert (await client.threads.get(thread_id))["error"] == interrupted(told)
    assert gate.reasons(run_id) == [f"UserInterrupt('{told}')"]


async def test_a_run_that_was_not_cancelled_has_no_reason(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    assert [run["cancel_reason"] for run in await client.runs.list(thread_id)] == [None]


@pytest.mark.parametrize("params", [{"reason": "taken", "action": "rollback"}, {"reason": "x" * 2000}])
async def test_a_reason_that_cannot_be_is_refused(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate, params: dict[str, str]
) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    answer = await http.post(f"/threads/{thread_id}/runs/{run['run_id']}/cancel", params=params)
    assert answer.status_code == 422 and "reason" in answer.text
    await client.runs.cancel(thread_id, run["run_id"], wait=True)


async def test_the_runs_of_a_deleted_assistant_say_so(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    assistant = await client.assistants.create("gated")
    run = await client.runs.create(thread_id, assistant["assistant_id"], input=gate.input)
    await gate.entered(run["run_id"])
    await client.assistants.delete(assistant["assistant_id"])
    found = await ended(client, thread_id, run["run_id"])
    assert found["cancel_reason"] == f"assistant {assistant['assistant_id']} was deleted"
    await settled(client, thread_id)
