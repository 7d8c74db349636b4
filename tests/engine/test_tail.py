"""A process without a processor: commands through the log, events once they are projected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from tests.engine.engine_harness import EngineHarness, Heard, create_run, create_thread, new_id
from tests.engine.test_processor import _kill_connections
from tests.waiting import eventually
from threadlog.engine.gateway.event_tail import Applied, EventTail
from threadlog.engine.gateway.gateway import LogGateway
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, AppendUnknown, Topic
from threadlog.engine.log.records import EventRecord
from threadlog.projections.commit.applied import PostgresApplied


@pytest.fixture
async def tail(harness: EngineHarness) -> AsyncIterator[EventTail]:
    tail = EventTail(harness.log, PostgresApplied(harness.pool))
    await tail.start()
    yield tail
    await tail.stop()


async def test_a_command_through_the_log_is_answered_once_it_is_projected(
    harness: EngineHarness, tail: EventTail
) -> None:
    await harness.engine()
    gateway = LogGateway(harness.log)
    tail.add_listener(gateway)
    run = create_run(new_id())
    decided = await gateway.submit(run)
    assert "run.created" in [event["type"] for event in decided.events]
    assert len(await harness.rows("SELECT * FROM runs WHERE run_id = $1", run.run_id)) == 1


async def test_many_commands_are_answered_each_with_its_own_events(harness: EngineHarness, tail: EventTail) -> None:
    await harness.engine()
    gateway = LogGateway(harness.log)
    tail.add_listener(gateway)
    threads = [create_thread() for _ in range(100)]
    answers = await asyncio.gather(*(gateway.submit(thread) for thread in threads))
    assert [a.events[0]["thread_id"] for a in answers] == [thread.thread_id for thread in threads]


async def test_a_tail_hears_everything_from_where_it_began(harness: EngineHarness) -> None:
    engine = await harness.engine()
    await engine.submit(create_thread())
    tail, heard = EventTail(harness.log, PostgresApplied(harness.pool)), Heard()
    tail.add_listener(heard)
    await tail.start()
    told = len(engine.heard.records)
    await asyncio.gather(*(engine.submit(create_run(new_id())) for _ in range(20)))

    async def all_heard() -> bool:
        return len(heard.records) == 20

    await eventually(all_heard)
    await tail.stop()

    def by_partition(records: list[tuple[int, int, EventRecord]]) -> list[tuple[int, int]]:
        return sorted((p, offset) for p, offset, _ in records)

    assert by_partition(heard.records) == by_partition(engine.heard.records[told:])


async def test_a_tail_goes_on_when_its_connections_are_lost(harness: EngineHarness, tail: EventTail) -> None:
    engine = await harness.engine()
    heard = Heard()
    tail.add_listener(heard)
    await _kill_connections(harness)

    async def accepted() -> bool:
        try:
            await engine.submit(create_thread())
        except AppendUnknown:
            return False
        except OSError:
            return False
        return True

    await eventually(accepted)

    async def all_heard() -> bool:
        return "thread.created" in heard.events()

    await eventually(all_heard)


class _Positions:
    """Read models whose position the test moves."""

    def __init__(self) -> None:
        self.moves: asyncio.Queue[Mapping[int, int]] = asyncio.Queue()

    async def positions(self) -> Mapping[int, Applied]:
        return {0: Applied(-1, -1, 0)}

    async def follow(self) -> AsyncIterator[Mapping[int, int]]:
        while True:
            yield await self.moves.get()


async def test_a_record_is_held_back_until_it_is_projected() -> None:
    log, positions, heard = MemoryLog(1), _Positions(), Heard()
    tail = EventTail(log, positions)
    tail.add_listener(heard)
    await tail.start()
    zombie = EventRecord(epoch=1, cmd_off=2, cmd_id="zombie", key="k", at="", events=[])
    records = [
        EventRecord(epoch=1, cmd_off=-1, cmd_id="", key="", at="", start=True),
        EventRecord(epoch=1, cmd_off=0, cmd_id="a", key="k", at="", events=[]),
        EventRecord(epoch=2, cmd_off=-1, cmd_id="", key="", at="", start=True),
        zombie,
        EventRecord(epoch=2, cmd_off=1, cmd_id="b", key="k", at="", events=[]),
    ]
    await log.append([Append(Topic.EVENTS, 0, "k", record.encode()) for record in records])

    async def heard_ids(*ids: str) -> None:
        async def equal() -> bool:
            return [record.cmd_id for _, _, record in heard.records] == list(ids)

        await eventually(equal)

    await positions.moves.put({0: 1})
    await heard_ids("a")
    await positions.moves.put({0: 3})
    await positions.moves.put({0: 4})
    await heard_ids("a", "b")  # what the old term wrote after the new one began does not count
    await tail.stop()
