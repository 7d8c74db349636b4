"""A checkpoint of an earlier version in an attempt's memory: its migrated values, and the item that tells of it."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from threadlog.engine.executor.checkpointer.reader import Stored, migrated
from threadlog.engine.executor.state_migrations import StateMigrationFailed, StateMigrations, is_delta, is_internal


def migrate(
    migrations: StateMigrations, serde: SerializerProtocol, found: Stored, values: dict[str, Any]
) -> dict[str, Any] | None:
    """Put the migrated values in the place of the stored ones of `found`; returns the item of the report, None if there
    were no values.

    Raises:
        StateMigrationFailed: they can't be made, or not be stored.
    """
    before = migrations.version_of(found.checkpoint)
    kept = {name: ref for name, ref in found.channels.items() if is_internal(name) or is_delta(values[name])}
    state = migrated(migrations, found, values)
    found.migrated = {
        name: _stored(migrations, serde, name, value) for name, value in state.items() if name not in kept
    }
    found.channels = kept
    if not found.migrated:
        return None
    return {
        "kind": "migrated",
        "ns": found.ns,
        "checkpoint_id": found.checkpoint_id,
        "graph_id": migrations.graph_id,
        "from_version": before,
        "to_version": migrations.present,
    }


def _stored(migrations: StateMigrations, serde: SerializerProtocol, name: str, value: Any) -> tuple[str, bytes]:
    try:
        return serde.dumps_typed(value)
    except Exception as error:
        what = f"The migrated state of graph {migrations.graph_id} can't be stored"
        raise StateMigrationFailed(f"{what}: {name} is {type(value).__name__}: {error}") from error
