"""Trailing slashes: where a path of ours with one leads to, and whose paths with one are left alone."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

from threadlog.api.app import ROUTES
from threadlog.api.auth.gate import Gate
from threadlog.api.custom_app.mount import CustomApp
from threadlog.api.settings import ApiSettings
from threadlog.engine.user_code.auth_section import AuthSection

from .api_harness import ApiHarness, api_harness
from .auth_handlers import auth

THREAD = "0199b2c0-0000-7000-8000-00000000beef"


async def leads_to(api: ApiHarness, method: str, path: str) -> tuple[int, str | None]:
    async with api.client.request(method, path, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Location")


@pytest.mark.parametrize(
    ("method", "path", "location"),
    [
        ("POST", "/threads/", "../threads"),
        ("GET", "/threads/", "../threads"),  # which is then 405
        ("POST", "/threads/search/?a=b%26&c=%25", "../search?a=b%26&c=%25"),
        ("GET", f"/threads/{THREAD}/", f"../{THREAD}"),
        ("GET", f"/threads/{THREAD}/state/a%7Cb%20c/", "../a%7Cb%20c"),
        ("HEAD", "/info/", "../info"),
        ("GET", "/docs/", "../docs"),
        ("GET", "/ok/", "../ok"),
        ("GET", "/studio/", None),
        ("GET", "/studio", "studio/"),
        ("DELETE", "/mcp/", None),
        ("GET", "/nowhere/", None),
        ("POST", "/threads//", None),
    ],
)
async def test_a_slash_behind_a_path_leads_to_the_path(
    api: ApiHarness, method: str, path: str, location: str | None
) -> None:
    status, found = await leads_to(api, method, path)
    assert (status == 307, found) == (location is not None, location)


async def test_every_path_is_reached_through_the_one_with_a_slash(api: ApiHarness) -> None:
    for route in ROUTES:
        path = route.path.partition("{")[0].rstrip("/") + "/"  # the fixed part; what follows is an id
        if "{" not in route.path and path not in ("/", "/mcp/", "/studio/"):
            status, found = await leads_to(api, route.method, path)
            assert (status, found) == (307, f"..{route.path[route.path.rindex('/') :]}"), route.path


async def test_method_body_and_credentials_stay(api: ApiHarness) -> None:
    created = await api.call("POST", "/threads/", {"metadata": {"a": 1}})
    assert created["metadata"] == {"a": 1}
    assert (await api.call("GET", f"/threads/{created['thread_id']}/"))["thread_id"] == created["thread_id"]


async def test_it_holds_below_the_prefix(database: str) -> None:
    async with api_harness(database, ApiSettings(mount_prefix="/agents")) as api:
        assert await leads_to(api, "POST", "/agents/threads/?x=1") == (307, "../threads?x=1")
        assert await leads_to(api, "GET", "/agents?x=1") == (307, "agents/?x=1")
        assert (await api.ask("GET", "/agents"))[1] == await api.call("GET", "/agents/")
        assert await leads_to(api, "GET", "/ok/") == (307, "../ok")
        for path in ("/threads/", "/agentsthreads/"):
            assert (await leads_to(api, "GET", path))[0] == 404


async def test_who_may_is_decided_where_it_leads(database: str) -> None:
    gate = Gate(auth, AuthSection("", "auth", True), token="t", studio=False)
    async with api_harness(database, gate=gate) as api:
        assert await leads_to(api, "POST", "/threads/") == (307, "../threads")
        assert (await api.ask("POST", "/threads/", {}))[0] == 401
        assert (await api.ask("POST", "/threads/", {}, headers={"Authorization": "Bearer ann"}))[0] == 200


async def of_starlette(request: Request) -> JSONResponse:
    return JSONResponse([request.method, request.url.path])


async def of_aiohttp(request: web.Request) -> web.Response:
    return web.json_response([request.method, request.path])


def starlette_app() -> CustomApp:
    app = FastAPI()
    app.add_route("/threads/", of_starlette, methods=["POST"])
    app.add_route("/mine", of_starlette)
    app.add_route("/slashed/", of_starlette)

    @app.middleware("http")
    async def mark(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["X-Marked"] = "yes"
        return response

    return CustomApp(asgi=app)


def aiohttp_app() -> CustomApp:
    @web.middleware
    async def mark(request: web.Request, handler: Any) -> Any:
        response = await handler(request)
        response.headers["X-Marked"] = "yes"
        return response

    app = web.Application(middlewares=[mark])
    app.router.add_post("/threads/", of_aiohttp)
    app.router.add_get("/mine", of_aiohttp)
    app.router.add_get("/slashed/", of_aiohttp)
    return CustomApp(aiohttp=app)


@pytest.mark.parametrize("make", [starlette_app, aiohttp_app])
async def test_the_routes_of_an_application_are_its_own_and_its_middleware_is_around_the_redirects(
    database: str, make: Any
) -> None:
    async with api_harness(database, custom=make()) as api:
        assert await api.call("POST", "/threads/", {}) == ["POST", "/threads/"]
        assert await api.call("GET", "/slashed/") == ["GET", "/slashed/"]
        assert await api.call("GET", "/mine") == ["GET", "/mine"]
        async with api.client.get("/assistants/search/?a=b", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (307, "../search?a=b")
            assert answer.headers["X-Marked"] == "yes"


async def test_an_application_that_does_not_tell_its_paths_has_all_with_a_slash(database: str) -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async with api_harness(database, custom=CustomApp(asgi=plain)) as api:
        assert await leads_to(api, "GET", "/threads/") == (202, None)
