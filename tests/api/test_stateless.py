"""Stateless runs: their thread lives as long as they do, their stream a little longer."""

from __future__ import annotations

from uuid import UUID, uuid4

import uuid_utils

from threadlog.engine.ids import stateless_thread_id

from .api_harness import ApiHarness
from .sse import read_all


def test_the_thread_of_a_stateless_run_is_made_from_its_id() -> None:
    run_id = str(uuid_utils.uuid7())
    made = UUID(stateless_thread_id(run_id))
    assert str(made) == stateless_thread_id(run_id) != run_id
    assert (made.version, made.variant) == (7, UUID(run_id).variant)
    assert made.bytes[:6] == UUID(run_id).bytes[:6]


async def test_a_stateless_run_is_found_by_its_id_alone(api: ApiHarness) -> None:
    async with api.client.post("/runs", json={"assistant_id": "noop", "on_completion": "keep"}) as answer:
        run = await answer.json()
        assert answer.headers["Content-Location"] == f"/threads/{run['thread_id']}/runs/{run['run_id']}"
    assert run["kwargs"]["temporary"] is False
    assert await api.call("GET", f"/runs/{run['run_id']}") == run
    await api.report(run["thread_id"], run["run_id"], "success")
    assert (await api.call("GET", f"/threads/{run['thread_id']}"))["metadata"]["graph_id"] == "noop"


async def test_after_its_end_a_stateless_run_can_be_streamed_again_for_a_while(api: ApiHarness) -> None:
    run = await api.call("POST", "/runs", {"assistant_id": "noop", "stream_resumable": True})
    run_id, thread_id = run["run_id"], run["thread_id"]
    assert run["kwargs"]["temporary"] is True
    await api.emit(thread_id, run_id, [("metadata", {"run_id": run_id, "attempt": 1}), ("values", {"n": 1})])
    await api.emit(thread_id, run_id, [("values", {"n": 2})], seq=2)
    await api.report(thread_id, run_id, "success", frames=3)
    assert (await api.ask("GET", f"/runs/{run_id}"))[0] == 404
    assert (await api.ask("GET", f"/threads/{thread_id}"))[0] == 404
    assert (await api.ask("GET", f"/runs/{run_id}/stream"))[0] == 404
    replayed = await read_all(api, f"/runs/{run_id}/stream", last_event_id="-1")
    assert [(e.name, e.data) for e in replayed][1:] == [("values", {"n": 1}), ("values", {"n": 2})]
    rest = await read_all(api, f"/runs/{run_id}/stream", last_event_id=replayed[1].id)
    assert [(e.name, e.data, e.id) for e in rest] == [("values", {"n": 2}, replayed[2].id)]
    assert await api.call("GET", f"/runs/{run_id}/join") == {"n": 2}


async def test_who_comes_back_before_the_end_of_a_stateless_run_gets_its_result(api: ApiHarness) -> None:
    """The last values went by while the client was away, and the thread goes with the end."""
    run = await api.call("POST", "/runs", {"assistant_id": "noop"})
    run_id, thread_id = run["run_id"], run["thread_id"]
    await api.emit(thread_id, run_id, [("values", {"n": 1}), ("values", {"n": 2})])
    async with api.client.get(f"/runs/{run_id}/join") as answer:
        assert await answer.content.readexactly(1) == b"\n"
        await api.report(thread_id, run_id, "success", frames=2)
        assert await answer.json() == {"n": 2}


async def test_what_failed_is_told_after_its_end(api: ApiHarness) -> None:
    run = await api.call("POST", "/runs", {"assistant_id": "noop"})
    run_id, thread_id = run["run_id"], run["thread_id"]
    error = {"error": "ValueError", "message": "kaboom"}
    await api.emit(thread_id, run_id, [("values", {"n": 1}), ("error", error)])
    await api.report(thread_id, run_id, "error", frames=2, error=error)
    assert await api.call("GET", f"/runs/{run_id}/join") == {"__error__": error}


async def test_a_run_that_never_was_is_not_found(api: ApiHarness) -> None:
    unknown = str(uuid4())
    for path in ("", "/stream", "/join"):
        assert (await api.ask("GET", f"/runs/{unknown}{path}", headers={"Last-Event-ID": "-1"}))[0] == 404
    # A thread that was deleted does not make a run of it stateless.
    thread_id = await api.thread()
    run = await api.run(thread_id)
    await api.call("DELETE", f"/threads/{thread_id}")
    status, _ = await api.ask("GET", f"/runs/{run['run_id']}/stream", headers={"Last-Event-ID": "-1"})
    assert status == 404


async def test_batch_checks_all_before_it_creates_any(api: ApiHarness) -> None:
    good = {"assistant_id": "noop", "metadata": {"n": 1}}
    status, answer = await api.ask("POST", "/runs/batch", [good, {"assistant_id": "nope"}])
    assert status == 422 and answer["detail"].startswith("[1] Invalid assistant")
    assert await api.pool.fetchval("SELECT count(*) FROM runs") == 0
    runs = await api.call("POST", "/runs/batch", [{**good, "metadata": {"n": n}} for n in range(5)])
    assert [run["metadata"]["n"] for run in runs] == list(range(5))
    assert len({run["thread_id"] for run in runs}) == 5
