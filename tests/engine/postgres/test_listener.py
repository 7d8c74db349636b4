"""Listeners: their connection is killed, hangs, or is deaf, and they hear again."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from tests.log.proxy import Proxy
from tests.waiting import eventually
from threadlog.engine.postgres.listener import Listener, deaf_listeners

CHANNEL = "news"


class DeafeningProxy(Proxy):
    """Keeps back what the server notifies while it is `deaf`; all else passes."""

    deaf = False

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hit: asyncio.Event) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
                await self.flows.wait()
                if not (self.deaf and head[:1] == b"A"):  # NotificationResponse
                    writer.write(head + body)
                    await writer.drain()
        writer.transport.abort()


@pytest.fixture
async def proxied(empty_database: str) -> AsyncIterator[tuple[DeafeningProxy, str]]:
    """A proxy before the database, and the DSN through it."""
    parts = urlsplit(empty_database)
    folder = parse_qs(parts.query)["host"][0]
    with tempfile.TemporaryDirectory(prefix="tl-px-") as sockets:
        name = ".s.PGSQL.5432"
        proxy = DeafeningProxy(lambda: asyncio.open_unix_connection(str(Path(folder) / name)))
        async with await asyncio.start_unix_server(proxy.serve, str(Path(sockets) / name)):
            yield proxy, f"postgresql://{parts.username}@{parts.path}?host={sockets}&port=5432"
            proxy.drop_all()


@pytest.fixture
async def other(empty_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of another process, not through the proxy."""
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()


class Heard:
    """What a listener has said."""

    def __init__(self, dsn: str, other: asyncpg.Connection, *, check_every: float, hear_within: float = 5.0) -> None:
        self.payloads: list[str] = []
        self.connected = self.lost = self.proofs = 0
        self._other = other
        self.listener = Listener(
            lambda: asyncpg.connect(dsn),
            CHANNEL,
            self.payloads.append,
            name="test",
            on_reconnect=self._count_connected,
            on_lost=self._count_lost,
            notify=self._prove,
            check_every=check_every,
            hear_within=hear_within,
        )

    def _count_connected(self) -> None:
        self.connected += 1

    def _count_lost(self) -> None:
        self.lost += 1

    async def _prove(self, channel: str) -> None:
        self.proofs += 1
        await self._other.execute("SELECT pg_notify($1, '')", channel)

    async def hears_news(self) -> None:
        """Wait until something notified now arrives; sent again, as it is lost while there is no connection."""
        before = len(self.payloads)
        while len(self.payloads) == before:
            await self._other.execute("SELECT pg_notify($1, 'again')", CHANNEL)
            await asyncio.sleep(0.02)


async def test_a_listener_hears_from_its_start_on(empty_database: str, other: asyncpg.Connection) -> None:
    heard = Heard(empty_database, other, check_every=60)
    await heard.listener.start()
    assert heard.connected == 1
    for payload in ("a", "b", "c"):
        await other.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
    await eventually(lambda: heard.payloads == ["a", "b", "c"])
    await heard.listener.aclose()
    assert heard.lost == 0, "closing it is no loss"


async def test_one_that_hears_nothing_proves_that_it_would(empty_database: str, other: asyncpg.Connection) -> None:
    heard = Heard(empty_database, other, check_every=0.01)
    await heard.listener.start()
    await eventually(lambda: heard.proofs >= 5)
    assert (heard.connected, heard.lost, heard.listener.deaf) == (1, 0, False)
    assert heard.payloads == [], "its own notifications are nobody's news"
    await heard.listener.aclose()


async def test_one_whose_connection_is_killed_hears_again(empty_database: str, other: asyncpg.Connection) -> None:
    heard = Heard(empty_database, other, check_every=60)
    await heard.listener.start()
    async with heard.listener.connection() as connection:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
    await other.execute("SELECT pg_terminate_backend($1)", backend)
    await eventually(lambda: heard.connected == 2)
    assert heard.lost == 1
    await heard.hears_news()
    await heard.listener.aclose()


async def test_one_that_hangs_silently_is_given_up(
    proxied: tuple[DeafeningProxy, str], other: asyncpg.Connection
) -> None:
    proxy, dsn = proxied
    heard = Heard(dsn, other, check_every=0.05, hear_within=0.5)
    await heard.listener.start()
    proxy.flows.clear()  # no byte passes, and nothing says so
    await eventually(lambda: heard.lost >= 1)
    proxy.drop_all()
    proxy.flows.set()
    await eventually(lambda: heard.connected >= 2)
    await heard.hears_news()
    await heard.listener.aclose()


async def test_one_whom_notifications_do_not_reach_says_so_until_they_do(
    proxied: tuple[DeafeningProxy, str], other: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    proxy, dsn = proxied
    caplog.set_level(logging.INFO, "threadlog.engine.postgres.listener")
    heard = Heard(dsn, other, check_every=0.05, hear_within=0.5)
    await heard.listener.start()
    assert deaf_listeners() == []
    proxy.deaf = True
    await eventually(lambda: heard.connected >= 4)
    assert deaf_listeners() == ["test"]
    async with heard.listener.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1, "it works otherwise"
    proxy.deaf = False
    await eventually(lambda: not heard.listener.deaf)
    await heard.hears_news()
    await heard.listener.aclose()
    said = [record.getMessage() for record in caplog.records if "hear" in record.getMessage()]
    assert len([line for line in said if "does not hear" in line]) == 1, "once, not with every new connection"
    assert said[-1] == "listener test hears again"
    assert deaf_listeners() == []


async def test_a_reader_whose_statement_fails_gets_a_new_connection(
    empty_database: str, other: asyncpg.Connection
) -> None:
    heard = Heard(empty_database, other, check_every=60)
    await heard.listener.start()
    async with heard.listener.connection() as connection:
        first = await connection.fetchval("SELECT pg_backend_pid()")
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with heard.listener.connection() as connection:
            await connection.execute("SELECT 1 / 0")
    async with heard.listener.connection() as connection:  # waits for it
        assert await connection.fetchval("SELECT pg_backend_pid()") != first
    await heard.hears_news()
    await heard.listener.aclose()


async def test_one_that_starts_before_its_database_listens_when_that_is_there(
    proxied: tuple[DeafeningProxy, str], other: asyncpg.Connection
) -> None:
    proxy, dsn = proxied
    proxy.open = False
    heard = Heard(dsn, other, check_every=60)
    await heard.listener.start()  # returns all the same
    assert (heard.connected, heard.lost) == (0, 0)
    proxy.open = True
    await eventually(lambda: heard.connected == 1)
    await heard.hears_news()
    await heard.listener.aclose()
    assert heard.lost == 0
