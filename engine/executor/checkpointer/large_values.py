"""Large values go to the `values` topic before the item that refers to them is reported."""

from __future__ import annotations

import asyncio
import logging

from threadlog.engine.backoff import Backoff
from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.executor.checkpointer.values import PendingBlobs
from threadlog.engine.log.port import Append, Log, LogUnavailable, Topic

logger = logging.getLogger(__name__)


async def append_large(
    log: Log, partition: int, thread_id: str, draft: PendingBlobs, key: DataKey | None = None
) -> dict[str, int]:
    """The offsets of the draft's large values, durable by then, encrypted with `key`. Waits for a log that is away."""
    names = draft.large()
    if not names:
        return {}
    values = [draft.sealed[name].data for name in names]
    if key is not None:
        values = [await asyncio.to_thread(key.seal, data) for data in values]
    records = [Append(Topic.VALUES, partition, thread_id, data) for data in values]
    failures, backoff = 0, Backoff()
    while True:
        try:
            return dict(zip(names, await log.append(records), strict=True))
        except LogUnavailable as error:  # appending a value twice does no harm
            if failures % 20 == 0:
                logger.warning(
                    "thread %s: append of %d values failed: %s", thread_id, len(names), error,
                    extra={"thread_id": thread_id, "partition": partition},
                )  # fmt: skip
            await backoff.wait()
            failures += 1
