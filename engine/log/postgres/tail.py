"""Reading the Postgres log: one query over many topic-partitions, and one reader that serves all tails of a process."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import asyncpg

from threadlog.engine.backoff import Backoff
from threadlog.engine.compression.codec import LARGE_BYTES, unpack_record
from threadlog.engine.log.port import Record, Topic
from threadlog.engine.log.postgres.append import COMPRESSED
from threadlog.engine.postgres.connection import CONNECT_SECONDS
from threadlog.engine.postgres.errors import PASSING
from threadlog.engine.postgres.listener import CHECK_SECONDS, Listener

log = logging.getLogger(__name__)

CHANNEL = "threadlog_log"

# A batch read of one topic-partition: at most this many records, and bytes unless its first record alone is larger.
BATCH_RECORDS = 1_000
BATCH_BYTES = 4 * 1024 * 1024

# Compressed records are a fifth to a third of their size: the query takes fewer bytes, so that little is read in vain.
_SHRUNK, _SHRINKING_BYTES = 4, 1024 * 1024

# What a feed keeps of the records it read last, for tails that are a little behind.
KEEP_RECORDS = 1_000
KEEP_BYTES = 512 * 1024

# How often the heads are looked at although nobody notified (a notification can be lost with its connection).
POLL_SECONDS = 1.0
# The same in a process that appends most of what there is, on a server that nothing is in between: a notification is
# lost with its connection only, and the next one looks.
QUIET_POLL_SECONDS = 5.0
QUIET_CHECK_SECONDS = 60.0
READ_SECONDS = 30.0

_offset = attrgetter("offset")
_NO_END = 2**63 - 1
Place = tuple[Topic, int]

# Head and rows come from one snapshot: all records from `start` to the head are seen, unless `stop` or the limits cut.
_READ = """
SELECT w.i, h.head, h.first, r.off, r.key, r.value, r.ms
FROM unnest({places}) WITH ORDINALITY AS w (partition, start, stop, i)
JOIN log_heads h ON h.topic = '{topic}' AND h.partition = w.partition
LEFT JOIN LATERAL (
    SELECT off, key, value, (date_part('epoch', at) * 1000)::bigint AS ms
    FROM (
        SELECT *, sum(octet_length(value)) OVER (ORDER BY off) AS total
        FROM (
            SELECT off, key, value, at FROM log_{topic}
            WHERE partition = w.partition AND off >= greatest(w.start, h.first) AND off < w.stop
            ORDER BY off LIMIT {records}
        ) AS candidates
    ) AS sized
    WHERE total <= {bytes} OR total = octet_length(value)
    ORDER BY off
) AS r ON true
"""


# Much cheaper than a read when, as nearly always, there is nothing.
_MOVED = """
SELECT w.topic, w.partition, h.head FROM unnest($1::text[], $2::int[], $3::bigint[]) w (topic, partition, next)
JOIN log_heads h ON h.topic = w.topic AND h.partition = w.partition WHERE h.head > w.next
"""


@dataclass(slots=True)
class Found:
    """What a read found of one topic-partition: everything from its start up to `upto`, which is at most `head`."""

    first: int
    head: int
    upto: int
    records: list[Record]


async def read_places(
    connection: Any,
    starts: Mapping[Place, int],
    *,
    end: int | None = None,
    max_bytes: int = BATCH_BYTES,
    max_records: int = BATCH_RECORDS,
) -> dict[Place, Found]:
    """Reads on from each start, with one query. `max_records` and `max_bytes` are per topic-partition."""
    by_topic: dict[Topic, tuple[list[int], list[int], list[int]]] = {}
    for (topic, partition), start in starts.items():
        partitions, offsets, stops = by_topic.setdefault(topic, ([], [], []))
        partitions.append(partition)
        offsets.append(start)
        stops.append(_NO_END if end is None else end)
    topics = sorted(by_topic)
    arguments: list[Any] = [max_records, max_bytes]
    shrunk = f"$2::bigint / {_SHRUNK}" if max_bytes >= _SHRINKING_BYTES else "$2::bigint"
    parts: list[str] = []
    for t, topic in enumerate(topics):
        n = len(arguments)
        places = f"${n + 1}::int[], ${n + 2}::bigint[], ${n + 3}::bigint[]"
        arguments += by_topic[topic]
        parts.append(
            f"SELECT {t} AS t, * FROM ("
            + _READ.format(
                places=places, topic=topic, records="$1", bytes=shrunk if topic in COMPRESSED else "$2::bigint"
            )
            + ") AS x"
        )
    rows = await connection.fetch(" UNION ALL ".join(parts), *arguments, timeout=READ_SECONDS)
    found: dict[Place, Found] = {}
    for t, i, head, first, off, key, value, ms in rows:
        topic = topics[t]
        place = (topic, by_topic[topic][0][i - 1])
        if off is None:
            found[place] = Found(first, head, max(head, starts[place]), [])
            continue
        if topic in COMPRESSED:
            value = unpack_record(value) if len(value) <= LARGE_BYTES else await asyncio.to_thread(unpack_record, value)
        record = Record(topic, place[1], off, key, value, ms)
        if place in found:
            found[place].records.append(record)
        else:
            found[place] = Found(first, head, head, [record])
    for one in found.values():
        if one.records:
            one.records.sort(key=_offset)
            _cut(one.records, max_bytes)
            one.upto = one.records[-1].offset + 1
    return found


def _cut(records: list[Record], max_bytes: int) -> None:
    """Leave as many as fit, at least one: what is stored may have been smaller."""
    total = 0
    for n, record in enumerate(records):
        total += len(record.value)
        if total > max_bytes and n:
            del records[n:]
            return


class _Feed:
    """The live end of a topic-partition: the records `start` to `next`, and the tails waiting for more."""

    __slots__ = ("_bytes", "_records", "hint", "next", "start", "tails", "waiting")

    def __init__(self) -> None:
        self.next: int | None = None  # not read yet: the first tail says where the live end is
        self.start = 0
        self.hint = 0  # the head as last notified
        self.tails = 0
        self.waiting: set[asyncio.Future[None]] = set()
        self._records: list[Record] = []
        self._bytes = 0

    def begin(self, at: int) -> None:
        self.start = self.next = at

    def push(self, records: list[Record], upto: int, *, wake: bool = True) -> None:
        assert self.next is not None
        if records and records[0].offset < self.next:
            records = records[bisect.bisect_left(records, self.next, key=_offset) :]
        self.next = max(self.next, upto)
        if not records:
            return
        if self._bytes > KEEP_BYTES or len(self._records) > KEEP_RECORDS:
            self._forget()
        self._records += records
        self._bytes += sum(len(record.value) for record in records)
        if wake:
            for waiter in self.waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self.waiting.clear()

    def _forget(self) -> None:
        keep, size = len(self._records), 0
        while keep and len(self._records) - keep < KEEP_RECORDS // 2 and size <= KEEP_BYTES // 2:
            keep -= 1
            size += len(self._records[keep].value)
        del self._records[:keep]
        self._bytes = size
        self.start = self._records[0].offset

    def consumed(self) -> None:
        """All its tails have what it keeps: what is large need not be kept for others, which read it from the log."""
        if self._bytes > KEEP_BYTES and self.next is not None:
            self._records, self._bytes, self.start = [], 0, self.next

    def since(self, position: int) -> list[Record]:
        if not self._records or position > self._records[-1].offset:
            return []
        return self._records[bisect.bisect_left(self._records, position, key=_offset) :]


class Feeds:
    """Serves every `tail` of a process from one connection that listens, reading only what moved and only once.

    A tail that is behind what its feeds keep reads for itself until it has caught up, so a slow one costs no memory.
    """

    def __init__(
        self, pool: asyncpg.Pool, *, poll_seconds: float = POLL_SECONDS, check_seconds: float = CHECK_SECONDS
    ) -> None:
        """`poll_seconds`: between two looks at the heads without a notification; `check_seconds`: between two proofs
        that notifications arrive, see `engine.postgres.listener`."""
        self._pool, self._poll_seconds = pool, poll_seconds
        self._feeds: dict[Place, _Feed] = {}
        self._wake = asyncio.Event()
        self._look = False  # look at all heads, notified or not
        self._listener = Listener(
            pool, CHANNEL, self._notified, name="log", on_reconnect=self._poll, prepare=_plan_once,
            check_every=check_seconds,
        )  # fmt: skip
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    async def tail(self, positions: Mapping[Place, int]) -> AsyncGenerator[list[Record], None]:
        at = dict(positions)
        feeds = {place: self._join(place) for place in at}
        waiter: asyncio.Future[None] | None = None
        try:
            while not self._closed:
                batch: list[Record] = []
                behind: dict[Place, int] = {}
                for place, feed in feeds.items():
                    if feed.next is None or at[place] < feed.start:
                        behind[place] = at[place]
                    elif at[place] < feed.next:
                        batch += feed.since(at[place])
                        at[place] = feed.next
                if behind:
                    for place, found in (await self._read_behind(behind)).items():
                        at[place] = max(at[place], found.upto)
                        batch += found.records
                        if feeds[place].next is None and found.upto >= found.head:
                            feeds[place].begin(found.head)
                            self._wake.set()  # there may have been a notification already
                if batch:
                    yield batch
                elif not behind:
                    waiter = asyncio.get_running_loop().create_future()
                    for feed in feeds.values():
                        feed.waiting.add(waiter)
                        if feed.tails == 1:
                            feed.consumed()
                    await waiter
                    for feed in feeds.values():
                        feed.waiting.discard(waiter)
        finally:
            for place, feed in feeds.items():
                if waiter is not None:
                    feed.waiting.discard(waiter)
                self._leave(place, feed)

    def committed(self, records: Sequence[Record], *, also_commands: bool = False) -> None:
        """Takes in what this process itself has appended, so that its feeds need not read it.

        Tails of `commands` are woken only on request, or for a large one, which is not kept then: what the processor,
        their only reader, decides it need not be told.
        """
        for record in records:
            feed = self._feeds.get((record.topic, record.partition))
            if feed is None or feed.next is None or record.offset < feed.next:
                continue
            if feed.next == record.offset:
                wake = also_commands or record.topic is not Topic.COMMANDS or len(record.value) > KEEP_BYTES
                feed.push([record], record.offset + 1, wake=wake)
            else:  # others' records are in between: all of it is read
                feed.hint = max(feed.hint, record.offset + 1)
                self._wake.set()

    async def aclose(self) -> None:
        """Ends the reader and all tails."""
        self._closed = True
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
            await self._listener.aclose()
        for feed in self._feeds.values():
            for waiter in feed.waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def _join(self, place: Place) -> _Feed:
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_on(), name="tail of the log")
        feed = self._feeds.setdefault(place, _Feed())
        feed.tails += 1
        return feed

    def _leave(self, place: Place, feed: _Feed) -> None:
        feed.tails -= 1
        if not feed.tails:
            del self._feeds[place]

    async def _read_behind(self, behind: Mapping[Place, int]) -> dict[Place, Found]:
        backoff = Backoff()
        while True:
            try:
                async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                    return await read_places(connection, behind)
            except PASSING as error:
                log.warning("tail: the log's database is away, trying again: %r", error)
            await backoff.wait()

    async def _read_on(self) -> None:
        """Reads the feeds with the connection that listens."""
        await self._listener.start()
        backoff = Backoff()
        while True:
            try:
                await self._serve()
            except PASSING as error:
                log.warning("tail: lost the log's database, connecting again: %r", error)
            except Exception:
                log.exception("tail: the reader failed, starting it again")
                await backoff.wait()
            self._poll()  # what was to be read still is

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._poll_seconds, self._poll)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                async with self._listener.connection() as connection:
                    look, self._look = self._look, False
                    if look:
                        timer.cancel()
                        timer = loop.call_later(self._poll_seconds, self._poll)
                        await self._look_at_heads(connection)
                    moved = {
                        place: feed.next
                        for place, feed in self._feeds.items()
                        if feed.next is not None and feed.hint > feed.next
                    }
                    if moved:
                        await self._read_moved(connection, moved)
        finally:
            timer.cancel()

    async def _look_at_heads(self, connection: Any) -> None:
        """As if all that has moved had been notified."""
        places = [(topic, p, feed.next) for (topic, p), feed in self._feeds.items() if feed.next is not None]
        if not places:
            return
        columns = [list(column) for column in zip(*places, strict=True)]
        for name, p, head in await connection.fetch(_MOVED, *columns, timeout=READ_SECONDS):
            feed = self._feeds.get((Topic(name), p))
            if feed is not None:
                feed.hint = max(feed.hint, head)

    async def _read_moved(self, connection: Any, moved: Mapping[Place, int]) -> None:
        for place, found in (await read_places(connection, moved)).items():
            feed = self._feeds.get(place)
            if feed is None or feed.next is None:  # its last tail left meanwhile
                continue
            feed.push(found.records, found.upto)
            if found.upto < found.head:
                feed.hint = max(feed.hint, found.head)
                self._wake.set()

    def _notified(self, payload: str) -> None:
        for one in payload.split(","):
            topic, partition, head = one.split(":")
            feed = self._feeds.get((Topic(topic), int(partition)))
            if feed is not None and int(head) > feed.hint:
                feed.hint = int(head)
                self._wake.set()

    def _poll(self) -> None:
        self._look = True
        self._wake.set()


async def _plan_once(connection: Any) -> None:
    """The query of `read_places` takes ten times as long to plan as to run."""
    await connection.execute("SET plan_cache_mode = force_generic_plan")
