"""Embeddings of texts by the application's model or function, on a thread and an event loop of its own: whatever it
does, the loop that asks goes on.

The vectors travel in the commands that write items, so that the log has all that the read models know, and no rebuild
asks a model again.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import math
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

from threadlog.engine.domain.store_limits import ITEM_VECTORS, PATH_BYTES
from threadlog.engine.store.text_paths import texts_at
from threadlog.engine.user_code.store_config import IndexConfig

Index = Literal[False] | Sequence[str] | None
"""Of a put: which paths to embed; None: those of the configuration, False: none."""

_TEXTS = 500  # in one call


class EmbeddingFailed(Exception):
    """The application's embeddings can't be loaded, fail, or return something else than vectors of `dims` numbers."""


class Embedder:
    """`load` returns the application's function or LangChain `Embeddings`; it is called once, on the embedder's thread,
    when the first text is to be embedded."""

    def __init__(self, config: IndexConfig, load: Callable[[], Any]) -> None:
        self.config, self._load = config, load
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._model: Any = None

    async def documents(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text. Raises EmbeddingFailed."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _TEXTS):
            vectors += await self._on_thread(list(texts[start : start + _TEXTS]), query=False)
        return vectors

    async def query(self, text: str) -> list[float]:
        """The vector that items are compared with. Raises EmbeddingFailed."""
        return (await self._on_thread([text], query=True))[0]

    async def load(self) -> None:
        """Load the application's code now, not with the first text. Raises EmbeddingFailed."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._loaded(), self._running_loop()))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    async def _on_thread(self, texts: list[str], *, query: bool) -> list[list[float]]:
        work = asyncio.run_coroutine_threadsafe(self._embed(texts, query), self._running_loop())
        return await asyncio.wrap_future(work)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="threadlog-embeddings", daemon=True).start()
            return self._loop

    async def _loaded(self) -> Any:
        try:
            if self._model is None:
                self._model = self._load()
        except Exception as error:
            raise EmbeddingFailed(
                f"store.index.embed: {self.config.embed} can't be loaded: {type(error).__name__}: {error}"
            ) from error
        return self._model

    async def _embed(self, texts: list[str], query: bool) -> list[list[float]]:
        model = await self._loaded()
        try:
            vectors = await _call(model, texts, query)
        except Exception as error:
            raise EmbeddingFailed(f"store.index.embed: {type(error).__name__}: {error}") from error
        return _checked(vectors, len(texts), self.config.dims)


async def _call(model: Any, texts: list[str], query: bool) -> Any:
    if hasattr(model, "aembed_documents"):
        return [await model.aembed_query(text) for text in texts] if query else await model.aembed_documents(texts)
    if inspect.iscoroutinefunction(model):
        return await model(texts)
    result = await asyncio.to_thread(model, texts)
    return await result if inspect.isawaitable(result) else result


def _checked(vectors: Any, count: int, dims: int) -> list[list[float]]:
    try:
        found = [[float(number) for number in vector] for vector in vectors]
    except (TypeError, ValueError):
        raise EmbeddingFailed("store.index.embed: it must return a list of numbers for each text") from None
    if len(found) != count or any(len(vector) != dims for vector in found):
        sizes = sorted({len(vector) for vector in found})
        raise EmbeddingFailed(
            f"store.index.embed: it returned {len(found)} vectors of {sizes} numbers for {count} texts; "
            f"store.index.dims is {dims}"
        )
    if not all(math.isfinite(number) for vector in found for number in vector):
        raise EmbeddingFailed("store.index.embed: it returned a number that is not finite")
    return found


def texts_of(value: Any, index: Index, config: IndexConfig) -> list[tuple[str, str]]:
    """`(path, text)` of what is to be embedded of a value; where a path leads to several, `path.0`, `path.1`, ….

    Raises ValueError: there are too many, or a path is too long.
    """
    if index is False:
        return []
    found: dict[str, str] = {}
    for path in config.fields if index is None else index:
        texts = texts_at(value, path)
        found |= {path: texts[0]} if len(texts) == 1 else {f"{path}.{n}": text for n, text in enumerate(texts)}
    if len(found) > ITEM_VECTORS:
        raise ValueError(f"the item has {len(found)} texts to embed; at most {ITEM_VECTORS} are allowed")
    if long := [path for path in found if len(path.encode("utf-8", "replace")) > PATH_BYTES]:
        raise ValueError(f"a path of `index` is longer than {PATH_BYTES} bytes: {long[0][:100]}…")
    return [(path, text) for path, text in found.items() if text]


def vectors_of(paths: Sequence[str], vectors: Sequence[Sequence[float]]) -> list[list[str]]:
    """As they stand in a command. One of zeros, which is near to nothing, is left out."""
    return [
        [path, base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()]
        for path, vector in zip(paths, vectors, strict=True)
        if any(vector)
    ]
