"""What a checkpoint's row leaves out: what its other columns tell, and what it has in common with other rows.

The common parts are JSON values of the thread (`channel_values`), named in the column `parts`, space-separated: first
the facts (metadata that is the same for many runs; `-` for none), then lists of segments that `channels` refer to as
`{"l": index in parts, "s": the rest}`. `compact` makes a row; `COLUMNS` selects one, with its writes, for `decode`, and
`VALUE_COLUMNS` what tells its values, for `decode_values`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from threadlog.engine.stored.value_refs import Reference, content_hash

Json = dict[str, Any]

# The parts of row `c` as one JSON object.
_PARTS = """(SELECT json_object_agg(part.hash, convert_from(part.data, 'UTF8')::json)::text FROM channel_values part
        WHERE c.parts IS NOT NULL AND part.thread_id = c.thread_id
            AND part.hash = ANY (string_to_array(c.parts, ' ')))"""
# Both for rows `c` of `checkpoints`. All is text, so it does not matter which codecs a connection has.
VALUE_COLUMNS = f"c.channels::text, c.out::text, c.shown::text, c.parts, {_PARTS}"
COLUMNS = f"""{VALUE_COLUMNS}, c.ns, c.checkpoint_id, c.parent_id, c.run_id::text, c.created_at, c.metadata::text,
    c.checkpoint::text, c.tasks::text, (
        SELECT json_agg(json_build_array(w.task_path, w.task_id, w.idx, w.channel, w.value))::text
        FROM checkpoint_writes w
        WHERE w.thread_id = c.thread_id AND w.ns = c.ns AND w.checkpoint_id = c.checkpoint_id
    ) AS writes"""
PART_TYPE = "part"  # no serializer's: a value with the same bytes is another one

# Metadata that differs from step to step; SQL looks into some of it.
_OWN = frozenset({"source", "step", "parents", "counters_since_delta_snapshot"})
_OF_RUN = "~run"  # in facts: names of the fields that are the run's id
_MIN_FACTS = 64
_GROUP = 8  # segments: what leads is kept aside in multiples of this many, so that many rows have it in common
_NO_FACTS = "-"
_FORMAT = 4  # of LangGraph's checkpoints; stored rows lack it, so it stays even if a later LangGraph has another
_ABSENT: Mapping[str, Any] = {}


class Compact(NamedTuple):
    """The columns of a row, and the parts it needs by hash."""

    metadata: Json
    checkpoint: Json
    channels: dict[str, Any]
    parts: str | None
    needs: dict[str, bytes]


class SavedValues(NamedTuple):
    """What tells the values of a checkpoint: see "Checkpoints" in ARCHITECTURE.md."""

    channels: dict[str, Reference]
    out: list[str] | str | None
    shown: dict[str, dict[str, Reference]] | None


@dataclass(slots=True)  # not frozen: that takes a microsecond for each
class SavedCheckpoint:
    """A checkpoint as it was saved, without its values, and its writes: `[task path, task id, index, channel, value]`,
    in no order (sorted, they are in LangGraph's)."""

    values: SavedValues
    ns: str
    checkpoint_id: str
    parent_id: str | None
    metadata: Json
    checkpoint: Json
    tasks: list[Json] | None
    writes: list[list[Any]]


def decode(row: Iterable[Any]) -> SavedCheckpoint:
    """What `COLUMNS` has selected."""
    (
        channels, out, shown, parts, found, ns, checkpoint_id, parent_id, run_id, created_at,
        metadata, checkpoint, tasks, writes,
    ) = row  # fmt: skip
    held = orjson.loads(found) if found else _ABSENT
    return SavedCheckpoint(
        SavedValues(
            _whole_channels(orjson.loads(channels), parts, held),
            orjson.loads(out) if out else None,
            orjson.loads(shown) if shown else None,
        ),
        ns,
        checkpoint_id,
        parent_id,
        _whole_metadata(orjson.loads(metadata), parts, held, run_id),
        _whole_checkpoint(orjson.loads(checkpoint), checkpoint_id, created_at),
        orjson.loads(tasks) if tasks else None,
        orjson.loads(writes) if writes else [],
    )


def decode_values(row: Iterable[Any]) -> SavedValues:
    """What `VALUE_COLUMNS` has selected."""
    channels, out, shown, parts, found = row
    return SavedValues(
        _whole_channels(orjson.loads(channels), parts, orjson.loads(found) if found else _ABSENT),
        orjson.loads(out) if out else None,
        orjson.loads(shown) if shown else None,
    )


def compact(
    checkpoint_id: str,
    created_at: datetime,
    run_id: str | None,
    metadata: Json,
    checkpoint: Json,
    channels: Mapping[str, Reference],
) -> Compact:
    needs: dict[str, bytes] = {}
    own, facts = _split(metadata, run_id)
    names = [_NO_FACTS if facts is None else _need(needs, facts)]
    shorter: dict[str, Any] = {}
    for channel, reference in channels.items():
        segments = reference.get("s")
        if segments is not None and len(segments) > _GROUP:
            at = len(segments) - len(segments) % _GROUP
            shorter[channel] = {"l": len(names), "s": segments[at:]}
            names.append(_need(needs, orjson.dumps(segments[:at])))
        else:
            shorter[channel] = reference
    implied = _implied(checkpoint_id, created_at)
    rest = {k: v for k, v in checkpoint.items() if k not in implied or v != implied[k]}
    for name in implied:
        if name not in checkpoint:
            rest[name] = None
    return Compact(own, rest, shorter, None if names == [_NO_FACTS] else " ".join(names), needs)


def _whole_checkpoint(stored: Json, checkpoint_id: str, created_at: datetime) -> Json:
    """The checkpoint without its values, as it was saved."""
    implied = _implied(checkpoint_id, created_at)
    return {k: v for k, v in {**implied, **stored}.items() if v is not None or k not in implied}


def _whole_metadata(own: Json, parts: str | None, found: Mapping[str, Any], run_id: str | None) -> Json:
    """The metadata as it was saved. `found`: the row's parts by hash."""
    facts = found.get(parts.split(" ", 1)[0]) if parts else None
    if facts is None:
        return own
    return {**{k: v for k, v in facts.items() if k != _OF_RUN}, **dict.fromkeys(facts.get(_OF_RUN, ()), run_id), **own}


def _whole_channels(stored: dict[str, Any], parts: str | None, found: Mapping[str, Any]) -> dict[str, Reference]:
    """The channels' references as they were saved. `found`: the row's parts by hash."""
    if parts is None or " " not in parts:
        return stored
    names = parts.split(" ")
    return {
        channel: {"s": [*found[names[reference["l"]]], *reference["s"]]} if "l" in reference else reference
        for channel, reference in stored.items()
    }


def _split(metadata: Json, run_id: str | None) -> tuple[Json, bytes | None]:
    own = {k: v for k, v in metadata.items() if k in _OWN}
    if len(own) == len(metadata) or _OF_RUN in metadata:
        return metadata, None
    of_run = [] if run_id is None else [k for k, v in metadata.items() if v == run_id and k not in own]
    facts = {k: v for k, v in metadata.items() if k not in own and k not in of_run}
    if of_run:
        facts[_OF_RUN] = of_run
    encoded = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
    if len(encoded) < _MIN_FACTS or b"\\u0000" in encoded:
        return metadata, None
    return own, encoded


def _need(needs: dict[str, bytes], data: bytes) -> str:
    name = content_hash(PART_TYPE, data)
    needs[name] = data
    return name


def _implied(checkpoint_id: str, created_at: datetime) -> Json:
    return {"v": _FORMAT, "ts": created_at.astimezone(UTC).isoformat(), "id": checkpoint_id}
