"""ListTasks of A2A 1.0: an assistant's tasks that the caller may see, of one context or of all, newest change first."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.context import Api
from threadlog.api.protocols.a2a.dialect import NEVER, state_named
from threadlog.api.protocols.a2a.tasks import HistoryScope, parse_task_id, task_of
from threadlog.api.protocols.json_rpc import INVALID_PARAMS, RpcError
from threadlog.engine.ids import as_uuid
from threadlog.projections.queries import runs

_PAGE, _LARGEST_PAGE = 50, 100  # tasks, as the specification has them
_UNSPECIFIED = "TASK_STATE_UNSPECIFIED"


async def list_tasks(
    request: web.Request, api: Api, assistant_id: str, params: dict[str, Any], scope: HistoryScope, size: int
) -> dict[str, Any]:
    """One page. `size`: of the page, 0 for the default.

    Raises:
        RpcError: a parameter is none.
    """
    size = min(size or _PAGE, _LARGEST_PAGE)
    context = params.get("contextId")
    thread_id = parse_task_id(f"{context}:{uuid4()}")[0] if context else None
    wanted = runs.TaskFilter(
        assistant_id, thread_id, state=_state(params.get("status")), after=_time(params.get("statusTimestampAfter"))
    )
    before = _position(params.get("pageToken"))
    only = await allowed(
        request, "threads.read" if thread_id else "threads.search", {"thread_id": thread_id} if thread_id else {}
    )
    if wanted.state in NEVER:
        return {"tasks": [], "totalSize": 0, "pageSize": size, "nextPageToken": ""}
    rows = await runs.tasks(api.pool, wanted, before=before, limit=size + 1, only=only)
    tasks = []
    for row in rows[:size]:
        run_id = as_uuid(row["task"])
        if run_id is None:
            continue  # metadata of a client's own
        try:
            task = await task_of(api, assistant_id, str(row["thread_id"]), run_id, scope)
        except RpcError:
            continue  # deleted meanwhile
        if params.get("includeArtifacts") is not True:
            task.pop("artifacts", None)
        tasks.append(task)
    more = _token(rows[size - 1]) if len(rows) > size else ""
    total = await runs.count_tasks(api.pool, wanted, only)
    return {"tasks": tasks, "totalSize": total, "pageSize": size, "nextPageToken": more}


def _state(name: Any) -> str | None:
    if name is None or name == _UNSPECIFIED:
        return None
    state = state_named(name) if isinstance(name, str) else None
    if state is None:
        raise RpcError(INVALID_PARAMS, f"status: there is no state {str(name)[:100]}")
    return state


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise RpcError(INVALID_PARAMS, "statusTimestampAfter: must be a time of ISO 8601") from None


def _token(row: Any) -> str:
    return urlsafe_b64encode(f"{row['updated_at'].isoformat()} {row['run_id']}".encode()).decode()


def _position(token: Any) -> tuple[datetime, str] | None:
    """Time and run of the last task of the page before."""
    if token is None or token == "":
        return None
    try:
        time, _, run = urlsafe_b64decode(str(token).encode("ascii")).decode().partition(" ")
        run_id = as_uuid(run)
        at = datetime.fromisoformat(time)
    except (ValueError, OverflowError):
        run_id = at = None
    if run_id is None or at is None or at.tzinfo is None:
        raise RpcError(INVALID_PARAMS, "pageToken: must be the nextPageToken of an earlier page")
    return at, run_id
