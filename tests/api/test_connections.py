"""Connections that stall, on either side, and clients that leave: an end in bounded time, and no noise in the log."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import aiohttp
import asyncpg
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.log.proxy import Proxy
from tests.waiting import eventually
from threadlog.api.app import make_app
from threadlog.api.context import API, ApiDeps
from threadlog.api.settings import ApiSettings
from threadlog.api.streaming.hub import StreamHub
from threadlog.deploy.compose.storage import BoundedPool

from .api_harness import ApiHarness, api_harness

SOON = ApiSettings(read_timeout_seconds=0.5)


@dataclass
class Stalling:
    """A database behind a proxy, and a pool through it that waits half a second for an answer."""

    proxy: Proxy
    pool: asyncpg.Pool


@asynccontextmanager
async def stalling(database: str) -> AsyncIterator[Stalling]:
    parts = urlsplit(database)
    folder = parse_qs(parts.query)["host"][0]
    port = parse_qs(parts.query).get("port", ["5432"])[0]
    name = f".s.PGSQL.{port}"
    proxy = Proxy(lambda: asyncio.open_unix_connection(str(Path(folder) / name)))
    with tempfile.TemporaryDirectory(prefix="tl-st-") as sockets:
        async with await asyncio.start_unix_server(proxy.serve, str(Path(sockets) / name)):
            uri = urlunsplit(parts._replace(query=f"host={sockets}&port={port}"))
            pool = await BoundedPool(uri, name="test", size=2, seconds=0.5)
            try:
                yield Stalling(proxy, pool)
            finally:
                proxy.flows.set()
                pool.terminate()
                proxy.drop_all()


async def test_a_database_that_does_not_answer_is_given_up_and_comes_back(database: str) -> None:
    async with stalling(database) as stalled:
        assert await stalled.pool.fetchval("SELECT 1") == 1
        stalled.proxy.flows.clear()
        for _ in range(4):  # more than there are connections: those that were given up are not kept
            with pytest.raises(TimeoutError):
                await stalled.pool.fetchval("SELECT 1")
        with pytest.raises((TimeoutError, asyncpg.InterfaceError)):
            async with stalled.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
                pass
        stalled.proxy.flows.set()
        assert await stalled.pool.fetchval("SELECT 1") == 1


async def test_a_connection_whose_answer_was_given_up_is_not_waited_for_to_be_given_back(
    api: ApiHarness, database: str
) -> None:
    async with stalling(database) as stalled:
        deps = ApiDeps(pool=stalled.pool, gateway=api.gateway, log=api.log, hub=StreamHub(api.log))
        for connections in (stalled.pool.acquire, make_app(deps)[API].snapshot):
            opened: list[asyncpg.Connection] = []
            with pytest.raises(TimeoutError):
                async with connections() as connection:
                    opened.append(connection._con)  # type: ignore[attr-defined]
                    stalled.proxy.flows.clear()
                    try:
                        await connection.fetchval("SELECT 1")
                    finally:
                        stalled.proxy.flows.set()  # the database would take a rollback now, and the connection back
            assert opened[0].is_closed()


async def test_requests_are_answered_with_503_while_the_database_stalls(api: ApiHarness, database: str) -> None:
    async with stalling(database) as stalled:
        deps = ApiDeps(pool=stalled.pool, gateway=api.gateway, log=api.log, hub=StreamHub(api.log))
        async with TestClient(TestServer(make_app(deps)), timeout=aiohttp.ClientTimeout(total=60)) as client:
            thread_id = await api.thread()
            path = f"/threads/{thread_id}"
            async with client.get(path) as answer:
                assert answer.status == 200
            stalled.proxy.flows.clear()

            async def status(method: str, path: str, body: object = None) -> int:
                async with client.request(method, path, data=orjson.dumps(body)) as answer:
                    assert "can't be reached" in (await answer.json())["detail"]
                    return answer.status

            asked = [
                status("GET", path),
                status("GET", f"{path}/state"),
                status("GET", f"{path}/history"),
                status("GET", f"{path}/runs"),
                status("POST", "/threads/search", {}),
                status("POST", "/threads/search", {"values": {"a": 1}}),
                status("POST", f"{path}/runs", {"assistant_id": "noop"}),
                status("POST", f"{path}/copy"),
                status("GET", "/metrics"),
            ]
            assert await asyncio.gather(*asked) == [503] * len(asked)
            stalled.proxy.flows.set()
            async with client.get(path) as answer:
                assert answer.status == 200


async def connected(api: ApiHarness) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(api.client.host, api.client.port)


@pytest.mark.parametrize("sent", [b"", b"POST /threads HT", b"POST /threads HTTP/1.1\r\nHost: x\r\nX-Y: z"])
async def test_a_connection_whose_request_does_not_arrive_is_closed(database: str, sent: bytes) -> None:
    async with api_harness(database, SOON) as api:
        reader, writer = await connected(api)
        writer.write(sent)
        assert await reader.read() == b""
        writer.close()


async def test_headers_that_come_byte_by_byte_are_not_waited_for_longer(database: str) -> None:
    async with api_harness(database, SOON) as api:
        reader, writer = await connected(api)
        closed = asyncio.create_task(reader.read())
        writer.write(b"GET /ok HTTP/1.1\r\nHost: x\r\nX-Y: ")
        while not closed.done():
            writer.write(b"y")
            await asyncio.wait([closed], timeout=0.05)
        assert closed.exception() is not None or closed.result() == b""
        writer.close()


async def test_an_idle_connection_is_closed_after_its_request_too(database: str) -> None:
    async with api_harness(database, SOON) as api:
        reader, writer = await connected(api)
        writer.write(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b'{"ok":true,"services":{}}')).startswith(b"HTTP/1.1 200 ")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("length", [b"Content-Length: 50", b"Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_arrive_is_408(database: str, length: bytes) -> None:
    async with api_harness(database, SOON) as api:
        reader, writer = await connected(api)
        body = b'{"metadata": ' if b"50" in length else b'd\r\n{"metadata": \r\n'
        writer.write(b"POST /threads HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n" + body)
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"13 bytes in 0.5 s" in answer
        writer.close()


@pytest.mark.parametrize("total", [2_000_000, 100])
async def test_a_body_in_pieces_arrives_whole(database: str, total: int) -> None:
    async with api_harness(database) as api:
        reader, writer = await connected(api)
        body = b'{"metadata": {"x": "' + b"y" * total + b'"}}'
        writer.write(b"POST /threads HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), len(body) // 7):
            writer.write(body[start : start + len(body) // 7])
            await writer.drain()
            await asyncio.sleep(0)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ") and b"y" * total in answer
        writer.close()


async def test_a_chunked_body_over_the_limit_is_413(database: str) -> None:
    async with api_harness(database, ApiSettings(max_body_bytes=1000)) as api:
        reader, writer = await connected(api)
        writer.write(b"POST /threads HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"5dc\r\n" + b"x" * 1500 + b"\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 413 ")
        writer.close()


async def test_clients_that_leave_or_speak_no_http_write_nothing_that_looks_like_an_error(
    api: ApiHarness, caplog: pytest.LogCaptureFixture
) -> None:
    thread_id = await api.thread()
    deps = ApiDeps(pool=api.pool, gateway=api.gateway, log=api.log, hub=StreamHub(api.log))
    runner = web.AppRunner(make_app(deps), access_log=None)  # as the server does: aiohttp's TestServer cancels handlers
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.server is not None
    with caplog.at_level(logging.DEBUG):
        for sent in (
            b"POST /threads HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
            b"POST /threads HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
            f"POST /threads/{thread_id}/runs/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode(),
            b"POST /runs/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n[",
            b"POST /threads HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /ok HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        ):
            before = runner.server.requests_count
            _, writer = await asyncio.open_connection(*runner.addresses[0])
            writer.write(sent)
            await eventually(lambda server=runner.server, before=before: server.requests_count > before)
            writer.transport.abort()
        while (
            len(
                ours := [
                    r
                    for r in caplog.records
                    if r.name in ("threadlog.api.http.middleware", "api.http", "aiohttp.server")
                ]
            )
            < 7
        ):
            await asyncio.sleep(0.005)
    assert [record for record in ours if record.levelno > logging.DEBUG or record.exc_info] == []
    await runner.cleanup()


@pytest.mark.parametrize("key", [b"\xff\xfe", b"", b"dGhlIHNhbXBsZQ=="])
async def test_what_is_no_handshake_of_a_websocket_is_426(
    api: ApiHarness, caplog: pytest.LogCaptureFixture, key: bytes
) -> None:
    head = f"GET /threads/{await api.thread()}/stream/events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n"
    reader, writer = await asyncio.open_connection(api.client.server.host, api.client.server.port)
    writer.write(head.encode() + b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
    writer.write(b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 426 ")
    writer.close()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
