"""Command submission: sends the handlers' commands through the gateway; a rejection becomes an error response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from threadlog.api.auth.caller import ACTOR
from threadlog.api.context import Api
from threadlog.api.http.errors import ApiError, ErrorCode
from threadlog.api.http.limits import AT_A_TIME
from threadlog.api.idempotency.keyed import KEYED
from threadlog.engine.domain.commands import (
    CancelRun,
    Command,
    CreateAssistant,
    CreateRun,
    CreateThread,
    DeleteAssistant,
    DeleteCron,
    DeleteRun,
    DeleteThread,
    ImportCheckpoints,
    PruneThread,
    SetLatestAssistant,
    UpdateAssistant,
    UpdateCron,
    UpdateState,
    UpdateThread,
)
from threadlog.engine.encryption.handlers import HandlerFailed
from threadlog.engine.processor.ports import Decided
from threadlog.projections.queries import crons

T = TypeVar("T")
R = TypeVar("R")

_STATUS = {"not_found": 404, "conflict": 409, "invalid": 422}
_MISSING: Mapping[type[Command], ErrorCode] = {  # what there is not, where a command finds none
    **dict.fromkeys((CreateThread, UpdateThread, PruneThread, DeleteThread), "thread_not_found"),
    **dict.fromkeys((CreateRun, UpdateState, ImportCheckpoints), "thread_not_found"),
    **dict.fromkeys((CancelRun, DeleteRun), "run_not_found"),
    **dict.fromkeys((UpdateCron, DeleteCron), "cron_not_found"),
    **dict.fromkeys((CreateAssistant, UpdateAssistant, SetLatestAssistant, DeleteAssistant), "assistant_not_found"),
}


async def submit(api: Api, command: Command) -> Decided:
    """Returns the command's events once they are projected: any later read, at any server, sees their effect.

    Raises:
        ApiError: the command was rejected: 404, 409 or 422, with the decider's sentence; or an encryption handler of
            the application failed.
        LogUnavailable: the log or the database can't be reached; the middleware makes it a 503.
    """
    decided = await _send(api, command)
    if (rejection := decided.rejection) is not None:
        missing = _MISSING.get(type(command)) if rejection.code == "not_found" else None
        raise ApiError(_STATUS[rejection.code], rejection.detail, code=missing)
    return decided


async def submit_unless_rejected(api: Api, command: Command) -> Decided | None:
    """As `submit`, for a command whose rejection is not an error of the request: returns None then."""
    decided = await _send(api, command)
    return decided if decided.rejection is None else None


async def submit_many(api: Api, commands: Sequence[Command]) -> int:
    """Submit all commands of one request; returns how many were not rejected. Raises `LogUnavailable`."""
    decided = await gather_in_batches(partial(submit_unless_rejected, api), commands)
    return len(decided) - decided.count(None)


async def delete_crons_of(api: Api, *, thread_ids: Sequence[str] = (), assistant_id: str | None = None) -> None:
    """Delete the crons of threads and an assistant that are gone. Should the process die before, the owners of the
    partitions find them (`engine.crons.service`)."""
    ids = await crons.ids_of(api.pool, thread_ids=thread_ids, assistant_id=assistant_id)
    await submit_many(api, [DeleteCron(cron_id=cron_id) for cron_id in ids])


async def gather_in_batches(call: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
    """The results of `call` for each item, in order: `AT_A_TIME` at the same time, and between the batches other
    requests have their turn."""
    results: list[R] = []
    for start in range(0, len(items), AT_A_TIME):
        results += await asyncio.gather(*(call(item) for item in items[start : start + AT_A_TIME]))
    return results


async def _send(api: Api, command: Command) -> Decided:
    try:
        if (keyed := KEYED.get()) is not None:
            return await keyed.submit(api, command)
        return await api.gateway.submit(command, actor=ACTOR.get())
    except HandlerFailed as failed:
        raise ApiError(failed.status, str(failed), code="encryption_failed") from failed
