"""Dependency container: what the handlers of one application share, and how they get it from a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
from aiohttp import web

from threadlog.api.auth.gate import Gate
from threadlog.api.caches.assistants import AssistantCache
from threadlog.api.caches.thread_defaults import ThreadDefaultsCache
from threadlog.api.feedback import FeedbackLinks
from threadlog.api.http.disconnects import Disconnects
from threadlog.api.http.metrics import HttpMetrics
from threadlog.api.priority import Assign
from threadlog.api.settings import ApiSettings
from threadlog.api.streaming.hub import StreamHub
from threadlog.engine.encryption.handlers import EncryptionHandlers
from threadlog.engine.log.port import Log
from threadlog.engine.processor.ports import Gateway
from threadlog.engine.store.embedding import Embedder
from threadlog.engine.webhooks.guard import UrlGuard
from threadlog.projections.health import WritePath
from threadlog.projections.queries.connection import Connection

SCANS = 2  # concurrent scans; further ones wait, so that the pool's connections stay free for other requests


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """What the composition root hands in. `pool` has no JSON codecs: json and jsonb columns are read as text.

    `single_process`: every event reaches `hub` before a reply is sent, so caches fed by events are never stale.
    `gate`: in front of every handler; None: nobody has to authenticate.
    `priority`: the application's function. `trouble`: returns what the engine of this process fails at, None
    while it works. `embedder`: of `store.index`, `encryption`: the handlers, if the application has them;
    `encrypts`: content is encrypted, and so may be fields of objects; `encrypted_names`: of those that
    `LANGGRAPH_AES_JSON_KEYS` names.
    """

    pool: asyncpg.Pool
    gateway: Gateway
    log: Log
    hub: StreamHub
    settings: ApiSettings = field(default_factory=ApiSettings)
    single_process: bool = False
    priority: Assign | None = None
    trouble: Callable[[], str | None] | None = None
    gate: Gate | None = None
    embedder: Embedder | None = None
    encryption: EncryptionHandlers | None = None
    encrypts: bool = False
    encrypted_names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Api(ApiDeps):
    """`ApiDeps` and what the application makes of them."""

    assistant_cache: AssistantCache = field(kw_only=True)
    thread_defaults: ThreadDefaultsCache = field(kw_only=True)
    disconnects: Disconnects = field(kw_only=True)
    metrics: HttpMetrics = field(kw_only=True)
    write_path: WritePath = field(kw_only=True)
    webhooks: UrlGuard = field(kw_only=True)
    feedback: FeedbackLinks = field(kw_only=True)
    scans: asyncio.Semaphore = field(kw_only=True, default_factory=lambda: asyncio.Semaphore(SCANS))
    """Held by what reads many states, with a connection of its own for as long as that takes."""

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection whose reads see the database as of one moment, so that what they return fits together."""
        async with self.pool.acquire() as connection:
            transaction = connection.transaction(isolation="repeatable_read", readonly=True)
            await transaction.start()
            try:
                yield connection
            except TimeoutError:  # the server does not answer, to the end of the transaction neither
                connection.terminate()
                raise
            except BaseException:
                await transaction.rollback()
                raise
            else:
                await transaction.commit()


API: web.AppKey[Api] = web.AppKey("api", Api)


def api_of(request: web.Request) -> Api:
    return request.app[API]
