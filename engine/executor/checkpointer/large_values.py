"""Large values go to the `values` topic before the item that refers to them is reported."""

from __future__ import annotations

import asyncio
import logging

from threadlog.engine.executor.checkpointer.values import PendingBlobs
from threadlog.engine.log.port import Append, Log, LogUnavailable, Topic

logger = logging.getLogger(__name__)

_BACK_OFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


async def append_large(log: Log, partition: int, thread_id: str, draft: PendingBlobs) -> dict[str, int]:
    """The offsets of the draft's large values, durable by then. Waits for a log that is away."""
    names = draft.large()
    if not names:
        return {}
    records = [Append(Topic.VALUES, partition, thread_id, draft.sealed[name].data) for name in names]
    failures = 0
    while True:
        try:
            return dict(zip(names, await log.append(records), strict=True))
        except LogUnavailable as error:  # appending a value twice does no harm
            if failures % 20 == 0:
                logger.warning("thread %s: append of %d values failed: %s", thread_id, len(names), error)
            await asyncio.sleep(_BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)])
            failures += 1
