"""What waits to be decided, by partition: commands of the log, of this process, and reports of executors."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from threadlog.engine.log.records import CommandEnvelope
from threadlog.engine.processor.committer import Submission, Turn
from threadlog.engine.processor.term import Term

# Commands in one transaction, over all partitions: enough to share its cost, few enough to keep it short.
TURN_COMMANDS = 256
TURN_BYTES = 8_000_000
# Reports of executors beside other commands: requests wait for those, and a report costs as much as three.
REPORTS_BESIDE = 8
# Commands read ahead and not decided yet; reading pauses above.
READ_AHEAD = 10_000


@dataclass(slots=True, eq=False)
class Inbox:
    """Of an owned partition. `term` is None between a term that died and the next."""

    term: Term | None = None
    commands: deque[tuple[int, CommandEnvelope, int]] = field(default_factory=deque)  # with its size in bytes
    local: deque[Submission] = field(default_factory=deque)
    reports: deque[Submission] = field(default_factory=deque)  # those of executors: nobody waits for their answer

    @property
    def next_command(self) -> int:
        """The offset to read on from."""
        assert self.term is not None
        return max(self.term.decided, self.commands[-1][0] if self.commands else -1) + 1


class Inboxes:
    """The inboxes of all owned partitions, and turns made of what is in them."""

    def __init__(self) -> None:
        self._all: dict[int, Inbox] = {}
        self._busy: dict[int, None] = {}  # partitions with something to decide, in order of arrival
        self._backlog = 0
        self._alone = 0
        self._room = asyncio.Event()
        self._room.set()

    def __contains__(self, partition: int) -> bool:
        return partition in self._all

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, partition: int) -> Inbox:
        return self._all[partition]

    def get(self, partition: int) -> Inbox | None:
        return self._all.get(partition)

    def terms(self) -> dict[int, Term]:
        """Those there are, by partition."""
        return {p: one.term for p, one in self._all.items() if one.term is not None}

    def fallen(self) -> list[int]:
        """The partitions without a term that lives."""
        return [p for p, one in self._all.items() if one.term is None or one.term.dead]

    def open(self, partition: int) -> Inbox:
        return self._all.setdefault(partition, Inbox())

    def close(self, partition: int) -> Inbox:
        """Forget the partition; answers what was in its inbox."""
        one = self._all.pop(partition)
        self._backlog -= len(one.commands)
        self._busy.pop(partition, None)
        return one

    def busy(self, partition: int) -> None:
        """Something was put into this one's `local` or `reports`."""
        self._busy[partition] = None

    # --- commands of the log ---------------------------------------------------------------------------------------

    def read(self, partition: int, offset: int, envelope: CommandEnvelope, size: int) -> None:
        self._all[partition].commands.append((offset, envelope, size))
        self._backlog += 1
        self._busy[partition] = None

    def unread(self) -> None:
        """Drop what was read ahead: it is going to be read again."""
        for one in self._all.values():
            if one.term is not None:
                self._backlog -= len(one.commands)
                one.commands.clear()

    async def room(self) -> None:
        """Wait while too much is read ahead."""
        if self._backlog > READ_AHEAD:
            self._room.clear()
            await self._room.wait()

    # --- turns -----------------------------------------------------------------------------------------------------

    def one_by_one(self, commands: int) -> None:
        """Let so many commands have a turn, and a transaction, of their own."""
        self._alone = max(self._alone, commands)

    def gather(self) -> list[Turn]:
        """A turn for each partition that has something to decide, within the limits of one transaction."""
        limit = 1 if self._alone else TURN_COMMANDS
        turns = self._commands_first(limit)
        if not self._alone or not turns:
            self._reports_beside(turns, limit)
        if turns:
            self._alone = max(0, self._alone - 1)
        if self._backlog <= READ_AHEAD // 2:
            self._room.set()
        return [turn for turn in turns.values() if turn.commands or turn.local]

    def _commands_first(self, limit: int) -> dict[int, Turn]:
        turns: dict[int, Turn] = {}
        left, size = limit, TURN_BYTES
        for p in list(self._busy):
            one = self._all.get(p)
            if one is None or one.term is None:
                continue
            if left <= 0 or size <= 0:
                break
            turn = Turn(one.term)
            while one.commands and left > 0 and size > 0:
                offset, envelope, length = one.commands.popleft()
                turn.commands.append((offset, envelope))
                left, size = left - 1, size - length
            self._backlog -= len(turn.commands)
            if not one.commands:
                moved, length = _move(one.local, turn, left, size)
                left, size = left - moved, size - length
            if turn.commands or turn.local:
                turns[p] = turn
            self._look(p, one)
        return turns

    def _reports_beside(self, turns: dict[int, Turn], limit: int) -> None:
        left, size = REPORTS_BESIDE if turns else limit, TURN_BYTES
        for p in list(self._busy):
            one = self._all.get(p)
            if one is None or one.term is None or one.commands or one.local or not one.reports:
                continue
            if left <= 0 or size <= 0:
                break
            moved, length = _move(one.reports, turns.setdefault(p, Turn(one.term)), left, size)
            left, size = left - moved, size - length
            self._look(p, one)

    def _look(self, p: int, one: Inbox) -> None:
        """To the end of the row if there is more, else out of it."""
        self._busy.pop(p, None)
        if one.commands or one.local or one.reports:
            self._busy[p] = None

    def put_back(self, turn: Turn) -> bool:
        """After the attempt to decide it: what was neither decided nor lost with its term waits for the next turn.

        False when the partition is not owned any more.
        """
        p = turn.term.partition
        one = self._all.get(p)
        if one is None:
            return False
        one.local.extendleft(reversed([s for s in turn.local if not s.done.done() and not s.held]))
        if not turn.term.dead:  # else the tail reads them again
            undecided = [(offset, envelope, 0) for offset, envelope in turn.commands if offset > turn.term.decided]
            one.commands.extendleft(reversed(undecided))
            self._backlog += len(undecided)
        if one.local or one.commands or one.reports:
            self._busy[p] = None
        return True


def _move(waiting: deque[Submission], turn: Turn, limit: int, max_bytes: int) -> tuple[int, int]:
    """Submissions into the turn, at most `limit`, and no more once there are `max_bytes`; those given up by their
    callers are dropped. Returns how many, and their bytes."""
    moved = size = 0
    while waiting and moved < limit and size < max_bytes:
        submission = waiting.popleft()
        if not submission.done.done():
            turn.local.append(submission)
            moved, size = moved + 1, size + submission.size
    return moved, size
