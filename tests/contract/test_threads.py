"""Contract statements 31 to 50: threads."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.installed import bulk_client, needs
from tests.waiting import eventually

from .frames import events
from .gate import Gate
from .refusals import refused
from .waiting import ended, settled

SORT_KEYS = ("thread_id", "status", "created_at", "updated_at", "state_updated_at")


@pytest.mark.contract(31)
async def test_a_thread_id_is_created_once(client: LangGraphClient) -> None:
    chosen = str(uuid4())
    first = await client.threads.create(thread_id=chosen, metadata={"n": 1})
    assert (first["thread_id"], first["metadata"]) == (chosen, {"n": 1})
    with refused(ConflictError, "already exists"):
        await client.threads.create(thread_id=chosen, metadata={"n": 2})
    again = await client.threads.create(thread_id=chosen, metadata={"n": 2}, if_exists="do_nothing")
    assert again["metadata"] == {"n": 1}


@pytest.mark.contract(32)
async def test_a_new_thread_is_idle_and_empty(client: LangGraphClient) -> None:
    created = await client.threads.create(metadata={"a": 1})
    thread = await client.threads.get(created["thread_id"])
    assert (thread["status"], thread["values"]) == ("idle", None)
    assert thread == created


@pytest.mark.contract(32)
@pytest.mark.star
async def test_a_new_thread_has_every_field(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    assert (thread["interrupts"], thread["error"], thread["config"]) == ({}, None, {})
    assert thread["state_updated_at"] == thread["created_at"]


@pytest.mark.contract(33)
async def test_the_state_of_a_new_thread_is_empty(client: LangGraphClient, thread_id: str) -> None:
    state = await client.threads.get_state(thread_id)
    assert (state["values"], state["next"], state["tasks"], state["interrupts"]) == ({}, [], [], [])
    assert state["parent_checkpoint"] is None and state["created_at"] is None
    assert await client.threads.get_history(thread_id) == []


@pytest.mark.contract(34)
async def test_patch_merges_metadata_and_touches_only_updated_at(client: LangGraphClient) -> None:
    thread = await client.threads.create(metadata={"a": 1, "deep": {"x": 1}})
    patched = await client.threads.update(thread["thread_id"], metadata={"b": 2, "deep": {"y": 2}, "none": None})
    assert patched["metadata"] == {"a": 1, "b": 2, "deep": {"y": 2}, "none": None}
    assert patched["updated_at"] > thread["updated_at"]
    assert patched["state_updated_at"] == thread["state_updated_at"]
    assert await client.threads.get(thread["thread_id"]) == patched
    with pytest.raises(NotFoundError):
        await client.threads.update(str(uuid4()), metadata={})


@needs("langgraph-sdk", "0.3.14")
@pytest.mark.contract(35)
async def test_patch_can_answer_with_nothing(client: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    answer = await http.patch(
        f"/threads/{thread_id}", json={"metadata": {"quiet": True}}, headers={"prefer": "return=minimal"}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    await client.threads.update(thread_id, metadata={"quieter": True}, return_minimal=True)
    assert (await client.threads.get(thread_id))["metadata"] == {"quiet": True, "quieter": True}


@pytest.mark.contract(36)
@pytest.mark.star
async def test_deleting_a_busy_thread_stops_its_runs_and_ends_its_streams(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    body = {"assistant_id": "gated", "input": gate.input}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        run_id = stream.headers["content-location"].rsplit("/", 1)[1]
        await gate.entered(run_id)
        await client.runs.create(thread_id, "gated", input=gate.input)
        await client.threads.delete(thread_id)
        assert "last" not in str([frame.data for frame in await events(stream)])
    for gone in (client.threads.get(thread_id), client.threads.delete(thread_id), client.runs.get(thread_id, run_id)):
        with pytest.raises(NotFoundError):
            await gone
    await gate.reached("exit", run_id)
    assert gate.journal() == [f"enter {run_id}", f"cancelled {run_id}", f"exit {run_id}"]


@pytest.mark.contract(37)
async def test_search_filters_combine(client: LangGraphClient) -> None:
    mark = str(uuid4())
    idle = await client.threads.create(metadata={"mark": mark, "deep": {"a": 1, "b": [1, 2]}})
    asked = await client.threads.create(metadata={"mark": mark})
    await client.runs.wait(idle["thread_id"], "noop", input={"items": []})
    await client.runs.wait(asked["thread_id"], "ask", input={"items": []})
    both = {idle["thread_id"], asked["thread_id"]}

    async def found(**filters: object) -> set[str]:
        rows = await client.threads.search(**{"metadata": {"mark": mark}, **filters})
        return {row["thread_id"] for row in rows}

    assert await found() == both
    assert await found(metadata={"mark": mark, "deep": {"a": 1}}) == {idle["thread_id"]}
    assert await found(metadata={"mark": mark, "deep": {"a": 2}}) == set()
    assert await found(status="interrupted") == {asked["thread_id"]}
    assert await found(status="error") == set()
    assert await found(ids=[asked["thread_id"], str(uuid4())]) == {asked["thread_id"]}
    assert await found(ids=list(both), status="idle") == {idle["thread_id"]}
    for filters in ({}, {"status": "interrupted"}):
        counted = await client.threads.count(metadata={"mark": mark}, **filters)
        assert counted == len(await found(**filters))


@pytest.mark.contract(37)
@pytest.mark.star
async def test_search_filters_by_values(client: LangGraphClient) -> None:
    mark = {"mark": str(uuid4())}
    for n in (1, 2):
        thread = await client.threads.create(metadata=mark)
        await client.runs.wait(thread["thread_id"], "noop", input={"items": [], "n": n})
    rows = await client.threads.search(metadata=mark, values={"n": 2})
    assert [row["values"]["n"] for row in rows] == [2]
    assert [row["values"]["n"] for row in await client.threads.search(metadata=mark, values={"n": 3})] == []
    assert len(await client.threads.search(metadata=mark, values={"items": ["a"]})) == 2
    assert await client.threads.count(metadata=mark, values={"n": 2}) == 1


@pytest.mark.contract(38)
@pytest.mark.parametrize("sort_by", SORT_KEYS)
async def test_search_sorts_by_every_key_both_ways(client: LangGraphClient, sort_by: str) -> None:
    mark = {"mark": str(uuid4())}
    for graph in ("flaky", "ask", None):
        thread = await client.threads.create(metadata=mark)
        if graph:
            await client.runs.wait(thread["thread_id"], graph, input={"items": [], "n": 0}, raise_error=False)
    falling = await client.threads.search(metadata=mark, sort_by=sort_by, sort_order="desc")
    rising = await client.threads.search(metadata=mark, sort_by=sort_by, sort_order="asc")
    keys = [row[sort_by] for row in rising]
    assert len(keys) == 3
    assert keys == sorted(keys)
    assert [row[sort_by] for row in falling] == keys[::-1]


@pytest.mark.contract(38)
async def test_a_limit_out_of_range_is_422(client: LangGraphClient) -> None:
    for limit in (0, 1001, -1):
        with pytest.raises(UnprocessableEntityError):
            await client.threads.search(limit=limit)
    with pytest.raises(UnprocessableEntityError):
        await client.threads.search(sort_by="name")  # type: ignore[arg-type]
    assert isinstance(await client.threads.search(limit=1000), list)


@pytest.mark.contract(38)
async def test_the_newest_thread_comes_first_by_default(client: LangGraphClient) -> None:
    mark = {"mark": str(uuid4())}
    made = [(await client.threads.create(metadata=mark))["thread_id"] for _ in range(5)]
    assert [row["thread_id"] for row in await client.threads.search(metadata=mark)] == made[::-1]
    pages = [await client.threads.search(metadata=mark, sort_by="status", limit=2, offset=at) for at in (0, 2, 4)]
    assert sorted(row["thread_id"] for page in pages for row in page) == sorted(made)


@needs("langgraph-sdk", "0.3.9")
@pytest.mark.contract(39)
async def test_extract_reads_paths_of_the_values(client: LangGraphClient) -> None:
    mark = {"mark": str(uuid4())}
    thread = await client.threads.create(metadata=mark)
    await client.runs.wait(thread["thread_id"], "chat", input={"messages": [{"role": "user", "content": "hello"}]})
    paths = {
        "last": "values.messages[-1].content",
        "first": "values.messages[0].content",
        "mark": "metadata.mark",
        "missing": "values.nothing.here",
        "beyond": "values.messages[7].content",
    }
    [row] = await client.threads.search(metadata=mark, extract=paths, select=["thread_id"])
    assert row["extracted"] == {
        "last": "You said: hello",
        "first": "hello",
        "mark": mark["mark"],
        "missing": None,
        "beyond": None,
    }
    assert "values" not in row
    with pytest.raises(UnprocessableEntityError):
        await client.threads.search(extract={f"alias{n}": "values.messages" for n in range(11)})
    with pytest.raises(UnprocessableEntityError):
        await client.threads.search(extract={"a": "password"})


@pytest.mark.contract(39)
async def test_select_returns_only_those_fields(client: LangGraphClient) -> None:
    mark = {"mark": str(uuid4())}
    thread = await client.threads.create(metadata=mark)
    rows = await client.threads.search(metadata=mark, select=["thread_id", "status"])
    assert rows == [{"thread_id": thread["thread_id"], "status": "idle"}]
    with pytest.raises(UnprocessableEntityError):
        await client.threads.search(select=["password"])  # type: ignore[list-item]


@pytest.mark.contract(40)
async def test_a_failed_thread_shows_its_error_until_the_next_success(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "flaky", input={"items": [], "n": 0})
    assert (await ended(client, thread_id, run["run_id"]))["status"] == "error"
    failed = await settled(client, thread_id)
    assert failed["status"] == "error"
    assert failed["error"] == {"error": "ValueError", "message": "kaboom"}
    assert failed["values"]["items"] == ["first"]

    await client.runs.wait(thread_id, "flaky", input={"items": [], "n": 1})
    well = await client.threads.get(thread_id)
    assert (well["status"], well["error"]) == ("idle", None)


@pytest.mark.contract(41)
async def test_an_interrupted_thread_shows_its_interrupts_by_task(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    thread = await client.threads.get(thread_id)
    state = await client.threads.get_state(thread_id)
    [task] = state["tasks"]
    assert thread["status"] == "interrupted"
    assert list(thread["interrupts"]) == [task["id"]]
    [asked] = thread["interrupts"][task["id"]]
    assert asked["value"] == {"question": "ok?"}
    assert asked["id"] == task["interrupts"][0]["id"] == state["interrupts"][0]["id"]

    await client.runs.wait(thread_id, "ask", command={"resume": "yes"})
    resumed = await client.threads.get(thread_id)
    assert (resumed["status"], resumed["interrupts"]) == ("idle", {})


@pytest.mark.contract(42)
async def test_while_a_run_is_running_the_thread_is_busy(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    assert (await client.threads.get(thread_id))["status"] == "busy"
    await gate.entered(run["run_id"])
    busy = await client.threads.get(thread_id)
    assert busy["status"] == "busy"
    assert busy["values"]["items"][:2] == ["a", "b"]
    gate.open()
    await client.runs.join(thread_id, run["run_id"])
    done = await client.threads.get(thread_id)
    assert done["status"] == "idle"
    assert done["values"]["items"] == ["a", "b", "first", "held", "last"]


@pytest.mark.contract(42)
@pytest.mark.star
async def test_the_values_of_a_busy_thread_are_those_of_its_latest_checkpoint(
    client: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    busy = await eventually(
        lambda: client.threads.get(thread_id), lambda thread: (thread["values"] or {}).get("items") == ["first"]
    )
    assert busy["status"] == "busy"
    gate.open()
    await client.runs.join(thread_id, run["run_id"])


@pytest.mark.contract(43)
async def test_a_copy_has_the_state_and_history_and_goes_its_own_way(client: LangGraphClient) -> None:
    thread = await client.threads.create(metadata={"a": 1})
    source = thread["thread_id"]
    await client.runs.wait(source, "noop", input={"items": []})
    copy = (await client.threads.copy(source))["thread_id"]
    assert copy != source
    assert (await client.threads.get(copy))["metadata"]["a"] == 1

    def story(history: list[dict]) -> list[tuple]:
        return [(at["checkpoint"]["checkpoint_id"], at["values"], at["next"]) for at in history]

    before = await client.threads.get_history(source)
    assert len(before) == 4
    copied = await client.threads.get_history(copy)
    assert story(copied) == story(before)
    assert {at["metadata"]["thread_id"] for at in copied} == {copy}
    assert await client.runs.list(copy) == []

    await client.runs.wait(copy, "noop", input={"items": ["only the copy"]})
    assert (await client.threads.get_state(copy))["values"]["items"] == ["a", "b", "only the copy", "a", "b"]
    assert await client.threads.get_history(source) == before
    await client.threads.delete(source)
    assert len(await client.threads.get_history(copy)) == 8


@pytest.mark.contract(44)
@pytest.mark.star
async def test_a_copy_of_an_interrupted_thread_can_be_resumed(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    source = await client.threads.get(thread_id)
    copy = await client.threads.copy(thread_id)
    assert (copy["status"], copy["interrupts"]) == ("interrupted", source["interrupts"])
    resumed = await client.runs.wait(copy["thread_id"], "ask", command={"resume": "yes"})
    assert resumed["items"] == ["yes", "done"]
    assert (await client.threads.get(thread_id))["status"] == "interrupted"


@pytest.mark.contract(45)
async def test_copying_a_missing_thread_is_409(client: LangGraphClient) -> None:
    with pytest.raises(ConflictError):
        await client.threads.copy(str(uuid4()))


@bulk_client
@pytest.mark.contract(46)
async def test_prune_deletes_threads(client: LangGraphClient) -> None:
    first = await client.threads.create()
    second = await client.threads.create()
    pruned = await client.threads.prune([first["thread_id"], str(uuid4())])
    assert pruned["pruned_count"] == 1
    with pytest.raises(NotFoundError):
        await client.threads.get(first["thread_id"])
    assert (await client.threads.get(second["thread_id"]))["status"] == "idle"


@bulk_client
@pytest.mark.contract(46)
@pytest.mark.star
async def test_prune_can_keep_the_latest_checkpoint(client: LangGraphClient, thread_id: str) -> None:
    for _ in range(2):
        await client.runs.wait(thread_id, "noop", input={"items": []})
    before = await client.threads.get_state(thread_id)
    assert (await client.threads.prune([thread_id], strategy="keep_latest"))["pruned_count"] == 1
    assert len(await client.threads.get_history(thread_id)) == 1
    after = await client.threads.get_state(thread_id)
    assert (after["values"], after["checkpoint"]) == (before["values"], before["checkpoint"])
    values = await client.runs.wait(thread_id, "noop", input={"items": []})
    assert values["items"] == ["a", "b"] * 3


@bulk_client
@pytest.mark.contract(48)
@pytest.mark.star
async def test_storage_grows_with_checkpoints_and_shrinks_when_pruned(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    async def storage() -> dict:
        return (await http.get(f"/threads/{thread_id}/storage")).json()

    empty = await storage()
    assert (empty["checkpoints"]["count"], empty["total_bytes"]) == (0, 0)
    await client.runs.wait(thread_id, "noop", input={"items": ["x" * 1000]})
    one = await storage()
    await client.runs.wait(thread_id, "noop", input={"items": ["y" * 1000]})
    two = await storage()
    assert (one["thread_id"], one["checkpoints"]["count"], two["checkpoints"]["count"]) == (thread_id, 4, 8)
    assert two["total_bytes"] > one["total_bytes"] > 0
    assert two["channel_values"]["by_channel"]["items"]["bytes"] > 0
    await client.threads.prune([thread_id], strategy="keep_latest")
    pruned = await storage()
    assert pruned["checkpoints"]["count"] == 1
    assert pruned["checkpoints"]["bytes"] < two["checkpoints"]["bytes"]


@pytest.mark.contract(49)
async def test_supersteps_of_a_history_make_the_same_history(client: LangGraphClient) -> None:
    source = await client.threads.create(graph_id="noop")
    await client.runs.wait(source["thread_id"], "noop", input={"items": ["in"]})
    supersteps = [
        {"updates": [{"values": {"items": ["in"]}, "as_node": "__input__"}]},
        {"updates": [{"values": {"items": ["in"]}, "as_node": "__start__"}]},
        {"updates": [{"values": {"items": ["a"]}, "as_node": "a"}]},
        {"updates": [{"values": {"items": ["b"]}, "as_node": "b"}]},
    ]
    replayed = await client.threads.create(graph_id="noop", supersteps=supersteps)

    async def story(thread_id: str) -> list[tuple]:
        history = await client.threads.get_history(thread_id)
        return [(at["values"], at["next"], at["metadata"]["step"]) for at in history]

    assert len(await story(source["thread_id"])) == 4
    assert await story(replayed["thread_id"]) == await story(source["thread_id"])


@pytest.mark.contract(50)
@pytest.mark.parametrize("metadata", [{}, pytest.param({"graph_id": "noop"}, marks=pytest.mark.star)])
async def test_supersteps_that_fail_keep_the_thread_and_explain(
    client: LangGraphClient, http: httpx.AsyncClient, metadata: dict
) -> None:
    chosen = str(uuid4())
    supersteps = [{"updates": [{"values": {"items": []}, "as_node": "nowhere"}]}]
    answer = await http.post("/threads", json={"thread_id": chosen, "metadata": metadata, "supersteps": supersteps})
    assert answer.status_code == 201
    assert chosen in answer.json()["detail"]
    assert ("nowhere" if metadata else "graph") in answer.json()["detail"]
    assert (await client.threads.get(chosen))["status"] == "idle"
