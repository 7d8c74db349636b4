"""The log in Postgres tables: gapless offsets, group commit, tails woken by NOTIFY, appends inside a transaction."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from threadlog.engine.log.port import Append, LogUnavailable, OffsetGone, Record, Topic
from threadlog.engine.log.postgres.append import (
    APPEND,
    APPEND_ONE,
    QUIET,
    Appender,
    check,
    group,
    stored,
)
from threadlog.engine.log.postgres.notify import BatchedNotifier
from threadlog.engine.log.postgres.tail import (
    BATCH_BYTES,
    QUIET_CHECK_SECONDS,
    QUIET_POLL_SECONDS,
    READ_SECONDS,
    Feeds,
    Found,
    read_places,
)
from threadlog.engine.postgres.connection import CONNECT_SECONDS, leave_as_it_is
from threadlog.engine.postgres.errors import PASSING

_SCHEMA = Path(__file__).with_name("postgres.sql")
_SCHEMA_LOCK = 0x7468_6C6F  # "thlo": processes that start together apply the schema one after the other

# Retention deletes in transactions of this many rows, so that none takes long.
TRIM_ROWS = 5_000
_IDLE_SECONDS = 2.0  # a connection not used for so long is closed: a burst (the start, too) leaves 4 MB per connection
_NO_LIMIT = 2**63 - 1


class PostgresLog:
    """The log port on Postgres; every promise of `engine.log.port.Log` but one (see `append`), with gapless offsets.

    `append_in`, `read_in`, `read_many_in` and `lock_heads_in` run inside the caller's transaction, for a processor that
    decides, appends and projects in one.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        partitions: int,
        *,
        owns_pool: bool,
        quiet: bool = False,
        commands_are_rare: bool = False,
    ) -> None:
        self._pool = pool
        self._owns_pool = owns_pool
        self._partitions = partitions
        self._quiet = quiet
        self._appender = Appender(pool, partitions, lost=self.lost, quiet=quiet, commands_are_rare=commands_are_rare)
        self._when_lost: Callable[[], None] = lambda: None
        self._feeds = (
            Feeds(pool, poll_seconds=QUIET_POLL_SECONDS, check_seconds=QUIET_CHECK_SECONDS) if quiet else Feeds(pool)
        )
        self._notices = BatchedNotifier(pool)

    @classmethod
    async def create(
        cls, pool_or_dsn: asyncpg.Pool | str, partitions: int, *, quiet: bool = False, commands_are_rare: bool = False
    ) -> PostgresLog:
        """Creates the tables if they are absent and opens the log.

        `quiet`: this process appends most of what there is and its own tails are what matters: those learn of it at
        once, other processes within 50 ms instead of with every transaction.
        `commands_are_rare`: this process' commands and events reach the log another way (the link, `append_in`), so no
        connection is kept for the few that don't.
        A pool given must have three connections to spare, which are kept: two to append, one to listen; `aclose` gives
        them back. Raises `ValueError` when the log exists with another number of partitions, `LogUnavailable`.
        """
        if partitions < 1:
            raise ValueError(f"a log needs at least one partition, not {partitions}")
        owns_pool = isinstance(pool_or_dsn, str)
        if isinstance(pool_or_dsn, str):
            pool = asyncpg.create_pool(
                pool_or_dsn,
                min_size=0,
                max_size=8,
                max_inactive_connection_lifetime=_IDLE_SECONDS,
                reset=leave_as_it_is,
                timeout=CONNECT_SECONDS,
                command_timeout=READ_SECONDS,
                server_settings={"plan_cache_mode": "force_generic_plan"},  # planning costs more than running
            )
        else:
            pool = pool_or_dsn
        try:
            if owns_pool:
                await pool
            await _migrated(pool_or_dsn, partitions)
        except BaseException as error:
            if owns_pool:
                pool.terminate()
            if isinstance(error, PASSING):
                raise LogUnavailable(f"the log's database can't be reached: {error!r}") from error
            raise
        return cls(pool, partitions, owns_pool=owns_pool, quiet=quiet, commands_are_rare=commands_are_rare)

    @property
    def partitions(self) -> int:
        return self._partitions

    async def append(self, records: Sequence[Append]) -> list[int]:
        """As the port says; one transaction, all or nothing. Overlapping calls share transactions (group commit).

        A call with stream records only does not wait for the disk: a crash of the server (not of this process) may
        forget what it appended in the last 0.6 seconds. No offset is used again then: the stream goes on after a gap.
        """
        offsets, at_ms = await self._appender.append(records)
        if self._quiet:
            self._tell(records, offsets, at_ms)
        return offsets

    def _tell(self, records: Sequence[Append], offsets: Sequence[int], at_ms: int) -> None:
        """What of a quiet append nobody else tells: this process' tails, and in a moment others'."""
        appended = [
            Record(record.topic, record.partition, offset, record.key, record.value, at_ms)
            for record, offset in zip(records, offsets, strict=True)
            if record.topic is not Topic.VALUES
        ]
        self._feeds.committed(appended, also_commands=True)
        self._notices.add({(record.topic, record.partition): record.offset + 1 for record in appended})

    async def read(
        self, topic: Topic, partition: int, start: int, *, end: int | None = None, max_bytes: int = BATCH_BYTES
    ) -> list[Record]:
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                return await self.read_in(connection, topic, partition, start, end, max_bytes=max_bytes)
        except PASSING as error:
            raise LogUnavailable(f"the log's database can't be read: {error!r}") from error

    async def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        self._check(topic, partition)
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                row = await connection.fetchrow(
                    "SELECT first, head FROM log_heads WHERE topic = $1 AND partition = $2",
                    topic,
                    partition,
                    timeout=READ_SECONDS,
                )
        except PASSING as error:
            raise LogUnavailable(f"the log's database can't be read: {error!r}") from error
        assert row is not None
        return row["first"], row["head"]

    def tail(self, positions: Mapping[tuple[Topic, int], int]) -> AsyncGenerator[list[Record], None]:
        """As the port says; it also ends when the log is closed. `values` is followed by polling only (1 s)."""
        for topic, partition in positions:
            self._check(topic, partition)
        return self._feeds.tail(positions)

    async def aclose(self) -> None:
        await self._feeds.aclose()
        await self._appender.aclose()
        await self._notices.aclose()
        if self._owns_pool:
            await self._pool.close()

    # Inside the caller's transaction

    async def append_in(self, connection: Any, records: Sequence[Append]) -> list[int]:
        """Appends in the transaction of `connection`: in the log when that commits, offsets and notification included.

        The heads of the records' topic-partitions stay locked until then. Heads are locked in (topic, partition) order:
        a transaction that calls this twice, or after `lock_heads_in`, must not go back in that order
        (commands < events < stream < values) to a topic-partition it has not locked. Raises what asyncpg raises.
        """
        check(records, self._partitions)
        if not records:
            return []
        if len(records) == 1:
            (r,) = records
            return [(await connection.fetchval(APPEND_ONE, r.topic, r.partition, r.key, stored(r)))[0]]
        groups = group(records)
        return groups.appended(await connection.fetchval(APPEND, *groups.arguments)).offsets

    async def hush(self, connection: Any) -> None:
        """Appends on this connection notify nobody, if this log is a quiet one: `committed` does."""
        if self._quiet:
            await connection.execute(QUIET)

    def when_lost(self, call: Callable[[], None]) -> None:
        """Call when the database was found to be away: it may have forgotten the stream's last moments."""
        self._when_lost = call

    def lost(self) -> None:
        """A transaction of the caller found the database away."""
        self._when_lost()

    def committed(self, records: Sequence[Record], heads: Mapping[tuple[Topic, int], int]) -> None:
        """Tells the tails of this process what `append_in` appended, after the commit: they need not read it then.

        `heads`: the next offset of every topic-partition appended to. Tails of `commands` learn of it only with the
        next record of others: the processor knows what it appends.
        """
        self._feeds.committed(records)
        if self._quiet:
            self._notices.add(heads)

    async def read_in(
        self,
        connection: Any,
        topic: Topic,
        partition: int,
        start: int,
        end: int | None = None,
        *,
        max_bytes: int = BATCH_BYTES,
    ) -> list[Record]:
        """As `read`, on this connection, in its transaction if it is in one. Raises what asyncpg raises."""
        self._check(topic, partition)
        found = (await read_places(connection, {(topic, partition): start}, end=end, max_bytes=max_bytes))[
            (topic, partition)
        ]
        if start < found.first:
            raise OffsetGone(topic, partition, start, found.first)
        return found.records

    async def read_many_in(
        self, connection: Any, starts: Mapping[tuple[Topic, int], int]
    ) -> dict[tuple[Topic, int], Found]:
        """As `read_in`, of many topic-partitions with one query; a start that is gone counts as the first one left."""
        for topic, partition in starts:
            self._check(topic, partition)
        return await read_places(connection, starts) if starts else {}

    async def lock_heads_in(self, connection: Any, topic: Topic, partitions: Sequence[int]) -> dict[int, int]:
        """Keeps others from appending to these until the transaction ends; answers the offset each is to append next.

        What is below is committed, so a read that follows in the transaction (READ COMMITTED) sees all of it.
        """
        rows = await connection.fetch(
            "SELECT partition, head FROM log_heads WHERE topic = $1 AND partition = ANY ($2::int[]) "
            "ORDER BY partition FOR UPDATE",
            topic,
            partitions,
        )
        return {row[0]: row[1] for row in rows}

    # Retention

    async def trim(self, topic: Topic, partition: int, below: int, *, rows: int = TRIM_ROWS) -> None:
        """Forgets the records below this offset, so many rows at a time. Raises `LogUnavailable`; what was not deleted
        then, is by the next."""
        self._check(topic, partition)
        try:
            # Gone for readers at once; the rows follow, without keeping appends waiting for the head.
            first = await self._pool.fetchval(
                "UPDATE log_heads SET first = greatest(first, least($3, head)) WHERE topic = $1 AND partition = $2 "
                "RETURNING first",
                topic,
                partition,
                below,
            )
            deleted = rows
            while deleted == rows:
                status = await self._pool.execute(
                    f"DELETE FROM log_{topic.value} WHERE partition = $1 AND off IN (SELECT off FROM log_{topic.value} "
                    "WHERE partition = $1 AND off < $2 ORDER BY off LIMIT $3)",
                    partition,
                    first,
                    rows,
                )
                deleted = int(status.rpartition(" ")[2])
        except PASSING as error:
            raise LogUnavailable(f"the log's database can't be reached: {error!r}") from error

    async def retain(
        self, *, commands_seconds: float, stream_seconds: float, decided: Mapping[int, int], rows: int = TRIM_ROWS
    ) -> None:
        """One pass of retention: forgets commands and stream records older than this, on the database's clock.

        `decided`: per partition the offset of the last command whose decision is projected (`partitions.cmd_off`);
        commands after it stay, and those of a partition that is not named. Events and values are kept for ever.
        `rows`: as many at a time. Raises `LogUnavailable`.
        """
        for topic, seconds in ((Topic.COMMANDS, commands_seconds), (Topic.STREAM, stream_seconds)):
            for partition in await self._with_old(topic, seconds):
                if topic is Topic.STREAM:
                    await self._retain(topic, partition, seconds, _NO_LIMIT, rows)
                elif partition in decided:
                    await self._retain(topic, partition, seconds, decided[partition] + 1, rows)

    async def _with_old(self, topic: Topic, seconds: float) -> list[int]:
        """The partitions whose first record is older than this: times do not decrease with the offset."""
        try:
            found = await self._pool.fetch(
                f"SELECT h.partition FROM log_heads h CROSS JOIN LATERAL (SELECT at FROM log_{topic.value} r "
                "WHERE r.partition = h.partition AND off >= h.first ORDER BY off LIMIT 1) oldest "
                "WHERE h.topic = $1 AND oldest.at < clock_timestamp() - make_interval(secs => $2) ORDER BY h.partition",
                topic,
                seconds,
            )
        except PASSING as error:
            raise LogUnavailable(f"the log's database can't be read: {error!r}") from error
        return [row["partition"] for row in found]

    async def _retain(self, topic: Topic, partition: int, seconds: float, limit: int, rows: int) -> None:
        while True:
            first, _ = await self.bounds(topic, partition)
            try:
                # Times do not decrease with the offset, so the last old one is found without an index on them.
                last = await self._pool.fetchval(
                    "SELECT max(off) FILTER (WHERE at < clock_timestamp() - make_interval(secs => $5)) FROM "
                    f"(SELECT off, at FROM log_{topic.value} WHERE partition = $1 AND off >= $2 AND off < $3 "
                    "ORDER BY off LIMIT $4) AS oldest",
                    partition,
                    first,
                    limit,
                    rows,
                    seconds,
                )
            except PASSING as error:
                raise LogUnavailable(f"the log's database can't be read: {error!r}") from error
            if last is None:
                return
            await self.trim(topic, partition, last + 1, rows=rows)

    def _check(self, topic: Topic, partition: int) -> None:
        if not 0 <= partition < self._partitions:
            raise ValueError(f"{topic}: partition {partition} of a log with {self._partitions} partitions")


async def _migrated(pool_or_dsn: asyncpg.Pool | str, partitions: int) -> None:
    """Of a pool of one's own no connection is used: many processes open the log and never read it."""
    if not isinstance(pool_or_dsn, str):
        async with pool_or_dsn.acquire(timeout=CONNECT_SECONDS) as pooled, pooled.transaction():
            return await _migrate(pooled, partitions)
    connection = await asyncpg.connect(pool_or_dsn, timeout=CONNECT_SECONDS)
    try:
        async with connection.transaction():
            await _migrate(connection, partitions)
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def _migrate(connection: Any, partitions: int) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _SCHEMA_LOCK)
    await connection.execute(_SCHEMA.read_text())
    stored = await connection.fetchval("SELECT partitions FROM log_settings")
    if stored is None:
        await connection.execute("INSERT INTO log_settings (partitions) VALUES ($1)", partitions)
        await connection.execute("INSERT INTO log_alive DEFAULT VALUES")
        await connection.execute(
            "INSERT INTO log_heads (topic, partition) "
            "SELECT t, p FROM unnest($1::text[]) AS t, generate_series(0, $2::int - 1) AS p",
            list(Topic),
            partitions,
        )
    elif stored != partitions:
        raise ValueError(
            f"this database has a log of {stored} partitions, not {partitions}: the number is fixed when the log is "
            f"created (use {stored}, or another database)"
        )
