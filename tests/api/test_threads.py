"""Threads: create, read, change, delete, search, copy, state; with checkpoints that the tests report themselves."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from threadlog.api.settings import ApiSettings
from threadlog.engine.compression.codec import unpack_record
from threadlog.engine.domain.expiry import Ttl

from .api_harness import ApiHarness, api_harness
from .checkpoints import checkpoint


async def saved(api: ApiHarness, thread_id: str, *values: dict[str, Any], **outcome: Any) -> list[str]:
    """Runs on the thread, each leaving one checkpoint; returns the checkpoints' ids."""
    ids: list[str] = []
    for step, one in enumerate(values):
        run_id = (await api.run(thread_id))["run_id"]
        parent = ids[-1] if ids else None
        checkpoint_id, items = checkpoint(one, step=step, parent=parent)
        await api.report(thread_id, run_id, "success", items=items, checkpoint_id=checkpoint_id, **outcome)
        ids.append(checkpoint_id)
    return ids


async def test_a_thread_is_described_alike_when_created_and_when_read(api: ApiHarness) -> None:
    made = await api.call("POST", "/threads", {"metadata": {"a": 1}})
    assert set(made) == {
        "thread_id", "created_at", "updated_at", "state_updated_at", "metadata", "status", "config", "values",
        "error", "interrupts",
    }  # fmt: skip
    assert (made["status"], made["values"], made["interrupts"]) == ("idle", None, {})
    assert await api.call("GET", f"/threads/{made['thread_id']}") == made


async def test_an_existing_thread_is_a_conflict_or_left_as_it_is(api: ApiHarness) -> None:
    chosen = str(uuid4())
    made = await api.call("POST", "/threads", {"thread_id": chosen.upper(), "metadata": {"n": 1}})
    assert made["thread_id"] == chosen
    code, answer = await api.ask("POST", "/threads", {"thread_id": chosen})
    assert code == 409 and chosen in answer["detail"]
    again = await api.call("POST", "/threads", {"thread_id": chosen, "metadata": {"n": 2}, "if_exists": "do_nothing"})
    assert again == made


async def test_patch_merges_and_may_answer_nothing(api: ApiHarness) -> None:
    made = await api.call("POST", "/threads", {"metadata": {"a": 1, "b": {"x": 1}}})
    path = f"/threads/{made['thread_id']}"
    patched = await api.call("PATCH", path, {"metadata": {"b": {"y": 2}, "c": None}})
    assert patched["metadata"] == {"a": 1, "b": {"y": 2}, "c": None}
    assert patched["updated_at"] > made["updated_at"] and patched["state_updated_at"] == made["state_updated_at"]
    async with api.client.patch(path, json={"metadata": {"d": 1}}, headers={"Prefer": "return=minimal"}) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    assert (await api.call("GET", path))["metadata"]["d"] == 1
    assert (await api.ask("PATCH", f"/threads/{uuid4()}", {"metadata": {}}))[0] == 404


async def test_a_time_to_live_that_a_thread_has_is_told_on_request(api: ApiHarness) -> None:
    thread_id = await api.thread()
    path = f"/threads/{thread_id}"
    assert (await api.call("GET", f"{path}?include=ttl"))["ttl"] is None
    await api.call("PATCH", path, {"ttl": {"strategy": "keep_latest", "ttl": 5}})
    thread = await api.call("GET", path)
    assert "ttl" not in thread
    ttl = (await api.call("GET", f"{path}?include=ttl"))["ttl"]
    assert (ttl["strategy"], ttl["ttl_minutes"]) == ("keep_latest", 5) and ttl["expires_at"] > thread["updated_at"]
    assert (await api.ask("GET", f"{path}?include=mood"))[0] == 422
    copied = (await api.call("POST", f"{path}/copy"))["thread_id"]
    assert (await api.call("GET", f"/threads/{copied}?include=ttl"))["ttl"]["ttl_minutes"] == 5
    await api.call("PATCH", path, {"ttl": 7.5})
    ttl = (await api.call("GET", f"{path}?include=ttl"))["ttl"]
    assert (ttl["strategy"], ttl["ttl_minutes"]) == ("delete", 7.5)


async def test_threads_have_the_ttl_of_the_settings_however_they_are_made(database: str) -> None:
    async with api_harness(database, ApiSettings(thread_ttl=Ttl("keep_latest", 9))) as api:
        await api.register("noop")

        async def ttl_of(thread_id: str) -> Any:
            ttl = (await api.call("GET", f"/threads/{thread_id}?include=ttl"))["ttl"]
            return ttl and (ttl["strategy"], ttl["ttl_minutes"])

        by_run = str(uuid4())
        await api.run(by_run, if_not_exists="create")
        kept = await api.call("POST", "/runs", {"assistant_id": "noop", "on_completion": "keep"})
        gone_anyway = await api.call("POST", "/runs", {"assistant_id": "noop"})
        assert [await ttl_of(thread_id) for thread_id in (await api.thread(), by_run, kept["thread_id"])] == [
            ("keep_latest", 9)
        ] * 3
        assert await ttl_of(gone_anyway["thread_id"]) is None
        assert await ttl_of(await api.thread(ttl={"ttl": 3})) == ("delete", 3)


async def test_metadata_that_the_server_sets_is_not_a_clients_to_set(api: ApiHarness) -> None:
    own = {"graph_id": "noop", "assistant_id": "a", "run_id": "b", "thread_id": "c", "mine": 1}
    made = await api.call("POST", "/threads", {"metadata": own})
    kept = {"graph_id": "noop", "mine": 1}
    path = f"/threads/{made['thread_id']}"
    assert made["metadata"] == kept == (await api.call("GET", path))["metadata"]
    assert (await api.call("PATCH", path, {"metadata": {**own, "mine": 2}}))["metadata"] == {**kept, "mine": 2}
    run = await api.run(made["thread_id"])
    assert run["metadata"]["assistant_id"] == run["assistant_id"]
    thread = await api.call("PATCH", path, {"metadata": own})
    assert thread["metadata"]["assistant_id"] == run["assistant_id"]


async def test_deleting_twice_is_404(api: ApiHarness) -> None:
    thread_id = await api.thread()
    await api.run(thread_id)
    await api.call("DELETE", f"/threads/{thread_id}")
    assert (await api.ask("DELETE", f"/threads/{thread_id}"))[0] == 404
    assert (await api.ask("GET", f"/threads/{thread_id}/state"))[0] == 404
    assert (await api.ask("GET", f"/threads/{thread_id}/stream"))[0] == 404


async def test_values_are_those_of_the_newest_checkpoint(api: ApiHarness) -> None:
    thread_id = await api.thread()
    ids = await saved(api, thread_id, {"n": 1}, {"n": 2, "text": "ü"})
    thread = await api.call("GET", f"/threads/{thread_id}")
    assert thread["values"] == {"n": 2, "text": "ü"}
    path = f"/threads/{thread_id}"
    state = await api.call("GET", f"{path}/state")
    assert (state["values"], state["next"], state["checkpoint_id"]) == ({"n": 2, "text": "ü"}, [], ids[1])
    assert state["parent_checkpoint_id"] == ids[0]
    history = await api.call("POST", f"{path}/history", {"limit": 10})
    assert [h["checkpoint_id"] for h in history] == ids[::-1]
    assert len(await api.call("POST", f"{path}/history", {})) == 1
    assert len(await api.call("GET", f"{path}/history")) == 2
    assert await api.call("GET", f"{path}/state/{ids[0]}") == history[1]
    assert await api.call("POST", f"{path}/state/checkpoint", {"checkpoint": {"checkpoint_id": ids[0]}}) == history[1]
    for before in (ids[1], {"checkpoint_id": ids[1]}, {"configurable": {"checkpoint_id": ids[1]}}):
        assert await api.call("POST", f"{path}/history", {"limit": 5, "before": before}) == history[1:]
    assert await api.call("GET", f"{path}/history?before={ids[1]}") == history[1:]
    assert await api.call("POST", f"{path}/history", {"limit": 5, "metadata": {"step": 1}}) == history[:1]
    assert (await api.ask("POST", f"{path}/history", {"before": {"other": 1}}))[0] == 422


async def test_a_checkpoint_that_is_not_there_is_the_empty_state(api: ApiHarness) -> None:
    thread_id = await api.thread()
    empty = await api.call("GET", f"/threads/{thread_id}/state")
    assert (empty["values"], empty["next"], empty["tasks"], empty["interrupts"]) == ({}, [], [], [])
    assert empty["checkpoint"] is empty["metadata"] is empty["created_at"] is None
    assert await api.call("GET", f"/threads/{thread_id}/state/anything") == empty
    assert await api.call("POST", f"/threads/{thread_id}/history", {}) == []
    for path in ("state", f"state/{uuid4()}", "history"):
        assert (await api.ask("GET", f"/threads/{uuid4()}/{path}"))[0] == 404


async def test_search_filters_combine(api: ApiHarness) -> None:
    kinds = []
    for n in range(4):
        thread_id = await api.thread(metadata={"deep": {"odd": n % 2 == 1}, "list": [n, "x"]})
        if n < 3:
            await saved(api, thread_id, {"n": n % 2, "items": [{"k": n}, "x"]})
        kinds.append(thread_id)

    async def found(**body: Any) -> set[int]:
        rows = await api.call("POST", "/threads/search", body)
        if "ids" not in body:
            only = {k: v for k, v in body.items() if k in ("metadata", "values", "status")}
            assert await api.call("POST", "/threads/count", only) == len(rows)
        return {kinds.index(row["thread_id"]) for row in rows}

    assert await found() == {0, 1, 2, 3}
    assert await found(metadata={"deep": {"odd": True}}) == {1, 3}
    assert await found(metadata={"list": ["x", 2]}) == {2}
    assert await found(values={"n": 0}) == {0, 2}
    assert await found(values={"n": 0}, metadata={"list": [2]}) == {2}
    assert await found(values={"items": [{"k": 1}]}) == {1}
    assert await found(values={"items": "x"}) == set()
    assert await found(values={"n": False}) == set()
    assert await found(ids=[kinds[0], kinds[3], str(uuid4())]) == {0, 3}
    assert await found(ids=[kinds[0], kinds[3]], values={"n": 0}) == {0}
    assert await found(ids=[]) == set()
    busy = await api.run(kinds[3])
    assert await found(status="busy") == {3}
    assert await found(status="idle", values={"n": 1}) == {1}
    assert busy["thread_id"] == kinds[3]


@pytest.mark.parametrize("by_values", [False, True])
@pytest.mark.parametrize("sort_by", ["thread_id", "status", "created_at", "updated_at", "state_updated_at"])
async def test_pages_neither_repeat_nor_skip(api: ApiHarness, sort_by: str, by_values: bool) -> None:
    made = []
    for _ in range(5):
        made.append(await api.thread())
        await saved(api, made[-1], {"n": 1})
    await api.pool.execute("UPDATE threads SET created_at = now(), updated_at = now(), state_updated_at = now()")
    seen: dict[str, list[str]] = {}
    for order in ("asc", "desc"):
        offset: str | None = "0"
        seen[order] = []
        while offset is not None:
            body = {"limit": 2, "offset": int(offset), "sort_by": sort_by, "sort_order": order}
            if by_values:
                body["values"] = {"n": 1}
            async with api.client.post("/threads/search", json=body) as answer:
                rows = await answer.json()
                seen[order] += [row["thread_id"] for row in rows]
                assert all(row["values"] == {"n": 1} for row in rows)
                offset = answer.headers.get("X-Pagination-Next")
                total = int(answer.headers["X-Pagination-Total"])
                assert total == len(seen[order]) + (offset is not None)
    assert seen["asc"] == seen["desc"][::-1] == sorted(made)


async def test_select_and_extract(api: ApiHarness) -> None:
    thread_id = await api.thread(metadata={"a": {"b.c": 1, "d": [1, [2, 3]]}})
    await saved(api, thread_id, {"messages": [{"content": "one"}, {"content": "two"}], "n": 7})
    (row,) = await api.call("POST", "/threads/search", {"select": ["thread_id", "status"]})
    assert row == {"thread_id": thread_id, "status": "idle"}
    extract = {
        "last": "values.messages[-1].content",
        "first": "values.messages[0].content",
        "none": "values.messages[5].content",
        "wrong": "values.n.deeper",
        "all": "values",
        "meta": "metadata.a.d[1][0]",
        "config": "config.configurable.x",
        "waits": "interrupts.task",
    }
    (row,) = await api.call("POST", "/threads/search", {"select": ["thread_id"], "extract": extract})
    assert set(row) == {"thread_id", "extracted"}
    assert row["extracted"] == {
        "last": "two", "first": "one", "none": None, "wrong": None, "meta": 2, "config": None, "waits": None,
        "all": {"messages": [{"content": "one"}, {"content": "two"}], "n": 7},
    }  # fmt: skip
    code, _ = await api.ask("POST", "/threads/search", {"extract": {f"a{n}": "values.n" for n in range(11)}})
    assert code == 422


async def test_a_copy_has_state_history_and_status_of_its_own(api: ApiHarness) -> None:
    thread_id = await api.thread(metadata={"a": 1})
    ids = await saved(api, thread_id, {"n": 1, "long": "x" * 90}, {"n": 2})
    interrupts = {"task": [{"id": "i", "value": "?"}]}
    run_id = (await api.run(thread_id))["run_id"]
    _, items = checkpoint({"n": 3}, step=2, parent=ids[-1], next_=("a",))
    await api.report(thread_id, run_id, "success", items=items, next=["a"], interrupts=interrupts)
    source = await api.call("GET", f"/threads/{thread_id}")
    copy = await api.call("POST", f"/threads/{thread_id}/copy")
    assert copy["thread_id"] != thread_id
    assert (source["status"], source["interrupts"]) == ("interrupted", interrupts)
    for field in ("metadata", "status", "interrupts", "values", "config"):
        assert copy[field] == source[field], field
    histories = [await api.call("POST", f"/threads/{i}/history", {"limit": 10}) for i in (thread_id, copy["thread_id"])]
    assert len(histories[0]) == 3
    for old, new in zip(*histories, strict=True):
        assert (new["values"], new["next"], new["checkpoint_id"]) == (old["values"], old["next"], old["checkpoint_id"])
        assert new["checkpoint"]["thread_id"] == copy["thread_id"]
    await saved(api, copy["thread_id"], {"n": 4})
    assert (await api.call("GET", f"/threads/{thread_id}"))["values"] == {"n": 3}
    assert await api.call("GET", f"/threads/{copy['thread_id']}/runs") != []
    code, answer = await api.ask("POST", f"/threads/{uuid4()}/copy")
    assert (code, answer["detail"]) == (409, "Conflict")


async def test_a_long_copy_travels_in_parts(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    items: list[dict[str, Any]] = []
    for step in range(60):
        _, one = checkpoint({"n": step}, step=step)
        one[0]["metadata"]["bulk"] = "y" * 20_000
        items += one
    await api.report(thread_id, run_id, "success", items=items)
    copy = await api.call("POST", f"/threads/{thread_id}/copy")
    assert len(await api.call("POST", f"/threads/{copy['thread_id']}/history", {"limit": 1000})) == 60
    stored = await api.pool.fetch("SELECT value FROM log_commands WHERE key = $1", copy["thread_id"])
    assert 100_000 < max(len(unpack_record(row["value"])) for row in stored) < 600_000


async def test_pruning(api: ApiHarness) -> None:
    one, two = await api.thread(), await api.thread()
    await saved(api, one, {"n": 1}, {"n": 2})
    before = await api.call("GET", f"/threads/{one}/storage")
    assert (before["checkpoints"]["count"], set(before["channel_values"]["by_channel"])) == (2, {"n"})
    assert before["total_bytes"] > 0
    body = {"thread_ids": [one, one, str(uuid4())], "strategy": "keep_latest"}
    assert await api.call("POST", "/threads/prune", body) == {"pruned_count": 1}
    after = await api.call("GET", f"/threads/{one}/storage")
    assert after["checkpoints"]["count"] == 1 and after["total_bytes"] < before["total_bytes"]
    assert (await api.call("GET", f"/threads/{one}/state"))["values"] == {"n": 2}
    assert await api.call("POST", "/threads/prune", {"thread_ids": [one, two]}) == {"pruned_count": 2}
    assert (await api.ask("GET", f"/threads/{one}"))[0] == 404
    assert (await api.ask("GET", f"/threads/{one}/storage"))[0] == 404
