"""Consumer: all partitions of what an app reads, from the offsets it has committed.

One worker of an app has the partitions, under a lock of its session and a generation that commits are guarded by; the
others stand by. Nothing is given to another worker while one is alive, so there is one assignment per worker, except
when it subscribes to more topics.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg
from faust.transport.consumer import Consumer
from faust.types import TP, ConsumerMessage

from threadlog.engine.backoff import Backoff
from threadlog.engine.log.postgres.tail import CHANNEL as LOG_CHANNEL
from threadlog.engine.postgres.connection import CONNECT_SECONDS, PinnedConnection
from threadlog.engine.postgres.errors import FAILED, PASSING
from threadlog.projections.subscribers.transport.producer import declare, partition_of_key
from threadlog.projections.subscribers.transport.topics import (
    CHANNEL,
    Place,
    StoredMessage,
    SubscriberTopics,
    Superseded,
)

POLL_SECONDS = 1.0
"""How often topics are looked at although nothing was notified."""
STANDBY_SECONDS = 1.0
EXPIRE_SECONDS = 3600.0


class LogConsumer(Consumer):  # type: ignore[misc]
    """Reads by position, woken by NOTIFY; `FAILED` statements are tried again, positions stay where they are."""

    _topics: SubscriberTopics

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._assigned: set[TP] = set()
        self._positions: dict[TP, int] = {}
        self._heads: dict[TP, int] = {}
        self._generation: int | None = None
        self._wake = asyncio.Event()
        self._looked = 0.0
        self._background: list[asyncio.Task[None]] = []

    async def on_start(self) -> None:
        self._topics = await self.transport.acquire()
        self._session = PinnedConnection(self._connect, self._listen)
        self._background.append(asyncio.create_task(self._expire(), name="retention of subscribers' topics"))

    async def on_stop(self) -> None:
        try:
            await super().on_stop()
        finally:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            await self._session.aclose()
            await self.transport.release()

    # The session: this worker's lock, and its ear

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.transport.dsn, timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS)

    async def _listen(self, connection: Any) -> None:
        connection.add_termination_listener(lambda _: self._wake.set())
        await connection.add_listener(CHANNEL, self._notified)
        await connection.add_listener(LOG_CHANNEL, self._notified)

    def _notified(self, *_: object) -> None:
        self._wake.set()

    async def _claim(self) -> None:
        """Return when this worker is the one that has the partitions."""
        backoff, told = Backoff(), False
        while not self.should_stop:
            try:
                async with self._session.use() as session:
                    self._generation = await self._topics.claim(session, self.app.conf.id)
                if self._generation is not None:
                    return
                if not told:
                    told = True
                    self.log.info("another worker of %s has the partitions: standing by", self.app.conf.id)
                await self.sleep(STANDBY_SECONDS)
            except FAILED as error:
                self.log.warning("can't become the worker of %s, trying again: %r", self.app.conf.id, error)
                await backoff.wait()

    async def _still_ours(self) -> None:
        """Return when the session holds the lock; raises `Superseded`."""
        if self._session.is_open or self._generation is None:
            return
        async with self._session.use() as session:
            if not await self._topics.reclaim(session, self.app.conf.id, self._generation):
                await self._session.drop()
                raise ConnectionResetError("the server still holds the lost session's lock")
        self.log.info("connected again")

    # Assignment

    async def subscribe(self, topics: Iterable[str]) -> None:
        for topic in topics:
            if self._topics.partitions(topic) is None:
                await self._topics.look()
            if self._topics.partitions(topic) is None:
                await self._topics.declare(topic, self.app.conf.topic_partitions)
        if self._generation is None:
            await self._claim()
        assigned = {TP(topic, p) for topic in topics for p in range(self._topics.partitions(topic) or 0)}
        if self.should_stop or assigned == self._assigned:
            return
        self._background.append(asyncio.create_task(self._assign(assigned), name="assignment"))

    async def _assign(self, assigned: set[TP]) -> None:
        """What a rebalance does. Not within `subscribe`: Faust waits for the end of that."""
        self.app.on_rebalance_start()
        if self._assigned:
            await self.on_partitions_revoked(self._assigned - assigned)
        self._assigned = assigned
        by_topic: dict[str, list[int]] = {}
        for topic, partition in sorted(assigned):
            by_topic.setdefault(topic, []).append(partition)
        self.app.assignor._assignment.actives = by_topic
        self.app.assignor._active_tps = set(assigned)
        self.app.consumer_generation_id += 1
        await self.on_partitions_assigned(assigned, self.app.consumer_generation_id)

    def assignment(self) -> set[TP]:
        return self._assigned

    # Positions

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed = {TP(*place): offset for place, offset in (await self._topics.committed(self.app.conf.id)).items()}
        fresh = self._assigned - committed.keys()
        if fresh and self.app.conf.consumer_auto_offset_reset == "latest":
            committed |= {TP(*place): head for place, head in (await self._topics.heads(fresh)).items()}
        for tp in self._assigned:
            self._positions[tp] = committed.get(tp, 0)
        return {tp: committed[tp] for tp in self._assigned if tp in committed}

    async def _seek(self, partition: TP, offset: int) -> None:
        self._positions[partition] = offset

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            await self.seek(tp, max(offset, 0))

    async def seek_to_beginning(self, *partitions: TP) -> None:
        for tp in partitions:
            await self.seek(tp, 0)

    async def position(self, tp: TP) -> int | None:
        return self._positions.get(tp)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """False when it could not be done: what was not committed is committed with the next, or processed again."""
        if self._generation is None:
            return False
        try:
            await self._topics.commit(self.app.conf.id, self._generation, offsets)
        except Superseded as error:
            await self.crash(error)
            return False
        except PASSING as error:
            self.log.warning("offsets can't be committed now: %r", error)
            return False
        return True

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return {TP(*place): first for place, (first, _) in (await self._topics.bounds(partitions)).items()}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        self._heads |= {TP(*place): head for place, head in (await self._topics.heads(partitions)).items()}
        return {tp: self._heads[tp] for tp in partitions if tp in self._heads}

    def highwater(self, tp: TP) -> int:
        return self._heads.get(tp, 0)

    # Reading

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[StoredMessage]]:
        active = self._assigned if active_partitions is None else active_partitions
        deadline = time.monotonic() + timeout
        backoff = Backoff()
        while self.flow_active and not self.should_stop:
            self._wake.clear()
            try:
                await self._still_ours()
                if found := await self._read(active):
                    return found
            except Superseded as error:
                await self.crash(error)
                return {}
            except PASSING as error:
                self.log.warning("can't read, trying again: %r", error)
                await backoff.wait()
                continue
            left = min(deadline - time.monotonic(), POLL_SECONDS)
            if left <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
        return {}

    async def _read(self, active: set[TP]) -> dict[TP, list[StoredMessage]]:
        starts: dict[Place, int] = {tp: self._positions.get(tp, 0) for tp in active}
        heads = await self._topics.heads(starts)
        self._heads |= {TP(*place): head for place, head in heads.items()}
        behind = {place: start for place, start in starts.items() if heads.get(place, 0) > start}
        if not behind:
            return {}
        found: dict[TP, list[StoredMessage]] = {}
        for place, messages in (await self._topics.read(behind)).items():
            tp = TP(*place)
            if messages and self._positions.get(tp, 0) == starts[place]:  # it was not sought meanwhile
                self._positions[tp] = messages[-1].offset + 1
                found[tp] = messages
        return found

    def _to_message(self, tp: TP, record: StoredMessage) -> ConsumerMessage:
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            0,
            record.headers,
            record.key,
            record.value,
            None,
            len(record.key or b""),
            len(record.value or b""),
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    # Topics

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: Any) -> None:
        await declare(self._topics, topic, partitions, options)

    def topic_partitions(self, topic: str) -> int | None:
        return self._topics.partitions(topic)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        partitions = self._topics.partitions(topic)
        if partitions is None:
            return None
        return partition_of_key(key, partitions) if partition is None else partition

    async def _expire(self) -> None:
        while True:
            with contextlib.suppress(*FAILED):
                await self._topics.expire()
            await asyncio.sleep(EXPIRE_SECONDS)
