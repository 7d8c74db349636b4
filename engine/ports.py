"""What the processor and the api need from outside, as narrow protocols. The composition root is `deploy.compose`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.domain.commands import Command
from engine.log.records import EventRecord


class Fenced(Exception):
    """A newer term owns these partitions: step down."""

    def __init__(self, partitions: Sequence[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)} are owned by a newer term")
        self.partitions = tuple(partitions)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a term starts: its epoch, and how far the read models are."""

    partition: int
    epoch: int
    log_epoch: int
    ev_off: int
    cmd_off: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event record at its offset, with the decider state it leaves for its key (None: nothing to store)."""

    offset: int
    record: EventRecord
    state: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a command: the events, once they are projected. `events[0]` may be `command.rejected`.

    `at`: the event record's time (ISO-8601, UTC): what the read models hold as created_at or updated_at.
    """

    partition: int
    offset: int
    events: list[dict[str, Any]]
    at: str = ""


class Gateway(Protocol):
    """Sends commands and answers after they are applied: any later read on any replica sees their effect."""

    async def submit(
        self, command: Command, *, key: str, id: str | None = None, actor: str | None = None
    ) -> Decided:
        """Append the command and wait until its events are projected.

        Raises `engine.log.port.LogUnavailable` when the log or the database is away (the api answers 503): the command
        is then either not in the log or, with `AppendUnknown`, safe to send again with the same id.
        """
        ...


class EventListener(Protocol):
    """Told of every projected event record of a partition, in order, right after its transaction."""

    def projected(self, partition: int, offset: int, record: EventRecord) -> None: ...
