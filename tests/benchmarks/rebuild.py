"""How fast the read models are rebuilt from the log: `threadlog events --verify`, and a take-over that finds none.

    python -m tests.benchmarks.rebuild [--threads 3000]

The log is filled with what three kinds of threads wrote, as the executor's checkpointer reports and the deciders decide
it: conversations of three turns, stateless runs (their threads are gone afterwards), and runs that were rolled back.
Each kind is played once and then copied under new ids.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from tests.benchmarks.storage_app.graphs import words
from tests.checkpointer.checkpointer_harness import CheckpointerHarness, Run
from tests.databases import new_database
from threadlog.deploy.postgres import temporary_postgres
from threadlog.deploy.settings import EMBEDDED_PARTITIONS
from threadlog.engine.domain.commands import CancelRun, Command, CreateRun, ReportRun
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.log.records import EventRecord, partition_of
from threadlog.engine.processor.committer import take_over
from threadlog.engine.processor.ports import Decided
from threadlog.engine.processor.term import Term
from threadlog.projections.commit.coordination import PostgresCoordinationStore
from threadlog.projections.rebuild.rebuild import reader_of_values, rebuild
from threadlog.projections.rebuild.verify import verify
from threadlog.projections.schema import create_beside, migrate

ASSISTANT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
# Of a hundred threads.
CONVERSATIONS, STATELESS = 75, 20
TURNS = 3
AT_A_TIME = 40  # threads whose records are mixed in the log
_EVENT = re.compile(rb'"type":"[a-z]+[.][a-z_]+"')
_IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass
class Played:
    """What one thread wrote: per record its command's id, time and events, and which ids in it are its own."""

    thread_id: str
    records: list[tuple[str, str, list[dict[str, Any]]]] = field(default_factory=list)
    own: set[str] = field(default_factory=set)


class Stage(CheckpointerHarness):
    """A desk that keeps what was decided."""

    played: Played

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        cmd_id = id or str(uuid.uuid4())
        decided = await super().submit(command, id=cmd_id)
        self.played.records.append((cmd_id, decided.at, decided.events))
        self.played.own.add(cmd_id)
        return decided

    async def turn(self, graph: Any, n: int, *, temporary: bool = False) -> Run:
        thread_id, run_id = self.played.thread_id, str(uuid.uuid4())
        self.played.own.add(run_id)
        given = {"messages": [{"role": "user", "content": words(30, n)}]}
        metadata = {"graph_id": "g", "assistant_id": ASSISTANT, "created_by": "system"}
        kwargs = {
            "input": given,
            "config": {"configurable": {**metadata, "run_id": run_id, "thread_id": thread_id}},
            "stream_mode": ["values", "messages-tuple"],
            "resumable": False,
        }
        decided = await self.submit(
            CreateRun(
                thread_id=thread_id,
                run_id=run_id,
                graph_id="g",
                run={"assistant_id": ASSISTANT, "metadata": metadata, "kwargs": kwargs},
                create_thread=metadata,
                thread_metadata=metadata,
                temporary=temporary,
            ),
        )
        scheduled = next(event for event in decided.events if event["type"] == "run.scheduled")
        run = Run(self, thread_id, run_id, scheduled.get("fresh", False), False)
        compiled = graph.compile(checkpointer=run.saver)
        config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        said = {"messages": [HumanMessage(words(30, n), id=str(uuid.uuid4()))]}
        async for ns, _, payload in compiled.astream(said, config, stream_mode=["checkpoints"], subgraphs=True):
            run.saver.planned(ns, payload)
        await run.saver.finish(compiled, config)
        return run

    async def started(self, run: Run) -> None:
        """The report of a run's first supersteps."""
        items, run.items = run.items, []
        await self.submit(
            ReportRun(
                thread_id=run.thread_id, run_id=run.run_id, attempt=1, items=items, started={"executor": "executor-1"}
            ),
        )


def graph() -> Any:
    """Two steps per turn."""
    builder = StateGraph(MessagesState)
    builder.add_node("plan", lambda s: {"messages": [AIMessage(words(40, len(s["messages"])))]})
    builder.add_node("answer", lambda s: {"messages": [AIMessage(words(60, 100 + len(s["messages"])))]})
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "answer")
    return builder


async def play(pool: asyncpg.Pool) -> dict[str, Played]:
    stage, built = Stage(pool), graph()
    kinds: dict[str, Played] = {}
    for kind in ("conversation", "stateless", "rolled back"):
        stage.played = kinds[kind] = Played(str(uuid.uuid4()))
        stage.played.own.add(stage.played.thread_id)
        for n in range(TURNS if kind == "conversation" else 1):
            run = await stage.turn(built, n, temporary=kind == "stateless")
            await stage.started(run)
            if kind == "rolled back":
                await stage.submit(CancelRun(thread_id=run.thread_id, run_id=run.run_id, action="rollback"))
            await run.end()
    return kinds


def copies(kinds: dict[str, Played], threads: int) -> Iterator[tuple[str, list[bytes]]]:
    """Threads, each with its records without epoch and offset."""
    templates = {
        kind: [
            EventRecord(epoch=0, cmd_off=-7, after=-9, cmd_id=cmd_id, key=played.thread_id, at=at, events=events)
            for cmd_id, at, events in played.records
        ]
        for kind, played in kinds.items()
    }
    encoded = {kind: [record.encode() for record in records] for kind, records in templates.items()}
    chance = random.Random(1)
    for _ in range(threads):
        n = chance.randrange(100)
        kind = "conversation" if n < CONVERSATIONS else "stateless" if n < CONVERSATIONS + STATELESS else "rolled back"
        new = {own.encode(): str(uuid.uuid4()).encode() for own in kinds[kind].own}
        key = new[kinds[kind].thread_id.encode()].decode()
        yield key, [_IDS.sub(lambda found, new=new: new.get(found[0], found[0]), one) for one in encoded[kind]]


async def fill(log: PostgresLog, kinds: dict[str, Played], threads: int) -> tuple[int, int]:
    """Answers how many records and events there are."""
    decided = [-1] * EMBEDDED_PARTITIONS
    heads = [
        Append(Topic.EVENTS, p, "", EventRecord(0, -1, "", "", "", start=True).encode()) for p in range(len(decided))
    ]
    await log.append(heads)
    records = events = 0
    waiting: list[tuple[str, list[bytes]]] = []
    source = copies(kinds, threads)
    done = False
    while not done or waiting:
        while not done and len(waiting) < AT_A_TIME:
            if (more := next(source, None)) is None:
                done = True
                break
            waiting.append(more)
        appends = []
        for key, left in waiting:
            p = partition_of(key, len(decided))
            value = left.pop(0).replace(b'"cmd_off":-7', b'"cmd_off":%d' % (decided[p] + 1))
            appends.append(Append(Topic.EVENTS, p, key, value.replace(b'"after":-9', b'"after":%d' % decided[p])))
            decided[p] += 1
            events += len(_EVENT.findall(value))
        records += len(appends)
        await log.append(appends)
        waiting = [one for one in waiting if one[1]]
    return records, events


async def measure(uri: str, threads: int) -> None:
    async with new_database(uri) as dsn, asyncpg.create_pool(dsn, min_size=2, max_size=8) as pool:
        await migrate(dsn, partitions=EMBEDDED_PARTITIONS)
        kinds = await play(pool)
        for kind, played in kinds.items():
            told = [event["type"] for _, _, events in played.records for event in events]
            print(f"{kind}: {len(played.records)} records, {len(told)} events", flush=True)
        await pool.execute("TRUNCATE " + ", ".join(await _tables(pool)))
        log = await PostgresLog.create(pool, EMBEDDED_PARTITIONS)
        begun = time.perf_counter()
        records, events = await fill(log, kinds, threads)
        size = await pool.fetchval("SELECT sum(octet_length(value)) FROM log_events")
        print(
            f"{threads} threads: {records} records, {events} events, {size / 1e6:.0f} MB; "
            f"written in {time.perf_counter() - begun:.1f} s", flush=True,
        )  # fmt: skip
        heads = {p: (await log.bounds(Topic.EVENTS, p))[1] - 1 for p in range(EMBEDDED_PARTITIONS)}

        def rate(what: str, seconds: float, cpu: float) -> None:
            print(
                f"{what:28} {seconds:6.1f} s  {records / seconds:8,.0f} records/s  {events / seconds:8,.0f} events/s"
                f"  CPU of this process {cpu:.1f} s", flush=True,
            )  # fmt: skip

        conn = await asyncpg.connect(dsn)  # not of the pool: it remembers the types of tables that are gone afterwards
        transaction = conn.transaction(isolation="repeatable_read")
        await transaction.start()
        await create_beside(conn, "beside", EMBEDDED_PARTITIONS)
        begun, cpu = time.perf_counter(), time.process_time()
        await rebuild(conn, log, heads)
        rate("rebuild", time.perf_counter() - begun, time.process_time() - cpu)
        await transaction.rollback()
        await conn.close()
        coordination = PostgresCoordinationStore(pool, reader_of_values(log))
        begun, cpu = time.perf_counter(), time.process_time()
        terms = [Term(position) for position in await coordination.acquire("bench", 3600, EMBEDDED_PARTITIONS, [])]
        await take_over(log, coordination, terms, lambda batch, submissions: None)
        assert not any(term.dead for term in terms)
        rate("take-over of all of it", time.perf_counter() - begun, time.process_time() - cpu)
        begun, cpu = time.perf_counter(), time.process_time()
        found = await verify(dsn, log)
        rate("verify", time.perf_counter() - begun, time.process_time() - cpu)
        print(f"{len(found)} differences")
        await log.aclose()


async def _tables(pool: asyncpg.Pool) -> list[str]:
    rows = await pool.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
        "AND tablename NOT IN ('partitions', 'schema_versions')"
    )
    return [row["tablename"] for row in rows]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=3000)
    asked = options.parse_args()
    with temporary_postgres() as server:
        asyncio.run(measure(server.uri, asked.threads))


if __name__ == "__main__":
    main()
