"""Applications of the user's own beside and around the api: ASGI's protocol in both directions, and aiohttp's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI, Request, WebSocket
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from tests.waiting import eventually
from threadlog.api.app import ROUTES
from threadlog.api.auth.gate import Gate
from threadlog.api.custom_app.lifespan import Lifespan, StartFailed
from threadlog.api.custom_app.mount import CustomApp, CustomAppError, load, merged_openapi
from threadlog.api.settings import ApiSettings
from threadlog.engine.user_code.auth_section import AuthSection
from threadlog.engine.user_code.http_section import CodePlace

from .api_harness import ApiHarness, api_harness
from .auth_handlers import auth


class Thread(BaseModel):
    """A schema with the name of one of ours."""

    color: str


class Seen:
    """What the applications of this module have noticed."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.events: list[str] = []
        self.hold = asyncio.Event()


def fastapi(seen: Seen) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        seen.events.append("started")
        yield {"color": "blue"}
        seen.events.append("stopped")

    app = FastAPI(lifespan=lifespan)

    @app.get("/color")
    async def color(request: Request) -> Thread:
        return Thread(color=request.state.color)

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, Any]:
        return {"size": len(await request.body())}

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("broken")

    @app.get("/pieces")
    async def pieces() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await seen.hold.wait()
                yield b"second"
            finally:
                seen.events.append("pieces ended")

        return StreamingResponse(parts())

    @app.get("/later")
    async def later() -> JSONResponse:
        async def work() -> None:
            try:
                await seen.hold.wait()
            finally:
                seen.events.append("worked")

        return JSONResponse({}, background=BackgroundTask(work))

    @app.get("/where", name="where")
    async def where(request: Request) -> dict[str, Any]:
        return {"here": str(request.url_for("where")), "color": str(request.url_for("color"))}

    @app.get("/who")
    async def who(request: Request) -> dict[str, Any]:
        return {"identity": request.user.identity, "scopes": list(request.auth.scopes)}

    @app.websocket("/socket")
    async def socket(socket: WebSocket) -> None:
        if "refuse" in socket.query_params:
            await socket.close()
            return
        await socket.accept(subprotocol="chat")
        try:
            while True:
                text = await socket.receive_text()
                if text == "fail":
                    raise ValueError("broken")
                await socket.send_text(text.upper())
        except WebSocketDisconnect as error:
            seen.events.append(f"left {error.code}")

    class Around:
        """Middleware that reads the body before our handlers do, and says that it was there."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                return await self.app(scope, receive, send)
            if b"blocked" in scope["query_string"]:
                return await JSONResponse({"detail": "no"}, status_code=418)(scope, receive, send)
            body = []

            async def reading() -> Any:
                message = await receive()
                body.append(message.get("body", b""))
                return message

            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-around", str(message["status"]).encode())]
                await send(message)

            await self.app(scope, reading, sending)
            seen.bodies.append(b"".join(body))

    app.add_middleware(Around)
    return app


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def api(database: str, seen: Seen) -> AsyncIterator[ApiHarness]:
    custom = CustomApp(asgi=fastapi(seen))
    async with api_harness(database, ApiSettings(heartbeat_seconds=0.2, frame_wait_seconds=5), custom) as opened:
        await opened.register("noop")
        yield opened
        seen.hold.set()


async def test_our_handlers_get_what_the_middleware_lets_through(api: ApiHarness, seen: Seen) -> None:
    async with api.client.post("/threads", data=b'{"metadata": {"a": 1}}') as answer:
        assert answer.status == 200 and answer.headers["x-around"] == "200"
        assert (await answer.json())["metadata"] == {"a": 1}
    assert seen.bodies == [b'{"metadata": {"a": 1}}']
    status, refused = await api.ask("GET", "/threads/nonsense")
    assert (status, refused["detail"]) == (422, "Invalid thread ID: must be a UUID")
    assert await api.ask("GET", "/info?blocked=1") == (418, {"detail": "no"})
    assert (await api.ask("PUT", "/threads/search"))[0] == 405


async def test_a_large_body_goes_through_and_one_too_large_is_refused(database: str, seen: Seen) -> None:
    options = ApiSettings(max_body_bytes=1_800_000)
    async with api_harness(database, options, CustomApp(asgi=fastapi(seen))) as api:
        assert (await api.call("POST", "/threads", {"metadata": {"text": "x" * 1_500_000}}))["thread_id"]
        assert (await api.ask("POST", "/threads", {"metadata": {"text": "x" * 2_000_000}}))[0] == 413
        assert await api.call("POST", "/echo", "x" * 1_000_000) == {"size": 1_000_002}
        assert (await api.ask("POST", "/echo", "x" * 2_000_000))[0] == 413


async def test_its_routes_answer_where_we_have_none(api: ApiHarness, seen: Seen) -> None:
    assert seen.events == ["started"]
    assert await api.call("GET", "/color") == {"color": "blue"}
    assert (await api.ask("GET", "/nowhere"))[0] == 404
    status, failed = await api.ask("GET", "/threads")
    assert status == 405, failed


async def test_an_exception_of_its_own_is_a_500(api: ApiHarness) -> None:
    async with api.client.get("/fails") as answer:
        assert answer.status == 500


async def test_a_response_comes_in_pieces_and_does_not_wait_for_background_tasks(api: ApiHarness, seen: Seen) -> None:
    async with api.client.get("/pieces") as answer:
        assert await answer.content.readany() == b"first"
        seen.hold.set()
        assert await answer.read() == b"second"
    seen.hold.clear()
    async with api.client.get("/later") as answer:
        assert await answer.json() == {}
    async with api.client.get("/color") as answer:  # the next request of the connection
        assert (await answer.json())["color"] == "blue"
    assert "worked" not in seen.events
    seen.hold.set()
    await eventually(lambda: "worked" in seen.events)


async def test_background_tasks_end_before_the_application_does(database: str, seen: Seen) -> None:
    async with api_harness(database, custom=CustomApp(asgi=fastapi(seen))) as api:
        assert await api.call("GET", "/later") == {}
        asyncio.get_running_loop().call_later(0.2, seen.hold.set)
    assert seen.events == ["started", "worked", "stopped"]


async def test_the_application_hears_that_a_client_has_left(api: ApiHarness, seen: Seen) -> None:
    answer = await api.client.get("/pieces")
    assert await answer.content.readany() == b"first"
    answer.close()
    await eventually(lambda: "pieces ended" in seen.events)


async def test_our_streams_go_through_frame_by_frame_and_end_with_their_client(api: ApiHarness) -> None:
    thread = await api.thread()
    body = {"assistant_id": "noop", "on_disconnect": "cancel", "stream_mode": "updates"}
    answer = await api.client.post(f"/threads/{thread}/runs/stream", json=body)
    assert answer.headers["x-around"] == "200" and answer.headers["Content-Type"].startswith("text/event-stream")
    run = await api.in_flight(thread)
    await api.claim(run)
    await api.emit(thread, run, [("updates", {"a": 1})])
    text = b""
    while b'{"a":1}' not in text:
        text += await answer.content.readany()
    answer.close()

    async def is_interrupted() -> bool:
        return (await api.call("GET", f"/threads/{thread}/runs/{run}"))["status"] == "interrupted"

    await eventually(is_interrupted)


async def test_web_sockets_of_the_application(api: ApiHarness, seen: Seen) -> None:
    async with api.client.ws_connect("/socket", protocols=("chat",)) as socket:
        assert socket.protocol == "chat"
        await socket.send_str("hello")
        assert await socket.receive_str() == "HELLO"
        await socket.close(code=4001)
    await eventually(lambda: "left 4001" in seen.events)
    async with api.client.ws_connect("/socket") as socket:
        await socket.send_str("fail")
        await socket.receive()
        assert socket.close_code == 1011
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await api.client.ws_connect("/socket?refuse=1")


async def test_our_web_socket_goes_through_the_middleware(api: ApiHarness) -> None:
    thread = await api.thread()
    async with api.client.ws_connect(f"/threads/{thread}/stream/events") as socket:
        await socket.send_json({"id": 1, "method": "agent.getTree", "params": {}})
        assert (await socket.receive_json())["id"] == 1


async def test_head_has_headers_and_no_body(api: ApiHarness) -> None:
    async with api.client.head("/ok") as answer:
        assert answer.status == 200 and await answer.read() == b""


async def test_the_descriptions_are_one_and_ours_keeps_its_names(api: ApiHarness) -> None:
    described = await api.call("GET", "/openapi.json")
    assert {"/color", "/echo", "/threads"} <= described["paths"].keys()
    schemas = described["components"]["schemas"]
    assert "thread_id" in schemas["Thread"]["properties"] and "color" in schemas["AppThread"]["properties"]
    answer = described["paths"]["/color"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/AppThread"}


async def test_an_aiohttp_application_has_the_same(database: str, seen: Seen) -> None:
    color = web.AppKey("color", str)

    @web.middleware
    async def around(request: web.Request, handler: Any) -> web.StreamResponse:
        response = await handler(request)
        if not response.prepared:
            response.headers["x-around"] = str(response.status)
        return response

    async def show(request: web.Request) -> web.Response:
        return web.json_response({"color": request.app[color], "name": request.match_info["name"]})

    async def context(app: web.Application) -> AsyncIterator[None]:
        seen.events.append(f"started {app[color]}")
        yield
        seen.events.append("stopped")

    mine = web.Application(middlewares=[around])
    mine[color] = "green"
    mine.router.add_get("/color/{name}", show)
    mine.cleanup_ctx.append(context)
    async with api_harness(database, ApiSettings(), CustomApp(aiohttp=mine)) as api:
        assert await api.call("GET", "/color/of-it") == {"color": "green", "name": "of-it"}
        async with api.client.get("/threads/nonsense") as answer:
            assert (answer.status, answer.headers["x-around"]) == (422, "422")
    assert seen.events == ["started green", "stopped"]


async def test_what_an_aiohttp_application_raises_is_its_response(database: str, seen: Seen) -> None:
    @web.middleware
    async def around(request: web.Request, handler: Any) -> web.StreamResponse:
        if "blocked" in request.query:
            raise web.HTTPForbidden(text="not you")
        try:
            return await handler(request)
        except web.HTTPException as error:
            seen.events.append(f"raised {error.status}")
            raise

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("/other", headers={"X-Why": "moved"})

    async def wrong(request: web.Request) -> web.Response:
        raise web.HTTPConflict(text='{"mine": true}', content_type="application/json")

    async def fails(request: web.Request) -> web.Response:
        raise ValueError("broken")

    mine = web.Application(middlewares=[around])
    mine.router.add_get("/elsewhere", elsewhere)
    mine.router.add_get("/wrong", wrong)
    mine.router.add_get("/fails", fails)
    async with api_harness(database, custom=CustomApp(aiohttp=mine)) as api:
        async with api.client.get("/elsewhere", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"], answer.headers["X-Why"]) == (302, "/other", "moved")
        assert await api.ask("GET", "/wrong") == (409, {"mine": True})
        assert seen.events == ["raised 302", "raised 409"]
        status, failed = await api.ask("GET", "/fails")
        assert (status, failed["code"]) == (500, "internal_error")
        async with api.client.get("/ok?blocked=1") as answer:
            assert (answer.status, await answer.text()) == (403, "not you")
        assert (await api.ask("GET", "/nowhere"))[1]["code"] == "not_found"
        assert (await api.ask("GET", "/threads"))[1]["code"] == "method_not_allowed"
        assert (await api.ask("GET", "/threads/nonsense"))[1]["code"] == "invalid_request"


async def test_a_web_socket_of_an_aiohttp_application_that_fails_is_closed(database: str) -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        raise ValueError("broken")

    mine = web.Application()
    mine.router.add_get("/socket", fail)
    async with (
        api_harness(database, custom=CustomApp(aiohttp=mine)) as api,
        api.client.ws_connect("/socket") as socket,
    ):
        assert await socket.receive_str() == "hello"
        ended = await socket.receive()
        assert ended.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR), ended


async def test_urls_of_its_routes_are_found_by_name(api: ApiHarness) -> None:
    found = await api.call("GET", "/where")
    assert found == {"here": str(api.client.make_url("/where")), "color": str(api.client.make_url("/color"))}


async def test_all_of_an_application_is_below_the_prefix(database: str, seen: Seen) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.json_response("hello")

    mine, options = web.Application(), ApiSettings(mount_prefix="/agents")
    mine.router.add_get("/hello", hello)
    async with api_harness(database, options, CustomApp(asgi=fastapi(seen))) as api:
        assert await api.call("GET", "/agents/color") == {"color": "blue"}
        assert (await api.call("GET", "/agents/where"))["here"] == str(api.client.make_url("/agents/where"))
        for path in ("/color", "/agentscolor"):
            assert (await api.ask("GET", path))[0] == 404
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await api.client.ws_connect("/socket")
        assert (await api.call("GET", "/agents/openapi.json"))["servers"] == [{"url": "/agents"}]
    async with api_harness(database, options, CustomApp(aiohttp=mine)) as api:
        assert await api.call("GET", "/agents/hello") == "hello"
        assert (await api.ask("GET", "/hello"))[0] == 404


async def test_its_routes_know_the_user_where_they_need_one(database: str, seen: Seen) -> None:
    async def who(request: web.Request) -> web.Response:
        return web.json_response({"identity": request["user"].identity})

    def gate() -> Gate:
        return Gate(auth, AuthSection("", "auth", True), token="t", studio=False, custom_routes=True)

    ann: dict[str, Any] = {"headers": {"Authorization": "Bearer ann"}}
    mine = web.Application()
    mine.router.add_get("/who", who)
    async with api_harness(database, custom=CustomApp(asgi=fastapi(seen)), gate=gate()) as api:
        assert await api.call("GET", "/who", **ann) == {"identity": "ann", "scopes": ["chat"]}
        assert (await api.ask("GET", "/who"))[0] == 401
    async with api_harness(database, custom=CustomApp(aiohttp=mine), gate=gate()) as api:
        assert await api.call("GET", "/who", **ann) == {"identity": "ann"}
        assert (await api.ask("GET", "/who"))[0] == 401


@pytest.mark.parametrize("kind", ["starlette", "aiohttp"])
def test_routes_that_get_no_requests_are_named(kind: str) -> None:
    async def handler(request: Any) -> None: ...

    paths = ["/mine", "/threads/mine", "/threads/{name}/state", "/docs"]
    if kind == "aiohttp":
        own = web.Application()
        for path in paths:
            own.router.add_post(path, handler)  # type: ignore[arg-type]
        custom = CustomApp(aiohttp=own)
    else:
        asgi = FastAPI()
        for path in paths:
            asgi.add_route(path, handler, methods=["POST"])
        custom = CustomApp(asgi=asgi)
    served = [("POST", "/threads/{thread_id}"), ("GET", "/mine"), ("POST", "/threads/{thread_id:[^{}/]+}/state")]
    assert custom.hidden_behind(served) == ["POST /threads/mine", "POST /threads/{name}/state"]
    hidden = custom.hidden_behind((route.method, route.path) for route in ROUTES)
    assert hidden == ["POST /threads/{name}/state"]


async def test_an_asgi_application_of_another_kind_has_its_routes_and_no_say_in_ours(database: str) -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"  # raises for a lifespan, which it does not know
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-plain", b"1")]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    async with api_harness(database, ApiSettings(), CustomApp(asgi=plain)) as api:
        async with api.client.get("/any/where") as answer:
            assert (answer.status, await answer.read()) == (202, b"/any/where")
        async with api.client.get("/ok") as answer:
            assert "x-plain" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/usage", "/system"])
async def test_an_application_has_its_own_home_page_and_pages_of_names_that_are_ours_too(
    database: str, path: str
) -> None:
    async def mine(_: Any) -> JSONResponse:
        return JSONResponse("mine")

    async def mine_too(_: web.Request) -> web.Response:
        return web.json_response("mine")

    asgi, own = FastAPI(), web.Application()
    asgi.add_route(path, mine)
    own.router.add_get(path, mine_too)
    for custom in (CustomApp(asgi=asgi), CustomApp(aiohttp=own)):
        async with api_harness(database, custom=custom) as api:
            assert await api.call("GET", path) == "mine"
            if path != "/system":
                assert "partitions" in await api.call("GET", "/system")


async def test_an_application_that_can_not_start_says_why() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    with pytest.raises(StartFailed, match="no disk"):
        await Lifespan(app).start()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("app = 3", "is a int. Expected an ASGI application"),
        ("other = 3", 'has no "app"'),
        ("raise SystemExit(2)", "http.app cannot be imported: SystemExit: 2"),
        ("def app(environ, start_response): ...", "is a function. Expected an ASGI application"),
        ("import asyncio\nasyncio.run(asyncio.sleep(0))\nasync def app(scope, receive, send): ...", None),
    ],
)
async def test_what_is_no_application_is_refused(tmp_path: Path, code: str, says: str | None) -> None:
    file = tmp_path / "some_webapp.py"
    file.write_text(code)
    place = CodePlace(str(file), "app", True, tmp_path)
    if says is None:
        assert (await asyncio.to_thread(load, place)).asgi is not None
    else:
        with pytest.raises(CustomAppError) as refused:
            await asyncio.to_thread(load, place)
        assert says in str(refused.value)


def test_a_description_that_can_not_be_made_is_left_out() -> None:
    class Broken:
        def openapi(self) -> Any:
            raise ValueError("no")

    ours = {"paths": {}, "components": {}}
    assert merged_openapi(ours, CustomApp(asgi=Broken())) is ours
