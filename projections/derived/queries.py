"""Reading the derived tables: usage and run metrics per dimension and window, runs that ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from threadlog.projections.derived.usage import seconds_of
from threadlog.projections.queries.connection import Reader

DIMENSIONS = ("all", "assistant", "graph", "user", "tag")
WINDOWS = ("all", "hour", "day", "month")
COUNTING_SECONDS = 60.0
"""A worker that has not said so for this long does not count: it says it every `app.ALIVE_SECONDS`."""
_UNDEFINED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)


class NotCounted(LookupError):
    """Nothing has been counted in this database, by this version."""

    def __init__(self) -> None:
        super().__init__(
            "nothing was counted here yet: set THREADLOG_DERIVE=true for the server, or run threadlog derive"
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """`until`: the time of the last record counted, None before the first; `counting`: whether a worker is there."""

    until: datetime | None
    counting: bool


async def progress(db: Reader) -> Progress:
    """How far it is counted. Raises `NotCounted`."""
    try:
        row = await db.fetchrow(_PROGRESS, COUNTING_SECONDS)
    except _UNDEFINED:
        raise NotCounted from None
    assert row is not None
    return Progress(row["until"], bool(row["counting"]))


async def usage(
    db: Reader,
    *,
    by: str,
    window: str,
    since: datetime,
    until: datetime,
    values: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    top: int | None = None,
) -> list[dict[str, Any]]:
    """Per value of the dimension `by`, and per window unless that is `all`: runs, tokens and cost, with the models.

    Windows begin at full hours, days and months in UTC; those that begin in `since` to `until` count. `values`: these
    alone; `models`: of tokens and cost, those of these alone; `top`: the values with the most tokens, then runs. The
    median and the 95th percentile of durations are None of runs that an earlier version has counted.
    Raises `NotCounted`.
    """
    args = (by, window, since, until, values, models, top)
    try:
        rows = await db.fetch(_USAGE, *args)
        quantiles = await db.fetch(_QUANTILES, by, window, since, until, [row["value"] for row in rows])
    except _UNDEFINED:
        raise NotCounted from None
    of = {(row["start"], row["value"], row["kind"]): row for row in quantiles}
    return [_usage_row(dict(row), of) for row in rows]


async def count_values(db: Reader, *, by: str, since: datetime, until: datetime) -> int:
    """How many values the dimension has in this time."""
    return int(await db.fetchval(_VALUES, by, since, until))


def _usage_row(row: dict[str, Any], quantiles: dict[tuple[datetime | None, str, str], Any]) -> dict[str, Any]:
    for kind in ("wait", "run"):
        found = quantiles.get((row["start"], row["value"], kind))
        row[f"{kind}_median"] = None if found is None else _seconds(found["median"], row[f"{kind}_max"])
        row[f"{kind}_p95"] = None if found is None else _seconds(found["p95"], row[f"{kind}_max"])
    row["models"], row["cost"] = orjson.loads(row["models"]), float(row["cost"])
    return row


def _seconds(bucket: int, longest: float) -> float:
    return round(min(seconds_of(bucket), longest), 6)


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


_PROGRESS = """
SELECT (SELECT max(at) FROM threadlog_derived.positions) AS until,
    (SELECT alive > now() - make_interval(secs => $1) FROM threadlog_derived.worker) AS counting
"""

_START = "CASE $2 WHEN 'all' THEN NULL ELSE date_trunc($2, start AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END"
_WANTED = "dimension = $1 AND w.start >= $3 AND w.start < $4 AND ($5::text[] IS NULL OR value = ANY ($5))"

_USAGE = f"""
WITH ended AS (
    SELECT {_START} AS start, value, sum(runs)::bigint AS runs, sum(succeeded)::bigint AS succeeded,
        sum(failed)::bigint AS failed, sum(timed_out)::bigint AS timed_out, sum(interrupted)::bigint AS interrupted,
        sum(attempts)::bigint AS attempts, sum(wait_seconds) AS wait_seconds, sum(run_seconds) AS run_seconds,
        max(wait_max) AS wait_max, max(run_max) AS run_max
    FROM threadlog_derived.run_windows w WHERE {_WANTED} GROUP BY 1, 2
),
by_model AS (
    SELECT {_START} AS start, value, model, sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens,
        sum(output_tokens)::bigint AS output_tokens, sum(total_tokens)::bigint AS total_tokens,
        sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(reasoning_tokens)::bigint AS reasoning_tokens,
        sum(unpriced_calls)::bigint AS unpriced_calls, sum(cost)::double precision AS cost
    FROM threadlog_derived.usage_windows w WHERE {_WANTED} AND ($6::text[] IS NULL OR model = ANY ($6)) GROUP BY 1, 2, 3
),
used AS (
    SELECT start, value, sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens,
        sum(output_tokens)::bigint AS output_tokens, sum(total_tokens)::bigint AS total_tokens,
        sum(unpriced_calls)::bigint AS unpriced_calls, sum(cost) AS cost,
        jsonb_object_agg(model, to_jsonb(by_model) - 'start' - 'value' - 'model') AS models
    FROM by_model GROUP BY 1, 2
),
most AS (
    SELECT value FROM (
        SELECT value, runs, 0 AS tokens FROM ended UNION ALL SELECT value, 0, total_tokens FROM used
    ) of GROUP BY value ORDER BY sum(tokens) DESC, sum(runs) DESC, value LIMIT $7
)
SELECT k.start, k.value, coalesce(runs, 0) AS runs, coalesce(succeeded, 0) AS succeeded, coalesce(failed, 0) AS failed,
    coalesce(timed_out, 0) AS timed_out, coalesce(interrupted, 0) AS interrupted,
    coalesce(attempts, 0) AS attempts, coalesce(wait_seconds, 0) AS wait_seconds,
    coalesce(wait_max, 0) AS wait_max, coalesce(run_seconds, 0) AS run_seconds, coalesce(run_max, 0) AS run_max,
    coalesce(calls, 0) AS calls, coalesce(input_tokens, 0) AS input_tokens,
    coalesce(output_tokens, 0) AS output_tokens, coalesce(total_tokens, 0) AS total_tokens,
    coalesce(unpriced_calls, 0) AS unpriced_calls, coalesce(cost, 0) AS cost, coalesce(models, '{{}}') AS models
FROM (SELECT start, value FROM ended UNION SELECT start, value FROM used) AS k JOIN most USING (value)
LEFT JOIN ended e ON e.value = k.value AND e.start IS NOT DISTINCT FROM k.start
LEFT JOIN used u ON u.value = k.value AND u.start IS NOT DISTINCT FROM k.start
ORDER BY k.start NULLS FIRST, total_tokens DESC, runs DESC, k.value
"""

_QUANTILES = f"""
WITH counted AS (
    SELECT {_START} AS start, value, kind, bucket, sum(runs) AS runs
    FROM threadlog_derived.duration_windows w WHERE {_WANTED} GROUP BY 1, 2, 3, 4
),
summed AS (
    SELECT *, sum(runs) OVER (PARTITION BY start, value, kind ORDER BY bucket) AS upto,
        sum(runs) OVER (PARTITION BY start, value, kind) AS total
    FROM counted
)
SELECT start, value, kind, min(bucket) FILTER (WHERE upto >= 0.5 * total) AS median,
    min(bucket) FILTER (WHERE upto >= 0.95 * total) AS p95
FROM summed GROUP BY 1, 2, 3
"""

_VALUES = """
SELECT count(*) FROM (
    SELECT value FROM threadlog_derived.run_windows WHERE dimension = $1 AND start >= $2 AND start < $3
    UNION SELECT value FROM threadlog_derived.usage_windows WHERE dimension = $1 AND start >= $2 AND start < $3
) of
"""

_RUNS = """
SELECT * FROM threadlog_derived.runs WHERE ended_at >= $1 AND ended_at < $2 ORDER BY ended_at, run_id
"""
