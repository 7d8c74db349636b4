"""Writes event records as the engine would: one thread's life in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from threadlog.engine.log.records import EventRecord
from threadlog.engine.processor.ports import Accepted
from threadlog.projections.fold.project import project

T, T2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
R1, R2, R3 = (f"0000000{i}-0000-7000-8000-000000000000" for i in (1, 2, 3))
A = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
START = datetime(2026, 1, 1, tzinfo=UTC)

TABLES = (
    "aggregates", "threads", "runs", "run_queue", "timers", "checkpoints", "checkpoint_writes", "channel_values",
    "graphs", "assistants", "assistant_versions", "store_items", "store_vectors", "webhooks", "webhook_failures",
    "crons", "cron_firings", "keyed_requests", "keyed_commands",
)  # fmt: skip


def at(second: float) -> str:
    return (START + timedelta(seconds=second)).isoformat(timespec="microseconds")


def ckpt(n: int) -> str:
    """The id of the n-th checkpoint: later ones sort higher."""
    return f"1f0e{n:04x}-0000-6000-8000-000000000000"


def created(run_id: str = R1, thread_id: str = T, **fields: Any) -> dict[str, Any]:
    run = {"assistant_id": A, "metadata": {"graph_id": "g"}, "kwargs": {"input": {"x": 1}}}
    return {
        "type": "run.created", "thread_id": thread_id, "run_id": run_id, "graph_id": "g", "run": run, **fields,
    }  # fmt: skip


def scheduled(run_id: str = R1, attempt: int = 1, thread_id: str = T, **fields: Any) -> dict[str, Any]:
    return {"type": "run.scheduled", "thread_id": thread_id, "run_id": run_id, "attempt": attempt, **fields}


def status(value: str, thread_id: str = T, **fields: Any) -> dict[str, Any]:
    return {"type": "thread.status_changed", "thread_id": thread_id, "status": value, **fields}


def saved(n: int, run_id: str | None = R1, value: str = "aGVsbG8=", **fields: Any) -> dict[str, Any]:
    """A checkpoint whose channel `c` holds a value named after n."""
    return {
        "type": "checkpoint.saved", "thread_id": T, "run_id": run_id, "checkpoint_id": ckpt(n),
        "parent_id": ckpt(n - 1) if n else None, "metadata": {"step": n}, "checkpoint": {"v": 4, "id": ckpt(n)},
        "channels": {"c": {"h": f"value-{n}"}}, "blobs": [{"h": f"value-{n}", "t": "msgpack", "b": value}], **fields,
    }  # fmt: skip


def wrote(n: int, idx: int, value: Any, run_id: str | None = R1, task: str = "task") -> dict[str, Any]:
    return {
        "type": "writes.saved", "thread_id": T, "run_id": run_id, "checkpoint_id": ckpt(n), "task_id": task,
        "writes": [[idx, "c", value]],
    }  # fmt: skip


def ended(run_id: str = R1, kind: str = "run.succeeded", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "thread_id": T, "run_id": run_id, "attempt": 1, **fields}


class RunScript:
    """Records in order, one per call of `then`, a second apart."""

    def __init__(self) -> None:
        self.accepted: list[Accepted] = []
        self.begins = 0.0  # second at which the first record was written

    def then(self, *events: dict[str, Any], key: str = T, cmd_id: str = "", state: Any = None) -> RunScript:
        n = len(self.accepted)
        record = EventRecord(
            epoch=1, cmd_off=n, cmd_id=cmd_id or f"c{n}", key=key, at=at(self.begins + n), events=list(events)
        )
        self.accepted.append(Accepted(n, record, {"n": n} if state is None else state))
        return self


async def no_values(p: int, offset: int) -> bytes:
    raise AssertionError(f"nothing is in the values topic, asked for {p}:{offset}")


async def told(conn: asyncpg.Connection, batches: Sequence[Sequence[Accepted]], read: Any = no_values) -> None:
    """Project each batch in its own transaction."""
    for batch in batches:
        async with conn.transaction():
            await project(conn, [(3, batch)], read)


async def tables(conn: asyncpg.Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of every read model, comparable."""
    return {name: sorted((dict(row) for row in await conn.fetch(f"SELECT * FROM {name}")), key=repr) for name in TABLES}
