"""Derive: the Faust app that counts usage and runs into tables."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from threadlog.engine.backoff import Backoff
from threadlog.engine.postgres.errors import PASSING
from threadlog.projections.derived.export import Exporter
from threadlog.projections.derived.tables import DerivedTables
from threadlog.projections.subscribers.app import EVENTS, SubscriberApp

log = logging.getLogger("threadlog.derive")

APP = "threadlog-derive"
BATCH_RECORDS = 200
"""One transaction for so many records at most: 200 take some 20 ms."""
FORGET_SECONDS = 3600.0
EXPORT_SECONDS = 60.0
ALIVE_SECONDS = 10.0
"""How often a worker says that it is there (`queries.COUNTING_SECONDS`)."""


class AtWork(Exception):
    """What was asked for can't be done while a worker of the app runs."""


def counting(
    app: SubscriberApp, tables: DerivedTables, *, keep_runs: timedelta, exporter: Exporter | None = None
) -> None:
    """Give the app what it does: an agent that counts, forgets runs after `keep_runs`, and exports."""

    @app.agent(EVENTS, name="count")  # type: ignore[untyped-decorator]
    async def count(records: Any) -> None:
        async for batch in records.batches(BATCH_RECORDS):
            backoff = Backoff()
            while True:
                try:
                    await tables.count(batch)
                    break
                except PASSING as error:
                    log.warning("can't count, trying again: %r", error)
                await backoff.wait()

    @app.timer(ALIVE_SECONDS, on_leader=False)  # type: ignore[untyped-decorator]
    async def alive() -> None:
        try:
            await tables.alive()
        except PASSING as error:
            log.warning("can't say that this worker counts, trying again: %r", error)

    @app.timer(FORGET_SECONDS)  # type: ignore[untyped-decorator]
    async def forget() -> None:
        try:
            await tables.forget_runs(keep_runs)
        except PASSING as error:
            log.warning("can't forget old runs, trying again later: %r", error)

    if exporter is not None:

        @app.timer(EXPORT_SECONDS)  # type: ignore[untyped-decorator]
        async def export() -> None:
            try:
                for path in await exporter.export():
                    log.info("exported %s", path)
            except (*PASSING, OSError) as error:
                log.warning("can't export, trying again: %r", error)


async def reset(app: SubscriberApp) -> None:
    """Let the app begin with the first record again.

    Raises:
        AtWork: a worker of it runs.
    """
    url = app.conf.broker_consumer[0]
    if url.scheme == "threadlog":
        from threadlog.projections.subscribers.transport.topics import SubscriberTopics
        from threadlog.projections.subscribers.transport.transport import dsn_of

        dsn, prefix = dsn_of(str(url))
        topics = await SubscriberTopics.open(dsn, topic_prefix=prefix)
        try:
            async with topics.pool.acquire() as session:
                if await topics.claim(session, app.conf.id) is None:
                    raise AtWork(f"a worker of {app.conf.id} runs: stop it first")
                await topics.forget(app.conf.id)
                await session.execute("SELECT pg_advisory_unlock_all()")
        finally:
            await topics.aclose()
        return
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import CommitFailedError

    topic = app.events_topic().topics[0]
    bootstrap = ",".join(f"{each.host}:{each.port or 9092}" for each in app.conf.broker_consumer)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=app.conf.id, enable_auto_commit=False)
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            partitions = await consumer._client._wait_on_metadata(topic)
            places = [TopicPartition(topic, p) for p in partitions]
            consumer.assign(places)
            await consumer.commit(dict.fromkeys(places, 0))
    except CommitFailedError:
        raise AtWork(f"a worker of {app.conf.id} runs: stop it first") from None
    finally:
        await consumer.stop()
