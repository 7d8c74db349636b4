"""Reading checkpoints, writes and values from the read models, in few queries, as LangGraph's tuples."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg
import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from threadlog.engine.executor.checkpointer.serde import Blob
from threadlog.engine.executor.checkpointer.values import Values
from threadlog.engine.executor.langgraph_internals import DeltaChannelHistory, writes_sort_key
from threadlog.engine.executor.state_migrations import VERSION, StateMigrations, is_delta, is_internal
from threadlog.engine.stored.row_codec import COLUMNS, decode
from threadlog.engine.stored.value_refs import Reference, needed

Writes = dict[tuple[str, int], tuple[str, str, Reference]]  # (task id, idx) -> (task path, channel, value)
Pool: TypeAlias = "asyncpg.Pool"  # the class itself is not generic at run time

_BY_ID = f"SELECT {COLUMNS} FROM checkpoints c WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = $3"
_NEWEST = f"""SELECT {COLUMNS} FROM checkpoints c WHERE thread_id = $1 AND ns = $2
    ORDER BY checkpoint_id DESC LIMIT 1"""
_SEVERAL = f"""SELECT {COLUMNS} FROM checkpoints c
    WHERE thread_id = $1 AND ($2::text IS NULL OR ns = $2) AND ($3::text IS NULL OR checkpoint_id = $3)
        AND ($4::text IS NULL OR checkpoint_id < $4)
        AND ($5::text = '{{}}' OR checkpoint_metadata(c) @> $5::text::jsonb)
    ORDER BY checkpoint_id DESC LIMIT $6"""
_BLOBS = "SELECT hash, type, data FROM channel_values WHERE thread_id = $1 AND hash = ANY ($2::text[])"
# The ancestors a delta channel is rebuilt from: for each channel up to the nearest one that stores its value.
_CHAIN = f"""WITH RECURSIVE chain AS (
        SELECT t.parent_id AS at, $4::text[] AS remaining, 0 AS depth
        FROM checkpoints t WHERE t.thread_id = $1 AND t.ns = $2 AND t.checkpoint_id = $3
        UNION ALL
        SELECT p.parent_id,
            ARRAY(SELECT r FROM unnest(chain.remaining) r WHERE p.channels -> r IS NULL), chain.depth + 1
        FROM chain JOIN checkpoints p ON p.thread_id = $1 AND p.ns = $2 AND p.checkpoint_id = chain.at
        WHERE cardinality(chain.remaining) > 0
    )
    SELECT {COLUMNS} FROM chain JOIN checkpoints c
        ON c.thread_id = $1 AND c.ns = $2 AND c.checkpoint_id = chain.at AND cardinality(chain.remaining) > 0
    ORDER BY chain.depth"""
_NEWEST_ID = "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = $1 AND ns = $2"


@dataclass(slots=True)
class Stored:
    """A checkpoint with its writes, values as references.

    `live`: its values, until they have been described; `again`: what the graph made of it when it was resumed;
    `migrated`: values, serialized, that stand instead of the stored ones, of which `channels` has none then.
    """

    ns: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    channels: dict[str, Reference]
    writes: Writes = field(default_factory=dict)
    tasks: list[dict[str, Any]] | None = None
    out: list[str] | str | None = None
    shown: dict[str, dict[str, Reference]] | None = None
    live: Mapping[str, Any] | None = None
    again: Any = None
    migrated: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)

    def tuple(self, thread_id: str, values: dict[str, Any], writes: list[PendingWrite]) -> CheckpointTuple:
        checkpoint: Any = {**_copied(self.checkpoint), "channel_values": values}
        return CheckpointTuple(
            config=config_of(thread_id, self.ns, self.checkpoint_id),
            checkpoint=checkpoint,
            metadata=orjson.loads(orjson.dumps(self.metadata)),
            parent_config=config_of(thread_id, self.ns, self.parent_id) if self.parent_id else None,
            pending_writes=writes,
        )


def _copied(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """LangGraph changes the version tables of a checkpoint it has loaded."""
    return {
        **checkpoint,
        "channel_versions": dict(checkpoint["channel_versions"]),
        "versions_seen": {node: dict(seen) for node, seen in checkpoint["versions_seen"].items()},
    }


def config_of(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def migrated(migrations: StateMigrations, found: Stored, values: dict[str, Any]) -> dict[str, Any]:
    """All values of a checkpoint of an earlier version as the present one has them. Its table of channel versions gets
    the channels that are new, as old as the newest one, and loses those that are gone.

    Raises:
        StateMigrationFailed: a function raised, or returned something else than values.
    """
    own = {name: value for name, value in values.items() if is_internal(name) or is_delta(value)}
    before = {name: value for name, value in values.items() if name not in own}
    names = set(before)
    # The first checkpoint of a thread has nothing but the input.
    state = migrations.migrated(found.ns, migrations.version_of(found.checkpoint), before) if before else {}
    versions = dict(found.checkpoint["channel_versions"])
    newest = max(versions.values(), default=None)
    for name in names - state.keys():
        versions.pop(name, None)
    for name in state.keys() - versions.keys():
        versions[name] = newest
    found.checkpoint = {**found.checkpoint, "channel_versions": versions, VERSION: migrations.present}
    return {**own, **state}


def ordered(writes: Writes) -> list[tuple[str, str, Reference]]:
    """`(task id, channel, value)` in the order LangGraph applies them."""
    keys = sorted(writes, key=lambda key: writes_sort_key(writes[key][0], *key))
    return [(key[0], writes[key][1], writes[key][2]) for key in keys]


def _stored(row: asyncpg.Record) -> Stored:
    saved = decode(row)
    return Stored(
        ns=saved.ns,
        checkpoint_id=saved.checkpoint_id,
        parent_id=saved.parent_id,
        checkpoint=saved.checkpoint,
        metadata=saved.metadata,
        channels=saved.values.channels,
        writes={(task_id, idx): (path, channel, value) for path, task_id, idx, channel, value in saved.writes},
        tasks=saved.tasks,
        out=saved.values.out,
        shown=saved.values.shown,
    )


async def row(pool: Pool, thread_id: str, ns: str, checkpoint_id: str | None) -> Stored | None:
    """This checkpoint, or the newest of the namespace. One query."""
    if checkpoint_id is None:
        found = await pool.fetchrow(_NEWEST, thread_id, ns)
    else:
        found = await pool.fetchrow(_BY_ID, thread_id, ns, checkpoint_id)
    return None if found is None else _stored(found)


async def blobs(pool: Pool, thread_id: str, names: Iterable[str]) -> dict[str, Blob]:
    """Those of these values that are stored. One query, none for none."""
    wanted = list(names)
    if not wanted:
        return {}
    return {h: Blob(t, data) for h, t, data in await pool.fetch(_BLOBS, thread_id, wanted)}


async def several(
    pool: Pool,
    serde: SerializerProtocol,
    thread_id: str,
    config: RunnableConfig | None,
    filter: dict[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
    migrations: StateMigrations | None = None,
) -> list[CheckpointTuple]:
    """Checkpoints of a thread, newest first. Two queries."""
    if not _is_uuid(thread_id):
        return []
    configurable = config["configurable"] if config else {}
    rows = [
        _stored(found)
        for found in await pool.fetch(
            _SEVERAL,
            thread_id,
            configurable.get("checkpoint_ns"),
            get_checkpoint_id(config) if config else None,
            get_checkpoint_id(before) if before else None,
            orjson.dumps(filter or {}).decode(),
            limit,
        )
    ]
    return await _tuples(pool, serde, thread_id, rows, migrations)


async def one_of_thread(
    pool: Pool,
    serde: SerializerProtocol,
    thread_id: str,
    config: RunnableConfig,
    migrations: StateMigrations | None = None,
) -> CheckpointTuple | None:
    """A checkpoint of any thread, without an attempt's memory."""
    if not _is_uuid(thread_id):
        return None
    found = await row(pool, thread_id, config["configurable"].get("checkpoint_ns", ""), get_checkpoint_id(config))
    return None if found is None else (await _tuples(pool, serde, thread_id, [found], migrations))[0]


async def _tuples(
    pool: Pool,
    serde: SerializerProtocol,
    thread_id: str,
    rows: Sequence[Stored],
    migrations: StateMigrations | None,
) -> list[CheckpointTuple]:
    values = Values(serde)
    references: list[Reference] = []
    for found in rows:
        references += found.channels.values()
        references += (ref for _, _, ref in found.writes.values())
    data = await blobs(pool, thread_id, needed(references))
    out = []
    for found in rows:
        state = {name: values.value(ref, data) for name, ref in found.channels.items()}
        if migrations is not None and migrations.concern(found.ns, found.checkpoint, found.metadata):
            state = migrated(migrations, found, state)
        writes = [(task_id, channel, values.value(ref, data)) for task_id, channel, ref in ordered(found.writes)]
        out.append(found.tuple(thread_id, state, writes))
    return out


async def chain(
    pool: Pool, thread_id: str, ns: str, checkpoint_id: str | None, channels: Sequence[str]
) -> list[Stored]:
    """The ancestors of a checkpoint that delta channels are rebuilt from, nearest first."""
    if not _is_uuid(thread_id):
        return []
    checkpoint_id = checkpoint_id or await pool.fetchval(_NEWEST_ID, thread_id, ns)
    return [_stored(found) for found in await pool.fetch(_CHAIN, thread_id, ns, checkpoint_id, list(channels))]


def chain_references(rows: Sequence[Stored], channels: Sequence[str]) -> list[Reference]:
    """What `histories` will read."""
    wanted = set(channels)
    out = [ref for found in rows for name, ref in found.channels.items() if name in wanted]
    return out + [ref for found in rows for _, channel, ref in found.writes.values() if channel in wanted]


def histories(
    rows: Sequence[Stored], channels: Sequence[str], data: Mapping[str, Blob], values: Values
) -> dict[str, DeltaChannelHistory]:
    """Per channel the nearest stored value up the chain and the writes since, oldest first."""
    out: dict[str, DeltaChannelHistory] = {}
    for name in channels:
        history: DeltaChannelHistory = {"writes": []}
        steps: list[list[PendingWrite]] = []
        for found in rows:
            steps.append([(task, ch, values.value(ref, data)) for task, ch, ref in ordered(found.writes) if ch == name])
            # The value at an ancestor is the one before the writes stored with it: those count, older ones don't.
            if name in found.channels:
                history["seed"] = values.value(found.channels[name], data)
                break
        history["writes"] = [write for step in reversed(steps) for write in step]
        out[name] = history
    return out


async def delta_history(
    pool: Pool, serde: SerializerProtocol, thread_id: str, rows: Sequence[Stored], channels: Sequence[str]
) -> dict[str, DeltaChannelHistory]:
    data = await blobs(pool, thread_id, needed(chain_references(rows, channels)))
    return histories(rows, channels, data, Values(serde))


async def threads_of_runs(pool: Pool, run_ids: Sequence[str]) -> list[str]:
    """The threads with checkpoints of these runs."""
    wanted = [str(run_id) for run_id in run_ids if _is_uuid(str(run_id))]
    rows = await pool.fetch("SELECT DISTINCT thread_id::text FROM checkpoints WHERE run_id = ANY ($1::uuid[])", wanted)
    return [found[0] for found in rows]


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
