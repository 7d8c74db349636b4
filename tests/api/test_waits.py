"""Wait and join: what the body is, however the run ends."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import asyncpg
import orjson
import pytest

from tests.waiting import eventually

from .api_harness import ApiHarness
from .checkpoints import checkpoint
from .test_streams import status

ERROR = {"error": "ValueError", "message": "kaboom"}


def waiting(api: ApiHarness, path: str, **fields: Any) -> asyncio.Task[tuple[int, Any]]:
    return asyncio.create_task(api.ask("POST", path, {"assistant_id": "noop", **fields}))


async def test_wait_answers_with_the_last_values(api: ApiHarness) -> None:
    thread_id = await api.thread()
    answer = waiting(api, f"/threads/{thread_id}/runs/wait")
    run_id = await api.in_flight(thread_id)
    frames = [("metadata", {}), ("values", {"n": 1}), ("values|child:1", {"n": 9}), ("values", {"n": 2})]
    await api.emit(thread_id, run_id, frames)
    await api.report(thread_id, run_id, "success", frames=4)
    assert await answer == (200, {"n": 2})


async def test_wait_answers_with_the_hidden_output_if_values_were_not_streamed(api: ApiHarness) -> None:
    thread_id = await api.thread()
    answer = waiting(api, f"/threads/{thread_id}/runs/wait", stream_mode="updates")
    run_id = await api.in_flight(thread_id)
    await api.report(thread_id, run_id, "success", frames=2)
    await api.emit(thread_id, run_id, [("updates", {"a": None}), ("~output", [1, "two"])])
    assert await answer == (200, [1, "two"])


async def test_a_short_wait_is_one_plain_body_and_a_long_one_starts_with_newlines(api: ApiHarness) -> None:
    thread_id = await api.thread()
    body = orjson.dumps({"assistant_id": "noop"})
    async with api.client.post(f"/threads/{thread_id}/runs/wait", data=body) as answer:
        run_id = answer.headers["Content-Location"].rpartition("/")[2]
        path = f"/threads/{thread_id}/runs/{run_id}"
        assert answer.status == 200 and answer.content_type == "application/json"
        assert answer.headers["Location"] == f"{path}/join"
        assert await answer.content.readexactly(2) == b"\n\n"
        async with api.client.get(f"{path}/join") as joined:
            assert joined.headers["Location"] == f"{path}/join"
            await api.emit(thread_id, run_id, [("values", {"n": 1})])
            _, items = checkpoint({"n": 1})
            await api.report(thread_id, run_id, "success", frames=1, items=items)
            assert orjson.loads(await answer.read()) == {"n": 1}
            assert orjson.loads(await joined.read()) == {"n": 1}
    async with api.client.get(f"{path}/join") as again:
        assert "Content-Length" in again.headers
        assert await again.read() == b'{"n":1}'


async def test_a_failure_is_an_error_in_a_200(api: ApiHarness) -> None:
    thread_id = await api.thread()
    answer = waiting(api, f"/threads/{thread_id}/runs/wait")
    run_id = await api.in_flight(thread_id)
    await api.report(thread_id, run_id, "error", error=ERROR)
    assert await answer == (200, {"__error__": ERROR})
    assert await api.call("GET", f"/threads/{thread_id}/runs/{run_id}/join") == {"__error__": ERROR}


async def test_an_interrupt_tells_of_every_task_that_waits(api: ApiHarness) -> None:
    thread_id = await api.thread()
    answer = waiting(api, f"/threads/{thread_id}/runs/wait")
    run_id = await api.in_flight(thread_id)
    one, two = {"id": "1", "value": "?"}, {"id": "2", "value": "!"}
    await api.emit(thread_id, run_id, [("values", {"n": 1, "__interrupt__": [one]})])
    interrupts = {"task-1": [one], "task-2": [two]}
    await api.report(thread_id, run_id, "success", frames=1, next=["a", "b"], interrupts=interrupts)
    shown = [{**interrupt, "response_schema": None} for interrupt in (one, two)]
    assert await answer == (200, {"n": 1, "__interrupt__": shown})
    thread = await api.call("GET", f"/threads/{thread_id}")
    assert (thread["status"], thread["interrupts"]) == ("interrupted", interrupts)


async def test_a_cancelled_run_answers_with_the_values_so_far(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    _, items = checkpoint({"n": 1})
    await api.report(thread_id, run_id, "success", items=items)
    answer = waiting(api, f"/threads/{thread_id}/runs/wait")
    second = await api.in_flight(thread_id)
    await api.emit(thread_id, second, [("values", {"n": "not saved"})])
    await api.call("POST", f"/threads/{thread_id}/runs/{second}/cancel")
    assert await answer == (200, {"n": 1})
    assert await api.call("GET", f"/threads/{thread_id}/runs/{second}/join") == {"n": 1}


async def test_a_rolled_back_run_answers_that_it_is_gone(api: ApiHarness) -> None:
    thread_id = await api.thread()
    answer = waiting(api, f"/threads/{thread_id}/runs/wait")
    run_id = await api.in_flight(thread_id)
    await api.call("POST", f"/threads/{thread_id}/runs/{run_id}/cancel?action=rollback")
    code, body = await answer
    assert code == 200 and "404: Run not found" in body["__error__"]["message"]
    assert (await api.ask("GET", f"/threads/{thread_id}/runs/{run_id}/join"))[0] == 404


async def test_joining_an_earlier_run_tells_what_that_run_left(api: ApiHarness) -> None:
    thread_id = await api.thread()
    ids = []
    parent = None
    for n in (1, 2):
        run_id = (await api.run(thread_id))["run_id"]
        parent, items = checkpoint({"n": n}, step=n, parent=parent)
        await api.report(thread_id, run_id, "success", items=items)
        ids.append(run_id)
    joined = [await api.call("GET", f"/threads/{thread_id}/runs/{run_id}/join") for run_id in ids]
    assert joined == [{"n": 1}, {"n": 2}]


async def test_stateless_wait_leaves_nothing(api: ApiHarness) -> None:
    answer = waiting(api, "/runs/wait")
    row = await eventually(lambda: api.pool.fetchrow("SELECT run_id::text, thread_id::text FROM run_queue"))
    await api.emit(row["thread_id"], row["run_id"], [("values", {"n": 1})])
    await api.report(row["thread_id"], row["run_id"], "success", frames=1)
    assert await answer == (200, {"n": 1})
    assert (await api.ask("GET", f"/threads/{row['thread_id']}"))[0] == 404


async def test_leaving_a_wait_cancels_only_if_asked(api: ApiHarness) -> None:
    for wish, expected in (("cancel", "interrupted"), ("continue", "pending")):
        thread_id = await api.thread()
        body = orjson.dumps({"assistant_id": "noop", "on_disconnect": wish})
        async with api.client.post(f"/threads/{thread_id}/runs/wait", data=body) as answer:
            run_id = answer.headers["Content-Location"].rpartition("/")[2]
            answer.close()
        await eventually(lambda: api.hub.subscriber_count == 0)
        await status(api, thread_id, run_id, expected)


async def test_a_wait_is_cut_at_shutdown_so_that_its_client_comes_back(api: ApiHarness) -> None:
    thread_id = await api.thread()
    body = orjson.dumps({"assistant_id": "noop"})
    async with api.client.post(f"/threads/{thread_id}/runs/wait", data=body) as answer:
        assert await answer.content.readexactly(1) == b"\n"
        api.hub.shutdown()
        try:
            await answer.read()
        except Exception as error:
            assert type(error).__name__ in ("ClientPayloadError", "ClientConnectionResetError", "ClientOSError")
        else:
            raise AssertionError("the body ended as if it were complete")
    code, refused = await api.ask("POST", f"/threads/{thread_id}/runs/wait", {"assistant_id": "noop"})
    assert code == 503 and "stopping" in refused["detail"]


@pytest.mark.parametrize("error", [ConnectionResetError("the database's"), asyncpg.CannotConnectNowError("starting")])
async def test_a_database_that_goes_away_while_the_result_is_read_cuts_the_answer(
    api: ApiHarness, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it got so far, headers and a newline, must not look complete; and the client was not the one that left."""
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]

    async def away(*_: object, **__: object) -> None:
        raise error

    async with api.client.get(f"/threads/{thread_id}/runs/{run_id}/join?cancel_on_disconnect=true") as answer:
        assert await answer.content.readexactly(1) == b"\n"
        monkeypatch.setattr(asyncpg.Pool, "fetchval", away)
        await api.report(thread_id, run_id, "success")
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    monkeypatch.undo()
    await status(api, thread_id, run_id, "success")


async def test_a_connection_cut_by_the_server_does_not_cancel_the_run(api: ApiHarness) -> None:
    thread_id = await api.thread()
    body = orjson.dumps({"assistant_id": "noop", "on_disconnect": "cancel"})
    async with api.client.post(f"/threads/{thread_id}/runs/wait", data=body) as answer:
        run_id = answer.headers["Content-Location"].rpartition("/")[2]
        assert await answer.content.readexactly(1) == b"\n"
        api.hub.shutdown()
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    await eventually(lambda: api.hub.subscriber_count == 0)
    assert await api.pool.fetchval("SELECT status FROM runs WHERE run_id = $1", run_id) == "pending"
