"""The link of engine and executors on one machine: what it carries is in the log, and it may break at any moment."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.engine.engine_harness import (
    PARTITIONS,
    EngineHarness,
    EngineUnderTest,
    create_run,
    engine_harness,
    finish,
    key_of,
    new_id,
)
from tests.waiting import eventually
from threadlog.engine.domain.commands import CancelRun, WriteItems
from threadlog.engine.gateway.gateway import envelope_for
from threadlog.engine.link.client import ExecutorChannel
from threadlog.engine.link.framing import Framed
from threadlog.engine.link.server import ExecutorChannelServer
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, Topic
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.log.records import Frames, partition_of


class Executor:
    """What an executor has of a link: it counts how often it is woken, answers, and remembers what it has to stop."""

    def __init__(self, server: Server, load: int = 0, *, answers: bool = True) -> None:
        self.woken = self.lost = 0
        self.stops: list[tuple[str, Any]] = []
        self.load = load
        self._answers = answers
        self.link = ExecutorChannel(
            server.path, server.harness.log,
            wake=self._wake, stop=self._stop, load=lambda: self.load, lost=self._lost,
        )  # fmt: skip

    def _stop(self, run_id: str, stop: Any) -> None:
        self.stops.append((run_id, stop and tuple(stop)))

    def _lost(self) -> None:
        self.lost += 1

    def _wake(self) -> None:
        self.woken += 1
        if self._answers:
            self.link.claimed()


class Server:
    """An engine with the link's other end."""

    def __init__(
        self, harness: EngineHarness, engine: EngineUnderTest, link: ExecutorChannelServer, path: Path
    ) -> None:
        self.harness, self.engine, self.link, self.path = harness, engine, link, path
        self.executors: list[Executor] = []

    async def executor(self, load: int = 0, **names: Any) -> Executor:
        executor = Executor(self, load, **names)
        self.executors.append(executor)
        await executor.link.start()
        executor.link.claimed()  # tells its load

        async def known() -> bool:
            return len(self.link.loads) == len(self.executors) and self.link.loads[-1] == load

        await eventually(known)
        executor.woken = 0
        return executor

    async def aclose(self) -> None:
        for executor in self.executors:
            await executor.link.aclose()
        await self.link.aclose()


@pytest.fixture
async def server(database: str) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        async with engine_harness("postgres", database) as harness:
            assert isinstance(harness.log, PostgresLog)
            path = Path(folder) / "link"
            link = ExecutorChannelServer(harness.log, path)
            opened = Server(harness, await harness.engine(executors=link), link, path)
            await link.start(opened.engine.processor)
            yield opened
            await opened.aclose()


def report_of(command: Any, id: str | None = None) -> Append:
    key = key_of(command)
    value = envelope_for(command, id).encode()
    return Append(Topic.COMMANDS, partition_of(key, PARTITIONS), key, value)


def frames_of(thread: str, run: str, *data: bytes, seq: int = 0) -> Append:
    frames = Frames(run, thread, 1, seq, [(b"values", d) for d in data])
    return Append(Topic.STREAM, partition_of(thread, PARTITIONS), thread, frames.encode())


async def test_a_command_and_its_frames_are_in_the_log_when_they_are_answered(server: Server) -> None:
    harness, executor = server.harness, await server.executor()
    thread, run, p = new_id(), new_id(), 0
    await server.engine.submit(create_run(thread, run))
    p = partition_of(thread, PARTITIONS)
    records = [frames_of(thread, run, b"1", b"2"), report_of(finish(thread, run, frames=2))]
    offsets = await executor.link.append(records)
    assert offsets == [-1, (await harness.log.bounds(Topic.COMMANDS, p))[1] - 1]
    assert [r.value for r in await harness.log.read(Topic.STREAM, p, 0)] == [records[0].value]
    assert (await harness.log.read(Topic.COMMANDS, p, offsets[1]))[0].value == records[1].value
    assert (await harness.rows("SELECT status FROM runs WHERE run_id = $1", run))[0]["status"] == "success"
    transactions = await harness.rows(
        "SELECT (SELECT xmin FROM log_stream WHERE partition = $1) AS a, "
        "(SELECT xmin FROM log_commands WHERE partition = $1 AND off = $2) AS b", p, offsets[1],
    )  # fmt: skip
    assert transactions[0]["a"] == transactions[0]["b"]
    assert await harness.verify() == []


async def test_frames_alone_are_appended_and_reach_the_tails_of_the_engine(server: Server) -> None:
    executor = await server.executor()
    thread, run = new_id(), new_id()
    p = partition_of(thread, PARTITIONS)
    tail = server.harness.log.tail({(Topic.STREAM, p): 0})
    first = asyncio.ensure_future(anext(tail))
    await executor.link.append([frames_of(thread, run, b"1")])
    assert [record.offset for record in await first] == [0]
    await tail.aclose()


async def test_what_was_answered_leaves_no_cycles_for_the_collector(server: Server) -> None:
    executor = await server.executor()
    thread, run = new_id(), new_id()
    await server.engine.submit(create_run(thread, run))
    gc.collect()
    gc.disable()
    try:
        for n in range(5):
            await executor.link.append([report_of(WriteItems(namespace=["a"], ops=[{"key": str(n), "value": {}}]))])
            await executor.link.append([frames_of(thread, run, b"1", seq=n)])
        await executor.link.append([frames_of(thread, run, b"2", seq=5), report_of(finish(thread, run, frames=6))])
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [one for one in gc.garbage if type(one).__module__.startswith("threadlog.engine")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


async def test_commands_sent_twice_count_once(server: Server) -> None:
    executor = await server.executor()
    thread, run = new_id(), new_id()
    await server.engine.submit(create_run(thread, run))
    report = report_of(finish(thread, run), id="report-1")
    await executor.link.append([report])
    await executor.link.append([report])
    await server.harness.log.append([report])  # as it does when the link has broken
    await server.engine.submit(create_run(thread, new_id()))
    assert server.engine.heard.events().count("run.succeeded") == 1
    assert await server.harness.verify() == []


async def test_why_a_command_is_refused_is_in_the_answer(server: Server) -> None:
    executor = await server.executor()
    ops = [{"key": "k", "value": {}}, {"key": 1, "value": {}}]
    good, bad = (report_of(WriteItems(namespace=["a"], ops=ops[:n])) for n in (1, 2))
    places = [(record.partition, (await executor.link.append([record]))[0]) for record in (good, bad)]
    assert [executor.link.has_answered(*place) for place in places] == [True, True]
    assert executor.link.refusal(*places[0]) is None
    assert "`key` must be a string" in (executor.link.refusal(*places[1]) or "")
    await server.link.aclose()
    await eventually(lambda: not executor.link.linked)
    (unanswered,) = await executor.link.append([good])
    assert not executor.link.has_answered(good.partition, unanswered)


async def test_without_a_link_appends_go_to_the_log(server: Server) -> None:
    executor = await server.executor()
    await server.link.aclose()

    async def broken() -> bool:
        return not executor.link.linked

    await eventually(broken)
    thread, run = new_id(), new_id()
    await server.engine.submit(create_run(thread, run))
    await executor.link.append([report_of(finish(thread, run))])
    await server.harness.until("SELECT status = 'success' FROM runs WHERE run_id = $1", run)


async def test_a_link_that_breaks_before_the_answer_leaves_it_open(server: Server) -> None:
    executor = await server.executor()
    thread, run = new_id(), new_id()
    await server.engine.submit(create_run(thread, run))
    async with server.harness.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM partitions FOR UPDATE")  # the engine can't commit meanwhile
        append = asyncio.ensure_future(executor.link.append([report_of(finish(thread, run))]))
        sessions = server.link._sessions

        async def taken() -> bool:
            return bool(sessions and sessions[0]._appends)

        await eventually(taken)
        sessions[0].close()
        with pytest.raises(AppendUnknown):
            await append
    await server.harness.until("SELECT status = 'success' FROM runs WHERE run_id = $1", run)


async def test_a_lost_database_cuts_the_links_and_drops_what_came_through_them(server: Server) -> None:
    """An executor sends again what the database may have forgotten before anything else of a run is in the log."""
    executor, other = await server.executor(), await server.executor(load=1)
    thread, run = new_id(), new_id()
    await server.engine.submit(create_run(thread, run))
    p = partition_of(thread, PARTITIONS)
    of_who_waits = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with server.harness.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM partitions FOR UPDATE")
        append = asyncio.ensure_future(
            executor.link.append([frames_of(thread, run, b"2", seq=1), report_of(finish(thread, run), id="late")])
        )

        async def waits() -> bool:
            # From another connection: what a transaction has once seen there it sees to its end.
            return bool(await server.harness.rows(f"SELECT pid {of_who_waits}"))

        await eventually(waits)
        await connection.execute(f"SELECT pg_terminate_backend(pid) {of_who_waits}")
        with pytest.raises(AppendUnknown):
            await append
    assert executor.lost == 1

    async def all_lost() -> bool:
        return other.lost == 1

    await eventually(all_lost)
    await server.engine.submit(create_run(new_id()))  # the engine is back
    assert await server.harness.log.read(Topic.STREAM, p, 0) == []
    assert "run.succeeded" not in server.engine.heard.events()
    await executor.link.append([report_of(finish(thread, run), id="late")])
    assert await server.harness.verify() == []


async def test_an_engine_that_stops_says_so(server: Server) -> None:
    executor = await server.executor()
    await server.engine.processor.stop()
    with pytest.raises(LogUnavailable):
        await executor.link.append([report_of(finish(new_id(), new_id()))])


async def test_the_least_busy_executor_is_woken_and_the_database_notifies_nobody(server: Server, database: str) -> None:
    busy, idle = await server.executor(load=3), await server.executor(load=1)
    heard: list[str] = []
    connection = await asyncpg.connect(database)
    await connection.add_listener("threadlog_queue", lambda *notice: heard.append(str(notice[3])))
    await server.engine.submit(create_run(new_id()))

    async def woken() -> bool:
        return idle.woken == 1

    await eventually(woken)
    await connection.execute("SELECT pg_notify('threadlog_queue', 'last')")

    async def last() -> bool:
        return "last" in heard

    await eventually(last)
    assert (busy.woken, heard) == (0, ["last"])
    await connection.close()


async def test_every_executor_is_told_how_and_why_a_run_has_to_stop_and_the_database_notifies_nobody(
    server: Server, database: str
) -> None:
    executors = [await server.executor(), await server.executor()]
    heard: list[str] = []
    connection = await asyncpg.connect(database)
    await connection.add_listener("threadlog_queue", lambda *notice: heard.append(str(notice[3])))
    cancelled, rolled_back = new_id(), new_id()
    for run, words in ((cancelled, {"reason": "tired of it"}), (rolled_back, {"action": "rollback"})):
        thread = new_id()
        await server.engine.submit(create_run(thread, run))
        await server.engine.submit(CancelRun(thread_id=thread, run_id=run, **words))
    expected = [(cancelled, ("interrupt", "tired of it")), (rolled_back, ("rollback", None))]
    await eventually(lambda: all(executor.stops == expected for executor in executors))
    await connection.execute("SELECT pg_notify('threadlog_queue', 'last')")
    await eventually(lambda: "last" in heard)
    assert heard == ["last"]
    await connection.close()


async def test_when_nobody_is_linked_the_database_notifies(server: Server, database: str) -> None:
    heard: list[str] = []
    connection = await asyncpg.connect(database)
    await connection.add_listener("threadlog_queue", lambda *notice: heard.append(str(notice[3])))
    thread, run = new_id(), new_id()
    await server.engine.submit(create_run(thread, run))
    await server.engine.submit(CancelRun(thread_id=thread, run_id=run))
    await eventually(lambda: heard == ["run", f"cancel:{run}"])
    await connection.close()


async def test_an_executor_that_does_not_come_to_claim_leaves_the_run_to_others(server: Server) -> None:
    stuck, other = await server.executor(load=0, answers=False), await server.executor(load=9)
    await server.engine.submit(create_run(new_id()))

    async def both() -> bool:
        return stuck.woken == 1 and other.woken == 1

    await eventually(both)
    await server.engine.submit(create_run(new_id()))  # now the other one comes first

    async def once_more() -> bool:
        return other.woken == 2

    await eventually(once_more)
    assert stuck.woken == 1


async def test_what_is_no_message_ends_the_connection_and_nothing_else(server: Server) -> None:
    executor = await server.executor()
    for noise in (b"\x00\x00\x00\x01\xc1", b"GET / HTTP/1.1\r\n\r\n" * 10, Framed.packed(["dance"]), Framed.packed(7)):
        reader, writer = await asyncio.open_unix_connection(str(server.path))
        writer.write(noise)
        writer.write_eof()
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
    thread, run = new_id(), new_id()
    await server.engine.submit(create_run(thread, run))
    assert len(await executor.link.append([report_of(finish(thread, run))])) == 1


async def test_a_message_may_come_in_any_pieces() -> None:
    got: list[Any] = []
    framed = Framed(got.append, lambda: None)
    messages = [["a", 1], ["b", b"\x00" * 300], {}]
    for byte in b"".join(Framed.packed(m) for m in messages):
        framed.data_received(bytes([byte]))
    framed.data_received(b"".join(Framed.packed(m) for m in messages))
    assert got == messages * 2
