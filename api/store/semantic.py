"""Semantic search for /store: what is put is embedded, a query is compared with it; never on the api's event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from threadlog.api.context import Api
from threadlog.api.http.errors import ApiError
from threadlog.api.store.bodies import ItemSearch
from threadlog.engine.store import reading, similarity
from threadlog.engine.store.embedding import EmbeddingFailed, Index, texts_of, vectors_of


async def embedded(api: Api, value: Any, index: Index) -> list[list[str]]:
    """The vectors of a value, none without `store.index`. Raises ApiError: 422 for what can't be embedded, 500."""
    if api.embedder is None:
        return []
    try:
        texts = texts_of(value, index, api.embedder.config)
    except ValueError as error:
        raise ApiError(422, str(error)) from None
    if not texts:
        return []
    try:
        vectors = await api.embedder.documents([text for _, text in texts])
    except EmbeddingFailed as error:
        raise ApiError(500, str(error)) from error
    return vectors_of([path for path, _ in texts], vectors)


async def found(
    api: Api, prefix: Sequence[str], params: ItemSearch, *, filter: dict[str, Any] | None
) -> list[reading.Row]:
    """The rows of a search under this prefix and filter: the nearest first if it has a query and there are embeddings,
    else the newest. Raises FilterError, ApiError 500."""
    page: dict[str, Any] = {"filter": filter, "limit": params.limit, "offset": params.offset}
    if not params.query or api.embedder is None:
        return await reading.search(api.pool, prefix, **page)
    try:
        vector = await api.embedder.query(params.query)
    except EmbeddingFailed as error:
        raise ApiError(500, str(error)) from error

    async def run(work: Callable[[Any], Awaitable[Any]]) -> Any:
        async with api.pool.acquire() as connection:
            return await work(connection)

    return await similarity.nearest(run, vector, prefix, **page)
