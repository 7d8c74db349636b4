"""Idempotency keys: every write, cut off at each of its commands and sent again, happens once, with one answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import orjson
import pytest

from tests.waiting import eventually
from threadlog.api.app import ROUTES
from threadlog.api.settings import ApiSettings
from threadlog.engine.domain.commands import Command, ReportRun
from threadlog.engine.domain.keyed_request import KEYED
from threadlog.engine.ids import new_id
from threadlog.engine.log.port import LogUnavailable, Topic
from threadlog.engine.log.unreadable import event_in
from threadlog.engine.processor.ports import Decided, Gateway

from .api_harness import ApiHarness, api_harness
from .checkpoints import checkpoint

SILENT = {"command.rejected", "command.repeated", "report.fenced"}
Request = tuple[str, str, Any]
Answer = tuple[int, dict[str, str], bytes]


class FailingGateway:
    """The gateway of an api that dies with the n-th command: before it is sent, or (`late`) before its reply."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.left: int | None = None
        self.late = False

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        if self.left is not None:
            self.left -= 1
            if self.left < 0 or (self.left == 0 and not self.late):
                raise LogUnavailable("it has died")
            if self.left == 0:
                await self.gateway.submit(command, id=id, actor=actor)
                raise LogUnavailable("it has died")
        return await self.gateway.submit(command, id=id, actor=actor)


class World:
    """An api that fails when it is told to, and what executes its runs."""

    def __init__(self, api: ApiHarness, failing: FailingGateway) -> None:
        self.api, self.failing = api, failing
        self.asks = False  # what runs do instead of ending

    async def send(self, request: Request, key: str | None, **headers: str) -> Answer:
        method, path, body = request
        if key is not None:
            headers["Idempotency-Key"] = key
        data = None if body is None else orjson.dumps(body)
        try:
            async with self.api.client.request(method, path, data=data, headers=headers) as answer:
                return answer.status, dict(answer.headers), await answer.read()
        except aiohttp.ClientError:  # a stream that was cut off
            return 503, {}, b""

    async def effects(self) -> Counter[str]:
        """By command id, how often commands of keyed requests have changed something."""
        counted: Counter[str] = Counter()
        for p in range(self.api.log.partitions):
            at, end = await self.api.log.bounds(Topic.EVENTS, p)
            while at < end:
                records = await self.api.log.read(Topic.EVENTS, p, at, end=end)
                at = records[-1].offset + 1
                for record in filter(None, map(event_in, records)):
                    if record.cmd_id.startswith(KEYED) and any(e["type"] not in SILENT for e in record.events):
                        counted[record.cmd_id] += 1
        return counted

    async def execute(self) -> None:
        """Ends every run and state update at once, as an executor would."""
        while True:
            rows = await self.api.pool.fetch("SELECT run_id::text, thread_id::text, attempt FROM run_queue")
            for row in rows:
                await self.api.emit(row["thread_id"], row["run_id"], [("values", {"n": 1})], attempt=row["attempt"])
                place = {"thread_id": row["thread_id"], "checkpoint_ns": "", "checkpoint_id": "cp"}
                _, items = checkpoint({"n": 1})
                outcome = {
                    "status": "success", "next": [], "interrupts": {}, "checkpoint_id": None, "frames": 1,
                    "result": {"checkpoint": place, "configurable": place},
                }  # fmt: skip
                if self.asks:
                    outcome |= {"next": ["n"], "interrupts": {"task": [{"id": "question", "value": 1}]}}
                report = ReportRun(
                    thread_id=row["thread_id"], run_id=row["run_id"], attempt=row["attempt"], items=items,
                    outcome=outcome,
                )  # fmt: skip
                await self.api.gateway.submit(report)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(database: str, *, executes: bool, **options: Any) -> AsyncIterator[World]:
    gateways: list[FailingGateway] = []

    def around(gateway: Gateway) -> Gateway:
        gateways.append(FailingGateway(gateway))
        return gateways[0]

    settings = ApiSettings(heartbeat_seconds=0.2, frame_wait_seconds=5, idempotency_wait_seconds=0, **options)
    async with api_harness(database, settings, around=around) as api:
        world = World(api, gateways[0])
        await api.register("noop")
        executor = asyncio.create_task(world.execute()) if executes else None
        try:
            yield world
        finally:
            if executor is not None:
                executor.cancel()
                with suppress(asyncio.CancelledError):
                    await executor


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with opened(database, executes=True) as made:
        yield made


@pytest.fixture
async def still(database: str) -> AsyncIterator[World]:
    """Without an executor: runs stay pending."""
    async with opened(database, executes=False) as made:
        yield made


# --- every write -----------------------------------------------------------------------------------------------------

RUN = {"assistant_id": "noop", "input": {"x": 1}}
CRON = {"assistant_id": "noop", "schedule": "0 0 1 1 *"}
ITEM = {"namespace": ["a"], "key": "k"}


async def _thread(world: World, **fields: Any) -> str:
    return await world.api.thread(metadata={"graph_id": "noop"}, **fields)


async def _assistant(world: World) -> str:
    made = await world.api.call("POST", "/assistants", {"graph_id": "noop", "name": "a"})
    await world.api.call("PATCH", f"/assistants/{made['assistant_id']}", {"metadata": {"v": 2}})
    return str(made["assistant_id"])


async def _cron(world: World) -> str:
    return str((await world.api.call("POST", "/runs/crons", CRON))["cron_id"])


async def _later(world: World) -> tuple[str, str]:
    """A run that waits to begin."""
    thread_id = await _thread(world)
    return thread_id, (await world.api.run(thread_id, after_seconds=1000))["run_id"]


def _rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


_MESSAGE = {"role": "user", "messageId": "m", "parts": [{"kind": "data", "data": {"items": []}}]}
Make = Callable[[World], Awaitable[Request]]


async def _cancel(world: World) -> Request:
    thread_id, run_id = await _later(world)
    return "POST", f"/threads/{thread_id}/runs/{run_id}/cancel", None


async def _cancel_stateless(world: World) -> Request:
    return "POST", f"/runs/{(await _later(world))[1]}/cancel?action=rollback", None


async def _cancel_many(world: World) -> Request:
    thread_id, run_id = await _later(world)
    return "POST", "/runs/cancel", {"thread_id": thread_id, "run_ids": [run_id]}


async def _delete_run(world: World) -> Request:
    thread_id, run_id = await _later(world)
    return "DELETE", f"/threads/{thread_id}/runs/{run_id}", None


async def _delete_item(world: World) -> Request:
    await world.api.call("PUT", "/store/items", {**ITEM, "value": {"v": 1}})
    return "DELETE", "/store/items", ITEM


async def _prune(world: World) -> Request:
    return "POST", "/threads/prune", {"thread_ids": [await _thread(world), await _thread(world)], "strategy": "delete"}


async def _respond(world: World) -> Request:
    """To a thread that waits for an answer."""
    thread_id, world.asks = await _thread(world), True
    await world.api.run(thread_id)
    path = f"/threads/{thread_id}"
    await eventually(lambda: world.api.call("GET", path), lambda thread: thread["status"] == "interrupted")
    world.asks = False
    params = {"namespace": [], "interrupt_id": "question", "response": "yes"}
    return "POST", f"{path}/commands", {"id": 1, "method": "input.respond", "params": params}


def _at(method: str, path: str, body: Any = None, **made: Callable[[World], Awaitable[str]]) -> Make:
    async def make(world: World) -> Request:
        return method, path.format(**{name: await maker(world) for name, maker in made.items()}), body

    return make


STATELESS_CANCEL = next(r.path for r in ROUTES if r.path.startswith("/runs/{run_id:") and r.path.endswith("/cancel"))
WRITES: dict[tuple[str, str], Make] = {
    ("POST", "/runs/crons"): _at("POST", "/runs/crons", CRON),
    ("POST", "/threads/{thread_id}/runs/crons"): _at("POST", "/threads/{t}/runs/crons", CRON, t=_thread),
    ("PATCH", "/runs/crons/{cron_id}"): _at("PATCH", "/runs/crons/{c}", {"metadata": {"m": 1}}, c=_cron),
    ("DELETE", "/runs/crons/{cron_id}"): _at("DELETE", "/runs/crons/{c}", c=_cron),
    ("POST", "/threads/{thread_id}/runs/wait"): _at("POST", "/threads/{t}/runs/wait", RUN, t=_thread),
    ("POST", "/threads/{thread_id}/runs/stream"): _at("POST", "/threads/{t}/runs/stream", RUN, t=_thread),
    ("POST", "/threads/{thread_id}/runs"): _at("POST", "/threads/{t}/runs", RUN, t=_thread),
    ("POST", "/runs/wait"): _at("POST", "/runs/wait", RUN),
    ("POST", "/runs/stream"): _at("POST", "/runs/stream", RUN),
    ("POST", "/runs"): _at("POST", "/runs", RUN),
    ("POST", "/runs/batch"): _at("POST", "/runs/batch", [RUN, RUN, RUN]),
    ("POST", "/runs/cancel"): _cancel_many,
    ("DELETE", "/threads/{thread_id}/runs/{run_id}"): _delete_run,
    ("POST", "/threads/{thread_id}/runs/{run_id}/cancel"): _cancel,
    ("POST", STATELESS_CANCEL): _cancel_stateless,
    ("POST", "/threads"): _at("POST", "/threads", {"metadata": {"a": 1}}),
    ("POST", "/threads/prune"): _prune,
    ("PATCH", "/threads/{thread_id}"): _at("PATCH", "/threads/{t}", {"metadata": {"a": 2}}, t=_thread),
    ("DELETE", "/threads/{thread_id}"): _at("DELETE", "/threads/{t}", t=_thread),
    ("POST", "/threads/{thread_id}/state"): _at("POST", "/threads/{t}/state", {"values": {"n": 2}}, t=_thread),
    ("PATCH", "/threads/{thread_id}/state"): _at("PATCH", "/threads/{t}/state", {"metadata": {"a": 3}}, t=_thread),
    ("POST", "/threads/{thread_id}/copy"): _at("POST", "/threads/{t}/copy", t=_thread),
    ("POST", "/threads/{thread_id}/commands"): _at(
        "POST", "/threads/{t}/commands",
        {"id": 1, "method": "run.start", "params": {"assistant_id": "noop", "input": {"x": 1}}}, t=_thread,
    ),
    ("POST", "/assistants"): _at("POST", "/assistants", {"graph_id": "noop"}),
    ("PATCH", "/assistants/{assistant_id}"): _at("PATCH", "/assistants/{a}", {"metadata": {"a": 1}}, a=_assistant),
    ("DELETE", "/assistants/{assistant_id}"): _at("DELETE", "/assistants/{a}", a=_assistant),
    ("POST", "/assistants/{assistant_id}/latest"): _at("POST", "/assistants/{a}/latest", {"version": 1}, a=_assistant),
    ("PUT", "/store/items"): _at("PUT", "/store/items", {**ITEM, "value": {"v": 1}}),
    ("DELETE", "/store/items"): _delete_item,
    ("POST", "/mcp"): _at("POST", "/mcp", _rpc("tools/call", name="noop", arguments={})),
    ("POST", "/mcp/"): _at("POST", "/mcp/", _rpc("tools/call", name="noop", arguments={})),
    ("POST", "/a2a/{assistant_id}"): _at("POST", "/a2a/noop", _rpc("message/send", message=_MESSAGE)),
}  # fmt: skip
STREAMED = ("/runs/stream",)
MADE_ANEW = (*STREAMED, "/copy")  # what the first attempt has seen, and answers that hold times of reports, may differ


def test_every_write_is_listed_here() -> None:
    assert {(route.method, route.path) for route in ROUTES if route.writes} == WRITES.keys()


@pytest.mark.parametrize("write", [*WRITES.values(), _respond], ids=[*map(" ".join, WRITES), "input.respond"])
@pytest.mark.parametrize("late", [False, True], ids=["before a command", "before its reply"])
async def test_a_write_cut_off_at_each_of_its_commands_takes_effect_once(world: World, write: Make, late: bool) -> None:
    request = await write(world)
    plain_key, key = new_id(), new_id()
    world.failing.late = late
    for n in range(1, 20):
        world.failing.left = 1 if late or n == 1 else 2
        status, headers, body = await world.send(request, key)
        if status < 500:
            break
    assert status < 300, (status, body)
    assert n > 2, "it was cut off at least at its key and at its command"
    world.failing.left = None
    effects = await world.effects()
    assert effects and set(effects.values()) == {1}, effects
    await world.send(request, key)  # records what had left in pieces when its api died
    again = await world.send(request, key)
    assert again[0] == status and _shown(request, again[2]) == _shown(request, body)
    if not request[1].endswith(STREAMED):
        assert again[1]["Idempotent-Replayed"] == "true"
        assert again[1].get("Content-Type") == headers.get("Content-Type")
    assert await world.effects() == effects
    # As often as without all this.
    request = await write(world)
    assert (await world.send(request, plain_key))[0] == status
    assert sum((await world.effects()).values()) == 2 * sum(effects.values())


def _shown(request: Request, body: bytes) -> bytes:
    return body.lstrip() if not request[1].endswith(STREAMED) else body.replace(b": heartbeat\n\n", b"")


# --- the key ---------------------------------------------------------------------------------------------------------


async def test_the_same_key_for_another_request_is_refused(still: World) -> None:
    first = await still.send(("POST", "/threads", {"metadata": {"n": 1}}), "k")
    for other in (
        ("POST", "/threads", {"metadata": {"n": 2}}),
        ("POST", "/threads?x=1", {"metadata": {"n": 1}}),
        ("POST", "/runs/crons", CRON),
        ("PUT", "/store/items", {**ITEM, "value": {"v": 1}}),
    ):
        status, _, body = await still.send(other, "k")
        assert status == 422 and orjson.loads(body)["code"] == "idempotency_key_reused"
    assert (await still.send(("POST", "/threads", {"metadata": {"n": 1}}), "k"))[2] == first[2]


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9", "a\tb"], ids=["empty", "long", "not ASCII", "a tab"])
async def test_a_key_that_is_none_is_refused(still: World, key: str) -> None:
    status, _, body = await still.send(("POST", "/threads", {}), key)
    assert status == 422 and orjson.loads(body)["code"] == "idempotency_key_invalid"
    assert await still.api.call("POST", "/threads/search", {}) == []


async def test_the_longest_key_is_taken_and_reads_ignore_keys(still: World) -> None:
    assert (await still.send(("POST", "/threads", {}), "~" * 255))[0] == 200
    for n in (1, 2):
        found = orjson.loads((await still.send(("POST", "/threads/search", {"limit": n}), "k"))[2])
        assert len(found) == 1
        assert (await still.send(("GET", "/info", None), "k"))[0] == 200
    assert await still.api.pool.fetchval("SELECT count(*) FROM keyed_requests") == 1


async def test_what_was_refused_before_it_did_anything_leaves_the_key_free(still: World) -> None:
    assert (await still.send(("POST", "/threads", {"metadata": 7}), "k"))[0] == 422
    assert (await still.send(("POST", f"/threads/{new_id()}/runs", RUN), "k"))[0] == 404
    assert (await still.send(("POST", "/threads", {"metadata": {}}), "k"))[0] == 200


async def test_a_conflict_that_was_decided_is_the_answer_from_then_on(still: World) -> None:
    thread_id = await _thread(still)
    await still.api.run(thread_id)
    request = ("POST", f"/threads/{thread_id}/runs", {**RUN, "multitask_strategy": "reject"})
    first = await still.send(request, "k")
    assert first[0] == 409
    run_id = await still.api.in_flight(thread_id)
    await still.api.report(thread_id, run_id, "success")
    again = await still.send(request, "k")
    assert again[0] == 409 and again[2] == first[2] and again[1]["Idempotent-Replayed"] == "true"
    assert (await still.send(request, "another"))[0] == 200


async def test_requests_with_one_key_at_a_time_are_one(still: World) -> None:
    thread_id = await _thread(still)
    request = ("POST", f"/threads/{thread_id}/runs", RUN)
    answers = await asyncio.gather(*(still.send(request, "k") for _ in range(8)))
    assert {(status, body) for status, _, body in answers} == {(200, answers[0][2])}
    assert len(await still.api.call("GET", f"/threads/{thread_id}/runs")) == 1


async def test_a_wait_that_is_sent_again_waits_for_the_same_run(still: World) -> None:
    thread_id = await _thread(still)
    request = ("POST", f"/threads/{thread_id}/runs/wait", RUN)
    first = asyncio.create_task(still.send(request, "k"))
    run_id = await still.api.in_flight(thread_id)
    second = asyncio.create_task(still.send(request, "k"))
    await asyncio.sleep(0.3)
    assert not first.done() and not second.done()
    await still.api.emit(thread_id, run_id, [("values", {"n": 1})])
    await still.api.report(thread_id, run_id, "success", frames=1)
    one, two = await asyncio.gather(first, second)
    assert orjson.loads(one[2]) == {"n": 1}
    assert one[1]["Content-Location"] == two[1]["Content-Location"]
    assert len(await still.api.call("GET", f"/threads/{thread_id}/runs")) == 1


async def test_a_stream_that_is_sent_again_is_the_same_from_its_beginning(still: World) -> None:
    thread_id = await _thread(still)
    request = ("POST", f"/threads/{thread_id}/runs/stream", RUN)
    first = asyncio.create_task(still.send(request, "k"))
    run_id = await still.api.in_flight(thread_id)
    await still.api.emit(thread_id, run_id, [("metadata", {"run_id": run_id}), ("values", {"n": 1})])
    second = asyncio.create_task(still.send(request, "k"))
    await still.api.emit(thread_id, run_id, [("values", {"n": 2})], seq=2)
    await still.api.report(thread_id, run_id, "success", frames=3)
    third = await still.send(request, "k")
    bodies = [body.replace(b": heartbeat\n\n", b"") for _, _, body in (await first, await second, third)]
    assert bodies[0].count(b"event: ") == 3 and bodies == [bodies[0]] * 3
    assert len(await still.api.call("GET", f"/threads/{thread_id}/runs")) == 1


async def _left(world: World, request: Request, key: str) -> None:
    """Sends the request and leaves once its run is there and followed."""
    method, path, body = request
    before = world.api.hub.subscriber_count
    data, headers = orjson.dumps(body), {"Idempotency-Key": key}
    async with world.api.client.request(method, path, data=data, headers=headers) as answer:
        answer.close()
    await eventually(lambda: world.api.hub.subscriber_count == before)


@pytest.mark.parametrize("how", ["wait", "stream"])
async def test_a_run_is_not_cancelled_while_its_client_may_send_the_request_again(still: World, how: str) -> None:
    """`still` gives it thirty seconds; each of those who leave, also the second, may come back."""
    thread_id = await _thread(still)
    request = ("POST", f"/threads/{thread_id}/runs/{how}", {**RUN, "on_disconnect": "cancel"})
    await _left(still, request, "k")
    await _left(still, request, "k")
    run_id = await still.api.in_flight(thread_id)
    again = asyncio.create_task(still.send(request, "k"))
    await eventually(lambda: still.api.hub.subscriber_count == 1)
    await still.api.emit(thread_id, run_id, [("values", {"n": 1})])
    await still.api.report(thread_id, run_id, "success", frames=1)
    assert (await again)[0] == 200  # of what a wait did not see itself the thread has the values: here it has none
    assert [run["status"] for run in await still.api.call("GET", f"/threads/{thread_id}/runs")] == ["success"]


@pytest.mark.parametrize("how", ["wait", "stream"])
async def test_a_run_is_cancelled_when_nobody_sends_the_request_again(database: str, how: str) -> None:
    async with opened(database, executes=False, idempotency_return_seconds=0.2) as world:
        thread_id = await _thread(world)
        request = ("POST", f"/threads/{thread_id}/runs/{how}", {**RUN, "on_disconnect": "cancel"})
        await _left(world, request, "k")
        runs = f"/threads/{thread_id}/runs"
        await eventually(lambda: world.api.call("GET", runs), lambda found: found[0]["status"] == "interrupted")


async def test_who_came_last_says_when_a_run_is_cancelled(database: str) -> None:
    """Also at another api, of whose clients this one knows nothing but a row."""
    async with opened(database, executes=False, idempotency_return_seconds=0.2) as world:
        thread_id = await _thread(world)
        method, path = "POST", f"/threads/{thread_id}/runs/wait"
        data, headers = orjson.dumps({**RUN, "on_disconnect": "cancel"}), {"Idempotency-Key": "k"}
        async with world.api.client.request(method, path, data=data, headers=headers) as answer:
            run_id = await world.api.in_flight(thread_id)
            await world.api.pool.execute("INSERT INTO run_followers VALUES ($1, 'elsewhere')", run_id)
            answer.close()
        await eventually(lambda: world.api.hub.subscriber_count == 0)
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "after a client has left"))
        assert (await world.api.call("GET", f"/threads/{thread_id}/runs/{run_id}"))["status"] == "pending"


async def test_what_is_known_of_who_came_last_goes_with_the_run(still: World) -> None:
    for key in ("one", "two"):
        thread_id = await _thread(still)
        request = ("POST", f"/threads/{thread_id}/runs/wait", {**RUN, "on_disconnect": "cancel"})
        await _left(still, request, key)
        await _left(still, request, key)
        run_id = await still.api.in_flight(thread_id)
        rows = await still.api.pool.fetch("SELECT run_id::text FROM run_followers")
        assert [row["run_id"] for row in rows] == [run_id]
        await still.api.report(thread_id, run_id, "success")


async def test_a_large_answer_is_made_anew(still: World) -> None:
    request = ("POST", "/threads", {"metadata": {"text": "x" * 200_000}})
    status, _, body = await still.send(request, "k")
    again = await still.send(request, "k")
    assert (again[0], orjson.loads(again[2])) == (status, orjson.loads(body)) and "Idempotent-Replayed" not in again[1]
    assert len(await still.api.call("POST", "/threads/search", {"select": ["thread_id"]})) == 1


async def test_a_key_is_free_again_when_its_time_is_over(database: str) -> None:
    async with opened(database, executes=False, idempotency_ttl_seconds=0.001) as world:
        bodies = [(await world.send(("POST", "/threads", {}), "k"))[2] for _ in range(2)]
        assert len({orjson.loads(body)["thread_id"] for body in bodies}) == 2
