"""A task as it goes on: server-sent events of A2A, made of the run's frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiohttp import web

from threadlog.api.context import Api
from threadlog.api.http.errors import ApiError
from threadlog.api.protocols.a2a.tasks import TASK_NOT_FOUND, HistoryScope, task_id_of, task_of, text_of, working
from threadlog.api.protocols.json_rpc import RpcError
from threadlog.api.runs.bodies import RunCreate
from threadlog.api.runs.create import create_run, prepare, was_created
from threadlog.api.runs.stream import from_its_start, subscription_to
from threadlog.api.streaming.cursor import run_end_of_row
from threadlog.api.streaming.sse import block, stream_to
from threadlog.api.streaming.subscriptions import Item, NewFrames
from threadlog.engine.clock import utc_now
from threadlog.projections.queries import runs

UNSUPPORTED_OPERATION = -32004

Shape = Callable[[dict[str, Any]], Any]


async def stream_run(
    request: web.Request,
    api: Api,
    params: RunCreate,
    thread_id: str,
    scope: HistoryScope,
    shape: Shape,
    *,
    task: str | None = None,
) -> web.StreamResponse:
    """Create the run, and stream its task until it ends; that goes on when the client leaves. `task`: the run of the
    task that this one continues.

    Raises:
        ApiError: the run can't be created.
    """
    new = await prepare(request, api, params, thread_id, streamed=True)
    with subscription_to(api, new.thread_id, new.run_id) as subscription:
        if not await was_created(api, new):
            subscription.start()
            await create_run(api, new)
        elif not await from_its_start(api, subscription, new.run_id):
            raise ApiError(404, "Run not found", code="run_not_found")
        view = _TaskView(api, params.assistant_id, new.thread_id, task or new.run_id, scope, shape)
        return await stream_to(
            request,
            new.headers(),
            subscription,
            view,
            disconnects=api.disconnects,
            heartbeat_seconds=api.settings.heartbeat_seconds,
            first=await view.began(),
        )


async def stream_task(
    request: web.Request, api: Api, assistant_id: str, thread_id: str, run_id: str, scope: HistoryScope, shape: Shape
) -> web.StreamResponse:
    """Stream a task that goes on, what was said before included, until it ends or the client leaves.

    Raises:
        RpcError: there is no such task any more, or it has ended.
    """
    newest = (await runs.of_task(api.pool, thread_id, run_id))[0]
    with subscription_to(api, thread_id, newest) as subscription:
        row = await runs.progress(api.pool, newest, thread_id)
        if row is None:
            raise RpcError(TASK_NOT_FOUND, f"Task not found: {task_id_of(thread_id, run_id)}")
        if run_end_of_row(row) is not None:
            raise RpcError(UNSUPPORTED_OPERATION, "The task has ended, or waits for a message: nothing is to come")
        subscription.from_start()
        subscription.start_at(row["stream_from"])
        view = _TaskView(api, assistant_id, thread_id, run_id, scope, shape)
        return await stream_to(
            request,
            {},
            subscription,
            view,
            disconnects=api.disconnects,
            heartbeat_seconds=api.settings.heartbeat_seconds,
            first=await view.now(),
        )


class _TaskView:
    """What a client is told: the task, what the agent has said so far with each batch of frames, how it ended."""

    def __init__(
        self, api: Api, assistant_id: str, thread_id: str, run_id: str, scope: HistoryScope, shape: Shape
    ) -> None:
        self._api, self._scope, self._shape = api, scope, shape
        self._place = (assistant_id, thread_id, run_id)
        self._said: dict[str, str] = {}

    async def began(self) -> bytes:
        task = await task_of(self._api, *self._place, self._scope)
        return self._blocks([{**task, "status": {**task["status"], "state": "submitted"}}])

    async def now(self) -> bytes:
        """The task as it stands."""
        return self._blocks([await task_of(self._api, *self._place, self._scope)])

    def render(self, items: list[Item]) -> bytes:
        said = dict(self._said)
        for item in items:
            if isinstance(item, NewFrames):
                for name, data in item.frames.frames[item.first :]:
                    if name == b"messages":
                        self._hear(orjson.loads(data)[0])
        if said == self._said:
            return b""
        _, thread_id, run_id = self._place
        text, newest = "".join(self._said.values()), next(reversed(self._said))
        return self._blocks([working(task_id_of(thread_id, run_id), thread_id, text, newest, utc_now())])

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("type") not in ("ai", "AIMessageChunk"):
            return
        key, text = str(message.get("id")), text_of(message.get("content"))
        before = self._said.get(key, "")
        said = before + text if message["type"] == "AIMessageChunk" else text
        if said != before:
            self._said[key] = said

    async def ending(self) -> bytes:
        task = await task_of(self._api, *self._place, self._scope)
        of = {"taskId": task["id"], "contextId": task["contextId"]}
        artifacts = [
            {"kind": "artifact-update", **of, "artifact": artifact, "append": False, "lastChunk": True}
            for artifact in task.get("artifacts", [])
        ]
        return self._blocks([*artifacts, {"kind": "status-update", **of, "status": task["status"], "final": True}])

    def _blocks(self, items: Iterable[dict[str, Any]]) -> bytes:
        return b"".join(block(b"message", orjson.dumps(self._shape(item))) for item in items)
