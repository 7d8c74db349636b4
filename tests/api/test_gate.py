"""Every endpoint goes through one gate: none is forgotten, and each refuses a stranger and nobody."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.api_harness import ApiHarness, api_harness
from tests.api.auth_handlers import auth
from threadlog.api.app import ROUTES
from threadlog.api.auth.gate import Gate
from threadlog.api.http.openapi import plain_path
from threadlog.api.http.routes import Route
from threadlog.api.settings import ApiSettings
from threadlog.engine.user_code.auth_section import TOKEN_HEADER, AuthSection

RESOURCES = {
    "threads": {"create", "read", "update", "delete", "search", "create_run"},
    "assistants": {"create", "read", "update", "delete", "search"},
    "crons": {"create", "read", "update", "delete", "search"},
    "store": {"put", "get", "search", "delete", "list_namespaces"},
    "usage": {"read"},
    "system": {"read"},
}
PUBLIC = {"/", "/ok", "/info", "/docs", "/openapi.json", "/asyncapi.json", "/metrics"}
PAGE = {
    "/studio",
    "/studio/",
    "/studio/{file}",
    "/ui/{assistant_id}/{file}",
}  # without secrets; what it shows, it asks for like anybody
TOKEN = "of-the-server"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_declares_what_its_callers_have_to_be_allowed(route: Route) -> None:
    assert route.access is not None, f"{route.handler.__module__}: give {route.handler.__name__} @requires(…)"
    assert (route.access == ()) == (route.path in PUBLIC | PAGE)
    for access in route.access:
        resource, _, action = access.partition(".")
        assert action in RESOURCES[resource], access


@pytest.fixture
async def guarded(database: str) -> AsyncIterator[ApiHarness]:
    """An api behind `auth_handlers`, with the graph `noop`."""
    gate = Gate(auth, AuthSection("", "auth", True), token=TOKEN, studio=True)
    async with api_harness(database, ApiSettings(heartbeat_seconds=0.2, security={}), gate=gate) as opened:
        await opened.register("noop")
        yield opened


def of(identity: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {identity}"}}


@dataclass
class Ann:
    """What ann has made."""

    thread_id: str
    run_id: str
    assistant_id: str
    cron_id: str


async def made(api: ApiHarness) -> Ann:
    thread_id = (await api.call("POST", "/threads", {}, **of("ann")))["thread_id"]
    run = await api.call("POST", f"/threads/{thread_id}/runs", {"assistant_id": "noop"}, **of("ann"))
    assistant = await api.call("POST", "/assistants", {"graph_id": "noop"}, **of("ann"))
    cron = await api.call("POST", "/runs/crons", CRON, **of("ann"))
    return Ann(thread_id, run["run_id"], assistant["assistant_id"], cron["cron_id"])


CRON = {"assistant_id": "noop", "schedule": "0 0 1 1 *"}
# What a request needs besides its path to be a good one.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/threads/prune"): {"thread_ids": [], "strategy": "keep_latest"},
    ("POST", "/threads/{thread_id}/state"): {"values": {}},
    ("POST", "/threads/{thread_id}/state/checkpoint"): {"checkpoint": {"checkpoint_ns": "", "checkpoint_id": "x"}},
    ("POST", "/threads/{thread_id}/runs"): {"assistant_id": "noop"},
    ("POST", "/threads/{thread_id}/runs/wait"): {"assistant_id": "noop"},
    ("POST", "/threads/{thread_id}/runs/stream"): {"assistant_id": "noop"},
    ("POST", "/threads/{thread_id}/commands"): {"id": 1, "method": "state.get", "params": {}},
    ("POST", "/threads/{thread_id}/stream/events"): {"channels": ["values"]},
    ("POST", "/assistants/{assistant_id}/latest"): {"version": 1},
    ("POST", "/threads/{thread_id}/runs/crons"): CRON,
    ("POST", "/ui/{assistant_id}"): {"name": "weather"},
    ("POST", "/a2a/{assistant_id}"): {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "message/send",
        "params": {"message": {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "hello"}]}},
    },
}
TOUCHING = [route for route in ROUTES if route.access and "{" in route.path]
"""Those that are about one thread, run or assistant."""
SOCKET = ("GET", "/threads/{thread_id}/stream/events")


def _path(route: Route, ann: Ann) -> str:
    ids = {"checkpoint_id": "x", "namespace": "child", **vars(ann)}
    return plain_path(route.path).format(**ids)


def _key(route: Route) -> tuple[str, str]:
    return route.method, plain_path(route.path)


def _body(route: Route) -> Any:
    return BODIES.get(_key(route), {} if route.method in ("POST", "PATCH") else None)


async def test_nobody_gets_past_the_gate_of_any_route(guarded: ApiHarness) -> None:
    ann = await made(guarded)
    for route in ROUTES:
        path = plain_path(route.path).replace("{thread_id}", ann.thread_id).replace("{run_id}", ann.run_id)
        path = path.replace("{assistant_id}", ann.assistant_id).replace("{cron_id}", ann.cron_id)
        path = path.replace("{", "").replace("}", "")
        async with guarded.client.request(route.method, path, json={}) as answer:
            if route.path in PAGE:
                assert answer.status == (404 if "{" in route.path else 200), route
            elif route.path in PUBLIC:
                assert answer.status == 200, route
            else:
                assert answer.status == 401, route
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert await answer.json() == {"detail": "Who are you?", "code": "unauthenticated"}


@pytest.mark.parametrize(("identity", "detail"), [("banned", "Forbidden"), ("late", "Not after ten")])
async def test_what_the_handlers_say_holds_for_every_route(guarded: ApiHarness, identity: str, detail: str) -> None:
    ann = await made(guarded)
    for route in TOUCHING:
        if (key := _key(route)) != SOCKET:
            answer = await guarded.ask(route.method, _path(route, ann), _body(route), **of(identity))
            assert answer == (403, {"detail": detail, "code": "forbidden"}), key


async def test_what_is_anns_is_not_there_for_bob(guarded: ApiHarness) -> None:
    """Each endpoint with an id in its path, as the owner and as a stranger: for bob it is as if there was nothing."""
    ann = await made(guarded)
    for route in sorted(TOUCHING, key=lambda route: route.method == "DELETE"):
        if (key := _key(route)) == SOCKET:
            continue
        status, answer = await guarded.ask(route.method, _path(route, ann), _body(route), **of("bob"))
        if key[1].endswith("/copy"):
            assert (status, answer["detail"]) == (409, "Conflict")
        elif key[1].endswith("/commands"):
            assert (status, answer["error"]) == (200, "unknown_error") and answer["message"].startswith("404")
        elif key == ("POST", "/a2a/{assistant_id}"):
            assert status == 200 and answer["error"]["message"] == "Thread or assistant not found."
        else:
            assert status == 404, (route, status, answer)
            assert "not found" in answer["detail"].lower() or "no runs found" in answer["detail"].lower(), route
    assert (await guarded.call("GET", f"/threads/{ann.thread_id}", **of("ann")))["metadata"]["owner"] == "ann"
    assert (await guarded.call("GET", f"/assistants/{ann.assistant_id}", **of("ann")))["metadata"] == {"owner": "ann"}


async def test_the_owner_gets_through_each_of_them(guarded: ApiHarness) -> None:
    ann = await made(guarded)
    await guarded.report(ann.thread_id, ann.run_id, "success")
    for route in TOUCHING:
        if route.method != "GET" or route.stream:
            continue
        status, answer = await guarded.ask("GET", _path(route, ann), **of("ann"))
        assert status == 200, (route, answer)
    patched = await guarded.call("PATCH", f"/threads/{ann.thread_id}", {"metadata": {"a": 1}}, **of("ann"))
    assert patched["metadata"]["a"] == 1
    copied = await guarded.call("POST", f"/threads/{ann.thread_id}/copy", **of("ann"))
    assert copied["metadata"]["owner"] == "ann"
    await guarded.call("DELETE", f"/threads/{ann.thread_id}/runs/{ann.run_id}", **of("ann"))
    await guarded.call("DELETE", f"/threads/{ann.thread_id}", **of("ann"))
    await guarded.call("DELETE", f"/assistants/{ann.assistant_id}", **of("ann"))


async def test_searches_and_counts_leave_out_what_is_others(guarded: ApiHarness) -> None:
    ann = await made(guarded)
    for identity, found in (("ann", [ann.thread_id]), ("bob", [])):
        for query in ({}, {"ids": [ann.thread_id]}, {"metadata": {"owner": "ann"}}, {"values": {}}):
            threads = await guarded.call("POST", "/threads/search", query, **of(identity))
            assert [thread["thread_id"] for thread in threads] == found
        assert await guarded.call("POST", "/threads/count", {}, **of(identity)) == len(found)
        assistants = await guarded.call("POST", "/assistants/search", {}, **of(identity))
        assert [one["assistant_id"] for one in assistants] == ([ann.assistant_id] if found else [])
        assert await guarded.call("POST", "/assistants/count", {}, **of(identity)) == len(found)
        crons = await guarded.call("POST", "/runs/crons/search", {}, **of(identity))
        assert [cron["cron_id"] for cron in crons] == ([ann.cron_id] if found else [])
        assert await guarded.call("POST", "/runs/crons/count", {}, **of(identity)) == len(found)
        wanted: list[dict[str, Any]] = [{}, {"thread_id": ann.thread_id}, {"run_ids": [ann.run_id]}]
        for of_runs in (*wanted, {"metadata": {"owner": "ann"}}):
            runs = await guarded.call("POST", "/runs/search", of_runs, **of(identity))
            assert [run["run_id"] for run in runs] == ([ann.run_id] if found else [])
            assert await guarded.call("POST", "/runs/count", of_runs, **of(identity)) == len(found)


async def test_bulk_changes_reach_only_what_is_the_callers(guarded: ApiHarness) -> None:
    ann = await made(guarded)
    for body in ({"status": "all"}, {"thread_id": ann.thread_id, "run_ids": [ann.run_id]}):
        assert (await guarded.ask("POST", "/runs/cancel", body, **of("bob")))[0] == 404
    for strategy in ("delete", "keep_latest"):
        pruned = {"thread_ids": [ann.thread_id], "strategy": strategy}
        assert await guarded.call("POST", "/threads/prune", pruned, **of("bob")) == {"pruned_count": 0}
    run = await guarded.call("GET", f"/threads/{ann.thread_id}/runs/{ann.run_id}", **of("ann"))
    assert run["status"] == "pending"
    await guarded.call("POST", "/runs/cancel", {"status": "all"}, **of("ann"))


async def test_what_exists_already_is_a_conflict_not_a_look_at_it(guarded: ApiHarness) -> None:
    ann = await made(guarded)
    for body in (
        {"thread_id": ann.thread_id, "if_exists": "do_nothing"},
        {"thread_id": ann.thread_id, "if_exists": "do_nothing", "supersteps": [{"updates": [{"values": {}}]}]},
        {"thread_id": ann.thread_id},
    ):
        assert (await guarded.ask("POST", "/threads", body, **of("bob")))[0] == 409
    assistant = {"assistant_id": ann.assistant_id, "graph_id": "noop", "if_exists": "do_nothing"}
    assert (await guarded.ask("POST", "/assistants", assistant, **of("bob")))[0] == 409
    assert (await guarded.ask("POST", "/assistants", assistant, **of("ann")))[0] == 200


async def test_runs_are_their_callers_and_so_are_the_threads_made_for_them(guarded: ApiHarness) -> None:
    await made(guarded)
    thread_id = str(uuid.uuid4())
    body = {"assistant_id": "noop", "if_not_exists": "create", "metadata": {"topic": "cats"}}
    run = await guarded.call("POST", f"/threads/{thread_id}/runs", body, **of("bob"))
    assert (await guarded.call("GET", f"/threads/{thread_id}", **of("bob")))["metadata"].items() >= {
        ("owner", "bob"), ("topic", "cats"), ("graph_id", "noop"),
    }  # fmt: skip
    assert (await guarded.ask("POST", f"/threads/{thread_id}/runs", body, **of("ann")))[0] == 404
    assert run["metadata"]["owner"] == "bob"
    told = run["kwargs"]["config"]["configurable"]
    assert told["langgraph_auth_user_id"] == told["user_id"] == "bob"
    assert told["langgraph_auth_permissions"] == ["chat"]
    assert told["langgraph_auth_user"] == {
        "identity": "bob", "is_authenticated": True, "display_name": "bob", "permissions": ["chat"], "team": "of bob",
    }  # fmt: skip
    (stateless,) = await guarded.call("POST", "/runs/batch", [{"assistant_id": "noop"}], **of("bob"))
    for identity, status in (("bob", 200), ("ann", 404)):
        assert (await guarded.ask("GET", f"/runs/{stateless['run_id']}", **of(identity)))[0] == status
        assert (await guarded.ask("GET", f"/threads/{stateless['thread_id']}", **of(identity)))[0] == status


async def test_runs_that_create_their_thread_at_the_same_time_are_one_users(guarded: ApiHarness) -> None:
    body = {"assistant_id": "noop", "if_not_exists": "create"}
    path = f"/threads/{uuid.uuid4()}/runs"
    callers = ["ann", "bob", "ann", "bob", "ann"]
    answers = await asyncio.gather(*(guarded.ask("POST", path, body, **of(caller)) for caller in callers))
    created = {caller for caller, (status, _) in zip(callers, answers, strict=True) if status == 200}
    (owner,) = created
    assert [status for status, _ in answers] == [200 if caller == owner else 404 for caller in callers]


async def test_only_the_graphs_own_assistants_are_everybodys_to_run(guarded: ApiHarness) -> None:
    ann = await made(guarded)
    for identity, status in (("ann", 200), ("bob", 404)):
        assert (await guarded.ask("POST", "/runs", {"assistant_id": ann.assistant_id}, **of(identity)))[0] == status
        assert (await guarded.ask("POST", "/runs", {"assistant_id": "noop"}, **of(identity)))[0] == 200


async def test_a_client_can_not_say_who_it_is_in_its_run(guarded: ApiHarness) -> None:
    claims = {"configurable": {"langgraph_auth_user": {"identity": "ann"}, "langgraph_auth_user_id": "ann"}}
    run = await guarded.call("POST", "/runs", {"assistant_id": "noop", "config": claims}, **of("bob"))
    assert run["kwargs"]["config"]["configurable"]["langgraph_auth_user_id"] == "bob"


async def test_the_applications_own_clients_and_studio_pass(guarded: ApiHarness) -> None:
    ann = await made(guarded)
    assert await guarded.call("GET", f"/threads/{ann.thread_id}", headers={TOKEN_HEADER: TOKEN})
    assert (await guarded.ask("GET", f"/threads/{ann.thread_id}", headers={TOKEN_HEADER: "guessed"}))[0] == 401
    thread = await guarded.call("POST", "/threads", {}, headers={"X-Auth-Scheme": "langsmith"})
    assert thread["metadata"]["owner"] == "langgraph-studio-user"


@pytest.mark.parametrize(("identity", "code"), [(None, 4401), ("bob", 4404), ("banned", 4403)])
async def test_a_socket_that_is_refused_is_closed_with_the_status(
    guarded: ApiHarness, identity: str | None, code: int
) -> None:
    ann = await made(guarded)
    path = f"/threads/{ann.thread_id}/stream/events"
    async with guarded.client.ws_connect(path, **({} if identity is None else of(identity))) as socket:
        await socket.receive()
        assert socket.close_code == code


async def test_who_follows_a_thread_before_it_is_made_sees_nothing_of_a_strangers(guarded: ApiHarness) -> None:
    thread_id = str(uuid.uuid4())
    async with guarded.client.ws_connect(f"/threads/{thread_id}/stream/events", **of("bob")) as socket:
        await socket.send_json({"id": 1, "method": "subscription.subscribe", "params": {"channels": ["lifecycle"]}})
        assert (await socket.receive_json())["type"] == "success"
        params = {"assistant_id": "noop", "input": {}}
        started = {"id": 1, "method": "run.start", "params": params}
        answer = await guarded.call("POST", f"/threads/{thread_id}/commands", started, **of("ann"))
        await guarded.emit(thread_id, answer["result"]["run_id"], [("metadata", {"attempt": 1}), ("values", {})])
        await guarded.report(thread_id, answer["result"]["run_id"], "success", frames=2)
        await socket.send_json({"id": 2, "method": "state.get", "params": {}})
        response = await socket.receive_json()  # and no event before it
        assert response["id"] == 2 and response["message"].startswith("404")


async def test_a2a_lists_only_the_tasks_that_its_caller_may_see(guarded: ApiHarness) -> None:
    ann = await made(guarded)
    await guarded.call(
        "POST",
        f"/threads/{ann.thread_id}/runs",
        {"assistant_id": ann.assistant_id, "multitask_strategy": "enqueue"},
        **of("ann"),
    )
    call = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
    (of_nobody,) = [
        r["assistant_id"]
        for r in await guarded.pool.fetch("SELECT assistant_id FROM runs WHERE run_id = $1", ann.run_id)
    ]
    for identity, total in (("ann", 1), ("bob", 0)):
        listed = await guarded.call("POST", f"/a2a/{of_nobody}", call, **of(identity))
        assert listed["result"]["totalSize"] == len(listed["result"]["tasks"]) == total, listed
    assert (await guarded.ask("POST", f"/a2a/{of_nobody}", call, **of("banned")))[0] == 403
