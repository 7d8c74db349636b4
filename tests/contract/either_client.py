"""The public Python client, async or not, behind one way to call it; remembers which of its methods were called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from itertools import islice
from typing import Any

from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

PARTS = ("assistants", "threads", "runs", "crons", "store")


def methods(part: object) -> set[str]:
    """The public methods of a part of the client."""
    return {name for name in dir(part) if not name.startswith("_") and callable(getattr(part, name))}


class EitherClient:
    """Calls `client.<part>.<method>`; of a stream, its first `most` items are returned."""

    def __init__(self, client: LangGraphClient | SyncLangGraphClient) -> None:
        self._client = client
        self.called: dict[str, set[str]] = {part: set() for part in PARTS}

    async def __call__(self, method: str, *args: Any, most: int | None = None, **options: Any) -> Any:
        part, _, name = method.partition(".")
        self.called[part].add(name)
        bound = getattr(getattr(self._client, part), name)
        if isinstance(self._client, SyncLangGraphClient):
            return await asyncio.to_thread(_taken, bound, most, *args, **options)
        result = bound(*args, **options)
        if inspect.isawaitable(result):
            result = await result
        if not hasattr(result, "__aiter__"):
            return result
        items: list[Any] = []
        async for item in result:
            items.append(item)
            if len(items) == most:
                break
        return items

    def not_called(self, part: str) -> set[str]:
        """The public methods of a part that nobody has called."""
        return methods(getattr(self._client, part)) - self.called[part]


def _taken(bound: Any, most: int | None, *args: Any, **options: Any) -> Any:
    result = bound(*args, **options)
    return list(islice(result, most)) if isinstance(result, Iterator) else result
