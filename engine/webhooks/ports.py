"""What deliveries need of the read models and of the engine of this process, as narrow protocols."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from threadlog.engine.log.records import CommandEnvelope
from threadlog.engine.processor.ports import EventListener


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook whose time has come."""

    run_id: str
    thread_id: str
    partition: int
    attempt: int
    receiver: str


@dataclass(frozen=True, slots=True)
class Look:
    """What is due, and in how many seconds the next one will be (None: none waits)."""

    due: Sequence[DueWebhook]
    next_seconds: float | None


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """What an attempt sends, and the trace context of its run, where traces are made."""

    url: str
    body: bytes
    trace: str | None = None


class WebhookStore(Protocol):
    """The table `webhooks`. Everything raises what asyncpg raises."""

    async def look(
        self,
        partitions: Sequence[int],
        *,
        without: Collection[str],
        full: Collection[str],
        per_receiver: int,
        limit: int,
    ) -> Look:
        """What is due in these partitions: not these runs, nothing for receivers that are `full`."""
        ...

    async def message(self, due: DueWebhook, owner: str) -> WebhookMessage | None:
        """What an attempt sends; None if it is not due any more, or if the partition is not, or not yet, this
        owner's: all that its predecessors have recorded has to be projected."""
        ...


class PartitionOwner(Protocol):
    """The processor of this process."""

    owner: str

    @property
    def owned(self) -> Sequence[int]: ...

    def owns(self, partition: int) -> bool: ...

    def known(self, key: str) -> Mapping[str, Any] | None:
        """What is kept under a key after all that was decided; None where that is what the read models hold."""
        ...

    async def send(self, envelope: CommandEnvelope) -> None:
        """Send a command of the owner's: returns when it is decided, or in the log."""
        ...

    def add_listener(self, listener: EventListener) -> None: ...
