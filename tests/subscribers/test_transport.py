"""What Faust agents may rely on, on `threadlog://` as on `kafka://`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import faust
import pytest

from tests.subscribers.systems import PARTITIONS, InPostgres, System, running
from tests.waiting import eventually
from threadlog.engine.log.port import Topic
from threadlog.projections.subscribers.app import SubscriberApp
from threadlog.projections.subscribers.transport.topics import NotAppendable
from threadlog.projections.subscribers.transport.transport import broker_url, dsn_of


def collecting(app: SubscriberApp, topic: str) -> list[tuple[int, int, bytes | None, bytes]]:
    """What an agent gets: partition, offset, key, value."""
    got: list[tuple[int, int, bytes | None, bytes]] = []

    @app.agent(app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"))
    async def collect(stream: Any) -> None:
        async for event in stream.events():
            got.append((event.message.partition, event.message.offset, event.key, event.value))

    return got


def values(got: list[tuple[int, int, bytes | None, bytes]]) -> Counter[bytes]:
    return Counter(value for *_, value in got)


async def send(app: SubscriberApp, topic: str, *messages: int, keys: int = 50) -> None:
    channel = app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    for n in messages:
        await (await channel.send(key=b"key %d" % (n % keys), value=b"%d" % n))


async def test_agents_get_what_is_sent_in_the_order_of_each_partition(system: System) -> None:
    topic, out = await system.declare("in"), await system.declare("out")
    app = system.app()
    got = collecting(app, out)

    @app.agent(app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"))
    async def forward(stream: Any) -> None:
        channel = app.topic(out, key_serializer="raw", value_serializer="raw")
        async for event in stream.events():
            await channel.send(key=event.key, value=event.value, headers={"was": str(event.message.offset).encode()})

    async with running(app):
        await send(app, topic, *range(200))
        await eventually(lambda: len(got) >= 200)
    assert values(got) == Counter(b"%d" % n for n in range(200))
    assert {partition for partition, *_ in got} == set(range(PARTITIONS)), "keys are spread"
    for p in range(PARTITIONS):
        offsets = [offset for partition, offset, *_ in got if partition == p]
        assert offsets == sorted(offsets)
        by_key: dict[bytes | None, list[int]] = {}
        for partition, _, key, value in got:
            if partition == p:
                by_key.setdefault(key, []).append(int(value))
        assert all(numbers == sorted(numbers) for numbers in by_key.values()), "a key keeps its order"


async def test_a_worker_goes_on_where_the_last_one_has_committed(system: System) -> None:
    topic = await system.declare("in")
    first = system.app()
    got = collecting(first, topic)
    async with running(first):
        await send(first, topic, *range(40))
        await eventually(lambda: len(got) >= 40)
    assert sum((await system.committed(topic)).values()) > 0, "a stop commits what was done"

    second = system.app()
    again = collecting(second, topic)
    async with running(second):
        await send(second, topic, *range(40, 60))
        await eventually(lambda: len(again) >= 20)
    assert values(again) == Counter(b"%d" % n for n in range(40, 60))


async def test_what_was_in_flight_when_a_worker_died_comes_again(system: System) -> None:
    topic = await system.declare("in")
    dying = system.app(stream_wait_empty=False)
    got: list[int] = []

    @dying.agent(dying.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"))
    async def hang(stream: Any) -> None:
        async for value in stream:
            if int(value) == 13:
                await asyncio.sleep(3600)
            got.append(int(value))

    async with running(dying):
        await send(dying, topic, *range(30), keys=1)
        await eventually(lambda: 12 in got)
    living = system.app()
    again = collecting(living, topic)
    async with running(living):
        await eventually(lambda: b"29" in values(again))
    assert set(map(int, values(again))) >= set(range(13, 30)), "nothing is lost"
    assert len(got) == 13


async def test_what_an_agent_fails_at_comes_again(system: System) -> None:
    topic = await system.declare("in")

    def failing_at(number: int) -> tuple[SubscriberApp, list[int]]:
        app, got = system.app(), []

        @app.agent(app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"))
        async def fail(stream: Any) -> None:
            async for batch in stream.batches(4):
                if b"%d" % number in batch:
                    raise ValueError("as asked")
                got.extend(map(int, batch))

        return app, got

    failing, got = failing_at(13)
    async with running(failing):
        await send(failing, topic, *range(30), keys=1)
        await eventually(lambda: failing.crashed)
    assert "as asked" in str(failing.crash_reason)
    assert got == list(range(len(got))) and 9 < len(got) <= 13
    good, rest = failing_at(-1)
    async with running(good):
        await eventually(lambda: 29 in rest)
    assert rest == list(range(rest[0], 30)) and rest[0] <= len(got), "and what came after it, in order"


async def test_tables_are_recovered_from_their_changelogs(system: System) -> None:
    topic = await system.declare("in")

    def counting() -> tuple[SubscriberApp, Any, list[int]]:
        app = system.app()
        counts, seen = app.Table("counts", default=int, key_type=str, value_type=int), []

        @app.agent(app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"))
        async def count(stream: Any) -> None:
            async for event in stream.events():
                if event.value == b"1007":
                    counts.pop(event.key.decode(), None)
                else:
                    counts[event.key.decode()] += 1
                seen.append(int(event.value))

        return app, counts, seen

    first, counts, seen = counting()
    async with running(first):
        await send(first, topic, *range(100), keys=10)
        await send(first, topic, 1007, keys=10)
        await eventually(lambda: len(seen) >= 101)
        assert dict(counts) == {f"key {k}": 10 for k in range(10) if k != 7}

    second, counts, seen = counting()
    async with running(second):
        assert dict(counts) == {f"key {k}": 10 for k in range(10) if k != 7}, "as they were, when agents begin"
        await send(second, topic, *range(100, 110), keys=10)
        await eventually(lambda: len(seen) >= 10)
        assert dict(counts) == {f"key {k}": 1 if k == 7 else 11 for k in range(10)}


async def test_offsets_that_are_gone_do_not_stop_a_worker(system: System) -> None:
    topic = await system.declare("in")
    first = system.app()
    got = collecting(first, topic)
    async with running(first):
        await send(first, topic, *range(5), keys=1)
        await eventually(lambda: len(got) >= 5)
        await eventually(lambda: system.committed(topic), lambda offsets: sum(offsets.values()) >= 5)
    partition, last = got[-1][:2]
    between = system.app("between")
    collecting(between, topic)
    async with running(between):
        await send(between, topic, *range(5, 15), keys=1)
    await system.trim(topic, partition, last + 7)

    second = system.app()
    again = collecting(second, topic)
    async with running(second):
        await send(second, topic, 15, keys=1)
        await eventually(lambda: b"15" in values(again))
        assert sorted(map(int, values(again))) == list(range(11, 16)), "from the first that is left"
        await eventually(lambda: system.committed(topic), lambda offsets: offsets.get(partition) == last + 12)


async def test_windowed_tables_and_records_work(system: System) -> None:
    topic = await system.declare("in")

    class Used(faust.Record):  # type: ignore[misc]
        customer: str
        tokens: int

    app = system.app()
    per_hour = app.Table("per_hour", default=int).tumbling(3600, expires=7200)
    totals: list[int] = []

    @app.agent(app.topic(topic, value_type=Used))
    async def add(stream: Any) -> None:
        async for used in stream:
            per_hour[used.customer] += used.tokens
            totals.append(per_hour[used.customer].current())

    hour = time.time() // 3600 * 3600 - 3600
    async with running(app):
        for n, at in ((1, 0), (2, 3599), (4, 3600), (8, 3601)):
            used = Used(customer="c", tokens=n)
            await app.topic(topic, value_type=Used).send(key="c", value=used, timestamp=hour + at)
        await eventually(lambda: len(totals) >= 4)
    assert totals == [1, 3, 4, 12]


# --- only threadlog:// ------------------------------------------------------------------------------------------


async def test_a_second_worker_stands_by_until_the_first_is_gone(postgres: InPostgres) -> None:
    topic = await postgres.declare("in")
    first, second = postgres.app(), postgres.app()
    got, got_too = collecting(first, topic), collecting(second, topic)
    async with running(first):
        starting = asyncio.create_task(second.start())
        try:
            await send(first, topic, *range(20))
            await eventually(lambda: len(got) >= 20)
            assert not got_too
            await first.stop()
            await eventually(lambda: second.rebalancing_count and not second.rebalancing)
            await send(second, topic, *range(20, 30))
            await eventually(lambda: len(got_too) >= 10)
        finally:
            await second.stop()
            await starting
    assert values(got) + values(got_too) == Counter(b"%d" % n for n in range(30))


async def test_connections_that_are_lost_are_opened_again(postgres: InPostgres) -> None:
    topic = await postgres.declare("in")
    app = postgres.app()
    got = collecting(app, topic)
    async with running(app):
        await send(app, topic, *range(10))
        await eventually(lambda: len(got) >= 10)
        await postgres.disconnect()
        await send(app, topic, *range(10, 20))
        await eventually(lambda: set(values(got)) == {b"%d" % n for n in range(20)})
        await eventually(lambda: postgres.committed(topic), lambda offsets: sum(offsets.values()) == 20 + len(offsets))


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ann:s3cret%40@db.example:5433/log?sslmode=require",
        "postgresql://ann@/log?host=/tmp/a,%20folder&password=s3cret",
        "postgresql://postgres:@/postgres?host=/tmp/x",
    ],
)
def test_a_broker_url_that_a_worker_prints_has_no_password(dsn: str, tmp_path: Path) -> None:
    url = broker_url(dsn, topic_prefix="t.")
    app = SubscriberApp("app", broker=url, topic_prefix="t.", partitions=4, folder=tmp_path)
    assert "s3cret" not in f"{url} {app.conf.broker}"
    assert dsn_of(str(app.conf.broker[0])) == (dsn, "t.")


def test_a_broker_url_of_a_plain_faust_app_is_a_dsn_with_another_scheme() -> None:
    dsn, prefix = dsn_of("threadlog://ann:pw@db.example:5433/log?sslmode=require")
    assert (dsn, prefix) == ("postgresql://ann:pw@db.example:5433/log?sslmode=require", "threadlog.")
    assert dsn_of("threadlog://ann@localhost/log?host=/tmp/x")[0] == "postgresql://ann@/log?host=%2Ftmp%2Fx"


async def test_nothing_but_threadlog_appends_to_its_topics(postgres: InPostgres) -> None:
    app = postgres.app()
    got = collecting(app, await postgres.declare("in"))
    async with running(app):
        with pytest.raises(NotAppendable, match=r"threadlog\.events is a topic of the log"):
            await app.topic("threadlog.events", value_serializer="raw").send(key=b"k", value=b"{}")
        with pytest.raises(ValueError, match="no partition 9"):
            await app.topic("in", value_serializer="raw").send(key=b"k", value=b"{}", partition=9)
    assert not got and await postgres.log.bounds(Topic.EVENTS, 0) == (0, 0)
