"""Large request bodies: read by a process of its own, while this one's loop goes on turning."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.api.api_harness import ApiHarness
from threadlog.api.events.commands import OPAQUE
from threadlog.api.http import json_text, requests
from threadlog.engine.domain.commands import UpdateState
from threadlog.engine.domain.limits import DEPTH, METADATA_BYTES
from threadlog.engine.log import large
from threadlog.engine.offload.process import LARGE_BYTES

pytestmark = pytest.mark.server  # it starts processes

TEXT = "a long text, " * (LARGE_BYTES // 12)


@pytest.fixture
def read_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large JSON is not parsed in this process, or the test fails."""

    def check(module: Any, name: str) -> None:
        original = getattr(module, name)

        def read(raw: bytes, *more: Any) -> Any:
            assert len(raw) <= LARGE_BYTES
            return original(raw, *more)

        monkeypatch.setattr(module, name, read)

    check(json_text, "read")
    check(large, "_parsed")


@pytest.mark.usefixtures("read_elsewhere")
async def test_a_run_with_a_large_input_is_created_and_shown(api: ApiHarness) -> None:
    thread_id = await api.thread()
    given = {"messages": [{"role": "user", "content": TEXT}], "nul": "\x00"}
    created = await api.run(thread_id, input=given, metadata={"a": "b"})
    given["nul"] = "\ufffd"
    assert created["kwargs"]["input"] == given and created["metadata"]["a"] == "b"
    shown = await api.call("GET", f"/threads/{thread_id}/runs/{created['run_id']}")
    assert shown["kwargs"]["input"] == given
    created = await api.run(thread_id, command={"resume": TEXT})
    assert created["kwargs"]["command"] == {"resume": TEXT}


@pytest.mark.usefixtures("read_elsewhere")
async def test_runs_of_a_large_batch(api: ApiHarness) -> None:
    bodies = [{"assistant_id": "noop", "input": text} for text in (TEXT, "short")]
    created = await api.call("POST", "/runs/batch", bodies)
    assert [run["kwargs"]["input"] for run in created] == [TEXT, "short"]
    assert await api.ask("POST", "/runs/batch", [*bodies, 7]) == (
        422, {"detail": "[2] The request body must be a JSON object", "code": "invalid_request"}
    )  # fmt: skip


@pytest.mark.usefixtures("read_elsewhere")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads/{thread}/state", {"values": {"text": TEXT, "n": 1}, "as_node": "n"}),
        ("/threads/{thread}/state", {"values": [{"text": TEXT}, {"n": 1}], "as_node": "n"}),
        ("/threads", {"supersteps": [{"updates": [{"values": {"text": TEXT}, "as_node": "n"}]}]}),
    ],
    ids=["values", "updates", "supersteps"],
)
async def test_large_values_of_a_state_update(
    api: ApiHarness, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    thread_id = await api.thread(metadata={"graph_id": "noop"})
    sent: list[UpdateState] = []
    submit = api.gateway.submit

    async def noted(command: Any, **more: Any) -> Any:
        if isinstance(command, UpdateState):
            sent.append(command)
            raise ConnectionAbortedError
        return await submit(command, **more)

    monkeypatch.setattr(api.gateway, "submit", noted)
    if "supersteps" in body:
        body = {**body, "metadata": {"graph_id": "noop"}}
    await api.ask("POST", path.format(thread=thread_id), body)
    [command] = orjson.loads(orjson.dumps([one.supersteps for one in sent]))
    values = body.get("values") or body["supersteps"][0]["updates"][0]["values"]
    assert [u["values"] for step in command for u in step["updates"]] == (
        values if isinstance(values, list) else [values]
    )


LARGE = b'{"assistant_id": "noop", "input": "%b", "x": ' % TEXT.encode()


@pytest.mark.usefixtures("read_elsewhere")
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (LARGE, "Invalid JSON in request body"),
        (LARGE + b"[" * DEPTH + b"]" * DEPTH + b"}", f"at most {DEPTH} lists and objects"),
        (LARGE + b"[" + b"0," * json_text.VALUES + b"0]}", f"at most {json_text.VALUES} are allowed"),
        (LARGE + b"[7, 123456789012345678901]}", "x[1]: an integer beyond 64 bits"),
        (LARGE + b'"%b"}' % (b"x" * json_text.REST_BYTES), f"at most {json_text.REST_BYTES} are allowed"),
        (
            b'{"assistant_id": "noop", "metadata": {"x": "%b"}}' % (b"x" * METADATA_BYTES),
            f"at most {METADATA_BYTES} are",
        ),
    ],
    ids=["JSON", "depth", "values", "integer", "rest", "metadata"],
)
async def test_a_large_body_is_refused_with_the_limit(api: ApiHarness, body: bytes, problem: str) -> None:
    thread_id = await api.thread()
    async with api.client.post(f"/threads/{thread_id}/runs", data=body) as answer:
        assert (answer.status, problem in (detail := (await answer.json())["detail"])) == (422, True), detail
    assert await api.call("GET", f"/threads/{thread_id}/runs") == []


@pytest.mark.usefixtures("read_elsewhere")
@pytest.mark.parametrize("by", ["POST", "WebSocket"])
async def test_a_large_command_of_the_event_streaming_protocol(api: ApiHarness, by: str) -> None:
    thread_id = await api.thread()
    path = f"/threads/{thread_id}"

    async def result(method: str, **params: Any) -> Any:
        command = {"id": 7, "method": method, "params": params}
        if by == "POST":
            answer = await api.call("POST", f"{path}/commands", command)
        else:
            async with api.client.ws_connect(f"{path}/stream/events") as socket:
                await socket.send_str(orjson.dumps(command).decode())
                answer = orjson.loads(await socket.receive_str(timeout=60))
        assert (answer["id"], answer["type"]) == (7, "success"), answer
        return answer["result"]

    given = {"messages": [TEXT], "n": 1}
    run_id = (await result("run.start", assistant_id="noop", input=given))["run_id"]
    assert (await api.call("GET", f"{path}/runs/{run_id}"))["kwargs"]["input"] == given
    questions = {"task": [{"id": "first", "value": "?"}, {"id": "second", "value": "?"}]}
    await api.claim(run_id)
    await api.report(thread_id, run_id, "interrupted", interrupts=questions, next=["n"])
    responses = [{"interrupt_id": "first", "response": TEXT}, {"interrupt_id": "second", "response": 2}]
    await result("input.respond", responses=responses, update={"text": TEXT})
    [newest, _] = await api.call("GET", f"{path}/runs")
    assert newest["kwargs"]["command"] == {"resume": {"first": TEXT, "second": 2}, "update": {"text": TEXT}}


def test_what_a_protocol_command_carries_for_the_graph_is_carved() -> None:
    params = {
        "input": [TEXT], "responses": [{"interrupt_id": TEXT, "response": TEXT}], "response": {"a": TEXT},
        "update": TEXT, "goto": [TEXT],
    }  # fmt: skip
    parts = json_text.read_carved(orjson.dumps({"id": 1, "method": "m", "params": params}), *OPAQUE)
    text = orjson.dumps(TEXT)
    assert sorted(parts[2:]) == sorted([b"[%b]" % text, text, b'{"a":%b}' % text, text, b"[%b]" % text])
    assert orjson.loads(parts[1])[0]["body"]["params"]["responses"][0] == {"interrupt_id": TEXT, "response": None}
    for odd in (7, [params], None):
        json_text.read_carved(orjson.dumps({"params": odd}), *OPAQUE)


@pytest.mark.usefixtures("read_elsewhere")
async def test_what_a_large_message_of_a_websocket_lacks_is_said_on_it(api: ApiHarness) -> None:
    path = f"/threads/{await api.thread()}"
    command = {"id": 7, "method": "run.start", "params": {"assistant_id": "noop", "input": TEXT, "n": 2**63}}
    async with api.client.ws_connect(f"{path}/stream/events") as socket:
        for sent, problem in (
            (orjson.dumps(command)[:-1], "Invalid JSON in request body"),
            (orjson.dumps(command).replace(b"9223372036854775808", b"9" * 21), "params.n: an integer beyond 64 bits"),
        ):
            await socket.send_str(sent.decode())
            answer = orjson.loads(await socket.receive_str(timeout=60))
            assert (answer["error"], problem in answer["message"]) == ("invalid_argument", True), answer
    assert await api.call("GET", f"{path}/runs") == []


async def test_without_a_process_to_read_it_a_large_body_is_503(
    api: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_READ_LARGE", "threadlog.no_such_module:read")
    status, answer = await api.ask("POST", "/threads", {"metadata": {"x": TEXT}})
    assert (status, "memory" in answer["detail"]) == (503, True)
    await api.thread()
