"""Assistants as agents of A2A (contract 10.2): JSON-RPC of 0.3 by hand, 1.0 with the client of `a2a-sdk`."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.waiting import eventually

from .gate import Gate
from .test_assistants import default_assistant


async def rpc(http: httpx.AsyncClient, assistant: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    answer = await http.post(
        f"/a2a/{assistant}", json={"jsonrpc": "2.0", "id": "1", "method": method, "params": params}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def saying(text: str, **more: Any) -> dict[str, Any]:
    part = {"kind": "text", "text": text}
    return {"message": {"kind": "message", "role": "user", "messageId": str(uuid4()), "parts": [part], **more}}


def giving(**data: Any) -> dict[str, Any]:
    """To a graph without `messages`."""
    return saying("", parts=[{"kind": "data", "data": data}])


@pytest.fixture
def chat() -> str:
    return default_assistant("chat")


async def test_the_card_has_the_url_by_which_the_client_has_come(http: httpx.AsyncClient, chat: str) -> None:
    async def url(**headers: str) -> str:
        card = (await http.get(f"/a2a/{chat}", headers={k.replace("_", "-"): v for k, v in headers.items()})).json()
        assert card["supportedInterfaces"][0]["url"] == card["url"]
        return str(card["url"])

    direct = f"{str(http.base_url).rstrip('/')}/a2a/{chat}"
    assert await url() == direct
    proxied = await url(X_Forwarded_Proto="https", X_Forwarded_Host="agents.example.com")
    assert proxied == f"https://agents.example.com/a2a/{chat}"
    assert await url(X_Forwarded_Proto="https") == direct.replace("http://", "https://")
    assert await url(X_Forwarded_Proto="javascript", X_Forwarded_Host="a/b") == direct


@pytest.mark.contract(167)
async def test_a_message_is_a_task_and_its_context_goes_on(http: httpx.AsyncClient, chat: str) -> None:
    task = (await rpc(http, chat, "message/send", saying("hello there")))["result"]
    assert task["kind"] == "task" and task["status"]["state"] == "completed"
    assert task["id"].startswith(task["contextId"]) and [one["role"] for one in task["history"]] == ["user", "agent"]
    said = task["artifacts"][0]["parts"][0]["text"]
    assert said and said == task["history"][1]["parts"][0]["text"]
    again = (await rpc(http, chat, "message/send", saying("and again", contextId=task["contextId"])))["result"]
    assert again["contextId"] == task["contextId"] and again["id"] != task["id"]
    assert len(again["history"]) == 4
    known = (await rpc(http, chat, "tasks/get", {"id": task["id"], "historyLength": 1}))["result"]
    assert known["status"]["state"] == "completed" and len(known["history"]) == 1
    only = await http.post(
        f"/a2a/{chat}",
        json={"jsonrpc": "2.0", "id": "1", "method": "tasks/get", "params": {"id": again["id"]}},
        headers={"LangGraph-A2A-History-Scope": "task"},
    )
    assert only.json()["result"]["history"][0]["parts"][0]["text"] == "and again"
    late = await rpc(http, chat, "tasks/cancel", {"id": task["id"]})
    assert late["error"] == {"code": -32002, "message": "Task is not cancelable in its current state"}


@pytest.mark.contract(167)
async def test_an_interrupt_asks_and_the_next_message_answers(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    ask = default_assistant("ask")
    task = (await rpc(http, ask, "message/send", giving()))["result"]
    assert task["status"]["state"] == "input-required"
    [artifact] = task["artifacts"]
    assert artifact["name"] == "Interrupt" and artifact["parts"][0]["data"]["value"]
    done = (await rpc(http, ask, "message/send", saying("yes", contextId=task["contextId"])))["result"]
    assert done["status"]["state"] == "completed"
    state = await client.threads.get_state(task["contextId"])
    assert not state["next"]


@pytest.mark.contract(167)
@pytest.mark.parametrize("with_context", [False, True])
async def test_an_answer_by_task_continues_that_task(http: httpx.AsyncClient, with_context: bool) -> None:
    ask = default_assistant("ask")
    asked = (await rpc(http, ask, "message/send", giving()))["result"]
    by = {"taskId": asked["id"]} | ({"contextId": asked["contextId"]} if with_context else {})
    done = (await rpc(http, ask, "message/send", saying("yes", **by)))["result"]
    assert (done["id"], done["contextId"]) == (asked["id"], asked["contextId"])
    assert done["status"]["state"] == "completed"
    assert done["artifacts"][0]["parts"][0]["data"]["items"], "of the run that answered"
    known = (await rpc(http, ask, "tasks/get", {"id": asked["id"]}))["result"]
    assert known["status"] == done["status"] and known["artifacts"] == done["artifacts"]
    listed = (await rpc(http, ask, "ListTasks", {"contextId": asked["contextId"]}))["result"]
    assert [(task["id"], task["status"]["state"]) for task in listed["tasks"]] == [
        (asked["id"], "TASK_STATE_COMPLETED")
    ]
    assert listed["totalSize"] == 1
    late = await rpc(http, ask, "message/send", saying("more", taskId=asked["id"]))
    assert late["error"] == {"code": -32004, "message": "A terminal task cannot accept another message"}
    elsewhere = await rpc(http, ask, "message/send", saying("more", taskId=asked["id"], contextId=str(uuid4())))
    assert elsewhere["error"]["code"] == -32001


async def test_a_streamed_answer_tells_of_the_task_it_continues(http: httpx.AsyncClient) -> None:
    ask = default_assistant("ask")
    asked = (await rpc(http, ask, "message/send", giving()))["result"]
    answer = {"jsonrpc": "2.0", "id": "1", "method": "message/stream", "params": saying("yes", taskId=asked["id"])}
    headers = {"Idempotency-Key": f"answer {asked['id']}"}
    for _ in range(2):  # the second is the same again: the task has ended by then
        text = (await http.post(f"/a2a/{ask}", json=answer, headers=headers)).text
        items = [json.loads(line[6:])["result"] for line in text.splitlines() if line.startswith("data: ")]
        assert {item.get("taskId") or item["id"] for item in items} == {asked["id"]}
        assert items[-1]["status"]["state"] == "completed"


async def test_a_task_that_waits_for_an_answer_can_be_cancelled(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    ask = default_assistant("ask")
    asked = (await rpc(http, ask, "message/send", giving()))["result"]
    cancelled = (await rpc(http, ask, "tasks/cancel", {"id": asked["id"]}))["result"]
    assert (cancelled["id"], cancelled["status"]["state"]) == (asked["id"], "canceled")
    listed = (await rpc(http, ask, "ListTasks", {"contextId": asked["contextId"]}))["result"]["tasks"]
    assert [(task["id"], task["status"]["state"]) for task in listed] == [(asked["id"], "TASK_STATE_CANCELED")]
    thread = await client.threads.get(asked["contextId"])
    assert thread["status"] == "idle" and not thread["interrupts"]
    assert not (await client.threads.get_state(asked["contextId"]))["next"]
    late = await rpc(http, ask, "message/send", saying("yes", taskId=asked["id"]))
    assert late["error"]["code"] == -32004
    assert (await rpc(http, ask, "tasks/cancel", {"id": asked["id"]}))["error"]["code"] == -32002
    again = giving()
    again["message"]["contextId"] = asked["contextId"]
    anew = (await rpc(http, ask, "message/send", again))["result"]
    assert anew["status"]["state"] == "input-required"


async def test_several_questions_are_answered_by_their_ids(http: httpx.AsyncClient) -> None:
    ask_two = default_assistant("ask_two")
    asked = (await rpc(http, ask_two, "message/send", giving()))["result"]
    [artifact] = asked["artifacts"]
    ids = [part["data"]["id"] for part in artifact["parts"]]
    assert artifact["name"] == "Interrupt" and len(ids) == 2
    unclear = await rpc(http, ask_two, "message/send", saying("yes", taskId=asked["id"]))
    assert unclear["error"]["code"] == -32602 and all(id in unclear["error"]["message"] for id in ids)
    answers = saying("", taskId=asked["id"], parts=[{"kind": "data", "data": dict.fromkeys(ids, "yes")}])
    assert (await rpc(http, ask_two, "message/send", answers))["result"]["status"]["state"] == "completed"


async def test_a_text_that_a_graph_has_no_place_for_is_refused(http: httpx.AsyncClient) -> None:
    refused = (await rpc(http, default_assistant("noop"), "message/send", saying("hello")))["error"]
    assert refused["code"] == -32602 and "has no `messages`" in refused["message"] and "items" in refused["message"]


async def test_a_call_without_an_id_begins_nothing(http: httpx.AsyncClient, chat: str) -> None:
    context = str(uuid4())
    call = {"jsonrpc": "2.0", "method": "message/send", "params": saying("hello", contextId=context)}
    assert (await http.post(f"/a2a/{chat}", json=call)).json()["error"]["code"] == -32600
    assert (await http.get(f"/threads/{context}")).status_code == 404


@pytest.mark.parametrize("method", ["message/send", "message/stream"])
async def test_a_task_goes_on_when_its_client_leaves(
    http: httpx.AsyncClient, client: LangGraphClient, gate: Gate, thread_id: str, method: str
) -> None:
    gated = default_assistant("gated")
    params = saying("", contextId=thread_id, parts=[{"kind": "data", "data": gate.input}])
    body = {"jsonrpc": "2.0", "id": "1", "method": method, "params": params}
    leaving = asyncio.create_task(http.post(f"/a2a/{gated}", json=body))
    run = (await eventually(lambda: client.runs.list(thread_id)))[0]
    await gate.entered(run["run_id"])
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving

    async def left() -> int:
        requests = (await http.get("/metrics", params={"format": "json"})).json()["api"]["http_requests_total"]
        return sum(one["count"] for one in requests if one["path"] == "/a2a/{assistant_id}" and one["status"] == 499)

    if method == "message/send":
        await eventually(left)  # the server knows, and it is no error of its own
    gate.open()
    await client.runs.join(thread_id, run["run_id"])
    task = (await rpc(http, gated, "tasks/get", {"id": f"{thread_id}:{run['run_id']}"}))["result"]
    assert task["status"]["state"] == "completed"


async def test_a_message_that_takes_long_keeps_its_connection_alive(http: httpx.AsyncClient, gate: Gate) -> None:
    params = saying("", parts=[{"kind": "data", "data": gate.input}])
    body = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": params}
    async with http.stream("POST", f"/a2a/{default_assistant('gated')}", json=body) as response:
        assert response.headers["content-type"] == "application/json"  # before the end of the run
        gate.open()
        text = await response.aread()
    assert text.startswith(b"\n") and json.loads(text)["result"]["status"]["state"] == "completed"


async def test_all_runs_of_a_task_are_cancelled(http: httpx.AsyncClient, client: LangGraphClient, gate: Gate) -> None:
    gated = default_assistant("gated")
    begun = saying("", parts=[{"kind": "data", "data": gate.input}]) | {"configuration": {"blocking": False}}
    task = (await rpc(http, gated, "message/send", begun))["result"]
    await gate.entered(task["id"].partition(":")[2])
    more = saying("", taskId=task["id"], parts=begun["message"]["parts"]) | {"configuration": {"blocking": False}}
    assert (await rpc(http, gated, "message/send", more))["result"]["id"] == task["id"]
    assert (await rpc(http, gated, "tasks/cancel", {"id": task["id"]}))["result"]["status"]["state"] == "canceled"
    runs = await client.runs.list(task["contextId"])
    assert [run["status"] for run in runs] == ["interrupted"] * 2


async def test_a_failing_run_is_a_failed_task(http: httpx.AsyncClient) -> None:
    failing = default_assistant("failing")
    task = (
        await rpc(http, failing, "message/send", saying("x", parts=[{"kind": "data", "data": {"kind": "expected"}}]))
    )["result"]
    assert task["status"]["state"] == "failed"
    assert "ValueError: the secret" in task["status"]["message"]["parts"][0]["text"]


@pytest.mark.contract(167)
async def test_a_stream_tells_of_the_task_what_is_said_and_the_end(http: httpx.AsyncClient, chat: str) -> None:
    body = {"jsonrpc": "2.0", "id": "1", "method": "message/stream", "params": saying("hello there")}
    async with http.stream("POST", f"/a2a/{chat}", json=body) as answer:
        lines = [line async for line in answer.aiter_lines()]
    items = [json.loads(line.removeprefix("data: "))["result"] for line in lines if line.startswith("data: ")]
    kinds = [item["kind"] for item in items]
    assert kinds[0] == "task" and items[0]["status"]["state"] == "submitted"
    [own] = items[0]["history"]
    assert own["parts"][0]["text"] == "hello there" and own["taskId"] == items[0]["id"]
    assert kinds[-2:] == ["artifact-update", "status-update"] and items[-1]["final"]
    assert items[-1]["status"]["state"] == "completed"
    texts = [item["status"]["message"]["parts"][0]["text"] for item in items[1:-2]]
    assert texts and texts == sorted(texts, key=len)
    assert items[-2]["artifact"]["parts"][0]["text"] == texts[-1]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nope", {}, -32601),
        ("message/send", {}, -32602),
        ("message/send", {"message": {"parts": []}}, -32602),
        ("message/send", {"message": {"parts": [{"kind": "text", "text": "x"}], "contextId": "x"}}, -32602),
        ("message/send", {"message": {"parts": [{"kind": "file", "file": {"uri": "file:///etc"}}]}}, -32005),
        ("message/send", {"message": {"parts": [{"kind": "file", "file": {"bytes": "no base64"}}]}}, -32005),
        ("message/send", {"message": {"parts": [{"kind": "file", "file": {"name": "x"}}]}}, -32005),
        ("message/send", [], -32602),
        ("message/send", {"message": {"parts": [{"kind": "text", "text": "x"}], "taskId": "x"}}, -32001),
        ("message/send", {"message": {"parts": [{"text": "x"}], "taskId": f"{uuid4()}:{uuid4()}"}}, -32001),
        ("message/send", saying("x") | {"configuration": {"pushNotificationConfig": {"url": "https://a"}}}, -32003),
        ("tasks/pushNotificationConfig/set", {}, -32003),
        ("CreateTaskPushNotificationConfig", {}, -32003),
        ("tasks/get", {"id": "x"}, -32001),
        ("tasks/get", {"id": f"{uuid4()}:{uuid4()}"}, -32001),
        ("tasks/resubscribe", {"id": f"{uuid4()}:{uuid4()}"}, -32001),
        ("ListTasks", {"contextId": "x"}, -32001),
        ("ListTasks", {"contextId": str(uuid4()), "pageSize": "x"}, -32602),
        ("ListTasks", {"pageSize": -1}, -32602),
        ("ListTasks", {"status": "TASK_STATE_ASLEEP"}, -32602),
        ("ListTasks", {"status": 7}, -32602),
        ("ListTasks", {"statusTimestampAfter": "yesterday"}, -32602),
        ("ListTasks", {"pageToken": "x"}, -32602),
        ("ListTasks", {"pageToken": "caf\u00e9"}, -32602),
        ("ListTasks", {"pageToken": "MjAyNi0wMS0wMSAx"}, -32602),
    ],
)
async def test_calls_that_can_not_be_answered(
    http: httpx.AsyncClient, chat: str, method: str, params: dict[str, Any], code: int
) -> None:
    assert (await rpc(http, chat, method, params))["error"]["code"] == code


async def test_unknown_agents_and_bodies(http: httpx.AsyncClient, chat: str) -> None:
    assert (await rpc(http, str(uuid4()), "tasks/get", {"id": "x"}))["error"]["code"] == -32602
    assert (await http.post(f"/a2a/{chat}", content=b"{")).json()["error"]["code"] == -32700
    assert (await http.post(f"/a2a/{chat}", json=[])).json()["error"]["code"] == -32600
    assert (await http.get("/.well-known/agent-card.json")).status_code == 400


@pytest.mark.contract(167)
async def test_the_public_client_speaks_1_0(url: str, chat: str) -> None:
    a2a = pytest.importorskip("a2a.client")
    types = pytest.importorskip("a2a.types")
    completed = types.TaskState.TASK_STATE_COMPLETED
    path = f"/.well-known/agent-card.json?assistant_id={chat}"
    for streaming in (False, True):
        async with httpx.AsyncClient(timeout=30) as plain:
            config = a2a.ClientConfig(streaming=streaming, httpx_client=plain)
            client = await a2a.create_client(url, client_config=config, relative_card_path=path)
            message = types.Message(
                message_id=str(uuid4()), role=types.Role.ROLE_USER, parts=[types.Part(text="hello there")]
            )
            seen = [item async for item in client.send_message(types.SendMessageRequest(message=message))]
            if streaming:
                assert seen[0].HasField("task") and seen[-1].status_update.status.state == completed
                assert any(item.HasField("artifact_update") for item in seen)
                task_id = seen[0].task.id
            else:
                [item] = seen
                assert item.task.status.state == completed and item.task.artifacts[0].parts[0].text
                task_id = item.task.id
            task = await client.get_task(types.GetTaskRequest(id=task_id))
            assert task.status.state == completed
            listed = await client.list_tasks(types.ListTasksRequest(context_id=task.context_id))
            assert [one.id for one in listed.tasks] == [task_id]
            await client.close()


async def test_the_public_client_lists_the_tasks_of_all_contexts(
    url: str, client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    a2a = pytest.importorskip("a2a.client")
    types = pytest.importorskip("a2a.types")
    state = types.TaskState
    made = (await client.assistants.create("chat", metadata={"a2a": {}}))["assistant_id"]
    asking = (await client.assistants.create("ask"))["assistant_id"]
    done = [(await rpc(http, made, "message/send", saying(f"hello {n}")))["result"]["id"] for n in range(5)]
    context = done[0].partition(":")[0]
    again = (await rpc(http, made, "message/send", saying("and again", contextId=context)))["result"]["id"]
    newest_first = [again, *reversed(done)]
    question = (await rpc(http, asking, "message/send", giving()))["result"]
    answered = (await rpc(http, asking, "message/send", giving()))["result"]
    await rpc(http, asking, "message/send", saying("yes", contextId=answered["contextId"]))

    async with httpx.AsyncClient(timeout=30) as plain:

        async def agent(assistant: str) -> Any:
            path = f"/.well-known/agent-card.json?assistant_id={assistant}"
            config = a2a.ClientConfig(streaming=False, httpx_client=plain)
            return await a2a.create_client(url, client_config=config, relative_card_path=path)

        chat_agent, asking_agent = await agent(made), await agent(asking)
        listed = await chat_agent.list_tasks(types.ListTasksRequest())
        assert [task.id for task in listed.tasks] == newest_first
        assert listed.total_size == 6 and not listed.next_page_token and listed.page_size == 50
        assert not any(task.artifacts for task in listed.tasks)
        assert all(task.status.state == state.TASK_STATE_COMPLETED and task.history for task in listed.tasks)
        full = await chat_agent.list_tasks(types.ListTasksRequest(include_artifacts=True, page_size=1))
        assert "and again" in full.tasks[0].artifacts[0].parts[0].text

        paged: list[str] = []
        page = types.ListTasksRequest(page_size=4)
        while True:
            listed = await chat_agent.list_tasks(page)
            assert listed.total_size == 6
            paged += [task.id for task in listed.tasks]
            if not listed.next_page_token:
                break
            page.page_token = listed.next_page_token
        assert paged == newest_first

        of_context = await chat_agent.list_tasks(types.ListTasksRequest(context_id=context))
        assert [task.id for task in of_context.tasks] == [again, done[0]] and of_context.total_size == 2
        since = types.ListTasksRequest()
        since.status_timestamp_after.CopyFrom(of_context.tasks[0].status.timestamp)
        assert [task.id for task in (await chat_agent.list_tasks(since)).tasks] == [again]

        async def of_state(name: int) -> list[str]:
            found = await asking_agent.list_tasks(types.ListTasksRequest(status=name))
            assert found.total_size == len(found.tasks) and all(task.status.state == name for task in found.tasks)
            return [task.id for task in found.tasks]

        assert await of_state(state.TASK_STATE_INPUT_REQUIRED) == [question["id"]]
        assert len(await of_state(state.TASK_STATE_COMPLETED)) == 2
        for none in (state.TASK_STATE_WORKING, state.TASK_STATE_FAILED, state.TASK_STATE_REJECTED):
            assert await of_state(none) == []
        await chat_agent.close()
        await asking_agent.close()


@pytest.mark.parametrize("method", ["message/send", "SendMessage", "message/stream", "SendStreamingMessage"])
async def test_a_message_sent_again_with_its_key_is_answered_as_first(
    client: LangGraphClient, http: httpx.AsyncClient, chat: str, method: str
) -> None:
    body = {"jsonrpc": "2.0", "id": "1", "method": method, "params": saying("hello there")}
    headers = {"Idempotency-Key": f"a2a {uuid4()}"}
    first, second = [await http.post(f"/a2a/{chat}", json=body, headers=headers) for _ in range(2)]
    assert first.status_code == second.status_code == 200
    if "tream" not in method:
        assert second.text == first.text and second.headers["idempotent-replayed"] == "true"
        result = first.json()["result"]
        context = result.get("task", result)["contextId"]
    else:
        ends = [
            [json.loads(line[6:])["result"] for line in r.text.splitlines() if line.startswith("data: ")]
            for r in (first, second)
        ]
        assert ends[0][-2:] == ends[1][-2:] and len(ends[1]) > 3
        context = (ends[0][-1].get("statusUpdate") or ends[0][-1])["contextId"]
    assert len(await client.runs.list(context)) == 1
    other = await http.post(f"/a2a/{chat}", json={**body, "params": saying("something else")}, headers=headers)
    assert other.status_code == 422 and other.json()["code"] == "idempotency_key_reused"


async def test_a_task_that_goes_on_can_be_followed_from_its_beginning(
    url: str, http: httpx.AsyncClient, client: LangGraphClient, gate: Gate
) -> None:
    a2a = pytest.importorskip("a2a.client")
    types = pytest.importorskip("a2a.types")
    gated = default_assistant("gated")
    message = {"kind": "data", "data": gate.input}
    begun = saying("", parts=[message]) | {"configuration": {"blocking": False}}
    task = (await rpc(http, gated, "message/send", begun))["result"]
    run_id = task["id"].partition(":")[2]
    await gate.entered(run_id)
    path = f"/.well-known/agent-card.json?assistant_id={gated}"
    async with httpx.AsyncClient(timeout=60) as plain:
        config = a2a.ClientConfig(streaming=True, httpx_client=plain)
        agent = await a2a.create_client(url, client_config=config, relative_card_path=path)
        seen = []
        async for item in agent.subscribe(types.SubscribeToTaskRequest(id=task["id"])):
            seen.append(item)
            gate.open()
        assert seen[0].task.id == task["id"]
        assert seen[0].task.status.state == types.TaskState.TASK_STATE_WORKING
        assert seen[-1].status_update.status.state == types.TaskState.TASK_STATE_COMPLETED
        await agent.close()
    over = await rpc(http, gated, "tasks/resubscribe", {"id": task["id"]})
    assert over["error"]["code"] == -32004
