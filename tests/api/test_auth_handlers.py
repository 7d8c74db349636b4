"""What an application's auth handlers return, raise and change, and what becomes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from langgraph_sdk import Auth

from tests.api.api_harness import ApiHarness, api_harness
from threadlog.api.auth.caller import InvalidUser, caller_of
from threadlog.api.auth.gate import Gate
from threadlog.api.settings import ApiSettings
from threadlog.engine.user_code.auth_section import AuthCache, AuthSection

CRON = {"assistant_id": "noop", "schedule": "0 0 1 1 *"}


class Handlers:
    """An `Auth` as LangGraph's own examples have it, and what its handlers were shown. A token is an identity."""

    def __init__(self) -> None:
        self.auth = auth = Auth()
        self.shown: dict[str, dict[str, Any]] = {}

        @auth.on
        async def nothing_else(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> bool:
            return False

        @auth.on(resources=["threads", "assistants", "crons"])
        async def their_own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
            self.shown[f"{ctx.resource}.{ctx.action}"] = dict(value)
            if ctx.action == "read" and ctx.user.identity == "blind":
                return False
            if ctx.action in ("create", "create_run"):
                value.setdefault("metadata", {})["owner"] = ctx.user.identity
                return None
            if ctx.action == "search":  # no filter: the search itself is narrowed
                value["metadata"] = {**value["metadata"], "owner": ctx.user.identity}
                return None
            return {"owner": ctx.user.identity}

        @auth.on.crons.create
        async def modestly(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
            self.shown["crons.create"] = dict(value)
            value["payload"] = {**value["payload"], "input": {"from": value["user_id"]}}
            value["metadata"]["owner"] = ctx.user.identity

        @auth.on.store
        async def asserting(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
            self.shown[f"store.{ctx.action}"] = dict(value)
            assert ctx.user.identity != "eve", "Not authorized"
            if ctx.action == "list_namespaces":
                value["namespace"] = value["namespace"] or (ctx.user.identity,)
            else:
                value["namespace"] = (ctx.user.identity,) + value["namespace"]

        @auth.authenticate
        async def authenticate(authorization: str) -> str:
            return authorization


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
async def api(database: str, handlers: Handlers) -> AsyncIterator[ApiHarness]:
    gate = Gate(handlers.auth, AuthSection("", "auth", True), token="t", studio=False)
    async with api_harness(database, ApiSettings(security={}), gate=gate) as opened:
        await opened.register("noop")
        yield opened


def of(identity: str) -> dict[str, Any]:
    return {"headers": {"Authorization": identity}}


async def test_a_handler_that_only_stamps_an_owner_shows_nobody_elses_thread(api: ApiHarness) -> None:
    thread = await api.call("POST", "/threads", {"metadata": {"topic": "secret"}}, **of("ann"))
    again = {"thread_id": thread["thread_id"], "if_exists": "do_nothing"}
    assert (await api.call("POST", "/threads", again, **of("ann")))["metadata"]["topic"] == "secret"
    for identity in ("bob", "blind"):
        status, answer = await api.ask("POST", "/threads", again, **of(identity))
        assert (status, answer["code"]) == (409, "conflict") and "secret" not in str(answer)


async def test_nor_anybody_elses_assistant(api: ApiHarness) -> None:
    made = await api.call("POST", "/assistants", {"graph_id": "noop", "context": {"prompt": "secret"}}, **of("ann"))
    again = {"graph_id": "noop", "assistant_id": made["assistant_id"], "if_exists": "do_nothing"}
    assert (await api.call("POST", "/assistants", again, **of("ann")))["context"] == {"prompt": "secret"}
    for identity in ("bob", "blind"):
        status, answer = await api.ask("POST", "/assistants", again, **of(identity))
        assert status == 409 and "secret" not in str(answer)


async def test_an_assertion_that_fails_forbids(api: ApiHarness) -> None:
    item = {"namespace": ["notes"], "key": "k", "value": {}}
    status, answer = await api.ask("PUT", "/store/items", item, **of("eve"))
    assert (status, answer["code"]) == (403, "forbidden")
    assert answer["detail"].startswith("Not authorized")  # pytest explains the assertion, too


async def test_handlers_are_shown_namespaces_as_tuples(api: ApiHarness, handlers: Handlers) -> None:
    item = {"namespace": ["notes"], "key": "k", "value": {"a": 1}}
    await api.call("PUT", "/store/items", item, **of("ann"))
    await api.call("PUT", "/store/items", item, **of("bob"))
    assert handlers.shown["store.put"]["namespace"] == ("notes",)
    found = await api.call("POST", "/store/items/search", {"namespace_prefix": []}, **of("ann"))
    assert [item["namespace"] for item in found["items"]] == [["ann", "notes"]]
    assert handlers.shown["store.search"]["namespace"] == ()
    listed = await api.call("POST", "/store/namespaces", {}, **of("ann"))
    assert listed == {"namespaces": [["ann", "notes"]]}
    assert handlers.shown["store.list_namespaces"]["namespace"] is None


async def test_a_search_looks_for_what_the_handler_made_of_it(api: ApiHarness) -> None:
    mine = await api.call("POST", "/runs/crons", CRON, **of("ann"))
    await api.call("POST", "/runs/crons", CRON, **of("bob"))
    for asked in ({}, {"metadata": {}}, {"metadata": {"owner": "bob"}}):
        found = await api.call("POST", "/runs/crons/search", asked, **of("ann"))
        assert [cron["cron_id"] for cron in found] == [mine["cron_id"]]
        assert await api.call("POST", "/runs/crons/count", asked, **of("ann")) == 1


async def test_a_crons_payload_is_what_the_handler_made_of_it(api: ApiHarness, handlers: Handlers) -> None:
    cron = await api.call("POST", "/runs/crons", {**CRON, "input": {"from": "nobody"}}, **of("ann"))
    assert cron["payload"]["input"] == {"from": "ann"} and cron["metadata"] == {"owner": "ann"}
    assert handlers.shown["crons.create"]["user_id"] == "ann"
    later = {"schedule": "0 0 2 1 *", "enabled": False}
    await api.call("PATCH", f"/runs/crons/{cron['cron_id']}", later, **of("ann"))
    assert handlers.shown["crons.update"].items() >= later.items()


async def test_handlers_may_write_into_the_configurable_of_a_run(database: str) -> None:
    auth = Auth()

    @auth.authenticate
    async def authenticate(authorization: str) -> str:
        return authorization

    @auth.on.threads.create_run
    async def of_tenant(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
        assert value["if_not_exists"] == "create"
        value["kwargs"]["config"]["configurable"]["tenant"] = f"of {ctx.user.identity}"

    async with api_harness(
        database, ApiSettings(security={}), gate=Gate(auth, AuthSection("", "auth", True), token="t", studio=False)
    ) as api:
        await api.register("noop")
        run = await api.call("POST", "/runs", {"assistant_id": "noop"}, **of("ann"))
        assert run["kwargs"]["config"]["configurable"]["tenant"] == "of ann"


async def test_what_a_handler_does_to_its_context_is_not_kept_with_the_caller(database: str) -> None:
    auth, asked = Auth(), []

    @auth.authenticate
    async def authenticate(authorization: str) -> dict[str, Any]:
        asked.append(authorization)
        return {"identity": authorization, "permissions": ["look"]}

    @auth.on
    async def promoting(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> bool:
        assert list(ctx.permissions) == ["look"] == list(ctx.user.permissions)
        ctx.permissions.append("change")  # type: ignore[attr-defined]
        return True

    section = AuthSection("", "auth", True, cache=AuthCache(("authorization",)))
    gate = Gate(auth, section, token="t", studio=False)
    async with api_harness(database, ApiSettings(security={}), gate=gate) as api:
        for _ in range(2):
            assert await api.call("POST", "/threads/search", {}, **of("ann")) == []
    assert asked == ["ann"]


class Authenticating:
    """An object that is called, as a class with dependencies of its own."""

    async def __call__(self, authorization: str) -> dict[str, Any]:
        return {"identity": authorization}


async def test_authenticate_may_be_an_object_whose_call_is_async(database: str) -> None:
    auth = Auth()
    auth.authenticate(Authenticating())
    gate = Gate(auth, AuthSection("", "auth", True), token="t", studio=False)
    async with api_harness(database, ApiSettings(security={}), gate=gate) as api:
        assert await api.call("POST", "/threads/search", {}, **of("ann")) == []


class Row:
    """A user as a database has it."""

    identity = UUID(int=7)
    permissions = ("chat",)


@pytest.mark.parametrize(
    ("returned", "identity"),
    [("ann", "ann"), ({"identity": 7}, "7"), ({"identity": UUID(int=7)}, str(UUID(int=7))), (Row(), str(UUID(int=7)))],
)
def test_an_identity_may_be_a_primary_key(returned: Any, identity: str) -> None:
    caller = caller_of(returned)
    assert (caller.identity, caller.user.identity, caller.actor) == (identity, identity, f"user:{identity}")


@pytest.mark.parametrize("returned", [None, 7, {}, {"identity": ""}, {"identity": True}, {"identity": 1.5}, object()])
def test_what_is_no_identity_is_refused(returned: Any) -> None:
    with pytest.raises(InvalidUser, match="authenticate must return"):
        caller_of(returned)
