"""Starts and stops an ASGI application: https://asgi.readthedocs.io/en/latest/specs/lifespan.html."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from threadlog.api.custom_app.asgi import AsgiApp, Message

logger = logging.getLogger(__name__)


class StartFailed(Exception):
    """The application says that it can't start, and why."""


class Lifespan:
    """One life of an application. `state`: what it leaves there each request gets a copy of."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises `StartFailed`. An application that knows no lifespan is started by this."""
        self._task = asyncio.create_task(self._run(), name="lifespan of http.app")
        await self._to_app.put({"type": "lifespan.startup"})
        said = await self._said.get()
        if said is not None and said["type"] == "lifespan.startup.failed":
            raise StartFailed(said.get("message") or "it gives no reason")

    async def stop(self) -> None:
        if self._task is None or self._task.done():
            return
        await self._to_app.put({"type": "lifespan.shutdown"})
        said = await self._said.get()
        if said is not None and said["type"] == "lifespan.shutdown.failed":
            logger.error("http.app did not stop properly: %s", said.get("message") or "it gives no reason")
        await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._to_app.get, self._said.put)
        except Exception as error:  # it knows no lifespan; one that does has said what failed
            logger.debug("http.app has no lifespan: %s: %s", type(error).__name__, error)
        finally:
            self._said.put_nowait(None)
