"""Frames and commands of one call: two appends for Kafka, which a process may die between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.log.systems import InKafka
from tests.waiting import eventually
from threadlog.engine.log.kafka.log import KafkaLog
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, Topic

pytestmark = pytest.mark.kafka

FRAMES = [Append(Topic.STREAM, 0, "thread", b"one"), Append(Topic.STREAM, 0, "thread", b"two")]
COMMAND = Append(Topic.COMMANDS, 0, "thread", b"it has ended")


class Held:
    """What one of a log's producers is given, until it is released, or fails."""

    def __init__(self, producer: Any) -> None:
        self._append, self.calls = producer.append, []  # type: ignore[var-annotated]
        producer.append = lambda *call: self.calls.append(call)

    def release(self) -> None:
        for call in self.calls:
            self._append(*call)

    def fail(self) -> None:
        for call, _, records in self.calls:
            for _ in records:
                call.settle(RuntimeError("no broker"))


async def end_of(log: KafkaLog, topic: Topic) -> int:
    return (await log.bounds(topic, 0))[1]


async def test_a_command_is_in_the_log_after_the_frames_of_its_call(in_kafka: InKafka) -> None:
    log = await in_kafka.open()
    held = Held(log._stream)
    appending = asyncio.create_task(log.append([*FRAMES, COMMAND]))
    await eventually(lambda: held.calls, bool)
    await log.append([Append(Topic.COMMANDS, 0, "another", b"does not wait")])
    assert await end_of(log, Topic.COMMANDS) == 1 and not appending.done()
    held.release()
    assert await appending == [0, 1, 1]
    assert [record.value for record in await log.read(Topic.COMMANDS, 0, 1)] == [COMMAND.value]


async def test_without_its_frames_a_command_is_not_in_the_log(in_kafka: InKafka) -> None:
    log = await in_kafka.open()
    held = Held(log._stream)
    appending = asyncio.create_task(log.append([COMMAND, *FRAMES]))
    await eventually(lambda: held.calls, bool)
    held.fail()
    with pytest.raises(LogUnavailable) as raised:
        await appending
    assert not isinstance(raised.value, AppendUnknown)
    assert await end_of(log, Topic.COMMANDS) == 0


async def test_frames_whose_command_was_not_appended_leave_the_append_unknown(in_kafka: InKafka) -> None:
    log = await in_kafka.open()
    held = Held(log._control)
    appending = asyncio.create_task(log.append([*FRAMES, COMMAND]))
    await eventually(lambda: held.calls, bool)
    held.fail()
    with pytest.raises(AppendUnknown):
        await appending
    assert (await end_of(log, Topic.STREAM), await end_of(log, Topic.COMMANDS)) == (2, 0)
