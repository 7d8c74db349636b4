"""Clients that come back: a run with `on_disconnect: cancel` whose request has an idempotency key is not cancelled as
soon as its client leaves, since the key says that the request will be sent again, but once that has not happened.

The request that came last decides, at whichever api: its client's leaving counts, that of those before it does not.
Which one it is, is a row of `run_followers` (none: the first). An api that dies or stops while it waits for a client
cancels nothing, as one that dies while a client is connected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

from threadlog.api.context import Api
from threadlog.api.idempotency.keyed import KEYED

_CAME_BACK = """
WITH ended AS (
    DELETE FROM run_followers f WHERE run_id <> $1
        AND NOT EXISTS (SELECT FROM runs r WHERE r.run_id = f.run_id AND r.status IN ('pending', 'running'))
)
INSERT INTO run_followers (run_id, follower) VALUES ($1, $2) ON CONFLICT (run_id) DO UPDATE SET follower = $2
"""


async def unless_it_returns(api: Api, run_id: str, cancel: Callable[[], Awaitable[None]]) -> Callable[[], None] | None:
    """None for a request without a key. Else what is to be called when its client leaves before the run's end: that
    calls `cancel`, `idempotency_return_seconds` later, unless the request has been sent again by then."""
    keyed = KEYED.get()
    if keyed is None:
        return None
    me = None
    if keyed.resumed:
        me = uuid4().hex
        await api.pool.execute(_CAME_BACK, run_id, me)

    async def cancel_unless_returned() -> None:
        if await api.pool.fetchval("SELECT follower FROM run_followers WHERE run_id = $1", run_id) == me:
            await cancel()

    def left() -> None:
        api.disconnects.later(api.settings.idempotency_return_seconds, cancel_unless_returned)

    return left
