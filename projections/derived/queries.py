"""Reading the derived tables: usage per dimension and window, runs that ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import asyncpg
import orjson

DIMENSIONS = ("all", "assistant", "graph", "user", "tag")
WINDOWS = ("all", "hour", "day", "month")


async def usage(
    connection: asyncpg.Connection, *, by: str, window: str, since: datetime, until: datetime
) -> list[dict[str, Any]]:
    """Per value of the dimension `by`, and per window unless that is `all`: runs, tokens and cost, with the models.

    Windows begin at full hours, days and months in UTC; those that begin in `since` to `until` count.
    """
    rows = await connection.fetch(_USAGE, by, window, since, until)
    return [{**row, "models": orjson.loads(row["models"]), "cost": float(row["cost"])} for row in rows]


async def ended_runs(
    connection: asyncpg.Connection, *, since: datetime, until: datetime
) -> AsyncIterator[dict[str, Any]]:
    """The runs that ended in this time, in that order, as many as are still kept."""
    async with connection.transaction():
        async for row in connection.cursor(_RUNS, since, until):
            yield {**row, "usage": orjson.loads(row["usage"]), "cost": float(row["cost"])}


async def positions(connection: asyncpg.Connection) -> dict[int, int]:
    """How far each partition of `events` was counted."""
    rows = await connection.fetch("SELECT partition, next FROM threadlog_derived.positions")
    return {row["partition"]: row["next"] for row in rows}


_START = "CASE $2 WHEN 'all' THEN NULL ELSE date_trunc($2, start AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END"

_USAGE = f"""
WITH ended AS (
    SELECT {_START} AS start, value, sum(runs)::bigint AS runs, sum(succeeded)::bigint AS succeeded,
        sum(failed)::bigint AS failed, sum(attempts)::bigint AS attempts, sum(wait_seconds) AS wait_seconds,
        sum(run_seconds) AS run_seconds
    FROM threadlog_derived.run_windows w WHERE dimension = $1 AND w.start >= $3 AND w.start < $4 GROUP BY 1, 2
),
by_model AS (
    SELECT {_START} AS start, value, model, sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens,
        sum(output_tokens)::bigint AS output_tokens, sum(total_tokens)::bigint AS total_tokens,
        sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(reasoning_tokens)::bigint AS reasoning_tokens,
        sum(unpriced_calls)::bigint AS unpriced_calls, sum(cost) AS cost
    FROM threadlog_derived.usage_windows w WHERE dimension = $1 AND w.start >= $3 AND w.start < $4 GROUP BY 1, 2, 3
),
used AS (
    SELECT start, value, sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens,
        sum(output_tokens)::bigint AS output_tokens, sum(total_tokens)::bigint AS total_tokens,
        sum(unpriced_calls)::bigint AS unpriced_calls, sum(cost) AS cost,
        jsonb_object_agg(model, to_jsonb(by_model) - 'start' - 'value' - 'model') AS models
    FROM by_model GROUP BY 1, 2
)
SELECT k.start, k.value, coalesce(runs, 0) AS runs, coalesce(succeeded, 0) AS succeeded, coalesce(failed, 0) AS failed,
    coalesce(attempts, 0) AS attempts, coalesce(wait_seconds, 0) AS wait_seconds,
    coalesce(run_seconds, 0) AS run_seconds, coalesce(calls, 0) AS calls, coalesce(input_tokens, 0) AS input_tokens,
    coalesce(output_tokens, 0) AS output_tokens, coalesce(total_tokens, 0) AS total_tokens,
    coalesce(unpriced_calls, 0) AS unpriced_calls, coalesce(cost, 0) AS cost, coalesce(models, '{{}}') AS models
FROM (SELECT start, value FROM ended UNION SELECT start, value FROM used) AS k
LEFT JOIN ended e ON e.value = k.value AND e.start IS NOT DISTINCT FROM k.start
LEFT JOIN used u ON u.value = k.value AND u.start IS NOT DISTINCT FROM k.start
ORDER BY k.start NULLS FIRST, total_tokens DESC, runs DESC, k.value
"""

_RUNS = """
SELECT * FROM threadlog_derived.runs WHERE ended_at >= $1 AND ended_at < $2 ORDER BY ended_at, run_id
"""
