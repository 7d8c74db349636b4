"""What the section `http` of langgraph.json leaves out of the routes, and what of requests goes into the log."""

from __future__ import annotations

import pytest
from aiohttp import web

from threadlog.api.custom_app.mount import CustomApp
from threadlog.api.settings import ApiSettings
from threadlog.engine import logging_context
from threadlog.engine.user_code.auth_section import TOKEN_HEADER
from threadlog.engine.user_code.http_section import FLAGS, HeaderRule

from .api_harness import api_harness


async def test_groups_of_routes_can_be_left_out(database: str) -> None:
    async with api_harness(database, ApiSettings(disabled=frozenset(("runs", "meta")))) as api:
        thread = await api.thread()
        assert (await api.ask("POST", f"/threads/{thread}/runs", {"assistant_id": "noop"}))[0] in (404, 405)
        assert (await api.ask("GET", "/info"))[0] == (await api.ask("GET", "/openapi.json"))[0] == 404
        assert (await api.ask("GET", "/ok"))[0] == 200


CRONS = ["POST /runs/crons", "POST /runs/crons/search", "DELETE /runs/crons/x", "POST /threads/x/runs/crons"]
EACH_GROUP = {
    "assistants": ["POST /assistants/search", "GET /assistants/x/graph"],
    "threads": ["POST /threads", "GET /threads/x/state"],
    "runs": ["POST /runs", "POST /threads/x/runs/wait", "GET /runs/x", *CRONS],
    "store": ["PUT /store/items", "POST /store/namespaces"],
    "crons": CRONS,
    "mcp": ["POST /mcp"],
    "a2a": ["POST /a2a/x", "GET /a2a/x", "GET /.well-known/agent-card.json"],
    "meta": ["GET /info", "GET /metrics", "GET /docs", "GET /openapi.json", "GET /asyncapi.json"],
    "ui": ["GET /studio/", "POST /ui/x"],
}


def test_there_is_a_group_for_each_flag() -> None:
    assert EACH_GROUP.keys() == set(FLAGS) - {"webhooks"}


@pytest.mark.parametrize("disabled", EACH_GROUP)
async def test_each_group_can_be_left_out_and_no_other_goes_with_it(database: str, disabled: str) -> None:
    gone = {tuple(label.split()) for label in EACH_GROUP[disabled]}
    async with api_harness(database, ApiSettings(disabled=frozenset((disabled,)))) as api:
        for method, path in {tuple(label.split()) for labels in EACH_GROUP.values() for label in labels}:
            async with api.client.request(method, path, json={}) as answer:
                unrouted = answer.status == 405
                if answer.status == 404:
                    unrouted = (await answer.json())["code"] == "not_found"
                assert unrouted == ((method, path) in gone), (method, path, answer.status)


def test_headers_are_chosen_by_pattern_and_secrets_by_name_only() -> None:
    headers = {"X-Tenant": "t", "X-Secret": "s", "X-Api-Key": "k", "User-Agent": "u"}
    assert HeaderRule().chosen(headers) == {}
    assert HeaderRule(("x-*",), ("x-sec*",)).chosen(headers) == {"x-tenant": "t"}
    assert HeaderRule(("*",)).chosen(headers).keys() == {"x-tenant", "x-secret", "user-agent"}
    assert HeaderRule(("x-api-key",)).chosen(headers) == {"x-api-key": "k"}
    assert HeaderRule(("*", TOKEN_HEADER.lower())).chosen({TOKEN_HEADER: "of this server"}) == {}


async def test_lines_about_a_request_have_the_headers_that_the_application_chose(database: str) -> None:
    async def logs(_: web.Request) -> web.Response:
        return web.json_response(dict(logging_context.fields()))

    mine = web.Application()
    mine.router.add_get("/logs", logs)
    options = ApiSettings(logging_headers=HeaderRule(("x-tenant-*", "authorization*"), ("x-tenant-secret",)))
    async with api_harness(database, options, CustomApp(aiohttp=mine)) as api:
        headers = {"X-Tenant-Name": "acme", "X-Tenant-Secret": "s", "X-Other": "o", "Authorization": "Bearer x"}
        fields = await api.call("GET", "/logs", headers=headers)
        assert fields["headers"] == {"x-tenant-name": "acme"} and fields["path"] == "/logs"
        assert "headers" not in await api.call("GET", "/logs")
