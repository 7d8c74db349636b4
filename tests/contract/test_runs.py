"""Contract statements 66 to 87: creating runs and reading them."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from tests.waiting import eventually

from .gate import Gate
from .refusals import refused
from .test_assistants import default_assistant
from .waiting import ended, settled

RUN_FIELDS = {
    "run_id",
    "thread_id",
    "assistant_id",
    "metadata",
    "status",
    "kwargs",
    "multitask_strategy",
    "created_at",
    "updated_at",
}


@pytest.mark.contract(66)
async def test_a_run_is_created_pending_and_located(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    noted = []
    run = await client.runs.create(thread_id, "noop", input={"items": []}, on_run_created=noted.append)
    assert run["status"] == "pending"
    assert set(run) >= RUN_FIELDS
    assert UUID(run["run_id"]).version == 7
    assert noted == [{"run_id": run["run_id"], "thread_id": thread_id}]
    assert run["kwargs"]["input"] == {"items": []}
    assert run["kwargs"]["stream_mode"] == ["values"]
    for tail in ("", "/stream", "/wait"):
        answer = await http.post(f"/threads/{thread_id}/runs{tail}", json={"assistant_id": "noop", "input": {}})
        location = answer.headers["content-location"]
        assert location.startswith(f"/threads/{thread_id}/runs/")
        if tail:
            resume = "/stream" if tail == "/stream" else "/join"
            assert answer.headers["location"] == location + resume


@pytest.mark.contract(67)
async def test_unknown_graph_assistant_or_thread(client: LangGraphClient, thread_id: str) -> None:
    with refused(UnprocessableEntityError, "Invalid assistant: 'nope'") as unknown_graph:
        await client.runs.create(thread_id, "nope", input={})
    assert "noop" in unknown_graph.value.message
    with refused(NotFoundError, "Thread or assistant not found"):
        await client.runs.create(thread_id, str(uuid4()), input={})
    with refused(NotFoundError, "Thread or assistant not found"):
        await client.runs.create(str(uuid4()), "noop", input={})
    assert await client.runs.list(thread_id) == []
    assert (await client.threads.get(thread_id))["status"] == "idle"


@pytest.mark.contract(68)
async def test_a_run_may_create_its_thread(client: LangGraphClient) -> None:
    chosen = str(uuid4())
    values = await client.runs.wait(chosen, "noop", input={"items": []}, if_not_exists="create")
    assert values["items"] == ["a", "b"]
    assert (await client.threads.get(chosen))["values"] == values


@pytest.mark.contract(69)
async def test_run_metadata_is_merged_from_assistant_thread_and_run(client: LangGraphClient) -> None:
    assistant = await client.assistants.create("noop", metadata={"assistant": 1, "who": "assistant"})
    thread = await client.threads.create(metadata={"thread": 1, "who": "thread"})
    run = await client.runs.create(
        thread["thread_id"], assistant["assistant_id"], input={"items": []}, metadata={"run": 1, "who": "run"}
    )
    expected = {
        "assistant": 1,
        "thread": 1,
        "run": 1,
        "who": "run",
        "graph_id": "noop",
        "assistant_id": assistant["assistant_id"],
    }
    assert expected.items() <= run["metadata"].items()
    await client.runs.join(thread["thread_id"], run["run_id"])
    marked = (await client.threads.get(thread["thread_id"]))["metadata"]
    assert (marked["graph_id"], marked["assistant_id"]) == ("noop", assistant["assistant_id"])
    by_system = await client.runs.create(thread["thread_id"], "noop", input={"items": []})
    assert by_system["metadata"]["created_by"] == "system"


@pytest.mark.contract(70)
async def test_reserved_names_are_overridden(client: LangGraphClient, thread_id: str) -> None:
    lies = dict.fromkeys(("run_id", "thread_id", "graph_id", "assistant_id", "langgraph_auth_user_id"), "mine")
    values = await client.runs.wait(
        thread_id,
        "inspect",
        input={},
        metadata={"thread_id": "mine", "run_id": "mine", "kept": "yes"},
        config={"configurable": {**lies, "own": "kept"}},
    )
    configurable = values["seen"]["configurable"]
    assert configurable["own"] == "kept"
    assert "mine" not in [configurable.get(name) for name in lies]
    [run] = await client.runs.list(thread_id)
    assert configurable["run_id"] == run["run_id"]
    assert run["metadata"].get("thread_id") != "mine" and run["metadata"].get("run_id") != "mine"
    assert run["metadata"]["kept"] == "yes"


@pytest.mark.contract(71)
async def test_a_node_sees_who_and_where_it_is(client: LangGraphClient, thread_id: str) -> None:
    values = await client.runs.wait(
        thread_id,
        "inspect",
        input={},
        context={"model": "big"},
        metadata={"mine": 1},
        headers={"x-request-id": "req-7"},
    )
    [run] = await client.runs.list(thread_id)
    seen = values["seen"]
    configurable = seen["configurable"]
    assert configurable["run_id"] == run["run_id"]
    assert configurable["thread_id"] == thread_id
    assert configurable["graph_id"] == "inspect"
    assert configurable["assistant_id"] == default_assistant("inspect")
    assert configurable["model"] == "big"
    assert {"langgraph_auth_user", "langgraph_auth_user_id", "langgraph_auth_permissions", "user_id"} <= set(
        configurable
    )
    assert configurable["langgraph_request_id"] == "req-7"
    assert seen["context"] == {"model": "big", "tone": None}
    assert seen["env"] == "from langgraph.json"
    expected = {"mine": 1, "run_attempt": 1, "run_id": run["run_id"], "thread_id": thread_id, "graph_id": "inspect"}
    assert expected.items() <= seen["metadata"].items()


@pytest.mark.contract(72)
async def test_tags_and_limit_of_the_run_replace_the_assistants(client: LangGraphClient) -> None:
    assistant = await client.assistants.create(
        "inspect", {"tags": ["assistant"], "recursion_limit": 11, "configurable": {"a": 1, "b": 1}}
    )

    async def seen(config: dict | None) -> tuple:
        values = await client.runs.wait(None, assistant["assistant_id"], input={}, config=config)
        configurable = values["seen"]["configurable"]
        return (
            values["seen"]["tags"],
            values["seen"]["recursion_limit"],
            configurable["a"],
            configurable["b"],
        )

    assert await seen(None) == (["assistant"], 11, 1, 1)
    assert await seen({"tags": ["run"], "recursion_limit": 7, "configurable": {"b": 2}}) == (["run"], 7, 1, 2)


@pytest.mark.contract(73)
async def test_runs_are_listed_newest_first(client: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    made = []
    for n in (0, 1, 2):
        run = await client.runs.create(thread_id, "flaky", input={"items": [], "n": n})
        made.append(run["run_id"])
    for run_id in made:
        await ended(client, thread_id, run_id)

    async def listed(**query: object) -> list[str]:
        return [run["run_id"] for run in await client.runs.list(thread_id, **query)]

    assert await listed() == made[::-1]
    assert await listed(limit=1) == [made[2]]
    assert await listed(limit=2, offset=1) == [made[1], made[0]]
    assert await listed(status="error") == [made[0]]
    assert await listed(status="success") == [made[2], made[1]]
    assert (await http.get(f"/threads/{thread_id}/runs?limit=0")).json() == []
    rows = await client.runs.list(thread_id, limit=1, select=["run_id", "status"])
    assert rows == [{"run_id": made[2], "status": "success"}]
    with pytest.raises(UnprocessableEntityError):
        await client.runs.list(thread_id, select=["password"])  # type: ignore[list-item]


@pytest.mark.contract(74)
async def test_a_run_is_found_only_under_its_own_thread(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "noop", input={"items": []})
    other = await client.threads.create()
    assert (await client.runs.get(thread_id, run["run_id"]))["run_id"] == run["run_id"]
    with pytest.raises(NotFoundError):
        await client.runs.get(other["thread_id"], run["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.delete(other["thread_id"], run["run_id"])


@pytest.mark.contract(75)
async def test_a_deleted_run_takes_its_checkpoints_along(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": ["first"]})
    await client.runs.wait(thread_id, "noop", input={"items": ["second"]})
    [second, first] = await client.runs.list(thread_id)
    await client.runs.delete(thread_id, second["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, second["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.delete(thread_id, second["run_id"])
    history = await client.threads.get_history(thread_id)
    assert len(history) == 4
    assert {at["metadata"]["run_id"] for at in history} == {first["run_id"]}
    assert (await client.threads.get_state(thread_id))["values"]["items"] == ["first", "a", "b"]


@pytest.mark.contract(75)
@pytest.mark.star
async def test_a_running_run_can_be_deleted(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    await client.runs.delete(thread_id, run["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, run["run_id"])
    await gate.reached("exit", run["run_id"])
    assert gate.journal(run["run_id"]) == ["enter", "cancelled", "exit"]
    assert (await settled(client, thread_id))["status"] == "idle"
    assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"] == ["a", "b"]


@pytest.mark.contract(76)
async def test_a_delayed_run_waits_its_time_and_lets_others_pass(client: LangGraphClient, thread_id: str) -> None:
    asked_at = datetime.now(UTC)
    delayed = await client.runs.create(thread_id, "inspect", input={}, after_seconds=2)
    assert (await client.runs.get(thread_id, delayed["run_id"]))["status"] == "pending"
    assert (await client.threads.get(thread_id))["status"] == "busy"
    prompt = await client.runs.create(thread_id, "inspect", input={})
    assert (await ended(client, thread_id, prompt["run_id"]))["status"] == "success"
    assert (await client.runs.get(thread_id, delayed["run_id"]))["status"] == "pending"
    assert (await ended(client, thread_id, delayed["run_id"]))["status"] == "success"
    latest = await client.threads.get_state(thread_id)
    assert latest["metadata"]["run_id"] == delayed["run_id"]
    assert datetime.fromisoformat(latest["created_at"]) >= asked_at + timedelta(seconds=2)


@pytest.mark.contract(77)
async def test_a_batch_answers_in_order(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    payloads = [{"assistant_id": "noop", "input": {"items": [n]}, "metadata": {"n": n}} for n in range(5)]
    runs = await client.runs.create_batch(payloads)
    assert [run["metadata"]["n"] for run in runs] == list(range(5))
    assert len({run["thread_id"] for run in runs}) == 5
    assert (await http.post("/runs/batch", json=[])).status_code == 422


@pytest.mark.contract(77)
@pytest.mark.star
async def test_one_bad_item_fails_the_batch(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    mark = str(uuid4())
    good = {"assistant_id": "gated", "input": {"items": []}, "metadata": {"mark": mark}, "on_completion": "keep"}
    for bad, status in (({"assistant_id": "nope"}, 422), ({"assistant_id": str(uuid4())}, 404), ({}, 422)):
        assert (await http.post("/runs/batch", json=[good, bad])).status_code == status
    assert await client.threads.search(metadata={"mark": mark}) == []


@pytest.mark.contract(78)
async def test_wait_answers_with_the_final_values_or_the_error(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    assert await client.runs.wait(thread_id, "noop", input={"items": ["in"]}) == {"items": ["in", "a", "b"]}
    body = {"assistant_id": "flaky", "input": {"items": [], "n": 0}}
    failed = await http.post(f"/threads/{thread_id}/runs/wait", json=body)
    assert failed.status_code == 200
    assert failed.json() == {"__error__": {"error": "ValueError", "message": "kaboom"}}
    with pytest.raises(Exception, match="ValueError: kaboom"):
        await client.runs.wait(thread_id, "flaky", input={"items": [], "n": 0})


@pytest.mark.contract(79)
async def test_wait_shows_the_interrupt(client: LangGraphClient, thread_id: str) -> None:
    values = await client.runs.wait(thread_id, "ask", input={"items": ["in"]})
    [interrupt] = values["__interrupt__"]
    assert values["items"] == ["in"]
    assert interrupt["value"] == {"question": "ok?"}
    assert interrupt["id"] == (await client.threads.get_state(thread_id))["interrupts"][0]["id"]


@pytest.mark.contract(80, 125)
async def test_a_long_run_is_waited_for_with_signs_of_life(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    """The heartbeats of a silent stream are seen here too, so that only one test needs these twelve seconds."""
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    location = f"/threads/{thread_id}/runs/{run['run_id']}"

    async def raw(path: str) -> bytes:
        async with http.stream("GET", path) as response:
            assert response.status_code == 200
            return b"".join([chunk async for chunk in response.aiter_raw()])

    async def open_the_gate() -> None:
        start = time.monotonic()

        async def elapsed() -> float:
            return time.monotonic() - start

        await eventually(elapsed, lambda seconds: seconds > 12)
        gate.open()

    queued = client.runs.wait(thread_id, "noop", input={"items": ["after"]})
    joined, body, stream, waited, _ = await asyncio.gather(
        client.runs.join(thread_id, run["run_id"]),
        raw(location + "/join"),
        raw(location + "/stream"),
        queued,
        open_the_gate(),
    )
    assert joined["items"] == ["first", "held", "last"]
    assert waited["items"] == ["first", "held", "last", "after", "a", "b"]
    assert body.startswith(b"\n\n") and body.count(b"\n") >= 2
    assert httpx.Response(200, content=body).json() == joined
    assert stream.count(b": heartbeat") >= 2


@pytest.mark.contract(81)
async def test_joining_a_finished_run_answers_at_once(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "noop", input={"items": []})
    await ended(client, thread_id, run["run_id"])
    assert (await client.runs.join(thread_id, run["run_id"]))["items"] == ["a", "b"]
    failed = await client.runs.create(thread_id, "flaky", input={"items": [], "n": 0})
    await ended(client, thread_id, failed["run_id"])
    assert await client.runs.join(thread_id, failed["run_id"]) == {
        "__error__": {"error": "ValueError", "message": "kaboom"}
    }


@pytest.mark.contract(82)
async def test_a_stateless_run_leaves_no_thread_unless_asked(client: LangGraphClient) -> None:
    noted = []
    for on_completion in (None, "keep"):
        values = await client.runs.wait(
            None, "noop", input={"items": []}, on_completion=on_completion, on_run_created=noted.append
        )
        assert values == {"items": ["a", "b"]}
    assert all("run_id" in note for note in noted)

    runs = [
        await client.runs.create(None, "noop", input={"items": []}, on_completion=on_completion)
        for on_completion in ("delete", "keep")
    ]
    dropped, kept = (run["thread_id"] for run in runs)
    assert (await ended(client, kept, runs[1]["run_id"]))["status"] == "success"
    assert (await client.threads.get(kept))["values"] == {"items": ["a", "b"]}
    await gone(client, dropped)


async def gone(client: LangGraphClient, thread_id: str) -> None:
    """Wait until the thread does not exist any more."""

    async def exists() -> bool:
        try:
            await client.threads.get(thread_id)
        except NotFoundError:
            return False
        return True

    await eventually(exists, lambda there: not there)


@pytest.mark.contract(83)
async def test_a_failed_or_cancelled_stateless_run_leaves_no_thread_either(client: LangGraphClient, gate: Gate) -> None:
    failing = await client.runs.create(None, "flaky", input={"items": [], "n": 0})
    await gone(client, failing["thread_id"])
    cancelled = await client.runs.create(None, "gated", input=gate.input)
    await gate.entered(cancelled["run_id"])
    assert (await client.threads.get(cancelled["thread_id"]))["status"] == "busy"
    await client.runs.cancel(cancelled["thread_id"], cancelled["run_id"])
    await gone(client, cancelled["thread_id"])


@pytest.mark.contract(84)
async def test_too_many_steps_are_an_error(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "noop", input={"items": []}, config={"recursion_limit": 1})
    assert (await ended(client, thread_id, run["run_id"]))["status"] == "error"
    thread = await settled(client, thread_id)
    assert thread["status"] == "error"
    assert thread["error"]["error"] == "GraphRecursionError"
    with pytest.raises(Exception, match="GraphRecursionError"):
        await client.runs.wait(None, "endless", input={"items": []}, config={"recursion_limit": 7})


@pytest.mark.contract(85)
@pytest.mark.parametrize(("durability", "count"), [("exit", 1), ("async", 6), ("sync", 6), (None, 6)])
async def test_durability_decides_how_many_checkpoints_stay(
    client: LangGraphClient, thread_id: str, durability: str | None, count: int
) -> None:
    run = await client.runs.create(thread_id, "four", input={"items": []}, durability=durability)
    await client.runs.join(thread_id, run["run_id"])
    history = await client.threads.get_history(thread_id)
    assert len(history) == count
    assert history[0]["values"]["items"] == ["one", "two", "three", "four"]
    assert run["kwargs"]["durability"] == (durability or "async")


@pytest.mark.contract(86)
async def test_a_run_that_ends_at_an_interrupt_succeeded(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "ask", input={"items": []})
    await client.runs.join(thread_id, run["run_id"])
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "success"
    assert (await client.threads.get(thread_id))["status"] == "interrupted"


@pytest.mark.contract(87)
async def test_a_slow_worker_does_not_change_a_final_status(
    client: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(thread_id, "blocking", input=gate.input)
    await gate.entered(run["run_id"])
    await client.runs.cancel(thread_id, run["run_id"])
    await eventually(lambda: client.runs.get(thread_id, run["run_id"]), lambda run: run["status"] == "interrupted")
    gate.open()
    await gate.reached("exit", run["run_id"])
    await client.runs.wait(thread_id, "noop", input={"items": []})
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
