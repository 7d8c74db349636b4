"""Read models of any size, made with SQL (no log behind them), the api's queries of them, and how these are read.

For the plans' test and for `tests.benchmarks.growth`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from threadlog.deploy.settings import EMBEDDED_PARTITIONS
from threadlog.projections.commit.coordination import EXPIRED
from threadlog.projections.queries import assistants, crons, run_search, runs, state, system, threads
from threadlog.projections.queries.metadata_filter import MetadataFilter
from threadlog.projections.queries.run_search import RunFilter

LARGE = ("threads", "runs", "checkpoints", "checkpoint_writes", "channel_values", "assistants", "aggregates", "crons",
         "store_items", "store_vectors")  # fmt: skip

# Ids tell their number: thread n is 10000000-…-n.
FILL = (
    """INSERT INTO threads SELECT
        ('10000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, t, t + interval '1 minute', t,
        jsonb_build_object('graph_id', 'g' || n % 10, 'assistant_id', 'a' || n % 100,
            'user', 'u' || n % greatest($1::int / 50, 1), 'created_by', 'system',
            'title', 'no. ' || n || repeat('.', 80)),
        '{}', CASE WHEN n % 1000 = 0 THEN 'busy' WHEN n % 100 = 0 THEN 'interrupted' WHEN n % 50 = 0 THEN 'error'
        ELSE 'idle' END, NULL, '{}', CASE WHEN n % 20 = 0 THEN '{"ttl": 60}'::json END,
        '1f000000-0000-6000-8000-' || lpad(to_hex(0), 12, '0')
        FROM generate_series(1, $1::int) n, LATERAL (SELECT now() - make_interval(secs => $1::int - n) AS t) _""",
    """INSERT INTO runs SELECT
        ('20000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
        ('10000000-0000-4000-8000-' || lpad(to_hex(CASE WHEN n % 100 = 0 THEN 1 ELSE n END), 12, '0'))::uuid,
        ('30000000-0000-4000-8000-' || lpad(to_hex(CASE WHEN n % 4 = 1 THEN 1 ELSE n % 1000 + 1 END), 12, '0'))::uuid,
        CASE WHEN n % 2000 = 7 THEN 'rare' ELSE 'g' || n % 10 END, t, t,
        CASE WHEN n % 10000 = 0 THEN 'pending' WHEN n % 50 = 0 THEN 'error' ELSE 'success' END, 1,
        jsonb_build_object('graph_id', 'g' || n % 10, 'user', 'u' || n % greatest($1::int / 50, 1)),
        '{"input": {"messages": [{"role": "user", "content": "hello"}]}}', 'enqueue', false, NULL, 3, 0
        FROM generate_series(1, $1::int) n, LATERAL (SELECT now() - make_interval(secs => $1::int - n) AS t) _""",
    """INSERT INTO assistants SELECT
        ('30000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'g' || n % 1000, 'assistant ' || n, NULL,
        ('{"configurable": {"prompt": "' || repeat('Be kind. ', 30) || '"}}')::json, '{}',
        jsonb_build_object('owner', 'o' || n % 5000), 1, t, t
        FROM generate_series(1, greatest($1::int / 10, 5000)) n,
            LATERAL (SELECT now() - make_interval(secs => $1::int - n) AS t) _""",
    """INSERT INTO assistant_versions SELECT assistant_id, v, graph_id, name, NULL, '{}', '{}', metadata, created_at
        FROM assistants, generate_series(1, 3) v WHERE $1::int > 0""",
    """INSERT INTO run_queue SELECT run_id, thread_id, 0, 'run', graph_id, 1, created_at, false, NULL, NULL, NULL
        FROM runs WHERE status = 'pending' AND $1::int > 0""",
    """INSERT INTO crons SELECT gen_random_uuid(), 0,
        ('30000000-0000-4000-8000-' || lpad(to_hex(n % 1000 + 1), 12, '0'))::uuid, NULL, NULL, '0 0 1 1 *', NULL, NULL,
        '{}', jsonb_build_object('user', 'u' || n % 100), 'delete', true, 1, now() + interval '9 days', t, t, NULL
        FROM generate_series(1, $1::int) n, LATERAL (SELECT now() - make_interval(secs => $1::int - n) AS t) _""",
    """INSERT INTO aggregates SELECT thread_id, 0, '{}', NULL FROM threads WHERE $1::int > 0""",
)
HISTORY = (
    """INSERT INTO checkpoints SELECT
        '10000000-0000-4000-8000-000000000001', '', '1f000000-0000-6000-8000-' || lpad(to_hex(n), 12, '0'),
        CASE WHEN n > 0 THEN '1f000000-0000-6000-8000-' || lpad(to_hex(n - 1), 12, '0') END,
        ('20000000-0000-4000-8000-' || lpad(to_hex(n / 4 * 100), 12, '0'))::uuid, now(),
        jsonb_build_object('source', 'loop', 'step', n, 'half', n % 2, 'rare', n / 100),
        json_build_object('v', 4, 'ts', now()),
        json_build_object('messages', json_build_object('h', 'hash-' || n)), '[]', '["messages"]', NULL
        FROM generate_series(0, $1::int - 1) n""",
    """INSERT INTO checkpoint_writes SELECT
        '10000000-0000-4000-8000-000000000001', '', '1f000000-0000-6000-8000-' || lpad(to_hex(n), 12, '0'),
        'task', 0, '', 'messages', '{"h": "x"}', NULL FROM generate_series(0, $1::int - 1) n""",
    """INSERT INTO channel_values SELECT '10000000-0000-4000-8000-000000000001', 'hash-' || n, 'msgpack', '\\x9101'
        FROM generate_series(0, $1::int - 1) n""",
)
THREAD = "10000000-0000-4000-8000-000000000001"
RUN = "20000000-0000-4000-8000-000000000064"
ASSISTANT = "30000000-0000-4000-8000-000000000006"
BUSY_ASSISTANT = "30000000-0000-4000-8000-000000000001"
LATER = datetime(2100, 1, 1, tzinfo=UTC)

LONG_AGO = datetime.now(UTC) - timedelta(hours=3)

Query = Callable[[Any], Awaitable[Any]]


def thread_search(**given: Any) -> Query:
    asked = {
        "metadata": None, "status": None, "ids": None, "sort_by": "created_at", "descending": True, "limit": 11,
        "offset": 0, **given,
    }  # fmt: skip
    return lambda db: threads.search(db, **asked)


def assistant_search(**given: Any) -> Query:
    asked = {
        "metadata": None, "graph_id": None, "name": None, "sort_by": "created_at", "descending": True, "limit": 11,
        "offset": 0, **given,
    }  # fmt: skip
    return lambda db: assistants.search(db, **asked)


def cron_search(**given: Any) -> Query:
    asked = {
        "filters": {}, "metadata": None, "sort_by": "created_at", "descending": True, "limit": 11, "offset": 0, **given,
    }  # fmt: skip
    return lambda db: crons.search(db, **asked)


def runs_search(only: dict[str, Any] | None = None, after: int | None = None, **given: Any) -> Query:
    """`after`: so many seconds ago."""

    async def asked(db: Any) -> Any:
        place = None if after is None else (datetime.now(UTC) - timedelta(seconds=after), RUN)
        wanted = RunFilter(**given, only=MetadataFilter.parse(only or {}))
        return await run_search.search(db, wanted, after=place, limit=11)

    return asked


def checkpoint_id(n: int) -> str:
    return f"1f000000-0000-6000-8000-{n:012x}"


QUERIES: dict[str, Query] = {
    "thread": lambda db: threads.get(db, THREAD),
    "search threads, newest": thread_search(),
    "search threads, oldest": thread_search(descending=False),
    "search threads, page 100": thread_search(offset=1000),
    **{f"search threads, by {key}": thread_search(sort_by=key) for key in sorted(threads.SORT_KEYS)},
    "search threads, by updated_at, oldest": thread_search(sort_by="updated_at", descending=False),
    "search threads, metadata of 50": thread_search(metadata={"user": "u77"}),
    "search threads, metadata of a tenth": thread_search(metadata={"graph_id": "g3"}),
    "search threads, metadata of none": thread_search(metadata={"user": "nobody"}),
    "search threads, metadata by updated_at": thread_search(metadata={"user": "u77"}, sort_by="updated_at"),
    "search threads, ids": thread_search(ids=[THREAD, THREAD[:-1] + "2"]),
    **{
        f"search threads, {status}": thread_search(status=status) for status in ("busy", "interrupted", "error", "idle")
    },
    "search threads, busy by updated_at": thread_search(status="busy", sort_by="updated_at"),
    "search threads, interrupted of a user": thread_search(status="interrupted", metadata={"user": "u100"}),
    "count threads": lambda db: threads.count(db, metadata=None, status=None),
    "count threads, metadata of 50": lambda db: threads.count(db, metadata={"user": "u77"}, status=None),
    "count threads, busy": lambda db: threads.count(db, metadata=None, status="busy"),
    "count threads, idle": lambda db: threads.count(db, metadata=None, status="idle"),
    "threads of an assistant": lambda db: threads.ids_of_assistant(db, "a5"),
    "run": lambda db: runs.get(db, RUN, THREAD),
    "runs of a thread": lambda db: runs.search(db, THREAD, status=None, limit=10, offset=0),
    "runs of a thread, error": lambda db: runs.search(db, THREAD, status="error", limit=10, offset=0),
    "runs in flight": lambda db: runs.in_flight(db, ["pending", "running"]),
    "runs in flight of an assistant": lambda db: runs.in_flight_of_assistant(db, ASSISTANT),
    "search runs, newest": runs_search(),
    "search runs, page 100": runs_search(after=5000),
    "search runs, error": runs_search(statuses=["error"]),
    "search runs, in flight": runs_search(statuses=["pending", "running"]),
    "search runs, running": runs_search(statuses=["running"]),
    "search runs, of an assistant": runs_search(assistant_id=ASSISTANT),
    "search runs, of a graph, success, page 100": runs_search(graph_id="g5", statuses=["success"], after=5000),
    "search runs, of a rare graph": runs_search(graph_id="rare"),
    "search runs, of a thread": runs_search(thread_id=THREAD),
    "search runs, by ids": runs_search(run_ids=[RUN, THREAD]),
    "search runs, of an hour": runs_search(since=LONG_AGO, until=LONG_AGO + timedelta(hours=1)),
    "search runs, metadata of 50": runs_search(metadata={"user": "u77"}),
    "search runs, metadata of a tenth": runs_search(metadata={"graph_id": "g3"}),
    "search runs, metadata of none": runs_search(metadata={"user": "nobody"}),
    "search runs, of threads of a user": runs_search(only={"user": "u77"}),
    "search runs, of threads of a tenth": runs_search(only={"graph_id": "g3"}),
    "search runs, errors of threads of a user": runs_search(only={"user": "u100"}, statuses=["error"]),
    "count runs": lambda db: run_search.count(db, RunFilter()),
    "count runs, error": lambda db: run_search.count(db, RunFilter(statuses=["error"])),
    "count runs, of an assistant": lambda db: run_search.count(db, RunFilter(assistant_id=ASSISTANT)),
    "tasks of an assistant": lambda db: runs.tasks(db, runs.TaskFilter(BUSY_ASSISTANT), before=None, limit=51),
    "tasks of an assistant, a later page": lambda db: runs.tasks(
        db, runs.TaskFilter(BUSY_ASSISTANT), before=(LATER, RUN), limit=51
    ),
    "tasks of an assistant, failed": lambda db: runs.tasks(
        db, runs.TaskFilter(BUSY_ASSISTANT, state="failed"), before=None, limit=51
    ),
    "tasks of a thread": lambda db: runs.tasks(db, runs.TaskFilter(BUSY_ASSISTANT, THREAD), before=None, limit=51),
    "count tasks of an assistant": lambda db: runs.count_tasks(db, runs.TaskFilter(BUSY_ASSISTANT)),
    "last checkpoint of a run": lambda db: runs.last_checkpoint(db, THREAD, RUN),
    "queue": system.queue,
    "expired threads": lambda db: db.fetch(EXPIRED, list(range(EMBEDDED_PARTITIONS)), 100, None, None),
    "state": lambda db: state.get_state(db, THREAD),
    "state, with subgraphs": lambda db: state.get_state(db, THREAD, subgraphs=True),
    "state at a checkpoint": lambda db: state.get_state(db, THREAD, checkpoint_id=checkpoint_id(77)),
    "history, first page": lambda db: state.get_history(db, THREAD, limit=10),
    "history, page in the middle": lambda db: state.get_history(db, THREAD, limit=10, before=checkpoint_id(500)),
    "history, metadata of half": lambda db: state.get_history(db, THREAD, limit=10, metadata={"half": 1}),
    "history, metadata of none": lambda db: state.get_history(db, THREAD, limit=10, metadata={"half": 2}),
    "values of a thread": lambda db: state.get_values(db, [THREAD]),
    "search crons, newest": cron_search(),
    "search crons, page 100": cron_search(offset=1000),
    "search crons, of an assistant": cron_search(filters={"assistant_id": ASSISTANT}),
    "assistant": lambda db: assistants.get(db, ASSISTANT),
    "search assistants, newest": assistant_search(),
    **{f"search assistants, by {key}": assistant_search(sort_by=key) for key in sorted(assistants.SORT_KEYS)},
    "search assistants, graph": assistant_search(graph_id="g5"),
    "search assistants, metadata": assistant_search(metadata={"owner": "o5"}),
    "search assistants, name": assistant_search(name="ANT 77"),
    "count assistants": lambda db: assistants.count(db, metadata=None, graph_id=None, name=None),
    "versions of an assistant": lambda db: assistants.versions(db, ASSISTANT, metadata=None, limit=10, offset=0),
}


async def fill(conn: asyncpg.Connection, threads_: int, checkpoints: int) -> None:
    await conn.execute("SET synchronous_commit = on")  # else VACUUM does not yet know that all rows are visible to all
    for sql in FILL:
        await conn.execute(sql, threads_, timeout=600)
    for sql in HISTORY:
        await conn.execute(sql, checkpoints, timeout=600)
    await conn.execute(
        "UPDATE threads SET checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints) WHERE thread_id = $1", THREAD
    )
    await conn.execute("VACUUM ANALYZE", timeout=600)


class Explaining:
    """Reads as a connection does, and keeps the plans, with what each part of them did (EXPLAIN ANALYZE)."""

    def __init__(self, conn: asyncpg.Connection) -> None:
        self._conn = conn
        self.plans: list[dict[str, Any]] = []

    async def _explain(self, query: str, args: tuple[Any, ...]) -> None:
        text = await self._conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON, COSTS OFF, TIMING OFF) {query}", *args)
        self.plans.append(orjson.loads(text)[0]["Plan"])

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        await self._explain(query, args)
        return await self._conn.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        await self._explain(query, args)
        return await self._conn.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._conn.fetchval(query, *args)

    def _scans(self) -> Iterator[dict[str, Any]]:
        """The parts of the plans that read a table or an index."""
        parts = list(self.plans)
        while parts:
            part = parts.pop(0)
            parts += part.get("Plans", ())
            if "Relation Name" in part or "Index Name" in part:
                yield part

    def whole(self) -> list[str]:
        """Large tables read from end to end without an index."""
        found = [scan["Relation Name"] for scan in self._scans() if scan["Node Type"].endswith("Seq Scan")]
        return [table for table in dict.fromkeys(found) if table in LARGE]

    def indexes(self) -> list[str]:
        return list(dict.fromkeys(scan["Index Name"] for scan in self._scans() if "Index Name" in scan))

    def rows(self) -> int:
        """Rows and index entries that were looked at, whether they were wanted or not."""
        return sum(
            round(
                scan["Actual Loops"]
                * (
                    scan["Actual Rows"]
                    + scan.get("Rows Removed by Filter", 0)
                    + scan.get("Rows Removed by Index Recheck", 0)
                )
            )
            for scan in self._scans()
        )

    def outline(self) -> list[str]:
        """The plans, a line per part."""
        lines: list[str] = []

        def tell(part: dict[str, Any], depth: int) -> None:
            place = " ".join(part[name] for name in ("Index Name", "Relation Name") if name in part)
            notes = [f"{name}: {part[name]}" for name in ("Index Cond", "Filter", "Sort Key") if name in part]
            count = f"{part['Actual Rows']:g} rows, {part['Actual Loops']} times"
            lines.append(f"{'  ' * depth}{part['Node Type']} {place} ({count}) {'; '.join(notes)}".rstrip())
            for below in part.get("Plans", ()):
                tell(below, depth + 1)

        for plan in self.plans:
            tell(plan, 0)
        return lines
