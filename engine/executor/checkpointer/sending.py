"""Sending for one run attempt: items go to the reporter with the values they need, large values to the log before."""

from __future__ import annotations

import asyncio
from typing import Any

from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.executor.checkpointer.large_values import append_large
from threadlog.engine.executor.checkpointer.ports import Reporter
from threadlog.engine.executor.checkpointer.sync_bridge import HomeLoop
from threadlog.engine.executor.checkpointer.values import PendingBlobs, Values
from threadlog.engine.log.port import Log


class Sender:
    """Hands the items of an attempt to its reporter. May be used from any thread."""

    def __init__(
        self,
        log: Log,
        partition: int,
        thread_id: str,
        *,
        values: Values,
        reporter: Reporter,
        home: HomeLoop,
        key: DataKey | None = None,
    ) -> None:
        """`key`: encrypts values that leave by themselves."""
        self._key = key
        self._log, self._partition, self._thread_id = log, partition, thread_id
        self._values, self._reporter = values, reporter
        self._home = home
        self._behind: set[asyncio.Task[None]] = set()
        self._large = asyncio.Lock()

    async def send(self, item: dict[str, Any], draft: PendingBlobs) -> None:
        """Hand an item over with the values it needs; large ones are durable in the `values` topic before."""
        if not self._sent_at_once(item, draft):
            self._home.will_wait()
            async with self._large:  # one after the other: LangGraph puts a write and the checkpoint it makes at once
                self._values.settle(draft)
                await draft.seal_aside()
                offsets = await append_large(self._log, self._partition, self._thread_id, draft, self._key)
                item["blobs"] = draft.items(offsets)
                self._reporter.add(item)
                self._values.commit(draft)

    def send_behind(self, item: dict[str, Any], draft: PendingBlobs) -> None:
        """The same from a caller that can't wait: what takes time goes on in a task (`caught_up`). From any thread."""
        if not self._sent_at_once(item, draft):
            if self._home.here:
                self._send_later(item, draft)
            else:
                self._home.loop.call_soon_threadsafe(self._send_later, item, draft)

    async def caught_up(self) -> None:
        """Everything sent behind has been handed over."""
        while self._behind:
            await asyncio.gather(*self._behind)

    def _sent_at_once(self, item: dict[str, Any], draft: PendingBlobs) -> bool:
        """Hand an item over if that needs no waiting."""
        if draft.raw:
            if draft.big:
                return False
            draft.seal()
            if draft.large():
                return False
            item["blobs"] = draft.items({})
        self._reporter.add(item)
        self._values.commit(draft)
        return True

    def _send_later(self, item: dict[str, Any], draft: PendingBlobs) -> None:
        task = self._home.loop.create_task(self.send(item, draft))
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
