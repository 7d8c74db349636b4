"""The topics Faust sees in Postgres: those of the log, to read, and those of subscribers, with committed offsets."""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from threadlog.engine.log.port import LogUnavailable, Topic
from threadlog.engine.log.postgres.tail import read_places
from threadlog.engine.postgres.connection import CONNECT_SECONDS, leave_as_it_is

log = logging.getLogger(__name__)

_SCHEMA = Path(__file__).with_name("topics.sql")
_SCHEMA_LOCK = 0x7468_7375  # "thsu": workers that start together apply the schema one after the other
_WORKER_LOCK = 0x7468_6177  # "thaw", with the app's name: the one worker of an app that has the partitions

CHANNEL = "threadlog_subscribers"
"""Notified, with nothing, of every append to a subscriber's topic."""

STATEMENT_SECONDS = 30.0
READ_RECORDS = 500
READ_BYTES = 4 * 1024 * 1024
TOMBSTONE_SECONDS = 86_400.0
"""How long a compacted topic tells that a key is gone, as Kafka's `delete.retention.ms`."""

NO_LOG = "this database holds no log yet: start a server on it first"

Place = tuple[str, int]


class NotAppendable(Exception):
    """The topic is one of the log's: engines write events, clients send commands through the API."""


class Superseded(Exception):
    """Another worker has taken over the partitions of this app."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A record of any topic as Faust gets it. `timestamp`: seconds since the epoch."""

    offset: int
    timestamp: float
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class NewMessage:
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp: float | None


class SubscriberTopics:
    """Appends, reads, and offsets, on a pool of its own. Methods raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool, topic_prefix: str, log_partitions: int) -> None:
        self._pool = pool
        self._of_log = {f"{topic_prefix}{topic}": topic for topic in Topic}
        self._log_partitions = log_partitions
        self._partitions: dict[str, int] = {}
        self._compacting: set[str] = set()

    @classmethod
    async def open(cls, dsn: str, *, topic_prefix: str) -> SubscriberTopics:
        """Creates the tables if they are absent. Raises `LogUnavailable` where the database holds no log."""
        pool = await asyncpg.create_pool(
            dsn, min_size=0, max_size=4, reset=leave_as_it_is, timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings={"application_name": "threadlog-subscriber", "plan_cache_mode": "force_generic_plan"},
        )  # fmt: skip
        try:
            async with pool.acquire() as connection:
                if await connection.fetchval("SELECT to_regclass('log_settings')") is None:
                    raise LogUnavailable(NO_LOG)
                partitions = await connection.fetchval("SELECT partitions FROM log_settings")
                async with connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", _SCHEMA_LOCK)
                    await connection.execute(_SCHEMA.read_text())
            topics = cls(pool, topic_prefix, partitions)
            await topics.look()
        except BaseException:
            pool.terminate()
            raise
        return topics

    @property
    def pool(self) -> asyncpg.Pool:
        return self._pool

    async def aclose(self) -> None:
        await self._pool.close()

    # Topics

    async def look(self) -> None:
        """Learn of the topics that others have declared."""
        for row in await self._pool.fetch("SELECT topic, partitions, compacting FROM threadlog_subscribers.topics"):
            self._know(row["topic"], row["partitions"], row["compacting"])

    async def declare(
        self, topic: str, partitions: int, *, compacting: bool = False, retention_seconds: float | None = None
    ) -> None:
        """Create the topic unless it exists; one that exists keeps its partitions."""
        if topic in self._of_log or topic in self._partitions:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO threadlog_subscribers.topics VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                topic, partitions, compacting, retention_seconds,
            )  # fmt: skip
            found: Any = await connection.fetchrow(
                "SELECT partitions, compacting FROM threadlog_subscribers.topics WHERE topic = $1", topic
            )
            await connection.execute(
                "INSERT INTO threadlog_subscribers.heads (topic, partition) SELECT $1, generate_series(0, $2 - 1) "
                "ON CONFLICT DO NOTHING",
                topic, found["partitions"],
            )  # fmt: skip
        self._know(topic, found["partitions"], found["compacting"])

    def _know(self, topic: str, partitions: int, compacting: bool) -> None:
        self._partitions[topic] = partitions
        if compacting:
            self._compacting.add(topic)

    def is_of_log(self, topic: str) -> bool:
        return topic in self._of_log

    def partitions(self, topic: str) -> int | None:
        """Of a topic of the log, or one that was declared; None: unknown here."""
        return self._log_partitions if topic in self._of_log else self._partitions.get(topic)

    # Appending

    async def append(self, messages: Sequence[NewMessage]) -> list[int]:
        """Append durably, in one transaction, and return the offsets. Those of a topic-partition keep their order."""
        counts: dict[Place, int] = {}
        ordinals: list[int] = []
        for message in messages:
            place = (message.topic, message.partition)
            ordinals.append(counts.get(place, 0))
            counts[place] = ordinals[-1] + 1
        now = datetime.now(UTC)
        columns = [
            [message.topic for message in messages],
            [message.partition for message in messages],
            ordinals,
            [now if message.timestamp is None else _time(message.timestamp) for message in messages],
            [message.key for message in messages],
            [message.value for message in messages],
            [_packed(message.headers) for message in messages],
        ]
        places = sorted(counts)
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                _APPEND, [p[0] for p in places], [p[1] for p in places], [counts[p] for p in places], *columns
            )
            bases = {(row["topic"], row["partition"]): row["base"] for row in rows}
            if len(bases) < len(places):
                unknown = next(place for place in places if place not in bases)
                raise KeyError(f"no such topic or partition: {unknown[0]}[{unknown[1]}]")
            offsets = [
                bases[message.topic, message.partition] + n for message, n in zip(messages, ordinals, strict=True)
            ]
            compacted = [
                (message.topic, message.partition, message.key, offset)
                for message, offset in zip(messages, offsets, strict=True)
                if message.topic in self._compacting and message.key is not None
            ]
            if compacted:
                await connection.execute(_COMPACT, *map(list, zip(*compacted, strict=True)))
            await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
        return offsets

    # Reading

    async def read(self, starts: Mapping[Place, int]) -> dict[Place, list[StoredMessage]]:
        """What there is from these offsets on, up to some hundred records per topic-partition; nothing left out."""
        of_log = {(self._of_log[t], p): offset for (t, p), offset in starts.items() if t in self._of_log}
        own = {place: offset for place, offset in starts.items() if place[0] not in self._of_log}
        found: dict[Place, list[StoredMessage]] = {}
        async with self._pool.acquire() as connection:
            if of_log:
                names = {topic: name for name, topic in self._of_log.items()}
                read = await read_places(connection, of_log, max_records=READ_RECORDS, max_bytes=READ_BYTES)
                for (topic, partition), place in read.items():
                    found[names[topic], partition] = [
                        StoredMessage(record.offset, record.timestamp_ms / 1000, record.key.encode(), record.value, [])
                        for record in place.records
                    ]
            if own:
                for row in await connection.fetch(_READ, *_columns(own), READ_RECORDS):
                    found.setdefault((row["topic"], row["partition"]), []).append(
                        StoredMessage(
                            row["off"], row["at"].timestamp(), row["key"], row["value"], _unpacked(row["headers"])
                        )
                    )
        return found

    async def heads(self, places: Iterable[Place]) -> dict[Place, int]:
        """The offset that the next record of each will get."""
        return {place: head for place, (_, head) in (await self.bounds(places)).items()}

    async def bounds(self, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
        """`(first kept offset, offset of the next record)` of each."""
        wanted = list(places)
        of_log = [(self._of_log[topic].value, partition) for topic, partition in wanted if topic in self._of_log]
        own = [place for place in wanted if place[0] not in self._of_log]
        found: dict[Place, tuple[int, int]] = {}
        async with self._pool.acquire() as connection:
            if of_log:
                names = {topic.value: name for name, topic in self._of_log.items()}
                for topic, partition, first, head in await connection.fetch(_LOG_BOUNDS, *zip(*of_log, strict=True)):
                    found[names[topic], partition] = (first, head)
            if own:
                for topic, partition, first, head in await connection.fetch(_OWN_BOUNDS, *zip(*own, strict=True)):
                    found[topic, partition] = (first, head)
        return found

    # Workers and their offsets

    async def claim(self, connection: Any, app: str) -> int | None:
        """Make the session of `connection` the app's worker: returns its generation, None while another one is."""
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _WORKER_LOCK, _hash(app)):
            return None
        generation: int = await connection.fetchval(
            "INSERT INTO threadlog_subscribers.apps AS a VALUES ($1, 1) "
            "ON CONFLICT (app) DO UPDATE SET generation = a.generation + 1 RETURNING generation",
            app,
        )
        return generation

    async def reclaim(self, connection: asyncpg.Connection, app: str, generation: int) -> bool:
        """The same after the session was lost: True if no other worker has been there. Raises `Superseded`."""
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _WORKER_LOCK, _hash(app)):
            if await self._generation(connection, app) != generation:
                raise Superseded(f"another worker of {app} has taken over")
            return False  # it may be the lost session: the server has not noticed
        if await self._generation(connection, app) != generation:
            raise Superseded(f"another worker of {app} has taken over")
        return True

    async def _generation(self, connection: asyncpg.Connection, app: str) -> int | None:
        found: int | None = await connection.fetchval(
            "SELECT generation FROM threadlog_subscribers.apps WHERE app = $1", app
        )
        return found

    async def committed(self, app: str) -> dict[Place, int]:
        rows = await self._pool.fetch(
            "SELECT topic, partition, off FROM threadlog_subscribers.offsets WHERE app = $1", app
        )
        return {(row["topic"], row["partition"]): row["off"] for row in rows}

    async def commit(self, app: str, generation: int, offsets: Mapping[Place, int]) -> None:
        """Raises `Superseded`, and commits nothing, when a later worker has the partitions."""
        async with self._pool.acquire() as connection, connection.transaction():
            current = await connection.fetchval(
                "SELECT generation FROM threadlog_subscribers.apps WHERE app = $1 FOR SHARE", app
            )
            if current != generation:
                raise Superseded(f"another worker of {app} has taken over")
            await connection.execute(_COMMIT, app, *_columns(offsets))

    async def forget(self, app: str) -> None:
        """Forget the committed offsets of an app: its next worker begins anew."""
        await self._pool.execute("DELETE FROM threadlog_subscribers.offsets WHERE app = $1", app)

    # Retention

    async def trim(self, topic: str, partition: int, below: int) -> None:
        """Forget the records below this offset, now."""
        await self._pool.execute(
            "DELETE FROM threadlog_subscribers.records WHERE topic = $1 AND partition = $2 AND off < $3",
            topic, partition, below,
        )  # fmt: skip

    async def expire(self) -> None:
        """Forget what retention does not keep, and deletions that compacted topics have told for long enough."""
        async with self._pool.acquire() as connection:
            await connection.execute(_EXPIRE)
            await connection.execute(_EXPIRE_TOMBSTONES, timedelta(seconds=TOMBSTONE_SECONDS))


def _columns(values: Mapping[Place, int]) -> tuple[list[str], list[int], list[int]]:
    return [topic for topic, _ in values], [partition for _, partition in values], list(values.values())


def _hash(app: str) -> int:
    return zlib.crc32(app.encode()) - 2**31  # an int4


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _packed(headers: Sequence[tuple[str, bytes]]) -> str | None:
    if not headers:
        return None
    return orjson.dumps([[name, base64.b64encode(value).decode()] for name, value in headers]).decode()


def _unpacked(headers: str | None) -> list[tuple[str, bytes]]:
    return [] if headers is None else [(name, base64.b64decode(value)) for name, value in orjson.loads(headers)]


# Heads are locked in order, so that appends of several workers can't deadlock.
_APPEND = """
WITH groups AS (SELECT * FROM unnest($1::text[], $2::int[], $3::int[]) AS g (topic, partition, n)),
locked AS (
    SELECT h.topic, h.partition, h.head AS base FROM threadlog_subscribers.heads h
    JOIN groups g ON g.topic = h.topic AND g.partition = h.partition ORDER BY h.topic, h.partition FOR UPDATE OF h
),
moved AS (
    UPDATE threadlog_subscribers.heads h SET head = l.base + g.n
    FROM locked l JOIN groups g ON g.topic = l.topic AND g.partition = l.partition
    WHERE h.topic = l.topic AND h.partition = l.partition
),
appended AS (
    INSERT INTO threadlog_subscribers.records (topic, partition, off, at, key, value, headers)
    SELECT r.topic, r.partition, l.base + r.n, r.at, r.key, r.value, r.headers
    FROM unnest($4::text[], $5::int[], $6::int[], $7::timestamptz[], $8::bytea[], $9::bytea[], $10::jsonb[])
        AS r (topic, partition, n, at, key, value, headers)
    JOIN locked l ON l.topic = r.topic AND l.partition = r.partition
)
SELECT topic, partition, base FROM locked
"""

_COMPACT = """
DELETE FROM threadlog_subscribers.records r
USING unnest($1::text[], $2::int[], $3::bytea[], $4::bigint[]) AS k (topic, partition, key, off)
WHERE r.topic = k.topic AND r.partition = k.partition AND md5(r.key) = md5(k.key) AND r.key = k.key AND r.off < k.off
"""

_READ = """
SELECT w.topic, w.partition, r.off, r.at, r.key, r.value, r.headers::text AS headers
FROM unnest($1::text[], $2::int[], $3::bigint[]) AS w (topic, partition, start)
CROSS JOIN LATERAL (
    SELECT * FROM threadlog_subscribers.records r
    WHERE r.topic = w.topic AND r.partition = w.partition AND r.off >= w.start ORDER BY r.off LIMIT $4
) AS r
ORDER BY w.topic, w.partition, r.off
"""

_LOG_BOUNDS = """
SELECT h.topic, h.partition, h.first, h.head
FROM unnest($1::text[], $2::int[]) AS w (topic, partition)
JOIN log_heads h ON h.topic = w.topic AND h.partition = w.partition
"""

_OWN_BOUNDS = """
SELECT h.topic, h.partition, coalesce((
    SELECT min(r.off) FROM threadlog_subscribers.records r WHERE r.topic = h.topic AND r.partition = h.partition
), h.head), h.head
FROM unnest($1::text[], $2::int[]) AS w (topic, partition)
JOIN threadlog_subscribers.heads h ON h.topic = w.topic AND h.partition = w.partition
"""

_COMMIT = """
INSERT INTO threadlog_subscribers.offsets (app, topic, partition, off)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[])
ON CONFLICT (app, topic, partition) DO UPDATE SET off = excluded.off
"""

_EXPIRE = """
DELETE FROM threadlog_subscribers.records r USING threadlog_subscribers.topics t
WHERE t.topic = r.topic AND t.retention_seconds IS NOT NULL AND NOT t.compacting
    AND r.at < now() - make_interval(secs => t.retention_seconds)
"""

# Never the last record of a partition: the recovery of a table waits for it.
_EXPIRE_TOMBSTONES = """
DELETE FROM threadlog_subscribers.records r USING threadlog_subscribers.topics t, threadlog_subscribers.heads h
WHERE t.topic = r.topic AND t.compacting AND r.value IS NULL AND r.at < now() - $1::interval
    AND h.topic = r.topic AND h.partition = r.partition AND r.off < h.head - 1
"""
