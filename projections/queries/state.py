"""States of threads as clients see them, from the read models alone: no graph, a fixed number of queries per call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
import orjson

from engine.references import Reference, needed
from engine.tasks import RETURN, TaskStatus, namespace, path, statuses
from projections import render
from projections.queries.connection import Reader
from projections.render import Blob, Gone

JsonObject = dict[str, Any]
T = TypeVar("T")

_COLUMNS = """c.thread_id::text, c.ns, c.checkpoint_id, c.parent_id, c.metadata::text, c.checkpoint ->> 'ts' AS ts,
    c.channels::text, c.tasks::text, c.out::text, c.shown::text, (
        SELECT json_agg(json_build_array(w.task_id, w.channel, w.value) ORDER BY w.task_path, w.task_id, w.idx)::text
        FROM checkpoint_writes w
        WHERE w.thread_id = c.thread_id AND w.ns = c.ns AND w.checkpoint_id = c.checkpoint_id
    ) AS writes"""
_AT = f"SELECT {_COLUMNS} FROM checkpoints c WHERE c.thread_id = $1 AND c.ns = $2 AND c.checkpoint_id = $3"
_NEWEST = f"""SELECT {_COLUMNS} FROM checkpoints c WHERE c.thread_id = $1 AND c.ns = $2
    ORDER BY c.checkpoint_id DESC LIMIT 1"""
# The newest checkpoint of each of these namespaces and of all below them.
_BELOW = f"""SELECT DISTINCT ON (c.ns) {_COLUMNS} FROM checkpoints c
    WHERE c.thread_id = $1 AND (
        c.ns = ANY ($2::text[]) OR EXISTS (SELECT FROM unnest($2::text[]) above WHERE starts_with(c.ns, above || '|')))
    ORDER BY c.ns, c.checkpoint_id DESC"""
_HISTORY = f"""SELECT {_COLUMNS} FROM checkpoints c
    WHERE c.thread_id = $1 AND c.ns = $2 AND ($3::text IS NULL OR c.checkpoint_id < $3)
        AND c.metadata @> $4::text::jsonb
    ORDER BY c.checkpoint_id DESC LIMIT $5"""
_VALUES = """SELECT c.thread_id::text, c.channels::text, c.out::text, c.shown::text
    FROM threads t JOIN checkpoints c ON c.thread_id = t.thread_id AND c.ns = '' AND c.checkpoint_id = t.checkpoint_id
    WHERE t.thread_id = ANY ($1::uuid[])"""
_BLOBS = "SELECT hash, type, data FROM channel_values WHERE thread_id = $1 AND hash = ANY ($2::text[])"
_BLOBS_OF = """SELECT v.thread_id::text, v.hash, v.type, v.data FROM channel_values v
    JOIN unnest($1::uuid[], $2::text[]) w (thread_id, hash) ON v.thread_id = w.thread_id AND v.hash = w.hash"""
_READ_AGAIN = 3


@dataclass(slots=True)
class _Row:
    """A checkpoint as the state queries need it; values are references."""

    thread_id: str
    ns: str
    checkpoint_id: str
    parent_id: str | None
    metadata: JsonObject
    ts: str | None
    channels: dict[str, Reference]
    tasks: list[JsonObject]
    out: list[str] | str | None
    shown: dict[str, dict[str, Reference]]
    writes: list[tuple[str, str, Reference]]
    statuses: dict[str, TaskStatus] = field(default_factory=dict)

    def values(self, *, live: bool) -> Reference | None | dict[str, Reference]:
        return _visible(self.channels, self.out, self.shown, live=live)

    def references(self, *, live: bool) -> Iterable[Reference]:
        """What rendering the state needs."""
        found = _visible(self.channels, self.out, self.shown, live=live)
        yield from found.values() if isinstance(found, dict) else ([found[0]] if found else ())
        for status in self.statuses.values():
            yield from status.interrupts
            if status.error is not None:
                yield status.error
            for channel, ref in status.output:
                if self.sees(channel) or channel == RETURN:
                    yield ref

    def sees(self, channel: str) -> bool:
        """Whether a task's write to this channel is part of its result."""
        return channel == self.out if isinstance(self.out, str) else not _internal(channel)


def _internal(channel: str) -> bool:
    """LangGraph's own channels: triggers, pending sends, the input."""
    return channel.startswith(("__", "branch:to:", "join:"))


# `(reference,)` of a state that is one channel's value, None if that has none; else the channels clients see.
_Visible = dict[str, Reference] | tuple[Reference] | None


def _visible(
    channels: Mapping[str, Reference],
    out: list[str] | str | None,
    shown: Mapping[str, Mapping[str, Reference]],
    *,
    live: bool,
) -> _Visible:
    differing = {**shown.get("step", {}), **(shown.get("now", {}) if live else {})}
    if isinstance(out, str):
        found = differing.get(out) or channels.get(out)
        return (found,) if found else None
    names = [name for name in channels if not _internal(name)] if out is None else out
    return {name: found for name in names if (found := differing.get(name) or channels.get(name)) is not None}
