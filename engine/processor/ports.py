"""What the processor and the api need from outside, as narrow protocols. Composed in `deploy.compose.api_engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from threadlog.engine.domain.commands import Command
from threadlog.engine.domain.events import CommandRejected
from threadlog.engine.log.records import EventRecord


class Fenced(Exception):
    """A newer term owns these partitions: step down."""

    def __init__(self, partitions: Sequence[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)} are owned by a newer term")
        self.partitions = tuple(partitions)


class Unprojectable(Exception):
    """The read models can't take what is in these batches, and would not take it the next time either."""


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
    """What became of a command: its events, once they are projected.

    `offset`: of the event record; `cmd_off`: of the command. `at`: the event record's time (ISO-8601, UTC): what the
    read models hold as created_at or updated_at.
    """

    partition: int
    offset: int
    events: list[dict[str, Any]]
    at: str = ""
    cmd_off: int = -1

    @property
    def rejection(self) -> CommandRejected | None:
        """Why the command was refused, None if it was not: a rejection is the only event of its command."""
        if not self.events or self.events[0]["type"] != CommandRejected.type:
            return None
        return CommandRejected(code=self.events[0]["code"], detail=self.events[0]["detail"])


class Gateway(Protocol):
    """Sends commands and answers after they are applied: any later read on any replica sees their effect."""

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        """Append the command, under the key of its aggregate, and wait until its events are projected. `actor`: who
        wants it, as command and events say for ever.

        Raises `engine.log.port.LogUnavailable` when the log or the database is away (the api answers 503): the command
        is then either not in the log or, with `AppendUnknown`, safe to send again with the same id.
        """
        ...


Stop = tuple[str, str | None]
"""How a run in flight has to stop (interrupt, rollback, delete), and why, in its client's words."""


class Executors(Protocol):
    """Executors that learn what they can claim and have to stop without a notification of the database."""

    @property
    def linked(self) -> bool:
        """Whether there are any."""
        ...

    def wake(self, runs: int) -> None:
        """So many runs can be claimed from now on."""
        ...

    def stop(self, runs: Mapping[str, Stop | None]) -> None:
        """The executors of these runs have to stop them. None: perhaps, the queue row says it."""
        ...


class EventListener(Protocol):
    """Told of every projected event record of a partition, in order, right after its transaction."""

    def projected(self, partition: int, offset: int, record: EventRecord) -> None: ...


# --- what the processor needs of the read models ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """What one projection transaction applies: the accepted records, and the position of the partition after them.

    `records` may be empty (only dropped records and announcements): the position moves all the same. Of several records
    of one key only the last carries the state.
    """

    partition: int
    epoch: int
    records: list[Accepted]
    ev_off: int
    cmd_off: int
    log_epoch: int
    length: int  # records of the log, with those that do not count


@dataclass(frozen=True, slots=True)
class Timer:
    """A command to send when its time has come; `id` is the command's id, so that firing twice is a no-op.

    `in_seconds`: from now on, by the database's clock; not above 0 when it is due.
    """

    id: str
    partition: int
    key: str
    type: str
    body: Mapping[str, Any]
    in_seconds: float


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt that no living executor works on: its executor's lease expired, or it was stopped before it began."""

    partition: int
    thread_id: str
    run_id: str
    attempt: int
    executor: str


@dataclass(frozen=True, slots=True)
class AttemptsLook:
    """What a look at the attempts found: those that are lost, and whether there are attempts at all, of whichever
    partition. While there are none, none can be lost."""

    lost: Sequence[LostAttempt]
    any_left: bool


@dataclass(frozen=True, slots=True)
class ExpiredItems:
    """A namespace of the store with items whose time to live has passed, the last of them at `before` (ISO-8601)."""

    namespace: str
    before: str


@dataclass(frozen=True, slots=True)
class ExpiredThread:
    """A thread that has been idle for its ttl, as far as the read models know. `over_at`: since when (ISO)."""

    thread_id: str
    over_at: str


@dataclass(frozen=True, slots=True)
class Membership:
    """A processor's place among the others after renewing its leases.

    `held`: its partitions with their epochs; `processors`: how many are alive, itself included.
    """

    held: Mapping[int, int]
    processors: int


class CoordinationStore(Protocol):
    """The coordination rows and decider states in Postgres. Everything raises `LogUnavailable` when that is away."""

    async def renew_lease(self, owner: str, lease_seconds: float) -> Membership:
        """Renew the lease of this owner: it is that of its partitions."""
        ...

    async def acquire(self, owner: str, lease_seconds: float, limit: int, held: Sequence[int]) -> list[Position]:
        """Take up to `limit` partitions that are free, expired, or this owner's of a former life (not among `held`)."""
        ...

    async def reacquire(self, owner: str, lease_seconds: float, partitions: Sequence[int]) -> list[Position]:
        """Begin new terms on partitions this owner holds; those taken by others meanwhile are left out."""
        ...

    async def release(self, owner: str, partitions: Sequence[int]) -> None:
        """Give partitions back, at once takeable by others."""
        ...

    async def leave(self, owner: str) -> None:
        """Give everything back: the processor stops."""
        ...

    async def load(self, keys: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Stored decider states by key; unknown keys are left out."""
        ...

    async def carried_out(self, ids: Sequence[str]) -> set[str]:
        """Those of these commands of keyed requests that have changed something, as far as is projected."""
        ...

    async def timers(self, partitions: Sequence[int], within_seconds: float) -> list[Timer]:
        """Timers due within this time."""
        ...

    async def look_at_attempts(self, partitions: Sequence[int]) -> AttemptsLook:
        """Attempts of these partitions to expire."""
        ...

    async def expired_items(self, partitions: Sequence[int], limit: int) -> list[ExpiredItems]:
        """Namespaces of these partitions with items to remove, at most so many."""
        ...

    async def expired_threads(
        self, partitions: Sequence[int], limit: int, after: ExpiredThread | None
    ) -> list[ExpiredThread]:
        """Threads to expire, those first that have been for longest; `after`: only those behind this one."""
        ...

    async def project(self, batches: Sequence[Batch]) -> None:
        """Apply them in one transaction. When it raises nothing is applied: `Fenced` with the partitions a newer term
        owns, `Unprojectable`."""
        ...

    async def project_singly(self, batch: Batch) -> None:
        """Apply a batch event by event in one transaction, leaving out and recording the events that the read models
        can't take. Raises `Fenced`."""
        ...
