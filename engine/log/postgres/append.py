"""Appending to the Postgres log: records to arguments of `log_append`, and group commit of overlapping appends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any, NamedTuple

import asyncpg

from threadlog.engine.compression.codec import LARGE_BYTES, pack_frames, pack_record
from threadlog.engine.log.large import longer
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, RecordRefused, Topic
from threadlog.engine.metrics import METRICS
from threadlog.engine.postgres.connection import PinnedConnection
from threadlog.engine.postgres.errors import AWAY, FAILED, NOT_COMMITTED
from threadlog.engine.postgres.staging import VALUE_BYTES, StagedValue, is_large, may_stage, staged

APPEND = "SELECT log_append($1, $2, $3, $4, $5, $6)"
# The array of values `$6`, those that are null in it taken from the staging table.
UNSTAGED = """(SELECT array_agg(coalesce(v, s.value) ORDER BY i) FROM unnest($6::bytea[]) WITH ORDINALITY AS r (v, i)
    LEFT JOIN pg_temp.staged s ON v IS NULL AND s.place = 'log' AND s.key = i::text)"""
APPEND_STAGED = APPEND.replace("$6", UNSTAGED)
APPEND_ONE = "SELECT log_append_record($1, $2, $3, $4)"
QUIET = "SET threadlog.quiet = on"

# One transaction takes what has gathered while the one before was in flight, up to this much.
GROUP_RECORDS = 2_000
GROUP_BYTES = 16 * 1024 * 1024

# What is stored compressed; values are already.
COMPRESSED = {Topic.COMMANDS: pack_record, Topic.EVENTS: pack_record, Topic.STREAM: pack_frames}

# A transaction waits for the head's lock, which another process may hold for one of its own.
APPEND_SECONDS = 15.0

# How long a connection to append commands is kept unused where few are appended: it takes 4 MB of the server's memory.
_RARE_SECONDS = 2.0


class Appended(NamedTuple):
    """The records' offsets, in the caller's order, and their time in milliseconds, as the log has it."""

    offsets: list[int]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Groups:
    """Records as `log_append` wants them: sorted by topic and partition; `slots` finds each record's offset again."""

    arguments: tuple[Any, ...]
    slots: list[tuple[int, int]]  # per record, in the caller's order: (group, index in it)

    def staged(self) -> tuple[tuple[Any, ...], list[StagedValue]]:
        """The arguments with null for large values, and those values, for the staging table."""
        *others, values = self.arguments
        apart = [StagedValue("log", str(i), value) for i, value in enumerate(values, 1) if len(value) >= VALUE_BYTES]
        return (*others, [None if len(value) >= VALUE_BYTES else value for value in values]), apart

    @property
    def are_large(self) -> bool:
        return is_large(map(len, self.arguments[-1]))

    def appended(self, answer: Sequence[int]) -> Appended:
        """From what `log_append` returned."""
        return Appended([answer[group] + index for group, index in self.slots], answer[-1])


@dataclass(frozen=True, slots=True)
class OneCommand:
    """A command, its event, and frames of the same thread, as `commit_one` wants them."""

    key: str
    command: bytes
    event: bytes
    frames: list[bytes] | None
    topics: list[Topic]  # of the records, in the caller's order

    @classmethod
    def of(cls, records: Sequence[Append]) -> OneCommand | None:
        """None where it is something else, or large."""
        key, partition = records[0].key, records[0].partition
        topics = [record.topic for record in records]
        if topics.count(Topic.COMMANDS) != 1 or topics.count(Topic.EVENTS) != 1:
            return None
        values: dict[Topic, list[bytes]] = {Topic.COMMANDS: [], Topic.EVENTS: [], Topic.STREAM: []}
        for record in records:
            is_one = record.topic is not Topic.VALUES and record.partition == partition and record.key == key
            if not is_one or len(record.value) >= VALUE_BYTES:
                return None
            values[record.topic].append(record.value)
        for topic, own in values.items():
            if own:
                METRICS.counts["appended_bytes", topic] += sum(map(len, own))
        frames = [pack_frames(value) for value in values[Topic.STREAM]]
        command, event = pack_record(values[Topic.COMMANDS][0]), pack_record(values[Topic.EVENTS][0])
        return cls(key, command, event, frames or None, topics)

    def appended(self, command: int, event: int, answer: Sequence[int]) -> Appended:
        """From the offsets it was decided for, and what `commit_one` returned."""
        following = {Topic.COMMANDS: count(command), Topic.EVENTS: count(event), Topic.STREAM: count(answer[0] or 0)}
        return Appended([next(following[topic]) for topic in self.topics], answer[1])


def check(records: Sequence[Append], partitions: int) -> None:
    """Raises `ValueError` for a partition the log does not have, and for a key Postgres can't store."""
    for record in records:
        if not 0 <= record.partition < partitions:
            raise ValueError(f"{record.topic}: partition {record.partition} of a log with {partitions} partitions")
        if "\0" in record.key:
            raise ValueError(f"{record.topic}: the key {record.key!r} has a NUL character")


def stored(record: Append) -> bytes:
    """A record's value as its row holds it."""
    pack = COMPRESSED.get(record.topic)
    return record.value if pack is None else pack(record.value)


def group(records: Sequence[Append]) -> Groups:
    by_place: dict[tuple[Topic, int], list[int]] = {}
    for i, record in enumerate(records):
        by_place.setdefault((record.topic, record.partition), []).append(i)
    places = sorted(by_place)
    slots: list[tuple[int, int]] = [(0, 0)] * len(records)
    r_group: list[int] = []
    keys: list[str] = []
    values: list[bytes] = []
    for g, place in enumerate(places):
        for index, i in enumerate(by_place[place]):
            slots[i] = (g, index)
            r_group.append(g + 1)
            keys.append(records[i].key)
            values.append(stored(records[i]))
            METRICS.counts["appended_bytes", place[0]] += len(records[i].value)
    counts = [len(by_place[place]) for place in places]
    return Groups(([t for t, _ in places], [p for _, p in places], counts, r_group, keys, values), slots)


async def append_staged(connection: Any, groups: Groups, seconds: float) -> Sequence[int]:
    """Append within the caller's transaction, large values in pieces; returns `log_append`'s answer."""
    arguments, values = groups.staged()
    async with staged(connection, values, seconds):
        answer: Sequence[int] = await connection.fetchval(APPEND_STAGED, *arguments, timeout=seconds)
        return answer


async def group_of_any_size(records: Sequence[Append]) -> Groups:
    """`group`, in a thread when there is much to compress."""
    if all(len(record.value) <= LARGE_BYTES for record in records):
        return group(records)
    return await asyncio.to_thread(group, records)


class _Kind(Enum):
    CONTROL = 0  # no stream record
    STREAM = 1  # stream records only
    MIXED = 2


@dataclass(slots=True, eq=False)
class _Call:
    records: Sequence[Append]
    kind: _Kind
    done: asyncio.Future[Appended]


class _Lane:
    """A connection of its own with at most one transaction in flight.

    The lane of stream records does not wait for the disk: the executors keep what they sent last and send it again when
    a crash of the server may have forgotten it, and offsets are not used twice (`log_skip_forgotten`).
    """

    def __init__(self, pool: asyncpg.Pool, *, waits_for_disk: bool, quiet: bool) -> None:
        self.quiet = quiet
        self.waits_for_disk = waits_for_disk
        self.task: asyncio.Task[None] | None = None
        self.busy = False
        self.mixed = False  # the transaction in flight has records that belong to the other lane too
        self.connection = PinnedConnection(pool, self._prepare)
        self._append: Any = None
        self._append_one: Any = None

    async def _prepare(self, connection: Any) -> None:
        if not self.waits_for_disk:
            await connection.execute("SET synchronous_commit = off")
        if self.quiet:
            await connection.execute(QUIET)
        self._append = await connection.prepare(APPEND)
        self._append_one = await connection.prepare(APPEND_ONE)

    async def append(self, records: Sequence[Append]) -> Appended:
        try:
            await self.connection.get()
        except FAILED as error:
            raise LogUnavailable(f"the log's database can't be reached: {error!r}") from error
        try:
            if len(records) == 1 and len(records[0].value) <= LARGE_BYTES:
                (r,) = records
                offset, at_ms = await self._append_one.fetchval(
                    r.topic, r.partition, r.key, stored(r), timeout=APPEND_SECONDS
                )
                return Appended([offset], at_ms)
            groups = await group_of_any_size(records)
            seconds = longer(APPEND_SECONDS, sum(len(record.value) for record in records))
            connection = await self.connection.get()
            if groups.are_large and await may_stage(connection):
                async with connection.transaction():
                    return groups.appended(await append_staged(connection, groups, seconds))
            return groups.appended(await self._append.fetchval(*groups.arguments, timeout=seconds))
        except NOT_COMMITTED as error:
            await self.connection.drop()
            raise LogUnavailable(f"the log's database is going down: {error!r}") from error
        except AWAY as error:
            await self.connection.drop()
            raise AppendUnknown(f"lost the log's database while appending: {error!r}") from error
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
            raise RecordRefused(f"{type(error).__name__}: {error}") from error
        except asyncpg.PostgresError as error:
            raise LogUnavailable(f"the log's database did not accept the append: {error!r}") from error


class Appender:
    """Group commit: while one transaction is in flight the next ones' records gather and then share a transaction.

    Stream records have a lane of their own, because a transaction of commands may wait for a processor that holds the
    partition's head. A call with both goes with the commands and keeps the stream lane waiting meanwhile, so that every
    topic-partition keeps its order.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        partitions: int,
        *,
        lost: Callable[[], None] = lambda: None,
        quiet: bool = False,
        commands_are_rare: bool = False,
    ) -> None:
        """`lost`: called when the database went away, before any append learns of it; `quiet`: nobody is notified of
        appends, the caller does that; `commands_are_rare`: see `PostgresLog.create`."""
        self._lost = lost
        self._commands_are_rare = commands_are_rare
        self._closing: asyncio.TimerHandle | None = None
        self._partitions = partitions
        self._queue: deque[_Call] = deque()
        self._control = _Lane(pool, waits_for_disk=True, quiet=quiet)
        self._stream = _Lane(pool, waits_for_disk=False, quiet=quiet)
        self._closed = False

    async def append(self, records: Sequence[Append]) -> Appended:
        if not records:
            return Appended([], 0)
        if self._closed:
            raise LogUnavailable("the log is closed")
        check(records, self._partitions)
        streams = sum(record.topic is Topic.STREAM for record in records)
        kind = _Kind.CONTROL if not streams else _Kind.STREAM if streams == len(records) else _Kind.MIXED
        call = _Call(records, kind, asyncio.get_running_loop().create_future())
        self._queue.append(call)
        self._start(self._stream if kind is _Kind.STREAM else self._control)
        return await call.done

    async def aclose(self) -> None:
        """Waits for what is in flight; what was not sent yet fails with `LogUnavailable`."""
        self._closed = True
        if self._closing is not None:
            self._closing.cancel()
        for call in self._queue:
            if not call.done.done():
                call.done.set_exception(LogUnavailable("the log was closed"))
        self._queue.clear()
        for lane in (self._control, self._stream):
            if lane.task is not None:
                await lane.task
            await lane.connection.drop()

    def _start(self, lane: _Lane) -> None:
        if lane.task is None:
            lane.task = asyncio.create_task(self._work(lane))

    def _close_soon(self) -> None:
        """Close the connection for commands in a moment, if none is appended until then."""
        if self._closing is not None:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(_RARE_SECONDS, self._close_unused)

    def _close_unused(self) -> None:
        if self._control.task is None and not self._closed:
            self._control.task = asyncio.create_task(self._drop(self._control))

    async def _drop(self, lane: _Lane) -> None:
        try:
            await lane.connection.drop()
        finally:
            lane.task = None
            if self._queue:  # it came meanwhile
                self._start(lane)

    async def _work(self, lane: _Lane) -> None:
        try:
            while calls := self._take(lane):
                await self._commit(lane, calls)
                lane.mixed = lane.busy = False
                if self._queue:  # the other lane may have waited for this one
                    self._start(self._stream if lane is self._control else self._control)
        finally:
            lane.task = None
            if self._commands_are_rare and lane is self._control:
                self._close_soon()

    def _take(self, lane: _Lane) -> list[_Call]:
        """The calls of the lane's next transaction: what is queued, unless it would overtake its topic-partition."""
        stream_lane = lane is self._stream
        if stream_lane and self._control.mixed:
            return []
        calls: list[_Call] = []
        left: deque[_Call] = deque()
        blocked = False
        streams_ahead = self._stream.busy
        count = size = 0
        while self._queue:
            call = self._queue.popleft()
            if call.done.done():  # given up by the caller before it was sent
                continue
            mine = (call.kind is _Kind.STREAM) is stream_lane
            blocked = blocked or (call.kind is _Kind.MIXED and (stream_lane or streams_ahead))
            if not mine or blocked:
                left.append(call)
                streams_ahead = streams_ahead or call.kind is _Kind.STREAM
                continue
            count += len(call.records)
            size += sum(len(record.value) for record in call.records)
            if calls and (count > GROUP_RECORDS or size > GROUP_BYTES):
                left.append(call)
                blocked = True
                continue
            calls.append(call)
        self._queue = left
        lane.busy = bool(calls)
        lane.mixed = any(call.kind is _Kind.MIXED for call in calls)
        return calls

    async def _commit(self, lane: _Lane, calls: list[_Call]) -> None:
        records = [record for call in calls for record in call.records]
        try:
            appended = await lane.append(records)
        except Exception as error:
            if isinstance(error, RecordRefused) and len(calls) > 1:  # one of them is at fault
                for call in calls:
                    await self._commit(lane, [call])
                return
            if isinstance(error, LogUnavailable):
                self._lost()
            for call in calls:
                if not call.done.done():
                    call.done.set_exception(error)
            return
        at = 0
        for call in calls:
            end = at + len(call.records)
            if not call.done.done():
                call.done.set_result(Appended(appended.offsets[at:end], appended.at_ms))
            at = end
