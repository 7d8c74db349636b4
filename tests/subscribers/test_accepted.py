"""Only what counts reaches subscribers, by `threadlog.events` and by the library for other clients."""

from __future__ import annotations

from typing import Any

import pytest

from tests.subscribers.logs import ACCEPTED, MIXED, append, decided, start
from tests.subscribers.systems import System, running
from tests.waiting import eventually
from threadlog.engine.log.kafka.chunks import Chunk
from threadlog.projections.subscribers.accepted import AcceptedEvents, AcceptedRecord, EventPosition
from threadlog.projections.subscribers.app import EVENTS, SubscriberApp

Message = tuple[int, bytes, list[tuple[str, bytes]]]


def numbers(records: list[AcceptedRecord]) -> list[int]:
    return [event["n"] for record in records for event in record.events]


def messages(values: list[bytes], *, chunk: int = 400_000) -> list[Message]:
    """As Kafka would have them: with large values in chunks."""
    found: list[Message] = []
    for n, value in enumerate(values):
        parts = [value[i : i + chunk] for i in range(0, len(value), chunk)]
        first = len(found)
        for i, part in enumerate(parts):
            last = first if i + 1 == len(parts) else None
            headers = Chunk(f"{n:032x}", i, len(parts), last).headers() if len(parts) > 1 else []
            found.append((len(found), part, headers))
    return found


def read(reader: AcceptedEvents, log: list[Message]) -> list[AcceptedRecord]:
    found = [reader.read(0, offset, value, headers) for offset, value, headers in log]
    return [record for record in found if record is not None]


def test_a_reader_of_everything_gets_what_counts() -> None:
    records = read(AcceptedEvents(), messages(MIXED))
    assert numbers(records) == ACCEPTED
    assert records[0].position == (0, 1) and records[0].key == "thread" and records[0].cmd_id == "c0"


def test_a_reader_goes_on_at_every_position_without_missing_or_repeating_a_record() -> None:
    log = messages(MIXED)
    for stop in range(len(log)):
        first = AcceptedEvents()
        before = read(first, log[:stop])
        at = first.position(0)
        assert at.next <= stop
        after = read(AcceptedEvents({0: at}), log[at.next :])
        assert numbers(before + after) == ACCEPTED, f"after a restart at {stop}"


def test_a_set_of_chunks_that_was_never_finished_does_not_hold_up_the_position() -> None:
    whole = messages([start(1), decided(1, 0, -1), decided(1, 1, 0, {"type": "t", "n": 1, "x": "x" * 900_000})])
    left_behind = whole[:-1]
    end = len(left_behind)
    reader = AcceptedEvents()
    read(reader, left_behind)
    assert reader.position(0).next == 2, "the set may still be finished"
    read(reader, [(end, start(2), [])])
    assert reader.position(0) == EventPosition(end + 1, epoch=2, cmd_off=0)


def test_a_message_that_comes_twice_is_read_once() -> None:
    log = messages(MIXED)
    assert numbers(read(AcceptedEvents(), [each for each in log for _ in range(2)])) == ACCEPTED


def test_a_reader_that_begins_in_the_middle_is_right_from_the_next_term_on() -> None:
    records = read(AcceptedEvents(), messages(MIXED)[6:])
    assert numbers(records)[-1] == 3


def collecting(app: SubscriberApp) -> list[AcceptedRecord]:
    got: list[AcceptedRecord] = []

    @app.agent(EVENTS)
    async def collect(records: Any) -> None:
        async for record in records:
            got.append(record)

    return got


async def test_agents_of_events_get_what_counts(system: System) -> None:
    for partition in (0, 2):
        await append(system.log, partition, *MIXED[:7])
    app = system.app()
    got, too = collecting(app), []

    @app.agent(EVENTS, name="another")
    async def another(records: Any) -> None:
        async for batch in records.batches(100):
            too.extend(batch)

    async with running(app):
        await eventually(lambda: len(got) >= 4 and len(too) >= 4)
        for partition in (0, 2):
            await append(system.log, partition, *MIXED[7:])
        await eventually(lambda: len(got) >= 8 and len(too) >= 8)
        ends = {p: (await system.log.bounds("events", p))[1] for p in (0, 2)}  # type: ignore[arg-type]
        await eventually(lambda: system.committed(f"{system.prefix}events"), lambda offsets: offsets == ends)
    for records in (got, too):
        assert {p: numbers([r for r in records if r.partition == p]) for p in (0, 2)} == {0: ACCEPTED, 2: ACCEPTED}

    # An app that goes on in the middle of a term knows what was before.
    for partition in (0, 2):
        await append(system.log, partition, decided(2, 4, 3), decided(3, 3, 2), decided(3, 5, 4), decided(3, 4, 3))
    app = system.app()
    got = collecting(app)
    async with running(app):
        await eventually(lambda: len(got) >= 2)
    assert numbers(got) == [4, 4] and {record.partition for record in got} == {0, 2}


async def test_an_app_refuses_what_would_lose_records(system: System) -> None:
    app = system.app()
    with pytest.raises(ValueError, match="concurrency 1"):
        app.agent(EVENTS, concurrency=4)
    with pytest.raises(ValueError, match="processing_guarantee"):
        system.app(processing_guarantee="exactly_once")


async def test_an_app_makes_no_log_where_there_is_none(system: System) -> None:
    app = system.app()
    app._topic_prefix = "nowhere."
    collecting(app)
    if system.prefix != "threadlog.":
        with pytest.raises(Exception, match="start a server on it first"):
            await app.start()
        await app.stop()
