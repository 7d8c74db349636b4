"""`commit_one`: what it appends, tells and refuses is what the functions for any number of commands do."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.projections.commit.coordination import fenced_by

P, EPOCH = 3, 7
ONE = "SELECT commit_one($1, $2, $3, $4, $5, $6, $7, $8, $9)"
MANY = "SELECT move_partitions($8), expect_offsets(log_append($1, $2, $3, $4, $5, $6), $7)"
COMMAND, EVENT = 40, 20  # their next offsets


@pytest.fixture(autouse=True)
async def owned(conn: asyncpg.Connection, database: str) -> None:
    log = await PostgresLog.create(database, partitions=16)
    await log.aclose()
    await conn.execute("UPDATE partitions SET epoch = $2, ev_off = 19, cmd_off = 39 WHERE p = $1", P, EPOCH)
    for topic, head in (("commands", COMMAND), ("events", EVENT), ("stream", 5)):
        await conn.execute("UPDATE log_heads SET head = $3 WHERE topic = $1 AND partition = $2", topic, P, head)


async def one(conn: Any, frames: list[bytes] | None, *, epoch: int = EPOCH, command: int = COMMAND) -> list[int]:
    answer: list[int] = await conn.fetchval(ONE, P, epoch, epoch, command, EVENT, "key", b"command", b"event", frames)
    return answer


async def many(conn: Any, frames: list[bytes] | None) -> list[int]:
    counts = [1, 1, *([len(frames)] if frames else [])]
    topics = ["commands", "events", "stream"][: len(counts)]
    groups = [n for n, count in enumerate(counts, 1) for _ in range(count)]
    values = [b"command", b"event", *(frames or [])]
    moves = [(P, EPOCH, EPOCH, EVENT, COMMAND)]
    records = (topics, [P] * len(topics), counts, groups, ["key"] * len(values), values)
    appended = await conn.fetchval(MANY, *records, [COMMAND, EVENT], moves, column=1)
    return [appended[2] if frames else None, appended[-1]]


async def left(conn: Any) -> Any:
    """What is in the log and the position, without the time."""
    tables = ("commands", "events", "stream")
    return [
        *[await conn.fetch(f"SELECT partition, off, key, value FROM log_{t} ORDER BY off") for t in tables],
        await conn.fetch("SELECT * FROM log_heads ORDER BY topic, partition"),
        await conn.fetch("SELECT * FROM partitions ORDER BY p"),
    ]


FRAMES = [None, [b"one"], [b"one", b"two", b"three"]]


@pytest.mark.parametrize("frames", FRAMES)
async def test_it_writes_what_they_write(conn: asyncpg.Connection, frames: list[bytes] | None) -> None:
    firsts, written = [], []
    for write in (many, one):
        transaction = conn.transaction()
        await transaction.start()
        firsts.append((await write(conn, frames))[0])
        written.append(await left(conn))
        await transaction.rollback()
    assert firsts == [5 if frames else None] * 2
    assert written[0] == written[1] and len(written[0][2]) == len(frames or [])


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("write", [many, one])
async def test_others_are_told_where_the_log_ends(
    conn: asyncpg.Connection, database: str, write: Any, frames: list[bytes] | None
) -> None:
    listener = await asyncpg.connect(database)
    told: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("threadlog_log", lambda *said: told.put_nowait(said[-1]))
    await write(conn, frames)
    stream = f",stream:{P}:{5 + len(frames)}" if frames else ""
    async with asyncio.timeout(30):
        assert await told.get() == f"commands:{P}:{COMMAND + 1},events:{P}:{EVENT + 1}{stream}"
    await listener.close()


async def test_the_time_is_that_of_its_records(conn: asyncpg.Connection) -> None:
    _, at_ms = await one(conn, [b"frame"])
    as_read = "(date_part('epoch', at) * 1000)::bigint"  # rounded, as those who tail the log have it (`tail.py`)
    for topic in ("commands", "events", "stream"):
        assert await conn.fetchval(f"SELECT array_agg({as_read}) FROM log_{topic}") == [at_ms]


async def test_who_does_not_own_the_partition_writes_nothing(conn: asyncpg.Connection) -> None:
    before = await left(conn)
    with pytest.raises(asyncpg.PostgresError) as raised:
        await one(conn, [b"frame"], epoch=EPOCH - 1)
    fenced = fenced_by(raised.value)
    assert fenced is not None and fenced.partitions == (P,)
    assert await left(conn) == before


@pytest.mark.parametrize("topic", ["commands", "events"])
async def test_nothing_is_written_behind_what_others_have_appended(conn: asyncpg.Connection, topic: str) -> None:
    await conn.execute("SELECT log_append_record($1, $2, 'other', 'their record')", topic, P)
    before = await left(conn)
    with pytest.raises(asyncpg.PostgresError) as raised:
        await one(conn, None)
    assert raised.value.sqlstate == "TL002"
    assert await left(conn) == before
