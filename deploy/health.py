"""Health probes: a port per process that reports whether it can work, and the command that requests it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from threadlog.deploy.compose.storage import pool_of
from threadlog.deploy.settings import Settings
from threadlog.engine.log.port import Log

ASK_SECONDS = 10.0


@asynccontextmanager
async def probed(
    settings: Settings,
    uri: str,
    log: Log,
    *,
    trouble: Callable[[], str | None] | None = None,
    executor_id: str | None = None,
) -> AsyncIterator[None]:
    """Answer `GET /ok` on `THREADLOG_HEALTH_PORT`; nothing if it is not set.

    200 when all is well, else 500; the body is that of the api's `/ok?check_db=1`. `GET /live` says that the process'
    loop turns. `trouble` and `executor_id`: see `WritePath`.
    """
    if settings.health_port is None:
        yield
        return
    from aiohttp import web  # not needed everywhere, and an executor is the smaller without it

    from threadlog.api.system.routes import health
    from threadlog.projections.health import WritePath

    async with pool_of(uri, name="health", size=2, seconds=settings.database_timeout_seconds) as pool:
        path = WritePath(pool, log, trouble=trouble, executor_id=executor_id)

        async def ok(request: web.Request) -> web.Response:
            return health(await path.check())

        async def live(request: web.Request) -> web.Response:
            return web.json_response({"ok": True})

        app = web.Application()
        app.router.add_get("/ok", ok)
        app.router.add_get("/live", live)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1, keepalive_timeout=30)
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.health_port).start()
            yield
        finally:
            await runner.cleanup()


def ask(settings: Settings) -> tuple[bool, str]:
    """Whether the process on this machine whose port the settings name is ready, and its words."""
    import json
    import urllib.error
    import urllib.request

    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    url = f"http://{host}:{settings.health_port or settings.port}/ok?check_db=1"
    try:
        with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:
            return True, str(json.load(answer).get("detail") or "ok")
    except urllib.error.HTTPError as error:
        try:
            return False, str(json.load(error)["detail"])
        except (ValueError, KeyError):
            return False, f"{url}: {error}"
    except OSError as error:
        return False, f"{url} does not answer: {error}"
