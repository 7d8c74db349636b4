"""Following Kafka partitions: a fetch session with each leader, moved along when leadership moves."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from threadlog.engine.log.kafka.chunks import Chunk, Joiner, chunk_of
from threadlog.engine.log.kafka.fetch import EARLIEST, LATEST, Fetcher, FetchInSession, decode, record_of
from threadlog.engine.log.port import LogUnavailable, Record, Topic

log = logging.getLogger(__name__)

# A broker answers as soon as there is a record; without one, after this long.
WAIT_MS = 500
FETCH_BYTES = 8 * 1024 * 1024
PARTITION_BYTES = 1024 * 1024
BACKOFF_SECONDS = 0.1
# Batches fetched ahead of a slow consumer, per tail.
AHEAD = 2

_SESSION_LOST = {70, 71}  # FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH
_tails = itertools.count()


class Tail:
    """One `tail` call: connections of its own, a fetching task per leader, one queue of batches."""

    def __init__(
        self,
        client: AIOKafkaClient,
        fetcher: Fetcher,
        names: Mapping[Topic, str],
        positions: Mapping[tuple[Topic, int], int],
    ) -> None:
        self._client = client
        self._fetcher = fetcher
        self._group = f"tail-{next(_tails)}"
        self._topics = {names[topic]: topic for topic, _ in positions}
        self._at = {TopicPartition(names[topic], partition): offset for (topic, partition), offset in positions.items()}
        self._floor: dict[TopicPartition, int] = {}  # where a position beyond the end was asked for
        self._joiners: dict[TopicPartition, Joiner] = {}
        self._plan: dict[int, set[TopicPartition]] = {}
        self._plans = 0
        self._replan = asyncio.Event()
        self._followers: dict[int, asyncio.Task[None]] = {}
        self._batches: asyncio.Queue[list[Record]] = asyncio.Queue(AHEAD)
        self._stopped = False

    def stop(self) -> None:
        """Ends the generator after what it has fetched already."""
        self._stopped = True
        if self._batches.empty():
            self._batches.put_nowait([])

    async def batches(self) -> AsyncGenerator[list[Record], None]:
        self._client.cluster.add_listener(self._metadata_changed)
        leading = asyncio.create_task(self._lead())
        try:
            while not self._stopped or not self._batches.empty():
                if batch := await self._batches.get():
                    yield batch
        finally:
            self._client.cluster.remove_listener(self._metadata_changed)
            tasks = [leading, *self._followers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for where in [where for where in self._client._conns if where[1] == self._group]:
                self._client._conns.pop(where).close()

    def _metadata_changed(self, _cluster: object) -> None:
        self._replan.set()

    async def _lead(self) -> None:
        """Gives every partition to the task of its leader, whenever the metadata changes."""
        while True:
            self._replan.clear()
            plan: dict[int, set[TopicPartition]] = {}
            for place in self._at:
                leader = self._client.cluster.leader_for_partition(place)
                plan.setdefault(-1 if leader is None else leader, set()).add(place)
            homeless = plan.pop(-1, None)
            if plan != self._plan:
                self._plan = plan
                self._plans += 1
            for node in plan:
                if node not in self._followers:
                    self._followers[node] = asyncio.create_task(self._follow(node))
            if homeless:  # an election is under way, or all brokers are away
                self._client.force_metadata_update()
                await asyncio.sleep(BACKOFF_SECONDS)
            else:
                await self._replan.wait()

    async def _follow(self, node: int) -> None:
        """Fetches what this node leads, until it leads nothing."""
        try:
            while self._plan.get(node):
                try:
                    await self._session(node)
                except (errors.KafkaError, LogUnavailable) as error:
                    log.warning("tail: node %d does not answer, trying again: %r", node, error)
                    self._client.force_metadata_update()
                except Exception:
                    log.exception("tail: fetching from node %d failed, trying again", node)
                await asyncio.sleep(BACKOFF_SECONDS)
        finally:
            del self._followers[node]
            self._replan.set()  # it may lead something again since

    async def _session(self, node: int) -> None:
        """One fetch session, until it is lost or the node leads nothing."""
        session = (0, 0)
        plan = -1
        told: dict[TopicPartition, int] = {}  # positions the broker knows
        changed: set[TopicPartition] = set()
        while mine := self._plan.get(node):
            gone: list[TopicPartition] = []
            if session == (0, 0):  # the first fetch names all, and so does every one if the broker has no session left
                told.clear()
                changed = set(mine)
            elif plan != self._plans:
                changed |= {place for place in mine if told.get(place) != self._at[place]}
                gone = [place for place in told if place not in mine]
            plan = self._plans
            positions = [(place, self._at[place]) for place in changed if place in mine]
            answer = await self._client.send(
                node,
                FetchInSession(
                    wait_ms=WAIT_MS,
                    max_bytes=FETCH_BYTES,
                    partition_bytes=PARTITION_BYTES,
                    session=session,
                    positions=positions,
                    forgotten=gone,
                ),
                group=self._group,
            )
            if answer.error_code in _SESSION_LOST:
                session = (0, 0)
                continue
            if answer.error_code:
                raise errors.for_code(answer.error_code)()
            session = (answer.session_id, session[1] % (2**31 - 1) + 1) if answer.session_id else (0, 0)
            told.update(positions)
            for place in gone:
                del told[place]
            changed = set()
            await self._take(answer, changed)

    async def _take(self, answer: Any, changed: set[TopicPartition]) -> None:
        """Puts an answer's records into the queue and the partitions whose position moved into `changed`."""
        batch: list[Record] = []
        failed = False
        for name, partitions in answer.topics:
            for partition, code, _end, _stable, _first, _aborted, _replica, message_set in partitions:
                place = TopicPartition(name, partition)
                try:
                    if code == errors.OffsetOutOfRangeError.errno:
                        changed.add(place)
                        await self._reposition(place)
                    elif code:
                        raise errors.for_code(code)()
                    elif message_set:
                        changed.add(place)
                        # Two leaders' answers may cross: what the other one brought already is skipped.
                        raw, position = decode(message_set, self._at[place])
                        self._at[place] = position
                        await self._join(place, raw, batch)
                except (errors.KafkaError, LogUnavailable) as error:
                    # The leader moves, or a disk fails: see where the partition is now. What others brought counts.
                    log.info("tail: %s[%d]: %r", name, partition, error)
                    failed = True
        if batch:
            await self._batches.put(batch)
        if failed:
            self._client.force_metadata_update()
            await asyncio.sleep(BACKOFF_SECONDS)

    async def _join(self, place: TopicPartition, raw: list[Any], batch: list[Record]) -> None:
        topic, partition = self._topics[place.topic], place.partition
        floor = self._floor.get(place, 0)
        for one in raw:
            if one.offset < floor:
                continue
            value = one.value or b""
            if one.headers and (chunk := chunk_of(one.headers)) is not None:
                value = self._joiners.setdefault(place, Joiner()).add(chunk, value)
                if value is None and chunk.first is not None:
                    value = await self._read_back(place, one.offset, chunk)
                if value is None:
                    continue
            batch.append(record_of(topic, partition, one, value))

    async def _read_back(self, place: TopicPartition, last: int, chunk: Chunk) -> bytes | None:
        while True:  # the position is past it already: an outage has to be waited out here
            try:
                return await self._fetcher.join(place, last, chunk)
            except LogUnavailable as error:
                log.warning("tail: %r, trying again", error)

    async def _reposition(self, place: TopicPartition) -> None:
        """The position is below what is retained: go on there. Or beyond the end: wait until the end gets there."""
        first = await self._fetcher.offset(place, EARLIEST)
        if self._at[place] < first:
            log.info("tail: %s[%d]: %d is gone, going on at %d", *place, self._at[place], first)
            self._at[place] = first
            self._joiners.pop(place, None)
        else:
            end = await self._fetcher.offset(place, LATEST)
            if end < self._at[place]:  # it may have got there meanwhile
                self._floor[place] = max(self._at[place], self._floor.get(place, 0))
                self._at[place] = end
