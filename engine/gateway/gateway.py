"""Sends commands and answers after they are applied: to the processor of this process, or through the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from threadlog.engine.backoff import Backoff
from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import Command
from threadlog.engine.domain.decider import key_of
from threadlog.engine.domain.events import CommandRejected
from threadlog.engine.domain.limits import MESSAGE_BYTES
from threadlog.engine.domain.wire import event_to_wire
from threadlog.engine.ids import new_id
from threadlog.engine.log.large import longer
from threadlog.engine.log.port import Append, AppendUnknown, Log, LogUnavailable, RecordRefused, Topic
from threadlog.engine.log.records import CommandEnvelope, EventRecord, partition_of
from threadlog.engine.processor.ports import Decided, Gateway
from threadlog.engine.processor.processor import NotOwner, Processor

DEADLINE_SECONDS = 10.0


def envelope_for(command: Command, id: str | None = None, actor: str | None = None) -> CommandEnvelope:
    """The command as it goes into the log, under the key of the aggregate it is for."""
    return CommandEnvelope.of(command, id=id or new_id(), key=key_of(command), at=utc_now(), actor=actor)


class LogGateway:
    """Appends commands to the log and waits for their events.

    Give it as listener to whoever tells of projected events in this process: an `EventTail` or a `Processor`.
    """

    def __init__(self, source: Log, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._log = source
        self._deadline_seconds = deadline_seconds
        self._waiting: dict[str, list[asyncio.Future[Decided]]] = {}

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        """See `engine.processor.ports.Gateway`."""
        return await self.send(envelope_for(command, id, actor))

    async def send(self, envelope: CommandEnvelope) -> Decided:
        """As `submit`, of a command in its envelope."""
        envelope, value = await envelope.on_wire()
        p = partition_of(envelope.key, self._log.partitions)
        if len(value) > MESSAGE_BYTES:  # the engine would say the same, but to nobody: it does not read so large a one
            return _refused(p, envelope, f"it is larger than {MESSAGE_BYTES} bytes")
        append = [Append(Topic.COMMANDS, p, envelope.key, value)]
        backoff = Backoff()
        unknown = False
        seconds = longer(self._deadline_seconds, len(value))
        with self._wait_for(envelope.id) as answer:
            try:
                async with asyncio.timeout(seconds):
                    while not answer.done():
                        try:
                            await self._log.append(append)
                            break
                        except RecordRefused as error:
                            return _refused(p, envelope, f"it can't be appended: {error}")
                        except AppendUnknown:
                            unknown = True
                        except LogUnavailable:
                            if not unknown:
                                raise
                        # The same id again: whichever is first in the log counts. Perhaps it is there already.
                        await asyncio.wait([answer], timeout=backoff.next())
                    return await answer
            except TimeoutError:
                raise AppendUnknown(f"command {envelope.id} was not applied in {seconds:g} s") from None

    def projected(self, partition: int, offset: int, record: EventRecord) -> None:
        """Answers who waits for this command."""
        for answer in self._waiting.get(record.cmd_id, ()):
            if not answer.done():
                answer.set_result(Decided(partition, offset, record.events, record.at, record.cmd_off))

    @contextmanager
    def _wait_for(self, cmd_id: str) -> Iterator[asyncio.Future[Decided]]:
        answer: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(cmd_id, []).append(answer)
        try:
            yield answer
        finally:
            self._waiting[cmd_id].remove(answer)
            if not self._waiting[cmd_id]:
                del self._waiting[cmd_id]


def _refused(p: int, envelope: CommandEnvelope, reason: str) -> Decided:
    """A refusal that is not in the log, as its command can't be."""
    rejected = CommandRejected(code="invalid", detail=f"{envelope.type}: {reason}")
    return Decided(p, -1, [event_to_wire(rejected)], envelope.at)


class LocalGateway:
    """Hands commands to the processor of this process; those of other processors' partitions go to `fallback`.

    Without a fallback this is the only processor there is: a partition it does not hold yet is waited for.
    """

    def __init__(
        self, processor: Processor, fallback: Gateway | None = None, *, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        self._processor = processor
        self._fallback = fallback
        self._deadline_seconds = deadline_seconds

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        """See `engine.processor.ports.Gateway`."""
        processor, fallback = self._processor, self._fallback
        if fallback is not None and not (processor.takes_submissions and processor.owns_key(key_of(command))):
            return await fallback.submit(command, id=id, actor=actor)
        envelope, value = await envelope_for(command, id, actor).on_wire()
        seconds = longer(self._deadline_seconds, len(value))
        try:
            async with asyncio.timeout(seconds):
                return await processor.submit(envelope, value)
        except TimeoutError:
            raise AppendUnknown(f"command {envelope.id} was not applied in {seconds:g} s") from None
        except NotOwner:
            if fallback is None:
                raise
        return await fallback.submit(command, id=envelope.id, actor=actor)


class GatewayOnDemand:
    """Opens a gateway with the first command: a process that seldom sends any need not follow all events for it."""

    def __init__(self, open_: Callable[[], Awaitable[Gateway]]) -> None:
        """`open_` may raise `LogUnavailable`, and is then called again for the next command."""
        self._open = open_
        self._gateway: Gateway | None = None
        self._opening = asyncio.Lock()

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        """See `engine.processor.ports.Gateway`."""
        async with self._opening:
            if self._gateway is None:
                self._gateway = await self._open()
            gateway = self._gateway
        return await gateway.submit(command, id=id, actor=actor)
