"""Reads of webhooks that wait, and the body of one: the run as clients see it, how it ended, the thread's values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from threadlog.engine.clock import utc_now
from threadlog.engine.webhooks.ports import DueWebhook, Look, WebhookMessage
from threadlog.projections.queries import runs, state
from threadlog.projections.queries.connection import Reader
from threadlog.projections.render.state import StateSelection

BODY_BYTES = 16 * 1024 * 1024
"""Of a larger body, values and then `kwargs` are left out, and `omitted` names them."""

# The receivers are found one by one in the index, so that one with many webhooks costs no more than one with few.
_LOOK = """
WITH RECURSIVE r (receiver) AS (
    (SELECT receiver FROM webhooks ORDER BY receiver LIMIT 1)
    UNION ALL
    SELECT (SELECT w.receiver FROM webhooks w WHERE w.receiver > r.receiver ORDER BY w.receiver LIMIT 1)
    FROM r WHERE r.receiver IS NOT NULL
)
SELECT d.run_id::text, d.thread_id::text, d.p, d.attempt, d.receiver,
    extract(epoch FROM d.due_at - now())::float8 AS in_seconds
FROM r CROSS JOIN LATERAL (
    SELECT * FROM webhooks w
    WHERE w.receiver = r.receiver AND w.p = ANY ($1::int[]) AND NOT w.run_id = ANY ($2::uuid[])
    ORDER BY w.due_at LIMIT $4
) d
WHERE r.receiver IS NOT NULL AND NOT r.receiver = ANY ($3::text[])
ORDER BY d.due_at LIMIT $5
"""
# `log_epoch` is the owner's when its announcement is projected, and with it all that was in the log before.
_MESSAGE = """
SELECT w.*, w.kwargs->>'trace' AS trace FROM webhooks w JOIN partitions o USING (p)
WHERE w.run_id = $1 AND w.attempt = $2 AND o.owner = $3 AND o.log_epoch = o.epoch
    AND EXISTS (SELECT FROM processors e WHERE e.owner = o.owner AND e.lease_until > now())
"""
_VALUES = StateSelection(fields=frozenset({"values"}))


class PostgresWebhookStore:
    """`engine.webhooks.ports.WebhookStore` on a pool without JSON codecs."""

    def __init__(self, db: Reader) -> None:
        self._db = db

    async def look(
        self,
        partitions: Sequence[int],
        *,
        without: Collection[str],
        full: Collection[str],
        per_receiver: int,
        limit: int,
    ) -> Look:
        rows = await self._db.fetch(_LOOK, list(partitions), list(without), list(full), per_receiver, limit)
        due = [DueWebhook(*row[:5]) for row in rows if row["in_seconds"] <= 0]
        return Look(due, next((row["in_seconds"] for row in rows if row["in_seconds"] > 0), None))

    async def message(self, due: DueWebhook, owner: str) -> WebhookMessage | None:
        row = await self._db.fetchrow(_MESSAGE, due.run_id, due.attempt, owner)
        if row is None:
            return None
        return WebhookMessage(row["url"], body(row, await self._values(row)), row["trace"])

    async def _values(self, row: asyncpg.Record) -> Any:
        """The values that the run left; None of one that left nothing: stateless, or rolled back."""
        if row["temporary"] or row["status"] == "rollback":
            return None
        thread_id = str(row["thread_id"])
        checkpoint_id = await runs.last_checkpoint(self._db, thread_id, str(row["run_id"]))
        found = await state.get_state(self._db, thread_id, checkpoint_id=checkpoint_id, selection=_VALUES)
        return found["values"]


def body(row: asyncpg.Record, values: Any) -> bytes:
    """The JSON of a row of `webhooks`, with the values."""
    said: dict[str, Any] = {
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "assistant_id": None if row["assistant_id"] is None else str(row["assistant_id"]),
        "metadata": orjson.Fragment(row["metadata"]),
        "status": row["status"],
        "kwargs": orjson.Fragment(row["kwargs"]),
        "multitask_strategy": row["multitask_strategy"],
        "created_at": _text(row["created_at"]),
        "updated_at": _text(row["ended_at"]),
        "langsmith_session_name": None,
        "run_started_at": None if row["started_at"] is None else _text(row["started_at"]),
        "run_ended_at": _text(row["ended_at"]),
        "webhook_sent_at": utc_now(),
        "values": values,
    }
    if row["error"] is not None:
        said["error"] = orjson.Fragment(row["error"])
    encoded = orjson.dumps(said)
    omitted: list[str] = []
    for name in ("values", "kwargs"):
        if len(encoded) > BODY_BYTES:
            omitted.append(name)
            encoded = orjson.dumps({**said, **dict.fromkeys(omitted), "omitted": omitted})
    return encoded


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
