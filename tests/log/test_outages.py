"""The log away, restarted and cut off: what is lost, what is repeated, and what an append says about itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Protocol

import asyncpg
import psutil
import pytest

from tests.kafka_fixture import require_kafka
from tests.log.proxy import Proxy
from tests.log.systems import PARTITIONS, InKafka, InPostgres, System
from tests.processes import suspend
from tests.waiting import eventually
from threadlog.deploy.kafka import KafkaCluster
from threadlog.deploy.postgres import EmbeddedPostgres, temporary_postgres
from threadlog.engine.log.kafka.log import KafkaLog
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, AppendUnknown, Log, LogUnavailable, Record, Topic
from threadlog.engine.log.postgres.log import PostgresLog

pytestmark = pytest.mark.server

EVENTS = Topic.EVENTS
PATIENCE_SECONDS = 100.0  # within the time-out of a test


class Breakable(System, Protocol):
    """A log behind a proxy, whose server can be killed and started again."""

    proxy: Proxy

    async def kill(self) -> None: ...
    async def start(self) -> None: ...


class BreakablePostgres(InPostgres):
    def __init__(self, server: EmbeddedPostgres, dsn: str, proxy: Proxy, handles: AsyncExitStack) -> None:
        super().__init__(dsn, handles)
        self.server = server
        self.proxy = proxy

    async def kill(self) -> None:
        assert self.server.pid is not None
        backends = psutil.Process(self.server.pid).children(recursive=True)
        self.server.kill()
        psutil.wait_procs(backends)  # they see that their parent is gone, each in its own time

    async def start(self) -> None:
        self.server.start()  # on this thread: the kernel ends the server with the thread that started it


class BreakableKafka(InKafka):
    def __init__(self, cluster: KafkaCluster, prefix: str, proxy: Proxy, handles: AsyncExitStack) -> None:
        super().__init__(cluster.bootstrap, prefix, handles, delivery_seconds=2.0)
        self.cluster = cluster
        self.proxy = proxy

    async def kill(self) -> None:
        self.cluster.kill()

    async def start(self) -> None:
        self.cluster.restart()


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    # What is not flushed when it is acknowledged is not flushed by chance either: it is lost when the server is killed.
    with temporary_postgres({"wal_writer_delay": "10s", "checkpoint_timeout": "1h"}) as server:
        yield server


@pytest.fixture
async def breakable_postgres(
    postgres_server: EmbeddedPostgres, handles: AsyncExitStack
) -> AsyncIterator[BreakablePostgres]:
    name = f"log_{os.urandom(6).hex()}"
    server = await asyncpg.connect(postgres_server.uri)
    await server.execute(f"CREATE DATABASE {name}")
    await server.close()
    folder = postgres_server.uri.partition("host=")[2].partition("&")[0]
    with tempfile.TemporaryDirectory(prefix="tl-px-") as sockets:
        socket_name = ".s.PGSQL.5432"
        proxy = Proxy(lambda: asyncio.open_unix_connection(str(Path(folder) / socket_name)))
        async with await asyncio.start_unix_server(proxy.serve, str(Path(sockets) / socket_name)):
            dsn = f"postgresql://postgres@/{name}?host={sockets}&port=5432"
            yield BreakablePostgres(postgres_server, dsn, proxy, handles)
            if postgres_server.pid is None:
                postgres_server.start()
            await handles.aclose()


@asynccontextmanager
async def proxied_kafka() -> AsyncIterator[tuple[KafkaCluster, Proxy]]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        cluster = KafkaCluster(advertised=listening.getsockname()[1])
        proxy = Proxy(lambda: asyncio.open_connection("127.0.0.1", cluster.port))
        async with await asyncio.start_server(proxy.serve, sock=listening.dup()):
            cluster.start()
            try:
                yield cluster, proxy
            finally:
                cluster.stop()


@pytest.fixture(scope="module")
async def kafka_behind_proxy() -> AsyncIterator[tuple[KafkaCluster, Proxy]]:
    require_kafka()
    async with proxied_kafka() as both:
        yield both


@pytest.fixture
async def breakable_kafka(
    kafka_behind_proxy: tuple[KafkaCluster, Proxy], kafka_prefix: str, handles: AsyncExitStack
) -> AsyncIterator[BreakableKafka]:
    cluster, proxy = kafka_behind_proxy
    proxy.open = True
    yield BreakableKafka(cluster, kafka_prefix, proxy, handles)
    proxy.open = True
    if not cluster.pids:
        cluster.restart()
    await handles.aclose()


@pytest.fixture(
    params=[
        pytest.param("breakable_postgres", marks=pytest.mark.xdist_group("outages-postgres")),
        pytest.param("breakable_kafka", marks=[pytest.mark.kafka, pytest.mark.xdist_group("outages-kafka")]),
    ]
)
def breakable(request: pytest.FixtureRequest) -> Breakable:
    found: Breakable = request.getfixturevalue(request.param)
    return found


def event(value: str, partition: int = 0) -> Append:
    return Append(EVENTS, partition, "thread", value.encode())


async def append_again_and_again(log: Log, value: str) -> int:
    """As a client does that may repeat itself."""
    (offset,) = await eventually(lambda: log.append([event(value)]), within=PATIENCE_SECONDS, passing=(LogUnavailable,))
    return offset


async def contents(log: Log) -> list[str]:
    found: list[str] = []
    start = 0
    while batch := await log.read(EVENTS, 0, start):
        found += [record.value.decode() for record in batch]
        start = batch[-1].offset + 1
    return found


async def test_an_append_while_the_log_is_away_is_not_in_the_log(breakable: Breakable) -> None:
    log = await breakable.open()
    await log.append([event("before")])
    await breakable.kill()

    for _ in range(2):
        with pytest.raises(LogUnavailable) as refused:
            await log.append([event("never sent")])
    assert type(refused.value) is LogUnavailable, "nothing was sent: this is known not to be in the log"

    await breakable.start()
    await append_again_and_again(log, "after")
    assert await contents(log) == ["before", "after"]


async def test_the_first_append_after_an_outage_that_nobody_noticed_succeeds(breakable: Breakable) -> None:
    log = await breakable.open()
    await log.append([event("before")])
    await breakable.kill()
    await eventually(lambda: not breakable.proxy.connections, within=PATIENCE_SECONDS)
    await breakable.start()
    for _ in range(10):
        await asyncio.sleep(0)  # the end of the connection is read by now, although nobody waited for it
    await log.append([event("after"), Append(Topic.STREAM, 0, "k", b"x")])
    assert await contents(log) == ["before", "after"]


async def test_reading_while_the_log_is_away_says_so(breakable: Breakable, monkeypatch: pytest.MonkeyPatch) -> None:
    log = await breakable.open()
    await log.append([event("before")])
    monkeypatch.setattr("threadlog.engine.log.kafka.fetch.READ_SECONDS", 0.5)
    await breakable.kill()

    with pytest.raises(LogUnavailable):
        await log.read(EVENTS, 0, 0)
    with pytest.raises(LogUnavailable):
        await log.bounds(EVENTS, 0)
    with pytest.raises(LogUnavailable):
        await breakable.open()


async def test_what_was_appended_survives_the_kill_of_the_server(breakable: Breakable) -> None:
    log = await breakable.open()
    values = [f"{i}" for i in range(50)]
    for value in values:
        await log.append([event(value)])
    await breakable.kill()
    await breakable.start()

    assert await contents(await breakable.open()) == values
    await append_again_and_again(log, "50")
    assert await contents(log) == [*values, "50"]


async def test_tails_survive_a_restart_without_losing_or_repeating_a_record(breakable: Breakable) -> None:
    reader, writer = await breakable.open(), await breakable.open()
    positions = {(EVENTS, partition): 0 for partition in range(PARTITIONS)}
    seen: list[list[Record]] = [[], []]

    async def follow(records: list[Record]) -> None:
        async with aclosing(reader.tail(positions)) as tail:
            async for batch in tail:
                records += batch
                if any(record.value == b"the end" for record in batch):
                    return

    tails = [asyncio.create_task(follow(records)) for records in seen]
    for i in range(20):
        await append_again_and_again(writer, f"{i}")
    await breakable.kill()
    appending = asyncio.create_task(append_again_and_again(writer, "20"))
    await breakable.start()
    await appending
    for i in range(21, 40):
        await append_again_and_again(writer, f"{i}")
    await append_again_and_again(writer, "the end")
    await asyncio.gather(*tails)

    in_log = await contents(reader)
    for records in seen:
        assert [record.value.decode() for record in records] == in_log
        assert [record.offset for record in records] == sorted({record.offset for record in records})
    assert list(dict.fromkeys(in_log)) == [*(f"{i}" for i in range(40)), "the end"]


async def test_tails_survive_the_loss_of_their_connection(breakable: Breakable) -> None:
    reader, writer = await breakable.open(), await breakable.open()
    async with aclosing(reader.tail({(EVENTS, 0): 0})) as tail:
        seen: list[str] = []
        for i in range(5):
            value = f"{i}"
            await append_again_and_again(writer, value)
            while not seen or seen[-1] != value:
                seen += [record.value.decode() for record in await anext(tail)]
            breakable.proxy.drop_all()
    assert seen == await contents(reader)
    assert list(dict.fromkeys(seen)) == [f"{i}" for i in range(5)]


async def test_an_append_whose_answer_is_lost_is_unknown_and_in_the_log(breakable_postgres: BreakablePostgres) -> None:
    breakable = breakable_postgres
    log = await breakable.open()
    await log.append([event("before")])
    breakable.proxy.cut_at(b"the marked record", delivered=True)

    with pytest.raises(AppendUnknown):
        await log.append([event("the marked record")])

    await log.append([event("after")])
    assert sorted(await contents(log)) == ["after", "before", "the marked record"]


async def test_an_append_that_is_lost_on_its_way_is_unknown_and_not_in_the_log(
    breakable_postgres: BreakablePostgres,
) -> None:
    breakable = breakable_postgres
    log = await breakable.open()
    await log.append([event("before")])
    breakable.proxy.cut_at(b"the marked record", delivered=False)

    with pytest.raises(AppendUnknown):
        await log.append([event("the marked record")])

    await log.append([event("after")])
    assert await contents(log) == ["before", "after"]


@pytest.mark.xdist_group("outages-postgres")
async def test_a_crash_may_forget_stream_records_but_no_stream_offset_is_used_twice(
    breakable_postgres: BreakablePostgres,
) -> None:
    def frames(value: str, partition: int = 0) -> Append:
        return Append(Topic.STREAM, partition, "thread", value.encode())

    reader, writer = await breakable_postgres.open(), await breakable_postgres.open()
    seen: dict[int, bytes] = {}
    async with aclosing(reader.tail({(Topic.STREAM, 0): 0})) as tail:

        async def see(offset: int) -> None:
            while offset not in seen:
                for record in await anext(tail):
                    assert record.offset not in seen
                    seen[record.offset] = record.value

        (durable,) = await writer.append([frames("with an event")])
        await writer.append([event("flushes what was before")])
        for i in range(50):
            (last,) = await writer.append([frames(f"before {i}")])
        await see(last)
        await breakable_postgres.kill()
        await breakable_postgres.start()

        kept = {record.offset for record in await (await breakable_postgres.open()).read(Topic.STREAM, 0, 0)}
        assert durable in kept
        assert last not in kept, "nothing flushed it (or this test tests nothing)"
        for i in range(3):
            (offset,) = await eventually(
                lambda i=i: writer.append([frames(f"after {i}")]), within=PATIENCE_SECONDS, passing=(LogUnavailable,)
            )
            assert offset > last
            await see(offset)
    (elsewhere, _) = await writer.append([frames("elsewhere", partition=1), event("x")])
    assert elsewhere >= 1_000_000, "every partition of the stream goes ahead"


@pytest.mark.xdist_group("outages-postgres")
async def test_a_clean_restart_forgets_nothing_and_leaves_no_gap(breakable_postgres: BreakablePostgres) -> None:
    log = await breakable_postgres.open()
    assert await log.append([Append(Topic.STREAM, 0, "k", b"%d" % i) for i in range(3)]) == [0, 1, 2]
    breakable_postgres.server.restart()
    again = await breakable_postgres.open()
    assert await again.append([Append(Topic.STREAM, 0, "k", b"3")]) == [3]
    assert [record.value for record in await again.read(Topic.STREAM, 0, 0)] == [b"0", b"1", b"2", b"3"]


@pytest.mark.kafka
@pytest.mark.xdist_group("outages-kafka")
@pytest.mark.parametrize("delivered", [True, False])
async def test_kafka_gets_an_append_once_although_its_answer_or_the_request_was_lost(
    breakable_kafka: BreakableKafka, delivered: bool
) -> None:
    log = await breakable_kafka.open(delivery_seconds=30.0)
    await log.append([event("before")])
    breakable_kafka.proxy.cut_at(b"the marked record", delivered=delivered)

    (offset,) = await log.append([event("the marked record")])

    assert breakable_kafka.proxy.cut.is_set()
    await log.append([event("after")])
    assert await contents(log) == ["before", "the marked record", "after"]
    assert (await log.read(EVENTS, 0, offset))[0].value == b"the marked record"


@pytest.mark.kafka
@pytest.mark.xdist_group("outages-kafka")
async def test_an_append_that_kafka_may_have_got_is_unknown_and_the_partition_goes_on(
    breakable_kafka: BreakableKafka,
) -> None:
    proxy = breakable_kafka.proxy
    log = await breakable_kafka.open()
    await log.append([event("before"), event("elsewhere", partition=1)])
    proxy.cut_at(b"the marked record", delivered=True)
    marked = asyncio.create_task(log.append([event("the marked record"), event("with it")]))
    await proxy.cut.wait()
    proxy.open = False
    proxy.drop_all()
    behind = asyncio.create_task(log.append([event("queued behind, never sent")]))

    with pytest.raises(AppendUnknown):
        await marked
    with pytest.raises(LogUnavailable) as refused:
        await behind
    assert type(refused.value) is LogUnavailable

    proxy.open = True
    for i in range(3):
        await append_again_and_again(log, f"after {i}")
    await log.append([event("elsewhere too", partition=1)])
    assert await contents(log) == ["before", "the marked record", "with it", "after 0", "after 1", "after 2"]


@pytest.mark.kafka
@pytest.mark.xdist_group("outages-kafka")
async def test_a_broker_that_hangs_makes_appends_unknown_in_bounded_time(breakable_kafka: BreakableKafka) -> None:
    log: KafkaLog = await breakable_kafka.open(delivery_seconds=0.5)
    await append_again_and_again(log, "before")
    (pid,) = breakable_kafka.cluster.pids.values()
    try:
        await asyncio.to_thread(suspend, pid)
        with pytest.raises(AppendUnknown):
            await log.append([event("perhaps")])
    finally:
        os.kill(pid, signal.SIGCONT)
    await append_again_and_again(log, "after")
    assert set(await contents(log)) - {"perhaps"} == {"before", "after"}


@pytest.mark.xdist_group("outages-postgres")
async def test_a_database_that_hangs_makes_appends_unknown_in_bounded_time(
    breakable_postgres: BreakablePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: PostgresLog = await breakable_postgres.open()
    await log.append([event("before")])
    other = await asyncpg.connect(breakable_postgres.dsn)
    async with other.transaction():
        await log.lock_heads_in(other, EVENTS, [0])
        with monkeypatch.context() as patched, pytest.raises(AppendUnknown):
            patched.setattr("threadlog.engine.log.postgres.append.APPEND_SECONDS", 0.5)
            await log.append([event("perhaps")])
        await log.append([event("elsewhere", partition=1)])
    await other.close()
    await log.append([event("after")])
    assert set(await contents(log)) - {"perhaps"} == {"before", "after"}


async def test_the_log_in_memory_fails_when_told_to() -> None:
    log = MemoryLog(1)
    log.fail_next(LogUnavailable("away"))
    log.fail_next(AppendUnknown("who knows"), landed=True)
    with pytest.raises(LogUnavailable):
        await log.append([event("lost")])
    with pytest.raises(AppendUnknown):
        await log.append([event("there")])
    await log.append([event("after")])
    assert await contents(log) == ["there", "after"]
