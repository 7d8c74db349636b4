"""What only the log in Postgres does: appends in a caller's transaction, group commit, retention, one shared reader."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import asyncpg
import pytest

from tests.log.systems import PARTITIONS, InPostgres
from tests.waiting import eventually
from threadlog.engine.log.port import Append, LogUnavailable, OffsetGone, Record, Topic
from threadlog.engine.log.postgres import append
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.log.postgres.tail import KEEP_BYTES
from threadlog.engine.postgres import staging
from threadlog.engine.postgres.staging import StagedValue

COMMANDS, EVENTS, STREAM = Topic.COMMANDS, Topic.EVENTS, Topic.STREAM


def event(value: str, partition: int = 0) -> Append:
    return Append(EVENTS, partition, "thread", value.encode())


def command(value: str, partition: int = 0) -> Append:
    return Append(COMMANDS, partition, "thread", value.encode())


@pytest.fixture
async def log(in_postgres: InPostgres) -> PostgresLog:
    return await in_postgres.open()


@pytest.fixture
async def connection(log: PostgresLog, in_postgres: InPostgres) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(in_postgres.dsn)
    yield opened
    await opened.close()


async def test_an_append_in_a_transaction_is_in_the_log_when_it_commits(
    log: PostgresLog, connection: asyncpg.Connection
) -> None:
    async with aclosing(log.tail({(EVENTS, 0): 0})) as tail:
        waiting = asyncio.ensure_future(anext(tail))
        async with connection.transaction():
            offsets = await log.append_in(connection, [event("a"), command("b"), event("c")])
            assert offsets == [0, 0, 1]
            assert [r.value for r in await log.read_in(connection, EVENTS, 0, 0)] == [b"a", b"c"]
            assert await log.read(EVENTS, 0, 0) == []
            assert not waiting.done()
        assert [record.offset for record in await waiting] == [0, 1]


async def test_an_append_in_a_transaction_that_rolls_back_leaves_no_gap(
    log: PostgresLog, connection: asyncpg.Connection
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connection.transaction():
            await log.append_in(connection, [event("a"), event("b")])
            raise ZeroDivisionError
    assert await log.append([event("c")]) == [0]


async def test_nobody_appends_below_what_was_read_under_a_lock(
    log: PostgresLog, connection: asyncpg.Connection
) -> None:
    """What the processor relies on: lock the heads, read what it has not seen, append its own, in offset order."""
    await log.append([command("0"), command("1"), command("x", partition=1)])
    async with connection.transaction():
        heads = await log.lock_heads_in(connection, COMMANDS, [1, 0])
        assert heads == {0: 2, 1: 1}
        others = [asyncio.create_task(log.append([command(f"late {i}")])) for i in range(3)]
        unlocked = await log.append([Append(STREAM, 0, "k", b"streams go on")])
        assert unlocked == [0]
        seen = await log.read_in(connection, COMMANDS, 0, 0, heads[0])
        assert [record.value for record in seen] == [b"0", b"1"]
        assert await log.append_in(connection, [command("mine"), event("decided")]) == [2, 0]
        assert not any(other.done() for other in others)
    assert sorted(offset for (offset,) in await asyncio.gather(*others)) == [3, 4, 5]
    assert [r.value for r in await log.read(COMMANDS, 0, 2, end=4)] == [b"mine", b"late 0"]


async def test_many_partitions_are_read_with_one_query(log: PostgresLog, connection: asyncpg.Connection) -> None:
    await log.append([command(f"{p}.{i}", partition=p) for p in range(3) for i in range(4)])
    await log.trim(COMMANDS, 2, 2)
    found = await log.read_many_in(connection, {(COMMANDS, 0): 3, (COMMANDS, 2): 0, (COMMANDS, 3): 0, (EVENTS, 0): 0})
    assert {place: [r.value.decode() for r in f.records] for place, f in found.items()} == {
        (COMMANDS, 0): ["0.3"],
        (COMMANDS, 2): ["2.2", "2.3"],
        (COMMANDS, 3): [],
        (EVENTS, 0): [],
    }
    assert (found[COMMANDS, 2].first, found[COMMANDS, 2].head, found[COMMANDS, 2].upto) == (2, 4, 4)
    assert await log.read_many_in(connection, {}) == {}
    with pytest.raises(OffsetGone):
        await log.read_in(connection, COMMANDS, 2, 1)


async def test_overlapping_appends_share_transactions(log: PostgresLog, connection: asyncpg.Connection) -> None:
    await asyncio.gather(*(log.append([event(f"{i}")]) for i in range(100)))
    transactions = await connection.fetchval("SELECT count(DISTINCT xmin::text) FROM log_events")
    assert transactions <= 3


async def test_a_large_backlog_is_split_into_transactions_of_bounded_size(
    log: PostgresLog, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadlog.engine.log.postgres.append.GROUP_BYTES", 100_000)
    await asyncio.gather(*(log.append([event("x" * 30_000)]) for _ in range(20)))
    largest = await connection.fetchval(
        "SELECT max(n) FROM (SELECT sum(octet_length(value)) AS n FROM log_events GROUP BY xmin::text) AS sizes"
    )
    assert largest <= 100_000


async def test_an_append_is_all_or_nothing_and_does_not_harm_its_group(log: PostgresLog) -> None:
    with pytest.raises(ValueError, match="NUL"):
        await log.append([event("a"), Append(EVENTS, 0, "bad\0key", b"b")])
    assert await log.append([event("c")]) == [0]


async def test_appends_of_many_partitions_in_any_order_never_deadlock(in_postgres: InPostgres) -> None:
    logs = [await in_postgres.open() for _ in range(3)]

    async def appender(log: PostgresLog, seed: int) -> None:
        for i in range(30):
            order = [(seed + i + p * (1 if seed % 2 else -1)) % PARTITIONS for p in range(PARTITIONS)]
            await log.append([Append(topic, p, "k", b"x") for p in order for topic in (STREAM, EVENTS, COMMANDS)])

    await asyncio.gather(*(appender(log, seed) for seed, log in enumerate(logs)))
    assert await logs[0].bounds(EVENTS, 0) == (0, 90)


async def test_all_tails_of_a_process_share_one_listening_connection(
    log: PostgresLog, connection: asyncpg.Connection
) -> None:
    async with AsyncExitStack() as tails:
        reading = []
        for _ in range(30):
            tail = await tails.enter_async_context(aclosing(log.tail({(EVENTS, 0): 0, (STREAM, 0): 0})))
            reading.append(asyncio.ensure_future(anext(tail)))
        await log.append([event("x")])
        batches = await asyncio.gather(*reading)
        assert [[record.value for record in batch] for batch in batches] == [[b"x"]] * 30
        connections = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert connections <= 8


async def test_a_lost_notification_only_delays_a_tail(
    log: PostgresLog, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadlog.engine.log.postgres.tail.POLL_SECONDS", 0.05)
    monkeypatch.setattr("threadlog.engine.log.postgres.tail.Feeds._notified", lambda *_: None)
    async with aclosing(log.tail({(EVENTS, 0): 0})) as tail:
        for i in range(3):
            waiting = asyncio.ensure_future(anext(tail))
            await asyncio.sleep(0)
            await log.append([event(f"{i}")])
            assert [record.value for record in await waiting] == [f"{i}".encode()]


async def test_a_tail_survives_that_its_connection_is_terminated(
    log: PostgresLog, connection: asyncpg.Connection
) -> None:
    async with aclosing(log.tail({(EVENTS, 0): 0})) as tail:
        for i in range(3):
            (offset,) = await log.append([event(f"{i}")])
            (record,) = await anext(tail)
            assert record.offset == offset
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE '%LISTEN%' AND datname = current_database() AND pid <> pg_backend_pid()"
            )


async def test_retention_takes_what_is_old_and_decided(log: PostgresLog, connection: asyncpg.Connection) -> None:
    for partition in (0, 1, 2):
        await log.append([command(f"{i}", partition) for i in range(10)])
        await log.append([Append(STREAM, partition, "k", b"x") for _ in range(10)])
        await log.append([event(f"{i}", partition) for i in range(10)])
    await connection.execute("UPDATE log_commands SET at = at - interval '10 days' WHERE off < 6")
    await connection.execute("UPDATE log_stream SET at = at - interval '2 hours' WHERE off < 7 AND partition = 0")

    await log.retain(commands_seconds=7 * 86_400, stream_seconds=3600, decided={0: 9, 1: 3})

    assert await log.bounds(COMMANDS, 0) == (6, 10), "the old ones"
    assert await log.bounds(COMMANDS, 1) == (4, 10), "not those that are not decided"
    assert await log.bounds(COMMANDS, 2) == (0, 10), "nothing of a partition nobody speaks for"
    assert await log.bounds(STREAM, 0) == (7, 10)
    assert await log.bounds(STREAM, 1) == (0, 10)
    assert await log.bounds(EVENTS, 0) == (0, 10), "events are kept for ever"
    assert await connection.fetchval("SELECT count(*) FROM log_commands") == 4 + 6 + 10
    assert await connection.fetchval("SELECT count(*) FROM log_stream") == 3 + 10 + 10


async def test_retention_of_many_records_goes_step_by_step(log: PostgresLog, connection: asyncpg.Connection) -> None:
    await log.append([Append(STREAM, 0, "k", b"x") for _ in range(95)])
    await connection.execute("UPDATE log_stream SET at = at - interval '1 day' WHERE off < 83")
    await log.retain(commands_seconds=3600, stream_seconds=3600, decided={}, rows=10)
    assert await log.bounds(STREAM, 0) == (83, 95)
    assert await connection.fetchval("SELECT count(*) FROM log_stream") == 12

    await log.retain(commands_seconds=3600, stream_seconds=0, decided={}, rows=10)
    assert await log.bounds(STREAM, 0) == (95, 95)


async def test_the_number_of_partitions_is_fixed_when_the_log_is_created(in_postgres: InPostgres) -> None:
    await in_postgres.open()
    with pytest.raises(ValueError, match=f"a log of {PARTITIONS} partitions, not 5"):
        await PostgresLog.create(in_postgres.dsn, 5)
    with pytest.raises(ValueError, match="at least one"):
        await PostgresLog.create(in_postgres.dsn, 0)


async def test_processes_that_start_together_create_one_log(in_postgres: InPostgres) -> None:
    logs = await asyncio.gather(*(in_postgres.open() for _ in range(5)))
    await logs[0].append([event("x")])
    assert await logs[4].bounds(EVENTS, 0) == (0, 1)


async def test_records_of_half_a_page_are_in_their_table(
    in_postgres: InPostgres, connection: asyncpg.Connection
) -> None:
    outside = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'log_events'::regclass"
    await connection.execute("ALTER TABLE log_events RESET (toast_tuple_target)")  # as an earlier version made it
    log = await in_postgres.open()
    await log.append([Append(EVENTS, 0, "thread", os.urandom(3900)) for _ in range(4)])
    assert await connection.fetchval(outside) == 0
    await log.append([Append(EVENTS, 0, "thread", os.urandom(5000))])
    assert await connection.fetchval(outside) > 0


async def test_a_pool_that_was_given_stays_open(in_postgres: InPostgres) -> None:
    async with asyncpg.create_pool(in_postgres.dsn, min_size=0, max_size=5) as pool:
        log = await PostgresLog.create(pool, PARTITIONS)
        async with aclosing(log.tail({(EVENTS, 0): 0})) as tail:
            await log.append([event("x"), Append(STREAM, 0, "k", b"y")])
            await anext(tail)
        await log.aclose()
        assert await pool.fetchval("SELECT count(*) FROM log_events") == 1
        with pytest.raises(LogUnavailable, match="closed"):
            await log.append([event("late")])


@pytest.mark.parametrize("may", [True, False], ids=["in pieces", "without the right to a temporary table"])
async def test_large_records_are_what_they_were(log: PostgresLog, monkeypatch: pytest.MonkeyPatch, may: bool) -> None:
    staged: list[int] = []

    @asynccontextmanager
    async def counted(conn: asyncpg.Connection, values: list[StagedValue], seconds: float) -> AsyncIterator[None]:
        staged.append(len(values))
        async with staging.staged(conn, values, seconds):
            yield

    async def may_stage(_: object) -> bool:
        return may

    monkeypatch.setattr(append, "staged", counted)
    monkeypatch.setattr(append, "may_stage", may_stage)
    large = os.urandom(staging.TOTAL_BYTES)
    records = [
        command("small"),
        Append(COMMANDS, 0, "thread", b"\x0f" + large),
        Append(Topic.VALUES, 1, "thread", large[::-1]),
        command("another"),
        Append(EVENTS, 0, "thread", large[:-1]),
        Append(Topic.VALUES, 1, "thread", b""),
    ]
    for base in (0, 1):
        assert await log.append(records) == [3 * base, 3 * base + 1, 2 * base, 3 * base + 2, base, 2 * base + 1]
    for topic, partition in ((COMMANDS, 0), (EVENTS, 0), (Topic.VALUES, 1)):
        appended = [record.value for record in records if record.topic is topic]
        found = await log.read(topic, partition, 0, max_bytes=1 << 30)
        assert [record.value for record in found] == appended * 2
    assert staged == ([3, 3] if may else [])


async def test_large_records_are_kept_for_no_tail_that_has_them(
    log: PostgresLog, connection: asyncpg.Connection
) -> None:
    """Of each topic-partition the last one would be: hundreds of MB after a few runs with large input."""
    large = os.urandom(KEEP_BYTES + 1)
    async with aclosing(log.tail({(COMMANDS, 0): 0, (STREAM, 0): 0})) as tail:
        following = asyncio.ensure_future(anext(tail))
        feeds = log._feeds._feeds
        await eventually(lambda: [feed.next for feed in feeds.values()] == [0, 0])
        records = [Append(COMMANDS, 0, "thread", large), Append(STREAM, 0, "thread", large)]
        async with connection.transaction():  # as the committer does it
            await log.hush(connection)
            offsets = await log.append_in(connection, records)
        appended = [Record(r.topic, 0, offset, r.key, r.value, 0) for r, offset in zip(records, offsets, strict=True)]
        log.committed(appended, {})
        found: list[bytes] = []
        while len(found) < 2:
            found += [record.value for record in await following]
            following = asyncio.ensure_future(anext(tail))
        assert found == [large, large]
        await eventually(lambda: not any(feed._records for feed in feeds.values()))
        await log.append([Append(STREAM, 0, "thread", b"next")])
        assert [record.value for record in await following] == [b"next"]


async def test_where_commands_are_rare_their_connection_is_closed_and_opened_anew(
    in_postgres: InPostgres, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append, "_RARE_SECONDS", 0.05)
    async with asyncpg.create_pool(in_postgres.dsn, min_size=0, max_size=4) as pool:
        log = await PostgresLog.create(pool, PARTITIONS, commands_are_rare=True)
        for value in range(3):
            (offset,) = await log.append([event(str(value))])
            assert offset == value
            await eventually(lambda: pool.get_size() == pool.get_idle_size() == 0, says="the connection is closed")
        appends = [asyncio.create_task(log.append([event(str(value))])) for value in range(3, 50)]
        await asyncio.gather(*appends)  # the connection may close at any moment of these
        values = [record.value for record in await log.read(EVENTS, 0, 0)]
        assert values == [str(value).encode() for value in range(50)]
        await log.aclose()
