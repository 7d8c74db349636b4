"""The event-streaming protocol on the wire: commands, channels, sequence numbers, filters."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from pydantic import TypeAdapter

from tests.installed import named_tool_calls
from tests.waiting import eventually

from .event_client import EVERY, Event, EventClient, data, ended, lifecycle
from .gate import Gate
from .waiting import running, settled

HELLO = {"messages": [{"role": "user", "content": "hello there"}]}


@pytest.fixture
def thread(http: httpx.AsyncClient) -> EventClient:
    return EventClient(http)


async def question_of(thread: EventClient) -> str:
    """The id of the interrupt that the thread waits at."""
    seen = await thread.events(["input", "lifecycle"], lambda event: event["method"] == "input.requested")
    return str(data(seen, "input.requested")[-1]["interrupt_id"])


@pytest.mark.contract(136)
async def test_a_run_started_on_an_unknown_thread_creates_it(thread: EventClient, client: LangGraphClient) -> None:
    run_id = await thread.start("noop", {"items": []}, metadata={"mine": 1})
    run = await client.runs.get(thread.thread_id, run_id)
    assert run["metadata"]["mine"] == 1
    assert (await settled(client, thread.thread_id))["values"] == {"items": ["a", "b"]}


@pytest.mark.contract(137)
async def test_events_opened_late_replay_the_whole_log(thread: EventClient, client: LangGraphClient) -> None:
    for _ in range(2):
        await thread.start("chat", HELLO)
        await settled(client, thread.thread_id)
    ends = 0

    def second_end(event: Event) -> bool:
        nonlocal ends
        ends += ended(event)
        return ends == 2

    seen = await thread.events(["lifecycle", "values", "messages"], second_end)
    assert lifecycle(seen) == ["running", "completed"] * 2
    said = [event for event in data(seen, "messages") if event["event"] == "content-block-delta"]
    assert "".join(event["delta"]["text"] for event in said) == "You said: hello there" * 2
    assert [event["event"] for event in data(seen, "messages")][:2] == ["message-start", "content-block-start"]
    assert [event["event"] for event in data(seen, "messages")][-2:] == ["content-block-finish", "message-finish"]
    assert data(seen, "values")[-1]["messages"][-1]["content"] == "You said: hello there"


@pytest.mark.contract(137)
async def test_a_client_that_was_there_before_the_thread_sees_the_same(thread: EventClient) -> None:
    live = asyncio.create_task(thread.events(EVERY))
    await asyncio.sleep(0)
    await thread.start("agent", {"messages": [{"role": "user", "content": "add 2 3"}]})
    assert await live == await thread.events(EVERY)


@pytest.mark.contract(138)
async def test_a_fact_has_one_id_and_one_number_in_every_connection(thread: EventClient) -> None:
    await thread.start("agent", {"messages": [{"role": "user", "content": "add 2 3"}]})
    everything = await thread.events(EVERY)
    assert len({event["event_id"] for event in everything}) == len(everything)
    numbers = [event["seq"] for event in everything]
    assert numbers == sorted(set(numbers))
    for channels in (["values", "lifecycle"], ["messages", "lifecycle"], ["tools", "lifecycle"]):
        some = await thread.events(channels)
        assert some == [event for event in everything if event["method"] in channels]
    for before, after in ((0, 1), (len(everything) // 2, len(everything) // 2 + 1)):
        assert await thread.events(EVERY, since=numbers[before]) == everything[after:]


@pytest.mark.contract(139)
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "channels is required"),
        ({"channels": []}, "channels is required"),
        ({"channels": "values"}, "channels is required"),
        ({"channels": ["values", "debug"]}, "debug"),
        ({"channels": ["custom:"]}, "custom:"),
        ({"channels": ["values"], "since": "x"}, "since"),
        ({"channels": ["values"], "depth": -1}, "depth"),
        ({"channels": ["values"], "namespaces": ["child"]}, "namespaces"),
        ({"channels": ["values"] * 2000}, "2000"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused(
    thread: EventClient, http: httpx.AsyncClient, body: Any, says: str
) -> None:
    response = await http.post(f"/threads/{thread.thread_id}/stream/events", json=body)
    if "since" in body or "namespaces" in body or "depth" in body or len(body.get("channels", ())) > 1000:
        assert response.status_code in (200, 400)
    assert response.status_code == 400
    assert says in response.json()["detail"]


@pytest.mark.contract(139, 145)
async def test_custom_events_have_names(thread: EventClient) -> None:
    await thread.start("named", {"items": []})
    seen = await thread.events(["custom:progress", "lifecycle"])
    assert data(seen, "custom") == [{"name": "progress", "payload": {"done": 1}}]
    seen = await thread.events(["custom", "lifecycle"])
    assert data(seen, "custom") == [{"name": "progress", "payload": {"done": 1}}, {"payload": "no name"}]


@pytest.mark.contract(140, 182)
async def test_an_interrupt_is_asked_and_answered(thread: EventClient, client: LangGraphClient) -> None:
    await thread.start("ask", {"items": ["a"]})
    seen = await thread.events(["input", "lifecycle"])
    (asked,) = data(seen, "input.requested")
    assert asked["payload"] == asked["value"] == {"question": "ok?"}
    assert lifecycle(seen) == ["running", "interrupted"]
    await settled(client, thread.thread_id)
    answer = await thread.command("input.respond", namespace=[], interrupt_id=asked["interrupt_id"], response="yes")
    assert (answer["type"], answer["result"]) == ("success", {})
    seen = await thread.events(
        ["values", "lifecycle"], lambda event: event["params"]["data"].get("event") == "completed"
    )
    assert lifecycle(seen) == ["running", "interrupted", "running", "completed"]
    assert data(seen, "values")[-1] == {"items": ["a", "yes", "done"]}


@pytest.mark.contract(140)
async def test_several_interrupts_are_answered_at_once(thread: EventClient, client: LangGraphClient) -> None:
    await thread.start("ask_two", {"items": []})
    seen = await thread.events(["input", "lifecycle"])
    await settled(client, thread.thread_id)
    sides = {asked["payload"]["side"]: asked["interrupt_id"] for asked in data(seen, "input.requested")}
    responses = [{"interrupt_id": sides[side], "namespace": [], "response": side.upper()} for side in sides]
    assert (await thread.command("input.respond", responses=responses))["type"] == "success"
    done = await settled(client, thread.thread_id)
    assert sorted(done["values"]["items"]) == ["done", "left LEFT", "right RIGHT"]


@pytest.mark.contract(140)
async def test_several_interrupts_are_answered_one_after_the_other(
    thread: EventClient, client: LangGraphClient
) -> None:
    """By a client that answers each as it is asked, and waits for none of the runs."""
    await thread.start("ask_two", {"items": []})
    seen = await thread.events(["input", "lifecycle"])
    for asked in data(seen, "input.requested"):
        answer = await thread.command(
            "input.respond", interrupt_id=asked["interrupt_id"], response=asked["payload"]["side"].upper()
        )
        assert answer["type"] == "success", answer
    done = await eventually(
        lambda: client.threads.get(thread.thread_id), lambda found: found["status"] == "idle" or found["error"]
    )
    assert sorted(done["values"]["items"]) == ["done", "left LEFT", "right RIGHT"]
    assert [run["status"] for run in await client.runs.list(thread.thread_id)] == ["success"] * 3


@pytest.mark.contract(140)
async def test_an_interrupt_is_answered_while_a_parallel_node_is_at_work(
    thread: EventClient, client: LangGraphClient, gate: Gate
) -> None:
    await thread.start("gated_sides", gate.input)
    seen = await thread.events(["input"], lambda event: event["method"] == "input.requested")
    [asked] = data(seen, "input.requested")
    other = await thread.command("input.respond", interrupt_id="0" * 32, response="no")
    assert other["error"] == "no_such_interrupt"
    answer = await thread.command("input.respond", interrupt_id=asked["interrupt_id"], response="yes")
    assert answer["type"] == "success", answer
    again = await thread.command("input.respond", interrupt_id=asked["interrupt_id"], response="late")
    assert again["error"] == "no_such_interrupt"
    assert (await client.threads.get(thread.thread_id))["status"] == "busy"
    gate.open()
    done = await eventually(lambda: client.threads.get(thread.thread_id), lambda found: found["status"] == "idle")
    assert sorted(done["values"]["items"]) == ["held", "quick", "yes"]


@pytest.mark.contract(141)
async def test_what_can_not_be_done_is_said_with_a_code(thread: EventClient, client: LangGraphClient) -> None:
    async def code(method: str, **params: Any) -> str:
        answer = await thread.command(method, **params)
        assert answer["type"] == "error"
        assert answer["message"]
        return str(answer["error"])

    respond = {"namespace": [], "interrupt_id": "none", "response": 1}
    assert await code("input.respond", **respond) == "no_such_run"
    assert await code("agent.getTree") == "no_such_run"
    assert await code("nonsense") == "unknown_command"
    assert await code("run.start") == "invalid_argument"
    assert await code("run.start", assistant_id="noop", multitask_strategy="perhaps") == "invalid_argument"
    assert await code("run.start", assistant_id="no such graph", input={}) == "unknown_error"
    assert await code("run.start", assistant_id="noop", webhook="ftp://127.0.0.1:1") == "invalid_argument"
    assert await code("subscription.unsubscribe", subscription_id="x") == "no_such_subscription"
    assert await code("input.inject") == "not_supported"
    await thread.start("noop", {"items": []})
    await settled(client, thread.thread_id)
    assert await code("input.respond", **respond) == "no_such_interrupt"
    assert await code("state.get", namespace=["nowhere"]) == "no_such_namespace"
    assert await code("state.fork", checkpoint_id="1ef00000-0000-6000-8000-000000000000") == "no_such_checkpoint"


@pytest.mark.contract(141)
async def test_an_interrupt_is_answered_once(thread: EventClient, client: LangGraphClient) -> None:
    await thread.start("ask", {"items": []})
    interrupt_id = await question_of(thread)
    await settled(client, thread.thread_id)
    answers = await asyncio.gather(
        *(thread.command("input.respond", namespace=[], interrupt_id=interrupt_id, response=n) for n in range(2))
    )
    assert "success" in {answer["type"] for answer in answers}
    done = await eventually(
        lambda: client.threads.get(thread.thread_id), lambda found: found["status"] == "idle" or found["error"]
    )
    assert len(done["values"]["items"]) == 2
    again = await thread.command("input.respond", namespace=[], interrupt_id=interrupt_id, response=9)
    assert again["error"] == "no_such_interrupt"


async def test_an_answer_with_an_idempotency_key_counts_once_however_often_it_is_sent(
    thread: EventClient, client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    await thread.start("ask", {"items": []})
    params = {"namespace": [], "interrupt_id": await question_of(thread), "response": "yes"}
    await settled(client, thread.thread_id)
    body = {"id": 1, "method": "input.respond", "params": params}
    path, headers = f"/threads/{thread.thread_id}/commands", {"Idempotency-Key": f"answer {thread.thread_id}"}
    answers = await asyncio.gather(*(http.post(path, json=body, headers=headers) for _ in range(3)))
    assert (await settled(client, thread.thread_id))["values"] == {"items": ["yes", "done"]}
    answers.append(await http.post(path, json=body, headers=headers))
    assert [answer.json()["type"] for answer in answers] == ["success"] * 4, [answer.text for answer in answers]
    assert len(await client.runs.list(thread.thread_id)) == 2
    other = await http.post(path, json=body, headers={"Idempotency-Key": f"another {thread.thread_id}"})
    assert other.json()["error"] == "no_such_interrupt"


@pytest.mark.contract(141)
@pytest.mark.parametrize(
    "body", ["[]", "{}", '{"id": 1}', '{"method": "run.start"}', '{"id": "a", "method": "x"}', "no"]
)
async def test_what_is_no_command_is_a_bad_request(thread: EventClient, http: httpx.AsyncClient, body: str) -> None:
    response = await http.post(f"/threads/{thread.thread_id}/commands", content=body)
    assert response.status_code == 400


@pytest.mark.contract(142)
async def test_a_run_started_on_an_interrupted_thread_answers(thread: EventClient, client: LangGraphClient) -> None:
    await thread.start("ask", {"items": []})
    await question_of(thread)
    await settled(client, thread.thread_id)
    await thread.start("ask", "maybe")
    assert (await settled(client, thread.thread_id))["values"] == {"items": ["maybe", "done"]}


@pytest.mark.contract(142)
async def test_a_run_started_without_input_on_an_interrupted_thread_answers_null(
    thread: EventClient, client: LangGraphClient
) -> None:
    await thread.start("ask", {"items": []})
    await question_of(thread)
    await settled(client, thread.thread_id)
    await thread.start("ask", None)
    assert (await settled(client, thread.thread_id))["values"] == {"items": [None, "done"]}


@pytest.mark.contract(143)
async def test_namespaces_and_depth(thread: EventClient) -> None:
    await thread.start("nested_question", {"items": []})
    everything = await thread.events(["values", "lifecycle"])

    async def namespaces(**body: Any) -> list[list[str]]:
        last = everything[-1]["seq"]
        found = await thread.events(["values", "lifecycle"], lambda e: e["seq"] >= last_of(body, last), **body)
        return [event["params"]["namespace"] for event in found]

    def last_of(body: Any, _: int) -> int:
        return max(event["seq"] for event in everything if selected(event["params"]["namespace"], **body))

    def selected(namespace: list[str], namespaces: list[list[str]], depth: int | None = None) -> bool:
        names = [segment.partition(":")[0] for segment in namespace]
        return any(
            names[: len(prefix)] == prefix and (depth is None or len(names) - len(prefix) <= depth)
            for prefix in namespaces
        )

    for body in (
        {"namespaces": [["outer"]]},
        {"namespaces": [["outer"]], "depth": 0},
        {"namespaces": [["outer", "middle"]]},
        {"namespaces": [[]], "depth": 1},
    ):
        wanted = [e["params"]["namespace"] for e in everything if selected(e["params"]["namespace"], **body)]
        assert wanted
        assert await namespaces(**body) == wanted
    exact = next(e["params"]["namespace"] for e in everything if e["params"]["namespace"])
    found = await thread.events(
        ["lifecycle"], lambda e: e["params"]["data"]["event"] == "completed", namespaces=[exact], depth=0
    )
    assert {tuple(event["params"]["namespace"]) for event in found} == {tuple(exact)}


@named_tool_calls
@pytest.mark.star
@pytest.mark.contract(145)
async def test_every_channel_carries_data(thread: EventClient) -> None:
    await thread.start("agent", {"messages": [{"role": "user", "content": "add 2 3"}]})
    seen = await thread.events(EVERY)
    started, finished = data(seen, "tools")
    assert (started["event"], started["tool_name"], started["input"]) == (
        "tool-started",
        "add",
        {"left": 2, "right": 3},
    )
    assert (finished["event"], finished["tool_call_id"], finished["output"]["content"]) == (
        "tool-finished",
        "call-1",
        "5",
    )
    assert [update["node"] for update in data(seen, "updates")] == ["model", "tools", "model"]
    assert [task["name"] for task in data(seen, "tasks") if "result" in task] == ["model", "tools", "model"]
    checkpoints = data(seen, "checkpoints")
    assert [checkpoint["step"] for checkpoint in checkpoints] == [-1, 0, 1, 2, 3]
    assert [checkpoint["source"] for checkpoint in checkpoints] == ["input", *["loop"] * 4]
    assert [checkpoint.get("parent_id") for checkpoint in checkpoints] == [
        None,
        *(checkpoint["id"] for checkpoint in checkpoints[:-1]),
    ]
    blocks = [event["content"] for event in data(seen, "messages") if event["event"] == "content-block-finish"]
    assert {"type": "tool_call", "id": "call-1", "name": "add", "args": {"left": 2, "right": 3}} in blocks


@pytest.mark.contract(145)
async def test_events_are_as_the_protocol_types_them(thread: EventClient) -> None:
    protocol = pytest.importorskip("langchain_protocol.protocol")
    shapes = {
        "lifecycle": protocol.LifecycleData,
        "messages": protocol.MessagesData,
        "tools": protocol.ToolsData,
        "updates": protocol.UpdatesData,
        "checkpoints": protocol.Checkpoint,
        "custom": protocol.CustomData,
        "input.requested": protocol.InputRequestedData,
    }
    check = {method: TypeAdapter(shape) for method, shape in shapes.items()}
    event_of = TypeAdapter(protocol.Event)
    await thread.start("agent", {"messages": [{"role": "user", "content": "add 2 3"}]})
    seen = await thread.events(EVERY)
    other = EventClient(thread._http)
    await other.start("ask", {"items": []})
    seen += await other.events(EVERY)
    for event in seen:
        event_of.validate_python(event)
        if event["method"] in check:
            check[event["method"]].validate_python(event["params"]["data"])
    assert {event["method"] for event in seen} >= check.keys() - {"custom"}


@pytest.mark.star
async def test_a_failed_run_ends_as_failed_with_its_error(thread: EventClient) -> None:
    await thread.start("failing", {"kind": "expected"})
    seen = await thread.events(["lifecycle"])
    assert lifecycle(seen) == ["running", "failed"]
    assert data(seen, "lifecycle")[-1]["error"] == "the secret"


async def test_a_cancelled_run_ends_as_interrupted(thread: EventClient, client: LangGraphClient, gate: Gate) -> None:
    run_id = await thread.start("gated", gate.input)
    await running(client, thread.thread_id, run_id)
    await client.runs.cancel(thread.thread_id, run_id, wait=True)
    assert lifecycle(await thread.events(["lifecycle"])) == ["running", "interrupted"]


@pytest.mark.star
async def test_the_tree_shows_the_subgraph_at_work(thread: EventClient, client: LangGraphClient, gate: Gate) -> None:
    run_id = await thread.start("gated_family", gate.input)
    tree = await eventually(
        lambda: thread.command("agent.getTree"),
        lambda answer: answer["type"] == "success" and answer["result"]["tree"].get("children"),
    )
    root = tree["result"]["tree"]
    assert (root["namespace"], root["status"], root["graph_name"]) == ([], "running", "gated_family")
    assert root["children"][0]["status"] == "started"
    gate.open()
    await settled(client, thread.thread_id)
    done = (await thread.command("agent.getTree", run_id=run_id))["result"]["tree"]
    assert done["status"] in ("completed", "interrupted")


@pytest.mark.star
async def test_states_and_checkpoints_are_read_and_forked(thread: EventClient, client: LangGraphClient) -> None:
    await thread.start("four", {"items": []})
    await settled(client, thread.thread_id)
    state = (await thread.command("state.get", namespace=[], keys=["items"]))["result"]
    assert state["values"] == {"items": ["one", "two", "three", "four"]}
    listed = (await thread.command("state.listCheckpoints", limit=3))["result"]["checkpoints"]
    assert [checkpoint["step"] for checkpoint in listed] == [4, 3, 2]
    assert listed[0]["id"] == state["checkpoint"]["id"]
    more = (await thread.command("state.listCheckpoints", before=listed[-1]["id"]))["result"]["checkpoints"]
    assert [checkpoint["step"] for checkpoint in more] == [1, 0, -1]
    forked = (await thread.command("state.fork", checkpoint_id=listed[1]["id"]))["result"]
    assert forked["thread_id"] == thread.thread_id
    run = await eventually(
        lambda: client.runs.get(thread.thread_id, forked["run_id"]), lambda run: run["status"] == "success"
    )
    assert run["run_id"] == forked["run_id"]
    parent_of = {
        state["checkpoint"]["checkpoint_id"]: (state["parent_checkpoint"] or {}).get("checkpoint_id")
        for state in await client.threads.get_history(thread.thread_id, limit=50)
    }
    assert list(parent_of.values()).count(listed[1]["id"]) == 2, "what came after it then, and what came now"


@pytest.mark.star
async def test_runs_of_the_other_endpoints_are_seen_if_they_are_resumable(
    thread: EventClient, client: LangGraphClient
) -> None:
    await client.threads.create(thread_id=thread.thread_id)
    for resumable in (False, True):
        await client.runs.create(
            thread.thread_id,
            "ask" if resumable else "noop",
            input={"items": []},
            stream_mode=["values"],
            stream_resumable=resumable,
        )
        await settled(client, thread.thread_id)
    seen = await thread.events(EVERY)
    assert {event["params"]["data"]["graph_name"] for event in seen if event["method"] == "lifecycle"} == {"ask"}
    assert lifecycle(seen) == ["running", "interrupted"]
    assert len(data(seen, "input.requested")) == 1


@pytest.mark.star
async def test_a_run_of_the_protocol_is_streamed_by_the_other_endpoints_in_their_words(
    thread: EventClient, client: LangGraphClient
) -> None:
    run_id = await thread.start("noop", {"items": []})
    await settled(client, thread.thread_id)
    names = [
        part.event
        async for part in client.runs.join_stream(thread.thread_id, run_id, last_event_id="-1", stream_mode=None)
    ]
    assert set(names) <= {"metadata", "values", "updates", "messages", "tools", "lifecycle", "tasks", "custom"}
    assert names.count("values") == 3


async def test_an_unknown_thread_is_silent_not_an_error(http: httpx.AsyncClient) -> None:
    path = f"/threads/{uuid4()}/stream/events"
    async with http.stream("POST", path, json={"channels": ["values"]}) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
