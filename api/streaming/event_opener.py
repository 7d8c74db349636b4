"""Decrypts what projected events say of a thread's runs, in order, for its subscribers."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from threadlog.engine.encryption.cipher import WrongKey, has_token, key_ids, open_text
from threadlog.engine.encryption.keys import Keyring

logger = logging.getLogger(__name__)

Events = list[dict[str, Any]]
_CONTENT = ("error", "interrupts", "result")


class EventOpener:
    """Calls `deliver(key, offset, events)` at once where the keys are known; else events of that aggregate wait, in
    order, until they are."""

    def __init__(self, keyring: Keyring, deliver: Callable[[str, int, Events], None]) -> None:
        self._keyring, self._deliver = keyring, deliver
        self._waiting: dict[str, deque[tuple[int, Events]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, key: str, offset: int, events: Events) -> None:
        if (queue := self._waiting.get(key)) is not None:
            queue.append((offset, events))
        elif self._missing(events):
            self._waiting[key] = deque([(offset, events)])
            task = asyncio.create_task(self._deliver_waiting(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._deliver(key, offset, self._opened(events))

    def _missing(self, events: Events) -> set[bytes]:
        return self._keyring.missing({id for event in events for _, text in _sealed(event) for id in key_ids(text)})

    async def _deliver_waiting(self, key: str) -> None:
        queue = self._waiting[key]
        try:
            while queue:
                try:
                    if missing := self._missing(queue[0][1]):
                        await self._keyring.load(missing)
                except Exception:
                    logger.exception("data keys of %s can't be read", key)
                offset, events = queue.popleft()
                self._deliver(key, offset, self._opened(events))
        finally:
            del self._waiting[key]

    def _opened(self, events: Events) -> Events:
        opened = []
        for event in events:
            for field, text in _sealed(event):
                try:
                    event = {**event, field: orjson.loads(open_text(text, self._keyring.known))}
                except WrongKey as error:
                    logger.error("an event of %s: %s", event.get("thread_id"), error)
            opened.append(event)
        return opened


def _sealed(event: dict[str, Any]) -> list[tuple[str, str]]:
    """The fields with tokens, as JSON text."""
    fields = [(field, orjson.dumps(value)) for field in _CONTENT if (value := event.get(field))]
    return [(field, json.decode()) for field, json in fields if has_token(json)]
