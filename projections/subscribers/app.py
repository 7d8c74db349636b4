"""Subscriber app: a Faust app that reads the log, from Kafka or from Postgres, under the rules that were found by use.

Kept here, so that no subscriber has to know them:

- at least once: Faust's exactly-once loses output when partitions differ. Make effects idempotent by `record.position`.
- what an agent fails at comes again: the worker ends, and the next one begins there (`SubscriberStream`).
- one record of a partition at a time: with `concurrency` above 1 Faust commits past a record that is in flight.
- topics are there before the app: a topic of the log that Kafka makes by itself has the wrong number of partitions.
- no leader topic: nothing here is done by a leader, and each app would add a topic.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final

import faust
from faust.transport.drivers import TRANSPORTS
from faust.types import StreamT

from threadlog.engine.log.port import Log, Topic
from threadlog.projections.subscribers.accepted import AcceptedRecord
from threadlog.projections.subscribers.events import AcceptedInOrder, EventsTopic, skip_dropped
from threadlog.projections.subscribers.stream import SubscriberStream

# The entry point says the same to Faust apps of others; this needs no installation.
TRANSPORTS.aliases.setdefault("threadlog", "threadlog.projections.subscribers.transport.transport:Transport")


class _Events:
    """`threadlog.events`, the channel that agents name."""

    def __repr__(self) -> str:
        return "threadlog.events"


EVENTS: Final = _Events()

SESSION_SECONDS = 10.0
"""How long Kafka waits for a worker that was killed, before another has its partitions; Faust's own 60 s are long."""
COMMIT_SECONDS = 1.0
"""How often offsets are committed: what an app that dies gets again."""

STOP_SECONDS = 20.0
"""How long a stop waits for the records in flight: what is not done then comes again."""


class SubscriberApp(faust.App):  # type: ignore[misc]
    """A Faust app whose agents may be of `threadlog.events`: `@app.agent(threadlog.events)`."""

    def __init__(
        self, name: str, *, broker: str, topic_prefix: str, partitions: int, folder: Path, **options: Any
    ) -> None:
        """`name`: of the consumer group, the app's tables and topics. `partitions`: those of the log, which the app's
        topics and tables have as well. `folder`: where tables are kept that a `store` keeps on disk."""
        self._topic_prefix = topic_prefix
        self._log: Log | None = None
        self.accepted_events = AcceptedInOrder(self)
        self._events_topic: EventsTopic | None = None
        refused = {"processing_guarantee", "topic_disable_leader", "Stream"} & options.keys()
        if refused:
            raise ValueError(f"{', '.join(sorted(refused))}: fixed for subscribers, see docs/subscribers.md")
        super().__init__(
            name,
            **{
                "broker": broker,
                "datadir": str(folder / name),
                "topic_partitions": partitions,
                "topic_disable_leader": True,
                "consumer_auto_offset_reset": "earliest",
                "broker_commit_interval": COMMIT_SECONDS,
                "broker_session_timeout": SESSION_SECONDS,
                "broker_heartbeat_interval": SESSION_SECONDS / 4,
                "table_standby_replicas": 0,  # a topic read twice, for a faster take-over of large tables
                "stream_wait_empty": True,  # a stop commits what was done
                "web_enabled": False,
                "Stream": SubscriberStream,
                **options,
            },
        )

    @property
    def log_of_events(self) -> Log:
        assert self._log is not None, "the app was not started"
        return self._log

    def agent(self, channel: Any = None, *, concurrency: int = 1, **options: Any) -> Any:
        """As Faust's; `channel` may be `threadlog.events`.

        Raises:
            ValueError: more than one record of a partition at a time.
        """
        if channel is EVENTS:
            if concurrency != 1:
                raise ValueError("an agent of threadlog.events has concurrency 1: start more workers instead")
            channel = self.events_topic()
        return super().agent(channel, concurrency=concurrency, **options)

    def _create_directories(self) -> None:
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        super()._create_directories()

    async def _on_agent_error(self, agent: Any, error: BaseException) -> None:
        """What Faust calls when an agent raised: end the worker, so that what it raised at comes again."""
        self.log.error("%s failed, and the worker ends: %r", agent, error)
        await self.crash(error)

    def events_topic(self) -> EventsTopic:
        """The topic behind `threadlog.events`, for streams without an agent."""
        if self._events_topic is None:
            self._events_topic = EventsTopic(
                self, topics=[f"{self._topic_prefix}{Topic.EVENTS}"], value_type=AcceptedRecord, internal=False
            )
        return self._events_topic

    def stream(self, channel: Any, beacon: Any = None, **options: Any) -> StreamT:
        stream = super().stream(channel, beacon, **options)
        if isinstance(channel, EventsTopic):
            stream.add_processor(skip_dropped)
        return stream

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """What is in flight when the app stops, or gives partitions up, gets some time to be done; what an agent failed
        at never is."""
        if not self.crashed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await super()._consumer_wait_empty(consumer, logger)

    async def on_start(self) -> None:
        """Raises `LogUnavailable` where there is no log: nothing must be made in its place."""
        self._log = await self.open_log()
        await super().on_start()

    async def on_stop(self) -> None:
        try:
            await super().on_stop()
        finally:
            if self._log is not None:
                await self._log.aclose()

    async def open_log(self) -> Log:
        """The log that the app reads. Raises `LogUnavailable` where there is none."""
        url = self.conf.broker_consumer[0]
        if url.scheme == "threadlog":
            from threadlog.projections.subscribers.transport.transport import open_log

            return await open_log(str(url))
        from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

        from threadlog.engine.log.kafka.log import KafkaLog

        auth = credentials_to_aiokafka_auth(self.conf.broker_credentials, self.conf.ssl_context)
        bootstrap = ",".join(f"{each.host}:{each.port or 9092}" for each in self.conf.broker_consumer)
        return await KafkaLog.existing(bootstrap, prefix=self._topic_prefix, **auth)
