"""Reading states, histories and values of threads: no graph, a fixed number of queries per call.

Read within one repeatable-read transaction, or values deleted meanwhile make the call read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeVar

import asyncpg
import orjson

from threadlog.engine.compression.codec import LARGE_BYTES
from threadlog.engine.stored.export import export_items
from threadlog.engine.stored.row_codec import COLUMNS, VALUE_COLUMNS, decode, decode_values
from threadlog.engine.stored.tasks import statuses
from threadlog.engine.stored.value_refs import needed
from threadlog.projections.queries.connection import Reader
from threadlog.projections.render.state import EVERYTHING, State, StateSelection, references, rendered, visible
from threadlog.projections.render.values import BlobMissing, Blobs, StoredBlob

JsonObject = dict[str, Any]
T = TypeVar("T")

__all__ = ["export_items", "get_history", "get_state", "get_values"]

_AT = f"SELECT {COLUMNS} FROM checkpoints c WHERE c.thread_id = $1 AND c.ns = $2 AND c.checkpoint_id = $3"
_NEWEST = f"""SELECT {COLUMNS} FROM checkpoints c WHERE c.thread_id = $1 AND c.ns = $2
    ORDER BY c.checkpoint_id DESC LIMIT 1"""
# The newest checkpoint of each of these namespaces and of all below them.
_BELOW = f"""SELECT DISTINCT ON (c.ns) {COLUMNS} FROM checkpoints c
    WHERE c.thread_id = $1 AND (
        c.ns = ANY ($2::text[]) OR EXISTS (SELECT FROM unnest($2::text[]) above WHERE starts_with(c.ns, above || '|')))
    ORDER BY c.ns, c.checkpoint_id DESC"""
_HISTORY = f"""SELECT {COLUMNS} FROM checkpoints c
    WHERE c.thread_id = $1 AND c.ns = $2 AND ($3::text IS NULL OR c.checkpoint_id < $3)
        AND ($6::text IS NULL OR c.checkpoint_id = $6)
        AND ($4::text = '{{}}' OR checkpoint_metadata(c) @> $4::text::jsonb)
    ORDER BY c.checkpoint_id DESC LIMIT $5"""
_VALUES = f"""SELECT c.thread_id::text, {VALUE_COLUMNS}
    FROM threads t JOIN checkpoints c ON c.thread_id = t.thread_id AND c.ns = '' AND c.checkpoint_id = t.checkpoint_id
    WHERE t.thread_id = ANY ($1::uuid[])"""
_BLOBS = "SELECT hash, type, data FROM channel_values WHERE thread_id = $1 AND hash = ANY ($2::text[])"
_BLOBS_OF = """SELECT v.thread_id::text, v.hash, v.type, v.data FROM channel_values v
    JOIN unnest($1::uuid[], $2::text[]) w (thread_id, hash) ON v.thread_id = w.thread_id AND v.hash = w.hash"""
_TIMES = 3


async def get_state(
    conn: Reader,
    thread_id: str,
    *,
    checkpoint_id: str | None = None,
    ns: str = "",
    subgraphs: bool = False,
    selection: StateSelection = EVERYTHING,
) -> JsonObject:
    """The state of a thread (or of a subgraph's namespace) as it stands now, or the record of one checkpoint.

    Without any checkpoint: the empty state, whose `checkpoint` is None. `subgraphs`: nest the states of the subgraphs
    of the next tasks. `selection`: only this of it is returned, and only its values are read. At most three queries.
    """

    if "\0" in ns + (checkpoint_id or ""):
        return selection.of_nothing()  # Postgres takes no such text, so there is none

    async def read() -> JsonObject:
        if checkpoint_id is None:
            row = await conn.fetchrow(_NEWEST, thread_id, ns)
        else:
            row = await conn.fetchrow(_AT, thread_id, ns, checkpoint_id)
        if row is None:
            return selection.of_nothing()
        state = _state(thread_id, row, live=checkpoint_id is None)
        if subgraphs and "tasks" in selection.fields and (below := state.subgraph_namespaces()):
            rows = await conn.fetch(_BELOW, thread_id, below)
            state.nest({child.ns: child for child in (_state(thread_id, row, live=True) for row in rows)})
        blobs = await _blobs(conn, thread_id, [state], selection)
        return await _rendered([blobs], lambda: state.to_json(blobs, subgraphs=subgraphs, selection=selection))

    return await _again(read)


async def get_history(
    conn: Reader,
    thread_id: str,
    *,
    limit: int,
    before: str | None = None,
    checkpoint_id: str | None = None,
    metadata: JsonObject | None = None,
    ns: str = "",
    selection: StateSelection = EVERYTHING,
) -> list[JsonObject]:
    """The states of a namespace, newest first: below checkpoint `before`, with this in their metadata. Two queries.

    `checkpoint_id`: only that one, as LangGraph lists the history of a config that names one. `selection`: only this of
    each is returned, and only its values are read.
    """

    contained = orjson.dumps(metadata or {}).decode()
    if "\0" in ns + (before or "") + (checkpoint_id or "") or "\\u0000" in contained:
        return []  # Postgres takes no such text, so there is none

    async def read() -> list[JsonObject]:
        rows = await conn.fetch(_HISTORY, thread_id, ns, before, contained, limit, checkpoint_id)
        states = [_state(thread_id, row, live=False) for row in rows]
        blobs = await _blobs(conn, thread_id, states, selection)
        return await _rendered(
            [blobs], lambda: [state.to_json(blobs, subgraphs=False, selection=selection) for state in states]
        )

    return await _again(read)


async def get_values(conn: Reader, thread_ids: Collection[str]) -> dict[str, Any]:
    """`values` of the newest state of each of these threads; those without a checkpoint are left out. Two queries."""

    async def read() -> dict[str, Any]:
        visible_of = {
            row[0]: visible(*decode_values(row[1:]), live=True) for row in await conn.fetch(_VALUES, list(thread_ids))
        }
        needed_values = [
            (thread_id, name)
            for thread_id, visible_values in visible_of.items()
            for name in needed(references(visible_values))
        ]
        blobs: dict[str, Blobs] = {}
        if needed_values:
            threads, names = zip(*needed_values, strict=True)
            for thread_id, name, type_, data in await conn.fetch(_BLOBS_OF, list(threads), list(names)):
                blobs.setdefault(thread_id, Blobs())[name] = StoredBlob(type_, data)
        return await _rendered(
            blobs.values(),
            lambda: {
                thread_id: rendered(visible_values, blobs.get(thread_id, Blobs()))
                for thread_id, visible_values in visible_of.items()
            },
        )

    return await _again(read)


async def _again(read: Callable[[], Awaitable[T]]) -> T:
    for _ in range(_TIMES - 1):
        try:
            return await read()
        except BlobMissing:
            continue
    return await read()


async def _rendered(blobs: Iterable[Blobs], render: Callable[[], T]) -> T:
    """What `render` makes of the blobs; of large ones in a thread: to decompress them does not hold the interpreter."""
    if sum(some.unpacked_size for some in blobs) <= LARGE_BYTES:
        return render()
    return await asyncio.to_thread(render)


async def _blobs(conn: Reader, thread_id: str, states: Collection[State], selection: StateSelection) -> Blobs:
    names = needed(ref for state in states for ref in state.references(selection))
    rows = await conn.fetch(_BLOBS, thread_id, list(names)) if names else ()
    return Blobs((name, StoredBlob(type_, data)) for name, type_, data in rows)


def _state(thread_id: str, row: asyncpg.Record, *, live: bool) -> State:
    saved = decode(row)
    return State(
        thread_id=thread_id,
        ns=saved.ns,
        checkpoint_id=saved.checkpoint_id,
        parent_id=saved.parent_id,
        metadata=saved.metadata,
        created_at=saved.checkpoint.get("ts"),
        values=visible(*saved.values, live=live),
        out=saved.values.out,
        tasks=saved.tasks or [],
        statuses=statuses((task_id, channel, value) for _, task_id, _, channel, value in sorted(saved.writes)),
        live=live,
    )
